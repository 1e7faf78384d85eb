// Log lines on their way out: those of one turn of the event loop leave in one write.

export interface Lines {
  write(line: string): void
  /** Writes what is waiting, now: for the end of the process. */
  flush(): void
}

/** More than this waiting is written at once, so that a burst holds little memory. */
const MOST_WAITING_BYTES = 64 * 1024

/** A pipe takes a write of so much as one piece (POSIX, PIPE_BUF of Linux). */
const WHOLE_BYTES = 4096

/**
 * `shared`: other processes write to the same place. Lines then leave in writes that nobody else's can come into the
 * middle of, but for a single line that is longer.
 */
export function createLines(
  write: (text: string) => void,
  soon: (run: () => void) => void,
  { shared = () => false }: { shared?: () => boolean } = {},
): Lines {
  let waiting = ''
  function flush(): void {
    if (waiting === '') return
    const text = waiting
    waiting = ''
    if (shared()) for (const piece of wholeLines(text)) write(piece)
    else write(text)
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

function wholeLines(text: string): string[] {
  const pieces: string[] = []
  let from = 0
  let bytes = 0
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf('\n', at) + 1 || text.length
    const more = Buffer.byteLength(text.slice(at, end))
    if (bytes > 0 && bytes + more > WHOLE_BYTES) {
      pieces.push(text.slice(from, at))
      from = at
      bytes = 0
    }
    bytes += more
    at = end
  }
  pieces.push(text.slice(from))
  return pieces
}
