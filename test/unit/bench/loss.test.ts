import { describe, expect, it } from 'vitest'
import { spreadOf } from '../../../bench/figures.ts'
import { losses, toRatios } from '../../../bench/loss.ts'
import type { Row } from '../../../bench/measures.ts'

describe('a loss', () => {
  it('is a ratio more than 15 % above the stored one', () => {
    expect(losses({ a: 4, b: 4, c: 4 }, { a: 4.59, b: 4.61, c: 1 })).toEqual(['b'])
  })

  it('is no ratio that nobody has stored', () => {
    expect(losses({}, { a: 4 })).toEqual([])
  })

  it('is a ratio that could not be measured', () => {
    expect(losses({ a: 4 }, { a: Number.NaN })).toEqual(['a'])
  })
})

describe('ratios', () => {
  const row = (target: string, cpu: number): Row => ({
    target,
    figures: { cpuUs: spreadOf([cpu - 1, cpu, cpu + 5]) },
    rounds: 3,
    discarded: 0,
  })

  it('are of the medians of one table', () => {
    expect(toRatios('request', [row('nginx', 20), row('Sluice', 80), row('plain', 100)], 'Sluice')).toEqual({
      'per request, vs nginx': 4,
      'per request, vs plain': 0.8,
    })
  })

  it('are nothing where one of both has no round that counts', () => {
    const none: Row = { target: 'nginx', figures: {}, rounds: 0, discarded: 3 }
    expect(toRatios('request', [none, row('Sluice', 80)], 'Sluice')).toEqual({
      'per request, vs nginx': Number.NaN,
    })
  })
})
