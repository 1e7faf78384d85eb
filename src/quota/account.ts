// Turns a subject with limits into the account a store works on: a key that nothing can break out of, exact rates.
// Kept per Subject object, so a reload with new limits makes new accounts over the same keys and state.

import { hasLimits } from '../config/limits.ts'
import type { Rate, Subject } from '../types.ts'
import { exact } from './bucket.ts'
import type { Account } from './store.ts'

/** All keys start so; the number changes when their content does (reliability §1.3). */
export const PREFIX = 'slc:1'

export interface Accounts {
  /** The account of a subject; undefined when it has no limit at all, and then it costs nothing. */
  of(subject: Subject): Account | undefined
}

/** Remembers accounts for as long as somebody holds their subjects. */
export function createAccounts(): Accounts {
  const known = new WeakMap<Subject, Account>()
  return {
    of(subject) {
      if (!hasLimits(subject.limits)) return undefined
      const before = known.get(subject)
      if (before !== undefined) return before
      const account = toAccount(subject)
      known.set(subject, account)
      return account
    },
  }
}

/** Names the state of a subject and puts its rates on their grid. */
export function toAccount(subject: Subject): Account {
  const { requests, tokens, concurrency, budget, strict } = subject.limits
  return {
    subject,
    key: `${PREFIX}:{${encode(subject.tag)}}:b:${subject.kind}:${encode(subject.id)}`,
    requests: exactly(requests),
    tokens: exactly(tokens),
    concurrency,
    budget,
    strict,
  }
}

/** Of one agent alone, not shared by those who use a route, a provider or the gateway. */
export function isOwn({ kind }: Subject): boolean {
  return kind === 'agent' || kind === 'bearer'
}

/** The share of one replica out of `replicas`: the same depth in time, so a TAT means the same in both. */
export function toShare(account: Account, replicas: number): Account {
  const share = (rate: Rate | undefined): Rate | undefined =>
    rate &&
    exact({
      capacity: Math.max(1, Math.floor(rate.capacity / replicas)),
      intervalUs: rate.intervalUs * replicas,
    })
  const { requests, tokens, concurrency } = account
  return {
    ...account,
    requests: share(requests),
    tokens: share(tokens),
    // A limit of 0 stays 0: that is a subject that may not run at all.
    concurrency: concurrency && Math.max(1, Math.floor(concurrency / replicas)),
  }
}

function exactly(rate: Rate | undefined): Rate | undefined {
  return rate === undefined ? undefined : exact(rate)
}

/**
 * Percent-encodes everything but letters, digits and `._-`: a route may be called `}*{ :` and must neither end the
 * hash tag nor look like the key of another. Different names stay different.
 */
function encode(name: string): string {
  return name.replace(/[^A-Za-z0-9._-]/gu, (character) =>
    [...Buffer.from(character)]
      .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
      .join(''),
  )
}
