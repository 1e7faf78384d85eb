// Values as people write them (`10s`, `32MiB`, `30/min`, `20 USD/day`) and what they mean in the units of the code.
// Pure parsers, and the zod types made from them; no message repeats a value, because a value may be a secret.

import { z } from 'zod'
import type { Budget, Hours, Rate } from '../types.ts'

// A configuration is read once in a while: a parser compiled for it costs more than it saves.
z.config({ jitless: true })

/** What a parser says: the value, or why not, in words for the operator. */
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly message: string }

/** Smallest and largest value that is allowed, as an operator would write them. */
export interface Bounds {
  readonly min: string
  readonly max: string
}

const DURATION_MS = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
])

const SIZE_BYTES = new Map([
  ['B', 1],
  ['KB', 1e3],
  ['MB', 1e6],
  ['GB', 1e9],
  ['KiB', 2 ** 10],
  ['MiB', 2 ** 20],
  ['GiB', 2 ** 30],
])

const RATE_UNIT_US = new Map([
  ['s', 1_000_000],
  ['min', 60_000_000],
  ['h', 3_600_000_000],
  ['d', 86_400_000_000],
])

/** Twelve digits at most: no number that a bucket's arithmetic could not hold exactly. */
const NUMBER = String.raw`(\d{1,12}(?:\.\d{1,6})?)`
const DURATION = new RegExp(`^${NUMBER}(ms|s|m|h|d)$`)
const SIZE = new RegExp(`^${NUMBER} ?(B|KB|MB|GB|KiB|MiB|GiB)$`)
const RATE = new RegExp(`^${NUMBER} ?/ ?(s|min|h|d)$`)
const MONEY = new RegExp(`^${NUMBER} USD ?/ ?(day|month)$`)

const HOURS = /^([01]\d|2[0-3])-([01]\d|2[0-4])$/

const MOST_UNITS = 1e12
/** A unit a day is slow but sensible for a rate; below one in thirty days it is a mistake. */
const SLOWEST_INTERVAL_US = 30 * 86_400_000_000
const MOST_MICROS = 1e15

/** `250ms`, `10s`, `5m`, `1h`, `30d` as milliseconds; a bare 0 is read too. Whole milliseconds only. */
export function parseDuration(input: unknown): Parsed<number> {
  if (input === 0 || input === '0') return { ok: true, value: 0 }
  const hint =
    'is not a duration; write a number and its unit, for example "250ms", "10s", "5m", "1h" or "30d"'
  if (typeof input !== 'string') return wrong(hint)
  const ms = scaled(DURATION.exec(input), DURATION_MS)
  if (ms === undefined) return wrong(hint)
  return Number.isInteger(ms)
    ? { ok: true, value: ms }
    : wrong('is finer than a millisecond; write for example "250ms"')
}

/** `32MiB`, `64KiB`, `1GiB`, `500B`, and the decimal `KB`, `MB`, `GB`, as bytes. */
export function parseSize(input: unknown): Parsed<number> {
  const hint = 'is not a size; write a number and its unit, for example "32MiB", "64KiB" or "1GiB"'
  if (typeof input !== 'string') return wrong(hint)
  const bytes = scaled(SIZE.exec(input), SIZE_BYTES)
  if (bytes === undefined) return wrong(hint)
  return Number.isInteger(bytes)
    ? { ok: true, value: bytes }
    : wrong('is not a whole number of bytes; write for example "32MiB"')
}

/** The short form of a rate: `N/unit` is a capacity of N that refills N per unit. */
export function parseRate(input: unknown): Parsed<Rate> {
  const hint =
    'is not a rate; write for example "30/min", "50/s", "1000/h" or "5000/d", or { capacity: 100, refill: 50/s }'
  if (typeof input !== 'string') return wrong(hint)
  const found = RATE.exec(input)
  const capacity = Number(found?.[1])
  const unitUs = RATE_UNIT_US.get(found?.[2] ?? '')
  if (!found || unitUs === undefined) return wrong(hint)
  if (!Number.isInteger(capacity)) {
    return wrong('has a capacity that is not whole; write a longer unit, for example "30/min" for "0.5/s"')
  }
  if (capacity < 1) return wrong('must allow at least 1, for example "30/min"')
  if (capacity > MOST_UNITS) return wrong('is absurdly large; leave the limit out if there is none')
  return { ok: true, value: { capacity, intervalUs: unitUs / capacity } }
}

/** The refill of the long form, `50/s` or `0.5/s`, as microseconds for one unit. */
export function parseRefill(input: unknown): Parsed<number> {
  const hint = 'is not a refill; write for example "50/s", "0.5/s" or "30/min"'
  if (typeof input !== 'string') return wrong(hint)
  const found = RATE.exec(input)
  const amount = Number(found?.[1])
  const unitUs = RATE_UNIT_US.get(found?.[2] ?? '')
  if (!found || unitUs === undefined) return wrong(hint)
  if (amount <= 0) return wrong('must be more than zero, for example "50/s"')
  const intervalUs = unitUs / amount
  if (amount > MOST_UNITS) return wrong('is absurdly large; leave the limit out if there is none')
  return intervalUs > SLOWEST_INTERVAL_US
    ? wrong('is slower than one in 30 days; write for example "1/d"')
    : { ok: true, value: intervalUs }
}

/** `20 USD/day`, `500 USD/month` as millionths of a dollar and a period. */
export function parseMoney(input: unknown): Parsed<Budget> {
  const hint = 'is not an amount of money; write for example "20 USD/day" or "500 USD/month"'
  if (typeof input !== 'string') return wrong(hint)
  const found = MONEY.exec(input)
  const period = found?.[2]
  if (!found || (period !== 'day' && period !== 'month')) return wrong(hint)
  const micros = Math.round(Number(found[1]) * 1e6)
  if (micros <= 0) return wrong('must be more than zero, for example "20 USD/day"')
  return micros > MOST_MICROS
    ? wrong('is absurdly large; leave the budget out if there is none')
    : { ok: true, value: { micros, period } }
}

/** `08-20`, and `22-06` over midnight: hours of the UTC day, the first within and the last one not. */
export function parseHours(input: unknown): Parsed<Hours> {
  const hint =
    'is not a part of the day; write two hours of UTC, for example "08-20", or "22-06" over midnight'
  const found = typeof input === 'string' ? HOURS.exec(input) : null
  if (found === null) return wrong(hint)
  const [from, to] = [Number(found[1]), Number(found[2])]
  // Nobody could say whether it is the whole day or nothing of it.
  if (from === to) return wrong('begins and ends with the same hour; leave it out for the whole day')
  // Over midnight it would not end.
  if (to === 0) return wrong('ends with the hour 00; write 24 for the end of the day, for example "18-24"')
  return { ok: true, value: { from, to } }
}

/** Whether a time (Unix ms) lies within. */
export function isWithin({ from, to }: Hours, wallMs: number): boolean {
  const hour = new Date(wallMs).getUTCHours()
  return from < to ? hour >= from && hour < to : hour >= from || hour < to
}

function wrong(message: string): { ok: false; message: string } {
  return { ok: false, message }
}

/** Number times unit, or undefined when the text had not that form. Rounded where 0.1 would not come out exact. */
function scaled(found: RegExpExecArray | null, units: ReadonlyMap<string, number>): number | undefined {
  const unit = units.get(found?.[2] ?? '')
  if (!found || unit === undefined) return undefined
  const product = Number(found[1]) * unit
  const whole = Math.round(product)
  return Math.abs(product - whole) < 1e-6 ? whole : product
}

// --- as zod types ----------------------------------------------------------------------------------------

/** How a leaf shows itself in the JSON Schema and the reference. */
export interface LeafLook {
  /** Word for the type in the reference, for example `duration`. */
  readonly title: string
  readonly type: 'string' | 'number' | ['string', 'integer']
  readonly examples: readonly (string | number)[]
}

/**
 * A zod type from a parser. It takes anything, so that the parser's own words are the error whatever was
 * written; an object or a list is marked as a mismatch, so that a union can prefer another form.
 */
export function leaf<T>(parse: (input: unknown) => Parsed<T>, look: LeafLook) {
  return z
    .unknown()
    .transform((input, context): T => {
      const parsed = parse(input)
      if (parsed.ok) return parsed.value
      const mismatch = typeof input === 'object' && input !== null
      const message = input === undefined ? 'is missing' : parsed.message
      context.issues.push({ code: 'custom', message, input, params: { mismatch } })
      return z.NEVER
    })
    .meta({ title: look.title, type: look.type, examples: [...look.examples] })
}

/** A duration in ms, between two bounds that are durations themselves; `min: '0s'` allows zero. */
export function duration(bounds: Bounds) {
  const parse = (input: unknown) => bounded(parseDuration(input), bounds, readBounds(parseDuration, bounds))
  return leaf(parse, {
    title: 'duration',
    type: bounds.min === '0s' ? ['string', 'integer'] : 'string',
    examples: ['10s'],
  })
}

/** A size in bytes, between two bounds. */
export function size(bounds: Bounds) {
  const parse = (input: unknown) => bounded(parseSize(input), bounds, readBounds(parseSize, bounds))
  return leaf(parse, { title: 'size', type: 'string', examples: ['32MiB'] })
}

/** A rate, short (`30/min`) or long (`{ capacity: 100, refill: 50/s }`). */
export function rate() {
  const short = leaf(parseRate, { title: 'rate', type: 'string', examples: ['30/min', '50/s'] })
  const long = z
    .strictObject({
      capacity: z.int().min(1).max(MOST_UNITS).describe('Units the bucket holds when it is full: the burst.'),
      refill: leaf(parseRefill, { title: 'refill', type: 'string', examples: ['50/s'] }).describe(
        'Units that come back, for example `50/s`.',
      ),
    })
    .transform(({ capacity, refill }): Rate => ({ capacity, intervalUs: refill }))
  return z.union([short, long])
}

/** Hours of the UTC day. */
export function hours() {
  return leaf(parseHours, { title: 'hours', type: 'string', examples: ['08-20'] })
}

/** Money per period. */
export function money() {
  return leaf(parseMoney, { title: 'money', type: 'string', examples: ['20 USD/day'] })
}

function readBounds(parse: (input: unknown) => Parsed<number>, bounds: Bounds): { min: number; max: number } {
  const min = parse(bounds.min)
  const max = parse(bounds.max)
  if (!min.ok || !max.ok) throw new TypeError(`bounds ${bounds.min}..${bounds.max} cannot be read`)
  return { min: min.value, max: max.value }
}

function bounded(
  parsed: Parsed<number>,
  written: Bounds,
  limit: { min: number; max: number },
): Parsed<number> {
  if (!parsed.ok) return parsed
  if (parsed.value < limit.min) return wrong(`must be at least ${written.min}`)
  return parsed.value > limit.max ? wrong(`must be at most ${written.max}`) : parsed
}
