import { expect, it } from 'vitest'
import { unitHash } from '../../../src/bytes/unit-hash.ts'

it('is the same for the same texts, and another for others', () => {
  expect(unitHash('a', 'b')).toBe(unitHash('a', 'b'))
  expect(new Set([unitHash('a', 'b'), unitHash('b', 'a'), unitHash('ab', ''), unitHash('', 'ab')]).size).toBe(
    4,
  )
})

it('is spread evenly over [0, 1), also for texts that differ in one place', () => {
  const buckets = new Array<number>(10).fill(0)
  for (let i = 0; i < 100_000; i += 1) {
    const value = unitHash(`session-${i}`, 'provider/model')
    expect(value).toBeGreaterThanOrEqual(0)
    expect(value).toBeLessThan(1)
    buckets[Math.floor(value * 10)] = (buckets[Math.floor(value * 10)] ?? 0) + 1
  }
  for (const count of buckets) expect(Math.abs(count - 10_000)).toBeLessThan(500)
})
