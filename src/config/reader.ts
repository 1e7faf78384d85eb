// Reads a configuration again and again, and remembers the last good text of each of its files, so that one file with
// a mistake does not keep the changes of all others from being heard: a removed bearer above all.

import { basename } from 'node:path'
import { diskFiles, type Files, type LoadOptions, loadConfiguration } from './load.ts'
import type { Loaded } from './validate.ts'

export interface Reader {
  /** Everything as it is now. */
  read(): Promise<Loaded>
  /** Everything as it is now, but for the files named: their last good text, or, if there is none, without them. */
  readAround(broken: ReadonlySet<string>): Promise<Loaded>
}

export function createReader({ path, vendors, files = diskFiles }: LoadOptions): Reader {
  let good: ReadonlyMap<string, Uint8Array> = new Map()

  async function load(broken: ReadonlySet<string>): Promise<Loaded> {
    const texts = new Map<string, Uint8Array>()
    const leftOut = new Set([...broken].filter((file) => !good.has(file)).map((file) => basename(file)))
    const around: Files = {
      async read(file, maxBytes) {
        const text = (broken.has(file) ? good.get(file) : undefined) ?? (await files.read(file, maxBytes))
        texts.set(file, text)
        return text
      },
      list: async (folder) => (await files.list(folder)).filter((name) => !leftOut.has(name)),
    }
    const loaded = await loadConfiguration({ path, vendors, files: around })
    if (loaded.ok) good = texts
    return loaded
  }

  return { read: () => load(new Set()), readAround: load }
}
