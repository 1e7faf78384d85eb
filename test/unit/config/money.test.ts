import { describe, expect, it } from 'vitest'
import { boundMicros, costMicros, FREE, priceOf, toBound } from '../../../src/config/money.ts'
import type { Price, Usage } from '../../../src/types.ts'

const PRICE: Price = {
  input: 2,
  cached: 0.5,
  cacheWrite: 2.5,
  output: 8,
  reasoning: 10,
  audioInput: 32,
  audioOutput: 64,
  long: undefined,
}

function usage(over: Partial<Usage>): Usage {
  return {
    inputTokens: 0,
    cachedTokens: 0,
    cacheWriteTokens: 0,
    audioInputTokens: 0,
    outputTokens: 0,
    reasoningTokens: 0,
    audioOutputTokens: 0,
    source: 'provider',
    ...over,
  }
}

describe('the cost of a usage', () => {
  it('is a dollar for a million tokens at a dollar per million', () => {
    expect(costMicros({ ...FREE, input: 1 }, usage({ inputTokens: 1_000_000 }))).toBe(1_000_000)
  })

  it('takes each part of the input and of the output at its own price', () => {
    const parts = { cachedTokens: 40, cacheWriteTokens: 20, audioInputTokens: 10 }
    expect(costMicros(PRICE, usage({ inputTokens: 100, ...parts }))).toBe(30 * 2 + 40 * 0.5 + 20 * 2.5 + 320)
    expect(costMicros(PRICE, usage({ outputTokens: 50, reasoningTokens: 20, audioOutputTokens: 5 }))).toBe(
      25 * 8 + 20 * 10 + 5 * 64,
    )
  })

  it.each([
    [0.1, 30, 3],
    [0.1, 31, 4],
    [0.075, 1, 1],
    [0.075, 40, 3],
    [0.03125, 32, 1],
    [0.000001, 1, 1],
    [1.25, 3, 4],
  ])(
    'at %d for a token, %i of them, is rounded up to %i: no noise of a sum makes it more',
    (input, inputTokens, micros) => {
      expect(costMicros({ ...FREE, input }, usage({ inputTokens }))).toBe(micros)
    },
  )

  it('is that of a long request for all its tokens, beyond the length', () => {
    const price: Price = { ...PRICE, long: { ...PRICE, input: 4, output: 12, overTokens: 1000 } }
    expect(costMicros(price, usage({ inputTokens: 1000, outputTokens: 1 }))).toBe(2000 + 8)
    expect(costMicros(price, usage({ inputTokens: 1001, outputTokens: 1 }))).toBe(4004 + 12)
  })

  it('is that of the whole where the parts come to more', () => {
    expect(costMicros(PRICE, usage({ inputTokens: 10, cachedTokens: 99 }))).toBe(5)
    expect(costMicros(PRICE, usage({ inputTokens: 10, audioInputTokens: 99, cachedTokens: 99 }))).toBe(320)
    expect(costMicros(PRICE, usage({ outputTokens: 10, reasoningTokens: 99 }))).toBe(100)
  })

  it.each([NaN, -5, Infinity, -Infinity])('takes a count of %d for none', (count) => {
    expect(
      costMicros(
        PRICE,
        usage({ inputTokens: count, cachedTokens: count, outputTokens: count, reasoningTokens: count }),
      ),
    ).toBe(0)
    expect(costMicros(PRICE, usage({ inputTokens: 10, cachedTokens: count, audioInputTokens: count }))).toBe(
      20,
    )
  })
})

describe('the price of a deployment', () => {
  it('is its own, else that of the model it is called by, else unknown', () => {
    const listPrices = [
      ['m-1', PRICE],
      ['m-*', FREE],
    ] as const
    expect(priceOf({ price: PRICE, listPrices: [] }, 'anything')).toBe(PRICE)
    expect(priceOf({ price: undefined, listPrices }, 'm-1')).toBe(PRICE)
    expect(priceOf({ price: undefined, listPrices }, 'm-2')).toBe(FREE)
    expect(priceOf({ price: undefined, listPrices }, 'n')).toBeUndefined()
  })
})

describe('the bound over several prices', () => {
  it('is the dearest token of each side, of long requests too', () => {
    expect(toBound([FREE, PRICE])).toEqual({ input: 32, output: 64 })
    expect(toBound([{ ...FREE, long: { ...FREE, input: 7, output: 9, overTokens: 1 } }])).toEqual({
      input: 7,
      output: 9,
    })
    expect(toBound([])).toEqual({ input: 0, output: 0 })
  })

  it('is charged for every token that there may be', () => {
    expect(boundMicros({ input: 0.1, output: 10 }, { inputTokens: 31, outputTokens: 2 })).toBe(24)
    expect(boundMicros({ input: 1, output: 1 }, { inputTokens: NaN, outputTokens: -1 })).toBe(0)
  })
})
