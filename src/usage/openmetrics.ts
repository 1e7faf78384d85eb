// Metrics as OpenMetrics 1.0 text (https://prometheus.io/docs/specs/om/open_metrics_spec/), the format in which a number
// can name a request it was made of. Pure. Whoever asks for the older text gets that, without exemplars.

import { DataPointType, type MetricData } from '@opentelemetry/sdk-metrics'
import { type Exemplar, placeOf } from './exemplars.ts'

export const OPEN_METRICS_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8'

export function toOpenMetrics(metrics: readonly MetricData[], exemplars: readonly Exemplar[]): string {
  const found = new Map(exemplars.map((one) => [placeOf(one), one]))
  const families = metrics.flatMap((metric) => toFamily(metric, found))
  return `${families.join('')}# EOF\n`
}

type Found = ReadonlyMap<string, Exemplar>

function toFamily(metric: MetricData, found: Found): string[] {
  const { name, description } = metric.descriptor
  const isCounter = metric.dataPointType === DataPointType.SUM && metric.isMonotonic
  const family = isCounter ? name.replace(/_total$/, '') : name
  const type = isCounter
    ? 'counter'
    : metric.dataPointType === DataPointType.HISTOGRAM
      ? 'histogram'
      : 'gauge'
  const samples = toSamples(metric, isCounter ? `${family}_total` : name, found)
  if (samples.length === 0) return []
  return [
    `# TYPE ${family} ${type}\n`,
    // A unit is the last word of the name, or there is none.
    family.endsWith('_seconds') ? `# UNIT ${family} seconds\n` : '',
    `# HELP ${family} ${toEscaped(description)}\n`,
    ...samples,
  ]
}

function toSamples(metric: MetricData, name: string, found: Found): string[] {
  switch (metric.dataPointType) {
    case DataPointType.SUM:
    case DataPointType.GAUGE:
      return metric.dataPoints.map(({ attributes, value }) => {
        const exemplar = found.get(placeOf({ metric: metric.descriptor.name, labels: attributes, bucket: 0 }))
        return `${name}${toLabels(attributes)} ${toNumber(value)}${toSuffix(exemplar)}\n`
      })
    case DataPointType.HISTOGRAM:
      return metric.dataPoints.map(({ attributes, value }) => {
        const { boundaries, counts } = value.buckets
        let count = 0
        const buckets = counts.map((more, i) => {
          count += more
          const le = toCanonical(boundaries[i] ?? Number.POSITIVE_INFINITY)
          const exemplar = found.get(
            placeOf({ metric: metric.descriptor.name, labels: attributes, bucket: i }),
          )
          return `${name}_bucket${toLabels({ ...attributes, le })} ${count}${toSuffix(exemplar)}\n`
        })
        const labels = toLabels(attributes)
        return `${buckets.join('')}${name}_count${labels} ${count}\n${name}_sum${labels} ${toNumber(value.sum ?? 0)}\n`
      })
    default:
      return []
  }
}

/** The ids of an exemplar; both are far from the 128 characters that its labels may have. */
function toSuffix(exemplar: Exemplar | undefined): string {
  if (exemplar === undefined) return ''
  const { requestId, traceId, value, atMs } = exemplar
  const ids = traceId === undefined ? { request_id: requestId } : { trace_id: traceId, request_id: requestId }
  return ` # ${toLabels(ids)} ${toNumber(value)} ${(atMs / 1000).toFixed(3)}`
}

function toLabels(labels: object): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${toEscaped(String(value))}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function toEscaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')
}

function toNumber(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  if (value === Number.NEGATIVE_INFINITY) return '-Inf'
  return String(value)
}

/** Bounds are floats, and are written as such, so that they are the same text whoever writes them. */
function toCanonical(bound: number): string {
  return Number.isInteger(bound) ? `${bound}.0` : toNumber(bound)
}

/** Whether the header `accept` asks for OpenMetrics at least as much as for other text (RFC 9110 §12.5.1). */
export function wantsOpenMetrics(accept: string | undefined): boolean {
  let [open, plain] = [0, 0]
  for (const range of (accept ?? '').toLowerCase().split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim())
    const q = Number(parameters.find((one) => one.startsWith('q='))?.slice(2) ?? 1)
    if (type === 'application/openmetrics-text') open = Math.max(open, q || 0)
    else if (type === 'text/plain') plain = Math.max(plain, q || 0)
  }
  return open > 0 && open >= plain
}
