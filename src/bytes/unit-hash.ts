// A number in [0, 1) from two texts, always the same for the same: for choices that must not change from one request
// to the next. Spread evenly; no secret, and not to be relied on against somebody who chooses the texts.

/** FNV-1a over both texts, then the finaliser of MurmurHash3, without which like texts have like numbers. */
export function unitHash(one: string, other: string): number {
  let hash = 0x811c9dc5
  for (const text of [one, '\0', other])
    for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return ((hash ^ (hash >>> 16)) >>> 0) / 0x1_0000_0000
}
