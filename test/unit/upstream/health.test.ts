import { describe, expect, it } from 'vitest'
import type { Agent } from '../../../src/types.ts'
import { createHealth, type Entry, type Health, type StateChange } from '../../../src/upstream/health.ts'
import type { DeploymentHint } from '../../../src/upstream/hints.ts'
import { createManualClock, type ManualClock } from '../../support/manual-clock.ts'

const NAME = 'p/m'

const FORCED = { class: 'normal', force: true } as const

interface Stage {
  readonly health: Health
  readonly time: ManualClock
  readonly changes: StateChange[]
  readonly told: DeploymentHint[]
  readonly probed: string[]
}

function create({ random = 0.5, graceMs = 0 } = {}): Stage {
  const time = createManualClock({ nowMs: 1000 })
  const changes: StateChange[] = []
  const told: DeploymentHint[] = []
  const probed: string[] = []
  const health = createHealth({
    clock: time.clock,
    random: () => random,
    graceMs: () => graceMs,
    onChange: (change) => changes.push(change),
    hints: { tell: (hint) => told.push(hint), probed: (deployment) => probed.push(deployment) },
  })
  return { time, health, changes, told, probed }
}

function fail(health: Health, retryAfterMs?: number, entry: Entry = health.enter(NAME)): void {
  health.failed(NAME, entry, { reason: retryAfterMs === undefined ? '503' : '429', retryAfterMs })
}

function succeed(health: Health): void {
  health.succeeded(NAME, 'go')
}

/** Fails, is held, and answers three probes. */
function recover(health: Health, time: ManualClock): void {
  if (health.isAvailable(NAME)) open(health)
  time.advance(health.holdMs(NAME))
  for (let i = 0; i < 3; i += 1) health.succeeded(NAME, health.enter(NAME))
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
    const { health } = create({ random })
    open(health)
    expect(health.holdMs(NAME)).toBeCloseTo(5000 * factor, 0)
  })

  it('doubles the hold each time a probe fails, up to what lets a provider be asked within 15 s of its return', () => {
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
    expect(holds).toEqual([5000, 10_000, ...Array<number>(7).fill(12_000)])
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

  it('begins after three clean probes, and takes what the ramp allows: 10, 25, 50 and 100 %', () => {
    const { health, time } = create()
    recover(health, time)
    const shares = [0, 1, 2, 3].map(() => {
      const gone = Array.from({ length: 1000 }, () => health.enter(NAME)).filter(
        (entry) => entry === 'go',
      ).length
      time.advance(5_000)
      return gone / 1000
    })
    expect(shares[0]).toBeCloseTo(0.1, 2)
    expect(shares[1]).toBeCloseTo(0.25, 2)
    expect(shares[2]).toBeCloseTo(0.5, 2)
    expect(shares[3]).toBe(1)
  })

  it('takes the first call behind the probes, however small its share', () => {
    const { health, time } = create()
    recover(health, time)
    expect(health.enter(NAME)).toBe('go')
  })

  it('asks for clean probes as long as the grace lasts', () => {
    const { health, time } = create({ graceMs: 30_000 })
    open(health)
    time.advance(5000)
    for (let i = 0; i < 30; i += 1) {
      const entry = health.enter(NAME)
      expect(entry).toBe('probe')
      health.succeeded(NAME, entry)
      time.advance(1000)
    }
    const last = health.enter(NAME)
    expect(last).toBe('probe')
    health.succeeded(NAME, last)
    expect(health.view()[0]?.phase).toBe('recovering')
  })

  it('begins anew, with a longer hold, when a probe fails or the traffic does', () => {
    const { health, time } = create()
    recover(health, time)
    // One failure among many is no relapse.
    fail(health)
    for (let i = 0; i < 50; i += 1) succeed(health)
    expect(health.view()[0]?.phase).toBe('recovering')
    for (let i = 0; i < 2; i += 1) health.failed(NAME, 'go', { reason: '503', retryAfterMs: undefined })
    expect(health.view()[0]?.phase).toBe('held')
    expect(health.holdMs(NAME)).toBe(10_000)
  })

  it('forgives after a minute without trouble', () => {
    const { health, time } = create()
    recover(health, time)
    time.advance(15_000)
    succeed(health)
    time.advance(60_001)
    open(health)
    expect(health.holdMs(NAME)).toBe(5000)
    recover(health, time)
    time.advance(15_000)
    succeed(health)
    time.advance(50_000)
    open(health)
    expect(health.holdMs(NAME)).toBe(10_000)
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
    const { health, time } = create({ random: 0.123 })
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

  it('of a rate limit ends with one clean probe and a short ramp: the provider said when it would be well', () => {
    const { health, time } = create({ graceMs: 30_000 })
    fail(health, 20_000)
    time.advance(20_000)
    health.succeeded(NAME, health.enter(NAME))
    expect(health.view()[0]).toMatchObject({ phase: 'recovering', share: 0.1 })
    time.advance(3000)
    expect([1, 2, 3].map(() => health.enter(NAME))).toEqual(['go', 'go', 'go'])
  })

  it('of an outage takes the long way back', () => {
    const { health, time } = create({ graceMs: 30_000 })
    health.failed(NAME, health.enter(NAME), { reason: '503', retryAfterMs: 20_000 })
    time.advance(20_000)
    health.succeeded(NAME, health.enter(NAME))
    expect(health.view()[0]?.phase).toBe('probing')
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
    expect(asked.enter(NAME, FORCED)).toBe('held')
    const own = create().health
    open(own)
    expect(own.enter(NAME, FORCED)).toBe('probe')
    expect(own.enter(NAME, FORCED)).toBe('held')
  })
})

describe('what operators see', () => {
  it('names state, reason and rest of the hold', () => {
    const { health, time } = create()
    health.succeeded('p/good', health.enter('p/good'))
    const sinceMs = time.clock.wall()
    fail(health, 10_000)
    time.advance(400)
    expect(health.view()).toEqual([
      { deployment: 'p/good', state: 'available', reason: '', sinceMs, holdMs: 0, phase: 'open', share: 1 },
      {
        deployment: NAME,
        state: 'unavailable',
        reason: '429',
        sinceMs,
        holdMs: 9600,
        phase: 'held',
        share: 0,
      },
    ])
  })

  it('never shows a negative hold', () => {
    const { health, time } = create()
    fail(health, 1000)
    time.advance(5000)
    expect(health.holdMs(NAME)).toBe(0)
    expect(health.view()[0]?.holdMs).toBe(0)
  })

  it('is told at once when something goes wrong, and for at least half a minute', () => {
    const { health, time, changes } = create()
    open(health)
    expect(changes).toEqual([
      { deployment: NAME, from: 'available', to: 'unavailable', reason: '503', holdMs: 5000 },
    ])
    recover(health, time)
    time.advance(15_000)
    succeed(health)
    expect(health.view()[0]).toMatchObject({ state: 'unavailable', phase: 'open' })
    time.advance(10_000)
    expect(health.view()[0]).toMatchObject({ state: 'available', reason: '' })
    expect(changes.at(-1)).toMatchObject({ from: 'unavailable', to: 'available', reason: '503' })
  })

  it.each([0, 5_000, 30_000])(
    'changes its word at most once in 30 s under a primary that fails every second call, with a grace of %d ms',
    (graceMs) => {
      const { health, time, changes } = create({ graceMs })
      const at: number[] = []
      let calls = 0
      for (let i = 0; i < 10 * 60 * 20; i += 1) {
        const before = changes.length
        const entry = health.enter(NAME)
        if (entry !== 'held') {
          calls += 1
          // Deterministic, and no pattern that could fall in step with the probes.
          const isBad = (Math.imul(calls, 2654435761) >>> 16) % 2 === 0
          if (isBad) health.failed(NAME, entry, { reason: '500', retryAfterMs: undefined })
          else health.succeeded(NAME, entry)
        }
        if (changes.length > before) at.push(time.clock.now())
        time.advance(50)
      }
      expect(at.length).toBeGreaterThan(0)
      for (let i = 1; i < at.length; i += 1)
        expect((at[i] as number) - (at[i - 1] as number)).toBeGreaterThanOrEqual(30_000)
    },
  )

  it.each([500, 5_000, 20_000])(
    'stays the same under a primary that refuses every fifth call for %d ms: it is not well in between',
    (retryAfterMs) => {
      const { health, time, changes } = create()
      let seed = 1
      for (let i = 0; i < 10 * 60 * 20; i += 1) {
        const entry = health.enter(NAME)
        if (entry !== 'held') {
          // Chance has runs, and after a long one without a refusal all traffic is back.
          seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31
          if (seed >= 0.2 * 2 ** 31) health.succeeded(NAME, entry)
          else health.failed(NAME, entry, { reason: '429', retryAfterMs })
        }
        time.advance(50)
      }
      expect(changes).toHaveLength(1)
    },
  )
})

describe('half of the calls', () => {
  it('of at least twenty in ten seconds is enough, whatever their order', () => {
    const { health } = create()
    for (let i = 0; i < 9; i += 1) {
      fail(health)
      succeed(health)
    }
    fail(health)
    expect(health.isAvailable(NAME)).toBe(true)
    succeed(health)
    fail(health)
    expect(health.isAvailable(NAME)).toBe(false)
  })

  it('of calls long ago does not count', () => {
    const { health, time } = create()
    for (let i = 0; i < 9; i += 1) {
      fail(health)
      succeed(health)
    }
    time.advance(11_000)
    for (let i = 0; i < 4; i += 1) fail(health)
    expect(health.isAvailable(NAME)).toBe(true)
  })
})

describe('a missed first token', () => {
  function miss(health: Health, entry: Entry = health.enter(NAME)): void {
    health.failed(NAME, entry, { reason: 'first_token', retryAfterMs: undefined })
  }

  it('makes it slow at once, so that only those who wait already pay', () => {
    const { health, time, changes } = create()
    const begun = [health.enter(NAME), health.enter(NAME)] as const
    miss(health)
    expect(changes).toMatchObject([{ to: 'slow', reason: 'first_token' }])
    expect(health.isAvailable(NAME)).toBe(false)
    expect(health.enter(NAME)).toBe('held')
    for (const entry of begun) miss(health, entry)
    expect(health.holdMs(NAME)).toBe(5000)
    time.advance(5000)
    expect([health.enter(NAME), health.enter(NAME)]).toEqual(['probe', 'held'])
  })

  it('costs a probe less and less often, up to once a minute', () => {
    const { health, time } = create()
    miss(health)
    const holds: number[] = []
    for (let i = 0; i < 6; i += 1) {
      holds.push(health.holdMs(NAME))
      time.advance(health.holdMs(NAME))
      miss(health)
    }
    expect(holds).toEqual([5000, 10_000, 20_000, 40_000, 60_000, 60_000])
  })

  it('leaves it all calls of those who have nobody else', () => {
    const { health, time } = create()
    miss(health)
    expect(health.isReluctant(NAME)).toBe(true)
    expect([1, 2, 3].map(() => health.enter(NAME, FORCED))).toEqual(['go', 'go', 'go'])
    time.advance(5000)
    expect(health.enter(NAME)).toBe('probe')
    expect(health.enter(NAME, FORCED)).toBe('go')
  })

  it('is one too when the answer came, but late', () => {
    const { health } = create()
    health.late(NAME, health.enter(NAME), 'first_token')
    expect(health.view()[0]).toMatchObject({ state: 'slow', reason: 'first_token', phase: 'held' })
  })
})

describe('who has nobody else', () => {
  it('is let through as soon as a probe was clean', () => {
    const { health, time } = create({ graceMs: 30_000 })
    open(health)
    expect(health.isReluctant(NAME)).toBe(false)
    time.advance(5000)
    health.succeeded(NAME, health.enter(NAME))
    expect(health.isReluctant(NAME)).toBe(true)
    expect([1, 2, 3].map(() => health.enter(NAME, FORCED))).toEqual(['go', 'go', 'go'])
  })

  it('waits for the probe of another no longer than a second', () => {
    const { health, time } = create()
    open(health)
    expect(health.enter(NAME, FORCED)).toBe('probe')
    time.advance(999)
    expect(health.enter(NAME, FORCED)).toBe('held')
    time.advance(1)
    expect([health.enter(NAME), health.enter(NAME, FORCED)]).toEqual(['held', 'probe'])
  })

  it('takes all of what is spared for others', () => {
    const { health, time } = create()
    recover(health, time)
    for (let i = 0; i < 20; i += 1) expect(health.enter(NAME, FORCED)).toBe('go')
  })
})

describe('a quota', () => {
  const share = (health: Health, klass: Agent['class']): number =>
    Array.from({ length: 100 }, () => health.enter(NAME, { class: klass })).filter((entry) => entry === 'go')
      .length / 100

  it('that is low is left to the critical, in part to the normal, and not to a batch', () => {
    const { health, changes } = create()
    health.quota(NAME, { share: 0.04, resetMs: 60_000 })
    expect(changes).toMatchObject([{ to: 'low_quota', reason: '4 % of its quota left' }])
    expect(share(health, 'critical')).toBe(1)
    expect(share(health, 'normal')).toBeCloseTo(0.4, 1)
    expect(share(health, 'batch')).toBe(0)
    expect(health.isAvailable(NAME, 'batch')).toBe(false)
    expect(health.isReluctant(NAME)).toBe(true)
    expect(health.enter(NAME, { class: 'batch', force: true })).toBe('go')
  })

  it('that is empty is nobody’s until a tenth of it is there again', () => {
    const { health, time } = create()
    health.quota(NAME, { share: 0, resetMs: 60_000 })
    expect(share(health, 'critical')).toBe(0)
    expect(health.holdMs(NAME)).toBe(6000)
    time.advance(5999)
    expect(share(health, 'critical')).toBe(0)
    time.advance(1)
    expect(share(health, 'critical')).toBe(1)
    expect(share(health, 'normal')).toBe(1)
  })

  it('that is back is everybody’s at once, and is told of half a minute later', () => {
    const { health, time } = create()
    health.quota(NAME, { share: 0.05, resetMs: 60_000 })
    health.quota(NAME, { share: 0.12, resetMs: 60_000 })
    expect(health.view()[0]?.state).toBe('low_quota')
    health.quota(NAME, { share: 0.5, resetMs: 60_000 })
    expect(share(health, 'batch')).toBe(1)
    expect(health.view()[0]?.state).toBe('low_quota')
    time.advance(30_000)
    expect(health.view()[0]?.state).toBe('available')
  })

  it('with plenty left makes no record of a deployment', () => {
    const { health } = create()
    health.quota(NAME, { share: 0.9, resetMs: 60_000 })
    expect(health.view()).toEqual([])
  })

  it('of a rate limit that is over at once is low, not an outage', () => {
    const { health, changes } = create()
    fail(health, 2000)
    expect(changes).toMatchObject([{ to: 'low_quota', reason: '429', holdMs: 2000 }])
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

  it('is on its way back after three that came to their end', () => {
    const { health, time } = create()
    open(health)
    time.advance(5000)
    for (let i = 0; i < 3; i += 1) health.succeeded(NAME, health.answering(NAME, health.enter(NAME)))
    expect(health.view()[0]?.phase).toBe('recovering')
  })
})

describe('replicas', () => {
  /** Two that hear each other. */
  function pair(graceMs = 0): [Stage, Stage] {
    return [create({ graceMs }), create({ graceMs })]
  }
  const pass = (from: Stage, to: Stage): void => {
    for (const hint of from.told.splice(0)) to.health.learn(hint)
  }

  it('hold back together what a provider said to one of them', () => {
    const [a, b] = pair()
    open(a.health)
    pass(a, b)
    expect(b.health.enter(NAME)).toBe('held')
    expect(b.health.holdMs(NAME)).toBe(5000)
    expect(b.changes).toMatchObject([{ to: 'unavailable', reason: '503' }])
    // Nobody passes on what was told.
    expect(b.told).toEqual([])
  })

  it('keep what the provider asked for, whoever was asked', () => {
    const [a, b] = pair()
    fail(a.health, 17_000)
    pass(a, b)
    b.time.advance(16_999)
    expect(b.health.enter(NAME, FORCED)).toBe('held')
    b.time.advance(1)
    expect(b.health.enter(NAME)).toBe('probe')
  })

  it('need one failure of their own where another could not get there', () => {
    const [a, b] = pair()
    for (let i = 0; i < 5; i += 1)
      a.health.failed(NAME, a.health.enter(NAME), { reason: 'refused', retryAfterMs: undefined })
    expect(a.told).toEqual([{ kind: 'suspect', deployment: NAME }])
    pass(a, b)
    expect(b.health.enter(NAME)).toBe('go')
    b.health.failed(NAME, 'go', { reason: 'refused', retryAfterMs: undefined })
    expect(b.health.enter(NAME)).toBe('held')
  })

  it('begin the way back together, by the probes of one', () => {
    const [a, b] = pair()
    open(a.health)
    pass(a, b)
    a.time.advance(5000)
    b.time.advance(5000)
    for (let i = 0; i < 3; i += 1) a.health.succeeded(NAME, a.health.enter(NAME))
    expect(a.probed).toHaveLength(3)
    pass(a, b)
    expect(b.health.view()[0]).toMatchObject({ phase: 'recovering', share: 0.1 })
    // And end it together when it was too early.
    b.health.failed(NAME, 'go', { reason: '503', retryAfterMs: undefined })
    b.health.failed(NAME, 'go', { reason: '503', retryAfterMs: undefined })
    pass(b, a)
    expect(a.health.view()[0]?.phase).toBe('held')
  })

  it('do not come back before the time that a provider asked for', () => {
    const [a, b] = pair()
    fail(b.health, 60_000)
    a.health.learn({ kind: 'back', deployment: NAME })
    b.health.learn({ kind: 'back', deployment: NAME })
    expect(b.health.enter(NAME)).toBe('held')
  })

  it('share what is left of a quota, and say so once a second', () => {
    const [a, b] = pair()
    for (let i = 0; i < 10; i += 1) a.health.quota(NAME, { share: 0, resetMs: 60_000 })
    expect(a.told).toHaveLength(1)
    pass(a, b)
    expect(b.health.enter(NAME)).toBe('held')
    expect(b.told).toEqual([])
  })
})

describe('models of `provider/*`', () => {
  const ALL = 'p/*'
  const of = (model: string) => ({ deployment: ALL, model })
  const [A, B] = [of('a'), of('b')]
  const limit = (health: Health, callee = A, retryAfterMs: number | undefined = 30_000): void =>
    health.failed(callee, health.enter(callee), { reason: '429', retryAfterMs })

  it('have rate limits of their own', () => {
    const { health, time, changes } = create()
    limit(health)
    expect([health.enter(A), health.enter(A, FORCED)]).toEqual(['held', 'held'])
    expect(health.isAvailable(A)).toBe(false)
    expect(health.holdMs(A)).toBe(30_000)
    expect([health.enter(B), health.isAvailable(B), health.holdMs(B)]).toEqual(['go', true, 0])
    expect(health.enter(ALL)).toBe('go')
    expect(changes).toEqual([
      { deployment: ALL, model: 'a', from: 'available', to: 'unavailable', reason: '429', holdMs: 30_000 },
    ])
    expect(health.view()).toMatchObject([
      { deployment: ALL, state: 'available', models: [{ model: 'a', phase: 'held', holdMs: 30_000 }] },
    ])
    expect([health.look(A)?.phase, health.look(B)?.phase]).toEqual(['held', 'open'])
    // Back as any other: one probe, one that is clean, a ramp.
    time.advance(30_000)
    const entry = health.enter(A)
    expect([entry, health.enter(A), health.enter(B)]).toEqual(['probe:model', 'held', 'go'])
    health.succeeded(A, health.answering(A, entry))
    expect(health.look(A)?.phase).toBe('recovering')
    time.advance(3_000)
    expect(Array.from({ length: 20 }, () => health.enter(A))).toEqual(Array(20).fill('go'))
  })

  it('are held back one by one when no wait is named', () => {
    const { health } = create()
    for (let i = 0; i < 5; i += 1) {
      expect(health.enter(A)).toBe('go')
      health.failed(A, 'go', { reason: '429', retryAfterMs: undefined })
    }
    expect([health.enter(A), health.enter(B)]).toEqual(['held', 'go'])
  })

  it('have quotas of their own', () => {
    const { health } = create()
    health.enter(A)
    health.quota(A, { share: 0, resetMs: 60_000 })
    expect([health.enter(A), health.enter(B)]).toEqual(['held', 'go'])
    expect(health.look(A)).toMatchObject({ state: 'low_quota', reason: '0 % of its quota left' })
  })

  it.each(['refused', 'dns', 'tls', 'connect', 'reset', '503', '529'] as const)(
    'share what is wrong with the provider: %s',
    (reason) => {
      const { health } = create()
      for (let i = 0; i < 5; i += 1)
        health.failed(of(`m${i}`), health.enter(of(`m${i}`)), { reason, retryAfterMs: undefined })
      expect([health.enter(A), health.enter(B), health.enter(ALL)]).toEqual(['held', 'held', 'held'])
      expect(health.view()[0]?.models).toBeUndefined()
    },
  )

  it('share the silence of the provider, its checks, and its way back', () => {
    const { health, time } = create()
    limit(health, A, 1_500)
    health.failed(B, health.enter(B), { reason: 'first_token', retryAfterMs: undefined })
    expect([health.enter(A), health.enter(B)]).toEqual(['held', 'held'])
    time.advance(5_000)
    // One probe for both: of the provider, and of the model.
    const entry = health.enter(A)
    expect([entry, health.enter(A), health.enter(B)]).toEqual(['probe', 'held', 'held'])
    for (let i = 0, probe = entry; i < 3; i += 1, probe = health.enter(A)) health.succeeded(A, probe)
    expect(health.view()[0]).toMatchObject({ phase: 'recovering' })
    expect(health.look(B)?.phase).toBe('recovering')
  })

  it.each(['while it runs', 'when it has begun to answer'])(
    'prove nothing of the provider by a probe of the model, %s, when it has failed since',
    (when) => {
      const { health, time } = create()
      limit(health, A, 1_500)
      time.advance(1_500)
      const probe = health.enter(A)
      const entry = when === 'while it runs' ? probe : health.answering(A, probe)
      for (let i = 0; i < 5; i += 1)
        health.failed(B, health.enter(B), { reason: '503', retryAfterMs: undefined })
      const heldMs = health.holdMs(B)
      expect(heldMs).toBeGreaterThan(0)
      health.succeeded(A, entry)
      expect([health.enter(A), health.enter(B), health.holdMs(B)]).toEqual(['held', 'held', heldMs])
      // Of the model it was one.
      expect(health.view()[0]?.models).toMatchObject([{ model: 'a', phase: 'recovering' }])
    },
  )

  it('prove nothing of the model by a probe of the provider', () => {
    const { health, time } = create()
    limit(health, A, 60_000)
    time.advance(60_000)
    health.succeeded(A, health.enter(A))
    time.advance(3_000)
    for (let i = 0; i < 5; i += 1)
      health.failed(B, health.enter(B), { reason: '503', retryAfterMs: undefined })
    time.advance(health.holdMs(B))
    const probe = health.enter(A)
    expect(probe).toBe('probe:deployment')
    for (let i = 0; i < 5; i += 1) health.failed(A, 'go', { reason: '429', retryAfterMs: undefined })
    health.succeeded(A, probe)
    expect(health.view()[0]).toMatchObject({ phase: 'probing', models: [{ model: 'a', phase: 'held' }] })
  })

  it('leave the probe of the provider to others when one is over its rate', () => {
    const { health, time } = create()
    health.failed(B, health.enter(B), { reason: '503', retryAfterMs: 5_000 })
    time.advance(5_000)
    limit(health)
    expect([health.enter(A), health.enter(B)]).toEqual(['held', 'probe'])
    health.released(B, 'probe')
    expect(health.enter(B)).toBe('probe')
  })

  it('are told to other replicas, and learnt from them', () => {
    const [a, b] = [create(), create()]
    limit(a.health)
    expect(a.told).toEqual([
      {
        kind: 'held',
        deployment: ALL,
        model: 'a',
        trouble: 'unavailable',
        reason: '429',
        ms: 30_000,
        asked: true,
      },
    ])
    for (const hint of a.told) b.health.learn(hint)
    expect([b.health.enter(A), b.health.enter(B)]).toEqual(['held', 'go'])
    b.time.advance(30_000)
    b.health.learn({ kind: 'back', deployment: ALL, model: 'a' })
    expect(b.health.look(A)?.phase).toBe('recovering')
    // Of whom nothing is known nothing has to come back.
    b.health.learn({ kind: 'back', deployment: ALL, model: 'c' })
    expect(b.health.look(of('c'))?.phase).toBe('open')
  })

  it('are kept apart up to the 64th; of more, those that were told of first are forgotten', () => {
    const { health } = create()
    limit(health, of('short'), 1_500)
    for (let i = 0; i < 63; i += 1) limit(health, of(`m${i}`))
    expect(health.view()[0]?.models).toHaveLength(64)
    limit(health, of('more'))
    // The one that was told of first.
    expect(health.enter(of('short'))).toBe('go')
    expect([health.enter(of('m0')), health.enter(of('more'))]).toEqual(['held', 'held'])
    for (let i = 0; i < 1_000; i += 1) limit(health, of(`n${i}`))
    expect(health.view()[0]?.models).toHaveLength(64)
    expect([health.enter(of('m0')), health.enter(of('n999')), health.enter(ALL)]).toEqual([
      'go',
      'held',
      'go',
    ])
  })

  it('are forgotten first when they are well again', () => {
    const { health, time } = create()
    limit(health, of('first'), 600_000)
    limit(health, of('well'), 1_500)
    time.advance(1_500)
    health.succeeded(of('well'), health.enter(of('well')))
    time.advance(40_000)
    for (let i = 0; i < 62; i += 1) limit(health, of(`m${i}`))
    expect(health.view()[0]?.models).toHaveLength(63)
    limit(health, of('more'))
    expect([health.enter(of('first')), health.enter(of('more'))]).toEqual(['held', 'held'])
    limit(health, of('one too many'))
    expect(health.enter(of('first'))).toBe('go')
  })
})
