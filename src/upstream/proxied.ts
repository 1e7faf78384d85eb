// Calls through a proxy (CONNECT), by undici, which is loaded with the first of them: whoever calls providers directly does
// without it.

import type { Dispatcher } from 'undici'
import { createLater } from '../bytes/later.ts'
import { CONNECT_LIMIT_MS } from './http1/connection.ts'
import type { Control, Receiver, Way } from './kind.ts'

const KEEP_ALIVE_MS = 30_000
const LONGEST_KEEP_ALIVE_MS = 300_000

/** The way to an origin through the proxy that stands at `proxy`. */
export function createProxied(origin: string, proxy: string): Way {
  let agent: Dispatcher | undefined
  let isClosed = false
  const later = createLater<[Dispatcher.DispatchOptions, Handler]>(
    async () => {
      const { Pool, ProxyAgent } = await import('undici')
      const through = new ProxyAgent({
        uri: proxy,
        // Its operator is to see where it goes and nothing more.
        proxyTunnel: true,
        connectTimeout: CONNECT_LIMIT_MS,
        connections: null,
        pipelining: 1,
        // A connection for each call, as without a proxy: where HTTP/2 may be, all wait for the first to find out.
        allowH2: false,
        headersTimeout: 0,
        bodyTimeout: 0,
        keepAliveTimeout: KEEP_ALIVE_MS,
        keepAliveMaxTimeout: LONGEST_KEEP_ALIVE_MS,
        clientFactory: (place, options) =>
          new Pool(place, { ...options, allowH2: false, headersTimeout: CONNECT_LIMIT_MS }),
      })
      agent = through
      return (options, handler) => {
        if (handler.isOver) return
        if (isClosed) return handler.onResponseError(undefined, new Error('closed'))
        try {
          through.dispatch(options, handler)
        } catch (error) {
          handler.onResponseError(undefined, error as Error)
        }
      }
    },
    (error, _options, handler) => handler.onResponseError(undefined, error as Error),
  )
  return {
    send({ method, path, headers, body }, receiver) {
      const handler = new Handler(receiver)
      // What cannot be sent is told of, but never from inside of this.
      queueMicrotask(() => later.call({ origin, method, path, headers: [...headers], body }, handler))
      return handler
    },
    tick() {},
    async close() {
      isClosed = true
      await agent?.destroy()
    },
  }
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

  /** Nobody waits for it any more. */
  get isOver(): boolean {
    return this.#over
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
