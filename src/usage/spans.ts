// One finished request as spans: its own, and one for each call to a deployment. Pure. Names, ids and numbers only, in
// the words of OpenTelemetry's conventions for HTTP and for generative AI; of what was asked and answered nothing.

import { type Attributes, createTraceState, type HrTime, SpanKind, SpanStatusCode } from '@opentelemetry/api'
import type { Resource } from '@opentelemetry/resources'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import { toGatewayError } from '../errors.ts'
import type { Arrival, Attempt, Deployment, Trace, Trail } from '../types.ts'

/** What all spans of a process have in common. */
export interface SpanFrame {
  readonly resource: Resource
  readonly version: string
}

export interface Finished {
  readonly arrival: Arrival
  readonly trail: Trail
  readonly trace: Trace
  /** Monotonic ms. */
  readonly endedMs: number
  /** Unix ms of monotonic 0. */
  readonly epochMs: number
  /** A text without secrets, and without the bearer of this caller. */
  readonly clean: (text: string) => string
}

/** Longest text of an attribute, or of a name; a model's may be chosen by the caller. */
const LONGEST = 256

export function toSpans(frame: SpanFrame, finished: Finished): ReadableSpan[] {
  const { trail } = finished
  const calls = trail.attempts.filter(({ outcome, spanId }) => outcome !== 'skipped' && spanId !== undefined)
  return [toRequestSpan(frame, finished), ...calls.map((attempt) => toCallSpan(frame, finished, attempt))]
}

function toRequestSpan(frame: SpanFrame, finished: Finished): ReadableSpan {
  const { arrival, trail, trace } = finished
  const { request, caller, route, answeredBy, attempts, status } = trail
  const { method, path, operation } = arrival.endpoint
  const code = trail.error === undefined ? undefined : toGatewayError(trail.error).code
  const answer = answerOf(trail)
  return toSpan(frame, finished, {
    id: trace.spanId,
    parent: trace.parentSpanId === undefined ? undefined : { id: trace.parentSpanId, isRemote: true },
    name: `${method} /v1${path}`,
    kind: SpanKind.SERVER,
    fromMs: arrival.startedMs,
    toMs: finished.endedMs,
    // A refusal is the caller's: to a server it is no error (conventions for HTTP). A stream that broke began with 200.
    isError: code !== undefined && (status === undefined || status >= 500 || status < 400),
    attributes: {
      'http.request.method': method,
      'http.route': `/v1${path}`,
      'http.response.status_code': status,
      'client.address': arrival.address,
      'error.type': code,
      'gen_ai.operation.name': operation,
      'gen_ai.request.model': request?.model,
      'gen_ai.request.stream': request?.stream,
      'gen_ai.response.model': answer && modelOf(answer),
      'sluice.request_id': arrival.id,
      'sluice.agent': caller?.agent.name,
      'sluice.route': route?.name,
      'sluice.tier': answeredBy?.tier.name,
      'sluice.deployment': answeredBy?.deployment.name,
      'sluice.degraded': answeredBy && answeredBy.tier.name !== route?.tiers[0]?.name,
    },
    // Whoever was passed over took no time, and is none of the calls.
    events: attempts
      .filter(({ outcome }) => outcome === 'skipped')
      .map(({ tier, deployment, reason, startedMs }) => ({
        name: 'sluice.skipped',
        atMs: startedMs,
        attributes: { 'sluice.tier': tier, 'sluice.deployment': deployment, 'sluice.attempt.reason': reason },
      })),
  })
}

function toCallSpan(frame: SpanFrame, finished: Finished, attempt: Attempt): ReadableSpan {
  const { arrival, trail, trace } = finished
  const { outcome, reason, startedMs, firstTokenMs } = attempt
  const deployment = deploymentOf(trail, attempt)
  const { operation } = arrival.endpoint
  // Tokens stand at one span alone, that of the call which used them, so that who adds them up counts them once.
  const used = answerOf(trail) === attempt ? trail.usage : undefined
  const began = trail.request?.stream && firstTokenMs !== undefined
  return toSpan(frame, finished, {
    id: attempt.spanId ?? '',
    parent: { id: trace.spanId, isRemote: false },
    name: `${operation} ${modelOf(attempt)}`,
    kind: deployment?.kind === 'http' ? SpanKind.CLIENT : SpanKind.INTERNAL,
    fromMs: startedMs,
    toMs: attempt.endedMs || finished.endedMs,
    isError: FAILED.has(outcome),
    attributes: {
      'gen_ai.operation.name': operation,
      'gen_ai.provider.name': deployment?.provider?.tracedAs ?? 'sluice',
      'gen_ai.request.model': modelOf(attempt),
      'gen_ai.request.stream': trail.request?.stream,
      'gen_ai.response.model': outcome === 'answered' ? modelOf(attempt) : undefined,
      'gen_ai.response.time_to_first_chunk': began ? (firstTokenMs - startedMs) / 1000 : undefined,
      'gen_ai.usage.input_tokens': used?.inputTokens,
      'gen_ai.usage.output_tokens': used?.outputTokens,
      'gen_ai.usage.cache_read.input_tokens': used?.cachedTokens || undefined,
      'gen_ai.usage.reasoning.output_tokens': used?.reasoningTokens || undefined,
      'http.response.status_code': outcome !== 'left' && /^\d+$/.test(reason) ? Number(reason) : undefined,
      'error.type': FAILED.has(outcome) ? reason : undefined,
      ...addressOf(deployment),
      'sluice.request_id': arrival.id,
      'sluice.tier': attempt.tier,
      'sluice.deployment': attempt.deployment,
      'sluice.attempt.outcome': outcome,
      'sluice.attempt.reason': reason,
    },
    events: [],
  })
}

const FAILED: ReadonlySet<Attempt['outcome']> = new Set(['retry', 'refuse', 'broken'])

/** The call whose answer the caller got, whole or in part. */
function answerOf({ attempts, answeredBy }: Trail): Attempt | undefined {
  const name = answeredBy?.deployment.name
  const own = attempts.filter(({ deployment, outcome }) => deployment === name && outcome !== 'skipped')
  return own.findLast(({ outcome }) => outcome === 'answered') ?? own.at(-1)
}

function deploymentOf({ route }: Trail, attempt: Attempt): Deployment | undefined {
  const tier = route?.tiers.find(({ name }) => name === attempt.tier)
  return tier?.deployments.find(({ name }) => name === attempt.deployment)
}

/** Of `provider/model` the model. */
function modelOf({ called }: Attempt): string {
  return called.slice(called.indexOf('/') + 1)
}

/** Of the address nothing but host and port: there may be a password in it. */
function addressOf(deployment: Deployment | undefined): Attributes {
  const { baseUrl = '' } = deployment?.provider ?? {}
  if (deployment?.kind !== 'http' || !URL.canParse(baseUrl)) return {}
  const { hostname, port, protocol } = new URL(baseUrl)
  return { 'server.address': hostname, 'server.port': Number(port) || (protocol === 'https:' ? 443 : 80) }
}

interface Sketch {
  readonly id: string
  readonly parent: { readonly id: string; readonly isRemote: boolean } | undefined
  readonly name: string
  readonly kind: SpanKind
  /** Monotonic ms. */
  readonly fromMs: number
  readonly toMs: number
  readonly isError: boolean
  /** What is undefined is left out. */
  readonly attributes: Attributes
  readonly events: readonly {
    readonly name: string
    readonly atMs: number
    readonly attributes: Attributes
  }[]
}

function toSpan({ resource, version }: SpanFrame, finished: Finished, sketch: Sketch): ReadableSpan {
  const { trace, epochMs, clean } = finished
  const short = (text: string): string => clean(text).slice(0, LONGEST).toWellFormed()
  const cleaned = (attributes: Attributes): Attributes =>
    Object.fromEntries(
      Object.entries(attributes)
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => [name, typeof value === 'string' ? short(value) : value]),
    )
  const traceState = trace.state === undefined ? undefined : createTraceState(trace.state)
  const inTrace = { traceId: trace.id, traceFlags: 1, ...(traceState && { traceState }) }
  const context = { ...inTrace, spanId: sketch.id }
  const { parent } = sketch
  const toMs = Math.max(sketch.toMs, sketch.fromMs)
  return {
    name: short(sketch.name),
    kind: sketch.kind,
    spanContext: () => context,
    ...(parent && { parentSpanContext: { ...inTrace, spanId: parent.id, isRemote: parent.isRemote } }),
    startTime: toTime(epochMs + sketch.fromMs),
    endTime: toTime(epochMs + toMs),
    duration: toTime(toMs - sketch.fromMs),
    status: { code: sketch.isError ? SpanStatusCode.ERROR : SpanStatusCode.UNSET },
    attributes: cleaned(sketch.attributes),
    events: sketch.events.map(({ name, atMs, attributes }) => ({
      name,
      time: toTime(epochMs + atMs),
      attributes: cleaned(attributes),
    })),
    links: [],
    ended: true,
    resource,
    instrumentationScope: { name: 'sluice', version },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  }
}

/** Ms as seconds and nanoseconds, whole microseconds. */
function toTime(ms: number): HrTime {
  const us = Math.round(ms * 1000)
  return [Math.floor(us / 1e6), (us % 1e6) * 1000]
}
