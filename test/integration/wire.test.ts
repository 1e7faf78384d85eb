// What goes to a provider beside what was asked, and what is said when a request has no place in its format: headers of a
// format, members left out, members refused, the count of tokens, and vectors of a server that knows lists only.

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { agentPolicy, makeBearer, startGateway, type TestGateway } from '../support/gateway.ts'
import {
  answer,
  createScriptedProvider,
  cutAfter,
  type ScriptedProvider,
  silent,
  status,
} from '../support/scripted-provider.ts'
import { parseSse } from '../support/sse.ts'

const KEY = 'sk-provider-key-0123456789abcdef'
const SIGNING = 'AKIDEXAMPLE000000000:wJalrXUtnFEMIexampleSecretPart'
const tester = makeBearer()
const narrow = makeBearer()

let provider: ScriptedProvider
let gateway: TestGateway

beforeAll(async () => {
  provider = await createScriptedProvider()
  const apiKey = 'env:PROVIDER_KEY'
  const { url } = provider
  const models = ['chat', 'claude', 'gemini', 'bedrock', 'vectors', 'simulated'] as const
  gateway = await startGateway({
    config: {
      providers: {
        chat: { format: 'openai', baseUrl: `${url}/v1`, apiKey },
        claude: { format: 'anthropic', baseUrl: `${url}/v1`, apiKey, headers: { 'x-own': 'ours' } },
        gemini: { format: 'gemini', baseUrl: `${url}/v1beta`, apiKey },
        bedrock: { format: 'bedrock', baseUrl: url, region: 'eu-west-1', apiKey: 'env:SIGNING_KEY' },
        vectors: { format: 'openai', baseUrl: `${url}/v1`, apiKey, quirks: ['float-embeddings'] },
        vertex: { format: 'vertex', baseUrl: `${url}/v1`, project: 'p1', region: 'europe-west1', apiKey },
        simulated: { format: 'simulated' },
      },
      tiers: {
        ...Object.fromEntries(
          models.map((name) => [name, { deployments: [`${name}/m`], firstByte: '500ms' }]),
        ),
        'vertex-claude': { deployments: ['vertex/claude-opus-4-5@20251101'], firstByte: '500ms' },
        'vertex-gemini': { deployments: ['vertex/gemini-3-flash'] },
        last: { reply: 'Nobody is here.' },
      },
      routes: {
        ...Object.fromEntries(models.map((name) => [name, [name]])),
        'claude-then-chat': ['claude', 'chat'],
        'gemini-then-claude': ['gemini', 'claude'],
        'gemini-then-last': ['gemini', 'last'],
        'vertex-claude': ['vertex-claude'],
        'vertex-gemini': ['vertex-gemini'],
      },
    },
    policies: {
      tester: agentPolicy('tester', tester),
      narrow: agentPolicy('narrow', narrow, {
        limits: { maxOutput: 50, tokens: { capacity: 4000, refill: '1/h' } },
      }),
    },
    env: { PROVIDER_KEY: KEY, SIGNING_KEY: SIGNING },
  })
})
afterAll(async () => {
  await gateway?.stop()
  await provider?.close()
})
beforeEach(() => provider.reset())

function post(
  path: string,
  body: Readonly<Record<string, unknown>>,
  { headers = {}, bearer = tester.bearer }: { headers?: Record<string, string>; bearer?: string } = {},
): Promise<Response> {
  return fetch(`${gateway.baseUrl}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(20_000),
  })
}

// biome-ignore lint/suspicious/noExplicitAny: what it says is what is tested
function jsonOf(response: Response): Promise<any> {
  return response.json()
}

const USER = { role: 'user', content: 'Hello.' }
const HEADERS = {
  'anthropic-version': '2026-10-21',
  'anthropic-beta': 'a-2026-01-01,b-2026-01-01',
  'openai-beta': 'c=v1',
  'x-api-key': tester.bearer,
  'openai-organization': 'org-secret',
  cookie: 'a=b',
  'x-claude-code-session-id': 's',
}

describe('headers of a caller', () => {
  it('reach a provider of the same format where the format has them, and no other ever does', async () => {
    await post('/messages', { model: 'claude', max_tokens: 9, messages: [USER] }, { headers: HEADERS })
    const [request] = provider.requests
    expect(request?.headers.map(([name]) => name.toLowerCase()).sort()).toEqual([
      'accept',
      'accept-encoding',
      'anthropic-beta',
      'anthropic-version',
      'connection',
      'content-length',
      'content-type',
      'host',
      'user-agent',
      'x-api-key',
      'x-own',
    ])
    expect(request?.header('anthropic-version')).toBe('2026-10-21')
    expect(request?.header('anthropic-beta')).toBe('a-2026-01-01,b-2026-01-01')
    expect(request?.header('x-api-key')).toBe(KEY)
  })

  it('stop where a request is translated', async () => {
    await post('/messages', { model: 'chat', max_tokens: 9, messages: [USER] }, { headers: HEADERS })
    await post('/chat/completions', { model: 'claude', messages: [USER] }, { headers: HEADERS })
    const [chat, messages] = provider.requests
    for (const name of Object.keys(HEADERS)) expect(chat?.header(name)).toBeUndefined()
    expect(messages?.header('anthropic-version')).toBe('2023-06-01')
    expect(messages?.header('anthropic-beta')).toBeUndefined()
    expect(messages?.header('x-api-key')).toBe(KEY)
  })
})

describe('a call that is signed', () => {
  it('carries a signature and no part of the key, which is never seen in an answer either', async () => {
    const [id = '', secret = ''] = SIGNING.split(':')
    provider.script(answer({ pieces: [`${secret} `, 'is your secret.'] }))
    const response = await post('/chat/completions', { model: 'bedrock', messages: [USER] })
    const text = await response.text()
    expect(response.status).toBe(200)
    expect(text).toContain('[redacted] is your secret.')
    const [request] = provider.requests
    expect(request?.header('authorization')).toMatch(
      new RegExp(`^AWS4-HMAC-SHA256 Credential=${id}/\\d{8}/eu-west-1/bedrock/aws4_request, `),
    )
    expect(JSON.stringify(request?.headers)).not.toContain(secret)
  })
})

describe('what a format has no place for', () => {
  it('is left out where it does no harm, and told', async () => {
    const body = { model: 'claude', messages: [USER], seed: 5, logit_bias: { 5: 1 }, user: 'u' }
    const response = await post('/chat/completions', body)
    expect(response.status).toBe(200)
    const dropped = response.headers.get('x-sluice-dropped')?.split(', ') ?? []
    expect(dropped).toEqual(expect.arrayContaining(['seed', 'logit_bias']))
    expect(dropped).not.toContain('user')
    expect(provider.requests[0]?.body.toString()).not.toContain('logit_bias')
  })

  it('is not told of where bytes pass', async () => {
    const response = await post('/chat/completions', { model: 'chat', messages: [USER], seed: 5, odd: 1 })
    expect(response.headers.has('x-sluice-dropped')).toBe(false)
    expect(provider.requests[0]?.json()).toEqual({ model: 'm', messages: [USER], seed: 5, odd: 1 })
  })

  it('is refused by name where the answer would be another, and nobody is called', async () => {
    const body = { model: 'claude', messages: [USER], modalities: ['text', 'audio'], audio: { voice: 'x' } }
    const response = await post('/chat/completions', body)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: { code: 'invalid_request', param: 'modalities', type: 'invalid_request_error' },
    })
    expect(response.headers.get('x-sluice-attempts')).toBe('claude:claude/m=skipped:format')
    expect(provider.calls).toBe(0)
  })

  it('passes over those who cannot have it for one who can', async () => {
    const body = {
      model: 'claude-then-chat',
      messages: [USER],
      modalities: ['text', 'audio'],
      audio: { voice: 'x' },
    }
    const response = await post('/chat/completions', body)
    expect(response.status).toBe(200)
    expect(response.headers.get('x-sluice-attempts')).toBe('claude:claude/m=skipped:format, chat:chat/m=200')
    expect(provider.requests[0]?.json()).toMatchObject({ modalities: ['text', 'audio'] })
  })

  it('is an operation too: a provider without vectors is asked for none', async () => {
    const response = await post('/embeddings', { model: 'claude', input: 'x' })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_request', param: 'model' } })
    expect(provider.calls).toBe(0)
  })

  it('names state that would be kept in an account: refused at each endpoint', async () => {
    const responses = await post('/responses', { model: 'chat', input: 'x', previous_response_id: 'resp_1' })
    expect(responses.status).toBe(400)
    expect(await responses.json()).toMatchObject({ error: { param: 'previous_response_id' } })
    const background = await post('/responses', { model: 'chat', input: 'x', background: true })
    expect(await background.json()).toMatchObject({ error: { param: 'background' } })
    const steered = await post('/messages', { model: 'chat', max_tokens: 1, messages: [USER], fallbacks: [] })
    expect(steered.status).toBe(400)
    expect(await steered.json()).toMatchObject({ type: 'error', error: { type: 'invalid_request_error' } })
  })
})

describe('the cap of an agent', () => {
  it.each([
    ['/messages', 'claude', { max_tokens: 900, messages: [USER] }, 'max_tokens'],
    ['/messages', 'chat', { max_tokens: 900, messages: [USER] }, 'max_tokens'],
    ['/chat/completions', 'chat', { messages: [USER] }, 'max_completion_tokens'],
    ['/chat/completions', 'claude', { messages: [USER] }, 'max_tokens'],
    ['/responses', 'chat', { input: 'x' }, 'max_tokens'],
    ['/completions', 'claude', { prompt: 'x' }, 'max_tokens'],
  ])('holds at %s over %s', async (path, model, body, member) => {
    const response = await post(path, { model, ...body }, { bearer: narrow.bearer })
    expect(response.status).toBe(200)
    expect(provider.requests[0]?.json()).toMatchObject({ [member]: 50 })
  })
})

const VERTEX = '/v1/projects/p1/locations/europe-west1/publishers/anthropic/models'

describe('Claude at Vertex AI', () => {
  const body = { max_tokens: 20, messages: [USER], x_unknown: 1 }

  it.each([
    ['rawPredict', false],
    ['streamRawPredict', true],
  ])('is asked in the bytes of Messages, by %s', async (method, stream) => {
    provider.script(answer({ text: 'As it is.' }))
    const response = await post(
      '/messages',
      { model: 'vertex-claude', ...body, stream },
      { headers: HEADERS },
    )
    expect(response.status).toBe(200)
    expect(await response.text()).toContain('As ')
    const [request] = provider.requests
    expect(request?.path).toBe(`${VERTEX}/claude-opus-4-5@20251101:${method}`)
    expect(request?.body.toString()).toBe(
      JSON.stringify({ anthropic_version: HEADERS['anthropic-version'], ...body, stream }),
    )
    expect(request?.header('authorization')).toBe(`Bearer ${KEY}`)
    expect(request?.header('anthropic-beta')).toBe(HEADERS['anthropic-beta'])
    expect(request?.header('x-api-key')).toBeUndefined()
  })

  it("is asked in its maker's words by who speaks chat", async () => {
    provider.script(answer({ text: 'Hello.' }))
    const response = await post('/chat/completions', { model: 'vertex-claude', messages: [USER] })
    expect((await jsonOf(response)).choices[0].message.content).toBe('Hello.')
    const sent = provider.requests[0]?.json()
    expect(sent).toMatchObject({ anthropic_version: 'vertex-2023-10-16', max_tokens: expect.any(Number) })
    expect(sent).not.toHaveProperty('model')
  })

  it('is not asked for what it does not have', async () => {
    const response = await post('/embeddings', { model: 'vertex-claude', input: 'x' })
    expect(response.status).toBe(400)
    expect(provider.calls).toBe(0)
  })

  it.each(['/messages', '/chat/completions'])(
    'that is cut breaks at %s, and never ends well',
    async (path) => {
      provider.script(cutAfter({ frames: 4 }))
      const response = await post(path, {
        model: 'vertex-claude',
        ...body,
        x_unknown: undefined,
        stream: true,
      })
      const text = await response.text()
      expect(text).toContain('"error"')
      expect(text).not.toMatch(/message_stop|\[DONE\]/)
    },
  )
})

describe('the count of tokens', () => {
  const body = {
    messages: [USER],
    tools: [{ name: 'f', input_schema: { type: 'object' } }],
    system: 'Be brief.',
  }

  it('is that of a provider that counts', async () => {
    provider.script(answer())
    const response = await post('/messages/count_tokens', { model: 'claude', ...body }, { headers: HEADERS })
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual({ input_tokens: expect.any(Number) })
    expect(response.headers.get('x-sluice-deployment')).toBe('claude/m')
    expect(provider.requests[0]?.path).toBe('/v1/messages/count_tokens')
    expect(provider.requests[0]?.json()).toEqual({ model: 'm', ...body })
    expect(provider.requests[0]?.header('anthropic-beta')).toBe(HEADERS['anthropic-beta'])
  })

  it('is that of Vertex AI for Claude, where a model of its own counts', async () => {
    provider.script(answer())
    const response = await post('/messages/count_tokens', { model: 'vertex-claude', ...body })
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual({ input_tokens: expect.any(Number) })
    expect(response.headers.get('x-sluice-deployment')).toBe('vertex/claude-opus-4-5@20251101')
    expect(provider.requests[0]?.path).toBe(`${VERTEX}/count-tokens:rawPredict`)
    expect(provider.requests[0]?.json()).toEqual({
      anthropic_version: 'vertex-2023-10-16',
      model: 'claude-opus-4-5@20251101',
      ...body,
    })
  })

  it.each(['chat', 'gemini', 'bedrock', 'vertex-gemini', 'simulated', 'gemini-then-last'])(
    'is an estimate over %s, and nobody is called',
    async (model) => {
      const response = await post('/messages/count_tokens', { model, ...body })
      expect(response.status).toBe(200)
      const { input_tokens: tokens, ...rest } = await jsonOf(response)
      expect(rest).toEqual({})
      expect(tokens).toBeGreaterThan(10)
      expect(tokens).toBeLessThan(100)
      expect(response.headers.get('x-sluice-deployment')).toBe('estimate')
      expect(provider.calls).toBe(0)
    },
  )

  it.each([
    ['fails', status(500), 'gemini-then-claude'],
    ['has no such endpoint', status(404), 'gemini-then-claude'],
    ['is silent', silent(), 'gemini-then-claude'],
    ['has no such endpoint beside its models', status(404), 'vertex-claude'],
  ])(
    'is an estimate where the one who counts %s',
    async (_, behaviour, model) => {
      provider.script(behaviour)
      const response = await post('/messages/count_tokens', { model, ...body })
      expect(response.status).toBe(200)
      expect(await response.json()).toEqual({ input_tokens: expect.any(Number) })
    },
    30_000,
  )

  it('takes no tokens of the agent', async () => {
    const remaining = async (): Promise<string | null> => {
      const response = await post(
        '/messages/count_tokens',
        { model: 'chat', ...body },
        { bearer: narrow.bearer },
      )
      expect(response.status).toBe(200)
      return response.headers.get('x-ratelimit-remaining-tokens')
    }
    const before = Number(await remaining())
    for (let i = 0; i < 5; i += 1) await remaining()
    expect(before - Number(await remaining())).toBeLessThan(200)
  })

  it.each([undefined, null, [], {}, 'Hello.'])(
    'of %j is refused, as by who counts itself',
    async (messages) => {
      const response = await post('/messages/count_tokens', { model: 'chat', messages })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({
        error: { type: 'invalid_request_error', message: expect.stringContaining('messages') },
      })
    },
  )

  it('of a body that is none is refused in the words of Messages', async () => {
    const response = await post('/messages/count_tokens', { messages: [] })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ type: 'error', error: { type: 'invalid_request_error' } })
  })
})

describe('vectors of a server that knows lists only', () => {
  it('are given in base64 to who asked for it (bug 60)', async () => {
    const response = await post('/embeddings', {
      model: 'vectors',
      input: ['a', 'b'],
      encoding_format: 'base64',
    })
    const { data } = await jsonOf(response)
    expect(provider.requests[0]?.json()).toMatchObject({ encoding_format: 'float' })
    const floats = data.map(({ embedding }: { embedding: string }) => {
      const bytes = Buffer.from(embedding, 'base64')
      return [...new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)]
    })
    expect(floats).toEqual([
      [0.25, -0.5, 0.75, 1],
      [0.25, -0.5, 0.75, 1],
    ])
  })

  it('pass as they are elsewhere', async () => {
    const response = await post('/embeddings', { model: 'chat', input: 'a', encoding_format: 'base64' })
    expect(provider.requests[0]?.json()).toEqual({ model: 'm', input: 'a', encoding_format: 'base64' })
    expect(typeof (await jsonOf(response)).data[0].embedding).toBe('string')
  })
})

describe('bytes that pass', () => {
  it('are those of the caller and of the provider, unknown members and thoughts included', async () => {
    const body = `{"model":"claude", "max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"\\u0068m","signature":"c2ln"}]},{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}]}],"stream":true,"unknown":1.0}`
    const response = await fetch(`${gateway.baseUrl}/messages`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tester.bearer}`, 'content-type': 'application/json' },
      body,
    })
    const text = await response.text()
    expect(provider.requests[0]?.body.toString()).toBe(body.replace('"model":"claude"', '"model":"m"'))
    expect(parseSse(text).at(-1)?.event).toBe('message_stop')
  })
})

describe('a prompt that is too long', () => {
  const OPENAI = status(400, {
    error: {
      message:
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
      type: 'invalid_request_error',
      param: 'messages',
      code: 'context_length_exceeded',
    },
  })
  const ANTHROPIC = status(400, {
    type: 'error',
    error: { type: 'invalid_request_error', message: 'prompt is too long: 9000 tokens > 8192 maximum' },
  })
  const GEMINI = status(400, {
    error: {
      code: 400,
      status: 'INVALID_ARGUMENT',
      message: 'The input token count (9000) exceeds the maximum number of tokens allowed (8192).',
    },
  })
  const BEDROCK = status(
    400,
    { message: 'Input is too long for requested model.' },
    {
      'x-amzn-errortype': 'ValidationException',
    },
  )

  // What agents look for in the words of an error before they compact their history.
  const ENDPOINTS = [
    [
      '/chat/completions',
      { messages: [USER] },
      /maximum context length is \d+ tokens.*resulted in \d+ tokens/,
    ],
    ['/responses', { input: 'x' }, /maximum context length is \d+ tokens.*resulted in \d+ tokens/],
    ['/completions', { prompt: 'x' }, /maximum context length is \d+ tokens.*resulted in \d+ tokens/],
    ['/messages', { max_tokens: 9, messages: [USER] }, /prompt is too long: \d+ tokens > \d+ maximum/],
  ] as const
  const PROVIDERS = [
    ['chat', OPENAI],
    ['claude', ANTHROPIC],
    ['gemini', GEMINI],
    ['bedrock', BEDROCK],
  ] as const

  const CASES = ENDPOINTS.flatMap(([path, body, words]) =>
    PROVIDERS.map(([model, behaviour]) => ({ path, body, words, model, behaviour })),
  )
  it.each(CASES)(
    'is told at $path in words that agents know, over $model',
    async ({ path, body, words, model, behaviour }) => {
      provider.script(behaviour)
      const response = await post(path, { model, ...body })
      expect(response.status).toBe(400)
      const { error } = await jsonOf(response)
      expect(error.message).toMatch(words)
      expect(error.type).toBe('invalid_request_error')
      if (path !== '/messages') expect(error.code).toBe('context_length_exceeded')
      expect(response.headers.get('x-should-retry')).toBe('false')
    },
  )
})
