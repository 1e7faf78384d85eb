// The `http` kind: the only outgoing sockets to providers. One pool of connections per origin, shared by all who call it
// and kept over reloads, or a proxy; what comes back goes straight to the receiver. Redirects are answers like any other: nobody is
// sent to where a provider points.

import type { Provider } from '../types.ts'
import { createCommons } from './http1/connection.ts'
import { createPool } from './http1/pool.ts'
import type { Control, Kind, Receiver, Way } from './kind.ts'
import { createProxied, type Target } from './proxied.ts'

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
  const pools = new Map<string, Way>()
  const proxied = new Map<string, Way<Target>>()
  const places = new WeakMap<Provider, Place>()
  const seconds = setInterval(() => {
    for (const pool of pools.values()) pool.tick()
  }, 1000)
  seconds.unref()
  let isClosed = false

  function toPool(url: URL): Way {
    const pool = createPool(url, commons)
    if (isClosed) pool.close()
    return pool
  }

  function toProxied(proxy: string): Way<Target> {
    const way = createProxied(proxy)
    if (isClosed) void way.close()
    return way
  }

  function placeOf(provider: Provider): Place {
    let place = places.get(provider)
    if (place === undefined) {
      const url = new URL(provider.baseUrl)
      const { origin, pathname } = url
      const base = pathname === '/' ? '' : pathname
      const way =
        provider.proxy === undefined
          ? kept(pools, origin, () => toPool(url))
          : through(origin, kept(proxied, provider.proxy, toProxied))
      place = { way, base }
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
      await Promise.all([...pools.values(), ...proxied.values()].map((way) => way.close()))
    },
  }
}

/** Where a provider is. */
interface Place {
  readonly way: Pick<Way, 'send'>
  /** Path before that of an operation; '' for none. */
  readonly base: string
}

function through(origin: string, way: Way<Target>): Place['way'] {
  return {
    send: ({ method, path, headers, body, bodyBytes }, receiver) =>
      way.send({ origin, method, path, headers, body, bodyBytes }, receiver),
  }
}

/** What stands there, made where nothing does. */
function kept<T>(all: Map<string, T>, name: string, make: (name: string) => T): T {
  let one = all.get(name)
  if (one === undefined) {
    one = make(name)
    all.set(name, one)
  }
  return one
}
