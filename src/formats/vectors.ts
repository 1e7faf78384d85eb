// What OpenAI's requests for vectors ask, and what their answers look like: shared by the formats that have other words for
// it. Pure. Source: OpenAI API reference, POST /embeddings.

import type { WrittenRequest } from './format.ts'
import { countAt, refuse, wrongType } from './members.ts'

/** What is asked for, whatever the wire. */
export interface VectorsAsked {
  /** At least one. */
  readonly texts: readonly string[]
  readonly dimensions: number | undefined
  /** Members that are carried nowhere; `encoding_format` is made here, of lists. */
  readonly dropped: readonly string[]
}

const KNOWN: ReadonlySet<string> = new Set(['model', 'input', 'dimensions', 'encoding_format'])

const ENCODINGS: ReadonlySet<unknown> = new Set([undefined, null, 'float', 'base64'])

export interface Room {
  /** Most texts to a call; OpenAI takes 2048. */
  readonly most: number
  /** Members beside OpenAI's that the format has a place for. */
  readonly carried?: readonly string[]
}

/** @throws GatewayError `invalid_request` that names the field, for tokens: they are numbers of OpenAI's own vocabulary. */
export function readVectorsAsked(
  sent: Readonly<Record<string, unknown>>,
  { most, carried = [] }: Room,
): VectorsAsked {
  const { input, dimensions } = sent
  const list: readonly unknown[] = Array.isArray(input) ? input : [input]
  if (list.length === 0) throw refuse('input', 'The field "input" is empty.')
  if (list.length > most && list.every((text) => typeof text === 'string'))
    throw refuse(
      'input',
      `This deployment makes vectors of ${most === 1 ? 'one text' : `${most} texts`} at a time: "input" has more.`,
    )
  if (!ENCODINGS.has(sent.encoding_format)) throw wrongType('encoding_format', '"float" or "base64"')
  if (dimensions === 0) throw wrongType('dimensions', 'a whole number from 1')
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
    dimensions: countAt(dimensions, 'dimensions'),
    dropped: Object.entries(sent).flatMap(([member, value]) =>
      KNOWN.has(member) || carried.includes(member) || value === null ? [] : [member],
    ),
  }
}

/** @throws GatewayError `invalid_request` where vectors are of one length. */
export function refuseDimensions({ dimensions }: VectorsAsked): void {
  if (dimensions !== undefined)
    throw refuse(
      'dimensions',
      'The vectors of this deployment have one length: the field "dimensions" cannot be given.',
    )
}

/**
 * A reply as OpenAI gives it. Vectors are told apart by their order alone, so that there must be one for each text.
 * @throws Error for a vector that is none, and where they are not as many as was asked for
 */
export function writeVectors({ vectors, written, model, tokens }: VectorsMade): unknown {
  if (vectors.length !== textsIn(written)) throw new Error('not as many vectors as texts')
  return {
    object: 'list',
    data: vectors.map((vector, index) => {
      const embedding: readonly unknown[] = Array.isArray(vector) ? vector : []
      if (embedding.length === 0 || !embedding.every((one) => typeof one === 'number'))
        throw new Error('a vector without values')
      return { object: 'embedding', index, embedding }
    }),
    model,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  }
}

interface VectorsMade {
  readonly vectors: readonly unknown[]
  /** What was asked for. */
  readonly written: WrittenRequest
  readonly model: string
  readonly tokens: number
}

/** How many texts a call holds, by whatever name its list has; one where it has none. */
function textsIn({ body: { requests, instances, texts } }: WrittenRequest): number {
  const list = requests ?? instances ?? texts
  return Array.isArray(list) ? list.length : 1
}
