// Finds the images of a conversation: parts that a provider takes for images, whose bytes say nothing about their
// tokens. Whatever else looks like one (text that begins like a data URL, a default in the schema of a tool, a file of
// text in base64) is text to the model that reads it, and counts as that.

import type { Span } from '../types.ts'

/** Members that hold one: an address, or an object with bytes and their type. */
const HOLDERS = {
  image_url: { key: Buffer.from('"image_url"'), find: findAddress },
  source: { key: Buffer.from('"source"'), find: findSource },
} as const
export type ImageHolder = keyof typeof HOLDERS

const URL_KEY = Buffer.from('"url"')
const DATA_KEY = Buffer.from('"data"')
const TYPE_KEY = Buffer.from('"media_type"')
const QUOTE = 0x22
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const COMMA = 0x2c
/** How far into its object the address of an image is looked for, and into an address for the end of its type. */
const LONGEST_DISTANCE = 128
const INLINE = /^data:(?:image|audio|video)\/[^,";]{0,64}(?:;[^,";]{1,64})*;base64,/i
/** What stands in front of the address of an image, in the part that has both. */
const IMAGE_PART = /"type"\s*:\s*"image"\s*,(?:(?!\{).)*$/s
const IMAGE_TYPE = /^"image\//i

/** Where the payload of an image begins that is inline; `none`: an image by its address; undefined: no image. */
type Payload = number | 'none' | undefined

/** How many images stand in a part of a body, and how many bytes the payloads of their data URLs take. */
export function measureImages(
  body: Buffer,
  span: Span | undefined,
  holder: ImageHolder = 'image_url',
): { readonly count: number; readonly bytes: number } {
  let count = 0
  let bytes = 0
  if (span === undefined) return { count, bytes }
  const { key, find } = HOLDERS[holder]
  for (let at = body.indexOf(key, span.start); at >= 0 && at < span.end; ) {
    const value = memberAt(body, at, key.length)
    let next = at + key.length
    const payload = value === undefined ? undefined : find(body, value, at)
    if (payload !== undefined) {
      count += 1
      if (payload !== 'none') {
        const end = body.indexOf(QUOTE, payload)
        next = end < 0 || end > span.end ? span.end : end
        bytes += next - payload
      }
    }
    at = body.indexOf(key, next)
  }
  return { count, bytes }
}

/** Where the value of a member begins whose key stands at `at`; undefined for what is only text. */
function memberAt(body: Buffer, at: number, length: number): number | undefined {
  let before = at - 1
  while (isBlank(body[before])) before -= 1
  if (body[before] !== OPEN_BRACE && body[before] !== COMMA) return undefined
  let colon = at + length
  while (isBlank(body[colon])) colon += 1
  if (body[colon] !== COLON) return undefined
  let value = colon + 1
  while (isBlank(body[value])) value += 1
  return value
}

/** Of OpenAI's: a data URL as it stands or as `url` of an object, or the address of an image. */
function findAddress(body: Buffer, value: number): Payload {
  const address = body[value] === OPEN_BRACE ? memberIn(body, value, URL_KEY) : value
  return (address === undefined ? undefined : payloadOf(body, address)) ?? 'none'
}

/** Of Messages: `{ type, media_type, data }`, or `{ type, url }`. A document has such a source too, and is no image. */
function findSource(body: Buffer, value: number, at: number): Payload {
  if (body[value] !== OPEN_BRACE) return undefined
  const data = memberIn(body, value, DATA_KEY)
  if (data === undefined) {
    const before = body.toString('latin1', Math.max(0, at - LONGEST_DISTANCE), at)
    return memberIn(body, value, URL_KEY) !== undefined && IMAGE_PART.test(before) ? 'none' : undefined
  }
  const type = memberIn(body, value, TYPE_KEY) ?? typeBehind(body, data)
  if (type === undefined || !IMAGE_TYPE.test(body.toString('latin1', type, type + 8))) return undefined
  return body[data] === QUOTE ? data + 1 : undefined
}

/** The type may stand behind the bytes. */
function typeBehind(body: Buffer, data: number): number | undefined {
  const end = body.indexOf(QUOTE, data + 1)
  if (end < 0) return undefined
  const at = body.subarray(end, end + LONGEST_DISTANCE).indexOf(TYPE_KEY)
  return at < 0 ? undefined : memberAt(body, end + at, TYPE_KEY.length)
}

/** The value of a member of the object that opens there, if it comes soon: other members of it are short. */
function memberIn(body: Buffer, open: number, key: Buffer): number | undefined {
  const front = body.subarray(open, open + LONGEST_DISTANCE)
  // The word may be the value of another member first: `"type":"url"`.
  for (let at = front.indexOf(key); at >= 0; at = front.indexOf(key, at + 1)) {
    const value = memberAt(body, open + at, key.length)
    if (value !== undefined) return value
  }
  return undefined
}

/** Where the payload of a data URL begins that is the string at `at`. */
function payloadOf(body: Buffer, at: number): number | undefined {
  if (body[at] !== QUOTE) return undefined
  const head = INLINE.exec(body.toString('latin1', at + 1, at + 1 + 2 * LONGEST_DISTANCE))?.[0]
  return head === undefined ? undefined : at + 1 + head.length
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}
