// The proof of limits as tests, in a short form that runs with all others and a long one (`npm run test:system`). Both
// print what they saw; with SLUICE_LIMITS_RESULTS they also write it there, as JSON.

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { type GatewayCase, type GatewayOutcome, runGatewayCase } from './gateways-proof.ts'
import {
  chargeCase,
  type Form,
  gatewayCases,
  nemesisCases,
  refusalCase,
  steadyCases,
  steadyGateways,
} from './limits-cases.ts'
import { type Case, type Outcome, runCase } from './limits-proof.ts'
import { toTable } from './table.ts'

/** What noise of a shared machine may take from the utilisation of a run of 4 s; a minute has time to make up for it. */
const UTILISATION: Readonly<Record<Form, number>> = { short: 0.95, long: 0.99 }

/** Registers the tests. */
export function proveLimits(form: Form): void {
  const outcomes: Outcome[] = []
  const gateways: GatewayOutcome[] = []
  const run = async (one: Case): Promise<Outcome> => {
    const outcome = await runCase(one)
    outcomes.push(outcome)
    return outcome
  }
  const runGateways = async (one: GatewayCase): Promise<GatewayOutcome> => {
    const outcome = await runGatewayCase(one)
    gateways.push(outcome)
    return outcome
  }
  afterAll(() => {
    process.stdout.write(`\n${limiterTable(outcomes)}\n\n${gatewayTable(gateways)}\n`)
    const file = process.env.SLUICE_LIMITS_RESULTS
    if (!file) return
    const path = file.endsWith('.json') ? file : join(file, `limits-${form}.json`)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, `${JSON.stringify({ form, limiters: outcomes, gateways }, undefined, 2)}\n`)
  })

  describe('limiters on one hot key', () => {
    it.each(steadyCases(form))('$name: never more than the limit, and nearly all of it', async (one) => {
      const outcome = await run(one)
      expectBound(outcome, one)
      expect(outcome.utilisation).toBeGreaterThanOrEqual(UTILISATION[form])
      // What is sent to Redis, one script being one, as reliability counts it (goals 3 and 4). A first refusal is a
      // question too; those that follow are not.
      const refused = one.mode === 'leases' ? 0 : outcome.vain / outcome.admitted
      expect(outcome.trips).toBeLessThanOrEqual(one.mode === 'leases' ? 0.1 : 1 + refused)
      expect(refused).toBeLessThanOrEqual(0.1)
      expect(outcome.unavailable).toBe(0)
    })

    it('refuse again and again without a question to Redis', async () => {
      const one = refusalCase(form)
      const outcome = await run(one)
      expect(outcome.admitted).toBe(1)
      expect(outcome.refused).toBeGreaterThan(1_000)
      // A refusal is remembered for a second, at each of two replicas; some more for connections and the first claim.
      const seconds = one.forMs / 1000
      expect((outcome.trips ?? Infinity) * outcome.admitted).toBeLessThanOrEqual(2 * (seconds + 1) + 6)
    })
  })

  describe('limiters, and a nemesis', () => {
    it.each(nemesisCases(form).map((one) => [`${one.name} (${one.mode})`, one] as const))(
      '%s',
      async (_, one) => {
        const outcome = await run(one)
        expectBound(outcome, one)
        expect(outcome.unavailable).toBe(0)
        expect(outcome.utilisation).toBeGreaterThan(0.5)
        // A claim waits for the visit under way and for its own, 50 ms each. A loop that stood still for the noise of
        // the machine is no wait for Redis; it may hit both.
        expect(outcome.longestMs).toBeLessThanOrEqual(110 + 2 * outcome.stalledMs)
        // In the short form those who waited for the fuse to open are more than one of a hundred.
        if (form === 'long') expect(outcome.p99Ms).toBeLessThanOrEqual(60 + outcome.stalledMs)
        if (outcome.exactAgainMs !== undefined) expect(outcome.exactAgainMs).toBeLessThanOrEqual(1_000)
      },
    )
  })

  it('replies that are dropped make nobody pay twice, and nobody nothing', async () => {
    const outcome = await run(chargeCase(form))
    expect(outcome.alone).toBeGreaterThan(0)
    expect(Math.round(outcome.charged ?? 0)).toBe(outcome.admitted)
  })

  describe('four gateways and four hundred callers', () => {
    it('admit never more than the limit, exactly and on leases, and nearly all of it', async () => {
      const outcome = await runGateways(steadyGateways(form))
      for (const limit of outcome.limits) {
        expect(limit.excess, limit.mode).toBeLessThanOrEqual(0)
        expect(limit.utilisation, limit.mode).toBeGreaterThanOrEqual(UTILISATION[form])
      }
      expect(failuresOf(outcome)).toEqual({})
    })

    it.each(gatewayCases(form))('lose nobody with: $name', async (one) => {
      const outcome = await runGateways(one)
      for (const limit of outcome.limits) {
        expect(limit.excess, limit.mode).toBeLessThanOrEqual(limit.allowed)
        expect(limit.utilisation, limit.mode).toBeGreaterThan(0.5)
      }
      expect(failuresOf(outcome)).toEqual({})
      // Waits for Redis are 110 ms at most; the rest is that eight processes share two cores.
      expect(outcome.longestMs).toBeLessThanOrEqual(500)
      if (outcome.exactAgainMs !== undefined) expect(outcome.exactAgainMs).toBeLessThanOrEqual(1_000)
    })
  })
}

/**
 * What the ledgers admitted is within B + r·T always, unless Redis forgot. The whole is within it and E as well; where
 * nothing was done to Redis and it was still too slow for a replica (a starved machine, a replica stopped so long that
 * it takes its connection for dead), that replica is cut off by §1.5, and E_part is no more than it admitted alone.
 */
function expectBound(outcome: Outcome, one: Case): void {
  const nl = one.mode === 'leases' ? one.capacity / 2 : 0
  expect(outcome.ledgerExcess, 'excess of the ledgers').toBeLessThanOrEqual(
    (one.losses ?? 0) * (one.capacity + nl),
  )
  const cutOff = one.formula === '0' ? outcome.alone : 0
  expect(outcome.excess, 'excess').toBeLessThanOrEqual(outcome.allowed + cutOff)
}

/** What was neither admitted nor refused. */
function failuresOf({ statuses }: GatewayOutcome): Record<string, number> {
  return Object.fromEntries(
    Object.entries(statuses).filter(([status]) => status !== '200' && status !== '429'),
  )
}

export function limiterTable(outcomes: readonly Outcome[]): string {
  return toTable(
    [
      'case',
      'mode',
      'N',
      's',
      'admitted',
      'B+rT',
      'used',
      'excess',
      'allowed',
      'E',
      'alone',
      'ledgers',
      '503',
      'sent/adm',
      'cmds/adm',
      'longest ms',
      'p99 ms',
      'stall ms',
      'back ms',
    ],
    outcomes.map((one) => [
      one.name,
      one.mode,
      one.replicas,
      Math.round(one.seconds),
      one.admitted,
      Math.round(one.bound),
      one.utilisation,
      Math.round(one.excess * 10) / 10,
      one.allowed,
      one.formula,
      one.alone,
      Math.round(one.ledgerExcess * 10) / 10,
      one.unavailable,
      one.trips,
      one.commands,
      Math.round(one.longestMs),
      one.p99Ms,
      Math.round(one.stalledMs),
      one.exactAgainMs === undefined ? undefined : Math.round(one.exactAgainMs),
    ]),
    { colour: process.stdout.isTTY, isBad: (at) => isOver(outcomes[at]) },
  )
}

function isOver(outcome: Outcome | undefined): boolean {
  return outcome !== undefined && outcome.excess > outcome.allowed
}

function gatewayTable(outcomes: readonly GatewayOutcome[]): string {
  return toTable(
    [
      'gateways',
      'mode',
      'admitted',
      'B+rT',
      'used',
      'excess',
      'allowed',
      'E',
      'answers',
      'longest ms',
      'p99 ms',
      'back ms',
    ],
    outcomes.flatMap(({ name, limits, formula, statuses, longestMs, p99Ms, exactAgainMs }) =>
      limits.map((one) => [
        name,
        one.mode,
        one.admitted,
        Math.round(one.bound),
        one.utilisation,
        Math.round(one.excess * 10) / 10,
        one.allowed,
        formula,
        Object.entries(statuses)
          .map(([status, count]) => `${status}: ${count}`)
          .join(', '),
        Math.round(longestMs),
        p99Ms,
        exactAgainMs === undefined ? undefined : Math.round(exactAgainMs),
      ]),
    ),
    { colour: process.stdout.isTTY },
  )
}
