// What a server that speaks chat completions is known to need or to refuse, in words that the configuration has too.

export const QUIRKS = [
  /** Has all that OpenAI has: verbosity, cache keys, service tiers, every effort. */
  'all-fields',
  /** Knows `max_completion_tokens`, and for some models refuses `max_tokens`. */
  'max-completion-tokens',
  /** Refuses messages that carry reasoning (OpenAI, Groq, Cerebras, Mistral); others need it (DeepSeek, Kimi). */
  'no-reasoning-content',
] as const

export type Quirk = (typeof QUIRKS)[number]
