// The last metrics of each worker, so that one that is slow or gone takes nothing out of a sum.

import type { MetricData } from '@opentelemetry/sdk-metrics'
import { addUp, lastingOf } from './merge.ts'

export interface Figures {
  /** What a worker counts, instead of what it said before. */
  note(id: number, metrics: readonly MetricData[]): void
  /** A worker is gone: what it counted stays, what it was about does not. */
  retire(id: number): void
  /** All that was noted, as that of one process. */
  all(): readonly MetricData[]
}

export function createFigures(): Figures {
  const last = new Map<number, readonly MetricData[]>()
  let retired: readonly MetricData[] = []
  return {
    note: (id, metrics) => void last.set(id, metrics),
    retire(id) {
      retired = addUp([retired, lastingOf(last.get(id) ?? [])])
      last.delete(id)
    },
    all: () => addUp([retired, ...last.values()]),
  }
}
