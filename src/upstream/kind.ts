// What a kind of deployment is: something that takes an Exchange and answers like an HTTP server. `http` calls a
// provider; `simulated` and `reply` answer from this process. The attempt above them cannot tell them apart.

import type { Readable } from 'node:stream'
import type { HeaderLookup } from '../formats/format.ts'
import type { Candidate, ModelRequest } from '../types.ts'

/** One call, ready to be sent. */
export interface Exchange {
  readonly candidate: Candidate
  readonly request: ModelRequest
  /** Model name that the deployment is asked for. */
  readonly model: string
  /** Path below the provider's base URL. */
  readonly path: string
  /** Flat list: name, value, name, value. */
  readonly headers: string[]
  /** The request body with its rewritten members. */
  readonly body: Buffer | Readable
  readonly bodyBytes: number
}

/** The hand on a call under way. */
export interface Control {
  /** Ends the call; nothing is received after it. Idempotent. */
  abort(): void
  /** Stops the flow of data until `resume`. */
  pause(): void
  resume(): void
}

/**
 * Receives what a deployment answers, in this order: `started` when the connection is there and the request
 * goes out, `head` once, `data` any number of times, then `end` or `failed` (once, at any point). After
 * `Control.abort` nothing more is called.
 */
export interface Receiver {
  started(): void
  head(status: number, header: HeaderLookup): void
  data(chunk: Buffer): void
  end(): void
  failed(error: Error): void
}

/** Starts a call. Never throws: what goes wrong is told to `receiver.failed`. */
export type Kind = (exchange: Exchange, receiver: Receiver) => Control

/** A request as it stands on the wire. */
export interface Message {
  readonly method: 'GET' | 'POST'
  /** From the origin's root, with its leading slash. */
  readonly path: string
  /** Name, value, name, value. */
  readonly headers: readonly string[]
  readonly body: Buffer | Readable | undefined
  readonly bodyBytes: number
}

/** The way to one origin. */
export interface Way {
  /** Never throws, like a Kind. */
  send(message: Message, receiver: Receiver): Control
  /** A second has gone by. */
  tick(): void
  /** Cuts what is under way. */
  close(): Promise<void> | void
}
