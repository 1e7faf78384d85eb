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
  const { pieces, bytes } = toPieces(body, edits)
  if (bytes > COPY_LIMIT) return { body: toStream(pieces), bytes }
  return { body: join(pieces, bytes), bytes }
}

/** The same in one piece whatever its size, for who must have seen all of it before it is sent. */
export function spliceWhole(body: Buffer, edits: readonly Edit[]): { body: Buffer; bytes: number } {
  const { pieces, bytes } = toPieces(body, edits)
  return { body: join(pieces, bytes), bytes }
}

function toPieces(body: Buffer, edits: readonly Edit[]): { pieces: Buffer[]; bytes: number } {
  const pieces: Buffer[] = []
  let from = 0
  let bytes = 0
  for (const edit of edits) {
    if (edit.start < from || edit.end < edit.start || edit.end > body.length) {
      throw new RangeError('edits overlap or leave the body')
    }
    pieces.push(body.subarray(from, edit.start), Buffer.from(edit.text))
    from = edit.end
  }
  pieces.push(from === 0 ? body : body.subarray(from))
  for (const piece of pieces) bytes += piece.length
  return { pieces, bytes }
}

function join(pieces: readonly Buffer[], bytes: number): Buffer {
  const [only] = pieces
  return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces, bytes)
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
