// What each generation of Gemini takes, as data: the one place that changes when a model comes. From the vendor's pages
// on thinking, function calling, thought signatures and structured output (November 2026), and from the answers that
// public fixtures of the AI SDK record. Where that is not known of a model, it is held to what all of its kind take.

import { toSegment } from './segment.ts'

export interface GeminiTraits {
  readonly thinking: Thinking
  /** Most tokens of one answer; a larger cap is refused. */
  readonly maxOutputTokens: number
  /** `parametersJsonSchema` and `responseJsonSchema`: ordinary JSON Schema, instead of the subset of OpenAPI's. */
  readonly jsonSchema: boolean
  /** The first call of a turn is refused without its thought signature. */
  readonly signedCalls: boolean
  /** Images may stand inside a function's response. */
  readonly filesInResults: boolean
  /** A JSON answer may be asked for where functions are offered. */
  readonly jsonWithTools: boolean
  /** Presence and frequency penalties; others answer 400 to the mere mention. */
  readonly penalties: boolean
  readonly systemInstruction: boolean
}

export type Thinking =
  | { readonly kind: 'none' }
  /** Tokens, `least` to `most`; `canStop`: 0 turns it off. */
  | { readonly kind: 'budget'; readonly least: number; readonly most: number; readonly canStop: boolean }
  /** From least to most. It cannot be turned off. */
  | { readonly kind: 'levels'; readonly levels: readonly Level[] }

export type Level = 'MINIMAL' | 'LOW' | 'MEDIUM' | 'HIGH'

const NEWEST: GeminiTraits = {
  thinking: { kind: 'levels', levels: ['LOW', 'MEDIUM', 'HIGH'] },
  maxOutputTokens: 65_536,
  jsonSchema: true,
  signedCalls: true,
  filesInResults: true,
  jsonWithTools: true,
  penalties: false,
  systemInstruction: true,
}
const GEMINI_3_PRO: GeminiTraits = { ...NEWEST, thinking: { kind: 'levels', levels: ['LOW', 'HIGH'] } }
const GEMINI_3_FLASH: GeminiTraits = {
  ...NEWEST,
  thinking: { kind: 'levels', levels: ['MINIMAL', 'LOW', 'MEDIUM', 'HIGH'] },
}
const GEMINI_2_5_FLASH: GeminiTraits = {
  ...NEWEST,
  thinking: { kind: 'budget', least: 1, most: 24_576, canStop: true },
  signedCalls: false,
  filesInResults: false,
  jsonWithTools: false,
}
const GEMINI_2: GeminiTraits = {
  ...GEMINI_2_5_FLASH,
  thinking: { kind: 'none' },
  maxOutputTokens: 8_192,
  jsonSchema: false,
  penalties: true,
}

/** The first that fits. */
const TRAITS: readonly (readonly [names: RegExp, traits: GeminiTraits])[] = [
  [/gemma/, { ...GEMINI_2, systemInstruction: false }],
  [/gemini-(?:1|2\.0)/, GEMINI_2],
  [/gemini-2\.5-.*image/, { ...GEMINI_2_5_FLASH, thinking: { kind: 'none' }, maxOutputTokens: 32_768 }],
  [
    /gemini-2\.5-flash-lite/,
    { ...GEMINI_2_5_FLASH, thinking: { kind: 'budget', least: 512, most: 24_576, canStop: true } },
  ],
  [
    /gemini-2\.5-pro/,
    { ...GEMINI_2_5_FLASH, thinking: { kind: 'budget', least: 128, most: 32_768, canStop: false } },
  ],
  [/gemini-2\.5/, GEMINI_2_5_FLASH],
  [/gemini-3.*image/, { ...NEWEST, thinking: { kind: 'none' }, maxOutputTokens: 32_768 }],
  [/gemini-3-pro/, GEMINI_3_PRO],
  [/gemini-3-flash|gemini-3\.1-flash-lite/, GEMINI_3_FLASH],
]

/** `models/…` or `tunedModels/…`, as paths and bodies have it, whatever a caller puts into a name. */
export function toModelName(model: string): string {
  const [, kind = 'models', name = model] = /^(models|tunedModels)\/([^/]+)$/.exec(model) ?? []
  return `${kind}/${toSegment(name)}`
}

export function traitsOf(model: string): GeminiTraits {
  const name = model.toLowerCase()
  return TRAITS.find(([names]) => names.test(name))?.[1] ?? NEWEST
}
