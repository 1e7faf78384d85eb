// What replicas tell each other of deployments: one finds out, all know. And one of them probes for all. Over whatever
// they share: Redis between gateways, the channel to the primary between workers; nothing where one is alone.

import { isObject } from '../bytes/json-value.ts'
import type { Reason } from '../types.ts'
import type { State } from './health.ts'

/**
 * `held`: the provider answered so, or stayed silent; `suspect`: it could not be reached from there, which may be the
 * doing of the way, so that the others need one failure of their own; `back`: probes were clean; `quota`: as told.
 */
export type Hint = DeploymentHint | CheckHint

/** What a health check of a provider came to: why it failed, or undefined when it was good. */
export interface CheckHint {
  readonly kind: 'checked'
  readonly provider: string
  readonly reason: Reason | undefined
}

export type DeploymentHint = {
  readonly deployment: string
  /** Of `provider/*`: the one model that it is about. */
  readonly model?: string
} & (
  | {
      readonly kind: 'held'
      readonly trouble: Exclude<State, 'available'>
      readonly reason: Reason
      readonly ms: number
      /** The provider named the wait. */
      readonly asked: boolean
    }
  | { readonly kind: 'suspect' }
  | { readonly kind: 'back' }
  | { readonly kind: 'quota'; readonly share: number; readonly resetMs: number }
)

export interface Hints {
  /** Tells all others, as far as that is possible; never throws. */
  tell(hint: Hint): void
  /**
   * Whether this replica may send the probe of the fleet now. True as well where nobody can be asked. Never rejects.
   */
  mayProbe(deployment: string): Promise<boolean>
  /** The probe has ended, or has begun to be answered. */
  probed(deployment: string): void
  /** Whether this replica is the one to check a provider, for so long. True as well where nobody can be asked. */
  mayCheck(provider: string, ms: number): Promise<boolean>
}

/** For one that is alone. */
export const NO_HINTS: Hints = {
  tell() {},
  mayProbe: async () => true,
  probed() {},
  mayCheck: async () => true,
}

/** What carries hints. */
export interface Carrier {
  /** May reject or throw; then a hint is lost, which costs the others their own experience. */
  publish(text: string): Promise<unknown>
  /** Takes the place of the one who probes (or checks), for at most so long; false when it is somebody else's. */
  take(place: string, ms: number): Promise<boolean>
  give(deployment: string): Promise<unknown>
}

/** A probe that is not answered for by then holds nobody up any more. */
const PROBE_MS = 10_000
/** Whoever was told that somebody else probes does not ask again so soon. */
const TAKEN_MS = 100
/** An answer to the question for the place takes at most so long. */
const ANSWER_MS = 100

export interface SharedHintsOptions {
  readonly carrier: Carrier
  readonly clock: { now(): number }
  readonly timers: { set(ms: number, run: () => void): unknown; clear(handle: unknown): void }
  /** Of this replica, so that it does not listen to itself. */
  readonly replica: string
  readonly learn: (hint: Hint) => void
}

export interface SharedHints extends Hints {
  /** A text from the carrier; what is no hint is passed over. */
  hear(text: string): void
}

export function createSharedHints(options: SharedHintsOptions): SharedHints {
  const { carrier, clock, timers, replica, learn } = options
  const takenUntilMs = new Map<string, number>()
  const mine = new Set<string>()

  return {
    tell(hint) {
      const text = JSON.stringify({ from: replica, ...hint })
      void Promise.resolve()
        .then(() => carrier.publish(text))
        .catch(() => {})
    },

    async mayProbe(deployment) {
      if (clock.now() < (takenUntilMs.get(deployment) ?? 0)) return false
      let isLate = false
      const answer = await within(ANSWER_MS, async () => {
        const isTaken = await carrier.take(deployment, PROBE_MS)
        // Whoever did not wait for it will not give it back, and it would keep all of them from probing.
        if (isLate && isTaken) give(deployment)
        return isTaken
      })
      isLate = answer === undefined
      if (answer === false) {
        takenUntilMs.set(deployment, clock.now() + TAKEN_MS)
        return false
      }
      takenUntilMs.delete(deployment)
      if (answer === true) mine.add(deployment)
      return true
    },

    probed(deployment) {
      if (mine.delete(deployment)) give(deployment)
    },

    // The place ends by itself: nobody checks more often than that.
    mayCheck: async (provider, ms) =>
      (await within(ANSWER_MS, () => carrier.take(`check:${provider}`, Math.ceil(ms)))) !== false,

    hear(text) {
      const hint = toHint(text, replica)
      if (hint !== undefined) learn(hint)
    },
  }

  function give(deployment: string): void {
    void Promise.resolve()
      .then(() => carrier.give(deployment))
      .catch(() => {})
  }

  /** Undefined when it fails or takes too long. */
  function within<T>(ms: number, ask: () => Promise<T>): Promise<T | undefined> {
    return new Promise((resolve) => {
      const timer = timers.set(ms, () => resolve(undefined))
      Promise.resolve()
        .then(ask)
        .then(resolve, () => resolve(undefined))
        .finally(() => timers.clear(timer))
    })
  }
}

const MOST_BYTES = 1_000
const TROUBLES: readonly unknown[] = ['slow', 'low_quota', 'unavailable'] satisfies State[]
const HOLD_LIMIT_MS = 600_000

/** Reads what another replica said, which may be of another version: what is not understood says nothing. */
function toHint(text: string, replica: string): Hint | undefined {
  if (text.length > MOST_BYTES) return undefined
  let said: unknown
  try {
    said = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!isObject(said)) return undefined
  const { from, kind, provider, deployment, model, trouble, reason, ms, asked, share, resetMs } = said
  if (from === replica) return undefined
  if (kind === 'checked') {
    return typeof provider === 'string' && (reason === undefined || typeof reason === 'string')
      ? { kind, provider, reason: reason as Reason | undefined }
      : undefined
  }
  if (typeof deployment !== 'string' || (model !== undefined && typeof model !== 'string')) return undefined
  const about = model === undefined ? { deployment } : { deployment, model }
  switch (kind) {
    case 'held':
      return TROUBLES.includes(trouble) && typeof reason === 'string' && isBetween(ms, 0, HOLD_LIMIT_MS)
        ? {
            kind,
            ...about,
            trouble: trouble as Exclude<State, 'available'>,
            reason: reason as Reason,
            ms,
            asked: asked === true,
          }
        : undefined
    case 'suspect':
    case 'back':
      return { kind, ...about }
    case 'quota':
      return isBetween(share, 0, 1) && isBetween(resetMs, 0, HOLD_LIMIT_MS)
        ? { kind, ...about, share, resetMs }
        : undefined
  }
  return undefined
}

function isBetween(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && value >= least && value <= most
}
