// Names and ids that must each be given once, made out of what a caller wrote. Knows no wire.

/**
 * A name for each call, never the same twice: the one that is asked for where it is free, else `variant` of it with the
 * first number from 2 that is. It counts on where it stood, so that a name which is asked for many times costs no more
 * each time.
 */
export function createUnique(variant: (name: string, n: number) => string): (name: string) => string {
  const given = new Set<string>()
  const last = new Map<string, number>()
  return (name) => {
    let unique = name
    let n = last.get(name) ?? 1
    while (given.has(unique)) {
      n += 1
      unique = variant(name, n)
    }
    last.set(name, n)
    given.add(unique)
    return unique
  }
}
