// How Google says that something went wrong: `{ error: { code, message, status, details } }` with gRPC's words, with a
// status or inside a 200. Pure. Source: google.rpc (ErrorInfo, RetryInfo, QuotaFailure), the API's page on errors.

import { isObject } from '../bytes/json-value.ts'
import type { Fault, HeaderLookup } from './format.ts'
import { faults } from './openai-faults.ts'

/** Reasons of an ErrorInfo that tell of the key, or of the project behind it. */
const KEY_REASONS =
  /^(?:API_KEY_|ACCESS_TOKEN_|CREDENTIALS_|CONSUMER_|ACCOUNT_|BILLING_|SERVICE_DISABLED|USER_PROJECT_|LOCATION_)/

export function faultOfGemini(status: number, header: HeaderLookup, body: string, nowMs: number): Fault {
  const fault = faults.fault(status, header, body, nowMs)
  const error = errorOf(body)
  const details = Array.isArray(error.details) ? error.details.filter(isObject) : []
  const type = typeof error.status === 'string' ? error.status : fault.type
  const reason = details.map((detail) => detail.reason).find((one) => typeof one === 'string')
  const code = typeof reason === 'string' ? reason : fault.code
  const told = { ...fault, type, code }
  if (status === 429 && isSpentForTheDay(details)) return { ...told, retryAfterMs: untilDailyReset(nowMs) }
  // A wrong key is a 400 that has nothing to do with what the caller asked for, as is an account without money, or one
  // that calls from a country where there is no service.
  const isKey = type === 'FAILED_PRECONDITION' || (typeof reason === 'string' && KEY_REASONS.test(reason))
  if (isKey && status >= 400 && status < 500 && status !== 429)
    return { ...told, verdict: 'retry', key: true, park: true }
  return told
}

/** Its own status is told in the error; without one it is the provider's trouble. */
export function inBandOfGemini(text: string): { readonly status: number; readonly fault: Fault } {
  const { code } = errorOf(text)
  const status = typeof code === 'number' && code >= 400 && code < 600 ? code : faults.inBand(text).status
  return { status, fault: faultOfGemini(status, () => undefined, text, 0) }
}

function errorOf(body: string): Readonly<Record<string, unknown>> {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    return {}
  }
  const outer: unknown = Array.isArray(parsed) ? parsed[0] : parsed
  return isObject(outer) && isObject(outer.error) ? outer.error : {}
}

/** A RetryInfo beside it is about the minute: the day is not over in those seconds. */
function isSpentForTheDay(details: readonly Readonly<Record<string, unknown>>[]): boolean {
  return details.some(
    ({ violations }) =>
      Array.isArray(violations) &&
      violations.some(
        (one) => isObject(one) && typeof one.quotaId === 'string' && /PerDay/i.test(one.quotaId),
      ),
  )
}

const DAY_MS = 86_400_000
const PACIFIC = new Intl.DateTimeFormat('en-US', {
  timeZone: 'America/Los_Angeles',
  hourCycle: 'h23',
  hour: 'numeric',
  minute: 'numeric',
  second: 'numeric',
})

/** Daily quotas are whole again at midnight, Pacific time; on the two days when clocks change, an hour beside it. */
function untilDailyReset(nowMs: number): number {
  const part = (type: string): number =>
    Number(PACIFIC.formatToParts(nowMs).find((one) => one.type === type)?.value ?? 0)
  const pastMs = ((part('hour') * 60 + part('minute')) * 60 + part('second')) * 1000
  return DAY_MS - pastMs
}
