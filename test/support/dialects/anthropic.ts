// Anthropic's Messages, as the vendor's API speaks them: events with names, blocks that begin and end, the usage of the
// prompt in front and of the answer behind. Written from the API reference, not from src/.

import type { RecordedRequest } from '../scripted-provider.ts'
import {
  type AnswerOptions,
  type ChatBody,
  type Dialect,
  fieldsOf,
  isRecord,
  textPieces,
  toEvent,
  tokensOf,
  toolCalls,
} from './dialect.ts'

export const anthropic: Dialect = {
  name: 'anthropic',
  speaks: (path) => /\/messages(?:\?|$)/.test(path),
  read: readMessages,
  frames: messageFrames,
  reply: toMessage,
  streamType: 'text/event-stream; charset=utf-8',
  isEnd: (frame) => frame.toString().startsWith('event: message_stop'),
  isFinish: (frame) => /"stop_reason":"/.test(frame.toString()),
  end: toEvent('message_stop', { type: 'message_stop' }),
  errorBody,
  errorFrame: (error) => toEvent('error', toErrorEvent(error)),
  malformed: Buffer.from(
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"tor\n\n',
  ),
}

/** The count of a prompt, never streamed. */
export const countTokens: Dialect = {
  ...anthropic,
  name: 'anthropic-count',
  speaks: (path) => path.includes('/messages/count_tokens'),
  read: (request) => ({ ...readMessages(request), stream: false }),
  reply: (_chat, options) => ({ input_tokens: tokensOf(options).input, ...options.extra }),
}

const VERTEX = /\/publishers\/anthropic\/models\/([^/:?]+):(rawPredict|streamRawPredict)$/
const COUNTER = 'count-tokens'

/** Claude at Vertex AI: the model in the path, and errors of the service in front of it in Google's words. */
export const vertexMessages: Dialect = {
  ...anthropic,
  name: 'vertex-anthropic',
  speaks: (path) => VERTEX.test(path),
  read(request) {
    const [, model = 'scripted-model', method] = VERTEX.exec(request.path) ?? []
    const isStream = method === 'streamRawPredict'
    return { ...readMessages(request), model: decodeURIComponent(model), stream: isStream }
  },
  reply: (chat, options) =>
    chat.model === COUNTER ? countTokens.reply(chat, options) : anthropic.reply(chat, options),
  errorBody: (code) => ({
    error: {
      code,
      message: `Scripted status ${code}.`,
      status: code === 429 ? 'RESOURCE_EXHAUSTED' : 'UNKNOWN',
    },
  }),
}

function readMessages(request: RecordedRequest): ChatBody {
  const fields = fieldsOf(request)
  return {
    fields,
    model: typeof fields.model === 'string' ? fields.model : 'scripted-model',
    stream: fields.stream === true,
    includeUsage: true,
    choices: 1,
    messages: (Array.isArray(fields.messages) ? fields.messages.filter(isRecord) : []).flatMap(toScripted),
    tools: (Array.isArray(fields.tools) ? fields.tools.filter(isRecord) : []).flatMap(({ name }) =>
      typeof name === 'string' ? [name] : [],
    ),
  }
}

/** A turn of the user as scripts look at it: each result a message of its own. */
function toScripted({ role, content }: Readonly<Record<string, unknown>>): Record<string, unknown>[] {
  if (!Array.isArray(content)) return [{ role, content }]
  const blocks = content.filter(isRecord)
  const results = blocks.filter(({ type }) => type === 'tool_result')
  const texts = blocks.filter(({ type }) => type === 'text')
  return [
    ...results.map((result) => ({
      role: 'tool',
      content: textOf(result.content),
      callId: result.tool_use_id,
    })),
    ...(texts.length > 0 || results.length === 0
      ? [{ role, content: texts.map(({ text }) => String(text)).join('') }]
      : []),
  ]
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  const blocks = Array.isArray(content) ? content.filter(isRecord) : []
  return blocks.map(({ text }) => (typeof text === 'string' ? text : '')).join('')
}

const STOP_REASONS: Readonly<Record<string, string>> = {
  stop: 'end_turn',
  length: 'max_tokens',
  tool_calls: 'tool_use',
  content_filter: 'refusal',
}

function stopReason({ finishReason, toolCalls: calls, refusal }: AnswerOptions): string {
  if (finishReason !== undefined) return STOP_REASONS[finishReason] ?? finishReason
  if (calls !== undefined && calls.length > 0) return 'tool_use'
  return refusal === undefined ? 'end_turn' : 'refusal'
}

function stopDetails({ refusal }: AnswerOptions): unknown {
  return refusal === undefined ? null : { type: 'refusal', category: null, explanation: refusal }
}

function usageOf(options: AnswerOptions): Readonly<Record<string, unknown>> {
  const { input, output } = tokensOf(options)
  return {
    input_tokens: input,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: 0,
    output_tokens: output,
    service_tier: 'standard',
    ...options.usage,
  }
}

function toMessage(chat: ChatBody, options: AnswerOptions): Record<string, unknown> {
  const thinking = options.reasoning?.join('') ?? ''
  const text = textPieces(options).join('')
  return {
    id: options.id ?? 'msg_scripted',
    type: 'message',
    role: 'assistant',
    model: options.model ?? chat.model,
    content: [
      ...(thinking === '' ? [] : [{ type: 'thinking', thinking, signature: SIGNATURE }]),
      ...(text === '' ? [] : [{ type: 'text', text }]),
      ...toolCalls(options).map(({ id, name, args }) => ({
        type: 'tool_use',
        id: toToolId(id),
        name,
        input: parsed(args),
      })),
    ],
    stop_reason: stopReason(options),
    stop_sequence: null,
    stop_details: stopDetails(options),
    usage: options.usageIn === 'none' ? null : usageOf(options),
    ...options.extra,
  }
}

const SIGNATURE = 'EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds'

function toToolId(id: string): string {
  return id.replace(/^call_/, 'toolu_')
}

function parsed(args: string): unknown {
  try {
    return JSON.parse(args)
  } catch {
    return {}
  }
}

function messageFrames(chat: ChatBody, options: AnswerOptions): Buffer[] {
  const { content: _, ...message } = toMessage(chat, options)
  const hasUsage = options.usageIn !== 'none'
  const usage = usageOf(options)
  const event = (type: string, members: Readonly<Record<string, unknown>> = {}): Buffer => {
    const frame = toEvent(type, { type, ...members, ...(type === 'message_start' ? {} : options.extra) })
    return options.newline === undefined
      ? frame
      : Buffer.from(frame.toString().replaceAll('\n', options.newline))
  }
  const frames = [
    event('message_start', {
      message: {
        ...message,
        content: [],
        stop_reason: null,
        stop_details: null,
        usage: hasUsage ? { ...usage, output_tokens: 1 } : null,
      },
    }),
  ]
  let index = 0
  function block(opening: unknown, deltas: readonly unknown[]): void {
    frames.push(event('content_block_start', { index, content_block: opening }))
    if (index === 0) frames.push(event('ping'))
    for (const delta of deltas) frames.push(event('content_block_delta', { index, delta }))
    frames.push(event('content_block_stop', { index }))
    index += 1
  }

  if (options.reasoning !== undefined && options.reasoning.length > 0)
    block({ type: 'thinking', thinking: '', signature: '' }, [
      ...options.reasoning.map((thinking) => ({ type: 'thinking_delta', thinking })),
      { type: 'signature_delta', signature: SIGNATURE },
    ])
  const pieces = textPieces(options)
  if (pieces.length > 0)
    block(
      { type: 'text', text: '' },
      pieces.map((text) => ({ type: 'text_delta', text })),
    )
  for (const { id, name, args } of toolCalls(options))
    block({ type: 'tool_use', id: toToolId(id), name, input: {} }, [
      { type: 'input_json_delta', partial_json: '' },
      ...(args.match(/[\s\S]{1,8}/g) ?? []).map((json) => ({ type: 'input_json_delta', partial_json: json })),
    ])
  frames.push(
    event('message_delta', {
      delta: { stop_reason: stopReason(options), stop_sequence: null, stop_details: stopDetails(options) },
      ...(hasUsage && { usage: options.usage ?? { output_tokens: tokensOf(options).output } }),
    }),
    event('message_stop'),
  )
  return frames
}

const ERROR_TYPES: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  409: 'conflict_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  504: 'timeout_error',
  529: 'overloaded_error',
}

function errorBody(status: number): unknown {
  const type = ERROR_TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error')
  return {
    type: 'error',
    error: { type, message: `Scripted status ${status}.` },
    request_id: 'req_scripted',
  }
}

/** An error as OpenAI has it, in this format's words; anything else as it stands. */
function toErrorEvent(error: unknown): unknown {
  if (!isRecord(error)) return { type: 'error', error }
  const { type, message } = error
  const known = Object.values(ERROR_TYPES).includes(String(type)) || type === 'invalid_request_error'
  return { type: 'error', error: { ...error, type: known ? type : 'api_error', message } }
}
