import { describe, expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import { type Head, MAX_HEADERS, type RawHead, readHead } from '../../../src/http/head.ts'

type Lines = readonly (readonly [name: string, value: string])[]

function read(lines: Lines, more: Partial<RawHead> = {}): Head {
  return readHead({
    method: 'POST',
    target: '/v1/chat/completions',
    httpVersion: '1.1',
    rawHeaders: [['Host', 'gateway:7456'] as const, ...lines].flat(),
    ...more,
  })
}

function refusal(run: () => unknown): GatewayError {
  try {
    run()
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw error
  }
  throw new Error('accepted')
}

const raw =
  (rawHeaders: readonly string[], more: Partial<RawHead> = {}) =>
  () =>
    readHead({ method: 'POST', target: '/', httpVersion: '1.1', rawHeaders, ...more })

describe('readHead', () => {
  it('reads what the gateway uses and nothing else', () => {
    const head = read([
      ['Content-Type', 'application/json'],
      ['Content-Length', '17'],
      ['Authorization', 'Bearer secret'],
      ['X-Sluice-Timeout-Ms', '5000'],
      ['Traceparent', '00-a-b-01'],
      ['Tracestate', 'a=1'],
      ['Cookie', 'a=b'],
    ])
    expect(head).toEqual({
      target: '/v1/chat/completions',
      bearer: 'secret',
      contentLength: 17,
      contentType: 'application/json',
      contentEncoding: undefined,
      timeoutMs: 5000,
      traceparent: '00-a-b-01',
      tracestate: 'a=1',
      forwardedFor: undefined,
      upgrade: undefined,
      expect: undefined,
      forwardable: expect.any(Function),
    })
    expect(head.forwardable('cookie')).toBeUndefined()
  })

  it('keeps what a format passes on, several lines as one list', () => {
    const headers: [string, string][] = [
      ['Anthropic-Beta', 'a,b'],
      ['anthropic-beta', 'c'],
      ['Cookie', 'a=b'],
    ]
    const head = readHead(
      { method: 'POST', target: '/', httpVersion: '1.0', rawHeaders: headers.flat() },
      new Set(['anthropic-beta']),
    )
    expect(head.forwardable('anthropic-beta')).toBe('a,b, c')
    expect(head.forwardable('cookie')).toBeUndefined()
  })

  it('joins the lines of x-forwarded-for, so that the hop a proxy adds in a line of its own counts', () => {
    expect(
      read([
        ['X-Forwarded-For', '6.6.6.6'],
        ['x-forwarded-for', '192.0.2.7, 10.0.0.1'],
      ]).forwardedFor,
    ).toBe('6.6.6.6, 192.0.2.7, 10.0.0.1')
  })

  it('joins the lines of tracestate, and those of traceparent, of which there may be one, so that neither counts', () => {
    const head = read([
      ['Tracestate', 'a=1'],
      ['Traceparent', '00-a-b-01'],
      ['traceparent', '00-c-d-01'],
      ['tracestate', 'b=2'],
    ])
    expect(head.tracestate).toBe('a=1, b=2')
    expect(head.traceparent).toBe('00-a-b-01, 00-c-d-01')
  })

  it('refuses more header lines than are kept, and not one fewer', () => {
    const lines = (count: number): string[] => Array.from({ length: count }, (_, i) => [`x-${i}`, 'y']).flat()
    expect(raw(['host', 'a', ...lines(MAX_HEADERS - 1)])).not.toThrow()
    expect(refusal(raw(['host', 'a', ...lines(MAX_HEADERS)])).code).toBe('headers_too_large')
  })

  it('refuses a header named __proto__ and reads one named constructor', () => {
    expect(refusal(() => read([['__proto__', 'x']])).code).toBe('invalid_request')
    expect(refusal(() => read([['__PROTO__', 'x']])).code).toBe('invalid_request')
    expect(read([['constructor', 'x']]).bearer).toBeUndefined()
  })
})

describe('credentials', () => {
  it.each<[string, Lines, string | undefined]>([
    ['none', [], undefined],
    ['Authorization', [['Authorization', 'Bearer a']], 'a'],
    ['any case of the scheme', [['authorization', 'bEARER a']], 'a'],
    ['many spaces', [['authorization', 'Bearer   \t a ']], 'a'],
    ['x-api-key', [['X-Api-Key', 'a']], 'a'],
    ['api-key', [['api-key', 'a']], 'a'],
    ['x-goog-api-key', [['x-goog-api-key', 'a']], 'a'],
    [
      'the same one in two headers',
      [
        ['Authorization', 'Bearer a'],
        ['x-api-key', 'a'],
      ],
      'a',
    ],
    ['another scheme', [['Authorization', 'Basic YTpi']], ''],
    ['no scheme', [['Authorization', 'a']], ''],
    ['an empty header', [['Authorization', '']], ''],
    ['a scheme alone', [['Authorization', 'Bearer']], ''],
  ])('reads %s', (_, lines, bearer) => {
    expect(read(lines).bearer).toBe(bearer)
  })

  it.each<[string, Lines]>([
    [
      'Authorization twice',
      [
        ['Authorization', 'Bearer a'],
        ['authorization', 'Bearer b'],
      ],
    ],
    [
      'Authorization twice, alike',
      [
        ['Authorization', 'Bearer a'],
        ['Authorization', 'Bearer a'],
      ],
    ],
    [
      'x-api-key twice, alike',
      [
        ['x-api-key', 'a'],
        ['X-API-KEY', 'a'],
      ],
    ],
    [
      'two that differ',
      [
        ['Authorization', 'Bearer a'],
        ['x-api-key', 'b'],
      ],
    ],
    [
      'two that differ in case',
      [
        ['api-key', 'a'],
        ['x-goog-api-key', 'A'],
      ],
    ],
    [
      'another scheme beside a key',
      [
        ['Authorization', 'Basic YTpi'],
        ['x-api-key', 'a'],
      ],
    ],
    [
      'an empty one beside a key',
      [
        ['x-api-key', ''],
        ['api-key', 'a'],
      ],
    ],
    ['one that is too long', [['x-api-key', 'a'.repeat(4097)]]],
  ])('refuses %s', (_, lines) => {
    const error = refusal(() => read(lines))
    expect(error.code).toBe('invalid_request')
    expect(error.message).not.toMatch(/YTpi|aaaa/)
  })
})

describe('host and target', () => {
  it.each([
    ['a path', '/v1/models', '/v1/models'],
    ['a path with a query', '/v1/models?x=/y', '/v1/models?x=/y'],
    ['two slashes, which are no host', '//evil/v1/models', '//evil/v1/models'],
    ['the absolute form with the same host', 'http://gateway:7456/v1/models?x', '/v1/models?x'],
    ['the absolute form in another case', 'HTTP://GATEWAY:7456/v1/models', '/v1/models'],
    ['the absolute form without a path', 'http://gateway:7456', '/'],
    ['the absolute form with only a query', 'http://gateway:7456?x', '/?x'],
  ])('reads %s', (_, target, path) => {
    expect(read([], { target }).target).toBe(path)
  })

  it('reads * of OPTIONS as the root', () => {
    expect(read([], { target: '*', method: 'OPTIONS' }).target).toBe('/')
  })

  it.each([
    ['the absolute form with another host', 'http://evil/v1/models'],
    ['the absolute form with another port', 'http://gateway:80/v1/models'],
    ['the absolute form without a port', 'http://gateway/v1/models'],
    ['the absolute form with a user', 'http://x@gateway:7456/v1/models'],
    ['the absolute form with a host as user', 'http://gateway:7456@evil/v1/models'],
    ['the absolute form with a backslash', 'http://gateway:7456\\@evil/v1/models'],
    ['the absolute form of another scheme', 'ftp://gateway:7456/v1/models'],
    ['a host and port, as CONNECT has them', 'gateway:7456'],
    ['* of another method', '*'],
    ['a path without its slash', 'v1/models'],
    ['nothing', ''],
    ['a backslash, which some take for a slash', '/v1\\models'],
    ['a fragment', '/v1/models#x'],
    ['characters beyond ASCII', '/v1/mod\u00e9ls'],
    ['a control character', '/v1/models\u007f'],
    ['a space', '/v1/models x'],
  ])('refuses %s', (_, target) => {
    expect(refusal(() => read([], { target })).code).toBe('invalid_request')
  })

  it.each(['a', 'a:1', '127.0.0.1:7456', '[::1]:7456', 'xn--e1afmkfd.example', 'a_b.c'])(
    'accepts the host %s',
    (host) => {
      expect(raw(['Host', host])).not.toThrow()
    },
  )

  it.each(['', ' ', 'a/b', 'a@b', 'a#b', 'a?b', 'a\\b', 'a b', 'a\tb', 'é', 'a"b', '<a>', 'a|b', 'http://a'])(
    'refuses the host "%s"',
    (host) => {
      expect(refusal(raw(['Host', host])).code).toBe('invalid_request')
    },
  )

  it('refuses two hosts, alike or not, and none', () => {
    for (const lines of [['Host', 'a', 'Host', 'b'], ['Host', 'a', 'host', 'a'], []]) {
      expect(refusal(raw(lines)).code).toBe('invalid_request')
    }
  })

  it('takes a request of HTTP/1.0 without a host', () => {
    expect(raw([], { httpVersion: '1.0' })).not.toThrow()
    expect(refusal(raw([], { httpVersion: '1.0', target: 'http://a/' })).code).toBe('invalid_request')
  })
})

describe('framing', () => {
  it.each<[string, Lines, number | undefined]>([
    ['no body', [], 0],
    ['an empty body', [['Content-Length', '0']], 0],
    ['a length', [['Content-Length', '12']], 12],
    ['a chunked body', [['Transfer-Encoding', 'chunked']], undefined],
    ['a chunked body in another case', [['Transfer-Encoding', 'Chunked']], undefined],
  ])('reads %s', (_, lines, length) => {
    expect(read(lines).contentLength).toBe(length)
  })

  it.each<[string, Lines, Partial<RawHead>?]>([
    [
      'a length beside chunks',
      [
        ['Content-Length', '5'],
        ['Transfer-Encoding', 'chunked'],
      ],
    ],
    [
      'two lengths',
      [
        ['Content-Length', '5'],
        ['Content-Length', '6'],
      ],
    ],
    [
      'two lengths, alike',
      [
        ['Content-Length', '5'],
        ['Content-Length', '5'],
      ],
    ],
    ['a list of lengths', [['Content-Length', '5, 5']]],
    ['a signed length', [['Content-Length', '+5']]],
    ['a negative length', [['Content-Length', '-5']]],
    ['a hexadecimal length', [['Content-Length', '0x5']]],
    ['a length with an underscore', [['Content-Length', '0_5']]],
    ['a fraction', [['Content-Length', '5.0']]],
    ['an exponent', [['Content-Length', '1e3']]],
    ['an empty length', [['Content-Length', '']]],
    ['a length beyond numbers', [['Content-Length', '9'.repeat(16)]]],
    ['digits of another script', [['Content-Length', '٥']]],
    ['identity, chunked', [['Transfer-Encoding', 'identity, chunked']]],
    ['chunked, identity', [['Transfer-Encoding', 'chunked, identity']]],
    [
      'chunked twice',
      [
        ['Transfer-Encoding', 'chunked'],
        ['Transfer-Encoding', 'chunked'],
      ],
    ],
    ['chunked, chunked', [['Transfer-Encoding', 'chunked, chunked']]],
    ['xchunked', [['Transfer-Encoding', 'xchunked']]],
    ['gzip, chunked', [['Transfer-Encoding', 'gzip, chunked']]],
    ['an empty coding', [['Transfer-Encoding', '']]],
    ['chunks in HTTP/1.0', [['Transfer-Encoding', 'chunked']], { httpVersion: '1.0' }],
    ['a GET with a body', [['Content-Length', '1']], { method: 'GET' }],
    ['a GET with chunks', [['Transfer-Encoding', 'chunked']], { method: 'GET' }],
    ['a HEAD with a body', [['Content-Length', '1']], { method: 'HEAD' }],
    ['a DELETE with a body', [['Content-Length', '1']], { method: 'DELETE' }],
    ['an OPTIONS with a body', [['Content-Length', '1']], { method: 'OPTIONS' }],
    [
      'two content types',
      [
        ['Content-Type', 'application/json'],
        ['Content-Type', 'text/plain'],
      ],
    ],
    [
      'two content encodings',
      [
        ['Content-Encoding', 'gzip'],
        ['Content-Encoding', 'identity'],
      ],
    ],
  ])('refuses %s', (_, lines, more) => {
    expect(refusal(() => read(lines, more)).code).toBe('invalid_request')
  })

  it('accepts a length of 0 where no body belongs', () => {
    expect(read([['Content-Length', '0']], { method: 'GET' }).contentLength).toBe(0)
  })
})

describe('expectations and time limits', () => {
  it('knows one expectation', () => {
    expect(read([['Expect', '100-Continue']]).expect).toBe('100-Continue')
    for (const value of ['', '200-ok', '100-continue, x', 'x']) {
      expect(refusal(() => read([['Expect', value]])).code).toBe('expectation_failed')
    }
    expect(
      refusal(() =>
        read([
          ['Expect', '100-continue'],
          ['Expect', '100-continue'],
        ]),
      ).code,
    ).toBe('invalid_request')
  })

  it.each(['1', '0001', '99999999'])('accepts a time limit of %s', (value) => {
    expect(read([['x-sluice-timeout-ms', value]]).timeoutMs).toBe(Number(value))
  })

  it.each(['', '0', '00', '-1', '1.5', '1e3', '0x1', ' 5 s', '999999999', 'NaN'])(
    'reads a time limit of "%s" as none, to be told when it is known who calls',
    (value) => {
      expect(read([['x-sluice-timeout-ms', value]]).timeoutMs).toBeNaN()
    },
  )
})
