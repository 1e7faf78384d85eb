// What OpenAI's chat and legacy completions say of the tokens of an answer, read and written. Pure.

import { isObject } from '../bytes/json-value.ts'
import type { Usage } from '../types.ts'
import { count } from './facts.ts'

/** Groq puts a stream's usage in `x_groq`, DeepSeek names cached tokens `prompt_cache_hit_tokens`. */
export function readUsage(message: Record<string, unknown>): Usage | undefined {
  const extra = message.x_groq
  const usage = isObject(message.usage) ? message.usage : isObject(extra) ? extra.usage : undefined
  if (!isObject(usage)) return undefined
  const inputTokens = count(usage.prompt_tokens)
  const outputTokens = count(usage.completion_tokens)
  if (inputTokens === undefined && outputTokens === undefined) return undefined
  const input = isObject(usage.prompt_tokens_details) ? usage.prompt_tokens_details : {}
  const output = isObject(usage.completion_tokens_details) ? usage.completion_tokens_details : {}
  return {
    inputTokens: inputTokens ?? 0,
    cachedTokens: count(input.cached_tokens) ?? count(usage.prompt_cache_hit_tokens) ?? 0,
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
