// The store in this process: bucket.ts over two maps, decided on the spot. Also the shadow that outage.ts decides
// on while Redis is away. Time is the clock's monotonic one; it must not read any other.

import type { Clock, Rate } from '../types.ts'
import { settle, type Tat, take, toTat, untilFullUs } from './bucket.ts'
import {
  type Claim,
  CONCURRENCY_WAIT_US,
  type Granted,
  type Levels,
  type Refused,
  type Store,
} from './store.ts'

export interface MemoryStore extends Store {
  take(claim: Claim): Granted | Refused
  /** Takes over what another store granted: its levels and its slots, instead of what is known here. */
  mirror(claim: Claim, granted: Granted): void
  /** How many buckets and slots are kept, for tests and gauges. */
  size(): { readonly buckets: number; readonly slots: number }
}

export interface MemoryStoreOptions {
  readonly clock: Clock
  /** Subjects kept at most. The one known longest goes first, and would begin again with a full bucket. */
  readonly maxSubjects?: number | undefined
}

/** Both buckets of one subject; undefined is full. */
interface Buckets {
  requests: Tat | undefined
  tokens: Tat | undefined
}

/** Slots of one subject: member → expiry in ms. */
type Slots = Map<string, number>

/**
 * How many subjects are looked at for each new one. More than one, so the sweep goes round faster than the maps
 * grow, and they hold little more than the subjects that are not full.
 */
const SWEPT_PER_NEW = 4

/** Makes an empty store: every bucket full, every slot free. */
export function createMemoryStore({ clock, maxSubjects = 1_000_000 }: MemoryStoreOptions): MemoryStore {
  const buckets = new Map<string, Buckets>()
  const slots = new Map<string, Slots>()
  let latestUs = 0
  let nextBuckets = buckets.entries()
  let nextSlots = slots.entries()

  /** Whole µs. Never goes back, or a bucket swept as full would be given out twice. */
  function nowUs(): number {
    latestUs = Math.max(latestUs, Math.floor(clock.now() * 1000))
    return latestUs
  }

  function bucketsOf(key: string): Buckets {
    let kept = buckets.get(key)
    if (kept === undefined) {
      sweep()
      if (buckets.size >= maxSubjects) dropOldest(buckets)
      kept = { requests: undefined, tokens: undefined }
      buckets.set(key, kept)
    }
    return kept
  }

  function slotsOf(key: string): Slots {
    let kept = slots.get(key)
    if (kept === undefined) {
      sweep()
      if (slots.size >= maxSubjects) dropOldest(slots)
      kept = new Map()
      slots.set(key, kept)
    }
    return kept
  }

  /** Drops a few subjects that are no different from unknown ones: full buckets, slots that are all over. */
  function sweep(): void {
    for (let i = 0; i < SWEPT_PER_NEW; i++) {
      const bucket = nextBuckets.next()
      if (bucket.done === true) nextBuckets = buckets.entries()
      else {
        const [key, { requests, tokens }] = bucket.value
        if (untilFullUs(requests, latestUs) === 0 && untilFullUs(tokens, latestUs) === 0) buckets.delete(key)
      }
      const slot = nextSlots.next()
      if (slot.done === true) nextSlots = slots.entries()
      else if (liveSlots(slot.value[1], Math.floor(latestUs / 1000)) === 0) slots.delete(slot.value[0])
    }
  }

  function levelsOf(claim: Claim, now: number): Levels[] {
    return claim.asks.map(({ account }) => {
      const kept = buckets.get(account.bucketKey)
      return {
        requests: account.requests && untilFullUs(kept?.requests, now),
        tokens: account.tokens && untilFullUs(kept?.tokens, now),
      }
    })
  }

  return {
    take(claim) {
      const now = nowUs()
      const nowMs = Math.floor(now / 1000)
      let refusal: Pick<Refused, 'kind' | 'ask' | 'waitUs'> | undefined
      const refuse = (kind: Refused['kind'], ask: Refused['ask'], waitUs: number): void => {
        if (waitUs > (refusal?.waitUs ?? 0)) refusal = { kind, ask, waitUs }
      }
      // Rates of all first and then slots, as the script has it: of two equal waits the first is reported.
      for (const ask of claim.asks) {
        const kept = buckets.get(ask.account.bucketKey)
        refuse('requests', ask, waitOf(kept?.requests, ask.account.requests, ask.requests, now))
        refuse('tokens', ask, waitOf(kept?.tokens, ask.account.tokens, ask.tokens, now))
      }
      for (const ask of claim.asks) {
        const { concurrency, slotKey } = ask.account
        if (concurrency === undefined) continue
        const kept = slots.get(slotKey)
        if ((kept === undefined ? 0 : liveSlots(kept, nowMs)) >= concurrency)
          refuse('concurrency', ask, CONCURRENCY_WAIT_US)
      }
      if (refusal !== undefined) return { ok: false, ...refusal, levels: levelsOf(claim, now) }

      for (const { account, requests, tokens } of claim.asks) {
        if (account.requests !== undefined || account.tokens !== undefined) {
          const kept = bucketsOf(account.bucketKey)
          if (account.requests !== undefined)
            kept.requests = settle(kept.requests, account.requests, requests, now)
          if (account.tokens !== undefined) kept.tokens = settle(kept.tokens, account.tokens, tokens, now)
        }
        if (account.concurrency !== undefined) slotsOf(account.slotKey).set(claim.id, nowMs + claim.slotMs)
      }
      return { ok: true, origin: 'store', nowUs: now, levels: levelsOf(claim, now) }
    },

    mirror(claim, granted) {
      const now = nowUs()
      const nowMs = Math.floor(now / 1000)
      claim.asks.forEach(({ account }, i) => {
        const levels = granted.levels[i]
        if (levels?.requests !== undefined || levels?.tokens !== undefined) {
          const kept = bucketsOf(account.bucketKey)
          if (levels.requests !== undefined) kept.requests = toTat(levels.requests, now)
          if (levels.tokens !== undefined) kept.tokens = toTat(levels.tokens, now)
        }
        if (account.concurrency !== undefined) slotsOf(account.slotKey).set(claim.id, nowMs + claim.slotMs)
      })
    },

    settle(settlements) {
      const now = nowUs()
      for (const { claim, usedTokens } of settlements) {
        for (const { account, tokens } of claim.asks) {
          if (account.tokens !== undefined && usedTokens !== undefined && usedTokens !== tokens) {
            const kept = buckets.get(account.bucketKey)
            // An unknown bucket is full: only a charge makes it known.
            if (kept !== undefined)
              kept.tokens = settle(kept.tokens, account.tokens, usedTokens - tokens, now)
            else if (usedTokens > tokens)
              bucketsOf(account.bucketKey).tokens = settle(
                undefined,
                account.tokens,
                usedTokens - tokens,
                now,
              )
          }
          if (account.concurrency !== undefined) {
            const kept = slots.get(account.slotKey)
            kept?.delete(claim.id)
            if (kept?.size === 0) slots.delete(account.slotKey)
          }
        }
      }
    },

    size() {
      let held = 0
      for (const kept of slots.values()) held += kept.size
      return { buckets: buckets.size, slots: held }
    },

    async close() {},
  }
}

/** µs until `cost` fits; 0 when it does, or when there is no limit. */
function waitOf(tat: Tat | undefined, rate: Rate | undefined, cost: number, now: number): number {
  if (rate === undefined) return 0
  const taken = take(tat, rate, cost, now)
  return taken.ok ? 0 : taken.waitUs
}

/** Forgets the slots that are over and counts the others. */
function liveSlots(kept: Slots, nowMs: number): number {
  for (const [member, expiryMs] of kept) if (expiryMs <= nowMs) kept.delete(member)
  return kept.size
}

function dropOldest(kept: Map<string, unknown>): void {
  const oldest = kept.keys().next()
  if (oldest.done !== true) kept.delete(oldest.value)
}
