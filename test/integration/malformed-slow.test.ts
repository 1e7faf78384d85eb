// Callers who send slowly, or nothing, against the real time limits; everything runs at once, so that it takes as long
// as the longest limit.

import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { parseResponses, rawRequest } from '../support/raw-http.ts'
import { createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'
import { CHAT_BODY, expectRefusal, plainBytes, requestBytes } from '../unit/http/raw-shapes.ts'

let gateway: TestGateway
let provider: ScriptedProvider

beforeAll(async () => {
  provider = await createScriptedProvider()
  gateway = await startGateway({ config: simpleConfig({ provider: provider.url }) })
})
afterAll(async () => {
  expect(gateway.stderr()).toBe('')
  await gateway.stop()
  await provider.close()
})

/** Sends the start at once and a byte of the rest every so often, until the gateway ends the connection. */
function drip(start: Buffer, rest: Buffer, everyMs: number): Promise<{ raw: Buffer; elapsedMs: number }> {
  return new Promise((resolve, reject) => {
    const startedMs = performance.now()
    const chunks: Buffer[] = []
    let at = 0
    const socket = connect({ port: gateway.port, host: '127.0.0.1' }, () => {
      if (start.length > 0) socket.write(start)
    })
    const timer = setInterval(() => {
      if (at < rest.length) socket.write(rest.subarray(at, (at += 1)))
    }, everyMs)
    const limit = setTimeout(() => reject(new Error('the gateway waits for ever')), 18_000)
    socket.on('data', (bytes) => chunks.push(bytes))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      clearInterval(timer)
      clearTimeout(limit)
      resolve({ raw: Buffer.concat(chunks), elapsedMs: performance.now() - startedMs })
    })
  })
}

describe.concurrent('slow callers', () => {
  it('end with 408 when their heads or bodies crawl, while others are served as ever', {
    timeout: 30_000,
  }, async () => {
    const { bearer } = gateway
    const whole = requestBytes({ bearer })
    const headEnd = whole.indexOf('\r\n\r\n') + 4
    const crawl = Buffer.alloc(1000, 'x')
    const announced = requestBytes({ bearer, body: '', framing: ['Content-Length: 100000'] })
    const chunks = requestBytes({ bearer, body: '', framing: ['Transfer-Encoding: chunked'] })
    const slow = {
      heads: Array.from({ length: 60 }, () => drip(Buffer.alloc(0), whole, 300)),
      'a head that stops': [drip(whole.subarray(0, headEnd - 2), Buffer.alloc(0), 1000)],
      'a line that never ends': [drip(Buffer.from('GET / HTTP/1.1\r\nX-A: '), crawl, 200)],
      bodies: Array.from({ length: 60 }, () => drip(announced, crawl, 300)),
      'a body that never comes': [drip(announced, Buffer.alloc(0), 1000)],
      'a chunk that never ends': [drip(Buffer.concat([chunks, Buffer.from('ffff\r\n')]), crawl, 300)],
      'a chunk size that never ends': [drip(chunks, Buffer.alloc(1000, '0'), 300)],
    }
    let isOver = false
    const ended = Promise.all(
      Object.entries(slow).map(async ([name, callers]) => ({ name, results: await Promise.all(callers) })),
    ).finally(() => {
      isOver = true
    })
    const times: number[] = []
    while (!isOver) {
      const good = await rawRequest(gateway.port, whole, { lingerMs: 25 })
      expect(good.status).toBe(200)
      times.push(good.elapsedMs)
    }
    for (const { name, results } of await ended) {
      for (const { raw, elapsedMs } of results) {
        expectRefusal(parseResponses(raw).responses[0], 408, 'request_timeout')
        const limitMs = /head|line/.test(name) ? 10_000 : 5_000
        expect(elapsedMs, name).toBeGreaterThan(limitMs - 50)
        expect(elapsedMs, name).toBeLessThan(limitMs + 5_000)
      }
    }
    times.sort((a, b) => a - b)
    expect(times[Math.floor(times.length * 0.95)]).toBeLessThan(1_000)
    expect(provider.calls).toBe(times.length)
  })

  it('who connect and say nothing are let go', { timeout: 30_000 }, async () => {
    const callers = await Promise.all(
      Array.from({ length: 20 }, () => drip(Buffer.alloc(0), Buffer.alloc(0), 1000)),
    )
    for (const { elapsedMs } of callers) expect(elapsedMs).toBeLessThan(15_000)
  })

  // Up to 64 KiB a body that nobody wants is waited for, so that the connection can be used again.
  const small = (shape: Parameters<typeof requestBytes>[0]) =>
    requestBytes({ body: '{"a":"', framing: ['Content-Length: 5000'], ...shape })
  const nothing = Buffer.alloc(0)
  const byteByByte = Buffer.alloc(5000, 'x')

  it.each([
    ['401', 'crawls', () => small({ bearer: 'zz' }), byteByByte],
    ['401', 'never comes', () => small({ bearer: 'zz' }), nothing],
    ['404', 'crawls', () => small({ bearer: 'zz', target: '/v1/files' }), byteByByte],
    ['404', 'never comes', () => small({ bearer: 'zz', target: '/v1/files' }), nothing],
    ['405', 'never comes', () => small({ target: '/v1/chat/completions', method: 'PUT' }), nothing],
    ['415', 'never comes', () => small({ bearer: gateway.bearer, contentType: 'text/plain' }), nothing],
    // What is sent in place of the body is the body.
    ['401', 'is another request', () => small({ bearer: 'zz' }), plainBytes('GET', '/health')],
  ])(
    'get one %s and are let go a second later when the small body behind it %s',
    {
      timeout: 30_000,
    },
    async (status, _, start, rest) => {
      const { raw, elapsedMs } = await drip(start(), rest, rest.length < 100 ? 5 : 500)
      const { responses, rest: surplus } = parseResponses(raw)
      expect([responses.map((one) => `${one.status}`), surplus.length]).toEqual([[status], 0])
      expect(elapsedMs).toBeLessThan(4_000)
    },
  )

  it.each([
    ['crawls', byteByByte],
    ['never comes', nothing],
  ])('get one 408 that ends the connection when a small body %s', { timeout: 30_000 }, async (_, rest) => {
    const { raw, elapsedMs } = await drip(small({ bearer: gateway.bearer }), rest, 1000)
    const { responses, rest: surplus } = parseResponses(raw)
    expect([responses.length, surplus.length]).toEqual([1, 0])
    expectRefusal(responses[0], 408, 'request_timeout')
    expect(responses[0]?.header('connection')).toBe('close')
    expect(elapsedMs).toBeGreaterThan(5_000)
    expect(elapsedMs).toBeLessThan(11_000)
  })

  it('keep their connection when the rest of a small body comes soon', async () => {
    const parts = [requestBytes({ bearer: 'zz', body: '', framing: [`Content-Length: ${CHAT_BODY.length}`] })]
    const rest = [Buffer.from(CHAT_BODY), plainBytes('GET', '/health')]
    const result = await rawRequest(gateway.port, [...parts, { delayMs: 300 }, ...rest], {
      responses: 2,
      lingerMs: 1500,
    })
    expect(result.responses.map((one) => one.status)).toEqual([401, 200])
    expect([result.surplus.length, result.closed]).toEqual([0, false])
  })
})
