// Pictures, sound and moderation: passed as they come to providers that have them, by the same path as everything else. The
// caller is the official SDK; what arrived is looked at where it arrived.

import OpenAI, { toFile } from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import {
  type Behaviour,
  createScriptedProvider,
  type RecordedRequest,
  type ScriptedProvider,
  status,
} from '../support/scripted-provider.ts'

const SOUND = Buffer.from([0xff, 0xfb, 0x90, 0x44, 0x00, 0x0d, 0x0a, 0x2d, 0x2d])
const KEY = 'provider-key-that-no-caller-ever-sees'
const FORMATS = [
  'images',
  'image-edits',
  'image-variations',
  'speech',
  'transcriptions',
  'translations',
  'moderations',
]
const agent = makeBearer()
const poor = makeBearer()

let first: ScriptedProvider
let second: ScriptedProvider
let gateway: TestGateway
let client: OpenAI
beforeAll(async () => {
  ;[first, second] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  gateway = await startGateway({
    env: { PROVIDER_KEY: KEY },
    config: simpleConfig({
      provider: [first.url, second.url],
      keyVariable: 'PROVIDER_KEY',
      settings: { alsoSpeaks: FORMATS },
      tier: { retries: 0 },
      over: { operations: ['chat', 'images', 'audio', 'moderations'] },
    }),
    policies: {
      agent: agentPolicy('agent', agent, { scopes: ['images:*', 'audio:*', 'moderations:*'] }),
      poor: agentPolicy('poor', poor, {
        scopes: ['chat:*', 'audio:m'],
        limits: { requests: { capacity: 1, refill: '1/h' } },
      }),
    },
  })
  client = new OpenAI({ baseURL: gateway.baseUrl, apiKey: agent.bearer, maxRetries: 0 })
})
afterAll(async () => {
  await gateway?.stop()
  await Promise.all([first?.close(), second?.close()])
})
beforeEach(() => {
  first.reset()
  second.reset()
})

/** Whatever bytes, of whatever type. */
function sends(contentType: string, body: Buffer | string): Behaviour {
  return {
    run(call) {
      call.head(200, { 'content-type': contentType })
      call.end(Buffer.from(body))
    },
  }
}

function bodyOf(request: RecordedRequest | undefined): string {
  return request?.body.toString('latin1') ?? ''
}

describe('what goes through', () => {
  it('is a picture that was asked for, with its usage counted', async () => {
    const reply = {
      created: 1,
      data: [{ b64_json: 'aGk=' }],
      usage: { input_tokens: 7, output_tokens: 300, total_tokens: 307 },
      unknown: [1.0],
    }
    first.script(sends('application/json', JSON.stringify(reply)))
    const { data } = await client.images.generate({ model: 'm', prompt: 'a sluice', n: 1 })
    expect(data?.[0]?.b64_json).toBe('aGk=')
    expect(first.requests[0]?.path).toBe('/v1/images/generations')
    expect(JSON.parse(bodyOf(first.requests[0]))).toEqual({ model: 'm1', prompt: 'a sluice', n: 1 })
    const line = await gateway.waitForLog((one) => one.msg === 'request' && one.operation === 'images')
    expect(line).toMatchObject({ status: 200, inputTokens: 7, outputTokens: 300 })
  })

  it('is a form, of which nothing changes but the model', async () => {
    first.script(sends('application/json', JSON.stringify({ data: [{ b64_json: 'aGk=' }] })))
    // The model stands behind the file, which holds what a careless reader takes for another field.
    const file = `PNG\r\n\0\xff\r\nContent-Disposition: form-data; name="model"\r\n\r\nother\r\n`
    const boundary = 'sluice-b'
    const part = (head: string, content: string) =>
      `--${boundary}\r\nContent-Disposition: form-data; ${head}\r\n\r\n${content}\r\n`
    const form = (model: string) =>
      `${part('name="prompt"', 'a sluice')}${part('name="image"; filename="a.png"', file)}${part('name="model"', model)}--${boundary}--\r\n`
    const response = await fetch(`${gateway.baseUrl}/images/edits`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${agent.bearer}`,
        'content-type': `multipart/form-data; boundary=${boundary}`,
      },
      body: Buffer.from(form('m'), 'latin1'),
    })
    expect(response.status).toBe(200)
    expect(bodyOf(first.requests[0])).toBe(form('m1'))
    expect(first.requests[0]?.header('content-type')).toBe(`multipart/form-data; boundary=${boundary}`)
    expect(first.requests[0]?.header('authorization')).toBe(`Bearer ${KEY}`)
  })

  it('is a transcript, as JSON and as text', async () => {
    const file = await toFile(SOUND, 'a.mp3')
    first.script([
      sends('application/json', '{"text":"water"}'),
      sends('text/plain; charset=utf-8', 'water\n'),
    ])
    expect(await client.audio.transcriptions.create({ model: 'm', file })).toEqual({ text: 'water' })
    expect(bodyOf(first.requests[0])).toContain('\r\n\r\nm1\r\n')
    expect(first.requests[0]?.body.includes(SOUND)).toBe(true)
    expect(await client.audio.transcriptions.create({ model: 'm', file, response_format: 'text' })).toBe(
      'water\n',
    )
  })

  it('is a stream of a transcript, and one of a model that has none', async () => {
    const file = await toFile(SOUND, 'a.mp3')
    const events = [
      { type: 'transcript.text.delta', delta: 'wa' },
      { type: 'transcript.text.delta', delta: 'ter' },
      {
        type: 'transcript.text.done',
        text: 'water',
        usage: { type: 'tokens', input_tokens: 9, output_tokens: 2, total_tokens: 11 },
      },
    ]
    first.script(sends('text/event-stream', events.map((one) => `data: ${JSON.stringify(one)}\n\n`).join('')))
    const types: string[] = []
    for await (const event of await client.audio.transcriptions.create({ model: 'm', file, stream: true }))
      types.push(event.type)
    expect(types).toEqual(events.map(({ type }) => type))
    first.script(sends('application/json', '{"text":"water"}'))
    const form = new FormData()
    form.append('model', 'm')
    form.append('stream', 'true')
    form.append('file', new File([SOUND], 'a.mp3'))
    const whole = await fetch(`${gateway.baseUrl}/audio/transcriptions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${agent.bearer}` },
      body: form,
    })
    expect([whole.headers.get('content-type'), await whole.json()]).toEqual([
      'application/json',
      { text: 'water' },
    ])
  })

  it('is sound, byte by byte, with its type', async () => {
    first.script(sends('audio/mpeg', SOUND))
    const response = await client.audio.speech.create({ model: 'm', voice: 'alloy', input: 'water' })
    expect(response.headers.get('content-type')).toBe('audio/mpeg')
    expect(Buffer.from(await response.arrayBuffer()).equals(SOUND)).toBe(true)
  })

  it('is a moderation, whose model need not be named', async () => {
    first.script(
      sends('application/json', JSON.stringify({ id: 'modr', model: 'omni', results: [{ flagged: false }] })),
    )
    expect((await client.moderations.create({ model: 'm', input: 'water' })).results[0]?.flagged).toBe(false)
    // Without one it is the usual one, for which this gateway has no route.
    await expect(client.moderations.create({ input: 'water' })).rejects.toMatchObject({
      code: 'model_not_found',
    })
  })
})

describe('the path is the same', () => {
  it('the next tier answers when the first cannot, with the same form', async () => {
    const file = await toFile(SOUND, 'a.mp3')
    first.script(status(503))
    second.script(sends('application/json', '{"text":"water"}'))
    const { response } = await client.audio.transcriptions.create({ model: 'm', file }).withResponse()
    expect(response.headers.get('x-sluice-attempts')).toBe('t1:p1/m1=503, t2:p2/m2=200')
    expect(second.requests[0]?.body.includes(SOUND)).toBe(true)
  })

  it('an empty answer, and an error inside a 200, are failures', async () => {
    first.script(sends('audio/mpeg', ''))
    second.script(sends('application/json', '{"error":{"message":"no voice"}}'))
    const refused = client.audio.speech.create({ model: 'm', voice: 'alloy', input: 'water' })
    await expect(refused).rejects.toMatchObject({ status: 503, code: 'upstream_failed' })
    expect([first.calls, second.calls]).toEqual([1, 1])
  })

  it('a stream that breaks off says so', async () => {
    const piece = 'data: {"type":"transcript.text.delta","delta":"wa"}\n\n'
    first.script(sends('text/event-stream', piece))
    const file = await toFile(SOUND, 'a.mp3')
    const stream = await client.audio.transcriptions.create({ model: 'm', file, stream: true })
    const readAll = async () => {
      for await (const event of stream) expect(event.type).toBe('transcript.text.delta')
    }
    await expect(readAll()).rejects.toMatchObject({ code: 'upstream_incomplete' })
  })

  it('a scope, a limit and a bearer are asked for as everywhere', async () => {
    const ask = (bearer: string, path: string) =>
      fetch(`${gateway.baseUrl}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'm', prompt: 'x', input: 'x', voice: 'alloy' }),
      })
    first.script(sends('audio/mpeg', SOUND))
    expect((await ask('sk-wrong', '/images/generations')).status).toBe(401)
    expect((await ask(poor.bearer, '/images/generations')).status).toBe(403)
    expect((await ask(poor.bearer, '/moderations')).status).toBe(403)
    expect((await ask(poor.bearer, '/audio/speech')).status).toBe(200)
    expect((await ask(poor.bearer, '/audio/speech')).status).toBe(429)
    expect(first.calls).toBe(1)
  })

  it.each([
    ['two models', ['model', 'm', 'model', 'other'], 'ambiguous_field'],
    ['another server', ['model', 'm', 'base_url', 'http://x'], 'invalid_request'],
    ['no model', ['prompt', 'm'], 'invalid_request'],
    ['a model with a line in it', ['model', 'm\r\nx'], 'invalid_request'],
  ] as const)('a form is refused that names %s', async (_, fields, code) => {
    const form = new FormData()
    for (let i = 0; i < fields.length; i += 2) form.append(fields[i] ?? '', fields[i + 1] ?? '')
    const response = await fetch(`${gateway.baseUrl}/images/edits`, {
      method: 'POST',
      headers: { authorization: `Bearer ${agent.bearer}` },
      body: form,
    })
    expect([response.status, await response.json()]).toMatchObject([400, { error: { code } }])
    expect(first.calls).toBe(0)
  })

  it('a form is refused where JSON belongs, JSON where a form does, and a form without a boundary', async () => {
    const ask = async (path: string, contentType: string) => {
      const headers = { authorization: `Bearer ${agent.bearer}`, 'content-type': contentType }
      return (await fetch(`${gateway.baseUrl}${path}`, { method: 'POST', headers, body: '{"model":"m"}' }))
        .status
    }
    expect(await ask('/images/edits', 'application/json')).toBe(415)
    expect(await ask('/images/edits', 'multipart/form-data')).toBe(415)
    expect(await ask('/images/generations', 'multipart/form-data; boundary=b')).toBe(415)
  })

  it('a provider that has no such endpoint is not asked, and nobody is where the operation is not served', async () => {
    const plain = await startGateway({
      config: simpleConfig({ provider: first.url, over: { operations: ['chat', 'images'] } }),
      policies: { agent: agentPolicy('agent', agent, { scopes: ['images:*', 'audio:*'] }) },
    })
    try {
      const other = new OpenAI({ baseURL: plain.baseUrl, apiKey: agent.bearer, maxRetries: 0 })
      await expect(other.images.generate({ model: 'm', prompt: 'x' })).rejects.toMatchObject({
        status: 400,
        message: expect.stringContaining('no provider of it has that'),
      })
      await expect(
        other.audio.speech.create({ model: 'm', voice: 'alloy', input: 'x' }),
      ).rejects.toMatchObject({ status: 403 })
      expect(first.calls).toBe(0)
    } finally {
      await plain.stop()
    }
  })
})
