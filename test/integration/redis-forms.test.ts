// The client in front of each form of Redis, of real processes: it connects, nothing runs twice, and it comes back by
// itself from whatever happens to the servers. Runs are counted in Redis, past the client.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type RedisServers, type TlsMaterial, toServers } from '../../src/config/redis-servers.ts'
import { RedisCallError, type RedisClient } from '../../src/quota/client.ts'
import type { Call } from '../../src/quota/script.ts'
import { createAuthority } from '../support/certificates.ts'
import { documentedUser, refusedTo, usedCommands } from '../support/documented-acl.ts'
import { freePort } from '../support/ports.ts'
import { serversAt, startRedis, type TestRedis } from '../support/redis.ts'
import { closeClients, MARK, markCall, next, openClient, toScript } from '../support/redis-client.ts'
import {
  type ClusterSet,
  type SentinelSet,
  startCluster,
  startSentinelSet,
  until,
} from '../support/redis-forms.ts'
import { temporaryFolder } from '../support/run-folder.ts'
import { createTcpProxy } from '../support/tcp-proxy.ts'

afterEach(closeClients)

/** Calls from `callers` loops until `end`; gives what came of each mark. */
async function load(client: RedisClient, key: string, callers: number, end: { now: boolean }) {
  const done = new Map<string, 'ran' | 'refused' | 'unsure'>()
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (!end.now) {
        const call = markCall(key)
        const mark = String(call.args[0])
        try {
          await client.run(MARK, call)
          done.set(mark, 'ran')
        } catch (error) {
          done.set(mark, error instanceof RedisCallError && error.replied ? 'refused' : 'unsure')
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
      }
    }),
  )
  return done
}

/** Runs by mark, as Redis counted them. */
async function runsIn(server: Pick<TestRedis, 'command'>, key: string): Promise<Map<string, number>> {
  const flat = await server.command('HGETALL', key)
  const runs = new Map<string, number>()
  if (Array.isArray(flat))
    for (let i = 0; i < flat.length; i += 2) runs.set(String(flat[i]), Number(flat[i + 1]))
  return runs
}

/** A subscription that tells each message and each time it stands. */
function listen(client: RedisClient, channel: string) {
  let onMessage = (_: string): void => {}
  let onActive = (_: boolean): void => {}
  client.subscribe(channel, { message: (text) => onMessage(text), active: () => onActive(true) })
  return {
    message: () => next<string>('a message', (done) => (onMessage = done)),
    active: () => next<boolean>('the subscription', (done) => (onActive = done)),
  }
}

/** Calls that do not depend on each other, in one turn. */
function runAll(client: RedisClient, calls: readonly Call[]): Promise<PromiseSettledResult<unknown>[]> {
  return Promise.allSettled(calls.map((call) => client.run(MARK, call)))
}

describe('one Redis', () => {
  let server: TestRedis
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server.stop())

  it('sends independent calls in one turn, and those again that it does not know the script of', async () => {
    const { client, connected } = await openClient(serversAt(server.url))
    expect(connected).toBe(true)
    const calls = Array.from({ length: 20 }, (_, i) => markCall(`slc:one:${i % 3}`))
    const trips = client.trips
    expect(await runAll(client, calls)).toEqual(calls.map(() => ({ status: 'fulfilled', value: 1 })))
    expect(client.trips - trips).toBe(20)
    await server.command('SCRIPT', 'FLUSH')
    expect(await runAll(client, calls)).toEqual(calls.map(() => ({ status: 'fulfilled', value: 2 })))
  })

  it('tells a call that Redis refused from one that may have run', async () => {
    const proxy = await createTcpProxy({ target: server })
    const { client } = await openClient(serversAt(`redis://${proxy.address}`))
    const wrong = client.run(toScript("return redis.call('NOPE', KEYS[1])"), { keys: ['slc:x'], args: [] })
    await expect(wrong).rejects.toMatchObject({ replied: true })
    proxy.dropReplies()
    const call = markCall('slc:lost')
    const seen = client.run(MARK, call).catch((error: unknown) => error)
    await until('the call ran', async () => (await server.command('EXISTS', 'slc:lost')) === 1)
    proxy.killConnections()
    await proxy.forward()
    expect(await seen).toMatchObject({ replied: false })
    await until('the client is back', async () => client.ready)
    expect(await runsIn(server, 'slc:lost')).toEqual(new Map([[String(call.args[0]), 1]]))
    await proxy.close()
  })

  it('has no connection where there is no such database, and does not go on in another', async () => {
    const { client, connected } = await openClient(serversAt(`${server.url}/4000`))
    expect(connected).toBe(false)
    await expect(client.command('SET', 'slc:elsewhere', 1)).rejects.toThrow()
    expect(client.ready).toBe(false)
    expect(await server.command('EXISTS', 'slc:elsewhere')).toBe(0)
  })

  it('listens again when its connection was cut, and says so', async () => {
    const { client } = await openClient(serversAt(server.url))
    const heard = listen(client, 'slc:news')
    await heard.active()
    const first = heard.message()
    await client.publish('slc:news', 'one')
    expect(await first).toBe('one')
    const again = heard.active()
    await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await again
    const second = heard.message()
    await client.publish('slc:news', 'two')
    expect(await second).toBe('two')
  })
})

describe('Sentinel', () => {
  let set: SentinelSet
  const passwords = { data: 'data-canary-1', sentinel: 'sentinel-canary-1' }
  beforeAll(async () => {
    set = await startSentinelSet({ passwords })
    for (const one of set.sentinels) await watcher.create(one)
    for (const one of [set.master, set.replica]) await user.create(within(one))
  })
  afterAll(() => set?.stop())

  // As the page tells operators to set it up.
  const [user, watcher] = [documentedUser('redis'), documentedUser('sentinel')]
  const servers = (password = watcher.password): RedisServers => {
    const sentinels = set.sentinels.map(({ port }) => `redis://${watcher.name}:${password}@127.0.0.1:${port}`)
    const master = `redis://${user.userinfo}@${set.name}/2`
    const outcome = toServers({ kind: 'sentinel', sentinels, master }, undefined, (text) => text)
    if (!outcome.ok) throw new Error(JSON.stringify(outcome.problems))
    return outcome.servers
  }

  /** Each command with its login: a failover closes the connections of the new master. */
  const within = (server: TestRedis): Pick<TestRedis, 'command'> => ({
    command: async (...args) => {
      // In this order; all three are waited for, also when the connection breaks.
      const login = [server.command('AUTH', passwords.data), server.command('SELECT', 2)]
      return (await Promise.all([...login, server.command(...args)])).at(-1) ?? null
    },
  })

  it('says what is wrong with a password of the sentinels, without it', async () => {
    const { logged, connected } = await openClient(servers('wrong-canary'))
    expect(connected).toBe(false)
    expect(logged.join()).toMatch(/All sentinels are unreachable.*WRONGPASS/)
    expect(logged.join()).not.toContain('canary')
  })

  it('leaves a master that the sentinels have given up, although it answers', async () => {
    const { client } = await openClient(servers())
    const [old, other] = [within(set.master), within(set.replica)]
    const heard = listen(client, 'slc:news')
    await heard.active()
    const again = heard.active()
    await client.run(MARK, markCall('slc:1:{old}:b'))
    // The sentinels take a refused PING for none, and cannot tell it that it is a replica now.
    await old.command('ACL', 'SETUSER', 'default', '-ping', '-slaveof', '-multi', '-client|kill')
    await until('the other one is master', async () =>
      String(await other.command('INFO', 'replication')).includes('role:master'),
    )
    await until('calls run at the other one', async () => {
      await client.run(MARK, markCall('slc:1:{new}:b'))
      return (await other.command('EXISTS', 'slc:1:{new}:b')) === 1
    })
    await again
    expect(String(await old.command('INFO', 'replication'))).toContain('role:master')
    await old.command('ACL', 'SETUSER', 'default', '+@all')
    await until('the old one is its replica', async () =>
      String(await old.command('INFO', 'replication')).includes('master_link_status:up'),
    )
  })

  it('finds the new master when the old one is killed, runs nothing twice, and listens there', async () => {
    const { client, connected, logged } = await openClient(servers())
    expect(connected).toBe(true)
    // The other way round than at the start, after the test before.
    const [dying, heir] = [within(set.replica), within(set.master)]
    const heard = listen(client, 'slc:news')
    await heard.active()

    const end = { now: false }
    const done = load(client, 'slc:failover', 16, end)
    await until('calls ran', async () => Number(await dying.command('HLEN', 'slc:failover')) > 500)
    const states: boolean[] = []
    client.onConnection((ready) => void states.push(ready))
    const again = heard.active()
    const killedAt = performance.now()
    await set.replica.kill9()
    await until('calls run at the new master', async () => {
      const before = Number(await heir.command('HLEN', 'slc:failover'))
      await new Promise((resolve) => setTimeout(resolve, 20))
      return Number(await heir.command('HLEN', 'slc:failover')) > before && client.ready
    })
    const awayMs = performance.now() - killedAt
    end.now = true
    const outcome = await done
    await again

    expect(awayMs).toBeLessThan(15_000)
    expect(states).toEqual([false, true])
    const runs = await runsIn(heir, 'slc:failover')
    expect([...runs.values()].filter((count) => count !== 1)).toEqual([])
    // What was refused did not run; what ran may be lost with the old master, and nothing else is.
    for (const [mark, what] of outcome) if (what === 'refused') expect(runs.has(mark)).toBe(false)
    const heardOf = heard.message()
    await client.publish('slc:news', 'moved')
    expect(await heardOf).toBe('moved')
    expect(logged.join()).not.toContain('canary')
    for (const one of set.sentinels) expect(await refusedTo(watcher, one)).toEqual([])
    expect(await refusedTo(user, heir)).toEqual([])
  })
})

describe('Cluster', () => {
  let set: ClusterSet
  beforeAll(async () => {
    set = await startCluster({ replica: true })
    for (const one of [...set.masters, set.replica]) if (one) await user.create(one)
  })
  afterAll(() => set?.stop())

  const user = documentedUser('cluster')
  const servers = (): RedisServers => {
    const cluster = set.masters.map(({ port }) => `redis://${user.userinfo}@127.0.0.1:${port}`)
    const outcome = toServers({ kind: 'cluster', cluster }, undefined, (text) => text)
    if (!outcome.ok) throw new Error(JSON.stringify(outcome.problems))
    return outcome.servers
  }
  /** A key that the master at `index` has. */
  const keyOn = async (index: number, prefix = 'k'): Promise<string> => {
    for (let i = 0; ; i++) {
      const key = `slc:1:{${prefix}${i}}:b`
      if ((await set.masterOf(key)) === set.masters[index]) return key
    }
  }

  it('sends each call to its own node, whose scripts are there ahead of it', async () => {
    const { client, connected } = await openClient(servers())
    expect(connected).toBe(true)
    const keys = await Promise.all([0, 1, 2].map((index) => keyOn(index)))
    const calls = Array.from({ length: 30 }, (_, i) => markCall(keys[i % 3] ?? ''))
    const trips = client.trips
    expect(await runAll(client, calls)).toEqual(calls.map(() => ({ status: 'fulfilled', value: 1 })))
    expect(client.trips - trips).toBe(30)
    for (const [i, key] of keys.entries()) expect(await set.masters[i]?.command('HLEN', key)).toBe(10)
  })

  it('brings the script along where one node has lost it, each run once', async () => {
    const { client } = await openClient(servers())
    const key = await keyOn(1, 'lost')
    await set.masters[1].command('SCRIPT', 'FLUSH')
    const calls = Array.from({ length: 10 }, () => markCall(key))
    await runAll(client, calls)
    expect([...(await runsIn(set.masters[1], key)).values()]).toEqual(calls.map(() => 1))
  })

  it('loses nothing and runs nothing twice while the slot of a hot key moves', async () => {
    const { client } = await openClient(servers())
    const key = await keyOn(0, 'hot')
    const [, to, other] = set.masters
    // The newcomers do not know the script of a slot that comes to them.
    for (const one of [to, other]) await one.command('SCRIPT', 'FLUSH')
    const end = { now: false }
    let under = 0
    const counted: RedisClient = {
      ...client,
      run: (script, call) => client.run(script, call).finally(() => under++),
    }
    const done = load(counted, key, 32, end)
    const more = async (): Promise<void> => {
      const from = under
      await until('more calls ran', async () => under > from + 200)
    }
    await more()
    await set.moveSlot(key, set.masters[0], to, more)
    await more()
    await set.moveSlot(key, to, other, more)
    await more()
    await set.moveSlot(key, other, set.masters[0], more)
    await more()
    end.now = true
    const outcome = await done
    expect([...outcome.values()].filter((what) => what !== 'ran')).toEqual([])
    const runs = await runsIn(set.masters[0], key)
    expect(runs.size).toBe(outcome.size)
    expect([...runs.values()].filter((count) => count !== 1)).toEqual([])
  })

  it('refuses a call of two new keys while their slot moves, and has run none of it', async () => {
    const { client } = await openClient(servers())
    const both = toScript("redis.call('ZADD', KEYS[1], 1, 'a') return redis.call('ZADD', KEYS[2], 1, 'a')")
    const key = await keyOn(0, 'pair')
    const call = { keys: [key, `${key}2`], args: [] }
    const attempts: unknown[] = []
    await set.moveSlot(key, set.masters[0], set.masters[1], async () => {
      attempts.push(await client.run(both, call).catch((error: unknown) => error))
    })
    expect(attempts).toEqual([
      expect.objectContaining({ replied: true, message: expect.stringMatching(/redirections/) }),
    ])
    expect(await client.run(both, call)).toBe(1)
    await set.moveSlot(key, set.masters[1], set.masters[0])
  })

  it('does not send again what was under way on a connection that broke, and connects again', async () => {
    const { client } = await openClient(servers())
    const key = await keyOn(0, 'broken')
    await client.run(MARK, markCall(key))
    set.proxy.dropReplies()
    const call = markCall(key)
    const seen = client.run(MARK, call).catch((error: unknown) => error)
    const mark = String(call.args[0])
    await until('the call ran', async () => (await set.masters[0].command('HEXISTS', key, mark)) === 1)
    set.proxy.killConnections()
    await set.proxy.forward()
    expect(await seen).toMatchObject({ replied: false })
    await until('calls run again', () => client.run(MARK, markCall(key)).then(() => true))
    expect((await runsIn(set.masters[0], key)).get(mark)).toBe(1)
  })

  it('hears on one node what was published at another, also when its own is gone', async () => {
    const { client } = await openClient(servers())
    const heard = listen(client, 'slc:news')
    await heard.active()
    for (const [i, one] of set.masters.entries()) {
      const message = heard.message()
      await one.command('PUBLISH', 'slc:news', String(i))
      expect(await message).toBe(String(i))
    }
    const again = heard.active()
    for (const one of [...set.masters, set.replica]) await one?.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await again
    const message = heard.message()
    await client.publish('slc:news', 'still')
    expect(await message).toBe('still')
  })

  it('uses the other nodes when one dies, and its replica once that has taken over; nothing runs twice', async () => {
    const { client } = await openClient(servers())
    const [dying, living] = await Promise.all([keyOn(0, 'die'), keyOn(1, 'live')])
    const end = { now: false }
    const done = load(client, dying, 16, end)
    const { replica } = set
    await until('calls ran', async () => Number(await set.masters[0].command('HLEN', dying)) > 500)
    const killedAt = performance.now()
    await set.masters[0].kill9()
    await client.run(MARK, markCall(living))
    expect(client.ready).toBe(true)
    await replica?.command('READONLY')
    await until('calls run at the replica', async () => {
      const before = Number(await replica?.command('HLEN', dying))
      await new Promise((resolve) => setTimeout(resolve, 20))
      return Number(await replica?.command('HLEN', dying)) > before
    })
    expect(performance.now() - killedAt).toBeLessThan(15_000)
    end.now = true
    const outcome = await done
    if (replica === undefined) throw new Error('there is no replica')
    const runs = await runsIn(replica, dying)
    expect([...runs.values()].filter((count) => count !== 1)).toEqual([])
    for (const [mark, what] of outcome) if (what === 'refused') expect(runs.has(mark)).toBe(false)
  })

  it('needs the commands that the page allows in a cluster, and no other', async () => {
    const used = new Set<string>()
    for (const one of [set.masters[1], set.masters[2], set.replica]) {
      if (one === undefined) continue
      expect(await refusedTo(user, one)).toEqual([])
      for (const command of await usedCommands(one)) used.add(command)
    }
    const alone = documentedUser('redis').commands
    const more = user.commands.filter((command) => !alone.includes(command) && !used.has(command))
    // Sent when the map of slots is read at a replica, which is left to chance.
    expect(more.filter((command) => command !== 'readonly')).toEqual([])
  })
})

describe('TLS', () => {
  const authority = createAuthority()
  const stranger = createAuthority('stranger')
  const own = authority.issue('sluice')
  let server: TestRedis
  let url: string
  beforeAll(async () => {
    const folder = temporaryFolder('tls')
    const { cert, key } = authority.issue('redis.test', 'localhost')
    const files = { ca: authority.ca, cert, key }
    for (const [name, pem] of Object.entries(files)) writeFileSync(join(folder, `${name}.pem`), pem)
    const port = await freePort()
    const tls = ['--tls-port', String(port), '--tls-auth-clients', 'yes']
    const pem = (name: string) => join(folder, `${name}.pem`)
    server = await startRedis({
      args: [
        ...tls,
        ...['--tls-cert-file', pem('cert'), '--tls-key-file', pem('key'), '--tls-ca-cert-file', pem('ca')],
      ],
    })
    url = `rediss://localhost:${port}`
  })
  afterAll(() => server?.stop())

  const attempt = (tls: TlsMaterial, at = url) => openClient(serversAt(at, tls))

  it('connects with the authority that it was given, and shows its own certificate', async () => {
    const { client, connected } = await attempt({ ca: authority.ca, ...own })
    expect(connected).toBe(true)
    expect(await client.run(MARK, markCall('slc:tls'))).toBe(1)
    const heard = listen(client, 'slc:news')
    await heard.active()
  })

  it('refuses a Redis of another authority, and says which key would help', async () => {
    const { connected, logged } = await attempt({ ca: stranger.ca, ...own })
    expect(connected).toBe(false)
    expect(logged.join()).toContain('redis.tls.ca')
    expect((await attempt(own)).logged.join()).toContain('redis.tls.ca')
  })

  it('refuses a Redis of another name, unless that is the name it was told', async () => {
    const address = url.replace('localhost', '127.0.0.1')
    const { connected, logged } = await attempt({ ca: authority.ca, ...own }, address)
    expect(connected).toBe(false)
    expect(logged.join()).toMatch(/does not match certificate/)
    const named = await attempt({ ca: authority.ca, ...own, servername: 'redis.test' }, address)
    expect(named.connected).toBe(true)
  })
})
