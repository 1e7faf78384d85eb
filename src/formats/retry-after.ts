// Reads how long an upstream asked to be left alone, in every form its headers take.

import type { HeaderLookup } from './format.ts'

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
