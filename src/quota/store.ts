// What a store of limits is asked and what it answers. Values and interfaces, no behaviour. The way down: meter.ts
// (what may a request cost?) → leases.ts (a Store: what this replica has in hand, one purse.ts an account) → outage.ts
// (who decides while Redis is away) → redis.ts or memory.ts (an Authority: keeps the ledgers of ledger.ts).

import type { Budget, Rate, Subject } from '../types.ts'
import type { Answer, Units, Visit } from './ledger.ts'

/** A limited subject with the name of its state; made once per subject by account.ts. */
export interface Account {
  readonly subject: Subject
  /** Where its ledger lives, `slc:1:{tag}:b:kind:id`. */
  readonly key: string
  /** Rates as bucket.ts `exact` makes them; undefined is unlimited. */
  readonly requests: Rate | undefined
  readonly tokens: Rate | undefined
  /** Slots at once; undefined is unlimited. */
  readonly concurrency: number | undefined
  /** Micros of a USD in a UTC day or month. */
  readonly budget: Budget | undefined
  /** Every request is decided at the ledger, none ahead of need. */
  readonly strict: boolean
}

export type Kind = 'requests' | 'tokens' | 'concurrency' | 'budget'

/** What a claim wants of one account, in units; kinds without a limit cost nothing. A slot where slots are limited. */
export interface Ask {
  readonly account: Account
  readonly requests: number
  readonly tokens: number
  readonly micros: number
}

/** One decision: every ask is granted, or nothing is taken. */
export interface Claim {
  readonly id: string
  readonly asks: readonly Ask[]
}

/** µs until each bucket of an ask is full (see bucket.ts `remaining` for units); undefined where unlimited. */
export interface Levels {
  readonly requests: number | undefined
  readonly tokens: number | undefined
  /** Among how many replicas the limit was shared by whoever told; 1 where it was the ledgers. */
  readonly sharedBy: number
}

/**
 * Who decided. `lease`: nobody was asked; `local`: this process, for Redis is away; `unsure`: this process, because
 * Redis did not answer in time, and may have charged as well.
 */
export type Origin = 'store' | 'lease' | 'local' | 'unsure'

export interface Granted {
  readonly ok: true
  readonly origin: Origin
  /** The ledgers' own clock at the decision, or as last known, µs. */
  readonly nowUs: number
  /** This process's monotonic one, ms. */
  readonly atMs: number
  /** After the taking, in the order of the asks. */
  readonly levels: readonly Levels[]
  /** Asks that were decided as `unsure`; the others are charged, or owed. */
  readonly unsure: readonly Ask[]
}

/** Nothing was taken. With several reasons: money, else the one with the longest wait. */
export interface Refused {
  readonly ok: false
  readonly kind: Kind
  /** The ask that refused. */
  readonly ask: Ask
  /** Until the same claim would be admitted if nobody else came, µs; CONCURRENCY_WAIT_US for slots. */
  readonly waitUs: number
  readonly levels: readonly Levels[]
}

/** Nobody can count, and the gateway was told to deny in that case; for money always. */
export interface Unavailable {
  readonly ok: false
  readonly kind: 'unavailable'
}

export type Grant = Granted | Refused | Unavailable

/** The end of a claim: its slots come back, its tokens and its money are moved to what was used. */
export interface Settlement {
  readonly claim: Claim
  readonly grant: Granted
  /** Tokens really used; the difference to each ask is charged or given back. Undefined leaves the reservation. */
  readonly usedTokens: number | undefined
  readonly usedMicros: number | undefined
}

export interface Store {
  /** Decides all or nothing. Never rejects. */
  take(claim: Claim): Grant | Promise<Grant>
  /** Returns at once, off the path of any request; never throws. */
  settle(settlements: readonly Settlement[]): void
  /**
   * How accounts stand, in their order, without taking anything. What was not told by the ledgers a moment ago is
   * asked of them, up to a bound; never rejects, and never waits long.
   */
  look(accounts: readonly Account[]): Promise<readonly InHand[]>
  /** Gives back what is in hand, sends what still waits, then lets go of sockets and timers. */
  close(): Promise<void>
}

/** What this replica has of one account, and what it was told of it. */
export interface InHand {
  readonly account: Account
  /** Who said how it stands: the ledgers, this process on its share while they are away, or nobody yet. */
  readonly toldBy: 'ledgers' | 'share' | 'nobody'
  /** The ledgers' own clock as it must be now, µs. */
  readonly nowUs: number
  readonly lease: Units
  /** Requests under way here, and slots kept ready. */
  readonly slotsUsed: number
  readonly slotsReady: number
  /** Slots held by all replicas, as last told. */
  readonly slotsOfAll: number
  /** µs until full as last told, brought to now; what is in hand counts as there. */
  readonly levels: Levels
  /** What is out on lease, here or elsewhere, counts as spent. */
  readonly spentMicros: number
  /** Still to be told to the ledgers. */
  readonly unsettled: Units
}

/** An answer, and who gave it. */
export interface Reply {
  readonly origin: Exclude<Origin, 'lease'>
  readonly answer: Answer
  /** What the ledgers must be told of each report once they can be reached again; undefined: nothing. */
  readonly owed: readonly Units[] | undefined
  /** What the ledgers themselves decided of a visit that was answered here in their place; may never be known. */
  readonly late?: Promise<Answer | undefined> | undefined
}

/** Who keeps the ledgers. */
export interface Authority {
  /**
   * Visits of this replica, each to the ledgers of one tag, answered in their order. A rejection says that nobody
   * decided, and that it is not known what was heard.
   */
  visit(visits: readonly Visit[]): readonly Reply[] | Promise<readonly Reply[]>
  /** Replicas that share the limits, as last known, this one included. */
  readonly fleet: number
  /** Among how many a limit is shared while the ledgers cannot be reached. */
  readonly divisor: number
  /** Calls when the ledgers can be reached again after they could not. */
  onReturn(listener: () => void): void
  close(): Promise<void>
}

/** Nobody knows when a slot comes back, so the answer is a fixed second (design §5). */
export const CONCURRENCY_WAIT_US = 1_000_000

/** Timers, passed in so that tests can move them. */
export interface Timers {
  /** Calls once after the delay and returns what cancels it. Does not keep the process alive. */
  after(delayMs: number, callback: () => void): () => void
  /** Calls after the input that already waits at the sockets was read. */
  soon(callback: () => void): void
}

/** The event loop's own. */
export const systemTimers: Timers = {
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
  soon(callback) {
    setImmediate(callback)
  },
}

/** The part of pino that this room uses. */
export interface Log {
  info(fields: Readonly<Record<string, unknown>>, message: string): void
  warn(fields: Readonly<Record<string, unknown>>, message: string): void
}
