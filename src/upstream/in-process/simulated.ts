// The `simulated` kind: answers like a provider, from this process, at the pace and with the faults that were asked
// for. Opens no socket; what it says is decided in simulated-model.ts, how it is written in completion-wire.ts.

import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import type { Clock, Operation, Simulate, SimulatedFault } from '../../types.ts'
import type { Exchange, Kind } from '../kind.ts'
import type { Timers } from '../timers.ts'
import {
  type ErrorBody,
  type Frame,
  headerLookup,
  type Stamp,
  streamReply,
  wholeEmbeddings,
  wholeReply,
  writeError,
} from './completion-wire.ts'
import {
  answerChat,
  answerEmbeddings,
  type ChatAnswer,
  type EmbeddingsAnswer,
  type Mistake,
} from './model.ts'
import { createPlayback, type Step } from './playback.ts'

interface Means {
  readonly clock: Clock
  readonly timers: Timers
}

interface Pace {
  readonly latencyMs: number
  readonly paceMs: number
  /** Breaks off on the way. */
  readonly cut: boolean
}

type Answer = ChatAnswer | EmbeddingsAnswer | Mistake

/** Rounds of content that a cut stream still sends. */
const CUT_AFTER = 3

/**
 * Makes the `simulated` kind. The same body gets the same answer, but for `created`. A fault's share is spread
 * evenly and without chance over the calls of each provider: 0.25 is every fourth one.
 */
export function createSimulated({ clock, timers }: Means): Kind {
  const owed = new Map<string, number>()

  /** Adds the share of this call to what is owed; a whole fault owed is due now. */
  function dueFault(provider: string, fault: SimulatedFault | undefined): SimulatedFault | undefined {
    if (fault === undefined) return undefined
    const sum = (owed.get(provider) ?? 0) + fault.share
    const due = sum > 1 - 1e-9 // ten times 0.1 is a little less than 1
    owed.set(provider, due ? sum - 1 : sum)
    return due ? fault : undefined
  }

  return (exchange, receiver) => {
    const { body, candidate } = exchange
    const simulate = candidate.deployment.provider?.simulate
    const fault = dueFault(candidate.deployment.provider?.name ?? '', simulate?.fault)
    const stream = Buffer.isBuffer(body) ? undefined : body
    const playback = createPlayback(receiver, { timers, onAbort: () => stream?.destroy() })
    // A body that is given up fails later, and nobody is left to hear of it.
    stream?.on('error', () => {})

    if (fault?.kind === 'refused') {
      stream?.destroy()
      playback.play([failure('connect ECONNREFUSED (simulated)', 'ECONNREFUSED')])
      return playback.control
    }
    playback.play([{ afterMs: 0, tell: (to) => to.started() }])
    readBody(exchange, {
      done: (bytes) =>
        playback.play(toSteps(exchange, bytes, { simulate, fault, createdS: toSeconds(clock) })),
      failed: (error) => playback.play([{ afterMs: 0, tell: (to) => to.failed(error) }]),
    })
    return playback.control
  }
}

interface Situation {
  readonly simulate: Simulate | undefined
  readonly fault: SimulatedFault | undefined
  readonly createdS: number
}

/** The whole course of one answer, from the complete request on. */
function* toSteps({ model, request }: Exchange, body: Buffer, situation: Situation): Generator<Step> {
  const { simulate, fault, createdS } = situation
  if (fault?.kind === 'silent') return
  if (fault?.kind === 'status') {
    yield* faultSteps(fault)
    return
  }
  const answer = toAnswer(request.endpoint.operation, body, model)
  const pace = {
    latencyMs: simulate?.latencyMs ?? 0,
    paceMs: simulate?.paceMs ?? 0,
    cut: fault?.kind === 'cut',
  }
  const stamp = { model, createdS }
  if (answer.kind === 'mistake') {
    yield* wholeSteps(400, writeError({ ...answer, type: 'invalid_request_error' }), {})
  } else if (answer.kind === 'embeddings') {
    yield* pacedSteps(wholeEmbeddings(answer, model), pace, 1)
  } else if (answer.stream) {
    yield* streamSteps(answer, stamp, pace)
  } else {
    const rounds = Math.max(
      1,
      ...answer.completion.choices.map(({ pieces, call }) => pieces.length + (call ? 1 : 0)),
    )
    yield* pacedSteps(wholeReply(answer.completion, stamp), pace, rounds)
  }
}

function toAnswer(operation: Operation, body: Buffer, model: string): Answer {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch {
    const message = 'We could not parse the JSON body of your request.'
    return { kind: 'mistake', message, param: null, code: null }
  }
  const digest = createHash('sha256').update(`${model}\n`).update(body).digest('hex')
  return operation === 'chat'
    ? answerChat(value, { model, digest })
    : answerEmbeddings(value, { model, digest })
}

function* streamSteps({ completion, includeUsage }: ChatAnswer, stamp: Stamp, pace: Pace): Generator<Step> {
  const headers = headerLookup({
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
  })
  yield { afterMs: pace.latencyMs, tell: (receiver) => receiver.head(200, headers) }
  let round = 1 // the role and the first content leave together
  for (const frame of streamReply(completion, stamp, includeUsage)) {
    if (pace.cut && isPastCut(frame)) {
      yield { ...failure('read ECONNRESET (simulated)', 'ECONNRESET'), afterMs: pace.paceMs }
      return
    }
    const afterMs = frame.round > round ? pace.paceMs : 0
    round = Math.max(round, frame.round)
    yield { afterMs, tell: (receiver) => receiver.data(frame.bytes) }
  }
  yield { afterMs: 0, tell: (receiver) => receiver.end() }
}

function isPastCut({ kind, round }: Frame): boolean {
  return kind === 'end' || (kind === 'content' && round > CUT_AFTER)
}

/** A whole answer takes as long as its stream would: nothing is sent before the last token is there. */
function* pacedSteps(body: Buffer, { latencyMs, paceMs, cut }: Pace, rounds: number): Generator<Step> {
  const [head, ...rest] = wholeSteps(200, body, {})
  if (head === undefined) return
  yield { ...head, afterMs: latencyMs + paceMs * (rounds - 1) }
  if (cut) yield failure('read ECONNRESET (simulated)', 'ECONNRESET')
  else yield* rest
}

function* wholeSteps(status: number, body: Buffer, extra: Readonly<Record<string, string>>): Generator<Step> {
  const headers = { 'content-type': 'application/json', 'content-length': `${body.length}`, ...extra }
  yield { afterMs: 0, tell: (receiver) => receiver.head(status, headerLookup(headers)) }
  yield { afterMs: 0, tell: (receiver) => receiver.data(body) }
  yield { afterMs: 0, tell: (receiver) => receiver.end() }
}

function* faultSteps({ status, retryAfterMs }: SimulatedFault): Generator<Step> {
  const wait: Readonly<Record<string, string>> =
    retryAfterMs === undefined
      ? {}
      : { 'retry-after': `${Math.ceil(retryAfterMs / 1000)}`, 'retry-after-ms': `${retryAfterMs}` }
  const body = writeError({
    message: `Simulated fault: status ${status}.`,
    param: null,
    ...faultWords(status),
  })
  yield* wholeSteps(status, body, wait)
}

/** Type and code that providers give a status (wire §1.4). */
function faultWords(status: number): Pick<ErrorBody, 'type' | 'code'> {
  if (status === 401) return { type: 'invalid_request_error', code: 'invalid_api_key' }
  if (status === 404) return { type: 'invalid_request_error', code: 'model_not_found' }
  if (status === 429) return { type: 'requests', code: 'rate_limit_exceeded' }
  if (status === 503) return { type: 'service_unavailable_error', code: 'server_is_overloaded' }
  if (status >= 500) return { type: 'server_error', code: null }
  return { type: 'invalid_request_error', code: null }
}

/** A failed connection, with the code that the socket's own errors have. */
function failure(message: string, code: string): Step {
  return { afterMs: 0, tell: (receiver) => receiver.failed(Object.assign(new Error(message), { code })) }
}

interface BodyReader {
  done(body: Buffer): void
  failed(error: Error): void
}

/** Reads the request to its end; one that is longer than it said is refused, as a server that counts would. */
function readBody({ body, bodyBytes }: Exchange, { done, failed }: BodyReader): void {
  if (Buffer.isBuffer(body)) done(body)
  else collect(body, bodyBytes, { done, failed })
}

function collect(body: Readable, bodyBytes: number, { done, failed }: BodyReader): void {
  const chunks: Buffer[] = []
  let bytes = 0
  body.on('data', (chunk: Buffer | string) => {
    const part = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    bytes += part.length
    if (bytes > bodyBytes) body.destroy(new Error('the request body is longer than it was said to be'))
    else chunks.push(part)
  })
  body.once('error', failed)
  body.once('end', () => done(Buffer.concat(chunks)))
  // A stream that is destroyed without an error never ends; `close` is all it says.
  body.once('close', () => {
    if (!body.readableEnded && body.errored === null) failed(new Error('the request body broke off'))
  })
}

function toSeconds(clock: Clock): number {
  return Math.floor(clock.wall() / 1000)
}
