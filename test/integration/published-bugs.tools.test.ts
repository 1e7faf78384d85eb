// Bugs that other gateways were reported to have with the calls of tools (test/support/published-bugs.ts), played by a
// provider as the reports tell them, over real sockets: none of them happens here.

import { describe, expect, it } from 'vitest'
import { requestFaults } from '../support/messages-checker.ts'
import {
  type Answered,
  APIS,
  type Api,
  ASKED,
  candidates,
  chat,
  chunk,
  chunks,
  converse,
  events,
  type Kind,
  message,
  messages,
  type Peers,
  usePeers,
} from '../support/peers.ts'
import { answer, type Behaviour, isRecord, toolCall } from '../support/scripted-provider.ts'

const peers = usePeers({ gemini: 31, claude: 20, bedrock: 25, chat: 29, responses: 14, every: 2 })

const TOOLS = ['get_weather', 'get_time'] as const
const STREAMS = ASKED.filter(({ stream }) => stream)

async function ask(api: Api, kind: Kind, behaviour: Behaviour, streamed = true): Promise<Answered> {
  peers.provider.script(behaviour)
  const model = peers.take(kind)
  const answered = await peers.post(api.path, api.ask(model, { stream: streamed, tools: TOOLS }))
  expect(answered.headers.get('x-sluice-attempts')).toMatch(/^[^,]*=200$/)
  return answered
}

const CALLED = { chat: 'tool_calls', messages: 'tool_use', responses: 'completed' } as const

const PARIS = '{"city":"Paris"}'
const ROME = '{"city":"Rome"}'
const block = (index: number, content_block: object) => ({
  type: 'content_block_start',
  index,
  content_block,
})
const json = (index: number, partial_json: string) => ({
  type: 'content_block_delta',
  index,
  delta: { type: 'input_json_delta', partial_json },
})
const stop = (index: number) => ({ type: 'content_block_stop', index })
const use = (id: string, name: string) => ({ type: 'tool_use', id, name, input: {} })

/** Two calls at once, as a provider of each format sends them. */
const PARALLEL: readonly (readonly [what: string, kind: Kind, behaviour: Behaviour])[] = [
  [
    'of Gemini in chunks of their own (bug 15)',
    'gemini',
    candidates(
      [{ functionCall: { name: 'get_weather', args: { city: 'Paris' } } }],
      [{ functionCall: { name: 'get_time', args: { city: 'Rome' } } }],
    ),
  ],
  [
    'of Gemini in one chunk (bug 15)',
    'gemini',
    candidates([
      { functionCall: { name: 'get_weather', args: { city: 'Paris' } } },
      { functionCall: { name: 'get_time', args: { city: 'Rome' } } },
    ]),
  ],
  [
    'of Anthropic behind a text (bug 16)',
    'claude',
    message(
      'tool_use',
      block(0, { type: 'text', text: '' }),
      { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Both.' } },
      stop(0),
      block(1, use('toolu_a', 'get_weather')),
      json(1, '{"city":'),
      json(1, '"Paris"}'),
      stop(1),
      block(2, use('toolu_b', 'get_time')),
      json(2, ROME),
      stop(2),
    ),
  ],
  [
    'of Converse one behind the other (bug 18)',
    'bedrock',
    converse(
      'tool_use',
      [
        'contentBlockStart',
        { contentBlockIndex: 0, start: { toolUse: { toolUseId: 'a', name: 'get_weather' } } },
      ],
      ['contentBlockDelta', { contentBlockIndex: 0, delta: { toolUse: { input: '{"city":' } } }],
      ['contentBlockDelta', { contentBlockIndex: 0, delta: { toolUse: { input: '"Paris"}' } } }],
      ['contentBlockStop', { contentBlockIndex: 0 }],
      [
        'contentBlockStart',
        { contentBlockIndex: 1, start: { toolUse: { toolUseId: 'b', name: 'get_time' } } },
      ],
      ['contentBlockDelta', { contentBlockIndex: 1, delta: { toolUse: { input: ROME } } }],
      ['contentBlockStop', { contentBlockIndex: 1 }],
    ),
  ],
  [
    'of a server of chat whose names come once and whose arguments are mixed (bug 19)',
    'chat',
    chunks(
      chunk({
        role: 'assistant',
        content: null,
        tool_calls: [
          { index: 0, id: 'a', type: 'function', function: { name: 'get_weather', arguments: '' } },
        ],
      }),
      chunk({
        tool_calls: [{ index: 1, id: 'b', type: 'function', function: { name: 'get_time', arguments: '' } }],
      }),
      chunk({ tool_calls: [{ index: 0, function: { arguments: '{"city":' } }] }),
      chunk({ tool_calls: [{ index: 1, function: { arguments: '{"city":"Ro' } }] }),
      chunk({ tool_calls: [{ index: 0, function: { arguments: '"Paris"}' } }] }),
      chunk({ tool_calls: [{ index: 1, function: { arguments: 'me"}' } }] }),
      chunk({}, 'tool_calls'),
    ),
  ],
  [
    'of a server of chat whole in one chunk (bug 20)',
    'chat',
    chunks(
      chunk({
        role: 'assistant',
        tool_calls: [
          { index: 0, id: 'a', type: 'function', function: { name: 'get_weather', arguments: PARIS } },
          { index: 1, id: 'b', type: 'function', function: { name: 'get_time', arguments: ROME } },
        ],
      }),
      chunk({}, 'tool_calls'),
    ),
  ],
  [
    'of a server of chat that all have the number 0 (bug 24)',
    'chat',
    chunks(
      chunk({
        role: 'assistant',
        tool_calls: [
          { index: 0, id: 'a', type: 'function', function: { name: 'get_weather', arguments: PARIS } },
        ],
      }),
      chunk({
        tool_calls: [
          { index: 0, id: 'b', type: 'function', function: { name: 'get_time', arguments: ROME } },
        ],
      }),
      chunk({}, 'tool_calls'),
    ),
  ],
]

describe('parallel calls', () => {
  for (const [what, kind, behaviour] of PARALLEL)
    it.each(STREAMS)(`keep all that is theirs for a caller of $name: ${what}`, async ({ api }) => {
      const { calls, finish } = api.hear(await ask(api, kind, behaviour))
      expect(calls.map(({ name, args }) => [name, args])).toEqual([
        ['get_weather', PARIS],
        ['get_time', ROME],
      ])
      expect(new Set(calls.map(({ id }) => id)).size).toBe(2)
      expect(finish).toBe(CALLED[api.name])
    })
})

describe('a call', () => {
  it.each(ASKED)(
    'that has no name is none, and there is one choice, for a caller of $name, stream: $stream (bug 17)',
    async ({ api, stream }) => {
      const empty: readonly (readonly [Kind, Behaviour])[] = stream
        ? [
            ['gemini', candidates([{ text: 'Sunny.' }, { functionCall: {} }], [{ text: '' }])],
            ['claude', answer({ text: 'Sunny.' })],
            ['bedrock', answer({ text: 'Sunny.' })],
            ['responses', answer({ text: 'Sunny.' })],
          ]
        : (['gemini', 'claude', 'bedrock', 'responses'] as const).map((kind) => [
            kind,
            answer({ text: 'Sunny.' }),
          ])
      for (const [kind, behaviour] of empty) {
        const heard = api.hear(await ask(api, kind, behaviour, stream))
        expect(heard).toMatchObject({ text: 'Sunny.', calls: [] })
        expect(heard.finish).toBe({ chat: 'stop', messages: 'end_turn', responses: 'completed' }[api.name])
      }
    },
  )

  it.each([true, false])(
    'of Anthropic reaches a caller of Messages as it was told, stream: %s (bug 21)',
    async (stream) => {
      const whole = toolCall('get_weather', { city: 'Paris' }, { text: 'I look.' })
      for (const kind of ['claude', 'every'] as const) {
        const { text, calls, finish } = messages.hear(await ask(messages, kind, whole, stream))
        expect({ text, finish }).toEqual({ text: 'I look.', finish: 'tool_use' })
        expect(calls).toMatchObject([{ name: 'get_weather', args: PARIS }])
        expect(peers.provider.requests.at(-1)?.path).toBe('/v1/messages')
      }
    },
  )

  it.each(STREAMS)(
    'that comes in one chunk with a text is there with it, for a caller of $name (bug 22)',
    async ({ api }) => {
      const both = chunk({
        role: 'assistant',
        content: 'I look.',
        tool_calls: [
          { index: 0, id: 'a', type: 'function', function: { name: 'get_weather', arguments: PARIS } },
        ],
      })
      for (const behaviour of [
        chunks(both, chunk({}, 'tool_calls')),
        chunks({ ...both, choices: [{ ...first(both), finish_reason: 'tool_calls' }] }),
      ]) {
        const heard = api.hear(await ask(api, 'chat', behaviour))
        expect(heard).toMatchObject({ text: 'I look.', calls: [{ name: 'get_weather', args: PARIS }] })
      }
    },
  )

  it.each(STREAMS)(
    'whose arguments come whole, late or split keeps them, for a caller of $name (bug 23)',
    async ({ api }) => {
      const begun = (args: unknown) => ({
        role: 'assistant',
        tool_calls: [
          { index: 0, id: 'a', type: 'function', function: { name: 'get_weather', arguments: args } },
        ],
      })
      const item = { type: 'function_call', id: 'fc_1', call_id: 'a', name: 'get_weather', arguments: '' }
      const done = { ...item, arguments: PARIS, status: 'completed' }
      const response = { id: 'resp_1', object: 'response', created_at: 1, model: 'm', output: [] }
      const given: readonly (readonly [Kind, Behaviour])[] = [
        ['chat', chunks(chunk(begun(PARIS)), chunk({}, 'tool_calls'))],
        [
          'chat',
          chunks(
            chunk(begun('')),
            chunk({ tool_calls: [{ index: 0, function: { arguments: PARIS } }] }),
            chunk({}, 'tool_calls'),
          ),
        ],
        ['claude', message('tool_use', block(0, use('toolu_a', 'get_weather')), json(0, PARIS), stop(0))],
        ['gemini', candidates([{ functionCall: { name: 'get_weather', args: { city: 'Paris' } } }])],
        // Nothing but the end of the item tells what is asked.
        [
          'responses',
          events(
            { type: 'response.created', sequence_number: 0, response },
            { type: 'response.output_item.added', sequence_number: 1, output_index: 0, item },
            {
              type: 'response.function_call_arguments.done',
              sequence_number: 2,
              output_index: 0,
              item_id: 'fc_1',
              name: 'get_weather',
              arguments: PARIS,
            },
            { type: 'response.output_item.done', sequence_number: 3, output_index: 0, item: done },
            {
              type: 'response.completed',
              sequence_number: 4,
              response: { ...response, status: 'completed', output: [done] },
            },
          ),
        ],
      ]
      for (const [kind, behaviour] of given) {
        // Its own bytes.
        if (kind === api.name) continue
        const { calls } = api.hear(await ask(api, kind, behaviour))
        expect([kind, calls.map(({ args }) => args)]).toEqual([kind, [PARIS]])
      }
    },
  )

  it.each(ASKED)(
    'ends a turn as a call, whatever reason was given, for a caller of $name, stream: $stream (bug 25)',
    async ({ api, stream }) => {
      for (const kind of ['chat', 'gemini'] as const) {
        const behaviour = toolCall('get_weather', { city: 'Paris' }, { finishReason: 'stop' })
        const { finish, calls } = api.hear(await ask(api, kind, behaviour, stream))
        expect([kind, calls.length, finish]).toEqual([kind, 1, CALLED[api.name]])
      }
    },
  )
})

function first({ choices }: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const [choice] = Array.isArray(choices) ? choices : []
  return isRecord(choice) ? choice : {}
}

// --- on the way to a provider ------------------------------------------------------------------------------------

const CALLS = (...ids: readonly string[]) => ({
  role: 'assistant',
  content: null,
  tool_calls: ids.map((id) => ({
    id,
    type: 'function',
    function: { name: 'get_weather', arguments: PARIS },
  })),
})
const RESULT = (id: string, text: string) => ({ role: 'tool', tool_call_id: id, content: text })
const USER = { role: 'user', content: 'Hello.' }
const tools = [
  {
    type: 'function',
    function: { name: 'get_weather', description: 'd', parameters: { type: 'object', properties: {} } },
  },
]

/** What a provider was sent for a conversation of chat. */
async function sent(kind: Kind, over: Readonly<Record<string, unknown>>, path = chat.path) {
  peers.provider.script(answer({ text: 'Good.' }))
  const { status, text } = await peers.post(path, { model: peers.take(kind, 'alone'), ...over })
  expect([status, status === 200 ? '' : text]).toEqual([200, ''])
  const body = peers.sent()
  if (kind === 'claude') expect(requestFaults(body)).toEqual([])
  return body
}

/** The results of a conversation by the turn that they stand in: ids, in the words of each format. */
function resultsOf(kind: Kind, body: ReturnType<Peers['sent']>): unknown[][] {
  const turns: unknown[] = kind === 'gemini' ? body.contents : body.messages
  return turns.flatMap((turn) => {
    if (!isRecord(turn)) return []
    const parts: unknown[] = Array.isArray(turn.parts)
      ? turn.parts
      : Array.isArray(turn.content)
        ? turn.content
        : []
    const ids = parts.flatMap((part) => {
      if (!isRecord(part)) return []
      if (part.type === 'tool_result') return [part.tool_use_id]
      if (isRecord(part.toolResult)) return [part.toolResult.toolUseId]
      return isRecord(part.functionResponse) ? [part.functionResponse.id] : []
    })
    return ids.length > 0 ? [ids] : []
  })
}

const TRANSLATED = ['claude', 'gemini', 'bedrock'] as const

describe('results', () => {
  it.each(TRANSLATED)('of one call are one, towards %s (bug 26)', async (kind) => {
    const conversation = [USER, CALLS('a'), RESULT('a', 'first'), RESULT('a', 'second'), USER]
    const body = await sent(kind, { messages: conversation, tools })
    expect(resultsOf(kind, body)).toEqual([['a']])
    expect(JSON.stringify(body)).toContain('second')
  })

  it.each(TRANSLATED)(
    'and calls between other parts of a message are there in their place, towards %s (bug 27)',
    async (kind) => {
      const conversation = [
        USER,
        {
          ...CALLS('a', 'b'),
          content: [
            { type: 'text', text: 'One.' },
            { type: 'text', text: 'Two.' },
          ],
        },
        RESULT('b', 'of b'),
        { ...RESULT('a', ''), content: [{ type: 'text', text: 'of a' }] },
        USER,
      ]
      const body = await sent(kind, { messages: conversation, tools })
      expect(resultsOf(kind, body).map((ids) => ids.sort())).toEqual([['a', 'b']])
      for (const words of ['One.', 'Two.', 'of a', 'of b']) expect(JSON.stringify(body)).toContain(words)
    },
  )

  it.each(['chat', 'gemini', 'bedrock'] as const)(
    'of Messages among texts are there in their place, towards %s (bug 27)',
    async (kind) => {
      const conversation = [
        { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
        {
          role: 'assistant',
          content: [
            { type: 'text', text: 'One.' },
            { type: 'tool_use', id: 'a', name: 'get_weather', input: { city: 'Paris' } },
            { type: 'text', text: 'Two.' },
            { type: 'tool_use', id: 'b', name: 'get_weather', input: { city: 'Rome' } },
          ],
        },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Before.' },
            { type: 'tool_result', tool_use_id: 'a', content: [{ type: 'text', text: 'of a' }] },
            { type: 'text', text: 'Between.' },
            { type: 'tool_result', tool_use_id: 'b', content: 'of b' },
          ],
        },
      ]
      const body = await sent(
        kind,
        {
          max_tokens: 9,
          messages: conversation,
          tools: [{ name: 'get_weather', input_schema: { type: 'object' } }],
        },
        messages.path,
      )
      const text = JSON.stringify(body)
      for (const words of ['One.', 'Two.', 'Before.', 'Between.', 'of a', 'of b'])
        expect(text).toContain(words)
      if (kind !== 'chat') return expect(resultsOf(kind, body)).toEqual([['a', 'b']])
      expect(body.messages.map(({ role, tool_call_id: id }: Record<string, unknown>) => id ?? role)).toEqual([
        'user',
        'assistant',
        'a',
        'b',
        'user',
      ])
      expect(body.messages[1].tool_calls.map(({ id }: { id: string }) => id)).toEqual(['a', 'b'])
    },
  )

  it.each(TRANSLATED)('of one turn are in one message, towards %s (bug 28)', async (kind) => {
    const conversation = [USER, CALLS('a', 'b', 'c'), RESULT('a', '1'), RESULT('b', '2'), RESULT('c', '3')]
    expect(resultsOf(kind, await sent(kind, { messages: conversation, tools }))).toEqual([['a', 'b', 'c']])
  })

  it('of one turn that a caller of Messages sends apart are in one message, towards Bedrock (bug 28)', async () => {
    const uses = ['a', 'b'].map((id) => ({ type: 'tool_use', id, name: 'get_weather', input: {} }))
    const results = ['a', 'b'].map((id) => ({
      role: 'user',
      content: [{ type: 'tool_result', tool_use_id: id, content: id }],
    }))
    const conversation = [USER, { role: 'assistant', content: uses }, ...results]
    const asked = {
      max_tokens: 9,
      messages: conversation,
      tools: [{ name: 'get_weather', input_schema: { type: 'object' } }],
    }
    expect(resultsOf('bedrock', await sent('bedrock', asked, messages.path))).toEqual([['a', 'b']])
  })
})

describe('a choice of tools', () => {
  it.each([...TRANSLATED, 'responses'] as const)(
    'is not sent where there are none, towards %s (bug 29)',
    async (kind) => {
      for (const tool_choice of ['auto', 'required', 'none']) {
        const body = await sent(kind, { messages: [USER], tool_choice, parallel_tool_calls: true })
        expect(JSON.stringify(body)).not.toMatch(/tool_?choice|tool_?config|parallel/i)
      }
    },
  )

  it.each(['chat', 'gemini', 'bedrock', 'responses'] as const)(
    'of Messages is not sent where there are none, towards %s (bug 29)',
    async (kind) => {
      for (const type of ['auto', 'any', 'none']) {
        const asked = { max_tokens: 9, messages: [USER], tool_choice: { type } }
        expect(JSON.stringify(await sent(kind, asked, messages.path))).not.toMatch(
          /tool_?choice|tool_?config/i,
        )
      }
    },
  )
})

describe('a tool for Bedrock', () => {
  it.each(APIS)(
    'has a name and a description, also where a caller of $name gives none (bug 30)',
    async (api) => {
      const offered = {
        chat: { tools: [{ type: 'function', function: { name: 'now' } }] },
        messages: { tools: [{ name: 'now', description: '', input_schema: { type: 'object' } }] },
        responses: {
          tools: [{ type: 'function', name: 'now', description: ' ', parameters: null, strict: null }],
        },
      }[api.name]
      const { model: _, ...asked } = api.ask('')
      const body = await sent('bedrock', { ...asked, ...offered }, api.path)
      expect(body.toolConfig.tools).toMatchObject([
        { toolSpec: { name: 'now', description: expect.stringMatching(/\S/) } },
      ])
    },
  )

  it('has a name of 64 characters at most, and its caller hears his own (bug 31)', async () => {
    const name = `mcp__a_server_with_a_long_name__${'long_'.repeat(10)}tool`
    peers.provider.script((request) => {
      const { toolConfig } = JSON.parse(request.body.toString())
      return toolCall(toolConfig.tools[0].toolSpec.name, { city: 'Paris' })
    })
    for (const streamed of [true, false]) {
      const asked = chat.ask(peers.take('bedrock', 'alone'), { stream: streamed, tools: [name] })
      const { calls } = chat.hear(await peers.post(chat.path, asked))
      expect(calls).toMatchObject([{ name, args: PARIS }])
      expect(peers.sent().toolConfig.tools[0].toolSpec.name).toMatch(/^[a-zA-Z0-9_-]{1,64}$/)
    }
  })
})
