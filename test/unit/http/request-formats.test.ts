// What is read of a body at the endpoints beside chat: each has names of its own for the same things.

import { describe, expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import { ENDPOINTS } from '../../../src/http/operations.ts'
import { readRequest } from '../../../src/http/request.ts'
import type { ModelRequest } from '../../../src/types.ts'

function read(path: string, body: unknown): ModelRequest {
  const endpoint = ENDPOINTS.find((one) => one.path === path)
  if (endpoint === undefined) throw new Error('no endpoint')
  return readRequest(endpoint, Buffer.from(JSON.stringify(body)), new Set())
}

function refusal(path: string, body: unknown): GatewayError {
  try {
    read(path, body)
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw error
  }
  throw new Error('accepted')
}

const BODIES: Readonly<Record<string, Record<string, unknown>>> = {
  '/responses': { model: 'm', input: 'x' },
  '/messages': { model: 'm', messages: [] },
  '/completions': { model: 'm', prompt: 'x' },
}

describe.each(Object.entries(BODIES))('a body of %s', (path, body) => {
  it('tells the model, and whether a stream is asked for', () => {
    expect(read(path, body)).toMatchObject({ model: 'm', stream: false, choices: 1, images: 0 })
    expect(read(path, { ...body, stream: true }).stream).toBe(true)
    expect(refusal(path, { ...body, stream: 'yes' })).toMatchObject({
      code: 'invalid_request',
      param: 'stream',
    })
  })

  it('may hold nothing that chooses the way of the request', () => {
    expect(refusal(path, { ...body, fallbacks: [] })).toMatchObject({ param: 'fallbacks' })
    expect(refusal(path, { ...body, Model: 'x' })).toMatchObject({ code: 'ambiguous_field' })
  })
})

it.each([
  ['/responses', 'max_output_tokens'],
  ['/messages', 'max_tokens'],
  ['/completions', 'max_tokens'],
])('%s has its cap in %s, and reads no other', (path, name) => {
  const body = { ...BODIES[path], max_completion_tokens: 9_000 }
  expect(read(path, { ...body, [name]: 77 }).maxOutputTokens).toBe(77)
  expect(read(path, body).maxOutputTokens).toBeUndefined()
  expect(refusal(path, { ...body, [name]: 'x' })).toMatchObject({ param: name })
})

it('a cap of nothing is one where it only fills a cache, and nowhere else', () => {
  expect(read('/messages', { ...BODIES['/messages'], max_tokens: 0 }).maxOutputTokens).toBe(0)
  expect(refusal('/messages', { ...BODIES['/messages'], max_tokens: -1 })).toMatchObject({
    param: 'max_tokens',
  })
  expect(refusal('/completions', { ...BODIES['/completions'], max_tokens: 0 })).toMatchObject({
    param: 'max_tokens',
  })
})

it('several answers are asked for where the format has them, and mean nothing elsewhere', () => {
  expect(read('/completions', { ...BODIES['/completions'], n: 3 }).choices).toBe(3)
  expect(read('/responses', { ...BODIES['/responses'], n: 3 }).choices).toBe(1)
  expect(read('/messages', { ...BODIES['/messages'], n: 3 }).choices).toBe(1)
})

it('a count of tokens is never streamed', () => {
  expect(read('/messages/count_tokens', { model: 'm', messages: [], stream: true }).stream).toBe(false)
})

it('state that is kept in an account is refused where the format has it', () => {
  expect(refusal('/responses', { ...BODIES['/responses'], conversation: 'c' })).toMatchObject({
    param: 'conversation',
  })
  expect(read('/responses', { ...BODIES['/responses'], previous_response_id: null }).model).toBe('m')
  expect(refusal('/responses', { ...BODIES['/responses'], background: true })).toMatchObject({
    param: 'background',
    message: expect.stringContaining('background'),
  })
  expect(read('/responses', { ...BODIES['/responses'], background: false }).model).toBe('m')
})

describe('an image', () => {
  const PAYLOAD = 'A'.repeat(5000)
  const data = { type: 'base64', media_type: 'image/png', data: PAYLOAD }
  const measured = (path: string, body: Record<string, unknown>): { images: number; left: number } => {
    const { images, textBytes } = read(path, { ...BODIES[path], ...body })
    return { images, left: JSON.stringify({ ...BODIES[path], ...body }).length - textBytes }
  }
  const said = (...content: unknown[]): Record<string, unknown> => ({ messages: [{ role: 'user', content }] })

  it.each([
    ['inline', [{ type: 'image', source: data }], { images: 1, left: 5000 }],
    [
      'with its type behind its bytes',
      [{ type: 'image', source: { type: 'base64', data: PAYLOAD, media_type: 'image/webp' } }],
      { images: 1, left: 5000 },
    ],
    [
      'twice',
      [
        { type: 'image', source: data },
        { type: 'text', text: 'and' },
        { type: 'image', source: data },
      ],
      { images: 2, left: 10_000 },
    ],
    [
      'by its address',
      [{ type: 'image', source: { type: 'url', url: 'https://x.test/a.png' } }],
      { images: 1, left: 0 },
    ],
    [
      'in what a tool has shown',
      [{ type: 'tool_result', tool_use_id: 'a', content: [{ type: 'image', source: data }] }],
      { images: 1, left: 5000 },
    ],
    [
      'that is a document',
      [{ type: 'document', source: { ...data, media_type: 'application/pdf' } }],
      { images: 0, left: 0 },
    ],
    [
      'that is a document by its address',
      [{ type: 'document', source: { type: 'url', url: 'https://x.test/a.pdf' } }],
      { images: 0, left: 0 },
    ],
    [
      'that is only talked about',
      [{ type: 'text', text: JSON.stringify({ type: 'image', source: data }) }],
      { images: 0, left: 0 },
    ],
  ])('of Messages %s is counted as what it is', (_, content, expected) => {
    expect(measured('/messages', said(...content))).toEqual(expected)
  })

  it('of Responses is counted without its bytes', () => {
    const image = { type: 'input_image', image_url: `data:image/png;base64,${PAYLOAD}` }
    expect(measured('/responses', { input: [{ role: 'user', content: [image] }] })).toEqual({
      images: 1,
      left: 5000,
    })
  })
})
