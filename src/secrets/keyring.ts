// The secrets of a configuration, resolved and kept: the last good value of each reference, and the ones before it
// for as long as a log line may still hold them. Knows references; knows nothing of who uses a key or how.

import { formatPath } from '../config/problems.ts'
import { textsOf } from '../config/redis-servers.ts'
import type { Snapshot } from '../config/snapshot.ts'
import type { Clock, SecretReference } from '../types.ts'
import { isReference, resolveReference, SHORTEST_SCRUBBED, type Surroundings, type Use } from './reference.ts'
import { overdueText, type Rotation, rotationsOf } from './rotation.ts'
import { Secret } from './secret.ts'

/** Something wrong at a place of the configuration; `path` as the operator would write it. */
export interface Problem {
  readonly path: string
  readonly message: string
}

/** A reference and the place where it stands. */
export interface PlacedReference {
  readonly path: string
  readonly reference: SecretReference
  /** Default: header. */
  readonly use?: Use
}

/** `loaded`: first or new value; `unchanged`; `failed`: the last good value, if any, stays. */
export type LoadOutcome = 'loaded' | 'unchanged' | 'failed'

export interface KeyringOptions extends Surroundings {
  readonly references: readonly PlacedReference[]
  readonly clock: Pick<Clock, 'wall'>
  readonly onWarning?: (message: string) => void
  /** Counts loads: `sluice_secret_loads_total{secret,outcome}`. */
  readonly onLoad?: (reference: SecretReference, outcome: LoadOutcome) => void
}

/** Why a reference could not be read. */
export interface FailedReference extends Problem, PlacedReference {}

export interface Reloaded {
  /** References whose value is another one than before. */
  readonly changed: readonly SecretReference[]
  readonly problems: readonly FailedReference[]
}

/** What may be shown of a secret. */
export interface SecretState {
  readonly reference: SecretReference
  readonly source: 'env' | 'file'
  /** `[secret:ab12]`, or undefined while there is no value. */
  readonly fingerprint: string | undefined
  /** Unix ms at which the present value was there already: when its file was written, or when it was first seen. */
  readonly sinceMs: number | undefined
  /** Why the last load failed. */
  readonly problem: string | undefined
}

export interface Keyring {
  /** Reads every reference again, or those given from now on; what is bad leaves the last good value in place. Calls queue up. */
  reload(next?: { references: readonly PlacedReference[]; groupReadable: boolean }): Promise<Reloaded>
  /** The references that count from now on, without reading them again: when it is decided which configuration goes on. */
  use(next: { references: readonly PlacedReference[]; groupReadable: boolean }): void
  /** The present value; undefined before the first good load. */
  value(reference: SecretReference): string | undefined
  /** The value before the present one, for a provider that has not taken over the new one yet. */
  previous(reference: SecretReference): string | undefined
  /** The present value behind an object that does not print it. */
  secret(reference: SecretReference): Secret | undefined
  /** Every value that text may still hold, present and former: what the scrubber is to know. */
  values(): string[]
  /** Paths of the present `file:` references, for the watch. */
  files(): string[]
  /** For `/status` and the age metric. */
  states(): SecretState[]
}

interface Entry {
  current: Secret | undefined
  previous: Secret | undefined
  sinceMs: number | undefined
  problem: string | undefined
}

/** Former values kept for the scrubber: two years of monthly rotation of ten keys. */
const MAX_FORMER = 256

/** References kept that no configuration names any more; the latest to leave stay longest. */
const MAX_LEFT = 256

/** A keyring without values: the first `reload()` loads them. */
export function createKeyring(options: KeyringOptions): Keyring {
  let references = options.references
  let groupReadable = options.groupReadable
  let entries = new Map<SecretReference, Entry>()
  /** Values that were current once, oldest first. */
  const former = new Set<string>()
  let queue: Promise<unknown> = Promise.resolve()

  function retire(secret: Secret | undefined): void {
    if (secret === undefined) return
    former.delete(secret.reveal())
    former.add(secret.reveal())
    for (const oldest of former) {
      if (former.size <= MAX_FORMER) break
      former.delete(oldest)
    }
  }

  async function load(): Promise<Reloaded> {
    const around = { env: options.env, uid: options.uid, groupReadable }
    const changed: SecretReference[] = []
    const problems: FailedReference[] = []
    const next = new Map<SecretReference, Entry>()
    for (const { path, reference, use } of references) {
      let entry = next.get(reference)
      if (entry === undefined) {
        const before = entries.get(reference) ?? {
          current: undefined,
          previous: undefined,
          sinceMs: undefined,
          problem: undefined,
        }
        entry = { ...before }
        next.set(reference, entry)
        const outcome = await refresh({ path, reference, use }, entry, around)
        if (outcome === 'loaded') changed.push(reference)
        options.onLoad?.(reference, outcome)
      }
      if (entry.problem !== undefined) problems.push({ path, reference, message: entry.problem })
    }
    // A reference that has left the configuration keeps its value: requests that began with it still use it.
    const left = [...entries].filter(([reference]) => !next.has(reference))
    for (const [, entry] of left.slice(MAX_LEFT)) retire(entry.current)
    entries = new Map([...next, ...left.slice(0, MAX_LEFT)])
    return { changed, problems }
  }

  async function refresh(
    { reference, use }: PlacedReference,
    entry: Entry,
    around: Surroundings,
  ): Promise<LoadOutcome> {
    const resolved = await resolveReference(reference, around, use)
    entry.problem = resolved.problem
    if (resolved.value === undefined) return 'failed'
    const sinceMs = Math.min(resolved.writtenMs ?? Number.POSITIVE_INFINITY, options.clock.wall())
    if (entry.current?.reveal() === resolved.value) {
      // A file that is written again with the same value, as a new mount is, makes no key younger.
      entry.sinceMs = Math.min(entry.sinceMs ?? sinceMs, sinceMs)
      return 'unchanged'
    }
    for (const warning of resolved.warnings) options.onWarning?.(warning)
    retire(entry.current)
    entry.previous = entry.current
    entry.current = new Secret(resolved.value)
    entry.sinceMs = sinceMs
    return 'loaded'
  }

  return {
    reload(next) {
      // One after the other: two loads at once could keep the older value of a file.
      const result = queue.then(() => {
        if (next !== undefined) {
          references = next.references
          groupReadable = next.groupReadable
        }
        return load()
      })
      queue = result.catch(() => undefined)
      return result
    },
    use(next) {
      references = next.references
      groupReadable = next.groupReadable
    },
    value: (reference) => entries.get(reference)?.current?.reveal(),
    previous: (reference) => entries.get(reference)?.previous?.reveal(),
    secret: (reference) => entries.get(reference)?.current,
    values() {
      const values = new Set(former)
      for (const { current } of entries.values()) if (current !== undefined) values.add(current.reveal())
      for (const value of [...values]) for (const part of passwordsOf(value)) values.add(part)
      return [...values]
    },
    files() {
      return [...new Set(references.map(({ reference }) => reference))]
        .filter((reference) => reference.startsWith('file:'))
        .map((reference) => reference.slice('file:'.length))
    },
    states() {
      return [...new Set(references.map(({ reference }) => reference))].map((reference) => {
        const entry = entries.get(reference)
        return {
          reference,
          source: reference.startsWith('env:') ? 'env' : 'file',
          fingerprint: entry?.current?.toString(),
          sinceMs: entry?.sinceMs,
          problem: entry?.problem,
        }
      })
    },
  }
}

/** Every secret reference of a configuration, with the place where it stands. */
export function referencesOf(snapshot: Pick<Snapshot, 'providers' | 'admin' | 'redis'>): PlacedReference[] {
  const placed: PlacedReference[] = []
  for (const provider of snapshot.providers.values()) {
    for (const [index, reference] of provider.keys.entries()) {
      const place = `providers.${provider.name}.apiKey`
      placed.push({ path: provider.keys.length === 1 ? place : `${place}[${index}]`, reference })
    }
  }
  if (snapshot.admin.token !== undefined)
    placed.push({ path: 'admin.token', reference: snapshot.admin.token })
  for (const { path, text } of snapshot.redis === undefined ? [] : textsOf(snapshot.redis)) {
    if (isReference(text)) placed.push({ path: formatPath(['redis', ...path]), reference: text, use: 'url' })
  }
  return placed
}

/** Secrets that stand in the configuration itself: the passwords of literal Redis URLs. For the scrubber. */
export function literalSecretsOf(snapshot: Pick<Snapshot, 'redis'>): string[] {
  const texts = snapshot.redis === undefined ? [] : textsOf(snapshot.redis)
  return texts.flatMap(({ text }) => (isReference(text) ? [] : passwordsOf(text)))
}

/** How long each secret has had its present value; those without one are left out. `nowMs` is Unix ms. */
export function secretAges(keyring: Pick<Keyring, 'states'>, nowMs: number) {
  return keyring
    .states()
    .flatMap(({ reference, sinceMs }) =>
      sinceMs === undefined ? [] : [{ secret: reference, ageSeconds: Math.max(0, (nowMs - sinceMs) / 1000) }],
    )
}

/**
 * Each with its age, the age at which it should have been replaced, and what went wrong when it was read the last time;
 * none with its value.
 */
export function secretsShown(
  keyring: Pick<Keyring, 'states'>,
  { nowMs, rotations }: { readonly nowMs: number; readonly rotations: readonly Rotation[] },
) {
  return keyring.states().map(({ reference, sinceMs, problem }) => {
    const rotateMs = rotations.find(({ secret }) => secret === reference)?.rotateMs
    return {
      secret: reference,
      ageSeconds: sinceMs === undefined ? undefined : Math.max(0, Math.round((nowMs - sinceMs) / 1000)),
      rotateSeconds: rotateMs === undefined ? undefined : rotateMs / 1000,
      problem,
    }
  })
}

/** What `sluice check` says of the secrets: every problem at once, and which are too old; nothing kept. */
export async function verifySecrets(
  snapshot: Pick<Snapshot, 'providers' | 'admin' | 'redis' | 'secrets'>,
  around: Pick<Surroundings, 'env' | 'uid'>,
  nowMs: number,
): Promise<{ problems: Problem[]; warnings: string[] }> {
  const problems: Problem[] = []
  const written = new Map<SecretReference, number>()
  const warnings = new Set<string>()
  const { groupReadable } = snapshot.secrets
  for (const { path, reference, use } of referencesOf(snapshot)) {
    const resolved = await resolveReference(reference, { ...around, groupReadable }, use)
    if (resolved.problem !== undefined) {
      problems.push({ path, message: resolved.problem })
      continue
    }
    for (const warning of resolved.warnings) warnings.add(warning)
    if (resolved.writtenMs !== undefined) written.set(reference, resolved.writtenMs)
  }
  for (const rotation of rotationsOf(snapshot)) {
    const text = overdueText(rotation, nowMs - (written.get(rotation.secret) ?? nowMs))
    if (text !== undefined) warnings.add(text)
  }
  return { problems, warnings: [...warnings] }
}

/** A client library prints the password of a URL without the URL, as written or decoded. */
function passwordsOf(value: string): string[] {
  const written = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*:([^/?#]*)@/i.exec(value)?.[1]
  if (written === undefined) return []
  const passwords = [written]
  try {
    passwords.push(decodeURIComponent(written))
  } catch {
    // Not percent-encoded: as written is all there is.
  }
  return passwords.filter((password) => password.length >= SHORTEST_SCRUBBED)
}
