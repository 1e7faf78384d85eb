// Makes a text that a simple regular expression accepts. It reads the expression itself and never runs it: the
// expression is the caller's, and a RegExp that backtracks for minutes would hold up every other agent. Pure.

type Node =
  | { readonly kind: 'one'; readonly of: string }
  | { readonly kind: 'sequence'; readonly parts: readonly Node[] }
  | { readonly kind: 'repeat'; readonly part: Node; readonly least: number; readonly most: number }

interface Wish {
  readonly minLength: number
  readonly maxLength: number
  /** Which of several texts: another number, another text where the expression leaves a choice. */
  readonly variation: number
}

const DIGITS = '0123456789'
const LOWER = 'abcdefghijklmnopqrstuvwxyz'
const UPPER = LOWER.toUpperCase()
const WORD = `${LOWER}${UPPER}${DIGITS}_`
/** What `.` and negated classes are filled from. */
const PRINTABLE = `${LOWER}${UPPER}${DIGITS}-_./:@ ,;+=()[]{}<>!?#$%&*'"\\^~|\``
const MAX_SOURCE = 1000
const MAX_NESTING = 20
const MAX_TEXT = 4096
/** Nodes visited for one text: `(((){9}){9}){9}` is long work for nothing. */
const MAX_STEPS = 20_000

/** A text that matches, or undefined when the expression says more than is understood here. */
export function samplePattern(source: string, wish: Wish): string | undefined {
  // Outside the basic plane a character is two units here, and half of one is not a text.
  if (source.length > MAX_SOURCE || /[\ud800-\udfff]/.test(source)) return undefined
  const parsed = parse(source)
  if (parsed === undefined) return undefined
  const { node, openEnd } = parsed
  const shortest = spell(node, 0, wish.variation)
  const missing = Math.min(MAX_TEXT, Math.max(0, wish.minLength - shortest.length))
  // One more turn of a repeat is one character in the common `[a-z]{3,20}`, and several in `([a-z]{2}-)*`.
  for (const turns of [missing, missing / 2, missing / 3, missing / 4]) {
    let text = spell(node, Math.ceil(turns), wish.variation)
    if (openEnd) text = text.padEnd(Math.min(MAX_TEXT, wish.minLength), 'a')
    if (text.length >= wish.minLength && text.length <= wish.maxLength) return text
  }
  return undefined
}

/** Writes a text; repeats are at their least, but for the first ones that can take the `extra` characters. */
function spell(root: Node, extra: number, variation: number): string {
  let left = extra
  let salt = variation
  let budget = MAX_TEXT
  let steps = MAX_STEPS
  const write = (node: Node): string => {
    steps -= 1
    if (budget <= 0 || steps <= 0) return ''
    if (node.kind === 'sequence') return node.parts.map(write).join('')
    if (node.kind === 'one') {
      budget -= 1
      const letter = node.of[salt % node.of.length] ?? ''
      salt = Math.floor(salt / node.of.length)
      return letter
    }
    const times = Math.min(node.most, node.least + left, MAX_TEXT)
    left -= times - node.least
    let text = ''
    for (let count = 0; count < times && budget > 0 && steps > 0; count += 1) text += write(node.part)
    return text
  }
  return write(root)
}

/** What is not understood makes the parser return undefined all the way up. */
function parse(source: string): { node: Node; openEnd: boolean } | undefined {
  let at = 0
  let closed = false

  /** The first alternative is what is written; the others must only be readable. */
  function alternatives(depth: number): Node | undefined {
    const first = sequence(depth)
    while (first !== undefined && source[at] === '|') {
      at += 1
      if (sequence(depth) === undefined) return undefined
    }
    return first
  }

  function sequence(depth: number): Node | undefined {
    if (depth > MAX_NESTING) return undefined
    const parts: Node[] = []
    while (at < source.length && source[at] !== '|' && source[at] !== ')') {
      const sign = source[at]
      if (sign === '^' && parts.length === 0) {
        at += 1
      } else if (sign === '$') {
        at += 1
        closed = true
        if (at < source.length && source[at] !== '|' && source[at] !== ')') return undefined
      } else {
        const part = quantified(depth)
        if (part === undefined) return undefined
        parts.push(part)
      }
    }
    return { kind: 'sequence', parts }
  }

  function quantified(depth: number): Node | undefined {
    const part = atom(depth)
    if (part === undefined) return undefined
    const range = quantifier()
    if (range === undefined) return undefined
    return range.least === 1 && range.most === 1 ? part : { kind: 'repeat', part, ...range }
  }

  function quantifier(): { least: number; most: number } | undefined {
    const sign = source[at]
    let range = { least: 1, most: 1 }
    if (sign === '*') range = { least: 0, most: MAX_TEXT }
    else if (sign === '+') range = { least: 1, most: MAX_TEXT }
    else if (sign === '?') range = { least: 0, most: 1 }
    else if (sign !== '{') return range
    if (sign === '{') {
      const end = source.indexOf('}', at)
      const bounds = /^(\d{1,6})(,?)(\d{0,6})$/.exec(source.slice(at + 1, end))
      if (end < 0 || bounds === null) return undefined
      const least = Number(bounds[1])
      const most = bounds[2] === '' ? least : bounds[3] === '' ? MAX_TEXT : Number(bounds[3])
      if (most < least) return undefined
      range = { least, most }
      at = end
    }
    at += 1
    if (source[at] === '?') at += 1
    return range
  }

  function atom(depth: number): Node | undefined {
    const sign = source[at] ?? ''
    if (sign === '(') return group(depth)
    if (sign === '[') return bracket()
    if (sign === '\\') {
      const set = escaped()
      return set === undefined ? undefined : { kind: 'one', of: set }
    }
    if ('*+?{'.includes(sign) || sign === '^') return undefined
    at += 1
    return { kind: 'one', of: sign === '.' ? PRINTABLE : sign }
  }

  function group(depth: number): Node | undefined {
    at += 1
    if (source[at] === '?') {
      const opening = /^\?(:|<[A-Za-z_]\w*>)/.exec(source.slice(at, at + 64))
      if (opening === null) return undefined // looks around
      at += opening[0].length
    }
    const inner = alternatives(depth + 1)
    if (inner === undefined || source[at] !== ')') return undefined
    at += 1
    return inner
  }

  /** A class: its letters, or what is left of the printable ones. */
  function bracket(): Node | undefined {
    at += 1
    const negated = source[at] === '^'
    if (negated) at += 1
    let letters = ''
    while (at < source.length && source[at] !== ']') {
      const from = letter()
      if (from === undefined) return undefined
      if (from.length === 1 && source[at] === '-' && source[at + 1] !== ']' && at + 1 < source.length) {
        at += 1
        const to = letter()
        if (to === undefined || to.length !== 1 || to < from) return undefined
        letters += span(from, to)
      } else {
        letters += from
      }
    }
    if (source[at] !== ']') return undefined
    at += 1
    const of = negated ? [...PRINTABLE].filter((sign) => !letters.includes(sign)).join('') : letters
    return of === '' ? undefined : { kind: 'one', of }
  }

  function letter(): string | undefined {
    const sign = source[at]
    if (sign === '\\') return escaped()
    at += 1
    return sign
  }

  /** What an escape stands for, as letters to choose from. */
  function escaped(): string | undefined {
    const sign = source[at + 1]
    at += 2
    if (sign === undefined) return undefined
    const set = ESCAPES.get(sign)
    if (set !== undefined) return set
    if (sign === 'x' || sign === 'u') {
      const digits = sign === 'x' ? 2 : 4
      const hex = source.slice(at, at + digits)
      if (hex.length !== digits || !/^[0-9a-fA-F]+$/.test(hex)) return undefined
      at += digits
      return String.fromCharCode(Number.parseInt(hex, 16))
    }
    if (sign === 'p') return property()
    // Letters and digits with a meaning of their own (\b, \1) are not understood; the rest stands for itself.
    return /[A-Za-z0-9]/.test(sign) ? undefined : sign
  }

  function property(): string | undefined {
    const name = /^\{([A-Za-z_]+)\}/.exec(source.slice(at, at + 40))
    if (name === null) return undefined
    at += name[0].length
    return PROPERTIES.get(name[1] ?? '')
  }

  const node = alternatives(0)
  return node === undefined || at < source.length ? undefined : { node, openEnd: !closed }
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['d', DIGITS],
  ['D', LOWER],
  ['w', WORD],
  ['W', '-./'],
  ['s', ' '],
  ['S', WORD],
  ['t', '\t'],
  ['n', '\n'],
  ['r', '\r'],
])

const PROPERTIES: ReadonlyMap<string, string> = new Map([
  ['L', LOWER],
  ['Letter', LOWER],
  ['Alphabetic', LOWER],
  ['Ll', LOWER],
  ['Lu', UPPER],
  ['N', DIGITS],
  ['Nd', DIGITS],
])

function span(from: string, to: string): string {
  const first = from.charCodeAt(0)
  const count = Math.min(to.charCodeAt(0) - first + 1, 128)
  return Array.from({ length: count }, (_, index) => String.fromCharCode(first + index)).join('')
}
