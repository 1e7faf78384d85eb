import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readQuotaLeft, readResetMs, readRetryAfterMs } from '../../../src/formats/retry-after.ts'

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

const NOW_MS = Date.UTC(2026, 10, 25, 12)

it.each([
  ['1s', 1_000],
  ['6m0s', 360_000],
  ['20ms', 20],
  ['2m59.56s', 179_560],
  ['1h2m3s', 3_723_000],
  ['7.66s', 7_660],
  ['90ms', 90],
  ['12', 12_000],
  ['0.5', 500],
  [String(NOW_MS / 1000 + 30), 30_000],
  [String(NOW_MS + 30_000), 30_000],
  [String(NOW_MS - 1), 0],
  [new Date(NOW_MS + 5_000).toISOString(), 5_000],
  [' 3s ', 3_000],
])('a reset of %s is %d ms away', (text, ms) => {
  expect(readResetMs(text, NOW_MS)).toBeCloseTo(ms, 3)
})

it.each([undefined, '', ' ', 'soon', '1x', '-5s'])('a reset of %j is none', (text) => {
  expect(readResetMs(text, NOW_MS)).toBeUndefined()
})

describe('what is left of a quota', () => {
  const names = ['-requests', '-tokens'].map((kind) => ({
    limit: `limit${kind}`,
    remaining: `remaining${kind}`,
    reset: `reset${kind}`,
  }))
  const read = (headers: Readonly<Record<string, string>>) =>
    readQuotaLeft((name) => headers[name], names, NOW_MS)

  it('is that of the scarcest', () => {
    expect(
      read({
        ...{ 'limit-requests': '500', 'remaining-requests': '499', 'reset-requests': '120ms' },
        ...{ 'limit-tokens': '30000', 'remaining-tokens': '1500', 'reset-tokens': '57s' },
      }),
    ).toEqual({ share: 0.05, resetMs: 57_000 })
  })

  it('is that of the one which is empty for longer, where both are', () => {
    const requests = { 'remaining-requests': '0', 'reset-requests': '1s' }
    const tokens = { 'remaining-tokens': '0', 'reset-tokens': '6m0s' }
    expect(read({ ...requests, ...tokens })).toEqual({ share: 0, resetMs: 360_000 })
    const swapped = { 'reset-requests': '6m0s', 'reset-tokens': '1s' }
    expect(read({ ...requests, ...tokens, ...swapped })).toEqual({ share: 0, resetMs: 360_000 })
  })

  it('is nothing where nothing remains, whatever the limit, and a minute where no reset is told', () => {
    expect(read({ 'remaining-requests': '0' })).toEqual({ share: 0, resetMs: 60_000 })
    expect(read({ 'remaining-requests': '7' })).toEqual({ share: 1, resetMs: 60_000 })
  })

  it.each<Record<string, string>>([
    {},
    { 'remaining-requests': '' },
    { 'remaining-requests': 'many' },
    { 'remaining-tokens': '-1' },
  ])('is not known from %j', (headers) => expect(read(headers)).toBeUndefined())
})
