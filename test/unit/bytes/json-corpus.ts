// Makes JSON that is legal and strange, and bytes that are nearly JSON. Also says, from the text alone and without the
// scanner's code, what of a document the scanner must refuse although `JSON.parse` reads it.

import type { Random } from './random.ts'

/** Names that steer the gateway, names that look like them, and names that have bitten other programs. */
export const NAMES = [
  'model',
  'stream',
  'stream_options',
  'include_usage',
  'n',
  'max_tokens',
  'max_completion_tokens',
  'messages',
  'temperature',
  'tools',
  'Model',
  'MODEL',
  'ſtream',
  'ſtream_options',
  'include_uſage',
  'max_toKens',
  'STREAM',
  'modél',
  'model ',
  ' model',
  'models',
  'Provider',
  'api_base',
  'previous_response_id',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  '',
  '0',
  '17',
  'ключ',
  '鍵',
  '👩‍🚀',
] as const

const PLAIN_NAMES = NAMES.filter((name) => name !== '__proto__')

const PIECES = [
  'a',
  'hello world',
  'é',
  'ß',
  '日本語',
  '👩‍🚀',
  '\u2028',
  '\u2029',
  '\u007f',
  '\ufeff',
  '\u00a0',
  '/',
  '{"model":"x"}',
  '[1,2',
  ':',
  ',',
  '}',
  ']',
  "'",
  '\\n',
  '\\"',
  '\\\\',
  '\\/',
  '\\b\\f\\r\\t',
  '\\u0041',
  '\\u00e9',
  '\\ud83d\\ude00',
  '\\ud800',
  '\\uDFFF',
  '\\u0000',
  '\\u2028',
] as const

const NUMBERS = [
  '0',
  '-0',
  '1',
  '-1',
  '17',
  '1.5',
  '-0.0',
  '0e0',
  '1e3',
  '1E+3',
  '1.0e-7',
  '1e400',
  '-1e400',
  '9007199254740993',
  '123456789012345678901234567890',
  '0.1000000000000000055511151231257827',
] as const

/** What is no JSON, or no JSON everywhere, and has a chance to be taken for it. */
const SHARDS = [
  '\ufeff',
  '\u00a0',
  '\u000b',
  '\u0000',
  'NaN',
  'Infinity',
  'undefined',
  "'a'",
  '//x\n',
  '/*x*/',
  '01',
  '+1',
  '.5',
  '1.',
  '1e',
  '0x10',
  '-',
  ',',
  ',,',
  ':',
  '{',
  '}',
  '[',
  ']',
  '"',
  '\\',
  '\\u12',
  'tru',
  'True',
  'null',
  '{}',
  '[]',
] as const

export interface CorpusShape {
  /** How deep values nest at most. */
  readonly depth: number
}

/** The text of an object, often with steering members, sometimes with names that must be refused. */
export function objectText(random: Random, { depth }: CorpusShape = { depth: 4 }): string {
  return space(random) + object(random, { depth, isTop: true }) + space(random)
}

/** Any JSON value. */
export function valueText(random: Random, depth = 3): string {
  switch (random.below(depth > 0 ? 8 : 5)) {
    case 0:
      return random.pick(['true', 'false', 'null'])
    case 1:
      return random.oneIn(40) ? '9'.repeat(1 + random.below(400)) : random.pick(NUMBERS)
    case 2:
    case 3:
    case 4:
      return stringText(random)
    case 5:
    case 6: {
      const items = Array.from({ length: random.below(4) }, () => valueText(random, depth - 1))
      return `[${space(random)}${items.join(`${space(random)},${space(random)}`)}${space(random)}]`
    }
    default:
      return object(random, { depth: depth - 1, isTop: false })
  }
}

export function stringText(random: Random): string {
  let text = '"'
  for (let left = random.below(4); left > 0; left -= 1) text += random.pick(PIECES)
  return `${text}"`
}

/** White space of JSON, mostly none. */
export function space(random: Random): string {
  if (!random.oneIn(4)) return ''
  let text = ''
  for (let left = 1 + random.below(3); left > 0; left -= 1) text += random.pick([' ', '\t', '\n', '\r', '  '])
  return text
}

function object(random: Random, { depth, isTop }: { depth: number; isTop: boolean }): string {
  const members: string[] = []
  for (let left = random.below(isTop ? 7 : 4); left > 0; left -= 1) {
    const key = keyText(random)
    members.push(
      `${space(random)}${key}${space(random)}:${space(random)}${valueFor(random, key, depth)}${space(random)}`,
    )
  }
  if (isTop && random.oneIn(2)) members.unshift(`"model"${space(random)}:${space(random)}"m"`)
  // A member written again, the way smuggled ones are.
  if (members.length > 0 && random.oneIn(16)) members.push(random.pick(members))
  return `{${members.length === 0 ? space(random) : members.join(',')}}`
}

/** Mostly a value of the type that the name asks for, so that many requests are good. */
function valueFor(random: Random, key: string, depth: number): string {
  if (random.oneIn(4)) return valueText(random, depth)
  switch (key) {
    case '"model"':
      return random.pick(['"m"', '"gpt-oss-120b"', '"a/b"', '"\\u006d"', '"ключ"', '""'])
    case '"stream"':
    case '"include_usage"':
      return random.pick(['true', 'false', 'null'])
    case '"stream_options"':
      return random.pick([
        '{}',
        'null',
        '{ }',
        '{"include_usage":true}',
        '{ "include_usage" : false , "x" : [] }',
        '{"x":{"include_usage":true}}',
        '{"Include_Usage":true}',
        '{"include_uſage":true}',
        '{"include_usage":true,"include_usage":false}',
      ])
    case '"n"':
    case '"max_tokens"':
    case '"max_completion_tokens"':
      return random.pick(['1', '2', '64', '1e2', '1.0', 'null', '0', '-1', '1.5'])
    default:
      return valueText(random, depth)
  }
}

function keyText(random: Random): string {
  if (random.oneIn(12)) return stringText(random)
  const name: string = random.oneIn(60) ? '__proto__' : random.pick(PLAIN_NAMES)
  if (name.length === 0 || !random.oneIn(40)) return `"${name}"`
  // One character written as an escape: the same name to JSON.parse.
  const at = random.below(name.length)
  const code = name.charCodeAt(at).toString(16).padStart(4, '0')
  return `"${name.slice(0, at)}\\u${code}${name.slice(at + 1)}"`
}

/** The bytes with one to three small injuries: flipped, cut, doubled, moved, or with something foreign inside. */
export function mutate(random: Random, bytes: Buffer): Buffer {
  let mutated = bytes
  for (let left = 1 + random.below(3); left > 0; left -= 1) mutated = mutateOnce(random, mutated)
  return mutated
}

function mutateOnce(random: Random, bytes: Buffer): Buffer {
  const at = random.below(bytes.length + 1)
  const before = bytes.subarray(0, at)
  const after = bytes.subarray(at)
  switch (random.below(8)) {
    case 0: {
      const flipped = Buffer.from(bytes)
      if (at < flipped.length) flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8))
      return flipped
    }
    case 1: {
      const set = Buffer.from(bytes)
      if (at < set.length) set[at] = random.below(256)
      return set
    }
    case 2:
      return before
    case 3:
      return Buffer.concat([before, Buffer.from(random.pick(SHARDS)), after])
    case 4:
      return Buffer.concat([before, Buffer.from([0x80 + random.below(128)]), after])
    case 5: {
      const length = random.below(12)
      return Buffer.concat([before, after.subarray(Math.min(length, after.length))])
    }
    case 6:
      return Buffer.concat([before, after.subarray(0, random.below(24)), after])
    default:
      return Buffer.concat([Buffer.from(random.pick(['\ufeff', ' ', '[', 'x', '{}'])), bytes])
  }
}

/** Why a document that `JSON.parse` accepts may be refused. */
export type Ground =
  | 'not an object'
  | 'escaped name'
  | 'double name'
  | 'forbidden name'
  | 'too deep'
  | 'too many keys'
  | 'too many elements'

/** Every ground that holds for a text that `JSON.parse` accepts. Reads tokens by a pattern, as the scanner does not. */
export function groundsOf(
  text: string,
  bounds: { readonly depth: number; readonly keys: number; readonly items: number },
): Set<Ground> {
  const grounds = new Set<Ground>()
  const seen = new Set<string>()
  const open: string[] = []
  let keys = 0
  let items = 0
  let isFirst = true
  const token = /"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\],]|[^\s"{}[\],:]+/g
  for (const [word, colon] of text.matchAll(token)) {
    if (isFirst && word !== '{') grounds.add('not an object')
    isFirst = false
    if (word === '{' || word === '[') {
      open.push(word)
      if (open.length > bounds.depth) grounds.add('too deep')
    } else if (word === '}' || word === ']') open.pop()
    else if (word === ',') {
      if (open.at(-1) === '[') items += 1
      if (items > bounds.items) grounds.add('too many elements')
    } else if (colon !== undefined) {
      keys += 1
      if (keys > bounds.keys) grounds.add('too many keys')
      if (open.length !== 1) continue
      const name = word.slice(1, word.lastIndexOf('"'))
      if (name.includes('\\')) grounds.add('escaped name')
      if (name === '__proto__') grounds.add('forbidden name')
      if (seen.has(name)) grounds.add('double name')
      seen.add(name)
    }
  }
  return grounds
}

/** Equal as JSON values; −0 is not 0, and an own `__proto__` is a member like any other. */
export function same(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return Object.is(a, b)
  if (Array.isArray(a) !== Array.isArray(b)) return false
  const left = Object.entries(a)
  const right = Object.entries(b)
  return (
    left.length === right.length &&
    left.every(([name, value], i) => name === right[i]?.[0] && same(value, right[i]?.[1]))
  )
}
