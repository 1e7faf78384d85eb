// A collector as the tests play it: takes OTLP/HTTP in JSON (https://opentelemetry.io/docs/specs/otlp/) and is strict
// about its form. Knows nothing of sluice.

import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { isRecord } from './provider-script.ts'

export interface CollectedSpan {
  readonly name: string
  /** 2 server, 3 client, 1 internal. */
  readonly kind: number
  readonly traceId: string
  readonly spanId: string
  /** '' of a root. */
  readonly parentSpanId: string
  readonly traceState: string
  /** Unix ns. */
  readonly from: bigint
  readonly to: bigint
  /** 2 for an error. */
  readonly status: number
  readonly attributes: Attributes
  readonly events: readonly { readonly name: string; readonly attributes: Attributes }[]
  readonly resource: Attributes
}

export interface CollectedPoint {
  readonly metric: string
  readonly attributes: Attributes
  /** Of a histogram its count. */
  readonly value: number
  readonly resource: Attributes
}

type Attributes = Readonly<Record<string, string | number | boolean>>

export interface Collector {
  readonly url: string
  readonly spans: CollectedSpan[]
  /** Of the last export. */
  points: readonly CollectedPoint[]
  /** Headers of each request. */
  readonly heads: IncomingHttpHeaders[]
  /** Everything that came, as text. */
  readonly text: string
  /** What was no OTLP. */
  readonly faults: string[]
  /** Resolves with the spans once as many have come. */
  waitForSpans(count: number, timeoutMs?: number): Promise<readonly CollectedSpan[]>
  waitForPoints(timeoutMs?: number): Promise<readonly CollectedPoint[]>
  /** From now on it takes what comes and answers nothing. */
  fallSilent(): void
  close(): Promise<void>
}

export async function createCollector(): Promise<Collector> {
  const spans: CollectedSpan[] = []
  const heads: IncomingHttpHeaders[] = []
  const faults: string[] = []
  const news = new Set<() => void>()
  let text = ''
  let isSilent = false
  const server = createServer(async (req, res) => {
    heads.push(req.headers)
    const chunks: Buffer[] = []
    for await (const chunk of req) chunks.push(chunk)
    if (isSilent) return
    const body = Buffer.concat(chunks).toString()
    text += body
    try {
      if (req.method !== 'POST') throw new Error(`${req.method} is not POST`)
      if (req.headers['content-type'] !== 'application/json') throw new Error('it is not JSON')
      const parsed: unknown = JSON.parse(body)
      if (req.url === '/v1/traces') spans.push(...readSpans(parsed))
      else if (req.url === '/v1/metrics') collector.points = readPoints(parsed)
      else throw new Error(`there is no ${req.url}`)
      res.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    } catch (error) {
      faults.push(String(error))
      res.writeHead(400).end()
    }
    for (const tell of news) tell()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))

  function until<T>(timeoutMs: number, look: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        news.delete(tell)
        reject(new Error(`${timeoutMs} ms went by; ${spans.length} spans, faults: ${faults.join('; ')}`))
      }, timeoutMs)
      function tell(): void {
        const found = look()
        if (found === undefined) return
        clearTimeout(timer)
        news.delete(tell)
        resolve(found)
      }
      news.add(tell)
      tell()
    })
  }

  const collector: Collector = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    points: [],
    heads,
    faults,
    get text() {
      return text
    },
    waitForSpans: (count, timeoutMs = 10_000) =>
      until(timeoutMs, () => (spans.length >= count ? spans : undefined)),
    waitForPoints(timeoutMs = 10_000) {
      collector.points = []
      return until(timeoutMs, () => (collector.points.length > 0 ? collector.points : undefined))
    },
    fallSilent() {
      isSilent = true
    },
    close() {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
  return collector
}

function readSpans(body: unknown): CollectedSpan[] {
  return list(body, 'resourceSpans').flatMap((part) => {
    const resource = attributesOf(part.resource)
    return list(part, 'scopeSpans').flatMap((scope) =>
      list(scope, 'spans').map((span) => {
        const [from, to] = [nanoseconds(span.startTimeUnixNano), nanoseconds(span.endTimeUnixNano)]
        if (to < from) throw new Error('a span that ends before it begins')
        return {
          name: string(span.name),
          kind: Number(span.kind),
          traceId: hex(span.traceId, 32),
          spanId: hex(span.spanId, 16),
          parentSpanId: span.parentSpanId === undefined ? '' : hex(span.parentSpanId, 16),
          traceState: string(span.traceState ?? ''),
          from,
          to,
          status: isRecord(span.status) ? Number(span.status.code ?? 0) : 0,
          attributes: attributesOf(span),
          events: list(span, 'events').map((event) => ({
            name: string(event.name),
            attributes: attributesOf(event),
          })),
          resource,
        }
      }),
    )
  })
}

function readPoints(body: unknown): CollectedPoint[] {
  return list(body, 'resourceMetrics').flatMap((part) => {
    const resource = attributesOf(part.resource)
    return list(part, 'scopeMetrics').flatMap((scope) =>
      list(scope, 'metrics').flatMap((metric) => {
        const kinds = ['sum', 'gauge', 'histogram'].filter((kind) => isRecord(metric[kind]))
        if (kinds.length !== 1) throw new Error(`${metric.name} is of ${kinds.length} kinds`)
        return list(metric[kinds[0] ?? ''], 'dataPoints').map((point) => {
          const value = Number(point.asInt ?? point.asDouble ?? point.count)
          if (!Number.isFinite(value)) throw new Error(`${metric.name} has no number`)
          return { metric: string(metric.name), attributes: attributesOf(point), value, resource }
        })
      }),
    )
  })
}

function attributesOf(of: unknown): Attributes {
  const pairs = list(of, 'attributes').map(({ key, value }) => {
    const values = isRecord(value) ? Object.entries(value) : []
    const [kind, inner] = values[0] ?? []
    if (values.length !== 1) throw new Error(`${String(key)} has ${values.length} values`)
    if (kind === 'stringValue' || kind === 'boolValue') return [string(key), inner]
    if (kind === 'intValue' || kind === 'doubleValue') return [string(key), Number(inner)]
    throw new Error(`${String(key)} is a ${kind}`)
  })
  if (new Set(pairs.map(([key]) => key)).size < pairs.length) throw new Error('an attribute stands twice')
  return Object.fromEntries(pairs)
}

function list(of: unknown, name: string): Record<string, unknown>[] {
  const found: unknown = isRecord(of) ? of[name] : undefined
  if (found === undefined) return []
  if (!Array.isArray(found) || !found.every(isRecord)) throw new Error(`${name} is no list of objects`)
  return found
}

function string(value: unknown): string {
  if (typeof value !== 'string') throw new Error(`${JSON.stringify(value)} is no text`)
  return value
}

function hex(value: unknown, digits: number): string {
  const text = string(value)
  if (!new RegExp(`^(?!0+$)[0-9a-f]{${digits}}$`).test(text)) throw new Error(`${text} is no id`)
  return text
}

/** A 64-bit number is a decimal text in JSON of Protocol Buffers. */
function nanoseconds(value: unknown): bigint {
  if (typeof value !== 'string' || !/^\d{19}$/.test(value)) throw new Error(`${String(value)} is no time`)
  return BigInt(value)
}
