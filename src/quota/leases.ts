// What this replica has in hand of each limit, as a Store: claims are granted from leases where there are some, and
// else decided at the ledgers, those that come meanwhile together. What moved (settled tokens, returned units, freed
// slots) travels with the next visit or a little later by itself. One visit to the ledgers of a tag at a time; with
// each of them whatever was left of a lease goes back, so that there is one truth about it. What is true of one account
// is purse.ts; here is what goes over several: claims, visits, looks, the sweep.
//
// A purse is forgotten when it says nothing any more: memory follows the agents that call, not those there are.

import type { Clock } from '../types.ts'
import {
  type Answer,
  isNothing,
  NO_UNITS,
  type Part,
  type Report,
  sum,
  type Units,
  type Visit,
} from './ledger.ts'
import {
  borrow,
  chargeLater,
  covers,
  type Denied,
  deniedAlready,
  deny,
  emptyPurse,
  isBusy,
  isFresh,
  isIdle,
  isUntold,
  keep,
  levelsNow,
  move,
  noteAsked,
  noteDoubt,
  noteScarcity,
  type Purse,
  type Refusal,
  release,
  runsLow,
  settleDoubt,
  spend,
  tend,
  toInHand,
  toInterval,
  toLedgerUs,
  toMoved,
  toReport,
  UNAVAILABLE,
  worse,
} from './purse.ts'
import type {
  Account,
  Ask,
  Authority,
  Claim,
  Grant,
  InHand,
  Levels,
  Reply,
  Settlement,
  Store,
  Timers,
} from './store.ts'

export interface LeaseStore extends Store {
  /** What is in hand of each account that has anything. */
  view(): readonly InHand[]
  /** Sums over all accounts, for gauges. */
  totals(): Totals
  /** What agents with a budget have spent, as the ledgers last told; those known longest are forgotten first. */
  spent(): readonly Spent[]
}

/** What one agent has spent. */
export interface Spent {
  readonly agent: string
  readonly micros: number
  /** The clock of the ledgers when they told, and now; µs. */
  readonly toldUs: number
  readonly nowUs: number
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

const SWEEP_MS = 100
const SWEEPS_PER_ROUND = 10
const LEAST_SWEPT = 256
/** Claims in one visit: it holds up Redis for about a microsecond each. */
const CLAIMS_AT_ONCE = 256
/** Accounts of one tag that one visit is about, beside those of its claims: a report holds up Redis for about 30 µs. */
const DIRTY_AT_ONCE = 64
/** Agents of which is known what they have spent, beside those that call now. */
const MOST_SPENT = 2_000
/** What is owed is told in so many visits at once. */
const VISITS_AT_ONCE = 512
/** Accounts that one look asks for at most, how many of them at a time, and for how long: it must not hold up Redis. */
const MOST_LOOKED_AT = 5_000
const LOOKS_AT_ONCE = 64
const LONGEST_LOOK_MS = 2_000
/** How long the last visits may take before the store closes without their answers. */
const LAST_WORDS_MS = 250

/** Accounts whose ledgers are visited together. */
export interface Group {
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
  /**
   * Of one that was granted on a guess, `void`: another part of its claim was refused; `told`: the ledgers have said
   * after all what they did, and know of it as if they had granted it.
   */
  fate?: 'void' | 'told'
  done(no: Refusal | undefined, origin: Reply['origin'], nowUs: number): void
}

/** What became of a visit after all. */
interface Correction {
  /** What was made of it here. */
  readonly reply: Reply
  readonly late: Answer
  /** Of what each purse owed, all that had leaked when that was made. */
  readonly leaked: readonly Purse['leaked'][]
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

const NOBODY: readonly Ask[] = []

export function createLeaseStore({ authority, clock, timers, leases }: LeaseStoreOptions): LeaseStore {
  const terms = { leases, closing: false, authority }
  const groups = new Map<string, Group>()
  const purses = new Map<string, Purse>()
  /** Of accounts whose purse is forgotten, by key. */
  const lastSpent = new Map<string, Spent & { readonly toldMs: number }>()
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
        known.standing = known.standing && toInterval(known.standing, known.account, account)
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
    const purse = emptyPurse(account, group, clock.now())
    purses.set(account.key, purse)
    group.purses.set(account.key, purse)
    sweepLater()
    return purse
  }

  /** For what began under an earlier configuration: only a new claim brings the limits of the present one. */
  function keptOf(account: Account): Purse {
    return purses.get(account.key) ?? purseOf(account)
  }

  /**
   * Undoes a part of a claim of which another part was refused. `grantedUs` by the clock of the ledgers; undefined where
   * it is not known whether they charged it: then they are not told to give it back.
   */
  function giveBack({ account, requests, tokens, micros }: Ask, grantedUs: number | undefined): void {
    const purse = keptOf(account)
    if (grantedUs !== undefined)
      move(purse, { requests: -requests, tokens: -tokens, micros: -micros }, grantedUs)
    freeSlot(purse, clock.now())
    soil(purse, 'soon')
  }

  /** A request ended: whether its slot is kept ready for the next one. */
  function freeSlot(purse: Purse, nowMs: number): boolean {
    const kept = release(purse, nowMs, terms)
    if (kept) lively.add(purse)
    return kept
  }

  // --- claims ----------------------------------------------------------------------------------------------------

  function take(claim: Claim): Grant | Promise<Grant> {
    const nowMs = clock.now()
    let rest: Map<Group, Ask[]> | undefined
    for (const ask of claim.asks) {
      const purse = purseOf(ask.account)
      noteAsked(purse, ask, nowMs)
      if (covers(purse, ask, nowMs)) continue
      rest ??= new Map()
      if (!rest.has(purse.group)) rest.set(purse.group, asksOf(claim, purse.group))
    }
    if (rest === undefined) {
      const toldUs = spendAll(claim.asks, nowMs)
      const levels = levelsOf(claim, nowMs)
      return { ok: true, origin: 'lease', nowUs: toldUs, atMs: nowMs, levels, unsure: NOBODY }
    }
    const refusal = refusedAlready([...rest.values()].flat(), nowMs)
    if (refusal !== undefined) return toRefused(claim, refusal, nowMs)
    return decideThere(claim, rest, nowMs)
  }

  /** Takes what is covered from what is in hand. Gives the clock of the ledgers as it must be now, µs. */
  function spendAll(asks: readonly Ask[], nowMs: number): number {
    let toldUs = 0
    for (const ask of asks) {
      const purse = keptOf(ask.account)
      spend(purse, ask)
      toldUs = Math.max(toldUs, toLedgerUs(purse, nowMs))
      // A lease that runs out soon is renewed before anybody has to wait for it.
      if (runsLow(purse, nowMs, terms)) soil(purse, 'soon')
    }
    return toldUs
  }

  function asksOf({ asks }: Claim, group: Group): Ask[] {
    return asks.filter(({ account }) => account.subject.tag === group.tag)
  }

  /** Takes what is in hand, and asks the ledgers for the rest. What was taken goes back when a part is refused. */
  function decideThere(claim: Claim, rest: Map<Group, Ask[]>, nowMs: number): Grant | Promise<Grant> {
    const taken: [ask: Ask, grantedUs: number][] = []
    const granted: [waiter: Waiter, by: Reply['origin'], nowUs: number][] = []
    // Of money only the ledgers decide, and its period is by their clock, not by ours.
    let decidedUs = 0
    for (const ask of claim.asks) {
      const purse = purseOf(ask.account)
      if (rest.has(purse.group)) continue
      spend(purse, ask)
      const grantedUs = toLedgerUs(purse, nowMs)
      taken.push([ask, grantedUs])
      decidedUs = Math.max(decidedUs, grantedUs)
    }
    let missing = rest.size
    let worst: Refusal | undefined
    let origin: Reply['origin'] = 'store'
    let grant: Grant | undefined
    let resolve: ((grant: Grant) => void) | undefined

    function finish(): void {
      if (worst === undefined) {
        const atMs = clock.now()
        const unsure = granted.filter(([, by]) => by === 'unsure').flatMap(([{ asks }]) => asks)
        grant = { ok: true, origin, nowUs: decidedUs, atMs, levels: levelsOf(claim, atMs), unsure }
      } else {
        for (const [ask, grantedUs] of taken) giveBack(ask, grantedUs)
        for (const [waiter, by, nowUs] of granted) {
          const isCharged = by !== 'unsure' || waiter.fate === 'told'
          if (!isCharged) waiter.fate = 'void'
          for (const ask of waiter.asks) giveBack(ask, isCharged ? nowUs : undefined)
        }
        grant =
          worst.kind === 'unavailable'
            ? { ok: false, kind: 'unavailable' }
            : toRefused(claim, { ...worst, kind: worst.kind }, clock.now())
      }
      resolve?.(grant)
    }

    for (const [group, asks] of rest) {
      const waiter: Waiter = {
        asks,
        done(no, by, nowUs) {
          missing -= 1
          if (by === 'store') decidedUs = Math.max(decidedUs, nowUs)
          if (no === undefined) {
            granted.push([waiter, by, nowUs])
            if (by !== 'store') origin = by
          } else worst = worse(worst, no)
          if (missing === 0) finish()
        },
      }
      group.waiting.push(waiter)
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
  function refusedAlready(asks: readonly Ask[], nowMs: number): Denied | undefined {
    let worst: Denied | undefined
    for (const ask of asks) {
      const purse = purses.get(ask.account.key)
      const denied = purse && deniedAlready(purse, ask, nowMs)
      if (denied !== undefined) worst = worse(worst, denied)
    }
    return worst
  }

  function toRefused(claim: Claim, { ask, kind, waitUs }: Denied, nowMs: number): Grant {
    return { ok: false, kind, ask, waitUs, levels: levelsOf(claim, nowMs) }
  }

  /** As last told, brought to now; what is in hand counts as there. */
  function levelsOf({ asks }: Claim, nowMs: number): Levels[] {
    const levels: Levels[] = []
    for (const { account } of asks) levels.push(levelsNow(purses.get(account.key), account, nowMs))
    return levels
  }

  // --- visits ----------------------------------------------------------------------------------------------------

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
      // What was lent, or told to others, meanwhile holds for those who waited too.
      if (asks.every((ask) => covers(keptOf(ask.account), ask, nowMs))) {
        done(undefined, 'store', spendAll(asks, nowMs))
        return false
      }
      const refusal = refusedAlready(asks, nowMs)
      if (refusal !== undefined) done(refusal, 'store', 0)
      return refusal === undefined
    })
    const waiters = undecided.slice(0, CLAIMS_AT_ONCE)
    group.waiting = undecided.slice(CLAIMS_AT_ONCE)
    const wanted = new Set<Purse>()
    for (const { asks } of waiters) {
      for (const { account } of asks) {
        const purse = keptOf(account)
        wanted.add(purse)
        // What is kept ready is for the next request, and here it is: it must not be refused for it.
        if (purse.ready > 0) purse.ready -= 1
      }
    }
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
      visit: { generation, claims, reports: list.map((purse) => toReport(purse, nowMs, terms)) },
      sentMs: nowMs,
    })
    group.lookers = []
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
        const report = visit.reports[i] as Report
        const kept = reply === undefined ? sum(report.moved, report.owed) : NO_UNITS
        keep(purse, kept, { startUs: report.movedStartUs, nowMs }, terms)
        if (reply?.origin !== 'store') noteDoubt(purse, report, { ...errand, ...visit, kept })
        // Its slots may not have been heard either.
        purse.slotsTold = Number.NaN
        purse.dirty = true
        lively.add(purse)
      })
      if (reply !== undefined) hearLate(errand, reply)
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
          const report = visit.reports[i] as Report
          if (settleDoubt(purse, standing.heard, { nowUs: answer.nowUs, nowMs })) soil(purse, 'soon')
          borrow(purse, standing, errand.sentMs, nowMs)
          if (purse.leaseEndsMs > 0) lively.add(purse)
          noteScarcity(purse, report.ahead, nowMs, terms)
          purse.slotsTold = report.slots
        } else if (origin === 'unsure') {
          const report = visit.reports[i] as Report
          noteDoubt(purse, report, { ...errand, ...visit, kept: owed?.[i] ?? NO_UNITS })
          // What it heard is not known, so it is told again.
          purse.slotsTold = Number.NaN
          purse.dirty = true
          lively.add(purse)
        }
      }
      const debt = owed?.[i]
      if (debt !== undefined && !isNothing(debt))
        keep(purse, debt, { startUs: (visit.reports[i] as Report).movedStartUs, nowMs }, terms)
    })
    hearLate(errand, reply)
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
      if (no.kind === 'unavailable') {
        waiter.done({ ask, kind: 'unavailable', waitUs: 0 }, origin, answer.nowUs)
        return
      }
      const refusal = { ask, kind: no.kind, waitUs: no.waitUs }
      refusal.waitUs = deny(keptOf(ask.account), refusal, nowMs, terms)
      waiter.done(refusal, origin, answer.nowUs)
    })
    // Once more for what came meanwhile; without the ledgers nothing more can be told.
    const more = group.waiting.length > 0 || group.lookers.length > 0
    if (more || (terms.closing && origin === 'store')) serve(group, nowMs)
  }

  /** What was answered here in place of the ledgers is corrected when they answer after all. */
  function hearLate(errand: Errand, reply: Reply): void {
    if (reply.late === undefined) return
    const leaked = errand.purses.map((purse) => purse.leaked)
    void reply.late.then((late) => {
      if (late !== undefined && !late.stale) correct(errand, { reply, late, leaked })
    })
  }

  /**
   * A visit that was given up was done all the same: what was told of it here was a guess. Whom the ledgers charged and
   * we refused gets it back, whom they refused and we let in is charged, and what was kept to be told again is not told,
   * or taken back where that is on its way already. `leaked`: what had leaked before. Of money the ledgers tell by
   * themselves, at the next visit.
   */
  function correct({ visit, waiters }: Errand, { reply, late, leaked }: Correction): void {
    const { stale, refusals } = reply.answer
    const isLetIn = (at: number): boolean =>
      !stale && refusals[at] === undefined && waiters[at]?.fate !== 'void'
    visit.reports.forEach(({ account }, at) => {
      const purse = keptOf(account)
      const kept = reply.owed?.[at] ?? NO_UNITS
      const takeBack = (kind: 'requests' | 'tokens'): number => {
        const owed = Math.max(purse.owed[kind], 0)
        const here = Math.min(owed, Math.max(kept[kind], 0))
        purse.owed = { ...purse.owed, [kind]: purse.owed[kind] - here }
        // What has leaked meanwhile is nobody's any more.
        const gone = Math.max(purse.leaked[kind] - (leaked[at]?.[kind] ?? 0), 0)
        return Math.max(Math.floor(kept[kind] - here - gone), 0)
      }
      let units: Units = { requests: -takeBack('requests'), tokens: -takeBack('tokens'), micros: 0 }
      visit.claims.forEach((parts, i) => {
        const sign = Number(isLetIn(i)) - Number(late.refusals[i] === undefined)
        for (const part of parts) {
          if (sign === 0 || part.at !== at) continue
          units = sum(units, { requests: sign * part.requests, tokens: sign * part.tokens, micros: 0 })
        }
      })
      if (isNothing(units)) return
      move(purse, units, late.nowUs)
      soil(purse, isBusy(purse, terms) ? 'later' : 'soon')
    })
    for (const [i, waiter] of waiters.entries()) if (isLetIn(i)) waiter.fate = 'told'
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

  // --- the sweep -------------------------------------------------------------------------------------------------

  function sweepLater(): void {
    if (cancelSweep !== undefined || terms.closing) return
    cancelSweep = timers.after(SWEEP_MS, sweep)
  }

  /** Looks at the lively ones each time, and at all others in a round of a second. */
  function sweep(): void {
    cancelSweep = undefined
    const nowMs = clock.now()
    for (const purse of lively) {
      if (tend(purse, nowMs)) soil(purse, 'soon')
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
      const purse = next.value
      const { group } = purse
      if (tend(purse, nowMs)) soil(purse, 'soon')
      if (!group.visiting && group.waiting.length === 0 && isIdle(purse, nowMs)) forget(purse)
    }
    if (purses.size > 0) sweepLater()
  }

  function forget(purse: Purse): void {
    const { account, group } = purse
    const spent = spentOf(purse, purse.toldMs)
    if (spent !== undefined) {
      lastSpent.delete(account.key)
      lastSpent.set(account.key, { ...spent, toldMs: purse.toldMs })
      const [longest] = lastSpent.size > MOST_SPENT ? lastSpent.keys() : []
      if (longest !== undefined) lastSpent.delete(longest)
    }
    purses.delete(account.key)
    group.purses.delete(account.key)
    if (group.purses.size === 0 && !group.visiting) groups.delete(group.tag)
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
            {
              ask,
              rate: purse.account.tokens,
              levels: settlement.grant.levels[i],
              sharedBy: purse.sharedBy,
            },
            nowMs,
          )
          const moves = !isNothing(moved)
          if (moves) move(purse, moved, settlement.grant.nowUs)
          const slotIsFree = account.concurrency !== undefined && !freeSlot(purse, nowMs)
          if (moves || slotIsFree) soil(purse, isBusy(purse, terms) ? 'later' : 'soon')
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

    spent() {
      const nowMs = clock.now()
      const known: Spent[] = []
      for (const [key, { toldMs, ...spent }] of lastSpent) {
        if (!purses.has(key)) known.push({ ...spent, nowUs: spent.toldUs + (nowMs - toldMs) * 1000 })
      }
      for (const purse of purses.values()) {
        const spent = spentOf(purse, nowMs)
        if (spent !== undefined) known.push(spent)
      }
      return known
    },

    async close() {
      terms.closing = true
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

/** Undefined where there is no budget of an agent, or the ledgers did not tell. */
function spentOf(purse: Purse, nowMs: number): Spent | undefined {
  const { account, standing, toldBy, toldUs } = purse
  if (account.subject.kind !== 'agent' || account.budget === undefined) return undefined
  if (standing === undefined || toldBy !== 'ledgers') return undefined
  return {
    agent: account.subject.id,
    micros: standing.spentMicros,
    toldUs,
    nowUs: toLedgerUs(purse, nowMs),
  }
}
