// The official OpenAI SDK, unmodified, pointed at a real gateway process: what an agent gets that changes one variable.

import OpenAI, {
  APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from 'openai'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { eventually } from '../support/caller.ts'
import { agentPolicy, makeBearer, startGateway, type TestGateway } from '../support/gateway.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import {
  answer,
  type Behaviour,
  createScriptedProvider,
  cutAfter,
  isRecord,
  noFinishReason,
  type RecordedRequest,
  type ScriptedProvider,
  silent,
  stallAfter,
  status,
  toolCall,
} from '../support/scripted-provider.ts'
import { ANSWER, EXPECTED_CALLS, rejection, runAgent } from './agent.ts'

const PROVIDER_KEY = 'provider-key-that-no-caller-ever-sees'
const agent = makeBearer()
const limited = makeBearer()

let redis: TestRedis
let good: ScriptedProvider

beforeAll(async () => {
  ;[redis, good] = await Promise.all([startRedis(), createScriptedProvider()])
})
afterAll(() => Promise.all([redis.stop(), good.close()]))
beforeEach(() => good.reset())

/** A gateway whose route `model` goes over these providers, one tier each, the last of them `good`. */
function gatewayOver(
  providers: Readonly<Record<string, string>>,
  more: Readonly<Record<string, unknown>> = {},
): Promise<TestGateway> {
  const names = [...Object.keys(providers), 'good']
  const urls: Readonly<Record<string, string>> = { ...providers, good: good.baseUrl }
  return startGateway({
    env: { PROVIDER_KEY },
    config: {
      redis: { url: redis.url },
      providers: Object.fromEntries(
        names.map((name) => [name, { format: 'openai', baseUrl: urls[name], apiKey: 'env:PROVIDER_KEY' }]),
      ),
      tiers: Object.fromEntries(
        names.map((name) => [name, { deployments: [`${name}/real-model`], idle: '300ms' }]),
      ),
      routes: { model: names, 'text-embedding': ['good'] },
      ...more,
    },
    policies: {
      agent: agentPolicy('agent', agent, {
        deny: ['chat:secret-*'],
        limits: { requests: '600/min', tokens: '10000000/min', concurrency: 20 },
      }),
      limited: agentPolicy('limited', limited, { limits: { requests: { capacity: 1, refill: '1/s' } } }),
    },
  })
}

function clientOf(gateway: TestGateway, bearer = agent.bearer, maxRetries = 0): OpenAI {
  return new OpenAI({ baseURL: gateway.baseUrl, apiKey: bearer, maxRetries, timeout: 15_000 })
}

/** A model that asks for two temperatures, adds them up, and answers from the sum. */
function brain(request: RecordedRequest): Behaviour {
  const { messages } = bodyOf(request)
  const results = (Array.isArray(messages) ? messages : [])
    .filter(isRecord)
    .filter(({ role }) => role === 'tool')
    .map(({ content }) => String(content))
  if (results.length === 0) {
    return answer({
      toolCalls: [
        { id: 'call_paris', name: 'get_temperature', args: { city: 'Paris' } },
        { id: 'call_oslo', name: 'get_temperature', args: { city: 'Oslo' } },
      ],
    })
  }
  if (results.length === 2) return toolCall('add', { a: Number(results[0]), b: Number(results[1]) })
  return answer({ text: `Together it is ${results.at(-1)} degrees.` })
}

function bodyOf(request: RecordedRequest | undefined): Record<string, unknown> {
  const body = request?.json()
  return isRecord(body) ? body : {}
}

describe('an agent loop over tiers that fail', () => {
  let busy: ScriptedProvider
  let cutting: ScriptedProvider
  let gone: string

  beforeAll(async () => {
    busy = await createScriptedProvider({ script: status(503) })
    cutting = await createScriptedProvider({ script: cutAfter({ frames: 1 }) })
    const closed = await createScriptedProvider()
    gone = closed.baseUrl
    await closed.close()
  })
  afterAll(() => Promise.all([busy.close(), cutting.close()]))

  it.each([
    ['whole replies', false],
    ['streams', true],
  ])('calls the right tools and answers from their results with %s', async (_, stream) => {
    good.script(brain)
    const gateway = await gatewayOver({ busy: busy.baseUrl, gone, cutting: cutting.baseUrl })
    try {
      const result = await runAgent(clientOf(gateway), 'model', stream)

      expect(result.calls).toEqual(EXPECTED_CALLS)
      expect(result.answer).toBe(ANSWER)
      expect(result.roles).toEqual([
        ...['system', 'user', 'assistant', 'tool', 'tool', 'assistant', 'tool', 'assistant'],
      ])

      const requestLines = () => gateway.logLines().filter(({ msg }) => msg === 'request')
      await eventually(() => requestLines().length >= 3, 'three lines in the log')
      const lines = requestLines()
      expect(lines.map(({ attempts }) => attempts)).toEqual(
        Array.from({ length: 3 }, () => [
          'busy:busy/real-model=503',
          'gone:gone/real-model=refused',
          'cutting:cutting/real-model=reset',
          'good:good/real-model=200',
        ]),
      )
      expect(lines.map(({ degraded, usageSource, code }) => [degraded, usageSource, code])).toEqual(
        Array.from({ length: 3 }, () => [true, 'provider', 'ok']),
      )

      expect(good.requests).toHaveLength(3)
      for (const request of [...good.requests, ...busy.requests, ...cutting.requests]) {
        expect(bodyOf(request).model).toBe('real-model')
        expect(request.header('authorization')).toBe(`Bearer ${PROVIDER_KEY}`)
        expect(JSON.stringify(request.headers) + request.body).not.toContain(agent.bearer)
        expect(bodyOf(request).stream_options).toEqual(stream ? { include_usage: true } : undefined)
      }
      // The tools' results went back under the ids of their calls.
      expect(bodyOf(good.requests[1]).messages).toEqual(
        expect.arrayContaining([
          expect.objectContaining({ role: 'tool', tool_call_id: 'call_paris', content: '21' }),
          expect.objectContaining({ role: 'tool', tool_call_id: 'call_oslo', content: '-4' }),
        ]),
      )
      expect(await redis.command('KEYS', 'slc:1:*')).not.toEqual([])
      const printed = gateway.stdout() + gateway.stderr()
      expect(printed).not.toContain(PROVIDER_KEY)
      expect(printed).not.toContain(agent.bearer)
    } finally {
      await gateway.stop()
      busy.reset()
      cutting.reset()
    }
  })
})

describe('one provider behind the SDK', () => {
  let gateway: TestGateway
  let client: OpenAI
  const hello = { model: 'model', messages: [{ role: 'user' as const, content: 'Hello.' }] }

  beforeAll(async () => {
    gateway = await gatewayOver({})
    client = clientOf(gateway)
  })
  afterAll(() => gateway.stop())
  afterEach(() => expect(good.faults).toEqual([]))

  describe('a stream', () => {
    it('has no usage chunk unless the caller asks, although the provider is always asked', async () => {
      const chunks = []
      for await (const chunk of await client.chat.completions.create({ ...hello, stream: true }))
        chunks.push(chunk)
      expect(chunks.every(({ choices }) => choices.length === 1)).toBe(true)
      expect(chunks.some(({ usage }) => usage)).toBe(false)
      expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(
        'Hello from the scripted provider.',
      )
      expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe('stop')
      expect(bodyOf(good.requests[0]).stream_options).toEqual({ include_usage: true })
    })

    it('ends with the usage chunk when the caller asks', async () => {
      const chunks = []
      const asked = { ...hello, stream: true as const, stream_options: { include_usage: true } }
      for await (const chunk of await client.chat.completions.create(asked)) chunks.push(chunk)
      expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: 11, completion_tokens: 5 } })
      expect(bodyOf(good.requests[0]).stream_options).toEqual({ include_usage: true })
    })

    it('names the model that really answered', async () => {
      const { data, response } = await client.chat.completions
        .create({ ...hello, stream: true })
        .withResponse()
      const models = new Set<string>()
      for await (const { model } of data) models.add(model)
      expect([...models]).toEqual(['real-model'])
      expect(response.headers.get('x-sluice-deployment')).toBe('good/real-model')
      expect(response.headers.get('x-sluice-degraded')).toBeNull()
    })

    it('cancels the provider at once when the caller aborts in the middle', async () => {
      good.script(answer({ pieces: Array.from({ length: 500 }, (_, i) => `${i} `), everyMs: 20 }))
      const stream = await client.chat.completions.create({ ...hello, stream: true })
      let seen = 0
      for await (const _ of stream) {
        seen += 1
        if (seen === 3) stream.controller.abort()
      }
      const abortedMs = performance.now()
      const request = await good.waitForAbort(0, 2_000)
      expect((request.endedMs ?? Number.POSITIVE_INFINITY) - abortedMs).toBeLessThan(1_000)
    })

    it('cancels the provider when the caller aborts before the first byte', async () => {
      good.script(silent())
      const controller = new AbortController()
      const waiting = rejection(
        client.chat.completions.create({ ...hello, stream: true }, { signal: controller.signal }),
      )
      await good.waitForRequests(1)
      controller.abort()
      expect(await waiting).toBeInstanceOf(APIUserAbortError)
      await good.waitForAbort(0, 2_000)
    })

    it.each([
      ['is reset after some content', cutAfter({ frames: 3 })],
      ['is closed after some content', cutAfter({ frames: 3, how: 'fin' })],
      ['ends in good order without a finish reason', noFinishReason()],
      ['ends in good order without anything behind the content', cutAfter({ frames: 3, how: 'orderly' })],
      ['stalls', stallAfter(3)],
    ])('raises an APIError and never ends clean when the provider %s', async (_, behaviour) => {
      good.script(behaviour)
      const stream = await client.chat.completions.create({ ...hello, stream: true })
      let text = ''
      const error = await rejection(
        (async () => {
          for await (const { choices } of stream) text += choices[0]?.delta.content ?? ''
        })(),
      )
      expect(text).toMatch(/^Hello from/)
      expect(error).toBeInstanceOf(APIError)
      expect(error).toMatchObject({ code: 'upstream_incomplete', type: 'server_error' })
      expect(good.calls).toBe(1)
    })
  })

  describe('errors', () => {
    it('raises AuthenticationError for an unknown bearer', async () => {
      const error = await rejection(clientOf(gateway, 'sk-nobody').chat.completions.create(hello))
      expect(error).toBeInstanceOf(AuthenticationError)
      expect(error).toMatchObject({ status: 401, code: 'invalid_api_key', type: 'invalid_request_error' })
      expect(good.calls).toBe(0)
    })

    it('raises PermissionDeniedError that names the missing scope', async () => {
      const error = await rejection(client.chat.completions.create({ ...hello, model: 'secret-model' }))
      expect(error).toBeInstanceOf(PermissionDeniedError)
      expect(error).toMatchObject({ status: 403, code: 'scope_denied' })
      expect(String(error)).toContain('chat:secret-model')
    })

    it('raises NotFoundError for a model without a route', async () => {
      const error = await rejection(client.chat.completions.create({ ...hello, model: 'no-such-model' }))
      expect(error).toBeInstanceOf(NotFoundError)
      expect(error).toMatchObject({ status: 404, code: 'model_not_found', param: 'model' })
    })

    it('raises RateLimitError over the limit, and with retries waits as told and gets its answer', async () => {
      const patient = clientOf(gateway, limited.bearer, 3)
      await patient.chat.completions.create(hello)
      const error = await rejection(clientOf(gateway, limited.bearer).chat.completions.create(hello))
      expect(error).toBeInstanceOf(RateLimitError)
      expect(error).toMatchObject({ status: 429, code: 'rate_limit_exceeded', type: 'rate_limit_error' })
      const waitMs = Number(error instanceof APIError ? error.headers?.get('retry-after-ms') : undefined)
      expect(waitMs).toBeGreaterThan(0)
      expect(waitMs).toBeLessThanOrEqual(1_000)

      const reply = await patient.chat.completions.create(hello)
      expect(reply.choices[0]?.message.content).toBe('Hello from the scripted provider.')
      // One retry was enough: the SDK's own first pause of at most 500 ms would have been too short.
      const statuses = () =>
        gateway.logLines().flatMap((line) => (line.agent === 'limited' ? [line.status] : []))
      await gateway.waitForLog(({ id }) => id === reply._request_id)
      expect(statuses()).toEqual([200, 429, 429, 200])
      expect(good.calls).toBe(2)
    })

    it("passes the provider's 400 on with its words, once", async () => {
      good.script(
        status(400, {
          error: {
            message: 'temperature must be below 2',
            type: 'invalid_request_error',
            param: 'temperature',
            code: 'bad_value',
          },
        }),
      )
      const error = await rejection(
        clientOf(gateway, agent.bearer, 2).chat.completions.create({ ...hello, temperature: 3 }),
      )
      expect(error).toBeInstanceOf(BadRequestError)
      expect(error).toMatchObject({ status: 400, param: 'temperature', code: 'bad_value' })
      expect(String(error)).toContain('temperature must be below 2')
      expect(good.calls).toBe(1)
    })

    it('raises InternalServerError with every attempt in it when nobody can answer', async () => {
      good.script(status(503))
      const error = await rejection(client.chat.completions.create(hello))
      expect(error).toBeInstanceOf(InternalServerError)
      expect(error).toMatchObject({ status: 503, code: 'upstream_failed', type: 'server_error' })
      expect(String(error)).toContain('good good/real-model: 503')
    })
  })

  it('shows its request id as _request_id, the same as in the log', async () => {
    const reply = await client.chat.completions.create(hello)
    expect(reply._request_id).toMatch(/^req_/)
    expect(reply._request_id).not.toBe('req_scripted')
    await gateway.waitForLog(({ id, msg }) => id === reply._request_id && msg === 'request')
    const error = await rejection(client.chat.completions.create({ ...hello, model: 'no-such-model' }))
    expect(error).toMatchObject({ requestID: expect.stringMatching(/^req_/) })
  })

  it('lists and retrieves models', async () => {
    const ids = []
    for await (const { id } of client.models.list()) ids.push(id)
    expect(ids.toSorted()).toEqual(['model', 'text-embedding'])
    expect(await client.models.retrieve('model')).toMatchObject({ id: 'model', object: 'model' })
    expect(await rejection(client.models.retrieve('secret-model'))).toBeInstanceOf(NotFoundError)
  })

  it('embeds in base64, as the SDK asks by itself, and in floats when told', async () => {
    const many = await client.embeddings.create({ model: 'text-embedding', input: ['one', 'two'] })
    expect(many.data.map(({ embedding }) => embedding)).toEqual([
      [0.25, -0.5, 0.75, 1],
      [0.25, -0.5, 0.75, 1],
    ])
    const floats = await client.embeddings.create({
      ...{ model: 'text-embedding', input: 'one', encoding_format: 'float' },
    })
    expect(floats.data[0]?.embedding).toEqual([0.25, -0.5, 0.75, 1])
    expect(good.requests.map((request) => [request.path, bodyOf(request).encoding_format])).toEqual([
      ['/v1/embeddings', 'base64'],
      ['/v1/embeddings', 'float'],
    ])
    expect(bodyOf(good.requests[0]).model).toBe('real-model')
  })

  it('sends nothing of the caller that the provider need not know', async () => {
    const loud = new OpenAI({
      ...{ baseURL: gateway.baseUrl, apiKey: agent.bearer, organization: 'org-x', project: 'proj-x' },
      defaultHeaders: { cookie: 'a=b', 'x-forwarded-for': '10.1.2.3', 'x-custom': 'mine' },
    })
    await loud.chat.completions.create(hello)
    const names = good.requests[0]?.headers.map(([name]) => name.toLowerCase()).toSorted()
    expect(names).toEqual(
      [
        'host',
        'connection',
        'content-type',
        'content-length',
        'accept',
        'accept-encoding',
        'user-agent',
        'authorization',
      ].toSorted(),
    )
    expect(good.requests[0]?.header('user-agent')).toMatch(/^sluice\//)
  })
})
