// The end of something before its time, as a value that can be handed on: what an AbortController is, of which a request
// needs one, at a tenth of its price. Listeners are called in their order, each once.

import type { EndSignal } from '../types.ts'

export class Ending implements EndSignal {
  aborted = false
  reason: unknown = undefined
  #listeners: (() => void)[] = []

  /** Ends it, for a reason or for none; no effect the second time. */
  abort(reason?: unknown): void {
    if (this.aborted) return
    this.aborted = true
    this.reason = reason
    const listeners = this.#listeners
    this.#listeners = []
    for (const listener of listeners) listener()
  }

  addEventListener(_type: 'abort', listener: () => void): void {
    if (!this.aborted) this.#listeners.push(listener)
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    const at = this.#listeners.indexOf(listener)
    if (at >= 0) this.#listeners.splice(at, 1)
  }
}
