// Hears answers out with the reader of src/, and with the parser of Node, so that one can be held against the other.

import { createRequire } from 'node:module'
import type { HeaderLookup } from '../../../../src/formats/format.ts'
import { AnswerReader, MalformedAnswer } from '../../../../src/upstream/http1/answer.ts'

/** What came of an answer. */
export interface Heard {
  status: number | undefined
  /** By a name in small letters. */
  header: HeaderLookup
  body: Buffer
  /** Undefined where it has not ended. */
  end: { readonly isReusable: boolean; readonly keptSeconds: number } | undefined
  /** After how many bytes it had ended; -1 where it has not. */
  endsAt: number
  error: string | undefined
}

export interface HearOptions {
  /** The server closes its side behind the last piece. */
  readonly closes?: boolean
  /** Hangs up at the first call of this kind. */
  readonly stopAt?: 'head' | 'data' | undefined
}

/** Buffer that is read into again and again, as that of a socket is: what is kept of it turns into rubbish. */
const shared = Buffer.alloc(256 * 1024)

/** Reads one answer, cut as told. Throws for whatever is no MalformedAnswer, and for a call in the wrong order. */
export function hear(pieces: readonly Buffer[], { closes = false, stopAt }: HearOptions = {}): Heard {
  const heard: Heard = {
    status: undefined,
    header: () => undefined,
    body: Buffer.alloc(0),
    end: undefined,
    endsAt: -1,
    error: undefined,
  }
  const chunks: Buffer[] = []
  let isOver = false
  const expectOpen = (what: string): void => {
    if (isOver) throw new Error(`${what} behind the end`)
  }
  const stopIf = (what: HearOptions['stopAt']): void => {
    if (stopAt !== what) return
    isOver = true
    reader.stop()
  }
  let at = 0
  const reader: AnswerReader = new AnswerReader({
    head(status, header) {
      expectOpen('a head')
      if (heard.status !== undefined) throw new Error('a second head')
      heard.status = status
      heard.header = header
      stopIf('head')
    },
    data(chunk) {
      expectOpen('a piece')
      if (heard.status === undefined) throw new Error('a piece before the head')
      if (chunk.length === 0) throw new Error('an empty piece')
      if (chunk.buffer === shared.buffer) throw new Error('a piece that is not its own')
      chunks.push(chunk)
      stopIf('data')
    },
    complete(isReusable, keptSeconds) {
      expectOpen('an end')
      if (heard.status === undefined) throw new Error('an end without a head')
      isOver = true
      heard.end = { isReusable, keptSeconds }
    },
  })
  reader.expect()
  try {
    for (const piece of pieces) {
      const bytes = shared.subarray(0, piece.length)
      piece.copy(bytes)
      reader.push(bytes)
      bytes.fill(0x58)
      at += piece.length
      if (heard.end !== undefined) {
        heard.endsAt = at
        break
      }
    }
    if (closes && !isOver) {
      const isEnd = reader.close()
      if (isEnd !== (heard.end !== undefined)) throw new Error('an end that was not told')
      if (isEnd) heard.endsAt = at
      else heard.error = 'closed'
    }
  } catch (error) {
    if (!(error instanceof MalformedAnswer)) throw error
    heard.error = error.message
  }
  heard.body = Buffer.concat(chunks)
  return heard
}

/** One byte at a time. */
export function toBytes(bytes: Buffer): Buffer[] {
  return Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))
}

// --- Node's own --------------------------------------------------------------------------------------------------

/** As much of Node's parser as is used here; it is not for the public, and has no types. */
interface NodeParser {
  initialize(type: number, resource: object, maxHeadBytes: number, lenient: number): void
  execute(bytes: Buffer, start: number, length: number): number | NodeFault
  finish(): undefined | NodeFault
  [event: number]: (...args: never[]) => void
}

interface NodeFault extends Error {
  readonly code: string
  readonly reason: string
}

interface NodeParserClass {
  new (): NodeParser
  readonly RESPONSE: number
  readonly kOnHeaders: number
  readonly kOnHeadersComplete: number
  readonly kOnBody: number
  readonly kOnMessageComplete: number
}

const { HTTPParser } = createRequire(import.meta.url)('node:_http_common') as { HTTPParser: NodeParserClass }
const LARGEST_HEAD = 1024 * 1024

/** What Node made of the same bytes: the first answer that is no interim one, and how many came in all. */
export interface HeardByNode {
  status: number | undefined
  /** Name, value, name, value; without the trailers. */
  headers: string[]
  body: Buffer
  isKept: boolean
  /** Answers that are none of 1xx: begun, and ended before the bytes ran out. */
  begun: number
  ended: number
  /** It ended with the connection. */
  endedByClose: boolean
  error: string | undefined
}

export function hearByNode(bytes: Buffer): HeardByNode {
  const heard: HeardByNode = {
    status: undefined,
    headers: [],
    body: Buffer.alloc(0),
    isKept: false,
    begun: 0,
    ended: 0,
    endedByClose: false,
    error: undefined,
  }
  const chunks: Buffer[] = []
  let pending: string[] = []
  let status = 0
  let isClosing = false
  const parser = new HTTPParser()
  parser.initialize(HTTPParser.RESPONSE, {}, LARGEST_HEAD, 0)
  parser[HTTPParser.kOnHeaders] = (headers: string[]) => {
    pending.push(...headers)
  }
  parser[HTTPParser.kOnHeadersComplete] = (
    _major: number,
    _minor: number,
    headers: string[] | undefined,
    _method: unknown,
    _url: unknown,
    code: number,
    _reason: string,
    _upgrade: boolean,
    isKept: boolean,
  ) => {
    status = code
    const all = [...pending, ...(headers ?? [])]
    pending = []
    if (code < 200) return
    heard.begun += 1
    if (heard.begun > 1) return
    heard.status = code
    heard.headers = all
    heard.isKept = isKept
  }
  parser[HTTPParser.kOnBody] = (chunk: Buffer) => {
    if (status >= 200 && heard.begun === 1) chunks.push(Buffer.from(chunk))
  }
  parser[HTTPParser.kOnMessageComplete] = () => {
    pending = []
    if (status < 200) return
    if (isClosing) heard.endedByClose = true
    else heard.ended += 1
  }
  const result = parser.execute(bytes, 0, bytes.length)
  if (result instanceof Error) heard.error = `${result.code}: ${result.reason}`
  isClosing = true
  const fault = parser.finish()
  if (heard.error === undefined && fault instanceof Error) heard.error = `${fault.code}: ${fault.reason}`
  heard.body = Buffer.concat(chunks)
  return heard
}
