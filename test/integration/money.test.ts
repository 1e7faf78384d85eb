// What a request costs, as operators see it, and where an agent with a budget never goes: counted at the providers.

import { beforeEach, describe, expect, it } from 'vitest'
import { type Caller, createCaller } from '../support/caller.ts'
import { agentPolicy, makeBearer, type TestGateway } from '../support/gateway.ts'
import { seriesOf, statusOf } from '../support/operator.ts'
import { answer, cutAfter } from '../support/scripted-provider.ts'
import { createStage } from '../support/stage.ts'

const stage = await createStage()
const { one: bare, two: priced } = stage

const USAGE = {
  prompt_tokens: 1000,
  completion_tokens: 500,
  total_tokens: 1500,
  prompt_tokens_details: { cached_tokens: 400 },
  completion_tokens_details: { reasoning_tokens: 100 },
}
/** 600 × 2 + 400 × 0.5 + 400 × 8 + 100 × 10 millionths. */
const COST_USD = 0.0056

beforeEach(() => {
  for (const provider of [bare, priced]) provider.script(answer({ usage: USAGE }))
})

async function open(): Promise<{ at: TestGateway; rich: Caller; poor: Caller; only: Caller }> {
  const [rich, poor] = [makeBearer(), makeBearer()]
  const at = await stage.start({
    config: {
      providers: {
        bare: { format: 'openai', baseUrl: bare.baseUrl },
        priced: { format: 'openai', baseUrl: priced.baseUrl },
      },
      tiers: {
        t1: { deployments: ['bare/m1'] },
        t2: {
          deployments: [{ use: 'priced/m2', price: { input: 2, cached: 0.5, output: 8, reasoning: 10 } }],
        },
      },
      routes: { m: ['t1', 't2'], last: ['t1'] },
    },
    policies: {
      'rich.yaml': agentPolicy('rich', rich),
      'poor.yaml': agentPolicy('poor', poor, { limits: { budget: '20 USD/day' } }),
    },
  })
  const caller = (bearer: string, model = 'm') => createCaller(at.baseUrl, bearer, model)
  return { at, rich: caller(rich.bearer), poor: caller(poor.bearer), only: caller(poor.bearer, 'last') }
}

const recordOf = (at: TestGateway, agent: string, status = 200) =>
  at.waitForLog((line) => line.msg === 'request' && line.agent === agent && line.status === status)

describe('an agent with a budget', () => {
  it('goes around who is unpriced, and the answer says so', async () => {
    const { at, poor } = await open()
    for (const stream of [false, true]) {
      const answered = await poor.chat({ body: { stream } })
      expect(answered.status).toBe(200)
      expect(answered.header('x-sluice-attempts')).toBe('t1:bare/m1=skipped:unpriced, t2:priced/m2=200')
    }
    expect([bare.calls, priced.calls]).toEqual([0, 2])
    expect(await recordOf(at, 'poor')).toMatchObject({ costUsd: COST_USD })
  })

  it('is refused for good where nobody else is left, with the deployments and the key to set', async () => {
    const { only } = await open()
    const refused = await only.chat()
    expect(refused.status).toBe(404)
    expect(refused.error).toMatchObject({
      code: 'model_not_found',
      type: 'invalid_request_error',
      param: 'model',
    })
    expect(refused.error?.message).toContain(
      'there is no price of t1 bare/m1. An operator writes it as "price"',
    )
    expect(refused.header('x-should-retry')).toBe('false')
    expect([refused.header('retry-after'), refused.header('retry-after-ms')]).toEqual(['', ''])
    expect(refused.header('x-sluice-attempts')).toBe('t1:bare/m1=skipped:unpriced')
    expect(bare.calls).toBe(0)
  })

  it('is told so by explain, where whoever has none would be answered', async () => {
    const { at } = await open()
    const explain = async (agent: string) => {
      const body = { model: 'last', messages: [{ role: 'user', content: 'Hello.' }] }
      const response = await fetch(`${at.adminUrl}/explain`, {
        method: 'POST',
        headers: { authorization: `Bearer ${at.adminToken}`, 'content-type': 'application/json' },
        body: JSON.stringify({ agent, operation: 'chat', body }),
      })
      return response.json()
    }
    expect(await explain('poor')).toMatchObject({
      ...{ allow: true, status: 404, code: 'model_not_found', message: expect.stringContaining('bare/m1') },
      plan: [{ deployment: 'bare/m1', reason: 'skipped:unpriced' }],
    })
    expect(await explain('rich')).toMatchObject({ status: 200, code: 'ok', plan: [{ reason: 'available' }] })
  })

  it('is what the start warns of, by the names of those it cannot reach', async () => {
    const { at } = await open()
    expect(at.logLines().filter(({ level }) => level === 'warn' || level === 40)).toMatchObject([
      { msg: expect.stringContaining('deployment bare/m1 is unpriced') },
      { msg: expect.stringMatching(/^route "last" has no deployment with a price.*\(poor\)/) },
    ])
  })
})

describe('what a request costs', () => {
  it('is in the log line and the metrics, by agent and deployment', async () => {
    const { at, poor } = await open()
    await poor.chat()
    await poor.chat({ body: { stream: true } })
    expect(await seriesOf(at, 'sluice_cost_usd_total')).toEqual([
      `sluice_cost_usd_total{agent="poor",deployment="priced/m2"} ${2 * COST_USD}`,
    ])
    expect(await seriesOf(at, 'sluice_unpriced_requests_total')).toEqual([])
  })

  it('is called unpriced, and has no number, where nobody said what it costs', async () => {
    const { at, rich } = await open()
    expect((await rich.chat()).header('x-sluice-attempts')).toBe('t1:bare/m1=200')
    const line = await recordOf(at, 'rich')
    expect(line).toMatchObject({ unpriced: true, inputTokens: 1000 })
    expect(line).not.toHaveProperty('costUsd')
    expect(await seriesOf(at, 'sluice_unpriced_requests_total')).toEqual([
      'sluice_unpriced_requests_total{deployment="bare/m1"} 1',
    ])
    expect(await seriesOf(at, 'sluice_cost_usd_total')).toEqual([])
    expect(await statusOf(at)).toMatchObject({
      deployments: [
        { deployment: 'priced/m2', price: { input: 2, cached: 0.5, output: 8 } },
        { deployment: 'bare/m1', price: 'unpriced' },
      ],
    })
  })

  it('counts an answer that broke off, by what was seen of it', async () => {
    const { at, poor } = await open()
    priced.script(cutAfter({ frames: 3 }))
    await poor.chat({ body: { stream: true } })
    const line = await recordOf(at, 'poor')
    expect(line).toMatchObject({ code: 'upstream_incomplete', usageSource: 'counted' })
    const { inputTokens, outputTokens, costUsd } = line
    expect(outputTokens).toBeGreaterThan(0)
    expect(costUsd).toBeCloseTo((Number(inputTokens) * 2 + Number(outputTokens) * 8) / 1e6, 9)
  })
})
