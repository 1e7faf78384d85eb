// Responses for callers whose model is behind another format, and to providers of Responses for callers of another: what
// is asked, what is answered, whole and in events. Held against OpenAI's description of its API and its own SDK.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import OpenAI, { APIError } from 'openai'
import { describe, expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import type {
  CallPart,
  ChatEvent,
  ChatReply,
  ChatRequest,
  Finish,
  Part,
} from '../../../src/formats/canonical.ts'
import type { Asked, ToldError } from '../../../src/formats/format.ts'
import { responses } from '../../../src/formats/responses.ts'
import { createAnswerTo, toEvents, toReply, USED } from '../../support/answers.ts'
import { toModelRequest, toSentBytes } from '../../support/model-request.ts'
import { schemaFaults } from '../../support/openai-schema.ts'
import { assembleResponse } from '../../support/responses-stream.ts'
import { parseSse } from '../../support/sse.ts'

const FOLDER = join(import.meta.dirname, '../../golden/responses')
const { client, provider } = responses
const chat = provider.chat
if (chat === undefined) throw new Error('nothing is written to the provider')

type Members = Record<string, unknown>

const ASKED: Asked = { model: 'gpt-5.1-2025-11-13', maxOutputTokens: undefined, options: {} }

function golden(name: string, kind: 'request' | 'chat'): Members {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.${kind}.json`), 'utf8'))
}

/** Without members that are undefined. */
function plain<T>(value: T): T {
  return JSON.parse(JSON.stringify(value))
}

const read = (sent: Members) => client.chat.read(sent)
const write = (request: ChatRequest, asked = ASKED) => chat.write(request, asked)

function refusal(run: () => unknown): { param: string | undefined; message: string } {
  try {
    run()
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'invalid_request')
      return { param: error.param, message: error.message }
    throw error
  }
  throw new Error('nothing was refused')
}

const NAMES = readdirSync(FOLDER).flatMap((file) => /^(.*)\.request\.json$/.exec(file)?.[1] ?? [])

describe('a recorded request', () => {
  it('is there for each kind', () => {
    expect(NAMES).toHaveLength(12)
  })

  it.each(NAMES)('%s is read as it is meant', (name) => {
    const sent = golden(name, 'request')
    expect(schemaFaults('CreateResponse', sent)).toEqual([])
    expect(plain(read(sent))).toEqual(golden(name, 'chat'))
  })

  it.each(NAMES)('%s can be asked of a provider, and means the same there', (name) => {
    const { request } = read(golden(name, 'request'))
    const written = write(request)
    const body = plain(written.body)
    expect(schemaFaults('CreateResponse', body)).toEqual([])
    expect(body).toMatchObject({ model: 'gpt-5.1-2025-11-13', store: false })
    const again = read(body).request
    const isForeign = name === 'foreign-seals'
    const expected = isForeign ? withoutSeals(request) : request
    // The writer gives tools one name; the reader of the answer gives them back their group.
    const toWire = (one: { name: string; namespace?: string | undefined }) =>
      one.namespace === undefined ? one.name : `${one.namespace}__${one.name}`
    expect(plain(again)).toEqual(
      plain({
        ...expected,
        messages: expected.messages.map((message) => {
          if (message.role !== 'assistant') return { ...message, content: joined(message.content) }
          const content = message.content.map((part) =>
            part.type === 'call'
              ? {
                  ...part,
                  name: toWire(part),
                  namespace: undefined,
                  // Nothing is no JSON.
                  arguments: part.arguments === '' ? '{}' : part.arguments,
                }
              : part,
          )
          return { ...message, content }
        }),
        tools: expected.tools.map((tool) => ({ ...tool, name: toWire(tool), namespace: undefined })),
      }),
    )
    for (const tool of request.tools.filter(({ namespace }) => namespace !== undefined))
      expect(written.names.get(toWire(tool))).toMatchObject({ name: tool.name, namespace: tool.namespace })
  })
})

function joined(content: readonly Part[]): readonly Part[] {
  if (content.length === 0 || !content.every(({ type }) => type === 'text')) return content
  return [{ type: 'text', text: content.map((part) => (part.type === 'text' ? part.text : '')).join('') }]
}

/** What only another provider can open is not shown to this one. */
function withoutSeals(request: ChatRequest): ChatRequest {
  const messages = request.messages.map((message) => {
    if (message.role !== 'assistant') return message
    const content = message.content
      .filter(({ type }) => type !== 'thinking')
      .map((part) => (part.type === 'call' ? { ...part, sealed: undefined } : part))
    return { ...message, content }
  })
  return { ...request, messages }
}

describe('a request that cannot be served', () => {
  it.each([
    ['previous_response_id', { previous_response_id: 'resp_1' }],
    ['conversation', { conversation: { id: 'conv_1' } }],
    ['background', { background: true }],
    ['prompt', { prompt: { id: 'pmpt_1' } }],
    ['input', { input: undefined }],
    ['input', { input: 7 }],
    ['input', { input: [] }],
    ['input[0]', { input: ['Hi'] }],
    ['input[0].type', { input: [{ type: 'item_reference', id: 'msg_1' }] }],
    ['input[0].type', { input: [{ type: 'compaction', id: 'cmp_1', encrypted_content: 'x' }] }],
    ['input[0].type', { input: [{ type: 'constructor' }] }],
    ['input[0].role', { input: [{ role: 'tool', content: 'x' }] }],
    ['input[0].content', { input: [{ role: 'user' }] }],
    [
      'input[0].content[1].type',
      { input: [{ role: 'user', content: [{ type: 'input_text', text: 'a' }, { type: 'input_video' }] }] },
    ],
    [
      'input[0].content[0].image_url',
      { input: [{ role: 'user', content: [{ type: 'input_image', detail: 'low' }] }] },
    ],
    ['input[0].call_id', { input: [{ type: 'function_call', name: 'a', arguments: '{}' }] }],
    [
      'input[0].output[0].type',
      { input: [{ type: 'function_call_output', call_id: 'a', output: [{ type: 'x' }] }] },
    ],
    ['tools[0].name', { tools: [{ type: 'function' }] }],
    [
      'tools[0].tools[0].parameters',
      { tools: [{ type: 'namespace', name: 'n', tools: [{ type: 'function', name: 'a', parameters: [] }] }] },
    ],
    ['tool_choice', { tool_choice: 'maybe' }],
    ['tool_choice', { tools: [{ type: 'web_search' }], tool_choice: { type: 'web_search' } }],
    ['tool_choice.name', { tool_choice: { type: 'function', name: 'absent' } }],
    [
      'tool_choice.tools[0].name',
      { tool_choice: { type: 'allowed_tools', mode: 'auto', tools: [{ type: 'function', name: 'absent' }] } },
    ],
    ['text.format.type', { text: { format: { type: 'grammar' } } }],
    ['text.format.schema', { text: { format: { type: 'json_schema', name: 'a' } } }],
    ['max_output_tokens', { max_output_tokens: 1.5 }],
    ['temperature', { temperature: '1' }],
    ['metadata.a', { metadata: { a: 1 } }],
    ['parallel_tool_calls', { tools: [{ type: 'function', name: 'a' }], parallel_tool_calls: 'no' }],
  ])('is refused by the name of its field: %s', (param, over) => {
    const refused = refusal(() => read({ model: 'm', input: 'Hi', ...over }))
    expect(refused.param).toBe(param)
    expect(refused.message).toContain(param)
  })

  it('is not one for references that can be missed: to a thought, and to what was said before a call', () => {
    const reference = (id: string) => ({ type: 'item_reference', id })
    const call = { type: 'function_call', call_id: 'call_1', name: 'a', arguments: '{}' }
    const result = { type: 'function_call_output', call_id: 'call_1', output: 'x' }
    const user = { role: 'user', content: 'Hi' }
    const asked = (...input: object[]) => read({ model: 'm', input })
    const { request, dropped } = asked(user, reference('rs_1'), reference('msg_1'), call, result)
    expect(dropped).toEqual(['input.item_reference'])
    expect(request.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool'])
    expect(asked(user, reference('rs_1'), { role: 'assistant', content: 'Hi' }, user).dropped).toEqual([
      'input.item_reference',
    ])
    // An answer that a later question stands on cannot be missed.
    for (const rest of [[user], [result, user], []]) {
      const refused = refusal(() => asked(user, reference('msg_1'), ...rest))
      expect(refused).toMatchObject({ param: 'input[1].type', message: /"store": false/ })
    }
  })

  it('is not one for what is null, or says what is so anyway', () => {
    const sent = {
      model: 'm',
      input: 'Hi',
      previous_response_id: null,
      conversation: null,
      background: false,
      prompt: null,
      truncation: 'disabled',
      tools: [],
      include: [],
      tool_choice: 'required',
      parallel_tool_calls: true,
    }
    const { request, dropped } = read(sent)
    expect(dropped).toEqual([])
    expect(request).toMatchObject({ tools: [], toolChoice: undefined, parallelToolCalls: undefined })
  })

  it('is told by the fields that the gateway looks at without reading the body', () => {
    const refused = client.fields.refused ?? []
    expect(refused.map(([name]) => name)).toEqual(['background'])
    const [background] = refused
    expect(background?.[1].test('false')).toBe(true)
    expect(background?.[1].test('true')).toBe(false)
    const harmless = (name: string, value: string) =>
      client.fields.beyondText.find(([one]) => one === name)?.[1].test(value)
    expect(harmless('text', '{"verbosity":"low"}')).toBe(true)
    expect(harmless('text', '{"format":{"type":"text"},"verbosity":"low"}')).toBe(true)
    expect(harmless('text', '{"format":{"type":"json_schema","name":"a","schema":{}}}')).toBe(false)
    expect(harmless('include', '["reasoning.encrypted_content"]')).toBe(true)
    expect(harmless('include', '["message.output_text.logprobs"]')).toBe(false)
  })
})

describe('a request to a provider of Responses', () => {
  const request = read({ model: 'm', input: 'Hi' }).request

  it('says what it leaves out, and refuses what changes the answer', () => {
    const asked: ChatRequest = {
      ...request,
      topK: 4,
      seed: 7,
      presencePenalty: 1,
      frequencyPenalty: 1,
      extra: { logit_bias: { 5: 1 } },
    }
    expect(write(asked).dropped).toEqual([
      'top_k',
      'seed',
      'presence_penalty',
      'frequency_penalty',
      'logit_bias',
    ])
    expect(refusal(() => write({ ...request, stop: ['\n'] })).param).toBe('stop')
    expect(refusal(() => write({ ...request, choices: 2 })).param).toBe('n')
    expect(refusal(() => write({ ...request, extra: { modalities: ['text', 'audio'] } })).param).toBe(
      'modalities',
    )
    const audio: Part = { type: 'audio', base64: 'UklGRg==', format: 'wav' }
    const heard: ChatRequest = { ...request, messages: [{ role: 'user', content: [audio], name: undefined }] }
    expect(refusal(() => write(heard)).param).toBe('messages[0].content')
  })

  it('caps the output at the smaller of both caps, and never asks for less than is taken', () => {
    const cap = (own: number | undefined, policy: number | undefined) =>
      write({ ...request, maxOutputTokens: own }, { ...ASKED, maxOutputTokens: policy }).body
        .max_output_tokens
    expect(cap(undefined, undefined)).toBeUndefined()
    expect(cap(100, undefined)).toBe(100)
    expect(cap(100, 50)).toBe(50)
    expect(cap(undefined, 50)).toBe(50)
    expect(cap(1, undefined)).toBe(16)
    expect(cap(1, 8)).toBe(8)
  })

  it('asks for sealed thoughts only of a model that thinks', () => {
    expect(write(request).body.include).toBeUndefined()
    const thinks: ChatRequest = {
      ...request,
      reasoning: { effort: undefined, budgetTokens: 4096, summary: undefined },
    }
    expect(write(thinks).body).toMatchObject({
      include: ['reasoning.encrypted_content'],
      reasoning: { effort: 'medium' },
    })
  })

  it('says that a tool failed, and asks for no strict schema that nobody meant', () => {
    const failed: ChatRequest = {
      ...request,
      tools: [
        {
          kind: 'function',
          name: 'a',
          namespace: undefined,
          description: undefined,
          parameters: undefined,
          strict: undefined,
          grammar: undefined,
          cache: undefined,
        },
      ],
      messages: [
        { role: 'assistant', content: [call({ id: 'call_1' })] },
        {
          role: 'tool',
          callId: 'call_1',
          content: [{ type: 'text', text: 'No such file.' }],
          isError: true,
          cache: undefined,
        },
      ],
    }
    expect(write(failed).body).toMatchObject({
      tools: [{ type: 'function', strict: false, parameters: { type: 'object', properties: {} } }],
      input: [
        { type: 'function_call', call_id: 'call_1' },
        { type: 'function_call_output', call_id: 'call_1', output: 'Error: No such file.' },
      ],
    })
  })
})

// --- answers ---

const call = (over: Partial<CallPart> = {}): CallPart => ({
  type: 'call',
  kind: 'function',
  id: 'call_A1',
  name: 'get_weather',
  namespace: undefined,
  arguments: '{"location":"Paris"}',
  sealed: undefined,
  ...over,
})
const text = (said: string): Part => ({ type: 'text', text: said })

const SENT = golden('codex', 'request')
const answerTo = (sent: Members = SENT) => createAnswerTo(sent, read(sent).request)

function stream(events: readonly ChatEvent[], sent: Members = SENT): string {
  const writer = client.chat.events(answerTo(sent))
  return events.map((event) => writer.write(event)).join('') + writer.end()
}

function whole(reply: ChatReply, sent: Members = SENT): Members {
  return plain(client.chat.write(reply, answerTo(sent))) as Members
}

const ANSWERS: Readonly<Record<string, readonly [content: readonly Part[], finish: Finish]>> = {
  plain: [[text('Hello there 👋')], 'stop'],
  nothing: [[], 'stop'],
  refusal: [[{ type: 'refusal', text: 'No.' }], 'stop'],
  'text and refusal': [[text('Well, '), { type: 'refusal', text: 'no.' }, text(' Sorry.')], 'stop'],
  'one call': [[call()], 'tool_calls'],
  'a call without arguments': [[text('I look.'), call({ arguments: '' })], 'tool_calls'],
  'parallel calls': [[call(), call({ id: 'call_B2', arguments: '{"location":"Bogotá"}' })], 'tool_calls'],
  'a custom call': [
    [call({ kind: 'custom', name: 'apply_patch', arguments: '*** Begin Patch\n+"\n' })],
    'tool_calls',
  ],
  'a call in a group': [[call({ name: 'search', namespace: 'mcp__docs' })], 'tool_calls'],
  'a call whose id is missing': [[call({ id: '' })], 'tool_calls'],
  thoughts: [
    [
      {
        type: 'thinking',
        text: 'A greeting.',
        sealed: { origin: 'anthropic', value: 'EqQB==' },
        isRedacted: false,
      },
      { type: 'thinking', text: '', sealed: { origin: 'anthropic', value: 'EmwK' }, isRedacted: true },
      text('Hi.'),
    ],
    'stop',
  ],
  'a sealed call': [[call({ sealed: { origin: 'gemini', value: 'CiQB' } })], 'tool_calls'],
  'text behind a call': [[text('One.'), call(), text('Two.')], 'tool_calls'],
  'cut off': [[text('Once upon a')], 'length'],
  'cut off in a call': [[text('I look.'), call({ arguments: '{"loca' })], 'length'],
  filtered: [[text('Well')], 'content_filter'],
  'filtered at once': [[], 'content_filter'],
}

/** Ids are given in the order of writing, which differs between whole and streamed. */
function withoutIds(output: unknown): unknown {
  const items: unknown = plain(output)
  return Array.isArray(items)
    ? items.map((item: Members) => ({
        ...item,
        id: '',
        ...('call_id' in item && /^call_\d+$/.test(String(item.call_id)) && { call_id: '' }),
      }))
    : items
}

describe('an answer', () => {
  it.each(Object.entries(ANSWERS))('%s is a response as OpenAI describes it', (_, [content, finish]) => {
    const response = whole(toReply(content, finish))
    expect(schemaFaults('Response', response)).toEqual([])
    const isWhole = finish === 'stop' || finish === 'tool_calls'
    expect(response).toMatchObject({
      object: 'response',
      status: isWhole ? 'completed' : 'incomplete',
      error: null,
      model: 'some-model',
      created_at: 1_760_000_000,
      store: false,
    })
    expect(response.incomplete_details).toEqual(
      isWhole ? null : { reason: finish === 'length' ? 'max_output_tokens' : 'content_filter' },
    )
    expect(response.id).toMatch(/^resp_/)
  })

  it.each(Object.entries(ANSWERS))('%s is the same in events', (_, [content, finish]) => {
    const reply = toReply(content, finish)
    const { response, output } = assembleResponse(stream(toEvents(reply)))
    expect(withoutIds(output)).toEqual(withoutIds(whole(reply).output))
    const { id: _id, output: _output, ...rest } = response
    const { id: _otherId, output: _otherOutput, ...expected } = whole(reply)
    expect(rest).toEqual(expected)
  })

  it('has all details of what it used, and repeats what was asked', () => {
    const response = whole(toReply([text('Hi')], 'stop'))
    expect(response.usage).toEqual({
      input_tokens: 30,
      input_tokens_details: { cached_tokens: 12, cache_write_tokens: 3 },
      output_tokens: 9,
      output_tokens_details: { reasoning_tokens: 4 },
      total_tokens: 39,
    })
    expect(response).toMatchObject({
      tool_choice: 'auto',
      parallel_tool_calls: true,
      reasoning: { effort: 'high', summary: 'auto' },
      prompt_cache_key: '0199a2',
      text: { verbosity: 'low', format: { type: 'text' } },
      previous_response_id: null,
      metadata: {},
    })
    expect(response.tools).toMatchObject([
      { name: 'exec_command' },
      { name: 'mcp__docs', tools: [{}, {}] },
      {},
      {},
    ])
    expect(whole({ ...toReply([text('Hi')], 'stop'), usage: undefined })).not.toHaveProperty('usage')
  })

  it('keeps the id that a provider of the same API gave, and the model asked for where none is told', () => {
    const reply = { ...toReply([text('Hi')], 'stop'), id: 'resp_68a1', model: '' }
    expect(whole(reply)).toMatchObject({ id: 'resp_68a1', model: 'gpt-5.1-codex' })
  })

  it('tells the probabilities that were asked for', () => {
    const token = {
      token: 'Hi',
      logprob: -0.1,
      bytes: [72, 105],
      top_logprobs: [{ token: 'Hi', logprob: -0.1, bytes: null }],
    }
    const told = {
      token: 'Hi',
      logprob: -0.1,
      bytes: [72, 105],
      top_logprobs: [{ token: 'Hi', logprob: -0.1, bytes: [] }],
    }
    const reply = toReply([text('Hi')], 'stop')
    const [choice] = reply.choices
    const withLogprobs = {
      ...reply,
      choices: choice === undefined ? [] : [{ ...choice, logprobs: { content: [token], refusal: null } }],
    }
    expect(whole(withLogprobs).output).toMatchObject([{ content: [{ logprobs: [told] }] }])
    const events = toEvents(reply)
    const at = events.findLastIndex(({ type }) => type === 'text')
    events.splice(at + 1, 0, { type: 'logprobs', choice: 0, logprobs: { content: [token], refusal: null } })
    expect(assembleResponse(stream(events)).output).toMatchObject([{ content: [{ logprobs: [told] }] }])
  })
})

describe('the events of an answer', () => {
  it('are told as they come, each item from its beginning to its end', () => {
    const writer = client.chat.events(answerTo())
    const types = (frames: string) => parseSse(frames).map(({ event }) => event.replace('response.', ''))
    const start: ChatEvent = {
      type: 'start',
      id: 'x',
      model: 'm',
      createdSeconds: undefined,
      usage: undefined,
    }
    expect(types(writer.write(start))).toEqual(['created', 'in_progress'])
    expect(types(writer.write({ type: 'thinking', choice: 0, text: 'Hm' }))).toEqual([
      'output_item.added',
      'reasoning_summary_part.added',
      'reasoning_summary_text.delta',
    ])
    expect(types(writer.write({ type: 'text', choice: 0, text: 'Hi' }))).toEqual([
      'reasoning_summary_text.done',
      'reasoning_summary_part.done',
      'output_item.done',
      'output_item.added',
      'content_part.added',
      'output_text.delta',
    ])
    const { type: _, ...called } = call()
    expect(types(writer.write({ ...called, type: 'call', choice: 0, call: 0 }))).toEqual([
      'output_text.done',
      'content_part.done',
      'output_item.done',
      'output_item.added',
    ])
    expect(types(writer.write({ type: 'arguments', choice: 0, call: 0, text: '{}' }))).toEqual([
      'function_call_arguments.delta',
    ])
    expect(
      types(writer.write({ type: 'finish', choice: 0, finish: 'tool_calls', stopSequence: undefined })),
    ).toEqual(['function_call_arguments.done', 'output_item.done'])
    expect(writer.write({ type: 'usage', usage: USED })).toBe('')
    expect(types(writer.end())).toEqual(['completed'])
  })

  it('end a call whose arguments are whole when another begins, and no other', () => {
    const writer = client.chat.events(answerTo())
    const { type: _, ...called } = call()
    const begin = (n: number): ChatEvent => ({
      ...called,
      type: 'call',
      choice: 0,
      call: n,
      id: `call_A${n}`,
    })
    const argue = (n: number, text: string): ChatEvent => ({ type: 'arguments', choice: 0, call: n, text })
    const done = (event: ChatEvent) =>
      parseSse(writer.write(event)).flatMap(({ event: name, data }) =>
        name === 'response.output_item.done' ? JSON.parse(data).item.call_id : [],
      )
    expect(done(begin(0))).toEqual([])
    expect(done(argue(0, '{"a":'))).toEqual([])
    expect(done(begin(1))).toEqual([])
    expect(done(argue(0, '1}'))).toEqual([])
    expect(done(argue(1, '{}'))).toEqual([])
    expect(done(begin(2))).toEqual(['call_A0', 'call_A1'])
    expect(done({ type: 'finish', choice: 0, finish: 'tool_calls', stopSequence: undefined })).toEqual([
      'call_A2',
    ])
  })

  it('keep a text whole into which thoughts fall (bug 44)', () => {
    const thinking = (said: string): ChatEvent => ({ type: 'thinking', choice: 0, text: said })
    const saying = (said: string): ChatEvent => ({ type: 'text', choice: 0, text: said })
    const start: ChatEvent = { type: 'start', id: '', model: 'm', createdSeconds: 1, usage: undefined }
    const end: ChatEvent = { type: 'finish', choice: 0, finish: 'stop', stopSequence: undefined }
    const { output } = assembleResponse(
      stream([start, saying('One '), thinking('a'), saying('two '), thinking('b'), saying('three.'), end]),
    )
    expect(output).toMatchObject([
      { type: 'message', content: [{ text: 'One two three.' }] },
      { type: 'reasoning', summary: [{ text: 'ab' }] },
    ])
  })

  it('have an end and no marker behind it, also where the provider told nothing but a finish', () => {
    const frames = stream([{ type: 'finish', choice: 0, finish: 'stop', stopSequence: undefined }])
    expect(frames).not.toContain('[DONE]')
    expect(assembleResponse(frames)).toMatchObject({
      output: [{ type: 'message', content: [{ type: 'output_text', text: '' }] }],
    })
  })

  it('are those of the first choice', () => {
    const [first] = toReply([text('One')], 'stop').choices
    const [second] = toReply([text('Two')], 'length').choices
    if (first === undefined || second === undefined) throw new Error('no choices')
    const reply = { ...toReply([], 'stop'), choices: [first, second] }
    expect(assembleResponse(stream(toEvents(reply)))).toMatchObject({
      response: { status: 'completed' },
      output: [{ content: [{ text: 'One' }] }],
    })
  })
})

describe('an error', () => {
  const told: ToldError = {
    status: 502,
    code: 'upstream_incomplete',
    type: 'server_error',
    message: 'The answer broke off.',
    param: null,
    requestId: 'req_1',
  }

  it('has the shape of its API', () => {
    expect(schemaFaults('ErrorResponse', client.error(told))).toEqual([])
    expect(client.status).toBeUndefined()
  })

  it('ends a stream as an event of its own, numbered behind the last (bug 5)', () => {
    const last =
      'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"\\"sequence_number\\":99","sequence_number":4}\n\n'
    const events = parseSse(client.errorEvent(told, last))
    expect(events.map(({ event }) => event)).toEqual(['error'])
    const event = JSON.parse(events[0]?.data ?? '')
    expect(schemaFaults('ResponseStreamEvent', event)).toEqual([])
    expect(event).toEqual({
      type: 'error',
      code: 'upstream_incomplete',
      message: 'The answer broke off.',
      param: null,
      sequence_number: 5,
    })
    const numberBehind = (text: string | undefined) =>
      JSON.parse(parseSse(client.errorEvent(told, text))[0]?.data ?? '').sequence_number
    expect(numberBehind('{"type":"response.created","sequence_number":0}')).toBe(1)
    expect(numberBehind('data: {"sequence_number":7}\r\n\r\ndata: {"sequence_number":8}\r\n\r\n')).toBe(9)
    expect(numberBehind(undefined)).toBe(0)
    expect(numberBehind(': nothing is numbered here')).toBe(0)
  })
})

describe("OpenAI's own SDK", () => {
  function sdk(body: string, type: string): OpenAI {
    const fetch = async () => new Response(body, { headers: { 'content-type': type } })
    return new OpenAI({ apiKey: 'x', baseURL: 'http://sluice/v1', maxRetries: 0, fetch })
  }
  const asked = { model: 'm', input: 'Hi' }

  it.each(Object.entries(ANSWERS))('reads %s out of the events', async (_, [content, finish]) => {
    const reply = toReply(content, finish)
    const deltas: string[] = []
    const events = sdk(stream(toEvents(reply)), 'text/event-stream').responses.stream(asked)
    events.on('response.output_text.delta', ({ delta }) => deltas.push(delta))
    const response = await events.finalResponse()
    const said = content.flatMap((part) => (part.type === 'text' ? part.text : [])).join('')
    expect(response.output_text).toBe(said)
    expect(deltas.join('')).toBe(said)
    expect(withoutIds(response.output.map(({ ...item }) => item))).toMatchObject(
      withoutIds(whole(reply).output) as object[],
    )
    expect(response.usage?.total_tokens).toBe(39)
  })

  it('reads a whole response', async () => {
    const body = JSON.stringify(whole(toReply([text('Hello '), call()], 'tool_calls')))
    const response = await sdk(body, 'application/json').responses.create(asked)
    expect(response).toMatchObject({ output_text: 'Hello ', status: 'completed' })
  })

  it('raises what ends a stream that broke', async () => {
    const writer = client.chat.events(answerTo())
    const frames = toEvents(toReply([text('Hello there')], 'stop'))
      .slice(0, 2)
      .map((event) => writer.write(event))
    const told: ToldError = {
      status: 502,
      code: 'upstream_incomplete',
      type: 'server_error',
      message: 'Broke off.',
      param: null,
      requestId: '',
    }
    const body = frames.join('') + client.errorEvent(told, frames.at(-1))
    const types: string[] = []
    const iterate = async () => {
      const events = await sdk(body, 'text/event-stream').responses.create({ ...asked, stream: true })
      for await (const { type } of events) types.push(type)
    }
    const error: unknown = await iterate().catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(APIError)
    expect(error).toMatchObject({ code: 'upstream_incomplete' })
    expect(types).not.toContain('response.completed')
  })
})

describe('bytes that pass untouched', () => {
  const MODEL = { model: 'gpt-5.1', maxOutputTokens: undefined, options: {} }

  it('are of a stream whose finish is told by its last event only', () => {
    const watch = provider.watch()
    const look = (event: object) => watch.look(JSON.stringify(event))
    expect(look({ type: 'response.output_item.added', item: { type: 'message' } }).content).toBe(false)
    expect(look({ type: 'response.output_text.delta', delta: '' }).content).toBe(false)
    expect(look({ type: 'response.output_text.delta', delta: 'Hi' }).content).toBe(true)
    expect(watch.finished).toBe(false)
    expect(watch.countedTokens).toBe(1)
    expect(watch.look('{"type"').malformed).toBe(true)
    expect(watch.look('[DONE]')).toMatchObject({ done: true })
    expect(watch.finished).toBe(false)
    expect(look({ type: 'response.completed', response: { output: [] } })).toMatchObject({
      done: true,
      content: true,
    })
    expect(watch.finished).toBe(true)
  })

  it('change where the model and the cap stand, and in no other place', () => {
    const sent = (text: string, maxOutputTokens: number | undefined) =>
      toSentBytes(provider, toModelRequest(text, 'responses'), { ...MODEL, model: 'real', maxOutputTokens })
    const text =
      '{ "model" : "m", "input":[{"role":"user","content":"\\u0048i"}],"unknown":1.0, "max_output_tokens":70 }'
    expect(sent(text, undefined)).toBe(text.replace('"m"', '"real"'))
    expect(sent(text, 100)).toBe(text.replace('"m"', '"real"'))
    expect(sent(text, 50)).toBe(text.replace('"m"', '"real"').replace('70', '50'))
    expect(sent(text.replace('70', 'null'), 50)).toBe(text.replace('"m"', '"real"').replace('70', '50'))
    expect(JSON.parse(sent('{"model":"m","input":"Hi","stream":true}', 50))).toEqual({
      model: 'real',
      input: 'Hi',
      stream: true,
      max_output_tokens: 50,
    })
  })

  it('lose the thoughts that another provider sealed, and nothing else', () => {
    const items = [
      { role: 'user', content: 'What is "sluice."?' },
      { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'sluice.thought.anthropic.EqQB' },
      { type: 'reasoning', id: 'rs_2', summary: [], encrypted_content: 'gAAAA' },
      { role: 'user', content: [{ type: 'input_text', text: 'sluice.thought.anthropic.EqQB' }] },
    ]
    const sent = (input: unknown) =>
      toSentBytes(provider, toModelRequest(JSON.stringify({ input, model: 'm' }), 'responses'), {
        ...MODEL,
        model: 'm',
      })
    expect(JSON.parse(sent(items))).toEqual({ input: items.filter((_, i) => i !== 1), model: 'm' })
    const others = items.filter((_, i) => i !== 1)
    expect(sent(others)).toBe(JSON.stringify({ input: others, model: 'm' }))
    expect(sent('sluice.thought')).toBe('{"input":"sluice.thought","model":"m"}')
    // Numbers of more digits than JavaScript has, and white space, stay as they were written.
    const spelled = (list: string) => `{"model":"m","input":[ ${list}]}`
    const foreign = JSON.stringify(items[1])
    const call = '{"type":"local_shell_call", "call_id":"c","action":{"pid":12345678901234567890}}'
    const asked = { ...MODEL, model: 'm' }
    const request = toModelRequest(spelled(`${foreign} , ${call}`), 'responses')
    expect(toSentBytes(provider, request, asked)).toBe(spelled(call))
  })

  it('go to the path of the API, with the key in its place', () => {
    expect(provider.path('chat', { ...MODEL, stream: true })).toBe('/responses')
    expect(provider.credential('sk-1')).toEqual(['authorization', 'Bearer sk-1'])
  })
})
