// Which configuration a command is about: the file that was named or found, else the environment.

import { access } from 'node:fs/promises'
import { resolve } from 'node:path'
import { fromEnvironment } from '../config/environment.ts'
import { loadConfiguration } from '../config/load.ts'
import type { Loaded } from '../config/validate.ts'
import type { Hands, Io } from './io.ts'

const DEFAULT_NAMES = ['sluice.yaml', 'sluice.yml', 'sluice.json']
/** Stands in for the bearer of a run that does not take place. */
const NO_BEARER = '0'.repeat(64)

/**
 * Absolute path of the configuration: `named`, else `SLUICE_CONFIG`, else `sluice.yaml` (`.yml`, `.json`) in the
 * working folder if it is there; undefined when the environment is the configuration. A named file need not exist.
 */
export async function findConfiguration(named: string | undefined, io: Io): Promise<string | undefined> {
  const chosen = named ?? (io.env.SLUICE_CONFIG || undefined)
  if (chosen !== undefined) return resolve(io.cwd, chosen)
  for (const name of DEFAULT_NAMES) {
    const path = resolve(io.cwd, name)
    try {
      await access(path)
      return path
    } catch {
      // Not this one.
    }
  }
  return undefined
}

/** The Snapshot that a server would start with, or everything that is wrong. */
export async function loadFound(
  path: string | undefined,
  io: Io,
  { vendors, start }: Hands,
): Promise<Loaded> {
  if (path !== undefined) return loadConfiguration({ path, vendors })
  return fromEnvironment(io.env, { vendors, start, bearerSha256: NO_BEARER })
}
