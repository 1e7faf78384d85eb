// The connections to one origin. Calls last for seconds, so that there are as many as calls under way and nobody waits for
// one: admission is bounded by limits, not here. Whoever was used last is used next, so that the others can go.

import { createBag } from '../../bytes/bag.ts'
import type { Control, Message, Receiver, Way } from '../kind.ts'
import { type Commons, Connection, type Keeper, type Origin } from './connection.ts'

/** Idle connections that are kept. */
export const MAX_IDLE = 1024

/** The way to the origin of a URL. */
export function createPool(url: URL, commons: Commons): Way {
  const idle: Connection[] = []
  const all = createBag<Connection>()
  let now = 0
  let isClosed = false
  const { host } = url
  const keeper: Keeper = {
    origin: toOrigin(url),
    commons,
    session: undefined,
    keep(connection, seconds) {
      connection.usableUntil = now + seconds
      if (seconds > 0 && idle.length < MAX_IDLE) idle.push(connection)
      else connection.drop()
    },
    again(request, receiver) {
      const connection = open()
      connection.begin(request, receiver)
      return connection
    },
    gone({ seat }) {
      if (seat !== undefined) all.remove(seat)
    },
  }
  function open(): Connection {
    const connection = new Connection(keeper)
    connection.seat = all.add(connection)
    return connection
  }
  return {
    send(message, receiver) {
      const head = toHead(message, host)
      if (isClosed || head === undefined)
        return refuse(receiver, isClosed ? 'closed' : 'a header that cannot be sent')
      let connection = idle.pop()
      // Those whose time is over are gone with the second in which it was.
      while (connection?.isOpen === false) connection = idle.pop()
      connection ??= open()
      connection.begin({ head, body: message.body, bodyBytes: message.bodyBytes }, receiver)
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
      isClosed = true
      for (const connection of all.list()) connection.cut()
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
    this.#connection.serving(this.#receiver)?.drop()
  }

  pause(): void {
    this.#connection.serving(this.#receiver)?.pause()
  }

  resume(): void {
    this.#connection.serving(this.#receiver)?.resume()
  }
}

/** Tells that a request cannot be sent, but not from inside of the call that wanted it sent. */
function refuse(receiver: Receiver, why: string): Control {
  let isOver = false
  queueMicrotask(() => {
    if (!isOver) receiver.failed(new Error(why))
  })
  return {
    abort() {
      isOver = true
    },
    pause() {},
    resume() {},
  }
}

function toOrigin({ protocol, hostname, port }: URL): Origin {
  const isTls = protocol === 'https:'
  return {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? (isTls ? 443 : 80) : Number(port),
    isTls,
  }
}

const PATH = /^\/[\x21-\x7e]*$/
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** Nothing that another header, or another request, could be made of. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

/** The request line and all headers; undefined where something stands in them that could end one. */
function toHead({ method, path, headers }: Message, host: string): string | undefined {
  if (!PATH.test(path)) return undefined
  let lines = ''
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string
    const value = headers[i + 1] as string
    if (!NAME.test(name) || !VALUE.test(value)) return undefined
    lines += `${name}: ${value}\r\n`
  }
  return `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\n${lines}\r\n`
}
