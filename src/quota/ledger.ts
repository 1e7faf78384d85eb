// The ledger of an account: its buckets, its money, and what each replica has of it. This is the specification of
// ledger.lua, operation by operation; one test runs both on the same histories. No clock, no I/O.
//
// A replica visits the ledgers of one tag with everything it has to say: what moved since its last visit, the slots
// it holds, the claims that wait, and how much it would like ahead of need. Units given ahead are a lease: charged at
// once, and booked against the burst as long as they may still be spent. While `live` units are out on lease the
// bucket refills no further than `capacity − live`, so at any time
//
//     what the bucket holds + what is out on lease ≤ capacity
//
// and in every window of length T no more than `capacity + rate · T` can be admitted, whenever the leased units are
// spent (docs: deploy/limits.md). A lease that expires was charged and stays so; units that come back are a refund.

import type { Budget, Rate } from '../types.ts'
import { remaining, rescaled, type Tat, toTat, untilFullUs, waitForUs } from './bucket.ts'
import { periodOf } from './period.ts'
import { type Account, CONCURRENCY_WAIT_US, type Kind } from './store.ts'

export interface Ledger {
  requests: Level | undefined
  tokens: Level | undefined
  /** Micros of a USD spent or out on lease since the period began, by the kind of period. */
  money: Partial<Record<Budget['period'], { startUs: number; endUs: number; spent: number }>>
  readonly leases: Map<string, Lease>
}

/** When a bucket is full, and the interval by which that was reckoned; undefined for that of whoever comes next. */
export interface Level extends Tat {
  readonly intervalUs: number | undefined
}

/** What one replica has of an account. */
export interface Lease {
  /** Of the visit that wrote it: an older visit that comes late changes nothing. */
  generation: number
  /** Its units are spendable until then, by the clock of the ledger. */
  untilUs: number
  requests: number
  tokens: number
  micros: number
  /** Requests under way, and slots kept ready for the next ones. */
  slots: number
  slotsUntilUs: number
  /** Until then the replica is known to have been refused: others leave it its share beyond their first claim. */
  wantsUntilUs: number
  /** What it was refused is more than half of a bucket: nobody gets a lease meanwhile. */
  wantsMuch: boolean
  /** Money that its visits booked since the first of which it knows no answer, or the last one alone; micros. */
  booked: number
  /** Until then it is kept for that, by the clock of the ledger; 0 where there is nothing to ask. */
  heardUntilUs: number
}

export interface Units {
  readonly requests: number
  readonly tokens: number
  readonly micros: number
}

/** What a replica says of one account. */
export interface Report {
  readonly account: Account
  /** Charged (positive) or given back (negative) since the last visit. */
  readonly moved: Units
  /** What is left of its lease. It counts only as far as the ledger still has it on lease. */
  readonly returned: Units
  /** The period to which moved money belongs, by its start in µs; a refund into another one is void. */
  readonly movedStartUs: number
  /** Charged elsewhere while the ledger could not be reached; outage.ts says what. */
  readonly owed: Units
  /** All slots it holds now. */
  readonly slots: number
  /** Units it would like ahead of need. */
  readonly ahead: Units
  /** The first visit about money of which it has no answer; 0 where it has them all. */
  readonly doubtSince: number
}

/** One claim's part of a visit: `at` is a place in `reports`. */
export interface Part extends Units {
  readonly at: number
}

/** Everything a replica says to the ledgers of one tag at one time. */
export interface Visit {
  /** Orders the visits of a replica. */
  readonly generation: number
  readonly reports: readonly Report[]
  /** Decided in this order, each all or nothing. */
  readonly claims: readonly (readonly Part[])[]
}

/** Who visits. */
export interface Visitor {
  /** Unique over the fleet and over restarts; letters, digits, `-`. */
  readonly replica: string
  /** Replicas known to share the limits, itself included. */
  readonly fleet: number
}

/** What became of one account. */
export interface Standing {
  /** µs until the bucket is full, after everything; undefined where unlimited. */
  readonly requests: number | undefined
  readonly tokens: number | undefined
  readonly spentMicros: number
  /** Units the replica has now; nothing of an earlier lease is left. */
  readonly lease: Units
  /** Slots held by all replicas. */
  readonly slots: number
  /** The visit of the replica that came before this one, and the money that was booked up to it. */
  readonly heard: Heard
}

/** What became of visits that were never answered. */
export interface Heard {
  /** The last visit that was done; 0 where none is known. */
  readonly generation: number
  /** Micros booked by it, and by those before it as far as they were in doubt too. */
  readonly micros: number
}

/** Why a claim was refused: the account by its place, and the wait in µs. */
export interface No {
  readonly at: number
  readonly kind: Kind | 'unavailable'
  readonly waitUs: number
}

export const NO_UNITS: Units = Object.freeze({ requests: 0, tokens: 0, micros: 0 })

export function sum(a: Units, b: Units): Units {
  if (isNothing(a)) return b
  if (isNothing(b)) return a
  return { requests: a.requests + b.requests, tokens: a.tokens + b.tokens, micros: a.micros + b.micros }
}

export function isNothing({ requests, tokens, micros }: Units): boolean {
  return requests === 0 && tokens === 0 && micros === 0
}

export interface Answer {
  /** The clock of the ledgers, µs. */
  readonly nowUs: number
  /** A later visit was there before: nothing was done. */
  readonly stale: boolean
  readonly standings: readonly Standing[]
  /** In the order of the claims; undefined is granted. */
  readonly refusals: readonly (No | undefined)[]
}

/** How long a lease of units lives. */
export const LEASE_US = 1_000_000
/** How long slots live without a word of the replica that holds them. */
export const SLOTS_US = 6_000_000
/** How long it is known what a visit booked. */
export const HEARD_US = 60_000_000
/** How long a refused replica counts as interested. */
const WANTS_US = 1_000_000

export function emptyLedger(): Ledger {
  return { requests: undefined, tokens: undefined, money: {}, leases: new Map() }
}

/** Where the ledger of an account stands while a visit goes on. */
interface Page {
  readonly ledger: Ledger
  readonly report: Report
  readonly mine: Lease
  /** Levels in µs; 0 where unlimited. */
  requests: number
  tokens: number
  spent: number
  readonly startUs: number
  readonly endUs: number
  slots: number
  /** Other replicas that were refused a moment ago. */
  readonly others: number
  readonly mustWait: boolean
  readonly heard: Heard
  /** Money booked by what came before and is in doubt, less what was spent before this visit. */
  readonly bookedBefore: number
  /** What this visit may take at most when others were refused, and what it took; in units. */
  readonly share: { readonly requests: number; readonly tokens: number }
  took: { requests: number; tokens: number }
}

/** Does one visit. `ledgers` belong to the accounts of the reports, in their order, and are changed. */
export function visit(
  ledgers: readonly Ledger[],
  { generation, reports, claims }: Visit,
  { replica, fleet }: Visitor,
  nowUs: number,
): Answer {
  for (const { leases } of ledgers) {
    const lease = leases.get(replica)
    if (lease !== undefined && lease.generation >= generation)
      return { nowUs, stale: true, standings: [], refusals: [] }
  }
  const pages = reports.map((report, i) => open(ledgers[i] as Ledger, { report, replica, generation, nowUs }))
  const refusals: (No | undefined)[] = []
  let granted = 0
  for (const claim of claims) {
    const no = judge(pages, claim, granted > 0, nowUs)
    refusals.push(no)
    if (no === undefined) {
      granted += 1
      for (const part of claim) charge(pages[part.at] as Page, part)
    } else if (fleet > 1 && (no.kind === 'requests' || no.kind === 'tokens')) {
      noteWish(pages[no.at] as Page, claim, no, nowUs)
    }
  }
  return { nowUs, stale: false, standings: pages.map((page) => close(page, replica, nowUs)), refusals }
}

/** Brings a ledger to now and takes in what the replica reports. */
function open(
  ledger: Ledger,
  visited: {
    readonly report: Report
    readonly replica: string
    readonly generation: number
    readonly nowUs: number
  },
): Page {
  const { report, replica, generation, nowUs } = visited
  const { account, returned, doubtSince } = report
  const moved = sum(report.moved, report.owed)
  const period = account.budget === undefined ? NO_PERIOD : periodOf(account.budget.period, nowUs)
  const money = account.budget && ledger.money[account.budget.period]
  if (account.budget !== undefined && money !== undefined && money.startUs !== period.startUs) {
    delete ledger.money[account.budget.period]
    for (const lease of ledger.leases.values()) {
      lease.micros = 0
      lease.booked = 0
    }
  }
  // Before it is forgotten: what it says of the last visit holds as long as it is there.
  const before = ledger.leases.get(replica)
  rescale(ledger, account, nowUs)
  expire(ledger, account, nowUs)

  let others = 0
  let mustWait = false
  let slots = report.slots
  for (const [name, lease] of ledger.leases) {
    if (name === replica) continue
    slots += lease.slots
    if (lease.wantsUntilUs <= nowUs) continue
    others += 1
    mustWait ||= lease.wantsMuch
  }
  // A lease that is over was charged and stays so, whatever its replica thinks is left of it.
  const lives = before !== undefined && before.untilUs > nowUs
  const back = (kind: keyof Units): number => (lives ? Math.min(returned[kind], before[kind]) : 0)
  const mine: Lease = {
    generation,
    untilUs: nowUs + LEASE_US,
    requests: 0,
    tokens: 0,
    micros: 0,
    slots: report.slots,
    slotsUntilUs: nowUs + SLOTS_US,
    wantsUntilUs: before?.wantsUntilUs ?? 0,
    wantsMuch: before?.wantsMuch ?? false,
    booked: 0,
    heardUntilUs: 0,
  }
  ledger.leases.set(replica, mine)

  const requests = settled(
    ledger,
    account,
    { kind: 'requests', moved: moved.requests - back('requests') },
    nowUs,
  )
  const tokens = settled(ledger, account, { kind: 'tokens', moved: moved.tokens - back('tokens') }, nowUs)
  // Money of another period is charged to this one and not refunded from it.
  const micros = report.movedStartUs === period.startUs ? moved.micros : Math.max(moved.micros, 0)
  const spent = account.budget && (ledger.money[account.budget.period]?.spent ?? 0)
  const isInDoubt = before !== undefined && doubtSince > 0 && before.generation >= doubtSince
  const share = (rate: Rate | undefined, level: number): number =>
    rate === undefined ? 0 : Math.floor(remaining(level, rate) / (1 + others))
  return {
    ledger,
    report,
    mine,
    requests,
    tokens,
    spent: spent === undefined ? 0 : Math.max(spent + micros - back('micros'), 0),
    startUs: period.startUs,
    endUs: period.endUs,
    slots,
    others,
    mustWait,
    heard: { generation: before?.generation ?? 0, micros: before?.booked ?? 0 },
    bookedBefore: (isInDoubt ? before.booked : 0) - (spent ?? 0),
    share: { requests: share(account.requests, requests), tokens: share(account.tokens, tokens) },
    took: { requests: 0, tokens: 0 },
  }
}

const NO_PERIOD = { startUs: 0, endUs: 0 } as const

/** The level of a bucket after what moved; no lower than what is out on lease. 0 where nothing is limited. */
function settled(
  ledger: Ledger,
  account: Account,
  { kind, moved }: { readonly kind: 'requests' | 'tokens'; readonly moved: number },
  nowUs: number,
): number {
  const rate = account[kind]
  if (rate === undefined) return 0
  const level = untilFullUs(ledger[kind], nowUs) + moved * rate.intervalUs
  return Math.max(level, live(ledger, kind) * rate.intervalUs)
}

/** Where the interval is another than that of the last visit, what was taken is what it was, in units. */
function rescale(ledger: Ledger, account: Account, nowUs: number): void {
  for (const kind of KINDS) {
    const level = ledger[kind]
    const rate = account[kind]
    if (level?.intervalUs === undefined || rate === undefined || level.intervalUs === rate.intervalUs)
      continue
    const leftUs = rescaled(untilFullUs(level, nowUs), level.intervalUs, rate.intervalUs)
    ledger[kind] = toLevel(leftUs, rate, nowUs)
  }
}

function toLevel(levelUs: number, { intervalUs }: Rate, nowUs: number): Level {
  return { ...toTat(levelUs, nowUs), intervalUs }
}

function live(ledger: Ledger, kind: 'requests' | 'tokens'): number {
  let units = 0
  for (const lease of ledger.leases.values()) units += lease[kind]
  return units
}

/**
 * Ends leases in the order of their times. Up to each of these the bucket refilled no further than was free. What the
 * account does not limit is not known here, and left to those who do.
 */
function expire(ledger: Ledger, account: Account, nowUs: number): void {
  const kinds = KINDS.filter((kind) => account[kind] !== undefined)
  const ended = [...ledger.leases.values()]
    .filter((lease) => lease.untilUs <= nowUs)
    .sort((a, b) => a.untilUs - b.untilUs)
  for (const lease of ended) {
    hold(ledger, account, lease.untilUs)
    for (const kind of kinds) lease[kind] = 0
    lease.micros = 0
  }
  hold(ledger, account, nowUs)
  for (const [name, lease] of ledger.leases) {
    if (lease.slotsUntilUs <= nowUs) lease.slots = 0
    if (isOver(lease, nowUs)) ledger.leases.delete(name)
  }
}

const KINDS = ['requests', 'tokens'] as const

/** Up to `atUs` the buckets were at least as low as what was out on lease. */
function hold(ledger: Ledger, account: Account, atUs: number): void {
  for (const kind of KINDS) {
    const rate = account[kind]
    if (rate === undefined) continue
    const floor = live(ledger, kind) * rate.intervalUs
    if (floor > untilFullUs(ledger[kind], atUs)) ledger[kind] = toLevel(floor, rate, atUs)
  }
}

function isOver(lease: Lease, nowUs: number): boolean {
  const { requests, tokens, micros, slots, wantsUntilUs, heardUntilUs } = lease
  if (requests > 0 || tokens > 0 || micros > 0 || slots > 0) return false
  return wantsUntilUs <= nowUs && heardUntilUs <= nowUs
}

/** Why a claim cannot be granted: money before all else, then the longest wait; of equal ones the first. */
function judge(
  pages: readonly Page[],
  claim: readonly Part[],
  isLater: boolean,
  nowUs: number,
): No | undefined {
  let no: No | undefined
  const refuse = (at: number, kind: Kind, waitUs: number): void => {
    if (waitUs > (no?.waitUs ?? 0)) no = { at, kind, waitUs }
  }
  for (const { at, micros } of claim) {
    const { report, spent, endUs } = pages[at] as Page
    const { budget } = report.account
    if (budget !== undefined && spent + Math.min(micros, budget.micros) > budget.micros)
      refuse(at, 'budget', endUs - nowUs)
  }
  if (no !== undefined) return no
  for (const { at, requests, tokens } of claim) {
    const page = pages[at] as Page
    const { account } = page.report
    const shared = isLater && page.others > 0
    refuse(at, 'requests', waitOf(account.requests, page.requests, requests))
    if (shared && account.requests !== undefined && page.took.requests + requests > page.share.requests)
      refuse(at, 'requests', Math.ceil(account.requests.intervalUs))
    refuse(at, 'tokens', waitOf(account.tokens, page.tokens, tokens))
    if (shared && account.tokens !== undefined && page.took.tokens + tokens > page.share.tokens)
      refuse(at, 'tokens', Math.ceil(account.tokens.intervalUs))
  }
  for (const { at } of claim) {
    const { report, slots } = pages[at] as Page
    const { concurrency } = report.account
    if (concurrency !== undefined && slots >= concurrency) refuse(at, 'concurrency', CONCURRENCY_WAIT_US)
  }
  return no
}

function waitOf(rate: Rate | undefined, levelUs: number, cost: number): number {
  return rate === undefined ? 0 : waitForUs(levelUs, rate, cost)
}

function charge(page: Page, { requests, tokens, micros }: Part): void {
  const { account } = page.report
  if (account.requests !== undefined) page.requests += requests * account.requests.intervalUs
  if (account.tokens !== undefined) page.tokens += tokens * account.tokens.intervalUs
  if (account.budget !== undefined) page.spent += micros
  page.took.requests += requests
  page.took.tokens += tokens
  if (account.concurrency === undefined) return
  page.slots += 1
  page.mine.slots += 1
}

/** Others leave a replica its share for a while after it was refused. */
function noteWish(page: Page, claim: readonly Part[], { at, kind }: No, nowUs: number): void {
  if (kind !== 'requests' && kind !== 'tokens') return
  const rate = page.report.account[kind]
  const cost = claim.find((part) => part.at === at)?.[kind] ?? 0
  const isMuch = rate !== undefined && Math.min(cost, rate.capacity) * 2 > rate.capacity
  // While the mark lasts it is only made stronger, not longer: a replica that is refused all the time writes once.
  if (page.mine.wantsUntilUs <= nowUs || (isMuch && !page.mine.wantsMuch)) {
    page.mine.wantsUntilUs = nowUs + WANTS_US
    page.mine.wantsMuch = isMuch
  }
}

/** Gives the lease, and writes everything down. */
function close(page: Page, replica: string, nowUs: number): Standing {
  const { ledger, report, mine } = page
  const { account, ahead } = report
  mine.requests = lend(page, account.requests, 'requests', ahead.requests)
  mine.tokens = lend(page, account.tokens, 'tokens', ahead.tokens)
  if (account.requests !== undefined) page.requests += mine.requests * account.requests.intervalUs
  if (account.tokens !== undefined) page.tokens += mine.tokens * account.tokens.intervalUs
  if (account.budget !== undefined && !page.mustWait) {
    const free = Math.max(account.budget.micros - page.spent, 0)
    mine.micros = Math.min(ahead.micros, Math.floor(free / (2 + page.others)))
    page.spent += mine.micros
  }
  if (account.budget !== undefined) {
    mine.booked = page.spent + page.bookedBefore
    // What settles a doubt is remembered too: the visit in doubt may come after it, and is stale then.
    if (mine.booked !== 0 || report.doubtSince > 0) mine.heardUntilUs = nowUs + HEARD_US
  }
  if (isOver(mine, nowUs)) ledger.leases.delete(replica)
  // What this account does not limit stays as it is: others may limit it still, before a reload or after one.
  for (const kind of KINDS) {
    const rate = account[kind]
    if (rate !== undefined) ledger[kind] = page[kind] > 0 ? toLevel(page[kind], rate, nowUs) : undefined
  }
  if (account.budget !== undefined) {
    const { startUs, endUs, spent } = page
    if (spent > 0) ledger.money[account.budget.period] = { startUs, endUs, spent }
    else delete ledger.money[account.budget.period]
  }
  return {
    requests: account.requests && page.requests,
    tokens: account.tokens && page.tokens,
    spentMicros: page.spent,
    lease: { requests: mine.requests, tokens: mine.tokens, micros: mine.micros },
    slots: page.slots,
    heard: page.heard,
  }
}

/** Never more than half of what is there, nor than makes half of a bucket in all leases together. */
function lend(page: Page, rate: Rate | undefined, kind: 'requests' | 'tokens', wanted: number): number {
  if (rate === undefined || wanted <= 0 || page.mustWait) return 0
  const free = Math.floor(remaining(page[kind], rate) / (2 + page.others))
  const room = Math.floor(rate.capacity / 2) - live(page.ledger, kind)
  return Math.max(Math.min(wanted, free, room), 0)
}

/** Whether a ledger says nothing that its absence would not. */
export function isBlank(ledger: Ledger, nowUs: number): boolean {
  if (untilFullUs(ledger.requests, nowUs) > 0 || untilFullUs(ledger.tokens, nowUs) > 0) return false
  for (const money of Object.values(ledger.money)) if (money.endUs > nowUs) return false
  for (const lease of ledger.leases.values())
    if (lease.untilUs > nowUs || lease.slotsUntilUs > nowUs || lease.heardUntilUs > nowUs) return false
  return true
}
