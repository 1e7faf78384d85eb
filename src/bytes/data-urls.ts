// Finds the base64 payloads in a JSON body: images and files, whose bytes say nothing about their tokens.

const MARK = Buffer.from(';base64,')
const QUOTE = 0x22
const BACKSLASH = 0x5c

/** How many data URLs a body holds, and how many bytes their payloads take. */
export function measureDataUrls(body: Buffer): { readonly count: number; readonly bytes: number } {
  let count = 0
  let bytes = 0
  for (let at = body.indexOf(MARK); at >= 0; at = body.indexOf(MARK, at)) {
    const from = at + MARK.length
    const end = body.indexOf(QUOTE, from)
    at = end < 0 ? body.length : end
    if (!opensString(body, from - MARK.length)) continue
    count += 1
    bytes += at - from
  }
  return { count, bytes }
}

/** Longest media type looked at, parameters included. */
const LONGEST_TYPE = 128

/** Whether the text up to `end` is the beginning of a JSON string: `"data:image/png`, and no mention of one in prose. */
function opensString(body: Buffer, end: number): boolean {
  const start = body.lastIndexOf(QUOTE, end)
  if (start < 0 || end - start > LONGEST_TYPE || body[start - 1] === BACKSLASH) return false
  return body.toString('latin1', start + 1, start + 6) === 'data:'
}
