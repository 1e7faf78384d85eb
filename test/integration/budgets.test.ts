// Budgets over two gateways and one Redis: spent money is counted at the provider, by its own usage and the price.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { makeAgents } from '../support/agents.ts'
import { type Answer, eventually } from '../support/caller.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { answer, createScriptedProvider, gate, type ScriptedProvider } from '../support/scripted-provider.ts'

const usage = (input: number, output: number) => ({
  prompt_tokens: input,
  completion_tokens: output,
  total_tokens: input + output,
})
/** USD per million tokens. */
const PRICE = { input: 2, output: 8 }
/** 100 × 2 + 50 × 8 micros. */
const COST_MICROS = 600
/** Most that one request reserves: its text, and 100 tokens of output. */
const BODY = { max_tokens: 100 }

const AGENTS = {
  daily: { budget: '0.006 USD/day' },
  shared: { budget: '0.006 USD/month' },
  unspent: { budget: '0.006 USD/month' },
  dear: { budget: '0.0005 USD/day' },
  held: { budget: '0.001 USD/day' },
} as const
const agents = makeAgents(AGENTS)

let redis: TestRedis
let provider: ScriptedProvider
let gateways: TestGateway[] = []

beforeAll(async () => {
  ;[redis, provider] = await Promise.all([startRedis(), createScriptedProvider()])
  const start = () =>
    startGateway({
      config: {
        redis: { url: redis.url },
        providers: { p: { format: 'openai', baseUrl: provider.baseUrl } },
        tiers: { t: { deployments: [{ use: 'p/m', price: PRICE }] } },
        routes: { m: ['t'] },
      },
      policies: agents.policies,
    })
  gateways = await Promise.all([start(), start()])
})
afterAll(async () => {
  await Promise.all(gateways.map((gateway) => gateway.stop()))
  await Promise.all([redis?.stop(), provider?.close()])
})
beforeEach(() => {
  provider.reset()
  provider.script(answer({ usage: usage(100, 50) }))
})

const call = (name: keyof typeof AGENTS, at: number, body: object = BODY): Promise<Answer> => {
  const gateway = gateways[at % 2]
  if (gateway === undefined) throw new Error('two gateways are needed')
  return agents.as(gateway, name).chat({ body: { ...body } })
}

const spentMicros = async (name: string): Promise<number> => {
  const field = await redis.command('HGET', `slc:1:{${name}}:b:agent:${name}`, 'd')
  return Number(String(field).split(' ')[2])
}

function expectSpent(refused: Answer): void {
  expect(refused.status).toBe(429)
  expect(refused.error).toMatchObject({ code: 'insufficient_quota', type: 'insufficient_quota' })
  expect(refused.header('retry-after')).toBe('')
  expect(refused.header('retry-after-ms')).toBe('')
  expect(refused.header('x-should-retry')).toBe('false')
  expect(refused.error?.message).toMatch(/begins at \d{4}-\d\d-\d\d 00:00 UTC/)
}

function expectReserved(refused: Answer): void {
  expect([refused.status, refused.header('retry-after'), refused.header('x-should-retry')]).toEqual([
    429,
    '1',
    'true',
  ])
  expect(refused.error).toMatchObject({ code: 'rate_limit_exceeded', type: 'rate_limit_error' })
  expect(refused.error?.message).toContain('reserved the rest of its budget')
}

describe('a budget', () => {
  it('is one for both gateways, never passed, and told as final when it is spent', async () => {
    const answers: Answer[] = []
    for (let i = 0; i < 14; i += 1) {
      answers.push(await call('daily', i))
      await sleep(20)
    }
    const admitted = answers.filter(({ status }) => status === 200).length
    // Ten would cost all of it. A reservation is larger than what it comes to, so the last may be refused.
    expect(admitted).toBeGreaterThanOrEqual(8)
    expect(admitted * COST_MICROS).toBeLessThanOrEqual(6000)
    expect(provider.calls).toBe(admitted)
    for (const refused of answers.slice(admitted)) expectSpent(refused)
    await eventually(async () => (await spentMicros('daily')) === admitted * COST_MICROS, 'it is settled')
    const ttl = Number(await redis.command('PTTL', 'slc:1:{daily}:b:agent:daily'))
    expect(ttl).toBeLessThanOrEqual(86_400_000 + 1_000)
  })

  it('holds when all ask at once', async () => {
    const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => call('shared', i)))
    const admitted = answers.filter(({ status }) => status === 200).length
    expect(admitted).toBeGreaterThan(0)
    expect(admitted * COST_MICROS).toBeLessThanOrEqual(6000)
    // Most of it is reserved by the others: that comes back, and is not told as final.
    const refused = answers.filter(({ status }) => status !== 200)
    for (const one of refused) {
      if (one.error?.code === 'insufficient_quota') expectSpent(one)
      else expectReserved(one)
    }
    expect(refused.some(({ error }) => error?.code === 'rate_limit_exceeded')).toBe(true)
    expect(provider.calls).toBe(admitted)
  })

  it('that is only reserved is no reason to give up', async () => {
    const held = gate(answer({ usage: usage(100, 50) }))
    provider.script(held)
    const first = call('held', 0)
    await provider.waitForRequests(1)
    expectReserved(await call('held', 0))
    held.open()
    expect((await first).status).toBe(200)
    provider.script(answer({ usage: usage(10, 5) }))
    await eventually(
      async () => (await call('held', 0, { max_tokens: 10 })).status === 200,
      'the rest is back',
    )
  })

  it('counts what an answer cost beyond its reservation', async () => {
    expect((await call('dear', 0, { max_tokens: 10 })).status).toBe(200)
    await eventually(async () => (await spentMicros('dear')) === COST_MICROS, 'it is settled')
    expectSpent(await call('dear', 1, { max_tokens: 1 }))
  })

  it('is not bridged while Redis is away: nobody spends what nobody counts', async () => {
    redis.pause()
    try {
      await eventually(async () => (await call('daily', 0)).status === 503, 'it is noticed', 3_000)
      // One that has something left: whoever was just refused may be so again from memory.
      const refused = await call('unspent', 1)
      expect(refused.status).toBe(503)
      expect(refused.error).toMatchObject({ code: 'limits_unavailable' })
      expect(refused.header('retry-after')).toBe('1')
    } finally {
      redis.resume()
    }
  })
})
