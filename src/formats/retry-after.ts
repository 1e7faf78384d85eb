// Reads how long an upstream asked to be left alone, and what it says of its quota, in every form its headers take.

import type { HeaderLookup, QuotaLeft } from './format.ts'

/**
 * The wait in ms, or undefined when none is named. `retry-after-ms` (milliseconds) goes before `retry-after`
 * (RFC 9110 §10.2.3: whole seconds or an HTTP date; decimals are seen in the wild). Never negative.
 */
export function readRetryAfterMs(header: HeaderLookup, nowMs: number): number | undefined {
  const exact = header('retry-after-ms')
  if (exact !== undefined) {
    const ms = Number(exact)
    if (exact.trim() !== '' && Number.isFinite(ms)) return Math.max(0, ms)
  }
  const text = header('retry-after')?.trim()
  if (text === undefined || text === '') return undefined
  const seconds = Number(text)
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1000)
  const date = Date.parse(text)
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs)
}

/** Go's durations (`6m0s`, `1h2m3.5s`, `20ms`), as OpenAI and Groq write when a quota is whole again. */
const GO_DURATION = /^(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$/

/**
 * When a quota is whole again, in ms from now, or undefined where that cannot be read: a duration, a date (RFC 3339),
 * seconds, or a moment as Unix seconds or milliseconds. `nowMs` is Unix time.
 */
export function readResetMs(text: string | undefined, nowMs: number): number | undefined {
  const value = text?.trim()
  if (value === undefined || value === '') return undefined
  const amount = Number(value)
  if (Number.isFinite(amount)) {
    // Nobody waits for 30 years: what is so large is a moment.
    if (amount > 1e12) return Math.max(0, amount - nowMs)
    return Math.max(0, amount > 1e9 ? amount * 1000 - nowMs : amount * 1000)
  }
  const parts = GO_DURATION.exec(value)
  if (parts !== null) {
    const [, hours = 0, minutes = 0, seconds = 0, millis = 0] = parts.map((part) => Number(part ?? 0))
    return hours * 3_600_000 + minutes * 60_000 + seconds * 1000 + millis
  }
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs)
}

/** Where a vendor says how much of its quotas is left. */
export interface QuotaNames {
  readonly limit: string
  readonly remaining: string
  readonly reset: string
}

/** The scarcest of several quotas; undefined where no header tells of one. `nowMs` is Unix time. */
export function readQuotaLeft(
  header: HeaderLookup,
  names: readonly QuotaNames[],
  nowMs: number,
): QuotaLeft | undefined {
  let scarcest: QuotaLeft | undefined
  for (const { limit, remaining, reset } of names) {
    const told = header(remaining)
    if (told === undefined || told.trim() === '') continue
    const left = Number(told)
    const all = Number(header(limit))
    if (!(left >= 0)) continue
    // Without a limit only "nothing" can be told apart.
    const share = left === 0 ? 0 : all > 0 ? Math.min(left / all, 1) : 1
    const resetMs = readResetMs(header(reset), nowMs) ?? DEFAULT_RESET_MS
    // Of two that are both empty the one that stays so longer.
    const isScarcer =
      scarcest === undefined ||
      share < scarcest.share ||
      (share === scarcest.share && resetMs > scarcest.resetMs)
    if (isScarcer) scarcest = { share, resetMs }
  }
  return scarcest
}

/** Where nothing is said: quotas are by the minute as a rule. */
const DEFAULT_RESET_MS = 60_000
