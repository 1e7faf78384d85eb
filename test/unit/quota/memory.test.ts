import { describe, expect, it } from 'vitest'
import { createMemoryStore } from '../../../src/quota/memory.ts'
import type { Claim, Settlement } from '../../../src/quota/store.ts'
import { agentSubject, claimOn, manualClock, perMinute, perSecond } from './fixtures.ts'

function end(claim: Claim, usedTokens?: number): Settlement[] {
  return [{ claim, origin: 'store', usedTokens }]
}

describe('the store in memory', () => {
  it('admits the capacity at one instant, then as the rate gives it back', () => {
    const clock = manualClock()
    const store = createMemoryStore({ clock })
    const agent = agentSubject('a', { requests: perMinute(6) })
    for (let i = 0; i < 6; i++) expect(store.take(claimOn([agent])).ok).toBe(true)
    expect(store.take(claimOn([agent]))).toMatchObject({ ok: false, kind: 'requests', waitUs: 10_000_000 })
    clock.advance(9_999)
    expect(store.take(claimOn([agent])).ok).toBe(false)
    clock.advance(1)
    expect(store.take(claimOn([agent])).ok).toBe(true)
  })

  it('takes from all or from none', () => {
    const store = createMemoryStore({ clock: manualClock() })
    const wide = agentSubject('wide', { requests: perSecond(100), concurrency: 50 })
    const narrow = agentSubject('narrow', { requests: perSecond(2) })
    expect(store.take(claimOn([wide, narrow])).ok).toBe(true)
    expect(store.take(claimOn([wide, narrow])).ok).toBe(true)
    for (let i = 0; i < 200; i++) expect(store.take(claimOn([wide, narrow])).ok).toBe(false)
    expect(store.size()).toEqual({ buckets: 2, slots: 2 })
    for (let i = 0; i < 48; i++) expect(store.take(claimOn([wide])).ok).toBe(true)
    expect(store.take(claimOn([wide]))).toMatchObject({ ok: false, kind: 'concurrency', waitUs: 1_000_000 })
  })

  it('keeps nothing of a refusal', () => {
    const store = createMemoryStore({ clock: manualClock() })
    const closed = agentSubject('closed', { concurrency: 0 })
    expect(store.take(claimOn([agentSubject('a', { requests: perSecond(1) }), closed])).ok).toBe(false)
    expect(store.size()).toEqual({ buckets: 0, slots: 0 })
  })

  it('reports the longest wait of rate and concurrency', () => {
    const store = createMemoryStore({ clock: manualClock() })
    const agent = agentSubject('a', { requests: perSecond(2, 1), tokens: perMinute(60), concurrency: 1 })
    expect(store.take(claimOn([agent], 60)).ok).toBe(true)
    expect(store.take(claimOn([agent], 1))).toMatchObject({ kind: 'tokens', waitUs: 1_000_000 })
    expect(store.take(claimOn([agent], 30))).toMatchObject({ kind: 'tokens', waitUs: 30_000_000 })
    expect(store.take(claimOn([agent], 0))).toMatchObject({ kind: 'concurrency', waitUs: 1_000_000 })
  })

  it('gives slots back once, and by expiry when nobody does', () => {
    const clock = manualClock()
    const store = createMemoryStore({ clock })
    const agent = agentSubject('a', { concurrency: 2 })
    const first = claimOn([agent], 0, 5_000)
    const second = claimOn([agent], 0, 10_000)
    expect(store.take(first).ok && store.take(second).ok).toBe(true)
    expect(store.take(claimOn([agent])).ok).toBe(false)
    store.settle(end(second))
    store.settle(end(second))
    expect(store.take(claimOn([agent], 0, 60_000)).ok).toBe(true)
    expect(store.take(claimOn([agent])).ok).toBe(false)
    clock.advance(4_999)
    expect(store.take(claimOn([agent])).ok).toBe(false)
    clock.advance(1)
    expect(store.take(claimOn([agent])).ok).toBe(true)
  })

  it('settles tokens to what was used, into debt if need be', () => {
    const clock = manualClock()
    const store = createMemoryStore({ clock })
    const agent = agentSubject('a', { tokens: perSecond(1000) })
    const claim = claimOn([agent], 1000)
    store.take(claim)
    store.settle(end(claim, 400))
    const next = claimOn([agent], 600)
    expect(store.take(next).ok).toBe(true)
    store.settle(end(next, 2600))
    expect(store.take(claimOn([agent], 1000))).toMatchObject({ kind: 'tokens', waitUs: 3_000_000 })
  })

  it('charges a bucket that it had forgotten, but does not make one for a refund', () => {
    const clock = manualClock()
    const store = createMemoryStore({ clock })
    const agent = agentSubject('a', { tokens: perSecond(1000) })
    store.settle(end(claimOn([agent], 500), 100))
    expect(store.size().buckets).toBe(0)
    store.settle(end(claimOn([agent], 500), 1500))
    expect(store.take(claimOn([agent], 1000))).toMatchObject({ waitUs: 1_000_000 })
  })

  it('keeps its buckets when a reload brings new limits for the same names', () => {
    const clock = manualClock()
    const store = createMemoryStore({ clock })
    for (let i = 0; i < 10; i++) store.take(claimOn([agentSubject('a', { requests: perMinute(10) })]))
    const raised = agentSubject('a', { requests: perMinute(20) })
    expect(store.take(claimOn([raised]))).toMatchObject({ ok: false, waitUs: 3_000_000 })
  })

  it('does not fill up when the clock goes back', () => {
    const clock = manualClock(1_000_000)
    const store = createMemoryStore({ clock })
    const agent = agentSubject('a', { requests: perSecond(10) })
    for (let i = 0; i < 10; i++) store.take(claimOn([agent]))
    clock.advance(-500_000)
    expect(store.take(claimOn([agent])).ok).toBe(false)
    clock.advance(500_000)
    expect(store.take(claimOn([agent])).ok).toBe(false)
  })

  it('gives the same second out only once when the clock goes through it twice', () => {
    const clock = manualClock(1_000_000)
    const store = createMemoryStore({ clock })
    const agent = agentSubject('a', { requests: perSecond(10) })
    const drain = (): number =>
      Array.from({ length: 20 }, () => store.take(claimOn([agent]))).filter(({ ok }) => ok).length
    expect(drain()).toBe(10)
    clock.advance(1_000)
    // Others come by, and the bucket, full again, is forgotten.
    for (let i = 0; i < 10; i++) store.take(claimOn([agentSubject(`other-${i}`, { requests: perMinute(1) })]))
    clock.advance(-1_000)
    expect(drain()).toBe(10)
    clock.advance(1_000)
    expect(drain()).toBe(0)
  })

  it('forgets what is idle: 100,000 agents come by and it holds only those of late', () => {
    const clock = manualClock()
    const store = createMemoryStore({ clock })
    let most = 0
    for (let i = 0; i < 100_000; i++) {
      const agent = agentSubject(`agent-${i}`, { requests: perSecond(100), concurrency: 5 })
      const claim = claimOn([agent])
      store.take(claim)
      store.settle(end(claim))
      clock.advance(1) // full again after 10 ms
      most = Math.max(most, store.size().buckets)
    }
    expect(most).toBeLessThan(100)
    expect(store.size().slots).toBe(0)
  })

  it('forgets expired slots that nobody asks for again', () => {
    const clock = manualClock()
    const store = createMemoryStore({ clock })
    for (let i = 0; i < 10_000; i++) {
      store.take(claimOn([agentSubject(`agent-${i}`, { concurrency: 5 })], 0, 100))
      clock.advance(1)
    }
    expect(store.size().slots).toBeLessThan(1_000)
  })

  it('stays under its bound even when no bucket is ever full again', () => {
    const store = createMemoryStore({ clock: manualClock(), maxSubjects: 1_000 })
    for (let i = 0; i < 5_000; i++)
      store.take(claimOn([agentSubject(`agent-${i}`, { requests: perMinute(1), concurrency: 1 })]))
    expect(store.size()).toEqual({ buckets: 1_000, slots: 1_000 })
  })
})
