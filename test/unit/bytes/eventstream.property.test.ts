// Laws of the event stream encoding: messages come out as they went in, wherever the bytes are cut; a byte that is wrong is
// never read; and a message that was cut is told at the end.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createMessageSplitter, type StreamMessage } from '../../../src/bytes/eventstream.ts'
import { FrameTooLarge } from '../../../src/bytes/sse.ts'
import { toStreamError, toStreamEvent, toStreamException } from '../../support/eventstream.ts'

const word = fc.string({ unit: 'grapheme', maxLength: 40 })
const message = fc.oneof(
  fc.tuple(fc.stringMatching(/^[a-zA-Z]{1,20}$/), word).map(([type, text]) => toStreamEvent(type, { text })),
  fc
    .tuple(fc.stringMatching(/^[a-zA-Z]{1,20}$/), word)
    .map(([type, text]) => toStreamException(type, { text })),
  fc.tuple(fc.stringMatching(/^[a-zA-Z]{1,20}$/), word).map(([code, text]) => toStreamError(code, text)),
)
const messages = fc.array(message, { minLength: 1, maxLength: 6 })

/** Cuts at places that are shares of the whole, 0..1. */
function cut(bytes: Buffer, shares: readonly number[]): Buffer[] {
  const places = [
    0,
    ...shares.map((share) => Math.floor(share * bytes.length)).sort((a, b) => a - b),
    bytes.length,
  ]
  return places.slice(1).map((place, i) => bytes.subarray(places[i], place))
}

const shape = ({ bytes, headers, body }: StreamMessage): unknown => [
  bytes.toString('hex'),
  headers === undefined ? undefined : [...headers],
  body.toString('utf8'),
]

describe('messages', () => {
  it('are the same wherever their bytes are cut, and keep these bytes', () => {
    fc.assert(
      fc.property(
        messages,
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 }),
        (all, shares) => {
          const bytes = Buffer.concat(all)
          const whole = createMessageSplitter().push(bytes)
          const splitter = createMessageSplitter()
          const pieces = cut(bytes, shares).flatMap((piece) => splitter.push(piece))
          expect(pieces.map(shape)).toEqual(whole.map(shape))
          expect(whole.map((one) => one.bytes.toString('hex'))).toEqual(all.map((one) => one.toString('hex')))
          expect(whole.every(({ headers }) => headers !== undefined)).toBe(true)
          expect(splitter.rest()).toBeUndefined()
        },
      ),
    )
  })

  it('are the same byte by byte', () => {
    const all = [toStreamEvent('messageStart', { role: 'assistant' }), toStreamError('Failure', 'no')]
    const splitter = createMessageSplitter()
    const found = [...Buffer.concat(all)].flatMap((byte) => splitter.push(Buffer.from([byte])))
    expect(found.map((one) => [...(one.headers ?? [])])).toEqual([
      [
        [':event-type', 'messageStart'],
        [':content-type', 'application/json'],
        [':message-type', 'event'],
      ],
      [
        [':message-type', 'error'],
        [':error-code', 'Failure'],
        [':error-message', 'no'],
      ],
    ])
  })
})

describe('a byte that is wrong', () => {
  it('makes its message unreadable, or larger than any, and nothing behind it is read', () => {
    const good = toStreamEvent('contentBlockDelta', { delta: { text: 'Hello' } })
    const after = toStreamEvent('messageStop', { stopReason: 'end_turn' })
    for (let at = 0; at < good.length; at += 1) {
      for (const bit of [1, 0x80]) {
        const bad = Buffer.concat([good, after])
        bad[at] = (bad[at] ?? 0) ^ bit
        const splitter = createMessageSplitter()
        try {
          const found = splitter.push(bad)
          // A length that is too long waits for bytes which do not come.
          if (found.length === 0) expect(splitter.rest()).toHaveLength(bad.length)
          else expect(found.map(({ headers }) => headers)).toEqual([undefined])
          expect(splitter.push(after).every(({ headers }) => headers === undefined)).toBe(true)
        } catch (error) {
          expect(error).toBeInstanceOf(FrameTooLarge)
        }
      }
    }
  })
})

describe('a message', () => {
  it('that was cut is what is left', () => {
    const bytes = toStreamEvent('messageStart', { role: 'assistant' })
    for (const length of [1, 11, 12, bytes.length - 1]) {
      const splitter = createMessageSplitter()
      expect(splitter.push(bytes.subarray(0, length))).toEqual([])
      expect(splitter.rest()).toEqual(bytes.subarray(0, length))
    }
  })

  it('has a bound, which is told by its first bytes', () => {
    const bytes = toStreamEvent('contentBlockDelta', { text: 'x'.repeat(2000) })
    expect(() => createMessageSplitter(1000).push(bytes.subarray(0, 12))).toThrow(FrameTooLarge)
    expect(() => createMessageSplitter().push(Buffer.from('<!doctype html>'))).toThrow(FrameTooLarge)
  })
})
