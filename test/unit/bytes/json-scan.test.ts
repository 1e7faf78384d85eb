import { describe, expect, it } from 'vitest'
import { SCAN_BOUNDS, type Scan, scanNested, scanObject } from '../../../src/bytes/json-scan.ts'

function refusal(text: string | Buffer): Extract<Scan, { ok: false }> {
  const scan = scanObject(Buffer.from(text))
  if (scan.ok) throw new Error(`accepted: ${text.toString().slice(0, 80)}`)
  return scan
}

function memberTexts(text: string): Record<string, string> {
  const bytes = Buffer.from(text)
  const scan = scanObject(bytes)
  if (!scan.ok) throw new Error(scan.message)
  return Object.fromEntries(
    [...scan.members].map(([name, { start, end }]) => [name, bytes.toString('utf8', start, end)]),
  )
}

describe('scanObject', () => {
  it.each<[string, string, Record<string, string>]>([
    ['an empty object', '{}', {}],
    ['an empty object with white space', ' \t\r\n{ \n } \n', {}],
    [
      'tight values in loose text',
      '{ "a" : 1 , "b":[ 1 , 2 ]\n,"c" :{ } }',
      { a: '1', b: '[ 1 , 2 ]', c: '{ }' },
    ],
    ['values that hold brackets and quotes', '{"a":"}]\\"","b":"{"}', { a: '"}]\\""', b: '"{"' }],
    ['the empty name', '{"":0}', { '': '0' }],
    ['names beyond ASCII', '{"ключ":1,"👩‍🚀":2}', { ключ: '1', '👩‍🚀': '2' }],
    ['numbers as they are written', '{"a":1.50e+3,"b":-0}', { a: '1.50e+3', b: '-0' }],
    ['lone surrogates in escapes', '{"a":"\\ud800"}', { a: '"\\ud800"' }],
    [
      'names that only a prototype has',
      '{"constructor":1,"toString":2}',
      { constructor: '1', toString: '2' },
    ],
    ['a nested name written twice', '{"a":{"b":1,"b":2}}', { a: '{"b":1,"b":2}' }],
    [
      'nested __proto__ and escapes',
      '{"a":{"__proto__":1,"\\u0062":2}}',
      { a: '{"__proto__":1,"\\u0062":2}' },
    ],
  ])('finds the members of %s', (_, text, members) => {
    expect(memberTexts(text)).toEqual(members)
  })

  it('accepts a tool schema with a property called constructor', () => {
    const schema = { type: 'object', properties: { constructor: { type: 'string' }, prototype: {} } }
    const text = JSON.stringify({
      model: 'm',
      tools: [{ type: 'function', function: { parameters: schema } }],
    })
    expect(Object.keys(memberTexts(text))).toEqual(['model', 'tools'])
  })

  it.each([
    ['a name written twice', '{"model":"a","model":"a"}', 'ambiguous', 'model'],
    ['a name written twice, far apart', '{"model":"a","x":{"model":1},"model":"b"}', 'ambiguous', 'model'],
    ['a name with an escape', '{"mod\\u0065l":"a"}', 'ambiguous', undefined],
    ['a name with a needless escape', '{"a\\/b":1}', 'ambiguous', undefined],
    ['a name with an escaped lone surrogate', '{"\\ud800":1}', 'ambiguous', undefined],
    ['__proto__', '{"__proto__":{"model":"x"}}', 'forbidden', '__proto__'],
    ['__proto__ in escapes', '{"\\u005f_proto__":1}', 'ambiguous', undefined],
    ['__proto__ behind others', '{"model":"a","__proto__":null}', 'forbidden', '__proto__'],
  ])('refuses %s', (_, text, fault, param) => {
    expect(JSON.parse(text)).toBeTypeOf('object')
    expect(refusal(text)).toMatchObject({ fault, ...(param === undefined ? {} : { param }) })
  })

  it.each([
    ['nothing', ''],
    ['white space', ' \n'],
    ['a byte order mark', '\ufeff{}'],
    ['an array', '[]'],
    ['a string', '"{}"'],
    ['a number', '1'],
    ['null', 'null'],
    ['a second document', '{}{}'],
    ['text behind the end', '{} x'],
    ['a NUL behind the end', '{}\0'],
    ['a trailing comma', '{"a":1,}'],
    ['a leading comma', '{,"a":1}'],
    ['two commas', '{"a":1,,"b":2}'],
    ['a missing colon', '{"a" 1}'],
    ['a missing value', '{"a":}'],
    ['a bare name', '{a:1}'],
    ['single quotes', "{'a':1}"],
    ['a comment', '{/*x*/"a":1}'],
    ['the wrong bracket', '{"a":[1}}'],
    ['the wrong bracket at the top', '{"a":1]'],
    ['a leading zero', '{"a":01}'],
    ['a plus sign', '{"a":+1}'],
    ['a bare fraction', '{"a":.5}'],
    ['a bare point', '{"a":1.}'],
    ['a bare exponent', '{"a":1e}'],
    ['a lone minus', '{"a":-}'],
    ['hexadecimal', '{"a":0x1}'],
    ['NaN', '{"a":NaN}'],
    ['Infinity', '{"a":Infinity}'],
    ['a cut word', '{"a":tru}'],
    ['a word too long', '{"a":truee}'],
    ['a capital word', '{"a":True}'],
    ['a raw line feed in a string', '{"a":"\n"}'],
    ['a raw NUL in a string', '{"a":"\0"}'],
    ['a raw control character in a name', '{"a\t":1}'],
    ['an unknown escape', '{"a":"\\x"}'],
    ['a short unicode escape', '{"a":"\\u12"}'],
    ['a unicode escape that is not hexadecimal', '{"a":"\\u12g4"}'],
    ['an open string', '{"a":"b'],
    ['an escape at the end', '{"a":"\\'],
    ['a vertical tab for white space', '{\v"a":1}'],
    ['a no-break space for white space', '{\u00a0"a":1}'],
  ])('refuses %s as invalid', (_, text) => {
    expect(() => {
      const parsed: unknown = JSON.parse(text)
      if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
        throw new TypeError('no object')
    }).toThrow()
    expect(refusal(text).fault).toBe('invalid')
  })

  it.each([
    ['a lone continuation byte', [0x80]],
    ['an overlong slash', [0xc0, 0xaf]],
    ['a surrogate in UTF-8', [0xed, 0xa0, 0x80]],
    ['a cut sequence', [0xe2, 0x82]],
    ['a code point beyond Unicode', [0xf4, 0x90, 0x80, 0x80]],
    ['UTF-16', [0xff, 0xfe]],
  ])('refuses %s as not UTF-8', (_, bytes) => {
    expect(
      refusal(Buffer.concat([Buffer.from('{"a":"'), Buffer.from(bytes), Buffer.from('"}')])).message,
    ).toMatch(/UTF-8/)
  })

  it('shows at most 64 characters of a name that stands twice', () => {
    const name = 'x'.repeat(100_000)
    const { message, param } = refusal(`{"${name}":1,"${name}":2}`)
    expect(param).toHaveLength(64)
    expect(message.length).toBeLessThan(120)
  })
})

describe('bounds', () => {
  const nested = (levels: number): string => `{"a":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`
  const wide = (keys: number): string =>
    `{"a":{${Array.from({ length: keys - 1 }, (_, i) => `"${i}":0`).join(',')}}}`

  const long = (items: number): string => `{"a":[[],[[0${',0'.repeat(items - 2)}]]]}`

  it('accepts 128 levels, 200,000 keys and a million elements, and not one more', () => {
    expect(SCAN_BOUNDS).toEqual({ depth: 128, keys: 200_000, items: 1_000_000 })
    expect(scanObject(Buffer.from(nested(128))).ok).toBe(true)
    expect(refusal(nested(129)).fault).toBe('bomb')
    expect(scanObject(Buffer.from(wide(200_000))).ok).toBe(true)
    expect(refusal(wide(200_001)).fault).toBe('bomb')
    // The first of each list costs a bracket.
    expect(scanObject(Buffer.from(long(1_000_001))).ok).toBe(true)
    expect(refusal(long(1_000_002))).toEqual({
      ok: false,
      fault: 'bomb',
      message: 'The body has more than 1000000 list elements.',
    })
  })

  it.each([
    ['arrays 5 million deep', '{"a":', '[', 5_000_000],
    ['objects 5 million deep', '{"a":', '{"a":', 5_000_000],
    ['mixed nesting of 32 MiB', '{"a":', '[{"b":', (32 * 1024 * 1024) / 6],
  ])('refuses %s at the same place as a short one', (_, head, unit, count) => {
    const short = refusal(head + unit.repeat(200))
    const startedMs = performance.now()
    const long = refusal(
      Buffer.concat([Buffer.from(head), Buffer.alloc(unit.length * Math.floor(count), unit)]),
    )
    // Only the check for UTF-8 looks at the whole; the scan stops at level 129.
    expect(performance.now() - startedMs).toBeLessThan(2_000)
    expect(long).toEqual(short)
    expect(long.fault).toBe('bomb')
  })

  it.each([
    ['at the top', (keys: string) => `{${keys}}`],
    ['in one object', (keys: string) => `{"a":{${keys}}}`],
    ['over many objects', (keys: string) => `{"a":[{${keys.replaceAll(',', '},{')}}]}`],
  ])('refuses a million keys %s', (_, wrap) => {
    const keys = Array.from({ length: 1_000_000 }, (_, i) => `"k${i}":0`).join(',')
    const startedMs = performance.now()
    expect(refusal(wrap(keys))).toMatchObject({
      fault: 'bomb',
      message: expect.stringContaining('200000 keys'),
    })
    expect(performance.now() - startedMs).toBeLessThan(5_000)
  })

  it('looks through 32 MiB of one string, of numbers and of empty arrays in bounded time', () => {
    const bytes = 32 * 1024 * 1024
    for (const [head, unit, tail] of [
      ['{"a":"', 'x', '"}'],
      ['{"a":"', '\\u0041', '"}'],
      ['{"a":[0', ',0', ']}'],
      ['{"a":[[]', ',[]', ']}'],
    ] as const) {
      const body = Buffer.concat([
        Buffer.from(head),
        Buffer.alloc(Math.floor(bytes / unit.length) * unit.length, unit),
        Buffer.from(tail),
      ])
      const startedMs = performance.now()
      expect(scanObject(body, { ...SCAN_BOUNDS, items: bytes }).ok).toBe(true)
      expect(performance.now() - startedMs).toBeLessThan(5_000)
    }
  })
})

describe('scanNested', () => {
  it('reads the object at its place and looks at nothing around it', () => {
    const bytes = Buffer.from('{"o": {"a":12}34,"x"')
    const scan = scanNested(bytes, { start: 6, end: 14 })
    expect(scan.ok && [...scan.members]).toEqual([['a', { start: 11, end: 13 }]])
    expect(scan.ok && scan.insertAt).toBe(7)
  })

  it.each([
    ['a number that goes on behind the span', '{"a":1}', 6],
    ['a string that ends behind the span', '{"a":"b"}', 8],
    ['a bracket behind the span', '{"a":[]}', 7],
    ['a word that goes on behind the span', '{"a":true}', 8],
    ['a minus behind the span', '{"a":-1}', 5],
  ])('refuses %s', (_, text, end) => {
    expect(scanNested(Buffer.from(text), { start: 0, end }).ok).toBe(false)
  })
})
