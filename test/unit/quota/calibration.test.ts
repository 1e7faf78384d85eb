// Estimates held against a real tokenizer: the one of current OpenAI models, and the one before it.

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import fc from 'fast-check'
import { countTokens as cl100k } from 'gpt-tokenizer/encoding/cl100k_base'
import { countTokens as o200k } from 'gpt-tokenizer/encoding/o200k_base'
import { describe, expect, it } from 'vitest'
import { createCalibration, INITIAL_BYTES_PER_TOKEN } from '../../../src/quota/calibration.ts'

const ROOT = resolve(import.meta.dirname, '../../..')
const file = (path: string): string => readFileSync(resolve(ROOT, path), 'utf8')

/** As an agent sends it. */
const bodyOf = (text: string): string =>
  JSON.stringify({ model: 'm', messages: [{ role: 'user', content: text }] })

const TEXTS: readonly (readonly [name: string, text: string])[] = [
  ['prose', file('README.md')],
  ['code', file('src/quota/ledger.ts')],
  ['a schema', file('deploy/reference/sluice.schema.json').slice(0, 40_000)],
  ['Chinese', '我们的目标是成为工程师们互相推荐的网关。'.repeat(40)],
  ['Russian', 'Мы хотим быть шлюзом, который инженеры советуют друг другу. '.repeat(40)],
]

describe('the tokens of a text', () => {
  it('are never more than its bytes', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ unit: 'binary', maxLength: 200 }), fc.string({ unit: 'grapheme' })),
        (text) => {
          const bytes = Buffer.byteLength(text.toWellFormed())
          expect(o200k(text.toWellFormed())).toBeLessThanOrEqual(bytes)
          expect(cl100k(text.toWellFormed())).toBeLessThanOrEqual(bytes)
        },
      ),
      { numRuns: 500 },
    )
  })

  it.each(TEXTS)('of %s are no more than is reckoned with before anything is known', (_, text) => {
    const body = bodyOf(text)
    const reckoned = Math.ceil(Buffer.byteLength(body) / INITIAL_BYTES_PER_TOKEN)
    expect(reckoned).toBeGreaterThanOrEqual(o200k(text))
  })

  it.each(TEXTS)('of %s are soon reckoned within a quarter, and not below', (_, text) => {
    const calibration = createCalibration()
    const textBytes = Buffer.byteLength(bodyOf(text))
    const inputTokens = o200k(text)
    for (let i = 0; i < 60; i++) calibration.learn('a', { textBytes, inputTokens })
    const reckoned = textBytes / calibration.bytesPerToken('a')
    expect(reckoned).toBeGreaterThanOrEqual(inputTokens)
    expect(reckoned).toBeLessThanOrEqual(inputTokens * 1.25)
  })
})

describe('what is learned', () => {
  it('is each agent’s own', () => {
    const calibration = createCalibration()
    for (let i = 0; i < 60; i++) calibration.learn('dense', { textBytes: 1000, inputTokens: 1000 })
    expect(calibration.bytesPerToken('dense')).toBeLessThan(1.1)
    expect(calibration.bytesPerToken('other')).toBe(INITIAL_BYTES_PER_TOKEN)
  })

  it('does not follow figures that cannot be, nor single ones far', () => {
    const calibration = createCalibration()
    for (const inputTokens of [Number.NaN, 0, -5, Infinity])
      calibration.learn('a', { textBytes: 1000, inputTokens })
    calibration.learn('a', { textBytes: 1e9, inputTokens: 1 })
    expect(calibration.bytesPerToken('a')).toBeLessThan(3.7)
    calibration.learn('a', { textBytes: 10, inputTokens: 8 })
    for (let i = 0; i < 1000; i++) calibration.learn('a', { textBytes: 1e9, inputTokens: 1 })
    expect(calibration.bytesPerToken('a')).toBeLessThanOrEqual(9)
  })

  it('is kept of ten thousand agents', () => {
    const calibration = createCalibration()
    for (let i = 0; i < 10_001; i++) calibration.learn(`a${i}`, { textBytes: 1000, inputTokens: 1000 })
    expect(calibration.bytesPerToken('a0')).toBe(INITIAL_BYTES_PER_TOKEN)
    expect(calibration.bytesPerToken('a10000')).toBeLessThan(INITIAL_BYTES_PER_TOKEN)
  })
})
