import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readTraceparent, readTracestate, toTraceparent } from '../../../src/usage/trace-context.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'

describe('traceparent', () => {
  it.each([
    ['one that is sampled', `00-${TRACE}-${SPAN}-01`, 1],
    ['one that is not', `00-${TRACE}-${SPAN}-00`, 0],
    ['one whose trace id is random', `00-${TRACE}-${SPAN}-03`, 3],
    ['flags that nobody knows yet, which are not passed on', `00-${TRACE}-${SPAN}-fd`, 1],
    ['a later version', `01-${TRACE}-${SPAN}-01`, 1],
    ['a later version with more behind it', `cc-${TRACE}-${SPAN}-01-what-is-to-come`, 1],
    ['white space around it', ` 00-${TRACE}-${SPAN}-01\t`, 1],
  ])('is read: %s', (_, text, flags) => {
    expect(readTraceparent(text)).toEqual({ traceId: TRACE, spanId: SPAN, flags })
  })

  it.each([
    ['nothing', undefined],
    ['an empty one', ''],
    ['two lines', `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`],
    ['version ff', `ff-${TRACE}-${SPAN}-01`],
    ['version 00 with more behind it', `00-${TRACE}-${SPAN}-01-more`],
    ['a later version with more, but no dash', `01-${TRACE}-${SPAN}-01more`],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-${SPAN}-01`],
    ['a span id of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
    ['upper case', `00-${TRACE.toUpperCase()}-${SPAN}-01`],
    ['a short trace id', `00-${TRACE.slice(1)}-${SPAN}-01`],
    ['a long span id', `00-${TRACE}-${SPAN}0-01`],
    ['no flags', `00-${TRACE}-${SPAN}`],
    ['flags of one digit', `00-${TRACE}-${SPAN}-1`],
    ['a word', 'trace-me'],
    ['one without an end', `01-${TRACE}-${SPAN}-01-${'x'.repeat(1000)}`],
    ['a line break', `00-${TRACE}-${SPAN}-01\n00-${TRACE}-${SPAN}-01`],
  ])('is as if it were not there: %s', (_, text) => {
    expect(readTraceparent(text)).toBeUndefined()
  })

  it('is written as it is read', () => {
    const hex = (length: number) =>
      fc
        .array(fc.constantFrom(...'0123456789abcdef'), { minLength: length, maxLength: length })
        .map((digits) => digits.join(''))
        .filter((text) => /[^0]/.test(text))
    fc.assert(
      fc.property(hex(32), hex(16), fc.integer({ min: 0, max: 3 }), (traceId, spanId, flags) => {
        const parent = { traceId, spanId, flags }
        expect(readTraceparent(toTraceparent(parent))).toEqual(parent)
      }),
    )
  })

  it('never throws, whatever it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => void readTraceparent(text)),
    )
  })
})

describe('tracestate', () => {
  it.each([
    ['one member', 'congo=t61rcWkgMzE', 'congo=t61rcWkgMzE'],
    ['several, with the white space and the empty ones that a list may have', 'a=1 , ,b@c=2,\t', 'a=1,b@c=2'],
    ['a value with inner spaces', 'a=1 2 3', 'a=1 2 3'],
  ])('is passed on: %s', (_, text, passed) => {
    expect(readTracestate(text)).toBe(passed)
  })

  it.each([
    ['nothing', undefined],
    ['an empty one', ''],
    ['a key in upper case', 'Congo=1'],
    ['a member without a value', 'a=1,b'],
    ['an empty value', 'a='],
    ['a value with an equals sign', 'a=b=c'],
    ['a key that stands twice', 'a=1,b=2,a=3'],
    ['a character beyond ASCII', 'a=ü'],
    ['a control character', 'a=1\r\nx-api-key: k'],
    ['more members than there may be', Array.from({ length: 33 }, (_, i) => `k${i}=v`).join(',')],
    ['more text than must be passed on', `a=${'x'.repeat(250)},b=${'x'.repeat(250)},c=${'x'.repeat(20)}`],
  ])('is left out: %s', (_, text) => {
    expect(readTracestate(text)).toBeUndefined()
  })

  it('is a line of visible ASCII whatever comes in', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), fc.string({ maxLength: 60 }), (a, b) => {
        const passed = readTracestate(`${a}=${b}`)
        if (passed !== undefined) expect(passed).toMatch(/^[\x20-\x7e]+$/)
      }),
    )
  })
})
