// Redis with a fuse: while it is away or slow, this process decides on its share of each limit, or denies, and goes
// back by itself. No request waits longer than one timeout, and none is let through uncounted: what was admitted here
// is owed to the ledgers, and told as such (`Reply.owed`); who keeps it until they can be reached is purse.ts.

import type { RedisSettings } from '../config/snapshot.ts'
import { toShare } from './account.ts'
import {
  type Answer,
  isNothing,
  NO_UNITS,
  type No,
  type Part,
  type Report,
  sum,
  type Units,
  type Visit,
} from './ledger.ts'
import type { MemoryAuthority } from './memory.ts'
import { type RedisLedgers, StoreFailure } from './redis.ts'
import type { Account, Authority, Log, Reply, Timers } from './store.ts'

export interface OutageAuthority extends Authority {
  /** Whether Redis decides. */
  readonly up: boolean
  /** Connects; resolves once Redis has answered, or after about a second when it does not. Never rejects. */
  start(): Promise<void>
}

export interface OutageOptions {
  readonly redis: RedisLedgers
  /** Knows of every answer of Redis what it left, so that an outage begins there and not with full buckets. */
  readonly shadow: MemoryAuthority
  readonly onOutage: RedisSettings['onOutage']
  /** How many replicas to assume, at least, while the fleet cannot be seen. */
  readonly replicas: number
  readonly timers: Timers
  readonly log: Log
  /** 0..1, for the jitter of probes. */
  readonly random: () => number
  /** Called after each change of `up`. */
  readonly onChange?: ((up: boolean) => void) | undefined
}

/** Ledgers that a shadow keeps at most, about 500 B each: of the others it begins with a full share. */
export const SHADOWS = 50_000

const FAILURES_TO_OPEN = 3
const PROBE_MS = 250
const HEARTBEAT_MS = 1_000
const COMPLAINT_MS = 60_000

/** Wraps Redis. `up` is false until `start` has seen it answer. */
export function createOutageAuthority(options: OutageOptions): OutageAuthority {
  const { redis, shadow, onOutage, replicas, timers, log, random, onChange = () => {} } = options
  let up = false
  let failures = 0
  /** Somebody has waited in vain: until Redis has answered a probe, or is given up, nobody else waits for it. */
  let inDoubt = false
  let pending = 0
  let fleet = 1
  let beating: Promise<void> | undefined
  let cancelBeat = (): void => {}
  let onReturn = (): void => {}
  let closed = false
  let complained = false

  redis.onConnection((usable) => {
    if (!usable) open('connection lost')
    else if (!up) void beat()
  })

  // --- the fuse ------------------------------------------------------------------------------------------------

  function open(reason: string): void {
    if (!up || closed) return
    up = false
    inDoubt = false
    log.warn({ reason, onOutage, replicas: divisor() }, 'redis is away: limits are decided here')
    onChange(false)
    beatLater()
  }

  function close(): void {
    failures = 0
    if (closed || (up && !inDoubt)) return
    inDoubt = false
    if (!up) {
      up = true
      log.info({ replicas: fleet }, 'redis decides the limits')
      onChange(true)
    }
    onReturn()
  }

  function beatLater(): void {
    cancelBeat()
    const ms = inDoubt ? 0 : up ? HEARTBEAT_MS : PROBE_MS
    if (!closed) cancelBeat = timers.after(ms * (0.8 + 0.4 * random()), () => void beat())
  }

  /** The heartbeat is the probe as well. One at a time; the next is due a while after it has ended. */
  function beat(): Promise<void> {
    if (beating !== undefined) return beating
    cancelBeat()
    beating = redis.heartbeat().then(
      (count) => {
        beating = undefined
        fleet = count
        close()
        beatLater()
      },
      (error: unknown) => {
        beating = undefined
        if (up) failed(error)
        beatLater()
      },
    )
    return beating
  }

  /** One line a minute: a ledger that cannot be read stays so until somebody mends it. */
  function complain({ message }: StoreFailure): void {
    if (complained) return
    complained = true
    timers.after(COMPLAINT_MS, () => {
      complained = false
    })
    log.warn({ reason: message }, 'a ledger in redis cannot be used: it is decided here')
  }

  function failed(error: unknown): void {
    failures++
    const slow = error instanceof StoreFailure && error.reason === 'timeout'
    if (failures >= FAILURES_TO_OPEN || (slow && pending > 0))
      open(error instanceof Error ? error.message : String(error))
    else if (slow && up) inDoubt = true
  }

  // --- deciding here -------------------------------------------------------------------------------------------

  function divisor(): number {
    return Math.max(fleet, replicas)
  }

  let sharedBy = 0
  let shares = new WeakMap<Account, Account>()
  function shareOf(account: Account): Account {
    if (sharedBy !== divisor()) {
      sharedBy = divisor()
      shares = new WeakMap()
    }
    let share = shares.get(account)
    if (share === undefined) {
      share = toShare(account, sharedBy)
      shares.set(account, share)
    }
    return share
  }

  function decideHere(visit: Visit, origin: 'local' | 'unsure'): Reply {
    const answer = answerHere(visit)
    const owed = visit.reports.map((report, at) => owedOf(report, at, { visit, answer, origin }))
    return { origin, answer, owed }
  }

  /** Money, and everything where it was told to deny, waits for the ledgers. */
  function answerHere(visit: Visit): Answer {
    const deniedAt = (parts: readonly Part[]): number =>
      parts.findIndex(({ at }) => onOutage === 'deny' || visit.reports[at]?.account.budget !== undefined)
    const claims = visit.claims.filter((parts) => deniedAt(parts) < 0)
    const { answer } = shadow.visit([
      {
        generation: visit.generation,
        claims,
        reports: visit.reports.map((report) => ({
          ...report,
          account: shareOf(report.account),
          owed: NO_UNITS,
          ahead: NO_UNITS,
        })),
      },
    ])[0] as Reply
    let decided = 0
    const refusals = visit.claims.map((parts): No | undefined => {
      const at = deniedAt(parts)
      return at < 0 ? answer.refusals[decided++] : { at, kind: 'unavailable', waitUs: 0 }
    })
    return { ...answer, refusals }
  }

  /** What Redis must be told later. A doubt is not told again: a refund could come twice, and a charge is one already. */
  function owedOf(
    { moved, owed }: Report,
    at: number,
    { visit, answer, origin }: { visit: Visit; answer: Answer; origin: 'local' | 'unsure' },
  ): Units {
    if (origin === 'unsure') return charges(sum(moved, owed))
    let total = sum(moved, owed)
    visit.claims.forEach((parts, i) => {
      if (answer.refusals[i] !== undefined) return
      for (const part of parts) if (part.at === at) total = sum(total, part)
    })
    return total
  }

  function mirror({ reports }: Visit, { standings }: Answer): void {
    for (const [i, report] of reports.entries()) {
      const standing = standings[i]
      if (standing !== undefined) shadow.mirror(report, standing)
    }
  }

  return {
    get up() {
      return up
    },
    get fleet() {
      return fleet
    },
    get divisor() {
      return divisor()
    },
    onReturn(listener) {
      onReturn = listener
    },

    async start() {
      await redis.connect()
      await beat()
    },

    visit(visits) {
      // A request visits its agent's ledgers and then those of one provider after the other: it waits for one of them.
      if (!up || inDoubt) return visits.map((visit) => decideHere(visit, 'local'))
      pending++
      return redis.visit(visits, fleet).then((answers) => {
        pending--
        const failure = answers.find((answer) => answer instanceof StoreFailure && !answer.alone)
        if (failure === undefined) failures = 0
        else {
          failed(failure)
          if (inDoubt) void beat()
        }
        const broken = answers.find((answer) => answer instanceof StoreFailure && answer.alone)
        if (broken instanceof StoreFailure) complain(broken)
        return visits.map((visit, i): Reply => {
          const answer = answers[i] as Answer | StoreFailure
          if (answer instanceof StoreFailure)
            return { ...decideHere(visit, answer.unsure ? 'unsure' : 'local'), late: answer.late }
          mirror(visit, answer)
          return { origin: 'store', answer, owed: undefined }
        })
      })
    },

    async close() {
      closed = true
      cancelBeat()
      await redis.close()
      await shadow.close()
    },
  }
}

/** Without the refunds. */
function charges(units: Units): Units {
  if (isNothing(units)) return units
  return {
    requests: Math.max(units.requests, 0),
    tokens: Math.max(units.tokens, 0),
    micros: Math.max(units.micros, 0),
  }
}
