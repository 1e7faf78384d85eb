// Makes HTTP requests that are right, nearly right, and wrong in one to many places, out of a seeded Random.

import { mutate, objectText } from '../bytes/json-corpus.ts'
import type { Random } from '../bytes/random.ts'
import { CHAT_BODY, chunk, requestBytes, type Shape } from './raw-shapes.ts'

export interface GeneratedRequest {
  readonly bytes: Buffer
  readonly method: string
  /** Ends where it says it ends, so that another request may follow on the same connection. */
  readonly isFramed: boolean
}

const METHODS = [
  'GET',
  'HEAD',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'TRACE',
  'CONNECT',
  'PROPFIND',
  'M-SEARCH',
  'QUERY',
  'post',
  'PWN',
  '',
  'POST POST',
]

const TARGETS = [
  '/v1/chat/completions',
  '/v1/embeddings',
  '/chat/completions',
  '/v1/v1/chat/completions',
  '/v1/chat/completions/',
  '/v1/chat/completions?a=b&c=%00',
  '/v1/chat%2fcompletions',
  '//v1/chat/completions',
  '/v1/../v1/chat/completions',
  '/v1/models',
  '/v1/models/m',
  '/v1/models/%ff',
  '/v1/responses',
  '/v1/messages',
  '/health',
  '/ready',
  '/api/hello',
  '/metrics',
  '/',
  '*',
  '',
  'http://gateway/v1/chat/completions',
  'http://evil/v1/chat/completions',
  'https://gateway/health',
  'gateway:443',
  '/\u00e9',
  '/a b',
  '/v1\\chat\\completions',
  '/v1/models#x',
]

const VERSIONS = [
  'HTTP/1.0',
  'HTTP/1.0',
  'HTTP/0.9',
  'HTTP/2.0',
  'HTTP/1.2',
  'HTTP/11',
  'http/1.1',
  'HTTP/1.1 ',
  '',
]

const HOSTS = [
  'gateway',
  'evil',
  '',
  'a:b:c',
  'a@b',
  '[::1',
  '%zz',
  'a/b',
  'gateway:99999999',
  '127.0.0.1',
  '0x7f.1',
  '\u00e9',
]

const VALUES = [
  '',
  'x',
  '0',
  '-1',
  '5, 5',
  'chunked',
  'identity',
  'gzip',
  'close',
  'keep-alive',
  '100-continue',
  'websocket',
  'h2c',
  '\u00ff\u00fe',
  'a\0b',
  'a\vb',
  'a\rb',
  'a\nb',
  ' folded',
  '"',
  '{}',
  '__proto__',
  'Bearer',
  'Bearer x',
  'Basic eA==',
  'application/json',
  'text/plain',
  'utf-16',
  '../../x',
  '\u0024{jndi:x}',
  '%s%s%n',
  '\u001b[31m',
]

const NAMES = [
  'Host',
  'Content-Length',
  'Transfer-Encoding',
  'Transfer-Encoding ',
  'Content-Type',
  'Content-Encoding',
  'Connection',
  'Upgrade',
  'Expect',
  'Authorization',
  'x-api-key',
  'api-key',
  'x-goog-api-key',
  'TE',
  'Trailer',
  'x-sluice-timeout-ms',
  'traceparent',
  'tracestate',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-http-method-override',
  'x-original-url',
  'Forwarded',
  'Via',
  'Cookie',
  '__proto__',
  'constructor',
  ':authority',
  '',
  'x y',
  'x\0',
  '\u00e9',
  'sec-websocket-key',
  'Range',
  'If-Match',
  'Accept',
  'Accept-Encoding',
  'Keep-Alive',
  'Proxy-Connection',
]

const FRAMINGS = [
  'Content-Length: 0',
  'Content-Length: 1',
  'Content-Length: 99999',
  'Content-Length: 99999999999',
  'Content-Length: -1',
  'Content-Length: 0x10',
  'Content-Length: 5, 5',
  'Content-Length: 18446744073709551617',
  'Content-Length:',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: identity',
  'Transfer-Encoding: identity, chunked',
  'Transfer-Encoding: xchunked',
  'Transfer-Encoding:\vchunked',
  'Transfer-Encoding:\r\n chunked',
]

/** A request for a gateway where `bearer` may do everything. */
export function generateRequest(random: Random, bearer: string): GeneratedRequest {
  const body = bodyOf(random)
  const isChunked = random.oneIn(4)
  let shape: Shape = {
    bearer: random.oneIn(12) ? random.pick(VALUES) : bearer,
    body: isChunked ? chunked(random, body) : body,
    ...(isChunked ? { framing: ['Transfer-Encoding: chunked'] } : {}),
  }
  // A stray byte or a wrong member is one thing; a head that is wrong as well shows the order of the checks.
  let isFramed = true
  let method = 'POST'
  if (random.oneIn(8)) {
    method = random.pick(METHODS)
    shape = { ...shape, method }
    if (random.oneIn(2)) shape = { ...shape, body: '', framing: [] }
    isFramed = false
  }
  if (random.oneIn(6)) shape = { ...shape, target: random.pick(TARGETS) }
  if (random.oneIn(16)) {
    shape = { ...shape, version: random.pick(VERSIONS) }
    isFramed = false
  }
  if (random.oneIn(10))
    shape = { ...shape, hosts: Array.from({ length: random.below(3) }, () => random.pick(HOSTS)) }
  if (random.oneIn(10)) shape = { ...shape, contentType: random.oneIn(3) ? undefined : random.pick(VALUES) }
  if (random.oneIn(6)) {
    const lines = random.oneIn(12)
      ? Array.from({ length: 90 + random.below(40) }, (_, i) => `x-${i}: ${'y'.repeat(random.below(300))}`)
      : Array.from({ length: 1 + random.below(4) }, () => `${random.pick(NAMES)}: ${random.pick(VALUES)}`)
    shape = { ...shape, lines }
    isFramed = false
  }
  if (random.oneIn(10)) {
    shape = { ...shape, framing: Array.from({ length: random.below(3) }, () => random.pick(FRAMINGS)) }
    isFramed = false
  }
  if (random.oneIn(100)) {
    shape = { ...shape, target: '/v1/responses', lines: ['Connection: upgrade', 'Upgrade: websocket'] }
    isFramed = false
  }
  let bytes = requestBytes(shape)
  if (random.oneIn(5)) {
    bytes = mutate(random, bytes)
    isFramed = false
  }
  return { bytes, method, isFramed }
}

function bodyOf(random: Random): Buffer {
  switch (random.below(6)) {
    case 0:
      return Buffer.from(CHAT_BODY)
    case 1:
      return mutate(random, Buffer.from(CHAT_BODY))
    case 2:
      return mutate(random, Buffer.from(objectText(random)))
    case 3:
      return Buffer.from(
        `{"model":"m","stream":true,"messages":[]${random.oneIn(2) ? ',"stream_options":null' : ''}}`,
      )
    case 4:
      return random.oneIn(20)
        ? Buffer.from(`{"model":"m","x":${'['.repeat(20_000)}`)
        : Buffer.from('{"model":"other"}')
    default:
      return Buffer.from(objectText(random))
  }
}

function chunked(random: Random, body: Buffer): Buffer {
  const pieces: Buffer[] = []
  for (let at = 0; at < body.length; ) {
    const size = 1 + random.below(24)
    const piece = body.subarray(at, at + size)
    const extension = random.oneIn(10) ? ';x=y' : ''
    pieces.push(Buffer.from(`${piece.length.toString(16)}${extension}\r\n`), piece, Buffer.from('\r\n'))
    at += size
  }
  pieces.push(Buffer.from(chunk()))
  return Buffer.concat(pieces)
}
