// Takes out of a Messages request what only we can read: thoughts of other formats that a caller was given behind our
// mark (seals.ts) and gives back. Anthropic would refuse the whole request for them. All other bytes stay. Pure.

import { createMarkFinder, cutElements, elements } from '../bytes/json-list.ts'
import { scanNested } from '../bytes/json-scan.ts'
import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Edit } from '../bytes/splice.ts'
import type { Span } from '../types.ts'
import { SEAL_MARK } from './seals.ts'

const MARK = Buffer.from(`"${SEAL_MARK}`)
const OPEN_LIST = 0x5b

/** The places to cut; none, after one search, where no answer of another format is in the conversation. */
export function cutOwnThoughts(body: Buffer, messages: Span): Edit[] {
  const isMarked = createMarkFinder(body, MARK)
  if (!isMarked(messages)) return []
  const list = elements(body, messages)
  const edits: Edit[] = []
  const emptied: number[] = []
  for (const [at, message] of list.entries()) {
    if (!isMarked(message)) continue
    const scan = scanNested(body, message)
    const content = scan.ok ? scan.members.get('content') : undefined
    if (content === undefined || body[content.start] !== OPEN_LIST) continue
    const blocks = elements(body, content)
    const ours = blocks.flatMap((block, i) => (isMarked(block) && isOurs(body, block) ? [i] : []))
    if (ours.length === blocks.length) emptied.push(at)
    else for (const edit of cutElements(blocks, ours)) edits.push(edit)
  }
  return [...edits, ...cutElements(list, emptied)].sort((a, b) => a.start - b.start)
}

function isOurs(body: Buffer, { start, end }: Span): boolean {
  const block = parseObject(body.toString('utf8', start, end))
  if (!isObject(block)) return false
  const seal =
    block.type === 'thinking' ? block.signature : block.type === 'redacted_thinking' ? block.data : undefined
  return typeof seal === 'string' && seal.startsWith(SEAL_MARK)
}
