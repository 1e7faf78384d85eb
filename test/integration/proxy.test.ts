// Providers that are called through a proxy: a real one, which takes CONNECT and counts.

import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { createCaller } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { createScriptedProvider } from '../support/scripted-provider.ts'

const ends: (() => Promise<unknown> | unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

interface Proxy {
  readonly url: string
  /** Where it was asked to go. */
  readonly asked: string[]
}

async function startProxy(status = 200): Promise<Proxy> {
  const asked: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer((_req, res) => res.writeHead(500).end())
  server.on('connect', (req, stream) => {
    const client = stream as Socket
    asked.push(req.url ?? '')
    sockets.add(client)
    client.on('error', () => {})
    if (status !== 200) return void client.end(`HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`)
    const [host = '', port] = (req.url ?? '').split(':')
    const beyond = connect(Number(port), host, () => client.write('HTTP/1.1 200 OK\r\n\r\n'))
    sockets.add(beyond)
    beyond.on('error', () => client.destroy())
    client.pipe(beyond).pipe(client)
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  ends.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked }
}

async function start(
  proxy: string | undefined,
): Promise<{ gateway: TestGateway; url: string; calls: () => number }> {
  const provider = await createScriptedProvider()
  ends.push(provider.close)
  const settings = proxy === undefined ? {} : { proxy }
  const gateway = await startGateway({ config: simpleConfig({ provider: provider.url, settings }) })
  ends.push(() => gateway.stop())
  return { gateway, url: new URL(provider.url).host, calls: () => provider.calls }
}

describe('a provider behind a proxy', () => {
  it('is called through it, whole and streamed, on one connection', async () => {
    const proxy = await startProxy()
    const { gateway, url, calls } = await start(proxy.url)
    const caller = createCaller(gateway.baseUrl, gateway.bearer)
    for (let i = 0; i < 3; i += 1) expect(await caller.chat()).toMatchObject({ status: 200 })
    expect(calls()).toBe(3)
    expect(proxy.asked).toEqual([url])
  })

  it('cannot be called where the proxy refuses, and the reason is told', async () => {
    const proxy = await startProxy(407)
    const { gateway, calls } = await start(proxy.url)
    const answer = await createCaller(gateway.baseUrl, gateway.bearer).chat()
    expect(answer).toMatchObject({ status: 503 })
    expect(answer.header('x-sluice-attempts')).toContain('=connect')
    expect(calls()).toBe(0)
    expect(proxy.asked.length).toBeGreaterThan(0)
  })

  it('is called directly where none is written, whatever the environment says', async () => {
    const proxy = await startProxy()
    const { gateway, calls } = await start(undefined)
    expect(await createCaller(gateway.baseUrl, gateway.bearer).chat()).toMatchObject({ status: 200 })
    expect(calls()).toBe(1)
    expect(proxy.asked).toEqual([])
  })
})
