// A gateway of several processes on one port: to its callers and operators it is one. Its limits hold over all workers,
// without Redis and with it; a worker may die, a configuration change and the whole stop without a caller of another
// worker noticing. Admissions are counted at the provider, processes in /proc.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { makeAgents } from '../support/agents.ts'
import { type Answer, eventually } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { metricOf, statusOf } from '../support/operator.ts'
import { freePort } from '../support/ports.ts'
import { startRedis } from '../support/redis.ts'
import { answer, echoKey, gate } from '../support/scripted-provider.ts'
import { createStage } from '../support/stage.ts'

const KEY = 'sk-of-the-provider-0123456789abcdef'
const AGENTS = {
  free: {},
  strict: { requests: { capacity: 100, refill: '1/h' }, strict: true },
  leased: { requests: { capacity: 100, refill: '1/h' } },
  large: { requests: { capacity: 1_000, refill: '1/h' } },
  slotted: { concurrency: 12 },
  counted: { requests: { capacity: 20, refill: '1/h' } },
  payer: { budget: '20 USD/day' },
} as const
type Name = keyof typeof AGENTS
const { policies, bearerOf, as } = makeAgents(AGENTS)

const stage = await createStage()
const { one, two } = stage

const configuration = (over: Readonly<Record<string, unknown>> = {}) =>
  simpleConfig({
    provider: [one.url, two.url],
    keyVariable: 'PROVIDER_KEY',
    tier: { retries: 0 },
    over: { routes: { m: ['t1'] }, listen: { workers: 2 }, ...over },
  })

const start = (over: Readonly<Record<string, unknown>> = {}): Promise<TestGateway> =>
  stage.start({ config: configuration(over), policies, env: { PROVIDER_KEY: KEY } })

const admitted = (answers: readonly Answer[]): number => answers.filter(({ status }) => status === 200).length

/** So many at once, each on a connection of its own. */
const burst = (at: TestGateway, name: Name, count: number): Promise<Answer[]> =>
  Promise.all(Array.from({ length: count }, () => as(at, name).chat({ headers: { connection: 'close' } })))

/** The processes that a process has started (Linux). */
function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .filter(Boolean)
      .map(Number)
  } catch {
    return []
  }
}

function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

const workersIn = (at: TestGateway): Set<unknown> =>
  new Set(at.logLines().flatMap(({ msg, worker }) => (msg === 'request' ? [worker] : [])))

/** Streams that go on until the provider ends them, and what became of each. */
async function openStreams(at: TestGateway, name: Name, count: number) {
  const held = gate(answer({ pieces: ['one ', 'two'] }))
  one.script((request) => (request.body.includes('"hold"') ? held : answer()))
  const streams: Promise<{ status: number; done: boolean; code: unknown; lost: boolean }>[] = []
  for (let i = 0; i < count; i += 1) {
    const body = { stream: true, user: 'hold' }
    streams.push(
      as(at, name)
        .chat({ body, headers: { connection: 'close' } })
        .then(
          ({ status, stream, error }) => ({
            status,
            done: stream?.done === true,
            code: error?.code,
            lost: false,
          }),
          () => ({ status: 0, done: false, code: undefined, lost: true }),
        ),
    )
    // One after the other, so that both workers take some.
    await one.waitForRequests(i + 1)
  }
  return { held, ends: Promise.all(streams), streams }
}

describe('a limit over two workers', () => {
  it('admits exactly 100 of 160 at once at capacity 100 when it is strict', async () => {
    const at = await start()
    const answers = await burst(at, 'strict', 160)
    expect(admitted(answers)).toBe(100)
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(60)
    expect(one.calls).toBe(100)
    await eventually(() => workersIn(at).size === 2, 'both workers had a part')
  })

  it('admits no more than 100 of 160 on leases, and the last of them soon after', async () => {
    const at = await start()
    let count = admitted(await burst(at, 'leased', 160))
    expect(count).toBeLessThanOrEqual(100)
    for (let round = 0; round < 2; round += 1) {
      await sleep(1_200)
      count += admitted(await burst(at, 'leased', 40))
    }
    expect(count).toBe(100)
    expect(one.calls).toBe(100)
  })

  it('is spent to the last by callers that go on asking, and never beyond', async () => {
    const at = await start()
    const startedMs = performance.now()
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        const caller = as(at, 'large')
        while (performance.now() - startedMs < 20_000 && one.calls < 1_000)
          if ((await caller.chat()).status !== 200) await sleep(50)
      }),
    )
    expect(admitted(await burst(at, 'large', 20))).toBe(0)
    expect(one.calls).toBe(1_000)
  })

  it('lets no more run at once than there are slots, and takes each back', async () => {
    const at = await start()
    for (let round = 0; round < 3; round += 1) {
      const held = gate()
      one.reset()
      one.script(held)
      const answers = burst(at, 'slotted', 30)
      await one.waitForRequests(12)
      await sleep(200)
      held.open()
      expect(admitted(await answers)).toBe(12)
      expect(one.calls).toBe(12)
      await sleep(200)
    }
  })

  it('holds in Redis as well, where each worker is a replica', async () => {
    const redis = await startRedis()
    try {
      const at = await start({ redis: { url: redis.url } })
      expect(await (await fetch(`${at.adminUrl}/ready`)).json()).toEqual({
        status: 'ready',
        limits: 'redis',
        replicas: expect.any(Number),
        workers: { live: 2, of: 2 },
      })
      expect(admitted(await burst(at, 'strict', 160))).toBe(100)
      expect(await metricOf(at, 'sluice_redis_up')).toBe(1)
      expect(await at.stop()).toBe(0)
      // What Redis has does not go with the processes.
      const again = await start({ redis: { url: redis.url } })
      expect(admitted(await burst(again, 'strict', 5))).toBe(0)
    } finally {
      await stage.stop()
      await redis.stop()
    }
  })
})

describe('a worker that is killed', () => {
  it('charges nobody for what a primary that stood still could not answer', async () => {
    const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 }
    const price = { input: 10, output: 50 }
    for (const provider of [one, two]) provider.script(answer({ usage }))
    const before = one.calls + two.calls
    const at = await start({
      tiers: { t1: { deployments: ['p1/m1', 'p2/m2'].map((use) => ({ use, price })) } },
    })
    expect(admitted(await burst(at, 'payer', 8))).toBe(8)
    process.kill(at.pid, 'SIGSTOP')
    const waited: Promise<Answer[]>[] = []
    for (let i = 0; i < 10; i += 1) {
      waited.push(burst(at, 'payer', 4))
      await sleep(250)
    }
    const statuses = (await Promise.all(waited)).flat().map(({ status }) => status)
    process.kill(at.pid, 'SIGCONT')
    expect(statuses).toContain(503)
    await eventually(async () => admitted(await burst(at, 'payer', 1)) === 1, 'money is counted again')
    const spentUsd = async (): Promise<unknown> =>
      (await statusOf(at, '?agent=payer')).agents[0].limits.budget.spentUsd
    await eventually(async () => {
      const calls = one.calls + two.calls - before
      return Math.abs(Number(await spentUsd()) - (calls * (10 * 10 + 5 * 50)) / 1e6) < 1e-9
    }, 'each call is paid for, and nothing else')
  })

  it('gives its slots back within seconds when they are kept in Redis', async () => {
    const redis = await startRedis()
    try {
      const at = await start({ redis: { url: redis.url } })
      const [victim = 0] = childrenOf(at.pid)
      const { held, ends, streams } = await openStreams(at, 'slotted', 12)
      expect((await as(at, 'slotted').chat()).error).toMatchObject({ code: 'concurrency_exceeded' })
      process.kill(victim, 'SIGKILL')
      await Promise.race(streams)
      await eventually(
        async () => (await as(at, 'slotted').chat()).status === 200,
        'a slot comes back',
        10_000,
      )
      held.open()
      expect((await ends).filter(({ done }) => done).length).toBeGreaterThan(0)
    } finally {
      await stage.stop()
      await redis.stop()
    }
  })

  it('gives its slots back at once, is replaced, and takes nothing from the other', async () => {
    const at = await start()
    const [victim = 0] = childrenOf(at.pid)
    const { held, ends, streams } = await openStreams(at, 'slotted', 12)
    expect((await as(at, 'slotted').chat()).error).toMatchObject({ code: 'concurrency_exceeded' })

    process.kill(victim, 'SIGKILL')
    const killedMs = performance.now()
    await Promise.race(streams)
    await eventually(async () => (await as(at, 'slotted').chat()).status === 200, 'a slot comes back', 2_000)
    expect(performance.now() - killedMs).toBeLessThan(2_000)
    await eventually(() => childrenOf(at.pid).length === 2, 'another is started')
    await at.waitForLog(({ msg }) => msg === 'a new worker serves')
    expect(await statusOf(at)).toMatchObject({ phase: 'ready', workers: { live: 2, of: 2 } })

    held.open()
    const ended = await ends
    const lost = ended.filter((one) => one.lost || !one.done)
    expect(lost.length).toBeGreaterThan(0)
    expect(lost.length).toBeLessThan(12)
    for (const kept of ended.filter((one) => !lost.includes(one)))
      expect(kept).toEqual({ status: 200, done: true, code: undefined, lost: false })
    await eventually(
      async () => admitted(await burst(at, 'slotted', 12)) === 12,
      'all slots are there in the end',
    )
  })

  it('is replaced on the last good configuration, whatever is on the disk', async () => {
    const at = await start()
    at.writeConfig('this: [is not, yaml')
    const [victim = 0] = childrenOf(at.pid)
    process.kill(victim, 'SIGKILL')
    await at.waitForLog(({ msg }) => msg === 'a new worker serves')
    expect(admitted(await burst(at, 'free', 20))).toBe(20)
    expect((await at.reload()).status).toBe(422)
    expect(admitted(await burst(at, 'free', 20))).toBe(20)
  })

  it('does not refill what it has used', async () => {
    const at = await start()
    expect(admitted(await burst(at, 'counted', 12))).toBe(12)
    for (const pid of childrenOf(at.pid)) process.kill(pid, 'SIGKILL')
    await eventually(
      () => at.logLines().filter(({ msg }) => msg === 'a new worker serves').length === 2,
      'both are replaced',
    )
    await sleep(1_100) // what they had on lease is charged
    expect(admitted(await burst(at, 'counted', 20))).toBeLessThanOrEqual(8)
    expect(one.calls).toBeLessThanOrEqual(20)
  })

  it('is replaced on the port that all had, found or reloaded meanwhile, when every worker is gone', async () => {
    const at = await start({ listen: { workers: 2, port: 0 } })
    const port = at.logLines().find(({ msg }) => msg === 'listening')?.port
    expect(port).toBeGreaterThan(1023)
    const answers = async () =>
      (await fetch(`http://127.0.0.1:${port}/health`).catch(() => undefined))?.status
    expect(await answers()).toBe(200)
    const replaced = () => at.logLines().filter(({ msg }) => msg === 'a new worker serves').length
    for (const pid of childrenOf(at.pid)) process.kill(pid, 'SIGKILL')
    await eventually(() => replaced() === 2, 'both are replaced')
    expect(await answers()).toBe(200)

    at.writeConfig(configuration({ listen: { workers: 2, port: await freePort() } }))
    await at.reload()
    const [victim = 0] = childrenOf(at.pid)
    process.kill(victim, 'SIGKILL')
    await eventually(() => replaced() === 3, 'one is replaced again')
    for (let i = 0; i < 10; i += 1) expect(await answers()).toBe(200)
    for (const pid of childrenOf(at.pid)) process.kill(pid, 'SIGKILL')
    await eventually(() => replaced() === 5, 'both are replaced again')
    expect(await answers()).toBe(200)
  })

  it('ends with its primary', async () => {
    const at = await start()
    const workers = childrenOf(at.pid)
    expect(workers).toHaveLength(2)
    await at.kill9()
    await eventually(() => !workers.some(isAlive), 'no worker is left')
  })
})

describe('a reload', () => {
  it.each([
    ['POST /reload', async (at: TestGateway) => expect((await at.reload()).status).toBe(200)],
    ['SIGHUP', (at: TestGateway) => at.signal('SIGHUP')],
    ['a file that changes', (at: TestGateway) => at.writePolicy('free', { ...policies.free, role: 'new' })],
  ])('by %s under load resets no bucket and drops no request', async (_, reload) => {
    const at = await start()
    const wrong: unknown[] = []
    let running = true
    const load = Array.from({ length: 4 }, async (_, i) => {
      while (running) {
        const { status, error, stream } = await as(at, 'free').chat({ body: { stream: i % 2 === 0 } })
        if (status !== 200 || error !== undefined || stream?.done === false) wrong.push({ status, error })
      }
    })
    expect(admitted(await burst(at, 'counted', 10))).toBe(10)
    await reload(at)
    await at.waitForLog(({ msg }) => msg === 'configuration reloaded')
    await sleep(100)
    expect(admitted(await burst(at, 'counted', 30))).toBe(10)
    running = false
    await Promise.all(load)
    expect(wrong).toEqual([])
    // Said once, not once for each process.
    expect(at.logLines().filter(({ msg }) => msg === 'configuration reloaded')).toHaveLength(1)
  })

  it('that was answered with 200 has reached every worker', async () => {
    const at = await start()
    for (const tier of ['t2', 't1', 't2']) {
      at.writeConfig(configuration({ routes: { m: [tier] } }))
      expect([(await at.reload()).status, tier]).toEqual([200, tier])
      const answers = await burst(at, 'free', 40)
      expect(new Set(answers.map((told) => told.header('x-sluice-deployment')))).toEqual(
        new Set([tier === 't1' ? 'p1/m1' : 'p2/m2']),
      )
    }
  })

  it('that takes a bearer away ends its streams in all workers within a second, and lets nobody in', async () => {
    const at = await start()
    const { ends } = await openStreams(at, 'free', 8)
    at.removePolicy('free')
    const removedMs = performance.now()
    const ended = await ends
    expect(performance.now() - removedMs).toBeLessThan(1_000)
    for (const end of ended) expect(end).toMatchObject({ done: false })
    const refused = await burst(at, 'free', 20)
    expect(new Set(refused.map(({ status }) => status))).toEqual(new Set([401]))
    expect(await metricOf(at, 'sluice_revocations_total')).toBe(1)
    const said = at.logLines().filter(({ msg }) => msg === 'bearer revoked')
    expect(said).toEqual([expect.objectContaining({ agent: 'free', source: 'file', ended: 0 })])
    const endedIn = at.logLines().filter(({ msg }) => msg === 'requests of a revoked bearer ended')
    expect(endedIn.reduce((sum, { ended: some }) => sum + Number(some), 0)).toBe(8)
    for (const line of endedIn) expect(line).toMatchObject({ agent: 'free', worker: expect.any(Number) })
  })
})

describe('a stop', () => {
  it('lets the open streams of all workers finish, ends with 0 and leaves no process', async () => {
    const at = await start()
    const family = [at.pid, ...childrenOf(at.pid)]
    expect(family).toHaveLength(3)
    const { held, ends } = await openStreams(at, 'free', 8)
    at.signal('SIGTERM')
    await at.waitForLog(({ msg }) => msg === 'draining')
    await eventually(
      () =>
        fetch(`${at.url}/health`, { signal: AbortSignal.timeout(1_000) }).then(
          () => false,
          () => true,
        ),
      'the port is closed',
    )
    held.open()
    for (const end of await ends)
      expect(end).toEqual({ status: 200, done: true, code: undefined, lost: false })
    expect(await at.ended()).toBe(0)
    expect(family.filter(isAlive)).toEqual([])
    expect(at.logLines().filter(({ msg }) => msg === 'stopped')).toHaveLength(1)
  })

  it('is the same when the whole group is signalled, as by Ctrl-C', async () => {
    const at = await start()
    const family = [at.pid, ...childrenOf(at.pid)]
    const { held, ends } = await openStreams(at, 'free', 4)
    for (const pid of family) process.kill(pid, 'SIGINT')
    await at.waitForLog(({ msg }) => msg === 'draining')
    held.open()
    for (const end of await ends) expect(end).toMatchObject({ status: 200, done: true })
    expect(await at.ended()).toBe(0)
    expect(family.filter(isAlive)).toEqual([])
  })

  it('is over at once on a second signal', async () => {
    const at = await start()
    const family = [at.pid, ...childrenOf(at.pid)]
    const { ends } = await openStreams(at, 'free', 2)
    at.signal('SIGTERM')
    await at.waitForLog(({ msg }) => msg === 'draining')
    await sleep(1_100)
    at.signal('SIGTERM')
    expect(await at.ended()).toBe(1)
    await eventually(() => !family.some(isAlive), 'no process is left')
    for (const end of await ends) expect(end.done).toBe(false)
  })

  it('cuts what is still open when its time is over, and never clean', async () => {
    const at = await start({ listen: { workers: 2, drain: '300ms' } })
    const { ends } = await openStreams(at, 'free', 4)
    at.signal('SIGTERM')
    for (const end of await ends) expect(end.done).toBe(false)
    expect(await at.ended()).toBe(0)
  })
})

describe('what operators see', () => {
  it('is the sum of what all workers did, and does not fall when one dies', async () => {
    const at = await start()
    await burst(at, 'free', 60)
    const answered = () => metricOf(at, 'sluice_requests_total', 'status="200"')
    await eventually(async () => (await answered()) === one.calls, 'every call is counted')
    expect(one.calls).toBe(60)
    expect(await metricOf(at, 'sluice_request_duration_seconds_count')).toBe(60)
    expect(await metricOf(at, 'sluice_request_duration_seconds_bucket', 'le="+Inf"')).toBe(60)
    expect(await metricOf(at, 'sluice_tokens_total', 'kind="output"')).toBeGreaterThanOrEqual(60)
    expect(await metricOf(at, 'sluice_secret_loads_total', 'PROVIDER_KEY')).toBe(1)
    expect(await metricOf(at, 'sluice_deployment_state', 'p1/m1')).toBe(1)

    const [victim = 0] = childrenOf(at.pid)
    process.kill(victim, 'SIGKILL')
    await at.waitForLog(({ msg }) => msg === 'a new worker serves')
    expect(await answered()).toBe(60)
    await burst(at, 'free', 20)
    await eventually(async () => (await answered()) === 80, 'it goes on from there')
  })

  it('shows what is under way in all workers', async () => {
    const at = await start()
    const { held, ends } = await openStreams(at, 'free', 6)
    expect(await metricOf(at, 'sluice_inflight')).toBe(6)
    expect(await statusOf(at)).toMatchObject({ inflight: 6, limits: 'here' })
    held.open()
    await ends
    await eventually(async () => (await metricOf(at, 'sluice_inflight')) === 0, 'nothing is under way')
  })

  it('shows a secret nowhere: not in the list of processes, not in what any worker writes', async () => {
    one.script(echoKey())
    const at = await start()
    await Promise.all(
      Array.from({ length: 30 }, () =>
        as(at, 'free').chat({ body: { model: KEY, user: KEY }, headers: { connection: 'close' } }),
      ),
    )
    await burst(at, 'free', 30)
    await eventually(() => workersIn(at).size === 2, 'both workers have written')
    const shown = [at.pid, ...childrenOf(at.pid)].map((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
    for (const text of [...shown, at.stdout(), at.stderr()])
      for (const secret of [KEY, at.adminToken, bearerOf('free')]) expect(text).not.toContain(secret)
  })

  it('writes whole lines, however many are written at once', async () => {
    const at = await start()
    await burst(at, 'free', 200)
    await eventually(
      () => at.logLines().filter(({ msg }) => msg === 'request').length === 200,
      'a line for each request',
    )
    expect(await at.stop()).toBe(0)
    for (const line of at.stdout().trimEnd().split('\n')) JSON.parse(line)
  })
})

describe('a start with workers', () => {
  it('has one for each core that it may use by itself, and is one process on one core', async () => {
    const auto = (at: TestGateway) => childrenOf(at.pid).length
    const cores = Math.min(availableParallelism(), 16)
    const many = await start({ listen: { workers: 'auto' } })
    expect(auto(many)).toBe(cores === 1 ? 0 : cores)
    // What this process may use its children may.
    const restrict = (cpus: string) =>
      spawnSync('taskset', ['-cp', cpus, String(process.pid)], { encoding: 'utf8' })
    const all = /current affinity list: (\S+)/.exec(restrict('0').stdout)?.[1] ?? ''
    try {
      const one = await start({ listen: { workers: 'auto' } })
      expect(auto(one)).toBe(0)
      expect((await as(one, 'free').chat()).status).toBe(200)
    } finally {
      restrict(all)
    }
  })

  it('shares listen.maxConnections among them', async () => {
    const at = await start({ listen: { workers: 2, maxConnections: 6 } })
    const open = Array.from({ length: 14 }, () => connect({ port: at.port, host: '127.0.0.1' }))
    let closed = 0
    for (const socket of open) socket.on('error', () => {}).on('close', () => (closed += 1))
    try {
      await eventually(() => closed >= 8, 'what is too many is closed')
    } finally {
      for (const socket of open) socket.destroy()
    }
    await eventually(
      () =>
        burst(at, 'free', 3).then(
          (answers) => admitted(answers) === 3,
          () => false,
        ),
      'there is room again',
    )
  })

  it('names the port that somebody else has, ends with 1 and leaves no process', async () => {
    const port = await freePort()
    const occupant = createServer().listen(port, '127.0.0.1')
    try {
      await expect(
        startGateway({ config: configuration({ listen: { workers: 2, port } }), env: { PROVIDER_KEY: KEY } }),
      ).rejects.toThrow(new RegExp(`the gateway ended[\\s\\S]*port ${port} .*in use`))
    } finally {
      occupant.close()
    }
  })
})
