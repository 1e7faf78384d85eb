// Cuts a byte stream into messages of AWS's event stream encoding (`application/vnd.amazon.eventstream`), each with its
// own bytes. Knows bytes, nothing of models. What a message is made of is read by the vendor's own codec, which checks
// both checksums.

import { createRequire } from 'node:module'
import { FrameTooLarge, MAX_FRAME_BYTES } from './sse.ts'

export interface StreamMessage {
  /** The bytes as they came. */
  readonly bytes: Buffer
  /** Headers that are text, which all are that matter here; undefined for a message that cannot be read. */
  readonly headers: ReadonlyMap<string, string> | undefined
  readonly body: Buffer
}

export interface MessageSplitter {
  /** Messages completed by this chunk; behind one that cannot be read nothing more comes. @throws FrameTooLarge */
  push(chunk: Buffer): StreamMessage[]
  /** What is left at the end of the stream: a message that was cut. */
  rest(): Buffer | undefined
}

/** Both lengths and their checksum. */
const PRELUDE_BYTES = 12
const LEAST_BYTES = 16

export function createMessageSplitter(maxBytes = MAX_FRAME_BYTES): MessageSplitter {
  let held: Buffer[] = []
  let heldBytes = 0
  let isBroken = false
  const readMessage = createReader()

  /** The held bytes as one. */
  function join(): Buffer {
    const [first] = held
    if (held.length === 1 && first !== undefined) return first
    const joined = Buffer.concat(held, heldBytes)
    held = [joined]
    return joined
  }

  return {
    push(chunk) {
      if (isBroken || chunk.length === 0) return []
      held.push(chunk)
      heldBytes += chunk.length
      const messages: StreamMessage[] = []
      while (heldBytes >= PRELUDE_BYTES) {
        const front = firstBytes(held) ?? join()
        const length = front.readUInt32BE(0)
        if (length > maxBytes) throw new FrameTooLarge(`event of more than ${maxBytes} bytes`)
        if (length >= LEAST_BYTES && heldBytes < length) break
        const all = join()
        const bytes = length < LEAST_BYTES ? all : all.subarray(0, length)
        const message = readMessage(bytes)
        messages.push(message)
        heldBytes = all.length - bytes.length
        held = heldBytes === 0 ? [] : [all.subarray(bytes.length)]
        if (message.headers !== undefined) continue
        // Where one begins is known from the one before it.
        isBroken = true
        held = []
        heldBytes = 0
      }
      return messages
    },
    rest() {
      return heldBytes === 0 ? undefined : join()
    },
  }
}

/** The first piece, where it holds the length: a large message in many pieces is joined once, at its end. */
function firstBytes([first]: readonly Buffer[]): Buffer | undefined {
  return first !== undefined && first.length >= 4 ? first : undefined
}

const load = createRequire(import.meta.url)

function createReader(): (bytes: Buffer) => StreamMessage {
  // With the first stream that is read: every start would wait for it, and few have such a provider.
  const { EventStreamCodec }: typeof import('@smithy/core/event-streams') = load('@smithy/core/event-streams')
  const codec = new EventStreamCodec(
    (bytes) =>
      typeof bytes === 'string'
        ? bytes
        : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'),
    (text) => Buffer.from(text, 'utf8'),
  )
  return (bytes) => {
    try {
      const { headers, body } = codec.decode(bytes)
      const texts = new Map<string, string>()
      for (const [name, { type, value }] of Object.entries(headers))
        if (type === 'string') texts.set(name, value)
      return { bytes, headers: texts, body: Buffer.from(body.buffer, body.byteOffset, body.byteLength) }
    } catch {
      return { bytes, headers: undefined, body: Buffer.alloc(0) }
    }
  }
}
