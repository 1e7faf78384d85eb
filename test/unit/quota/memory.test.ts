import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { toAccount } from '../../../src/quota/account.ts'
import { createLeaseStore } from '../../../src/quota/leases.ts'
import { createMemoryAuthority } from '../../../src/quota/memory.ts'
import {
  type Claim,
  type Grant,
  type Settlement,
  type Store,
  systemTimers,
} from '../../../src/quota/store.ts'
import {
  agentSubject,
  claimOn,
  idleReport,
  manualClock,
  memoryStore,
  perMinute,
  perSecond,
  sureGrant,
} from './fixtures.ts'

/** Where the ledgers are in this process, a claim is decided on the spot. */
function take(store: Store, claim: Claim): Grant {
  const grant = store.take(claim)
  if (grant instanceof Promise) throw new Error('decided later')
  return grant
}

function end(claim: Claim, usedTokens?: number): Settlement[] {
  return [{ claim, grant: sureGrant(claim), usedTokens, usedMicros: undefined }]
}

describe('the store in memory', () => {
  it('admits the capacity at one instant, then as the rate gives it back', () => {
    const clock = manualClock()
    const store = memoryStore({ clock })
    const agent = agentSubject('a', { requests: perMinute(6) })
    for (let i = 0; i < 6; i++) expect(take(store, claimOn([agent])).ok).toBe(true)
    expect(take(store, claimOn([agent]))).toMatchObject({ ok: false, kind: 'requests', waitUs: 10_000_000 })
    clock.advance(9_999)
    expect(take(store, claimOn([agent]))).toMatchObject({ ok: false, kind: 'requests', waitUs: 1_000 })
    clock.advance(1)
    expect(take(store, claimOn([agent])).ok).toBe(true)
  })

  it('takes from all or from none', async () => {
    const store = memoryStore({ clock: manualClock() })
    const wide = agentSubject('wide', { requests: perSecond(100), concurrency: 50 })
    const narrow = agentSubject('narrow', { requests: perSecond(2) })
    expect(take(store, claimOn([wide, narrow])).ok).toBe(true)
    expect(take(store, claimOn([wide, narrow])).ok).toBe(true)
    for (let i = 0; i < 200; i++) expect(take(store, claimOn([wide, narrow])).ok).toBe(false)
    // What the first refusal had taken elsewhere is back at the end of the turn.
    await nextTurn()
    expect(store.authority.size()).toEqual({ ledgers: 2, slots: 2 })
    for (let i = 0; i < 48; i++) expect(take(store, claimOn([wide])).ok).toBe(true)
    expect(take(store, claimOn([wide]))).toMatchObject({
      ok: false,
      kind: 'concurrency',
      waitUs: 1_000_000,
    })
  })

  it('takes from all or from none within one turn too', () => {
    const store = memoryStore({ clock: manualClock() })
    const wide = agentSubject('wide', { requests: perMinute(10), concurrency: 50 })
    const narrow = agentSubject('narrow', { requests: perMinute(1) })
    expect(take(store, claimOn([wide, narrow])).ok).toBe(true)
    // A new subject is a new account: nothing is remembered of it, and every refusal goes to the ledgers.
    for (let i = 0; i < 50; i++)
      expect(take(store, claimOn([wide, agentSubject('narrow', { requests: perMinute(1) })])).ok).toBe(false)
    for (let i = 0; i < 9; i++) expect(take(store, claimOn([wide])).ok).toBe(true)
    expect(take(store, claimOn([wide]))).toMatchObject({ ok: false, kind: 'requests', waitUs: 6_000_000 })
  })

  it('charges each of several new accounts that one visit is about', () => {
    const store = memoryStore({ clock: manualClock() })
    const agent = agentSubject('a', { requests: perMinute(3) })
    const bearers = Array.from({ length: 4 }, (_, i) => ({
      ...agentSubject(`b${i}`, { requests: perMinute(3) }),
      tag: 'a',
    }))
    expect(take(store, claimOn([agent, ...bearers])).ok).toBe(true)
    expect(store.authority.size().ledgers).toBe(5)
    for (let i = 0; i < 2; i++) expect(take(store, claimOn([agent, ...bearers])).ok).toBe(true)
    for (const one of [agent, ...bearers])
      expect(take(store, claimOn([one]))).toMatchObject({ ok: false, kind: 'requests', waitUs: 20_000_000 })
  })

  it('does not drop one ledger of a visit for another one of it when it is full', () => {
    const store = memoryStore({ clock: manualClock(), maxLedgers: 2 })
    const pair = (id: string) => [
      { ...agentSubject(`${id}1`, { requests: perMinute(1) }), tag: id },
      { ...agentSubject(`${id}2`, { requests: perMinute(1) }), tag: id },
    ]
    take(store, claimOn(pair('a')))
    const [one, other] = pair('b')
    if (one === undefined || other === undefined) throw new Error('no pair')
    expect(take(store, claimOn([other])).ok).toBe(true)
    expect(take(store, claimOn([agentSubject('c', { requests: perMinute(1) })])).ok).toBe(true)
    // Who is there longest is one that this visit is about.
    expect(take(store, claimOn([other, one]))).toMatchObject({ ok: false, kind: 'requests' })
    expect(take(store, claimOn([{ ...other }]))).toMatchObject({ ok: false, kind: 'requests' })
  })

  it('keeps nothing of a refusal', async () => {
    const store = memoryStore({ clock: manualClock() })
    const closed = agentSubject('closed', { concurrency: 0 })
    expect(take(store, claimOn([agentSubject('a', { requests: perSecond(1) }), closed])).ok).toBe(false)
    await nextTurn()
    expect(store.authority.size()).toEqual({ ledgers: 0, slots: 0 })
  })

  it('reports the longest wait of rate and concurrency', () => {
    const store = memoryStore({ clock: manualClock() })
    const agent = agentSubject('a', { requests: perSecond(2, 1), tokens: perMinute(60), concurrency: 1 })
    expect(take(store, claimOn([agent], 60)).ok).toBe(true)
    expect(take(store, claimOn([agent], 1))).toMatchObject({ kind: 'tokens', waitUs: 1_000_000 })
    expect(take(store, claimOn([agent], 30))).toMatchObject({ kind: 'tokens', waitUs: 30_000_000 })
    expect(take(store, claimOn([agent], 0))).toMatchObject({ kind: 'concurrency', waitUs: 1_000_000 })
  })

  it('tells a refusal it remembers the wait that is left', () => {
    const clock = manualClock()
    const store = memoryStore({ clock })
    const agent = agentSubject('a', { requests: perMinute(6), tokens: perMinute(60) })
    expect(take(store, claimOn([agent], 60)).ok).toBe(true)
    expect(take(store, claimOn([agent], 30))).toMatchObject({ kind: 'tokens', waitUs: 30_000_000 })
    clock.advance(400)
    expect(take(store, claimOn([agent], 30))).toMatchObject({ kind: 'tokens', waitUs: 29_600_000 })
    // It says nothing of a smaller claim.
    expect(take(store, claimOn([agent], 10))).toMatchObject({ kind: 'tokens', waitUs: 9_600_000 })
  })

  it('gives slots back when their claims are settled, and not before', () => {
    const clock = manualClock()
    const store = memoryStore({ clock })
    const agent = agentSubject('a', { concurrency: 2 })
    const first = claimOn([agent])
    const second = claimOn([agent])
    expect(take(store, first).ok && take(store, second).ok).toBe(true)
    expect(take(store, claimOn([agent]))).toMatchObject({ ok: false, kind: 'concurrency' })
    store.settle(end(second))
    expect(take(store, claimOn([agent])).ok).toBe(true)
    expect(take(store, claimOn([agent])).ok).toBe(false)
    // Who holds them lives: they do not end by themselves.
    clock.advance(3_600_000)
    expect(take(store, claimOn([agent])).ok).toBe(false)
    store.settle(end(first))
    expect(take(store, claimOn([agent])).ok).toBe(true)
    expect(take(store, claimOn([agent])).ok).toBe(false)
  })

  it('has no slot less than none when one is given back that nobody holds', () => {
    const store = memoryStore({ clock: manualClock() })
    const agent = agentSubject('a', { concurrency: 1 })
    const claim = claimOn([agent])
    expect(take(store, claim).ok).toBe(true)
    for (let i = 0; i < 3; i++) store.settle(end(claim))
    expect(take(store, claimOn([agent])).ok).toBe(true)
    expect(take(store, claimOn([agent])).ok).toBe(false)
  })

  it('settles tokens to what was used, into debt if need be', () => {
    const clock = manualClock()
    const store = memoryStore({ clock })
    const agent = agentSubject('a', { tokens: perSecond(1000) })
    const claim = claimOn([agent], 1000)
    take(store, claim)
    store.settle(end(claim, 400))
    const next = claimOn([agent], 600)
    expect(take(store, next).ok).toBe(true)
    store.settle(end(next, 2600))
    expect(take(store, claimOn([agent], 1000))).toMatchObject({ kind: 'tokens', waitUs: 3_000_000 })
  })

  it('charges a bucket that it had forgotten, but does not make one for a refund', async () => {
    const clock = manualClock()
    const store = memoryStore({ clock })
    const agent = agentSubject('a', { tokens: perSecond(1000) })
    store.settle(end(claimOn([agent], 500), 100))
    await nextTurn()
    expect(store.authority.size().ledgers).toBe(0)
    store.settle(end(claimOn([agent], 500), 1500))
    expect(take(store, claimOn([agent], 1000))).toMatchObject({ waitUs: 1_000_000 })
  })

  it('keeps its buckets when a reload brings new limits for the same names', () => {
    const clock = manualClock()
    const store = memoryStore({ clock })
    const agent = agentSubject('a', { requests: perMinute(10) })
    for (let i = 0; i < 10; i++) take(store, claimOn([agent]))
    expect(take(store, claimOn([agent]))).toMatchObject({ ok: false, waitUs: 6_000_000 })
    // The refusal that it remembers was one of the old limit; what was taken stays taken.
    const raised = agentSubject('a', { requests: perMinute(20) })
    for (let i = 0; i < 10; i++) expect(take(store, claimOn([raised])).ok).toBe(true)
    expect(take(store, claimOn([raised]))).toMatchObject({ ok: false, waitUs: 3_000_000 })
    // And so it does back again: ten of a smaller bucket are in debt.
    expect(take(store, claimOn([agent]))).toMatchObject({ ok: false, waitUs: 66_000_000 })
  })

  it('does not fill up when the clock goes back', () => {
    const clock = manualClock(1_000_000)
    const store = memoryStore({ clock })
    const agent = agentSubject('a', { requests: perSecond(10) })
    for (let i = 0; i < 10; i++) take(store, claimOn([agent]))
    clock.advance(-500_000)
    expect(take(store, claimOn([agent])).ok).toBe(false)
    clock.advance(500_000)
    expect(take(store, claimOn([agent])).ok).toBe(false)
  })

  it('gives the same second out only once when the clock goes through it twice', () => {
    const clock = manualClock(1_000_000)
    const authority = createMemoryAuthority({ clock })
    let generation = 0
    const ask = (id: string, units: number, times: number): number => {
      generation += 1
      const account = toAccount(agentSubject(id, { requests: perSecond(units) }))
      const report = idleReport(account)
      const claims = Array.from({ length: times }, () => [{ at: 0, requests: 1, tokens: 0, micros: 0 }])
      const [reply] = authority.visit([{ generation, reports: [report], claims }])
      return reply?.answer.refusals.filter((no) => no === undefined).length ?? 0
    }
    expect(ask('a', 10, 20)).toBe(10)
    clock.advance(1_000)
    // Others come by, and the bucket, full again, is forgotten.
    for (let i = 0; i < 10; i++) ask(`other-${i}`, 1 / 60, 1)
    clock.advance(-1_000)
    expect(ask('a', 10, 20)).toBe(10)
    clock.advance(1_000)
    expect(ask('a', 10, 20)).toBe(0)
  })

  it('forgets what is idle: 100,000 agents come by and it holds only those of late', async () => {
    const clock = manualClock()
    const store = memoryStore({ clock })
    let most = 0
    for (let i = 0; i < 100_000; i++) {
      const agent = agentSubject(`agent-${i}`, { requests: perSecond(100), concurrency: 5 })
      const claim = claimOn([agent])
      take(store, claim)
      store.settle(end(claim))
      // The slot leaves at the end of the turn, and there is a turn between two requests.
      await nextTurn()
      clock.advance(1) // full again after 10 ms
      most = Math.max(most, store.authority.size().ledgers)
    }
    expect(most).toBeLessThan(100)
    expect(store.authority.size().slots).toBe(0)
  })

  it('forgets the slots of a replica that says no more, when others come by', () => {
    const clock = manualClock()
    const authority = createMemoryAuthority({ clock })
    for (let i = 0; i < 10_000; i++) {
      const account = toAccount(agentSubject(`agent-${i}`, { concurrency: 5 }))
      const report = idleReport(account, { slots: 1 })
      authority.visitOf(
        { generation: 1, reports: [report], claims: [] },
        { replica: `worker-${i}`, fleet: 1 },
      )
      clock.advance(10) // 600 of them within the 6 s that slots live without a word
    }
    expect(authority.size().slots).toBeLessThan(1_000)
  })

  it('stays under its bound even when no bucket is ever full again', () => {
    const store = memoryStore({ clock: manualClock(), maxLedgers: 1_000 })
    for (let i = 0; i < 5_000; i++)
      take(store, claimOn([agentSubject(`agent-${i}`, { requests: perMinute(1), concurrency: 1 })]))
    expect(store.authority.size()).toEqual({ ledgers: 1_000, slots: 1_000 })
  })

  it('asks no ledger again about a refusal that it remembers, and again once something came back', () => {
    const clock = manualClock()
    const authority = createMemoryAuthority({ clock })
    let visits = 0
    const store = createLeaseStore({
      authority: {
        ...authority,
        visit(list) {
          visits += list.length
          return authority.visit(list)
        },
      },
      clock,
      timers: systemTimers,
      leases: false,
    })
    const agent = agentSubject('a', { tokens: perMinute(60), concurrency: 1 })
    const claim = claimOn([agent], 60)
    const refused = (tokens: number): Grant => {
      const grant = take(store, claimOn([agent], tokens))
      expect(grant.ok).toBe(false)
      return grant
    }
    expect(take(store, claim).ok).toBe(true)
    expect(refused(0)).toMatchObject({ kind: 'concurrency' })
    expect(visits).toBe(2)
    for (let i = 0; i < 100; i++) expect(refused(0)).toMatchObject({ kind: 'concurrency', waitUs: 1_000_000 })
    clock.advance(99)
    refused(0)
    expect(visits).toBe(2)
    clock.advance(1)
    refused(0)
    expect(visits).toBe(3)

    // Rates are remembered for longer: until they would be admitted, but for no more than a second.
    clock.advance(100)
    expect(refused(30)).toMatchObject({ kind: 'tokens', waitUs: 29_800_000 })
    expect(visits).toBe(4)
    clock.advance(999)
    expect(refused(30)).toMatchObject({ kind: 'tokens', waitUs: 28_801_000 })
    expect(visits).toBe(4)
    clock.advance(1)
    expect(refused(30)).toMatchObject({ kind: 'tokens', waitUs: 28_800_000 })
    expect(visits).toBe(5)
    expect(refused(3)).toMatchObject({ kind: 'tokens', waitUs: 1_800_000 })
    expect(visits).toBe(6)

    store.settle(end(claim, 0))
    expect(take(store, claimOn([agent], 30)).ok).toBe(true)
    expect(visits).toBe(7)
  })
})
