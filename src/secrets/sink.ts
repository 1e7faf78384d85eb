// Where text leaves the process: a destination for the logger and a hand on stdout and stderr, both through the
// scrubber. Knows streams, knows nothing of what is secret. The streams are passed in.

import type { Scrubber } from './scrubber.ts'

/** What pino needs of a destination. */
export interface ScrubbedWritable {
  write(line: string): void
  /** Lets out what is held of an unfinished line; pino calls it after a fatal line. */
  flushSync(): void
}

/** A log destination that scrubs before it writes. Whole lines are scrubbed at once; what comes in pieces is joined. */
export function createScrubbedWritable(
  write: (text: Buffer | string) => void,
  scrubber: Scrubber,
): ScrubbedWritable {
  const stream = scrubber.stream()
  let fresh = true
  return {
    write(line) {
      const whole = line.endsWith('\n')
      if (fresh && whole) {
        write(scrubber.text(line))
        return
      }
      emit(stream.push(Buffer.from(line)), write)
      fresh = whole && !stream.pending()
    },
    flushSync: () => emit(stream.flush(), write),
  }
}

function emit(bytes: Buffer, write: (text: Buffer | string) => void): void {
  if (bytes.length > 0) write(bytes)
}

/** The part of a Writable that can be taken over. */
export interface PatchableStream {
  write: NodeJS.WritableStream['write']
  end?: NodeJS.WritableStream['end']
}

export interface PatchedStream {
  /** Writes past the scrubber: for the bearer that is shown once, and nothing else. */
  original(text: string): boolean
  /** Lets out what is held of an unfinished line. */
  flush(): void
  /** Takes the hand off again, after a flush. */
  restore(): void
}

type Callback = (error?: Error | null) => void

/** Replaces `write` and `end`, so that everything written to the stream, by whomever, is scrubbed. */
export function patchStream(stream: PatchableStream, scrubber: Scrubber): PatchedStream {
  const scrubbed = scrubber.stream()
  const write = stream.write
  const end = stream.end
  const before = Object.getOwnPropertyDescriptors(stream)

  function through(bytes: Buffer, callback: Callback | undefined): boolean {
    if (bytes.length > 0)
      return Reflect.apply(write, stream, callback === undefined ? [bytes] : [bytes, callback])
    // Everything is held back. The caller waits for its callback all the same.
    if (callback !== undefined) queueMicrotask(() => callback())
    return true
  }

  function patched(chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
    const done = toCallback(encoding) ?? toCallback(callback)
    const bytes = toBytes(chunk, encoding)
    // Not writable: the stream's own complaint is the right one.
    if (bytes === undefined) return Reflect.apply(write, stream, [chunk, encoding, callback])
    return through(scrubbed.push(bytes), done)
  }

  function patchedEnd(chunk?: unknown, encoding?: unknown, callback?: unknown): unknown {
    const done = toCallback(chunk) ?? toCallback(encoding) ?? toCallback(callback)
    const bytes = toBytes(chunk, encoding)
    if (bytes !== undefined) through(scrubbed.push(bytes), undefined)
    through(scrubbed.flush(), undefined)
    return end === undefined ? undefined : Reflect.apply(end, stream, done === undefined ? [] : [done])
  }

  define(stream, 'write', patched)
  if (end !== undefined) define(stream, 'end', patchedEnd)

  return {
    original: (text) => Reflect.apply(write, stream, [text]),
    flush: () => void through(scrubbed.flush(), undefined),
    restore() {
      through(scrubbed.flush(), undefined)
      for (const name of ['write', 'end'] as const) {
        const own = before[name]
        if (own === undefined) Reflect.deleteProperty(stream, name)
        else Object.defineProperty(stream, name, own)
      }
    },
  }
}

function define(stream: PatchableStream, name: 'write' | 'end', value: unknown): void {
  Object.defineProperty(stream, name, { value, configurable: true, enumerable: false, writable: true })
}

function toCallback(value: unknown): Callback | undefined {
  return typeof value === 'function' ? (error) => void value(error) : undefined
}

function toBytes(chunk: unknown, encoding: unknown): Buffer | undefined {
  if (typeof chunk === 'string') {
    const known = typeof encoding === 'string' && Buffer.isEncoding(encoding)
    return Buffer.from(chunk, known ? encoding : 'utf8')
  }
  if (chunk instanceof Uint8Array) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
  return undefined
}
