import { describe, expect, it } from 'vitest'
import { exact, remaining, settle, type Tat, take, untilFullUs } from '../../../src/quota/bucket.ts'
import type { Rate } from '../../../src/types.ts'

const NOW = 1_795_000_000_000_001

function drain(rate: Rate, nowUs: number, from?: Tat): { admitted: number; tat: Tat | undefined } {
  let tat = from
  for (let admitted = 0; ; admitted++) {
    const taken = take(tat, rate, 1, nowUs)
    if (!taken.ok) return { admitted, tat }
    tat = taken.tat
  }
}

describe('a bucket', () => {
  it.each([10_000, 20_000, 1e6 / 3, 1e6 / 7, 1e6 / 3000, 60e6 / 200_003, 0.1, 1e6 * 86_400, Math.PI])(
    'of 100 admits exactly 100 at one instant, at an interval of %f µs',
    (intervalUs) => {
      const rate = exact({ capacity: 100, intervalUs })
      expect(drain(rate, NOW).admitted).toBe(100)
    },
  )

  it('gives units back one by one at its rate', () => {
    const rate = exact({ capacity: 10, intervalUs: 1e6 / 3 })
    const { tat } = drain(rate, NOW)
    expect(drain(rate, NOW + 333_333, tat).admitted).toBe(0)
    expect(drain(rate, NOW + 333_334, tat).admitted).toBe(1)
    expect(drain(rate, NOW + 1_000_000, tat).admitted).toBe(2)
    expect(drain(rate, NOW + 1_000_001, tat).admitted).toBe(3)
    expect(drain(rate, NOW + 60_000_000, tat).admitted).toBe(10)
  })

  it('keeps a rate of 3,000/s over an hour without losing or giving a unit', () => {
    const rate = exact({ capacity: 1, intervalUs: 1e6 / 3000 })
    let tat: Tat | undefined
    let nowUs = NOW
    let admitted = 0
    while (nowUs < NOW + 60_000_000) {
      const taken = take(tat, rate, 1, nowUs)
      if (taken.ok) {
        tat = taken.tat
        admitted++
      } else nowUs += taken.waitUs
    }
    // The clock has whole µs, so each admission comes up to 1 µs late: 333.33 µs become 334 at worst.
    expect(admitted).toBeLessThanOrEqual(180_000)
    expect(admitted).toBeGreaterThan(60e6 / 334 - 1)
  })

  it('admits a cost above its capacity when full, and owes the rest', () => {
    const rate = exact({ capacity: 100, intervalUs: 1000 })
    const taken = take(undefined, rate, 250, NOW)
    expect(taken).toEqual({ ok: true, tat: { us: NOW + 250_000, part: 0 } })
    if (!taken.ok) return
    expect(remaining(untilFullUs(taken.tat, NOW), rate)).toBe(0)
    expect(take(taken.tat, rate, 1, NOW)).toEqual({ ok: false, waitUs: 151_000 })
  })

  it('does not admit a cost above its capacity while one unit is missing', () => {
    const rate = exact({ capacity: 100, intervalUs: 1000 })
    const one = take(undefined, rate, 1, NOW)
    expect(one.ok && take(one.tat, rate, 250, NOW)).toEqual({ ok: false, waitUs: 1000 })
  })

  it('counts whole units left and the time until full', () => {
    const rate = exact({ capacity: 10, intervalUs: 1000 })
    const tat = settle(undefined, rate, 3, NOW)
    expect(remaining(untilFullUs(tat, NOW), rate)).toBe(7)
    expect(remaining(untilFullUs(tat, NOW + 999), rate)).toBe(7)
    expect(remaining(untilFullUs(tat, NOW + 1000), rate)).toBe(8)
    expect(untilFullUs(tat, NOW + 1000)).toBe(2000)
    expect(untilFullUs(tat, NOW + 10_000)).toBe(0)
  })

  it('is never fuller than full after a refund', () => {
    const rate = exact({ capacity: 10, intervalUs: 1000 })
    const tat = settle(settle(undefined, rate, 3, NOW), rate, -1000, NOW)
    expect(drain(rate, NOW, tat).admitted).toBe(10)
  })

  it('carries debt until it is worked off', () => {
    const rate = exact({ capacity: 10, intervalUs: 1000 })
    const tat = settle(undefined, rate, 25, NOW)
    expect(take(tat, rate, 1, NOW + 15_999).ok).toBe(false)
    expect(take(tat, rate, 1, NOW + 16_000).ok).toBe(true)
  })

  it('keeps its time until full when the limit changes, so a faster rate never starts with a fresh burst', () => {
    const slow = exact({ capacity: 10, intervalUs: 1_000_000 })
    const fast = exact({ capacity: 100, intervalUs: 20_000 })
    const { tat } = drain(slow, NOW) // full again in 10 s
    expect(take(tat, fast, 1, NOW)).toEqual({ ok: false, waitUs: 8_020_000 })
    expect(drain(slow, NOW, drain(fast, NOW).tat).admitted).toBe(8)
  })
})
