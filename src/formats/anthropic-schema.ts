// JSON Schemas as Claude takes them: what constrained output understands, and the root that a tool must have. What is
// left out of a schema is told to the model in words, in its description. Source: the vendor's page on structured
// outputs, and what its SDKs leave out.

import { isObject } from '../bytes/json-value.ts'

type Schema = Readonly<Record<string, unknown>>

/** String formats that are enforced. */
const FORMATS: ReadonlySet<unknown> = new Set([
  'date-time',
  'time',
  'date',
  'duration',
  'email',
  'hostname',
  'uri',
  'ipv4',
  'ipv6',
  'uuid',
])

/** Keywords that hold, with how what stands in them is kept. */
const KEPT: ReadonlySet<string> = new Set([
  'title',
  'description',
  'default',
  'const',
  'enum',
  'type',
  'required',
])
const REFERENCES: ReadonlySet<string> = new Set(['$ref', '$schema', '$id', '$anchor'])
const MAPS: ReadonlySet<string> = new Set(['properties', '$defs', 'definitions'])
const LISTS: ReadonlySet<string> = new Set(['anyOf', 'oneOf', 'allOf'])
/** Keywords that are not enforced and that a model can follow when it is told. */
const TOLD: ReadonlySet<string> = new Set([
  'minimum',
  'maximum',
  'exclusiveMinimum',
  'exclusiveMaximum',
  'multipleOf',
  'minLength',
  'maxLength',
  'pattern',
  'minItems',
  'maxItems',
  'uniqueItems',
  'minProperties',
  'maxProperties',
  'not',
])

/** The vendor's limit for a whole request; its compiler gives up earlier when many of them stand in one schema. */
const MOST_OPTIONAL = 12
/** Bound of what is looked at, with what is listed in it: a schema that is larger is told in words. */
const MOST_NODES = 5_000
const MOST_DEPTH = 64

/**
 * The schema as constrained output takes it; undefined where that would refuse it or lose something: a schema that
 * contains itself, an object of any members, too many optional ones.
 */
export function toConstrained(schema: unknown): Schema | undefined {
  if (!isObject(schema)) return undefined
  const seen = { nodes: 0, optional: 0 }
  return fits(schema, { root: schema, path: [], seen }) ? rewrite(schema) : undefined
}

interface Walk {
  readonly root: Schema
  /** References that are being followed. */
  readonly path: readonly string[]
  readonly seen: { nodes: number; optional: number }
  readonly depth?: number
}

function fits(schema: unknown, walk: Walk): boolean {
  if (typeof schema === 'boolean') return schema
  if (!isObject(schema)) return false
  const { root, path, seen, depth = 0 } = walk
  seen.nodes += Array.isArray(schema.type) ? schema.type.length + 1 : 1
  if (seen.nodes > MOST_NODES || depth > MOST_DEPTH) return false
  const inner = { ...walk, depth: depth + 1 }
  if (typeof schema.$ref === 'string') {
    const target = resolve(root, schema.$ref)
    if (target === undefined || path.includes(schema.$ref)) return false
    return fits(target, { ...inner, path: [...path, schema.$ref] })
  }
  if (isObjectType(schema)) {
    const properties = isObject(schema.properties) ? schema.properties : {}
    // Closed by us it could only be `{}`.
    const isMap = schema.additionalProperties === true || isObject(schema.additionalProperties)
    if (isMap || isObject(schema.patternProperties)) return false
    if (Object.keys(properties).length === 0 && schema.additionalProperties !== false) return false
    const needed = Array.isArray(schema.required) ? schema.required : []
    // Looked at again wherever a reference leads here.
    seen.nodes += needed.length
    if (seen.nodes > MOST_NODES) return false
    const required = new Set(needed)
    for (const [name, property] of Object.entries(properties)) {
      if (!required.has(name)) seen.optional += 1
      if (seen.optional > MOST_OPTIONAL || !fits(property, inner)) return false
    }
  }
  for (const keyword of LISTS) {
    const list = schema[keyword]
    if (Array.isArray(list) && !list.every((one) => fits(one, inner))) return false
  }
  const { items } = schema
  if (Array.isArray(items)) return items.every((one) => fits(one, inner))
  return items === undefined || fits(items, inner)
}

function isObjectType({ type, properties }: Schema): boolean {
  return type === 'object' || (Array.isArray(type) && type.includes('object')) || isObject(properties)
}

/** `#/$defs/name`: no others are known to be followed. */
function resolve(root: Schema, reference: string): unknown {
  if (reference === '#') return root
  if (!reference.startsWith('#/')) return undefined
  let at: unknown = root
  for (const step of reference.slice(2).split('/')) {
    const name = step.replaceAll('~1', '/').replaceAll('~0', '~')
    at = isObject(at) && Object.hasOwn(at, name) ? at[name] : undefined
  }
  return at
}

function rewrite(schema: unknown): Schema {
  if (!isObject(schema)) return {}
  const kept: Record<string, unknown> = {}
  const told: string[] = []
  for (const [keyword, value] of Object.entries(schema)) {
    if (KEPT.has(keyword) || REFERENCES.has(keyword)) kept[keyword] = value
    else if (MAPS.has(keyword) && isObject(value)) kept[keyword] = mapValues(value)
    else if (LISTS.has(keyword) && Array.isArray(value)) {
      kept[keyword === 'oneOf' ? 'anyOf' : keyword] = value.map(rewriteAny)
    } else if (keyword === 'items')
      kept.items = Array.isArray(value) ? value.map(rewriteAny) : rewriteAny(value)
    else if (keyword === 'format' && FORMATS.has(value)) kept.format = value
    else if (keyword === 'format' || (TOLD.has(keyword) && value !== false)) {
      told.push(`${keyword}: ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    }
  }
  if (isObjectType(schema)) kept.additionalProperties = false
  if (told.length > 0) {
    const rule = `${told.join('; ')}.`
    kept.description = typeof kept.description === 'string' ? `${kept.description}\n${rule}` : rule
  }
  return kept
}

function rewriteAny(schema: unknown): unknown {
  return isObject(schema) ? rewrite(schema) : schema
}

function mapValues(map: Schema): Schema {
  return Object.fromEntries(Object.entries(map).map(([name, value]) => [name, rewriteAny(value)]))
}

/**
 * The schema of a tool's input: its root must be an object, without alternatives. Where there are some, the members of
 * all of them may be given, and those that all require must be.
 */
export function toInputSchema(parameters: unknown): Schema {
  if (!isObject(parameters)) return { type: 'object', properties: {} }
  const branches = [...LISTS].flatMap((keyword) => {
    const list = parameters[keyword]
    return Array.isArray(list) ? [{ keyword, list: list.filter(isObject) }] : []
  })
  if (branches.length === 0)
    return parameters.type === 'object' ? parameters : { ...parameters, type: 'object' }
  const merged: Record<string, unknown> = { ...parameters, type: 'object' }
  const properties = new Map(Object.entries(isObject(parameters.properties) ? parameters.properties : {}))
  const required = new Set<unknown>(Array.isArray(parameters.required) ? parameters.required : [])
  for (const { keyword, list } of branches) {
    delete merged[keyword]
    for (const branch of list)
      for (const [name, property] of Object.entries(isObject(branch.properties) ? branch.properties : {}))
        if (!properties.has(name)) properties.set(name, property)
    const needed = list.map(({ required: names }) => new Set<unknown>(Array.isArray(names) ? names : []))
    // What all branches require the first one does.
    for (const names of keyword === 'allOf' ? needed : needed.slice(0, 1))
      for (const name of names)
        if (keyword === 'allOf' || needed.every((others) => others.has(name))) required.add(name)
  }
  return {
    ...merged,
    properties: Object.fromEntries(properties),
    ...(required.size > 0 && { required: [...required] }),
  }
}
