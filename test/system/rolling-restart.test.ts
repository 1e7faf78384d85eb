// Three gateways behind HAProxy are restarted one after the other, again and again, under load and with long streams:
// nobody notices. What callers got is counted at the callers.

import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, fetch } from 'undici'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { eventually } from '../support/caller.ts'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { type Haproxy, startHaproxy } from '../support/haproxy.ts'
import { freePort } from '../support/ports.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { answer, createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'

const ROUNDS = 5
const PER_SECOND = 100
const STREAMS = 30
const bearer = makeBearer()

let redis: TestRedis
let provider: ScriptedProvider
let balancer: Haproxy
let ports: readonly number[]
let gateways: TestGateway[]

beforeAll(async () => {
  redis = await startRedis()
  // A stream of about eight seconds, a whole answer of twenty milliseconds.
  const long = answer({ pieces: Array.from({ length: 80 }, (_, i) => `piece ${i} `), everyMs: 100 })
  const short = answer({ firstMs: 20 })
  provider = await createScriptedProvider({
    record: 'count',
    script: ({ body }) => (body.includes('"stream":true') ? long : short),
  })
  ports = await Promise.all([1, 2, 3].map(() => freePort()))
  gateways = await Promise.all(ports.map(start))
  balancer = await startHaproxy(ports)
  await allUp()
})
afterAll(async () => {
  await balancer?.stop()
  await Promise.all(gateways.map((gateway) => gateway.stop(15_000)))
  await Promise.all([provider.close(), redis.stop()])
})

function start(port: number): Promise<TestGateway> {
  const config = simpleConfig({
    provider: provider.url,
    over: { redis: { url: redis.url }, listen: { port, drain: '30s', drainNotice: '2s' } },
  })
  const limits = { requests: '10000/s', concurrency: 1_000 }
  return startGateway({ config, policies: { agent: agentPolicy('agent', bearer, { limits }) } })
}

const allUp = () =>
  eventually(async () => (await balancer.states()).every((state) => state === 'UP'), 'all are up', 10_000)

it(`${ROUNDS} rounds: no request fails and no stream is cut`, { timeout: 600_000 }, async () => {
  const agent = new Agent({ connections: 200, pipelining: 1 })
  const told = { requests: 0, streams: 0, bad: [] as string[] }
  let stopped = false
  const ask = async (stream: boolean): Promise<void> => {
    try {
      const response = await fetch(`${balancer.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${bearer.bearer}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'm', stream, messages: [{ role: 'user', content: 'Hello.' }] }),
        dispatcher: agent,
      })
      const text = await response.text()
      const isWhole = stream ? text.trimEnd().endsWith('data: [DONE]') && text.includes('piece 79') : true
      if (response.status !== 200 || !isWhole) told.bad.push(`${response.status} ${text.slice(-200)}`)
    } catch (error) {
      told.bad.push(`${error} ${error instanceof Error ? error.cause : ''}`)
      await sleep(100)
    }
    told[stream ? 'streams' : 'requests'] += 1
  }
  const streams = Array.from({ length: STREAMS }, async (_, i) => {
    await sleep(i * 200)
    while (!stopped) await ask(true)
  })
  const open = new Set<Promise<void>>()
  const timer = setInterval(() => {
    const one = ask(false)
    open.add(one)
    void one.finally(() => open.delete(one))
  }, 1_000 / PER_SECOND)

  await sleep(2_000)
  let restarts = 0
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [i, port] of ports.entries()) {
      const atMs = performance.now()
      const old = gateways[i] as TestGateway
      // Streams were under way on it.
      expect(await old.stop(40_000)).toBe(0)
      gateways[i] = await start(port)
      await allUp()
      restarts += 1
      process.stderr.write(
        `restart ${restarts}: ${Math.round(performance.now() - atMs)} ms, ${told.bad.length} bad\n`,
      )
    }
  }
  stopped = true
  clearInterval(timer)
  await Promise.all([...streams, ...open])
  await agent.destroy()
  process.stdout.write(
    `\n${restarts} restarts, ${told.requests} requests, ${told.streams} streams, ${told.bad.length} bad\n`,
  )
  expect(told.bad).toEqual([])
  expect(told.requests).toBeGreaterThan(PER_SECOND * 60)
  expect(told.streams).toBeGreaterThan(STREAMS * 5)
})
