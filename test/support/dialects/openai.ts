// OpenAI's chat completions and embeddings, as a provider speaks them. It takes every path that no other dialect does.

import type { RecordedRequest } from '../scripted-provider.ts'
import {
  type AnswerOptions,
  type ChatBody,
  CREATED,
  type Dialect,
  fieldsOf,
  finishReason,
  isRecord,
  textPieces,
  toFrame,
  toolCalls,
} from './dialect.ts'

export const openai: Dialect = {
  name: 'openai',
  speaks: () => true,
  read: readChat,
  frames: chatFrames,
  reply: chatReply,
  streamType: 'text/event-stream; charset=utf-8',
  isEnd: (frame) => frame.toString().startsWith('data: [DONE]'),
  isFinish: (frame) => /"finish_reason":"/.test(frame.toString()),
  end: Buffer.from('data: [DONE]\n\n'),
  errorBody,
  errorFrame: (error) => toFrame({ error }),
  malformed: Buffer.from('data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"tor\n\n'),
}

/** One vector to an input, never streamed. */
export const embeddings: Dialect = {
  ...openai,
  name: 'embeddings',
  speaks: (path) => path.includes('/embeddings'),
  read: (request) => ({ ...readChat(request), stream: false }),
  reply: toEmbeddings,
}

function readChat(request: RecordedRequest): ChatBody {
  const fields = fieldsOf(request)
  const options = fields.stream_options
  return {
    fields,
    model: typeof fields.model === 'string' ? fields.model : 'scripted-model',
    stream: fields.stream === true,
    includeUsage: isRecord(options) && options.include_usage === true,
    choices: typeof fields.n === 'number' && fields.n > 0 ? fields.n : 1,
    messages: Array.isArray(fields.messages) ? fields.messages.filter(isRecord) : [],
    tools: (Array.isArray(fields.tools) ? fields.tools.filter(isRecord) : []).flatMap(
      ({ function: described }) =>
        isRecord(described) && typeof described.name === 'string' ? [described.name] : [],
    ),
  }
}

/** The frames of a chat stream, `[DONE]` included. */
export function chatFrames(chat: ChatBody, options: AnswerOptions = {}): Buffer[] {
  const tellsUsage =
    options.usageIn === 'separate' || (chat.includeUsage && (options.usageIn ?? 'asked') === 'asked')
  const chunk = (choices: unknown[], more: Record<string, unknown> = {}): Buffer =>
    toFrame(
      {
        id: options.id ?? 'chatcmpl-scripted',
        object: 'chat.completion.chunk',
        created: CREATED,
        model: options.model ?? chat.model,
        choices,
        ...(tellsUsage ? { usage: null } : {}),
        ...options.extra,
        ...more,
      },
      options.newline,
    )
  const every = (
    delta: unknown,
    finish: string | null = null,
    more: Record<string, unknown> = {},
  ): Buffer[] =>
    Array.from({ length: chat.choices }, (_, index) => chunk([{ index, delta, finish_reason: finish }], more))

  const calls = toolCalls(options)
  const frames = every({ role: 'assistant', content: calls.length > 0 ? null : '' })
  for (const piece of options.reasoning ?? []) frames.push(...every({ reasoning_content: piece }))
  for (const [index, { id, name, args }] of calls.entries()) {
    frames.push(
      ...every({ tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] }),
    )
    for (const piece of args.match(/.{1,8}/gs) ?? []) {
      frames.push(...every({ tool_calls: [{ index, function: { arguments: piece } }] }))
    }
  }
  if (options.refusal !== undefined) frames.push(...every({ refusal: options.refusal }))
  const pieces = textPieces(options)
  const finish = finishReason(options)
  if (options.usageIn === 'last') {
    for (const piece of pieces.slice(0, -1)) frames.push(...every({ content: piece }))
    frames.push(...every({ content: pieces.at(-1) ?? '' }, finish, { usage: usageOf(options) }))
  } else {
    for (const piece of pieces) frames.push(...every({ content: piece }))
    frames.push(...every({}, finish))
    if (tellsUsage) frames.push(chunk([], { usage: usageOf(options) }))
  }
  frames.push(Buffer.from(`data: [DONE]${(options.newline ?? '\n').repeat(2)}`))
  return frames
}

/** A whole chat reply. */
export function chatReply(chat: ChatBody, options: AnswerOptions = {}): Record<string, unknown> {
  const calls = toolCalls(options)
  const text = textPieces(options).join('')
  const message = {
    role: 'assistant',
    content: calls.length > 0 && text === '' ? null : text,
    refusal: options.refusal ?? null,
    ...(options.reasoning ? { reasoning_content: options.reasoning.join('') } : {}),
    ...(calls.length === 0
      ? {}
      : {
          tool_calls: calls.map(({ id, name, args }) => ({
            id,
            type: 'function',
            function: { name, arguments: args },
          })),
        }),
  }
  return {
    id: options.id ?? 'chatcmpl-scripted',
    object: 'chat.completion',
    created: CREATED,
    model: options.model ?? chat.model,
    choices: Array.from({ length: chat.choices }, (_, index) => ({
      index,
      message,
      logprobs: null,
      finish_reason: finishReason(options),
    })),
    ...(options.usageIn === 'none' ? {} : { usage: usageOf(options) }),
    ...options.extra,
  }
}

/** One vector of four numbers to an input, as floats or base64 as asked. */
function toEmbeddings(chat: ChatBody, options: AnswerOptions): Record<string, unknown> {
  const { input } = chat.fields
  const isMany = Array.isArray(input) && typeof input[0] !== 'number'
  const count = isMany ? input.length : 1
  const vector = [0.25, -0.5, 0.75, 1]
  const asBase64 = Buffer.from(new Float32Array(vector).buffer).toString('base64')
  return {
    object: 'list',
    data: Array.from({ length: count }, (_, index) => ({
      object: 'embedding',
      index,
      embedding: chat.fields.encoding_format === 'base64' ? asBase64 : vector,
    })),
    model: options.model ?? chat.model,
    ...(options.usageIn === 'none'
      ? {}
      : { usage: options.usage ?? { prompt_tokens: 11, total_tokens: 11 } }),
    ...options.extra,
  }
}

/** OpenAI's error body for a status. */
function errorBody(code: number): unknown {
  const [type, name] =
    {
      400: ['invalid_request_error', 'invalid_value'],
      401: ['invalid_request_error', 'invalid_api_key'],
      402: ['insufficient_quota', 'insufficient_quota'],
      403: ['permission_error', null],
      404: ['invalid_request_error', 'model_not_found'],
      422: ['invalid_request_error', null],
      429: ['requests', 'rate_limit_exceeded'],
      503: ['service_unavailable_error', 'server_is_overloaded'],
    }[code] ?? (code < 500 ? ['invalid_request_error', null] : ['server_error', null])
  return { error: { message: `Scripted status ${code}.`, type, param: null, code: name } }
}

function usageOf(options: AnswerOptions): Readonly<Record<string, unknown>> {
  if (options.usage) return options.usage
  const output = Math.max(1, textPieces(options).length)
  return { prompt_tokens: 11, completion_tokens: output, total_tokens: 11 + output }
}
