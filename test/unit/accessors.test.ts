// V8 keeps the accessors of an object literal in its old generation, and with them all that they close over: a request
// that makes one is not let go of before the next full collection. What is made for each request has classes instead,
// whose getters stand on the prototype (bench/profile.md).

import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const SRC = join(import.meta.dirname, '../../src')

/** Made once for a process, or by a command. */
const MADE_ONCE: ReadonlySet<string> = new Set([
  'bytes/bag.ts',
  'main.ts',
  'quota/backing.ts',
  'quota/client.ts',
  'quota/ipc.ts',
  'quota/outage.ts',
  'quota/pacing.ts',
  'quota/redis.ts',
  'workers/fleet.ts',
])

/** In a class a getter says what it gives; in a literal nobody asks for it. */
const OF_A_LITERAL = /^\s+get \w+\(\) \{/m

it('only what is made once has getters in an object literal', () => {
  const found = globSync('**/*.ts', { cwd: SRC }).filter((file) =>
    OF_A_LITERAL.test(readFileSync(join(SRC, file), 'utf8')),
  )
  expect(found.toSorted()).toEqual([...MADE_ONCE].toSorted())
})
