// The Redis that a proof of limits is about, in the form a case asks for, and what there is to say of it.

import { type RedisServers, toServers } from '../../src/config/redis-servers.ts'
import type { RedisPlace } from '../../src/config/snapshot.ts'
import { startRedis, type TestRedis } from './redis.ts'
import { type ClusterSet, type SentinelSet, startCluster, startSentinelSet } from './redis-forms.ts'
import { createTcpProxy, type TcpProxy } from './tcp-proxy.ts'

export type RedisForm = 'alone' | 'proxied' | 'sentinel' | 'cluster'

export interface Field {
  /** As `redis` stands in a configuration. */
  readonly place: RedisPlace
  readonly servers: RedisServers
  /** The one that there is now. */
  redis(): TestRedis
  /** An empty one in the place of the one that was killed. */
  restart(): Promise<void>
  proxy(): TcpProxy
  sentinel(): SentinelSet
  cluster(): ClusterSet
  commands(): Promise<CommandCount>
}

/** Ends what was started, the last first, whatever became of it. */
export type Ends = (() => Promise<unknown>)[]

/** Runs something and ends all that it started. */
export async function withEnds<T>(run: (ends: Ends) => Promise<T>): Promise<T> {
  const ends: Ends = []
  try {
    return await run(ends)
  } finally {
    for (const end of ends.toReversed()) await end()
  }
}

/** Starts it. What a form does not have throws when it is asked for. */
export async function openField(form: RedisForm, ends: Ends): Promise<Field> {
  if (form === 'sentinel') {
    const set = await startSentinelSet()
    ends.push(() => set.stop())
    const sentinels = set.sentinels.map(({ port }) => `redis://127.0.0.1:${port}`)
    return toField({ kind: 'sentinel', sentinels, master: set.name }, { redis: set.master, sentinel: set })
  }
  if (form === 'cluster') {
    const set = await startCluster()
    ends.push(() => set.stop())
    const cluster = set.masters.map(({ url }) => url)
    return toField({ kind: 'cluster', cluster }, { redis: set.masters[0], cluster: set })
  }
  let redis = await startRedis()
  const { port } = redis
  ends.push(() => redis.stop())
  const proxy = form === 'proxied' ? await createTcpProxy({ target: { port } }) : undefined
  if (proxy !== undefined) ends.push(() => proxy.close())
  const url = proxy === undefined ? redis.url : `redis://${proxy.address}`
  return {
    ...toField({ kind: 'url', url }, { redis, proxy }),
    redis: () => redis,
    async restart() {
      redis = await startRedis({ port })
    },
    commands: () => countCommands(redis),
  }
}

function toField(
  place: RedisPlace,
  parts: {
    readonly redis: TestRedis
    readonly proxy?: TcpProxy | undefined
    readonly sentinel?: SentinelSet
    readonly cluster?: ClusterSet
  },
): Field {
  const outcome = toServers(place, undefined, (text) => text)
  if (!outcome.ok) throw new TypeError(JSON.stringify(outcome.problems))
  return {
    place,
    servers: outcome.servers,
    redis: () => parts.redis,
    restart: () => Promise.reject(new Error('not here')),
    proxy: () => there(parts.proxy),
    sentinel: () => there(parts.sentinel),
    cluster: () => there(parts.cluster),
    commands: async () => NO_COUNT,
  }
}

function there<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('this case has none')
  return value
}

export interface CommandCount {
  /** Everything Redis did, what scripts call included. */
  readonly all: number
  /** What came over the wire. */
  readonly sent: number
}

const NO_COUNT: CommandCount = { all: 0, sent: 0 }

/** INFO commandstats without heartbeats (fleet.lua: EVALSHA, TIME, ZADD, PEXPIRE, ZREMRANGEBYSCORE, ZCARD) and INFO. */
export async function countCommands(redis: TestRedis): Promise<CommandCount> {
  const calls = new Map<string, number>()
  for (const [, name = '', count] of String(await redis.command('INFO', 'commandstats')).matchAll(
    /^cmdstat_([^:]+):calls=(\d+)/gm,
  ))
    calls.set(name.toLowerCase(), Number(count))
  const of = (name: string): number => calls.get(name) ?? 0
  let all = 0
  for (const [name, count] of calls) if (name !== 'info') all += count
  // A word of farewell is one too, with ZREM in place of ZADD and PEXPIRE.
  const beats = of('zcard')
  all -= beats * 4 + of('zadd') * 2 + of('zrem')
  const scripted = [
    'time',
    'hgetall',
    'hset',
    'hdel',
    'del',
    'pexpire',
    'zadd',
    'zrem',
    'zcard',
    'zremrangebyscore',
  ]
  let sent = 0
  for (const [name, count] of calls) if (name !== 'info' && !scripted.includes(name)) sent += count
  return { all, sent: sent - beats }
}
