// Hedging at a real gateway: a provider that is slow now and then costs its callers little, and the other one is asked
// for no more than the share it may be. Both are counted at the providers.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import {
  answer,
  createScriptedProvider,
  type ScriptedProvider,
  silent,
} from '../support/scripted-provider.ts'

const SHARE = 0.1
let slow: ScriptedProvider
let other: ScriptedProvider
let gateway: TestGateway

beforeAll(async () => {
  ;[slow, other] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  const config = simpleConfig({ provider: [slow.url, other.url] })
  gateway = await startGateway({
    config: {
      ...config,
      tiers: {
        // Almost all go to the first by its weight.
        t1: {
          deployments: [
            { use: 'p1/m1', weight: 1_000_000 },
            { use: 'p2/m2', weight: 1 },
          ],
          hedge: { after: '150ms', atMost: SHARE },
        },
      },
      routes: { m: ['t1'] },
    },
  })
})
afterAll(async () => {
  await gateway.stop()
  await Promise.all([slow.close(), other.close()])
})

const ask = () => createCaller(gateway.baseUrl, gateway.bearer).chat({ body: { stream: true } })

it('saves the callers of a slow call, within its share, and lets go of the loser', async () => {
  let called = 0
  let stuck = 0
  // One in twenty never answers.
  slow.script((_) => {
    called += 1
    if (called % 20 !== 0) return answer()
    stuck += 1
    return silent()
  })
  other.script(answer())
  const took: number[] = []
  for (let i = 0; i < 200; i += 1) {
    const sentMs = performance.now()
    const { status } = await ask()
    expect(status).toBe(200)
    took.push(performance.now() - sentMs)
  }
  expect(stuck).toBeGreaterThanOrEqual(9)
  // Nobody waited for the first token of one that never answers (15 s).
  expect(Math.max(...took)).toBeLessThan(5_000)
  expect(other.calls).toBeGreaterThanOrEqual(stuck)
  expect(other.calls).toBeLessThanOrEqual(200 * SHARE)
  await eventually(() => slow.active === 0 && other.active === 0, 'no call is left at a provider')
  expect(took.filter((ms) => ms > 140).length).toBeGreaterThanOrEqual(stuck)
})

it('is not asked for more than its share when all calls are slow', async () => {
  slow.script({
    run: async (call) => {
      await sleep(400)
      await answer().run(call)
    },
  })
  const before = other.calls
  const answers = await Promise.all(Array.from({ length: 100 }, () => ask()))
  expect(answers.every(({ status }) => status === 200)).toBe(true)
  // Ten of a hundred, and what was saved up.
  expect(other.calls - before).toBeLessThanOrEqual(100 * SHARE + 5)
  expect(other.calls - before).toBeGreaterThan(0)
})
