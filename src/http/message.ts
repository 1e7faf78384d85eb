// What Node makes of each request and of its answer, with a place for what is ours of them: listeners are shared by
// all requests and find there whom they serve, and a head is not made into an object that nobody reads.

import { IncomingMessage, ServerResponse } from 'node:http'

/** What is told of the body of a request. */
export interface BodyReader {
  took(chunk: Buffer): void
  ended(): void
}

/** What is told of an answer. */
export interface AnswerKeeper {
  /** It has left, or its connection has gone. */
  closed(): void
  /** The caller can take more. */
  drained(): void
}

export class Incoming extends IncomingMessage {
  /** Who reads the body; nobody yet, or no more. */
  reader: BodyReader | undefined = undefined
  /** The front door has it. */
  isTaken = false
}

export class Outgoing<Request extends IncomingMessage = IncomingMessage> extends ServerResponse<Request> {
  keeper: AnswerKeeper | undefined = undefined
}

const NO_HEADERS: IncomingMessage['headers'] = Object.freeze({})

// To learn whether a request of HTTP/1.1 expects something, Node asks for the object of all headers: a tenth of what
// a request takes in `node:http`, and read by nobody where the front door has `rawHeaders`. Until that has taken the
// request, one that expects nothing has none.
Object.defineProperty(Incoming.prototype, 'headers', {
  configurable: true,
  get(this: Incoming) {
    const isAsked = this.isTaken || this.httpVersion !== '1.1' || expects(this.rawHeaders)
    return isAsked ? Reflect.get(IncomingMessage.prototype, 'headers', this) : NO_HEADERS
  },
  set(this: Incoming, headers: unknown) {
    Reflect.set(IncomingMessage.prototype, 'headers', headers, this)
  },
})

const EXPECT = 'expect'

function expects(rawHeaders: readonly string[]): boolean {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string
    if (name.length === EXPECT.length && name.toLowerCase() === EXPECT) return true
  }
  return false
}
