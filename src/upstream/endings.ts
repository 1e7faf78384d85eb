// How a walk ends for its caller: who answered and what was used, or the error that says why nobody did.

import { GatewayError, toEndError } from '../errors.ts'
import type {
  Attempt,
  Candidate,
  Deployment,
  EndSignal,
  ModelRequest,
  Plan,
  Reason,
  Usage,
} from '../types.ts'
import { isLarger, type Result } from './attempt.ts'
import type { Broken, Ended, Walk } from './walk.ts'

/** Nobody knows when the ledgers are back (design §5). */
const UNCOUNTED_WAIT_MS = 1000
/** Where nobody answered, what the last one used who was cut at it is what the request used. */
export function failed(error: GatewayError, usage?: Usage): Ended {
  return { answeredBy: undefined, usage, error }
}

/** What was used until the caller went belongs to the one who was answering; nobody was, where none is given. */
export function left(signal: EndSignal, usage?: Usage, candidate?: Candidate): Ended {
  return { answeredBy: candidate, usage, error: toEndError(signal) }
}

export function tooLate(): GatewayError {
  return new GatewayError(
    'deadline_exceeded',
    'The deadline of this request passed before there was an answer.',
  )
}

/** Not that they failed: nobody was asked, because the gateway was told to deny what it cannot count. */
export function toUncounted(): GatewayError {
  return new GatewayError(
    'limits_unavailable',
    'The gateway cannot count for the limits of any provider at the moment.',
    { retryAfterMs: UNCOUNTED_WAIT_MS },
  )
}

/**
 * The end of a stream that is not whole. Its code is the same whoever cut it (design §5: it is the one that says so);
 * the message says when it was the caller's or our deadline and not the provider. Over Responses and Messages OpenClaw goes
 * by the words, and comes again for a stream that "was closed".
 */
export function toBrokenError(reason: Reason, plan: Plan, nowMs: number): GatewayError {
  const isLate = reason === 'attempt' && nowMs >= plan.deadlineAt
  const why = isLate ? ', as the deadline of this request passed' : ` (${reason})`
  return new GatewayError(
    'upstream_incomplete',
    `The answer broke off${why}: its stream was closed, and what came before is not complete. Route: ${plan.route.name}.`,
  )
}

/** The caller's own mistake, in the provider's words. */
export function toPassedError({ status, fault }: Extract<Result, { outcome: 'refuse' }>): GatewayError {
  return new GatewayError(
    'invalid_request',
    fault.message === '' ? 'The provider refused the request.' : fault.message,
    {
      passed: { status, type: fault.type, param: fault.param, code: fault.code },
    },
  )
}

/** Clients look for these very words to compact their history (wire §4.3); both numbers must be there. */
export function toContextError(walk: Walk, request: ModelRequest): GatewayError {
  const told = /maximum context length is \d+ tokens/i.test(walk.tooLongMessage)
    ? walk.tooLongMessage
    : undefined
  const windows = walk.candidates.map(({ deployment }) => deployment.contextWindow ?? 0)
  const asked = Math.ceil(request.textBytes / 4)
  const largest = Math.max(...windows) || Math.max(1, asked - 1)
  const message =
    told ??
    `This model's maximum context length is ${largest} tokens. However, your messages resulted in ${Math.max(asked, largest + 1)} tokens.`
  return new GatewayError('context_length_exceeded', message, { param: 'messages' })
}

/** Nobody else could: it ends as it would have without them. */
export function afterBreak(ended: Ended, broken: Broken, { aborted }: EndSignal): Ended {
  const usage = both(broken.usage, ended.usage)
  if (ended.error === undefined || aborted) return { ...ended, usage }
  const { answeredBy, error } = ended.answeredBy === undefined ? broken : ended
  return { answeredBy, usage, error }
}

/** Of both who spoke. */
function both(a: Usage | undefined, b: Usage | undefined): Usage | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    cachedTokens: a.cachedTokens + b.cachedTokens,
    cacheWriteTokens: a.cacheWriteTokens + b.cacheWriteTokens,
    audioInputTokens: a.audioInputTokens + b.audioInputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    reasoningTokens: a.reasoningTokens + b.reasoningTokens,
    audioOutputTokens: a.audioOutputTokens + b.audioOutputTokens,
    source: 'counted',
  }
}

/** Whether a window that is known to be larger only failed to be asked: then the prompt may still be held by it. */
export function mightHaveFit(tooLongFor: Deployment, walk: Walk, attempts: readonly Attempt[]): boolean {
  const troubled = new Set(attempts.filter(({ reason }) => reason !== 'context').map((one) => one.deployment))
  return walk.candidates.some(
    ({ deployment }) => troubled.has(deployment.name) && isLarger(deployment, tooLongFor),
  )
}
