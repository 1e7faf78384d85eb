// Revocations over all replicas, through Redis: what this one revokes is written down and pushed; what others have
// written is read when they push, and once a second in case a push was lost. Knows digests only, never a bearer.

import { readFileSync } from 'node:fs'
import { type Change, MOST_REVOKED, type Revocations } from './revocations.ts'

export interface SharedRevocations {
  /** Connects and reads what there is; goes on trying when Redis is away. Settles within a second, never rejects. */
  start(): Promise<void>
  /** Tells what has not been told yet, if that is possible at once, and lets go of the connections. */
  close(): Promise<void>
}

/** The part of the client of Redis that is used (quota/client.ts). */
export interface RedisLink {
  /** Whether commands are sent; else they fail at once. */
  readonly ready: boolean
  connect(): Promise<boolean>
  onConnection(listener: (ready: boolean) => void): void
  /** @throws (as a rejection) an Error without secrets */
  command(name: string, ...args: readonly (string | number)[]): Promise<unknown>
  subscribe(
    channel: string,
    subscriber: { message(): void; active(): void; refused(reason: string): void },
  ): () => void
  close(): void
}

interface Deps {
  /** Not yet connected; nobody else listens to its connection. */
  readonly redis: RedisLink
  readonly revocations: Revocations
  readonly clock: { wall(): number }
  readonly timers: { set(ms: number, run: () => void): unknown; clear(handle: unknown): void }
  /** 0..1, for jitter. */
  readonly random: () => number
  readonly log: Record<'info' | 'warn', (fields: Readonly<Record<string, unknown>>, message: string) => void>
}

/** Sorted set and channel. */
export const REVOKED_KEY = 'slc:1:revoked'
/** ± 20 %: whatever was missed is known within a second. */
const POLL_MS = 750
/** How long a revocation is kept; by then every file has followed it. */
const KEPT_MS = 30 * 86_400_000
/** Entries in one command; it holds up Redis for about a millisecond. */
const PAGE = 1000
const START_MS = 1000
const LAST_WORDS_MS = 250

export function createSharedRevocations(deps: Deps): SharedRevocations {
  const { redis, revocations, clock, timers, random, log } = deps
  const script = readFileSync(new URL('./revoke.lua', import.meta.url), 'utf8')
  /** What is to be told: true for revoked, false for given back. The last word on a digest counts. */
  const untold = new Map<string, boolean>()
  /** Score of the newest entry read; 0 reads all. */
  let newest = 0
  let pushes = 0
  /** Set when a poll found something new: if no push has come by the next poll, the subscription is dead. */
  let unpushed: number | undefined
  let exchanging: Promise<void> | undefined
  let again = false
  /** An outage, and a subscription that is not allowed, are said once. */
  let complained = false
  let refused = false
  let timer: unknown
  let unsubscribe = (): void => {}
  /** The subscription stands, as far as is known. */
  let isActive = false

  revocations.onChange((changes) => {
    for (const { sha256, revoked } of changes) note(sha256, revoked)
    void exchange()
  })
  redis.onConnection((ready) => {
    if (ready) void exchange()
    else complain('the connection was lost')
  })

  function subscribe(): void {
    isActive = false
    unsubscribe()
    unsubscribe = redis.subscribe(REVOKED_KEY, {
      message() {
        pushes += 1
        void exchange()
      },
      active() {
        isActive = true
        // What was pushed while there was no subscription is read as soon as there is one.
        void exchange()
      },
      refused(reason) {
        isActive = false
        if (refused) return
        refused = true
        log.warn({ reason }, 'revocations are not pushed, only polled')
      },
    })
  }

  function note(sha256: string, revoked: boolean): void {
    untold.delete(sha256)
    untold.set(sha256, revoked)
    if (untold.size <= MOST_REVOKED) return
    const [oldest] = untold.keys()
    if (oldest !== undefined) untold.delete(oldest)
  }

  /** One line per outage. */
  function complain(error: unknown): void {
    if (complained) return
    complained = true
    log.warn({ reason: messageOf(error) }, 'revocations are not shared')
  }

  /** Tells and reads. One at a time; who asks meanwhile gets another one behind it. Never rejects. */
  function exchange(): Promise<void> {
    if (exchanging !== undefined) {
      again = true
      return exchanging
    }
    exchanging = exchangeNow()
      .catch(complain)
      .finally(() => {
        exchanging = undefined
        if (!again) return
        again = false
        void exchange()
      })
    return exchanging
  }

  async function exchangeNow(): Promise<void> {
    if (!redis.ready) return
    do {
      // Who cannot write still reads.
      await tell().finally(read)
    } while (untold.size > 0)
    if (complained) log.info({}, 'revocations are shared again')
    complained = false
  }

  /** What is not known to have arrived is told again: a second time changes nothing. */
  async function tell(): Promise<void> {
    while (untold.size > 0) {
      const told = [...untold].slice(0, PAGE)
      const members = told.map(([sha256, revoked]) => (revoked ? sha256 : `-${sha256}`))
      await redis.command('EVAL', script, 1, REVOKED_KEY, KEPT_MS, MOST_REVOKED, REVOKED_KEY, ...members)
      for (const [sha256, revoked] of told) if (untold.get(sha256) === revoked) untold.delete(sha256)
    }
  }

  async function read(): Promise<void> {
    let all = newest === 0 ? new Set<string>() : undefined
    for (;;) {
      const reply = await redis.command(
        'ZRANGEBYSCORE',
        ...[REVOKED_KEY, newest, '+inf', 'WITHSCORES', 'LIMIT', 0, PAGE],
      )
      const entries = toChanges(reply)
      if (newest > 0 && entries[0]?.atMs !== newest) {
        // The newest entry is gone: given back or, with all others, lost by Redis. Read from the start.
        newest = 0
        all = new Set()
        continue
      }
      const news = newest === 0 ? entries : entries.slice(1)
      // What is still to be told is newer than what is written.
      revocations.learn(news.filter(({ sha256 }) => !untold.has(sha256)))
      for (const { sha256 } of news) all?.add(sha256)
      newest = entries.at(-1)?.atMs ?? newest
      if (entries.length < PAGE) break
    }
    if (all === undefined) return
    for (const [sha256, atMs] of revocations.known) {
      if (!all.has(sha256) && clock.wall() - atMs < KEPT_MS) note(sha256, true)
    }
  }

  function poll(): void {
    timer = timers.set(POLL_MS * (0.8 + 0.4 * random()), () => {
      poll()
      if (unpushed === pushes && isActive) subscribe()
      unpushed = undefined
      const [newestBefore, pushesBefore] = [newest, pushes]
      void exchange().then(() => {
        if (newest > newestBefore && pushes === pushesBefore) unpushed = pushes
      })
    })
  }

  /** Waits for `work`, but not for longer. */
  function within(ms: number, work: Promise<unknown>): Promise<void> {
    return new Promise((resolve) => {
      const handle = timers.set(ms, resolve)
      void work
        .catch(() => {})
        .then(() => {
          timers.clear(handle)
          resolve()
        })
    })
  }

  return {
    start() {
      poll()
      subscribe()
      return within(START_MS, redis.connect().then(exchange))
    },
    async close() {
      timers.clear(timer)
      if (untold.size > 0) await within(LAST_WORDS_MS, exchange())
      complained = true // what the end of the connections sets off is no outage
      unsubscribe()
      redis.close()
    },
  }
}

/** Only the message: the client hangs the failed command, AUTH included, on the error. */
function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Members and scores in turn, or in pairs, as RESP3 has them. */
function toChanges(reply: unknown): Change[] {
  if (!Array.isArray(reply)) throw new TypeError('the list of revocations is not a list')
  const flat: unknown[] = reply.flat()
  const changes: Change[] = []
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const member = String(flat[i])
    const revoked = !member.startsWith('-')
    changes.push({ sha256: revoked ? member : member.slice(1), revoked, atMs: Number(flat[i + 1]) })
  }
  return changes
}
