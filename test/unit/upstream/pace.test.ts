import { describe, expect, it } from 'vitest'
import { createPace } from '../../../src/upstream/pace.ts'
import { createManualClock } from '../../support/manual-clock.ts'

function create() {
  const time = createManualClock({ nowMs: 1_000 })
  return { time, pace: createPace({ clock: time.clock }) }
}

describe('what one more call has to expect', () => {
  it('is the time to the first token, times the calls under way and this one', () => {
    const { pace } = create()
    pace.answered('a', 200)
    expect(pace.load('a')).toBeCloseTo(200)
    pace.begin('a')
    pace.begin('a')
    expect(pace.load('a')).toBeCloseTo(600)
    pace.end('a')
    expect(pace.load('a')).toBeCloseTo(400)
  })

  it('is nothing where nothing is known, until somebody waits for it', () => {
    const { pace } = create()
    expect(pace.load('a')).toBe(0)
    pace.begin('a')
    expect(pace.load('a')).toBeGreaterThan(1_000)
  })

  it('goes up at once and comes down slowly', () => {
    const { time, pace } = create()
    pace.answered('a', 100)
    pace.answered('a', 2_000)
    expect(pace.load('a')).toBeCloseTo(2_000)
    time.advance(1_000)
    pace.answered('a', 100)
    expect(pace.load('a')).toBeGreaterThan(1_700)
    for (let i = 0; i < 60; i += 1) {
      time.advance(1_000)
      pace.answered('a', 100)
    }
    expect(pace.load('a')).toBeLessThan(110)
  })

  it('is forgotten little by little where nobody asks', () => {
    const { time, pace } = create()
    pace.answered('a', 1_000)
    time.advance(60_000)
    expect(pace.load('a')).toBeLessThan(400)
  })

  it('never counts fewer than none under way', () => {
    const { pace } = create()
    pace.end('a')
    pace.answered('a', 100)
    expect(pace.load('a')).toBeCloseTo(100)
  })
})

describe('the 95th percentile', () => {
  it('is known from twenty answers on, of the last 64', () => {
    const { time, pace } = create()
    for (let i = 1; i <= 19; i += 1) pace.answered('a', i)
    expect(pace.p95('a')).toBeUndefined()
    pace.answered('a', 20)
    expect(pace.p95('a')).toBe(19)
    for (let i = 0; i < 64; i += 1) pace.answered('a', 500)
    expect(pace.p95('a')).toBe(19)
    time.advance(1_000)
    expect(pace.p95('a')).toBe(500)
  })

  it('of a stranger is not known', () => {
    expect(create().pace.p95('x')).toBeUndefined()
  })
})
