// The connections to one origin. Calls last for seconds, so that there are as many as calls under way and nobody waits for
// one: admission is bounded by limits, not here. Whoever was used last is used next, so that the others can go.

import { createBag } from '../../bytes/bag.ts'
import type { Control, Receiver } from '../kind.ts'
import { Connection, type Keeper, type Origin, type Request } from './connection.ts'

export interface Pool {
  send(request: Request, receiver: Receiver): Control
  /** A second has gone by: those that have not been used for too long are closed. */
  tick(): void
  /** Cuts what is under way. */
  close(): void
}

/** Idle connections that are kept. */
export const MAX_IDLE = 1024

export function createPool(origin: Origin): Pool {
  const idle: Connection[] = []
  const all = createBag<Connection>()
  let now = 0
  const keeper: Keeper = {
    origin,
    session: undefined,
    keep(connection, seconds) {
      connection.usableUntil = now + seconds
      if (seconds > 0 && idle.length < MAX_IDLE) idle.push(connection)
      else connection.drop()
    },
    gone({ seat }) {
      if (seat !== undefined) all.remove(seat)
    },
  }
  return {
    send(request, receiver) {
      let connection = idle.pop()
      while (connection !== undefined && (!connection.isOpen || connection.usableUntil <= now)) {
        connection.drop()
        connection = idle.pop()
      }
      if (connection === undefined) {
        connection = new Connection(keeper)
        connection.seat = all.add(connection)
      }
      connection.begin(request, receiver)
      return new Call(connection, receiver)
    },
    tick() {
      now += 1
      let kept = 0
      for (const connection of idle) {
        if (connection.isOpen && connection.usableUntil > now) idle[kept++] = connection
        else connection.drop()
      }
      idle.length = kept
    },
    close() {
      for (const connection of all.list()) connection.drop()
      idle.length = 0
    },
  }
}

/** The hand on a call: without effect once it is over, as its connection may serve somebody else by then. */
class Call implements Control {
  readonly #connection: Connection
  readonly #receiver: Receiver

  constructor(connection: Connection, receiver: Receiver) {
    this.#connection = connection
    this.#receiver = receiver
  }

  abort(): void {
    if (this.#connection.serves(this.#receiver)) this.#connection.drop()
  }

  pause(): void {
    if (this.#connection.serves(this.#receiver)) this.#connection.pause()
  }

  resume(): void {
    if (this.#connection.serves(this.#receiver)) this.#connection.resume()
  }
}
