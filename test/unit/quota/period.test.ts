import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { periodOf } from '../../../src/quota/period.ts'

const DAY_US = 86_400_000_000
const END_US = Date.UTC(2200, 0, 1) * 1000

/** Any µs of 1970 to 2200, and those just before and after a day and a month begin. */
const times = fc.oneof(
  fc.integer({ min: 0, max: END_US - 1 }),
  fc
    .record({ months: fc.integer({ min: 1, max: 230 * 12 - 1 }), offUs: fc.integer({ min: -2, max: 2 }) })
    .map(({ months, offUs }) => Date.UTC(1970, months) * 1000 + offUs),
  fc
    .record({ day: fc.integer({ min: 1, max: END_US / DAY_US - 1 }), offUs: fc.integer({ min: -2, max: 2 }) })
    .map(({ day, offUs }) => day * DAY_US + offUs),
)

function dateOf(us: number): { year: number; month: number; day: number } {
  const date = new Date(Math.floor(us / 1000))
  return { year: date.getUTCFullYear(), month: date.getUTCMonth(), day: date.getUTCDate() }
}

describe('the period of a budget', () => {
  it('is the day of Date.UTC, from 1970 to 2200', () => {
    fc.assert(
      fc.property(times, (us) => {
        const { year, month, day } = dateOf(us)
        expect(periodOf('day', us)).toEqual({
          startUs: Date.UTC(year, month, day) * 1000,
          endUs: Date.UTC(year, month, day + 1) * 1000,
        })
      }),
      { numRuns: 5_000 },
    )
  })

  it('is the month of Date.UTC, from 1970 to 2200', () => {
    fc.assert(
      fc.property(times, (us) => {
        const { year, month } = dateOf(us)
        expect(periodOf('month', us)).toEqual({
          startUs: Date.UTC(year, month) * 1000,
          endUs: Date.UTC(year, month + 1) * 1000,
        })
      }),
      { numRuns: 5_000 },
    )
  })

  it('is the month of Date.UTC on every single day of them', () => {
    let wrong = 0
    for (let us = 0; us < END_US; us += DAY_US) {
      const { year, month } = dateOf(us)
      const { startUs, endUs } = periodOf('month', us)
      if (startUs !== Date.UTC(year, month) * 1000 || endUs !== Date.UTC(year, month + 1) * 1000) wrong++
    }
    expect(wrong).toBe(0)
  })

  it.each([
    ['a leap day', '2028-02-29T12:00:00Z', '2028-02-01', '2028-03-01'],
    ['a century without one', '2100-02-28T23:59:59Z', '2100-02-01', '2100-03-01'],
    ['a century with one', '2000-02-29T00:00:00Z', '2000-02-01', '2000-03-01'],
    ['the end of a year', '2027-12-31T23:59:59.999Z', '2027-12-01', '2028-01-01'],
    ['the beginning of time', '1970-01-01T00:00:00Z', '1970-01-01', '1970-02-01'],
  ])('holds on %s', (_, at, start, end) => {
    expect(periodOf('month', Date.parse(at) * 1000)).toEqual({
      startUs: Date.parse(start) * 1000,
      endUs: Date.parse(end) * 1000,
    })
  })

  it('holds its first µs and not its last', () => {
    for (const period of ['day', 'month'] as const) {
      const { startUs, endUs } = periodOf(period, Date.UTC(2027, 4, 17, 9) * 1000)
      expect(periodOf(period, startUs).startUs).toBe(startUs)
      expect(periodOf(period, endUs - 1).startUs).toBe(startUs)
      expect(periodOf(period, endUs).startUs).toBe(endUs)
      expect(periodOf(period, startUs - 1).endUs).toBe(startUs)
    }
  })
})
