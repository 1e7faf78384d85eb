import { describe, expect, it } from 'vitest'
import { describeError } from '../../../src/secrets/describe-error.ts'
import { createScrubber } from '../../../src/secrets/scrubber.ts'

const KEY = 'live_9dK2mX7qT4vB8nR1'
const scrubber = createScrubber()
scrubber.setSecrets([KEY])
const show = (error: unknown) => describeError(error, scrubber)

describe('a described error', () => {
  it('has name, message, frames, own properties, causes and the errors of an aggregate', () => {
    const inner = Object.assign(new TypeError('inner'), {
      code: 'ECONNRESET',
      info: { port: 8080, list: [1, 'two'] },
    })
    const text = show(new AggregateError([new RangeError('first'), 'second'], 'all failed', { cause: inner }))
    expect(text).toMatch(/^AggregateError: all failed\n\s+at /)
    expect(text).toContain('cause: TypeError: inner')
    expect(text).toContain('code: ECONNRESET')
    expect(text).toContain('info: { port: 8080, list: [1, two] }')
    expect(text).toContain('errors[0]: RangeError: first')
    expect(text).toContain('errors[1]: second')
  })

  it('is scrubbed in all its parts', () => {
    const error = Object.assign(new Error(`a ${KEY}`, { cause: { deep: [KEY] } }), {
      [KEY]: 1,
      config: { url: `?x=${KEY}` },
    })
    error.name = `N${KEY}`
    const text = show(error)
    expect(text).not.toContain(KEY)
    expect(text.match(/\[redacted\]/g)?.length).toBeGreaterThanOrEqual(5)
  })

  it('shows no bytes, no headers and no packet', () => {
    const error = Object.assign(new Error('Parse Error'), {
      rawPacket: Buffer.from('GET / HTTP/1.1\r\nauthorization: unknown-1'),
      body: Buffer.from('unknown-2'),
      view: new Uint8Array([117, 110, 107]),
      headers: { 'x-any': 'unknown-3' },
      rawHeaders: ['x-any', 'unknown-4'],
      config: { responseHeaders: { a: 'unknown-5' }, token: 'unknown-6', password: 'unknown-7' },
      cookie: 'unknown-8',
    })
    const text = show(error)
    expect(text).not.toMatch(/unknown|117/)
    expect(text).toContain('rawPacket: [hidden]')
    expect(text).toContain('body: [9 bytes]')
  })

  it.each([
    ['undefined', undefined, 'undefined'],
    ['null', null, 'null'],
    ['a string', `oh ${KEY}`, 'oh [redacted]'],
    ['a number', 42, '42'],
    ['a symbol', Symbol(KEY), 'Symbol([redacted])'],
    ['an object', { a: 1n }, '{ a: 1 }'],
    ['a function', () => KEY, '[function]'],
    ['a DOMException', new DOMException('gone', 'AbortError'), 'AbortError: gone'],
  ])('may be %s', (_, thrown, expected) => expect(show(thrown).split('\n')[0]).toBe(expected))

  it('survives cycles', () => {
    const error: Error & { self?: unknown; loop?: unknown } = new Error('round')
    error.self = error
    error.cause = error
    const loop: { again?: unknown } = {}
    loop.again = loop
    error.loop = loop
    expect(show(error)).toContain('cause: [circular]')
    expect(show(error)).toContain('loop: { again: [circular] }')
  })

  it('survives hostile getters and proxies, and calls no getter of a property', () => {
    let called = 0
    const bomb = () => {
      called++
      throw new Error(KEY)
    }
    const error = new Error('plain')
    Object.defineProperty(error, 'trap', { get: bomb, enumerable: true })
    const proxy = new Proxy(
      {},
      { get: bomb, ownKeys: bomb, getOwnPropertyDescriptor: bomb, getPrototypeOf: bomb, has: bomb },
    )
    Object.assign(error, { proxy, ok: 'shown' })
    expect(show(error)).toContain('ok: shown')
    const own = called
    show(Object.defineProperty(new Error('x'), 'trap', { get: bomb, enumerable: true }))
    expect(called).toBe(own)
    for (const hostile of [
      proxy,
      new Proxy(new Error('p'), { get: bomb, ownKeys: bomb, getPrototypeOf: bomb }),
    ]) {
      expect(show(hostile)).not.toContain(KEY)
    }
    const revoked = Proxy.revocable({}, {})
    revoked.revoke()
    expect(show(revoked.proxy)).toBeTypeOf('string')
    expect(show(Object.assign(new Error('r'), { inner: revoked.proxy, cause: revoked.proxy }))).toContain(
      'Error: r',
    )
    const named = Object.defineProperties(new Error('m'), {
      message: { get: bomb },
      name: { value: 7 },
      stack: { get: bomb },
    })
    expect(show(named)).toBe('Error')
  })

  it('is bounded in size and depth', () => {
    let deep: Error = new Error('bottom')
    for (let i = 0; i < 50; i++) deep = new Error(`level ${i}`, { cause: deep })
    expect(show(deep)).toContain('cause: [deeper]')
    const wide = Object.assign(new Error('x'.repeat(1e6)), {
      list: Array.from({ length: 1e4 }, (_, i) => `item ${i}`),
    })
    for (let i = 0; i < 100; i++) Object.assign(wide, { [`p${i}`]: 'y'.repeat(1e5) })
    expect(show(wide).length).toBeLessThanOrEqual(8192)
  })

  it('leaves no half of a secret where it is cut', () => {
    for (let before = 8100; before < 8200; before++) {
      const text = show(
        Object.assign(new Error('x'.repeat(4000)), { a: `${'y'.repeat(before - 4000)}${KEY.repeat(20)}` }),
      )
      expect(text).not.toContain(KEY.slice(0, 5))
    }
    expect(show(new Error(`${'[redacted]'.repeat(2)}${KEY.repeat(4000)}`))).not.toContain(KEY.slice(0, 5))
  })
})
