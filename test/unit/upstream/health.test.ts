import { describe, expect, it } from 'vitest'
import { createHealth, type Entry, type Health } from '../../../src/upstream/health.ts'
import { createManualClock, type ManualClock } from '../../support/manual-clock.ts'

const NAME = 'p/m'

function create(random = 0.5): { health: Health; time: ManualClock } {
  const time = createManualClock({ nowMs: 1000 })
  return { time, health: createHealth({ clock: time.clock, random: () => random }) }
}

function fail(health: Health, retryAfterMs?: number, entry: Entry = health.enter(NAME)): void {
  health.failed(NAME, entry, { reason: retryAfterMs === undefined ? '503' : '429', retryAfterMs })
}

function open(health: Health): void {
  for (let i = 0; i < 5; i += 1) fail(health)
}

describe('failures', () => {
  it('lets calls through until the fifth failure in a row', () => {
    const { health } = create()
    for (let i = 0; i < 4; i += 1) {
      fail(health)
      expect(health.isAvailable(NAME)).toBe(true)
    }
    fail(health)
    expect(health.isAvailable(NAME)).toBe(false)
    expect(health.enter(NAME)).toBe('held')
  })

  it('forgets failures at a success', () => {
    const { health } = create()
    for (let i = 0; i < 20; i += 1) {
      fail(health)
      if (i % 4 === 3) health.succeeded(NAME, health.enter(NAME))
    }
    expect(health.isAvailable(NAME)).toBe(true)
  })

  it('keeps one deployment apart from another', () => {
    const { health } = create()
    open(health)
    expect(health.isAvailable('p/other')).toBe(true)
    expect(health.enter('p/other')).toBe('go')
  })

  it.each([
    { random: 0, factor: 0.8 },
    { random: 0.5, factor: 1 },
    { random: 0.999999, factor: 1.2 },
  ])('holds for five seconds times $factor with chance $random', ({ random, factor }) => {
    const { health } = create(random)
    open(health)
    expect(health.holdMs(NAME)).toBeCloseTo(5000 * factor, 0)
  })

  it('doubles the hold each time a probe fails, up to five minutes', () => {
    const { health, time } = create()
    open(health)
    const holds: number[] = []
    for (let i = 0; i < 9; i += 1) {
      holds.push(health.holdMs(NAME))
      time.advance(health.holdMs(NAME))
      const entry = health.enter(NAME)
      expect(entry).toBe('probe')
      fail(health, undefined, entry)
    }
    expect(holds).toEqual([5000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000])
  })

  it('is not concerned by calls that fail late, begun before the hold', () => {
    const { health } = create()
    const late = health.enter(NAME)
    open(health)
    for (let i = 0; i < 10; i += 1) fail(health, undefined, late)
    expect(health.holdMs(NAME)).toBe(5000)
  })
})

describe('the way back', () => {
  it('probes with one call at a time', () => {
    const { health, time } = create()
    open(health)
    time.advance(4999)
    expect(health.enter(NAME)).toBe('held')
    time.advance(1)
    expect(health.isAvailable(NAME)).toBe(true)
    expect(health.enter(NAME)).toBe('probe')
    for (let i = 0; i < 100; i += 1) {
      expect(health.enter(NAME)).toBe('held')
      expect(health.isAvailable(NAME)).toBe(false)
    }
  })

  it('is trusted after three clean probes', () => {
    const { health, time } = create()
    open(health)
    time.advance(5000)
    for (let i = 0; i < 3; i += 1) {
      const entry = health.enter(NAME)
      expect(entry).toBe('probe')
      health.succeeded(NAME, entry)
    }
    expect(health.enter(NAME)).toBe('go')
    expect(health.enter(NAME)).toBe('go')
    open(health)
    expect(health.holdMs(NAME)).toBe(5000)
  })

  it('gives the turn to the next when a probe told nothing', () => {
    const { health, time } = create()
    open(health)
    time.advance(5000)
    health.released(NAME, health.enter(NAME))
    expect(health.enter(NAME)).toBe('probe')
  })

  it('learns nothing from the success of a call begun before the hold', () => {
    const { health, time } = create()
    const late = health.enter(NAME)
    open(health)
    health.succeeded(NAME, late)
    expect(health.enter(NAME)).toBe('held')
    time.advance(5000)
    expect(health.enter(NAME)).toBe('probe')
  })

  it('does not end the turn of a probe when another call comes back', () => {
    const { health, time } = create()
    const late = health.enter(NAME)
    open(health)
    time.advance(5000)
    expect(health.enter(NAME)).toBe('probe')
    health.released(NAME, late)
    health.succeeded(NAME, late)
    fail(health, undefined, late)
    expect(health.enter(NAME)).toBe('held')
  })
})

describe('Retry-After', () => {
  it.each([1, 250, 1234.5, 60_000, 600_000])('is held for exactly %d ms', (ms) => {
    const { health, time } = create(0.123)
    fail(health, ms)
    expect(health.holdMs(NAME)).toBe(ms)
    time.advance(ms - 0.25)
    expect(health.enter(NAME)).toBe('held')
    time.advance(0.25)
    expect(health.enter(NAME)).toBe('probe')
  })

  it('is believed up to ten minutes', () => {
    const { health } = create()
    fail(health, 86_400_000)
    expect(health.holdMs(NAME)).toBe(600_000)
  })

  it('is never cut short by a shorter one, and is lengthened by a longer one', () => {
    const { health } = create()
    const late = health.enter(NAME)
    fail(health, 10_000)
    fail(health, 2000, late)
    expect(health.holdMs(NAME)).toBe(10_000)
    fail(health, 30_000, late)
    expect(health.holdMs(NAME)).toBe(30_000)
  })

  it('ends with one clean probe: the provider said when it would be well', () => {
    const { health, time } = create()
    fail(health, 1000)
    time.advance(1000)
    health.succeeded(NAME, health.enter(NAME))
    expect(health.enter(NAME)).toBe('go')
  })

  it('stands although a probe that was under way succeeds', () => {
    const { health, time } = create()
    const late = health.enter(NAME)
    fail(health, 1000)
    time.advance(1000)
    const probe = health.enter(NAME)
    fail(health, 30_000, late)
    health.succeeded(NAME, probe)
    expect(health.enter(NAME)).toBe('held')
    time.advance(30_000)
    expect(health.enter(NAME)).toBe('probe')
  })

  it('is an ordinary failure when it names no wait', () => {
    const { health } = create()
    for (let i = 0; i < 4; i += 1) fail(health, 0)
    expect(health.isAvailable(NAME)).toBe(true)
    fail(health, 0)
    expect(health.isAvailable(NAME)).toBe(false)
  })

  it('is kept when somebody asks by force, a hold of our own is not', () => {
    const asked = create().health
    fail(asked, 1000)
    expect(asked.enter(NAME, true)).toBe('held')
    const own = create().health
    open(own)
    expect(own.enter(NAME, true)).toBe('probe')
    expect(own.enter(NAME, true)).toBe('held')
  })
})

describe('what operators see', () => {
  it('names state, reason and rest of the hold', () => {
    const { health, time } = create()
    health.succeeded('p/good', health.enter('p/good'))
    fail(health, 1000)
    time.advance(400)
    expect(health.view()).toEqual([
      { deployment: 'p/good', state: 'available', reason: '', holdMs: 0 },
      { deployment: NAME, state: 'unavailable', reason: '429', holdMs: 600 },
    ])
  })

  it('never shows a negative hold', () => {
    const { health, time } = create()
    fail(health, 1000)
    time.advance(5000)
    expect(health.holdMs(NAME)).toBe(0)
    expect(health.view()[0]?.holdMs).toBe(0)
  })
})

describe('a probe that has begun to answer', () => {
  it('lets the next one probe, and still counts by its end', () => {
    const { health, time } = create()
    open(health)
    time.advance(5000)
    const probe = health.enter(NAME)
    expect([probe, health.enter(NAME)]).toEqual(['probe', 'held'])
    const trial = health.answering(NAME, probe)
    expect(trial).toBe('trial')
    expect(health.enter(NAME)).toBe('probe')
    health.failed(NAME, trial, { reason: 'incomplete', retryAfterMs: undefined })
    expect(health.holdMs(NAME)).toBe(10_000)
  })

  it('closes the breaker after three that came to their end', () => {
    const { health, time } = create()
    open(health)
    time.advance(5000)
    for (let i = 0; i < 3; i += 1) health.succeeded(NAME, health.answering(NAME, health.enter(NAME)))
    expect(health.enter(NAME)).toBe('go')
  })
})
