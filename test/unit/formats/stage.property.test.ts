// What is taken out of a provider's answer: its own keys, in the spellings in which they come back.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createRedact, redactKeys } from '../../../src/formats/stage.ts'
import type { EventFacts, Frame } from '../../../src/types.ts'

const KEY = 'sk-Proj_9dK2/mX7q+T4vB8n=R1aZ0cY5'
const OTHER = 'AKIA0123456789abcdef'

function redact(text: string, keys: readonly string[] = [KEY, OTHER]): string {
  return createRedact(keys)?.(Buffer.from(text)).toString() ?? text
}

const hexOf = (text: string) => Buffer.from(text).toString('hex')
const base64Of = (text: string) => Buffer.from(text).toString('base64')
const inJson = (content: string) => JSON.stringify({ choices: [{ delta: { content } }] })
/** JSON as another encoder writes it: the same value, with escapes that nobody needs. */
const unicode = (char: string) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
const percent = (char: string) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`

describe('a key that a provider echoes', () => {
  it.each([
    ['as it is', inJson(`key ${KEY}!`)],
    ['twice, and another', inJson(`${KEY} ${OTHER} ${KEY}`)],
    ['in base64', inJson(base64Of(KEY))],
    ['in base64 without padding, for URLs', inJson(Buffer.from(KEY).toString('base64url'))],
    ['in base64 of more', inJson(base64Of(`Authorization: Bearer ${KEY}\r\nHost: x`))],
    ['in base64 with escaped slashes', inJson(base64Of(KEY)).replaceAll('/', '\\/')],
    ['in hex', inJson(hexOf(KEY))],
    ['in upper-case hex', inJson(hexOf(KEY).toUpperCase())],
    ['in a URL', inJson(`https://x/?key=${encodeURIComponent(KEY)}`)],
    ['with every byte percent-encoded', inJson([...KEY].map(percent).join(''))],
    ['in a URL in a URL', inJson(encodeURIComponent(encodeURIComponent(KEY)))],
    ['with escaped slashes', inJson(KEY).replaceAll('/', '\\/')],
    ['with its slash as \\u002f', inJson(KEY).replace('/', '\\u002f')],
    ['with its slash as \\u002F', inJson(KEY).replace('/', '\\u002F')],
    ['with a letter as an escape', `{"content":"${KEY.replace('K', '\\u004b')}"}`],
    ['with every letter as an escape', `{"content":"${[...KEY].map(unicode).join('')}"}`],
    ['in the arguments of a tool call', inJson(JSON.stringify({ key: KEY }))],
    ['escaped in the arguments of a tool call', inJson(`{"key":"${[...KEY].map(unicode).join('')}"}`)],
    [
      'escaped three layers deep',
      inJson(JSON.stringify({ arguments: `{"key":"${[...KEY].map(unicode).join('')}"}` })),
    ],
  ])('%s does not reach the caller', (_, json) => {
    expect(JSON.stringify(JSON.parse(json))).not.toBe('')
    const clean = redact(json)
    expect(clean).toContain('[redacted]')
    // Whoever undoes everything that can be undone still finds no key.
    const undone: string[] = [clean]
    for (let layer = 0; layer < 4; layer++) {
      const text = (undone.at(-1) ?? '')
        .replace(/\\u([0-9a-f]{4})|%([0-9a-f]{2})/gi, (_, a, b) =>
          String.fromCharCode(Number.parseInt(a ?? b, 16)),
        )
        .replace(/\\(.)/g, '$1')
      undone.push(text)
    }
    for (const text of undone) {
      for (const piece of [KEY, base64Of(KEY).slice(4, -8), hexOf(KEY), hexOf(KEY).toUpperCase()])
        expect(text).not.toContain(piece)
    }
    expect(JSON.parse(clean)).toBeDefined()
  })

  it('with any of its characters escaped in any way leaves one mark, and everything else as it was', () => {
    const spelling = fc.array(
      fc.constantFrom(
        (char: string) => char,
        unicode,
        (char: string) => unicode(char).replace(/[a-f]+$/, (digits) => digits.toUpperCase()),
        percent,
        (char: string) => unicode(char).replace('\\', '\\\\'),
        (char: string) => unicode(char).replace('\\', '\\\\\\\\'),
      ),
      { minLength: KEY.length, maxLength: KEY.length },
    )
    const around = fc.string({
      unit: fc.constantFrom('a', '"', '\\\\', '\\n', '\\u4e2d', '鍵', '%', '\\/', ' '),
    })
    fc.assert(
      fc.property(around, spelling, around, (before, ways, after) => {
        const spelt = [...KEY].map((char, i) => ways[i]?.(char) ?? char).join('')
        expect(redact(`${before} ${spelt} ${after}`)).toBe(`${before} [redacted] ${after}`)
      }),
    )
  })

  it('is found wherever it stands in a long answer', () => {
    const spelt = [...KEY].map(unicode).join('')
    fc.assert(
      fc.property(fc.integer({ min: 65_000, max: 66_200 }), fc.boolean(), (before, escaped) => {
        const start = '\\/'.padStart(before, 'x')
        const end = '\\u0041'.padStart(70_000, 'y')
        expect(redact(`${start} ${escaped ? spelt : KEY} ${end}`)).toBe(`${start} [redacted] ${end}`)
      }),
      { numRuns: 60 },
    )
  })
})

describe('an answer without a key', () => {
  const facts: EventFacts = {
    content: true,
    done: false,
    usageOnly: false,
    error: undefined,
    malformed: false,
  }

  it('is passed on as the very bytes', () => {
    const make = createRedact([KEY])
    const text = fc.oneof(
      fc.string({ unit: 'grapheme' }).map(inJson),
      fc.string({ unit: fc.constantFrom('s', 'k', '-', '\\u0050', '%50', '\\/', '\\') }),
    )
    fc.assert(
      fc.property(text, (content) => {
        const bytes = Buffer.from(`data: ${content}\n\n`)
        const frame: Frame = { bytes, data: content, event: undefined }
        const stage = make === undefined ? undefined : redactKeys(make)
        expect(stage?.kind === 'transform' && stage.change(frame, facts)).toBe(bytes)
      }),
    )
  })

  it('is not looked at for words: keys of less than eight characters are none', () => {
    expect(createRedact(['none', 'stop', ''])).toBeUndefined()
    expect(createRedact([])).toBeUndefined()
  })
})
