// What Gemini is sent, and what it answers, in the shapes that its reference documents and that public fixtures record
// (test/golden/gemini). Requests are chat's, as a caller writes them.

import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import type { ChatEvent, Finish, Part } from '../../../src/formats/canonical.ts'
import type { WrittenRequest } from '../../../src/formats/format.ts'
import { gemini } from '../../../src/formats/gemini.ts'
import { openai } from '../../../src/formats/openai.ts'
import type { Usage } from '../../../src/types.ts'
import { foldEvents } from '../../support/chat-events.ts'
import { openGolden, type RecordedRequest, usageOf } from '../../support/golden.ts'

const golden = openGolden('gemini')
const { provider } = gemini
const { chat } = provider
if (chat === undefined) throw new Error('gemini has no chat')

const UNCHANGED: WrittenRequest = { body: {}, headers: [], dropped: [], names: new Map() }

describe('a request', () => {
  it.each(golden.names('.request.json'))('%s is written as Gemini takes it', (name) => {
    const recorded: RecordedRequest = JSON.parse(golden.text(`${name}.request.json`))
    const { request } = openai.client.chat.read({ model: 'any', ...recorded.chat })
    const asked = { model: recorded.model, maxOutputTokens: undefined, options: {} }
    const written = chat.write(request, asked)
    expect(JSON.parse(JSON.stringify(written.body))).toEqual(recorded.sent)
    if (recorded.dropped !== undefined)
      expect([...written.dropped].sort()).toEqual([...recorded.dropped].sort())
    expect(written.oneCall === true).toBe(recorded.chat.parallel_tool_calls === false)
  })
})

const usage = usageOf
const text = (said: string): Part => ({ type: 'text', text: said })
const thought = (said: string, value?: string): Part => ({
  type: 'thinking',
  text: said,
  sealed: value === undefined ? undefined : { origin: 'gemini', value },
  isRedacted: false,
})
const call = (name: string, args: string, more: { id?: string; value?: string } = {}): Part => ({
  type: 'call',
  kind: 'function',
  id: more.id ?? expect.stringMatching(/^call_[0-9a-f]{24}$/),
  name,
  namespace: undefined,
  arguments: args,
  sealed: more.value === undefined ? undefined : { origin: 'gemini', value: more.value },
})
/** A dot, as PNG. */
const DOT = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
const PICTURE: Part = {
  type: 'image',
  source: { kind: 'base64', mediaType: 'image/png', base64: DOT },
  detail: undefined,
}
const PARIS = call('get_weather', '{"city":"Paris"}', { id: 'lpndqlku', value: 'AY89a19Y==' })
const TOKYO = call('get_weather', '{"city":"Tokyo"}', { id: 'm6rogicj' })

interface Told {
  /** A letter per frame of a stream: content, usage only, error, nothing (`-`). */
  readonly frames?: string
  readonly content?: readonly Part[]
  readonly finish?: Finish
  readonly usage?: Usage | undefined
  /** Of a reply that is none, and of a stream that is cut. */
  readonly failure?: string
  readonly error?: string
}

const STREAMS: Readonly<Record<string, Told>> = {
  plain: {
    frames: 'ccc',
    content: [text('Hello! How can I help — 日本 👩‍🚀?'), thought('', 'EpcCCpQCARFNMg9G')],
    finish: 'stop',
    usage: usage(2, 61, { reasoningTokens: 52 }),
  },
  'tool-call': {
    frames: 'cc',
    content: [call('get_weather', '{"city":"Paris"}', { value: 'AY89a19Y==' })],
    finish: 'tool_calls',
    usage: usage(29, 819, { reasoningTokens: 804 }),
  },
  'parallel-tool-calls': {
    frames: 'cccc',
    content: [text('Both.'), PARIS, TOKYO],
    finish: 'tool_calls',
    usage: usage(29, 30),
  },
  'text-and-calls-in-one-chunk': {
    frames: 'c',
    content: [text('Both.'), PARIS, TOKYO],
    finish: 'tool_calls',
    usage: usage(29, 30),
  },
  'no-arguments': { frames: 'c', content: [call('now', '{}')], finish: 'tool_calls', usage: usage(29, 3) },
  reasoning: {
    frames: 'cccc',
    content: [thought('**Counting**\nThree.'), text('There are 3.')],
    finish: 'stop',
    usage: usage(10, 24, { reasoningTokens: 20 }),
  },
  'signed-thought.2-5': {
    frames: 'cc',
    content: [thought('Counting.', 'CiMBjz1r=='), call('now', '{}')],
    finish: 'tool_calls',
    usage: usage(10, 24, { reasoningTokens: 20 }),
  },
  'max-tokens': { frames: 'c', content: [text('It was a')], finish: 'length', usage: usage(4, 5) },
  'max-tokens.spent-on-thinking': {
    frames: 'c',
    content: [],
    finish: 'length',
    usage: usage(4, 100, { reasoningTokens: 100 }),
  },
  safety: { frames: 'cc', content: [text('To make')], finish: 'content_filter', usage: usage(9, 2) },
  'blocked-prompt': { frames: 'c', content: [], finish: 'content_filter', usage: usage(9, 0) },
  'malformed-call': {
    frames: 'ce',
    error: 'finish reason MALFORMED_FUNCTION_CALL: Malformed function call',
    usage: usage(9, 4),
  },
  cut: { frames: 'cc', failure: 'cut', usage: usage(4, 4) },
  'error-in-the-middle': {
    frames: 'ce',
    error: 'The model is overloaded. Please try again later.',
    usage: usage(4, 2),
  },
  picture: {
    frames: 'cccc',
    content: [text('Here is a red square.'), PICTURE],
    finish: 'stop',
    usage: usage(9, 1306),
  },
  'two-candidates': { frames: 'cc', usage: usage(4, 4) },
  'usage-behind-the-end': { frames: 'cu', content: [text('Hi.')], finish: 'stop', usage: usage(4, 2) },
}

describe('a stream', () => {
  it.each(Object.entries(STREAMS))('%s is read as it is meant', (name, told) => {
    const watch = provider.watch()
    const reader = chat.events(UNCHANGED)
    const splitter = createFrameSplitter()
    const events: ChatEvent[] = []
    let frames = ''
    let error: string | undefined
    for (const frame of splitter.push(golden.bytes(`${name}.stream.sse`))) {
      const facts = watch.look(frame.data ?? '')
      error = facts.error ?? error
      expect(facts.malformed).toBe(false)
      frames += facts.error !== undefined ? 'e' : facts.content ? 'c' : facts.usageOnly ? 'u' : '-'
      if (facts.error === undefined) events.push(...reader.read(frame))
    }
    expect({ frames, error, usage: watch.usage }).toEqual({
      frames: told.frames,
      error: told.error,
      usage: told.usage,
    })
    expect(watch.finished).toBe(told.error === undefined && told.failure === undefined)
    if (told.content !== undefined) {
      const folded = foldEvents(events)
      expect(folded.choices).toEqual([{ content: told.content, finish: told.finish }])
      expect(folded.usage).toEqual(told.usage)
      expect(folded.model).not.toBe('')
    }
    if (
      frames.includes('c') &&
      told.usage !== undefined &&
      told.usage.outputTokens > 0 &&
      told.content?.length !== 0
    )
      expect(watch.countedTokens).toBeGreaterThan(0)
  })

  it('of two answers is read as two', () => {
    const reader = chat.events(UNCHANGED)
    const frames = createFrameSplitter().push(golden.bytes('two-candidates.stream.sse'))
    expect(foldEvents(frames.flatMap((frame) => reader.read(frame))).choices).toEqual([
      { content: [text('Heads.')], finish: 'stop' },
      { content: [text('Tails!')], finish: 'stop' },
    ])
  })

  it('is in the table, each of them', () => {
    expect(golden.names('.stream.sse')).toEqual(Object.keys(STREAMS).sort())
  })
})

const REPLIES: Readonly<Record<string, Told>> = {
  plain: {
    content: [text('Hello! How can I help you today?'), thought('', 'EmcKZQERTTIP+ioa')],
    finish: 'stop',
    usage: usage(2, 9),
  },
  'tool-call': { content: [PARIS], finish: 'tool_calls', usage: usage(29, 819, { reasoningTokens: 804 }) },
  'parallel-tool-calls': {
    content: [text('Both.'), PARIS, TOKYO],
    finish: 'tool_calls',
    usage: usage(29, 30),
  },
  reasoning: {
    content: [thought('**Counting**\nThree.'), text('There are 3.'), thought('', 'EpcC==')],
    finish: 'stop',
    usage: usage(10, 24, { reasoningTokens: 20 }),
  },
  'structured-output': { content: [text('{"n": 3}')], finish: 'stop', usage: usage(4, 5) },
  'max-tokens': { content: [text('It was a')], finish: 'length', usage: usage(4, 5) },
  safety: { content: [], finish: 'content_filter', usage: usage(9, 0) },
  'blocked-prompt': { content: [], finish: 'content_filter', usage: usage(9, 0) },
  recitation: { content: [text('It was the best')], finish: 'content_filter', usage: usage(4, 5) },
  'malformed-call': {
    failure: 'in_band',
    error: 'finish reason MALFORMED_FUNCTION_CALL: Malformed function call: print(default_api.now(',
  },
  'cached-and-tool-usage': {
    content: [text('Hi.')],
    finish: 'stop',
    usage: usage(120, 9, { cachedTokens: 64, audioInputTokens: 40, reasoningTokens: 7 }),
  },
  // What was drawn while thinking is no part of the answer.
  picture: {
    content: [
      text('Here is a red square.'),
      thought('', 'EpcCtext=='),
      PICTURE,
      thought('', 'EpcCpicture=='),
    ],
    finish: 'stop',
    usage: usage(9, 1306),
  },
  vertex: { content: [text('Hi.')], finish: 'stop', usage: usage(4, 2) },
  'no-parts': { content: [], finish: 'stop', usage: usage(4, 0) },
  'without-reason': { failure: 'incomplete' },
}

describe('a whole reply', () => {
  it.each(Object.entries(REPLIES))('%s is read as it is meant', (name, told) => {
    const body = golden.bytes(`${name}.reply.json`)
    const whole = provider.whole('chat', body)
    expect({ failure: whole.failure, error: whole.error, usage: whole.usage }).toEqual({
      failure: told.failure,
      error: told.error,
      usage: told.usage,
    })
    if (told.content === undefined) return
    const read = chat.read(body, UNCHANGED)
    expect(read.choices).toEqual([
      { content: told.content, finish: told.finish, stopSequence: undefined, logprobs: undefined },
    ])
    expect(read.usage).toEqual(told.usage)
    expect(read.model).not.toBe('')
    expect(read.id).not.toBe('')
  })

  it('says when it was made, where it is told', () => {
    const body = golden.bytes('vertex.reply.json')
    expect(chat.read(body, UNCHANGED).createdSeconds).toBe(1_775_149_430)
  })

  it('of vectors tells what was used', () => {
    const body = golden.bytes('embeddings.reply.json')
    expect(provider.whole('embeddings', body)).toMatchObject({ failure: undefined, usage: usage(12, 0) })
    expect(provider.whole('embeddings', Buffer.from('{"embeddings":[]}')).failure).toBe('empty')
  })

  it.each([
    ['', 'empty'],
    ['<html>', 'malformed'],
    ['{}', 'empty'],
    ['{"candidates":"none"}', 'malformed'],
    ['{"error":{"code":500,"message":"Internal"}}', 'in_band'],
  ])('%j is none', (body, failure) => {
    expect(provider.whole('chat', Buffer.from(body)).failure).toBe(failure)
  })

  it('is in the table, each of them', () => {
    expect(golden.names('.reply.json')).toEqual([...Object.keys(REPLIES), 'embeddings'].sort())
  })
})

interface RecordedError {
  readonly name: string
  readonly status: number
  readonly body: unknown
  readonly verdict: string
  readonly key: boolean
  readonly park: boolean
  readonly retryAfterMs?: number
  readonly untilMidnight?: boolean
}

describe('an error', () => {
  const recorded: readonly RecordedError[] = JSON.parse(golden.text('errors.json'))
  const none = (): undefined => undefined

  it.each(recorded)('$name', ({ status, body, verdict, key, park, retryAfterMs, untilMidnight }) => {
    // Five in the morning, Pacific time.
    const nowMs = Date.parse('2026-11-26T13:00:00Z')
    const fault = provider.fault(status, none, JSON.stringify(body), nowMs)
    expect({ verdict: fault.verdict, key: fault.key, park: fault.park }).toEqual({ verdict, key, park })
    expect(fault.retryAfterMs).toBe(untilMidnight === true ? 19 * 3_600_000 : retryAfterMs)
    expect(fault.message).not.toBe('')
    expect(fault.type).toMatch(/^[A-Z_]+$/)
    const told = provider.inBand(JSON.stringify(body))
    expect(told.status).toBe(status)
    expect(told.fault.verdict).toBe(verdict)
  })

  it('that is no JSON is the provider’s trouble', () => {
    expect(provider.fault(502, none, '<html>Bad Gateway</html>', 0).verdict).toBe('retry')
    expect(provider.inBand('finish reason OTHER')).toMatchObject({ status: 500, fault: { verdict: 'retry' } })
  })

  it('names the wait of a header before its own', () => {
    const [minute] = recorded.filter(({ name }) => name === 'the minute is spent')
    const header = (name: string): string | undefined => (name === 'retry-after' ? '3' : undefined)
    expect(provider.fault(429, header, JSON.stringify(minute?.body), 0).retryAfterMs).toBe(3000)
  })
})
