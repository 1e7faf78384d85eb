import { Ajv } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { sampleSchema } from '../../../../src/upstream/in-process/sample-schema.ts'
import { AGENT_SCHEMAS } from './agent-schemas.ts'
import { addFormats, countValues } from './schema-checks.ts'

const modern = addFormats(new Ajv2020({ strict: false, ownProperties: true }))
const draft7 = addFormats(new Ajv({ strict: false, ownProperties: true }))

function expectFit(schema: Readonly<Record<string, unknown>>): void {
  const sample = sampleSchema(schema)
  const validate = (schema.$schema === undefined ? modern : draft7).compile(schema)
  expect(validate(sample), `${JSON.stringify(sample)} ${JSON.stringify(validate.errors)}`).toBe(true)
}

describe('samples of tool parameters', () => {
  it.each(Object.keys(AGENT_SCHEMAS))('fit the schema of %s', (name) => {
    const schema = AGENT_SCHEMAS[name]
    if (schema === undefined) throw new Error('no such schema')
    expectFit(schema)
    expect(sampleSchema(schema)).toEqual(sampleSchema(structuredClone(schema)))
  })

  it('shows optional properties near the root and in the order of the schema', () => {
    const schema = {
      type: 'object',
      properties: { a: { type: 'boolean' }, b: { const: 2 }, c: {} },
      required: ['c'],
    }
    expect(JSON.stringify(sampleSchema(schema))).toBe('{"a":false,"b":2,"c":{}}')
    expect(sampleSchema(schema, { optionalDepth: 0 })).toEqual({ c: {} })
  })

  it.each([undefined, null, true, {}, 'nonsense', 7, []])('gives an empty object for %j', (schema) => {
    expect(sampleSchema(schema)).toEqual({})
  })

  it('leaves optional properties out where only that fits', () => {
    expectFit({
      type: 'object',
      properties: { a: { type: 'string' }, b: { type: 'string' } },
      maxProperties: 1,
    })
    expectFit({ type: 'object', properties: { a: {}, b: {} }, not: { required: ['a'] } })
    expectFit({
      type: 'object',
      properties: { a: {}, b: {}, c: {} },
      minProperties: 2,
      not: { required: ['a', 'b', 'c'] },
    })
  })

  it('takes a default only when it fits', () => {
    expect(sampleSchema({ type: 'integer', default: 41 })).toBe(41)
    expect(sampleSchema({ type: 'integer', default: '41' })).toBe(1)
    expect(sampleSchema({ enum: ['a', 'b'], default: 'b' })).toBe('b')
    expect(sampleSchema({ enum: [1, 'two', null], type: 'string' })).toBe('two')
  })

  it.each([
    { type: 'number', exclusiveMinimum: 0, exclusiveMaximum: 1 },
    { type: 'number', minimum: -5, maximum: -4.5 },
    { type: 'integer', maximum: -3 },
    { type: 'integer', exclusiveMaximum: 0, multipleOf: 7 },
    { type: 'integer', multipleOf: 2.5, minimum: 1 },
    { type: 'number', multipleOf: 0.1, minimum: 0.55 },
    { type: 'number', minimum: 1e300 },
    { type: 'number', maximum: -1e300 },
    { type: 'integer', minimum: 9_007_199_254_740_991 },
    { oneOf: [{ type: 'integer' }, { type: 'number' }] },
    { anyOf: [{ type: 'string', minLength: 5 }], maxLength: 6, type: 'string' },
    { not: { type: 'object' } },
    { type: ['null', 'integer'], not: { type: 'null' } },
    { type: 'array', contains: { const: 3 }, minContains: 2, maxItems: 3 },
    { type: 'array', items: { type: 'boolean' }, uniqueItems: true, minItems: 2 },
    {
      type: 'array',
      items: { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] },
      uniqueItems: true,
      minItems: 9,
    },
    { type: 'array', items: { type: 'integer', minimum: 3, maximum: 6 }, uniqueItems: true, minItems: 4 },
    { type: 'string', maxLength: 0 },
    { type: 'string', minLength: 300 },
    { type: 'object', required: ['undeclared'] },
    { type: 'object', required: ['__proto__'], properties: {} },
    { $ref: '#/$defs/a~1b', $defs: { 'a/b': { type: 'integer', minimum: 4 } }, maximum: 5 },
  ])('fits %j', (schema) => expectFit(schema))

  it('understands `nullable` and the exclusive bounds of draft 4', () => {
    expect(sampleSchema({ type: 'string', nullable: true, enum: [null] })).toBe(null)
    expect(sampleSchema({ type: 'integer', minimum: 4, exclusiveMinimum: true })).toBe(5)
  })

  it.each(['date-time', 'date', 'time', 'email', 'uri', 'uuid', 'ipv4', 'ipv6', 'hostname'])(
    'varies unique items of the format %s',
    (format) =>
      expectFit({ type: 'array', items: { type: 'string', format }, uniqueItems: true, minItems: 12 }),
  )
})

describe('patterns', () => {
  it.each([
    '^[A-Z]{2,4}-\\d{3}$',
    '^(feat|fix|docs)(\\([a-z]+\\))?: .+$',
    '^https?://[^\\s/]+(/.*)?$',
    '^#[0-9a-fA-F]{6}$',
    '^v?\\d+\\.\\d+\\.\\d+$',
    '^[^\\d]{3}$',
    '^(?:[a-z]{2}-)+[a-z]{2}$',
    '^(?<year>\\d{4})-\\d\\d$',
    '[a-z]+@[a-z]+',
    '^\\w[\\w-]*$',
    '^/[\\w./-]+$',
    '^\\p{Lu}\\p{L}*$',
    '^\\u0041\\x42\\+$',
    '^.{10,}$',
    '^a|b$',
  ])('writes a text for %s', (pattern) => {
    expectFit({ type: 'string', pattern })
  })

  it.each(['^[a-z][a-z0-9_]*$', '^(?:[a-z]{2}-)*[a-z]{2}$', '^[a-z]{3,20}$', '[a-z]+', '^a'])(
    'stretches %s to a length',
    (pattern) => expectFit({ type: 'string', pattern, minLength: 14, maxLength: 20 }),
  )

  it.each([
    '^(?=a)b',
    '(?<!x)y',
    '\\bword\\b',
    '(a)\\1',
    '[',
    '(',
    'a{2',
    '\\',
    '^(((a{99}){99}){99}){99}$',
    '((){4096}){4096}',
    '😀+',
  ])('gives up on %s', (pattern) => expect(typeof sampleSchema({ type: 'string', pattern })).toBe('string'))
})

describe('hostile schemas', () => {
  const nest = (depth: number, wrap: (inner: unknown) => unknown): unknown => {
    let schema: unknown = { type: 'string' }
    for (let level = 0; level < depth; level += 1) schema = wrap(schema)
    return schema
  }
  const many = (count: number, make: (index: number) => unknown) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`p${index}`, make(index)]))

  it.each<[string, unknown]>([
    [
      'deep properties',
      nest(10_000, (inner) => ({ type: 'object', properties: { a: inner }, required: ['a'] })),
    ],
    ['deep items', nest(10_000, (inner) => ({ type: 'array', items: inner, minItems: 1 }))],
    ['deep allOf', nest(10_000, (inner) => ({ allOf: [inner] }))],
    ['deep anyOf', nest(10_000, (inner) => ({ anyOf: [inner, { type: 'null' }, inner] }))],
    ['deep not', nest(10_000, (inner) => ({ not: inner }))],
    ['deep const', { const: nest(10_000, (inner) => [inner]) }],
    ['deep default', { default: nest(10_000, (inner) => ({ a: inner })), type: 'object' }],
    ['deep enum', { enum: [nest(10_000, (inner) => [inner]), nest(10_000, (inner) => [inner])] }],
    ['a reference to itself', { $ref: '#' }],
    ['an allOf of itself', { allOf: [{ $ref: '#' }, { $ref: '#' }] }],
    [
      'a required property of its own kind',
      { type: 'object', properties: { a: { $ref: '#' }, b: { $ref: '#' } }, required: ['a', 'b'] },
    ],
    ['items of its own kind', { type: 'array', items: { $ref: '#' }, minItems: 3 }],
    ['a reference into nothing', { $ref: '#/$defs/none' }],
    ['a foreign reference', { $ref: 'https://example.com/schema.json' }],
    [
      'references in a ring',
      { $ref: '#/$defs/a', $defs: { a: { $ref: '#/$defs/b' }, b: { $ref: '#/$defs/a' } } },
    ],
    ['many items', { type: 'array', items: { type: 'integer' }, minItems: 1e12 }],
    ['many unique items', { type: 'array', items: { type: 'integer' }, minItems: 1e12, uniqueItems: true }],
    [
      'many items of many',
      { type: 'array', minItems: 1e6, items: { type: 'array', minItems: 1e6, items: { type: 'null' } } },
    ],
    ['a long string', { type: 'array', minItems: 1000, items: { type: 'string', minLength: 1e9 } }],
    ['many properties', { type: 'object', properties: many(20_000, () => ({ type: 'string' })) }],
    ['many required', { type: 'object', required: Object.keys(many(20_000, () => 0)) }],
    ['many invented', { type: 'object', minProperties: 1e9 }],
    [
      'many merged',
      {
        $defs: { big: { properties: many(5000, () => ({})) } },
        allOf: Array.from({ length: 5000 }, () => ({ $ref: '#/$defs/big' })),
      },
    ],
    [
      'many alternatives',
      { anyOf: Array.from({ length: 20_000 }, (_, index) => ({ const: index, type: 'string' })) },
    ],
    [
      'alternatives times alternatives',
      {
        allOf: Array.from({ length: 50 }, () => ({
          anyOf: Array.from({ length: 50 }, () => ({ minimum: 1 })),
        })),
      },
    ],
    [
      'a long enum that does not fit',
      { type: 'object', enum: Array.from({ length: 50_000 }, (_, index) => index) },
    ],
    [
      'wrong kinds everywhere',
      {
        type: 7,
        properties: 'x',
        required: [1, null],
        items: 5,
        enum: 'a',
        minItems: 'many',
        anyOf: {},
        pattern: 3,
        format: {},
      },
    ],
    ['nothing fits', { type: 'string', allOf: [{ type: 'integer' }, false] }],
    ['bounds that cross', { type: 'integer', minimum: 5, maximum: 1 }],
    ['an odd multiple', { type: 'integer', multipleOf: 1e-320, minimum: -1e308 }],
  ])('stay bounded: %s', (_, schema) => {
    const startedMs = performance.now()
    const sample = sampleSchema(schema)
    expect(performance.now() - startedMs).toBeLessThan(2000)
    expect(countValues(sample)).toBeLessThanOrEqual(2000)
    expect(JSON.stringify(sample).length).toBeLessThan(200_000)
  })
})
