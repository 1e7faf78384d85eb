// Limits in words and in header values. Pure text; what is true of a bucket is decided elsewhere.

import type { Budget, Rate, Subject } from '../types.ts'
import type { Refused } from './store.ts'

const UNITS = [
  ['s', 1e6],
  ['min', 60e6],
  ['h', 3600e6],
  ['day', 86400e6],
] as const

/** `50/s (burst 100)`, in the unit in which the number is whole if there is one. */
function rateText(rate: Rate, what: string): string {
  const all = UNITS.map(([unit, us]) => ({ unit, units: us / rate.intervalUs }))
  const whole = all.find(({ units }) => units >= 0.999 && Math.abs(units - Math.round(units)) < 1e-6 * units)
  const { unit, units } = whole ??
    all.find((one) => one.units >= 1) ?? { unit: 'day', units: 86400e6 / rate.intervalUs }
  const written = whole === undefined ? Number(units.toPrecision(4)) : Math.round(units)
  const burst = rate.capacity === written ? '' : ` (burst ${rate.capacity})`
  return `${written} ${what}/${unit}${burst}`
}

/** `1.2 s`: never shorter than the wait is. */
function waitText(waitMs: number): string {
  if (waitMs < 1000) return `${Math.ceil(waitMs)} ms`
  if (waitMs < 120_000) return `${Math.ceil(waitMs / 100) / 10} s`
  return `${Math.ceil(waitMs / 60_000)} min`
}

/**
 * What a caller is told of a refusal: which limit of whom, and when to come back. `agent` is the caller's own name;
 * nothing else of other agents is in it.
 */
export function refusalText({ kind, ask, waitUs }: Refused, agent: string): string {
  const { subject } = ask.account
  const { requests, tokens, concurrency } = subject.limits
  const whose = subjectText(subject, agent)
  if (kind === 'concurrency')
    return `${whose} is limited to ${counted(concurrency ?? 0)} at once; try again in 1 s.`
  const rate =
    kind === 'requests'
      ? requests && rateText(requests, 'requests')
      : tokens && rateText(tokens, 'input and output tokens')
  return `${whose} is limited to ${rate}; this request fits in ${waitText(waitUs / 1000)}.`
}

/**
 * What a caller is told when the money of `subject` does not cover the request: whose, how much, and from when on there
 * is more (`endsAtMs`, Unix ms, the end of the period). It is final, so it holds none of the words that clients take for
 * a reason to come back at once, and no number that they take for an HTTP status (wire §0.3).
 */
export function budgetRefusalText(subject: Subject, agent: string, endsAtMs: number): string {
  const { budget } = subject.limits
  const amount = budget === undefined ? '' : ` of ${budgetText(budget)}`
  const shown = STATUS_LIKE.test(amount) ? '' : amount
  const from = new Date(endsAtMs).toISOString().slice(0, 16).replace('T', ' ')
  return `${subjectText(subject, agent)} has too little left of its budget${shown} for this request; the next ${budget?.period ?? 'period'} begins at ${from} UTC.`
}

/** What a caller is told while the rest of the money is reserved by requests that have not ended. */
export function reservedText(subject: Subject, agent: string): string {
  return `${subjectText(subject, agent)} has reserved the rest of its budget for requests under way; try again in 1 s.`
}

const STATUS_LIKE = /429|50[0-4]|52[0-9]/

/** `20 USD/day`, as it is written in the configuration. */
function budgetText({ micros, period }: Budget): string {
  return `${micros / 1e6} USD/${period}`
}

function counted(requests: number): string {
  return requests === 1 ? '1 request' : `${requests} requests`
}

function subjectText({ kind, id }: Subject, agent: string): string {
  switch (kind) {
    case 'agent':
      return `Agent ${agent}`
    case 'bearer':
      return `Bearer ${id} of agent ${agent}`
    case 'gateway':
      return 'This gateway'
    default:
      return `${kind === 'route' ? 'Route' : kind === 'provider' ? 'Provider' : 'Deployment'} ${id}`
  }
}

/** As Go writes a duration, rounded up to the ms: `12ms`, `1s`, `1m30.5s`, `6m0s`, `1h0m0s`; `0s` for nothing. */
export function durationText(us: number): string {
  const ms = Math.ceil(us / 1000)
  if (ms === 0) return '0s'
  if (ms < 1000) return `${ms}ms`
  const hours = Math.floor(ms / 3_600_000)
  const minutes = Math.floor(ms / 60_000) % 60
  const seconds = (ms % 60_000) / 1000
  return `${hours > 0 ? `${hours}h` : ''}${hours > 0 || minutes > 0 ? `${minutes}m` : ''}${seconds}s`
}
