// Which key of a provider to use: in turn, leaving out those that a provider has refused for a while. A bad key
// parks the key, not the provider. Keyed by reference and made in main.ts: no reload resets it.

import type { Clock, Provider, SecretReference } from '../types.ts'

export interface Key {
  readonly reference: SecretReference
  readonly value: string
}

export interface Keys {
  /** The next key that is not parked; `undefined` when the provider needs none, `parked` when all of them are. */
  next(provider: Provider): Key | undefined | 'parked'
  /** Whether another key could be tried now. */
  hasAnother(provider: Provider): boolean
  park(reference: SecretReference, ms: number): void
}

export function createKeys({
  clock,
  reveal,
}: {
  clock: Clock
  /** The present value of a secret; undefined when it could not be loaded. */
  reveal: (reference: SecretReference) => string | undefined
}): Keys {
  const parkedUntilMs = new Map<SecretReference, number>()
  const turns = new Map<string, number>()

  function usable(reference: SecretReference): boolean {
    return (parkedUntilMs.get(reference) ?? 0) <= clock.now()
  }

  return {
    next(provider) {
      const { keys } = provider
      if (keys.length === 0) return undefined
      const turn = turns.get(provider.name) ?? 0
      for (let i = 0; i < keys.length; i += 1) {
        const at = (turn + i) % keys.length
        const reference = keys[at] as string
        if (!usable(reference)) continue
        const value = reveal(reference)
        if (value === undefined) continue
        turns.set(provider.name, at + 1)
        return { reference, value }
      }
      return 'parked'
    },
    hasAnother: (provider) => provider.keys.some(usable),
    park(reference, ms) {
      parkedUntilMs.set(reference, clock.now() + ms)
    },
  }
}
