// What Bedrock's Converse is sent, and what it answers, in the shapes that its reference documents and that public
// fixtures record (test/golden/bedrock). Requests are chat's, as a caller writes them. Streams are written down as their
// events, and put into messages by the vendor's own codec; one is as it was captured from the service.

import { describe, expect, it } from 'vitest'
import { bedrock } from '../../../src/formats/bedrock.ts'
import type { ChatEvent, Finish, Part } from '../../../src/formats/canonical.ts'
import type { WrittenRequest } from '../../../src/formats/format.ts'
import { openai } from '../../../src/formats/openai.ts'
import type { Usage } from '../../../src/types.ts'
import { foldEvents } from '../../support/chat-events.ts'
import { isRecord } from '../../support/dialects/dialect.ts'
import { toStreamError, toStreamEvent, toStreamException } from '../../support/eventstream.ts'
import { openGolden, type RecordedRequest, usageOf } from '../../support/golden.ts'

const golden = openGolden('bedrock')
const { provider } = bedrock
const { chat, splitter } = provider
if (chat === undefined || splitter === undefined) throw new Error('bedrock has no chat')

const UNCHANGED: WrittenRequest = { body: {}, headers: [], dropped: [], names: new Map() }

describe('a request', () => {
  it.each(golden.names('.request.json'))('%s is written as Converse takes it', (name) => {
    const recorded: RecordedRequest = JSON.parse(golden.text(`${name}.request.json`))
    const { request } = openai.client.chat.read({ model: 'any', ...recorded.chat })
    const asked = { model: recorded.model, maxOutputTokens: undefined, options: {} }
    const written = chat.write(request, asked)
    expect(JSON.parse(JSON.stringify(written.body))).toEqual(recorded.sent)
    expect([...written.dropped].sort()).toEqual([...(recorded.dropped ?? [])].sort())
  })
})

const usage = usageOf
const text = (said: string): Part => ({ type: 'text', text: said })
const call = (id: string, name: string, args: string): Part => ({
  type: 'call',
  kind: 'function',
  id,
  name,
  namespace: undefined,
  arguments: args,
  sealed: undefined,
})
const thought = (said: string, value?: string): Part => ({
  type: 'thinking',
  text: said,
  sealed: value === undefined ? undefined : { origin: 'anthropic', value },
  isRedacted: false,
})
const SIGNATURE = 'Ep0CCkgICxABGAIqQOWPB6=='
const REDACTED: Part = {
  type: 'thinking',
  text: '',
  sealed: { origin: 'bedrock', value: 'cnNuX3BVUGgxNnRvNFZLWURn' },
  isRedacted: true,
}

interface Told {
  /** A letter per frame of a stream: content, done, usage only, error, nothing (`-`). */
  readonly frames?: string
  readonly content?: readonly Part[]
  readonly finish?: Finish
  readonly stopSequence?: string
  readonly usage?: Usage | undefined
  /** Of a reply that is none, and of a stream that is cut. */
  readonly failure?: string
  readonly error?: string
}

const STREAMS: Readonly<Record<string, Told>> = {
  plain: {
    frames: '-cc-cd',
    content: [text('Hello — 日本 👩‍🚀!')],
    finish: 'stop',
    usage: usage(12, 5),
  },
  'tool-call': {
    frames: 'ccc-uc',
    content: [call('tooluse_j6gI', 'get_weather', '{"city":"Paris"}')],
    finish: 'tool_calls',
    usage: usage(125, 45),
  },
  'parallel-tool-calls': {
    frames: '-c-c-c-ccc-cd',
    content: [
      text('Both.'),
      call('tooluse_1', 'get_weather', '{"city": "Paris"}'),
      call('tooluse_2', 'get_weather', '{"city": "Tokyo"}'),
    ],
    finish: 'tool_calls',
    usage: usage(10, 40),
  },
  'no-arguments': {
    frames: '-c-cd',
    content: [call('tooluse_1', 'now', '')],
    finish: 'tool_calls',
    usage: usage(10, 4),
  },
  reasoning: {
    frames: '-cc---c-cd',
    content: [thought('Let me count.', SIGNATURE), text('Three.')],
    finish: 'stop',
    usage: usage(51, 94),
  },
  redacted: {
    frames: '-c-cc-cd',
    content: [REDACTED, call('call_61f8', 'propose', '{"a":1}')],
    finish: 'tool_calls',
    usage: usage(67, 70),
  },
  'empty-blocks.kimi': {
    frames: '---c---cc---cd',
    content: [
      thought(' The user wants'),
      call('functions.glob_search:0', 'glob_search', '{"pattern": "**"}'),
    ],
    finish: 'tool_calls',
    usage: usage(217, 75),
  },
  'max-tokens': { frames: '-c-cd', content: [text('It was')], finish: 'length', usage: usage(2, 10) },
  guardrail: {
    frames: '-c-cd',
    content: [text('Sorry, the model cannot answer this question.')],
    finish: 'content_filter',
    usage: usage(18, 12),
  },
  'malformed-call': { frames: '-c-eu', error: 'stop reason malformed_tool_use', usage: usage(18, 2) },
  'stop-sequence': {
    frames: '-c-cd',
    content: [text('1, 2, ')],
    finish: 'stop',
    stopSequence: '3',
    usage: usage(5, 6),
  },
  cache: {
    frames: '-c-cd',
    content: [text('Hi.')],
    finish: 'stop',
    usage: usage(1212, 3, { cachedTokens: 1000, cacheWriteTokens: 200 }),
  },
  cut: { frames: '-cc', failure: 'cut' },
  'exception-alone': {
    frames: 'e',
    error:
      'validationException: The model returned the following errors: prompt is too long: 227255 tokens > 200000 maximum',
  },
  'exception-first': {
    frames: '-e',
    error: 'throttlingException: Too many requests, please wait before trying again.',
  },
  'exception-in-the-middle': {
    frames: '-ce',
    error: 'modelStreamErrorException: Model Stream Error (The model stream failed.)',
  },
  'error-of-the-transport': { frames: '-ce', error: 'InternalFailure: An internal server error occurred' },
}

/** The bytes of a stream that is written down as its events. */
function bytesOf(name: string): Buffer {
  const lines = golden.text(`${name}.stream.jsonl`).trimEnd().split('\n')
  return Buffer.concat(
    lines.map((line) => {
      const event: Readonly<Record<string, unknown>> = JSON.parse(line)
      if (typeof event.exception === 'string' && isRecord(event.payload))
        return toStreamException(event.exception, event.payload)
      if (typeof event.error === 'string') return toStreamError(event.error, String(event.message))
      const [[type, payload] = []] = Object.entries(event)
      if (type === undefined || !isRecord(payload)) throw new Error(`no event: ${line}`)
      return toStreamEvent(type, payload)
    }),
  )
}

describe('a stream', () => {
  it.each(Object.entries(STREAMS))('%s is read as it is meant', (name, told) => {
    const watch = provider.watch()
    const reader = chat.events(UNCHANGED)
    const split = splitter()
    const events: ChatEvent[] = []
    let frames = ''
    let error: string | undefined
    let last = ''
    for (const frame of split.push(bytesOf(name))) {
      const facts = watch.look(frame.data ?? '')
      expect(facts.malformed).toBe(false)
      if (facts.error !== undefined) {
        error = facts.error
        last = frame.data ?? ''
      }
      frames += letterOf(facts)
      if (facts.error === undefined) events.push(...reader.read(frame))
    }
    expect(split.rest()).toBeUndefined()
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
      const finish = events.find((event) => event.type === 'finish')
      expect(finish?.stopSequence).toBe(told.stopSequence)
      expect(watch.countedTokens).toBeGreaterThan(0)
    }
    if (error !== undefined) expect(provider.inBand(last).status).toBe(IN_BAND[name] ?? 500)
  })

  const IN_BAND: Readonly<Record<string, number>> = {
    'exception-alone': 400,
    'exception-first': 429,
    'exception-in-the-middle': 424,
  }

  it('that is too long says so, though its status is 200', () => {
    const [frame] = splitter().push(bytesOf('exception-alone'))
    const { fault } = provider.inBand(frame?.data ?? '')
    expect(fault).toMatchObject({ verdict: 'context', type: 'validationException', key: false })
    expect(fault.message).toContain('prompt is too long')
  })

  it('as it was captured is read', () => {
    const bytes = Buffer.from(golden.text('captured.eventstream.base64'), 'base64')
    const frames = splitter().push(bytes)
    const reader = chat.events(UNCHANGED)
    const watch = provider.watch()
    expect(frames.map(({ data }) => letterOf(watch.look(data ?? ''))).join('')).toBe('-cc-cd')
    expect(foldEvents(frames.flatMap((frame) => reader.read(frame)))).toEqual({
      id: '',
      model: '',
      choices: [{ content: [text('OK.')], finish: 'stop' }],
      usage: usage(12, 5),
    })
    expect(Buffer.concat(frames.map((frame) => frame.bytes)).equals(bytes)).toBe(true)
  })

  it('is in the table, each of them', () => {
    expect(golden.names('.stream.jsonl')).toEqual(Object.keys(STREAMS).sort())
  })
})

function letterOf(facts: ReturnType<ReturnType<typeof provider.watch>['look']>): string {
  if (facts.error !== undefined) return 'e'
  return facts.done ? 'd' : facts.content ? 'c' : facts.usageOnly ? 'u' : '-'
}

const REPLIES: Readonly<Record<string, Told>> = {
  plain: { content: [text('Hello! How can I assist you?')], finish: 'stop', usage: usage(2, 10) },
  'tool-call': {
    content: [call('tooluse_j6gI', 'get_weather', '{"city":"Paris"}')],
    finish: 'tool_calls',
    usage: usage(674, 36),
  },
  'parallel-tool-calls': {
    content: [
      text('Both.'),
      call('tooluse_1', 'get_weather', '{"city":"Paris"}'),
      call('tooluse_2', 'get_weather', '{"city":"Tokyo"}'),
    ],
    finish: 'tool_calls',
    usage: usage(10, 40),
  },
  reasoning: {
    content: [thought('Let me count.', SIGNATURE), text('Three.')],
    finish: 'stop',
    usage: usage(51, 94),
  },
  redacted: { content: [REDACTED, text('Three.')], finish: 'stop', usage: usage(67, 70) },
  'nova-2': { content: [thought('[REDACTED].'), text('ok')], finish: 'stop', usage: usage(88, 2980) },
  'structured-output': { content: [text('{"n":3}')], finish: 'stop', usage: usage(35, 12) },
  'max-tokens': {
    content: [text('Hello! How can I assist you today? If')],
    finish: 'length',
    usage: usage(2, 10),
  },
  window: { content: [text('It was')], finish: 'length', usage: usage(2, 10) },
  guardrail: {
    content: [text('Sorry, the model cannot answer this question.')],
    finish: 'content_filter',
    usage: usage(18, 12),
  },
  'content-filter': { content: [text('To make')], finish: 'content_filter', usage: usage(18, 2) },
  'malformed-call': { failure: 'in_band', error: 'stop reason malformed_tool_use' },
  'stop-sequence': { content: [text('1, 2, ')], finish: 'stop', stopSequence: '3', usage: usage(5, 6) },
  cache: {
    content: [text('Hi.')],
    finish: 'stop',
    usage: usage(1212, 3, { cachedTokens: 1000, cacheWriteTokens: 200 }),
  },
  'message-in-200': {
    failure: 'in_band',
    error: "This model doesn't support the image field for user messages. Remove image and try again.",
  },
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
    expect(whole.countedTokens).toBeGreaterThan(0)
    const read = chat.read(body, UNCHANGED)
    expect(read.choices).toEqual([
      { content: told.content, finish: told.finish, stopSequence: told.stopSequence, logprobs: undefined },
    ])
    expect(read.usage).toEqual(told.usage)
  })

  it.each([
    ['', 'empty'],
    ['<html>', 'malformed'],
    ['{}', 'malformed'],
    ['{"output":{"message":{}},"stopReason":"end_turn"}', 'malformed'],
  ])('%j is none', (body, failure) => {
    expect(provider.whole('chat', Buffer.from(body)).failure).toBe(failure)
  })

  it('is in the table, each of them', () => {
    expect(golden.names('.reply.json')).toEqual(Object.keys(REPLIES).sort())
  })
})

interface RecordedError {
  readonly name: string
  readonly status: number
  readonly type: string
  readonly body: unknown
  readonly verdict: string
  readonly key: boolean
  readonly park: boolean
  readonly retryAfterMs?: number
}

describe('an error', () => {
  const recorded: readonly RecordedError[] = JSON.parse(golden.text('errors.json'))

  it.each(recorded)('$name', ({ status, type, body, verdict, key, park, retryAfterMs }) => {
    const header = (name: string): string | undefined => (name === 'x-amzn-errortype' ? type : undefined)
    const fault = provider.fault(status, header, JSON.stringify(body), 0)
    expect(fault).toMatchObject({ verdict, key, park, retryAfterMs })
    expect(fault.message).not.toBe('')
    expect(fault.type).toMatch(/^[A-Za-z]+Exception$/)
  })

  it('tells its type in the body, where no header does', () => {
    const body = JSON.stringify({
      __type: 'com.amazon.coral.service#UnrecognizedClientException',
      Message: 'The security token included in the request is invalid.',
    })
    const fault = provider.fault(403, () => undefined, body, 0)
    expect(fault).toMatchObject({ key: true, park: true, type: 'UnrecognizedClientException' })
  })

  it('that is no JSON is the provider’s trouble', () => {
    expect(provider.fault(502, () => undefined, '<html>Bad Gateway</html>', 0).verdict).toBe('retry')
  })
})
