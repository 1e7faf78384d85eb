// JSON Schema in, a small value that fits it out: what the simulated model puts into tool calls and structured
// answers. Pure and deterministic; the schema is a stranger's, so nodes, steps and depth are bounded and nothing throws.

import { isObject } from '../../bytes/json-value.ts'
import {
  isSame,
  matchesSchema,
  namesOf,
  type Purse,
  readItems,
  readTypes,
  resolveReference,
  type SchemaFields,
  toCount,
} from './match-schema.ts'
import { samplePattern } from './sample-pattern.ts'

export interface SampleOptions {
  /** Values in the sample, at most. */
  readonly nodes?: number
  /** Work on it, at most: schemas visited, candidates tried. */
  readonly steps?: number
  /** Optional properties are given down to this depth; the root is 0. */
  readonly optionalDepth?: number
}

interface Work {
  readonly root: unknown
  readonly purse: Purse
  readonly optionalDepth: number
  /** Below this only null is written. */
  readonly maxDepth: number
  /** Values that may still be made. */
  nodes: number
  /** Characters that strings may still be stretched by. */
  characters: number
}

interface Place {
  readonly depth: number
  /** 0 for the value one would think of first; other numbers for others, where items must be unique. */
  readonly variation: number
}

const DEPTHS = [4, 8, 16, 48]
const MAX_VARIANTS = 16
const MAX_REFERENCES = 32
const MAX_CHARACTERS = 16_384
const MAX_EXTRA_PROPERTIES = 100

/**
 * A value that fits `schema`, the same one every time. No schema, or `true`, gives `{}`; one that nothing fits,
 * or that is beyond the bounds, gives something near. Booleans are false and numbers small: the value may end up
 * in a real tool.
 */
export function sampleSchema(schema: unknown, options: SampleOptions = {}): unknown {
  const { nodes = 2000, steps = 50_000, optionalDepth = 3 } = options
  let first: { readonly value: unknown } | undefined
  // A schema that holds itself is met soonest by a shallow value; only what does not fit is looked for further down.
  for (const maxDepth of DEPTHS) {
    const purse = { steps: steps / DEPTHS.length }
    const work: Work = { root: schema, purse, optionalDepth, maxDepth, nodes, characters: MAX_CHARACTERS }
    const value = sample(schema, work, { depth: 0, variation: 0 })
    if (matchesSchema(schema, value, { root: schema, purse: { steps } })) return value
    first ??= { value }
  }
  return first?.value
}

/** The first candidate that fits; when none does, the first one. */
function sample(schema: unknown, work: Work, place: Place): unknown {
  work.nodes -= 1
  if (!isObject(schema)) return schema === false ? null : {}
  if (place.depth > work.maxDepth || isSpent(work)) return null
  const before = work.nodes
  let first: { readonly value: unknown; readonly nodes: number } | undefined
  for (const make of candidates(schema, work, place)) {
    work.nodes = before
    const value = make()
    if (value === undefined) continue
    if (matchesSchema(schema, value, work)) return value
    first ??= { value, nodes: work.nodes }
    if (isSpent(work)) break
  }
  if (first === undefined) return {}
  work.nodes = first.nodes
  return first.value
}

/** Ways to make a value, the most telling first. Each returns undefined where it does not apply. */
function* candidates(schema: SchemaFields, work: Work, place: Place): Generator<() => unknown> {
  const variants = flatten(schema, work, 0)
  for (const flat of variants) {
    if (Object.hasOwn(flat, 'const')) yield () => given(flat.const, work)
    if (Object.hasOwn(flat, 'default') && place.variation === 0) yield () => given(flat.default, work)
    if (Array.isArray(flat.enum)) yield () => choose(flat, work, place)
    for (const type of typesOf(flat)) {
      yield () => ofType(type, flat, work, { ...place, lean: false })
      if (type === 'object') yield () => toObject(flat, work, { ...place, lean: true })
      if (type === 'number') yield () => toFraction(flat)
    }
  }
}

/** A value out of the schema itself, if there is room for it. */
function given(value: unknown, work: Work): unknown {
  const size = countValues(value, work.nodes)
  if (size > work.nodes) return undefined
  work.nodes -= size - 1
  return value
}

function choose(flat: SchemaFields, work: Work, { variation }: Place): unknown {
  if (!Array.isArray(flat.enum)) return undefined
  const { enum: values, ...rest } = flat
  const fitting: unknown[] = []
  for (const value of values.slice(0, 1000)) {
    if (isSpent(work)) break
    if (matchesSchema(rest, value, work)) fitting.push(value)
    if (fitting.length > variation) break
  }
  return fitting.length === 0 ? undefined : given(fitting[variation % fitting.length], work)
}

type Measured = Place & { readonly lean: boolean }

function ofType(type: string, flat: SchemaFields, work: Work, place: Measured): unknown {
  switch (type) {
    case 'null':
      return null
    case 'boolean':
      return place.variation % 2 === 1
    case 'integer':
    case 'number':
      return toNumber(flat, type === 'integer', place.variation)
    case 'string':
      return toText(flat, work, place.variation)
    case 'array':
      return toArray(flat, work, place)
    case 'object':
      return toObject(flat, work, place)
    default:
      return undefined
  }
}

// --- objects and arrays ----------------------------------------------------------------------------------

function toObject(flat: SchemaFields, work: Work, { depth, variation, lean }: Measured): unknown {
  const properties = isObject(flat.properties) ? flat.properties : {}
  const required = new Set(namesOf(flat.required))
  const most = toCount(flat.maxProperties, Number.POSITIVE_INFINITY)
  const others = restOfObject(flat)
  const made = new Map<string, unknown>()
  work.purse.steps -= sizeOf(properties)
  const add = (name: string, schema: unknown) => {
    if (!made.has(name) && work.nodes > 0)
      made.set(name, sample(schema, work, { depth: depth + 1, variation }))
  }
  // Required ones first, for they must have their share of a small budget; the order shown is the schema's.
  for (const name of required) add(name, Object.hasOwn(properties, name) ? properties[name] : others)
  const room = lean || depth >= work.optionalDepth ? 0 : most - made.size
  const optional = Object.keys(properties).filter((name) => !required.has(name) && properties[name] !== false)
  for (const name of optional.slice(0, Math.max(0, room))) {
    if (!isSpent(work)) add(name, properties[name])
  }
  const least = Math.min(toCount(flat.minProperties, 0), made.size + MAX_EXTRA_PROPERTIES)
  // Declared ones are safer than invented ones, also where optional ones are left out.
  for (const name of optional) if (made.size < least) add(name, properties[name])
  for (let count = 1; made.size < least && count <= MAX_EXTRA_PROPERTIES && others !== false; count += 1) {
    add(inventName(flat, count, work), others)
  }
  const declared = Object.keys(properties).filter((name) => made.has(name))
  const names = new Set([...declared, ...made.keys()])
  // `fromEntries` makes `__proto__` a property like any other.
  return Object.fromEntries([...names].map((name) => [name, made.get(name)]))
}

/** The schema of properties that are not declared. */
function restOfObject({ patternProperties, additionalProperties }: SchemaFields): unknown {
  if (!isObject(patternProperties)) return additionalProperties
  const [first] = Object.values(patternProperties)
  return first ?? additionalProperties
}

function inventName({ patternProperties, propertyNames }: SchemaFields, count: number, work: Work): string {
  const wish = { minLength: 1, maxLength: 200, variation: count }
  if (isObject(patternProperties)) {
    const [pattern] = Object.keys(patternProperties)
    const name = pattern === undefined ? undefined : samplePattern(pattern, wish)
    if (name !== undefined) return name
  }
  if (isObject(propertyNames)) {
    const name = sample(
      { type: 'string', ...propertyNames },
      { ...work, nodes: 10 },
      { depth: 0, variation: count },
    )
    if (typeof name === 'string') return name
  }
  return `key${count}`
}

function toArray(flat: SchemaFields, work: Work, { depth, variation }: Place): unknown {
  const { tuple, rest } = readItems(flat)
  const contains = flat.contains
  const least = toCount(flat.minItems, 0)
  const most = toCount(flat.maxItems, Number.POSITIVE_INFINITY)
  const found = contains === undefined ? 0 : toCount(flat.minContains, 1)
  const wanted = Math.max(least, found, depth < work.optionalDepth ? Math.max(1, tuple.length) : 0)
  const count = Math.min(wanted, most, rest === false ? tuple.length : Number.POSITIVE_INFINITY)
  const unique = flat.uniqueItems === true
  const seen = new Set<string>()
  const items: unknown[] = []
  // Twice as many tries as items are enough for what can be varied at all.
  for (let tries = 0; items.length < count && tries < 2 * count && !isSpent(work); tries += 1) {
    const own = items.length < tuple.length ? tuple[items.length] : rest
    const schema = items.length < found ? { allOf: [own ?? true, contains] } : (own ?? true)
    const before = work.nodes
    const item = sample(schema, work, { depth: depth + 1, variation: unique ? variation + tries : variation })
    const key = unique ? JSON.stringify(item) : ''
    if (unique && seen.has(key)) {
      work.nodes = before
      continue
    }
    seen.add(key)
    items.push(item)
  }
  return items
}

// --- numbers and texts -----------------------------------------------------------------------------------

/** A small number inside the bounds, on the grid of `multipleOf`. */
function toNumber(flat: SchemaFields, whole: boolean, variation: number): unknown {
  const { least, most } = readBounds(flat)
  const multiple = typeof flat.multipleOf === 'number' && flat.multipleOf > 0 ? flat.multipleOf : undefined
  const check = { minimum: flat.minimum, maximum: flat.maximum, multipleOf: multiple, ...exclusives(flat) }
  const fits = (value: number) =>
    (!whole || Number.isInteger(value)) &&
    matchesSchema(check, value, { root: undefined, purse: { steps: 10 } }) &&
    Number.isFinite(value)

  const start = least ?? Math.min(1, most ?? 1)
  const step = multiple ?? 1
  const onGrid = Math.ceil(start / step)
  // Where the whole grid fits, which is nearly always, the place is known; else the fitting ones are counted.
  const direct = (onGrid + variation) * step
  if (fits(direct)) return direct + 0 // no -0
  let skip = variation
  // Upwards from the lower bound, then downwards from the upper one; `0.1` has neighbours that are not its multiples.
  for (let turn = 0; turn < 200 + variation; turn += 1) {
    const value = (onGrid + turn) * step
    if (fits(value) && skip-- === 0) return value + 0 // no -0
    if (most !== undefined && value > most) break
  }
  if (most !== undefined && least === undefined) {
    for (let turn = 0; turn < 200 + variation; turn += 1) {
      const value = (Math.floor(most / step) - turn) * step
      if (fits(value) && skip-- <= 0) return value + 0
    }
  }
  // No whole number between the bounds: something between them.
  const low = least ?? (most ?? 1) - 1
  const high = most ?? low + 1
  for (let part = 2 + variation; part < 6 + variation; part += 1) {
    const value = low + (high - low) / part
    if (fits(value)) return value
  }
  return fits(low) ? low : fits(high) ? high : start
}

/** A number that is no integer, for schemas that tell the two apart. */
function toFraction(flat: SchemaFields): number {
  const { least, most } = readBounds(flat)
  return (least ?? (most ?? 1) - 1) + 0.5
}

function exclusives({ exclusiveMinimum, exclusiveMaximum }: SchemaFields): SchemaFields {
  return { exclusiveMinimum, exclusiveMaximum }
}

function readBounds(flat: SchemaFields): { least: number | undefined; most: number | undefined } {
  return {
    least: extreme([flat.minimum, flat.exclusiveMinimum], Math.max),
    most: extreme([flat.maximum, flat.exclusiveMaximum], Math.min),
  }
}

function extreme(values: readonly unknown[], pick: (...numbers: number[]) => number): number | undefined {
  const numbers = values.filter((value) => typeof value === 'number')
  return numbers.length === 0 ? undefined : pick(...numbers)
}

function toText(flat: SchemaFields, work: Work, variation: number): string {
  const minLength = toCount(flat.minLength, 0)
  const maxLength = toCount(flat.maxLength, Number.POSITIVE_INFINITY)
  if (typeof flat.pattern === 'string') {
    work.purse.steps -= 20
    const length = Math.min(minLength, work.characters)
    const text = samplePattern(flat.pattern, { minLength: length, maxLength, variation })
    if (text !== undefined) return text
  }
  const known = typeof flat.format === 'string' ? ofFormat(flat.format, variation) : undefined
  let text = known ?? (variation === 0 ? 'simulated' : `simulated-${variation}`)
  // The end tells variations apart, so it is the beginning that goes.
  if (text.length > maxLength && known === undefined) text = maxLength === 0 ? '' : text.slice(-maxLength)
  if (text.length >= minLength) return text
  const missing = Math.min(minLength - text.length, Math.max(0, work.characters))
  work.characters -= missing
  return known === undefined ? 'x'.repeat(missing) + text : text + 'x'.repeat(missing)
}

/** Values of the formats that tools name; from the ranges reserved for examples, so that they reach nobody. */
function ofFormat(format: string, variation: number): string | undefined {
  const number = variation === 0 ? '' : `${variation}`
  const two = `${variation % 60}`.padStart(2, '0')
  const date = new Date(Date.UTC(2026, 0, 15) + variation * 86_400_000).toISOString()
  switch (format) {
    case 'date-time':
      return date.replace('.000', '')
    case 'date':
      return date.slice(0, 10)
    case 'time':
      return `09:30:${two}Z`
    case 'duration':
      return `PT${variation + 1}H`
    case 'email':
    case 'idn-email':
      return `agent${number}@example.com`
    case 'uri':
    case 'url':
    case 'iri':
    case 'uri-reference':
    case 'iri-reference':
      return `https://example.com/${number}`
    case 'uri-template':
      return `https://example.com/{id}${number}`
    case 'uuid':
      return `00000000-0000-4000-8000-${variation.toString(16).padStart(12, '0')}`
    case 'ipv4':
      return `192.0.2.${(variation % 254) + 1}`
    case 'ipv6':
      return `2001:db8::${(variation + 1).toString(16)}`
    case 'hostname':
    case 'idn-hostname':
      return variation === 0 ? 'example.com' : `host${variation}.example.com`
    case 'json-pointer':
      return `/simulated${number}`
    case 'regex':
      return `simulated${number}`
    case 'byte':
      return Buffer.from(`simulated${number}`).toString('base64')
    default:
      return undefined
  }
}

// --- schemas ---------------------------------------------------------------------------------------------

/** A schema without references and alternatives: the ways in which it can be met, merged, at most MAX_VARIANTS. */
function flatten(schema: unknown, work: Work, hops: number): readonly SchemaFields[] {
  if (schema === false) return []
  if (!isObject(schema)) return [{}]
  work.purse.steps -= 1
  if (hops > MAX_REFERENCES || isSpent(work)) return [{}]
  const { $ref, allOf, anyOf, oneOf, if: condition, then, else: otherwise, ...own } = schema
  const parts = (list: unknown): readonly unknown[] => (Array.isArray(list) ? list : [])
  const either = (list: unknown) => {
    const ways: SchemaFields[] = []
    for (const part of parts(list)) {
      if (ways.length >= MAX_VARIANTS) break
      ways.push(...flatten(part, work, hops + 1))
    }
    // Null fits, but tells nothing.
    return ways.toSorted((one, other) => Number(one.type === 'null') - Number(other.type === 'null'))
  }

  let ways: readonly SchemaFields[] = [own]
  if (typeof $ref === 'string')
    ways = cross(ways, flatten(resolveReference($ref, work.root), work, hops + 1), work)
  for (const part of parts(allOf)) {
    if (isSpent(work)) break
    ways = cross(ways, flatten(part, work, hops + 1), work)
  }
  if (Array.isArray(anyOf) && anyOf.length > 0) ways = cross(ways, either(anyOf), work)
  if (Array.isArray(oneOf) && oneOf.length > 0) ways = cross(ways, either(oneOf), work)
  if (condition === undefined) return ways
  const met = either([{ allOf: [condition, then ?? true] }])
  return cross(ways, [{}, ...met, ...either([otherwise ?? true])], work)
}

function cross(
  ones: readonly SchemaFields[],
  others: readonly SchemaFields[],
  work: Work,
): readonly SchemaFields[] {
  const ways: SchemaFields[] = []
  for (const one of ones) {
    for (const other of others) {
      if (ways.length >= MAX_VARIANTS) return ways
      work.purse.steps -= 1 + sizeOf(one.properties) + sizeOf(other.properties)
      ways.push(merge(one, other))
    }
  }
  return ways
}

/** One schema that says what two say. Where they cannot be joined the second is heard; the check comes later. */
function merge(one: SchemaFields, other: SchemaFields): SchemaFields {
  if (Object.keys(one).length === 0) return other
  const merged = new Map(Object.entries(one))
  for (const [keyword, theirs] of Object.entries(other)) {
    const ours = merged.get(keyword)
    merged.set(keyword, ours === undefined ? theirs : join(keyword, ours, theirs))
  }
  return Object.fromEntries(merged)
}

function join(keyword: string, ours: unknown, theirs: unknown): unknown {
  switch (keyword) {
    case 'type':
      return joinTypes(ours, theirs)
    case 'enum':
      return Array.isArray(ours) && Array.isArray(theirs) ? intersect(ours, theirs) : theirs
    case 'required':
      return [...new Set([...namesOf(ours), ...namesOf(theirs)])]
    case 'properties':
    case 'patternProperties':
      return joinProperties(ours, theirs)
    case 'items':
    case 'additionalProperties':
    case 'contains':
    case 'propertyNames':
      return ours === false || theirs === false ? false : { allOf: [ours, theirs] }
    case 'not':
      return { anyOf: [ours, theirs] }
    case 'minimum':
    case 'exclusiveMinimum':
    case 'minLength':
    case 'minItems':
    case 'minProperties':
    case 'minContains':
      return extreme([ours, theirs], Math.max) ?? theirs
    case 'maximum':
    case 'exclusiveMaximum':
    case 'maxLength':
    case 'maxItems':
    case 'maxProperties':
      return extreme([ours, theirs], Math.min) ?? theirs
    case 'multipleOf':
      return joinMultiples(ours, theirs)
    case 'uniqueItems':
      return ours === true || theirs === true
    case 'default':
    case 'const':
      return ours
    default:
      return theirs
  }
}

/** The types both permit; every integer is a number. */
function joinTypes(ours: unknown, theirs: unknown): unknown {
  const one = readTypes({ type: ours }) ?? []
  const other = readTypes({ type: theirs }) ?? []
  const both = one.flatMap((type) => {
    if (other.includes(type) || (type === 'integer' && other.includes('number'))) return [type]
    return type === 'number' && other.includes('integer') ? ['integer'] : []
  })
  return both.length === 0 ? ours : both
}

function joinProperties(ours: unknown, theirs: unknown): unknown {
  if (!isObject(ours) || !isObject(theirs)) return theirs
  const joined = new Map(Object.entries(ours))
  for (const [name, schema] of Object.entries(theirs)) {
    joined.set(name, joined.has(name) ? { allOf: [joined.get(name), schema] } : schema)
  }
  return Object.fromEntries(joined)
}

function joinMultiples(ours: unknown, theirs: unknown): unknown {
  if (typeof ours !== 'number' || typeof theirs !== 'number') return theirs
  if (!Number.isSafeInteger(ours) || !Number.isSafeInteger(theirs)) return ours * theirs
  let [one, other] = [Math.abs(ours), Math.abs(theirs)]
  while (other !== 0) [one, other] = [other, one % other]
  return one === 0 ? theirs : (ours / one) * theirs
}

function intersect(ours: readonly unknown[], theirs: readonly unknown[]): readonly unknown[] {
  const few = theirs.slice(0, 200)
  return ours.slice(0, 200).filter((value) => few.some((other) => isSame(value, other)))
}

/** The types to try, null last; without a type, the one that the other keywords speak of. */
function typesOf(flat: SchemaFields): readonly string[] {
  const types = readTypes(flat)
  if (types !== undefined)
    return types.toSorted((one, other) => Number(one === 'null') - Number(other === 'null'))
  for (const [type, keywords] of Object.entries(SPEAKS_OF)) {
    if (keywords.some((keyword) => flat[keyword] !== undefined)) return [type]
  }
  // Anything goes; what comes after the first is for a `not`.
  return ['object', 'string', 'number', 'array', 'boolean', 'null']
}

const SPEAKS_OF: Readonly<Record<string, readonly string[]>> = {
  object: [
    'properties',
    'required',
    'additionalProperties',
    'patternProperties',
    'minProperties',
    'propertyNames',
  ],
  array: ['items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems', 'contains'],
  string: ['pattern', 'format', 'minLength', 'maxLength'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
}

/** What it costs, in steps, to go through the properties of a schema. */
function sizeOf(properties: unknown): number {
  return isObject(properties) ? Object.keys(properties).length / 8 : 0
}

function isSpent(work: Work): boolean {
  return work.nodes <= 0 || work.purse.steps <= 0
}

/** Counts the values in a value, until there are more than `limit`. */
function countValues(value: unknown, limit: number): number {
  const open: unknown[] = [value]
  let count = 0
  while (open.length > 0 && count <= limit) {
    const item = open.pop()
    count += 1
    if (typeof item === 'object' && item !== null) for (const inner of Object.values(item)) open.push(inner)
  }
  return count
}
