import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readRetryAfterMs } from '../../../src/formats/retry-after.ts'

const NOW = Date.UTC(2026, 10, 21, 12)
const read = (headers: Readonly<Record<string, string>>) => readRetryAfterMs((name) => headers[name], NOW)

describe('how long an upstream asks to be left alone', () => {
  it.each([
    ['30', 30_000],
    [' 30 ', 30_000],
    ['0', 0],
    ['0.25', 250],
    ['-3', 0],
    ['Sat, 21 Nov 2026 12:00:10 GMT', 10_000],
    ['Saturday, 21-Nov-26 12:00:10 GMT', 10_000],
    ['Sat, 21 Nov 2026 11:59:00 GMT', 0],
    ['', undefined],
    ['  ', undefined],
    ['soon', undefined],
    ['NaN', undefined],
    ['Infinity', undefined],
  ])('retry-after: %j is %s ms', (value, expected) => {
    expect(read({ 'retry-after': value })).toBe(expected)
  })

  it.each([
    [{ 'retry-after-ms': '1500' }, 1500],
    [{ 'retry-after-ms': '1500.5', 'retry-after': '9' }, 1500.5],
    [{ 'retry-after-ms': '-1', 'retry-after': '9' }, 0],
    [{ 'retry-after-ms': '', 'retry-after': '9' }, 9000],
    [{ 'retry-after-ms': 'x', 'retry-after': '9' }, 9000],
    [{}, undefined],
  ])('%o is %s ms', (headers, expected) => {
    expect(read(headers)).toBe(expected)
  })

  it('is a finite wait or none, whatever the header says', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (one, other) => {
        const ms = read({ 'retry-after': one, 'retry-after-ms': other })
        expect(ms === undefined || (Number.isFinite(ms) && ms >= 0)).toBe(true)
      }),
    )
  })
})
