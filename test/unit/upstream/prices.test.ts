import { describe, expect, it } from 'vitest'
import { compareSpecificity } from '../../../src/config/glob.ts'
import { priceOf } from '../../../src/config/money.ts'
import { VENDORS } from '../../../src/upstream/vendors.ts'

const LISTS = Object.entries(VENDORS).flatMap(([format, { prices }]) =>
  prices === undefined ? [] : [{ format, prices: prices.toSorted(([a], [b]) => compareSpecificity(a, b)) }],
)

describe.each(LISTS)('the list prices of $format', ({ prices }) => {
  it('names each model once, and finds each by its own name', () => {
    expect(new Set(prices.map(([models]) => models)).size).toBe(prices.length)
    for (const [models, price] of prices) {
      expect(priceOf({ price: undefined, listPrices: prices }, models.replace('*', '25-01-01')), models).toBe(
        price,
      )
    }
  })

  it('asks for no less for what is dearer by nature', () => {
    for (const [models, each] of prices) {
      expect(each.input, models).toBeGreaterThan(0)
      expect(each.cached, models).toBeLessThanOrEqual(each.input)
      expect(each.cacheWrite, models).toBeGreaterThanOrEqual(each.input)
      expect(each.reasoning, models).toBe(each.output)
      expect(each.audioInput, models).toBeGreaterThanOrEqual(each.input)
      if (!models.includes('embedding')) expect(each.output, models).toBeGreaterThan(each.input)
      if (each.long === undefined) continue
      expect(each.long.input, models).toBeGreaterThan(each.input)
      expect(each.long.output, models).toBeGreaterThan(each.output)
    }
  })
})

it('a start without a file calls no model of a vendor that has no price', () => {
  for (const { environment, prices = [] } of Object.values(VENDORS)) {
    for (const model of Object.values(environment?.models ?? {})) {
      expect(priceOf({ price: undefined, listPrices: prices }, model), model).toBeDefined()
    }
  }
})

it('knows a dated snapshot, and not what only begins like a model', () => {
  const sorted = (format: string) => LISTS.find((list) => list.format === format)?.prices ?? []
  const openai = { price: undefined, listPrices: sorted('openai') }
  expect(priceOf(openai, 'gpt-4o-2024-11-20')).toMatchObject({ input: 2.5, cached: 1.25, output: 10 })
  expect(priceOf(openai, 'gpt-4o-2024-05-13')).toMatchObject({ input: 5, output: 15 })
  expect(priceOf(openai, 'gpt-4o-realtime-preview')).toBeUndefined()
  expect(priceOf(openai, 'gpt-5-unheard-of')).toBeUndefined()
  const anthropic = { price: undefined, listPrices: sorted('anthropic') }
  expect(priceOf(anthropic, 'claude-opus-4-5-20251101')).toMatchObject({ input: 5, cacheWrite: 6.25 })
  expect(priceOf(anthropic, 'claude-haiku-5-5')?.long).toMatchObject({ overTokens: 100_000, output: 2.5 })
})
