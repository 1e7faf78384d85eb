// Reads an HTTP/1.1 answer as it comes off a connection: its head, where its body ends, and whether another request may
// follow. Pure: bytes in, calls to a sink out. Stricter than RFC 9112 asks of a client: whatever two readers could take
// in two ways is an error, and the connection that it came on ends with it.

import type { HeaderLookup } from '../../formats/format.ts'

/** Hears an answer: `head` once, `data` any number of times with bytes that are its own, then `complete`. */
export interface Sink {
  head(status: number, header: HeaderLookup): void
  data(chunk: Buffer): void
  /** `isReusable`: nothing stands behind the answer, and its server keeps the connection for so many seconds. */
  complete(isReusable: boolean, keptSeconds: number): void
}

/** What is no HTTP answer, or could be read in two ways. Its message says where, never what stood there. */
export class MalformedAnswer extends Error {
  override readonly name = 'MalformedAnswer'
  readonly code = 'MALFORMED_ANSWER'
}

/** The status line and all headers, and once more all of them together behind a chunked body. */
export const MAX_HEAD_BYTES = 16 * 1024
export const MAX_CHUNK_LINE_BYTES = 1024
/** Answers of 1xx before the one that counts. */
export const MAX_INTERIM = 16
/** How long a server keeps a connection that says nothing of it. */
const KEPT_SECONDS = 30
const LONGEST_KEPT_SECONDS = 300

const CR = 0x0d
const LF = 0x0a
const TAB = 0x09
const SPACE = 0x20
const COLON = 0x3a
const SEMICOLON = 0x3b
const HEAD_END = Buffer.from('\r\n\r\n')

/** So much without an end can only be too long: all but a byte of the end may stand behind the longest head. */
const LONGEST_HELD = MAX_HEAD_BYTES + HEAD_END.length

const TOKEN = toTable("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
/** What a header's value and a reason phrase are made of: visible characters, blanks, and what is no ASCII. */
const TEXT = toTable('\t ', [0x21, 0x7e], [0x80, 0xff])
/** What an extension of a chunk is made of here: nothing that could hide an end of its line. */
const EXTENSION = toTable('!#$%&\'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz;="')

/** What the next byte belongs to. */
const HEAD = 0
const FIXED = 1
const TO_CLOSE = 2
const SIZE = 3
const SIZE_REST = 4
const SIZE_LF = 5
const CHUNK = 6
const CHUNK_CR = 7
const CHUNK_LF = 8
const TRAILER = 9
const TRAILER_NAME = 10
const TRAILER_VALUE = 11
const TRAILER_LF = 12
const LAST_LF = 13
/** Between answers, or behind the last one. */
const NONE = 14

/**
 * Reads the answers of one connection, one after the other. After an error, or after `stop`, it takes nothing more.
 */
export class AnswerReader {
  readonly #sink: Sink
  #state = NONE
  /** The beginning of a head whose end has not come. */
  #held: Buffer | undefined = undefined
  /** Bytes that are missing of the body, or of its chunk. */
  #left = 0
  #digits = 0
  /** Bytes of the line of a chunk, or of the trailers. */
  #lineBytes = 0
  #interim = 0
  #keptSeconds = KEPT_SECONDS
  #isKept = false

  constructor(sink: Sink) {
    this.#sink = sink
  }

  /** A request has gone out. */
  expect(): void {
    this.#state = HEAD
    this.#held = undefined
    this.#interim = 0
  }

  /** Nothing more is to be heard. */
  stop(): void {
    this.#state = NONE
    this.#held = undefined
  }

  /**
   * Takes what came, cut anywhere. `bytes` is read before this returns, and no part of it is kept.
   * @throws MalformedAnswer where it is no answer, or none was asked for
   */
  push(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length) {
      switch (this.#state) {
        case HEAD:
          at = this.#takeHead(bytes, at)
          break
        case FIXED:
        case CHUNK:
        case TO_CLOSE:
          at = this.#takeBody(bytes, at)
          break
        case NONE:
          // Behind an answer that has just ended, which has said that nobody may follow; or behind one that was given up.
          if (at > 0) return
          throw new MalformedAnswer('bytes that nobody asked for')
        default:
          at = this.#takeFraming(bytes, at)
      }
    }
  }

  /** The server has closed its side. Whether that was the end of an answer. */
  close(): boolean {
    if (this.#state !== TO_CLOSE) return false
    this.#state = NONE
    this.#sink.complete(false, 0)
    return true
  }

  // --- head ----------------------------------------------------------------------------------------------------

  #takeHead(bytes: Buffer, at: number): number {
    const held = this.#held
    if (held === undefined) {
      const end = bytes.indexOf(HEAD_END, at)
      if (end - at > MAX_HEAD_BYTES || (end < 0 && bytes.length - at >= LONGEST_HELD)) throw tooLong()
      if (end < 0) {
        this.#held = Buffer.from(bytes.subarray(at))
        return bytes.length
      }
      return this.#readHead(bytes, at, end)
    }
    // Its end may stand across the cut.
    const some = bytes.subarray(at, at + MAX_HEAD_BYTES + HEAD_END.length)
    const joined = Buffer.concat([held, some])
    const end = joined.indexOf(HEAD_END, Math.max(0, held.length - HEAD_END.length + 1))
    if (end > MAX_HEAD_BYTES || (end < 0 && joined.length >= LONGEST_HELD)) throw tooLong()
    if (end < 0) {
      this.#held = joined
      return bytes.length
    }
    this.#held = undefined
    return at + this.#readHead(joined, 0, end) - held.length
  }

  /** Reads the head that stands in `[start, end)`; gives where its body begins. */
  #readHead(bytes: Buffer, start: number, end: number): number {
    const isNewer = isVersion(bytes, start)
    const status = statusOf(bytes, start)
    const head = new Head(bytes, start, end)
    const behind = end + HEAD_END.length
    if (status < 200) {
      // Nobody has asked for another protocol.
      if (status === 101) throw new MalformedAnswer('a change of protocol that nobody asked for')
      this.#interim += 1
      if (this.#interim > MAX_INTERIM) throw new MalformedAnswer('too many interim answers')
      // Whoever reads a body there, or an end, takes what we read as the next answer for it, or for nothing.
      if (head.has('content-length') || head.has('transfer-encoding') || !isNewer || head.saysClose())
        throw new MalformedAnswer('an interim answer that says how it ends')
      return behind
    }
    this.#isKept = isNewer && !head.saysClose()
    this.#keptSeconds = this.#isKept ? keptSeconds(head.all('keep-alive')) : 0
    this.#state = this.#framingOf(head, status, isNewer)
    this.#sink.head(status, (name) => head.first(name))
    if (this.#state === FIXED && this.#left === 0) this.#complete(behind === bytes.length)
    return behind
  }

  /** RFC 9112 §6.3, without its mercies. */
  #framingOf(head: Head, status: number, isNewer: boolean): number {
    const coding = head.all('transfer-encoding')
    const length = head.all('content-length')
    if (coding.length > 0) {
      if (length.length > 0) throw new MalformedAnswer('both content-length and transfer-encoding')
      if (!isNewer || coding.length > 1 || coding[0]?.toLowerCase() !== 'chunked')
        throw new MalformedAnswer('a transfer-encoding that is not chunked')
    }
    this.#left = length.length === 0 ? 0 : toLength(length)
    if (status === 204 || status === 304) {
      // Whatever is said of their body, there is none; but whoever says so may send one.
      if (this.#left > 0 || coding.length > 0) this.#isKept = false
      this.#left = 0
      return FIXED
    }
    if (coding.length > 0) {
      this.#beginChunk()
      return SIZE
    }
    if (length.length > 0) return FIXED
    this.#isKept = false
    return TO_CLOSE
  }

  // --- body ----------------------------------------------------------------------------------------------------

  #takeBody(bytes: Buffer, at: number): number {
    const rest = bytes.length - at
    const state = this.#state
    const isAll = state === TO_CLOSE || rest < this.#left
    const end = isAll ? bytes.length : at + this.#left
    const piece = Buffer.from(at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end))
    if (state !== TO_CLOSE) {
      this.#left -= end - at
      if (this.#left === 0 && state === CHUNK) this.#state = CHUNK_CR
    }
    this.#sink.data(piece)
    // Who hears it may have hung up.
    if (this.#state === FIXED && this.#left === 0) this.#complete(end === bytes.length)
    return this.#state === NONE ? bytes.length : end
  }

  #beginChunk(): void {
    this.#left = 0
    this.#digits = 0
    this.#lineBytes = 0
  }

  /** What stands between chunks and behind the last one. */
  #takeFraming(bytes: Buffer, from: number): number {
    let at = from
    while (at < bytes.length) {
      const byte = bytes[at] as number
      at += 1
      switch (this.#state) {
        case SIZE: {
          const digit = toDigit(byte)
          if (digit >= 0) {
            // Eleven digits are 16 TiB, and stay whole numbers.
            this.#digits += 1
            if (this.#digits > 11) throw new MalformedAnswer('a chunk that is too long')
            this.#left = this.#left * 16 + digit
            break
          }
          if (this.#digits === 0) throw new MalformedAnswer('a chunk without a size')
          if (byte === CR) this.#state = SIZE_LF
          else if (byte === SEMICOLON) this.#state = SIZE_REST
          else throw new MalformedAnswer('the size of a chunk')
          break
        }
        case SIZE_REST:
          this.#lineBytes += 1
          if (this.#lineBytes > MAX_CHUNK_LINE_BYTES) throw tooLong()
          if (byte === CR) this.#state = SIZE_LF
          else if (EXTENSION[byte] !== 1) throw new MalformedAnswer('an extension of a chunk')
          break
        case SIZE_LF:
          expectByte(byte, LF, 'the end of the line of a chunk')
          if (this.#left > 0) {
            this.#state = CHUNK
            return at
          }
          this.#state = TRAILER
          this.#lineBytes = 0
          break
        case CHUNK_CR:
          expectByte(byte, CR, 'the end of a chunk')
          this.#state = CHUNK_LF
          break
        case CHUNK_LF:
          expectByte(byte, LF, 'the end of a chunk')
          this.#beginChunk()
          this.#state = SIZE
          break
        case LAST_LF:
          expectByte(byte, LF, 'the end of the trailers')
          this.#complete(at === bytes.length)
          return bytes.length
        default:
          this.#takeTrailer(byte)
      }
    }
    return at
  }

  /** Trailers are read for their end alone. */
  #takeTrailer(byte: number): void {
    this.#lineBytes += 1
    if (this.#lineBytes > MAX_HEAD_BYTES) throw tooLong()
    switch (this.#state) {
      case TRAILER:
        if (byte === CR) this.#state = LAST_LF
        else if (TOKEN[byte] === 1) this.#state = TRAILER_NAME
        else throw new MalformedAnswer('a trailer')
        return
      case TRAILER_NAME:
        if (byte === COLON) this.#state = TRAILER_VALUE
        else if (TOKEN[byte] !== 1) throw new MalformedAnswer('the name of a trailer')
        return
      case TRAILER_VALUE:
        if (byte === CR) this.#state = TRAILER_LF
        else if (TEXT[byte] !== 1) throw new MalformedAnswer('the value of a trailer')
        return
      default:
        expectByte(byte, LF, 'the end of a trailer')
        this.#state = TRAILER
    }
  }

  /** Behind an answer nothing may stand: what does was not asked for, and is the answer to nobody's request. */
  #complete(isAlone: boolean): void {
    this.#state = NONE
    this.#sink.complete(isAlone && this.#isKept, this.#keptSeconds)
  }
}

/** The headers of an answer, as they came: few of them are ever asked for. */
class Head {
  readonly #text: string
  /** Of each: where its name begins and ends, and its value. */
  readonly #spans: number[] = []

  /** @throws MalformedAnswer */
  constructor(bytes: Buffer, start: number, end: number) {
    this.#text = bytes.toString('latin1', start, end)
    let at = start + STATUS_BYTES
    // `HTTP/1.1 200` alone is what some servers say (RFC 9112 §4 asks for a blank).
    if (at < end && bytes[at] !== CR && bytes[at] !== SPACE) throw new MalformedAnswer('the status line')
    at = endOfText(bytes, at)
    while (at < end) {
      at = expectBreak(bytes, at)
      const name = at
      while (TOKEN[bytes[at] as number] === 1) at += 1
      // No blank before the colon, and no line that goes on with the one before it: RFC 9112 §5.1, §5.2.
      if (at === name || bytes[at] !== COLON) throw new MalformedAnswer('the name of a header')
      const nameEnd = at
      at += 1
      while (isBlank(bytes[at])) at += 1
      const value = at
      at = endOfText(bytes, at)
      let valueEnd = at
      while (valueEnd > value && bytes[valueEnd - 1] === SPACE) valueEnd -= 1
      // A blank to RFC 9110 §5.5, a part of the value to some: to Node `chunked` and a tab is no `chunked`.
      if (valueEnd > value && bytes[valueEnd - 1] === TAB) throw new MalformedAnswer('the end of a header')
      this.#spans.push(name - start, nameEnd - start, value - start, valueEnd - start)
    }
    if (at !== end) throw new MalformedAnswer('the end of the head')
  }

  /** The first value by a name in small letters; undefined where there is none. */
  first(name: string): string | undefined {
    const spans = this.#spans
    for (let i = 0; i < spans.length; i += 4) if (this.#isNamed(i, name)) return this.#valueAt(i)
    return undefined
  }

  has(name: string): boolean {
    const spans = this.#spans
    for (let i = 0; i < spans.length; i += 4) if (this.#isNamed(i, name)) return true
    return false
  }

  all(name: string): readonly string[] {
    const spans = this.#spans
    let values: string[] | undefined
    for (let i = 0; i < spans.length; i += 4) {
      if (!this.#isNamed(i, name)) continue
      values ??= []
      values.push(this.#valueAt(i))
    }
    return values ?? NO_VALUES
  }

  /** Whether its server ends the connection behind it. Some proxies say so under a name of their own. */
  saysClose(): boolean {
    return says(this.all('connection'), 'close') || says(this.all('proxy-connection'), 'close')
  }

  #valueAt(i: number): string {
    return this.#text.slice(this.#spans[i + 2], this.#spans[i + 3])
  }

  #isNamed(i: number, name: string): boolean {
    const start = this.#spans[i] as number
    if ((this.#spans[i + 1] as number) - start !== name.length) return false
    const text = this.#text
    for (let k = 0; k < name.length; k += 1) {
      const code = text.charCodeAt(start + k)
      const small = code >= 0x41 && code <= 0x5a ? code + 0x20 : code
      if (small !== name.charCodeAt(k)) return false
    }
    return true
  }
}

/** Whether lists have a member, whatever its letters. */
function says(lists: readonly string[], member: string): boolean {
  for (const list of lists)
    for (const one of list.split(',')) if (one.trim().toLowerCase() === member) return true
  return false
}

const NO_VALUES: readonly string[] = []
/** `HTTP/1.1 200` */
const STATUS_BYTES = 12
const VERSION = Buffer.from('HTTP/1.')

/** Whether it is 1.1. @throws MalformedAnswer where it is neither that nor 1.0 */
function isVersion(bytes: Buffer, start: number): boolean {
  for (let i = 0; i < VERSION.length; i += 1)
    if (bytes[start + i] !== VERSION[i]) throw new MalformedAnswer('the version')
  const minor = bytes[start + 7]
  if ((minor !== 0x31 && minor !== 0x30) || bytes[start + 8] !== SPACE)
    throw new MalformedAnswer('the version')
  return minor === 0x31
}

function statusOf(bytes: Buffer, start: number): number {
  let status = 0
  for (let i = 9; i < STATUS_BYTES; i += 1) {
    const digit = (bytes[start + i] as number) - 0x30
    if (!(digit >= 0 && digit <= 9)) throw new MalformedAnswer('the status')
    status = status * 10 + digit
  }
  if (status < 100 || status > 599) throw new MalformedAnswer('the status')
  return status
}

function toLength(values: readonly string[]): number {
  const [value = ''] = values
  // One alone, and short enough to be a whole number.
  if (values.length > 1 || !/^\d{1,15}$/.test(value)) throw new MalformedAnswer('the content-length')
  return Number(value)
}

/** The hint of `timeout=N`, a second less, as our request takes its time to get there. */
function keptSeconds(values: readonly string[]): number {
  const said = values.length === 0 ? undefined : /(?:^|[\s,;])timeout=(\d{1,9})/i.exec(values.join(','))?.[1]
  return said === undefined ? KEPT_SECONDS : Math.min(Math.max(Number(said) - 1, 0), LONGEST_KEPT_SECONDS)
}

function endOfText(bytes: Buffer, from: number): number {
  let at = from
  while (TEXT[bytes[at] as number] === 1) at += 1
  return at
}

/** @throws MalformedAnswer where no line ends there as lines do; a head always ends with one that does */
function expectBreak(bytes: Buffer, at: number): number {
  if (bytes[at] !== CR || bytes[at + 1] !== LF) throw new MalformedAnswer('the end of a line')
  return at + 2
}

function expectByte(byte: number, expected: number, where: string): void {
  if (byte !== expected) throw new MalformedAnswer(where)
}

function isBlank(byte: number | undefined): boolean {
  return byte === SPACE || byte === TAB
}

/** The value of a hexadecimal digit; -1 for what is none. */
function toDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const small = byte | 0x20
  return small >= 0x61 && small <= 0x66 ? small - 0x57 : -1
}

function tooLong(): MalformedAnswer {
  return new MalformedAnswer('too long')
}

function toTable(characters: string, ...ranges: readonly (readonly [number, number])[]): Uint8Array {
  const table = new Uint8Array(256)
  for (const character of characters) table[character.charCodeAt(0)] = 1
  for (const [first, last] of ranges) table.fill(1, first, last + 1)
  return table
}
