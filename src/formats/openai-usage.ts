// What OpenAI's interfaces say of the tokens of an answer; chat and legacy completions read and written. Pure.

import { isObject } from '../bytes/json-value.ts'
import type { Usage } from '../types.ts'
import { count } from './facts.ts'

/** Groq puts a stream's usage in `x_groq`, DeepSeek names cached tokens `prompt_cache_hit_tokens`. */
export function readUsage(message: Record<string, unknown>): Usage | undefined {
  const extra = message.x_groq
  const usage = isObject(message.usage) ? message.usage : isObject(extra) ? extra.usage : undefined
  if (!isObject(usage)) return undefined
  return toUsage({
    input: usage.prompt_tokens,
    output: usage.completion_tokens,
    inputDetails: usage.prompt_tokens_details,
    outputDetails: usage.completion_tokens_details,
    cachedElsewhere: usage.prompt_cache_hit_tokens,
  })
}

/** The same figures as OpenAI's interfaces tell them, each by names of its own. */
interface Figures {
  readonly input: unknown
  readonly output: unknown
  readonly inputDetails: unknown
  readonly outputDetails: unknown
  /** What was cached, where the details do not say. */
  readonly cachedElsewhere?: unknown
}

/** Undefined where neither side is a number of tokens. */
export function toUsage(told: Figures): Usage | undefined {
  const inputTokens = count(told.input)
  const outputTokens = count(told.output)
  if (inputTokens === undefined && outputTokens === undefined) return undefined
  const input = isObject(told.inputDetails) ? told.inputDetails : {}
  const output = isObject(told.outputDetails) ? told.outputDetails : {}
  return {
    inputTokens: inputTokens ?? 0,
    cachedTokens: count(input.cached_tokens) ?? count(told.cachedElsewhere) ?? 0,
    cacheWriteTokens: count(input.cache_write_tokens) ?? 0,
    audioInputTokens: count(input.audio_tokens) ?? 0,
    outputTokens: outputTokens ?? 0,
    reasoningTokens: count(output.reasoning_tokens) ?? 0,
    audioOutputTokens: count(output.audio_tokens) ?? 0,
    source: 'provider',
  }
}

export function writeUsage(usage: Usage): Readonly<Record<string, unknown>> {
  return {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
    prompt_tokens_details: {
      cached_tokens: usage.cachedTokens,
      cache_write_tokens: usage.cacheWriteTokens,
      audio_tokens: usage.audioInputTokens,
    },
    completion_tokens_details: {
      reasoning_tokens: usage.reasoningTokens,
      audio_tokens: usage.audioOutputTokens,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  }
}
