// Our reader of answers against Node's: whatever ours takes, Node's must take in the same way. What two readers read in two
// ways is how an answer ends up with somebody else.

import { describe, expect, it } from 'vitest'
import { createRandom, fuzzSeed } from '../../bytes/random.ts'
import { createAnswers, disagreement } from './answers.ts'

const RUNS = 20_000

describe('the reader of answers', () => {
  const seed = fuzzSeed()
  it(`takes nothing that Node takes in another way, or not at all (seed ${seed})`, () => {
    const random = createRandom(seed)
    const answers = createAnswers(random)
    const counts = { whole: 0, reusable: 0, refused: 0 }
    for (let i = 0; i < RUNS; i += 1) {
      const bytes = answers.next()
      const { found, kind } = disagreement(bytes, random)
      expect(found, `run ${i}: ${JSON.stringify(bytes.toString('latin1'))}`).toBeUndefined()
      counts[kind] += 1
    }
    // It has seen enough of each to mean something.
    for (const count of Object.values(counts)) expect(count).toBeGreaterThan(RUNS / 20)
  })
})
