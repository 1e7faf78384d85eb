// The proof of the bound through whole gateways: processes, callers and a provider of their own, on one Redis. Two
// limits at once, an agent's that is strict (every request decided at the ledgers) and a shared one of a route, spent
// from leases. What was admitted is what came to the provider.

import type { Rate } from '../../src/types.ts'
import { startCountingProvider } from './counting-provider.ts'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from './gateway.ts'
import { excessOf, spanSeconds } from './limiters.ts'
import { type Ends, openField, type RedisForm, withEnds } from './limits-field.ts'
import type { LoadFigures, LoadJob, LoadTarget } from './load-process.ts'
import { createScene, type Member, type RedisScene } from './nemeses.ts'
import { until } from './redis-forms.ts'
import { exited, spawnTracked } from './run-folder.ts'

export interface GatewayCase {
  readonly name: string
  readonly gateways: number
  readonly redis: RedisForm
  /** At each gateway, for each of the two limits. */
  readonly callers: number
  /** Of each of the two limits. */
  readonly perSecond: number
  readonly capacity: number
  readonly forMs: number
  /** How wrong the wall clock of a gateway is, ms. */
  readonly wallOffMs?: (place: number) => number
  readonly nemesis?: (scene: GatewayScene) => Promise<void>
  readonly formula: string
  readonly allowed: (terms: { b: number; nl: number }) => number
}

export interface GatewayScene extends RedisScene {
  /** One more gateway, with callers of its own; gives what makes it leave in good order. */
  join(): Promise<() => Promise<void>>
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
  /** What callers saw at the gateways to which nothing was done: answers by status, 0 where there was none. */
  readonly statuses: Readonly<Record<string, number>>
  readonly longestMs: number
  readonly p99Ms: number
  readonly exactAgainMs: number | undefined
}

const LABELS = { exact: 'strict', leases: 'shared' } as const

/** Runs a case. Everything it started is gone afterwards. */
export function runGatewayCase(it: GatewayCase): Promise<GatewayOutcome> {
  return withEnds((ends) => run(it, ends))
}

async function run(it: GatewayCase, ends: Ends): Promise<GatewayOutcome> {
  const field = await openField(it.redis, ends)
  const provider = await startCountingProvider()
  ends.push(() => provider.stop())
  const limits = { requests: { capacity: it.capacity, refill: `${it.perSecond}/s` } }
  const [strict, free] = [makeBearer(), makeBearer()]
  const { kind, ...place } = field.place
  const config = simpleConfig({
    provider: provider.url,
    model: 'strict',
    over: {
      redis: { ...place, replicas: it.gateways },
      routes: { warm: ['t1'], shared: { tiers: ['t1'], limits } },
    },
  })
  const policies = {
    strict: agentPolicy('strict', strict, { limits: { ...limits, strict: true } }),
    free: agentPolicy('free', free),
  }
  const start = async (wallOffMs = 0): Promise<TestGateway> => {
    const gateway = await startGateway({ config, policies, env: clockOff(wallOffMs) })
    ends.push(async () => {
      gateway.signal('SIGCONT')
      await gateway.kill9()
    })
    return gateway
  }
  const gateways = await Promise.all(
    Array.from({ length: it.gateways }, (_, place) => start(it.wallOffMs?.(place))),
  )
  const targetsAt = ({ url }: TestGateway): LoadTarget[] => [
    { url, bearer: strict.bearer, model: 'strict', label: LABELS.exact, callers: it.callers },
    { url, bearer: free.bearer, model: 'shared', label: LABELS.leases, callers: it.callers },
  ]
  const targets = gateways.flatMap(targetsAt)
  const members = gateways.map((gateway): Member => ({ kill: (signal) => gateway.signal(signal) }))
  const excused = new Set<Member>()
  const loads: Load[] = []
  const load = (job: LoadJob): Load => {
    const one = startLoad(job)
    ends.push(one.stop)
    return one
  }
  // The first requests of a process cost ten times as much; they are not what is measured.
  await load({
    targets: targets.map((one) => ({
      ...one,
      bearer: free.bearer,
      model: 'warm',
      label: 'warm',
      callers: 5,
    })),
    perSecond: 200,
    forMs: 1_000,
  }).done
  // Half as much again as is admitted, so that there is always somebody who wants it.
  const endsMs = performance.now() + it.forMs
  loads.push(load({ targets, perSecond: it.perSecond * 3, forMs: it.forMs }))

  let returnedMs: number | undefined
  const scene = createScene(field, {
    key: 'slc:1:{strict}:b:agent:strict',
    members,
    returned() {
      returnedMs = performance.now()
    },
    async join() {
      const gateway = await start()
      const hers = load({
        targets: targetsAt(gateway),
        perSecond: (it.perSecond * 3) / it.gateways,
        forMs: Math.max(endsMs - performance.now() - 5_000, 1_000),
      })
      loads.push(hers)
      return async () => {
        await hers.done
        await gateway.stop()
      }
    },
    excuse: (member) => void excused.add(member),
  })
  await it.nemesis?.(scene)
  let exactAgainMs: number | undefined
  if (returnedMs !== undefined) {
    const here = gateways.filter((_, i) => !excused.has(members[i] as Member))
    const all = async () => (await Promise.all(here.map(isAtRedis))).every(Boolean)
    await until('all gateways are at Redis', all)
    exactAgainMs = performance.now() - returnedMs
  }
  const excusedUrls = new Set(
    gateways.flatMap(({ url }, i) => (excused.has(members[i] as Member) ? [url] : [])),
  )
  const figures = (await Promise.all(loads.map(({ done }) => done)))
    .flatMap(({ at }) => Object.entries(at))
    .flatMap(([url, one]) => (excusedUrls.has(url) ? [] : [one]))
  const statuses: Record<string, number> = {}
  for (const one of figures)
    for (const [status, count] of Object.entries(one.statuses))
      statuses[status] = (statuses[status] ?? 0) + count
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
    statuses,
    longestMs: Math.max(...figures.map(({ longestMs }) => longestMs)),
    p99Ms: Math.max(...figures.map(({ p99Ms }) => p99Ms)),
    exactAgainMs,
  }
}

/** A gateway's environment in which its wall clock is wrong from the start. */
function clockOff(ms: number): Record<string, string> {
  if (ms === 0) return {}
  return {
    NODE_OPTIONS: `--import ${new URL('./jump-clock.mjs', import.meta.url).href}`,
    CLOCK_OFF_MS: `${ms}`,
  }
}

interface Load {
  readonly done: Promise<LoadFigures>
  readonly stop: () => Promise<void>
}

/** Starts the callers. */
function startLoad(job: LoadJob): Load {
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
