// Finds the images of a conversation: parts that a provider takes for images, whose bytes say nothing about their
// tokens. Whatever else looks like one (text that begins like a data URL, a default in the schema of a tool, a file of
// text in base64) is text to the model that reads it, and counts as that.

import type { Span } from '../types.ts'
import { isSpace } from './json-scan.ts'

const KEY = Buffer.from('"image_url"')
const URL_KEY = Buffer.from('"url"')
const QUOTE = 0x22
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const COMMA = 0x2c
/** How far into its object the address of an image is looked for, and into an address for the end of its type. */
const LONGEST_DISTANCE = 128
const INLINE = /^data:(?:image|audio|video)\/[^,";]{0,64}(?:;[^,";]{1,64})*;base64,/i

/** How a conversation holds its images: behind `image_url`, or in the `source` of a block whose type says so. */
export type ImageForm = 'image_url' | 'source'

/** How many images stand in a part of a body, and how many bytes their payloads take. */
export function measureImages(
  body: Buffer,
  span: Span | undefined,
  form: ImageForm = 'image_url',
): { readonly count: number; readonly bytes: number } {
  let count = 0
  let bytes = 0
  if (span === undefined) return { count, bytes }
  const { key, rare, look } = FORMS[form]
  for (let at = find(body, key, rare, span.start); at >= 0 && at < span.end; ) {
    const value = memberAt(body, at, key.length)
    const found = value === undefined ? undefined : look(body, { at, value, limit: span.end })
    if (found?.isImage) {
      count += 1
      bytes += found.bytes
    }
    at = find(body, key, rare, Math.max(at + key.length, found?.end ?? 0))
  }
  return { count, bytes }
}

/** The next place of `key`, looked for by its end from `rare` on: each member begins with the quote that a key begins with. */
function find(body: Buffer, key: Buffer, rare: number, from: number): number {
  const end = key.subarray(rare)
  for (let at = body.indexOf(end, from + rare); at >= 0; at = body.indexOf(end, at + end.length)) {
    const start = at - rare
    if (body.compare(key, 0, key.length, start, start + key.length) === 0) return start
  }
  return -1
}

/** A member by which images may be known: where its key and its value begin, and where the conversation ends. */
interface Place {
  readonly at: number
  readonly value: number
  readonly limit: number
}

interface Found {
  readonly isImage: boolean
  /** Of its payload. */
  readonly bytes: number
  /** Where the search goes on: nothing in a payload is a member. */
  readonly end: number
}

/** Whatever stands behind `image_url` is an image, inline or by its address. */
function lookAtUrl(body: Buffer, { value, limit }: Place): Found {
  const address = body[value] === OPEN_BRACE ? addressIn(body, value) : value
  const payload = address === undefined ? undefined : payloadOf(body, address)
  const end = payload === undefined ? value : endOf(body, payload, limit)
  return { isImage: true, bytes: payload === undefined ? 0 : end - payload, end }
}

/** Where the string ends whose content begins at `from`: base64 has neither quotes nor escapes. */
function endOf(body: Buffer, from: number, limit: number): number {
  const quote = body.indexOf(QUOTE, from)
  return quote < 0 || quote > limit ? limit : quote
}

/** Where the value of a member begins whose key stands at `at`; undefined for what is only text. */
function memberAt(body: Buffer, at: number, length: number): number | undefined {
  let before = at - 1
  while (isSpace(body[before])) before -= 1
  if (body[before] !== OPEN_BRACE && body[before] !== COMMA) return undefined
  let colon = at + length
  while (isSpace(body[colon])) colon += 1
  if (body[colon] !== COLON) return undefined
  let value = colon + 1
  while (isSpace(body[value])) value += 1
  return value
}

/** The value of `url` in the object that opens there, if it comes soon: other members of it are short. */
function addressIn(body: Buffer, open: number): number | undefined {
  const at = body.subarray(open, open + LONGEST_DISTANCE).indexOf(URL_KEY)
  return at < 0 ? undefined : memberAt(body, open + at, URL_KEY.length)
}

/** Where the payload of a data URL begins that is the string at `at`. */
function payloadOf(body: Buffer, at: number): number | undefined {
  if (body[at] !== QUOTE) return undefined
  const head = INLINE.exec(body.toString('latin1', at + 1, at + 1 + 2 * LONGEST_DISTANCE))?.[0]
  return head === undefined ? undefined : at + 1 + head.length
}

// --- blocks with a source --------------------------------------------------------------------------------------

const SOURCE = Buffer.from('"source"')
/** What stands before the payload of an image, in the order in which clients write it. */
const BEFORE_PAYLOAD = /^\{\s*(?:"(?:type|media_type)"\s*:\s*"[^"\\]{0,64}"\s*,\s*){0,2}"data"\s*:\s*"/
const ADDRESS = /^\{\s*(?:"type"\s*:\s*"url"\s*,\s*)?"url"\s*:/
/** Members that are objects themselves (`cache_control`). */
const INNER = /\{[^{}]*\}/g
const IS_IMAGE = /"type"\s*:\s*"image"/
const CLOSE_BRACE = 0x7d

function lookAtSource(body: Buffer, { at, value, limit }: Place): Found | undefined {
  if (body[value] !== OPEN_BRACE) return undefined
  const head = body.toString('latin1', value, value + 2 * LONGEST_DISTANCE)
  const opening = BEFORE_PAYLOAD.exec(head)?.[0]
  const payload = opening === undefined ? undefined : value + opening.length
  const end = payload === undefined ? value : endOf(body, payload, limit)
  const isImage = (payload !== undefined || ADDRESS.test(head)) && isImageBlock(body, at, end)
  return { isImage, bytes: payload === undefined ? 0 : end - payload, end }
}

/** Whether the block that a source stands in says that it is an image, in front of the source or behind it. */
function isImageBlock(body: Buffer, source: number, end: number): boolean {
  const before = body.toString('latin1', Math.max(0, source - LONGEST_DISTANCE), source).replace(INNER, '')
  if (IS_IMAGE.test(before.slice(before.lastIndexOf('{')))) return true
  const close = body.indexOf(CLOSE_BRACE, end)
  if (close < 0) return false
  const after = body.toString('latin1', close + 1, close + 1 + LONGEST_DISTANCE).replace(INNER, '')
  const until = after.search(/[{}]/)
  return IS_IMAGE.test(until < 0 ? after : after.slice(0, until))
}

/** `rare`: where in its key a letter stands that is rarer than the first one. */
const FORMS = {
  image_url: { key: KEY, rare: '"image'.length, look: lookAtUrl },
  source: { key: SOURCE, rare: 0, look: lookAtSource },
} as const
