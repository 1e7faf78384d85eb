// Vectors as the caller asked for them: lists of numbers, or base64 of little-endian float32. Some servers know lists
// only, and refuse or ignore the other; a list in the place of base64 is read as bytes by some SDKs, in silence. Pure.
// Source: OpenAI API reference, POST /embeddings (`encoding_format`); wire §1.6.

import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Edit } from '../bytes/splice.ts'
import type { ModelRequest } from '../types.ts'
import { createEdits } from './edits.ts'

export type Encoding = 'float' | 'base64'

/** What the caller of an embeddings request reads; lists where nothing is said. */
export function encodingOf({ body, spans }: Pick<ModelRequest, 'body' | 'spans'>): Encoding {
  const span = spans.get('encoding_format')
  const word = span === undefined ? undefined : body?.toString('latin1', span.start, span.end)
  return word === '"base64"' ? 'base64' : 'float'
}

/** For a server that knows lists only: asks for those where base64, or null, was asked for. */
export function toFloatEdits(request: ModelRequest): Edit[] {
  const edits = createEdits(request)
  if (request.spans.has('encoding_format')) edits.set('encoding_format', '"float"')
  return edits.list
}

/**
 * A whole reply with every vector in the encoding asked for; the very same bytes where it is so already, and where
 * nothing can be made of it.
 */
export function toEncoding(body: Buffer, wanted: Encoding): Buffer {
  const reply = parseObject(body.toString('utf8'))
  const vectors = Array.isArray(reply?.data) ? reply.data : []
  let isChanged = false
  const data = vectors.map((item: unknown) => {
    const embedding = isObject(item) ? convert(item.embedding, wanted) : undefined
    if (!isObject(item) || embedding === undefined) return item
    isChanged = true
    return { ...item, embedding }
  })
  return isChanged ? Buffer.from(JSON.stringify({ ...reply, data })) : body
}

/** Undefined where nothing is to be done, or can be. */
function convert(embedding: unknown, wanted: Encoding): string | number[] | undefined {
  if (wanted === 'base64') {
    if (!Array.isArray(embedding) || !embedding.every((one) => typeof one === 'number')) return undefined
    return encode(embedding)
  }
  return typeof embedding === 'string' ? decode(embedding) : undefined
}

const FLOAT_BYTES = 4

function encode(numbers: readonly number[]): string {
  const bytes = Buffer.alloc(numbers.length * FLOAT_BYTES)
  for (const [i, one] of numbers.entries()) bytes.writeFloatLE(one, i * FLOAT_BYTES)
  return bytes.toString('base64')
}

function decode(text: string): number[] | undefined {
  const bytes = Buffer.from(text, 'base64')
  if (bytes.length === 0 || bytes.length % FLOAT_BYTES !== 0) return undefined
  const numbers: number[] = []
  for (let at = 0; at < bytes.length; at += FLOAT_BYTES) numbers.push(bytes.readFloatLE(at))
  return numbers.every(Number.isFinite) ? numbers : undefined
}
