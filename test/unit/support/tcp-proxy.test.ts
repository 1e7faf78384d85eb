// The fault proxy: each fault as a client sees it.

import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createTcpProxy, type TcpProxy } from '../../support/tcp-proxy.ts'

let server: Server
let received = ''
let proxy: TcpProxy
const clients: Socket[] = []

beforeEach(async () => {
  received = ''
  server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      received += chunk
      socket.write(`<${chunk}>`)
    })
    socket.on('end', () => socket.end('bye'))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  proxy = await createTcpProxy({
    target: { port: address !== null && typeof address === 'object' ? address.port : 0 },
  })
})
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await proxy.close()
  server.close()
})

interface Client {
  readonly socket: Socket
  said(): string
  /** Resolves with what was said when `text` has come, with the error code, or with `silence` after 100 ms. */
  /** What was said once it holds `text`, why it is over, or `silence` after `ms`. */
  until(text: string, ms?: number): Promise<string>
  /** `end`, an error code, or undefined while it is open. */
  over(): string | undefined
}

async function open(): Promise<Client> {
  const socket = connect({ port: proxy.port, host: '127.0.0.1' })
  clients.push(socket)
  let said = ''
  let over: string | undefined
  socket.on('data', (chunk) => {
    said += chunk
  })
  socket.on('end', () => {
    over ??= 'end'
  })
  socket.on('error', (error) => {
    over = 'code' in error ? String(error.code) : error.message
  })
  await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve))
  return {
    socket,
    said: () => said,
    over: () => over,
    async until(text, ms = 3_000) {
      const giveUpAt = performance.now() + ms
      while (performance.now() < giveUpAt) {
        if (said.includes(text)) return said
        if (over !== undefined) return over
        await new Promise((resolve) => setTimeout(resolve, 2))
      }
      return 'silence'
    },
  }
}

test('forwards both ways, the half-close too', async () => {
  const client = await open()
  client.socket.write('a')
  expect(await client.until('<a>')).toBe('<a>')
  client.socket.end()
  expect(await client.until('bye')).toBe('<a>bye')
  expect([proxy.bytesUp, proxy.bytesDown, proxy.connectionsEver]).toEqual([1, 6, 1])
})

test('loses replies that the target has given', async () => {
  const client = await open()
  proxy.dropReplies()
  client.socket.write('a')
  expect(await client.until('<', 100)).toBe('silence')
  expect(received).toBe('a')
  await proxy.forward()
  client.socket.write('b')
  expect(await client.until('<b>')).toBe('<b>')
})

test('lets nothing through a black hole and keeps connections open', async () => {
  const before = await open()
  proxy.blackHole()
  const after = await open()
  before.socket.write('a')
  after.socket.write('b')
  expect(await before.until('<', 100)).toBe('silence')
  expect([received, before.over(), after.over()]).toEqual(['', undefined, undefined])
})

test('delays every piece in order', async () => {
  const client = await open()
  proxy.delay(30)
  const startedMs = performance.now()
  client.socket.write('a')
  await new Promise((resolve) => setTimeout(resolve, 5))
  client.socket.write('b')
  expect(await client.until('<b>')).toBe('<a><b>')
  expect(performance.now() - startedMs).toBeGreaterThan(60)
})

test('resets what is open and what comes', async () => {
  const before = await open()
  proxy.reset()
  expect(await before.until('?')).toBe('ECONNRESET')
  const after = await open()
  expect(await after.until('?')).toBe('ECONNRESET')
  await proxy.forward()
  const restored = await open()
  restored.socket.write('a')
  expect(await restored.until('<a>')).toBe('<a>')
})

test('refuses connections and takes them again on the same port', async () => {
  const before = await open()
  await proxy.refuse()
  expect(await before.until('?')).toBe('ECONNRESET')
  expect(await (await open()).until('?')).toBe('ECONNREFUSED')
  await proxy.forward()
  const restored = await open()
  restored.socket.write('a')
  expect(await restored.until('<a>')).toBe('<a>')
})

test('cuts the replies after exactly so many bytes', async () => {
  const client = await open()
  proxy.cutRepliesAfter(4)
  client.socket.write('abcdef')
  await client.until('?')
  expect([client.said(), client.over()]).toEqual(['<abc', 'ECONNRESET'])
})
