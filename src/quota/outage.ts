// Redis with a fuse: while it is away or slow, decides in this process on a share of each limit, or denies, and goes
// back by itself. No request waits longer than one timeout, and none is let through uncounted. (Debits posted on
// return and a share by the size of the fleet come with the fleet's heartbeat.)

import type { RedisSettings } from '../config/snapshot.ts'
import { toAccount, toShare } from './account.ts'
import type { MemoryStore } from './memory.ts'
import { type RedisStore, StoreFailure } from './redis.ts'
import type { Account, Claim, Grant, Log, Settlement, Store, Timers } from './store.ts'

export interface OutageStore extends Store {
  /** Whether Redis decides. */
  readonly up: boolean
  /** Connects; resolves once Redis has decided something, or after about a second when it does not. Never rejects. */
  start(): Promise<void>
}

export interface OutageStoreOptions {
  readonly redis: RedisStore
  /** Knows of every grant of Redis what it left, so that an outage begins there and not with full buckets. */
  readonly shadow: MemoryStore
  readonly onOutage: RedisSettings['onOutage']
  /** Among how many a limit is shared while nobody counts for all. */
  readonly replicas: number
  readonly timers: Timers
  readonly log: Log
  /** 0..1, for the jitter of probes. */
  readonly random: () => number
  /** Called after each change of `up`. */
  readonly onChange?: ((up: boolean) => void) | undefined
}

const FAILURES_TO_OPEN = 3
const PROBE_MS = 250

/** A decision like any other, so that whatever would fail one fails the probe: no script, no memory, a replica. */
const PROBE: Claim = {
  id: 'probe',
  slotMs: 1_000,
  asks: [
    {
      account: toAccount({
        kind: 'gateway',
        id: 'probe',
        tag: 'probe',
        limits: { requests: { capacity: 1_000_000, intervalUs: 1 }, strict: false },
      }),
      requests: 1,
      tokens: 0,
    },
  ],
}

/** Wraps a Redis store. `up` is false until `start` has seen Redis answer. */
export function createOutageStore(options: OutageStoreOptions): OutageStore {
  const { redis, shadow, onOutage, replicas, timers, log, random, onChange = () => {} } = options
  let up = false
  let failures = 0
  let pending = 0
  let probing: Promise<void> | undefined
  let cancelProbe = (): void => {}
  let closed = false

  const shares = new WeakMap<Account, Account>()
  function shareOf(claim: Claim): Claim {
    const asks = claim.asks.map((ask) => {
      let share = shares.get(ask.account)
      if (share === undefined) {
        share = toShare(ask.account, replicas)
        shares.set(ask.account, share)
      }
      return { ...ask, account: share }
    })
    return { ...claim, asks }
  }

  redis.onConnection((usable) => {
    if (!usable) open('connection lost')
    else if (!up) void probe()
  })

  function open(reason: string): void {
    if (!up || closed) return
    up = false
    log.warn({ reason, onOutage, replicas }, 'redis is away: limits are decided here')
    onChange(false)
    probeLater()
  }

  function close(): void {
    failures = 0
    if (up || closed) return
    up = true
    log.info({}, 'redis decides the limits')
    onChange(true)
  }

  function probeLater(): void {
    cancelProbe()
    if (!closed) cancelProbe = timers.after(PROBE_MS * (0.8 + 0.4 * random()), () => void probe())
  }

  /** One at a time; the next one is due a while after this one has ended. */
  function probe(): Promise<void> {
    if (probing !== undefined) return probing
    cancelProbe()
    probing = redis.take(PROBE).then(
      () => {
        probing = undefined
        close()
      },
      () => {
        probing = undefined
        probeLater()
      },
    )
    return probing
  }

  function failed(error: unknown): void {
    failures++
    const slow = error instanceof StoreFailure && error.reason === 'timeout'
    if (failures >= FAILURES_TO_OPEN || (slow && pending > 0))
      open(error instanceof Error ? error.message : String(error))
  }

  function decideHere(claim: Claim, origin: 'local' | 'unsure'): Grant {
    const grant: Grant =
      onOutage === 'deny' ? { ok: false, kind: 'unavailable' } : shadow.take(shareOf(claim))
    if (grant.ok) return { ...grant, origin }
    if (origin === 'unsure') redis.settle([slotsOnly(claim)])
    return grant
  }

  return {
    get up() {
      return up
    },

    async start() {
      await redis.connect()
      await probe()
    },

    take(claim) {
      if (!up) return decideHere(claim, 'local')
      pending++
      return redis.take(claim).then(
        (grant) => {
          pending--
          failures = 0
          if (grant.ok) shadow.mirror(claim, grant)
          return grant
        },
        (error: unknown) => {
          pending--
          failed(error)
          return decideHere(claim, error instanceof StoreFailure && !error.unsure ? 'local' : 'unsure')
        },
      )
    },

    settle(settlements) {
      const there: Settlement[] = []
      const here: Settlement[] = []
      for (const settlement of settlements) {
        if (settlement.origin === 'store') {
          there.push(settlement)
          here.push(settlement)
        } else {
          here.push({ ...settlement, claim: shareOf(settlement.claim) })
          // Whether Redis charged it is not known, so no refund; its slot would otherwise wait for its expiry.
          if (settlement.origin === 'unsure') there.push(slotsOnly(settlement.claim))
        }
      }
      if (there.length > 0) redis.settle(there)
      shadow.settle(here)
    },

    async close() {
      closed = true
      cancelProbe()
      await redis.close()
      await shadow.close()
    },
  }
}

function slotsOnly(claim: Claim): Settlement {
  return { claim, origin: 'unsure', usedTokens: undefined }
}
