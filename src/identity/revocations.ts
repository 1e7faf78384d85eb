// Which bearers are refused although a configuration lists them, and which requests end with their bearer. Outlives
// reloads. Knows digests only, never a bearer; what other replicas say comes in by `learn` (shared-revocations.ts).

import { createBag, type Seat } from '../bytes/bag.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { GatewayError } from '../errors.ts'
import type { Arrival, Bearer, Clock } from '../types.ts'

export interface Revocations {
  /** Whether a bearer is revoked or has expired. */
  refuses(bearer: Bearer): boolean
  /** Takes a request among those that end with their bearer; what it gives is for `leave`. */
  enter(arrival: Arrival, bearer: Bearer): Stay
  /** The request is over. No effect on one that has been ended. */
  leave(stay: Stay): void
  /**
   * Takes up a configuration. Against the one before, a bearer that is gone is revoked, with all requests under way on
   * it, and one that has come is given back. The first one only says what is there.
   */
  use(snapshot: Snapshot): void
  /** What another replica has revoked or given back. */
  learn(changes: readonly Change[]): void
  /** Ends the requests whose bearer has expired; to be called about twice a second. */
  check(): void
  /** Every digest known to be revoked, with the Unix ms of its revocation, oldest first. */
  readonly known: ReadonlyMap<string, number>
  /** Calls with what this replica has revoked or given back itself. */
  onChange(listener: (changes: readonly Change[]) => void): void
}

/** A request under way, with the digest of its bearer. */
export type Stay = Seat<{ readonly arrival: Arrival; readonly sha256: string }>

/** A bearer that was revoked, or given back. */
export interface Change {
  readonly sha256: string
  readonly revoked: boolean
  /** Unix ms. */
  readonly atMs: number
}

interface Deps {
  readonly clock: Clock
  readonly log: { info(fields: Readonly<Record<string, unknown>>, message: string): void }
  /** Called for each revocation: `file` when it was seen here, `fleet` when another replica said so. */
  readonly count: (source: 'file' | 'fleet') => void
  /** Another process of this gateway says what becomes of bearers: of this one only the requests that end are told. */
  readonly quiet?: boolean | undefined
}

/** Revocations remembered here and in Redis; beyond them the oldest is forgotten. About 150 bytes each. */
export const MOST_REVOKED = 100_000

export function createRevocations({ clock, log, count, quiet = false }: Deps): Revocations {
  const revoked = new Map<string, number>()
  /** Requests under way. As many as there are; looked through when a bearer ends. */
  const open = createBag<NonNullable<Stay['item']>>()
  let bearers: ReadonlyMap<string, Bearer> | undefined
  let tell = (_changes: readonly Change[]): void => {}

  function refuses({ sha256, expiresMs }: Bearer): boolean {
    return revoked.has(sha256) || (expiresMs !== undefined && clock.wall() >= expiresMs)
  }

  function add(sha256: string, atMs: number): void {
    revoked.set(sha256, atMs)
    if (revoked.size <= MOST_REVOKED) return
    const [oldest] = revoked.keys()
    if (oldest !== undefined) revoked.delete(oldest)
  }

  /** Ends every request whose bearer is refused by now. Gives how many, by digest. */
  function endRefused(): ReadonlyMap<string, number> {
    const ended = new Map<string, number>()
    for (const stay of open.seats()) {
      if (stay.item === undefined) continue
      const { arrival, sha256 } = stay.item
      const bearer = bearers?.get(sha256)
      if (bearer !== undefined && !refuses(bearer)) continue
      open.remove(stay)
      ended.set(sha256, (ended.get(sha256) ?? 0) + 1)
      arrival.end(new GatewayError('invalid_api_key', 'The API key is no longer valid.'))
    }
    return ended
  }

  /** Of a bearer whoever reads the log knows its agent and its id. */
  function say(message: string, { agent, id }: Bearer, more: Readonly<Record<string, unknown>>): void {
    log.info({ agent, bearer: id, ...more }, message)
  }

  function sayRevoked(gone: readonly Bearer[], source: 'file' | 'fleet'): void {
    const ended = endRefused()
    for (const bearer of gone) {
      count(source)
      const some = ended.get(bearer.sha256) ?? 0
      if (!quiet) say('bearer revoked', bearer, { source, ended: some })
      else if (some > 0) say('requests of a revoked bearer ended', bearer, { ended: some })
    }
  }

  function sayGivenBack(bearer: Bearer, source: 'file' | 'fleet'): void {
    if (!quiet) say('bearer given back', bearer, { source })
  }

  return {
    refuses,
    known: revoked,
    enter: (arrival, { sha256 }) => open.add({ arrival, sha256 }),
    leave: open.remove,

    use(snapshot) {
      const before = bearers
      bearers = snapshot.bearers
      if (before === undefined) return
      const atMs = clock.wall()
      const changes: Change[] = []
      // What another replica has said before is not news.
      const gone = [...before.values()].filter(
        ({ sha256 }) => !snapshot.bearers.has(sha256) && !revoked.has(sha256),
      )
      for (const { sha256 } of gone) {
        add(sha256, atMs)
        changes.push({ sha256, revoked: true, atMs })
      }
      for (const bearer of snapshot.bearers.values()) {
        if (before.has(bearer.sha256) || !revoked.delete(bearer.sha256)) continue
        changes.push({ sha256: bearer.sha256, revoked: false, atMs })
        sayGivenBack(bearer, 'file')
      }
      sayRevoked(gone, 'file')
      if (changes.length > 0) tell(changes)
    },

    learn(changes) {
      const gone: Bearer[] = []
      for (const { sha256, revoked: isRevoked, atMs } of changes) {
        const bearer = bearers?.get(sha256)
        if (isRevoked) {
          if (!revoked.has(sha256) && bearer !== undefined) gone.push(bearer)
          add(sha256, atMs)
        } else if (revoked.delete(sha256) && bearer !== undefined) {
          sayGivenBack(bearer, 'fleet')
        }
      }
      if (gone.length > 0) sayRevoked(gone, 'fleet')
    },

    check() {
      for (const [sha256, ended] of endRefused()) {
        const bearer = bearers?.get(sha256)
        if (bearer !== undefined) say('bearer expired', bearer, { ended })
      }
    },

    onChange(listener) {
      tell = listener
    },
  }
}
