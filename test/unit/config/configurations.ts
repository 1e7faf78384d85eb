// Shared by the tests of config/ and cli/: files from memory, and configurations that are right but for one thing.

import { stringify } from 'yaml'
import type { Files } from '../../../src/config/load.ts'
import type { Problem } from '../../../src/config/problems.ts'
import type { Snapshot } from '../../../src/config/snapshot.ts'
import { type Loaded, validate } from '../../../src/config/validate.ts'
import { START, VENDORS } from '../../../src/upstream/vendors.ts'

export type Value = Readonly<Record<string, unknown>>

/** Small and right: one local provider, one tier, one route. */
export const GOOD: Value = {
  providers: { local: { format: 'openai', baseUrl: 'http://127.0.0.1:8080/v1' } },
  tiers: { execution: { deployments: ['local/gpt-oss-120b'] } },
  routes: { 'gpt-oss-120b': ['execution'] },
}

export const SHA = 'ab'.repeat(32)
export const AGENT: Value = {
  agent: 'tester',
  scopes: ['chat:*'],
  bearers: [{ id: 'b', sha256: 'cd'.repeat(32) }],
}

export function read(config: unknown, agents: readonly unknown[] = [AGENT]): Loaded {
  return validate({
    config: { file: 'sluice.yaml', value: config },
    agents: agents.map((value, index) => ({ file: `agent-${index}.yaml`, value })),
    vendors: VENDORS,
    policiesPath: undefined,
    warnings: [],
  })
}

export function good(config: unknown, agents?: readonly unknown[]): Snapshot {
  return snapshotOf(read(config, agents))
}

export function snapshotOf(loaded: Loaded): Snapshot {
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems, undefined, 2))
  return loaded.snapshot
}

export function problemsOf(loaded: Loaded): readonly Problem[] {
  if (loaded.ok) throw new Error('nothing was wrong')
  return loaded.problems
}

/** `path: message` of each problem. */
export function said(loaded: Loaded): string[] {
  return problemsOf(loaded).map(({ path, message }) => `${path}: ${message}`)
}

/** A copy of a value with something else at a place. */
export function at(value: Value, path: readonly string[], inner: unknown): Value {
  const [key = '', ...rest] = path
  const there = value[key]
  const below: Value =
    typeof there === 'object' && there !== null && !Array.isArray(there) ? { ...there } : {}
  return { ...value, [key]: rest.length === 0 ? inner : at(below, rest, inner) }
}

/** A file system in memory: path → text; a folder is there when a file lies in it. */
export function memoryFiles(texts: Readonly<Record<string, string | Value>>): Files {
  const missing = () => Object.assign(new Error('no'), { code: 'ENOENT' })
  return {
    async read(path, maxBytes) {
      const text = texts[path]
      if (text === undefined) throw missing()
      return Buffer.from(typeof text === 'string' ? text : stringify(text)).subarray(0, maxBytes + 1)
    },
    async list(path) {
      const names = Object.keys(texts).flatMap((file) =>
        file.startsWith(`${path}/`) ? [file.slice(path.length + 1)] : [],
      )
      if (names.length === 0) throw missing()
      return names
    },
  }
}

export { START, VENDORS }
