// Reads a request body into one buffer: bounded in size, in time, and over all requests together. A body that is
// not wanted is let run out for a moment, so that the caller gets to read the answer that refuses it.

import type { Seat } from '../bytes/bag.ts'
import { boundaryOf } from '../bytes/multipart-scan.ts'
import { GatewayError, toGatewayError } from '../errors.ts'
import type { BodySource, Clock } from '../types.ts'
import type { Head } from './head.ts'
import type { BodyReader, Incoming, Outgoing } from './message.ts'

/** Bytes of all bodies held at once, over the whole process: a reload does not reset it. */
export interface BodyBudget {
  heldBytes: number
}

/** A body that is slower than this after its grace is given up: 1 kB/s, as slow as the slowest honest client. */
const MIN_BYTES_PER_SECOND = 1000
const GRACE_MS = 5000

/** What is looked at once a second, so that nothing needs a timer of its own. */
export interface Sweep {
  /** The seat is for `remove`. */
  add(watched: Watched): Seat<Watched>
  remove(seat: Seat<Watched>): void
}

export interface Watched {
  check(nowMs: number): void
}

interface Deps {
  readonly budget: BodyBudget
  readonly clock: Clock
}

type Bounds = Parameters<BodySource['read']>[0]

const NOTHING = Buffer.alloc(0)
const NO_BOUNDS: Bounds = { maxBytes: 0, budgetBytes: 0 }

/** The body of a request as a source that can be read once: one object, for there is one with each request. */
export class Body implements BodySource, BodyReader, Watched {
  readonly #req: Incoming
  readonly #res: Outgoing
  readonly #head: Head
  readonly #isForm: boolean
  readonly #deps: Deps
  /** Of the budget. */
  #held = 0
  #bytes = 0
  #startedMs = 0
  #bounds = NO_BOUNDS
  /** What has come, as long as it is one chunk: most bodies are, and stay as they came. */
  #chunk: Buffer = NOTHING
  #pieces: Pieces | undefined = undefined
  /** How a `read` that is under way ends. */
  #resolve: ((body: Buffer) => void) | undefined = undefined
  #reject: ((error: Error) => void) | undefined = undefined

  constructor(
    req: Incoming,
    res: Outgoing,
    { head, isForm }: { readonly head: Head; readonly isForm: boolean },
    deps: Deps,
  ) {
    this.#req = req
    this.#res = res
    this.#head = head
    this.#isForm = isForm
    this.#deps = deps
  }

  read(bounds: Bounds): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      // What counts is what is really here: a length that is only announced would let one caller shut out all others.
      this.#bounds = bounds
      this.#hold(0)
      const { contentLength, expect } = this.#head
      if (contentLength !== undefined && contentLength > bounds.maxBytes) throw tooLarge(bounds.maxBytes)
      checkEncoding(this.#head, this.#isForm)
      // Behind another answer on the same connection it would be left out of turn: Node puts the head of the final
      // answer in front of it. RFC 9110 §10.1.1 lets a server omit it.
      if (expect !== undefined && this.#res.socket !== null) this.#res.writeContinue()
      this.#startedMs = this.#deps.clock.now()
      this.#resolve = resolve
      this.#reject = reject
      this.#req.reader = this
      this.#req.on('data', onData)
      this.#req.on('end', onEnd)
    })
  }

  release(): void {
    this.#deps.budget.heldBytes -= this.#held
    this.#held = 0
  }

  stop(cause: Error): void {
    const reject = this.#reject
    if (reject === undefined) return
    this.#finish()
    this.release()
    reject(cause)
  }

  /** The caller has gone. No effect on a body that nobody waits for. */
  gone(): void {
    if (this.#reject !== undefined) this.stop(new GatewayError('client_closed', 'The caller went away.'))
  }

  took(chunk: Buffer): void {
    const { maxBytes } = this.#bounds
    if (this.#bytes + chunk.length > maxBytes) return this.stop(tooLarge(maxBytes))
    try {
      this.#hold(chunk.length)
    } catch (error) {
      return this.stop(toGatewayError(error))
    }
    if (this.#bytes === 0) this.#chunk = chunk
    else {
      this.#pieces ??= createPieces(this.#chunk)
      this.#pieces.push(chunk)
    }
    this.#bytes += chunk.length
  }

  ended(): void {
    const resolve = this.#resolve
    if (resolve === undefined) return
    const body = this.#pieces === undefined ? this.#chunk : this.#pieces.join()
    this.#finish()
    resolve(body)
  }

  check(nowMs: number): void {
    if (this.#reject === undefined) return
    const elapsedMs = nowMs - this.#startedMs
    if (elapsedMs > GRACE_MS && this.#bytes < (MIN_BYTES_PER_SECOND * (elapsedMs - GRACE_MS)) / 1000) {
      this.stop(new GatewayError('request_timeout', 'The request body came too slowly.'))
    }
  }

  #finish(): void {
    this.#resolve = undefined
    this.#reject = undefined
    this.#chunk = NOTHING
    this.#pieces = undefined
    this.#req.reader = undefined
  }

  #hold(bytes: number): void {
    const { budget } = this.#deps
    const { budgetBytes } = this.#bounds
    if (budget.heldBytes + bytes > budgetBytes || budget.heldBytes === budgetBytes) {
      throw new GatewayError(
        'overloaded',
        'The gateway holds too many request bodies at once; send this one again later.',
      )
    }
    budget.heldBytes += bytes
    this.#held += bytes
  }
}

function onData(this: Incoming, chunk: Buffer): void {
  this.reader?.took(chunk)
}

function onEnd(this: Incoming): void {
  this.reader?.ended()
}

/** Chunks below this size are copied together: in chunks of one byte a body would take a hundred times its bytes. */
const SMALL_CHUNK_BYTES = 4096
const TRAY_BYTES = 64 * 1024

interface Pieces {
  push(chunk: Buffer): void
  join(): Buffer
}

/** Collects the chunks that come behind the first. */
function createPieces(first: Buffer): Pieces {
  const pieces = [first]
  let tray: Buffer | undefined
  let used = 0
  let bytes = first.length

  function emptyTray(): void {
    if (tray === undefined || used === 0) return
    pieces.push(Buffer.from(tray.subarray(0, used)))
    used = 0
  }

  return {
    push(chunk) {
      bytes += chunk.length
      if (chunk.length >= SMALL_CHUNK_BYTES) {
        emptyTray()
        pieces.push(chunk)
        return
      }
      tray ??= Buffer.allocUnsafeSlow(TRAY_BYTES)
      if (used + chunk.length > TRAY_BYTES) emptyTray()
      used += chunk.copy(tray, used)
    },
    join() {
      emptyTray()
      return Buffer.concat(pieces, bytes)
    },
  }
}

/** `content-type` and `content-encoding` that the gateway can read; an absent type is taken for JSON. */
function checkEncoding({ contentType, contentEncoding }: Head, isForm: boolean): void {
  if (isForm) {
    if (contentType === undefined || boundaryOf(contentType) === undefined)
      throw new GatewayError(
        'unsupported_media_type',
        'The body must be multipart/form-data with a boundary.',
      )
  } else if (contentType !== undefined && contentType !== JSON_TYPE && !isJson(contentType)) {
    throw new GatewayError('unsupported_media_type', 'The body must be application/json in UTF-8.')
  }
  if (contentEncoding !== undefined && contentEncoding.toLowerCase() !== 'identity') {
    throw new GatewayError(
      'unsupported_media_type',
      'A compressed request body is not understood; send it as it is.',
    )
  }
}

/** As nearly everybody writes it. */
const JSON_TYPE = 'application/json'

/** JSON by its type, whatever parameters it has, as long as they name no other charset. */
function isJson(contentType: string): boolean {
  const [type = '', ...parameters] = contentType.split(';')
  return (
    /^application\/(?:[\w.+-]+\+)?json$/i.test(type.trim()) &&
    parameters.every((one) => !/^\s*charset\s*=/i.test(one) || /=\s*"?utf-?8"?\s*$/i.test(one))
  )
}

function tooLarge(maxBytes: number): GatewayError {
  return new GatewayError(
    'request_too_large',
    `The request body is larger than the ${maxBytes} bytes allowed.`,
  )
}
