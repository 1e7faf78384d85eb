// A second call beside one that is slow (`hedge`): how many a tier may have, and which of two is the answer. What a call
// is, and who gets the second one, is call.ts's.

import { Ending } from '../bytes/ending.ts'
import type { Attempt, EndSignal } from '../types.ts'

/** How many second calls a tier may have: keyed by its name and made in main.ts, so that no reload resets it. */
export interface Hedges {
  /** A request comes that may have one: it earns the tier `share` of a call. */
  earn(tier: string, share: number): void
  /** Takes one, if it has been earned. */
  take(tier: string): boolean
}

/** What a tier can save up: after a quiet hour it must not begin with a storm. */
const MOST_SAVED = 5

export function createHedges(): Hedges {
  const saved = new Map<string, number>()
  return {
    earn: (tier, share) => void saved.set(tier, Math.min((saved.get(tier) ?? 0) + share, MOST_SAVED)),
    take(tier) {
      const have = saved.get(tier) ?? 0
      // Twenty twentieths are a little less than one.
      if (have < 1 - 1e-9) return false
      saved.set(tier, have - 1)
      return true
    },
  }
}

/** One of the calls of a race. */
export interface Leg {
  /** Aborts when the caller goes, and when another one answers. */
  readonly signal: EndSignal
  /** It has the answer, or the word that is final: the others are called off. */
  wins(): void
  readonly attempt: Attempt
}

export interface Race {
  leg(attempt: Attempt): Leg
  /** Resolves when one has won. */
  readonly won: Promise<void>
  isWon(): boolean
}

/** A race for one request, whose caller goes when `signal` says so. */
export function createRace(signal: EndSignal): Race {
  const legs: { readonly attempt: Attempt; readonly off: Ending }[] = []
  const { promise, resolve } = Promise.withResolvers<void>()
  let isWon = false
  return {
    won: promise,
    isWon: () => isWon,
    leg(attempt) {
      const mine = { attempt, off: new Ending() }
      legs.push(mine)
      if (signal.aborted) mine.off.abort(signal.reason)
      else signal.addEventListener('abort', () => mine.off.abort(signal.reason))
      return {
        attempt,
        signal: mine.off,
        wins() {
          if (isWon) return
          isWon = true
          for (const { attempt: lost, off } of legs) {
            if (off === mine.off || lost.endedMs > 0) continue
            // At once: the head of the answer, which leaves now, tells how each call went.
            lost.outcome = 'left'
            lost.reason = '499'
            off.abort()
          }
          resolve()
        },
      }
    },
  }
}
