import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toAccount } from '../../../src/quota/account.ts'
import { NO_UNITS } from '../../../src/quota/ledger.ts'
import type { Claim, Grant } from '../../../src/quota/store.ts'
import type { Subject } from '../../../src/types.ts'
import { type Admission, excessUnits } from './checker.ts'
import { agentSubject, claimOn, perMinute, perSecond } from './fixtures.ts'
import { createFleet, type Replica } from './fleet.ts'

const gateway = (some: Parameters<typeof agentSubject>[1]): Subject => ({
  ...agentSubject('g', some),
  kind: 'gateway',
})

/** Claims at a steady pace for a while; gives what was granted. */
async function run(
  fleet: ReturnType<typeof createFleet>,
  replica: Replica,
  { subject, perS, forMs }: { subject: Subject; perS: number; forMs: number },
): Promise<number> {
  let granted = 0
  for (let ms = 0; ms < forMs; ms += 1000 / perS) {
    if ((await replica.take(claimOn([subject]))).ok) granted += 1
    await fleet.time.advanceAsync(1000 / perS)
  }
  return granted
}

describe('a quiet account', () => {
  it('is decided at the ledgers, one visit for a claim', async () => {
    const { replicas, time } = createFleet(2)
    const [one] = replicas as [Replica]
    const agent = agentSubject('a', { requests: perSecond(100) })
    for (let i = 1; i <= 5; i++) {
      expect(await one.take(claimOn([agent]))).toMatchObject({ ok: true, origin: 'store' })
      expect(one.visits).toBe(i)
      await time.advanceAsync(500)
    }
  })

  it('is forgotten when it has nothing to say any more', async () => {
    const { replicas, time, ledgers } = createFleet(1)
    const [one] = replicas as [Replica]
    for (let i = 0; i < 500; i++) {
      const claim = claimOn([agentSubject(`a${i}`, { requests: perSecond(100), concurrency: 2 })])
      one.end(claim, await one.take(claim))
    }
    expect(one.store.totals().purses).toBe(500)
    await time.advanceAsync(5_000)
    expect(one.store.totals()).toEqual({ purses: 0, leased: 0, slots: 0, owed: NO_UNITS })
    expect(ledgers.size().slots).toBe(0)
    expect(time.pending).toBe(0)
  })
})

describe('a busy account', () => {
  it('is spent from leases, with a visit for ten admissions at most', async () => {
    const fleet = createFleet(2)
    const [one] = fleet.replicas as [Replica]
    const subject = gateway({ requests: perSecond(1000) })
    await run(fleet, one, { subject, perS: 200, forMs: 1_000 })
    const before = one.visits
    expect(await run(fleet, one, { subject, perS: 200, forMs: 2_000 })).toBe(400)
    expect(one.visits - before).toBeLessThanOrEqual(40)
    expect(one.store.totals().leased).toBeGreaterThan(0)
  })

  it('lends to those who wait for a visit what that visit brings', async () => {
    const fleet = createFleet(2)
    const [one] = fleet.replicas as [Replica]
    const subject = gateway({ requests: perSecond(1000, 5000) })
    await run(fleet, one, { subject, perS: 200, forMs: 1_000 })
    const before = one.visits
    // The first is on its way while the others come, and each of them comes again as soon as it is answered.
    const asked = async () => {
      let granted = 0
      for (let i = 0; i < 100; i += 1) if ((await one.take(claimOn([subject]))).ok) granted += 1
      return granted
    }
    const granted = await Promise.all(Array.from({ length: 10 }, asked))
    expect(granted.reduce((sum, each) => sum + each, 0)).toBe(1_000)
    // A visit brings about a hundred, for half a second of the present pace.
    expect(one.visits - before).toBeLessThanOrEqual(14)
  })

  it('that is strict is decided at the ledgers all the same', async () => {
    const fleet = createFleet(2)
    const [one] = fleet.replicas as [Replica]
    const subject = gateway({ requests: perSecond(1000), strict: true })
    expect(await run(fleet, one, { subject, perS: 200, forMs: 500 })).toBe(100)
    expect(one.visits).toBe(100)
    expect(one.store.totals().leased).toBe(0)
  })

  it('gives its lease back when it falls quiet, and when it closes', async () => {
    const fleet = createFleet(2)
    const [one, two] = fleet.replicas as [Replica, Replica]
    // One unit an hour: nothing comes back by itself.
    const subject = gateway({ requests: { capacity: 1000, intervalUs: 3.6e9 } })
    const spent = await run(fleet, one, { subject, perS: 100, forMs: 1_000 })
    expect(one.store.totals().leased).toBeGreaterThan(10)
    await fleet.time.advanceAsync(1_500)
    expect(one.store.totals().leased).toBe(0)
    const more = await run(fleet, one, { subject, perS: 100, forMs: 1_000 })
    expect(one.store.totals().leased).toBeGreaterThan(10)
    await one.store.close()
    let left = 0
    while ((await two.take(claimOn([subject]))).ok) left += 1
    expect(spent + more + left).toBe(1000)
  })

  it('spends no lease that may be dead: a process that was frozen asks again', async () => {
    const fleet = createFleet(2)
    const [one] = fleet.replicas as [Replica]
    const subject = gateway({ requests: perSecond(1000) })
    await run(fleet, one, { subject, perS: 200, forMs: 1_000 })
    expect(await one.take(claimOn([subject]))).toMatchObject({ origin: 'lease' })
    // The clock goes on, but nothing ran.
    fleet.time.advance(0)
    const clockJump = createJump(fleet)
    clockJump(950)
    expect(await one.take(claimOn([subject]))).toMatchObject({ ok: true, origin: 'store' })
  })

  it('takes no more than a small share when many replicas are there', async () => {
    const fleet = createFleet(10)
    const subject = gateway({ requests: { capacity: 100, intervalUs: 3.6e9 } })
    for (const replica of fleet.replicas) await run(fleet, replica, { subject, perS: 50, forMs: 100 })
    for (const { store } of fleet.replicas) expect(store.totals().leased).toBeLessThanOrEqual(5)
  })
})

/** Moves the clock without running a timer, as when a process is stopped. */
function createJump({ time }: ReturnType<typeof createFleet>) {
  return (ms: number): void => {
    const { now } = time.clock
    const frozen = now()
    Object.assign(time.clock, { now: () => now() + ms })
    expect(time.clock.now() - frozen).toBe(ms)
  }
}

describe('a refusal', () => {
  it('is remembered: a thousand more cost no visit, and each tells the wait that is left', async () => {
    const { replicas, time } = createFleet(2)
    const [one] = replicas as [Replica]
    const agent = agentSubject('a', { requests: perMinute(6, 1) })
    await one.take(claimOn([agent]))
    expect(await one.take(claimOn([agent]))).toMatchObject({
      ok: false,
      kind: 'requests',
      waitUs: 10_000_000,
    })
    const before = one.visits
    for (let i = 0; i < 1000; i++) expect((await one.take(claimOn([agent]))).ok).toBe(false)
    time.advance(400)
    expect(await one.take(claimOn([agent]))).toMatchObject({ ok: false, waitUs: 9_600_000 })
    expect(one.visits).toBe(before)
    // Not for ever: another replica may have given something back.
    await time.advanceAsync(700)
    await one.take(claimOn([agent]))
    expect(one.visits).toBe(before + 1)
  })

  it('of a large cost says nothing of a smaller one', async () => {
    const { replicas } = createFleet(1)
    const [one] = replicas as [Replica]
    const agent = agentSubject('a', { tokens: perMinute(1, 1000) })
    await one.take(claimOn([agent], 600))
    expect((await one.take(claimOn([agent], 500))).ok).toBe(false)
    expect((await one.take(claimOn([agent], 400))).ok).toBe(true)
  })

  it('is forgotten when this replica gives back what was missing', async () => {
    const { replicas } = createFleet(1)
    const [one] = replicas as [Replica]
    const agent = agentSubject('a', { tokens: perMinute(1, 1000), concurrency: 1 })
    const first = claimOn([agent], 1000)
    const grant = await one.take(first)
    expect((await one.take(claimOn([agent], 500))).ok).toBe(false)
    one.end(first, grant, { tokens: 100 })
    expect((await one.take(claimOn([agent], 500))).ok).toBe(true)
  })

  it('of one part takes nothing of the others', async () => {
    const { replicas, ledgers, time } = createFleet(1)
    const [one] = replicas as [Replica]
    const wide = agentSubject('wide', { requests: perMinute(1, 100), concurrency: 5 })
    const closed = gateway({ concurrency: 0 })
    expect(await one.take(claimOn([wide, closed]))).toMatchObject({ ok: false, kind: 'concurrency' })
    await time.advanceAsync(100)
    expect(ledgers.size()).toEqual({ ledgers: 0, slots: 0 })
  })
})

describe('slots', () => {
  it('are counted over all replicas', async () => {
    const { replicas } = createFleet(2)
    const [one, two] = replicas as [Replica, Replica]
    const agent = agentSubject('a', { concurrency: 3 })
    const claims: [Replica, Claim, Grant][] = []
    for (const replica of [one, two, one]) {
      const claim = claimOn([agent])
      claims.push([replica, claim, await replica.take(claim)])
    }
    expect(claims.every(([, , { ok }]) => ok)).toBe(true)
    expect(await two.take(claimOn([agent]))).toMatchObject({
      ok: false,
      kind: 'concurrency',
      waitUs: 1_000_000,
    })
    const [replica, claim, grant] = claims[0] as [Replica, Claim, Grant]
    replica.end(claim, grant)
    expect((await one.take(claimOn([agent]))).ok).toBe(true)
  })

  it('stay with a living replica for as long as the request runs', async () => {
    const { replicas, time } = createFleet(2)
    const [one, two] = replicas as [Replica, Replica]
    const agent = agentSubject('a', { concurrency: 1 })
    await one.take(claimOn([agent]))
    for (let s = 0; s < 60; s++) {
      await time.advanceAsync(1_000)
      expect((await two.take(claimOn([agent]))).ok).toBe(false)
    }
    // A word every two seconds is enough.
    expect(one.visits).toBeLessThanOrEqual(33)
  })

  it('come back six seconds after the last word of a replica that died', async () => {
    const { replicas, time } = createFleet(2)
    const [one, two] = replicas as [Replica, Replica]
    const agent = agentSubject('a', { concurrency: 1 })
    await one.take(claimOn([agent]))
    one.kill()
    await time.advanceAsync(5_900)
    expect((await two.take(claimOn([agent]))).ok).toBe(false)
    await time.advanceAsync(300)
    expect((await two.take(claimOn([agent]))).ok).toBe(true)
  })
})

describe('what cannot be told', () => {
  it('is kept, and told later', async () => {
    const { replicas, time } = createFleet(1)
    const [one] = replicas as [Replica]
    const agent = agentSubject('a', { tokens: perMinute(1, 1000) })
    const claim = claimOn([agent], 400)
    const grant = await one.take(claim)
    one.lose(1)
    one.end(claim, grant, { tokens: 900 })
    await time.advanceAsync(50)
    expect(await one.take(claimOn([agent], 200))).toMatchObject({ ok: false, kind: 'tokens' })
    expect(await one.take(claimOn([agent], 50))).toMatchObject({ ok: true })
  })

  it('leaves a claim undecided when nobody stands in', async () => {
    const { replicas } = createFleet(1)
    const [one] = replicas as [Replica]
    one.lose(1)
    expect(await one.take(claimOn([agentSubject('a', { requests: perSecond(1) })]))).toEqual({
      ok: false,
      kind: 'unavailable',
    })
  })
})

describe('money', () => {
  const withBudget = (micros: number) => ({
    ...toAccount(agentSubject('a', { strict: false })),
    budget: { micros, period: 'day' as const },
  })
  const claimOf = (micros: number, budget: number): Claim => ({
    id: 'x',
    asks: [{ account: withBudget(budget), requests: 1, tokens: 0, micros }],
  })

  it('is refused when it is spent, until the day ends, and settled to what it cost', async () => {
    const { replicas, time } = createFleet(1)
    const [one] = replicas as [Replica]
    const first = claimOf(600, 1000)
    const grant = await one.take(first)
    expect(await one.take(claimOf(500, 1000))).toMatchObject({
      ok: false,
      kind: 'budget',
      waitUs: 86_400_000_000,
    })
    one.end(first, grant, { micros: 100 })
    await time.advanceAsync(10)
    expect((await one.take(claimOf(900, 1000))).ok).toBe(true)
    expect((await one.take(claimOf(1, 1000))).ok).toBe(false)
    await time.advanceAsync(86_400_000)
    expect((await one.take(claimOf(1000, 1000))).ok).toBe(true)
  })

  it('of yesterday does not come back into today', async () => {
    const { replicas, time } = createFleet(1)
    const [one] = replicas as [Replica]
    const late = claimOf(800, 1000)
    await time.advanceAsync(86_399_000)
    const grant = await one.take(late)
    await time.advanceAsync(2_000)
    expect((await one.take(claimOf(700, 1000))).ok).toBe(true)
    one.end(late, grant, { micros: 0 })
    await time.advanceAsync(10)
    expect((await one.take(claimOf(400, 1000))).ok).toBe(false)
    expect((await one.take(claimOf(300, 1000))).ok).toBe(true)
  })
})

describe('whatever happens', () => {
  const act = fc.record({
    replica: fc.nat(2),
    what: fc.constantFrom(
      'take' as const,
      'take' as const,
      'take' as const,
      'end' as const,
      'end' as const,
      'lose' as const,
    ),
    tokens: fc.integer({ min: 0, max: 60 }),
    used: fc.option(fc.integer({ min: 0, max: 120 }), { nil: undefined }),
    waitMs: fc.constantFrom(0, 0, 0, 1, 7, 40, 400, 2_500),
  })

  it('every slot and every reservation comes back, and no window holds too much', async () => {
    let taken = 0
    await fc.assert(
      fc.asyncProperty(fc.array(act, { minLength: 10, maxLength: 120 }), async (acts) => {
        const fleet = createFleet(3)
        const agent = agentSubject('a', {
          requests: perSecond(50, 20),
          tokens: perSecond(2000, 400),
          concurrency: 6,
        })
        const rate = toAccount(agent).requests
        const open: [Replica, Claim, Grant, number | undefined][] = []
        const admitted: Admission[] = []
        for (const { replica: at, what, tokens, used, waitMs } of acts) {
          const replica = fleet.replicas[at] as Replica
          if (what === 'take') {
            const claim = claimOn([agent], tokens)
            const grant = await replica.take(claim)
            if (grant.ok) {
              taken += 1
              open.push([replica, claim, grant, used])
              admitted.push({ atUs: fleet.time.clock.now() * 1000, units: 1 })
            }
          } else if (what === 'end') {
            const ended = open.shift()
            ended?.[0].end(ended[1], ended[2], { ...(ended[3] === undefined ? {} : { tokens: ended[3] }) })
          } else replica.lose(1)
          if (waitMs > 0) await fleet.time.advanceAsync(waitMs)
        }
        if (rate !== undefined && admitted.length > 0)
          expect(excessUnits(admitted, rate)).toBeLessThanOrEqual(0)
        for (const [replica, claim, grant] of open) replica.end(claim, grant)
        await fleet.time.advanceAsync(10_000)
        expect(fleet.ledgers.size().slots).toBe(0)
        for (const { store } of fleet.replicas)
          expect(store.totals()).toEqual({ purses: 0, leased: 0, slots: 0, owed: NO_UNITS })
        // The whole bucket is there again, for a replica that knows nothing of it.
        const fresh = fleet.createReplica('fresh')
        for (let i = 0; i < 6; i++) expect((await fresh.take(claimOn([agent], 60))).ok).toBe(true)
      }),
      { numRuns: 200 },
    )
    expect(taken).toBeGreaterThan(1000)
  })
})
