// An error as text for a log or for the last words of the process. Looks at a value that may be hostile: it calls no
// getter of the error's own properties, survives proxies and cycles, and never prints bytes, headers or packets.

import type { Scrubber } from './scrubber.ts'
import { REDACTED } from './text-stage.ts'

const MAX_DEPTH = 4
const MAX_CHARS = 8 * 1024
const MAX_PIECE = 4 * 1024
/** Of a longer string only this much is scrubbed, and much less is shown. */
const MAX_SCRUBBED = 64 * 1024
const MAX_ENTRIES = 24

/** Never rendered: a request's headers hold credentials, a packet (`HPE_…` errors of Node) holds the request itself. */
const HIDDEN =
  /^(?:raw-?)?(?:headers|packet|trailers)$|^(?:request|response)Headers$|^set-?cookie$|^cookies?$/i
const SECRET_NAMES = /authorization|api[-_]?key|passw(?:or)?d|secret|credential|bearer|token$/i

/** Name, message, stack, causes, errors of an aggregate and own properties, at most 4 levels and 8 KiB, scrubbed. Never throws. */
export function describeError(error: unknown, scrubber: Scrubber): string {
  const state: Rendering = { scrubber, lines: [], left: MAX_CHARS * 2, seen: new Set() }
  try {
    renderThrown(state, error, '', 0)
  } catch {
    put(state, '', '[error that cannot be described]')
  }
  // Once more as a whole, for what stands across two pieces; cut only after, so that no half of a secret is left.
  const text = scrubber.text(state.lines.join('\n'))
  return text.length <= MAX_CHARS ? text : `${text.slice(0, MAX_CHARS - 12).toWellFormed()}\n[truncated]`
}

interface Rendering {
  readonly scrubber: Scrubber
  readonly lines: string[]
  /** Characters that may still be added. */
  left: number
  readonly seen: Set<object>
}

function renderThrown(state: Rendering, thrown: unknown, label: string, depth: number): void {
  if (state.left <= 0) return
  const indent = '  '.repeat(depth)
  if (!isErrorLike(thrown)) {
    put(state, indent, `${label}${describe(state, thrown, depth)}`)
    return
  }
  if (state.seen.has(thrown)) {
    put(state, indent, `${label}[circular]`)
    return
  }
  if (depth > MAX_DEPTH) {
    put(state, indent, `${label}[deeper]`)
    return
  }
  state.seen.add(thrown)
  const name = textOf(thrown, 'name') ?? 'Error'
  const message = textOf(thrown, 'message') ?? ''
  const stack = textOf(thrown, 'stack')
  const headline = message === '' ? name : `${name}: ${message}`
  put(state, indent, `${label}${clip(state, headline)}`)
  // V8 begins a stack with the headline of the time it was made; the frames are what is wanted.
  const frames = stack?.split('\n').filter((line) => /^\s+at /.test(line)) ?? []
  if (frames.length > 0) put(state, indent, clip(state, frames.slice(0, 32).join('\n')))
  for (const [key, value] of ownValues(thrown)) {
    if (/^(?:name|message|stack|cause|errors)$/.test(key)) continue
    put(state, indent, `  ${clip(state, key)}: ${describeNamed(state, key, value, depth + 1)}`)
  }
  const cause = ownValueOf(thrown, 'cause')
  if (cause !== undefined) renderThrown(state, cause, 'cause: ', depth + 1)
  const errors = ownValueOf(thrown, 'errors')
  if (!isArray(errors)) return
  for (let i = 0; i < Math.min(lengthOf(errors), MAX_ENTRIES); i++) {
    renderThrown(state, ownValueOf(errors, String(i)), `errors[${i}]: `, depth + 1)
  }
}

function describeNamed(state: Rendering, key: string, value: unknown, depth: number): string {
  if (HIDDEN.test(key)) return '[hidden]'
  if (typeof value === 'string' && SECRET_NAMES.test(key)) return REDACTED
  return describe(state, value, depth)
}

function describe(state: Rendering, value: unknown, depth: number): string {
  switch (typeof value) {
    case 'string':
      return clip(state, value)
    case 'function':
      return '[function]'
    case 'symbol':
      return clip(state, value.toString())
    case 'object':
      return value === null ? 'null' : describeObject(state, value, depth)
    default:
      return clip(state, String(value))
  }
}

function describeObject(state: Rendering, value: object, depth: number): string {
  const bytes = byteLengthOf(value)
  if (bytes !== undefined) return `[${bytes} bytes]`
  if (state.seen.has(value)) return '[circular]'
  if (depth > MAX_DEPTH || state.left <= 0) return '[deeper]'
  state.seen.add(value)
  if (isErrorLike(value)) {
    const message = textOf(value, 'message') ?? ''
    return clip(state, `${textOf(value, 'name') ?? 'Error'}: ${message}`)
  }
  if (isDate(value)) return dateText(value)
  const array = isArray(value)
  const parts: string[] = []
  let size = 0
  for (const [key, item] of ownValues(value)) {
    const text = describeNamed(state, key, item, depth + 1)
    const part = array ? text : `${clip(state, key)}: ${text}`
    size += part.length
    if (size > MAX_PIECE) {
      parts.push('…')
      break
    }
    parts.push(part)
  }
  if (array) return `[${parts.join(', ')}]`
  return parts.length === 0 ? `[${clip(state, classOf(value))}]` : `{ ${parts.join(', ')} }`
}

function put(state: Rendering, indent: string, text: string): void {
  if (state.left <= 0) return
  const line = indent === '' ? text : text.replace(/^/gm, indent)
  state.left -= line.length + 1
  state.lines.push(line)
}

/** Scrubbed first and cut afterwards: half a secret would not be known as one. */
function clip(state: Rendering, text: string): string {
  let clean: string
  if (text.length <= MAX_SCRUBBED) clean = state.scrubber.text(text)
  else {
    const stream = state.scrubber.stream()
    const head = stream.push(Buffer.from(text.slice(0, MAX_SCRUBBED)))
    clean = Buffer.concat([head, stream.flush()]).toString()
  }
  return clean.length <= MAX_PIECE ? clean : `${clean.slice(0, MAX_PIECE).toWellFormed()}…`
}

// --- looking at what may be hostile ----------------------------------------------------------------------

function isErrorLike(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false
  try {
    return (
      value instanceof Error ||
      (typeof ownValueOf(value, 'message') === 'string' && textOf(value, 'stack') !== undefined)
    )
  } catch {
    return false
  }
}

function isArray(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value)
  } catch {
    return false
  }
}

function lengthOf(array: readonly unknown[]): number {
  const length = ownValueOf(array, 'length')
  return typeof length === 'number' ? length : 0
}

function isDate(value: object): value is Date {
  try {
    return value instanceof Date
  } catch {
    return false
  }
}

function dateText(date: Date): string {
  try {
    return date.toISOString()
  } catch {
    return '[invalid date]'
  }
}

function byteLengthOf(value: object): number | undefined {
  try {
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) {
      return value.byteLength
    }
  } catch {
    return 0
  }
  return undefined
}

function classOf(value: object): string {
  try {
    const prototype: unknown = Object.getPrototypeOf(value)
    const make =
      typeof prototype === 'object' && prototype !== null ? ownValueOf(prototype, 'constructor') : undefined
    return typeof make === 'function' && typeof make.name === 'string' ? make.name : 'Object'
  } catch {
    return 'Object'
  }
}

/** The properties of every error are read, as `stack` and inherited names are accessors; a throwing one is absent. */
function textOf(value: object, key: 'name' | 'message' | 'stack'): string | undefined {
  try {
    const text: unknown = Reflect.get(value, key)
    return typeof text === 'string' ? text : undefined
  } catch {
    return undefined
  }
}

/** An own value; undefined for a getter, which is not called. */
function ownValueOf(value: object, key: string): unknown {
  try {
    return Reflect.getOwnPropertyDescriptor(value, key)?.value
  } catch {
    return undefined
  }
}

/** Own enumerable properties without getters, a bounded number of them. */
function ownValues(value: object): [string, unknown][] {
  const found: [string, unknown][] = []
  try {
    for (const key of Reflect.ownKeys(value)) {
      if (found.length >= MAX_ENTRIES) break
      const own = Reflect.getOwnPropertyDescriptor(value, key)
      if (own?.enumerable !== true || !('value' in own)) continue
      found.push([typeof key === 'symbol' ? key.toString() : key, own.value])
    }
  } catch {
    found.push(['[unreadable]', undefined])
  }
  return found
}
