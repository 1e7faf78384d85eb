// Revocations through a real Redis, replica by replica in this process: what is written there, what is read again and
// when, and what a Redis that forgets, lags or goes away does to it.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createRevocations, type Revocations } from '../../src/identity/revocations.ts'
import { createSharedRevocations, REVOKED_KEY } from '../../src/identity/shared-revocations.ts'
import { createRedisClient } from '../../src/quota/client.ts'
import { systemTimers } from '../../src/quota/store.ts'
import { eventually } from '../support/caller.ts'
import { serversAt, startRedis, type TestRedis } from '../support/redis.ts'
import { createTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { GOOD, good } from '../unit/config/configurations.ts'

let redis: TestRedis
let proxy: TcpProxy
const replicas: { close(): Promise<void> }[] = []

beforeAll(async () => {
  redis = await startRedis()
  proxy = await createTcpProxy({ target: { port: redis.port } })
})
beforeEach(async () => {
  await redis.command('FLUSHALL')
  await redis.command('CONFIG', 'RESETSTAT')
})
afterEach(async () => {
  await proxy.forward()
  await Promise.all(replicas.splice(0).map((one) => one.close()))
})
afterAll(async () => {
  await proxy.close()
  await redis.stop()
})

const digest = (name: string | number): string => Buffer.from(String(name)).toString('hex').padStart(64, '0')
const holding = (...names: string[]) =>
  good(
    GOOD,
    names.map((name) => ({ agent: name, scopes: ['chat:*'], bearers: [{ id: 'b', sha256: digest(name) }] })),
  )

interface Replica {
  readonly revocations: Revocations
  readonly lines: string[]
  use(...names: string[]): void
  refuses(name: string | number): boolean
}

async function replica(options: { port?: number; names?: string[] } = {}): Promise<Replica> {
  const { port = redis.port, names = ['ann', 'bob'] } = options
  const lines: string[] = []
  const say = (_: unknown, message: string) => void lines.push(message)
  const clock = { now: () => performance.now(), wall: () => Date.now() }
  const revocations = createRevocations({ clock, log: { info: say }, count: () => {} })
  revocations.use(holding(...names))
  const shared = createSharedRevocations({
    redis: createRedisClient(serversAt(`redis://127.0.0.1:${port}`), {
      timers: systemTimers,
      log: { info: () => {}, warn: () => {} },
      random: () => 0.5,
      scripts: [],
    }),
    revocations,
    clock,
    timers: {
      set: (ms, run) => setTimeout(run, ms),
      clear: (handle) => clearTimeout(handle as NodeJS.Timeout),
    },
    random: () => 0.5,
    log: { info: say, warn: say },
  })
  replicas.push(shared)
  await shared.start()
  return {
    revocations,
    lines,
    use: (...next) => revocations.use(holding(...next)),
    refuses: (name) => revocations.known.has(digest(name)),
  }
}

/** How often Redis was asked what, since the start of the test; not counted is what this file asks. */
async function asked(): Promise<Record<string, number>> {
  const stats = String(await redis.command('INFO', 'commandstats'))
  const counts = [...stats.matchAll(/cmdstat_([\w|]+):calls=(\d+)/g)].map(
    ([, name = '', calls]) => [name, Number(calls)] as const,
  )
  return Object.fromEntries(counts.filter(([name]) => !/^(config|info|flushall|zcard|zrange)\b/.test(name)))
}
const members = async (): Promise<unknown> => redis.command('ZRANGE', REVOKED_KEY, 0, -1)
const told = (at: Replica, name: string | number, revoked = true) =>
  eventually(() => at.refuses(name) === revoked, `${name} is ${revoked ? 'revoked' : 'given back'}`, 2_000)

describe('a revocation', () => {
  it('is one member of a bounded set that ends by itself: a digest, and the time of Redis', async () => {
    const [one, two] = [await replica(), await replica()]
    const beforeMs = Date.now()
    one.use('bob')
    await told(two, 'ann')
    expect(await members()).toEqual([digest('ann')])
    const score = Number(await redis.command('ZSCORE', REVOKED_KEY, digest('ann')))
    expect(score).toBeGreaterThanOrEqual(beforeMs - 1)
    expect(score).toBeLessThanOrEqual(Date.now())
    const ttl = Number(await redis.command('PTTL', REVOKED_KEY))
    expect(ttl).toBeGreaterThan(29 * 86_400_000)
    expect(ttl).toBeLessThanOrEqual(30 * 86_400_000)
    expect(await redis.command('KEYS', '*')).toEqual([REVOKED_KEY])
  })

  it('that a second replica sees in its own file is not written again', async () => {
    const [one, two] = [await replica(), await replica()]
    one.use('bob')
    await told(two, 'ann')
    two.use('bob')
    const late = await replica({ names: ['ann'] })
    expect(late.refuses('ann')).toBe(true)
    expect((await asked()).eval).toBe(1)
  })

  it('given back anywhere by a file that newly lists it is given back everywhere', async () => {
    const [one, two] = [await replica(), await replica()]
    one.use('bob')
    await told(two, 'ann')
    two.use('bob')
    two.use('ann', 'bob')
    await told(one, 'ann', false)
    expect(await members()).toEqual([`-${digest('ann')}`])
    one.use('ann', 'bob')
    one.use('bob')
    await told(two, 'ann')
    expect(await members()).toEqual([digest('ann')])
  })

  it('is not given back by a replica that starts with an old file, or reloads it', async () => {
    const one = await replica()
    one.use('bob')
    await eventually(async () => String(await members()) === digest('ann'), 'it is written')
    const late = await replica()
    expect(late.refuses('ann')).toBe(true)
    late.use('ann', 'bob', 'cyd')
    late.use('ann')
    expect(late.refuses('ann')).toBe(true)
    expect(await members()).toContain(digest('ann'))
  })
})

describe('the reading', () => {
  it('costs one short command a poll, and reads only what is new', async () => {
    const one = await replica()
    one.use()
    await eventually(async () => (await redis.command('ZCARD', REVOKED_KEY)) === 2, 'written')
    await eventually(async () => ((await asked()).zrangebyscore ?? 0) >= 2, 'it is read')
    await redis.command('CONFIG', 'RESETSTAT')
    await eventually(async () => ((await asked()).zrangebyscore ?? 0) >= 2, 'two polls')
    expect(Object.keys(await asked())).toEqual(['zrangebyscore'])
  })

  it('goes on in pages when many were revoked at once', async () => {
    const names = Array.from({ length: 2_500 }, (_, i) => `b${i}`)
    const [one, two] = [await replica({ names }), await replica({ names })]
    one.use()
    await eventually(() => two.revocations.known.size === 2_500, 'all of them are known')
    expect(await redis.command('ZCARD', REVOKED_KEY)).toBe(2_500)
    expect((await replica({ names: [] })).revocations.known.size).toBe(2_500)
    expect((await asked()).eval).toBe(3)
  })

  it('keeps the newest where there are too many, and forgets what is a month old', async () => {
    const one = await replica()
    await redis.command('ZADD', REVOKED_KEY, Date.now() - 31 * 86_400_000, digest('old'))
    await redis.command('ZADD', REVOKED_KEY, Date.now() - 29 * 86_400_000, digest('young'))
    one.use('bob')
    await eventually(async () => String(await members()).includes(digest('ann')), 'it is written')
    expect(await members()).toEqual([digest('young'), digest('ann')])
  })

  it('misses nothing when the clock of Redis goes back', async () => {
    const [one, two] = [await replica(), await replica()]
    // As if the last one had been written an hour ahead of now.
    await redis.command('ZADD', REVOKED_KEY, Date.now() + 3_600_000, digest('ahead'))
    await told(two, 'ahead')
    one.use('bob')
    await told(two, 'ann')
    const scores = await redis.command('ZRANGE', REVOKED_KEY, 0, -1, 'WITHSCORES')
    expect(scores).toMatchObject([digest('ahead'), expect.anything(), digest('ann'), expect.anything()])
  })
})

describe('a Redis', () => {
  it('whose pushes are lost, again and again, is read within a second all the same', async () => {
    const [one, two] = [await replica(), await replica()]
    const cut = setInterval(() => void redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub').catch(() => {}), 5)
    try {
      for (const [names, revoked] of [
        [['bob'], true],
        [['ann', 'bob'], false],
      ] as const) {
        const atMs = performance.now()
        one.use(...names)
        await told(two, 'ann', revoked)
        expect(performance.now() - atMs).toBeLessThan(1_000)
      }
    } finally {
      clearInterval(cut)
    }
  })

  it('that takes subscriptions and pushes nothing is subscribed to anew once that shows', async () => {
    const one = await replica()
    const two = await replica()
    // What one writes behind the back of everybody is found by the poll; the subscription must be the fault.
    const ids = async () => String(await redis.command('CLIENT', 'LIST', 'TYPE', 'pubsub')).match(/\bid=\d+/g)
    await eventually(async () => (await ids())?.length === 2, 'both subscribe')
    const before = await ids()
    const atMs = performance.now()
    await redis.command('ZADD', REVOKED_KEY, Date.now(), digest('silent'))
    await told(two, 'silent')
    await told(one, 'silent')
    expect(performance.now() - atMs).toBeLessThan(1_000)
    await eventually(async () => {
      const now = await ids()
      return now?.length === 2 && now.every((id) => before?.includes(id) === false)
    }, 'both have subscribed anew')
  })

  it('that lost everything is told again by those who know', async () => {
    const [one, two] = [await replica(), await replica()]
    one.use('bob')
    await told(two, 'ann')
    await redis.command('FLUSHALL')
    await eventually(async () => String(await members()) === digest('ann'), 'written again', 2_000)
    expect((await replica()).refuses('ann')).toBe(true)
    expect([one, two].every((at) => at.refuses('ann'))).toBe(true)
  })

  it('that lost everything does not get back what was given back', async () => {
    const [one, two] = [await replica(), await replica()]
    one.use('bob')
    await told(two, 'ann')
    one.use('ann', 'bob')
    await told(two, 'ann', false)
    one.use('ann')
    await told(two, 'bob')
    await redis.command('FLUSHALL')
    await eventually(async () => String(await members()) === digest('bob'), 'written again', 2_000)
  })

  it.each(['blackHole', 'refuse'] as const)('that is away (%s) is told when it is back', async (how) => {
    const far = await replica({ port: proxy.port })
    const near = await replica()
    await proxy[how]()
    if (how === 'refuse') await eventually(() => proxy.connections === 0, 'nobody is connected')
    far.use('bob')
    near.use('ann')
    await eventually(() => far.lines.some((line) => line.startsWith('revocations are not shared')), 'a word')
    expect(far.refuses('bob')).toBe(false)
    expect(near.refuses('ann')).toBe(false)
    await proxy.forward()
    if (how === 'blackHole') proxy.killConnections()
    await told(near, 'ann')
    await told(far, 'bob')
    expect(far.lines.filter((line) => line.startsWith('revocations'))).toEqual([
      'revocations are not shared',
      'revocations are shared again',
    ])
  })

  it('that lets a replica read and not write is read all the same, and told when it may', async () => {
    const [one, two] = [await replica(), await replica()]
    await redis.command('ACL', 'SETUSER', 'default', '-zadd')
    try {
      one.use('bob')
      await eventually(() => one.lines.includes('revocations are not shared'), 'a word')
    } finally {
      await redis.command('ACL', 'SETUSER', 'default', '+zadd')
    }
    await redis.command('ACL', 'SETUSER', 'default', '-eval')
    try {
      await redis.command('ZADD', REVOKED_KEY, Date.now(), digest('cyd'))
      await told(one, 'cyd')
      expect(two.refuses('ann')).toBe(false)
    } finally {
      await redis.command('ACL', 'SETUSER', 'default', '+eval')
    }
    await told(two, 'ann')
  })

  it('that is not there keeps nobody from starting, and is heard when it comes', async () => {
    const one = await replica()
    one.use('bob')
    await proxy.refuse()
    const startedMs = performance.now()
    const late = await replica({ port: proxy.port })
    expect(performance.now() - startedMs).toBeLessThan(1_500)
    expect(late.refuses('ann')).toBe(false)
    await proxy.forward()
    await told(late, 'ann')
  })
})

it('the last word on a digest stands, whatever was said before', async () => {
  const one = await replica({ names: ['ann', 'bob', 'cyd', 'dan'] })
  one.use('ann')
  one.use('ann', 'cyd')
  await eventually(async () => (await redis.command('ZCARD', REVOKED_KEY)) === 3, 'written')
  const written = await members()
  expect(written).toEqual(expect.arrayContaining([digest('bob'), `-${digest('cyd')}`, digest('dan')]))
})
