import { isUtf8 } from 'node:buffer'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  SCAN_BOUNDS,
  type Scan,
  type ScanBounds,
  scanNested,
  scanObject,
} from '../../../src/bytes/json-scan.ts'
import { type Ground, groundsOf, mutate, objectText, same, valueText } from './json-corpus.ts'
import { createRandom, fuzzSeed } from './random.ts'

const seed = fuzzSeed()
const INPUTS = 520_000
const SMALL: ScanBounds = { depth: 4, keys: 9, items: 5 }

const FAULT_OF: Readonly<Record<Ground, string>> = {
  'not an object': 'invalid',
  'escaped name': 'ambiguous',
  'double name': 'ambiguous',
  'forbidden name': 'forbidden',
  'too deep': 'bomb',
  'too many keys': 'bomb',
  'too many elements': 'bomb',
}

/** The law. Undefined when it holds, else what is wrong; no `expect`, which would cost more than the scan. */
function breach(bytes: Buffer, bounds: ScanBounds): string | undefined {
  const scan = scanObject(bytes, bounds)
  const text = bytes.toString('utf8')
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    return scan.ok
      ? 'accepts what JSON.parse rejects'
      : scan.fault === 'bomb'
        ? undefined
        : checkRefusal(scan)
  }
  if (!isUtf8(bytes))
    return scan.ok || scan.fault !== 'invalid' ? 'takes bytes that are not UTF-8' : undefined
  const grounds = groundsOf(text, bounds)
  if (!scan.ok) {
    const reasons = [...grounds].map((ground) => FAULT_OF[ground])
    return reasons.includes(scan.fault) ? undefined : `refuses for no documented reason: ${scan.message}`
  }
  if (grounds.size > 0) return `accepts in spite of: ${[...grounds].join(', ')}`
  if (typeof parsed !== 'object' || parsed === null) return 'accepts what is no object'
  const names = Object.keys(parsed)
  if (names.length !== scan.members.size) return 'sees other names'
  const values = new Map(Object.entries(parsed))
  for (const [name, span] of scan.members) {
    if (!values.has(name)) return `sees a name that is not there: ${name}`
    const piece = bytes.toString('utf8', span.start, span.end)
    if (piece !== piece.trim()) return 'a span begins or ends in white space'
    if (!same(JSON.parse(piece), values.get(name))) return `sees another value for ${name}`
  }
  return bytes[scan.insertAt - 1] === 0x7b ? undefined : 'would insert outside of the object'
}

function checkRefusal(scan: Extract<Scan, { ok: false }>): string | undefined {
  // Names are judged as they come, so a broken document may be refused for its names before it breaks.
  return ['invalid', 'ambiguous', 'forbidden'].includes(scan.fault)
    ? undefined
    : `unknown fault ${scan.fault}`
}

/** An object that stands anywhere inside other bytes is read as if it stood alone. */
function nestedBreach(bytes: Buffer, before: Buffer, behind: Buffer): string | undefined {
  if (!isUtf8(bytes)) return undefined
  const alone = scanObject(bytes)
  const whole = Buffer.concat([before, bytes, behind])
  const shift = before.length
  const nested = scanNested(whole, { start: shift, end: shift + bytes.length })
  if (alone.ok !== nested.ok) return 'reads an object differently where it is nested'
  if (!alone.ok || !nested.ok) return undefined
  if (nested.insertAt !== alone.insertAt + shift) return 'inserts elsewhere where it is nested'
  for (const [name, span] of alone.members) {
    const moved = nested.members.get(name)
    if (moved?.start !== span.start + shift || moved.end !== span.end + shift)
      return `loses ${name} where it is nested`
  }
  return undefined
}

describe('laws of the scan', () => {
  it(`agrees with JSON.parse or refuses for a documented reason, ${INPUTS} inputs (SLUICE_FUZZ_SEED=${seed})`, {
    timeout: 120_000,
  }, () => {
    const random = createRandom(seed)
    const seen = { accepted: 0, refused: 0 }
    for (let i = 0; i < INPUTS; i += 1) {
      const text = random.oneIn(20) ? valueText(random) : objectText(random)
      const whole = Buffer.from(text)
      const bytes = random.oneIn(2) ? mutate(random, whole) : whole
      const bounds = random.oneIn(10) ? SMALL : SCAN_BOUNDS
      const wrong =
        breach(bytes, bounds) ??
        (random.oneIn(8)
          ? nestedBreach(
              bytes,
              Buffer.from(random.pick(['', '{', '"', '-1', '[ '])),
              Buffer.from(random.pick(['', '0', '"', '}', '-', ' ', ','])),
            )
          : undefined)
      if (wrong !== undefined) {
        throw new Error(`seed ${seed}, input ${i}: ${wrong}\n${JSON.stringify(bytes.toString('latin1'))}`)
      }
      if (scanObject(bytes, bounds).ok) seen.accepted += 1
      else seen.refused += 1
    }
    // A corpus of nothing but garbage, or of nothing but good documents, would prove little.
    expect(seen.accepted).toBeGreaterThan(INPUTS / 10)
    expect(seen.refused).toBeGreaterThan(INPUTS / 10)
  })

  it('finds every member of any object that JSON.stringify writes', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue()),
        fc.nat(3),
        (object, indent) => {
          const bytes = Buffer.from(JSON.stringify(object, undefined, indent))
          expect(breach(bytes, SCAN_BOUNDS)).toBeUndefined()
        },
      ),
      { numRuns: 3000, seed },
    )
  })

  it('never throws and never accepts more than JSON.parse on arbitrary bytes', () => {
    const braced = fc
      .uint8Array({ maxLength: 64 })
      .map((bytes) => Buffer.concat([Buffer.from('{"'), bytes, Buffer.from('}')]))
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
          braced,
        ),
        (bytes) => {
          expect(breach(bytes, SCAN_BOUNDS)).toBeUndefined()
        },
      ),
      { numRuns: 5000, seed },
    )
  })

  it('refuses every proper prefix of a document', () => {
    const random = createRandom(seed)
    for (let i = 0; i < 500; i += 1) {
      const bytes = Buffer.from(objectText(random).trimEnd())
      for (let end = 0; end < bytes.length; end += 1)
        expect(scanObject(bytes.subarray(0, end)).ok).toBe(false)
    }
  })

  it('agrees with JSON.parse on long strings, whatever stands in them, wherever they lie in memory', () => {
    // Such are searched in another way than short ones, unless a control character stands anywhere.
    const piece = fc.oneof(
      { weight: 8, arbitrary: fc.string({ maxLength: 90 }) },
      fc.constantFrom(
        '\\"',
        '\\\\',
        '\\n',
        '\\u00e9',
        '\\x',
        '\\',
        '"',
        'é€😀',
        '\n',
        '\u0000',
        '\u001f',
        '\u007f',
        ' ',
      ),
    )
    const long = fc.array(piece, { minLength: 1, maxLength: 6 }).map((pieces) => pieces.join(''))
    const document = fc
      .tuple(long, long, fc.constantFrom('', ' ', '\n\t'))
      .map(([one, two, space]) => `{"a":${space}"${one}","${two}":[${space}"${two}","${one}"]}`)
    const taken = { accepted: 0, refused: 0 }
    fc.assert(
      fc.property(document, fc.nat(7), (text, offset) => {
        const bytes = Buffer.alloc(Buffer.byteLength(text) + offset).subarray(offset)
        bytes.write(text)
        taken[scanObject(bytes).ok ? 'accepted' : 'refused'] += 1
        expect(breach(bytes, SCAN_BOUNDS)).toBeUndefined()
      }),
      { numRuns: 20_000, seed },
    )
    expect(Math.min(taken.accepted, taken.refused)).toBeGreaterThan(1000)
  })
})
