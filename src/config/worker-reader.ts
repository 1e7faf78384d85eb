// The reader of a worker: what its primary has read, whatever the disk holds by now. Knows nothing of how the two talk.

import { createReader, heldFiles, isSources, type Reader, type Sources } from './reader.ts'
import type { Loaded } from './validate.ts'
import type { Vendors } from './vendors.ts'

/** What a worker runs on, as its primary told it. */
export interface Begin {
  readonly path: string
  /** Another one with each reload. */
  sources: Sources
  readonly workers: number
  /** Where all of them listen, whatever a reload says of it, and where the file asks for a free port the one found. */
  readonly host: string
  readonly port: number
}

/** Takes the primary's word. @throws Error when it is none */
export function readBegin(answer: unknown): Begin {
  if (typeof answer === 'object' && answer !== null) {
    const { path, sources, workers, host, port }: Partial<Record<keyof Begin, unknown>> = answer
    if (typeof path === 'string' && isSources(sources))
      return { path, sources, workers: Number(workers), host: String(host), port: Number(port) }
  }
  throw new Error('the primary has not said what to do')
}

/** Reads what the primary has read; bounds of the whole gateway are shared among its workers, and its port is theirs. */
export function createWorkerReader(begun: Begin, { vendors }: { vendors: Vendors }): Reader {
  const reader = createReader({
    path: begun.path,
    vendors,
    files: {
      read: (path, maxBytes) => heldFiles(begun.sources).read(path, maxBytes),
      list: (folder) => heldFiles(begun.sources).list(folder),
    },
  })
  const share = (loaded: Loaded): Loaded => {
    if (!loaded.ok) return loaded
    const { listen } = loaded.snapshot
    const { host, port } = begun
    const maxConnections = Math.ceil(listen.maxConnections / begun.workers)
    const bodyBudgetBytes = Math.max(Math.floor(listen.bodyBudgetBytes / begun.workers), listen.maxBodyBytes)
    return {
      ok: true,
      snapshot: { ...loaded.snapshot, listen: { ...listen, host, port, maxConnections, bodyBudgetBytes } },
    }
  }
  return {
    ...reader,
    read: async () => share(await reader.read()),
    readAround: async (broken) => share(await reader.readAround(broken)),
  }
}
