import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { exact, remaining, settle, type Tat, take, toTat, untilFullUs } from '../../../src/quota/bucket.ts'
import { type Admission, excessUnits } from './checker.ts'

const NOW = 1_795_000_000_000_000
const rates = fc
  .record({
    capacity: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 5_000_000 })),
    perSecond: fc.oneof(
      fc.integer({ min: 1, max: 10_000 }),
      fc.double({ min: 1e-3, max: 1e6, noNaN: true, noDefaultInfinity: true }),
    ),
  })
  .map(({ capacity, perSecond }) => exact({ capacity, intervalUs: 1e6 / perSecond }))
  // Three years from empty to full; 2^53 µs ends in the year 2255.
  .filter(({ capacity, intervalUs }) => capacity * intervalUs < 1e14)

/** Costs and pauses as shares of the bucket, so that histories are near its edge. */
const steps = fc.array(
  fc.record({
    cost: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1.5, noNaN: true })),
    pause: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })),
    delta: fc.double({ min: -1, max: 1, noNaN: true }),
  }),
  { minLength: 1, maxLength: 60 },
)

const runs = { numRuns: 2000 }

describe('a bucket, whatever its rate and history', () => {
  it('has an exact rate that is not above the one asked for, and not visibly below', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e9 }),
        fc.double({ min: 1e-3, max: 1e12, noNaN: true, noDefaultInfinity: true }),
        (capacity, intervalUs) => {
          const rate = exact({ capacity, intervalUs })
          expect(rate.intervalUs).toBeGreaterThanOrEqual(intervalUs)
          expect(rate.intervalUs / intervalUs - 1).toBeLessThanOrEqual(capacity * 2 ** -47)
          // No rounding in any multiple: adding one by one is multiplying.
          let sum = 0
          let same = true
          for (let n = 1; n <= Math.min(200, 16 * capacity); n++) {
            sum += rate.intervalUs
            same &&= sum === n * rate.intervalUs
          }
          expect(same).toBe(true)
        },
      ),
      runs,
    )
  })

  it('holds admitted ≤ B + r·T over every window, debt and refusals included', () => {
    fc.assert(
      fc.property(rates, steps, (rate, history) => {
        let tat: Tat | undefined
        let atUs = NOW
        const admitted: Admission[] = []
        for (const step of history) {
          atUs += Math.floor(step.pause * rate.capacity * rate.intervalUs)
          const units = Math.min(Math.round(step.cost * rate.capacity), rate.capacity)
          const taken = take(tat, rate, units, atUs)
          if (!taken.ok) continue
          tat = taken.tat
          // Relative to the start, so that the checker does not round either.
          admitted.push({ atUs: atUs - NOW, units })
        }
        expect(admitted.length === 0 ? 0 : excessUnits(admitted, rate)).toBeLessThanOrEqual(0)
      }),
      runs,
    )
  })

  it('holds the same bound for what is admitted, less what is given back, in every window', () => {
    fc.assert(
      fc.property(rates, steps, (rate, history) => {
        let tat: Tat | undefined
        let atUs = NOW
        const flow: Admission[] = []
        for (const step of history) {
          atUs += Math.floor(step.pause * rate.capacity * rate.intervalUs)
          const units = Math.min(Math.round(step.cost * rate.capacity), rate.capacity)
          const taken = take(tat, rate, units, atUs)
          if (taken.ok) {
            tat = taken.tat
            flow.push({ atUs: atUs - NOW, units })
          }
          if (step.delta >= 0) continue
          const before = untilFullUs(tat, atUs)
          tat = settle(tat, rate, Math.round(step.delta * rate.capacity), atUs)
          flow.push({ atUs: atUs - NOW, units: (untilFullUs(tat, atUs) - before) / rate.intervalUs })
        }
        expect(flow.length === 0 ? 0 : excessUnits(flow, rate)).toBeLessThanOrEqual(1e-6)
      }),
      runs,
    )
  })

  it('says a wait that is exact to the µs', () => {
    fc.assert(
      fc.property(rates, steps, (rate, history) => {
        let tat: Tat | undefined
        let atUs = NOW
        for (const step of history) {
          atUs += Math.floor(step.pause * 0.3 * rate.capacity * rate.intervalUs)
          const cost = Math.round(step.cost * rate.capacity)
          const taken = take(tat, rate, cost, atUs)
          if (taken.ok) {
            tat = taken.tat
            continue
          }
          expect(taken.waitUs).toBeGreaterThan(0)
          expect(take(tat, rate, cost, atUs + taken.waitUs - 1).ok).toBe(false)
          expect(take(tat, rate, cost, atUs + taken.waitUs).ok).toBe(true)
        }
      }),
      runs,
    )
  })

  it('never has less than zero or more than its capacity left', () => {
    fc.assert(
      fc.property(rates, steps, (rate, history) => {
        let tat: Tat | undefined
        let atUs = NOW
        for (const step of history) {
          atUs += Math.floor(step.pause * rate.capacity * rate.intervalUs)
          const taken = take(tat, rate, Math.round(step.cost * rate.capacity), atUs)
          if (taken.ok) tat = taken.tat
          tat = settle(tat, rate, Math.round(step.delta * rate.capacity), atUs)
          const left = remaining(untilFullUs(tat, atUs), rate)
          expect(left).toBeGreaterThanOrEqual(0)
          expect(left).toBeLessThanOrEqual(rate.capacity)
          expect(Number.isInteger(left)).toBe(true)
          // What is said to be left can be taken, and not one more.
          if (left > 0) expect(take(tat, rate, left, atUs).ok).toBe(true)
          if (left < rate.capacity) expect(take(tat, rate, left + 1, atUs).ok).toBe(false)
        }
      }),
      runs,
    )
  })

  it('conserves units when a reservation is settled before the bucket is full again', () => {
    fc.assert(
      fc.property(rates, fc.nat(), fc.nat(), fc.nat(), (rate, a, b, c) => {
        const start = settle(undefined, rate, a % rate.capacity, NOW)
        const reserved = b % (rate.capacity + 1)
        const used = c % (2 * rate.capacity)
        const taken = take(start, rate, reserved, NOW)
        if (!taken.ok) return
        // Settled on what was used = charged what was used from the start.
        expect(settle(taken.tat, rate, used - reserved, NOW)).toEqual(settle(start, rate, used, NOW))
        // A charge and its refund leave no trace, to the last bit.
        expect(settle(settle(start, rate, used, NOW), rate, -used, NOW)).toEqual(start)
      }),
      runs,
    )
  })

  it('admits nothing more when the clock goes back', () => {
    fc.assert(
      fc.property(rates, fc.nat(), fc.nat(), fc.nat({ max: 2 ** 40 }), (rate, used, cost, backUs) => {
        const tat = settle(undefined, rate, used % (2 * rate.capacity), NOW)
        const asked = cost % (rate.capacity + 1)
        if (!take(tat, rate, asked, NOW).ok) expect(take(tat, rate, asked, NOW - backUs).ok).toBe(false)
        expect(remaining(untilFullUs(tat, NOW - backUs), rate)).toBeLessThanOrEqual(
          remaining(untilFullUs(tat, NOW), rate),
        )
      }),
      runs,
    )
  })

  it('finds its level again in its TAT', () => {
    fc.assert(
      fc.property(rates, fc.nat(), (rate, units) => {
        const levelUs = (units % (4 * rate.capacity)) * rate.intervalUs
        const tat = toTat(levelUs, NOW)
        expect(untilFullUs(tat, NOW)).toBe(levelUs)
        expect(tat.part).toBeGreaterThanOrEqual(0)
        expect(tat.part).toBeLessThan(1)
      }),
      runs,
    )
  })
})
