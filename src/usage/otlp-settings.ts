// What the standard variables of OpenTelemetry say of where traces and metrics go. Pure; loads no library, so that a
// gateway without a collector pays nothing. Headers, certificates, time limits and compression the exporters read
// themselves, from the variables of the specification; only their secrets are read here.

/** Attributes of a resource. */
export type ResourceAttributes = Readonly<Record<string, string>>

export interface OtlpSettings {
  /** Undefined: not sent. */
  readonly tracesUrl: string | undefined
  readonly metricsUrl: string | undefined
  /** How each is written. */
  readonly protocols: { readonly traces: OtlpProtocol; readonly metrics: OtlpProtocol }
  readonly resource: ResourceAttributes
  readonly sampler: { readonly kind: SamplerKind; readonly ratio: number }
  /** Whether trace context is read from callers and passed on to providers. */
  readonly propagates: boolean
  readonly batch: {
    readonly scheduledDelayMillis: number
    readonly exportTimeoutMillis: number
    readonly maxQueueSize: number
    readonly maxExportBatchSize: number
  }
  readonly metricsEveryMs: number
  /** What the variables hold that no text may: values of headers, the password of an address. */
  readonly secrets: readonly string[]
  /** What is said and cannot be done. */
  readonly warnings: readonly string[]
}

/** What is spoken; the first unless another is asked for. */
const PROTOCOLS = ['http/json', 'http/protobuf'] as const
export type OtlpProtocol = (typeof PROTOCOLS)[number]

/** Half of what the specification has: to write so many as JSON takes 2 ms, for which every request waits. */
const BATCH_SPANS = 256

const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const
export type SamplerKind = (typeof SAMPLERS)[number]

type Environment = Readonly<Record<string, string | undefined>>

export function readOtlpSettings(environment: Environment, version: string): OtlpSettings {
  const warnings: string[] = []
  /** An empty variable is as good as none (specification, Environment Variable Specification). */
  const read = (name: string): string | undefined => environment[name]?.trim() || undefined
  const warn = (name: string, why: string): undefined => void warnings.push(`${name}: ${why}`)

  function readUrl(signal: 'traces' | 'metrics'): string | undefined {
    if (read('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return undefined
    const chosen = read(`OTEL_${signal.toUpperCase()}_EXPORTER`)
    if (chosen === 'none') return undefined
    const own = `OTEL_EXPORTER_OTLP_${signal.toUpperCase()}_ENDPOINT`
    const name = read(own) === undefined ? 'OTEL_EXPORTER_OTLP_ENDPOINT' : own
    const text = read(name)
    if (text === undefined) return undefined
    if (chosen !== undefined && chosen !== 'otlp')
      warn(`OTEL_${signal.toUpperCase()}_EXPORTER`, 'only otlp and none are known, so it is sent by OTLP')
    const url = URL.canParse(text) ? new URL(text) : undefined
    if (url === undefined || !/^https?:$/.test(url.protocol))
      return warn(name, `is no http address, so ${signal} are not sent`)
    // Of one for all signals the path is the beginning; one for this signal is taken as it is.
    if (name !== own) url.pathname = `${url.pathname.replace(/\/+$/, '')}/v1/${signal}`
    return url.href
  }

  function readProtocol(signal: 'traces' | 'metrics'): OtlpProtocol {
    const own = `OTEL_EXPORTER_OTLP_${signal.toUpperCase()}_PROTOCOL`
    const name = read(own) === undefined ? 'OTEL_EXPORTER_OTLP_PROTOCOL' : own
    const text = read(name) ?? PROTOCOLS[0]
    const protocol = PROTOCOLS.find((one) => one === text)
    if (protocol !== undefined) return protocol
    const why =
      text === 'grpc'
        ? 'gRPC is not spoken, and its port is another'
        : `must be one of ${PROTOCOLS.join(', ')}`
    warn(name, `${why}; ${signal} are sent as ${PROTOCOLS[0]}`)
    return PROTOCOLS[0]
  }

  function readNumber(name: string, [fallback, least, most]: readonly [number, number, number]): number {
    const text = read(name)
    if (text === undefined) return fallback
    const value = Number(text)
    if (value >= least && value <= most) return value
    warn(name, `must be a number from ${least} to ${most}, so it is ${fallback}`)
    return fallback
  }

  function readSampler(): OtlpSettings['sampler'] {
    const text = read('OTEL_TRACES_SAMPLER') ?? 'parentbased_always_on'
    const kind = SAMPLERS.find((one) => one === text)
    if (kind === undefined)
      warn('OTEL_TRACES_SAMPLER', 'is none that is known, so it is parentbased_always_on')
    return {
      kind: kind ?? 'parentbased_always_on',
      ratio: kind?.endsWith('ratio') ? readNumber('OTEL_TRACES_SAMPLER_ARG', [1, 0, 1]) : 1,
    }
  }

  const [tracesUrl, metricsUrl] = [readUrl('traces'), readUrl('metrics')]
  // Of what is not sent nothing is to be said.
  const protocols = {
    traces: tracesUrl === undefined ? PROTOCOLS[0] : readProtocol('traces'),
    metrics: metricsUrl === undefined ? PROTOCOLS[0] : readProtocol('metrics'),
  }
  const isOn = tracesUrl !== undefined || metricsUrl !== undefined
  if (isOn) {
    if ((read('OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE') ?? 'cumulative') !== 'cumulative')
      warn('OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE', 'metrics are always cumulative')
  }
  const maxQueueSize = readNumber('OTEL_BSP_MAX_QUEUE_SIZE', [2048, 1, 65_536])
  return {
    tracesUrl,
    metricsUrl,
    protocols,
    resource: {
      'service.name': 'sluice',
      'service.version': version,
      ...readPairs(read('OTEL_RESOURCE_ATTRIBUTES')),
      ...(read('OTEL_SERVICE_NAME') && { 'service.name': read('OTEL_SERVICE_NAME') }),
    },
    sampler: readSampler(),
    propagates: (read('OTEL_PROPAGATORS') ?? 'tracecontext')
      .split(',')
      .some((one) => one.trim() === 'tracecontext'),
    batch: {
      scheduledDelayMillis: readNumber('OTEL_BSP_SCHEDULE_DELAY', [5000, 1, 600_000]),
      exportTimeoutMillis: readNumber('OTEL_BSP_EXPORT_TIMEOUT', [30_000, 1, 600_000]),
      maxQueueSize,
      maxExportBatchSize: Math.min(
        readNumber('OTEL_BSP_MAX_EXPORT_BATCH_SIZE', [BATCH_SPANS, 1, 65_536]),
        maxQueueSize,
      ),
    },
    metricsEveryMs: readNumber('OTEL_METRIC_EXPORT_INTERVAL', [60_000, 100, 3_600_000]),
    secrets: ['', 'TRACES_', 'METRICS_'].flatMap((signal) => [
      ...secretsOfHeaders(read(`OTEL_EXPORTER_OTLP_${signal}HEADERS`)),
      ...secretsOfUrl(read(`OTEL_EXPORTER_OTLP_${signal}ENDPOINT`)),
    ]),
    warnings,
  }
}

/** `a=1,b=2`, values percent-encoded; what is no pair is left out. */
function readPairs(text: string | undefined): Record<string, string> {
  return Object.fromEntries(
    (text ?? '').split(',').flatMap((pair) => {
      const at = pair.indexOf('=')
      const name = pair.slice(0, Math.max(at, 0)).trim()
      return name === '' ? [] : [[name, decode(pair.slice(at + 1).trim())]]
    }),
  )
}

/** Each value as it is written and as it is sent, and of `Bearer …` also what is behind the word. */
function secretsOfHeaders(text: string | undefined): string[] {
  const written = (text ?? '').split(',').map((pair) => pair.slice(pair.indexOf('=') + 1).trim())
  return written
    .flatMap((value) => [value, decode(value)])
    .flatMap((value) => [value, value.replace(/^[A-Za-z-]+(?: |%20)+/, '')])
}

function secretsOfUrl(text: string | undefined): string[] {
  if (text === undefined || !URL.canParse(text)) return []
  const { password } = new URL(text)
  return [password, decode(password)]
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
