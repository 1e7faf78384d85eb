// A token bucket (GCRA) as arithmetic, without clock or memory: what ledger.ts is made of, and with it ledger.lua.
//
// The state is the theoretical arrival time (TAT): the moment at which the bucket is full again. It is kept as
// whole µs and a part of one, because a single double of µs since 1970 has steps of 0.25 µs: at 3,000/s
// (333.33 µs a unit) it would round every admission by 0.08 µs the same way and let 45 requests a minute too many
// through. With the part, and with an interval that `exact` put on a grid, no operation here rounds at all, so
// there is no tolerance: a bucket of 100 admits 100, a wait is right to the µs, a refund undoes its charge.
//
// When a reload changes a limit, what was taken stays taken, in units: the time until full is reckoned anew by the new
// interval. There is no fresh burst by reloading, and nobody waits a day for what a quicker rate gives in a second.

import type { Rate } from '../types.ts'

/** The time `us + part` µs, at which a bucket is full; part is in [0, 1). Undefined stands for a full bucket. */
export interface Tat {
  readonly us: number
  readonly part: number
}

export type Taken =
  | { readonly ok: true; readonly tat: Tat }
  /** Whole µs until the same cost is admitted, if nobody else comes. */
  | { readonly ok: false; readonly waitUs: number }

/**
 * The same rate with an interval whose multiples, up to 16 buckets deep, are doubles without rounding.
 * Rounds up, so the rate is never higher than asked; lower by at most `capacity · 2^-47` of itself.
 * The capacity must be at least 1, the interval more than 0, and a whole bucket worth less than three years.
 */
export function exact(rate: Rate): Rate {
  const grid = 2 ** (Math.floor(Math.log2(rate.capacity * rate.intervalUs)) - 48)
  return { capacity: rate.capacity, intervalUs: Math.ceil(rate.intervalUs / grid) * grid }
}

/** µs until the bucket is full, not rounded; 0 when it is. More than its depth is debt. */
export function untilFullUs(tat: Tat | undefined, nowUs: number): number {
  return tat === undefined ? 0 : Math.max(tat.us - nowUs + tat.part, 0)
}

/** What a level of one interval is by another: the same units. */
export function rescaled(levelUs: number, fromIntervalUs: number, toIntervalUs: number): number {
  return fromIntervalUs === toIntervalUs ? levelUs : (levelUs / fromIntervalUs) * toIntervalUs
}

/** The TAT of a bucket that is full in `levelUs`; undoes `untilFullUs`. `nowUs` is whole. */
export function toTat(levelUs: number, nowUs: number): Tat {
  const whole = Math.floor(levelUs)
  return { us: nowUs + whole, part: levelUs - whole }
}

/**
 * Takes `cost` units, or says how long to wait. A cost above the capacity is admitted when the bucket is full and
 * the rest becomes debt. `nowUs` is whole; when it goes back, less is admitted, never more.
 */
export function take(tat: Tat | undefined, rate: Rate, cost: number, nowUs: number): Taken {
  const level = untilFullUs(tat, nowUs)
  const waitUs = waitForUs(level, rate, cost)
  if (waitUs > 0) return { ok: false, waitUs }
  return { ok: true, tat: toTat(level + cost * rate.intervalUs, nowUs) }
}

/** Whole µs until a bucket that is full in `levelUs` admits `cost` units; 0 when it does now. */
export function waitForUs(levelUs: number, rate: Rate, cost: number): number {
  const excess = levelUs + Math.min(cost, rate.capacity) * rate.intervalUs - rate.capacity * rate.intervalUs
  return Math.max(Math.ceil(excess), 0)
}

/**
 * Charges (a positive delta, also into debt) or refunds (a negative one, never beyond full) after the fact.
 *
 * In every window `charges − refunds ≤ capacity + rate · T`, a refund counting when it comes. Counted by what was
 * used, at the time of admission, a window can hold more, by what the reservations open at its start gave back in it.
 */
export function settle(tat: Tat | undefined, rate: Rate, deltaUnits: number, nowUs: number): Tat {
  return toTat(Math.max(untilFullUs(tat, nowUs) + deltaUnits * rate.intervalUs, 0), nowUs)
}

/** Whole units that could be taken at once by a bucket that is full in `levelUs`; 0 while in debt. */
export function remaining(levelUs: number, rate: Rate): number {
  return Math.max(Math.floor((rate.capacity * rate.intervalUs - levelUs) / rate.intervalUs), 0)
}
