// Reads a request body into one buffer: bounded in size, in time, and over all requests together. A body that is
// not wanted is let run out for a moment, so that the caller gets to read the answer that refuses it.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Seat } from '../bytes/bag.ts'
import { boundaryOf } from '../bytes/multipart-scan.ts'
import { GatewayError, toGatewayError } from '../errors.ts'
import type { BodySource, Clock } from '../types.ts'
import type { Head } from './head.ts'

/** Bytes of all bodies held at once, over the whole process: a reload does not reset it. */
export interface BodyBudget {
  heldBytes: number
}

/** A body that is slower than this after its grace is given up: 1 kB/s, as slow as the slowest honest client. */
const MIN_BYTES_PER_SECOND = 1000
const GRACE_MS = 5000

/** What is looked at once a second, so that no request needs a timer of its own. */
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
  readonly sweep: Sweep
}

/** The body of `req` as a source that can be read once. */
export function createBodySource(
  req: IncomingMessage,
  res: ServerResponse,
  { head, isForm }: { readonly head: Head; readonly isForm: boolean },
  deps: Deps,
): BodySource {
  const { budget, clock, sweep } = deps
  let held = 0
  let stop = (_cause: Error): void => {}

  function release(): void {
    budget.heldBytes -= held
    held = 0
  }

  function hold(bytes: number, budgetBytes: number): void {
    if (budget.heldBytes + bytes > budgetBytes || budget.heldBytes === budgetBytes) {
      throw new GatewayError(
        'overloaded',
        'The gateway holds too many request bodies at once; send this one again later.',
      )
    }
    budget.heldBytes += bytes
    held += bytes
  }

  return {
    release,
    stop: (cause) => stop(cause),
    read({ maxBytes, budgetBytes }) {
      return new Promise((resolve, reject) => {
        // What counts is what is really here: a length that is only announced would let one caller shut out all others.
        hold(0, budgetBytes)
        const { contentLength } = head
        if (contentLength !== undefined && contentLength > maxBytes) throw tooLarge(maxBytes)
        checkEncoding(head, isForm)
        // Behind another answer on the same connection it would be left out of turn: Node puts the head of the final
        // answer in front of it. RFC 9110 §10.1.1 lets a server omit it.
        if (head.expect !== undefined && res.socket !== null) res.writeContinue()

        const pieces = createPieces()
        let bytes = 0
        const startedMs = clock.now()
        const watched: Watched = {
          check(nowMs) {
            const elapsedMs = nowMs - startedMs
            if (elapsedMs > GRACE_MS && bytes < (MIN_BYTES_PER_SECOND * (elapsedMs - GRACE_MS)) / 1000) {
              finish(new GatewayError('request_timeout', 'The request body came too slowly.'))
            }
          },
        }

        function finish(error: Error | undefined): void {
          stop = () => {}
          sweep.remove(seat)
          req.off('data', onData)
          req.off('end', onEnd)
          req.off('close', onClose)
          if (error === undefined) resolve(pieces.join())
          else {
            release()
            reject(error)
          }
        }
        function onData(chunk: Buffer): void {
          bytes += chunk.length
          if (bytes > maxBytes) return finish(tooLarge(maxBytes))
          try {
            hold(chunk.length, budgetBytes)
          } catch (error) {
            return finish(toGatewayError(error))
          }
          pieces.push(chunk)
        }
        function onEnd(): void {
          finish(undefined)
        }
        function onClose(): void {
          finish(new GatewayError('client_closed', 'The caller went away.'))
        }
        stop = finish
        const seat = sweep.add(watched)
        req.on('data', onData)
        req.on('end', onEnd)
        req.on('close', onClose)
      })
    },
  }
}

/** Chunks below this size are copied together: in chunks of one byte a body would take a hundred times its bytes. */
const SMALL_CHUNK_BYTES = 4096
const TRAY_BYTES = 64 * 1024

/** Collects chunks. A body that comes in one is that one, uncopied. */
function createPieces() {
  const pieces: Buffer[] = []
  let tray: Buffer | undefined
  let used = 0
  let bytes = 0

  function emptyTray(): void {
    if (tray === undefined || used === 0) return
    pieces.push(Buffer.from(tray.subarray(0, used)))
    used = 0
  }

  return {
    push(chunk: Buffer): void {
      bytes += chunk.length
      if (chunk.length >= SMALL_CHUNK_BYTES || pieces.length === 0) {
        emptyTray()
        pieces.push(chunk)
        return
      }
      tray ??= Buffer.allocUnsafeSlow(TRAY_BYTES)
      if (used + chunk.length > TRAY_BYTES) emptyTray()
      used += chunk.copy(tray, used)
    },
    join(): Buffer {
      emptyTray()
      return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces, bytes)
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
  } else if (contentType !== undefined && !isJson(contentType)) {
    throw new GatewayError('unsupported_media_type', 'The body must be application/json in UTF-8.')
  }
  if (contentEncoding !== undefined && contentEncoding.toLowerCase() !== 'identity') {
    throw new GatewayError(
      'unsupported_media_type',
      'A compressed request body is not understood; send it as it is.',
    )
  }
}

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
