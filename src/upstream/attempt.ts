// What comes of one attempt, whose fault it was, and what follows from it: pure, so that every rule of failover is a line that can be
// tested without a socket.

import type { Fault } from '../formats/format.ts'
import type { Attempt, Candidate, Deployment, ModelRequest, Reason, Tier, Usage } from '../types.ts'

/** How one call to one deployment ended. An attempt returns this; it does not throw to steer. */
export type Result =
  | { readonly outcome: 'answered'; readonly usage: Usage | undefined }
  /** Nothing has reached the caller: somebody else may answer. */
  | {
      readonly outcome: 'retry'
      readonly reason: Reason
      readonly retryAfterMs: number | undefined
      /** The key is at fault, not the provider: another one may do. */
      readonly key: boolean
      /** The key will not do for anybody for a while. */
      readonly park: boolean
      readonly message: string
      /** What ended it says nothing about the provider, for example the request's own deadline. */
      readonly blameless: boolean
      /** What it has used all the same: the provider was at work when it was cut. */
      readonly usage: Usage | undefined
    }
  /** The caller's own mistake, with the provider's words. */
  | { readonly outcome: 'refuse'; readonly status: number; readonly fault: Fault }
  /** Cut after the first byte. */
  | {
      readonly outcome: 'broken'
      readonly reason: Reason
      readonly usage: Usage | undefined
      readonly blameless: boolean
      /** All that the caller has read, where somebody else can go on with it. */
      readonly said: string | undefined
    }
  /** The caller went away. */
  | { readonly outcome: 'left'; readonly usage: Usage | undefined }

/** What the loop does after an attempt that somebody else may follow. */
export type Step = 'same' | 'next'

/** Reasons that tend to pass at once: worth one more call to the same deployment. Silence and refusal are not among them. */
const PASSING: ReadonlySet<Reason> = new Set([
  '500',
  '502',
  '504',
  'reset',
  'incomplete',
  'malformed',
  'empty',
])

/** A provider that has too much to do: others are asked at once, but where there is nobody else it is worth another look. */
const BUSY: ReadonlySet<Reason> = new Set(['408', '429', '503', '529'])

export interface Standing {
  /** Second calls to this deployment that its tier still allows. */
  readonly retriesLeft: number
  /** Another key of the provider could be tried. */
  readonly otherKey: boolean
  /** Calls that are left in all. */
  readonly attemptsLeft: number
  /** Tiers behind this one to which a call is due. */
  readonly tiersLeft: number
  /** Another deployment of the tier can be called. */
  readonly otherInTier: boolean
  /** No other provider behind this one can be called. */
  readonly isAlone: boolean
  readonly patienceMs: number
  /** How long the deadline of the request, and those who stand behind, leave for a wait. */
  readonly timeLeftMs: number
}

/** Where to go after a `retry`, and how long to wait first. */
export function nextStep(
  result: Extract<Result, { outcome: 'retry' }>,
  standing: Standing,
): { step: Step; waitMs: number; jitter: boolean } {
  const next = { step: 'next', waitMs: 0, jitter: false } as const
  if (!mayCallAgain(standing)) return next
  if (result.key && standing.otherKey) return { step: 'same', waitMs: 0, jitter: false }
  if (result.park) return next
  const { retryAfterMs } = result
  if (retryAfterMs !== undefined && retryAfterMs > 0) {
    // The better model is worth a short wait when nobody else of its tier can answer.
    const wait =
      retryAfterMs <= standing.patienceMs && retryAfterMs < standing.timeLeftMs && !standing.otherInTier
    return wait ? { step: 'same', waitMs: retryAfterMs, jitter: false } : next
  }
  if (standing.retriesLeft <= 0) return next
  if (PASSING.has(result.reason)) return { step: 'same', waitMs: BACKOFF_MS, jitter: true }
  if (standing.isAlone && BUSY.has(result.reason)) return { step: 'same', waitMs: BUSY_MS, jitter: true }
  return next
}

/** Longest pause before a second call to the same deployment; the pause itself is drawn from all of it. */
const BACKOFF_MS = 100
const BUSY_MS = 500

/** A tier gets a second call only while the attempts left exceed the tiers left (design §4, `failover.attempts`). */
export function mayCallAgain({
  attemptsLeft,
  tiersLeft,
}: Pick<Standing, 'attemptsLeft' | 'tiersLeft'>): boolean {
  return attemptsLeft > tiersLeft
}

/** After "too long": only a window known to be larger is worth a call. */
export function isLarger(candidate: Deployment, than: Deployment): boolean {
  const { contextWindow } = candidate
  return (
    contextWindow !== undefined && (than.contextWindow === undefined || contextWindow > than.contextWindow)
  )
}

/** The closed list of reasons for errors of the connection. */
export function toReason(error: Error & { code?: unknown }, sawHead: boolean): Reason {
  const code = typeof error.code === 'string' ? error.code : ''
  if (code === 'ECONNREFUSED') return 'refused'
  if (code === 'ENOTFOUND' || code.startsWith('EAI_')) return 'dns'
  if (isTls(code)) return 'tls'
  // The connection ended inside an answer: that is a cut, although the parser is the one to say it.
  if (code === 'HPE_INVALID_EOF_STATE') return 'reset'
  if (code === 'MALFORMED_ANSWER') return 'malformed'
  if (code.startsWith('HPE_') || error.name === 'HTTPParserError') return 'malformed'
  if (sawHead) return 'reset'
  if (CONNECT_CODES.has(code)) return 'connect'
  const inner = error.cause
  // An attempt over several addresses fails as an AggregateError; its members know why.
  if (error instanceof AggregateError && error.errors[0] instanceof Error)
    return toReason(error.errors[0], sawHead)
  if (inner instanceof Error && inner !== error) return toReason(inner, sawHead)
  return 'reset'
}

const CONNECT_CODES: ReadonlySet<string> = new Set([
  'UND_ERR_CONNECT_TIMEOUT',
  // A proxy that is no way to anywhere, or that refuses.
  'UND_ERR_PRX_CONN',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_ABORTED',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'EACCES',
  'EMFILE',
])

function isTls(code: string): boolean {
  return (
    code.startsWith('ERR_TLS_') ||
    code.startsWith('ERR_SSL_') ||
    code.startsWith('CERT_') ||
    code === 'EPROTO' ||
    code === 'UND_ERR_PRX_TLS' ||
    code === 'DEPTH_ZERO_SELF_SIGNED_CERT' ||
    code === 'SELF_SIGNED_CERT_IN_CHAIN' ||
    code.startsWith('UNABLE_TO_')
  )
}

// --- whose fault it was -------------------------------------------------------------------------------------------

export type Failure = Extract<Result, { outcome: 'retry' }>

/** A stream that broke and that somebody else may go on with is a failure like those before the first byte. */
export function toFailed(result: Failure | Extract<Result, { outcome: 'broken' }>): Failure {
  if (result.outcome === 'retry') return result
  const { reason, usage, blameless } = result
  const nothing = { retryAfterMs: undefined, key: false, park: false, message: '' }
  return { outcome: 'retry', reason, usage, blameless, ...nothing }
}

/** The key, or its rate where the provider has another key: then the next one may do. */
export function isKeyFault(result: Failure, deployment: Deployment): boolean {
  return result.key || (result.reason === '429' && (deployment.provider?.keys.length ?? 0) > 1)
}

/** Whether its key is left alone for a while. */
export function parks(result: Failure): boolean {
  return result.park || result.reason === '429'
}

/** A key that was refused is left alone this long. */
const KEY_PARK_MS = 60_000
/** A key that is over its rate, where the provider does not say for how long. */
const RATE_PARK_MS = 1000

/** How long that key is left alone, ms. */
export function parkMs({ park, retryAfterMs }: Failure): number {
  return park ? Math.max(KEY_PARK_MS, retryAfterMs ?? 0) : retryAfterMs || RATE_PARK_MS
}

/** Twice what all but one of twenty streams took of late, between the bounds of the tier. */
export function firstTokenLimit(
  { firstTokenMs, firstTokenLeastMs }: Tier,
  p95Ms: number | undefined,
): number {
  if (firstTokenLeastMs === undefined || p95Ms === undefined) return firstTokenMs
  return Math.min(Math.max(2 * p95Ms, firstTokenLeastMs), firstTokenMs)
}

/** An answer that came, but so late that it would have been cut had there been anybody else. */
export function lateness(
  { tier }: Candidate,
  { stream }: ModelRequest,
  { startedMs, firstTokenMs }: Attempt,
): Reason | undefined {
  if (firstTokenMs === undefined) return undefined
  const [mostMs, reason] = stream
    ? ([tier.firstTokenMs, 'first_token'] as const)
    : ([tier.firstByteMs, 'first_byte'] as const)
  return firstTokenMs - startedMs > mostMs ? reason : undefined
}

/**
 * A failure that this request alone explains: nobody may take a provider away from the others by what he asks for.
 * Context: it was too long. 413 as a rate: the prompt alone is over the tokens per minute. 403 and 404 of
 * `provider/*`: the caller chose the name. Whatever a server says to an operation, or in a second format, that it may
 * not have: its chat works.
 */
export function isAboutRequest(
  { reason }: Failure,
  deployment: Deployment,
  { request, isSecond }: { readonly request: ModelRequest; readonly isSecond: boolean },
): boolean {
  if (reason === 'context' || reason === '413') return true
  if (deployment.model === undefined && (reason === '403' || reason === '404')) return true
  return (isSecond || request.endpoint.operation !== 'chat') && NO_SUCH_OPERATION.has(reason)
}

/** What a server says that does not have what it was asked for. */
export function lacksOperation({ reason }: Failure): boolean {
  return NO_SUCH_OPERATION.has(reason)
}

const NO_SUCH_OPERATION: ReadonlySet<Reason> = new Set(['404', '405', '501', 'malformed'])
