// Answers that are nearly right, and the laws that the reader of src/ keeps with all of them.

import type { Random } from '../../bytes/random.ts'
import { type Heard, hear, hearByNode, toBytes } from './hearing.ts'

const STATUSES = [
  '200 OK',
  '200',
  '200 ',
  '204 No Content',
  '304 Not Modified',
  '404 Not Found',
  '500 \xe9',
  '999 X',
]
const INTERIM = [
  '100 Continue',
  '102 Processing',
  '103 Early Hints',
  '104 Upload',
  '199 X',
  '101 Switching Protocols',
]
const VERSIONS = ['HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0', 'HTTP/0.9', 'http/1.1', 'HTTP/1.10', 'HTTP/ 1.1']
/** Framing and what is near it, in the forms that readers have disagreed about. */
const HEADERS = [
  'Content-Length: 5',
  'content-length: 0',
  'Content-Length: 05',
  'Content-Length: +5',
  'Content-Length: 5, 5',
  'Content-Length: 0x5',
  'Content-Length : 5',
  'Content-Length: 5 ',
  'Content-Length:\t5\t',
  'Content-Length:\t5',
  'Transfer-Encoding: chunked\t',
  'Transfer-Encoding:\tchunked',
  'Connection: close\t',
  'Connection: a,\tclose , b',
  'Content-Length:',
  'Content-Length: -0',
  'Content-Length: 18446744073709551621',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: Chunked ',
  'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding: chunked, identity',
  'Transfer-Encoding: identity',
  'Transfer-Encoding:\x0bchunked',
  'Transfer-Encoding: "chunked"',
  'Transfer_Encoding: chunked',
  'Connection: close',
  'Connection: keep-alive',
  'connection: x, Close',
  'Connection: upgrade',
  'Upgrade: h2c',
  'Proxy-Connection: close',
  'Keep-Alive: timeout=5, max=100',
  'Trailer: x-sum',
  'x-request-id: abc',
  'X-A: \xe9\xff',
  'x-empty:',
  ' x-folded: y',
  'x-a: b\r\n c',
  'x-a: b\n c',
  'no colon',
  ': no name',
  'x(: y',
]
/** Behind those that say of a body how long it is. */
const FIRST_HARMLESS = HEADERS.indexOf('Connection: close')
const NAMES = [
  ...new Set(HEADERS.map((line) => line.split(':', 1)[0]?.trim().toLowerCase() ?? '')),
  'x-sum',
  'content-type',
]
const EXTENSIONS = [';a', ';a=b', ';a="b"', ';', ';a=', ' ', ';a b', ';a="\r\n"', ';a=\n']
const BODIES = [
  '',
  'a',
  'hello',
  '{"id":"chatcmpl-1","choices":[]}',
  'data: {}\n\ndata: [DONE]\n\n',
  '0\r\n\r\n',
  'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n',
  'x'.repeat(300),
]
/** Put where they do not belong. */
const STRAYS = [
  '\r',
  '\n',
  '\0',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '\r\n',
  '\r\n\r\n',
  '\n\n',
  '0',
  '\x7f',
  '\x80',
  '\xff',
  '\x0b',
]

export interface Answers {
  next(): Buffer
}

/** Answers as servers write them, most of them broken in a place or two afterwards. */
export function createAnswers(random: Random): Answers {
  const { below, oneIn, pick } = random

  function chunked(body: string): string {
    let text = ''
    for (let at = 0; at < body.length; ) {
      const length = 1 + below(body.length - at)
      const digits = length.toString(16)
      const size = oneIn(4) ? digits.toUpperCase() : oneIn(8) ? `00${digits}` : digits
      text += `${size}${oneIn(8) ? pick(EXTENSIONS) : ''}\r\n${body.slice(at, at + length)}\r\n`
      at += length
    }
    const trailers = oneIn(6) ? `${pick(['x-sum: 1', pick(HEADERS)])}\r\n` : ''
    return `${text}0${oneIn(10) ? pick(EXTENSIONS) : ''}\r\n${trailers}\r\n`
  }

  function head(start: string, lines: readonly string[]): string {
    return `${oneIn(30) ? pick(VERSIONS) : 'HTTP/1.1'} ${start}\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`
  }

  function whole(): string {
    let text = ''
    while (oneIn(6)) text += head(pick(INTERIM), oneIn(4) ? [pick(HEADERS)] : [])
    const body = pick(BODIES)
    const lines: string[] = []
    while (oneIn(3)) lines.push(pick(HEADERS.slice(FIRST_HARMLESS)))
    if (oneIn(12)) lines.push(pick(HEADERS))
    const form = below(5)
    if (form < 2) lines.push(`${pick(['content-length', 'Content-Length'])}: ${body.length}`)
    else if (form < 4) lines.push(`${pick(['transfer-encoding', 'Transfer-Encoding'])}: chunked`)
    if (oneIn(2)) lines.reverse()
    const start = oneIn(4) ? pick(STATUSES) : '200 OK'
    return text + head(start, lines) + (form === 2 || form === 3 ? chunked(body) : body)
  }

  function broken(text: string): string {
    const at = below(text.length + 1)
    const to = Math.min(text.length, at + 1 + below(oneIn(3) ? 40 : 3))
    switch (below(8)) {
      case 0:
        return text.slice(0, at) + String.fromCharCode(below(256)) + text.slice(at + 1)
      case 1:
        return text.slice(0, at) + text.slice(to)
      case 2:
        return text.slice(0, to) + text.slice(at)
      case 3:
        return text.slice(0, at) + pick(STRAYS) + text.slice(at)
      case 4:
        return text.slice(0, at) + pick(STRAYS) + text.slice(to)
      case 5: {
        const other = whole()
        return text.slice(0, at) + other.slice(below(other.length + 1))
      }
      case 6:
        // One of the ends of lines, somewhere.
        return text.slice(0, at) + text.slice(at).replace('\r\n', pick(['\n', '\r', '\r\r\n', '\n\r', '']))
      default:
        return text.slice(0, at)
    }
  }

  return {
    next() {
      let text = whole()
      while (oneIn(2)) text = broken(text)
      // What stands behind it.
      if (oneIn(8)) text += oneIn(2) ? whole() : pick(STRAYS)
      return Buffer.from(text, 'latin1')
    },
  }
}

/**
 * What our reader takes although Node's does not, and why that is no danger: none of it moves the end of an answer.
 */
const TAKEN_ALL_THE_SAME: readonly ((error: string, heard: Heard) => boolean)[] = [
  // Which characters may stand where in an extension: ours reads them for the end of their line alone, and lets none
  // stand there that could hide it.
  (error) => /chunk extension/i.test(error),
  // What frames an answer says nothing among its trailers (RFC 9110 §6.5.1): they are read for their end alone.
  (error, { header }) =>
    /Content-Length|Transfer-Encoding/i.test(error) &&
    header('content-length') === undefined &&
    header('transfer-encoding') !== undefined,
]

function isTaken(error: string, heard: Heard): boolean {
  return TAKEN_ALL_THE_SAME.some((one) => one(error, heard))
}

/** In what our reader differs from itself, or from Node's; undefined for nothing. `kind`: what it made of the answer. */
export function disagreement(
  bytes: Buffer,
  random: Random,
): { readonly found: string | undefined; readonly kind: 'whole' | 'reusable' | 'refused' } {
  const heard = hear([bytes], { closes: true })
  const kind = heard.end === undefined ? 'refused' : heard.end.isReusable ? 'reusable' : 'whole'
  return { found: apart(bytes, heard, random) ?? besideNode(bytes, heard), kind }
}

/** However it is cut, it is the same answer. */
function apart(bytes: Buffer, heard: Heard, random: Random): string | undefined {
  const single = hear(toBytes(bytes), { closes: true })
  const inTwo = hear(cut(bytes, random.below(bytes.length + 1)), { closes: true })
  for (const [name, other] of Object.entries({ single, inTwo })) {
    if (other.status !== heard.status) return `${name}: status ${other.status}, not ${heard.status}`
    // What is refused may have been heard in part before.
    if (heard.end === undefined || other.end === undefined) {
      if ((other.end === undefined) !== (heard.end === undefined)) return `${name}: its end`
      if (other.error !== heard.error) return `${name}: ${other.error}, not ${heard.error}`
      continue
    }
    if (!other.body.equals(heard.body)) return `${name}: its body`
    if (other.end.keptSeconds !== heard.end.keptSeconds) return `${name}: how long it is kept`
    // Surplus may come after the end has been told.
    if (heard.end.isReusable && !other.end.isReusable) return `${name}: whether it is kept`
  }
  for (const stopAt of ['head', 'data'] as const) {
    const stopped = hear(random.oneIn(2) ? [bytes] : toBytes(bytes), { closes: true, stopAt })
    if (stopAt === 'head' && stopped.body.length > 0) return 'a piece after it was stopped'
  }
  return undefined
}

function cut(bytes: Buffer, at: number): Buffer[] {
  return [bytes.subarray(0, at), bytes.subarray(at)].filter(({ length }) => length > 0)
}

function besideNode(bytes: Buffer, heard: Heard): string | undefined {
  const { end } = heard
  if (end === undefined) return undefined
  // Where ours ends: one byte at a time it is known to the byte.
  const { endsAt } = hear(toBytes(bytes), { closes: true })
  const own = bytes.subarray(0, endsAt)
  const node = hearByNode(own)
  if (node.error !== undefined) return isTaken(node.error, heard) ? undefined : node.error
  if (node.status !== heard.status) return `status ${heard.status}, not ${node.status}`
  if (!node.body.equals(heard.body)) return 'its body'
  for (const name of [...NAMES, ...node.headers.filter((_, i) => i % 2 === 0)]) {
    const ours = heard.header(name.toLowerCase())
    const theirs = node.headers[indexOf(node.headers, name) + 1]
    if (ours !== theirs) return `${name}: ${ours}, not ${theirs}`
  }
  if (node.endedByClose) {
    if (end.isReusable) return 'kept, though its end is that of the connection'
    return endsAt === bytes.length ? undefined : 'an end before that of the connection'
  }
  if (node.ended !== 1 || node.begun !== 1) return `${node.begun} answers begun, ${node.ended} ended`
  if (end.isReusable && !node.isKept) return 'kept, though its server closes'
  if (end.isReusable && endsAt !== bytes.length) return 'kept, though something stands behind it'
  if (hearByNode(own.subarray(0, -1)).ended !== 0) return 'an end that is too late'
  return undefined
}

/** Where the first header of this name stands; -2, behind which nothing stands, for none. */
function indexOf(headers: readonly string[], name: string): number {
  for (let i = 0; i < headers.length; i += 2) if (headers[i]?.toLowerCase() === name.toLowerCase()) return i
  return -2
}
