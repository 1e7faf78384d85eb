// A limiter without HTTP, as a process of its own: callers in a closed loop that claim and note when. Told what to do
// by its first message (over IPC), it answers with a line of figures and leaves the admissions in a file: pairs of
// doubles, µs of CLOCK_MONOTONIC, when the claim was made and when it was granted.

import { writeFileSync } from 'node:fs'
import { toAccount } from '../../src/quota/account.ts'
import { createLeaseStore } from '../../src/quota/leases.ts'
import { createMemoryAuthority } from '../../src/quota/memory.ts'
import { createOutageAuthority } from '../../src/quota/outage.ts'
import { createRedisLedgers } from '../../src/quota/redis.ts'
import { type Settlement, systemTimers } from '../../src/quota/store.ts'
import type { Clock, Subject } from '../../src/types.ts'
import { serversAt } from './redis.ts'

export interface LimiterJob {
  readonly url: string
  readonly replica: string
  readonly leases: boolean
  readonly subjects: readonly Subject[]
  readonly callers: number
  /** Pause of a caller after a grant, ms; 0 asks again at once. */
  readonly thinkMs: number
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
  readonly unavailable: number
  /** Longest time from a claim to its decision, ms. */
  readonly longestMs: number
  readonly trips: number
  readonly byOrigin: Readonly<Record<string, number>>
}

if (process.send !== undefined) process.once('message', (job) => void run(job as LimiterJob))

async function run(job: LimiterJob): Promise<void> {
  const clock: Clock = { now: () => performance.now(), wall: () => Date.now() + (job.wallOffMs ?? 0) }
  const log = { info: () => {}, warn: () => {} }
  const redis = createRedisLedgers({
    servers: serversAt(job.url),
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
  })
  const store = createLeaseStore({ authority, clock, timers: systemTimers, leases: job.leases })
  await authority.start()
  process.send?.('ready')
  await new Promise((resolve) => process.once('message', resolve))

  const accounts = job.subjects.map((subject) => toAccount(subject))
  const admitted: number[] = []
  const figures = { granted: 0, refused: 0, unavailable: 0, longestMs: 0 }
  const byOrigin: Record<string, number> = {}
  const tripsBefore = redis.trips
  const stopAt = performance.now() + job.forMs
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
      figures.longestMs = Math.max(figures.longestMs, (decidedUs - askedUs) / 1000)
      if (grant.ok) {
        figures.granted += 1
        byOrigin[grant.origin] = (byOrigin[grant.origin] ?? 0) + 1
        admitted.push(askedUs, decidedUs)
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
        await pause(Math.min(grant.waitUs / 1000, stopAt - performance.now()))
      }
    }
  }
  await Promise.all(Array.from({ length: job.callers }, call))
  const trips = redis.trips - tripsBefore
  await store.close()
  writeFileSync(job.file, Buffer.from(new Float64Array(admitted).buffer))
  process.send?.({ ...figures, trips, byOrigin } satisfies LimiterFigures, () => process.exit(0))
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
