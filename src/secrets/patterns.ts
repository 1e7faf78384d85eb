// Scrubs what looks like a credential though nobody told us its value: key prefixes, authorization schemes, headers
// and fields that carry keys, keys in queries. Scanned by hand in one direction: every character is looked at a
// bounded number of times, whatever the text. Pure; meant to leave prose and ordinary log lines alone.

import {
  LOOK_BEHIND,
  MAX_HELD,
  REDACTED,
  replaceSpans,
  type TextStage,
  type TextStream,
} from './text-stage.ts'

/** How a value ends. */
type Stop =
  | { readonly kind: 'key' | 'value' | 'query' | 'line' | 'bytes' }
  | { readonly kind: 'quoted'; readonly quote: number; readonly slashes: number }

interface Match {
  readonly start: number
  readonly end: number
  readonly stop: Stop
}

/** `touched` is set when a look ran into the end of the text, so that more text could change the answer. */
interface View {
  readonly text: string
  touched: boolean
}

type Trigger = 'sk' | 'aiza' | 'scheme' | 'name' | 'query' | 'buffer'

interface Found {
  readonly trigger: Trigger
  readonly start: number
  readonly end: number
}

/** Scrubs credentials by their look. */
export function createPatterns(): TextStage {
  return {
    text(whole) {
      const spans: number[] = []
      scan({ text: whole, touched: false }, 0, spans)
      return spans.length === 0 ? whole : replaceSpans(whole, spans, 0, whole.length)
    },
    stream: createStream,
  }
}

function createStream(): TextStream {
  let context = ''
  let held = ''
  /** Set in the middle of a value whose replacement has left: what follows belongs to it until here. */
  let swallow: Stop | undefined

  function remember(text: string, upTo: number): void {
    context = text.slice(Math.max(0, upTo - LOOK_BEHIND), upTo)
    held = text.slice(upTo)
  }

  /** Ends a hold: judges the text as if it ended here. */
  function force(text: string, from: number): string {
    const spans: number[] = []
    const last = scan({ text, touched: false }, from, spans)
    swallow = last?.end === text.length ? last.stop : undefined
    remember(text, text.length)
    return replaceSpans(text, spans, from, text.length)
  }

  return {
    push(piece) {
      const text = context + held + piece
      let from = context.length
      if (swallow !== undefined) {
        from = endOf({ text, touched: false }, from, swallow)
        if (from === text.length) {
          // Backslashes may belong to the quote that ends the value, which stays.
          remember(text, from - slashesBefore(text, from))
          return ''
        }
        swallow = undefined
      }
      const spans: number[] = []
      const view = { text, touched: false }
      const hold = scanOpen(view, from, spans)
      const out = replaceSpans(text, spans, from, hold)
      if (text.length - hold > MAX_HELD) return out + force(text, hold)
      remember(text, hold)
      return out
    },
    flush: () => (held === '' ? '' : force(context + held, context.length)),
    pending: () => held !== '' || swallow !== undefined,
  }
}

/** Adds the spans to redact, as if the text were whole; gives the last of them. */
function scan(view: View, from: number, spans: number[]): Match | undefined {
  let last: Match | undefined
  let at = from
  while (true) {
    const found = nextTrigger(view.text, at)
    if (found === undefined) return last
    const match = judge(view, found)
    if (match !== undefined) {
      spans.push(match.start, match.end)
      last = match
    }
    at = match?.end ?? found.end
  }
}

/** The same for text that goes on: gives the place from which nothing may leave yet. */
function scanOpen(view: View, from: number, spans: number[]): number {
  let at = from
  while (true) {
    const found = nextTrigger(view.text, at)
    if (found === undefined) return beginningOfTrigger(view.text, at)
    view.touched = false
    const match = judge(view, found)
    if (view.touched) return found.start
    if (match !== undefined) spans.push(match.start, match.end)
    at = match?.end ?? found.end
  }
}

// --- where something may begin ---------------------------------------------------------------------------

/** Words that begin a look, as the end of a text may hold a part of them. */
const TRIGGERS: readonly string[] = [
  'sk-',
  'aiza',
  'bearer',
  'basic',
  'authorization',
  'api-key',
  'api_key',
  'apikey',
  'key=',
  '<buffer ',
]
const LONGEST_TRIGGER = 13

/**
 * The next trigger that begins at `from` or later. Each holds a rare letter (b, k or z) at which it is recognised;
 * all other characters cost three comparisons.
 */
function nextTrigger(text: string, from: number): Found | undefined {
  for (let i = from; i < text.length; i++) {
    const letter = text.charCodeAt(i) | 0x20
    if (letter !== 0x6b && letter !== 0x62 && letter !== 0x7a) continue
    const found = letter === 0x6b ? atK(text, i) : letter === 0x62 ? atB(text, i) : atZ(text, i)
    if (found !== undefined && found.start >= from) return found
  }
  return undefined
}

function atK(text: string, at: number): Found | undefined {
  const next = text.charCodeAt(at + 1)
  if (next === HYPHEN) {
    const start = at - 1
    if (text.slice(start, at + 2) !== 'sk-' || !beginsWord(text, start)) return undefined
    return { trigger: 'sk', start, end: at + 2 }
  }
  if ((next | 0x20) !== 0x65 || (text.charCodeAt(at + 2) | 0x20) !== 0x79) return undefined
  const before = text.charCodeAt(at - 1)
  const joined = before === HYPHEN || before === UNDERSCORE
  const start = at - (joined ? 4 : 3)
  if (start >= 0 && same(text, start, 'api')) return { trigger: 'name', start, end: at + 3 }
  if (text.charCodeAt(at + 3) !== EQUALS || !beginsQueryField(text, at)) return undefined
  return { trigger: 'query', start: at, end: at + 4 }
}

function atB(text: string, at: number): Found | undefined {
  if (same(text, at, 'bearer')) {
    return beginsWord(text, at) ? { trigger: 'scheme', start: at, end: at + 6 } : undefined
  }
  if (same(text, at, 'basic')) {
    return beginsWord(text, at) ? { trigger: 'scheme', start: at, end: at + 5 } : undefined
  }
  if (text.charCodeAt(at - 1) !== LESS || !same(text, at, 'buffer ')) return undefined
  return { trigger: 'buffer', start: at - 1, end: at + 7 }
}

function atZ(text: string, at: number): Found | undefined {
  const start = at - 7
  if (start >= 0 && same(text, start, 'authorization')) return { trigger: 'name', start, end: start + 13 }
  const key = at - 2
  if (text.slice(Math.max(0, key), at + 2) !== 'AIza' || !beginsWord(text, key)) return undefined
  return { trigger: 'aiza', start: key, end: at + 2 }
}

function same(text: string, at: number, lowerCase: string): boolean {
  for (let i = 0; i < lowerCase.length; i++) {
    const code = text.charCodeAt(at + i)
    const letter = code >= 0x41 && code <= 0x5a ? code | 0x20 : code
    if (letter !== lowerCase.charCodeAt(i)) return false
  }
  return true
}

/** Not in the middle of a word such as `task-`; an escape just before (`\n`, `%20`, `\u0022`) is no part of a word. */
function beginsWord(text: string, at: number): boolean {
  if (at <= 0 || !isAlphanumeric(text.charCodeAt(at - 1))) return true
  const before = text.slice(Math.max(0, at - 6), at)
  return /\\[nrtbf]$|%[0-9A-Fa-f]{2}$|\\u[0-9A-Fa-f]{4}$/.test(before)
}

function beginsQueryField(text: string, at: number): boolean {
  return /(?:[?&]|&amp;|%3[Ff]|%26|\\u0026)$/.test(text.slice(Math.max(0, at - 6), at))
}

/** Where the last characters could be the first part of a trigger; the end of the text if they could not. */
function beginningOfTrigger(text: string, from: number): number {
  for (let at = Math.max(from, text.length - LONGEST_TRIGGER + 1); at < text.length; at++) {
    const part = text.slice(at).toLowerCase()
    if (TRIGGERS.some((trigger) => trigger.startsWith(part))) return at
  }
  return text.length
}

// --- what follows it -------------------------------------------------------------------------------------

const SHORTEST_SK = 16
const SHORTEST_AIZA = 30
/** After a scheme or in a field without quotes, less than this is no credential. */
const SHORTEST_TOKEN = 8
const SHORTEST_VALUE = 4
/** `<Buffer aa bb …>` of eight bytes. */
const SHORTEST_BYTES = 23
/** Spaces, or backslashes before a quote, that are skipped at most. */
const MAX_SKIPPED = 16

function judge(view: View, found: Found): Match | undefined {
  switch (found.trigger) {
    case 'sk':
      return run(view, found, { kind: 'key' }, SHORTEST_SK)
    case 'aiza':
      return run(view, found, { kind: 'key' }, SHORTEST_AIZA)
    case 'buffer': {
      const end = endOf(view, found.end, { kind: 'bytes' })
      return end - found.end < SHORTEST_BYTES ? undefined : { start: found.end, end, stop: { kind: 'bytes' } }
    }
    case 'query': {
      const end = endOf(view, found.end, { kind: 'query' })
      return end === found.end ? undefined : { start: found.end, end, stop: { kind: 'query' } }
    }
    case 'scheme':
      return credential(view, found.end, { kind: 'value' }, SHORTEST_TOKEN)
    case 'name':
      return field(view, found)
  }
}

function run(view: View, { start, end }: Found, stop: Stop, least: number): Match | undefined {
  const valueEnd = endOf(view, end, stop)
  return valueEnd - end < least ? undefined : { start, end: valueEnd, stop }
}

/** What stands after `Bearer` or `Basic` and a space. */
function credential(view: View, from: number, stop: Stop, least: number): Match | undefined {
  let start = skipSpaces(view, from)
  if (start === from) {
    if (!reads(view, from, '%20')) return undefined
    start = from + 3
  }
  const end = endOf(view, start, stop)
  return end - start < least || isPlain(view.text, start, end) ? undefined : { start, end, stop }
}

/** `name: value`, `"name":"value"` at any depth of escaping, `NAME=value`, `['name', 'value']`. */
function field(view: View, found: Found): Match | undefined {
  const { text } = view
  // ANTHROPIC_API_KEY_2
  const after = text.slice(found.end, found.end + 5)
  if (after.length < 5 && /^_?\d{0,3}$/.test(after)) view.touched = true
  let at = found.end + (/^_?\d{1,3}(?!\d)/.exec(after)?.[0].length ?? 0)
  const closing = skipQuote(view, at)
  if (closing === undefined) return undefined
  const named = closing > at
  at = skipSpaces(view, closing)
  const separator = text.charCodeAt(at)
  if (separator === EQUALS && text.charCodeAt(at + 1) === GREATER) at += 1
  else if (separator !== COLON && separator !== EQUALS && !(separator === COMMA && named)) {
    if (!reads(view, at, '%3a') && !reads(view, at, '%3d')) return undefined
    at += 2
  }
  at = skipSpaces(view, at + 1)
  if (text.charCodeAt(at) === BRACKET) at = skipSpaces(view, at + 1)
  const opening = skipQuote(view, at)
  if (opening === undefined) return undefined
  if (opening > at) {
    const stop = { kind: 'quoted', quote: text.charCodeAt(opening - 1), slashes: opening - at - 1 } as const
    // These come before the search for the end: what is left alone must not be searched far, again and again.
    if (isReference(view, opening) || (separator === COMMA && !isHeaderName(text, found))) return undefined
    const end = endOf(view, opening, stop)
    if (end === opening || text.slice(opening, Math.min(end, opening + 11)) === REDACTED) return undefined
    if (separator === COMMA && isPlain(text, opening, end)) return undefined
    return { start: opening, end, stop }
  }
  if (separator === COMMA || at >= text.length) {
    if (at >= text.length) view.touched = true
    return undefined
  }
  return bare(view, at, separator === COLON ? { kind: 'value' } : { kind: 'query' })
}

/** A value without quotes: one word, or a scheme and one word, or a scheme with parameters to the end of the line. */
function bare(view: View, at: number, stop: Stop): Match | undefined {
  const { text } = view
  const end = endOf(view, at, stop)
  if (end - at <= MAX_SKIPPED + 4) {
    const scheme = text.slice(at, end).toLowerCase()
    if (scheme === 'digest' || scheme === 'signature' || scheme === 'aws4-hmac-sha256') {
      const start = skipSpaces(view, end)
      const lineEnd = endOf(view, start, { kind: 'line' })
      return start > end && lineEnd - start >= SHORTEST_TOKEN
        ? { start, end: lineEnd, stop: { kind: 'line' } }
        : undefined
    }
    if (SCHEMES.has(scheme)) return credential(view, end, stop, SHORTEST_VALUE)
  }
  if (isReference(view, at) || end - at < SHORTEST_VALUE || isPlain(text, at, end)) return undefined
  return { start: at, end, stop }
}

const SCHEMES: ReadonlySet<string> = new Set([
  'bearer',
  'basic',
  'token',
  'apikey',
  'negotiate',
  'ntlm',
  'hoba',
])

/** Whether the quoted word is all of a header's name, and not `"invalid_api_key"`. */
function isHeaderName(text: string, { start, end }: Found): boolean {
  const before = text.slice(Math.max(0, start - 8), start)
  return (
    /["'`](?:x-|x-goog-|proxy-)?$/i.test(before) &&
    isQuote(text.charCodeAt(text.charCodeAt(end) === BACKSLASH ? end + 1 : end))
  )
}

/** `env:NAME` says where a key is, not what it is. */
function isReference(view: View, at: number): boolean {
  return (
    reads(view, at, 'env:') ||
    reads(view, at, 'file:/') ||
    reads(view, at, 'vault:') ||
    reads(view, at, 'aws-sm:')
  )
}

/** Whether the text goes on with `word`, in any case; `touched` when it ends before that is sure. */
function reads(view: View, at: number, word: string): boolean {
  const part = view.text.slice(at, at + word.length).toLowerCase()
  if (part.length < word.length && word.startsWith(part)) view.touched = true
  return part === word
}

/** Prose, or an id of ours (`invalid`, `authentication-required`, `ci-runner-01`): words and short numbers. */
function isPlain(text: string, start: number, end: number): boolean {
  if (end - start > 64) return false
  const words = text.slice(start, end).replace(/[.:!?*]+$/, '')
  return /^(?:[A-Za-z]?[a-z]{0,15}(?:[A-Z][a-z]{2,15}){0,4}|[A-Z]{1,12})(?:[-._/](?:[A-Z]?[a-z]{0,15}|\d{1,6}))*$/.test(
    words,
  )
}

// --- the small steps -------------------------------------------------------------------------------------

const TAB = 0x09
const SPACE = 0x20
const QUOTE = 0x22
const APOSTROPHE = 0x27
const COMMA = 0x2c
const HYPHEN = 0x2d
const COLON = 0x3a
const LESS = 0x3c
const EQUALS = 0x3d
const GREATER = 0x3e
const BRACKET = 0x5b
const BACKSLASH = 0x5c
const UNDERSCORE = 0x5f
const BACKTICK = 0x60

const KEY = 1
const VALUE = 2
const QUERY = 4
const BYTES = 8
const CLASSES = new Uint8Array(128).map((_, code) => {
  const char = String.fromCharCode(code)
  const visible = code > 0x20 && code < 0x7f && !'"\'`\\,;<>(){}[]'.includes(char)
  return (
    (/[A-Za-z0-9_-]/.test(char) ? KEY : 0) |
    (visible ? VALUE : 0) |
    (visible && !'&#'.includes(char) ? QUERY : 0) |
    (/[0-9a-f ]/.test(char) ? BYTES : 0)
  )
})

/** The end of a value that ends as `stop` says; newlines end all of them. */
function endOf(view: View, from: number, stop: Stop): number {
  const { text } = view
  let at = from
  if (stop.kind === 'quoted') {
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (isLineEnd(code)) return at
      if (code !== stop.quote) continue
      const slashes = slashesBefore(text, at)
      // More backslashes than stood before the opening quote: a quote inside the value.
      if (slashes <= stop.slashes) return Math.max(from, at - slashes)
    }
  } else if (stop.kind === 'line') {
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (isLineEnd(code)) return at
      if (code === BACKSLASH && /[nr]/.test(text.charAt(at + 1))) return at
    }
  } else {
    const flag =
      stop.kind === 'key' ? KEY : stop.kind === 'value' ? VALUE : stop.kind === 'query' ? QUERY : BYTES
    const beyond = flag === VALUE || flag === QUERY
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (code < 128 ? ((CLASSES[code] ?? 0) & flag) === 0 : !beyond) return at
    }
  }
  view.touched = true
  return at
}

function slashesBefore(text: string, at: number): number {
  let count = 0
  while (count <= MAX_SKIPPED && text.charCodeAt(at - 1 - count) === BACKSLASH) count++
  return count
}

function skipSpaces(view: View, from: number): number {
  let at = from
  while (at - from < MAX_SKIPPED) {
    const code = view.text.charCodeAt(at)
    if (code !== SPACE && code !== TAB) break
    at++
  }
  if (at >= view.text.length) view.touched = true
  return at
}

/** The place after an optional quote with any backslashes before it; undefined when backslashes stand alone. */
function skipQuote(view: View, from: number): number | undefined {
  let at = from
  while (at - from < MAX_SKIPPED && view.text.charCodeAt(at) === BACKSLASH) at++
  if (at >= view.text.length) view.touched = true
  if (isQuote(view.text.charCodeAt(at))) return at + 1
  return at === from ? from : undefined
}

function isQuote(code: number): boolean {
  return code === QUOTE || code === APOSTROPHE || code === BACKTICK
}

function isLineEnd(code: number): boolean {
  return code === 0x0a || code === 0x0d
}

function isAlphanumeric(code: number): boolean {
  const letter = code | 0x20
  return (code >= 0x30 && code <= 0x39) || (letter >= 0x61 && letter <= 0x7a)
}
