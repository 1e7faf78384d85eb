// What this replica knows of one account, and what can be done with that without asking anybody: grant from the lease,
// note what moved, remember a refusal, say what the ledgers are told. Functions over plain state; knows no other
// account, no timers and no visits. What they need of the store (leases.ts) is handed in.

import type { Rate } from '../types.ts'
import { isOwn } from './account.ts'
import { remaining, rescaled } from './bucket.ts'
import type { Group } from './leases.ts'
import {
  HEARD_US,
  type Heard,
  isNothing,
  NO_UNITS,
  type Report,
  SLOTS_US,
  type Standing,
  sum,
  type Units,
} from './ledger.ts'
import { periodOf } from './period.ts'
import {
  type Account,
  type Ask,
  type Authority,
  CONCURRENCY_WAIT_US,
  type InHand,
  type Kind,
  type Levels,
  type Settlement,
} from './store.ts'

/** One account as this replica knows it. */
export interface Purse {
  account: Account
  readonly group: Group
  lease: Units
  leaseEndsMs: number
  used: number
  ready: number
  readySinceMs: number
  moved: Units
  movedStartUs: number
  /** Charged here while the ledgers could not be reached. It leaks as the bucket would: not always whole. */
  owed: Units
  owedMs: number
  /** All that ever leaked of it. */
  leaked: Pick<Units, 'requests' | 'tokens'>
  /** When the ledgers' own bucket is full, as last told by them: only then what is owed begins to leak. */
  fullMs: { requests: number; tokens: number }
  /** Slots of this replica as the ledgers know them; NaN where that is not known. */
  slotsTold: number
  /** Money of visits that were never answered. */
  doubt: Doubt | undefined
  /** What claims of the answer in hand took that are told after the present one. */
  later: { requests: number; tokens: number }
  /** A word to the ledgers is due. */
  dirty: boolean
  standing: Standing | undefined
  /** When a visit was last begun, and when one was last answered. */
  visitedMs: number
  toldMs: number
  toldUs: number
  toldBy: InHand['toldBy']
  sharedBy: number
  denied: Partial<Record<Kind, Denial>>
  /** Units asked for since `countedMs`, and how many that is per second. */
  asked: { claims: number; requests: number; tokens: number; micros: number }
  countedMs: number
  pace: { claims: number; requests: number; tokens: number; micros: number }
  lastMs: number
}

/** Visits of which nobody knows whether they were done; the ledger tells, as soon as it can be asked. Micros. */
interface Doubt {
  /** The first of them, and when it was sent. */
  readonly generation: number
  readonly sentMs: number
  /** The period to which the money that they told belongs, by its start in µs. */
  readonly startUs: number
  /** Moved by what they told, if they were done in that period, without what is told once more all the same. */
  readonly told: number
  /** The same in any other period: only charges count there. */
  readonly charged: number
}

interface Denial {
  /** Refused without a question until then. */
  readonly untilMs: number
  /** When it would be admitted, as told. */
  readonly admitMs: number
  /** This cost and larger ones; 0 for a pause, which says nothing of what is there. */
  readonly cost: number
}

/** Why a claim is refused, and for how long, µs. */
export interface Refusal {
  readonly ask: Ask
  readonly kind: Kind | 'unavailable'
  readonly waitUs: number
}

/** A refusal by a limit, not for want of somebody to count. */
export type Denied = Refusal & { readonly kind: Kind }

const NOBODY: Account = {
  subject: { kind: 'gateway', id: '', tag: '', limits: { strict: false } },
  key: '',
  requests: undefined,
  tokens: undefined,
  concurrency: undefined,
  budget: undefined,
  strict: false,
}

/** Nobody decided. */
export const UNAVAILABLE: Refusal = {
  ask: { account: NOBODY, requests: 0, tokens: 0, micros: 0 },
  kind: 'unavailable',
  waitUs: 0,
}

/** What one purse has to know of the store that it lies in. */
export interface Terms {
  /** False: every claim is decided at the ledgers. */
  readonly leases: boolean
  /** True once the store lets go: nothing is taken ahead any more. */
  readonly closing: boolean
  /** Asked each time, as replicas come and go. */
  readonly authority: Pick<Authority, 'fleet' | 'divisor'>
}

/** A lease ends here before it ends there, counted from before it was asked for: a frozen process spends no dead one. */
const LEASE_MS = 900
/** Leases are returned or renewed when this much of their life is left. */
const RENEW_MS = 350
/** For how long ahead a busy replica takes permits. */
const AHEAD_S = 0.5
/** All replicas together have at most this part of a limit ahead of need: of an agent's or a bearer's own, of a shared one. */
const OWN_PARTS = 50
const SHARED_PARTS = 2
/** Of a small limit of its own an agent is owed the last unit wherever it asks: nothing is taken ahead for so little. */
const LEAST_OWN = 5
/** Claims per second from which on an account is busy here. */
const BUSY = 10
/** What moved of a busy account waits so long for company. */
const FLUSH_MS = 100
/** Slots are confirmed three times in their life. */
const CONFIRM_MS = SLOTS_US / 3000
/** So long without a word from the ledgers, as after a freeze, a slot that was kept ready may be somebody else's. */
const KNOWN_MS = SLOTS_US / 2000
/** A slot is kept ready at most this long. */
const READY_MS = 1_000
/** A refusal is remembered at most this long, one for slots shorter: nobody knows when they come back. */
const DENIED_MS = 1_000
const DENIED_SLOTS_MS = 100
/** Visits that were never answered are one question to the ledgers for so long, well within what those remember. */
const DOUBT_MS = HEARD_US / 2000
/** How long an account that does nothing stays known. */
const IDLE_MS = 2_000
/** What the ledgers said so lately is good enough for somebody who only looks. */
const FRESH_MS = 1_000
/** Renewals of one account are at least this far apart. */
const LEAST_RENEWAL_MS = 20
/** A scarce account is asked for this many units at a time, not for each one as it comes. */
const UNITS_PER_ASK = 128
const LONGEST_PAUSE_MS = 150
const KINDS: readonly Kind[] = ['requests', 'tokens', 'concurrency', 'budget']

/** The purse of an account of which nothing is known yet. */
export function emptyPurse(account: Account, group: Group, nowMs: number): Purse {
  return {
    account,
    group,
    lease: NO_UNITS,
    leaseEndsMs: 0,
    used: 0,
    ready: 0,
    readySinceMs: 0,
    moved: NO_UNITS,
    movedStartUs: 0,
    owed: NO_UNITS,
    owedMs: 0,
    leaked: NO_UNITS,
    fullMs: { requests: 0, tokens: 0 },
    slotsTold: 0,
    doubt: undefined,
    later: { requests: 0, tokens: 0 },
    dirty: false,
    standing: undefined,
    visitedMs: nowMs,
    toldMs: nowMs,
    toldUs: 0,
    toldBy: 'nobody',
    sharedBy: 1,
    denied: {},
    asked: { claims: 0, requests: 0, tokens: 0, micros: 0 },
    countedMs: nowMs,
    pace: { claims: 0, requests: 0, tokens: 0, micros: 0 },
    lastMs: nowMs,
  }
}

/** Whether the ledgers do not know how things stand here, or we do not know what they know. */
export function isUntold({ account, moved, owed, used, ready, slotsTold, doubt }: Purse): boolean {
  if (!isNothing(moved) || !isNothing(owed) || doubt !== undefined) return true
  return account.concurrency !== undefined && slotsTold !== used + ready
}

/**
 * Ends a lease that is over. Whether a visit is due: something is to be told, renewed, given back or confirmed, and
 * has waited long enough.
 */
export function tend(purse: Purse, nowMs: number): boolean {
  count(purse, nowMs)
  const sinceMs = nowMs - purse.visitedMs
  if (purse.dirty) return sinceMs >= FLUSH_MS
  const holds = !isNothing(purse.lease)
  if (holds && nowMs >= purse.leaseEndsMs) dropLease(purse)
  else if (holds && nowMs >= purse.leaseEndsMs - RENEW_MS) return true
  if (isReadyInVain(purse, nowMs)) return true
  return (purse.used + purse.ready > 0 || isUntold(purse)) && sinceMs >= CONFIRM_MS
}

/** Whether it says nothing any more, and nobody has asked for a while: it can be forgotten. */
export function isIdle(purse: Purse, nowMs: number): boolean {
  if (purse.dirty || isUntold(purse)) return false
  if (purse.used + purse.ready > 0 || !isNothing(purse.lease)) return false
  if (nowMs - purse.lastMs < IDLE_MS) return false
  return KINDS.every((kind) => (purse.denied[kind]?.untilMs ?? 0) <= nowMs)
}

// --- how much is asked for -----------------------------------------------------------------------------------------

/** What is asked for counts, granted or not: who gets little must not therefore want less. */
export function noteAsked(purse: Purse, { requests, tokens, micros }: Units, nowMs: number): void {
  const { asked } = purse
  asked.claims += 1
  asked.requests += requests
  asked.tokens += tokens
  asked.micros += micros
  purse.lastMs = nowMs
  count(purse, nowMs)
}

/** Brings the pace of an account to now. */
function count(purse: Purse, nowMs: number): void {
  const seconds = (nowMs - purse.countedMs) / 1000
  if (seconds < 0.05) return
  const weight = Math.min(1, seconds / 0.5)
  for (const kind of ['claims', 'requests', 'tokens', 'micros'] as const) {
    purse.pace[kind] += weight * (purse.asked[kind] / seconds - purse.pace[kind])
    purse.asked[kind] = 0
  }
  purse.countedMs = nowMs
}

/** Whether so much is asked for that it is worth taking ahead of need. */
export function isBusy({ account, pace }: Purse, { leases }: Terms): boolean {
  return leases && !account.strict && pace.claims >= BUSY
}

// --- granting from what is in hand -----------------------------------------------------------------------------------

/** Whether a claim can be granted from what is in hand. */
export function covers(purse: Purse, { requests, tokens, micros }: Ask, nowMs: number): boolean {
  const { account, lease } = purse
  if (account.concurrency !== undefined && (purse.ready === 0 || nowMs - purse.toldMs > KNOWN_MS))
    return false
  const limited =
    account.requests !== undefined || account.tokens !== undefined || account.budget !== undefined
  if (limited && nowMs >= purse.leaseEndsMs) return false
  if (account.requests !== undefined && lease.requests < requests) return false
  if (account.tokens !== undefined && lease.tokens < tokens) return false
  if (account.budget === undefined) return true
  // Money on lease is of the period in which it was lent.
  return (
    lease.micros >= micros && toLedgerUs(purse, nowMs) < periodOf(account.budget.period, purse.toldUs).endUs
  )
}

/** Takes a claim, which is covered, from what is in hand. */
export function spend(purse: Purse, { requests, tokens, micros }: Ask): void {
  const { account, lease } = purse
  purse.lease = {
    requests: account.requests === undefined ? lease.requests : lease.requests - requests,
    tokens: account.tokens === undefined ? lease.tokens : lease.tokens - tokens,
    micros: account.budget === undefined ? lease.micros : lease.micros - micros,
  }
  if (account.concurrency !== undefined) {
    purse.ready -= 1
    purse.used += 1
  }
}

/** Whether so little is left of a lease that it should be renewed before anybody has to wait for it. */
export function runsLow(purse: Purse, nowMs: number, terms: Terms): boolean {
  const { account, lease } = purse
  const low =
    (account.requests !== undefined && lease.requests * 4 < purse.pace.requests * AHEAD_S) ||
    (account.tokens !== undefined && lease.tokens * 4 < purse.pace.tokens * AHEAD_S) ||
    (account.budget !== undefined && lease.micros * 4 < purse.pace.micros * AHEAD_S)
  return low && nowMs - purse.visitedMs > Math.max(LEAST_RENEWAL_MS, pauseOf(purse, terms))
}

// --- what moved ------------------------------------------------------------------------------------------------------

/** Adds to what the ledgers must be told; money of an earlier period is charged to this one and not refunded. */
export function move(purse: Purse, { requests, tokens, micros }: Units, grantedUs: number): void {
  const { account } = purse
  let money = account.budget === undefined ? 0 : micros
  let before = purse.moved.micros
  if (account.budget !== undefined && money !== 0) {
    const { startUs } = periodOf(account.budget.period, grantedUs)
    if (startUs > purse.movedStartUs) {
      before = Math.max(before, 0)
      purse.movedStartUs = startUs
    } else if (startUs < purse.movedStartUs) money = Math.max(money, 0)
  }
  purse.moved = {
    requests: purse.moved.requests + (account.requests === undefined ? 0 : requests),
    tokens: purse.moved.tokens + (account.tokens === undefined ? 0 : tokens),
    micros: before + money,
  }
  // What comes back may be just what was missing.
  if (requests < 0) delete purse.denied.requests
  if (tokens < 0) delete purse.denied.tokens
  if (micros < 0) delete purse.denied.budget
}

/**
 * What the end of a claim moves in one account. Tokens come back at most as far as the bucket has not refilled since:
 * who gets them back could otherwise spend what others were given meanwhile. As little as the bucket can have held of
 * the reservation at any time since is its level then, less the time that passed. And what the ledgers may not have
 * charged, because they did not answer, does not come back at all.
 */
export function toMoved(
  { grant, usedTokens, usedMicros }: Settlement,
  {
    ask,
    rate,
    levels,
    sharedBy,
  }: {
    readonly ask: Ask
    readonly rate: Rate | undefined
    readonly levels: Levels | undefined
    /** Among how many replicas the limit is shared now. */
    readonly sharedBy: number
  },
  nowMs: number,
): Units {
  const { budget } = ask.account
  const isSure = !grant.unsure.includes(ask)
  let tokens = rate === undefined || usedTokens === undefined ? 0 : usedTokens - ask.tokens
  if (rate !== undefined && tokens < 0) {
    // By the interval of its time; since then it may have refilled by that or by a new one, whichever is quicker.
    const { intervalUs } = ask.account.tokens ?? rate
    const { tokens: levelUs = 0, sharedBy: sharedThen = 1 } = levels ?? {}
    const elapsedUs = Math.max(nowMs - grant.atMs, 0) * 1000
    // A share is so much slower; the whole is what refilled as soon as it is not shared any more.
    const refilled = elapsedUs / (Math.min(intervalUs, rate.intervalUs) * Math.min(sharedThen, sharedBy))
    const least = Math.max(Math.floor(levelUs / (intervalUs * sharedThen) - refilled), 0)
    tokens = isSure ? -Math.min(-tokens, least) : 0
  }
  let micros = budget === undefined || usedMicros === undefined ? 0 : usedMicros - ask.micros
  if (micros < 0 && !isSure) micros = 0
  return tokens === 0 && micros === 0 ? NO_UNITS : { requests: 0, tokens, micros }
}

/** A request ended. Whether its slot is kept ready for the next one; else it is to be given back. */
export function release(purse: Purse, nowMs: number, terms: Terms): boolean {
  const { concurrency } = purse.account
  if (purse.used === 0) return false
  purse.used -= 1
  delete purse.denied.concurrency
  const all = purse.standing?.slots ?? 0
  const mayKeep = (concurrency ?? 0) - all
  // Kept for the next one only where there are plenty for the others.
  const kept =
    isBusy(purse, terms) &&
    concurrency !== undefined &&
    mayKeep * 2 >= concurrency &&
    purse.ready < Math.floor(mayKeep / (2 * terms.authority.fleet))
  if (kept) {
    purse.ready += 1
    purse.readySinceMs = nowMs
  }
  return kept
}

/** Whether slots are kept ready that nobody came for. */
function isReadyInVain({ ready, readySinceMs }: Purse, nowMs: number): boolean {
  return ready > 0 && nowMs - readySinceMs > READY_MS
}

// --- refusals --------------------------------------------------------------------------------------------------------

/** The worst refusal that is remembered and holds for this cost, if any. */
export function deniedAlready({ denied }: Purse, ask: Ask, nowMs: number): Denied | undefined {
  let worst: Denied | undefined
  for (const kind of KINDS) {
    const denial = denied[kind]
    if (denial === undefined || nowMs >= denial.untilMs || costOf(ask, kind) < denial.cost) continue
    const waitUs =
      kind === 'concurrency'
        ? CONCURRENCY_WAIT_US
        : Math.max(Math.ceil((denial.admitMs - nowMs) * 1000 + surplusUs(ask, kind, denial.cost)), 1)
    worst = worse(worst, { ask, kind, waitUs })
  }
  return worst
}

/** Remembers a refusal, so that the next ones cost no question. Gives the wait that is told, µs. */
export function deny(purse: Purse, { ask, kind, waitUs }: Denied, nowMs: number, terms: Terms): number {
  const cost = costOf(ask, kind)
  const before = purse.denied[kind]
  if (before !== undefined && before.untilMs > nowMs && before.cost <= cost) return waitUs
  if (kind === 'concurrency') {
    purse.denied[kind] = { untilMs: nowMs + DENIED_SLOTS_MS, admitMs: nowMs + waitUs / 1000, cost }
    return waitUs
  }
  const waitMs = Math.max(waitUs / 1000, kind === 'budget' ? 0 : pauseOfKind(purse, kind, terms))
  purse.denied[kind] = { untilMs: nowMs + Math.min(waitMs, DENIED_MS), admitMs: nowMs + waitMs, cost }
  return Math.ceil(waitMs * 1000)
}

/** A busy account of which little is left is not asked for unit by unit as they come back. `wanted` was asked for. */
export function noteScarcity(purse: Purse, wanted: Units, nowMs: number, terms: Terms): void {
  for (const kind of ['requests', 'tokens'] as const) {
    const rate = purse.account[kind]
    const level = purse.standing?.[kind]
    if (rate === undefined || level === undefined || wanted[kind] === 0) continue
    if (purse.lease[kind] * 4 >= wanted[kind] || remaining(level, rate) * 2 >= wanted[kind]) continue
    const untilMs = nowMs + pauseOfKind(purse, kind, terms)
    if (untilMs <= (purse.denied[kind]?.untilMs ?? nowMs)) continue
    purse.denied[kind] = { untilMs, admitMs: untilMs, cost: 0 }
  }
}

/** Nobody to count comes first, then money, then the longest wait; of equal ones the first. */
export function worse<R extends Refusal>(a: R | undefined, b: R): R {
  if (a === undefined) return b
  if (rank(a) !== rank(b)) return rank(a) > rank(b) ? a : b
  return b.waitUs > a.waitUs ? b : a
}

function rank({ kind }: Refusal): number {
  return kind === 'unavailable' ? 2 : kind === 'budget' ? 1 : 0
}

function costOf(ask: Ask, kind: Kind): number {
  if (kind === 'concurrency') return 1
  return kind === 'budget' ? ask.micros : ask[kind]
}

/** How much longer a claim has to wait than one of another cost. */
function surplusUs(ask: Ask, kind: Kind, than: number): number {
  if ((kind !== 'requests' && kind !== 'tokens') || than === 0) return 0
  const rate = ask.account[kind]
  if (rate === undefined) return 0
  return (Math.min(ask[kind], rate.capacity) - Math.min(than, rate.capacity)) * rate.intervalUs
}

function pauseOf(purse: Purse, terms: Terms): number {
  return Math.max(pauseOfKind(purse, 'requests', terms), pauseOfKind(purse, 'tokens', terms))
}

/** How long a busy replica leaves a scarce account alone, so that a question is worth several units. */
function pauseOfKind(purse: Purse, kind: 'requests' | 'tokens', terms: Terms): number {
  const rate = purse.account[kind]
  if (rate === undefined || !isBusy(purse, terms)) return 0
  const unitMs = rate.intervalUs / 1000
  const perClaim = Math.max(purse.pace[kind] / Math.max(purse.pace.claims, 1), 1)
  return Math.min(
    LONGEST_PAUSE_MS,
    UNITS_PER_ASK * perClaim * terms.authority.fleet * unitMs,
    (rate.capacity * unitMs) / 4,
  )
}

// --- what the ledgers are told, and tell -----------------------------------------------------------------------------

/** Everything that this replica has to say of an account; what is left of a lease goes back. */
export function toReport(purse: Purse, nowMs: number, terms: Terms): Report {
  const { account } = purse
  // Of a lease that is over nothing is left, whatever was not spent of it.
  const { requests, tokens } = nowMs < purse.leaseEndsMs ? purse.lease : NO_UNITS
  const returned = { requests, tokens, micros: 0 }
  dropLease(purse)
  leak(purse, nowMs, terms)
  if (purse.ready > 0 && (!isBusy(purse, terms) || isReadyInVain(purse, nowMs))) purse.ready = 0
  const report: Report = {
    account,
    moved: purse.moved,
    movedStartUs: purse.movedStartUs,
    returned,
    owed: purse.owed,
    slots: purse.used + purse.ready,
    ahead: terms.closing ? NO_UNITS : aheadOf(purse, nowMs, terms),
    doubtSince: purse.doubt?.generation ?? 0,
  }
  purse.moved = NO_UNITS
  purse.owed = NO_UNITS
  purse.dirty = false
  purse.visitedMs = nowMs
  return report
}

/** A lease is over, or given back. What is left of its money never comes back by itself, as units do: it is refunded. */
export function dropLease(purse: Purse): void {
  const { micros } = purse.lease
  purse.lease = NO_UNITS
  if (micros > 0) move(purse, { requests: 0, tokens: 0, micros: -micros }, purse.toldUs)
}

/**
 * What a busy replica would like ahead of need. Of an agent's own limit a little, and only while half of it is there:
 * the last of a burst must not lie with a replica that has no use for it. Of a shared one never so much that all
 * together could ask for more than the half.
 */
function aheadOf(purse: Purse, nowMs: number, terms: Terms): Units {
  count(purse, nowMs)
  if (!isBusy(purse, terms)) return NO_UNITS
  const { account, pace, standing } = purse
  const parts = isOwn(account.subject) ? OWN_PARTS : SHARED_PARTS
  const want = (kind: keyof Units, capacity: number | undefined, left: number): number => {
    if (capacity === undefined) return 0
    const most = Math.floor(capacity / (parts * terms.authority.fleet))
    if (isOwn(account.subject) && (most < LEAST_OWN || left * 2 < capacity)) return 0
    return Math.min(Math.ceil(pace[kind] * AHEAD_S), most)
  }
  const left = (kind: 'requests' | 'tokens'): number => {
    const rate = account[kind]
    return rate === undefined ? 0 : remaining(standing?.[kind] ?? 0, rate)
  }
  const { requests, tokens, budget } = account
  return {
    requests: want('requests', requests?.capacity, left('requests')),
    tokens: want('tokens', tokens?.capacity, left('tokens')),
    micros: want('micros', budget?.micros, (budget?.micros ?? 0) - (standing?.spentMicros ?? 0)),
  }
}

/**
 * What was admitted here leaks as this replica's share of the bucket does, from when the ledgers' own is full: they
 * refill all the while, and the same second must not be counted twice.
 */
function leak(purse: Purse, nowMs: number, { authority }: Terms): void {
  const { owed, leaked } = purse
  if (!isNothing(owed)) {
    const requests = stillOwed(purse, 'requests', nowMs, authority.divisor)
    const tokens = stillOwed(purse, 'tokens', nowMs, authority.divisor)
    purse.owed = { requests, tokens, micros: owed.micros }
    purse.leaked = {
      requests: leaked.requests + owed.requests - requests,
      tokens: leaked.tokens + owed.tokens - tokens,
    }
  }
  purse.owedMs = nowMs
}

function stillOwed(purse: Purse, kind: 'requests' | 'tokens', nowMs: number, divisor: number): number {
  const { owed, owedMs, fullMs } = purse
  const rate = purse.account[kind]
  if (owed[kind] <= 0 || rate === undefined) return owed[kind]
  const elapsedUs = Math.max(nowMs - Math.max(owedMs, fullMs[kind]), 0) * 1000
  return Math.max(owed[kind] - elapsedUs / (rate.intervalUs * divisor), 0)
}

/** Keeps what the ledgers must be told once they can be reached. */
export function keep(
  purse: Purse,
  units: Units,
  { startUs, nowMs }: { readonly startUs: number; readonly nowMs: number },
  terms: Terms,
): void {
  leak(purse, nowMs, terms)
  const { requests, tokens, micros } = units
  purse.owed = sum(purse.owed, { requests, tokens, micros: Math.max(micros, 0) })
  // Money that comes back belongs to a period, which may be over when it is told.
  if (micros < 0) move(purse, { requests: 0, tokens: 0, micros }, startUs)
  purse.owedMs = nowMs
}

/** Notes a visit that was not answered, and what of its report is told again. Only money does not mend itself. */
export function noteDoubt(
  purse: Purse,
  { moved, movedStartUs, owed }: Report,
  {
    generation,
    sentMs,
    kept,
  }: { readonly generation: number; readonly sentMs: number; readonly kept: Units },
): void {
  if (purse.account.budget === undefined) return
  // Of a visit so long ago the ledger may know nothing any more, although it knows of a later one: what may have been
  // given back by it is not given back again.
  const doubt = purse.doubt !== undefined && sentMs - purse.doubt.sentMs > DOUBT_MS ? undefined : purse.doubt
  const told = moved.micros + owed.micros
  const before = (doubt?.startUs === movedStartUs ? doubt.told : doubt?.charged) ?? 0
  purse.doubt = {
    generation: doubt?.generation ?? generation,
    sentMs: doubt?.sentMs ?? sentMs,
    startUs: movedStartUs,
    told: before + told - kept.micros,
    charged: (doubt?.charged ?? 0) + Math.max(told, 0) - Math.max(kept.micros, 0),
  }
}

/**
 * The ledger says what became of visits that were not answered: their claims were refused here, so that all that they
 * booked but what they told comes back. Where it does not know any more, what may have been charged stays so. Whether
 * there is something to be told of it.
 */
export function settleDoubt(
  purse: Purse,
  heard: Heard,
  { nowUs, nowMs }: { readonly nowUs: number; readonly nowMs: number },
): boolean {
  const { doubt, account } = purse
  if (doubt === undefined) return false
  purse.doubt = undefined
  if (account.budget === undefined) return false
  const sinceUs = (nowMs - doubt.sentMs) * 1000
  const { startUs } = periodOf(account.budget.period, nowUs)
  // The money of another period is nobody's any more.
  if (nowUs - sinceUs < startUs) return false
  if (heard.generation === 0 && sinceUs > HEARD_US - LEASE_MS * 1000) return false
  const booked = heard.generation >= doubt.generation ? heard.micros : 0
  const micros = (doubt.startUs === startUs ? doubt.told : doubt.charged) - booked
  if (micros === 0) return false
  move(purse, { requests: 0, tokens: 0, micros }, nowUs)
  return true
}

/** Takes what the ledgers lent to a visit that was begun at `sentMs`. */
export function borrow(
  purse: Purse,
  { lease, requests, tokens }: Standing,
  sentMs: number,
  nowMs: number,
): void {
  purse.lease = lease
  purse.leaseEndsMs = isNothing(lease) ? 0 : sentMs + LEASE_MS
  purse.fullMs = { requests: nowMs + (requests ?? 0) / 1000, tokens: nowMs + (tokens ?? 0) / 1000 }
}

/** The clock of the ledgers, as last told and brought to now. */
export function toLedgerUs({ toldUs, toldMs }: Purse, nowMs: number): number {
  return toldUs + (nowMs - toldMs) * 1000
}

// --- how an account stands -------------------------------------------------------------------------------------------

/** As last told, brought to now; what is in hand counts as there. */
export function levelsNow(purse: Purse | undefined, account: Account, nowMs: number): Levels {
  const elapsedUs = purse === undefined ? 0 : Math.max(nowMs - purse.toldMs, 0) * 1000
  const sharedBy = purse?.sharedBy ?? 1
  const level = (kind: 'requests' | 'tokens'): number | undefined => {
    const rate = account[kind]
    if (rate === undefined) return undefined
    const told = purse?.standing?.[kind] ?? 0
    const inHand = purse !== undefined && nowMs < purse.leaseEndsMs ? purse.lease[kind] : 0
    const free = inHand + (purse?.later[kind] ?? 0)
    return Math.max(told - elapsedUs - free * rate.intervalUs * sharedBy, 0)
  }
  return { requests: level('requests'), tokens: level('tokens'), sharedBy }
}

/** Counts a claim among those that are told later than the present one (`sign` 1), or no longer (-1). */
export function chargeLater({ later }: Purse, { requests, tokens }: Units, sign: 1 | -1): void {
  later.requests += sign * requests
  later.tokens += sign * tokens
}

/** Whether the ledgers told lately enough for those who only look. */
export function isFresh(purse: Purse | undefined, nowMs: number): boolean {
  return purse !== undefined && purse.toldBy === 'ledgers' && nowMs - purse.toldMs < FRESH_MS
}

/** For those who only look; without a purse nobody has told anything. */
export function toInHand(purse: Purse | undefined, account: Account, nowMs: number): InHand {
  const { used = 0, ready = 0, standing } = purse ?? {}
  return {
    account,
    toldBy: purse?.toldBy ?? 'nobody',
    nowUs: purse === undefined ? 0 : toLedgerUs(purse, nowMs),
    lease: purse !== undefined && nowMs < purse.leaseEndsMs ? purse.lease : NO_UNITS,
    slotsUsed: used,
    slotsReady: ready,
    slotsOfAll: Math.max(standing?.slots ?? 0, used + ready),
    levels: levelsNow(purse, account, nowMs),
    spentMicros: standing?.spentMicros ?? 0,
    unsettled: purse === undefined ? NO_UNITS : sum(purse.moved, purse.owed),
  }
}

/** What was told of a limit, in the time of the limit that takes its place: the same units. */
export function toInterval(standing: Standing, from: Account, to: Account): Standing {
  const level = (kind: 'requests' | 'tokens'): number | undefined => {
    const [told, before, after] = [standing[kind], from[kind], to[kind]]
    if (told === undefined || before === undefined || after === undefined) return undefined
    return rescaled(told, before.intervalUs, after.intervalUs)
  }
  return { ...standing, requests: level('requests'), tokens: level('tokens') }
}
