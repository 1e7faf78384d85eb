// Reads a configuration again and again, and remembers the last good text of each of its files, so that one file with
// a mistake does not keep the changes of all others from being heard: a removed bearer above all. What a configuration
// was read from can be handed to another process, so that both have the same one whatever happens on the disk.

import { basename } from 'node:path'
import { diskFiles, type Files, type LoadOptions, loadConfiguration } from './load.ts'
import type { Snapshot } from './snapshot.ts'
import type { Loaded } from './validate.ts'

export interface Reader {
  /** Everything as it is now. */
  read(): Promise<Loaded>
  /** Everything as it is now, but for the files named: their last good text, or, if there is none, without them. */
  readAround(broken: ReadonlySet<string>): Promise<Loaded>
  /** What a configuration of this reader was read from. */
  sourcesOf(snapshot: Snapshot): Sources | undefined
}

/** The texts of a configuration, as JSON can carry them. */
export interface Sources {
  /** Path and content. */
  readonly texts: readonly (readonly [path: string, text: string])[]
  /** Folder and the names in it. */
  readonly folders: readonly (readonly [path: string, names: readonly string[]])[]
}

/** Files as they were when they were read. */
export function heldFiles({ texts, folders }: Sources): Files {
  const bytesOf = new Map(texts)
  const namesOf = new Map(folders)
  return {
    read: async (path) => Buffer.from(bytesOf.get(path) ?? gone(path)),
    list: async (path) => namesOf.get(path) ?? gone(path),
  }
}

/** Sources as another process of this program sent them: looked at no closer than that they are of the kind. */
export function isSources(value: unknown): value is Sources {
  if (typeof value !== 'object' || value === null) return false
  const { texts, folders }: { texts?: unknown; folders?: unknown } = value
  return Array.isArray(texts) && Array.isArray(folders)
}

function gone(path: string): never {
  throw Object.assign(new Error(`${path} was not there`), { code: 'ENOENT' })
}

export function createReader({ path, vendors, files = diskFiles }: LoadOptions): Reader {
  let good: ReadonlyMap<string, Uint8Array> = new Map()
  const sources = new WeakMap<Snapshot, Sources>()

  async function load(broken: ReadonlySet<string>): Promise<Loaded> {
    const texts = new Map<string, Uint8Array>()
    const folders: [string, readonly string[]][] = []
    const leftOut = new Set([...broken].filter((file) => !good.has(file)).map((file) => basename(file)))
    const around: Files = {
      async read(file, maxBytes) {
        const text = (broken.has(file) ? good.get(file) : undefined) ?? (await files.read(file, maxBytes))
        texts.set(file, text)
        return text
      },
      async list(folder) {
        const names = (await files.list(folder)).filter((name) => !leftOut.has(name))
        folders.push([folder, names])
        return names
      },
    }
    const loaded = await loadConfiguration({ path, vendors, files: around })
    if (!loaded.ok) return loaded
    good = texts
    // What was accepted is UTF-8.
    const read = [...texts].map(([file, bytes]) => [file, Buffer.from(bytes).toString()] as const)
    sources.set(loaded.snapshot, { texts: read, folders })
    return loaded
  }

  return {
    read: () => load(new Set()),
    readAround: load,
    sourcesOf: (snapshot) => sources.get(snapshot),
  }
}
