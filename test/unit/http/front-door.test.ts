// The front door on a real socket, with a clock that the test moves and a gateway that is one function.

import { once } from 'node:events'
import type { Server } from 'node:http'
import { BlockList, connect, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { createBag } from '../../../src/bytes/bag.ts'
import { GatewayError } from '../../../src/errors.ts'
import type { Sweep, Watched } from '../../../src/http/body.ts'
import { createFrontDoor } from '../../../src/http/listen.ts'
import type { Arrival, EndSignal, Reply } from '../../../src/types.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { parseResponses, rawRequest } from '../../support/raw-http.ts'
import { CHAT_BODY, chunk, expectRefusal, requestBytes } from './raw-shapes.ts'

const BOUNDS = { maxBytes: 1024 * 1024, budgetBytes: 4 * 1024 * 1024 }

interface Door {
  readonly port: number
  readonly budget: { heldBytes: number }
  readonly counts: { streams: number }
  readonly faults: string[]
  /** Moves the clock second by second, with the sweep of each. */
  pass(seconds: number): void
}

const servers: Server[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})

async function open(handle: (arrival: Arrival, reply: Reply) => Promise<void>): Promise<Door> {
  const time = createManualClock()
  const watched = createBag<Watched>()
  const sweep: Sweep = { add: watched.add, remove: watched.remove }
  const budget = { heldBytes: 0 }
  const counts = { streams: 0 }
  const faults: string[] = []
  const trusted = new BlockList()
  let ids = 0
  const server = createFrontDoor({
    clock: time.clock,
    sweep,
    budget,
    counts,
    phase: { now: 'ready' },
    scrub: (text) => text,
    nextId: () => `req_${String((ids += 1)).padStart(8, '0')}`,
    active: createBag(),
    maxConnections: 100,
    trusted: () => trusted,
    // What gateway.ts does around its path.
    handle: (arrival, reply) =>
      handle(arrival, reply)
        .catch((error: unknown) => reply.fail(error))
        .finally(() => arrival.body.release()),
    other: (_req, res) => void res.end('other'),
    onFault: ({ code }) => void faults.push(code),
  })
  servers.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    budget,
    counts,
    faults,
    pass(seconds) {
      for (let left = seconds; left > 0; left -= 1) {
        time.advance(1000)
        for (const one of watched.list()) one.check(time.clock.now())
      }
    },
  }
}

async function dial(port: number, ...parts: readonly (string | Buffer)[]): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  for (const part of parts) socket.write(part)
  return socket
}

/** A promise and the hand that keeps it. */
function promise<T>(): { kept: Promise<T>; keep: (value: T) => void } {
  let keep: (value: T) => void = () => undefined
  const kept = new Promise<T>((resolve) => {
    keep = resolve
  })
  return { kept, keep }
}

const PIECE = Buffer.alloc(256 * 1024, 'x')

describe('dead readers', () => {
  it('a caller who takes nothing of a stream for 30 s is cut, and its signal aborts', async () => {
    const full = promise<EndSignal>()
    const door = await open(async (arrival, reply) => {
      reply.begin(200, 'text/event-stream')
      // More than any kernel holds for one connection.
      expect(reply.write(Buffer.alloc(64 * 1024 * 1024, 'x'))).toBe(false)
      full.keep(arrival.signal)
    })
    const socket = await dial(door.port, requestBytes())
    socket.pause()
    const signal = await full.kept
    door.pass(30)
    expect(signal.aborted).toBe(false)
    expect(door.counts.streams).toBe(1)
    door.pass(3)
    await gone(signal)
    expect(door.counts.streams).toBe(0)
    socket.destroy()
  })

  it('a caller who takes a little now and then is not', async () => {
    const full = promise<EndSignal>()
    let drained = promise<void>()
    const door = await open(async (arrival, reply) => {
      const more = (): void => {
        while (reply.write(PIECE));
        drained.keep()
        drained = promise()
      }
      reply.onDrain = more
      reply.begin(200, 'text/event-stream')
      more()
      full.keep(arrival.signal)
    })
    const socket = await dial(door.port, requestBytes())
    socket.pause()
    const signal = await full.kept
    for (let round = 0; round < 4; round += 1) {
      door.pass(25)
      const next = drained.kept
      socket.resume()
      await next
      socket.pause()
    }
    expect(signal.aborted).toBe(false)
    socket.destroy()
    await gone(signal)
  })

  it('a caller who sends requests and reads no answer is cut, though every answer is complete for us', async () => {
    const served = promise<void>()
    let answers = 0
    const door = await open(async (arrival, reply) => {
      await arrival.body.read(BOUNDS)
      reply.send(200, 'application/json', PIECE)
      answers += 1
      if (answers === 40) served.keep()
    })
    const socket = await dial(door.port, ...Array.from({ length: 40 }, () => requestBytes()))
    socket.pause()
    const closed = once(socket, 'close')
    await served.kept
    door.pass(33)
    // The end is seen only by one who reads.
    socket.resume()
    let bytes = 0
    socket.on('data', (piece) => {
      bytes += piece.length
    })
    await closed
    expect(bytes).toBeLessThan(40 * PIECE.length)
  })

  it('a caller who waits for an answer is left alone', async () => {
    const arrived = promise<EndSignal>()
    const door = await open(async (arrival) => {
      arrived.keep(arrival.signal)
      await new Promise((resolve) => arrival.signal.addEventListener('abort', () => resolve(undefined)))
    })
    const socket = await dial(door.port, requestBytes())
    const signal = await arrived.kept
    door.pass(200)
    expect(signal.aborted).toBe(false)
    socket.destroy()
    await gone(signal)
  })
})

describe('pipelining', () => {
  it('nothing is written into a stream when a later request on its connection is broken', async () => {
    const begun = promise<void>()
    let count = 0
    const door = await open(async (arrival, reply) => {
      await arrival.body.read(BOUNDS)
      count += 1
      if (count > 1) return new Promise(() => undefined)
      reply.begin(200, 'text/event-stream')
      reply.write(Buffer.from('data: 1\n\n'))
      begun.keep()
    })
    const socket = await dial(door.port, requestBytes(), requestBytes())
    const chunks: Buffer[] = []
    socket.on('data', (bytes) => chunks.push(bytes))
    await begun.kept
    await once(socket, 'data')
    socket.write('BROKEN\r\n\r\n')
    await once(socket, 'close')
    expect(
      Buffer.concat(chunks)
        .toString()
        .match(/HTTP\/1\.1 \d+/g),
    ).toEqual(['HTTP/1.1 200'])
  })

  it('a request that waits behind another is cancelled with its connection', async () => {
    const signals: EndSignal[] = []
    const both = promise<void>()
    const door = await open(async (arrival, reply) => {
      await arrival.body.read(BOUNDS)
      signals.push(arrival.signal)
      reply.begin(200, 'text/event-stream')
      if (signals.length === 2) both.keep()
    })
    const socket = await dial(door.port, requestBytes(), requestBytes())
    await both.kept
    expect(door.counts.streams).toBe(2)
    const aborted = signals.map((signal) => gone(signal))
    socket.destroy()
    await Promise.all(aborted)
    expect(door.counts.streams).toBe(0)
  })

  it('so is every one when CONNECT comes behind it', async () => {
    const signals: EndSignal[] = []
    const all = promise<void>()
    const door = await open(async (arrival) => {
      await arrival.body.read(BOUNDS)
      signals.push(arrival.signal)
      if (signals.length === 3) all.keep()
      await new Promise(() => undefined)
    })
    const socket = await dial(door.port, requestBytes(), requestBytes(), requestBytes())
    await all.kept
    const aborted = signals.map((signal) => gone(signal))
    socket.write('CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n')
    await Promise.all(aborted)
    await once(socket, 'close')
  })

  it('answers leave in the order of their requests', async () => {
    const second = promise<void>()
    const door = await open(async (arrival, reply) => {
      const text = (await arrival.body.read(BOUNDS)).toString()
      if (text === '"1"') await second.kept
      reply.send(200, 'application/json', Buffer.from(text))
      if (text === '"2"') second.keep()
    })
    const bytes = Buffer.concat(['"1"', '"2"', '"3"'].map((body) => requestBytes({ body })))
    const result = await rawRequest(door.port, bytes, { responses: 3 })
    expect(result.responses.map((one) => one.body.toString())).toEqual(['"1"', '"2"', '"3"'])
  })

  it('100 Continue never stands in the middle of an answer', async () => {
    const first = promise<void>()
    const door = await open(async (arrival, reply) => {
      await arrival.body.read(BOUNDS)
      if (arrival.timeoutMs === 1) await first.kept
      else first.keep()
      reply.send(200, 'application/json', Buffer.from('{}'))
    })
    const bytes = Buffer.concat([
      requestBytes({ lines: ['x-sluice-timeout-ms: 1'] }),
      requestBytes({ lines: ['Expect: 100-continue'] }),
    ])
    const result = await rawRequest(door.port, bytes, { responses: 2 })
    expect(result.responses.map((one) => one.body.toString())).toEqual(['{}', '{}'])
    expect(result.surplus).toHaveLength(0)
  })
})

describe('an answer before the end of its body', () => {
  const deny = async (): Promise<never> => {
    throw new GatewayError('invalid_api_key', 'no')
  }
  const start = requestBytes({ body: '{', framing: ['Content-Length: 1000'] })
  const rest = Buffer.alloc(999, ' ')

  it('is the only one when the parser gives up on the rest', async () => {
    const door = await open(deny)
    const chunked = requestBytes({ target: '/files', body: '', framing: ['Transfer-Encoding: chunked'] })
    const result = await rawRequest(door.port, [chunked, { delayMs: 50 }, 'BROKEN\r\n'], { lingerMs: 1500 })
    expect([result.raw.toString().match(/HTTP\/1\.1 \d+/g), result.closed]).toEqual([['HTTP/1.1 200'], true])
    expect(door.faults).toEqual([])
  })

  it('is the only one when Node finds that the request takes too long', async () => {
    const door = await open(deny)
    const result = rawRequest(door.port, start, { lingerMs: 700 })
    // What Node's own limit of 300 s does to a connection.
    const late = Object.assign(new Error('late'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
    const sockets: Socket[] = []
    servers[0]?.on('request', ({ socket }) => sockets.push(socket))
    await expect.poll(() => sockets.length).toBe(1)
    await new Promise(setImmediate)
    servers[0]?.emit('clientError', late, sockets[0])
    expect((await result).responses.map((one) => one.status)).toEqual([401])
    expect((await result).how).not.toBe('open')
  })

  it('lets the next request be answered behind it when the rest comes', async () => {
    let calls = 0
    const door = await open(async (arrival, reply) => {
      calls += 1
      if (calls === 1) return deny()
      reply.send(200, 'application/json', await arrival.body.read(BOUNDS))
    })
    const result = await rawRequest(door.port, [start, { delayMs: 50 }, rest, requestBytes()], {
      responses: 2,
      lingerMs: 1200,
    })
    expect(result.responses.map((one) => one.status)).toEqual([401, 200])
    expect([result.surplus.length, result.closed]).toEqual([0, false])
  })

  it('that says the connection ends is followed by nothing: what stands behind the body is never begun', async () => {
    let calls = 0
    const started = promise<void>()
    const door = await open(async (arrival, reply) => {
      calls += 1
      const body = arrival.body.read(BOUNDS)
      started.keep()
      reply.send(200, 'application/json', await body)
    })
    const socket = await dial(door.port, start)
    const chunks: Buffer[] = []
    socket.on('data', (bytes) => chunks.push(bytes))
    await started.kept
    door.pass(7)
    await once(socket, 'data')
    const closed = once(socket, 'close')
    socket.write(Buffer.concat([rest, requestBytes(), requestBytes()]))
    await closed
    const { responses, rest: surplus } = parseResponses(Buffer.concat(chunks))
    expect([responses.map((one) => one.status), surplus.length, calls]).toEqual([[408], 0, 1])
    expect(responses[0]?.header('connection')).toBe('close')
  })
})

describe('Expect', () => {
  const expecting = (lines: readonly string[] = []): Buffer =>
    requestBytes({
      body: '',
      framing: [`Content-Length: ${CHAT_BODY.length}`],
      lines: ['Expect: 100-continue', ...lines],
    })

  it('a body that is wanted is asked for', async () => {
    const door = await open(async (arrival, reply) => {
      reply.send(200, 'application/json', await arrival.body.read(BOUNDS))
    })
    const socket = await dial(door.port, expecting())
    const [interim] = (await once(socket, 'data')) as [Buffer]
    expect(interim.toString()).toBe('HTTP/1.1 100 Continue\r\n\r\n')
    socket.write(CHAT_BODY)
    const [answer] = (await once(socket, 'data')) as [Buffer]
    expect(parseResponses(answer).responses[0]?.body.toString()).toBe(CHAT_BODY)
    socket.destroy()
  })

  it('a body that is not wanted is not asked for, and the connection ends: what would come could be a body or not', async () => {
    const door = await open(async () => {
      throw new GatewayError('invalid_api_key', 'no')
    })
    const result = await rawRequest(door.port, [expecting(), { delayMs: 20 }, requestBytes()], {
      lingerMs: 1500,
    })
    expect(result.interim).toEqual([])
    expect(result.responses.map((one) => one.status)).toEqual([401])
    expect(result.header('connection')).toBe('close')
    expect(result.closed).toBe(true)
  })
})

describe('bodies', () => {
  const echo = async (arrival: Arrival, reply: Reply): Promise<void> => {
    reply.send(200, 'application/json', await arrival.body.read(BOUNDS))
  }

  it('come out as they went in, in chunks of any sizes', async () => {
    const door = await open(echo)
    for (const sizes of [[1], [4096], [1, 4096], [4095, 1, 5000, 3], [70_000, 1, 1]]) {
      const pieces = Array.from({ length: 60 }, (_, i) =>
        String.fromCharCode(97 + (i % 26)).repeat(sizes[i % sizes.length] ?? 1),
      )
      const body = pieces.map((piece) => chunk(piece)).join('') + chunk()
      const result = await rawRequest(
        door.port,
        requestBytes({ body, framing: ['Transfer-Encoding: chunked'] }),
        { lingerMs: 0 },
      )
      if (pieces.join('').length > BOUNDS.maxBytes) expect(result.status).toBe(413)
      else expect(result.body.toString()).toBe(pieces.join(''))
      expect(door.budget.heldBytes).toBe(0)
    }
  })

  it('that come too slowly end with 408 after a grace, and give their bytes back', async () => {
    const started = promise<void>()
    const door = await open(async (arrival, reply) => {
      const body = arrival.body.read(BOUNDS)
      started.keep()
      reply.send(200, 'application/json', await body)
    })
    const socket = await dial(door.port, requestBytes({ framing: ['Content-Length: 100000'] }))
    await started.kept
    await expect.poll(() => door.budget.heldBytes, { timeout: 5_000 }).toBe(57)
    door.pass(5)
    expect(door.budget.heldBytes).toBe(57)
    door.pass(2)
    expect(door.budget.heldBytes).toBe(0)
    const [answer] = (await once(socket, 'data')) as [Buffer]
    expectRefusal(parseResponses(answer).responses[0], 408, 'request_timeout')
    socket.destroy()
  })

  it('of a request that is ended from our side are read no further, and the caller is told why', async () => {
    const started = promise<Arrival>()
    const door = await open(async (arrival, reply) => {
      const body = arrival.body.read(BOUNDS)
      started.keep(arrival)
      reply.send(200, 'application/json', await body)
    })
    const socket = await dial(door.port, requestBytes({ framing: ['Content-Length: 100000'] }))
    const arrival = await started.kept
    const cause = new GatewayError('invalid_api_key', 'gone')
    arrival.end(cause)
    expect(arrival.signal.reason).toBe(cause)
    const [answer] = (await once(socket, 'data')) as [Buffer]
    expectRefusal(parseResponses(answer).responses[0], 401, 'invalid_api_key')
    expect(door.budget.heldBytes).toBe(0)
    arrival.end(new Error('again'))
    expect(arrival.signal.reason).toBe(cause)
    socket.destroy()
  })

  it('beyond the budget of all together are a 503, and nothing stays booked', async () => {
    const door = await open(async (arrival, reply) => {
      const body = arrival.body.read({ maxBytes: 1_000_000, budgetBytes: 150_000 })
      reply.send(200, 'application/json', await body)
    })
    const first = await dial(door.port, requestBytes({ framing: ['Content-Length: 200000'] }))
    first.write(Buffer.alloc(99_943, ' '))
    await expect.poll(() => door.budget.heldBytes, { timeout: 5_000 }).toBe(100_000)
    const second = await rawRequest(door.port, requestBytes({ body: 'x'.repeat(60_000) }))
    expect([second.status, second.header('retry-after')]).toEqual([503, '1'])
    await expect.poll(() => door.budget.heldBytes, { timeout: 5_000 }).toBe(100_000)
    first.resetAndDestroy()
    await expect.poll(() => door.budget.heldBytes, { timeout: 5_000 }).toBe(0)
  })

  it('that are only announced shut nobody out', async () => {
    const door = await open(async (arrival, reply) => {
      const body = arrival.body.read({ maxBytes: 1_000_000, budgetBytes: 150_000 })
      reply.send(200, 'application/json', await body)
    })
    const announced = await dial(door.port, requestBytes({ framing: ['Content-Length: 1000000'] }))
    await expect.poll(() => door.budget.heldBytes, { timeout: 5_000 }).toBe(57)
    expect((await rawRequest(door.port, requestBytes({ body: 'x'.repeat(60_000) }))).status).toBe(200)
    announced.resetAndDestroy()
  })

  it('that break off give their bytes back', async () => {
    const door = await open(echo)
    for (const leave of ['destroy', 'resetAndDestroy', 'end'] as const) {
      const socket = await dial(door.port, requestBytes({ framing: ['Content-Length: 100000'] }))
      await expect.poll(() => door.budget.heldBytes, { timeout: 5_000 }).toBe(57)
      socket[leave]()
      await expect.poll(() => door.budget.heldBytes, { timeout: 5_000 }).toBe(0)
    }
  })
})

function gone(signal: EndSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', resolve)
  })
}
