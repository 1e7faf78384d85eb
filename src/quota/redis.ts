// The store in Redis: one EVALSHA per decision on the clock of Redis, settlements batched off the path. It says so
// when it cannot decide; what happens then is outage.ts's. It never logs a URL: there may be a password in it.

import type { RedisServers } from '../config/redis-servers.ts'
import { createRedisClient, RedisCallError } from './client.ts'
import { type Call, readScripts, readTakeReply, toSettleCall, toTakeCall } from './script.ts'
import type { Claim, Granted, Log, Refused, Settlement, Store, Timers } from './store.ts'

/** The store could not decide. `unsure`: it may have taken what was asked for. */
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

export interface RedisStore extends Store {
  /** @throws StoreFailure (as a rejection) within `timeoutMs`, at once while there is no connection */
  take(claim: Claim): Promise<Granted | Refused>
  /** Starts connecting, then reconnects for ever. True when connected; false when not within a second. Never rejects. */
  connect(): Promise<boolean>
  /** Calls when a connection became usable (true) or was lost (false). */
  onConnection(listener: (usable: boolean) => void): void
  counts(): RedisCounts
}

export interface RedisCounts {
  /** Times something was sent and answered for, batches and probes included (`sluice_redis_round_trips_total`). */
  readonly trips: number
  /** Settlements that may never have arrived: slots then end by their expiry, reservations stay charged. */
  readonly lostSettlements: number
}

export interface RedisStoreOptions {
  readonly servers: RedisServers
  readonly timers: Timers
  readonly log: Log
  /** 0..1, for the jitter of reconnects. */
  readonly random: () => number
  /** Longest wait for a decision. */
  readonly timeoutMs?: number | undefined
}

/** Settlements in one script call; a call holds up Redis for about 2 µs each. */
const SETTLED_PER_CALL = 64
/** Settlements kept while there is no connection; about 300 B each. */
const MOST_WAITING = 100_000
/** How long `close` waits for the last batch. */
const LAST_WORDS_MS = 250

/** Makes the store; nothing is sent before `connect`. */
export function createRedisStore(options: RedisStoreOptions): RedisStore {
  const { timers, log, random, timeoutMs = 50 } = options
  const scripts = readScripts()
  const client = createRedisClient(options.servers, {
    timers,
    log,
    random,
    scripts: [scripts.take, scripts.settle],
  })

  let closed = false
  let listener: (usable: boolean) => void = () => {}
  let waiting: Settlement[] = []
  let scheduled = false
  let lostSettlements = 0
  const batches = new Set<Promise<void>>()

  client.onConnection((usable) => {
    listener(usable)
    if (usable) flush()
  })

  /**
   * Gives `answer` `timeoutMs`, then one more look at the sockets: timers run before input is read, so after a
   * stall of our own the time is up although the reply lies in the socket.
   */
  function within(answer: Promise<unknown>): Promise<unknown> {
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

  /** Sends all that waits in one write. While there is no connection it goes on waiting: sending is then unsafe. */
  function flush(): void {
    scheduled = false
    if (waiting.length === 0 || !client.ready) return
    const batch = waiting
    waiting = []
    const calls: { readonly call: Call; readonly settlements: number }[] = []
    for (let at = 0; at < batch.length; at += SETTLED_PER_CALL) {
      const settlements = batch.slice(at, at + SETTLED_PER_CALL)
      const call = toSettleCall(settlements)
      if (call !== undefined) calls.push({ call, settlements: settlements.length })
    }
    if (calls.length === 0) return
    const all = calls.map(({ call }) => call)
    const sent = client.runAll(scripts.settle, all).then((results) => {
      // A doubt is not sent again, or a refund could come twice.
      for (const [i, { settlements }] of calls.entries())
        if (results[i]?.status !== 'fulfilled') lostSettlements += settlements
    })
    batches.add(sent)
    void sent.finally(() => batches.delete(sent))
  }

  return {
    take(claim) {
      if (!client.ready)
        return Promise.reject(new StoreFailure('disconnected', 'Redis is not connected.', false))
      return within(client.run(scripts.take, toTakeCall(claim))).then((reply) => readTakeReply(claim, reply))
    },

    settle(settlements) {
      for (const settlement of settlements) waiting.push(settlement)
      if (waiting.length > MOST_WAITING) {
        lostSettlements += waiting.length - MOST_WAITING
        waiting = waiting.slice(-MOST_WAITING)
      }
      if (scheduled || waiting.length === 0) return
      scheduled = true
      timers.soon(flush)
    },

    connect: () => client.connect(),

    onConnection(call) {
      listener = call
    },

    counts: () => ({ trips: client.trips, lostSettlements }),

    async close() {
      if (closed) return
      closed = true
      flush()
      await new Promise<void>((resolve) => {
        const cancel = timers.after(LAST_WORDS_MS, resolve)
        void Promise.allSettled([...batches]).then(() => {
          cancel()
          resolve()
        })
      })
      client.close()
    },
  }
}

/** An error reply says that the script took nothing; anything else leaves it open. */
function toFailure(error: unknown): StoreFailure {
  const replied = error instanceof RedisCallError && error.replied
  const message = error instanceof Error ? error.message : String(error)
  return new StoreFailure(replied ? 'error' : 'disconnected', message, !replied)
}
