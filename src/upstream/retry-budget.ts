// Second calls to a provider are paid from a share of its recent traffic, so that a sick one is never asked much more
// often than there are requests (design §7). Keyed by provider and made in main.ts: no reload resets it.

import type { Clock } from '../types.ts'
import { createOutcomes, type Outcomes } from './outcomes.ts'

export interface RetryBudget {
  /** A request calls the provider for the first time. */
  first(provider: string): void
  /** Whether it may call it once more. */
  mayAgain(provider: string): boolean
  /** It does. */
  again(provider: string): void
}

/** With little traffic there is always one in a second, over all replicas. */
const LEAST_PER_SECOND = 1
const WINDOW_S = 10

export interface RetryBudgetOptions {
  readonly clock: Pick<Clock, 'now'>
  /** Second calls for each first one, at most; asked each time, as a reload may change it. */
  readonly share: () => number
  /** How many replicas share the floor. */
  readonly replicas: () => number
}

export function createRetryBudget({ clock, share, replicas }: RetryBudgetOptions): RetryBudget {
  /** Of each provider the first calls (good) and the second ones (bad) of the last ten seconds. */
  const calls = new Map<string, Outcomes>()
  const of = (provider: string): Outcomes => {
    let one = calls.get(provider)
    if (one === undefined) calls.set(provider, (one = createOutcomes(clock)))
    return one
  }
  return {
    first: (provider) => of(provider).add(true),
    mayAgain(provider) {
      const { good, bad } = of(provider).seen()
      const paid = share() === 0 ? 0 : Math.max(good * share(), (LEAST_PER_SECOND * WINDOW_S) / replicas())
      return bad + 1 <= paid
    },
    again: (provider) => of(provider).add(false),
  }
}
