import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { sampleSchema } from '../../../../src/upstream/in-process/sample-schema.ts'
import { addFormats, countValues } from './schema-checks.ts'

const ajv = addFormats(new Ajv2020({ strict: false, ownProperties: true }))

type Schema = Readonly<Record<string, unknown>>

const ordered = (most: number) =>
  fc
    .tuple(fc.integer({ min: 0, max: most }), fc.integer({ min: 0, max: most }))
    .map(([one, other]) => [Math.min(one, other), Math.max(one, other)] as const)

const scalar = fc.oneof(
  fc.integer({ min: -9, max: 9 }),
  fc.string({ maxLength: 5 }),
  fc.boolean(),
  fc.constant(null),
)
const name = fc.constantFrom('a', 'b', 'c', 'path', 'content', 'constructor', 'id')

const leaf: fc.Arbitrary<Schema> = fc.oneof(
  fc.constant({}),
  fc.constantFrom(
    { type: 'boolean' },
    { type: 'null' },
    { type: 'string', format: 'date-time' },
    { type: 'string', format: 'uuid' },
  ),
  fc.record({ enum: fc.uniqueArray(scalar, { minLength: 1, maxLength: 4 }) }),
  fc.record({ const: fc.jsonValue({ maxDepth: 2 }) }),
  ordered(30).map(([minLength, maxLength]) => ({ type: 'string', minLength, maxLength })),
  fc
    .constantFrom('^[a-z]{2,9}$', '^\\d+$', '^(x|y)-[A-F0-9]{4}$')
    .map((pattern) => ({ type: 'string', pattern })),
  ordered(100).map(([low, high]) => ({ type: 'integer', minimum: low - 50, maximum: high - 50 })),
  ordered(100).map(([low, high]) => ({
    type: 'number',
    exclusiveMinimum: low - 50,
    exclusiveMaximum: high - 49.5,
  })),
  fc.integer({ min: 1, max: 12 }).map((multipleOf) => ({ type: 'integer', multipleOf, minimum: -40 })),
  fc.constantFrom(['string', 'null'], ['null', 'integer'], ['boolean', 'number']).map((type) => ({ type })),
)

const { schema } = fc.letrec<{ schema: Schema; branch: Schema }>((tie) => ({
  schema: fc.oneof({ depthSize: 'small', withCrossShrink: true }, leaf, tie('branch')),
  branch: fc.oneof(
    fc
      .record({
        properties: fc.dictionary(name, tie('schema'), { maxKeys: 4 }),
        share: fc.double({ min: 0, max: 1, noNaN: true }),
        closed: fc.boolean(),
      })
      .map(({ properties, share, closed }) => {
        const names = Object.keys(properties)
        const required = names.slice(0, Math.round(names.length * share))
        return { type: 'object', properties, required, ...(closed ? { additionalProperties: false } : {}) }
      }),
    fc
      .tuple(tie('schema'), ordered(5))
      .map(([items, [minItems, maxItems]]) => ({ type: 'array', items, minItems, maxItems })),
    fc.tuple(fc.array(tie('schema'), { minLength: 1, maxLength: 3 })).map(([prefixItems]) => ({
      type: 'array',
      prefixItems,
      minItems: prefixItems.length,
    })),
    fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
    fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((list) => ({
      oneOf: list.map((inner, index) => ({
        type: 'object',
        properties: { kind: { const: `k${index}` }, value: inner },
        required: ['kind', 'value'],
      })),
    })),
    fc.tuple(tie('schema'), tie('schema')).map(([one, other]) => ({
      allOf: [
        { type: 'object', properties: { one }, required: ['one'] },
        { properties: { other }, required: ['other'] },
      ],
    })),
    tie('schema').map((additionalProperties) => ({ type: 'object', additionalProperties, minProperties: 2 })),
  ),
}))

it('fits every schema of the sane kind', () => {
  fc.assert(
    fc.property(schema, (generated) => {
      const sample = sampleSchema(generated)
      const validate = ajv.compile(generated)
      expect(validate(sample), `${JSON.stringify(sample)}: ${ajv.errorsText(validate.errors)}`).toBe(true)
      expect(sampleSchema(generated)).toEqual(sample)
      ajv.removeSchema(generated)
    }),
    { numRuns: 300 },
  )
})

it('never throws and stays bounded, whatever the schema is', () => {
  const keyword = fc.constantFrom(
    ...[
      'type',
      'properties',
      'required',
      'items',
      'prefixItems',
      'enum',
      'const',
      'default',
      'anyOf',
      'oneOf',
      'allOf',
    ],
    ...[
      '$ref',
      '$defs',
      'not',
      'if',
      'then',
      'minItems',
      'maxItems',
      'minLength',
      'maxLength',
      'pattern',
      'format',
    ],
    ...[
      'minimum',
      'maximum',
      'multipleOf',
      'additionalProperties',
      'minProperties',
      'uniqueItems',
      'contains',
      'nullable',
    ],
  )
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'medium' },
      fc.constantFrom(
        'object',
        'string',
        'array',
        'number',
        '#',
        '#/properties/a',
        '^[a',
        'a+',
        true,
        false,
        null,
        1e9,
        -1,
        0.1,
      ),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(keyword, tie('value'), { maxKeys: 6 }),
    ),
  }))
  fc.assert(
    fc.property(value, (anything) => {
      const sample = sampleSchema(anything)
      expect(countValues(sample)).toBeLessThanOrEqual(2000)
      expect(sampleSchema(anything)).toEqual(sample)
    }),
    { numRuns: 1000 },
  )
})
