// The same agent loop against an independent provider simulator (@copilotkit/aimock), so that not everything on the
// other side of the gateway is ours: its framing, its ids, its errors, its faults, its check of the key.

import { LLMock } from '@copilotkit/aimock'
import OpenAI, { APIError, BadRequestError } from 'openai'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { ANSWER, EXPECTED_CALLS, QUESTION, rejection, runAgent } from './agent.ts'

const KEY = 'aimock-provider-key'

let first: LLMock
let second: LLMock
let gateway: TestGateway
let client: OpenAI

/** A simulator that accepts the provider's key only, and plays the model of the agent's question. */
async function startSimulator(): Promise<LLMock> {
  const mock = new LLMock({ port: 0, auth: { apiKeys: [KEY] } })
  mock.on(
    { toolCallId: 'call_sum', toolResultContains: '17' },
    ({ messages }) => ({ content: `Together it is ${messages.at(-1)?.content} degrees.` }),
    { chunkSize: 5 },
  )
  mock.on(
    { toolCallId: 'call_oslo', toolResultContains: '-4' },
    { toolCalls: [{ id: 'call_sum', name: 'add', arguments: { a: 21, b: -4 } }] },
    { chunkSize: 3 },
  )
  mock.on(
    { userMessage: QUESTION, hasToolResult: false },
    {
      toolCalls: [
        { id: 'call_paris', name: 'get_temperature', arguments: { city: 'Paris' } },
        { id: 'call_oslo', name: 'get_temperature', arguments: { city: 'Oslo' } },
      ],
    },
    { chunkSize: 4 },
  )
  mock.onMessage(
    'long',
    { content: 'one two three four five six seven eight nine ten' },
    { chunkSize: 4, truncateAfterChunks: 4, latency: 30 },
  )
  mock.onMessage('hello', { content: 'Hello from the simulator.' }, { chunkSize: 6 })
  mock.onEmbedding('vector', { embedding: [0.5, -1, 0.25] })
  await mock.start()
  return mock
}

beforeEach(async () => {
  ;[first, second] = await Promise.all([startSimulator(), startSimulator()])
  gateway = await startGateway({
    env: { KEY },
    config: simpleConfig({ provider: [first.url, second.url], keyVariable: 'KEY', tier: { retries: 0 } }),
  })
  client = new OpenAI({ baseURL: gateway.baseUrl, apiKey: gateway.bearer, maxRetries: 0, timeout: 15_000 })
})
afterEach(() => Promise.all([gateway.stop(), first.stop(), second.stop()]))

const say = (content: string) => ({ model: 'm', messages: [{ role: 'user' as const, content }] })

describe('the agent loop against an independent simulator', () => {
  it.each([
    ['whole replies', false],
    ['streams', true],
  ])('ends with the answer made from its tools, by %s', async (_, stream) => {
    const result = await runAgent(client, 'm', stream)
    expect(result.calls).toEqual(EXPECTED_CALLS)
    expect(result.answer).toBe(ANSWER)
    const requests = first.getRequests()
    expect(requests.map(({ path, response }) => [path, response.status])).toEqual(
      Array.from({ length: 3 }, () => ['/v1/chat/completions', 200]),
    )
    for (const { body } of requests) expect(body).toMatchObject({ model: 'm1' })
    expect(JSON.stringify(requests)).not.toContain(gateway.bearer)
    expect(second.getRequests()).toEqual([])
  })

  it.each([
    ['drops requests', { dropRate: 1 }, '500'],
    ['answers broken JSON', { malformedRate: 1 }, 'malformed'],
    ['is over its rate', { rateLimitRate: 1 }, '429'],
    ['cuts connections', { disconnectRate: 1 }, 'reset'],
  ] as const)('ends well over a second provider when the first %s', async (_, chaos, reason) => {
    first.setChaos(chaos)
    const { response } = await client.chat.completions.create(say('hello')).withResponse()
    expect(response.headers.get('x-sluice-attempts')).toBe(`t1:p1/m1=${reason}, t2:p2/m2=200`)
    expect(response.headers.get('x-sluice-degraded')).toBe('true')

    for (const stream of [false, true]) {
      const result = await runAgent(client, 'm', stream)
      expect(result.calls).toEqual(EXPECTED_CALLS)
      expect(result.answer).toBe(ANSWER)
    }
    expect(second.getRequests()).toHaveLength(7)
  })

  it('leaves a provider alone for as long as it asked', async () => {
    first.setChaos({ rateLimitRate: 1 })
    await client.chat.completions.create(say('hello'))
    first.clearChaos()
    const { response } = await client.chat.completions.create(say('hello')).withResponse()
    expect(response.headers.get('x-sluice-attempts')).toBe('t1:p1/m1=skipped:unavailable, t2:p2/m2=200')
    expect(first.getRequests()).toHaveLength(1)
  })
})

describe('single answers of the simulator', () => {
  it('stream without a usage chunk, and with one when it is asked for', async () => {
    for (const asked of [false, true]) {
      const chunks = []
      const options = asked ? { stream_options: { include_usage: true } } : {}
      const stream = await client.chat.completions.create({ ...say('hello'), stream: true, ...options })
      for await (const chunk of stream) chunks.push(chunk)
      expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(
        'Hello from the simulator.',
      )
      expect(chunks.filter(({ usage }) => usage)).toHaveLength(asked ? 1 : 0)
      expect(first.getLastRequest()?.body).toMatchObject({ stream_options: { include_usage: true } })
    }
  })

  it('raise in the SDK when the stream is cut after its first content', async () => {
    const stream = await client.chat.completions.create({ ...say('long'), stream: true })
    let text = ''
    const error = await rejection(
      (async () => {
        for await (const { choices } of stream) text += choices[0]?.delta.content ?? ''
      })(),
    )
    expect(text).toMatch(/^one/)
    expect(error).toBeInstanceOf(APIError)
    expect(error).toMatchObject({ code: 'upstream_incomplete' })
    expect(second.getRequests()).toEqual([])
  })

  it("pass the caller's own mistake on and ask nobody else", async () => {
    first.nextRequestError(400, { message: 'n must be 1', type: 'invalid_request_error', code: 'bad_n' })
    const error = await rejection(client.chat.completions.create(say('hello')))
    expect(error).toBeInstanceOf(BadRequestError)
    expect(error).toMatchObject({ code: 'bad_n', message: '400 n must be 1' })
    expect(second.getRequests()).toEqual([])
  })

  it('embed', async () => {
    const { data, model } = await client.embeddings.create({ model: 'm', input: 'vector' })
    expect(data[0]?.embedding).toEqual([0.5, -1, 0.25])
    expect(model).toBe('m1')
  })
})
