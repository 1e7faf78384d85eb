// What tokens cost, in whole millionths of a US dollar: pure arithmetic over a price and a usage. Where a price comes
// from is the file's business and the vendor's; nothing here knows a model.

import type { Deployment, Price, PriceBound, TokenPrice, Usage } from '../types.ts'
import { matchesGlob } from './glob.ts'

/** The price of what answers from this process. */
export const FREE: Price = {
  input: 0,
  cached: 0,
  cacheWrite: 0,
  output: 0,
  reasoning: 0,
  audioInput: 0,
  audioOutput: 0,
  long: undefined,
}

/** What a deployment takes when it is asked for `model`; undefined is unpriced, never free. */
export function priceOf(
  { price, listPrices }: Pick<Deployment, 'price' | 'listPrices'>,
  model: string,
): Price | undefined {
  return price ?? listPrices.find(([models]) => matchesGlob(models, model))?.[1]
}

/**
 * The cost of a usage, rounded up to a whole millionth. A count that is none (negative, NaN, infinite) is 0, and parts
 * that come to more than their whole are cut to it, audio first because it is the dearest: a provider that cannot
 * count makes nothing cheaper than free.
 */
export function costMicros(price: Price, usage: Usage): number {
  const input = toTokens(usage.inputTokens)
  const audioInput = Math.min(toTokens(usage.audioInputTokens), input)
  const cacheWrite = Math.min(toTokens(usage.cacheWriteTokens), input - audioInput)
  const cached = Math.min(toTokens(usage.cachedTokens), input - audioInput - cacheWrite)
  const output = toTokens(usage.outputTokens)
  const audioOutput = Math.min(toTokens(usage.audioOutputTokens), output)
  const reasoning = Math.min(toTokens(usage.reasoningTokens), output - audioOutput)
  const each = price.long !== undefined && input > price.long.overTokens ? price.long : price
  return toWholeMicros(
    (input - audioInput - cacheWrite - cached) * each.input +
      audioInput * each.audioInput +
      cacheWrite * each.cacheWrite +
      cached * each.cached +
      (output - audioOutput - reasoning) * each.output +
      audioOutput * each.audioOutput +
      reasoning * each.reasoning,
  )
}

/** The dearest token of each side over some prices; nothing where there is none. */
export function toBound(prices: readonly Price[]): PriceBound {
  const all: readonly TokenPrice[] = prices.flatMap((price) =>
    price.long === undefined ? [price] : [price, price.long],
  )
  return {
    input: Math.max(0, ...all.flatMap((one) => [one.input, one.cached, one.cacheWrite, one.audioInput])),
    output: Math.max(0, ...all.flatMap((one) => [one.output, one.reasoning, one.audioOutput])),
  }
}

/** The most that so many tokens can cost: never less than `costMicros` of a usage within them. */
export function boundMicros(
  bound: PriceBound,
  { inputTokens, outputTokens }: Pick<Usage, 'inputTokens' | 'outputTokens'>,
): number {
  return toWholeMicros(toTokens(inputTokens) * bound.input + toTokens(outputTokens) * bound.output)
}

/** More than any request holds; what it costs is still a number that a counter can add up exactly. */
const MOST_TOKENS = 1e9

function toTokens(count: number): number {
  return Number.isFinite(count) && count > 0 ? Math.min(Math.ceil(count), MOST_TOKENS) : 0
}

/** Up to the next whole one, but not for the noise of a sum: 30 tokens at 0.1 are 3, although 0.1 * 30 is more. */
function toWholeMicros(micros: number): number {
  return Math.ceil(Math.round(micros * 1e6) / 1e6)
}
