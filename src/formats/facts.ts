// What watchers of every format say in the same words: what an event tells, what is no answer, and how much text is how
// many tokens.

import type { EventFacts, Reason, Usage } from '../types.ts'
import type { StreamWatch, WholeFacts } from './format.ts'

export const NOTHING: EventFacts = {
  content: false,
  done: false,
  usageOnly: false,
  error: undefined,
  malformed: false,
}
export const CONTENT: EventFacts = { ...NOTHING, content: true }
export const DONE: EventFacts = { ...NOTHING, done: true }
export const USAGE_ONLY: EventFacts = { ...NOTHING, usageOnly: true }
export const MALFORMED: EventFacts = { ...NOTHING, malformed: true }

export function noAnswer(failure: Reason, error?: string): WholeFacts {
  return { usage: undefined, countedTokens: 0, failure, error }
}

/** A watch by what tells it. */
interface Watching extends Pick<StreamWatch, 'look'> {
  finished(): boolean
  finishedChoices(): number
  usage(): Usage | undefined
  countedTokens(): number
}

/** A watch of functions. */
export function toWatch(watching: Watching): StreamWatch {
  return new Watch(watching)
}

/** A class, for its getters: those of an object literal outlive it in V8, with all that they close over. */
class Watch implements StreamWatch {
  readonly look: StreamWatch['look']
  readonly #watching: Watching

  constructor(watching: Watching) {
    this.look = watching.look
    this.#watching = watching
  }

  get finished(): boolean {
    return this.#watching.finished()
  }

  get finishedChoices(): number {
    return this.#watching.finishedChoices()
  }

  get usage(): Usage | undefined {
    return this.#watching.usage()
  }

  get countedTokens(): number {
    return this.#watching.countedTokens()
  }
}

export interface Choices {
  /** That a choice has said something, or given its finish reason. */
  see(index: number, hasEnded: boolean): void
  /** Every choice that began has given its reason. */
  finished(): boolean
  finishedChoices(): number
}

/** More than anybody asks for: a stream with more of them never ends well. */
const MOST_CHOICES = 1024

/** Which answers of a stream are under way and which have ended, in whatever order they come. */
export function createChoices(): Choices {
  const open = new Set<number>()
  const ended = new Set<number>()
  let isTooMany = false
  return {
    see(index, hasEnded) {
      isTooMany ||= open.size + ended.size >= MOST_CHOICES && !open.has(index) && !ended.has(index)
      if (isTooMany) return
      if (hasEnded) {
        ended.add(index)
        open.delete(index)
      } else if (!ended.has(index)) open.add(index)
    },
    finished: () => ended.size > 0 && open.size === 0 && !isTooMany,
    finishedChoices: () => ended.size,
  }
}

/** About four bytes to a token, and never less than one for what is there at all. */
export function textTokens(text: unknown): number {
  if (typeof text === 'string') return text.length === 0 ? 0 : Math.max(1, Math.round(text.length / 4))
  // Mistral streams its thinking as content parts.
  if (Array.isArray(text)) return text.length
  return 0
}

/** Of a value that is written as JSON. One that no stack can hold is something all the same; its reader will say so. */
export function jsonTokens(value: unknown): number {
  try {
    return Math.max(1, textTokens(JSON.stringify(value)))
  } catch {
    return 1
  }
}

/** Most calls of one answer: what is kept of each, and looked through for each piece, is bounded by it. */
export const MOST_CALLS = 1024

/** A moment in whole Unix seconds; undefined for what is none, as are milliseconds. */
export function secondsOf(value: unknown): number | undefined {
  return typeof value === 'number' && value > 0 && value < MOST_SECONDS ? Math.floor(value) : undefined
}

/** In the year 5138. */
const MOST_SECONDS = 1e11

/** More tokens than any window holds: whoever says so cannot count, and must not be able to lock an agent out. */
const MOST_TOKENS = 50_000_000

export function count(value: unknown): number | undefined {
  return typeof value === 'number' && value >= 0 && value <= MOST_TOKENS ? value : undefined
}
