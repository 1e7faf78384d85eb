// Writes the answer to the caller: whole, streamed, or an error. Knows HTTP, nothing of models. Everything that
// leaves goes through here, so that the headers are the same everywhere and an error can come at any moment.

import type { ServerResponse } from 'node:http'
import { withoutBearer } from '../config/bearer.ts'
import { GatewayError } from '../errors.ts'
import type { ClientSide } from '../formats/format.ts'
import type { Reply } from '../types.ts'
import { type Scrub, toErrorAnswer, toErrorEvent } from './error-body.ts'

/** A reply as the front door sees it. */
export interface OwnReply extends Reply {
  /** Every byte of the answer has been written, if not yet sent. */
  readonly written: boolean
  /** The answer has said that it is the last one on its connection. */
  readonly isLast: boolean
}

interface Deps {
  readonly requestId: string
  readonly scrub: Scrub
  /** Streamed answers under way. */
  readonly counts: { streams: number }
  /** True while the process drains: connections are not kept. */
  readonly closing: () => boolean
  /** The credential the caller presented: not even they get it back. */
  readonly bearer: () => string | undefined
  /** The format that the caller speaks, as far as is known. */
  readonly client: () => ClientSide
  /** True when the request body has come to its end, so that the connection can be used again. */
  readonly bodyRead: () => boolean
  /** True when what is left of the body is little and on its way. */
  readonly bodySoon: () => boolean
}

/** A whole answer up to this size is handed to the kernel at once. */
const ONE_WRITE_BYTES = 64 * 1024

/** How long, and how much of, an unwanted body is let run out before the connection is cut. */
export const LINGER_MS = 1000
const LINGER_BYTES = 1024 * 1024

const EVENT_STREAM_HEADERS = ['cache-control', 'no-cache', 'x-accel-buffering', 'no'] as const

export function createReply(res: ServerResponse, deps: Deps): OwnReply {
  const scrub: Scrub = (text) => deps.scrub(withoutBearer(text, deps.bearer()))
  const headers: string[] = ['x-request-id', deps.requestId]
  let status = 0
  let streaming = false
  let over = false
  let isLast = false
  /** A body that was given up for its slowness is not going to be here soon. */
  let isLate = false
  /** What an error event must know of those before it: some formats number them. */
  let last: string | undefined
  let remember: ClientSide['remember']

  function head(code: number): void {
    status = code
    const { requestIdHeader } = deps.client()
    if (requestIdHeader !== undefined) headers.push(requestIdHeader, deps.requestId)
    isLast = deps.closing() || !canContinue()
    if (isLast) headers.push('connection', 'close')
    res.writeHead(code, headers)
  }

  function finish(): void {
    over = true
    if (canContinue()) res.end()
    else linger(res)
  }

  /** Whether another request can follow: the front door holds a body that comes soon to its word. */
  function canContinue(): boolean {
    return deps.bodyRead() || (!isLate && deps.bodySoon())
  }

  /** A large body goes out as the caller takes it, so that one who takes nothing can be told from a slow one. */
  function sendInPieces(body: Buffer): void {
    let at = 0
    function more(): void {
      while (at < body.length) {
        const piece = body.subarray(at, at + ONE_WRITE_BYTES)
        at += piece.length
        if (!reply.write(piece)) return
      }
      reply.end()
    }
    res.on('drain', () => reply.onDrain?.())
    reply.onDrain = more
    more()
  }

  const reply: OwnReply = {
    onDrain: undefined,
    get written() {
      return over
    },
    get isLast() {
      return isLast
    },
    get committed() {
      return status !== 0
    },
    get status() {
      return status
    },
    header(name, value) {
      if (status === 0) headers.push(name, toHeaderValue(withoutBearer(value, deps.bearer())))
    },
    send(code, contentType, body) {
      if (status !== 0 || res.destroyed) return
      headers.push('content-type', contentType, 'content-length', String(body.length))
      head(code)
      if (body.length <= ONE_WRITE_BYTES) {
        over = true
        res.end(body)
      } else sendInPieces(body)
    },
    begin(code, contentType) {
      if (status !== 0 || res.destroyed) return
      streaming = true
      remember = deps.client().remember
      headers.push('content-type', contentType, ...EVENT_STREAM_HEADERS)
      head(code)
      res.on('drain', () => reply.onDrain?.())
      deps.counts.streams += 1
      res.on('close', () => {
        deps.counts.streams -= 1
      })
    },
    write(frames) {
      if (over || res.destroyed) return true
      last = remember?.(frames) ?? last
      return res.write(frames)
    },
    end() {
      if (!over && !res.destroyed) finish()
    },
    fail(error) {
      if (over || res.destroyed) return
      if (streaming) {
        res.write(toErrorEvent(error, deps.requestId, scrub, { client: deps.client(), last }))
        finish()
        return
      }
      if (status !== 0) {
        // In the middle of a whole answer nothing can be said any more; a cut connection is not taken for its end.
        over = true
        res.destroy()
        return
      }
      isLate = error instanceof GatewayError && error.code === 'request_timeout'
      const answer = toErrorAnswer(error, deps.requestId, scrub, deps.client())
      headers.push(...answer.headers)
      head(answer.status)
      res.write(answer.body)
      finish()
    },
  }
  return reply
}

/**
 * Ends an answer whose request body is still on its way. Closing at once would make the kernel answer the rest of
 * the body with a reset, which can destroy our answer before it is read (RFC 9112 §9.6); so a bounded rest of it is
 * read and thrown away first.
 */
function linger(res: ServerResponse): void {
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
