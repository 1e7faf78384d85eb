import { createHash, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { bearerSha256, checksumIsRight, hasSluicePrefix, mintBearer } from '../../../src/config/bearer.ts'

const FORM = /^sk-sluice-[0-9A-Za-z]{36}$/

test('makes bearers of the one form, each with its checksum, none twice', () => {
  const bearers = Array.from({ length: 500 }, () => mintBearer(randomBytes))
  for (const bearer of bearers) {
    expect(bearer).toMatch(FORM)
    expect(hasSluicePrefix(bearer)).toBe(true)
    expect(checksumIsRight(bearer)).toBe(true)
  }
  expect(new Set(bearers).size).toBe(500)
})

test('refuses a bearer with one wrong, missing or added character', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 64, maxLength: 64 }),
      fc.integer({ min: 0, max: 45 }),
      fc.constantFrom(...'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_ é'),
      (bytes, place, wrong) => {
        // Half of the draws may be above the unbiased range, so real bytes fill up.
        let given = false
        const bearer = mintBearer((count) => {
          const first = !given
          given = true
          return first ? bytes : randomBytes(count)
        })
        const altered = bearer.slice(0, place) + wrong + bearer.slice(place + 1)
        expect(checksumIsRight(altered)).toBe(altered === bearer)
        expect(checksumIsRight(bearer.slice(0, place) + bearer.slice(place + 1))).toBe(false)
        expect(checksumIsRight(bearer.slice(0, place) + wrong + bearer.slice(place))).toBe(false)
      },
    ),
  )
})

test('never throws on other text', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(checksumIsRight(`sk-sluice-${text}`)).toBe(false)
    }),
  )
  expect(checksumIsRight('')).toBe(false)
  expect(checksumIsRight(`${mintBearer(randomBytes)}\n`)).toBe(false)
  expect(hasSluicePrefix('sk-abc')).toBe(false)
})

test('passes over bytes that would favour some characters', () => {
  let calls = 0
  const bearer = mintBearer((count) => {
    calls++
    return new Uint8Array(count).fill(calls === 1 ? 255 : 61)
  })
  expect(calls).toBe(2)
  expect(bearer.slice(10, 40)).toBe('z'.repeat(30))
})

test('draws every character about equally often', () => {
  const seen = new Map<string, number>()
  for (let run = 0; run < 2_000; run++) {
    for (const character of mintBearer(randomBytes).slice(10, 40))
      seen.set(character, (seen.get(character) ?? 0) + 1)
  }
  expect(seen.size).toBe(62)
  // 60,000 draws over 62 characters: 968 expected, standard deviation 31.
  for (const count of seen.values()) expect(Math.abs(count - 968)).toBeLessThan(220)
})

test('hashes the whole bearer', () => {
  expect(bearerSha256('sk-x')).toBe(createHash('sha256').update('sk-x').digest('hex'))
})
