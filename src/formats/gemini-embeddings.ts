// OpenAI's embeddings by way of Gemini's batchEmbedContents. Pure. Source: the API's reference on embeddings.

import { isObject, parseObject } from '../bytes/json-value.ts'
import { noAnswer } from './facts.ts'
import type { ProviderEmbeddings, WholeFacts } from './format.ts'
import { toModelName } from './gemini-models.ts'
import { readUsage } from './gemini-read.ts'
import { readVectorsAsked, writeVectors } from './vectors.ts'

/** In one batch. */
const MOST_TEXTS = 100

/** Vectors as one of Google's two services makes them. */
export interface GoogleEmbeddings extends ProviderEmbeddings {
  /** What stands behind the model in the path. */
  method(model: string): string
  /** A reply without an error in it. */
  whole(reply: Readonly<Record<string, unknown>>): WholeFacts
}

export const embeddingsOfGemini: GoogleEmbeddings = {
  method: () => 'batchEmbedContents',
  write(sent, { model }) {
    const name = toModelName(model)
    const { texts, dimensions, dropped } = readVectorsAsked(sent, { most: MOST_TEXTS })
    return {
      body: {
        requests: texts.map((text) => ({
          model: name,
          content: { parts: [{ text }] },
          ...(dimensions !== undefined && { outputDimensionality: dimensions }),
        })),
      },
      headers: [],
      dropped,
      names: new Map(),
    }
  },
  whole(reply) {
    if (!Array.isArray(reply.embeddings)) return noAnswer('malformed')
    if (reply.embeddings.length === 0) return noAnswer('empty')
    return { usage: readUsage(reply), countedTokens: 0, failure: undefined, error: undefined }
  },
  read(body, { model }, written) {
    const reply = parseObject(body.toString('utf8')) ?? {}
    const vectors = Array.isArray(reply.embeddings) ? reply.embeddings : []
    return writeVectors({
      vectors: vectors.map((vector: unknown) => (isObject(vector) ? vector.values : undefined)),
      written,
      model,
      tokens: readUsage(reply)?.inputTokens ?? 0,
    })
  },
}
