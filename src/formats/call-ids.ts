// Ids of the calls of one answer, as a writer gives them to its caller. Pure.

import type { AnswerTo } from './format.ts'

/**
 * By its id the result of a call is told from those of the others: none is empty, and no two of an answer are the same,
 * whatever the provider says.
 */
export function createCallIds(
  { nextId }: Pick<AnswerTo, 'nextId'>,
  prefix = 'call_',
): (id: string) => string {
  const used = new Set<string>()
  return (id) => {
    const given = id === '' || used.has(id) ? nextId(prefix) : id
    used.add(given)
    return given
  }
}
