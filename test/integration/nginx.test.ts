// Behind nginx, with the settings of deploy/nginx/nginx.conf: a restart that nobody notices, a stream that comes piece by
// piece, and the caller's address. The long form is test/system/rolling-restart.test.ts.

import { request } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createCaller } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { type Nginx, startNginx } from '../support/nginx.ts'
import { freePort } from '../support/ports.ts'
import { restartAll } from '../support/rolling-restart.ts'
import { answer, createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'

it('two gateways are restarted under load: no request fails and no stream is cut', async () => {
  const told = await restartAll({
    ...{ gateways: 2, rounds: 1, perSecond: 40, streams: 6, pieces: 20, drainNotice: '1500ms' },
    balancer: async (ports) => {
      // Everything shorter by the same, so that both stay below the notice.
      const instead = {
        keepalive_timeout: ['4s', '1s'],
        'max_fails=3': ['fail_timeout=2s', 'fail_timeout=1s'],
      } as const
      return { ...(await startNginx({ ports, instead })), settled: async () => {} }
    },
  })
  expect(told.bad).toEqual([])
  expect(told.codes).toEqual([0, 0])
  expect(told.calls).toBe(told.requests + told.streams)
})

describe('one gateway', () => {
  let provider: ScriptedProvider
  let gateway: TestGateway
  let nginx: Nginx
  beforeAll(async () => {
    provider = await createScriptedProvider()
    gateway = await startGateway({
      config: simpleConfig({
        provider: provider.url,
        over: { listen: { trustedProxies: ['127.0.0.1/32'] } },
      }),
    })
    // The second one is not there: whoever is sent to it first is sent on.
    nginx = await startNginx({ ports: [gateway.port, await freePort()] })
  })
  afterAll(async () => {
    await nginx?.stop()
    await gateway?.stop()
    await provider?.close()
  })

  it('gives a stream on piece by piece', async () => {
    provider.script(answer({ pieces: ['one ', 'two ', 'three'], everyMs: 300 }))
    const response = await createCaller(`${nginx.url}/v1`, gateway.bearer, 'm').open({
      body: { stream: true },
    })
    const atMs: number[] = []
    for await (const _ of response.body ?? []) atMs.push(performance.now())
    // Held back it would come at one stroke.
    expect((atMs.at(-1) ?? 0) - (atMs[0] ?? 0)).toBeGreaterThan(400)
  })

  it('tells the gateway whose request it is, whatever the caller says of that', async () => {
    const id = await new Promise<unknown>((told, fail) => {
      const options = {
        method: 'POST',
        localAddress: '127.0.0.2',
        headers: { 'x-forwarded-for': '203.0.113.9', 'content-type': 'application/json' },
      }
      request(`${nginx.url}/v1/chat/completions`, options, (response) => {
        response.resume()
        told(response.headers['x-request-id'])
      })
        .on('error', fail)
        .end('{}')
    })
    const line = await gateway.waitForLog((one) => one.id === id)
    expect(line).toMatchObject({ status: 401, address: '127.0.0.2' })
  })

  it('takes a body as large as the gateway does', async () => {
    const caller = createCaller(`${nginx.url}/v1`, gateway.bearer, 'm')
    const content = 'x'.repeat(20 * 1024 * 1024)
    const told = await caller.chat({ body: { messages: [{ role: 'user', content }] } })
    expect(told.status).toBe(200)
    expect(provider.requests.at(-1)?.body.length).toBeGreaterThan(content.length)
  })
})
