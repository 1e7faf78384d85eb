// One attempt: starts a call, keeps its time limits, and hands on what comes back. Nothing reaches the caller before
// the first content, so that until then somebody else can answer; after it the attempt can only go on or break.

import { IMAGE_TOKENS } from '../config/limits.ts'
import type { Fault, HeaderLookup, StreamWatch } from '../formats/format.ts'
import { createListener, createSplice, type Listener } from '../formats/resume.ts'
import { type Redact, redactKeys } from '../formats/stage.ts'
import type { Clock, EndSignal, ModelRequest, Plan, Reason, Reply, Tier, Usage } from '../types.ts'
import { type Result, toReason } from './attempt.ts'
import type { Control, Exchange, Kind, Receiver } from './kind.ts'
import { createRelay, type Relay, type Relayed } from './relay.ts'
import type { Timers } from './timers.ts'
import { type Translator, Untranslatable, type Wire } from './wire.ts'

export interface Run {
  readonly kind: Kind
  readonly wire: Wire
  readonly plan: Plan
  /** Longest wait for the first content of a stream. */
  readonly firstTokenMs: number
  /** The answer of another that this one goes on with; undefined for one that begins. */
  readonly resume: Resume | undefined
  readonly reply: Reply
  readonly signal: EndSignal
  readonly clock: Clock
  readonly timers: Timers
  /** Takes out the provider's keys, which must not come back in an answer; undefined where it has none. */
  readonly redact: Redact | undefined
  /** Nobody is left behind this one: it is not cut for slowness. Asked when it would be. */
  isLast(): boolean
  /** What the provider said before its answer, whatever that is. */
  onHead(header: HeaderLookup): void
  /** Called once, just before the answer begins: the last moment for headers. */
  onCommit(firstTokenMs: number): void
  /** Called once, at its end: before anything is let go, and in the turn in which it ends. */
  onOver(result: Result): void
  /** In the place of that, for a defect of ours. */
  onBroke(error: unknown): void
}

export interface Resume {
  /** What the caller has read. */
  readonly said: string
  /** It was asked to go on behind that; else it begins anew. */
  readonly isPrefilled: boolean
  /** A line for the caller's record that somebody else speaks from here, a comment of the stream. */
  readonly mark: string
}

/** Largest whole reply that is held. */
const MAX_REPLY_BYTES = 64 * 1024 * 1024
/** Most of an error body that is read, and how long for. */
const MAX_FAULT_BYTES = 64 * 1024
const FAULT_BODY_MS = 2000
/** A stream that gave its finish reason gets this long for its usage and end marker. */
const TAIL_MS = 1000

/** Ended by our clock. */
const CUT_BY_US: ReadonlySet<Reason> = new Set(['first_token', 'first_byte', 'idle', 'attempt'])
/** Ended by the connection. */
const CUT: ReadonlySet<Reason> = new Set(['reset', 'incomplete'])

const EVENT_STREAM = 'text/event-stream'

/** Begins one attempt; how it ends is told to `run`. */
export function beginAttempt(run: Run, exchange: Exchange): void {
  new Running(run, exchange).start(exchange)
}

/** What a stream goes through; nothing of it is made for a whole reply. */
interface Stream {
  readonly watch: StreamWatch
  readonly relay: Relay
  readonly listener: Listener | undefined
}

/**
 * An attempt under way. A class, and its own receiver: there is one for each call, and of thirty closures few were ever
 * called. Whatever calls in from outside goes through `#guard`: a defect ends this attempt, never the process.
 */
class Running implements Receiver {
  readonly #run: Run
  /** Of its exchange, which is not kept: its body is the connection's, until it has left. */
  readonly #tier: Tier
  readonly #request: ModelRequest
  readonly #startedMs: number
  readonly #translator: Translator | undefined
  /** Whether anybody is left behind it is asked when it would be cut for its slowness, and not before. */
  #isLast = false
  #phase: 'connect' | 'head' | 'body' | 'relay' | 'over' = 'connect'
  #status = 0
  #header: HeaderLookup = nothing
  #stream: Stream | undefined = undefined
  /** The body of an error is compressed though nobody asked for it: its status has to do. */
  #isEncoded = false
  #chunks: Buffer[] = []
  #bytes = 0
  #headMs = 0
  #lastDataMs = 0
  /** When a stream began to speak: the answer, or what the caller has of it already. */
  #heardMs = 0
  #finishedMs = 0
  /** What had been said when it looked finished last. */
  #heardAtFinish = 0
  #paused = false
  #upstreamEnded = false
  #control: Control | undefined = undefined
  #timer: unknown = undefined
  /** When the timer looks; never where there is none. */
  #looksAt = Number.POSITIVE_INFINITY
  #tail: unknown = undefined
  /** Of the nearest limit, as `#due` found it. */
  #reason: Reason = 'attempt'
  #blameless = false
  readonly #onLeft = (): void => this.#guard(this.#leave)
  #onDrain: (() => void) | undefined = undefined

  constructor(run: Run, exchange: Exchange) {
    this.#run = run
    this.#tier = exchange.candidate.tier
    this.#request = exchange.request
    this.#startedMs = run.clock.now()
    this.#translator = run.wire.translation?.begin()
  }

  start(exchange: Exchange): void {
    const { kind, signal } = this.#run
    signal.addEventListener('abort', this.#onLeft)
    this.#control = kind(exchange, this)
    if (signal.aborted) this.#leave()
    else this.#arm()
  }

  // --- time ------------------------------------------------------------------------------------------------

  /** When the nearest limit is. One timer serves all of them: it looks again when it fires too early. */
  #due(): number {
    const { plan, firstTokenMs } = this.#run
    const tier = this.#tier
    const request = this.#request
    const phase = this.#phase
    const startedMs = this.#startedMs
    const lastDataMs = this.#lastDataMs
    let at = startedMs + tier.attemptMs
    let reason: Reason = 'attempt'
    if (phase === 'connect' && startedMs + tier.connectMs < at) {
      at = startedMs + tier.connectMs
      reason = 'connect'
    }
    if (phase !== 'relay' && !this.#isLast) {
      if (request.stream) {
        if (this.#heardMs === 0 && startedMs + firstTokenMs < at) {
          at = startedMs + firstTokenMs
          reason = 'first_token'
        }
      } else if (lastDataMs === 0 && startedMs + tier.firstByteMs < at) {
        at = startedMs + tier.firstByteMs
        reason = 'first_byte'
      }
    }
    const idleAt = this.#idleAt(lastDataMs + tier.idleMs)
    if (idleAt < at) {
      at = idleAt
      reason = 'idle'
    }
    if (plan.deadlineAt < at) {
      this.#reason = 'attempt'
      this.#blameless = true
      return plan.deadlineAt
    }
    this.#reason = reason
    // An answer that came all the time and was long, or was read slowly, is not the provider's failure.
    this.#blameless = phase === 'relay' && reason === 'attempt'
    return at
  }

  /** When an answer that does not go on is given up; `silentAt`: where nothing more comes. */
  #idleAt(silentAt: number): number {
    if (this.#phase === 'relay') {
      if (this.#paused) return Number.POSITIVE_INFINITY
      return this.#finishedMs > 0 ? Math.min(silentAt, this.#finishedMs + TAIL_MS) : silentAt
    }
    if (this.#phase !== 'body') return Number.POSITIVE_INFINITY
    if (this.#status >= 300) return this.#headMs + FAULT_BODY_MS
    // One that says again what the caller has.
    if (this.#heardMs > 0) return silentAt
    // A whole reply that stalls in its middle; before its first byte it has `firstByte`.
    return this.#stream === undefined && this.#lastDataMs > 0 ? silentAt : Number.POSITIVE_INFINITY
  }

  /** A timer that looks too early looks again by itself, so that most attempts make one and end before it. */
  #arm(): void {
    const at = this.#due()
    if (this.#looksAt <= at) return
    const { timers, clock } = this.#run
    timers.clear(this.#timer)
    this.#looksAt = at
    this.#timer = timers.set(Math.max(1, Math.ceil(at - clock.now())), () => this.#guard(this.#look))
  }

  #look(): void {
    const { clock } = this.#run
    this.#looksAt = Number.POSITIVE_INFINITY
    if (this.#phase === 'over') return
    let at = this.#due()
    // Whoever is last is not cut for slowness; who stood behind it may have gone meanwhile, or have come.
    if (clock.now() >= at && (this.#reason === 'first_token' || this.#reason === 'first_byte')) {
      this.#isLast = this.#run.isLast()
      at = this.#due()
    }
    if (clock.now() < at) return this.#arm()
    if (this.#phase === 'body' && this.#status >= 300) return this.#readFault()
    if (this.#phase === 'relay' && this.#stream?.relay.complete === true) return this.#complete()
    this.#fail(this.#reason, this.#blameless)
  }

  // --- ends ------------------------------------------------------------------------------------------------

  #finish(result: Result, abort: boolean): void {
    if (this.#phase === 'over') return
    // First of all: whatever goes wrong while letting go, what was taken for this attempt comes back.
    this.#run.onOver(result)
    this.#close(abort)
  }

  #close(abort: boolean): void {
    const { timers, signal, reply } = this.#run
    this.#phase = 'over'
    timers.clear(this.#timer)
    signal.removeEventListener('abort', this.#onLeft)
    // A whole reply may still be on its way out: what was set by others stays.
    if (this.#onDrain !== undefined && reply.onDrain === this.#onDrain) reply.onDrain = undefined
    if (abort) this.#control?.abort()
  }

  #guard(run: () => void): void {
    try {
      run.call(this)
    } catch (error) {
      this.#broke(error)
    }
  }

  #broke(error: unknown): void {
    if (this.#phase === 'over') return
    this.#close(true)
    this.#run.onBroke(error)
  }

  /** The upstream failed: before the first byte somebody else may try, after it the answer is broken. */
  #fail(reason: Reason, blameless = false): void {
    if (this.#phase === 'relay') {
      const said = this.#stream?.listener?.said()
      this.#finish({ outcome: 'broken', reason, usage: this.#usageSoFar(), blameless, said }, true)
      return
    }
    const usage = this.#usedInVain(reason)
    this.#finish({ ...RETRY, reason, blameless, usage }, true)
  }

  #leave(): void {
    this.#finish({ outcome: 'left', usage: this.#isAtWork() ? this.#usageSoFar() : undefined }, true)
  }

  /** Once the request has gone out the provider works on it, and somebody pays for that. */
  #isAtWork(): boolean {
    return this.#phase !== 'connect' && this.#status < 300
  }

  /** Of a call that we gave up, or of an answer that stopped coming: nobody will tell what it took. */
  #usedInVain(reason: Reason): Usage | undefined {
    const isCut = CUT_BY_US.has(reason) || (CUT.has(reason) && this.#lastDataMs > 0)
    return isCut && this.#isAtWork() ? this.#usageSoFar() : undefined
  }

  /** A stream that broke still used tokens. */
  #usageSoFar(): Usage {
    const request = this.#request
    if (this.#stream === undefined) return toCounted(request, 0)
    const { usage, countedTokens } = this.#stream.watch
    return orCounted(request, usage, countedTokens)
  }

  // --- whole replies and errors ------------------------------------------------------------------------------

  #collect(chunk: Buffer): void {
    if (this.#isEncoded) return
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#status >= 300) {
      if (this.#bytes >= MAX_FAULT_BYTES) this.#readFault()
    } else if (this.#bytes > MAX_REPLY_BYTES) this.#fail('malformed')
  }

  #readFault(): void {
    const { wire, clock } = this.#run
    const status = this.#status
    const body = Buffer.concat(this.#chunks, this.#bytes).toString('utf8', 0, MAX_FAULT_BYTES)
    const fault = wire.side.fault(status, this.#header, body, clock.wall())
    this.#judge({ status, fault }, `${status}`)
  }

  /** What an error means that was told before the answer began, by its status or inside a 200. */
  #judge({ status, fault }: { status: number; fault: Fault }, reason: Reason): void {
    if (fault.verdict === 'refuse') return this.#finish({ outcome: 'refuse', status, fault }, true)
    const { retryAfterMs, key, park, message, verdict } = fault
    const why = verdict === 'context' ? 'context' : reason
    this.#finish({ ...RETRY, reason: why, retryAfterMs, key, park, message }, true)
  }

  #readWhole(): void {
    const run = this.#run
    const { wire, clock, reply, redact } = run
    const request = this.#request
    const format = wire.side
    const chunks = this.#chunks
    const body = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, this.#bytes)
    this.#chunks = []
    const facts = format.whole(request.endpoint.operation, body)
    if (facts.failure === 'in_band') return this.#judge(format.inBand(body.toString('utf8')), 'in_band')
    if (facts.failure !== undefined) return this.#fail(facts.failure)
    // A stream was asked for and a whole answer came: nothing in it may be passed off as one.
    if (request.stream && format.isAsTold !== true) return this.#fail('malformed')
    let answer = wire.mend?.(body) ?? body
    try {
      if (this.#translator !== undefined) answer = this.#translator.whole(body)
    } catch (error) {
      if (!(error instanceof Untranslatable)) throw error
      return this.#fail('malformed')
    }
    run.onCommit(clock.now())
    request.letGo()
    const type = format.isAsTold === true ? this.#header('content-type') : undefined
    reply.send(this.#status, type ?? 'application/json; charset=utf-8', redact?.(answer) ?? answer)
    const usage = orCounted(request, facts.usage, facts.countedTokens)
    this.#finish({ outcome: 'answered', usage }, false)
  }

  // --- streams -----------------------------------------------------------------------------------------------

  #beginStream(): Stream {
    const { wire, plan, resume, redact } = this.#run
    const format = wire.side
    const translator = this.#translator
    const watch = format.watch()
    // Once is enough: who goes on is not gone on with. What is translated cannot be gone on with by somebody else's bytes.
    const listener =
      plan.resumes && resume === undefined && translator === undefined && format.resume !== undefined
        ? createListener(format.resume)
        : undefined
    const relay = createRelay({
      watch,
      glance: format.watch,
      choices: this.#request.choices,
      listener,
      splice: resume && format.resume && createSplice(format.resume, resume.isPrefilled ? '' : resume.said),
      splitter: format.splitter?.(),
      translator,
      stages: [
        ...(translator === undefined ? plan.stages.map((make) => make()) : []),
        ...(redact === undefined ? [] : [redactKeys(redact)]),
      ],
    })
    return { watch, relay, listener }
  }

  #deliver({ out, ended }: Relayed): void {
    if (out.length > 0) {
      if (this.#phase !== 'relay') this.#commit()
      this.#send(out)
    }
    if (ended === undefined) return
    if (ended.kind === 'complete') this.#complete()
    else if (ended.kind === 'apart') this.#fail('incomplete', true)
    else if (ended.told === undefined || this.#phase === 'relay') this.#fail(ended.reason)
    else this.#judge(this.#run.wire.side.inBand(ended.told), ended.reason)
  }

  /** From here on nobody else can be asked. */
  #commit(): void {
    const run = this.#run
    const { clock, resume, reply } = run
    const request = this.#request
    run.onCommit(this.#heardMs > 0 ? this.#heardMs : clock.now())
    this.#phase = 'relay'
    // What a translator keeps of the request is counted as its body until the end.
    if (this.#translator !== undefined) request.body = undefined
    else if (this.#stream?.listener === undefined) request.letGo()
    if (resume === undefined) reply.begin(this.#status, `${EVENT_STREAM}; charset=utf-8`)
    else reply.write(Buffer.from(`: ${resume.mark}\n\n`))
    this.#onDrain = () => this.#guard(this.#drained)
    reply.onDrain = this.#onDrain
    this.#arm()
  }

  #send(out: readonly Buffer[]): void {
    const piece = out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out)
    if (!this.#run.reply.write(piece) && !this.#paused) {
      this.#paused = true
      this.#control?.pause()
    }
  }

  #drained(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#lastDataMs = this.#run.clock.now()
    if (this.#finishedMs > 0) this.#finishedMs = this.#lastDataMs
    this.#control?.resume()
    this.#arm()
  }

  /** The answer is complete: the caller gets its end now, whatever the upstream still does with its connection. */
  #complete(): void {
    const { reply, redact, timers } = this.#run
    // An answer that came to nothing before its end, in another format.
    if (this.#phase !== 'relay') this.#commit()
    const rest = this.#translator?.end()
    if (rest !== undefined) reply.write(redact?.(rest) ?? rest)
    reply.end()
    this.#finish({ outcome: 'answered', usage: this.#usageSoFar() }, false)
    // Behind its end marker a connection usually closes its answer at once and can be used again; else it is cut.
    if (this.#upstreamEnded) return
    this.#control?.resume()
    this.#tail = timers.set(TAIL_MS, () => this.#control?.abort())
  }

  // --- the upstream's side -----------------------------------------------------------------------------------

  started(): void {
    if (this.#phase !== 'connect') return
    this.#phase = 'head'
    this.#arm()
  }

  head(status: number, header: HeaderLookup): void {
    if (this.#phase === 'over') return
    try {
      this.#readHead(status, header)
    } catch (error) {
      this.#broke(error)
    }
  }

  data(chunk: Buffer): void {
    if (this.#phase === 'over') return
    try {
      this.#readData(chunk)
    } catch (error) {
      this.#broke(error)
    }
  }

  end(): void {
    this.#upstreamEnded = true
    this.#run.timers.clear(this.#tail)
    if (this.#phase === 'over') return
    try {
      if (this.#status >= 300) this.#readFault()
      else if (this.#stream === undefined) this.#readWhole()
      else this.#deliver(this.#stream.relay.end())
    } catch (error) {
      this.#broke(error)
    }
  }

  failed(error: Error): void {
    this.#upstreamEnded = true
    this.#run.timers.clear(this.#tail)
    if (this.#phase === 'over') return
    try {
      if (this.#status >= 300) this.#readFault()
      else if (this.#phase === 'relay' && this.#stream?.relay.complete === true) this.#complete()
      else this.#fail(toReason(error, this.#status !== 0))
    } catch (defect) {
      this.#broke(defect)
    }
  }

  #readHead(status: number, header: HeaderLookup): void {
    const run = this.#run
    const { clock, wire } = run
    const request = this.#request
    this.#status = status
    this.#header = header
    this.#headMs = clock.now()
    this.#phase = 'body'
    run.onHead(header)
    const encoding = header('content-encoding')?.trim().toLowerCase()
    this.#isEncoded = encoding !== undefined && encoding !== '' && encoding !== 'identity'
    if (this.#isEncoded && status < 300) return this.#fail('malformed')
    const type = header('content-type')?.trim().toLowerCase()
    // Where nothing is said, what was asked for is taken to have come; if it has not, it cannot be read.
    const isEventStream =
      type === undefined ? request.stream : type.startsWith(wire.side.streamType ?? EVENT_STREAM)
    if (status < 300 && isEventStream) {
      if (!request.stream) return this.#fail('malformed')
      this.#stream = this.#beginStream()
    }
    this.#arm()
  }

  #readData(chunk: Buffer): void {
    this.#lastDataMs = this.#run.clock.now()
    const stream = this.#stream
    if (stream === undefined) {
      this.#collect(chunk)
      if (!this.#isOver() && this.#bytes === chunk.length) this.#arm()
      return
    }
    const { relay } = stream
    this.#deliver(relay.push(chunk))
    if (this.#heardMs === 0 && relay.heard > 0 && !this.#isOver()) {
      this.#heardMs = this.#lastDataMs
      if (this.#phase === 'body') this.#arm()
    }
    // The idle limit shrinks when nothing but the end marker is missing; some give their reason with every piece.
    if (this.#isOver() || !relay.complete || relay.heard === this.#heardAtFinish) return
    this.#heardAtFinish = relay.heard
    this.#finishedMs = this.#lastDataMs
    this.#arm()
  }

  /** As it is now: what was called meanwhile may have ended the attempt. */
  #isOver(): boolean {
    return this.#phase === 'over'
  }
}

/** What came to nothing, before it is said why. */
const RETRY = {
  outcome: 'retry',
  retryAfterMs: undefined,
  key: false,
  park: false,
  message: '',
  blameless: false,
  usage: undefined,
} as const

function nothing(): undefined {
  return undefined
}

/**
 * The provider's own figures, else what was seen. A side that is nothing there, or no number of tokens, is counted too:
 * some begin with nothing and count as they go, others leave it out, and nobody answers for nothing. Where nothing was
 * seen (vectors, a count of tokens) it is as told.
 */
function orCounted(request: ModelRequest, told: Usage | undefined, countedTokens: number): Usage {
  if (told === undefined) return toCounted(request, countedTokens)
  if (countedTokens === 0 || (told.inputTokens > 0 && told.outputTokens > 0)) return told
  return {
    ...told,
    inputTokens: told.inputTokens || toCounted(request, countedTokens).inputTokens,
    outputTokens: told.outputTokens || countedTokens,
    source: 'counted',
  }
}

function toCounted(request: ModelRequest, outputTokens: number): Usage {
  return {
    inputTokens: Math.ceil(request.textBytes / 4) + request.images * IMAGE_TOKENS,
    cachedTokens: 0,
    cacheWriteTokens: 0,
    audioInputTokens: 0,
    outputTokens,
    reasoningTokens: 0,
    audioOutputTokens: 0,
    source: 'counted',
  }
}
