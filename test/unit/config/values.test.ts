import { expect, test } from 'vitest'
import {
  duration,
  isWithin,
  type Parsed,
  parseDuration,
  parseHours,
  parseMoney,
  parseRate,
  parseRefill,
  parseSize,
  rate,
} from '../../../src/config/values.ts'

const value = <T>(parsed: Parsed<T>): T | undefined => (parsed.ok ? parsed.value : undefined)
const message = (parsed: Parsed<unknown>): string => (parsed.ok ? '' : parsed.message)

test.each([
  ['250ms', 250],
  ['10s', 10_000],
  ['1.5s', 1_500],
  ['0.1s', 100],
  ['5m', 300_000],
  ['1h', 3_600_000],
  ['30d', 2_592_000_000],
  ['0', 0],
  ['0s', 0],
  [0, 0],
])('reads the duration %s', (text, ms) => {
  expect(value(parseDuration(text))).toBe(ms)
})

test.each([
  '10',
  10,
  '10 s',
  '-1s',
  's',
  '',
  '1e3s',
  'NaN',
  'Infinitys',
  '10S',
  '1h30m',
  '0.1ms',
  true,
  null,
  undefined,
  `${'9'.repeat(30)}s`,
])('refuses the duration %s with an example', (text) => {
  expect(message(parseDuration(text))).toContain('"250ms"')
})

test.each([
  ['1B', 1],
  ['1KB', 1_000],
  ['1MB', 1_000_000],
  ['1GB', 1_000_000_000],
  ['64KiB', 65_536],
  ['32MiB', 33_554_432],
  ['1.5 KiB', 1_536],
  ['1GiB', 1_073_741_824],
])('reads the size %s', (text, bytes) => {
  expect(value(parseSize(text))).toBe(bytes)
})

test.each(['32', 32, '32mib', '-1MiB', '1TiB', '0.5B', '', null])(
  'refuses the size %s with an example',
  (text) => {
    expect(message(parseSize(text))).toContain('32MiB')
  },
)

test.each([
  ['6/min', { capacity: 6, intervalUs: 10_000_000 }],
  ['30/min', { capacity: 30, intervalUs: 2_000_000 }],
  ['50/s', { capacity: 50, intervalUs: 20_000 }],
  ['1/h', { capacity: 1, intervalUs: 3_600_000_000 }],
  ['24/d', { capacity: 24, intervalUs: 3_600_000_000 }],
  ['200000/min', { capacity: 200_000, intervalUs: 300 }],
])('reads the rate %s', (text, expected) => {
  expect(value(parseRate(text))).toEqual(expected)
})

test.each(['0/s', '-1/s', '0.5/s', '1/m', '30', 30, '/s', 'NaN/s', '30/fortnight', null])(
  'refuses the rate %s with an example',
  (text) => {
    expect(message(parseRate(text))).toMatch(/"30\/min"/)
  },
)

test('reads the long form of a rate, where the refill may be below one a second', () => {
  expect(rate().parse({ capacity: 100, refill: '50/s' })).toEqual({ capacity: 100, intervalUs: 20_000 })
  expect(rate().parse({ capacity: 10, refill: '0.5/s' })).toEqual({ capacity: 10, intervalUs: 2_000_000 })
  expect(rate().safeParse({ capacity: 0, refill: '50/s' }).success).toBe(false)
  expect(rate().safeParse({ capacity: 1.5, refill: '50/s' }).success).toBe(false)
  expect(rate().safeParse({ capacity: 1, refill: '50/s', burst: 1 }).success).toBe(false)
  expect(rate().safeParse({ capacity: 1 }).success).toBe(false)
})

test.each(['0/s', '0.01/d', '50', 50, '999999999999.9/s/s'])(
  'refuses the refill %s with an example',
  (text) => {
    expect(message(parseRefill(text))).toMatch(/for example/)
  },
)

test('reads money for a day or a month', () => {
  expect(value(parseMoney('20 USD/day'))).toEqual({ micros: 20_000_000, period: 'day' })
  expect(value(parseMoney('0.5 USD/month'))).toEqual({ micros: 500_000, period: 'month' })
})

test.each(['20', '20 EUR/day', '20 USD', '0 USD/day', '-1 USD/day', '20 USD/week', 20, null])(
  'refuses the money %s with an example',
  (text) => {
    expect(message(parseMoney(text))).toContain('"20 USD/day"')
  },
)

test('holds a duration within its bounds', () => {
  const schema = duration({ min: '1s', max: '1m' })
  expect(schema.parse('1s')).toBe(1_000)
  expect(schema.parse('1m')).toBe(60_000)
  expect(schema.safeParse('999ms').error?.issues[0]?.message).toBe('must be at least 1s')
  expect(schema.safeParse('61s').error?.issues[0]?.message).toBe('must be at most 1m')
  expect(schema.safeParse(0).success).toBe(false)
  expect(duration({ min: '0s', max: '1m' }).parse(0)).toBe(0)
})

test.each([
  ['08-20', { from: 8, to: 20 }],
  ['22-06', { from: 22, to: 6 }],
  ['00-24', { from: 0, to: 24 }],
  ['18-24', { from: 18, to: 24 }],
])('reads the hours %s', (text, hours) => expect(value(parseHours(text))).toEqual(hours))

test.each(['8-20', '08-25', '24-06', '08:00-20:00', '08–20', '08-', ' 08-20', 820, null, ['08', '20']])(
  'refuses the hours %s with an example',
  (text) => expect(message(parseHours(text))).toContain('"08-20"'),
)

test('refuses hours that could mean the whole day or nothing, and says how midnight is written', () => {
  expect(message(parseHours('08-08'))).toContain('same hour')
  expect(message(parseHours('00-00'))).toContain('same hour')
  expect(message(parseHours('18-00'))).toContain('"18-24"')
})

test('knows which times are within: the first hour is, the last one is not', () => {
  const at = (text: string) => Date.parse(`2027-03-01T${text}Z`)
  const within = (hours: string, text: string) =>
    isWithin(value(parseHours(hours)) ?? { from: 0, to: 0 }, at(text))
  expect(['07:59:59.999', '08:00:00', '19:59:59.999', '20:00:00'].map((t) => within('08-20', t))).toEqual([
    false,
    true,
    true,
    false,
  ])
  expect(
    ['21:59:59.999', '22:00:00', '00:00:00', '05:59:59.999', '06:00:00'].map((t) => within('22-06', t)),
  ).toEqual([false, true, true, true, false])
  expect(['00:00:00', '23:59:59.999'].map((t) => within('00-24', t))).toEqual([true, true])
})
