// What stands behind the limits of a process: ledgers in Redis with a fuse, or those of the process or of its primary.

import type { RedisServers } from '../config/redis-servers.ts'
import type { RedisSettings } from '../config/snapshot.ts'
import type { Clock } from '../types.ts'
import { createLeaseStore, type LeaseStore } from './leases.ts'
import type { MemoryAuthority } from './memory.ts'
import { createOutageAuthority, type OutageAuthority } from './outage.ts'
import { createRedisLedgers, type RedisLedgers } from './redis.ts'
import type { Authority, Log, Timers } from './store.ts'

export interface Backing {
  readonly store: LeaseStore
  /** Undefined without Redis, as `outage` is. */
  readonly redis: RedisLedgers | undefined
  readonly outage: OutageAuthority | undefined
  /** Those of the start: Redis changes with a restart. */
  readonly onOutage: RedisSettings['onOutage'] | undefined
  /** Unix ms at which `outage.up` last changed. */
  readonly sinceMs: number
  /** Where limits are decided. */
  readonly decides: 'here' | 'redis' | 'outage'
  /** Replicas that share the limits: seen in Redis, or reckoned with while it is away. */
  readonly replicas: number
}

export interface BackingOptions {
  /** Undefined: the ledgers are not in Redis. */
  readonly servers: RedisServers | undefined
  readonly settings: RedisSettings | undefined
  /** Name of this process in Redis, unique over the fleet and over restarts. */
  readonly replica: string
  /** Who keeps the ledgers when Redis does not: this process, or its primary. */
  readonly here: Authority
  /** Decides while Redis is away. */
  readonly shadow: MemoryAuthority
  /** Whether to take ahead of need from `here`. Where the ledgers are in this process nothing is won by it. */
  readonly leases: boolean
  readonly clock: Clock
  readonly timers: Timers
  readonly log: Log
  /** 0..1, for the jitter of probes and reconnects. */
  readonly random: () => number
  /** Unix ms of the start, since when Redis is away until it has answered. */
  readonly startedMs: number
}

/** Makes the store and what is behind it; nothing is sent to Redis before `outage.start`. */
export function createBacking(options: BackingOptions): Backing {
  const { servers, settings, replica, here, shadow, leases, clock, timers, log, random } = options
  let sinceMs = options.startedMs
  let redis: RedisLedgers | undefined
  let outage: OutageAuthority | undefined
  if (settings !== undefined && servers !== undefined) {
    redis = createRedisLedgers({ timers, log, random, servers, replica })
    outage = createOutageAuthority({
      timers,
      log,
      random,
      redis,
      shadow,
      onOutage: settings.onOutage,
      replicas: settings.replicas,
      onChange: () => {
        sinceMs = clock.wall()
      },
    })
  }
  const store =
    outage === undefined
      ? createLeaseStore({ authority: here, clock, timers, leases })
      : createLeaseStore({ authority: outage, clock, timers, leases: true })
  return {
    store,
    redis,
    outage,
    onOutage: settings?.onOutage,
    get sinceMs() {
      return sinceMs
    },
    get decides() {
      if (outage === undefined) return 'here'
      return outage.up ? 'redis' : 'outage'
    },
    get replicas() {
      return outage?.[outage.up ? 'fleet' : 'divisor'] ?? 1
    },
  }
}
