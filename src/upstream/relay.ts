// What the caller gets of a stream, and what the stream means for its attempt. Pure: bytes in, bytes and a verdict
// out. Holds back everything before the first content; after it frames pass as they came, but for the stages, or as what
// they are translated to.

import { createFrameSplitter, FrameTooLarge, MAX_FRAME_BYTES } from '../bytes/sse.ts'
import type { Splitter, StreamWatch } from '../formats/format.ts'
import type { Listener, Splice } from '../formats/resume.ts'
import type { EventFacts, Frame, Reason, Stage } from '../types.ts'
import { type Translator, Untranslatable } from './wire.ts'

export interface Relay {
  /** Takes a chunk cut anywhere. Nothing may be pushed after an `ended`. */
  push(chunk: Buffer): Relayed
  /** The upstream closed in good order: whether that was the end of an answer. */
  end(): Relayed
  /** Nothing is missing but the end marker. */
  readonly complete: boolean
  /** How many of its events have said something, whether or not that is for the caller. */
  readonly heard: number
}

export interface Relayed {
  /** Whole frames for the caller, in order; empty while everything is held back. */
  readonly out: readonly Buffer[]
  readonly ended: End | undefined
}

export type End =
  | { readonly kind: 'complete' }
  /** It says something else than the answer that it was to go on with. */
  | { readonly kind: 'apart' }
  /** `told` is the text of the event that told an error. */
  | { readonly kind: 'failed'; readonly reason: Reason; readonly told: string | undefined }

/**
 * Most of a stream that is held back before its first content: Responses says the instructions and the tools of its
 * request twice before it begins, and a request may be as large as an event.
 */
const MAX_PREAMBLE_BYTES = 2 * MAX_FRAME_BYTES

const COMPLETE: End = { kind: 'complete' }
const NO_FACTS: EventFacts = {
  content: false,
  done: false,
  usageOnly: false,
  error: undefined,
  malformed: false,
}
const BLANK_LINE = Buffer.from('\n\n')
const TWO_RETURNS = Buffer.from('\r\r')

interface Setting {
  /** Reads the events; what it knows at the end is the caller's to settle on. */
  readonly watch: StreamWatch
  /** Another watch of the same format, for a look that must not count. */
  readonly glance: () => StreamWatch
  readonly stages: readonly Stage[]
  /** Where a stream is not server-sent events. */
  readonly splitter?: Splitter | undefined
  /** Puts each event into the caller's format, before the stages. */
  readonly translator?: Pick<Translator, 'change' | 'hasSpoken'> | undefined
  /** How many choices were asked for; they may come one behind the other. */
  readonly choices: number
  /** Hears what passes, where somebody else may have to go on with it. */
  readonly listener?: Listener | undefined
  /** Where this stream goes on with another: finds where it follows. */
  readonly splice?: Splice | undefined
}

export function createRelay(setting: Setting): Relay {
  return new WatchedRelay(setting)
}

/** A class, for its getters: see `toWatch`. */
class WatchedRelay implements Relay {
  heard = 0
  readonly #setting: Setting
  readonly #splitter: Splitter
  #begun = false
  #preamble: Buffer[] = []
  #preambleBytes = 0

  constructor(setting: Setting) {
    this.#setting = setting
    this.#splitter = setting.splitter ?? createFrameSplitter()
  }

  get complete(): boolean {
    const { watch, choices } = this.#setting
    return watch.finished && watch.finishedChoices >= choices
  }

  push(chunk: Buffer): Relayed {
    try {
      return this.#take(this.#splitter.push(chunk))
    } catch (error) {
      if (!(error instanceof FrameTooLarge || error instanceof Untranslatable)) throw error
      return { out: [], ended: failed('malformed') }
    }
  }

  end(): Relayed {
    const relayed = this.#takeLast()
    if (relayed.ended !== undefined) return relayed
    if (!this.#begun) return { out: [], ended: failed('empty') }
    return { out: relayed.out, ended: this.complete ? COMPLETE : failed('incomplete') }
  }

  #take(frames: readonly Frame[]): Relayed {
    const { watch, splice, listener, translator } = this.#setting
    const out: Buffer[] = []
    for (const frame of frames) {
      // Comments and lone fields tell nothing; an event with empty data is none (WHATWG: it is not dispatched).
      const facts = frame.data === undefined || frame.data === '' ? NO_FACTS : watch.look(frame.data)
      const failure = this.#failureOf(facts, frame.data)
      if (failure !== undefined) return { out, ended: failure }
      if (facts.content) this.heard += 1
      const next = this.#begun || splice === undefined ? frame : splice.take(frame, facts)
      if (next === 'held') continue
      if (next === 'apart') return { out, ended: { kind: 'apart' } }
      const bytes = this.#throughStages(next, facts)
      if (bytes !== undefined && next.data !== undefined) listener?.passed(next.data, bytes !== next.bytes)
      // An event that says something here may say nothing in the caller's format: it is still nobody's answer.
      const speaks = facts.content && (translator === undefined || translator.hasSpoken())
      if (!this.#begun && !speaks) {
        if (bytes === undefined) continue
        this.#preamble.push(bytes)
        this.#preambleBytes += bytes.length
        if (this.#preambleBytes > MAX_PREAMBLE_BYTES) return { out, ended: failed('malformed') }
        continue
      }
      if (!this.#begun) {
        this.#begun = true
        out.push(...this.#preamble)
        this.#preamble = []
      }
      // What is translated may come to nothing yet: it has begun all the same.
      if (bytes !== undefined) out.push(bytes)
      if (facts.done) return { out, ended: COMPLETE }
    }
    return { out, ended: undefined }
  }

  /** Why a stream ends on this event without an answer. */
  #failureOf(facts: EventFacts, data: string | undefined): End | undefined {
    const { watch, translator } = this.#setting
    if (facts.error !== undefined) return failed('in_band', data)
    // Between equal formats a malformed event is the caller's to read, but never the first thing an answer says.
    if (facts.malformed && (!this.#begun || translator !== undefined)) return failed('malformed')
    // An end marker without a finish reason is not passed on: it would make half an answer look whole.
    if (facts.done && !watch.finished) return failed(this.#begun ? 'incomplete' : 'empty')
    return undefined
  }

  #throughStages(frame: Frame, facts: EventFacts): Buffer | undefined {
    const { translator, stages } = this.#setting
    const whole = translator === undefined ? frame.bytes : translate(frame, translator)
    if (whole === undefined) return undefined
    let bytes = whole
    for (const stage of stages) {
      const seen = bytes === frame.bytes ? frame : { ...frame, bytes }
      if (stage.kind === 'observe') {
        stage.see(seen, facts)
        continue
      }
      const changed = stage.change(seen, facts)
      if (changed === undefined) return undefined
      bytes = changed
    }
    return bytes
  }

  #takeLast(): Relayed {
    const last = this.#lastFrame()
    if (last === undefined) return { out: [], ended: undefined }
    try {
      return this.#take([last])
    } catch (error) {
      if (!(error instanceof Untranslatable)) throw error
      return { out: [], ended: failed('malformed') }
    }
  }

  /** A last event without its blank line is whole when it can be read; else it is where the stream was cut. */
  #lastFrame(): Frame | undefined {
    const rest = this.#splitter.rest()
    if (rest?.data === undefined || this.#setting.glance().look(rest.data).malformed) return undefined
    // Where lines end with CR alone, the blank line is there: only what follows could have told.
    const isClosed = rest.bytes.subarray(-2).equals(TWO_RETURNS)
    return isClosed ? rest : { ...rest, bytes: Buffer.concat([rest.bytes, BLANK_LINE]) }
  }
}

/** An event without data says nothing to anybody in another format. */
function translate(frame: Frame, { change }: Pick<Translator, 'change'>): Buffer | undefined {
  return frame.data === undefined || frame.data === '' ? undefined : change(frame)
}

function failed(reason: Reason, told?: string): End {
  return { kind: 'failed', reason, told }
}
