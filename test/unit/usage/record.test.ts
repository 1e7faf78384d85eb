import { createNoopMeter } from '@opentelemetry/api'
import { describe, expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import type { Arrival, Attempt, Caller, Trail } from '../../../src/types.ts'
import { createExemplars } from '../../../src/usage/exemplars.ts'
import { createInstruments, type Instruments, METRICS } from '../../../src/usage/metrics.ts'
import { createRecorder } from '../../../src/usage/record.ts'
import { createRequestLines, type RequestLines } from '../../../src/usage/request-lines.ts'
import type { Traces } from '../../../src/usage/traces.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { makeDeployment, makeRequest, makeRoute, makeTier, NO_LIMITS } from '../upstream/stage.ts'
import { IDLE_GAUGES, makeArrival } from './fixtures.ts'

type Labels = Readonly<Record<string, string>>
interface Sample {
  readonly value: number
  readonly labels: Labels
}

/** Instruments that write down what they are told, by name. */
function createBook() {
  const book: Record<string, Sample[]> = {}
  const note = (name: string) => (value: number, labels: Labels) => {
    book[name] = [...(book[name] ?? []), { value, labels }]
  }
  const counter = (name: string) => ({
    add: note(name),
    of: (labels: Labels) => ({ add: (value: number) => note(name)(value, labels) }),
  })
  const histogram = (name: string) => ({
    record: note(name),
    of: (labels: Labels) => ({ record: (value: number) => note(name)(value, labels) }),
  })
  const instruments: Instruments = {
    histograms: () => [],
    requests: counter('requests'),
    requestSeconds: histogram('requestSeconds'),
    firstTokenSeconds: histogram('firstTokenSeconds'),
    overheadSeconds: histogram('overheadSeconds'),
    attempts: counter('attempts'),
    attemptSeconds: histogram('attemptSeconds'),
    failovers: counter('failovers'),
    degraded: counter('degraded'),
    tokens: counter('tokens'),
    cost: counter('cost'),
    unpriced: counter('unpriced'),
    refusals: counter('refusals'),
    revocations: counter('revocations'),
    secretLoads: counter('secretLoads'),
    isOfNow: () => true,
    agentLabel: (agent) => agent,
  }
  return { book, instruments }
}

/** Fields that a line has only where there is something to say. */
const LEFT_OUT = Object.fromEntries(
  ['agent', 'model', 'outsideHours', 'unpriced', 'costUsd', 'error'].map((name) => [name, undefined]),
)
const LEVELS: Readonly<Record<number, string>> = { 30: 'info', 40: 'warn', 50: 'error' }

function createStage(over: { instruments?: Instruments; log?: RequestLines; traces?: Traces } = {}) {
  const { book, instruments } = createBook()
  const time = createManualClock({ nowMs: 1000 })
  const exemplars = createExemplars(time)
  const lines: { level: string; fields: Readonly<Record<string, unknown>>; message: string }[] = []
  const scrub = { secret: 'x-not-there' }
  const log =
    over.log ??
    createRequestLines({
      log: { isLevelEnabled: () => true },
      write(line) {
        const { level, time: _, msg: message, ...fields } = JSON.parse(line)
        lines.push({ level: LEVELS[level] ?? '', fields: { ...LEFT_OUT, ...fields }, message })
      },
      scrub: (text) => text.replaceAll(scrub.secret, '[redacted]'),
      wall: time.clock.wall,
      worker: undefined,
    })
  const recorder = createRecorder({
    log,
    instruments: over.instruments ?? instruments,
    exemplars,
    traces: over.traces,
    clock: time.clock,
    describe: (error) => `described: ${error instanceof Error ? error.message : 'none'}`,
  })
  return { recorder, book, lines, time, exemplars, scrub }
}

const PROMPT = 'a prompt that nobody may read'
const CHOSEN = 'chosen-by-the-caller'

const caller: Caller = {
  agent: {
    name: 'tester',
    role: undefined,
    class: 'normal',
    scopes: [],
    deny: [],
    limits: NO_LIMITS,
    deadlineMs: undefined,
    maxOutputTokens: undefined,
  },
  bearer: { id: 'laptop', agent: 'tester', sha256: 'ab'.repeat(32), expiresMs: undefined, limits: NO_LIMITS },
  subjects: [],
}
const first = makeTier('first', [makeDeployment('a/*')])
const second = makeTier('second', [makeDeployment('b/*')])

function makeAttempt(over: Partial<Attempt> & Pick<Attempt, 'tier' | 'deployment'>): Attempt {
  return {
    called: over.deployment.replace('*', CHOSEN),
    outcome: 'answered',
    reason: '200',
    startedMs: 1000,
    endedMs: 1000,
    firstTokenMs: undefined,
    costMicros: 0,
    ...over,
  }
}

/** A request that failed over once and was answered as a stream. */
function makeTrail(over: Partial<Trail> = {}): Trail {
  return {
    caller,
    request: makeRequest({ model: CHOSEN, stream: true, messages: [{ role: 'user', content: PROMPT }] }),
    decision: {
      allow: true,
      code: 'allowed',
      matched: 'chat:*',
      obligations: { deadlineMs: undefined, maxOutputTokens: undefined, pricedOnly: false, class: 'normal' },
    },
    route: makeRoute([first, second], { name: 'chosen-*' }),
    attempts: [
      makeAttempt({
        tier: 'first',
        deployment: 'a/*',
        outcome: 'retry',
        reason: '503',
        startedMs: 1010,
        endedMs: 1110,
      }),
      makeAttempt({
        tier: 'second',
        deployment: 'b/*',
        startedMs: 1120,
        endedMs: 1920,
        firstTokenMs: 1320,
        costMicros: 1234,
      }),
    ],
    usage: {
      inputTokens: 7,
      cachedTokens: 3,
      outputTokens: 20,
      reasoningTokens: 5,
      cacheWriteTokens: 0,
      audioInputTokens: 0,
      audioOutputTokens: 0,
      source: 'provider',
    },
    costMicros: 1234,
    answeredBy: {
      tier: second,
      deployment: makeDeployment('b/*'),
      callee: 'b/*',
      barred: undefined,
      doubt: undefined,
    },
    status: 200,
    ...over,
  }
}

describe('the record of a request', () => {
  it('names the keys that were used outside their hours, and is a warning then', () => {
    const { recorder, lines } = createStage()
    const [one, two] = makeTrail().attempts.map((attempt) => ({ ...attempt, outsideHours: 'env:K' }))
    const plain = makeAttempt({ tier: 'second', deployment: 'b/*' })
    recorder.record(makeArrival(), makeTrail({ attempts: [one, two, plain].flatMap((a) => a ?? []) }))
    recorder.record(makeArrival(), makeTrail())
    expect(lines.map(({ level, message, fields }) => [level, message, fields.outsideHours])).toEqual([
      ['warn', 'request', ['env:K']],
      ['info', 'request', undefined],
    ])
  })

  it('is one line, with ids, names and numbers', () => {
    const { recorder, lines, time } = createStage()
    time.advance(1000)
    recorder.record(makeArrival(), makeTrail())
    expect(lines).toEqual([
      {
        level: 'info',
        message: 'request',
        fields: expect.objectContaining({
          id: 'req_1',
          agent: 'tester',
          bearer: 'laptop',
          operation: 'chat',
          model: CHOSEN,
          route: 'chosen-*',
          matched: 'chat:*',
          stream: true,
          status: 200,
          code: 'ok',
          tier: 'second',
          deployment: `b/${CHOSEN}`,
          degraded: true,
          attempts: [`first:a/${CHOSEN}=503`, `second:b/${CHOSEN}=200`],
          ms: 1000,
          firstTokenMs: 320,
          overheadMs: 100,
          inputTokens: 7,
          outputTokens: 20,
          cachedTokens: 3,
          usageSource: 'provider',
          costUsd: 0.001234,
          unpriced: undefined,
        }),
      },
    ])
  })

  it('holds nothing of what was said, and no bearer', () => {
    const { recorder, lines } = createStage()
    recorder.record(makeArrival(), makeTrail())
    recorder.record(makeArrival(), makeTrail({ error: new Error(`defect near ${PROMPT}`) }))
    expect(JSON.stringify(lines[0])).not.toContain(PROMPT)
    expect(JSON.stringify(lines)).not.toMatch(/the-bearer-itself|abababab/)
    // A defect is told by what `describe` makes of it, and by nothing else.
    expect(lines[1]).toMatchObject({ level: 'error', fields: { code: 'internal' } })
    const { error, ...rest } = lines[1]?.fields ?? {}
    expect(error).toContain('described: ')
    expect(JSON.stringify(rest)).not.toContain(PROMPT)
  })

  it('is scrubbed anew when something else is secret', () => {
    const { recorder, lines, scrub } = createStage()
    recorder.record(makeArrival(), makeTrail())
    scrub.secret = 'tester'
    recorder.forget()
    recorder.record(makeArrival(), makeTrail())
    expect(lines.map(({ fields }) => fields.agent)).toEqual(['tester', '[redacted]'])
  })

  it('holds no bearer that its caller wrote elsewhere too, whoever came before', () => {
    const { recorder, lines } = createStage()
    const model = 'as-the-bearer-itself'
    const called = makeAttempt({ tier: 'second', deployment: 'b/*', called: `b/${model}` })
    const other: Caller = { ...caller, bearer: { ...caller.bearer, id: 'desktop', sha256: 'cd'.repeat(32) } }
    const trail = (who: Caller): Trail =>
      makeTrail({ caller: who, request: makeRequest({ model }), attempts: [called] })
    recorder.record({ ...makeArrival(), bearer: 'of-another' }, trail(other))
    recorder.record(makeArrival(), trail(caller))
    expect(lines.map(({ fields }) => [fields.model, fields.deployment, fields.attempts])).toEqual([
      [model, `b/${model}`, [`second:b/${model}=200`]],
      ['as-[redacted]', 'b/as-[redacted]', ['second:b/as-[redacted]=200']],
    ])
  })

  it('of one kind after the other has what is its own', () => {
    const { recorder, lines, time } = createStage()
    time.advance(1000)
    recorder.record(makeArrival(), makeTrail({ error: new GatewayError('overloaded', 'full'), status: 503 }))
    time.advance(0.25)
    const error = new GatewayError('overloaded', 'fuller')
    recorder.record(
      { ...makeArrival(), id: 'req_2', address: '10.9.9.9' },
      makeTrail({ error, status: 503, usage: undefined, costMicros: 5 }),
    )
    expect(lines[0]?.fields).toMatchObject({ id: 'req_1', reason: 'full', ms: 1000, costUsd: 0.001234 })
    expect(lines[1]?.fields).toMatchObject({
      id: 'req_2',
      reason: 'fuller',
      ms: 1000.25,
      costUsd: 0.000005,
      address: '10.9.9.9',
    })
    expect(lines[1]?.fields).not.toHaveProperty('inputTokens')
  })

  it('has no label that a caller chose', () => {
    const { recorder, book } = createStage()
    recorder.record(makeArrival(), makeTrail())
    recorder.record(makeArrival(), makeTrail({ error: new GatewayError('upstream_failed', CHOSEN) }))
    recorder.record(makeArrival(), {
      attempts: [],
      status: 401,
      error: new GatewayError('invalid_api_key', CHOSEN),
    })
    expect(JSON.stringify(book)).not.toContain(CHOSEN)
    expect(book.attempts?.[0]?.labels).toEqual({
      tier: 'first',
      deployment: 'a/*',
      outcome: 'retry',
      reason: '503',
    })
    expect(book.tokens?.map(({ labels, value }) => `${labels.deployment} ${labels.kind} ${value}`)).toEqual([
      'b/* input 7',
      'b/* output 20',
      'b/* cached 3',
      'b/* reasoning 5',
      'b/* input 7',
      'b/* output 20',
      'b/* cached 3',
      'b/* reasoning 5',
    ])
  })

  it('uses exactly the labels that the catalogue names', () => {
    const { recorder, book } = createStage()
    recorder.record(makeArrival(), makeTrail())
    recorder.record(
      makeArrival(),
      makeTrail({
        error: new GatewayError('rate_limit_exceeded', 'x', { limit: 'agent:requests' }),
        status: 429,
      }),
    )
    for (const name of [
      'requests',
      'requestSeconds',
      'firstTokenSeconds',
      'overheadSeconds',
      'attempts',
      'attemptSeconds',
      'failovers',
      'degraded',
      'tokens',
      'cost',
      'refusals',
    ] as const) {
      expect(book[name]?.length).toBeGreaterThan(0)
      for (const { labels } of book[name] ?? []) {
        expect(Object.keys(labels).sort()).toEqual([...METRICS[name].labels].sort())
      }
    }
  })

  it('remembers the request behind a series by its id, and what it can be found by', () => {
    const { recorder, exemplars } = createStage()
    recorder.record(makeArrival(), makeTrail())
    const all = exemplars.all()
    expect(all.map(({ metric, value }) => `${metric} ${value}`)).toEqual([
      'sluice_request_duration_seconds 0',
      'sluice_overhead_seconds 0',
      'sluice_attempts_total 1',
      'sluice_failovers_total 1',
      'sluice_attempts_total 1',
      'sluice_first_token_seconds 0.32',
    ])
    expect(all.every(({ requestId }) => requestId === 'req_1')).toBe(true)
    expect(JSON.stringify(all)).not.toContain(CHOSEN)
    // Again and again is no more.
    recorder.record({ ...makeArrival(), id: 'req_2' }, makeTrail())
    expect(exemplars.all().map(({ requestId }) => requestId)).toEqual(Array(6).fill('req_2'))
  })

  it('names the trace in the log, and as an exemplar where it is recorded', () => {
    const traced = (isSampled: boolean) => ({
      id: 'ab'.repeat(16),
      spanId: 'cd'.repeat(8),
      parentSpanId: undefined,
      isSampled,
      state: undefined,
      nextSpanId: () => undefined,
      headers: () => [],
    })
    for (const isSampled of [false, true]) {
      const { recorder, lines, exemplars } = createStage()
      recorder.record(makeArrival(), makeTrail({ trace: traced(isSampled) }))
      expect(lines[0]?.fields).toMatchObject({ id: 'req_1', trace: 'ab'.repeat(16) })
      expect(exemplars.all()[0]?.traceId).toBe(isSampled ? 'ab'.repeat(16) : undefined)
    }
  })

  it('records a trace only where one is sampled, and neither log nor metrics fall with it', () => {
    const recorded: string[] = []
    const traces = {
      begin: (): never => {
        throw new Error('no ids')
      },
      record: (arrival: Arrival) => {
        recorded.push(arrival.id)
        throw new Error('no spans')
      },
    }
    const { recorder, lines } = createStage({ traces })
    expect(recorder.begin(makeArrival())).toBeUndefined()
    recorder.record(makeArrival(), makeTrail())
    expect(recorded).toEqual([])
    recorder.record(makeArrival(), makeTrail({ trace: { isSampled: true } as never }))
    expect(recorded).toEqual(['req_1'])
    expect(lines.filter(({ message }) => message === 'request')).toHaveLength(2)
    expect(createStage().recorder.begin(makeArrival())).toBeUndefined()
  })

  it('counts the money of each deployment for its agent', () => {
    const { recorder, book } = createStage()
    const costs = [
      { tier: 'first', deployment: 'a/*', costMicros: 1_000_000 },
      { tier: 'second', deployment: 'b/*', costMicros: 500 },
      { tier: 'second', deployment: 'free/m', costMicros: 0 },
    ]
    recorder.record(makeArrival(), makeTrail({ attempts: costs.map(makeAttempt), costMicros: 1_000_500 }))
    expect(book.cost).toEqual([
      { value: 1, labels: { agent: 'tester', deployment: 'a/*' } },
      { value: 0.0005, labels: { agent: 'tester', deployment: 'b/*' } },
    ])
    expect(book.unpriced).toBeUndefined()
  })

  it('says unpriced, and no number, where tokens have no price', () => {
    const { recorder, book, lines } = createStage()
    const attempts = [makeAttempt({ tier: 'second', deployment: 'b/*', costMicros: undefined })]
    recorder.record(makeArrival(), makeTrail({ attempts, costMicros: undefined }))
    expect(book.unpriced).toEqual([{ value: 1, labels: { deployment: 'b/*' } }])
    expect(book.cost).toBeUndefined()
    expect(lines[0]?.fields).toMatchObject({ unpriced: true, costUsd: undefined })
  })

  it('measures the whole, the first token, and the time that was ours', () => {
    const { recorder, book, time } = createStage()
    time.advance(1000)
    recorder.record(makeArrival(), makeTrail())
    expect(book.requestSeconds?.[0]?.value).toBe(1)
    expect(book.firstTokenSeconds?.[0]).toEqual({
      value: 0.32,
      labels: { route: 'chosen-*', tier: 'second', deployment: 'b/*' },
    })
    expect(book.overheadSeconds?.[0]?.value).toBeCloseTo(0.1)
    expect(book.attemptSeconds?.map(({ value }) => value)).toEqual([0.1, 0.8])
  })

  it('measures one first token of an answer that another went on with, and time side by side once', () => {
    const { recorder, book, time } = createStage()
    time.advance(1000)
    const [one, two] = [
      {
        tier: 'first',
        deployment: 'a/*',
        outcome: 'broken',
        startedMs: 1010,
        endedMs: 1500,
        firstTokenMs: 1100,
      },
      { tier: 'second', deployment: 'b/*', startedMs: 1400, endedMs: 1900, firstTokenMs: 1600 },
    ] as const
    recorder.record(makeArrival(), makeTrail({ attempts: [makeAttempt(one), makeAttempt(two)] }))
    expect(book.firstTokenSeconds).toEqual([
      { value: 0.1, labels: { route: 'chosen-*', tier: 'first', deployment: 'a/*' } },
    ])
    expect(book.overheadSeconds?.[0]?.value).toBeCloseTo(0.11)
  })

  it('counts the move from tier to tier, and candidates skipped, which take no time', () => {
    const { recorder, book } = createStage()
    const skipped = makeAttempt({
      tier: 'first',
      deployment: 'a/*',
      outcome: 'skipped',
      reason: 'skipped:limit',
    })
    recorder.record(
      makeArrival(),
      makeTrail({ attempts: [skipped, makeAttempt({ tier: 'second', deployment: 'b/*' })] }),
    )
    expect(book.failovers).toEqual([
      { value: 1, labels: { route: 'chosen-*', from: 'first', to: 'second', reason: 'skipped:limit' } },
    ])
    expect(book.attempts).toHaveLength(2)
    expect(book.attemptSeconds).toHaveLength(1)
  })

  it.each([
    ['invalid_api_key', 401],
    ['scope_denied', 403],
    ['rate_limit_exceeded', 429],
    ['upstream_failed', 503],
    ['client_closed', 499],
  ] as const)('names %s by its wire code', (code, status) => {
    const { recorder, book, lines } = createStage()
    recorder.record(makeArrival(), makeTrail({ error: new GatewayError(code, 'x'), status }))
    expect(book.requests?.[0]?.labels).toMatchObject({ code, status: String(status) })
    expect(lines[0]).toMatchObject({ level: 'info', fields: { code, status } })
    expect(book.refusals).toBe(undefined)
  })

  it('names the limit that refused by its kind and its owner', () => {
    const { recorder, book } = createStage()
    for (const limit of ['agent:requests', 'bearer:tokens', 'gateway:concurrency', 'agent:budget'] as const) {
      const error = new GatewayError('rate_limit_exceeded', 'x', { limit })
      recorder.record(makeArrival(), makeTrail({ error, status: 429 }))
    }
    expect(book.refusals?.map(({ labels }) => labels.limit)).toEqual([
      'agent:requests',
      'bearer:tokens',
      'gateway:concurrency',
      'agent:budget',
    ])
  })

  it('of a stranger has no agent, route or tier', () => {
    const { recorder, book, lines } = createStage()
    recorder.record(makeArrival(), {
      attempts: [],
      status: 401,
      error: new GatewayError('invalid_api_key', 'x'),
    })
    expect(book.requests?.[0]?.labels).toEqual({
      agent: '',
      route: '',
      operation: 'chat',
      status: '401',
      code: 'invalid_api_key',
    })
    expect(lines[0]?.fields).toMatchObject({ agent: undefined, model: undefined, attempts: [] })
  })

  it('never throws: a metric that fails costs its metrics, and the line is written', () => {
    const { instruments } = createBook()
    const broken = {
      ...instruments,
      requests: {
        ...instruments.requests,
        of: () => {
          throw new Error('no room')
        },
      },
    }
    const { recorder, lines } = createStage({ instruments: broken })
    recorder.record(makeArrival(), makeTrail())
    expect(lines.map(({ level, message }) => `${level} ${message}`)).toEqual([
      'error a request could not be recorded',
      'info request',
    ])
  })

  it('never throws: not when the log does not work either', () => {
    const fails = () => {
      throw new Error('disk full')
    }
    const log = { fields: fails, text: fails, id: fails, write: fails, forget: fails }
    const { recorder, book } = createStage({ log })
    expect(() => recorder.record(makeArrival(), makeTrail())).not.toThrow()
    expect(book.requests).toHaveLength(1)
  })
})

describe('the label of an agent', () => {
  it('is its name for the first 2,000, then `other` for the rest', () => {
    const instruments = createInstruments(createNoopMeter(), IDLE_GAUGES)
    for (let i = 0; i < 2000; i += 1) expect(instruments.agentLabel(`agent-${i}`)).toBe(`agent-${i}`)
    expect(instruments.agentLabel('agent-2000')).toBe('other')
    expect(instruments.agentLabel('agent-7')).toBe('agent-7')
  })
})
