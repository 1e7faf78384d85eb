// Our connections to providers, against servers that say whatever they like: who hears what, on which connection, and what
// is left behind. Counted at the server.

import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { splice } from '../../src/bytes/splice.ts'
import { toReason } from '../../src/upstream/attempt.ts'
import { CONNECT_LIMIT_MS, createCommons } from '../../src/upstream/http1/connection.ts'
import { createPool, MAX_IDLE } from '../../src/upstream/http1/pool.ts'
import type { Control, Receiver, Way } from '../../src/upstream/kind.ts'
import { createTransport, type Transport } from '../../src/upstream/transport.ts'
import { createAuthority } from '../support/certificates.ts'
import {
  createRawProvider,
  ok,
  type Peer,
  type RawOptions,
  type RawProvider,
} from '../support/raw-provider.ts'
import { createRandom, fuzzSeed } from '../unit/bytes/random.ts'
import { makeDeployment, makeExchange } from '../unit/upstream/stage.ts'

const authority = createAuthority()
const trusted = authority.issue('localhost', '127.0.0.1')
const before = getCACertificates('default')
beforeAll(() => setDefaultCACertificates([...before, authority.ca]))
afterAll(() => setDefaultCACertificates(before))

const ends: (() => unknown)[] = []
afterEach(async () => {
  vi.useRealTimers()
  for (const end of ends.splice(0).reverse()) await end()
})

async function serve(each: (peer: Peer) => unknown, options?: RawOptions): Promise<RawProvider> {
  const provider = await createRawProvider(each, options)
  ends.push(provider.close)
  return provider
}

function makeTransport(): Transport {
  const transport = createTransport()
  ends.push(transport.close)
  return transport
}

/** Answers each request with its own path. */
const echo = async (peer: Peer): Promise<void> => {
  for (let asked = await peer.next(); asked !== undefined; asked = await peer.next())
    peer.say(ok(asked.head.split(' ')[1] ?? ''))
}

/** A receiver that writes down what it hears, and what it should not have. */
class Ear implements Receiver {
  readonly calls: string[] = []
  readonly over = Promise.withResolvers<string>()
  readonly headed = Promise.withResolvers<void>()
  readonly begun = Promise.withResolvers<void>()
  readonly chunks: Buffer[] = []
  on: Partial<Record<'started' | 'head' | 'data' | 'end' | 'failed', () => void>> = {}
  status = 0
  constructor() {
    this.over.promise.catch(() => undefined)
  }
  started(): void {
    this.calls.push('started')
    this.begun.resolve()
    this.on.started?.()
  }
  head(status: number): void {
    this.calls.push('head')
    this.status = status
    this.headed.resolve()
    this.on.head?.()
  }
  data(chunk: Buffer): void {
    if (this.calls.at(-1) !== 'data') this.calls.push('data')
    this.chunks.push(chunk)
    this.on.data?.()
  }
  end(): void {
    this.calls.push('end')
    this.over.resolve(this.text)
    this.on.end?.()
  }
  failed(error: Error): void {
    this.calls.push('failed')
    this.over.reject(error)
    this.on.failed?.()
  }
  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1')
  }
  /** Why it failed, as an attempt tells it. */
  async reason(): Promise<string> {
    return this.over.promise.then(
      () => 'answered',
      (error: Error) => toReason(error, this.status !== 0),
    )
  }
}

type CallOptions = Parameters<typeof makeExchange>[1] & { readonly ear?: Ear }

/** A deployment at this address, made once: its provider is what a place is kept by. */
function caller(transport: Transport, url: string) {
  const deployment = makeDeployment('p/m', {}, { baseUrl: url })
  return ({ ear = new Ear(), ...more }: CallOptions = {}): { ear: Ear; control: Control } => ({
    ear,
    control: transport.call(makeExchange(deployment, more), ear),
  })
}

/** In the phase of the loop behind which sockets are read before anything that was put together is written. */
const beforeReading = (run: () => void): Promise<void> =>
  new Promise((resolve) =>
    setImmediate(() => {
      run()
      resolve()
    }),
  )

const urlOf = ({ port }: RawProvider, scheme = 'http', host = '127.0.0.1'): string =>
  `${scheme}://${host}:${port}`
const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

const WAYS: readonly (readonly [name: string, scheme: string, options: RawOptions])[] = [
  ['TCP', 'http', {}],
  ['TLS', 'https', { tls: trusted }],
  ['TLS 1.2', 'https', { tls: { ...trusted, maxVersion: 'TLSv1.2' } }],
]

describe.each(WAYS)('a connection over %s', (_, scheme, options) => {
  it('serves one request after the other', async () => {
    const provider = await serve(echo, options)
    const call = caller(makeTransport(), urlOf(provider, scheme))
    for (const path of ['/1', '/2', '/3']) expect(await call({ path }).ear.over.promise).toBe(path)
    expect(provider.made).toBe(1)
  })

  it('holds back a large answer while it is paused, and gives all of it then', async () => {
    const bytes = randomBytes(16 * 1024 * 1024)
    const provider = await serve(async (peer) => {
      await peer.next()
      peer.say(`HTTP/1.1 200 OK\r\ncontent-length: ${bytes.length}\r\n\r\n`)
      peer.socket.write(bytes)
    }, options)
    const { ear, control } = caller(makeTransport(), urlOf(provider, scheme))()
    let pauses = 0
    let isHeld = false
    let late = 0
    ear.on.data = () => {
      if (isHeld) return
      isHeld = true
      pauses += 1
      const held = ear.chunks.length
      control.pause()
      // Some turns later, so that what comes in spite of it is seen.
      setTimeout(() => {
        late = Math.max(
          late,
          ear.chunks.slice(held).reduce((sum, { length }) => sum + length, 0),
        )
        isHeld = false
        control.resume()
      }, 1)
    }
    await ear.over.promise
    expect(digest(Buffer.concat(ear.chunks))).toBe(digest(bytes))
    expect(pauses).toBeGreaterThan(20)
    // No more than what had been read already.
    expect(late).toBeLessThanOrEqual(64 * 1024)
  })

  it('sends a large body once and whole, as slowly as it is taken', async () => {
    const body = randomBytes(8 * 1024 * 1024)
    const provider = await serve(async (peer) => {
      const slow = setInterval(() => {
        if (peer.socket.isPaused()) peer.socket.resume()
        else peer.socket.pause()
      }, 1)
      const asked = await peer.next()
      clearInterval(slow)
      peer.socket.resume()
      peer.say(ok(digest(asked?.body ?? Buffer.alloc(0))))
      const more = await peer.next()
      peer.say(ok(more?.body.toString() ?? ''))
    }, options)
    const call = caller(makeTransport(), urlOf(provider, scheme))
    const first = call({ ...toSpliced(body) })
    expect(await first.ear.over.promise).toBe(digest(body))
    expect(await call({ body: Buffer.from('second') }).ear.over.promise).toBe('second')
    expect(provider.made).toBe(1)
  })

  it('ends with an answer that came before its body had left', async () => {
    const provider = await serve(async (peer) => {
      if (provider.made > 1) return echo(peer)
      peer.socket.removeAllListeners('data')
      peer.socket.once('readable', () => peer.say(ok('too large')))
    }, options)
    const call = caller(makeTransport(), urlOf(provider, scheme))
    const { ear } = call({ ...toSpliced(Buffer.alloc(64 * 1024 * 1024, '{')) })
    expect(await ear.over.promise).toBe('too large')
    expect(await call({ path: '/next' }).ear.over.promise).toBe('/next')
    expect(provider.made).toBe(2)
    expect(ear.calls).toEqual(['started', 'head', 'data', 'end'])
  })

  it.each([
    // More than the kernel takes on its way.
    ['of which some has yet to be written', () => Buffer.alloc(64 * 1024 * 1024, '{')],
    [
      'of which some has yet to come',
      () => {
        let isBegun = false
        return new Readable({
          read() {
            if (!isBegun) this.push('{')
            isBegun = true
          },
        })
      },
    ],
  ])('ends with an answer that came before a body %s', async (_, make) => {
    const provider = await serve((peer) => {
      peer.socket.removeAllListeners('data')
      peer.socket.once('readable', () => peer.say(ok('enough')))
    }, options)
    const call = caller(makeTransport(), urlOf(provider, scheme))
    const body = make()
    const { ear } = call({ body, bodyBytes: 64 * 1024 * 1024 })
    expect(await ear.over.promise).toBe('enough')
    const [peer] = provider.peers
    peer?.socket.resume()
    await provider.left(0)
    if (!Buffer.isBuffer(body)) expect(body.destroyed).toBe(true)
  })

  it('serves the next one after a call that was paused to its end', async () => {
    const provider = await serve(echo, options)
    const call = caller(makeTransport(), urlOf(provider, scheme))
    for (const path of ['/1', '/2', '/3']) {
      const ear = new Ear()
      const { control } = call({ ear, path })
      ear.on.data = () => control.pause()
      expect(await ear.over.promise).toBe(path)
    }
    expect(provider.made).toBe(1)
  })

  it('is not hit by the end of a call that it has served before', async () => {
    const provider = await serve(echo, options)
    const call = caller(makeTransport(), urlOf(provider, scheme))
    const first = call({ path: '/1' })
    const second = new Ear()
    const at = Promise.withResolvers<void>()
    first.ear.on.end = () => {
      call({ path: '/2', ear: second })
      first.control.pause()
      first.control.abort()
      at.resolve()
    }
    second.on.started = () => first.control.abort()
    second.on.head = () => first.control.abort()
    await at.promise
    expect(await second.over.promise).toBe('/2')
    expect(provider.made).toBe(1)
  })

  it('ends, and tells nobody, when its call is given up, wherever that is', async () => {
    const provider = await serve(async (peer) => {
      const asked = await peer.next()
      if (asked === undefined) return
      peer.say('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n')
      peer.say('5\r\nhello\r\n')
      setImmediate(() => peer.say('5\r\nhello\r\n0\r\n\r\n'))
    }, options)
    const call = caller(makeTransport(), urlOf(provider, scheme))
    for (const [at, heard] of [
      ['started', ['started']],
      ['head', ['started', 'head']],
      ['data', ['started', 'head', 'data']],
    ] as const) {
      for (const body of [Buffer.from('{}'), toSource(Buffer.alloc(256 * 1024))]) {
        const ear = new Ear()
        const told = Promise.withResolvers<void>()
        const { control } = call({ ear, body, bodyBytes: Buffer.isBuffer(body) ? 2 : 256 * 1024 })
        ear.on[at] = () => {
          control.abort()
          control.abort()
          told.resolve()
        }
        await told.promise
        await provider.left(0)
        expect(ear.calls).toEqual(heard)
        expect(ear.chunks.length).toBeLessThan(2)
        if (Buffer.isBuffer(body)) continue
        expect(body.destroyed).toBe(true)
        if (at === 'started') expect(body.readableDidRead).toBe(false)
      }
    }
    // Before there is a connection.
    const body = toSource(Buffer.alloc(256 * 1024))
    const { ear, control } = call({ body, bodyBytes: 256 * 1024 })
    control.abort()
    await provider.left(0)
    expect(ear.calls).toEqual([])
    expect(body.destroyed).toBe(true)
  })
})

function toSource(body: Buffer): Readable {
  const { body: source } = splice(body, [])
  if (Buffer.isBuffer(source)) throw new Error('a body that is too small')
  return source
}

function toSpliced(body: Buffer): { body: Readable; bodyBytes: number } {
  return { body: toSource(body), bodyBytes: body.length }
}

const STOLEN = ok('somebody else’s')

describe('what nobody asked for', () => {
  it('ends a connection that serves nobody, and is nobody’s', async () => {
    let first: Peer | undefined
    const provider = await serve((peer) => {
      first ??= peer
      return echo(peer)
    })
    const call = caller(makeTransport(), urlOf(provider))
    const { ear } = call({ path: '/1' })
    await ear.over.promise
    first?.say(STOLEN)
    await first?.gone
    expect(await call({ path: '/2' }).ear.over.promise).toBe('/2')
    expect(ear.calls).toEqual(['started', 'head', 'data', 'end'])
    expect(provider.made).toBe(2)
  })

  it.each([
    ['an answer', (peer: Peer | undefined) => peer?.say(STOLEN)],
    ['half an answer', (peer: Peer | undefined) => peer?.say('HTTP/1.1 200')],
    ['its end', (peer: Peer | undefined) => peer?.socket.destroy()],
    ['a reset', (peer: Peer | undefined) => peer?.socket.resetAndDestroy()],
  ])('is not taken for the answer to a request that has not left: %s', async (_, act) => {
    let first: Peer | undefined
    const provider = await serve((peer) => {
      first ??= peer
      return echo(peer)
    })
    const call = caller(makeTransport(), urlOf(provider))
    await call({ path: '/1' }).ear.over.promise
    let made: ReturnType<typeof call> | undefined
    await beforeReading(() => {
      act(first)
      made = call({ path: '/2' })
    })
    // It goes out on another connection, as if that had never been there.
    expect(await made?.ear.over.promise).toBe('/2')
    expect(made?.ear.calls).toEqual(['started', 'head', 'data', 'end'])
    await first?.gone
    expect(provider.made).toBe(2)
  })

  it.each(['let go', 'given up'])(
    'is paused where it went on another connection, until it is %s',
    async (what) => {
      let first: Peer | undefined
      const answered = Promise.withResolvers<void>()
      const provider = await serve(async (peer) => {
        first ??= peer
        if (peer === first) return echo(peer)
        await peer.next()
        peer.socket.write(ok('/2'), () => answered.resolve())
      })
      const call = caller(makeTransport(), urlOf(provider))
      await call().ear.over.promise
      const ear = new Ear()
      let control: Control | undefined
      await beforeReading(() => {
        first?.say(STOLEN)
        control = call({ path: '/2', ear }).control
        control.pause()
      })
      await answered.promise
      for (let i = 0; i < 5; i += 1) await new Promise(setImmediate)
      expect(ear.calls).toEqual(['started'])
      if (what === 'given up') control?.abort()
      control?.resume()
      if (what === 'let go') expect(await ear.over.promise).toBe('/2')
      else await provider.left(0)
      expect(ear.calls).toEqual(what === 'let go' ? ['started', 'head', 'data', 'end'] : ['started'])
    },
  )

  it.each([
    ['another answer', STOLEN],
    ['an interim answer', 'HTTP/1.1 100 Continue\r\n\r\n'],
    ['an empty line', '\r\n'],
  ])('stands behind an answer, which is whole all the same: %s', async (_, surplus) => {
    const provider = await serve(async (peer) => {
      if (provider.made > 1) return echo(peer)
      await peer.next()
      peer.say(`${ok('mine')}${surplus}`)
    })
    const call = caller(makeTransport(), urlOf(provider))
    const { ear } = call()
    const next = new Ear()
    ear.on.end = () => void call({ path: '/next', ear: next })
    expect(await ear.over.promise).toBe('mine')
    expect(await next.over.promise).toBe('/next')
    expect(provider.made).toBe(2)
    await provider.left(1)
  })
})

describe('a body that is not as long as it is said to be', () => {
  it.each([
    ['shorter', 200_000],
    ['longer', 50_000],
  ])('ends its connection: %s', async (_, bodyBytes) => {
    let asked = 0
    const provider = await serve(async (peer) => {
      // Answers each at once, as one does that has no need of a body.
      while ((await peer.next()) !== undefined) {
        asked += 1
        peer.say(ok('x'))
      }
    })
    const call = caller(makeTransport(), urlOf(provider))
    const body = toSource(Buffer.alloc(100_000, 'POST /smuggled HTTP/1.1\r\n\r\n'))
    const { ear } = call({ body, bodyBytes })
    expect(await ear.reason()).toBe('reset')
    await provider.left(0)
    expect(asked).toBe(0)
    expect(body.destroyed).toBe(true)
  })

  it('fails with its source', async () => {
    const provider = await serve(echo)
    const body = new Readable({ read: () => undefined })
    const { ear } = caller(makeTransport(), urlOf(provider))({ body, bodyBytes: 10 })
    await ear.begun.promise
    body.destroy(new Error('the source is gone'))
    await expect(ear.over.promise).rejects.toThrow('the source is gone')
    await provider.left(0)
  })
})

describe('a receiver that throws', () => {
  it.each(['started', 'head', 'data'] as const)('fails its own call, in %s', async (at) => {
    const provider = await serve(echo)
    const ear = new Ear()
    ear.on[at] = () => {
      throw new Error('a defect')
    }
    caller(makeTransport(), urlOf(provider))({ ear })
    await expect(ear.over.promise).rejects.toThrow('a defect')
    expect(ear.calls.filter((one) => one === 'failed')).toHaveLength(1)
    await provider.left(0)
  })

  it('hits nobody else in its end', async () => {
    const provider = await serve(echo)
    const call = caller(makeTransport(), urlOf(provider))
    const next = new Ear()
    const { ear } = call({ path: '/1' })
    ear.on.end = () => {
      call({ path: '/2', ear: next })
      throw new Error('a defect')
    }
    const listeners = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    const thrown = new Promise((resolve) => process.once('uncaughtException', resolve))
    try {
      expect(await thrown).toEqual(new Error('a defect'))
    } finally {
      for (const listener of listeners) process.on('uncaughtException', listener)
    }
    expect(await next.over.promise).toBe('/2')
    expect(ear.calls).toEqual(['started', 'head', 'data', 'end'])
    expect(provider.made).toBe(1)
  })
})

describe('why a call failed', () => {
  const HEAD = 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n'
  const CHUNKS = 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n'
  it.each<[string, string, 'end' | 'reset', string]>([
    ['before its answer', '', 'end', 'reset'],
    ['before its answer, by a reset', '', 'reset', 'reset'],
    ['in the status line', 'HTTP/1.1', 'end', 'reset'],
    ['in the head', 'HTTP/1.1 200 OK\r\nx: y\r\n', 'end', 'reset'],
    ['behind an interim answer', 'HTTP/1.1 103 X\r\n\r\n', 'end', 'reset'],
    ['behind the head', HEAD, 'end', 'reset'],
    ['in the body', `${HEAD}hello`, 'end', 'reset'],
    ['in the body, by a reset', `${HEAD}hello`, 'reset', 'reset'],
    ['between chunks', CHUNKS, 'end', 'reset'],
    ['in the last chunk', `${CHUNKS}0\r\n`, 'end', 'reset'],
    ['in trailers', `${CHUNKS}0\r\nx: y\r\n`, 'end', 'reset'],
    ['in a body without a length, by a reset', 'HTTP/1.1 200 OK\r\n\r\nhello', 'reset', 'reset'],
    ['at the end of a body without a length', 'HTTP/1.1 200 OK\r\n\r\nhello', 'end', 'answered'],
    ['behind a whole answer', ok('hello'), 'end', 'answered'],
    ['behind what is no HTTP', 'SSH-2.0-x\r\n\r\n', 'end', 'malformed'],
    ['behind a broken chunk', `${CHUNKS}x`, 'end', 'malformed'],
  ])('is told when the connection ends %s', async (_, text, way, reason) => {
    const provider = await serve(async (peer) => {
      await peer.next()
      if (text !== '') peer.say(text)
      if (way === 'end') return peer.socket.end()
      if (text !== '') await heard.promise
      peer.socket.resetAndDestroy()
    })
    const heard = Promise.withResolvers<void>()
    const ear = new Ear()
    ear.on.data = heard.resolve
    caller(makeTransport(), urlOf(provider))({ ear })
    expect(await ear.reason()).toBe(reason)
    expect(ear.calls.filter((one) => one === 'end' || one === 'failed')).toHaveLength(1)
    await provider.left(0)
  })

  it('is told when nobody listens there', async () => {
    const provider = await serve(echo)
    const url = urlOf(provider)
    await provider.close()
    ends.pop()
    const { ear } = caller(makeTransport(), url)()
    expect(await ear.reason()).toBe('refused')
    expect(ear.calls).toEqual(['failed'])
  })

  it('is told when its host is unknown', async () => {
    const { ear } = caller(makeTransport(), 'http://nowhere.invalid')()
    expect(await ear.reason()).toBe('dns')
  })

  it('is told when a connection takes too long', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    // Takes the connection, and never comes to the handshake.
    const accepted = Promise.withResolvers<void>()
    const provider = await serve(() => accepted.resolve())
    const { ear } = caller(makeTransport(), urlOf(provider, 'https'))()
    await accepted.promise
    vi.advanceTimersByTime(CONNECT_LIMIT_MS - 1)
    expect(ear.calls).toEqual([])
    vi.advanceTimersByTime(1)
    expect(await ear.reason()).toBe('connect')
    await provider.left(0)
  })

  it.each([
    ['a request line', { path: '/x y' }],
    ['another request line', { path: '/x HTTP/1.1\r\nhost: a\r\n\r\nGET /y' }],
    ['a value', { headers: ['x-a', 'b\r\nx-c: d'] }],
    ['a value with LF', { headers: ['x-a', 'b\nx-c: d'] }],
    ['a value with NUL', { headers: ['x-a', 'b\0'] }],
    ['a value that is no latin1', { headers: ['x-a', '\u010a'] }],
    ['a name', { headers: ['x-a: b\r\nx-c', 'd'] }],
    ['an empty name', { headers: ['', 'd'] }],
    ['a host', { headers: ['host', 'a\r\nx-c: d'] }],
  ])('is told where something would end a header or a request: %s', async (_, options) => {
    const provider = await serve(echo)
    const call = caller(makeTransport(), urlOf(provider))
    const { ear } = call(options)
    await expect(ear.over.promise).rejects.toThrow('a header that cannot be sent')
    const given = call(options)
    given.control.abort()
    await new Promise(setImmediate)
    expect(given.ear.calls).toEqual([])
    expect(provider.made).toBe(0)
  })
})

describe('TLS', () => {
  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'is refused where the certificate is for another, %s',
    async (version) => {
      const tls = { ...authority.issue('other.example'), minVersion: version, maxVersion: version }
      const provider = await serve(echo, { tls })
      const call = caller(makeTransport(), urlOf(provider, 'https', 'localhost'))
      // The second time as well, when there might be a session to go on with.
      for (let i = 0; i < 3; i += 1) expect(await call().ear.reason()).toBe('tls')
    },
  )

  it('is refused where nobody vouches for the certificate, and where it is none', async () => {
    const stranger = await serve(echo, { tls: createAuthority('others').issue('localhost') })
    const plain = await serve((peer) => peer.say('HTTP/1.1 400 Bad Request\r\n\r\n'))
    const transport = makeTransport()
    for (const provider of [stranger, plain])
      expect(await caller(transport, urlOf(provider, 'https', 'localhost'))().ear.reason()).toBe('tls')
  })

  it.each(['TLSv1.2', 'TLSv1.3'] as const)('goes on with a session, %s', async (version) => {
    const resumed: boolean[] = []
    const tls = { ...trusted, minVersion: version, maxVersion: version }
    const provider = await serve(
      async (peer) => {
        if ('isSessionReused' in peer.socket && typeof peer.socket.isSessionReused === 'function')
          resumed.push(peer.socket.isSessionReused() === true)
        await peer.next()
        peer.say(ok('x', 'connection: close'))
      },
      { tls },
    )
    const call = caller(makeTransport(), urlOf(provider, 'https', 'localhost'))
    for (let i = 0; i < 3; i += 1) expect(await call().ear.over.promise).toBe('x')
    expect(resumed).toEqual([false, true, true])
  })

  it('is spoken to a name that has several addresses', async () => {
    for (const [host, options] of [
      ['127.0.0.1', { tls: trusted }],
      ['127.0.0.1', {}],
    ] as const) {
      const provider = await serve(echo, { ...options, host })
      const scheme = 'tls' in options ? 'https' : 'http'
      const call = caller(makeTransport(), urlOf(provider, scheme, 'localhost'))
      expect(await call({ path: '/a' }).ear.over.promise).toBe('/a')
      expect(await call({ path: '/b' }).ear.over.promise).toBe('/b')
      expect(provider.made).toBe(1)
    }
  })
})

it('IPv6 is called by its address', async () => {
  const provider = await serve(echo, { host: '::1' })
  const hosts: string[] = []
  const call = caller(makeTransport(), urlOf(provider, 'http', '[::1]'))
  expect(await call({ path: '/6' }).ear.over.promise).toBe('/6')
  const other = await serve(
    async (peer) => {
      hosts.push(/^host: (.*)$/m.exec((await peer.next())?.head ?? '')?.[1] ?? '')
      peer.say(ok('x'))
    },
    { host: '::1' },
  )
  await caller(makeTransport(), urlOf(other, 'http', '[::1]'))().ear.over.promise
  expect(hosts).toEqual([`[::1]:${other.port}`])
})

describe('a pool', () => {
  function makePool({ port }: RawProvider): Way {
    const pool = createPool(new URL(`http://127.0.0.1:${port}`), createCommons())
    ends.push(pool.close)
    return pool
  }
  const ask = (pool: Way, path = '/x'): Ear => {
    const ear = new Ear()
    pool.send({ method: 'GET', path, headers: [], body: undefined, bodyBytes: 0 }, ear)
    return ear
  }

  it.each([
    ['what its server says, less a second', ['keep-alive: timeout=4'], 3],
    ['thirty seconds where nothing is said', [], 30],
  ])('keeps a connection for %s', async (_, lines, seconds) => {
    const provider = await serve(async (peer) => {
      while ((await peer.next()) !== undefined) peer.say(ok('x', ...lines))
    })
    const pool = makePool(provider)
    await ask(pool).over.promise
    for (let i = 1; i < seconds; i += 1) pool.tick()
    await ask(pool).over.promise
    expect(provider.made).toBe(1)
    for (let i = 0; i < seconds; i += 1) pool.tick()
    await provider.left(0)
    await ask(pool).over.promise
    expect(provider.made).toBe(2)
  })

  it('keeps none that its server keeps for no second', async () => {
    const provider = await serve(async (peer) => {
      while ((await peer.next()) !== undefined) peer.say(ok('x', 'keep-alive: timeout=1'))
    })
    const pool = makePool(provider)
    await ask(pool).over.promise
    await provider.left(0)
  })

  it('keeps no more than it may', async () => {
    const most = MAX_IDLE + 6
    const waiting: Peer[] = []
    const all = Promise.withResolvers<void>()
    const provider = await serve(async (peer) => {
      await peer.next()
      waiting.push(peer)
      if (waiting.length === most) all.resolve()
    })
    const pool = makePool(provider)
    const ears = Array.from({ length: most }, () => ask(pool))
    await all.promise
    for (const peer of waiting) peer.say(ok('x'))
    await Promise.all(ears.map(({ over }) => over.promise))
    await provider.left(MAX_IDLE)
    expect(provider.peers.size).toBe(MAX_IDLE)
  })
})

describe('the end of the transport', () => {
  it('cuts what is under way, tells whoever waits, and leaves no connection', async () => {
    const provider = await serve(async (peer) => {
      const asked = await peer.next()
      if (asked?.head.includes('/idle') === true) peer.say(ok('x'))
      if (asked?.head.includes('/half') === true) peer.say('HTTP/1.1 200 OK\r\n\r\nhalf')
    })
    const transport = makeTransport()
    const call = caller(transport, urlOf(provider))
    const half = call({ path: '/half' })
    const mute = call({ path: '/mute' })
    await Promise.all([
      call({ path: '/idle' }).ear.over.promise,
      half.ear.headed.promise,
      mute.ear.begun.promise,
    ])
    const connecting = call()
    const retried = new Ear()
    mute.ear.on.failed = () => void call({ ear: retried })
    await transport.close()
    for (const { ear } of [half, mute, connecting]) expect(await ear.reason()).toBe('reset')
    await expect(retried.over.promise).rejects.toThrow('closed')
    await provider.left(0)
    const { made } = provider
    await expect(call().ear.over.promise).rejects.toThrow('closed')
    expect(provider.made).toBe(made)
  })
})

describe('many at once', () => {
  const AT_ONCE = 500
  const CALLS = 5_000
  const seed = fuzzSeed()
  it(`each hears its own answer or none, whatever goes wrong beside it (seed ${seed})`, {
    timeout: 120_000,
  }, async () => {
    const random = createRandom(seed)
    const provider = await serve(async (peer) => {
      for (let asked = await peer.next(); asked !== undefined; asked = await peer.next()) {
        const id = asked.head.split(' ')[1] ?? ''
        // Of two requests on one connection the second would be answered as the first.
        if (asked.body.toString() !== id && asked.body.length < 65_536) throw new Error('not its body')
        if (random.oneIn(10)) await new Promise(setImmediate)
        await misbehave(peer, id, random)
      }
    })
    const transport = makeTransport()
    const call = caller(transport, urlOf(provider))
    const counts = { answered: 0, failed: 0, aborted: 0 }
    const wrong: string[] = []
    let next = 0
    async function one(): Promise<void> {
      const id = `/${next++}`
      const ear = new Ear()
      const large = random.oneIn(40) ? Buffer.alloc(200_000, id) : undefined
      const { control } = call({
        ear,
        path: id,
        ...(large === undefined ? { body: Buffer.from(id) } : toSpliced(large)),
      })
      const given = Promise.withResolvers<string>()
      let isGiven = false
      const giveUp = (): void => {
        isGiven = true
        control.abort()
        ear.calls.push('aborted')
        given.resolve('aborted')
      }
      if (random.oneIn(10)) {
        const at = random.pick(['started', 'head', 'data', 'later'] as const)
        if (at === 'later') setImmediate(giveUp)
        else ear.on[at] = giveUp
      } else if (random.oneIn(5)) {
        ear.on.data = () => {
          control.pause()
          setImmediate(() => control.resume())
        }
      }
      const end = ear.over.promise.then(
        (text) => {
          if (text !== id) wrong.push(`${id} heard ${text}`)
          return 'answered' as const
        },
        () => 'failed' as const,
      )
      const how = await Promise.race([end, given.promise])
      if (how === 'answered' || how === 'failed') counts[how] += 1
      else counts.aborted += 1
      // What it hears afterwards.
      const { length } = ear.calls
      await new Promise(setImmediate)
      const after = ear.calls.slice(length).filter((what) => what !== 'aborted')
      if (after.length > 0) wrong.push(`${id} ${isGiven ? 'given up' : how}, then ${after}`)
      const told = ear.calls.filter((what) => what === 'end' || what === 'failed').length
      if (told > 1) wrong.push(`${id} ended ${told} times`)
    }
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (next < CALLS) await one()
      }),
    )
    expect(wrong).toEqual([])
    expect(counts.answered).toBeGreaterThan(CALLS / 2)
    expect(counts.failed).toBeGreaterThan(CALLS / 50)
    expect(counts.aborted).toBeGreaterThan(CALLS / 50)
    expect(provider.made).toBeLessThan(CALLS * 0.9)
    await transport.close()
    await provider.left(0)
  })
})

/** Answers with the id, mostly; in a form, and with a fault, that chance chooses. */
async function misbehave(
  peer: Peer,
  id: string,
  { below, oneIn, pick }: ReturnType<typeof createRandom>,
): Promise<void> {
  const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`
  const middle = below(id.length + 1)
  const chunked = `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${
    middle > 0 ? chunk(id.slice(0, middle)) : ''
  }${middle < id.length ? chunk(id.slice(middle)) : ''}0\r\n\r\n`
  const whole = pick([ok(id), ok(id, 'keep-alive: timeout=5'), chunked, `HTTP/1.1 103 X\r\n\r\n${ok(id)}`])
  if (!oneIn(4)) {
    // In two pieces, now and then.
    const at = oneIn(3) ? below(whole.length) : 0
    if (at > 0) {
      peer.say(whole.slice(0, at))
      await new Promise(setImmediate)
    }
    return peer.say(whole.slice(at))
  }
  switch (below(9)) {
    case 0:
      return void peer.socket.destroy()
    case 1:
      return void peer.socket.resetAndDestroy()
    case 2:
      return void peer.socket.end(whole.slice(0, below(whole.length)), 'latin1')
    case 3:
      return peer.say(`${whole}${STOLEN}`)
    case 4:
      return void peer.socket.end(`HTTP/1.1 200 OK\r\n\r\n${id}`, 'latin1')
    case 5:
      return peer.say(ok(id, 'connection: close'))
    case 6:
      return peer.say('not HTTP at all\r\n\r\n')
    case 7:
      // Says that it goes on, and ends.
      return void peer.socket.end(ok(id), 'latin1')
    default:
      return peer.say(`HTTP/1.0 200 OK\r\ncontent-length: ${id.length}\r\n\r\n${id}`)
  }
}
