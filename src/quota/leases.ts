// What this replica has in hand of each limit, as a Store: claims are granted from leases where there are some, and
// else decided at the ledgers, those that come meanwhile together. What moved (settled tokens, returned units, freed
// slots) travels with the next visit or a little later by itself. One visit to the ledgers of a tag at a time; with
// each of them whatever was left of a lease goes back, so that there is one truth about it.
//
// A purse is forgotten when it says nothing any more: memory follows the agents that call, not those there are.

import type { Clock, Rate } from '../types.ts'
import { isOwn } from './account.ts'
import { remaining } from './bucket.ts'
import {
  isNothing,
  NO_UNITS,
  type No,
  type Part,
  type Report,
  SLOTS_US,
  type Standing,
  sum,
  type Units,
  type Visit,
} from './ledger.ts'
import { periodOf } from './period.ts'
import {
  type Account,
  type Ask,
  type Authority,
  type Claim,
  CONCURRENCY_WAIT_US,
  type Grant,
  type InHand,
  type Kind,
  type Levels,
  type Reply,
  type Settlement,
  type Store,
  type Timers,
} from './store.ts'

export interface LeaseStore extends Store {
  /** What is in hand of each account that has anything. */
  view(): readonly InHand[]
  /** Sums over all accounts, for gauges. */
  totals(): Totals
}

export interface Totals {
  readonly purses: number
  /** Requests that could be granted without a question. */
  readonly leased: number
  /** Requests under way here, and slots kept ready. */
  readonly slots: number
  /** Charged here while the ledgers were away, and still to be told. */
  readonly owed: Units
}

export const NOTHING_IN_HAND: Totals = Object.freeze({ purses: 0, leased: 0, slots: 0, owed: NO_UNITS })

export interface LeaseStoreOptions {
  readonly authority: Authority
  readonly clock: Clock
  readonly timers: Timers
  /** False: every claim is decided at the ledgers. */
  readonly leases: boolean
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
const SWEEP_MS = 100
const SWEEPS_PER_ROUND = 10
const LEAST_SWEPT = 256
/** Slots are confirmed three times in their life. */
const CONFIRM_MS = SLOTS_US / 3000
/** A refusal is remembered at most this long, one for slots shorter: nobody knows when they come back. */
const DENIED_MS = 1_000
const DENIED_SLOTS_MS = 100
/** How long an account that does nothing stays known. */
const IDLE_MS = 2_000
/** Claims in one visit: it holds up Redis for about a microsecond each. */
const CLAIMS_AT_ONCE = 256
/** Accounts of one tag that one visit is about, beside those of its claims: a report holds up Redis for about 30 µs. */
const DIRTY_AT_ONCE = 64
/** What is owed is told in so many visits at once. */
const VISITS_AT_ONCE = 512
/** Renewals of one account are at least this far apart. */
const LEAST_RENEWAL_MS = 20
/** A scarce account is asked for this many units at a time, not for each one as it comes. */
const UNITS_PER_ASK = 128
const LONGEST_PAUSE_MS = 150
/** What the ledgers said so lately is good enough for somebody who only looks. */
const FRESH_MS = 1_000
/** Accounts that one look asks for at most, how many of them at a time, and for how long: it must not hold up Redis. */
const MOST_LOOKED_AT = 5_000
const LOOKS_AT_ONCE = 64
const LONGEST_LOOK_MS = 2_000

interface Denial {
  /** Refused without a question until then. */
  readonly untilMs: number
  /** When it would be admitted, as told. */
  readonly admitMs: number
  /** This cost and larger ones; 0 for a pause, which says nothing of what is there. */
  readonly cost: number
}

/** One account as this replica knows it. */
interface Purse {
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
  /** When the ledgers' own bucket is full, as last told by them: only then what is owed begins to leak. */
  fullMs: { requests: number; tokens: number }
  /** Slots of this replica as the ledgers know them; NaN where that is not known. */
  slotsTold: number
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

/** Accounts whose ledgers are visited together. */
interface Group {
  readonly tag: string
  readonly purses: Map<string, Purse>
  waiting: Waiter[]
  /** Called when the next visit has ended, whatever it brought. */
  lookers: (() => void)[]
  visiting: boolean
}

/** The part of a claim that is decided at one group's ledgers. */
interface Waiter {
  readonly asks: readonly Ask[]
  done(no: Refusal | undefined, origin: Reply['origin'], nowUs: number): void
}

interface Refusal {
  readonly ask: Ask
  readonly kind: Kind | 'unavailable'
  readonly waitUs: number
}

/** A visit under way, and what it was about. */
interface Errand {
  readonly group: Group
  readonly purses: readonly Purse[]
  readonly waiters: readonly Waiter[]
  readonly lookers: readonly (() => void)[]
  readonly visit: Visit
  readonly sentMs: number
}

export function createLeaseStore({ authority, clock, timers, leases }: LeaseStoreOptions): LeaseStore {
  const groups = new Map<string, Group>()
  const purses = new Map<string, Purse>()
  /** Those of which something is due within the second. */
  const lively = new Set<Purse>()
  let round = purses.values()
  let perSweep = LEAST_SWEPT
  let outbox: Errand[] = []
  const due = new Set<Group>()
  let dueSoon = false
  let generation = 0
  let cancelSweep: (() => void) | undefined
  let underWay = 0
  let whenStill: (() => void) | undefined
  let closing = false

  authority.onReturn(() => {
    // All that is owed or held is told anew: the ledgers may have lost it, or never knew.
    for (const purse of purses.values()) {
      purse.denied = {}
      if (purse.used + purse.ready > 0 || isUntold(purse)) soil(purse, 'soon')
    }
  })

  // --- purses ----------------------------------------------------------------------------------------------------

  function purseOf(account: Account): Purse {
    const known = purses.get(account.key)
    if (known !== undefined) {
      if (known.account !== account) {
        known.account = account
        known.denied = {}
      }
      return known
    }
    const { tag } = account.subject
    let group = groups.get(tag)
    if (group === undefined) {
      group = { tag, purses: new Map(), waiting: [], lookers: [], visiting: false }
      groups.set(tag, group)
    }
    const nowMs = clock.now()
    const purse: Purse = {
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
      fullMs: { requests: 0, tokens: 0 },
      slotsTold: 0,
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
    purses.set(account.key, purse)
    group.purses.set(account.key, purse)
    sweepLater()
    return purse
  }

  /** For what began under an earlier configuration: only a new claim brings the limits of the present one. */
  function keptOf(account: Account): Purse {
    return purses.get(account.key) ?? purseOf(account)
  }

  function isBusy(purse: Purse): boolean {
    return leases && !purse.account.strict && purse.pace.claims >= BUSY
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

  /** What is asked for counts, granted or not: who gets little must not therefore want less. */
  function noteAsked(purse: Purse, { requests, tokens, micros }: Units): void {
    const { asked } = purse
    asked.claims += 1
    asked.requests += requests
    asked.tokens += tokens
    asked.micros += micros
    purse.lastMs = clock.now()
    count(purse, purse.lastMs)
  }

  /** Whether a claim can be granted from what is in hand. */
  function covers(purse: Purse, { requests, tokens, micros }: Ask, nowMs: number): boolean {
    const { account, lease } = purse
    if (account.concurrency !== undefined && purse.ready === 0) return false
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

  /** The clock of the ledgers, as last told and brought to now. */
  function toLedgerUs({ toldUs, toldMs }: Purse, nowMs: number): number {
    return toldUs + (nowMs - toldMs) * 1000
  }

  function spend(purse: Purse, { requests, tokens, micros }: Ask): void {
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

  /** Undoes a part of a claim of which another part was refused. */
  function giveBack({ account, requests, tokens, micros }: Ask, origin: Reply['origin']): void {
    const purse = keptOf(account)
    // Where it is not known whether the ledgers charged it, they are not told to give it back.
    if (origin !== 'unsure')
      move(purse, { requests: -requests, tokens: -tokens, micros: -micros }, purse.toldUs)
    release(purse, clock.now())
    soil(purse, 'soon')
  }

  /** Adds to what the ledgers must be told; money of an earlier period is charged to this one and not refunded. */
  function move(purse: Purse, { requests, tokens, micros }: Units, grantedUs: number): void {
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

  function release(purse: Purse, nowMs: number): void {
    const { concurrency } = purse.account
    if (purse.used === 0) return
    purse.used -= 1
    delete purse.denied.concurrency
    const all = purse.standing?.slots ?? 0
    const mayKeep = (concurrency ?? 0) - all
    // Kept for the next one only where there are plenty for the others.
    if (
      isBusy(purse) &&
      concurrency !== undefined &&
      mayKeep * 2 >= concurrency &&
      purse.ready < Math.floor(mayKeep / (2 * authority.fleet))
    ) {
      purse.ready += 1
      purse.readySinceMs = nowMs
      lively.add(purse)
    }
  }

  // --- claims ----------------------------------------------------------------------------------------------------

  function take(claim: Claim): Grant | Promise<Grant> {
    const nowMs = clock.now()
    let rest: Map<Group, Ask[]> | undefined
    for (const ask of claim.asks) {
      const purse = purseOf(ask.account)
      noteAsked(purse, ask)
      if (covers(purse, ask, nowMs)) continue
      rest ??= new Map()
      if (!rest.has(purse.group)) rest.set(purse.group, asksOf(claim, purse.group))
    }
    if (rest === undefined) {
      let toldUs = 0
      for (const ask of claim.asks) {
        const purse = purseOf(ask.account)
        spend(purse, ask)
        toldUs = Math.max(toldUs, toLedgerUs(purse, nowMs))
        renewEarly(purse, nowMs)
      }
      return { ok: true, origin: 'lease', nowUs: toldUs, atMs: nowMs, levels: levelsOf(claim, nowMs) }
    }
    const refusal = deniedAlready([...rest.values()].flat(), nowMs)
    if (refusal !== undefined) return toRefused(claim, refusal, nowMs)
    return decideThere(claim, rest, nowMs)
  }

  function asksOf({ asks }: Claim, group: Group): Ask[] {
    return asks.filter(({ account }) => account.subject.tag === group.tag)
  }

  /** Takes what is in hand, and asks the ledgers for the rest. What was taken goes back when a part is refused. */
  function decideThere(claim: Claim, rest: Map<Group, Ask[]>, nowMs: number): Grant | Promise<Grant> {
    const taken: [ask: Ask, by: Reply['origin']][] = []
    for (const ask of claim.asks) {
      const purse = purseOf(ask.account)
      if (rest.has(purse.group)) continue
      spend(purse, ask)
      taken.push([ask, 'store'])
    }
    let missing = rest.size
    let worst: Refusal | undefined
    let origin: Reply['origin'] = 'store'
    let decidedUs = 0
    let grant: Grant | undefined
    let resolve: ((grant: Grant) => void) | undefined

    function finish(): void {
      if (worst === undefined) {
        const atMs = clock.now()
        grant = { ok: true, origin, nowUs: decidedUs, atMs, levels: levelsOf(claim, atMs) }
      } else {
        for (const [ask, by] of taken) giveBack(ask, by)
        grant =
          worst.kind === 'unavailable'
            ? { ok: false, kind: 'unavailable' }
            : toRefused(claim, { ...worst, kind: worst.kind }, clock.now())
      }
      resolve?.(grant)
    }

    for (const [group, asks] of rest) {
      group.waiting.push({
        asks,
        done(no, by, nowUs) {
          missing -= 1
          decidedUs = Math.max(decidedUs, nowUs)
          if (no === undefined) {
            for (const ask of asks) taken.push([ask, by])
            if (by !== 'store') origin = by
          } else worst = worse(worst, no)
          if (missing === 0) finish()
        },
      })
      serve(group, nowMs)
    }
    // One trip for all of them where the ledgers lie together. A claim waits for nothing, and takes along what does.
    send()
    if (grant !== undefined) return grant
    return new Promise((done) => {
      resolve = done
    })
  }

  /** A refusal that is remembered. */
  function deniedAlready(asks: Iterable<Ask>, nowMs: number): (Refusal & { kind: Kind }) | undefined {
    let worst: (Refusal & { kind: Kind }) | undefined
    for (const ask of asks) {
      const denied = purses.get(ask.account.key)?.denied
      if (denied === undefined) continue
      for (const kind of KINDS) {
        const denial = denied[kind]
        if (denial === undefined || nowMs >= denial.untilMs || costOf(ask, kind) < denial.cost) continue
        const waitUs =
          kind === 'concurrency'
            ? CONCURRENCY_WAIT_US
            : Math.max(Math.ceil((denial.admitMs - nowMs) * 1000 + surplusUs(ask, kind, denial.cost)), 1)
        worst = worse(worst, { ask, kind, waitUs })
      }
    }
    return worst
  }

  function toRefused(claim: Claim, { ask, kind, waitUs }: Refusal & { kind: Kind }, nowMs: number): Grant {
    return { ok: false, kind, ask, waitUs, levels: levelsOf(claim, nowMs) }
  }

  /** As last told, brought to now; what is in hand counts as there. */
  function levelsOf({ asks }: Claim, nowMs: number): Levels[] {
    return asks.map(({ account }) => levelsNow(purses.get(account.key), account, nowMs))
  }

  // --- visits ----------------------------------------------------------------------------------------------------

  /** A lease that runs out soon is renewed before anybody has to wait for it. */
  function renewEarly(purse: Purse, nowMs: number): void {
    const { account, lease } = purse
    const low =
      (account.requests !== undefined && lease.requests * 4 < purse.pace.requests * AHEAD_S) ||
      (account.tokens !== undefined && lease.tokens * 4 < purse.pace.tokens * AHEAD_S)
    if (low && nowMs - purse.visitedMs > Math.max(LEAST_RENEWAL_MS, pauseOf(purse))) soil(purse, 'soon')
  }

  /** Something is to be told of this account. */
  function soil(purse: Purse, when: 'soon' | 'later'): void {
    purse.dirty = true
    lively.add(purse)
    const { group } = purse
    if (when === 'later') {
      sweepLater()
      return
    }
    due.add(group)
    if (dueSoon) return
    dueSoon = true
    timers.soon(serveDue)
  }

  function serveDue(): void {
    dueSoon = false
    const nowMs = clock.now()
    let left = VISITS_AT_ONCE
    for (const group of due) {
      if (left === 0) break
      left -= 1
      due.delete(group)
      serve(group, nowMs)
    }
    send()
    if (due.size > 0 && !dueSoon) {
      dueSoon = true
      timers.soon(serveDue)
    }
  }

  /** Starts a visit for a group, unless one is under way: the next begins when it ends. */
  function serve(group: Group, nowMs: number): void {
    if (group.visiting) return
    const undecided = group.waiting.filter(({ asks, done }) => {
      // What was told to others meanwhile holds for those who waited too.
      const refusal = deniedAlready(asks, nowMs)
      if (refusal !== undefined) done(refusal, 'store', 0)
      return refusal === undefined
    })
    const waiters = undecided.slice(0, CLAIMS_AT_ONCE)
    group.waiting = undecided.slice(CLAIMS_AT_ONCE)
    const wanted = new Set<Purse>()
    for (const { asks } of waiters) for (const { account } of asks) wanted.add(purseOf(account))
    const most = wanted.size + DIRTY_AT_ONCE
    for (const purse of group.purses.values()) {
      if (wanted.size >= most) break
      if (purse.dirty) wanted.add(purse)
    }
    if (wanted.size === 0) return
    group.visiting = true
    const list = [...wanted]
    const places = new Map(list.map((purse, at) => [purse.account.key, at]))
    const claims = waiters.map(({ asks }) =>
      asks.map(
        ({ account, requests, tokens, micros }): Part => ({
          at: places.get(account.key) as number,
          requests,
          tokens,
          micros,
        }),
      ),
    )
    generation += 1
    outbox.push({
      group,
      purses: list,
      waiters,
      lookers: group.lookers,
      visit: { generation, claims, reports: list.map((purse) => toReport(purse, nowMs)) },
      sentMs: nowMs,
    })
    group.lookers = []
  }

  /** Everything that this replica has to say of an account; what is left of a lease goes back. */
  function toReport(purse: Purse, nowMs: number): Report {
    const { account } = purse
    // Of a lease that is over nothing is left, whatever was not spent of it.
    const returned = nowMs < purse.leaseEndsMs ? purse.lease : NO_UNITS
    purse.lease = NO_UNITS
    leak(purse, nowMs)
    if (purse.ready > 0 && (!isBusy(purse) || nowMs - purse.readySinceMs > DENIED_MS)) purse.ready = 0
    const report: Report = {
      account,
      moved: purse.moved,
      movedStartUs: purse.movedStartUs,
      returned,
      owed: purse.owed,
      slots: purse.used + purse.ready,
      ahead: closing ? NO_UNITS : aheadOf(purse, nowMs),
    }
    purse.moved = NO_UNITS
    purse.owed = NO_UNITS
    purse.dirty = false
    purse.visitedMs = nowMs
    return report
  }

  /**
   * What a busy replica would like ahead of need. Of an agent's own limit a little, and only while half of it is there:
   * the last of a burst must not lie with a replica that has no use for it. Of a shared one never so much that all
   * together could ask for more than the half.
   */
  function aheadOf(purse: Purse, nowMs: number): Units {
    count(purse, nowMs)
    if (!isBusy(purse)) return NO_UNITS
    const { account, pace, standing } = purse
    const parts = isOwn(account.subject) ? OWN_PARTS : SHARED_PARTS
    const want = (kind: keyof Units, capacity: number | undefined, left: number): number => {
      if (capacity === undefined) return 0
      const most = Math.floor(capacity / (parts * authority.fleet))
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
  function leak(purse: Purse, nowMs: number): void {
    const { owed, account, owedMs, fullMs } = purse
    purse.owedMs = nowMs
    if (isNothing(owed)) return
    const left = (kind: 'requests' | 'tokens'): number => {
      const rate = account[kind]
      if (owed[kind] <= 0 || rate === undefined) return owed[kind]
      const elapsedUs = Math.max(nowMs - Math.max(owedMs, fullMs[kind]), 0) * 1000
      return Math.max(owed[kind] - elapsedUs / (rate.intervalUs * authority.divisor), 0)
    }
    purse.owed = { requests: left('requests'), tokens: left('tokens'), micros: owed.micros }
  }

  function send(): void {
    const errands = outbox
    outbox = []
    if (errands.length === 0) return
    let replies: readonly Reply[] | Promise<readonly Reply[]>
    try {
      replies = authority.visit(errands.map(({ visit }) => visit))
    } catch (error) {
      replies = Promise.reject(error)
    }
    if (!(replies instanceof Promise)) {
      arriveAll(errands, replies)
      return
    }
    underWay += 1
    const over = (): void => {
      underWay -= 1
      if (underWay === 0) whenStill?.()
    }
    replies.then(
      (list) => {
        arriveAll(errands, list)
        over()
      },
      () => {
        arriveAll(errands, undefined)
        over()
      },
    )
  }

  function arriveAll(errands: readonly Errand[], replies: readonly Reply[] | undefined): void {
    for (const [i, errand] of errands.entries()) {
      arrive(errand, replies?.[i])
      for (const heard of errand.lookers) heard()
    }
    send()
  }

  /** Takes in what a visit brought. Without an answer nobody decided, and what was to be told stays to be told. */
  function arrive(errand: Errand, reply: Reply | undefined): void {
    const { group, waiters, visit } = errand
    const nowMs = clock.now()
    group.visiting = false
    if (reply === undefined || reply.answer.stale) {
      errand.purses.forEach((purse, i) => {
        const report = visit.reports[i]
        if (report !== undefined && reply === undefined)
          keep(purse, sum(report.moved, report.owed), { startUs: report.movedStartUs, nowMs })
        // Its slots may not have been heard either.
        purse.slotsTold = Number.NaN
        purse.dirty = true
        lively.add(purse)
      })
      for (const waiter of waiters) waiter.done(UNAVAILABLE, 'unsure', 0)
      if (group.waiting.length > 0) serve(group, nowMs)
      return
    }
    const { answer, origin, owed } = reply
    errand.purses.forEach((purse, i) => {
      const standing = answer.standings[i]
      if (standing !== undefined) {
        purse.standing = standing
        purse.toldMs = nowMs
        purse.toldUs = answer.nowUs
        purse.toldBy = origin === 'store' ? 'ledgers' : 'share'
        purse.sharedBy = origin === 'store' ? 1 : authority.divisor
        if (origin === 'store') {
          purse.lease = standing.lease
          purse.leaseEndsMs = isNothing(standing.lease) ? 0 : errand.sentMs + LEASE_MS
          if (purse.leaseEndsMs > 0) lively.add(purse)
          noteScarcity(purse, (visit.reports[i] as Report).ahead, nowMs)
          purse.fullMs = {
            requests: nowMs + (standing.requests ?? 0) / 1000,
            tokens: nowMs + (standing.tokens ?? 0) / 1000,
          }
          purse.slotsTold = (visit.reports[i] as Report).slots
        } else if (origin === 'unsure') {
          // What it heard is not known, so it is told again.
          purse.slotsTold = Number.NaN
          purse.dirty = true
          lively.add(purse)
        }
      }
      const debt = owed?.[i]
      if (debt !== undefined && !isNothing(debt))
        keep(purse, debt, { startUs: (visit.reports[i] as Report).movedStartUs, nowMs })
    })
    // Each is told what was left behind it, not behind all that were decided with it.
    for (const [i, { asks }] of waiters.entries())
      if (answer.refusals[i] === undefined) for (const ask of asks) chargeLater(keptOf(ask.account), ask, 1)
    visit.claims.forEach((parts, i) => {
      const no = answer.refusals[i]
      const waiter = waiters[i] as Waiter
      if (no === undefined) {
        for (const ask of waiter.asks) chargeLater(keptOf(ask.account), ask, -1)
        for (const ask of waiter.asks) {
          const purse = keptOf(ask.account)
          if (ask.account.concurrency !== undefined) {
            purse.used += 1
            if (origin === 'store') purse.slotsTold += 1
          }
        }
        waiter.done(undefined, origin, answer.nowUs)
        return
      }
      const ask = waiter.asks[parts.findIndex(({ at }) => at === no.at)] as Ask
      waiter.done({ ask, kind: no.kind, waitUs: deny(ask, no, nowMs) }, origin, answer.nowUs)
    })
    // Once more for what came meanwhile; without the ledgers nothing more can be told.
    const more = group.waiting.length > 0 || group.lookers.length > 0
    if (more || (closing && origin === 'store')) serve(group, nowMs)
  }

  function chargeLater({ later }: Purse, { requests, tokens }: Units, sign: 1 | -1): void {
    later.requests += sign * requests
    later.tokens += sign * tokens
  }

  /** Keeps what the ledgers must be told once they can be reached. */
  function keep(
    purse: Purse,
    units: Units,
    { startUs, nowMs }: { readonly startUs: number; readonly nowMs: number },
  ): void {
    leak(purse, nowMs)
    const { requests, tokens, micros } = units
    purse.owed = sum(purse.owed, { requests, tokens, micros: Math.max(micros, 0) })
    // Money that comes back belongs to a period, which may be over when it is told.
    if (micros < 0) move(purse, { requests: 0, tokens: 0, micros }, startUs)
    purse.owedMs = nowMs
  }

  /** Remembers a refusal, so that the next ones cost no question. Gives the wait that is told. */
  function deny(ask: Ask, { kind, waitUs }: No, nowMs: number): number {
    if (kind === 'unavailable') return 0
    const purse = purseOf(ask.account)
    const cost = costOf(ask, kind)
    const before = purse.denied[kind]
    if (before !== undefined && before.untilMs > nowMs && before.cost <= cost) return waitUs
    if (kind === 'concurrency') {
      purse.denied[kind] = { untilMs: nowMs + DENIED_SLOTS_MS, admitMs: nowMs + waitUs / 1000, cost }
      return waitUs
    }
    const waitMs = Math.max(waitUs / 1000, kind === 'budget' ? 0 : pauseOfKind(purse, kind))
    purse.denied[kind] = { untilMs: nowMs + Math.min(waitMs, DENIED_MS), admitMs: nowMs + waitMs, cost }
    return Math.ceil(waitMs * 1000)
  }

  /** A busy account of which little is left is not asked for unit by unit as they come back. */
  function noteScarcity(purse: Purse, wanted: Units, nowMs: number): void {
    for (const kind of ['requests', 'tokens'] as const) {
      const rate = purse.account[kind]
      const level = purse.standing?.[kind]
      if (rate === undefined || level === undefined || wanted[kind] === 0) continue
      if (purse.lease[kind] * 4 >= wanted[kind] || remaining(level, rate) * 2 >= wanted[kind]) continue
      const untilMs = nowMs + pauseOfKind(purse, kind)
      purse.denied[kind] = { untilMs, admitMs: untilMs, cost: 0 }
    }
  }

  /** How long a busy replica leaves a scarce account alone, so that a question is worth several units. */
  function pauseOfKind(purse: Purse, kind: 'requests' | 'tokens'): number {
    const rate = purse.account[kind]
    if (rate === undefined || !isBusy(purse)) return 0
    const unitMs = rate.intervalUs / 1000
    const perClaim = Math.max(purse.pace[kind] / Math.max(purse.pace.claims, 1), 1)
    return Math.min(
      LONGEST_PAUSE_MS,
      UNITS_PER_ASK * perClaim * authority.fleet * unitMs,
      (rate.capacity * unitMs) / 4,
    )
  }

  function pauseOf(purse: Purse): number {
    return Math.max(pauseOfKind(purse, 'requests'), pauseOfKind(purse, 'tokens'))
  }

  /** Whether the ledgers do not know how things stand here. */
  function isUntold({ account, moved, owed, used, ready, slotsTold }: Purse): boolean {
    if (!isNothing(moved) || !isNothing(owed)) return true
    return account.concurrency !== undefined && slotsTold !== used + ready
  }

  // --- looking -----------------------------------------------------------------------------------------------------

  /** A visit that asks for nothing: it takes nothing and writes nothing, and a purse made for it is soon forgotten. */
  async function look(accounts: readonly Account[]): Promise<readonly InHand[]> {
    const untilMs = clock.now() + LONGEST_LOOK_MS
    let left = MOST_LOOKED_AT
    const found: InHand[] = []
    for (let at = 0; at < accounts.length; at += LOOKS_AT_ONCE) {
      const some = accounts.slice(at, at + LOOKS_AT_ONCE)
      const nowMs = clock.now()
      const unknown = some.filter(({ key }) => !isFresh(purses.get(key), nowMs)).slice(0, left)
      left -= unknown.length
      if (unknown.length > 0 && nowMs < untilMs) await told(unknown, untilMs - nowMs)
      for (const account of some) found.push(toInHand(purses.get(account.key), account, clock.now()))
    }
    return found
  }

  function isFresh(purse: Purse | undefined, nowMs: number): boolean {
    return purse !== undefined && purse.toldBy === 'ledgers' && nowMs - purse.toldMs < FRESH_MS
  }

  /** Resolves when a visit was made to the ledgers of all of these, or the time is up. */
  function told(accounts: readonly Account[], waitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = timers.after(waitMs, resolve)
      const asked = new Set<Group>()
      for (const account of accounts) {
        const purse = purseOf(account)
        soil(purse, 'soon')
        asked.add(purse.group)
      }
      let missing = asked.size
      for (const { lookers } of asked)
        lookers.push(() => {
          missing -= 1
          if (missing > 0) return
          cancel()
          resolve()
        })
    })
  }

  function toInHand(purse: Purse | undefined, account: Account, nowMs: number): InHand {
    const { used = 0, ready = 0, standing } = purse ?? {}
    return {
      account,
      toldBy: purse?.toldBy ?? 'nobody',
      sharedBy: purse?.sharedBy ?? 1,
      nowUs: purse === undefined ? 0 : purse.toldUs + (nowMs - purse.toldMs) * 1000,
      lease: purse !== undefined && nowMs < purse.leaseEndsMs ? purse.lease : NO_UNITS,
      slotsUsed: used,
      slotsReady: ready,
      slotsOfAll: Math.max(standing?.slots ?? 0, used + ready),
      levels: levelsNow(purse, account, nowMs),
      spentMicros: standing?.spentMicros ?? 0,
      unsettled: purse === undefined ? NO_UNITS : sum(purse.moved, purse.owed),
    }
  }

  // --- the sweep -------------------------------------------------------------------------------------------------

  function sweepLater(): void {
    if (cancelSweep !== undefined || closing) return
    cancelSweep = timers.after(SWEEP_MS, sweep)
  }

  /** Looks at the lively ones each time, and at all others in a round of a second. */
  function sweep(): void {
    cancelSweep = undefined
    const nowMs = clock.now()
    for (const purse of lively) {
      tend(purse, nowMs)
      if (!purse.dirty && isNothing(purse.lease) && purse.ready === 0) lively.delete(purse)
    }
    // No fewer than when the round began, nor than it takes for those who came meanwhile.
    perSweep = Math.max(perSweep, Math.ceil(purses.size / SWEEPS_PER_ROUND))
    for (let left = perSweep; left > 0; left -= 1) {
      const next = round.next()
      if (next.done === true) {
        round = purses.values()
        perSweep = LEAST_SWEPT
        break
      }
      tend(next.value, nowMs)
      if (isIdle(next.value, nowMs)) forget(next.value)
    }
    if (purses.size > 0) sweepLater()
  }

  /** What is to be told, renewed, given back or confirmed of one account. */
  function tend(purse: Purse, nowMs: number): void {
    count(purse, nowMs)
    if (purse.dirty) {
      if (nowMs - purse.visitedMs >= FLUSH_MS) soil(purse, 'soon')
      return
    }
    const holds = !isNothing(purse.lease)
    if (holds && nowMs >= purse.leaseEndsMs) purse.lease = NO_UNITS
    else if (holds && nowMs >= purse.leaseEndsMs - RENEW_MS) soil(purse, 'soon')
    if (purse.ready > 0 && nowMs - purse.readySinceMs > DENIED_MS) soil(purse, 'soon')
    if ((purse.used + purse.ready > 0 || isUntold(purse)) && nowMs - purse.visitedMs >= CONFIRM_MS)
      soil(purse, 'soon')
  }

  function forget({ account, group }: Purse): void {
    purses.delete(account.key)
    group.purses.delete(account.key)
    if (group.purses.size === 0 && !group.visiting) groups.delete(group.tag)
  }

  function isIdle(purse: Purse, nowMs: number): boolean {
    if (purse.dirty || purse.group.visiting || purse.group.waiting.length > 0) return false
    if (purse.used + purse.ready > 0 || !isNothing(purse.lease)) return false
    if (isUntold(purse)) return false
    if (nowMs - purse.lastMs < IDLE_MS) return false
    return KINDS.every((kind) => (purse.denied[kind]?.untilMs ?? 0) <= nowMs)
  }

  return {
    take,

    settle(settlements: readonly Settlement[]) {
      const nowMs = clock.now()
      for (const settlement of settlements) {
        settlement.claim.asks.forEach((ask, i) => {
          const { account } = ask
          const purse = keptOf(account)
          const moved = toMoved(
            settlement,
            { ask, rate: purse.account.tokens, levels: settlement.grant.levels[i] },
            nowMs,
          )
          const moves = !isNothing(moved)
          if (moves) move(purse, moved, settlement.grant.nowUs)
          const { ready } = purse
          if (account.concurrency !== undefined) release(purse, nowMs)
          const kept = purse.ready > ready
          if (moves || (account.concurrency !== undefined && !kept))
            soil(purse, isBusy(purse) ? 'later' : 'soon')
        })
      }
    },

    look,

    view() {
      const nowMs = clock.now()
      return [...purses.values()].map((purse) => toInHand(purse, purse.account, nowMs))
    },

    totals() {
      let leased = 0
      let slots = 0
      let owed = NO_UNITS
      const nowMs = clock.now()
      for (const purse of purses.values()) {
        if (nowMs < purse.leaseEndsMs) leased += purse.lease.requests
        slots += purse.used + purse.ready
        owed = sum(owed, purse.owed)
      }
      return { purses: purses.size, leased, slots, owed }
    },

    async close() {
      closing = true
      cancelSweep?.()
      cancelSweep = undefined
      for (const purse of purses.values()) {
        purse.ready = 0
        purse.dirty = true
        serve(purse.group, clock.now())
      }
      send()
      if (underWay > 0) {
        await new Promise<void>((resolve) => {
          whenStill = resolve
          timers.after(LAST_WORDS_MS, resolve)
        })
      }
      await authority.close()
    },
  }
}

const KINDS: readonly Kind[] = ['requests', 'tokens', 'concurrency', 'budget']
const LAST_WORDS_MS = 250
const NOBODY: Account = {
  subject: { kind: 'gateway', id: '', tag: '', limits: { strict: false } },
  key: '',
  requests: undefined,
  tokens: undefined,
  concurrency: undefined,
  budget: undefined,
  strict: false,
}
const UNAVAILABLE: Refusal = {
  ask: { account: NOBODY, requests: 0, tokens: 0, micros: 0 },
  kind: 'unavailable',
  waitUs: 0,
}

function costOf(ask: Ask, kind: Kind): number {
  if (kind === 'concurrency') return 1
  return kind === 'budget' ? ask.micros : ask[kind]
}

/**
 * What the end of a claim moves in one account. Tokens come back at most as far as the bucket has not refilled since:
 * who gets them back could otherwise spend what others were given meanwhile. As little as the bucket can have held of
 * the reservation at any time since is its level then, less the time that passed. And what the ledgers may not have
 * charged, because they did not answer, does not come back at all.
 */
function toMoved(
  { grant, usedTokens, usedMicros }: Settlement,
  {
    ask,
    rate,
    levels,
  }: { readonly ask: Ask; readonly rate: Rate | undefined; readonly levels: Levels | undefined },
  nowMs: number,
): Units {
  const { budget } = ask.account
  const isSure = grant.origin !== 'unsure'
  let tokens = rate === undefined || usedTokens === undefined ? 0 : usedTokens - ask.tokens
  if (rate !== undefined && tokens < 0) {
    const leastUs = Math.max((levels?.tokens ?? 0) - Math.max(nowMs - grant.atMs, 0) * 1000, 0)
    tokens = isSure ? -Math.min(-tokens, Math.floor(leastUs / rate.intervalUs)) : 0
  }
  let micros = budget === undefined || usedMicros === undefined ? 0 : usedMicros - ask.micros
  if (micros < 0 && !isSure) micros = 0
  return tokens === 0 && micros === 0 ? NO_UNITS : { requests: 0, tokens, micros }
}

/** How much longer a claim has to wait than one of another cost. */
function surplusUs(ask: Ask, kind: Kind, than: number): number {
  if ((kind !== 'requests' && kind !== 'tokens') || than === 0) return 0
  const rate = ask.account[kind]
  if (rate === undefined) return 0
  return (Math.min(ask[kind], rate.capacity) - Math.min(than, rate.capacity)) * rate.intervalUs
}

/** Nobody to count comes first, then money, then the longest wait; of equal ones the first. */
function worse<R extends Refusal>(a: R | undefined, b: R): R {
  if (a === undefined) return b
  if (rank(a) !== rank(b)) return rank(a) > rank(b) ? a : b
  return b.waitUs > a.waitUs ? b : a
}

function rank({ kind }: Refusal): number {
  return kind === 'unavailable' ? 2 : kind === 'budget' ? 1 : 0
}

function levelsNow(purse: Purse | undefined, account: Account, nowMs: number): Levels {
  const elapsedUs = purse === undefined ? 0 : Math.max(nowMs - purse.toldMs, 0) * 1000
  const level = (kind: 'requests' | 'tokens'): number | undefined => {
    const rate = account[kind]
    if (rate === undefined) return undefined
    const told = purse?.standing?.[kind] ?? 0
    const inHand = purse !== undefined && nowMs < purse.leaseEndsMs ? purse.lease[kind] : 0
    const free = inHand + (purse?.later[kind] ?? 0)
    return Math.max(told - elapsedUs - free * rate.intervalUs, 0)
  }
  return { requests: level('requests'), tokens: level('tokens') }
}
