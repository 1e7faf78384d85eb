// Canonical requests as Messages has them: the recorded ones (test/golden/anthropic/*.request.json, by the vendor's
// reference), and the rules of each generation of models.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { anthropic } from '../../../src/formats/anthropic.ts'
import { traitsOf } from '../../../src/formats/anthropic-models.ts'
import type { ChatRequest, Part, ResponseFormat } from '../../../src/formats/canonical.ts'
import type { WrittenRequest } from '../../../src/formats/format.ts'
import {
  assistant,
  call,
  chatRequest,
  result,
  system,
  thought,
  tool,
  user,
} from '../../support/chat-arbitraries.ts'
import { requestFaults } from '../../support/messages-checker.ts'

const FOLDER = join(import.meta.dirname, '../../golden/anthropic')
const { chat } = anthropic.provider
if (chat === undefined) throw new Error('no translation')
const translation = chat

function write(
  over: Partial<ChatRequest>,
  model = 'claude-opus-4-5',
  maxOutputTokens?: number,
): WrittenRequest {
  const written = translation.write(chatRequest(over), { model, maxOutputTokens, options: {} })
  expect(requestFaults(JSON.parse(JSON.stringify(written.body)))).toEqual([])
  return written
}

function body(over: Partial<ChatRequest>, model?: string, cap?: number): Readonly<Record<string, unknown>> {
  return write(over, model, cap).body
}

const png = (base64: string, mediaType = 'image/png'): Part => ({
  type: 'image',
  source: { kind: 'base64', mediaType, base64 },
  detail: 'high',
})
const weather = tool('get_weather', {
  description: 'Get the current weather in a given location',
  parameters: { type: 'object', properties: { location: { type: 'string' } }, required: ['location'] },
})
const time = tool('get_time', { parameters: undefined })
const json = (schema: unknown): ResponseFormat => ({
  type: 'json_schema',
  name: 'contact',
  description: undefined,
  schema,
  strict: true,
})
const NAME = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] }
const signed = (text: string, value: string) => thought(text, { origin: 'anthropic', value })
const reason = (effort: string | undefined, budgetTokens?: number) => ({
  effort,
  budgetTokens,
  summary: undefined,
})
const midSystem = {
  messages: [
    system('Rules.'),
    user('Hi'),
    system('The date has changed.'),
    assistant('Noted.'),
    system('Mode: plan.'),
    user('Go'),
  ],
}

const GOLDENS: Readonly<Record<string, Partial<ChatRequest>>> = {
  plain: { messages: [user('Hello, Claude')], maxOutputTokens: 1024 },
  system: {
    messages: [
      system('You are terse.'),
      {
        role: 'developer',
        content: [{ type: 'text', text: 'Answer in French.', cache: { ttl: undefined } }],
      },
      user('Hello'),
    ],
    stream: true,
  },
  'multi-part': {
    messages: [
      user(
        png('/9j/4AAQ', 'image/jpeg'),
        {
          type: 'image',
          source: { kind: 'url', url: 'https://example.com/ant.jpg', mediaType: undefined },
          detail: undefined,
        },
        {
          type: 'file',
          source: { kind: 'base64', mediaType: 'application/pdf', base64: 'JVBERi0x' },
          name: 'report.pdf',
        },
        {
          type: 'file',
          source: { kind: 'base64', mediaType: 'text/csv', base64: btoa('a,b\n1,2') },
          name: 't.csv',
        },
        'What is in these?',
      ),
    ],
  },
  tool: {
    messages: [user('Weather in Paris?')],
    tools: [weather],
    toolChoice: { type: 'tool', name: 'get_weather' },
    parallelToolCalls: false,
  },
  'tool-results': {
    messages: [
      user('Weather in Paris and Rome?'),
      assistant(
        "I'll look.",
        call('toolu_A', 'get_weather', '{"location":"Paris"}'),
        call('call:b|2', 'get_weather', '{"location":"Rome"}'),
      ),
      result('toolu_A', '15 degrees'),
      { ...result('call:b|2', 'See:', png('iVBORw0K')), isError: true },
      user('And tomorrow?'),
    ],
    tools: [weather],
  },
  'structured-output': {
    messages: [user('Extract.')],
    responseFormat: json({
      type: 'object',
      properties: {
        name: { type: 'string', minLength: 1 },
        plan: { oneOf: [{ const: 'free' }, { const: 'paid' }] },
        when: { type: 'string', format: 'date-time' },
        tags: {
          type: 'array',
          items: { type: 'string', description: 'A tag.', pattern: '^a', format: 'binary' },
        },
      },
      required: ['name', 'plan', 'when', 'tags'],
      additionalProperties: false,
    }),
  },
  'answer-tool': { messages: [user('Extract.')], responseFormat: json(NAME) },
  'thinking-budget': {
    messages: [user('Why?')],
    reasoning: reason('medium'),
    maxOutputTokens: 12_000,
    temperature: 0.2,
  },
  'thinking-effort': { messages: [user('Why?')], reasoning: reason('xhigh'), temperature: 0.2, topP: 0.5 },
  'thinking-history': {
    messages: [
      user('What time is it?'),
      assistant(
        signed('A clock is needed.', 'EqQBCgIYAhIM1gbc'),
        thought('', { origin: 'anthropic', value: 'EmwKAhgBEgy3va3p' }, true),
        signed('', 'EpUBCkYIBRgC'),
        thought('Not its own.', { origin: 'gemini', value: 'Zm9yZWlnbg==' }),
        thought('Nobody signed this.'),
        call('toolu_A', 'get_time', ''),
      ),
      result('toolu_A', 'noon'),
    ],
    tools: [time],
    reasoning: reason('high'),
  },
  'mid-system.claude-opus-4-8': midSystem,
  'mid-system.claude-opus-4-5': midSystem,
  'everything-else': {
    messages: [user('Hi')],
    maxOutputTokens: 2000,
    temperature: 1.4,
    topP: 0.9,
    stop: ['END', '\n'],
    user: 'user-7',
    serviceTier: 'default',
    seed: 7,
    presencePenalty: 1,
    frequencyPenalty: 1,
    verbosity: 'low',
    cacheKey: 'k',
    metadata: { a: 'b' },
    extra: { logprobs: true, top_logprobs: 2, logit_bias: {} },
  },
}
const MODELS: Readonly<Record<string, string>> = {
  'answer-tool': 'claude-sonnet-4-20250514',
  'thinking-budget': 'claude-sonnet-4-5',
  'thinking-effort': 'claude-opus-5-5',
  'mid-system.claude-opus-4-8': 'claude-opus-4-8',
}

describe('a recorded request', () => {
  it.each(Object.entries(GOLDENS))('%s is written so', (name, over) => {
    const expected: unknown = JSON.parse(readFileSync(join(FOLDER, `${name}.request.json`), 'utf8'))
    expect(JSON.parse(JSON.stringify(body(over, MODELS[name])))).toEqual(expected)
  })

  it('is in the table, each of them', () => {
    const recorded = readdirSync(FOLDER).flatMap((file) => /^(.*)\.request\.json$/.exec(file)?.[1] ?? [])
    expect(recorded.sort()).toEqual(Object.keys(GOLDENS).sort())
  })

  it('tells what was left out', () => {
    expect(write(GOLDENS['everything-else'] ?? {}).dropped.toSorted()).toEqual([
      'frequency_penalty',
      'logit_bias',
      'logprobs',
      'metadata',
      'presence_penalty',
      'prompt_cache_key',
      'seed',
      'stop',
      'top_logprobs',
      'top_p',
      'verbosity',
    ])
    expect(write({ messages: [user('Hi')] }).dropped).toEqual([])
  })
})

describe('what has no place in Messages is refused by its name', () => {
  it.each([
    ['n', { choices: 2 }],
    ['modalities', { extra: { modalities: ['text', 'audio'], audio: { voice: 'alloy' } } }],
    ['messages', { messages: [user({ type: 'audio', base64: 'UklGRg==', format: 'wav' })] }],
    [
      'messages',
      { messages: [user({ type: 'file', source: { kind: 'file', id: 'file-abc' }, name: undefined })] },
    ],
  ] as const)('%s', (param, over) => {
    expect(() => write(over)).toThrow(expect.objectContaining({ code: 'invalid_request', param }))
  })
})

describe('the cap', () => {
  it('is always there: the caller’s, within the model’s and the policy’s', () => {
    expect(body({}).max_tokens).toBe(64_000)
    expect(body({ maxOutputTokens: 500_000 }).max_tokens).toBe(64_000)
    expect(body({ maxOutputTokens: 300 }).max_tokens).toBe(300)
    expect(body({ maxOutputTokens: 300 }, 'claude-opus-4-5', 100).max_tokens).toBe(100)
    expect(body({}, 'claude-opus-4-5', 100).max_tokens).toBe(100)
    expect(body({}, 'us.anthropic.claude-3-haiku-20240307-v1:0').max_tokens).toBe(4_096)
    expect(body({ maxOutputTokens: 100_000 }, 'kimi-k2').max_tokens).toBe(100_000)
  })
})

describe('thinking', () => {
  const hard = { messages: [user('Why?')], tools: [time] }

  it('with a budget stays below the cap and leaves room for the answer', () => {
    const of = (maxOutputTokens: number, reasoning = reason('high')) =>
      body({ ...hard, reasoning, maxOutputTokens }, 'claude-sonnet-4-5').thinking
    expect(of(4_000)).toEqual({ type: 'enabled', budget_tokens: 2_976 })
    expect(of(50_000)).toEqual({ type: 'enabled', budget_tokens: 16_384 })
    expect(of(50_000, reason(undefined, 5_000))).toEqual({ type: 'enabled', budget_tokens: 5_000 })
    expect(of(50_000, reason('low', 10))).toEqual({ type: 'enabled', budget_tokens: 1_024 })
    expect(of(2_047)).toBeUndefined()
    expect(write({ ...hard, reasoning: reason('high'), maxOutputTokens: 2_000 }).dropped).toEqual([
      'reasoning_effort',
    ])
  })

  it.each([
    ['claude-opus-4-5', 'xhigh', 'high'],
    ['claude-opus-4-6', 'xhigh', 'high'],
    ['claude-sonnet-4-6', 'max', 'max'],
    ['claude-opus-5', 'minimal', 'low'],
    ['claude-haiku-4-5', 'high', undefined],
  ])('of %s takes %s as %s', (model, effort, expected) => {
    const { output_config: config } = body({ ...hard, reasoning: reason(effort) }, model)
    expect(config).toEqual(expected === undefined ? undefined : { effort: expected })
  })

  it('by effort takes a budget as the effort it stands for', () => {
    const of = (budget: number) =>
      body({ ...hard, reasoning: reason(undefined, budget) }, 'claude-opus-4-7').output_config
    expect([of(1_024), of(8_192), of(30_000)]).toEqual([
      { effort: 'low' },
      { effort: 'medium' },
      { effort: 'high' },
    ])
  })

  it.each([
    ['claude-opus-4-5', undefined, undefined],
    ['claude-opus-4-7', undefined, undefined],
    ['claude-opus-5', { type: 'disabled' }, undefined],
    ['claude-sonnet-5-5', { type: 'between_tools' }, undefined],
    ['claude-fable-5-1', undefined, { effort: 'low' }],
    ['claude-opus-5-5', undefined, { effort: 'low' }],
  ])('is told not to be, to %s', (model, thinking, config) => {
    const written = body({ ...hard, reasoning: reason('none') }, model)
    expect({ thinking: written.thinking, config: written.output_config }).toEqual({ thinking, config })
  })

  it('gives way to a call that is forced, which the caller relies on', () => {
    const forced = { ...hard, reasoning: reason('max'), toolChoice: { type: 'required' as const } }
    const older = write(forced, 'claude-opus-4-6')
    expect([older.body.tool_choice, older.body.thinking, older.dropped]).toEqual([
      { type: 'any' },
      undefined,
      ['reasoning_effort'],
    ])
    const newer = write(forced, 'claude-opus-5')
    expect([newer.body.tool_choice, newer.body.thinking, newer.body.output_config]).toEqual([
      { type: 'any' },
      { type: 'disabled' },
      { effort: 'high' },
    ])
    const never = write(forced, 'claude-opus-5-5')
    expect([never.body.tool_choice, never.body.thinking, never.dropped]).toEqual([
      { type: 'auto' },
      { type: 'adaptive', display: 'summarized' },
      ['tool_choice'],
    ])
  })

  it('is left alone where nobody speaks of it', () => {
    for (const model of ['claude-opus-4-5', 'claude-opus-5-5', 'claude-sonnet-5'])
      expect(body(hard, model)).not.toHaveProperty('thinking')
  })
})

describe('sampling', () => {
  const warm = { temperature: 1.7, topP: 0.9, topK: 5 }

  it.each([
    ['claude-3-5-haiku-20241022', { temperature: 1, top_p: 0.9, top_k: 5 }],
    ['claude-sonnet-4-5', { temperature: 1, top_k: 5 }],
    ['claude-opus-4-7', {}],
    ['claude-sonnet-5-5', {}],
    ['claude-unheard-of-9', {}],
    ['kimi-k2', { temperature: 1, top_p: 0.9, top_k: 5 }],
  ])('of %s', (model, expected) => {
    const { temperature, top_p, top_k } = body(warm, model)
    expect(JSON.parse(JSON.stringify({ temperature, top_p, top_k }))).toEqual(expected)
  })

  it('has the top share where no temperature is given', () => {
    expect(body({ topP: 0.9 }, 'claude-sonnet-4-5').top_p).toBe(0.9)
  })
})

describe('structured output', () => {
  const open = json({
    type: 'object',
    properties: { map: { type: 'object', additionalProperties: { type: 'number' } } },
    required: ['map'],
  })
  const endless = json({
    $ref: '#/$defs/node',
    $defs: { node: { type: 'object', properties: { next: { $ref: '#/$defs/node' } }, required: ['next'] } },
  })

  it('that cannot be enforced as it stands is what a tool is called with', () => {
    const { tools, tool_choice: choice, output_config: config } = body({ responseFormat: open })
    expect([choice, config]).toEqual([{ type: 'tool', name: 'answer_in_json' }, undefined])
    expect(tools).toMatchObject([
      {
        name: 'answer_in_json',
        input_schema: { properties: { map: { additionalProperties: { type: 'number' } } } },
      },
    ])
  })

  it('beside the caller’s own tools, or without an object at its root, is told in words', () => {
    for (const over of [{ responseFormat: open, tools: [time] }, { responseFormat: endless }]) {
      const written = body(over)
      expect(written.tool_choice).toBeUndefined()
      expect(JSON.stringify(written.system)).toContain('valid for this JSON Schema')
    }
    expect(JSON.stringify(body({ responseFormat: { type: 'json_object' } }).system)).toContain(
      'one JSON object',
    )
  })

  it('comes from the answer’s tool as text, and a call of that name by a caller’s tool stays a call', () => {
    const reply = Buffer.from(
      JSON.stringify({
        type: 'message',
        content: [{ type: 'tool_use', id: 'toolu_1', name: 'answer_in_json', input: { a: 1 } }],
        stop_reason: 'tool_use',
      }),
    )
    const [answer] = translation.read(reply, write({ responseFormat: open })).choices
    expect(answer).toMatchObject({ content: [{ type: 'text', text: '{"a":1}' }], finish: 'stop' })
    const [own] = translation.read(reply, write({ tools: [tool('answer_in_json')] })).choices
    expect(own).toMatchObject({ content: [{ type: 'call', name: 'answer_in_json' }], finish: 'tool_calls' })
  })
})

describe('tools', () => {
  it('have an object at the root of their input, whatever schema was given', () => {
    const { tools } = body({
      tools: [
        tool('a', { parameters: undefined }),
        tool('b', { parameters: { properties: { x: {} } } }),
        tool('c', {
          parameters: {
            anyOf: [
              { type: 'object', properties: { x: { type: 'string' }, z: {} }, required: ['x', 'z'] },
              { type: 'object', properties: { x: { type: 'number' }, y: {} }, required: ['x'] },
            ],
            properties: { w: {} },
            required: ['w'],
          },
        }),
      ],
    })
    expect(tools).toEqual([
      { name: 'a', input_schema: { type: 'object', properties: {} } },
      { name: 'b', input_schema: { type: 'object', properties: { x: {} } } },
      {
        name: 'c',
        input_schema: {
          type: 'object',
          properties: { w: {}, x: { type: 'string' }, z: {}, y: {} },
          required: ['w', 'x'],
        },
      },
    ])
  })

  it('are strict where the model can hold to the schema', () => {
    const strict = tool('a', { parameters: { ...NAME, additionalProperties: false }, strict: true })
    expect(body({ tools: [strict] }).tools).toMatchObject([
      { strict: true, input_schema: { additionalProperties: false } },
    ])
    expect(body({ tools: [strict] }, 'claude-3-5-haiku-20241022').tools).not.toMatchObject([{ strict: true }])
    const loose = tool('a', { parameters: { type: 'object', additionalProperties: true }, strict: true })
    expect(body({ tools: [loose] }).tools).toEqual([
      { name: 'a', input_schema: { type: 'object', additionalProperties: true } },
    ])
  })

  it('of free text are functions of one text, and are called with text again', () => {
    const patch = tool('apply_patch', {
      kind: 'custom',
      namespace: 'code',
      description: 'Patches.',
      grammar: { type: 'grammar', syntax: 'lark', definition: 'start: "x"' },
      parameters: undefined,
    })
    const history = [
      user('Fix it'),
      assistant(call('c1', 'apply_patch', '*** Begin', { kind: 'custom', namespace: 'code' })),
      result('c1', 'ok'),
    ]
    const written = write({
      tools: [patch],
      messages: history,
      toolChoice: { type: 'tool', name: 'apply_patch', namespace: 'code' },
    })
    expect(written.body.tools).toMatchObject([
      {
        name: 'code__apply_patch',
        description: 'Patches.\n\nThe input must follow this lark grammar:\nstart: "x"',
      },
    ])
    expect(written.body.tool_choice).toEqual({ type: 'tool', name: 'code__apply_patch' })
    expect(JSON.stringify(written.body.messages)).toContain('"input":{"input":"*** Begin"}')
    const reply = {
      type: 'message',
      content: [{ type: 'tool_use', id: 't', name: 'code__apply_patch', input: { input: 'a\nb' } }],
    }
    expect(translation.read(Buffer.from(JSON.stringify(reply)), written).choices[0]?.content).toEqual([
      call('t', 'apply_patch', 'a\nb', { kind: 'custom', namespace: 'code' }),
    ])
    const reader = translation.events(written)
    const events = [
      {
        type: 'content_block_start',
        index: 0,
        content_block: { type: 'tool_use', id: 't', name: 'code__apply_patch', input: {} },
      },
      ...['{"inp', 'ut":"a', '\\n', 'b"', '}'].map((partial_json) => ({
        type: 'content_block_delta',
        index: 0,
        delta: { type: 'input_json_delta', partial_json },
      })),
      { type: 'content_block_stop', index: 0 },
    ].flatMap((event) =>
      reader.read({ bytes: Buffer.alloc(0), event: undefined, data: JSON.stringify(event) }),
    )
    expect(events.flatMap((event) => (event.type === 'arguments' ? event.text : [])).join('')).toBe('a\nb')
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'call', kind: 'custom', name: 'apply_patch', namespace: 'code' }),
    )
  })

  it('keep the name they were given, whatever the wire makes of it', () => {
    const long = `mcp__${'server_'.repeat(12)}__read`
    const written = write({ tools: [tool(long), tool('grün'), tool('gr_n')] })
    const sent = written.body.tools
    if (!Array.isArray(sent)) throw new Error('no tools')
    const back = sent.map(({ name }, at) => {
      const reply = { type: 'message', content: [{ type: 'tool_use', id: `t${at}`, name, input: {} }] }
      const [part] = translation.read(Buffer.from(JSON.stringify(reply)), written).choices[0]?.content ?? []
      return part?.type === 'call' ? part.name : undefined
    })
    expect(back).toEqual([long, 'grün', 'gr_n'])
  })
})

describe('marks of the cache', () => {
  it('are four at most: the last of what is always the same, and the latest', () => {
    const mark = { ttl: '1h' }
    const marked = (text: string): Part => ({ type: 'text', text, cache: mark })
    const messages = [
      system(marked('S1'), marked('S2')),
      ...['1', '2', '3', '4'].flatMap((n) => [user(marked(`U${n}`)), assistant(`A${n}`)]),
      user('end'),
    ]
    const text = JSON.stringify(body({ messages, tools: [tool('a', { cache: mark })] }))
    const kept = [...text.matchAll(/"text":"(\w+)","cache_control":\{"type":"ephemeral","ttl":"1h"\}/g)].map(
      (one) => one[1],
    )
    expect(kept).toEqual(['S2', 'U2', 'U3', 'U4'])
    expect(text.match(/cache_control/g)).toHaveLength(4)
  })
})

describe('a name of a model', () => {
  it.each([
    ['claude-opus-4-5-20251101', 64_000],
    ['anthropic/claude-opus-4-5', 64_000],
    ['us.anthropic.claude-opus-4-6-v1', 128_000],
    ['claude-opus-4-20250514', 32_000],
    ['claude-sonnet-4@20250514', 64_000],
    ['claude-3-7-sonnet-latest', 64_000],
    ['claude-3-opus-20240229', 4_096],
    ['claude-2.1', 4_096],
  ])('%s is told by its generation', (model, maxOutputTokens) => {
    expect(traitsOf(model).maxOutputTokens).toBe(maxOutputTokens)
  })
})
