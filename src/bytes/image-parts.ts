// Finds the images of a conversation: parts that a provider takes for images, whose bytes say nothing about their
// tokens. Whatever else looks like one (text that begins like a data URL, a default in the schema of a tool, a file of
// text in base64) is text to the model that reads it, and counts as that.

import type { Span } from '../types.ts'

const KEY = Buffer.from('"image_url"')
const URL_KEY = Buffer.from('"url"')
const QUOTE = 0x22
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const COMMA = 0x2c
/** How far into its object the address of an image is looked for, and into an address for the end of its type. */
const LONGEST_DISTANCE = 128
const INLINE = /^data:(?:image|audio|video)\/[^,";]{0,64}(?:;[^,";]{1,64})*;base64,/i

/** How many images stand in a part of a body, and how many bytes the payloads of their data URLs take. */
export function measureImages(
  body: Buffer,
  span: Span | undefined,
): { readonly count: number; readonly bytes: number } {
  let count = 0
  let bytes = 0
  if (span === undefined) return { count, bytes }
  for (let at = body.indexOf(KEY, span.start); at >= 0 && at < span.end; ) {
    const value = memberAt(body, at, KEY.length)
    let next = at + KEY.length
    if (value !== undefined) {
      count += 1
      const address = body[value] === OPEN_BRACE ? addressIn(body, value) : value
      const payload = address === undefined ? undefined : payloadOf(body, address)
      if (payload !== undefined) {
        const end = body.indexOf(QUOTE, payload)
        next = end < 0 || end > span.end ? span.end : end
        bytes += next - payload
      }
    }
    at = body.indexOf(KEY, next)
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

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}
