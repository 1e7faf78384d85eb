// What deploy/compose.yaml starts, started without containers: the same files, the same agent, the same order. Docker's own
// tools judge the files in test/system/deploy.test.ts.

import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parse } from 'yaml'
import { createCaller, eventually } from '../support/caller.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { type Nginx, startNginx } from '../support/nginx.ts'
import { metricOf } from '../support/operator.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { exited, spawnTracked, temporaryFolder } from '../support/run-folder.ts'
import { isRecord } from '../support/scripted-provider.ts'

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
/** In this folder too, and tested where they are made. */
const DASHBOARDS = /^\.\/(?:prometheus|grafana)\b/
const NODE = resolve(DEPLOY, '../node_modules/.bin/node')

const file = record(parse(readFileSync(join(DEPLOY, 'compose.yaml'), 'utf8'), { merge: true }))
const services = record(file.services)
const config = record(parse(readFileSync(join(DEPLOY, 'compose/sluice.yaml'), 'utf8')))

let redis: TestRedis
let gateways: TestGateway[]
let nginx: Nginx
let demo: ReturnType<typeof spawnTracked>
let said = ''

beforeAll(async () => {
  const policies = join(temporaryFolder('compose'), 'policies')
  mkdirSync(policies)
  const [, ...args] = strings(record(services.redis).command)
  redis = await startRedis({ args })
  gateways = await Promise.all(
    ['sluice1', 'sluice2'].map((name) => {
      expect(services).toHaveProperty(name)
      const listen = { ...record(config.listen), host: '127.0.0.1' }
      return startGateway({
        config: { ...config, redis: { url: redis.url }, policies, listen },
        policies: {},
      })
    }),
  )
  nginx = await startNginx({ ports: gateways.map(({ port }) => port) })
  const { entrypoint, environment } = record(services.demo)
  const script = strings(entrypoint)[1]?.replace('/demo/', `${DEPLOY}/compose/`) ?? ''
  const names = Object.keys(record(environment)).sort()
  expect(names).toEqual(['POLICIES', 'SHOWN', 'TARGET'])
  const url = `${nginx.url}/v1`
  demo = spawnTracked(NODE, [script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { POLICIES: policies, TARGET: url, SHOWN: url, PER_SECOND: '20' },
  })
  demo.stdout?.on('data', (text: Buffer) => {
    said += text.toString()
  })
})
afterAll(async () => {
  demo?.kill('SIGTERM')
  await Promise.all([demo && exited(demo), ...(gateways ?? []).map((gateway) => gateway.stop(15_000))])
  await nginx?.stop()
  await redis?.stop()
})

it('the demo agent shows two lines to paste, and they work through nginx', async () => {
  await eventually(() => said.includes('OPENAI_API_KEY='), 'the lines are there')
  const shown = Object.fromEntries(
    [...said.matchAll(/^export (\w+)=(\S+)$/gm)].map((match) => match.slice(1)),
  )
  const caller = createCaller(shown.OPENAI_BASE_URL, shown.OPENAI_API_KEY, 'gpt-oss-120b')
  await eventually(async () => (await caller.chat()).status === 200, 'its policy is in use', 5_000)
  // Of the start, before the policy was noticed, no answer counts.
  await eventually(
    async () => {
      const counts = await Promise.all(
        gateways.map((at) => metricOf(at, 'sluice_requests_total', 'agent="demo"')),
      )
      return counts.every((count) => count > 5)
    },
    'both gateways answer it',
    15_000,
  )
})

it('every file that is mounted is there, and nothing is published beyond this machine', () => {
  for (const [name, service] of Object.entries(services)) {
    const { volumes = [], ports = [] } = record(service)
    for (const volume of strings(volumes)) {
      const [source = ''] = volume.split(':')
      if (DASHBOARDS.test(source)) continue
      if (source.startsWith('.')) expect(existsSync(join(DEPLOY, source)), `${name}: ${source}`).toBe(true)
      else expect(record(file.volumes)).toHaveProperty(source)
    }
    for (const port of strings(ports)) expect(port, name).toMatch(/^127\.0\.0\.1:/)
    expect(record(service), name).toMatchObject({ read_only: true, cap_drop: ['ALL'] })
  }
  const dockerfile = join(DEPLOY, '..', String(record(record(services.sluice1).build).dockerfile))
  expect(dirname(dockerfile)).toBe(DEPLOY)
})

it('a gateway has the time that it is configured to need', () => {
  const { drain } = record(config.listen)
  expect(record(services.sluice1).stop_grace_period).toBe('70s')
  expect(drain).toBe('60s')
})

function record(value: unknown): Record<string, unknown> {
  if (!isRecord(value)) throw new TypeError(`not a record: ${JSON.stringify(value)}`)
  return value
}

function strings(value: unknown): string[] {
  if (!Array.isArray(value)) throw new TypeError(`not a list: ${JSON.stringify(value)}`)
  return value.map(String)
}
