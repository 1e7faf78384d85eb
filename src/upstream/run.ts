// One attempt: starts a call, keeps its time limits, and relays what comes back. Nothing reaches the caller before
// the first content, so that until then somebody else can answer; after it the attempt can only go on or break.

import { createFrameSplitter, type Frame, FrameTooLarge } from '../bytes/sse.ts'
import type { Fault, Format, HeaderLookup } from '../formats/format.ts'
import type { Clock, Plan, Reason, Reply, Usage } from '../types.ts'
import { type Result, toReason } from './attempt.ts'
import type { Control, Exchange, Kind } from './kind.ts'
import type { Timers } from './timers.ts'

export interface Run {
  readonly kind: Kind
  readonly exchange: Exchange
  readonly format: Format
  readonly plan: Plan
  /** Nobody is left behind this one: it is not cut for slowness. */
  readonly last: boolean
  readonly reply: Reply
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly timers: Timers
  /** The key in use, by value: it must not come back in an answer. */
  readonly secret: string | undefined
  readonly scrubBytes: (bytes: Buffer) => Buffer
  /** Called once, just before the answer begins: the last moment for headers. */
  readonly onCommit: (firstTokenMs: number) => void
}

/** Largest whole reply that is held. */
const MAX_REPLY_BYTES = 64 * 1024 * 1024
/** Most of a stream that is held back before its first content. */
const MAX_PREAMBLE_BYTES = 1024 * 1024
/** Most of an error body that is read, and how long for. */
const MAX_FAULT_BYTES = 64 * 1024
const FAULT_BODY_MS = 2000
/** A stream that gave its finish reason gets this long for its usage and end marker. */
const TAIL_MS = 1000

const EVENT_STREAM = 'text/event-stream'

/** Runs one attempt to its end. Never rejects. */
export function runAttempt(run: Run): Promise<Result> {
  return new Promise((resolve) => start(run, resolve))
}

function start(run: Run, resolve: (result: Result) => void): void {
  const { exchange, plan, reply, clock, timers, signal } = run
  const { tier } = exchange.candidate
  const { request } = exchange
  const startedMs = clock.now()
  let phase: 'connect' | 'head' | 'body' | 'relay' | 'over' = 'connect'
  let status = 0
  let header: HeaderLookup = () => undefined
  let lastDataMs = 0
  let paused = false
  let timer: unknown
  const control: { now: Control | undefined } = { now: undefined }

  // --- time ------------------------------------------------------------------------------------------------

  /** The nearest limit and its name. One timer serves all of them: it looks again when it fires too early. */
  function due(): { at: number; reason: Reason; deadline: boolean } {
    let at = startedMs + tier.attemptMs
    let reason: Reason = 'attempt'
    const nearer = (ms: number, name: Reason) => {
      if (ms < at) {
        at = ms
        reason = name
      }
    }
    if (phase === 'connect') nearer(startedMs + tier.connectMs, 'connect')
    if (phase === 'connect' || phase === 'head' || phase === 'body') {
      if (!run.last) {
        if (request.stream) nearer(startedMs + tier.firstTokenMs, 'first_token')
        else nearer(startedMs + tier.firstByteMs, 'first_byte')
      }
    }
    if (lastDataMs > 0 && !paused && request.stream) {
      nearer(lastDataMs + (watch.finished ? Math.min(TAIL_MS, tier.idleMs) : tier.idleMs), 'idle')
    }
    if (phase === 'body' && status >= 300) nearer(headMs + FAULT_BODY_MS, 'idle')
    if (plan.deadlineAt < at) return { at: plan.deadlineAt, reason: 'attempt', deadline: true }
    return { at, reason, deadline: false }
  }

  function arm(): void {
    timers.clear(timer)
    timer = timers.set(Math.max(1, Math.ceil(due().at - clock.now())), onTimer)
  }

  function onTimer(): void {
    if (phase === 'over') return
    const { at, reason, deadline } = due()
    if (clock.now() < at) return arm()
    if (phase === 'body' && status >= 300) return readFault()
    if (phase === 'relay' && watch.finished) return complete()
    fail(reason, '', deadline)
  }

  // --- ends ------------------------------------------------------------------------------------------------

  function finish(result: Result, abort: boolean): void {
    if (phase === 'over') return
    phase = 'over'
    timers.clear(timer)
    signal.removeEventListener('abort', onLeft)
    reply.onDrain = undefined
    if (abort) control.now?.abort()
    resolve(result)
  }

  /** The upstream failed: before the first byte somebody else may try, after it the answer is broken. */
  function fail(reason: Reason, message = '', deadline = false): void {
    if (phase === 'relay') finish({ outcome: 'broken', reason, usage: usageSoFar(), deadline }, true)
    else finish({ outcome: 'retry', reason, retryAfterMs: undefined, key: false, message, deadline }, true)
  }

  function onLeft(): void {
    finish({ outcome: 'left', usage: status === 200 ? usageSoFar() : undefined }, true)
  }

  /** The provider's own figures, else what was seen: a stream that broke still used tokens. */
  function usageSoFar(): Usage {
    return (
      watch.usage ?? {
        inputTokens: Math.ceil(request.bodyBytes / 4),
        cachedTokens: 0,
        outputTokens: watch.countedTokens,
        reasoningTokens: 0,
        source: 'counted',
      }
    )
  }

  // --- whole replies and errors ------------------------------------------------------------------------------

  let headMs = 0
  let chunks: Buffer[] = []
  let bytes = 0

  function collect(chunk: Buffer): void {
    chunks.push(chunk)
    bytes += chunk.length
    if (status >= 300) {
      if (bytes >= MAX_FAULT_BYTES) readFault()
    } else if (bytes > MAX_REPLY_BYTES) fail('malformed')
  }

  function readFault(): void {
    const body = Buffer.concat(chunks, bytes).toString('utf8', 0, MAX_FAULT_BYTES)
    const fault: Fault = run.format.provider.fault(status, header, body, clock.wall())
    if (fault.verdict === 'refuse') return finish({ outcome: 'refuse', status, fault }, true)
    const reason: Reason = fault.verdict === 'context' ? 'context' : `${status}`
    const { retryAfterMs, key, message } = fault
    finish({ outcome: 'retry', reason, retryAfterMs, key, message, deadline: false }, true)
  }

  function readWhole(): void {
    let body = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, bytes)
    chunks = []
    const facts = run.format.provider.whole(request.endpoint.operation, body)
    if (facts.failure !== undefined) return fail(facts.failure, facts.error)
    // A stream was asked for and a whole answer came: nothing in it may be passed off as one.
    if (request.stream) return fail('malformed')
    if (run.secret !== undefined && body.includes(run.secret)) body = run.scrubBytes(body)
    run.onCommit(clock.now())
    reply.send(status, 'application/json; charset=utf-8', body)
    finish({ outcome: 'answered', usage: facts.usage }, false)
  }

  // --- streams -----------------------------------------------------------------------------------------------

  const watch = run.format.provider.watch()
  const splitter = createFrameSplitter()
  let streaming = false
  let preamble: Buffer[] = []
  let preambleBytes = 0

  function relay(frames: readonly Frame[]): void {
    const out: Buffer[] = []
    for (const frame of frames) {
      const verdict = judge(frame)
      if (verdict === 'over') return
      if (verdict === 'drop') continue
      if (verdict === 'hold') {
        preamble.push(frame.bytes)
        preambleBytes += frame.bytes.length
        if (preambleBytes > MAX_PREAMBLE_BYTES) return fail('malformed')
        continue
      }
      if (phase !== 'relay') {
        commit()
        out.push(...preamble)
        preamble = []
      }
      out.push(frame.bytes)
      if (verdict === 'last') {
        send(out)
        return complete()
      }
    }
    if (out.length > 0) send(out)

    /** What becomes of a frame. `over`: the attempt ended on it, after what came before it was sent. */
    function judge(frame: Frame): 'send' | 'hold' | 'drop' | 'last' | 'over' {
      const begun = phase === 'relay'
      // Comments and lone fields keep a connection alive; before the answer begins there is nothing to keep.
      if (frame.data === undefined) return begun ? 'send' : 'drop'
      const facts = watch.look(frame.data)
      if (facts.error !== undefined) return stop('in_band', facts.error)
      // Between equal formats a malformed event is the caller's to read, but never the first thing an answer says.
      if (facts.malformed) return begun ? 'send' : stop('malformed')
      if (facts.done) {
        if (watch.finished) return 'last'
        return stop(begun ? 'incomplete' : 'empty')
      }
      if (facts.usageOnly && !request.includeUsage) return 'drop'
      if (begun || facts.content) return 'send'
      return 'hold'
    }

    function stop(reason: Reason, message?: string): 'over' {
      if (out.length > 0) send(out)
      fail(reason, message)
      return 'over'
    }
  }

  function commit(): void {
    run.onCommit(clock.now())
    phase = 'relay'
    // From here on nobody else can be asked: the request body is not needed any more.
    request.body = undefined
    reply.begin(status, `${EVENT_STREAM}; charset=utf-8`)
    reply.onDrain = () => {
      if (!paused) return
      paused = false
      lastDataMs = clock.now()
      control.now?.resume()
      arm()
    }
  }

  function send(out: readonly Buffer[]): void {
    let piece = out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out)
    if (run.secret !== undefined && piece.includes(run.secret)) piece = run.scrubBytes(piece)
    if (!reply.write(piece) && !paused) {
      paused = true
      control.now?.pause()
    }
  }

  /** The answer is complete: the caller gets its end now, whatever the upstream still does with its connection. */
  function complete(): void {
    reply.end()
    const { now } = control
    const ended = upstreamEnded
    finish({ outcome: 'answered', usage: watch.usage ?? usageSoFar() }, false)
    // Behind its end marker a connection usually closes its answer at once and can be used again; else it is cut.
    if (!ended && now !== undefined) {
      now.resume()
      tail = timers.set(TAIL_MS, () => now.abort())
    }
  }
  let upstreamEnded = false
  let tail: unknown

  // --- the upstream's side -----------------------------------------------------------------------------------

  function onEnd(): void {
    upstreamEnded = true
    timers.clear(tail)
    if (phase === 'over') return
    if (status >= 300) return readFault()
    if (!streaming) return readWhole()
    const rest = splitter.rest()
    // A last event without its blank line is whole when it can be read; else it is where the stream was cut.
    if (rest?.data !== undefined && !run.format.provider.watch().look(rest.data).malformed) {
      relay([{ ...rest, bytes: Buffer.concat([rest.bytes, Buffer.from('\n\n')]) }])
      if (isOver()) return
    }
    if (phase === 'relay') return watch.finished ? complete() : fail('incomplete')
    fail('empty')
  }

  /** `phase` as it is now; functions called above may have ended the attempt. */
  function isOver(): boolean {
    return phase === 'over'
  }

  signal.addEventListener('abort', onLeft, { once: true })
  control.now = run.kind(exchange, {
    started() {
      if (phase === 'connect') {
        phase = 'head'
        arm()
      }
    },
    head(code, lookup) {
      if (phase === 'over') return
      status = code
      header = lookup
      headMs = clock.now()
      phase = 'body'
      const encoding = header('content-encoding')
      if (encoding !== undefined && encoding !== 'identity') return fail('malformed')
      const isEventStream = header('content-type')?.toLowerCase().startsWith(EVENT_STREAM) === true
      if (status < 300 && isEventStream !== request.stream && isEventStream) return fail('malformed')
      streaming = status < 300 && isEventStream
      arm()
    },
    data(chunk) {
      if (phase === 'over') return
      const first = lastDataMs === 0
      lastDataMs = clock.now()
      if (!streaming) collect(chunk)
      else {
        try {
          relay(splitter.push(chunk))
        } catch (error) {
          if (!(error instanceof FrameTooLarge)) throw error
          fail('malformed')
        }
      }
      // The idle limit begins with the first piece, and shrinks at the finish reason.
      if ((first || watch.finished) && !isOver()) arm()
    },
    end: onEnd,
    failed(error) {
      upstreamEnded = true
      timers.clear(tail)
      if (phase === 'over') return
      if (status >= 300) return readFault()
      if (phase === 'relay' && watch.finished) return complete()
      fail(toReason(error, status !== 0))
    },
  })
  if (signal.aborted) return onLeft()
  arm()
}
