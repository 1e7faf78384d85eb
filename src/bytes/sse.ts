// Cuts a byte stream into server-sent events and keeps each one's own bytes, so that it can be relayed unchanged.
// Knows bytes, nothing of models. Rules: WHATWG HTML, "Server-sent events", parsing an event stream.

import type { Frame } from '../types.ts'

/** A frame grew beyond the bound. */
export class FrameTooLarge extends Error {
  override readonly name = 'FrameTooLarge'
}

/** Cuts chunks into frames; `push` may be called with pieces cut anywhere, inside characters too. */
export interface FrameSplitter {
  /** Frames completed by this chunk. @throws FrameTooLarge */
  push(chunk: Buffer): Frame[]
  /** What is left at the end of the stream: a last event whose blank line is missing, or undefined. */
  rest(): Frame | undefined
}

const LF = 0x0a
const CR = 0x0d

/** The largest event: images and tool output come in one. */
export const MAX_FRAME_BYTES = 8 * 1024 * 1024

export function createFrameSplitter(maxFrameBytes = MAX_FRAME_BYTES): FrameSplitter {
  let held: Buffer[] = []
  let heldBytes = 0
  // Where in a line the last byte left us.
  let lineIsEmpty = true
  let afterCr = false
  // A CR has ended the frame; an LF right behind it still belongs to it.
  let endAfterCr = false
  let first = true

  function take(chunk: Buffer, from: number, to: number): Frame {
    let bytes = chunk.subarray(from, to)
    if (heldBytes > 0) {
      held.push(bytes)
      bytes = Buffer.concat(held, heldBytes + bytes.length)
      held = []
      heldBytes = 0
    }
    const frame = readFrame(bytes, first)
    first = false
    return frame
  }

  return {
    push(chunk) {
      const frames: Frame[] = []
      let from = 0
      for (let at = 0; at < chunk.length; at += 1) {
        const byte = chunk[at]
        if (endAfterCr) {
          endAfterCr = false
          const end = byte === LF ? at + 1 : at
          frames.push(take(chunk, from, end))
          from = end
          lineIsEmpty = true
          afterCr = false
          if (byte === LF) continue
        }
        if (byte === LF) {
          if (afterCr) afterCr = false
          else if (lineIsEmpty) {
            frames.push(take(chunk, from, at + 1))
            from = at + 1
          } else lineIsEmpty = true
        } else if (byte === CR) {
          if (lineIsEmpty) endAfterCr = true
          else lineIsEmpty = true
          afterCr = true
        } else {
          lineIsEmpty = false
          afterCr = false
        }
      }
      if (from < chunk.length) {
        held.push(from === 0 ? chunk : chunk.subarray(from))
        heldBytes += chunk.length - from
        if (heldBytes > maxFrameBytes) throw new FrameTooLarge(`event of more than ${maxFrameBytes} bytes`)
      }
      return frames
    },
    rest() {
      if (heldBytes === 0) return undefined
      const frame = take(Buffer.alloc(0), 0, 0)
      return frame.bytes.length > 0 ? frame : undefined
    },
  }
}

function readFrame(bytes: Buffer, first: boolean): Frame {
  // A stream may open with a byte order mark, which is not part of the first line.
  const start = first && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0
  // The usual shape, `data: …\n\n`, is read without splitting lines.
  if (isData(bytes, start)) {
    const end = lineEnd(bytes, start)
    if (isBlankFrom(bytes, end)) return { bytes, data: value(bytes, start + 5, end), event: undefined }
  }
  let data: string | undefined
  let event: string | undefined
  for (let at = start; at < bytes.length; ) {
    const end = lineEnd(bytes, at)
    const line = bytes.toString('utf8', at, end)
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const text = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'data') data = data === undefined ? text : `${data}\n${text}`
    else if (field === 'event') event = text
    at = bytes[end] === CR && bytes[end + 1] === LF ? end + 2 : end + 1
  }
  return { bytes, data, event }
}

function isData(bytes: Buffer, at: number): boolean {
  return (
    bytes[at] === 0x64 &&
    bytes[at + 1] === 0x61 &&
    bytes[at + 2] === 0x74 &&
    bytes[at + 3] === 0x61 &&
    bytes[at + 4] === 0x3a
  )
}

function value(bytes: Buffer, from: number, to: number): string {
  return bytes.toString('utf8', bytes[from] === 0x20 ? from + 1 : from, to)
}

function lineEnd(bytes: Buffer, from: number): number {
  let at = from
  while (at < bytes.length && bytes[at] !== LF && bytes[at] !== CR) at += 1
  return at
}

function isBlankFrom(bytes: Buffer, from: number): boolean {
  for (let at = from; at < bytes.length; at += 1) if (bytes[at] !== LF && bytes[at] !== CR) return false
  return true
}
