// Runs once before all tests: a redis-server, a folder for the run; afterwards nothing that the tests started
// is still running.

import type { TestProject } from 'vitest/node'
import { type Binary, ensureBinary, REDIS } from './debian-binary.ts'
import { removeRunFolder, runFolder } from './run-folder.ts'

declare module 'vitest' {
  interface ProvidedContext {
    redis: Binary
  }
}

/** Returns the teardown. */
export default function setup(project: TestProject): () => void {
  project.provide(
    'redis',
    ensureBinary(REDIS, (line) => process.stderr.write(`${line}\n`)),
  )
  const folder = runFolder()
  return () => {
    for (const ended of removeRunFolder(folder))
      process.stderr.write(`left running by the tests, ended: ${ended}\n`)
  }
}
