import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { createSimulated } from '../../../../src/upstream/in-process/simulated.ts'
import { AGENT_SCHEMAS } from './agent-schemas.ts'
import { type Asked, call } from './calls.ts'
import { createManualTime, WALL_MS } from './manual-time.ts'
import { addFormats } from './schema-checks.ts'
import { gather, gatherWhole, readEmbeddings, readError, readFrame, readStream, readWhole } from './wire.ts'

function setUp() {
  const time = createManualTime()
  const kind = createSimulated(time)
  return { ...time, ask: (asked: Asked) => call(kind, asked) }
}

const user = (content: unknown) => ({ role: 'user', content })
const chat = (extra: object = {}) => ({ model: 'sim-1', messages: [user('Tell me of the sea.')], ...extra })
const tool = (name: string, parameters?: unknown) => ({ type: 'function', function: { name, parameters } })
const readTool = tool('read_file', AGENT_SCHEMAS.read)
const shellTool = tool('shell', AGENT_SCHEMAS.shell)

/** Asks and waits for the answer of a call that needs no time. */
async function answer(asked: Asked) {
  const { ask, settle } = setUp()
  const made = ask(asked)
  await settle()
  return made
}

const whole = async (body: object) => readWhole((await answer({ body })).text())
const stream = async (body: object) => readStream((await answer({ body: { ...body, stream: true } })).text())

describe('a whole reply', () => {
  it('is a chat completion that says what it is and what was asked', async () => {
    const made = await answer({ body: chat() })
    expect(made.events).toEqual(['started', 'head', 'data', 'end'])
    expect(made.status).toBe(200)
    expect(made.header?.('content-type')).toBe('application/json')
    expect(made.header?.('content-length')).toBe(`${Buffer.byteLength(made.text())}`)
    const reply = readWhole(made.text())
    expect(reply).toMatchObject({ model: 'sim-1', created: Math.floor(WALL_MS / 1000) })
    expect(reply.choices[0]).toMatchObject({ finish_reason: 'stop', message: { role: 'assistant' } })
    expect(reply.choices[0]?.message.content).toMatch(
      /This is the simulated model "sim-1".*You said: Tell me of the sea\./,
    )
    const { prompt_tokens: input, completion_tokens: output, total_tokens: total } = reply.usage
    expect(total).toBe(input + output)
    expect(input).toBeGreaterThan(4)
    expect(output).toBeCloseTo((reply.choices[0]?.message.content?.length ?? 0) / 4, -1)
  })

  it('is the same for the same request, and has another id for another one', async () => {
    const [one, same, other] = await Promise.all([whole(chat()), whole(chat()), whole(chat({ seed: 1 }))])
    expect(same).toEqual(one)
    expect(other.id).not.toBe(one.id)
  })

  it('reads a body that comes as a stream, however it is cut', async () => {
    const body = chat({ messages: [user('Grüße aus dem Meer 🌊')] })
    const expected = (await answer({ body })).text()
    for (const pieceBytes of [1, 7, 1000]) expect((await answer({ body, pieceBytes })).text()).toBe(expected)
  })

  it('keeps its words below 2,000 characters and whole', async () => {
    const reply = await whole(chat({ messages: [user('🌊'.repeat(5000))] }))
    const content = reply.choices[0]?.message.content ?? ''
    expect(content.length).toBeLessThanOrEqual(2000)
    expect(content.isWellFormed()).toBe(true)
    expect(content.endsWith('🌊…')).toBe(true)
  })

  it('echoes the last thing the user said, in parts or not', async () => {
    const parts = [
      { type: 'text', text: 'one ' },
      { type: 'image_url', image_url: { url: 'data:,' } },
      { type: 'text', text: 'two' },
    ]
    const said = async (messages: unknown) => (await whole(chat({ messages }))).choices[0]?.message.content
    expect(await said([user('first'), { role: 'assistant', content: 'x' }, user(parts)])).toMatch(
      /You said: one two$/,
    )
    expect(await said([{ role: 'system', content: 'be kind' }])).toMatch(/nothing in words/)
  })

  it('gives as many choices as are asked for, each its own', async () => {
    const reply = await whole(chat({ n: 3 }))
    expect(reply.choices.map(({ index }) => index)).toEqual([0, 1, 2])
    expect(new Set(reply.choices.map(({ message }) => message.content)).size).toBe(3)
  })

  it.each(['max_tokens', 'max_completion_tokens'])('ends with `length` at %s', async (name) => {
    const reply = await whole(chat({ [name]: 5, n: 2 }))
    expect(reply.usage.completion_tokens).toBe(10)
    expect(reply.choices.map(({ finish_reason: finish }) => finish)).toEqual(['length', 'length'])
    expect((await whole(chat({ [name]: 100_000 }))).choices[0]?.finish_reason).toBe('stop')
  })

  it.each(['model', ['zebra', 'model']])('ends before the stop sequence %j', async (stop) => {
    const reply = await whole(chat({ stop }))
    expect(reply.choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: 'This is the simulated ' },
    })
  })
})

describe('a stream', () => {
  it.each<[string, object]>([
    ['prose', chat()],
    ['several choices', chat({ n: 3 })],
    ['a tool call', chat({ tools: [readTool] })],
    ['tool calls of several choices', chat({ tools: [readTool], n: 2 })],
    ['a cut tool call', chat({ tools: [readTool], max_tokens: 3 })],
    ['JSON', chat({ response_format: { type: 'json_object' } })],
    ['characters of several bytes', chat({ messages: [user('Grüße 🌊🏖️ 你好')] })],
    ['nothing but an end', chat({ stop: 'This' })],
  ])('adds up to the whole reply: %s', async (_, body) => {
    const chunks = await stream(body)
    expect(gather(chunks)).toEqual(gather(await stream(body)))
    const reply = await whole({ ...body, stream: false })
    // Ids are made of the body, which says `stream`.
    const anyId = (choices: unknown) => JSON.stringify(choices).replaceAll(/call_\w+/g, 'call')
    expect(anyId(gather(chunks))).toBe(anyId(gatherWhole(reply)))
  })

  it('has the head, the role, content, the finish and the end, in this order', async () => {
    const made = await answer({ body: chat({ stream: true }) })
    expect(made.header?.('content-type')).toBe('text/event-stream; charset=utf-8')
    const chunks = readStream(made.text())
    expect(made.events).toEqual(['started', 'head', ...chunks.map(() => 'data'), 'data', 'end'])
    expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '', refusal: null })
    expect(chunks.at(-1)?.choices).toEqual([{ index: 0, delta: {}, logprobs: null, finish_reason: 'stop' }])
    expect(chunks.slice(1, -1).every(({ choices }) => typeof choices[0]?.delta.content === 'string')).toBe(
      true,
    )
    expect(new Set(chunks.map(({ id, created, model }) => `${id} ${created} ${model}`)).size).toBe(1)
    expect(chunks.some((chunk) => 'usage' in chunk)).toBe(false)
  })

  it('tells the usage in one more chunk to who asks for it', async () => {
    const chunks = await stream(chat({ stream_options: { include_usage: true } }))
    const last = chunks.pop()
    expect(chunks.every(({ usage }) => usage === null)).toBe(true)
    expect(last).toMatchObject({ choices: [], usage: (await whole(chat())).usage })
  })

  it('gives the id and the name of a call first and its arguments in fragments', async () => {
    const deltas = (await stream(chat({ tools: [readTool] }))).flatMap(
      ({ choices }) => choices[0]?.delta.tool_calls ?? [],
    )
    expect(deltas[0]).toMatchObject({
      index: 0,
      type: 'function',
      function: { name: 'read_file', arguments: '' },
    })
    expect(deltas[0]?.id).toMatch(/^call_/)
    expect(deltas.length).toBeGreaterThan(3)
    expect(
      deltas.slice(1).every(({ id, function: { name } }) => id === undefined && name === undefined),
    ).toBe(true)
  })

  it('keeps its pace: latency before the first token, then one token at a time', async () => {
    const { ask, advance, pending } = setUp()
    const made = ask({ body: chat({ stream: true, n: 2 }), simulate: { latencyMs: 200, paceMs: 10 } })
    await advance(199)
    expect(made.events).toEqual(['started'])
    await advance(1)
    expect(made.events).toEqual(['started', 'head', 'data', 'data', 'data', 'data']) // two roles, two tokens
    await advance(9)
    expect(made.events).toHaveLength(6)
    await advance(1)
    expect(made.events).toHaveLength(8)
    await advance(10_000)
    expect(made.events.at(-1)).toBe('end')
    expect(pending()).toBe(0)
  })

  it('takes as long whole as streamed', async () => {
    const { ask, advance, clock } = setUp()
    const simulate = { latencyMs: 200, paceMs: 10 }
    const ended: number[] = []
    for (const body of [chat({ tools: [readTool] }), chat({ tools: [readTool], stream: true })]) {
      const startedMs = clock.now()
      const made = ask({ body, simulate })
      while (made.events.at(-1) !== 'end') await advance(1)
      ended.push(clock.now() - startedMs)
    }
    expect(ended[0]).toBe(ended[1])
  })
})

describe('the hand on a call', () => {
  const slow = { latencyMs: 50, paceMs: 10 }

  it('holds the flow while paused and goes on where it stopped', async () => {
    const { ask, advance } = setUp()
    const undisturbed = ask({ body: chat({ stream: true }), simulate: slow })
    const made = ask({ body: chat({ stream: true }), simulate: slow })
    await advance(75)
    made.control.pause()
    const before = made.events.length
    await advance(5000)
    expect(made.events).toHaveLength(before)
    made.control.resume()
    await advance(5000)
    expect(made.text()).toBe(undisturbed.text())
  })

  it('may be paused and resumed from inside `data`, at every chunk', async () => {
    const { ask, settle } = setUp()
    const made = ask({ body: chat({ stream: true }) })
    made.onData = () => {
      made.control.pause()
      setImmediate(() => made.control.resume())
    }
    for (let turn = 0; turn < 200 && made.events.at(-1) !== 'end'; turn += 1) await settle()
    expect(made.text()).toBe((await answer({ body: chat({ stream: true }) })).text())
  })

  it('does not answer from inside `resume`', async () => {
    const { ask, settle } = setUp()
    const made = ask({ body: chat() })
    made.control.pause()
    await settle()
    made.control.resume()
    expect(made.events).toEqual([])
    await settle()
    expect(made.events.at(-1)).toBe('end')
  })

  it.each([0, 25, 50, 75])('ends the call on abort after %i ms and leaves no timer', async (ms) => {
    const { ask, advance, pending } = setUp()
    const made = ask({ body: chat({ stream: true }), simulate: slow, pieceBytes: 16 })
    if (ms > 0) await advance(ms)
    made.control.abort()
    made.control.abort()
    const before = [...made.events]
    made.control.pause()
    made.control.resume()
    await advance(10_000)
    expect(made.events).toEqual(before)
    expect(pending()).toBe(0)
  })

  it('may abort from inside `data`', async () => {
    const { ask, settle } = setUp()
    const made = ask({ body: chat({ stream: true }) })
    made.onData = () => made.control.abort()
    await settle()
    expect(made.events).toEqual(['started', 'head', 'data'])
  })

  it('lets others have a turn during a long answer without pace', async () => {
    const { ask, settle, advance, pending } = setUp()
    const made = ask({ body: chat({ stream: true, n: 8, messages: [user('long '.repeat(400))] }) })
    await settle()
    expect(pending()).toBe(1)
    for (let turn = 0; turn < 100; turn += 1) await advance(0)
    expect(made.events.at(-1)).toBe('end')
  })
})

describe('tools', () => {
  const ajv = addFormats(new Ajv2020({ strict: false }))
  const called = async (body: object) => {
    const [choice] = (await whole(body)).choices
    return {
      finish: choice?.finish_reason,
      call: choice?.message.tool_calls?.[0],
      content: choice?.message.content,
    }
  }

  it.each(Object.keys(AGENT_SCHEMAS))('are called with arguments that fit: %s', async (name) => {
    const { finish, call: made, content } = await called(chat({ tools: [tool(name, AGENT_SCHEMAS[name])] }))
    expect(finish).toBe('tool_calls')
    expect(content).toBe(null)
    expect(made?.function.name).toBe(name)
    expect(
      ajv.validate(
        { ...AGENT_SCHEMAS[name], $schema: undefined },
        JSON.parse(made?.function.arguments ?? ''),
      ),
    ).toBe(true)
  })

  it.each<[string, unknown, string | undefined]>([
    ['absent', undefined, 'read_file'],
    ['auto', 'auto', 'read_file'],
    ['required', 'required', 'read_file'],
    ['none', 'none', undefined],
    ['named', { type: 'function', function: { name: 'shell' } }, 'shell'],
    ['allowed', { type: 'allowed_tools', allowed_tools: { mode: 'auto', tools: [tool('shell')] } }, 'shell'],
    ['custom', { type: 'custom', custom: { name: 'grammar' } }, undefined],
  ])('obey a tool_choice that is %s', async (_, choice, expected) => {
    const custom = { type: 'custom', custom: { name: 'grammar' } }
    const { call: made } = await called(chat({ tools: [custom, readTool, shellTool], tool_choice: choice }))
    expect(made?.function.name).toBe(expected)
  })

  it('have {} for arguments where nothing is said of them', async () => {
    for (const parameters of [undefined, {}, true, { type: 'string' }]) {
      expect((await called(chat({ tools: [tool('ping', parameters)] }))).call?.function.arguments).toBe('{}')
    }
  })

  it('refuse a choice that is not offered', async () => {
    const choice = { type: 'function', function: { name: 'gone' } }
    for (const body of [
      chat({ tools: [readTool], tool_choice: choice }),
      chat({ tool_choice: 'required' }),
    ]) {
      const made = await answer({ body })
      expect(made.status).toBe(400)
      expect(readError(made.text())).toMatchObject({ type: 'invalid_request_error', param: 'tool_choice' })
    }
  })

  it('go round: call, result, words, and a call again for the next question', async () => {
    const tools = [readTool, shellTool]
    const messages: unknown[] = [user('What is in the file?')]
    const first = await whole(chat({ tools, messages }))
    const [choice] = first.choices
    const id = choice?.message.tool_calls?.[0]?.id
    messages.push(choice?.message, { role: 'tool', tool_call_id: id, content: 'four lines of "poetry"' })

    const second = await whole(chat({ tools, messages }))
    expect(second.choices[0]?.finish_reason).toBe('stop')
    expect(second.choices[0]?.message.content).toMatch(/The tool read_file answered: four lines of "poetry"$/)
    expect(second.usage.prompt_tokens).toBeGreaterThan(first.usage.prompt_tokens)

    messages.push(second.choices[0]?.message, user('And the next one?'))
    const third = await whole(chat({ tools, messages }))
    expect(third.choices[0]?.finish_reason).toBe('tool_calls')
    expect(third.choices[0]?.message.tool_calls?.[0]?.id).not.toBe(id)
  })

  it('are quoted all, and within bounds', async () => {
    const results = Array.from({ length: 3 }, (_, index) => ({
      role: 'tool',
      tool_call_id: `${index}`,
      content: [{ type: 'text', text: `result ${index} ${'x'.repeat(5000)}` }],
    }))
    const { content } = await called(chat({ tools: [readTool], messages: [user('Go.'), ...results] }))
    expect(content).toMatch(/result 0 .*result 1 .*result 2 /s)
    expect(content?.length).toBeLessThanOrEqual(2000)
  })
})

describe('response_format', () => {
  it('json_schema gets JSON that fits', async () => {
    const ajv = addFormats(new Ajv2020({ strict: false }))
    for (const [name, schema] of Object.entries(AGENT_SCHEMAS)) {
      const reply = await whole(
        chat({ response_format: { type: 'json_schema', json_schema: { name, schema } } }),
      )
      const content = JSON.parse(reply.choices[0]?.message.content ?? '')
      expect(ajv.validate({ ...schema, $schema: undefined }, content)).toBe(true)
    }
  })

  it('json_object gets an object', async () => {
    const reply = await whole(chat({ response_format: { type: 'json_object' } }))
    expect(JSON.parse(reply.choices[0]?.message.content ?? '')).toMatchObject({ simulated: true })
  })

  it('json_schema without a schema is refused, text is prose', async () => {
    const made = await answer({ body: chat({ response_format: { type: 'json_schema' } }) })
    expect(readError(made.text()).param).toBe('response_format.json_schema')
    expect((await whole(chat({ response_format: { type: 'text' } }))).choices[0]?.message.content).toMatch(
      /^This is/,
    )
  })
})

describe('bad bodies', () => {
  it.each<[string, unknown, string | null]>([
    ['no JSON', '{"messages": [', null],
    ['no object', [], null],
    ['no messages', { model: 'sim-1' }, 'messages'],
    ['null messages', { messages: null }, 'messages'],
    ['empty messages', { messages: [] }, 'messages'],
    ['messages of another type', { messages: 'hello' }, 'messages'],
    ['a message without a role', { messages: [user('x'), { content: 'y' }] }, 'messages[1]'],
    ['too many choices', chat({ n: 9 }), 'n'],
    ['no choices', chat({ n: 0 }), 'n'],
    ['an odd cap', chat({ max_tokens: 0.5 }), 'max_tokens'],
    ['a cap of 0', chat({ max_completion_tokens: 0, max_tokens: 7 }), 'max_completion_tokens'],
  ])('get a 400: %s', async (_, body, param) => {
    const made = await answer({ body })
    expect(made.events).toEqual(['started', 'head', 'data', 'end'])
    expect(made.status).toBe(400)
    expect(readError(made.text())).toMatchObject({ type: 'invalid_request_error', param })
  })

  it('do not take the process down, however they are nested', async () => {
    const deep = `${'{"a":['.repeat(50_000)}1${']}'.repeat(50_000)}`
    const body = `{"messages":[{"role":"user","content":${deep},"x":${deep}}],"tools":[{"type":"function","function":{"name":"f","parameters":${deep}}}]}`
    expect((await answer({ body })).status).toBe(200)
  })

  it('fail when they are longer than they said or break off', async () => {
    const { ask, settle } = setUp()
    const { Readable } = await import('node:stream')
    const bodies = [Readable.from([Buffer.alloc(10_000)], { objectMode: false }), new Readable({ read() {} })]
    bodies[1]?.push('{"mess')
    const calls = bodies.map((body) => ask({ body: chat(), replaceBody: body }))
    await settle()
    bodies[1]?.destroy()
    await settle()
    for (const made of calls) expect(made.events).toEqual(['started', 'failed'])
    expect(bodies[0]?.destroyed).toBe(true)
  })
})

describe('embeddings', () => {
  const embed = async (body: object) =>
    readEmbeddings((await answer({ body, operation: 'embeddings' })).text())

  it('are unit vectors that depend on the input alone', async () => {
    const { data, usage, model } = await embed({ input: ['sea', 'land', 'sea'] })
    const vectors = data.map(({ embedding }) => (typeof embedding === 'string' ? [] : embedding))
    expect(model).toBe('sim-1')
    expect(vectors.map((vector) => vector.length)).toEqual([64, 64, 64])
    for (const vector of vectors) expect(Math.hypot(...vector)).toBeCloseTo(1, 5)
    expect(vectors[0]).toEqual(vectors[2])
    expect(vectors[0]).not.toEqual(vectors[1])
    expect((await embed({ input: 'sea' })).data[0]?.embedding).toEqual(vectors[0])
    expect(usage.total_tokens).toBe(usage.prompt_tokens)
  })

  it('are the same in base64, little-endian', async () => {
    const [float, base64] = await Promise.all(
      ['float', 'base64'].map((format) => embed({ input: 'sea', dimensions: 100, encoding_format: format })),
    )
    const text = base64?.data[0]?.embedding
    if (typeof text !== 'string') throw new Error('not base64')
    const bytes = Buffer.from(text, 'base64')
    const values = Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readFloatLE(index * 4))
    expect(values).toEqual(float?.data[0]?.embedding)
    expect(values).toHaveLength(100)
  })

  it('take token ids', async () => {
    expect((await embed({ input: [1, 2, 3] })).data).toHaveLength(1)
    expect((await embed({ input: [[1, 2], [3]] })).data).toHaveLength(2)
  })

  it.each([
    {},
    { input: '' },
    { input: [] },
    { input: ['a', 3] },
    { input: [[]] },
    { input: 'a', dimensions: 0 },
    { input: 'a', dimensions: 5000 },
    { input: 'a', encoding_format: 'hex' },
    { input: Array.from({ length: 2048 }, () => 'a'), dimensions: 4096 },
    { input: Array.from({ length: 2049 }, () => 'a') },
  ])('refuse a body with a 400', async (body) => {
    const made = await answer({ body, operation: 'embeddings' })
    expect(made.status).toBe(400)
    expect(readError(made.text()).param).not.toBe(null)
  })
})

describe('faults', () => {
  const fault = (kind: 'status' | 'silent' | 'cut' | 'refused', extra: object = {}) => ({
    fault: { kind, status: 503, share: 1, retryAfterMs: undefined, ...extra },
  })

  it.each<[number, string, string | null]>([
    [401, 'invalid_request_error', 'invalid_api_key'],
    [404, 'invalid_request_error', 'model_not_found'],
    [422, 'invalid_request_error', null],
    [429, 'requests', 'rate_limit_exceeded'],
    [500, 'server_error', null],
    [503, 'service_unavailable_error', 'server_is_overloaded'],
  ])('answer the status %i', async (status, type, code) => {
    const made = await answer({ body: chat({ stream: true }), simulate: fault('status', { status }) })
    expect(made.events).toEqual(['started', 'head', 'data', 'end'])
    expect(made.status).toBe(status)
    expect(readError(made.text())).toMatchObject({ type, code })
    expect(made.header?.('retry-after')).toBe(undefined)
  })

  it('say when to come back', async () => {
    const made = await answer({ body: chat(), simulate: fault('status', { retryAfterMs: 1200 }) })
    expect(made.header?.('retry-after')).toBe('2')
    expect(made.header?.('retry-after-ms')).toBe('1200')
  })

  it('are silent until the abort', async () => {
    const { ask, advance, pending } = setUp()
    const made = ask({ body: chat(), simulate: fault('silent'), pieceBytes: 10 })
    await advance(3_600_000)
    expect(made.events).toEqual(['started'])
    made.control.abort()
    expect(pending()).toBe(0)
  })

  it('refuse the connection', async () => {
    const made = await answer({ body: chat(), simulate: fault('refused'), pieceBytes: 10 })
    expect(made.events).toEqual(['failed'])
    expect(made.error?.code).toBe('ECONNREFUSED')
  })

  it.each<[string, object]>([
    ['prose', chat({ stream: true })],
    ['a tool call', chat({ stream: true, tools: [readTool] })],
    ['a short answer', chat({ stream: true, max_tokens: 1 })],
  ])('cut a stream after some content: %s', async (_, body) => {
    const made = await answer({ body, simulate: fault('cut') })
    expect(made.events.at(-1)).toBe('failed')
    expect(made.error?.code).toBe('ECONNRESET')
    const chunks = made.text().split('\n\n').slice(0, -1).map(readFrame)
    expect(chunks.length).toBeGreaterThan(1)
    expect(chunks.length).toBeLessThanOrEqual(4)
    expect(chunks.every(({ choices }) => choices[0]?.finish_reason === null)).toBe(true)
  })

  it('cut a whole reply after its head', async () => {
    const made = await answer({ body: chat(), simulate: fault('cut') })
    expect(made.events).toEqual(['started', 'head', 'failed'])
    expect(made.error?.code).toBe('ECONNRESET')
  })

  it.each<[number, string]>([
    [0, '............'],
    [0.25, '...x...x...x'],
    [1 / 3, '..x..x..x..x'],
    [0.1, '.........x..'],
    [0.75, '.xxx.xxx.xxx'],
    [1, 'xxxxxxxxxxxx'],
  ])('are spread evenly over the calls of each provider: share %f', async (share, expected) => {
    const { ask, settle } = setUp()
    const simulate = fault('status', { share })
    for (const provider of ['one', 'other']) {
      const calls = Array.from({ length: 12 }, () => ask({ body: chat(), provider, simulate }))
      await settle()
      expect(calls.map(({ status }) => (status === 200 ? '.' : 'x')).join('')).toBe(expected)
    }
  })
})
