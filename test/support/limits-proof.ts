// The proof of the bound (reliability §1.5): limiter processes over a real Redis to which something is done meanwhile,
// their histories merged and checked over every window. A case is a value; the short form and the long one run the
// same cases with other times. What is counted is counted at the limiter's caller and by Redis, not by Sluice's log.

import type { Rate, Subject } from '../../src/types.ts'
import type { LimiterFigures, LimiterJob } from './limiter-process.ts'
import { excessOf, type Limiter, merge, prepareLimiters, spanSeconds } from './limiters.ts'
import { type Ends, openField, type RedisForm, withEnds } from './limits-field.ts'
import { createScene, type Member, type RedisScene } from './nemeses.ts'
import { serversAt, type TestRedis } from './redis.ts'

export interface Case {
  readonly name: string
  /** `exact`: every claim is decided at the ledgers; `leases`: a shared subject, spent from leases. */
  readonly mode: 'exact' | 'leases'
  readonly perSecond: number
  readonly capacity: number
  readonly replicas: number
  readonly forMs: number
  readonly redis: RedisForm
  /** Callers in each replica; default 16. */
  readonly callers?: number
  readonly isImpatient?: boolean
  /** With `proxied`: who does not go through the proxy. */
  readonly direct?: (place: number) => boolean
  /** What is different at a replica. */
  readonly replica?: (place: number) => Partial<LimiterJob>
  /** What happens while it runs, beginning when all have begun. */
  readonly nemesis?: (scene: Scene) => Promise<void>
  /** E of §1.5: how it is made, and what it comes to in requests. */
  readonly formula: string
  readonly allowed: (terms: Terms) => number
  /** How often Redis lost what it knew: only then may the ledgers themselves admit more, B + N·L each time. */
  readonly losses?: number
}

/** What E is made of. */
export interface Terms {
  /** Capacity. */
  readonly b: number
  /** Units per second. */
  readonly r: number
  readonly n: number
  /** All that can be out on lease at once: the ledgers lend no more than half of a bucket (`lend` of ledger.ts). */
  readonly nl: number
}

/** What a nemesis has in hand. */
export interface Scene extends RedisScene {
  readonly members: readonly Limiter[]
  /** One more replica, for so long. */
  join(forMs: number): Promise<Limiter>
}

export interface Outcome {
  readonly name: string
  readonly mode: string
  readonly replicas: number
  readonly seconds: number
  readonly admitted: number
  /** B + r·T. */
  readonly bound: number
  readonly utilisation: number
  readonly excess: number
  readonly allowed: number
  readonly formula: string
  /** Admitted by a replica alone, because Redis did not answer it within its 50 ms. */
  readonly alone: number
  /** Units that Redis charged, where the bucket refills so slowly that this can be read off it. */
  readonly charged: number | undefined
  /** The excess of what the ledgers themselves admitted, all that was admitted alone left out. */
  readonly ledgerExcess: number
  readonly refused: number
  /** Visits to the ledgers that asked for something and got nothing. */
  readonly vain: number
  /** Callers who were told that nobody can count: a 503 of the gateway. */
  readonly unavailable: number
  /**
   * Per admission, from INFO commandstats: everything that Redis did for limits, the commands inside of scripts
   * included, connections too; without heartbeats and INFO itself.
   */
  readonly commands: number | undefined
  /** Of these, what was sent to Redis: one script is one. */
  readonly trips: number | undefined
  readonly commandsPerSecond: number | undefined
  readonly longestMs: number
  readonly p99Ms: number
  /** How long a loop of theirs stood still at most, which is in the longest. */
  readonly stalledMs: number
  /** From the return of Redis until it decides at every replica. */
  readonly exactAgainMs: number | undefined
  readonly byOrigin: Readonly<Record<string, number>>
}

const KEY: Readonly<Record<Case['mode'], string>> = {
  exact: 'slc:1:{hot}:b:agent:hot',
  leases: 'slc:1:{gateway}:b:gateway:gateway',
}

/** Runs a case. Everything it started is gone afterwards. */
export function runCase(it: Case): Promise<Outcome> {
  return withEnds((ends) => run(it, ends))
}

async function run(it: Case, ends: Ends): Promise<Outcome> {
  const field = await openField(it.redis, ends)
  const subject: Subject = {
    ...(it.mode === 'exact'
      ? ({ kind: 'agent', id: 'hot', tag: 'hot' } as const)
      : ({ kind: 'gateway', id: 'gateway', tag: 'gateway' } as const)),
    limits: {
      requests: { capacity: it.capacity, intervalUs: 1e6 / it.perSecond },
      strict: it.mode === 'exact',
    },
  }
  const job = (place: number, forMs: number): Omit<LimiterJob, 'file'> => ({
    servers: it.direct?.(place) === true ? serversAt(field.redis().url) : field.servers,
    replica: `r${place}-${process.hrtime.bigint()}`,
    leases: it.mode === 'leases',
    subjects: [subject],
    callers: it.callers ?? 16,
    thinkMs: 0,
    isImpatient: it.isImpatient ?? false,
    forMs,
    replicas: it.replicas,
    ...it.replica?.(place),
  })
  const limiters: Limiter[] = []
  ends.push(async () => {
    for (const limiter of limiters) {
      limiter.kill('SIGKILL')
      limiter.kill('SIGCONT')
    }
    await Promise.all(limiters.map(({ done }) => done))
  })
  const begin = await prepareLimiters(Array.from({ length: it.replicas }, (_, i) => job(i, it.forMs)))
  const before = await field.commands()
  const beganUs = await timeOf(field.redis())
  limiters.push(...begin())

  const excused = new Set<Member>()
  let returnedUs: number | undefined
  const scene = createScene(field, {
    key: KEY[it.mode],
    members: limiters,
    returned() {
      returnedUs = monotonicUs()
    },
    async join(forMs: number) {
      const [one] = (await prepareLimiters([job(limiters.length, forMs)]))()
      if (one === undefined) throw new Error('nobody came')
      limiters.push(one)
      return one
    },
    excuse: (member) => void excused.add(member),
  })
  await it.nemesis?.(scene)
  const all = await Promise.all(limiters.map(async (limiter) => ({ limiter, figures: await limiter.done })))
  const after = await field.commands()

  const charged =
    it.perSecond < 1 ? await chargedSince(field.redis(), { key: KEY[it.mode], beganUs, ...it }) : undefined
  const history = merge(limiters.map((limiter) => limiter.admissions()))
  const decided = merge(limiters.map((limiter) => limiter.admissions('ledgers')))
  const rate: Rate = { capacity: it.capacity, intervalUs: 1e6 / it.perSecond }
  const admitted = history.length / 2
  const seconds = spanSeconds(history)
  const bound = it.capacity + seconds * it.perSecond
  const told = all.flatMap(({ figures }) => (figures === undefined ? [] : [figures]))
  const timed = all.flatMap(({ limiter, figures }) =>
    figures === undefined || excused.has(limiter) ? [] : [figures],
  )
  const stayed = all.filter(({ limiter, figures }) => figures !== undefined && !excused.has(limiter))
  /** The first moment behind `sinceUs` at which Redis decided there. */
  const backAt = ({ changes }: Limiter, sinceUs: number): number =>
    changes.findLast(({ atUs }) => atUs <= sinceUs)?.up === false
      ? (changes.find(({ up, atUs }) => up && atUs > sinceUs)?.atUs ?? Number.POSITIVE_INFINITY)
      : sinceUs
  const most = (of: (figures: LimiterFigures) => number): number => Math.max(0, ...timed.map(of))
  const total = (of: (figures: LimiterFigures) => number): number =>
    told.reduce((sum, one) => sum + of(one), 0)
  const byOrigin: Record<string, number> = {}
  for (const { byOrigin: own } of told)
    for (const [origin, count] of Object.entries(own)) byOrigin[origin] = (byOrigin[origin] ?? 0) + count
  const counted = it.nemesis === undefined
  const nl = it.mode === 'leases' ? Math.floor(it.capacity / 2) : 0
  return {
    name: it.name,
    mode: it.mode,
    replicas: it.replicas,
    seconds,
    admitted,
    bound,
    utilisation: admitted / bound,
    excess: excessOf(history, rate),
    charged,
    alone: admitted - decided.length / 2,
    ledgerExcess: excessOf(decided, rate),
    allowed: it.allowed({ b: it.capacity, r: it.perSecond, n: it.replicas, nl }),
    formula: it.formula,
    refused: total(({ refused }) => refused),
    vain: total(({ vain }) => vain),
    unavailable: total(({ unavailable }) => unavailable),
    commands: counted ? (after.all - before.all) / admitted : undefined,
    trips: counted ? (after.sent - before.sent) / admitted : undefined,
    commandsPerSecond: counted ? (after.all - before.all) / (it.forMs / 1000) : undefined,
    longestMs: most(({ longestMs }) => longestMs),
    p99Ms: most(({ p99Ms }) => p99Ms),
    stalledMs: most(({ stalledMs }) => stalledMs),
    exactAgainMs:
      returnedUs === undefined
        ? undefined
        : (Math.max(...stayed.map(({ limiter }) => backAt(limiter, returnedUs as number))) - returnedUs) /
          1000,
    byOrigin,
  }
}

/** Redis' clock, µs. */
async function timeOf(redis: TestRedis): Promise<number> {
  const [seconds, micros] = [await redis.command('TIME')].flat()
  return Number(seconds) * 1e6 + Number(micros)
}

/** A bucket that was full then, by the time at which it will be full again. */
async function chargedSince(
  redis: TestRedis,
  { key, beganUs, perSecond }: { key: string; beganUs: number; perSecond: number },
): Promise<number> {
  const [us = 0, part = 0] = String((await redis.command('HGET', key, 'r')) ?? '0 0')
    .split(' ')
    .map(Number)
  return us === 0 ? 0 : ((us + part - beganUs) * perSecond) / 1e6
}

/** CLOCK_MONOTONIC, the same for all processes of the machine. */
export function monotonicUs(): number {
  return Number(process.hrtime.bigint()) / 1000
}
