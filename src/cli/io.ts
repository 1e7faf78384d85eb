// What a command is given instead of `process`, and what it needs of other rooms, handed in by main.ts.

import type { Problem } from '../config/problems.ts'
import type { Snapshot } from '../config/snapshot.ts'
import type { Start, Vendors } from '../config/vendors.ts'

export interface Io {
  stdout(text: string): void
  stderr(text: string): void
  /** Past the scrubber: only for a bearer that is shown this once. */
  stdoutSecret(text: string): void
  readonly env: Readonly<Record<string, string | undefined>>
  /** Absolute. */
  readonly cwd: string
  /** Whether standard output is a terminal. */
  readonly isTty: boolean
  /** Lines of the terminal, as it is now. */
  readonly rows: number | undefined
}

export interface Hands {
  readonly vendors: Vendors
  readonly start: Start
  readonly version: string
  /** Runs the gateway until it ends; `configPath` is absolute, or undefined for a start from the environment. */
  serve(options: { readonly configPath: string | undefined }): Promise<number>
  /** Tries every secret reference; says which cannot be read and why, what is worth a word, and never what they hold. */
  verifySecrets(
    snapshot: Snapshot,
  ): Promise<{ readonly problems: readonly Problem[]; readonly warnings: readonly string[] }>
  /** From a cryptographic source. */
  randomBytes(count: number): Uint8Array
  /** Unix ms. */
  now(): number
  readonly fetch: typeof fetch
  wait(ms: number): Promise<void>
}

/** Exit codes of every command (design §10). */
export const DONE = 0
export const NOT_SO = 1
export const WRONG_USAGE = 2

/** Says why not, and gives the exit code. */
export function notSo(io: Io, message: string): number {
  io.stderr(`error: ${message}\n`)
  return NOT_SO
}
