// The ledgers in a real Redis, below the store that gateways use: one limit for all replicas, no trace of a refusal,
// keys that end by themselves, slots that outlive nobody, and no false alarm when our own event loop stood still.

import { randomBytes } from 'node:crypto'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { toAccount } from '../../src/quota/account.ts'
import { createLeaseStore, type LeaseStore } from '../../src/quota/leases.ts'
import { type Answer, NO_UNITS, type Visit } from '../../src/quota/ledger.ts'
import { createMemoryAuthority } from '../../src/quota/memory.ts'
import { createOutageAuthority, type OutageAuthority } from '../../src/quota/outage.ts'
import { createRedisLedgers, type RedisLedgers, StoreFailure } from '../../src/quota/redis.ts'
import { type Claim, type Grant, systemTimers, type Timers } from '../../src/quota/store.ts'
import type { Clock, Subject } from '../../src/types.ts'
import { serversAt, startRedis, type TestRedis } from '../support/redis.ts'
import { type Admission, excessUnits } from '../unit/quota/checker.ts'
import { agentSubject, claimOn, idleReport, perMinute, perSecond, sureGrant } from '../unit/quota/fixtures.ts'

const clock: Clock = { now: () => performance.now(), wall: () => Date.now() }

let server: TestRedis
const opened: { close(): Promise<void> }[] = []
const logged: string[] = []
const log = {
  info: (fields: unknown, message: string): void => void logged.push(JSON.stringify(fields) + message),
  warn: (fields: unknown, message: string): void => void logged.push(JSON.stringify(fields) + message),
}

/** A replica as a gateway has it, and what it asked Redis. */
interface Replica {
  readonly store: LeaseStore
  readonly redis: RedisLedgers
  readonly outage: OutageAuthority
  readonly name: string
  readonly counts: { visits: number; beats: number }
  /** As `kill -9`: nothing of it goes off or is sent any more. */
  die(): void
}

async function openStore({ url = server.url, leases = false } = {}): Promise<Replica> {
  const name = randomBytes(6).toString('hex')
  let dead = false
  const timers: Timers = {
    after: (delayMs, callback) => systemTimers.after(delayMs, () => dead || callback()),
    soon: (callback) => systemTimers.soon(() => dead || callback()),
  }
  const client = createRedisLedgers({
    servers: serversAt(url),
    replica: name,
    timers,
    log,
    random: Math.random,
  })
  const counts = { visits: 0, beats: 0 }
  const redis: RedisLedgers = {
    async visit(visits, fleet) {
      counts.visits += visits.length
      if (dead) throw new Error('dead')
      return client.visit(visits, fleet)
    },
    heartbeat() {
      counts.beats++
      return client.heartbeat()
    },
    connect: () => client.connect(),
    onConnection: (listener) => client.onConnection(listener),
    get trips() {
      return client.trips
    },
    close: () => client.close(),
  }
  const outage = createOutageAuthority({
    redis,
    shadow: createMemoryAuthority({ clock, epochUs: Math.floor((clock.wall() - clock.now()) * 1000) }),
    onOutage: 'local',
    replicas: 1,
    timers,
    log,
    random: Math.random,
  })
  const store = createLeaseStore({ authority: outage, clock, timers, leases })
  opened.push({ close: () => (dead ? Promise.resolve() : store.close()) })
  await outage.start()
  expect(outage.up).toBe(true)
  return {
    store,
    redis,
    outage,
    name,
    counts,
    die() {
      dead = true
      // The client goes as the process would, without a word to the ledgers.
      opened.push({ close: () => client.close() })
    },
  }
}

/** The client alone, for what nobody catches. */
function openLedgers(url = server.url): RedisLedgers {
  const ledgers = createRedisLedgers({
    servers: serversAt(url),
    replica: randomBytes(6).toString('hex'),
    timers: systemTimers,
    log,
    random: Math.random,
  })
  opened.push(ledgers)
  return ledgers
}

/** The answers to visits of which none fails. @throws StoreFailure */
async function answersTo(ledgers: RedisLedgers, visits: readonly Visit[]): Promise<Answer[]> {
  return (await ledgers.visit(visits, 1)).map((answer) => {
    if (answer instanceof StoreFailure) throw answer
    return answer
  })
}

let generation = 0

/** One request of a subject, and no slots held. */
function visitOf(subject: Subject, requests = 1): Visit {
  generation += 1
  const account = toAccount(subject)
  return {
    generation,
    reports: [idleReport(account)],
    claims: [[{ at: 0, requests, tokens: 0, micros: 0 }]],
  }
}

const end = (claim: Claim, usedTokens?: number) => [
  { claim, grant: sureGrant(claim), usedTokens, usedMicros: undefined },
]

/** All keys but the list of those who live. */
async function ledgerKeys(): Promise<unknown[]> {
  const keys = await server.command('KEYS', '*')
  return Array.isArray(keys) ? keys.filter((key) => key !== 'slc:1:fleet') : []
}

async function fieldsOf(key: string): Promise<Record<string, string>> {
  const flat = await server.command('HGETALL', key)
  if (!Array.isArray(flat)) throw new Error('no hash')
  return Object.fromEntries(
    Array.from({ length: flat.length / 2 }, (_, i) => [String(flat[2 * i]), String(flat[2 * i + 1])]),
  )
}

/** Slots that the ledger of agent `id` knows of, by replica. */
async function slotsOf(id: string): Promise<Record<string, number>> {
  const fields = await fieldsOf(`slc:1:{${id}}:b:agent:${id}`)
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([field]) => field.startsWith('l:'))
      .map(([field, value]) => [field.slice(2), Number(value.split(' ')[5])]),
  )
}

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
  await Promise.all(opened.splice(0).map((one) => one.close()))
})

afterAll(() => server.stop())

describe('the store over Redis', () => {
  it('admits exactly the capacity over two replicas at once', async () => {
    const [one, two] = [(await openStore()).store, (await openStore()).store]
    const agent = agentSubject('a', { requests: perMinute(1, 100), tokens: perMinute(1, 100_000) })
    const grants = await Promise.all(
      Array.from({ length: 300 }, (_, i) => (i % 2 === 0 ? one : two).take(claimOn([agent], 10))),
    )
    expect(grants.filter(({ ok }) => ok)).toHaveLength(100)
    for (const grant of grants) if (grant.ok) expect(grant.origin).toBe('store')
  })

  it('holds admitted ≤ B + r·T over every window and gives out nearly all of it', async () => {
    const replicas = [(await openStore()).store, (await openStore()).store]
    const agent = agentSubject('a', { requests: perSecond(300, 50) })
    const admitted: Admission[] = []
    const stopAt = performance.now() + 700
    await Promise.all(
      Array.from({ length: 16 }, async (_, i) => {
        while (performance.now() < stopAt) {
          const grant = await replicas[i % 2]?.take(claimOn([agent]))
          if (grant?.ok) {
            expect(grant.origin).toBe('store')
            admitted.push({ atUs: grant.nowUs, units: 1 })
          } else await nextTurn() // a refusal that is remembered takes no time
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
    const [one, two] = [(await openStore()).store, (await openStore()).store]
    const agent = agentSubject('a', { concurrency: 3 })
    const claims = Array.from({ length: 20 }, () => claimOn([agent]))
    const grants = await Promise.all(claims.map((claim, i) => (i % 2 === 0 ? one : two).take(claim)))
    const held = claims.map((claim, i) => ({ claim, by: i % 2 === 0 ? one : two, ok: grants[i]?.ok }))
    expect(held.filter(({ ok }) => ok)).toHaveLength(3)
    expect(Object.values(await slotsOf('a')).reduce((sum, slots) => sum + slots, 0)).toBe(3)
    for (const { claim, by, ok } of held) if (ok) by.settle(end(claim))
    // A ledger that has nothing to say is no key.
    await eventually(async () => (await ledgerKeys()).length === 0)
    expect((await one.take(claimOn([agent]))).ok).toBe(true)
  })

  it('writes nothing for a refusal', async () => {
    const { store, counts } = await openStore()
    const full = agentSubject('full', { concurrency: 0 })
    const other = agentSubject('other', {
      requests: perSecond(10),
      tokens: perSecond(1_000),
      concurrency: 5,
    })
    expect(await store.take(claimOn([other, full], 10))).toMatchObject({ ok: false, kind: 'concurrency' })
    // What was taken in another ledger goes back at the end of the turn.
    await eventually(async () => (await ledgerKeys()).length === 0)

    const narrow = agentSubject('narrow', { requests: perMinute(1) })
    await store.take(claimOn([narrow]))
    const before = await server.command('HGETALL', 'slc:1:{narrow}:b:agent:narrow')
    const dirty = async () =>
      /rdb_changes_since_last_save:(\d+)/.exec(String(await server.command('INFO', 'persistence')))?.[1]
    const same = { ...agentSubject('same', { requests: perSecond(10), concurrency: 5 }), tag: 'narrow' }
    for (let tries = 1; ; tries++) {
      const { beats, visits } = counts
      const changes = await dirty()
      expect(await store.take(claimOn([same, narrow], 10))).toMatchObject({ ok: false, kind: 'requests' })
      // The ledgers were asked, not the memory of this replica, unless this is not the first time.
      expect(counts.visits).toBe(tries === 1 ? visits + 1 : visits)
      const after = await dirty()
      expect(await server.command('HGETALL', 'slc:1:{narrow}:b:agent:narrow')).toEqual(before)
      expect(await ledgerKeys()).toEqual(['slc:1:{narrow}:b:agent:narrow'])
      // A heartbeat writes: then it must be looked at again.
      if (counts.beats !== beats && tries < 3) continue
      expect(after).toBe(changes)
      break
    }
  })

  it('asks Redis no second time about a refusal while it is remembered', async () => {
    const { store, counts } = await openStore()
    const agent = agentSubject('a', { requests: perMinute(1) })
    expect((await store.take(claimOn([agent]))).ok).toBe(true)
    expect(await store.take(claimOn([agent]))).toMatchObject({ ok: false, kind: 'requests' })
    expect(counts.visits).toBe(2)
    const grants: Grant[] = []
    for (let i = 0; i < 1_000; i++) grants.push(await store.take(claimOn([agent])))
    expect(grants.every((grant) => !grant.ok && grant.kind === 'requests' && grant.waitUs > 58e6)).toBe(true)
    expect(counts.visits).toBe(2)
    await sleep(1_000)
    await store.take(claimOn([agent]))
    expect(counts.visits).toBe(3)
  })

  it('lets a ledger end a second after its buckets are full, or with the last slot', async () => {
    const { store } = await openStore()
    const agent = agentSubject('a', {
      requests: perSecond(2, 10),
      tokens: perSecond(10, 100),
      concurrency: 5,
    })
    const key = 'slc:1:{a}:b:agent:a'
    const claims = [claimOn([agent], 80), claimOn([agent], 0)]
    for (const claim of claims) await store.take(claim)
    const bucket = Number(await server.command('PTTL', key))
    expect(bucket).toBeGreaterThan(8_900)
    expect(bucket).toBeLessThanOrEqual(9_000)
    // The slots outlive a bucket that is full sooner.
    store.settle(end(claims[0] as Claim, 0))
    await eventually(async () => Object.values(await slotsOf('a'))[0] === 1)
    const slots = Number(await server.command('PTTL', key))
    expect(slots).toBeGreaterThan(5_900)
    expect(slots).toBeLessThanOrEqual(6_000)
    // Two requests are full again in a second, and there is no slot.
    store.settle(end(claims[1] as Claim))
    await eventually(async () => Object.keys(await slotsOf('a')).length === 0)
    const rest = Number(await server.command('PTTL', key))
    expect(rest).toBeGreaterThan(1_500)
    expect(rest).toBeLessThanOrEqual(2_000)

    const brief = agentSubject('brief', { requests: perSecond(1_000) })
    await store.take(claimOn([brief]))
    expect(await server.command('EXISTS', 'slc:1:{brief}:b:agent:brief')).toBe(1)
    await eventually(async () => (await server.command('EXISTS', 'slc:1:{brief}:b:agent:brief')) === 0)
  })

  it('deletes a ledger at once when its last slot goes and its buckets are full', async () => {
    const { store } = await openStore()
    const agent = agentSubject('a', { tokens: perMinute(1, 1_000), concurrency: 2 })
    const claim = claimOn([agent], 700)
    expect((await store.take(claim)).ok).toBe(true)
    expect(await ledgerKeys()).toEqual(['slc:1:{a}:b:agent:a'])
    store.settle(end(claim, 0))
    await eventually(async () => (await ledgerKeys()).length === 0)
  })

  it('frees the slots of a replica that died after 6 s, and not before', async () => {
    const [one, two] = [await openStore(), await openStore()]
    const agent = agentSubject('a', { concurrency: 2 })
    expect((await one.store.take(claimOn([agent]))).ok).toBe(true)
    expect((await one.store.take(claimOn([agent]))).ok).toBe(true)
    const lastWordAt = performance.now()
    one.die()
    let refusals = 0
    for (;;) {
      const askedAt = performance.now()
      const grant = await two.store.take(claimOn([agent]))
      if (grant.ok) {
        expect(grant.origin).toBe('store')
        expect(performance.now() - lastWordAt).toBeGreaterThanOrEqual(5_990)
        break
      }
      expect(grant.kind).toBe('concurrency')
      refusals++
      // A refusal is remembered for 100 ms.
      expect(askedAt - lastWordAt).toBeLessThan(6_000 + 150)
      await sleep(10)
    }
    expect(refusals).toBeGreaterThan(100)
    // Both, and what the dead one had is gone from the ledger.
    expect((await two.store.take(claimOn([agent]))).ok).toBe(true)
    expect(await slotsOf('a')).toEqual({ [two.name]: 2 })
    expect(await two.redis.heartbeat()).toBe(1)
  })

  it('never frees a slot of a replica that lives, however long it is held', async () => {
    const [one, two] = [await openStore(), await openStore()]
    const agent = agentSubject('a', { requests: perMinute(1e6), concurrency: 2 })
    const held = [claimOn([agent]), claimOn([agent])]
    for (const claim of held) expect((await one.store.take(claim)).ok).toBe(true)
    for (const stopAt = performance.now() + 8_500; performance.now() < stopAt; await sleep(100)) {
      expect(await two.store.take(claimOn([agent]))).toMatchObject({ ok: false, kind: 'concurrency' })
      expect(await slotsOf('a')).toEqual({ [one.name]: 2 })
    }
    // It says so every two seconds, not more often.
    expect(one.counts.visits).toBeLessThanOrEqual(2 + 5)
    for (const claim of held) one.store.settle(end(claim))
    await eventually(async () => (await two.store.take(claimOn([agent]))).ok)
  })

  it('settles what was used, and makes no key for a refund into a full bucket', async () => {
    const { store, counts } = await openStore()
    const agent = agentSubject('a', { tokens: perMinute(1, 1_000) })
    const claim = claimOn([agent], 1_000)
    await store.take(claim)
    store.settle(end(claim, 400))
    // They leave at the end of the turn.
    await nextTurn()
    expect(counts.visits).toBe(2)
    expect((await store.take(claimOn([agent], 600))).ok).toBe(true)
    expect(await store.take(claimOn([agent], 1))).toMatchObject({ ok: false, kind: 'tokens' })

    const { visits } = counts
    store.settle(end(claimOn([agentSubject('gone', { tokens: perMinute(1, 1_000) })], 500), 100))
    await nextTurn()
    expect(counts.visits).toBe(visits + 1)
    await store.take(claimOn([agentSubject('other', { tokens: perMinute(1, 1_000) })], 1))
    expect(await server.command('EXISTS', 'slc:1:{gone}:b:agent:gone')).toBe(0)
  })

  it('takes along with a claim what is settled in the same turn', async () => {
    const { store, counts } = await openStore()
    const agent = agentSubject('a', { tokens: perMinute(1, 1_000), concurrency: 1 })
    const claim = claimOn([agent], 1_000)
    await store.take(claim)
    store.settle(end(claim, 400))
    expect(await store.take(claimOn([agent], 600))).toMatchObject({ ok: true, origin: 'store' })
    expect(counts.visits).toBe(2)
    await nextTurn()
    expect(counts.visits).toBe(2)
  })

  it('sends the settlements of one turn in one trip', async () => {
    const { store, redis, counts } = await openStore()
    const agent = agentSubject('a', { tokens: perSecond(1e6), concurrency: 500 })
    const claims = Array.from({ length: 200 }, () => claimOn([agent], 10))
    await Promise.all(claims.map((claim) => store.take(claim)))
    expect(Object.values(await slotsOf('a'))).toEqual([200])
    const { trips } = redis
    const { visits, beats } = counts
    for (const claim of claims) store.settle(end(claim, 5))
    await eventually(async () => Object.keys(await slotsOf('a')).length === 0)
    expect(counts.visits).toBe(visits + 1)
    expect(redis.trips - (counts.beats - beats)).toBe(trips + 1)
  })

  it('sends the settlements of one turn in one trip, also those of many agents', async () => {
    const { store, redis, counts } = await openStore()
    const agents = Array.from({ length: 40 }, (_, i) => agentSubject(`a${i}`, { concurrency: 5 }))
    const claims = agents.map((agent) => claimOn([agent]))
    await Promise.all(claims.map((claim) => store.take(claim)))
    expect(await ledgerKeys()).toHaveLength(40)
    const { trips } = redis
    const { beats } = counts
    for (const claim of claims) store.settle(end(claim))
    await eventually(async () => (await ledgerKeys()).length === 0)
    expect(redis.trips - (counts.beats - beats)).toBe(trips + 1)
  })

  it('decides the claims that come while one is under way in one trip', async () => {
    const { store, redis, counts } = await openStore()
    const agent = agentSubject('a', { requests: perMinute(1, 100) })
    const { trips } = redis
    const { beats } = counts
    const grants = await Promise.all(Array.from({ length: 200 }, () => store.take(claimOn([agent]))))
    expect(grants.filter(({ ok }) => ok)).toHaveLength(100)
    expect(redis.trips - (counts.beats - beats)).toBe(trips + 2)
  })

  it('goes on after SCRIPT FLUSH, with decisions and settlements', async () => {
    const { store, outage } = await openStore()
    const agent = agentSubject('a', { requests: perMinute(1, 50), concurrency: 50 })
    const claims = Array.from({ length: 20 }, () => claimOn([agent]))
    await server.command('SCRIPT', 'FLUSH')
    const grants = await Promise.all(claims.map((claim) => store.take(claim)))
    for (const grant of grants) expect(grant).toMatchObject({ ok: true, origin: 'store' })
    await server.command('SCRIPT', 'FLUSH')
    store.settle(claims.flatMap((claim) => end(claim)))
    await eventually(async () => Object.keys(await slotsOf('a')).length === 0)
    expect(store.view()[0]?.unsettled).toEqual(NO_UNITS)
    expect(await store.take(claimOn([agent]))).toMatchObject({ ok: true, origin: 'store' })
    expect(outage.up).toBe(true)
  })

  it('does not take a stall of its own event loop for an outage', async () => {
    const { store, outage } = await openStore()
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
      for (const grant of await Promise.all(grants))
        expect(grant).toMatchObject({ ok: true, origin: 'store' })
    }
    // And when the stall begins while the reply is on its way.
    const late = Array.from({ length: 50 }, () => store.take(claimOn([agent])))
    setImmediate(stall)
    for (const grant of await Promise.all(late)) expect(grant).toMatchObject({ ok: true, origin: 'store' })
    expect(outage.up).toBe(true)
  })

  it('keeps its connection over a stall that is longer than any of its timers', async () => {
    const { store, outage } = await openStore()
    const agent = agentSubject('a', { requests: perSecond(1e6) })
    const connections = async (): Promise<string | undefined> =>
      /total_connections_received:(\d+)/.exec(String(await server.command('INFO', 'stats')))?.[1]
    const before = await connections()
    const grants = Array.from({ length: 50 }, () => store.take(claimOn([agent])))
    for (const end = performance.now() + 2_500; performance.now() < end; );
    for (const grant of await Promise.all(grants)) expect(grant).toMatchObject({ ok: true, origin: 'store' })
    await sleep(100)
    expect(outage.up).toBe(true)
    expect(await connections()).toBe(before)
  })

  it('gives back all that it has when it closes', async () => {
    const [one, two] = [await openStore({ leases: true }), await openStore({ leases: true })]
    const agent = agentSubject('a', { requests: perMinute(1, 10_000), concurrency: 400 })
    const key = 'slc:1:{a}:b:agent:a'
    let admitted = 0
    // Busy enough for a lease and for slots kept ready.
    for (const stopAt = performance.now() + 1_500; performance.now() < stopAt; await sleep(2)) {
      const claim = claimOn([agent])
      if (!(await one.store.take(claim)).ok) continue
      admitted++
      one.store.settle(end(claim))
    }
    const [inHand] = one.store.view()
    expect(inHand?.lease.requests).toBeGreaterThan(0)
    expect(inHand?.slotsReady).toBeGreaterThan(0)
    await one.store.close()
    expect(await fieldsOf(key)).toEqual({ r: expect.any(String) })
    // To the unit: as many are left as were not admitted.
    const claims = Array.from({ length: 10_000 }, () =>
      claimOn([{ ...agent, limits: { ...agent.limits, concurrency: undefined } }]),
    )
    const grants = await Promise.all(claims.map((claim) => two.store.take(claim)))
    expect(grants.filter(({ ok }) => ok).length).toBe(10_000 - admitted)
    await eventually(async () => (await two.redis.heartbeat()) === 1)
  })

  it('sends what still waits when it closes, after what is under way', async () => {
    const { store } = await openStore()
    const other = await openStore()
    const agent = agentSubject('a', { tokens: perMinute(1, 1_000), concurrency: 5 })
    const claims = [claimOn([agent], 300), claimOn([agent], 300)]
    for (const claim of claims) expect((await store.take(claim)).ok).toBe(true)
    const pending = store.take(claimOn([agent], 100))
    store.settle(claims.flatMap((claim) => end(claim, 50)))
    const closed = store.close()
    expect((await pending).ok).toBe(true)
    await closed
    // 1000 − 50 − 50 − 100 are left.
    expect((await other.store.take(claimOn([agent], 800))).ok).toBe(true)
    expect(await other.store.take(claimOn([agent], 1))).toMatchObject({ ok: false, kind: 'tokens' })
  })
})

describe('the client of Redis', () => {
  it('gives up on a Redis that does not answer after its 50 ms, and does not charge twice', async () => {
    const ledgers = openLedgers()
    expect(await ledgers.connect()).toBe(true)
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    await answersTo(ledgers, [visitOf(agent)])
    server.pause()
    const startedAt = performance.now()
    await expect(answersTo(ledgers, [visitOf(agent)])).rejects.toMatchObject({
      name: 'StoreFailure',
      reason: 'timeout',
      unsure: true,
    })
    expect(performance.now() - startedAt).toBeLessThan(150)
    await expect(ledgers.heartbeat()).rejects.toMatchObject({ reason: 'timeout' })
    server.resume()
    await eventually(
      async () => (await answersTo(ledgers, [visitOf(agent, 0)]).catch(() => undefined)) !== undefined,
    )
    // The one given up on ran after all, and once: 10 − 1 − 1 are left.
    let admitted = 0
    while ((await answersTo(ledgers, [visitOf(agent)]))[0]?.refusals[0] === undefined) admitted++
    expect(admitted).toBe(8)
  })

  it('counts who lives, and who leaves no longer', async () => {
    const [one, two] = [openLedgers(), openLedgers()]
    expect(await Promise.all([one.connect(), two.connect()])).toEqual([true, true])
    expect(await one.heartbeat()).toBe(1)
    expect(await two.heartbeat()).toBe(2)
    expect(await one.heartbeat()).toBe(2)
    await two.close()
    expect(await one.heartbeat()).toBe(1)
    // The one that was silent for five seconds does not count either.
    const [seconds] = (await server.command('TIME')) as [string, string]
    await server.command('ZADD', 'slc:1:fleet', Number(seconds) * 1000 - 6_000, 'silent')
    await server.command('ZADD', 'slc:1:fleet', Number(seconds) * 1000 - 3_000, 'slow')
    expect(await one.heartbeat()).toBe(2)
    const ttl = Number(await server.command('PTTL', 'slc:1:fleet'))
    expect(ttl).toBeGreaterThan(9_000)
    expect(ttl).toBeLessThanOrEqual(10_000)
  })

  it('does nothing for a visit that comes after a later one', async () => {
    const ledgers = openLedgers()
    await ledgers.connect()
    const agent = agentSubject('a', { requests: perMinute(1, 10), concurrency: 5 })
    const [early, late] = [visitOf(agent), visitOf(agent)]
    expect((await answersTo(ledgers, [late]))[0]).toMatchObject({ stale: false, refusals: [undefined] })
    const before = await fieldsOf('slc:1:{a}:b:agent:a')
    expect((await answersTo(ledgers, [early]))[0]).toMatchObject({ stale: true, refusals: [], standings: [] })
    expect(await fieldsOf('slc:1:{a}:b:agent:a')).toEqual(before)
  })

  it('decides more visits than one call holds, each of them, in their order', async () => {
    const ledgers = openLedgers()
    await ledgers.connect()
    const visits = Array.from({ length: 200 }, (_, i) =>
      visitOf(agentSubject(`a${i}`, { requests: perMinute(1, 1 + (i % 3)) }), 1 + ((i + 1) % 2)),
    )
    const { trips } = ledgers
    const answers = await answersTo(ledgers, visits)
    expect(ledgers.trips).toBe(trips + 4)
    expect(answers.map(({ standings }) => standings[0]?.requests)).toEqual(
      visits.map(({ claims }) => (claims[0]?.[0]?.requests ?? 0) * 60e6),
    )
    expect(await ledgerKeys()).toHaveLength(200)
  })

  it('uses the database of its URL and its password, and logs neither', async () => {
    await server.command('ACL', 'SETUSER', 'sluice', 'on', '>sk-canary-1', '~slc:*', '+@all')
    const { store } = await openStore({ url: `redis://sluice:sk-canary-1@127.0.0.1:${server.port}/3` })
    expect(await store.take(claimOn([agentSubject('a', { requests: perMinute(1) })]))).toMatchObject({
      ok: true,
      origin: 'store',
    })
    expect(await server.command('DBSIZE')).toBe(0)
    // The ledger and the fleet.
    expect(await server.command('INFO', 'keyspace')).toContain('db3:keys=2')

    const wrong = openLedgers(`redis://sluice:sk-canary-2@127.0.0.1:${server.port}`)
    expect(await wrong.connect()).toBe(false)
    await expect(
      answersTo(wrong, [visitOf(agentSubject('a', { requests: perMinute(1) }))]),
    ).rejects.toMatchObject({ name: 'StoreFailure', reason: 'disconnected', unsure: false })
    await expect(wrong.heartbeat()).rejects.toMatchObject({ reason: 'disconnected', unsure: false })
    expect(logged.join()).toContain('redis connection failed')
    expect(logged.join()).not.toContain('canary')
  })
})
