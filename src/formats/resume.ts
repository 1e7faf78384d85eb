// How one deployment goes on with the answer of another that broke off (`midStream: resume`): what the caller has read
// is kept, and of the second stream only what follows on it passes. Pure; knows frames and text, nothing of sockets.

import type { EventFacts, Frame } from '../types.ts'
import type { Resuming } from './format.ts'

/** Most text that is remembered for somebody else to go on with, in characters. */
const LONGEST_SAID = 512 * 1024

export interface Listener {
  /** A frame has gone to the caller; `isChanged` where its bytes are not those of the event. */
  passed(data: string, isChanged: boolean): void
  /** All text that the caller has; undefined once there is something that nobody else can go on with. */
  said(): string | undefined
}

/** Remembers what the caller has read. Reasoning is not part of the answer, and not remembered. */
export function createListener({ speech }: Pick<Resuming, 'speech'>): Listener {
  let said: string | undefined = ''
  return {
    passed(data, isChanged) {
      if (said === undefined) return
      const { text, more, ends } = speech(data)
      // Behind its finish reason nothing follows, whatever still goes wrong.
      // What was taken out of an answer (a key) must not go to another provider, nor be compared with what it says.
      said = more || ends || isChanged ? undefined : said + text
      if (said !== undefined && said.length > LONGEST_SAID) said = undefined
    },
    said: () => said,
  }
}

export interface Splice {
  /**
   * Takes a frame of the second stream, until one is given back: the first that follows on what was said, without the
   * part that the caller has. `apart`: it says something else, so that it cannot go on.
   */
  take(frame: Frame, facts: EventFacts): Frame | 'held' | 'apart'
}

/** `said` is what the second stream begins with as well; '' where it goes on by itself. */
export function createSplice(
  { speech, resay, strays }: Pick<Resuming, 'speech' | 'resay' | 'strays'>,
  said: string,
): Splice {
  let at = 0
  return {
    take(frame, facts) {
      if (!facts.content || frame.data === undefined) return 'held'
      if (strays?.(frame.data) === true) return 'apart'
      const { text, more, ends } = speech(frame.data)
      if (text === '') {
        if (!more && !ends) return 'held'
        return at === said.length ? frame : 'apart'
      }
      const rest = said.length - at
      if (text.length <= rest) {
        if (!said.startsWith(text, at)) return 'apart'
        at += text.length
        // The event that ends the part which the caller has may bring more than text.
        return more || ends ? 'apart' : 'held'
      }
      if (!text.startsWith(said.slice(at))) return 'apart'
      at = said.length
      if (rest === 0) return frame
      const data = resay(frame.data, text.slice(rest))
      const name = frame.event === undefined ? '' : `event: ${frame.event}\n`
      return { ...frame, data, bytes: Buffer.from(`${name}data: ${data}\n\n`) }
    },
  }
}
