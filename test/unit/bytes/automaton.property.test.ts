import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { buildAutomaton } from '../../../src/bytes/automaton.ts'

const needle = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 8, maxLength: 12 })
const piece = fc.oneof(needle, fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 20 }))

/** Every occurrence of every needle, overlaps merged. */
function search(text: string, needles: readonly string[]): number[] | undefined {
  const covered = new Set<number>()
  for (const one of needles) {
    for (let at = text.indexOf(one); at >= 0; at = text.indexOf(one, at + 1)) {
      for (let i = at; i < at + one.length; i++) covered.add(i)
    }
  }
  const spans: number[] = []
  for (let i = 0; i <= text.length; i++) {
    if (covered.has(i) && !covered.has(i - 1)) spans.push(i)
    if (!covered.has(i) && covered.has(i - 1)) spans.push(i)
  }
  return spans.length === 0 ? undefined : spans
}

/** Spans that touch made one, as nobody who replaces them minds. */
function joined(spans: readonly number[] | undefined): number[] | undefined {
  return spans?.filter((place, i) => place !== spans[i % 2 === 0 ? i - 1 : i + 1])
}

describe('the automaton', () => {
  it('finds what a plain search finds, wherever it stands', () => {
    fc.assert(
      fc.property(fc.array(needle, { minLength: 1, maxLength: 4 }), fc.array(piece), (needles, pieces) => {
        const text = pieces.join('')
        const found = buildAutomaton(needles.map((one) => Buffer.from(one)))?.find(
          Buffer.from(text),
          text.length,
        )
        expect(joined(found)).toEqual(search(text, needles))
      }),
      { numRuns: 3000 },
    )
  })

  it('finds it by fewer looks as well, where every needle is long', () => {
    const sized = fc.integer({ min: 8, max: 20 }).chain((least) => {
      const long = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: least, maxLength: least + 4 })
      const needles = fc.array(long, { minLength: 1, maxLength: 3 })
      return fc.tuple(needles, fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 30 })))
    })
    fc.assert(
      fc.property(sized, fc.nat(40), ([needles, pieces], shift) => {
        const text = `${'c'.repeat(shift)}${pieces.map((one, i) => one + (needles[i] ?? '')).join('c')}`
        const found = buildAutomaton(needles.map((one) => Buffer.from(one)))?.find(
          Buffer.from(text),
          text.length,
        )
        expect(joined(found)).toEqual(search(text, needles))
      }),
      { numRuns: 3000 },
    )
  })

  it('finds a needle behind a megabyte in which the filter sees many', () => {
    const needles = ['key-0123456789', '107,101,121,45']
    const before = '107,101,'.repeat(130_000)
    const automaton = buildAutomaton(needles.map((one) => Buffer.from(one)))
    for (let shift = 0; shift < 10; shift++) {
      const text = Buffer.from(`${before}${' '.repeat(shift)}key-0123456789 `)
      const start = before.length + shift
      expect(automaton?.find(text, text.length)).toEqual([start, start + 14])
    }
  })
})
