// A real OpenTelemetry Collector takes what a gateway sends, in each way that it is written, and sends it on as JSON. Needs
// Go, and builds the collector for a minute or two the first time.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { createCaller, eventually } from '../support/caller.ts'
import { type Collector, createCollector } from '../support/collector.ts'
import { simpleConfig, startGateway } from '../support/gateway.ts'
import { freePort } from '../support/ports.ts'
import { exited, spawnTracked, temporaryFolder } from '../support/run-folder.ts'
import {
  answer,
  createScriptedProvider,
  type ScriptedProvider,
  status,
} from '../support/scripted-provider.ts'

const FOLDER = temporaryFolder('collector')
const PROGRAM = join(FOLDER, 'otel-collector')
const SOURCE = resolve(import.meta.dirname, '../support/otel-collector')

let first: ScriptedProvider
let second: ScriptedProvider
let behind: Collector
const open: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  const go = ['go', '/usr/local/go/bin/go'].find((path) => spawnSync(path, ['version']).status === 0)
  if (go === undefined)
    throw new Error(
      'The collector is built from its Go modules: put Go 1.26 or newer on the PATH (https://go.dev/dl)',
    )
  const built = spawnSync(go, ['build', '-trimpath', '-o', PROGRAM, '.'], { cwd: SOURCE, encoding: 'utf8' })
  expect(`${built.stderr}${built.error ?? ''}`.replaceAll(/^go: downloading .*\n/gm, '')).toBe('')
  ;[first, second] = [await createScriptedProvider(), await createScriptedProvider()]
  first.script(status(503))
  second.script(answer({ text: 'an answer that nobody may read' }))
}, 900_000)
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})
afterAll(() => Promise.all([first?.close(), second?.close()]))

/** Starts it on a port of its own, before what the tests read; gives its address. */
async function startRealCollector(): Promise<string> {
  behind = await createCollector()
  open.push(() => behind.close())
  const port = await freePort()
  const path = join(FOLDER, `${port}.yaml`)
  const config = {
    receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
    exporters: { otlp_http: { endpoint: behind.url, encoding: 'json', compression: 'none' } },
    service: {
      telemetry: { metrics: { level: 'none' } },
      pipelines: {
        traces: { receivers: ['otlp'], exporters: ['otlp_http'] },
        metrics: { receivers: ['otlp'], exporters: ['otlp_http'] },
      },
    },
  }
  writeFileSync(path, stringify(config))
  const child = spawnTracked(PROGRAM, ['--config', path], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (text: Buffer) => (said += text))
  open.push(async () => {
    child.kill('SIGTERM')
    await exited(child)
  })
  await eventually(() => said.includes('Everything is ready'), 'the collector is ready', 20_000).catch(() => {
    throw new Error(said)
  })
  return `http://127.0.0.1:${port}`
}

describe.each([
  ['http/json', 'none'],
  ['http/protobuf', 'none'],
  ['http/protobuf', 'gzip'],
])('a collector that is sent %s (compression: %s)', (protocol, compression) => {
  it('gets the trace of a request that failed over, as the log has it, and the metrics', async () => {
    const gateway = await startGateway({
      config: simpleConfig({ provider: [first.url, second.url], tier: { retries: 0 } }),
      env: {
        OTEL_EXPORTER_OTLP_ENDPOINT: await startRealCollector(),
        OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
        OTEL_EXPORTER_OTLP_COMPRESSION: compression,
        OTEL_BSP_SCHEDULE_DELAY: '50',
        OTEL_METRIC_EXPORT_INTERVAL: '200',
      },
    })
    open.push(() => gateway.kill9())
    const parent = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' }
    const reply = await createCaller(gateway.baseUrl, gateway.bearer).chat({
      headers: { traceparent: `00-${parent.traceId}-${parent.spanId}-01`, tracestate: 'agent=1' },
    })
    const id = reply.header('x-request-id')
    const spans = await behind.waitForSpans(3)
    expect(spans.map(({ name, traceId, parentSpanId }) => [name, traceId, parentSpanId])).toEqual([
      ['POST /v1/chat/completions', parent.traceId, parent.spanId],
      ['chat m1', parent.traceId, spans[0]?.spanId],
      ['chat m2', parent.traceId, spans[0]?.spanId],
    ])
    expect(spans.map(({ attributes }) => attributes['sluice.request_id'])).toEqual([id, id, id])
    expect(spans.map(({ status: code }) => code)).toEqual([0, 2, 0])
    expect(spans[0]).toMatchObject({
      traceState: 'agent=1',
      resource: { 'service.name': 'sluice' },
      attributes: { 'sluice.degraded': true, 'http.response.status_code': 200 },
    })
    expect(await gateway.waitForLog((line) => line.id === id)).toMatchObject({ trace: parent.traceId })
    await eventually(
      async () =>
        (await behind.waitForPoints()).some(
          ({ metric, value, attributes }) =>
            metric === 'sluice_requests_total' && value === 1 && attributes.status === '200',
        ),
      'the request is counted there',
    )
    const names = new Set(behind.points.map(({ metric }) => metric))
    for (const name of ['sluice_request_duration_seconds', 'sluice_deployment_state'])
      expect(names).toContain(name)
    expect(behind.faults).toEqual([])
    expect(behind.text).not.toContain('nobody may read')
    expect(gateway.stdout()).not.toContain('could not be sent')
  })
})
