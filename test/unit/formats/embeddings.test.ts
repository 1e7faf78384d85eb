// Vectors in the encoding that was asked for, whatever the server knows.

import fc from 'fast-check'
import OpenAI from 'openai'
import { describe, expect, it } from 'vitest'
import { encodingOf, toEncoding, toFloatEdits } from '../../../src/formats/embeddings.ts'
import { toModelRequest, toSentBytes } from '../../support/model-request.ts'
import { schemaFaults } from '../../support/openai-schema.ts'

const reply = (...vectors: readonly unknown[]): Buffer =>
  Buffer.from(
    JSON.stringify({
      object: 'list',
      data: vectors.map((embedding, index) => ({ object: 'embedding', index, embedding })),
      model: 'e',
      usage: { prompt_tokens: 3, total_tokens: 3 },
    }),
  )
const vectorsOf = (body: Buffer): unknown[] =>
  JSON.parse(body.toString()).data.map(({ embedding }: { embedding: unknown }) => embedding)
/** As the API writes it: little-endian float32. */
const base64 = (numbers: readonly number[]): string => {
  const view = new DataView(new ArrayBuffer(numbers.length * 4))
  for (const [i, one] of numbers.entries()) view.setFloat32(i * 4, one, true)
  return Buffer.from(view.buffer).toString('base64')
}

describe('the vectors of a reply', () => {
  it('are the same numbers in either encoding', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 1 })),
        (vectors) => {
          // JSON has no negative zero.
          const floats = vectors.map((vector) => vector.map((one) => Math.fround(one) + 0))
          const encoded = toEncoding(reply(...floats), 'base64')
          expect(vectorsOf(encoded)).toEqual(floats.map(base64))
          const decoded = vectorsOf(toEncoding(encoded, 'float'))
          // JSON has no negative zero.
          expect(decoded).toEqual(JSON.parse(JSON.stringify(floats)))
        },
      ),
    )
  })

  it('stay the bytes that they are where they are as asked for, or cannot be changed', () => {
    for (const [body, wanted] of [
      [reply([0.5, 1]), 'float'],
      [reply(base64([0.5])), 'base64'],
      [reply('AAA='), 'float'],
      [reply([1, 'x']), 'base64'],
      [reply(), 'base64'],
      [Buffer.from('{"error":{"message":"No."}}'), 'base64'],
      [Buffer.from('<html>'), 'base64'],
    ] as const)
      expect(toEncoding(body, wanted)).toBe(body)
  })

  it("are read by OpenAI's own SDK, which asks for base64", async () => {
    let asked = ''
    const fetch = async (_: unknown, init: RequestInit | undefined) => {
      asked = String(init?.body)
      const wanted = encodingOf(toModelRequest(asked, 'openai'))
      return new Response(toEncoding(reply([0.25, -0.5]), wanted), {
        headers: { 'content-type': 'application/json' },
      })
    }
    const sdk = new OpenAI({ apiKey: 'x', baseURL: 'http://sluice/v1', maxRetries: 0, fetch })
    const { data } = await sdk.embeddings.create({ model: 'e', input: 'x' })
    expect(JSON.parse(asked)).toMatchObject({ encoding_format: 'base64' })
    expect(data.map(({ embedding }) => [...embedding])).toEqual([[0.25, -0.5]])
    const { data: plain } = await sdk.embeddings.create({ model: 'e', input: 'x', encoding_format: 'float' })
    expect(plain.map(({ embedding }) => embedding)).toEqual([[0.25, -0.5]])
    expect(schemaFaults('CreateEmbeddingResponse', JSON.parse(reply([0.25]).toString()))).toEqual([])
  })
})

describe('a request for vectors', () => {
  it('says which encoding its caller reads', () => {
    const encoding = (over: object) =>
      encodingOf(toModelRequest(JSON.stringify({ model: 'e', ...over }), 'openai'))
    expect(encoding({ encoding_format: 'base64' })).toBe('base64')
    expect(encoding({ encoding_format: 'float' })).toBe('float')
    expect(encoding({ encoding_format: null })).toBe('float')
    expect(encoding({})).toBe('float')
  })

  it('asks for lists where a server knows nothing else, and is left alone where nothing was said', () => {
    const asked = { model: 'e', maxOutputTokens: undefined, options: {} }
    const sent = (text: string) => toSentBytes({ edits: toFloatEdits }, toModelRequest(text, 'openai'), asked)
    expect(sent('{"model":"e", "encoding_format" : "base64"}')).toBe(
      '{"model":"e", "encoding_format" : "float"}',
    )
    expect(sent('{"model":"e","encoding_format":null}')).toBe('{"model":"e","encoding_format":"float"}')
    expect(sent('{"model":"e"}')).toBe('{"model":"e"}')
  })
})
