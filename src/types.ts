// The nouns that cross rooms. Values only: no behaviour beyond what an interface promises, no imports.
// Units stand last in a name (`idleMs`, `bodyBytes`); "token" alone is never used: bearer, or input/output tokens.

// --- what a request is -----------------------------------------------------------------------------------

/** A right to use a kind of endpoint; the word before the colon of a scope. */
export type Operation = 'chat' | 'embeddings' | 'images' | 'audio' | 'moderations'

/** A model endpoint: one row of the table in http/operations.ts. */
export interface Endpoint {
  readonly method: 'POST'
  /** Without the `/v1` prefix, for example `/chat/completions`. */
  readonly path: string
  readonly operation: Operation
  /** The wire format the client speaks here; a key of `formats/index.ts`. */
  readonly format: string
  /** Whether `stream: true` means anything here. */
  readonly streams: boolean
  /** Nothing is written for it: no output tokens are reserved, and none are capped. */
  readonly countsOnly?: true
}

/** One HTTP request as it came in, before anybody has judged it. */
export interface Arrival {
  /** Sluice's own request id, `x-request-id` of the answer. */
  readonly id: string
  readonly endpoint: Endpoint
  /** The credential presented, or undefined. At most one: conflicting ones were refused. */
  readonly bearer: string | undefined
  /** Monotonic ms at which the head was complete. */
  readonly startedMs: number
  /** `x-sluice-timeout-ms` of the caller, in ms. */
  readonly timeoutMs: number | undefined
  /** Aborts when the caller goes away, or when the request is ended from our side: its reason is then the error. */
  readonly signal: EndSignal
  /** Ends the request from our side: what is under way for it stops at once, and the caller is told this. Idempotent. */
  readonly end: (cause: Error) => void
  /** Address of the caller behind trusted proxies; for the log only, never for a decision. */
  readonly address: string
  /** W3C Trace Context as it came; nobody has looked at it. */
  readonly traceparent: string | undefined
  readonly tracestate: string | undefined
  /** Of a body that is a form. */
  readonly contentType?: string | undefined
  /** Headers that go on to a provider of the endpoint's own format, as a flat list; no other header ever does. */
  readonly forwarded: readonly string[]
  /** The body, still on its way. */
  readonly body: BodySource
}

/** A body that can be read once and is counted against the gateway's budget until it is released. */
export interface BodySource {
  /** @throws GatewayError request_too_large, request_timeout, overloaded, client_closed, unsupported_media_type */
  read(bounds: { readonly maxBytes: number; readonly budgetBytes: number }): Promise<Buffer>
  /** Gives its bytes back to the budget; idempotent. */
  release(): void
  /** Makes a `read` that is under way reject with this; no effect before and after. */
  stop(cause: Error): void
}

/** Where a top-level member's value stands in a body: `[start, end)` in bytes. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** What the gateway needs to know of a model request; the body itself is the client's own bytes. */
export interface ModelRequest {
  readonly endpoint: Endpoint
  /** The model name as sent. */
  readonly model: string
  readonly stream: boolean
  /** Whether the caller asked for the usage chunk of a stream. */
  readonly includeUsage: boolean
  /** Largest output asked for by `max_completion_tokens` or `max_tokens`, in tokens, for each choice. */
  readonly maxOutputTokens: number | undefined
  /** How many choices (`n`). */
  readonly choices: number
  /** The answer is text that means something piece by piece: no JSON, no probabilities, one choice. */
  readonly plainText: boolean
  /** Bytes of the body without the payloads of inline images: an upper bound of the tokens of its text. */
  readonly textBytes: number
  /** Images in the conversation, inline or by their address. */
  readonly images: number
  /** Of a form: its content type, which says where its parts end. Else undefined, and the body is JSON. */
  readonly contentType?: string | undefined
  /** What names where a prompt is cached: `prompt_cache_key` or the caller's session, in the spelling it came in. */
  readonly cacheKey: string | undefined
  /** The body as it came; undefined once it was let go. */
  body: Buffer | undefined
  /** Lets go of the body, when the answer has begun and nobody else can be asked. Idempotent. */
  readonly letGo: () => void
  /** Spans of the top-level members that may be rewritten, by name. */
  readonly spans: ReadonlyMap<string, Span>
  /** Top-level names that only some providers may receive (`allowFields`). */
  readonly restrictedFields: readonly string[]
  /** Headers for a provider of the same format: name, value, name, value. */
  readonly forwarded: readonly string[]
  /** What was reckoned with when it was reserved for; quota's. */
  reckoned?: Reckoned
}

/** How much a request of an agent may take, as far as is known before it is answered. */
export interface Reckoned {
  readonly agent: string
  readonly outputTokens: number
  readonly bytesPerToken: number
}

/** A request that somebody thinks of. */
export interface Question {
  readonly agent: string
  /** Id of the bearer; else the first that the agent has. */
  readonly bearer: string | undefined
  readonly operation: string
  /** As it would be sent. */
  readonly body: Buffer
}

// --- who may what ----------------------------------------------------------------------------------------

/** Token bucket: `capacity` units, one unit back every `intervalUs` microseconds. */
export interface Rate {
  readonly capacity: number
  readonly intervalUs: number
}

/** Money to spend in a UTC calendar period. */
export interface Budget {
  /** Whole millionths of a US dollar. */
  readonly micros: number
  readonly period: 'day' | 'month'
}

/** The limits of one subject; what is absent is unlimited. */
export interface Limits {
  readonly requests?: Rate | undefined
  /** Input + output tokens. */
  readonly tokens?: Rate | undefined
  /** Requests under way at once. */
  readonly concurrency?: number | undefined
  readonly budget?: Budget | undefined
  /** How long a request may wait for its turn instead of being refused, in ms; 0 or absent: not at all. */
  readonly waitMs?: number | undefined
  /** Reserve the upper bound instead of the calibrated estimate, and take nothing ahead of need. */
  readonly strict: boolean
}

export interface Scope {
  readonly operation: Operation
  /** Glob over the model name: `*` is any run of characters, nothing else is special. */
  readonly models: string
}

export interface Agent {
  readonly name: string
  readonly role: string | undefined
  readonly class: 'critical' | 'normal' | 'batch'
  readonly scopes: readonly Scope[]
  readonly deny: readonly Scope[]
  readonly limits: Limits
  /** Longest time for one request, in ms. */
  readonly deadlineMs: number | undefined
  /** Cap on the output tokens of one request; also what a reservation assumes when the caller names none. */
  readonly maxOutputTokens: number | undefined
}

export interface Bearer {
  readonly id: string
  readonly agent: string
  /** Lower-case hex SHA-256 of the whole bearer string. */
  readonly sha256: string
  /** Unix ms from which it is refused. */
  readonly expiresMs: number | undefined
  readonly limits: Limits
}

/** The one who calls: an agent, by one of its bearers. */
export interface Caller {
  readonly agent: Agent
  readonly bearer: Bearer
  /** Limited subjects, rooted at the agent. */
  readonly subjects: readonly Subject[]
}

/** Somebody or something that has limits. */
export interface Subject {
  readonly kind: 'agent' | 'bearer' | 'route' | 'provider' | 'deployment' | 'gateway'
  /** An id, never a bearer. */
  readonly id: string
  /** Subjects with the same tag are decided together (Redis hash tag). */
  readonly tag: string
  readonly limits: Limits
}

/** What the policy says of one request. Frozen. */
export interface Decision {
  readonly allow: boolean
  readonly code: 'allowed' | 'scope_denied'
  /** The scope (or `deny` entry) that decided, as written; for a refusal by silence the missing scope. */
  readonly matched: string
  readonly obligations: Obligations
}

/** What must hold for the rest of the request because the policy said so. */
export interface Obligations {
  readonly deadlineMs: number | undefined
  readonly maxOutputTokens: number | undefined
  /** The caller has a budget: nothing may be called whose price is not known. */
  readonly pricedOnly: boolean
  /** Who gives way first where there is not enough for all. */
  readonly class: Agent['class']
}

// --- where it goes ---------------------------------------------------------------------------------------

export type SecretReference = string

export interface Provider {
  readonly name: string
  /** Wire format: a key of `formats/index.ts`. */
  readonly format: string
  /** Formats that it takes besides, so that bytes of theirs pass untouched. */
  readonly alsoSpeaks: ReadonlySet<string>
  /** What its format reads of the configuration (`apiVersion`, `region`, `project`) and of what is known of its server. */
  readonly options: Readonly<Record<string, string>>
  /** How it is called: over HTTP, or the built-in simulated model. */
  readonly kind: 'http' | 'simulated'
  /** What OpenTelemetry's conventions call its vendor, or the one whose format it speaks. */
  readonly tracedAs: string
  /** Origin and base path, without a trailing slash; '' for `simulated`. */
  readonly baseUrl: string
  /** Origin of the proxy that it is called through. */
  readonly proxy: string | undefined
  /** References of its keys, in the order written; none for an open local server. */
  readonly keys: readonly SecretReference[]
  /** When its keys are expected to be used; a use at another time is carried out and told of. */
  readonly keyHours: Hours | undefined
  /** Age at which a key of it should have been replaced. */
  readonly rotateMs: number | undefined
  /** Extra request headers, lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  /** Restricted request fields that this provider may be sent. */
  readonly allowFields: ReadonlySet<string>
  readonly limits: Limits
  /** How it is asked whether it is well; undefined where it is not. */
  readonly health: HealthCheck | undefined
  readonly simulate: Simulate | undefined
}

/** A part of each UTC day: from the beginning of one hour to that of another, over midnight where that is the earlier. */
export interface Hours {
  /** 0 to 23. */
  readonly from: number
  /** 1 to 24; never the same as `from`. */
  readonly to: number
}

export interface HealthCheck {
  /** Below `baseUrl`, with its leading slash. */
  readonly path: string
  readonly everyMs: number
}

/** Pace and faults of a simulated provider. */
export interface Simulate {
  /** Time to the first token, in ms. */
  readonly latencyMs: number
  /** Time between tokens, in ms. */
  readonly paceMs: number
  readonly fault: SimulatedFault | undefined
}

export interface SimulatedFault {
  /** What goes wrong: an HTTP status, no answer at all, a stream cut after some content, or a refused connection. */
  readonly kind: 'status' | 'silent' | 'cut' | 'refused'
  /** For `status`. */
  readonly status: number
  /** Share of the calls that fail, 0..1, spread evenly. */
  readonly share: number
  /** `retry-after` of a status fault, in ms. */
  readonly retryAfterMs: number | undefined
}

/** One model at one provider: the thing that is called. */
/** Millionths of a US dollar for one token of each kind: the same number as US dollars for a million of them. */
export interface TokenPrice {
  readonly input: number
  /** Input that a cache of the provider held. */
  readonly cached: number
  /** Input that was written to such a cache. */
  readonly cacheWrite: number
  readonly output: number
  readonly reasoning: number
  readonly audioInput: number
  readonly audioOutput: number
}

/** What a deployment takes for a request. */
export interface Price extends TokenPrice {
  /** What it takes instead, for every token of the request, where the input is longer than `overTokens`. */
  readonly long: (TokenPrice & { readonly overTokens: number }) | undefined
}

/** Prices by glob of model names, the most specific first. */
export type PriceList = readonly (readonly [models: string, price: Price])[]

/** The most that a token can cost wherever a request may go, in millionths of a US dollar. */
export interface PriceBound {
  readonly input: number
  readonly output: number
}

export interface Deployment {
  /** `provider/model`, as in headers and metrics. */
  readonly name: string
  readonly kind: 'http' | 'simulated' | 'reply'
  readonly provider: Provider | undefined
  /** Model name to send; undefined sends the caller's (`provider/*`). */
  readonly model: string | undefined
  readonly weight: number
  /** Input + output tokens it can hold; undefined when not known. */
  readonly contextWindow: number | undefined
  /** Undefined is unpriced, which is not the same as free. */
  readonly price: Price | undefined
  /** For `provider/*` without a price of its own: those of the names it may be called by. Else empty. */
  readonly listPrices: PriceList
  readonly limits: Limits
  /** Whether it goes on with an answer that has begun, and by which member of the request it is told so. */
  readonly prefill: boolean | 'prefix' | 'continue_final_message'
  /** The text of a `reply` deployment; one without answers with what its format makes of the request. */
  readonly text: string | undefined
}

export interface Hedge {
  /** How long the first may be silent; undefined for the 95th percentile of its own recent streams. */
  readonly afterMs: number | undefined
  /** Second calls for each request, at most, 0..1. */
  readonly atMost: number
}

export interface Tier {
  readonly name: string
  readonly deployments: readonly Deployment[]
  readonly balance: 'weighted' | 'latency'
  /** Longest wait for the first content of a stream; with `firstTokenLeastMs` the longest that is ever allowed. */
  readonly firstTokenMs: number
  /** Where it follows the deployment's own history, the shortest it may become. */
  readonly firstTokenLeastMs: number | undefined
  readonly firstByteMs: number
  readonly idleMs: number
  readonly attemptMs: number
  readonly connectMs: number
  /** A second call beside one that is slow; undefined where none is to be made. */
  readonly hedge: Hedge | undefined
  /** Second calls to the same deployment for a passing error. */
  readonly retries: number
  readonly patienceMs: number
  readonly needsReview: boolean
}

export interface Route {
  /** Public model name, or a glob. */
  readonly name: string
  readonly tiers: readonly Tier[]
  readonly limits: Limits
  readonly deadlineMs: number | undefined
  /** What becomes of a stream that breaks behind its first byte: it ends as broken, or somebody else goes on with it. */
  readonly midStream: 'error' | 'resume'
}

export interface Failover {
  readonly attempts: number
  readonly deadlineMs: number
  /** Clean probes for so long before a deployment that failed gets its traffic back. */
  readonly graceMs: number
  /** Second calls to a provider as a share of its recent traffic. */
  readonly retryBudget: number
}

/** Whose health a call depends on: a deployment by its name, and of `provider/*` also the model that is asked for. */
export type Callee = string | { readonly deployment: string; readonly model: string }

/** One place in a plan. */
export interface Candidate {
  readonly tier: Tier
  readonly deployment: Deployment
  readonly callee: Callee
  /** Why it must not be called, whatever its health; it keeps its place, so that the attempts tell of it. */
  readonly barred: Reason | undefined
  /** Why it is asked only when nobody else has answered. */
  readonly doubt: Reason | undefined
}

/** Where a request may go, best first. No deployment stands twice in a tier. */
export interface Plan {
  readonly route: Route
  readonly tiers: readonly { readonly tier: Tier; readonly candidates: readonly Candidate[] }[]
  /** Calls to providers, at most. */
  readonly attempts: number
  /** Of the caller: who gives way first where there is not enough for all. */
  readonly class: Agent['class']
  /** Monotonic ms at which everything must be over. */
  readonly deadlineAt: number
  /** A stream that breaks may be gone on with by somebody else. */
  readonly resumes: boolean
  /** Output cap to write into the request, or undefined to leave the caller's. */
  readonly maxOutputTokens: number | undefined
  /** What looks at, or changes, a streamed answer that passes as it came, in order; made anew for each attempt. */
  readonly stages: readonly (() => Stage)[]
}

// --- a stream on its way -----------------------------------------------------------------------------------

/** One server-sent event, or comment block, with the blank line that ends it. */
export interface Frame {
  /** The bytes as they came, terminator included. */
  readonly bytes: Buffer
  /** Value of the `data` lines joined with `\n`; undefined when there is none (comments, a lone `event:`). */
  readonly data: string | undefined
  /** Value of the last `event` line. */
  readonly event: string | undefined
}

/** What one event of a stream tells a relay. */
export interface EventFacts {
  /** Text, reasoning, refusal or tool-call content: the first of these commits the answer. */
  readonly content: boolean
  /** The stream's own end marker (`[DONE]`). */
  readonly done: boolean
  /** A frame that only carries usage, which a caller who did not ask must not see. */
  readonly usageOnly: boolean
  /** An error told inside the stream. */
  readonly error: string | undefined
  /** The event could not be read at all. */
  readonly malformed: boolean
}

/** One thing that looks at the frames of one stream on their way to the caller, or changes them. */
export type Stage =
  | { readonly kind: 'observe'; see(frame: Frame, facts: EventFacts): void }
  /** Gives the bytes that go on, on a frame boundary; undefined drops the frame. */
  | { readonly kind: 'transform'; change(frame: Frame, facts: EventFacts): Buffer | undefined }

// --- what happened ---------------------------------------------------------------------------------------

/** Why an attempt ended without an answer: the status digits, or one of these (design §7). */
export const REASONS = [
  'refused',
  'dns',
  'tls',
  'reset',
  'connect',
  'first_token',
  'first_byte',
  'idle',
  'attempt',
  'empty',
  'malformed',
  'incomplete',
  'in_band',
  'context',
  'skipped:limit',
  'skipped:unavailable',
  'skipped:unpriced',
  'skipped:format',
] as const

export type Reason = (typeof REASONS)[number] | `${number}`

/**
 * `answered`; `retry`: another may be tried; `refuse`: the caller's fault; `broken`: cut after its first byte; `left`:
 * the caller went, or was sent away.
 */
export type AttemptOutcome = 'answered' | 'retry' | 'refuse' | 'broken' | 'left' | 'skipped'

/**
 * Where a request stands in a trace: ids of W3C Trace Context. There is none while nobody collects traces. Made by
 * `usage`; `upstream` passes it on.
 */
export interface Trace {
  /** 32 hex digits: the caller's where it sent a valid one. */
  readonly id: string
  /** Of the span of the request, 16 hex digits; where nothing is recorded, of whatever span its calls stand under. */
  readonly spanId: string
  readonly parentSpanId: string | undefined
  /** Spans of it are recorded and sent. */
  readonly isSampled: boolean
  /** `tracestate` as it came, undefined when there was none that is valid. */
  readonly state: string | undefined
  /** Draws the id of the span of one call; undefined where none is recorded. */
  nextSpanId(): string | undefined
  /** Header lines for whoever is called in that span: name, value, name, value. */
  headers(spanId: string | undefined): readonly string[]
}

/** One call to one deployment, or the reason there was none. */
export interface Attempt {
  readonly tier: string
  /** As configured: a metric label. */
  readonly deployment: string
  /** `provider/model` as it was really called; differs for `provider/*`. Not a label: a caller chose it. */
  readonly called: string
  outcome: AttemptOutcome
  /** `200` for an answer. */
  reason: Reason
  /** Monotonic ms. */
  readonly startedMs: number
  endedMs: number
  /** Monotonic ms of the first content, if any came. */
  firstTokenMs: number | undefined
  /** Cost of what it used, in millionths of a US dollar; 0 for nothing, undefined for tokens without a price. */
  costMicros: number | undefined
  /** Of its span, where one is recorded. */
  readonly spanId?: string | undefined
  /** The key, where it was used outside the hours of its provider. */
  readonly outsideHours?: SecretReference | undefined
}

/** Tokens of one request, as the provider counted them, or as counted from the deltas. */
export interface Usage {
  readonly inputTokens: number
  /** Part of inputTokens: read from a cache of the provider. */
  readonly cachedTokens: number
  /** Part of inputTokens: written to such a cache, which some take more for. */
  readonly cacheWriteTokens: number
  /** Part of inputTokens. */
  readonly audioInputTokens: number
  readonly outputTokens: number
  /** Part of outputTokens. */
  readonly reasoningTokens: number
  /** Part of outputTokens. */
  readonly audioOutputTokens: number
  /** `provider`: its own figures; `counted`: estimated from what was seen. */
  readonly source: 'provider' | 'counted'
}

/** What came of a whole call. `error` is set when the caller got no complete answer. */
export interface Outcome {
  /** Who answered, also when the answer broke off. */
  readonly answeredBy: Candidate | undefined
  readonly usage: Usage | undefined
  /** Cost of all attempts, in millionths of a US dollar; undefined when tokens were used that have no price. */
  readonly costMicros: number | undefined
  readonly error: Error | undefined
}

/** What is kept of a request for its record. The one mutable thing; read only by `usage`, nobody decides from it. */
export interface Trail {
  readonly trace?: Trace | undefined
  caller?: Caller
  request?: ModelRequest
  decision?: Decision
  route?: Route
  attempts: Attempt[]
  usage?: Usage | undefined
  costMicros?: number | undefined
  /** The tier and deployment that answered. */
  answeredBy?: Candidate | undefined
  status?: number
  error?: unknown
}

// --- hands that rooms are given --------------------------------------------------------------------------

/** That something is over before it has come to its end: what is used of an AbortSignal, which is one. */
export interface EndSignal {
  readonly aborted: boolean
  /** What it was ended with; undefined, or an Error that nobody shows, where the caller went away. */
  readonly reason: unknown
  addEventListener(type: 'abort', listener: () => void): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** Time, passed in so that tests can move it. */
export interface Clock {
  /** Monotonic milliseconds, with fractions. */
  now(): number
  /** Unix milliseconds. */
  wall(): number
}

/** A reservation: slots and units that must come back or be settled. Opaque to everybody but quota. */
export interface Hold {
  readonly id: string
}

/** What a limiter says when it takes nothing. */
export interface Refusal {
  /** `unavailable`: nobody can count, and it was told to deny what it cannot count. */
  readonly kind: 'requests' | 'tokens' | 'concurrency' | 'budget' | 'unavailable'
  readonly subject: Subject
  /** Exact wait until the same request would be admitted, in ms. */
  readonly waitMs: number
}

/** A limit as a metric names it, `agent:requests`: whose kind and which kind, never an id. */
export type LimitName = `${Subject['kind']}:${Exclude<Refusal['kind'], 'unavailable'>}`

/** How long a request may wait for its turn. */
export interface Patience {
  /** Aborts when the caller goes away: nobody waits for somebody who left. */
  readonly signal?: EndSignal | undefined
  /** Monotonic ms at which the request is over. */
  readonly deadlineAt?: number | undefined
}

/** The way to a deployment's own limits, attempt by attempt. */
export interface Gate {
  /** Whether the deployment or its provider has limits: `enter` is for those. */
  limits(deployment: Deployment): boolean
  /**
   * Takes from the deployment's and its provider's buckets, all or nothing; undefined when they have none. Where a full
   * one says `wait`, it is waited for in the agent's line as far as `patience` goes; without it not at all. What is in
   * hand is given at once.
   */
  enter(
    deployment: Deployment,
    request: ModelRequest,
    patience?: Patience,
  ): Hold | Refusal | undefined | Promise<Hold | Refusal | undefined>
  /**
   * Gives the slot back and settles the units and the money; never throws. Undefined `costMicros` beside a usage says
   * that it has no price.
   */
  leave(hold: Hold, usage: Usage | undefined, costMicros?: number): void
}

/** The way back to the caller. A room writes here; http/reply.ts knows the wire. */
export interface Reply {
  /** True once the status line has left: nothing can be tried any more. */
  readonly committed: boolean
  /** The status sent, or 0 while none has been. */
  readonly status: number
  /** Adds a header to whatever answer comes. No effect after the commit. */
  header(name: string, value: string): void
  /** A whole answer. */
  send(status: number, contentType: string, body: Buffer): void
  /** Begins a streamed answer. */
  begin(status: number, contentType: string): void
  /** Sends whole frames; false asks for a pause until `onDrain`. */
  write(frames: Buffer): boolean
  /** Called when the caller can take more. */
  onDrain: (() => void) | undefined
  /** Ends a streamed answer in good order. */
  end(): void
  /** An error body before the first byte, an error event after it. Never throws. */
  fail(error: unknown): void
}
