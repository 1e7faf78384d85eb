// How the event loop of this process does: how late what is due gets its turn, whether there is time to spare, and
// whether callers wait to be taken in.

import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import type { Loop } from './overload.ts'

export interface LoopWatch extends Loop {
  /** A connection has been taken in. Not to be told of those that another process takes in. */
  connected(): void
}

/** Node looks at the loop this often, in a timer of its own that runs no script. */
const RESOLUTION_MS = 20

/** Begins to watch. */
export function watchLoop(): LoopWatch {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delays.enable()
  let before = look()
  let connections = 0

  function look() {
    return { use: performance.eventLoopUtilization(), turns: performance.nodeTiming.uvMetricsInfo.loopCount }
  }

  return {
    connected() {
      connections += 1
    },
    read() {
      const now = look()
      const { utilization } = performance.eventLoopUtilization(now.use, before.use)
      // What it measures is from one look to the next.
      const delayMs = delays.count === 0 ? 0 : Math.max(delays.max / 1e6 - RESOLUTION_MS, 0)
      // libuv takes in one connection a turn: where nearly each turn finds one, more of them wait in the kernel.
      const intake = connections / Math.max(now.turns - before.turns, 1)
      delays.reset()
      before = now
      connections = 0
      return { delayMs, busyShare: utilization, intake }
    },
  }
}
