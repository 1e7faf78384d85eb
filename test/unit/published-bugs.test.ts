// Every bug that other gateways were reported to have has a test that says by its name which one it proves not to happen.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { PUBLISHED_BUGS } from '../support/published-bugs.ts'

const TESTS = join(import.meta.dirname, '..')
/** A tag at the end of a name: `(bug 17)`, `(bug 17, bug 18)`. */
const TAG = /\((bug \d+(?:, bug \d+)*)\)['"`]/g
/** Whatever looks like one. */
const MENTION = /\(bugs?\b/gi

const numbers = Object.keys(PUBLISHED_BUGS).map(Number)
const tagged = new Map<number, string[]>()
const misspelt: string[] = []
for (const file of readdirSync(TESTS, { recursive: true, encoding: 'utf8' })) {
  if (!file.endsWith('.test.ts') || join(TESTS, file) === import.meta.filename) continue
  const source = readFileSync(join(TESTS, file), 'utf8')
  const tags = [...source.matchAll(TAG)].map(([, tag = '']) => tag)
  if (tags.length !== [...source.matchAll(MENTION)].length) misspelt.push(file)
  for (const [number] of tags.join(' ').matchAll(/\d+/g))
    tagged.set(Number(number), [...(tagged.get(Number(number)) ?? []), file])
}

it('are 72, each with what must not happen', () => {
  expect(numbers).toEqual(Array.from({ length: 72 }, (_, i) => i + 1))
  for (const sentence of Object.values(PUBLISHED_BUGS)) expect(sentence).toMatch(/^[A-Z].{20,}\.$/)
})

it.each(numbers)('bug %d has a test', (number) => {
  expect(tagged.get(number) ?? [], PUBLISHED_BUGS[number]).not.toEqual([])
})

it('are what the tags of tests name, and tags stand at the end of names', () => {
  expect([...tagged.keys()].filter((number) => !(number in PUBLISHED_BUGS))).toEqual([])
  expect(misspelt).toEqual([])
})
