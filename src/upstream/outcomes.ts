// How the calls of the last ten seconds ended: ten buckets of a second each, whatever the traffic.

import type { Clock } from '../types.ts'

export interface Outcomes {
  add(good: boolean): void
  seen(): { readonly good: number; readonly bad: number }
  clear(): void
}

const SECONDS = 10

export function createOutcomes(clock: Pick<Clock, 'now'>): Outcomes {
  const good = new Uint32Array(SECONDS)
  const bad = new Uint32Array(SECONDS)
  /** The second that the latest bucket stands for. */
  let second = 0

  function turn(): number {
    const now = Math.floor(clock.now() / 1000)
    // Buckets of seconds that have passed since stand for new ones.
    for (let behind = Math.min(now - second, SECONDS); behind > 0; behind -= 1) {
      const at = (now - behind + 1) % SECONDS
      good[at] = 0
      bad[at] = 0
    }
    second = Math.max(second, now)
    return second % SECONDS
  }

  return {
    add(isGood) {
      const at = turn()
      const list = isGood ? good : bad
      list[at] = (list[at] as number) + 1
    },
    seen() {
      turn()
      return { good: sum(good), bad: sum(bad) }
    },
    clear() {
      good.fill(0)
      bad.fill(0)
    },
  }
}

function sum(list: Uint32Array): number {
  let total = 0
  for (const one of list) total += one
  return total
}
