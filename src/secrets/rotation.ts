// Secrets that are older than they should be (`apiKey.rotate`): which they are, and a word in the log about each, again
// every day. Nothing is refused: an old key still works, and whoever replaces it decides when.

import type { Snapshot } from '../config/snapshot.ts'
import type { Clock, SecretReference } from '../types.ts'
import type { Keyring } from './keyring.ts'

/** Age at which a secret should have been replaced. */
export interface Rotation {
  readonly secret: SecretReference
  readonly rotateMs: number
}

/** Of each secret that has one; of one that several providers name, the shortest. */
export function rotationsOf({ providers }: Pick<Snapshot, 'providers'>): Rotation[] {
  const shortest = new Map<SecretReference, number>()
  for (const { keys, rotateMs } of providers.values()) {
    if (rotateMs === undefined) continue
    for (const key of keys) shortest.set(key, Math.min(shortest.get(key) ?? rotateMs, rotateMs))
  }
  return [...shortest].map(([secret, rotateMs]) => ({ secret, rotateMs }))
}

/** What is said of a secret of this age; undefined while it is young enough. */
export function overdueText({ secret, rotateMs }: Rotation, ageMs: number): string | undefined {
  if (ageMs <= rotateMs) return undefined
  return `${secret}: is ${inWords(ageMs)} old and should have been replaced at ${inWords(rotateMs)} (apiKey.rotate)`
}

export interface RotationWatch {
  /** Tells of those that are too old, of each once a day. */
  check(): void
}

const TELL_EVERY_MS = 86_400_000

export function createRotationWatch({
  keyring,
  snapshot,
  clock,
  warn,
}: {
  readonly keyring: Pick<Keyring, 'states'>
  readonly snapshot: () => Pick<Snapshot, 'providers'>
  readonly clock: Clock
  readonly warn: (message: string) => void
}): RotationWatch {
  /** By secret, when it was last told of; those that are young again are forgotten. */
  let told = new Map<SecretReference, number>()
  return {
    check() {
      const since = new Map(keyring.states().map(({ reference, sinceMs }) => [reference, sinceMs]))
      const next = new Map<SecretReference, number>()
      for (const rotation of rotationsOf(snapshot())) {
        const { secret } = rotation
        const text = overdueText(rotation, clock.wall() - (since.get(secret) ?? clock.wall()))
        if (text === undefined) continue
        const lastMs = told.get(secret)
        const isDue = lastMs === undefined || clock.now() - lastMs >= TELL_EVERY_MS
        if (isDue) warn(text)
        next.set(secret, isDue ? clock.now() : lastMs)
      }
      told = next
    },
  }
}

/** Whole units, never more than it is. */
function inWords(ms: number): string {
  for (const [unit, unitMs] of [
    ['day', 86_400_000],
    ['hour', 3_600_000],
    ['minute', 60_000],
  ] as const) {
    const count = Math.floor(ms / unitMs)
    if (count > 1 || (count === 1 && unit === 'minute')) return `${count} ${unit}${count === 1 ? '' : 's'}`
  }
  return 'less than a minute'
}
