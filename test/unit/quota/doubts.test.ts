// What becomes of visits that Redis did not answer in time, or was not asked: nothing is charged twice, and nothing comes
// back twice.

import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { toAccount } from '../../../src/quota/account.ts'
import { createLeaseStore } from '../../../src/quota/leases.ts'
import type { Answer } from '../../../src/quota/ledger.ts'
import { createMemoryAuthority } from '../../../src/quota/memory.ts'
import { createOutageAuthority } from '../../../src/quota/outage.ts'
import { type RedisLedgers, StoreFailure } from '../../../src/quota/redis.ts'
import type { Account, Claim, Granted, Timers } from '../../../src/quota/store.ts'
import type { Limits, Subject } from '../../../src/types.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { agentSubject, idleReport, perSecond } from './fixtures.ts'

/**
 * What becomes of a visit: it is answered, at once or when told to; done but never answered; done, and answered when
 * told to, but given up before; lost.
 */
type Fate = 'answered' | 'slow' | 'unanswered' | 'late' | 'lost'

const MIDNIGHT_US = Date.UTC(2027, 0, 2) * 1000
const DAY = { micros: 1_000_000, period: 'day' } as const

/** A replica whose Redis does what it is told. `untilMidnightMs` is where its clock stands. */
async function createReplica(untilMidnightMs = 3_600_000, replicas = 1) {
  const time = createManualClock()
  const ledgers = createMemoryAuthority({ clock: time.clock, epochUs: MIDNIGHT_US - untilMidnightMs * 1000 })
  const fates: Fate[] = []
  const late: (() => void)[] = []
  let isAway = false
  let onConnection = (_: boolean): void => {}
  const timers: Timers = {
    after(ms, run) {
      const handle = time.timers.set(ms, run)
      return () => time.timers.clear(handle)
    },
    soon: (run) => void setImmediate(run),
  }
  const redis: RedisLedgers = {
    async visit(visits, fleet) {
      const fate = fates.shift() ?? 'answered'
      const answers =
        fate === 'lost' ? [] : visits.map((one) => ledgers.visitOf(one, { replica: 'r', fleet }))
      if (fate === 'slow') await new Promise<void>((resolve) => late.push(resolve))
      if (fate === 'answered' || fate === 'slow') return answers
      return visits.map((_, i) => {
        const failure = new StoreFailure('timeout', 'late', true)
        if (fate === 'late')
          failure.late = new Promise<Answer | undefined>((resolve) => late.push(() => resolve(answers[i])))
        return failure
      })
    },
    async heartbeat() {
      if (isAway) throw new StoreFailure('disconnected', 'away', false)
      return 1
    },
    connect: async () => true,
    onConnection(listener) {
      onConnection = listener
    },
    trips: 0,
    async close() {},
  }
  const authority = createOutageAuthority({
    redis,
    shadow: createMemoryAuthority({ clock: time.clock }),
    onOutage: 'local',
    replicas,
    timers,
    log: { info() {}, warn() {} },
    random: () => 0.5,
  })
  await authority.start()
  const store = createLeaseStore({ authority, clock: time.clock, timers, leases: true })
  return {
    store,
    /** What becomes of the next visits. */
    next: (...list: Fate[]) => void fates.push(...list),
    /** All are answered from now on, but those of which it is told otherwise. */
    recover: () => void fates.splice(0),
    /** Redis is killed, or there again. */
    away(now: boolean) {
      isAway = now
      onConnection(!now)
    },
    /** Somebody else takes so many tokens. */
    drain(account: Account, tokens: number) {
      const claims = [[{ at: 0, requests: 0, tokens, micros: 0 }]]
      ledgers.visitOf(
        { generation: 1, reports: [idleReport(account)], claims },
        { replica: 'other', fleet: 1 },
      )
    },
    /** The answers that are missing come now, in their order. */
    async hear() {
      for (const one of late.splice(0)) one()
      await nextTurn()
    },
    async pass(ms: number) {
      for (let left = ms; left > 0; left -= 50) await time.advanceAsync(Math.min(left, 50))
      await nextTurn()
    },
    /** How an account stands in Redis: units taken, and micros spent. */
    standing(account: Account) {
      const { standings } = ledgers.visitOf(
        { generation: Number.MAX_SAFE_INTEGER, reports: [idleReport(account)], claims: [] },
        { replica: 'looker', fleet: 1 },
      )
      const [one] = standings
      const units = (kind: 'requests' | 'tokens'): number =>
        Math.round((one?.[kind] ?? 0) / (account[kind]?.intervalUs ?? 1))
      return { requests: units('requests'), tokens: units('tokens'), micros: one?.spentMicros }
    },
  }
}

type Replica = Awaited<ReturnType<typeof createReplica>>

let ids = 0
function claimOf(account: Account | readonly Account[], tokens = 0, micros = 0): Claim {
  ids += 1
  const asks = [account].flat().map((one) => ({ account: one, requests: 1, tokens, micros }))
  return { id: `c${ids}`, asks }
}

async function granted({ store }: Replica, claim: Claim): Promise<Granted> {
  const grant = await store.take(claim)
  if (!grant.ok) throw new Error(`refused: ${grant.kind}`)
  return grant
}

const subject = (kind: Subject['kind'], tag: string, limits: Partial<Limits>): Account =>
  toAccount({ kind, id: tag, tag, limits: { strict: false, ...limits } })
const agent = (limits: Partial<Limits>): Account => toAccount(agentSubject('a', limits))

it.each(['lost', 'unanswered'] as const)(
  'money of yesterday does not come back today when its visit is %s',
  async (fate) => {
    const replica = await createReplica(1_000)
    const account = agent({ budget: DAY })
    const old = claimOf(account, 0, 400_000)
    const grant = await granted(replica, old)
    await replica.pass(2_000)
    const today = claimOf(account, 0, 500_000)
    await granted(replica, today)
    expect(replica.standing(account).micros).toBe(500_000)
    replica.next(fate)
    replica.store.settle([{ claim: old, grant, usedTokens: 0, usedMicros: 0 }])
    await replica.pass(3_000)
    expect(replica.standing(account).micros).toBe(500_000)
  },
)

it.each([
  ['late', 'answered'],
  ['late', 'slow'],
  ['late', 'late'],
  ['lost', 'answered'],
  ['late', 'lost'],
  ['lost', 'late'],
] as const)(
  'tokens beyond a reservation are charged once when the visits that tell them are %s and %s',
  async (...fates) => {
    const replica = await createReplica()
    const account = agent({ tokens: perSecond(0.001, 100_000) })
    const claim = claimOf(account, 100)
    const grant = await granted(replica, claim)
    replica.next(...fates)
    replica.store.settle([{ claim, grant, usedTokens: 1_100, usedMicros: 0 }])
    // Told again while the answer is still on its way.
    await replica.pass(120)
    await replica.hear()
    await replica.pass(5_000)
    expect(replica.standing(account).tokens).toBe(1_100)
  },
)

it('who is refused by another limit gets back what Redis charged, when it says so', async () => {
  const replica = await createReplica()
  const mine = agent({ tokens: perSecond(0.001, 100_000), requests: perSecond(0.001, 100) })
  const all = subject('gateway', 'g', { budget: DAY })
  replica.next('late')
  expect((await replica.store.take(claimOf([mine, all], 8_000, 1_000))).ok).toBe(false)
  await replica.hear()
  await replica.pass(3_000)
  expect(replica.standing(mine)).toMatchObject({ requests: 0, tokens: 0 })
  expect(replica.standing(all).micros).toBe(0)
})

it('what its own ledgers granted comes back whole, although another part was let in on a guess', async () => {
  const replica = await createReplica()
  const mine = agent({ tokens: perSecond(0.001, 100_000) })
  const all = subject('gateway', 'g', { budget: DAY, tokens: perSecond(0.001, 100_000) })
  // The agent's ledgers are being asked, so its part of the second goes later and alone.
  replica.next('slow', 'answered', 'unanswered')
  const first = claimOf(mine, 100)
  const second = claimOf([mine, all], 8_000, 400_000)
  const grants = [replica.store.take(first), replica.store.take(second)]
  await nextTurn()
  await replica.hear()
  for (const [i, claim] of [first, second].entries()) {
    const grant = await grants[i]
    if (!grant?.ok) throw new Error('refused')
    replica.store.settle([{ claim, grant, usedTokens: 0, usedMicros: 10 }])
  }
  await replica.pass(3_000)
  expect(replica.standing(all)).toMatchObject({ tokens: 0, micros: 10 })
  expect(replica.standing(mine).tokens).toBe(8_000)
})

it('money comes back to the day of Redis, whatever day it is here', async () => {
  const replica = await createReplica()
  const mine = agent({ budget: DAY })
  const all = subject('gateway', 'g', { budget: DAY })
  replica.next('slow', 'answered', 'unanswered', 'unanswered')
  const first = claimOf(mine)
  const own = replica.store.take(first)
  const both = replica.store.take(claimOf([mine, all], 0, 400_000))
  await nextTurn()
  // The gateway has granted its part; then it was asked in vain, and this replica answered by its own clock.
  expect((await replica.store.take(claimOf(all, 0, 1_000))).ok).toBe(false)
  await replica.hear()
  expect([(await own).ok, (await both).ok]).toEqual([true, false])
  await replica.pass(3_000)
  expect(replica.standing(all).micros).toBe(0)
})

it('money comes back once, although Redis has forgotten the first of the visits that it did not answer', async () => {
  const replica = await createReplica()
  const account = agent({ budget: DAY })
  const old = claimOf(account, 0, 400_000)
  const grant = await granted(replica, old)
  await granted(replica, claimOf(account, 0, 300_000))
  // A minute without a word, and the first one that is heard is not answered either.
  replica.next('unanswered', ...Array.from({ length: 5_000 }, (): Fate => 'lost'))
  replica.store.settle([{ claim: old, grant, usedTokens: 0, usedMicros: 0 }])
  await replica.pass(61_500)
  // (Others who come by forget what is over.)
  expect(replica.standing(account).micros).toBe(300_000)
  replica.recover()
  replica.next('unanswered')
  await replica.pass(5_000)
  expect(replica.standing(account).micros).toBe(300_000)
})

it('tokens that were reserved on a share come back as far as they did not leak from it', async () => {
  const replica = await createReplica(3_600_000, 4)
  const account = agent({ tokens: perSecond(100, 40_000) })
  replica.away(true)
  const claim = claimOf(account, 8_000)
  const grant = await granted(replica, claim)
  // A share refills a quarter as quickly: of eight thousand a quarter is gone.
  await replica.pass(80_000)
  replica.store.settle([{ claim, grant, usedTokens: 100, usedMicros: 0 }])
  replica.drain(account, 40_000)
  replica.away(false)
  await replica.pass(1_000)
  const { tokens } = replica.standing(account)
  expect(tokens).toBeGreaterThanOrEqual(40_000 - 100)
  expect(tokens).toBeLessThanOrEqual(40_000)
})

const act = fc.oneof(
  { weight: 6, arbitrary: fc.record({ take: fc.nat(1_000) }) },
  { weight: 4, arbitrary: fc.record({ end: fc.nat(50), cost: fc.nat(1_500) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      next: fc.constantFrom<Fate>('answered', 'slow', 'unanswered', 'late', 'lost'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ hear: fc.constant(true) }) },
  { weight: 1, arbitrary: fc.record({ pass: fc.integer({ min: 10, max: 300 }) }) },
)

it('what is spent is what was used, whatever became of the visits, and no slot is lost', async () => {
  const budgets = fc.tuple(fc.boolean(), fc.boolean(), fc.boolean())
  await fc.assert(
    fc.asyncProperty(budgets, fc.array(act, { minLength: 20, maxLength: 80 }), async (has, acts) => {
      const replica = await createReplica()
      const limits = (at: number): Limits => ({
        strict: false,
        concurrency: 20,
        budget: has[at] === true ? { micros: 1e9, period: 'day' } : undefined,
      })
      const accounts = [
        agent(limits(0)),
        toAccount({ kind: 'bearer', id: 'b', tag: 'a', limits: limits(1) }),
        subject('gateway', 'g', limits(2)),
      ]
      const open: (readonly [Claim, Granted])[] = []
      const takes: Promise<void>[] = []
      let used = 0
      const end = (at: number, cost: number): void => {
        for (const [claim, grant] of open.splice(at % Math.max(open.length, 1), 1)) {
          used += cost
          replica.store.settle([{ claim, grant, usedTokens: 0, usedMicros: cost }])
        }
      }
      const take = async (micros: number): Promise<void> => {
        const claim = claimOf(accounts, 0, micros)
        const grant = await replica.store.take(claim)
        if (grant.ok) open.push([claim, grant])
      }
      for (const one of acts) {
        if ('take' in one) takes.push(take(one.take))
        else if ('end' in one) end(one.end, one.cost)
        else if ('next' in one) replica.next(one.next)
        else if ('hear' in one) await replica.hear()
        else await replica.pass(one.pass)
      }
      const calm = async (): Promise<void> => {
        for (let i = 0; i < 40; i += 1) {
          await replica.hear()
          await replica.pass(150)
        }
      }
      await calm()
      await Promise.all(takes)
      while (open.length > 0) end(0, 7)
      await calm()
      for (const account of accounts)
        expect(replica.standing(account).micros).toBe(account.budget === undefined ? 0 : used)
      expect(replica.store.totals().slots).toBe(0)
    }),
    { numRuns: 200 },
  )
})
