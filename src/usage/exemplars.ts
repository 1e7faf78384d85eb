// The last request behind each series of some metrics, bucket by bucket, so that a number leads to a trace and a log
// line. Knows ids, never content. As many as those metrics have series and buckets, and no more.

import type { Clock } from '../types.ts'
import { bucketOf, METRICS, type Metric } from './metrics.ts'

/** One request that was measured. */
export interface Exemplar {
  /** Name of the metric. */
  readonly metric: string
  readonly labels: Labels
  /** Which bucket of a histogram; 0 of a counter. */
  readonly bucket: number
  readonly value: number
  /** Unix ms. */
  readonly atMs: number
  readonly requestId: string
  /** Where it is recorded in a trace. */
  readonly traceId: string | undefined
}

/** By name; those of a metric that was collected may be of other types, of which none has exemplars. */
type Labels = Readonly<Record<string, unknown>>

export interface Exemplars {
  note(metric: Metric, measured: Measured, of: Pick<Exemplar, 'requestId' | 'traceId'>): void
  /** Notes for one series, for whoever measures in it again and again. */
  of(metric: Metric, labels: Labels): Noter
  /** Takes in what another process has. */
  learn(exemplars: readonly Exemplar[]): void
  all(): readonly Exemplar[]
}

export interface Noter {
  note(value: number, of: Pick<Exemplar, 'requestId' | 'traceId'>): void
}

export interface Measured {
  readonly value: number
  readonly labels: Labels
}

/** Metrics that have them; their labels are few, and none of them is an agent. */
export const EXEMPLIFIED: readonly Metric[] = [
  METRICS.requestSeconds,
  METRICS.firstTokenSeconds,
  METRICS.overheadSeconds,
  METRICS.attempts,
  METRICS.failovers,
]

/** One that leads to a trace gives way to one that does not only behind this, so that sampling leaves some to be seen. */
const KEEP_TRACED_MS = 600_000

export function createExemplars({ clock }: { clock: Pick<Clock, 'wall'> }): Exemplars {
  const last = new Map<string, Place>()

  function placeAt(at: At): Place {
    const name = placeOf(at)
    let place = last.get(name)
    if (place === undefined) last.set(name, (place = new Place(at)))
    return place
  }

  function of({ name, kind }: Metric, labels: Labels): Noter {
    /** By bucket. */
    const places: Place[] = []
    return {
      note(value, { requestId, traceId }) {
        const bucket = kind === 'histogram' ? bucketOf(value) : 0
        const place = (places[bucket] ??= placeAt({ metric: name, labels, bucket }))
        place.take(value, clock.wall(), requestId, traceId)
      },
    }
  }

  return {
    of,
    note: (metric, { value, labels }, id) => of(metric, labels).note(value, id),
    learn(exemplars) {
      for (const one of exemplars) placeAt(one).take(one.value, one.atMs, one.requestId, one.traceId)
    },
    all: () => Array.from(last.values(), (place) => ({ ...place })),
  }
}

type At = Pick<Exemplar, 'metric' | 'labels' | 'bucket'>

/** Where one is kept. It is written over by the next, for with each request there are some. */
class Place implements Exemplar {
  readonly metric: string
  readonly labels: Labels
  readonly bucket: number
  value = 0
  atMs = Number.NEGATIVE_INFINITY
  requestId = ''
  traceId: string | undefined = undefined

  constructor({ metric, labels, bucket }: At) {
    this.metric = metric
    this.labels = labels
    this.bucket = bucket
  }

  take(value: number, atMs: number, requestId: string, traceId: string | undefined): void {
    if (!this.givesWay(atMs, traceId)) return
    this.value = value
    this.atMs = atMs
    this.requestId = requestId
    this.traceId = traceId
  }

  givesWay(atMs: number, traceId: string | undefined): boolean {
    if (atMs < this.atMs) return false
    return traceId !== undefined || this.traceId === undefined || atMs - this.atMs > KEEP_TRACED_MS
  }
}

/** One text for each place that has one: its metric, the values of its labels in their order, and the bucket. */
export function placeOf({ metric, labels, bucket }: At): string {
  let place = `${bucket}\0${metric}`
  for (const name of NAMES[metric] ?? []) place += `\0${labels[name]}`
  return place
}

/** Label names by metric. */
const NAMES: Readonly<Record<string, readonly string[]>> = Object.fromEntries(
  EXEMPLIFIED.map(({ name, labels }) => [name, labels]),
)

/** Exemplars as another process of the same program sent them. */
export function isExemplars(value: unknown): value is readonly Exemplar[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'object' && one?.requestId !== undefined)
}
