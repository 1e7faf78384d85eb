// The free text of a custom tool, out of the arguments that a model streams where its provider has functions only:
// `{"input":"…"}`, cut anywhere. Knows this one shape and no wire.

import { unwrapCustom } from './tool-names.ts'

export interface CustomInput {
  /** The text that these arguments bring; '' where it cannot be told yet. */
  push(text: string): string
  /** What is left once the arguments are whole. Arguments of another shape are given as they stand. */
  end(): string
}

const OPENING = /^\s*\{\s*"input"\s*:\s*"/
const ESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }
/** Longest `{"input":"` that is waited for, white space included. */
const LONGEST_OPENING = 200

export function createCustomInput(): CustomInput {
  /** Before the text: all that came. In it: a piece that cannot be read yet, of an escape or of a pair. */
  let held = ''
  let state: 'opening' | 'text' | 'closed' | 'other' = 'opening'

  /** Reads the inside of a string as far as it can be. */
  function read(): string {
    let out = ''
    let at = 0
    while (at < held.length) {
      const char = held[at] as string
      if (char === '"') {
        state = 'closed'
        held = ''
        return out
      }
      const size = char !== '\\' ? 1 : held[at + 1] === 'u' ? 6 : 2
      if (at + size > held.length) break
      const letter = held[at + 1] as string
      out +=
        size === 1
          ? char
          : size === 6
            ? String.fromCharCode(Number.parseInt(held.slice(at + 2, at + 6), 16))
            : (ESCAPES[letter] ?? letter)
      at += size
    }
    held = held.slice(at)
    // Half of a pair waits for the other: each piece is encoded by itself on its way out.
    const last = out.charCodeAt(out.length - 1)
    if (!(last >= 0xd800 && last <= 0xdbff)) return out
    held = `\\u${last.toString(16)}${held}`
    return out.slice(0, -1)
  }

  return {
    push(text) {
      if (state === 'closed') return ''
      held += text
      if (state === 'opening') {
        const opening = OPENING.exec(held)
        if (opening !== null) {
          state = 'text'
          held = held.slice(opening[0].length)
        } else if (held.length > LONGEST_OPENING) state = 'other'
      }
      return state === 'text' ? read() : ''
    },
    end() {
      if (state === 'text' || state === 'closed') return ''
      return held === '' ? '' : unwrapCustom(held)
    },
  }
}
