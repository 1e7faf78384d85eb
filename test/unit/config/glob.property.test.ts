import fc from 'fast-check'
import { expect, test } from 'vitest'
import { compareSpecificity, matchesGlob } from '../../../src/config/glob.ts'

/** Slow and obviously right. */
function slowMatch(pattern: string, text: string): boolean {
  if (pattern === '') return text === ''
  if (pattern[0] === '*')
    return slowMatch(pattern.slice(1), text) || (text !== '' && slowMatch(pattern, text.slice(1)))
  return text !== '' && pattern[0] === text[0] && slowMatch(pattern.slice(1), text.slice(1))
}

const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*'), maxLength: 9 })
const text = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 12 })

test('agrees with a slow matcher', () => {
  fc.assert(
    fc.property(pattern, text, (glob, name) => {
      expect(matchesGlob(glob, name)).toBe(slowMatch(glob, name))
    }),
    { numRuns: 20_000 },
  )
})

test('a pattern with its stars filled in matches', () => {
  fc.assert(
    fc.property(fc.array(fc.string(), { minLength: 1 }), fc.string(), (pieces, filling) => {
      const literal = pieces.map((piece) => piece.replaceAll('*', ''))
      expect(matchesGlob(literal.join('*'), literal.join(filling))).toBe(true)
    }),
  )
})

test('specificity is a strict order: antisymmetric, transitive, and no two names tie', () => {
  fc.assert(
    fc.property(pattern, pattern, pattern, (a, b, c) => {
      expect(Math.sign(compareSpecificity(a, b))).toBe(0 - Math.sign(compareSpecificity(b, a)))
      expect(compareSpecificity(a, b) === 0).toBe(a === b)
      if (compareSpecificity(a, b) < 0 && compareSpecificity(b, c) < 0)
        expect(compareSpecificity(a, c)).toBeLessThan(0)
    }),
    { numRuns: 5_000 },
  )
})
