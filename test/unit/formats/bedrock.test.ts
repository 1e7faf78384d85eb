// What gateways were reported to get wrong towards Bedrock (test/support/published-bugs.ts), and what else Converse asks for.

import { describe, expect, it } from 'vitest'
import { bedrock } from '../../../src/formats/bedrock.ts'
import type { CallPart, ChatEvent, ChatRequest, Part } from '../../../src/formats/canonical.ts'
import type { Asked, WrittenRequest } from '../../../src/formats/format.ts'
import * as made from '../../support/chat-arbitraries.ts'
import { assistant, chatRequest, result, tool, user } from '../../support/chat-arbitraries.ts'
import { foldEvents } from '../../support/chat-events.ts'
import { toStreamEvent } from '../../support/eventstream.ts'

const { chat, splitter } = bedrock.provider
if (chat === undefined || splitter === undefined) throw new Error('bedrock has no chat')

const call = (id: string, over: Partial<CallPart> = {}): CallPart =>
  made.call(id, 'get_weather', '{"city":"Paris"}', over)
const thought = (text: string, value = 'c2ln'): Part => made.thought(text, { origin: 'anthropic', value })

const asked = (model: string, maxOutputTokens?: number): Asked => ({ model, maxOutputTokens, options: {} })
const SONNET_4_5 = asked('us.anthropic.claude-sonnet-4-5-20250929-v1:0')
const OPUS_4_7 = asked('global.anthropic.claude-opus-4-7')
const NOVA = asked('us.amazon.nova-pro-v1:0')
const GPT = asked('openai.gpt-5.6')

function write(over: Partial<ChatRequest>, to = SONNET_4_5): WrittenRequest {
  if (chat === undefined) throw new Error('bedrock has no chat')
  return chat.write(chatRequest(over), to)
}

/** The events of a stream of these events of Converse. */
function read(
  events: readonly (readonly [type: string, payload: object])[],
  written: WrittenRequest,
): ChatEvent[] {
  const reader = chat?.events(written)
  const bytes = Buffer.concat(events.map(([type, payload]) => toStreamEvent(type, payload)))
  return (
    splitter?.()
      .push(bytes)
      .flatMap((frame) => reader?.read(frame) ?? []) ?? []
  )
}

const begin = (index: number, name: string): readonly [string, object] => [
  'contentBlockStart',
  { contentBlockIndex: index, start: { toolUse: { toolUseId: `tooluse_${index}`, name } } },
]
const say = (index: number, delta: object): readonly [string, object] => [
  'contentBlockDelta',
  { contentBlockIndex: index, delta },
]
const end = (index: number): readonly [string, object] => ['contentBlockStop', { contentBlockIndex: index }]
const stop = (stopReason: string): readonly [string, object] => ['messageStop', { stopReason }]

describe('tools', () => {
  it('have a name and a description that are not empty (bug 30)', () => {
    const { body } = write({ tools: [tool(''), tool('now', { description: ' ' })] })
    expect(body.toolConfig).toMatchObject({
      tools: [
        {
          toolSpec: {
            name: expect.stringMatching(/^[a-zA-Z0-9_-]+$/),
            description: expect.stringMatching(/\S/),
          },
        },
        { toolSpec: { name: 'now', description: 'now' } },
      ],
    })
  })

  it('of long names come back with their own (bug 31)', () => {
    const name = `mcp__server.with dots__${'long_'.repeat(20)}`
    const written = write({
      tools: [tool(name)],
      messages: [user('Go'), assistant(call('a', { name })), result('a', '1')],
    })
    const [wire = ''] = [...written.names.keys()]
    expect(wire).toMatch(/^[a-zA-Z0-9_-]{1,64}$/)
    expect(JSON.stringify(written.body.toolConfig)).toContain(`"name":"${wire}"`)
    expect(JSON.stringify(written.body.messages)).toContain(`"name":"${wire}"`)
    const events = read([begin(0, wire), end(0), stop('tool_use')], written)
    expect(events).toContainEqual(expect.objectContaining({ type: 'call', name }))
  })

  it('stand in a request whose history has calls, also where none may be called (bug 54)', () => {
    const messages = [user('Go'), assistant(call('a')), result('a', 'sun')]
    for (const over of [{}, { tools: [tool('now')], toolChoice: { type: 'none' } as const }]) {
      const { body } = write({ messages, ...over })
      expect(body.toolConfig).toMatchObject({ tools: [expect.anything()] })
      expect(body.additionalModelRequestFields).toEqual({ tool_choice: { type: 'none' } })
      // Who knows no such word reads of the calls as text.
      const told = write({ messages, ...over }, NOVA).body
      expect(told).not.toHaveProperty('toolConfig')
      expect(JSON.stringify(told.messages)).not.toMatch(/toolUse|toolResult/)
    }
  })

  it('are not offered where none may be called, but to who can be told so', () => {
    const over = { tools: [tool('now')], toolChoice: { type: 'none' } as const }
    expect(write(over, NOVA).body).not.toHaveProperty('toolConfig')
    expect(write(over).body).toMatchObject({
      toolConfig: { tools: [expect.anything()] },
      additionalModelRequestFields: { tool_choice: { type: 'none' } },
    })
  })

  it('of free text take and give that text, as it comes', () => {
    const written = write({ tools: [tool('apply_patch', { kind: 'custom', description: undefined })] })
    const events = read(
      [
        begin(0, 'apply_patch'),
        say(0, { toolUse: { input: '{"inp' } }),
        say(0, { toolUse: { input: 'ut": "a \\"b' } }),
        say(0, { toolUse: { input: '\\"\\nc"}' } }),
        end(0),
        stop('tool_use'),
      ],
      written,
    )
    expect(events.flatMap((event) => (event.type === 'arguments' ? [event.text] : []))).toEqual([
      'a "b',
      '"\nc',
    ])
    expect(events).toContainEqual(expect.objectContaining({ type: 'call', kind: 'custom' }))
    const { body } = write({
      messages: [user('Go'), assistant(call('a', { kind: 'custom', arguments: 'x' })), result('a', '1')],
    })
    expect(JSON.stringify(body.messages)).toContain('"input":{"input":"x"}')
  })

  it('that are called more often than asked for are not read where the model cannot be told', () => {
    const written = write({ tools: [tool('now')], parallelToolCalls: false }, NOVA)
    const events = read(
      [
        begin(0, 'now'),
        end(0),
        begin(1, 'now'),
        say(1, { toolUse: { input: '{}' } }),
        end(1),
        stop('tool_use'),
      ],
      written,
    )
    expect(foldEvents(events).choices).toMatchObject([
      { content: [{ id: 'tooluse_0' }], finish: 'tool_calls' },
    ])
    const body = {
      output: {
        message: {
          content: ['a', 'b'].map((id) => ({ toolUse: { toolUseId: id, name: 'now', input: {} } })),
        },
      },
      stopReason: 'tool_use',
    }
    expect(chat.read(Buffer.from(JSON.stringify(body)), written).choices).toMatchObject([
      { content: [{ id: 'a' }] },
    ])
  })
})

describe('a schema for the answer', () => {
  const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
  const responseFormat = {
    type: 'json_schema',
    name: 'n',
    description: 'A number.',
    schema,
    strict: true,
  } as const

  it('that the model refuses is a tool whose call is read as the answer', () => {
    const written = write({ responseFormat }, OPUS_4_7)
    const [wire = ''] = [...written.names.keys()]
    expect(written.body.toolConfig).toMatchObject({
      tools: [{ toolSpec: { name: wire, description: 'A number.' } }],
      toolChoice: { tool: { name: wire } },
    })
    const events = read(
      [
        begin(0, wire),
        say(0, { toolUse: { input: '{"n":' } }),
        say(0, { toolUse: { input: '3}' } }),
        end(0),
        stop('tool_use'),
      ],
      written,
    )
    expect(foldEvents(events).choices).toEqual([
      { content: [{ type: 'text', text: '{"n":3}' }], finish: 'stop' },
    ])
    const body = {
      output: { message: { content: [{ toolUse: { toolUseId: 'a', name: wire, input: { n: 3 } } }] } },
      stopReason: 'tool_use',
    }
    expect(chat.read(Buffer.from(JSON.stringify(body)), written).choices).toMatchObject([
      { content: [{ type: 'text', text: '{"n":3}' }], finish: 'stop' },
    ])
  })

  it('is told in words beside tools of the caller', () => {
    const { body } = write({ responseFormat, tools: [tool('now')] }, OPUS_4_7)
    expect(body.system).toEqual([{ text: expect.stringContaining('"required":["n"]') }])
    expect(body.toolConfig).not.toHaveProperty('toolChoice')
  })
})

describe('thoughts', () => {
  const messages = (...content: readonly (string | Part)[]): ChatRequest['messages'] => [
    user('Go'),
    assistant(...content),
    result('a', '1'),
  ]
  const turn = (written: WrittenRequest): unknown => {
    const list: unknown = written.body.messages
    return Array.isArray(list) ? list[1]?.content : undefined
  }
  const reasoning = { effort: 'high', budgetTokens: undefined, summary: undefined }

  it('go back signed, each by itself, also without words (bug 34, bug 35)', () => {
    expect(
      turn(write({ messages: messages(thought('One.', 'MQ=='), thought('', 'Mg=='), call('a')) })),
    ).toEqual([
      { reasoningContent: { reasoningText: { text: 'One.', signature: 'MQ==' } } },
      { reasoningContent: { reasoningText: { text: '', signature: 'Mg==' } } },
      { toolUse: { toolUseId: 'a', name: 'get_weather', input: { city: 'Paris' } } },
    ])
  })

  it('that are redacted go back to the makers that they came from', () => {
    const redacted = (value: string): Part => made.thought('', { origin: 'bedrock', value }, true)
    const back = (value: string, to: Asked): boolean =>
      JSON.stringify(turn(write({ messages: messages(redacted(value), call('a')) }, to))).includes(value)
    expect([back('cnNuX3Byb3Bvc2U=', GPT), back('RW13S0FoZ0I=', SONNET_4_5)]).toEqual([true, true])
    expect([back('RW13S0FoZ0I=', GPT), back('cnNuX3Byb3Bvc2U=', SONNET_4_5)]).toEqual([false, false])
  })

  it('of others, and for others, are left out', () => {
    const foreign = made.thought('Hm.', { origin: 'gemini', value: 'x' })
    expect(turn(write({ messages: messages(foreign, made.thought('Hm.'), call('a')) }))).toEqual([
      expect.objectContaining({ toolUse: expect.anything() }),
    ])
    expect(
      JSON.stringify(turn(write({ messages: messages(thought('One.'), call('a')) }, NOVA))),
    ).not.toContain('reasoningContent')
  })

  it('are not asked for in the middle of a loop whose thought is lost (bug 33)', () => {
    const lost = write({ reasoning, maxOutputTokens: 20_000, messages: messages(call('a')) })
    expect(lost.body).not.toHaveProperty('additionalModelRequestFields.thinking')
    expect(lost.dropped).toContain('reasoning_effort')
    const kept = write({ reasoning, maxOutputTokens: 20_000, messages: messages(thought('Hm.'), call('a')) })
    expect(kept.body).toMatchObject({ additionalModelRequestFields: { thinking: { budget_tokens: 16_384 } } })
    const over = write({
      reasoning,
      maxOutputTokens: 20_000,
      messages: [...messages(call('a')), assistant('Sun.'), user('And?')],
    })
    expect(over.body).toMatchObject({ additionalModelRequestFields: { thinking: { type: 'enabled' } } })
  })

  it('never take the whole of a cap, nor stand beside a forced call', () => {
    const { body } = write({ reasoning, maxOutputTokens: 50_000 }, { ...SONNET_4_5, maxOutputTokens: 4000 })
    expect(body.inferenceConfig).toEqual({ maxTokens: 4000 })
    expect(body).toMatchObject({ additionalModelRequestFields: { thinking: { budget_tokens: 4000 - 1024 } } })
    const forced = write({
      reasoning,
      maxOutputTokens: 20_000,
      tools: [tool('now')],
      toolChoice: { type: 'required' },
    })
    expect(forced.body).not.toHaveProperty('additionalModelRequestFields.thinking')
    expect(forced.dropped).toContain('reasoning_effort')
  })

  it('do not end a turn, and are no turn', () => {
    const { body } = write({
      messages: [
        user('Go'),
        assistant('Well.', thought('Hm.')),
        user('On'),
        assistant(thought('Hm.')),
        user('!'),
      ],
    })
    expect(body.messages).toEqual([
      { role: 'user', content: [{ text: 'Go' }] },
      { role: 'assistant', content: [{ text: 'Well.' }] },
      { role: 'user', content: [{ text: 'On' }, { text: '!' }] },
    ])
  })
})

describe('cache marks', () => {
  const cache = { ttl: '1h' }
  const marked = (text: string): Part => ({ type: 'text', text, cache })

  it('stand behind what they mark, for models that know them (bug 56)', () => {
    const over = {
      tools: [tool('now', { cache })],
      messages: [{ role: 'system', content: [marked('Be brief.')] } as const, user(marked('Hi'), 'there')],
    }
    const point = { cachePoint: { type: 'default', ttl: '1h' } }
    expect(write(over).body).toMatchObject({
      system: [{ text: 'Be brief.' }, point],
      messages: [{ content: [{ text: 'Hi' }, point, { text: 'there' }] }],
      toolConfig: { tools: [{ toolSpec: { name: 'now' } }, point] },
    })
    const older = write(over, asked('anthropic.claude-3-7-sonnet-20250219-v1:0')).body
    expect(JSON.stringify(older)).toContain('{"cachePoint":{"type":"default"}}')
    expect(JSON.stringify(older)).not.toContain('ttl')
    for (const other of [NOVA, GPT, asked('anthropic.claude-3-haiku-20240307-v1:0')])
      expect(JSON.stringify(write(over, other).body)).not.toContain('cachePoint')
  })

  it('are four at most', () => {
    const { body } = write({ messages: [user(...'abcdef'.split('').map(marked))] })
    expect(JSON.stringify(body).match(/cachePoint/g)).toHaveLength(4)
  })
})

describe('a conversation', () => {
  it('has no blank text anywhere, and a word for a result that has none (bug 55)', () => {
    const messages = [
      user('Go', ' '),
      assistant('\n', call('a'), call('b')),
      result('a', ''),
      result('b'),
      user(' '),
    ]
    const { body } = write({ messages })
    expect(body.messages).toEqual([
      { role: 'user', content: [{ text: 'Go' }] },
      { role: 'assistant', content: [{ toolUse: expect.anything() }, { toolUse: expect.anything() }] },
      {
        role: 'user',
        content: ['a', 'b'].map((toolUseId) => ({
          toolResult: { toolUseId, content: [{ text: '(empty)' }] },
        })),
      },
    ])
  })

  it('says that a result is an error, in words where there is no other way', () => {
    const messages = [user('Go'), assistant(call('a')), { ...result('a', 'no'), isError: true }]
    expect(JSON.stringify(write({ messages }).body)).toContain('"content":[{"text":"no"}],"status":"error"')
    expect(JSON.stringify(write({ messages, tools: [tool('get_weather')] }, GPT).body)).toContain(
      '"content":[{"text":"Error: no"}]',
    )
  })

  it('shows images of a result where the model takes them', () => {
    const image: Part = {
      type: 'image',
      source: { kind: 'base64', mediaType: 'image/png', base64: 'iVBO' },
      detail: undefined,
    }
    const messages = [user('Go'), assistant(call('a')), result('a', image)]
    const block = { image: { format: 'png', source: { bytes: 'iVBO' } } }
    expect(write({ messages }).body.messages).toMatchObject([
      {},
      {},
      { content: [{ toolResult: { content: [block] } }] },
    ])
    expect(write({ messages, tools: [tool('get_weather')] }, NOVA).body.messages).toMatchObject([
      {},
      {},
      { content: [{ toolResult: { content: [{ text: '(empty)' }] } }, block] },
    ])
  })

  it('names a call and its result by one id, and every call by its own', () => {
    const messages = [user('Go'), assistant(call('a:1'), call('a:1')), result('a:1', '1'), result('a:1', '2')]
    const text = JSON.stringify(write({ messages }).body.messages)
    const ids = [...text.matchAll(/"toolUseId":"([^"]+)"/g)].map(([, id]) => id)
    expect(ids).toHaveLength(4)
    expect(ids.slice(0, 2)).toEqual(ids.slice(2))
    expect(new Set(ids).size).toBe(2)
    for (const id of ids) expect(id).toMatch(/^[a-zA-Z0-9_-]{1,64}$/)
  })

  it('is capped at what Nova can say', () => {
    const cap = (model: string) =>
      write({ maxOutputTokens: 32_000 }, { ...SONNET_4_5, model }).body.inferenceConfig
    expect(cap('eu.amazon.nova-pro-v1:0')).toEqual({ maxTokens: 10_000 })
    expect(cap('amazon.nova-2-lite-v1:0')).toEqual({ maxTokens: 32_000 })
  })

  it('may hold what lies in S3 where any caller may read there, and nowhere else', () => {
    const source = { kind: 'url', url: 's3://bucket/cat.png', mediaType: undefined } as const
    const messages = [user({ type: 'image', source, detail: undefined })]
    expect(() => write({ messages })).toThrow(
      expect.objectContaining({ code: 'invalid_request', param: 'messages' }),
    )
    expect(
      write({ messages }, { ...SONNET_4_5, options: { quirks: 'bucket-files' } }).body.messages,
    ).toMatchObject([
      { content: [{ image: { format: 'png', source: { s3Location: { uri: 's3://bucket/cat.png' } } } }] },
    ])
  })
})

describe('a request', () => {
  const url = (address: string): Part => ({
    type: 'image',
    source: { kind: 'url', url: address, mediaType: 'image/png' },
    detail: undefined,
  })

  it.each<readonly [param: string, over: Partial<ChatRequest>]>([
    ['n', { choices: 2 }],
    ['messages', { messages: [user(url('https://example.com/cat.png'))] }],
    ['messages', { messages: [user({ type: 'audio', base64: 'UklG', format: 'wav' })] }],
    [
      'messages',
      {
        messages: [
          user({
            type: 'image',
            source: { kind: 'base64', mediaType: 'image/tiff', base64: 'SUkq' },
            detail: undefined,
          }),
        ],
      },
    ],
    [
      'messages',
      {
        messages: [
          user({
            type: 'file',
            source: { kind: 'base64', mediaType: 'video/mp4', base64: 'AAAA' },
            name: undefined,
          }),
        ],
      },
    ],
    [
      'messages',
      { messages: [user({ type: 'file', source: { kind: 'file', id: 'file-abc' }, name: undefined })] },
    ],
    ['modalities', { extra: { modalities: ['audio'] } }],
  ])('that cannot be carried is refused, naming %s', (param, over) => {
    expect(() => write(over)).toThrow(expect.objectContaining({ code: 'invalid_request', param }))
  })

  it('with stop sequences is refused where the model takes none', () => {
    expect(() => write({ stop: ['END'] }, GPT)).toThrow(expect.objectContaining({ param: 'stop' }))
  })

  it('leaves out how to sample where that is refused', () => {
    const written = write({ temperature: 0.5, topP: 0.9, topK: 3 }, OPUS_4_7)
    expect(written.body).not.toHaveProperty('inferenceConfig')
    expect([...written.dropped].sort()).toEqual(['temperature', 'top_k', 'top_p'])
    expect(write({ topK: 3 }).body.additionalModelRequestFields).toEqual({ top_k: 3 })
    expect(write({ temperature: 0.5, topP: 0.9 }).body.inferenceConfig).toEqual({ temperature: 0.5 })
  })
})

it('a path names the model, and leads nowhere else', () => {
  const path = (model: string, stream = false): string =>
    bedrock.provider.path('chat', { ...asked(model), stream })
  expect(path('us.anthropic.claude-opus-4-5-20251101-v1:0')).toBe(
    '/model/us.anthropic.claude-opus-4-5-20251101-v1%3A0/converse',
  )
  expect(path('arn:aws:bedrock:us-east-1:1:application-inference-profile/a1', true)).toBe(
    '/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fa1/converse-stream',
  )
  expect(path('../x?y#')).toBe('/model/..%2Fx%3Fy%23/converse')
  expect(path('..')).toBe('/model/%2E%2E/converse')
})

it('a message that cannot be read is no answer at all', () => {
  const bytes = toStreamEvent('contentBlockDelta', { contentBlockIndex: 0, delta: { text: 'tor' } })
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
  const [frame] = splitter().push(bytes)
  if (frame === undefined) throw new Error('nothing was read')
  expect(bedrock.provider.watch().look(frame.data ?? '').malformed).toBe(true)
  expect(() => chat.events(write({})).read(frame)).toThrow()
})
