// When a bench says that something was lost: ratios of one run against stored ones. Pure.

import type { Row } from './measures.ts'

/** By name, what a unit of work costs us for each that it costs another; less is better. */
export type Ratios = Readonly<Record<string, number>>

/** More than this beyond the stored ratio is a loss, not the weather. */
const TOLERANCE = 0.15

/** The names of ratios that were lost; one that nobody stored or measured is none. */
export function losses(stored: Ratios, found: Ratios): string[] {
  return Object.keys(found).filter((name) => {
    const [before, now] = [stored[name], found[name]]
    return before !== undefined && now !== undefined && !(now <= before * (1 + TOLERANCE))
  })
}

/** What `unit` costs `own` beside each other target of a table. */
export function toRatios(unit: string, rows: readonly Row[], own: string): Ratios {
  const costOf = (row: Row | undefined): number => row?.figures.cpuUs?.median ?? Number.NaN
  const cost = costOf(rows.find(({ target }) => target === own))
  return Object.fromEntries(
    rows
      .filter(({ target }) => target !== own)
      .map((row) => [`per ${unit}, vs ${row.target}`, cost / costOf(row)]),
  )
}
