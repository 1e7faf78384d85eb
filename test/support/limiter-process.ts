// A limiter without HTTP, as a process of its own: callers in a closed loop that claim and note when. Told what to do
// by its first message (over IPC), it says when Redis decides and when not, and at the end its figures. Admissions go
// to a file one by one, so that nothing is lost with a process that is killed: pairs of doubles, µs of CLOCK_MONOTONIC,
// when the claim was made (negative where the ledgers did not decide) and when it was granted.

import { closeSync, openSync, writeSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { RedisServers } from '../../src/config/redis-servers.ts'
import { toAccount } from '../../src/quota/account.ts'
import { createLeaseStore } from '../../src/quota/leases.ts'
import type { Visit } from '../../src/quota/ledger.ts'
import { createMemoryAuthority } from '../../src/quota/memory.ts'
import { createOutageAuthority } from '../../src/quota/outage.ts'
import { createRedisLedgers } from '../../src/quota/redis.ts'
import { type Authority, type Settlement, systemTimers } from '../../src/quota/store.ts'
import type { Clock, Subject } from '../../src/types.ts'

export interface LimiterJob {
  readonly servers: RedisServers
  readonly replica: string
  readonly leases: boolean
  readonly subjects: readonly Subject[]
  readonly callers: number
  /** Pause of a caller after a grant, ms; 0 asks again at once. */
  readonly thinkMs: number
  /** Callers who are refused ask again at once instead of waiting as told. */
  readonly isImpatient?: boolean
  readonly tokens?: number
  readonly forMs: number
  readonly onOutage?: 'local' | 'deny'
  readonly replicas?: number
  /** How wrong the wall clock is, ms. */
  readonly wallOffMs?: number
  /** Where the admissions go. */
  readonly file: string
}

export interface LimiterFigures {
  readonly granted: number
  readonly refused: number
  /** Visits to the ledgers that asked for something and got nothing. */
  readonly vain: number
  readonly unavailable: number
  /** From a claim to its decision, ms: the longest, and what one of a hundred exceeds. */
  readonly longestMs: number
  readonly p99Ms: number
  /** Longest time for which the event loop itself stood still, ms: noise of the machine, which is in the above. */
  readonly stalledMs: number
  readonly trips: number
  readonly byOrigin: Readonly<Record<string, number>>
}

export type LimiterNews =
  | { readonly kind: 'ready' }
  /** Whether Redis decides, since when: µs of CLOCK_MONOTONIC. */
  | { readonly kind: 'up'; readonly up: boolean; readonly atUs: number }
  | { readonly kind: 'done'; readonly figures: LimiterFigures }

if (process.send !== undefined) process.once('message', (job) => void run(job as LimiterJob))

async function run(job: LimiterJob): Promise<void> {
  const clock: Clock = { now: () => performance.now(), wall: () => Date.now() + (job.wallOffMs ?? 0) }
  const log = { info: () => {}, warn: () => {} }
  const redis = createRedisLedgers({
    servers: job.servers,
    replica: job.replica,
    timers: systemTimers,
    log,
    random: Math.random,
  })
  const authority = createOutageAuthority({
    redis,
    shadow: createMemoryAuthority({ clock, epochUs: Math.floor((clock.wall() - clock.now()) * 1000) }),
    onOutage: job.onOutage ?? 'local',
    replicas: job.replicas ?? 1,
    timers: systemTimers,
    log,
    random: Math.random,
    onChange: (up) => tell({ kind: 'up', up, atUs: monotonicUs() }),
  })
  const figures = { granted: 0, refused: 0, unavailable: 0, vain: 0 }
  const counting: Authority = Object.create(authority, {
    visit: {
      value(visits: readonly Visit[]) {
        const replies = authority.visit(visits)
        void Promise.resolve(replies).then(
          (list) => {
            for (const [i, { claims }] of visits.entries()) {
              const { refusals } = list[i]?.answer ?? {}
              if (claims.length > 0 && claims.every((_, j) => refusals?.[j] !== undefined)) figures.vain += 1
            }
          },
          () => {},
        )
        return replies
      },
    },
  })
  const store = createLeaseStore({ authority: counting, clock, timers: systemTimers, leases: job.leases })
  await authority.start()
  tell({ kind: 'ready' })
  await new Promise((resolve) => process.once('message', resolve))

  const accounts = job.subjects.map((subject) => toAccount(subject))
  const file = openSync(job.file, 'a')
  const pair = new Float64Array(2)
  const tookMs: number[] = []
  const loop = monitorEventLoopDelay({ resolution: 5 })
  loop.enable()
  const byOrigin: Record<string, number> = {}
  const tripsBefore = redis.trips
  let stopAt = performance.now() + job.forMs
  // A second word ends it before its time, in good order.
  process.once('message', () => {
    stopAt = 0
  })
  let ids = 0

  async function call(): Promise<void> {
    while (performance.now() < stopAt) {
      ids += 1
      const claim = {
        id: `${job.replica}-${ids}`,
        asks: accounts.map((account) => ({ account, requests: 1, tokens: job.tokens ?? 0, micros: 0 })),
      }
      const askedUs = monotonicUs()
      const grant = await store.take(claim)
      const decidedUs = monotonicUs()
      tookMs.push((decidedUs - askedUs) / 1000)
      if (grant.ok) {
        figures.granted += 1
        byOrigin[grant.origin] = (byOrigin[grant.origin] ?? 0) + 1
        pair[0] = grant.origin === 'store' || grant.origin === 'lease' ? askedUs : -askedUs
        pair[1] = decidedUs
        writeSync(file, pair)
        const settlement: Settlement = {
          claim,
          grant,
          usedTokens: undefined,
          usedMicros: undefined,
        }
        // A turn of the loop at least, so that callers take turns.
        await pause(job.thinkMs)
        store.settle([settlement])
      } else if (grant.kind === 'unavailable') {
        figures.unavailable += 1
        await pause(20)
      } else {
        figures.refused += 1
        await pause(job.isImpatient ? 0 : Math.min(grant.waitUs / 1000, stopAt - performance.now()))
      }
    }
  }
  await Promise.all(Array.from({ length: job.callers }, call))
  const trips = redis.trips - tripsBefore
  await store.close()
  closeSync(file)
  tookMs.sort((a, b) => a - b)
  const done = {
    ...figures,
    longestMs: tookMs.at(-1) ?? 0,
    p99Ms: tookMs[Math.floor(tookMs.length * 0.99)] ?? 0,
    stalledMs: loop.max / 1e6,
    trips,
    byOrigin,
  }
  process.send?.({ kind: 'done', figures: done } satisfies LimiterNews, () => process.exit(0))
}

function tell(news: LimiterNews): void {
  process.send?.(news)
}

/** CLOCK_MONOTONIC, the same for all processes of the machine. */
function monotonicUs(): number {
  return Number(process.hrtime.bigint()) / 1000
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    if (ms <= 0) setImmediate(resolve)
    else setTimeout(resolve, Math.ceil(ms))
  })
}
