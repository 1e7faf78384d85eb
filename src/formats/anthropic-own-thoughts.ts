// Takes out of a Messages request what only we can read: thoughts of other formats that a caller was given behind our
// mark (seals.ts) and gives back. Anthropic would refuse the whole request for them. All other bytes stay. Pure.

import { scanNested } from '../bytes/json-scan.ts'
import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Edit } from '../bytes/splice.ts'
import type { Span } from '../types.ts'
import { SEAL_MARK } from './seals.ts'

const MARK = Buffer.from(`"${SEAL_MARK}`)

/** The places to cut; none, after one search, where no answer of another format is in the conversation. */
export function cutOwnThoughts(body: Buffer, messages: Span): Edit[] {
  if (!isMarked(body, messages)) return []
  const list = elements(body, messages)
  const edits: Edit[] = []
  const emptied: number[] = []
  for (const [at, message] of list.entries()) {
    if (!isMarked(body, message)) continue
    const scan = scanNested(body, message)
    const content = scan.ok ? scan.members.get('content') : undefined
    if (content === undefined || body[content.start] !== OPEN_LIST) continue
    const blocks = elements(body, content)
    const ours = blocks.flatMap((block, i) => (isMarked(body, block) && isOurs(body, block) ? [i] : []))
    if (ours.length === blocks.length) emptied.push(at)
    else edits.push(...cut(blocks, ours))
  }
  return [...edits, ...cut(list, emptied)].sort((a, b) => a.start - b.start)
}

function isMarked(body: Buffer, { start, end }: Span): boolean {
  const at = body.indexOf(MARK, start)
  return at >= 0 && at < end
}

function isOurs(body: Buffer, { start, end }: Span): boolean {
  const block = parseObject(body.toString('utf8', start, end))
  if (!isObject(block)) return false
  const seal =
    block.type === 'thinking' ? block.signature : block.type === 'redacted_thinking' ? block.data : undefined
  return typeof seal === 'string' && seal.startsWith(SEAL_MARK)
}

/** Elements of a list, each with the comma that goes with it. */
function cut(list: readonly Span[], which: readonly number[]): Edit[] {
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

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const OPEN_LIST = 0x5b
const CLOSE_LIST = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d

/** The elements of a list in a document that has been scanned: it is known to be well formed. */
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

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}
