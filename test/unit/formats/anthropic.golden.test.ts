// Replies, streams and errors in the shapes that Anthropic and servers of its format are known to send
// (test/golden/anthropic), and what is read out of them: by the watch between equals, by the reader in translation.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { anthropic } from '../../../src/formats/anthropic.ts'
import type { ChatEvent, Finish, Part } from '../../../src/formats/canonical.ts'
import type { WrittenRequest } from '../../../src/formats/format.ts'
import type { Usage } from '../../../src/types.ts'
import { call, chatRequest, thought } from '../../support/chat-arbitraries.ts'
import { usageOf } from '../../support/golden.ts'

const FOLDER = join(import.meta.dirname, '../../golden/anthropic')
const { provider } = anthropic
const { chat } = provider
if (chat === undefined) throw new Error('no translation')
const translation = chat

const usage = (over: Partial<Usage> = {}): Usage => usageOf(25, 15, over)
const CACHED = { inputTokens: 2_421, cachedTokens: 2_000, cacheWriteTokens: 400 }

interface Golden {
  /** A letter per frame: content, done, error, malformed, a comment, nothing (`-`). */
  readonly frames: string
  readonly usage: Usage | undefined
  /** What is said, in canonical form; in a whole reply the same. */
  readonly content: readonly Part[]
  /** Undefined where it broke. */
  readonly finish: Finish | undefined
  readonly stopSequence?: string
  readonly error?: string
  readonly model?: string
}

const text = (words: string): Part => ({ type: 'text', text: words })
const SIGNATURE = { origin: 'anthropic', value: 'EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds=' }
const SECOND = { origin: 'anthropic', value: 'EpUBCkYIBRgCKkDx3nDVR2wzV9PqLXlqj1HVxHLWBaEdSXfB=' }
const REDACTED = {
  origin: 'anthropic',
  value: 'EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIwxtE3rAFBa8cr3qpP',
}

const STREAMS: Readonly<Record<string, Golden>> = {
  plain: { frames: '-c-cc-cd', usage: usage(), content: [text('Hello! How can I help?')], finish: 'stop' },
  'cached-usage': {
    frames: '-cc-cd',
    usage: usage({ ...CACHED, reasoningTokens: 4 }),
    content: [text('Hello')],
    finish: 'stop',
  },
  'tool-use': {
    frames: '-c-cc-cccccc-cd',
    usage: usage(),
    content: [
      text("Okay, let's check the weather:"),
      call(
        'toolu_01T1x1fJ34qAmk2tNTrN7Up6',
        'get_weather',
        '{"location": "San Francisco, CA", "unit": "fahrenheit"}',
      ),
    ],
    finish: 'tool_calls',
  },
  'parallel-tool-use': {
    frames: '-cccc-cc-cccc-cd',
    usage: usage(),
    content: [
      call('toolu_A', 'get_weather', '{"location": "Paris"}'),
      call('toolu_B', 'get_time', ''),
      call('toolu_C', 'get_weather', '{"location": "Rome"}'),
    ],
    finish: 'tool_calls',
  },
  thinking: {
    frames: '-cccc-cc-cd',
    usage: usage({ reasoningTokens: 9 }),
    content: [thought('27 * 453 = 12231.', SIGNATURE), text('12231')],
    finish: 'stop',
  },
  'several-thoughts': {
    frames: '-ccc-c-ccc-cc-cc-cd',
    usage: usage(),
    content: [
      thought('27 * 453 = 12231.', SIGNATURE),
      thought('', REDACTED, true),
      thought('Then the clock.', SECOND),
      text('Let me look.'),
      call('toolu_A', 'get_time', ''),
    ],
    finish: 'tool_calls',
  },
  'omitted-thinking': {
    frames: '-cc-cc-cd',
    usage: usage(),
    content: [thought('', SIGNATURE), text('12231')],
    finish: 'stop',
    model: 'claude-opus-5',
  },
  'structured-output': {
    frames: '-ccc-cd',
    usage: usage(),
    content: [text('{"name":"John Smith","plan":"Enterprise"}')],
    finish: 'stop',
  },
  'answer-tool': {
    frames: '-cccc-cd',
    usage: usage(),
    content: [text('{"name":"John Smith"}')],
    finish: 'stop',
    model: 'claude-sonnet-4-20250514',
  },
  refusal: {
    frames: '-cc-cd',
    usage: usage(),
    content: [
      text("I'd say"),
      { type: 'refusal', text: 'This request was declined because it could enable cyber harm.' },
    ],
    finish: 'content_filter',
    model: 'claude-opus-5',
  },
  'max-tokens': { frames: '-cc-cd', usage: usage(), content: [text('Once upon a')], finish: 'length' },
  'window-exceeded': { frames: '-cc-cd', usage: usage(), content: [text('Once')], finish: 'length' },
  'stop-sequence': {
    frames: '-cc-cd',
    usage: usage(),
    content: [text('one, two, ')],
    finish: 'stop',
    stopSequence: 'three',
  },
  'empty-content': { frames: '-cd', usage: usage({ outputTokens: 2 }), content: [], finish: 'stop' },
  'server-tool': {
    frames: '-cc-cc-c-ccc-cd',
    usage: usage(),
    content: [text("I'll search.Sunny.")],
    finish: 'stop',
  },
  'unknown-events': { frames: ':---ccc-cd', usage: usage(), content: [text('Hi')], finish: 'stop' },
  'error-after-start': {
    frames: '--e',
    usage: usage({ outputTokens: 1 }),
    content: [],
    finish: undefined,
    error: 'Overloaded',
  },
  'error-mid-stream': {
    frames: '-cce',
    usage: usage({ outputTokens: 1 }),
    content: [text('Hel')],
    finish: undefined,
    error: 'Overloaded',
  },
  'cut-mid-text': {
    frames: '-cc',
    usage: usage({ outputTokens: 1 }),
    content: [text('Hel')],
    finish: undefined,
  },
  'without-message-stop': { frames: '-cc-c', usage: usage(), content: [text('Hello')], finish: 'stop' },
  crlf: { frames: '-cc-cd', usage: usage(), content: [text('Hello')], finish: 'stop' },
  'whole-input.compatible': {
    frames: '-c-cd',
    usage: usage(),
    content: [call('call_0', 'get_weather', '{"location":"Paris"}')],
    finish: 'tool_calls',
    model: 'kimi-k2',
  },
  'reused-index.compatible': {
    frames: '-cc-cc-cc-cd',
    usage: usage(),
    content: [thought('Hm.'), text('Hello'), call('call_0', 'get_time', '{}')],
    finish: 'tool_calls',
    model: 'qwen3',
  },
  'without-block-stop.compatible': {
    frames: '-cccccd',
    usage: usage(),
    content: [thought('Hm.', SIGNATURE), call('call_0', 'get_weather', '{"location":"Paris"}')],
    finish: 'tool_calls',
    model: 'glm',
  },
  'usage-only-at-the-end.compatible': {
    frames: '-cc-cd',
    usage: usage(),
    content: [text('Hello')],
    finish: 'stop',
    model: 'glm',
  },
}

const SCHEMA = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] }

/** As the request was written: only an answer in JSON leaves a trace for the reader. */
function written(name: string): WrittenRequest {
  return translation.write(
    chatRequest(
      name === 'answer-tool'
        ? {
            responseFormat: {
              type: 'json_schema',
              name: 'p',
              description: undefined,
              schema: SCHEMA,
              strict: true,
            },
          }
        : {},
    ),
    { model: 'claude-sonnet-4-20250514', maxOutputTokens: undefined, options: {} },
  )
}

describe('a recorded stream', () => {
  it.each(Object.entries(STREAMS))('%s is watched as it is meant', (name, expected) => {
    const watch = provider.watch()
    const splitter = createFrameSplitter()
    let frames = ''
    let error: string | undefined
    for (const { data } of splitter.push(readFileSync(join(FOLDER, `${name}.stream.sse`)))) {
      if (data === undefined) {
        frames += ':'
        continue
      }
      const facts = watch.look(data)
      error = facts.error ?? error
      const { done, content, malformed } = facts
      frames += facts.error !== undefined ? 'e' : malformed ? 'm' : done ? 'd' : content ? 'c' : '-'
      expect(facts.usageOnly).toBe(false)
    }
    expect(splitter.rest()).toBeUndefined()
    const isWhole = expected.finish !== undefined
    expect({ frames, finished: watch.finished, usage: watch.usage, error }).toEqual({
      frames: expected.frames,
      finished: isWhole,
      usage: expected.usage,
      error: expected.error,
    })
    expect(watch.finishedChoices).toBe(isWhole ? 1 : 0)
    if (expected.content.length > 0) expect(watch.countedTokens).toBeGreaterThan(0)
  })

  it.each(Object.entries(STREAMS))('%s is read as it is meant, wherever it was cut', (name, expected) => {
    const bytes = readFileSync(join(FOLDER, `${name}.stream.sse`))
    const events = readEvents(name, [bytes])
    const { model = 'claude-opus-4-5-20251101', finish, stopSequence } = expected
    expect(events[0]).toMatchObject({ type: 'start', model })
    expect(toContent(events)).toEqual(expected.content)
    expect(events.filter((event) => event.type === 'finish')).toEqual(
      finish === undefined ? [] : [{ type: 'finish', choice: 0, finish, stopSequence }],
    )
    if (finish !== undefined)
      expect(events.findLast((event) => event.type === 'usage')).toEqual({
        type: 'usage',
        usage: expected.usage,
      })
    for (let at = 1; at < bytes.length; at += 1)
      expect(readEvents(name, [bytes.subarray(0, at), bytes.subarray(at)])).toEqual(events)
  })

  it('is in the table, each of them', () => {
    const recorded = readdirSync(FOLDER).flatMap((file) => /^(.*)\.stream\.sse$/.exec(file)?.[1] ?? [])
    expect(recorded.sort()).toEqual(Object.keys(STREAMS).sort())
  })
})

function readEvents(name: string, chunks: readonly Buffer[]): ChatEvent[] {
  const splitter = createFrameSplitter()
  const reader = translation.events(written(name))
  const frames = chunks.flatMap((chunk) => splitter.push(chunk))
  // What tells an error is never given to the reader.
  const glance = provider.watch()
  return frames.flatMap((frame) =>
    frame.data === undefined || glance.look(frame.data).error !== undefined ? [] : reader.read(frame),
  )
}

/** What the events add up to, as a whole reply has it. */
function toContent(events: readonly ChatEvent[]): Part[] {
  const content: Part[] = []
  for (const event of events) {
    const last = content.at(-1)
    if (event.type === 'text') {
      if (last?.type === 'text') content[content.length - 1] = { ...last, text: last.text + event.text }
      else content.push({ type: 'text', text: event.text })
    } else if (event.type === 'thinking') {
      if (last?.type === 'thinking' && last.sealed === undefined)
        content[content.length - 1] = { ...last, text: last.text + event.text }
      else content.push(thought(event.text))
    } else if (event.type === 'seal') {
      if (!event.isRedacted && last?.type === 'thinking' && last.sealed === undefined)
        content[content.length - 1] = { ...last, sealed: event.sealed }
      else content.push(thought('', event.sealed, event.isRedacted))
    } else if (event.type === 'call') content.push(call(event.id, event.name, ''))
    else if (event.type === 'arguments' && last?.type === 'call')
      content[content.length - 1] = { ...last, arguments: last.arguments + event.text }
    else if (event.type === 'refusal') content.push({ type: 'refusal', text: event.text })
  }
  return content
}

describe('a recorded reply', () => {
  const recorded = readdirSync(FOLDER).flatMap((file) => /^(.*)\.reply\.json$/.exec(file)?.[1] ?? [])

  it.each(recorded.filter((name) => name !== 'error-in-200'))('%s says what its stream says', (name) => {
    const body = readFileSync(join(FOLDER, `${name}.reply.json`))
    const golden = STREAMS[name]
    if (golden === undefined) throw new Error(`no stream ${name}`)
    const facts = provider.whole('chat', body)
    expect(facts).toMatchObject({ failure: undefined, error: undefined })
    expect(facts.usage).toMatchObject({
      inputTokens: golden.usage?.inputTokens,
      outputTokens: golden.usage?.outputTokens,
    })
    const reply = translation.read(body, written(name))
    expect(reply).toMatchObject({
      id: 'msg_01XFDUDYJgAACzvnptvVoYEL',
      model: golden.model ?? 'claude-opus-4-5-20251101',
      usage: facts.usage,
      serviceTier: 'standard',
    })
    const [choice] = reply.choices
    // A whole refusal may come without the words before it, and its explanation is the same.
    const partial = name === 'refusal' ? golden.content.slice(1) : golden.content
    expect(choice?.content.map(normal)).toEqual(joined(partial).map(normal))
    expect(choice).toMatchObject({ finish: golden.finish, stopSequence: golden.stopSequence })
  })

  it('calls with what the model wrote, digit by digit', () => {
    const input = '{ "id" : 12345678901234567890, "at": 1.0 }'
    const body = `{"type":"message","content":[{"type":"tool_use","id":"t","name":"get","input":${input}}],"stop_reason":"tool_use"}`
    const [choice] = translation.read(Buffer.from(body), written('plain')).choices
    expect(choice?.content).toEqual([call('t', 'get', input)])
  })

  it('that is an error is none, and says which', () => {
    const body = readFileSync(join(FOLDER, 'error-in-200.reply.json'))
    expect(provider.whole('chat', body)).toMatchObject({ failure: 'in_band', error: 'Overloaded' })
    expect(provider.inBand(body.toString())).toMatchObject({
      status: 529,
      fault: { verdict: 'retry', key: false, type: 'overloaded_error' },
    })
  })

  it('that is not one is malformed or empty', () => {
    expect(provider.whole('chat', Buffer.from(''))).toMatchObject({ failure: 'empty' })
    for (const body of ['<html>', '[]', '{"type":"message"}', '{"type":"message","content":["x"]}'])
      expect(provider.whole('chat', Buffer.from(body))).toMatchObject({ failure: 'malformed' })
  })
})

/** Blocks of a provider's own tools stand between texts that a stream joins. */
function joined(content: readonly Part[]): Part[] {
  const [first] = content
  return content.length === 1 && first?.type === 'text' && first.text === "I'll search.Sunny."
    ? [text("I'll search."), text('Sunny.')]
    : [...content]
}

/** An answer in JSON stands in a whole reply as the provider laid it out. */
function normal(part: Part): Part {
  if (part.type === 'text' && part.text.startsWith('{'))
    return { ...part, text: JSON.stringify(JSON.parse(part.text)) }
  return part.type === 'call'
    ? { ...part, arguments: JSON.stringify(JSON.parse(part.arguments || '{}')) }
    : part
}

interface RecordedError {
  readonly name: string
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
  readonly fault: Readonly<Record<string, unknown>>
}

describe('a recorded error', () => {
  const errors: readonly RecordedError[] = JSON.parse(readFileSync(join(FOLDER, 'errors.json'), 'utf8'))
  const nowMs = Date.parse('2026-11-26T04:00:00Z')

  it.each(errors.map((error) => [error.name, error] as const))('%s', (_, error) => {
    const body = typeof error.body === 'string' ? error.body : JSON.stringify(error.body)
    const fault = provider.fault(error.status, (name) => error.headers[name], body, nowMs)
    expect(fault).toMatchObject(error.fault)
    expect(fault.retryAfterMs).toBe(error.fault.retryAfterMs)
  })

  it.each(errors.filter(({ body }) => typeof body !== 'string').map((error) => [error.name, error] as const))(
    '%s means the same inside a 200',
    (_, error) => {
      const { status, fault } = provider.inBand(JSON.stringify(error.body))
      const { retryAfterMs: _waits, ...expected } = error.fault
      expect(status).toBe(error.status)
      expect(fault).toMatchObject(expected)
    },
  )

  it('tells of the scarcest quota', () => {
    const headers: Readonly<Record<string, string>> = {
      'anthropic-ratelimit-requests-limit': '50',
      'anthropic-ratelimit-requests-remaining': '49',
      'anthropic-ratelimit-requests-reset': '2026-11-26T04:00:01Z',
      'anthropic-ratelimit-output-tokens-limit': '8000',
      'anthropic-ratelimit-output-tokens-remaining': '800',
      'anthropic-ratelimit-output-tokens-reset': '2026-11-26T04:00:54Z',
    }
    expect(provider.quota((name) => headers[name], nowMs)).toEqual({ share: 0.1, resetMs: 54_000 })
    expect(provider.quota(() => undefined, nowMs)).toBeUndefined()
  })
})
