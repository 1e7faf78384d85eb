// The instruments of design §9, through the OpenTelemetry API: names, labels, buckets. Labels are names of the
// configuration and words of closed lists only, so that no caller can make a series.

import { type Meter, ValueType } from '@opentelemetry/api'
import { AggregationTemporality, DataPointType, type HistogramMetricData } from '@opentelemetry/sdk-metrics'

/** One metric as Prometheus shows it; also a row of the generated reference. */
export interface Metric {
  readonly name: string
  readonly kind: 'counter' | 'histogram' | 'gauge'
  readonly labels: readonly string[]
  readonly description: string
}

/** Every metric there is. Histograms are in seconds. */
export const METRICS = {
  requests: {
    name: 'sluice_requests_total',
    kind: 'counter',
    labels: ['agent', 'route', 'operation', 'status', 'code'],
    description: 'Requests by how they ended; code is the wire code, ok on success.',
  },
  requestSeconds: {
    name: 'sluice_request_duration_seconds',
    kind: 'histogram',
    labels: ['route', 'tier', 'stream'],
    description: 'Time from the head of a request to its end.',
  },
  firstTokenSeconds: {
    name: 'sluice_first_token_seconds',
    kind: 'histogram',
    labels: ['route', 'tier', 'deployment'],
    description: 'Time from the head of a request to the first content of a streamed answer.',
  },
  overheadSeconds: {
    name: 'sluice_overhead_seconds',
    kind: 'histogram',
    labels: ['operation'],
    description: 'Time of a request in which no upstream was at work.',
  },
  attempts: {
    name: 'sluice_attempts_total',
    kind: 'counter',
    labels: ['tier', 'deployment', 'outcome', 'reason'],
    description: 'Calls to deployments, and candidates skipped, by how they ended.',
  },
  attemptSeconds: {
    name: 'sluice_attempt_duration_seconds',
    kind: 'histogram',
    labels: ['deployment'],
    description: 'Time of one call to a deployment.',
  },
  failovers: {
    name: 'sluice_failovers_total',
    kind: 'counter',
    labels: ['route', 'from', 'to', 'reason'],
    description: 'Moves of a request from one tier to the next.',
  },
  degraded: {
    name: 'sluice_degraded_total',
    kind: 'counter',
    labels: ['route', 'tier'],
    description: 'Answers by another tier than the first of their route.',
  },
  deploymentState: {
    name: 'sluice_deployment_state',
    kind: 'gauge',
    labels: ['deployment', 'state'],
    description: '1 for the state a deployment is in; of several workers the worst.',
  },
  tokens: {
    name: 'sluice_tokens_total',
    kind: 'counter',
    labels: ['agent', 'deployment', 'kind'],
    description: 'Tokens used: input, cached (part of input), output, reasoning (part of output).',
  },
  cost: {
    name: 'sluice_cost_usd_total',
    kind: 'counter',
    labels: ['agent', 'deployment'],
    description:
      'US dollars that tokens cost, by the price of the deployment; those without a price are not in it.',
  },
  unpriced: {
    name: 'sluice_unpriced_requests_total',
    kind: 'counter',
    labels: ['deployment'],
    description: 'Calls that used tokens of which nobody said what they cost.',
  },
  refusals: {
    name: 'sluice_limit_refusals_total',
    kind: 'counter',
    labels: ['agent', 'limit'],
    description:
      'Requests refused by a limit: agent, bearer, route or gateway, and requests, tokens, concurrency or budget, as in agent:requests. One of a provider or a deployment is routed around: see sluice_attempts_total.',
  },
  leasePermits: {
    name: 'sluice_limit_lease_permits',
    kind: 'gauge',
    labels: [],
    description: 'Requests that can be admitted here without a question, from leases in hand.',
  },
  openHolds: {
    name: 'sluice_limit_open_holds',
    kind: 'gauge',
    labels: [],
    description: 'Reservations of requests and attempts under way here, still to be settled.',
  },
  slots: {
    name: 'sluice_limit_slots',
    kind: 'gauge',
    labels: [],
    description: 'Concurrency slots this replica holds, over all limits, those kept ready included.',
  },
  waiting: {
    name: 'sluice_limit_waiting',
    kind: 'gauge',
    labels: [],
    description: 'Requests that wait for their turn (limits.wait).',
  },
  owed: {
    name: 'sluice_limit_owed',
    kind: 'gauge',
    labels: ['kind'],
    description:
      'Admitted here while Redis was away and still to be charged there, over all limits: requests, tokens.',
  },
  budgetUsed: {
    name: 'sluice_limit_budget_used_ratio',
    kind: 'gauge',
    labels: ['agent'],
    description:
      'Part of its budget that an agent has used in the present day or month, as last told here; what is reserved or on lease counts. The highest of all replicas is the latest.',
  },
  redisRoundTrips: {
    name: 'sluice_redis_round_trips_total',
    kind: 'counter',
    labels: [],
    description: 'Trips to Redis.',
  },
  redisUp: {
    name: 'sluice_redis_up',
    kind: 'gauge',
    labels: [],
    description: '1 while limits are counted in Redis, by every worker.',
  },
  redisFleet: {
    name: 'sluice_redis_fleet_size',
    kind: 'gauge',
    labels: [],
    description: 'Replicas that share the limits, as last seen in Redis; this one included.',
  },
  inflight: { name: 'sluice_inflight', kind: 'gauge', labels: [], description: 'Requests under way.' },
  streams: { name: 'sluice_streams', kind: 'gauge', labels: [], description: 'Streamed answers under way.' },
  revocations: {
    name: 'sluice_revocations_total',
    kind: 'counter',
    labels: ['source'],
    description: 'Bearers revoked: file, taken out of a file here; fleet, told by another replica.',
  },
  secretAge: {
    name: 'sluice_secret_age_seconds',
    kind: 'gauge',
    labels: ['secret'],
    description:
      'Time since a secret got its present value: since its file was written, or since this process first saw it where it comes from the environment.',
  },
  secretRotate: {
    name: 'sluice_secret_rotate_seconds',
    kind: 'gauge',
    labels: ['secret'],
    description: 'Age at which a secret should have been replaced (apiKey.rotate), where one is set.',
  },
  keyUsesOutsideHours: {
    name: 'sluice_key_uses_outside_hours_total',
    kind: 'counter',
    labels: ['provider', 'secret'],
    description:
      'Calls with a provider key outside its hours (apiKey.hours); 0 from the start where hours are set.',
  },
  secretLoads: {
    name: 'sluice_secret_loads_total',
    kind: 'counter',
    labels: ['secret', 'outcome'],
    description: 'Loads of secrets.',
  },
} as const satisfies Record<string, Metric>

/** Upper bounds of the buckets, good from 1 ms to 10 min. */
export const SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
]

/**
 * For the provider of the meters. Labels are bounded here, and by the configuration; the library's own bound of 2,000
 * series to an instrument would fold all agents behind the first few hundred into one series without any label.
 */
export const VIEWS = [{ instrumentName: '*', aggregationCardinalityLimit: 1_000_000 }]

/** Agents beyond this many share one label. */
const MAX_AGENTS = 2000
export const OTHER_AGENTS = 'other'

type Labels<M extends Metric> = Readonly<Record<M['labels'][number], string>>
interface Counter<M extends Metric> {
  add(value: number, labels: Labels<M>): void
  /** The series of these labels, for whoever counts in it again and again. */
  of(labels: Labels<M>): Count
}
interface Histogram<M extends Metric> {
  record(value: number, labels: Labels<M>): void
  of(labels: Labels<M>): Distribution
}

/** One series of a counter. */
export interface Count {
  add(value: number): void
}

/** One series of a histogram over `SECONDS`. */
export interface Distribution {
  record(value: number): void
}
type Catalogue = typeof METRICS

export interface Instruments {
  readonly requests: Counter<Catalogue['requests']>
  readonly requestSeconds: Histogram<Catalogue['requestSeconds']>
  readonly firstTokenSeconds: Histogram<Catalogue['firstTokenSeconds']>
  readonly overheadSeconds: Histogram<Catalogue['overheadSeconds']>
  readonly attempts: Counter<Catalogue['attempts']>
  readonly attemptSeconds: Histogram<Catalogue['attemptSeconds']>
  readonly failovers: Counter<Catalogue['failovers']>
  readonly degraded: Counter<Catalogue['degraded']>
  readonly tokens: Counter<Catalogue['tokens']>
  readonly cost: Counter<Catalogue['cost']>
  readonly unpriced: Counter<Catalogue['unpriced']>
  readonly refusals: Counter<Catalogue['refusals']>
  readonly revocations: Counter<Catalogue['revocations']>
  readonly secretLoads: Counter<Catalogue['secretLoads']>
  /** Whether a series of a gauge was seen at the last look: the SDK goes on with what is gone, as it last was. */
  isOfNow(metric: string, labels: object): boolean
  /** Those with something in them: the SDK does not collect them. */
  histograms(): readonly HistogramMetricData[]
  /** The label of an agent: its name, or `other` beyond the first 2,000. */
  agentLabel(agent: string): string
}

/** The series of a metric by the values of their labels, each made when it is first asked for. */
function createSeries<L extends Readonly<Record<string, string>>, S>(
  names: readonly string[],
  make: (labels: L) => S,
) {
  const series = new Map<string, S>()
  return {
    all: () => series.values(),
    of(labels: L): S {
      const key = toPlace(names, labels)
      let known = series.get(key)
      if (known === undefined) series.set(key, (known = make({ ...labels })))
      return known
    },
  }
}

class Sum<L> implements Count {
  readonly labels: L
  value = 0

  constructor(labels: L) {
    this.labels = labels
  }

  add(value: number): void {
    this.value += value
  }
}

/** One series of a histogram, bucket by bucket. */
class Buckets implements Distribution {
  readonly #labels: Readonly<Record<string, string>>
  readonly #sinceMs: number
  readonly #counts: number[] = Array.from({ length: SECONDS.length + 1 }, () => 0)
  #sum = 0
  #count = 0

  constructor(labels: Readonly<Record<string, string>>, sinceMs: number) {
    this.#labels = labels
    this.#sinceMs = sinceMs
  }

  record(value: number): void {
    const bucket = bucketOf(value)
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1
    this.#sum += value
    this.#count += 1
  }

  at(nowMs: number): HistogramMetricData['dataPoints'][number] {
    const buckets = { boundaries: [...SECONDS], counts: [...this.#counts] }
    return {
      startTime: toHrTime(this.#sinceMs),
      endTime: toHrTime(nowMs),
      attributes: this.#labels,
      value: { buckets, sum: this.#sum, count: this.#count },
    }
  }
}

/** The first whose upper bound is not below the value; the one behind the last has none. */
export function bucketOf(seconds: number): number {
  let at = 0
  while (at < SECONDS.length && seconds > (SECONDS[at] as number)) at += 1
  return at
}

function toHrTime(ms: number): [number, number] {
  const seconds = Math.floor(ms / 1000)
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)]
}

/** What is read at each scrape. */
export interface Gauges {
  /** Unix milliseconds, for when a series began. */
  readonly wall: () => number
  readonly inflight: () => number
  readonly streams: () => number
  /** Undefined without Redis. */
  readonly redisUp: () => boolean | undefined
  /** Undefined without Redis. */
  readonly redisFleet: () => number | undefined
  readonly redisRoundTrips: () => number
  /** Over all limits, of this replica. */
  readonly limits: () => {
    readonly leased: number
    readonly slots: number
    readonly owed: { readonly requests: number; readonly tokens: number }
  }
  /** Of agents that have one and called in its present period. */
  readonly budgets: () => readonly { readonly agent: string; readonly used: number }[]
  readonly openHolds: () => number
  readonly waiting: () => number
  readonly deployments: () => readonly { readonly deployment: string; readonly state: string }[]
  readonly secrets: () => readonly { readonly secret: string; readonly ageSeconds: number }[]
  /** Of secrets that have a rotation. */
  readonly rotations: () => readonly { readonly secret: string; readonly rotateSeconds: number }[]
  /** Of keys that have hours. */
  readonly keyUses: () => readonly {
    readonly provider: string
    readonly secret: string
    readonly uses: number
  }[]
}

export function createInstruments(meter: Meter, gauges: Gauges): Instruments {
  /** Summed here and read when somebody looks: the SDK's own sorts and joins all labels with each request. */
  const counter = <M extends Metric>({ name, description, labels: names }: M): Counter<M> => {
    const { all, of } = createSeries(names, (labels: Labels<M>) => new Sum(labels))
    meter.createObservableCounter(name, { description }).addCallback((result) => {
      for (const { labels, value } of all()) result.observe(value, labels)
    })
    return { of, add: (value, labels) => of(labels).add(value) }
  }
  /** The SDK has no histogram that is read when somebody looks: these are put beside what it collects. */
  const histograms: (() => HistogramMetricData)[] = []
  const histogram = <M extends Metric>({ name, description, labels: names }: M): Histogram<M> => {
    const { all, of } = createSeries(names, (labels: Labels<M>) => new Buckets(labels, gauges.wall()))
    histograms.push(() => ({
      descriptor: { name, description, unit: '', valueType: ValueType.DOUBLE },
      aggregationTemporality: AggregationTemporality.CUMULATIVE,
      dataPointType: DataPointType.HISTOGRAM,
      dataPoints: [...all()].map((one) => one.at(gauges.wall())),
    }))
    return { of, record: (value, labels) => of(labels).record(value) }
  }
  const gauge = ({ name, description }: Metric) => meter.createObservableGauge(name, { description })
  /** By metric, the labels that were seen at the last look. */
  const ofNow = new Map<string, Set<string>>()
  const observe = (metric: Metric, read: (see: (value: number, labels?: object) => void) => void) => {
    const { name, kind, description } = metric
    const made = kind === 'counter' ? meter.createObservableCounter(name, { description }) : gauge(metric)
    made.addCallback((result) => {
      const seen = new Set<string>()
      if (kind === 'gauge') ofNow.set(name, seen)
      read((value, labels = {}) => {
        seen.add(toKey(labels))
        result.observe(value, { ...labels })
      })
    })
  }

  observe(METRICS.inflight, (see) => see(gauges.inflight()))
  observe(METRICS.streams, (see) => see(gauges.streams()))
  observe(METRICS.redisRoundTrips, (see) => see(gauges.redisRoundTrips()))
  observe(METRICS.redisUp, (see) => {
    const up = gauges.redisUp()
    if (up !== undefined) see(up ? 1 : 0)
  })
  observe(METRICS.redisFleet, (see) => {
    const size = gauges.redisFleet()
    if (size !== undefined) see(size)
  })
  observe(METRICS.openHolds, (see) => see(gauges.openHolds()))
  observe(METRICS.waiting, (see) => see(gauges.waiting()))
  const [leased, slots, owed] = [gauge(METRICS.leasePermits), gauge(METRICS.slots), gauge(METRICS.owed)]
  // One walk over all limits for the three of them.
  meter.addBatchObservableCallback(
    (result) => {
      const totals = gauges.limits()
      result.observe(leased, totals.leased)
      result.observe(slots, totals.slots)
      result.observe(owed, totals.owed.requests, { kind: 'requests' })
      result.observe(owed, totals.owed.tokens, { kind: 'tokens' })
    },
    [leased, slots, owed],
  )
  observe(METRICS.deploymentState, (see) => {
    for (const { deployment, state } of gauges.deployments()) see(1, { deployment, state })
  })
  observe(METRICS.secretAge, (see) => {
    for (const { secret, ageSeconds } of gauges.secrets()) see(ageSeconds, { secret })
  })
  observe(METRICS.secretRotate, (see) => {
    for (const { secret, rotateSeconds } of gauges.rotations()) see(rotateSeconds, { secret })
  })
  observe(METRICS.keyUsesOutsideHours, (see) => {
    for (const { provider, secret, uses } of gauges.keyUses()) see(uses, { provider, secret })
  })

  const agents = new Set<string>()
  function agentLabel(agent: string): string {
    if (agents.has(agent)) return agent
    if (agents.size >= MAX_AGENTS) return OTHER_AGENTS
    agents.add(agent)
    return agent
  }
  observe(METRICS.budgetUsed, (see) => {
    // Of those that share a label the highest is told: it is whom an alert is for.
    const most = new Map<string, number>()
    for (const { agent, used } of gauges.budgets()) {
      const label = agentLabel(agent)
      most.set(label, Math.max(used, most.get(label) ?? 0))
    }
    for (const [agent, used] of most) see(used, { agent })
  })

  return {
    requests: counter(METRICS.requests),
    requestSeconds: histogram(METRICS.requestSeconds),
    firstTokenSeconds: histogram(METRICS.firstTokenSeconds),
    overheadSeconds: histogram(METRICS.overheadSeconds),
    attempts: counter(METRICS.attempts),
    attemptSeconds: histogram(METRICS.attemptSeconds),
    failovers: counter(METRICS.failovers),
    degraded: counter(METRICS.degraded),
    tokens: counter(METRICS.tokens),
    cost: counter(METRICS.cost),
    unpriced: counter(METRICS.unpriced),
    refusals: counter(METRICS.refusals),
    histograms: () => histograms.map((look) => look()).filter(({ dataPoints }) => dataPoints.length > 0),
    revocations: counter(METRICS.revocations),
    secretLoads: counter(METRICS.secretLoads),
    isOfNow: (metric, labels) => ofNow.get(metric)?.has(toKey(labels)) ?? true,
    agentLabel,
  }
}

/** The values of labels in the order of their names; no value holds what parts them. */
function toPlace(names: readonly string[], labels: Readonly<Record<string, string>>): string {
  let place = ''
  for (const name of names) place += `${labels[name]}\0`
  return place
}

/** Always in the order of the catalogue, for all that is compared is made here. */
function toKey(labels: object): string {
  return JSON.stringify(labels)
}
