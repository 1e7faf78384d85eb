// What the end of a drain leaves behind: nothing that somebody is not told of, nothing taken, nothing unsaid.

import { connect } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { statusOf } from '../support/operator.ts'
import { answer, gate, silent, stallAfter } from '../support/provider-script.ts'
import { startRedis } from '../support/redis.ts'
import { createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'

let gateway: TestGateway | undefined
let provider: ScriptedProvider | undefined
afterEach(async () => {
  await gateway?.kill9()
  await provider?.close()
})

function call(at: TestGateway, stream: boolean): Promise<Response> {
  return fetch(`${at.baseUrl}/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${at.bearer}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'm', stream, messages: [{ role: 'user', content: 'hi' }] }),
  })
}

test('what the end of a drain cuts is told: an error event in a stream, a 503 where no answer had begun', async () => {
  provider = await createScriptedProvider()
  provider.script((request) => (request.body.includes('"stream":true') ? stallAfter(3) : silent()))
  gateway = await startGateway({
    config: simpleConfig({ provider: provider.url, over: { listen: { drain: '1s' } } }),
  })
  const streamed = await call(gateway, true)
  const whole = call(gateway, false)
  await provider.waitForRequests(2)
  const ended = gateway.stop()
  const text = await streamed.text()
  expect(text).toContain('"code":"upstream_incomplete"')
  expect(text).not.toContain('[DONE]')
  const refused = await whole
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
  expect(await refused.json()).toMatchObject({ error: { code: 'draining' } })
  expect(await ended).toBe(0)
})

test('what the end of a drain cuts has given back what it had taken: slots, tokens and money, before the process ends', async () => {
  provider = await createScriptedProvider()
  provider.script((request) => (request.body.includes('"stream":true') ? stallAfter(3) : silent()))
  const redis = await startRedis()
  try {
    const bearer = makeBearer()
    const limits = { concurrency: 10, tokens: { capacity: 1e6, refill: '1/h' }, budget: '20 USD/day' }
    const price = { input: 1, output: 50 }
    gateway = await startGateway({
      config: simpleConfig({
        provider: provider.url,
        over: {
          redis: { url: redis.url },
          listen: { drain: '1s' },
          tiers: { t1: { deployments: [{ use: 'p1/m1', price }] } },
        },
      }),
      policies: { agent: agentPolicy('agent', bearer, { limits }) },
    })
    const at = { ...gateway, bearer: bearer.bearer }
    const streams = await Promise.all([1, 2, 3, 4].map(() => call(at, true)))
    const whole = [1, 2, 3, 4].map(() => call(at, false))
    await provider.waitForRequests(8)
    const field = async (name: string): Promise<string[]> =>
      String((await redis.command('HGET', 'slc:1:{agent}:b:agent:agent', name)) ?? '').split(' ')
    // Eight answers of 8192 tokens at 50 USD a million are reserved.
    expect(Number((await field('d'))[2])).toBeGreaterThan(3_000_000)
    const ended = gateway.stop()
    await Promise.all([...streams, ...(await Promise.all(whole))].map((one) => one.text()))
    expect(await ended).toBe(0)
    const left = await redis.command('HGETALL', 'slc:1:{agent}:b:agent:agent')
    const lines = (Array.isArray(left) ? left : []).map(String)
    // Of a replica that has gone nothing is held; a line about it would have its slots in the sixth place.
    for (const line of lines.filter((one) => one.split(' ').length === 9))
      expect(line.split(' ')[5]).toBe('0')
    // What had been answered of four streams, and no more.
    expect(Number((await field('d'))[2])).toBeLessThan(10_000)
  } finally {
    await redis.stop()
  }
})

test('a drain gives back what was on lease and writes a line for every request, the last ones too', async () => {
  provider = await createScriptedProvider()
  const held = gate(answer({ pieces: ['one ', 'two'] }))
  provider.script((request) => (request.body.includes('"stream":true') ? held : answer()))
  const redis = await startRedis()
  try {
    const bearer = makeBearer()
    const limits = { requests: { capacity: 1_000, refill: '1/h' } }
    gateway = await startGateway({
      config: simpleConfig({ provider: provider.url, over: { redis: { url: redis.url } } }),
      policies: { agent: agentPolicy('agent', bearer, { limits }) },
    })
    const [seconds] = (await redis.command('TIME')) as [string]
    const [at, caller] = [gateway, createCaller(gateway.baseUrl, bearer.bearer)]
    const streams = Array.from({ length: 10 }, () => caller.chat({ body: { stream: true } }))
    let asked = streams.length
    // Until more has been taken ahead than was used.
    await eventually(async () => {
      const answers = await Promise.all(Array.from({ length: 10 }, () => caller.chat()))
      asked += answers.length
      expect(answers.every(({ status }) => status === 200)).toBe(true)
      return (await statusOf(at)).leases.permits > 0
    }, 'permits are on lease')
    await provider.waitForRequests(asked)
    const ended = gateway.stop()
    await gateway.waitForLog(({ msg }) => msg === 'draining')
    held.open()
    for (const one of await Promise.all(streams)) expect(one.stream?.done).toBe(true)
    expect(await ended).toBe(0)

    const flat = ((await redis.command('HGETALL', 'slc:1:{agent}:b:agent:agent')) as unknown[]).map(String)
    const field = (name: string) => (flat[flat.indexOf(name) + 1] ?? '').split(' ').map(Number)
    // Nobody has anything on lease, and what is charged is what was asked: an hour each, behind the beginning.
    for (const name of flat.filter((one) => one.startsWith('l:')))
      expect(field(name).slice(2, 4)).toEqual([0, 0])
    expect(Math.floor(((field('r')[0] ?? 0) / 1e6 - Number(seconds)) / 3600)).toBe(asked)
    const lines = gateway.logLines().map(({ msg }) => msg)
    expect(lines.filter((msg) => msg === 'request')).toHaveLength(asked)
    expect(lines.at(-1)).toBe('stopped')
  } finally {
    await redis.stop()
  }
})

test('a connection whose answer ends behind the notice is closed with it: what a balancer sends next is not answered', async () => {
  provider = await createScriptedProvider()
  provider.script(answer({ pieces: Array.from({ length: 10 }, (_, i) => `${i} `), everyMs: 100 }))
  gateway = await startGateway({ config: simpleConfig({ provider: provider.url }) })
  const body = JSON.stringify({ model: 'm', stream: true, messages: [{ role: 'user', content: 'hi' }] })
  const head = [
    'POST /v1/chat/completions HTTP/1.1',
    'host: sluice',
    `authorization: Bearer ${gateway.bearer}`,
    'content-type: application/json',
    `content-length: ${body.length}`,
  ]
  const request = `${head.join('\r\n')}\r\n\r\n${body}`
  const socket = connect(gateway.port, '127.0.0.1')
  let text = ''
  let ended: Promise<number | null> | undefined
  await new Promise<void>((closed) => {
    socket.on('error', () => {}).on('close', () => closed())
    socket.on('data', (bytes) => {
      text += bytes.toString()
      if (text.includes('"0 "')) ended ??= gateway?.stop()
      // In the moment in which the answer is whole, as a balancer does that has more to ask.
      if (text.endsWith('\r\n0\r\n\r\n')) socket.write(request)
    })
    socket.write(request)
  })
  expect(await ended).toBe(0)
  expect(text.toLowerCase()).not.toContain('connection: close')
  expect(text).toContain('data: [DONE]')
  expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200'])
  expect(provider.calls).toBe(1)
})

test('a request that had begun to come when the door was closed is answered, and its connection ends with that', async () => {
  provider = await createScriptedProvider()
  const held = gate(answer({ pieces: ['one ', 'two'] }))
  provider.script((request) => (request.body.includes('"stream":true') ? held : answer()))
  gateway = await startGateway({ config: simpleConfig({ provider: provider.url }) })
  const { port, bearer } = gateway
  const stream = call(gateway, true)
  await provider.waitForRequests(1)
  const body = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'hi' }] })
  const socket = connect(port, '127.0.0.1').on('error', () => {})
  socket.write('POST /v1/chat/completions HTTP/1.1\r\nhost: sluice\r\n')
  const ended = gateway.stop()
  await eventually(
    () =>
      new Promise<boolean>((told) => {
        const knock = connect(port, '127.0.0.1', () => told(false)).on('error', () => told(true))
        knock.on('connect', () => knock.destroy())
      }),
    'the door is closed',
  )
  let text = ''
  const closed = new Promise<void>((done) => socket.on('close', () => done()))
  socket.on('data', (bytes) => {
    text += bytes.toString()
  })
  const head = [`authorization: Bearer ${bearer}`, 'content-type: application/json']
  socket.write(`${[...head, `content-length: ${body.length}`].join('\r\n')}\r\n\r\n${body}`)
  await closed
  expect(text).toMatch(/^HTTP\/1\.1 200 /)
  expect(text.toLowerCase()).toContain('connection: close')
  held.open()
  expect(await (await stream).text()).toContain('[DONE]')
  expect(await ended).toBe(0)
})
