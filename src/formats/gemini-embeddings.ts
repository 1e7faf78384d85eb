// OpenAI's embeddings by way of Gemini's batchEmbedContents. Pure. Source: the API's reference on embeddings, OpenAI's on
// POST /embeddings.

import { isObject, parseObject } from '../bytes/json-value.ts'
import type { ProviderEmbeddings } from './format.ts'
import { readUsage } from './gemini-read.ts'
import { refuse } from './members.ts'

/** Members of a request that are carried, or whose answer is made here. */
const KNOWN: ReadonlySet<string> = new Set(['model', 'input', 'dimensions', 'encoding_format'])

export const embeddingsOfGemini: ProviderEmbeddings = {
  write(sent, { model }) {
    const name = model.includes('/') ? model : `models/${model}`
    const { dimensions } = sent
    const outputDimensionality = typeof dimensions === 'number' ? { outputDimensionality: dimensions } : {}
    return {
      body: {
        requests: textsOf(sent.input).map((text) => ({
          model: name,
          content: { parts: [{ text }] },
          ...outputDimensionality,
        })),
      },
      headers: [],
      dropped: Object.keys(sent).filter((member) => !KNOWN.has(member)),
      names: new Map(),
    }
  },
  read(body, { model }, { body: sent }) {
    const reply = parseObject(body.toString('utf8')) ?? {}
    const vectors: unknown[] = Array.isArray(reply.embeddings) ? reply.embeddings : []
    // They are told apart by their order alone.
    if (Array.isArray(sent.requests) && sent.requests.length !== vectors.length)
      throw new Error('not as many vectors as texts')
    const tokens = readUsage(reply)?.inputTokens ?? 0
    return {
      object: 'list',
      data: vectors.map((vector, index) => {
        const values: unknown[] = isObject(vector) && Array.isArray(vector.values) ? vector.values : []
        if (values.length === 0 || !values.every((value) => typeof value === 'number'))
          throw new Error('a vector without values')
        return { object: 'embedding', index, embedding: values }
      }),
      model,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    }
  },
}

/** Tokens are numbers of OpenAI's own vocabulary. */
function textsOf(input: unknown): readonly string[] {
  const texts: unknown[] = Array.isArray(input) ? input : [input]
  if (texts.length === 0) throw refuse('input', 'The field "input" is empty.')
  return texts.map((text) => {
    if (typeof text !== 'string')
      throw refuse(
        'input',
        'This deployment makes vectors of text: the field "input" must be text, or a list of texts.',
      )
    return text
  })
}
