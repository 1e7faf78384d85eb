// The metrics of several processes as those of one gateway: counters and histograms summed, gauges as each is meant.
// Pure.

import {
  type DataPoint,
  DataPointType,
  type HistogramMetricData,
  type MetricData,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics'
import { METRICS, OTHER_AGENTS } from './metrics.ts'

type Histogram = HistogramMetricData['dataPoints'][number]['value']

/** Every process sees the same of these, so only the primary's are shown. */
const OF_THE_PRIMARY: ReadonlySet<string> = new Set(
  [
    METRICS.revocations,
    METRICS.secretAge,
    METRICS.secretRotate,
    METRICS.secretLoads,
    METRICS.deploymentState,
  ].map(({ name }) => name),
)
/** The least of all is told: good only when it is good everywhere; what all see alike. */
const LEAST: ReadonlySet<string> = new Set([METRICS.redisUp.name, METRICS.redisFleet.name])
/** Each was told at its own time, and what is told only grows: the highest is the latest. */
const MOST: ReadonlySet<string> = new Set([METRICS.budgetUsed.name])

/** What the workers counted beside what the primary says of itself and of the whole. */
export function joinWorkers(
  primary: ResourceMetrics,
  workers: readonly (readonly MetricData[])[],
): ResourceMetrics {
  const shown = workers.map((metrics) =>
    metrics.filter(({ descriptor }) => !OF_THE_PRIMARY.has(descriptor.name)),
  )
  const own = metricsOf(primary)
  const scope = primary.scopeMetrics[0]?.scope ?? { name: 'sluice' }
  return { ...primary, scopeMetrics: [{ scope, metrics: addUp([own, ...shown]) }] }
}

/**
 * With other labels for agents. Each process has labels for so many agents and `other` for the rest; of several that saw
 * different ones first it would be as many times so many.
 */
export function relabelAgents(
  metrics: readonly MetricData[],
  labelOf: (agent: string) => string,
): MetricData[] {
  const relabel = <T>(points: readonly DataPoint<T>[], add: (x: T, y: T) => T): DataPoint<T>[] =>
    joinPoints(
      [],
      points.map((point) => {
        const { agent } = point.attributes
        return typeof agent !== 'string' || agent === '' || agent === OTHER_AGENTS
          ? point
          : { ...point, attributes: { ...point.attributes, agent: labelOf(agent) } }
      }),
      add,
    )
  return metrics.map((metric): MetricData => {
    if (metric.dataPoints.every(({ attributes }) => attributes.agent === undefined)) return metric
    const add = additionOf(metric.descriptor.name)
    if (metric.dataPointType === DataPointType.SUM)
      return { ...metric, dataPoints: relabel(metric.dataPoints, add) }
    if (metric.dataPointType === DataPointType.GAUGE)
      return { ...metric, dataPoints: relabel(metric.dataPoints, add) }
    return metric
  })
}

export function metricsOf({ scopeMetrics }: ResourceMetrics): MetricData[] {
  return scopeMetrics.flatMap(({ metrics }) => metrics)
}

/** Beside what the SDK has collected what is counted apart from it. */
export function withHistograms(
  collected: ResourceMetrics,
  histograms: readonly HistogramMetricData[],
): ResourceMetrics {
  if (histograms.length === 0) return collected
  const [first, ...rest] = collected.scopeMetrics
  const scope = first?.scope ?? { name: 'sluice' }
  return {
    ...collected,
    scopeMetrics: [{ scope, metrics: [...(first?.metrics ?? []), ...histograms] }, ...rest],
  }
}

/** Without the series of gauges that are gone. */
export function withoutPast(
  metrics: ResourceMetrics,
  isOfNow: (metric: string, labels: object) => boolean,
): ResourceMetrics {
  const present = (metric: MetricData): MetricData =>
    metric.dataPointType === DataPointType.GAUGE
      ? {
          ...metric,
          dataPoints: metric.dataPoints.filter((point) => isOfNow(metric.descriptor.name, point.attributes)),
        }
      : metric
  return {
    ...metrics,
    scopeMetrics: metrics.scopeMetrics.map((one) => ({ ...one, metrics: one.metrics.map(present) })),
  }
}

/** What stays true of a process that is gone, so that no sum ever falls. */
export function lastingOf(metrics: readonly MetricData[]): MetricData[] {
  return metrics.filter(({ dataPointType }) => dataPointType !== DataPointType.GAUGE)
}

/** One list for several; what has the same name and labels becomes one. */
export function addUp(lists: readonly (readonly MetricData[])[]): MetricData[] {
  const joined = new Map<string, MetricData>()
  for (const metric of lists.flat()) {
    const { name } = metric.descriptor
    const before = joined.get(name)
    joined.set(name, before === undefined ? metric : join(before, metric))
  }
  return [...joined.values()]
}

function join(a: MetricData, b: MetricData): MetricData {
  const add = additionOf(a.descriptor.name)
  if (a.dataPointType === DataPointType.SUM && b.dataPointType === DataPointType.SUM)
    return { ...a, dataPoints: joinPoints(a.dataPoints, b.dataPoints, add) }
  if (a.dataPointType === DataPointType.GAUGE && b.dataPointType === DataPointType.GAUGE)
    return { ...a, dataPoints: joinPoints(a.dataPoints, b.dataPoints, add) }
  if (a.dataPointType === DataPointType.HISTOGRAM && b.dataPointType === DataPointType.HISTOGRAM)
    return { ...a, dataPoints: joinPoints(a.dataPoints, b.dataPoints, addHistograms) }
  return a
}

function additionOf(name: string): (x: number, y: number) => number {
  if (LEAST.has(name)) return Math.min
  return MOST.has(name) ? Math.max : (x, y) => x + y
}

function joinPoints<T>(
  a: readonly DataPoint<T>[],
  b: readonly DataPoint<T>[],
  add: (x: T, y: T) => T,
): DataPoint<T>[] {
  const points = new Map(a.map((point) => [labelsOf(point), point]))
  for (const point of b) {
    const labels = labelsOf(point)
    const before = points.get(labels)
    points.set(labels, before === undefined ? point : { ...before, value: add(before.value, point.value) })
  }
  return [...points.values()]
}

function labelsOf({ attributes }: { readonly attributes: object }): string {
  return JSON.stringify(Object.entries(attributes).toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

/** Their boundaries are the same, for the instruments are. */
function addHistograms(a: Histogram, b: Histogram): Histogram {
  const counts = a.buckets.counts.map((count, i) => count + (b.buckets.counts[i] ?? 0))
  return {
    ...a,
    buckets: { boundaries: a.buckets.boundaries, counts },
    count: a.count + b.count,
    sum: (a.sum ?? 0) + (b.sum ?? 0),
    min: Math.min(a.min ?? Number.POSITIVE_INFINITY, b.min ?? Number.POSITIVE_INFINITY),
    max: Math.max(a.max ?? Number.NEGATIVE_INFINITY, b.max ?? Number.NEGATIVE_INFINITY),
  }
}

/** Metrics as another process of the same program sent them. */
export function isMetrics(value: unknown): value is readonly MetricData[] {
  return (
    Array.isArray(value) && value.every((one) => typeof one === 'object' && one?.descriptor !== undefined)
  )
}
