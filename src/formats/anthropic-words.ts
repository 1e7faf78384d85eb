// The words of Anthropic's Messages that both its sides use: how tokens are counted, why an answer ended.

import { isObject } from '../bytes/json-value.ts'
import type { Usage } from '../types.ts'
import type { Finish } from './canonical.ts'
import { count } from './facts.ts'

/** Name of the format, and origin of its seals. */
export const ANTHROPIC = 'anthropic'

/**
 * Usage as it counts up: `message_start` tells the prompt, each `message_delta` the totals so far, whose input members
 * may be null or missing. Undefined where nothing is counted.
 */
export function readUsage(told: unknown, before: Usage | undefined): Usage | undefined {
  if (!isObject(told)) return before
  const fresh = count(told.input_tokens)
  const read = count(told.cache_read_input_tokens)
  const written = count(told.cache_creation_input_tokens)
  const output = count(told.output_tokens)
  if ((fresh ?? read ?? written ?? output) === undefined) return before
  const cachedTokens = read ?? before?.cachedTokens ?? 0
  const cacheWriteTokens = written ?? before?.cacheWriteTokens ?? 0
  // `input_tokens` is what no cache held.
  const uncached =
    fresh ?? (before?.inputTokens ?? 0) - (before?.cachedTokens ?? 0) - (before?.cacheWriteTokens ?? 0)
  const details = isObject(told.output_tokens_details) ? told.output_tokens_details : {}
  return {
    inputTokens: Math.max(0, uncached) + cachedTokens + cacheWriteTokens,
    cachedTokens,
    cacheWriteTokens,
    audioInputTokens: 0,
    outputTokens: output ?? before?.outputTokens ?? 0,
    reasoningTokens: count(details.thinking_tokens) ?? before?.reasoningTokens ?? 0,
    audioOutputTokens: 0,
    source: 'provider',
  }
}

/** As Messages writes it. Every client adds these numbers, so that they are there where nobody counted. */
export function writeUsage(usage: Usage | undefined): Readonly<Record<string, number>> {
  const { inputTokens = 0, cachedTokens = 0, cacheWriteTokens = 0, outputTokens = 0 } = usage ?? {}
  return {
    input_tokens: Math.max(0, inputTokens - cachedTokens - cacheWriteTokens),
    cache_creation_input_tokens: cacheWriteTokens,
    cache_read_input_tokens: cachedTokens,
    output_tokens: outputTokens,
  }
}

const FINISHES: ReadonlyMap<unknown, Finish> = new Map<unknown, Finish>([
  ['max_tokens', 'length'],
  ['model_context_window_exceeded', 'length'],
  ['tool_use', 'tool_calls'],
  ['refusal', 'content_filter'],
])

/** `end_turn`, `stop_sequence`, `pause_turn`, and whatever comes to be, are an end. */
export function toFinish(stopReason: unknown): Finish {
  return FINISHES.get(stopReason) ?? 'stop'
}

export interface StopFacts {
  readonly finish: Finish
  readonly stopSequence: string | undefined
  readonly hasCalls: boolean
  readonly hasRefusal: boolean
}

/** Some servers end a turn of calls with `stop`; an agent looks for `tool_use` before it runs a tool. */
export function toStopReason({ finish, stopSequence, hasCalls, hasRefusal }: StopFacts): string {
  if (finish === 'length') return 'max_tokens'
  if (finish === 'content_filter') return 'refusal'
  if (hasCalls) return 'tool_use'
  if (hasRefusal) return 'refusal'
  return stopSequence === undefined ? 'end_turn' : 'stop_sequence'
}

/** Ids that Messages accepts; whoever made one may have used anything. */
export function toPlainId(id: string): string {
  return id.replace(/[^a-zA-Z0-9_-]/g, '_')
}
