import { describe, expect, it } from 'vitest'
import { readOtlpSettings } from '../../../src/usage/otlp-settings.ts'

const read = (environment: Readonly<Record<string, string | undefined>> = {}) =>
  readOtlpSettings(environment, '1.2.3')
const AT = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }

describe('where traces and metrics go', () => {
  it('is nowhere without an address, or with an empty one', () => {
    for (const environment of [{}, { OTEL_EXPORTER_OTLP_ENDPOINT: ' ' }])
      expect(read(environment)).toMatchObject({ tracesUrl: undefined, metricsUrl: undefined, warnings: [] })
  })

  it.each([
    ['http://collector:4318', 'http://collector:4318/v1/traces'],
    ['http://collector:4318/', 'http://collector:4318/v1/traces'],
    ['https://collector/otlp', 'https://collector/otlp/v1/traces'],
  ])('begins with %s for all signals', (OTEL_EXPORTER_OTLP_ENDPOINT, expected) => {
    expect(read({ OTEL_EXPORTER_OTLP_ENDPOINT }).tracesUrl).toBe(expected)
  })

  it('is the address of the signal as it stands, where there is one', () => {
    const own = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://traces:1/in' }
    expect(read({ ...AT, ...own })).toMatchObject({
      tracesUrl: 'http://traces:1/in',
      metricsUrl: 'http://collector:4318/v1/metrics',
    })
    expect(read(own).metricsUrl).toBeUndefined()
  })

  it('is nowhere for a signal that is switched off, or with the SDK', () => {
    expect(read({ ...AT, OTEL_METRICS_EXPORTER: 'none' }).metricsUrl).toBeUndefined()
    expect(read({ ...AT, OTEL_METRICS_EXPORTER: 'none' }).tracesUrl).toBeDefined()
    expect(read({ ...AT, OTEL_SDK_DISABLED: 'true' })).toMatchObject({
      tracesUrl: undefined,
      metricsUrl: undefined,
    })
  })

  it.each(['collector:4318', 'ftp://collector', 'not an address'])(
    'is told of, and nowhere, when it is %s',
    (OTEL_EXPORTER_OTLP_ENDPOINT) => {
      const { tracesUrl, warnings } = read({ OTEL_EXPORTER_OTLP_ENDPOINT })
      expect(tracesUrl).toBeUndefined()
      expect(warnings[0]).toMatch(/^OTEL_EXPORTER_OTLP_ENDPOINT: is no http address/)
      // The value may hold a password.
      expect(warnings.join()).not.toContain(OTEL_EXPORTER_OTLP_ENDPOINT)
    },
  )
})

describe('the variables of the specification', () => {
  it('name the service', () => {
    expect(read().resource).toEqual({ 'service.name': 'sluice', 'service.version': '1.2.3' })
    const attributes = { OTEL_RESOURCE_ATTRIBUTES: 'service.name=a,deployment.environment.name=pro%20d,x,=y' }
    expect(read(attributes).resource).toEqual({
      'service.name': 'a',
      'service.version': '1.2.3',
      'deployment.environment.name': 'pro d',
    })
    expect(read({ ...attributes, OTEL_SERVICE_NAME: 'b' }).resource['service.name']).toBe('b')
  })

  it('choose a sampler, and what is none is told of', () => {
    expect(read().sampler).toEqual({ kind: 'parentbased_always_on', ratio: 1 })
    const ratio = { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.25' }
    expect(read(ratio).sampler).toEqual({ kind: 'parentbased_traceidratio', ratio: 0.25 })
    const wrong = read({ OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '25' })
    expect(wrong).toMatchObject({
      sampler: { ratio: 1 },
      warnings: [expect.stringMatching(/^OTEL_TRACES_SAMPLER_ARG: must/)],
    })
    expect(read({ OTEL_TRACES_SAMPLER: 'jaeger_remote' }).warnings).toHaveLength(1)
  })

  it('say whether context is propagated', () => {
    expect(read().propagates).toBe(true)
    expect(read({ OTEL_PROPAGATORS: 'baggage, tracecontext' }).propagates).toBe(true)
    expect(read({ OTEL_PROPAGATORS: 'none' }).propagates).toBe(false)
  })

  it('bound what waits, a batch by the queue', () => {
    expect(read().batch).toEqual({
      scheduledDelayMillis: 5000,
      exportTimeoutMillis: 30_000,
      maxQueueSize: 2048,
      maxExportBatchSize: 256,
    })
    expect(read({ OTEL_BSP_MAX_QUEUE_SIZE: '100', OTEL_BSP_SCHEDULE_DELAY: '0' })).toMatchObject({
      batch: { maxQueueSize: 100, maxExportBatchSize: 100, scheduledDelayMillis: 5000 },
      warnings: [expect.stringMatching(/^OTEL_BSP_SCHEDULE_DELAY/)],
    })
  })

  it('choose how it is written, for both or for one', () => {
    const [json, protobuf] = ['http/json', 'http/protobuf']
    expect(read(AT).protocols).toEqual({ traces: json, metrics: json })
    const both = { ...AT, OTEL_EXPORTER_OTLP_PROTOCOL: protobuf }
    expect(read(both)).toMatchObject({ protocols: { traces: protobuf, metrics: protobuf }, warnings: [] })
    const one = { ...both, OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: json }
    expect(read(one)).toMatchObject({ protocols: { traces: protobuf, metrics: json }, warnings: [] })
  })

  it('are told of where they ask for what is not done', () => {
    const { protocols, warnings } = read({ ...AT, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' })
    expect(protocols.traces).toBe('http/json')
    expect(warnings).toEqual([
      'OTEL_EXPORTER_OTLP_PROTOCOL: gRPC is not spoken, and its port is another; traces are sent as http/json',
      'OTEL_EXPORTER_OTLP_PROTOCOL: gRPC is not spoken, and its port is another; metrics are sent as http/json',
    ])
    expect(read({ ...AT, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'protobuf' }).warnings).toEqual([
      'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: must be one of http/json, http/protobuf; traces are sent as http/json',
    ])
    // Nothing is said of what is not sent.
    expect(read({ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }).warnings).toEqual([])
    const untraced = { ...AT, OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'grpc' }
    expect(read(untraced).warnings).toEqual([])
    expect(read({ ...AT, OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'delta' }).warnings).toHaveLength(
      1,
    )
  })
})

describe('secrets of the variables', () => {
  it.each([
    [
      'authorization=Bearer%20collector-key',
      ['Bearer%20collector-key', 'Bearer collector-key', 'collector-key'],
    ],
    ['x-api-key=collector-key==,other=second-key', ['collector-key==', 'second-key']],
  ])('are the values of headers, as written and as sent: %s', (OTEL_EXPORTER_OTLP_HEADERS, expected) => {
    expect(read({ OTEL_EXPORTER_OTLP_HEADERS }).secrets).toEqual(expect.arrayContaining(expected))
  })

  it('are those of one signal too, and the password of an address', () => {
    const { secrets } = read({
      OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'k=for-traces',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://u:p%40ss-word@collector:4318',
    })
    expect(secrets).toEqual(expect.arrayContaining(['for-traces', 'p%40ss-word', 'p@ss-word']))
  })
})
