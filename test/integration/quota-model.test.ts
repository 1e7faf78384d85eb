// bucket.lua and settle.lua do what bucket.ts says, bit for bit: both run on the same histories, Lua in a real Redis
// with the time handed in. SLUICE_MODEL_RUNS sets how many histories (CI: 10,000 and more).

import fc from 'fast-check'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { toAccount } from '../../src/quota/account.ts'
import { exact, settle, type Tat, take, untilFullUs } from '../../src/quota/bucket.ts'
import { createMemoryStore } from '../../src/quota/memory.ts'
import { readScripts, readTakeReply, toSettleCall, toTakeCall } from '../../src/quota/script.ts'
import type { Account, Claim, Granted, Refused, Settlement } from '../../src/quota/store.ts'
import type { Rate } from '../../src/types.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'

const numRuns = Number(process.env.SLUICE_MODEL_RUNS ?? 2000)
const scripts = readScripts()
const START_US = 1_795_000_000_000_000
/** Much longer than a history takes in real time: Redis expires keys by its own clock. */
const SLOT_MS = 60_000

let server: TestRedis
let redis: Redis

beforeAll(async () => {
  server = await startRedis()
  redis = new Redis(server.url)
  await redis.script('LOAD', scripts.take.lua)
  await redis.script('LOAD', scripts.settle.lua)
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
  { requests: rates, tokens: rates, concurrency: fc.integer({ min: 0, max: 4 }) },
  { requiredKeys: [] },
)

const steps = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('take' as const),
      who: fc.subarray([0, 1, 2], { minLength: 1 }),
      requests: fc.constantFrom(1, 1, 1, 0, 2),
      // A share of the capacity, so that the edge is hit, or any number.
      tokens: fc.oneof(fc.double({ min: 0, max: 1.3, noNaN: true }), fc.integer({ min: 2, max: 300_000 })),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('settle' as const),
      which: fc.nat(),
      used: fc.option(fc.double({ min: 0, max: 2, noNaN: true }), { nil: undefined }),
      // A settlement may come twice, or late; a slot is given back once.
      again: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('wait' as const),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  },
  // Exactly to the end of a slot.
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('expire' as const) }) },
)

let histories = 0

describe('the scripts', () => {
  it(`agree with the store in memory on ${numRuns} histories of claims and settlements`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(subjects, { minLength: 3, maxLength: 3 }),
        fc.array(steps, { minLength: 1, maxLength: 25 }),
        async (limits, history) => {
          const run = ++histories
          const accounts: Account[] = limits.map((some, i) =>
            toAccount({
              kind: 'agent',
              id: `m${run}-${i}`,
              tag: `m${run}`,
              limits: { strict: false, ...some },
            }),
          )
          let nowUs = START_US
          const memory = createMemoryStore({ clock: { now: () => nowUs / 1000, wall: () => 0 } })
          const expected: (Granted | Refused | undefined)[] = []
          const claims: Claim[] = []
          const granted: Claim[] = []
          const pipeline = redis.pipeline()

          for (const step of history) {
            if (step.kind === 'wait') {
              const depths = accounts.map(({ tokens, requests }) => {
                const rate = tokens ?? requests
                return rate === undefined ? 1e6 : rate.capacity * rate.intervalUs
              })
              // Multiples of 125 µs, which are exact as fractions of a ms too.
              nowUs += Math.floor((step.share ** 3 * Math.min(...depths)) / 125) * 125
            } else if (step.kind === 'expire') {
              nowUs += SLOT_MS * 1000
            } else if (step.kind === 'take') {
              const asks = step.who.flatMap((i) => {
                const account = accounts[i]
                if (account === undefined) return []
                const tokens =
                  step.tokens < 2 ? Math.round(step.tokens * (account.tokens?.capacity ?? 1)) : step.tokens
                return [{ account, requests: step.requests, tokens }]
              })
              const claim: Claim = { id: `h${claims.length}`, asks, slotMs: SLOT_MS }
              claims.push(claim)
              const grant = memory.take(claim)
              if (grant.ok) granted.push(claim)
              expected.push(grant)
              const call = toTakeCall(claim, nowUs)
              pipeline.evalsha(scripts.take.sha, call.keys.length, ...call.keys, ...call.args)
            } else {
              const claim = granted[step.which % Math.max(granted.length, 1)]
              if (claim === undefined) continue
              if (!step.again) granted.splice(granted.indexOf(claim), 1)
              const reserved = Math.max(...claim.asks.map(({ tokens }) => tokens))
              const usedTokens = step.used === undefined ? undefined : Math.round(step.used * reserved)
              const settlements: Settlement[] = [{ claim, origin: 'store', usedTokens }]
              memory.settle(settlements)
              const call = toSettleCall(settlements, nowUs)
              if (call === undefined) continue
              expected.push(undefined)
              pipeline.evalsha(scripts.settle.sha, call.keys.length, ...call.keys, ...call.args)
            }
          }

          const replies = (await pipeline.exec()) ?? []
          let claimed = 0
          expected.forEach((grant, i) => {
            const [error, reply] = replies[i] ?? []
            expect(error).toBeNull()
            if (grant === undefined) return
            const claim = claims[claimed++]
            if (claim !== undefined) expect(readTakeReply(claim, reply)).toEqual(grant)
          })
        },
      ),
      { numRuns },
    )
  }, 600_000)

  it('agree with the arithmetic to the last bit of the stored state, at any µs, with a clock that jumps', async () => {
    await fc.assert(
      fc.asyncProperty(
        rates,
        fc.array(
          fc.record({
            cost: fc.double({ min: 0, max: 1.5, noNaN: true }),
            used: fc.double({ min: 0, max: 2, noNaN: true }),
            move: fc.double({ min: -0.5, max: 1, noNaN: true }),
          }),
          { minLength: 1, maxLength: 15 },
        ),
        async (asked, history) => {
          const rate = exact(asked)
          const account = toAccount({
            kind: 'agent',
            id: `b${++histories}`,
            tag: 'b',
            limits: { strict: false, tokens: asked },
          })
          let nowUs = START_US
          let tat: Tat | undefined
          const pipeline = redis.pipeline()
          const expected: { ok: boolean; tat: Tat | undefined; levelUs: number; waitUs: number }[] = []
          for (const [i, step] of history.entries()) {
            nowUs += Math.floor(step.move ** 3 * rate.capacity * rate.intervalUs)
            const tokens = Math.round(step.cost * rate.capacity)
            const claim: Claim = { id: `h${i}`, asks: [{ account, requests: 0, tokens }], slotMs: 1 }
            const taken = take(tat, rate, tokens, nowUs)
            if (taken.ok) tat = taken.tat
            const levelUs = untilFullUs(tat, nowUs)
            const call = toTakeCall(claim, nowUs)
            pipeline.evalsha(scripts.take.sha, call.keys.length, ...call.keys, ...call.args)
            const usedTokens = Math.round(step.used * tokens)
            const settlement = toSettleCall([{ claim, origin: 'store', usedTokens }], nowUs)
            if (taken.ok && settlement !== undefined) {
              if (tat !== undefined) tat = settle(tat, rate, usedTokens - tokens, nowUs)
              pipeline.evalsha(
                scripts.settle.sha,
                settlement.keys.length,
                ...settlement.keys,
                ...settlement.args,
              )
            } else pipeline.ping()
            pipeline.hget(account.bucketKey, 't')
            expected.push({ ok: taken.ok, tat, levelUs, waitUs: taken.ok ? 0 : taken.waitUs })
          }
          const replies = (await pipeline.exec()) ?? []
          expected.forEach(({ ok, tat: wanted, levelUs, waitUs }, i) => {
            const reply: unknown = replies[i * 3]?.[1]
            const values: readonly unknown[] = Array.isArray(reply) ? reply : []
            expect(values[0]).toBe(ok ? 1 : 0)
            if (!ok) expect(values[4]).toBe(waitUs)
            expect(Number(values.at(-1))).toBe(levelUs)
            const state = replies[i * 3 + 2]?.[1]
            if (wanted === undefined) expect(state).toBeNull()
            else {
              const [us, part] = String(state).split(' ').map(Number)
              expect({ us, part }).toEqual(wanted)
            }
          })
        },
      ),
      { numRuns: Math.ceil(numRuns / 4) },
    )
  }, 600_000)
})
