// A Redis that is slow, or stands still for a while, costs nobody money: what was spent is what the provider was asked
// for, read in Redis itself.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { makeAgents } from '../support/agents.ts'
import { eventually } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { answer, createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'

/** USD per million tokens; each answer is of 10 and 5 tokens. */
const PRICE = { input: 10, output: 50 }
const COST_MICROS = 10 * 10 + 5 * 50
const USAGE = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 }
const agents = makeAgents({ a: { budget: '20 USD/day', tokens: { capacity: 100_000_000, refill: '1/h' } } })

let redis: TestRedis
let provider: ScriptedProvider
let gateway: TestGateway

beforeEach(async () => {
  ;[redis, provider] = await Promise.all([startRedis(), createScriptedProvider({ record: 'count' })])
  provider.script(answer({ usage: USAGE }))
  gateway = await startGateway({
    config: simpleConfig({
      provider: provider.url,
      over: { redis: { url: redis.url }, tiers: { t1: { deployments: [{ use: 'p1/m1', price: PRICE }] } } },
    }),
    policies: agents.policies,
  })
})
afterEach(async () => {
  redis.resume()
  await gateway.stop()
  await Promise.all([redis.stop(), provider.close()])
})

const call = async (): Promise<number> => (await agents.as(gateway, 'a').chat()).status
const spentMicros = async (): Promise<number> =>
  Number(String((await redis.command('HGET', 'slc:1:{a}:b:agent:a', 'd')) ?? '0 0 0').split(' ')[2])

/** In the end exactly what the calls that were made cost: of nothing that is reserved any more. */
async function expectExact(): Promise<void> {
  await eventually(
    async () => (await spentMicros()) === provider.calls * COST_MICROS,
    `${provider.calls} calls are paid for, and nothing else`,
  ).catch(async (error: unknown) => {
    throw new Error(`${await spentMicros()} micros for ${provider.calls} calls of ${COST_MICROS}`, {
      cause: error,
    })
  })
}

it('not those whom it keeps waiting until they are refused', async () => {
  expect(await call()).toBe(200)
  redis.pause()
  const statuses = await Promise.all(Array.from({ length: 60 }, call))
  expect(new Set(statuses)).toEqual(new Set([503]))
  await sleep(1_000)
  redis.resume()
  await eventually(async () => (await call()) === 200, 'money is counted again')
  await expectExact()
})

it('not those who end while it stands still', async () => {
  let open = (): void => {}
  const gate = new Promise<void>((resolve) => {
    open = resolve
  })
  const good = answer({ usage: USAGE })
  provider.script({
    async run(one) {
      await gate
      await good.run(one)
    },
  })
  const calls = Array.from({ length: 40 }, call)
  await eventually(() => provider.calls === 40, 'all are under way')
  redis.pause()
  open()
  expect(new Set(await Promise.all(calls))).toEqual(new Set([200]))
  await sleep(400)
  redis.resume()
  await expectExact()
})

it('not those who come while it stalls again and again', async () => {
  const until = performance.now() + 6_000
  const stalls = (async () => {
    while (performance.now() < until) {
      await sleep(880)
      redis.pause()
      await sleep(120)
      redis.resume()
    }
  })()
  let good = 0
  await Promise.all(
    [0, 1, 2].map(async () => {
      while (performance.now() < until) {
        if ((await call()) === 200) good += 1
        await sleep(150)
      }
    }),
  )
  await stalls
  expect(good).toBeGreaterThan(50)
  await expectExact()
})

it('not those whose connection breaks, whether what they asked was done or not', async () => {
  const until = performance.now() + 4_000
  let killed = 0
  const kills = (async () => {
    while (performance.now() < until) {
      await sleep(200 + Math.random() * 100)
      // Standing still it takes in what is sent, and does it after the connection is gone.
      redis.pause()
      await sleep(30)
      const kill = redis.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      redis.resume()
      killed += Number(await kill)
    }
  })()
  const statuses = new Map<number, number>()
  await Promise.all(
    Array.from({ length: 6 }, async () => {
      while (performance.now() < until) {
        const status = await call()
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
        await sleep(5)
      }
    }),
  )
  await kills
  expect(killed).toBeGreaterThan(8)
  expect(statuses.get(200)).toBeGreaterThan(50)
  expect([...statuses.keys()].sort()).toEqual([200, 503])
  await eventually(async () => (await call()) === 200, 'money is counted again')
  await expectExact()
})

it('not those who come while it stands still for longer than a connection lives', async () => {
  expect(await call()).toBe(200)
  const hanging: Promise<number>[] = []
  redis.pause()
  for (let i = 0; i < 30; i += 1) {
    hanging.push(call())
    await sleep(120)
  }
  expect(new Set(await Promise.all(hanging))).toEqual(new Set([503]))
  redis.resume()
  await eventually(async () => (await call()) === 200, 'money is counted again')
  await expectExact()
})
