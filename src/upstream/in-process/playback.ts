// Plays a scripted answer to a Receiver, step by step, under the hand of a Control: the common part of the kinds
// of deployment that answer from this process. Knows time and order; knows nothing of models or formats.

import type { Control, Receiver } from '../kind.ts'
import type { Timers } from '../timers.ts'

/** One thing that is told to the receiver, `afterMs` behind the one before it. */
export interface Step {
  readonly afterMs: number
  tell(receiver: Receiver): void
}

export interface Playback {
  readonly control: Control
  /** Plays these steps behind those that are still to come. The iterable is read as far as it is played. */
  play(steps: Iterable<Step>): void
}

interface Setting {
  readonly timers: Timers
  /** Called once when the call is aborted, to let go of what the steps were waiting for. */
  readonly onAbort?: () => void
}

/** Steps told in one go before others get their turn on the event loop. */
const BURST = 256

/**
 * Begins with nothing to play. The receiver is never called from inside `play`, `pause`, `resume` or `abort`: a real
 * connection answers later, so whoever calls has its Control in hand before the first event.
 */
export function createPlayback(receiver: Receiver, { timers, onAbort }: Setting): Playback {
  const scripts: Iterator<Step>[] = []
  let next: Step | undefined
  let timer: { readonly handle: unknown } | undefined
  let queued = false
  let paused = false
  let over = false

  function kick(): void {
    if (queued || over) return
    queued = true
    queueMicrotask(() => {
      queued = false
      run()
    })
  }

  function wait(ms: number): void {
    const handle = timers.set(ms, () => {
      timer = undefined
      run()
    })
    timer = { handle }
  }

  function run(): void {
    for (let told = 0; !over && !paused && timer === undefined; ) {
      if (next === undefined) {
        next = take()
        if (next === undefined) return
        if (next.afterMs > 0) {
          wait(next.afterMs)
          return
        }
      }
      if (told === BURST) {
        wait(0)
        return
      }
      const step = next
      next = undefined
      told += 1
      step.tell(receiver)
    }
  }

  /** The next step of the scripts; a script that throws is a failed call, not a crash of the process. */
  function take(): Step | undefined {
    for (let script = scripts[0]; script !== undefined; script = scripts[0]) {
      try {
        const result = script.next()
        if (result.done !== true) return result.value
        scripts.shift()
      } catch (cause) {
        scripts.length = 0
        const error = new Error('the scripted answer could not be made', { cause })
        return { afterMs: 0, tell: (to) => to.failed(error) }
      }
    }
    return undefined
  }

  const control: Control = {
    abort() {
      if (over) return
      over = true
      scripts.length = 0
      next = undefined
      if (timer !== undefined) timers.clear(timer.handle)
      timer = undefined
      onAbort?.()
    },
    pause() {
      paused = true
    },
    resume() {
      paused = false
      kick()
    },
  }

  return {
    control,
    play(steps) {
      if (over) return
      scripts.push(steps[Symbol.iterator]())
      kick()
    },
  }
}
