// `limits.wait`: callers of an agent queue for their turn instead of being refused, over a real gateway and a real
// Redis. What was served is counted at the provider.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { makeAgents } from '../support/agents.ts'
import { eventually } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { answer, createScriptedProvider, gate, type ScriptedProvider } from '../support/scripted-provider.ts'

const agents = makeAgents({
  paced: { requests: { capacity: 1, refill: '10/s' }, wait: '2s' },
  brief: { requests: { capacity: 1, refill: '1/s' }, wait: '300ms' },
  narrow: { concurrency: 1, wait: '5s' },
})

let redis: TestRedis
let provider: ScriptedProvider
let gateway: TestGateway

beforeAll(async () => {
  ;[redis, provider] = await Promise.all([startRedis(), createScriptedProvider()])
  gateway = await startGateway({
    config: simpleConfig({ provider: provider.url, over: { redis: { url: redis.url } } }),
    policies: agents.policies,
  })
})
afterAll(async () => {
  await gateway?.stop()
  await Promise.all([redis?.stop(), provider?.close()])
})
beforeEach(() => provider.reset())

describe('a limit that says wait', () => {
  it('serves ten callers at once at its own pace, and refuses none', async () => {
    const caller = agents.as(gateway, 'paced')
    const startedMs = performance.now()
    const answers = await Promise.all(Array.from({ length: 10 }, () => caller.chat()))
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 200))
    // The tenth is admitted nine tenths of a second after the first, at the earliest.
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(900)
    expect(provider.calls).toBe(10)
  })

  it('refuses at once who could not be served in time, with the exact wait', async () => {
    const caller = agents.as(gateway, 'brief')
    expect((await caller.chat()).status).toBe(200)
    const startedMs = performance.now()
    const refused = await caller.chat()
    expect(refused.status).toBe(429)
    expect(performance.now() - startedMs).toBeLessThan(250)
    expect(Number(refused.header('retry-after-ms'))).toBeGreaterThan(700)
    expect(provider.calls).toBe(1)
  })

  it('gives the slot to the next in line as soon as it comes back, and forgets who left', async () => {
    const held = gate()
    provider.script(({ index }) => (index === 0 ? held : answer()))
    const caller = agents.as(gateway, 'narrow')
    const first = caller.chat()
    await provider.waitForRequests(1)
    const leaving = new AbortController()
    const gone = caller.chat({ signal: leaving.signal }).then(
      () => 'answered',
      () => 'left',
    )
    await sleep(100)
    const next = caller.chat()
    await sleep(100)
    leaving.abort()
    expect(await gone).toBe('left')
    expect(provider.calls).toBe(1)
    held.open()
    expect((await first).status).toBe(200)
    expect((await next).status).toBe(200)
    // Only two were served, and nothing is held for the one who left.
    expect(provider.calls).toBe(2)
    await eventually(
      async () => (await redis.command('EXISTS', 'slc:1:{narrow}:b:agent:narrow')) === 0,
      'nothing is held',
      3_000,
    )
  })
})
