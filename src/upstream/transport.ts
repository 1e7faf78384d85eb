// The `http` kind: the only outgoing sockets to providers. One undici pool per origin, shared by all who call it and
// kept over reloads; requests go out by `dispatch`, and what comes back goes straight to the receiver. Redirects are
// answers like any other: nobody is sent to where a provider points.

import { type Dispatcher, Pool } from 'undici'
import type { Provider } from '../types.ts'
import type { Control, Kind, Receiver } from './kind.ts'

/** A connection that takes longer than this is given up, whatever a tier says. */
const CONNECT_LIMIT_MS = 10_000

export interface Transport {
  readonly call: Kind
  /** Asks by GET on the same connections. Never throws, like a Kind. */
  get(url: URL, headers: string[], receiver: Receiver): Control
  /** Waits for nobody: what is under way is cut. */
  close(): Promise<void>
}

export function createTransport(): Transport {
  const pools = new Map<string, Pool>()
  const places = new WeakMap<Provider, Place>()

  function poolOf(origin: string): Pool {
    let pool = pools.get(origin)
    if (pool === undefined) {
      // Calls last for seconds, so a pool must never queue behind its own connections: admission is bounded by
      // limits, not here. The time limits are the attempt's.
      pool = new Pool(origin, {
        connections: null,
        pipelining: 1,
        headersTimeout: 0,
        bodyTimeout: 0,
        keepAliveTimeout: 30_000,
        keepAliveMaxTimeout: 300_000,
        connect: { timeout: CONNECT_LIMIT_MS },
      })
      pools.set(origin, pool)
    }
    return pool
  }

  function send(origin: string, options: Dispatcher.DispatchOptions, receiver: Receiver): Control {
    const handler = new Handler(receiver)
    try {
      poolOf(origin).dispatch(options, handler)
    } catch (error) {
      queueMicrotask(() => handler.onResponseError(undefined, error as Error))
    }
    return handler
  }

  return {
    call({ candidate, path, headers, body }, receiver) {
      const { provider } = candidate.deployment
      let place = provider && places.get(provider)
      if (place === undefined) {
        place = toPlace(provider?.baseUrl ?? '')
        if (provider !== undefined) places.set(provider, place)
      }
      return send(place.origin, { method: 'POST', path: `${place.base}${path}`, headers, body }, receiver)
    },
    get: ({ origin, pathname }, headers, receiver) =>
      send(origin, { method: 'GET', path: pathname, headers }, receiver),
    async close() {
      await Promise.all([...pools.values()].map((pool) => pool.destroy()))
    },
  }
}

/** Where a provider is. */
interface Place {
  readonly origin: string
  /** Path before that of an operation; '' for none. */
  readonly base: string
}

function toPlace(baseUrl: string): Place {
  const { origin, pathname } = new URL(baseUrl)
  return { origin, base: pathname === '/' ? '' : pathname }
}

/** Why a call was ended by us: never shown, undici wants an Error. */
const ABORTED = new Error('aborted by sluice')

class Handler implements Dispatcher.DispatchHandler, Control {
  readonly #receiver: Receiver
  #controller: Dispatcher.DispatchController | undefined
  #over = false
  #paused = false

  constructor(receiver: Receiver) {
    this.#receiver = receiver
  }

  abort(): void {
    if (this.#over) return
    this.#over = true
    // While the request waits for its connection undici gives no hand to stop it; onRequestStart does.
    this.#controller?.abort(ABORTED)
  }

  pause(): void {
    this.#paused = true
    this.#controller?.pause()
  }

  /**
   * Not at once: undici fails when a parser is let go from inside the callback of any parser, and Node may tell an
   * answer that it has drained from inside the write of another one, which happens in such a callback.
   */
  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    queueMicrotask(() => {
      if (!this.#paused) this.#controller?.resume()
    })
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#over) controller.abort(ABORTED)
    else this.#receiver.started()
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    if (this.#over || status < 200) return
    this.#receiver.head(status, (name) => {
      const value = headers[name]
      return Array.isArray(value) ? value[0] : value
    })
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    // A parser that goes on after a pause begins with nothing; whoever paused on that would never get further.
    if (!this.#over && chunk.length > 0) this.#receiver.data(chunk)
  }

  onResponseEnd(): void {
    if (this.#over) return
    this.#over = true
    this.#receiver.end()
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    if (this.#over) return
    this.#over = true
    this.#receiver.failed(error)
  }
}
