// A clock and timers that stand still until a test moves them.

import type { Clock } from '../../../../src/types.ts'
import type { Timers } from '../../../../src/upstream/timers.ts'

export interface ManualTime {
  readonly clock: Clock
  readonly timers: Timers
  /** Timers that are set and have not run. */
  readonly pending: () => number
  /** Lets everything happen that happens without time. */
  readonly settle: () => Promise<void>
  /** Moves time on, running what falls due in order. */
  readonly advance: (ms: number) => Promise<void>
}

export const WALL_MS = 1_790_000_000_123

export function createManualTime(): ManualTime {
  const waiting = new Map<number, { readonly at: number; readonly run: () => void }>()
  let nowMs = 0
  let handles = 0

  // Streams take a few turns of the event loop to end and close.
  async function settle(): Promise<void> {
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve))
  }

  async function advance(ms: number): Promise<void> {
    const until = nowMs + ms
    await settle()
    for (;;) {
      const [due] = [...waiting]
        .filter(([, { at }]) => at <= until)
        .sort(([, one], [, other]) => one.at - other.at)
      if (due === undefined) break
      const [handle, { at, run }] = due
      nowMs = Math.max(nowMs, at)
      waiting.delete(handle)
      run()
      await settle()
    }
    nowMs = until
  }

  return {
    clock: { now: () => nowMs, wall: () => WALL_MS + nowMs },
    timers: {
      set(ms, run) {
        handles += 1
        waiting.set(handles, { at: nowMs + ms, run })
        return handles
      },
      clear(handle) {
        if (typeof handle === 'number') waiting.delete(handle)
      },
    },
    pending: () => waiting.size,
    settle,
    advance,
  }
}
