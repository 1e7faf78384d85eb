// A gateway with more to do than it can, and gateways that only look like it: real processes, a crowd for each class of
// agents, answers counted where they arrive. The model is the built-in one, so that all the work is the gateway's.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { type CrowdSeen, runCrowd } from '../support/crowd-process.ts'
import { agentPolicy, makeBearer, startGateway, type TestGateway } from '../support/gateway.ts'
import { statusOf } from '../support/operator.ts'

const CLASSES = ['critical', 'normal', 'batch'] as const
type Class = (typeof CLASSES)[number]
const bearers = { critical: makeBearer(), normal: makeBearer(), batch: makeBearer() }

let gateway: TestGateway | undefined
afterEach(async () => {
  gateway?.signal('SIGCONT')
  await gateway?.kill9()
})

async function start(latency: string): Promise<TestGateway> {
  gateway = await startGateway({
    config: {
      providers: { lab: { format: 'simulated', latency } },
      tiers: { t: { deployments: ['lab/*'] } },
      routes: { m: ['t'] },
    },
    policies: Object.fromEntries(CLASSES.map((one) => [one, agentPolicy(one, bearers[one], { class: one })])),
  })
  return gateway
}

/** Long prompts and answers in a thousand pieces make much work of a request that is cheap to send; else the least. */
const crowdOf = (of: Class, perSecond: number, { heavy = false } = {}) => ({
  label: of,
  bearer: bearers[of].bearer,
  perSecond,
  promptBytes: heavy ? 20_000 : 100,
  outputTokens: heavy ? 1_000 : 5,
})

/** Asks for its health again and again while something else goes on; gives how long each answer of 200 took, ms. */
async function probe(at: TestGateway, meanwhile: Promise<unknown>): Promise<Record<string, number[]>> {
  const tookMs: Record<string, number[]> = { '/health': [], '/ready': [] }
  let isOver = false
  const over = meanwhile.finally(() => {
    isOver = true
  })
  while (!isOver) {
    for (const [path, all] of Object.entries(tookMs)) {
      const sentMs = performance.now()
      expect((await fetch(`${at.url}${path}`)).status).toBe(200)
      all.push(performance.now() - sentMs)
    }
    await Promise.race([over, sleep(100)])
  }
  return tookMs
}

const medianOf = (all: readonly number[]): number =>
  all.toSorted((a, b) => a - b)[all.length >> 1] ?? Number.NaN
const shedOf = ({ sent, statuses }: CrowdSeen): number => (statuses[503] ?? 0) / sent
const overloads = (at: TestGateway): unknown[] =>
  at.logLines().flatMap(({ msg }) => (String(msg).startsWith('overloaded') ? [msg] : []))

// A machine that is short of time itself takes long to answer them all.
test('sheds batch before normal before critical, loses nobody, is healthy throughout, and lets all in again', {
  timeout: 90_000,
}, async () => {
  const at = await start('100ms')
  const crowd = runCrowd({
    url: at.url,
    crowds: [
      crowdOf('batch', 700, { heavy: true }),
      crowdOf('normal', 150, { heavy: true }),
      crowdOf('critical', 20, { heavy: true }),
    ],
    forMs: 2_000,
  })
  const health = await probe(at, crowd)
  const seen = await crowd
  const { batch, normal, critical } = seen
  if (batch === undefined || normal === undefined || critical === undefined) throw new Error('no crowd')

  for (const { sent, statuses } of Object.values(seen))
    expect((statuses[200] ?? 0) + (statuses[503] ?? 0)).toBe(sent)
  expect(shedOf(batch)).toBeGreaterThan(0.2)
  expect(shedOf(batch)).toBeGreaterThan(shedOf(normal))
  expect(shedOf(critical)).toBeLessThan(0.1)
  expect(shedOf(critical)).toBeLessThanOrEqual(shedOf(normal))
  // Spread, so that they do not come back at once.
  expect(Math.min(...batch.waitsMs)).toBeGreaterThanOrEqual(1_000)
  expect(Math.max(...batch.waitsMs)).toBeLessThanOrEqual(10_000)
  expect(Math.max(...batch.waitsMs) - Math.min(...batch.waitsMs)).toBeGreaterThan(5_000)
  for (const all of Object.values(health)) expect(medianOf(all)).toBeLessThan(1_000)

  // With the crowd gone there is room at once, and soon no more talk of it.
  const after = await runCrowd({
    url: at.url,
    crowds: CLASSES.map((one) => crowdOf(one, 10)),
    forMs: 500,
  })
  for (const { sent, statuses } of Object.values(after)) expect(statuses).toEqual({ 200: sent })
  await at.waitForLog(({ msg }) => msg === 'overloaded no more', 15_000)
  expect((await statusOf(at)).overload).toMatchObject({ cap: null, shedding: [] })
  expect(overloads(at)).toEqual(['overloaded: new requests are shed, batch first', 'overloaded no more'])
})

test('sheds nobody after it was stopped for seconds, however many have come meanwhile', async () => {
  const at = await start('50ms')
  const crowd = runCrowd({ url: at.url, crowds: [crowdOf('batch', 25)], forMs: 3_000 })
  for (const stoppedMs of [1_500, 500]) {
    await sleep(500)
    at.signal('SIGSTOP')
    await sleep(stoppedMs)
    at.signal('SIGCONT')
  }
  const { batch } = await crowd
  expect(batch?.statuses).toEqual({ 200: batch?.sent })
  expect(overloads(at)).toEqual([])
})

test('sheds nobody for a provider that is slow, however many wait for it', async () => {
  const at = await start('2s')
  const crowds = [crowdOf('batch', 100), crowdOf('normal', 100)]
  const seen = Object.values(await runCrowd({ url: at.url, crowds, forMs: 1_000 }))
  for (const { sent, statuses } of seen) expect(statuses).toEqual({ 200: sent })
  expect(overloads(at)).toEqual([])
})
