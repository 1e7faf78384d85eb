// Laws of Messages on both sides: what is written is never what the API would refuse, what a stream says does not depend
// on how it was cut or mixed, and what goes there comes back.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { GatewayError } from '../../../src/errors.ts'
import { anthropic } from '../../../src/formats/anthropic.ts'
import type { ChatEvent, ChatReply, ChatRequest, Message, Part } from '../../../src/formats/canonical.ts'
import type { AnswerTo, WrittenRequest } from '../../../src/formats/format.ts'
import {
  call,
  chatRequest,
  requests,
  type Said,
  said,
  system,
  thought,
  toEvents,
  tool,
  user,
} from '../../support/chat-arbitraries.ts'
import { messageFaults, readStream, requestFaults } from '../../support/messages-checker.ts'

const { client, provider } = anthropic
const { chat } = provider
if (chat === undefined) throw new Error('no translation')
const { write, read, events: createReader } = chat

const ORIGINS = ['anthropic', 'gemini', 'responses']
const MODELS = [
  'claude-opus-4-5',
  'claude-sonnet-4-5-20250929',
  'claude-opus-4-1-20250805',
  'claude-3-5-haiku-20241022',
  'claude-opus-4-6',
  'claude-opus-4-8',
  'claude-sonnet-5-5',
  'claude-opus-5-5',
  'claude-fable-5-1',
  'claude-next-9',
  'kimi-k2',
]
const asked = (model: string, maxOutputTokens?: number) => ({ model, maxOutputTokens, options: {} })
const NOTHING_WRITTEN: WrittenRequest = {
  body: { model: 'claude-opus-4-5' },
  headers: [],
  dropped: [],
  names: new Map(),
}

function answerTo(request: ChatRequest = chatRequest()): AnswerTo {
  let ids = 0
  return {
    request,
    sent: {},
    nowSeconds: 1_764_000_000,
    nextId: (prefix) => {
      ids += 1
      return `${prefix}${ids}`
    },
  }
}

function wire(events: readonly ChatEvent[]): string {
  const writer = client.chat.events(answerTo())
  return events.map((event) => writer.write(event)).join('') + writer.end()
}

/** Up to the first that cannot be written, or read: from there on the answer is a broken one. */
function upToFault<T, R>(list: readonly T[], take: (one: T) => R): R[] {
  const taken: R[] = []
  try {
    for (const one of list) taken.push(take(one))
  } catch (error) {
    expect(String(error)).toMatch(/behind the end of a call|of no call that is open|without a name/)
  }
  return taken
}

function readBack(
  sse: string | Buffer,
  cuts: readonly number[] = [],
  written = NOTHING_WRITTEN,
): ChatEvent[] {
  const bytes = Buffer.from(sse)
  const splitter = createFrameSplitter()
  const reader = createReader(written)
  const at = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b)
  const frames = [0, ...at].flatMap((from, i) => splitter.push(bytes.subarray(from, at[i] ?? bytes.length)))
  return frames.flatMap((frame) => reader.read(frame))
}

/** What events say, however the text was cut. */
function sum(events: readonly ChatEvent[]): Record<string, unknown>[] {
  const out: Record<string, unknown>[] = []
  for (const event of events) {
    const last = out.at(-1)
    if (event.type === 'text' || event.type === 'thinking') {
      if (last?.type === event.type) last.text = `${String(last.text)}${event.text}`
      else out.push({ type: event.type, text: event.text })
    } else if (event.type === 'arguments') {
      const open = out.find((one) => one.type === 'call' && one.call === event.call)
      if (open !== undefined) open.json = `${String(open.json)}${event.text}`
    } else if (event.type === 'call')
      out.push({ type: 'call', call: event.call, id: event.id, name: event.name, json: '' })
    else if (event.type === 'seal') out.push({ type: 'seal', ...event.sealed, isRedacted: event.isRedacted })
    else out.push({ ...event })
  }
  return out
}

describe('a request', () => {
  it('is never one that the API would refuse, whatever the history and the model', () => {
    fc.assert(
      fc.property(
        requests(ORIGINS),
        fc.constantFrom(...MODELS),
        fc.constantFrom(undefined, 16, 2_000, 100_000),
        (request, model, cap) => {
          const { body } = write(request, asked(model, cap))
          expect(requestFaults(JSON.parse(JSON.stringify(body)))).toEqual([])
          expect(body.max_tokens).toBeLessThanOrEqual(
            Math.min(cap ?? Infinity, request.maxOutputTokens ?? Infinity),
          )
        },
      ),
      { numRuns: 3_000 },
    )
  })

  it('leaves out no word of the conversation', () => {
    fc.assert(
      fc.property(requests(ORIGINS), fc.constantFrom(...MODELS), (request, model) => {
        const sent = JSON.stringify(write(request, asked(model)).body)
        for (const message of request.messages) {
          // Of two results of one call the last one counts.
          if (message.role === 'tool') continue
          for (const part of message.content) {
            if (part.type !== 'text' || part.text.trim() === '') continue
            expect(sent).toContain(JSON.stringify(part.text.trimEnd()).slice(1, -1))
          }
        }
      }),
      { numRuns: 500 },
    )
  })

  it('of a conversation in good order comes back as it was, read as a request of Messages', () => {
    const text = fc.string({ unit: 'grapheme', minLength: 1 }).filter((one) => one.trim() !== '')
    const exchange = fc
      .record({ ask: text, think: fc.option(text), call: fc.boolean(), say: text, id: fc.uuid(), done: text })
      .map((one): Message[] => [
        user(one.ask),
        {
          role: 'assistant',
          content: [
            ...(one.think === null ? [] : [thought(one.think, { origin: 'anthropic', value: 'c2ln' })]),
            { type: 'text' as const, text: one.say },
            ...(one.call ? [call(one.id, 'read_file', '{"path":"a"}')] : []),
          ],
        },
        ...(one.call
          ? ([
              {
                role: 'tool' as const,
                callId: one.id,
                content: [{ type: 'text' as const, text: one.done }],
                isError: false,
                cache: { ttl: undefined },
              },
            ] satisfies Message[])
          : []),
      ])
    fc.assert(
      fc.property(
        fc.array(exchange, { minLength: 1, maxLength: 4 }),
        text,
        text,
        (exchanges, rules, last) => {
          // Behind a result the user says nothing of their own, or the two would be one turn.
          const messages = [
            system(rules),
            ...exchanges.flat().filter((one, at, all) => !isBehindResult(one, all[at - 1])),
          ]
          const ending = messages.at(-1)?.role === 'tool' ? [] : [user(last)]
          const request = chatRequest({
            messages: limitMarks([...messages, ...ending]),
            tools: [tool('read_file', { description: 'Reads.' })],
            toolChoice: { type: 'required' },
            parallelToolCalls: false,
            maxOutputTokens: 1000,
            temperature: 0.5,
            stop: ['END'],
            user: 'ann',
            includeUsage: true,
          })
          const { body } = write(request, asked('claude-opus-4-6'))
          const back = client.chat.read(JSON.parse(JSON.stringify(body)))
          expect({ ...back.request, cacheKey: undefined }).toEqual(request)
          expect(back.dropped).toEqual([])
        },
      ),
    )
  })
})

function isBehindResult(message: Message, before: Message | undefined): boolean {
  return message.role === 'user' && before?.role === 'tool'
}

/** Four marks are the most. */
function limitMarks(messages: readonly Message[]): Message[] {
  const marked = messages.filter((one) => one.role === 'tool')
  const kept = new Set(marked.slice(-4))
  return messages.map((one) => (one.role === 'tool' && !kept.has(one) ? { ...one, cache: undefined } : one))
}

describe('a stream', () => {
  it('has one block open at a time and numbers without gaps, and adds up to what was said', () => {
    fc.assert(
      fc.property(said(ORIGINS), fc.integer({ min: 1, max: 9 }), (things, length) => {
        const sse = wire([START, ...toEvents(things, length), FINISH])
        const { faults, message } = readStream(sse)
        expect(faults).toEqual([])
        const blocks = Array.isArray(message.content) ? message.content : []
        const texts = blocks.filter((block) => block.type === 'text').map((block) => block.text)
        expect(texts.join('')).toBe(things.map((one) => (one.type === 'text' ? one.text : '')).join(''))
        const calls = blocks.filter((block) => block.type === 'tool_use')
        expect(calls.map(({ id, input }) => ({ id, input }))).toEqual(
          things.flatMap((one) =>
            one.type === 'call' ? [{ id: one.id, input: JSON.parse(one.json || '{}') }] : [],
          ),
        )
        const thoughts = blocks.filter((block) => block.type === 'thinking').map((block) => block.thinking)
        expect(thoughts.join('')).toBe(
          things.map((one) => (one.type === 'thinking' ? one.text : '')).join(''),
        )
      }),
      { numRuns: 2_000 },
    )
  })

  it('keeps every argument of parallel calls with its own call, however they are mixed', () => {
    const calls = fc.uniqueArray(fc.uuid(), { minLength: 2, maxLength: 5 }).chain((ids) =>
      fc.record({
        ids: fc.constant(ids),
        inputs: fc.array(
          fc.dictionary(fc.string({ maxLength: 6 }), fc.string({ maxLength: 8 }), { maxKeys: 3 }),
          {
            minLength: ids.length,
            maxLength: ids.length,
          },
        ),
        // Whose turn it is, over and over: a call begins with its first.
        turns: fc.array(fc.nat({ max: ids.length - 1 }), { maxLength: 60 }),
        text: fc.string({ maxLength: 10 }),
        textAt: fc.nat({ max: 60 }),
      }),
    )
    fc.assert(
      fc.property(calls, fc.integer({ min: 1, max: 5 }), ({ ids, inputs, turns, text, textAt }, length) => {
        const rest = inputs.map((input) => JSON.stringify(input))
        const numbers = new Map<number, number>()
        const events: ChatEvent[] = [START]
        const everyone = [...turns, ...ids.flatMap((_, i) => Array.from({ length: 200 }, () => i))]
        for (const [at, who] of everyone.entries()) {
          if (at === textAt && text !== '') events.push({ type: 'text', choice: 0, text })
          const number = numbers.get(who) ?? numbers.size
          if (!numbers.has(who)) {
            numbers.set(who, number)
            events.push({
              type: 'call',
              choice: 0,
              call: number,
              kind: 'function',
              id: ids[who] ?? '',
              name: 'search',
              namespace: undefined,
              sealed: undefined,
            })
            continue
          }
          const json = rest[who] ?? ''
          if (json === '') continue
          events.push({ type: 'arguments', choice: 0, call: number, text: json.slice(0, length) })
          rest[who] = json.slice(length)
        }
        events.push(FINISH)
        const { faults, message } = readStream(wire(events))
        expect(faults).toEqual([])
        const blocks = Array.isArray(message.content) ? message.content : []
        const uses = blocks.filter((block) => block.type === 'tool_use')
        expect(uses.map(({ id }) => id)).toEqual([...numbers.keys()].map((who) => ids[who]))
        for (const [i, id] of ids.entries())
          expect(uses.find((block) => block.id === id)?.input).toEqual(inputs[i])
        const texts = blocks.filter((block) => block.type === 'text').map((block) => block.text)
        expect(texts.join('')).toBe(text)
      }),
      { numRuns: 1_000 },
    )
  })

  it('is in order whatever a provider says, in whatever order', () => {
    const number = fc.nat({ max: 3 })
    const words = fc.constantFrom('', 'a', '{"a":', '1}', '"', '{}')
    const event: fc.Arbitrary<ChatEvent> = fc.oneof(
      fc.record({
        type: fc.constantFrom('text' as const, 'thinking' as const, 'refusal' as const),
        choice: fc.nat({ max: 1 }),
        text: words,
      }),
      fc.record({
        type: fc.constant('seal' as const),
        choice: fc.constant(0),
        sealed: fc.constant({ origin: 'gemini', value: 'x' }),
        isRedacted: fc.boolean(),
      }),
      fc.record({
        type: fc.constant('call' as const),
        choice: fc.constant(0),
        call: number,
        kind: fc.constantFrom('function' as const, 'custom' as const),
        id: fc.constantFrom('', 'a', 'b:1', 'b_1'),
        name: fc.constant('n'),
        namespace: fc.constant(undefined),
        sealed: fc.constantFrom(undefined, { origin: 'gemini', value: 'y' }),
      }),
      fc.record({
        type: fc.constant('arguments' as const),
        choice: fc.constant(0),
        call: number,
        text: words,
      }),
      fc.constant<ChatEvent>(USAGE),
      fc.constant<ChatEvent>(FINISH),
      fc.constant<ChatEvent>(START),
    )
    fc.assert(
      fc.property(fc.array(event, { maxLength: 25 }), (events) => {
        const { write } = client.chat.events(answerTo())
        const writable = events.slice(0, upToFault(events, write).length)
        const { faults, message } = readStream(wire(writable))
        // What a model writes as arguments may be no object; that is for its reader to see.
        expect(faults.filter((fault) => !fault.startsWith('content: {"type":"tool_use"'))).toEqual([])
        const ids = (Array.isArray(message.content) ? message.content : []).flatMap(({ type, id }) =>
          type === 'tool_use' ? [id] : [],
        )
        expect(new Set(ids).size).toBe(ids.length)
      }),
      { numRuns: 2_000 },
    )
  })

  it('is read without a fault whatever a provider sends, and as one that is in order', () => {
    const index = fc.nat({ max: 2 })
    const junk = fc.oneof(
      fc.constant(null),
      fc.constant(7),
      fc.constant('x'),
      fc.constant({}),
      fc.constant([]),
    )
    const block = fc.oneof(
      junk,
      fc.record({
        type: fc.constantFrom('text', 'thinking', 'redacted_thinking', 'tool_use', 'image'),
        text: fc.oneof(junk, fc.string()),
        thinking: fc.string(),
        data: fc.string(),
        id: fc.string(),
        name: fc.string(),
        input: junk,
      }),
    )
    const delta = fc.oneof(
      junk,
      fc.record({
        type: fc.constantFrom('text_delta', 'thinking_delta', 'signature_delta', 'input_json_delta', 'x'),
        text: fc.oneof(junk, fc.string()),
        thinking: fc.string(),
        signature: fc.base64String(),
        partial_json: fc.constantFrom('{', '}', '"a":1', ''),
      }),
    )
    const event = fc.oneof(
      fc.record({
        type: fc.constant('message_start'),
        message: fc.oneof(junk, fc.record({ id: junk, usage: junk })),
      }),
      fc.record({
        type: fc.constant('content_block_start'),
        index: fc.oneof(index, junk),
        content_block: block,
      }),
      fc.record({ type: fc.constant('content_block_delta'), index, delta }),
      fc.record({ type: fc.constant('content_block_stop'), index }),
      fc.record({
        type: fc.constant('message_delta'),
        delta: fc.oneof(junk, fc.record({ stop_reason: junk })),
        usage: junk,
      }),
      junk,
    )
    fc.assert(
      fc.property(fc.array(event, { maxLength: 20 }), (sent) => {
        const watch = provider.watch()
        const reader = createReader(NOTHING_WRITTEN)
        const events = upToFault(sent, (one) => {
          const data = JSON.stringify(one)
          watch.look(data)
          return reader.read({ bytes: Buffer.alloc(0), event: undefined, data })
        }).flat()
        expect(events.filter(({ type }) => type === 'start').length).toBeLessThanOrEqual(1)
        if (events.length > 0) expect(events[0]?.type).toBe('start')
        const { faults } = readStream(wire(events))
        expect(faults.filter((fault) => !fault.startsWith('content: {"type":"tool_use"'))).toEqual([])
      }),
      { numRuns: 1_000 },
    )
  })

  it('is the same wherever its bytes were cut', () => {
    fc.assert(
      fc.property(said(ORIGINS), fc.array(fc.nat(), { maxLength: 30 }), (things, cuts) => {
        const sse = wire([START, ...toEvents(things, 4), USAGE, FINISH])
        expect(readBack(sse, cuts)).toEqual(readBack(sse))
      }),
    )
  })

  it('comes back as what was said, with the seals of its own', () => {
    fc.assert(
      fc.property(said(['anthropic']), fc.integer({ min: 1, max: 9 }), (things, length) => {
        const sealed = things.filter((one) => one.type !== 'thinking' || one.sealed !== undefined)
        const events = [START, ...toEvents(sealed, length), USAGE, FINISH]
        const back = readBack(wire(events))
        const isCall = sealed.some((one) => one.type === 'call')
        const finish = { ...FINISH, finish: isCall ? 'tool_calls' : 'stop' }
        // A call without arguments is told as `{}`.
        const told = sum(events).map((one) =>
          'json' in one && one.json === '' ? { ...one, json: '{}' } : one,
        )
        // The prompt is counted from the start on, with nothing where nobody has counted yet.
        const [start, ...rest] = sum(back)
        expect(start).toMatchObject({ type: 'start', id: 'msg_1', model: 'claude-opus-4-5' })
        expect(rest).toEqual([...told.slice(1, -2), { type: 'usage', usage: USAGE.usage }, finish])
      }),
      { numRuns: 1_000 },
    )
  })

  it('says what the whole reply says', () => {
    fc.assert(
      fc.property(said(ORIGINS), (things) => {
        const joined = joinTexts(things)
        const { message } = readStream(wire([START, ...toEvents(joined, 5), USAGE, FINISH]))
        const whole = client.chat.write(toReply(joined), answerTo())
        expect(messageFaults(JSON.parse(JSON.stringify(whole)))).toEqual([])
        expect(message).toEqual(JSON.parse(JSON.stringify(whole)))
      }),
    )
  })
})

describe('a request of Messages', () => {
  it('is read, or refused by the name of a field, whatever is in it', () => {
    const junk = fc.oneof(
      fc.constant(null),
      fc.constant(7),
      fc.constant('x'),
      fc.constant({}),
      fc.constant([]),
      fc.constant(true),
    )
    const or = <T>(one: fc.Arbitrary<T>) =>
      fc.oneof({ weight: 40, arbitrary: one }, { weight: 1, arbitrary: junk })
    const source = or(
      fc.record({
        type: fc.constantFrom('base64', 'url'),
        media_type: or(fc.constant('image/png')),
        data: or(fc.constant('aGk=')),
        url: or(fc.constant('https://example.com')),
        file_id: or(fc.constant('f')),
        content: or(fc.string()),
      }),
    )
    const types = [
      'text',
      'image',
      'document',
      'tool_use',
      'tool_result',
      'thinking',
      'redacted_thinking',
      'search_result',
      'server_tool_use',
    ]
    const block = or(
      fc.record({
        type: or(fc.constantFrom(...types)),
        text: or(fc.string()),
        source,
        id: or(fc.constant('t')),
        name: or(fc.constant('n')),
        input: or(fc.constant({})),
        tool_use_id: or(fc.constant('t')),
        content: or(fc.string()),
        thinking: or(fc.string()),
        signature: or(fc.base64String()),
        data: or(fc.base64String()),
        cache_control: or(fc.constant({ type: 'ephemeral' })),
        title: junk,
      }),
    )
    const message = or(
      fc.record({
        role: or(fc.constantFrom('user', 'assistant', 'system')),
        content: or(fc.oneof(fc.string(), fc.array(block, { maxLength: 3 }))),
      }),
    )
    const sent = fc.record({
      model: fc.constant('m'),
      max_tokens: or(fc.nat()),
      messages: or(fc.array(message, { maxLength: 4 })),
      system: or(
        fc.array(or(fc.record({ type: or(fc.constant('text')), text: or(fc.string()) })), { maxLength: 2 }),
      ),
      tools: or(
        fc.array(
          or(
            fc.record({
              name: or(fc.constant('n')),
              type: or(fc.constant('custom')),
              input_schema: or(fc.constant({})),
            }),
          ),
          { maxLength: 1 },
        ),
      ),
      tool_choice: or(
        fc.record({ type: or(fc.constantFrom('auto', 'any', 'tool', 'none')), name: or(fc.constant('n')) }),
      ),
      thinking: or(
        fc.record({
          type: or(fc.constantFrom('enabled', 'adaptive', 'disabled')),
          budget_tokens: or(fc.nat()),
        }),
      ),
      output_config: or(fc.record({ effort: or(fc.constant('low')), format: or(fc.constant(null)) })),
      metadata: or(fc.record({ user_id: or(fc.string()) })),
      stop_sequences: or(fc.constant(['END'])),
      stream: or(fc.boolean()),
    })
    let refused = 0
    fc.assert(
      fc.property(sent, (body) => {
        try {
          const { request } = client.chat.read(body)
          const { body: written } = write(request, asked('claude-opus-4-5'))
          expect(requestFaults(JSON.parse(JSON.stringify(written)))).toEqual([])
        } catch (error) {
          if (!(error instanceof GatewayError)) throw error
          expect(error).toMatchObject({ code: 'invalid_request', param: expect.any(String) })
          refused += 1
        }
      }),
      { numRuns: 3_000 },
    )
    expect(refused).toBeLessThan(2_900)
  })
})

describe('a reply', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(said(['anthropic']), (things) => {
        const reply = toReply(things)
        const body = Buffer.from(JSON.stringify(client.chat.write(reply, answerTo())))
        const [choice] = read(body, NOTHING_WRITTEN).choices
        const expected = reply.choices[0]?.content.map(normal)
        // Thoughts without a seal come back with our mark, which only a reader of callers takes away.
        expect(choice?.content.map(normal).map(unmarked)).toEqual(expected)
      }),
    )
  })

  it('gives every thought back to who sealed it, and to nobody else', () => {
    fc.assert(
      fc.property(said(ORIGINS), (things) => {
        const reply = toReply(things)
        const message: unknown = JSON.parse(JSON.stringify(client.chat.write(reply, answerTo())))
        const content =
          typeof message === 'object' && message !== null && 'content' in message ? message.content : []
        const { request } = client.chat.read({
          model: 'm',
          max_tokens: 1,
          messages: [{ role: 'assistant', content }],
        })
        const back = request.messages[0]
        expect((back?.role === 'assistant' ? back.content : []).map(normal)).toEqual(
          reply.choices[0]?.content.map(normal),
        )
        const sent = JSON.stringify(write(request, asked('claude-opus-4-6')).body)
        expect(sent).not.toContain('sluice:')
        for (const one of things)
          if ('sealed' in one && one.sealed !== undefined && one.sealed.origin !== 'anthropic')
            expect(sent).not.toContain(JSON.stringify(one.sealed.value))
      }),
    )
  })
})

const START: ChatEvent = {
  type: 'start',
  id: 'msg_1',
  model: 'claude-opus-4-5',
  createdSeconds: undefined,
  usage: undefined,
}
const FINISH: Extract<ChatEvent, { readonly type: 'finish' }> = {
  type: 'finish',
  choice: 0,
  finish: 'stop',
  stopSequence: undefined,
}
const USAGE: Extract<ChatEvent, { readonly type: 'usage' }> = {
  type: 'usage',
  usage: {
    inputTokens: 100,
    cachedTokens: 60,
    cacheWriteTokens: 10,
    audioInputTokens: 0,
    outputTokens: 7,
    reasoningTokens: 0,
    audioOutputTokens: 0,
    source: 'provider',
  },
}

/** Neighbours that a stream cannot tell apart: text beside text, and a thought without a seal before another. */
function joinTexts(things: readonly Said[]): Said[] {
  const out: Said[] = []
  for (const thing of things) {
    const last = out.at(-1)
    if (thing.type === 'text' && last?.type === 'text')
      out[out.length - 1] = { ...last, text: last.text + thing.text }
    else if (thing.type === 'thinking' && last?.type === 'thinking' && last.sealed === undefined)
      out[out.length - 1] = { ...thing, text: last.text + thing.text }
    // In the middle of text it would wait for the end of that.
    else if (thing.type === 'thinking' && thing.sealed === undefined && last?.type === 'text') continue
    else out.push(thing)
  }
  return out
}

function toReply(things: readonly Said[]): ChatReply {
  const content = things.map((thing): Part => {
    switch (thing.type) {
      case 'text':
        return { type: 'text', text: thing.text }
      case 'thinking':
        return thought(thing.text, thing.sealed)
      case 'redacted':
        return thought('', thing.sealed, true)
      default:
        return call(thing.id, thing.name, thing.json)
    }
  })
  return {
    id: 'msg_1',
    createdSeconds: undefined,
    model: 'claude-opus-4-5',
    choices: [{ content, finish: 'stop', stopSequence: undefined, logprobs: undefined }],
    usage: USAGE.usage,
    serviceTier: undefined,
  }
}

function normal(part: Part): Part {
  return part.type === 'call'
    ? { ...part, arguments: JSON.stringify(JSON.parse(part.arguments || '{}')) }
    : part
}

function unmarked(part: Part): Part {
  return part.type === 'thinking' && part.sealed?.value.startsWith('sluice:') === true
    ? { ...part, sealed: undefined }
    : part
}
