// Secret references: what `env:NAME` and `file:/path` mean, and the rules under which a file may hold a secret.
// Messages name the reference, the mode and the owner; they must never hold any part of the content.

import { constants } from 'node:fs'
import { type FileHandle, lstat, open, readlink } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, normalize, parse, relative, resolve, sep } from 'node:path'
import type { SecretReference } from '../types.ts'

export type Reference =
  | { readonly kind: 'env'; readonly name: string }
  | { readonly kind: 'file'; readonly path: string }

/** The surroundings a reference is resolved in; nothing is read from `process`. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The running user; undefined where the system has none (Windows), which leaves out the checks of mode and owner. */
  readonly uid: number | undefined
  /** Permits mode 0440, besides those that only the owner can read. */
  readonly groupReadable: boolean
}

export type Resolved =
  | {
      readonly value: string
      readonly warnings: readonly string[]
      /** Unix ms at which its file was written; undefined where it has none. */
      readonly writtenMs: number | undefined
      readonly problem?: undefined
    }
  | { readonly problem: string; readonly value?: undefined; readonly warnings?: undefined }

/** Where the value goes: a key or a token into a header, or an address with a password in it. */
export type Use = 'header' | 'url'

/** A secret shorter than this is a warning and is not scrubbed by value: it would be found in ordinary text. */
export const SHORTEST_SCRUBBED = 8

const MAX_BYTES = 64 * 1024
const MAX_LINKS = 16

/** Whether the text is meant as a reference, also one of a kind that this version cannot resolve. */
export function isReference(text: string): boolean {
  return /^(?:env|file|vault|aws-sm):/.test(text) && !/^file:\/\/[^/]/.test(text)
}

/** Reads a reference; a string says what is wrong with it. */
export function parseReference(reference: SecretReference): Reference | string {
  const colon = reference.indexOf(':')
  const kind = reference.slice(0, colon)
  const rest = reference.slice(colon + 1)
  if (kind === 'env') {
    if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(rest)) return { kind, name: rest }
    return 'env: needs the name of an environment variable, for example env:PROVIDER_API_KEY'
  }
  if (kind === 'file') {
    if (isAbsolute(rest) && !rest.includes('\0') && !rest.endsWith('/'))
      return { kind, path: normalize(rest) }
    return 'file: needs the absolute path of a file, for example file:/etc/sluice/secrets/key'
  }
  if (kind === 'vault' || kind === 'aws-sm') return `${kind}: references are not supported by this version`
  // A literal key may stand here by mistake, so it is not repeated.
  return 'not a secret reference: write env:NAME or file:/path'
}

/** The value behind a reference, or what stands in the way. Never throws. */
export async function resolveReference(
  reference: SecretReference,
  around: Surroundings,
  use: Use = 'header',
): Promise<Resolved> {
  const parsed = parseReference(reference)
  if (typeof parsed === 'string') return { problem: parsed }
  if (parsed.kind === 'env') {
    const value = around.env[parsed.name]
    return value === undefined
      ? { problem: `${reference}: the environment variable is not set` }
      : judge(reference, { text: value, writtenMs: undefined }, use)
  }
  try {
    const content = await readSecretFile(parsed.path, around)
    return 'problem' in content
      ? { problem: `${reference}: ${content.problem}` }
      : judge(reference, content, use)
  } catch (error) {
    return { problem: `${reference}: ${reasonOf(error)}` }
  }
}

/**
 * The text of a file that is a secret as a whole, such as a private key, under the rules of `file:`; else why
 * not. Never throws.
 */
export async function readKeyFile(path: string, around: Surroundings): Promise<FileContent> {
  try {
    return await readSecretFile(normalize(path), around)
  } catch (error) {
    return { problem: reasonOf(error) }
  }
}

function judge(
  reference: SecretReference,
  { text, writtenMs }: { readonly text: string; readonly writtenMs: number | undefined },
  use: Use,
): Resolved {
  const value = text.replace(/[\r\n]+$/, '')
  if (value === '') return { problem: `${reference}: is empty` }
  if (Buffer.byteLength(value) > MAX_BYTES) return { problem: `${reference}: is larger than 64 KiB` }
  // A control character would end or split the header that the value is sent in (RFC 9110 §5.5).
  if (/[\x00-\x1f\x7f]/.test(value)) {
    return { problem: `${reference}: holds a control character or a line break inside` }
  }
  // Beyond ASCII every call would fail, or the key arrive as another one: what such bytes mean is nowhere said.
  if (use === 'header' && /[^\x20-\x7e]/.test(value)) {
    return {
      problem: `${reference}: holds a character that is not visible ASCII, as a key must be (RFC 9110 §5.5)`,
    }
  }
  const warnings: string[] = []
  if (value.length < SHORTEST_SCRUBBED) {
    warnings.push(
      `${reference}: is shorter than ${SHORTEST_SCRUBBED} characters and cannot be scrubbed from text by its value`,
    )
  }
  if (value !== value.trim()) warnings.push(`${reference}: begins or ends with a space`)
  return { value, warnings, writtenMs }
}

/** `writtenMs`: Unix ms. */
export type FileContent = { readonly text: string; readonly writtenMs: number } | { readonly problem: string }

async function readSecretFile(path: string, around: Surroundings): Promise<FileContent> {
  const found = await locate(path, around.uid)
  if ('problem' in found) return found
  // The path holds no link any more; O_NOFOLLOW keeps it so for the last step, and everything after this line
  // looks at the open descriptor, not at the name. O_NONBLOCK: a FIFO must not hang the start.
  const file = await open(found.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    return await readChecked(file, around)
  } finally {
    await file.close()
  }
}

async function readChecked(file: FileHandle, around: Surroundings): Promise<FileContent> {
  const stat = await file.stat()
  if (!stat.isFile()) return { problem: 'is not a regular file' }
  if (around.uid !== undefined) {
    if (stat.uid !== around.uid && stat.uid !== 0) {
      return { problem: `is owned by uid ${stat.uid}, needs to be owned by uid ${around.uid} or root` }
    }
    const isPrivate = (stat.mode & 0o077) === 0
    if (!isPrivate && !(around.groupReadable && (stat.mode & 0o777) === 0o440)) {
      const needed = around.groupReadable ? '0400, 0440 or 0600' : '0400 or 0600'
      return { problem: `mode ${octal(stat.mode)}, needs ${needed}` }
    }
  }
  if (stat.size > MAX_BYTES) return { problem: 'is larger than 64 KiB' }
  const buffer = Buffer.alloc(MAX_BYTES + 1)
  let length = 0
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, length)
    if (bytesRead === 0) break
    length += bytesRead
  }
  if (length > MAX_BYTES) return { problem: 'is larger than 64 KiB' }
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(buffer.subarray(0, length))
    return { text, writtenMs: stat.mtimeMs }
  } catch {
    return { problem: 'is not UTF-8 text' }
  } finally {
    buffer.fill(0)
  }
}

/**
 * The path of the file with every link followed, or why not. Two rules:
 *
 * - Links in the last step are followed only inside the file's own directory, as Kubernetes mounts them
 *   (`key -> ..data/key`, `..data -> ..2026_11_21`). The directory itself may be reached over links.
 * - No directory on the way, up to the root, may be writable by others. With the sticky bit (`/tmp`, and the root
 *   of a Kubernetes secret volume, which is 1777) it may, if the next step on the path is owned by us or root:
 *   nobody else can then rename or replace it.
 */
async function locate(path: string, uid: number | undefined): Promise<Located> {
  const home = await walk({ top: parse(path).root, path: dirname(path), uid, leave: true })
  return 'problem' in home
    ? home
    : walk({ top: home.path, path: join(home.path, basename(path)), uid, leave: false })
}

type Located = { readonly path: string } | { readonly problem: string }

/** Goes from `top` to `path` step by step; `leave` says whether a link may lead out of `top`. */
async function walk(way: {
  top: string
  path: string
  uid: number | undefined
  leave: boolean
}): Promise<Located> {
  let current = way.top
  let wanted = stepsBetween(way.top, way.path)
  let links = 0
  while (true) {
    const [step, ...rest] = wanted
    if (step === undefined) return { path: current }
    const next = join(current, step)
    const problem = await openToOthers(current, next, way.uid)
    if (problem !== undefined) return { problem }
    if (!(await lstat(next)).isSymbolicLink()) {
      current = next
      wanted = rest
      continue
    }
    links += 1
    if (links > MAX_LINKS) return { problem: `has more than ${MAX_LINKS} symbolic links` }
    const target = resolve(current, await readlink(next), ...rest)
    const top = way.leave ? parse(target).root : way.top
    const steps = stepsBetween(top, target)
    if (!way.leave && (steps.length === 0 || steps[0] === '..')) {
      return { problem: `the symbolic link ${next} leads outside its directory ${way.top}` }
    }
    // From the top again: what the link names may itself stand behind a link.
    current = top
    wanted = steps
  }
}

function stepsBetween(top: string, path: string): string[] {
  return relative(top, path)
    .split(sep)
    .filter((step) => step !== '')
}

async function openToOthers(
  directory: string,
  next: string,
  uid: number | undefined,
): Promise<string | undefined> {
  if (uid === undefined) return undefined
  const { mode } = await lstat(directory)
  if ((mode & 0o002) === 0) return undefined
  if ((mode & 0o1000) === 0) {
    return `the directory ${directory} can be written by others: mode ${octal(mode)}, needs ${octal(mode & ~0o002)}`
  }
  const owner = (await lstat(next)).uid
  if (owner === uid || owner === 0) return undefined
  return `the directory ${directory} can be written by others and ${next} is owned by uid ${owner}, needs uid ${uid} or root`
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0')
}

const REASONS: ReadonlyMap<unknown, string> = new Map([
  ['ENOENT', 'there is no such file'],
  ['ENOTDIR', 'there is no such file'],
  ['EACCES', 'permission denied'],
  ['EPERM', 'permission denied'],
  ['ELOOP', 'has too many symbolic links'],
  ['EISDIR', 'is not a regular file'],
  ['ENXIO', 'is not a regular file'],
])

/** Why a file cannot be read, in words. */
export function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return REASONS.get(code) ?? `cannot be read (${String(code)})`
}
