// OpenAI's embeddings by way of Vertex AI: `predict` for the models that take a list of texts, `embedContent` for Gemini's
// newer ones, which take one. Pure. Source: Vertex AI's reference on text embeddings, and which of the two Google's own SDK
// asks a model by.

import { isObject, parseObject } from '../bytes/json-value.ts'
import { count, noAnswer } from './facts.ts'
import type { GoogleEmbeddings } from './gemini-embeddings.ts'
import { readUsage } from './gemini-read.ts'
import { toUsage } from './openai-usage.ts'
import { readVectorsAsked, writeVectors } from './vectors.ts'

type Json = Readonly<Record<string, unknown>>

/** In one list; what a model takes less is refused there. */
const MOST_TEXTS = 250

/** The first of Gemini's is still asked like those before it. */
function takesOne(model: string): boolean {
  return model.includes('gemini') && model !== 'gemini-embedding-001'
}

export const embeddingsOfVertex: GoogleEmbeddings = {
  method: (model) => (takesOne(model) ? 'embedContent' : 'predict'),
  write(sent, { model }) {
    const { texts, dimensions, dropped } = readVectorsAsked(sent, {
      most: takesOne(model) ? 1 : MOST_TEXTS,
    })
    const settings = {
      // A text that is too long would be cut in silence.
      autoTruncate: false,
      ...(dimensions !== undefined && { outputDimensionality: dimensions }),
    }
    const body = takesOne(model)
      ? { content: { parts: [{ text: texts[0] }] }, embedContentConfig: settings }
      : { instances: texts.map((content) => ({ content })), parameters: settings }
    return { body, headers: [], dropped, names: new Map() }
  },
  whole(reply) {
    const good = { countedTokens: 0, failure: undefined, error: undefined }
    if (isObject(reply.embedding)) return { usage: readUsage(reply), ...good }
    if (!Array.isArray(reply.predictions)) return noAnswer('malformed')
    if (reply.predictions.length === 0) return noAnswer('empty')
    const usage = toUsage({
      input: tokensOf(reply),
      output: undefined,
      inputDetails: undefined,
      outputDetails: undefined,
    })
    return { usage, ...good }
  },
  read(body, { model }, written) {
    const reply = parseObject(body.toString('utf8')) ?? {}
    const vectors = isObject(reply.embedding) ? [reply.embedding] : predictionsOf(reply)
    return writeVectors({
      vectors: vectors.map(({ values }) => values),
      written,
      model,
      tokens: readUsage(reply)?.inputTokens ?? tokensOf(reply) ?? 0,
    })
  },
}

function predictionsOf({ predictions }: Json): readonly Json[] {
  const list: readonly unknown[] = Array.isArray(predictions) ? predictions : []
  return list.map((one) => (isObject(one) && isObject(one.embeddings) ? one.embeddings : {}))
}

/** Of all texts; undefined where one does not tell. */
function tokensOf(reply: Json): number | undefined {
  let tokens = 0
  for (const { statistics } of predictionsOf(reply)) {
    const told = isObject(statistics) ? count(statistics.token_count) : undefined
    if (told === undefined) return undefined
    tokens += told
  }
  return tokens
}
