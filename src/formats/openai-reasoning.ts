// What a model thought, in OpenAI's chat: `reasoning_content` as text, and `reasoning_details` where parts are signed or
// sealed (the extension that OpenRouter began and its clients hand back). Pure.

import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Seal, ThinkingPart } from './canonical.ts'

/** The name of this format, as the origin of what only a provider of it can read again. */
const OWN = 'openai'

/** What a detail says it is of, by the format that understands it. */
const KINDS: Readonly<Record<string, string>> = {
  anthropic: 'anthropic-claude-v1',
  gemini: 'google-gemini-v1',
  responses: 'openai-responses-v1',
}
const ORIGINS: ReadonlyMap<string, string> = new Map(
  Object.entries(KINDS).map(([origin, kind]) => [kind, origin]),
)
const OTHER_KIND = 'sluice-'

function toKind(origin: string): string {
  return KINDS[origin] ?? `${OTHER_KIND}${origin}`
}

function toOrigin(kind: unknown): string | undefined {
  if (typeof kind !== 'string') return undefined
  return ORIGINS.get(kind) ?? (kind.startsWith(OTHER_KIND) ? kind.slice(OTHER_KIND.length) : undefined)
}

// --- for callers -----------------------------------------------------------------------------------------------

/** One thought as a caller gets it, to hand it back as it is. `index` counts the thoughts of an answer. */
export function toDetail({ text, sealed, isRedacted }: ThinkingPart, index: number): unknown {
  if (sealed === undefined) return { type: 'reasoning.text', text, index }
  if (sealed.origin === OWN) return { ...(parseObject(sealed.value) ?? {}), index }
  const format = toKind(sealed.origin)
  if (isRedacted) return { type: 'reasoning.encrypted', data: sealed.value, format, index }
  return { type: 'reasoning.text', text, signature: sealed.value, format, index }
}

/** What a message of a caller says was thought: its details, else its text. */
export function readThoughts(message: Readonly<Record<string, unknown>>): ThinkingPart[] {
  const details = Array.isArray(message.reasoning_details) ? message.reasoning_details : []
  const thoughts = details.flatMap((detail) => (isObject(detail) ? readDetail(detail) : []))
  if (thoughts.length > 0) return thoughts
  const text = plainText(message)
  return text === '' ? [] : [{ type: 'thinking', text, sealed: undefined, isRedacted: false }]
}

function readDetail(detail: Readonly<Record<string, unknown>>): ThinkingPart[] {
  const text = detail.text ?? detail.summary
  const value = detail.type === 'reasoning.encrypted' ? detail.data : detail.signature
  const origin = toOrigin(detail.format)
  const sealed =
    origin !== undefined && typeof value === 'string' && value !== '' ? { origin, value } : undefined
  if (detail.type === 'reasoning.encrypted')
    return sealed === undefined ? [] : [{ type: 'thinking', text: '', sealed, isRedacted: true }]
  if (typeof text !== 'string' || (text === '' && sealed === undefined)) return []
  return [{ type: 'thinking', text, sealed, isRedacted: false }]
}

/** Reasoning as text: DeepSeek and older vLLM have the first name, newer vLLM, Groq and OpenRouter the second. */
export function plainText(message: Readonly<Record<string, unknown>>): string {
  for (const text of [message.reasoning_content, message.reasoning])
    if (typeof text === 'string' && text !== '') return text
  return ''
}

/** Who signed a call, as it stands beside it. */
export function readCallSeal(call: Readonly<Record<string, unknown>>): Seal | undefined {
  const extra = call.extra_content
  if (!isObject(extra)) return undefined
  for (const [name, inner] of Object.entries(extra)) {
    const value = isObject(inner) ? inner.thought_signature : undefined
    if (typeof value === 'string') return { origin: name === 'google' ? 'gemini' : name, value }
  }
  return undefined
}

export function writeCallSeal(sealed: Seal | undefined): Readonly<Record<string, unknown>> {
  if (sealed === undefined) return {}
  const { origin, value } = sealed
  if (origin === OWN) return parseObject(value) ?? {}
  return { extra_content: { [origin === 'gemini' ? 'google' : origin]: { thought_signature: value } } }
}

// --- for providers ---------------------------------------------------------------------------------------------

/** What a provider must get back as it was: kept whole, whatever is in it. */
export function ownSeal(value: Readonly<Record<string, unknown>>): Seal {
  return { origin: OWN, value: JSON.stringify(value) }
}

/** The details of a message that a provider of this format gave, for it to get back. */
export function ownDetails(thoughts: readonly ThinkingPart[]): unknown[] {
  return thoughts.flatMap(({ sealed }) => (sealed?.origin === OWN ? (parseObject(sealed.value) ?? []) : []))
}

/** A detail that must come back to who gave it: signed or sealed. */
export function isSealed(detail: unknown): detail is Readonly<Record<string, unknown>> {
  return isObject(detail) && (detail.type === 'reasoning.encrypted' || typeof detail.signature === 'string')
}

/** The text of a detail; '' where it has none. */
export function detailText(detail: unknown): string {
  const text = isObject(detail) ? (detail.text ?? detail.summary) : undefined
  return typeof text === 'string' ? text : ''
}
