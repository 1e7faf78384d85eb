// How OpenAI and the servers that follow it say that something went wrong, and what is left of a quota: with a status,
// inside a 200, inside a stream. Shared by the formats of theirs; pure, and it never changes what was said.

import { isObject } from '../bytes/json-value.ts'
import type { Fault, HeaderLookup, ProviderSide } from './format.ts'
import { type QuotaNames, readQuotaLeft, readResetMs, readRetryAfterMs } from './retry-after.ts'

/** What every format of theirs takes as it is. */
export const faults = {
  quota: (header, nowMs) => readQuotaLeft(header, QUOTAS, nowMs),
  fault: readFault,
  inBand: readInBand,
} as const satisfies Pick<ProviderSide, 'quota' | 'fault' | 'inBand'>

/** OpenAI's, Groq's and Azure's names; OpenRouter's have no kind. */
const QUOTAS: readonly QuotaNames[] = ['-requests', '-tokens', ''].map((kind) => ({
  limit: `x-ratelimit-limit${kind}`,
  remaining: `x-ratelimit-remaining${kind}`,
  reset: `x-ratelimit-reset${kind}`,
}))

/** Statuses that tell of the key or of the account behind it, not of the server. */
const KEY_STATUSES: ReadonlySet<number> = new Set([401, 402, 403])
const CALLER_STATUSES: ReadonlySet<number> = new Set([400, 413, 422])

/** How providers say that a prompt does not fit. Gathered from their documentation and from clients' own lists. */
const CONTEXT_PHRASES =
  /context_length_exceeded|model_context_window_exceeded|prompt is too long|maximum context length|exceeds the context window|input token count.{0,40}exceeds the maximum|input is too long for requested model|reduce the length of the messages|maximum prompt length is|exceeds the available context size|greater than the context length|context length is only|exceeded model token limit|too many tokens|input length and `?max_tokens`? exceed context limit/i

/** A 413 that is a rate limit in disguise: Groq answers it when a request is over the tokens per minute. */
const RATE_PHRASES = /rate_limit|rate limit|per minute|\bTPM\b|\bRPM\b/i

/** A wrong key (Google) or an account without money (Anthropic), told with a 400. At the start: a caller's text may be quoted behind it. */
const KEY_PHRASES = /^(?:API key not valid|API key expired|Your credit balance is too low)/i
/** The account behind the key has no money left, whatever the status says (wire §3, quota and billing). */
const BILLING_CODES =
  /^(?:insufficient_quota|billing_error|billing_hard_limit_reached|credit_balance_exhausted|(?:organization|project)_(?:spend|usage)_limit_exceeded)$/
/** A 403 that is about one model: the key is good for others. */
const MODEL_PHRASES = /model_not_found|access to (?:the )?model/i
/** A 403 that is about the key or its account, and none that is about what was asked: that would be one caller's doing. */
const ACCOUNT_PHRASES =
  /\b(?:api.?key|key|permission|credentials?|unauthori[sz]ed|authenticat\w+|billing|credit|quota|suspended|disabled|organi[sz]ation|account|project|region|country|territory|forbidden)\b/i
const CONTENT_PHRASES = /moderat|flagged|content|safety|policy|blocked/i

function readFault(status: number, header: HeaderLookup, body: string, nowMs: number): Fault {
  const told = readError(body)
  const text = `${told.code ?? ''} ${told.type ?? ''} ${told.message}`
  const retryAfterMs =
    readRetryAfterMs(header, nowMs) ?? (status === 429 ? (told.waitMs ?? resetMs(header, nowMs)) : undefined)
  const key = KEY_STATUSES.has(status)
    ? !(status === 403 && MODEL_PHRASES.test(text))
    : (status === 400 && KEY_PHRASES.test(told.message)) ||
      (status === 429 && (BILLING_CODES.test(told.code ?? '') || BILLING_CODES.test(told.type ?? '')))
  const isAccount = body === '' || (ACCOUNT_PHRASES.test(text) && !CONTENT_PHRASES.test(text))
  const park = key && (status !== 403 || isAccount)
  let verdict: Fault['verdict'] = 'retry'
  if (CALLER_STATUSES.has(status) && !key) {
    if (status === 413 && (retryAfterMs !== undefined || RATE_PHRASES.test(text))) verdict = 'retry'
    else verdict = CONTEXT_PHRASES.test(text) ? 'context' : 'refuse'
  }
  const { message, type, param, code } = told
  return { message, type, param, code, verdict, key, park, retryAfterMs }
}

/** A rate limit that does not name the wait says when the quota that is empty is there again. */
function resetMs(header: HeaderLookup, nowMs: number): number | undefined {
  const left = readQuotaLeft(header, QUOTAS, nowMs)
  return left?.share === 0 ? left.resetMs : undefined
}

/** What the words of an error would be as a status, where it comes without one: quotas are told behind the preamble. */
const WORD_STATUSES: ReadonlyMap<string, number> = new Map([
  ['rate_limit_exceeded', 429],
  ['rate_limit_error', 429],
  ['slow_down', 429],
  ['invalid_api_key', 401],
  ['server_is_overloaded', 503],
  ['overloaded_error', 503],
  ['content_filter', 400],
])

/** Without a status of its own the error counts as the provider's, unless its words are known. */
function readInBand(text: string): { status: number; fault: Fault } {
  const told = readError(text)
  const status = statusOf(told)
  return { status, fault: readFault(status, () => undefined, text, 0) }
}

function statusOf({ code, type, message }: Told): number {
  const own = Number(code)
  if (Number.isInteger(own) && own >= 400 && own < 600) return own
  const words = [code ?? '', type ?? '']
  if (words.some((word) => BILLING_CODES.test(word))) return 429
  for (const word of words) {
    const status = WORD_STATUSES.get(word)
    if (status !== undefined) return status
  }
  return CONTEXT_PHRASES.test(`${words.join(' ')} ${message}`) ? 400 : 500
}

type Told = Pick<Fault, 'message' | 'type' | 'param' | 'code'> & {
  /** Google's RetryInfo, in ms. */
  readonly waitMs: number | undefined
}

const NOTHING_TOLD: Told = { message: '', type: null, param: null, code: null, waitMs: undefined }

/** The words of an error body, whatever its shape: OpenAI's, a list of it, vLLM's flat one, `detail`, or no JSON. */
function readError(body: string): Told {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    return NOTHING_TOLD
  }
  // Google's compatible endpoint wraps the error in a list of one.
  const outer = Array.isArray(parsed) ? parsed[0] : parsed
  if (!isObject(outer)) return NOTHING_TOLD
  const inner = outer.error ?? firstChoiceError(outer)
  const error = isObject(inner) ? inner : outer
  const message = typeof inner === 'string' ? inner : (error.message ?? error.detail)
  return {
    message: typeof message === 'string' ? message : detailText(message),
    type: short(error.type),
    param: short(error.param),
    code: short(error.code),
    waitMs: retryDelayMs(error.details) ?? hintMs(message),
  }
}

/** `google.rpc.RetryInfo`: `{ retryDelay: "17.5s" }` among the details. */
function retryDelayMs(details: unknown): number | undefined {
  if (!Array.isArray(details)) return undefined
  const info = details.find((one) => isObject(one) && typeof one.retryDelay === 'string')
  return isObject(info) ? readResetMs(String(info.retryDelay), 0) : undefined
}

/** `Please try again in 1m30.5s.`, where no header names the wait. */
function hintMs(message: unknown): number | undefined {
  const [, wait] = typeof message === 'string' ? (WAIT_HINT.exec(message) ?? []) : []
  return wait === undefined ? undefined : readResetMs(wait, 0)
}

const WAIT_HINT = /\btry again in ((?:\d{1,6}(?:\.\d{1,6})?(?:ms|h|m|s)){1,4})\b/i

/** OpenRouter tells some errors in a choice. */
function firstChoiceError(outer: Record<string, unknown>): unknown {
  const [choice] = Array.isArray(outer.choices) ? outer.choices : []
  return isObject(choice) ? choice.error : undefined
}

/** FastAPI's `detail`, a list of `{ msg }`. Any other structure is a stranger's and is not written out. */
function detailText(detail: unknown): string {
  if (!Array.isArray(detail)) return ''
  const messages = detail.slice(0, 20).map((item) => (isObject(item) ? item.msg : undefined))
  return messages.filter((message) => typeof message === 'string').join('; ')
}

function short(value: unknown): string | null {
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : null
}

/**
 * Finish reasons of an answer that was broken off there. OpenRouter and Mistral say `error`; vLLM and SGLang `abort`,
 * where the engine gave it up (vllm#57082); DeepSeek that it had no room left; Gemini's compatible endpoint that a call
 * could not be read.
 */
const BROKEN_OFF = /^(?:error|abort|insufficient_system_resource|function_call_filter\b.*)$/

/** OpenRouter tells the failure of the provider behind it in a choice; others have a finish reason for it. */
export function choiceError(choice: Record<string, unknown>): string | undefined {
  const told = errorText(choice)
  const { finish_reason: reason } = choice
  if (told !== undefined || typeof reason !== 'string' || !BROKEN_OFF.test(reason)) return told
  return `finish_reason "${reason}"`
}

/** The error told inside a 200, or undefined. */
export function errorText(message: Record<string, unknown>): string | undefined {
  const error = message.error
  if (error === undefined || error === null) return undefined
  if (typeof error === 'string') return error
  if (isObject(error) && typeof error.message === 'string') return error.message
  return 'an error without a message'
}
