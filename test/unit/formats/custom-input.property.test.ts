// Free text that comes as the arguments of a function, cut anywhere.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createCustomInput } from '../../../src/formats/custom-input.ts'

/** Cuts a text at the places given, modulo its length. */
function cut(text: string, places: readonly number[]): string[] {
  const at = [0, ...places.map((place) => place % (text.length + 1)), text.length].sort((a, b) => a - b)
  return at.slice(1).map((end, i) => text.slice(at[i], end))
}

/** Every character as an escape, as some servers write what is not ASCII. */
function escapeAll(text: string): string {
  return [...Array(text.length).keys()]
    .map((i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`)
    .join('')
}

function readAll(pieces: readonly string[]): { text: string; pieces: string[] } {
  const input = createCustomInput()
  const out = [...pieces.map((piece) => input.push(piece)), input.end()]
  return { text: out.join(''), pieces: out }
}

describe('the input of a custom tool', () => {
  it('is the text that was wrapped, wherever its arguments are cut', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.array(fc.nat()),
        fc.boolean(),
        (text, places, escaped) => {
          const json = escaped ? `{ "input" : "${escapeAll(text)}" }` : JSON.stringify({ input: text })
          const read = readAll(cut(json, places))
          expect(read.text).toBe(text)
          // No piece ends in half a character.
          if (text.isWellFormed()) for (const piece of read.pieces) expect(piece.isWellFormed()).toBe(true)
        },
      ),
    )
  })

  it('comes as it is written and not at the end', () => {
    const input = createCustomInput()
    expect(input.push('{"input":"*** Begin')).toBe('*** Begin')
    expect(input.push(' Patch\\')).toBe(' Patch')
    expect(input.push('n+a\\u00')).toBe('\n+a')
    expect(input.push('e9"')).toBe('é')
    expect(input.push('}')).toBe('')
    expect(input.end()).toBe('')
  })

  it('is taken from behind other members, and is all there is where nothing was wrapped', () => {
    expect(readAll(['{"reason":"x",', '"input":"a\\nb"}']).text).toBe('a\nb')
    expect(readAll(['{"patch":', '"x"}']).text).toBe('{"patch":"x"}')
    expect(readAll(['*** Begin Patch\n', 'x'.repeat(500)]).text).toBe(`*** Begin Patch\n${'x'.repeat(500)}`)
    expect(readAll([]).text).toBe('')
  })
})
