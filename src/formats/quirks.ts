// What a provider is known to need, to refuse or to be allowed, in words that the configuration has too.

export const QUIRKS = [
  /** Has all that OpenAI has: verbosity, cache keys, service tiers, every effort. */
  'all-fields',
  /** Knows `max_completion_tokens`, and for some models refuses `max_tokens`. */
  'max-completion-tokens',
  /** Refuses messages that carry reasoning (OpenAI, Groq, Cerebras, Mistral); others need it (DeepSeek, Kimi). */
  'no-reasoning-content',
  /** Has vectors as lists only, and refuses or ignores base64. */
  'float-embeddings',
  /** Its account may read files of buckets (`s3://`, `gs://`) that any caller names. */
  'bucket-files',
] as const

export type Quirk = (typeof QUIRKS)[number]

/** Whether a provider's options name it. */
export function hasQuirk({ quirks }: Readonly<Record<string, string>>, quirk: Quirk): boolean {
  return quirks?.split(' ').includes(quirk) === true
}
