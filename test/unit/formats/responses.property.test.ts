// Laws of the Responses API as we write and read it, over answers that nobody would think of.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { GatewayError } from '../../../src/errors.ts'
import type { ChatEvent, Finish, Part } from '../../../src/formats/canonical.ts'
import type { WrittenRequest } from '../../../src/formats/format.ts'
import { openai } from '../../../src/formats/openai.ts'
import { responses } from '../../../src/formats/responses.ts'
import { contents, createAnswerTo, toEvents, toReply } from '../../support/answers.ts'
import { foldEvents } from '../../support/chat-events.ts'
import { mutate, mutations } from '../../support/mutations.ts'
import { schemaFaults } from '../../support/openai-schema.ts'
import { assembleResponse } from '../../support/responses-stream.ts'

const { client, provider } = responses
const WRITTEN: WrittenRequest = { body: {}, headers: [], dropped: [], names: new Map() }

const SENT = { model: 'm', input: 'Hi', stream: true }
const { request } = client.chat.read(SENT)
const answerTo = () => createAnswerTo(SENT, request)
const finishes = fc.constantFrom<Finish>('stop', 'length', 'tool_calls', 'content_filter')
const cuts = fc.array(fc.nat(), { minLength: 1, maxLength: 12 })

function write(events: readonly ChatEvent[]): string {
  const writer = client.chat.events(answerTo())
  return events.map((event) => writer.write(event)).join('') + writer.end()
}

/** What is read of an answer that comes back as a part of the next request. */
function comesBack(output: readonly unknown[]): readonly Part[] {
  if (output.length === 0) return []
  const [message, more] = client.chat.read({ model: 'm', input: JSON.parse(JSON.stringify(output)) }).request
    .messages
  if (more !== undefined) throw new Error('an answer comes back as more than one message')
  return message?.content ?? []
}

/** Nothing as the arguments of a function comes back as the object that it is, unless the answer was cut. */
function expected(content: readonly Part[], finish: Finish): readonly Part[] {
  const isCut = finish === 'length' || finish === 'content_filter'
  return content.map((part, i) => {
    if (part.type !== 'call' || part.kind === 'custom' || part.arguments !== '') return part
    return isCut && i === content.length - 1 ? part : { ...part, arguments: '{}' }
  })
}

/** An empty text says nothing. */
function spoken(content: readonly Part[]): readonly Part[] {
  return content.filter((part) => part.type !== 'text' || part.text !== '')
}

describe('an answer of any kind', () => {
  it('comes back as it was said, with every seal to its owner', () => {
    fc.assert(
      fc.property(contents, finishes, cuts, (content, finish, places) => {
        const reply = toReply(content, finish)
        const response = client.chat.write(reply, answerTo())
        expect(schemaFaults('Response', response)).toEqual([])
        const { output } = assembleResponse(write(toEvents(reply, places)))
        const back = spoken(comesBack(output))
        expect(back).toEqual(expected(content, finish))
        // Whole and streamed say the same.
        const whole = JSON.parse(JSON.stringify(response))
        expect(spoken(comesBack(whole.output))).toEqual(back)
      }),
      { numRuns: 300 },
    )
  })

  it('is read the same from its events, wherever their bytes are cut, as from the whole', () => {
    fc.assert(
      fc.property(contents, finishes, cuts, (content, finish, places) => {
        const bytes = Buffer.from(write(toEvents(toReply(content, finish), places)))
        const splitter = createFrameSplitter()
        const watch = provider.watch()
        const reader = provider.chat?.events(WRITTEN)
        const events: ChatEvent[] = []
        let done = 0
        for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
          const size = 1 + ((places[turn % places.length] ?? 0) % 97)
          for (const frame of splitter.push(bytes.subarray(at, at + size))) {
            events.push(...(reader?.read(frame) ?? []))
            const facts = watch.look(frame.data ?? '')
            expect(facts.error).toBeUndefined()
            expect(facts.malformed).toBe(false)
            if (facts.done) done += 1
          }
          at += size
        }
        expect(done).toBe(1)
        expect(watch.finished).toBe(true)
        const { response } = assembleResponse(bytes.toString())
        const whole = provider.chat?.read(Buffer.from(JSON.stringify(response)), WRITTEN)
        expect(provider.whole('chat', Buffer.from(JSON.stringify(response))).failure).toBe(
          Array.isArray(response.output) && response.output.length === 0 && response.status === 'completed'
            ? 'empty'
            : undefined,
        )
        const folded = foldEvents(events)
        const [choice] = folded.choices
        expect(choice?.finish).toBe(whole?.choices[0]?.finish)
        expect(spoken(choice?.content ?? [])).toEqual(merged(whole?.choices[0]?.content ?? []))
        expect(folded.usage).toEqual(whole?.usage)
        expect(watch.usage).toEqual(whole?.usage)
      }),
      { numRuns: 300 },
    )
  })
})

/** Texts side by side are one: events have no border between them. */
function merged(content: readonly Part[]): readonly Part[] {
  const parts: Part[] = []
  for (const part of spoken(content)) {
    const last = parts.at(-1)
    if (part.type === 'text' && last?.type === 'text')
      parts.splice(-1, 1, { ...last, text: last.text + part.text })
    else parts.push(part)
  }
  return parts
}

const GOLDEN = join(import.meta.dirname, '../../golden/responses')

function goldens(ending: string): string[] {
  return readdirSync(GOLDEN)
    .filter((name) => name.endsWith(ending))
    .map((name) => readFileSync(join(GOLDEN, name), 'utf8'))
}

describe('whatever a stranger sends', () => {
  const requests = goldens('.request.json').map((text): unknown => JSON.parse(text))
  const streams = goldens('.stream.sse').map((text) => createFrameSplitter().push(Buffer.from(text)))

  it('is read, or refused by the name of a field, and can be asked of a provider, or refused as well', () => {
    let refused = 0
    fc.assert(
      fc.property(
        fc.constantFrom(...requests),
        fc.array(mutations, { minLength: 1, maxLength: 3 }),
        (sent, changes) => {
          const changed = changes.reduce((value, { place, other }) => mutate(value, place, other), sent)
          if (typeof changed !== 'object' || changed === null || Array.isArray(changed)) return
          try {
            const { request: read } = client.chat.read({ ...changed })
            const asked = { model: 'm', maxOutputTokens: undefined, options: {} }
            for (const { chat } of [provider, openai.provider]) JSON.stringify(chat?.write(read, asked).body)
          } catch (error) {
            if (!(error instanceof GatewayError)) throw error
            expect(error).toMatchObject({ code: 'invalid_request', param: expect.any(String) })
            refused += 1
          }
        },
      ),
      { numRuns: 2000 },
    )
    expect(refused).toBeGreaterThan(100)
  })

  /** Undefined for what cannot be read: for its attempt that is no answer. */
  function unlessLost<T>(read: () => T): T | undefined {
    try {
      return read()
    } catch (error) {
      expect(String(error)).toMatch(/without a name|of no call that was told/)
      return undefined
    }
  }

  it('as an event is read as what it is, and never twice', () => {
    fc.assert(
      fc.property(fc.constantFrom(...streams), fc.nat(), mutations, (frames, at, { place, other }) => {
        const reader = provider.chat?.events(WRITTEN)
        const watch = provider.watch()
        const events: ChatEvent[] = []
        for (const [i, frame] of frames.entries()) {
          const isJson = frame.data?.startsWith('{') === true
          const data =
            isJson && i === at % frames.length
              ? JSON.stringify(mutate(JSON.parse(frame.data ?? ''), place, other))
              : frame.data
          watch.look(data ?? '')
          const read = unlessLost(() => reader?.read({ ...frame, data }) ?? [])
          if (read === undefined) return
          events.push(...read)
        }
        const finishes = events.filter(({ type }) => type === 'finish').length
        expect(finishes).toBeLessThanOrEqual(1)
        // The rules of canonical events hold: folding throws where they do not.
        if (finishes === 1) foldEvents(events)
      }),
      { numRuns: 3000 },
    )
  })

  it('as a whole reply is read wherever it is taken for an answer', () => {
    const replies = goldens('.reply.json').map((text): unknown => JSON.parse(text))
    let readWhole = 0
    fc.assert(
      fc.property(fc.constantFrom(...replies), mutations, (reply, { place, other }) => {
        const body = Buffer.from(JSON.stringify(mutate(reply, place, other)))
        if (provider.whole('chat', body).failure !== undefined) return
        const read = unlessLost(() => provider.chat?.read(body, WRITTEN))
        if (read === undefined) return
        readWhole += 1
        expect(schemaFaults('Response', client.chat.write(read, answerTo()))).toEqual([])
      }),
      { numRuns: 1000 },
    )
    expect(readWhole).toBeGreaterThan(500)
  })
})
