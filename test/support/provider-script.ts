// What a scripted provider can do: answers in the dialect of the path, whole or streamed as the request asks, and every
// way of getting them wrong. Each is a value, a Behaviour; a script is a list of them.

import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import {
  type AnswerOptions,
  type ChatBody,
  DEFAULT_TEXT,
  type Dialect,
  isRecord,
  type ScriptedToolCall,
  toFrame,
} from './dialects/dialect.ts'
import type { RecordedRequest } from './scripted-provider.ts'

export { chatFrames, chatReply } from './dialects/openai.ts'
export { type AnswerOptions, type ChatBody, DEFAULT_TEXT, isRecord, type ScriptedToolCall, toFrame }

/** One way to treat a request. */
export interface Behaviour {
  /** Runs before the body has come; the body is not read. */
  readonly withoutReading?: boolean
  run(call: Call): Promise<void> | void
}

/** The script's hand on one answer. */
export interface Call {
  readonly request: RecordedRequest
  /** The parsed request body. */
  readonly chat: ChatBody
  /** How it was asked, and is answered. */
  readonly dialect: Dialect
  readonly response: ServerResponse
  readonly socket: Socket
  /** Resolves when the connection or the answer is over. */
  readonly closed: Promise<void>
  head(status: number, headers: OutgoingHttpHeaders): void
  /** Sends a piece of the body and waits for room; false when the client has gone. */
  write(bytes: Buffer): Promise<boolean>
  end(bytes?: Buffer): void
  /** False when the client went meanwhile. */
  sleep(ms: number): Promise<boolean>
  /** Ends the connection without ending the answer, after what was written has left. */
  cut(how: 'reset' | 'fin'): Promise<void>
}

// --- good answers ----------------------------------------------------------------------------------------

/** A complete answer: chat whole or streamed, or embeddings, as the request asks. */
export function answer(options: AnswerOptions = {}): Behaviour {
  // Load tests send the same request a million times: what it depends on is little, so the bytes are kept.
  const known = new Map<string, Prepared>()
  return {
    async run(call) {
      const { chat } = call
      const key = `${call.dialect.name}${chat.stream}${chat.includeUsage}${chat.choices} ${chat.model}`
      const isChat = chat.fields.input === undefined
      let prepared = isChat ? known.get(key) : undefined
      if (!prepared) {
        prepared = prepare(call, options)
        if (isChat && known.size < 100) known.set(key, prepared)
      }
      await play(call, prepared, options)
    },
  }
}

/** An answer which is one call of a tool. */
export function toolCall(name: string, args: unknown, options: AnswerOptions = {}): Behaviour {
  return answer({ ...options, toolCalls: [{ name, args }, ...(options.toolCalls ?? [])] })
}

/**
 * An agent's conversation: calls a tool until the last message is its result, then answers from the result.
 * `name` defaults to the first tool that the request offers.
 */
export function toolLoop({
  name,
  args = {},
  ...options
}: AnswerOptions & { name?: string; args?: unknown } = {}): Behaviour {
  return {
    run(call) {
      const last = call.chat.messages.at(-1)
      if (last?.role === 'tool')
        return answer({ ...options, text: `The tool said: ${textOf(last.content)}` }).run(call)
      return toolCall(name ?? call.chat.tools[0] ?? 'scripted_tool', args, options).run(call)
    },
  }
}

/** Usage in a chunk of its own behind the finish reason, whether the request asked or not. */
export function usageInSeparateChunk(options: AnswerOptions = {}): Behaviour {
  return answer({ ...options, usageIn: 'separate' })
}

/** Content, finish reason and usage in one last chunk. */
export function usageInLastChunk(options: AnswerOptions = {}): Behaviour {
  return answer({ ...options, usageIn: 'last' })
}

/** The answer in writes of so many bytes, each its own HTTP chunk: frames and UTF-8 sequences are torn. */
export function trickle(options: AnswerOptions & { bytes?: number } = {}): Behaviour {
  return {
    async run(call) {
      const prepared = prepare(call, { pieces: ['Grüße ', '— 日本 ', '👩‍🚀 ', 'done.'], ...options })
      const all = Buffer.concat(prepared.frames)
      const size = options.bytes ?? 1
      const frames: Buffer[] = []
      for (let at = 0; at < all.length; at += size) frames.push(all.subarray(at, at + size))
      await play(call, { ...prepared, frames }, options)
    },
  }
}

/** A valid stream with one content frame of that many bytes (or a whole reply as large). */
export function hugeFrame(bytes: number, options: AnswerOptions = {}): Behaviour {
  return answer({ ...options, pieces: ['x'.repeat(bytes), ' end'] })
}

/** A complete answer that a filter ended, or with `as: 'status'` the 400 that a filter gives. */
export function contentFilter(options: AnswerOptions & { as?: 'finish' | 'status' } = {}): Behaviour {
  if (options.as !== 'status') return answer({ ...options, finishReason: 'content_filter' })
  return status(400, {
    error: {
      message: 'The response was filtered due to the prompt triggering the content management policy.',
      type: 'invalid_request_error',
      param: 'prompt',
      code: 'content_filter',
    },
  })
}

// --- slow answers ----------------------------------------------------------------------------------------

/** Accepts the request and sends no byte until the client goes. */
export function silent(): Behaviour {
  return { run: (call) => call.closed }
}

/** Sends the head of an answer and no byte of its body. */
export function headersOnly(options: AnswerOptions = {}): Behaviour {
  return {
    async run(call) {
      const prepared = prepare(call, options)
      call.head(prepared.status, prepared.headers)
      call.response.flushHeaders()
      await call.closed
    },
  }
}

/** Head and role frame at once, the content `ms` later. A whole reply comes `ms` later. */
export function slowFirstToken(ms: number, options: AnswerOptions = {}): Behaviour {
  return {
    async run(call) {
      const prepared = prepare(call, options)
      if (!call.chat.stream) return play(call, prepared, { ...options, firstMs: ms })
      call.head(prepared.status, prepared.headers)
      const [role, ...rest] = prepared.frames
      if (role && !(await call.write(role))) return
      if (await call.sleep(ms)) await playBody(call, rest, options)
    },
  }
}

/** The whole answer, head included, `ms` late. */
export function late(ms: number, options: AnswerOptions = {}): Behaviour {
  return answer({ ...options, firstMs: ms })
}

/** A stream of comments and nothing else, until the client goes. */
export function keepAlivesOnly(everyMs: number, comment = ': keep-alive\n\n'): Behaviour {
  return {
    async run(call) {
      call.head(200, streamHeaders(call))
      const bytes = Buffer.from(comment)
      while (await call.write(bytes)) await call.sleep(everyMs)
    },
  }
}

/** So many frames of the answer (or half a whole reply), then silence on an open connection. */
export function stallAfter(frames: number, options: AnswerOptions = {}): Behaviour {
  return {
    async run(call) {
      await begin(call, prepare(call, options), { frames }, options)
      await call.closed
    },
  }
}

// --- broken answers --------------------------------------------------------------------------------------

export interface CutOptions extends AnswerOptions {
  /** Cut after so many bytes of the body … */
  readonly bytes?: number
  /** … or after so many frames (half of a whole reply). */
  readonly frames?: number
  /** `reset` (RST, default), `fin` (connection ends, answer does not), `orderly` (the HTTP answer ends as if complete). */
  readonly how?: 'reset' | 'fin' | 'orderly'
}

/** The beginning of an answer, then the connection is cut. */
export function cutAfter(options: CutOptions): Behaviour {
  return {
    async run(call) {
      const how = options.how ?? 'reset'
      const prepared = prepare(call, options)
      // An orderly end needs a length that is true, so the reply says nothing of its length.
      const headers = { ...prepared.headers }
      if (how === 'orderly') delete headers['content-length']
      if (!(await begin(call, { ...prepared, headers }, options, options))) return
      if (how === 'orderly') call.end()
      else await call.cut(how)
    },
  }
}

/** Closes the connection before any byte of the answer. */
export function resetBeforeHeaders(how: 'reset' | 'fin' = 'reset'): Behaviour {
  return { run: (call) => call.cut(how) }
}

/** A complete stream but for its `[DONE]`. */
export function noDone(options: AnswerOptions = {}): Behaviour {
  return withFrames(options, (frames, { dialect }) => frames.filter((frame) => !dialect.isEnd(frame)))
}

/** A stream without any finish reason; ends with `[DONE]` unless `done: false`. */
export function noFinishReason({
  done = true,
  ...options
}: AnswerOptions & { done?: boolean } = {}): Behaviour {
  return withFrames(options, (frames, { dialect }) =>
    frames.filter((frame) => (dialect.isEnd(frame) ? done : !dialect.isFinish(frame))),
  )
}

/** 200 and nothing in it: no body, only `[DONE]`, or only the role. */
export function empty200(form: 'no-body' | 'only-done' | 'only-role' = 'no-body'): Behaviour {
  return {
    async run(call) {
      const prepared = prepare(call, {})
      const [role = Buffer.alloc(0)] = prepared.frames
      const end = call.dialect.end === undefined ? [] : [call.dialect.end]
      const frames = { 'no-body': [], 'only-done': end, 'only-role': [role, ...end] }[form]
      const headers = { ...prepared.headers }
      if (!call.chat.stream) headers['content-length'] = 0
      await play(call, { ...prepared, headers, frames: call.chat.stream ? frames : [] }, {})
    },
  }
}

const IN_BAND = {
  message: 'The engine is on fire.',
  type: 'server_error',
  param: null,
  code: 'engine_failure',
}

/** 200 with an error object for a body, in JSON also when a stream was asked for. */
export function errorIn200(error: unknown = IN_BAND): Behaviour {
  return status(200, { error })
}

/** A stream whose first frame is an error. */
export function inBandErrorFirst(error: unknown = IN_BAND): Behaviour {
  return {
    run: (call) => {
      const { dialect } = call
      return stream([dialect.errorFrame(error), ...(dialect.end === undefined ? [] : [dialect.end])]).run(
        call,
      )
    },
  }
}

/** A stream that tells an error after so many frames, and ends. */
export function inBandErrorAfterContent({
  after = 3,
  error = IN_BAND,
  done = false,
  ...options
}: AnswerOptions & { after?: number; error?: unknown; done?: boolean } = {}): Behaviour {
  return withFrames(options, (frames, { dialect }) => [
    ...frames.slice(0, after),
    dialect.errorFrame(error),
    ...(done && dialect.end !== undefined ? [dialect.end] : []),
  ])
}

/** 200 with a page of HTML, or with a right body under the content type given. */
export function wrongContentType(contentType?: string, options: AnswerOptions = {}): Behaviour {
  if (contentType !== undefined)
    return answer({ ...options, headers: { ...options.headers, 'content-type': contentType } })
  const page = '<!doctype html><html><body><h1>It works!</h1></body></html>'
  return status(200, page, { 'content-type': 'text/html; charset=utf-8' })
}

/** A stream whose first event is no JSON (a whole reply: cut JSON). */
export function malformedEventFirst(options: AnswerOptions = {}): Behaviour {
  return withFrames(options, (frames, { dialect, chat }) =>
    chat.stream ? [dialect.malformed, ...frames] : [Buffer.from('{"id":"chatcmpl-1","choices":[{"ind')],
  )
}

/** A stream with an event that is no JSON after so many frames. */
export function malformedEventMiddle({
  after = 3,
  ...options
}: AnswerOptions & { after?: number } = {}): Behaviour {
  return withFrames(options, (frames, { dialect, chat }) =>
    chat.stream ? [...frames.slice(0, after), dialect.malformed, ...frames.slice(after)] : frames,
  )
}

export type StreamPart =
  | string
  | Buffer
  | { readonly delayMs: number }
  /** `data: <json>` and a blank line. */
  | { readonly frame: unknown }
  | { readonly cut: 'reset' | 'fin' }
  /** Stays silent until the client goes. */
  | { readonly hold: true }

export interface StreamOptions {
  readonly status?: number
  readonly headers?: OutgoingHttpHeaders
}

/** Any bytes with any pauses behind a 200 of `text/event-stream`; ends in good order unless cut. */
export function stream(parts: readonly StreamPart[], options: StreamOptions = {}): Behaviour {
  return {
    async run(call) {
      call.head(options.status ?? 200, { ...streamHeaders(call), ...options.headers })
      call.response.flushHeaders()
      for (const part of parts) {
        if (typeof part === 'string' || Buffer.isBuffer(part)) {
          if (!(await call.write(Buffer.from(part)))) return
        } else if ('delayMs' in part) {
          if (!(await call.sleep(part.delayMs))) return
        } else if ('frame' in part) {
          if (!(await call.write(toFrame(part.frame)))) return
        } else if ('cut' in part) {
          return call.cut(part.cut)
        } else {
          return call.closed
        }
      }
      call.end()
    },
  }
}

/** Bytes straight to the socket, HTTP or not; then the connection ends. */
export function rawBytes(parts: readonly (string | Buffer | { readonly delayMs: number })[]): Behaviour {
  return {
    async run(call) {
      for (const part of parts) {
        if (typeof part === 'string' || Buffer.isBuffer(part)) call.socket.write(part)
        else if (!(await call.sleep(part.delayMs))) return
      }
      await call.cut('fin')
    },
  }
}

// --- statuses --------------------------------------------------------------------------------------------

/** A status with a body: the dialect's error shape by default, any text, or any JSON. */
export function status(code: number, body?: unknown, headers: OutgoingHttpHeaders = {}): Behaviour {
  const isText = typeof body === 'string' || Buffer.isBuffer(body)
  return {
    run(call) {
      const bytes = isText
        ? Buffer.from(body)
        : Buffer.from(JSON.stringify(body ?? call.dialect.errorBody(code)))
      call.head(code, {
        'content-type': isText ? 'text/plain; charset=utf-8' : 'application/json',
        'content-length': bytes.length,
        'x-request-id': 'req_scripted',
        ...headers,
      })
      call.end(bytes)
    },
  }
}

/** 429 in OpenAI's words. `after`: seconds, `120ms` in `retry-after-ms`, an HTTP date, or any text as it stands. */
export function rateLimited(
  after?: number | `${number}ms` | Date | string,
  headers: OutgoingHttpHeaders = {},
): Behaviour {
  return status(429, undefined, { ...retryAfter(after), ...headers })
}

/** The header for a wait, in each of the forms providers use. */
export function retryAfter(after?: number | `${number}ms` | Date | string): OutgoingHttpHeaders {
  if (after === undefined) return {}
  if (after instanceof Date) return { 'retry-after': after.toUTCString() }
  const inMs = /^(\d+(?:\.\d+)?)ms$/.exec(String(after))?.[1]
  return inMs === undefined ? { 'retry-after': String(after) } : { 'retry-after-ms': inMs }
}

/** The 400 of a prompt too long. */
export function contextLengthExceeded(window = 8192, asked = 9000): Behaviour {
  return status(400, {
    error: {
      message: `This model's maximum context length is ${window} tokens. However, your messages resulted in ${asked} tokens. Please reduce the length of the messages.`,
      type: 'invalid_request_error',
      param: 'messages',
      code: 'context_length_exceeded',
    },
  })
}

export const KEY_FORMS = {
  raw: (key: string) => key,
  bearer: (key: string) => `Bearer ${key}`,
  base64: (key: string) => Buffer.from(key).toString('base64'),
  base64url: (key: string) => Buffer.from(key).toString('base64url'),
  hex: (key: string) => Buffer.from(key).toString('hex'),
  url: (key: string) => encodeURIComponent(key),
  percent: (key: string) =>
    [...Buffer.from(key)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join(''),
  json: (key: string) => [...key].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join(''),
} as const satisfies Record<string, (key: string) => string>

export type KeyForm = keyof typeof KEY_FORMS

/** Tells the key it was sent, in the forms given (all by default): in an error body, in the stream, or in a header. */
export function echoKey({
  forms = Object.keys(KEY_FORMS).filter(isKeyForm),
  code = 401,
  where = 'body',
}: {
  forms?: readonly KeyForm[]
  code?: number
  where?: 'body' | 'in-band' | 'header' | 'reason-phrase'
} = {}): Behaviour {
  return {
    run(call) {
      const key = sentKey(call.request)
      const said = forms.map((form) => `${form}=${KEY_FORMS[form](key)}`).join(' ')
      const error = {
        message: `Incorrect API key provided: ${said}`,
        type: 'invalid_request_error',
        code: 'invalid_api_key',
      }
      if (where === 'in-band') return inBandErrorFirst(error).run(call)
      if (where === 'header')
        return status(code, undefined, { 'x-debug-key': said, 'set-cookie': said }).run(call)
      if (where === 'reason-phrase') call.response.statusMessage = said
      // The `json` form is an escape sequence already; it must reach the wire with one backslash.
      const body = JSON.stringify({ error }).replaceAll('\\\\u', '\\u')
      return status(code, body, { 'content-type': 'application/json' }).run(call)
    },
  }
}

// --- combinations ----------------------------------------------------------------------------------------

/** Waits, then behaves. */
export function delayed(ms: number, behaviour: Behaviour): Behaviour {
  return {
    async run(call) {
      if (await call.sleep(ms)) await behaviour.run(call)
    },
  }
}

/** Behaves at the head of the request and never reads its body. */
export function withoutReading(behaviour: Behaviour): Behaviour {
  return { withoutReading: true, run: (call) => behaviour.run(call) }
}

/** Holds requests back until `open()`; then behaves. */
export function gate(behaviour: Behaviour = answer()): Behaviour & { open(): void } {
  let open: () => void = () => undefined
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return {
    open: () => open(),
    async run(call) {
      await Promise.race([opened, call.closed])
      await behaviour.run(call)
    },
  }
}

// --- the format ------------------------------------------------------------------------------------------

interface Prepared {
  readonly status: number
  readonly headers: OutgoingHttpHeaders
  /** Frames of a stream, or the one body of a whole reply. */
  readonly frames: readonly Buffer[]
}

/** The head and body of an answer to this request. */
function prepare(call: Call, options: AnswerOptions): Prepared {
  const { chat, dialect } = call
  const own = { 'x-request-id': 'req_scripted', 'openai-processing-ms': '1', ...options.headers }
  if (chat.stream) {
    return {
      status: options.status ?? 200,
      headers: { ...streamHeaders(call), ...own },
      frames: dialect.frames(chat, options),
    }
  }
  const body = Buffer.from(JSON.stringify(dialect.reply(chat, options)))
  return {
    status: options.status ?? 200,
    headers: { 'content-type': 'application/json', 'content-length': body.length, ...own },
    frames: [body],
  }
}

function streamHeaders({ dialect }: Call): OutgoingHttpHeaders {
  return { 'content-type': dialect.streamType, 'cache-control': 'no-cache' }
}

// --- playing ---------------------------------------------------------------------------------------------

async function play(call: Call, prepared: Prepared, options: AnswerOptions): Promise<void> {
  if (options.firstMs && !(await call.sleep(options.firstMs))) return
  call.head(prepared.status, prepared.headers)
  await playBody(call, prepared.frames, options)
}

async function playBody(call: Call, frames: readonly Buffer[], options: AnswerOptions): Promise<void> {
  const last = frames.length - 1
  for (const [index, frame] of frames.entries()) {
    if (options.everyMs && index > 0 && !(await call.sleep(options.everyMs))) return
    if (index === last) return call.end(frame)
    if (!(await call.write(frame))) return
  }
  call.end()
}

/** The head and the beginning of the body. False when the client went. */
async function begin(
  call: Call,
  prepared: Prepared,
  until: { readonly bytes?: number; readonly frames?: number },
  options: AnswerOptions,
): Promise<boolean> {
  if (options.firstMs && !(await call.sleep(options.firstMs))) return false
  call.head(prepared.status, prepared.headers)
  call.response.flushHeaders()
  let left = until.bytes ?? Number.POSITIVE_INFINITY
  const [whole = Buffer.alloc(0)] = prepared.frames
  const frames =
    until.frames === undefined || call.chat.stream
      ? prepared.frames.slice(0, until.frames)
      : [whole.subarray(0, whole.length >> 1)]
  for (const [index, frame] of frames.entries()) {
    if (left <= 0) break
    if (options.everyMs && index > 0 && !(await call.sleep(options.everyMs))) return false
    if (!(await call.write(frame.subarray(0, left)))) return false
    left -= frame.length
  }
  return true
}

/** An answer whose frames are changed before they leave. A whole reply's length follows. */
function withFrames(
  options: AnswerOptions,
  change: (frames: readonly Buffer[], call: Call) => readonly Buffer[],
): Behaviour {
  return {
    async run(call) {
      const prepared = prepare(call, options)
      const frames = change(prepared.frames, call)
      const headers = { ...prepared.headers }
      if (!call.chat.stream) headers['content-length'] = Buffer.concat(frames).length
      await play(call, { ...prepared, headers, frames }, options)
    },
  }
}

function textOf(content: unknown): string {
  return typeof content === 'string' ? content : JSON.stringify(content)
}

function sentKey(request: RecordedRequest): string {
  const authorization = request.header('authorization')?.replace(/^Bearer /i, '')
  return (
    authorization ??
    request.header('x-api-key') ??
    request.header('api-key') ??
    request.header('x-goog-api-key') ??
    ''
  )
}

function isKeyForm(name: string): name is KeyForm {
  return name in KEY_FORMS
}
