// The law that leases must keep, on ledger.ts alone: however replicas take, spend, return and lose leases, no window
// holds more than capacity + rate · T.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toAccount } from '../../../src/quota/account.ts'
import { emptyLedger, LEASE_US, NO_UNITS, type Units, visit } from '../../../src/quota/ledger.ts'
import { type Admission, excessUnits } from './checker.ts'
import { idleReport } from './fixtures.ts'

const numRuns = Number(process.env.SLUICE_MODEL_RUNS ?? 3000)
const START_US = Date.UTC(2027, 0, 1) * 1000

const step = fc.record({
  replica: fc.nat(3),
  /** What happens to what the replica has: it is spent one by one, comes back with the next visit, or is lost. */
  act: fc.constantFrom('spend' as const, 'spend' as const, 'return' as const, 'crash' as const),
  share: fc.double({ min: 0, max: 1, noNaN: true }),
  claims: fc.nat(6),
  ahead: fc.nat(40),
  /** Time goes on by so many bucket depths before the visit. */
  wait: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1.5, noNaN: true })),
})

interface InHand {
  units: number
  endsUs: number
}

function play(
  history: readonly (typeof step extends fc.Arbitrary<infer S> ? S : never)[],
  { capacity, intervalUs }: { capacity: number; intervalUs: number },
  leaseLifeUs = LEASE_US,
) {
  const account = toAccount({
    kind: 'gateway',
    id: 'g',
    tag: 'g',
    limits: { strict: false, requests: { capacity, intervalUs } },
  })
  const rate = account.requests
  if (rate === undefined) throw new Error('no rate')
  const ledger = emptyLedger()
  const hands: InHand[] = Array.from({ length: 4 }, () => ({ units: 0, endsUs: 0 }))
  const admitted: Admission[] = []
  let nowUs = START_US
  let asked = 0
  let generation = 0
  let leased = 0
  for (const { replica, act, share, claims, ahead, wait } of history) {
    // Leases are spent at any time while they last, by anybody: late ones make the longest bursts.
    nowUs += Math.floor((wait * capacity * intervalUs) / 2)
    for (const hand of hands) {
      if (act === 'spend' && nowUs < hand.endsUs && hand.units > 0) {
        const units = Math.ceil(hand.units * share)
        admitted.push({ atUs: nowUs - START_US, units })
        hand.units -= units
      }
    }
    nowUs += Math.floor((wait * capacity * intervalUs) / 2)
    const hand = hands[replica] as InHand
    // A replica may think it has what is long over: the ledger knows better.
    const returned: Units = { ...NO_UNITS, requests: act === 'return' ? hand.units : 0 }
    hand.units = 0
    if (act === 'crash') continue
    generation += 1
    const { refusals, standings } = visit(
      [ledger],
      {
        generation,
        reports: [
          {
            account,
            moved: NO_UNITS,
            movedStartUs: 0,
            returned,
            owed: NO_UNITS,
            slots: 0,
            ahead: { ...NO_UNITS, requests: ahead },
            doubtSince: 0,
          },
        ],
        claims: Array.from({ length: claims }, () => [{ at: 0, requests: 1, tokens: 0, micros: 0 }]),
      },
      { replica: `r${replica}`, fleet: 4 },
      nowUs,
    )
    asked += claims
    const granted = refusals.filter((no) => no === undefined).length
    if (granted > 0) admitted.push({ atUs: nowUs - START_US, units: granted })
    hand.units = standings[0]?.lease.requests ?? 0
    hand.endsUs = nowUs + leaseLifeUs
    leased += hand.units
  }
  return { excess: excessUnits(admitted, rate), admitted, asked, leased }
}

const rates = fc.record({
  capacity: fc.integer({ min: 1, max: 60 }),
  // A bucket is full again after 10 ms to 6 s: shorter and longer than a lease lives.
  intervalUs: fc.integer({ min: 500, max: 100_000 }),
})

describe('leases', () => {
  it(`admit no more than capacity + rate · T in any window, on ${numRuns} histories of four replicas`, () => {
    let leased = 0
    let admitted = 0
    fc.assert(
      fc.property(rates, fc.array(step, { minLength: 5, maxLength: 60 }), (rate, history) => {
        const played = play(history, rate)
        leased += played.leased
        admitted += played.admitted.reduce((sum, { units }) => sum + units, 0)
        expect(played.excess).toBeLessThanOrEqual(0)
      }),
      { numRuns },
    )
    // They were there, and were spent.
    expect(leased).toBeGreaterThan(numRuns)
    expect(admitted).toBeGreaterThan(numRuns)
  })

  it('would admit more if a dead lease were spent: the check can fail', () => {
    // Takes a lease, and spends it when the bucket is full again because the lease is over.
    const still = { share: 1, claims: 0, ahead: 0, wait: 0, replica: 1 } as const
    const history = [
      { ...still, act: 'return' as const, ahead: 40, replica: 0 },
      { ...still, act: 'return' as const, wait: 1 },
      { ...still, act: 'spend' as const, claims: 6 },
      { ...still, act: 'return' as const, claims: 6 },
    ]
    const rate = { capacity: 12, intervalUs: 100_000 }
    expect(play(history, rate).excess).toBeLessThanOrEqual(0)
    expect(play(history, rate, LEASE_US * 100).excess).toBeGreaterThan(0)
  })

  it('leave a replica that was refused its share of what comes back', () => {
    const account = toAccount({
      kind: 'gateway',
      id: 'g',
      tag: 'g',
      limits: { strict: false, requests: { capacity: 100, intervalUs: 1_000 } },
    })
    const ledger = emptyLedger()
    let generation = 0
    let nowUs = START_US
    const ask = (replica: string, claims: number): number => {
      generation += 1
      const { refusals, standings } = visit(
        [ledger],
        {
          generation,
          reports: [idleReport(account, { ahead: { ...NO_UNITS, requests: 50 } })],
          claims: Array.from({ length: claims }, () => [{ at: 0, requests: 1, tokens: 0, micros: 0 }]),
        },
        { replica, fleet: 2 },
        nowUs,
      )
      return refusals.filter((no) => no === undefined).length + (standings[0]?.lease.requests ?? 0)
    }
    ask('greedy', 200)
    ask('modest', 1)
    let greedy = 0
    let modest = 0
    for (let i = 0; i < 200; i++) {
      nowUs += 10_000
      greedy += ask('greedy', 200)
      modest += ask('modest', 2)
    }
    // Who wants little gets all of it; the rest is not lost.
    expect(modest).toBeGreaterThanOrEqual(400 * 0.95)
    expect(greedy + modest).toBeGreaterThan(2000 * 0.97)
  })
})
