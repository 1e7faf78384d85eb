// Health checks: a GET to each provider that is to be checked, again and again, and what it came to for health. They
// only tell what no request has told: one that answers requests is well whatever a check says, and the way back is
// opened by requests. Keyed by provider and made in main.ts: a reload leaves a check that it does not change alone.

import type { Snapshot } from '../config/snapshot.ts'
import type { Format } from '../formats/format.ts'
import type { Clock, HealthCheck, Provider, Reason } from '../types.ts'
import { toReason } from './attempt.ts'
import { addOwnHeaders, addSignature } from './exchange.ts'
import { type Health, isOfTheWay } from './health.ts'
import type { CheckHint, Hints } from './hints.ts'
import type { Keys } from './keys.ts'
import type { Timers } from './timers.ts'
import type { Transport } from './transport.ts'

export interface Checks {
  /** Checks what this configuration says from now on. */
  use(snapshot: Pick<Snapshot, 'providers' | 'deployments'>): void
  /** What a check of another replica came to. */
  learn(hint: CheckHint): void
  /** Ends what is under way, and begins nothing more. */
  close(): void
}

export interface ChecksDeps {
  readonly get: Transport['get']
  readonly formats: ReadonlyMap<string, Format>
  readonly keys: Pick<Keys, 'next'>
  readonly health: Pick<Health, 'foundWell' | 'foundIll'>
  readonly hints: Pick<Hints, 'tell' | 'mayCheck'>
  readonly clock: Clock
  readonly timers: Timers
  readonly random: () => number
  readonly log: { warn(fields: Readonly<Record<string, unknown>>, message: string): void }
  readonly userAgent: string
}

/** A check takes at most so long, and never longer than the time between two. */
const CHECK_MS = 5000
const NO_BODY = Buffer.alloc(0)
/** After a failure the next one is this soon: one alone may be a hiccup. */
const AGAIN_MS = 1000
/** While checks fail they come this often at least: whoever is back is to be noticed. */
const ILL_EVERY_MS = 10_000
/** Each pause is longer or shorter by as much of itself, at most. */
const JITTER = 0.2
/** Part of the time between two checks that a turn lasts: less than the shortest, so that nobody waits for himself. */
const TURN = 0.75
/** Of an answer so much is read, that its connection can be used again. */
const MOST_BYTES = 64 * 1024

/** What a check found: why it failed; undefined when it was good; `nothing` when it tells nothing. */
type Found = Reason | undefined | 'nothing'

interface Check {
  provider: Provider
  deployments: readonly string[]
  readonly path: string
  readonly everyMs: number
  timer: unknown
  /** Ends the one that is under way. */
  cancel: () => void
  /** A turn is under way, and sets the time of the next one itself. */
  isBusy: boolean
  over: boolean
  /** Failures in a row, of all replicas as far as is known. */
  failures: number
  /** What the last check from here found. */
  last: Reason | undefined
  /** The next one is made here, whoever's turn it is. */
  isOwn: boolean
  /** It is this replica's turn until then. */
  turnUntilMs: number
  /** The status that was told in the log as one that tells nothing. */
  toldStatus: number
}

export function createChecks(deps: ChecksDeps): Checks {
  const { health, hints, clock, timers, random } = deps
  const checks = new Map<string, Check>()

  function set(check: Check, ms: number): void {
    timers.clear(check.timer)
    check.timer = timers.set(ms, () => void turn(check))
  }

  /** One turn: a check, if it is ours to make, and the time of the next one. */
  async function turn(check: Check): Promise<void> {
    check.isBusy = true
    const isOurs = await isOurTurn(check)
    if (check.over) return
    // What may be the doing of the way from here nobody else can look at.
    if (isOurs || check.isOwn || isOfTheWay(check.last)) {
      check.isOwn = false
      const found = await ask(check)
      if (check.over) return
      if (found === 'nothing') check.failures = 0
      else {
        check.last = found
        note(check, found)
        if (isOurs) hints.tell({ kind: 'checked', provider: check.provider.name, reason: found })
      }
    }
    check.isBusy = false
    set(check, pauseMs(check) * (1 - JITTER + 2 * JITTER * random()))
  }

  function pauseMs({ everyMs, failures }: Check): number {
    if (failures === 0) return everyMs
    return Math.min(everyMs, failures === 1 ? AGAIN_MS : ILL_EVERY_MS)
  }

  /** Of all replicas and workers one makes the check, and the next one whoever comes first when its turn is over. */
  async function isOurTurn(check: Check): Promise<boolean> {
    if (clock.now() < check.turnUntilMs) return true
    const ms = check.everyMs * TURN
    if (!(await hints.mayCheck(check.provider.name, ms))) return false
    check.turnUntilMs = clock.now() + ms
    return true
  }

  function note(check: Check, reason: Reason | undefined): void {
    check.failures = reason === undefined ? 0 : check.failures + 1
    if (reason === undefined) for (const name of check.deployments) health.foundWell(name)
    else {
      const ms = Math.min(check.everyMs, ILL_EVERY_MS) * (1 + JITTER) + CHECK_MS + AGAIN_MS
      for (const name of check.deployments) health.foundIll(name, reason, ms)
    }
  }

  /** Makes the check. Redirects are not followed, and the body says nothing. */
  function ask(check: Check): Promise<Found> {
    const { provider, path, everyMs } = check
    const format = deps.formats.get(provider.format)?.provider
    const key = deps.keys.next(provider)
    if (format === undefined || key === 'parked') return Promise.resolve('nothing')
    const headers = ['accept', 'application/json', ...(format.headers ?? [])]
    addOwnHeaders(headers, { provider, format, key, userAgent: deps.userAgent })
    const url = new URL(`${provider.baseUrl}${path}`)
    const call = { method: 'GET', url: url.href, body: NO_BODY, nowMs: clock.wall() }
    addSignature(headers, call, { provider, format, key })
    return new Promise((resolve) => {
      let found: Found = 'connect'
      let hasHead = false
      let bytes = 0
      const timer = timers.set(Math.min(everyMs, CHECK_MS), () => cut(found))
      function end(what: Found): void {
        timers.clear(timer)
        resolve(what)
      }
      function cut(what: Found): void {
        control.abort()
        end(what)
      }
      check.cancel = () => cut('nothing')
      const control = deps.get(
        provider,
        { url, headers },
        {
          started() {
            found = 'first_byte'
          },
          head(status) {
            hasHead = true
            found = judge(check, status)
          },
          data(chunk) {
            bytes += chunk.length
            if (bytes > MOST_BYTES) cut(found)
          },
          end: () => end(found),
          failed: (error) => end(hasHead ? found : toReason(error, false)),
        },
      )
    })
  }

  /** What a status tells of whether a provider is there. What tells nothing is said once. */
  function judge(check: Check, status: number): Found {
    if (status < 300) return undefined
    // Whoever does not know the path, or the method, has not failed.
    if (status >= 500 && status !== 501) return `${status}`
    if (status !== check.toldStatus) {
      check.toldStatus = status
      deps.log.warn(
        { provider: check.provider.name, path: check.path, status },
        'a health check tells nothing: health.path of the provider is to answer 200 to its key',
      )
    }
    return 'nothing'
  }

  function stop(check: Check): void {
    check.over = true
    timers.clear(check.timer)
    check.cancel()
  }

  return {
    use({ providers, deployments }) {
      for (const [name, check] of checks) {
        const now = providers.get(name)
        if (now !== undefined && isSame(check, now)) continue
        stop(check)
        checks.delete(name)
      }
      for (const provider of providers.values()) {
        const { name, kind, health: wanted } = provider
        const called = [...deployments.values()]
          .filter((one) => one.provider?.name === name)
          .map((one) => one.name)
        const check = checks.get(name)
        if (check !== undefined) {
          check.provider = provider
          check.deployments = called
        } else if (wanted !== undefined && kind === 'http' && called.length > 0) {
          const begun = toCheck(provider, wanted, called)
          checks.set(name, begun)
          set(begun, AGAIN_MS * random())
        }
      }
    },

    learn({ provider, reason }) {
      const check = checks.get(provider)
      if (check === undefined) return
      if (!isOfTheWay(reason) && !isOfTheWay(check.last)) return note(check, reason)
      // Another's way is not ours: each looks for himself, and not all at once.
      check.isOwn = true
      if (!check.isBusy) set(check, AGAIN_MS * random())
    },

    close() {
      for (const check of checks.values()) stop(check)
      checks.clear()
    },
  }
}

function toCheck(
  provider: Provider,
  { path, everyMs }: HealthCheck,
  deployments: Check['deployments'],
): Check {
  return {
    provider,
    deployments,
    path,
    everyMs,
    timer: undefined,
    cancel() {},
    isBusy: false,
    over: false,
    failures: 0,
    last: undefined,
    isOwn: false,
    turnUntilMs: 0,
    toldStatus: 0,
  }
}

/** Whether a check goes on as it is under a new configuration. */
function isSame({ provider, path, everyMs }: Check, now: Provider): boolean {
  return (
    now.baseUrl === provider.baseUrl &&
    now.format === provider.format &&
    now.health?.path === path &&
    now.health.everyMs === everyMs
  )
}
