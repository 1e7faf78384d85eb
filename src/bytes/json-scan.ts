// Reads a JSON object's top-level members out of bytes, without building the object. Knows bytes, nothing of
// models or HTTP. It is a full validator of RFC 8259, so that whatever it accepts, `JSON.parse` reads in the same
// way, and what two parsers could read in two ways is refused; bounded in depth and keys, so that no later parse
// can be blown up by a nesting bomb.

import { isUtf8 } from 'node:buffer'
import type { Span } from '../types.ts'

/** How deep and how wide a document may be. */
export interface ScanBounds {
  readonly depth: number
  readonly keys: number
  /** Elements of all lists together, but for the first of each. */
  readonly items: number
}

/**
 * Limits of design and issue: deep enough for any tool schema, far below what hurts `JSON.parse`. An element takes two
 * bytes here and a hundred once it is an object of another format; the most that are sent in earnest are 300,000, as
 * tokens to be made vectors of.
 */
export const SCAN_BOUNDS: ScanBounds = { depth: 128, keys: 200_000, items: 1_000_000 }

export type ScanFault = 'invalid' | 'ambiguous' | 'bomb' | 'forbidden'

/** The members of one object: name → span of its value, plus where a new first member can be written. */
export type Scan =
  | { readonly ok: true; readonly members: ReadonlyMap<string, Span>; readonly insertAt: number }
  | { readonly ok: false; readonly fault: ScanFault; readonly message: string; readonly param?: string }

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
const OPEN_ARRAY = 0x5b
const CLOSE_ARRAY = 0x5d

// What a byte means inside a string: 1 = goes on, 0 = stop and look (quote, backslash, control character).
const PLAIN = new Uint8Array(256).fill(1)
PLAIN.fill(0, 0, 0x20)
PLAIN[QUOTE] = 0
PLAIN[BACKSLASH] = 0

const HEX = new Uint8Array(256)
for (const digit of '0123456789abcdefABCDEF') HEX[digit.charCodeAt(0)] = 1

/**
 * Scans a whole document whose top level must be an object.
 *
 * Accepts exactly what `JSON.parse` accepts of it, less: text that is not UTF-8, more than `bounds` allow, and at
 * the top level `__proto__`, a name written twice, or a name written with escapes. Names are compared as bytes.
 */
export function scanObject(bytes: Buffer, bounds: ScanBounds = SCAN_BOUNDS): Scan {
  if (!isUtf8(bytes)) return invalid('The body is not valid UTF-8.')
  return scan(bytes, { from: 0, to: bytes.length, isFlat: !hasControls(bytes) }, bounds)
}

/** The same for an object that stands inside a document already scanned: `[span.start, span.end)`. */
export function scanNested(bytes: Buffer, span: Span, bounds: ScanBounds = SCAN_BOUNDS): Scan {
  return scan(bytes, { from: span.start, to: span.end, isFlat: false }, bounds)
}

/** Where to look. */
interface Stretch {
  readonly from: number
  readonly to: number
  /** There is no control character in it, so that a string ends where a quote or a backslash is found. */
  readonly isFlat: boolean
}

// One function without closures of its own: where it stands is then kept in registers and not in a scope.
function scan(bytes: Buffer, { from, to, isFlat }: Stretch, bounds: ScanBounds): Scan {
  const strings: Strings = { isFlat, backslash: -1 }
  const members = new Map<string, Span>()
  // One entry per open container: 1 for an object, 0 for an array. The first stands for the document.
  const inObject = [0]
  let depth = 0
  let keys = 0
  let items = 0
  /** The last top-level key, and where its value begins. */
  let name: string | undefined
  let start = 0
  let at = skipSpace(bytes, from, to)
  if (at >= to) return invalid('The body is empty.')
  if (bytes[at] !== OPEN_OBJECT) return invalid('The body must be a JSON object.')
  const insertAt = at + 1

  // Each turn of the loop stands where a member of an object, or another value, must begin.
  value: for (;;) {
    if (inObject[depth] === 1) {
      if (bytes[at] !== QUOTE || at >= to) return invalidAt(at, to)
      const end = skipString(bytes, at, to, strings)
      if (end < 0) return invalidAt(-end - 1, to)
      keys += 1
      if (keys > bounds.keys) {
        return { ok: false, fault: 'bomb', message: `The body has more than ${bounds.keys} keys.` }
      }
      if (depth === 1) {
        name = bytes.toString('utf8', at + 1, end - 1)
        const refused = refuseName(name, members)
        if (refused !== undefined) return refused
      }
      at = skipSpace(bytes, end, to)
      if (bytes[at] !== COLON || at >= to) return invalidAt(at, to)
      at = skipSpace(bytes, at + 1, to)
      if (depth === 1) start = at
    }

    const byte = at < to ? bytes[at] : -1
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (depth === bounds.depth) {
        return { ok: false, fault: 'bomb', message: `The body nests deeper than ${bounds.depth} levels.` }
      }
      depth += 1
      inObject[depth] = byte === OPEN_OBJECT ? 1 : 0
      at = skipSpace(bytes, at + 1, to)
      if (bytes[at] !== (byte === OPEN_OBJECT ? CLOSE_OBJECT : CLOSE_ARRAY) || at >= to) continue
      // An empty container: `at` stands on its closing bracket, which the loop below takes.
    } else {
      at = skipScalar(bytes, at, to, strings)
      if (at < 0) return invalidAt(-at - 1, to)
    }

    // A value is complete (or `at` stands on the bracket of an empty container): what comes next?
    for (;;) {
      const end = at
      at = skipSpace(bytes, at, to)
      const next = at < to ? bytes[at] : -1
      if (next === (inObject[depth] === 1 ? CLOSE_OBJECT : CLOSE_ARRAY)) {
        if (depth === 1) {
          if (name !== undefined) members.set(name, { start, end })
          at = skipSpace(bytes, at + 1, to)
          if (at < to) return invalid(`Unexpected text after the JSON object at byte ${at}.`)
          return { ok: true, members, insertAt }
        }
        depth -= 1
        at += 1
        continue
      }
      if (next !== COMMA) return invalidAt(at, to)
      if (depth === 1 && name !== undefined) members.set(name, { start, end })
      at = skipSpace(bytes, at + 1, to)
      if (inObject[depth] !== 1) {
        items += 1
        if (items > bounds.items) {
          const message = `The body has more than ${bounds.items} list elements.`
          return { ok: false, fault: 'bomb', message }
        }
      }
      continue value
    }
  }
}

/** A Scan where a top-level name could be read in two ways. */
function refuseName(name: string, members: ReadonlyMap<string, Span>): Scan | undefined {
  if (name.includes('\\')) {
    return { ok: false, fault: 'ambiguous', message: 'A top-level field name is written with escapes.' }
  }
  if (name === '__proto__') {
    return { ok: false, fault: 'forbidden', message: 'The field __proto__ is not allowed.', param: name }
  }
  if (members.has(name)) {
    const shown = name.slice(0, 64)
    return { ok: false, fault: 'ambiguous', message: `The field "${shown}" stands twice.`, param: shown }
  }
  return undefined
}

/** White space between the signs of JSON (RFC 8259 §2). */
export function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

function skipSpace(bytes: Buffer, from: number, to: number): number {
  let at = from
  while (at < to && isSpace(bytes[at])) at += 1
  return at
}

/** What is known of all strings of a document. */
interface Strings {
  readonly isFlat: boolean
  /** The first backslash at or behind the place where one was last looked for. */
  backslash: number
}

/** Strings that go on behind this are searched by the machine's own means: a call costs as much as 50 bytes by hand. */
const BY_HAND_BYTES = 32

/** Behind the closing quote of the string that opens at `from`; or −1 − position of the fault. */
function skipString(bytes: Buffer, from: number, to: number, strings: Strings): number {
  let at = from + 1
  for (;;) {
    const byHand = strings.isFlat ? Math.min(at + BY_HAND_BYTES, to) : to
    while (at < byHand && PLAIN[bytes[at] as number] === 1) at += 1
    if (at === byHand && at < to) at = nextStop(bytes, at, strings)
    if (at >= to) return -1 - to
    const byte = bytes[at]
    if (byte === QUOTE) return at + 1
    if (byte !== BACKSLASH) return -1 - at
    const escaped = at + 1 < to ? bytes[at + 1] : -1
    switch (escaped) {
      case QUOTE:
      case BACKSLASH:
      case 0x2f: // /
      case 0x62: // b
      case 0x66: // f
      case 0x6e: // n
      case 0x72: // r
      case 0x74: // t
        at += 2
        break
      case 0x75: // u
        for (let i = at + 2; i < at + 6; i += 1) if (i >= to || HEX[bytes[i] as number] !== 1) return -1 - i
        at += 6
        break
      default:
        return -1 - (at + 1)
    }
  }
}

/** The next quote or backslash. */
function nextStop(bytes: Buffer, from: number, strings: Strings): number {
  if (strings.backslash < from) strings.backslash = indexOrEnd(bytes, BACKSLASH, from)
  const quote = indexOrEnd(bytes, QUOTE, from)
  return quote < strings.backslash ? quote : strings.backslash
}

function indexOrEnd(bytes: Buffer, byte: number, from: number): number {
  const at = bytes.indexOf(byte, from)
  return at < 0 ? bytes.length : at
}

/** Whether there is a byte below 0x20: four at once (Hacker's Delight §6-1, a byte less than n). */
function hasControls(bytes: Buffer): boolean {
  const { length } = bytes
  const head = Math.min((4 - (bytes.byteOffset & 3)) & 3, length)
  for (let i = 0; i < head; i += 1) if ((bytes[i] as number) < 0x20) return true
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + head, (length - head) >> 2)
  let found = 0
  for (let i = 0; i < words.length; i += 1) {
    const word = words[i] as number
    found |= (word - 0x20202020) & ~word & 0x80808080
  }
  if (found !== 0) return true
  for (let i = head + words.length * 4; i < length; i += 1) if ((bytes[i] as number) < 0x20) return true
  return false
}

/** Behind the string, number or word at `from`; or −1 − position of the fault. */
function skipScalar(bytes: Buffer, from: number, to: number, strings: Strings): number {
  const first = from < to ? bytes[from] : -1
  switch (first) {
    case QUOTE:
      return skipString(bytes, from, to, strings)
    case 0x74:
      return skipWord(bytes, from, to, 'true')
    case 0x66:
      return skipWord(bytes, from, to, 'false')
    case 0x6e:
      return skipWord(bytes, from, to, 'null')
    default:
      return skipNumber(bytes, from, to)
  }
}

function skipWord(bytes: Buffer, from: number, to: number, word: string): number {
  for (let i = 0; i < word.length; i += 1) {
    if (from + i >= to || bytes[from + i] !== word.charCodeAt(i)) return -1 - (from + i)
  }
  return from + word.length
}

function skipNumber(bytes: Buffer, from: number, to: number): number {
  let at = from
  if (bytes[at] === 0x2d) at += 1
  if (at < to && bytes[at] === 0x30) at += 1
  else {
    const digits = skipDigits(bytes, at, to)
    if (digits === at) return -1 - at
    at = digits
  }
  if (at < to && bytes[at] === 0x2e) {
    const digits = skipDigits(bytes, at + 1, to)
    if (digits === at + 1) return -1 - digits
    at = digits
  }
  if (at < to && (bytes[at] === 0x65 || bytes[at] === 0x45)) {
    at += 1
    if (at < to && (bytes[at] === 0x2b || bytes[at] === 0x2d)) at += 1
    const digits = skipDigits(bytes, at, to)
    if (digits === at) return -1 - at
    at = digits
  }
  return at
}

function skipDigits(bytes: Buffer, from: number, to: number): number {
  let at = from
  while (at < to && (bytes[at] as number) >= 0x30 && (bytes[at] as number) <= 0x39) at += 1
  return at
}

function invalid(message: string): Scan {
  return { ok: false, fault: 'invalid', message }
}

function invalidAt(at: number, to: number): Scan {
  return invalid(at >= to ? 'The JSON body ends too early.' : `The body is not valid JSON at byte ${at}.`)
}
