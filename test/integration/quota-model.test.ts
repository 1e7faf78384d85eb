// ledger.lua does what ledger.ts says, bit for bit: both run on the same histories, Lua in a real Redis with the time
// handed in. SLUICE_MODEL_RUNS sets how many histories.

import fc from 'fast-check'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { toAccount } from '../../src/quota/account.ts'
import { exact } from '../../src/quota/bucket.ts'
import { emptyLedger, isBlank, type Ledger, type Visit, visit } from '../../src/quota/ledger.ts'
import { readAnswers, readScripts, toCall } from '../../src/quota/script.ts'
import type { Account } from '../../src/quota/store.ts'
import type { Rate } from '../../src/types.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'

const numRuns = Number(process.env.SLUICE_MODEL_RUNS ?? 10_000)
const scripts = readScripts()
/** 2027-01-31 23:59:30 UTC: days and months end in the course of the histories. */
const START_US = Date.UTC(2027, 0, 31, 23, 59, 30) * 1000
const REPLICAS = ['a', 'b', 'c'] as const

let server: TestRedis
let redis: Redis

beforeAll(async () => {
  server = await startRedis()
  redis = new Redis(server.url)
  await redis.script('LOAD', scripts.visit.lua)
})

afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

const rates: fc.Arbitrary<Rate> = fc
  .record({
    capacity: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 200_000 })),
    perSecond: fc.oneof(
      fc.constantFrom(1, 3, 7, 50, 1 / 6, 200_000 / 60),
      fc.double({ min: 0.01, max: 10_000, noNaN: true }),
    ),
  })
  .map(({ capacity, perSecond }) => ({ capacity, intervalUs: 1e6 / perSecond }))
  .filter(({ capacity, intervalUs }) => capacity * intervalUs < 1e12)

const subjects = fc.record(
  {
    requests: rates,
    tokens: rates,
    concurrency: fc.integer({ min: 0, max: 4 }),
    budget: fc.record({
      micros: fc.integer({ min: 1, max: 1_000_000 }),
      period: fc.constantFrom('day' as const, 'month' as const),
    }),
  },
  { requiredKeys: [] },
)

/** A share of a capacity, so that the edge is hit, or any number. */
const amount = fc.oneof(fc.double({ min: 0, max: 1.3, noNaN: true }), fc.integer({ min: 2, max: 300_000 }))
const units = fc.record({ requests: fc.integer({ min: 0, max: 3 }), tokens: amount, micros: amount })
const report = fc.record({
  who: fc.nat(2),
  moved: fc.record({
    requests: fc.integer({ min: -2, max: 2 }),
    tokens: amount,
    micros: amount,
    sign: fc.constantFrom(1, -1),
  }),
  /** Of the present period or of the one before. */
  isPresent: fc.boolean(),
  slots: fc.integer({ min: 0, max: 3 }),
  returned: fc.oneof(fc.constant(undefined), units),
  /** As a replica sees the account that has another configuration: without some of its limits, or with other rates. */
  without: fc.oneof(
    { weight: 4, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constantFrom(3, 1 / 7) },
    { weight: 1, arbitrary: fc.constantFrom('requests' as const, 'tokens' as const, 'budget' as const) },
  ),
  ahead: fc.oneof(fc.constant(undefined), units),
  /** How many visits back the first one in doubt lies. */
  doubt: fc.oneof(fc.constant(undefined), fc.integer({ min: 1, max: 4 })),
})
const steps = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('visit' as const),
      replica: fc.constantFrom(...REPLICAS),
      fleet: fc.constantFrom(1, 3),
      late: fc.boolean(),
      reports: fc.uniqueArray(report, { minLength: 1, maxLength: 3, selector: ({ who }) => who }),
      claims: fc.array(
        fc.array(fc.record({ which: fc.nat(2), cost: units }), { minLength: 1, maxLength: 3 }),
        {
          maxLength: 3,
        },
      ),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('wait' as const),
      us: fc.oneof(
        fc.integer({ min: 0, max: 5_000 }),
        fc.integer({ min: 0, max: 3_000_000 }),
        // To the ends of leases, marks, slots and what is remembered of a visit.
        fc.constantFrom(1_000_000, 999_999, 6_000_000, 60_000_000, 86_400_000_000),
      ),
    }),
  },
)

/** The account by another configuration: without a limit, or with rates so many times as quick and bursts as large. */
function differently(account: Account, how: 'requests' | 'tokens' | 'budget' | number | undefined): Account {
  if (how === undefined) return account
  if (typeof how === 'string') return { ...account, [how]: undefined }
  const other = (rate: Rate | undefined): Rate | undefined =>
    rate &&
    exact({
      capacity: Math.max(Math.round(rate.capacity * how), 1),
      intervalUs: rate.intervalUs / how,
    })
  return { ...account, requests: other(account.requests), tokens: other(account.tokens) }
}

/** An amount as whole units of a limit. */
function whole(of: number, capacity: number | undefined): number {
  return Math.round(of < 2 ? of * (capacity ?? 1) : of)
}

let histories = 0

describe('the script of the ledgers', () => {
  it(`agrees with ledger.ts on ${numRuns} histories of visits`, async () => {
    let granted = 0
    let refused = 0
    let leased = 0
    let stale = 0
    let booked = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(subjects, { minLength: 3, maxLength: 3 }),
        fc.array(steps, { minLength: 1, maxLength: 20 }),
        async (limits, history) => {
          const run = ++histories
          const accounts = limits.map(
            ({ budget, ...some }, i): Account => ({
              ...toAccount({
                kind: 'agent',
                id: `m${run}-${i}`,
                tag: `m${run}`,
                limits: { strict: false, ...some },
              }),
              budget,
            }),
          )
          const ledgers: Ledger[] = accounts.map(() => emptyLedger())
          let nowUs = START_US
          let generation = 0
          const visits: Visit[] = []
          const expected: unknown[] = []
          const pipeline = redis.pipeline()
          for (const step of history) {
            if (step.kind === 'wait') {
              nowUs += step.us
              continue
            }
            // A late one comes with a number that its replica has used.
            if (!step.late) generation += 1
            const one: Visit = {
              generation,
              reports: step.reports.map(
                ({ who, moved, isPresent, slots, returned, without, ahead, doubt }) => {
                  const known = accounts[who] as Account
                  const account = differently(known, without)
                  const { tokens, budget } = account
                  return {
                    account,
                    moved: {
                      requests: moved.requests,
                      tokens: moved.sign * whole(moved.tokens, tokens?.capacity),
                      micros: moved.sign * whole(moved.micros, budget?.micros),
                    },
                    movedStartUs: isPresent ? Math.floor(nowUs / 86_400_000_000) * 86_400_000_000 : START_US,
                    returned: {
                      requests: returned?.requests ?? 0,
                      tokens: returned === undefined ? 0 : whole(returned.tokens, tokens?.capacity),
                      micros: returned === undefined ? 0 : whole(returned.micros, budget?.micros),
                    },
                    owed: { requests: 0, tokens: 0, micros: 0 },
                    slots,
                    ahead: {
                      requests: ahead?.requests ?? 0,
                      tokens: ahead === undefined ? 0 : whole(ahead.tokens, tokens?.capacity),
                      micros: ahead === undefined ? 0 : whole(ahead.micros, budget?.micros),
                    },
                    doubtSince: doubt === undefined ? 0 : Math.max(generation - doubt, 0),
                  }
                },
              ),
              claims: step.claims.map((parts) => {
                const places = [...new Set(parts.map(({ which }) => which % step.reports.length))]
                return places.map((at) => {
                  const account = accounts[(step.reports[at] as { who: number }).who] as Account
                  const { cost } = parts.find(
                    ({ which }) => which % step.reports.length === at,
                  ) as (typeof parts)[0]
                  return {
                    at,
                    requests: cost.requests,
                    tokens: whole(cost.tokens, account.tokens?.capacity),
                    micros: whole(cost.micros, account.budget?.micros),
                  }
                })
              }),
            }
            const visitor = { replica: step.replica, fleet: step.fleet }
            const answer = visit(
              step.reports.map(({ who }) => ledgers[who] as Ledger),
              one,
              visitor,
              nowUs,
            )
            expected.push(answer)
            visits.push(one)
            const call = toCall([one], visitor, nowUs)
            pipeline.evalsha(scripts.visit.sha, call.keys.length, ...call.keys, ...call.args)
            if (answer.stale) stale += 1
            for (const no of answer.refusals) no === undefined ? granted++ : refused++
            for (const { lease, heard } of answer.standings) {
              leased += lease.requests + lease.tokens + lease.micros
              if (heard.micros !== 0) booked += 1
            }
          }
          for (const { key } of accounts) pipeline.exists(key)
          const replies = (await pipeline.exec()) ?? []
          visits.forEach((one, i) => {
            const [error, reply] = replies[i] ?? []
            expect(error).toBeNull()
            expect(readAnswers([one], reply)).toEqual([expected[i]])
          })
          // A ledger that says nothing takes no memory. (What is over by the time handed in may still be there.)
          accounts.forEach((_, i) => {
            const ledger = ledgers[i] as Ledger
            const isWritten =
              ledger.requests ??
              ledger.tokens ??
              (Object.keys(ledger.money).length > 0 || ledger.leases.size > 0)
            if (!isWritten) expect(replies[visits.length + i]?.[1]).toBe(0)
            if (!isBlank(ledger, nowUs)) expect(replies[visits.length + i]?.[1]).toBe(1)
          })
        },
      ),
      { numRuns },
    )
    // The histories reach what they are for.
    for (const seen of [granted, refused, leased, stale, booked]) expect(seen).toBeGreaterThan(numRuns / 10)
  }, 600_000)

  it('does the visits of several tags in one call, and each as if alone', async () => {
    const accounts = ['x', 'y'].map((id) =>
      toAccount({
        kind: 'agent',
        id,
        tag: id,
        limits: { strict: false, requests: { capacity: 2, intervalUs: 1e9 } },
      }),
    )
    const visits = accounts.map(
      (account, i): Visit => ({
        generation: 1,
        reports: [
          {
            account,
            moved: { requests: i, tokens: 0, micros: 0 },
            movedStartUs: 0,
            returned: { requests: 0, tokens: 0, micros: 0 },
            owed: { requests: 0, tokens: 0, micros: 0 },
            slots: 0,
            ahead: { requests: 0, tokens: 0, micros: 0 },
            doubtSince: 0,
          },
        ],
        claims: [
          [{ at: 0, requests: 1, tokens: 0, micros: 0 }],
          [{ at: 0, requests: 1, tokens: 0, micros: 0 }],
        ],
      }),
    )
    const call = toCall(visits, { replica: 'a', fleet: 1 }, START_US)
    const reply = await redis.evalsha(scripts.visit.sha, call.keys.length, ...call.keys, ...call.args)
    expect(readAnswers(visits, reply)).toMatchObject([
      { refusals: [undefined, undefined] },
      { refusals: [undefined, { at: 0, kind: 'requests', waitUs: 1e9 }] },
    ])
  })

  it('decides the others of a call when one ledger cannot be read, and leaves alone what is not its own', async () => {
    const accounts = ['good', 'bad', 'foreign'].map((id) =>
      toAccount({
        kind: 'agent',
        id,
        tag: `one-bad-${id}`,
        limits: { strict: false, requests: { capacity: 2, intervalUs: 1e9 } },
      }),
    )
    const [, bad, foreign] = accounts as [Account, Account, Account]
    await redis.set(bad.key, 'no hash')
    await redis.hset(foreign.key, 'x', 'from another hand', 'r', 'not a time', 'l:z', '1 2')
    const visits = accounts.map(
      (account): Visit => ({
        generation: 1,
        reports: [
          {
            account,
            moved: { requests: 1, tokens: 0, micros: 0 },
            movedStartUs: 0,
            returned: { requests: 0, tokens: 0, micros: 0 },
            owed: { requests: 0, tokens: 0, micros: 0 },
            slots: 0,
            ahead: { requests: 0, tokens: 0, micros: 0 },
            doubtSince: 0,
          },
        ],
        claims: [[{ at: 0, requests: 1, tokens: 0, micros: 0 }]],
      }),
    )
    const call = toCall(visits, { replica: 'a', fleet: 1 }, START_US)
    const reply = await redis.evalsha(scripts.visit.sha, call.keys.length, ...call.keys, ...call.args)
    expect(readAnswers(visits, reply)).toMatchObject([
      { refusals: [undefined], standings: [{ requests: 2e9 }] },
      { failed: expect.stringContaining('WRONGTYPE'), unsure: false },
      { refusals: [undefined], standings: [{ requests: 2e9 }] },
    ])
    expect(await redis.hget(foreign.key, 'x')).toBe('from another hand')
  })
})
