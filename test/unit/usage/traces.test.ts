import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { resourceFromAttributes } from '@opentelemetry/resources'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import { describe, expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import type { Arrival, Attempt, Trail } from '../../../src/types.ts'
import type { OtlpSettings } from '../../../src/usage/otlp-settings.ts'
import { createTraces } from '../../../src/usage/traces.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { makeDeployment, makeRequest, makeRoute, makeTier } from '../upstream/stage.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'
const BEARER = 'the-bearer-itself'
const PROMPT = 'a prompt that nobody may read'
const WALL = Date.UTC(2026, 10, 21, 12)

function createStage(settings: Partial<Pick<OtlpSettings, 'sampler' | 'propagates'>> = {}) {
  const time = createManualClock({ nowMs: 1000, wallMs: WALL })
  const spans: ReadableSpan[] = []
  let drawn = 0
  const traces = createTraces({
    settings: { sampler: { kind: 'parentbased_always_on', ratio: 1 }, propagates: true, ...settings },
    emit: (span) => void spans.push(span),
    resource: resourceFromAttributes({ 'service.name': 'sluice' }),
    version: '1.2.3',
    randomHex: (bytes) => (drawn += 1).toString(16).padStart(bytes * 2, '0'),
    scrub: (text) => text.replaceAll('sk-of-a-provider', '[redacted]'),
    clock: time.clock,
  })
  return { traces, spans, time }
}

const id = (number: number, bytes = 8) => number.toString(16).padStart(bytes * 2, '0')

describe('where a request stands', () => {
  it('is under its caller, as sampled as it, and its calls under it', () => {
    const { traces } = createStage()
    const trace = traces.begin({ traceparent: `00-${TRACE}-${SPAN}-03`, tracestate: 'a=1', bearer: BEARER })
    expect(trace).toMatchObject({
      id: TRACE,
      spanId: id(1),
      parentSpanId: SPAN,
      isSampled: true,
      state: 'a=1',
    })
    expect(trace.headers(trace.nextSpanId())).toEqual([
      'traceparent',
      `00-${TRACE}-${id(2)}-03`,
      'tracestate',
      'a=1',
    ])
  })

  it('is a trace of its own where the caller sends none that can be read', () => {
    const { traces } = createStage()
    const trace = traces.begin({ traceparent: `00-${TRACE}-${SPAN}`, tracestate: 'a=1', bearer: BEARER })
    expect(trace).toMatchObject({ id: id(1, 16), spanId: id(2), parentSpanId: undefined, isSampled: true })
    expect(trace.headers(trace.nextSpanId())).toEqual(['traceparent', `00-${id(1, 16)}-${id(3)}-01`])
  })

  it('is not recorded under a caller that is not; what is called stands under the caller', () => {
    const { traces } = createStage()
    const trace = traces.begin({ traceparent: `00-${TRACE}-${SPAN}-00`, tracestate: 'a=1', bearer: BEARER })
    expect(trace.isSampled).toBe(false)
    expect(trace.nextSpanId()).toBeUndefined()
    expect(trace.headers(undefined)).toEqual(['traceparent', `00-${TRACE}-${SPAN}-00`, 'tracestate', 'a=1'])
  })

  it.each([
    ['always_on', 1, '00', true],
    ['always_off', 1, '01', false],
    ['traceidratio', 0, '01', false],
    ['traceidratio', 1, '00', true],
    ['parentbased_always_off', 1, '01', true],
    ['parentbased_always_off', 1, undefined, false],
    ['parentbased_traceidratio', 0, undefined, false],
    ['parentbased_traceidratio', 0, '01', true],
    ['parentbased_traceidratio', 1, undefined, true],
  ] as const)('is sampled as %s (%s) says, under a caller with %s: %s', (kind, ratio, flags, expected) => {
    const { traces } = createStage({ sampler: { kind, ratio } })
    const traceparent = flags && `00-${TRACE}-${SPAN}-${flags}`
    const trace = traces.begin({ traceparent, tracestate: undefined, bearer: undefined })
    expect(trace.isSampled).toBe(expected)
    // Whoever is called knows what was decided.
    expect(trace.headers(trace.nextSpanId())[1]).toMatch(expected ? /-01$/ : /-00$/)
  })

  it('passes no tracestate on in which there is a secret', () => {
    const { traces } = createStage()
    const begin = (tracestate: string) =>
      traces.begin({ traceparent: `00-${TRACE}-${SPAN}-01`, tracestate, bearer: BEARER }).state
    expect(begin(`a=${BEARER}`)).toBeUndefined()
    expect(begin('a=sk-of-a-provider')).toBeUndefined()
    expect(begin('a=1')).toBe('a=1')
  })

  it('is told to nobody and taken from nobody where context is not propagated', () => {
    const { traces } = createStage({ propagates: false })
    const trace = traces.begin({ traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'a=1', bearer: BEARER })
    expect(trace.id).toBe(id(1, 16))
    expect(trace.headers(trace.nextSpanId())).toEqual([])
  })
})

const first = makeTier('first', [
  makeDeployment('a/*', {}, { baseUrl: 'https://user:hidden@api.example/v1' }),
])
const second = makeTier('second', [
  makeDeployment('b/m2', {}, { tracedAs: 'gcp.gemini', baseUrl: 'http://127.0.0.1:8080/v1' }),
])
const CHOSEN = 'chosen-by-the-caller'

function makeArrival(over: Partial<Arrival> = {}): Arrival {
  return {
    id: 'req_1',
    endpoint: makeRequest().endpoint,
    bearer: BEARER,
    startedMs: 1000,
    timeoutMs: undefined,
    signal: new AbortController().signal,
    end: () => {},
    address: '10.1.2.3',
    traceparent: `00-${TRACE}-${SPAN}-01`,
    tracestate: 'a=1',
    forwarded: [],
    body: { read: () => Promise.reject(new Error('read')), release: () => {}, stop: () => {} },
    ...over,
  }
}

function makeAttempt(over: Partial<Attempt>): Attempt {
  return {
    tier: 'first',
    deployment: 'a/*',
    called: `a/${CHOSEN}`,
    outcome: 'retry',
    reason: '503',
    startedMs: 1010,
    endedMs: 1110,
    firstTokenMs: undefined,
    costMicros: 0,
    ...over,
  }
}

/** A request that failed over once and was answered as a stream, recorded half a second after its end. */
function record(over: Partial<Trail> = {}, { model = CHOSEN, arrival = makeArrival() } = {}) {
  const { traces, spans, time } = createStage()
  const trace = traces.begin(arrival)
  const trail: Trail = {
    trace,
    request: makeRequest({ model, stream: true, messages: [{ role: 'user', content: PROMPT }] }),
    route: makeRoute([first, second], { name: 'chosen-*' }),
    attempts: [
      makeAttempt({ spanId: trace.nextSpanId() }),
      makeAttempt({
        tier: 'second',
        deployment: 'b/m2',
        called: 'b/m2',
        outcome: 'answered',
        reason: '200',
        startedMs: 1120,
        endedMs: 1920,
        firstTokenMs: 1320,
        spanId: trace.nextSpanId(),
      }),
    ],
    usage: {
      inputTokens: 7,
      cachedTokens: 3,
      outputTokens: 20,
      reasoningTokens: 0,
      cacheWriteTokens: 0,
      audioInputTokens: 0,
      audioOutputTokens: 0,
      source: 'provider',
    },
    answeredBy: {
      tier: second,
      deployment: second.deployments[0] as never,
      callee: second.deployments[0]?.name ?? '',
      barred: undefined,
      doubt: undefined,
    },
    status: 200,
    ...over,
  }
  time.advance(1500)
  traces.record(arrival, trail, 2000)
  return spans
}

const at = (ms: number) => [WALL / 1000 + Math.floor((ms - 1000) / 1000), ((ms - 1000) % 1000) * 1e6]

describe('the spans of a request', () => {
  it('are its own and one for each call, under the span of the caller', () => {
    const [request, one, two, ...more] = record()
    expect(more).toEqual([])
    expect(request?.spanContext()).toMatchObject({ traceId: TRACE, spanId: id(1), traceFlags: 1 })
    expect(request?.spanContext().traceState?.serialize()).toBe('a=1')
    expect(request?.parentSpanContext).toMatchObject({ spanId: SPAN, isRemote: true })
    for (const [span, spanId] of [
      [one, id(2)],
      [two, id(3)],
    ] as const) {
      expect(span?.spanContext()).toMatchObject({ traceId: TRACE, spanId })
      expect(span?.parentSpanContext).toMatchObject({ spanId: id(1), isRemote: false })
      expect(span?.kind).toBe(SpanKind.CLIENT)
    }
    expect(request?.kind).toBe(SpanKind.SERVER)
  })

  it('stand at the time of the wall', () => {
    const spans = record()
    expect(spans.map(({ startTime, endTime }) => [startTime, endTime])).toEqual([
      [at(1000), at(2000)],
      [at(1010), at(1110)],
      [at(1120), at(1920)],
    ])
    expect(spans.map(({ duration }) => duration)).toEqual([
      [1, 0],
      [0, 1e8],
      [0, 8e8],
    ])
  })

  it('are named, and say what happened, by the conventions', () => {
    const [request, one, two] = record()
    expect(request).toMatchObject({
      name: 'POST /v1/chat/completions',
      status: { code: SpanStatusCode.UNSET },
      attributes: {
        'http.request.method': 'POST',
        'http.route': '/v1/chat/completions',
        'http.response.status_code': 200,
        'client.address': '10.1.2.3',
        'gen_ai.operation.name': 'chat',
        'gen_ai.request.model': CHOSEN,
        'gen_ai.request.stream': true,
        'gen_ai.response.model': 'm2',
        'sluice.request_id': 'req_1',
        'sluice.route': 'chosen-*',
        'sluice.tier': 'second',
        'sluice.deployment': 'b/m2',
        'sluice.degraded': true,
      },
    })
    expect(one?.name).toBe(`chat ${CHOSEN}`)
    expect(one?.status).toEqual({ code: SpanStatusCode.ERROR })
    expect(one?.attributes).toEqual({
      'gen_ai.operation.name': 'chat',
      'gen_ai.provider.name': 'openai',
      'gen_ai.request.model': CHOSEN,
      'gen_ai.request.stream': true,
      'http.response.status_code': 503,
      'error.type': '503',
      'server.address': 'api.example',
      'server.port': 443,
      'sluice.request_id': 'req_1',
      'sluice.tier': 'first',
      'sluice.deployment': 'a/*',
      'sluice.attempt.outcome': 'retry',
      'sluice.attempt.reason': '503',
    })
    expect(two?.attributes).toEqual({
      'gen_ai.operation.name': 'chat',
      'gen_ai.provider.name': 'gcp.gemini',
      'gen_ai.request.model': 'm2',
      'gen_ai.request.stream': true,
      'gen_ai.response.model': 'm2',
      'gen_ai.response.time_to_first_chunk': 0.2,
      'gen_ai.usage.input_tokens': 7,
      'gen_ai.usage.output_tokens': 20,
      'gen_ai.usage.cache_read.input_tokens': 3,
      'http.response.status_code': 200,
      'server.address': '127.0.0.1',
      'server.port': 8080,
      'sluice.request_id': 'req_1',
      'sluice.tier': 'second',
      'sluice.deployment': 'b/m2',
      'sluice.attempt.outcome': 'answered',
      'sluice.attempt.reason': '200',
    })
  })

  it('hold nothing of what was asked, no bearer, and no key, wherever they stand', () => {
    const spans = record(
      { error: new Error(`defect near ${PROMPT}`), status: 500 },
      { model: `m-${BEARER}-sk-of-a-provider-${'x'.repeat(200)}` },
    )
    const text = JSON.stringify(spans.map((span) => ({ ...span, resource: undefined })))
    expect(text).not.toMatch(/the-bearer-itself|sk-of-a-provider|hidden|nobody may read/)
    expect(spans[0]?.attributes['gen_ai.request.model']).toMatch(/^m-\[redacted\]-\[redacted\]-x+$/)
  })

  it.each([
    ['scope_denied', 403, SpanStatusCode.UNSET],
    ['rate_limit_exceeded', 429, SpanStatusCode.UNSET],
    ['client_closed', 499, SpanStatusCode.UNSET],
    ['upstream_failed', 503, SpanStatusCode.ERROR],
    ['upstream_incomplete', 200, SpanStatusCode.ERROR],
  ] as const)('of one that ended with %s, %s, say so', (code, status, expected) => {
    const [request, ...calls] = record({
      error: new GatewayError(code, 'x'),
      status,
      attempts: [],
      answeredBy: undefined,
      usage: undefined,
    })
    expect(calls).toEqual([])
    expect(request?.status).toEqual({ code: expected })
    expect(request?.attributes).toMatchObject({ 'error.type': code, 'http.response.status_code': status })
  })

  it('tell a call that nobody waited for any more from one that failed', () => {
    const attempt = makeAttempt({ outcome: 'left', reason: '499', spanId: id(9) })
    const [, call] = record({ attempts: [attempt], answeredBy: undefined, usage: undefined, status: 499 })
    expect(call?.status).toEqual({ code: SpanStatusCode.UNSET })
    expect(call?.attributes).not.toHaveProperty('error.type')
    expect(call?.attributes).not.toHaveProperty('http.response.status_code')
    expect(call?.attributes['sluice.attempt.outcome']).toBe('left')
  })

  it('have an event for whoever was passed over, and no span', () => {
    const skipped = makeAttempt({
      outcome: 'skipped',
      reason: 'skipped:limit',
      startedMs: 1005,
      endedMs: 1005,
    })
    const [request, ...calls] = record({ attempts: [skipped], answeredBy: undefined, usage: undefined })
    expect(calls).toEqual([])
    expect(request?.events).toEqual([
      {
        name: 'sluice.skipped',
        time: at(1005),
        attributes: {
          'sluice.tier': 'first',
          'sluice.deployment': 'a/*',
          'sluice.attempt.reason': 'skipped:limit',
        },
      },
    ])
  })

  it('of a request that was refused at the door have what was known until then', () => {
    const [request] = record({
      request: undefined as never,
      route: undefined as never,
      attempts: [],
      answeredBy: undefined,
      usage: undefined,
      status: 401,
      error: new GatewayError('invalid_api_key', 'x'),
    })
    expect(request?.attributes).toEqual({
      'http.request.method': 'POST',
      'http.route': '/v1/chat/completions',
      'http.response.status_code': 401,
      'client.address': '10.1.2.3',
      'error.type': 'invalid_api_key',
      'gen_ai.operation.name': 'chat',
      'sluice.request_id': 'req_1',
    })
  })
})
