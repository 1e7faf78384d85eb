// Reads a request body into one buffer: bounded in size, in time, and over all requests together. A body that is
// not wanted is let run out for a moment, so that the caller gets to read the answer that refuses it.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { GatewayError } from '../errors.ts'
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
  add(watched: Watched): void
  remove(watched: Watched): void
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
  head: Head,
  deps: Deps,
): BodySource {
  const { budget, clock, sweep } = deps
  let held = 0

  function release(): void {
    budget.heldBytes -= held
    held = 0
  }

  function hold(bytes: number, budgetBytes: number): void {
    if (budget.heldBytes + bytes > budgetBytes) {
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
    read({ maxBytes, budgetBytes }) {
      return new Promise((resolve, reject) => {
        checkEncoding(head)
        const { contentLength } = head
        if (contentLength !== undefined && contentLength > maxBytes) throw tooLarge(maxBytes)
        // A named length is booked before the first byte, so that a thousand half-sent bodies count too.
        if (contentLength !== undefined) hold(contentLength, budgetBytes)
        if (head.expect !== undefined) res.writeContinue()

        const chunks: Buffer[] = []
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

        function finish(error: GatewayError | undefined): void {
          sweep.remove(watched)
          req.off('data', onData)
          req.off('end', onEnd)
          req.off('close', onClose)
          if (error === undefined)
            resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, bytes))
          else {
            release()
            reject(error)
          }
        }
        function onData(chunk: Buffer): void {
          bytes += chunk.length
          if (bytes > maxBytes) return finish(tooLarge(maxBytes))
          if (bytes > held) {
            try {
              hold(bytes - held, budgetBytes)
            } catch (error) {
              return finish(error as GatewayError)
            }
          }
          chunks.push(chunk)
        }
        function onEnd(): void {
          finish(undefined)
        }
        function onClose(): void {
          finish(new GatewayError('client_closed', 'The caller went away.'))
        }
        sweep.add(watched)
        req.on('data', onData)
        req.on('end', onEnd)
        req.on('close', onClose)
      })
    },
  }
}

/** `content-type` and `content-encoding` that the gateway can read; an absent type is taken for JSON. */
function checkEncoding(head: Head): void {
  const { contentType, contentEncoding } = head
  if (
    contentType !== undefined &&
    !/^application\/(?:[\w.+-]+\+)?json\s*(?:;\s*charset="?utf-8"?\s*)?$/i.test(contentType)
  ) {
    throw new GatewayError('unsupported_media_type', 'The body must be application/json in UTF-8.')
  }
  if (contentEncoding !== undefined && contentEncoding.toLowerCase() !== 'identity') {
    throw new GatewayError(
      'unsupported_media_type',
      'A compressed request body is not understood; send it as it is.',
    )
  }
}

function tooLarge(maxBytes: number): GatewayError {
  return new GatewayError(
    'request_too_large',
    `The request body is larger than the ${maxBytes} bytes allowed.`,
  )
}
