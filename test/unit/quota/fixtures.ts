// Values for the tests of quota: a clock that is moved by hand, subjects, claims.

import { createAccounts, toAccount } from '../../../src/quota/account.ts'
import { createLeaseStore, type LeaseStore } from '../../../src/quota/leases.ts'
import { NO_UNITS, type Report } from '../../../src/quota/ledger.ts'
import {
  createMemoryAuthority,
  type MemoryAuthority,
  type MemoryAuthorityOptions,
} from '../../../src/quota/memory.ts'
import { type Account, type Claim, type Granted, systemTimers } from '../../../src/quota/store.ts'
import type {
  Caller,
  Clock,
  Decision,
  Limits,
  ModelRequest,
  Rate,
  Subject,
  Usage,
} from '../../../src/types.ts'

export interface ManualClock extends Clock {
  advance(ms: number): void
}

export function manualClock(startMs = 1_000): ManualClock {
  let nowMs = startMs
  return {
    now: () => nowMs,
    wall: () => nowMs,
    advance: (ms) => {
      nowMs += ms
    },
  }
}

/** Of a replica that has nothing to say of an account but `over`. */
export function idleReport(account: Account, over: Partial<Report> = {}): Report {
  return {
    account,
    moved: NO_UNITS,
    movedStartUs: 0,
    returned: NO_UNITS,
    owed: NO_UNITS,
    slots: 0,
    ahead: NO_UNITS,
    doubtSince: 0,
    ...over,
  }
}

export const perSecond = (units: number, capacity = units): Rate => ({ capacity, intervalUs: 1e6 / units })
export const perMinute = (units: number, capacity = units): Rate => ({ capacity, intervalUs: 60e6 / units })

export function limits(some: Partial<Limits>): Limits {
  return { strict: false, ...some }
}

export function agentSubject(id: string, some: Partial<Limits>): Subject {
  return { kind: 'agent', id, tag: id, limits: limits(some) }
}

let claims = 0
const accounts = createAccounts()

/** A claim of one request and `tokens` tokens on each subject; the same subject object is the same account. */
export function claimOn(subjects: readonly Subject[], tokens = 0): Claim {
  claims++
  return {
    id: `h${process.pid}-${claims}`,
    asks: subjects.map((subject) => ({
      account: accounts.of(subject) ?? toAccount(subject),
      requests: 1,
      tokens,
      micros: 0,
    })),
  }
}

export function caller(agentLimits: Partial<Limits>, bearerLimits?: Partial<Limits>): Caller {
  const subjects: Subject[] = [agentSubject('data-analyzer', agentLimits)]
  if (bearerLimits !== undefined)
    subjects.push({ kind: 'bearer', id: 'laptop', tag: 'data-analyzer', limits: limits(bearerLimits) })
  return {
    agent: {
      name: 'data-analyzer',
      role: undefined,
      class: 'normal',
      scopes: [],
      deny: [],
      limits: limits(agentLimits),
      deadlineMs: undefined,
      maxOutputTokens: undefined,
    },
    bearer: {
      id: 'laptop',
      agent: 'data-analyzer',
      sha256: '0'.repeat(64),
      expiresMs: undefined,
      limits: limits(bearerLimits ?? {}),
    },
    subjects,
  }
}

export function modelRequest(some: Partial<ModelRequest> = {}): ModelRequest {
  return {
    endpoint: {
      method: 'POST',
      path: '/chat/completions',
      operation: 'chat',
      format: 'openai',
      streams: true,
    },
    model: 'gpt-oss-120b',
    stream: false,
    includeUsage: false,
    maxOutputTokens: 100,
    choices: 1,
    plainText: true,
    textBytes: 300,
    images: 0,
    cacheKey: undefined,
    body: undefined,
    letGo: () => {},
    spans: new Map(),
    restrictedFields: [],
    forwarded: [],
    ...some,
  }
}

export function allowed(maxOutputTokens?: number): Decision {
  return {
    allow: true,
    code: 'allowed',
    matched: 'chat:*',
    obligations: { deadlineMs: undefined, maxOutputTokens, pricedOnly: false, class: 'normal' },
  }
}

export function usage(inputTokens: number, outputTokens: number): Usage {
  return {
    inputTokens,
    cachedTokens: 0,
    outputTokens,
    reasoningTokens: 0,
    cacheWriteTokens: 0,
    audioInputTokens: 0,
    audioOutputTokens: 0,
    source: 'provider',
  }
}

/** A store over ledgers in this process: what a gateway without Redis has. */
export function memoryStore(options: Omit<MemoryAuthorityOptions, 'replica'>): LeaseStore & {
  readonly authority: MemoryAuthority
} {
  const authority = createMemoryAuthority(options)
  const store = createLeaseStore({ authority, clock: options.clock, timers: systemTimers, leases: false })
  return { ...store, authority }
}

/** A grant of which everything may come back: the bucket held it all the time. */
export function sureGrant({ asks }: Claim, nowUs = 0): Granted {
  const levels = asks.map(() => ({ requests: Infinity, tokens: Infinity, sharedBy: 1 }))
  return { ok: true, origin: 'store', nowUs, atMs: Infinity, levels, unsure: [] }
}
