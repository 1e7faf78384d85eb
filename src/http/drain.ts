// The end of the front door: lets what is under way finish, then tells those it cuts. Knows nothing of signals; when it
// is time to end is main.ts's.

import type { Server } from 'node:http'
import { Server as Listener } from 'node:net'
import type { Bag } from '../bytes/bag.ts'
import { GatewayError } from '../errors.ts'
import type { Clock, Reply } from '../types.ts'
import type { Active } from './listen.ts'

export interface DrainDeps {
  readonly server: Server
  /** Answers that have not left completely. */
  readonly active: Pick<Bag<Active>, 'size' | 'list'>
  /** Requests under way. */
  readonly counts: { readonly inflight: number }
  readonly clock: Clock
  readonly wait: (ms: number) => Promise<void>
  readonly log: { warn(fields: Readonly<Record<string, unknown>>, message: string): void }
}

/** How long answers that the end of a drain cuts have to leave. */
export const LAST_WORDS_MS = 500
/** What is under way is looked at this often. */
const LOOK_MS = 20

/**
 * Takes no new connection, gives what is under way `drainMs`, and cuts the rest. Resolves when every connection is
 * closed, `LAST_WORDS_MS` after that time at the latest.
 */
export async function drain(deps: DrainDeps, drainMs: number): Promise<void> {
  const { server, active, counts, clock, wait, log } = deps
  // Not `server.close()`: it ends every connection whose answer is written, also when the caller has yet to read it.
  Listener.prototype.close.call(server)
  const closeIdle = () => {
    if (!active.list().some(({ res }) => res.writableEnded)) server.closeIdleConnections()
  }
  // A head that left before the drain has not said that it is the last one, and a balancer takes up the connection in
  // the moment the answer ends: it must find it closed, as it asks elsewhere then, and not be answered `draining`.
  for (const { res } of active.list()) res.once('close', closeIdle)
  const untilMs = clock.now() + drainMs
  while ((counts.inflight > 0 || active.size > 0) && clock.now() < untilMs) {
    closeIdle()
    await wait(LOOK_MS)
  }
  if (counts.inflight > 0 || active.size > 0) {
    log.warn(
      { inflight: counts.inflight, unsent: active.size },
      'the drain time is over; what is left is cut',
    )
    // Told, not just cut: an error event where an answer has begun, a 503 where none has.
    for (const one of active.list()) one.cut(toCutError(one.reply))
    // What they had taken from limits comes back when they end, so all of it must be heard before we go.
    const lastMs = clock.now() + LAST_WORDS_MS
    while ((active.size > 0 || counts.inflight > 0) && clock.now() < lastMs) await wait(LOOK_MS)
    for (const { reply } of active.list()) reply.fail(toCutError(reply))
  }
  server.closeAllConnections()
}

/** What is told to a caller whose answer the end of the drain cuts. */
function toCutError(reply: Reply): GatewayError {
  const message = 'This gateway is shutting down'
  if (!reply.committed) return new GatewayError('draining', `${message}.`)
  // In words that clients come again for, as toBrokenError has them.
  return new GatewayError(
    'upstream_incomplete',
    `${message}: the stream was closed before its answer was complete.`,
  )
}
