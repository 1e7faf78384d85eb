// The instruments behind a real provider of meters, as Prometheus reads them.

import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import { MeterProvider } from '@opentelemetry/sdk-metrics'
import { expect, it } from 'vitest'
import { withoutPast } from '../../../src/usage/merge.ts'
import { createInstruments, VIEWS } from '../../../src/usage/metrics.ts'
import { IDLE_GAUGES } from './fixtures.ts'

it('tells of a gauge what is, and not what was: a state that has changed, a secret that is gone', async () => {
  const exporter = new PrometheusExporter({ preventServerStart: true })
  const provider = new MeterProvider({ readers: [exporter], views: VIEWS })
  let state = 'available'
  let secrets = [{ secret: 'env:K', ageSeconds: 5 }]
  const { isOfNow } = createInstruments(provider.getMeter('sluice'), {
    ...IDLE_GAUGES,
    deployments: () => [{ deployment: 'p/m', state }],
    secrets: () => secrets,
    redisUp: () => true,
  })
  const lines = async () => {
    const metrics = withoutPast((await exporter.collect()).resourceMetrics, isOfNow)
    const text = new PrometheusSerializer(undefined, false, undefined, true, true).serialize(metrics)
    return text.split('\n').filter((line) => /^sluice_(deployment_state|secret_age|redis_up)/.test(line))
  }
  expect(await lines()).toHaveLength(3)
  state = 'unavailable'
  secrets = []
  expect(await lines()).toEqual([
    'sluice_redis_up 1',
    'sluice_deployment_state{deployment="p/m",state="unavailable"} 1',
  ])
  await provider.shutdown()
})

it('keeps agents apart up to the 2,000th, whatever else a series says of them, and folds the rest into one', async () => {
  const exporter = new PrometheusExporter({ preventServerStart: true })
  const provider = new MeterProvider({ readers: [exporter], views: VIEWS })
  const { tokens, requests, agentLabel } = createInstruments(provider.getMeter('sluice'), IDLE_GAUGES)
  for (let i = 0; i < 2_300; i += 1) {
    const agent = agentLabel(`agent-${i}`)
    for (const kind of ['input', 'output']) tokens.add(1, { agent, deployment: 'p/m', kind })
    requests.add(1, { agent, route: 'm', operation: 'chat', status: '200', code: 'ok' })
  }
  const { resourceMetrics } = await exporter.collect()
  const text = new PrometheusSerializer(undefined, false, undefined, true, true).serialize(resourceMetrics)
  expect(text).not.toContain('overflow')
  const lines = text.split('\n').filter((line) => line.startsWith('sluice_tokens_total{'))
  expect(lines).toHaveLength(2 * 2_001)
  expect(
    lines.filter((line) => line.includes('agent="other"')).map((line) => line.split('} ')[1]?.split(' ')[0]),
  ).toEqual(['300', '300'])
  expect(text.split('\n').filter((line) => line.startsWith('sluice_requests_total{'))).toHaveLength(2_001)
  await provider.shutdown()
})
