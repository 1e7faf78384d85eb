import { afterEach, describe, expect, it } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { type Collector, createCollector } from '../support/collector.ts'
import { type GatewayOptions, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { readOpenMetrics } from '../support/openmetrics.ts'
import {
  answer,
  createScriptedProvider,
  type ScriptedProvider,
  status,
} from '../support/scripted-provider.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'
const SECRET = 'collector-key-that-nobody-may-see'
const PROMPT = 'a prompt that nobody may read'

const open: { close(): Promise<unknown> }[] = []
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close()
})

interface Scene {
  readonly gateway: TestGateway
  readonly collector: Collector
  readonly first: ScriptedProvider
  readonly second: ScriptedProvider
}

/** A gateway with two tiers, of which the first fails, and a collector of its traces. */
async function createScene({
  env = {},
  config = {},
}: {
  env?: GatewayOptions['env']
  config?: Record<string, unknown>
} = {}): Promise<Scene> {
  const collector = await createCollector()
  const [first, second] = [await createScriptedProvider(), await createScriptedProvider()]
  first.script(status(503))
  second.script(answer({ text: 'an answer that nobody may read' }))
  const gateway = await startGateway({
    config: simpleConfig({
      provider: [first.url, second.url],
      keyVariable: 'PROVIDER_KEY',
      tier: { retries: 0 },
      over: config,
    }),
    env: {
      PROVIDER_KEY: 'sk-provider-key-that-nobody-may-see',
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${SECRET}`,
      OTEL_BSP_SCHEDULE_DELAY: '50',
      ...env,
    },
  })
  open.push(collector, first, second, { close: () => gateway.kill9() })
  return { gateway, collector, first, second }
}

function ask({ gateway }: Scene, headers: Record<string, string> = {}, body: Record<string, unknown> = {}) {
  const messages = [{ role: 'user', content: PROMPT }]
  return createCaller(gateway.baseUrl, gateway.bearer).chat({ headers, body: { messages, ...body } })
}

async function openMetricsOf({ gateway }: Scene) {
  const accept = 'application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5'
  const response = await fetch(`${gateway.adminUrl}/metrics`, { headers: { accept } })
  expect(response.headers.get('content-type')).toBe(
    'application/openmetrics-text; version=1.0.0; charset=utf-8',
  )
  return readOpenMetrics(await response.text())
}

describe('a request that failed over', () => {
  it('is followed by its id through log, trace and exemplar', async () => {
    const scene = await createScene()
    const reply = await ask(
      scene,
      { traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'agent=1' },
      { stream: true },
    )
    expect(reply.status).toBe(200)
    const id = reply.header('x-request-id')

    const line = await scene.gateway.waitForLog((one) => one.id === id)
    expect(line).toMatchObject({ trace: TRACE, attempts: ['t1:p1/m1=503', 't2:p2/m2=200'], code: 'ok' })

    const spans = await scene.collector.waitForSpans(3)
    expect(scene.collector.faults).toEqual([])
    expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set([TRACE]))
    expect(new Set(spans.map(({ attributes }) => attributes['sluice.request_id']))).toEqual(new Set([id]))
    const [request, one, two] = spans
    expect(request).toMatchObject({
      name: 'POST /v1/chat/completions',
      kind: 2,
      parentSpanId: SPAN,
      traceState: 'agent=1',
      status: 0,
      attributes: {
        'sluice.agent': 'tester',
        'sluice.route': 'm',
        'sluice.tier': 't2',
        'sluice.degraded': true,
      },
      resource: { 'service.name': 'sluice' },
    })
    expect(one).toMatchObject({
      name: 'chat m1',
      kind: 3,
      parentSpanId: request?.spanId,
      status: 2,
      attributes: { 'error.type': '503', 'sluice.attempt.reason': '503', 'server.port': scene.first.port },
    })
    expect(two).toMatchObject({
      name: 'chat m2',
      parentSpanId: request?.spanId,
      status: 0,
      attributes: {
        'gen_ai.provider.name': 'openai',
        'gen_ai.usage.input_tokens': line.inputTokens,
        'gen_ai.usage.output_tokens': line.outputTokens,
      },
    })
    // What the providers saw: each the span of its own call.
    expect(scene.first.requests[0]?.header('traceparent')).toBe(`00-${TRACE}-${one?.spanId}-01`)
    expect(scene.second.requests[0]?.header('traceparent')).toBe(`00-${TRACE}-${two?.spanId}-01`)
    expect(scene.second.requests[0]?.header('tracestate')).toBe('agent=1')
    // The times are those of the wall, and the calls lie in the request.
    const now = BigInt(Date.now()) * 1_000_000n
    expect(now - (request?.to ?? 0n)).toBeLessThan(60_000_000_000n)
    for (const call of [one, two]) {
      expect(call?.from).toBeGreaterThanOrEqual(request?.from ?? 0n)
      expect(call?.to).toBeLessThanOrEqual(request?.to ?? 0n)
    }

    const families = await openMetricsOf(scene)
    const exemplified = ['request_duration_seconds', 'first_token_seconds', 'attempts', 'failovers'].map(
      (name) =>
        families
          .get(`sluice_${name}`)
          ?.samples.flatMap(({ exemplar }) => (exemplar === undefined ? [] : [exemplar.labels])),
    )
    const found = { trace_id: TRACE, request_id: id }
    expect(exemplified).toEqual([[found], [found], [found, found], [found]])
  })

  it('leaves in a trace nothing of the content, no bearer and no key', async () => {
    const scene = await createScene()
    await ask(scene, {}, { model: `m-${scene.gateway.bearer}` })
    await ask(scene, {}, { user: PROMPT })
    await scene.collector.waitForSpans(4)
    expect(scene.collector.text).not.toMatch(/nobody may read|nobody-may-see/)
    expect(scene.collector.text).not.toContain(scene.gateway.bearer)
    expect(scene.collector.heads[0]?.authorization).toBe(`Bearer ${SECRET}`)
  })
})

describe('sampling', () => {
  it('is that of the caller: nothing is recorded, and the trace goes on', async () => {
    const scene = await createScene()
    const reply = await ask(scene, { traceparent: `00-${TRACE}-${SPAN}-00` })
    const line = await scene.gateway.waitForLog((one) => one.id === reply.header('x-request-id'))
    expect(line.trace).toBe(TRACE)
    expect(scene.second.requests[0]?.header('traceparent')).toBe(`00-${TRACE}-${SPAN}-00`)
    // One that is recorded comes behind it, and alone.
    await ask(scene, { traceparent: `00-${'1'.repeat(32)}-${SPAN}-01` })
    const spans = await scene.collector.waitForSpans(2)
    expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set(['1'.repeat(32)]))
    const families = await openMetricsOf(scene)
    expect(JSON.stringify([...families.values()])).not.toContain(TRACE)
  })
})

describe('traces and metrics', () => {
  it('are written as the variables say, each in its own way; one that cannot be is told of', async () => {
    const scene = await createScene({
      env: {
        OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
        OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: 'grpc',
        OTEL_METRIC_EXPORT_INTERVAL: '100',
        OTEL_EXPORTER_OTLP_TIMEOUT: 'soon',
        OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE: '/none/ca.pem',
      },
      config: { listen: { workers: 2 } },
    })
    await ask(scene)
    const typesOf = () => scene.collector.heads.map((head) => head['content-type'])
    // This one reads JSON alone; a real one takes both in test/system.
    await eventually(() => new Set(typesOf()).size === 2, 'both were sent')
    expect(new Set(typesOf())).toEqual(new Set(['application/x-protobuf', 'application/json']))
    expect(scene.collector.points.length).toBeGreaterThan(0)
    const warned = scene.gateway.logLines().filter(({ msg }) => /^(OTEL_|OpenTelemetry: )/.test(String(msg)))
    // Once, not by each worker.
    expect(warned.map(({ msg }) => msg)).toEqual([
      'OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: gRPC is not spoken, and its port is another; metrics are sent as http/json',
      "OpenTelemetry: Unknown value 'soon' for OTEL_EXPORTER_OTLP_TIMEOUT, expected a number, using defaults",
      'OpenTelemetry: Failed to read root certificate file',
    ])
  })
})

describe('without a collector', () => {
  it('nothing is passed on, and the last requests are named by their ids alone', async () => {
    const scene = await createScene({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: '' } })
    const reply = await ask(scene, { traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'agent=1' })
    expect(scene.second.requests[0]?.header('traceparent')).toBeUndefined()
    expect(scene.second.requests[0]?.header('tracestate')).toBeUndefined()
    const id = reply.header('x-request-id')
    const line = await scene.gateway.waitForLog((one) => one.id === id)
    expect(line).not.toHaveProperty('trace')
    const families = await openMetricsOf(scene)
    const [exemplar] = families.get('sluice_failovers')?.samples.map((sample) => sample.exemplar) ?? []
    expect(exemplar?.labels).toEqual({ request_id: id })
    expect(scene.collector.heads).toEqual([])
  })

  it('that answers, requests and the drain do not wait; the log says it once, without the key', async () => {
    const scene = await createScene({ env: { OTEL_EXPORTER_OTLP_TIMEOUT: '300' } })
    scene.collector.fallSilent()
    for (let i = 0; i < 3; i += 1) expect((await ask(scene)).status).toBe(200)
    await scene.gateway.waitForLog(({ msg }) => msg === 'traces could not be sent')
    await ask(scene)
    const sentMs = performance.now()
    expect(await scene.gateway.stop()).toBe(0)
    expect(performance.now() - sentMs).toBeLessThan(4000)
    const told = scene.gateway.logLines().filter(({ msg }) => msg === 'traces could not be sent')
    expect(told).toHaveLength(1)
    expect(scene.gateway.stdout()).not.toContain(SECRET)
  })
})

describe('with workers', () => {
  it('metrics and exemplars are those of all, at the operators port and at the collector', async () => {
    const scene = await createScene({
      config: { listen: { workers: 2 } },
      env: { OTEL_BSP_SCHEDULE_DELAY: '60000', OTEL_METRIC_EXPORT_INTERVAL: '200' },
    })
    for (let i = 0; i < 6; i += 1) {
      // A connection each, so that both may get some.
      expect((await ask(scene, { connection: 'close' })).status).toBe(200)
    }
    const families = await openMetricsOf(scene)
    expect(families.get('sluice_requests')?.samples.map(({ value }) => value)).toEqual([6])
    expect(families.get('sluice_failovers')?.samples[0]?.exemplar?.labels).toHaveProperty('trace_id')
    const points = await scene.collector.waitForPoints()
    const requests = points.filter(({ metric }) => metric === 'sluice_requests_total')
    expect(requests.map(({ value }) => value)).toEqual([6])
    expect(requests[0]?.resource['service.name']).toBe('sluice')
    expect(scene.collector.spans).toHaveLength(0)
  })

  it('nothing is lost of what they counted and recorded last', async () => {
    const scene = await createScene({
      config: { listen: { workers: 2 } },
      env: { OTEL_BSP_SCHEDULE_DELAY: '60000' },
    })
    for (let i = 0; i < 6; i += 1) expect((await ask(scene, { connection: 'close' })).status).toBe(200)
    expect(await scene.gateway.stop()).toBe(0)
    const requests = scene.collector.points.filter(({ metric }) => metric === 'sluice_requests_total')
    expect(requests.map(({ value }) => value)).toEqual([6])
    expect(scene.collector.spans).toHaveLength(6 * 3)
    expect(scene.collector.faults).toEqual([])
  })
})
