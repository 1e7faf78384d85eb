// Going on with an answer: the caller reads one text, whoever said which part of it, or is told that it broke off.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { openai } from '../../../src/formats/openai.ts'
import { createListener, createSplice } from '../../../src/formats/resume.ts'
import type { Frame } from '../../../src/types.ts'

const { provider } = openai

function frameOf(delta: unknown, finish: string | null = null): Frame {
  const data = JSON.stringify({ id: 'x', choices: [{ index: 0, delta, finish_reason: finish }], extra: 1 })
  return { data, event: undefined, bytes: Buffer.from(`data: ${data}\n\n`) }
}

/** A text in pieces, with the frames that are around it. */
const framesOf = (pieces: readonly string[]): Frame[] => [
  frameOf({ role: 'assistant', content: '' }),
  frameOf({ reasoning_content: 'let me see' }),
  ...pieces.map((content) => frameOf({ content })),
  frameOf({}, 'stop'),
]

/** What the caller has read of some frames, while an answer goes on. */
function heard(frames: readonly Frame[]): string | undefined {
  const listener = createListener(provider.resume)
  for (const { data } of frames) listener.passed(data ?? '', false)
  return listener.said()
}

/** What of a stream follows on what was said; undefined when it says something else. */
function spliced(said: string, frames: readonly Frame[]): Frame[] | undefined {
  const splice = createSplice(provider.resume, said)
  const watch = provider.watch()
  const out: Frame[] = []
  for (const frame of frames) {
    const facts = watch.look(frame.data ?? '')
    const next = out.length > 0 ? frame : splice.take(frame, facts)
    if (next === 'apart') return undefined
    if (next !== 'held') out.push(next)
  }
  return out
}

const text = fc.string({ unit: fc.constantFrom('a', 'b', ' ', 'é', '😀', '"', '\\', '\n'), maxLength: 30 })
/** A text cut into pieces, anywhere but inside a character. */
const cut = (whole: string, at: readonly number[]): string[] => {
  const letters = [...whole]
  const places = [...new Set(at.map((place) => place % (letters.length + 1)))].sort((a, b) => a - b)
  return [0, ...places]
    .map((from, i) => letters.slice(from, places[i]).join(''))
    .filter((piece) => piece !== '')
}
const places = fc.array(fc.nat(30), { maxLength: 6 })

describe('an answer that another goes on with', () => {
  it('is read as one, however either of them cuts it', () => {
    fc.assert(
      fc.property(text, places, places, fc.nat(), (whole, first, second, broke) => {
        const frames = framesOf(cut(whole, first))
        const seen = frames.slice(0, broke % frames.length)
        const said = heard(seen)
        if (said === undefined) throw new Error('text is all that was said')
        const rest = spliced(said, framesOf(cut(whole, second)))
        expect(rest).toBeDefined()
        expect(said + heard(rest?.slice(0, -1) ?? [])).toBe(whole)
        // The end comes with it, and every event is whole.
        expect(rest?.at(-1)?.data).toContain('"finish_reason":"stop"')
        for (const { data, bytes } of rest ?? []) expect(bytes.toString()).toBe(`data: ${data}\n\n`)
      }),
      { numRuns: 2_000 },
    )
  })

  it('is never a mixture of two', () => {
    let apart = 0
    fc.assert(
      fc.property(text, text, places, (said, other, second) => {
        const rest = spliced(said, framesOf(cut(other, second)))
        expect(rest !== undefined).toBe(other.startsWith(said))
        if (rest === undefined) apart += 1
        else expect(said + heard(rest.slice(0, -1))).toBe(other)
      }),
      { numRuns: 2_000 },
    )
    expect(apart).toBeGreaterThan(500)
  })
})

describe('what is said', () => {
  it.each([
    ['a tool call', { tool_calls: [{ index: 0, function: { name: 'look', arguments: '' } }] }],
    ['a call in the old form', { function_call: { name: 'look', arguments: '' } }],
    ['a refusal', { refusal: 'No.' }],
    ['sound', { audio: { data: 'AAAA' } }],
    ['text in parts', { content: [{ type: 'text', text: 'x' }] }],
  ])('is nobody else’s to go on with behind %s', (_, delta) => {
    expect(heard([frameOf({ content: 'some' }), frameOf(delta)])).toBeUndefined()
    expect(spliced('some', [frameOf({ content: 'so' }), frameOf(delta)])).toBeUndefined()
  })

  it('is nobody’s where a key was taken out of it, or when there is too much of it', () => {
    const listener = createListener(provider.resume)
    listener.passed(frameOf({ content: 'some' }).data ?? '', true)
    expect(listener.said()).toBeUndefined()
    const long = createListener(provider.resume)
    for (let i = 0; i < 8; i += 1) long.passed(frameOf({ content: 'x'.repeat(64 * 1024) }).data ?? '', false)
    expect(long.said()).toHaveLength(512 * 1024)
    long.passed(frameOf({ content: 'x' }).data ?? '', false)
    expect(long.said()).toBeUndefined()
  })

  it('is followed by a tool call where that comes next', () => {
    const call = frameOf({ tool_calls: [{ index: 0, function: { name: 'look', arguments: '{}' } }] })
    expect(spliced('some', [frameOf({ content: 'some' }), call])).toEqual([call])
  })
})
