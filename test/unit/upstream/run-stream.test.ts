// One streamed attempt: what reaches the caller, when, and how it ends.

import { describe, expect, it } from 'vitest'
import {
  ATTEMPT_MS,
  COMMENT,
  COMPLETE,
  CONNECT_MS,
  chunk,
  createRun,
  DONE,
  FIRST_TOKEN_MS,
  frame,
  HELLO,
  IDLE_MS,
  JSON_TYPE,
  ROLE,
  type RunOptions,
  type RunStage,
  SECRET,
  START_MS,
  STOP,
  STREAM,
  USAGE,
  WORLD,
  wholeReply,
  withCode,
} from './stage.ts'

/** An attempt whose stream has begun. */
function begin(options: RunOptions = {}): RunStage {
  return headed(createRun(options))
}

function headed(stage: RunStage, status = 200): RunStage {
  stage.call.started()
  stage.call.head(status, STREAM)
  return stage
}

const COUNTED = {
  source: 'counted',
  cachedTokens: 0,
  reasoningTokens: 0,
  cacheWriteTokens: 0,
  audioInputTokens: 0,
  audioOutputTokens: 0,
}
const TOLD = {
  source: 'provider',
  inputTokens: 7,
  outputTokens: 2,
  cachedTokens: 0,
  reasoningTokens: 0,
  cacheWriteTokens: 0,
  audioInputTokens: 0,
  audioOutputTokens: 0,
}

describe('before the first content', () => {
  it.each([
    ['the head alone', []],
    ['a role', [ROLE]],
    ['comments', [COMMENT, ': ping\n\n', ':\n\n']],
    ['chunks without choices', [frame({ id: '', model: '', choices: [], prompt_filter_results: [{}] })]],
    ['a choice without a delta', [frame({ choices: [{ index: 0, content_filter_results: {} }] })]],
    ['empty text', [chunk({ content: '' }), chunk({ content: null }), chunk({ reasoning_content: '' })]],
    ['an empty list of tool calls', [chunk({ tool_calls: [] })]],
    ['an empty finish reason', [chunk({ content: '' }, '')]],
    ['an event without data', ['event: ping\n\n', 'id: 1\n\n', 'retry: 100\n\n']],
    ['an event with empty data', ['data:\n\n', 'data: \n\n']],
    ['usage', [USAGE]],
    ['an unknown object', [frame({ type: 'something.new' })]],
    ['half a frame', [HELLO.slice(0, -1)]],
  ])('nothing reaches the caller for %s', async (_, pieces) => {
    const stage = begin()
    stage.call.data(...pieces)
    expect(stage.reply.committed).toBe(false)
    expect(stage.commits).toEqual([])
    expect(await stage.over()).toBeUndefined()
    stage.leave()
    expect(stage.reply.committed).toBe(false)
  })

  it.each([
    ['text', { content: 'x' }],
    ['a space', { content: ' ' }],
    ['reasoning_content', { reasoning_content: 'x' }],
    ['reasoning', { reasoning: 'x' }],
    ['reasoning_details', { reasoning_details: [{ type: 'reasoning.encrypted', data: 'x' }] }],
    ['a refusal', { refusal: 'No.' }],
    [
      'a tool call',
      { tool_calls: [{ index: 0, id: 'c', type: 'function', function: { name: 'f', arguments: '' } }] },
    ],
    ['a custom tool call', { tool_calls: [{ index: 0, custom: { name: 'f', input: 'x' } }] }],
    ['a legacy function call', { function_call: { name: 'f', arguments: '' } }],
    ['content parts', { content: [{ type: 'thinking', thinking: [] }] }],
    ['audio', { audio: { data: 'x' } }],
  ])('%s begins the answer, with the preamble in front', async (_, delta) => {
    const stage = begin()
    stage.call.data(COMMENT, ROLE)
    stage.time.advance(100)
    stage.call.data(chunk(delta))
    expect(stage.reply).toMatchObject({ status: 200, contentType: 'text/event-stream; charset=utf-8' })
    expect(stage.reply.text).toBe(COMMENT + ROLE + chunk(delta))
    expect(stage.commits).toEqual([START_MS + 100])
    expect(stage.request.body).toBeUndefined()
    stage.leave()
  })

  it.each([
    [
      { code: 400, message: "This model's maximum context length is 8192 tokens." },
      { outcome: 'retry', reason: 'context' },
    ],
    [{ message: 'prompt is too long: 9 tokens > 8 maximum' }, { outcome: 'retry', reason: 'context' }],
    [
      { code: 400, message: 'bad tool' },
      { outcome: 'refuse', status: 400 },
    ],
    [
      { code: 429, message: 'slow down' },
      { outcome: 'retry', reason: 'in_band', key: false },
    ],
    [
      { code: 401, message: 'bad key' },
      { outcome: 'retry', reason: 'in_band', key: true, park: true },
    ],
    [
      { code: 503, message: 'down' },
      { outcome: 'retry', reason: 'in_band' },
    ],
  ])('an error told inside a 200 means what its status would: %o', async (error, result) => {
    const stage = begin()
    stage.call.data(ROLE, frame({ error }))
    expect(await stage.over()).toMatchObject(result)
    expect(stage.reply.committed).toBe(false)
  })

  it('an answer may be empty when it says so', async () => {
    const stage = begin()
    stage.call.data(ROLE, STOP, DONE)
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.text).toBe(ROLE + STOP + DONE)
  })

  it.each([
    ['an error frame', [frame({ error: { message: 'engine down', code: 500 } })], 'in_band'],
    ['an error behind the preamble', [ROLE, COMMENT, frame({ error: 'down' })], 'in_band'],
    ['an error with an event name', ['event: error\ndata: {"error":{"message":"x"}}\n\n'], 'in_band'],
    [
      'an error in a choice',
      [frame({ choices: [{ index: 0, delta: {}, error: { message: 'x' } }] })],
      'in_band',
    ],
    ['a finish reason "error"', [chunk({ content: '' }, 'error')], 'in_band'],
    ['an event that is no JSON', ['data: {"choices":[{"del\n\n'], 'malformed'],
    ['an event that is no object', ['data: "hello"\n\n'], 'malformed'],
    ['HTML', ['data: <html>\n\n'], 'malformed'],
    ['nothing but [DONE]', [DONE], 'empty'],
    ['a role and [DONE]', [ROLE, DONE], 'empty'],
  ] as const)('%s leaves the caller free for somebody else', async (_, pieces, reason) => {
    const stage = begin()
    stage.call.data(...pieces)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason, blameless: false, key: false })
    expect(stage.reply.committed).toBe(false)
    expect(stage.call.aborted).toBe(true)
    expect(stage.time.pending).toBe(0)
  })

  it('keeps the words of an error for the record', async () => {
    const stage = begin()
    stage.call.data(frame({ error: { message: 'engine down' } }))
    expect(await stage.over()).toMatchObject({ message: 'engine down' })
  })

  it.each([
    ['no byte', []],
    ['a role', [ROLE]],
    ['half a content frame', [HELLO.slice(0, 30)]],
  ])('an orderly end after %s is empty', async (_, pieces) => {
    const stage = begin()
    stage.call.data(...pieces)
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'empty' })
    expect(stage.reply.committed).toBe(false)
    expect(stage.time.pending).toBe(0)
  })

  it('a reset is told as one', async () => {
    const stage = begin()
    stage.call.data(ROLE)
    stage.call.failed(withCode('UND_ERR_SOCKET'))
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'reset' })
  })

  it('a preamble without end is given up', async () => {
    const stage = begin()
    const padding = frame({ choices: [], padding: 'x'.repeat(1024 * 1024) })
    for (let i = 0; i < 15; i += 1) stage.call.data(padding)
    expect(stage.call.aborted).toBe(false)
    for (let i = 0; i < 2; i += 1) stage.call.data(padding)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'malformed' })
  })

  it('an event without end is given up', async () => {
    const stage = begin()
    for (let i = 0; i < 9; i += 1) stage.call.data(`data: ${'x'.repeat(1024 * 1024)}`)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'malformed' })
  })
})

describe('a complete answer', () => {
  it('is the bytes that came, without what the caller did not ask for', async () => {
    const stage = begin()
    stage.call.data(COMPLETE)
    stage.call.end()
    expect(await stage.over()).toEqual({ outcome: 'answered', usage: TOLD })
    expect(stage.reply.text).toBe(ROLE + HELLO + WORLD + STOP + DONE)
    expect(stage.reply.ended).toBe(true)
    expect(stage.call.aborted).toBe(false)
    expect(stage.time.pending).toBe(0)
  })

  it('keeps the usage frame when it was asked for', async () => {
    const stage = begin({ body: { stream: true, stream_options: { include_usage: true } } })
    stage.call.data(COMPLETE)
    expect(await stage.over()).toEqual({ outcome: 'answered', usage: TOLD })
    expect(stage.reply.text).toBe(COMPLETE)
  })

  it('keeps a last chunk with content, finish reason and usage whole (bug 14)', async () => {
    const stage = begin()
    const last = chunk({ content: ' world' }, 'stop', { usage: { prompt_tokens: 7, completion_tokens: 2 } })
    stage.call.data(ROLE + HELLO + last + DONE)
    expect(await stage.over()).toEqual({ outcome: 'answered', usage: TOLD })
    expect(stage.reply.text).toBe(ROLE + HELLO + last + DONE)
  })

  it('is not reopened by what comes for a choice behind its finish reason', async () => {
    // OpenRouter's usage chunk, and Azure's late filter result.
    const late = chunk({ role: 'assistant', content: '' }, null, {
      usage: { prompt_tokens: 7, completion_tokens: 2 },
    })
    const filter = frame({ choices: [{ index: 0, content_filter_offsets: {}, finish_reason: null }] })
    const stage = begin()
    stage.call.data(HELLO, STOP, late, filter, DONE)
    expect(await stage.over()).toEqual({ outcome: 'answered', usage: TOLD })
    expect(stage.reply.text).toBe(HELLO + STOP + late + filter + DONE)
  })

  it('counts what was seen where the usage that the provider tells has no output', async () => {
    const stage = begin()
    const last = chunk({}, 'stop', { usage: { prompt_tokens: 7, completion_tokens: -1 } })
    stage.call.data(HELLO, last, DONE)
    expect(await stage.over()).toEqual({
      outcome: 'answered',
      usage: { ...COUNTED, inputTokens: 7, outputTokens: 1 },
    })
  })

  it('has no more choices than anybody asks for', async () => {
    const stage = begin()
    for (let index = 0; index < 1025; index += 1)
      stage.call.data(frame({ choices: [{ index, delta: { content: 'x' }, finish_reason: 'stop' }] }))
    stage.call.data(DONE)
    expect(await stage.over()).toMatchObject({ outcome: 'broken', reason: 'incomplete' })
  })

  it('counts what was seen when the provider tells no usage', async () => {
    const stage = begin()
    stage.call.data(ROLE + HELLO + WORLD + STOP + DONE)
    const inputTokens = Math.ceil(stage.request.textBytes / 4)
    expect(await stage.over()).toEqual({
      outcome: 'answered',
      usage: { ...COUNTED, inputTokens, outputTokens: 3 },
    })
  })

  it('keeps comments and unknown events once it has begun', async () => {
    const stage = begin()
    const parts = [HELLO, COMMENT, 'event: x\nid: 4\ndata: {"a":1}\n\n', 'data:\n\n', STOP, DONE]
    stage.call.data(...parts)
    await stage.over()
    expect(stage.reply.text).toBe(parts.join(''))
  })

  it("passes an unreadable event in its middle on: it is the caller's to read", async () => {
    const stage = begin()
    const torn = 'data: {"choices":[{"delta":{"content":"tor\n\n'
    stage.call.data(HELLO, torn, STOP, DONE)
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.text).toBe(HELLO + torn + STOP + DONE)
  })

  it.each(['stop', 'length', 'tool_calls', 'content_filter', 'function_call', 'eos'])(
    'may end for the reason %s',
    async (reason) => {
      const stage = begin()
      stage.call.data(HELLO, chunk({}, reason), DONE)
      expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    },
  )

  it.each([
    ['\\r\\n', '\r\n'],
    ['\\r', '\r'],
  ])('comes with its own line ends (%s)', async (_, newline) => {
    const text = COMPLETE.replace(USAGE, '').replaceAll('\n', newline)
    const stage = begin()
    stage.call.data(text)
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.text).toBe(text)
  })

  it('may lack the blank line behind [DONE]', async () => {
    const stage = begin()
    stage.call.data(HELLO + STOP + DONE.trimEnd())
    expect(await stage.over()).toBeUndefined()
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.text).toBe(HELLO + STOP + DONE)
  })

  it('may lack the blank line behind its finish reason, and gets it', async () => {
    const stage = begin()
    stage.call.data(HELLO + STOP.trimEnd())
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.text).toBe(HELLO + STOP)
  })

  it('reads data without the space, and data over several lines', async () => {
    const stage = begin()
    const tight = 'data:{"choices":[{"index":0,"delta":{"content":"x"},\ndata:"finish_reason":"stop"}]}\n\n'
    stage.call.data(tight, 'data:[DONE]\n\n')
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.text).toBe(`${tight}data:[DONE]\n\n`)
  })

  it('is the same bytes however they were cut', async () => {
    const text = [ROLE, COMMENT, chunk({ content: 'Grüße 日本 👩‍🚀' }), STOP, USAGE, DONE].join('')
    const bytes = Buffer.from(text)
    for (const size of [1, 2, 3, 7, 64, 1000]) {
      const stage = begin()
      for (let at = 0; at < bytes.length; at += size) stage.call.data(bytes.subarray(at, at + size))
      expect(await stage.over()).toEqual({ outcome: 'answered', usage: TOLD })
      expect(stage.reply.text).toBe(text.replace(USAGE, ''))
    }
  })

  it('is taken as a stream where the provider does not say what it is', async () => {
    const stage = createRun()
    stage.call.started()
    stage.call.head(200, {})
    stage.call.data(COMPLETE)
    expect(await stage.over()).toEqual({ outcome: 'answered', usage: TOLD })
  })

  it('ends for the caller at [DONE], whatever the provider does with its connection', async () => {
    const stage = begin()
    stage.call.data(COMPLETE)
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.ended).toBe(true)
    stage.call.data(HELLO)
    expect(stage.reply.text.endsWith(DONE)).toBe(true)
    expect(stage.call.aborted).toBe(false)
    stage.time.advance(1000)
    expect(stage.call.aborted).toBe(true)
    expect(stage.time.pending).toBe(0)
  })

  it('needs no [DONE] when the finish reason came: it ends at once with the upstream', async () => {
    const stage = begin()
    stage.call.data(HELLO + STOP + USAGE)
    stage.call.end()
    expect(await stage.over()).toEqual({ outcome: 'answered', usage: TOLD })
    expect(stage.reply.text).toBe(HELLO + STOP)
    expect(stage.reply.ended).toBe(true)
    expect(stage.time.pending).toBe(0)
  })

  it('goes on behind a finish reason that comes with every piece', async () => {
    const stage = begin()
    const piece = chunk({ content: 'x' }, 'stop')
    for (let i = 0; i < 5; i += 1) {
      stage.call.data(piece)
      stage.time.advance(900)
    }
    expect(await stage.over()).toBeUndefined()
    stage.call.data(DONE)
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.text).toBe(piece.repeat(5) + DONE)
  })

  it('ends a second behind the finish reason when nothing follows, comments or not', async () => {
    const stage = begin()
    stage.call.data(HELLO + STOP)
    for (let i = 0; i < 3; i += 1) {
      stage.time.advance(300)
      stage.call.data(COMMENT)
    }
    expect(await stage.over()).toBeUndefined()
    stage.time.advance(100)
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.ended).toBe(true)
    expect(stage.reply.text).not.toContain('[DONE]')
    stage.time.advance(1000)
    expect(stage.call.aborted).toBe(true)
    expect(stage.time.pending).toBe(0)
  })

  it('is complete when the connection is reset behind the finish reason', async () => {
    const stage = begin()
    stage.call.data(HELLO + STOP)
    stage.call.failed()
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.text).toBe(HELLO + STOP)
  })
})

describe('several choices', () => {
  const first = (delta: unknown, finish: string | null = null) => chunk(delta, finish, { index: 0 })
  const second = (delta: unknown, finish: string | null = null) => chunk(delta, finish, { index: 1 })
  const two = { body: { stream: true, n: 2 } }

  it('are complete when each has its finish reason', async () => {
    const stage = begin(two)
    const text = [
      first({ content: 'a' }),
      second({ content: 'b' }),
      first({}, 'stop'),
      second({}, 'length'),
    ].join('')
    stage.call.data(text)
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
  })

  it('are not complete while one is open', async () => {
    const stage = begin(two)
    stage.call.data(first({ content: 'a' }), second({ content: 'b' }), first({}, 'stop'), DONE)
    expect(await stage.over()).toMatchObject({ outcome: 'broken', reason: 'incomplete' })
    expect(stage.reply.text).not.toContain('[DONE]')
  })

  it('are not complete while one that was asked for has not begun', async () => {
    const cut = begin(two)
    cut.call.data(first({ content: 'a' }, 'stop'))
    cut.call.failed()
    expect(await cut.over()).toMatchObject({ outcome: 'broken', reason: 'reset' })

    const slow = begin(two)
    slow.call.data(first({ content: 'a' }, 'stop'))
    slow.time.advance(5000)
    expect(await slow.over()).toBeUndefined()
    slow.call.data(second({ content: 'b' }, 'stop'), DONE)
    expect(await slow.over()).toMatchObject({ outcome: 'answered' })
  })

  it('may be one where the provider knows no others and ends in good order', async () => {
    const stage = begin(two)
    stage.call.data(first({ content: 'a' }, 'stop'), DONE)
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
  })
})

describe('a stream that breaks after its first content', () => {
  it.each([
    ['ends in good order', (stage: RunStage) => stage.call.end(), 'incomplete'],
    ['is reset', (stage: RunStage) => stage.call.failed(), 'reset'],
    ['is no HTTP any more', (s: RunStage) => s.call.failed(withCode('HPE_INVALID_CHUNK_SIZE')), 'malformed'],
    ['says [DONE] without a finish reason', (stage: RunStage) => stage.call.data(DONE), 'incomplete'],
    ['tells an error', (stage: RunStage) => stage.call.data(frame({ error: { message: 'x' } })), 'in_band'],
    [
      'tells an error and [DONE]',
      (s: RunStage) => s.call.data(frame({ error: { message: 'x' } }) + DONE),
      'in_band',
    ],
    ['ends a choice with an error', (stage: RunStage) => stage.call.data(chunk({}, 'error')), 'in_band'],
    ['falls silent', (stage: RunStage) => stage.time.advance(IDLE_MS), 'idle'],
    ['has an event without end', (s: RunStage) => s.call.data('x'.repeat(8 * 1024 * 1024 + 1)), 'malformed'],
  ] as const)('and %s is broken: no [DONE], no end', async (_, act, reason) => {
    const stage = begin()
    stage.call.data(ROLE + HELLO)
    act(stage)
    const result = await stage.over()
    expect(result).toMatchObject({ outcome: 'broken', reason, blameless: false })
    expect(result).toMatchObject({
      usage: { ...COUNTED, inputTokens: Math.ceil(stage.request.textBytes / 4) },
    })
    expect(stage.reply.text.startsWith(ROLE + HELLO)).toBe(true)
    expect(stage.reply.text).not.toMatch(/\[DONE\]|error/)
    expect(stage.reply.ended).toBe(false)
    expect(stage.reply.onDrain).toBeUndefined()
    expect(stage.time.pending).toBe(0)
  })

  it('is not whole for finish reasons that say nothing, as some servers have in every chunk', async () => {
    const stage = begin({ plan: { resumes: true } })
    stage.call.data(chunk({ role: 'assistant', content: '' }, ''), chunk({ content: 'Hello' }, ''))
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'broken', reason: 'incomplete', said: 'Hello' })
    expect(stage.reply.ended).toBe(false)
  })

  it('sends what came in one piece with the fault before it breaks', async () => {
    const stage = begin()
    stage.call.data(ROLE + HELLO + frame({ error: 'x' }) + WORLD)
    expect(await stage.over()).toMatchObject({ outcome: 'broken', reason: 'in_band' })
    expect(stage.reply.text).toBe(ROLE + HELLO)
  })

  it('never sends half an event', async () => {
    const stage = begin()
    stage.call.data(HELLO + WORLD.slice(0, -2))
    stage.call.failed()
    expect(await stage.over()).toMatchObject({ outcome: 'broken', reason: 'reset' })
    expect(stage.reply.text).toBe(HELLO)
  })

  it('settles on the usage it told before', async () => {
    const stage = begin()
    stage.call.data(HELLO + USAGE)
    stage.call.failed()
    expect(await stage.over()).toMatchObject({ outcome: 'broken', usage: TOLD })
  })

  it('is marked when the deadline of the request cut it', async () => {
    const stage = begin({ plan: { deadlineAt: START_MS + 10_000 } })
    stage.call.data(HELLO)
    stage.time.advance(10_000)
    expect(await stage.over()).toMatchObject({ outcome: 'broken', blameless: true })
  })
})

/** A piece every second for that long. */
function drip(stage: RunStage, ms: number): void {
  for (let at = 0; at < ms; at += 1000) {
    stage.time.advance(1000)
    stage.call.data(HELLO)
  }
}

describe('time', () => {
  it.each([
    ['connect', CONNECT_MS, (_: RunStage) => {}],
    ['first_token', FIRST_TOKEN_MS, (s: RunStage) => s.call.started()],
    ['first_token', FIRST_TOKEN_MS, (s: RunStage) => headed(s)],
  ] as const)('cuts at its limit: %s after %d ms', async (reason, ms, act) => {
    const stage = createRun()
    act(stage)
    stage.time.advance(ms - 1)
    expect(await stage.over()).toBeUndefined()
    stage.time.advance(1)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason, blameless: false })
    expect(stage.call.aborted).toBe(true)
    expect(stage.time.pending).toBe(0)
  })

  it('takes roles, comments and empty chunks for no token', async () => {
    const stage = begin()
    for (let at = 0; at < FIRST_TOKEN_MS; at += 1000) {
      stage.call.data(ROLE, COMMENT, frame({ choices: [] }))
      stage.time.advance(1000)
    }
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'first_token' })
  })

  it('does not count silence before the first content: a model may think for long behind its role', async () => {
    const stage = begin({ last: true })
    stage.call.data(ROLE)
    stage.time.advance(IDLE_MS * 2)
    expect(await stage.over()).toBeUndefined()
    stage.leave()
  })

  it('ends an answer without end at the limit of the attempt, and blames nobody', async () => {
    const stage = begin()
    stage.call.data(ROLE + HELLO)
    drip(stage, ATTEMPT_MS)
    expect(await stage.over()).toMatchObject({ outcome: 'broken', reason: 'attempt', blameless: true })
  })

  it('never cuts the last candidate for its first token', async () => {
    const stage = begin({ last: true })
    for (let at = 0; at < 290_000; at += 10_000) {
      stage.call.data(COMMENT)
      stage.time.advance(10_000)
    }
    expect(await stage.over()).toBeUndefined()
    stage.call.data(COMPLETE)
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
  })

  it('cuts the last candidate for its connection and its whole time all the same', async () => {
    const connecting = createRun({ last: true })
    connecting.time.advance(CONNECT_MS)
    expect(await connecting.over()).toMatchObject({ outcome: 'retry', reason: 'connect' })

    const silent = begin({ last: true })
    silent.time.advance(ATTEMPT_MS)
    expect(await silent.over()).toMatchObject({ outcome: 'retry', reason: 'attempt' })
  })

  it('counts silence from the last piece, comments included', async () => {
    const stage = begin()
    stage.call.data(HELLO)
    stage.time.advance(IDLE_MS - 1)
    stage.call.data(COMMENT)
    stage.time.advance(IDLE_MS - 1)
    expect(await stage.over()).toBeUndefined()
    stage.time.advance(1)
    expect(await stage.over()).toMatchObject({ outcome: 'broken', reason: 'idle' })
  })

  it('says when the deadline of the request ended it, not the provider', async () => {
    const stage = createRun({ plan: { deadlineAt: START_MS + 2000 } })
    stage.call.started()
    stage.time.advance(2000)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', blameless: true })
    expect(stage.call.aborted).toBe(true)
  })
})

describe('back-pressure', () => {
  it('pauses the upstream until the caller can take more', async () => {
    const stage = begin()
    stage.call.data(HELLO)
    expect(stage.call.paused).toBe(false)
    stage.reply.full = true
    stage.call.data(WORLD)
    expect(stage.call.paused).toBe(true)
    stage.call.data(WORLD)
    expect(stage.call.pauses).toBe(1)
    stage.reply.full = false
    stage.reply.onDrain?.()
    expect(stage.call.paused).toBe(false)
    stage.call.data(STOP, DONE)
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.reply.text).toBe(HELLO + WORLD + WORLD + STOP + DONE)
    expect(stage.time.pending).toBe(0)
  })

  it('does not count a pause as silence of the provider', async () => {
    const stage = begin()
    stage.reply.full = true
    stage.call.data(HELLO)
    stage.time.advance(IDLE_MS * 3)
    expect(await stage.over()).toBeUndefined()
    stage.reply.full = false
    stage.reply.onDrain?.()
    stage.time.advance(IDLE_MS - 1)
    expect(await stage.over()).toBeUndefined()
    stage.time.advance(1)
    expect(await stage.over()).toMatchObject({ outcome: 'broken', reason: 'idle' })
  })

  it("does not end a slow reader's answer before its usage frame could come", async () => {
    const stage = begin({ body: { stream: true, stream_options: { include_usage: true } } })
    stage.reply.full = true
    stage.call.data(HELLO + STOP)
    stage.time.advance(20_000)
    expect(await stage.over()).toBeUndefined()
    stage.reply.full = false
    stage.reply.onDrain?.()
    stage.call.data(USAGE + DONE)
    expect(await stage.over()).toMatchObject({ outcome: 'answered', usage: TOLD })
  })

  it('lets the upstream flow again when the answer is over', async () => {
    const stage = begin()
    stage.reply.full = true
    stage.call.data(COMPLETE)
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.call.paused).toBe(false)
    stage.call.end()
    expect(stage.time.pending).toBe(0)
  })

  it('is not asked for by a drain that nobody waited for', async () => {
    const stage = begin()
    stage.call.data(HELLO)
    stage.reply.onDrain?.()
    stage.call.data(STOP, DONE)
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
  })
})

describe('a caller who leaves', () => {
  it.each([
    ['while it connects', (_: RunStage) => {}],
    ['while the provider is silent', (s: RunStage) => s.call.started()],
    ['after the head', (s: RunStage) => headed(s)],
    ['in the preamble', (s: RunStage) => headed(s).call.data(ROLE)],
    ['in an error body', (s: RunStage) => headed(s, 500).call.data('{"er')],
  ] as const)('%s cancels the upstream at once, and nothing was said', async (_, act) => {
    const stage = createRun()
    act(stage)
    stage.leave()
    expect(stage.call.aborted).toBe(true)
    expect(await stage.over()).toMatchObject({ outcome: 'left' })
    expect(stage.reply.committed).toBe(false)
    expect(stage.time.pending).toBe(0)
  })

  it('in the middle of the answer cancels it, with what was used', async () => {
    const stage = begin()
    stage.call.data(ROLE + HELLO + WORLD)
    stage.leave()
    expect(stage.call.aborted).toBe(true)
    expect(await stage.over()).toMatchObject({
      outcome: 'left',
      usage: { outputTokens: 3, source: 'counted' },
    })
    expect(stage.time.pending).toBe(0)
  })

  it('in the middle of the answer is charged what was seen, whatever a usage of nothing says that came before', async () => {
    const stage = begin()
    const nothing = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }
    stage.call.data(`data: ${JSON.stringify({ choices: [], usage: nothing })}\n\n`)
    stage.call.data(ROLE + HELLO + WORLD)
    stage.leave()
    expect(await stage.over()).toMatchObject({ usage: { outputTokens: 3, source: 'counted' } })
  })

  it('while paused cancels it too', async () => {
    const stage = begin()
    stage.reply.full = true
    stage.call.data(HELLO)
    stage.leave()
    expect(stage.call.aborted).toBe(true)
    expect(await stage.over()).toMatchObject({ outcome: 'left' })
  })

  it('changes nothing once the answer is over', async () => {
    const stage = begin()
    stage.call.data(COMPLETE)
    stage.call.end()
    stage.leave()
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
    expect(stage.call.aborted).toBe(false)
  })
})

describe('what a stream must not be', () => {
  it.each([
    ['a whole reply', wholeReply(), JSON_TYPE, 'malformed'],
    ['an error in JSON', '{"error":{"message":"x"}}', JSON_TYPE, 'in_band'],
    ['a page of HTML', '<html>It works!</html>', { 'content-type': 'text/html' }, 'malformed'],
    ['nothing', '', JSON_TYPE, 'empty'],
  ] as const)('%s is never passed off as one', async (_, body, headers, reason) => {
    const stage = createRun()
    stage.call.started()
    stage.call.head(200, headers)
    if (body !== '') stage.call.data(body)
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason })
    expect(stage.reply.committed).toBe(false)
    expect(stage.time.pending).toBe(0)
  })

  it.each(['gzip', 'br', 'GZIP', 'zstd'])(
    'compressed with %s, which nobody asked for, it is given up at once',
    async (encoding) => {
      const stage = createRun()
      stage.call.started()
      stage.call.head(200, { ...STREAM, 'content-encoding': encoding })
      expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'malformed' })
      expect(stage.call.aborted).toBe(true)
    },
  )

  it.each(['identity', 'Identity', ''])('the encoding "%s" is none', async (encoding) => {
    const stage = createRun()
    stage.call.started()
    stage.call.head(200, { ...STREAM, 'content-encoding': encoding })
    stage.call.data(COMPLETE)
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
  })
})

describe('a provider key', () => {
  it('is taken out of a stream, and the rest is left', async () => {
    const stage = begin({ secret: SECRET })
    stage.call.data(HELLO, chunk({ content: `key ${SECRET}!` }), STOP, DONE)
    await stage.over()
    expect(stage.reply.text).toBe(HELLO + chunk({ content: 'key [redacted]!' }) + STOP + DONE)
  })

  it('is taken out of a preamble and of comments', async () => {
    const stage = begin({ secret: SECRET })
    stage.call.data(
      chunk({ role: 'assistant' }, null, { echo: SECRET }),
      HELLO,
      `: ${SECRET}\n\n`,
      STOP,
      DONE,
    )
    await stage.over()
    expect(stage.reply.text).not.toContain(SECRET)
    expect(stage.reply.text.match(/\[redacted\]/g)).toHaveLength(2)
  })

  it('is found however the bytes were cut', async () => {
    const bytes = Buffer.from(chunk({ content: SECRET }) + STOP + DONE)
    for (const size of [1, 5, 13, 100]) {
      const stage = begin({ secret: SECRET })
      for (let at = 0; at < bytes.length; at += size) stage.call.data(bytes.subarray(at, at + size))
      await stage.over()
      expect(stage.reply.text).not.toContain(SECRET)
    }
  })
})
