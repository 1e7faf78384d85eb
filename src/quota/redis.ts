// The store in Redis: one EVALSHA per decision on the clock of Redis, settlements batched off the path. It says so
// when it cannot decide; what happens then is outage.ts's. It never logs a URL: there may be a password in it.

import { type ChainableCommander, Redis } from 'ioredis'
import { type Call, readScripts, readTakeReply, type Script, toSettleCall, toTakeCall } from './script.ts'
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
  /** `redis://` or `rediss://`, with user, password and database number if need be. */
  readonly url: string
  readonly timers: Timers
  readonly log: Log
  /** 0..1, for the jitter of reconnects. */
  readonly random: () => number
  /** Longest wait for a decision. */
  readonly timeoutMs?: number | undefined
}

const CONNECT_MS = 1_000
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
  let waiting: Settlement[] = []
  let scheduled = false
  let trips = 0
  let lostSettlements = 0
  let complained = false
  const batches = new Set<Promise<void>>()

  client.on('ready', () => {
    complained = false
    // Sent ahead of everything else on this connection, so that the first decision needs no second trip.
    trips++
    for (const { lua } of [scripts.take, scripts.settle]) client.script('LOAD', lua).catch(() => {})
    listener(true)
    flush()
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
    if (waiting.length === 0 || client.status !== 'ready') return
    const batch = waiting
    waiting = []
    const calls: { readonly call: Call; readonly settlements: number }[] = []
    for (let at = 0; at < batch.length; at += SETTLED_PER_CALL) {
      const settlements = batch.slice(at, at + SETTLED_PER_CALL)
      const call = toSettleCall(settlements)
      if (call !== undefined) calls.push({ call, settlements: settlements.length })
    }
    if (calls.length === 0) return
    trips++
    const pipeline: ChainableCommander = client.pipeline()
    for (const { call } of calls)
      pipeline.evalsha(scripts.settle.sha, call.keys.length, ...call.keys, ...call.args)
    const sent = pipeline.exec().then(
      async (results) => {
        for (const [i, { call, settlements }] of calls.entries()) {
          const error = results?.[i]?.[0]
          // NOSCRIPT: nothing of it ran. Any other doubt is not sent again, or a refund could come twice.
          const arrived = isNoScript(error)
            ? await run(scripts.settle, call).then(
                () => true,
                () => false,
              )
            : error === null
          if (!arrived) lostSettlements += settlements
        }
      },
      () => {
        lostSettlements += batch.length
      },
    )
    batches.add(sent)
    void sent.finally(() => batches.delete(sent))
  }

  return {
    take(claim) {
      if (client.status !== 'ready')
        return Promise.reject(new StoreFailure('disconnected', 'Redis is not connected.', false))
      return within(run(scripts.take, toTakeCall(claim))).then((reply) => readTakeReply(claim, reply))
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

    counts: () => ({ trips, lostSettlements }),

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
