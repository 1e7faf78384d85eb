// What operators see, of one process or of all workers together: joins what the rooms publish of themselves for the
// operators' port. A worker tells its primary how it stands; the primary asks, adds up, and is looked at itself.

import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import type { MetricData, ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { isObject } from './bytes/json-value.ts'
import type { Snapshot } from './config/snapshot.ts'
import { type Overload, type OverloadShown, worstOverload } from './http/overload.ts'
import type { Backing } from './quota/backing.ts'
import type { Meter } from './quota/meter.ts'
import { type LeasesShown, leasesAdded, leasesShown, redisShown } from './quota/shown.ts'
import type { Question } from './types.ts'
import type { Health } from './upstream/health.ts'
import { type DeploymentState, deploymentStates, toOrder, toPriceShown, worstOf } from './upstream/shown.ts'
import { type Exemplar, type Exemplars, isExemplars } from './usage/exemplars.ts'
import type { Figures } from './usage/figures.ts'
import { isMetrics, joinWorkers, metricsOf, relabelAgents } from './usage/merge.ts'
import { OPEN_METRICS_TYPE, toOpenMetrics, wantsOpenMetrics } from './usage/openmetrics.ts'
import type { Fleet } from './workers/fleet.ts'

export interface OperatorsDeps {
  /** The gateway as it is now. */
  readonly gateway: () => {
    readonly snapshot: Snapshot
    /** How limits stand; undefined when there is no such agent. Shown as it is. */
    limits(agent: string | undefined): Promise<object | undefined>
    /** What would become of a request; undefined when there is no such agent. Shown as it is. */
    explain(question: Question): Promise<object | undefined>
  }
  /** Undefined in a process without workers. */
  readonly fleet: Fleet | undefined
  /** Workers that there are to be. */
  readonly workers: number
  /** What the workers count, those that are gone included. */
  readonly figures: Figures
  /** Of this process; of a primary also what its workers told. */
  readonly exemplars: Exemplars
  readonly backing: Backing
  readonly quota: Pick<Meter, 'openHolds' | 'waiting'>
  readonly health: Health
  /** Requests and streams under way here. */
  readonly counts: { readonly inflight: number; readonly streams: number }
  readonly overload: Overload
  readonly phase: { readonly now: string }
  readonly version: string
  /** Unix ms. */
  readonly startedMs: number
  readonly secrets: () => readonly SecretShown[]
  /** An agent as a label, or what those beyond the bound share: of this process, and of all whose metrics it adds up. */
  readonly agentLabel: (agent: string) => string
  /** The metrics of this process. */
  readonly collect: () => Promise<ResourceMetrics>
  readonly scrub: (text: string) => string
}

/** Where a secret comes from and since when; never what it is. */
export interface SecretShown {
  readonly secret: string
  /** Undefined before it was read for the first time. */
  readonly ageSeconds: number | undefined
  /** At which age it should have been replaced. */
  readonly rotateSeconds: number | undefined
  /** Why it could not be read the last time. */
  readonly problem: string | undefined
}

/** How a process stands, as it tells its primary. */
export interface Look {
  readonly inflight: number
  readonly streams: number
  readonly overload: OverloadShown
  readonly limits: Backing['decides']
  readonly replicas: number
  readonly deployments: readonly DeploymentState[]
  readonly metrics: readonly MetricData[] | undefined
  readonly exemplars: readonly Exemplar[] | undefined
}

/** How limits stand, as one process sees it. */
export interface Standing {
  readonly shown: object
  readonly redis: ReturnType<typeof redisShown>
  readonly leases: LeasesShown
  readonly openHolds: number
  readonly waiting: number
}

export interface Operators {
  /** How this process stands, for its primary. */
  lookHere(what: { metrics: boolean }): Promise<Look>
  /** How limits stand here, for the primary; undefined where there is no such agent. */
  limitsHere(agent: string | undefined): Promise<Standing | undefined>
  /** The state of each deployment: the worst that the workers last told of it, or what is known here. */
  deployments(): readonly DeploymentState[]
  /** What would become of a request: by the word of a worker where there are some, for they know the providers. */
  explain(question: Question): Promise<object | undefined>
  /** The same here, for the primary. */
  explainHere(question: Readonly<Record<string, unknown>>): Promise<object | undefined>
  /** Workers that serve, and of how many; nothing where there are none. */
  workers(): { readonly workers?: { readonly live: number; readonly of: number } }
  /** Takes in how a worker stands, as it told. */
  note(id: number, answer: unknown): Look | undefined
  /** The metrics of the whole gateway. */
  collect(): Promise<ResourceMetrics>
  /** Prometheus text, or OpenMetrics where the header `accept` asks for it. */
  metrics(accept: string | undefined): Promise<{ readonly type: string; readonly text: string }>
  /** What `/ready` tells besides yes and no. */
  readiness(): Promise<Readonly<Record<string, unknown>>>
  /** What `/status` tells, of everything or with the limits of one agent; undefined when there is no such agent. */
  status(what: { agent: string | undefined }): Promise<Readonly<Record<string, unknown>> | undefined>
}

/** How long the workers have for a word on how they stand. */
const LOOK_MS = 1000
const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

export function createOperators(deps: OperatorsDeps): Operators {
  const {
    gateway,
    fleet,
    figures,
    exemplars,
    backing,
    quota,
    health,
    counts,
    overload,
    phase,
    version,
    startedMs,
    secrets,
    agentLabel,
    collect,
    scrub,
  } = deps
  const serializer = new PrometheusSerializer(undefined, false, undefined, true, true)
  /** The state of each deployment as the workers last told it. */
  let whole: readonly DeploymentState[] | undefined

  function own(): Look {
    return {
      ...counts,
      overload: overload.shown(),
      limits: backing.decides,
      replicas: backing.replicas,
      deployments: deploymentStates(gateway().snapshot, health),
      metrics: undefined,
      exemplars: undefined,
    }
  }

  async function lookHere({ metrics }: { metrics: boolean }): Promise<Look> {
    if (!metrics) return own()
    return { ...own(), metrics: metricsOf(await collect()), exemplars: exemplars.all() }
  }

  function note(id: number, answer: unknown): Look | undefined {
    if (!isLook(answer)) return undefined
    if (answer.metrics !== undefined) figures.note(id, relabelAgents(answer.metrics, agentLabel))
    if (answer.exemplars !== undefined) exemplars.learn(answer.exemplars)
    return answer
  }

  /** How this gateway stands: of one process, or of all workers together. */
  async function look({ metrics = false } = {}): Promise<Look> {
    const here = own()
    if (fleet === undefined) return here
    const looks: Look[] = []
    for (const { id, answer } of await fleet.ask({ kind: 'look', metrics }, LOOK_MS)) {
      const told = note(id, answer)
      if (told !== undefined) looks.push(told)
    }
    const told = looks.flatMap(({ deployments }) => deployments)
    whole = worstOf(here.deployments, told)
    return {
      inflight: looks.reduce((sum, { inflight }) => sum + inflight, 0),
      streams: looks.reduce((sum, { streams }) => sum + streams, 0),
      overload: worstOverload(looks.map((one) => one.overload)) ?? here.overload,
      limits: looks.find(({ limits }) => limits === 'outage')?.limits ?? looks[0]?.limits ?? here.limits,
      replicas: looks[0]?.replicas ?? here.replicas,
      deployments: whole,
      metrics: figures.all(),
      exemplars: undefined,
    }
  }

  async function limitsHere(agent: string | undefined): Promise<Standing | undefined> {
    const shown = await gateway().limits(agent)
    return (
      shown && {
        shown,
        redis: redisShown(backing),
        leases: leasesShown(backing),
        openHolds: quota.openHolds(),
        waiting: quota.waiting(),
      }
    )
  }

  /** The same of all workers together: each sees the one standing of a limit, and has its own part in hand. */
  async function lookAtLimits(agent: string | undefined): Promise<Standing | undefined> {
    if (fleet === undefined) return limitsHere(agent)
    const answers = await fleet.ask({ kind: 'limits', agent }, LOOK_MS)
    const told = answers.flatMap(({ answer }) => (isStanding(answer) ? [answer] : []))
    const [one] = told
    if (one === undefined) return limitsHere(agent)
    const add = (pick: (standing: Standing) => number): number =>
      told.reduce((sum, standing) => sum + pick(standing), 0)
    return {
      ...one,
      leases: leasesAdded(told.map(({ leases }) => leases)),
      openHolds: add(({ openHolds }) => openHolds),
      waiting: add(({ waiting }) => waiting),
    }
  }

  async function collectAll(): Promise<ResourceMetrics> {
    const { metrics } = await look({ metrics: true })
    const here = await collect()
    return metrics === undefined ? here : joinWorkers(here, [metrics])
  }

  function workers() {
    return fleet === undefined ? {} : { workers: { live: fleet.live, of: deps.workers } }
  }

  return {
    lookHere,
    limitsHere,
    workers,
    deployments: () => whole ?? deploymentStates(gateway().snapshot, health),

    note,
    collect: collectAll,

    async metrics(accept) {
      const all = await collectAll()
      return wantsOpenMetrics(accept)
        ? { type: OPEN_METRICS_TYPE, text: scrub(toOpenMetrics(metricsOf(all), exemplars.all())) }
        : { type: METRICS_TYPE, text: scrub(serializer.serialize(all)) }
    },

    async explain(question) {
      if (fleet === undefined) return gateway().explain(question)
      const { body, ...rest } = question
      const answers = await fleet.ask({ kind: 'explain', ...rest, body: body.toString() }, LOOK_MS)
      return answers.map(({ answer }) => answer).find(isObject)
    },

    async explainHere({ agent, bearer, operation, body }) {
      return gateway().explain({
        agent: String(agent),
        bearer: typeof bearer === 'string' ? bearer : undefined,
        operation: String(operation),
        body: Buffer.from(String(body)),
      })
    },

    async readiness() {
      const { limits, replicas } = await look()
      return { limits, replicas, ...workers() }
    },

    async status({ agent }) {
      const { inflight, streams, overload, limits, deployments } = await look()
      const standing = await lookAtLimits(agent)
      if (standing === undefined) return undefined
      const { shown, ...totals } = standing
      const { snapshot } = gateway()
      return {
        version,
        phase: phase.now,
        source: snapshot.source,
        startedAt: new Date(startedMs).toISOString(),
        limits,
        ...workers(),
        inflight,
        streams,
        overload,
        ...toOrder(snapshot),
        secrets: secrets().map(({ problem, ...one }) => ({ ...one, problem: problem && scrub(problem) })),
        deployments: deployments.map(({ sinceMs, models, ...one }) => ({
          ...one,
          // Names that callers chose.
          ...(models && { models: models.map((each) => ({ ...each, model: scrub(each.model) })) }),
          since: sinceMs === undefined ? null : new Date(sinceMs).toISOString(),
          price: toPriceShown(snapshot.deployments.get(one.deployment)),
        })),
        ...shown,
        ...totals,
      }
    },
  }
}

// What comes from another process of this program is looked at no closer than that it is of the kind.

function isLook(value: unknown): value is Look {
  return (
    isObject(value) &&
    Array.isArray(value.deployments) &&
    (value.metrics === undefined || isMetrics(value.metrics)) &&
    (value.exemplars === undefined || isExemplars(value.exemplars))
  )
}

function isStanding(value: unknown): value is Standing {
  return isObject(value) && isObject(value.shown) && isObject(value.leases)
}
