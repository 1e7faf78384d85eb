// Builds the mock and the load generator. They are C, because neither may ever be what a figure is bounded by: together
// they cost about a sixth of nginx.

import { spawnSync } from 'node:child_process'
import { mkdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { ensureBinary, type Wanted } from '../test/support/debian-binary.ts'

const SOURCES = join(import.meta.dirname, 'native')
export const CACHE = resolve(import.meta.dirname, '../node_modules/.cache/bench')

const GCC: Wanted = {
  program: 'gcc',
  package: 'gcc',
  unpacked: ['gcc'],
  ask: '--version',
  says: 'Free Software Foundation',
}

/** Path of a program of `native/`, made anew where its source is younger. */
export function build(name: 'mock' | 'load', say: (line: string) => void): string {
  const out = join(CACHE, name)
  const sources = [`${name}.c`, 'wire.h'].map((file) => join(SOURCES, file))
  if (sources.every((source) => timeOf(source) < timeOf(out))) return out
  mkdirSync(CACHE, { recursive: true })
  const gcc = ensureBinary(GCC, say)
  const done = spawnSync(gcc.path, ['-O2', '-o', out, join(SOURCES, `${name}.c`)], { encoding: 'utf8' })
  if (done.status !== 0) throw new Error(`gcc could not build ${name}.c:\n${done.stderr}`)
  return out
}

function timeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
}
