// Bugs that other gateways were reported to have with streams (test/support/published-bugs.ts), played by a provider as the
// reports tell them, over real sockets: none of them happens here. same-path.test.ts has more that break in the middle.

import OpenAI, { APIError } from 'openai'
import { describe, expect, it } from 'vitest'
import { toEvent } from '../support/dialects/dialect.ts'
import { toStreamEvent, toStreamException } from '../support/eventstream.ts'
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
  isKind,
  type Kind,
  message,
  messages,
  responses,
  usePeers,
} from '../support/peers.ts'
import { answer, type Behaviour, stream, toFrame, usageInLastChunk } from '../support/scripted-provider.ts'
import { parseSse } from '../support/sse.ts'

const peers = usePeers({
  responses: 26,
  chat: 35,
  claude: 17,
  gemini: 11,
  bedrock: 11,
  every: 2,
  azure: 3,
})

const ask = (api: Api, model: string, streamed = true): Promise<Answered> =>
  peers.post(api.path, api.ask(model, { stream: streamed }))

/** What the last event of a stream says of an error, in the shape of the API; undefined where it says none. */
function errorOf(api: Api, { text }: Answered): { message: string; type: unknown } | undefined {
  const last = parseSse(text).at(-1)
  const told = JSON.parse(last?.data ?? 'null')
  if (api === chat) return told?.error
  if (last?.event !== 'error') return undefined
  return api === messages ? told.error : { message: told.message, type: told.code }
}

/** The end of an answer in any API. */
const END = /\[DONE\]|message_stop|response\.(?:completed|incomplete)|end_turn|"finish_reason":"/

const CREATED = {
  id: 'resp_1',
  object: 'response',
  created_at: 1,
  model: 'm',
  status: 'in_progress',
  output: [],
}
const BEGUN = [
  { type: 'response.created', sequence_number: 0, response: CREATED },
  { type: 'response.in_progress', sequence_number: 1, response: CREATED },
] as const
const FAILED = {
  type: 'response.failed',
  sequence_number: 2,
  response: { ...CREATED, status: 'failed', error: { code: 'server_error', message: 'It broke.' } },
} as const
const SPOKEN = [
  ...BEGUN,
  {
    type: 'response.output_item.added',
    sequence_number: 2,
    output_index: 0,
    item: { id: 'msg_1', type: 'message', role: 'assistant', status: 'in_progress', content: [] },
  },
  {
    type: 'response.content_part.added',
    sequence_number: 3,
    item_id: 'msg_1',
    output_index: 0,
    content_index: 0,
    part: { type: 'output_text', text: '', annotations: [] },
  },
  {
    type: 'response.output_text.delta',
    sequence_number: 4,
    item_id: 'msg_1',
    output_index: 0,
    content_index: 0,
    delta: 'One ',
    logprobs: [],
  },
] as const
const ERROR_EVENT = {
  type: 'error',
  sequence_number: 2,
  code: 'server_error',
  message: 'It broke.',
  param: null,
} as const

describe('a failure of Responses, or a 429, that is told in a stream', () => {
  it.each(APIS)('is no empty turn for a caller of $name (bug 3)', async (api) => {
    const slow = { error: { message: 'Slow down.', type: 'rate_limit_error', code: 429 } }
    const told: readonly (readonly [Kind, Behaviour, Behaviour])[] = [
      ['responses', events(...BEGUN, FAILED), events(...SPOKEN, { ...FAILED, sequence_number: 5 })],
      ['chat', chunks(chunk({ role: 'assistant' }), slow), chunks(chunk({ content: 'One ' }), slow)],
    ]
    for (const [kind, first, later] of told) {
      peers.provider.script(first)
      const nobody = await ask(api, peers.take(kind, 'alone'))
      expect(nobody.status).toBe(503)
      expect(nobody.text).not.toMatch(END)
      expect(Number(nobody.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
      peers.provider.script(later)
      const broken = await ask(api, peers.take(kind, 'alone'))
      expect(broken.text).toContain('One ')
      expect(broken.text).not.toMatch(END)
      expect(errorOf(api, broken)?.message).toBeTypeOf('string')
    }
  })
})

describe('an error behind the first words', () => {
  it.each(APIS)(
    'ends the answer to a caller of $name although the provider says nothing more (bug 4)',
    async (api) => {
      const error = toFrame({ error: { message: 'It broke.', type: 'server_error', code: 500 } })
      peers.provider.script(stream([toFrame(chunk({ content: 'One ' })), error, { hold: true }]))
      const beganMs = performance.now()
      const answered = await ask(api, peers.take('chat'))
      expect(performance.now() - beganMs).toBeLessThan(10_000)
      expect(errorOf(api, answered)?.message).toBeTypeOf('string')
      expect(answered.text).not.toMatch(END)
    },
  )

  it('is raised by the SDK of OpenAI, which does not wait for an end marker (bug 4)', async () => {
    const error = toFrame({ error: { message: 'It broke.', type: 'server_error', code: 500 } })
    peers.provider.script(stream([toFrame(chunk({ content: 'One ' })), error, { hold: true }]))
    const { gateway } = peers
    const sdk = new OpenAI({
      apiKey: gateway.bearer,
      baseURL: gateway.baseUrl,
      maxRetries: 0,
      timeout: 15_000,
    })
    const answered = await sdk.chat.completions.create({
      model: peers.take('chat'),
      messages: [{ role: 'user', content: 'Hello.' }],
      stream: true,
    })
    let heard = ''
    const read = async (): Promise<void> => {
      for await (const one of answered) heard += one.choices[0]?.delta.content ?? ''
    }
    const thrown = await read().catch((reason: unknown) => reason)
    expect(thrown).toBeInstanceOf(APIError)
    expect(heard).toBe('One ')
  })

  it.each(['chat', 'claude', 'gemini', 'bedrock', 'responses'] as const)(
    'is told to a caller of Responses as its own kind of event, whatever the provider speaks: %s (bug 5)',
    async (kind) => {
      const broken: Readonly<Record<typeof kind, Behaviour>> = {
        chat: chunks(chunk({ content: 'One ' }), { error: { message: 'It broke.' } }),
        claude: events(
          { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
          { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'One ' } },
          { type: 'error', error: { type: 'api_error', message: 'It broke.' } },
        ),
        gemini: stream([
          { frame: { candidates: [{ content: { parts: [{ text: 'One ' }] } }] } },
          { frame: { error: { code: 500, message: 'It broke.', status: 'INTERNAL' } } },
        ]),
        bedrock: stream([
          toStreamEvent('messageStart', { role: 'assistant' }),
          toStreamEvent('contentBlockDelta', { contentBlockIndex: 0, delta: { text: 'One ' } }),
          toStreamException('modelStreamErrorException', { message: 'It broke.' }),
        ]),
        responses: events(...SPOKEN, { ...ERROR_EVENT, sequence_number: 5 }),
      }
      peers.provider.script(broken[kind])
      const answered = await ask(responses, peers.take(kind))
      const list = parseSse(answered.text)
      const last = JSON.parse(list.at(-1)?.data ?? '')
      expect(list.at(-1)?.event).toBe('error')
      expect(last).toMatchObject({ type: 'error', code: 'upstream_incomplete', message: expect.any(String) })
      expect(last).not.toHaveProperty('error')
      expect(last.sequence_number).toBe(list.length - 1)
    },
  )
})

/** What comes of each format before its first word. */
const DEAD: Readonly<Record<string, readonly Buffer[]>> = {
  claude: [
    toEvent('message_start', {
      type: 'message_start',
      message: { id: 'msg_dead', model: 'dead', usage: { input_tokens: 999, output_tokens: 99 } },
    }),
    toEvent('ping', { type: 'ping' }),
  ],
  chat: [
    toFrame(chunk({ role: 'assistant', content: '' }, null, { id: 'dead', model: 'dead' })),
    toFrame({
      id: 'dead',
      choices: [],
      usage: { prompt_tokens: 999, completion_tokens: 99, total_tokens: 1098 },
    }),
  ],
  responses: [
    toEvent('response.created', { ...BEGUN[0], response: { ...CREATED, id: 'dead', model: 'dead' } }),
    toEvent('response.in_progress', { ...BEGUN[1], response: { ...CREATED, id: 'dead', model: 'dead' } }),
  ],
  gemini: [
    toFrame({
      candidates: [{ content: { parts: [{ text: '' }] } }],
      usageMetadata: { promptTokenCount: 999, candidatesTokenCount: 99 },
      responseId: 'dead',
      modelVersion: 'dead',
    }),
  ],
  bedrock: [toStreamEvent('messageStart', { role: 'assistant', dead: 999 })],
}
const OVERLOADED: Readonly<Record<string, Buffer>> = {
  claude: toEvent('error', { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } }),
  chat: toFrame({ error: { message: 'Overloaded', code: 503 } }),
  responses: toEvent('response.failed', FAILED),
  gemini: toFrame({ error: { code: 503, message: 'Overloaded', status: 'UNAVAILABLE' } }),
  bedrock: toStreamException('modelStreamErrorException', { message: 'Overloaded' }),
}

describe('trouble before the first word', () => {
  it.each(ASKED.filter(({ stream }) => stream))(
    'behind response.created is another one’s to answer, for a caller of $name (bug 6)',
    async ({ api }) => {
      for (const kind of ['responses', 'every'] as const) {
        if (kind === 'every' && api !== responses) continue
        for (const told of [FAILED, ERROR_EVENT]) {
          peers.provider.script(events(...BEGUN, told))
          const answered = await ask(api, peers.take(kind))
          expect(api.hear(answered).text).toBe('From the other.')
          expect(answered.headers.get('x-sluice-attempts')).toContain('=in_band, other:')
          expect(answered.text).not.toContain('"resp_1"')
        }
      }
    },
  )

  it.each(APIS)(
    'behind the preamble of Azure is another one’s to answer, for a caller of $name (bug 7)',
    async (api) => {
      const preamble = {
        id: '',
        object: '',
        created: 0,
        model: '',
        choices: [],
        prompt_filter_results: [{ prompt_index: 0, content_filter_results: {} }],
      }
      const late = { ...preamble, choices: [{ index: 0, finish_reason: null, content_filter_offsets: {} }] }
      const error = { error: { message: 'The server had an error.', type: 'server_error', code: '500' } }
      peers.provider.script(chunks(preamble, late, preamble, error))
      const answered = await ask(api, peers.take('azure'))
      expect(api.hear(answered).text).toBe('From the other.')
      expect(answered.text).not.toContain('filter')
    },
  )

  it.each(APIS)('is asked for again when nothing had come, for a caller of $name (bug 8)', async (api) => {
    for (const kind of ['chat', 'claude', 'gemini', 'bedrock', 'responses'] as const) {
      peers.provider.script([stream([{ delayMs: 20 }, { cut: 'reset' }]), answer({ text: 'Now.' })])
      const answered = await ask(api, peers.take(kind, 'again'))
      expect(answered.headers.get('x-sluice-attempts')).toMatch(/=reset, .*=200$/)
      expect(api.hear(answered).text).toBe('Now.')
    }
  })

  it.each(APIS)(
    'leaves nothing behind in the answer of the next attempt to a caller of $name (bug 9)',
    async (api) => {
      for (const [kind, dead] of Object.entries(DEAD)) {
        // The same deployment is asked again behind a reset, and another one behind an error that was told.
        for (const [more, end] of [
          ['again', { cut: 'reset' }],
          [undefined, OVERLOADED[kind] ?? ''],
        ] as const) {
          const model = peers.take(isKind(kind) ? kind : 'chat', more)
          const good = answer({
            text: 'I look.',
            toolCalls: [{ name: 'get_weather', args: { city: 'Rome' } }],
          })
          peers.provider.script([stream([...dead, end]), good])
          peers.other.script(good)
          const answered = await peers.post(
            api.path,
            api.ask(model, { stream: true, tools: ['get_weather'] }),
          )
          const heard = api.hear(answered)
          expect(heard).toMatchObject({ text: 'I look.', calls: [{ name: 'get_weather' }] })
          expect(heard.calls).toHaveLength(1)
          expect(JSON.stringify(heard.usage)).toMatch(/:11\b/)
          expect(answered.text).not.toMatch(/"(?:msg_)?dead"|:999\b|Overloaded/)
          expect(peers.provider.calls + peers.other.calls).toBe(2)
          peers.provider.reset()
          peers.other.reset()
        }
      }
    },
  )

  it('is told in the words that stand inside another object of `event: error` (bug 10)', async () => {
    const words = 'The prompt holds what no policy allows.'
    const nested: readonly (readonly [Kind, Behaviour])[] = [
      [
        'claude',
        events(
          { type: 'message_start', message: { id: 'msg_1', model: 'm', usage: {} } },
          { type: 'error', error: { type: 'invalid_request_error', message: words }, request_id: 'req_1' },
        ),
      ],
      [
        'responses',
        stream([
          ...BEGUN.map((one) => toEvent(one.type, one)),
          toEvent('error', {
            type: 'error',
            error: { type: 'invalid_request_error', code: 'invalid_prompt', message: words, param: null },
          }),
        ]),
      ],
    ]
    for (const [kind, behaviour] of nested) {
      for (const api of APIS) {
        peers.provider.script(behaviour)
        const { status, text } = await ask(api, peers.take(kind, 'alone'))
        expect([kind, api.name, status]).toEqual([kind, api.name, 400])
        expect(text).toContain(words)
      }
    }
  })

  it.each(APIS)(
    'that Anthropic calls an overload is another one’s to answer, for a caller of $name (bug 13)',
    async (api) => {
      peers.provider.script(
        events(
          { type: 'message_start', message: { id: 'msg_1', model: 'm', usage: { input_tokens: 9 } } },
          { type: 'ping' },
          { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } },
        ),
      )
      const answered = await ask(api, peers.take('claude'))
      expect(api.hear(answered).text).toBe('From the other.')
      expect(answered.headers.get('x-sluice-attempts')).toContain('=in_band, other:')
    },
  )
})

describe('the usage of a stream', () => {
  it.each(APIS)(
    'in one last chunk with content and reason arrives with both at a caller of $name (bug 14)',
    async (api) => {
      const usage = { prompt_tokens: 70, completion_tokens: 20, total_tokens: 90 }
      for (const behaviour of [
        usageInLastChunk({ text: 'All in one.', usage }),
        chunks(chunk({ role: 'assistant', content: 'All in one.' }, 'stop', { usage })),
      ]) {
        peers.provider.script(behaviour)
        const model = peers.take('chat')
        const { text, finish, usage: told } = api.hear(await ask(api, model))
        expect(text).toBe('All in one.')
        expect(finish).toBe({ chat: 'stop', messages: 'end_turn', responses: 'completed' }[api.name])
        expect(Object.values(told)).toEqual(expect.arrayContaining([70, 20]))
        const line = await peers.gateway.waitForLog(({ route }) => route === model)
        expect(line).toMatchObject({ usageSource: 'provider', inputTokens: 70, outputTokens: 20 })
      }
    },
  )

  it.each(['claude', 'gemini', 'bedrock', 'responses'] as const)(
    'of %s is told in a chunk without choices, and null before it (bug 57, bug 58)',
    async (kind) => {
      const answers: Readonly<Record<typeof kind, Behaviour>> = {
        claude: message(
          'end_turn',
          { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
          { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hi.' } },
          { type: 'content_block_stop', index: 0 },
        ),
        gemini: candidates([{ text: 'Hi.' }], [{ text: '' }]),
        bedrock: converse('end_turn', [
          'contentBlockDelta',
          { contentBlockIndex: 0, delta: { text: 'Hi.' } },
        ]),
        responses: answer({ text: 'Hi.' }),
      }
      peers.provider.script(answers[kind])
      const { text } = await ask(chat, peers.take(kind))
      const list = parseSse(text)
        .slice(0, -1)
        .map(({ data }) => JSON.parse(data))
      expect(list.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: 11 } })
      expect(list.slice(0, -1).map(({ usage }) => usage)).toEqual(list.slice(0, -1).map(() => null))
      expect(list.slice(0, -1).every(({ choices }) => choices.length === 1)).toBe(true)
    },
  )

  it.each(APIS)(
    'that another chunk follows is told to a caller of $name, and counted (bug 59)',
    async (api) => {
      const usage = { prompt_tokens: 70, completion_tokens: 20, total_tokens: 90 }
      const [head, last] = [chunk({ role: 'assistant', content: 'Hello' }), chunk({}, 'stop')]
      for (const [at, behaviour] of [
        chunks(head, { ...last, choices: [], usage }, last),
        chunks(head, chunk({ content: '' }, null, { usage }), last),
        chunks(head, last, { ...last, choices: [], usage }, { ...last, choices: [] }),
      ].entries()) {
        peers.provider.script(behaviour)
        const model = peers.take('chat')
        const { usage: told, text } = api.hear(await ask(api, model))
        expect(text).toBe('Hello')
        expect([at, ...Object.values(told)]).toEqual(expect.arrayContaining([at, 70, 20]))
        const line = await peers.gateway.waitForLog(({ route }) => route === model)
        expect(line).toMatchObject({ usageSource: 'provider', inputTokens: 70, outputTokens: 20 })
      }
    },
  )
})
