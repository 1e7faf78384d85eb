import { PrometheusExporter } from '@opentelemetry/exporter-prometheus'
import { MeterProvider } from '@opentelemetry/sdk-metrics'
import { describe, expect, it } from 'vitest'
import { createExemplars } from '../../../src/usage/exemplars.ts'
import { metricsOf, withHistograms } from '../../../src/usage/merge.ts'
import { createInstruments, METRICS } from '../../../src/usage/metrics.ts'
import { toOpenMetrics, wantsOpenMetrics } from '../../../src/usage/openmetrics.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { readOpenMetrics } from '../../support/openmetrics.ts'
import { IDLE_GAUGES } from './fixtures.ts'

function createProcess() {
  const exporter = new PrometheusExporter({ preventServerStart: true })
  const provider = new MeterProvider({ readers: [exporter] })
  const time = createManualClock()
  const exemplars = createExemplars({ clock: time.clock })
  const instruments = createInstruments(provider.getMeter('sluice'), {
    ...IDLE_GAUGES,
    redisUp: () => true,
    redisFleet: () => 2,
    deployments: () => [{ deployment: 'p/m', state: 'available' }],
    secrets: () => [{ secret: 'env:KEY', ageSeconds: 1.5 }],
  })
  const collect = async () =>
    withHistograms((await exporter.collect()).resourceMetrics, instruments.histograms())
  return {
    instruments,
    exemplars,
    time,
    text: async () => toOpenMetrics(metricsOf(await collect()), exemplars.all()),
  }
}

type Process = ReturnType<typeof createProcess>

const ROUTE = { route: 'm "\\\n', tier: 't', stream: 'true' }
const FAILED = { tier: 't', deployment: 'p/m', outcome: 'retry', reason: '503' } as const

function took({ instruments, exemplars }: Process, seconds: number, requestId: string, traceId?: string) {
  instruments.requestSeconds.record(seconds, ROUTE)
  exemplars.note(METRICS.requestSeconds, { value: seconds, labels: ROUTE }, { requestId, traceId })
}

async function exemplarsOf(process: Process) {
  const family = readOpenMetrics(await process.text()).get('sluice_request_duration_seconds')
  return family?.samples.flatMap(({ labels: { le }, exemplar }) => (exemplar ? [[le, exemplar.labels]] : []))
}

const TRACE = '0af7651916cd43dd8448eb211c80319c'

describe('OpenMetrics text', () => {
  it('is read by a strict reader, every kind of metric in it', async () => {
    const process = createProcess()
    for (const seconds of [0.0005, 0.001, 0.3, 1, 10, 599, 4000]) took(process, seconds, 'req_1')
    process.instruments.requests.add(3, {
      agent: 'a',
      route: 'm',
      operation: 'chat',
      status: '200',
      code: 'ok',
    })
    process.instruments.cost.add(1e-7, { agent: 'a', deployment: 'p/m' })
    process.instruments.attempts.add(2, FAILED)
    process.exemplars.note(
      METRICS.attempts,
      { value: 1, labels: FAILED },
      { requestId: 'req_1', traceId: TRACE },
    )
    const families = readOpenMetrics(await process.text())
    expect(families.get('sluice_request_duration_seconds')).toMatchObject({
      type: 'histogram',
      unit: 'seconds',
    })
    expect(families.get('sluice_requests')).toMatchObject({
      type: 'counter',
      help: METRICS.requests.description,
    })
    expect(families.get('sluice_redis_round_trips')?.type).toBe('counter')
    expect(families.get('sluice_redis_fleet_size')).toMatchObject({ type: 'gauge', samples: [{ value: 2 }] })
    expect(families.get('sluice_secret_age_seconds')?.samples[0]?.value).toBe(1.5)
    expect(families.get('sluice_cost_usd')?.samples[0]?.value).toBe(1e-7)
    const [attempts] = families.get('sluice_attempts')?.samples ?? []
    expect(attempts).toMatchObject({ name: 'sluice_attempts_total', labels: FAILED, value: 2 })
    expect(attempts?.exemplar?.labels).toEqual({ trace_id: TRACE, request_id: 'req_1' })
    expect(families.get('sluice_request_duration_seconds')?.samples[0]?.labels.route).toBe(ROUTE.route)
  })

  it('names of each bucket the last request, by its trace where it has one', async () => {
    const process = createProcess()
    took(process, 0.2, 'req_1')
    took(process, 0.2, 'req_2')
    took(process, 3, 'req_3', TRACE)
    took(process, 4000, 'req_4')
    expect(await exemplarsOf(process)).toEqual([
      ['0.25', { request_id: 'req_2' }],
      ['5.0', { trace_id: TRACE, request_id: 'req_3' }],
      ['+Inf', { request_id: 'req_4' }],
    ])
  })

  it('keeps one that leads to a trace before one that does not, for ten minutes', async () => {
    const process = createProcess()
    took(process, 0.2, 'req_1', TRACE)
    process.time.advance(600_000)
    took(process, 0.2, 'req_2')
    expect(await exemplarsOf(process)).toEqual([['0.25', { trace_id: TRACE, request_id: 'req_1' }]])
    process.time.advance(1)
    took(process, 0.2, 'req_3')
    expect(await exemplarsOf(process)).toEqual([['0.25', { request_id: 'req_3' }]])
  })

  it('takes from another process what is later, as it comes over the channel', async () => {
    const [here, there] = [createProcess(), createProcess()]
    took(here, 0.2, 'req_1', TRACE)
    took(here, 3, 'req_2')
    there.time.advance(1)
    took(there, 0.2, 'req_3', TRACE.replace('0', '1'))
    took(there, 7, 'req_4')
    here.instruments.requestSeconds.record(7, ROUTE)
    here.exemplars.learn(JSON.parse(JSON.stringify(there.exemplars.all())))
    expect(await exemplarsOf(here)).toEqual([
      ['0.25', { trace_id: TRACE.replace('0', '1'), request_id: 'req_3' }],
      ['5.0', { request_id: 'req_2' }],
      ['10.0', { request_id: 'req_4' }],
    ])
  })
})

describe('a scraper', () => {
  it.each([
    [
      'Prometheus 2',
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
      true,
    ],
    [
      'Prometheus 3',
      'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1',
      true,
    ],
    [
      'Prometheus that prefers the older text',
      'text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5',
      false,
    ],
    ['one that refuses it', 'application/openmetrics-text;q=0, text/plain', false],
    ['a browser', 'text/html,application/xhtml+xml,*/*;q=0.8', false],
    ['curl', '*/*', false],
    ['one that says nothing', undefined, false],
  ])('gets what it asks for: %s', (_, accept, expected) => {
    expect(wantsOpenMetrics(accept)).toBe(expected)
  })
})
