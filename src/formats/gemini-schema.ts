// JSON Schema cut down to the subset of OpenAPI's that older Gemini models take in `parameters` and `responseSchema`: one
// unknown key there is a 400 for the whole request. What can be said in another way is; what cannot is left out.

import { isObject } from '../bytes/json-value.ts'

type Schema = Record<string, unknown>

/** Deeper, or more of it, than a tool's parameters ever are: a schema that refers to itself in two places doubles. */
const MAX_DEPTH = 24
const MAX_NODES = 2000
/** The same for all schemas of a request: what is looked at, counted again wherever a reference leads to it. */
const MOST_WORK = 200_000

/** What is left to be looked at in one request; beyond it an object is any object. */
export interface SchemaWork {
  left: number
}

export function createSchemaWork(): SchemaWork {
  return { left: MOST_WORK }
}

/** The schema in the subset; undefined for one that says nothing, which must not be sent. */
export function toOpenApiSchema(schema: unknown, work: SchemaWork = createSchemaWork()): Schema | undefined {
  if (!isObject(schema)) return undefined
  const written = createWriter(schema, work)(schema, { depth: 0, refs: [] })
  const isEmpty = written.type === 'object' && written.properties === undefined
  return isEmpty ? undefined : written
}

interface Place {
  readonly depth: number
  /** References that are being followed. */
  readonly refs: readonly string[]
}

/** Keys that mean the same there. */
const KEPT = [
  'title',
  'description',
  'nullable',
  'default',
  'pattern',
  'minItems',
  'maxItems',
  'minLength',
  'maxLength',
  'minimum',
  'maximum',
  'minProperties',
  'maxProperties',
] as const
const FORMATS: ReadonlyMap<string, ReadonlySet<unknown>> = new Map([
  ['string', new Set<unknown>(['enum', 'date-time'])],
  ['number', new Set<unknown>(['float', 'double'])],
  ['integer', new Set<unknown>(['int32', 'int64'])],
])

function createWriter(root: Readonly<Schema>, work: SchemaWork): (schema: unknown, place: Place) => Schema {
  let nodes = 0

  return write

  function write(given: unknown, place: Place): Schema {
    nodes += 1
    // `true`: anything.
    if (!isObject(given)) return { type: 'string' }
    if (place.depth > MAX_DEPTH || nodes > MAX_NODES || !affords(given)) return { type: 'object' }
    const { schema, refs } = resolve(given, place.refs)
    if (schema === undefined) return described({ type: 'object' }, given)
    return writeResolved(mergeAll(schema, refs), { depth: place.depth + 1, refs })
  }

  /** Whether this much more may be looked at: its members, and what stands right in them. */
  function affords(schema: Readonly<Schema>): boolean {
    if (work.left <= 0) return false
    for (const value of Object.values(schema))
      work.left -= Array.isArray(value) ? value.length : isObject(value) ? Object.keys(value).length : 1
    return work.left > 0
  }

  /** Follows references into the schema itself; undefined where one leads back to where it came from, or too far. */
  function resolve(
    given: Readonly<Schema>,
    from: readonly string[],
  ): { schema: Readonly<Schema> | undefined; refs: readonly string[] } {
    let schema = given
    let refs = from
    while (typeof schema.$ref === 'string') {
      if (refs.includes(schema.$ref) || refs.length > MAX_DEPTH) return { schema: undefined, refs }
      refs = [...refs, schema.$ref]
      const { $ref, ...beside } = schema
      const target = find(root, String($ref))
      if (!isObject(target)) return { schema: beside, refs }
      if (!affords(target)) return { schema: undefined, refs }
      schema = { ...target, ...beside }
    }
    return { schema, refs }
  }

  /** Everything that `allOf` asks for, as one schema. */
  function mergeAll(schema: Readonly<Schema>, refs: readonly string[]): Readonly<Schema> {
    if (!Array.isArray(schema.allOf)) return schema
    const { allOf, ...merged } = schema
    let properties: Schema = isObject(merged.properties) ? merged.properties : {}
    const required = new Set(strings(merged.required))
    let all: Schema = merged
    for (const part of schema.allOf.slice(0, MAX_DEPTH)) {
      const resolved = isObject(part) ? resolve(part, refs).schema : undefined
      if (resolved === undefined) continue
      const { allOf: _, ...rest } = resolved
      if (isObject(rest.properties)) properties = { ...properties, ...rest.properties }
      for (const name of strings(rest.required)) required.add(name)
      all = { ...rest, ...all }
    }
    if (Object.keys(properties).length > 0) all = { ...all, properties, required: [...required] }
    return all
  }

  function writeResolved(schema: Readonly<Schema>, place: Place): Schema {
    const written: Schema = {}
    for (const key of KEPT) if (schema[key] !== undefined) written[key] = schema[key]
    writeBounds(schema, written)
    const choices = [schema.anyOf, schema.oneOf].find(Array.isArray) ?? typeChoices(schema)
    if (choices !== undefined) {
      const options: unknown[] = choices.filter((option: unknown) => !isNull(option))
      const nullable = options.length < choices.length || schema.nullable === true
      const [only] = options
      if (options.length === 1) return { ...write(only, place), ...written, ...(nullable && { nullable }) }
      // Where there is a choice nothing may stand beside it.
      if (options.length > 0)
        return { anyOf: options.map((option) => toOption(write(option, place), { nullable, ...written })) }
    }
    const { type, nullable } = typeOf(schema)
    written.type = type
    if (nullable) written.nullable = true
    writeEnum(schema, written)
    if (FORMATS.get(type)?.has(schema.format) === true) written.format = schema.format
    if (type === 'object') writeProperties(schema, written, place)
    if (type === 'array') written.items = writeItems(schema, place)
    return written
  }

  function writeProperties(schema: Readonly<Schema>, written: Schema, place: Place): void {
    if (!isObject(schema.properties)) return
    const properties = new Map<string, Schema>()
    for (const [name, value] of Object.entries(schema.properties))
      if (value !== false) properties.set(name, write(value, place))
    if (properties.size === 0) return
    written.properties = Object.fromEntries(properties)
    const required = strings(schema.required).filter((name) => properties.has(name))
    if (required.length > 0) written.required = required
  }

  /** A list must say what is in it; one with a schema for each place is a list of any of them. */
  function writeItems(schema: Readonly<Schema>, place: Place): Schema {
    const each = [schema.prefixItems, schema.items].find(Array.isArray)
    const [only] = each ?? []
    if (each === undefined || each.length < 2) return write(only ?? schema.items, place)
    return { anyOf: each.map((item: unknown) => write(item, place)) }
  }
}

/** Bounds are inclusive there. */
function writeBounds(schema: Readonly<Schema>, written: Schema): void {
  const step = schema.type === 'integer' ? 1 : 0
  if (typeof schema.exclusiveMinimum === 'number') written.minimum ??= schema.exclusiveMinimum + step
  if (typeof schema.exclusiveMaximum === 'number') written.maximum ??= schema.exclusiveMaximum - step
}

/** Only strings may be listed: other values are told in words. */
function writeEnum(schema: Readonly<Schema>, written: Schema): void {
  const listed = Array.isArray(schema.enum) ? schema.enum : schema.const === undefined ? [] : [schema.const]
  const values = listed.filter((value: unknown) => value !== null && value !== '')
  if (listed.includes(null)) written.nullable = true
  if (values.length === 0) return
  if (written.type === 'string') {
    written.enum = values.map((value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value)))
    return
  }
  const words = `One of: ${values.map((value: unknown) => JSON.stringify(value)).join(', ')}.`
  written.description = typeof written.description === 'string' ? `${written.description} ${words}` : words
}

/** A list of types is a choice, where more than one is left without `null`. */
function typeChoices(schema: Readonly<Schema>): unknown[] | undefined {
  if (!Array.isArray(schema.type) || schema.type.filter((type: unknown) => type !== 'null').length < 2)
    return undefined
  const { description: _, ...rest } = schema
  return schema.type.map((type: unknown) => ({ ...rest, type }))
}

function typeOf(schema: Readonly<Schema>): { type: string; nullable: boolean } {
  const types: unknown[] = Array.isArray(schema.type) ? schema.type : [schema.type]
  const type = types.find((one) => typeof one === 'string' && one !== 'null')
  return { type: typeof type === 'string' ? type : guessType(schema), nullable: types.includes('null') }
}

function guessType(schema: Readonly<Schema>): string {
  if (isObject(schema.properties) || schema.additionalProperties !== undefined) return 'object'
  if (schema.items !== undefined || schema.prefixItems !== undefined) return 'array'
  const value: unknown = schema.const ?? (Array.isArray(schema.enum) ? schema.enum[0] : undefined)
  if (typeof value === 'boolean') return 'boolean'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number'
  if (schema.minimum !== undefined || schema.maximum !== undefined || schema.multipleOf !== undefined)
    return 'number'
  return 'string'
}

function toOption(option: Schema, { nullable, description }: Schema): Schema {
  return {
    ...option,
    ...(nullable === true && option.anyOf === undefined && { nullable }),
    ...(description !== undefined &&
      option.description === undefined &&
      option.anyOf === undefined && { description }),
  }
}

function isNull(option: unknown): boolean {
  return isObject(option) && option.type === 'null'
}

function described(written: Schema, { description }: Readonly<Schema>): Schema {
  return typeof description === 'string' ? { ...written, description } : written
}

function strings(list: unknown): string[] {
  return Array.isArray(list) ? list.filter((item) => typeof item === 'string') : []
}

/** What a JSON pointer of this very schema (`#/$defs/Node`) leads to. */
function find(root: Readonly<Schema>, ref: string): unknown {
  if (ref === '#') return root
  if (!ref.startsWith('#/')) return undefined
  let at: unknown = root
  for (const step of ref.slice(2).split('/')) {
    const name = decode(step).replaceAll('~1', '/').replaceAll('~0', '~')
    if (!isObject(at) || !Object.hasOwn(at, name)) return undefined
    at = at[name]
  }
  return at
}

function decode(step: string): string {
  try {
    return decodeURIComponent(step)
  } catch {
    return step
  }
}
