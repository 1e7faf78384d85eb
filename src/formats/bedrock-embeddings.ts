// OpenAI's embeddings by way of Bedrock's InvokeModel, where each maker has a body of its own. Pure. Source: Bedrock's user
// guide on the inference parameters of Titan, Cohere and Nova embeddings (November 2026), and the AI SDK's schemas of replies.

import { isObject, parseObject } from '../bytes/json-value.ts'
import { noAnswer, textTokens } from './facts.ts'
import type { ProviderEmbeddings, WholeFacts } from './format.ts'
import { refuse, textAt } from './members.ts'
import { toUsage } from './openai-usage.ts'
import { type Room, readVectorsAsked, refuseDimensions, type VectorsAsked, writeVectors } from './vectors.ts'

type Json = Readonly<Record<string, unknown>>

interface Maker extends Room {
  body(asked: VectorsAsked, sent: Json): Json
}

const TITAN: Maker = {
  most: 1,
  body: ({ texts: [inputText], dimensions }) => ({
    inputText,
    ...(dimensions !== undefined && { dimensions }),
  }),
}
const COHERE: Maker = {
  most: 96,
  carried: ['input_type'],
  body({ texts, dimensions }, sent) {
    return {
      texts,
      // It must be told. Most vectors are made of what is to be found; who asks may say otherwise.
      input_type: textAt(sent.input_type, 'input_type') ?? 'search_document',
      truncate: 'NONE',
      ...(dimensions !== undefined && { output_dimension: dimensions }),
    }
  },
}
const NOVA: Maker = {
  most: 1,
  body: ({ texts: [value], dimensions }) => ({
    taskType: 'SINGLE_EMBEDDING',
    singleEmbeddingParams: {
      embeddingPurpose: 'GENERIC_INDEX',
      ...(dimensions !== undefined && { embeddingDimension: dimensions }),
      text: { truncationMode: 'NONE', value },
    },
  }),
}

/** Older models, whose vectors have the length that they have. */
function ofOneLength(maker: Maker): Maker {
  return {
    ...maker,
    body(asked, sent) {
      refuseDimensions(asked)
      return maker.body(asked, sent)
    },
  }
}

/** The first that fits. Names come with a region in front (`us.`), and as ARNs. */
const MAKERS: readonly (readonly [names: RegExp, maker: Maker])[] = [
  [/titan-embed-(?:image|text-v1|g1)/, ofOneLength(TITAN)],
  [/titan-embed/, TITAN],
  [/cohere\.embed-(?:english|multilingual)/, ofOneLength(COHERE)],
  [/cohere\.embed/, COHERE],
  [/nova-.*embed/, NOVA],
]

export const embeddingsOfBedrock: ProviderEmbeddings = {
  write(sent, { model }) {
    const maker = MAKERS.find(([names]) => names.test(model))?.[1]
    if (maker === undefined)
      throw refuse(
        'model',
        `How "${model}" makes vectors is not known: of this provider they come from Titan, Cohere and Nova.`,
      )
    const asked = readVectorsAsked(sent, maker)
    return { body: maker.body(asked, sent), headers: [], dropped: asked.dropped, names: new Map() }
  },
  read(body, { model }, written) {
    const reply = parseObject(body.toString('utf8')) ?? {}
    const tokens = usageOf(reply)?.inputTokens ?? echoedTokens(reply)
    return writeVectors({ vectors: vectorsOf(reply) ?? [], written, model, tokens })
  },
}

/** Of a reply to InvokeModel that was asked for vectors. */
export function wholeVectors(reply: Json): WholeFacts {
  const vectors = vectorsOf(reply)
  // A refusal inside a 200 has only a message, as one with a status has.
  if (vectors === undefined)
    return typeof reply.message === 'string' ? noAnswer('in_band', reply.message) : noAnswer('malformed')
  if (vectors.length === 0) return noAnswer('empty')
  return { usage: usageOf(reply), countedTokens: 0, failure: undefined, error: undefined }
}

/** Titan has one; Cohere a list of them, by type where several types were made; Nova a list of what it made. */
function vectorsOf({ embedding, embeddings }: Json): readonly unknown[] | undefined {
  if (Array.isArray(embedding)) return [embedding]
  const list: unknown = isObject(embeddings) ? embeddings.float : embeddings
  if (!Array.isArray(list)) return undefined
  return list.map((one: unknown) => (isObject(one) ? one.embedding : one))
}

function usageOf({ inputTextTokenCount, inputTokenCount, meta }: Json): ReturnType<typeof toUsage> {
  const billed = isObject(meta) && isObject(meta.billed_units) ? meta.billed_units.input_tokens : undefined
  const input = inputTextTokenCount ?? inputTokenCount ?? billed
  return toUsage({ input, output: undefined, inputDetails: undefined, outputDetails: undefined })
}

/** Cohere's models tell no tokens there, but say again what they read: an estimate is nearer than none. */
function echoedTokens({ texts }: Json): number {
  let tokens = 0
  for (const text of Array.isArray(texts) ? texts : [])
    if (typeof text === 'string') tokens += textTokens(text)
  return tokens
}
