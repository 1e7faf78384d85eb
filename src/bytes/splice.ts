// Rewrites a few spans of a body and leaves every other byte as it came. Knows bytes only.

import { Readable } from 'node:stream'

/** Puts `text` in the place of `[start, end)`; `start === end` inserts. */
export interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** Above this many bytes a spliced body is sent in pieces rather than copied: one memory copy of 64 KiB costs less than a stream. */
const COPY_LIMIT = 64 * 1024

/**
 * The body with its edits made; `edits` must be sorted and must not overlap. Without edits it is the body itself.
 * A large body is never copied: its untouched parts are sent from where they stand.
 */
export function splice(body: Buffer, edits: readonly Edit[]): { body: Buffer | Readable; bytes: number } {
  if (edits.length === 0) return { body, bytes: body.length }
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
  pieces.push(body.subarray(from))
  for (const piece of pieces) bytes += piece.length
  if (bytes <= COPY_LIMIT) return { body: Buffer.concat(pieces, bytes), bytes }
  return {
    body: Readable.from(
      pieces.filter((piece) => piece.length > 0),
      { objectMode: false },
    ),
    bytes,
  }
}
