// The `http` kind: the only outgoing sockets to providers. One pool of connections per origin, shared by all who call it
// and kept over reloads; what comes back goes straight to the receiver. Redirects are answers like any other: nobody is
// sent to where a provider points.

import type { Provider } from '../types.ts'
import type { Origin, Request } from './http1/connection.ts'
import { createPool, type Pool } from './http1/pool.ts'
import type { Control, Kind, Receiver } from './kind.ts'

export interface Transport {
  readonly call: Kind
  /** Asks by GET on the same connections. Never throws, like a Kind. */
  get(url: URL, headers: readonly string[], receiver: Receiver): Control
  /** Waits for nobody: what is under way is cut. */
  close(): Promise<void>
}

export function createTransport(): Transport {
  const pools = new Map<string, Pool>()
  const places = new WeakMap<Provider, Place>()
  const seconds = setInterval(() => {
    for (const pool of pools.values()) pool.tick()
  }, 1000)
  seconds.unref()

  function toPlace(url: URL): Place {
    const { origin, pathname, host } = url
    let pool = pools.get(origin)
    if (pool === undefined) {
      pool = createPool(toOrigin(url))
      pools.set(origin, pool)
    }
    return { pool, host, base: pathname === '/' ? '' : pathname }
  }

  function send(
    { pool, host }: Pick<Place, 'pool' | 'host'>,
    { start, headers, body }: Sent,
    receiver: Receiver,
  ): Control {
    const head = toHead(start, host, headers)
    if (head !== undefined) return pool.send({ head, body }, receiver)
    let isOver = false
    queueMicrotask(() => {
      if (!isOver) receiver.failed(new Error('a header that cannot be sent'))
    })
    return {
      abort() {
        isOver = true
      },
      pause() {},
      resume() {},
    }
  }

  return {
    call({ candidate, path, headers, body }, receiver) {
      const { provider } = candidate.deployment
      let place = provider && places.get(provider)
      if (place === undefined) {
        place = toPlace(new URL(provider?.baseUrl ?? ''))
        if (provider !== undefined) places.set(provider, place)
      }
      return send(place, { start: `POST ${place.base}${path}`, headers, body }, receiver)
    },
    get: (url, headers, receiver) =>
      send(toPlace(url), { start: `GET ${url.pathname}`, headers, body: undefined }, receiver),
    async close() {
      clearInterval(seconds)
      for (const pool of pools.values()) pool.close()
    },
  }
}

interface Sent {
  /** Method and path. */
  readonly start: string
  /** Name, value, name, value. */
  readonly headers: readonly string[]
  readonly body: Request['body']
}

/** Where a provider is. */
interface Place {
  readonly pool: Pool
  readonly host: string
  /** Path before that of an operation; '' for none. */
  readonly base: string
}

function toOrigin({ protocol, hostname, port }: URL): Origin {
  const isTls = protocol === 'https:'
  return {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? (isTls ? 443 : 80) : Number(port),
    isTls,
  }
}

const START = /^[A-Z]+ [\x21-\x7e]+$/
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** Nothing that another header, or another request, could be made of. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

/** The request line and all headers; undefined where something stands in them that could end one. */
function toHead(start: string, host: string, headers: readonly string[]): string | undefined {
  if (!START.test(start)) return undefined
  let lines = ''
  let named = host
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string
    const value = headers[i + 1] as string
    if (!NAME.test(name) || !VALUE.test(value)) return undefined
    // An operator may know better by which name a server goes.
    if (name === 'host') named = value
    else lines += `${name}: ${value}\r\n`
  }
  return `${start} HTTP/1.1\r\nhost: ${named}\r\n${lines}\r\n`
}
