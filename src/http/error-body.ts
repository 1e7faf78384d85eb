// The only place where an error becomes bytes: status, headers, body, and the event that ends a broken stream, in the
// shape of the format that the caller speaks. Messages pass through the scrubber here, whoever wrote them.

import { type ErrorCode, type GatewayError, toGatewayError } from '../errors.ts'
import type { ClientSide, ToldError } from '../formats/format.ts'
import { openai } from '../formats/openai.ts'

interface ErrorShape {
  readonly status: number
  readonly type: string
  /** Whether a client should send the same request again (`x-should-retry`; the SDKs obey it). */
  readonly retry: boolean
  /** `retry-after-ms` where the error names none. Every 429 and 5xx of ours carries one, unless it is final. */
  readonly retryAfterMs?: number
}

const INVALID = 'invalid_request_error'
const SERVER = 'server_error'

/** Design §5. A code without a shape does not compile. */
export const ERROR_SHAPES = {
  invalid_request: { status: 400, type: INVALID, retry: false },
  invalid_json: { status: 400, type: INVALID, retry: false },
  ambiguous_field: { status: 400, type: INVALID, retry: false },
  context_length_exceeded: { status: 400, type: INVALID, retry: false },
  method_not_allowed: { status: 405, type: INVALID, retry: false },
  request_timeout: { status: 408, type: INVALID, retry: false },
  unsupported_media_type: { status: 415, type: INVALID, retry: false },
  expectation_failed: { status: 417, type: INVALID, retry: false },
  upgrade_required: { status: 426, type: INVALID, retry: false },
  headers_too_large: { status: 431, type: INVALID, retry: false },
  invalid_api_key: { status: 401, type: INVALID, retry: false },
  scope_denied: { status: 403, type: INVALID, retry: false },
  not_found: { status: 404, type: INVALID, retry: false },
  model_not_found: { status: 404, type: INVALID, retry: false },
  request_too_large: { status: 413, type: INVALID, retry: false },
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error', retry: true, retryAfterMs: 1000 },
  concurrency_exceeded: { status: 429, type: 'rate_limit_error', retry: true, retryAfterMs: 1000 },
  insufficient_quota: { status: 429, type: 'insufficient_quota', retry: false },
  upstream_failed: { status: 503, type: SERVER, retry: true, retryAfterMs: 1000 },
  upstream_incomplete: { status: 502, type: SERVER, retry: true, retryAfterMs: 1000 },
  internal: { status: 500, type: SERVER, retry: false },
  overloaded: { status: 503, type: SERVER, retry: true, retryAfterMs: 1000 },
  draining: { status: 503, type: SERVER, retry: true, retryAfterMs: 1000 },
  limits_unavailable: { status: 503, type: SERVER, retry: true, retryAfterMs: 1000 },
  deadline_exceeded: { status: 504, type: SERVER, retry: true, retryAfterMs: 1000 },
  // Nobody is there to read it; the status is nginx's, for the log.
  client_closed: { status: 499, type: INVALID, retry: false },
} as const satisfies Record<ErrorCode, ErrorShape>

/** Longest wait told to a client: beyond it most SDKs ignore the header or give up (wire §2.3). */
const LONGEST_RETRY_MS = 60_000

export interface ErrorAnswer {
  readonly status: number
  /** Flat list of names and values; content type and length included. */
  readonly headers: string[]
  readonly body: Buffer
}

/** Takes secrets out of a text. */
export type Scrub = (text: string) => string

/** Callers of no model endpoint, or of one that is not known yet. */
const ANYBODY: ClientSide = openai.client

/** An error as a whole answer. Anything that is not a GatewayError says `internal` and nothing else. */
export function toErrorAnswer(
  thrown: unknown,
  requestId: string,
  scrub: Scrub,
  client: ClientSide = ANYBODY,
): ErrorAnswer {
  const error = toGatewayError(thrown)
  const shape: ErrorShape = ERROR_SHAPES[error.code]
  const told = toTold(error, requestId, scrub)
  const body = Buffer.from(JSON.stringify(client.error(told)))
  const headers = [
    'content-type',
    'application/json; charset=utf-8',
    'content-length',
    String(body.length),
    'x-should-retry',
    String(shape.retry),
  ]
  const waitMs = retryAfterMs(error)
  if (waitMs !== undefined) {
    headers.push(
      'retry-after-ms',
      String(waitMs),
      'retry-after',
      String(Math.max(1, Math.ceil(waitMs / 1000))),
    )
  }
  return { status: client.status?.(told) ?? told.status, headers, body }
}

/** The same for what is served by hono. */
export function toErrorResponse(thrown: unknown, requestId: string, scrub: Scrub): Response {
  const { status, headers, body } = toErrorAnswer(thrown, requestId, scrub)
  const response = new Response(body.toString('utf8'), { status })
  for (let i = 0; i < headers.length; i += 2)
    response.headers.set(headers[i] as string, headers[i + 1] as string)
  response.headers.set('x-request-id', requestId)
  return response
}

/**
 * The event that ends a stream which broke after its first byte: an error, and never an end marker behind it. `last` is
 * the last event that the caller was sent.
 */
export function toErrorEvent(
  thrown: unknown,
  requestId: string,
  scrub: Scrub,
  { client = ANYBODY, last }: { readonly client?: ClientSide; readonly last?: string | undefined } = {},
): Buffer {
  return Buffer.from(client.errorEvent(toTold(toGatewayError(thrown), requestId, scrub), last))
}

function retryAfterMs(error: GatewayError): number | undefined {
  const shape: ErrorShape = ERROR_SHAPES[error.code]
  if (!shape.retry) return undefined
  const waitMs = error.retryAfterMs ?? shape.retryAfterMs
  return waitMs === undefined ? undefined : Math.min(LONGEST_RETRY_MS, Math.max(1, Math.ceil(waitMs)))
}

/** Longest message shown. Cut after scrubbing: a piece of a secret is not found any more. */
const LONGEST_MESSAGE = 2000

function toTold(error: GatewayError, requestId: string, scrubAll: Scrub): ToldError {
  const { passed } = error
  const shape: ErrorShape = ERROR_SHAPES[error.code]
  const scrub: Scrub = (text) => scrubAll(text).slice(0, LONGEST_MESSAGE)
  if (passed !== undefined) {
    return {
      status: passed.status,
      message: scrub(error.message),
      type: passed.type === null ? shape.type : scrub(passed.type),
      param: passed.param === null ? null : scrub(passed.param),
      code: passed.code === null ? null : scrub(passed.code),
      requestId,
    }
  }
  const message =
    error.code === 'internal' ? `Internal error. Request id: ${requestId}.` : scrub(error.message)
  const { status, type } = shape
  return { status, message, type, param: error.param ?? null, code: error.code, requestId }
}
