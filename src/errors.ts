// The closed set of errors a request can end with: what they mean, never how they look on the wire
// (that is http/error-body.ts). The code is the wire code and the metric label: one name everywhere.

import type { EndSignal, LimitName } from './types.ts'

/** Every way in which sluice ends a request itself: the wire code, and when it is given. */
export const ERRORS = {
  invalid_request:
    'The request cannot be read as HTTP, or a field is missing, of the wrong type or not accepted here.',
  invalid_json: 'The body is not valid JSON in UTF-8.',
  ambiguous_field:
    'A field that two parsers could read in two ways: written twice, with escapes, or in another case.',
  context_length_exceeded: 'Too long for every deployment of the route.',
  invalid_api_key: 'No bearer, or one that is unknown, expired or revoked: one answer for all of them.',
  scope_denied: 'No scope of the agent allows it, or a `deny` forbids it; the message names the scope.',
  not_found: 'There is no such endpoint.',
  model_not_found:
    'Allowed by scope, but there is no such route; or money is limited, and no deployment of it has a price.',
  method_not_allowed: 'The endpoint takes another method.',
  request_timeout: 'The head or the body came too slowly.',
  request_too_large: 'The body is over `listen.maxBody`.',
  unsupported_media_type: 'The body is not JSON in UTF-8, or it is compressed.',
  expectation_failed: 'An `Expect` header other than `100-continue`.',
  upgrade_required: 'A WebSocket was asked for; clients fall back to HTTP at once.',
  headers_too_large: 'More than 100 header lines or 16 KiB of them.',
  rate_limit_exceeded: "The agent's own requests or tokens are spent; `retry-after-ms` is the exact wait.",
  concurrency_exceeded: 'The agent has as many requests under way as it may.',
  insufficient_quota: "The agent's money is spent.",
  upstream_failed: 'Every attempt failed; the message lists tier, deployment and reason of each.',
  upstream_incomplete:
    'The answer broke off after it had begun: the last event of the stream, never a status.',
  overloaded:
    'The gateway has more to do than it can, and sheds `batch` agents first; or it holds as many bodies as it may.',
  draining: 'The gateway is shutting down.',
  limits_unavailable: 'Redis is away, and the gateway was told to deny in that case, or money is limited.',
  deadline_exceeded: "The caller's, the agent's or the gateway's deadline passed.",
  internal: 'A defect of ours: the request id, and nothing else.',
  client_closed: 'The caller went away; only in the log and the metrics.',
} as const

export type ErrorCode = keyof typeof ERRORS

/** What an upstream said of the caller's own mistake, passed on with its status (design §5). */
export interface PassedFault {
  /** HTTP status of the upstream, 400–499. */
  readonly status: number
  readonly type: string | null
  readonly param: string | null
  readonly code: string | null
}

export interface ErrorDetail {
  readonly cause?: unknown
  /** Exact wait before a retry can succeed, in ms; absent where a retry cannot help. */
  readonly retryAfterMs?: number
  /** The field of the request that is at fault. */
  readonly param?: string
  /** The limit that refused, for the metrics. */
  readonly limit?: LimitName
  /** Set when the words and the status are the upstream's. */
  readonly passed?: PassedFault
}

/**
 * Ends a request. `message` is shown to the caller (after scrubbing), so it holds no secret and no detail of
 * other agents; `cause` is for the log only.
 */
export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly code: ErrorCode
  readonly retryAfterMs: number | undefined
  readonly param: string | undefined
  readonly limit: LimitName | undefined
  readonly passed: PassedFault | undefined

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause })
    this.code = code
    this.retryAfterMs = detail.retryAfterMs
    this.param = detail.param
    this.limit = detail.limit
    this.passed = detail.passed
  }
}

/** Why a request was given up before its end: the error its signal was aborted with, else that the caller left. */
export function toEndError(signal: EndSignal): GatewayError {
  const reason: unknown = signal.reason
  return reason instanceof GatewayError ? reason : new GatewayError('client_closed', 'The caller went away.')
}

/** Any thrown value as a GatewayError: what is not ours is `internal`, with the original as its cause. */
export function toGatewayError(error: unknown): GatewayError {
  return error instanceof GatewayError
    ? error
    : new GatewayError('internal', 'Internal error.', { cause: error })
}
