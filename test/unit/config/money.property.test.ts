import fc from 'fast-check'
import { expect, test } from 'vitest'
import { boundMicros, costMicros, toBound } from '../../../src/config/money.ts'
import type { Price, TokenPrice, Usage } from '../../../src/types.ts'

/** Dollars per million to six digits, as people and vendors write them. */
const dollars = fc.integer({ min: 0, max: 600_000_000 }).map((units) => units / 1e6)
const tokenPrice = fc.record<TokenPrice>({
  input: dollars,
  cached: dollars,
  cacheWrite: dollars,
  output: dollars,
  reasoning: dollars,
  audioInput: dollars,
  audioOutput: dollars,
})
const price: fc.Arbitrary<Price> = fc
  .tuple(
    tokenPrice,
    fc.option(fc.tuple(tokenPrice, fc.integer({ min: 1, max: 300_000 })), { nil: undefined }),
  )
  .map(([each, long]) => ({ ...each, long: long && { ...long[0], overTokens: long[1] } }))

function usageOf(count: fc.Arbitrary<number>): fc.Arbitrary<Usage> {
  return fc.record<Usage>({
    inputTokens: count,
    cachedTokens: count,
    cacheWriteTokens: count,
    audioInputTokens: count,
    outputTokens: count,
    reasoningTokens: count,
    audioOutputTokens: count,
    source: fc.constant('provider'),
  })
}
const count = fc.integer({ min: 0, max: 2_000_000 })

test('a cost is whole, never negative and never NaN, whatever a provider counts', () => {
  fc.assert(
    fc.property(price, usageOf(fc.oneof(count, fc.double())), (price, usage) => {
      const micros = costMicros(price, usage)
      expect(micros).toBeGreaterThanOrEqual(0)
      expect(Number.isInteger(micros)).toBe(true)
    }),
  )
})

test('a cost is the exact sum, rounded up', () => {
  const exact = (tokens: number, dollars: number) => BigInt(tokens) * BigInt(Math.round(dollars * 1e6))
  fc.assert(
    fc.property(price, count, count, (price, inputTokens, outputTokens) => {
      const usage = { cachedTokens: 0, cacheWriteTokens: 0, audioInputTokens: 0, reasoningTokens: 0 }
      const each = price.long !== undefined && inputTokens > price.long.overTokens ? price.long : price
      const millionths = exact(inputTokens, each.input) + exact(outputTokens, each.output)
      expect(
        costMicros(price, { ...usage, inputTokens, outputTokens, audioOutputTokens: 0, source: 'counted' }),
      ).toBe(Number((millionths + 999_999n) / 1_000_000n))
    }),
  )
})

test('a cost never exceeds the bound of its tokens', () => {
  fc.assert(
    fc.property(
      fc.array(price, { minLength: 1, maxLength: 5 }),
      usageOf(count),
      fc.nat(4),
      (prices, usage, at) => {
        const bound = toBound(prices)
        const used = prices[at % prices.length]
        if (used === undefined) throw new Error('there are prices')
        expect(costMicros(used, usage)).toBeLessThanOrEqual(boundMicros(bound, usage))
      },
    ),
  )
})
