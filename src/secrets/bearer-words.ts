// Scrubs bearers of which only the SHA-256 is known: every word that could be one is hashed and looked up. Pure,
// but for the question whether a digest is a known bearer's, which is asked anew each time.

import { hash } from 'node:crypto'
import { LOOK_BEHIND, MAX_HELD, replaceSpans, type TextStage, type TextStream } from './text-stage.ts'

const SHORTEST = 16
const LONGEST = 200
/** Words of log lines repeat; their digests are kept so that a line costs look-ups, not hashes. */
const MAX_KNOWN = 2048

/** The characters of a bearer: RFC 6750 §2.1. */
const WORD = new Uint8Array(128).map((_, code) =>
  /[A-Za-z0-9._~+/=-]/.test(String.fromCharCode(code)) ? 1 : 0,
)

/** Scrubs the words whose SHA-256 (lower-case hex) is a known bearer's. */
export function createBearerWords(isBearerDigest: (hex: string) => boolean): TextStage {
  const digests = new Map<string, string>()

  function isBearer(word: string): boolean {
    let digest = digests.get(word)
    if (digest === undefined) {
      digest = hash('sha256', word, 'hex')
      if (digests.size >= MAX_KNOWN) digests.clear()
      digests.set(word, digest)
    }
    return isBearerDigest(digest)
  }

  function scan(text: string, from: number, to: number): number[] {
    const spans: number[] = []
    for (let at = from; at < to; at++) {
      if (!isWord(text.charCodeAt(at))) continue
      const end = endOfWord(text, at, to)
      if (end - at >= SHORTEST) {
        for (const span of bearersIn(text, at, end)) spans.push(...span)
      }
      at = end
    }
    return spans
  }

  /** The whole word, or else its parts between `/` and `=`. */
  function bearersIn(text: string, start: number, end: number): [number, number][] {
    const from = start + lengthOfEscape(text, start)
    if (isOurId(text, from, end)) return []
    for (const span of readings(text, start, from, end))
      if (fits(span) && isBearer(text.slice(...span))) return [span]
    const found: [number, number][] = []
    let at = from
    for (let i = from; i <= end; i++) {
      const code = text.charCodeAt(i)
      if (i < end && code !== SLASH && code !== EQUALS) continue
      const span = trim(text, at, i)
      if (!(at === from && i === end) && fits(span) && isBearer(text.slice(...span))) found.push(span)
      at = i + 1
    }
    return found
  }

  function createStream(): TextStream {
    let context = ''
    let held = ''

    function release(text: string, from: number, to: number): string {
      const out = replaceSpans(text, scan(text, from, to), from, to)
      context = text.slice(Math.max(0, to - LOOK_BEHIND), to)
      held = text.slice(to)
      return out
    }

    return {
      push(piece) {
        const text = context + held + piece
        let to = text.length
        while (to > context.length && isWord(text.charCodeAt(to - 1))) to--
        return release(text, context.length, text.length - to > MAX_HELD ? text.length : to)
      },
      flush: () => (held === '' ? '' : release(context + held, context.length, context.length + held.length)),
      pending: () => held !== '',
    }
  }

  return {
    text(whole) {
      const spans = scan(whole, 0, whole.length)
      return spans.length === 0 ? whole : replaceSpans(whole, spans, 0, whole.length)
    },
    stream: createStream,
  }
}

const SLASH = 0x2f
const EQUALS = 0x3d
const BACKSLASH = 0x5c
const PERCENT = 0x25

function isWord(code: number): boolean {
  return code < 128 && WORD[code] === 1
}

function endOfWord(text: string, from: number, to: number): number {
  let at = from
  while (at < to && isWord(text.charCodeAt(at))) at++
  return at
}

function fits([start, end]: readonly [number, number]): boolean {
  return end - start >= SHORTEST && end - start <= LONGEST
}

/** As it stands, without a leading escape, and without the punctuation of a sentence. */
function readings(text: string, start: number, from: number, end: number): [number, number][] {
  const spans: [number, number][] = [[start, end]]
  if (from !== start) spans.push([from, end])
  const trimmed = trim(text, from, end)
  if (trimmed[0] !== from || trimmed[1] !== end) spans.push(trimmed)
  return spans
}

function trim(text: string, start: number, end: number): [number, number] {
  let from = start
  let to = end
  while (from < to && isPunctuation(text.charCodeAt(from))) from++
  while (to > from && isPunctuation(text.charCodeAt(to - 1))) to--
  return [from, to]
}

function isPunctuation(code: number): boolean {
  return '._~+/=-'.includes(String.fromCharCode(code)) && code !== 0x5f
}

/** The letters of `\n` or `%20` before a word are read as its own. */
function lengthOfEscape(text: string, start: number): number {
  const before = text.charCodeAt(start - 1)
  if (before === BACKSLASH) return /^u[0-9A-Fa-f]{4}/.test(text.slice(start, start + 5)) ? 5 : 1
  return before === PERCENT ? 2 : 0
}

/** Request ids (`req_…`) and plain numbers stand in most lines and are nobody's bearer. */
function isOurId(text: string, from: number, end: number): boolean {
  if (text.startsWith('req_', from)) return true
  for (let i = from; i < end; i++) {
    const code = text.charCodeAt(i)
    if (code < 0x30 || code > 0x39) return false
  }
  return true
}
