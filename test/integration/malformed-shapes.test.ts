// Every named shape of a malformed request (reliability §3.1, design §5), as bytes to a real gateway: refused with its
// status in the shape clients read, and never seen by the provider.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { type RawResult, rawRequest } from '../support/raw-http.ts'
import { createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'
import {
  CHAT_BODY,
  chunk,
  expectRefusal,
  plainBytes,
  requestBytes,
  type Shape,
} from '../unit/http/raw-shapes.ts'

let gateway: TestGateway
let provider: ScriptedProvider

beforeAll(async () => {
  provider = await createScriptedProvider()
  gateway = await startGateway({
    config: simpleConfig({ provider: provider.url, over: { listen: { maxBody: '1MiB' } } }),
  })
})
afterAll(async () => {
  expect(gateway.stderr()).toBe('')
  await gateway.stop()
  await provider.close()
})

const MODELS = '/v1/models'

/** Sends it, and shows that the provider got nothing and others are served. */
async function refused(bytes: Buffer, responses = 1): Promise<RawResult> {
  const before = provider.calls
  const faults = provider.faults.length
  const result = await rawRequest(gateway.port, bytes, { responses, lingerMs: 30 })
  expect(provider.calls).toBe(before)
  expect(provider.faults).toHaveLength(faults)
  const good = await rawRequest(gateway.port, requestBytes({ bearer: gateway.bearer }), { lingerMs: 0 })
  expect(good.status).toBe(200)
  expect(provider.calls).toBe(before + 1)
  return result
}

/** One refusal is all that comes back: what was smuggled behind it is not answered. */
async function expectRefused(bytes: Buffer, status: number, code: string): Promise<RawResult> {
  const result = await refused(bytes)
  expectRefusal(result.responses[0], status, code)
  expect(result.responses).toHaveLength(1)
  expect(result.surplus).toHaveLength(0)
  return result
}

const good = (shape: Shape = {}): Buffer => requestBytes({ bearer: gateway.bearer, ...shape })
const SMUGGLED = 'GET /v1/models HTTP/1.1\r\nHost: gateway\r\n\r\n'
const CHUNKED = chunk(CHAT_BODY) + chunk()
const LENGTH = `Content-Length: ${CHAT_BODY.length}`

describe('framing', () => {
  it.each<[string, Shape]>([
    [
      'a length beside chunks',
      { framing: ['Content-Length: 4', 'Transfer-Encoding: chunked'], body: `${chunk()}${SMUGGLED}` },
    ],
    [
      'chunks beside a length',
      { framing: ['Transfer-Encoding: chunked', 'Content-Length: 4'], body: `${chunk()}${SMUGGLED}` },
    ],
    ['two lengths that differ', { framing: ['Content-Length: 0', LENGTH] }],
    ['two lengths, alike', { framing: [LENGTH, LENGTH] }],
    ['a signed length', { framing: [`Content-Length: +${CHAT_BODY.length}`] }],
    ['a negative length', { framing: ['Content-Length: -1'] }],
    ['a list of lengths', { framing: [`Content-Length: ${CHAT_BODY.length}, ${CHAT_BODY.length}`] }],
    ['a hexadecimal length', { framing: ['Content-Length: 0x5'] }],
    ['a length with an underscore', { framing: ['Content-Length: 5_7'] }],
    ['a length with a space inside', { framing: ['Content-Length: 5 7'] }],
    ['a length beyond 64 bits', { framing: ['Content-Length: 18446744073709551617'] }],
    ['an empty length', { framing: ['Content-Length:'] }],
    ['xchunked', { framing: ['Transfer-Encoding: xchunked'], body: CHUNKED }],
    ['chunked, identity', { framing: ['Transfer-Encoding: chunked, identity'], body: CHUNKED }],
    ['identity, chunked', { framing: ['Transfer-Encoding: identity, chunked'], body: CHUNKED }],
    ['gzip, chunked', { framing: ['Transfer-Encoding: gzip, chunked'], body: CHUNKED }],
    [
      'two codings',
      { framing: ['Transfer-Encoding: chunked', 'Transfer-Encoding: identity'], body: CHUNKED },
    ],
    [
      'chunked twice',
      { framing: ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'], body: CHUNKED },
    ],
    ['a coding behind a vertical tab', { framing: ['Transfer-Encoding:\vchunked'], body: CHUNKED }],
    ['a coding behind a space in the name', { framing: ['Transfer-Encoding : chunked'], body: CHUNKED }],
    ['a folded coding', { framing: ['Transfer-Encoding:', ' chunked'], body: CHUNKED }],
    ['an empty coding', { framing: ['Transfer-Encoding:'], body: CHUNKED }],
    ['chunks in HTTP/1.0', { version: 'HTTP/1.0', framing: ['Transfer-Encoding: chunked'], body: CHUNKED }],
    [
      'chunk lines that end with LF',
      { framing: ['Transfer-Encoding: chunked'], body: CHUNKED.replaceAll('\r\n', '\n') },
    ],
    ['a chunk size with a sign', { framing: ['Transfer-Encoding: chunked'], body: `+${CHUNKED}` }],
    ['a chunk size in 0x', { framing: ['Transfer-Encoding: chunked'], body: `0x${CHUNKED}` }],
    ['a chunk size that is no number', { framing: ['Transfer-Encoding: chunked'], body: `zz\r\n${CHUNKED}` }],
    [
      'a chunk size beyond 64 bits',
      { framing: ['Transfer-Encoding: chunked'], body: `10000000000000001\r\nx\r\n${chunk()}` },
    ],
    [
      'a chunk longer than it says',
      { framing: ['Transfer-Encoding: chunked'], body: `2\r\nxyz\r\n${chunk()}` },
    ],
    ['a negative chunk', { framing: ['Transfer-Encoding: chunked'], body: `-1\r\nx\r\n${chunk()}` }],
    ['a GET with a body', { method: 'GET', target: MODELS }],
    [
      'a GET with chunks',
      { method: 'GET', target: MODELS, framing: ['Transfer-Encoding: chunked'], body: CHUNKED },
    ],
    ['a HEAD with a body to a model endpoint', { method: 'DELETE' }],
  ])('%s is a 400', async (_, shape) => {
    await expectRefused(good(shape), 400, 'invalid_request')
  })

  it('chunk extensions of 20 KiB are a 413', async () => {
    const body = chunk(CHAT_BODY, `;x=${'y'.repeat(20 * 1024)}`)
    await expectRefused(good({ framing: ['Transfer-Encoding: chunked'], body }), 413, 'request_too_large')
  })

  it('a body that is longer than its length is a 400 in place of the next answer', async () => {
    const result = await rawRequest(
      gateway.port,
      good({ framing: [`Content-Length: ${CHAT_BODY.length - 2}`] }),
    )
    expect(result.responses.map((one) => one.status)).toEqual([400])
    expect(result.closed).toBe(true)
  })
})

describe('lines', () => {
  it.each<[string, () => Buffer]>([
    ['two hosts', () => good({ hosts: ['gateway', 'evil'] })],
    ['two hosts, alike', () => good({ hosts: ['gateway', 'gateway'] })],
    ['no host', () => good({ hosts: [] })],
    ['an empty host', () => good({ hosts: [''] })],
    ['a host with a path', () => good({ hosts: ['gateway/v1'] })],
    ['a host with a user', () => good({ hosts: ['x@gateway'] })],
    ['a host with a fragment', () => good({ hosts: ['gateway#x'] })],
    ['a host with a backslash', () => good({ hosts: ['gateway\\x'] })],
    ['the absolute form with another host', () => good({ target: 'http://evil/v1/chat/completions' })],
    ['the absolute form with a user', () => good({ target: 'http://x@gateway/v1/chat/completions' })],
    ['a target without a slash', () => good({ target: 'v1/chat/completions' })],
    ['a target of *', () => good({ target: '*' })],
    ['a target with a backslash', () => good({ target: '/v1\\chat/completions' })],
    ['a target with a fragment', () => good({ target: '/v1/chat/completions#x' })],
    ['a target with a NUL', () => good({ target: '/v1/chat\0' })],
    ['a target with a space', () => good({ target: '/v1/chat completions' })],
    ['a space in front of the colon', () => good({ lines: ['X-A : b'] })],
    ['a folded line', () => good({ lines: ['X-A: b', ' c'] })],
    ['a first line that is folded', () => Buffer.from('GET / HTTP/1.1\r\n X-A: b\r\nHost: gateway\r\n\r\n')],
    ['a NUL in a value', () => good({ lines: ['X-A: b\0c'] })],
    ['a NUL in a name', () => good({ lines: ['X\0A: b'] })],
    ['a bare CR in a value', () => good({ lines: ['X-A: b\rc: d'] })],
    ['a vertical tab in a value', () => good({ lines: ['X-A: b\vc'] })],
    ['a DEL in a value', () => good({ lines: ['X-A: b\x7fc'] })],
    ['a line without a colon', () => good({ lines: ['X-A'] })],
    ['an empty name', () => good({ lines: [': b'] })],
    ['a name in brackets', () => good({ lines: ['(X): b'] })],
    ['a name beyond ASCII', () => good({ lines: ['X-\u00e9: b'] })],
    [
      'lines that end with LF',
      () => Buffer.from(good().toString('latin1').replaceAll('\r\n', '\n'), 'latin1'),
    ],
    ['one line that ends with LF', () => good({ lines: ['X-A: b\nX-B: c'] })],
    [
      'lines that end with CR',
      () => Buffer.from(good().toString('latin1').replaceAll('\r\n', '\r'), 'latin1'),
    ],
    ['a header named __proto__', () => good({ lines: ['__proto__: x'] })],
    ['a lower-case version', () => good({ version: 'http/1.1' })],
    ['HTTP/2.0', () => good({ version: 'HTTP/2.0' })],
    ['HTTP/1.2', () => good({ version: 'HTTP/1.2' })],
    ['HTTP/0.9', () => Buffer.from('GET /v1/models\r\n\r\n')],
    ['no version', () => Buffer.from('POST /v1/chat/completions\r\nHost: gateway\r\n\r\n')],
    ['another protocol', () => Buffer.from('SSH-2.0-OpenSSH_9.9\r\n\r\n')],
    ['a TLS hello', () => Buffer.from('16030100c8010000c40303', 'hex')],
    ['the preface of HTTP/2', () => Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')],
    ['a method nobody knows', () => good({ method: 'PWN' })],
    ['a method in lower case', () => good({ method: 'post' })],
    ['Authorization twice', () => good({ lines: ['Authorization: Bearer other'] })],
    ['Authorization twice, alike', () => good({ lines: [`authorization: Bearer ${gateway.bearer}`] })],
    ['credentials that differ', () => good({ lines: ['x-api-key: other'] })],
    [
      'a credential beside another scheme',
      () => requestBytes({ lines: ['Authorization: Basic eA==', `x-api-key: ${gateway.bearer}`] }),
    ],
    ['two content types', () => good({ lines: ['Content-Type: application/json'] })],
    ['a time limit that is no number', () => good({ lines: ['x-sluice-timeout-ms: soon'] })],
  ])('%s: 400', async (_, bytes) => {
    await expectRefused(bytes(), 400, 'invalid_request')
  })

  it('an unknown expectation is a 417', async () => {
    await expectRefused(good({ lines: ['Expect: 200-ok'] }), 417, 'expectation_failed')
  })

  it('101 header lines are a 431, also when the last is the credential, and 100 are none', async () => {
    const lines = Array.from({ length: 97 }, (_, i) => `x-${i}: y`)
    expect((await rawRequest(gateway.port, good({ lines: lines.slice(1) }))).status).toBe(200)
    await expectRefused(good({ lines }), 431, 'headers_too_large')
    await expectRefused(good({ lines: [...lines, ...lines, ...lines] }), 431, 'headers_too_large')
    const late = requestBytes({ lines: [...lines, `Authorization: Bearer ${gateway.bearer}`] })
    await expectRefused(late, 431, 'headers_too_large')
  })

  it.each([
    ['one long line', ['x-a: '.padEnd(17 * 1024, 'y')]],
    ['many lines', Array.from({ length: 90 }, (_, i) => `x-${i}: ${'y'.repeat(190)}`)],
  ])('a head of 17 KiB in %s is a 431', async (_, lines) => {
    await expectRefused(good({ lines }), 431, 'headers_too_large')
  })

  it('a target of 17 KiB is a 431', async () => {
    await expectRefused(good({ target: `/v1/${'x'.repeat(17 * 1024)}` }), 431, 'headers_too_large')
  })

  it('trailers do not make a head: 17 KiB of them are refused', async () => {
    const trailers = `0\r\nx-a: ${'y'.repeat(17 * 1024)}\r\n\r\n`
    const result = await refused(
      good({ framing: ['Transfer-Encoding: chunked'], body: chunk('{"model":"m"') + trailers }),
    )
    expectRefusal(result.responses[0], 431, 'headers_too_large')
  })
})

describe('types and sizes', () => {
  it.each([
    ['text/plain'],
    ['application/x-www-form-urlencoded'],
    ['multipart/form-data; boundary=x'],
    ['application/json; charset=utf-16'],
    ['application/json; charset=latin1'],
    ['application/jsonp'],
    ['text/json'],
    ['application/json, text/plain'],
    [''],
  ])('the content type "%s" is a 415', async (contentType) => {
    await expectRefused(good({ contentType }), 415, 'unsupported_media_type')
  })

  it.each([
    [undefined],
    ['application/json'],
    ['application/json; charset=utf-8'],
    ['application/json;charset="UTF-8"'],
    ['Application/JSON'],
    ['application/vnd.api+json'],
  ])('the content type %s is read', async (contentType) => {
    expect((await rawRequest(gateway.port, good({ contentType }), { lingerMs: 0 })).status).toBe(200)
  })

  it.each(['gzip', 'br', 'deflate', 'identity, gzip', 'x'])(
    'the content encoding %s is a 415',
    async (encoding) => {
      await expectRefused(good({ lines: [`Content-Encoding: ${encoding}`] }), 415, 'unsupported_media_type')
    },
  )

  it('the content encoding identity is read', async () => {
    expect((await rawRequest(gateway.port, good({ lines: ['Content-Encoding: identity'] }))).status).toBe(200)
  })

  const tooLong = `{"model":"m","x":"${'y'.repeat(3 * 1024 * 1024)}"}`

  it('a body over the limit is a 413 that can be read, by its length', async () => {
    const result = await expectRefused(good({ body: tooLong }), 413, 'request_too_large')
    expect(result.closed).toBe(true)
  })

  it('a body over the limit is a 413 that can be read, in chunks', async () => {
    const body = Array.from({ length: 48 }, () => chunk('z'.repeat(64 * 1024))).join('') + chunk()
    const result = await expectRefused(
      good({ framing: ['Transfer-Encoding: chunked'], body }),
      413,
      'request_too_large',
    )
    expect(result.closed).toBe(true)
  })

  it('a body that is only announced is a 413 at once', async () => {
    const result = await expectRefused(
      good({ framing: ['Content-Length: 99999999999'], body: '' }),
      413,
      'request_too_large',
    )
    expect(result.elapsedMs).toBeLessThan(2_500)
  })

  it('fetch reads the 413 of a body that it is still sending', async () => {
    const response = await fetch(`${gateway.baseUrl}/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${gateway.bearer}`, 'content-type': 'application/json' },
      body: tooLong,
    })
    expect(response.status).toBe(413)
    expect(await response.json()).toMatchObject({ error: { code: 'request_too_large' } })
  })

  it('a body of the limit is read', async () => {
    const body = `{"model":"m","x":"${'y'.repeat(1024 * 1024 - 20)}"}`
    expect(body).toHaveLength(1024 * 1024)
    expect((await rawRequest(gateway.port, good({ body }))).status).toBe(200)
    expect((await rawRequest(gateway.port, good({ body: `${body} ` }))).status).toBe(413)
  })
})

describe('bodies', () => {
  const deep = `{"model":"m","x":${'['.repeat(200_000)}`
  const wide = `{"model":"m","x":{${Array.from({ length: 100_000 }, (_, i) => `"${i}":0`).join(',')}`.slice(
    0,
    1_000_000,
  )

  it.each([
    ['no body', '', 'invalid_json'],
    ['a cut body', '{"model":"m"', 'invalid_json'],
    ['an array', '[{"model":"m"}]', 'invalid_json'],
    ['a byte order mark', '\ufeff{"model":"m"}', 'invalid_json'],
    ['two documents', '{"model":"m"}{"model":"m"}', 'invalid_json'],
    ['a model twice', '{"model":"m","model":"other"}', 'ambiguous_field'],
    ['a model in escapes', '{"model":"m","mod\\u0065l":"other"}', 'ambiguous_field'],
    ['a model in another case', '{"model":"m","Model":"other"}', 'ambiguous_field'],
    ['a long s', '{"model":"m","ſtream":true}', 'ambiguous_field'],
    ['__proto__', '{"model":"m","__proto__":{"model":"other"}}', 'invalid_request'],
    ['a nesting bomb', deep, 'invalid_request'],
    ['a cut bomb of keys', wide, 'invalid_json'],
    ['a way to another host', '{"model":"m","api_base":"http://127.0.0.1:1"}', 'invalid_request'],
    ['a model that is no string', '{"model":{"x":1}}', 'invalid_request'],
  ])('%s is a 400', async (_, body, code) => {
    await expectRefused(good({ body }), 400, code)
  })

  it('a body that is not UTF-8 is a 400', async () => {
    await expectRefused(good({ body: Buffer.from('{"model":"m\xff"}', 'latin1') }), 400, 'invalid_json')
  })

  it('a schema with a property called constructor reaches the provider as it came', async () => {
    const body =
      '{"model":"m","tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"constructor":{}}}}}]}'
    provider.reset()
    expect((await rawRequest(gateway.port, good({ body }))).status).toBe(200)
    expect(provider.requests[0]?.body.toString()).toBe(body.replace('"m"', '"m1"'))
  })
})

describe('who and where', () => {
  it.each<[string, Shape]>([
    ['no credential', {}],
    ['an unknown one', { bearer: 'sk-nobody' }],
    ['another scheme', { lines: ['Authorization: Basic eA=='] }],
    ['an empty one', { lines: ['Authorization:'] }],
    ['one with spaces', { bearer: 'a b c' }],
    ['one beyond ASCII', { bearer: '\u00e9\u00ff' }],
  ])('%s is a 401, before anything of the body is judged', async (_, shape) => {
    await expectRefused(
      requestBytes({ contentType: 'text/plain', body: '{', ...shape }),
      401,
      'invalid_api_key',
    )
  })

  it.each([
    ['/v1/v1/v1/chat/completions'],
    ['//v1/chat/completions'],
    ['/v1//chat/completions'],
    ['/v1/chat%2fcompletions'],
    ['/v1%2fchat/completions'],
    ['/V1/chat/completions'],
    ['/v1/CHAT/completions'],
    ['/v1/chat/completions;x'],
    ['/v1/x/../chat/completions'],
    ['/v1/./chat/completions'],
    ['/metrics'],
    ['/status'],
    ['/reload'],
    ['/explain'],
    ['/admin'],
  ])('POST %s is a 404', async (target) => {
    await expectRefused(good({ target }), 404, 'not_found')
  })

  it.each([
    '/chat/completions',
    '/v1/chat/completions/',
    '/v1/v1/chat/completions',
    '/v1/chat/completions?api-version=1',
    'http://gateway/v1/chat/completions',
  ])('POST %s is served', async (target) => {
    expect((await rawRequest(gateway.port, good({ target }), { lingerMs: 0 })).status).toBe(200)
  })

  it.each(['GET', 'PATCH', 'PUT', 'PROPFIND', 'QUERY', 'TRACE'])(
    '%s of a model endpoint is a 405 that names POST',
    async (method) => {
      const result = await refused(plainBytes(method, '/v1/chat/completions'))
      expectRefusal(result.responses[0], 405, 'method_not_allowed')
      expect(result.header('allow')).toBe('POST')
    },
  )

  it.each(['/health', '/ready', '/v1/models', '/v1/models/m'])(
    'POST of %s is a 405 that names GET',
    async (target) => {
      const result = await refused(good({ target }))
      expectRefusal(result.responses[0], 405, 'method_not_allowed')
      expect(result.header('allow')).toMatch(/\bGET\b/)
    },
  )

  it('CONNECT is refused in words', async () => {
    await expectRefused(
      Buffer.from('CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n'),
      405,
      'method_not_allowed',
    )
  })

  it.each(['/health', '/ready', '/api/hello'])('HEAD %s is a 200 without a body', async (target) => {
    const result = await rawRequest(gateway.port, plainBytes('HEAD', target))
    expect([result.status, result.surplus.length]).toEqual([200, 0])
    expect(result.header('x-request-id')).toMatch(/^req_/)
  })

  it.each([
    ['HEAD', '/v1/chat/completions', 405],
    ['HEAD', '/nowhere', 404],
    ['HEAD', '/v1/models', 401],
  ])('%s %s is a %i without a body', async (method, target, status) => {
    const result = await refused(plainBytes(method, target))
    expect([result.status, result.surplus.length]).toEqual([status, 0])
  })

  it.each(['/v1/chat/completions', '/health', '*', '/nowhere'])('OPTIONS %s is a 204', async (target) => {
    expect((await refused(plainBytes('OPTIONS', target))).status).toBe(204)
  })

  it.each(['GET', 'POST'])('an upgrade of /v1/responses by %s is a 426', async (method) => {
    const lines = [
      'Upgrade: websocket',
      'Connection: Upgrade',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      'Sec-WebSocket-Version: 13',
    ]
    const result = await expectRefused(plainBytes(method, '/v1/responses', lines), 426, 'upgrade_required')
    expect(result.header('upgrade')).toBeDefined()
  })

  it('an upgrade elsewhere is ignored', async () => {
    const lines = [
      'Upgrade: h2c',
      'Connection: Upgrade, HTTP2-Settings',
      'HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA',
    ]
    expect((await rawRequest(gateway.port, good({ lines }))).status).toBe(200)
    expect(
      (
        await rawRequest(
          gateway.port,
          plainBytes('GET', '/health', ['Upgrade: websocket', 'Connection: Upgrade']),
        )
      ).status,
    ).toBe(200)
  })

  it.each([
    ['HTTP/1.0 without a host', 'GET /health HTTP/1.0\r\n\r\n'],
    ['a host with two colons', 'GET /health HTTP/1.1\r\nHost: a:b:c\r\n\r\n'],
    ['a host with a strange port', 'GET /health HTTP/1.1\r\nHost: a:99999999\r\n\r\n'],
    ['a cut IPv6 address', 'GET /health HTTP/1.1\r\nHost: [::1\r\n\r\n'],
    ['a host with a broken escape', 'GET /health HTTP/1.1\r\nHost: %zz\r\n\r\n'],
    ['a host that a URL would rewrite', 'GET /health HTTP/1.1\r\nHost: 0x7f.1\r\n\r\n'],
  ])('/health answers %s: no name of a host is needed', async (_, text) => {
    const result = await rawRequest(gateway.port, text)
    expect([result.status, result.body.toString()]).toEqual([200, '{"status":"ok"}'])
    expect(result.header('x-request-id')).toMatch(/^req_/)
  })

  it('strange paths are 404 and nothing else', async () => {
    for (const path of [
      '/%',
      '/%ff',
      '/%00',
      '/v1/models/%',
      '/\u007e',
      '/{}',
      '/|',
      '/..',
      '/../../etc/passwd',
      '/:',
      '/?',
      '/v1/models%2f..',
    ]) {
      const result = await rawRequest(gateway.port, plainBytes('GET', path), { lingerMs: 0 })
      expect([401, 404], path).toContain(result.status)
      expect(result.header('x-request-id')).toMatch(/^req_/)
    }
  })
})
