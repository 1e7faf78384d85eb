// Randomness that can be repeated: every generated corpus prints its seed and takes it back from SLUICE_FUZZ_SEED.

export interface Random {
  /** A whole number from 0 to `count` − 1. */
  below(count: number): number
  /** True once in `odds` times. */
  oneIn(odds: number): boolean
  pick<T>(list: readonly T[]): T
}

/** The seed of this run: the one asked for, or a new one. */
export function fuzzSeed(): number {
  const asked = process.env.SLUICE_FUZZ_SEED
  return asked === undefined || asked === '' ? Math.floor(Math.random() * 2 ** 31) : Number(asked) >>> 0
}

/** Mulberry32: small, fast, good enough to choose shapes. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0
  function next(): number {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  const below = (count: number): number => next() % count
  return {
    below,
    oneIn: (odds) => below(odds) === 0,
    pick(list) {
      const chosen = list[below(list.length)]
      if (chosen === undefined) throw new RangeError('nothing to pick from')
      return chosen
    },
  }
}
