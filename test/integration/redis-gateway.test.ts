// The gateway with Redis as deploy/redis.md says it should be: the user of the page, TLS with an authority of its own.
// The page allows what is used and nothing else; Redis itself tells both.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { createRedisCarrier } from '../../src/upstream/hint-carriers.ts'
import { createCaller } from '../support/caller.ts'
import { createAuthority } from '../support/certificates.ts'
import { documentedUser, refusedTo, usedCommands } from '../support/documented-acl.ts'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { freePort } from '../support/ports.ts'
import { serversAt, startRedis, type TestRedis } from '../support/redis.ts'
import { closeClients, MARK, markCall, next, openClient } from '../support/redis-client.ts'
import { startCluster, startSentinelSet, until } from '../support/redis-forms.ts'
import { temporaryFolder } from '../support/run-folder.ts'
import { createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'

const user = documentedUser('redis')
const authority = createAuthority()
const folder = temporaryFolder('acl')
const pem = (name: string): string => join(folder, `${name}.pem`)
let redis: TestRedis
let provider: ScriptedProvider
let url: string

beforeAll(async () => {
  const files = { ca: authority.ca, stranger: createAuthority().ca, ...authority.issue('localhost') }
  for (const [name, text] of Object.entries(files)) writeFileSync(pem(name), text, { mode: 0o600 })
  const port = await freePort()
  const tls = ['--tls-port', String(port), '--tls-auth-clients', 'no']
  const certificate = [
    '--tls-cert-file',
    pem('cert'),
    '--tls-key-file',
    pem('key'),
    '--tls-ca-cert-file',
    pem('ca'),
  ]
  ;[redis, provider] = await Promise.all([
    startRedis({ args: [...tls, ...certificate] }),
    createScriptedProvider(),
  ])
  await user.create(redis)
  url = `rediss://${user.userinfo}@localhost:${port}/1`
})
afterEach(closeClients)
afterAll(() => Promise.all([redis?.stop(), provider?.close()]))

/** A gateway with one agent of every kind of limit. */
function startWith(where: object, env: Readonly<Record<string, string>> = {}) {
  const bearer = makeBearer()
  const limits = {
    requests: { capacity: 6, refill: '1/h' },
    tokens: { capacity: 1_000_000, refill: '1/h' },
    concurrency: 2,
  }
  const config = simpleConfig({ provider: provider.url, over: { redis: where } })
  const policies = { agent: agentPolicy('agent', bearer, { limits }) }
  return { started: startGateway({ config, policies, env }), bearer: bearer.bearer }
}

/** Over that Redis. */
function start(tls: object) {
  return startWith({ url: 'env:ACL_REDIS', tls }, { ACL_REDIS: url })
}

/** Where the gateway says that limits are decided. */
async function limitsAt({ adminUrl }: TestGateway): Promise<unknown> {
  const detail: unknown = await (await fetch(`${adminUrl}/ready`)).json()
  return typeof detail === 'object' && detail !== null && 'limits' in detail ? detail.limits : undefined
}

test('the gateway works as the documented user, over TLS, and is refused nothing', async () => {
  const { started, bearer } = start({ ca: pem('ca') })
  const gateway = await started
  try {
    expect(await limitsAt(gateway)).toBe('redis')
    const caller = createCaller(gateway.baseUrl, bearer)
    const statuses: number[] = []
    for (let i = 0; i < 8; i++) {
      statuses.push((await caller.chat()).status)
      if (i === 2) await redis.command('SCRIPT', 'FLUSH')
    }
    expect(statuses).toEqual([200, 200, 200, 200, 200, 200, 429, 429])
  } finally {
    await gateway.stop()
  }
  expect(await refusedTo(user, redis)).toEqual([])
  expect(gateway.stdout() + gateway.stderr()).not.toContain(user.password)
})

test('the documented user can do what is used, and nothing else', async () => {
  const { client } = await openClient(serversAt(url, { ca: authority.ca }))
  await client.run(MARK, markCall('slc:x'))
  await new Promise<void>((done) => client.subscribe('slc:kept', { message: () => {}, active: done }))
  const heard = next<string>('a message', (done) => {
    const stop = client.subscribe('slc:news', {
      active: () => void client.publish('slc:news', 'x'),
      message: (text) => {
        stop()
        done(text)
      },
    })
  })
  expect(await heard).toBe('x')
  const probes = createRedisCarrier(client, 'r1')
  expect([await probes.take('p/m', 60_000), await probes.take('p/m', 60_000)]).toEqual([true, false])
  await createRedisCarrier(client, 'r2').give('p/m')
  expect(await probes.take('p/m', 60_000)).toBe(false)
  await probes.give('p/m')
  expect(await probes.take('p/m', 60_000)).toBe(true)
  expect(await client.command('PING')).toBe('PONG')
  expect(await refusedTo(user, redis)).toEqual([])

  for (const [name, ...args] of [
    ['FLUSHALL'],
    ['CONFIG', 'GET', '*'],
    ['KEYS', '*'],
    ['HGET', 'slc:x', 'r'],
    ['EVALSHA_RO', 'x', 0],
    ['PUBLISH', 'other', 'x'],
    ['EVAL', "return redis.call('HSET', 'other', 'a', 'b')", 1, 'other'],
  ] as const)
    await expect(client.command(name, ...args), name).rejects.toThrow(/NOPERM|not permitted|can't run/i)

  const used = new Set([...(await usedCommands(redis)), ...calledByScripts()])
  expect(user.commands.filter((command) => !used.has(command))).toEqual([])
})

/** Every command that a script of ours calls. */
function calledByScripts(): string[] {
  const source = resolve(import.meta.dirname, '../../src')
  const scripts = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.lua'),
  )
  expect(scripts.length).toBeGreaterThan(2)
  return scripts.flatMap((name) =>
    [...readFileSync(join(source, name), 'utf8').matchAll(/redis\.p?call\('(\w+)'/g)].map(
      ([, command = '']) => command.toLowerCase(),
    ),
  )
}

test('the scripts call nothing that the page does not allow', () => {
  const called = calledByScripts()
  expect(new Set(called).size).toBeGreaterThan(5)
  expect(called.filter((command) => !user.commands.includes(command))).toEqual([])
})

test('a start says which file of TLS cannot be used', async () => {
  const { started } = start({ ca: pem('none') })
  await expect(started).rejects.toThrow(/redis\.tls\.ca: .*none\.pem: there is no such file/)
})

test('a Redis of an authority that is not trusted is not used, and the log says which key would help', async () => {
  const gateway = await start({ ca: pem('stranger') }).started
  try {
    const line = await gateway.waitForLog(({ msg }) => msg === 'redis connection failed')
    expect(line.reason).toContain('redis.tls.ca')
    expect(await limitsAt(gateway)).toBe('outage')
  } finally {
    await gateway.stop()
  }
})

test('the gateway counts on over a failover of Sentinel, and answers meanwhile', async () => {
  const set = await startSentinelSet()
  const sentinels = set.sentinels.map(({ port }) => `redis://127.0.0.1:${port}`)
  const { started, bearer } = startWith(
    { sentinels, master: 'env:MASTER' },
    { MASTER: `redis://${set.name}/3` },
  )
  const gateway = await started
  try {
    expect(await limitsAt(gateway)).toBe('redis')
    const caller = createCaller(gateway.baseUrl, bearer)
    for (let i = 0; i < 3; i++) expect((await caller.chat()).status).toBe(200)
    await until('the replica has it', async () => {
      await set.replica.command('SELECT', 3)
      return Number(await set.replica.command('DBSIZE')) > 0
    })
    await set.master.kill9()
    await until('the gateway has seen it', async () => (await limitsAt(gateway)) === 'outage')
    expect((await caller.chat()).status).toBe(200)
    await until('the gateway is back', async () => (await limitsAt(gateway)) === 'redis')
    const statuses: number[] = []
    for (let i = 0; i < 7; i++) statuses.push((await caller.chat()).status)
    // Three of six were taken before, and the new master knows of them.
    expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(3)
    expect(new Set(statuses)).toEqual(new Set([200, 429]))
  } finally {
    await gateway.stop()
    await set.stop()
  }
})

test('the gateway holds the limits of an agent in a cluster', async () => {
  const set = await startCluster()
  const { started, bearer } = startWith({ cluster: set.masters.map((one) => one.url) })
  const gateway = await started
  try {
    expect(await limitsAt(gateway)).toBe('redis')
    const caller = createCaller(gateway.baseUrl, bearer)
    const statuses: number[] = []
    for (let i = 0; i < 8; i++) statuses.push((await caller.chat()).status)
    expect(statuses).toEqual([200, 200, 200, 200, 200, 200, 429, 429])
    const slots = 'slc:1:{agent}:c:agent:agent'
    const owner = await set.masterOf(slots)
    await until('every slot is given back', async () => (await owner.command('EXISTS', slots)) === 0)
  } finally {
    await gateway.stop()
    await set.stop()
  }
})
