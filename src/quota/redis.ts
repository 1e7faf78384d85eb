// The ledgers in Redis: one EVALSHA for the visits of a turn, on the clock of Redis. It says so when it cannot decide;
// what happens then is outage.ts's. It never logs a URL: there may be a password in it.

import { Redis } from 'ioredis'
import { PREFIX } from './account.ts'
import type { Answer, Visit } from './ledger.ts'
import { type Call, readAnswers, readScripts, type Script, toCall } from './script.ts'
import type { Log, Timers } from './store.ts'

/** Redis could not decide. `unsure`: it may have done what was asked of it. */
export class StoreFailure extends Error {
  override readonly name = 'StoreFailure'
  readonly reason: 'disconnected' | 'timeout' | 'error'
  readonly unsure: boolean

  constructor(reason: StoreFailure['reason'], message: string, unsure: boolean, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.reason = reason
    this.unsure = unsure
  }
}

export interface RedisLedgers {
  /** @throws StoreFailure (as a rejection) within `timeoutMs`, at once while there is no connection */
  visit(visits: readonly Visit[], fleet: number): Promise<readonly Answer[]>
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
  /** `redis://` or `rediss://`, with user, password and database number if need be. */
  readonly url: string
  /** Unique over the fleet and over restarts; letters, digits, `-`. */
  readonly replica: string
  readonly timers: Timers
  readonly log: Log
  /** 0..1, for the jitter of reconnects. */
  readonly random: () => number
  /** Longest wait for a decision. */
  readonly timeoutMs?: number | undefined
}

const CONNECT_MS = 1_000
/** Visits in one script call: it holds up Redis for about 10 µs each. */
const VISITS_PER_CALL = 64
/** How long `close` waits for its last word. */
const LAST_WORDS_MS = 250
const FLEET_KEY = `${PREFIX}:fleet`

/** Makes the client; nothing is sent before `connect`. */
export function createRedisLedgers(options: RedisLedgersOptions): RedisLedgers {
  const { timers, log, random, replica, timeoutMs = 50 } = options
  const scripts = readScripts()
  const client = new Redis(options.url, {
    lazyConnect: true,
    connectionName: 'sluice',
    disableClientInfo: true,
    // A lost reply must not make a command run twice, and no request waits for a connection (reliability §1.4).
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    connectTimeout: CONNECT_MS,
    disconnectTimeout: CONNECT_MS,
    // A decision has `timeoutMs`, but from `within` below: the client's own timer fires before the reply is read
    // when our event loop stood still. These two only free what a black hole holds: an unanswered handshake, and
    // a connection on which nothing comes back any more.
    commandTimeout: 2_000,
    socketTimeout: 2_000,
    reconnectOnError: (error) => error.message.includes('READONLY'),
    retryStrategy: (times) => jittered(Math.min(25 * 2 ** Math.min(times, 10), 500)),
  })

  let closed = false
  let listener: (usable: boolean) => void = () => {}
  let trips = 0
  let complained = false

  client.on('ready', () => {
    complained = false
    // Sent ahead of everything else on this connection, so that the first decision needs no second trip.
    trips++
    for (const { lua } of [scripts.visit, scripts.fleet]) client.script('LOAD', lua).catch(() => {})
    listener(true)
  })
  client.on('close', () => listener(false))
  client.on('error', (error: Error) => {
    // One line per outage. Only the message: the client hangs the failed command, AUTH included, on the error.
    if (complained || closed) return
    complained = true
    log.warn({ reason: error.message }, 'redis connection failed')
  })
  client.on('end', () => {
    // The client gives up in a few states; an outage must end by itself all the same.
    if (!closed) timers.after(jittered(500), () => client.connect().catch(() => {}))
  })

  function jittered(delayMs: number): number {
    return delayMs * (0.8 + 0.4 * random())
  }

  /** EVALSHA, and EVAL with the text when Redis does not know it: after a restart, a failover, SCRIPT FLUSH. */
  async function run(script: Script, { keys, args }: Call): Promise<unknown> {
    trips++
    try {
      return await client.evalsha(script.sha, keys.length, ...keys, ...args)
    } catch (error) {
      if (!isNoScript(error)) throw error
      trips++
      return await client.eval(script.lua, keys.length, ...keys, ...args)
    }
  }

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
    if (client.status !== 'ready')
      return Promise.reject(new StoreFailure('disconnected', 'Redis is not connected.', false))
    return within(run(script, what))
  }

  return {
    async visit(visits, fleet) {
      const calls: Promise<Answer[]>[] = []
      for (let at = 0; at < visits.length; at += VISITS_PER_CALL) {
        const some = visits.slice(at, at + VISITS_PER_CALL)
        calls.push(
          call(scripts.visit, toCall(some, { replica, fleet })).then((reply) => readAnswers(some, reply)),
        )
      }
      return (await Promise.all(calls)).flat()
    },

    async heartbeat() {
      const count = Number(await call(scripts.fleet, { keys: [FLEET_KEY], args: [replica] }))
      return Number.isSafeInteger(count) && count > 0 ? count : 1
    },

    connect() {
      return new Promise((resolve) => {
        const cancel = timers.after(CONNECT_MS, () => resolve(false))
        const done = (connected: boolean): void => {
          cancel()
          resolve(connected)
        }
        client.connect().then(
          () => done(true),
          () => done(false),
        )
      })
    },

    onConnection(call) {
      listener = call
    },

    get trips() {
      return trips
    },

    async close() {
      if (closed) return
      closed = true
      if (client.status === 'ready') {
        const left = run(scripts.fleet, { keys: [FLEET_KEY], args: [replica, 'leave'] }).catch(() => {})
        await new Promise<void>((resolve) => {
          const cancel = timers.after(LAST_WORDS_MS, resolve)
          void left.then(() => {
            cancel()
            resolve()
          })
        })
      }
      client.disconnect()
    },
  }
}

function isNoScript(error: unknown): boolean {
  return error instanceof Error && error.message.includes('NOSCRIPT')
}

/** An error reply says that the script took nothing; anything else leaves it open. */
function toFailure(error: unknown): StoreFailure {
  const replied = error instanceof Error && error.name === 'ReplyError'
  const message = error instanceof Error ? error.message : String(error)
  // Not the error itself as the cause: the client hangs the command with all its arguments on it.
  return new StoreFailure(replied ? 'error' : 'disconnected', message, !replied)
}
