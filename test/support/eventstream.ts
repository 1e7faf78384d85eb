// Messages of AWS's event stream encoding, written by the vendor's own codec: what Bedrock's streams are made of.

import { EventStreamCodec } from '@smithy/core/event-streams'

const CODEC = new EventStreamCodec(
  (bytes) => (typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString('utf8')),
  (text) => Buffer.from(text, 'utf8'),
)

/** One event of a ConverseStream, with the padding that hides how long it is. */
export function toStreamEvent(type: string, payload: object): Buffer {
  return encode(
    { ':event-type': type, ':content-type': 'application/json', ':message-type': 'event' },
    { ...payload, p: 'abcdefghijklmnopqrstuvwxyz'.slice(0, 3 + (type.length % 20)) },
  )
}

/** An error that the service's model knows. */
export function toStreamException(type: string, payload: object): Buffer {
  return encode(
    { ':exception-type': type, ':content-type': 'application/json', ':message-type': 'exception' },
    payload,
  )
}

/** An error that it does not know, told in the headers alone. */
export function toStreamError(code: string, message: string): Buffer {
  return encode({ ':message-type': 'error', ':error-code': code, ':error-message': message }, undefined)
}

function encode(headers: Readonly<Record<string, string>>, payload: object | undefined): Buffer {
  const body = payload === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(payload))
  const typed = Object.entries(headers).map(([name, value]) => [name, { type: 'string' as const, value }])
  return Buffer.from(CODEC.encode({ headers: Object.fromEntries(typed), body }))
}
