// Call: walks a plan until somebody answers. One attempt at a time, each judged by attempt.ts; nothing is tried
// after the first byte, after the deadline, or for a caller who has gone.

import { GatewayError } from '../errors.ts'
import type { Format } from '../formats/format.ts'
import type {
  Attempt,
  Candidate,
  Clock,
  Deployment,
  Gate,
  Hold,
  ModelRequest,
  Outcome,
  Plan,
  Reason,
  Refusal,
  Reply,
  Usage,
} from '../types.ts'
import { isLarger, mayCallAgain, nextStep, type Result } from './attempt.ts'
import { createExchange } from './exchange.ts'
import type { Entry, Health } from './health.ts'
import type { Key, Keys } from './keys.ts'
import type { Kind } from './kind.ts'
import { runAttempt } from './run.ts'
import type { Timers } from './timers.ts'

export interface Upstream {
  /** Never rejects: what went wrong is in the outcome. */
  call(plan: Plan, request: ModelRequest, reply: Reply, hands: Hands): Promise<Outcome>
}

export interface Hands {
  readonly gate: Gate
  /** Filled in as attempts are made. */
  readonly attempts: Attempt[]
  readonly signal: AbortSignal
}

export interface UpstreamDeps {
  readonly kinds: Readonly<Record<Deployment['kind'], Kind>>
  readonly formats: ReadonlyMap<string, Format>
  readonly health: Health
  readonly keys: Keys
  readonly clock: Clock
  readonly timers: Timers
  readonly random: () => number
  readonly scrubBytes: (bytes: Buffer) => Buffer
  readonly userAgent: string
}

/** A key that was refused is left alone this long. */
const KEY_PARK_MS = 60_000
/** An attempt that has less time than this left is not begun. */
const LEAST_TIME_MS = 5

export function createUpstream(deps: UpstreamDeps): Upstream {
  const { health, keys, clock, timers } = deps
  return {
    async call(plan, request, reply, hands) {
      const walk = createWalk(plan)
      for (const place of plan.tiers) {
        for (const candidate of place.candidates) {
          const outcome = await tryCandidate(candidate, walk, { plan, request, reply, hands })
          if (outcome !== undefined) return outcome
        }
      }
      const forced = walk.calls === 0 ? leastBad(plan) : undefined
      if (forced !== undefined) {
        const outcome = await tryCandidate(forced, walk, { plan, request, reply, hands, force: true })
        if (outcome !== undefined) return outcome
      }
      return failed(toFailure(plan, request, hands.attempts, walk))
    },
  }

  /** Calls one candidate, again where that is worth it; undefined when the next one is to be tried. */
  async function tryCandidate(candidate: Candidate, walk: Walk, job: Job): Promise<Outcome | undefined> {
    const { plan, hands } = job
    const { deployment, tier } = candidate
    const isReply = deployment.kind === 'reply'
    let retriesLeft = tier.retries
    for (;;) {
      if (hands.signal.aborted) return left(undefined)
      if (plan.deadlineAt - clock.now() < LEAST_TIME_MS) return failed(tooLate())
      if (walk.tooLongFor !== undefined && !isLarger(deployment, walk.tooLongFor)) return undefined
      const tiersLeft = walk.tiersBehind(candidate)
      const attemptsLeft = plan.attempts - walk.calls
      if (
        !isReply &&
        (attemptsLeft <= 0 || (walk.calledIn(tier.name) && !mayCallAgain({ attemptsLeft, tiersLeft })))
      ) {
        return undefined
      }
      const entered = await enter(candidate, job)
      if (entered === undefined) return undefined
      if (!isReply) walk.called(tier.name)

      const attempt: Attempt = {
        tier: tier.name,
        deployment: deployment.name,
        called: nameOf(deployment, job.request),
        outcome: 'retry',
        reason: 'attempt',
        startedMs: clock.now(),
        endedMs: 0,
        firstTokenMs: undefined,
      }
      hands.attempts.push(attempt)
      const last = isReply || !hasFallback(candidate, walk, plan)
      const result = await attemptOnce(candidate, entered, { ...job, attempt, last })
      attempt.endedMs = clock.now()
      attempt.outcome = result.outcome
      if (result.outcome === 'retry' || result.outcome === 'broken') attempt.reason = result.reason
      else if (result.outcome === 'refuse') attempt.reason = `${result.status}`
      // 499: the caller left, which is nobody's failure.
      else attempt.reason = result.outcome === 'answered' ? '200' : '499'
      leave(candidate, entered, result, job)

      switch (result.outcome) {
        case 'answered':
          return { answeredBy: candidate, usage: result.usage, error: undefined }
        case 'left':
          return left(result.usage)
        case 'refuse':
          return failed(toPassedError(result))
        case 'broken':
          return { answeredBy: candidate, usage: result.usage, error: toBrokenError(result.reason, plan) }
        case 'retry':
          break
      }
      if (result.reason === 'context') {
        walk.tooLongFor = deployment
        walk.tooLongMessage = result.message
        return undefined
      }
      const keyFault = parksKey(result, deployment)
      const { step, waitMs, jitter } = nextStep(
        { ...result, key: keyFault },
        {
          retriesLeft,
          otherKey: deployment.provider !== undefined && keys.hasAnother(deployment.provider),
          attemptsLeft: plan.attempts - walk.calls,
          tiersLeft,
          otherInTier: walk.othersInTier(candidate).some((other) => health.isAvailable(other.name)),
          patienceMs: tier.patienceMs,
        },
      )
      if (step === 'next') return undefined
      if (!keyFault) retriesLeft -= 1
      if (waitMs > 0) await pause(jitter ? waitMs * deps.random() : waitMs, hands.signal)
    }
  }

  /** Asks health, keys and limits; undefined when the candidate is skipped, with the reason noted. */
  async function enter(candidate: Candidate, job: Job): Promise<Entered | undefined> {
    const { deployment } = candidate
    if (deployment.kind === 'reply') return { entry: 'go', key: undefined, hold: undefined }
    const key = deployment.provider === undefined ? undefined : keys.next(deployment.provider)
    if (key === 'parked') return skip(candidate, job, 'skipped:unavailable')
    const entry = health.enter(deployment.name, job.force)
    if (entry === 'held') return skip(candidate, job, 'skipped:unavailable')
    const hold = await job.hands.gate.enter(deployment, job.request)
    if (hold !== undefined && isRefusal(hold)) {
      health.released(deployment.name, entry)
      return skip(candidate, job, 'skipped:limit')
    }
    return { entry, key, hold }
  }

  function skip({ tier, deployment }: Candidate, { hands, request }: Job, reason: Reason): undefined {
    const now = clock.now()
    hands.attempts.push({
      tier: tier.name,
      deployment: deployment.name,
      called: nameOf(deployment, request),
      outcome: 'skipped',
      reason,
      startedMs: now,
      endedMs: now,
      firstTokenMs: undefined,
    })
    return undefined
  }

  async function attemptOnce(
    candidate: Candidate,
    entered: Entered,
    job: Job & { attempt: Attempt; last: boolean },
  ): Promise<Result> {
    const { plan, request, reply, hands, attempt } = job
    const { deployment, tier } = candidate
    const format = deps.formats.get(deployment.provider?.format ?? 'openai')
    if (format === undefined) throw new Error(`no format for ${deployment.name}`)
    return runAttempt({
      kind: deps.kinds[deployment.kind],
      exchange: createExchange({
        candidate,
        request,
        format,
        key: entered.key,
        maxOutputTokens: plan.maxOutputTokens,
        userAgent: deps.userAgent,
      }),
      format,
      plan,
      last: job.last,
      reply,
      signal: hands.signal,
      clock,
      timers,
      secret: entered.key?.value,
      scrubBytes: deps.scrubBytes,
      onCommit(firstTokenMs) {
        attempt.firstTokenMs = firstTokenMs
        attempt.outcome = 'answered'
        attempt.reason = '200'
        reply.header('x-sluice-tier', tier.name)
        reply.header('x-sluice-deployment', attempt.called)
        reply.header('x-sluice-attempts', toAttemptsHeader(hands.attempts))
        if (tier.name !== plan.route.tiers[0]?.name) reply.header('x-sluice-degraded', 'true')
        if (tier.needsReview) reply.header('x-sluice-needs-review', 'true')
      },
    })
  }

  /** Tells health, keys and limits how it went. */
  function leave({ deployment }: Candidate, entered: Entered, result: Result, { hands }: Job): void {
    if (deployment.kind === 'reply') return
    const { entry, key, hold } = entered
    if (hold !== undefined) hands.gate.leave(hold, 'usage' in result ? result.usage : undefined)
    switch (result.outcome) {
      case 'answered':
      case 'refuse':
        return health.succeeded(deployment.name, entry)
      case 'left':
        return health.released(deployment.name, entry)
      case 'broken':
        if (result.deadline) return health.released(deployment.name, entry)
        return health.failed(deployment.name, entry, { reason: result.reason, retryAfterMs: undefined })
      case 'retry':
        // A caller with a short deadline must not be able to take a provider away from everybody.
        if (result.deadline) return health.released(deployment.name, entry)
        if (result.reason === 'context') return health.succeeded(deployment.name, entry)
        if (key !== undefined && parksKey(result, deployment)) {
          keys.park(key.reference, result.retryAfterMs ?? KEY_PARK_MS)
          return health.released(deployment.name, entry)
        }
        return health.failed(deployment.name, entry, result)
    }
  }

  /** Whether somebody is left who could answer in this one's place. */
  function hasFallback(candidate: Candidate, walk: Walk, plan: Plan): boolean {
    const spent = plan.attempts - walk.calls <= 0
    return walk
      .behind(candidate)
      .some(
        ({ deployment }) => deployment.kind === 'reply' || (!spent && health.isAvailable(deployment.name)),
      )
  }

  /** When everybody is held back by our own breakers: the one whose hold ends first. */
  function leastBad(plan: Plan): Candidate | undefined {
    let best: Candidate | undefined
    for (const { candidates } of plan.tiers) {
      for (const candidate of candidates) {
        if (candidate.deployment.kind === 'reply' || health.isAvailable(candidate.deployment.name)) continue
        if (
          best === undefined ||
          health.holdMs(candidate.deployment.name) < health.holdMs(best.deployment.name)
        ) {
          best = candidate
        }
      }
    }
    return best
  }

  function pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const timer = timers.set(ms, done)
      signal.addEventListener('abort', done, { once: true })
      function done(): void {
        timers.clear(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
    })
  }

  /** Nobody answered. */
  function toFailure(
    plan: Plan,
    request: ModelRequest,
    attempts: readonly Attempt[],
    walk: Walk,
  ): GatewayError {
    if (plan.deadlineAt - clock.now() < LEAST_TIME_MS) return tooLate()
    if (walk.tooLongFor !== undefined) return toContextError(walk, plan, request)
    let holdMs = Number.POSITIVE_INFINITY
    for (const { candidates } of plan.tiers) {
      for (const { deployment } of candidates) {
        const ms = health.holdMs(deployment.name)
        if (ms > 0) holdMs = Math.min(holdMs, ms)
      }
    }
    const list = attempts.map(({ tier, called, reason }) => `${tier} ${called}: ${reason}`).join('; ')
    return new GatewayError('upstream_failed', `No provider could answer (${list}).`, {
      retryAfterMs: Number.isFinite(holdMs) ? holdMs : 1000,
    })
  }
}

interface Job {
  readonly plan: Plan
  readonly request: ModelRequest
  readonly reply: Reply
  readonly hands: Hands
  readonly force?: boolean
}

interface Entered {
  readonly entry: Entry
  readonly key: Key | undefined
  readonly hold: Hold | undefined
}

// --- where a walk stands ---------------------------------------------------------------------------------------

interface Walk {
  /** Calls to providers so far. */
  readonly calls: number
  called(tier: string): void
  calledIn(tier: string): boolean
  /** Tiers with providers behind the candidate's. */
  tiersBehind(candidate: Candidate): number
  /** Candidates behind this one, in order. */
  behind(candidate: Candidate): readonly Candidate[]
  othersInTier(candidate: Candidate): readonly Deployment[]
  tooLongFor: Deployment | undefined
  tooLongMessage: string
}

function createWalk(plan: Plan): Walk {
  const candidates = plan.tiers.flatMap((place) => place.candidates)
  const tiers = new Set<string>()
  let calls = 0
  return {
    get calls() {
      return calls
    },
    called(tier) {
      calls += 1
      tiers.add(tier)
    },
    calledIn: (tier) => tiers.has(tier),
    tiersBehind({ tier }) {
      const at = plan.tiers.findIndex((place) => place.tier === tier)
      return plan.tiers
        .slice(at + 1)
        .filter((place) => place.candidates.some((c) => c.deployment.kind !== 'reply')).length
    },
    behind: (candidate) => candidates.slice(candidates.indexOf(candidate) + 1),
    othersInTier: ({ tier, deployment }) =>
      candidates.filter((c) => c.tier === tier && c.deployment !== deployment).map((c) => c.deployment),
    tooLongFor: undefined,
    tooLongMessage: '',
  }
}

// --- outcomes and errors ---------------------------------------------------------------------------------------

function failed(error: GatewayError): Outcome {
  return { answeredBy: undefined, usage: undefined, error }
}

function left(usage: Usage | undefined): Outcome {
  return { answeredBy: undefined, usage, error: new GatewayError('client_closed', 'The caller went away.') }
}

function tooLate(): GatewayError {
  return new GatewayError(
    'deadline_exceeded',
    'The deadline of this request passed before there was an answer.',
  )
}

function toBrokenError(reason: Reason, plan: Plan): GatewayError {
  return new GatewayError(
    'upstream_incomplete',
    `The answer broke off (${reason}): what came before is not complete. Route: ${plan.route.name}.`,
  )
}

/** The caller's own mistake, in the provider's words. */
function toPassedError({ status, fault }: Extract<Result, { outcome: 'refuse' }>): GatewayError {
  return new GatewayError(
    'invalid_request',
    fault.message === '' ? 'The provider refused the request.' : fault.message,
    {
      passed: { status, type: fault.type, param: fault.param, code: fault.code },
    },
  )
}

/** Clients look for these very words to compact their history (wire §4.3); both numbers must be there. */
function toContextError(walk: Walk, plan: Plan, request: ModelRequest): GatewayError {
  const told = /maximum context length is \d+ tokens/i.test(walk.tooLongMessage)
    ? walk.tooLongMessage
    : undefined
  const windows = plan.tiers.flatMap((place) => place.candidates.map((c) => c.deployment.contextWindow ?? 0))
  const asked = Math.ceil(request.bodyBytes / 4)
  const largest = Math.max(...windows) || Math.max(1, asked - 1)
  const message =
    told ??
    `This model's maximum context length is ${largest} tokens. However, your messages resulted in ${Math.max(asked, largest + 1)} tokens.`
  return new GatewayError('context_length_exceeded', message, { param: 'messages' })
}

/** A refused key is parked; so is a key that is over its rate where the provider has another. */
function parksKey(result: Extract<Result, { outcome: 'retry' }>, deployment: Deployment): boolean {
  return result.key || (result.reason === '429' && (deployment.provider?.keys.length ?? 0) > 1)
}

function isRefusal(value: Hold | Refusal): value is Refusal {
  return 'waitMs' in value
}

/** `provider/*` goes by the name of the model that was asked for. */
function nameOf(deployment: Deployment, request: ModelRequest): string {
  if (deployment.model !== undefined || deployment.provider === undefined) return deployment.name
  return `${deployment.provider.name}/${request.model}`
}

/** For example `sovereign:anthropic/claude-opus-4-5=429, execution:local/gpt-oss-120b=200`. */
export function toAttemptsHeader(attempts: readonly Attempt[]): string {
  return attempts.map(({ tier, called, reason }) => `${tier}:${called}=${reason}`).join(', ')
}
