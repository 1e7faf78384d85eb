// The Responses API over real sockets: in the caller's own bytes, translated to chat and from it, and what a break becomes.

import OpenAI, { APIError } from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { schemaFaults } from '../support/openai-schema.ts'
import { assembleResponse } from '../support/responses-stream.ts'
import {
  answer,
  createScriptedProvider,
  cutAfter,
  errorIn200,
  inBandErrorAfterContent,
  inBandErrorFirst,
  isRecord,
  noFinishReason,
  type ScriptedProvider,
  status,
  toolCall,
} from '../support/scripted-provider.ts'
import { parseSse } from '../support/sse.ts'

let one: ScriptedProvider
let two: ScriptedProvider
let gateway: TestGateway

/** `own`: the provider takes Responses as well. `chat`: it has chat alone. `inverse`: it has Responses alone. */
beforeAll(async () => {
  ;[one, two] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  const at = (url: string, more: object = {}) => ({ format: 'openai', baseUrl: `${url}/v1`, ...more })
  gateway = await startGateway({
    config: {
      ...simpleConfig({ provider: [one.url, two.url] }),
      providers: {
        own: at(one.url, { alsoSpeaks: ['responses', 'completions'] }),
        ownToo: at(two.url, { alsoSpeaks: ['responses', 'completions'] }),
        chat: at(one.url),
        inverse: at(one.url, { format: 'responses' }),
      },
      tiers: {
        own: { deployments: ['own/m1'] },
        ownToo: { deployments: ['ownToo/m2'] },
        chat: { deployments: ['chat/m1'] },
        inverse: { deployments: ['inverse/m1'] },
      },
      routes: {
        own: ['own'],
        chat: ['chat'],
        inverse: ['inverse'],
        twice: ['own', 'ownToo'],
        down: ['chat', 'ownToo'],
      },
      failover: { attempts: 3, retryBudget: 1 },
    },
  })
})
afterAll(async () => {
  await gateway?.stop()
  await Promise.all([one?.close(), two?.close()])
})
beforeEach(() => {
  one.reset()
  two.reset()
})

interface Answer {
  readonly status: number
  readonly text: string
  readonly headers: Headers
}

async function post(path: string, body: object): Promise<Answer> {
  const response = await fetch(`${gateway.baseUrl}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${gateway.bearer}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  return { status: response.status, text: await response.text(), headers: response.headers }
}

const ask = (model: string, over: object = {}): Promise<Answer> =>
  post('/responses', { model, input: 'Hi', ...over })
const sent = (provider: ScriptedProvider) => {
  const request = provider.requests.at(-1)
  return { path: request?.path, body: JSON.parse(request?.body.toString() ?? 'null') }
}
const STREAM = { stream: true }

describe('a provider that takes Responses', () => {
  it('gets the bytes of its caller, and its caller gets its bytes', async () => {
    one.script(answer({ text: 'Grüße 👋', reasoning: ['Hm.'] }))
    const { text, headers } = await ask('own', { ...STREAM, unknown: { a: [1.0] } })
    expect(sent(one)).toEqual({
      path: '/v1/responses',
      body: { model: 'm1', input: 'Hi', stream: true, unknown: { a: [1] } },
    })
    expect(headers.get('content-type')).toMatch(/^text\/event-stream/)
    const { response } = assembleResponse(text)
    expect(response).toMatchObject({ id: 'resp_scripted', model: 'm1', status: 'completed' })
    const whole = await ask('own')
    expect(JSON.parse(whole.text)).toMatchObject({
      id: 'resp_scripted',
      output: [{ type: 'reasoning' }, { type: 'message' }],
    })
  })

  it.each(['error first', 'error in a 200', 'no finish', 'status'])(
    'is gone from where it has %s before a word, however it has begun',
    async (what) => {
      const streams = what !== 'error in a 200'
      one.script(
        what === 'status'
          ? status(503)
          : what === 'error first'
            ? inBandErrorFirst()
            : what === 'no finish'
              ? cutAfter({ frames: 2 })
              : errorIn200(),
      )
      two.script(answer({ text: 'From two.' }))
      const { text, headers } = await ask('twice', streams ? STREAM : {})
      const response = streams ? assembleResponse(text).response : JSON.parse(text)
      expect(response).toMatchObject({ model: 'm2', output: [{ content: [{ text: 'From two.' }] }] })
      expect(headers.get('x-sluice-deployment')).toBe('ownToo/m2')
    },
  )

  it.each([
    ['cut', () => cutAfter({ frames: 6, text: 'one two three four' })],
    ['told an error', () => inBandErrorAfterContent({ after: 6 })],
    ['ended without its last event', () => noFinishReason({})],
  ])(
    'that is %s in the middle ends as an error with the next number, and never as a response (bug 5)',
    async (_, behaviour) => {
      one.script(behaviour())
      const { text } = await ask('own', STREAM)
      const events = parseSse(text)
      const last = JSON.parse(events.at(-1)?.data ?? '')
      expect(events.at(-1)?.event).toBe('error')
      expect(schemaFaults('ResponseStreamEvent', last)).toEqual([])
      expect(last.code).toBe('upstream_incomplete')
      const numbers = events.map(({ data }) => JSON.parse(data).sequence_number)
      expect(numbers).toEqual(numbers.map((_number, i) => i))
      expect(text).not.toMatch(/response\.(?:completed|incomplete|failed)|\[DONE\]/)
    },
  )
})

describe('a model that has chat alone', () => {
  it('is asked in chat, and answers in Responses', async () => {
    one.script(toolCall('get_weather', { location: 'Paris' }, { text: 'I look.' }))
    const tools = [
      { type: 'function', name: 'get_weather', parameters: { type: 'object', properties: {} } },
      { type: 'web_search' },
    ]
    const { text, headers } = await ask('chat', {
      ...STREAM,
      instructions: 'Be brief.',
      tools,
      max_output_tokens: 99,
    })
    expect(sent(one)).toMatchObject({
      path: '/v1/chat/completions',
      body: {
        model: 'm1',
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'Hi' },
        ],
        tools: [{ type: 'function', function: { name: 'get_weather' } }],
        max_tokens: 99,
      },
    })
    const { output } = assembleResponse(text)
    expect(output.map(({ type }) => type).sort()).toEqual(['function_call', 'message'])
    expect(output).toContainEqual(
      expect.objectContaining({ name: 'get_weather', arguments: '{"location":"Paris"}' }),
    )
    expect([...headers].flat().join(' ')).toContain('web_search')
    const whole = await ask('chat', { tools })
    expect(schemaFaults('Response', JSON.parse(whole.text))).toEqual([])
  })

  it('breaks off in the shape of its caller, numbered on (bug 5)', async () => {
    one.script(cutAfter({ frames: 4, text: 'one two three four five six' }))
    const { text } = await ask('chat', STREAM)
    const events = parseSse(text)
    expect(events.at(-1)?.event).toBe('error')
    const numbers = events.map(({ data }) => JSON.parse(data).sequence_number)
    expect(numbers).toEqual(numbers.map((_, i) => i))
    expect(text).toContain('response.output_text.delta')
  })

  it('gives way to one that takes the bytes of its caller', async () => {
    one.script(status(500))
    two.script(answer({ text: 'From two.' }))
    const { text } = await ask('down', STREAM)
    expect(assembleResponse(text).response).toMatchObject({ id: 'resp_scripted', model: 'm2' })
    expect(sent(two)).toMatchObject({ path: '/v1/responses', body: { input: 'Hi' } })
  })
})

describe('a model that has Responses alone', () => {
  it('answers a caller of chat', async () => {
    one.script(answer({ text: 'Hello there', reasoning: ['Hm.'] }))
    const messages = [{ role: 'user', content: 'Hi' }]
    const whole = await post('/chat/completions', { model: 'inverse', messages })
    expect(sent(one)).toMatchObject({ path: '/v1/responses', body: { model: 'm1', store: false } })
    const reply = JSON.parse(whole.text)
    expect(schemaFaults('CreateChatCompletionResponse', reply)).toEqual([])
    expect(reply).toMatchObject({
      choices: [{ message: { content: 'Hello there', reasoning_content: 'Hm.' }, finish_reason: 'stop' }],
    })
    const streamed = await post('/chat/completions', { model: 'inverse', messages, stream: true })
    const data = parseSse(streamed.text).map((event) => event.data)
    expect(data.at(-1)).toBe('[DONE]')
    const text = data
      .slice(0, -1)
      .flatMap((one) => JSON.parse(one).choices)
      .map(({ delta }) => delta.content ?? '')
      .join('')
    expect(text).toBe('Hello there')
  })
})

describe('a request for what is kept in an account', () => {
  it.each([
    ['previous_response_id', { previous_response_id: 'resp_1' }],
    ['conversation', { conversation: 'conv_1' }],
    ['background', { background: true }],
  ])('is refused by the name of its field, whoever would be asked: %s', async (param, over) => {
    for (const model of ['own', 'chat']) {
      const { status: code, text } = await ask(model, over)
      expect(code).toBe(400)
      const body = JSON.parse(text)
      expect(schemaFaults('ErrorResponse', body)).toEqual([])
      expect(body.error).toMatchObject({ param, code: 'invalid_request' })
    }
    expect(one.requests).toHaveLength(0)
    expect(
      (await ask('own', { previous_response_id: null, conversation: null, background: false })).status,
    ).toBe(200)
  })
})

describe('what is kept of a response', () => {
  it.each([
    ['GET', '/responses/resp_1'],
    ['DELETE', '/responses/resp_1'],
    ['GET', '/responses/resp_1/input_items'],
    ['POST', '/responses/resp_1/cancel'],
    ['POST', '/responses/input_tokens'],
    ['POST', '/responses/compact'],
  ])('is nothing, and is told in the shape of the API: %s %s', async (method, path) => {
    const response = await fetch(`${gateway.baseUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${gateway.bearer}` },
    })
    expect(response.status).toBe(404)
    const body: unknown = await response.json()
    expect(schemaFaults('ErrorResponse', body)).toEqual([])
  })
})

describe("OpenAI's own SDK", () => {
  const sdk = () => new OpenAI({ apiKey: gateway.bearer, baseURL: gateway.baseUrl, maxRetries: 0 })

  it.each(['own', 'chat', 'inverse'])('streams from a model by the name of "%s"', async (model) => {
    one.script(answer({ text: 'Hello there' }))
    const response = await sdk().responses.stream({ model, input: 'Hi' }).finalResponse()
    expect(response).toMatchObject({ output_text: 'Hello there', status: 'completed' })
  })

  it('raises when an answer breaks off', async () => {
    one.script(cutAfter({ frames: 5, text: 'one two three four five six' }))
    const error: unknown = await sdk()
      .responses.stream({ model: 'chat', input: 'Hi' })
      .finalResponse()
      .catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(APIError)
    expect(error).toMatchObject({ code: 'upstream_incomplete' })
  })

  it.each(['own', 'chat'])('completes a prompt with a model by the name of "%s"', async (model) => {
    one.script(answer({ text: 'this is a test' }))
    const whole = await sdk().completions.create({ model, prompt: 'Say' })
    expect(whole.choices).toMatchObject([{ text: 'this is a test', finish_reason: 'stop' }])
    let text = ''
    for await (const chunk of await sdk().completions.create({ model, prompt: 'Say', stream: true }))
      text += chunk.choices[0]?.text ?? ''
    expect(text).toBe('this is a test')
    expect(sent(one).path).toBe(model === 'own' ? '/v1/completions' : '/v1/chat/completions')
    expect(isRecord(sent(one).body)).toBe(true)
  })
})
