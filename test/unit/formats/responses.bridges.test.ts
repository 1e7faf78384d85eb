// Callers of Responses (Codex) on models behind chat, and callers of chat on a model behind Responses: the whole way there
// and back, over recorded streams. The bugs are those that other gateways were reported for (test/support/published-bugs.ts).

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import type { AnswerTo, ChatClientSide, ProviderSide, WrittenRequest } from '../../../src/formats/format.ts'
import { openai } from '../../../src/formats/openai.ts'
import { responses } from '../../../src/formats/responses.ts'
import { createAnswerTo } from '../../support/answers.ts'
import { schemaFaults } from '../../support/openai-schema.ts'
import { assembleResponse } from '../../support/responses-stream.ts'
import { parseSse } from '../../support/sse.ts'

const GOLDEN = join(import.meta.dirname, '../../golden')
const ASKED = { model: 'real-model', maxOutputTokens: undefined, options: {} }

type Members = Record<string, unknown>

const file = (path: string): Buffer => readFileSync(join(GOLDEN, path))
const request = (name: string): Members => JSON.parse(file(`responses/${name}.request.json`).toString())
const plain = (value: unknown): Members => JSON.parse(JSON.stringify(value))

interface Bridge {
  readonly written: WrittenRequest
  readonly body: Members
  readonly to: AnswerTo
  /** The caller's stream for one of the provider's. */
  stream(bytes: Buffer | string): string
  whole(body: Buffer): Members
}

function bridge(client: ChatClientSide, provider: ProviderSide, sent: Members): Bridge {
  const { chat } = provider
  if (chat === undefined) throw new Error('nothing is written to it')
  const read = client.chat.read(sent)
  const written = chat.write(read.request, ASKED)
  const to = createAnswerTo(sent, read.request)
  return {
    written,
    body: plain(written.body),
    to,
    stream(bytes) {
      const reader = chat.events(written)
      const writer = client.chat.events(to)
      const frames = createFrameSplitter().push(Buffer.from(bytes))
      const texts = frames.flatMap((frame) => reader.read(frame)).map((event) => writer.write(event))
      return texts.join('') + writer.end()
    },
    whole: (body) => plain(client.chat.write(chat.read(body, written), to)),
  }
}

/** Codex, and whoever else speaks Responses, in front of chat. */
const toChat = (sent: Members): Bridge => bridge(responses.client, openai.provider, sent)
/** Chat in front of Responses. */
const fromChat = (sent: Members): Bridge => bridge(openai.client, responses.provider, sent)

const chunk = (choice: Members, more: Members = {}): string =>
  `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, finish_reason: null, ...choice }], ...more })}\n\n`
const DONE = 'data: [DONE]\n\n'

const NAMES = readdirSync(join(GOLDEN, 'responses')).flatMap(
  (one) => /^(.*)\.request\.json$/.exec(one)?.[1] ?? [],
)

describe('a caller of Responses on a model behind chat', () => {
  it.each(NAMES.filter((name) => name !== 'image-and-file'))('%s is asked as chat describes it', (name) => {
    const { body } = toChat(request(name))
    expect(schemaFaults('CreateChatCompletionRequest', body)).toEqual([])
    expect(body).not.toHaveProperty('input')
    expect(body).not.toHaveProperty('store')
  })

  it('has its tools in groups and those of the provider accepted, and its parallel calls kept (bug 51, bug 52)', () => {
    const { body, written } = toChat(request('codex'))
    expect(body.tools).toMatchObject([
      { type: 'function', function: { name: 'exec_command' } },
      { type: 'function', function: { name: 'mcp__docs__search' } },
      { type: 'function', function: { name: 'mcp__docs__fetch' } },
    ])
    expect(body).toMatchObject({ parallel_tool_calls: true, tool_choice: 'auto' })
    expect(body.messages).toMatchObject([
      { role: 'system' },
      { role: 'user' },
      { role: 'assistant', tool_calls: [{ id: 'call_N1', function: { name: 'mcp__docs__search' } }] },
      { role: 'tool', tool_call_id: 'call_N1' },
    ])
    expect(written.names.get('mcp__docs__search')).toMatchObject({ name: 'search', namespace: 'mcp__docs' })
    const alone = toChat({
      ...request('codex'),
      input: 'Hi',
      tools: [{ type: 'web_search' }],
      tool_choice: 'auto',
    })
    // Tools that nobody has make no choice either (litellm#25477).
    for (const name of ['tools', 'tool_choice', 'parallel_tool_calls'])
      expect(alone.body).not.toHaveProperty(name)
  })

  it('gets a call back in its group, with a name of any length', () => {
    const name = `long_${'x'.repeat(60)}`
    const tools = [
      {
        type: 'namespace',
        name: 'mcp__docs',
        description: 'd',
        tools: [{ type: 'function', name, parameters: {} }],
      },
    ]
    const way = toChat({ model: 'm', input: 'Hi', tools })
    const [tool] = way.body.tools as { function: { name: string } }[]
    const wire = tool?.function.name ?? ''
    expect(wire).toMatch(/^[a-zA-Z0-9_-]{1,64}$/)
    const call = { index: 0, id: 'call_1', type: 'function', function: { name: wire, arguments: '{"a":1}' } }
    const frames =
      chunk({ delta: { tool_calls: [call] } }) + chunk({ delta: {}, finish_reason: 'tool_calls' }) + DONE
    expect(assembleResponse(way.stream(frames)).output).toMatchObject([
      { type: 'function_call', name, namespace: 'mcp__docs', call_id: 'call_1', arguments: '{"a":1}' },
    ])
  })

  it('has a tool of free text, in a group too, with its grammar (bug 50)', () => {
    const [custom] = request('custom-tool').tools as Members[]
    const grouped = [{ type: 'namespace', name: 'edit', description: 'd', tools: [custom] }]
    const patch = '*** Begin Patch\n+"é 👋"\n'
    for (const [tools, wire, namespace] of [
      [[custom], 'apply_patch', undefined],
      [grouped, 'edit__apply_patch', 'edit'],
    ] as const) {
      const way = toChat({ model: 'm', input: 'Patch.', tools })
      expect(way.body.tools).toMatchObject([
        { function: { name: wire, parameters: { properties: { input: { type: 'string' } } } } },
      ])
      expect(JSON.stringify(way.body.tools)).toContain('Begin Patch')
      const args = JSON.stringify({ input: patch })
      const frames = [
        chunk({
          delta: {
            tool_calls: [
              { index: 0, id: 'call_1', type: 'function', function: { name: wire, arguments: '' } },
            ],
          },
        }),
        ...(args.match(/.{1,3}/gs) ?? []).map((piece) =>
          chunk({ delta: { tool_calls: [{ index: 0, function: { arguments: piece } }] } }),
        ),
        chunk({ delta: {}, finish_reason: 'tool_calls' }),
        DONE,
      ]
      const { output, types } = assembleResponse(way.stream(frames.join('')))
      expect(output).toMatchObject([
        { type: 'custom_tool_call', name: 'apply_patch', call_id: 'call_1', input: patch },
      ])
      expect(output[0]?.namespace).toBe(namespace)
      expect(types.filter((type) => type === 'response.custom_tool_call_input.delta').length).toBeGreaterThan(
        3,
      )
    }
  })

  const STREAMS = readdirSync(join(GOLDEN, 'openai')).filter(
    (one) => one.endsWith('.stream.sse') && !/error|legacy-text|two-choices/.test(one),
  )

  it.each(STREAMS)('reads %s as a whole sequence of events with a full output (bug 48, bug 49)', (name) => {
    const { response, output } = assembleResponse(toChat(request('plain')).stream(file(`openai/${name}`)))
    expect(output.length).toBeGreaterThan(0)
    expect(schemaFaults('Response', response)).toEqual([])
    if (!/legacy|crlf/.test(name))
      expect(response.usage).toMatchObject({ input_tokens: 19, output_tokens: 10 })
  })

  it('hands back the thoughts it was given, to whom they belong', () => {
    const detail = { type: 'reasoning.encrypted', data: 'c2VjcmV0', format: 'google-gemini-v1' }
    const way = toChat(request('plain'))
    const frames =
      chunk({ delta: { reasoning: 'Hm.', reasoning_details: [detail] } }) +
      chunk({ delta: { content: 'Hi' } }) +
      chunk({ delta: {}, finish_reason: 'stop' }) +
      DONE
    const { output } = assembleResponse(way.stream(frames))
    const next = toChat({
      model: 'm',
      input: [{ role: 'user', content: 'a' }, ...output, { role: 'user', content: 'b' }],
    })
    expect(next.body.messages).toMatchObject([
      { role: 'user' },
      { role: 'assistant', content: 'Hi', reasoning_details: [detail] },
      { role: 'user' },
    ])
  })
})

describe('a caller of chat on a model behind Responses', () => {
  const SENT: Members = {
    model: 'm',
    messages: [
      { role: 'system', content: 'Be brief.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'See' },
          { type: 'image_url', image_url: { url: 'data:image/png;base64,iVBORw0KGgo=' } },
        ],
      },
      {
        role: 'assistant',
        content: null,
        tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'get_weather', arguments: '{}' } }],
      },
      { role: 'tool', tool_call_id: 'call_1', content: '21 °C' },
    ],
    tools: [
      { type: 'function', function: { name: 'get_weather', parameters: { type: 'object', properties: {} } } },
      {
        type: 'custom',
        custom: {
          name: 'patch',
          format: { type: 'grammar', grammar: { syntax: 'lark', definition: 'start: "x"' } },
        },
      },
      { type: 'custom', custom: { name: 'say', format: { type: 'text' } } },
    ],
    tool_choice: { type: 'custom', custom: { name: 'patch' } },
    parallel_tool_calls: false,
    max_completion_tokens: 200,
    reasoning_effort: 'low',
    response_format: {
      type: 'json_schema',
      json_schema: { name: 'a', strict: true, schema: { type: 'object' } },
    },
    stream: true,
    stream_options: { include_usage: true },
  }

  it('asks as Responses describes it', () => {
    const { body } = fromChat(SENT)
    expect(schemaFaults('CreateResponse', body)).toEqual([])
    expect(body).toMatchObject({
      stream: true,
      store: false,
      include: ['reasoning.encrypted_content'],
      max_output_tokens: 200,
      reasoning: { effort: 'low' },
      parallel_tool_calls: false,
      tool_choice: { type: 'custom', name: 'patch' },
      text: { format: { type: 'json_schema', name: 'a', strict: true, schema: { type: 'object' } } },
      tools: [
        { type: 'function', name: 'get_weather', strict: false },
        {
          type: 'custom',
          name: 'patch',
          format: { type: 'grammar', syntax: 'lark', definition: 'start: "x"' },
        },
        { type: 'custom', name: 'say' },
      ],
      input: [
        { role: 'system', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'input_text', text: 'See' },
            { type: 'input_image', image_url: 'data:image/png;base64,iVBORw0KGgo=' },
          ],
        },
        { type: 'function_call', call_id: 'call_1', name: 'get_weather', arguments: '{}' },
        { type: 'function_call_output', call_id: 'call_1', output: '21 °C' },
      ],
    })
    expect(body).not.toHaveProperty('stream_options')
  })

  const STREAMS = readdirSync(join(GOLDEN, 'responses')).filter(
    (one) => one.endsWith('.stream.sse') && !/error|failed|cut/.test(one),
  )

  it.each(STREAMS)('reads %s as chunks, with usage in one of its own (bug 57, bug 58)', (name) => {
    const data = parseSse(fromChat(SENT).stream(file(`responses/${name}`))).map((event) => event.data)
    expect(data.pop()).toBe('[DONE]')
    const chunks: Members[] = data.map((one) => JSON.parse(one))
    for (const one of chunks) {
      // A custom call is streamed like this, and described only where it is whole.
      const described = JSON.parse(JSON.stringify(one).replace('"type":"custom"', '"type":"function"'))
      const usage = one.usage ?? undefined
      expect(schemaFaults('CreateChatCompletionStreamResponse', { ...described, usage })).toEqual([])
    }
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: 19, completion_tokens: 10 } })
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true)
    const finishes = chunks
      .flatMap(({ choices }) => choices as Members[])
      .flatMap((choice) => choice.finish_reason ?? [])
    expect(finishes).toHaveLength(1)
  })

  it('gets the same whole as in pieces', () => {
    const body = fromChat(SENT).whole(file('responses/parallel-tool-calls.reply.json'))
    expect(schemaFaults('CreateChatCompletionResponse', body)).toEqual([])
    expect(body).toMatchObject({
      object: 'chat.completion',
      choices: [
        {
          finish_reason: 'tool_calls',
          message: {
            content: null,
            reasoning_content: 'Two cities.',
            tool_calls: [
              { id: 'call_A1', function: { name: 'get_weather', arguments: '{"location":"Paris, France"}' } },
              {
                id: 'call_B2',
                function: { name: 'get_weather', arguments: '{"location":"Bogotá, Colombia"}' },
              },
            ],
          },
        },
      ],
    })
  })

  it('hands sealed thoughts back to the provider, under the id of their item', () => {
    const way = fromChat(SENT)
    const answer = way.whole(file('responses/reasoning-encrypted.reply.json'))
    const [choice] = answer.choices as { message: Members }[]
    const messages = [{ role: 'user', content: 'a' }, choice?.message, { role: 'user', content: 'b' }]
    expect(fromChat({ ...SENT, messages }).body.input).toMatchObject([
      { role: 'user' },
      { type: 'reasoning', id: 'rs_01', encrypted_content: 'gAAAAABo1x9ZkQ==' },
      { role: 'assistant', content: 'Hi.' },
      { role: 'user' },
    ])
  })
})
