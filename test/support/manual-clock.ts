// Time that moves only when a test says so.

export interface ManualClock {
  readonly clock: { now(): number; wall(): number }
  readonly timers: {
    /** Runs `run` once, `ms` from now. */
    set(ms: number, run: () => void): unknown
    clear(handle: unknown): void
  }
  /** Moves both clocks; what falls due runs in order, each at its own moment. Timers set meanwhile count too. */
  advance(ms: number): void
  /** The same, and lets promises settle before each timer and at the end. */
  advanceAsync(ms: number): Promise<void>
  /** Timers that have not run. */
  readonly pending: number
  /** Moves the wall clock alone, as an NTP step does. */
  stepWall(ms: number): void
}

interface Timer {
  readonly at: number
  readonly run: () => void
}

/** Starts at monotonic 0 and at the Unix time given. */
export function createManualClock({ nowMs = 0, wallMs = Date.UTC(2026, 10, 21, 12) } = {}): ManualClock {
  let now = nowMs
  let wallOffset = wallMs - nowMs
  let next = 1
  const timers = new Map<number, Timer>()

  /** The first timer due until then; of two at the same moment the one set first. */
  const due = (until: number): [number, Timer] | undefined => {
    let first: [number, Timer] | undefined
    for (const entry of timers)
      if (entry[1].at <= until && (!first || entry[1].at < first[1].at)) first = entry
    return first
  }
  const runNext = (until: number): boolean => {
    const entry = due(until)
    if (!entry) return false
    timers.delete(entry[0])
    now = Math.max(now, entry[1].at)
    entry[1].run()
    return true
  }
  // A macrotask turn: every chain of promises that waits for nothing outside has run by then.
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

  return {
    clock: { now: () => now, wall: () => now + wallOffset },
    timers: {
      set(ms, run) {
        const handle = next++
        timers.set(handle, { at: now + Math.max(0, ms), run })
        return handle
      },
      clear(handle) {
        if (typeof handle === 'number') timers.delete(handle)
      },
    },
    advance(ms) {
      const until = now + ms
      while (runNext(until));
      now = until
    },
    async advanceAsync(ms) {
      const until = now + ms
      do await settle()
      while (runNext(until))
      now = until
      await settle()
    },
    get pending() {
      return timers.size
    },
    stepWall(ms) {
      wallOffset += ms
    },
  }
}
