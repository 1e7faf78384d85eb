// The two scripts and their wire: claims and settlements to keys and arguments, replies to grants. No socket here.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Rate } from '../types.ts'
import type { Claim, Granted, Levels, Refused, Settlement } from './store.ts'

export interface Script {
  readonly lua: string
  /** SHA-1 of the text, as EVALSHA wants it. */
  readonly sha: string
}

export interface Scripts {
  /** bucket.lua */
  readonly take: Script
  /** settle.lua */
  readonly settle: Script
}

/** One call of a script: `EVALSHA sha keys.length ...keys ...args`. */
export interface Call {
  readonly keys: string[]
  readonly args: (string | number)[]
}

/** Reads the scripts from the files beside this one; once, at start. */
export function readScripts(): Scripts {
  return { take: read('bucket.lua'), settle: read('settle.lua') }
}

function read(name: string): Script {
  const lua = readFileSync(new URL(`./${name}`, import.meta.url), 'utf8')
  return { lua, sha: createHash('sha1').update(lua).digest('hex') }
}

/** The clock of Redis; the only time production ever sends. */
const REDIS_TIME = 0

/** A claim as a call of bucket.lua. `nowUs` is for the model test alone. */
export function toTakeCall(claim: Claim, nowUs: number = REDIS_TIME): Call {
  const keys: string[] = []
  const rates: (string | number)[] = []
  for (const { account, requests, tokens } of claim.asks) {
    if (account.requests === undefined && account.tokens === undefined) continue
    keys.push(account.bucketKey)
    pushRate(rates, account.requests, requests)
    pushRate(rates, account.tokens, tokens)
  }
  const args = [nowUs, claim.id, claim.slotMs, keys.length, ...rates]
  for (const { account } of claim.asks) {
    if (account.concurrency === undefined) continue
    keys.push(account.slotKey)
    args.push(account.concurrency)
  }
  return { keys, args }
}

function pushRate(args: (string | number)[], rate: Rate | undefined, cost: number): void {
  if (rate === undefined) args.push('', '', '')
  else args.push(rate.capacity, rate.intervalUs, cost)
}

/**
 * What bucket.lua answered to a claim.
 * @throws Error when it is nothing that bucket.lua answers
 */
export function readTakeReply(claim: Claim, reply: unknown): Granted | Refused {
  if (!Array.isArray(reply)) throw new Error('bucket.lua answered no list')
  const values: readonly unknown[] = reply
  const ok = values[0] === 1
  const levels: Levels[] = []
  let at = ok ? 2 : 5
  for (const { account } of claim.asks) {
    if (account.requests === undefined && account.tokens === undefined) {
      levels.push(UNLIMITED)
      continue
    }
    levels.push({ requests: toLevel(values[at]), tokens: toLevel(values[at + 1]) })
    at += 2
  }
  if (at !== values.length) throw new Error('bucket.lua answered a list of another length')
  if (ok) return { ok: true, origin: 'store', nowUs: Number(values[1]), levels }

  const hashes = claim.asks.filter(
    ({ account }) => account.requests !== undefined || account.tokens !== undefined,
  )
  const sets = claim.asks.filter(({ account }) => account.concurrency !== undefined)
  const ask = [...hashes, ...sets][Number(values[2]) - 1]
  const kind = (['requests', 'tokens', 'concurrency'] as const)[Number(values[3]) - 1]
  if (ask === undefined || kind === undefined) throw new Error('bucket.lua refused for an unknown key')
  return { ok: false, kind, ask, waitUs: Number(values[4]), levels }
}

const UNLIMITED: Levels = { requests: undefined, tokens: undefined }

function toLevel(value: unknown): number | undefined {
  return value === '' ? undefined : Number(value)
}

/** Settlements as one call of settle.lua, in their order; undefined when they change nothing. */
export function toSettleCall(
  settlements: readonly Settlement[],
  nowUs: number = REDIS_TIME,
): Call | undefined {
  const keys: string[] = []
  const args: (string | number)[] = [nowUs]
  for (const { claim, usedTokens } of settlements) {
    for (const { account, tokens } of claim.asks) {
      if (account.tokens !== undefined && usedTokens !== undefined && usedTokens !== tokens) {
        keys.push(account.bucketKey)
        args.push('b', 0, 0, usedTokens - tokens, account.tokens.intervalUs)
      }
      if (account.concurrency !== undefined) {
        keys.push(account.slotKey)
        args.push('c', claim.id)
      }
    }
  }
  return keys.length === 0 ? undefined : { keys, args }
}
