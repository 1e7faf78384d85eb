// Record: what happened and what it took, as one log line, the metrics and a trace. Reads the trail, decides nothing,
// never throws. Of the request's content nothing is kept: ids, names, numbers.

import { withoutBearer } from '../config/bearer.ts'
import { GatewayError, toGatewayError } from '../errors.ts'
import type { Arrival, Attempt, Clock, Trace, Trail } from '../types.ts'
import type { Exemplars, Noter } from './exemplars.ts'
import { createKinds, type Kind, type Names } from './kinds.ts'
import { type Count, type Distribution, type Instruments, METRICS } from './metrics.ts'
import { type RequestLines, toNumber } from './request-lines.ts'
import type { Traces } from './traces.ts'

export interface Recorder {
  /** The place in a trace of a request that begins; undefined while nobody collects them. Never throws. */
  begin(arrival: Arrival): Trace | undefined
  record(arrival: Arrival, trail: Trail): void
  /** A request that was refused before it had a path through the gateway. */
  refused(refusal: EarlyRefusal): void
  /** What is secret has changed: no text is known any more. */
  forget(): void
}

export interface EarlyRefusal {
  readonly id: string
  readonly status: number
  /** The wire code. */
  readonly code: string
  readonly address: string
}

interface Deps {
  readonly log: RequestLines
  readonly instruments: Instruments
  readonly exemplars: Pick<Exemplars, 'note' | 'of'>
  readonly clock: Clock
  /** Undefined while nobody collects them. */
  readonly traces?: Traces | undefined
  /** An error as text without secrets. */
  readonly describe: (error: unknown) => string
}

/** What requests of a kind count in. Series that not all of them have are there once one of them has. */
interface Series {
  readonly agent: string
  readonly route: string
  readonly requests: Count
  readonly took: Distribution
  readonly tookNoted: Noter
  readonly own: Distribution
  readonly ownNoted: Noter
  /** One for each attempt, in their order. */
  readonly attempts: readonly OfAttempt[]
  input: Count | undefined
  output: Count | undefined
  cached: Count | undefined
  reasoning: Count | undefined
}

interface OfAttempt {
  readonly attempts: Count
  readonly noted: Noter
  readonly took: Distribution
  cost: Count | undefined
  unpriced: Count | undefined
  firstToken: { readonly took: Distribution; readonly noted: Noter } | undefined
}

/** A request that is over: what more than one part of its record tells of it. */
interface Over {
  readonly arrival: Arrival
  readonly trail: Trail
  readonly endedMs: number
  readonly code: string
  readonly kind: Kind<Series>
  readonly tookMs: number
  /** What of it was nobody else's. */
  readonly ownMs: number
  /** The first attempt of which content came. */
  readonly begun: Attempt | undefined
  /** What an exemplar of it leads to. */
  readonly requestId: string
  readonly traceId: string | undefined
}

export function createRecorder({ log, instruments, exemplars, clock, traces, describe }: Deps): Recorder {
  const kinds = createKinds<Series>()

  return {
    begin: traces === undefined ? () => undefined : (arrival) => guarded(traces.begin, arrival),
    record(arrival, trail) {
      const over = guarded(() => toOver(arrival, trail), undefined)
      if (over === undefined) return
      // One that fails does not take the others with it.
      guarded(measure, over)
      guarded(write, over)
      if (trail.trace?.isSampled) guarded(trace, over)
    },
    refused: (refusal) => void guarded(refuse, refusal),
    forget() {
      kinds.forget()
      log.forget()
    },
  }

  function guarded<T, R>(run: (of: T) => R, of: T): R | undefined {
    try {
      return run(of)
    } catch (error) {
      try {
        log.write('error', log.fields({ error: describe(error) }), 'a request could not be recorded')
      } catch {
        // The log itself does not work: there is nowhere left to say so.
      }
      return undefined
    }
  }

  function toOver(arrival: Arrival, trail: Trail): Over {
    const { attempts, error, trace } = trail
    const endedMs = clock.now()
    const code = error === undefined ? 'ok' : toGatewayError(error).code
    const tookMs = endedMs - arrival.startedMs
    return {
      arrival,
      trail,
      endedMs,
      code,
      kind: kinds.of(arrival, trail, code),
      tookMs,
      ownMs: toOwnMs(tookMs, attempts),
      begun: attempts.find(hasBegun),
      requestId: arrival.id,
      traceId: trace?.isSampled ? trace.id : undefined,
    }
  }

  function measure(over: Over): void {
    const { arrival, trail, kind, begun } = over
    const { request, attempts, usage, answeredBy } = trail
    const series = (kind.series ??= toSeries(over))
    const { agent, route } = series
    series.requests.add(1)
    const tookS = over.tookMs / 1000
    series.took.record(tookS)
    series.tookNoted.note(tookS, over)
    const ownS = over.ownMs / 1000
    series.own.record(ownS)
    series.ownNoted.note(ownS, over)
    for (let i = 0; i < attempts.length; i += 1) {
      const attempt = attempts[i] as Attempt
      const called = series.attempts[i] as OfAttempt
      const { tier, deployment, outcome, reason, costMicros } = attempt
      called.attempts.add(1)
      called.noted.note(1, over)
      if (outcome !== 'skipped') called.took.record((attempt.endedMs - attempt.startedMs) / 1000)
      if (costMicros === undefined) (called.unpriced ??= instruments.unpriced.of({ deployment })).add(1)
      else if (costMicros > 0)
        (called.cost ??= instruments.cost.of({ agent, deployment })).add(toUsd(costMicros))
      const next = attempts[i + 1]
      if (next !== undefined && next.tier !== tier) {
        const moved = { value: 1, labels: { route, from: tier, to: next.tier, reason } }
        instruments.failovers.add(1, moved.labels)
        exemplars.note(METRICS.failovers, moved, over)
      }
      // Of an answer that somebody else went on with the caller had the first token long before.
      if (attempt === begun && attempt.firstTokenMs !== undefined && request?.stream === true) {
        const firstS = (attempt.firstTokenMs - arrival.startedMs) / 1000
        const first = (called.firstToken ??= toFirstToken({ route, tier, deployment }))
        first.took.record(firstS)
        first.noted.note(firstS, over)
      }
    }
    if (kind.degraded) instruments.degraded.add(1, { route, tier: answeredBy?.tier.name ?? '' })
    if (trail.error instanceof GatewayError && trail.error.limit !== undefined)
      instruments.refusals.add(1, { agent, limit: trail.error.limit })
    if (usage !== undefined && answeredBy !== undefined) {
      const { tokens } = instruments
      const deployment = answeredBy.deployment.name
      const { inputTokens, outputTokens, cachedTokens, reasoningTokens } = usage
      ;(series.input ??= tokens.of({ agent, deployment, kind: 'input' })).add(inputTokens)
      ;(series.output ??= tokens.of({ agent, deployment, kind: 'output' })).add(outputTokens)
      if (cachedTokens > 0)
        (series.cached ??= tokens.of({ agent, deployment, kind: 'cached' })).add(cachedTokens)
      if (reasoningTokens > 0)
        (series.reasoning ??= tokens.of({ agent, deployment, kind: 'reasoning' })).add(reasoningTokens)
    }
  }

  function toSeries({ arrival, trail, code }: Over): Series {
    const { caller, request, attempts, answeredBy } = trail
    const { operation } = arrival.endpoint
    const agent = caller === undefined ? '' : instruments.agentLabel(caller.agent.name)
    const route = trail.route?.name ?? ''
    const of = { route, tier: answeredBy?.tier.name ?? '', stream: String(request?.stream ?? false) }
    return {
      agent,
      route,
      requests: instruments.requests.of({
        agent,
        route,
        operation,
        status: String(trail.status ?? 0),
        code,
      }),
      took: instruments.requestSeconds.of(of),
      tookNoted: exemplars.of(METRICS.requestSeconds, of),
      own: instruments.overheadSeconds.of({ operation }),
      ownNoted: exemplars.of(METRICS.overheadSeconds, { operation }),
      attempts: attempts.map(({ tier, deployment, outcome, reason }) => {
        const labels = { tier, deployment, outcome, reason }
        return {
          attempts: instruments.attempts.of(labels),
          noted: exemplars.of(METRICS.attempts, labels),
          took: instruments.attemptSeconds.of({ deployment }),
          cost: undefined,
          unpriced: undefined,
          firstToken: undefined,
        }
      }),
      input: undefined,
      output: undefined,
      cached: undefined,
      reasoning: undefined,
    }
  }

  function toFirstToken(labels: {
    readonly route: string
    readonly tier: string
    readonly deployment: string
  }) {
    return {
      took: instruments.firstTokenSeconds.of(labels),
      noted: exemplars.of(METRICS.firstTokenSeconds, labels),
    }
  }

  function write(over: Over): void {
    const { arrival, trail, kind, begun } = over
    const { usage, costMicros, attempts, error } = trail
    const names = (kind.names ??= toNames(over))
    let line = `,"id":${log.id(arrival.id)}`
    if (trail.trace !== undefined) line += log.fields({ trace: trail.trace.id })
    line += names.asked
    if (error !== undefined) line += log.fields({ reason: toReason(error, arrival.bearer) })
    line += `${names.called},"ms":${toMillis(over.tookMs)}`
    if (begun?.firstTokenMs !== undefined)
      line += `,"firstTokenMs":${toMillis(begun.firstTokenMs - arrival.startedMs)}`
    line += `,"overheadMs":${toMillis(over.ownMs)}`
    if (usage !== undefined) {
      line += `,"inputTokens":${toNumber(usage.inputTokens)},"outputTokens":${toNumber(usage.outputTokens)}`
      line += `,"cachedTokens":${toNumber(usage.cachedTokens)},"usageSource":${log.text(usage.source)}`
    }
    // Unknown is told apart from nothing: then there is no number at all.
    if (costMicros !== undefined) line += `,"costUsd":${toNumber(toUsd(costMicros))}`
    if (attempts.some(isUnpriced)) line += ',"unpriced":true'
    line += `,"address":${log.text(arrival.address)}`
    const isOutsideHours = attempts.some(wasOutsideHours)
    if (isOutsideHours)
      line += log.fields({ outsideHours: [...new Set(attempts.flatMap((one) => one.outsideHours ?? []))] })
    // A defect of ours is told with its cause; everything else is the ordinary course of things.
    if (over.code === 'internal') log.write('error', line + log.fields({ error: describe(error) }), 'request')
    // A key that is used when nobody should: whoever hears only of warnings is to hear who it was.
    else log.write(isOutsideHours ? 'warn' : 'info', line, 'request')
  }

  function toNames({ arrival, trail, code, kind }: Over): Names {
    const { request, caller, answeredBy, attempts, decision, route } = trail
    const clean = (text: string): string => withoutBearer(text, arrival.bearer)
    return {
      asked: log.fields({
        agent: caller?.agent.name,
        bearer: caller?.bearer.id,
        operation: arrival.endpoint.operation,
        model: request && clean(request.model),
        route: route?.name,
        matched: decision && clean(decision.matched),
        stream: request?.stream,
        status: trail.status,
        code,
      }),
      called: log.fields({
        tier: answeredBy?.tier.name,
        deployment: answeredBy && clean(calledOf(trail)),
        degraded: answeredBy && kind.degraded,
        attempts: attempts.map(({ tier, called, reason }) => clean(`${tier}:${called}=${reason}`)),
      }),
    }
  }

  function trace({ arrival, trail, endedMs }: Over): void {
    traces?.record(arrival, trail, endedMs)
  }

  function refuse({ id, status, code, address }: EarlyRefusal): void {
    instruments.requests.add(1, { agent: '', route: '', operation: '', status: String(status), code })
    log.write('info', log.fields({ id, status, code, address }), 'request')
  }
}

/** Why it was refused or failed, in our own words; those of a provider may hold what was asked. */
function toReason(error: unknown, bearer: string | undefined): string | undefined {
  if (!(error instanceof GatewayError) || error.passed !== undefined) return undefined
  return withoutBearer(error.message, bearer)
}

/** Less the time that was anybody's: attempts come in the order of their beginnings, and may run side by side. */
function toOwnMs(tookMs: number, attempts: readonly Attempt[]): number {
  let ms = tookMs
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

function hasBegun({ firstTokenMs }: Attempt): boolean {
  return firstTokenMs !== undefined
}

function isUnpriced({ costMicros }: Attempt): boolean {
  return costMicros === undefined
}

function wasOutsideHours({ outsideHours }: Attempt): boolean {
  return outsideHours !== undefined
}

function toUsd(micros: number): number {
  return micros / 1e6
}

/** To the microsecond. */
function toMillis(ms: number): string {
  return toNumber(Math.round(ms * 1000) / 1000)
}
