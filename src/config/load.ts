// Reads the configuration file and the agents' files. The only part of config/ that touches the file system, and only
// through `Files`; what the text means is validate.ts's.

import { open, readdir } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Problem, RawDocument } from './problems.ts'
import { type Loaded, validate } from './validate.ts'
import type { Vendors } from './vendors.ts'
import { readYaml } from './yaml.ts'

export type { Loaded } from './validate.ts'

/** Where files come from; tests hand in their own. Both fail as node:fs does, with a `code`. */
export interface Files {
  /** At most `maxBytes` + 1 bytes, so that a caller can tell a file that is too large. */
  read(path: string, maxBytes: number): Promise<Uint8Array>
  /** Names in a folder, in any order. */
  list(path: string): Promise<readonly string[]>
}

export interface LoadOptions {
  /** The configuration file, YAML or JSON. */
  readonly path: string
  readonly vendors: Vendors
  readonly files?: Files
}

const MOST_BYTES = 4 * 1024 * 1024
const MOST_AGENTS = 10_000
/** Files read at once: quick, and far from the limit of open files. */
const READ_AT_ONCE = 32
const DEFAULT_POLICIES = './policies'
const AGENT_FILE = /^[^.].*\.(ya?ml|json)$/

/**
 * The configuration at `path` with the agents of its `policies` folder (relative to the file's own folder), or all
 * that is wrong with them. Never throws for what a file holds or for one that cannot be read.
 */
export async function loadConfiguration({ path, vendors, files = diskFiles }: LoadOptions): Promise<Loaded> {
  const read = await readDocument(path, files)
  if ('problems' in read) return { ok: false, problems: read.problems }
  const written = policiesOf(read.value)
  const policiesPath = resolve(dirname(path), written ?? DEFAULT_POLICIES)

  const folder = await readAgents(policiesPath, files)
  const missingDefault = written === undefined && folder.missing
  const outcome = validate({
    config: read,
    agents: folder.documents,
    vendors,
    policiesPath: missingDefault ? undefined : policiesPath,
    warnings: missingDefault ? ['there is no folder "policies" beside the configuration'] : [],
  })

  const problems: Problem[] = outcome.ok ? [] : [...outcome.problems]
  if (!missingDefault) {
    if (folder.reason !== undefined) {
      const place = read.locate?.(['policies'])
      problems.push({ file: path, path: 'policies', message: `${policiesPath} ${folder.reason}`, ...place })
    }
    problems.push(...folder.problems)
  }
  return problems.length > 0 ? { ok: false, problems } : outcome
}

/** Whether a name in the policies folder is an agent's file: YAML or JSON, and not hidden. */
export function isAgentFile(name: string): boolean {
  return AGENT_FILE.test(basename(name))
}

interface Folder {
  readonly documents: RawDocument[]
  readonly problems: Problem[]
  readonly missing: boolean
  /** Why the folder as a whole cannot be used. */
  readonly reason: string | undefined
}

async function readAgents(folder: string, files: Files): Promise<Folder> {
  const found: Folder = { documents: [], problems: [], missing: false, reason: undefined }
  let names: string[]
  try {
    // Sorted, so that problems and "too" messages come out the same on every machine.
    names = (await files.list(folder)).filter(isAgentFile).toSorted()
  } catch (error) {
    return { ...found, missing: codeOf(error) === 'ENOENT', reason: whyUnreadable(error) }
  }
  if (names.length > MOST_AGENTS) return { ...found, reason: `holds more than ${MOST_AGENTS} files` }
  for (let from = 0; from < names.length; from += READ_AT_ONCE) {
    const some = names.slice(from, from + READ_AT_ONCE)
    for (const read of await Promise.all(some.map((name) => readDocument(join(folder, name), files)))) {
      if ('problems' in read) found.problems.push(...read.problems)
      else found.documents.push(read)
    }
  }
  return found
}

async function readDocument(
  path: string,
  files: Files,
): Promise<RawDocument | { readonly problems: readonly Problem[] }> {
  const problem = (message: string) => ({ problems: [{ file: path, path: '', message }] })
  let bytes: Uint8Array
  try {
    bytes = await files.read(path, MOST_BYTES)
  } catch (error) {
    return problem(whyUnreadable(error))
  }
  if (bytes.length > MOST_BYTES) return problem('is larger than 4MiB')
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return problem('is not UTF-8 text')
  }
  return readYaml(path, text)
}

function policiesOf(config: unknown): string | undefined {
  if (typeof config !== 'object' || config === null || !('policies' in config)) return undefined
  return typeof config.policies === 'string' ? config.policies : undefined
}

const REASONS: ReadonlyMap<unknown, string> = new Map([
  ['ENOENT', 'is not there'],
  ['EACCES', 'may not be read by this user'],
  ['EPERM', 'may not be read by this user'],
  ['EISDIR', 'is a folder, not a file'],
  ['ENOTDIR', 'is not a folder'],
  ['ELOOP', 'is a symbolic link that leads back to itself'],
])

function whyUnreadable(error: unknown): string {
  const code = codeOf(error)
  return REASONS.get(code) ?? `cannot be read (${typeof code === 'string' ? code : 'unknown error'})`
}

function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
}

/** Real files. Reads pipes too (`--config <(…)`), so the size is counted and not asked for. */
export const diskFiles: Files = {
  async read(path, maxBytes) {
    const handle = await open(path)
    try {
      const chunks: Uint8Array[] = []
      let count = 0
      while (count <= maxBytes) {
        const { bytesRead, buffer } = await handle.read(Buffer.alloc(64 * 1024))
        if (bytesRead === 0) break
        chunks.push(buffer.subarray(0, bytesRead))
        count += bytesRead
      }
      return Buffer.concat(chunks).subarray(0, maxBytes + 1)
    } finally {
      await handle.close()
    }
  },
  list: (path) => readdir(path),
}
