// Providers that are called through a proxy: a real one, which takes CONNECT and counts.

import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createTransport } from '../../src/upstream/transport.ts'
import { createCaller, eventually } from '../support/caller.ts'
import { createAuthority } from '../support/certificates.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { createRawProvider, ok } from '../support/raw-provider.ts'
import { createScriptedProvider } from '../support/scripted-provider.ts'
import { makeDeployment, makeExchange } from '../unit/upstream/stage.ts'

const ends: (() => Promise<unknown> | unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

interface Proxy {
  readonly url: string
  /** Where it was asked to go. */
  readonly asked: string[]
}

/** `silent`: so many it takes and never answers. */
async function startProxy(status = 200, silent = 0): Promise<Proxy> {
  const asked: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer((_req, res) => res.writeHead(500).end())
  server.on('connect', (req, stream) => {
    const client = stream as Socket
    asked.push(req.url ?? '')
    sockets.add(client)
    client.on('error', () => {})
    if (asked.length <= silent) return
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
  env: Readonly<Record<string, string>> = {},
): Promise<{ gateway: TestGateway; url: string; calls: () => number }> {
  const provider = await createScriptedProvider()
  ends.push(provider.close)
  const settings = proxy === undefined ? {} : { proxy }
  const gateway = await startGateway({ config: simpleConfig({ provider: provider.url, settings }), env })
  ends.push(() => gateway.stop())
  return { gateway, url: new URL(provider.url).host, calls: () => provider.calls }
}

describe('a provider behind a proxy', () => {
  it('is called through it, whole and streamed, on one connection', async () => {
    const proxy = await startProxy()
    const { gateway, url, calls } = await start(proxy.url)
    const caller = createCaller(gateway.baseUrl, gateway.bearer)
    for (const stream of [false, true, false])
      expect(await caller.chat({ body: { stream } })).toMatchObject({
        status: 200,
        content: 'Hello from the scripted provider.',
      })
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
    const { gateway, calls } = await start(undefined, {
      HTTP_PROXY: proxy.url,
      HTTPS_PROXY: proxy.url,
      http_proxy: proxy.url,
    })
    expect(await createCaller(gateway.baseUrl, gateway.bearer).chat()).toMatchObject({ status: 200 })
    expect(calls()).toBe(1)
    expect(proxy.asked).toEqual([])
  })
})

describe('a proxy', () => {
  const authority = createAuthority()
  const before = getCACertificates('default')
  beforeAll(() => setDefaultCACertificates([...before, authority.ca]))
  afterAll(() => setDefaultCACertificates(before))

  /** Calls a provider that speaks TLS, and answers each request with its path. */
  async function setUp(proxy: Proxy) {
    const provider = await createRawProvider(
      async (peer) => {
        for (let asked = await peer.next(); asked !== undefined; asked = await peer.next())
          peer.say(ok(asked.head.split(' ')[1] ?? ''))
      },
      { tls: authority.issue('localhost', '127.0.0.1') },
    )
    const transport = createTransport()
    ends.push(provider.close, transport.close)
    const baseUrl = `https://127.0.0.1:${provider.port}`
    const deployment = makeDeployment('p/m', {}, { baseUrl, proxy: proxy.url })
    const call = (path: string) => {
      const over = Promise.withResolvers<string>()
      let text = ''
      const control = transport.call(makeExchange(deployment, { path }), {
        started() {},
        head() {},
        data(chunk) {
          text += chunk.toString()
        },
        end: () => over.resolve(text),
        failed: over.reject,
      })
      return { over: over.promise, control }
    }
    return { call, transport }
  }

  it('that leaves one CONNECT without an answer holds up no other call', async () => {
    const proxy = await startProxy(200, 1)
    const { call } = await setUp(proxy)
    const first = call('/first')
    await eventually(() => proxy.asked.length === 1, 'the first CONNECT')
    first.control.abort()
    expect(await call('/second').over).toBe('/second')
    expect(proxy.asked.length).toBe(2)
  })

  it('is asked for nothing by a call that is aborted at once, and by none after the end', async () => {
    const proxy = await startProxy()
    const { call, transport } = await setUp(proxy)
    call('/aborted').control.abort()
    expect(await call('/kept').over).toBe('/kept')
    expect(proxy.asked.length).toBe(1)
    await transport.close()
    await expect(call('/late').over).rejects.toThrow()
    expect(proxy.asked.length).toBe(1)
  })
})
