// Our own overload: refuses new requests while this process has more to do than it can, batch first and critical last.
// Goes by how late the event loop is, which is what everybody here waits for; how slow a provider is does not count.
// Never touches what is under way. Made once for the process: a reload does not reset it.

import { GatewayError } from '../errors.ts'
import type { Agent, Caller } from '../types.ts'
import type { Watched } from './body.ts'

type Class = Agent['class']

/** Looked at by a sweep, `OVERLOAD_EVERY_MS` apart. */
export interface Overload extends Watched {
  /** Counts a request in. Whoever is refused here leaves too. @throws GatewayError overloaded */
  enter(caller: Caller): void
  leave(caller: Caller): void
  shown(): OverloadShown
}

export interface OverloadShown {
  /** Requests that may be under way here; null while there is no need to say. */
  readonly cap: number | null
  /** How late the event loop was of late, at worst. */
  readonly loopDelayMs: number
  /** Classes whose next request is refused. */
  readonly shedding: readonly Class[]
}

/** How the event loop did since it was last read. */
export interface Loop {
  read(): {
    readonly delayMs: number
    readonly busyShare: number
    /** Connections taken in per turn of the loop; 1 is all that it can. */
    readonly intake: number
  }
}

interface Deps {
  readonly loop: Loop
  readonly clock: { now(): number }
  readonly random: () => number
  readonly log: {
    info(fields: Readonly<Record<string, unknown>>, message: string): void
    warn(fields: Readonly<Record<string, unknown>>, message: string): void
  }
}

export const OVERLOAD_EVERY_MS = 200
/** Something that was due came later than this: too late. Below the other it is on time again. */
const LATE_MS = 100
const ON_TIME_MS = 50
/** More connections a turn than this, and others wait in the kernel, for much longer than any timer here shows. */
const FULL_INTAKE = 0.9
/** What that counts: a crowd that comes back at once, as when another replica restarts, is taken in within two seconds. */
const INTAKE_WEIGHT = 0.5
/** A loop with more time to spare was late for another reason: it was kept from running, or had one long task. */
const BUSY_SHARE = 0.9
/** Late for so long at a stretch begins it. One look counts for little: it may be a process that was stopped. */
const EVIDENCE_MS = 1_000
const MOST_OF_ONE_LOOK_MS = 400
/** So many under way are no crowd: they are let in whatever the loop does. */
const LEAST_CAP = 20
/** What is left of the cap at each look that is late: target over delay, as in Netflix's Gradient2, within these. */
const SMALLEST_CUT = 0.9
const LARGEST_CUT = 0.5
/** Of the cap, at each look that is not. */
const GROWTH = 1.1
/** Not late for so long, and nobody refused: it is over. */
const CALM_MS = 3_000

/**
 * What a class may use of the cap. It is held against those of the same and of higher classes alone, so that whoever
 * is under way in a lower one never keeps a higher one out. Critical has as much again: a cap that others have made
 * small is no reason to refuse a few of it that come together.
 */
const SHARES = { critical: 2, normal: 0.8, batch: 0.5 } as const satisfies Record<Class, number>
const CLASSES = ['batch', 'normal', 'critical'] as const satisfies readonly Class[]

/** Told to whom is refused: this long and up to so much more, so that they do not come back all at once. */
const WAIT_MS = 1_000
const MORE_MS = { critical: 1_000, normal: 4_000, batch: 9_000 } as const satisfies Record<Class, number>

export function createOverload({ loop, clock, random, log }: Deps): Overload {
  const inflight = { critical: 0, normal: 0, batch: 0 }
  let peak = 0
  let cap = Number.POSITIVE_INFINITY
  let lookedMs = clock.now()
  let evidenceMs = 0
  let loopDelayMs = 0
  let beganMs = 0
  let calmSinceMs = 0
  const refused = { critical: 0, normal: 0, batch: 0 }

  function underWay(): number {
    return inflight.critical + inflight.normal + inflight.batch
  }

  /** How many stand against the share of a class. */
  function abreast(of: Class): number {
    if (of === 'critical') return inflight.critical
    return of === 'normal' ? inflight.critical + inflight.normal : underWay()
  }

  function begin(nowMs: number): void {
    beganMs = nowMs
    for (const one of CLASSES) refused[one] = 0
    shrink(nowMs)
    log.warn({ inflight: peak, cap, loopDelayMs }, 'overloaded: new requests are shed, batch first')
  }

  function shrink(nowMs: number): void {
    const cut = Math.min(Math.max(LATE_MS / loopDelayMs, LARGEST_CUT), SMALLEST_CUT)
    cap = Math.max(Math.floor(Math.min(cap, peak) * cut), LEAST_CAP)
    calmSinceMs = nowMs
  }

  function end(nowMs: number): void {
    cap = Number.POSITIVE_INFINITY
    log.info({ forMs: Math.round(nowMs - beganMs), shed: { ...refused } }, 'overloaded no more')
  }

  return {
    enter(caller) {
      const { class: of } = caller.agent
      inflight[of] += 1
      const all = underWay()
      if (all > peak) peak = all
      if (all <= LEAST_CAP || abreast(of) <= cap * SHARES[of]) return
      refused[of] += 1
      calmSinceMs = clock.now()
      throw new GatewayError('overloaded', 'The gateway has more to do than it can; send this again later.', {
        retryAfterMs: WAIT_MS + random() * MORE_MS[of],
      })
    },
    leave(caller) {
      inflight[caller.agent.class] -= 1
    },
    check(nowMs) {
      const { delayMs, busyShare, intake } = loop.read()
      loopDelayMs = Math.round(delayMs)
      const weight =
        busyShare <= BUSY_SHARE ? 0 : delayMs > LATE_MS ? 1 : intake > FULL_INTAKE ? INTAKE_WEIGHT : 0
      const isLate = weight > 0
      evidenceMs = isLate ? evidenceMs + weight * Math.min(nowMs - lookedMs, MOST_OF_ONE_LOOK_MS) : 0
      lookedMs = nowMs
      if (cap === Number.POSITIVE_INFINITY) {
        if (evidenceMs >= EVIDENCE_MS && peak > LEAST_CAP) begin(nowMs)
      } else if (isLate) shrink(nowMs)
      else if (delayMs < ON_TIME_MS || busyShare <= BUSY_SHARE) {
        cap = Math.ceil(cap * GROWTH)
        if (nowMs - calmSinceMs >= CALM_MS) end(nowMs)
      }
      peak = underWay()
    },
    shown() {
      const isFull = (one: Class) => underWay() >= LEAST_CAP && abreast(one) + 1 > cap * SHARES[one]
      return {
        cap: cap === Number.POSITIVE_INFINITY ? null : cap,
        loopDelayMs,
        shedding: CLASSES.filter(isFull),
      }
    },
  }
}

/** Of several processes the one with the least cap, or else with the slowest loop; undefined of none. */
export function worstOverload(all: readonly OverloadShown[]): OverloadShown | undefined {
  const capOf = ({ cap }: OverloadShown): number => cap ?? Number.MAX_SAFE_INTEGER
  return all.toSorted((a, b) => capOf(a) - capOf(b) || b.loopDelayMs - a.loopDelayMs)[0]
}
