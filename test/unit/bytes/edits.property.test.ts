import { Readable } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Edit, splice } from '../../../src/bytes/splice.ts'
import { ENDPOINTS } from '../../../src/http/operations.ts'
import { readRequest } from '../../../src/http/request.ts'
import type { ModelRequest } from '../../../src/types.ts'
import { toEdits } from '../../support/edits.ts'
import { mutate, objectText, same } from './json-corpus.ts'
import { createRandom, fuzzSeed } from './random.ts'

const seed = fuzzSeed()
const NONE: ReadonlySet<string> = new Set()
const [CHAT] = ENDPOINTS

function read(body: Buffer): ModelRequest | undefined {
  if (CHAT === undefined) throw new Error('no endpoint')
  try {
    return readRequest(CHAT, body, NONE)
  } catch {
    return undefined
  }
}

async function bytesOf(body: Buffer | Readable): Promise<Buffer> {
  if (Buffer.isBuffer(body)) return body
  const pieces: Buffer[] = []
  for await (const piece of body) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}

function objectOf(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError('no object')
  return Object.fromEntries(Object.entries(value))
}

/** What the deployment must read: written from design §5, over parsed values. */
function expected(body: Buffer, model: string, cap: number | undefined): Record<string, unknown> {
  const wanted = objectOf(JSON.parse(body.toString('utf8')))
  wanted.model = model
  if (cap !== undefined) {
    const written = ['max_tokens', 'max_completion_tokens'].filter((name) => name in wanted)
    for (const name of written)
      if (!(typeof wanted[name] === 'number' && wanted[name] <= cap)) wanted[name] = cap
    if (written.length === 0) wanted.max_completion_tokens = cap
  }
  if (wanted.stream === true) {
    const options = wanted.stream_options
    wanted.stream_options = {
      ...(options === null || options === undefined ? {} : objectOf(options)),
      include_usage: true,
    }
  }
  return wanted
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Equal without regard to the order of the members at the top and in stream_options. */
function alike(a: Record<string, unknown>, b: Record<string, unknown>): boolean {
  const names = Object.keys(a)
  return (
    names.length === Object.keys(b).length &&
    names.every((name) =>
      name === 'stream_options' && isObject(a[name]) && isObject(b[name])
        ? alike(objectOf(a[name]), objectOf(b[name]))
        : name in b && same(a[name], b[name]),
    )
  )
}

function breach(body: Buffer, model: string, cap: number | undefined): string | undefined {
  const request = read(body)
  if (request === undefined) return undefined
  const edits = toEdits(request, model, cap)
  const spliced = splice(body, edits)
  if (!Buffer.isBuffer(spliced.body)) return 'a small body became a stream'
  if (spliced.bytes !== spliced.body.length) return 'the length is not the length'
  if (!alike(objectOf(JSON.parse(spliced.body.toString('utf8'))), expected(body, model, cap)))
    return 'other members changed'
  if (!keepsRuns(body, edits, spliced.body)) return 'an untouched run changed'
  if (edits.length === 0 && spliced.body !== body) return 'a body without edits was copied'
  return undefined
}

/** Every run of bytes between two edits stands in the result, in order, and nothing else but the texts. */
function keepsRuns(body: Buffer, edits: readonly Edit[], result: Buffer): boolean {
  let from = 0
  let at = 0
  for (const { start, end, text } of [...edits, { start: body.length, end: body.length, text: '' }]) {
    const run = body.subarray(from, start)
    if (!result.subarray(at, at + run.length).equals(run)) return false
    at += run.length
    if (result.toString('utf8', at, at + Buffer.byteLength(text)) !== text) return false
    at += Buffer.byteLength(text)
    from = end
  }
  return at === result.length
}

describe('edits of a request', () => {
  it.each<[string, string, string]>([
    ['nothing that is right already', '{"model":"m"}', '{"model":"m"}'],
    [
      'usage without options',
      '{"model":"m","stream":true}',
      '{"stream_options":{"include_usage":true},"model":"m","stream":true}',
    ],
    [
      'usage in place of null',
      '{"model":"m","stream":true,"stream_options": null }',
      '{"model":"m","stream":true,"stream_options": {"include_usage":true} }',
    ],
    [
      'usage in empty options',
      '{"model":"m","stream":true,"stream_options":{ \n }}',
      '{"model":"m","stream":true,"stream_options":{"include_usage":true \n }}',
    ],
    [
      'usage beside other options',
      '{"model":"m","stream":true,"stream_options":{ "x":1}}',
      '{"model":"m","stream":true,"stream_options":{"include_usage":true, "x":1}}',
    ],
    [
      'usage that says false',
      '{"stream_options":{"include_usage" : false},"stream":true,"model":"m"}',
      '{"stream_options":{"include_usage" : true},"stream":true,"model":"m"}',
    ],
    [
      'usage that says null',
      '{"stream_options":{"include_usage":null},"stream":true,"model":"m"}',
      '{"stream_options":{"include_usage":true},"stream":true,"model":"m"}',
    ],
    [
      'no usage that was asked for',
      '{"stream_options":{"include_usage":true},"stream":true,"model":"m"}',
      '{"stream_options":{"include_usage":true},"stream":true,"model":"m"}',
    ],
    [
      'no usage where nothing streams',
      '{"stream":false,"stream_options":null,"model":"m"}',
      '{"stream":false,"stream_options":null,"model":"m"}',
    ],
  ])('change %s', (_, before, after) => {
    const body = Buffer.from(before)
    const request = read(body)
    expect(request && splice(body, toEdits(request, 'm', undefined)).body.toString()).toBe(after)
  })

  it.each<[string, string, string]>([
    ['adds the present spelling', '{ "model":"m"}', '{"max_completion_tokens":7, "model":"m"}'],
    ['keeps the spelling of the caller', '{"max_tokens":1e2,"model":"m"}', '{"max_tokens":7,"model":"m"}'],
    [
      'caps both spellings',
      '{"max_tokens":null,"max_completion_tokens" : 9,"model":"m"}',
      '{"max_tokens":7,"max_completion_tokens" : 7,"model":"m"}',
    ],
  ])('a cap %s', (_, before, after) => {
    const body = Buffer.from(before)
    const request = read(body)
    expect(request && splice(body, toEdits(request, 'm', 7)).body.toString()).toBe(after)
  })

  it('write a name of any characters as JSON', () => {
    const body = Buffer.from('{"model" : "m" }')
    const request = read(body)
    const name = 'a"b\\c\u2028鍵'
    expect(request && JSON.parse(splice(body, toEdits(request, name, undefined)).body.toString())).toEqual({
      model: name,
    })
  })
})

describe(`laws of the edits (SLUICE_FUZZ_SEED=${seed})`, () => {
  it('only the members that may change do, and every other byte survives', { timeout: 60_000 }, () => {
    const random = createRandom(seed)
    let read_ = 0
    for (let i = 0; i < 120_000; i += 1) {
      const text = objectText(random).replace(
        '{',
        random.oneIn(2) ? '{"stream" : true , "zz":0,' : '{"zz":0,',
      )
      const body = random.oneIn(8) ? mutate(random, Buffer.from(text)) : Buffer.from(text)
      const model = random.pick(['m', 'other', 'a/b"c', '鍵'])
      const cap = random.oneIn(2) ? 1 + random.below(9999) : undefined
      const wrong = breach(body, model, cap)
      if (wrong !== undefined) throw new Error(`seed ${seed}, input ${i}: ${wrong}\n${body.toString('utf8')}`)
      if (read(body) !== undefined) read_ += 1
    }
    expect(read_).toBeGreaterThan(10_000)
  })

  it('splice gives the same bytes whole or in pieces, for edits anywhere', async () => {
    const edit = fc.tuple(fc.nat(200_000), fc.nat(40), fc.string({ unit: 'grapheme', maxLength: 12 }))
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(10, 1000, 65_530, 200_000),
        fc.array(edit, { maxLength: 6 }),
        async (size, wanted) => {
          const body = Buffer.alloc(size, 'abcdefghij')
          const edits: Edit[] = []
          let from = 0
          for (const [place, length, text] of wanted.sort((a, b) => a[0] - b[0])) {
            const start = Math.max(from, Math.min(place, size))
            const end = Math.min(size, start + length)
            edits.push({ start, end, text })
            from = end
          }
          const { body: spliced, bytes } = splice(body, edits)
          const result = await bytesOf(spliced)
          expect(result.length).toBe(bytes)
          expect(keepsRuns(body, edits, result)).toBe(true)
        },
      ),
      { numRuns: 300, seed },
    )
  })

  it('splice refuses edits that overlap or leave the body', () => {
    const body = Buffer.from('0123456789')
    const edits = (...places: [number, number][]) => places.map(([start, end]) => ({ start, end, text: '' }))
    for (const wrong of [edits([0, 5], [4, 6]), edits([5, 6], [0, 1]), edits([3, 2]), edits([0, 11])]) {
      expect(() => splice(body, wrong)).toThrow(RangeError)
    }
  })

  it('a large body is sent from where it stands', () => {
    const body = Buffer.from(`{"model":"m","x":"${'y'.repeat(100_000)}"}`)
    const request = read(body)
    expect(request && splice(body, toEdits(request, 'other', 5)).body).toBeInstanceOf(Readable)
  })
})
