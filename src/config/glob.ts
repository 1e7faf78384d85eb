// Globs of names and scopes: `*` is any run of characters, `/` and nothing included; nothing else is special and
// case counts. No regular expressions and no backtracking, so that no pattern can be made to take long.

/**
 * Whether `text` matches `pattern` as a whole. Goes over the text once: between the literal ends each piece is taken
 * at its earliest place, which leaves the most room for the pieces after it.
 */
export function matchesGlob(pattern: string, text: string): boolean {
  const star = pattern.indexOf('*')
  if (star === -1) return pattern === text
  const lastStar = pattern.lastIndexOf('*')
  const prefix = pattern.slice(0, star)
  const suffix = pattern.slice(lastStar + 1)
  if (text.length < prefix.length + suffix.length) return false
  if (!text.startsWith(prefix) || !text.endsWith(suffix)) return false
  if (star === lastStar) return true

  const end = text.length - suffix.length
  let from = prefix.length
  for (const piece of pattern.slice(star + 1, lastStar).split('*')) {
    const at = text.indexOf(piece, from)
    if (at === -1 || at + piece.length > end) return false
    from = at + piece.length
  }
  return true
}

/**
 * Orders names for a lookup where the most specific wins: negative when `a` comes before `b`. Exact names come
 * first, then those with more literal characters, then those with fewer stars, then by code unit, so that two
 * different names never tie.
 */
export function compareSpecificity(a: string, b: string): number {
  const starsA = countStars(a)
  const starsB = countStars(b)
  if ((starsA === 0) !== (starsB === 0)) return starsA === 0 ? -1 : 1
  const literals = b.length - starsB - (a.length - starsA)
  if (literals !== 0) return literals
  if (starsA !== starsB) return starsA - starsB
  return a < b ? -1 : a > b ? 1 : 0
}

function countStars(pattern: string): number {
  let stars = 0
  for (let at = pattern.indexOf('*'); at !== -1; at = pattern.indexOf('*', at + 1)) stars++
  return stars
}
