// Does things together, at the end of the turn of the event loop in which they came up.

export interface Batch<T> {
  add(item: T): void
}

/**
 * Runs `run` for each item, in their order, once everything that the kernel has told of has been looked at. Writing to a
 * socket wakes whoever reads from it: one write at a time, he falls asleep before the next one and is to be woken again,
 * which costs the writer more than all else of a write. What is added while it runs is run with the next turn. An error
 * of one keeps none of the others.
 */
export function createBatch<T>(run: (item: T) => void): Batch<T> {
  let items: T[] = []
  function runAll(): void {
    const now = items
    items = []
    for (const item of now) {
      try {
        run(item)
      } catch (error) {
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }
  return {
    add(item) {
      if (items.length === 0) setImmediate(runAll)
      items.push(item)
    },
  }
}
