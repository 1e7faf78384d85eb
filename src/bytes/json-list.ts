// The elements of a JSON list where they stand in bytes, and the edits that take some of them out. Knows bytes only; the
// document has been scanned (json-scan.ts) and is well formed. One pass, whatever the list holds.

import type { Span } from '../types.ts'
import { isSpace } from './json-scan.ts'
import type { Edit } from './splice.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const CLOSE_LIST = 0x5d
const OPEN_LIST = 0x5b
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d

/** Where each element stands, without the white space around it. */
export function elements(body: Buffer, { start, end }: Span): Span[] {
  const list: Span[] = []
  let depth = 0
  let from = start + 1
  for (let at = start; at < end; at += 1) {
    const byte = body[at]
    if (byte === QUOTE) {
      for (at += 1; at < end && body[at] !== QUOTE; at += 1) if (body[at] === BACKSLASH) at += 1
    } else if (byte === OPEN_LIST || byte === OPEN_OBJECT) depth += 1
    else if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) depth -= 1
    const isEnd = depth === 0 && byte === CLOSE_LIST
    if (!isEnd && !(depth === 1 && byte === COMMA)) continue
    const span = trimmed(body, from, at)
    if (span.start < span.end) list.push(span)
    from = at + 1
  }
  return list
}

function trimmed(body: Buffer, start: number, end: number): Span {
  let [from, to] = [start, end]
  while (from < to && isSpace(body[from])) from += 1
  while (to > from && isSpace(body[to - 1])) to -= 1
  return { start: from, end: to }
}

/** Takes out the elements at these places, each with the comma that goes with it. */
export function cutElements(list: readonly Span[], which: Iterable<number>): Edit[] {
  const gone = new Set(which)
  const edits: Edit[] = []
  for (let at = 0; at < list.length; at += 1) {
    if (!gone.has(at)) continue
    const from = at
    while (gone.has(at + 1)) at += 1
    const [first, last, next, before] = [list[from], list[at], list[at + 1], list[from - 1]]
    if (first === undefined || last === undefined) continue
    // Up to the one behind; at the end of the list from the end of the one before.
    if (next !== undefined) edits.push({ start: first.start, end: next.start, text: '' })
    else edits.push({ start: before?.end ?? first.start, end: last.end, text: '' })
  }
  return edits
}

/**
 * Whether `mark` stands in a stretch of the body. To be asked in the order of the stretches' starts: what is searched
 * once is not searched again, so that asking of every element of a list costs one search of the body.
 */
export function createMarkFinder(body: Buffer, mark: Buffer): (stretch: Span) => boolean {
  let next = body.indexOf(mark)
  return ({ start, end }) => {
    if (next >= 0 && next < start) next = body.indexOf(mark, start)
    return next >= 0 && next < end
  }
}
