// Traces: gives each request its place in one, whether it will be recorded or not, and makes spans of those that are,
// when all is over. On the path of a request nothing is done but ids drawn.

import { ROOT_CONTEXT, SpanKind, trace as spans } from '@opentelemetry/api'
import type { Resource } from '@opentelemetry/resources'
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type ReadableSpan,
  type Sampler,
  SamplingDecision,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace'
import { withoutBearer } from '../config/bearer.ts'
import type { Arrival, Clock, Trace, Trail } from '../types.ts'
import type { OtlpSettings } from './otlp-settings.ts'
import { toSpans } from './spans.ts'
import { type Parent, readTraceparent, readTracestate, SAMPLED, toTraceparent } from './trace-context.ts'

export interface Traces {
  /** Where a request that begins stands; what its caller sends of it that is not valid is as if it were not there. */
  begin(arrival: Pick<Arrival, 'traceparent' | 'tracestate' | 'bearer'>): Trace
  /** Makes spans of a request that is over. Call it for those that are sampled. */
  record(arrival: Arrival, trail: Trail, endedMs: number): void
}

interface Deps {
  readonly settings: Pick<OtlpSettings, 'sampler' | 'propagates'>
  /** Takes a span that has ended. */
  readonly emit: (span: ReadableSpan) => void
  readonly resource: Resource
  readonly version: string
  /** That many random bytes, as hex digits. */
  readonly randomHex: (bytes: number) => string
  /** Takes secrets out of a text. */
  readonly scrub: (text: string) => string
  readonly clock: Clock
}

const TRACE_ID_BYTES = 16
const SPAN_ID_BYTES = 8

export function createTraces({ settings, emit, resource, version, randomHex, scrub, clock }: Deps): Traces {
  const sampler = toSampler(settings.sampler)
  const frame = { resource, version }

  function isSampled(traceId: string, parent: Parent | undefined): boolean {
    const context =
      parent === undefined
        ? ROOT_CONTEXT
        : spans.setSpanContext(ROOT_CONTEXT, { ...parent, traceFlags: parent.flags, isRemote: true })
    const { decision } = sampler.shouldSample(context, traceId, 'request', SpanKind.SERVER, {}, [])
    return decision === SamplingDecision.RECORD_AND_SAMPLED
  }

  /** Text that a caller wrote and strangers will read: with a secret in it, it is not passed on. */
  function readState({ tracestate, bearer }: Pick<Arrival, 'tracestate' | 'bearer'>): string | undefined {
    const state = readTracestate(tracestate)
    return state !== undefined && scrub(withoutBearer(state, bearer)) === state ? state : undefined
  }

  return {
    begin(arrival) {
      const parent = settings.propagates ? readTraceparent(arrival.traceparent) : undefined
      const id = parent?.traceId ?? randomHex(TRACE_ID_BYTES)
      const sampled = isSampled(id, parent)
      // What is not recorded is no link of the chain: whoever is called stands under the caller's span.
      const spanId = parent !== undefined && !sampled ? parent.spanId : randomHex(SPAN_ID_BYTES)
      const flags = ((parent?.flags ?? 0) & ~SAMPLED) | (sampled ? SAMPLED : 0)
      const state = parent && readState(arrival)
      return {
        id,
        spanId,
        parentSpanId: sampled ? parent?.spanId : undefined,
        isSampled: sampled,
        state,
        nextSpanId: () => (sampled ? randomHex(SPAN_ID_BYTES) : undefined),
        headers(callSpanId = spanId) {
          if (!settings.propagates) return []
          const line = ['traceparent', toTraceparent({ traceId: id, spanId: callSpanId, flags })]
          return state === undefined ? line : [...line, 'tracestate', state]
        },
      }
    },

    record(arrival, trail, endedMs) {
      const { trace } = trail
      if (trace === undefined) return
      const finished = {
        arrival,
        trail,
        trace,
        endedMs,
        epochMs: clock.wall() - clock.now(),
        clean: (text: string) => scrub(withoutBearer(text, arrival.bearer)),
      }
      for (const span of toSpans(frame, finished)) emit(span)
    },
  }
}

function toSampler({ kind, ratio }: OtlpSettings['sampler']): Sampler {
  const root = kind.endsWith('always_off')
    ? new AlwaysOffSampler()
    : kind.endsWith('ratio')
      ? new TraceIdRatioBasedSampler(ratio)
      : new AlwaysOnSampler()
  return kind.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root
}
