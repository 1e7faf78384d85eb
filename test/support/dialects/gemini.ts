// Gemini's generateContent, at the Gemini API and at Vertex AI, as a provider speaks it: chunks that are whole replies, and
// no end marker. What they look like is taken from streams that the AI SDK's public fixtures record.

import type { RecordedRequest } from '../scripted-provider.ts'
import {
  type AnswerOptions,
  type ChatBody,
  type Dialect,
  fieldsOf,
  finishReason,
  isRecord,
  textPieces,
  toFrame,
  tokensOf,
  toolCalls,
} from './dialect.ts'

const PATH = /\/models\/([^/:?]+):(generateContent|streamGenerateContent)/

export const gemini: Dialect = {
  name: 'gemini',
  speaks: (path) => PATH.test(path),
  read: readContents,
  frames,
  reply: (chat, options) => toReply(chat, [...saidParts(options)], { ...options, isLast: true }),
  streamType: 'text/event-stream',
  isEnd: () => false,
  isFinish: (frame) => /"finishReason":"/.test(frame.toString()),
  end: undefined,
  errorBody: (status) => toError(status, `Scripted status ${status}.`),
  errorFrame: (error) => frame(inBand(error)),
  malformed: Buffer.from('data: {"candidates":[{"content":{"parts":[{"text":"tor\r\n\r\n'),
}

const EMBEDDINGS = /\/models\/([^/:?]+):batchEmbedContents/

/** One vector to a text. */
export const geminiEmbeddings: Dialect = {
  ...gemini,
  name: 'gemini-embeddings',
  speaks: (path) => EMBEDDINGS.test(path),
  read(request) {
    const fields = fieldsOf(request)
    const model = decodeURIComponent(EMBEDDINGS.exec(request.path)?.[1] ?? '')
    // By OpenAI's name too: scripts tell by it that this is no chat.
    return { ...readContents(request), fields: { ...fields, input: fields.requests }, model, stream: false }
  },
  reply: ({ fields: { requests } }, options) => ({
    embeddings: (Array.isArray(requests) ? requests : []).map(() => ({ values: VECTOR })),
    ...(options.usageIn !== 'none' && { usageMetadata: options.usage ?? { promptTokenCount: 11 } }),
    ...options.extra,
  }),
}

const VERTEX_EMBEDDINGS = /\/publishers\/google\/models\/([^/:?]+):(predict|embedContent)/
const VECTOR = [0.25, -0.5, 0.75, 1]

/** Vertex AI's: one prediction to an instance, or one vector to a content. */
export const vertexEmbeddings: Dialect = {
  ...gemini,
  name: 'vertex-embeddings',
  speaks: (path) => VERTEX_EMBEDDINGS.test(path),
  read(request) {
    const fields = fieldsOf(request)
    const model = decodeURIComponent(VERTEX_EMBEDDINGS.exec(request.path)?.[1] ?? '')
    const input = fields.instances ?? fields.content
    return { ...readContents(request), fields: { ...fields, input }, model, stream: false }
  },
  reply({ fields: { instances, content } }, options) {
    if (content !== undefined)
      return {
        embedding: { values: VECTOR },
        ...(options.usageIn !== 'none' && { usageMetadata: options.usage ?? { promptTokenCount: 11 } }),
        ...options.extra,
      }
    const statistics = { truncated: false, ...(options.usageIn !== 'none' && { token_count: 11 }) }
    return {
      predictions: (Array.isArray(instances) ? instances : []).map(() => ({
        embeddings: { statistics, values: VECTOR },
      })),
      metadata: { billableCharacterCount: 35 },
      ...options.extra,
    }
  },
}

function readContents(request: RecordedRequest): ChatBody {
  const fields = fieldsOf(request)
  const [, model = 'scripted-model', method] = PATH.exec(request.path) ?? []
  const config = isRecord(fields.generationConfig) ? fields.generationConfig : {}
  const tools = Array.isArray(fields.tools) ? fields.tools.filter(isRecord) : []
  return {
    fields,
    model: decodeURIComponent(model),
    stream: method === 'streamGenerateContent',
    includeUsage: true,
    choices: typeof config.candidateCount === 'number' ? config.candidateCount : 1,
    messages: (Array.isArray(fields.contents) ? fields.contents.filter(isRecord) : []).flatMap(toMessages),
    tools: tools
      .flatMap(({ functionDeclarations: list }) => (Array.isArray(list) ? list.filter(isRecord) : []))
      .flatMap(({ name }) => (typeof name === 'string' ? [name] : [])),
  }
}

function toMessages({ role, parts }: Record<string, unknown>): Record<string, unknown>[] {
  const list = Array.isArray(parts) ? parts.filter(isRecord) : []
  const results = list.flatMap(({ functionResponse }) =>
    isRecord(functionResponse) && isRecord(functionResponse.response)
      ? [
          {
            role: 'tool',
            content: String(functionResponse.response.result ?? functionResponse.response.error),
          },
        ]
      : [],
  )
  const text = list.flatMap((part) => (typeof part.text === 'string' ? [part.text] : [])).join('')
  const said =
    results.length > 0 && text === ''
      ? []
      : [{ role: role === 'model' ? 'assistant' : 'user', content: text }]
  return [...said, ...results]
}

function* saidParts(options: AnswerOptions): Generator<Record<string, unknown>> {
  for (const text of options.reasoning ?? []) yield { text, thought: true }
  for (const [index, { id, name, args }] of toolCalls(options).entries())
    yield {
      functionCall: { id, name, args: JSON.parse(args) },
      ...(index === 0 && { thoughtSignature: 'EpcCCpQCARFNMg9Gsigned' }),
    }
  if (options.refusal !== undefined) yield { text: options.refusal }
  for (const text of textPieces(options)) yield { text }
  for (const data of options.pictures ?? []) yield { inlineData: { mimeType: 'image/png', data } }
}

/** The reason stands in a chunk of its own, as Gemini 3 has it; with `usageIn: 'last'` beside the last part. */
function frames(chat: ChatBody, options: AnswerOptions): Buffer[] {
  const parts = [...saidParts(options)]
  const last = options.usageIn === 'last' ? parts.splice(-1) : [{ text: '' }]
  const usageApart = options.usageIn === 'separate'
  const chunks = parts.map((part) => toReply(chat, [part], { ...options, isLast: false }))
  chunks.push(toReply(chat, last, { ...options, isLast: true, ...(usageApart && { usageIn: 'none' }) }))
  if (usageApart) {
    const { candidates: _, ...rest } = toReply(chat, [], { ...options, isLast: true })
    chunks.push(rest)
  }
  return chunks.map((chunk) => frame(chunk, options.newline))
}

function frame(value: unknown, newline?: string): Buffer {
  return toFrame(value, newline ?? '\r\n')
}

const FINISHES: Readonly<Record<string, string>> = {
  stop: 'STOP',
  tool_calls: 'STOP',
  length: 'MAX_TOKENS',
  content_filter: 'SAFETY',
}

function toReply(
  chat: ChatBody,
  parts: readonly Record<string, unknown>[],
  options: AnswerOptions & { readonly isLast: boolean },
): Record<string, unknown> {
  const reason = finishReason(options)
  const { input, output } = tokensOf(options)
  const usage = options.usage ?? {
    promptTokenCount: input,
    candidatesTokenCount: output,
    totalTokenCount: input + output,
    promptTokensDetails: [{ modality: 'TEXT', tokenCount: input }],
  }
  return {
    candidates: Array.from({ length: chat.choices }, (_, index) => ({
      content: { parts, role: 'model' },
      ...(options.isLast && { finishReason: FINISHES[reason] ?? reason }),
      index,
    })),
    ...(options.usageIn !== 'none' && { usageMetadata: usage }),
    modelVersion: options.model ?? chat.model,
    responseId: options.id ?? 'scripted-response',
    ...options.extra,
  }
}

const STATUSES: Readonly<Record<number, string>> = {
  400: 'INVALID_ARGUMENT',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  429: 'RESOURCE_EXHAUSTED',
  500: 'INTERNAL',
  503: 'UNAVAILABLE',
  504: 'DEADLINE_EXCEEDED',
}

function toError(code: number, message: string): unknown {
  const details = [{ '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: '1s' }]
  return {
    error: { code, message, status: STATUSES[code] ?? 'UNKNOWN', ...(code === 429 && { details }) },
  }
}

function inBand(error: unknown): unknown {
  if (!isRecord(error)) return { error }
  return { error: { code: 503, status: 'UNAVAILABLE', message: error.message, details: [error] } }
}
