// Reads bytes as whoever undoes one layer of escaping reads them: JSON's escapes and percent-encoding. Only for looking
// at, with the way back to the bytes as they stand; what no visible ASCII comes of is not kept.

export interface Reading {
  readonly bytes: Uint8Array
  /** Where each byte of the reading begins in the original, and in the end where the last one ends. */
  readonly places: Uint32Array
}

/** One layer less; undefined when no visible ASCII character is escaped. `places`: of bytes that are a reading already. */
export function readEscapes(bytes: Uint8Array, places?: Uint32Array): Reading | undefined {
  const first = findEscape(bytes)
  if (first < 0) return undefined
  const { length } = bytes
  const read = new Uint8Array(length)
  const from = new Uint32Array(length + 1)
  let size = 0
  for (let at = 0; at < length; ) {
    from[size] = places?.[at] ?? at
    const found = escapeAt(bytes, at)
    if (found !== 0) {
      read[size++] = found & 0xff
      at += found >> 8
    } else if (bytes[at] === BACKSLASH && at + 1 < length) {
      const next = bytes[at + 1] ?? 0
      // A line feed stands for everything that is in no key: `\n`, `\t`, and what is beyond ASCII.
      read[size++] = next === BACKSLASH || next === QUOTE ? next : LINE_FEED
      at += 2
    } else read[size++] = bytes[at++] ?? 0
  }
  from[size] = places?.[length] ?? length
  return { bytes: read.subarray(0, size), places: from.subarray(0, size + 1) }
}

const BACKSLASH = 0x5c
const PERCENT = 0x25
const SLASH = 0x2f
const QUOTE = 0x22
const ZERO = 0x30
const LOWER_U = 0x75
const LINE_FEED = 0x0a

function findEscape(bytes: Uint8Array): number {
  const backslash = bytes.indexOf(BACKSLASH)
  const percent = bytes.indexOf(PERCENT)
  if (backslash < 0 && percent < 0) return -1
  const from = backslash < 0 ? percent : percent < 0 ? backslash : Math.min(backslash, percent)
  for (let at = from; at < bytes.length; at++) if (escapeAt(bytes, at) !== 0) return at
  return -1
}

/** The size of `\/`, `\u0043` or `%43` that begins here, times 256, plus its character; 0 for anything else. */
function escapeAt(bytes: Uint8Array, at: number): number {
  const byte = bytes[at]
  if (byte === PERCENT) return visible(bytes, at + 1, 3)
  if (byte !== BACKSLASH) return 0
  if (bytes[at + 1] === SLASH) return (2 << 8) | SLASH
  if (bytes[at + 1] !== LOWER_U || bytes[at + 2] !== ZERO || bytes[at + 3] !== ZERO) return 0
  return visible(bytes, at + 4, 6)
}

function visible(bytes: Uint8Array, at: number, size: number): number {
  const char = (digit(bytes[at]) << 4) | digit(bytes[at + 1])
  return char >= 0x20 && char < 0x7f ? (size << 8) | char : 0
}

/** The value of a hex digit; for anything else one that makes no visible character. */
function digit(byte = 0): number {
  if (byte >= ZERO && byte <= 0x39) return byte - ZERO
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : 0x100
}
