// One attempt: starts a call, keeps its time limits, and hands on what comes back. Nothing reaches the caller before
// the first content, so that until then somebody else can answer; after it the attempt can only go on or break.

import { IMAGE_TOKENS } from '../config/limits.ts'
import type { Fault, HeaderLookup } from '../formats/format.ts'
import { createListener, createSplice } from '../formats/resume.ts'
import { type Redact, redactKeys } from '../formats/stage.ts'
import type { Clock, Plan, Reason, Reply, Usage } from '../types.ts'
import { type Result, toReason } from './attempt.ts'
import type { Control, Exchange, Kind, Receiver } from './kind.ts'
import { createRelay, type Relayed } from './relay.ts'
import type { Timers } from './timers.ts'
import { Untranslatable, type Wire } from './wire.ts'

export interface Run {
  readonly kind: Kind
  readonly exchange: Exchange
  readonly wire: Wire
  readonly plan: Plan
  /** Longest wait for the first content of a stream. */
  readonly firstTokenMs: number
  /** Nobody is left behind this one: it is not cut for slowness. Asked when it begins, and once more before it is cut. */
  readonly isLast: () => boolean
  /** The answer of another that this one goes on with; undefined for one that begins. */
  readonly resume: Resume | undefined
  readonly reply: Reply
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly timers: Timers
  /** Takes out the provider's keys, which must not come back in an answer; undefined where it has none. */
  readonly redact: Redact | undefined
  /** What the provider said before its answer, whatever that is. */
  readonly onHead: (header: HeaderLookup) => void
  /** Called once, just before the answer begins: the last moment for headers. */
  readonly onCommit: (firstTokenMs: number) => void
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

/** Runs one attempt to its end. Rejects only for a defect of ours. */
export function runAttempt(run: Run): Promise<Result> {
  return new Promise((resolve, reject) => start(run, resolve, reject))
}

function start(run: Run, resolve: (result: Result) => void, reject: (error: unknown) => void): void {
  const { exchange, wire, plan, reply, clock, timers, signal, redact, resume } = run
  const format = wire.side
  const { request, candidate } = exchange
  const { tier } = candidate
  const startedMs = clock.now()
  const watch = format.watch()
  const translator = wire.translation?.begin()
  // Once is enough: who goes on is not gone on with. What is translated cannot be gone on with by somebody else's bytes.
  const listener =
    plan.resumes && resume === undefined && translator === undefined && format.resume !== undefined
      ? createListener(format.resume)
      : undefined
  const relay = createRelay({
    watch,
    glance: format.watch,
    choices: request.choices,
    listener,
    splice: resume && format.resume && createSplice(format.resume, resume.isPrefilled ? '' : resume.said),
    splitter: format.splitter?.(),
    translator,
    stages: [
      ...(translator === undefined ? plan.stages.map((make) => make()) : []),
      ...(redact === undefined ? [] : [redactKeys(redact)]),
    ],
  })

  let isLast = run.isLast()
  let phase: 'connect' | 'head' | 'body' | 'relay' | 'over' = 'connect'
  let status = 0
  let header: HeaderLookup = () => undefined
  let streaming = false
  /** The body of an error is compressed though nobody asked for it: its status has to do. */
  let isEncoded = false
  let chunks: Buffer[] = []
  let bytes = 0
  let headMs = 0
  let lastDataMs = 0
  /** When a stream began to speak: the answer, or what the caller has of it already. */
  let heardMs = 0
  let finishedMs = 0
  /** What had been said when it looked finished last. */
  let heardAtFinish = 0
  let paused = false
  let upstreamEnded = false
  let control: Control | undefined
  let timer: unknown
  /** When the timer looks; never where there is none. */
  let looksAt = Number.POSITIVE_INFINITY
  const look = guarded(onTimer)
  let tail: unknown

  // --- time ------------------------------------------------------------------------------------------------

  /** The nearest limit and its name. One timer serves all of them: it looks again when it fires too early. */
  function due(): { at: number; reason: Reason; blameless: boolean } {
    let at = startedMs + tier.attemptMs
    let reason: Reason = 'attempt'
    const nearer = (ms: number, name: Reason) => {
      if (ms < at) {
        at = ms
        reason = name
      }
    }
    if (phase === 'connect') nearer(startedMs + tier.connectMs, 'connect')
    if (phase !== 'relay' && !isLast) {
      if (request.stream) {
        if (heardMs === 0) nearer(startedMs + run.firstTokenMs, 'first_token')
      } else if (lastDataMs === 0) nearer(startedMs + tier.firstByteMs, 'first_byte')
    }
    if (phase === 'relay' && !paused) {
      nearer(lastDataMs + tier.idleMs, 'idle')
      if (finishedMs > 0) nearer(finishedMs + TAIL_MS, 'idle')
    }
    // One that says again what the caller has.
    if (phase === 'body' && heardMs > 0) nearer(lastDataMs + tier.idleMs, 'idle')
    // A whole reply that stalls in its middle; before its first byte it has `firstByte`.
    if (phase === 'body' && !streaming && status < 300 && lastDataMs > 0)
      nearer(lastDataMs + tier.idleMs, 'idle')
    if (phase === 'body' && status >= 300) nearer(headMs + FAULT_BODY_MS, 'idle')
    if (plan.deadlineAt < at) return { at: plan.deadlineAt, reason: 'attempt', blameless: true }
    // An answer that came all the time and was long, or was read slowly, is not the provider's failure.
    return { at, reason, blameless: phase === 'relay' && reason === 'attempt' }
  }

  /** A timer that looks too early looks again by itself, so that most attempts make one and end before it. */
  function arm(): void {
    const { at } = due()
    if (looksAt <= at) return
    timers.clear(timer)
    looksAt = at
    timer = timers.set(Math.max(1, Math.ceil(at - clock.now())), look)
  }

  function onTimer(): void {
    looksAt = Number.POSITIVE_INFINITY
    if (phase === 'over') return
    // Whoever stood behind it may have gone meanwhile.
    isLast ||= run.isLast()
    const { at, reason, blameless } = due()
    if (clock.now() < at) return arm()
    if (phase === 'body' && status >= 300) return readFault()
    if (phase === 'relay' && relay.complete) return complete()
    fail(reason, blameless)
  }

  // --- ends ------------------------------------------------------------------------------------------------

  function finish(result: Result, abort: boolean): void {
    if (phase === 'over') return
    // First of all: whatever goes wrong while letting go, what was taken for this attempt comes back.
    resolve(result)
    close(abort)
  }

  function close(abort: boolean): void {
    phase = 'over'
    timers.clear(timer)
    signal.removeEventListener('abort', onLeft)
    // A whole reply may still be on its way out: what was set by others stays.
    if (reply.onDrain === onDrain) reply.onDrain = undefined
    if (abort) control?.abort()
  }

  /** Whatever is called from outside: a defect ends this attempt, never the process. */
  function guarded<A extends unknown[]>(run: (...args: A) => void): (...args: A) => void {
    return (...args) => {
      try {
        run(...args)
      } catch (error) {
        if (phase === 'over') return
        close(true)
        reject(error)
      }
    }
  }

  /** The upstream failed: before the first byte somebody else may try, after it the answer is broken. */
  function fail(reason: Reason, blameless = false): void {
    if (phase === 'relay')
      finish({ outcome: 'broken', reason, usage: usageSoFar(), blameless, said: listener?.said }, true)
    else
      finish(
        {
          outcome: 'retry',
          reason,
          retryAfterMs: undefined,
          key: false,
          park: false,
          message: '',
          blameless,
          usage: usedInVain(reason),
        },
        true,
      )
  }

  const onLeft = guarded(() => {
    finish({ outcome: 'left', usage: isAtWork() ? usageSoFar() : undefined }, true)
  })

  /** Once the request has gone out the provider works on it, and somebody pays for that. */
  function isAtWork(): boolean {
    return phase !== 'connect' && status < 300
  }

  /** Of a call that we gave up, or of an answer that stopped coming: nobody will tell what it took. */
  function usedInVain(reason: Reason): Usage | undefined {
    const isCut = CUT_BY_US.has(reason) || (CUT.has(reason) && lastDataMs > 0)
    return isCut && isAtWork() ? usageSoFar() : undefined
  }

  /** A stream that broke still used tokens. */
  function usageSoFar(): Usage {
    return orCounted(watch.usage, watch.countedTokens)
  }

  /**
   * The provider's own figures, else what was seen. A side that is nothing there, or no number of tokens, is counted too:
   * some begin with nothing and count as they go, others leave it out, and nobody answers for nothing. Where nothing was
   * seen (vectors, a count of tokens) it is as told.
   */
  function orCounted(told: Usage | undefined, countedTokens: number): Usage {
    if (told === undefined) return toCounted(countedTokens)
    if (countedTokens === 0 || (told.inputTokens > 0 && told.outputTokens > 0)) return told
    return {
      ...told,
      inputTokens: told.inputTokens || toCounted(countedTokens).inputTokens,
      outputTokens: told.outputTokens || countedTokens,
      source: 'counted',
    }
  }

  function toCounted(outputTokens: number): Usage {
    const inputTokens = Math.ceil(request.textBytes / 4) + request.images * IMAGE_TOKENS
    return {
      inputTokens,
      cachedTokens: 0,
      cacheWriteTokens: 0,
      audioInputTokens: 0,
      outputTokens,
      reasoningTokens: 0,
      audioOutputTokens: 0,
      source: 'counted',
    }
  }

  // --- whole replies and errors ------------------------------------------------------------------------------

  function collect(chunk: Buffer): void {
    if (isEncoded) return
    chunks.push(chunk)
    bytes += chunk.length
    if (status >= 300) {
      if (bytes >= MAX_FAULT_BYTES) readFault()
    } else if (bytes > MAX_REPLY_BYTES) fail('malformed')
  }

  function readFault(): void {
    const body = Buffer.concat(chunks, bytes).toString('utf8', 0, MAX_FAULT_BYTES)
    const fault = format.fault(status, header, body, clock.wall())
    judge({ status, fault }, `${status}`)
  }

  /** What an error means that was told before the answer began, by its status or inside a 200. */
  function judge({ status: told, fault }: { status: number; fault: Fault }, reason: Reason): void {
    if (fault.verdict === 'refuse') return finish({ outcome: 'refuse', status: told, fault }, true)
    const { retryAfterMs, key, park, message, verdict } = fault
    const why = verdict === 'context' ? 'context' : reason
    const usage = undefined
    finish({ outcome: 'retry', reason: why, retryAfterMs, key, park, message, blameless: false, usage }, true)
  }

  function readWhole(): void {
    const body = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, bytes)
    chunks = []
    const facts = format.whole(request.endpoint.operation, body)
    if (facts.failure === 'in_band') return judge(format.inBand(body.toString('utf8')), 'in_band')
    if (facts.failure !== undefined) return fail(facts.failure)
    // A stream was asked for and a whole answer came: nothing in it may be passed off as one.
    if (request.stream && format.isAsTold !== true) return fail('malformed')
    let answer = wire.mend?.(body) ?? body
    try {
      if (translator !== undefined) answer = translator.whole(body)
    } catch (error) {
      if (!(error instanceof Untranslatable)) throw error
      return fail('malformed')
    }
    run.onCommit(clock.now())
    request.letGo()
    const type = format.isAsTold === true ? header('content-type') : undefined
    reply.send(status, type ?? 'application/json; charset=utf-8', redact?.(answer) ?? answer)
    finish({ outcome: 'answered', usage: orCounted(facts.usage, facts.countedTokens) }, false)
  }

  // --- streams -----------------------------------------------------------------------------------------------

  function deliver({ out, ended }: Relayed): void {
    if (out.length > 0) {
      if (phase !== 'relay') commit()
      send(out)
    }
    if (ended === undefined) return
    if (ended.kind === 'complete') complete()
    else if (ended.kind === 'apart') fail('incomplete', true)
    else if (ended.told === undefined || phase === 'relay') fail(ended.reason)
    else judge(format.inBand(ended.told), ended.reason)
  }

  /** From here on nobody else can be asked. */
  function commit(): void {
    run.onCommit(heardMs > 0 ? heardMs : clock.now())
    phase = 'relay'
    // What a translator keeps of the request is counted as its body until the end.
    if (translator !== undefined) request.body = undefined
    else if (listener === undefined) request.letGo()
    if (resume === undefined) reply.begin(status, `${EVENT_STREAM}; charset=utf-8`)
    else reply.write(Buffer.from(`: ${resume.mark}\n\n`))
    reply.onDrain = onDrain
    arm()
  }

  function send(out: readonly Buffer[]): void {
    const piece = out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out)
    if (!reply.write(piece) && !paused) {
      paused = true
      control?.pause()
    }
  }

  const onDrain = guarded(() => {
    if (!paused) return
    paused = false
    lastDataMs = clock.now()
    if (finishedMs > 0) finishedMs = lastDataMs
    control?.resume()
    arm()
  })

  /** The answer is complete: the caller gets its end now, whatever the upstream still does with its connection. */
  function complete(): void {
    // An answer that came to nothing before its end, in another format.
    if (phase !== 'relay') commit()
    const rest = translator?.end()
    if (rest !== undefined) reply.write(redact?.(rest) ?? rest)
    reply.end()
    finish({ outcome: 'answered', usage: usageSoFar() }, false)
    // Behind its end marker a connection usually closes its answer at once and can be used again; else it is cut.
    if (upstreamEnded) return
    control?.resume()
    tail = timers.set(TAIL_MS, () => control?.abort())
  }

  // --- the upstream's side -----------------------------------------------------------------------------------

  const receiver: Receiver = {
    started() {
      if (phase !== 'connect') return
      phase = 'head'
      arm()
    },
    head(code, lookup) {
      if (phase === 'over') return
      status = code
      header = lookup
      headMs = clock.now()
      phase = 'body'
      run.onHead(lookup)
      const encoding = header('content-encoding')?.trim().toLowerCase()
      isEncoded = encoding !== undefined && encoding !== '' && encoding !== 'identity'
      if (isEncoded && status < 300) return fail('malformed')
      const type = header('content-type')?.trim().toLowerCase()
      // Where nothing is said, what was asked for is taken to have come; if it has not, it cannot be read.
      const isEventStream =
        type === undefined ? request.stream : type.startsWith(format.streamType ?? EVENT_STREAM)
      if (status < 300 && isEventStream && !request.stream) return fail('malformed')
      streaming = status < 300 && isEventStream
      arm()
    },
    data(chunk) {
      if (phase === 'over') return
      lastDataMs = clock.now()
      if (!streaming) {
        collect(chunk)
        if (!isOver() && bytes === chunk.length) arm()
        return
      }
      deliver(relay.push(chunk))
      if (heardMs === 0 && relay.heard > 0 && !isOver()) {
        heardMs = lastDataMs
        if (phase === 'body') arm()
      }
      // The idle limit shrinks when nothing but the end marker is missing; some give their reason with every piece.
      if (isOver() || !relay.complete || relay.heard === heardAtFinish) return
      heardAtFinish = relay.heard
      finishedMs = lastDataMs
      arm()
    },
    end() {
      upstreamEnded = true
      timers.clear(tail)
      if (phase === 'over') return
      if (status >= 300) return readFault()
      if (!streaming) return readWhole()
      deliver(relay.end())
    },
    failed(error) {
      upstreamEnded = true
      timers.clear(tail)
      if (phase === 'over') return
      if (status >= 300) return readFault()
      if (phase === 'relay' && relay.complete) return complete()
      fail(toReason(error, status !== 0))
    },
  }

  /** `phase` as it is now; functions called above may have ended the attempt. */
  function isOver(): boolean {
    return phase === 'over'
  }

  signal.addEventListener('abort', onLeft, { once: true })
  control = run.kind(exchange, {
    started: guarded(receiver.started),
    head: guarded(receiver.head),
    data: guarded(receiver.data),
    end: guarded(receiver.end),
    failed: guarded(receiver.failed),
  })
  if (signal.aborted) return onLeft()
  arm()
}
