// The scripts and their wire: visits to keys and arguments, replies to answers. No socket here.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Rate } from '../types.ts'
import { type Answer, type No, type Standing, sum, type Visit, type Visitor } from './ledger.ts'
import type { Kind } from './store.ts'

export interface Script {
  readonly lua: string
  /** SHA-1 of the text, as EVALSHA wants it. */
  readonly sha: string
}

export interface Scripts {
  /** ledger.lua */
  readonly visit: Script
  /** fleet.lua */
  readonly fleet: Script
}

/** One call of a script: `EVALSHA sha keys.length ...keys ...args`. */
export interface Call {
  readonly keys: string[]
  readonly args: (string | number)[]
}

/** Reads the scripts from the files beside this one; once, at start. */
export function readScripts(): Scripts {
  return { visit: read('ledger.lua'), fleet: read('fleet.lua') }
}

function read(name: string): Script {
  const lua = readFileSync(new URL(`./${name}`, import.meta.url), 'utf8')
  return { lua, sha: createHash('sha1').update(lua).digest('hex') }
}

/** The clock of Redis; the only time production ever sends. */
const REDIS_TIME = 0

/** Visits as one call of ledger.lua. `nowUs` is for the model test alone. */
export function toCall(
  visits: readonly Visit[],
  { replica, fleet }: Visitor,
  nowUs: number = REDIS_TIME,
): Call {
  const keys: string[] = []
  const args: (string | number)[] = [nowUs, replica, fleet, visits.length]
  for (const { generation, reports, claims } of visits) {
    args.push(generation, reports.length, claims.length)
    for (const { account, moved, movedStartUs, returned, owed, slots, ahead, doubtSince } of reports) {
      keys.push(account.key)
      pushRate(args, account.requests)
      pushRate(args, account.tokens)
      const { requests, tokens, micros } = sum(moved, owed)
      args.push(account.concurrency ?? '', account.budget?.micros ?? '', account.budget?.period[0] ?? '')
      args.push(requests, tokens, micros, movedStartUs, returned.requests, returned.tokens, returned.micros)
      args.push(slots, ahead.requests, ahead.tokens, ahead.micros, doubtSince)
    }
    for (const claim of claims) {
      args.push(claim.length)
      for (const { at, requests, tokens, micros } of claim) args.push(at + 1, requests, tokens, micros)
    }
  }
  return { keys, args }
}

function pushRate(args: (string | number)[], rate: Rate | undefined): void {
  if (rate === undefined) args.push('', '')
  else args.push(rate.capacity, rate.intervalUs)
}

const KINDS: readonly Kind[] = ['requests', 'tokens', 'concurrency', 'budget']
const STANDING_VALUES = 9

/** A visit that failed although the script ran: its ledgers cannot be read or written. */
export interface Failed {
  readonly failed: string
  /** It may have been done in part. */
  readonly unsure: boolean
}

/**
 * What ledger.lua answered to visits.
 * @throws Error when it is nothing that ledger.lua answers
 */
export function readAnswers(visits: readonly Visit[], reply: unknown): (Answer | Failed)[] {
  const [now, ...answers] = list(reply)
  if (answers.length !== visits.length) throw new Error('ledger.lua answered another number of visits')
  const nowUs = Number(now)
  return visits.map(({ reports, claims }, i) => {
    const answer = list(answers[i])
    if (answer.length === 0) return { nowUs, stale: true, standings: [], refusals: [] }
    if (answer[0] === 'ERR') return { failed: String(answer[2]), unsure: answer[1] === 1 }
    const values = list(answer[0])
    const told = list(answer[1])
    if (values.length !== reports.length * STANDING_VALUES || told.length !== claims.length)
      throw new Error('ledger.lua answered a list of another length')
    return {
      nowUs,
      stale: false,
      standings: reports.map((_, r) => toStanding(values, r * STANDING_VALUES)),
      refusals: told.map(toRefusal),
    }
  })
}

function toStanding(values: readonly unknown[], at: number): Standing {
  return {
    requests: toLevel(values[at]),
    tokens: toLevel(values[at + 1]),
    spentMicros: Number(values[at + 2]),
    lease: {
      requests: Number(values[at + 3]),
      tokens: Number(values[at + 4]),
      micros: Number(values[at + 5]),
    },
    slots: Number(values[at + 6]),
    heard: { generation: Number(values[at + 7]), micros: Number(values[at + 8]) },
  }
}

function toRefusal(told: unknown): No | undefined {
  if (told === 0) return undefined
  const [place, kind, wait] = list(told)
  const name = KINDS[Number(kind) - 1]
  if (name === undefined) throw new Error('ledger.lua refused for an unknown reason')
  return { at: Number(place) - 1, kind: name, waitUs: Number(wait) }
}

function list(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new Error('ledger.lua answered no list')
  return value
}

function toLevel(value: unknown): number | undefined {
  return value === '' ? undefined : Number(value)
}
