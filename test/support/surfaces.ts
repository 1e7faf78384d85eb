// The APIs that agents speak, each as a client of it writes a request and reads an answer: written from the vendors'
// descriptions, not with the code under test. What was heard is in the words of chat, so that one test can ask all of them.

import { isRecord } from './dialects/dialect.ts'
import { parseSse, type SseEvent } from './sse.ts'

export interface Surface {
  readonly name: string
  /** Below the base URL. */
  readonly path: string
  body(asked: AskedOptions): Readonly<Record<string, unknown>>
  whole(json: unknown): Heard
  streamed(events: readonly SseEvent[]): Heard
}

export interface AskedOptions {
  readonly model: string
  readonly stream?: boolean
  /** Offers a tool of this name. */
  readonly tool?: string
  /** What the tool said to the call that an answer made. */
  readonly results?: { readonly heard: Heard; readonly text: string }
}

export interface Heard {
  readonly text: string
  readonly calls: readonly { readonly id: string; readonly name: string; readonly args: string }[]
  /** `stop`, `length`, `tool_calls`, `content_filter`; undefined where none was told. */
  readonly finish: string | undefined
  readonly tokens: { readonly input: unknown; readonly output: unknown } | undefined
  /** What says what went wrong: the code where the format has one, else the type. */
  readonly error: string | undefined
  readonly message: string
  /** The end of a stream as the format has it. */
  readonly ended: boolean
}

const NOTHING: Heard = {
  text: '',
  calls: [],
  finish: undefined,
  tokens: undefined,
  error: undefined,
  message: '',
  ended: false,
}
const PARAMETERS = { type: 'object', properties: { city: { type: 'string' } } }
const QUESTION = 'Hello.'

type Members = Record<string, unknown>

const list = (value: unknown): Members[] => (Array.isArray(value) ? value.filter(isRecord) : [])
const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const members = (value: unknown): Members => (isRecord(value) ? value : {})
const parse = ({ data }: SseEvent): Members => {
  const value: unknown = JSON.parse(data)
  if (!isRecord(value)) throw new Error(`no object in an event: ${data}`)
  return value
}

/** What an error of OpenAI's shape says; `whole` bodies and events of chat alike. */
function openaiError(json: unknown): Heard | undefined {
  const error = members(json).error
  if (!isRecord(error)) return undefined
  return { ...NOTHING, error: text(error.code) || text(error.type), message: text(error.message) }
}

// --- chat ------------------------------------------------------------------------------------------------------

const chat: Surface = {
  name: 'chat',
  path: '/chat/completions',
  body: ({ model, stream, tool, results }) => ({
    model,
    messages: [
      { role: 'user', content: QUESTION },
      ...(results === undefined
        ? []
        : [
            {
              role: 'assistant',
              content: results.heard.text || null,
              tool_calls: results.heard.calls.map(({ id, name, args }) => ({
                id,
                type: 'function',
                function: { name, arguments: args },
              })),
            },
            ...results.heard.calls.map(({ id }) => ({
              role: 'tool',
              tool_call_id: id,
              content: results.text,
            })),
          ]),
    ],
    ...(stream && { stream, stream_options: { include_usage: true } }),
    ...(tool !== undefined && {
      tools: [{ type: 'function', function: { name: tool, parameters: PARAMETERS } }],
    }),
  }),
  whole(json) {
    const told = openaiError(json)
    if (told !== undefined) return told
    const [choice = {}] = list(members(json).choices)
    const message = members(choice.message)
    const usage = members(members(json).usage)
    return {
      ...NOTHING,
      text: text(message.content),
      calls: list(message.tool_calls).map(({ id, function: inner }) => ({
        id: text(id),
        name: text(members(inner).name),
        args: text(members(inner).arguments),
      })),
      finish: text(choice.finish_reason),
      tokens: { input: usage.prompt_tokens, output: usage.completion_tokens },
    }
  },
  streamed(events) {
    const calls = new Map<number, { id: string; name: string; args: string }>()
    const heard = readChunks(events, (choice) => {
      const delta = members(choice.delta)
      for (const { index, id, function: inner } of list(delta.tool_calls)) {
        const call = calls.get(Number(index)) ?? { id: text(id), name: text(members(inner).name), args: '' }
        call.args += text(members(inner).arguments)
        calls.set(Number(index), call)
      }
      return text(delta.content)
    })
    return heard.error === undefined ? { ...heard, calls: [...calls.values()] } : heard
  },
}

/** Chunks as chat and legacy completions have them; `see` gives what a choice of one says. */
function readChunks(events: Parameters<Surface['streamed']>[0], see: (choice: Members) => string): Heard {
  let said = ''
  let finish: string | undefined
  let tokens: Heard['tokens']
  let ended = false
  for (const event of events) {
    if (ended) throw new Error('something behind [DONE]')
    if (event.data === '[DONE]') {
      ended = true
      continue
    }
    const chunk = parse(event)
    const told = openaiError(chunk)
    if (told !== undefined) return { ...told, text: said }
    if (isRecord(chunk.usage))
      tokens = { input: chunk.usage.prompt_tokens, output: chunk.usage.completion_tokens }
    for (const choice of list(chunk.choices)) {
      said += see(choice)
      finish = text(choice.finish_reason) || finish
    }
  }
  return { ...NOTHING, text: said, finish, tokens, ended }
}

// --- legacy completions ----------------------------------------------------------------------------------------

const completions: Surface = {
  name: 'completions',
  path: '/completions',
  body: ({ model, stream }) => ({
    model,
    prompt: QUESTION,
    ...(stream && { stream, stream_options: { include_usage: true } }),
  }),
  whole(json) {
    const told = openaiError(json)
    if (told !== undefined) return told
    const [choice = {}] = list(members(json).choices)
    const usage = members(members(json).usage)
    return {
      ...NOTHING,
      text: text(choice.text),
      finish: text(choice.finish_reason),
      tokens: { input: usage.prompt_tokens, output: usage.completion_tokens },
    }
  },
  streamed: (events) => readChunks(events, (choice) => text(choice.text)),
}

// --- Responses -------------------------------------------------------------------------------------------------

const RESPONSE_FINISH: Readonly<Record<string, string>> = {
  max_output_tokens: 'length',
  content_filter: 'content_filter',
}

function readResponse(response: Members): Heard {
  const output = list(response.output)
  const calls = output
    .filter(({ type }) => type === 'function_call')
    .map(({ call_id, name, arguments: args }) => ({ id: text(call_id), name: text(name), args: text(args) }))
  const reason = text(members(response.incomplete_details).reason)
  const usage = members(response.usage)
  return {
    ...NOTHING,
    text: output
      .filter(({ type }) => type === 'message')
      .flatMap(({ content }) => list(content).map((part) => text(part.text)))
      .join(''),
    calls,
    finish:
      response.status === 'completed' ? (calls.length > 0 ? 'tool_calls' : 'stop') : RESPONSE_FINISH[reason],
    tokens: { input: usage.input_tokens, output: usage.output_tokens },
  }
}

const responses: Surface = {
  name: 'responses',
  path: '/responses',
  body: ({ model, stream, tool, results }) => ({
    model,
    input: [
      { type: 'message', role: 'user', content: [{ type: 'input_text', text: QUESTION }] },
      ...(results === undefined
        ? []
        : [
            ...results.heard.calls.map(({ id, name, args }) => ({
              type: 'function_call',
              call_id: id,
              name,
              arguments: args,
            })),
            ...results.heard.calls.map(({ id }) => ({
              type: 'function_call_output',
              call_id: id,
              output: results.text,
            })),
          ]),
    ],
    ...(stream && { stream }),
    ...(tool !== undefined && {
      tools: [{ type: 'function', name: tool, parameters: PARAMETERS, strict: false }],
    }),
  }),
  whole: (json) => openaiError(json) ?? readResponse(members(json)),
  streamed(events) {
    let said = ''
    let number = -1
    for (const [at, event] of events.entries()) {
      const told = parse(event)
      if (told.type !== event.event) throw new Error(`event ${event.event} says ${told.type}`)
      if (told.sequence_number !== number + 1) throw new Error(`${told.sequence_number} behind ${number}`)
      number += 1
      switch (told.type) {
        case 'response.output_text.delta':
          said += text(told.delta)
          break
        case 'error':
          return { ...NOTHING, text: said, error: text(told.code), message: text(told.message) }
        case 'response.completed':
        case 'response.incomplete': {
          const heard = readResponse(members(told.response))
          if (heard.text !== said) throw new Error(`${heard.text} in the end, ${said} before`)
          return { ...heard, ended: at === events.length - 1 }
        }
      }
    }
    return { ...NOTHING, text: said }
  },
}

// --- Messages --------------------------------------------------------------------------------------------------

const MESSAGE_FINISH: Readonly<Record<string, string>> = {
  end_turn: 'stop',
  stop_sequence: 'stop',
  max_tokens: 'length',
  tool_use: 'tool_calls',
  refusal: 'content_filter',
}

function messagesError(json: unknown): Heard | undefined {
  const { type, error } = members(json)
  if (type !== 'error' || !isRecord(error)) return undefined
  return { ...NOTHING, error: text(error.type), message: text(error.message) }
}

const messages: Surface = {
  name: 'messages',
  path: '/messages',
  body: ({ model, stream, tool, results }) => ({
    model,
    max_tokens: 1000,
    messages: [
      { role: 'user', content: QUESTION },
      ...(results === undefined
        ? []
        : [
            {
              role: 'assistant',
              content: results.heard.calls.map(({ id, name, args }) => ({
                type: 'tool_use',
                id,
                name,
                input: JSON.parse(args),
              })),
            },
            {
              role: 'user',
              content: results.heard.calls.map(({ id }) => ({
                type: 'tool_result',
                tool_use_id: id,
                content: results.text,
              })),
            },
          ]),
    ],
    ...(stream && { stream }),
    ...(tool !== undefined && { tools: [{ name: tool, input_schema: PARAMETERS }] }),
  }),
  whole(json) {
    const told = messagesError(json)
    if (told !== undefined) return told
    const { content, stop_reason: reason, usage } = members(json)
    const blocks = list(content)
    return {
      ...NOTHING,
      text: blocks.map((block) => (block.type === 'text' ? text(block.text) : '')).join(''),
      calls: blocks
        .filter(({ type }) => type === 'tool_use')
        .map(({ id, name, input }) => ({ id: text(id), name: text(name), args: JSON.stringify(input) })),
      finish: MESSAGE_FINISH[text(reason)],
      tokens: { input: members(usage).input_tokens, output: members(usage).output_tokens },
    }
  },
  streamed(events) {
    let said = ''
    let finish: string | undefined
    let ended = false
    let usage: Members = {}
    let open: number | undefined
    let next = 0
    const calls: { id: string; name: string; args: string }[] = []
    for (const event of events) {
      if (ended) throw new Error('something behind message_stop')
      const told = parse(event)
      if (told.type !== event.event) throw new Error(`event ${event.event} says ${told.type}`)
      const failed = messagesError(told)
      if (failed !== undefined) return { ...failed, text: said }
      switch (told.type) {
        case 'message_start':
          usage = { ...members(members(told.message).usage) }
          break
        case 'content_block_start': {
          if (open !== undefined || told.index !== next) throw new Error(`block ${told.index} out of turn`)
          open = next
          next += 1
          const block = members(told.content_block)
          if (block.type === 'tool_use') calls.push({ id: text(block.id), name: text(block.name), args: '' })
          break
        }
        case 'content_block_delta': {
          if (told.index !== open) throw new Error(`a delta of block ${told.index}, which is not open`)
          const delta = members(told.delta)
          said += text(delta.text)
          const call = calls.at(-1)
          if (delta.type === 'input_json_delta' && call !== undefined) call.args += text(delta.partial_json)
          break
        }
        case 'content_block_stop':
          if (told.index !== open) throw new Error(`the end of block ${told.index}, which is not open`)
          open = undefined
          break
        case 'message_delta': {
          finish = MESSAGE_FINISH[text(members(told.delta).stop_reason)]
          usage = { ...usage, ...members(told.usage) }
          break
        }
        case 'message_stop':
          ended = true
      }
    }
    const tokens = { input: usage.input_tokens, output: usage.output_tokens }
    return { ...NOTHING, text: said, calls, finish, tokens, ended }
  },
}

export const SURFACES: readonly Surface[] = [chat, responses, messages, completions]

/** A request and all that was heard of its answer. */
export async function ask(
  baseUrl: string,
  surface: Surface,
  {
    bearer,
    signal,
    headers = {},
    ...asked
  }: AskedOptions & {
    readonly bearer: string | undefined
    readonly signal?: AbortSignal
    readonly headers?: Readonly<Record<string, string>>
  },
): Promise<{
  readonly status: number
  readonly headers: Headers
  readonly body: string
  readonly heard: Heard
}> {
  const response = await fetch(`${baseUrl}${surface.path}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
      ...headers,
    },
    body: JSON.stringify(surface.body(asked)),
    signal: signal ?? AbortSignal.timeout(20_000),
  })
  const body = await response.text()
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') === true
  const heard = isStream ? surface.streamed(parseSse(body)) : surface.whole(JSON.parse(body))
  return { status: response.status, headers: response.headers, body, heard }
}
