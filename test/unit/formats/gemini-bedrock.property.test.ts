// Laws of the two wires that no caller speaks: whatever a history looks like, what is sent keeps the rules that a provider
// answers 400 to; a stream says what the whole reply says, wherever its bytes are cut; and what a model said goes back to
// it as it was.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { GatewayError } from '../../../src/errors.ts'
import { bedrock } from '../../../src/formats/bedrock.ts'
import type { ChatReply, ChatRequest, Part } from '../../../src/formats/canonical.ts'
import type { Asked, ProviderChat, ProviderSide, WrittenRequest } from '../../../src/formats/format.ts'
import { gemini, vertex } from '../../../src/formats/gemini.ts'
import { chatRequest, requests, user } from '../../support/chat-arbitraries.ts'
import { foldEvents } from '../../support/chat-events.ts'
import { bedrock as bedrockDialect } from '../../support/dialects/bedrock.ts'
import { type AnswerOptions, type ChatBody, type Dialect, isRecord } from '../../support/dialects/dialect.ts'
import { gemini as geminiDialect } from '../../support/dialects/gemini.ts'

const ORIGINS = ['gemini', 'vertex', 'anthropic', 'bedrock', 'responses']
const UNCHANGED: WrittenRequest = { body: {}, headers: [], dropped: [], names: new Map() }

function chatOf({ chat }: ProviderSide): ProviderChat {
  if (chat === undefined) throw new Error('it has no chat')
  return chat
}

/** The body, or undefined where the request was refused: an image by its address, a stop sequence. */
function write(chat: ProviderChat, request: ChatRequest, model: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(
      JSON.stringify(chat.write(request, { model, maxOutputTokens: undefined, options: {} }).body),
    )
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'invalid_request' && error.param !== undefined)
      return undefined
    throw error
  }
}

function listOf(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter(isRecord) : []
}

/** Turns of two roles, one behind the other, with something in each. */
function expectTurns(
  turns: readonly Record<string, unknown>[],
  roles: readonly string[],
  member: string,
): void {
  expect(turns.length).toBeGreaterThan(0)
  for (const [i, turn] of turns.entries()) {
    expect(turn.role).toBe(roles[i % 2])
    expect(listOf(turn[member]).length).toBeGreaterThan(0)
  }
}

describe('whatever a history looks like, Gemini is sent', () => {
  it.each([
    ['gemini', gemini, 'gemini-3.1-pro-preview'],
    ['gemini', gemini, 'gemini-2.5-flash'],
    ['vertex', vertex, 'gemini-3-flash-preview'],
    ['gemini', gemini, 'gemini-2.0-flash'],
  ] as const)('what it takes (%s)', (_name, { name, provider }, model) => {
    fc.assert(
      fc.property(requests(ORIGINS), (request) => {
        const body = write(chatOf(provider), request, model)
        if (body === undefined) return
        const turns = listOf(body.contents)
        expectTurns(turns, ['user', 'model'], 'parts')
        for (const [i, { role, parts }] of turns.entries()) {
          const calls = listOf(parts).filter(({ functionCall }) => functionCall !== undefined)
          const next = listOf(turns[i + 1]?.parts)
          const results = next.filter(({ functionResponse }) => functionResponse !== undefined)
          if (role === 'model') {
            // As many results as calls, at the front, of the same names.
            const nameOf = (one: unknown): unknown => (isRecord(one) ? one.name : undefined)
            expect(results.map((one) => nameOf(one.functionResponse))).toEqual(
              calls.map((one) => nameOf(one.functionCall)),
            )
            expect(next.slice(0, results.length)).toEqual(results)
            const [first] = calls
            if (first !== undefined && model.startsWith('gemini-3'))
              expect(first.thoughtSignature).toEqual(expect.any(String))
          }
          for (const { text, thoughtSignature } of listOf(parts))
            if (text === '') expect(thoughtSignature).toBeDefined()
        }
        for (const tool of listOf(body.tools).flatMap((one) => listOf(one.functionDeclarations)))
          expect(tool.name).toMatch(/^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$/)
        // Of all seals only its own.
        const seals = request.messages.flatMap(({ content }) =>
          content.flatMap((part) => ('sealed' in part && part.sealed !== undefined ? [part.sealed] : [])),
        )
        const own = new Set(seals.filter(({ origin }) => origin === name).map(({ value }) => value))
        const sent = [...JSON.stringify(body).matchAll(/"thoughtSignature":"([^"]+)"/g)].map(
          ([, value]) => value ?? '',
        )
        expect(
          sent.filter((value) => !own.has(value) && value !== 'skip_thought_signature_validator'),
        ).toEqual([])
      }),
    )
  })
})

const MODELS = [
  'us.anthropic.claude-sonnet-4-5-20250929-v1:0',
  'global.anthropic.claude-opus-4-7',
  'us.amazon.nova-2-lite-v1:0',
  'us.meta.llama4-maverick-17b-instruct-v1:0',
  'mistral.mistral-large-2407-v1:0',
  'openai.gpt-oss-120b-1:0',
]

describe('whatever a history looks like, Bedrock is sent', () => {
  it.each(MODELS)('what it takes (%s)', (model) => {
    const { provider } = bedrock
    fc.assert(
      fc.property(requests(ORIGINS), (request) => {
        const body = write(chatOf(provider), request, model)
        if (body === undefined) return
        const turns = listOf(body.messages)
        expectTurns(turns, ['user', 'assistant'], 'content')
        const text = JSON.stringify(body)
        for (const [i, { role, content }] of turns.entries()) {
          const blocks = listOf(content)
          for (const block of blocks)
            if (block.text !== undefined) expect(String(block.text).trim()).not.toBe('')
          if (role === 'assistant') {
            const idsOf = (list: readonly Record<string, unknown>[], member: string): unknown[] =>
              list.flatMap((block) => (isRecord(block[member]) ? [block[member].toolUseId] : []))
            const called = idsOf(blocks, 'toolUse')
            expect(idsOf(listOf(turns[i + 1]?.content), 'toolResult')).toEqual(called)
            expect(new Set(called).size).toBe(called.length)
            expect(blocks.at(-1)).not.toHaveProperty('reasoningContent')
          }
          const isMixed =
            blocks.some((block) => block.text !== undefined) &&
            blocks.some((block) => block.toolUse !== undefined || block.toolResult !== undefined)
          if (isMixed) expect(model).not.toMatch(/llama|mistral/)
          // A point behind nothing is refused.
          expect(blocks[0]).not.toHaveProperty('cachePoint')
        }
        const config = isRecord(body.toolConfig) ? body.toolConfig : undefined
        if (/"toolUse"|"toolResult"/.test(text)) expect(listOf(config?.tools).length).toBeGreaterThan(0)
        for (const { toolSpec } of listOf(config?.tools)) {
          if (!isRecord(toolSpec)) continue
          expect(toolSpec.name).toMatch(/^[a-zA-Z0-9_-]{1,64}$/)
          expect(String(toolSpec.description).trim()).not.toBe('')
        }
        const points = text.match(/"cachePoint"/g)?.length ?? 0
        expect(points).toBeLessThanOrEqual(model.includes('claude') ? 4 : 0)
        const fields = isRecord(body.additionalModelRequestFields) ? body.additionalModelRequestFields : {}
        const thinking = isRecord(fields.thinking) ? fields.thinking : {}
        const inference = isRecord(body.inferenceConfig) ? body.inferenceConfig : {}
        if (typeof thinking.budget_tokens === 'number') {
          expect(thinking.budget_tokens).toBeGreaterThanOrEqual(1024)
          expect(thinking.budget_tokens).toBeLessThan(Number(inference.maxTokens))
        }
      }),
    )
  })
})

// --- streams ---------------------------------------------------------------------------------------------------

const some = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
const answers: fc.Arbitrary<AnswerOptions> = fc.record(
  {
    pieces: fc.array(some, { minLength: 1, maxLength: 4 }),
    reasoning: fc.array(some, { minLength: 1, maxLength: 3 }),
    toolCalls: fc.array(
      fc.record({
        id: fc.uuid().map((id) => `call_${id}`),
        name: fc.constantFrom('get_weather', 'now'),
        args: fc.dictionary(some, fc.oneof(some, fc.integer()), { maxKeys: 3 }),
      }),
      { maxLength: 3 },
    ),
    finishReason: fc.constantFrom('length', 'content_filter'),
  },
  { requiredKeys: ['pieces'] },
)
const ASKED: ChatBody = {
  fields: {},
  model: 'some-model',
  stream: true,
  includeUsage: true,
  choices: 1,
  messages: [],
  tools: [],
}

const WIRES: readonly (readonly [name: string, side: ProviderSide, dialect: Dialect, asked: Asked])[] = [
  [
    'gemini',
    gemini.provider,
    geminiDialect,
    { model: 'gemini-3.1-pro-preview', maxOutputTokens: undefined, options: {} },
  ],
  [
    'bedrock',
    bedrock.provider,
    bedrockDialect,
    { model: MODELS[0] ?? '', maxOutputTokens: undefined, options: {} },
  ],
]

function splitterOf(side: ProviderSide): ReturnType<typeof createFrameSplitter> {
  return side.splitter?.() ?? createFrameSplitter()
}

/** What a stream adds up to, cut as given. */
function readStream(side: ProviderSide, chunks: readonly Buffer[]): ReturnType<typeof foldEvents> {
  const splitter = splitterOf(side)
  const reader = chatOf(side).events(UNCHANGED)
  const watch = side.watch()
  const events = chunks
    .flatMap((chunk) => splitter.push(chunk))
    .flatMap((frame) => {
      expect(watch.look(frame.data ?? '')).toMatchObject({ error: undefined, malformed: false })
      return reader.read(frame)
    })
  expect(splitter.rest()).toBeUndefined()
  expect(watch.finished).toBe(true)
  const folded = foldEvents(events)
  expect(watch.usage).toEqual(folded.usage)
  return folded
}

/** Parts as a stream gives them: neighbours of one kind are one. */
function joined(content: readonly Part[]): Part[] {
  const parts: Part[] = []
  for (const part of content) {
    const last = parts.at(-1)
    if (part.type === 'text' && last?.type === 'text')
      parts.splice(-1, 1, { ...last, text: last.text + part.text })
    else if (part.type === 'thinking' && last?.type === 'thinking' && last.sealed === undefined)
      parts.splice(-1, 1, { ...part, text: last.text + part.text })
    else parts.push(part)
  }
  return parts
}

/** Which kinds a whole reply and a stream put in another order here. */
function byKind(content: readonly Part[]): readonly Part[] {
  const order = ['thinking', 'text', 'call']
  return [...content].sort((a, b) => order.indexOf(a.type) - order.indexOf(b.type))
}

describe.each(WIRES)('a stream of %s', (_name, side, dialect) => {
  it('says the same wherever its bytes are cut, and what the whole reply says', () => {
    fc.assert(
      fc.property(
        answers,
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 20 }),
        (options, shares) => {
          const bytes = Buffer.concat(dialect.frames(ASKED, options))
          const places = [
            ...new Set([0, ...shares.map((share) => Math.floor(share * bytes.length)), bytes.length]),
          ].sort((a, b) => a - b)
          const cut = places.slice(1).map((place, i) => bytes.subarray(places[i], place))
          const whole = readStream(side, [bytes])
          expect(readStream(side, cut)).toEqual(whole)
          const body = Buffer.from(JSON.stringify(dialect.reply({ ...ASKED, stream: false }, options)))
          expect(side.whole('chat', body).failure).toBeUndefined()
          const reply: ChatReply = chatOf(side).read(body, UNCHANGED)
          const [choice] = reply.choices
          const [streamed] = whole.choices
          expect(byKind(joined(streamed?.content ?? []))).toEqual(byKind(joined(choice?.content ?? [])))
          expect(streamed?.finish).toBe(choice?.finish)
          expect(whole.usage).toEqual(reply.usage)
        },
      ),
    )
  })

  it('says the same byte by byte', () => {
    const options: AnswerOptions = {
      pieces: ['Grüße ', '— 日本 ', '👩‍🚀'],
      reasoning: ['Hm. ', 'So.'],
      toolCalls: [
        { name: 'get_weather', args: { city: 'Köln' } },
        { name: 'now', args: {} },
      ],
    }
    const bytes = Buffer.concat(dialect.frames(ASKED, options))
    const bytewise = [...bytes].map((byte) => Buffer.from([byte]))
    expect(readStream(side, bytewise)).toEqual(readStream(side, [bytes]))
  })

  it('that is cut anywhere is not finished before its reason has come', () => {
    const frames = dialect.frames(ASKED, { pieces: ['One ', 'two'] })
    const reason = frames.findIndex((frame) => dialect.isFinish(frame))
    const bytes = Buffer.concat(frames)
    const told = Buffer.concat(frames.slice(0, reason + 1)).length
    for (let length = 0; length <= bytes.length; length += 1) {
      const splitter = splitterOf(side)
      const watch = side.watch()
      for (const frame of splitter.push(bytes.subarray(0, length))) watch.look(frame.data ?? '')
      // What is left in pieces may be a whole event, where only the blank line behind it is missing.
      if (length < told) expect(watch.finished).toBe(false)
      else expect(watch.finished).toBe(true)
    }
  })
})

describe.each(WIRES)('what %s said', (_name, side, dialect, asked) => {
  it('goes back to it as it was', () => {
    fc.assert(
      fc.property(answers, (options) => {
        const said = dialect.reply({ ...ASKED, stream: false }, options)
        const reply = chatOf(side).read(Buffer.from(JSON.stringify(said)), UNCHANGED)
        const content = reply.choices[0]?.content ?? []
        const request = chatRequest({ messages: [user('Go'), { role: 'assistant', content }, user('On')] })
        const body = JSON.parse(JSON.stringify(chatOf(side).write(request, asked).body))
        const [, turn] = listOf(body.contents ?? body.messages)
        const back = listOf(turn?.parts ?? turn?.content)
        expect(back).toEqual(replayable(said, dialect.name))
      }),
    )
  })
})

/** The parts of a reply that must go back: thoughts without a signature mean nothing to a model, blank text is refused. */
function replayable(said: unknown, dialect: string): Record<string, unknown>[] {
  const reply = isRecord(said) ? said : {}
  if (dialect === 'gemini') {
    const [candidate] = listOf(reply.candidates)
    const content = isRecord(candidate?.content) ? candidate.content : {}
    return listOf(content.parts).filter(({ thought }) => thought !== true)
  }
  const message = isRecord(reply.output) && isRecord(reply.output.message) ? reply.output.message : {}
  return listOf(message.content).filter(({ text }) => text === undefined || String(text).trim() !== '')
}
