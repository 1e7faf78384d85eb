// The caller's limits over two gateway processes that share one Redis: exact at the burst and at the refill, slots and
// tokens back when a request ends in whatever way, and honest while Redis is away. Counts are taken at the provider.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { makeAgents } from '../support/agents.ts'
import { type Answer, type Caller, type CallOptions, eventually } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { freePort } from '../support/ports.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import {
  answer,
  createScriptedProvider,
  cutAfter,
  gate,
  type ScriptedProvider,
  silent,
  status,
} from '../support/scripted-provider.ts'

const AGENTS = {
  burst: { requests: { capacity: 100, refill: '1/h' } },
  slow: { requests: { capacity: 1, refill: '6/min' } },
  narrow: { concurrency: 2, tokens: { capacity: 1_000_000, refill: '1/h' } },
  metered: { tokens: { capacity: 10_000, refill: '1/h' }, requests: { capacity: 50, refill: '1/h' } },
  cut: { tokens: { capacity: 10_000, refill: '1/h' } },
  full: { tokens: { capacity: 1_000, refill: '1/h' }, requests: { capacity: 5, refill: '1/h' } },
} as const
type Name = keyof typeof AGENTS
const agents = makeAgents(AGENTS)

let redis: TestRedis
let provider: ScriptedProvider
let gateways: readonly [TestGateway, TestGateway]

beforeAll(async () => {
  ;[redis, provider] = await Promise.all([startRedis(), createScriptedProvider()])
  gateways = await startTwo(redis.url)
})
afterAll(async () => {
  await Promise.all(gateways.map((gateway) => gateway.stop()))
  await Promise.all([redis.stop(), provider.close()])
})
beforeEach(() => provider.reset())

function startTwo(url: string, settings: Readonly<Record<string, unknown>> = {}) {
  const config = simpleConfig({ provider: provider.url, over: { redis: { url, ...settings } } })
  const start = () => startGateway({ config, policies: agents.policies })
  return Promise.all([start(), start()])
}

/** One caller of the agent at each of the two gateways. */
function callersOf(name: Name, at: readonly TestGateway[] = gateways): readonly [Caller, Caller] {
  const [one, two] = at.map((gateway) => agents.as(gateway, name))
  if (!one || !two) throw new Error('two gateways are needed')
  return [one, two]
}

function expectRefusal(refused: Answer, code: string): void {
  expect(refused.status).toBe(429)
  expect(refused.error).toMatchObject({ code, type: 'rate_limit_error', param: null })
  expect(refused.header('retry-after')).toMatch(/^([1-9]|[1-5]\d|60)$/)
  expect(refused.header('retry-after-ms')).toMatch(/^[1-9]\d*$/)
  const waitMs = Number(refused.header('retry-after-ms'))
  expect(waitMs).toBeLessThanOrEqual(60_000)
  expect(Number(refused.header('retry-after'))).toBe(Math.max(1, Math.ceil(waitMs / 1_000)))
  expect(refused.header('x-should-retry')).toBe('true')
  expect(refused.header('x-request-id')).toMatch(/^req_/)
}

describe('a request bucket over two gateways', () => {
  it('admits exactly 100 of 160 at once at capacity 100, and tells the rest when to come back', async () => {
    const callers = callersOf('burst')
    const answers = await Promise.all(
      Array.from({ length: 160 }, (_, i) => (i % 2 === 0 ? callers[0] : callers[1]).chat()),
    )
    const admitted = answers.filter((one) => one.status === 200)
    const refused = answers.filter((one) => one.status !== 200)
    expect(admitted).toHaveLength(100)
    expect(refused).toHaveLength(60)
    expect(provider.calls).toBe(100)
    for (const one of refused) {
      expectRefusal(one, 'rate_limit_exceeded')
      expect(one.header('x-ratelimit-limit-requests')).toBe('100')
      expect(one.header('x-ratelimit-remaining-requests')).toBe('0')
      expect(one.header('x-ratelimit-reset-requests')).toMatch(/^(\d+h)?(\d+m)?\d+(\.\d+)?s$/)
    }
    // Each is told what was left behind it: 99, 98, … 0.
    const left = admitted
      .map((one) => Number(one.header('x-ratelimit-remaining-requests')))
      .toSorted((a, b) => b - a)
    expect(left).toEqual(Array.from({ length: 100 }, (_, i) => 99 - i))
  })

  it('admits a retry when retry-after-ms is up, and not 50 ms before', { timeout: 60_000 }, async () => {
    const [one, two] = callersOf('slow')
    expect((await one.chat()).status).toBe(200)
    for (let tries = 1; ; tries += 1) {
      const refused = await two.chat()
      expectRefusal(refused, 'rate_limit_exceeded')
      const waitMs = Number(refused.header('retry-after-ms'))
      expect(waitMs).toBeLessThanOrEqual(10_000)

      // The bucket was asked somewhere between sending and receiving: each retry takes the side that makes it sharp.
      await until(refused.sentMs + waitMs - 50)
      const early = await one.chat()
      if (early.receivedMs > refused.sentMs + waitMs && early.status === 200 && tries < 3) continue // too late to tell
      expectRefusal(early, 'rate_limit_exceeded')
      expect(Number(early.header('retry-after-ms'))).toBeLessThanOrEqual(
        50 + (refused.receivedMs - refused.sentMs),
      )

      await until(refused.receivedMs + waitMs + 50)
      expect((await two.chat()).status).toBe(200)
      expect(provider.calls).toBe(tries + 1)
      return
    }
  })
})

describe('concurrency slots over two gateways', () => {
  const open = (caller: Caller, options: CallOptions = {}) =>
    caller.open({ ...options, body: { stream: true } })

  it('come back when a request finishes', async () => {
    const held = gate()
    provider.script(held)
    const [one, two] = callersOf('narrow')
    const under = [one.chat(), two.chat()]
    await provider.waitForRequests(2)
    for (const caller of [one, two]) {
      const refused = await caller.chat()
      expectRefusal(refused, 'concurrency_exceeded')
      expect(refused.header('retry-after-ms')).toBe('1000')
    }
    held.open()
    expect((await Promise.all(under)).map((done) => done.status)).toEqual([200, 200])
    await expectBothSlotsFree()
  })

  it('come back when the provider fails, when it refuses, and when it cuts the stream', async () => {
    const [one, two] = callersOf('narrow')
    for (const [behaviour, expected] of [
      [status(500), 503],
      [status(400), 400],
      [cutAfter({ frames: 3 }), 200],
    ] as const) {
      provider.script(behaviour)
      const both = await Promise.all([one, two].map((caller) => caller.chat({ body: { stream: true } })))
      expect(both.map((done) => done.status)).toEqual([expected, expected])
      await expectBothSlotsFree()
    }
  })

  it('come back when the caller goes away, before the answer and in the middle of it', async () => {
    const [one, two] = callersOf('narrow')
    for (const behaviour of [silent(), answer({ pieces: Array(500).fill('word '), everyMs: 20 })]) {
      provider.reset()
      provider.script(behaviour)
      const leaving = new AbortController()
      const under = [one, two].map(async (caller) => {
        const response = await open(caller, { signal: leaving.signal })
        for await (const _ of response.body ?? []);
      })
      const gone = Promise.allSettled(under)
      await provider.waitForRequests(2)
      expectRefusal(await one.chat(), 'concurrency_exceeded')
      leaving.abort()
      await gone
      await expectBothSlotsFree()
    }
  })

  /** Two at once are admitted, one at each gateway, while a third is not. */
  async function expectBothSlotsFree(): Promise<void> {
    const [one, two] = callersOf('narrow')
    await eventually(async () => {
      const held = gate()
      provider.reset()
      provider.script(held)
      const under = [one.chat(), two.chat()]
      const first = await Promise.race([
        provider.waitForRequests(2).then(() => undefined),
        ...under.map((each) => each.then((done) => (done.status === 429 ? done : undefined))),
      ])
      const third = first === undefined ? (await one.chat()).status : 0
      held.open()
      const done = await Promise.all(under)
      if (first !== undefined) return false
      expect(third).toBe(429)
      expect(done.map((each) => each.status)).toEqual([200, 200])
      return true
    }, 'both slots are free')
  }
})

describe('tokens over two gateways', () => {
  const remaining = (one: Answer) => Number(one.header('x-ratelimit-remaining-tokens'))

  it("are reserved before the call and settled on the provider's own usage", async () => {
    provider.script(answer({ usage: { prompt_tokens: 30, completion_tokens: 70, total_tokens: 100 } }))
    const [one, two] = callersOf('metered')
    const first = await one.chat({ body: { max_tokens: 2_000 } })
    const reserved = 10_000 - remaining(first)
    expect(reserved).toBeGreaterThan(2_000)
    expect(reserved).toBeLessThan(2_200)
    expect(first.header('x-ratelimit-limit-tokens')).toBe('10000')

    // Settled off the path of the request: soon each earlier request stands at its 100 tokens, at the other gateway too.
    let done = 1
    await eventually(async () => {
      const next = await (done % 2 === 0 ? one : two).chat({ body: { max_tokens: 2_000 } })
      const settled = remaining(next) === 10_000 - 100 * done - reserved
      done += 1
      return settled
    }, 'every request is settled on 100 tokens')
  })

  it('of a stream that is cut are settled on what was counted', async () => {
    const cutting = cutAfter({ frames: 5 })
    // Every other request is settled on two tokens, so that what is missing besides is the cut stream's.
    const counting = answer({ usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 } })
    const [one, two] = callersOf('cut')
    provider.script(counting)
    const own = 10_000 - remaining(await two.chat({ body: { max_tokens: 100 } }))

    provider.script(cutting)
    const cut = await one.chat({ body: { stream: true, max_tokens: 5_000 } })
    expect(cut.stream).toMatchObject({ done: false, error: { code: 'upstream_incomplete' } })
    expect(10_000 - remaining(cut)).toBeGreaterThan(5_000)

    provider.script(counting)
    let probes = 1
    let charged = 0
    await eventually(async () => {
      charged = 10_000 - remaining(await two.chat({ body: { max_tokens: 100 } })) - own - 2 * probes
      probes += 1
      return charged < 100
    }, 'the cut stream is settled')
    // Four pieces of text came through, and the prompt was sent: neither nothing nor the whole reservation.
    expect(charged).toBeGreaterThanOrEqual(4)
  })

  it('and requests stay as they were when a request is refused', async () => {
    const held = gate(answer({ usage: { prompt_tokens: 5, completion_tokens: 5, total_tokens: 10 } }))
    provider.script(held)
    const [one, two] = callersOf('full')
    const under = one.chat({ body: { max_tokens: 900 } })
    await provider.waitForRequests(1)
    for (let i = 0; i < 20; i += 1) {
      const refused = await (i % 2 === 0 ? two : one).chat({ body: { max_tokens: 900 } })
      expectRefusal(refused, 'rate_limit_exceeded')
      expect(refused.header('x-ratelimit-remaining-requests')).toBe('4')
    }
    held.open()
    const done = await under
    expect(done.status).toBe(200)
    expect(done.header('x-ratelimit-remaining-requests')).toBe('4')
    await eventually(async () => (await two.chat({ body: { max_tokens: 900 } })).status === 200, 'room again')
    expect(provider.calls).toBe(2)
  })
})

describe('Redis killed under load', () => {
  /** Calls both gateways without a break until `stop`; what it returns are the statuses and codes seen. */
  function load(pair: readonly TestGateway[]) {
    const callers = pair.map((gateway) => agents.as(gateway, 'narrow'))
    const seen: { status: number; code: unknown; retryAfter: string; ms: number }[] = []
    let running = true
    const workers = [...callers, ...callers].map(async (caller) => {
      while (running) {
        const one = await caller.chat({ body: { max_tokens: 1 } })
        const { status, error, sentMs, receivedMs } = one
        seen.push({
          status,
          code: error?.code,
          retryAfter: one.header('retry-after'),
          ms: receivedMs - sentMs,
        })
        await sleep(5)
      }
    })
    return {
      seen,
      async stop() {
        running = false
        await Promise.all(workers)
        return seen
      },
    }
  }

  it.each(['local', 'deny'] as const)(
    'answers as onOutage: %s says, and goes back to Redis by itself',
    { timeout: 60_000 },
    async (onOutage) => {
      const port = await freePort()
      let server = await startRedis({ port })
      const pair = await startTwo(server.url, { onOutage, replicas: 2 })
      try {
        const traffic = load(pair)
        await eventually(() => traffic.seen.length > 40, 'traffic')
        const before = traffic.seen.length
        expect(traffic.seen.every(({ status }) => status === 200 || status === 429)).toBe(true)

        await server.kill9()
        await Promise.all(
          pair.map((gateway) =>
            gateway.waitForLog(({ msg }) => msg === 'redis is away: limits are decided here'),
          ),
        )
        const away = traffic.seen.length
        await eventually(() => traffic.seen.length > away + 40, 'traffic without Redis')
        const ready = await fetch(`${pair[0].adminUrl}/ready`)
        expect([ready.status, await ready.json()]).toEqual([
          200,
          expect.objectContaining({ limits: 'outage' }),
        ])

        server = await startRedis({ port })
        await eventually(async () => {
          const states = await Promise.all(
            pair.map(async ({ adminUrl }) => (await fetch(`${adminUrl}/ready`)).json()),
          )
          return states.every((state) => JSON.stringify(state).includes('"limits":"redis"'))
        }, 'both are back at Redis')
        const back = traffic.seen.length
        await eventually(() => traffic.seen.length > back + 40, 'traffic with Redis again')
        const seen = await traffic.stop()

        const failures = seen.filter(({ status }) => status >= 500)
        if (onOutage === 'local') expect(failures).toEqual([])
        else {
          expect(failures.length).toBeGreaterThan(20)
          for (const failure of failures)
            expect(failure).toMatchObject({ status: 503, code: 'limits_unavailable', retryAfter: '1' })
          expect(seen.slice(0, before)).not.toContainEqual(expect.objectContaining({ status: 503 }))
        }
        // The last ones are counted again, and nobody ever waited for a Redis that is not there.
        expect(seen.slice(-20).every(({ status }) => status === 200 || status === 429)).toBe(true)
        expect(seen.some(({ status }) => status === 200)).toBe(true)
        expect(Math.max(...seen.map(({ ms }) => ms))).toBeLessThan(2_000)
      } finally {
        await Promise.all(pair.map((gateway) => gateway.stop()))
        await server.stop()
      }
    },
  )
})

async function until(atMs: number): Promise<void> {
  const waitMs = atMs - performance.now()
  if (waitMs > 0) await sleep(waitMs)
}
