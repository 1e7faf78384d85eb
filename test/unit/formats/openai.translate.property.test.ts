// Laws of OpenAI's chat as a translation: what is written is read again as it was, whole and streamed, wherever the
// stream is cut; and what a caller is given it can hand back.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import type {
  CallPart,
  ChatEvent,
  ChatReply,
  ChatRequest,
  Finish,
  Message,
  Part,
} from '../../../src/formats/canonical.ts'
import type { AnswerTo, WrittenRequest } from '../../../src/formats/format.ts'
import { openai } from '../../../src/formats/openai.ts'
import { chatRequest } from '../../support/chat-arbitraries.ts'
import { schemaFaults } from '../../support/openai-schema.ts'

const { client, provider } = openai
const UNCHANGED: WrittenRequest = { body: {}, headers: [], dropped: [], names: new Map() }

const word = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
const name = fc.stringMatching(/^[a-zA-Z0-9_-]{1,40}$/)
const amount = fc.nat(1_000_000)
const usage = fc.record({
  inputTokens: amount,
  cachedTokens: amount,
  cacheWriteTokens: amount,
  audioInputTokens: amount,
  outputTokens: amount,
  reasoningTokens: amount,
  audioOutputTokens: amount,
  source: fc.constant('provider' as const),
})
const call = fc.record({
  type: fc.constant('call' as const),
  kind: fc.constantFrom('function' as const, 'custom' as const),
  id: name,
  name,
  namespace: fc.constant(undefined),
  arguments: fc.oneof(fc.constant('{}'), fc.json({ maxDepth: 1 }), word),
  sealed: fc.constant(undefined),
})
const calls = fc.uniqueArray(call, { maxLength: 3, selector: ({ id }) => id })
const thinking = word.map(
  (text) => ({ type: 'thinking', text, sealed: undefined, isRedacted: false }) as const,
)

/** What one choice says, in the order that chat has for it. */
const said = fc
  .record({
    thoughts: fc.array(thinking, { maxLength: 1 }),
    text: fc.array(word, { maxLength: 1 }),
    refusal: fc.array(word, { maxLength: 1 }),
    calls,
  })
  .map(({ thoughts, text, refusal, calls: made }): Part[] => [
    ...thoughts,
    ...text.map((one) => ({ type: 'text', text: one }) as const),
    ...refusal.map((one) => ({ type: 'refusal', text: one }) as const),
    ...made,
  ])

const choice = fc
  .record({ content: said, finish: fc.constantFrom<Finish>('stop', 'length', 'content_filter') })
  .map(({ content, finish }) => ({
    content,
    finish: finish === 'stop' && content.some((part) => part.type === 'call') ? 'tool_calls' : finish,
    stopSequence: undefined,
    logprobs: undefined,
  }))

const reply: fc.Arbitrary<ChatReply> = fc.record({
  id: name,
  createdSeconds: fc.integer({ min: 1, max: 2_000_000_000 }),
  model: name,
  choices: fc.array(choice, { minLength: 1, maxLength: 2 }),
  usage: fc.option(usage, { nil: undefined }),
  serviceTier: fc.constant(undefined),
})

const REQUEST = chatRequest({ stream: true, includeUsage: true })

const TO: AnswerTo = {
  request: REQUEST,
  sent: { model: 'asked' },
  nowSeconds: 1_760_000_000,
  nextId: (prefix) => `${prefix}new`,
}

describe('a whole reply', () => {
  it('is read as it was written, and is what OpenAI describes', () => {
    fc.assert(
      fc.property(reply, (one) => {
        const written = client.chat.write(one, TO)
        expect(schemaFaults('CreateChatCompletionResponse', written)).toEqual([])
        const body = Buffer.from(JSON.stringify(written))
        expect(provider.whole('chat', body).failure).toBeUndefined()
        expect(provider.chat.read(body, UNCHANGED)).toEqual(one)
      }),
    )
  })
})

/** The events of a reply, its pieces cut in two. */
function toEvents({ id, model, createdSeconds, choices, usage: told }: ChatReply): ChatEvent[] {
  const events: ChatEvent[] = [{ type: 'start', id, model, createdSeconds, usage: undefined }]
  for (const [index, { content, finish }] of choices.entries()) {
    let made = 0
    for (const part of content) {
      const halves = (text: string): string[] => {
        const letters = [...text]
        const half = letters.length >> 1
        return [letters.slice(0, half).join(''), letters.slice(half).join('')].filter((one) => one !== '')
      }
      if (part.type === 'call') {
        const { kind, id: callId, name: called, namespace, sealed } = part
        events.push({
          type: 'call',
          choice: index,
          call: made,
          kind,
          id: callId,
          name: called,
          namespace,
          sealed,
        })
        for (const text of halves(part.arguments))
          events.push({ type: 'arguments', choice: index, call: made, text })
        made += 1
      } else if (part.type === 'text' || part.type === 'refusal' || part.type === 'thinking') {
        for (const text of halves(part.text)) events.push({ type: part.type, choice: index, text })
      }
    }
    events.push({ type: 'finish', choice: index, finish, stopSequence: undefined })
  }
  if (told !== undefined) events.push({ type: 'usage', usage: told })
  return events
}

/** The reply that events come to. */
function fold(events: readonly ChatEvent[]): ChatReply {
  const choices: { content: Part[]; finish: Finish; stopSequence: undefined; logprobs: undefined }[] = []
  let start: Extract<ChatEvent, { type: 'start' }> | undefined
  let told: ChatReply['usage']
  for (const event of events) {
    if (event.type === 'start') {
      expect(start).toBeUndefined()
      start = event
      continue
    }
    expect(start).toBeDefined()
    if (event.type === 'usage') {
      told = event.usage
      continue
    }
    choices[event.choice] ??= { content: [], finish: 'stop', stopSequence: undefined, logprobs: undefined }
    const open = choices[event.choice]
    if (open === undefined) continue
    const last = open.content.at(-1)
    if (event.type === 'finish') open.finish = event.finish
    else if (event.type === 'call') {
      expect(event.call).toBe(open.content.filter((part) => part.type === 'call').length)
      const { kind, id, name: called, namespace, sealed } = event
      open.content.push({ type: 'call', kind, id, name: called, namespace, arguments: '', sealed })
    } else if (event.type === 'arguments') {
      const made = open.content.filter((part): part is CallPart => part.type === 'call')[event.call]
      const at = open.content.indexOf(made as CallPart)
      open.content[at] = { ...(made as CallPart), arguments: `${made?.arguments}${event.text}` }
    } else if (event.type === 'text' || event.type === 'refusal' || event.type === 'thinking') {
      if (last?.type === event.type)
        open.content[open.content.length - 1] = { ...last, text: last.text + event.text }
      else if (event.type === 'thinking')
        open.content.push({ type: 'thinking', text: event.text, sealed: undefined, isRedacted: false })
      else open.content.push({ type: event.type, text: event.text })
    }
  }
  return {
    id: start?.id ?? '',
    model: start?.model ?? '',
    createdSeconds: start?.createdSeconds,
    choices,
    usage: told,
    serviceTier: undefined,
  }
}

describe('a stream', () => {
  it('is read as it was written, wherever it is cut, and each chunk is what OpenAI describes', () => {
    fc.assert(
      fc.property(reply, fc.integer({ min: 1, max: 40 }), (one, step) => {
        const writer = client.chat.events(TO)
        const bytes = Buffer.from(toEvents(one).map(writer.write).join('') + writer.end())
        const splitter = createFrameSplitter()
        const reader = provider.chat.events(UNCHANGED)
        const watch = provider.watch()
        const events: ChatEvent[] = []
        let dones = 0
        for (let at = 0; at < bytes.length; at += step) {
          for (const frame of splitter.push(bytes.subarray(at, at + step))) {
            const data = frame.data ?? ''
            if (watch.look(data).done) dones += 1
            else expect(chunkFaults(data)).toEqual([])
            events.push(...reader.read(frame))
          }
        }
        expect(dones).toBe(1)
        expect(watch.finished).toBe(true)
        expect(watch.finishedChoices).toBe(one.choices.length)
        expect(fold(events)).toEqual(one)
      }),
      { numRuns: 60 },
    )
  })
})

/** The description has no streamed calls of custom tools; the SDKs of OpenAI do. */
function chunkFaults(data: string): string[] {
  const faults = schemaFaults('CreateChatCompletionStreamResponse', JSON.parse(data))
  return data.includes('"type":"custom"')
    ? faults.filter((fault) => !fault.includes('/tool_calls/0/type'))
    : faults
}

const cache = fc.option(fc.record({ ttl: fc.option(fc.constantFrom('5m', '1h'), { nil: undefined }) }), {
  nil: undefined,
})
const source = fc.oneof(
  fc.record({
    kind: fc.constant('base64' as const),
    mediaType: fc.constant('image/png'),
    base64: fc.base64String({ minLength: 4 }),
  }),
  fc.record({ kind: fc.constant('url' as const), url: fc.webUrl(), mediaType: fc.constant(undefined) }),
)
const userPart: fc.Arbitrary<Part> = fc.oneof(
  word.map((text) => ({ type: 'text', text }) as const),
  fc.record({
    type: fc.constant('image' as const),
    source,
    detail: fc.option(fc.constantFrom('low', 'high'), { nil: undefined }),
  }),
)
const turn = fc.record({
  asked: fc.array(userPart, { minLength: 1, maxLength: 3 }),
  answered: said,
  results: fc.array(word, { minLength: 3, maxLength: 3 }),
})
const messages = fc.array(turn, { minLength: 1, maxLength: 3 }).map((turns) =>
  turns.flatMap(({ asked, answered, results }): Message[] => [
    { role: 'user', content: asked, name: undefined },
    { role: 'assistant', content: answered },
    ...answered.flatMap((part, index): Message[] =>
      part.type === 'call'
        ? [
            {
              role: 'tool',
              callId: part.id,
              content: [{ type: 'text', text: results[index % 3] ?? '' }],
              isError: false,
              cache: undefined,
            },
          ]
        : [],
    ),
  ]),
)
const tool = fc.record({
  kind: fc.constant('function' as const),
  name,
  namespace: fc.constant(undefined),
  description: fc.option(word, { nil: undefined }),
  parameters: fc.constant({ type: 'object', properties: {} }),
  strict: fc.option(fc.boolean(), { nil: undefined }),
  grammar: fc.constant(undefined),
  cache: fc.constant(undefined),
})
const request: fc.Arbitrary<ChatRequest> = fc.record({
  messages,
  tools: fc.uniqueArray(tool, { minLength: 1, maxLength: 3, selector: (one) => one.name }),
  toolChoice: fc.option(
    fc.constantFrom<ChatRequest['toolChoice']>(
      { type: 'auto' },
      { type: 'required' },
      { type: 'tool', name: 'x' },
    ),
    { nil: undefined },
  ),
  parallelToolCalls: fc.option(fc.boolean(), { nil: undefined }),
  maxOutputTokens: fc.option(fc.integer({ min: 1, max: 1e6 }), { nil: undefined }),
  temperature: fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined }),
  topP: fc.option(fc.integer({ min: 0, max: 1 }), { nil: undefined }),
  topK: fc.constant(undefined),
  stop: fc.array(word, { maxLength: 2 }),
  choices: fc.integer({ min: 1, max: 3 }),
  seed: fc.option(fc.nat(), { nil: undefined }),
  presencePenalty: fc.option(fc.integer({ min: -2, max: 2 }), { nil: undefined }),
  frequencyPenalty: fc.option(fc.integer({ min: -2, max: 2 }), { nil: undefined }),
  responseFormat: fc.constantFrom<ChatRequest['responseFormat']>(
    { type: 'text' },
    { type: 'json_object' },
    { type: 'json_schema', name: 'n', description: undefined, schema: { type: 'object' }, strict: true },
  ),
  reasoning: fc.option(
    fc.record({
      effort: fc.constantFrom('none', 'low', 'xhigh'),
      budgetTokens: fc.constant(undefined),
      summary: fc.constant(undefined),
    }),
    { nil: undefined },
  ),
  verbosity: fc.option(fc.constantFrom('low', 'high'), { nil: undefined }),
  user: fc.option(word, { nil: undefined }),
  cacheKey: fc.option(word, { nil: undefined }),
  serviceTier: fc.option(fc.constantFrom('flex', 'priority'), { nil: undefined }),
  metadata: fc.constant(undefined),
  stream: fc.boolean(),
  includeUsage: fc.constant(true),
  extra: fc.constant({}),
})

describe('a request', () => {
  it('is read as it was written, and is what OpenAI describes', () => {
    fc.assert(
      fc.property(request, (any) => {
        // A choice is among the tools.
        const [{ name } = { name: '' }] = any.tools
        const toolChoice = any.toolChoice?.type === 'tool' ? { ...any.toolChoice, name } : any.toolChoice
        const one: ChatRequest = { ...any, toolChoice }
        const asked = {
          model: 'm',
          maxOutputTokens: undefined,
          options: { quirks: 'all-fields max-completion-tokens' },
        }
        const { body, names } = provider.chat.write(one, asked)
        const sent = JSON.parse(JSON.stringify(body))
        expect(schemaFaults('CreateChatCompletionRequest', withoutReasoning(sent))).toEqual([])
        const read = client.chat.read(sent).request
        const unwrapped = { ...one, messages: one.messages.map((message) => wrapCustom(message)) }
        expect(read).toEqual({ ...unwrapped, includeUsage: one.stream })
        expect([...names.values()].every(({ kind }) => kind === 'custom')).toBe(true)
      }),
    )
  })

  it('loses neither the marks of a cache nor what is of no other format', () => {
    fc.assert(
      fc.property(
        cache,
        fc.dictionary(fc.constantFrom('logit_bias', 'prediction', 'min_p'), fc.nat()),
        (mark, extra) => {
          const part = {
            type: 'text',
            text: 'x',
            ...(mark && { cache_control: { type: 'ephemeral', ...mark } }),
          }
          const { request: read } = client.chat.read({
            messages: [{ role: 'user', content: [part] }],
            ...extra,
          })
          expect(read.messages[0]?.content[0]).toEqual({
            type: 'text',
            text: 'x',
            ...(mark && { cache: mark }),
          })
          expect(read.extra).toEqual(extra)
        },
      ),
    )
  })
})

/** Not OpenAI's. */
function withoutReasoning(body: Record<string, unknown>): unknown {
  const list = body.messages
  if (!Array.isArray(list)) return body
  return { ...body, messages: list.map(({ reasoning_content: _, ...message }) => message) }
}

/** A tool of free text is a function of one string to a provider. */
function wrapCustom(message: Message): Message {
  if (message.role !== 'assistant') return message
  const content = message.content.map((part) =>
    part.type === 'call' && part.kind === 'custom'
      ? { ...part, kind: 'function' as const, arguments: JSON.stringify({ input: part.arguments }) }
      : part,
  )
  return { ...message, content }
}

const seal = fc.record({ origin: fc.constantFrom('anthropic', 'gemini', 'responses', 'other'), value: word })

describe('what a caller is given', () => {
  it('can be handed back with its seals', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ text: word, sealed: seal, isRedacted: fc.boolean() }), {
          minLength: 1,
          maxLength: 3,
        }),
        call,
        fc.option(seal, { nil: undefined }),
        (thoughts, made, signed) => {
          const content: Part[] = [
            ...thoughts.map(({ text, sealed, isRedacted }) => ({
              type: 'thinking' as const,
              text: isRedacted ? '' : text,
              sealed,
              isRedacted,
            })),
            { ...made, arguments: '{}', sealed: signed },
          ]
          const written = client.chat.write(
            {
              id: 'x',
              createdSeconds: 1,
              model: 'm',
              choices: [{ content, finish: 'tool_calls', stopSequence: undefined, logprobs: undefined }],
              usage: undefined,
              serviceTier: undefined,
            },
            TO,
          )
          const { choices } = JSON.parse(JSON.stringify(written))
          const back = client.chat.read({ messages: [choices[0].message] }).request.messages
          expect(back).toEqual([{ role: 'assistant', content }])
        },
      ),
    )
  })
})
