import { describe, expect, it } from 'vitest'
import { RESTRICTED_FIELDS } from '../../../src/config/schema.ts'
import { GatewayError } from '../../../src/errors.ts'
import { ENDPOINTS } from '../../../src/http/operations.ts'
import { readRequest } from '../../../src/http/request.ts'
import type { ModelRequest } from '../../../src/types.ts'

const [CHAT] = ENDPOINTS

function read(text: string | Buffer, allowFields: readonly string[] = []): ModelRequest {
  if (CHAT === undefined) throw new Error('no endpoint')
  return readRequest(CHAT, Buffer.from(text), new Set(allowFields))
}

function refusal(text: string | Buffer, allowFields: readonly string[] = []): GatewayError {
  try {
    read(text, allowFields)
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw error
  }
  throw new Error(`accepted: ${text.toString().slice(0, 80)}`)
}

describe('readRequest', () => {
  it.each([
    [true, {}],
    [true, { response_format: { type: 'text' }, logprobs: false, audio: null, n: 1 }],
    [false, { response_format: { type: 'json_object' } }],
    [false, { response_format: { type: 'json_schema', json_schema: {} } }],
    [false, { logprobs: true }],
    [false, { audio: { voice: 'alloy' } }],
    [false, { n: 2 }],
  ])('says %s to whether an answer is plain text that is asked for with %j', (plainText, members) => {
    expect(read(JSON.stringify({ model: 'm', ...members })).plainText).toBe(plainText)
  })

  it('reads what the gateway needs and leaves the body as it came', () => {
    const body =
      '{"max_tokens": 5, "model" : "a\\/b", "stream":true,"n":2,"stream_options":{"include_usage":true},"x":[]}'
    const request = read(body)
    expect(request).toMatchObject({
      model: 'a/b',
      stream: true,
      includeUsage: true,
      maxOutputTokens: 5,
      choices: 2,
      textBytes: Buffer.byteLength(body),
      images: 0,
      restrictedFields: [],
    })
    expect(request.body?.toString()).toBe(body)
  })

  it('takes the defaults where nothing is said', () => {
    expect(read('{"model":"m"}')).toMatchObject({
      stream: false,
      includeUsage: false,
      maxOutputTokens: undefined,
      choices: 1,
    })
  })

  it.each([
    ['null for the stream', '{"model":"m","stream":null}', { stream: false }],
    ['null for the options', '{"model":"m","stream_options":null}', { includeUsage: false }],
    ['null for usage', '{"model":"m","stream_options":{"include_usage":null}}', { includeUsage: false }],
    [
      'null for counts',
      '{"model":"m","n":null,"max_tokens":null}',
      { choices: 1, maxOutputTokens: undefined },
    ],
    [
      'the larger of two caps',
      '{"model":"m","max_tokens":9,"max_completion_tokens":4}',
      { maxOutputTokens: 9 },
    ],
    ['a count with an exponent', '{"model":"m","max_tokens":1e3}', { maxOutputTokens: 1000 }],
    ['null for state of an account', '{"model":"m","previous_response_id":null,"conversation":null}', {}],
    ['a model of any script', '{"model":"ключ 鍵 👩‍🚀"}', { model: 'ключ 鍵 👩‍🚀' }],
  ])('accepts %s', (_, text, expected) => {
    expect(read(text)).toMatchObject(expected)
  })

  it.each<[string, string, string]>([
    ['no model', '{}', 'model'],
    ['a model that is no string', '{"model":1}', 'model'],
    ['a model that is an array', '{"model":["m"]}', 'model'],
    ['null for a model', '{"model":null}', 'model'],
    ['an empty model', '{"model":""}', 'model'],
    ['a long model', `{"model":"${'x'.repeat(257)}"}`, 'model'],
    ['a model with a line feed', '{"model":"a\\nb"}', 'model'],
    ['a model with an escape character', '{"model":"\\u001b[31m"}', 'model'],
    ['a model with a C1 control', '{"model":"\\u0085"}', 'model'],
    ['a model with a line separator', '{"model":"a\u2028b"}', 'model'],
    ['a model with half a character', '{"model":"\\ud800"}', 'model'],
    ['a stream that is a string', '{"model":"m","stream":"true"}', 'stream'],
    ['a stream that is a number', '{"model":"m","stream":1}', 'stream'],
    ['options that are an array', '{"model":"m","stream_options":[]}', 'stream_options'],
    ['options that are true', '{"model":"m","stream_options":true}', 'stream_options'],
    [
      'usage that is a string',
      '{"model":"m","stream_options":{"include_usage":"x"}}',
      'stream_options.include_usage',
    ],
    ['no choices', '{"model":"m","n":0}', 'n'],
    ['too many choices', '{"model":"m","n":129}', 'n'],
    ['half a choice', '{"model":"m","n":1.5}', 'n'],
    ['a choice in quotes', '{"model":"m","n":"1"}', 'n'],
    ['a negative cap', '{"model":"m","max_tokens":-1}', 'max_tokens'],
    ['a cap beyond numbers', '{"model":"m","max_tokens":1e400}', 'max_tokens'],
    ['a cap that is true', '{"model":"m","max_completion_tokens":true}', 'max_completion_tokens'],
    ['state of an account', '{"model":"m","previous_response_id":"r"}', 'previous_response_id'],
    ['a conversation of an account', '{"model":"m","conversation":{}}', 'conversation'],
    ...RESTRICTED_FIELDS.map(
      (name) => [`the field ${name}`, `{"model":"m","${name}":null}`, name] as [string, string, string],
    ),
  ])('refuses %s as invalid_request and names the field', (_, text, param) => {
    expect(refusal(text)).toMatchObject({ code: 'invalid_request', param })
  })

  it.each(ENDPOINTS.filter(({ path }) => !/\/(?:edits|variations|transcriptions|translations)$/.test(path)))(
    'refuses state of an account at $path, whatever its format says of it',
    (endpoint) => {
      for (const name of ['previous_response_id', 'conversation']) {
        const at = (value: string) =>
          readRequest(endpoint, Buffer.from(`{"model":"m","${name}":${value}}`), new Set())
        expect(() => at('"r"')).toThrow(`"${name}" refers to state`)
        expect(at('null').model).toBe('m')
      }
    },
  )

  it('accepts a restricted field that some provider allows, and says that it is there', () => {
    expect(read('{"model":"m","provider":{}}', ['provider']).restrictedFields).toEqual(['provider'])
    expect(refusal('{"model":"m","provider":{},"route":1}', ['provider'])).toMatchObject({ param: 'route' })
  })

  it.each([
    ['another case', '{"Model":"x","model":"m"}'],
    ['another case alone', '{"MODEL":"m"}'],
    ['a long s', '{"model":"m","ſtream":true}'],
    ['a Kelvin sign', '{"model":"m","max_to\u212aens":5}'],
    ['a restricted field in another case', '{"model":"m","API_Base":"http://x"}'],
    ['a restricted field with a long s', '{"model":"m","modelſ":["x"]}'],
    ['a field of state in another case', '{"model":"m","Previous_Response_Id":"r"}'],
    ['nested usage in another case', '{"model":"m","stream_options":{"Include_Usage":true}}'],
    ['nested usage with a long s', '{"model":"m","stream_options":{"include_uſage":true}}'],
    ['nested usage twice', '{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}'],
    ['nested usage in escapes', '{"model":"m","stream_options":{"include_usag\\u0065":true}}'],
    ['a model twice', '{"model":"m","model":"x"}'],
    ['a model in escapes', '{"\\u006dodel":"x","model":"m"}'],
  ])('refuses %s as ambiguous', (_, text) => {
    expect(refusal(text).code).toBe('ambiguous_field')
  })

  it.each([
    ['a broken body', '{"model":"m"', 'invalid_json'],
    ['an empty body', '', 'invalid_json'],
    ['an array', '[{"model":"m"}]', 'invalid_json'],
    ['a byte order mark', '\ufeff{"model":"m"}', 'invalid_json'],
    ['__proto__', '{"model":"m","__proto__":{}}', 'invalid_request'],
    ['__proto__ in the options', '{"model":"m","stream_options":{"__proto__":{}}}', 'invalid_request'],
    ['129 levels', `{"model":"m","x":${'['.repeat(128)}${']'.repeat(128)}}`, 'invalid_request'],
  ])('refuses %s', (_, text, code) => {
    expect(refusal(text).code).toBe(code)
  })

  it('refuses a body that is not UTF-8', () => {
    expect(refusal(Buffer.from('{"model":"m\xff"}', 'latin1')).code).toBe('invalid_json')
  })
})

describe('what a body holds', () => {
  it('is counted without the payloads of images, whose bytes say nothing of their tokens', () => {
    const image = { type: 'image_url', image_url: { url: `data:image/png;base64,${'A'.repeat(200_000)}` } }
    const body = Buffer.from(
      JSON.stringify({ model: 'm', messages: [{ role: 'user', content: [image, image] }] }),
    )
    const request = read(body)
    expect(request.images).toBe(2)
    expect(request.textBytes).toBe(body.length - 400_000)
  })

  const PAYLOAD = 'QUFB'.repeat(250)
  const measured = (parts: unknown, more: object = {}) => {
    const body = Buffer.from(
      JSON.stringify({ model: 'm', messages: [{ role: 'user', content: parts }], ...more }),
    )
    const { images, textBytes } = read(body)
    return { images, left: body.length - textBytes }
  }

  it.each([
    ['as OpenAI has it', { image_url: { url: `data:image/png;base64,${PAYLOAD}` } }],
    ['with its detail first', { image_url: { detail: 'high', url: `data:image/png;base64,${PAYLOAD}` } }],
    ['as a text', { image_url: `data:image/jpeg;base64,${PAYLOAD}` }],
    [
      'of a type with parameters',
      { image_url: { url: `data:image/svg+xml;charset=utf-8;base64,${PAYLOAD}` } },
    ],
  ])('counts an inline image %s as one, without its bytes', (_, part) => {
    expect(measured([{ type: 'image_url', ...part }])).toEqual({ images: 1, left: PAYLOAD.length })
  })

  it('counts an image by its address too', () => {
    const part = { type: 'image_url', image_url: { url: 'https://example.com/cat.png' } }
    expect(measured([part, part, part])).toEqual({ images: 3, left: 0 })
  })

  const HIDDEN = `data:image/png;base64,${PAYLOAD}`
  it.each([
    ['a text that begins like a data URL', `data:;base64,${'word '.repeat(100)}`, {}],
    ['a part of text that begins like an inline image', [{ type: 'text', text: HIDDEN }], {}],
    ['a text that tells of an image', JSON.stringify({ image_url: { url: HIDDEN } }), {}],
    ['a file of text', [{ type: 'file', file: { file_data: `data:text/plain;base64,${PAYLOAD}` } }], {}],
    ['a tool', 'Hi.', { tools: [{ function: { parameters: { default: { image_url: { url: HIDDEN } } } } }] }],
    ['a name of its own', 'Hi.', { x: { image_url: HIDDEN } }],
  ])('counts %s as the text that it is', (_, content, more) => {
    expect(measured(content, more)).toEqual({ images: 0, left: 0 })
  })

  it.each([
    ['of another type', { url: `data:application/pdf;base64,${PAYLOAD}` }],
    ['that is no base64', { url: `data:image/svg+xml,${'<g/>'.repeat(100)}` }],
    ['without a type', { url: `data:;base64,${PAYLOAD}` }],
    ['far behind in its object', { note: 'x'.repeat(300), url: HIDDEN }],
  ])('counts an image %s with its bytes', (_, image) => {
    expect(measured([{ type: 'image_url', image_url: image }])).toEqual({ images: 1, left: 0 })
  })

  it('is counted whole where a data URL is only talked about', () => {
    const text = `Look: "data:image/png;base64,${'A'.repeat(1000)}"`
    const body = Buffer.from(JSON.stringify({ model: 'm', messages: [{ role: 'user', content: text }] }))
    expect(read(body)).toMatchObject({ images: 0, textBytes: body.length })
  })
})

describe('a body of Messages', () => {
  const MESSAGES = ENDPOINTS.find(({ path }) => path === '/messages')
  const PAYLOAD = 'QUFB'.repeat(250)
  const source = { type: 'base64', media_type: 'image/png', data: PAYLOAD }

  function readMessages(members: object): ModelRequest {
    if (MESSAGES === undefined) throw new Error('no endpoint')
    return readRequest(MESSAGES, Buffer.from(JSON.stringify({ model: 'm', ...members })), new Set())
  }

  function measured(block: unknown): { images: number; left: number } {
    const members = { messages: [{ role: 'user', content: [block] }] }
    const { images, textBytes } = readMessages(members)
    return { images, left: JSON.stringify({ model: 'm', ...members }).length - textBytes }
  }

  it.each([
    ['as the vendor writes it', { type: 'image', source }],
    ['with its type behind it', { source, type: 'image' }],
    [
      'with the payload in front',
      { type: 'image', source: { data: PAYLOAD, media_type: 'image/png', type: 'base64' } },
    ],
    ['with a mark of the cache', { type: 'image', cache_control: { type: 'ephemeral' }, source }],
    [
      'in the result of a tool',
      { type: 'tool_result', tool_use_id: 't', content: [{ type: 'image', source }] },
    ],
  ])('has an image %s counted as one, without its bytes', (_, block) => {
    expect(measured(block)).toEqual({ images: 1, left: PAYLOAD.length })
  })

  it('has an image counted by its address too', () => {
    const block = { type: 'image', source: { type: 'url', url: 'https://example.com/cat.png' } }
    expect(measured(block)).toEqual({ images: 1, left: 0 })
  })

  it.each([
    ['a document', { type: 'document', source: { ...source, media_type: 'application/pdf' } }],
    ['a text that tells of an image', { type: 'text', text: JSON.stringify({ type: 'image', source }) }],
    ['what a tool is called with', { type: 'tool_use', id: 't', name: 'n', input: { source } }],
    ['a search result', { type: 'search_result', source: 'https://example.com', content: [] }],
  ])('has %s counted as the text that it is', (_, block) => {
    expect(measured(block)).toEqual({ images: 0, left: 0 })
  })

  it('is sent where the prompts of its session are cached', () => {
    const metadata = { user_id: '{"session_id":"s1"}' }
    expect(readMessages({ metadata }).cacheKey).toBe(JSON.stringify(metadata))
    expect(readMessages({ metadata: 'x' }).cacheKey).toBeUndefined()
    expect(readMessages({ prompt_cache_key: 'x' }).cacheKey).toBeUndefined()
  })

  it('names no state in an account that many agents share', () => {
    const refused = (members: object) => () => readMessages(members)
    expect(refused({ container: 'container_1' })).toThrow(expect.objectContaining({ param: 'container' }))
    expect(refused({ container: { id: 'container_1', skills: [] } })).toThrow(GatewayError)
    expect(refused({ container: { skills: [{ type: 'anthropic', skill_id: 'pptx' }] } })).not.toThrow()
    expect(refused({ thread: { type: 'continue', id: 'x' } })).toThrow(
      expect.objectContaining({ param: 'thread' }),
    )
  })
})
