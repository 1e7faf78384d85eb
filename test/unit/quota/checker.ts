// The linear check of reliability §1.5: over every window of a history, how much more was admitted than B + r·T.

import type { Rate } from '../../../src/types.ts'

export interface Admission {
  readonly atUs: number
  readonly units: number
}

/**
 * `max over windows of admitted − (B + r·T)`, in units; at most 0 when the limit held. Admissions come in order of
 * time; a negative unit count is a refund at that time. All arithmetic is in µs of the bucket, exact for exact rates.
 */
export function excessUnits(history: readonly Admission[], rate: Rate): number {
  let sumUs = 0
  let lowest = Infinity
  let worst = -Infinity
  for (const { atUs, units } of history) {
    lowest = Math.min(lowest, sumUs - atUs)
    sumUs += units * rate.intervalUs
    worst = Math.max(worst, sumUs - atUs - lowest)
  }
  return (worst - rate.capacity * rate.intervalUs) / rate.intervalUs
}
