// Bugs that other gateways were reported to have with what they send to a provider (test/support/published-bugs.ts), over
// real sockets: none of them happens here.

import { describe, expect, it } from 'vitest'
import { requestFaults } from '../support/messages-checker.ts'
import { APIS, type Api, ASKED, chat, type Kind, type Peers, responses, usePeers } from '../support/peers.ts'
import { answer, isRecord, type RecordedRequest, toolCall } from '../support/scripted-provider.ts'

const peers = usePeers({
  chat: 15,
  claude: 13,
  gemini: 19,
  bedrock: 17,
  responses: 9,
  'gemini-2': 4,
  nova: 8,
})

type Members = Readonly<Record<string, unknown>>
const USER = { role: 'user', content: 'Hello.' }

/** What a provider is sent for a request that it answers. */
async function sent(kind: Kind, api: Api, over: Members): Promise<ReturnType<Peers['sent']>> {
  peers.provider.script(answer({ text: 'Good.' }))
  const { status, text } = await peers.post(api.path, { ...api.ask(peers.take(kind, 'alone')), ...over })
  expect([status, status === 200 ? '' : text]).toEqual([200, ''])
  const body = peers.sent()
  if (kind === 'claude') expect(requestFaults(body)).toEqual([])
  return body
}

// --- tools of Codex ----------------------------------------------------------------------------------------------

describe('a tool of Codex', () => {
  const definition = 'start: begin_patch hunk+ end_patch\nbegin_patch: "*** Begin Patch" LF'
  const custom = {
    type: 'custom',
    name: 'apply_patch',
    description: 'Patches files.',
    format: { type: 'grammar', syntax: 'lark', definition },
  }
  const patch = '*** Begin Patch\n*** Add File: a\n+"é 👋"\n*** End Patch'

  it.each(['chat', 'claude', 'gemini', 'bedrock'] as const)(
    'that takes free text is called with it, in a group too, and its grammar is told, over %s (bug 50)',
    async (kind) => {
      const group = { type: 'namespace', name: 'edit', description: 'Edits.', tools: [custom] }
      for (const tools of [[custom], [group]]) {
        let name = ''
        peers.provider.script((request) => {
          name = namesIn(request).find((one) => one.includes('apply_patch')) ?? ''
          return toolCall(name, { input: patch })
        })
        const asked = { model: peers.take(kind, 'alone'), input: 'Patch.', stream: true, tools }
        const answered = await peers.post(responses.path, asked)
        responses.hear(answered)
        const last = JSON.parse(answered.text.trimEnd().split('\ndata: ').at(-1) ?? '')
        const output = last.response.output.filter(({ type }: Members) => type !== 'reasoning')
        expect(output).toMatchObject([{ type: 'custom_tool_call', name: 'apply_patch', input: patch }])
        expect(output[0].namespace).toBe(tools[0] === group ? 'edit' : undefined)
        expect(name).toMatch(/^[a-zA-Z0-9_-]{1,64}$/)
        expect(JSON.stringify(peers.sent())).toContain('*** Begin Patch')
      }
    },
  )

  it.each(['chat', 'claude', 'gemini', 'bedrock'] as const)(
    'in a group is offered, and one that a provider runs by itself is left out and told of, over %s (bug 51)',
    async (kind) => {
      const tools = [
        {
          type: 'function',
          name: 'exec_command',
          parameters: { type: 'object', properties: {} },
          strict: false,
        },
        {
          type: 'namespace',
          name: 'mcp__docs',
          description: 'Docs.',
          tools: [{ type: 'function', name: 'search', parameters: { type: 'object', properties: {} } }],
        },
        { type: 'web_search', external_web_access: false },
        { type: 'tool_search' },
      ]
      peers.provider.script((request) =>
        toolCall(namesIn(request).find((one) => one.includes('search')) ?? '', {}),
      )
      const asked = { model: peers.take(kind, 'alone'), input: 'Search.', tools, tool_choice: 'auto' }
      const answered = await peers.post(responses.path, asked)
      expect(answered.status).toBe(200)
      const { output } = JSON.parse(answered.text)
      // Gemini's signature stands in front, as an item of its own.
      expect(output.filter(({ type }: Members) => type !== 'reasoning')).toMatchObject([
        { type: 'function_call', name: 'search', namespace: 'mcp__docs' },
      ])
      const [request] = peers.provider.requests
      expect(request && namesIn(request)).toEqual(['exec_command', 'mcp__docs__search'])
      expect([...answered.headers].flat().join(' ')).toContain('web_search')
    },
  )
})

/** The names of the tools in a request, whatever its format. */
function namesIn(request: RecordedRequest): string[] {
  const { tools = [], toolConfig } = JSON.parse(request.body.toString())
  const list: Members[] = toolConfig?.tools ?? tools
  return list.flatMap(({ name, function: inner, toolSpec, functionDeclarations }) => {
    const declared: unknown[] = Array.isArray(functionDeclarations)
      ? functionDeclarations
      : [isRecord(inner) ? inner : isRecord(toolSpec) ? toolSpec : { name }]
    return declared.flatMap((one) => (isRecord(one) && typeof one.name === 'string' ? [one.name] : []))
  })
}

describe('whether calls may come in parallel', () => {
  const tool = { name: 'now', description: 'd' }
  const TOOLS: Readonly<Record<Api['name'], (isParallel: boolean) => Members>> = {
    chat: (parallel_tool_calls) => ({ tools: [{ type: 'function', function: tool }], parallel_tool_calls }),
    messages: (isParallel) => ({
      tools: [{ ...tool, input_schema: { type: 'object' } }],
      tool_choice: { type: 'auto', disable_parallel_tool_use: !isParallel },
    }),
    responses: (parallel_tool_calls) => ({
      tools: [{ ...tool, type: 'function', parameters: {}, strict: false }],
      parallel_tool_calls,
    }),
  }

  it.each(APIS)(
    'is told to every provider that has a word for it, by a caller of $name (bug 52)',
    async (api) => {
      for (const isParallel of [true, false]) {
        const over = TOOLS[api.name](isParallel)
        const told = await sent('chat', api, over)
        expect(told.parallel_tool_calls ?? true).toBe(isParallel)
        const inverse = await sent('responses', api, over)
        expect(inverse.parallel_tool_calls ?? true).toBe(isParallel)
        const claude = await sent('claude', api, over)
        expect(claude.tool_choice?.disable_parallel_tool_use ?? false).toBe(!isParallel)
        const bedrock = await sent('bedrock', api, over)
        expect(bedrock.additionalModelRequestFields?.tool_choice?.disable_parallel_tool_use ?? false).toBe(
          !isParallel,
        )
      }
    },
  )

  it.each(ASKED)(
    'holds over Gemini, which has none, for a caller of $name, stream: $stream (bug 52)',
    async ({ api, stream }) => {
      peers.provider.script(toolCall('now', { n: 1 }, { toolCalls: [{ name: 'now', args: { n: 2 } }] }))
      const asked = { ...api.ask(peers.take('gemini', 'alone'), { stream }), ...TOOLS[api.name](false) }
      expect(api.hear(await peers.post(api.path, asked)).calls).toMatchObject([
        { name: 'now', args: '{"n":1}' },
      ])
    },
  )
})

// --- what providers refuse ---------------------------------------------------------------------------------------

describe('a schema for Gemini', () => {
  const schema = {
    $schema: 'http://json-schema.org/draft-07/schema#',
    type: 'object',
    properties: {
      count: { type: 'integer', exclusiveMinimum: 0 },
      kind: { const: 'all' },
      labels: { type: 'object', propertyNames: { pattern: '^a' }, additionalProperties: { type: 'string' } },
    },
    required: ['count'],
    additionalProperties: false,
  }
  const REFUSED = /exclusiveMinimum|propertyNames|"const"|additionalProperties|\$schema/

  it.each(APIS)(
    'has no word in the member where they are refused, from a caller of $name (bug 53)',
    async (api) => {
      const tool = { name: 'find', description: 'd' }
      const over = {
        chat: { tools: [{ type: 'function', function: { ...tool, parameters: schema } }] },
        messages: { tools: [{ ...tool, input_schema: schema }] },
        responses: { tools: [{ ...tool, type: 'function', parameters: schema, strict: false }] },
      }[api.name]
      for (const kind of ['gemini', 'gemini-2'] as const) {
        const { tools } = await sent(kind, api, over)
        const [declared] = tools[0].functionDeclarations
        // Ordinary JSON Schema has a member of its own; the other is held to what it takes.
        expect(JSON.stringify(declared.parameters ?? {})).not.toMatch(REFUSED)
        expect(declared.parameters ?? declared.parametersJsonSchema).toMatchObject({
          properties: { count: {} },
        })
        if (kind === 'gemini-2') expect(declared).not.toHaveProperty('parametersJsonSchema')
      }
    },
  )

  it('of an answer has none either (bug 53)', async () => {
    const response_format = { type: 'json_schema', json_schema: { name: 'find', schema, strict: true } }
    for (const kind of ['gemini', 'gemini-2'] as const) {
      const { generationConfig } = await sent(kind, chat, { response_format })
      expect(JSON.stringify(generationConfig.responseSchema ?? {})).not.toMatch(REFUSED)
      if (kind === 'gemini-2') expect(generationConfig).not.toHaveProperty('responseJsonSchema')
    }
  })
})

describe('a history with calls and no tools', () => {
  const call = { id: 'a', type: 'function', function: { name: 'now', arguments: '{}' } }
  const history = [
    USER,
    { role: 'assistant', content: null, tool_calls: [call] },
    { role: 'tool', tool_call_id: 'a', content: 'noon' },
    USER,
  ]
  const tools = [{ type: 'function', function: { name: 'now', description: 'd' } }]

  it.each(['bedrock', 'nova'] as const)(
    'is one that Bedrock takes, also where none may be called: %s (bug 54)',
    async (kind) => {
      for (const over of [{}, { tools, tool_choice: 'none' }]) {
        const { toolConfig, messages: list } = await sent(kind, chat, { messages: history, ...over })
        const hasBlocks = /toolUse|toolResult/.test(JSON.stringify(list))
        expect(hasBlocks ? toolConfig?.tools : [{}]).toHaveLength(1)
        expect(JSON.stringify(list)).toContain('noon')
      }
    },
  )
})

describe('blank text', () => {
  it.each(['claude', 'bedrock', 'nova'] as const)(
    'is nowhere in what is sent, in results neither: %s (bug 55)',
    async (kind) => {
      const call = (id: string) => ({ id, type: 'function', function: { name: 'now', arguments: '' } })
      const body = await sent(kind, chat, {
        messages: [
          { role: 'system', content: ' ' },
          {
            role: 'user',
            content: [
              { type: 'text', text: '' },
              { type: 'text', text: 'Hi' },
            ],
          },
          { role: 'assistant', content: '\n', tool_calls: [call('a'), call('b')] },
          { role: 'tool', tool_call_id: 'a', content: '' },
          { role: 'tool', tool_call_id: 'b', content: [{ type: 'text', text: ' \n' }] },
          { role: 'assistant', content: '' },
          { role: 'user', content: 'ok' },
        ],
        tools: [{ type: 'function', function: { name: 'now', description: 'd' } }],
      })
      expect(JSON.stringify([body.system, body.messages])).not.toMatch(/"(?:text|content)":"(?:\s|\\n)*"/)
    },
  )
})

describe('a mark of the cache', () => {
  it.each(APIS.filter((api) => api !== responses))(
    'is not sent to a model of Bedrock that refuses it, by a caller of $name (bug 56)',
    async (api) => {
      const cache_control = { type: 'ephemeral' }
      const content = [{ type: 'text', text: 'Hi', cache_control }]
      const over = { messages: [{ role: 'user', content }] }
      expect(JSON.stringify(await sent('nova', api, over))).not.toMatch(/cachePoint|cache_control/)
      expect(JSON.stringify(await sent('bedrock', api, over))).toContain('cachePoint')
    },
  )
})

describe('vectors', () => {
  it.each(['chat', 'gemini'] as const)(
    'are in base64 for who asked for that, and lists for who did not: %s (bug 60)',
    async (kind) => {
      for (const encoding_format of ['base64', 'float', undefined]) {
        peers.provider.script(answer())
        const asked = { model: peers.take(kind, 'alone'), input: ['one', 'two'], encoding_format }
        const { status, text } = await peers.post('/embeddings', asked)
        expect(status).toBe(200)
        for (const { embedding } of JSON.parse(text).data) {
          if (encoding_format !== 'base64')
            expect(embedding).toEqual(expect.arrayContaining([expect.any(Number)]))
          else expect(Buffer.from(embedding, 'base64').toString('base64')).toBe(embedding)
        }
      }
    },
  )
})

describe('content in a list', () => {
  const parts = (...list: readonly string[]) => list.map((text) => ({ type: 'text', text }))
  const WORDS = '<1> <2> <3> <4> <5> <6> <7> <8>'.split(' ')
  const call = { id: 'a', type: 'function', function: { name: 'now', arguments: '{}' } }
  const OVER: Readonly<Record<Api['name'], Members>> = {
    chat: {
      messages: [
        { role: 'system', content: parts('<1>', '<2>') },
        { role: 'user', content: parts('<3>', '<4>') },
        { role: 'assistant', content: parts('<5>', '<6>'), tool_calls: [call] },
        { role: 'tool', tool_call_id: 'a', content: parts('<7>', '<8>') },
      ],
      tools: [{ type: 'function', function: { name: 'now', description: 'd' } }],
    },
    messages: {
      system: parts('<1>', '<2>'),
      messages: [
        { role: 'user', content: parts('<3>', '<4>') },
        {
          role: 'assistant',
          content: [...parts('<5>', '<6>'), { type: 'tool_use', id: 'a', name: 'now', input: {} }],
        },
        {
          role: 'user',
          content: [{ type: 'tool_result', tool_use_id: 'a', content: parts('<7>', '<8>') }],
        },
      ],
      tools: [{ name: 'now', description: 'd', input_schema: { type: 'object' } }],
    },
    responses: {
      input: [
        {
          role: 'developer',
          content: [
            { type: 'input_text', text: '<1>' },
            { type: 'input_text', text: '<2>' },
          ],
        },
        {
          role: 'user',
          content: [
            { type: 'input_text', text: '<3>' },
            { type: 'input_text', text: '<4>' },
          ],
        },
        {
          role: 'assistant',
          content: [
            { type: 'output_text', text: '<5>' },
            { type: 'output_text', text: '<6>' },
          ],
        },
        { type: 'function_call', call_id: 'a', name: 'now', arguments: '{}' },
        {
          type: 'function_call_output',
          call_id: 'a',
          output: [
            { type: 'input_text', text: '<7>' },
            { type: 'input_text', text: '<8>' },
          ],
        },
      ],
      tools: [{ type: 'function', name: 'now', description: 'd', parameters: {}, strict: false }],
    },
  }

  it.each(APIS)('of a caller of $name reaches every provider in its order (bug 61)', async (api) => {
    for (const kind of ['chat', 'responses', 'claude', 'gemini', 'bedrock', 'nova'] as const) {
      const body = await sent(kind, api, OVER[api.name])
      const ordered = JSON.stringify([
        body.system,
        body.systemInstruction,
        body.messages ?? body.contents ?? body.input,
      ])
      const places = WORDS.map((word) => ordered.indexOf(word))
      expect([kind, places]).toEqual([kind, [...places].sort((a, b) => a - b)])
      expect(places).not.toContain(-1)
    }
  })
})
