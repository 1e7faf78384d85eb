import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  isWithin,
  parseDuration,
  parseHours,
  parseMoney,
  parseRate,
  parseRefill,
  parseSize,
} from '../../../src/config/values.ts'

const parsers = [parseDuration, parseSize, parseRate, parseRefill, parseMoney, parseHours]

test('no parser throws, gives a number that is none, or repeats what was written', () => {
  fc.assert(
    fc.property(fc.anything(), fc.constantFrom(...parsers), (input, parse) => {
      const parsed = parse(input)
      if (parsed.ok) expect(JSON.stringify(parsed.value)).not.toMatch(/null|-/)
      else if (typeof input === 'string' && input.length > 8) expect(parsed.message).not.toContain(input)
    }),
  )
})

test('a rate gives its capacity back in its unit', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1_000_000_000 }), (count) => {
      const parsed = parseRate(`${count}/min`)
      expect(parsed.ok && parsed.value.capacity).toBe(count)
      expect(parsed.ok && parsed.value.capacity * parsed.value.intervalUs).toBeCloseTo(60_000_000, 3)
    }),
  )
})

test('durations written in two units mean the same', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1_000_000 }), (seconds) => {
      expect(parseDuration(`${seconds}s`)).toEqual(parseDuration(`${seconds * 1_000}ms`))
    }),
  )
})

test('a part of the day and the rest of it are the day, each hour in one of them', () => {
  const hour = fc.integer({ min: 0, max: 23 })
  fc.assert(
    fc.property(hour, hour, fc.integer({ min: 0, max: 4e12 }), (from, to, wallMs) => {
      fc.pre(from !== to)
      const at = { from, to }
      expect(isWithin(at, wallMs)).toBe(!isWithin({ from: to, to: from }, wallMs))
      // Counted on, hour by hour, as a person would.
      const now = Math.floor((wallMs % 86_400_000) / 3_600_000)
      let counted = false
      for (let h = from; h !== to; h = (h + 1) % 24) if (h === now) counted = true
      expect(isWithin(at, wallMs)).toBe(counted)
    }),
  )
})
