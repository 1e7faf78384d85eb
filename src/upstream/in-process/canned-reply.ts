// The `reply` kind: answers chat with the text of its deployment, at once, whatever was asked; one without a text has been
// handed its answer as the body (an estimate). It is the last resort of a route, so it depends on nothing: no socket, no
// timer, no look at the body.

import { createHash } from 'node:crypto'
import type { Clock } from '../../types.ts'
import type { Exchange, Kind } from '../kind.ts'
import type { Timers } from '../timers.ts'
import { type Completion, headerLookup, streamReply, wholeReply, writeError } from './completion-wire.ts'
import { createPlayback, type Step } from './playback.ts'

/** A fixed text is not worth repeating more often than this. */
const MAX_CHOICES = 8

/** No step of a canned reply waits, and there are too few of them to need a turn of the event loop. */
const NO_TIMERS: Timers = { set: () => undefined, clear: () => {} }

const NOT_FOUND = writeError({
  message: 'This deployment has a fixed reply, which answers chat completions only.',
  type: 'invalid_request_error',
  param: null,
  code: 'model_not_found',
})

/**
 * Makes the `reply` kind. Its usage is zeros, and a stream always tells it, asked for or not (the relay drops it for
 * a caller who did not ask): nobody may settle on an estimate of words that no model has written.
 */
export function createCannedReply({ clock }: { clock: Clock }): Kind {
  return (exchange, receiver) => {
    const { body } = exchange
    if (exchange.candidate.deployment.text === undefined && Buffer.isBuffer(body)) {
      const estimate = createPlayback(receiver, { timers: NO_TIMERS })
      estimate.play([{ afterMs: 0, tell: (to) => to.started() }, ...whole(200, body)])
      return estimate.control
    }
    // Nothing reads the body, so a streamed one is let go at once.
    if (!Buffer.isBuffer(exchange.body)) exchange.body.on('error', () => {}).destroy()
    const playback = createPlayback(receiver, { timers: NO_TIMERS })
    playback.play(toSteps(exchange, clock.wall()))
    return playback.control
  }
}

function* toSteps({ candidate, request }: Exchange, wallMs: number): Generator<Step> {
  yield { afterMs: 0, tell: (receiver) => receiver.started() }
  if (request.endpoint.operation !== 'chat') {
    yield* whole(404, NOT_FOUND)
    return
  }
  const completion = toCompletion(candidate.deployment.text ?? '', request.choices, wallMs)
  const stamp = { model: 'reply', createdS: Math.floor(wallMs / 1000) }
  if (!request.stream) {
    yield* whole(200, wholeReply(completion, stamp))
    return
  }
  const headers = headerLookup({
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
  })
  yield { afterMs: 0, tell: (receiver) => receiver.head(200, headers) }
  for (const { bytes } of streamReply(completion, stamp, true)) {
    yield { afterMs: 0, tell: (receiver) => receiver.data(bytes) }
  }
  yield { afterMs: 0, tell: (receiver) => receiver.end() }
}

function* whole(status: number, body: Buffer): Generator<Step> {
  const headers = headerLookup({ 'content-type': 'application/json', 'content-length': `${body.length}` })
  yield { afterMs: 0, tell: (receiver) => receiver.head(status, headers) }
  yield { afterMs: 0, tell: (receiver) => receiver.data(body) }
  yield { afterMs: 0, tell: (receiver) => receiver.end() }
}

function toCompletion(text: string, choices: number, wallMs: number): Completion {
  const digest = createHash('sha256').update(`${wallMs} ${text}`).digest('hex')
  const choice = { pieces: text === '' ? [] : [text], call: undefined, finish: 'stop' as const }
  const count = Math.min(Math.max(1, choices), MAX_CHOICES)
  return {
    id: `chatcmpl-${digest.slice(0, 29)}`,
    choices: Array.from({ length: count }, () => choice),
    inputTokens: 0,
    outputTokens: 0,
  }
}
