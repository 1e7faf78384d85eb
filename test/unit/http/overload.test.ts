// When requests are shed, whose, and when no more: with a clock that the test moves, and an event loop that does what
// it says.

import { describe, expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import {
  createOverload,
  type Loop,
  OVERLOAD_EVERY_MS,
  type OverloadShown,
  worstOverload,
} from '../../../src/http/overload.ts'
import type { Agent, Caller } from '../../../src/types.ts'
import { createManualClock } from '../../support/manual-clock.ts'

type Class = Agent['class']

type Sample = ReturnType<Loop['read']>

const BUSY: Sample = { delayMs: 5, busyShare: 1, intake: 0.1 }
const LATE: Sample = { ...BUSY, delayMs: 150 }
const NEARLY: Sample = { ...BUSY, delayMs: 75 }
const CROWDED: Sample = { ...BUSY, intake: 1 }
const ON_TIME: Sample = { delayMs: 5, busyShare: 0.6, intake: 0.1 }

function callerOf(of: Class): Caller {
  const agent = {
    name: of,
    role: undefined,
    class: of,
    scopes: [],
    deny: [],
    limits: { strict: false },
    deadlineMs: undefined,
    maxOutputTokens: undefined,
  }
  const bearer = { id: 'b', agent: of, sha256: '', expiresMs: undefined, limits: { strict: false } }
  return { agent, bearer, subjects: [] }
}

const callers = { critical: callerOf('critical'), normal: callerOf('normal'), batch: callerOf('batch') }

function open(random: () => number = () => 0.5) {
  const time = createManualClock()
  const lines: { message: string; fields: Readonly<Record<string, unknown>> }[] = []
  const note = (fields: Readonly<Record<string, unknown>>, message: string) =>
    void lines.push({ message, fields })
  let sample = ON_TIME
  const overload = createOverload({
    loop: { read: () => sample },
    clock: time.clock,
    random,
    log: { info: note, warn: note },
  })
  return {
    overload,
    lines,
    /** One look behind so much time, in which the loop did so. */
    look(as: Sample, afterMs = OVERLOAD_EVERY_MS) {
      sample = as
      time.advance(afterMs)
      overload.check(time.clock.now())
    },
    looks(as: Sample, count: number) {
      for (let i = 0; i < count; i += 1) this.look(as)
    },
    /** So many more of a class, each as it comes; gives how many were let in. */
    enter(of: Class, count: number): number {
      let admitted = 0
      for (let i = 0; i < count; i += 1)
        if (refusal(() => overload.enter(callers[of])) === undefined) admitted += 1
        else overload.leave(callers[of])
      return admitted
    },
    leave(of: Class, count: number) {
      for (let i = 0; i < count; i += 1) overload.leave(callers[of])
    },
  }
}

function refusal(run: () => void): GatewayError | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw error
  }
}

/** Looks in which a loop is late until it is believed. */
const BELIEVED = 5

describe('a loop that is on time', () => {
  it('lets everybody in, however many there are', () => {
    const at = open()
    at.looks(ON_TIME, 3)
    for (const of of ['batch', 'normal', 'critical'] as const) expect(at.enter(of, 10_000)).toBe(10_000)
    at.looks(ON_TIME, 100)
    expect(at.enter('batch', 10_000)).toBe(10_000)
    expect(at.overload.shown()).toEqual({ cap: null, loopDelayMs: 5, shedding: [] })
    expect(at.lines).toEqual([])
  })

  it.each([
    ['is late now and then', [LATE, LATE, LATE, LATE, ON_TIME]],
    ['has time to spare though it is late', [{ ...LATE, delayMs: 400, busyShare: 0.8 }]],
    ['is busy and on time', [{ ...LATE, delayMs: 90 }]],
    ['takes in a connection at each turn, and has time to spare', [{ ...CROWDED, busyShare: 0.8 }]],
  ])('is still one that %s', (_, samples) => {
    const at = open()
    at.enter('batch', 500)
    for (let round = 0; round < 20; round += 1) for (const sample of samples) at.look(sample)
    expect(at.enter('batch', 500)).toBe(500)
    expect(at.lines).toEqual([])
  })

  it('is one that was stopped for a while, and has to catch up', () => {
    const at = open()
    at.enter('batch', 500)
    for (let round = 0; round < 5; round += 1) {
      at.look({ ...LATE, delayMs: 60_000 }, 60_000)
      at.look(LATE, 300)
      at.look(LATE, 250)
      at.look(ON_TIME)
    }
    expect(at.enter('batch', 500)).toBe(500)
    expect(at.lines).toEqual([])
  })
})

describe('a loop that stays late', () => {
  it('sheds after a second, and says so once', () => {
    const at = open()
    at.enter('normal', 200)
    at.looks(LATE, BELIEVED - 1)
    expect(at.enter('batch', 100)).toBe(100)
    at.look(LATE)
    expect(at.enter('batch', 100)).toBe(0)
    at.looks(LATE, 20)
    expect(at.lines).toEqual([
      {
        message: 'overloaded: new requests are shed, batch first',
        fields: { inflight: 300, cap: 200, loopDelayMs: 150 },
      },
    ])
  })

  it('sheds nobody where there is no crowd', () => {
    const at = open()
    at.enter('batch', 20)
    at.looks(LATE, 50)
    expect(at.overload.shown().cap).toBeNull()
    at.leave('batch', 1)
    expect(at.enter('batch', 1)).toBe(1)
  })

  it('goes by the most that were under way since the last look', () => {
    const at = open()
    at.looks(LATE, BELIEVED - 1)
    at.enter('batch', 100)
    at.leave('batch', 100)
    at.look(LATE)
    expect(at.overload.shown().cap).toBe(66)
  })

  it('cuts the cap by how late it is, by a tenth at least and by half at most', () => {
    const capAfter = (delayMs: number): number | null => {
      const at = open()
      at.enter('normal', 1_000)
      at.looks({ ...LATE, delayMs }, BELIEVED)
      return at.overload.shown().cap
    }
    expect([101, 125, 160, 199, 1_000, 60_000].map(capAfter)).toEqual([900, 800, 625, 502, 500, 500])
  })

  it('cuts it again at each look, to no less than 20', () => {
    const at = open()
    at.enter('normal', 1_000)
    at.looks(LATE, BELIEVED + 1)
    expect(at.overload.shown().cap).toBe(444)
    at.looks(LATE, 100)
    expect(at.overload.shown().cap).toBe(20)
    at.leave('normal', 1_000)
    // Whoever comes to a gateway with next to nothing under way is let in, of whatever class.
    expect(at.enter('batch', 100)).toBe(20)
  })

  it('follows those under way down', () => {
    const at = open()
    at.enter('normal', 1_000)
    at.looks(LATE, BELIEVED)
    at.leave('normal', 900)
    at.look(LATE)
    at.look(LATE)
    expect(at.overload.shown().cap).toBe(66)
  })

  it('is also one that has a new connection at each turn: more of them wait where no timer sees it', () => {
    const at = open()
    at.enter('normal', 200)
    at.looks(CROWDED, 2 * BELIEVED - 1)
    expect(at.overload.shown().cap).toBeNull()
    at.look(CROWDED)
    expect(at.overload.shown()).toMatchObject({ cap: 180, loopDelayMs: 5 })
    at.look(CROWDED)
    expect(at.overload.shown().cap).toBe(162)
    at.look(BUSY)
    expect(at.overload.shown().cap).toBe(179)
  })

  it('cuts it once for a stop, however long', () => {
    const at = open()
    at.enter('normal', 1_000)
    at.looks(LATE, BELIEVED)
    at.look({ ...LATE, delayMs: 60_000 }, 60_000)
    expect(at.overload.shown().cap).toBe(333)
  })
})

describe('who is shed', () => {
  /** A cap of 100 with nobody under way. */
  function capped() {
    const at = open()
    at.enter('batch', 200)
    at.looks({ ...LATE, delayMs: 300 }, BELIEVED)
    at.leave('batch', 200)
    expect(at.overload.shown()).toEqual({ cap: 100, loopDelayMs: 300, shedding: [] })
    return at
  }

  it.each([
    ['batch', 50],
    ['normal', 80],
    ['critical', 200],
  ] as const)('of %s alone, all beyond %i at a cap of 100', (of, most) => {
    expect(capped().enter(of, 300)).toBe(most)
  })

  it('batch before normal before critical', () => {
    const at = capped()
    expect(at.enter('normal', 40)).toBe(40)
    expect(at.enter('batch', 40)).toBe(10)
    expect(at.overload.shown().shedding).toEqual(['batch'])
    expect(at.enter('normal', 60)).toBe(40)
    expect(at.overload.shown().shedding).toEqual(['batch', 'normal'])
    expect(at.enter('critical', 300)).toBe(200)
    expect(at.overload.shown().shedding).toEqual(['batch', 'normal', 'critical'])
  })

  it('never a class for what is under way in a lower one', () => {
    const at = open()
    at.enter('batch', 1_000)
    at.looks({ ...LATE, delayMs: 150 }, BELIEVED)
    expect(at.overload.shown()).toMatchObject({ cap: 666, shedding: ['batch'] })
    expect(at.enter('normal', 1_000)).toBe(532)
    expect(at.enter('critical', 2_000)).toBe(1_332)
  })

  it('not who comes when others have left', () => {
    const at = capped()
    at.enter('batch', 50)
    expect(at.enter('batch', 1)).toBe(0)
    at.leave('batch', 1)
    expect(at.enter('batch', 2)).toBe(1)
  })

  it('with 503 and a wait that is spread: 1 to 2 s, 5 s, 10 s by class', () => {
    for (const [of, mostMs] of [
      ['critical', 2_000],
      ['normal', 5_000],
      ['batch', 10_000],
    ] as const) {
      for (const [drawn, waitMs] of [
        [0, 1_000],
        [1, mostMs],
      ] as const) {
        const at = open(() => drawn)
        at.enter(of, 200)
        at.looks(LATE, BELIEVED + 5)
        expect(refusal(() => at.overload.enter(callers[of]))).toMatchObject({
          code: 'overloaded',
          retryAfterMs: waitMs,
        })
      }
    }
  })
})

describe('a loop that is on time again', () => {
  function shedding() {
    const at = open()
    at.enter('batch', 1_000)
    at.looks(LATE, BELIEVED + 5)
    at.leave('batch', 1_000)
    return at
  }

  it('lets in a tenth more at each look', () => {
    const at = shedding()
    const before = at.overload.shown().cap ?? 0
    at.looks(ON_TIME, 3)
    expect(at.overload.shown().cap).toBe(Math.ceil(Math.ceil(Math.ceil(before * 1.1) * 1.1) * 1.1))
  })

  it('ends it after three seconds in which nobody was shed, and says so once, with how many were', () => {
    const at = shedding()
    expect(at.enter('batch', 1_000)).toBeLessThan(1_000)
    at.looks(ON_TIME, 14)
    expect(at.overload.shown().cap).not.toBeNull()
    at.look(ON_TIME)
    expect(at.overload.shown()).toEqual({ cap: null, loopDelayMs: 5, shedding: [] })
    at.looks(ON_TIME, 50)
    expect(at.lines.map(({ message }) => message)).toEqual([
      'overloaded: new requests are shed, batch first',
      'overloaded no more',
    ])
    expect(at.lines[1]?.fields).toMatchObject({ shed: { critical: 0, normal: 0 } })
  })

  it('goes on while somebody is shed, and lets in more and more', () => {
    const at = shedding()
    let left = 0
    for (let look = 0; look < 200 && at.overload.shown().cap !== null; look += 1) {
      left += 1
      const admitted = at.enter('batch', 2_000)
      at.look(ON_TIME)
      at.leave('batch', admitted)
    }
    expect(at.overload.shown().cap).toBeNull()
    expect(at.enter('batch', 2_000)).toBe(2_000)
    // Within 20 s: from one 58th of what is asked for back to all of it.
    expect(left).toBeLessThan(100)
  })

  it('neither cuts nor lets in more while it is nearly late', () => {
    const at = shedding()
    const before = at.overload.shown().cap
    at.looks(NEARLY, 100)
    expect(at.overload.shown().cap).toBe(before)
    at.looks(ON_TIME, 1)
    expect(at.overload.shown().cap).toBeNull()
  })

  it('is also one that is late with time to spare', () => {
    const at = shedding()
    at.looks({ ...LATE, delayMs: 400, busyShare: 0.7 }, 30)
    expect(at.overload.shown().cap).toBeNull()
  })

  it('begins anew after another second', () => {
    const at = shedding()
    at.looks(ON_TIME, 30)
    at.enter('batch', 100)
    at.looks(LATE, BELIEVED - 1)
    expect(at.overload.shown().cap).toBeNull()
    at.look(LATE)
    expect(at.overload.shown().cap).toBe(66)
    at.leave('batch', 100)
    at.looks(ON_TIME, 30)
    // Each time is told with its own numbers.
    expect(at.lines).toHaveLength(4)
    expect(at.lines[3]?.fields).toMatchObject({ shed: { batch: 0 } })
  })
})

it('of several processes the worst is shown: the least cap, or else the slowest loop', () => {
  const calm: OverloadShown = { cap: null, loopDelayMs: 3, shedding: [] }
  const slow: OverloadShown = { cap: null, loopDelayMs: 80, shedding: [] }
  const capped: OverloadShown = { cap: 50, loopDelayMs: 10, shedding: ['batch'] }
  expect(worstOverload([calm, capped, slow])).toBe(capped)
  expect(worstOverload([calm, slow])).toBe(slow)
  expect(worstOverload([])).toBeUndefined()
})
