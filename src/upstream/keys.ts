// Which key of a provider to use: in turn, leaving out those that a provider has refused for a while. A bad key
// parks the key, not the provider. Keyed by provider and reference, and made in main.ts: no reload resets it.

import { unitHash } from '../bytes/unit-hash.ts'
import { isWithin } from '../config/values.ts'
import { secretPartsOf } from '../formats/index.ts'
import { createRedact, type Redact } from '../formats/stage.ts'
import type { Clock, Provider, SecretReference } from '../types.ts'

export interface Key {
  readonly reference: SecretReference
  readonly value: string
}

export interface Keys {
  /**
   * The next key that is not parked; `undefined` when the provider needs none, `parked` when all of them are. With a
   * cache key the turn begins at the same one each time: caches belong to the account behind a key. `model`: of
   * `provider/*`, where a key may be left alone for one model.
   */
  next(provider: Provider, cacheKey?: string, model?: string): Key | undefined | 'parked'
  /** Whether another key could be tried now. */
  hasAnother(provider: Provider, model?: string): boolean
  /** Leaves a key alone for a while, at this provider; its successor under the same reference is not concerned. */
  park(provider: Provider, key: Key, ms: number): void
  /** The same for one model alone; where there is none, for all. */
  limit(provider: Provider, key: Key, over: { readonly model: string | undefined; readonly ms: number }): void
  /** Notes a call with a key: its reference where the provider's hours do not have this time, else undefined. */
  used(provider: Provider, key: Key | undefined): SecretReference | undefined
  /**
   * How often each key was used outside the hours of its provider; those of providers that have none are left out, and
   * those that are not among these are forgotten.
   */
  usesOutsideHours(providers: Iterable<Provider>): KeyUses[]
  /** Takes all its keys, parked or not, out of an answer; undefined when there is nothing to take. */
  redact(provider: Provider): Redact | undefined
  /** How long until one of the provider's keys is usable, in ms; 0 when one is, or when none is needed. */
  parkedMs(provider: Provider, model?: string): number
}

export interface KeyUses {
  readonly provider: string
  readonly secret: SecretReference
  /** Since the start of this process. */
  readonly uses: number
}

/** Longest time a provider may have a key left alone. */
const LONGEST_PARK_MS = 600_000
/** Keys that are left alone for one model, at most; of more, the oldest is forgotten. */
const MOST_LIMITED = 256

export function createKeys({
  clock,
  reveal,
}: {
  clock: Clock
  /** The present value of a secret; undefined when it could not be loaded. */
  reveal: (reference: SecretReference) => string | undefined
}): Keys {
  /** By provider and reference: what one server says of a key is not said of another's. */
  const parked = new Map<string, Parking>()
  /** The same by model as well. */
  const limited = new Map<string, Parking>()
  const turns = new Map<string, number>()
  /** Uses outside the hours, by provider and reference. */
  const outside = new Map<string, number>()
  /** By provider, for as long as its keys have the same values: they are not prepared for every attempt. */
  const redacts = new Map<
    string,
    { readonly values: readonly string[]; readonly redact: Redact | undefined }
  >()

  /** One for each key of a provider, in their order; found once for as long as that configuration is there. */
  const seats = new WeakMap<Provider, readonly Seat[]>()

  function seatsOf(provider: Provider): readonly Seat[] {
    let known = seats.get(provider)
    if (known === undefined) {
      known = provider.keys.map((reference) => ({
        reference,
        place: placeOf(provider, reference),
        key: undefined,
      }))
      seats.set(provider, known)
    }
    return known
  }

  /** Until when a key is left alone. */
  function untilMs({ place }: Seat, value: string | undefined, model: string | undefined): number {
    const ofAll = untilOf(parked.get(place), value)
    return model === undefined ? ofAll : Math.max(ofAll, untilOf(limited.get(`${place}\n${model}`), value))
  }

  /** A key that may be used now: the same object for as long as it has the same value. */
  function usable(seat: Seat, model: string | undefined): Key | undefined {
    const { reference } = seat
    const value = reveal(reference)
    if (value === undefined) return undefined
    const until = untilMs(seat, value, model)
    if (until > 0 && until > clock.now()) return undefined
    if (seat.key?.value !== value) seat.key = { reference, value }
    return seat.key
  }

  function isUsable(provider: Provider, model: string | undefined): boolean {
    for (const seat of seatsOf(provider)) if (usable(seat, model) !== undefined) return true
    return false
  }

  /** Whether these are the values of some keys, in their order; of those that could not be loaded there is none. */
  function hasValues(keys: readonly SecretReference[], values: readonly string[]): boolean {
    let at = 0
    for (const reference of keys) {
      const value = reveal(reference)
      if (value === undefined) continue
      if (value !== values[at]) return false
      at += 1
    }
    return at === values.length
  }

  function toParking({ value }: Key, ms: number): Parking {
    return { untilMs: clock.now() + Math.min(ms, LONGEST_PARK_MS), value }
  }

  return {
    next(provider, cacheKey, model) {
      const { keys } = provider
      if (keys.length === 0) return undefined
      const all = seatsOf(provider)
      const turn =
        cacheKey === undefined
          ? (turns.get(provider.name) ?? 0)
          : Math.floor(unitHash(cacheKey, provider.name) * keys.length)
      for (let i = 0; i < keys.length; i += 1) {
        const at = (turn + i) % keys.length
        const key = usable(all[at] as Seat, model)
        if (key === undefined) continue
        if (cacheKey === undefined) turns.set(provider.name, at + 1)
        return key
      }
      return 'parked'
    },
    hasAnother: isUsable,
    park(provider, key, ms) {
      parked.set(placeOf(provider, key.reference), toParking(key, ms))
    },
    limit(provider, key, { model, ms }) {
      const place = placeOf(provider, key.reference)
      if (model === undefined) return void parked.set(place, toParking(key, ms))
      const name = `${place}\n${model}`
      if (!limited.delete(name) && limited.size >= MOST_LIMITED) {
        const [oldest = ''] = limited.keys()
        limited.delete(oldest)
      }
      limited.set(name, toParking(key, ms))
    },
    used(provider, key) {
      const { keyHours } = provider
      if (key === undefined || keyHours === undefined || isWithin(keyHours, clock.wall())) return undefined
      const place = placeOf(provider, key.reference)
      outside.set(place, (outside.get(place) ?? 0) + 1)
      return key.reference
    },
    usesOutsideHours(providers) {
      const uses = [...providers].flatMap((provider) =>
        provider.keyHours === undefined
          ? []
          : provider.keys.map((secret) => ({
              provider: provider.name,
              secret,
              uses: outside.get(placeOf(provider, secret)) ?? 0,
            })),
      )
      const places = new Set(uses.map(({ provider, secret }) => placeOf({ name: provider }, secret)))
      for (const place of outside.keys()) if (!places.has(place)) outside.delete(place)
      return uses
    },
    redact({ name, keys }) {
      let known = redacts.get(name)
      if (known === undefined || !hasValues(keys, known.values)) {
        const values = keys.map(reveal).filter((value) => value !== undefined)
        known = { values, redact: createRedact(values.flatMap((value) => [value, ...secretPartsOf(value)])) }
        redacts.set(name, known)
      }
      return known.redact
    },
    parkedMs(provider, model) {
      if (provider.keys.length === 0 || isUsable(provider, model)) return 0
      const waits = seatsOf(provider).map(
        (seat) => untilMs(seat, reveal(seat.reference), model) - clock.now(),
      )
      const least = Math.min(...waits.filter((ms) => ms > 0))
      return Number.isFinite(least) ? least : 0
    },
  }
}

/** One of the keys of a provider. */
interface Seat {
  readonly reference: SecretReference
  /** What is known of it is kept under this. */
  readonly place: string
  /** As it was last used. */
  key: Key | undefined
}

interface Parking {
  readonly untilMs: number
  /** Of the key that it is about. */
  readonly value: string
}

function untilOf(parking: Parking | undefined, value: string | undefined): number {
  return parking !== undefined && parking.value === value ? parking.untilMs : 0
}

function placeOf(provider: Pick<Provider, 'name'>, reference: SecretReference): string {
  return `${provider.name} ${reference}`
}
