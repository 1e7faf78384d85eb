// Many agents that are seen once, each with a limit of its own, through the store of a replica, as a process of its
// own: how fast, and what of them stays in memory. Started with --expose-gc; told by its first message.

import type { RedisServers } from '../../src/config/redis-servers.ts'
import { toAccount } from '../../src/quota/account.ts'
import { createLeaseStore } from '../../src/quota/leases.ts'
import { createMemoryAuthority } from '../../src/quota/memory.ts'
import { createOutageAuthority, SHADOWS } from '../../src/quota/outage.ts'
import { createRedisLedgers } from '../../src/quota/redis.ts'
import { systemTimers } from '../../src/quota/store.ts'
import type { Limits } from '../../src/types.ts'

export interface IdsJob {
  readonly servers: RedisServers
  readonly limits: Limits
  /** Agents `<prefix>-000000` and so on. */
  readonly prefix: string
  readonly ids: number
  readonly tokens: number
  /** Pause after each thousand, so that so many agents do not come all in one second. */
  readonly perSecond: number
}

export interface IdsFigures {
  readonly granted: number
  readonly fromStore: number
  readonly seconds: number
  /** Used heap after a collection, MB: before, after each tenth, and when all has been idle for some seconds. */
  readonly heapMb: readonly number[]
  readonly rssMb: readonly number[]
}

if (process.send !== undefined) process.once('message', (job) => void run(job as IdsJob))

async function run({ servers, limits, prefix, ids, tokens, perSecond }: IdsJob): Promise<void> {
  const clock = { now: () => performance.now(), wall: () => Date.now() }
  const log = { info: () => {}, warn: () => {} }
  const redis = createRedisLedgers({
    servers,
    replica: `ids-${process.pid}`,
    timers: systemTimers,
    log,
    random: Math.random,
    timeoutMs: 1_000,
  })
  const authority = createOutageAuthority({
    redis,
    shadow: createMemoryAuthority({
      clock,
      epochUs: Math.floor((clock.wall() - clock.now()) * 1000),
      maxLedgers: SHADOWS,
    }),
    onOutage: 'local',
    replicas: 1,
    timers: systemTimers,
    log,
    random: Math.random,
  })
  const store = createLeaseStore({ authority, clock, timers: systemTimers, leases: true })
  await authority.start()
  const heapMb: number[] = []
  const rssMb: number[] = []
  const measure = (): void => {
    globalThis.gc?.()
    const { heapUsed, rss } = process.memoryUsage()
    heapMb.push(heapUsed / 2 ** 20)
    rssMb.push(rss / 2 ** 20)
  }
  let next = 0
  let granted = 0
  let fromStore = 0
  measure()
  const startMs = performance.now()
  async function work(until: number): Promise<void> {
    while (next < until) {
      const aheadMs = (next * 1000) / perSecond - (performance.now() - startMs)
      if (aheadMs > 1) await new Promise((resolve) => setTimeout(resolve, aheadMs))
      const id = `${prefix}-${String(next++).padStart(6, '0')}`
      const account = toAccount({ kind: 'agent', id, tag: id, limits })
      const claim = { id, asks: [{ account, requests: 1, tokens, micros: 0 }] }
      const grant = await store.take(claim)
      if (!grant.ok) continue
      granted += 1
      if (grant.origin === 'store') fromStore += 1
      store.settle([{ claim, grant, usedTokens: Math.floor(tokens / 2), usedMicros: undefined }])
    }
  }
  for (let tenth = 1; tenth <= 10; tenth += 1) {
    await Promise.all(Array.from({ length: 64 }, () => work(Math.floor((ids * tenth) / 10))))
    measure()
  }
  const seconds = (performance.now() - startMs) / 1000
  await new Promise((resolve) => setTimeout(resolve, 3_500))
  measure()
  await store.close()
  const figures: IdsFigures = { granted, fromStore, seconds, heapMb, rssMb }
  process.send?.(figures, () => process.exit(0))
}
