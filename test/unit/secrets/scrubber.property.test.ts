import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createScrubber, type Scrubber } from '../../../src/secrets/scrubber.ts'

/** Printable, without the brackets of the replacement text, with which a secret could come about anew. */
const printable = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).filter(
  (c) => c !== '[' && c !== ']',
)
const secretOf = (...units: string[]) =>
  fc
    .array(fc.constantFrom(...units), { minLength: 8, maxLength: 200 })
    .map((chars) => chars.join(''))
    .filter((secret) => !'redacted'.includes(secret))
const secret = fc.oneof(secretOf(...printable), secretOf('a', 'b'), secretOf(...'żółwß鍵🔑abc'))
const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 60 }),
  fc.stringMatching(/^[ab":,{}\\n ]{0,60}$/),
)

const FORMS: ((secret: string) => string)[] = [
  (s) => s,
  (s) => Buffer.from(s).toString('hex'),
  (s) => Buffer.from(s).toString('hex').toUpperCase(),
  (s) => encodeURIComponent(s),
  (s) => encodeURIComponent(s).replace(/%../g, (code) => code.toLowerCase()),
  (s) => JSON.stringify(s).slice(1, -1),
  (s) => JSON.stringify(JSON.stringify(s)).slice(3, -3),
  ...[0, 1, 2].flatMap((offset) => {
    const inner = (s: string) => {
      const blob = Buffer.from('x'.repeat(offset) + s).toString('base64')
      const bits = (offset + Buffer.byteLength(s)) * 8
      return blob.slice(Math.ceil((offset * 8) / 6), Math.floor(bits / 6))
    }
    return [inner, (s: string) => inner(s).replaceAll('+', '-').replaceAll('/', '_')]
  }),
]

/** Cuts bytes at the given shares of their length. */
function split(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...cuts.map((cut) => Math.floor(cut * bytes.length)).sort((a, b) => a - b), bytes.length]
  return places.map((place, i) => bytes.subarray(places[i - 1] ?? 0, place))
}

function throughStream(scrubber: Scrubber, pieces: readonly Buffer[]): string {
  const stream = scrubber.stream()
  return Buffer.concat([...pieces.map((piece) => stream.push(piece)), stream.flush()]).toString()
}

const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 6 })

describe('laws of the scrubber', () => {
  it('a secret in any form, anywhere in any text, split anywhere, never leaves', () => {
    fc.assert(
      fc.property(
        secret,
        text,
        text,
        fc.nat(FORMS.length - 1),
        cuts,
        (value, before, after, which, places) => {
          const form = FORMS[which]?.(value) ?? value
          const scrubber = createScrubber()
          scrubber.setSecrets([value])
          const whole = before + form + after
          expect(scrubber.text(whole)).not.toContain(form)
          expect(scrubber.bytes(Buffer.from(whole)).toString()).not.toContain(form)
          expect(throughStream(scrubber, split(Buffer.from(whole), places))).not.toContain(form)
        },
      ),
      { numRuns: 1500 },
    )
  })

  it('a secret never leaves a stream that is flushed in between', () => {
    fc.assert(
      fc.property(secret, text, text, cuts, (value, before, after, places) => {
        const scrubber = createScrubber()
        scrubber.setSecrets([value])
        const stream = scrubber.stream()
        const pieces = split(Buffer.from(before + value + after), places)
        const out = Buffer.concat(pieces.flatMap((piece) => [stream.push(piece), stream.flush()])).toString()
        expect(out).not.toContain(value)
      }),
      { numRuns: 500 },
    )
  })

  it('many secrets at once are all found, and scrubbing again changes nothing', () => {
    fc.assert(
      fc.property(
        fc.array(secret, { minLength: 1, maxLength: 8 }),
        fc.array(text, { maxLength: 8 }),
        (values, between) => {
          const scrubber = createScrubber()
          scrubber.setSecrets(values)
          const out = scrubber.text(values.map((value, i) => value + (between[i] ?? '')).join(''))
          for (const value of values) expect(out).not.toContain(value)
          expect(scrubber.text(out)).toBe(out)
        },
      ),
      { numRuns: 300 },
    )
  })

  it('text without a secret and without a pattern is unchanged', () => {
    // No pattern begins without a b, a k or a z.
    const harmless = fc.string({ unit: fc.constantFrom(...'acdefghij 0123456789":,{}\\/=?&-_.%ż🐢\n') })
    fc.assert(
      fc.property(secretOf(...printable), harmless, cuts, (value, whole, places) => {
        fc.pre(!FORMS.some((form) => whole.includes(form(value))))
        const scrubber = createScrubber({ isBearerDigest: () => false })
        scrubber.setSecrets([value])
        expect(scrubber.text(whole)).toBe(whole)
        const bytes = Buffer.from(whole)
        expect(scrubber.bytes(bytes)).toBe(bytes)
        // What is held at the end may be a fragment; a line end says that it is not.
        expect(throughStream(scrubber, split(Buffer.from(`${whole}\n`), places))).toBe(`${whole}\n`)
      }),
      { numRuns: 500 },
    )
  })

  it('a stream over any split gives what the whole gives', () => {
    const value = 'abcabdabcabe-0123456789'
    const second = 'abe-01234567890-abcabd'
    const bearer = 'known-only-by-digest/0=='
    const digest = createHash('sha256').update(bearer).digest('hex')
    const piece = fc.oneof(
      fc.constantFrom(
        ...FORMS.map((form) => form(value)),
        second,
        bearer,
        `${value.slice(0, 20)}${second.slice(4)}`,
      ),
      fc.nat(value.length).map((end) => value.slice(0, end)),
      fc.constantFrom(
        ...[
          'sk-',
          'AIza',
          'Bearer ',
          'basic ',
          'authorization',
          'x-api-key',
          'api_key',
          'key=',
          '?',
          '&',
          '<Buffer ',
        ],
        ...[
          '"',
          "'",
          '\\',
          '\\"',
          '\\\\\\"',
          ':',
          '=',
          ',',
          ', ',
          ' ',
          '[',
          ']',
          '\n',
          '\\n',
          '%20',
          '%3D',
          '=>',
          '_2',
        ],
        ...[
          'digest',
          'Bearer',
          'env:',
          'file:/',
          'vault',
          'ta',
          'x',
          'word',
          'W0rd',
          '73 6b 2d 61 ',
          'ż',
          '🐢',
          '.',
          '/',
        ],
        ...['a1B2c3D4e5F6g7H8', 'ABCDEFGHIJ', 'plain-word', '12'],
      ),
    )
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 30 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 30 }),
        (parts, places) => {
          const scrubber = createScrubber({ isBearerDigest: (hex) => hex === digest })
          scrubber.setSecrets([value, second])
          const whole = Buffer.from(`${parts.join('')}\n`)
          const expected = scrubber.bytes(whole).toString()
          expect(throughStream(scrubber, split(whole, places))).toBe(expected)
          // Lengths of words beyond ASCII are counted in what is at hand, characters or bytes.
          if (!/[^\x00-\x7f]/.test(parts.join(''))) expect(scrubber.text(whole.toString())).toBe(expected)
          const bytewise = [...whole].map((byte) => Buffer.from([byte]))
          expect(throughStream(scrubber, bytewise)).toBe(expected)
        },
      ),
      { numRuns: 3000 },
    )
  })
})
