// Timers as a value, so that tests can move them by hand. Made in main.ts; no other file of the room may call setTimeout.

export interface Timers {
  /** Runs `run` once, `ms` from now; the handle is for `clear`. */
  set(ms: number, run: () => void): unknown
  /** Forgets a timer; no effect once it has run. */
  clear(handle: unknown): void
}
