// Starting and ending a gateway process, with a stand-in for sluice that keeps the same promises (design §3, §10).

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { parse } from 'yaml'
import {
  agentPolicy,
  type GatewayOptions,
  makeBearer,
  simpleConfig,
  startGateway,
  type TestGateway,
} from '../../support/gateway.ts'
import { temporaryFolder } from '../../support/run-folder.ts'

const running: TestGateway[] = []
afterEach(async () => {
  for (const gateway of running.splice(0)) await gateway.kill9()
})

const STAND_IN = `
import { createServer } from 'node:http'
import { readFileSync } from 'node:fs'
const at = process.argv.indexOf('--config')
const bare = at < 0
const text = bare ? '' : readFileSync(process.argv[at + 1], 'utf8')
const ports = bare ? [7456, 7457] : [...text.matchAll(/port: (\\d+)/g)].map((match) => Number(match[1]))
if (process.env.FAIL) {
  console.error('sluice.yaml: nope')
  process.exit(1)
}
const answer = (request, response) => response.end(JSON.stringify({ url: request.url, auth: request.headers.authorization }))
const servers = ports.map((port) => createServer(answer).listen(port, '127.0.0.1'))
process.on('SIGTERM', () => process.env.STUBBORN || setTimeout(() => process.exit(0), 10))
process.on('SIGHUP', () => console.log(JSON.stringify({ msg: 'reloaded', env: Object.keys(process.env).sort() })))
if (bare) {
  console.log('export OPENAI_BASE_URL=http://127.0.0.1:7456/v1')
  console.log('export OPENAI_API_KEY="sk-sluice-abc"')
}
else if (!process.env.QUIET) console.log(JSON.stringify({ level: 30, msg: 'listening', ports }))
`

async function start(
  options: Partial<GatewayOptions> & { config: GatewayOptions['config'] },
): Promise<TestGateway> {
  const main = join(temporaryFolder('stand-in'), 'main.mjs')
  writeFileSync(main, STAND_IN)
  const gateway = await startGateway({ ...options, main })
  running.push(gateway)
  return gateway
}

test('writes the files, waits for `listening`, and ends with the exit code', async () => {
  const gateway = await start({ config: simpleConfig({ provider: 'http://127.0.0.1:9' }) })
  const config = parse(readFileSync(gateway.configPath, 'utf8'))
  expect(config).toMatchObject({
    listen: { port: gateway.port, host: '127.0.0.1' },
    admin: { port: gateway.adminPort, token: 'env:SLUICE_ADMIN_TOKEN' },
    providers: { p1: { format: 'openai', baseUrl: 'http://127.0.0.1:9/v1' } },
    tiers: { t1: { deployments: ['p1/m1'] } },
    routes: { m: ['t1'] },
  })
  const policy = parse(readFileSync(join(gateway.policiesPath, 'tester.yaml'), 'utf8'))
  expect(policy).toMatchObject({
    agent: 'tester',
    bearers: [{ id: 'b1' }],
    scopes: ['chat:*', 'embeddings:*'],
  })
  expect(gateway.logLines()).toMatchObject([{ msg: 'listening' }])
  expect(await (await fetch(`${gateway.baseUrl}/models`)).json()).toEqual({ url: '/v1/models' })
  expect(await (await gateway.reload()).json()).toEqual({
    url: '/reload',
    auth: `Bearer ${gateway.adminToken}`,
  })
  expect(await gateway.stop()).toBe(0)
  expect(existsSync(gateway.configPath)).toBe(false)
})

test('gives it a clean environment and shows what it says later', async () => {
  const gateway = await start({ config: {}, env: { KEY_ONE: 'x' } })
  gateway.signal('SIGHUP')
  const line = await gateway.waitForLog(({ msg }) => msg === 'reloaded')
  expect(line.env).toEqual(expect.arrayContaining(['KEY_ONE', 'PATH', 'SLUICE_ADMIN_TOKEN']))
  expect(line.env).not.toEqual(expect.arrayContaining([expect.stringMatching(/^(npm_|VITEST|OPENAI)/)]))
})

test('fails with what the gateway said when it does not start', async () => {
  await expect(start({ config: {}, env: { FAIL: '1' } })).rejects.toThrow('sluice.yaml: nope')
  await expect(start({ config: {}, env: { QUIET: '1' }, startMs: 300 })).rejects.toThrow(
    'no log line says `listening`',
  )
})

test('says so when it has to kill', async () => {
  const gateway = await start({ config: {}, env: { STUBBORN: '1' } })
  await expect(gateway.stop(100)).rejects.toThrow('did not end within 100 ms')
  expect(() => process.kill(gateway.pid, 0)).toThrow('ESRCH')
})

test('reads the printed lines when there is no configuration', async () => {
  const gateway = await start({ config: undefined })
  expect(gateway.exports).toEqual({
    OPENAI_BASE_URL: 'http://127.0.0.1:7456/v1',
    OPENAI_API_KEY: 'sk-sluice-abc',
  })
  expect([gateway.baseUrl, gateway.bearer]).toEqual(['http://127.0.0.1:7456/v1', 'sk-sluice-abc'])
  expect(await gateway.stop()).toBe(0)
  // The contract's ports are free again for the next one.
  const next = await start({ config: undefined })
  expect(await next.stop()).toBe(0)
})

test('replaces policies and configuration, and keeps the ports', async () => {
  const gateway = await start({ config: {}, policies: { 'a.yaml': 'agent: a' } })
  gateway.writePolicy('b', agentPolicy('b', [makeBearer(), makeBearer()], { limits: { requests: '1/s' } }))
  expect(parse(readFileSync(join(gateway.policiesPath, 'b.yaml'), 'utf8'))).toMatchObject({
    bearers: [{ id: 'b1' }, { id: 'b2' }],
    limits: { requests: '1/s' },
  })
  gateway.removePolicy('a.yaml')
  expect(existsSync(join(gateway.policiesPath, 'a.yaml'))).toBe(false)
  gateway.writeConfig({ listen: { maxBody: '1KiB' }, admin: { token: undefined } })
  expect(parse(readFileSync(gateway.configPath, 'utf8'))).toMatchObject({
    listen: { port: gateway.port, maxBody: '1KiB' },
    admin: { port: gateway.adminPort },
  })
  expect(readFileSync(gateway.configPath, 'utf8')).not.toContain('SLUICE_ADMIN_TOKEN')
})

test('builds tiers in the order of the providers and merges what is said over', () => {
  const config = simpleConfig({
    provider: ['http://127.0.0.1:1', 'http://127.0.0.1:2/api/v2'],
    model: 'auto',
    keyVariable: 'KEY',
    tier: { idle: '1s' },
    over: { failover: { attempts: 2 }, tiers: { t2: { needsReview: true } } },
  })
  expect(config).toEqual({
    providers: {
      p1: { format: 'openai', baseUrl: 'http://127.0.0.1:1/v1', apiKey: 'env:KEY' },
      p2: { format: 'openai', baseUrl: 'http://127.0.0.1:2/api/v2', apiKey: 'env:KEY' },
    },
    tiers: {
      t1: { deployments: ['p1/m1'], idle: '1s' },
      t2: { deployments: ['p2/m2'], idle: '1s', needsReview: true },
    },
    routes: { auto: ['t1', 't2'] },
    failover: { attempts: 2 },
  })
})
