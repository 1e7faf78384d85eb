// Anthropic's own SDK, unmodified, pointed at a real gateway process: over providers of its own format, whose bytes pass,
// and over those of OpenAI's, which are translated; and the other way round, chat over a provider of Messages.

import Anthropic, {
  APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from '@anthropic-ai/sdk'
import type { MessageParam, ToolResultBlockParam } from '@anthropic-ai/sdk/resources/messages'
import OpenAI from 'openai'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { agentPolicy, makeBearer, startGateway, type TestGateway } from '../support/gateway.ts'
import { requestFaults } from '../support/messages-checker.ts'
import {
  answer,
  contextLengthExceeded,
  createScriptedProvider,
  cutAfter,
  errorIn200,
  inBandErrorAfterContent,
  inBandErrorFirst,
  type ScriptedProvider,
  silent,
  status,
  toolLoop,
} from '../support/scripted-provider.ts'
import { rejection } from './agent.ts'

const overloaded = { type: 'overloaded_error', message: 'Overloaded' }
/** Each has a provider of its own, as what is known of one outlives a test. */
const TROUBLES = {
  'an overload behind the start of a stream': inBandErrorAfterContent({ after: 1, error: overloaded }),
  'an overload as the first event': inBandErrorFirst(overloaded),
  'an error with a status of 200': errorIn200(overloaded),
  'a status of 529': status(529),
  'no money in the account': status(402),
  'a connection that is cut behind the start': cutAfter({ frames: 1 }),
  'a page of HTML': status(502, '<html>Bad Gateway</html>'),
}

function troubled<T>(of: (name: string) => readonly [string, T]): Record<string, T> {
  return Object.fromEntries(Object.keys(TROUBLES).map((trouble) => of(routeOf(trouble))))
}

function routeOf(trouble: string): string {
  return `trouble-${Object.keys(TROUBLES).indexOf(trouble)}`
}

const agent = makeBearer()
const limited = makeBearer()
let own: ScriptedProvider
let other: ScriptedProvider
let gateway: TestGateway

beforeAll(async () => {
  ;[own, other] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  gateway = await startGateway({
    env: { OWN_KEY: 'own-key-that-no-caller-sees', OTHER_KEY: 'other-key-that-no-caller-sees' },
    config: {
      providers: {
        own: { format: 'anthropic', baseUrl: own.baseUrl, apiKey: 'env:OWN_KEY' },
        other: { format: 'openai', baseUrl: other.baseUrl, apiKey: 'env:OTHER_KEY' },
        ...troubled((name) => [name, { format: 'anthropic', baseUrl: own.baseUrl, apiKey: 'env:OWN_KEY' }]),
      },
      tiers: {
        own: { deployments: ['own/claude-opus-4-5'], idle: '500ms', retries: 0 },
        other: { deployments: ['other/gpt-oss-120b'], idle: '500ms', retries: 0 },
        ...troubled((name) => [name, { deployments: [`${name}/claude-opus-4-5`], retries: 0 }]),
        prefilled: { deployments: [{ use: 'own/claude-sonnet-4-5', prefill: true }], retries: 0 },
      },
      routes: {
        claude: ['own'],
        gpt: ['other'],
        both: ['own', 'other'],
        ...troubled((name) => [name, [name, 'other']]),
        resumed: { tiers: ['own', 'prefilled'], midStream: 'resume' },
      },
    },
    policies: {
      agent: agentPolicy('agent', agent, { deny: ['chat:secret-*'] }),
      limited: agentPolicy('limited', limited, { limits: { requests: '1/min' } }),
    },
  })
})
afterAll(async () => {
  await gateway.stop()
  await Promise.all([own.close(), other.close()])
})
beforeEach(() => {
  own.reset()
  other.reset()
})
afterEach(() => {
  const faults = own.requests.map((request) => requestFaults(asAnswered(request.json())))
  expect(faults.flat()).toEqual([])
})

/** A caller's own bytes may hold more than what is written in translation, and a count has no cap. */
function asAnswered(body: unknown): unknown {
  if (typeof body !== 'object' || body === null) return body
  const { context_management: _, ...rest } = Object.fromEntries(Object.entries(body))
  return { max_tokens: 1, ...rest }
}

function anthropic(bearer = agent.bearer): Anthropic {
  return new Anthropic({ baseURL: gateway.url, apiKey: bearer, maxRetries: 0 })
}

function openai(): OpenAI {
  return new OpenAI({ baseURL: gateway.baseUrl, apiKey: agent.bearer, maxRetries: 0 })
}

const ask = (model: string, text = 'Hi') => ({
  model,
  max_tokens: 1_000,
  messages: [{ role: 'user' as const, content: text }],
})
const TOOL = {
  name: 'get_weather',
  description: 'Tells the weather.',
  input_schema: { type: 'object' as const, properties: { city: { type: 'string' } }, required: ['city'] },
}

describe.each(['claude', 'gpt'])('the SDK over %s', (model) => {
  const provider = () => (model === 'claude' ? own : other)
  const named = model === 'claude' ? 'claude-opus-4-5' : 'gpt-oss-120b'

  it('has an answer, whole and streamed, by the name of who gave it', async () => {
    provider().script(answer({ text: 'Hello there, caller.', reasoning: ['Hm.'] }))
    const whole = await anthropic().messages.create(ask(model))
    const streamed = await anthropic().messages.stream(ask(model)).finalMessage()
    for (const message of [whole, streamed]) {
      expect(message).toMatchObject({
        type: 'message',
        role: 'assistant',
        model: named,
        stop_reason: 'end_turn',
      })
      expect(message.content).toMatchObject([
        { type: 'thinking', thinking: 'Hm.' },
        { type: 'text', text: 'Hello there, caller.' },
      ])
      expect(message.usage).toMatchObject({ input_tokens: 11, output_tokens: 3 })
    }
    expect(provider().requests.map((request) => request.json())).toMatchObject([
      { model: named },
      { model: named },
    ])
  })

  it('calls a tool and answers from its result, streamed', async () => {
    provider().script(toolLoop({ name: 'get_weather', args: { city: 'Paris' } }))
    const messages: MessageParam[] = [{ role: 'user', content: 'Weather?' }]
    const client = anthropic()
    let texts = ''
    for (let turn = 0; turn < 4; turn += 1) {
      const message = await client.messages.stream({ ...ask(model), messages, tools: [TOOL] }).finalMessage()
      const results = message.content.flatMap((block): ToolResultBlockParam[] =>
        block.type === 'tool_use'
          ? [
              {
                type: 'tool_result',
                tool_use_id: block.id,
                content: `sunny in ${JSON.stringify(block.input)}`,
              },
            ]
          : [],
      )
      texts += message.content.map((block) => (block.type === 'text' ? block.text : '')).join('')
      if (message.stop_reason !== 'tool_use') break
      messages.push({ role: 'assistant', content: message.content }, { role: 'user', content: results })
    }
    expect(texts).toBe('The tool said: sunny in {"city":"Paris"}')
    expect(provider().calls).toBe(2)
  })

  it('counts the tokens of a prompt', async () => {
    const { input_tokens: tokens } = await anthropic().messages.countTokens({
      model,
      messages: ask(model).messages,
    })
    expect(tokens).toBeGreaterThan(0)
    if (model === 'claude') expect(tokens).toBe(11)
    expect(provider().calls).toBe(model === 'claude' ? 1 : 0)
  })

  it('raises where a stream broke, and has no end of it', async () => {
    provider().script(cutAfter({ frames: 5, text: 'one two three four five six' }))
    const error = await rejection(anthropic().messages.stream(ask(model)).finalMessage())
    expect(error).toBeInstanceOf(APIError)
    expect(error).toMatchObject({ error: { type: 'error', error: { type: 'overloaded_error' } } })
  })

  it('is let go at once when its caller leaves', async () => {
    provider().script(silent())
    const stop = new AbortController()
    const asking = rejection(anthropic().messages.create(ask(model), { signal: stop.signal }))
    await provider().waitForRequests(1)
    stop.abort()
    expect(await asking).toBeInstanceOf(APIUserAbortError)
    await provider().waitForAbort(0)
  })
})

describe('errors', () => {
  it('are those that the SDK has classes for', async () => {
    const stranger = new Anthropic({ baseURL: gateway.url, apiKey: 'nobody', maxRetries: 0 })
    const unknown = await rejection(stranger.messages.create(ask('claude')))
    expect(unknown).toBeInstanceOf(AuthenticationError)
    expect(unknown).toMatchObject({ status: 401, type: 'authentication_error' })
    expect(unknown).toHaveProperty('requestID', expect.any(String))
    expect(await rejection(anthropic().messages.create(ask('secret-1')))).toBeInstanceOf(
      PermissionDeniedError,
    )
    expect(await rejection(anthropic().messages.create(ask('no-such-model')))).toBeInstanceOf(NotFoundError)
    const wrong = await rejection(
      anthropic().messages.create({
        ...ask('gpt'),
        messages: [
          {
            role: 'user',
            content: [
              { type: 'text', text: 'x' },
              { type: 'image', source: { type: 'file', file_id: 'f' } },
            ],
          },
        ],
      }),
    )
    expect(wrong).toBeInstanceOf(BadRequestError)
    await anthropic(limited.bearer).messages.create(ask('claude'))
    const full = await rejection(anthropic(limited.bearer).messages.create(ask('claude')))
    expect(full).toBeInstanceOf(RateLimitError)
    expect(full).toMatchObject({ type: 'rate_limit_error' })
  })

  it('of the caller’s own are passed on in the provider’s words', async () => {
    own.script(
      status(400, {
        type: 'error',
        error: {
          type: 'invalid_request_error',
          message: 'messages: final assistant content cannot end with trailing whitespace',
        },
      }),
    )
    const error = await rejection(anthropic().messages.create(ask('claude')))
    expect(error).toBeInstanceOf(BadRequestError)
    expect(error).toMatchObject({
      error: {
        error: { type: 'invalid_request_error', message: expect.stringContaining('trailing whitespace') },
      },
    })
  })
})

describe('a prompt that is too long', () => {
  it('is told in the words that callers of either format look for, with the provider’s numbers', async () => {
    const message = 'prompt is too long: 208310 tokens > 200000 maximum'
    own.script(status(400, { type: 'error', error: { type: 'invalid_request_error', message } }))
    const told = await rejection(anthropic().messages.create(ask('claude')))
    expect(told).toBeInstanceOf(BadRequestError)
    expect(told).toMatchObject({ error: { error: { type: 'invalid_request_error', message } } })
    const chat = openai().chat.completions.create({ model: 'claude', messages: ask('').messages })
    expect(await rejection(chat)).toMatchObject({
      status: 400,
      code: 'context_length_exceeded',
      message: expect.stringContaining("This model's maximum context length is 200000 tokens."),
    })
  })

  it('of another provider’s counting is told in Anthropic’s words', async () => {
    other.script(contextLengthExceeded(8_192, 9_000))
    expect(await rejection(anthropic().messages.create(ask('gpt')))).toMatchObject({
      error: { error: { message: 'prompt is too long: 9000 tokens > 8192 maximum' } },
    })
  })
})

describe('trouble before the first content', () => {
  it.each(Object.entries(TROUBLES))('%s is somebody else’s to answer', async (name, trouble) => {
    const model = routeOf(name)
    own.script(trouble)
    other.script(answer({ text: 'Instead.' }))
    const message = await anthropic().messages.stream(ask(model)).finalMessage()
    expect(own.calls).toBe(1)
    expect(message).toMatchObject({ model: 'gpt-oss-120b', content: [{ type: 'text', text: 'Instead.' }] })
  })
})

describe('bytes between equals', () => {
  it('go to Anthropic as they came, but for the model, with the headers that belong to them', async () => {
    own.script(answer())
    const body = `{ "max_tokens": 10, "model":"claude" , "messages": [{"role":"user","content":"Hi \\u00e9"}],"context_management":{"edits":[]} }`
    const response = await fetch(`${gateway.url}/v1/messages?beta=true`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'x-api-key': agent.bearer,
        'anthropic-version': '2026-10-21',
        'anthropic-beta': 'context-management-2025-06-27',
      },
      body,
    })
    expect(response.status).toBe(200)
    const [request] = own.requests
    expect(request?.body.toString()).toBe(body.replace('"claude"', '"claude-opus-4-5"'))
    expect(request?.path).toBe('/v1/messages')
    expect(request?.header('x-api-key')).toBe('own-key-that-no-caller-sees')
    expect(request?.header('anthropic-version')).toBe('2026-10-21')
    expect(request?.header('anthropic-beta')).toBe('context-management-2025-06-27')
    expect(response.headers.get('request-id')).toBe(response.headers.get('x-request-id'))
  })

  it('hold no thought of another format when a conversation comes back from one', async () => {
    own.script([status(529), answer({ text: 'Back.' })])
    other.script(answer({ text: 'Instead.', reasoning: ['Their thought.'] }))
    const first = await anthropic().messages.create(ask('both'))
    expect(first.model).toBe('gpt-oss-120b')
    expect(first.content[0]).toMatchObject({ type: 'thinking', thinking: 'Their thought.' })
    const second = await anthropic().messages.create({
      ...ask('both'),
      messages: [
        ...ask('both').messages,
        { role: 'assistant', content: first.content },
        { role: 'user', content: 'And?' },
      ],
    })
    expect(second.model).toBe('claude-opus-4-5')
    expect(own.requests.at(-1)?.json()).toMatchObject({
      messages: [
        { role: 'user' },
        { role: 'assistant', content: [{ type: 'text', text: 'Instead.' }] },
        { role: 'user' },
      ],
    })
  })
})

describe('a stream that broke', () => {
  it('is gone on with by another deployment, as one message to its reader', async () => {
    own.script([
      cutAfter({ frames: 5, pieces: ['Once', ' upon', ' a', ' time.'] }),
      answer({ pieces: [' a', ' time.'] }),
    ])
    const message = await anthropic().messages.stream(ask('resumed')).finalMessage()
    expect(message.content).toMatchObject([{ type: 'text', text: 'Once upon a time.' }])
    expect(message.stop_reason).toBe('end_turn')
    expect(own.requests.map((request) => request.json())).toMatchObject([
      { model: 'claude-opus-4-5' },
      { model: 'claude-sonnet-4-5', messages: [{ role: 'user' }, { role: 'assistant' }] },
    ])
  })
})

describe('chat over a provider of Messages', () => {
  it('has an answer, whole and streamed', async () => {
    own.script(answer({ text: 'Hello there, caller.', reasoning: ['Hm.'] }))
    const { temperature, ...rest } = {
      temperature: 1.5,
      messages: [{ role: 'user' as const, content: 'Hi' }],
    }
    const whole = await openai().chat.completions.create({ model: 'claude', temperature, ...rest })
    expect(whole).toMatchObject({
      model: 'claude-opus-4-5',
      choices: [{ message: { content: 'Hello there, caller.' }, finish_reason: 'stop' }],
      usage: { prompt_tokens: 11, completion_tokens: 3, total_tokens: 14 },
    })
    const stream = openai().chat.completions.stream({
      model: 'claude',
      stream_options: { include_usage: true },
      ...rest,
    })
    const final = await stream.finalChatCompletion()
    expect(final.choices[0]?.message.content).toBe('Hello there, caller.')
    expect(final.usage).toMatchObject({ prompt_tokens: 11, completion_tokens: 3 })
    expect(own.requests[0]?.json()).toMatchObject({
      model: 'claude-opus-4-5',
      max_tokens: 64_000,
      temperature: 1,
    })
    expect(own.requests[0]?.header('anthropic-version')).toBe('2023-06-01')
  })

  it('calls a tool and answers from its result', async () => {
    own.script(toolLoop({ name: 'get_weather', args: { city: 'Paris' } }))
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Weather?' }]
    const tools = [
      { type: 'function' as const, function: { name: 'get_weather', parameters: TOOL.input_schema } },
    ]
    const { choices: called } = await openai().chat.completions.create({ model: 'claude', messages, tools })
    const [choice] = called
    if (choice === undefined) throw new Error('no choice')
    expect(choice.finish_reason).toBe('tool_calls')
    const [use] = choice.message.tool_calls ?? []
    messages.push(choice.message, { role: 'tool', tool_call_id: use?.id ?? '', content: 'sunny' })
    const { choices } = await openai().chat.completions.create({ model: 'claude', messages, tools })
    expect(choices[0]?.message.content).toBe('The tool said: sunny')
  })

  it('breaks with an error where the provider told one in the middle', async () => {
    own.script(cutAfter({ frames: 5, text: 'one two three four five six' }))
    const stream = await openai().chat.completions.create({
      model: 'claude',
      messages: [{ role: 'user', content: 'Hi' }],
      stream: true,
    })
    const reading = async () => {
      for await (const _ of stream);
    }
    expect(await rejection(reading())).toMatchObject({ code: 'upstream_incomplete' })
  })
})
