// List prices of vendors' models, as data: what a request costs where the configuration names no price. US dollars per
// million tokens at the standard tier; batch, flex, priority and regional surcharges are not in here. Read from the
// vendors' pages in November 2026. A model that is not in its vendor's list is unpriced, never free.

import type { Price, PriceList, TokenPrice } from '../types.ts'

/** https://developers.openai.com/api/docs/pricing: from GPT-5.6 on a cache write is 1.25 times the input. */
const WRITE = 1.25
/** The same page: over 272,000 input tokens the input is twice, the output one and a half times as much. */
const LONG_272K = { over: 272_000, input: 2, output: 1.5 }
/** https://ai.google.dev/gemini-api/docs/pricing: prompts over 200,000 tokens. */
const LONG_200K = { over: 200_000, input: 2, output: 1.5 }

// https://developers.openai.com/api/docs/pricing
export const OPENAI_PRICES: PriceList = [
  ...rows('gpt-6-astra', { input: 10, cached: 1, output: 50, write: WRITE, long: LONG_272K }),
  ...rows('gpt-6.1-sol', { input: 2, cached: 0.1, output: 10, write: WRITE, long: LONG_272K }),
  ...rows('gpt-6-sol', { input: 2, cached: 0.2, output: 10, write: WRITE, long: LONG_272K }),
  ...rows('gpt-6.1-terra', { input: 1, cached: 0.05, output: 5, write: WRITE, long: LONG_272K }),
  ...rows('gpt-6-luna', { input: 0.1, cached: 0.01, output: 0.5, write: WRITE, long: LONG_272K }),
  ...rows('gpt-5.6', { input: 4, cached: 0.4, output: 20, write: WRITE, long: LONG_272K }),
  ...rows('gpt-5.6-sol', { input: 4, cached: 0.4, output: 20, write: WRITE, long: LONG_272K }),
  ...rows('gpt-5.6-terra', { input: 2, cached: 0.2, output: 12, write: WRITE, long: LONG_272K }),
  ...rows('gpt-5.6-luna', { input: 0.2, cached: 0.02, output: 1.2, write: WRITE, long: LONG_272K }),
  ...rows('gpt-5.5', { input: 5, cached: 0.5, output: 30, long: LONG_272K }),
  ...rows('gpt-5.5-pro', { input: 30, output: 180, long: LONG_272K }),
  ...rows('gpt-5.4', { input: 2.5, cached: 0.25, output: 15, long: LONG_272K }),
  ...rows('gpt-5.4-pro', { input: 30, output: 180, long: LONG_272K }),
  ...rows('gpt-5.4-mini', { input: 0.75, cached: 0.075, output: 4.5 }),
  ...rows('gpt-5.4-nano', { input: 0.2, cached: 0.02, output: 1.25 }),
  ...rows('gpt-5.3-chat-latest', { input: 1.75, cached: 0.175, output: 14 }),
  ...rows('gpt-5.3-codex', { input: 1.75, cached: 0.175, output: 14 }),
  ...rows('gpt-5.2', { input: 1.75, cached: 0.175, output: 14 }),
  ...rows('gpt-5.2-chat-latest', { input: 1.75, cached: 0.175, output: 14 }),
  ...rows('gpt-5.2-codex', { input: 1.75, cached: 0.175, output: 14 }),
  ...rows('gpt-5.2-pro', { input: 21, output: 168 }),
  ...rows('gpt-5.1', { input: 1.25, cached: 0.125, output: 10 }),
  ...rows('gpt-5.1-chat-latest', { input: 1.25, cached: 0.125, output: 10 }),
  ...rows('gpt-5.1-codex', { input: 1.25, cached: 0.125, output: 10 }),
  ...rows('gpt-5.1-codex-max', { input: 1.25, cached: 0.125, output: 10 }),
  ...rows('gpt-5.1-codex-mini', { input: 0.25, cached: 0.025, output: 2 }),
  ...rows('gpt-5', { input: 1.25, cached: 0.125, output: 10 }),
  ...rows('gpt-5-chat-latest', { input: 1.25, cached: 0.125, output: 10 }),
  ...rows('gpt-5-codex', { input: 1.25, cached: 0.125, output: 10 }),
  ...rows('gpt-5-mini', { input: 0.25, cached: 0.025, output: 2 }),
  ...rows('gpt-5-nano', { input: 0.05, cached: 0.005, output: 0.4 }),
  ...rows('gpt-5-pro', { input: 15, output: 120 }),
  ...rows('gpt-4.1', { input: 2, cached: 0.5, output: 8 }),
  ...rows('gpt-4.1-mini', { input: 0.4, cached: 0.1, output: 1.6 }),
  ...rows('gpt-4.1-nano', { input: 0.1, cached: 0.025, output: 0.4 }),
  ...rows('gpt-4o', { input: 2.5, cached: 1.25, output: 10 }),
  ...rows('gpt-4o-2024-05-13', { input: 5, output: 15 }),
  ...rows('gpt-4o-mini', { input: 0.15, cached: 0.075, output: 0.6 }),
  ...rows('gpt-audio', { input: 2.5, output: 10, audio: { input: 32, output: 64 } }),
  ...rows('gpt-audio-1.5', { input: 2.5, output: 10, audio: { input: 32, output: 64 } }),
  ...rows('gpt-audio-mini', { input: 0.6, output: 2.4, audio: { input: 10, output: 20 } }),
  ...rows('gpt-4o-audio-preview', { input: 2.5, output: 10, audio: { input: 40, output: 80 } }),
  ...rows('gpt-4o-mini-audio-preview', { input: 0.15, output: 0.6, audio: { input: 10, output: 20 } }),
  ...rows('gpt-4-turbo', { input: 10, output: 30 }),
  ...rows('gpt-4', { input: 30, output: 60 }),
  ...rows('gpt-3.5-turbo', { input: 0.5, output: 1.5 }),
  ...rows('o4-mini', { input: 1.1, cached: 0.275, output: 4.4 }),
  ...rows('o3', { input: 2, cached: 0.5, output: 8 }),
  ...rows('o3-mini', { input: 1.1, cached: 0.55, output: 4.4 }),
  ...rows('o3-pro', { input: 20, output: 80 }),
  ...rows('o1', { input: 15, cached: 7.5, output: 60 }),
  ...rows('o1-pro', { input: 150, output: 600 }),
  ...rows('text-embedding-3-small', { input: 0.02, output: 0 }),
  ...rows('text-embedding-3-large', { input: 0.13, output: 0 }),
  ...rows('text-embedding-ada-002', { input: 0.1, output: 0 }),
]

// https://platform.claude.com/docs/en/about-claude/pricing; a cache write is that of five minutes.
export const ANTHROPIC_PRICES: PriceList = [
  ...rows('claude-fable-5-1', { input: 10, cached: 0.25, output: 50, write: WRITE }),
  ...rows('claude-fable-5', { input: 10, cached: 1, output: 50, write: WRITE }),
  ...rows('claude-opus-5-5', { input: 4, cached: 0.2, output: 20, write: WRITE }),
  ...rows('claude-opus-5', { input: 5, cached: 0.5, output: 25, write: WRITE }),
  ...rows('claude-opus-4-8', { input: 5, cached: 0.5, output: 25, write: WRITE }),
  ...rows('claude-opus-4-7', { input: 5, cached: 0.5, output: 25, write: WRITE }),
  ...rows('claude-opus-4-6', { input: 5, cached: 0.5, output: 25, write: WRITE }),
  ...rows('claude-opus-4-5', { input: 5, cached: 0.5, output: 25, write: WRITE }),
  ...rows('claude-opus-4-1', { input: 15, cached: 1.5, output: 75, write: WRITE }),
  ...rows('claude-opus-4', { input: 15, cached: 1.5, output: 75, write: WRITE }),
  ...rows('claude-opus-4-0', { input: 15, cached: 1.5, output: 75, write: WRITE }),
  ...rows('claude-sonnet-5-5', { input: 2, cached: 0.1, output: 10, write: WRITE }),
  ...rows('claude-sonnet-5', { input: 2, cached: 0.2, output: 10, write: WRITE }),
  ...rows('claude-sonnet-4-6', { input: 3, cached: 0.3, output: 15, write: WRITE }),
  ...rows('claude-sonnet-4-5', { input: 3, cached: 0.3, output: 15, write: WRITE }),
  ...rows('claude-sonnet-4', { input: 3, cached: 0.3, output: 15, write: WRITE }),
  ...rows('claude-sonnet-4-0', { input: 3, cached: 0.3, output: 15, write: WRITE }),
  // Five times as much in all, output too, when the prompt is over 100,000 tokens.
  ...rows('claude-haiku-5-5', {
    input: 0.1,
    cached: 0.01,
    output: 0.5,
    write: WRITE,
    long: { over: 100_000, input: 5, output: 5 },
  }),
  ...rows('claude-haiku-4-5', { input: 1, cached: 0.1, output: 5, write: WRITE }),
  ...rows('claude-3-5-haiku', { input: 0.8, cached: 0.08, output: 4, write: WRITE }),
]

// https://ai.google.dev/gemini-api/docs/pricing. 3.6 to 3.8 Flash are half of this until 2026-12-31; a budget that
// counts the introductory price would let through twice its money from the next day on.
export const GEMINI_PRICES: PriceList = [
  ...rows('gemini-3.8-flash', { input: 1.5, cached: 0.15, output: 7.5 }),
  ...rows('gemini-3.7-flash', { input: 1.5, cached: 0.15, output: 7.5 }),
  ...rows('gemini-3.6-flash', { input: 1.5, cached: 0.15, output: 7.5 }),
  ...rows('gemini-3.5-flash', { input: 1.5, cached: 0.15, output: 9 }),
  ...rows('gemini-3.5-flash-lite', { input: 0.3, cached: 0.03, output: 2.5 }),
  ...rows('gemini-3.1-pro-preview', { input: 2, cached: 0.2, output: 12, long: LONG_200K }),
  ...rows('gemini-3.1-flash-lite', { input: 0.25, cached: 0.025, output: 1.5, audio: { input: 0.5 } }),
  ...rows('gemini-3-flash', { input: 0.5, cached: 0.05, output: 3, audio: { input: 1 } }),
  ...rows('gemini-3-flash-preview', { input: 0.5, cached: 0.05, output: 3, audio: { input: 1 } }),
  ...rows('gemini-2.5-pro', { input: 1.25, cached: 0.125, output: 10, long: LONG_200K }),
  ...rows('gemini-2.5-flash', { input: 0.3, cached: 0.03, output: 2.5, audio: { input: 1 } }),
  ...rows('gemini-2.5-flash-lite', { input: 0.1, cached: 0.01, output: 0.4, audio: { input: 0.3 } }),
  ...rows('gemini-embedding-001', { input: 0.15, output: 0 }),
]

interface Listed {
  readonly input: number
  /** Absent: no discount. */
  readonly cached?: number
  readonly output: number
  /** A cache write as a multiple of the input. */
  readonly write?: number
  /** Absent: as text. */
  readonly audio?: { readonly input: number; readonly output?: number }
  /** Multiples of all input and all output prices where the input is longer than `over` tokens. */
  readonly long?: { readonly over: number; readonly input: number; readonly output: number }
}

/** A model by its name and by its dated snapshots: `gpt-4o`, `gpt-4o-2024-11-20`, `claude-opus-4-5-20251101`. */
function rows(model: string, listed: Listed): PriceList {
  const { input, output, write = 1, audio, long } = listed
  const each: TokenPrice = {
    input,
    cached: listed.cached ?? input,
    cacheWrite: input * write,
    output,
    reasoning: output,
    audioInput: audio?.input ?? input,
    audioOutput: audio?.output ?? output,
  }
  const price: Price = { ...each, long: long && { ...times(each, long), overTokens: long.over } }
  return [
    [model, price],
    [`${model}-20*`, price],
  ]
}

function times(each: TokenPrice, by: { readonly input: number; readonly output: number }): TokenPrice {
  return {
    input: each.input * by.input,
    cached: each.cached * by.input,
    cacheWrite: each.cacheWrite * by.input,
    output: each.output * by.output,
    reasoning: each.reasoning * by.output,
    audioInput: each.audioInput * by.input,
    audioOutput: each.audioOutput * by.output,
  }
}
