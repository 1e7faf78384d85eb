// How limits and what stands behind them stand, as plain values for an operator. Pure; what is true of a ledger is told
// by leases.ts.

import type { ErrorCode } from '../errors.ts'
import type { Agent, Rate, Refusal, Subject } from '../types.ts'
import { toShare } from './account.ts'
import type { Backing } from './backing.ts'
import { remaining, waitForUs } from './bucket.ts'
import type { Spent } from './leases.ts'
import { periodOf } from './period.ts'
import { type Account, type Ask, CONCURRENCY_WAIT_US, type InHand } from './store.ts'

/** The limits of one subject; a kind that is absent is unlimited. Null is what nobody could tell. */
export interface SubjectLimits {
  readonly kind: Subject['kind']
  readonly id: string
  /** `ledgers`; `share`: this replica's part, while the ledgers are away; `nobody`. */
  readonly toldBy: InHand['toldBy']
  /** Among how many replicas what is left is shared: 1 unless told by `share`. */
  readonly sharedBy: number
  readonly requests?: BucketShown
  /** Input + output tokens. */
  readonly tokens?: BucketShown
  readonly concurrency?: SlotsShown
  readonly budget?: BudgetShown
}

export interface BucketShown {
  /** Capacity, in units. */
  readonly limit: number
  /** Units that come back. */
  readonly perSecond: number
  /** What is on lease elsewhere is not in it; what is on lease here is. */
  readonly left: number | null
  readonly fullInMs: number | null
  readonly leasedHere: number
}

export interface SlotsShown {
  readonly limit: number
  readonly left: number | null
  /** By all replicas, slots that they keep ready included. */
  readonly inUse: number | null
  /** Requests under way here. */
  readonly usedHere: number
  /** Kept for the next requests here. */
  readonly leasedHere: number
}

export interface BudgetShown {
  readonly limitUsd: number
  readonly period: 'day' | 'month'
  readonly leftUsd: number | null
  /** What is reserved or out on lease counts as spent. */
  readonly spentUsd: number | null
  readonly leasedHereUsd: number
  /** ISO 8601, UTC. */
  readonly endsAt: string
}

/** `wallMs` (Unix ms) stands in for the ledgers' clock where nobody told. */
export function toShown(inHand: InHand, wallMs: number): SubjectLimits {
  const { account, toldBy } = inHand
  const { sharedBy } = inHand.levels
  const { kind, id } = account.subject
  const { requests, tokens, concurrency, budget } = account
  const share = sharedBy > 1 ? toShare(account, sharedBy) : account
  return {
    kind,
    id,
    toldBy,
    sharedBy,
    ...(requests && { requests: toBucket(inHand, requests, 'requests', share) }),
    ...(tokens && { tokens: toBucket(inHand, tokens, 'tokens', share) }),
    ...(concurrency !== undefined && { concurrency: toSlots(inHand, concurrency, share) }),
    ...(budget && { budget: toBudget(inHand, budget, wallMs) }),
  }
}

function toBucket(
  { toldBy, levels, lease }: InHand,
  rate: Rate,
  kind: 'requests' | 'tokens',
  share: Account,
): BucketShown {
  const levelUs = toldBy === 'nobody' ? undefined : levels[kind]
  return {
    limit: rate.capacity,
    // The interval stands on a grid (bucket.ts `exact`): nine digits are what was written.
    perSecond: Number((1e6 / rate.intervalUs).toPrecision(9)),
    left: levelUs === undefined ? null : remaining(levelUs, share[kind] ?? rate),
    fullInMs: levelUs === undefined ? null : Math.ceil(levelUs / 1000),
    leasedHere: lease[kind],
  }
}

function toSlots(
  { toldBy, slotsUsed, slotsReady, slotsOfAll }: InHand,
  limit: number,
  share: Account,
): SlotsShown {
  const isTold = toldBy !== 'nobody'
  return {
    limit,
    left: isTold ? Math.max((share.concurrency ?? limit) - slotsOfAll + slotsReady, 0) : null,
    inUse: isTold ? slotsOfAll : null,
    usedHere: slotsUsed,
    leasedHere: slotsReady,
  }
}

/** Money is only counted by the ledgers: while they are away nobody knows what is spent, and nobody spends. */
function toBudget(
  { toldBy, nowUs, spentMicros, lease }: InHand,
  { micros, period }: NonNullable<Account['budget']>,
  wallMs: number,
): BudgetShown {
  const isTold = toldBy === 'ledgers'
  const { endUs } = periodOf(period, isTold ? nowUs : wallMs * 1000)
  return {
    limitUsd: micros / 1e6,
    period,
    leftUsd: isTold ? Math.max(micros - spentMicros, 0) / 1e6 : null,
    spentUsd: isTold ? spentMicros / 1e6 : null,
    leasedHereUsd: lease.micros / 1e6,
    endsAt: new Date(endUs / 1000).toISOString(),
  }
}

/** What one more request would be refused with, as the limits stand; undefined where it would be let in. */
export function isFull(limits: readonly SubjectLimits[]): ErrorCode | undefined {
  if (limits.some(({ budget }) => budget?.leftUsd === 0)) return 'insufficient_quota'
  if (limits.some(({ requests, tokens }) => isNone(requests?.left) || isNone(tokens?.left)))
    return 'rate_limit_exceeded'
  return limits.some(({ concurrency }) => isNone(concurrency?.left)) ? 'concurrency_exceeded' : undefined
}

/** What an ask would be refused with as its account stands, by the longest wait; what nobody knows refuses nothing. */
export function toForeseen(inHand: InHand, ask: Ask): Refusal | undefined {
  const { account, levels, toldBy, nowUs, lease, slotsOfAll, slotsReady, spentMicros } = inHand
  if (toldBy === 'nobody') return undefined
  const { subject, budget } = account
  const { requests, tokens, concurrency } = levels.sharedBy > 1 ? toShare(account, levels.sharedBy) : account
  const waits: [Refusal['kind'], number][] = []
  if (requests !== undefined)
    waits.push(['requests', waitForUs(levels.requests ?? 0, requests, ask.requests)])
  if (tokens !== undefined) waits.push(['tokens', waitForUs(levels.tokens ?? 0, tokens, ask.tokens)])
  if (concurrency !== undefined && slotsOfAll - slotsReady >= concurrency)
    waits.push(['concurrency', CONCURRENCY_WAIT_US])
  // Money of this replica's lease is there for its next requests.
  if (
    budget !== undefined &&
    spentMicros - lease.micros + Math.min(ask.micros, budget.micros) > budget.micros
  )
    waits.push(['budget', periodOf(budget.period, nowUs).endUs - nowUs])
  let worst: Refusal | undefined
  for (const [kind, waitUs] of waits)
    if (waitUs > 0 && waitUs / 1000 > (worst?.waitMs ?? 0)) worst = { kind, subject, waitMs: waitUs / 1000 }
  return worst
}

/** Less than one; what nobody knows is not nothing. */
function isNone(left: number | null | undefined): boolean {
  return left !== null && left !== undefined && left < 1
}

/** What an operator sees of Redis; null without it. */
export function redisShown({ redis, outage, sinceMs, onOutage }: Backing) {
  if (redis === undefined || outage === undefined) return null
  return {
    up: outage.up,
    since: new Date(sinceMs).toISOString(),
    fleet: outage.fleet,
    /** Among how many a limit is shared while Redis is away. */
    divisor: outage.divisor,
    onOutage,
    trips: redis.trips,
  }
}

/** What this process has in hand, over all limits. */
export interface LeasesShown {
  readonly accounts: number
  readonly permits: number
  readonly slots: number
  readonly owed: { readonly requests: number; readonly tokens: number }
}

export function leasesShown({ store }: Backing): LeasesShown {
  const { purses, leased, slots, owed } = store.totals()
  return { accounts: purses, permits: leased, slots, owed: { requests: owed.requests, tokens: owed.tokens } }
}

/** What several processes have in hand together. */
export function leasesAdded(list: readonly LeasesShown[]): LeasesShown {
  const add = (pick: (one: LeasesShown) => number): number => list.reduce((sum, one) => sum + pick(one), 0)
  return {
    accounts: Math.max(...list.map(({ accounts }) => accounts)),
    permits: add(({ permits }) => permits),
    slots: add(({ slots }) => slots),
    owed: { requests: add(({ owed }) => owed.requests), tokens: add(({ owed }) => owed.tokens) },
  }
}

/** What agents have used of their budgets, 0..1 and more with debt. Of another period nothing is known any more. */
export function budgetsShown(
  spent: readonly Spent[],
  agents: ReadonlyMap<string, Pick<Agent, 'limits'>>,
): { readonly agent: string; readonly used: number }[] {
  return spent.flatMap(({ agent, micros, toldUs, nowUs }) => {
    const budget = agents.get(agent)?.limits.budget
    if (budget === undefined || budget.micros === 0 || toldUs < periodOf(budget.period, nowUs).startUs)
      return []
    return [{ agent, used: micros / budget.micros }]
  })
}
