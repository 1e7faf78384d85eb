// OpenAI's embeddings by way of Gemini's batchEmbedContents. Pure. Source: the API's reference on embeddings, OpenAI's on
// POST /embeddings.

import { isObject, parseObject } from '../bytes/json-value.ts'
import type { ProviderEmbeddings } from './format.ts'
import { toModelName } from './gemini-models.ts'
import { readUsage } from './gemini-read.ts'
import { countAt, refuse, wrongType } from './members.ts'

/** Members of a request that are carried, or whose answer is made here. */
const KNOWN: ReadonlySet<string> = new Set(['model', 'input', 'dimensions', 'encoding_format'])

export const embeddingsOfGemini: ProviderEmbeddings = {
  write(sent, { model }) {
    const name = toModelName(model)
    const dimensions = countAt(sent.dimensions, 'dimensions')
    if (dimensions === 0) throw wrongType('dimensions', 'a whole number from 1')
    if (!ENCODINGS.has(sent.encoding_format)) throw wrongType('encoding_format', '"float" or "base64"')
    return {
      body: {
        requests: textsOf(sent.input).map((text) => ({
          model: name,
          content: { parts: [{ text }] },
          ...(dimensions !== undefined && { outputDimensionality: dimensions }),
        })),
      },
      headers: [],
      dropped: Object.entries(sent).flatMap(([member, value]) =>
        KNOWN.has(member) || value === null ? [] : [member],
      ),
      names: new Map(),
    }
  },
  read(body, { model }) {
    const reply = parseObject(body.toString('utf8')) ?? {}
    const vectors = Array.isArray(reply.embeddings) ? reply.embeddings : []
    const tokens = readUsage(reply)?.inputTokens ?? 0
    return {
      object: 'list',
      data: vectors.map((vector: unknown, index) => {
        if (!isObject(vector) || !Array.isArray(vector.values)) throw new Error('a vector without values')
        return { object: 'embedding', index, embedding: vector.values }
      }),
      model,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    }
  },
}

const ENCODINGS: ReadonlySet<unknown> = new Set([undefined, null, 'float', 'base64'])
/** In one batch; OpenAI takes 2048. */
const MOST_TEXTS = 100

/** Tokens are numbers of OpenAI's own vocabulary. */
function textsOf(input: unknown): readonly string[] {
  const texts: unknown[] = Array.isArray(input) ? input : [input]
  if (texts.length === 0) throw refuse('input', 'The field "input" is empty.')
  if (texts.length > MOST_TEXTS)
    throw refuse('input', `This deployment makes vectors of ${MOST_TEXTS} texts at a time: "input" has more.`)
  return texts.map((text) => {
    if (typeof text !== 'string')
      throw refuse(
        'input',
        'This deployment makes vectors of text: the field "input" must be text, or a list of texts.',
      )
    return text
  })
}
