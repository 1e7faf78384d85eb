// Failover under load, in a short form that runs with all tests and a long one (`npm run test:system`). What providers
// were asked is counted at them, what callers got at the callers.

import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually } from './caller.ts'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from './gateway.ts'
import type { Form } from './limits-cases.ts'
import { metricOf, statusOf } from './operator.ts'
import { startRedis, type TestRedis } from './redis.ts'
import {
  answer,
  type Behaviour,
  createScriptedProvider,
  rateLimited,
  type ScriptedProvider,
  silent,
  status,
} from './scripted-provider.ts'
import { parseSse, summarizeChat } from './sse.ts'
import { toTable } from './table.ts'

/** How long a good answer takes at the provider, ms. */
const WORK_MS = 20

interface Form300 {
  readonly perSecond: number
  readonly failMs: number
}

const LOAD: Readonly<Record<Form, Form300>> = {
  short: { perSecond: 100, failMs: 4_000 },
  long: { perSecond: 300, failMs: 60_000 },
}

/** One request as its caller saw it. */
interface Seen {
  readonly sentMs: number
  readonly tookMs: number
  readonly status: number
  readonly attempts: string
}

/** Registers the tests. */
export function proveFailover(form: Form): void {
  let redis: TestRedis
  const rows: (string | number)[][] = []
  beforeAll(async () => {
    redis = await startRedis()
  })
  afterAll(async () => {
    await redis.stop()
    process.stdout.write(
      `\n${toTable(['first tier', 'requests', 'not 200', 'failed attempts', 'in flight', 'probes at once', 'first probe ms', 'all back ms', 'label changes', 'p99 ms'], rows)}\n`,
    )
  })

  const faults: readonly (readonly [name: string, behaviour: Behaviour | 'refused'])[] =
    form === 'short'
      ? [['503', status(503)]]
      : [
          ['503', status(503)],
          ['429', rateLimited()],
          ['refused', 'refused'],
        ]

  describe('a first tier that is away and comes back, two gateways under load', () => {
    it.each(faults)(
      '%s: nobody notices, few attempts are lost, one probe at a time, and all is back in its time',
      async (name, behaviour) => {
        const { perSecond, failMs } = LOAD[form]
        const bearer = makeBearer()
        let one = await createScriptedProvider({ record: 'count' })
        const two = await createScriptedProvider({ record: 'count', script: answer({ firstMs: WORK_MS }) })
        const arrivals: { readonly atMs: number; readonly active: number }[] = []
        const play = (provider: ScriptedProvider, how: Behaviour): void =>
          provider.script(() => {
            arrivals.push({ atMs: performance.now(), active: provider.active })
            return how
          })
        const good = answer({ firstMs: WORK_MS })
        play(one, good)
        const config = simpleConfig({
          provider: [one.url, two.url],
          tier: { retries: 1 },
          over: { redis: { url: redis.url }, failover: { grace: form === 'short' ? '500ms' : '5s' } },
        })
        const policies = { agent: agentPolicy('agent', bearer) }
        const gateways = await Promise.all([1, 2].map(() => startGateway({ config, policies })))
        const { port } = one
        try {
          const load = startLoad(gateways, bearer.bearer, perSecond)
          await sleep(2_000)
          const failedMs = performance.now()
          if (behaviour === 'refused') await one.close()
          else play(one, behaviour)
          await sleep(failMs)
          if (behaviour === 'refused') one = await createScriptedProvider({ record: 'count', port })
          play(one, good)
          const healedMs = performance.now()
          const states: string[] = []
          while (performance.now() - healedMs < 60_000) {
            await sleep(250)
            const shown = await statusOf(gateways[0] as TestGateway)
            const { state } = shown.deployments.find((d: { deployment: string }) => d.deployment === 'p1/m1')
            if (states.at(-1) !== state) states.push(state)
            const recent = arrivals.filter(({ atMs }) => atMs > performance.now() - 1_000).length
            if (recent >= perSecond * 0.9 && performance.now() - healedMs > 1_000) break
          }
          const allBackMs = performance.now() - healedMs
          await sleep(500)
          const seen = await load.stop()

          const before = arrivals.filter(({ atMs }) => atMs < failedMs)
          const inFlight = Math.max(...before.map(({ active }) => active), 1)
          const probes = arrivals.filter(({ atMs }) => atMs > failedMs + 1_500 && atMs < healedMs)
          const after = arrivals.filter(({ atMs }) => atMs >= healedMs)
          const firstProbeMs = (after[0]?.atMs ?? Number.POSITIVE_INFINITY) - healedMs
          // Where nobody listens the callers' headers are all there is to count by.
          const lost =
            behaviour === 'refused'
              ? seen.filter(
                  ({ attempts, sentMs }) => attempts.includes('p1/m1=re') && sentMs < failedMs + 1_500,
                ).length
              : arrivals.filter(({ atMs }) => atMs >= failedMs && atMs < failedMs + 1_500).length
          const bad = seen.filter(({ status: code }) => code !== 200)
          const took = seen.map(({ tookMs }) => tookMs).sort((a, b) => a - b)
          const p99 = took[Math.floor(took.length * 0.99)] ?? 0
          const atOnce = Math.max(
            0,
            ...probes.map(({ active }) => active),
            ...after.slice(0, 3).map(({ active }) => active),
          )
          rows.push(
            [
              name,
              seen.length,
              bad.length,
              lost,
              inFlight,
              atOnce,
              firstProbeMs,
              allBackMs,
              states.length - 1,
              p99,
            ].map((value) => (typeof value === 'number' ? Math.round(value) : value)),
          )

          // The load was there, and it was the first tier that had it.
          expect(before.length).toBeGreaterThan(perSecond)
          expect(bad).toEqual([])
          // Five at each gateway and what was under way when the fifth failed; a second try of each, within its budget.
          expect(lost).toBeGreaterThan(0)
          expect(lost).toBeLessThanOrEqual(2 * (5 + inFlight))
          expect(atOnce).toBe(1)
          expect(firstProbeMs).toBeLessThanOrEqual(15_000)
          expect(allBackMs).toBeLessThanOrEqual(45_000)
          expect(states.length).toBeLessThanOrEqual(2)
        } finally {
          await Promise.all(gateways.map((gateway) => gateway.stop()))
          await Promise.all([one.close(), two.close()])
        }
      },
      form === 'short' ? 90_000 : 200_000,
    )

    it('flapping: nobody notices, and the state is no weathercock', async () => {
      const { perSecond, failMs } = LOAD[form]
      const flapMs = Math.max(failMs, 10_000)
      const bearer = makeBearer()
      const good = answer({ firstMs: WORK_MS })
      const [one, two] = await Promise.all([
        createScriptedProvider({ record: 'count', script: good }),
        createScriptedProvider({ record: 'count', script: good }),
      ])
      const config = simpleConfig({
        provider: [one.url, two.url],
        over: { redis: { url: redis.url }, failover: { grace: form === 'short' ? '500ms' : '5s' } },
      })
      const policies = { agent: agentPolicy('agent', bearer) }
      const gateways = await Promise.all([1, 2].map(() => startGateway({ config, policies })))
      try {
        const load = startLoad(gateways, bearer.bearer, perSecond)
        await sleep(1_500)
        // Well and ill by turns, two seconds each.
        const bad = status(503)
        const fromMs = performance.now()
        let failures = 0
        one.script(() => {
          if (Math.floor((performance.now() - fromMs) / 2_000) % 2 === 1) return good
          failures += 1
          return bad
        })
        const changes: string[] = []
        while (performance.now() - fromMs < flapMs) {
          await sleep(100)
          const { deployments } = await statusOf(gateways[0] as TestGateway)
          const { state } = deployments.find((d: { deployment: string }) => d.deployment === 'p1/m1')
          if (changes.at(-1) !== state) changes.push(state)
        }
        const seen = await load.stop()
        process.stdout.write(
          `\nflapping for ${flapMs / 1000} s: ${seen.length} requests, ${failures} failed attempts, states ${changes.join(', ')}\n`,
        )
        expect(seen.length).toBeGreaterThan((perSecond * flapMs) / 2_000)
        expect(seen.filter(({ status: code }) => code !== 200)).toEqual([])
        expect(failures).toBeGreaterThan(5)
        // A tenth of the requests that it would have failed, had nobody looked.
        expect(failures).toBeLessThan(((perSecond * flapMs) / 2_000) * 0.1)
        expect(changes.length - 1).toBeLessThanOrEqual(1 + Math.ceil(flapMs / 30_000))
      } finally {
        await Promise.all(gateways.map((gateway) => gateway.stop()))
        await Promise.all([one.close(), two.close()])
      }
    }, 120_000)

    it('silence: it costs those who have begun the deadline for the first token, and nobody else', async () => {
      const bearer = makeBearer()
      const [one, two] = await Promise.all([
        createScriptedProvider({ record: 'count', script: answer({ firstMs: WORK_MS }) }),
        createScriptedProvider({ record: 'count', script: answer({ firstMs: WORK_MS }) }),
      ])
      const firstTokenMs = 1_000
      const config = simpleConfig({
        provider: [one.url, two.url],
        tier: { firstToken: `${firstTokenMs}ms` },
        over: { redis: { url: redis.url } },
      })
      const gateways = await Promise.all(
        [1, 2].map(() => startGateway({ config, policies: { agent: agentPolicy('agent', bearer) } })),
      )
      try {
        const { perSecond } = LOAD[form]
        const load = startLoad(gateways, bearer.bearer, perSecond, true)
        await sleep(1_500)
        one.script(silent())
        const silentMs = performance.now()
        await sleep(4_000)
        const seen = await load.stop()
        expect(seen.filter(({ status: code }) => code !== 200)).toEqual([])
        const slow = seen.filter(({ tookMs }) => tookMs > firstTokenMs)
        // Somebody had to find out, …
        expect(slow.length).toBeGreaterThan(0)
        const missed = slow.map(({ sentMs }) => sentMs - silentMs)
        // … all of them begun before the first one had: with what it takes to tell the other gateway, …
        expect(Math.max(...missed)).toBeLessThanOrEqual(firstTokenMs + 300)
        // … and none of them paid more than the deadline and the other tier's time.
        expect(Math.max(...slow.map(({ tookMs }) => tookMs))).toBeLessThanOrEqual(firstTokenMs + 500)
      } finally {
        await Promise.all(gateways.map((gateway) => gateway.stop()))
        await Promise.all([one.close(), two.close()])
      }
    }, 60_000)
  })

  it(`${form === 'short' ? 300 : 2_000} streams at once, cut at any byte: each ends with an error that can be read`, async () => {
    const count = form === 'short' ? 300 : 2_000
    const bearer = makeBearer()
    const provider = await createScriptedProvider({ record: 'count' })
    const pieces = Array.from({ length: 40 }, (_, i) => `Größe ${i} — 漢字 🚰 `)
    let begun = 0
    const all = Promise.withResolvers<void>()
    provider.script(() => {
      begun += 1
      if (begun === count) all.resolve()
      return cutSomewhere(pieces, (Math.imul(begun, 2654435761) >>> 0) / 2 ** 32, all.promise)
    })
    const limits = { concurrency: 10_000, tokens: { capacity: 1e9, refill: '1/h' } }
    const gateway = await startGateway({
      config: simpleConfig({
        provider: provider.url,
        tier: { retries: 0 },
        over: { redis: { url: redis.url } },
      }),
      policies: { cut: agentPolicy('cut', bearer, { limits }) },
    })
    const pool = new Pool(gateway.url, { connections: count })
    try {
      const texts = await Promise.all(
        Array.from({ length: count }, async () => {
          const { statusCode, body } = await pool.request({
            method: 'POST',
            path: '/v1/chat/completions',
            headers: { authorization: `Bearer ${bearer.bearer}`, 'content-type': 'application/json' },
            body: JSON.stringify({ model: 'm', stream: true, messages: [{ role: 'user', content: 'Hi.' }] }),
          })
          return { code: statusCode, text: await body.text() }
        }),
      )
      expect(begun).toBe(count)
      const broken = texts.filter(({ code }) => code === 200)
      // Cut before its content, an answer is an error with a status; all others had begun.
      expect(broken.length).toBeGreaterThan(count / 2)
      for (const { code, text } of texts) {
        if (code !== 200) {
          expect([code, JSON.parse(text).error.code]).toEqual([503, 'upstream_failed'])
          continue
        }
        expect(text).not.toContain('[DONE]')
        expect(text).not.toContain('�')
        const stream = summarizeChat(parseSse(text))
        expect(stream.error).toMatchObject({ code: 'upstream_incomplete' })
        expect(pieces.join('').startsWith(stream.text)).toBe(true)
      }
      // All of them settled: no slot, no reservation, and of the tokens no more than was seen.
      await eventually(
        async () => (await metricOf(gateway, 'sluice_limit_open_holds')) === 0,
        'all are settled',
      )
      const limitsNow = async () => (await statusOf(gateway, '?agent=cut')).agents[0].limits
      await eventually(async () => (await limitsNow()).concurrency.inUse === 0, 'all slots are back')
      const { tokens } = await limitsNow()
      const spent = tokens.limit - tokens.left
      expect(spent).toBeGreaterThan(0)
      expect(spent).toBeLessThan(count * 40 * 12)
    } finally {
      await pool.destroy()
      await gateway.stop()
      await provider.close()
    }
  }, 120_000)
}

/** A stream cut at a byte of its body when all of them are under way: inside of a frame, of a character, or between. */
function cutSomewhere(pieces: readonly string[], share: number, when: Promise<void>): Behaviour {
  return {
    async run(call) {
      call.head(200, { 'content-type': 'text/event-stream' })
      const frames = pieces.map(
        (content) =>
          `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`,
      )
      const bytes = Buffer.from(frames.join(''))
      const at = Math.max(1, Math.floor(bytes.length * share))
      // In two writes, so that there is something to relay before the cut.
      if (!(await call.write(bytes.subarray(0, at >> 1)))) return
      await when
      if (!(await call.sleep(100 * share))) return
      if (!(await call.write(bytes.subarray(at >> 1, at)))) return
      await call.cut('reset')
    },
  }
}

/** Callers that send by the clock, in turn to each gateway, whatever the answers take. */
function startLoad(gateways: readonly TestGateway[], bearer: string, perSecond: number, stream = false) {
  const pools = gateways.map(({ url }) => new Pool(url, { connections: 200 }))
  const seen: Seen[] = []
  const open = new Set<Promise<void>>()
  const body = JSON.stringify({ model: 'm', stream, messages: [{ role: 'user', content: 'Hello.' }] })
  let sent = 0
  const startMs = performance.now()
  const timer = setInterval(() => {
    for (const due = ((performance.now() - startMs) * perSecond) / 1000; sent < due; sent += 1) {
      const one = ask(pools[sent % pools.length] as Pool)
      open.add(one)
      void one.finally(() => open.delete(one))
    }
  }, 5)

  async function ask(pool: Pool): Promise<void> {
    const sentMs = performance.now()
    let code = 0
    let attempts = ''
    try {
      const {
        statusCode,
        headers,
        body: answered,
      } = await pool.request({
        method: 'POST',
        path: '/v1/chat/completions',
        headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
        body,
      })
      const text = await answered.text()
      // A stream that broke is none that was answered.
      code = statusCode === 200 && stream && !text.includes('[DONE]') ? 599 : statusCode
      attempts = String(headers['x-sluice-attempts'] ?? '')
    } catch {
      // 0: no answer at all.
    }
    seen.push({ sentMs, tookMs: performance.now() - sentMs, status: code, attempts })
  }

  return {
    async stop(): Promise<readonly Seen[]> {
      clearInterval(timer)
      await Promise.all(open)
      await Promise.all(pools.map((pool) => pool.destroy()))
      return seen
    },
  }
}
