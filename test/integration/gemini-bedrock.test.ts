// What becomes of an answer of Gemini's or Bedrock's that is broken, refused or late, over real sockets: nothing that a
// caller could take for a whole answer; and the credential of a call to Bedrock, as AWS would check it.

import { createHash, createHmac } from 'node:crypto'
import { SignatureV4 } from '@smithy/signature-v4'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Answer, type Caller, createCaller } from '../support/caller.ts'
import { toStreamEvent, toStreamException } from '../support/eventstream.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import {
  answer,
  type Behaviour,
  createScriptedProvider,
  cutAfter,
  empty200,
  errorIn200,
  inBandErrorAfterContent,
  inBandErrorFirst,
  malformedEventFirst,
  malformedEventMiddle,
  noFinishReason,
  type RecordedRequest,
  rawBytes,
  type ScriptedProvider,
  status,
  trickle,
} from '../support/scripted-provider.ts'

const ID = 'AKIDEXAMPLE123456789'
const SECRET = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY'
const TOKEN = 'IQoJb3JpZ2luX2VjEXAMPLETOKEN0123456789'

let provider: ScriptedProvider
let other: ScriptedProvider
let gateway: TestGateway
let caller: Caller

beforeAll(async () => {
  ;[provider, other] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  gateway = await startGateway({
    config: {
      providers: {
        gemini: { format: 'gemini', baseUrl: `${provider.url}/v1beta`, apiKey: 'env:GEMINI_KEY' },
        // A key that was refused is left alone.
        vectors: { format: 'gemini', baseUrl: `${provider.url}/v1beta`, apiKey: 'env:GEMINI_KEY' },
        bedrock: { format: 'bedrock', baseUrl: provider.url, region: 'eu-west-1', apiKey: 'env:AWS_KEY' },
        vertex: {
          format: 'vertex',
          baseUrl: `${provider.url}/v1`,
          project: 'p1',
          region: 'europe-west4',
          apiKey: 'env:VERTEX_KEY',
        },
        other: { format: 'openai', baseUrl: `${other.url}/v1` },
      },
      tiers: {
        gemini: { deployments: ['gemini/gemini-3-flash'] },
        bedrock: { deployments: ['bedrock/us.amazon.nova-pro-v1:0'] },
        other: { deployments: ['other/m'] },
        vectors: { deployments: ['vectors/gemini-embedding-2'] },
        drawing: { deployments: ['vectors/gemini-3-pro-image'] },
        'vertex-list': { deployments: ['vertex/text-embedding-005'] },
        'vertex-one': { deployments: ['vertex/gemini-embedding-2'] },
        titan: { deployments: ['bedrock/amazon.titan-embed-text-v2:0'] },
        cohere: { deployments: ['bedrock/cohere.embed-v4:0'] },
      },
      routes: {
        gemini: ['gemini', 'other'],
        bedrock: ['bedrock', 'other'],
        'gemini-alone': ['gemini'],
        vectors: ['vectors'],
        drawing: ['drawing'],
        'vertex-list': ['vertex-list'],
        'vertex-one': ['vertex-one'],
        titan: ['titan'],
        cohere: ['cohere'],
        'titan-or-other': ['titan', 'other'],
        'bedrock-alone': ['bedrock'],
      },
      failover: { grace: '10ms' },
    },
    env: {
      GEMINI_KEY: 'AIzaSyExample0123456789',
      VERTEX_KEY: 'ya29.example-token',
      AWS_KEY: `${ID}:${SECRET}:${TOKEN}`,
    },
  })
  caller = createCaller(gateway.baseUrl, gateway.bearer)
})
afterAll(async () => {
  await gateway?.stop()
  await Promise.all([provider?.close(), other?.close()])
})
beforeEach(async () => {
  provider.reset()
  other.reset()
  other.script(answer({ text: 'From the other.' }))
})

async function ask(
  model: string,
  behaviour: Behaviour | Behaviour[],
  body: object = { stream: true },
): Promise<Answer> {
  // A good answer in between closes what a broken one may have opened.
  provider.script(answer())
  await caller.chat({ body: { model: `${model.split('-')[0]}-alone` } })
  provider.reset()
  provider.script(behaviour)
  return await caller.chat({ body: { model, ...body } })
}

const NAMES = ['gemini', 'bedrock'] as const

describe.each(NAMES)('a stream of %s', (name) => {
  it.each([1, 3, 50])('in writes of %d bytes says the same (bug 11)', async (bytes) => {
    const { content, text, status: code } = await ask(name, trickle({ bytes }))
    expect({ code, content }).toEqual({ code: 200, content: 'Grüße — 日本 👩‍🚀 done.' })
    expect(text.trimEnd().endsWith('data: [DONE]')).toBe(true)
  })

  it.each<readonly [what: string, behaviour: Behaviour, reason: string]>([
    ['begins with an error', inBandErrorFirst(), 'in_band'],
    ['begins with what cannot be read', malformedEventFirst(), 'malformed'],
    ['says nothing', empty200('no-body'), 'empty'],
    [
      'is no stream',
      rawBytes(['HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 9\r\n\r\n<html>Hi ']),
      'malformed',
    ],
    ['has a status that is told', status(503), '503'],
  ])('that %s is answered by the next', async (_what, behaviour, reason) => {
    const { content, header } = await ask(name, behaviour)
    expect(content).toBe('From the other.')
    expect(header('x-sluice-attempts')).toContain(`=${reason}, other:other/m=200`)
  })

  it.each<readonly [what: string, behaviour: Behaviour]>([
    [
      'is cut in the middle, in good order',
      cutAfter({ frames: 3, how: 'orderly', text: 'One two three four five.' }),
    ],
    ['is reset in the middle', cutAfter({ frames: 3, how: 'reset', text: 'One two three four five.' })],
    [
      'is cut inside a message',
      cutAfter({ bytes: 500, how: 'orderly', text: 'One two three four five six seven eight nine ten.' }),
    ],
    ['has no reason for its end', noFinishReason({ text: 'One two three.', done: false })],
    ['tells an error behind content', inBandErrorAfterContent({ text: 'One two three four five.' })],
    [
      'has an event in the middle that cannot be read',
      malformedEventMiddle({ text: 'One two three four five.' }),
    ],
  ])('that %s never looks whole', async (_what, behaviour) => {
    const { text, content, status: code } = await ask(name, behaviour)
    expect(code).toBe(200)
    expect(text).toContain('"code":"upstream_incomplete"')
    expect(text).not.toContain('[DONE]')
    expect(text).not.toContain('"finish_reason":"')
    expect(content).toMatch(/^One/)
  })

  it('that a filter ended says so', async () => {
    const { stream } = await ask(name, answer({ text: 'To make', finishReason: 'content_filter' }))
    expect(stream?.finishReasons).toEqual(['content_filter'])
  })

  it('tells what was used, also when the caller did not ask', async () => {
    const quiet = await ask(name, answer({ text: 'One two.' }))
    expect(quiet.text).not.toContain('"usage"')
    const told = await ask(name, answer({ text: 'One two.' }), {
      stream: true,
      stream_options: { include_usage: true },
    })
    expect(told.text).toContain('"prompt_tokens":11,"completion_tokens":2,"total_tokens":13')
  })
})

describe.each(NAMES)('a whole reply of %s', (name) => {
  it.each<readonly [what: string, behaviour: Behaviour, reason: string]>([
    [
      'is an error',
      errorIn200({ message: 'The engine is on fire.' }),
      name === 'gemini' ? 'in_band' : 'malformed',
    ],
    ['is empty', empty200(), 'empty'],
    ['is cut', cutAfter({ how: 'fin', frames: 1 }), 'reset'],
    ['is no reply', status(200, '<html>', { 'content-type': 'text/html' }), 'malformed'],
  ])('that %s is answered by the next', async (_what, behaviour, reason) => {
    const { content, header } = await ask(name, behaviour, {})
    expect(content).toBe('From the other.')
    expect(header('x-sluice-attempts')).toContain(`=${reason}, other:other/m=200`)
  })
})

describe.each(NAMES)('an answer of %s', (name) => {
  it.each([true, false])('names the model that gave it (stream: %s)', async (stream) => {
    const { text } = await ask(name, answer({ text: 'Hi.' }), { stream })
    const model = { gemini: 'gemini-3-flash', bedrock: 'us.amazon.nova-pro-v1:0' }[name]
    expect(new Set(text.match(/"model":"[^"]*"/g))).toEqual(new Set([`"model":"${model}"`]))
  })
})

describe('a refusal of Gemini', () => {
  const google = (code: number, status_: string, message: string, details?: unknown): Behaviour =>
    status(code, { error: { code, message, status: status_, ...(details !== undefined && { details }) } })
  const reason = (word: string): unknown => [
    { '@type': 'type.googleapis.com/google.rpc.ErrorInfo', reason: word, domain: 'googleapis.com' },
  ]

  it('of the caller is passed on', async () => {
    const { status: code, error } = await ask('gemini', google(400, 'INVALID_ARGUMENT', 'Schema is wrong.'))
    expect({ code, message: error?.message }).toEqual({ code: 400, message: 'Schema is wrong.' })
    expect(other.calls).toBe(0)
  })

  it('of our key is nothing that the caller hears of', async () => {
    const refused = google(
      400,
      'INVALID_ARGUMENT',
      'API key not valid. Please pass a valid API key.',
      reason('API_KEY_INVALID'),
    )
    const { content } = await ask('gemini', refused)
    expect(content).toBe('From the other.')
  })
})

describe('a refusal of Bedrock', () => {
  it('inside of a 200 is told as what it is, where nobody else can answer', async () => {
    const message =
      'The model returned the following errors: prompt is too long: 227255 tokens > 200000 maximum'
    const bytes = toStreamException('validationException', { message })
    const { status: code, error } = await ask('bedrock-alone', eventStream(bytes))
    expect({ code, error: error?.code }).toEqual({ code: 400, error: 'context_length_exceeded' })
  })

  it('inside of a 200 is answered by the next where it is about the rate (bug 12)', async () => {
    const bytes = Buffer.concat([
      toStreamEvent('messageStart', { role: 'assistant' }),
      toStreamException('throttlingException', { message: 'Too many requests.' }),
    ])
    const { content } = await ask('bedrock', eventStream(bytes))
    expect(content).toBe('From the other.')
  })

  it('of the caller is passed on', async () => {
    const refused = status(
      400,
      { message: "This model doesn't support the image field." },
      { 'x-amzn-errortype': 'ValidationException:http://internal' },
    )
    const { status: code, error } = await ask('bedrock', refused, {})
    expect({ code, message: error?.message }).toEqual({
      code: 400,
      message: "This model doesn't support the image field.",
    })
  })
})

/** A 200 with these bytes. */
function eventStream(bytes: Buffer): Behaviour {
  const head = `HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ncontent-length: ${bytes.length}\r\n\r\n`
  return rawBytes([head, bytes])
}

describe('a picture that Gemini draws', () => {
  /** As large as one of 1K by 1K is: one event of a stream. */
  const PNG = Buffer.concat([
    Buffer.from('iVBORw0KGgo=', 'base64'),
    createHash('shake256', { outputLength: 1_500_000 }).update('a picture').digest(),
  ]).toString('base64')
  const drawn = answer({ text: 'Here it is.', pictures: [PNG] })

  it.each([false, true])('arrives in chat, byte by byte (stream: %s)', async (stream) => {
    provider.script(drawn)
    const {
      status: code,
      text,
      content,
    } = await caller.chat({ body: { model: 'drawing', stream, modalities: ['text', 'image'] } })
    expect({ code, content }).toEqual({ code: 200, content: 'Here it is.' })
    const images = { type: 'image_url', image_url: { url: `data:image/png;base64,${PNG}` }, index: 0 }
    expect(text.includes(`"images":[${JSON.stringify(images)}]`)).toBe(true)
    expect(provider.requests[0]?.json()).toMatchObject({
      generationConfig: { responseModalities: ['TEXT', 'IMAGE'] },
    })
  })

  it.each([false, true])('arrives in Responses as an item (stream: %s)', async (stream) => {
    provider.script(drawn)
    const { status: code, text } = await caller.chat({
      path: '/responses',
      body: { model: 'drawing', input: 'Draw.', stream, messages: undefined },
    })
    expect(code).toBe(200)
    expect(text).toContain('"type":"image_generation_call"')
    expect(text.includes(`"result":"${PNG}"`)).toBe(true)
  })

  it.each([false, true])('is named in Messages, which has no place for it (stream: %s)', async (stream) => {
    provider.script(drawn)
    const { status: code, text } = await caller.chat({
      path: '/messages',
      body: {
        model: 'drawing',
        max_tokens: 100,
        stream,
        messages: [{ role: 'user', content: 'Draw.' }],
      },
    })
    expect(code).toBe(200)
    expect(text).toContain('[A picture (image/png) is part of this answer, and cannot be shown here.]')
    expect(text).not.toContain(PNG.slice(0, 40))
  })

  it('is refused of who cannot draw, and asked of the next', async () => {
    const { status: code, error } = await caller.chat({
      body: { model: 'bedrock-alone', modalities: ['text', 'image'] },
    })
    expect({ code, param: error?.param }).toEqual({ code: 400, param: 'modalities' })
    const { content } = await ask('bedrock', answer(), { modalities: ['text', 'image'] })
    expect(content).toBe('From the other.')
    expect(provider.calls).toBe(0)
  })
})

describe('vectors', () => {
  const VECTOR = [0.25, -0.5, 0.75, 1]
  const BASE64 = Buffer.from(new Float32Array(VECTOR).buffer).toString('base64')

  function askFor(model: string, body: object): Promise<Answer> {
    return caller.chat({ path: '/embeddings', body: { model, messages: undefined, ...body } })
  }

  it.each([
    ['vectors', ['one', 'two'], '/v1beta/models/gemini-embedding-2:batchEmbedContents'],
    [
      'vertex-list',
      ['one', 'two'],
      '/v1/projects/p1/locations/europe-west4/publishers/google/models/text-embedding-005:predict',
    ],
    [
      'vertex-one',
      'one',
      '/v1/projects/p1/locations/europe-west4/publishers/google/models/gemini-embedding-2:embedContent',
    ],
    ['titan', 'one', '/model/amazon.titan-embed-text-v2%3A0/invoke'],
    ['cohere', ['one', 'two'], '/model/cohere.embed-v4%3A0/invoke'],
  ])('of %s come as floats and as base64', async (model, input, path) => {
    for (const [encoding_format, embedding] of [
      ['float', VECTOR],
      ['base64', BASE64],
    ]) {
      provider.reset()
      const { status: code, json } = await askFor(model, { input, encoding_format, dimensions: 256 })
      expect({ code, json }).toMatchObject({
        code: 200,
        json: {
          object: 'list',
          data: [input].flat().map((_, index) => ({ object: 'embedding', index, embedding })),
        },
      })
      expect(provider.requests.map((request) => request.path)).toEqual([path])
    }
  })

  it.each(['titan', 'cohere'])(
    'of %s are asked for with a signature that AWS would accept',
    async (model) => {
      await askFor(model, { input: ['one'] })
      const [sent] = provider.requests
      if (sent === undefined) throw new Error('nothing was sent')
      expect(sent.header('authorization')).toBe(await signatureOf(sent))
    },
  )

  it('of tokens are refused everywhere, naming the field', async () => {
    for (const model of ['vectors', 'vertex-list', 'vertex-one', 'titan', 'cohere'])
      expect((await askFor(model, { input: [1, 2, 3] })).error).toMatchObject({ param: 'input' })
    expect((await askFor('bedrock-alone', { input: 'one' })).error).toMatchObject({ param: 'model' })
    expect(provider.calls).toBe(0)
  })

  it('of several texts are refused where one is made to a call, and made where another has room for them', async () => {
    expect((await askFor('titan', { input: ['one', 'two'] })).error).toMatchObject({ param: 'input' })
    const { status: code, json } = await askFor('titan-or-other', { input: ['one', 'two'] })
    expect({ code, json }).toMatchObject({ code: 200, json: { data: [{ index: 0 }, { index: 1 }] } })
    expect({ own: provider.calls, other: other.calls }).toEqual({ own: 0, other: 1 })
  })

  it('are made by the next where a provider fails', async () => {
    provider.script(status(503))
    const { status: code, header } = await askFor('titan-or-other', { input: 'one' })
    expect(code).toBe(200)
    expect(header('x-sluice-attempts')).toContain('=503')
  })
})

class Sha256 {
  readonly #hash
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', toBytes(secret))
  }
  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(toBytes(data))
  }
  async digest(): Promise<Uint8Array> {
    return new Uint8Array(this.#hash.digest())
  }
  reset(): void {
    throw new Error('not used')
  }
}

function toBytes(given: string | ArrayBuffer | ArrayBufferView): Uint8Array {
  if (typeof given === 'string') return Buffer.from(given)
  return ArrayBuffer.isView(given)
    ? new Uint8Array(given.buffer, given.byteOffset, given.byteLength)
    : new Uint8Array(given)
}

/** What AWS's own signer makes of a call. */
async function signatureOf(request: RecordedRequest): Promise<string | undefined> {
  const signer = new SignatureV4({
    credentials: { accessKeyId: ID, secretAccessKey: SECRET, sessionToken: TOKEN },
    region: 'eu-west-1',
    service: 'bedrock',
    sha256: Sha256,
    applyChecksum: false,
  })
  const date = request.header('x-amz-date') ?? ''
  const signed = await signer.sign(
    {
      method: request.method,
      protocol: 'http:',
      hostname: '127.0.0.1',
      path: request.path,
      headers: { host: request.header('host') ?? '', 'content-type': request.header('content-type') ?? '' },
      body: request.body,
    },
    { signingDate: new Date(date.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z')) },
  )
  return signed.headers.authorization
}

describe('a call to Bedrock', () => {
  it.each([true, false])('is signed so that AWS would take it (stream: %s)', async (stream) => {
    await ask('bedrock', answer({ text: 'Hi.' }), { stream })
    const [request] = provider.requests
    if (request === undefined) throw new Error('nobody was asked')
    expect(request.header('authorization')).toBe(await signatureOf(request))
    expect(request.header('x-amz-security-token')).toBe(TOKEN)
    expect(request.path).toBe(`/model/us.amazon.nova-pro-v1%3A0/converse${stream ? '-stream' : ''}`)
    expect(request.header('accept')).toBe(stream ? 'application/vnd.amazon.eventstream' : 'application/json')
    expect(request.headers.filter(([name]) => /key|authorization/i.test(name))).toHaveLength(1)
    expect(request.body.toString()).not.toContain(SECRET)
  })

  it.each([true, false])(
    'that is answered with a part of its secret gives it to nobody (stream: %s)',
    async (stream) => {
      for (const part of [SECRET, TOKEN, `${ID}:${SECRET}:${TOKEN}`]) {
        const { text } = await ask('bedrock-alone', answer({ pieces: [`It is ${part}.`, ' Yes.'] }), {
          stream,
        })
        expect(text).toContain('[redacted]')
        expect(text).not.toContain(part)
      }
    },
  )
})
