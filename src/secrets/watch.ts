// Notices that files have changed by looking at them again and again: works on every file system and for Kubernetes
// mounts, where inotify sees nothing of the file's own name. Tells that something changed, never reads content.

import { lstat, readdir, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** The timers of Node, or those of a test. */
export interface Timers<Handle> {
  setInterval(tick: () => void, everyMs: number): Handle
  clearInterval(handle: Handle): void
}

export interface WatchOptions<Handle> {
  /** Files and directories to look at, asked anew each time; of a directory its entries, not deeper. */
  readonly paths: () => readonly string[]
  /** Called once per change, after two equal readings: a set of files that is half written is not loaded. */
  readonly onChange: () => void | Promise<void>
  readonly everyMs?: number
  readonly timers: Timers<Handle>
  /** When `onChange` throws or rejects. */
  readonly onError?: (error: unknown) => void
}

export interface Watch {
  /** Settles when the first reading, against which changes are told, is taken. Load after it and nothing is missed. */
  readonly ready: Promise<void>
  /** Looks once, as the timer does. */
  look(): Promise<void>
  stop(): void
}

/** Entries looked at per reading and directory; of more, the rest is looked at in the readings after. */
const ENTRIES_PER_LOOK = 1000
const AT_ONCE = 32

/** Looks at the paths once a second until stopped; the timer does not keep the process alive. */
export function watchFiles<Handle>(options: WatchOptions<Handle>): Watch {
  const { paths, onChange, timers, everyMs = 1000, onError } = options
  let listings = new Map<string, Listing>()
  let told: string | undefined
  let last: string | undefined
  let looking: Promise<void> | undefined
  let stopped = false

  async function read(): Promise<string> {
    const next = new Map<string, Listing>()
    const lines: string[] = []
    for (const path of new Set(paths())) {
      lines.push(path, await readingOf(path))
      const listing = await list(path, listings.get(path))
      if (listing === undefined) continue
      next.set(path, listing)
      for (const [name, reading] of listing.entries) lines.push(name, reading)
    }
    listings = next
    return lines.join('\0')
  }

  async function once(): Promise<void> {
    const reading = await read()
    if (stopped) return
    const settled = reading === last
    last = reading
    told ??= reading
    if (!settled || reading === told) return
    told = reading
    try {
      await onChange()
    } catch (error) {
      onError?.(error)
    }
  }

  function look(): Promise<void> {
    // A slow disk must not pile up readings.
    looking ??= once()
      .catch((error) => onError?.(error))
      .finally(() => {
        looking = undefined
      })
    return looking
  }

  const ready = look()
  const handle = timers.setInterval(() => void look(), everyMs)
  if (
    typeof handle === 'object' &&
    handle !== null &&
    'unref' in handle &&
    typeof handle.unref === 'function'
  ) {
    handle.unref()
  }

  return {
    ready,
    look,
    stop() {
      stopped = true
      timers.clearInterval(handle)
    },
  }
}

interface Listing {
  /** By name, in order: what was seen last of each. */
  readonly entries: ReadonlyMap<string, string>
  /** Where the next look goes on. */
  readonly from: number
}

async function list(path: string, before: Listing | undefined): Promise<Listing | undefined> {
  const names = await readdir(path).catch(() => undefined)
  if (names === undefined) return undefined
  names.sort()
  const all = names.length <= ENTRIES_PER_LOOK
  const from = all || (before?.from ?? 0) >= names.length ? 0 : (before?.from ?? 0)
  const to = all ? names.length : from + ENTRIES_PER_LOOK
  const entries = new Map<string, string>()
  for (let i = 0; i < names.length; i += AT_ONCE) {
    const batch = names.slice(i, i + AT_ONCE)
    const readings = await Promise.all(
      batch.map((name, index) => {
        const known = before?.entries.get(name)
        const due = i + index >= from && i + index < to
        return known === undefined || due ? readingOf(join(path, name)) : known
      }),
    )
    for (const [index, name] of batch.entries()) entries.set(name, readings[index] ?? '')
  }
  return { entries, from: to }
}

/** What tells one state of a file from another; '' when it is not there. Follows links, as a mount swaps their end. */
async function readingOf(path: string): Promise<string> {
  try {
    const own = await lstat(path, { bigint: true })
    if (!own.isSymbolicLink()) return mark(own)
    const end = await stat(path, { bigint: true }).then(mark, () => '')
    return `${mark(own)}>${await readlink(path)}>${end}`
  } catch {
    return ''
  }
}

interface Marks {
  readonly ino: bigint
  readonly size: bigint
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  readonly mode: bigint
  readonly uid: bigint
}

/** The change time tells of a rewrite within one tick of mtime, and of a repaired mode or owner. */
function mark({ ino, size, mtimeNs, ctimeNs, mode, uid }: Marks): string {
  return [ino, size, mtimeNs, ctimeNs, mode, uid].join(' ')
}
