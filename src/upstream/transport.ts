// The `http` kind: the only outgoing sockets to providers. One pool of connections per origin, and per proxy on the way to
// it, shared by all who call it and kept over reloads; what comes back goes straight to the receiver. Redirects are answers
// like any other: nobody is sent to where a provider points.

import type { Provider } from '../types.ts'
import { createCommons } from './http1/connection.ts'
import { createPool } from './http1/pool.ts'
import type { Control, Kind, Receiver, Way } from './kind.ts'
import { createProxied } from './proxied.ts'

export interface Transport {
  readonly call: Kind
  /** Asks a provider by GET, on the same connections; the URL is at its origin. Never throws, like a Kind. */
  get(provider: Provider, asked: Asked, receiver: Receiver): Control
  /** Waits for nobody: what is under way is cut, and fails; so does what is sent later. */
  close(): Promise<void>
}

export interface Asked {
  readonly url: URL
  /** Name, value, name, value. */
  readonly headers: readonly string[]
}

export function createTransport(): Transport {
  const commons = createCommons()
  const ways = new Map<string, Way>()
  const places = new WeakMap<Provider, Place>()
  const seconds = setInterval(() => {
    for (const way of ways.values()) way.tick()
  }, 1000)
  seconds.unref()
  let isClosed = false

  function wayTo(url: URL, proxy: string | undefined): Way {
    const name = proxy === undefined ? url.origin : `${url.origin} ${proxy}`
    let way = ways.get(name)
    if (way === undefined) {
      way = proxy === undefined ? createPool(url, commons) : createProxied(url.origin, proxy)
      if (isClosed) void way.close()
      ways.set(name, way)
    }
    return way
  }

  function placeOf(provider: Provider): Place {
    let place = places.get(provider)
    if (place === undefined) {
      const url = new URL(provider.baseUrl)
      place = { way: wayTo(url, provider.proxy), base: url.pathname === '/' ? '' : url.pathname }
      places.set(provider, place)
    }
    return place
  }

  return {
    call({ candidate: { deployment }, path, headers, body, bodyBytes }, receiver) {
      const { provider } = deployment
      if (provider === undefined) throw new TypeError(`${deployment.name} has no provider`)
      const { way, base } = placeOf(provider)
      return way.send({ method: 'POST', path: `${base}${path}`, headers, body, bodyBytes }, receiver)
    },
    get: (provider, { url, headers }, receiver) =>
      placeOf(provider).way.send(
        { method: 'GET', path: url.pathname, headers, body: undefined, bodyBytes: 0 },
        receiver,
      ),
    async close() {
      isClosed = true
      clearInterval(seconds)
      await Promise.all([...ways.values()].map((way) => way.close()))
    },
  }
}

/** Where a provider is. */
interface Place {
  readonly way: Way
  /** Path before that of an operation; '' for none. */
  readonly base: string
}
