// What a store of limits is asked and what it answers. Three shapes stand behind it: this process (memory.ts),
// Redis (redis.ts, behind outage.ts), and later the primary of the workers. Values and one interface, no behaviour.

import type { Rate, Subject } from '../types.ts'

/** A limited subject with the names of its state; made once per subject by account.ts. */
export interface Account {
  readonly subject: Subject
  /** Where its token buckets live, `slc:1:{tag}:b:kind:id`. */
  readonly bucketKey: string
  /** Where its slots live, `slc:1:{tag}:c:kind:id`. */
  readonly slotKey: string
  /** Rates as bucket.ts `exact` makes them; undefined is unlimited. */
  readonly requests: Rate | undefined
  readonly tokens: Rate | undefined
  /** Slots at once; undefined is unlimited. */
  readonly concurrency: number | undefined
}

/** What a claim wants of one account, in units; kinds without a limit cost nothing. */
export interface Ask {
  readonly account: Account
  readonly requests: number
  readonly tokens: number
}

/** One decision: every ask is granted, or nothing is taken. */
export interface Claim {
  /** Names the slots it takes, so that they can be given back; unique over the fleet. */
  readonly id: string
  readonly asks: readonly Ask[]
  /** Life of its slots in ms from now, for the case that nobody gives them back. */
  readonly slotMs: number
}

/** µs until each bucket of an ask is full (see bucket.ts `remaining` for units); undefined where unlimited. */
export interface Levels {
  readonly requests: number | undefined
  readonly tokens: number | undefined
}

/**
 * Who decided, and so where the claim is settled. `unsure`: the store was asked, did not answer in time, and a
 * local store decided; what the first may have taken counts as taken, its slots are given back.
 */
export type Origin = 'store' | 'local' | 'unsure'

export interface Granted {
  readonly ok: true
  readonly origin: Origin
  /** The store's own clock at the decision, µs. */
  readonly nowUs: number
  /** After the taking, in the order of the asks. */
  readonly levels: readonly Levels[]
}

/** Nothing was taken. With several reasons, the one with the longest wait. */
export interface Refused {
  readonly ok: false
  readonly kind: 'requests' | 'tokens' | 'concurrency'
  /** The ask that refused. */
  readonly ask: Ask
  /** Until the same claim would be admitted if nobody else came, µs; CONCURRENCY_WAIT_US for slots. */
  readonly waitUs: number
  readonly levels: readonly Levels[]
}

/** The store cannot count, and was told to deny in that case. */
export interface Unavailable {
  readonly ok: false
  readonly kind: 'unavailable'
}

export type Grant = Granted | Refused | Unavailable

/** The end of a claim: its slots come back, its tokens are moved to what was used. */
export interface Settlement {
  readonly claim: Claim
  readonly origin: Origin
  /** Tokens really used; the difference to each ask is charged or refunded. Undefined leaves the reservation. */
  readonly usedTokens: number | undefined
}

export interface Store {
  /** Decides all or nothing. `redis.ts` rejects with StoreFailure when it cannot; the others never reject. */
  take(claim: Claim): Grant | Promise<Grant>
  /** Returns at once, off the path of any request; never throws. Later ones of the same turn travel together. */
  settle(settlements: readonly Settlement[]): void
  /** Sends what is still waiting, then lets go of sockets and timers. */
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
