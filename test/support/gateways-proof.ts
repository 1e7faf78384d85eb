// The proof of the bound through whole gateways: processes, callers and a provider of their own, on one Redis. Two
// limits at once, an agent's that is strict (every request decided at the ledgers) and a shared one of a route, spent
// from leases. What was admitted is what came to the provider.

import type { Rate } from '../../src/types.ts'
import { startCountingProvider } from './counting-provider.ts'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from './gateway.ts'
import { excessOf, spanSeconds } from './limiters.ts'
import type { LoadFigures, LoadJob, LoadTarget } from './load-process.ts'
import { startRedis, type TestRedis } from './redis.ts'
import { exited, spawnTracked } from './run-folder.ts'

export interface GatewayCase {
  readonly name: string
  readonly gateways: number
  /** At each gateway, for each of the two limits. */
  readonly callers: number
  /** Of each of the two limits. */
  readonly perSecond: number
  readonly capacity: number
  readonly forMs: number
  readonly nemesis?: (scene: GatewayScene) => Promise<void>
  readonly formula: string
  readonly allowed: (terms: { b: number; nl: number }) => number
}

export interface GatewayScene {
  readonly gateways: readonly TestGateway[]
  redis(): TestRedis
  /** Kills Redis; after so long an empty one is there in its place. Resolves when every gateway is back at it, with the ms. */
  restartEmpty(awayMs: number): Promise<void>
  pause(forMs: number): Promise<void>
  /** A gateway that is gone: requests to it fail, which is not what is looked at. */
  kill(place: number): Promise<void>
}

export interface GatewayOutcome {
  readonly name: string
  readonly limits: readonly {
    readonly mode: 'exact' | 'leases'
    readonly admitted: number
    readonly bound: number
    readonly utilisation: number
    readonly excess: number
    readonly allowed: number
  }[]
  readonly formula: string
  readonly load: LoadFigures
  readonly exactAgainMs: number | undefined
}

const LABELS = { exact: 'strict', leases: 'shared' } as const

/** Runs a case. Everything it started is gone afterwards. */
export async function runGatewayCase(it: GatewayCase): Promise<GatewayOutcome> {
  const ends: (() => Promise<unknown>)[] = []
  try {
    return await run(it, ends)
  } finally {
    for (const end of ends.toReversed()) await end()
  }
}

async function run(it: GatewayCase, ends: (() => Promise<unknown>)[]): Promise<GatewayOutcome> {
  let redis = await startRedis()
  const { port, url } = redis
  ends.push(() => redis.stop())
  const provider = await startCountingProvider()
  ends.push(() => provider.stop())
  const limits = { requests: { capacity: it.capacity, refill: `${it.perSecond}/s` } }
  const [strict, free] = [makeBearer(), makeBearer()]
  const config = simpleConfig({
    provider: provider.url,
    model: 'strict',
    over: {
      redis: { url, replicas: it.gateways },
      routes: { warm: ['t1'], shared: { tiers: ['t1'], limits } },
    },
  })
  const policies = {
    strict: agentPolicy('strict', strict, { limits: { ...limits, strict: true } }),
    free: agentPolicy('free', free),
  }
  const killed = new Set<number>()
  const gateways = await Promise.all(
    Array.from({ length: it.gateways }, () => startGateway({ config, policies })),
  )
  ends.push(() =>
    Promise.all(gateways.map((gateway, i) => (killed.has(i) ? undefined : gateway.stop().catch(() => {})))),
  )
  const targets = gateways.flatMap((gateway): LoadTarget[] => [
    { url: gateway.url, bearer: strict.bearer, model: 'strict', label: LABELS.exact, callers: it.callers },
    { url: gateway.url, bearer: free.bearer, model: 'shared', label: LABELS.leases, callers: it.callers },
  ])
  let exactAgainMs: number | undefined
  const back = async (fromMs: number): Promise<void> => {
    const here = gateways.filter((_, i) => !killed.has(i))
    while (!(await Promise.all(here.map(isAtRedis))).every(Boolean))
      await new Promise((resolve) => setTimeout(resolve, 10))
    exactAgainMs = performance.now() - fromMs
  }
  // The first requests of a process cost ten times as much; they are not what is measured.
  const warm = startLoad({
    targets: targets.map((one) => ({
      ...one,
      bearer: free.bearer,
      model: 'warm',
      label: 'warm',
      callers: 5,
    })),
    perSecond: 200,
    forMs: 1_000,
  })
  ends.push(warm.stop)
  await warm.done
  // Half as much again as is admitted, so that there is always somebody who wants it.
  const load = startLoad({ targets, perSecond: it.perSecond * 3, forMs: it.forMs })
  ends.push(load.stop)
  await it.nemesis?.({
    gateways,
    redis: () => redis,
    async restartEmpty(awayMs) {
      await redis.kill9()
      await new Promise((resolve) => setTimeout(resolve, awayMs))
      redis = await startRedis({ port })
      await back(performance.now())
    },
    async pause(forMs) {
      redis.pause()
      await new Promise((resolve) => setTimeout(resolve, forMs))
      redis.resume()
      await back(performance.now())
    },
    async kill(place) {
      killed.add(place)
      await gateways[place]?.kill9()
    },
  })
  const figures = await load.done
  const rate: Rate = { capacity: it.capacity, intervalUs: 1e6 / it.perSecond }
  return {
    name: it.name,
    limits: (['exact', 'leases'] as const).map((mode) => {
      const history = provider.admissions(LABELS[mode])
      const admitted = history.length / 2
      const bound = it.capacity + spanSeconds(history) * it.perSecond
      const nl = mode === 'leases' ? Math.floor(it.capacity / 2) : 0
      return {
        mode,
        admitted,
        bound,
        utilisation: admitted / bound,
        excess: excessOf(history, rate),
        allowed: it.allowed({ b: it.capacity, nl }),
      }
    }),
    formula: it.formula,
    load: figures,
    exactAgainMs,
  }
}

/** Starts the callers. */
export function startLoad(job: LoadJob): { done: Promise<LoadFigures>; stop: () => Promise<void> } {
  const entry = new URL('./load-process.ts', import.meta.url).pathname
  const child = spawnTracked(process.execPath, [entry], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  child.send(job)
  const done = new Promise<LoadFigures>((resolve, reject) => {
    child.once('message', (figures) => resolve(figures as LoadFigures))
    void exited(child).then(() => setTimeout(() => reject(new Error('the callers died')), 50))
  })
  done.catch(() => {})
  return {
    done,
    stop: async () => {
      child.kill('SIGKILL')
      await exited(child)
    },
  }
}

async function isAtRedis({ adminUrl }: TestGateway): Promise<boolean> {
  try {
    return JSON.stringify(await (await fetch(`${adminUrl}/ready`)).json()).includes('"limits":"redis"')
  } catch {
    return false
  }
}
