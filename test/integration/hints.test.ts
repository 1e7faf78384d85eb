// What one replica finds out of a provider all know, and one of them probes for all: gateways over Redis, workers by
// their primary. Counted at the provider.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Caller, createCaller, eventually } from '../support/caller.ts'
import { agentPolicy, makeBearer, simpleConfig } from '../support/gateway.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { answer, type Behaviour, rateLimited, silent, status } from '../support/scripted-provider.ts'
import { createStage } from '../support/stage.ts'

const stage = await createStage()
const { one, two } = stage
let redis: TestRedis

beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.stop())

const bearer = makeBearer()

/** Gateways that share Redis, or the workers of one that has none; each caller opens connections of its own. */
async function open(form: 'gateways' | 'workers'): Promise<Caller[]> {
  const shared = form === 'gateways' ? { redis: { url: redis.url } } : { listen: { workers: 3 } }
  const config = simpleConfig({
    provider: [one.url, two.url],
    tier: { retries: 0, firstToken: '500ms' },
    over: { ...shared, failover: { grace: '1s' } },
  })
  const policies = { agent: agentPolicy('agent', bearer) }
  const gateways = await Promise.all(
    Array.from({ length: form === 'gateways' ? 2 : 1 }, () => stage.start({ config, policies })),
  )
  return gateways.map(({ baseUrl }) => createCaller(baseUrl, bearer.bearer))
}

/** So many requests through everybody, on connections of their own. */
async function ask(callers: readonly Caller[], times: number): Promise<string[]> {
  const told: string[] = []
  for (let i = 0; i < times; i += 1)
    for (const caller of callers) {
      const { status: code, header } = await caller.chat({ headers: { connection: 'close' } })
      told.push(`${code} ${header('x-sluice-deployment')}`)
    }
  return told
}

/** Asks until nobody is sent to the first provider any more; gives the calls that it took. */
async function untilHeld(callers: readonly Caller[]): Promise<number> {
  await eventually(async () => {
    const before = one.calls
    for (let i = 0; i < 6; i += 1) await ask(callers, 1)
    return one.calls === before
  }, 'it is left alone')
  return one.calls
}

describe.each(['gateways', 'workers'] as const)('%s', (form) => {
  it('leave alone together what failed five times at one of them', async () => {
    const callers = await open(form)
    one.script(status(503))
    const [first] = callers
    if (first === undefined) throw new Error('no caller')
    const failures = await untilHeld([first])
    // Five in a row at one of them; the two other workers may have had four.
    expect(failures).toBeGreaterThanOrEqual(5)
    expect(failures).toBeLessThanOrEqual(form === 'gateways' ? 5 : 13)
    await sleep(200)
    expect(await ask(callers, 12)).toEqual(Array(12 * callers.length).fill('200 p2/m2'))
    expect(one.calls).toBe(failures)
  })

  it('leave alone together whoever asked for it, for as long as he asked', async () => {
    const callers = await open(form)
    one.script(rateLimited(2))
    await ask(callers.slice(0, 1), 1)
    const saidMs = one.requests[0]?.endedMs ?? 0
    await sleep(100)
    one.script(answer())
    while (performance.now() < saidMs + 1_900) await ask(callers, 1)
    expect(one.calls).toBe(1)
    await sleep(Math.max(saidMs + 2_050 - performance.now(), 0))
    await eventually(async () => (await ask(callers, 1)).includes('200 p1/m1'), 'it is asked again')
  })

  it('send one probe at a time, all together, until it is back', async () => {
    const callers = await open(form)
    one.script(status(503))
    const failed = await untilHeld(callers)
    await sleep(200)
    const slowly: Behaviour = answer({ firstMs: 120 })
    let most = 0
    one.script(() => {
      most = Math.max(most, one.active)
      return slowly
    })
    // Many at once, all the time, for the hold and a part of the grace.
    const until = performance.now() + 7_500
    const statuses = new Set<string>()
    await Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        while (performance.now() < until) {
          for (const told of await ask([callers[i % callers.length] as Caller], 1)) statuses.add(told)
          if (one.calls - failed >= 3) break
          await sleep(10)
        }
      }),
    )
    expect(one.calls - failed).toBeGreaterThanOrEqual(3)
    expect(most).toBe(1)
    for (const told of statuses) expect(told).toMatch(/^200 p[12]/)
  }, 20_000)

  it('know together that it is silent', async () => {
    const callers = await open(form)
    one.script(silent())
    const [first] = callers
    const missed = await first?.chat({ body: { stream: true } })
    expect(missed?.header('x-sluice-attempts')).toBe('t1:p1/m1=first_token, t2:p2/m2=200')
    await sleep(200)
    expect(await ask(callers, 10)).toEqual(Array(10 * callers.length).fill('200 p2/m2'))
    expect(one.calls).toBe(1)
  })
})
