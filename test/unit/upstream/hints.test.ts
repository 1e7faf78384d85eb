import { describe, expect, it } from 'vitest'
import { createPlaces } from '../../../src/upstream/hint-carriers.ts'
import { type Carrier, createSharedHints, type Hint } from '../../../src/upstream/hints.ts'
import { createManualClock } from '../../support/manual-clock.ts'

const HELD: Hint = {
  kind: 'held',
  deployment: 'p/m',
  trouble: 'unavailable',
  reason: '503',
  ms: 5000,
  asked: false,
}

function create(carrier: Partial<Carrier> = {}) {
  const time = createManualClock({ nowMs: 1000 })
  const learnt: Hint[] = []
  const published: string[] = []
  const given: string[] = []
  const hints = createSharedHints({
    carrier: {
      publish: async (text) => published.push(text),
      take: async () => true,
      give: async (deployment) => given.push(deployment),
      ...carrier,
    },
    clock: time.clock,
    timers: time.timers,
    replica: 'r1',
    learn: (hint) => learnt.push(hint),
  })
  return { time, hints, learnt, published, given }
}

describe('hints', () => {
  it.each<Hint>([
    HELD,
    { kind: 'suspect', deployment: 'p/m' },
    { kind: 'back', deployment: 'p/m' },
    { kind: 'quota', deployment: 'p/m', share: 0.05, resetMs: 1000 },
    { ...HELD, deployment: 'p/*', model: 'm' },
    { kind: 'back', deployment: 'p/*', model: 'm' },
    { kind: 'quota', deployment: 'p/*', model: 'm', share: 0.05, resetMs: 1000 },
    { kind: 'checked', provider: 'p', reason: '503' },
    { kind: 'checked', provider: 'p', reason: undefined },
  ])('are understood by the others, and not by the one who said them: %j', async (hint) => {
    const { hints, published, learnt } = create()
    hints.tell(hint)
    await Promise.resolve()
    const [text = ''] = published
    hints.hear(text)
    expect(learnt).toEqual([])
    hints.hear(text.replace('r1', 'r2'))
    expect(learnt).toEqual([hint])
  })

  it.each([
    '',
    'x',
    'null',
    '[]',
    '{}',
    '{"kind":"held"}',
    JSON.stringify({ ...HELD, ms: -1 }),
    JSON.stringify({ ...HELD, ms: 1e9 }),
    JSON.stringify({ ...HELD, ms: '5000' }),
    JSON.stringify({ ...HELD, trouble: 'available' }),
    JSON.stringify({ ...HELD, trouble: 'gone' }),
    JSON.stringify({ ...HELD, deployment: 5 }),
    JSON.stringify({ ...HELD, model: 5 }),
    JSON.stringify({ kind: 'quota', deployment: 'p/m', share: 2, resetMs: 1 }),
    JSON.stringify({ kind: 'news', deployment: 'p/m' }),
    JSON.stringify({ kind: 'checked', deployment: 'p/m' }),
    JSON.stringify({ kind: 'checked', provider: 'p', reason: 503 }),
    JSON.stringify({ ...HELD, padding: 'x'.repeat(2000) }),
  ])('that are none say nothing: %s', (text) => {
    const { hints, learnt } = create()
    hints.hear(text)
    expect(learnt).toEqual([])
  })

  it.each([
    ['rejects', () => Promise.reject(new Error('away'))],
    [
      'throws',
      () => {
        throw new Error('away')
      },
    ],
  ])('are lost without a sound when the carrier %s', async (_, fail) => {
    const { hints } = create({ publish: fail, take: fail, give: fail })
    hints.tell(HELD)
    expect(await hints.mayProbe('p/m')).toBe(true)
    hints.probed('p/m')
  })
})

describe('the probe of the fleet', () => {
  it('is the one who asks first', async () => {
    let free = true
    const { hints, given, time } = create({ take: async () => free })
    expect(await hints.mayProbe('p/m')).toBe(true)
    hints.probed('p/m')
    hints.probed('p/m')
    await time.advanceAsync(0)
    expect(given).toEqual(['p/m'])
    free = false
    expect(await hints.mayProbe('p/m')).toBe(false)
    hints.probed('p/m')
    await time.advanceAsync(0)
    expect(given).toEqual(['p/m'])
  })

  it('is not asked for again and again while somebody else has it', async () => {
    let asked = 0
    const { hints, time } = create({
      take: async () => {
        asked += 1
        return false
      },
    })
    for (let i = 0; i < 50; i += 1) expect(await hints.mayProbe('p/m')).toBe(false)
    expect(asked).toBe(1)
    time.advance(100)
    await hints.mayProbe('p/m')
    expect(asked).toBe(2)
  })

  it('waits for an answer no longer than 100 ms', async () => {
    const { hints, time } = create({ take: () => new Promise(() => {}) })
    const may = hints.mayProbe('p/m')
    await time.advanceAsync(100)
    expect(await may).toBe(true)
  })

  it('gives back a place that it gets when it waits for it no more: nobody else would', async () => {
    let answer: (isTaken: boolean) => void = () => {}
    for (const isTaken of [true, false]) {
      const { hints, given, time } = create({ take: () => new Promise((resolve) => (answer = resolve)) })
      const may = hints.mayProbe('p/m')
      await time.advanceAsync(100)
      expect(await may).toBe(true)
      answer(isTaken)
      await time.advanceAsync(0)
      hints.probed('p/m')
      await time.advanceAsync(0)
      expect(given).toEqual(isTaken ? ['p/m'] : [])
    }
  })

  it('and a check have places of their own', async () => {
    const taken: unknown[] = []
    let answer: () => Promise<boolean> = async () => true
    const { hints } = create({
      take: (...asked) => {
        taken.push(asked)
        return answer()
      },
    })
    expect(await hints.mayCheck('p', 7500)).toBe(true)
    expect(taken).toEqual([['check:p', 7500]])
    answer = async () => false
    expect(await hints.mayCheck('p', 7500)).toBe(false)
    // Whoever can ask nobody checks for himself.
    answer = () => Promise.reject(new Error('no redis'))
    expect(await hints.mayCheck('p', 7500)).toBe(true)
  })

  it('has a place that ends by itself, and with its owner', () => {
    const time = createManualClock()
    const places = createPlaces(time.clock)
    expect([places.take('p/m', 1, 1000), places.take('p/m', 2, 1000)]).toEqual([true, false])
    places.give('p/m', 2)
    expect(places.take('p/m', 2, 1000)).toBe(false)
    time.advance(1000)
    expect(places.take('p/m', 2, 1000)).toBe(true)
    places.forget(2)
    expect(places.take('p/m', 3, 1000)).toBe(true)
    places.give('p/m', 3)
    expect(places.take('p/m', 4, 1000)).toBe(true)
  })
})
