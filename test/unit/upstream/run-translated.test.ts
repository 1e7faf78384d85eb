// One streamed attempt whose answer is translated on its way: the same rules as for bytes that pass, and none of its ends
// is made up.

import { describe, expect, it } from 'vitest'
import { anthropic } from '../../support/dialects/anthropic.ts'
import type { AnswerOptions } from '../../support/dialects/dialect.ts'
import { gemini } from '../../support/dialects/gemini.ts'
import { parseSse, summarizeChat } from '../../support/sse.ts'
import { createRun, IDLE_MS, type RunOptions, type RunStage, STREAM } from './stage.ts'

const ASKED = {
  fields: {},
  model: 'm1',
  stream: true,
  includeUsage: true,
  choices: 1,
  messages: [],
  tools: [],
}
const SAID: AnswerOptions = { pieces: ['Hello ', 'world.'] }
const FRAMES = anthropic.frames(ASKED, SAID)
const WITH_USAGE = { stream: true, stream_options: { include_usage: true } }

function begin(options: RunOptions = {}): RunStage {
  const stage = createRun({ speaks: 'anthropic', body: WITH_USAGE, ...options })
  stage.call.started()
  stage.call.head(200, STREAM)
  return stage
}

const heardBy = (stage: RunStage) => summarizeChat(parseSse(stage.reply.text))
const isFinish = (frame: Buffer): boolean => anthropic.isFinish(frame)
const upTo = (frames: readonly Buffer[], found: (frame: Buffer) => boolean): Buffer[] =>
  frames.slice(0, frames.findIndex(found) + 1)

describe('a stream in another format', () => {
  it('arrives in the format of the caller, each piece as it comes, and ends once', async () => {
    const stage = begin()
    for (const frame of FRAMES) stage.call.data(frame)
    expect(await stage.over()).toMatchObject({ outcome: 'answered', usage: { source: 'provider' } })
    expect(heardBy(stage)).toMatchObject({ text: 'Hello world.', finishReasons: ['stop'], done: true })
    expect(heardBy(stage).usage).toMatchObject({ completion_tokens: 2 })
    expect(stage.reply.text.match(/\[DONE\]/g)).toHaveLength(1)
  })

  it.each([1, 3, 17])('is the same in pieces of %d bytes', async (step) => {
    const bytes = Buffer.concat(FRAMES)
    const stage = begin()
    for (let at = 0; at < bytes.length; at += step) stage.call.data(bytes.subarray(at, at + step))
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(heardBy(stage)).toMatchObject({ text: 'Hello world.', done: true })
  })

  it('is held back before its first content, whatever comes before that', async () => {
    const stage = begin()
    const first = FRAMES.findIndex((frame) => frame.includes('content_block_start'))
    for (const frame of FRAMES.slice(0, first)) stage.call.data(frame)
    expect(stage.commits).toEqual([])
    expect(stage.reply.text).toBe('')
    stage.call.failed(new Error('reset'))
    expect(await stage.over()).toMatchObject({ outcome: 'retry' })
  })

  it('whose beginning comes to nothing for the caller may still be answered by somebody else', async () => {
    const stage = begin()
    for (const frame of upTo(FRAMES, (one) => one.includes('content_block_start'))) stage.call.data(frame)
    stage.call.failed(new Error('reset'))
    expect(await stage.over()).toMatchObject({ outcome: 'retry' })
    expect(stage.reply.text).toBe('')
  })

  it('that breaks behind its first content is broken, and has no end', async () => {
    const stage = begin()
    for (const frame of FRAMES.filter((one) => !isFinish(one) && !anthropic.isEnd(one)))
      stage.call.data(frame)
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'broken', reason: 'incomplete', said: undefined })
    expect(heardBy(stage)).toMatchObject({ text: 'Hello world.', finishReasons: [], done: false })
  })

  it('that gave its reason and no end marker is whole, whether the connection ends or not', async () => {
    const closed = begin()
    for (const frame of upTo(FRAMES, isFinish)) closed.call.data(frame)
    closed.call.end()
    expect(await closed.over()).toMatchObject({ outcome: 'answered' })
    expect(heardBy(closed)).toMatchObject({ finishReasons: ['stop'], done: true })
    const open = begin()
    for (const frame of upTo(FRAMES, isFinish)) open.call.data(frame)
    open.time.advance(1000)
    expect(await open.over()).toMatchObject({ outcome: 'answered' })
    expect(heardBy(open)).toMatchObject({ finishReasons: ['stop'], done: true })
  })

  it('of a format without an end marker ends with its connection', async () => {
    const stage = begin({ speaks: 'gemini' })
    for (const frame of gemini.frames(ASKED, SAID)) stage.call.data(frame)
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(heardBy(stage)).toMatchObject({ text: 'Hello world.', finishReasons: ['stop'], done: true })
  })

  it('is broken by an event that cannot be read, before its first content and behind it', async () => {
    const first = begin()
    first.call.data(anthropic.malformed)
    expect(await first.over()).toMatchObject({ outcome: 'retry', reason: 'malformed' })
    const later = begin()
    for (const frame of FRAMES.slice(0, -3)) later.call.data(frame)
    later.call.data(anthropic.malformed)
    expect(await later.over()).toMatchObject({ outcome: 'broken', reason: 'malformed' })
    expect(heardBy(later)).toMatchObject({ done: false })
  })

  it('that stalls is cut as any other', async () => {
    const stage = begin()
    for (const frame of upTo(FRAMES, (one) => one.includes('Hello'))) stage.call.data(frame)
    stage.time.advance(IDLE_MS)
    expect(await stage.over()).toMatchObject({ outcome: 'broken', reason: 'idle' })
  })

  it('is never gone on with by somebody else', async () => {
    const stage = begin({ plan: { resumes: true } })
    for (const frame of upTo(FRAMES, (one) => one.includes('Hello'))) stage.call.data(frame)
    stage.call.failed(new Error('reset'))
    expect(await stage.over()).toMatchObject({ outcome: 'broken', said: undefined })
  })

  it('tells usage only to who asked for it', async () => {
    const stage = begin({ body: { stream: true } })
    for (const frame of FRAMES) stage.call.data(frame)
    expect(await stage.over()).toMatchObject({ usage: { source: 'provider', outputTokens: 2 } })
    expect(stage.reply.text).not.toContain('usage')
    expect(heardBy(stage)).toMatchObject({ done: true })
  })
})

describe('a whole reply in another format', () => {
  const whole = (reply: unknown): RunStage => {
    const stage = createRun({ speaks: 'anthropic', body: {} })
    stage.call.started()
    stage.call.head(200, { 'content-type': 'application/json' })
    stage.call.data(Buffer.from(JSON.stringify(reply)))
    stage.call.end()
    return stage
  }

  it('arrives in the format of the caller', async () => {
    const stage = whole(anthropic.reply(ASKED, SAID))
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(JSON.parse(stage.reply.text)).toMatchObject({
      object: 'chat.completion',
      choices: [{ message: { content: 'Hello world.' }, finish_reason: 'stop' }],
    })
  })

  it.each([
    ['nothing that it could be', { hello: 'world' }],
    ['an answer of another format', { choices: [{ message: { content: 'x' }, finish_reason: 'stop' }] }],
  ])('that is %s is no answer', async (_, reply) => {
    expect(await whole(reply).over()).toMatchObject({ outcome: 'retry' })
  })
})
