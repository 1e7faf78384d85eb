// OpenAI's chat as it is really sent: what compatible servers get wrong is mended on the way into canonical form, and what
// callers may write is read or refused by name (wire §1, §7).

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { GatewayError } from '../../../src/errors.ts'
import type { ChatEvent, ChatRequest } from '../../../src/formats/canonical.ts'
import type { AnswerTo, ToolName, WrittenRequest } from '../../../src/formats/format.ts'
import { openai } from '../../../src/formats/openai.ts'
import { toUrl } from '../../../src/formats/sources.ts'

const FOLDER = join(import.meta.dirname, '../../golden/openai')
const { client, provider } = openai

const written = (names: ReadonlyMap<string, ToolName> = new Map()): WrittenRequest => ({
  body: {},
  headers: [],
  dropped: [],
  names,
})

function readStream(bytes: Buffer, step = bytes.length, names?: ReadonlyMap<string, ToolName>): ChatEvent[] {
  const splitter = createFrameSplitter()
  const reader = provider.chat.events(written(names))
  const events: ChatEvent[] = []
  for (let at = 0; at < bytes.length; at += step)
    for (const frame of splitter.push(bytes.subarray(at, at + step))) events.push(...reader.read(frame))
  const rest = splitter.rest()
  return rest === undefined ? events : [...events, ...reader.read(rest)]
}

/** One line for an event; pieces of the same kind on end are one. */
function brief(events: readonly ChatEvent[]): string[] {
  const lines: string[] = []
  for (const event of events) {
    switch (event.type) {
      case 'start':
        lines.push(`start ${event.model}`)
        break
      case 'usage':
        lines.push(`usage ${event.usage.inputTokens}+${event.usage.outputTokens}`)
        break
      case 'call':
        lines.push(`${event.choice} call ${event.call} ${event.id} ${event.name}`)
        break
      case 'finish':
        lines.push(`${event.choice} finish ${event.finish}`)
        break
      case 'seal':
        lines.push(`${event.choice} seal ${event.sealed.origin}`)
        break
      case 'image':
        lines.push(`${event.choice} image ${toUrl(event.source)}`)
        break
      case 'logprobs':
        break
      default: {
        const head = `${event.choice} ${event.type}${event.type === 'arguments' ? ` ${event.call}` : ''}: `
        if (lines.at(-1)?.startsWith(head)) lines[lines.length - 1] += event.text
        else lines.push(`${head}${event.text}`)
      }
    }
  }
  return lines
}

const GOLDENS: Readonly<Record<string, readonly string[]>> = {
  'content-filter': ['start gpt-5.1', '0 text: The', '0 finish content_filter', 'usage 19+10'],
  'crlf-without-done': ['start gemini-3-flash', '0 text: Hi!', '0 finish stop', 'usage 19+10'],
  'legacy-text': ['start gpt-3.5-turbo-instruct', '0 text: Hi', '0 finish stop'],
  'parallel-tool-calls': [
    'start gpt-5.1',
    '0 call 0 call_a get_weather',
    '0 arguments 0: {"city":"Paris"}',
    '0 call 1 call_b get_weather',
    '0 arguments 1: {"city":"Rome"}',
    '0 finish tool_calls',
    'usage 19+10',
  ],
  plain: ['start gpt-5.1', '0 text: Hello there 👋', '0 finish stop', 'usage 19+10'],
  'preamble.azure': ['start gpt-5.1', '0 text: Hi', '0 finish stop', 'usage 19+10'],
  'reasoning.vllm': [
    'start gpt-oss-120b',
    '0 thinking: Thinking',
    '0 text: Hi',
    '0 finish stop',
    'usage 19+10',
  ],
  'reasoning-content.deepseek': [
    'start deepseek-reasoner',
    '0 thinking: The user greets.',
    '0 text: Hi',
    '0 finish stop',
    'usage 19+10',
  ],
  'reasoning-details.openrouter': [
    'start anthropic/claude-opus-4-5',
    '0 thinking: Let me',
    '0 text: Hi',
    '0 finish stop',
    'usage 19+10',
  ],
  refusal: ['start gpt-5.1', "0 refusal: I'm sorry, I can't.", '0 finish stop', 'usage 19+10'],
  'thinking-parts.mistral': [
    'start magistral-medium',
    '0 thinking: Hm',
    '0 text: Hi',
    '0 finish stop',
    'usage 19+10',
  ],
  'tool-call': [
    'start gpt-5.1',
    '0 call 0 call_DdmO get_weather',
    '0 arguments 0: {"city":"Paris"}',
    '0 finish tool_calls',
    'usage 19+10',
  ],
  'two-choices': [
    'start gpt-5.1',
    '0 text: A',
    '1 text: B',
    '0 finish stop',
    '1 finish length',
    'usage 19+10',
  ],
  'usage-before-the-end.xai': ['start grok-4', '0 text: Hello', '0 finish stop', 'usage 19+10'],
  'usage-in-last-chunk': ['start qwen3', '0 text: Hello', '0 finish stop', 'usage 19+10'],
  'x-groq-usage': ['start llama-3.3-70b', '0 text: Hi', '0 finish stop', 'usage 19+10'],
}

describe('a recorded stream', () => {
  it.each(Object.entries(GOLDENS))('%s says what it means, wherever it is cut', (name, expected) => {
    const bytes = readFileSync(join(FOLDER, `${name}.stream.sse`))
    for (const step of [bytes.length, 1, 2, 7, 64]) expect(brief(readStream(bytes, step))).toEqual(expected)
  })
})

const frames = (...chunks: readonly unknown[]): Buffer =>
  Buffer.from(chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join(''))
const delta = (one: unknown, finish: string | null = null): unknown => ({
  id: 'c1',
  model: 'm',
  created: 1,
  choices: [{ index: 0, delta: one, finish_reason: finish }],
})
const fragment = (call: unknown): unknown => delta({ tool_calls: [call] })
const calls = (...list: readonly unknown[]): string[] =>
  brief(readStream(frames(...list, delta({}, 'stop')))).slice(1)

describe('calls of tools in a stream', () => {
  it('stay two where both have the index 0 (bug 24)', () => {
    expect(
      calls(
        fragment({ index: 0, id: 'a', function: { name: 'f', arguments: '{"x":1}' } }),
        fragment({ index: 0, id: 'b', function: { name: 'f', arguments: '{"x":2}' } }),
      ),
    ).toEqual([
      '0 call 0 a f',
      '0 arguments 0: {"x":1}',
      '0 call 1 b f',
      '0 arguments 1: {"x":2}',
      '0 finish tool_calls',
    ])
  })

  it('are found without any index', () => {
    expect(
      calls(
        fragment({ id: 'a', function: { name: 'f', arguments: '{"x"' } }),
        fragment({ function: { arguments: ':1}' } }),
        fragment({ id: 'b', function: { name: 'g', arguments: '' } }),
        fragment({ id: 'b', function: { arguments: '{}' } }),
      ),
    ).toEqual([
      '0 call 0 a f',
      '0 arguments 0: {"x":1}',
      '0 call 1 b g',
      '0 arguments 1: {}',
      '0 finish tool_calls',
    ])
  })

  it('stay one where every fragment has another id, or the name again', () => {
    expect(
      calls(
        fragment({ index: 0, id: 'a1', function: { name: 'f', arguments: '{' } }),
        fragment({ index: 0, id: 'a2', function: { arguments: '"x":' } }),
        fragment({ index: 0, id: 'a3', function: { name: '', arguments: '1}' } }),
      ),
    ).toEqual(['0 call 0 a1 f', '0 arguments 0: {"x":1}', '0 finish tool_calls'])
    expect(
      calls(
        fragment({ index: 0, id: 'a', function: { name: 'f', arguments: '{' } }),
        fragment({ index: 0, id: 'a', function: { name: 'f', arguments: '}' } }),
      ),
    ).toEqual(['0 call 0 a f', '0 arguments 0: {}', '0 finish tool_calls'])
  })

  it('may come interleaved, with gaps between their indices', () => {
    expect(
      calls(
        fragment({ index: 3, id: 'a', function: { name: 'f', arguments: '{"x":' } }),
        fragment({ index: 7, id: 'b', function: { name: 'g', arguments: '{' } }),
        fragment({ index: 3, function: { arguments: '1}' } }),
        fragment({ index: 7, function: { arguments: '}' } }),
      ),
    ).toEqual([
      '0 call 0 a f',
      '0 arguments 0: {"x":',
      '0 call 1 b g',
      '0 arguments 1: {',
      '0 arguments 0: 1}',
      '0 arguments 1: }',
      '0 finish tool_calls',
    ])
  })

  it('have ids that differ where the server gives none, arguments as an object, and a name that comes late', () => {
    const list = calls(
      fragment({ index: 0, function: { name: 'f', arguments: { x: 1 } } }),
      fragment({ index: 1, id: '' }),
      fragment({ index: 1, function: { arguments: '{"y":' } }),
      fragment({ index: 1, function: { name: 'g', arguments: '2}' } }),
    )
    expect(list.map((line) => line.replace(/call_\w+/, 'ID'))).toEqual([
      '0 call 0 ID f',
      '0 arguments 0: {"x":1}',
      '0 call 1 ID g',
      '0 arguments 1: {"y":2}',
      '0 finish tool_calls',
    ])
    expect(new Set(list.filter((line) => line.includes(' call '))).size).toBe(2)
  })

  it('that are empty are none; text behind a finish reason is said, and the reason is told once (bug 17)', () => {
    const events = readStream(
      frames(
        fragment({ index: 0, id: '', function: {} }),
        delta({ content: 'x' }),
        delta({}, 'stop'),
        delta({ content: 'late' }, 'stop'),
        { id: 'c1', choices: [{ index: 0, content_filter_results: {} }] },
      ),
    )
    expect(brief(events)).toEqual(['start m', '0 text: x', '0 finish stop', '0 text: late'])
  })

  it('beside text in one chunk lose neither (bug 22)', () => {
    expect(
      calls(
        delta({
          content: 'I look. ',
          tool_calls: [{ index: 0, id: 'a', function: { name: 'f', arguments: '{}' } }],
        }),
      ),
    ).toEqual(['0 text: I look. ', '0 call 0 a f', '0 arguments 0: {}', '0 finish tool_calls'])
  })

  it('of a tool of free text give the text and not its wrapping', () => {
    const names = new Map([['edit', { name: 'edit', namespace: undefined, kind: 'custom' as const }]])
    const bytes = frames(
      fragment({ index: 0, id: 'a', function: { name: 'edit', arguments: '{"inp' } }),
      fragment({ index: 0, function: { arguments: 'ut":"*** Be' } }),
      fragment({ index: 0, function: { arguments: 'gin\\n"}' } }),
      delta({}, 'tool_calls'),
    )
    expect(brief(readStream(bytes, bytes.length, names)).slice(1)).toEqual([
      '0 call 0 a edit',
      '0 arguments 0: *** Begin\n',
      '0 finish tool_calls',
    ])
  })

  it('of the legacy kind are calls too', () => {
    expect(
      brief(
        readStream(
          frames(
            delta({ function_call: { name: 'f', arguments: '{"x"' } }),
            delta({ function_call: { arguments: ':1}' } }),
            delta({}, 'function_call'),
          ),
        ),
      ).map((line) => line.replace(/call_\w+/, 'ID')),
    ).toEqual(['start m', '0 call 0 ID f', '0 arguments 0: {"x":1}', '0 finish tool_calls'])
  })
})

// --- for callers -----------------------------------------------------------------------------------------------

const USER = { role: 'user', content: 'hi' }
const TOOL = { type: 'function', function: { name: 'f' } }
const read = (body: Record<string, unknown>): ChatRequest =>
  client.chat.read({ model: 'm', messages: [USER], ...body }).request

function answerTo(sent: Record<string, unknown>): AnswerTo {
  return {
    request: read(sent),
    sent: { model: 'asked', ...sent },
    nowSeconds: 5,
    nextId: (prefix) => `${prefix}1`,
  }
}

function writeStream(events: readonly ChatEvent[], sent: Record<string, unknown> = {}): string[] {
  const writer = client.chat.events(answerTo(sent))
  const text = events.map(writer.write).join('') + writer.end()
  return text
    .split('\n\n')
    .filter((frame) => frame !== '')
    .map((frame) => frame.replace(/^data: /, ''))
}

const START: ChatEvent = { type: 'start', id: '', model: '', createdSeconds: undefined, usage: undefined }
const USAGE = {
  inputTokens: 3,
  cachedTokens: 1,
  cacheWriteTokens: 0,
  audioInputTokens: 0,
  outputTokens: 2,
  reasoningTokens: 1,
  audioOutputTokens: 0,
  source: 'provider' as const,
}
const FINISH: ChatEvent = { type: 'finish', choice: 0, finish: 'stop', stopSequence: undefined }

describe('a stream for a caller', () => {
  const said: readonly ChatEvent[] = [
    START,
    { type: 'text', choice: 0, text: 'x' },
    { type: 'usage', usage: USAGE },
    FINISH,
  ]

  it('tells usage behind the finish reason to who asked for it, and null before (bug 57, bug 58)', () => {
    const list = writeStream(said, { stream: true, stream_options: { include_usage: true } })
    expect(list.at(-1)).toBe('[DONE]')
    const chunks = list.slice(0, -1).map((one) => JSON.parse(one))
    expect(chunks.map(({ usage, choices }) => [usage?.total_tokens ?? usage, choices.length])).toEqual([
      [null, 1],
      [null, 1],
      [null, 1],
      [5, 0],
    ])
    expect(new Set(chunks.map(({ id, model, created }) => `${id} ${model} ${created}`))).toEqual(
      new Set(['chatcmpl-1 asked 5']),
    )
  })

  it('says nothing of usage to who did not ask', () => {
    const list = writeStream(said, { stream: true })
    expect(list.join('')).not.toContain('usage')
    expect(list).toHaveLength(4)
  })

  it('gives a call without arguments an empty object', () => {
    const list = writeStream([
      START,
      {
        type: 'call',
        choice: 0,
        call: 0,
        kind: 'function',
        id: 'a',
        name: 'f',
        namespace: undefined,
        sealed: undefined,
      },
      { ...FINISH, finish: 'tool_calls' },
    ])
    const args = list
      .slice(0, -1)
      .flatMap((one) => JSON.parse(one).choices[0].delta.tool_calls ?? [])
      .map((one) => one.function.arguments)
    expect(args.join('')).toBe('{}')
  })

  it('calls functions as a caller of the legacy kind knows them', () => {
    const list = writeStream(
      [
        START,
        {
          type: 'call',
          choice: 0,
          call: 0,
          kind: 'function',
          id: 'a',
          name: 'f',
          namespace: undefined,
          sealed: undefined,
        },
        { type: 'arguments', choice: 0, call: 0, text: '{}' },
        { ...FINISH, finish: 'tool_calls' },
      ],
      { functions: [{ name: 'f' }] },
    )
    const choices = list.slice(0, -1).map((one) => JSON.parse(one).choices[0])
    expect(choices.map(({ delta: one }) => one.function_call).filter(Boolean)).toEqual([
      { name: 'f', arguments: '' },
      { arguments: '{}' },
    ])
    expect(choices.at(-1).finish_reason).toBe('function_call')
  })
})

describe('a request of a caller', () => {
  it('may have content as text, as parts, as null or not at all', () => {
    const { messages } = read({
      messages: [
        { role: 'developer', content: 'be brief' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'image_url', image_url: 'data:image/PNG;base64,AAAA' },
          ],
        },
        { role: 'user', content: '' },
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: '' } }],
        },
        { role: 'tool', tool_call_id: 'a', content: [{ type: 'text', text: 'r' }] },
        { role: 'assistant' },
      ],
    })
    expect(messages.map(({ role, content }) => [role, content.map(({ type }) => type)])).toEqual([
      ['developer', ['text']],
      ['user', ['text', 'image']],
      ['user', []],
      ['assistant', ['call']],
      ['tool', ['text']],
      ['assistant', []],
    ])
    expect(messages[1]?.content[1]).toMatchObject({
      source: { kind: 'base64', mediaType: 'image/png', base64: 'AAAA' },
    })
  })

  it('joins the result of a legacy function to its call', () => {
    const { messages } = read({
      messages: [
        { role: 'assistant', content: null, function_call: { name: 'f', arguments: '{}' } },
        { role: 'function', name: 'f', content: 'r' },
      ],
    })
    const [call] = messages[0]?.content ?? []
    expect(messages[1]).toMatchObject({ role: 'tool', callId: call?.type === 'call' ? call.id : '' })
  })

  it('offers the allowed tools alone', () => {
    const tools = ['f', 'g'].map((name) => ({ type: 'function', function: { name } }))
    const choice = {
      type: 'allowed_tools',
      allowed_tools: { mode: 'required', tools: [{ type: 'function', function: { name: 'g' } }] },
    }
    const request = read({ tools, tool_choice: choice })
    expect(request.tools.map(({ name }) => name)).toEqual(['g'])
    expect(request.toolChoice).toEqual({ type: 'required' })
  })

  it.each<[string, Record<string, unknown>]>([
    ['messages', { messages: [] }],
    ['messages[0]', { messages: ['x'] }],
    ['messages[0].role', { messages: [{ role: 'robot' }] }],
    ['messages[0].content', { messages: [{ role: 'user', content: 5 }] }],
    ['messages[0].content[0].type', { messages: [{ role: 'user', content: [{ type: 'video' }] }] }],
    ['messages[0].content[0].text', { messages: [{ role: 'user', content: [{ type: 'text' }] }] }],
    ['messages[0].tool_call_id', { messages: [{ role: 'tool', content: 'x' }] }],
    ['messages[0].tool_calls[0].function', { messages: [{ role: 'assistant', tool_calls: [{ id: 'a' }] }] }],
    ['tools[0].type', { tools: [{ type: 'web_search' }] }],
    ['tools[0].function.name', { tools: [{ type: 'function', function: {} }] }],
    ['tool_choice', { tool_choice: 'sometimes' }],
    ['temperature', { temperature: 'hot' }],
    ['stop', { stop: [5] }],
    ['response_format.type', { response_format: { type: 'grammar' } }],
    ['modalities', { modalities: ['text', 'audio'] }],
    ['metadata', { metadata: 'a' }],
    ['tool_choice', { tools: [TOOL], tool_choice: { type: 'function', function: { name: 'g' } } }],
    ['function_call', { functions: [{ name: 'f' }], function_call: { name: 'g' } }],
    [
      'tool_choice',
      {
        tools: [TOOL],
        tool_choice: {
          type: 'allowed_tools',
          allowed_tools: { mode: 'required', tools: [{ type: 'function', function: { name: 'g' } }] },
        },
      },
    ],
    ['metadata.a', { metadata: { a: 1 } }],
    [`metadata.${'n'.repeat(64)}`, { metadata: { ['n'.repeat(5000)]: 1 } }],
    ['reasoning', { reasoning: 'high' }],
    ['reasoning.max_tokens', { reasoning: { max_tokens: 1.5 } }],
    ['thinking', { thinking: true }],
    ['thinking.budget_tokens', { thinking: { type: 'enabled', budget_tokens: -1 } }],
    ['functions', { functions: {} }],
    [
      'tools[0].function.parameters',
      { tools: [{ type: 'function', function: { name: 'f', parameters: 5 } }] },
    ],
  ])('is refused by the name of the field: %s', (param, body) => {
    expect(() => read(body)).toThrow(GatewayError)
    try {
      read(body)
    } catch (error) {
      expect(error).toMatchObject({ code: 'invalid_request', param })
    }
  })
})

it('a tool that is offered twice is offered once, as it was said last', () => {
  const again = { type: 'function', function: { name: 'f', description: 'again' } }
  const { request, dropped } = client.chat.read({ messages: [USER], tools: [TOOL, again] })
  expect(request.tools).toMatchObject([{ name: 'f', description: 'again' }])
  expect(dropped).toEqual(['tools'])
})

describe('a budget of no thoughts', () => {
  it.each([
    { thinking: { type: 'enabled', budget_tokens: 0 } },
    { reasoning: { max_tokens: 0 } },
    { thinking: { type: 'disabled', budget_tokens: 5 } },
  ])('is none: %j', (over) => {
    expect(read(over).reasoning).toMatchObject({ effort: 'none', budgetTokens: undefined })
  })
})

// --- for providers ---------------------------------------------------------------------------------------------

const textOf = (text: string) => ({ type: 'text' as const, text })
const callOf = (id: string) => ({
  type: 'call' as const,
  kind: 'function' as const,
  id,
  name: 'f',
  namespace: undefined,
  arguments: '',
  sealed: undefined,
})

describe('a request to a provider', () => {
  const asked = (quirks = '') => ({ model: 'm1', maxOutputTokens: undefined, options: { quirks } })
  const base = read({ max_tokens: 100, reasoning_effort: 'xhigh', top_k: 5, prompt_cache_key: 'k' })

  it('has what every server takes, and names what it leaves out', () => {
    const { body, dropped } = provider.chat.write({ ...base, stream: true }, asked())
    expect(body).toEqual({
      model: 'm1',
      messages: [USER],
      max_tokens: 100,
      reasoning_effort: 'high',
      stream: true,
      stream_options: { include_usage: true },
    })
    expect(dropped).toEqual(['top_k'])
  })

  it('names a user whose name is not longer than OpenAI takes, and tells of one that is', () => {
    const long = 'u'.repeat(65)
    for (const quirks of ['', 'all-fields']) {
      expect(provider.chat.write({ ...base, user: long.slice(1) }, asked(quirks)).body).toHaveProperty('user')
      const { body, dropped } = provider.chat.write({ ...base, user: long }, asked(quirks))
      expect(body).not.toHaveProperty('user')
      expect(dropped).toContain('user')
    }
  })

  it('is refused where OpenAI takes fewer stop sequences, and other servers are given all', () => {
    const stop = ['1', '2', '3', '4', '5']
    expect(() => provider.chat.write({ ...base, stop }, asked('all-fields'))).toThrow(
      expect.objectContaining({ code: 'invalid_request', param: 'stop' }),
    )
    expect(provider.chat.write({ ...base, stop: stop.slice(1) }, asked('all-fields')).body).toMatchObject({
      stop: stop.slice(1),
    })
    expect(provider.chat.write({ ...base, stop }, asked()).body).toMatchObject({ stop })
  })

  it('has all that a provider with everything takes', () => {
    expect(provider.chat.write(base, asked('all-fields max-completion-tokens')).body).toMatchObject({
      max_completion_tokens: 100,
      reasoning_effort: 'xhigh',
      prompt_cache_key: 'k',
    })
  })

  it('carries the lower of two caps', () => {
    expect(provider.chat.write(base, { ...asked(), maxOutputTokens: 7 }).body).toMatchObject({
      max_tokens: 7,
    })
    expect(provider.chat.write(base, { ...asked(), maxOutputTokens: 700 }).body).toMatchObject({
      max_tokens: 100,
    })
  })

  it('puts results of one turn behind one another, and what they show behind them', () => {
    const image = {
      type: 'image',
      source: { kind: 'url', url: 'https://x.test/a.png', mediaType: undefined },
      detail: undefined,
    } as const
    const request: ChatRequest = {
      ...base,
      messages: [
        { role: 'system', content: [{ type: 'text', text: 'one' }] },
        { role: 'developer', content: [{ type: 'text', text: 'two' }] },
        { role: 'assistant', content: [callOf('a'), callOf('b')] },
        {
          role: 'tool',
          callId: 'a',
          content: [{ type: 'text', text: 'r' }, image],
          isError: true,
          cache: undefined,
        },
        {
          role: 'tool',
          callId: 'b',
          content: [{ type: 'text', text: 's' }],
          isError: false,
          cache: undefined,
        },
        { role: 'user', content: [{ type: 'text', text: 'go on' }], name: undefined },
      ],
    }
    const list = provider.chat.write(request, asked()).body.messages
    expect(list).toMatchObject([
      { role: 'system', content: 'one\n\ntwo' },
      { role: 'assistant', tool_calls: [{ id: 'a' }, { id: 'b' }] },
      { role: 'tool', tool_call_id: 'a', content: expect.stringMatching(/^Error: r\n\[/) },
      { role: 'tool', tool_call_id: 'b', content: 's' },
      { role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://x.test/a.png' } }] },
      { role: 'user', content: 'go on' },
    ])
  })

  it('has every result behind its call, once, whatever stood in between', () => {
    const says = (text: string) => ({ role: 'user' as const, content: [textOf(text)], name: undefined })
    const result = (callId: string, text: string) => ({
      role: 'tool' as const,
      callId,
      content: [textOf(text)],
      isError: false,
      cache: undefined,
    })
    const messages: ChatRequest['messages'] = [
      says('go'),
      { role: 'assistant', content: [callOf('a'), callOf('b'), callOf('c')] },
      result('b', '1'),
      says('hurry'),
      { role: 'assistant', content: [textOf('I do')] },
      result('a', 'late'),
      result('b', '2'),
      result('x', 'stray'),
      // An id comes again in another turn, and twice in one.
      { role: 'assistant', content: [callOf('a'), callOf('a')] },
      result('a', '3'),
      result('a', '4'),
    ]
    expect(provider.chat.write({ ...base, messages }, asked()).body.messages).toMatchObject([
      { role: 'user', content: 'go' },
      { role: 'assistant', tool_calls: [{ id: 'a' }, { id: 'b' }, { id: 'c' }] },
      { role: 'tool', tool_call_id: 'a', content: 'late' },
      { role: 'tool', tool_call_id: 'b', content: '2' },
      { role: 'tool', tool_call_id: 'c', content: 'Error: There is no result of this call.' },
      { role: 'user', content: 'hurry' },
      { role: 'assistant', content: 'I do' },
      { role: 'user', content: [{ text: expect.stringContaining('(x)') }, { text: 'stray' }] },
      { role: 'assistant', tool_calls: [{ id: 'a' }, { id: 'a' }] },
      { role: 'tool', tool_call_id: 'a', content: '3' },
      { role: 'tool', tool_call_id: 'a', content: '4' },
    ])
  })

  it('carries reasoning, but not to a server that refuses it (bug 37)', () => {
    const request = read({
      messages: [USER, { role: 'assistant', content: 'a', reasoning_content: 'hm' }, USER],
    })
    expect(provider.chat.write(request, asked()).body.messages).toMatchObject([
      {},
      { reasoning_content: 'hm' },
      {},
    ])
    expect(JSON.stringify(provider.chat.write(request, asked('no-reasoning-content')).body)).not.toContain(
      'hm',
    )
  })

  it('says nothing of a choice of tools where there are none (bug 29)', () => {
    const { body } = provider.chat.write(read({ tool_choice: 'auto', parallel_tool_calls: false }), asked())
    expect(Object.keys(body)).toEqual(['model', 'messages'])
  })

  it('refuses by name what has no place in it', () => {
    const file = {
      type: 'file',
      source: { kind: 'url', url: 'https://x.test/a.pdf', mediaType: undefined },
      name: undefined,
    } as const
    const request: ChatRequest = { ...base, messages: [{ role: 'user', content: [file], name: undefined }] }
    expect(() => provider.chat.write(request, asked())).toThrow(
      expect.objectContaining({ param: 'messages[0]' }),
    )
  })
})
