// Sends spans and metrics to a collector by OTLP over HTTP. Nobody waits for it: what is to be sent has a bound and is
// dropped beyond it, what fails is told once a minute, and a drain gives it a moment at its end.

import { type DiagLogger, DiagLogLevel, diag } from '@opentelemetry/api'
import { OTLPExporterBase } from '@opentelemetry/otlp-exporter-base'
import {
  convertLegacyHttpOptions,
  createOtlpHttpExportDelegate,
} from '@opentelemetry/otlp-exporter-base/node-http'
import {
  JsonMetricsSerializer,
  JsonTraceSerializer,
  MetricsExporterMetricsHelper,
  ProtobufMetricsSerializer,
  ProtobufTraceSerializer,
  TraceExporterMetricsHelper,
} from '@opentelemetry/otlp-transformer'
import { resourceFromAttributes } from '@opentelemetry/resources'
import type { PushMetricExporter, ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { BatchSpanProcessor, type SpanExporter } from '@opentelemetry/sdk-trace'
import type { Clock } from '../types.ts'
import type { OtlpProtocol, OtlpSettings } from './otlp-settings.ts'
import { createTraces, type Traces } from './traces.ts'

export interface Otlp {
  /** Undefined where traces are not sent. */
  readonly traces: Traces | undefined
  /** Sends the metrics from now on, as `collect` gives them. Once. */
  sendMetrics(collect: () => Promise<ResourceMetrics>): void
  /** Sends what there is, for as long at most; nothing is sent after it. */
  close(withinMs: number): Promise<void>
}

export interface OtlpDeps {
  readonly version: string
  /** Name of this process, unique in the fleet. */
  readonly instance: string
  readonly randomHex: (bytes: number) => string
  readonly scrub: (text: string) => string
  /** An error as text without secrets. */
  readonly describe: (error: unknown) => string
  readonly log: { warn(fields: Readonly<Record<string, unknown>>, message: string): void }
  readonly clock: Clock
  readonly timers: { set(ms: number, run: () => void): unknown; clear(handle: unknown): void }
  /** Not one of several workers, who would all say the same of the variables. */
  readonly isFirst: boolean
  /** In place of those that send; for tests. */
  readonly exporters?: {
    readonly spans?: SpanExporter
    readonly metrics?: Pick<PushMetricExporter, 'export'>
  }
}

const TELL_EVERY_MS = 60_000
/** Exports under way at once, at most. */
const CONCURRENT = 4
const FAILED = 1
/** Kinds of warnings that are remembered. */
const MOST_KINDS = 64
const CONTENT_TYPES: Readonly<Record<OtlpProtocol, string>> = {
  'http/json': 'application/json',
  'http/protobuf': 'application/x-protobuf',
}
const SPANS = { 'http/json': JsonTraceSerializer, 'http/protobuf': ProtobufTraceSerializer }
const METRICS = { 'http/json': JsonMetricsSerializer, 'http/protobuf': ProtobufMetricsSerializer }

export function createOtlp(settings: OtlpSettings, deps: OtlpDeps): Otlp {
  const { tracesUrl, metricsUrl, protocols } = settings
  const { version, instance, clock, timers } = deps
  const resource = resourceFromAttributes({ 'service.instance.id': instance, ...settings.resource })
  const heed = createHeed(deps)
  // What the variables hold that the library cannot use is the same for all processes.
  if (deps.isFirst) heed()
  const options = { userAgent: `sluice/${version}`, concurrencyLimit: CONCURRENT }
  /** Headers, certificates, time limits and compression are those of the variables of the specification. */
  const httpOptions = (signal: 'traces' | 'metrics', url: string) =>
    convertLegacyHttpOptions({ ...options, url }, signal.toUpperCase(), `v1/${signal}`, {
      'Content-Type': CONTENT_TYPES[protocols[signal]],
    })
  const processor =
    tracesUrl === undefined
      ? undefined
      : new BatchSpanProcessor({
          ...settings.batch,
          exporter: telling(
            deps.exporters?.spans ??
              new OTLPExporterBase(
                createOtlpHttpExportDelegate(
                  httpOptions('traces', tracesUrl),
                  SPANS[protocols.traces],
                  'otlp_http_span_exporter',
                  TraceExporterMetricsHelper,
                  undefined,
                ),
              ),
            createTeller('traces'),
          ),
        })
  const tellMetrics = createTeller('metrics')
  const metrics =
    metricsUrl === undefined
      ? undefined
      : (deps.exporters?.metrics ??
        new OTLPExporterBase(
          createOtlpHttpExportDelegate(
            httpOptions('metrics', metricsUrl),
            METRICS[protocols.metrics],
            'otlp_http_metric_exporter',
            MetricsExporterMetricsHelper,
            undefined,
          ),
        ))
  heed()
  let collect: (() => Promise<ResourceMetrics>) | undefined
  let timer: unknown
  let isOver = false

  /** Tells of failures, once a minute at most. */
  function createTeller(what: string): (error: unknown) => void {
    let toldMs = Number.NEGATIVE_INFINITY
    let failures = 0
    return (error) => {
      failures += 1
      if (clock.now() - toldMs < TELL_EVERY_MS) return
      toldMs = clock.now()
      deps.log.warn({ failures, error: deps.describe(error) }, `${what} could not be sent`)
      failures = 0
    }
  }

  async function sendNow(): Promise<void> {
    if (metrics === undefined || collect === undefined) return
    try {
      const collected = { ...(await collect()), resource }
      await new Promise<void>((resolve) => {
        metrics.export(collected, ({ code, error }) => {
          if (code === FAILED) tellMetrics(error)
          resolve()
        })
      })
    } catch (error) {
      tellMetrics(error)
    }
  }

  /** The next time counts from the end of this one: a collector that is slow gets one after the other. */
  function sendSoon(): void {
    timer = timers.set(settings.metricsEveryMs, () => {
      void sendNow().then(() => {
        if (!isOver) sendSoon()
      })
    })
  }

  return {
    traces: processor && createTraces({ ...deps, settings, resource, emit: (span) => processor.onEnd(span) }),
    sendMetrics(from) {
      if (metrics === undefined) return
      collect = from
      sendSoon()
    },
    async close(withinMs) {
      isOver = true
      timers.clear(timer)
      const { promise: late, resolve } = Promise.withResolvers<void>()
      const limit = timers.set(withinMs, resolve)
      // What fails has been told.
      await Promise.race([late, Promise.allSettled([processor?.shutdown(), sendNow()])])
      timers.clear(limit)
    },
  }
}

/**
 * Has the library's own warnings heard: variables that it cannot use, spans that were dropped, what a collector did not
 * take. Each kind once a minute. Its errors are those that the exporters tell of by themselves.
 */
function createHeed({ log, clock }: Pick<OtlpDeps, 'log' | 'clock'>): () => void {
  /** By the text without its numbers, when it was last told. */
  const told = new Map<string, number>()
  const ignore = (): void => {}
  const logger: DiagLogger = {
    error: ignore,
    warn(text, ...rest) {
      const message = [text, ...rest].map(String).join(' ')
      const kind = message.replaceAll(/\d+/g, '').slice(0, 100)
      if (clock.now() - (told.get(kind) ?? Number.NEGATIVE_INFINITY) < TELL_EVERY_MS) return
      if (told.size >= MOST_KINDS) told.clear()
      told.set(kind, clock.now())
      log.warn({}, `OpenTelemetry: ${message}`)
    },
    info: ignore,
    debug: ignore,
    verbose: ignore,
  }
  return () => void diag.setLogger(logger, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true })
}

/** The same exporter, of whose failures somebody hears. */
function telling(exporter: SpanExporter, tell: (error: unknown) => void): SpanExporter {
  return {
    export(batch, whenDone) {
      exporter.export(batch, (result) => {
        if (result.code === FAILED) tell(result.error)
        whenDone(result)
      })
    },
    shutdown: () => exporter.shutdown(),
  }
}
