// What a Redis that dies, hangs or comes back does to callers: no error, no wait, no fresh burst, and back by itself.

import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { createMemoryStore } from '../../src/quota/memory.ts'
import { createOutageStore, type OutageStore } from '../../src/quota/outage.ts'
import { createRedisStore } from '../../src/quota/redis.ts'
import { type Grant, systemTimers } from '../../src/quota/store.ts'
import type { Clock, Subject } from '../../src/types.ts'
import { freePort } from '../support/ports.ts'
import { serversAt, startRedis, type TestRedis } from '../support/redis.ts'
import { agentSubject, claimOn, perMinute, perSecond } from '../unit/quota/fixtures.ts'

const clock: Clock = { now: () => performance.now(), wall: () => Date.now() }
const opened: { stop(): Promise<unknown> }[] = []

async function openStore(
  url: string,
  some: { onOutage?: 'local' | 'deny'; replicas?: number; start?: boolean } = {},
) {
  const log = { info: () => {}, warn: () => {} }
  const redis = createRedisStore({ servers: serversAt(url), timers: systemTimers, log, random: Math.random })
  const changes: boolean[] = []
  const store = createOutageStore({
    redis,
    shadow: createMemoryStore({ clock }),
    onOutage: some.onOutage ?? 'local',
    replicas: some.replicas ?? 1,
    timers: systemTimers,
    log,
    random: Math.random,
    onChange: (up) => changes.push(up),
  })
  opened.push({ stop: () => store.close() })
  await store.start()
  return { store, redis, changes }
}

async function openRedis(port?: number): Promise<TestRedis> {
  const server = await startRedis(port === undefined ? {} : { port })
  opened.push(server)
  return server
}

/** In front of Redis: passes, loses the reply and the connection with it, or lets a connection go dead for good. */
async function openProxy(port: number) {
  const control: { mode: 'pass' | 'lose' | 'swallow'; url: string } = { mode: 'pass', url: '' }
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1')
    let dead = false
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
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

/** The slots of agent a in Redis; they are given back off the path. */
async function untilSlots(server: TestRedis, members: readonly string[]): Promise<void> {
  let seen: unknown
  for (const giveUpAt = performance.now() + 1_000; performance.now() < giveUpAt; await sleep(2)) {
    seen = await server.command('ZRANGE', 'slc:1:{a}:c:agent:a', 0, -1)
    if (JSON.stringify(seen) === JSON.stringify(members)) return
  }
  expect(seen).toEqual(members)
}

async function admitted(store: OutageStore, subject: Subject, times: number): Promise<number> {
  let count = 0
  for (let i = 0; i < times; i++) if ((await store.take(claimOn([subject]))).ok) count++
  return count
}

afterEach(async () => {
  for (const { stop } of opened.splice(0).reverse()) await stop()
})

describe('with onOutage: local', () => {
  it('answers within 250 ms of a kill, on its share, and returns to Redis by itself', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const { store, changes } = await openStore(server.url, { replicas: 2 })
    expect(store.up).toBe(true)
    const seen = agentSubject('seen', { requests: perMinute(1, 100) })
    const unseen = agentSubject('unseen', { requests: perMinute(1, 100) })
    expect(await admitted(store, seen, 60)).toBe(60)

    await server.kill9()
    const killedAt = performance.now()
    // 40 were left for all; half of that is this replica's.
    expect(await admitted(store, seen, 100)).toBe(20)
    expect(await admitted(store, unseen, 100)).toBe(50)
    expect(performance.now() - killedAt).toBeLessThan(250)
    expect(store.up).toBe(false)

    await openRedis(port)
    await until(() => store.up, 1_500)
    expect(changes).toEqual([true, false, true])
    expect(await admitted(store, agentSubject('new', { requests: perMinute(1, 100) }), 120)).toBe(100)
  })

  it('never makes anybody wait longer than one timeout for a Redis that hangs', async () => {
    const server = await openRedis()
    const { store } = await openStore(server.url)
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
    expect(store.up).toBe(false)
    expect(Math.max(...waits)).toBeLessThan(150)
    // Once it is known, nobody waits at all.
    expect(waits.filter((ms) => ms > 30).length).toBeLessThan(waits.length / 5)
    server.resume()
    await until(() => store.up, 3_000)
  })

  it('hands out no fresh burst when a single reply is late', async () => {
    const server = await openRedis()
    const { store } = await openStore(server.url)
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    expect(await admitted(store, agent, 10)).toBe(10)
    server.pause()
    expect(await store.take(claimOn([agent]))).toMatchObject({ ok: false, kind: 'requests' })
    expect(store.up).toBe(true)
    server.resume()
    expect(await store.take(claimOn([agent]))).toMatchObject({ ok: false, kind: 'requests' })
  })

  it('gives back in Redis the slots that a lost reply may have taken there', async () => {
    const server = await openRedis()
    const { store } = await openStore(server.url)
    const agent = agentSubject('a', { concurrency: 5 })
    server.pause()
    const claim = claimOn([agent], 0, 60_000)
    const grant: Grant = await store.take(claim)
    expect(grant).toMatchObject({ ok: true, origin: 'unsure' })
    server.resume()
    if (grant.ok) store.settle([{ claim, origin: grant.origin, usedTokens: undefined }])
    const other = claimOn([agent])
    expect(await store.take(other)).toMatchObject({ ok: true, origin: 'store' })
    await untilSlots(server, [other.id])
  })

  it('gives back in Redis the slot of a claim that was refused here meanwhile', async () => {
    const server = await openRedis()
    const { store } = await openStore(server.url, { replicas: 2 })
    const agent = agentSubject('a', { concurrency: 2 })
    const held = claimOn([agent])
    expect((await store.take(held)).ok).toBe(true)
    server.pause()
    expect(await store.take(claimOn([agent]))).toMatchObject({ ok: false, kind: 'concurrency' })
    server.resume()
    await untilSlots(server, [held.id])
  })

  it('charges once when the reply is lost with the connection, and comes back', async () => {
    const server = await openRedis()
    const proxy = await openProxy(server.port)
    const { store } = await openStore(proxy.url)
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    proxy.mode = 'lose'
    expect(await store.take(claimOn([agent]))).toMatchObject({ ok: true, origin: 'unsure' })
    await until(() => !store.up, 250)
    proxy.mode = 'pass'
    await until(() => store.up, 1_500)
    expect(await admitted(store, agent, 20)).toBe(9)
  })

  it('leaves a connection on which nothing comes back for a new one', async () => {
    const server = await openRedis()
    const proxy = await openProxy(server.port)
    const { store } = await openStore(proxy.url)
    proxy.mode = 'swallow'
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    expect(await admitted(store, agent, 20)).toBe(10)
    expect(store.up).toBe(false)
    // Only what is opened from now on passes: the old connection stays dead, as behind a firewall that forgot it.
    proxy.mode = 'pass'
    await until(() => store.up, 5_000)
  })

  it('keeps counting its own slots over an outage, and gives them back when Redis is there again', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const { store } = await openStore(server.url)
    const agent = agentSubject('a', { concurrency: 3 })
    const before = [claimOn([agent]), claimOn([agent])]
    for (const claim of before) expect((await store.take(claim)).ok).toBe(true)
    await server.kill9()
    await until(() => !store.up, 250)
    expect(await admitted(store, agent, 5)).toBe(1)
    for (const claim of before) store.settle([{ claim, origin: 'store', usedTokens: undefined }])
    expect(await admitted(store, agent, 5)).toBe(2)
    await openRedis(port)
    await until(() => store.up, 1_500)
    expect(await admitted(store, agent, 5)).toBe(3)
  })

  it('starts without Redis and finds it later', async () => {
    const port = await freePort()
    const { store, changes } = await openStore(`redis://127.0.0.1:${port}`)
    expect(store.up).toBe(false)
    expect(await admitted(store, agentSubject('a', { requests: perMinute(1, 10) }), 20)).toBe(10)
    await openRedis(port)
    await until(() => store.up, 1_500)
    expect(changes).toEqual([true])
  })

  it('decides here while Redis is read-only or out of memory', async () => {
    const server = await openRedis()
    const { store } = await openStore(server.url)
    await server.command('CONFIG', 'SET', 'maxmemory', '1')
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    expect(await admitted(store, agent, 20)).toBe(10)
    expect(store.up).toBe(false)
    await server.command('CONFIG', 'SET', 'maxmemory', '0')
    await until(() => store.up, 1_000)
    await server.command('REPLICAOF', '127.0.0.1', '1')
    await store.take(claimOn([agent]))
    await until(() => !store.up, 250)
    await server.command('REPLICAOF', 'NO', 'ONE')
    await until(() => store.up, 1_500)
  })
})

describe('with onOutage: deny', () => {
  it('says that it cannot count, at once, and counts again when Redis is back', async () => {
    const port = await freePort()
    const server = await openRedis(port)
    const { store } = await openStore(server.url, { onOutage: 'deny' })
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    expect(await admitted(store, agent, 3)).toBe(3)
    await server.kill9()
    const askedAt = performance.now()
    for (let i = 0; i < 10; i++)
      expect(await store.take(claimOn([agent]))).toEqual({ ok: false, kind: 'unavailable' })
    expect(performance.now() - askedAt).toBeLessThan(250)
    await openRedis(port)
    await until(() => store.up, 1_500)
    expect(await admitted(store, agent, 3)).toBe(3)
  })
})
