// Which key of a provider to use: in turn, leaving out those that a provider has refused for a while. A bad key
// parks the key, not the provider. Keyed by provider and reference, and made in main.ts: no reload resets it.

import { unitHash } from '../bytes/unit-hash.ts'
import { createRedact, type Redact } from '../formats/stage.ts'
import type { Clock, Provider, SecretReference } from '../types.ts'

export interface Key {
  readonly reference: SecretReference
  readonly value: string
}

export interface Keys {
  /**
   * The next key that is not parked; `undefined` when the provider needs none, `parked` when all of them are. With a
   * cache key the turn begins at the same one each time: caches belong to the account behind a key.
   */
  next(provider: Provider, cacheKey?: string): Key | undefined | 'parked'
  /** Whether another key could be tried now. */
  hasAnother(provider: Provider): boolean
  /** Leaves a key alone for a while, at this provider; its successor under the same reference is not concerned. */
  park(provider: Provider, key: Key, ms: number): void
  /** Takes all its keys, parked or not, out of an answer; undefined when there is nothing to take. */
  redact(provider: Provider): Redact | undefined
  /** How long until one of the provider's keys is usable, in ms; 0 when one is, or when none is needed. */
  parkedMs(provider: Provider): number
}

/** Longest time a provider may have a key left alone. */
const LONGEST_PARK_MS = 600_000

export function createKeys({
  clock,
  reveal,
}: {
  clock: Clock
  /** The present value of a secret; undefined when it could not be loaded. */
  reveal: (reference: SecretReference) => string | undefined
}): Keys {
  /** By provider and reference: what one server says of a key is not said of another's. */
  const parked = new Map<string, { readonly untilMs: number; readonly value: string }>()
  const turns = new Map<string, number>()
  /** By provider, for as long as its keys have the same values: they are not prepared for every attempt. */
  const redacts = new Map<
    string,
    { readonly values: readonly string[]; readonly redact: Redact | undefined }
  >()

  /** The value of a key that may be used now. */
  function usable(provider: Provider, reference: SecretReference): string | undefined {
    const value = reveal(reference)
    const parking = parked.get(placeOf(provider, reference))
    return parking === undefined || parking.untilMs <= clock.now() || parking.value !== value
      ? value
      : undefined
  }

  return {
    next(provider, cacheKey) {
      const { keys } = provider
      if (keys.length === 0) return undefined
      const turn =
        cacheKey === undefined
          ? (turns.get(provider.name) ?? 0)
          : Math.floor(unitHash(cacheKey, provider.name) * keys.length)
      for (let i = 0; i < keys.length; i += 1) {
        const at = (turn + i) % keys.length
        const reference = keys[at] as string
        const value = usable(provider, reference)
        if (value === undefined) continue
        if (cacheKey === undefined) turns.set(provider.name, at + 1)
        return { reference, value }
      }
      return 'parked'
    },
    hasAnother: (provider) => provider.keys.some((reference) => usable(provider, reference) !== undefined),
    park(provider, { reference, value }, ms) {
      parked.set(placeOf(provider, reference), {
        untilMs: clock.now() + Math.min(ms, LONGEST_PARK_MS),
        value,
      })
    },
    redact({ name, keys }) {
      const values = keys.map(reveal).filter((value) => value !== undefined)
      let known = redacts.get(name)
      if (known?.values.length !== values.length || !values.every((value, i) => value === known?.values[i])) {
        known = { values, redact: createRedact(values) }
        redacts.set(name, known)
      }
      return known.redact
    },
    parkedMs(provider) {
      const { keys } = provider
      if (keys.length === 0 || keys.some((reference) => usable(provider, reference) !== undefined)) return 0
      const waits = keys.map(
        (reference) => (parked.get(placeOf(provider, reference))?.untilMs ?? 0) - clock.now(),
      )
      const least = Math.min(...waits.filter((ms) => ms > 0))
      return Number.isFinite(least) ? least : 0
    },
  }
}

function placeOf(provider: Provider, reference: SecretReference): string {
  return `${provider.name} ${reference}`
}
