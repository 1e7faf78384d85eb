// Replicas over one set of ledgers, without sockets: time moves by hand, visits can be counted, held up and lost.

import { createLeaseStore, type LeaseStore } from '../../../src/quota/leases.ts'
import { createMemoryAuthority } from '../../../src/quota/memory.ts'
import type { Authority, Claim, Grant, Reply, Settlement, Timers } from '../../../src/quota/store.ts'
import { createManualClock } from '../../support/manual-clock.ts'

export interface Replica {
  readonly store: LeaseStore
  /** Visits so far. */
  readonly visits: number
  /** The next visits fail, as when Redis is gone and nobody stands in. */
  lose(times: number): void
  take(claim: Claim): Promise<Grant>
  /** Ends a claim that was granted. */
  end(claim: Claim, grant: Grant, used?: { tokens?: number; micros?: number }): void
  /** No more words from it, as after `kill -9`. */
  kill(): void
  /** Stands still, as by SIGSTOP, and goes on. */
  freeze(): void
  thaw(): void
}

export function createFleet(size: number, { leases = true }: { leases?: boolean } = {}) {
  const time = createManualClock()
  const ledgers = createMemoryAuthority({ clock: time.clock, epochUs: Date.UTC(2027, 0, 1) * 1000 })

  function createReplica(name: string): Replica {
    let visits = 0
    let lost = 0
    let isDead = false
    /** Timers that fell due during a freeze. */
    let missed: (() => void)[] | undefined
    const authority: Authority = {
      fleet: size,
      divisor: size,
      onReturn() {},
      async visit(list): Promise<readonly Reply[]> {
        if (isDead) return new Promise(() => {})
        visits += list.length
        if (lost > 0) {
          lost -= 1
          throw new Error('lost')
        }
        return list.map((one) => ({
          origin: 'store',
          answer: ledgers.visitOf(one, { replica: name, fleet: size }),
          owed: undefined,
        }))
      },
      async close() {},
    }
    const timers: Timers = {
      after(ms, run) {
        const handle = time.timers.set(ms, () => {
          if (missed !== undefined) missed.push(run)
          else if (!isDead) run()
        })
        return () => time.timers.clear(handle)
      },
      soon(run) {
        setImmediate(run)
      },
    }
    const store = createLeaseStore({ authority, clock: time.clock, timers, leases })
    return {
      store,
      get visits() {
        return visits
      },
      lose(times) {
        lost = times
      },
      take: async (claim) => store.take(claim),
      end(claim, grant, used = {}) {
        if (!grant.ok) throw new Error('only what was granted ends')
        const settlement: Settlement = {
          claim,
          grant,
          usedTokens: used.tokens,
          usedMicros: used.micros,
        }
        store.settle([settlement])
      },
      kill() {
        isDead = true
      },
      freeze() {
        missed = []
      },
      thaw() {
        const late = missed ?? []
        missed = undefined
        // Whatever came meanwhile is read first.
        setImmediate(() => {
          for (const run of late) run()
        })
      },
    }
  }

  return {
    time,
    ledgers,
    replicas: Array.from({ length: size }, (_, i) => createReplica(`r${i}`)),
    createReplica,
  }
}
