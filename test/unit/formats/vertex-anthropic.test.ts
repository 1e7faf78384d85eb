// Claude at Vertex AI, as Anthropic's own SDK for Vertex asks for it: where the model stands, what the body has in its
// place, and whose words an error is in.

import { describe, expect, it } from 'vitest'
import { anthropic } from '../../../src/formats/anthropic.ts'
import type { Asked, ProviderSide } from '../../../src/formats/format.ts'
import { vertex } from '../../../src/formats/gemini.ts'
import { formatFor, formats, speakerOf } from '../../../src/formats/index.ts'
import { chatRequest, user } from '../../support/chat-arbitraries.ts'
import { toModelRequest, toSentBytes } from '../../support/model-request.ts'

const MODEL = 'claude-opus-4-5@20251101'
const OPTIONS = { project: 'p1', region: 'europe-west1' }
const asked = (over: Partial<Asked> = {}): Asked => ({
  model: MODEL,
  maxOutputTokens: undefined,
  options: OPTIONS,
  ...over,
})

function sideFor(format: string, model = MODEL): ProviderSide {
  const own = formatFor(formats, 'vertex', model)
  const found = own && speakerOf(own, format)?.provider
  if (found === undefined) throw new Error(`${format} is not taken`)
  return found
}
const messages = sideFor('anthropic')
const count = sideFor('anthropic-count')

describe('a provider at Vertex AI', () => {
  it('takes the bytes of Messages for Claude, and for no other model', () => {
    for (const model of ['claude-sonnet-4-5', 'claude-3-5-haiku@20241022', 'Claude-next'])
      expect(sideFor('anthropic', model)).toBe(messages)
    for (const model of ['gemini-3-flash', 'not-claude', 'gemini-claude'])
      expect(formatFor(formats, 'vertex', model)).toBe(vertex)
    expect(speakerOf(vertex, 'anthropic')).toBeUndefined()
    expect(speakerOf(vertex, 'anthropic-count')).toBeUndefined()
    expect(formatFor(formats, 'nobody', 'claude-sonnet-4-5')).toBeUndefined()
  })

  it('has Claude in the place of its maker, by the version behind the @', () => {
    const path = (stream: boolean): string => messages.path('chat', { ...asked(), stream })
    const front = '/projects/p1/locations/europe-west1/publishers/anthropic/models'
    expect(path(false)).toBe(`${front}/claude-opus-4-5@20251101:rawPredict`)
    expect(path(true)).toBe(`${front}/claude-opus-4-5@20251101:streamRawPredict`)
    expect(count.path('chat', { ...asked(), stream: false })).toBe(`${front}/count-tokens:rawPredict`)
    expect(messages.path('chat', { ...asked({ model: 'claude/../x?y=1' }), stream: false })).toBe(
      `${front}/claude%2F..%2Fx%3Fy%3D1:rawPredict`,
    )
    expect(messages.path('chat', { ...asked({ options: {} }), stream: false })).toBe(
      '/publishers/anthropic/models/claude-opus-4-5@20251101:rawPredict',
    )
  })
})

it('no version is told in a header', () => {
  expect(messages.headers).toBeUndefined()
  expect(count.headers).toBeUndefined()
})

describe('a request in the bytes of Messages', () => {
  const sent = (text: string, over: Partial<Asked> = {}, side = messages): string =>
    toSentBytes(side, toModelRequest(text, 'anthropic'), asked(over))

  it('has the version of the interface where the model stood, and every other byte as it came', () => {
    expect(sent('{"model": "c", "max_tokens":5,"x_unknown": 1.0, "messages" : []}')).toBe(
      '{"anthropic_version":"vertex-2023-10-16", "max_tokens":5,"x_unknown": 1.0, "messages" : []}',
    )
    expect(sent('{"max_tokens":5,"model":"c"}')).toBe(
      '{"max_tokens":5,"anthropic_version":"vertex-2023-10-16"}',
    )
  })

  it('that has a version already has this one, and no model', () => {
    const body = '{"anthropic_version":"bedrock-2023-05-31","max_tokens":5,"model":"c"}'
    expect(sent(body)).toBe('{"anthropic_version":"vertex-2023-10-16","max_tokens":5}')
    expect(sent('{"model":"c","anthropic_version":null}')).toBe('{"anthropic_version":"vertex-2023-10-16"}')
  })

  it.each([
    ['2026-10-21', '2026-10-21'],
    ['2023-06-01', 'vertex-2023-10-16'],
    ['2023-01-01', 'vertex-2023-10-16'],
    ['latest', 'vertex-2023-10-16'],
  ])('whose caller speaks the version %s has %s in its body', (told, version) => {
    const request = {
      ...toModelRequest('{"model":"c"}', 'anthropic'),
      forwarded: ['anthropic-version', told],
    }
    for (const side of [messages, count])
      expect(JSON.parse(toSentBytes(side, request, asked()))).toMatchObject({ anthropic_version: version })
  })

  it('is capped as for its maker', () => {
    expect(JSON.parse(sent('{"model":"c","messages":[]}', { maxOutputTokens: 7 }))).toEqual({
      max_tokens: 7,
      anthropic_version: 'vertex-2023-10-16',
      messages: [],
    })
  })

  it('keeps the model where tokens are counted', () => {
    expect(JSON.parse(sent('{"model":"c","messages":[]}', {}, count))).toEqual({
      anthropic_version: 'vertex-2023-10-16',
      model: MODEL,
      messages: [],
    })
  })
})

it('a request that is translated is the one its maker gets, but for model and version', () => {
  const request = chatRequest({ messages: [user({ type: 'text', text: 'Hi.' })], stream: true })
  const plain = anthropic.provider.chat?.write(request, asked())
  const written = messages.chat?.write(request, asked())
  const { model, ...rest } = plain?.body ?? {}
  expect(model).toBe(MODEL)
  expect(written).toEqual({ ...plain, body: { anthropic_version: 'vertex-2023-10-16', ...rest } })
})

describe('an error', () => {
  const none = (): undefined => undefined

  it("of Google's is read in Google's words", () => {
    const body = JSON.stringify({
      error: {
        code: 429,
        message:
          'Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model with base model: anthropic-claude-opus-4-5.',
        status: 'RESOURCE_EXHAUSTED',
      },
    })
    expect(messages.fault(429, none, body, 0)).toMatchObject({
      verdict: 'retry',
      type: 'RESOURCE_EXHAUSTED',
      message: expect.stringContaining('Quota exceeded'),
    })
    expect(messages.fault(429, none, `[${body}]`, 0)).toMatchObject({ type: 'RESOURCE_EXHAUSTED' })
    expect(messages.inBand(body)).toMatchObject({ status: 429 })
  })

  it("of the model's server is read in Anthropic's", () => {
    const body = JSON.stringify({
      type: 'error',
      error: { type: 'overloaded_error', message: 'Overloaded' },
    })
    expect(messages.inBand(body)).toEqual(anthropic.provider.inBand(body))
    expect(messages.inBand(body).status).toBe(529)
    const tooLong = JSON.stringify({
      type: 'error',
      error: { type: 'invalid_request_error', message: 'prompt is too long: 210000 tokens > 200000 maximum' },
    })
    expect(messages.fault(400, none, tooLong, 0).verdict).toBe('context')
  })
})
