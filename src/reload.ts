// A reload: reads the configuration and its secrets again, and takes over what is good, in this process and then in its
// workers. What a new Snapshot changes in the process is handed in as `use`.

import type { ReloadAnswer } from './admin/app.ts'
import { isObject } from './bytes/json-value.ts'
import { formatProblem, type Problem } from './config/problems.ts'
import type { Reader } from './config/reader.ts'
import { needsRestart } from './config/restart.ts'
import type { Snapshot } from './config/snapshot.ts'
import type { Loaded } from './config/validate.ts'
import { type Keyring, referencesOf } from './secrets/keyring.ts'
import type { Fleet } from './workers/fleet.ts'

export interface ReloadDeps {
  readonly reader: Reader
  readonly keyring: Keyring
  /** The configuration in use. */
  readonly snapshot: () => Snapshot
  /** Puts another one in its place. */
  readonly use: (snapshot: Snapshot) => void
  /** Undefined in a process without workers. */
  readonly fleet: Fleet | undefined
  /** Tells the scrubber of what these configurations hold, and of every value of the keyring. */
  readonly teach: (snapshots: readonly Snapshot[]) => void
  readonly warn: (warnings: readonly string[]) => void
  /** A log line that is told once for all processes. */
  readonly news: (fields: Readonly<Record<string, unknown>>, message: string) => void
  readonly log: { error(fields: Readonly<Record<string, unknown>>, message: string): void }
  readonly onError: (error: unknown) => void
  readonly timers: { after(delayMs: number, callback: () => void): () => void }
}

/** Answers when all is done, never rejects. `secretsOnly` leaves the configuration as it is. */
export type Reload = (what: { secretsOnly: boolean }) => Promise<ReloadAnswer>

/** How long the workers have for a reload. */
const RELOAD_MS = 30_000
/** Workers that have not taken over what is new are told again after this. */
const TELL_AGAIN_MS = 5000

/** Reloads follow one another; each ends with the new gateway in place or with the old one untouched. */
export function createReload(deps: ReloadDeps): Reload {
  const { reader, keyring, fleet, teach, warn, news, log, onError, timers } = deps
  let reloading: Promise<ReloadAnswer> = Promise.resolve({ ok: true, applied: true, problems: [] })
  let cancelTelling = (): void => {}

  const reload: Reload = ({ secretsOnly }) => {
    reloading = reloading
      .then(() => reloadNow(secretsOnly))
      .then((answer) => (fleet === undefined ? answer : reloadWorkers(fleet, answer, secretsOnly)))
      .catch((error: unknown) => {
        onError(error)
        return refused([{ file: '', path: '', message: 'internal error, see the log' }])
      })
    return reloading
  }

  function refused(problems: readonly Problem[]): ReloadAnswer {
    log.error({ problems: problems.map(formatProblem) }, 'the new configuration is not used: it has problems')
    return { ok: false, applied: false, problems }
  }

  async function reloadNow(secretsOnly: boolean): Promise<ReloadAnswer> {
    const before = deps.snapshot()
    const next: Loaded = secretsOnly ? { ok: true, snapshot: before } : await reader.read()
    const secrets = next.ok ? await loadSecrets(next.snapshot) : { missing: next.problems, stale: [] }
    if (next.ok && secrets.missing.length === 0) {
      if (!secretsOnly) use(next.snapshot)
      settleSecrets()
      if (secrets.stale.length === 0) return { ok: true, applied: true, problems: [] }
      log.error(
        { problems: secrets.stale.map(formatProblem) },
        'some secrets cannot be read; the last good values stay',
      )
      return { ok: false, applied: true, problems: secrets.stale }
    }
    // A mistake in one file must not keep the changes of the others from being heard, a removed bearer above all.
    const around = await reader.readAround(new Set(secrets.missing.map(({ file }) => file)))
    if (around.ok && (await loadSecrets(around.snapshot)).missing.length === 0) {
      use(around.snapshot, 'what has no problems was reloaded')
    }
    settleSecrets()
    return refused(secrets.missing)
  }

  /** Reads the secrets of a configuration beside those in use. Without a value it cannot be used; an old one will do. */
  async function loadSecrets(snapshot: Snapshot): Promise<{ missing: Problem[]; stale: Problem[] }> {
    const wanted = referencesOf(snapshot)
    const named = new Set(wanted.map(({ reference }) => reference))
    const present = referencesOf(deps.snapshot()).filter(({ reference }) => !named.has(reference))
    const { changed, problems } = await keyring.reload({
      references: [...wanted, ...present],
      groupReadable: snapshot.secrets.groupReadable,
    })
    teach([deps.snapshot(), snapshot])
    if (changed.length > 0) news({ secrets: changed }, 'secrets replaced')
    const missing: Problem[] = []
    const stale: Problem[] = []
    for (const { path, reference, message } of problems) {
      if (!named.has(reference)) continue
      const list = keyring.value(reference) === undefined ? missing : stale
      list.push({ file: snapshot.source, path, message })
    }
    return { missing, stale }
  }

  function use(snapshot: Snapshot, message = 'configuration reloaded'): void {
    warn([...needsRestart(deps.snapshot(), snapshot), ...snapshot.warnings])
    deps.use(snapshot)
    news({ agents: snapshot.agents.size, routes: snapshot.routes.size }, message)
  }

  function settleSecrets(): void {
    const snapshot = deps.snapshot()
    keyring.use({ references: referencesOf(snapshot), groupReadable: snapshot.secrets.groupReadable })
  }

  /** Every worker takes over what is in use here. */
  async function reloadWorkers(
    workers: Fleet,
    own: ReloadAnswer,
    secretsOnly: boolean,
  ): Promise<ReloadAnswer> {
    const sources = secretsOnly ? undefined : reader.sourcesOf(deps.snapshot())
    const answers = await workers.ask({ kind: 'reload', sources, secretsOnly }, RELOAD_MS)
    const lost = answers.flatMap(({ id, answer }): Problem[] => {
      if (!isReloadAnswer(answer))
        return [{ file: '', path: '', message: `worker ${id} has not reloaded in time` }]
      return answer.problems.filter(({ message }) => !own.problems.some((one) => one.message === message))
    })
    cancelTelling()
    if (lost.length === 0) return own
    log.error({ problems: lost.map(formatProblem) }, 'not all workers have what is new: they are told again')
    cancelTelling = timers.after(TELL_AGAIN_MS, () => void reload({ secretsOnly }))
    return { ...own, ok: false, problems: [...own.problems, ...lost] }
  }

  return reload
}

/** Files and folders whose change is a reason to reload: secrets and agents. The file of the configuration is none. */
export function watchedPaths(keyring: Keyring, snapshot: Snapshot): string[] {
  const paths = keyring.files()
  if (snapshot.policiesPath !== undefined) paths.push(snapshot.policiesPath)
  return paths
}

// What comes from another process of this program is looked at no closer than that it is of the kind.
function isReloadAnswer(value: unknown): value is ReloadAnswer {
  return isObject(value) && Array.isArray(value.problems)
}
