// Log lines on their way out: those of one turn of the event loop leave in one write.

export interface Lines {
  write(line: string): void
  /** Writes what is waiting, now: for the end of the process. */
  flush(): void
}

/** More than this waiting is written at once, so that a burst holds little memory. */
const MOST_WAITING_BYTES = 64 * 1024

export function createLines(write: (text: string) => void, soon: (run: () => void) => void): Lines {
  let waiting = ''
  function flush(): void {
    if (waiting === '') return
    const text = waiting
    waiting = ''
    write(text)
  }
  return {
    write(line) {
      if (waiting === '') soon(flush)
      waiting += line
      if (waiting.length > MOST_WAITING_BYTES) flush()
    },
    flush,
  }
}
