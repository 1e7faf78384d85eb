// Bedrock's Converse, as a provider speaks it: streams are messages of AWS's event stream encoding, usage comes behind the
// stop reason. What they look like is taken from streams that the AI SDK's public fixtures record.

import { toStreamEvent, toStreamException } from '../eventstream.ts'
import type { RecordedRequest } from '../scripted-provider.ts'
import {
  type AnswerOptions,
  type ChatBody,
  type Dialect,
  fieldsOf,
  finishReason,
  isRecord,
  textPieces,
  tokensOf,
  toolCalls,
} from './dialect.ts'

const PATH = /\/model\/([^/]+)\/(converse|converse-stream)$/

export const bedrock: Dialect = {
  name: 'bedrock',
  speaks: (path) => PATH.test(path),
  read: readConverse,
  frames,
  reply,
  streamType: 'application/vnd.amazon.eventstream',
  isEnd: (frame) => frame.includes('\u0008metadata'),
  isFinish: (frame) => frame.includes('messageStop'),
  end: toStreamEvent('metadata', { metrics: { latencyMs: 1 } }),
  errorBody: (status) => ({ message: `Scripted status ${status}.` }),
  errorFrame: (error) =>
    toStreamException('modelStreamErrorException', isRecord(error) ? error : { message: String(error) }),
  malformed: broken(),
}

const INVOKE = /\/model\/([^/]+)\/invoke$/
const VECTOR = [0.25, -0.5, 0.75, 1]

/** InvokeModel, asked for vectors: Titan's one, Cohere's list, Nova's list of what it made. */
export const bedrockEmbeddings: Dialect = {
  ...bedrock,
  name: 'bedrock-embeddings',
  speaks: (path) => INVOKE.test(path),
  read(request) {
    const fields = fieldsOf(request)
    const model = decodeURIComponent(INVOKE.exec(request.path)?.[1] ?? '')
    // By OpenAI's name too: scripts tell by it that this is no chat.
    const input = fields.inputText ?? fields.texts ?? fields.singleEmbeddingParams
    return { ...readConverse(request), fields: { ...fields, input }, model, stream: false }
  },
  reply({ fields: { texts, inputText } }, options) {
    if (inputText !== undefined)
      return {
        embedding: VECTOR,
        ...(options.usageIn !== 'none' && { inputTextTokenCount: 11 }),
        embeddingsByType: { float: VECTOR },
        ...options.extra,
      }
    if (!Array.isArray(texts))
      return { embeddings: [{ embeddingType: 'TEXT', embedding: VECTOR }], ...options.extra }
    const embeddings = texts.map(() => VECTOR)
    return { id: 'scripted', embeddings, response_type: 'embeddings_floats', texts, ...options.extra }
  },
}

function readConverse(request: RecordedRequest): ChatBody {
  const fields = fieldsOf(request)
  const [, model = 'scripted-model', method] = PATH.exec(request.path) ?? []
  const config = isRecord(fields.toolConfig) ? fields.toolConfig : {}
  return {
    fields,
    model: decodeURIComponent(model),
    stream: method === 'converse-stream',
    includeUsage: true,
    choices: 1,
    messages: (Array.isArray(fields.messages) ? fields.messages.filter(isRecord) : []).flatMap(toMessages),
    tools: (Array.isArray(config.tools) ? config.tools.filter(isRecord) : []).flatMap(({ toolSpec }) =>
      isRecord(toolSpec) && typeof toolSpec.name === 'string' ? [toolSpec.name] : [],
    ),
  }
}

function toMessages({ role, content }: Record<string, unknown>): Record<string, unknown>[] {
  const blocks = Array.isArray(content) ? content.filter(isRecord) : []
  const results = blocks.flatMap(({ toolResult }) =>
    isRecord(toolResult) ? [{ role: 'tool', content: textOf(toolResult.content) }] : [],
  )
  const text = textOf(blocks)
  return [...(results.length > 0 && text === '' ? [] : [{ role, content: text }]), ...results]
}

function textOf(blocks: unknown): string {
  const list = Array.isArray(blocks) ? blocks.filter(isRecord) : []
  return list.flatMap(({ text }) => (typeof text === 'string' ? [text] : [])).join('')
}

const STOPS: Readonly<Record<string, string>> = {
  stop: 'end_turn',
  length: 'max_tokens',
  tool_calls: 'tool_use',
  content_filter: 'content_filtered',
}

function stopReason(options: AnswerOptions): string {
  const reason = finishReason(options)
  return STOPS[reason] ?? reason
}

function usageOf(options: AnswerOptions): Record<string, unknown> {
  const { input, output } = tokensOf(options)
  return {
    ...(options.usage ?? { inputTokens: input, outputTokens: output, totalTokens: input + output }),
    serverToolUsage: {},
  }
}

function frames(_chat: ChatBody, options: AnswerOptions): Buffer[] {
  const events = [toStreamEvent('messageStart', { role: 'assistant', ...options.extra })]
  let contentBlockIndex = 0
  /** A block of deltas; only that of a call has a start. */
  function block(deltas: readonly unknown[], start?: unknown): void {
    if (start !== undefined) events.push(toStreamEvent('contentBlockStart', { contentBlockIndex, start }))
    for (const delta of deltas) events.push(toStreamEvent('contentBlockDelta', { contentBlockIndex, delta }))
    events.push(toStreamEvent('contentBlockStop', { contentBlockIndex }))
    contentBlockIndex += 1
  }
  const thoughts = options.reasoning ?? []
  if (thoughts.length > 0)
    block([
      ...thoughts.map((text) => ({ reasoningContent: { text } })),
      { reasoningContent: { signature: 'Ep0CCkgICxABsigned' } },
    ])
  for (const { id, name, args } of toolCalls(options))
    block(
      (args.match(/.{1,8}/gs) ?? []).map((input) => ({ toolUse: { input } })),
      { toolUse: { toolUseId: id, name } },
    )
  if (options.refusal !== undefined) block([{ text: options.refusal }])
  const pieces = textPieces(options)
  if (pieces.length > 0) block(pieces.map((text) => ({ text })))
  events.push(toStreamEvent('messageStop', { stopReason: stopReason(options) }))
  events.push(
    toStreamEvent('metadata', {
      metrics: { latencyMs: 1 },
      ...(options.usageIn !== 'none' && { usage: usageOf(options) }),
    }),
  )
  return events
}

function reply(_chat: ChatBody, options: AnswerOptions): unknown {
  const thoughts = options.reasoning ?? []
  const text = textPieces(options).join('')
  return {
    metrics: { latencyMs: 1 },
    output: {
      message: {
        role: 'assistant',
        content: [
          ...(thoughts.length === 0
            ? []
            : [
                {
                  reasoningContent: {
                    reasoningText: { text: thoughts.join(''), signature: 'Ep0CCkgICxABsigned' },
                  },
                },
              ]),
          ...(options.refusal === undefined ? [] : [{ text: options.refusal }]),
          ...(text === '' ? [] : [{ text }]),
          ...toolCalls(options).map(({ id, name, args }) => ({
            toolUse: { toolUseId: id, name, input: JSON.parse(args) },
          })),
        ],
      },
    },
    stopReason: stopReason(options),
    ...(options.usageIn !== 'none' && { usage: usageOf(options) }),
    ...options.extra,
  }
}

/** A message whose checksum is wrong. */
function broken(): Buffer {
  const message = toStreamEvent('contentBlockDelta', { contentBlockIndex: 0, delta: { text: 'tor' } })
  message.writeUInt32BE((message.readUInt32BE(message.length - 4) ^ 1) >>> 0, message.length - 4)
  return message
}
