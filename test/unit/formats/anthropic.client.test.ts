// Messages as callers speak it: what Claude Code sends is read as it is meant, errors are in the words that its callers
// look for, and the vendor's own SDK reads what is written.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Anthropic from '@anthropic-ai/sdk'
import { describe, expect, it } from 'vitest'
import { anthropic } from '../../../src/formats/anthropic.ts'
import type { ChatEvent, Part } from '../../../src/formats/canonical.ts'
import type { ToldError } from '../../../src/formats/format.ts'
import {
  assistant,
  call,
  chatRequest,
  result,
  system,
  thought,
  user,
} from '../../support/chat-arbitraries.ts'
import { readStream } from '../../support/messages-checker.ts'

const FOLDER = join(import.meta.dirname, '../../golden/anthropic')
const { client } = anthropic
const { read } = client.chat
const HELLO = { model: 'm', max_tokens: 10, messages: [{ role: 'user', content: 'Hi' }] }

describe('a request of Claude Code', () => {
  const sent = JSON.parse(readFileSync(join(FOLDER, 'claude-code.sent.json'), 'utf8'))
  const { request, dropped } = read(sent)
  const marked = (text: string, ttl?: string): Part => ({ type: 'text', text, cache: { ttl } })

  it('is read as it is meant', () => {
    expect(request.messages).toEqual([
      // Its first line counts requests: no prompt would ever be in a cache.
      system(marked('You are Claude Code.'), marked('Be brief.')),
      user('<system-reminder>\nToday is Thursday.\n</system-reminder>', marked('List the files here.')),
      system('The user has changed the mode.'),
      assistant(
        thought('I should call Bash.', { origin: 'anthropic', value: 'EqQBCgIYAhIM1gbcDa9GJwZA2b3h' }),
        thought('', { origin: 'anthropic', value: 'EmwKAhgBEgy3va3pzix' }, true),
        "I'll look.",
        call('toolu_01A', 'Bash', '{"command":"ls","description":"List files"}'),
        call('toolu_01B', 'Read', '{"file_path":"/tmp/cat.png"}'),
      ),
      result('toolu_01A', 'a.txt\nb.txt'),
      {
        ...result('toolu_01B', 'A picture:', {
          type: 'image',
          source: { kind: 'base64', mediaType: 'image/png', base64: 'iVBORw0K' },
          detail: undefined,
        }),
        isError: true,
        cache: { ttl: '1h' },
      },
      user('And the hidden ones?'),
    ])
    expect(request).toMatchObject({
      maxOutputTokens: 32_000,
      reasoning: { effort: 'medium', budgetTokens: 31_999, summary: 'auto' },
      toolChoice: { type: 'auto' },
      parallelToolCalls: false,
      stream: true,
      includeUsage: true,
      user: undefined,
    })
    expect(request.cacheKey).toMatch(/^[0-9a-f]{32}$/)
    expect(request.tools.map(({ name, cache }) => [name, cache])).toEqual([
      ['Bash', undefined],
      ['Read', { ttl: undefined }],
    ])
  })

  it('tells what only Anthropic could do', () => {
    expect(dropped.toSorted()).toEqual(['context_management', 'tools.web_search_20250305'])
  })
})

describe('a request', () => {
  it.each([
    ['thinking.budget_tokens', { thinking: { type: 'enabled', budget_tokens: 0 } }],
    ['thinking.budget_tokens', { thinking: { type: 'enabled', budget_tokens: 1500.5 } }],
    ['metadata', { metadata: 'u' }],
    ['output_config', { output_config: [] }],
    ['output_config.effort', { output_config: { effort: 3 } }],
    ['tools.0.input_schema', { tools: [{ name: 'f', input_schema: 5 }] }],
    ['tools.0.description', { tools: [{ name: 'f', description: 5, input_schema: {} }] }],
    ['messages', { messages: [] }],
    ['messages.0.content.0.type', { messages: [{ role: 'assistant', content: [{ type: 5 }] }] }],
  ])('is refused by the name %s: %j', (param, over) => {
    expect(() => read({ ...HELLO, ...over })).toThrow(
      expect.objectContaining({ code: 'invalid_request', param }),
    )
  })

  it('is refused by the name of what cannot be read', () => {
    const cases: readonly (readonly [string, object])[] = [
      ['max_tokens', { max_tokens: undefined }],
      ['max_tokens', { max_tokens: 1.5 }],
      ['messages', { messages: 'Hi' }],
      ['messages.0.role', { messages: [{ role: 'tool', content: 'x' }] }],
      ['messages.0.content', { messages: [{ role: 'user', content: 5 }] }],
      ['messages.0.content.1', { messages: [{ role: 'user', content: [{ type: 'text', text: '' }, null] }] }],
      ['messages.0.content.0.type', { messages: [{ role: 'user', content: [{ type: 'hologram' }] }] }],
      [
        'messages.0.content.0.source',
        { messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'x' } }] }] },
      ],
      [
        'messages.0.content.0.tool_use_id',
        { messages: [{ role: 'user', content: [{ type: 'tool_result' }] }] },
      ],
      ['system.0', { system: [{ type: 'image' }] }],
      ['tools.0.name', { tools: [{ input_schema: {} }] }],
      ['tool_choice.type', { tools: [{ name: 'a', input_schema: {} }], tool_choice: { type: 'some' } }],
      ['temperature', { temperature: 'warm' }],
      ['thinking.type', { thinking: { type: 'deep' } }],
      ['output_config.format', { output_config: { format: { type: 'xml' } } }],
      ['stop_sequences.0', { stop_sequences: [1] }],
    ]
    // Anthropic's shape of an error has no param: who reads it has the message alone.
    for (const [param, over] of cases)
      expect(() => read({ ...HELLO, ...over }), param).toThrow(
        expect.objectContaining({
          code: 'invalid_request',
          param,
          message: expect.stringContaining(`${param}: `),
        }),
      )
  })

  it.each([
    ['system', { system: 5 }],
    ['messages.0.content', { messages: [{ role: 'user', content: {} }] }],
    ['messages.0.content', { messages: [{ role: 'assistant', content: 5 }] }],
  ])('is told that a text would do: %s', (path, over) => {
    expect(() => read({ ...HELLO, ...over })).toThrow(`${path}: must be text or a list of blocks.`)
  })

  it.each([
    [{ type: 'adaptive' }, undefined, { effort: undefined, budgetTokens: undefined, summary: 'auto' }],
    [
      { type: 'adaptive', display: 'omitted' },
      'max',
      { effort: 'max', budgetTokens: undefined, summary: undefined },
    ],
    [
      { type: 'enabled', budget_tokens: 2_048 },
      undefined,
      { effort: 'low', budgetTokens: 2_048, summary: 'auto' },
    ],
    [
      { type: 'enabled', budget_tokens: 8_192 },
      undefined,
      { effort: 'medium', budgetTokens: 8_192, summary: 'auto' },
    ],
    [{ type: 'disabled' }, 'high', { effort: 'none', budgetTokens: undefined, summary: undefined }],
    [undefined, 'high', { effort: 'high', budgetTokens: undefined, summary: undefined }],
    [undefined, undefined, undefined],
  ])('that thinks %j with effort %s', (thinking, effort, expected) => {
    expect(read({ ...HELLO, thinking, output_config: { effort } }).request.reasoning).toEqual(expected)
  })

  it('has no choice of a tool that is not there', () => {
    const server = { type: 'bash_20250124', name: 'bash' }
    const without = read({ ...HELLO, tools: [server], tool_choice: { type: 'tool', name: 'bash' } })
    expect([without.request.tools, without.request.toolChoice]).toEqual([[], undefined])
    const other = read({
      ...HELLO,
      tools: [server, { name: 'a', input_schema: {} }],
      tool_choice: { type: 'tool', name: 'bash' },
    })
    expect(other.request.toolChoice).toEqual({ type: 'auto' })
    expect(other.dropped).toEqual(['tools.bash_20250124', 'tool_choice'])
    expect(read({ ...HELLO, tool_choice: { type: 'any' } }).request.toolChoice).toBeUndefined()
  })

  it('asks for a strict schema where all of it can be held to', () => {
    const of = (schema: object) => {
      const { responseFormat } = read({
        ...HELLO,
        output_config: { format: { type: 'json_schema', schema } },
      }).request
      return responseFormat.type === 'json_schema' ? responseFormat.strict : undefined
    }
    const closed = {
      type: 'object',
      properties: { a: { type: 'string' } },
      required: ['a'],
      additionalProperties: false,
    }
    expect(of(closed)).toBe(true)
    expect(of({ ...closed, required: [] })).toBe(false)
    expect(of({ ...closed, properties: { a: { anyOf: [{ ...closed, additionalProperties: true }] } } })).toBe(
      false,
    )
  })

  it('names a user, unless that is a record of device and session', () => {
    const of = (user_id: string) => read({ ...HELLO, metadata: { user_id } }).request
    expect(of('user-7').user).toBe('user-7')
    expect(of('{"session_id":"s"}').user).toBeUndefined()
    expect(of('a').cacheKey).not.toBe(of('b').cacheKey)
  })

  it('gives documents and search results as what others can read', () => {
    const content = [
      {
        type: 'document',
        source: { type: 'base64', media_type: 'application/pdf', data: 'JVBE' },
        title: 'a.pdf',
      },
      { type: 'document', source: { type: 'url', url: 'https://example.com/b.pdf' } },
      {
        type: 'document',
        source: { type: 'text', media_type: 'text/plain', data: 'body' },
        title: 'T',
        context: 'C',
        cache_control: { type: 'ephemeral' },
      },
      { type: 'document', source: { type: 'content', content: [{ type: 'text', text: 'one' }] } },
      {
        type: 'search_result',
        title: 'R',
        source: 'https://example.com',
        content: [{ type: 'text', text: 'found' }],
      },
    ]
    expect(read({ ...HELLO, messages: [{ role: 'user', content }] }).request.messages).toEqual([
      user(
        {
          type: 'file',
          source: { kind: 'base64', mediaType: 'application/pdf', base64: 'JVBE' },
          name: 'a.pdf',
        },
        {
          type: 'file',
          source: { kind: 'url', url: 'https://example.com/b.pdf', mediaType: 'application/pdf' },
          name: undefined,
        },
        'T\nC',
        { type: 'text', text: 'body', cache: { ttl: undefined } },
        'one',
        'R\nhttps://example.com\nfound',
      ),
    ])
  })

  it('keeps what the model said when a provider’s own tools are left out', () => {
    const content = [
      { type: 'text', text: 'Searching.' },
      { type: 'server_tool_use', id: 's1', name: 'web_search', input: {} },
      { type: 'web_search_tool_result', tool_use_id: 's1', content: [] },
      { type: 'text', text: 'Sunny.' },
    ]
    const { request, dropped } = read({ ...HELLO, messages: [{ role: 'assistant', content }] })
    expect(request.messages).toEqual([assistant('Searching.', 'Sunny.')])
    expect(dropped).toEqual(['server_tool_use', 'web_search_tool_result'])
  })

  it('loses its billing line and nothing behind it', () => {
    const of = (text: string) => read({ ...HELLO, system: [{ type: 'text', text }] }).request.messages
    expect(of('x-anthropic-billing-header: a=b; cch=1;\nYou are terse.')[0]).toEqual(system('You are terse.'))
    expect(of('x-anthropic-billing-header: a=b; cch=1;')).toEqual([user('Hi')])
    expect(of('Of x-anthropic-billing-header: a')[0]).toEqual(system('Of x-anthropic-billing-header: a'))
  })
})

const told = (over: Partial<ToldError>): ToldError => ({
  status: 500,
  code: 'internal',
  type: 'server_error',
  message: 'No.',
  param: null,
  requestId: 'req_1',
  ...over,
})

describe('an error', () => {
  it.each([
    [{ status: 400, code: 'invalid_request' }, 400, 'invalid_request_error'],
    [{ status: 401, code: 'invalid_api_key' }, 401, 'authentication_error'],
    [{ status: 403, code: 'scope_denied' }, 403, 'permission_error'],
    [{ status: 404, code: 'model_not_found' }, 404, 'not_found_error'],
    [{ status: 405, code: 'method_not_allowed' }, 405, 'invalid_request_error'],
    [{ status: 413, code: 'request_too_large' }, 413, 'request_too_large'],
    [{ status: 429, code: 'rate_limit_exceeded' }, 429, 'rate_limit_error'],
    [{ status: 429, code: 'insufficient_quota', type: 'insufficient_quota' }, 402, 'billing_error'],
    [{ status: 500, code: 'internal' }, 500, 'api_error'],
    [{ status: 502, code: 'upstream_incomplete' }, 502, 'overloaded_error'],
    [{ status: 503, code: 'upstream_failed' }, 503, 'api_error'],
    [{ status: 503, code: 'overloaded' }, 503, 'overloaded_error'],
    [{ status: 504, code: 'deadline_exceeded' }, 504, 'timeout_error'],
    [{ status: 422, code: null, type: 'invalid_request_error' }, 422, 'invalid_request_error'],
  ])('%j', (over, status, type) => {
    expect(client.status?.(told(over))).toBe(status)
    expect(client.error(told(over))).toEqual({
      type: 'error',
      error: { type, message: 'No.' },
      request_id: 'req_1',
    })
  })

  it('of a prompt too long has the words and the numbers that Claude Code counts with', () => {
    const words = (message: string) => {
      const body = client.error(told({ status: 400, code: 'context_length_exceeded', message }))
      return JSON.parse(JSON.stringify(body)).error.message
    }
    expect(
      words(
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
      ),
    ).toBe('prompt is too long: 9000 tokens > 8192 maximum')
    expect(
      words(
        "This model's maximum context length is 200000 tokens. However, you requested 209573 tokens (input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease).",
      ),
    ).toBe('input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000')
    expect(words('Too long.')).toBe('Too long.')
  })

  it('in a stream is an event of its own', () => {
    expect(client.errorEvent(told({ status: 502, code: 'upstream_incomplete' }))).toBe(
      'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"No."},"request_id":"req_1"}\n\n',
    )
  })
})

// --- the vendor's own SDK ----------------------------------------------------------------------------------------

const to = () => ({
  request: chatRequest(),
  sent: {},
  nowSeconds: 0,
  nextId: (prefix: string) => `${prefix}1`,
})

function stream(events: readonly ChatEvent[], isWhole = true): string {
  const writer = client.chat.events(to())
  const text = events.map((event) => writer.write(event)).join('')
  return isWhole ? text + writer.end() : text
}

/** The SDK as it is, on an answer that never saw a network. */
function sdk(sse: string): Anthropic {
  return new Anthropic({
    apiKey: 'none',
    maxRetries: 0,
    fetch: async () =>
      new Response(sse, { headers: { 'content-type': 'text/event-stream', 'request-id': 'req_1' } }),
  })
}

const ASK = { model: 'm', max_tokens: 10, messages: [{ role: 'user' as const, content: 'Hi' }] }
const START: ChatEvent = {
  type: 'start',
  id: 'chatcmpl-1',
  model: 'gpt-oss-120b',
  createdSeconds: 1,
  usage: undefined,
}
const callEvent = (at: number, id: string, name: string): ChatEvent => ({
  type: 'call',
  choice: 0,
  call: at,
  kind: 'function',
  id,
  name,
  namespace: undefined,
  sealed: undefined,
})
const args = (at: number, text: string): ChatEvent => ({ type: 'arguments', choice: 0, call: at, text })
const EVENTS: readonly ChatEvent[] = [
  START,
  { type: 'thinking', choice: 0, text: 'Two cities: ' },
  { type: 'thinking', choice: 0, text: 'two calls.' },
  { type: 'text', choice: 0, text: 'Looking' },
  { type: 'thinking', choice: 0, text: ' (late)' },
  { type: 'text', choice: 0, text: ' up.' },
  callEvent(0, 'call:1', 'get_weather'),
  callEvent(1, 'call:2', 'get_weather'),
  callEvent(2, '', 'get_time'),
  args(1, '{"city":'),
  args(0, '{"city":"Pa'),
  args(1, '"Rome"}'),
  args(0, 'ris"}'),
  { type: 'text', choice: 0, text: 'Done.' },
  {
    type: 'usage',
    usage: {
      inputTokens: 100,
      cachedTokens: 80,
      cacheWriteTokens: 0,
      audioInputTokens: 0,
      outputTokens: 20,
      reasoningTokens: 0,
      audioOutputTokens: 0,
      source: 'provider',
    },
  },
  { type: 'finish', choice: 0, finish: 'tool_calls', stopSequence: undefined },
]

describe('the vendor’s SDK', () => {
  it('adds a stream of another format up to the message that it is', async () => {
    const sse = stream(EVENTS)
    expect(readStream(sse).faults).toEqual([])
    const message = await sdk(sse).messages.stream(ASK).finalMessage()
    expect(message).toMatchObject({
      id: 'msg_1',
      model: 'gpt-oss-120b',
      stop_reason: 'tool_use',
      usage: {
        input_tokens: 20,
        cache_read_input_tokens: 80,
        cache_creation_input_tokens: 0,
        output_tokens: 20,
      },
    })
    expect(message.content).toMatchObject([
      { type: 'thinking', thinking: 'Two cities: two calls.', signature: 'sluice:::' },
      { type: 'text', text: 'Looking up.' },
      { type: 'thinking', thinking: ' (late)' },
      { type: 'tool_use', id: 'call_1', name: 'get_weather', input: { city: 'Paris' } },
      { type: 'tool_use', id: 'call_2', name: 'get_weather', input: { city: 'Rome' } },
      { type: 'tool_use', id: 'toolu_1', name: 'get_time', input: {} },
      { type: 'text', text: 'Done.' },
    ])
  })

  it('raises on a stream that broke', async () => {
    const sse =
      stream(EVENTS.slice(0, 4), false) +
      client.errorEvent(told({ status: 502, code: 'upstream_incomplete', message: 'It broke off.' }))
    const texts: string[] = []
    const reading = async () => {
      for await (const event of sdk(sse).messages.stream(ASK))
        if (event.type === 'content_block_delta' && event.delta.type === 'text_delta')
          texts.push(event.delta.text)
    }
    await expect(reading()).rejects.toMatchObject({
      error: { error: { type: 'overloaded_error', message: 'It broke off.' } },
    })
    expect(texts).toEqual(['Looking'])
  })
})
