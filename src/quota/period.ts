// Budgets run by the UTC calendar. Arithmetic only, in µs since 1970: ledger.lua does the same.

import type { Budget } from '../types.ts'

type Period = Budget['period']

const DAY_US = 86_400_000_000

/** When the period that holds `nowUs` began, and when it ends; µs since 1970. */
export function periodOf(
  period: Period,
  nowUs: number,
): { readonly startUs: number; readonly endUs: number } {
  const day = Math.floor(nowUs / DAY_US)
  if (period === 'day') return { startUs: day * DAY_US, endUs: (day + 1) * DAY_US }
  const { year, month } = civil(day)
  return {
    startUs: daysFrom(year, month) * DAY_US,
    endUs: daysFrom(month === 12 ? year + 1 : year, month === 12 ? 1 : month + 1) * DAY_US,
  }
}

/**
 * Year and month of a day since 1970-01-01, and back, for the days from the year 1970 on. A year begins in March, so
 * that the leap day is its last (Howard Hinnant, "chrono-compatible low-level date algorithms").
 */
function civil(day: number): { readonly year: number; readonly month: number } {
  const shifted = day + 719_468
  const era = Math.floor(shifted / 146_097)
  const ofEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (ofEra - Math.floor(ofEra / 1460) + Math.floor(ofEra / 36_524) - Math.floor(ofEra / 146_096)) / 365,
  )
  const ofYear = ofEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const fromMarch = Math.floor((5 * ofYear + 2) / 153)
  const month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9
  return { year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month }
}

/** Days from 1970-01-01 to the first of a month. */
function daysFrom(year: number, month: number): number {
  const marchYear = month <= 2 ? year - 1 : year
  const era = Math.floor(marchYear / 400)
  const yearOfEra = marchYear - era * 400
  const ofYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5)
  const ofEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + ofYear
  return era * 146_097 + ofEra - 719_468
}
