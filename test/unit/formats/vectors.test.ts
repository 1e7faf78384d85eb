// OpenAI's embeddings over Vertex AI and Bedrock. The shapes are those of the vendors' references and of the AI SDK's
// fixtures; each recording has what is asked, sent, answered and told.

import { describe, expect, it } from 'vitest'
import { bedrock } from '../../../src/formats/bedrock.ts'
import type { Asked } from '../../../src/formats/format.ts'
import { gemini, vertex } from '../../../src/formats/gemini.ts'
import { openGolden, usageOf } from '../../support/golden.ts'
import { schemaFaults } from '../../support/openai-schema.ts'

const PROVIDERS = { gemini: gemini.provider, vertex: vertex.provider, bedrock: bedrock.provider }
type Name = keyof typeof PROVIDERS

interface Recorded {
  readonly format: Name
  readonly model: string
  readonly asked: Readonly<Record<string, unknown>>
  readonly method: string
  readonly sent: unknown
  readonly dropped: readonly string[]
  readonly answered: unknown
  readonly vectors: readonly (readonly number[])[]
  /** As the caller is told. */
  readonly tokens: number
  /** As the provider says; absent where it does not. */
  readonly counted?: number
}

const golden = openGolden('vectors')
const asked = (model: string): Asked => ({ model, maxOutputTokens: undefined, options: {} })

function embeddingsOf(name: Name) {
  const { embeddings } = PROVIDERS[name]
  if (embeddings === undefined) throw new Error(`${name} makes no vectors`)
  return embeddings
}

describe.each(golden.names('.json'))('vectors of %s', (name) => {
  const recorded: Recorded = JSON.parse(golden.text(`${name}.json`))
  const { format, model } = recorded
  const body = Buffer.from(JSON.stringify(recorded.answered))

  it('are asked for as the vendor wants it', () => {
    const written = embeddingsOf(format).write({ model: 'e', ...recorded.asked }, asked(model))
    expect(written.body).toEqual(recorded.sent)
    expect(written.dropped).toEqual(recorded.dropped)
    const path = PROVIDERS[format].path('embeddings', { ...asked(model), stream: false })
    expect(path.endsWith(`${format === 'vertex' ? ':' : '/'}${recorded.method}`)).toBe(true)
    expect(path).toContain(encodeURIComponent(model))
  })

  it('are read as OpenAI gives them', () => {
    const { counted } = recorded
    const { whole } = PROVIDERS[format]
    expect(whole('embeddings', body)).toEqual({
      usage: counted === undefined ? undefined : usageOf(counted, 0),
      countedTokens: 0,
      failure: undefined,
      error: undefined,
    })
    const written = embeddingsOf(format).write({ model: 'e', ...recorded.asked }, asked(model))
    const reply = embeddingsOf(format).read(body, asked(model), written)
    expect(schemaFaults('CreateEmbeddingResponse', reply)).toEqual([])
    expect(reply).toEqual({
      object: 'list',
      data: recorded.vectors.map((embedding, index) => ({ object: 'embedding', index, embedding })),
      model,
      usage: { prompt_tokens: recorded.tokens, total_tokens: recorded.tokens },
    })
  })
})

/** Each way to be asked. */
const MODELS: readonly (readonly [Name, string])[] = [
  ['gemini', 'gemini-embedding-2'],
  ['vertex', 'text-embedding-005'],
  ['vertex', 'gemini-embedding-2'],
  ['bedrock', 'amazon.titan-embed-text-v2:0'],
  ['bedrock', 'cohere.embed-v4:0'],
  ['bedrock', 'amazon.nova-2-multimodal-embeddings-v1:0'],
]

describe.each(MODELS)('a request for vectors of %s %s', (name, model) => {
  it.each([
    ['tokens', [1, 2, 3]],
    ['lists of tokens', [[1, 2], [3]]],
    ['nothing', []],
    ['no input', undefined],
    ['a part', [{ type: 'text', text: 'a' }]],
  ])('with %s is refused, naming the field', (_what, input) => {
    expect(() => embeddingsOf(name).write({ model: 'e', input }, asked(model))).toThrow(
      expect.objectContaining({ code: 'invalid_request', param: 'input' }),
    )
  })

  it.each(['256', -1, 1.5, 0])('with the dimensions %j is refused, naming the field', (dimensions) => {
    expect(() => embeddingsOf(name).write({ model: 'e', input: 'a', dimensions }, asked(model))).toThrow(
      expect.objectContaining({ code: 'invalid_request', param: 'dimensions' }),
    )
  })
})

describe.each<readonly [Name, string, number]>([
  ['gemini', 'gemini-embedding-2', 100],
  ['vertex', 'text-embedding-005', 250],
  ['bedrock', 'cohere.embed-v4:0', 96],
])('a list for %s %s', (name, model, most) => {
  const write = (texts: number) =>
    embeddingsOf(name).write({ input: Array.from({ length: texts }, () => 'a') }, asked(model))

  it('is refused where it is longer than one call takes, so that another may take it', () => {
    expect(JSON.stringify(write(most).body).match(/"a"/g)).toHaveLength(most)
    expect(() => write(most + 1)).toThrow(
      expect.objectContaining({ param: 'input', message: expect.stringContaining(`${most} texts`) }),
    )
  })
})

it('what is null is not there, and an encoding that nobody knows is refused', () => {
  for (const [name, model] of MODELS) {
    const sent = { input: 'a', encoding_format: null, dimensions: null, user: null }
    expect(embeddingsOf(name).write(sent, asked(model)).dropped).toEqual([])
    expect(() => embeddingsOf(name).write({ input: 'a', encoding_format: 'int8' }, asked(model))).toThrow(
      expect.objectContaining({ code: 'invalid_request', param: 'encoding_format' }),
    )
  }
})

describe('what cannot be carried', () => {
  it.each<readonly [Name, string]>([
    ['vertex', 'gemini-embedding-2'],
    ['bedrock', 'amazon.titan-embed-text-v2:0'],
    ['bedrock', 'amazon.titan-embed-text-v1'],
    ['bedrock', 'us.amazon.nova-2-multimodal-embeddings-v1:0'],
  ])('is more than one text to a call, for %s %s', (name, model) => {
    expect(() => embeddingsOf(name).write({ input: ['a', 'b'] }, asked(model))).toThrow(
      expect.objectContaining({ param: 'input', message: expect.stringContaining('one text') }),
    )
  })

  it.each(['amazon.titan-embed-text-v1', 'amazon.titan-embed-image-v1', 'cohere.embed-english-v3'])(
    'are dimensions, for %s',
    (model) => {
      expect(() => embeddingsOf('bedrock').write({ input: 'a', dimensions: 256 }, asked(model))).toThrow(
        expect.objectContaining({ code: 'invalid_request', param: 'dimensions' }),
      )
    },
  )

  it('is a model of which nobody knows how it is asked', () => {
    const arn = 'arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc'
    for (const model of [arn, 'us.amazon.nova-pro-v1:0'])
      expect(() => embeddingsOf('bedrock').write({ input: 'a' }, asked(model))).toThrow(
        expect.objectContaining({ code: 'invalid_request', param: 'model' }),
      )
  })
})

describe('an answer without vectors', () => {
  it.each<readonly [Name, string, string]>([
    ['vertex', '', 'empty'],
    ['vertex', '{"predictions":[]}', 'empty'],
    ['vertex', '{"predictions":{}}', 'malformed'],
    ['vertex', '<html>', 'malformed'],
    ['vertex', '{"error":{"code":500,"message":"Internal","status":"INTERNAL"}}', 'in_band'],
    ['bedrock', '', 'empty'],
    ['bedrock', '{"embeddings":[]}', 'empty'],
    ['bedrock', '{"embeddings":{"int8":[[1]]}}', 'malformed'],
    ['bedrock', '{"message":"Too many requests."}', 'in_band'],
  ])('of %s, %j, is none', (name, body, failure) => {
    expect(PROVIDERS[name].whole('embeddings', Buffer.from(body)).failure).toBe(failure)
  })

  it.each<readonly [Name, string, string]>([
    ['gemini', 'gemini-embedding-2', '{"embeddings":[{"values":[1]},{"values":[1]}]}'],
    ['gemini', 'gemini-embedding-2', '{"embeddings":[{"values":["0.5"]}]}'],
    ['vertex', 'text-embedding-005', '{"predictions":[{"embeddings":{}}]}'],
    ['vertex', 'text-embedding-005', '{"predictions":[{"embeddings":{"values":[]}}]}'],
    ['vertex', 'gemini-embedding-2', '{"embedding":{}}'],
    ['bedrock', 'cohere.embed-v4:0', '{"embeddings":[[1],[2]]}'],
    ['bedrock', 'cohere.embed-v4:0', '{"embeddings":[]}'],
    ['bedrock', 'amazon.nova-2-multimodal-embeddings-v1:0', '{"embeddings":[{"embeddingType":"TEXT"}]}'],
  ])('of %s %s, %j, is never passed off as one', (name, model, body) => {
    const { write, read } = embeddingsOf(name)
    const written = write({ input: 'a' }, asked(model))
    expect(() => read(Buffer.from(body), asked(model), written)).toThrow()
  })
})
