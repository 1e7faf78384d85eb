import { expect, test } from 'vitest'
import { compareSpecificity, matchesGlob } from '../../../src/config/glob.ts'

test.each([
  ['gpt-4o', 'gpt-4o', true],
  ['gpt-4o', 'gpt-4o-mini', false],
  ['gpt-*', 'gpt-', true],
  ['gpt-*', 'GPT-4', false],
  ['*', '', true],
  ['*', 'org/model', true],
  ['org/*', 'org/a/b', true],
  ['*-preview', 'x-preview', true],
  ['*-preview', 'x-preview-2', false],
  ['a*a', 'a', false],
  ['a*a', 'aa', true],
  ['*a*b*', 'xbya', false],
  ['*a*b*', 'xayb', true],
  ['a**b', 'ab', true],
  ['a.c', 'abc', false],
  ['a?c', 'abc', false],
  ['[ab]', 'a', false],
])('%s on %s is %s', (pattern, text, expected) => {
  expect(matchesGlob(pattern, text)).toBe(expected)
})

test('the exact name comes first, then the longest glob, then the one with fewer stars', () => {
  const names = ['*', 'gpt-*', 'gpt-4*', 'gpt-4o', 'g*t-*', 'a', '*-4o', 'gpt-*-*']
  expect(names.toSorted(compareSpecificity)).toEqual([
    'gpt-4o',
    'a',
    'gpt-4*',
    'gpt-*-*',
    'gpt-*',
    '*-4o',
    'g*t-*',
    '*',
  ])
})

test('is quick on a pattern made to be slow', () => {
  const started = performance.now()
  expect(matchesGlob(`${'a*'.repeat(5_000)}c*b`, `${'a'.repeat(100_000)}b`)).toBe(false)
  expect(matchesGlob(`*${'a*'.repeat(5_000)}b*`, 'a'.repeat(100_000))).toBe(false)
  expect(performance.now() - started).toBeLessThan(1_000)
})
