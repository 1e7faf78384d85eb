// Record: what happened and what it took, as one log line, the metrics and a trace. Reads the trail, decides nothing,
// never throws. Of the request's content nothing is kept: ids, names, numbers.

import { withoutBearer } from '../config/bearer.ts'
import { GatewayError, toGatewayError } from '../errors.ts'
import type { Arrival, Attempt, Clock, Trace, Trail } from '../types.ts'
import type { Exemplars, Noter } from './exemplars.ts'
import { type Count, type Distribution, type Instruments, METRICS } from './metrics.ts'
import type { Traces } from './traces.ts'

/** The part of pino that is used. */
export interface RequestLog {
  info(fields: Readonly<Record<string, unknown>>, message: string): void
  warn(fields: Readonly<Record<string, unknown>>, message: string): void
  error(fields: Readonly<Record<string, unknown>>, message: string): void
}

export interface Recorder {
  /** The place in a trace of a request that begins; undefined while nobody collects them. Never throws. */
  begin(arrival: Arrival): Trace | undefined
  record(arrival: Arrival, trail: Trail): void
  /** A request that was refused before it had a path through the gateway. */
  refused(refusal: EarlyRefusal): void
}

export interface EarlyRefusal {
  readonly id: string
  readonly status: number
  /** The wire code. */
  readonly code: string
  readonly address: string
}

interface Deps {
  readonly log: RequestLog
  readonly instruments: Instruments
  readonly exemplars: Pick<Exemplars, 'note' | 'of'>
  readonly clock: Clock
  /** Undefined while nobody collects them. */
  readonly traces?: Traces | undefined
  /** An error as text without secrets. */
  readonly describe: (error: unknown) => string
}

/** The series that a request counts in, and those of one of its attempts: found once for all that are alike. */
interface OfRequest {
  readonly requests: Count
  readonly took: Distribution
  readonly tookNoted: Noter
  readonly own: Distribution
  readonly ownNoted: Noter
}
interface OfAttempt {
  readonly attempts: Count
  readonly noted: Noter
  readonly took: Distribution
}
interface OfTokens {
  readonly input: Count
  readonly output: Count
}

/** Kinds of requests that are kept; their labels are bounded, and of more kinds they are found anew. */
const MOST_ALIKE = 4096

/** What `make` gives, once for each key. */
function createKept<T>() {
  const kept = new Map<string, T>()
  return (key: string, make: () => T): T => {
    let known = kept.get(key)
    if (known === undefined) {
      if (kept.size >= MOST_ALIKE) kept.clear()
      kept.set(key, (known = make()))
    }
    return known
  }
}

export function createRecorder({ log, instruments, exemplars, clock, traces, describe }: Deps): Recorder {
  const requestsAlike = createKept<OfRequest>()
  const attemptsAlike = createKept<OfAttempt>()
  const tokensAlike = createKept<OfTokens>()

  return {
    begin: (arrival) => (traces === undefined ? undefined : guarded(() => traces.begin(arrival))),
    record(arrival, trail) {
      const endedMs = clock.now()
      // One that fails does not take the others with it.
      guarded(() => measure(arrival, trail, endedMs))
      guarded(() => write(arrival, trail, endedMs))
      if (trail.trace?.isSampled) guarded(() => traces?.record(arrival, trail, endedMs))
    },
    refused({ id, status, code, address }) {
      guarded(() => {
        instruments.requests.add(1, { agent: '', route: '', operation: '', status: String(status), code })
        log.info({ id, status, code, address }, 'request')
      })
    },
  }

  function guarded<T>(run: () => T): T | undefined {
    try {
      return run()
    } catch (error) {
      try {
        log.error({ error: describe(error) }, 'a request could not be recorded')
      } catch {
        // The log itself does not work: there is nowhere left to say so.
      }
      return undefined
    }
  }

  function measure(arrival: Arrival, trail: Trail, endedMs: number): void {
    const { request, caller, attempts, usage, answeredBy } = trail
    const agent = caller === undefined ? '' : instruments.agentLabel(caller.agent.name)
    const route = trail.route?.name ?? ''
    const { operation } = arrival.endpoint
    const stream = String(request?.stream ?? false)
    const tier = answeredBy?.tier.name ?? ''
    const code = toCode(trail)
    const status = String(trail.status ?? 0)
    const alike = requestsAlike(
      `${agent}\0${route}\0${operation}\0${status}\0${code}\0${stream}\0${tier}`,
      () => ({
        requests: instruments.requests.of({ agent, route, operation, status, code }),
        took: instruments.requestSeconds.of({ route, tier, stream }),
        tookNoted: exemplars.of(METRICS.requestSeconds, { route, tier, stream }),
        own: instruments.overheadSeconds.of({ operation }),
        ownNoted: exemplars.of(METRICS.overheadSeconds, { operation }),
      }),
    )
    const id = { requestId: arrival.id, traceId: trail.trace?.isSampled ? trail.trace.id : undefined }
    alike.requests.add(1)
    const tookS = (endedMs - arrival.startedMs) / 1000
    alike.took.record(tookS)
    alike.tookNoted.note(tookS, id)
    const ownS = overheadMs(arrival, attempts, endedMs) / 1000
    alike.own.record(ownS)
    alike.ownNoted.note(ownS, id)
    const begun = attempts.find(({ firstTokenMs }) => firstTokenMs !== undefined)
    for (let i = 0; i < attempts.length; i += 1) {
      const attempt = attempts[i] as Attempt
      const { deployment, outcome, reason } = attempt
      const called = attemptsAlike(`${attempt.tier}\0${deployment}\0${outcome}\0${reason}`, () => {
        const labels = { tier: attempt.tier, deployment, outcome, reason }
        return {
          attempts: instruments.attempts.of(labels),
          noted: exemplars.of(METRICS.attempts, labels),
          took: instruments.attemptSeconds.of({ deployment }),
        }
      })
      called.attempts.add(1)
      called.noted.note(1, id)
      if (outcome !== 'skipped') called.took.record((attempt.endedMs - attempt.startedMs) / 1000)
      if (attempt.costMicros === undefined) instruments.unpriced.add(1, { deployment })
      else if (attempt.costMicros > 0) instruments.cost.add(toUsd(attempt.costMicros), { agent, deployment })
      const next = attempts[i + 1]
      if (next !== undefined && next.tier !== attempt.tier) {
        const moved = { value: 1, labels: { route, from: attempt.tier, to: next.tier, reason } }
        instruments.failovers.add(1, moved.labels)
        exemplars.note(METRICS.failovers, moved, id)
      }
      // Of an answer that somebody else went on with the caller had the first token long before.
      if (attempt === begun && attempt.firstTokenMs !== undefined && request?.stream === true) {
        const value = (attempt.firstTokenMs - arrival.startedMs) / 1000
        const first = { value, labels: { route, tier: attempt.tier, deployment } }
        instruments.firstTokenSeconds.record(value, first.labels)
        exemplars.note(METRICS.firstTokenSeconds, first, id)
      }
    }
    if (tier !== '' && tier !== trail.route?.tiers[0]?.name) instruments.degraded.add(1, { route, tier })
    if (trail.error instanceof GatewayError && trail.error.limit !== undefined)
      instruments.refusals.add(1, { agent, limit: trail.error.limit })
    if (usage !== undefined && answeredBy !== undefined) {
      const deployment = answeredBy.deployment.name
      const tokens = tokensAlike(`${agent}\0${deployment}`, () => ({
        input: instruments.tokens.of({ agent, deployment, kind: 'input' }),
        output: instruments.tokens.of({ agent, deployment, kind: 'output' }),
      }))
      tokens.input.add(usage.inputTokens)
      tokens.output.add(usage.outputTokens)
      if (usage.cachedTokens > 0)
        instruments.tokens.add(usage.cachedTokens, { agent, deployment, kind: 'cached' })
      if (usage.reasoningTokens > 0) {
        instruments.tokens.add(usage.reasoningTokens, { agent, deployment, kind: 'reasoning' })
      }
    }
  }

  function write(arrival: Arrival, trail: Trail, endedMs: number): void {
    const { request, caller, usage, costMicros, answeredBy, attempts } = trail
    const first = attempts.find((attempt) => attempt.firstTokenMs !== undefined)?.firstTokenMs
    const code = toCode(trail)
    const outsideHours = attempts.flatMap((attempt) => attempt.outsideHours ?? [])
    const line = {
      id: arrival.id,
      trace: trail.trace?.id,
      agent: caller?.agent.name,
      bearer: caller?.bearer.id,
      operation: arrival.endpoint.operation,
      model: request === undefined ? undefined : withoutBearer(request.model, arrival.bearer),
      route: trail.route?.name,
      matched:
        trail.decision === undefined ? undefined : withoutBearer(trail.decision.matched, arrival.bearer),
      stream: request?.stream,
      status: trail.status,
      code,
      reason: toReason(trail.error, arrival.bearer),
      tier: answeredBy?.tier.name,
      deployment: answeredBy === undefined ? undefined : withoutBearer(calledOf(trail), arrival.bearer),
      degraded: answeredBy === undefined ? undefined : answeredBy.tier.name !== trail.route?.tiers[0]?.name,
      attempts: attempts.map(({ tier, called, reason }) =>
        withoutBearer(`${tier}:${called}=${reason}`, arrival.bearer),
      ),
      ms: round(endedMs - arrival.startedMs),
      firstTokenMs: first === undefined ? undefined : round(first - arrival.startedMs),
      overheadMs: round(overheadMs(arrival, attempts, endedMs)),
      inputTokens: usage?.inputTokens,
      outputTokens: usage?.outputTokens,
      cachedTokens: usage?.cachedTokens,
      usageSource: usage?.source,
      // Unknown is told apart from nothing: then there is no number at all.
      costUsd: costMicros === undefined ? undefined : toUsd(costMicros),
      unpriced: attempts.some((attempt) => attempt.costMicros === undefined) || undefined,
      address: arrival.address,
      outsideHours: outsideHours.length === 0 ? undefined : [...new Set(outsideHours)],
    }
    // A defect of ours is told with its cause; everything else is the ordinary course of things.
    if (code === 'internal') log.error({ ...line, error: describe(trail.error) }, 'request')
    // A key that is used when nobody should: whoever hears only of warnings is to hear who it was.
    else log[outsideHours.length === 0 ? 'info' : 'warn'](line, 'request')
  }
}

function toCode(trail: Trail): string {
  return trail.error === undefined ? 'ok' : toGatewayError(trail.error).code
}

/** Why it was refused or failed, in our own words; those of a provider may hold what was asked. */
function toReason(error: unknown, bearer: string | undefined): string | undefined {
  if (!(error instanceof GatewayError) || error.passed !== undefined) return undefined
  return withoutBearer(error.message, bearer)
}

/** Less the time that was anybody's: attempts come in the order of their beginnings, and may run side by side. */
function overheadMs(arrival: Arrival, attempts: readonly Attempt[], endedMs: number): number {
  let ms = endedMs - arrival.startedMs
  let untilMs = 0
  for (const { startedMs, endedMs: over } of attempts) {
    ms -= Math.max(over - Math.max(startedMs, untilMs), 0)
    untilMs = Math.max(untilMs, over)
  }
  return Math.max(0, ms)
}

/** As who answered was called; of two side by side it need not be the last. */
function calledOf({ attempts, answeredBy }: Trail): string {
  const name = answeredBy?.deployment.name
  return (
    attempts.findLast(({ deployment, outcome }) => deployment === name && outcome !== 'skipped')?.called ?? ''
  )
}

function toUsd(micros: number): number {
  return micros / 1e6
}

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000
}
