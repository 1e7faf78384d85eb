// The ledgers in Redis, on the clock of Redis: the visits of a turn in one EVALSHA, in a cluster one for each tag. It
// says so when it cannot decide; what happens then is outage.ts's.

import type { RedisServers } from '../config/redis-servers.ts'
import { PREFIX } from './account.ts'
import { createRedisClient, RedisCallError } from './client.ts'
import type { Answer, Visit } from './ledger.ts'
import { type Call, readAnswers, readScripts, type Script, toCall } from './script.ts'
import type { Log, Timers } from './store.ts'

/** Redis could not decide. `unsure`: it may have done what was asked of it. */
export class StoreFailure extends Error {
  override readonly name = 'StoreFailure'
  readonly reason: 'disconnected' | 'timeout' | 'error'
  readonly unsure: boolean

  /** Only these ledgers fail; the others are as ever. */
  readonly alone: boolean
  /** What was decided after all, once that is known; undefined when it will never be. Never rejects. */
  late: Promise<Answer | undefined> | undefined

  constructor(reason: StoreFailure['reason'], message: string, unsure: boolean, alone = false) {
    super(message)
    this.reason = reason
    this.unsure = unsure
    this.alone = alone
  }
}

export interface RedisLedgers {
  /** An answer or a failure for each, within `timeoutMs`; at once while there is no connection. Never rejects. */
  visit(visits: readonly Visit[], fleet: number): Promise<readonly (Answer | StoreFailure)[]>
  /** Says that this replica lives, and tells how many do. Writes, so what would fail a decision fails it. @throws StoreFailure */
  heartbeat(): Promise<number>
  /** Starts connecting, then reconnects for ever. True when connected; false when not within a second. Never rejects. */
  connect(): Promise<boolean>
  /** Calls when a connection became usable (true) or was lost (false). */
  onConnection(listener: (usable: boolean) => void): void
  /** Times something was sent and answered for, heartbeats included (`sluice_redis_round_trips_total`). */
  readonly trips: number
  /** Leaves the fleet, and lets go. */
  close(): Promise<void>
}

export interface RedisLedgersOptions {
  readonly servers: RedisServers
  /** Unique over the fleet and over restarts; letters, digits, `-`. */
  readonly replica: string
  readonly timers: Timers
  readonly log: Log
  /** 0..1, for the jitter of reconnects. */
  readonly random: () => number
  /** Longest wait for a decision. */
  readonly timeoutMs?: number | undefined
}

/** Visits in one script call: it holds up Redis for about 10 µs each. */
const VISITS_PER_CALL = 64
/** How long `close` waits for its last word. */
const LAST_WORDS_MS = 250
/** Errors that are not about one key. */
const OF_REDIS =
  /^-?(READONLY|OOM|MISCONF|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|NOPERM|BUSY)\b|can't run this command|OOM/
const FLEET_KEY = `${PREFIX}:fleet`

/** Makes the client; nothing is sent before `connect`. */
export function createRedisLedgers(options: RedisLedgersOptions): RedisLedgers {
  const { servers, timers, log, random, replica, timeoutMs = 50 } = options
  const scripts = readScripts()
  const client = createRedisClient(servers, { timers, log, random, scripts: Object.values(scripts) })
  // The ledgers of a tag lie together; those of two tags may be on two nodes.
  const visitsPerCall = servers.kind === 'cluster' ? 1 : VISITS_PER_CALL
  let closed = false

  /**
   * Gives `answer` `timeoutMs`, then one more look at the sockets: timers run before input is read, so after a
   * stall of our own the time is up although the reply lies in the socket.
   */
  function within<T>(answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      let settled = false
      const cancel = timers.after(timeoutMs, () => {
        timers.soon(() => {
          if (settled) return
          settled = true
          reject(new StoreFailure('timeout', `Redis did not answer within ${timeoutMs} ms.`, true))
        })
      })
      answer.then(
        (reply) => {
          settled = true
          cancel()
          resolve(reply)
        },
        (error: unknown) => {
          settled = true
          cancel()
          reject(toFailure(error))
        },
      )
    })
  }

  function call(script: Script, what: Call): Promise<unknown> {
    if (!client.ready)
      return Promise.reject(new StoreFailure('disconnected', 'Redis is not connected.', false))
    return within(client.run(script, what))
  }

  async function visitSome(
    visits: readonly Visit[],
    fleet: number,
  ): Promise<readonly (Answer | StoreFailure)[]> {
    let running: Promise<unknown> | undefined
    try {
      if (!client.ready) throw new StoreFailure('disconnected', 'Redis is not connected.', false)
      running = client.run(scripts.visit, toCall(visits, { replica, fleet }))
      const answers = readAnswers(visits, await within(running))
      return answers.map((answer) =>
        'failed' in answer
          ? new StoreFailure('error', answer.failed, answer.unsure, !OF_REDIS.test(answer.failed))
          : answer,
      )
    } catch (error) {
      const failure = toFailure(error)
      if (failure.reason !== 'timeout' || running === undefined) return visits.map(() => failure)
      // It goes on in Redis all the same; its answer may still come, on the connection that it went by.
      const late = running.then((reply) => readAnswers(visits, reply)).catch(() => undefined)
      return visits.map((_, i) => {
        const one = new StoreFailure(failure.reason, failure.message, failure.unsure)
        one.late = late.then((answers) => {
          const answer = answers?.[i]
          return answer === undefined || 'failed' in answer ? undefined : answer
        })
        return one
      })
    }
  }

  return {
    async visit(visits, fleet) {
      const calls: Promise<readonly (Answer | StoreFailure)[]>[] = []
      for (let at = 0; at < visits.length; at += visitsPerCall)
        calls.push(visitSome(visits.slice(at, at + visitsPerCall), fleet))
      return (await Promise.all(calls)).flat()
    },

    async heartbeat() {
      const count = Number(await call(scripts.fleet, { keys: [FLEET_KEY], args: [replica] }))
      return Number.isSafeInteger(count) && count > 0 ? count : 1
    },

    connect: () => client.connect(),
    onConnection: (listener) => client.onConnection(listener),

    get trips() {
      return client.trips
    },

    async close() {
      if (closed) return
      closed = true
      if (client.ready) {
        const left = client
          .run(scripts.fleet, { keys: [FLEET_KEY], args: [replica, 'leave'] })
          .catch(() => {})
        await new Promise<void>((resolve) => {
          const cancel = timers.after(LAST_WORDS_MS, resolve)
          void left.then(() => {
            cancel()
            resolve()
          })
        })
      }
      client.close()
    },
  }
}

/** An error reply to a whole call says that none of it ran; anything else leaves it open. */
function toFailure(error: unknown): StoreFailure {
  if (error instanceof StoreFailure) return error
  const message = error instanceof Error ? error.message : String(error)
  const replied = error instanceof RedisCallError && error.replied
  return new StoreFailure(replied ? 'error' : 'disconnected', message, !replied)
}
