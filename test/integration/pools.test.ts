// What the connections to providers and the bodies of callers must bear: as many calls as there are at once, connections
// that have gone stale, and bodies that are too many together. The provider and the callers' sockets are the witnesses.

import { readFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { createScriptedProvider, type ScriptedProvider, silent } from '../support/scripted-provider.ts'

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

async function start(config: Record<string, unknown>): Promise<TestGateway> {
  const gateway = await startGateway({ config })
  ends.push(() => gateway.stop())
  return gateway
}

async function startProvider(): Promise<ScriptedProvider> {
  const provider = await createScriptedProvider()
  ends.push(() => provider.close())
  return provider
}

const CALLS = 300

describe('calls at once', () => {
  it('are all with the provider, as many as there are: none waits for the connection of another', async () => {
    const provider = await startProvider()
    provider.script(silent())
    const gateway = await start(simpleConfig({ provider: provider.url }))
    const caller = createCaller(gateway.baseUrl, gateway.bearer)
    const left = new AbortController()
    const all = Array.from({ length: CALLS }, () =>
      caller.open({ signal: left.signal }).catch(() => undefined),
    )
    await eventually(() => provider.active === CALLS, `${CALLS} calls under way`, 15_000)
    left.abort()
    await Promise.all(all)
    await eventually(() => provider.active === 0, 'no call left')
  }, 40_000)
})

const WHOLE = JSON.stringify({
  id: 'c',
  object: 'chat.completion',
  created: 1,
  model: 'm1',
  choices: [{ index: 0, message: { role: 'assistant', content: 'Hello.' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
})
const ANSWER = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${WHOLE.length}\r\n\r\n${WHOLE}`

/** A provider that answers one request on each connection, and ends it at the first byte of a second. */
async function startForgetful(): Promise<{ url: string; connections: () => number; requests: () => number }> {
  let connections = 0
  let requests = 0
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    connections += 1
    sockets.add(socket)
    let isUsed = false
    let text = ''
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    socket.on('data', (bytes) => {
      if (isUsed) return void socket.resetAndDestroy()
      text += bytes.toString('latin1')
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? Number.NaN)
      const head = text.indexOf('\r\n\r\n')
      if (head < 0 || text.length < head + 4 + length) return
      isUsed = true
      requests += 1
      socket.write(ANSWER)
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  ends.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    connections: () => connections,
    requests: () => requests,
  }
}

describe('a connection that has gone stale', () => {
  it('is asked for once: the request goes out again on a new one, and the caller sees nothing', async () => {
    const provider = await startForgetful()
    const gateway = await start(simpleConfig({ provider: provider.url }))
    const caller = createCaller(gateway.baseUrl, gateway.bearer)
    for (let i = 1; i <= 5; i += 1) {
      expect(await caller.chat()).toMatchObject({ status: 200, content: 'Hello.' })
      expect(provider.requests()).toBe(i)
    }
    expect(provider.connections()).toBe(5)
  })
})

const MIB = 1024 * 1024

describe('bodies that are too many together', () => {
  /** Sends a part of a body, and gives what comes back. */
  async function sendPart(
    gateway: TestGateway,
    bytes: number,
  ): Promise<{ socket: Socket; seen: () => string }> {
    const { hostname, port } = new URL(gateway.baseUrl)
    const socket = connect(Number(port), hostname)
    ends.push(() => socket.destroy())
    let seen = ''
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      seen += chunk.toString('latin1')
    })
    const head = [
      'POST /v1/chat/completions HTTP/1.1',
      'host: sluice',
      `authorization: Bearer ${gateway.bearer}`,
      'content-type: application/json',
      `content-length: ${MIB}`,
    ]
    socket.write(`${head.join('\r\n')}\r\n\r\n`)
    await new Promise<void>((done) => socket.write(Buffer.alloc(bytes, ' '), () => done()))
    // Whoever comes before it has been read may be held in its place.
    await eventually(() => queued(socket.localPort ?? 0, Number(port)) === 0, 'the gateway has read it')
    return { socket, seen: () => seen }
  }

  /** Bytes of a connection that the kernel holds, on its way and unread, both ends of which are here. */
  function queued(from: number, to: number): number {
    const port = (address = ''): number => Number.parseInt(address.split(':')[1] ?? '', 16)
    let bytes = 0
    for (const line of readFileSync('/proc/net/tcp', 'latin1').split('\n')) {
      const [, local, remote, , queues = ''] = line.trim().split(/\s+/)
      const [sending = '', unread = ''] = queues.split(':')
      if (port(local) === from && port(remote) === to) bytes += Number.parseInt(sending, 16)
      if (port(local) === to && port(remote) === from) bytes += Number.parseInt(unread, 16)
    }
    return bytes
  }

  it('are refused with 503 overloaded beyond bodyBudget, and held again when others have gone', async () => {
    const provider = await startProvider()
    const over = { listen: { workers: 1, maxBody: '1MiB', bodyBudget: '2MiB' } }
    const gateway = await start(simpleConfig({ provider: provider.url, over }))
    const held = [await sendPart(gateway, MIB - 1), await sendPart(gateway, MIB - 1)]
    const caller = createCaller(gateway.baseUrl, gateway.bearer)
    const large = { messages: [{ role: 'user', content: 'x'.repeat(MIB / 2) }] }
    const statusNow = async (): Promise<unknown> => {
      const { status, error } = await caller.chat({ body: large })
      return status === 503 ? error?.code : status
    }
    await eventually(async () => (await statusNow()) === 'overloaded', '503 overloaded')
    for (const { socket, seen } of held) {
      expect(seen()).toBe('')
      socket.destroy()
    }
    await eventually(async () => (await statusNow()) === 200, '200 again')
  })
})
