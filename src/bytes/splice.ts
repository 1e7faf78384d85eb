// Rewrites a few spans of a body and leaves every other byte as it came. Knows bytes only.

import { Readable } from 'node:stream'

/** Puts `text` in the place of `[start, end)`; `start === end` inserts. */
export interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** Above this many bytes a body is sent in pieces: one copy of 64 KiB costs less than a stream. */
const COPY_LIMIT = 64 * 1024

/**
 * The body with its edits made; `edits` must be sorted and must not overlap. A small body without edits is the body
 * itself. A large one is never copied: it is sent from where it stands, and let go of as it is sent, so that whoever
 * sends it does not keep it.
 */
export function splice(body: Buffer, edits: readonly Edit[]): { body: Buffer | Readable; bytes: number } {
  const bytes = sizeOf(body, edits)
  if (bytes > COPY_LIMIT) return { body: toStream(toPieces(body, edits)), bytes }
  return { body: toOne(body, edits, bytes), bytes }
}

/** The same in one piece whatever its size, for who must have seen all of it before it is sent. */
export function spliceWhole(body: Buffer, edits: readonly Edit[]): { body: Buffer; bytes: number } {
  const bytes = sizeOf(body, edits)
  return { body: toOne(body, edits, bytes), bytes }
}

/** What the body comes to with its edits. */
function sizeOf(body: Buffer, edits: readonly Edit[]): number {
  let from = 0
  let bytes = body.length
  for (const { start, end, text } of edits) {
    if (start < from || end < start || end > body.length) {
      throw new RangeError('edits overlap or leave the body')
    }
    bytes += Buffer.byteLength(text) - (end - start)
    from = end
  }
  return bytes
}

function toPieces(body: Buffer, edits: readonly Edit[]): Buffer[] {
  const pieces: Buffer[] = []
  let from = 0
  for (const { start, end, text } of edits) {
    pieces.push(body.subarray(from, start), Buffer.from(text))
    from = end
  }
  pieces.push(from === 0 ? body : body.subarray(from))
  return pieces
}

/** Written straight into its place: no piece is made on the way. */
function toOne(body: Buffer, edits: readonly Edit[], bytes: number): Buffer {
  if (edits.length === 0) return body
  const one = Buffer.allocUnsafe(bytes)
  let from = 0
  let at = 0
  for (const { start, end, text } of edits) {
    at += body.copy(one, at, from, start)
    at += one.write(text, at)
    from = end
  }
  body.copy(one, at, from)
  return one
}

/**
 * Piece by piece, as the socket takes them. In one push the stream would end long before its bytes are sent, and a
 * server that answers early would get the next request behind the unsent rest.
 */
function toStream(pieces: Buffer[]): Readable {
  return new Readable({
    read() {
      let piece = pieces.shift()
      while (piece?.length === 0) piece = pieces.shift()
      if (piece !== undefined && piece.length > COPY_LIMIT) {
        pieces.unshift(piece.subarray(COPY_LIMIT))
        piece = piece.subarray(0, COPY_LIMIT)
      }
      this.push(piece ?? null)
    },
  })
}
