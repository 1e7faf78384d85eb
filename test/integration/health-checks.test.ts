// Health checks: providers that are asked how they are before a caller asks for anything. Counted at the provider.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { simpleConfig, type TestGateway } from '../support/gateway.ts'
import { seriesOf, statusOf } from '../support/operator.ts'
import { freePort } from '../support/ports.ts'
import { startRedis } from '../support/redis.ts'
import {
  answer,
  createScriptedProvider,
  rateLimited,
  type ScriptedProvider,
} from '../support/scripted-provider.ts'
import { createStage } from '../support/stage.ts'

const KEY = 'sk-of-the-provider-0123456789abcdef'

const stage = await createStage()
const { one, two } = stage
const own: ScriptedProvider[] = []
afterEach(async () => {
  for (const provider of own.splice(0)) await provider.close()
})

async function provider(port = 0): Promise<ScriptedProvider> {
  const made = await createScriptedProvider({ port })
  own.push(made)
  return made
}

/** The first of two tiers is checked every second; grace is short. */
const configuration = (
  first: string,
  { health = { path: '/models', every: '1s' }, over = {} }: { health?: unknown; over?: object } = {},
) =>
  simpleConfig({
    provider: [first, two.url],
    tier: { retries: 0 },
    over: { providers: { p1: { health } }, failover: { grace: '0s' }, ...over },
  })

const start = (config: Record<string, unknown>): Promise<TestGateway> => stage.start({ config })
const by = ({ baseUrl, bearer }: TestGateway) => createCaller(baseUrl, bearer)
const firstOf = async (at: TestGateway) =>
  (await statusOf(at)).deployments.find((each: { deployment: string }) => each.deployment === 'p1/m1')
const attempts = async (at: TestGateway) => (await by(at).chat()).header('x-sluice-attempts')

describe('a provider that is checked', () => {
  it('is asked every second, as every request asks it, and nobody else is', async () => {
    const at = await stage.start({
      config: simpleConfig({
        provider: [one.url, two.url],
        keyVariable: 'PROVIDER_KEY',
        over: { providers: { p1: { health: { path: '/models', every: '1s' }, headers: { 'x-team': 'a' } } } },
      }),
      env: { PROVIDER_KEY: KEY },
    })
    await eventually(() => one.probes.length >= 4, 'four checks', 8_000)
    const [first, , , fourth] = one.probes
    expect(first).toMatchObject({ method: 'GET', path: '/v1/models' })
    expect([first?.header('authorization'), first?.header('x-team')]).toEqual([`Bearer ${KEY}`, 'a'])
    const tookMs = (fourth?.startedMs ?? 0) - (first?.startedMs ?? 0)
    expect(tookMs).toBeGreaterThan(2_300)
    expect(tookMs).toBeLessThan(4_500)
    // On the connection that requests use as well.
    expect((await by(at).chat()).status).toBe(200)
    expect([one.connectionsEver, two.probes.length]).toEqual([1, 0])
    expect(at.stdout()).not.toContain(KEY)
    expect(await at.stop()).toBe(0)
    const { length } = one.probes
    await sleep(1_500)
    expect(one.probes).toHaveLength(length)
  })

  it('is passed over when it is dead before anybody has called it, and back without a caller who pays', async () => {
    const port = await freePort()
    const at = await start(configuration(`http://127.0.0.1:${port}`))
    await eventually(async () => (await firstOf(at)).state === 'unavailable', 'it is found dead')
    expect(await firstOf(at)).toMatchObject({ phase: 'held', reason: 'refused (health check)' })
    for (let i = 0; i < 8; i += 1) {
      expect(await attempts(at)).toBe('t1:p1/m1=skipped:unavailable, t2:p2/m2=200')
      await sleep(500)
    }
    expect(await seriesOf(at, 'sluice_attempts_total')).toEqual(
      expect.not.arrayContaining([expect.stringContaining('refused')]),
    )
    const back = await provider(port)
    await eventually(() => back.probes.length > 0, 'it is checked again')
    const noticedMs = performance.now()
    await eventually(async () => (await attempts(at)) === 't1:p1/m1=200', 'it is asked again', 2_000)
    // Sooner than any hold would have ended: it was the check.
    expect(performance.now() - noticedMs).toBeLessThan(1_000)
    expect(back.calls).toBe(1)
    // Said once on the way out, whatever the checks found again and again.
    expect(at.logLines().filter(({ to }) => to === 'unavailable')).toHaveLength(1)
  })

  it('keeps what it asked for: a good check does not shorten a retry-after', async () => {
    const at = await start(configuration(one.url))
    one.script([rateLimited(4), answer()])
    expect(await attempts(at)).toBe('t1:p1/m1=429, t2:p2/m2=200')
    const saidMs = one.requests[0]?.endedMs ?? 0
    while (performance.now() < saidMs + 3_900) {
      expect(await attempts(at)).toBe('t1:p1/m1=skipped:unavailable, t2:p2/m2=200')
      await sleep(100)
    }
    expect(one.calls).toBe(1)
    expect(one.probes.length).toBeGreaterThanOrEqual(3)
    await eventually(async () => (await attempts(at)) === 't1:p1/m1=200', 'it is asked again', 2_000)
  })

  it('is checked as the configuration says since it was reloaded', async () => {
    const at = await start(configuration(one.url))
    await eventually(() => one.probes.length >= 2, 'checks')
    at.writeConfig(configuration(one.url, { health: { path: '/../health', every: '1s' } }))
    expect((await at.reload()).status).toBe(200)
    await eventually(() => one.probes.at(-1)?.path === '/health', 'the new path')
    at.writeConfig(configuration(one.url, { over: { providers: {} } }))
    expect((await at.reload()).status).toBe(200)
    const { length } = one.probes
    await sleep(2_500)
    expect(one.probes).toHaveLength(length)
  })
})

describe('one of many', () => {
  const rate = async (): Promise<number> => {
    await eventually(() => one.probes.length >= 2, 'checks')
    const { length } = one.probes
    await sleep(6_000)
    return (one.probes.length - length) / 6
  }

  it('workers checks for all of them, and all of them know', async () => {
    const dead = await freePort()
    const over = { listen: { workers: 3 } }
    await start(configuration(one.url, { over }))
    // One for each 0.75 to 1.2 s, and not three.
    expect(await rate()).toBeLessThan(1.5)
    await stage.stop()
    const at = await start(configuration(`http://127.0.0.1:${dead}`, { over }))
    const isSkipped = async (): Promise<boolean> => {
      const header = { headers: { connection: 'close' } }
      const answers = await Promise.all(Array.from({ length: 12 }, () => by(at).chat(header)))
      return answers.every((each) => each.header('x-sluice-attempts').startsWith('t1:p1/m1=skipped'))
    }
    await sleep(4_000)
    expect(await isSkipped()).toBe(true)
  }, 30_000)

  it('gateways checks for all that share a Redis', async () => {
    const redis = await startRedis()
    try {
      const over = { redis: { url: redis.url } }
      await Promise.all([0, 1, 2].map(() => start(configuration(one.url, { over }))))
      expect(await rate()).toBeLessThan(1.5)
      expect(await rate()).toBeGreaterThan(0.5)
    } finally {
      await stage.stop()
      await redis.stop()
    }
  }, 40_000)
})
