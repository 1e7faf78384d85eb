// How fast each deployment answers, and how many calls it has: what `balance: latency` goes by, and what a deadline for
// the first token can be drawn from. Keyed by name and made in main.ts: no reload resets it.

import type { Clock } from '../types.ts'

export interface Pace {
  begin(deployment: string): void
  end(deployment: string): void
  /** The first content of a stream came after so many ms. */
  answered(deployment: string, ms: number): void
  /**
   * What one more call has to expect, for comparison only: the recent time to the first token, times the calls under
   * way and this one. 0 for one that nothing is known of.
   */
  load(deployment: string): number
  /** The 95th percentile of the recent times to the first token, in ms; undefined while there are too few. */
  p95(deployment: string): number | undefined
  /** The least that a first token has taken of late, in ms; 0 while too little is known. */
  soonest(deployment: string): number
}

/** What was seen so long ago counts for a third (1/e). */
const MEMORY_MS = 10_000
/** One that is at work and has never answered: not the first to ask. */
const UNKNOWN_MS = 10_000
const SAMPLES = 64
const LEAST_SAMPLES = 20
/** A percentile is worked out at most so often. */
const PERCENTILE_MS = 1_000

interface Known {
  underWay: number
  /** Peak-sensitive mean (Finagle's peak EWMA): up at once, down slowly. */
  meanMs: number
  seenMs: number
  readonly samples: Float64Array
  count: number
  p95: number | undefined
  least: number
  sortedAtMs: number
}

export function createPace({ clock }: { clock: Pick<Clock, 'now'> }): Pace {
  const all = new Map<string, Known>()

  function get(name: string): Known {
    let known = all.get(name)
    if (known === undefined) {
      known = {
        underWay: 0,
        meanMs: 0,
        seenMs: 0,
        samples: new Float64Array(SAMPLES),
        count: 0,
        p95: undefined,
        least: 0,
        sortedAtMs: Number.NEGATIVE_INFINITY,
      }
      all.set(name, known)
    }
    return known
  }

  function forgotten({ seenMs }: Known): number {
    return Math.exp(-(clock.now() - seenMs) / (6 * MEMORY_MS))
  }

  /** With its percentiles no older than a second; undefined while there are too few samples. */
  function sorted(name: string): Known | undefined {
    const known = all.get(name)
    if (known === undefined || known.count < LEAST_SAMPLES) return undefined
    const nowMs = clock.now()
    if (nowMs - known.sortedAtMs >= PERCENTILE_MS) {
      const samples = known.samples.slice(0, Math.min(known.count, SAMPLES)).sort()
      known.p95 = samples[Math.ceil(samples.length * 0.95) - 1]
      known.least = samples[0] ?? 0
      known.sortedAtMs = nowMs
    }
    return known
  }

  return {
    begin(name) {
      get(name).underWay += 1
    },
    end(name) {
      const known = get(name)
      known.underWay = Math.max(known.underWay - 1, 0)
    },
    answered(name, ms) {
      const known = get(name)
      const nowMs = clock.now()
      const weight = Math.exp(-(nowMs - known.seenMs) / MEMORY_MS)
      known.meanMs = known.count === 0 || ms > known.meanMs ? ms : known.meanMs * weight + ms * (1 - weight)
      known.seenMs = nowMs
      known.samples[known.count % SAMPLES] = ms
      known.count += 1
    },
    load(name) {
      const known = all.get(name)
      if (known === undefined) return 0
      if (known.count === 0) return known.underWay * UNKNOWN_MS
      // Nobody stays slow for having been so once: what is not asked is forgotten little by little.
      return known.meanMs * forgotten(known) * (known.underWay + 1)
    },
    p95: (name) => sorted(name)?.p95,
    soonest(name) {
      const known = sorted(name)
      // What is not asked is forgotten little by little: somebody has to find out whether it has become quicker.
      return known === undefined ? 0 : known.least * forgotten(known)
    },
  }
}
