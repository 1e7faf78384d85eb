// Waiting for one's turn instead of a refusal (`limits.wait`). The callers of an agent who wait for the same limit stand
// in one line, first come first served; only the first of a line asks, so agents share what is scarce among them by
// turns and not by the number of their callers. Bounded in count and time; who leaves is forgotten at once.

import type { Clock, EndSignal } from '../types.ts'
import type { Claim, Grant, Timers } from './store.ts'

export interface Pacing {
  /**
   * Decides a claim, later if need be. `attempt` is tried when its turn comes, again when the wait that it names is
   * over; `mayWaitMs` says for a refusal how long it is worth waiting for (0: not at all).
   */
  pace(turn: Turn): Promise<Grant>
  /**
   * Something came back to an agent: the first of each of its lines looks again at once. Of the accounts in `freed` it
   * was a slot, and that is for whoever waits for it by turns, this agent last.
   */
  nudge(agent: string, freed?: readonly string[]): void
  /** Waiters in all lines. */
  readonly waiting: number
}

type No = Extract<Grant, { ok: false }>

export interface Turn {
  readonly agent: string
  readonly claim: Claim
  readonly attempt: () => Grant | Promise<Grant>
  readonly mayWaitMs: (refused: No) => number
  /** How long to stand at most in a line that is there already. */
  readonly lineMs: number
  /** Monotonic ms at which the request is over. */
  readonly deadlineAt: number
  /** Aborts when the caller goes away: then nothing is taken any more. */
  readonly signal: EndSignal | undefined
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
  last: No | undefined
  /** When that was. */
  lastMs: number
  resolve(grant: Grant): void
  isOver: boolean
}

/** Those of one agent who wait for one limit. */
interface Line {
  readonly agent: string
  /** The key of the account that refused its first. */
  readonly key: string
  readonly waiters: Waiter[]
  attempting: boolean
  nudged: boolean
  cancel: () => void
}

export function createPacing({ clock, timers }: { clock: Clock; timers: Timers }): Pacing {
  /** By agent, and then by the key of the account that is waited for. */
  const agents = new Map<string, Map<string, Line>>()
  /** The same lines by what they wait for, whose turn it is first. */
  const queues = new Map<string, Set<Line>>()
  let waiting = 0

  async function pace(turn: Turn): Promise<Grant> {
    const line = lineOf(turn)
    const key = line?.key ?? slotOf(turn.claim)
    if (key !== undefined && turn.lineMs > 0 && !isFull(turn.agent)) return join(turn, key, turn.lineMs)
    const grant = await turn.attempt()
    if (grant.ok || !isWorth(grant, turn) || isFull(turn.agent)) return grant
    return join(turn, keyOf(grant), turn.mayWaitMs(grant), grant)
  }

  /** The line of a limit that the claim needs too. */
  function lineOf({ agent, claim }: Turn): Line | undefined {
    const lines = agents.get(agent)
    if (lines === undefined) return undefined
    for (const { account } of claim.asks) {
      const line = lines.get(account.key)
      if (line !== undefined) return line
    }
    return undefined
  }

  /** An account of the claim for whose slots others wait already: who comes now comes behind them. */
  function slotOf({ asks }: Claim): string | undefined {
    if (waiting === 0) return undefined
    for (const { account } of asks) {
      for (const { waiters } of queues.get(account.key) ?? [])
        if (waiters[0]?.last?.kind === 'concurrency') return account.key
    }
    return undefined
  }

  function isFull(agent: string): boolean {
    if (waiting >= MOST_OF_ALL) return true
    let here = 0
    for (const { waiters } of agents.get(agent)?.values() ?? []) here += waiters.length
    return here >= MOST_OF_AGENT
  }

  /** A wait that is known to be too long is not begun. */
  function isWorth(refused: No, turn: Turn): boolean {
    const mayWaitMs = turn.mayWaitMs(refused)
    if (mayWaitMs <= 0 || turn.signal?.aborted === true) return false
    const waitMs = waitOf(refused)
    return waitMs !== undefined && waitMs <= mayWaitMs && clock.now() + waitMs < turn.deadlineAt
  }

  function join(turn: Turn, key: string, mayWaitMs: number, last?: No): Promise<Grant> {
    return new Promise((resolve) => {
      const nowMs = clock.now()
      const line = openLine(turn.agent, key)
      const waiter: Waiter = {
        turn,
        sinceMs: nowMs,
        untilMs: Math.min(nowMs + mayWaitMs, turn.deadlineAt),
        last,
        lastMs: nowMs,
        resolve,
        isOver: false,
      }
      line.waiters.push(waiter)
      waiting += 1
      const cancelLimit = timers.after(Math.max(waiter.untilMs - nowMs, 0), () => giveUp(line, waiter))
      const onLeft = (): void => giveUp(line, waiter)
      turn.signal?.addEventListener('abort', onLeft)
      waiter.resolve = (grant) => {
        cancelLimit()
        turn.signal?.removeEventListener('abort', onLeft)
        resolve(grant)
      }
      if (line.waiters.length === 1) lookLater(line)
    })
  }

  function openLine(agent: string, key: string): Line {
    let lines = agents.get(agent)
    if (lines === undefined) {
      lines = new Map()
      agents.set(agent, lines)
    }
    let line = lines.get(key)
    if (line === undefined) {
      line = { agent, key, waiters: [], attempting: false, nudged: false, cancel: () => {} }
      lines.set(key, line)
      queues.set(key, (queues.get(key) ?? new Set()).add(line))
    }
    return line
  }

  /** Ends a wait with the last refusal; one that never had a turn has it now, and is refused or lucky. */
  function giveUp(line: Line, waiter: Waiter): void {
    if (waiter.isOver || (line.attempting && line.waiters[0] === waiter)) return
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
    if (line.waiters.length > 0) {
      if (place === 0) lookLater(line)
      return
    }
    line.cancel()
    const lines = agents.get(line.agent)
    lines?.delete(line.key)
    if (lines?.size === 0) agents.delete(line.agent)
    const queue = queues.get(line.key)
    queue?.delete(line)
    if (queue?.size === 0) queues.delete(line.key)
  }

  function lookLater(line: Line): void {
    line.cancel()
    const [first] = line.waiters
    if (first === undefined || line.attempting) return
    const { last } = first
    const looksMs = last === undefined ? 0 : last.kind === 'concurrency' ? LOOK_MS : (waitOf(last) ?? 0)
    const ms = Math.max(first.lastMs + looksMs - clock.now(), 0)
    // A timer counts whole milliseconds and may be a little early: an exact wait is rounded to the safe side.
    line.cancel = timers.after(ms === 0 ? 0 : Math.ceil(ms) + 1, () => void look(line))
  }

  async function look(line: Line): Promise<void> {
    const [first] = line.waiters
    if (first === undefined || line.attempting) return
    line.attempting = true
    line.nudged = false
    const grant = await first.turn.attempt()
    line.attempting = false
    if (grant.ok) {
      leave(line, first)
      goLast(line)
      first.resolve(grant)
      return
    }
    const nowMs = clock.now()
    first.last = grant
    first.lastMs = nowMs
    first.untilMs = Math.min(first.untilMs, first.sinceMs + first.turn.mayWaitMs(grant))
    const waitMs = waitOf(grant)
    if (waitMs === undefined || nowMs + waitMs >= first.untilMs || first.turn.signal?.aborted === true) {
      leave(line, first)
      first.resolve(grant)
      return
    }
    if (line.nudged) void look(line)
    else lookLater(line)
  }

  function lookNow(line: Line): void {
    line.nudged = true
    if (line.attempting) return
    line.cancel()
    line.cancel = timers.after(0, () => void look(line))
  }

  /** Who had a turn has the next one behind all others. */
  function goLast(line: Line): void {
    const queue = queues.get(line.key)
    if (queue?.delete(line)) queue.add(line)
  }

  return {
    pace,
    nudge(agent, freed = []) {
      for (const line of agents.get(agent)?.values() ?? []) if (!freed.includes(line.key)) lookNow(line)
      for (const key of freed) {
        const free = [...(queues.get(key) ?? [])].filter(({ nudged, attempting }) => !nudged && !attempting)
        const next = free.find((line) => line.agent !== agent) ?? free[0]
        if (next !== undefined) lookNow(next)
      }
    },
    get waiting() {
      return waiting
    },
  }
}

/** What is waited for; '' where nobody said. */
function keyOf(refused: No): string {
  return refused.kind === 'unavailable' ? '' : refused.ask.account.key
}

/** ms until another attempt makes sense, at the earliest; undefined where no wait of ours can help. */
function waitOf(refused: No): number | undefined {
  if (refused.kind === 'unavailable' || refused.kind === 'budget') return undefined
  // A slot may come back at any moment.
  return refused.kind === 'concurrency' ? 0 : refused.waitUs / 1000
}
