// A stage for the upstream room: deployments that answer from a script in memory, a reply that writes down what it is
// told, and time that a test moves. No sockets, no real timers.

import type { Format } from '../../../src/formats/format.ts'
import { formats } from '../../../src/formats/index.ts'
import { openai } from '../../../src/formats/openai.ts'
import { createRedact, withholdUsage } from '../../../src/formats/stage.ts'
import { readRequest } from '../../../src/http/request.ts'
import type {
  Attempt,
  Candidate,
  Deployment,
  Gate,
  Hold,
  Limits,
  ModelRequest,
  Operation,
  Outcome,
  Patience,
  Plan,
  Provider,
  Refusal,
  Reply,
  Route,
  Tier,
  Usage,
} from '../../../src/types.ts'
import type { Result } from '../../../src/upstream/attempt.ts'
import { createUpstream } from '../../../src/upstream/call.ts'
import { createExchange, createFixedHeaders } from '../../../src/upstream/exchange.ts'
import { createHealth, type Health } from '../../../src/upstream/health.ts'
import { createHedges, type Hedges } from '../../../src/upstream/hedges.ts'
import { type Hints, NO_HINTS } from '../../../src/upstream/hints.ts'
import { createKeys, type Keys } from '../../../src/upstream/keys.ts'
import type { Exchange, Kind, Receiver } from '../../../src/upstream/kind.ts'
import { createPace, type Pace } from '../../../src/upstream/pace.ts'
import { createRetryBudget, type RetryBudget } from '../../../src/upstream/retry-budget.ts'
import { beginAttempt, type Resume } from '../../../src/upstream/run.ts'
import { createWires, nativeWire } from '../../../src/upstream/wire.ts'
import { createManualClock, type ManualClock } from '../../support/manual-clock.ts'

// --- values ------------------------------------------------------------------------------------------------

export const NO_LIMITS: Limits = { strict: false }

export function makeProvider(name: string, over: Partial<Provider> = {}): Provider {
  return {
    name,
    format: 'openai',
    alsoSpeaks: new Set(),
    options: {},
    kind: 'http',
    tracedAs: 'openai',
    baseUrl: `http://${name}.invalid/v1`,
    proxy: undefined,
    keys: [],
    keyHours: undefined,
    rotateMs: undefined,
    headers: {},
    allowFields: new Set(),
    limits: NO_LIMITS,
    health: undefined,
    simulate: undefined,
    ...over,
  }
}

/** `provider/model`, or `provider/*`. */
export function makeDeployment(
  use: string,
  over: Partial<Deployment> = {},
  provider: Partial<Provider> = {},
): Deployment {
  const slash = use.indexOf('/')
  const model = use.slice(slash + 1)
  return {
    name: use,
    kind: 'http',
    provider: makeProvider(use.slice(0, slash), provider),
    model: model === '*' ? undefined : model,
    weight: 1,
    contextWindow: undefined,
    price: undefined,
    listPrices: [],
    prefill: false,
    limits: NO_LIMITS,
    text: undefined,
    ...over,
  }
}

export function makeReplyDeployment(tier: string, text: string): Deployment {
  return { ...makeDeployment(`reply/${tier}`), kind: 'reply', provider: undefined, model: undefined, text }
}

export const FIRST_TOKEN_MS = 15_000
export const FIRST_BYTE_MS = 20_000
export const IDLE_MS = 30_000
export const ATTEMPT_MS = 300_000
export const CONNECT_MS = 5_000

export function makeTier(name: string, deployments: readonly Deployment[], over: Partial<Tier> = {}): Tier {
  return {
    name,
    deployments,
    balance: 'weighted',
    firstTokenMs: FIRST_TOKEN_MS,
    firstByteMs: FIRST_BYTE_MS,
    firstTokenLeastMs: undefined,
    idleMs: IDLE_MS,
    attemptMs: ATTEMPT_MS,
    connectMs: CONNECT_MS,
    hedge: undefined,
    retries: 0,
    patienceMs: 0,
    needsReview: false,
    ...over,
  }
}

export function makeRoute(tiers: readonly Tier[], over: Partial<Route> = {}): Route {
  return { name: 'm', tiers, limits: NO_LIMITS, deadlineMs: undefined, midStream: 'error', ...over }
}

/** One that nothing speaks against. */
export function makeCandidate(deployment: Deployment, tier = makeTier('t', [deployment])): Candidate {
  return { tier, deployment, callee: deployment.name, barred: undefined, doubt: undefined }
}

/** A call as a kind gets it, with a body of JSON where nothing else is said. */
export function makeExchange(
  deployment: Deployment,
  {
    path = '/x',
    headers = [],
    body = Buffer.from('{}'),
    bodyBytes = Buffer.isBuffer(body) ? body.length : 0,
  }: Partial<Pick<Exchange, 'path' | 'body' | 'bodyBytes'>> & { readonly headers?: readonly string[] } = {},
): Exchange {
  return {
    candidate: makeCandidate(deployment),
    request: makeRequest({ model: 'm', messages: [] }),
    model: 'm',
    path,
    headers: ['content-length', String(bodyBytes), ...headers],
    body,
    bodyBytes,
  }
}

export function makePlan(tiers: readonly Tier[], over: Partial<Plan> = {}): Plan {
  return {
    route: makeRoute(tiers),
    tiers: tiers.map((tier) => ({
      tier,
      candidates: tier.deployments.map(
        (deployment): Candidate => ({
          tier,
          deployment,
          callee: deployment.name,
          barred: undefined,
          doubt: undefined,
        }),
      ),
    })),
    attempts: Math.max(3, tiers.length),
    class: 'normal',
    deadlineAt: START_MS + 600_000,
    maxOutputTokens: undefined,
    resumes: false,
    stages: [withholdUsage],
    ...over,
  }
}

/** What route/plan.ts chooses. */
function stagesFor(request: ModelRequest): Plan['stages'] {
  return request.stream && !request.includeUsage ? [withholdUsage] : []
}

/** A request read from real bytes. */
export function makeRequest(
  body: Readonly<Record<string, unknown>> | string = {},
  operation: Operation = 'chat',
): ModelRequest {
  const text =
    typeof body === 'string'
      ? body
      : JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'Hello.' }], ...body })
  const path = operation === 'chat' ? '/chat/completions' : '/embeddings'
  return readRequest(
    { method: 'POST', path, operation, format: 'openai', streams: operation === 'chat' },
    Buffer.from(text),
    new Set(['provider', 'models']),
  )
}

// --- a reply that is written down --------------------------------------------------------------------------

export interface RecordedReply extends Reply {
  readonly headers: Record<string, string>
  readonly contentType: string
  /** Bytes of the body so far. */
  readonly body: Buffer
  readonly text: string
  /** How the writes were cut. */
  readonly writes: readonly string[]
  readonly ended: boolean
  readonly streamed: boolean
  readonly error: unknown
  /** While true, `write` asks for a pause. */
  full: boolean
}

export function createReply(): RecordedReply {
  const headers: Record<string, string> = {}
  const writes: Buffer[] = []
  let status = 0
  let contentType = ''
  let ended = false
  let streamed = false
  let error: unknown
  const begun = (code: number, type: string): void => {
    if (status !== 0) throw new Error('a second head')
    status = code
    contentType = type
  }
  return {
    full: false,
    onDrain: undefined,
    headers,
    get committed() {
      return status !== 0
    },
    get status() {
      return status
    },
    get contentType() {
      return contentType
    },
    get body() {
      return Buffer.concat(writes)
    },
    get text() {
      return Buffer.concat(writes).toString()
    },
    get writes() {
      return writes.map(String)
    },
    get ended() {
      return ended
    },
    get streamed() {
      return streamed
    },
    get error() {
      return error
    },
    header(name, value) {
      if (status === 0) headers[name] = value
    },
    send(code, type, body) {
      begun(code, type)
      writes.push(body)
      ended = true
    },
    begin(code, type) {
      begun(code, type)
      streamed = true
    },
    write(frames) {
      if (!streamed || ended) throw new Error('a write outside of a stream')
      writes.push(Buffer.from(frames))
      return !this.full
    },
    end() {
      if (!streamed || ended) throw new Error('an end outside of a stream')
      ended = true
    },
    fail(thrown) {
      error = thrown
    },
  }
}

// --- a deployment that is played by hand -------------------------------------------------------------------

export type Headers = Readonly<Record<string, string>>

/** One call, and the hand on it. */
export interface ScriptedCall {
  readonly exchange: Exchange
  readonly deployment: string
  /** The bytes that would have been sent. */
  readonly aborted: boolean
  readonly paused: boolean
  /** How often it was paused. */
  readonly pauses: number
  header(name: string): string | undefined
  started(): void
  head(status: number, headers?: Headers): void
  data(...chunks: readonly (string | Buffer)[]): void
  end(): void
  failed(error?: Error): void
}

export const STREAM: Headers = { 'content-type': 'text/event-stream; charset=utf-8' }
export const JSON_TYPE: Headers = { 'content-type': 'application/json' }

export function createScriptedKind() {
  const calls: ScriptedCall[] = []
  const kind: Kind = (exchange, receiver) => {
    const state = { aborted: false, paused: false, pauses: 0 }
    calls.push(createCall(exchange, receiver, state))
    return {
      abort() {
        state.aborted = true
      },
      pause() {
        state.paused = true
        state.pauses += 1
      },
      resume() {
        state.paused = false
      },
    }
  }
  return { kind, calls }
}

function createCall(
  exchange: Exchange,
  receiver: Receiver,
  state: { aborted: boolean; paused: boolean; pauses: number },
): ScriptedCall {
  // As the contract of a kind has it: after `abort` nothing more is told.
  const tell = (run: () => void): void => {
    if (!state.aborted) run()
  }
  return {
    exchange,
    deployment: exchange.candidate.deployment.name,
    get aborted() {
      return state.aborted
    },
    get paused() {
      return state.paused
    },
    get pauses() {
      return state.pauses
    },
    header(name) {
      const at = exchange.headers.findIndex((one, index) => index % 2 === 0 && one === name)
      return at < 0 ? undefined : exchange.headers[at + 1]
    },
    started: () => tell(() => receiver.started()),
    head: (status, headers = JSON_TYPE) => tell(() => receiver.head(status, (name) => headers[name])),
    data(...chunks) {
      for (const chunk of chunks) tell(() => receiver.data(Buffer.from(chunk)))
    },
    end: () => tell(() => receiver.end()),
    failed: (error = withCode('ECONNRESET')) => tell(() => receiver.failed(error)),
  }
}

export function withCode(code: string, name = 'Error'): Error {
  return Object.assign(new Error(`scripted ${code}`), { code, name })
}

// --- one attempt -------------------------------------------------------------------------------------------

/** Monotonic time at which every stage begins; not 0, which no process sees. */
export const START_MS = 1000
export const SECRET = 'sk-provider-secret-0123456789'

export interface RunOptions {
  readonly body?: Readonly<Record<string, unknown>> | string
  readonly operation?: Operation
  readonly last?: boolean
  readonly tier?: Partial<Tier>
  readonly plan?: Partial<Plan>
  readonly secret?: string
  readonly format?: Format
  /** Format of the provider, where it is another than the caller's chat. */
  readonly speaks?: string
  readonly resume?: Resume
}

export interface RunStage {
  readonly time: ManualClock
  readonly reply: RecordedReply
  readonly call: ScriptedCall
  readonly request: ModelRequest
  readonly result: Promise<Result>
  /** The result when the attempt is over, else undefined. */
  over(): Promise<Result | undefined>
  leave(): void
  /** Times at which the answer was said to begin. */
  readonly commits: number[]
}

/** Begins an attempt; what the deployment does is up to the test. A stream unless the body says otherwise. */
export function createRun(options: RunOptions = {}): RunStage {
  const time = createManualClock({ nowMs: START_MS })
  const reply = createReply()
  const { kind, calls } = createScriptedKind()
  const deployment = makeDeployment(
    'p/m1',
    {},
    options.speaks === undefined ? {} : { format: options.speaks },
  )
  const tier = makeTier('t', [deployment], options.tier)
  const request = makeRequest(options.body ?? { stream: true }, options.operation)
  const plan = makePlan([tier], { stages: stagesFor(request), ...options.plan })
  const left = new AbortController()
  const commits: number[] = []
  const format = (options.format ?? openai).provider
  if (format === undefined) throw new Error('no such provider')
  const wire =
    options.speaks === undefined
      ? nativeWire(format, format)
      : createWires({ formats, request, nowSeconds: () => 5, nextId: (prefix) => `${prefix}1` }).of(
          deployment,
          plan.maxOutputTokens,
        )
  const result = new Promise<Result>((onOver, onBroke) =>
    beginAttempt(
      {
        kind,
        wire,
        plan,
        firstTokenMs: tier.firstTokenMs,
        isLast: () => options.last ?? false,
        resume: options.resume,
        reply,
        signal: left.signal,
        clock: time.clock,
        timers: time.timers,
        onHead: () => {},
        redact: createRedact(options.secret === undefined ? [] : [options.secret]),
        onCommit: (firstTokenMs) => commits.push(firstTokenMs),
        onOver,
        onBroke,
      },
      createExchange({
        candidate: makeCandidate(deployment, tier),
        request,
        wire,
        key: undefined,
        maxOutputTokens: undefined,
        userAgent: 'sluice/test',
        fixed: createFixedHeaders(),
        nowMs: 0,
      }),
    ),
  )
  const [call] = calls
  if (call === undefined) throw new Error('no call was made')
  let settled: Result | undefined
  void result.then((value) => {
    settled = value
  })
  return {
    time,
    reply,
    call,
    request,
    result,
    async over() {
      await settle()
      return settled
    },
    leave: () => left.abort(),
    commits,
  }
}

/** Every chain of promises that waits for nothing outside has run by then. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

// --- the whole room ----------------------------------------------------------------------------------------

export interface CallStage {
  readonly time: ManualClock
  readonly reply: RecordedReply
  readonly calls: readonly ScriptedCall[]
  readonly attempts: Attempt[]
  readonly request: ModelRequest
  readonly health: Health
  readonly keys: Keys
  readonly outcome: Promise<Outcome>
  /** The outcome when it is there. */
  over(): Promise<Outcome | undefined>
  /** Waits for the call of that number and gives it. */
  nth(index: number): Promise<ScriptedCall>
  /** The caller goes, or is sent away for a cause. */
  leave(cause?: Error): void
  /** What the gate was told, in order. */
  readonly gate: readonly GateEvent[]
  /** What each attempt came to, as the gate was told. */
  readonly costs: readonly (number | undefined)[]
}

export type GateEvent =
  | { readonly enter: string }
  | { readonly leave: string; readonly usage: Usage | undefined }

export interface CallOptions {
  readonly plan: Plan
  readonly body?: Readonly<Record<string, unknown>> | string
  /** Values of keys by reference. */
  readonly secrets?: Readonly<Record<string, string>>
  /** What the gate answers; admits by default. */
  readonly admit?: (deployment: Deployment, patience?: Patience) => Promise<Hold | Refusal | undefined>
  readonly world?: World
  /** What the other replicas say; nobody by default. */
  readonly hints?: Pick<Hints, 'mayProbe'>
}

/** What outlives a request. */
export interface World {
  readonly time: ManualClock
  readonly health: Health
  readonly keys: Keys
  readonly pace: Pace
  readonly retries: RetryBudget
  readonly hedges: Hedges
  readonly secrets: Record<string, string>
}

export function createWorld(secrets: Readonly<Record<string, string>> = {}): World {
  const time = createManualClock({ nowMs: START_MS })
  const values = { ...secrets }
  return {
    time,
    secrets: values,
    health: createHealth({
      clock: time.clock,
      random: () => 0.5,
      graceMs: () => 0,
      onChange: () => {},
      hints: NO_HINTS,
    }),
    pace: createPace({ clock: time.clock }),
    hedges: createHedges(),
    retries: createRetryBudget({ clock: time.clock, share: () => 0.1, replicas: () => 1 }),
    keys: createKeys({ clock: time.clock, reveal: (reference) => values[reference] }),
  }
}

/** Begins a call along a plan. */
export function createCallStage(options: CallOptions): CallStage {
  const { time, health, keys, pace, retries, hedges } = options.world ?? createWorld(options.secrets)
  const { kind, calls } = createScriptedKind()
  const reply = createReply()
  const attempts: Attempt[] = []
  const gateEvents: GateEvent[] = []
  const costs: (number | undefined)[] = []
  const request = makeRequest(options.body ?? { stream: true })
  const left = new AbortController()
  const gate: Gate = {
    limits: () => true,
    async enter(deployment, _, patience) {
      gateEvents.push({ enter: deployment.name })
      return options.admit === undefined ? { id: deployment.name } : options.admit(deployment, patience)
    },
    leave({ id }, usage, costMicros) {
      gateEvents.push({ leave: id, usage })
      costs.push(costMicros)
    },
  }
  const upstream = createUpstream({
    kinds: { http: kind, simulated: kind, reply: kind },
    formats,
    health,
    keys,
    retries,
    hedges,
    pace,
    hints: options.hints ?? NO_HINTS,
    clock: time.clock,
    timers: time.timers,
    random: () => 0.5,
    scrub: (text) => text,
    userAgent: 'sluice/test',
  })
  const outcome = upstream.call({ ...options.plan, stages: stagesFor(request) }, request, reply, {
    gate,
    attempts,
    signal: left.signal,
  })
  let settled: Outcome | undefined
  void outcome.then((value) => {
    settled = value
  })
  return {
    time,
    reply,
    calls,
    attempts,
    request,
    health,
    keys,
    outcome,
    gate: gateEvents,
    costs,
    async over() {
      await settle()
      return settled
    },
    async nth(index) {
      await settle()
      const call = calls[index]
      if (call === undefined) throw new Error(`call ${index} was not made; ${calls.length} were`)
      return call
    },
    leave: (cause) => left.abort(cause),
  }
}

// --- frames ------------------------------------------------------------------------------------------------

export function frame(value: unknown, newline = '\n'): string {
  return `data: ${typeof value === 'string' ? value : JSON.stringify(value)}${newline}${newline}`
}

/** A chunk with one choice. */
export function chunk(
  delta: unknown,
  finish: string | null = null,
  { index = 0, ...more }: { index?: number; [name: string]: unknown } = {},
): string {
  return frame({
    id: 'chatcmpl-1',
    object: 'chat.completion.chunk',
    created: 1_760_000_000,
    model: 'm1',
    choices: [{ index, delta, finish_reason: finish }],
    ...more,
  })
}

export const ROLE = chunk({ role: 'assistant', content: '' })
export const HELLO = chunk({ content: 'Hello' })
export const WORLD = chunk({ content: ' world' })
export const STOP = chunk({}, 'stop')
export const USAGE = frame({
  id: 'chatcmpl-1',
  object: 'chat.completion.chunk',
  choices: [],
  usage: { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9 },
})
export const DONE = 'data: [DONE]\n\n'
export const COMMENT = ': OPENROUTER PROCESSING\n\n'
export const COMPLETE = [ROLE, HELLO, WORLD, STOP, USAGE, DONE].join('')

/** A whole chat reply. */
export function wholeReply(over: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({
    id: 'chatcmpl-1',
    object: 'chat.completion',
    model: 'm1',
    choices: [{ index: 0, message: { role: 'assistant', content: 'Hello world' }, finish_reason: 'stop' }],
    usage: { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9 },
    ...over,
  })
}

/** Answers a call well, as its request asks. */
export function answerWell(call: ScriptedCall): void {
  call.started()
  if (call.exchange.request.stream) {
    call.head(200, STREAM)
    call.data(COMPLETE)
  } else {
    call.head(200)
    call.data(wholeReply())
  }
  call.end()
}

/** Answers a call with a status and a body. */
export function answerStatus(
  call: ScriptedCall,
  status: number,
  body: unknown = '',
  headers: Headers = {},
): void {
  call.started()
  call.head(status, { ...JSON_TYPE, ...headers })
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  if (text !== '') call.data(text)
  call.end()
}
