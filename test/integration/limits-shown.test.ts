// What an operator sees of the limits: two gateway processes over one Redis. Whatever one took is shown by the other,
// and looking takes nothing: that is seen in Redis, not in what the gateway says.

import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Caller, createCaller, eventually } from '../support/caller.ts'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { metricOf, seriesOf, statusOf } from '../support/operator.ts'
import { freePort } from '../support/ports.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { answer, createScriptedProvider, gate, type ScriptedProvider } from '../support/scripted-provider.ts'

const [planner, quiet, hot] = [makeBearer(), makeBearer(), makeBearer()]
const POLICIES = {
  planner: agentPolicy('planner', planner, {
    bearers: [
      { id: 'laptop', sha256: planner.sha256, limits: { tokens: { capacity: 50_000, refill: '1/h' } } },
    ],
    limits: {
      requests: { capacity: 10, refill: '1/h' },
      concurrency: 5,
    },
  }),
  quiet: agentPolicy('quiet', quiet, { limits: { requests: '100/s', concurrency: 2 } }),
  hot: agentPolicy('hot', hot),
}
const ROOT = resolve(import.meta.dirname, '../..')
const [NODE, MAIN] = [join(ROOT, 'node_modules/.bin/node'), join(ROOT, 'src/main.ts')]

let redis: TestRedis
let provider: ScriptedProvider
let gateways: readonly [TestGateway, TestGateway]

beforeAll(async () => {
  ;[redis, provider] = await Promise.all([startRedis(), createScriptedProvider()])
  gateways = await startTwo(redis.url)
})
afterAll(async () => {
  await Promise.all(gateways.map((gateway) => gateway.stop()))
  await Promise.all([redis.stop(), provider.close()])
})
afterEach(() => provider.reset())

function startTwo(url: string) {
  const config = simpleConfig({
    provider: provider.url,
    settings: { limits: { concurrency: 100 } },
    over: {
      redis: { url },
      limits: { requests: { capacity: 10_000, refill: '1/h' } },
      routes: { m: { tiers: ['t1'], limits: { concurrency: 50 } } },
    },
  })
  const start = () => startGateway({ config, policies: POLICIES })
  return Promise.all([start(), start()])
}

const call = (at: TestGateway, { bearer }: { bearer: string }): Caller => createCaller(at.baseUrl, bearer)

/** Everything that Redis holds of limits, but for the heartbeat. */
async function held(): Promise<Record<string, unknown>> {
  const keys = await redis.command('KEYS', 'slc:*:b:*')
  if (!Array.isArray(keys)) throw new Error('a list of keys')
  const entries = keys.map(async (key) => [String(key), await redis.command('HGETALL', String(key))])
  return Object.fromEntries(await Promise.all(entries.toSorted()))
}

describe('the status of two gateways', () => {
  it('shows on one what the other took: requests, tokens, slots', async () => {
    const [a, b] = gateways
    const [first, second] = [gate(answer()), gate(answer())]
    provider.script([answer(), answer(), answer(), first, second])
    for (let i = 0; i < 3; i += 1) expect((await call(a, planner).chat()).status).toBe(200)
    const under = [call(a, planner).chat(), call(a, planner).chat()]
    await provider.waitForRequests(5)

    const [mine, ...others] = (await statusOf(b, '?agent=planner')).agents
    expect(others).toEqual([])
    expect(mine).toMatchObject({
      agent: 'planner',
      limits: {
        kind: 'agent',
        id: 'planner',
        toldBy: 'ledgers',
        requests: { limit: 10, left: 5, leasedHere: 0 },
        concurrency: { limit: 5, left: 3, inUse: 2, usedHere: 0 },
      },
      bearers: [{ kind: 'bearer', id: 'laptop', tokens: { limit: 50_000 } }],
    })
    // Two reservations of an assumed answer of 8,192 tokens each.
    expect(mine.bearers[0].tokens.left).toBeLessThan(50_000 - 2 * 8_192)
    expect((await statusOf(a, '?agent=planner')).agents[0].limits.concurrency).toMatchObject({
      inUse: 2,
      usedHere: 2,
    })
    const { shared, openHolds } = await statusOf(b)
    expect(openHolds).toBe(0)
    expect(shared.map(({ kind, id }: { kind: string; id: string }) => `${kind} ${id}`)).toEqual([
      'gateway gateway',
      'route m',
      'provider p1',
    ])
    expect(shared[1].concurrency).toMatchObject({ inUse: 2, usedHere: 0 })
    expect(shared[2].concurrency).toMatchObject({ inUse: 2, usedHere: 0 })
    expect((await statusOf(a)).openHolds).toBe(4)
    expect(await metricOf(a, 'sluice_limit_open_holds')).toBe(4)

    first.open()
    second.open()
    for (const done of await Promise.all(under)) expect(done.status).toBe(200)
    await eventually(
      async () => (await statusOf(b, '?agent=planner')).agents[0].limits.concurrency.inUse === 0,
      'the slots are shown as free',
    )
  })

  it('takes nothing and leaves no key, however often it is asked', async () => {
    const [a, b] = gateways
    await eventually(
      async () => !/quiet|b:route|b:provider/.test(JSON.stringify(await held())),
      'what was held has come back',
      10_000,
    )
    const before = await held()
    for (let i = 0; i < 10; i += 1) {
      for (const at of [a, b]) expect((await statusOf(at)).agents).toHaveLength(3)
      await sleep(150)
    }
    const after = await held()
    expect(Object.keys(after)).toEqual(Object.keys(before))
    for (const [key, fields] of Object.entries(after))
      if (key.includes('planner')) expect(fields).toEqual(before[key])
    const quietShown = (await statusOf(b, '?agent=quiet')).agents[0].limits
    expect(quietShown).toMatchObject({ requests: { left: 100 }, concurrency: { left: 2 } })
  })

  it('shows a lease where it is, and as gone elsewhere', { timeout: 30_000 }, async () => {
    const [a, b] = gateways
    let calls = 0
    let stopped = false
    const worker = async (): Promise<void> => {
      for (; !stopped; calls += 1) await call(a, hot).chat()
    }
    const workers = [worker(), worker(), worker()]
    try {
      await eventually(async () => (await statusOf(a)).leases.permits > 0, 'a takes ahead of need')
      expect(await metricOf(a, 'sluice_limit_lease_permits')).toBeGreaterThan(0)
      const [mine] = (await statusOf(a)).shared
      expect(mine.requests.leasedHere).toBeGreaterThan(0)
    } finally {
      stopped = true
      await Promise.all(workers)
    }
    // What it was told less than a second ago is good enough for it.
    await sleep(1_000)
    const [theirs] = (await statusOf(b)).shared
    expect(theirs.requests.leasedHere).toBe(0)
    expect(theirs.requests.left).toBeLessThanOrEqual(10_000 - calls)
    // Back when it is idle: what is left is what was not used.
    await sleep(1_500)
    const [now] = (await statusOf(b)).shared
    expect(now.requests.left).toBe(10_000 - calls - 5)
    expect(await metricOf(a, 'sluice_limit_lease_permits')).toBe(0)
  })

  it('says who may look, and whom it does not know', async () => {
    const [a] = gateways
    expect((await fetch(`${a.adminUrl}/status?agent=planner`)).status).toBe(401)
    const headers = { authorization: `Bearer ${a.adminToken}` }
    for (const agent of ['nobody', '', 'planner%00', '__proto__'])
      expect((await fetch(`${a.adminUrl}/status?agent=${agent}`, { headers })).status).toBe(404)
  })

  it('tells of Redis and of the fleet', async () => {
    const [a, b] = gateways
    await eventually(async () => (await statusOf(a)).redis.fleet === 2, 'a sees b')
    expect((await statusOf(a)).redis).toEqual({
      up: true,
      since: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      fleet: 2,
      divisor: 2,
      onOutage: 'local',
      trips: expect.any(Number),
    })
    expect(await (await fetch(`${b.adminUrl}/ready`)).json()).toEqual({
      status: 'ready',
      limits: 'redis',
      replicas: 2,
    })
    expect(await metricOf(a, 'sluice_redis_fleet_size')).toBe(2)
  })

  it('counts refusals by the limit that refused', async () => {
    const [a] = gateways
    let refused = 0
    for (let i = 0; i < 12; i += 1) if ((await call(a, planner).chat()).status === 429) refused += 1
    expect(refused).toBeGreaterThanOrEqual(7)
    expect(await seriesOf(a, 'sluice_limit_refusals_total')).toEqual([
      `sluice_limit_refusals_total{agent="planner",limit="agent:requests"} ${refused}`,
    ])
  })
})

describe('the status without Redis', () => {
  it('says the share of this replica while it is away, and nothing of what only Redis knows', async () => {
    const port = await freePort()
    const server = await startRedis({ port })
    const pair = await startTwo(server.url)
    try {
      const [a] = pair
      await eventually(async () => (await statusOf(a)).redis.fleet === 2, 'a sees b')
      await server.kill9()
      await a.waitForLog(({ msg }) => msg === 'redis is away: limits are decided here')
      await eventually(
        async () => (await statusOf(a, '?agent=quiet')).agents[0].limits.toldBy === 'share',
        'what Redis said is a second old',
      )
      const status = await statusOf(a, '?agent=quiet')
      expect(status).toMatchObject({ limits: 'outage', redis: { up: false, divisor: 2 } })
      expect(status.agents[0].limits).toMatchObject({
        toldBy: 'share',
        sharedBy: 2,
        requests: { limit: 100, left: 50 },
        concurrency: { limit: 2, left: 1 },
      })
      expect(await (await fetch(`${a.adminUrl}/ready`)).json()).toMatchObject({
        limits: 'outage',
        replicas: 2,
      })
    } finally {
      await Promise.all(pair.map((gateway) => gateway.stop()))
      await server.stop()
    }
  })

  it('shows the limits of a gateway that has none', async () => {
    const config = simpleConfig({ provider: provider.url })
    const alone = await startGateway({ config, policies: POLICIES })
    try {
      for (let i = 0; i < 4; i += 1) await call(alone, planner).chat()
      const status = await statusOf(alone)
      expect(status).toMatchObject({ limits: 'here', redis: null, shared: [], agentsLeftOut: 0 })
      const mine = status.agents.find(({ agent }: { agent: string }) => agent === 'planner')
      expect(mine.limits.requests).toMatchObject({ limit: 10, left: 6 })
      expect(status.agents.find(({ agent }: { agent: string }) => agent === 'hot')).toEqual({
        agent: 'hot',
        limits: null,
        bearers: [],
      })
    } finally {
      await alone.stop()
    }
  })
})

describe('sluice limits', () => {
  /** The command line in a process of its own. */
  function limits(args: readonly string[], env: Readonly<Record<string, string>>) {
    const child = spawnSync(NODE, [MAIN, 'limits', ...args], {
      encoding: 'utf8',
      env: { PATH: process.env.PATH ?? '', ...env },
    })
    return { code: child.status, out: child.stdout, err: child.stderr }
  }

  it('shows them as a table and for a program, and ends with 0, 1 or 2', () => {
    const [, { adminUrl, adminToken }] = gateways
    const env = { SLUICE_ADMIN_URL: adminUrl, SLUICE_ADMIN_TOKEN: adminToken }
    const table = limits([], env)
    expect(table).toMatchObject({ code: 0, err: '' })
    expect(table.out).toMatch(/^counted in Redis for 2 replicas\n/)
    expect(table.out).toMatch(/^agent planner +10 requests, 1\/h +0 /m)
    expect(table.out).toMatch(/^agent hot +no limits$/m)
    expect(table.out).toMatch(/^gateway +10,000 requests, 1\/h +9,\d{3} /m)
    const json = limits(['planner', '--json'], env)
    expect(JSON.parse(json.out).agents).toMatchObject([
      { agent: 'planner', limits: { requests: { left: 0 } } },
    ])

    expect(limits(['nobody'], env)).toMatchObject({ code: 1, err: expect.stringContaining('no agent') })
    expect(limits([], { ...env, SLUICE_ADMIN_TOKEN: 'wrong' })).toMatchObject({ code: 1, out: '' })
    expect(limits(['--all'], env)).toMatchObject({ code: 2, out: '' })
  })
})
