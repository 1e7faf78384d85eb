// Does a value fit a JSON Schema? The plain keywords of drafts 4 to 2020-12, for checking one's own samples: what is
// not understood (patterns, formats, dynamic references) passes. Bounded by the caller's purse. Pure, never throws.

import { isObject } from '../../bytes/json-value.ts'

export type SchemaFields = Readonly<Record<string, unknown>>

/** What may still be spent on one schema. Shared by all who work on it; at 0 every check passes. */
export interface Purse {
  steps: number
}

interface Context {
  readonly root: unknown
  readonly purse: Purse
}

const MAX_DEPTH = 64
/** Entries of a list that cost as much as one schema. */
const LIST_PER_STEP = 8

/** Whether `value` is what `schema` describes; references are looked up in `root`. */
export function matchesSchema(schema: unknown, value: unknown, context: Context, depth = 0): boolean {
  if (schema === false) return false
  if (!isObject(schema)) return true
  context.purse.steps -= 1 + (lengthOf(schema.enum) + lengthOf(schema.required)) / LIST_PER_STEP
  if (context.purse.steps <= 0 || depth > MAX_DEPTH) return true
  const check = (part: unknown, inner: unknown = value) => matchesSchema(part, inner, context, depth + 1)
  if (typeof schema.$ref === 'string' && !check(resolveReference(schema.$ref, context.root))) return false
  return (
    matchesType(schema, value) &&
    (!Object.hasOwn(schema, 'const') || isSame(schema.const, value)) &&
    (!Array.isArray(schema.enum) || schema.enum.some((item: unknown) => isSame(item, value))) &&
    matchesParts(schema, check) &&
    (typeof value !== 'number' || matchesNumber(schema, value)) &&
    (typeof value !== 'string' || matchesLength(schema, value)) &&
    (!Array.isArray(value) || matchesArray(schema, value, check)) &&
    (!isObject(value) || matchesObject(schema, value, check))
  )
}

/** What a reference inside the same document points to; undefined when there is no such place. */
export function resolveReference(reference: string, root: unknown): unknown {
  if (reference !== '#' && !reference.startsWith('#/')) return undefined
  let place = root
  for (const part of reference.split('/').slice(1)) {
    const name = unescapePointer(part)
    if (typeof place !== 'object' || place === null || !Object.hasOwn(place, name)) return undefined
    place = new Map<string, unknown>(Object.entries(place)).get(name)
  }
  return place
}

/** The types a schema names, or undefined when it names none. */
export function readTypes({ type, nullable }: SchemaFields): readonly string[] | undefined {
  const list: readonly unknown[] = Array.isArray(type) ? type : [type]
  const types = list.filter((name) => typeof name === 'string')
  if (types.length === 0) return undefined
  return nullable === true ? [...types, 'null'] : types
}

/** Equality of JSON values. Values nested deeper than anybody writes them are not the same. */
export function isSame(one: unknown, other: unknown, depth = 0): boolean {
  if (Object.is(one, other) || one === other) return true
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null) return false
  if (depth > MAX_DEPTH || Array.isArray(one) !== Array.isArray(other)) return false
  const entries = Object.entries(one)
  const others = new Map<string, unknown>(Object.entries(other))
  return (
    entries.length === others.size &&
    entries.every(([name, value]) => others.has(name) && isSame(value, others.get(name), depth + 1))
  )
}

type Check = (part: unknown, inner?: unknown) => boolean

function matchesType(schema: SchemaFields, value: unknown): boolean {
  const types = readTypes(schema)
  return types === undefined || types.some((type) => isType(type, value))
}

function isType(type: string, value: unknown): boolean {
  if (type === 'null') return value === null
  if (type === 'array') return Array.isArray(value)
  if (type === 'object') return isObject(value)
  if (type === 'integer') return Number.isInteger(value)
  return typeof value === type
}

/** The keywords that hold other schemas for the same value. */
function matchesParts(schema: SchemaFields, check: Check): boolean {
  const { allOf, anyOf, oneOf } = schema
  if (Array.isArray(allOf) && !allOf.every((part: unknown) => check(part))) return false
  if (Array.isArray(anyOf) && !anyOf.some((part: unknown) => check(part))) return false
  if (Array.isArray(oneOf) && oneOf.filter((part: unknown) => check(part)).length !== 1) return false
  if (schema.not !== undefined && check(schema.not)) return false
  if (schema.if === undefined) return true
  return check(schema.if) ? check(schema.then) : check(schema.else)
}

function matchesNumber(schema: SchemaFields, value: number): boolean {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema
  if (typeof minimum === 'number' && (exclusiveMinimum === true ? value <= minimum : value < minimum))
    return false
  if (typeof maximum === 'number' && (exclusiveMaximum === true ? value >= maximum : value > maximum))
    return false
  if (typeof exclusiveMinimum === 'number' && value <= exclusiveMinimum) return false
  if (typeof exclusiveMaximum === 'number' && value >= exclusiveMaximum) return false
  return typeof multipleOf !== 'number' || multipleOf <= 0 || Number.isInteger(value / multipleOf)
}

function matchesLength({ minLength, maxLength }: SchemaFields, value: string): boolean {
  if (typeof minLength === 'number' && value.length < minLength) return false
  // A character outside the basic plane is two units here and one for the schema.
  return typeof maxLength !== 'number' || value.length <= maxLength || [...value].length <= maxLength
}

function matchesArray(schema: SchemaFields, value: readonly unknown[], check: Check): boolean {
  const { minItems, maxItems, uniqueItems, contains, minContains, maxContains } = schema
  if (typeof minItems === 'number' && value.length < minItems) return false
  if (typeof maxItems === 'number' && value.length > maxItems) return false
  const { tuple, rest } = readItems(schema)
  if (!value.every((item, index) => check(index < tuple.length ? tuple[index] : rest, item))) return false
  if (uniqueItems === true && new Set(value.map((item) => JSON.stringify(item))).size < value.length)
    return false
  if (contains === undefined) return true
  const found = value.filter((item) => check(contains, item)).length
  return found >= toCount(minContains, 1) && found <= toCount(maxContains, Number.POSITIVE_INFINITY)
}

function matchesObject(schema: SchemaFields, value: SchemaFields, check: Check): boolean {
  const names = Object.keys(value)
  const { required, properties, additionalProperties, patternProperties, propertyNames, dependentRequired } =
    schema
  if (names.length < toCount(schema.minProperties, 0)) return false
  if (names.length > toCount(schema.maxProperties, Number.POSITIVE_INFINITY)) return false
  if (!namesOf(required).every((name) => Object.hasOwn(value, name))) return false
  const known = isObject(properties) ? properties : {}
  // Which names a pattern covers is not known here, so with patterns the other names pass.
  const others = patternProperties === undefined ? additionalProperties : true
  const fits = names.every((name) => check(Object.hasOwn(known, name) ? known[name] : others, value[name]))
  if (!fits || (propertyNames !== undefined && !names.every((name) => check(propertyNames, name))))
    return false
  if (!isObject(dependentRequired)) return true
  return Object.entries(dependentRequired).every(
    ([name, needed]) =>
      !Object.hasOwn(value, name) || namesOf(needed).every((other) => Object.hasOwn(value, other)),
  )
}

/** The names in a list of property names; what else stands there is passed over. */
export function namesOf(list: unknown): readonly string[] {
  return Array.isArray(list) ? list.filter((name) => typeof name === 'string') : []
}

/** A tuple's places and the schema of what follows, in the words of any draft. */
export function readItems({ prefixItems, items, additionalItems }: SchemaFields): {
  readonly tuple: readonly unknown[]
  readonly rest: unknown
} {
  if (Array.isArray(prefixItems)) return { tuple: prefixItems, rest: items }
  return Array.isArray(items) ? { tuple: items, rest: additionalItems } : { tuple: [], rest: items }
}

/** A bound that counts something, or `otherwise` where it is absent or no number. */
export function toCount(value: unknown, otherwise: number): number {
  return typeof value === 'number' && !Number.isNaN(value) ? Math.max(0, value) : otherwise
}

function lengthOf(list: unknown): number {
  return Array.isArray(list) ? list.length : 0
}

function unescapePointer(part: string): string {
  let name = part
  try {
    name = decodeURIComponent(part)
  } catch {
    // A lone percent sign is taken as it stands.
  }
  return name.replaceAll('~1', '/').replaceAll('~0', '~')
}
