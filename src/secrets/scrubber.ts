// The last stage before text leaves the process: secrets by value, in every spelling that encoders give them; then
// credentials by their look; then bearers by their digest. Pure: text in, text out, no clock and no I/O.

import { type Automaton, buildAutomaton } from '../bytes/automaton.ts'
import { formsOf } from '../bytes/forms.ts'
import { createBearerWords } from './bearer-words.ts'
import { createPatterns } from './patterns.ts'
import { SHORTEST_SCRUBBED } from './reference.ts'
import { REDACTED, type TextStage } from './text-stage.ts'

export interface ScrubberOptions {
  /** Whether the lower-case hex SHA-256 of a word is a known bearer's. */
  readonly isBearerDigest?: (hex: string) => boolean
}

export interface Scrubber {
  /** The values to find from now on, in all their forms; those under 8 characters are left out. Streams under way follow. */
  setSecrets(values: Iterable<string>): void
  /** The text without secrets; the same string when there is nothing to scrub. */
  text(text: string): string
  /** UTF-8 bytes without secrets; the same Buffer when there is nothing to scrub. */
  bytes(bytes: Buffer): Buffer
  /** For text that comes in pieces, with a secret across them. */
  stream(): ScrubStream
  /** Whether scrubbing would change it. */
  has(text: Buffer | string): boolean
}

export interface ScrubStream {
  /** What may leave now. Held back: the longest tail that could still become a secret, and an unfinished pattern up to 4 KiB or the end of the line. */
  push(chunk: Buffer): Buffer
  /** Lets out what is held, a fragment of 8 or more bytes of a secret redacted. For the exit, but more may follow. */
  flush(): Buffer
  /** Whether something is held, or a redaction that has left may go on. */
  pending(): boolean
}

const NOTHING = Buffer.alloc(0)
const MARK = Buffer.from(REDACTED)
const SCRATCH_BYTES = 16 * 1024

/** A scrubber that knows no values yet: patterns and, if given, digests work at once. */
export function createScrubber(options: ScrubberOptions = {}): Scrubber {
  let automaton: Automaton | undefined
  let known: ReadonlySet<string> = new Set()
  const stages: TextStage[] = [createPatterns()]
  if (options.isBearerDigest !== undefined) stages.push(createBearerWords(options.isBearerDigest))
  // Lines are short and many: one place to encode them instead of an allocation each.
  const scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES)

  function valuesInText(text: string): string {
    if (automaton === undefined) return text
    const fits = text.length * 3 <= SCRATCH_BYTES
    const bytes = fits ? scratch : Buffer.from(text)
    const length = fits ? scratch.write(text) : bytes.length
    const spans = automaton.find(bytes, length)
    return spans === undefined ? text : cut(bytes.subarray(0, length), spans).toString()
  }

  function text(whole: string): string {
    let out = valuesInText(whole)
    for (const stage of stages) out = stage.text(out)
    return out
  }

  function bytes(whole: Buffer): Buffer {
    const spans = automaton?.find(whole, whole.length)
    const valueless = spans === undefined ? whole : cut(whole, spans)
    const view = valueless.toString('latin1')
    let out = view
    for (const stage of stages) out = stage.text(out)
    return out === view ? valueless : Buffer.from(out, 'latin1')
  }

  return {
    setSecrets(values) {
      const next = new Set([...values].filter((value) => value.length >= SHORTEST_SCRUBBED))
      if (next.size === known.size && [...next].every((value) => known.has(value))) return
      known = next
      automaton = buildAutomaton(distinct([...next].flatMap(formsOf)))
    },
    text,
    bytes,
    stream: () => createScrubStream({ automaton: () => automaton, stages, bytes }),
    has: (whole) => (typeof whole === 'string' ? text(whole) !== whole : bytes(whole) !== whole),
  }
}

function distinct(needles: readonly Buffer[]): Buffer[] {
  return [...new Map(needles.map((needle) => [needle.toString('latin1'), needle])).values()]
}

function cut(bytes: Buffer, spans: readonly number[]): Buffer {
  const pieces: Buffer[] = []
  let at = 0
  for (let i = 0; i < spans.length; i += 2) {
    pieces.push(bytes.subarray(at, spans[i]), MARK)
    at = spans[i + 1] ?? bytes.length
  }
  pieces.push(bytes.subarray(at))
  return Buffer.concat(pieces)
}

interface Whole {
  automaton(): Automaton | undefined
  readonly stages: readonly TextStage[]
  bytes(bytes: Buffer): Buffer
}

function createScrubStream(whole: Whole): ScrubStream {
  const values = createValueStream(whole.automaton)
  const stages = whole.stages.map((stage) => stage.stream())
  /** The first bytes of a character whose last ones have not come. */
  let partial = NOTHING
  /** Whether what came last ended its line. */
  let fresh = true

  function pending(): boolean {
    return values.pending() || partial.length > 0 || stages.some((stage) => stage.pending())
  }

  function onward(bytes: Buffer, finish: boolean): Buffer {
    let text = bytes.toString('latin1')
    for (const stage of stages) {
      text = stage.push(text)
      if (finish) text += stage.flush()
    }
    const out =
      partial.length === 0
        ? Buffer.from(text, 'latin1')
        : Buffer.concat([partial, Buffer.from(text, 'latin1')])
    const end = finish ? out.length : endOfWholeCharacters(out)
    partial = out.subarray(end)
    return out.subarray(0, end)
  }

  return {
    push(chunk) {
      // Whole lines with nothing before them, which is nearly all there is: no secret and no pattern crosses a
      // line end. Stages keep their context of what they saw; a line end makes it meaningless.
      const apart = fresh && (whole.automaton()?.linesApart ?? true)
      if (chunk.length > 0) fresh = chunk[chunk.length - 1] === LINE_FEED
      if (apart && fresh && !pending()) {
        for (const stage of stages) stage.push('\n')
        return whole.bytes(chunk)
      }
      return onward(values.push(chunk), false)
    },
    flush: () => onward(values.flush(), true),
    pending,
  }
}

const LINE_FEED = 0x0a

/**
 * The first stage over pieces. Held is what the automaton's state says: the tail that begins a needle. Of the held
 * bytes the first `spent` have had their effect on the output already, as they belong to a redaction that has left
 * (`covered`), or left as they are at a flush; they are kept for the matches they may still take part in.
 */
function createValueStream(automaton: () => Automaton | undefined) {
  let held = NOTHING
  let spent = 0
  let covered = false

  return {
    push(chunk: Buffer): Buffer {
      const finder = automaton()
      const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      const end = bytes.length - (finder?.depth(bytes) ?? 0)
      const spans = finder?.find(bytes, bytes.length) ?? []
      const pieces: Buffer[] = []
      let at = spent
      let redactedUpTo = covered ? spent : 0
      for (let i = 0; i < spans.length; i += 2) {
        const start = spans[i] ?? 0
        const stop = spans[i + 1] ?? 0
        if (start >= end) break
        if (start < redactedUpTo) {
          // One redaction with what has left before.
          redactedUpTo = Math.max(redactedUpTo, stop)
          at = Math.max(at, stop)
          continue
        }
        if (stop <= at) continue
        if (start > at) pieces.push(bytes.subarray(at, start))
        pieces.push(MARK)
        at = Math.max(at, stop)
        redactedUpTo = at
      }
      if (at < end) {
        pieces.push(bytes.subarray(at, end))
        at = end
      }
      held = Buffer.from(bytes.subarray(end))
      spent = at - end
      covered = redactedUpTo > end
      return pieces.length === 1 ? (pieces[0] ?? NOTHING) : Buffer.concat(pieces)
    },

    flush(): Buffer {
      if (spent >= held.length) return NOTHING
      const fragment = held.length >= SHORTEST_SCRUBBED
      const out = !fragment ? held.subarray(spent) : covered ? NOTHING : MARK
      covered = fragment
      spent = held.length
      return out
    },

    pending: () => held.length > 0,
  }
}

/** Where the last character that is not complete begins. */
function endOfWholeCharacters(bytes: Buffer): number {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if (byte < 0x80) break
    if (byte >= 0xc0) {
      const size = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
      return size > back ? bytes.length - back : bytes.length
    }
  }
  return bytes.length
}
