// The two ways hints take: Redis between gateways (and their workers), and the channel to the primary between the
// workers of a gateway that has no Redis.

import type { Carrier } from './hints.ts'

/** The part of the client of Redis that is used (quota/client.ts). */
export interface RedisLink {
  command(name: string, ...args: readonly (string | number)[]): Promise<unknown>
  publish(channel: string, text: string): Promise<void>
  subscribe(channel: string, subscriber: { message(text: string): void }): () => void
}

export const HINTS_CHANNEL = 'slc:1:hints'

/** Gives the place back unless somebody else has it by now. */
const GIVE = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`

/** Hints over Redis, and the place of the one who probes as a key that ends by itself. */
export function createRedisCarrier(redis: RedisLink, replica: string): Carrier {
  const keyOf = (deployment: string): string => `slc:1:probe:${deployment}`
  return {
    publish: (text) => redis.publish(HINTS_CHANNEL, text),
    take: async (deployment, ms) =>
      (await redis.command('SET', keyOf(deployment), replica, 'NX', 'PX', ms)) !== null,
    give: (deployment) => redis.command('EVAL', GIVE, 1, keyOf(deployment), replica),
  }
}

/** What a worker asks of its primary, and what the primary passes on. */
export type HintQuestion =
  | { readonly kind: 'hint'; readonly text: string }
  | { readonly kind: 'probe'; readonly deployment: string; readonly ms: number }
  | { readonly kind: 'probed'; readonly deployment: string }

/** Hints by way of the primary. */
export function createLinkCarrier(ask: (question: HintQuestion) => Promise<unknown>): Carrier {
  return {
    publish: (text) => ask({ kind: 'hint', text }),
    take: async (deployment, ms) => (await ask({ kind: 'probe', deployment, ms })) !== false,
    give: (deployment) => ask({ kind: 'probed', deployment }),
  }
}

/** What the primary answers to a worker; `pass` hands a hint to all of them. */
export function answerHint(
  question: Readonly<Record<string, unknown>>,
  from: number,
  { places, pass }: { readonly places: Places; readonly pass: (text: string) => void },
): unknown {
  const { kind, text, deployment, ms } = question
  if (kind === 'hint' && typeof text === 'string') pass(text)
  if (typeof deployment !== 'string') return undefined
  if (kind === 'probe') return places.take(deployment, from, Number(ms))
  if (kind === 'probed') places.give(deployment, from)
  return undefined
}

/** The places of those who probe, as the primary keeps them. */
export interface Places {
  take(deployment: string, owner: number, ms: number): boolean
  give(deployment: string, owner: number): void
  /** Of a worker that has gone. */
  forget(owner: number): void
}

export function createPlaces(clock: { now(): number }): Places {
  const places = new Map<string, { readonly owner: number; readonly untilMs: number }>()
  return {
    take(deployment, owner, ms) {
      const nowMs = clock.now()
      const place = places.get(deployment)
      if (place !== undefined && place.owner !== owner && place.untilMs > nowMs) return false
      places.set(deployment, { owner, untilMs: nowMs + ms })
      return true
    },
    give(deployment, owner) {
      if (places.get(deployment)?.owner === owner) places.delete(deployment)
    },
    forget(owner) {
      for (const [deployment, place] of places) if (place.owner === owner) places.delete(deployment)
    },
  }
}
