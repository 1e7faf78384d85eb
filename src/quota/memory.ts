// The ledgers in this process: ledger.ts over a map, decided on the spot. Also the shadow that outage.ts decides on
// while Redis is away, and what the primary keeps for its workers. Time is the clock's monotonic one.

import type { Clock } from '../types.ts'
import { toTat } from './bucket.ts'
import {
  type Answer,
  emptyLedger,
  isBlank,
  type Ledger,
  type Report,
  type Standing,
  type Visit,
  type Visitor,
  visit,
} from './ledger.ts'
import type { Authority, Reply } from './store.ts'

export interface MemoryAuthority extends Authority {
  visit(visits: readonly Visit[]): readonly Reply[]
  /** One visit of somebody else than this replica. */
  visitOf(visit: Visit, visitor: Visitor): Answer
  /**
   * A visitor is known to have died: its slots are free at once. What it had of requests, tokens and money was charged
   * and stays so; a lease of its ends by itself within a second, as it may have been spent to the last moment.
   */
  forget(replica: string): void
  /** Takes over how an account stands elsewhere, instead of what is known here. */
  mirror(report: Report, standing: Standing): void
  /** How many ledgers and slots are kept, for tests and gauges. */
  size(): { readonly ledgers: number; readonly slots: number }
}

export interface MemoryAuthorityOptions {
  readonly clock: Clock
  readonly replica?: string | undefined
  /** Unix µs at which the clock stood at 0, for the calendar of budgets. */
  readonly epochUs?: number | undefined
  /** Ledgers kept at most. The one known longest goes first, and would begin again with a full bucket. */
  readonly maxLedgers?: number | undefined
}

/**
 * How many ledgers are looked at for each new one. More than one, so the sweep goes round faster than the map
 * grows, and it holds little more than the subjects that are not full.
 */
const SWEPT_PER_NEW = 4

/** Makes an empty authority: every bucket full, every slot free. */
export function createMemoryAuthority({
  clock,
  replica = 'here',
  epochUs = 0,
  maxLedgers = 1_000_000,
}: MemoryAuthorityOptions): MemoryAuthority {
  const ledgers = new Map<string, Ledger>()
  let latestUs = 0
  let next = ledgers.entries()

  /** Whole µs. Never goes back, or a ledger swept as blank would be given out twice. */
  function nowUs(): number {
    latestUs = Math.max(latestUs, epochUs + Math.floor(clock.now() * 1000))
    return latestUs
  }

  /** Keeps what says something, and forgets what does not. */
  function keep(key: string, ledger: Ledger, now: number): void {
    if (isBlank(ledger, now)) {
      ledgers.delete(key)
      return
    }
    if (ledgers.has(key)) return
    sweep()
    if (ledgers.size >= maxLedgers) {
      const oldest = ledgers.keys().next()
      if (oldest.done !== true) ledgers.delete(oldest.value)
    }
    ledgers.set(key, ledger)
  }

  /** Drops a few ledgers that are no different from unknown ones. */
  function sweep(): void {
    for (let i = 0; i < SWEPT_PER_NEW; i++) {
      const entry = next.next()
      if (entry.done === true) next = ledgers.entries()
      else if (isBlank(entry.value[1], latestUs)) ledgers.delete(entry.value[0])
    }
  }

  function visitOf(one: Visit, visitor: Visitor): Answer {
    const now = nowUs()
    const visited = one.reports.map(({ account }) => ledgers.get(account.key) ?? emptyLedger())
    const answer = visit(visited, one, visitor, now)
    for (const [i, { account }] of one.reports.entries()) keep(account.key, visited[i] as Ledger, now)
    return answer
  }

  return {
    fleet: 1,
    divisor: 1,
    onReturn() {},
    visitOf,
    visit: (visits) =>
      visits.map((one) => ({
        origin: 'store',
        answer: visitOf(one, { replica, fleet: 1 }),
        owed: undefined,
      })),

    forget(gone) {
      for (const { leases } of ledgers.values()) {
        const lease = leases.get(gone)
        if (lease === undefined) continue
        lease.slots = 0
        lease.slotsUntilUs = 0
        lease.wantsUntilUs = 0
      }
    },

    mirror({ account }, standing) {
      const now = nowUs()
      const ledger = emptyLedger()
      // Full at the same time as the whole, by the interval of a share, which is not known here.
      for (const kind of ['requests', 'tokens'] as const) {
        const levelUs = standing[kind] ?? 0
        if (levelUs > 0) ledger[kind] = { ...toTat(levelUs, now), intervalUs: undefined }
      }
      ledgers.delete(account.key)
      keep(account.key, ledger, now)
    },

    size() {
      const now = nowUs()
      let slots = 0
      for (const { leases } of ledgers.values())
        for (const lease of leases.values()) if (lease.slotsUntilUs > now) slots += lease.slots
      return { ledgers: ledgers.size, slots }
    },

    async close() {},
  }
}
