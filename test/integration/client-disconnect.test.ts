// A caller who goes away cancels the upstream at once, in every phase, and leaves nothing behind. The provider is the
// witness: it sees its connection closed before its answer was complete.

import { connect, type Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Caller, createCaller, eventually } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { metricOf } from '../support/operator.ts'
import {
  answer,
  type Behaviour,
  createScriptedProvider,
  headersOnly,
  keepAlivesOnly,
  rateLimited,
  rawBytes,
  type ScriptedProvider,
  silent,
  slowFirstToken,
  stallAfter,
  withoutReading,
} from '../support/scripted-provider.ts'

let one: ScriptedProvider
let two: ScriptedProvider
let gateway: TestGateway
let caller: Caller
const open = new Set<Socket>()

/** Well below every time limit of the tier: what happens within it was done for the caller who left. */
const AT_ONCE_MS = 1000

beforeAll(async () => {
  ;[one, two] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  gateway = await startGateway({
    config: simpleConfig({
      provider: [one.url, two.url],
      tier: { patience: '60s', firstToken: '60s', idle: '60s' },
      // One request at a time: a slot that did not come back would refuse the next one.
      over: {
        tiers: { t1: { deployments: [{ use: 'p1/m1', limits: { concurrency: 1 } }] } },
        routes: { m: ['t1'] },
      },
    }),
  })
  caller = createCaller(gateway.baseUrl, gateway.bearer)
})
afterAll(async () => {
  await gateway?.stop()
  await Promise.all([one?.close(), two?.close()])
})
beforeEach(() => {
  one.reset()
})
afterEach(() => {
  for (const socket of open) socket.destroy()
  open.clear()
})

/** A request on a connection of its own, sent as far as `body` goes. */
function send(
  body: string,
  { length = Buffer.byteLength(body), to = gateway } = {},
): Promise<{ socket: Socket; seen(): string }> {
  const head = [
    'POST /v1/chat/completions HTTP/1.1',
    'host: sluice',
    `authorization: Bearer ${to.bearer}`,
    'content-type: application/json',
    `content-length: ${length}`,
  ].join('\r\n')
  return new Promise((resolve, reject) => {
    const socket = connect({ port: to.port, host: '127.0.0.1' })
    let text = ''
    open.add(socket)
    socket.setEncoding('utf8')
    socket.on('data', (chunk) => {
      text += String(chunk)
    })
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.write(`${head}\r\n\r\n${body}`)
      resolve({ socket, seen: () => text })
    })
  })
}

function chat(over: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'Hello.' }], ...over })
}

const inflight = (at = gateway): Promise<number> => metricOf(at, 'sluice_inflight')

/** Everything has come back: slots, gauges, and the next request is answered. */
async function nothingIsLeft(): Promise<void> {
  await eventually(async () => (await inflight()) === 0, 'no request is under way', AT_ONCE_MS)
  await eventually(
    async () => (await metricOf(gateway, 'sluice_streams')) === 0,
    'no stream is under way',
    AT_ONCE_MS,
  )
  expect(one.active).toBe(0)
  one.script(answer())
  const { status, header } = await caller.chat()
  expect([status, header('x-sluice-attempts')]).toEqual([200, 't1:p1/m1=200'])
}

const endings: readonly [string, (socket: Socket) => void][] = [
  ['resets', (socket) => socket.resetAndDestroy()],
  ['closes', (socket) => socket.destroy()],
]

const phases: readonly [string, Behaviour, boolean, RegExp | undefined][] = [
  ['the provider is silent', silent(), true, undefined],
  ['the provider is silent, for a whole reply', silent(), false, undefined],
  ['only the head has come', headersOnly(), true, undefined],
  ['only the head of a whole reply has come', headersOnly(), false, undefined],
  ['only comments come', keepAlivesOnly(5), true, undefined],
  ['only the role has come', slowFirstToken(60_000), true, undefined],
  ['the answer is under way', stallAfter(4), true, /Hello/],
  ['half of a whole reply has come', stallAfter(1), false, undefined],
  [
    'the words of an error are under way',
    rawBytes(['HTTP/1.1 500 X\r\ncontent-length: 99\r\n\r\n{"e', { delayMs: 60_000 }]),
    true,
    undefined,
  ],
  ['the provider does not take the body', withoutReading(silent()), true, undefined],
]

describe.each(endings)('a caller who %s its connection', (_, leave) => {
  it.each(phases)('while %s (bug 72)', async (_phase, behaviour, stream, until) => {
    one.script(behaviour)
    const { socket, seen } = await send(chat({ stream }))
    await one.waitForRequests(1)
    if (until !== undefined) await eventually(() => until.test(seen()), 'the answer has begun')
    const leftMs = performance.now()
    leave(socket)
    const { endedMs } = await one.waitForAbort(0, AT_ONCE_MS)
    expect((endedMs ?? Number.NaN) - leftMs).toBeLessThan(AT_ONCE_MS)
    await nothingIsLeft()
  })
})

describe('a caller who leaves', () => {
  it('in the middle of his own body never reaches a provider', async () => {
    const { socket } = await send(chat().slice(0, 20), { length: 5000 })
    await eventually(async () => (await inflight()) === 1, 'the request is under way')
    socket.destroy()
    await nothingIsLeft()
    expect(one.calls).toBe(1)
  })

  it('with a large body that the provider does not take sends no more of it', async () => {
    const bytes = 8_000_000
    let received = 0
    let resume: () => void = () => undefined
    one.script({
      withoutReading: true,
      run(call) {
        // A socket that is not read does not see its end: the provider looks when it is told to.
        const { req } = call.response
        req.on('error', () => undefined)
        resume = () => {
          req.on('data', (piece: Buffer) => {
            received += piece.length
          })
          req.resume()
        }
        return call.closed
      },
    })
    const { socket } = await send(chat({ stream: true, padding: 'x'.repeat(bytes) }))
    await one.waitForRequests(1)
    socket.destroy()
    await eventually(async () => (await inflight()) === 0, 'no request is under way', AT_ONCE_MS)
    resume()
    await one.waitForAbort(0, AT_ONCE_MS)
    expect(received).toBeLessThan(bytes)
    await nothingIsLeft()
  })

  it('while a wait is waited out for him is not called for any more', async () => {
    const own = await startGateway({ config: simpleConfig({ provider: one.url, tier: { patience: '60s' } }) })
    try {
      one.script([rateLimited(30), answer()])
      const { socket } = await send(chat(), { to: own })
      await one.waitForRequests(1)
      await eventually(() => one.active === 0, 'the 429 has been read')
      expect(await inflight(own)).toBe(1)
      socket.destroy()
      const isOver = async () => (await inflight(own)) === 0
      await eventually(isOver, 'no request is under way', AT_ONCE_MS)
      expect(one.calls).toBe(1)
    } finally {
      await own.stop()
    }
  })

  it("is told in the log as what he is: gone, and nobody's failure", async () => {
    one.script(stallAfter(4))
    const before = gateway.logLines().length
    const { socket, seen } = await send(chat({ stream: true }))
    await eventually(() => seen().includes('Hello'), 'the answer has begun')
    socket.destroy()
    const lines = () => gateway.logLines().slice(before)
    await eventually(() => lines().length > 0, 'there is a line', AT_ONCE_MS)
    expect(lines()).toMatchObject([
      {
        msg: 'request',
        code: 'client_closed',
        agent: 'tester',
        stream: true,
        status: 200,
        tier: 't1',
        usageSource: 'counted',
        outputTokens: expect.any(Number),
        attempts: ['t1:p1/m1=499'],
      },
    ])
  })

  it('a hundred times over opens no breaker and leaks no connection', async () => {
    const own = await startGateway({ config: simpleConfig({ provider: one.url }) })
    try {
      one.script(stallAfter(4))
      for (let round = 0; round < 10; round += 1) {
        const ten = Array.from({ length: 10 }, () => send(chat({ stream: true }), { to: own }))
        const callers = await Promise.all(ten)
        for (const { seen } of callers)
          await eventually(() => seen().includes('Hello'), 'the answer has begun')
        for (const { socket } of callers) socket.destroy()
        await eventually(() => one.active === 0, 'every upstream is cancelled', AT_ONCE_MS)
      }
      one.script(answer())
      const { status, header } = await createCaller(own.baseUrl, own.bearer).chat()
      expect([status, header('x-sluice-attempts')]).toEqual([200, 't1:p1/m1=200'])
      await eventually(() => one.connections <= 2, 'the connections of those who left are closed', AT_ONCE_MS)
      expect(await inflight(own)).toBe(0)
    } finally {
      await own.stop()
    }
  })
})
