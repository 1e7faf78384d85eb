import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import { MeterProvider } from '@opentelemetry/sdk-metrics'
import { describe, expect, it } from 'vitest'
import {
  addUp,
  isMetrics,
  joinWorkers,
  lastingOf,
  metricsOf,
  relabelAgents,
  withHistograms,
} from '../../../src/usage/merge.ts'
import { createInstruments, type Gauges } from '../../../src/usage/metrics.ts'
import { IDLE_GAUGES } from './fixtures.ts'

/** A process with instruments of its own. */
function createProcess(gauges: Partial<Gauges> = {}) {
  const exporter = new PrometheusExporter({ preventServerStart: true })
  const provider = new MeterProvider({ readers: [exporter] })
  const instruments = createInstruments(provider.getMeter('sluice'), {
    ...IDLE_GAUGES,
    ...gauges,
  })
  const collect = async () =>
    withHistograms((await exporter.collect()).resourceMetrics, instruments.histograms())
  return {
    instruments,
    collect,
    /** As it comes over the channel. */
    async sent() {
      const metrics: unknown = JSON.parse(JSON.stringify(metricsOf(await collect())))
      if (!isMetrics(metrics)) throw new Error('these are metrics')
      return metrics
    },
  }
}

const serializer = new PrometheusSerializer(undefined, false, undefined, true, true)
const served = (status: string) => ({ agent: 'a', route: 'r', operation: 'chat', status, code: 'ok' })

describe('the metrics of several processes', () => {
  it('are those of one: counters and histograms summed, series of one process kept', async () => {
    const [primary, one, two] = [createProcess(), createProcess(), createProcess()]
    one.instruments.requests.add(3, served('200'))
    two.instruments.requests.add(4, served('200'))
    two.instruments.requests.add(1, served('429'))
    for (const [process, seconds] of [
      [one, 0.002],
      [one, 7],
      [two, 0.002],
    ] as const)
      process.instruments.overheadSeconds.record(seconds, { operation: 'chat' })
    const text = serializer.serialize(
      joinWorkers(await primary.collect(), [await one.sent(), await two.sent()]),
    )
    expect(text).toContain(
      'sluice_requests_total{agent="a",route="r",operation="chat",status="200",code="ok"} 7',
    )
    expect(text).toContain('status="429",code="ok"} 1')
    expect(text).toContain('sluice_overhead_seconds_count{operation="chat"} 3')
    expect(text).toContain('sluice_overhead_seconds_sum{operation="chat"} 7.004')
    expect(text).toContain('sluice_overhead_seconds_bucket{operation="chat",le="0.0025"} 2')
    expect(text).toContain('sluice_overhead_seconds_bucket{operation="chat",le="+Inf"} 3')
    // One description and one type for each.
    expect(text.match(/# TYPE sluice_requests_total counter/g)).toHaveLength(1)
  })

  it('have of a gauge what it means: a sum, the least, the most, or what the primary says', async () => {
    const secrets = () => [{ secret: 'env:K', ageSeconds: 5 }]
    const state = (name: string) => () => [{ deployment: 'p/m', state: name }]
    const primary = createProcess({ secrets, deployments: state('unavailable') })
    const up = createProcess({
      inflight: () => 2,
      redisUp: () => true,
      budgets: () => [{ agent: 'a', used: 0.5 }],
      secrets,
      deployments: state('available'),
    })
    const down = createProcess({
      inflight: () => 3,
      redisUp: () => false,
      budgets: () => [{ agent: 'a', used: 0.75 }],
      secrets,
      deployments: state('unavailable'),
    })
    primary.instruments.revocations.add(1, { source: 'file' })
    up.instruments.revocations.add(1, { source: 'file' })
    const text = serializer.serialize(
      joinWorkers(await primary.collect(), [await up.sent(), await down.sent()]),
    )
    expect(text).toContain('sluice_inflight 5')
    expect(text).toContain('sluice_redis_up 0')
    expect(text).toContain('sluice_limit_budget_used_ratio{agent="a"} 0.75')
    expect(text).toContain('sluice_secret_age_seconds{secret="env:K"} 5')
    expect(text).toContain('sluice_revocations_total{source="file"} 1')
    expect(text.match(/sluice_deployment_state\{.*/g)).toEqual([
      'sluice_deployment_state{deployment="p/m",state="unavailable"} 1',
    ])
  })

  it('have labels for as many agents as one process has, whoever each of them saw first', async () => {
    const [primary, one, two] = [createProcess(), createProcess(), createProcess()]
    const of = (agent: string) => ({ ...served('200'), agent })
    for (const agent of ['a', 'b', '', 'other']) one.instruments.requests.add(1, of(agent))
    for (const agent of ['c', 'd', 'a']) two.instruments.requests.add(10, of(agent))
    one.instruments.overheadSeconds.record(1, { operation: 'chat' })
    const labels = new Set<string>()
    const labelOf = (agent: string) => {
      if (labels.size < 2) labels.add(agent)
      return labels.has(agent) ? agent : 'other'
    }
    const text = serializer.serialize(
      joinWorkers(await primary.collect(), [
        relabelAgents(await one.sent(), labelOf),
        relabelAgents(await two.sent(), labelOf),
      ]),
    )
    const counted = [...text.matchAll(/^sluice_requests_total\{agent="(\w*)".* (\d+)$/gm)]
    expect(counted.map(([, agent, count]) => `${agent} ${count}`).sort()).toEqual([
      ' 1',
      'a 11',
      'b 1',
      'other 21',
    ])
    expect(text).toContain('sluice_overhead_seconds_count{operation="chat"} 1')
  })

  it('keep the counts of one that is gone, and not its gauges', async () => {
    const [primary, gone] = [createProcess(), createProcess({ inflight: () => 9 })]
    gone.instruments.requests.add(5, served('200'))
    const retired = addUp([lastingOf(await gone.sent()), lastingOf(await gone.sent())])
    const text = serializer.serialize(joinWorkers(await primary.collect(), [retired]))
    expect(text).toContain('status="200",code="ok"} 10')
    expect(text).toContain('sluice_inflight 0')
  })
})
