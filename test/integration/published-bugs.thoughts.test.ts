// Bugs that other gateways were reported to have with reasoning, and with the streams of Messages and Responses
// (test/support/published-bugs.ts), played over real sockets as the reports tell them: none of them happens here.

import { describe, expect, it } from 'vitest'
import { readStream } from '../support/messages-checker.ts'
import {
  type Answered,
  APIS,
  type Api,
  ASKED,
  candidates,
  chat,
  chunk,
  chunks,
  events,
  type Kind,
  message,
  messages,
  type Peers,
  responses,
  usePeers,
} from '../support/peers.ts'
import { answer, type Behaviour, isRecord } from '../support/scripted-provider.ts'

const peers = usePeers({ gemini: 21, claude: 9, bedrock: 6, chat: 21, responses: 5 })

type Members = Readonly<Record<string, unknown>>
const TOOLS = ['get_weather'] as const

/** A question, its answer, and the question again with the answer and the result of its calls behind it, as agents do it. */
async function goOn(
  api: Api,
  kind: Kind,
  { behaviour, stream, over = {} }: { behaviour: Behaviour; stream: boolean; over?: Members },
): Promise<{ answered: Answered; sent: ReturnType<Peers['sent']> }> {
  const model = peers.take(kind, 'alone')
  const asked: Members = { ...api.ask(model, { stream, tools: TOOLS }), ...over }
  peers.provider.script([behaviour, answer({ text: 'Sunny.' })])
  const answered = await peers.post(api.path, asked)
  expect(answered.status).toBe(200)
  const again = await peers.post(api.path, { ...asked, ...withAnswer(api, asked, answered) })
  expect([again.status, again.status === 200 ? '' : again.text]).toEqual([200, ''])
  return { answered, sent: peers.sent() }
}

/** The members of a request that goes on with a conversation, made of nothing but what its caller was told. */
function withAnswer(api: Api, asked: Members, answered: Answered): Members {
  const { calls } = api.hear(answered)
  const isStream = answered.headers.get('content-type')?.startsWith('text/event-stream') === true
  const before = Array.isArray(asked.messages) ? asked.messages : []
  if (api === chat) {
    const told = isStream ? addUp(answered.text) : JSON.parse(answered.text).choices[0].message
    const results = calls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: 'sun' }))
    return { messages: [...before, told, ...results, { role: 'user', content: 'And?' }] }
  }
  if (api === messages) {
    const told = isStream ? readStream(answered.text).message : JSON.parse(answered.text)
    const results = calls.map(({ id }) => ({ type: 'tool_result', tool_use_id: id, content: 'sun' }))
    const next = [...results, { type: 'text', text: 'And?' }]
    return {
      messages: [...before, { role: 'assistant', content: told.content }, { role: 'user', content: next }],
    }
  }
  const told: unknown[] = isStream
    ? JSON.parse(answered.text.trimEnd().split('\ndata: ').at(-1) ?? '').response.output
    : JSON.parse(answered.text).output
  const results = calls.map(({ id }) => ({ type: 'function_call_output', call_id: id, output: 'sun' }))
  const question = { type: 'message', role: 'user', content: 'Hello.' }
  return { input: [question, ...told, ...results, { ...question, content: 'And?' }] }
}

/** The message of a stream of chat: every member of its deltas added up, as agents that keep what they do not know do. */
function addUp(sse: string): Members {
  const told: Record<string, unknown> = {}
  const calls: Record<string, unknown>[] = []
  for (const line of sse.split('\n')) {
    if (!line.startsWith('data: {')) continue
    for (const { delta } of JSON.parse(line.slice(6)).choices) {
      for (const [name, value] of Object.entries<unknown>(delta)) {
        const known = told[name]
        if (name === 'tool_calls' && Array.isArray(value)) {
          for (const { index, ...more } of value) {
            const call = (calls[index] ??= { ...more, function: { name: more.function.name, arguments: '' } })
            const inner = call.function
            if (isRecord(inner)) inner.arguments = `${inner.arguments}${more.function?.arguments ?? ''}`
          }
          told[name] = calls
        } else if (Array.isArray(value)) told[name] = [...(Array.isArray(known) ? known : []), ...value]
        else told[name] = typeof known === 'string' && name !== 'role' ? known + String(value) : value
      }
    }
  }
  return told
}

// --- signatures of Gemini ----------------------------------------------------------------------------------------

const CALL = { functionCall: { name: 'get_weather', args: { city: 'Paris' } } }
const SIGNATURE = 'CsYBAdHtim9zaWduYXR1cmU='

/** Where a signature may stand, and the parts of the model's turn that go back. */
const SIGNED: readonly (readonly [
  what: string,
  parts: readonly (readonly Members[])[],
  back: readonly Members[],
])[] = [
  [
    'of a call',
    [[{ ...CALL, thoughtSignature: SIGNATURE }]],
    [{ functionCall: expect.objectContaining(CALL.functionCall), thoughtSignature: SIGNATURE }],
  ],
  [
    'of the first of two calls, behind a thought',
    [[{ text: 'Hm.', thought: true }], [{ ...CALL, thoughtSignature: SIGNATURE }], [CALL]],
    [
      { functionCall: expect.objectContaining(CALL.functionCall), thoughtSignature: SIGNATURE },
      { functionCall: expect.objectContaining(CALL.functionCall) },
    ],
  ],
  [
    'of a text',
    [[{ text: 'I see.' }], [{ text: '', thoughtSignature: SIGNATURE }]],
    [{ text: 'I see.', thoughtSignature: SIGNATURE }],
  ],
]

describe.each(SIGNED)('a signature of Gemini %s', (_, parts, back) => {
  it.each(ASKED)(
    'goes back to where it was, by way of a caller of $name, stream: $stream (bug 32)',
    async ({ api, stream }) => {
      const whole: Behaviour = answer({
        extra: {
          candidates: [{ index: 0, content: { role: 'model', parts: parts.flat() }, finishReason: 'STOP' }],
        },
      })
      const behaviour = stream ? candidates(...parts) : whole
      const { sent } = await goOn(api, 'gemini', { behaviour, stream })
      const turn = sent.contents.find(({ role }: Members) => role === 'model')
      expect(turn.parts.filter(({ thought }: Members) => thought !== true)).toEqual(back)
    },
  )
})

// --- thoughts of Anthropic ---------------------------------------------------------------------------------------

const THOUGHTS = [
  { type: 'thinking', thinking: '  First,\n\n', signature: 'c2lnMQ==' },
  { type: 'redacted_thinking', data: 'cmVkYWN0ZWQ=' },
  { type: 'thinking', thinking: '', signature: 'c2lnMg==' },
]
const USE = { type: 'tool_use', id: 'toolu_1', name: 'get_weather', input: { city: 'Paris' } }

function thinking(stream: boolean): Behaviour {
  const content = [...THOUGHTS, USE]
  if (!stream) return answer({ extra: { content, stop_reason: 'tool_use' } })
  return message(
    'tool_use',
    ...content.flatMap((block, index) => {
      const delta = (one: Members) => ({ type: 'content_block_delta', index, delta: one })
      const begun =
        'thinking' in block
          ? [{ ...block, thinking: '', signature: '' }]
          : 'input' in block
            ? [{ ...block, input: {} }]
            : [block]
      return [
        ...begun.map((content_block) => ({ type: 'content_block_start', index, content_block })),
        ...('thinking' in block && block.thinking !== ''
          ? [delta({ type: 'thinking_delta', thinking: block.thinking })]
          : []),
        ...('signature' in block ? [delta({ type: 'signature_delta', signature: block.signature })] : []),
        ...('input' in block
          ? [delta({ type: 'input_json_delta', partial_json: JSON.stringify(block.input) })]
          : []),
        { type: 'content_block_stop', index },
      ]
    }),
  )
}

describe('thoughts of Claude', () => {
  const OVER: Readonly<Record<Api['name'], Members>> = {
    chat: { reasoning_effort: 'high', max_tokens: 30_000 },
    messages: { thinking: { type: 'enabled', budget_tokens: 2000 }, max_tokens: 30_000 },
    responses: { reasoning: { effort: 'high' }, include: ['reasoning.encrypted_content'], store: false },
  }

  it.each(ASKED)(
    'go back as they were, each by itself and before the call, by way of a caller of $name, stream: $stream (bug 33, bug 34, bug 35, bug 36)',
    async ({ api, stream }) => {
      const { sent } = await goOn(api, 'claude', {
        behaviour: thinking(stream),
        stream,
        over: OVER[api.name],
      })
      expect(sent.messages[1].content).toEqual([...THOUGHTS, USE])
      expect(sent.thinking).toMatchObject({ type: 'enabled' })
    },
  )

  it('that are lost are not asked for in the middle of a loop of tools (bug 33)', async () => {
    for (const kind of ['claude', 'bedrock'] as const) {
      peers.provider.script(answer({ text: 'Sunny.' }))
      const call = { id: 'a', type: 'function', function: { name: 'get_weather', arguments: '{}' } }
      const loop = [
        { role: 'user', content: 'Hello.' },
        { role: 'assistant', content: null, tool_calls: [call] },
        { role: 'tool', tool_call_id: 'a', content: 'sun' },
      ]
      const { model, tools } = chat.ask(peers.take(kind, 'alone'), { tools: TOOLS })
      const { status } = await peers.post(chat.path, { model, tools, messages: loop, ...OVER.chat })
      expect(status).toBe(200)
      expect(JSON.stringify(peers.sent())).not.toContain('"thinking"')
    }
  })
})

// --- reasoning of servers that speak chat ------------------------------------------------------------------------

describe('reasoning', () => {
  it.each([messages, responses])(
    'in the history of a caller of $name reaches a provider that speaks chat (bug 37)',
    async (api) => {
      peers.provider.script(answer({ text: 'Sunny.' }))
      const over: Members =
        api === messages
          ? {
              messages: [
                { role: 'user', content: 'Hello.' },
                {
                  role: 'assistant',
                  content: [
                    { type: 'thinking', thinking: 'They greet.', signature: 'c2ln' },
                    { type: 'text', text: 'Hi.' },
                  ],
                },
                { role: 'user', content: 'And?' },
              ],
            }
          : {
              input: [
                { type: 'message', role: 'user', content: 'Hello.' },
                { type: 'reasoning', id: 'rs_1', summary: [{ type: 'summary_text', text: 'They greet.' }] },
                { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'Hi.' }] },
                { type: 'message', role: 'user', content: 'And?' },
              ],
            }
      await peers.post(api.path, { ...api.ask(peers.take('chat', 'alone')), ...over })
      expect(peers.sent().messages).toMatchObject([
        { role: 'user' },
        { role: 'assistant', content: 'Hi.', reasoning_content: 'They greet.' },
        { role: 'user' },
      ])
    },
  )

  it.each(ASKED)(
    'of DeepSeek goes back to it with the calls that it led to, by way of a caller of $name, stream: $stream (bug 38)',
    async ({ api, stream }) => {
      const called = { name: 'get_weather', args: { city: 'Paris' } }
      const behaviour = answer({ reasoning: ['They want ', 'the weather.'], toolCalls: [called] })
      const { sent } = await goOn(api, 'chat', { behaviour, stream })
      expect(sent.messages).toContainEqual(
        expect.objectContaining({
          role: 'assistant',
          reasoning_content: 'They want the weather.',
          tool_calls: [expect.objectContaining({ id: 'call_scripted_0' })],
        }),
      )
    },
  )

  it.each(ASKED)(
    'that vLLM names `reasoning` is heard by a caller of $name, stream: $stream (bug 39)',
    async ({ api, stream }) => {
      const whole = { role: 'assistant', reasoning: 'They greet.', content: 'Hi.' }
      peers.provider.script(
        stream
          ? chunks(
              chunk({ role: 'assistant', content: '' }),
              chunk({ reasoning: 'They ' }),
              chunk({ reasoning: 'greet.' }),
              chunk({ content: 'Hi.' }),
              chunk({}, 'stop'),
            )
          : answer({ extra: { choices: [{ index: 0, message: whole, finish_reason: 'stop' }] } }),
      )
      const answered = await peers.post(api.path, api.ask(peers.take('chat', 'alone'), { stream }))
      expect(api.hear(answered)).toMatchObject({ thought: 'They greet.', text: 'Hi.' })
    },
  )
})

// --- streams of Messages -----------------------------------------------------------------------------------------

/** A message that the events of the provider add up to, as a strict reader of Messages hears it. */
async function hear(kind: Kind, behaviour: Behaviour): Promise<unknown> {
  peers.provider.script(behaviour)
  const asked = messages.ask(peers.take(kind, 'alone'), { stream: true, tools: TOOLS })
  const { faults, message: heard } = readStream((await peers.post(messages.path, asked)).text)
  expect(faults).toEqual([])
  return heard.content
}

const begun = (index: number, args: string) => ({
  tool_calls: [
    { index, id: `call_${index}`, type: 'function', function: { name: 'get_weather', arguments: args } },
  ],
})
const PARIS = { type: 'tool_use', input: { city: 'Paris' } }
const ARGS = '{"city":"Paris"}'

describe('a stream of Messages', () => {
  it('numbers its blocks without gaps, whatever its provider counts (bug 40)', async () => {
    const gaps = chunks(
      chunk({ content: 'One.' }),
      chunk(begun(4, ARGS)),
      chunk(begun(9, ARGS)),
      chunk({}, 'tool_calls'),
    )
    expect(await hear('chat', gaps)).toMatchObject([{ text: 'One.' }, PARIS, PARIS])
  })

  it('counts blocks and not the items of a provider of Responses (bug 41)', async () => {
    const response = { id: 'resp_1', object: 'response', created_at: 1, model: 'm', output: [] }
    const item = (at: number) => ({
      type: 'function_call',
      id: `fc_${at}`,
      call_id: `call_${at}`,
      name: 'get_weather',
      arguments: '',
    })
    const call = (output_index: number) => [
      { type: 'response.output_item.added', output_index, item: item(output_index) },
      {
        type: 'response.function_call_arguments.delta',
        output_index,
        item_id: `fc_${output_index}`,
        delta: ARGS,
      },
      {
        type: 'response.function_call_arguments.done',
        output_index,
        item_id: `fc_${output_index}`,
        arguments: ARGS,
      },
      { type: 'response.output_item.done', output_index, item: { ...item(output_index), arguments: ARGS } },
    ]
    const reasoning = { type: 'reasoning', id: 'rs_1', summary: [] }
    const text = { output_index: 1, item_id: 'msg_1', content_index: 0 }
    const part = { type: 'output_text', text: 'One.', annotations: [] }
    const said = { id: 'msg_1', type: 'message', role: 'assistant', status: 'completed', content: [part] }
    const behaviour = events(
      { type: 'response.created', response },
      // An item that says nothing, and others that are not told of: the numbers go on all the same.
      { type: 'response.output_item.added', output_index: 0, item: reasoning },
      { type: 'response.output_item.done', output_index: 0, item: reasoning },
      { type: 'response.output_item.added', output_index: 1, item: { ...said, content: [] } },
      { type: 'response.content_part.added', ...text, part: { ...part, text: '' } },
      { type: 'response.output_text.delta', ...text, delta: 'One.' },
      { type: 'response.output_text.done', ...text, text: 'One.' },
      { type: 'response.content_part.done', ...text, part },
      { type: 'response.output_item.done', output_index: 1, item: said },
      ...call(3),
      ...call(5),
      { type: 'response.completed', response: { ...response, status: 'completed' } },
    )
    expect(await hear('responses', behaviour)).toMatchObject([{ text: 'One.' }, PARIS, PARIS])
  })

  it('has a block of its own for text behind a call (bug 42)', async () => {
    const late = chunks(
      chunk(begun(0, '{"city":')),
      chunk({ content: 'Now ' }),
      chunk({ tool_calls: [{ index: 0, function: { arguments: '"Paris"}' } }] }),
      chunk({ content: 'done.' }),
      chunk({}, 'tool_calls'),
    )
    expect(await hear('chat', late)).toMatchObject([PARIS, { type: 'text', text: 'Now done.' }])
  })

  it('has blocks of their own for text and the thought behind it (bug 43)', async () => {
    const thought = chunks(
      chunk({ content: 'One.' }),
      chunk({ reasoning_content: 'Hm.' }),
      chunk(begun(0, ARGS)),
      chunk({}, 'tool_calls'),
    )
    expect(await hear('chat', thought)).toMatchObject([{ text: 'One.' }, { thinking: 'Hm.' }, PARIS])
  })

  it('keeps a text whole into which thoughts fall (bug 44)', async () => {
    const fragments = ['One ', 'text, ', 'whole.'].flatMap((content) => [
      chunk({ content }),
      chunk({ reasoning_content: 'Hm. ' }),
    ])
    expect(await hear('chat', chunks(...fragments, chunk({}, 'stop')))).toMatchObject([
      { type: 'text', text: 'One text, whole.' },
      { type: 'thinking', thinking: 'Hm. Hm. Hm. ' },
    ])
  })
})

describe('a conversation of Messages', () => {
  const turns = (mark?: Members): Members[] => [
    { role: 'user', content: [{ type: 'text', text: 'first', cache_control: mark }] },
    { role: 'assistant', content: 'second' },
    { role: 'user', content: 'third' },
    { role: 'system', content: 'in the middle' },
    { role: 'assistant', content: 'fourth' },
    { role: 'user', content: 'fifth' },
  ]

  it.each(['chat', 'responses', 'gemini', 'bedrock'] as const)(
    'has what an operator says in its middle in its middle, towards %s (bug 45)',
    async (kind) => {
      peers.provider.script(answer({ text: 'Good.' }))
      const { model } = messages.ask(peers.take(kind, 'alone'))
      const body = { model, max_tokens: 9, system: 'At the beginning.', messages: turns() }
      expect((await peers.post(messages.path, body)).status).toBe(200)
      const { contents, messages: list, input } = peers.sent()
      const text = JSON.stringify(contents ?? list ?? input)
      const places = ['first', 'second', 'third', 'in the middle', 'fourth', 'fifth'].map((words) =>
        text.indexOf(words),
      )
      expect(places).not.toContain(-1)
      expect(places).toEqual([...places].sort((a, b) => a - b))
    },
  )

  it.each(['chat', 'responses', 'gemini', 'bedrock'] as const)(
    'is the same prompt whatever number its billing line has, towards %s (bug 46)',
    async (kind) => {
      const model = peers.take(kind, 'alone')
      const sent: string[] = []
      for (const hash of ['00000', '7f3a1']) {
        peers.provider.script(answer({ text: 'Good.' }))
        const line = `x-anthropic-billing-header: cc_version=2.1.329; cc_entrypoint=cli; cch=${hash};`
        const system = [line, 'Be brief.'].map((text) => ({ type: 'text', text }))
        const body = { model, max_tokens: 9, system, messages: turns() }
        expect((await peers.post(messages.path, body)).status).toBe(200)
        sent.push(peers.provider.requests.at(-1)?.body.toString() ?? '')
      }
      expect(sent[0]).toBe(sent[1])
      expect(sent[0]).toContain('Be brief.')
      expect(sent[0]).not.toContain('billing')
    },
  )

  it('has its marks of the cache on Bedrock, and a conversation of chat on Claude (bug 47)', async () => {
    const mark = { type: 'ephemeral' }
    peers.provider.script(answer({ text: 'Good.' }))
    await peers.post(messages.path, {
      model: peers.take('bedrock', 'alone'),
      max_tokens: 9,
      system: [{ type: 'text', text: 'Be brief.', cache_control: mark }],
      messages: turns(mark),
      tools: [{ name: 'now', description: 'd', input_schema: { type: 'object' }, cache_control: mark }],
    })
    const point = { cachePoint: expect.objectContaining({ type: 'default' }) }
    expect(peers.sent()).toMatchObject({
      system: [{ text: 'Be brief.' }, point],
      toolConfig: { tools: [{ toolSpec: { name: 'now' } }, point] },
    })
    expect(peers.sent().messages[0].content).toMatchObject([{ text: 'first' }, point])

    await peers.post(chat.path, {
      model: peers.take('claude', 'alone'),
      messages: [
        { role: 'system', content: [{ type: 'text', text: 'Be brief.', cache_control: mark }] },
        { role: 'user', content: [{ type: 'text', text: 'first', cache_control: mark }] },
      ],
      tools: [{ type: 'function', function: { name: 'now' }, cache_control: mark }],
    })
    expect(peers.sent()).toMatchObject({
      system: [{ text: 'Be brief.', cache_control: mark }],
      messages: [{ content: [{ text: 'first', cache_control: mark }] }],
      tools: [{ name: 'now', cache_control: mark }],
    })
  })
})

// --- Responses ---------------------------------------------------------------------------------------------------

describe('a stream of Responses', () => {
  it.each(['chat', 'claude', 'gemini', 'bedrock'] as const)(
    'has each item from its beginning to its end, and all of them in its last event, from %s (bug 48, bug 49)',
    async (kind) => {
      const called = { name: 'get_weather', args: { city: 'Paris' } }
      peers.provider.script(answer({ reasoning: ['Hm.'], text: 'I look.', toolCalls: [called] }))
      const asked = responses.ask(peers.take(kind, 'alone'), { stream: true, tools: TOOLS })
      // The reader holds every event to the sequence, and the output of the last one to what the pieces gave.
      const { text, calls, finish } = responses.hear(await peers.post(responses.path, asked))
      expect({ text, finish }).toEqual({ text: 'I look.', finish: 'completed' })
      expect(calls).toMatchObject([{ name: 'get_weather', args: ARGS }])
    },
  )

  it.each(APIS.filter((api) => api !== responses))(
    'whose last event has no output is heard by a caller of $name all the same (bug 49)',
    async (api) => {
      const response = { id: 'resp_1', object: 'response', created_at: 1, model: 'm', output: [] }
      const part = { type: 'output_text', text: 'One.', annotations: [] }
      const said = { id: 'msg_1', type: 'message', role: 'assistant', status: 'completed', content: [part] }
      const call = {
        type: 'function_call',
        id: 'fc_1',
        call_id: 'a',
        name: 'get_weather',
        arguments: ARGS,
        status: 'completed',
      }
      const usage = { input_tokens: 11, output_tokens: 5, total_tokens: 16 }
      peers.provider.script(
        events(
          { type: 'response.created', response },
          // Nothing but the ends of the items tells what is in them.
          { type: 'response.output_item.done', output_index: 0, item: said },
          { type: 'response.output_item.done', output_index: 1, item: call },
          { type: 'response.completed', response: { ...response, status: 'completed', usage } },
        ),
      )
      const asked = api.ask(peers.take('responses', 'alone'), { stream: true, tools: TOOLS })
      const { text, calls } = api.hear(await peers.post(api.path, asked))
      expect({ text, calls }).toMatchObject({ text: 'One.', calls: [{ name: 'get_weather', args: ARGS }] })
    },
  )
})
