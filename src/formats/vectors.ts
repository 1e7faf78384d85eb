// What OpenAI's requests for vectors ask, and what their answers look like: shared by the formats that have other words for
// it. Pure. Source: OpenAI API reference, POST /embeddings.

import { countAt, refuse } from './members.ts'

/** What is asked for, whatever the wire. */
export interface VectorsAsked {
  /** At least one. */
  readonly texts: readonly string[]
  readonly dimensions: number | undefined
  /** Members that are carried nowhere; `encoding_format` is made here, of lists. */
  readonly dropped: readonly string[]
}

const KNOWN: ReadonlySet<string> = new Set(['model', 'input', 'dimensions', 'encoding_format'])

/**
 * `carried` are members beside OpenAI's that the format has a place for.
 * @throws GatewayError `invalid_request` that names the field, for tokens: they are numbers of OpenAI's own vocabulary.
 */
export function readVectorsAsked(
  sent: Readonly<Record<string, unknown>>,
  carried: readonly string[] = [],
): VectorsAsked {
  const { input } = sent
  const list: readonly unknown[] = Array.isArray(input) ? input : [input]
  if (list.length === 0) throw refuse('input', 'The field "input" is empty.')
  const texts = list.map((text) => {
    if (typeof text !== 'string')
      throw refuse(
        'input',
        'This deployment makes vectors of text: the field "input" must be text, or a list of texts.',
      )
    return text
  })
  return {
    texts,
    dimensions: countAt(sent.dimensions, 'dimensions'),
    dropped: Object.keys(sent).filter((member) => !KNOWN.has(member) && !carried.includes(member)),
  }
}

/** @throws GatewayError `invalid_request` for several, where one call makes one vector. */
export function onlyTextOf({ texts }: VectorsAsked): string {
  const [text = '', ...more] = texts
  if (more.length > 0)
    throw refuse(
      'input',
      'This deployment makes one vector to a request: the field "input" must be one text, or a list of one.',
    )
  return text
}

/** @throws GatewayError `invalid_request` where vectors are of one length. */
export function refuseDimensions({ dimensions }: VectorsAsked): void {
  if (dimensions !== undefined)
    throw refuse(
      'dimensions',
      'The vectors of this deployment have one length: the field "dimensions" cannot be given.',
    )
}

/** A reply as OpenAI gives it. @throws Error for a vector that is none */
export function writeVectors({ vectors, model, tokens }: VectorsMade): unknown {
  return {
    object: 'list',
    data: vectors.map((embedding, index) => {
      if (!Array.isArray(embedding)) throw new Error('a vector without values')
      return { object: 'embedding', index, embedding }
    }),
    model,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  }
}

interface VectorsMade {
  readonly vectors: readonly unknown[]
  readonly model: string
  readonly tokens: number
}
