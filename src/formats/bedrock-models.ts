// What the models behind Bedrock's Converse take, as data: one API, and a model behind it that refuses what it does not
// know. From the Converse reference's page on models and features, the pages on prompt caching, structured outputs and
// Nova's reasoning, and the answers that public fixtures of the AI SDK record (November 2026). Of Claude the rest stands
// in anthropic-models.ts.

export interface BedrockTraits {
  readonly family: Family
  /** Where the depth of thought is told, among the model's own fields. */
  readonly reasoning: 'claude' | 'reasoning_effort' | 'reasoning.effort' | 'reasoningConfig' | 'none'
  /** Marks of what shall be cached; others answer 400, or cache by themselves. */
  readonly cachePoints: boolean
  /** `toolChoice` may force any call, or one of them. */
  readonly forcedTools: 'one' | 'any' | 'none'
  /** `status` of a tool's result. */
  readonly resultStatus: boolean
  /** Images and documents inside a tool's result. */
  readonly filesInResults: boolean
  /** Text may stand in one turn with calls or with results. */
  readonly mixedTurns: boolean
  /** `temperature`, `topP` and stop sequences. */
  readonly sampling: boolean
  /** Ids of calls are nine letters or digits. */
  readonly shortIds: boolean
  /** Most tokens of one answer, where a larger cap is known to be refused. */
  readonly maxOutputTokens: number
}

export type Family = 'claude' | 'nova' | 'openai' | 'other'

const OTHER: BedrockTraits = {
  family: 'other',
  reasoning: 'none',
  cachePoints: false,
  forcedTools: 'none',
  resultStatus: false,
  filesInResults: false,
  mixedTurns: true,
  sampling: true,
  shortIds: false,
  maxOutputTokens: Number.MAX_SAFE_INTEGER,
}
const CLAUDE: BedrockTraits = {
  ...OTHER,
  family: 'claude',
  reasoning: 'claude',
  cachePoints: true,
  forcedTools: 'one',
  resultStatus: true,
  filesInResults: true,
}
const NOVA: BedrockTraits = { ...OTHER, family: 'nova', forcedTools: 'one', resultStatus: true }
const OPENAI: BedrockTraits = { ...OTHER, family: 'openai', reasoning: 'reasoning.effort', sampling: false }

/**
 * The first that fits. Names come with a region in front (`us.`), as ARNs, and with a date and a version behind; an
 * application inference profile does not tell whose model it leads to, and is held to what all take.
 */
const TRAITS: readonly (readonly [names: RegExp, traits: BedrockTraits])[] = [
  [/claude-(?:3-(?:opus|sonnet|haiku|5-sonnet)|v2|instant)/, { ...CLAUDE, cachePoints: false }],
  [/anthropic|claude/, CLAUDE],
  [/nova-2/, { ...NOVA, reasoning: 'reasoningConfig' }],
  [/nova-(?:micro|lite|pro)/, { ...NOVA, maxOutputTokens: 10_000 }],
  [/nova/, NOVA],
  [/gpt-oss/, { ...OPENAI, reasoning: 'reasoning_effort', sampling: true }],
  [/openai/, OPENAI],
  [
    /mistral|pixtral|magistral|ministral|devstral/,
    { ...OTHER, forcedTools: 'any', mixedTurns: false, shortIds: true },
  ],
  [/llama/, { ...OTHER, mixedTurns: false }],
]

export function bedrockTraitsOf(model: string): BedrockTraits {
  const name = model.toLowerCase()
  return TRAITS.find(([names]) => names.test(name))?.[1] ?? OTHER
}

/** Claude models that keep a prompt for an hour. */
export const HOUR_CACHE = /claude-(?:opus|sonnet|haiku|fable|mythos)-(?:4-[5-9]|[5-9])/
/** Claude models that refuse a schema for their answer here, though they take it from their maker. */
export const NO_SCHEMA = /claude-(?:opus-4-[78]|fable-5|sonnet-5)/
