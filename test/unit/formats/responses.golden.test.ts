// Responses and their streams in the shapes that OpenAI documents and that compatible servers are known to send instead
// (test/golden/responses), and what is read out of them: by the watch of an untouched stream, and into canonical form.

import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import type { ChatEvent, Part } from '../../../src/formats/canonical.ts'
import type { WrittenRequest } from '../../../src/formats/format.ts'
import { responses } from '../../../src/formats/responses.ts'
import { foldEvents } from '../../support/chat-events.ts'
import { openGolden, usageOf } from '../../support/golden.ts'
import { schemaFaults } from '../../support/openai-schema.ts'

const { bytes: read, names: named } = openGolden('responses')
const { provider } = responses
const chat = provider.chat
if (chat === undefined) throw new Error('the provider is not read')

const WRITTEN: WrittenRequest = { body: {}, headers: [], dropped: [], names: new Map() }
const USAGE = usageOf(19, 10, { cachedTokens: 8, reasoningTokens: 4 })

const text = (said: string): Part => ({ type: 'text', text: said })
const call = (id: string, name: string, args: string, over: object = {}): Part => ({
  type: 'call',
  kind: 'function',
  id,
  name,
  namespace: undefined,
  arguments: args,
  sealed: undefined,
  ...over,
})
const thought = (said: string, sealed?: string): Part => ({
  type: 'thinking',
  text: said,
  sealed: sealed === undefined ? undefined : { origin: 'responses', value: sealed },
  isRedacted: said === '',
})
const PARIS = call('call_A1', 'get_weather', '{"location":"Paris, France"}')
const PATCH = '*** Begin Patch\n*** Add File: a.txt\n+hi "you"\n*** End Patch\n'

interface StreamFacts {
  /** A letter per frame: content, done (with content), error, malformed, a comment, nothing (`-`). */
  readonly frames: string
  readonly content?: readonly Part[]
  readonly finish?: string
  readonly error?: string
}

const STREAMS: Readonly<Record<string, StreamFacts>> = {
  plain: { frames: '----ccc--cd', content: [text('Hello there 👋')], finish: 'stop' },
  'tool-call': { frames: '--ccccc-cd', content: [PARIS], finish: 'tool_calls' },
  'parallel-tool-calls': {
    frames: '----cc--cccc-cccc-cd',
    content: [
      thought('Two cities.', 'rs_01|gAAAAABo1x9ZkQ=='),
      PARIS,
      call('call_B2', 'get_weather', '{"location":"Bogotá, Colombia"}'),
    ],
    finish: 'tool_calls',
  },
  'custom-tool-call': {
    frames: '----cc--ccccc-cd',
    content: [text('I will patch.'), call('call_C3', 'apply_patch', PATCH, { kind: 'custom' })],
    finish: 'tool_calls',
  },
  'namespaced-call': {
    frames: '--cc-cd',
    content: [call('call_A1', 'search', '{"query":"x"}', { namespace: 'mcp__docs' })],
    finish: 'tool_calls',
  },
  'reasoning-encrypted': {
    frames: '----cc---cc--c--cc--cd',
    content: [thought('**Greeting** the user.\n\nThen be brief.', 'rs_01|gAAAAABo1x9ZkQ=='), text('Hi.')],
    finish: 'stop',
  },
  'reasoning-text.vllm': {
    frames: '----cc-c--cc--cd',
    content: [thought('The user greets.'), text('Hello.')],
    finish: 'stop',
  },
  'two-messages': {
    frames: '----c--c-c--cc--cd',
    content: [text('Looking.'), thought('', 'rs_02|gAAAAABo2=='), text('Found it.')],
    finish: 'stop',
  },
  // The provider's own search is the beginning of an answer; what it says of it, it says in words.
  'web-search': { frames: '--c---c--cc---cd', content: [text('Sunny there.')], finish: 'stop' },
  refusal: {
    frames: '----cc--cd',
    content: [{ type: 'refusal', text: "I can't help with that." }],
    finish: 'stop',
  },
  'structured-output': {
    frames: '----ccc--cd',
    content: [text('{"name":"Ada","age":36}')],
    finish: 'stop',
  },
  'max-output-tokens': { frames: '----cc--cd', content: [text('Once upon a')], finish: 'length' },
  'content-filter': { frames: '----c--cd', content: [text('Well')], finish: 'content_filter' },
  'spent-on-thinking': {
    frames: '---cd',
    content: [thought('', 'rs_01|gAAAAABo1x9ZkQ==')],
    finish: 'length',
  },
  'failed-after-preamble': {
    frames: '--e',
    error: 'Rate limit reached for gpt-5.1. Please try again in 2.5s.',
  },
  'failed-in-the-middle': { frames: '----ce', error: 'The server had an error processing your request.' },
  'error-event': { frames: '--e', error: 'You exceeded your current quota.' },
  'error-event-nested': { frames: '--e', error: 'Your input exceeds the context window of this model.' },
  'chat-style-error': { frames: '--e', error: 'Engine on fire.' },
  'items-only-done.codex': { frames: '-cd', content: [text('Hello there 👋')], finish: 'stop' },
  'completed-only': { frames: 'd', content: [text('Hello there 👋')], finish: 'stop' },
  'arguments-only-in-done.proxy': { frames: '-c-d', content: [PARIS], finish: 'tool_calls' },
  'with-done-marker.proxy': { frames: ':----c--cdd', content: [text('Hi')], finish: 'stop' },
  cut: { frames: '----c' },
}

/** Reads a stream in the pieces given. */
function readStream(pieces: readonly Buffer[]) {
  const splitter = createFrameSplitter()
  const watch = provider.watch()
  const reader = chat?.events(WRITTEN)
  const events: ChatEvent[] = []
  let letters = ''
  let error: string | undefined
  for (const frame of pieces.flatMap((piece) => splitter.push(piece))) {
    events.push(...(reader?.read(frame) ?? []))
    const facts = frame.data === undefined ? undefined : watch.look(frame.data)
    error = facts?.error ?? error
    letters += facts === undefined ? ':' : letterOf(facts)
  }
  return { frames: letters, error, events, watch, rest: splitter.rest() }
}

function letterOf(facts: ReturnType<ReturnType<typeof provider.watch>['look']>): string {
  if (facts.error !== undefined) return 'e'
  if (facts.malformed) return 'm'
  if (facts.done) return 'd'
  return facts.content ? 'c' : '-'
}

describe('a recorded stream', () => {
  it.each(Object.entries(STREAMS))('%s is read as it is meant', (name, expected) => {
    const { frames, error, events, watch, rest } = readStream([read(`${name}.stream.sse`)])
    expect(rest).toBeUndefined()
    expect({ frames, error }).toEqual({ frames: expected.frames, error: expected.error })
    expect(watch.finished).toBe(expected.finish !== undefined)
    expect(watch.finishedChoices).toBe(expected.finish === undefined ? 0 : 1)
    expect(watch.usage).toEqual(expected.finish === undefined ? undefined : USAGE)
    if (expected.finish === undefined) {
      expect(events.some(({ type }) => type === 'finish')).toBe(false)
      return
    }
    const folded = foldEvents(events)
    expect(folded).toMatchObject({ id: 'resp_68a1', model: 'gpt-5.1-2025-11-13', usage: USAGE })
    expect(folded.choices).toEqual([{ content: expected.content, finish: expected.finish }])
  })

  it.each(Object.keys(STREAMS))('%s is the same, wherever its bytes are cut', (name) => {
    const bytes = read(`${name}.stream.sse`)
    const whole = readStream([bytes])
    const byByte = readStream([...bytes].map((byte) => Buffer.from([byte])))
    expect(byByte.events).toEqual(whole.events)
    expect(byByte.frames).toBe(whole.frames)
  })

  it('is in the table, each of them', () => {
    expect(named('.stream.sse').sort()).toEqual(Object.keys(STREAMS).sort())
  })
})

describe('a recorded reply', () => {
  const FAILURES: Readonly<Record<string, object>> = {
    failed: { failure: 'in_band', error: 'An error occurred while processing your request.' },
    'error-in-200': { failure: 'in_band', error: 'The engine is on fire.' },
    // Nobody could ask for it later.
    queued: { failure: 'malformed' },
    nothing: { failure: 'empty' },
  }
  const answers = named('.reply.json').filter((name) => !Object.hasOwn(FAILURES, name))

  it.each(answers)('%s says the same as its stream', (name) => {
    const body = read(`${name}.reply.json`)
    const facts = provider.whole('chat', body)
    expect(facts).toMatchObject({ failure: undefined, error: undefined, usage: USAGE })
    expect(facts.countedTokens > 0).toBe(name !== 'spent-on-thinking')
    const { content, finish } = STREAMS[name] ?? {}
    const reply = chat.read(body, WRITTEN)
    expect(reply).toMatchObject({
      id: 'resp_68a1',
      createdSeconds: 1_760_000_000,
      model: 'gpt-5.1-2025-11-13',
      usage: USAGE,
      serviceTier: 'default',
    })
    expect(reply.choices).toEqual([{ content, finish, stopSequence: undefined, logprobs: undefined }])
  })

  it.each(Object.entries(FAILURES))('%s is no answer', (name, expected) => {
    expect(provider.whole('chat', read(`${name}.reply.json`))).toMatchObject(expected)
  })

  it('is no answer where it is empty, no JSON or another thing', () => {
    expect(provider.whole('chat', Buffer.from(''))).toMatchObject({ failure: 'empty' })
    expect(provider.whole('chat', Buffer.from('<html>'))).toMatchObject({ failure: 'malformed' })
    expect(provider.whole('chat', Buffer.from('{"choices":[]}'))).toMatchObject({ failure: 'malformed' })
  })

  it('of embeddings is read as everywhere', () => {
    const body = read('../openai/embeddings.reply.json')
    expect(provider.whole('embeddings', body)).toMatchObject({
      failure: undefined,
      usage: { inputTokens: 19 },
    })
    expect(
      provider.path('embeddings', { model: 'm', maxOutputTokens: undefined, options: {}, stream: false }),
    ).toBe('/embeddings')
  })
})

describe('an error told inside a 200', () => {
  const inBand = (code: string | null, over: object = {}) =>
    provider.inBand(JSON.stringify({ type: 'error', code, message: 'No.', param: null, ...over }))

  it('has the status that its code stands for', () => {
    expect(inBand('server_error')).toMatchObject({ status: 500, fault: { verdict: 'retry', key: false } })
    expect(inBand('rate_limit_exceeded')).toMatchObject({ status: 429, fault: { verdict: 'retry' } })
    expect(inBand('insufficient_quota')).toMatchObject({
      status: 429,
      fault: { verdict: 'retry', key: true },
    })
    expect(inBand('server_is_overloaded')).toMatchObject({ status: 503, fault: { verdict: 'retry' } })
    expect(inBand('invalid_prompt')).toMatchObject({ status: 400, fault: { verdict: 'refuse' } })
    expect(inBand('unsupported_image_media_type')).toMatchObject({ fault: { verdict: 'refuse' } })
    expect(inBand('constructor')).toMatchObject({ status: 500, fault: { verdict: 'retry' } })
    expect(inBand(null)).toMatchObject({ status: 500, fault: { verdict: 'retry' } })
  })

  it('is found in the response that failed, in the event, and in an object of the event', () => {
    const told = (name: string) => {
      const frames = createFrameSplitter().push(read(`${name}.stream.sse`))
      return provider.inBand(frames.at(-1)?.data ?? '')
    }
    expect(told('failed-after-preamble')).toMatchObject({
      status: 429,
      fault: { code: 'rate_limit_exceeded', message: /try again in 2.5s/ },
    })
    expect(told('error-event')).toMatchObject({
      status: 429,
      fault: { key: true, type: null, code: 'insufficient_quota' },
    })
    expect(told('error-event-nested')).toMatchObject({
      status: 400,
      fault: { verdict: 'context', type: 'invalid_request_error', param: 'input' },
    })
    expect(provider.inBand(read('failed.reply.json').toString())).toMatchObject({
      status: 500,
      fault: { verdict: 'retry', code: 'server_error' },
    })
  })
})

describe('the recorded shapes', () => {
  it('are those that OpenAI describes, but for nulls that it sends and does not describe', () => {
    for (const name of named('.reply.json').filter((one) => one !== 'error-in-200')) {
      const reply: Record<string, unknown> = JSON.parse(read(`${name}.reply.json`).toString())
      const described = { ...reply, usage: reply.usage ?? undefined, user: undefined }
      expect([name, ...schemaFaults('Response', described)]).toEqual([name])
    }
  })
})
