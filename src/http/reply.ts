// Writes the answer to the caller: whole, streamed, or an error. Knows HTTP, nothing of models. Everything that
// leaves goes through here, so that the headers are the same everywhere and an error can come at any moment.

import type { Batch } from '../bytes/batch.ts'
import { withoutBearer } from '../config/bearer.ts'
import { GatewayError } from '../errors.ts'
import type { ClientSide } from '../formats/format.ts'
import type { Reply } from '../types.ts'
import { type Scrub, toErrorAnswer, toErrorEvent } from './error-body.ts'
import type { Outgoing } from './message.ts'

/** A reply as the front door sees it. */
export interface OwnReply extends Reply {
  /** Every byte of the answer has been written, if not yet sent. */
  readonly written: boolean
  /** The answer has said that it is the last one on its connection. */
  readonly isLast: boolean
  /** What was to leave at the end of this turn leaves now. */
  flush(): void
  /** It has left, or its connection has gone. */
  closed(): void
}

/** What a reply asks of its connection when it needs it. */
export interface ReplyDeps {
  /** Replies that have something to send when this turn ends. */
  readonly departures: Batch<OwnReply>
  readonly requestId: string
  readonly scrub: Scrub
  /** Streamed answers under way. */
  readonly counts: { streams: number }
  /** True while the process drains: connections are not kept. */
  readonly closing: () => boolean
  /** The credential the caller presented: not even they get it back. */
  readonly bearer: string | undefined
  /** The format that the caller speaks, as far as is known. */
  readonly client: ClientSide
  /** True when the request body has come to its end, so that the connection can be used again. */
  readonly bodyRead: () => boolean
  /** True when what is left of the body is little and on its way. */
  readonly bodySoon: () => boolean
}

/** A whole answer up to this size is copied behind its head. */
const ONE_PIECE_BYTES = 16 * 1024
/** A whole answer up to this size is handed to the kernel at once. */
const ONE_WRITE_BYTES = 64 * 1024

/** A piece of a stream up to this size leaves together with those of others. */
const TOGETHER_BYTES = 16 * 1024

/** How long, and how much of, an unwanted body is let run out before the connection is cut. */
export const LINGER_MS = 1000
const LINGER_BYTES = 1024 * 1024

const EVENT_STREAM_HEADERS = ['cache-control', 'no-cache', 'x-accel-buffering', 'no'] as const

export function createReply(res: Outgoing, deps: ReplyDeps): OwnReply {
  return new WireReply(res, deps)
}

/** A class, so that a request brings no closures of its own: most of what is asked of a reply it is never asked. */
class WireReply implements OwnReply {
  onDrain: (() => void) | undefined = undefined
  status = 0
  isLast = false
  written = false
  readonly #res: Outgoing
  readonly #deps: ReplyDeps
  readonly #headers: string[]
  #streaming = false
  /** A whole answer that leaves at the end of this turn. */
  #whole: Buffer | undefined = undefined
  #isCorked = false
  /** A body that was given up for its slowness is not going to be here soon. */
  #isLate = false
  /** What an error event must know of those before it: some formats number them. */
  #last: string | undefined = undefined
  #remember: ClientSide['remember'] = undefined

  constructor(res: Outgoing, deps: ReplyDeps) {
    this.#res = res
    this.#deps = deps
    this.#headers = ['x-request-id', deps.requestId]
  }

  get committed(): boolean {
    return this.status !== 0
  }

  header(name: string, value: string): void {
    if (this.status === 0) this.#headers.push(name, toHeaderValue(withoutBearer(value, this.#deps.bearer)))
  }

  send(code: number, contentType: string, body: Buffer): void {
    if (this.status !== 0 || this.#res.destroyed) return
    this.#headers.push('content-type', contentType, 'content-length', String(body.length))
    this.#head(code)
    if (body.length <= ONE_WRITE_BYTES) {
      this.written = true
      this.#whole = body
      this.#deps.departures.add(this)
    } else this.#sendInPieces(body)
  }

  flush(): void {
    if (this.#isCorked) {
      this.#isCorked = false
      this.#res.socket?.uncork()
    }
    const body = this.#whole
    if (body === undefined) return
    this.#whole = undefined
    if (this.#res.destroyed) return
    // Behind a head that is text, text leaves with it in one piece; these are the same bytes.
    if (body.length <= ONE_PIECE_BYTES) this.#res.end(body.toString('latin1'), 'latin1')
    else this.#res.end(body)
  }

  begin(code: number, contentType: string): void {
    if (this.status !== 0 || this.#res.destroyed) return
    const { counts } = this.#deps
    this.#streaming = true
    this.#remember = this.#deps.client.remember
    this.#headers.push('content-type', contentType, ...EVENT_STREAM_HEADERS)
    this.#head(code)
    this.#res.on('drain', onDrain)
    counts.streams += 1
  }

  write(frames: Buffer): boolean {
    if (this.written || this.#res.destroyed) return true
    if (this.#remember !== undefined) this.#last = this.#remember(frames) ?? this.#last
    const isCorking = frames.length <= TOGETHER_BYTES && this.#cork()
    const isTaken = this.#res.write(frames)
    if (isCorking) this.#deps.departures.add(this)
    // Nobody is waited for while there is this much.
    if (!isTaken) this.flush()
    return isTaken
  }

  end(): void {
    if (!this.written && !this.#res.destroyed) this.#finish()
  }

  fail(error: unknown): void {
    if (this.written || this.#res.destroyed) return
    const { requestId } = this.#deps
    const scrub: Scrub = (text) => this.#deps.scrub(withoutBearer(text, this.#deps.bearer))
    const client = this.#deps.client
    if (this.#streaming) {
      this.#res.write(toErrorEvent(error, requestId, scrub, { client, last: this.#last }))
      this.#finish()
      return
    }
    if (this.status !== 0) {
      // In the middle of a whole answer nothing can be said any more; a cut connection is not taken for its end.
      this.written = true
      this.#res.destroy()
      return
    }
    this.#isLate = error instanceof GatewayError && error.code === 'request_timeout'
    const answer = toErrorAnswer(error, requestId, scrub, client)
    this.#headers.push(...answer.headers)
    this.#head(answer.status)
    this.#res.write(answer.body)
    this.#finish()
  }

  closed(): void {
    if (this.#streaming) this.#deps.counts.streams -= 1
  }

  #head(code: number): void {
    this.status = code
    const { requestIdHeader } = this.#deps.client
    if (requestIdHeader !== undefined) this.#headers.push(requestIdHeader, this.#deps.requestId)
    this.isLast = this.#deps.closing() || !this.#canContinue()
    if (this.isLast) this.#headers.push('connection', 'close')
    this.#res.writeHead(code, this.#headers)
  }

  /** Holds back what is written until it is flushed; false where it is held back already. */
  #cork(): boolean {
    const { socket } = this.#res
    // Behind another answer (pipelining) there is none yet.
    if (this.#isCorked || socket === null) return false
    this.#isCorked = true
    socket.cork()
    return true
  }

  #finish(): void {
    this.written = true
    if (this.#canContinue()) this.#res.end()
    else linger(this.#res)
  }

  /** Whether another request can follow: the front door holds a body that comes soon to its word. */
  #canContinue(): boolean {
    return this.#deps.bodyRead() || (!this.#isLate && this.#deps.bodySoon())
  }

  /** A large body goes out as the caller takes it, so that one who takes nothing can be told from a slow one. */
  #sendInPieces(body: Buffer): void {
    let at = 0
    const more = (): void => {
      while (at < body.length) {
        const piece = body.subarray(at, at + ONE_WRITE_BYTES)
        at += piece.length
        if (!this.write(piece)) return
      }
      this.end()
    }
    this.#res.on('drain', onDrain)
    this.onDrain = more
    more()
  }
}

function onDrain(this: Outgoing): void {
  this.keeper?.drained()
}

/**
 * Ends an answer whose request body is still on its way. Closing at once would make the kernel answer the rest of
 * the body with a reset, which can destroy our answer before it is read (RFC 9112 §9.6); so a bounded rest of it is
 * read and thrown away first.
 */
function linger(res: Outgoing): void {
  const { req } = res
  let bytes = 0
  const timer = setTimeout(close, LINGER_MS)
  function close(): void {
    clearTimeout(timer)
    req.off('data', onData)
    req.off('end', close)
    if (!res.destroyed) res.end()
  }
  function onData(chunk: Buffer): void {
    bytes += chunk.length
    if (bytes > LINGER_BYTES) close()
  }
  req.on('data', onData)
  req.on('end', close)
  res.on('close', close)
  if (req.readableEnded) close()
}

/** Header values are visible ASCII: anything else (a model's name) is percent-encoded, so that no line can be broken. */
function toHeaderValue(value: string): string {
  return /^[\x20-\x7e]*$/.test(value) ? value : encodeURI(value.toWellFormed())
}
