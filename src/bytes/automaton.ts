// Finds many byte strings in one pass: Aho and Corasick's automaton over a trie in flat arrays, behind a filter
// that tells most texts free of all of them by looking at one place in a dozen. Pure; knows nothing of secrets.

/** Every needle must be at least this long: the filter looks at its first bytes. */
export const SHORTEST_NEEDLE = 8

export interface Automaton {
  /** Bytes of the longest needle. */
  readonly longest: number
  /** Whether a line feed ends every match under way. */
  readonly linesApart: boolean
  /** `[start, end, start, end, …]` of the needles in the first `length` bytes, overlaps merged; undefined when there is none. */
  find(bytes: Uint8Array, length: number): number[] | undefined
  /** How many of the last bytes could be the beginning of a needle. */
  depth(bytes: Uint8Array): number
}

const GRAM = 4
/** Of a needle the filter looks at so many bytes at most: of more its table would grow sooner than it got quicker. */
const MOST_LOOKED_AT = 16
const LINE_FEED = 0x0a
/** Nodes with more children than this get a table of 256 places instead of a list. */
const CROWDED = 6

/** Builds the automaton; undefined when there are no needles. Shorter needles than eight bytes are left out. */
export function buildAutomaton(needles: Iterable<Uint8Array>): Automaton | undefined {
  const kept = [...needles].filter((needle) => needle.length >= SHORTEST_NEEDLE)
  if (kept.length === 0) return undefined
  const trie = plant(kept)
  const shortest = kept.reduce((least, needle) => Math.min(least, needle.length), MOST_LOOKED_AT)
  // As many neighbouring places hold one that is looked at as there are grams in the first bytes of a needle.
  const stride = shortest - GRAM + 1
  const filter = createFilter(kept, stride)
  const { fail, matched, depths } = connect(trie)
  const { step } = trie
  const longest = kept.reduce((most, needle) => Math.max(most, needle.length), 0)
  const linesApart = kept.every((needle) => !needle.includes(LINE_FEED))

  function next(state: number, byte: number): number {
    let from = state
    while (true) {
      const to = step(from, byte)
      if (to !== 0 || from === 0) return to
      from = fail[from] ?? 0
    }
  }

  return {
    longest,
    linesApart,
    find(bytes, length) {
      let spans: number[] | undefined
      let state = 0
      /** Where the filter saw something: up to there nothing is gained by asking it again. */
      let seen = -1
      for (let i = 0; i < length; i++) {
        if (state === 0 && i > seen) {
          seen = filter(bytes, i, length)
          if (seen < 0) break
          i = Math.max(i, seen - stride + 1)
        }
        state = next(state, bytes[i] ?? 0)
        if (state === 0) continue
        const size = matched[state] ?? 0
        if (size === 0) continue
        spans ??= []
        let start = i + 1 - size
        // A match that ends later may begin earlier than those before it.
        while (spans.length > 0 && start < (spans.at(-1) ?? 0)) {
          start = Math.min(start, spans.at(-2) ?? 0)
          spans.length -= 2
        }
        spans.push(start, i + 1)
      }
      return spans
    },
    depth(bytes) {
      const length = bytes.length
      if (length === 0 || (linesApart && bytes[length - 1] === LINE_FEED)) return 0
      let state = 0
      // The state says which end of the text begins a needle, so what lies further back cannot matter.
      for (let i = Math.max(0, length - longest + 1); i < length; i++) state = next(state, bytes[i] ?? 0)
      return depths[state] ?? 0
    },
  }
}

interface Trie {
  readonly size: number
  /** The byte that leads to a node. */
  readonly labels: Uint8Array
  readonly firstChild: Int32Array
  readonly sibling: Int32Array
  /** Length of the needle that ends at a node, or 0. */
  readonly ends: Int32Array
  /** The child of a node for a byte, or 0. */
  step(node: number, byte: number): number
}

function plant(needles: readonly Uint8Array[]): Trie {
  const capacity = needles.reduce((sum, needle) => sum + needle.length, 1)
  const labels = new Uint8Array(capacity)
  const firstChild = new Int32Array(capacity)
  const sibling = new Int32Array(capacity)
  const ends = new Int32Array(capacity)
  const children = new Uint16Array(capacity)
  /** Number of a node's table plus one. */
  const tableOf = new Int32Array(capacity)
  const tables: Int32Array[] = []
  let size = 1

  function step(node: number, byte: number): number {
    const table = tableOf[node] ?? 0
    if (table !== 0) return tables[table - 1]?.[byte] ?? 0
    let child = firstChild[node] ?? 0
    while (child !== 0 && labels[child] !== byte) child = sibling[child] ?? 0
    return child
  }

  function grow(node: number, byte: number): number {
    const child = size++
    labels[child] = byte
    sibling[child] = firstChild[node] ?? 0
    firstChild[node] = child
    const count = (children[node] ?? 0) + 1
    children[node] = count
    let table = tables[(tableOf[node] ?? 0) - 1]
    if (table === undefined && count > CROWDED) {
      table = new Int32Array(256)
      for (let c = child; c !== 0; c = sibling[c] ?? 0) table[labels[c] ?? 0] = c
      tableOf[node] = tables.push(table)
    }
    if (table !== undefined) table[byte] = child
    return child
  }

  for (const needle of needles) {
    let node = 0
    for (const byte of needle) node = step(node, byte) || grow(node, byte)
    ends[node] = needle.length
  }
  return { size, labels, firstChild, sibling, ends, step }
}

/** Per node: where to go on after a mismatch, the longest needle that ends there, and how much of the text may still grow. */
function connect(trie: Trie): { fail: Int32Array; matched: Int32Array; depths: Int32Array } {
  const { size, labels, firstChild, sibling, ends, step } = trie
  const fail = new Int32Array(size)
  const matched = ends.slice(0, size)
  const depths = new Int32Array(size)
  const order = new Int32Array(size)
  let filled = 1
  for (let head = 0; head < filled; head++) {
    const node = order[head] ?? 0
    for (let child = firstChild[node] ?? 0; child !== 0; child = sibling[child] ?? 0) {
      order[filled++] = child
      depths[child] = (depths[node] ?? 0) + 1
      if (node === 0) continue
      const byte = labels[child] ?? 0
      let from = fail[node] ?? 0
      let to = step(from, byte)
      while (to === 0 && from !== 0) {
        from = fail[from] ?? 0
        to = step(from, byte)
      }
      fail[child] = to
      if (matched[child] === 0) matched[child] = matched[to] ?? 0
    }
    // A needle that nothing continues is over: only what begins inside it can still grow.
    if (firstChild[node] === 0) depths[node] = depths[fail[node] ?? 0] ?? 0
  }
  return { fail, matched, depths }
}

/**
 * Gives the first place from `from` on that may lie in the first bytes of a needle that begins no earlier, or -1.
 * Never misses one, and is wrong about one place in a hundred or fewer.
 */
function createFilter(
  needles: readonly Uint8Array[],
  stride: number,
): (bytes: Uint8Array, from: number, length: number) => number {
  const bits = Math.min(24, Math.max(14, Math.ceil(Math.log2(needles.length * stride * 64))))
  const shift = 32 - bits
  const seen = new Uint32Array(2 ** (bits - 5))

  function place(bytes: Uint8Array, at: number): number {
    const gram =
      (bytes[at] ?? 0) |
      ((bytes[at + 1] ?? 0) << 8) |
      ((bytes[at + 2] ?? 0) << 16) |
      ((bytes[at + 3] ?? 0) << 24)
    return Math.imul(gram, 0x9e3779b1) >>> shift
  }

  for (const needle of needles) {
    for (let i = 0; i < stride; i++) {
      const bit = place(needle, i)
      seen[bit >>> 5] = (seen[bit >>> 5] ?? 0) | (1 << (bit & 31))
    }
  }

  return (bytes, from, length) => {
    for (let i = from; i + GRAM <= length; i += stride) {
      const bit = place(bytes, i)
      if (((seen[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0) return i
    }
    return -1
  }
}
