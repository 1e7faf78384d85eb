// A caller who reads slowly slows his provider, and costs the gateway no memory; one who reads on gets every byte.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import {
  answer,
  type Behaviour,
  createScriptedProvider,
  type ScriptedProvider,
  toFrame,
} from '../support/scripted-provider.ts'

const MIB = 1024 * 1024
const FRAMES = 1024
const FRAME = toFrame({
  choices: [{ index: 0, delta: { content: 'é'.repeat(32 * 1024) }, finish_reason: null }],
})
const STOP = toFrame({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })
const DONE = toFrame('[DONE]')
/** What the kernel holds between two processes, twice over, and what both ends of a stream hold. */
const MOST_ON_THE_WAY = 24 * MIB

let provider: ScriptedProvider
let gateway: TestGateway

beforeAll(async () => {
  provider = await createScriptedProvider()
  gateway = await startGateway({ config: simpleConfig({ provider: provider.url }) })
})
afterAll(async () => {
  await gateway?.stop()
  await provider?.close()
})
beforeEach(() => {
  provider.reset()
})

/** A long stream, written as fast as it is taken. */
const flood: Behaviour = {
  async run(call) {
    call.head(200, { 'content-type': 'text/event-stream' })
    for (let i = 0; i < FRAMES; i += 1) if (!(await call.write(FRAME))) return
    await call.write(STOP)
    call.end(DONE)
  },
}

/** A caller who does not read before he is told to. */
function openUnread({ times = 1 }: { times?: number } = {}): Promise<Socket> {
  const body = JSON.stringify({ model: 'm', stream: true, messages: [] })
  return new Promise((resolve, reject) => {
    const socket = connect({ port: gateway.port, host: '127.0.0.1' })
    socket.pause()
    socket.once('error', reject)
    socket.once('connect', () => {
      const request = (connection: string): string =>
        `POST /v1/chat/completions HTTP/1.1\r\nhost: sluice\r\nauthorization: Bearer ${gateway.bearer}\r\ncontent-type: application/json\r\nconnection: ${connection}\r\ncontent-length: ${body.length}\r\n\r\n${body}`
      socket.write(request('keep-alive').repeat(times - 1) + request('close'))
      resolve(socket)
    })
  })
}

/** Waits until a number does not change any more. */
async function still(read: () => number): Promise<number> {
  let last = -1
  let unchanged = 0
  await eventually(
    () => {
      unchanged = read() === last && last > 0 ? unchanged + 1 : 0
      last = read()
      return unchanged >= 30
    },
    'it stands still',
    15_000,
  )
  return last
}

/** Resident memory of the gateway. */
function residentBytes(): number {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${gateway.pid}/status`, 'utf8'))?.[1]
  return Number(kib) * 1024
}

const sent = (): number => provider.requests.reduce((sum, { bytesSent }) => sum + bytesSent, 0)

describe('a caller who does not read', () => {
  it('pauses his provider, and gets every byte when he reads on', async () => {
    provider.script(flood)
    const socket = await openUnread()
    await provider.waitForRequests(1)
    const stalledAt = await still(sent)
    expect(stalledAt).toBeLessThan(MOST_ON_THE_WAY)
    expect(provider.active).toBe(1)

    const hash = createHash('sha256')
    const body = createDechunker((bytes) => hash.update(bytes))
    await new Promise<void>((resolve, reject) => {
      socket.on('data', (bytes: Buffer) => body.push(bytes))
      socket.once('end', resolve)
      socket.once('error', reject)
      socket.resume()
    })
    const expected = createHash('sha256')
    for (let i = 0; i < FRAMES; i += 1) expected.update(FRAME)
    expect(hash.digest('hex')).toBe(expected.update(STOP).update(DONE).digest('hex'))
    expect(body.done).toBe(true)
  })

  it('costs no memory beyond what is on the way, with many of them', async () => {
    provider.script(flood)
    const before = residentBytes()
    const sockets = await Promise.all(Array.from({ length: 20 }, () => openUnread()))
    await provider.waitForRequests(20)
    const stalledAt = await still(sent)
    expect(stalledAt).toBeLessThan(20 * MOST_ON_THE_WAY)
    // 20 × 64 MiB want to come; what stays outside of the kernel is a few frames for each.
    expect(residentBytes() - before).toBeLessThan(120 * MIB)
    for (const socket of sockets) socket.destroy()
    await eventually(() => provider.active === 0, 'every upstream is cancelled', 2000)
  })

  it('does not hold up the others', async () => {
    provider.script((request) => (request.index === 0 ? flood : answer()))
    const socket = await openUnread()
    await provider.waitForRequests(1)
    await still(sent)
    const caller = createCaller(gateway.baseUrl, gateway.bearer)
    for (let i = 0; i < 10; i += 1) {
      const { content } = await caller.chat({ body: { stream: true } })
      expect(content).toBe('Hello from the scripted provider.')
    }
    socket.destroy()
    await provider.waitForAbort(0)
  })

  it('gets all of two streams on one connection, of which the second comes while the first is full', async () => {
    // Node tells a full response that it has drained from inside a write of another one on its connection, so from
    // inside the call in which the second provider's bytes come.
    const size = 100
    const piece = toFrame({ choices: [{ index: 0, delta: { content: 'x'.repeat(64 * 1024) } }] })
    provider.script({
      async run(call) {
        call.head(200, { 'content-type': 'text/event-stream' })
        for (let i = 0; i < size; i += 1) if (!(await call.write(piece))) return
        call.end(Buffer.concat([STOP, DONE]))
      },
    })
    const socket = await openUnread({ times: 2 })
    await provider.waitForRequests(2)
    await still(sent)
    let text = ''
    await new Promise<void>((resolve, reject) => {
      socket.on('data', (bytes: Buffer) => {
        text += bytes.toString('latin1')
      })
      socket.once('end', resolve)
      socket.once('error', reject)
      socket.resume()
    })
    expect(text.split('HTTP/1.1 200 OK').length - 1).toBe(2)
    expect(text.split('data: [DONE]').length - 1).toBe(2)
    expect(text).not.toContain('"error"')
    expect(text.split('x'.repeat(64 * 1024)).length - 1).toBe(2 * size)
    expect(gateway.stdout()).not.toContain('"code":"internal"')
  })

  it('gets a large whole reply when he reads at last', async () => {
    const text = 'x'.repeat(20 * MIB)
    provider.script(answer({ pieces: [text] }))
    const caller = createCaller(gateway.baseUrl, gateway.bearer)
    const response = await caller.open()
    await eventually(() => provider.active === 0, 'the gateway has the reply')
    expect(response.status).toBe(200)
    const { length } = await response.text()
    expect(length).toBeGreaterThan(text.length)
  })
})

/** Takes the chunks of a response apart as they come; the head is thrown away. */
function createDechunker(take: (bytes: Buffer) => void) {
  let rest: Buffer = Buffer.alloc(0)
  let headed = false
  let left = 0
  let done = false
  return {
    get done() {
      return done
    },
    push(bytes: Buffer): void {
      rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes])
      if (!headed) {
        const end = rest.indexOf('\r\n\r\n')
        if (end < 0) return
        rest = rest.subarray(end + 4)
        headed = true
      }
      for (;;) {
        if (left > 2) {
          const piece = rest.subarray(0, left - 2)
          if (piece.length === 0) return
          take(piece)
          left -= piece.length
          rest = rest.subarray(piece.length)
        } else if (left > 0) {
          // The line end of the chunk.
          const skip = Math.min(left, rest.length)
          left -= skip
          rest = rest.subarray(skip)
          if (left > 0) return
        }
        if (left > 0) continue
        const end = rest.indexOf('\r\n')
        if (end < 0) return
        const size = Number.parseInt(rest.toString('latin1', 0, end), 16)
        rest = rest.subarray(end + 2)
        if (size === 0) {
          done = true
          return
        }
        left = size + 2
      }
    },
  }
}
