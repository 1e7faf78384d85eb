// What each generation of Claude takes, as data: the one place that changes when a model comes. From the vendor's pages
// on thinking, effort, structured outputs, prefill and mid-conversation system messages, and the capability table of
// the AI SDK (November 2026).

import { ANTHROPIC } from './anthropic-words.ts'

export interface ClaudeTraits {
  /** Most tokens of one answer, thinking included. */
  readonly maxOutputTokens: number
  /** What is asked for where the caller names no cap: `max_tokens` is required. */
  readonly defaultOutputTokens: number
  /** `temperature`, `top_p` and `top_k` are accepted. */
  readonly sampling: 'none' | 'one' | 'any'
  /** How thinking is asked for: not at all, with a budget of tokens, or by effort. */
  readonly thinking: 'none' | 'budget' | 'adaptive'
  /** How it is told not to think: by silence, by a type of `thinking`, or not at all. */
  readonly withoutThinking: 'omit' | 'disabled' | 'between_tools' | 'never'
  /** Values of `output_config.effort`, from least to most; empty where there is no such member. */
  readonly efforts: readonly Effort[]
  /** `tool_choice` may force a call. */
  readonly forcedTools: boolean
  /** `output_config.format` and strict tools. */
  readonly structured: boolean
  /** A last assistant message is gone on with. */
  readonly prefill: boolean
  /** Role `system` behind a user's turn. */
  readonly midSystem: boolean
  /** Origin of the signatures that it gives and takes: Claude's are checked, and refuse those of other servers. */
  readonly seals: string
}

export type Effort = 'low' | 'medium' | 'high' | 'xhigh' | 'max'

const ALL_EFFORTS: readonly Effort[] = ['low', 'medium', 'high', 'xhigh', 'max']
const EFFORTS_OF_4_6: readonly Effort[] = ['low', 'medium', 'high', 'max']
const EFFORTS_OF_4_5: readonly Effort[] = ['low', 'medium', 'high']

/** Every model that is not told apart below: the newest, whose names nobody knows yet. */
const NEWEST: ClaudeTraits = {
  maxOutputTokens: 128_000,
  defaultOutputTokens: 128_000,
  sampling: 'none',
  thinking: 'adaptive',
  withoutThinking: 'disabled',
  efforts: ALL_EFFORTS,
  forcedTools: true,
  structured: true,
  prefill: false,
  midSystem: false,
  seals: ANTHROPIC,
}
const FABLE_5: ClaudeTraits = { ...NEWEST, withoutThinking: 'never', midSystem: true }
const OPUS_4_7: ClaudeTraits = { ...NEWEST, withoutThinking: 'omit' }
const OPUS_4_6: ClaudeTraits = { ...OPUS_4_7, sampling: 'any', efforts: EFFORTS_OF_4_6 }
const SONNET_4_5: ClaudeTraits = {
  maxOutputTokens: 64_000,
  defaultOutputTokens: 64_000,
  sampling: 'one',
  thinking: 'budget',
  withoutThinking: 'omit',
  efforts: [],
  forcedTools: true,
  structured: true,
  prefill: true,
  midSystem: false,
  seals: ANTHROPIC,
}
/**
 * Prompt and cap together must fit the window of these, or they answer 400: so what is asked for unasked is not the
 * most that they can say.
 */
const OPUS_4_1: ClaudeTraits = { ...SONNET_4_5, maxOutputTokens: 32_000, defaultOutputTokens: 16_000 }
const SONNET_4: ClaudeTraits = {
  ...SONNET_4_5,
  defaultOutputTokens: 16_000,
  sampling: 'any',
  structured: false,
}
const CLAUDE_3_5: ClaudeTraits = {
  ...SONNET_4,
  maxOutputTokens: 8_192,
  defaultOutputTokens: 8_192,
  thinking: 'none',
}
const CLAUDE_3: ClaudeTraits = { ...CLAUDE_3_5, maxOutputTokens: 4_096, defaultOutputTokens: 4_096 }
/** Another vendor's model behind this format: what such servers have in common. */
const STRANGER: ClaudeTraits = {
  ...CLAUDE_3_5,
  maxOutputTokens: Number.MAX_SAFE_INTEGER,
  thinking: 'budget',
  seals: 'anthropic-compatible',
}

/** The first that fits. Names come with vendors' prefixes and dates (`us.anthropic.claude-opus-4-5-20251101-v1:0`). */
const TRAITS: readonly (readonly [names: RegExp, traits: ClaudeTraits])[] = [
  [/claude-(?:fable|mythos)-5-[1-9](?!\d)/, { ...FABLE_5, forcedTools: false }],
  [/claude-(?:fable|mythos)-/, FABLE_5],
  [/claude-opus-5-5/, { ...FABLE_5, forcedTools: false }],
  [/claude-sonnet-5-5/, { ...NEWEST, withoutThinking: 'between_tools', forcedTools: false }],
  [/claude-haiku-5-5/, NEWEST],
  [/claude-opus-5/, { ...NEWEST, midSystem: true }],
  [/claude-sonnet-5/, NEWEST],
  [/claude-opus-4-8/, { ...OPUS_4_7, midSystem: true }],
  [/claude-opus-4-7/, OPUS_4_7],
  [/claude-(?:opus|sonnet)-4-6/, OPUS_4_6],
  [/claude-opus-4-5/, { ...SONNET_4_5, efforts: EFFORTS_OF_4_5 }],
  [/claude-(?:sonnet|haiku)-4-5/, SONNET_4_5],
  [/claude-opus-4-1/, OPUS_4_1],
  [/claude-(?:opus-4|4-opus)/, { ...SONNET_4, maxOutputTokens: 32_000 }],
  [/claude-(?:sonnet-4|4-sonnet|3-7)/, SONNET_4],
  [/claude-3-5/, CLAUDE_3_5],
  [/claude-(?:3(?!\d)|v?2(?!\d)|instant)/, CLAUDE_3],
  [/claude-/, NEWEST],
]

export function traitsOf(model: string): ClaudeTraits {
  const name = model.toLowerCase()
  return TRAITS.find(([names]) => names.test(name))?.[1] ?? STRANGER
}

/** The nearest effort that a model has, not above the one that is asked for where there is one below. */
export function nearestEffort(wanted: string, { efforts }: ClaudeTraits): Effort | undefined {
  if (wanted === 'minimal' || wanted === 'none') return efforts[0]
  const order: readonly string[] = ALL_EFFORTS
  const at = order.indexOf(wanted)
  if (at < 0) return undefined
  return efforts.findLast((effort) => order.indexOf(effort) <= at) ?? efforts[0]
}
