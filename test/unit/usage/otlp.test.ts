import { diag } from '@opentelemetry/api'
import { resourceFromAttributes } from '@opentelemetry/resources'
import type { ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { InMemorySpanExporter, type ReadableSpan, type SpanExporter } from '@opentelemetry/sdk-trace'
import { describe, expect, it } from 'vitest'
import { createOtlp, type OtlpDeps } from '../../../src/usage/otlp.ts'
import { readOtlpSettings } from '../../../src/usage/otlp-settings.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { makeArrival } from './fixtures.ts'

const ON = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_BSP_MAX_QUEUE_SIZE: '10' }

function createStage(exporters: OtlpDeps['exporters'], environment: Record<string, string> = {}) {
  const time = createManualClock()
  const told: { fields: Readonly<Record<string, unknown>>; message: string }[] = []
  let drawn = 0
  const otlp = createOtlp(readOtlpSettings({ ...ON, ...environment }, '1.2.3'), {
    version: '1.2.3',
    instance: 'one',
    isFirst: true,
    randomHex: (bytes) => (drawn += 1).toString(16).padStart(bytes * 2, '0'),
    scrub: (text) => text,
    describe: (error) => `described: ${error instanceof Error ? error.message : 'none'}`,
    log: { warn: (fields, message) => void told.push({ fields, message }) },
    clock: time.clock,
    timers: time.timers,
    exporters,
  })
  return { otlp, time, told, request: () => request(otlp) }
}

function request({ traces }: ReturnType<typeof createOtlp>): void {
  const arrival = makeArrival({ bearer: undefined, startedMs: 0 })
  traces?.record(arrival, { attempts: [], trace: traces.begin(arrival), status: 401 }, 1)
}

/** One that never says that it is done, as where the collector takes the connection and nothing else. */
function createDead(): SpanExporter & { readonly seen: ReadableSpan[] } {
  const seen: ReadableSpan[] = []
  return { seen, export: (spans) => void seen.push(...spans), shutdown: async () => {} }
}

const FAILED = 1
const failing: SpanExporter = {
  export: (_, whenDone) => whenDone({ code: FAILED, error: new Error('connection refused') }),
  shutdown: async () => {},
}

const METRICS: ResourceMetrics = { resource: resourceFromAttributes({}), scopeMetrics: [] }

/** What a process has as metrics to send, and what was sent of it. */
function createMetrics(code = 0) {
  const sent: ResourceMetrics[] = []
  return {
    sent,
    export(metrics: ResourceMetrics, whenDone: (result: { code: number; error?: Error }) => void) {
      sent.push(metrics)
      whenDone(code === 0 ? { code } : { code, error: new Error('connection refused') })
    },
    forceFlush: async () => {},
    shutdown: async () => {},
    selectAggregationTemporality: () => 1,
  }
}

describe('what is sent to a collector', () => {
  it('is each span, at the end at the latest, in the name of this process', async () => {
    const spans = new InMemorySpanExporter()
    // It forgets what it has when it is shut down.
    spans.shutdown = async () => {}
    const { otlp, request } = createStage({ spans }, { OTEL_SERVICE_NAME: 'gateway' })
    request()
    expect(spans.getFinishedSpans()).toEqual([])
    await otlp.close(1000)
    expect(spans.getFinishedSpans().map(({ resource }) => resource.attributes)).toEqual([
      { 'service.name': 'gateway', 'service.version': '1.2.3', 'service.instance.id': 'one' },
    ])
  })

  it('waits within a bound, and is dropped beyond it', async () => {
    const spans = createDead()
    const { otlp, request } = createStage({ spans }, { OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10' })
    for (let i = 0; i < 100; i += 1) request()
    void otlp.close(1)
    await new Promise((resolve) => setImmediate(resolve))
    // Ten are under way, ten wait.
    expect(spans.seen.length).toBeLessThanOrEqual(20)
  })

  it('is told of when it was dropped, or taken in part alone, once a minute', async () => {
    const seen: ReadableSpan[] = []
    let whenDone: (() => void) | undefined
    const slow: SpanExporter = {
      export(spans, done) {
        seen.push(...spans)
        whenDone = () => done({ code: 0 })
      },
      shutdown: async () => {},
    }
    const { told, time, request, otlp } = createStage(
      { spans: slow },
      { OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10' },
    )
    const overflow = async () => {
      for (let i = 0; i < 100; i += 1) request()
      await new Promise((resolve) => setImmediate(resolve))
      whenDone?.()
      await new Promise((resolve) => setImmediate(resolve))
      request()
    }
    await overflow()
    expect(told.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^OpenTelemetry: Dropped \d+ spans because maxQueueSize reached$/),
    ])
    await overflow()
    expect(told).toHaveLength(1)
    time.advance(60_000)
    await overflow()
    expect(told).toHaveLength(2)
    // What its parts say, they say by way of this.
    diag.warn('Received Partial Success response:', '{"rejectedSpans":3}')
    diag.error('a failure, which is told of by itself')
    expect(told.at(-1)?.message).toBe('OpenTelemetry: Received Partial Success response: {"rejectedSpans":3}')
    void otlp.close(1)
  })

  it('is waited for at the end for so long and no longer', async () => {
    const { otlp, time, request } = createStage({ spans: createDead() })
    request()
    let isClosed = false
    const closed = otlp.close(1000).then(() => {
      isClosed = true
    })
    await time.advanceAsync(999)
    expect(isClosed).toBe(false)
    await time.advanceAsync(1)
    await closed
  })

  it('is told of when it fails, once a minute, and how often', async () => {
    const { otlp, time, told, request } = createStage(
      { spans: failing },
      { OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '1' },
    )
    for (let i = 0; i < 5; i += 1) {
      request()
      await time.advanceAsync(1)
    }
    expect(told).toEqual([
      {
        fields: { failures: 1, error: 'described: connection refused' },
        message: 'traces could not be sent',
      },
    ])
    await time.advanceAsync(60_000)
    request()
    await time.advanceAsync(1)
    expect(told).toHaveLength(2)
    expect(told[1]?.fields.failures).toBe(5)
    await otlp.close(1)
  })

  it('is the metrics as they are then, every minute and at the end', async () => {
    const metrics = createMetrics()
    const { otlp, time } = createStage({ spans: createDead(), metrics })
    otlp.sendMetrics(async () => METRICS)
    await time.advanceAsync(59_999)
    expect(metrics.sent).toHaveLength(0)
    await time.advanceAsync(120_001)
    expect(metrics.sent).toHaveLength(3)
    await otlp.close(1000)
    expect(metrics.sent).toHaveLength(4)
    expect(metrics.sent[0]?.resource.attributes['service.instance.id']).toBe('one')
    await time.advanceAsync(600_000)
    expect(metrics.sent).toHaveLength(4)
  })

  it('goes on with metrics after one that could not be had, or sent', async () => {
    const metrics = createMetrics(FAILED)
    const { otlp, time, told } = createStage({ spans: createDead(), metrics })
    let calls = 0
    otlp.sendMetrics(async () => {
      calls += 1
      if (calls === 1) throw new Error('no figures')
      return METRICS
    })
    await time.advanceAsync(180_000)
    expect(told.map(({ fields }) => fields.error)).toEqual([
      'described: no figures',
      'described: connection refused',
      'described: connection refused',
    ])
    await otlp.close(1)
  })
})
