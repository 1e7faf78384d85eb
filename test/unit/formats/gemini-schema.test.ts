// Schemas as agents send them, cut down to what older Gemini models take. Those here are the ones that gateways were
// reported to break on (test/support/published-bugs.ts, number 53).

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toOpenApiSchema } from '../../../src/formats/gemini-schema.ts'

const object = (properties: Readonly<Record<string, unknown>>, more: object = {}): object => ({
  type: 'object',
  properties,
  ...more,
})

describe('a schema', () => {
  it.each<readonly [what: string, schema: unknown, written: unknown]>([
    [
      'loses what is not known there',
      {
        $schema: 'http://json-schema.org/draft-07/schema#',
        $id: 'x',
        ...object(
          {
            a: { type: 'string', format: 'uri', minLength: 1, contentMediaType: 'x', examples: ['b'] },
            b: { type: 'array', items: { type: 'number', multipleOf: 2 }, uniqueItems: true, contains: {} },
          },
          {
            additionalProperties: false,
            propertyNames: { pattern: '^a' },
            patternProperties: { x: {} },
            dependencies: {},
            required: ['a', 'gone'],
          },
        ),
      },
      object(
        { a: { type: 'string', minLength: 1 }, b: { type: 'array', items: { type: 'number' } } },
        { required: ['a'] },
      ),
    ],
    [
      'says exclusive bounds in another way',
      object({
        a: { type: 'integer', exclusiveMinimum: 0, exclusiveMaximum: 10 },
        b: { type: 'number', exclusiveMinimum: 0 },
        c: { type: 'integer', minimum: 5, exclusiveMinimum: true },
      }),
      object({
        a: { type: 'integer', minimum: 1, maximum: 9 },
        b: { type: 'number', minimum: 0 },
        c: { type: 'integer', minimum: 5 },
      }),
    ],
    [
      'lists strings, and tells of other values in words',
      object({
        a: { const: 'x' },
        b: { enum: ['x', 'y', '', null], type: ['string', 'null'] },
        c: { type: 'integer', enum: [1, 2], description: 'How many.' },
        d: { const: true },
      }),
      object({
        a: { type: 'string', enum: ['x'] },
        b: { type: 'string', nullable: true, enum: ['x', 'y'] },
        c: { type: 'integer', description: 'How many. One of: 1, 2.' },
        d: { type: 'boolean', description: 'One of: true.' },
      }),
    ],
    [
      'has one type, or a choice',
      object({
        a: { type: ['string', 'null'], description: 'A.' },
        b: { type: ['string', 'number'], description: 'B.' },
        c: { oneOf: [{ type: 'string' }, { type: 'null' }], description: 'C.' },
        d: {
          anyOf: [{ type: 'string' }, { type: 'number', description: 'N.' }, { type: 'null' }],
          description: 'D.',
          default: 1,
        },
      }),
      object({
        a: { type: 'string', nullable: true, description: 'A.' },
        b: {
          anyOf: [
            { type: 'string', description: 'B.' },
            { type: 'number', description: 'B.' },
          ],
        },
        c: { type: 'string', nullable: true, description: 'C.' },
        d: {
          anyOf: [
            { type: 'string', nullable: true, description: 'D.' },
            { type: 'number', nullable: true, description: 'N.' },
          ],
        },
      }),
    ],
    [
      'holds what it refers to',
      {
        ...object({ a: { $ref: '#/$defs/A', description: 'Mine.' }, b: { $ref: '#/definitions/x~1y' } }),
        $defs: { A: { type: 'string', description: 'Theirs.' } },
        definitions: { 'x/y': { type: 'boolean' } },
      },
      object({ a: { type: 'string', description: 'Mine.' }, b: { type: 'boolean' } }),
    ],
    [
      'does not go round in circles',
      {
        ...object({ next: { $ref: '#' }, other: { $ref: '#/$defs/B' } }),
        $defs: { B: { $ref: '#/$defs/B' } },
      },
      object({
        next: object({ next: { type: 'object' }, other: { type: 'object' } }),
        other: { type: 'object' },
      }),
    ],
    [
      'is all that allOf asks for',
      {
        allOf: [
          object({ a: { type: 'string' } }, { required: ['a'] }),
          { $ref: '#/$defs/B' },
          { description: 'Both.' },
        ],
        $defs: { B: object({ b: { type: 'number' } }, { required: ['b'] }) },
      },
      object(
        { a: { type: 'string' }, b: { type: 'number' } },
        { required: ['a', 'b'], description: 'Both.' },
      ),
    ],
    [
      'says what is in a list, and of what type everything is',
      object({
        a: { type: 'array' },
        b: { prefixItems: [{ type: 'string' }, { type: 'number' }] },
        c: { description: 'Anything.' },
        d: true,
        e: false,
        f: { properties: { x: { type: 'string' } } },
        g: { type: 'object', properties: {} },
      }),
      object({
        a: { type: 'array', items: { type: 'string' } },
        b: { type: 'array', items: { anyOf: [{ type: 'string' }, { type: 'number' }] } },
        c: { type: 'string', description: 'Anything.' },
        d: { type: 'string' },
        f: object({ x: { type: 'string' } }),
        g: { type: 'object' },
      }),
    ],
    ['without members is not sent', object({}, { additionalProperties: false }), undefined],
    ['that is none is not sent', undefined, undefined],
  ])('%s', (_what, schema, written) => {
    expect(toOpenApiSchema(schema)).toEqual(written)
  })

  it('has a bound, however it multiplies', () => {
    const twice = (name: string): object =>
      object({ a: { $ref: `#/$defs/${name}` }, b: { $ref: `#/$defs/${name}` } })
    const $defs = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`n${i}`, twice(`n${i + 1}`)]))
    const written = JSON.stringify(toOpenApiSchema({ ...twice('n0'), $defs }))
    expect(written.length).toBeLessThan(200_000)
  })

  it('holds nothing that is not known there, whatever it is (bug 53)', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), anySchema, (json, schema) => {
        const written = toOpenApiSchema({ ...schema, 'x-any': JSON.parse(json) })
        if (written !== undefined) expect(strayKeys(written)).toEqual([])
      }),
    )
  })
})

const KNOWN = new Set(
  'type format title description nullable enum maxItems minItems properties required minProperties maxProperties minLength maxLength pattern anyOf default items minimum maximum'.split(
    ' ',
  ),
)

/** Keys of schemas that would be refused. */
function strayKeys(schema: unknown): string[] {
  if (typeof schema !== 'object' || schema === null) return ['no object']
  return Object.entries(schema).flatMap(([key, value]) => {
    if (!KNOWN.has(key)) return [key]
    if (key === 'properties') return Object.values(value).flatMap(strayKeys)
    if (key === 'items') return strayKeys(value)
    return key === 'anyOf' && Array.isArray(value) ? value.flatMap(strayKeys) : []
  })
}

const leaf = fc.record(
  {
    type: fc.oneof(
      fc.constantFrom('object', 'array', 'string', 'integer', 'null'),
      fc.constant(['string', 'null']),
    ),
    required: fc.array(fc.string(), { maxLength: 2 }),
    $ref: fc.constantFrom('#', '#/properties/a', '#/anyOf/0', 'http://x/y', '#/%'),
    const: fc.jsonValue({ maxDepth: 1 }),
    enum: fc.array(fc.jsonValue({ maxDepth: 1 }), { maxLength: 3 }),
    exclusiveMinimum: fc.oneof(fc.integer(), fc.boolean()),
    additionalProperties: fc.boolean(),
  },
  { requiredKeys: [] },
)

/** A schema with others inside, so deep at most. */
function schemas(depth: number): fc.Arbitrary<Record<string, unknown>> {
  if (depth === 0) return leaf
  const inner = schemas(depth - 1)
  const some = fc.array(inner, { maxLength: 2 })
  const more = fc.record(
    {
      properties: fc.dictionary(fc.constantFrom('a', 'b', 'constructor', '$ref'), inner, { maxKeys: 2 }),
      items: fc.oneof(inner, some),
      anyOf: some,
      oneOf: some,
      allOf: some,
    },
    { requiredKeys: [] },
  )
  return fc.tuple(leaf, more).map(([own, others]) => ({ ...own, ...others }))
}
const anySchema = schemas(3)
