// What a Redis that dies, hangs or comes back does to callers: no error, no wait, no fresh burst, and back by itself.

import { randomBytes } from 'node:crypto'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { toAccount } from '../../src/quota/account.ts'
import { createLeaseStore, type LeaseStore } from '../../src/quota/leases.ts'
import { createMemoryAuthority } from '../../src/quota/memory.ts'
import { createOutageAuthority } from '../../src/quota/outage.ts'
import { createRedisLedgers } from '../../src/quota/redis.ts'
import { type Account, type Claim, type Grant, systemTimers } from '../../src/quota/store.ts'
import type { Clock, Subject } from '../../src/types.ts'
import { freePort } from '../support/ports.ts'
import { serversAt, startRedis, type TestRedis } from '../support/redis.ts'
import { agentSubject, claimOn, perMinute, perSecond, sureGrant } from '../unit/quota/fixtures.ts'

const clock: Clock = { now: () => performance.now(), wall: () => Date.now() }
const opened: { stop(): Promise<unknown> }[] = []

async function openStore(
  url: string,
  some: { onOutage?: 'local' | 'deny'; replicas?: number; leases?: boolean } = {},
) {
  const log = { info: () => {}, warn: () => {} }
  const replica = randomBytes(6).toString('hex')
  const redis = createRedisLedgers({
    servers: serversAt(url),
    replica,
    timers: systemTimers,
    log,
    random: Math.random,
  })
  const changes: boolean[] = []
  const outage = createOutageAuthority({
    redis,
    shadow: createMemoryAuthority({ clock, epochUs: Math.floor((clock.wall() - clock.now()) * 1000) }),
    onOutage: some.onOutage ?? 'local',
    replicas: some.replicas ?? 1,
    timers: systemTimers,
    log,
    random: Math.random,
    onChange: (up) => changes.push(up),
  })
  const store = createLeaseStore({
    authority: outage,
    clock,
    timers: systemTimers,
    leases: some.leases ?? false,
  })
  opened.push({ stop: () => store.close() })
  await outage.start()
  return { store, outage, redis, changes, replica }
}

async function openRedis(port?: number): Promise<TestRedis> {
  const server = await startRedis(port === undefined ? {} : { port })
  opened.push(server)
  return server
}

/**
 * In front of Redis: passes, loses the reply and the connection with it, lets a connection go dead for good, or
 * lets nobody in.
 */
async function openProxy(port: number) {
  const control: { mode: 'pass' | 'lose' | 'swallow' | 'away'; url: string; cut(): void } = {
    mode: 'pass',
    url: '',
    /** Ends all connections, and takes none: Redis itself goes on, and forgets nothing. */
    cut() {
      control.mode = 'away'
      for (const socket of sockets) socket.destroy()
    },
  }
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    if (control.mode === 'away') {
      client.on('error', () => {})
      client.destroy()
      return
    }
    const upstream = connect(port, '127.0.0.1')
    let dead = false
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        client.destroy()
        upstream.destroy()
      })
    }
    client.on('data', (bytes) => {
      dead ||= control.mode === 'swallow'
      if (!dead) upstream.write(bytes)
    })
    upstream.on('data', (bytes) => {
      if (control.mode === 'lose') client.destroy()
      else if (!dead) client.write(bytes)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  control.url = `redis://127.0.0.1:${address.port}`
  opened.push({
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  })
  return control
}

async function until(probe: () => boolean, withinMs: number): Promise<void> {
  for (const giveUpAt = performance.now() + withinMs; !probe(); await sleep(1))
    if (performance.now() > giveUpAt) throw new Error(`did not come to pass within ${withinMs} ms`)
}

/** The slots of agent a in Redis, by replica; they are given back off the path. */
async function untilSlots(
  server: TestRedis,
  slots: Readonly<Record<string, number>>,
  withinMs = 1_000,
): Promise<void> {
  let seen: unknown
  for (const giveUpAt = performance.now() + withinMs; performance.now() < giveUpAt; await sleep(2)) {
    seen = await slotsOfA(server)
    if (JSON.stringify(seen) === JSON.stringify(slots)) return
  }
  expect(seen).toEqual(slots)
}

async function slotsOfA(server: TestRedis): Promise<Record<string, number>> {
  const flat = await server.command('HGETALL', 'slc:1:{a}:b:agent:a')
  if (!Array.isArray(flat)) throw new Error('no hash')
  const slots: Record<string, number> = {}
  for (let i = 0; i < flat.length; i += 2) {
    const [field, value] = [String(flat[i]), String(flat[i + 1])]
    if (field.startsWith('l:')) slots[field.slice(2)] = Number(value.split(' ')[5])
  }
  return slots
}

async function admitted(store: LeaseStore, subject: Subject, times: number): Promise<number> {
  let count = 0
  for (let i = 0; i < times; i++) if ((await store.take(claimOn([subject]))).ok) count++
  return count
}

const end = (claim: Claim, usedTokens?: number) => [
  { claim, grant: sureGrant(claim), usedTokens, usedMicros: undefined },
]

/** The same names with nothing remembered of them: the next claim goes to the ledgers. */
const anew = (subject: Subject): Subject => ({ ...subject })

function claimOnAccount(account: Account, micros = 1): Claim {
  return { id: randomBytes(4).toString('hex'), asks: [{ account, requests: 1, tokens: 0, micros }] }
}

afterEach(async () => {
  for (const { stop } of opened.splice(0).reverse()) await stop()
})

describe('with onOutage: local', () => {
  it('answers within 250 ms of a kill, on its share, and returns to Redis by itself', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const { store, outage, changes } = await openStore(server.url, { replicas: 2 })
    expect(outage.up).toBe(true)
    const seen = agentSubject('seen', { requests: perMinute(1, 100) })
    const unseen = agentSubject('unseen', { requests: perMinute(1, 100) })
    expect(await admitted(store, seen, 60)).toBe(60)

    await server.kill9()
    const killedAt = performance.now()
    // 40 were left for all; half of that is this replica's.
    expect(await admitted(store, seen, 100)).toBe(20)
    expect(await admitted(store, unseen, 100)).toBe(50)
    expect(performance.now() - killedAt).toBeLessThan(250)
    expect(outage.up).toBe(false)

    await openRedis(port)
    await until(() => outage.up, 1_500)
    expect(changes).toEqual([true, false, true])
    expect(await admitted(store, agentSubject('new', { requests: perMinute(1, 100) }), 120)).toBe(100)
  })

  it('never makes anybody wait longer than one timeout for a Redis that hangs', async () => {
    const server = await openRedis()
    const { store, outage } = await openStore(server.url)
    const agent = agentSubject('a', { requests: perSecond(1e6), concurrency: 1_000 })
    await store.take(claimOn([agent]))
    server.pause()
    const waits: number[] = []
    const stopAt = performance.now() + 700
    while (performance.now() < stopAt) {
      await Promise.all(
        Array.from({ length: 5 }, async () => {
          const askedAt = performance.now()
          expect((await store.take(claimOn([agent]))).ok).toBe(true)
          waits.push(performance.now() - askedAt)
        }),
      )
      await sleep(5)
    }
    expect(outage.up).toBe(false)
    expect(Math.max(...waits)).toBeLessThan(150)
    // Once it is known, nobody waits at all.
    expect(waits.filter((ms) => ms > 30).length).toBeLessThan(waits.length / 5)
    server.resume()
    await until(() => outage.up, 3_000)
  })

  it('lets a request with many limits wait for one of them, and none of the next', async () => {
    const server = await openRedis()
    const { store, outage } = await openStore(server.url)
    const subjects = ['a', 'b', 'c', 'd', 'e'].map((id) => agentSubject(id, { requests: perMinute(1, 10) }))
    for (const subject of subjects) expect(await admitted(store, subject, 1)).toBe(1)
    server.pause()
    const waits: number[] = []
    for (const subject of subjects) {
      const askedAt = performance.now()
      expect(await admitted(store, anew(subject), 1)).toBe(1)
      waits.push(performance.now() - askedAt)
    }
    expect(waits[0]).toBeGreaterThan(45)
    for (const wait of waits.slice(1)) expect(wait).toBeLessThan(45)
    // One wait in vain is no outage yet; Redis is asked again at once, and is given up when it stays silent.
    expect(outage.up).toBe(true)
    await until(() => !outage.up, 200)
    server.resume()
    await until(() => outage.up, 1_500)
    for (const subject of subjects) expect(await admitted(store, anew(subject), 20)).toBe(8)
  })

  it('goes back at once after a single reply that was late, and is told what was let through meanwhile', async () => {
    const server = await openRedis()
    const { store, outage, changes } = await openStore(server.url)
    const [one, two] = ['a', 'b'].map((id) => agentSubject(id, { requests: perMinute(1, 10) })) as [
      Subject,
      Subject,
    ]
    for (const subject of [one, two]) expect(await admitted(store, subject, 1)).toBe(1)
    server.pause()
    expect(await store.take(claimOn([anew(one)]))).toMatchObject({ ok: true, origin: 'unsure' })
    expect(await store.take(claimOn([anew(two)]))).toMatchObject({ ok: true, origin: 'local' })
    server.resume()
    const third = agentSubject('c', { requests: perMinute(1, 1_000) })
    const resumedAt = performance.now()
    for (let origin = ''; origin !== 'store'; await sleep(1)) {
      const grant = await store.take(claimOn([third]))
      origin = grant.ok ? grant.origin : ''
      expect(performance.now() - resumedAt).toBeLessThan(100)
    }
    expect([outage.up, changes]).toEqual([true, [true]])
    expect(await admitted(store, anew(one), 20)).toBe(8)
    expect(await admitted(store, anew(two), 20)).toBe(8)
  })

  it('hands out no fresh burst when a single reply is late', async () => {
    const server = await openRedis()
    const { store, outage } = await openStore(server.url)
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    expect(await admitted(store, agent, 10)).toBe(10)
    server.pause()
    const late = performance.now()
    expect(await store.take(claimOn([agent]))).toMatchObject({ ok: false, kind: 'requests' })
    // It was asked, and not remembered.
    expect(performance.now() - late).toBeGreaterThan(45)
    expect(outage.up).toBe(true)
    server.resume()
    expect(await store.take(claimOn([anew(agent)]))).toMatchObject({ ok: false, kind: 'requests' })
  })

  it('gives back in Redis the slots that a lost reply may have taken there', async () => {
    const server = await openRedis()
    const { store, replica } = await openStore(server.url)
    const agent = agentSubject('a', { concurrency: 5 })
    server.pause()
    const claim = claimOn([agent])
    const grant: Grant = await store.take(claim)
    expect(grant).toMatchObject({ ok: true, origin: 'unsure' })
    server.resume()
    store.settle(end(claim))
    await untilSlots(server, {})
    const other = claimOn([agent])
    expect(await store.take(other)).toMatchObject({ ok: true, origin: 'store' })
    await untilSlots(server, { [replica]: 1 })
    store.settle(end(other))
    await untilSlots(server, {})
  })

  it('gives back in Redis the slot of a claim that was refused here meanwhile', async () => {
    const server = await openRedis()
    const { store, replica } = await openStore(server.url, { replicas: 2 })
    const agent = agentSubject('a', { concurrency: 2 })
    const held = claimOn([agent])
    expect((await store.take(held)).ok).toBe(true)
    server.pause()
    expect(await store.take(claimOn([agent]))).toMatchObject({ ok: false, kind: 'concurrency' })
    server.resume()
    await untilSlots(server, { [replica]: 1 })
    // And it stays so.
    await sleep(300)
    expect(await slotsOfA(server)).toEqual({ [replica]: 1 })
  })

  it('charges once when the reply is lost with the connection, and comes back', async () => {
    const server = await openRedis()
    const proxy = await openProxy(server.port)
    const { store, outage } = await openStore(proxy.url)
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    proxy.mode = 'lose'
    expect(await store.take(claimOn([agent]))).toMatchObject({ ok: true, origin: 'unsure' })
    await until(() => !outage.up, 250)
    proxy.mode = 'pass'
    await until(() => outage.up, 1_500)
    expect(await admitted(store, agent, 20)).toBe(9)
  })

  it('leaves a connection on which nothing comes back for a new one', async () => {
    const server = await openRedis()
    const proxy = await openProxy(server.port)
    const { store, outage } = await openStore(proxy.url)
    proxy.mode = 'swallow'
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    expect(await admitted(store, agent, 20)).toBe(10)
    await until(() => !outage.up, 250)
    // Only what is opened from now on passes: the old connection stays dead, as behind a firewall that forgot it.
    proxy.mode = 'pass'
    await until(() => outage.up, 5_000)
  })

  it('keeps counting its own slots over an outage, and tells a Redis that forgot them', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const { store, outage, replica } = await openStore(server.url)
    const agent = agentSubject('a', { concurrency: 3 })
    const before = [claimOn([agent]), claimOn([agent])]
    for (const claim of before) expect((await store.take(claim)).ok).toBe(true)
    await server.kill9()
    await until(() => !outage.up, 250)
    const during = claimOn([agent])
    expect(await store.take(during)).toMatchObject({ ok: true, origin: 'local' })
    expect(await admitted(store, agent, 4)).toBe(0)
    for (const claim of before) store.settle(end(claim))
    const more = [claimOn([agent]), claimOn([agent])]
    for (const claim of more) expect(await store.take(claim)).toMatchObject({ ok: true, origin: 'local' })
    expect(await admitted(store, agent, 3)).toBe(0)

    const again = await openRedis(port)
    await until(() => outage.up, 1_500)
    await untilSlots(again, { [replica]: 3 })
    expect(await admitted(store, agent, 5)).toBe(0)
    for (const claim of [during, ...more]) store.settle(end(claim))
    await untilSlots(again, {})
    expect(await admitted(store, agent, 5)).toBe(3)
  })

  it('starts without Redis and finds it later, and owes it what it let through', async () => {
    const port = await freePort()
    const { store, outage, changes } = await openStore(`redis://127.0.0.1:${port}`)
    expect(outage.up).toBe(false)
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    expect(await admitted(store, agent, 7)).toBe(7)
    await openRedis(port)
    await until(() => outage.up, 1_500)
    expect(changes).toEqual([true])
    expect(await admitted(store, agent, 20)).toBe(3)
  })

  it('decides here while Redis is read-only or out of memory', async () => {
    const server = await openRedis()
    const { store, outage } = await openStore(server.url)
    await server.command('CONFIG', 'SET', 'maxmemory', '1')
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    expect(await admitted(store, agent, 20)).toBe(10)
    expect(outage.up).toBe(false)
    await server.command('CONFIG', 'SET', 'maxmemory', '0')
    await until(() => outage.up, 1_000)
    expect(await admitted(store, anew(agent), 5)).toBe(0)
    await server.command('REPLICAOF', '127.0.0.1', '1')
    await store.take(claimOn([agentSubject('b', { requests: perMinute(1, 10) })]))
    await until(() => !outage.up, 250)
    await server.command('REPLICAOF', 'NO', 'ONE')
    await until(() => outage.up, 1_500)
  })
})

describe('what was admitted here while Redis was away', () => {
  it('is charged there when it is back: nobody gets it a second time', async () => {
    const server = await openRedis()
    const proxy = await openProxy(server.port)
    const one = await openStore(proxy.url, { replicas: 2 })
    const two = await openStore(proxy.url, { replicas: 2 })
    const agent = agentSubject('a', { requests: perMinute(1, 100) })
    expect(await admitted(one.store, agent, 20)).toBe(20)
    expect(await admitted(two.store, agent, 20)).toBe(20)

    proxy.cut()
    await until(() => !one.outage.up && !two.outage.up, 250)
    expect(await admitted(one.store, agent, 25)).toBe(25)
    expect(await admitted(two.store, agent, 25)).toBe(25)
    expect(one.store.view()[0]?.unsettled.requests).toBe(25)

    proxy.mode = 'pass'
    await until(() => one.outage.up && two.outage.up, 1_500)
    // By itself, without a claim that would take it along.
    await until(() => [one, two].every(({ store }) => store.view()[0]?.unsettled.requests === 0), 250)
    const all = await Promise.all([one, two].map(({ store }) => admitted(store, agent, 100)))
    expect(all.reduce((sum, units) => sum + units, 0)).toBe(100 - 40 - 50)
  })

  it('is charged there also when Redis lost all else', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const one = await openStore(server.url, { replicas: 2 })
    const two = await openStore(server.url, { replicas: 2 })
    const agent = agentSubject('a', { requests: perMinute(1, 100) })
    await server.kill9()
    await until(() => !one.outage.up && !two.outage.up, 250)
    expect(await admitted(one.store, agent, 100)).toBe(50)
    expect(await admitted(two.store, agent, 30)).toBe(30)
    await openRedis(port)
    await until(() => one.outage.up && two.outage.up, 1_500)
    await until(() => [one, two].every(({ store }) => store.view()[0]?.unsettled.requests === 0), 250)
    const all = await Promise.all([one, two].map(({ store }) => admitted(store, agent, 100)))
    expect(all.reduce((sum, units) => sum + units, 0)).toBe(100 - 80)
  })

  it('is charged with the tokens that were used, whether settled before or after the return', async () => {
    const server = await openRedis()
    const proxy = await openProxy(server.port)
    const { store, outage } = await openStore(proxy.url)
    const agent = agentSubject('a', { tokens: perMinute(1, 1_000) })
    const [before, first, second] = [claimOn([agent], 300), claimOn([agent], 300), claimOn([agent], 300)]
    expect((await store.take(before)).ok).toBe(true)
    proxy.cut()
    await until(() => !outage.up, 250)
    for (const claim of [first, second])
      expect(await store.take(claim)).toMatchObject({ ok: true, origin: 'local' })
    // A reservation of Redis is settled while it is away, one of this replica when it is back.
    store.settle([...end(before, 100), ...end(first, 50)])
    expect(await store.take(claimOn([agent], 551))).toMatchObject({ ok: false, kind: 'tokens' })
    proxy.mode = 'pass'
    await until(() => outage.up, 1_500)
    store.settle(end(second, 350))
    expect(await store.take(claimOn([anew(agent)], 501))).toMatchObject({ ok: false, kind: 'tokens' })
    expect(await store.take(claimOn([anew(agent)], 500))).toMatchObject({ ok: true, origin: 'store' })
  })

  it('leaks meanwhile as the share of this replica does', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const { store, outage } = await openStore(server.url)
    const agent = agentSubject('a', { requests: perSecond(20, 100) })
    await server.kill9()
    await until(() => !outage.up, 250)
    expect(await admitted(store, agent, 60)).toBe(60)
    const admittedAt = performance.now()
    await sleep(1_000)
    await openRedis(port)
    await until(() => outage.up, 1_500)
    const count = await admitted(store, agent, 200)
    // As much as if Redis had been there all the time.
    const refilled = Math.floor(((performance.now() - admittedAt) * 20) / 1_000)
    expect(refilled).toBeGreaterThanOrEqual(20)
    expect(count).toBeGreaterThanOrEqual(40 + refilled - 3)
    expect(count).toBeLessThanOrEqual(40 + refilled + 1)
  })

  it('leaks the same however often somebody asks meanwhile', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const { store, outage } = await openStore(server.url)
    const agent = agentSubject('a', { requests: perSecond(20, 100) })
    await server.kill9()
    await until(() => !outage.up, 250)
    expect(await admitted(store, agent, 60)).toBe(60)
    const admittedAt = performance.now()
    // A claim of nothing asks the ledgers, and takes none of it.
    const idle = () => ({ id: 'idle', asks: claimOn([agent]).asks.map((ask) => ({ ...ask, requests: 0 })) })
    for (; performance.now() < admittedAt + 1_000; await sleep(5)) await store.take(idle())
    await openRedis(port)
    for (; !outage.up; await sleep(5)) await store.take(idle())
    const count = await admitted(store, agent, 200)
    const refilled = Math.floor(((performance.now() - admittedAt) * 20) / 1_000)
    expect(count).toBeGreaterThanOrEqual(40 + refilled - 3)
    expect(count).toBeLessThanOrEqual(40 + refilled + 1)
  })

  it('leaks at the share that was decided on, also where nobody was heard of yet', async () => {
    const port = await freePort()
    const url = `redis://127.0.0.1:${port}`
    const replicas = await Promise.all([openStore(url, { replicas: 2 }), openStore(url, { replicas: 2 })])
    const agent = agentSubject('a', { requests: perSecond(20, 100) })
    const startedAt = performance.now()
    let total = 0
    const ask = async (times: number): Promise<void> => {
      for (const { store } of replicas) total += await admitted(store, anew(agent), times)
    }
    for (; performance.now() < startedAt + 2_000; await sleep(200)) await ask(100)
    expect(total).toBeGreaterThanOrEqual(130)
    await openRedis(port)
    await until(() => replicas.every(({ outage }) => outage.up), 1_500)
    await until(() => replicas.every(({ store }) => store.view()[0]?.unsettled.requests === 0), 250)
    await ask(100)
    // While one is back and the other is not yet, what is charged there refills, and what is owed here leaks: 10/s more.
    const apart = 0.6 * 10
    expect(total).toBeLessThanOrEqual(100 + (performance.now() - startedAt) / 50 + apart)
  })

  it('does not leak twice: what Redis itself refilled meanwhile is no reason to owe it less', async () => {
    const server = await openRedis()
    const proxy = await openProxy(server.port)
    const { store, outage } = await openStore(proxy.url)
    const agent = agentSubject('a', { requests: perSecond(20, 100) })
    const startedAt = performance.now()
    let total = await admitted(store, agent, 100)
    expect(total).toBe(100)
    proxy.cut()
    await until(() => !outage.up, 250)
    for (const stopAt = performance.now() + 2_000; performance.now() < stopAt; await sleep(200))
      total += await admitted(store, anew(agent), 20)
    expect(total).toBeGreaterThan(130)
    proxy.mode = 'pass'
    await until(() => outage.up, 1_500)
    total += await admitted(store, anew(agent), 100)
    const rate = (performance.now() - startedAt) / 50
    // One bucket and its rate, over the outage as well.
    expect(total).toBeLessThanOrEqual(100 + rate)
  })
})

describe('the share of a replica', () => {
  it('is by the replicas that live, as last heard: nobody has to configure how many', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const replicas = [await openStore(server.url), await openStore(server.url)] as const
    await until(() => replicas.every(({ outage }) => outage.fleet === 2), 1_400)
    await server.kill9()
    await until(() => replicas.every(({ outage }) => !outage.up), 250)
    const agent = agentSubject('a', { requests: perMinute(1, 100), concurrency: 1_000 })
    const slots = agentSubject('slots', { concurrency: 10 })
    for (const { store } of replicas) {
      expect(await admitted(store, agent, 100)).toBe(50)
      expect(await admitted(store, slots, 10)).toBe(5)
    }
  })

  it('grows when a replica leaves, and is never larger than configured', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const leaving = await openStore(server.url)
    const one = await openStore(server.url)
    const careful = await openStore(server.url, { replicas: 4 })
    await until(() => one.outage.fleet === 3 && careful.outage.fleet === 3, 1_400)
    await leaving.store.close()
    await until(() => one.outage.fleet === 2 && careful.outage.fleet === 2, 1_400)
    await server.kill9()
    await until(() => !one.outage.up && !careful.outage.up, 250)
    const agent = agentSubject('a', { requests: perMinute(1, 100) })
    expect(await admitted(one.store, agent, 100)).toBe(50)
    expect(await admitted(careful.store, agent, 100)).toBe(25)
  })
})

describe('money', () => {
  const budgeted = (micros: number): Account => ({
    ...toAccount(agentSubject('rich', { requests: perMinute(1, 1_000) })),
    budget: { micros, period: 'day' },
  })

  it('is not given out while Redis is away, and nothing of it is lost', async () => {
    const server = await openRedis()
    const proxy = await openProxy(server.port)
    const { store, outage } = await openStore(proxy.url)
    const account = budgeted(1_000)
    const claim = claimOnAccount(account, 600)
    expect(await store.take(claim)).toMatchObject({ ok: true, origin: 'store' })
    proxy.cut()
    await until(() => !outage.up, 250)
    for (let i = 0; i < 10; i++)
      expect(await store.take(claimOnAccount(account, 1))).toEqual({ ok: false, kind: 'unavailable' })
    // Others are not denied for that.
    const free = agentSubject('a', { requests: perMinute(1, 10) })
    expect(await store.take(claimOn([free]))).toMatchObject({ ok: true, origin: 'local' })
    // Who shares a claim with money waits with it, and pays nothing.
    const both = { id: 'both', asks: [...claimOn([free]).asks, ...claimOnAccount(account).asks] }
    for (let i = 0; i < 20; i++) expect(await store.take(both)).toEqual({ ok: false, kind: 'unavailable' })
    expect(await admitted(store, free, 20)).toBe(9)

    store.settle([
      { claim, grant: sureGrant(claim, Date.now() * 1000), usedTokens: undefined, usedMicros: 100 },
    ])
    proxy.mode = 'pass'
    await until(() => outage.up, 1_500)
    const [rest, more] = [claimOnAccount(account, 900), claimOnAccount(account, 1)]
    expect(await store.take(rest)).toMatchObject({ ok: true, origin: 'store' })
    expect(await store.take(more)).toMatchObject({ ok: false, kind: 'budget' })
  })

  it('is not given out on a reply that came too late', async () => {
    const server = await openRedis()
    const { store } = await openStore(server.url)
    const account = budgeted(1_000)
    server.pause()
    expect(await store.take(claimOnAccount(account, 1))).toEqual({ ok: false, kind: 'unavailable' })
    server.resume()
  })
})

describe('with onOutage: deny', () => {
  it('says that it cannot count, at once, and counts again when Redis is back', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const { store, outage } = await openStore(server.url, { onOutage: 'deny' })
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    expect(await admitted(store, agent, 3)).toBe(3)
    await server.kill9()
    const askedAt = performance.now()
    for (let i = 0; i < 10; i++)
      expect(await store.take(claimOn([agent]))).toEqual({ ok: false, kind: 'unavailable' })
    expect(performance.now() - askedAt).toBeLessThan(250)
    await openRedis(port)
    await until(() => outage.up, 1_500)
    expect(await admitted(store, agent, 3)).toBe(3)
  })

  it('counts again exactly where it was when Redis kept its ledgers', async () => {
    const server = await openRedis()
    const proxy = await openProxy(server.port)
    const { store, outage } = await openStore(proxy.url, { onOutage: 'deny' })
    const agent = agentSubject('a', { requests: perMinute(1, 10), concurrency: 5 })
    const claims = Array.from({ length: 3 }, () => claimOn([agent]))
    for (const claim of claims) expect((await store.take(claim)).ok).toBe(true)
    proxy.cut()
    await until(() => !outage.up, 250)
    expect(await store.take(claimOn([agent]))).toEqual({ ok: false, kind: 'unavailable' })
    for (const claim of claims) store.settle(end(claim))
    proxy.mode = 'pass'
    await until(() => outage.up, 1_500)
    await untilSlots(server, {})
    expect(await admitted(store, { ...agent, limits: { ...agent.limits, concurrency: undefined } }, 10)).toBe(
      7,
    )
  })
})
