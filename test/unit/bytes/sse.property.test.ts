import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import type { Frame } from '../../../src/types.ts'
import { parseSse } from '../../support/sse.ts'
import { fuzzSeed } from './random.ts'

const seed = fuzzSeed()

const newline = fc.constantFrom('\n', '\r\n', '\r')
const content = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(
      fc.constantFrom('data: ', 'data:', 'data:  '),
      fc.string({ unit: 'grapheme', maxLength: 12 }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(
      fc.constantFrom('event: ', 'event:', 'id: ', 'retry: ', ':', ': '),
      fc.stringMatching(/^[a-z ]{0,8}$/),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(
      fc.constantFrom('data', 'event', 'Data: x', ' data: x', 'datax: y', '\ufeffdata: z'),
      fc.constant(''),
    ),
  },
  { weight: 4, arbitrary: fc.tuple(fc.constant(''), fc.constant('')) },
)
/** Lines with an end each of its own kind, so that CR LF can come about between two of them as well. */
const line = fc
  .tuple(content, newline)
  .map(([[field, value], end]) => field + value.replaceAll(/[\r\n]/g, '') + end)
const text = fc
  .tuple(
    fc.constantFrom('', '', '', '\ufeff'),
    fc.array(line, { maxLength: 14 }),
    fc.constantFrom('', '', 'data: cut', 'da', '\r'),
  )
  .map((parts) => Buffer.from(parts.flat().join('')))
const anyBytes = fc
  .array(fc.constantFrom(0x0a, 0x0d, 0x20, 0x3a, 0x64, 0x61, 0x74, 0xef, 0xbb, 0xbf, 0xc3, 0xff), {
    maxLength: 60,
  })
  .map((bytes) => Buffer.from(bytes))
const stream = fc.oneof({ weight: 3, arbitrary: text }, { weight: 1, arbitrary: anyBytes })
const cuts = fc.array(fc.nat(400), { maxLength: 12 })

function read(chunks: readonly Buffer[]): { frames: Frame[]; all: Frame[] } {
  const splitter = createFrameSplitter()
  const frames = chunks.flatMap((chunk) => splitter.push(chunk))
  const rest = splitter.rest()
  return { frames, all: rest === undefined ? frames : [...frames, rest] }
}

function cutAt(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [...places.map((place) => Math.min(place, bytes.length)).sort((a, b) => a - b), bytes.length]
  // A chunk is a copy, as those of a socket are: nothing may be read beyond its end.
  return sorted.map((place, i) => Buffer.from(bytes.subarray(sorted[i - 1] ?? 0, place)))
}

const plain = (frames: readonly Frame[]) =>
  frames.map(({ bytes, data, event }) => ({ bytes: bytes.toString('latin1'), data, event }))

describe(`laws of the frame splitter (SLUICE_FUZZ_SEED=${seed})`, () => {
  it('any split gives the same frames with the same bytes', () => {
    fc.assert(
      fc.property(stream, cuts, (bytes, places) => {
        const whole = plain(read([bytes]).all)
        expect(plain(read(cutAt(bytes, places)).all)).toEqual(whole)
        expect(plain(read([...bytes].map((byte) => Buffer.from([byte]))).all)).toEqual(whole)
      }),
      { numRuns: 4000, seed },
    )
  })

  it('loses, adds and changes no byte', () => {
    fc.assert(
      fc.property(stream, cuts, (bytes, places) => {
        const { all } = read(cutAt(bytes, places))
        expect(Buffer.concat(all.map((frame) => frame.bytes)).equals(bytes)).toBe(true)
      }),
      { numRuns: 4000, seed },
    )
  })

  it('sees the events that the rules of WHATWG dispatch', () => {
    fc.assert(
      fc.property(stream, cuts, (bytes, places) => {
        const closed = Buffer.concat([bytes, Buffer.from('\n\n:\n\n')])
        const events = read(cutAt(closed, places))
          .frames.filter((frame) => frame.data !== undefined)
          .map(({ data, event }) => ({ data, event: event || 'message' }))
        expect(events).toEqual(parseSse(closed).map(({ data, event }) => ({ data, event })))
      }),
      { numRuns: 6000, seed },
    )
  })

  it('holds back no frame whose blank line is complete', () => {
    fc.assert(
      fc.property(
        fc.array(fc.stringMatching(/^[a-z]{1,9}$/), { minLength: 1, maxLength: 9 }),
        fc.constantFrom('\n', '\r\n'),
        (words, end) => {
          const splitter = createFrameSplitter()
          for (const word of words) {
            expect(
              splitter.push(Buffer.from(`data: ${word}${end}${end}`)).map((frame) => frame.data),
            ).toEqual([word])
          }
        },
      ),
      { numRuns: 500, seed },
    )
  })

  it('refuses no stream whose events stay within the bound, and every one that has a larger event', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(120), { maxLength: 8 }), cuts, (sizes, places) => {
        const limit = 100
        const bytes = Buffer.from(sizes.map((size) => `data:${'x'.repeat(size)}\n\n`).join(''))
        const chunks = cutAt(bytes, places)
        const largest = Math.max(0, ...sizes.map((size) => size + 7))
        const longestChunk = Math.max(0, ...chunks.map((chunk) => chunk.length))
        const splitter = createFrameSplitter(limit)
        let refused = false
        try {
          for (const chunk of chunks) splitter.push(chunk)
        } catch {
          refused = true
        }
        if (largest <= limit) expect(refused).toBe(false)
        // What came whole in one chunk was held already; the bound is on what waits for more.
        if (largest > limit + longestChunk) expect(refused).toBe(true)
      }),
      { numRuns: 2000, seed },
    )
  })
})
