// JSON with one of its values replaced, or left out: what strangers send who read the documentation in a hurry.

import fc from 'fast-check'

/** Values that code forgets: of the wrong type, empty, or names that every object has. */
const OTHERS: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  1e300,
  '',
  'x',
  'constructor',
  [],
  {},
  [null],
  [[]],
  { type: 'constructor' },
  undefined,
]

/** The value with the one at `place` (counted over all of them, from the top) replaced. */
export function mutate(value: unknown, place: number, other: unknown): unknown {
  let left = place % countValues(value)
  const walk = (one: unknown): unknown => {
    if (left-- === 0) return other
    if (Array.isArray(one)) return one.map(walk)
    if (typeof one !== 'object' || one === null) return one
    return Object.fromEntries(Object.entries(one).map(([name, inner]) => [name, walk(inner)]))
  }
  return JSON.parse(JSON.stringify(walk(value)) ?? 'null')
}

function countValues(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 1
  return Object.values(value).reduce((all: number, one) => all + countValues(one), 1)
}

export const mutations = fc.record({ place: fc.nat(), other: fc.constantFrom(...OTHERS) })
