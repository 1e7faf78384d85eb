// Waiting for one's turn instead of a refusal (`limits.wait`). One line of waiters for each agent, first come first
// served; only the first of a line asks for limits, so agents share what is scarce among them by turns and not by the
// number of their callers. Bounded in count and time; who leaves is forgotten at once.

import type { Clock } from '../types.ts'
import type { Grant, Timers } from './store.ts'

export interface Pacing {
  /**
   * Decides a claim, later if need be. `attempt` is tried when its turn comes, again when the wait that it names is
   * over; `mayWaitMs` says for a refusal how long it is worth waiting for (0: not at all).
   */
  pace(turn: Turn): Promise<Grant>
  /** Something came back to an agent: its first waiter looks again at once. */
  nudge(agent: string): void
  /** Waiters in all lines. */
  readonly waiting: number
}

export interface Turn {
  readonly agent: string
  readonly attempt: () => Grant | Promise<Grant>
  readonly mayWaitMs: (refused: Extract<Grant, { ok: false }>) => number
  /** How long to wait at most before the first attempt, when others of the agent wait already. */
  readonly lineMs: number
  /** Monotonic ms at which the request is over. */
  readonly deadlineAt: number
  /** Aborts when the caller goes away: then nothing is taken any more. */
  readonly signal: AbortSignal | undefined
}

/** Most waiters of one agent, and of all; more are answered as if there were no waiting. */
const MOST_OF_AGENT = 1_000
const MOST_OF_ALL = 20_000
/** How often somebody who waits for a slot looks whether one came back elsewhere. */
const LOOK_MS = 100

interface Waiter {
  readonly turn: Turn
  readonly sinceMs: number
  /** When it gives up, as far as is known: the last refusal says for how long a wait is worth it. */
  untilMs: number
  last: Extract<Grant, { ok: false }> | undefined
  /** When that was. */
  lastMs: number
  resolve(grant: Grant): void
  isOver: boolean
}

interface Line {
  readonly waiters: Waiter[]
  attempting: boolean
  nudged: boolean
  cancel: () => void
}

export function createPacing({ clock, timers }: { clock: Clock; timers: Timers }): Pacing {
  const lines = new Map<string, Line>()
  let waiting = 0

  async function pace(turn: Turn): Promise<Grant> {
    const line = lines.get(turn.agent)
    const isFirst = line === undefined || turn.lineMs <= 0
    if (isFirst) {
      const grant = await turn.attempt()
      if (grant.ok) return grant
      const mayWaitMs = turn.mayWaitMs(grant)
      if (!isWorth(grant, mayWaitMs, turn) || isFull(turn.agent)) return grant
      return join(turn, mayWaitMs, grant)
    }
    if (isFull(turn.agent)) return turn.attempt()
    return join(turn, turn.lineMs, undefined)
  }

  function isFull(agent: string): boolean {
    return waiting >= MOST_OF_ALL || (lines.get(agent)?.waiters.length ?? 0) >= MOST_OF_AGENT
  }

  /** A wait that is known to be too long is not begun. */
  function isWorth(refused: Extract<Grant, { ok: false }>, mayWaitMs: number, turn: Turn): boolean {
    if (mayWaitMs <= 0 || turn.signal?.aborted === true) return false
    const waitMs = waitOf(refused)
    return waitMs !== undefined && waitMs <= mayWaitMs && clock.now() + waitMs < turn.deadlineAt
  }

  function join(turn: Turn, mayWaitMs: number, last: Waiter['last']): Promise<Grant> {
    return new Promise((resolve) => {
      const nowMs = clock.now()
      const waiter: Waiter = {
        turn,
        sinceMs: nowMs,
        untilMs: Math.min(nowMs + mayWaitMs, turn.deadlineAt),
        last,
        lastMs: nowMs,
        resolve,
        isOver: false,
      }
      let line = lines.get(turn.agent)
      if (line === undefined) {
        line = { waiters: [], attempting: false, nudged: false, cancel: () => {} }
        lines.set(turn.agent, line)
      }
      line.waiters.push(waiter)
      waiting += 1
      const cancelLimit = timers.after(Math.max(waiter.untilMs - nowMs, 0), () => giveUp(waiter))
      const onLeft = (): void => giveUp(waiter)
      turn.signal?.addEventListener('abort', onLeft, { once: true })
      waiter.resolve = (grant) => {
        cancelLimit()
        turn.signal?.removeEventListener('abort', onLeft)
        resolve(grant)
      }
      if (line.waiters.length === 1) lookLater(line, turn.agent)
    })
  }

  /** Ends a wait with the last refusal; one that never had a turn has it now, and is refused or lucky. */
  function giveUp(waiter: Waiter): void {
    const line = lines.get(waiter.turn.agent)
    if (waiter.isOver || line === undefined) return
    if (line.attempting && line.waiters[0] === waiter) return
    leave(line, waiter)
    if (waiter.last !== undefined || waiter.turn.signal?.aborted === true) {
      waiter.resolve(waiter.last ?? { ok: false, kind: 'unavailable' })
      return
    }
    void Promise.resolve(waiter.turn.attempt()).then(waiter.resolve)
  }

  function leave(line: Line, waiter: Waiter): void {
    waiter.isOver = true
    waiting -= 1
    const place = line.waiters.indexOf(waiter)
    line.waiters.splice(place, 1)
    const { agent } = waiter.turn
    if (line.waiters.length === 0) {
      line.cancel()
      lines.delete(agent)
    } else if (place === 0) lookLater(line, agent)
  }

  function lookLater(line: Line, agent: string): void {
    line.cancel()
    const [first] = line.waiters
    if (first === undefined || line.attempting) return
    const waitMs = first.last === undefined ? 0 : (waitOf(first.last) ?? 0)
    const looksMs = first.last?.kind === 'concurrency' ? Math.min(waitMs, LOOK_MS) : waitMs
    const ms = Math.max(first.lastMs + looksMs - clock.now(), 0)
    // A timer counts whole milliseconds and may be a little early: an exact wait is rounded to the safe side.
    line.cancel = timers.after(ms === 0 ? 0 : Math.ceil(ms) + 1, () => void look(line, agent))
  }

  async function look(line: Line, agent: string): Promise<void> {
    const [first] = line.waiters
    if (first === undefined || line.attempting) return
    line.attempting = true
    line.nudged = false
    const grant = await first.turn.attempt()
    line.attempting = false
    if (grant.ok) {
      leave(line, first)
      first.resolve(grant)
      return
    }
    const nowMs = clock.now()
    first.last = grant
    first.lastMs = nowMs
    first.untilMs = Math.min(first.untilMs, first.sinceMs + first.turn.mayWaitMs(grant))
    const waitMs = grant.kind === 'concurrency' ? 0 : waitOf(grant)
    if (waitMs === undefined || nowMs + waitMs >= first.untilMs || first.turn.signal?.aborted === true) {
      leave(line, first)
      first.resolve(grant)
      return
    }
    if (line.nudged) void look(line, agent)
    else lookLater(line, agent)
  }

  return {
    pace,
    nudge(agent) {
      const line = lines.get(agent)
      if (line === undefined) return
      line.nudged = true
      if (!line.attempting) {
        line.cancel()
        line.cancel = timers.after(0, () => void look(line, agent))
      }
    },
    get waiting() {
      return waiting
    },
  }
}

/** ms until another attempt makes sense; undefined where no wait of ours can help. */
function waitOf(refused: Extract<Grant, { ok: false }>): number | undefined {
  if (refused.kind === 'unavailable' || refused.kind === 'budget') return undefined
  return refused.waitUs / 1000
}
