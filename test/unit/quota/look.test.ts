// Looking at limits: what is seen is what there is, and nothing is taken by it.

import { describe, expect, it } from 'vitest'
import { toAccount } from '../../../src/quota/account.ts'
import { createLeaseStore } from '../../../src/quota/leases.ts'
import { NO_UNITS } from '../../../src/quota/ledger.ts'
import { createMeter } from '../../../src/quota/meter.ts'
import { budgetsShown, toForeseen, toShown } from '../../../src/quota/shown.ts'
import { type Ask, type InHand, type Levels, systemTimers } from '../../../src/quota/store.ts'
import type { Subject } from '../../../src/types.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import {
  agentSubject,
  allowed,
  caller,
  claimOn,
  manualClock,
  memoryStore,
  modelRequest,
  perSecond,
} from './fixtures.ts'
import { createFleet, type Replica } from './fleet.ts'

const HOURLY = { capacity: 100, intervalUs: 3.6e9 }

async function look({ store }: Replica, subject: Subject): Promise<InHand> {
  const [seen] = await store.look([toAccount(subject)])
  if (seen === undefined) throw new Error('one answer for one account')
  return seen
}

const shown = async (replica: Replica, subject: Subject) => toShown(await look(replica, subject), 0)

describe('a look', () => {
  it('takes nothing, writes nothing and is soon forgotten', async () => {
    const { replicas, ledgers, time } = createFleet(1)
    const [one] = replicas as [Replica]
    const subject = agentSubject('a', {
      requests: HOURLY,
      tokens: HOURLY,
      concurrency: 2,
      budget: { micros: 5e6, period: 'day' },
    })
    for (let i = 0; i < 50; i++) {
      expect(await shown(one, subject)).toEqual({
        kind: 'agent',
        id: 'a',
        toldBy: 'ledgers',
        sharedBy: 1,
        requests: { limit: 100, perSecond: 0.000277777778, left: 100, fullInMs: 0, leasedHere: 0 },
        tokens: { limit: 100, perSecond: 0.000277777778, left: 100, fullInMs: 0, leasedHere: 0 },
        concurrency: { limit: 2, left: 2, inUse: 0, usedHere: 0, leasedHere: 0 },
        budget: {
          limitUsd: 5,
          period: 'day',
          leftUsd: 5,
          spentUsd: 0,
          leasedHereUsd: 0,
          endsAt: '2027-01-02T00:00:00.000Z',
        },
      })
      await time.advanceAsync(100)
    }
    // A question a second, whoever looks how often.
    expect(one.visits).toBeLessThanOrEqual(6)
    expect(ledgers.size()).toEqual({ ledgers: 0, slots: 0 })
    await time.advanceAsync(3_000)
    expect(one.store.totals().purses).toBe(0)
    expect(time.pending).toBe(0)
  })

  it('changes nothing of what is admitted: 100 of 100, with a look before each', async () => {
    const { replicas } = createFleet(2)
    const [one, two] = replicas as [Replica, Replica]
    const subject = agentSubject('a', { requests: HOURLY, strict: true })
    let granted = 0
    for (let i = 0; i < 150; i++) {
      await look(two, subject)
      if ((await one.take(claimOn([subject]))).ok) granted += 1
    }
    expect(granted).toBe(100)
  })

  it('sees what another replica took, its slots and its lease', async () => {
    const { replicas, time } = createFleet(2)
    const [one, two] = replicas as [Replica, Replica]
    const subject: Subject = { ...agentSubject('a', { requests: HOURLY, concurrency: 9 }), kind: 'gateway' }
    let granted = 0
    for (let i = 0; i < 30; i++) {
      const claim = claimOn([subject])
      const grant = await one.take(claim)
      granted += 1
      if (i >= 3) one.end(claim, grant)
      await time.advanceAsync(10)
    }
    const { leased } = one.store.totals()
    expect(leased).toBeGreaterThan(0)
    expect(await shown(two, subject)).toMatchObject({
      requests: { left: 100 - granted - leased, leasedHere: 0 },
      concurrency: { usedHere: 0 },
    })
    const slots = (await look(two, subject)).slotsOfAll
    expect(slots).toBeGreaterThanOrEqual(3)
    expect(slots).toBe(one.store.totals().slots)
    // Whoever has the lease counts it as there.
    expect(await shown(one, subject)).toMatchObject({
      requests: { left: 100 - granted, leasedHere: leased },
      concurrency: { usedHere: 3 },
    })
  })

  it('counts money on lease as spent', async () => {
    const { replicas, time } = createFleet(2)
    const [one, two] = replicas as [Replica, Replica]
    const subject = agentSubject('a', { budget: { micros: 1000e6, period: 'month' } })
    let spent = 0
    for (let i = 0; i < 40; i++) {
      const claim = claimOn([subject])
      const paid = { ...claim, asks: claim.asks.map((ask) => ({ ...ask, micros: 1000 })) }
      expect((await one.take(paid)).ok).toBe(true)
      spent += 1000
      await time.advanceAsync(10)
    }
    const { leasedHereUsd = 0, endsAt } = (await shown(one, subject)).budget ?? {}
    expect(leasedHereUsd).toBeGreaterThan(0)
    expect(endsAt).toBe('2027-02-01T00:00:00.000Z')
    const { spentUsd, leftUsd } = (await shown(two, subject)).budget ?? {}
    expect(spentUsd).toBeCloseTo(spent / 1e6 + leasedHereUsd, 9)
    expect(leftUsd).toBeCloseTo(1000 - spent / 1e6 - leasedHereUsd, 9)
  })

  it('knows what an agent has spent of its budget behind its last call, to the end of the period', async () => {
    const { replicas, time } = createFleet(1)
    const [one] = replicas as [Replica]
    const budget = { micros: 10_000, period: 'day' } as const
    const subject = agentSubject('a', { budget })
    const agents = new Map([['a', { limits: subject.limits }]])
    const used = () => budgetsShown(one.store.spent(), agents)
    expect(used()).toEqual([])
    const claim = claimOn([subject])
    const paid = { ...claim, asks: claim.asks.map((ask) => ({ ...ask, micros: 6_000 })) }
    one.end(paid, await one.take(paid), { tokens: 0 })
    await time.advanceAsync(10_000)
    expect(one.store.totals().purses).toBe(0)
    expect(used()).toEqual([{ agent: 'a', used: 0.6 }])
    // By the budget that is in force, not by that of the call.
    const doubled = { limits: { ...subject.limits, budget: { ...budget, micros: 20_000 } } }
    expect(budgetsShown(one.store.spent(), new Map([['a', doubled]]))).toEqual([{ agent: 'a', used: 0.3 }])
    expect(budgetsShown(one.store.spent(), new Map())).toEqual([])
    await time.advanceAsync(86_400_000)
    expect(used()).toEqual([])
  })

  it('shows debt as nothing left, and how long it takes', async () => {
    const { replicas } = createFleet(1)
    const [one] = replicas as [Replica]
    const subject = agentSubject('a', { tokens: perSecond(100) })
    const claim = claimOn([subject], 100)
    one.end(claim, await one.take(claim), { tokens: 300 })
    await new Promise((done) => setImmediate(done))
    expect((await shown(one, subject)).tokens).toMatchObject({ left: 0, fullInMs: 3000 })
  })

  it('asks for 5,000 at most, 64 at a time, and answers for all', async () => {
    const { replicas, time } = createFleet(1)
    const [one] = replicas as [Replica]
    const accounts = Array.from({ length: 5_100 }, (_, i) =>
      toAccount(agentSubject(`a${i}`, { requests: HOURLY })),
    )
    const seen = await one.store.look(accounts)
    expect(seen.map(({ account }) => account)).toEqual(accounts)
    expect(seen.filter(({ toldBy }) => toldBy === 'ledgers')).toHaveLength(5_000)
    expect(toShown(seen[5_099] as InHand, 0).requests).toMatchObject({ left: null, fullInMs: null })
    expect(one.visits).toBe(5_000)
    await time.advanceAsync(4_000)
    expect(one.store.totals().purses).toBe(0)
  })

  it('is answered when the visit is lost', async () => {
    const { replicas } = createFleet(1)
    const [one] = replicas as [Replica]
    const subject = agentSubject('a', { requests: HOURLY })
    one.lose(1)
    expect((await look(one, subject)).toldBy).toBe('nobody')
    expect((await look(one, subject)).toldBy).toBe('ledgers')
  })

  it('is answered within two seconds when nobody answers', async () => {
    const time = createManualClock()
    const store = createLeaseStore({
      authority: {
        fleet: 1,
        divisor: 1,
        onReturn() {},
        visit: () => new Promise(() => {}),
        close: async () => {},
      },
      clock: time.clock,
      timers: {
        after: (ms, run) => {
          const handle = time.timers.set(ms, run)
          return () => time.timers.clear(handle)
        },
        soon: (run) => void setImmediate(run),
      },
      leases: true,
    })
    const looking = store.look([toAccount(agentSubject('a', { requests: HOURLY }))])
    await time.advanceAsync(2_000)
    expect(await looking).toEqual([expect.objectContaining({ toldBy: 'nobody' })])
  })
})

const EMPTY: Levels = { requests: 0, tokens: 0, sharedBy: 1 }

describe('what is shown', () => {
  it('is the share of this replica while the ledgers are away, and nothing of money', () => {
    const account = toAccount(
      agentSubject('a', {
        requests: perSecond(10, 100),
        concurrency: 5,
        budget: { micros: 20e6, period: 'day' },
      }),
    )
    const inHand: InHand = {
      account,
      toldBy: 'share',
      nowUs: 0,
      lease: NO_UNITS,
      slotsUsed: 1,
      slotsReady: 0,
      slotsOfAll: 1,
      // Two of the fifty units of a share that gets five a second.
      levels: { requests: 400_000, tokens: undefined, sharedBy: 2 },
      spentMicros: 0,
      unsettled: NO_UNITS,
    }
    expect(toShown(inHand, Date.UTC(2027, 1, 28, 23, 59))).toEqual({
      kind: 'agent',
      id: 'a',
      toldBy: 'share',
      sharedBy: 2,
      requests: { limit: 100, perSecond: 10, left: 48, fullInMs: 400, leasedHere: 0 },
      concurrency: { limit: 5, left: 1, inUse: 1, usedHere: 1, leasedHere: 0 },
      budget: {
        limitUsd: 20,
        period: 'day',
        leftUsd: null,
        spentUsd: null,
        leasedHereUsd: 0,
        endsAt: '2027-03-01T00:00:00.000Z',
      },
    })
  })

  it.each<[string, Partial<InHand>, Partial<Ask>, unknown]>([
    ['open', {}, {}, undefined],
    [
      'full of requests',
      { levels: { ...EMPTY, requests: 10_000_000 } },
      {},
      { kind: 'requests', waitMs: 100 },
    ],
    [
      'short of the tokens that it asks for',
      { levels: { ...EMPTY, tokens: 5_000_000 } },
      { tokens: 80 },
      { kind: 'tokens', waitMs: 3000 },
    ],
    [
      'longer short of one than of the other',
      { levels: { requests: 10_000_000, tokens: 10_000_000, sharedBy: 1 } },
      { tokens: 80 },
      { kind: 'tokens', waitMs: 8000 },
    ],
    ['full, but for a slot kept ready here', { slotsOfAll: 5, slotsReady: 1 }, {}, undefined],
    ['full of requests under way', { slotsOfAll: 5 }, {}, { kind: 'concurrency', waitMs: 1000 }],
    ['spent', { spentMicros: 20e6 - 4 }, { micros: 5 }, { kind: 'budget', waitMs: 86_400_000 }],
    [
      'spent, but for money on lease here',
      { spentMicros: 20e6, lease: { ...NO_UNITS, micros: 5 } },
      { micros: 5 },
      undefined,
    ],
    [
      'half full, of which this replica has half',
      { toldBy: 'share', levels: { ...EMPTY, requests: 9_950_000, sharedBy: 2 } },
      {},
      { kind: 'requests', waitMs: 150 },
    ],
    [
      'full, as far as nobody knows',
      { toldBy: 'nobody', levels: { ...EMPTY, requests: 1e9 } },
      {},
      undefined,
    ],
  ])('would refuse, or not, who comes when it is %s', (_, over, wants, refusal) => {
    const account = toAccount(
      agentSubject('a', {
        requests: perSecond(10, 100),
        tokens: perSecond(10, 100),
        concurrency: 5,
        budget: { micros: 20e6, period: 'day' },
      }),
    )
    const inHand: InHand = {
      account,
      toldBy: 'ledgers',
      nowUs: 0,
      lease: NO_UNITS,
      slotsUsed: 0,
      slotsReady: 0,
      slotsOfAll: 0,
      levels: EMPTY,
      spentMicros: 0,
      unsettled: NO_UNITS,
      ...over,
    }
    const ask: Ask = { account, requests: 1, tokens: 1, micros: 1, ...wants }
    const told = toForeseen(inHand, ask)
    if (refusal === undefined) expect(told).toBeUndefined()
    else expect(told).toMatchObject(Object(refusal))
  })

  it('is of the very accounts that requests are counted in, of those that have limits', async () => {
    const clock = manualClock()
    const store = memoryStore({ clock })
    const meter = createMeter({ store, clock, timers: systemTimers, ids: () => 'h' })
    const who = caller({ concurrency: 2 }, { requests: perSecond(10) })
    await meter.reserve(who, modelRequest(), allowed())
    expect(await meter.look([...who.subjects, agentSubject('free', {})])).toMatchObject([
      { kind: 'agent', id: 'data-analyzer', concurrency: { left: 1, inUse: 1, usedHere: 1 } },
      { kind: 'bearer', id: 'laptop', requests: { left: 9, fullInMs: 100 } },
    ])
    expect([meter.openHolds(), meter.waiting()]).toEqual([1, 0])
  })
})
