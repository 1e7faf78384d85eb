// How an answer is read off a connection: line by line what comes of it, whole and cut anywhere.

import { describe, expect, it } from 'vitest'
import {
  AnswerReader,
  MAX_CHUNK_LINE_BYTES,
  MAX_HEAD_BYTES,
  MAX_INTERIM,
  MalformedAnswer,
} from '../../../../src/upstream/http1/answer.ts'
import { type HearOptions, hear, toBytes } from './hearing.ts'

/** What is said, and what comes of it. */
type Good = readonly [
  name: string,
  text: string,
  expected: {
    readonly status?: number
    readonly body?: string
    /** Seconds that the connection is kept; false where it serves nobody else. */
    readonly kept?: number | false
    readonly headers?: Readonly<Record<string, string | undefined>>
  },
]

const OK = 'HTTP/1.1 200 OK\r\n'
const EMPTY = 'content-length: 0\r\n\r\n'
const CHUNKED = `${OK}transfer-encoding: chunked\r\n\r\n`
const EARLY = 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n'
/** A head of so many bytes without the empty line behind it. */
const headOf = (bytes: number): string => {
  const start = `${OK}content-length: 0\r\nx: `
  return `${start}${'y'.repeat(bytes - start.length)}\r\n\r\n`
}

const GOOD: readonly Good[] = [
  ['a body of a length', `${OK}content-length: 5\r\n\r\nhello`, { body: 'hello' }],
  ['no body', `${OK}${EMPTY}`, {}],
  ['a length with noughts before it', `${OK}content-length: 0005\r\n\r\nhello`, { body: 'hello' }],
  ['a length with blanks around it', `${OK}content-length: \t 5  \r\n\r\nhello`, { body: 'hello' }],
  ['a body in one chunk', `${CHUNKED}5\r\nhello\r\n0\r\n\r\n`, { body: 'hello' }],
  ['a body in chunks', `${CHUNKED}2\r\nhe\r\n00003\r\nllo\r\n000\r\n\r\n`, { body: 'hello' }],
  [
    'sizes in letters of both cases',
    `${CHUNKED}a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n`,
    { body: '01234567890123456789' },
  ],
  ['no chunk but the last', `${CHUNKED}0\r\n\r\n`, {}],
  ['chunks that look like framing', `${CHUNKED}5\r\n0\r\n\r\n\r\n0\r\n\r\n`, { body: '0\r\n\r\n' }],
  ['extensions of chunks', `${CHUNKED}5;a;b=c;d="e"\r\nhello\r\n0;last\r\n\r\n`, { body: 'hello' }],
  [
    'trailers',
    `${CHUNKED}5\r\nhello\r\n0\r\nx-sum: 1\r\nx-more:\r\n\r\n`,
    { body: 'hello', headers: { 'x-sum': undefined } },
  ],
  ['a coding in other letters', `${OK}Transfer-Encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n`, { body: 'a' }],
  [
    'names in other letters',
    `${OK}CONTENT-length: 1\r\nX-A: B\r\n\r\na`,
    { body: 'a', headers: { 'x-a': 'B' } },
  ],
  ['the first of two headers', `${OK}x-a: 1\r\nx-a: 2\r\n${EMPTY}`, { headers: { 'x-a': '1' } }],
  [
    'headers without a value',
    `${OK}x-a:\r\nx-b: \t\r\n${EMPTY}`,
    { headers: { 'x-a': '', 'x-b': '', 'x-c': undefined } },
  ],
  ['a name that begins like another', `${OK}x-ab: 1\r\nx-a: 2\r\n${EMPTY}`, { headers: { 'x-a': '2' } }],
  ['values that are no ASCII', `${OK}x-a: \xe9\x80\xff\r\n${EMPTY}`, { headers: { 'x-a': '\xe9\x80\xff' } }],
  ['blanks inside of a value', `${OK}x-a:  b \t c \r\n${EMPTY}`, { headers: { 'x-a': 'b \t c' } }],
  ['no reason phrase', `HTTP/1.1 200 \r\n${EMPTY}`, {}],
  ['no blank behind the status', `HTTP/1.1 200\r\n${EMPTY}`, {}],
  ['a long reason', `HTTP/1.1 429 Too Many: \xe9 \t!\r\n${EMPTY}`, { status: 429 }],
  ['the largest status', `HTTP/1.1 599 X\r\n${EMPTY}`, { status: 599 }],
  ['a redirect like any other', `HTTP/1.1 302 Found\r\nlocation: /x\r\n${EMPTY}`, { status: 302 }],
  ['204', 'HTTP/1.1 204 No Content\r\n\r\n', { status: 204 }],
  ['204 of length nought', `HTTP/1.1 204 No Content\r\n${EMPTY}`, { status: 204 }],
  [
    '204 that says it has a body',
    'HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n',
    { status: 204, kept: false },
  ],
  [
    '204 in chunks',
    'HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n',
    { status: 204, kept: false },
  ],
  ['304', 'HTTP/1.1 304 Not Modified\r\n\r\n', { status: 304 }],
  [
    '304 of the length that there would be',
    'HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n',
    { status: 304, kept: false },
  ],
  ['100 before it', `HTTP/1.1 100 Continue\r\n\r\n${OK}${EMPTY}`, {}],
  [
    '102 and 103 before it',
    `HTTP/1.1 102 Processing\r\n\r\n${EARLY}${OK}content-length: 1\r\n\r\na`,
    { body: 'a', headers: { link: undefined } },
  ],
  ['an interim answer that nobody knows', `HTTP/1.1 199 X\r\n\r\n${OK}${EMPTY}`, {}],
  ['as many of them as are taken', `${EARLY.repeat(MAX_INTERIM)}${OK}${EMPTY}`, {}],
  ['a head as long as is taken', headOf(MAX_HEAD_BYTES), {}],
  [
    'an extension as long as is taken',
    `${CHUNKED}1;${'a'.repeat(MAX_CHUNK_LINE_BYTES - 1)}\r\na\r\n0\r\n\r\n`,
    { body: 'a' },
  ],
  // How long it is kept.
  ['nothing said', `${OK}${EMPTY}`, { kept: 30 }],
  ['keep-alive', `${OK}connection: keep-alive\r\n${EMPTY}`, { kept: 30 }],
  ['a time', `${OK}keep-alive: timeout=5\r\n${EMPTY}`, { kept: 4 }],
  ['a time in a list', `${OK}keep-alive: max=100, Timeout=75\r\n${EMPTY}`, { kept: 74 }],
  ['a time in another list', `${OK}keep-alive: max=100\r\nkeep-alive: timeout=8\r\n${EMPTY}`, { kept: 7 }],
  ['a time that is none', `${OK}keep-alive: timeout=soon\r\n${EMPTY}`, { kept: 30 }],
  ['another time', `${OK}keep-alive: xtimeout=5\r\n${EMPTY}`, { kept: 30 }],
  ['one second', `${OK}keep-alive: timeout=1\r\n${EMPTY}`, { kept: 0 }],
  ['no second', `${OK}keep-alive: timeout=0\r\n${EMPTY}`, { kept: 0 }],
  ['a very long time', `${OK}keep-alive: timeout=999999999\r\n${EMPTY}`, { kept: 300 }],
  ['close', `${OK}connection: close\r\n${EMPTY}`, { kept: false }],
  ['close in a list', `${OK}Connection: keep-alive ,\tClose, x\r\n${EMPTY}`, { kept: false }],
  ['close in a second list', `${OK}connection: keep-alive\r\nconnection: close\r\n${EMPTY}`, { kept: false }],
  ['close, by a proxy', `${OK}proxy-connection: close\r\n${EMPTY}`, { kept: false }],
  ['close, and a time', `${OK}connection: close\r\nkeep-alive: timeout=5\r\n${EMPTY}`, { kept: false }],
  ['a word that close is in', `${OK}connection: disclose, closed\r\n${EMPTY}`, { kept: 30 }],
  [
    'close of a body in chunks',
    `${OK}connection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    { kept: false },
  ],
  ['HTTP/1.0', `HTTP/1.0 200 OK\r\n${EMPTY}`, { kept: false }],
  [
    'HTTP/1.0 that would go on',
    `HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na`,
    { kept: false, body: 'a' },
  ],
]

/** Their end is that of the connection. */
const TO_CLOSE: readonly Good[] = [
  ['no length', `${OK}\r\nhello`, { body: 'hello' }],
  ['no length and no body', `${OK}\r\n`, {}],
  ['no length, as if it were kept', `${OK}connection: keep-alive\r\n\r\nhello`, { body: 'hello' }],
  ['HTTP/1.0 without a length', 'HTTP/1.0 200 OK\r\n\r\nhello', { body: 'hello' }],
  ['what looks like an answer', `${OK}\r\n${OK}${EMPTY}`, { body: `${OK}${EMPTY}` }],
]

/** What is refused, and where. */
const BAD: readonly (readonly [name: string, text: string, message: string])[] = [
  // The status line.
  ['nothing that is HTTP', 'SSH-2.0-OpenSSH_9.6\r\n\r\n', 'the version'],
  ['a line before it', `\r\n${OK}${EMPTY}`, 'the version'],
  ['an empty head', '\r\n\r\n', 'the version'],
  ['small letters', `http/1.1 200 OK\r\n${EMPTY}`, 'the version'],
  ['HTTP/1.2', `HTTP/1.2 200 OK\r\n${EMPTY}`, 'the version'],
  ['HTTP/2', `HTTP/2.0 200 OK\r\n${EMPTY}`, 'the version'],
  ['HTTP/0.9', `HTTP/0.9 200 OK\r\n${EMPTY}`, 'the version'],
  ['HTTP/1.10', `HTTP/1.10 200 OK\r\n${EMPTY}`, 'the version'],
  ['ICY', `ICY 200 OK\r\n${EMPTY}`, 'the version'],
  ['a tab behind the version', `HTTP/1.1\t200 OK\r\n${EMPTY}`, 'the version'],
  ['two blanks behind the version', `HTTP/1.1  200 OK\r\n${EMPTY}`, 'the status'],
  ['no status', 'HTTP/1.1 \r\n\r\n', 'the status'],
  ['half a status', 'HTTP/1.1 20\r\n\r\n', 'the status'],
  ['a status in words', `HTTP/1.1 abc OK\r\n${EMPTY}`, 'the status'],
  ['a status below all', `HTTP/1.1 099 X\r\n${EMPTY}`, 'the status'],
  ['a status above all', `HTTP/1.1 600 X\r\n${EMPTY}`, 'the status'],
  ['a status of four digits', `HTTP/1.1 2000 OK\r\n${EMPTY}`, 'the status line'],
  ['a status with a sign', `HTTP/1.1 +20 OK\r\n${EMPTY}`, 'the status'],
  ['a tab behind the status', `HTTP/1.1 200\tOK\r\n${EMPTY}`, 'the status line'],
  ['NUL in the reason', `HTTP/1.1 200 O\0K\r\n${EMPTY}`, 'the end of a line'],
  ['CR in the reason', `HTTP/1.1 200 O\rK\r\n${EMPTY}`, 'the end of a line'],
  ['LF behind the reason', `HTTP/1.1 200 OK\n${EMPTY}`, 'the end of a line'],
  // Headers.
  ['a blank before the colon', `${OK}content-length : 0\r\n\r\n`, 'the name of a header'],
  ['no colon', `${OK}content-length\r\n\r\n`, 'the name of a header'],
  ['no name', `${OK}: 0\r\n\r\n`, 'the name of a header'],
  ['a name that is no token', `${OK}x(a): 0\r\n\r\n`, 'the name of a header'],
  ['a name that is no ASCII', `${OK}x\xe9: 0\r\n\r\n`, 'the name of a header'],
  ['NUL in a name', `${OK}x\0a: 0\r\n\r\n`, 'the name of a header'],
  ['a line that goes on', `${OK}x-a: b\r\n c\r\n${EMPTY}`, 'the name of a header'],
  ['a line that goes on behind a tab', `${OK}x-a:\r\n\tc\r\n${EMPTY}`, 'the name of a header'],
  ['a first line that goes on', `${OK} x-a: b\r\n${EMPTY}`, 'the name of a header'],
  ['CR in a value', `${OK}x-a: b\rcontent-length: 5\r\n${EMPTY}`, 'the end of a line'],
  ['LF in a value', `${OK}x-a: b\ncontent-length: 5\r\n${EMPTY}`, 'the end of a line'],
  ['two CR', `${OK}x-a: b\r\r\n${EMPTY}`, 'the end of a line'],
  ['NUL in a value', `${OK}x-a: b\0c\r\n${EMPTY}`, 'the end of a line'],
  ['DEL in a value', `${OK}x-a: b\x7fc\r\n${EMPTY}`, 'the end of a line'],
  ['a vertical tab before a coding', `${OK}transfer-encoding:\x0bchunked\r\n\r\n`, 'the end of a line'],
  ['a tab behind a value', `${OK}transfer-encoding: chunked\t\r\n\r\n`, 'the end of a header'],
  // Length.
  ['two lengths', `${OK}content-length: 5\r\ncontent-length: 6\r\n\r\nhello`, 'the content-length'],
  ['the same length twice', `${OK}content-length: 5\r\nContent-Length: 5\r\n\r\nhello`, 'the content-length'],
  ['a list of lengths', `${OK}content-length: 5, 5\r\n\r\nhello`, 'the content-length'],
  ['an empty length', `${OK}content-length:\r\n\r\n`, 'the content-length'],
  ['a length with a sign', `${OK}content-length: +5\r\n\r\nhello`, 'the content-length'],
  ['a length below nought', `${OK}content-length: -1\r\n\r\n`, 'the content-length'],
  ['a length with a point', `${OK}content-length: 5.0\r\n\r\nhello`, 'the content-length'],
  ['a length in hexadecimal', `${OK}content-length: 0x5\r\n\r\nhello`, 'the content-length'],
  ['a length with a power', `${OK}content-length: 1e1\r\n\r\n`, 'the content-length'],
  ['a length in two words', `${OK}content-length: 1 0\r\n\r\n`, 'the content-length'],
  ['a length that is no whole number', `${OK}content-length: 1000000000000000\r\n\r\n`, 'the content-length'],
  ['a length that wraps', `${OK}content-length: 18446744073709551621\r\n\r\n`, 'the content-length'],
  [
    'a bad length where there is no body',
    'HTTP/1.1 204 X\r\ncontent-length: x\r\n\r\n',
    'the content-length',
  ],
  // Coding.
  [
    'length and coding',
    `${OK}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n`,
    'both content-length and transfer-encoding',
  ],
  [
    'coding and length',
    `${OK}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n`,
    'both content-length and transfer-encoding',
  ],
  ['another coding', `${OK}transfer-encoding: gzip\r\n\r\n`, 'a transfer-encoding that is not chunked'],
  ['two codings', `${OK}transfer-encoding: gzip, chunked\r\n\r\n`, 'a transfer-encoding that is not chunked'],
  [
    'chunked, and another',
    `${OK}transfer-encoding: chunked, identity\r\n\r\n`,
    'a transfer-encoding that is not chunked',
  ],
  [
    'chunked twice',
    `${OK}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n`,
    'a transfer-encoding that is not chunked',
  ],
  ['no coding', `${OK}transfer-encoding:\r\n\r\n`, 'a transfer-encoding that is not chunked'],
  [
    'chunked in quotes',
    `${OK}transfer-encoding: "chunked"\r\n\r\n`,
    'a transfer-encoding that is not chunked',
  ],
  [
    'chunked and a parameter',
    `${OK}transfer-encoding: chunked;q=1\r\n\r\n`,
    'a transfer-encoding that is not chunked',
  ],
  [
    'chunked of HTTP/1.0',
    'HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n',
    'a transfer-encoding that is not chunked',
  ],
  [
    'another coding where there is no body',
    'HTTP/1.1 304 X\r\ntransfer-encoding: x\r\n\r\n',
    'a transfer-encoding that is not chunked',
  ],
  // Interim answers.
  [
    '101',
    'HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n',
    'a change of protocol that nobody asked for',
  ],
  [
    'an interim answer with a length',
    `HTTP/1.1 103 X\r\ncontent-length: 5\r\n\r\nhello${OK}${EMPTY}`,
    'an interim answer that says how it ends',
  ],
  [
    'an interim answer in chunks',
    `HTTP/1.1 104 X\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${OK}${EMPTY}`,
    'an interim answer that says how it ends',
  ],
  [
    'an interim answer that closes',
    `HTTP/1.1 103 X\r\nconnection: close\r\n\r\n${OK}${EMPTY}`,
    'an interim answer that says how it ends',
  ],
  [
    'an interim answer of HTTP/1.0',
    `HTTP/1.0 103 X\r\n\r\n${OK}${EMPTY}`,
    'an interim answer that says how it ends',
  ],
  [
    'one more of them than are taken',
    `${EARLY.repeat(MAX_INTERIM + 1)}${OK}${EMPTY}`,
    'too many interim answers',
  ],
  // Chunks.
  ['a chunk without a size', `${CHUNKED}\r\nhello`, 'a chunk without a size'],
  ['a size that is an extension', `${CHUNKED};a\r\n`, 'a chunk without a size'],
  ['a size with a sign', `${CHUNKED}+5\r\nhello`, 'a chunk without a size'],
  ['a size below nought', `${CHUNKED}-1\r\n`, 'a chunk without a size'],
  ['a blank before a size', `${CHUNKED} 5\r\nhello`, 'a chunk without a size'],
  ['a size with 0x', `${CHUNKED}0x5\r\nhello`, 'the size of a chunk'],
  ['a blank behind a size', `${CHUNKED}5 \r\nhello`, 'the size of a chunk'],
  ['a size with a letter behind f', `${CHUNKED}5g\r\nhello`, 'the size of a chunk'],
  ['LF behind a size', `${CHUNKED}5\nhello`, 'the size of a chunk'],
  ['CR alone behind a size', `${CHUNKED}5\rhello`, 'the end of the line of a chunk'],
  ['a size that is too long', `${CHUNKED}000000000005\r\nhello`, 'a chunk that is too long'],
  ['a size that wraps', `${CHUNKED}100000000000000005\r\nhello`, 'a chunk that is too long'],
  ['LF in an extension', `${CHUNKED}5;a\nhello`, 'an extension of a chunk'],
  ['LF in quotes of an extension', `${CHUNKED}5;a="\n"\r\nhello`, 'an extension of a chunk'],
  ['an extension that ends with CR alone', `${CHUNKED}5;a\rb\r\nhello`, 'the end of the line of a chunk'],
  [
    'an extension that is too long',
    `${CHUNKED}1;${'a'.repeat(MAX_CHUNK_LINE_BYTES)}\r\na\r\n0\r\n\r\n`,
    'too long',
  ],
  ['a chunk that is longer than its size', `${CHUNKED}4\r\nhello\r\n0\r\n\r\n`, 'the end of a chunk'],
  ['a chunk that is shorter than its size', `${CHUNKED}6\r\nhello\r\n0\r\n\r\n`, 'the end of a chunk'],
  ['LF behind a chunk', `${CHUNKED}5\r\nhello\n0\r\n\r\n`, 'the end of a chunk'],
  ['CR alone behind a chunk', `${CHUNKED}5\r\nhello\r0\r\n\r\n`, 'the end of a chunk'],
  // Trailers.
  ['a trailer without a colon', `${CHUNKED}0\r\nx-sum\r\n\r\n`, 'the name of a trailer'],
  ['a trailer without a name', `${CHUNKED}0\r\n: 1\r\n\r\n`, 'a trailer'],
  ['a trailer that goes on', `${CHUNKED}0\r\nx: 1\r\n 2\r\n\r\n`, 'a trailer'],
  ['a trailer that ends with LF', `${CHUNKED}0\r\nx: 1\n\r\n`, 'the value of a trailer'],
  ['a trailer that ends with CR', `${CHUNKED}0\r\nx: 1\rx\r\n\r\n`, 'the end of a trailer'],
  ['NUL in a trailer', `${CHUNKED}0\r\nx: \0\r\n\r\n`, 'the value of a trailer'],
  ['LF behind the last chunk', `${CHUNKED}0\r\n\n`, 'a trailer'],
  ['CR alone behind the last chunk', `${CHUNKED}0\r\n\rX`, 'the end of the trailers'],
  ['another answer in the place of trailers', `${CHUNKED}0\r\n${OK}${EMPTY}`, 'the name of a trailer'],
  ['trailers that are too long', `${CHUNKED}0\r\nx: ${'y'.repeat(MAX_HEAD_BYTES)}\r\n\r\n`, 'too long'],
  // Length of the head.
  ['a head that is too long', headOf(MAX_HEAD_BYTES + 1), 'too long'],
  ['a head without an end', `${OK}x: ${'y'.repeat(MAX_HEAD_BYTES)}`, 'too long'],
]

const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1')

/** Every place is looked at, but of what is long for its length. */
const stepOf = ({ length }: Buffer): number => (length < 1000 ? 1 : Math.ceil(length / 30))

/** Every way to cut it in two, and byte by byte. */
function* cuts(bytes: Buffer): Generator<Buffer[]> {
  yield [bytes]
  yield toBytes(bytes)
  for (let at = 1; at < bytes.length; at += stepOf(bytes)) yield [bytes.subarray(0, at), bytes.subarray(at)]
}

function toSeen(pieces: readonly Buffer[], names: readonly string[], options: HearOptions) {
  const { status, body, end, error, header } = hear(pieces, options)
  return {
    status,
    body: body.toString('latin1'),
    kept: end?.isReusable === true ? end.keptSeconds : false,
    ended: end !== undefined,
    error,
    headers: names.map((name) => header(name)),
  }
}

function expectGood([, text, expected]: Good, closes: boolean): void {
  const { status = 200, body = '', headers = {}, kept = 30 } = expected
  const names = Object.keys(headers)
  for (const pieces of cuts(bytesOf(text))) {
    const seen = toSeen(pieces, names, { closes })
    const wanted = { status, body, kept: closes ? false : kept, ended: true, error: undefined }
    expect(seen, `cut at ${pieces[0]?.length}`).toEqual({ ...wanted, headers: Object.values(headers) })
  }
}

describe('an answer', () => {
  it.each(GOOD)('is read the same, cut anywhere: %s', (...line) => expectGood(line, false))

  it.each(TO_CLOSE)('ends with its connection, cut anywhere: %s', (...line) => expectGood(line, true))

  it.each(BAD)('is refused, cut anywhere: %s', (_, text, message) => {
    for (const pieces of cuts(bytesOf(text))) {
      const { error, end } = hear(pieces, { closes: true })
      expect({ error, end }, `cut at ${pieces[0]?.length}`).toEqual({ error: message, end: undefined })
    }
  })

  it.each(GOOD)('is not whole where its connection ends inside of it: %s', (_, text) => {
    const bytes = bytesOf(text)
    for (let length = 0; length < bytes.length; length += stepOf(bytes)) {
      const { error, end } = hear([bytes.subarray(0, length)], { closes: true })
      expect({ error, end }, `after ${length} bytes`).toEqual({ error: 'closed', end: undefined })
    }
  })

  it.each(GOOD)('ends where it ends, and whatever stands behind it is nobody’s: %s', (_, text) => {
    const bytes = bytesOf(text)
    const whole = hear([bytes])
    for (const surplus of ['\0', '\r\n', EARLY, `${OK}${EMPTY}`, 'x'.repeat(100)]) {
      const heard = hear([Buffer.concat([bytes, bytesOf(surplus)])])
      expect(heard.error).toBeUndefined()
      expect(heard.body.equals(whole.body)).toBe(true)
      expect(heard.end?.isReusable).toBe(false)
    }
    expect(hear(toBytes(Buffer.concat([bytes, bytesOf(OK)]))).endsAt).toBe(bytes.length)
  })

  it.each(GOOD)('says nothing more to whoever has hung up: %s', (_, text) => {
    for (const stopAt of ['head', 'data'] as const) {
      for (const pieces of [[bytesOf(text)], toBytes(bytesOf(text))]) {
        const { end, body } = hear(pieces, { stopAt, closes: true })
        // What it does behind that throws in `hear`.
        if (stopAt === 'head') expect([end, body.length]).toEqual([undefined, 0])
      }
    }
  })

  it('is none before anything has been asked for', () => {
    const calls: string[] = []
    const reader = new AnswerReader({
      head: () => calls.push('head'),
      data: () => calls.push('data'),
      complete: () => calls.push('complete'),
    })
    const answer = bytesOf(`${OK}${EMPTY}`)
    expect(() => reader.push(answer)).toThrow(MalformedAnswer)
    reader.expect()
    reader.push(answer)
    expect(calls).toEqual(['head', 'complete'])
    expect(() => reader.push(answer)).toThrow(MalformedAnswer)
    reader.expect()
    reader.stop()
    expect(() => reader.push(answer)).toThrow(MalformedAnswer)
    expect(calls).toEqual(['head', 'complete'])
  })

  it('begins anew with each request', () => {
    const statuses: number[] = []
    const reader = new AnswerReader({
      head: (status) => statuses.push(status),
      data: () => undefined,
      complete: () => undefined,
    })
    for (let i = 0; i < 3; i += 1) {
      reader.expect()
      for (const byte of toBytes(
        bytesOf(`${EARLY.repeat(MAX_INTERIM)}${CHUNKED}1\r\na\r\n0\r\nx: y\r\n\r\n`),
      ))
        reader.push(byte)
    }
    expect(statuses).toEqual([200, 200, 200])
  })
})
