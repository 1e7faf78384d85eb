import { Readable } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { splice } from '../../../src/bytes/splice.ts'
import type { ProviderSide, SignedCall } from '../../../src/formats/format.ts'
import { openai } from '../../../src/formats/openai.ts'
import type { Candidate, ModelRequest } from '../../../src/types.ts'
import { createExchange, createFixedHeaders } from '../../../src/upstream/exchange.ts'
import { nativeWire } from '../../../src/upstream/wire.ts'
import { toEdits } from '../../support/edits.ts'
import { makeDeployment, makeRequest, makeTier } from './stage.ts'

/** The body as it goes to `p/<model>`. */
async function sent(request: ModelRequest, model = 'm', maxOutputTokens?: number): Promise<string> {
  if (request.body === undefined) throw new Error('no body')
  const { body, bytes } = splice(request.body, toEdits(request, model, maxOutputTokens))
  const text = Buffer.isBuffer(body) ? body.toString() : (await read(body)).toString()
  expect(Buffer.byteLength(text)).toBe(bytes)
  return text
}

async function read(body: Readable): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const piece of body) chunks.push(Buffer.from(piece))
  return Buffer.concat(chunks)
}

function toCandidate(use = 'p/m1', headers: Record<string, string> = {}): Candidate {
  const deployment = makeDeployment(use, {}, { headers })
  return {
    deployment,
    tier: makeTier('t', [deployment]),
    callee: deployment.name,
    barred: undefined,
    doubt: undefined,
  }
}

function exchangeOf(
  request: ModelRequest,
  candidate = toCandidate(),
  key?: string,
  traceHeaders?: readonly string[],
) {
  return createExchange({
    traceHeaders,
    candidate,
    request,
    wire: nativeWire(openai.provider, openai.provider),
    key: key === undefined ? undefined : { reference: 'env:KEY', value: key },
    maxOutputTokens: undefined,
    userAgent: 'sluice/1.2.3',
    fixed: createFixedHeaders(),
    nowMs: 0,
  })
}

describe('a call that is signed', () => {
  it.each(['small', 'large'])('is here as a whole when it is, however %s its body', (size) => {
    const content = 'x'.repeat(size === 'large' ? 256 * 1024 : 10)
    const request = makeRequest({ model: 'm', messages: [{ role: 'user', content }] })
    const signed: SignedCall[] = []
    const own: ProviderSide = {
      ...openai.provider,
      sign(call) {
        signed.push(call)
        return ['authorization', 'signed']
      },
    }
    const { body, bodyBytes, headers } = createExchange({
      candidate: toCandidate('p/other'),
      request,
      wire: nativeWire(openai.provider, own),
      key: { reference: 'env:KEY', value: 'secret-key' },
      maxOutputTokens: undefined,
      userAgent: 'sluice/1.2.3',
      fixed: createFixedHeaders(),
      nowMs: 7,
    })
    expect(headers.slice(-2)).toEqual(['authorization', 'signed'])
    expect(signed).toMatchObject([{ method: 'POST', key: 'secret-key', nowMs: 7 }])
    expect(signed[0]?.body).toBe(body)
    expect(JSON.parse(String(body))).toMatchObject({ model: 'other', messages: [{ content }] })
    expect(bodyBytes).toBe(Buffer.byteLength(String(body)))
  })
})

describe('the body that goes out', () => {
  it('is the very buffer that came when nothing has to change', () => {
    const request = makeRequest({ model: 'm1', messages: [] })
    const exchange = exchangeOf(request)
    expect(exchange.body).toBe(request.body)
    expect(exchange.bodyBytes).toBe(request.body?.length)
  })

  it('changes the model where it stands and no other byte', async () => {
    const request = makeRequest(
      '{ "seed" : 1e2,\r\n\t"model": "m" , "ünknown":[1.0, -0 ,"\\u00e9"], "model_x":"m"}',
    )
    expect(await sent(request, 'gpt "5"')).toBe(
      '{ "seed" : 1e2,\r\n\t"model": "gpt \\"5\\"" , "ünknown":[1.0, -0 ,"\\u00e9"], "model_x":"m"}',
    )
  })

  it.each([
    [
      'adds the usage frame to a stream',
      '{"model":"m","stream":true}',
      '{"stream_options":{"include_usage":true},"model":"m","stream":true}',
    ],
    [
      'turns a usage frame that was declined on',
      '{"model":"m","stream":true,"stream_options":{"include_usage": false}}',
      '{"model":"m","stream":true,"stream_options":{"include_usage": true}}',
    ],
    [
      'fills empty stream options',
      '{"model":"m","stream":true,"stream_options":{ }}',
      '{"model":"m","stream":true,"stream_options":{"include_usage":true }}',
    ],
    [
      'keeps what else the stream options say',
      '{"model":"m","stream":true,"stream_options":{"x":1}}',
      '{"model":"m","stream":true,"stream_options":{"include_usage":true,"x":1}}',
    ],
    [
      'replaces stream options that are null',
      '{"model":"m","stream":true,"stream_options":null}',
      '{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
    ],
    [
      'leaves a stream that asked for usage',
      '{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
      '{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
    ],
    ['leaves a whole request', '{"model":"m","stream":false}', '{"model":"m","stream":false}'],
  ])('%s', async (_, from, to) => {
    expect(await sent(makeRequest(from))).toBe(to)
  })

  it.each([
    ['adds the cap', '{"model":"m"}', '{"max_completion_tokens":99,"model":"m"}'],
    [
      'caps the spelling that is written',
      '{"model":"m","max_completion_tokens":5000}',
      '{"model":"m","max_completion_tokens":99}',
    ],
    [
      'caps the legacy spelling where only it is written',
      '{"model":"m","max_tokens":5000}',
      '{"model":"m","max_tokens":99}',
    ],
    [
      'caps the one that is over, and never raises the other',
      '{"max_tokens":1,"model":"m","max_completion_tokens":5000}',
      '{"max_tokens":1,"model":"m","max_completion_tokens":99}',
    ],
    ['replaces a cap of null', '{"model":"m","max_tokens":null}', '{"model":"m","max_tokens":99}'],
  ])('%s on output', async (_, from, to) => {
    expect(await sent(makeRequest(from), 'm', 99)).toBe(to)
  })

  it('is sent in pieces, uncopied, when it is large', async () => {
    const big = 'x'.repeat(200_000)
    const request = makeRequest(`{"model":"m","messages":[{"role":"user","content":"${big}"}]}`)
    const exchange = exchangeOf(request)
    expect(exchange.body).toBeInstanceOf(Readable)
    expect(exchange.headers).toContain(String(exchange.bodyBytes))
    const text = exchange.body instanceof Readable ? (await read(exchange.body)).toString() : ''
    expect(JSON.parse(text)).toEqual({ model: 'm1', messages: [{ role: 'user', content: big }] })
    expect(text.length).toBe(exchange.bodyBytes)
  })

  it('means what came, but for the model, usage and cap, whatever else it holds', async () => {
    const member = fc.tuple(
      fc
        .string()
        .filter(
          (name) =>
            !/^(?:model|models|stream|stream_options|n|max_tokens|max_completion_tokens|provider|route|transforms|plugins|preset|fallbacks|api_base|base_url|previous_response_id|conversation|__proto__)$/i.test(
              name,
            ) &&
            !/[\\"\u0000-\u001f\u007f]/.test(name) &&
            name.isWellFormed(),
        ),
      fc.jsonValue({ maxDepth: 2 }),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(member, { selector: ([name]) => name, maxLength: 6 }),
        fc.boolean(),
        fc.option(fc.boolean(), { nil: undefined }),
        fc.option(fc.integer({ min: 1, max: 9999 }), { nil: undefined }),
        fc.constantFrom(undefined, 0, 1, 2, '\t'),
        async (members, stream, includeUsage, cap, indent) => {
          const body = {
            ...Object.fromEntries(members),
            model: 'm',
            stream,
            ...(includeUsage === undefined
              ? {}
              : { stream_options: { include_usage: includeUsage, other: 1 } }),
          }
          const text = JSON.stringify(body, null, indent)
          const out: unknown = JSON.parse(await sent(makeRequest(text), 'other/model', cap))
          const expected: Record<string, unknown> = { ...JSON.parse(text), model: 'other/model' }
          if (cap !== undefined) expected.max_completion_tokens = cap
          if (stream) {
            expected.stream_options = {
              ...(includeUsage === undefined ? {} : { other: 1 }),
              include_usage: true,
            }
          }
          expect(out).toEqual(expected)
        },
      ),
      { numRuns: 200 },
    )
  })

  it('cannot be made once the answer has begun', () => {
    const request = makeRequest()
    request.body = undefined
    expect(() => exchangeOf(request)).toThrow('body is gone')
  })
})

describe('the model and path', () => {
  it('asks for the model of the deployment, or for the one the caller named', () => {
    expect(exchangeOf(makeRequest()).model).toBe('m1')
    expect(exchangeOf(makeRequest({ model: 'qwen/qwen3:8b' }), toCandidate('p/*')).model).toBe(
      'qwen/qwen3:8b',
    )
  })

  it('goes below the base URL of the provider', () => {
    expect(exchangeOf(makeRequest()).path).toBe('/chat/completions')
    expect(exchangeOf(makeRequest({ input: 'x' }, 'embeddings')).path).toBe('/embeddings')
  })
})

describe('the headers', () => {
  const toObject = (flat: readonly string[]): Record<string, string> => {
    const names: Record<string, string> = {}
    for (let i = 0; i < flat.length; i += 2) {
      const name = flat[i] ?? ''
      expect(names).not.toHaveProperty(name)
      names[name] = flat[i + 1] ?? ''
    }
    return names
  }

  it('are made from nothing: type, length, encoding, agent, key and what is configured', () => {
    const { headers, bodyBytes } = exchangeOf(
      makeRequest({ stream: true }),
      toCandidate('p/m1', { 'x-team': 'blue' }),
      'sk-1',
    )
    expect(toObject(headers)).toEqual({
      'content-type': 'application/json',
      'content-length': String(bodyBytes),
      accept: 'text/event-stream',
      'accept-encoding': 'identity',
      'user-agent': 'sluice/1.2.3',
      authorization: 'Bearer sk-1',
      'x-team': 'blue',
    })
  })

  it('name no key where there is none, and ask for JSON where no stream was asked for', () => {
    const headers = toObject(exchangeOf(makeRequest()).headers)
    expect(headers).not.toHaveProperty('authorization')
    expect(headers.accept).toBe('application/json')
  })

  it('carry the trace context, unless the provider is configured with one of its own', () => {
    const context = ['traceparent', `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`, 'tracestate', 'a=1']
    const { headers } = exchangeOf(makeRequest(), toCandidate(), undefined, context)
    expect(toObject(headers)).toMatchObject({ traceparent: context[1], tracestate: 'a=1' })
    const own = toCandidate('p/m1', { traceparent: 'of-the-operator' })
    const configured = toObject(exchangeOf(makeRequest(), own, undefined, context).headers)
    expect(configured.traceparent).toBe('of-the-operator')
    expect(configured).not.toHaveProperty('tracestate')
  })
})
