// What is known of each deployment's health: a breaker that opens on failures or when the provider asks to be left
// alone, and lets one call at a time probe the way back. Keyed by name and made in main.ts: no reload resets it.
// (The full state machine of design §7 takes the place of this file; its face stays.)

import type { Clock, Reason } from '../types.ts'

/** Failures in a row after which a deployment is held back. */
const OPEN_AFTER = 5
/** Clean probes in a row after which it is trusted again. */
const CLOSE_AFTER = 3
const FIRST_HOLD_MS = 5000
const LONGEST_HOLD_MS = 300_000
/** Longest time a provider may ask to be left alone. */
const LONGEST_RETRY_AFTER_MS = 600_000

/** `go`: call it; `probe`: call it, alone, to see; `trial`: a probe that has begun to answer; `held`: leave it alone. */
export type Entry = 'go' | 'probe' | 'trial' | 'held'

export interface Health {
  isAvailable(deployment: string): boolean
  /** Asks to call; a `probe` must be answered by `succeeded`, `failed` or `released`. `force` also opens a hold that was ours alone. */
  enter(deployment: string, force?: boolean): Entry
  /** The answer has begun: another may probe now, but only its end tells whether this one was clean. */
  answering(deployment: string, entry: Entry): Entry
  succeeded(deployment: string, entry: Entry): void
  failed(
    deployment: string,
    entry: Entry,
    failure: { reason: Reason; retryAfterMs: number | undefined },
  ): void
  /** The call ended without telling anything (the caller left). */
  released(deployment: string, entry: Entry): void
  /** How long it will still be held back, in ms; 0 when it is not. */
  holdMs(deployment: string): number
  /** What an operator sees. */
  view(): readonly {
    readonly deployment: string
    readonly state: 'available' | 'unavailable'
    readonly reason: string
    readonly holdMs: number
  }[]
}

interface Breaker {
  failures: number
  /** How many times in a row it was opened without closing. */
  opened: number
  open: boolean
  heldUntilMs: number
  /** The provider named the wait: it is kept even when nobody else is left. */
  asked: boolean
  probing: boolean
  cleanProbes: number
  reason: string
}

export function createHealth({ clock, random }: { clock: Clock; random: () => number }): Health {
  const breakers = new Map<string, Breaker>()

  function get(name: string): Breaker {
    let breaker = breakers.get(name)
    if (breaker === undefined) {
      breaker = {
        failures: 0,
        opened: 0,
        open: false,
        heldUntilMs: 0,
        asked: false,
        probing: false,
        cleanProbes: 0,
        reason: '',
      }
      breakers.set(name, breaker)
    }
    return breaker
  }

  function hold(breaker: Breaker, ms: number, asked: boolean): void {
    breaker.open = true
    breaker.asked = asked
    breaker.cleanProbes = 0
    breaker.failures = 0
    breaker.heldUntilMs = clock.now() + ms
  }

  return {
    isAvailable(name) {
      const breaker = breakers.get(name)
      if (breaker === undefined || !breaker.open) return true
      return clock.now() >= breaker.heldUntilMs && !breaker.probing
    },
    enter(name, force = false) {
      const breaker = get(name)
      if (!breaker.open) return 'go'
      if (breaker.probing) return 'held'
      if (clock.now() < breaker.heldUntilMs && !(force && !breaker.asked)) return 'held'
      breaker.probing = true
      return 'probe'
    },
    answering(name, entry) {
      if (entry !== 'probe') return entry
      get(name).probing = false
      return 'trial'
    },
    succeeded(name, entry) {
      const breaker = get(name)
      breaker.failures = 0
      if (entry === 'probe') breaker.probing = false
      // A call that began before the hold proves nothing about the provider as it is now.
      if (!breaker.open || entry === 'go') return
      // The provider has asked to be left alone while this probe was under way.
      if (breaker.asked && clock.now() < breaker.heldUntilMs) return
      breaker.cleanProbes += 1
      if (breaker.cleanProbes < CLOSE_AFTER && !breaker.asked) return
      breaker.open = false
      breaker.opened = 0
      breaker.cleanProbes = 0
      breaker.reason = ''
    },
    failed(name, entry, { reason, retryAfterMs }) {
      const breaker = get(name)
      const wasProbe = entry !== 'go'
      if (entry === 'probe') breaker.probing = false
      breaker.reason = reason
      if (retryAfterMs !== undefined && retryAfterMs > 0) {
        const ms = Math.min(retryAfterMs, LONGEST_RETRY_AFTER_MS)
        if (clock.now() + ms > breaker.heldUntilMs || !breaker.open) hold(breaker, ms, true)
        return
      }
      breaker.failures += 1
      // A call forced inside the hold tells nothing new: it must not lengthen it.
      if (breaker.open && clock.now() < breaker.heldUntilMs) return
      if (breaker.open ? !wasProbe : breaker.failures < OPEN_AFTER) return
      const ms = Math.min(LONGEST_HOLD_MS, FIRST_HOLD_MS * 2 ** breaker.opened)
      breaker.opened += 1
      // ± 20 %, so that replicas do not all come back at once.
      hold(breaker, ms * (0.8 + 0.4 * random()), false)
    },
    released(name, entry) {
      if (entry === 'probe') get(name).probing = false
    },
    holdMs(name) {
      const breaker = breakers.get(name)
      return breaker?.open === true ? Math.max(0, breaker.heldUntilMs - clock.now()) : 0
    },
    view() {
      return [...breakers].map(([deployment, breaker]) => ({
        deployment,
        state: breaker.open ? 'unavailable' : 'available',
        reason: breaker.reason,
        holdMs: breaker.open ? Math.max(0, Math.round(breaker.heldUntilMs - clock.now())) : 0,
      }))
    },
  }
}
