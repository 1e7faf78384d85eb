// The store in a real Redis: one limit for all replicas, no trace of a refusal, keys that end by themselves, and no
// false alarm when our own event loop stood still.

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { toAccount } from '../../src/quota/account.ts'
import { createRedisStore, type RedisStore } from '../../src/quota/redis.ts'
import { type Claim, systemTimers } from '../../src/quota/store.ts'
import { serversAt, startRedis, type TestRedis } from '../support/redis.ts'
import { type Admission, excessUnits } from '../unit/quota/checker.ts'
import { agentSubject, claimOn, perMinute, perSecond } from '../unit/quota/fixtures.ts'

let server: TestRedis
const stores: RedisStore[] = []
const logged: string[] = []

async function openStore(url = server.url, timeoutMs?: number): Promise<RedisStore> {
  const keep = (fields: unknown, message: string): void => void logged.push(JSON.stringify(fields) + message)
  const store = createRedisStore({
    servers: serversAt(url),
    timers: systemTimers,
    log: { info: keep, warn: keep },
    random: Math.random,
    timeoutMs,
  })
  stores.push(store)
  expect(await store.connect()).toBe(true)
  return store
}

const end = (claim: Claim, usedTokens?: number) => [{ claim, origin: 'store' as const, usedTokens }]

/** Until `probe` holds; for what is done off the path. */
async function eventually(probe: () => Promise<boolean>): Promise<void> {
  for (const giveUpAt = performance.now() + 2_000; !(await probe()); await sleep(2))
    if (performance.now() > giveUpAt) throw new Error('did not come to pass within 2 s')
}

beforeAll(async () => {
  server = await startRedis()
})

beforeEach(async () => {
  await server.command('FLUSHALL')
})

afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()))
})

afterAll(() => server.stop())

describe('the store in Redis', () => {
  it('admits exactly the capacity over two replicas at once', async () => {
    const [one, two] = [await openStore(), await openStore()]
    const agent = agentSubject('a', { requests: perMinute(1, 100), tokens: perMinute(1, 100_000) })
    const grants = await Promise.all(
      Array.from({ length: 300 }, (_, i) => (i % 2 === 0 ? one : two).take(claimOn([agent], 10))),
    )
    expect(grants.filter(({ ok }) => ok)).toHaveLength(100)
  })

  it('holds admitted ≤ B + r·T over every window and gives out nearly all of it', async () => {
    const replicas = [await openStore(), await openStore()]
    const agent = agentSubject('a', { requests: perSecond(300, 50) })
    const admitted: Admission[] = []
    const stopAt = performance.now() + 700
    await Promise.all(
      Array.from({ length: 16 }, async (_, i) => {
        while (performance.now() < stopAt) {
          const grant = await replicas[i % 2]?.take(claimOn([agent]))
          if (grant?.ok) admitted.push({ atUs: grant.nowUs, units: 1 })
        }
      }),
    )
    admitted.sort((one, other) => one.atUs - other.atUs)
    const first = admitted[0]?.atUs ?? 0
    const history = admitted.map(({ atUs, units }) => ({ atUs: atUs - first, units }))
    const rate = toAccount(agent).requests
    expect(rate && excessUnits(history, rate)).toBeLessThanOrEqual(0)
    expect(admitted.length).toBeGreaterThan(0.95 * (50 + 0.7 * 300))
  })

  it('holds as many slots as the limit over two replicas, and gives them back', async () => {
    const [one, two] = [await openStore(), await openStore()]
    const agent = agentSubject('a', { concurrency: 3 })
    const claims = Array.from({ length: 20 }, () => claimOn([agent]))
    const grants = await Promise.all(claims.map((claim, i) => (i % 2 === 0 ? one : two).take(claim)))
    const held = claims.filter((_, i) => grants[i]?.ok)
    expect(held).toHaveLength(3)
    two.settle(held.flatMap((claim) => end(claim)))
    await eventually(async () => (await server.command('DBSIZE')) === 0)
    expect((await one.take(claimOn([agent]))).ok).toBe(true)
  })

  it('writes nothing for a refusal', async () => {
    const store = await openStore()
    const full = agentSubject('full', { concurrency: 0 })
    const other = agentSubject('other', {
      requests: perSecond(10),
      tokens: perSecond(1_000),
      concurrency: 5,
    })
    expect(await store.take(claimOn([other, full], 10))).toMatchObject({ ok: false, kind: 'concurrency' })
    expect(await server.command('DBSIZE')).toBe(0)

    const narrow = agentSubject('narrow', { requests: perMinute(1) })
    await store.take(claimOn([narrow]))
    const before = await server.command('HGETALL', 'slc:1:{narrow}:b:agent:narrow')
    const changes = await server.command('INFO', 'persistence')
    expect(await store.take(claimOn([other, narrow], 10))).toMatchObject({ ok: false, kind: 'requests' })
    expect(await server.command('HGETALL', 'slc:1:{narrow}:b:agent:narrow')).toEqual(before)
    expect(await server.command('DBSIZE')).toBe(1)
    const dirty = (info: unknown) => /rdb_changes_since_last_save:(\d+)/.exec(String(info))?.[1]
    expect(dirty(await server.command('INFO', 'persistence'))).toBe(dirty(changes))
  })

  it('lets a bucket end a second after it is full and slots with the last of them', async () => {
    const store = await openStore()
    const agent = agentSubject('a', {
      requests: perSecond(2, 10),
      tokens: perSecond(10, 100),
      concurrency: 5,
    })
    await store.take(claimOn([agent], 50, 20_000))
    await store.take(claimOn([agent], 0, 10_000))
    const bucket = Number(await server.command('PTTL', 'slc:1:{a}:b:agent:a'))
    expect(bucket).toBeGreaterThan(5_900)
    expect(bucket).toBeLessThanOrEqual(6_000)
    const slots = Number(await server.command('PTTL', 'slc:1:{a}:c:agent:a'))
    expect(slots).toBeGreaterThan(19_900)
    expect(slots).toBeLessThanOrEqual(20_000)

    const brief = agentSubject('brief', { requests: perSecond(1_000), concurrency: 1 })
    await store.take(claimOn([brief], 0, 50))
    await eventually(async () => (await server.command('EXISTS', 'slc:1:{brief}:c:agent:brief')) === 0)
    await eventually(async () => (await server.command('EXISTS', 'slc:1:{brief}:b:agent:brief')) === 0)
  })

  it('frees a slot that nobody gave back when it expires', async () => {
    const store = await openStore()
    const agent = agentSubject('a', { concurrency: 2 })
    await store.take(claimOn([agent], 0, 60))
    await store.take(claimOn([agent], 0, 60_000))
    expect((await store.take(claimOn([agent]))).ok).toBe(false)
    await sleep(70)
    expect((await store.take(claimOn([agent]))).ok).toBe(true)
    expect(await server.command('ZCARD', 'slc:1:{a}:c:agent:a')).toBe(2)
  })

  it('settles what was used, and makes no key for a refund into a full bucket', async () => {
    const store = await openStore()
    const agent = agentSubject('a', { tokens: perMinute(1, 1_000) })
    const claim = claimOn([agent], 1_000)
    await store.take(claim)
    store.settle(end(claim, 400))
    // They leave at the end of the turn.
    await nextTurn()
    expect((await store.take(claimOn([agent], 600))).ok).toBe(true)
    expect(await store.take(claimOn([agent], 1))).toMatchObject({ ok: false, kind: 'tokens' })

    store.settle(end(claimOn([agentSubject('gone', { tokens: perMinute(1, 1_000) })], 500), 100))
    await nextTurn()
    await store.take(claimOn([agent], 0))
    expect(await server.command('EXISTS', 'slc:1:{gone}:b:agent:gone')).toBe(0)
  })

  it('sends the settlements of one turn in one trip', async () => {
    const store = await openStore()
    const agent = agentSubject('a', { tokens: perSecond(1e6), concurrency: 500 })
    const claims = Array.from({ length: 200 }, () => claimOn([agent], 10))
    await Promise.all(claims.map((claim) => store.take(claim)))
    const { trips } = store.counts()
    for (const claim of claims) store.settle(end(claim, 5))
    await eventually(async () => (await server.command('EXISTS', 'slc:1:{a}:c:agent:a')) === 0)
    expect(store.counts()).toEqual({ trips: trips + 1, lostSettlements: 0 })
  })

  it('goes on after SCRIPT FLUSH, with decisions and settlements', async () => {
    const store = await openStore()
    const agent = agentSubject('a', { requests: perMinute(1, 50), concurrency: 50 })
    const claims = Array.from({ length: 20 }, () => claimOn([agent]))
    await server.command('SCRIPT', 'FLUSH')
    const grants = await Promise.all(claims.map((claim) => store.take(claim)))
    expect(grants.every(({ ok }) => ok)).toBe(true)
    await server.command('SCRIPT', 'FLUSH')
    store.settle(claims.flatMap((claim) => end(claim)))
    await eventually(async () => (await server.command('EXISTS', 'slc:1:{a}:c:agent:a')) === 0)
    expect(store.counts().lostSettlements).toBe(0)
    expect(await store.take(claimOn([agent]))).toMatchObject({ ok: true })
  })

  it('does not take a stall of its own event loop for an outage', async () => {
    const store = await openStore()
    const agent = agentSubject('a', { requests: perSecond(1e6) })
    const stall = (): void => {
      for (const end = performance.now() + 200; performance.now() < end; );
    }
    for (const phase of [
      () => Promise.resolve(),
      () => sleep(1),
      () => nextTurn(),
      () => server.command('PING'),
    ]) {
      await phase()
      const grants = Array.from({ length: 50 }, () => store.take(claimOn([agent])))
      stall()
      for (const grant of await Promise.all(grants)) expect(grant.ok).toBe(true)
    }
    // And when the stall begins while the reply is on its way.
    const late = Array.from({ length: 50 }, () => store.take(claimOn([agent])))
    setImmediate(stall)
    for (const grant of await Promise.all(late)) expect(grant.ok).toBe(true)
  })

  it('gives up on a Redis that does not answer after its 50 ms, and does not charge twice', async () => {
    const store = await openStore()
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    server.pause()
    const startedAt = performance.now()
    await expect(store.take(claimOn([agent]))).rejects.toMatchObject({ reason: 'timeout', unsure: true })
    expect(performance.now() - startedAt).toBeLessThan(150)
    server.resume()
    await eventually(async () => (await store.take(claimOn([agent], 0)).catch(() => undefined)) !== undefined)
    // The one given up on ran after all, and once: 10 − 1 − 1 are left.
    let admitted = 0
    while ((await store.take(claimOn([agent]))).ok) admitted++
    expect(admitted).toBe(8)
  })

  it('uses the database of its URL and its password, and logs neither', async () => {
    await server.command('ACL', 'SETUSER', 'sluice', 'on', '>sk-canary-1', '~slc:*', '+@all')
    const store = await openStore(`redis://sluice:sk-canary-1@127.0.0.1:${server.port}/3`)
    await store.take(claimOn([agentSubject('a', { requests: perMinute(1) })]))
    expect(await server.command('DBSIZE')).toBe(0)
    expect(await server.command('INFO', 'keyspace')).toContain('db3:keys=1')

    const wrong = createRedisStore({
      servers: serversAt(`redis://sluice:sk-canary-2@127.0.0.1:${server.port}`),
      timers: systemTimers,
      log: { info: () => {}, warn: (fields, message) => void logged.push(JSON.stringify(fields) + message) },
      random: Math.random,
    })
    stores.push(wrong)
    expect(await wrong.connect()).toBe(false)
    await expect(wrong.take(claimOn([]))).rejects.toMatchObject({ reason: 'disconnected', unsure: false })
    expect(logged.join()).toContain('redis connection failed')
    expect(logged.join()).not.toContain('canary')
  })
})
