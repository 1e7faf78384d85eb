import { describe, expect, it } from 'vitest'
import { createRetryBudget } from '../../../src/upstream/retry-budget.ts'
import { createManualClock } from '../../support/manual-clock.ts'

function create({ share = 0.1, replicas = 1 } = {}) {
  const time = createManualClock({ nowMs: 5_000 })
  return {
    time,
    budget: createRetryBudget({ clock: time.clock, share: () => share, replicas: () => replicas }),
  }
}

/** How many second calls are let through, of so many wanted. */
function granted(budget: ReturnType<typeof createRetryBudget>, wanted: number): number {
  let count = 0
  for (let i = 0; i < wanted; i += 1) {
    if (!budget.mayAgain('p')) continue
    budget.again('p')
    count += 1
  }
  return count
}

describe('second calls', () => {
  it('are a tenth of the first ones of ten seconds', () => {
    const { budget } = create()
    for (let i = 0; i < 3_000; i += 1) budget.first('p')
    expect(granted(budget, 3_000)).toBe(300)
  })

  it('are one a second with little traffic, shared by all replicas', () => {
    expect(granted(create().budget, 100)).toBe(10)
    expect(granted(create({ replicas: 5 }).budget, 100)).toBe(2)
  })

  it('come back as time goes by', () => {
    const { time, budget } = create()
    expect(granted(budget, 100)).toBe(10)
    time.advance(9_000)
    expect(granted(budget, 100)).toBe(0)
    time.advance(1_000)
    expect(granted(budget, 100)).toBe(10)
  })

  it('are none at all with a share of 0', () => {
    const { budget } = create({ share: 0 })
    budget.first('p')
    expect(granted(budget, 10)).toBe(0)
  })

  it('of one provider do not count for another', () => {
    const { budget } = create()
    granted(budget, 100)
    expect(budget.mayAgain('other')).toBe(true)
  })

  it('never exceed 1.1 calls for each request over any minute of a provider that fails all of them', () => {
    const { time, budget } = create()
    let calls = 0
    const requests = 300 * 60
    for (let i = 0; i < requests; i += 1) {
      budget.first('p')
      calls += 1
      if (budget.mayAgain('p')) {
        budget.again('p')
        calls += 1
      }
      time.advance(1000 / 300)
    }
    expect(calls / requests).toBeLessThanOrEqual(1.1)
    expect(calls / requests).toBeGreaterThan(1.09)
  })
})
