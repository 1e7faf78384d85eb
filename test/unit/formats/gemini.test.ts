// What gateways were reported to get wrong towards Gemini (wire §7, by number), and what else its wire asks for.

import { generateKeyPairSync, verify } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { CallPart, ChatEvent, ChatRequest, Part } from '../../../src/formats/canonical.ts'
import type { Asked, WrittenRequest } from '../../../src/formats/format.ts'
import { gemini, vertex } from '../../../src/formats/gemini.ts'
import * as made from '../../support/chat-arbitraries.ts'
import { assistant, chatRequest, result, tool, user } from '../../support/chat-arbitraries.ts'
import { schemaFaults } from '../../support/openai-schema.ts'

const call = (id: string, over: Partial<CallPart> = {}): CallPart =>
  made.call(id, 'get_weather', '{"city":"Paris"}', over)
const thought = (text: string, origin: string): Part => made.thought(text, { origin, value: 'c2lnbmVk' })

const chat = gemini.provider.chat
const vertexChat = vertex.provider.chat
if (chat === undefined || vertexChat === undefined) throw new Error('gemini has no chat')

const GEMINI_3: Asked = { model: 'gemini-3.1-pro-preview', maxOutputTokens: undefined, options: {} }
const GEMINI_2_5 = { ...GEMINI_3, model: 'gemini-2.5-pro' }
const SKIP = 'skip_thought_signature_validator'

function write(over: Partial<ChatRequest>, asked = GEMINI_3): WrittenRequest {
  if (chat === undefined) throw new Error('gemini has no chat')
  return chat.write(chatRequest(over), asked)
}

/** The events of a stream of these candidates' parts, one chunk each. */
function read(parts: readonly (readonly unknown[])[], written: WrittenRequest): ChatEvent[] {
  const reader = chat?.events(written)
  return parts.flatMap((list, i) => {
    const finishReason = i === parts.length - 1 ? { finishReason: 'STOP' } : {}
    const data = JSON.stringify({
      candidates: [{ content: { parts: list }, ...finishReason }],
      responseId: 'r',
    })
    return reader?.read({ data, bytes: Buffer.alloc(0), event: undefined }) ?? []
  })
}

const modelParts = (written: WrittenRequest): unknown => {
  const contents: unknown = written.body.contents
  return Array.isArray(contents) ? contents.find(({ role }) => role === 'model')?.parts : undefined
}

describe('calls', () => {
  it('over several chunks have numbers and ids of their own (15, 24)', () => {
    const functionCall = { name: 'get_weather', args: { city: 'Paris' } }
    const events = read([[{ functionCall }], [{ functionCall }, { functionCall }], []], write({}))
    const calls = events.filter((event) => event.type === 'call')
    expect(calls.map(({ call: index }) => index)).toEqual([0, 1, 2])
    expect(new Set(calls.map(({ id }) => id)).size).toBe(3)
    expect(events.at(-1)).toMatchObject({ type: 'finish', finish: 'tool_calls' })
  })

  it('without a name are none (17)', () => {
    const events = read([[{ functionCall: {} }, { functionCall: { name: 'now' } }]], write({}))
    expect(events.filter(({ type }) => type === 'call')).toHaveLength(1)
  })

  it('that have no id get the same one each time the answer is read, and another in every answer', () => {
    const idOf = (responseId: string): unknown => {
      const body = {
        candidates: [{ content: { parts: [{ functionCall: { name: 'now' } }] }, finishReason: 'STOP' }],
        responseId,
      }
      const [part] = chat.read(Buffer.from(JSON.stringify(body)), write({})).choices[0]?.content ?? []
      return part?.type === 'call' ? part.id : undefined
    }
    expect(idOf('a')).toBe(idOf('a'))
    expect(idOf('a')).not.toBe(idOf('b'))
  })

  it('beyond the first are not read where one was asked for (52)', () => {
    const written = write({ parallelToolCalls: false, tools: [tool('now')] })
    const events = read([[{ functionCall: { name: 'now' } }], [{ functionCall: { name: 'now' } }]], written)
    expect(events.filter(({ type }) => type === 'call')).toHaveLength(1)
  })

  it('of long names come back with their own', () => {
    const name = `mcp_${'long_'.repeat(20)}tool`
    const written = write({ tools: [tool(name), tool('read', { namespace: 'docs' })] })
    const declared: unknown = JSON.parse(JSON.stringify(written.body)).tools[0].functionDeclarations
    if (!Array.isArray(declared)) throw new Error('no tools')
    const [long, spaced] = declared.map((one) => String(one.name))
    expect(long).toMatch(/^[a-zA-Z0-9_-]{1,64}$/)
    expect(spaced).toBe('docs__read')
    const events = read([[{ functionCall: { name: long } }, { functionCall: { name: spaced } }]], written)
    expect(events.filter((event) => event.type === 'call')).toMatchObject([
      { name, namespace: undefined },
      { name: 'read', namespace: 'docs' },
    ])
  })

  it('have names that begin with a letter or an underscore', () => {
    const tools = ['2fa', '-x', '_ok', 'ok', ''].map((name) => tool(name))
    const written = write({ tools })
    const names = [...JSON.stringify(written.body.tools).matchAll(/"name":"([^"]*)"/g)].map(
      ([, name]) => name ?? '',
    )
    expect(names).toHaveLength(5)
    for (const name of names) expect(name).toMatch(/^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$/)
    expect(names.slice(2, 4)).toEqual(['_ok', 'ok'])
    expect(names.map((name) => written.names.get(name)?.name ?? name)).toEqual(['2fa', '-x', '_ok', 'ok', ''])
  })

  it('of a tool of free text take and give that text', () => {
    const custom = tool('apply_patch', {
      kind: 'custom',
      description: 'Patches.',
      grammar: { syntax: 'lark', definition: 'start: "a"' },
    })
    const written = write({
      tools: [custom],
      messages: [
        user('Go'),
        assistant(call('c', { kind: 'custom', name: 'apply_patch', arguments: 'a "b"' })),
        result('c', 'ok'),
      ],
    })
    expect(written.body.tools).toEqual([
      {
        functionDeclarations: [
          {
            name: 'apply_patch',
            description: expect.stringContaining('start: "a"'),
            parametersJsonSchema: expect.objectContaining({ required: ['input'] }),
          },
        ],
      },
    ])
    expect(modelParts(written)).toMatchObject([
      { functionCall: { name: 'apply_patch', args: { input: 'a "b"' } } },
    ])
    const events = read([[{ functionCall: { name: 'apply_patch', args: { input: 'x\ny' } } }]], written)
    expect(events).toContainEqual({ type: 'arguments', choice: 0, call: 0, text: 'x\ny' })
    expect(events).toContainEqual(expect.objectContaining({ type: 'call', kind: 'custom' }))
  })
})

describe('thought signatures', () => {
  const history = (...content: readonly (string | Part)[]): ChatRequest['messages'] => [
    user('Go'),
    assistant(...content),
    result('a', '1'),
    result('b', '2'),
  ]

  it('go back on the part that they came on (32)', () => {
    const sealed = { origin: 'gemini', value: 'c2ln' }
    const written = write({ messages: history('Both.', call('a', { sealed }), call('b')) })
    expect(modelParts(written)).toEqual([
      { text: 'Both.' },
      { functionCall: { id: 'a', name: 'get_weather', args: { city: 'Paris' } }, thoughtSignature: 'c2ln' },
      { functionCall: { id: 'b', name: 'get_weather', args: { city: 'Paris' } } },
    ])
  })

  it('of a text stand on that text again, and one that stands alone stands alone (32)', () => {
    expect(
      modelParts(write({ messages: [user('Go'), assistant('Four.', thought('', 'gemini')), user('Why?')] })),
    ).toEqual([{ text: 'Four.', thoughtSignature: 'c2lnbmVk' }])
    expect(
      modelParts(write({ messages: [user('Go'), assistant(thought('', 'gemini')), user('Why?')] })),
    ).toEqual([{ text: '', thoughtSignature: 'c2lnbmVk' }])
  })

  it('of a thought go back with it, and that of a thought without words to the call behind it (32)', () => {
    expect(
      modelParts(write({ messages: history(thought('Hm.', 'gemini'), call('a'), call('b')) }, GEMINI_2_5)),
    ).toMatchObject([
      { text: 'Hm.', thought: true, thoughtSignature: 'c2lnbmVk' },
      { functionCall: { id: 'a' } },
      { functionCall: { id: 'b' } },
    ])
    expect(
      modelParts(write({ messages: history(thought('', 'gemini'), call('a'), call('b')) })),
    ).toMatchObject([
      { functionCall: { id: 'a' }, thoughtSignature: 'c2lnbmVk' },
      { functionCall: { id: 'b' } },
    ])
  })

  it('of another format are left out, and the first call says that it has none', () => {
    const sealed = { origin: 'anthropic', value: 'x' }
    const parts = modelParts(
      write({ messages: history(thought('Hm.', 'anthropic'), call('a', { sealed }), call('b')) }),
    )
    expect(parts).toEqual([
      { functionCall: expect.objectContaining({ id: 'a' }), thoughtSignature: SKIP },
      { functionCall: expect.objectContaining({ id: 'b' }) },
    ])
  })

  it('are wanted by newer models only', () => {
    const parts = modelParts(write({ messages: history(call('a'), call('b')) }, GEMINI_2_5))
    expect(JSON.stringify(parts)).not.toContain('thoughtSignature')
  })

  it('of the Gemini API are not taken for those of Vertex, where calls have no ids', () => {
    const sealed = { origin: 'gemini', value: 'c2ln' }
    const messages = history(call('a', { sealed }), call('b', { arguments: '' }))
    const { body } = vertexChat.write(chatRequest({ messages }), GEMINI_3)
    expect(body.contents).toMatchObject([
      { role: 'user' },
      {
        parts: [
          { functionCall: { name: 'get_weather', args: { city: 'Paris' } }, thoughtSignature: SKIP },
          { functionCall: { name: 'get_weather', args: {} } },
        ],
      },
      { role: 'user' },
    ])
    expect(JSON.stringify(body)).not.toContain('"id"')
  })
})

describe('a conversation', () => {
  const contentsOf = (messages: ChatRequest['messages'], asked = GEMINI_3): unknown =>
    write({ messages }, asked).body.contents

  it('answers every call once, in the turn behind it, in the order of the calls (26, 28)', () => {
    const contents = contentsOf([
      user('Go'),
      assistant(call('a'), call('b')),
      result('b', 'first'),
      user('Meanwhile'),
      result('b', 'second'),
      result('unknown', 'stray'),
    ])
    expect(contents).toEqual([
      { role: 'user', parts: [{ text: 'Go' }] },
      { role: 'model', parts: [expect.anything(), expect.anything()] },
      {
        role: 'user',
        parts: [
          {
            functionResponse: {
              id: 'a',
              name: 'get_weather',
              response: { error: 'There is no result of this call.' },
            },
          },
          { functionResponse: { id: 'b', name: 'get_weather', response: { result: 'second' } } },
          { text: 'Meanwhile' },
          { text: 'Result of a call that is not in this conversation (unknown):' },
          { text: 'stray' },
        ],
      },
    ])
  })

  it('keeps two calls of one id apart', () => {
    const contents = contentsOf([
      user('Go'),
      assistant(call('a'), call('a')),
      result('a', '1'),
      result('a', '2'),
    ])
    expect(contents).toMatchObject([
      {},
      {},
      {
        parts: [
          { functionResponse: { response: { result: '1' } } },
          { functionResponse: { response: { result: '2' } } },
        ],
      },
    ])
  })

  it('begins with its user, and says something', () => {
    expect(contentsOf([assistant('Hello.'), user('Hi')])).toMatchObject([
      { role: 'user', parts: [{ text: ' ' }] },
      { role: 'model' },
      { role: 'user' },
    ])
    const alone = write({ messages: [{ role: 'system', content: [{ type: 'text', text: 'Begin.' }] }] })
    expect(alone.body).toEqual({
      contents: [{ role: 'user', parts: [{ text: 'Begin.' }] }],
      generationConfig: {},
    })
  })

  it('has no instruction that says nothing', () => {
    const blank = { role: 'system', content: [{ type: 'text', text: ' ' }] } as const
    expect(contentsOf([user('A'), blank, user('B')])).toEqual([
      { role: 'user', parts: [{ text: 'A' }, { text: 'B' }] },
    ])
  })

  it('has no empty parts, and no two turns of one role', () => {
    expect(contentsOf([user('A'), user(''), assistant(''), user('B')])).toEqual([
      { role: 'user', parts: [{ text: 'A' }, { text: 'B' }] },
    ])
  })

  it('shows images of a result where the model takes them', () => {
    const image = {
      type: 'image',
      source: { kind: 'base64', mediaType: 'image/png', base64: 'iVBO' },
      detail: undefined,
    } as const
    const messages = [user('Go'), assistant(call('a')), result('a', 'Here:', image)]
    const inlineData = { mimeType: 'image/png', data: 'iVBO' }
    expect(contentsOf(messages)).toMatchObject([
      {},
      {},
      { parts: [{ functionResponse: { parts: [{ inlineData }] } }] },
    ])
    expect(contentsOf(messages, GEMINI_2_5)).toMatchObject([
      {},
      {},
      { parts: [{ functionResponse: { response: { result: 'Here:' } } }, { inlineData }] },
    ])
  })

  it('has its instructions in front where the model has no place for them', () => {
    const messages = [{ role: 'system', content: [{ type: 'text', text: 'Be brief.' }] } as const, user('Hi')]
    const { body } = write({ messages }, { ...GEMINI_3, model: 'gemma-3-27b-it' })
    expect(body).toEqual({
      contents: [{ role: 'user', parts: [{ text: 'Be brief.' }, { text: 'Hi' }] }],
      generationConfig: {},
    })
  })
})

describe('a request', () => {
  it('has no choice of tools where there are none (29)', () => {
    expect(write({ toolChoice: { type: 'required' } }).body).not.toHaveProperty('toolConfig')
  })

  it('is capped by the policy, thinking included', () => {
    const asked = { ...GEMINI_3, maxOutputTokens: 100 }
    expect(write({ maxOutputTokens: 500 }, asked).body.generationConfig).toEqual({ maxOutputTokens: 100 })
    expect(write({ maxOutputTokens: 50 }, asked).body.generationConfig).toEqual({ maxOutputTokens: 50 })
    expect(write({}, asked).body.generationConfig).toEqual({ maxOutputTokens: 100 })
  })

  it('thinks as many tokens as were asked for, as far as the model can', () => {
    const budget = (budgetTokens: number, model: string): unknown =>
      write({ reasoning: { effort: undefined, budgetTokens, summary: undefined } }, { ...GEMINI_3, model })
        .body.generationConfig
    expect(budget(5000, 'gemini-2.5-pro')).toMatchObject({ thinkingConfig: { thinkingBudget: 5000 } })
    expect(budget(99_999, 'gemini-2.5-pro')).toMatchObject({ thinkingConfig: { thinkingBudget: 32_768 } })
    expect(budget(100, 'gemini-2.5-flash-lite')).toMatchObject({ thinkingConfig: { thinkingBudget: 512 } })
    expect(budget(5000, 'gemini-3.1-pro-preview')).toMatchObject({
      thinkingConfig: { thinkingLevel: 'MEDIUM' },
    })
    expect(budget(5000, 'gemini-2.0-flash')).toEqual({})
  })

  it.each<readonly [param: string, over: Partial<ChatRequest>]>([
    ['stop', { stop: ['1', '2', '3', '4', '5', '6'] }],
    ['modalities', { extra: { modalities: ['text', 'audio'] } }],
    ['audio', { extra: { audio: { voice: 'alloy' } } }],
    [
      'messages',
      { messages: [user({ type: 'file', name: undefined, source: { kind: 'file', id: 'file-abc' } })] },
    ],
  ])('that cannot be carried is refused, naming %s', (param, over) => {
    expect(() => write(over)).toThrow(expect.objectContaining({ code: 'invalid_request', param }))
  })

  it('may name a file that the provider keeps', () => {
    const source = { kind: 'file', id: 'https://generativelanguage.googleapis.com/v1beta/files/a1' } as const
    expect(write({ messages: [user({ type: 'file', name: undefined, source })] }).body.contents).toEqual([
      { role: 'user', parts: [{ fileData: { fileUri: source.id } }] },
    ])
  })
})

describe('vectors', () => {
  const { embeddings } = gemini.provider
  if (embeddings === undefined) throw new Error('gemini makes no vectors')
  const asked = { ...GEMINI_3, model: 'gemini-embedding-2' }

  it('are asked for in one batch', () => {
    const content = (text: string): object => ({
      model: 'models/gemini-embedding-2',
      content: { parts: [{ text }] },
    })
    expect(embeddings.write({ model: 'm', input: 'one', user: 'u' }, asked)).toEqual({
      body: { requests: [content('one')] },
      headers: [],
      dropped: ['user'],
      names: new Map(),
    })
    expect(
      embeddings.write(
        { model: 'm', input: ['one', 'two'], dimensions: 768, encoding_format: 'base64' },
        asked,
      ),
    ).toMatchObject({
      body: { requests: ['one', 'two'].map((text) => ({ ...content(text), outputDimensionality: 768 })) },
      dropped: [],
    })
  })

  it.each([[[1, 2, 3]], [[[1, 2], [3]]], [[]], [undefined], [[{ text: 'a' }]]])(
    'of %j are refused',
    (input) => {
      expect(() => embeddings.write({ input }, asked)).toThrow(
        expect.objectContaining({ code: 'invalid_request', param: 'input' }),
      )
    },
  )

  it('are read as OpenAI gives them', () => {
    const body = { embeddings: [{ values: [0.5] }, { values: [1] }], usageMetadata: { promptTokenCount: 12 } }
    const two = embeddings.write({ model: 'm', input: ['one', 'two'] }, asked)
    const reply = embeddings.read(Buffer.from(JSON.stringify(body)), asked, two)
    expect(schemaFaults('CreateEmbeddingResponse', reply)).toEqual([])
    expect(reply).toEqual({
      object: 'list',
      data: [
        { object: 'embedding', index: 0, embedding: [0.5] },
        { object: 'embedding', index: 1, embedding: [1] },
      ],
      model: 'gemini-embedding-2',
      usage: { prompt_tokens: 12, total_tokens: 12 },
    })
    const one = embeddings.write({ model: 'm', input: 'one' }, asked)
    for (const list of [
      '[{"no":1}]',
      '[{"values":[]}]',
      '[{"values":["0.5"]}]',
      '[{"values":[1]},{"values":[1]}]',
      '[]',
    ])
      expect(() => embeddings.read(Buffer.from(`{"embeddings":${list}}`), asked, one)).toThrow()
  })
})

describe('a path', () => {
  const path = (model: string, stream = false): string =>
    gemini.provider.path('chat', { model, stream, maxOutputTokens: undefined, options: {} })

  it('names the model and the method', () => {
    expect(path('gemini-3-flash')).toBe('/models/gemini-3-flash:generateContent')
    expect(path('gemini-3-flash', true)).toBe('/models/gemini-3-flash:streamGenerateContent?alt=sse')
    expect(path('models/gemini-3-flash')).toBe('/models/gemini-3-flash:generateContent')
    expect(path('tunedModels/mine-1')).toBe('/tunedModels/mine-1:generateContent')
    expect(
      gemini.provider.path('embeddings', {
        model: 'gemini-embedding-2',
        stream: false,
        maxOutputTokens: undefined,
        options: {},
      }),
    ).toBe('/models/gemini-embedding-2:batchEmbedContents')
  })

  it('leads nowhere else, whatever a caller calls a model', () => {
    expect(path('../files/x?key=1#')).toBe('/models/..%2Ffiles%2Fx%3Fkey%3D1%23:generateContent')
    expect(path('models/..')).toBe('/models/%2E%2E:generateContent')
  })

  it('of Vertex names the project and the region', () => {
    const asked = { model: 'gemini-3-flash', stream: true, maxOutputTokens: undefined }
    expect(
      vertex.provider.path('chat', { ...asked, options: { project: 'p-1', region: 'europe-west4' } }),
    ).toBe(
      '/projects/p-1/locations/europe-west4/publishers/google/models/gemini-3-flash:streamGenerateContent?alt=sse',
    )
    expect(vertex.provider.path('chat', { ...asked, options: { project: 'p-1' } })).toContain(
      '/locations/global/',
    )
    expect(vertex.provider.path('chat', { ...asked, options: {} })).toBe(
      '/publishers/google/models/gemini-3-flash:streamGenerateContent?alt=sse',
    )
  })
})

describe('a credential', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const account = JSON.stringify({
    type: 'service_account',
    project_id: 'p-1',
    private_key_id: 'k1',
    private_key: pem,
    client_email: 'sluice@p-1.iam.gserviceaccount.com',
  })
  const nowMs = Date.parse('2026-11-26T04:05:06Z')
  const sign = (key: string, at = nowMs): readonly string[] =>
    vertex.provider.sign?.({
      method: 'POST',
      url: 'https://x/',
      headers: [],
      body: Buffer.alloc(0),
      key,
      nowMs: at,
      options: {},
    }) ?? []

  it('is sent as its service wants it', () => {
    expect(gemini.provider.credential('AIzaSyExample')).toEqual(['x-goog-api-key', 'AIzaSyExample'])
    expect(sign('AQ.Ab8express')).toEqual(['x-goog-api-key', 'AQ.Ab8express'])
    expect(sign('ya29.c.token')).toEqual(['authorization', 'Bearer ya29.c.token'])
  })

  it('of a service account is a token that it has signed for itself', () => {
    const [name, value = ''] = sign(account)
    expect(name).toBe('authorization')
    const [head = '', claims = '', signature = ''] = value.replace('Bearer ', '').split('.')
    const signed = Buffer.from(`${head}.${claims}`)
    expect(verify('sha256', signed, publicKey, Buffer.from(signature, 'base64url'))).toBe(true)
    const read = (part: string): Record<string, unknown> =>
      JSON.parse(Buffer.from(part, 'base64url').toString())
    const payload = read(claims)
    expect(read(head)).toEqual({ alg: 'RS256', typ: 'JWT', kid: 'k1' })
    expect(payload).toMatchObject({
      iss: 'sluice@p-1.iam.gserviceaccount.com',
      sub: 'sluice@p-1.iam.gserviceaccount.com',
      scope: 'https://www.googleapis.com/auth/cloud-platform',
    })
    const [iat, exp] = [Number(payload.iat), Number(payload.exp)]
    expect(exp - iat).toBe(3600)
    // However late in its step, with half an hour to go.
    expect(exp * 1000 - nowMs).toBeGreaterThan(1_800_000)
    expect(iat * 1000).toBeLessThan(nowMs)
  })

  it('of a service account is the same for minutes, and another later', () => {
    expect(sign(account, nowMs + 60_000)).toEqual(sign(account))
    expect(sign(account, nowMs + 600_000)).not.toEqual(sign(account))
  })

  it('of a service account whose key is none is refused by whoever is asked', () => {
    const broken = JSON.stringify({ ...JSON.parse(account), private_key: 'no key' })
    expect(sign(broken)).toEqual(['authorization', expect.stringMatching(/^Bearer .*\.unsigned$/)])
  })

  it('is known with the secret inside of it', () => {
    expect(vertex.provider.secretParts?.(account)).toEqual([pem])
    expect(vertex.provider.secretParts?.('ya29.c.token')).toEqual([])
    expect(vertex.provider.secretParts?.('{"type":"authorized_user"}')).toEqual([])
  })
})

it('an event that cannot be read is no answer at all', () => {
  const reader = chat.events(write({}))
  expect(() =>
    reader.read({ data: '{"candidates":[{"con', bytes: Buffer.alloc(0), event: undefined }),
  ).toThrow()
  expect(gemini.provider.watch().look('{"candidates":[{"con').malformed).toBe(true)
  expect(reader.read({ data: undefined, bytes: Buffer.from(': hi\n\n'), event: undefined })).toEqual([])
})
