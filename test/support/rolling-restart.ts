// Gateways behind a balancer are restarted one after the other under load and with long streams. What callers got is
// counted at the callers.

import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, fetch } from 'undici'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from './gateway.ts'
import { freePort } from './ports.ts'
import { startRedis } from './redis.ts'
import { answer, createScriptedProvider } from './scripted-provider.ts'

export interface Balancer {
  /** `http://127.0.0.1:port` */
  readonly url: string
  /** Resolves when it gives requests to every gateway, as far as it can say. */
  settled(): Promise<void>
  stop(): Promise<void>
}

export interface RollingRestart {
  readonly gateways: number
  readonly rounds: number
  readonly perSecond: number
  /** Streams at once, one after another, of this many pieces, ten a second. */
  readonly streams: number
  readonly pieces: number
  readonly drainNotice: string
  readonly balancer: (ports: readonly number[]) => Promise<Balancer>
}

export interface Told {
  restarts: number
  requests: number
  streams: number
  /** What went wrong at a caller, each in a line. */
  readonly bad: string[]
  /** Calls that reached the provider: more than callers made when something was asked twice. */
  calls: number
  /** Exit codes of the gateways that were told to stop. */
  readonly codes: (number | null)[]
}

/** Starts everything, restarts every gateway `rounds` times, and ends everything. */
export async function restartAll(options: RollingRestart): Promise<Told> {
  const bearer = makeBearer()
  const redis = await startRedis()
  const long = answer({
    pieces: Array.from({ length: options.pieces }, (_, i) => `piece ${i} `),
    everyMs: 100,
  })
  const short = answer({ firstMs: 20 })
  const provider = await createScriptedProvider({
    record: 'count',
    script: ({ body }) => (body.includes('"stream":true') ? long : short),
  })
  const start = (port: number): Promise<TestGateway> => {
    const listen = { port, drain: '30s', drainNotice: options.drainNotice }
    const config = simpleConfig({ provider: provider.url, over: { redis: { url: redis.url }, listen } })
    const limits = { requests: '10000/s', concurrency: 1_000 }
    return startGateway({ config, policies: { agent: agentPolicy('agent', bearer, { limits }) } })
  }
  const ports = await Promise.all(Array.from({ length: options.gateways }, () => freePort()))
  const gateways = await Promise.all(ports.map(start))
  const balancer = await options.balancer(ports)
  const agent = new Agent({ connections: 200, pipelining: 1 })
  const told: Told = { restarts: 0, requests: 0, streams: 0, bad: [], calls: 0, codes: [] }
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
      const isWhole =
        !stream || (text.trimEnd().endsWith('data: [DONE]') && text.includes(`piece ${options.pieces - 1}`))
      if (response.status !== 200 || !isWhole) told.bad.push(`${response.status} ${text.slice(-200)}`)
    } catch (error) {
      told.bad.push(`${error} ${error instanceof Error ? error.cause : ''}`)
      await sleep(100)
    }
    told[stream ? 'streams' : 'requests'] += 1
  }

  try {
    await balancer.settled()
    const streams = Array.from({ length: options.streams }, async (_, i) => {
      await sleep((i * options.pieces * 100) / options.streams)
      while (!stopped) await ask(true)
    })
    const open = new Set<Promise<void>>()
    const timer = setInterval(() => {
      const one = ask(false)
      open.add(one)
      void one.finally(() => open.delete(one))
    }, 1_000 / options.perSecond)

    await sleep(1_000)
    for (let round = 0; round < options.rounds; round += 1) {
      for (const [i, port] of ports.entries()) {
        const atMs = performance.now()
        // Streams were under way on it.
        told.codes.push((await gateways[i]?.stop(40_000)) ?? null)
        gateways[i] = await start(port)
        await balancer.settled()
        told.restarts += 1
        const ms = Math.round(performance.now() - atMs)
        process.stderr.write(`restart ${told.restarts}: ${ms} ms, ${told.bad.length} bad\n`)
      }
    }
    stopped = true
    clearInterval(timer)
    await Promise.all([...streams, ...open])
    told.calls = provider.calls
  } finally {
    stopped = true
    await agent.destroy()
    await balancer.stop()
    await Promise.all(gateways.map((gateway) => gateway.stop(15_000)))
    await Promise.all([provider.close(), redis.stop()])
  }
  const { restarts, requests, calls, bad } = told
  process.stdout.write(
    `\n${restarts} restarts, ${requests} requests, ${told.streams} streams, ${calls} calls, ${bad.length} bad\n`,
  )
  return told
}
