// One attempt at a whole reply, and what becomes of statuses: held until complete, so that a cut one fails over.

import { describe, expect, it } from 'vitest'
import type { Result } from '../../../src/upstream/attempt.ts'
import {
  ATTEMPT_MS,
  createRun,
  FIRST_BYTE_MS,
  HELLO,
  type Headers,
  IDLE_MS,
  JSON_TYPE,
  type RunOptions,
  type RunStage,
  SECRET,
  STREAM,
  wholeReply,
} from './stage.ts'

const WHOLE: RunOptions = { body: {} }

function begin(status = 200, headers: Headers = JSON_TYPE, options: RunOptions = WHOLE): RunStage {
  const stage = createRun(options)
  stage.call.started()
  stage.call.head(status, headers)
  return stage
}

describe('a whole reply', () => {
  it("is the bytes that came, with the provider's own usage", async () => {
    const stage = begin()
    const text = wholeReply({ unknown: [1.0, { é: null }] })
    stage.call.data(text.slice(0, 40), text.slice(40))
    expect(stage.reply.committed).toBe(false)
    stage.call.end()
    expect(await stage.over()).toMatchObject({
      outcome: 'answered',
      usage: { inputTokens: 7, outputTokens: 2, source: 'provider' },
    })
    expect(stage.reply).toMatchObject({ status: 200, contentType: 'application/json; charset=utf-8', text })
    expect(stage.commits).toHaveLength(1)
    expect(stage.time.pending).toBe(0)
  })

  it('is counted when it tells no usage: nobody answers for nothing', async () => {
    const stage = begin()
    stage.call.data(wholeReply({ usage: undefined }))
    stage.call.end()
    expect(await stage.over()).toMatchObject({
      outcome: 'answered',
      usage: { inputTokens: Math.ceil(stage.request.textBytes / 4), outputTokens: 3, source: 'counted' },
    })
  })

  it.each([
    ['no output', { prompt_tokens: 3 }, { inputTokens: 3, outputTokens: 3 }],
    ['less than nothing', { prompt_tokens: 3, completion_tokens: -5 }, { inputTokens: 3, outputTokens: 3 }],
    ['text', { prompt_tokens: 3, completion_tokens: '7' }, { inputTokens: 3, outputTokens: 3 }],
    ['no input', { prompt_tokens: 0, completion_tokens: 9 }, { inputTokens: 'counted', outputTokens: 9 }],
  ])('is counted where its usage tells %s', async (_, usage, { inputTokens, outputTokens }) => {
    const stage = begin()
    stage.call.data(wholeReply({ usage }))
    stage.call.end()
    const counted = Math.ceil(stage.request.textBytes / 4)
    expect(await stage.over()).toMatchObject({
      usage: {
        inputTokens: inputTokens === 'counted' ? counted : inputTokens,
        outputTokens,
        source: 'counted',
      },
    })
  })

  it('of embeddings has vectors for choices, and no output', async () => {
    const stage = begin(200, JSON_TYPE, { body: { input: 'x' }, operation: 'embeddings' })
    stage.call.data(
      '{"object":"list","data":[{"embedding":[0.5]}],"usage":{"prompt_tokens":3,"total_tokens":3}}',
    )
    stage.call.end()
    expect(await stage.over()).toMatchObject({
      outcome: 'answered',
      usage: { inputTokens: 3, outputTokens: 0, source: 'provider' },
    })
  })

  it('needs no content type', async () => {
    const stage = begin(200, {})
    stage.call.data(wholeReply())
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
  })

  it('leaves to its writer what is still on its way out', async () => {
    const stage = begin()
    const more = () => {}
    const send = stage.reply.send
    stage.reply.send = (...parts) => {
      send.apply(stage.reply, parts)
      stage.reply.onDrain = more
    }
    stage.call.data(wholeReply())
    stage.call.end()
    await stage.over()
    expect(stage.reply.onDrain).toBe(more)
  })

  it.each([
    ['nothing', '', 'empty'],
    ['no choices', wholeReply({ choices: [] }), 'empty'],
    ['HTML', '<html>It works!</html>', 'malformed'],
    ['cut JSON', wholeReply().slice(0, 60), 'malformed'],
    ['JSON of another kind', '[1]', 'malformed'],
    ['an object without choices', '{"id":"x"}', 'malformed'],
    ['a choice that is none', wholeReply({ choices: [1] }), 'malformed'],
    ['an error', '{"error":{"message":"engine down","code":null}}', 'in_band'],
    ['an error of one word', '{"error":"down"}', 'in_band'],
    ['choices and an error', wholeReply({ error: { message: 'x' } }), 'in_band'],
    ['an error in a choice', wholeReply({ choices: [{ error: { code: 502, message: 'x' } }] }), 'in_band'],
    ['a finish reason "error"', wholeReply({ choices: [{ finish_reason: 'error' }] }), 'in_band'],
    [
      'a flat error of vLLM',
      '{"object":"error","message":"x","type":"BadRequestError","code":400}',
      'malformed',
    ],
  ] as const)('that is %s leaves the caller free for somebody else', async (_, body, reason) => {
    const stage = begin()
    if (body !== '') stage.call.data(body)
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason, blameless: false })
    expect(stage.reply.committed).toBe(false)
    expect(stage.time.pending).toBe(0)
  })

  it('that is reset before its end is not sent, although it could be read', async () => {
    const stage = begin()
    stage.call.data(wholeReply())
    stage.call.failed()
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'reset' })
    expect(stage.reply.committed).toBe(false)
  })

  it('that comes as a stream is given up at once', async () => {
    const stage = begin(200, STREAM)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'malformed' })
    stage.call.data(HELLO)
    expect(stage.reply.committed).toBe(false)
    expect(stage.call.aborted).toBe(true)
  })

  it('that is compressed is given up at once', async () => {
    const stage = begin(200, { ...JSON_TYPE, 'content-encoding': 'gzip' })
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'malformed' })
  })

  it('larger than any answer is given up', async () => {
    const stage = begin()
    const piece = Buffer.alloc(8 * 1024 * 1024, 0x20)
    for (let i = 0; i < 9; i += 1) stage.call.data(piece)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'malformed' })
    expect(stage.call.aborted).toBe(true)
  })

  it('loses the key it echoes, and nothing else', async () => {
    const stage = begin(200, JSON_TYPE, { ...WHOLE, secret: SECRET })
    stage.call.data(wholeReply({ echo: `Bearer ${SECRET}` }))
    stage.call.end()
    await stage.over()
    expect(stage.reply.text).toBe(wholeReply({ echo: 'Bearer [redacted]' }))
  })

  it('is cut for its first byte, unless nobody is left behind', async () => {
    const stage = begin()
    stage.time.advance(FIRST_BYTE_MS)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'first_byte' })
    const last = begin(200, JSON_TYPE, { ...WHOLE, last: true })
    last.time.advance(ATTEMPT_MS - 1)
    expect(await last.over()).toBeUndefined()
    last.time.advance(1)
    expect(await last.over()).toMatchObject({ outcome: 'retry', reason: 'attempt' })
  })

  it('is not cut for its first byte once that is there', async () => {
    const stage = begin()
    stage.call.data('{"id":')
    for (let passed = 0; passed <= FIRST_BYTE_MS; passed += IDLE_MS - 1) {
      stage.time.advance(IDLE_MS - 1)
      stage.call.data(' ')
    }
    expect(await stage.over()).toBeUndefined()
    stage.call.data('"x","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}')
    stage.call.end()
    expect(await stage.over()).toMatchObject({ outcome: 'answered' })
  })

  it('that stalls in its middle is given up', async () => {
    const stage = begin()
    stage.call.data('{"id":')
    stage.time.advance(IDLE_MS)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: 'idle' })
  })

  it('ends with the deadline of the request', async () => {
    const stage = createRun({ ...WHOLE, plan: { deadlineAt: 3000 } })
    stage.call.started()
    stage.time.advance(2000)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', blameless: true })
  })

  it('is cancelled at once when the caller leaves in its middle', async () => {
    const stage = begin()
    stage.call.data('{"id":')
    stage.leave()
    expect(stage.call.aborted).toBe(true)
    expect(await stage.over()).toMatchObject({ outcome: 'left' })
    expect(stage.time.pending).toBe(0)
  })
})

// --- statuses ----------------------------------------------------------------------------------------------

async function judge(
  status: number,
  body: unknown = '',
  headers: Headers = {},
  options: RunOptions = WHOLE,
): Promise<Result | undefined> {
  const stage = begin(status, { ...JSON_TYPE, ...headers }, options)
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  if (text !== '') stage.call.data(text)
  stage.call.end()
  const result = await stage.over()
  expect(stage.reply.committed).toBe(false)
  expect(stage.time.pending).toBe(0)
  return result
}

const openaiError = (message: string, code: string | null = null, type: string | null = 'x') => ({
  error: { message, type, param: null, code },
})

describe('a status', () => {
  it.each([
    300, 301, 302, 303, 304, 307, 308, 404, 405, 406, 408, 409, 410, 424, 425, 429, 431, 451, 498, 499, 500,
    501, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529, 599,
  ])("%d is the provider's trouble: somebody else may answer", async (status) => {
    const expected = { outcome: 'retry', reason: `${status}`, key: false, blameless: false }
    expect(await judge(status, openaiError('x'))).toMatchObject(expected)
    expect(await judge(status, '<html>nginx</html>', { 'content-type': 'text/html' })).toMatchObject(expected)
    expect(await judge(status)).toMatchObject(expected)
    expect(await judge(status, openaiError('x'), {}, { body: { stream: true } })).toMatchObject(expected)
  })

  it.each([401, 402, 403])('%d is about the key', async (status) => {
    expect(await judge(status, openaiError('x'))).toMatchObject({
      outcome: 'retry',
      reason: `${status}`,
      key: true,
    })
  })

  it.each([
    ['model_not_found', 'Project `proj_1` does not have access to model `gpt-9`'],
    [null, 'You do not have access to the model'],
  ])('403 about one model (%s) leaves the key alone', async (code, message) => {
    expect(await judge(403, openaiError(message, code))).toMatchObject({ outcome: 'retry', key: false })
  })

  it.each([400, 422])("%d is the caller's own", async (status) => {
    expect(await judge(status, openaiError('Unknown parameter.', 'unsupported_parameter'))).toMatchObject({
      outcome: 'refuse',
      status,
      fault: { message: 'Unknown parameter.', code: 'unsupported_parameter', type: 'x' },
    })
  })

  it("400 of a content filter is the caller's own", async () => {
    expect(await judge(400, openaiError('filtered', 'content_filter'))).toMatchObject({ outcome: 'refuse' })
  })

  it.each([
    ['is a body too large', openaiError('Maximum request size is 4 MB'), {}, 'refuse'],
    [
      'is a rate in disguise',
      openaiError('Request too large for model on tokens per minute (TPM)'),
      {},
      'retry',
    ],
    ['has the code of a rate', openaiError('too large', 'rate_limit_exceeded'), {}, 'retry'],
    ['names a wait', openaiError('too large'), { 'retry-after': '7' }, 'retry'],
  ])('413 that %s', async (_, body, headers, outcome) => {
    expect(await judge(413, body, headers)).toMatchObject({ outcome })
  })

  it.each([
    'insufficient_quota',
    'credit_balance_exhausted',
    'organization_spend_limit_exceeded',
    'project_spend_limit_exceeded',
    'organization_usage_limit_exceeded',
    'billing_hard_limit_reached',
  ])('429 with %s is about the account, not the rate', async (code) => {
    expect(await judge(429, openaiError('x', code))).toMatchObject({
      outcome: 'retry',
      reason: '429',
      key: true,
    })
    expect(await judge(429, openaiError('x', null, code))).toMatchObject({ key: true })
  })

  it.each([
    ['API key not valid. Please pass a valid API key.'],
    ['Your credit balance is too low to access the Anthropic API.'],
  ])('400 that says "%s" is about the key', async (message) => {
    expect(await judge(400, openaiError(message))).toMatchObject({
      outcome: 'retry',
      reason: '400',
      key: true,
    })
  })

  it("400 that quotes such words from the caller is the caller's own", async () => {
    const quoted = openaiError('Unknown value "API key not valid" in messages[0]')
    expect(await judge(400, quoted)).toMatchObject({ outcome: 'refuse' })
  })

  it.each([
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    'prompt is too long: 210000 tokens > 200000 maximum',
    'Your input exceeds the context window of this model',
    'The input token count (1200000) exceeds the maximum number of tokens allowed',
    'Input is too long for requested model.',
    'Please reduce the length of the messages or completion.',
    "This model's maximum prompt length is 131072",
    'the request exceeds the available context size',
    'requested tokens are greater than the context length',
    'input length and `max_tokens` exceed context limit: 1 + 2 > 2',
    'your request exceeded model token limit: 8192',
    'too many tokens: 9000',
  ])('400 that says "%s" is too long here', async (message) => {
    expect(await judge(400, openaiError(message))).toMatchObject({
      outcome: 'retry',
      reason: 'context',
      message,
    })
    expect(await judge(413, openaiError(message))).toMatchObject({ reason: 'context' })
  })

  it.each([
    [
      'vLLM, flat',
      { object: 'error', message: 'words', type: 'BadRequestError', param: 'p', code: 400 },
      'words',
      '400',
    ],
    [
      'Google, in a list',
      [{ error: { code: 400, message: 'words', status: 'INVALID_ARGUMENT' } }],
      'words',
      '400',
    ],
    ['FastAPI', { detail: 'words' }, 'words', null],
    ['FastAPI, in pieces', { detail: [{ loc: ['body'], msg: 'no' }] }, 'no', null],
    ['a structure of a stranger', { error: { message: { deep: [[['x']]] } } }, '', null],
    ['one word', { error: 'words' }, 'words', null],
    ['HTML', '<html>Bad Request</html>', '', null],
    ['nothing', '', '', null],
    ['null', 'null', '', null],
    ['an empty list', '[]', '', null],
    ['cut JSON', '{"error":{"mess', '', null],
  ])('has its words read out of %s', async (_, body, message, code) => {
    expect(await judge(422, body)).toMatchObject({ outcome: 'refuse', status: 422, fault: { message, code } })
  })

  it.each([
    [{ 'retry-after': '30' }, 30_000],
    [{ 'retry-after': '1.5' }, 1500],
    [{ 'retry-after-ms': '120.5' }, 120.5],
    [{ 'retry-after-ms': '250', 'retry-after': '1' }, 250],
    [{ 'retry-after-ms': 'soon', 'retry-after': '1' }, 1000],
    [{ 'retry-after': 'Sat, 21 Nov 2026 12:01:00 GMT' }, 60_000],
    [{ 'retry-after': 'Sat, 21 Nov 2026 11:00:00 GMT' }, 0],
    [{ 'retry-after': '-5' }, 0],
    [{ 'retry-after': 'soon' }, undefined],
    [{}, undefined],
  ])('names its wait: %o', async (headers, retryAfterMs) => {
    expect(await judge(429, openaiError('x'), headers)).toMatchObject({ outcome: 'retry', retryAfterMs })
    expect(await judge(503, '', headers)).toMatchObject({ outcome: 'retry', retryAfterMs })
  })

  it('is never followed anywhere', async () => {
    const result = await judge(307, '', { location: 'http://elsewhere.invalid/v1/chat/completions' })
    expect(result).toMatchObject({ outcome: 'retry', reason: '307' })
  })

  it.each([
    [429, { outcome: 'retry', reason: '429', retryAfterMs: 9000 }],
    [503, { outcome: 'retry', reason: '503', retryAfterMs: 9000 }],
    [400, { outcome: 'refuse', status: 400, fault: { message: '' } }],
  ])('%d with a compressed body is judged by itself', async (status, expected) => {
    const stage = begin(status, { ...JSON_TYPE, 'content-encoding': 'gzip', 'retry-after': '9' })
    stage.call.data(Buffer.from([0x1f, 0x8b, 0, 1, 2]))
    stage.call.end()
    expect(await stage.over()).toMatchObject(expected)
  })

  it('does not wait long for the rest of its words', async () => {
    const stage = begin(503, { ...JSON_TYPE, 'retry-after': '2' })
    stage.call.data('{"error":')
    stage.time.advance(1999)
    expect(await stage.over()).toBeUndefined()
    stage.time.advance(1)
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: '503', retryAfterMs: 2000 })
    expect(stage.call.aborted).toBe(true)
    expect(stage.time.pending).toBe(0)
  })

  it('is known although its words were cut', async () => {
    const stage = begin(502)
    stage.call.data('{"error":')
    stage.call.failed()
    expect(await stage.over()).toMatchObject({ outcome: 'retry', reason: '502' })
  })

  it('has as many words as anybody could want, and no more', async () => {
    const stage = begin(400)
    for (let i = 0; i < 64; i += 1) stage.call.data('x'.repeat(1024))
    expect(await stage.over()).toMatchObject({ outcome: 'refuse', status: 400 })
    expect(stage.call.aborted).toBe(true)
  })
})
