// One deployment for every model of an account, `provider/*`: the rate limit of one model keeps nobody from another, and
// what is wrong with the provider is wrong for all. Counted at the provider, model by model.

import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { type Caller, createCaller } from '../support/caller.ts'
import { agentPolicy, makeBearer, simpleConfig, type TestGateway } from '../support/gateway.ts'
import { statusOf } from '../support/operator.ts'
import { startRedis } from '../support/redis.ts'
import { answer, rateLimited, type ScriptedProvider, status } from '../support/scripted-provider.ts'
import { createStage } from '../support/stage.ts'

const KEY = 'sk-of-the-provider-0123456789abcdef'

const stage = await createStage()
const { one, two } = stage
const bearer = makeBearer()
const policies = { agent: agentPolicy('agent', bearer) }

const configuration = (over: Readonly<Record<string, unknown>> = {}) =>
  simpleConfig({
    provider: [one.url, two.url],
    keyVariable: 'PROVIDER_KEY',
    model: '*',
    tier: { retries: 0 },
    over: { tiers: { t1: { deployments: ['p1/*'] }, t2: { deployments: ['p2/*'] } }, ...over },
  })

async function open(
  over: Readonly<Record<string, unknown>> = {},
): Promise<{ at: TestGateway; caller: Caller }> {
  const at = await stage.start({ config: configuration(over), policies, env: { PROVIDER_KEY: KEY } })
  return { at, caller: createCaller(at.baseUrl, bearer.bearer) }
}

const ask = async (caller: Caller, model: string): Promise<string> =>
  (await caller.chat({ body: { model } })).header('x-sluice-attempts')

function callsOf(provider: ScriptedProvider, model: string): number {
  return provider.requests.filter((request) => Object(request.json()).model === model).length
}

describe('a model that is over its rate', () => {
  it('is left alone for as long as the provider says, and no other one is', async () => {
    const { at, caller } = await open()
    one.script((request) => (request.body.includes('"busy"') ? rateLimited(3) : answer()))
    expect(await ask(caller, 'busy')).toBe('t1:p1/busy=429, t2:p2/busy=200')
    const saidMs = one.requests[0]?.endedMs ?? 0
    one.script(answer())
    expect((await statusOf(at)).deployments).toMatchObject([
      { deployment: 'p2/*' },
      { deployment: 'p1/*', state: 'available', models: [{ model: 'busy', phase: 'held', reason: '429' }] },
    ])
    for (let round = 0; performance.now() < saidMs + 2_700; round += 1) {
      expect(await ask(caller, 'busy')).toBe('t1:p1/busy=skipped:unavailable, t2:p2/busy=200')
      expect(await ask(caller, `free-${round % 3}`)).toBe(`t1:p1/free-${round % 3}=200`)
      await sleep(100)
    }
    expect(callsOf(one, 'busy')).toBe(1)
    expect(callsOf(two, 'busy')).toBe(two.calls)
    await sleep(Math.max(saidMs + 3_050 - performance.now(), 0))
    expect(await ask(caller, 'busy')).toBe('t1:p1/busy=200')
  })

  it('is so with every key that was refused for it, and the keys go on with others', async () => {
    const config = configuration({ providers: { p1: { apiKey: ['env:PROVIDER_KEY', 'env:SECOND_KEY'] } } })
    const env = { PROVIDER_KEY: KEY, SECOND_KEY: `${KEY}-2` }
    const { baseUrl } = await stage.start({ config, policies, env })
    const caller = createCaller(baseUrl, bearer.bearer)
    one.script((request) => (request.body.includes('"busy"') ? rateLimited(60) : answer()))
    expect(await ask(caller, 'busy')).toBe('t1:p1/busy=429, t1:p1/busy=429, t2:p2/busy=200')
    expect(await ask(caller, 'busy')).toBe('t1:p1/busy=skipped:unavailable, t2:p2/busy=200')
    expect(callsOf(one, 'busy')).toBe(2)
    for (let i = 0; i < 4; i += 1) expect(await ask(caller, 'free')).toBe('t1:p1/free=200')
    const used = one.requests.slice(2).map((request) => request.header('authorization'))
    expect(new Set(used).size).toBe(2)
  })

  it('is no name in a metric, and no place for a secret', async () => {
    const { at, caller } = await open()
    one.script(rateLimited(60))
    for (const model of ['busy', KEY]) await ask(caller, model)
    await at.waitForLog(({ model }) => model === 'busy')
    const told = [await (await fetch(`${at.adminUrl}/metrics`)).text(), JSON.stringify(await statusOf(at))]
    expect(told[0]).not.toContain('busy')
    expect(told[1]).toContain('busy')
    for (const text of [...told, at.stdout()]) expect(text).not.toContain(KEY)
    expect((await statusOf(at)).deployments[1].models).toHaveLength(2)
  })

  it('is known to all gateways that share a Redis, where the others go on', async () => {
    const redis = await startRedis()
    try {
      const [first, second] = await Promise.all([0, 1].map(() => open({ redis: { url: redis.url } })))
      if (first === undefined || second === undefined) throw new Error('no gateway')
      one.script((request) => (request.body.includes('"busy"') ? rateLimited(60) : answer()))
      await ask(first.caller, 'busy')
      await sleep(200)
      expect(await ask(second.caller, 'busy')).toBe('t1:p1/busy=skipped:unavailable, t2:p2/busy=200')
      expect(await ask(second.caller, 'free')).toBe('t1:p1/free=200')
      expect(callsOf(one, 'busy')).toBe(1)
    } finally {
      await stage.stop()
      await redis.stop()
    }
  })
})

describe('a provider that fails', () => {
  it('is left alone with all of its models', async () => {
    const { caller } = await open()
    one.script(status(503))
    for (let i = 0; i < 5; i += 1) await ask(caller, `m${i}`)
    expect(await ask(caller, 'another')).toBe('t1:p1/another=skipped:unavailable, t2:p2/another=200')
    expect(one.calls).toBe(5)
  })
})
