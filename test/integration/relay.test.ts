// What is relayed over real sockets: the bytes of the provider, however they come, and what a broken one becomes.

import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Answer, type Caller, createCaller } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { metricOf } from '../support/operator.ts'
import {
  answer,
  type Behaviour,
  chatFrames,
  createScriptedProvider,
  cutAfter,
  echoKey,
  rawBytes,
  resetBeforeHeaders,
  type ScriptedProvider,
  status,
  stream,
  toFrame,
  trickle,
} from '../support/scripted-provider.ts'

const KEY = 'sk-provider-key-0123456789abcdef'

let one: ScriptedProvider
let two: ScriptedProvider
let gateway: TestGateway
let caller: Caller

beforeAll(async () => {
  ;[one, two] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  gateway = await startGateway({
    config: simpleConfig({
      provider: [one.url, two.url],
      keyVariable: 'PROVIDER_KEY',
      over: {
        routes: { single: ['t1'], many: ['t1'] },
        // The bad answers of one test are not the next one's concern.
        failover: { attempts: 3 },
      },
    }),
    env: { PROVIDER_KEY: KEY },
  })
  caller = createCaller(gateway.baseUrl, gateway.bearer)
})
afterAll(async () => {
  await gateway?.stop()
  await Promise.all([one?.close(), two?.close()])
})
beforeEach(() => {
  one.reset()
  two.reset()
})
afterEach(async () => {
  // A good answer in between closes what a broken one may have opened.
  one.script(answer())
  await caller.chat({ body: { model: 'single' } })
})

const sha = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const STREAM = { stream: true }

describe('a stream', () => {
  it.each([1, 2, 3, 17])('in writes of %d bytes arrives as the same bytes', async (bytes) => {
    one.script(trickle({ bytes, model: 'm1' }))
    const { text, content, header } = await caller.chat({ body: STREAM })
    const chat = {
      fields: {},
      model: 'm1',
      stream: true,
      includeUsage: true,
      choices: 1,
      messages: [],
      tools: [],
    }
    const frames = chatFrames(chat, { pieces: ['Grüße ', '— 日本 ', '👩‍🚀 ', 'done.'] }).map(String)
    expect(text).toBe(frames.filter((frame) => !frame.includes('"choices":[]')).join(''))
    expect(content).toBe('Grüße — 日本 👩‍🚀 done.')
    expect(header('content-type')).toBe('text/event-stream; charset=utf-8')
    expect(header('x-sluice-attempts')).toBe('t1:p1/m1=200')
  })

  it('is one of a thousand at once, and each is the bytes that were sent for it', async () => {
    const framesOf = (seed: number): Buffer[] => [
      toFrame({ choices: [{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }] }),
      ...Array.from({ length: 10 }, (_, n) =>
        toFrame({
          seed,
          n,
          choices: [{ index: 0, delta: { content: `${sha(`${seed} ${n}`)} é日👩‍🚀` }, finish_reason: null }],
        }),
      ),
      toFrame({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] }),
      toFrame('[DONE]'),
    ]
    one.script((request) => stream(framesOf(seedOf(request.json()))))
    const count = 1000
    // On a machine that has no time for so many at once some are told to come again, and have not been passed on.
    const ask = async (seed: number, again = 20): Promise<Answer> => {
      const answered = await caller.chat({
        body: { model: 'many', stream: true, messages: [{ role: 'user', content: `seed ${seed}` }] },
      })
      if (answered.error?.code !== 'overloaded' || again === 0) return answered
      await sleep(Number(answered.header('retry-after-ms')))
      return ask(seed, again - 1)
    }
    const answers = await Promise.all(Array.from({ length: count }, (_, seed) => ask(seed)))
    const wrong = answers.filter(({ text }, seed) => sha(text) !== sha(Buffer.concat(framesOf(seed))))
    expect(wrong.map(({ status: code, text }) => `${code} ${text.slice(0, 300)}`)).toEqual([])
    expect(one.calls).toBe(count)
    expect(await metricOf(gateway, 'sluice_inflight')).toBe(0)
    expect(await metricOf(gateway, 'sluice_streams')).toBe(0)
  })

  it.each([
    ['is reset', cutAfter({ frames: 4 })],
    ['ends with its connection', cutAfter({ frames: 4, how: 'fin' })],
    ['ends in good order but for its finish reason', cutAfter({ frames: 4, how: 'orderly' })],
    ['is cut inside a frame', cutAfter({ bytes: 700 })],
  ])('that %s in its middle ends with the error, in good order and without [DONE]', async (_, behaviour) => {
    one.script(behaviour)
    const { status: code, stream: said, error, text } = await caller.chat({ body: STREAM })
    expect(code).toBe(200)
    expect(error).toMatchObject({ code: 'upstream_incomplete', type: 'server_error', param: null })
    expect(said?.done).toBe(false)
    expect(said?.text).not.toBe('')
    expect(text.endsWith('\n\n')).toBe(true)
    expect(two.calls).toBe(0)
  })

  it("that is reset before its first content is another provider's to answer", async () => {
    one.script(cutAfter({ frames: 1 }))
    const { content, header } = await caller.chat({ body: STREAM })
    expect(content).toBe('Hello from the scripted provider.')
    expect(header('x-sluice-degraded')).toBe('true')
    expect(header('x-sluice-attempts')).toMatch(/^t1:p1\/m1=reset, (?:t1:p1\/m1=reset, )?t2:p2\/m2=200$/)
  })

  it("loses the provider's key, wherever it is echoed", async () => {
    one.script(
      stream([{ frame: { choices: [{ index: 0, delta: { content: `I am ${KEY}` } }] } }, 'data: [DONE]\n\n']),
    )
    const { text } = await caller.chat({ body: STREAM })
    expect(text).toContain('I am ')
    expect(text).not.toContain(KEY)
    one.script(echoKey({ code: 400 }))
    const refused = await caller.chat({ body: STREAM })
    expect(refused.status).toBe(400)
    expect(refused.text).not.toContain(KEY)
    expect(gateway.stdout() + gateway.stderr()).not.toContain(KEY)
  })
})

describe('a whole reply', () => {
  it('of many megabytes arrives complete', async () => {
    const text = 'é'.repeat(3_000_000)
    one.script(answer({ pieces: [text] }))
    const { content, status: code } = await caller.chat()
    expect(code).toBe(200)
    expect(sha(content)).toBe(sha(text))
  })

  it.each([
    ['reset', cutAfter({ frames: 1 })],
    ['cut', cutAfter({ frames: 1, how: 'fin' })],
    ['ended too early', cutAfter({ frames: 1, how: 'orderly' })],
  ])("that is %s is another provider's to answer, and nobody sees half of it", async (_, behaviour) => {
    one.script(behaviour)
    const { status: code, content, header } = await caller.chat()
    expect(code).toBe(200)
    expect(content).toBe('Hello from the scripted provider.')
    expect(header('x-sluice-tier')).toBe('t2')
  })

  it('is never fetched from where a redirect points', async () => {
    one.script(status(307, '', { location: `${two.url}/v1/chat/completions` }))
    const { status: code, header } = await caller.chat({ body: { model: 'single' } })
    expect(code).toBe(503)
    expect(header('x-sluice-attempts')).toBe('t1:p1/m1=307')
    expect(two.calls).toBe(0)
  })
})

describe('a connection that is kept', () => {
  it("and closed by the provider between two requests is not the caller's trouble", async () => {
    for (let round = 0; round < 10; round += 1) {
      expect((await caller.chat()).status).toBe(200)
      one.killConnections()
      const { status: code, header } = await caller.chat()
      expect(code).toBe(200)
      expect(header('x-sluice-tier')).toBe('t1')
    }
    expect(two.calls).toBe(0)
  })

  it('and closed under a request that is on its way is called again', async () => {
    one.script([answer(), resetBeforeHeaders('fin'), answer(), resetBeforeHeaders('reset'), answer()])
    for (let round = 0; round < 3; round += 1) {
      const { status: code, header } = await caller.chat({ body: { model: 'single' } })
      expect(code).toBe(200)
      expect(header('x-sluice-attempts')).toMatch(
        round === 0 ? /^t1:p1\/m1=200$/ : /^t1:p1\/m1=reset, t1:p1\/m1=200$/,
      )
    }
  })

  it('is used again behind a stream that was read to its end', async () => {
    await caller.chat({ body: { model: 'single', ...STREAM } })
    const before = one.connectionsEver
    for (let i = 0; i < 5; i += 1) await caller.chat({ body: { model: 'single', ...STREAM } })
    expect(one.connectionsEver).toBe(before)
  })
})

describe('HTTP as it is spoken in the wild', () => {
  const REPLY = JSON.stringify({
    choices: [{ index: 0, message: { role: 'assistant', content: 'odd' }, finish_reason: 'stop' }],
  })
  const FRAMES = [
    toFrame({ choices: [{ index: 0, delta: { content: 'odd' }, finish_reason: 'stop' }] }),
    toFrame('[DONE]'),
  ].join('')
  const chunked = (text: string, size = 20): string => {
    let out = ''
    for (let at = 0; at < text.length; at += size) {
      const piece = text.slice(at, at + size)
      out += `${piece.length.toString(16)};extension="x"\r\n${piece}\r\n`
    }
    return out
  }
  const OK = 'HTTP/1.1 200 OK\r\n'
  const JSON_TYPE = 'content-type: application/json\r\n'
  const SSE_TYPE = 'content-type: text/event-stream\r\n'
  const LENGTH = `content-length: ${REPLY.length}\r\n`

  const good: readonly [string, boolean, Behaviour][] = [
    [
      'informational answers in front',
      false,
      rawBytes([
        'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n',
        `${OK}${JSON_TYPE}${LENGTH}\r\n${REPLY}`,
      ]),
    ],
    [
      'informational answers in front of a stream',
      true,
      rawBytes([
        'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n',
        `${OK}${SSE_TYPE}connection: close\r\n\r\n${FRAMES}`,
      ]),
    ],
    [
      'chunks with extensions and trailers',
      false,
      rawBytes([
        `${OK}${JSON_TYPE}trailer: x-checksum\r\ntransfer-encoding: chunked\r\n\r\n${chunked(REPLY)}0\r\nx-checksum: 1\r\nx-more: 2\r\n\r\n`,
      ]),
    ],
    [
      'a stream in chunks with trailers',
      true,
      rawBytes([
        `${OK}${SSE_TYPE}transfer-encoding: chunked\r\n\r\n${chunked(FRAMES)}0\r\nx-checksum: 1\r\n\r\n`,
      ]),
    ],
    ['no content type', false, rawBytes([`${OK}${LENGTH}\r\n${REPLY}`])],
    ['a stream without content type', true, rawBytes([`${OK}connection: close\r\n\r\n${FRAMES}`])],
    [
      'HTTP/1.0 to the end of the connection',
      false,
      rawBytes([`HTTP/1.0 200 OK\r\n${JSON_TYPE}\r\n${REPLY}`]),
    ],
    ['a stream of HTTP/1.0', true, rawBytes([`HTTP/1.0 200 OK\r\n${SSE_TYPE}\r\n${FRAMES}`])],
    [
      'no reason phrase, odd case, spaces or none',
      false,
      rawBytes([
        `HTTP/1.1 200 \r\nCONTENT-Type:application/json\r\nContent-LENGTH:   ${REPLY.length}\r\n\r\n${REPLY}`,
      ]),
    ],
    [
      'a byte order mark and CRLF',
      true,
      rawBytes([`${OK}${SSE_TYPE}connection: close\r\n\r\n\ufeff${FRAMES.replaceAll('\n', '\r\n')}`]),
    ],
    [
      'a media type with parameters in capitals',
      true,
      rawBytes([`${OK}Content-Type: Text/Event-Stream;Charset=UTF-8\r\nconnection: close\r\n\r\n${FRAMES}`]),
    ],
    [
      'a status of 2xx that is not 200',
      false,
      rawBytes([`HTTP/1.1 201 Created\r\n${JSON_TYPE}${LENGTH}\r\n${REPLY}`]),
    ],
  ]

  it.each(good)('%s is read', async (_, isStream, behaviour) => {
    one.script(behaviour)
    const { content, error, text } = await caller.chat({ body: { model: 'single', stream: isStream } })
    expect({ content, error, text: content === 'odd' ? '' : text }).toEqual({
      content: 'odd',
      error: undefined,
      text: '',
    })
    expect(one.faults).toEqual([])
  })

  const bad: readonly [string, boolean, Behaviour][] = [
    ['that is none', false, rawBytes(['220 smtp.example.com ESMTP\r\n'])],
    [
      'with a length that is too long',
      false,
      rawBytes([`${OK}${JSON_TYPE}content-length: ${REPLY.length + 9}\r\n\r\n${REPLY}`]),
    ],
    ['with two lengths', false, rawBytes([`${OK}${JSON_TYPE}${LENGTH}content-length: 3\r\n\r\n${REPLY}`])],
    [
      'with chunks that are none',
      false,
      rawBytes([`${OK}${JSON_TYPE}transfer-encoding: chunked\r\n\r\nzz\r\n${REPLY}`]),
    ],
    [
      'with chunks that do not end',
      false,
      rawBytes([`${OK}${JSON_TYPE}transfer-encoding: chunked\r\n\r\n${chunked(REPLY)}`]),
    ],
    ['with no body', false, rawBytes([`HTTP/1.1 204 No Content\r\n\r\n`])],
    [
      'that switches protocols',
      false,
      rawBytes(['HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n']),
    ],
    [
      'with a head that is too large',
      false,
      rawBytes([`${OK}${JSON_TYPE}x-large: ${'x'.repeat(200_000)}\r\n${LENGTH}\r\n${REPLY}`]),
    ],
    [
      'that is compressed',
      false,
      rawBytes([`${OK}${JSON_TYPE}content-encoding: gzip\r\n${LENGTH}\r\n${REPLY}`]),
    ],
    [
      'that is a page',
      true,
      rawBytes([`${OK}content-type: text/html\r\nconnection: close\r\n\r\n<html></html>`]),
    ],
    ['that is JSON for a stream', true, rawBytes([`${OK}${JSON_TYPE}${LENGTH}\r\n${REPLY}`])],
    ['that is a stream for JSON', false, rawBytes([`${OK}${SSE_TYPE}connection: close\r\n\r\n${FRAMES}`])],
  ]

  it.each(bad)("an answer %s is another provider's to give", async (_, isStream, behaviour) => {
    one.script(behaviour)
    const { status: code, content, header } = await caller.chat({ body: { stream: isStream } })
    expect(code).toBe(200)
    expect(content).toBe('Hello from the scripted provider.')
    expect(header('x-sluice-tier')).toBe('t2')
  })
})

function seedOf(body: unknown): number {
  return Number(/seed (\d+)/.exec(JSON.stringify(body))?.[1])
}
