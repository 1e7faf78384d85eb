// Does things together, at the end of the turn of the event loop in which they came up.

export interface Batch<T> {
  add(item: T): void
}

export interface BatchOptions {
  /**
   * After so many turns with one item each, one is run when it is added: it will be alone again, and need not wait for the
   * rest of its turn. Never where nothing is said.
   */
  readonly aloneAfter?: number
}

/**
 * Runs `run` for each item, in their order, once everything that the kernel has told of has been looked at. Writing to a
 * socket wakes whoever reads from it: one write at a time, he falls asleep before the next one and is to be woken again,
 * which costs the writer more than all else of a write. What is added while it runs is run with the next turn. An error
 * of one keeps none of the others.
 */
export function createBatch<T>(
  run: (item: T) => void,
  { aloneAfter = Number.POSITIVE_INFINITY }: BatchOptions = {},
): Batch<T> {
  let items: T[] = []
  let isDue = false
  /** Of this turn. */
  let count = 0
  /** Turns in a row in which there was no second one. */
  let alone = 0
  function runAll(): void {
    const now = items
    if (now.length > 0) items = []
    isDue = false
    alone = count > 1 ? 0 : alone + 1
    count = 0
    for (const item of now) {
      try {
        run(item)
      } catch (error) {
        throwApart(error)
      }
    }
  }
  return {
    add(item) {
      count += 1
      if (!isDue) {
        isDue = true
        setImmediate(runAll)
      }
      if (count === 1 && alone >= aloneAfter) run(item)
      else items.push(item)
    },
  }
}

/** Throws where nobody is under way who has nothing to do with it. */
export function throwApart(error: unknown): void {
  queueMicrotask(() => {
    throw error
  })
}
