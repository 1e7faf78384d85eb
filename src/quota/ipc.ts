// The ledgers of the workers of one gateway: kept by the primary in memory, visited by each worker over the channel
// between the two. That channel loses nothing and keeps the order, and a worker whose primary is gone ends, so there is
// no outage to bridge; a primary that is only slow keeps nobody waiting for long.

import { isObject } from '../bytes/json-value.ts'
import type { Answer, No, Report, Standing, Units, Visit, Visitor } from './ledger.ts'
import { sum } from './ledger.ts'
import type { MemoryAuthority } from './memory.ts'
import type { Account, Authority, Reply, Timers } from './store.ts'

export interface RemoteOptions {
  /** Takes a question to the primary, in order, and brings `answerVisits` of it. Rejects when the channel is closed. */
  readonly ask: (question: unknown) => Promise<unknown>
  readonly timers: Timers
}

/** Messages on their way; what comes meanwhile goes together in the next. */
const MESSAGES_AT_ONCE = 4
const VISITS_PER_MESSAGE = 256
/** Of one worker. There is one visit per agent, route or deployment at a time. */
const MOST_WAITING = 20_000
/** How long a claim waits for a primary that does not answer. */
const PATIENCE_MS = 1_000

/** A visit on its way, or waiting to be sent. */
interface Errand {
  readonly visit: Visit
  sent: boolean
  done: ((reply: Reply) => void) | undefined
  /** Takes the answer, if any, when nobody waits for it any more. */
  late: ((answer: Answer | undefined) => void) | undefined
}

/** The authority of a worker. */
export function createRemoteAuthority({ ask, timers }: RemoteOptions): Authority {
  const waiting: Errand[] = []
  let underWay = 0
  let due = false
  let fleet = 1
  /** Somebody has waited in vain, and no answer has come since: nobody else is to wait. */
  let silent = false

  function sendLater(): void {
    if (due) return
    due = true
    timers.soon(() => {
      due = false
      send()
    })
  }

  function send(): void {
    while (waiting.length > 0 && underWay < MESSAGES_AT_ONCE) {
      const errands = waiting.splice(0, VISITS_PER_MESSAGE).filter(({ done }) => done !== undefined)
      if (errands.length === 0) continue
      for (const errand of errands) errand.sent = true
      underWay += 1
      const over = (told: unknown): void => {
        underWay -= 1
        silent = false
        const answers = isTold(told) ? told.answers : []
        if (isTold(told)) fleet = told.fleet
        for (const [i, { done, late }] of errands.entries()) {
          const told = answers[i]
          const answer = told && fromWire(told)
          done?.(answer === undefined ? UNHEARD : { origin: 'store', answer, owed: undefined })
          late?.(answer)
        }
        if (waiting.length > 0) sendLater()
      }
      ask(errands.map(({ visit }) => toWire(visit))).then(over, over)
    }
  }

  /** Who waits no longer is told that nobody decided. */
  function giveUp(errands: readonly Errand[]): void {
    for (const errand of errands) {
      const { done, sent, visit } = errand
      errand.done = undefined
      if (done === undefined) continue
      if (!sent) {
        done(unsent(visit))
        continue
      }
      silent = true
      const late = new Promise<Answer | undefined>((resolve) => {
        errand.late = resolve
      })
      done({ ...UNHEARD, late })
    }
  }

  return {
    get fleet() {
      return fleet
    },
    get divisor() {
      return fleet
    },
    onReturn() {},

    visit(visits) {
      if (silent || waiting.length + visits.length > MOST_WAITING) return visits.map(unsent)
      const errands: Errand[] = []
      const replies = visits.map(
        (visit) =>
          new Promise<Reply>((resolve) => {
            const errand: Errand = {
              visit,
              sent: false,
              done: (reply) => {
                errand.done = undefined
                resolve(reply)
              },
              late: undefined,
            }
            errands.push(errand)
          }),
      )
      waiting.push(...errands)
      sendLater()
      const cancel = timers.after(PATIENCE_MS, () => giveUp(errands))
      return Promise.all(replies).finally(cancel)
    },

    async close() {},
  }
}

/** The primary's side: decides what a worker asked, and tells how many workers share the limits. */
export function answerVisits(authority: MemoryAuthority, question: unknown, visitor: Visitor): Told {
  const answers = isVisits(question)
    ? question.map((visit) => authority.visitOf(readVisit(visit), visitor))
    : []
  return { answers, fleet: visitor.fleet }
}

/** It was heard, or will be, but what was answered nobody knows yet: as if another visit had overtaken it. */
const UNHEARD: Reply = {
  origin: 'unsure',
  answer: { nowUs: 0, stale: true, standings: [], refusals: [] },
  owed: undefined,
}

/** It never left: nothing was decided, and all that was to be told still is. */
function unsent({ claims, reports }: Visit): Reply {
  const refusals = claims.map((parts): No => ({ at: parts[0]?.at ?? 0, kind: 'unavailable', waitUs: 0 }))
  const owed = reports.map((report): Units => sum(report.moved, report.owed))
  return { origin: 'local', answer: { nowUs: 0, stale: false, standings: [], refusals }, owed }
}

// --- the wire: JSON between two processes of one program ---------------------------------------------------------

/** Without the subject, which no ledger looks at. */
type WireVisit = Omit<Visit, 'reports'> & {
  readonly reports: readonly (Omit<Report, 'account'> & { readonly account: Omit<Account, 'subject'> })[]
}

/** JSON has null for what is granted. */
type WireAnswer = Omit<Answer, 'refusals'> & { readonly refusals: readonly (No | undefined | null)[] }

interface Told {
  readonly answers: readonly WireAnswer[]
  readonly fleet: number
}

function toWire({ generation, claims, reports }: Visit): WireVisit {
  return {
    generation,
    claims,
    reports: reports.map(({ account: { subject, ...account }, ...report }) => ({ ...report, account })),
  }
}

const NOBODY: Account['subject'] = { kind: 'gateway', id: '', tag: '', limits: { strict: false } }

function readVisit(visit: WireVisit): Visit {
  return {
    ...visit,
    reports: visit.reports.map((report) => ({ ...report, account: toAccount(report.account) })),
  }
}

/** What JSON left out is there again as undefined. */
function toAccount({ requests, tokens, concurrency, budget, ...rest }: Omit<Account, 'subject'>): Account {
  return { ...rest, requests, tokens, concurrency, budget, subject: NOBODY }
}

function fromWire(answer: WireAnswer): Answer {
  return {
    ...answer,
    refusals: answer.refusals.map((no) => no ?? undefined),
    standings: answer.standings.map(
      ({ requests, tokens, ...rest }): Standing => ({ ...rest, requests, tokens }),
    ),
  }
}

// Both ends are the same program, so the outer shape is proof enough.

function isVisits(value: unknown): value is readonly WireVisit[] {
  return Array.isArray(value) && value.every((one) => isObject(one) && Array.isArray(one.reports))
}

function isTold(value: unknown): value is Told {
  return isObject(value) && Array.isArray(value.answers) && typeof value.fleet === 'number'
}
