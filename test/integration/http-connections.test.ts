// What a connection goes through: many requests, errors between them, callers who leave at every moment, callers who
// do not read. A real gateway with a scripted provider behind it.

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { metricOf } from '../support/operator.ts'
import { rawRequest } from '../support/raw-http.ts'
import {
  answer,
  createScriptedProvider,
  type ScriptedProvider,
  silent,
  stallAfter,
} from '../support/scripted-provider.ts'
import { CHAT_BODY, plainBytes, requestBytes, type Shape } from '../unit/http/raw-shapes.ts'

let gateway: TestGateway
let provider: ScriptedProvider

beforeAll(async () => {
  provider = await createScriptedProvider()
  gateway = await startGateway({ config: simpleConfig({ provider: provider.url }) })
})
beforeEach(() => provider.reset())
afterAll(async () => {
  expect(gateway.stderr()).toBe('')
  await gateway.stop()
  await provider.close()
})

const good = (shape: Shape = {}): Buffer => requestBytes({ bearer: gateway.bearer, ...shape })
const STREAM = '{"model":"m","stream":true,"messages":[]}'

async function dial(...parts: readonly Buffer[]): Promise<Socket> {
  const socket = connect({ port: gateway.port, host: '127.0.0.1' })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  for (const part of parts) socket.write(part)
  return socket
}

const inflight = (): Promise<number> => metricOf(gateway, 'sluice_inflight')

/** Resident memory of the gateway, in MiB. */
function residentMib(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${gateway.pid}/status`, 'utf8'))?.[1]) / 1024
}

describe('one connection', () => {
  it.each<[string, () => Buffer, number]>([
    ['401', () => requestBytes({ bearer: 'nobody' }), 401],
    ['400 for its body', () => good({ body: '{"model":' }), 400],
    ['400 for a field', () => good({ body: '{"model":"m","route":1}' }), 400],
    ['404', () => good({ target: '/v1/nowhere' }), 404],
    ['405', () => good({ method: 'PUT' }), 405],
    ['415', () => good({ contentType: 'text/plain' }), 415],
    ['404 without a body', () => plainBytes('GET', '/nowhere'), 404],
    ['404 for a model', () => good({ body: '{"model":"other"}' }), 404],
  ])('serves on after a %s', async (_, bytes, status) => {
    const result = await rawRequest(gateway.port, Buffer.concat([bytes(), good()]), { responses: 2 })
    expect(result.responses.map((one) => one.status)).toEqual([status, 200])
    expect(result.closed).toBe(false)
    expect(provider.calls).toBe(1)
  })

  it('answers pipelined requests each once and in order', async () => {
    const bodies = ['a', 'b', 'c', 'd'].map(
      (word) => `{"model":"m","messages":[{"role":"user","content":"${word}"}]}`,
    )
    provider.script((request) =>
      answer({
        text: request.body.toString().includes('"a"') ? 'first' : 'later',
        firstMs: request.body.toString().includes('"a"') ? 50 : 0,
      }),
    )
    const result = await rawRequest(gateway.port, Buffer.concat(bodies.map((body) => good({ body }))), {
      responses: 4,
    })
    expect(result.responses.map((one) => one.status)).toEqual([200, 200, 200, 200])
    expect(result.responses.map((one) => one.body.includes('first'))).toEqual([true, false, false, false])
    expect(provider.calls).toBe(4)
  })

  it('ends after an answer when the caller says so, and with HTTP/1.0', async () => {
    for (const bytes of [good({ lines: ['Connection: close'] }), good({ version: 'HTTP/1.0' })]) {
      const result = await rawRequest(gateway.port, bytes)
      expect([result.status, result.how]).toEqual([200, 'fin'])
    }
  })
})

describe('callers who leave', () => {
  it.each(['destroy', 'resetAndDestroy'] as const)(
    'in the middle of a head or a body leave nothing behind (%s)',
    async (leave) => {
      const bytes = good()
      for (const length of [
        1,
        20,
        bytes.indexOf('\r\n\r\n') + 2,
        bytes.indexOf('\r\n\r\n') + 4,
        bytes.length - 1,
      ]) {
        const socket = await dial(bytes.subarray(0, length))
        socket[leave]()
      }
      expect((await rawRequest(gateway.port, good())).status).toBe(200)
      await expect.poll(inflight, { timeout: 5_000 }).toBe(0)
      expect(provider.calls).toBe(1)
    },
  )

  it.each(['destroy', 'resetAndDestroy', 'end'] as const)(
    'before the first byte cancel the call (%s)',
    async (leave) => {
      provider.script(silent())
      for (const body of [CHAT_BODY, STREAM]) {
        const index = provider.calls
        const socket = await dial(good({ body }))
        await provider.waitForRequests(index + 1)
        socket[leave]()
        await provider.waitForAbort(index)
        socket.destroy()
      }
      await expect.poll(inflight, { timeout: 5_000 }).toBe(0)
    },
  )

  it.each(['destroy', 'resetAndDestroy', 'end'] as const)(
    'in the middle of a stream cancel the call (%s)',
    async (leave) => {
      provider.script(stallAfter(3))
      const socket = await dial(good({ body: STREAM }))
      const [head] = (await once(socket, 'data')) as [Buffer]
      expect(head.toString()).toMatch(/^HTTP\/1\.1 200/)
      socket[leave]()
      await provider.waitForAbort(0)
      socket.destroy()
      await expect.poll(inflight, { timeout: 5_000 }).toBe(0)
    },
  )

  it('while their request waits behind another on the connection cancel both', async () => {
    provider.script(silent())
    const socket = await dial(good(), good())
    await provider.waitForRequests(2)
    socket.destroy()
    await Promise.all([provider.waitForAbort(0), provider.waitForAbort(1)])
    await expect.poll(inflight, { timeout: 5_000 }).toBe(0)
  })

  it('right after the last byte of the answer are no error', async () => {
    for (let i = 0; i < 20; i += 1) {
      const socket = await dial(good())
      await once(socket, 'data')
      socket.resetAndDestroy()
    }
    await expect.poll(inflight, { timeout: 5_000 }).toBe(0)
  })
})

describe('callers who do not read', () => {
  const PIECES = 800
  const huge = () => answer({ pieces: Array.from({ length: PIECES }, () => 'x'.repeat(64 * 1024)) })

  it('stop the provider, cost the gateway little memory, and get every byte once they do read', async () => {
    provider.script(huge())
    const before = residentMib()
    const sockets = await Promise.all(Array.from({ length: 4 }, () => dial(good({ body: STREAM }))))
    for (const socket of sockets) socket.pause()
    await provider.waitForRequests(4)
    // The provider stands still when what it has sent no longer grows.
    let last = -1
    const sent = (): number => provider.requests.reduce((sum, request) => sum + request.bytesSent, 0)
    await expect
      .poll(
        () => {
          const stands = sent() === last && last > 0
          last = sent()
          return stands
        },
        { interval: 400, timeout: 10_000 },
      )
      .toBe(true)
    expect(sent()).toBeLessThan(4 * PIECES * 64 * 1024 * 0.6)
    expect(provider.active).toBe(4)
    expect(residentMib() - before).toBeLessThan(120)
    const [first, ...others] = sockets
    for (const socket of others) socket.destroy()
    let bytes = 0
    let tail = ''
    first?.on('data', (piece) => {
      bytes += piece.length
      tail = (tail + piece.toString('latin1')).slice(-200)
      if (tail.endsWith('0\r\n\r\n')) first.destroy()
    })
    first?.resume()
    if (first !== undefined) await once(first, 'close')
    expect(bytes).toBeGreaterThan(PIECES * 64 * 1024)
    expect(tail).toContain('data: [DONE]')
    await expect.poll(inflight, { timeout: 5_000 }).toBe(0)
  })

  it.runIf(process.env.SLUICE_SLOW_TESTS)(
    'are cut after 30 s, and the call with them',
    { timeout: 60_000 },
    async () => {
      provider.script(huge())
      const startedMs = performance.now()
      const socket = await dial(good({ body: STREAM }))
      socket.pause()
      await provider.waitForRequests(1)
      await provider.waitForAbort(0, 45_000)
      expect(performance.now() - startedMs).toBeGreaterThan(29_000)
      await expect.poll(inflight, { timeout: 5_000 }).toBe(0)
      socket.destroy()
    },
  )
})

describe('bodies in pieces', () => {
  it('of one byte each cost memory by their bytes, not by their pieces', async () => {
    const before = residentMib()
    const socket = await dial(good({ body: '', framing: ['Transfer-Encoding: chunked'] }))
    const thousand = Buffer.from('1\r\nx\r\n'.repeat(50_000))
    for (let i = 0; i < 30; i += 1) if (!socket.write(thousand)) await once(socket, 'drain')
    // A million and a half pieces are held now, and the rest is still to come.
    expect(residentMib() - before).toBeLessThan(100)
    socket.end('0\r\n\r\n')
    socket.destroy()
    await expect.poll(inflight, { timeout: 5_000 }).toBe(0)
  })
})

describe('a crowd that connects at once', () => {
  // Linux lets so many wait by default; where it is less, that is the machine's to say.
  it.runIf(Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8')) > 1_500)(
    'is connected also while the gateway has no time for it, and answered when it has',
    async () => {
      gateway.signal('SIGSTOP')
      try {
        const sockets = await Promise.all(
          Array.from({ length: 1_500 }, () => dial(plainBytes('GET', '/ready'))),
        )
        gateway.signal('SIGCONT')
        const firsts = await Promise.all(sockets.map((socket) => once(socket, 'data')))
        const heads = new Set(firsts.map(([bytes]) => String(bytes).slice(0, 12)))
        expect([...heads]).toEqual(['HTTP/1.1 200'])
        for (const socket of sockets) socket.destroy()
      } finally {
        gateway.signal('SIGCONT')
      }
    },
  )
})
