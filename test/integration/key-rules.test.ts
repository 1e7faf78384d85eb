// What is said of keys, `apiKey: { from, rotate, hours }`, as an operator sees it: `check`, log, `/status`, `/metrics`.

import { execFile } from 'node:child_process'
import { utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { hoursFromNow } from '../support/hours.ts'
import { metricOf, seriesOf, statusOf } from '../support/operator.ts'
import { temporaryFolder } from '../support/run-folder.ts'
import { createScriptedProvider, type ScriptedProvider, status } from '../support/scripted-provider.ts'

const DAY_S = 86_400
const secrets = temporaryFolder('keys')
const [old, young] = [join(secrets, 'old'), join(secrets, 'young')]
const nowS = Date.now() / 1000

let asleep: ScriptedProvider
let CONFIG: ReturnType<typeof configuration>
let awake: ScriptedProvider
let gateway: TestGateway

beforeAll(async () => {
  ;[asleep, awake] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  writeFileSync(old, 'sk-the-key-that-is-old', { mode: 0o600 })
  writeFileSync(young, 'sk-the-key-that-is-young', { mode: 0o600 })
  utimesSync(old, 0, nowS - 100 * DAY_S)
  utimesSync(young, 0, nowS - 80 * DAY_S)
  CONFIG = configuration()
  gateway = await startGateway({
    config: CONFIG,
    env: { AWAKE: 'sk-the-key-that-is-awake' },
  })
})
afterAll(async () => {
  await gateway?.stop()
  await Promise.all([asleep?.close(), awake?.close()])
})

const configuration = () => ({
  listen: { workers: 2 },
  providers: {
    asleep: {
      format: 'openai',
      baseUrl: asleep.baseUrl,
      apiKey: { from: [`file:${old}`, `file:${young}`], rotate: '90d', hours: hoursFromNow(2, -2) },
      health: { path: '/models', every: '1s' },
    },
    awake: {
      format: 'openai',
      baseUrl: awake.baseUrl,
      apiKey: { from: 'env:AWAKE', rotate: '1m', hours: hoursFromNow(-1, 3) },
    },
  },
  tiers: {
    one: { deployments: ['asleep/m1'], retries: 0 },
    two: { deployments: ['awake/m2'] },
  },
  routes: { night: ['one', 'two'], day: ['two'] },
})

const USES = 'sluice_key_uses_outside_hours_total'
const callerOf = (model: string) => createCaller(gateway.baseUrl, gateway.bearer, model)

it('a key is used outside its hours, and each use is counted from 0; health checks are none', async () => {
  await eventually(() => asleep.probes.length > 0, 'a health check')
  expect((await seriesOf(gateway, USES)).sort()).toEqual([
    `${USES}{provider="asleep",secret="file:${old}"} 0`,
    `${USES}{provider="asleep",secret="file:${young}"} 0`,
    `${USES}{provider="awake",secret="env:AWAKE"} 0`,
  ])
  // Some on each of the workers, in turn over both keys.
  for (let i = 0; i < 10; i += 1) expect((await callerOf('night').chat()).status).toBe(200)
  asleep.script(status(503))
  expect((await callerOf('night').chat()).header('x-sluice-attempts')).toBe(
    'one:asleep/m1=503, two:awake/m2=200',
  )
  expect((await callerOf('day').chat()).status).toBe(200)
  const called = asleep.requests.length
  expect(called).toBe(11)
  expect(await metricOf(gateway, USES, 'asleep')).toBe(called)
  expect(await metricOf(gateway, USES, young)).toBeGreaterThan(0)
  expect(await metricOf(gateway, USES, 'awake')).toBe(0)
})

it('the line of a request that did so is a warning and names the key, not what it is', async () => {
  const lines = gateway.logLines().filter(({ msg }) => msg === 'request')
  expect(lines.filter(({ level, outsideHours }) => level === 40 && outsideHours !== undefined)).toHaveLength(
    11,
  )
  expect(lines.filter(({ outsideHours }) => outsideHours === undefined)).toEqual([
    expect.objectContaining({ level: 30, route: 'day' }),
  ])
  expect(gateway.stdout()).not.toContain('sk-the-key')
})

it('a secret older than its rotation is told of at the start, in the status and as a metric', async () => {
  const words = `file:${old}: is 100 days old and should have been replaced at 90 days (apiKey.rotate)`
  expect(gateway.logLines().filter(({ msg }) => String(msg).includes('apiKey.rotate'))).toEqual([
    expect.objectContaining({
      level: 40,
      msg: 'provider awake has apiKey.rotate, and of env:AWAKE no age is known from before the start; that of a file: is',
    }),
    expect.objectContaining({ level: 40, msg: words }),
  ])
  const shown = (await statusOf(gateway)).secrets as {
    secret: string
    ageSeconds: number
    rotateSeconds: number
  }[]
  const byName = new Map(shown.map((one) => [one.secret, one]))
  expect(byName.get(`file:${old}`)?.rotateSeconds).toBe(90 * DAY_S)
  expect(byName.get(`file:${old}`)?.ageSeconds).toBeGreaterThanOrEqual(100 * DAY_S)
  expect(byName.get(`file:${young}`)?.ageSeconds).toBeLessThan(81 * DAY_S)
  expect(byName.get('env:AWAKE')?.ageSeconds).toBeLessThan(60)
  expect(await metricOf(gateway, 'sluice_secret_rotate_seconds', old)).toBe(90 * DAY_S)
  expect(await metricOf(gateway, 'sluice_secret_age_seconds', old)).toBeGreaterThan(100 * DAY_S - 1)
  const { stdout } = await promisify(execFile)(
    'npm',
    ['run', '-s', 'sluice', '--', 'check', '-c', gateway.configPath],
    {
      env: { ...process.env, AWAKE: 'sk-the-key-that-is-awake', SLUICE_ADMIN_TOKEN: gateway.adminToken },
    },
  )
  expect(stdout).toContain(`note ${words}`)
})

it('a rotation that comes with a reload is held against the secrets at once', async () => {
  const { providers, ...rest } = CONFIG
  const shorter = { ...providers.asleep.apiKey, rotate: '30d' }
  gateway.writeConfig({
    ...rest,
    providers: { ...providers, asleep: { ...providers.asleep, apiKey: shorter } },
  })
  expect((await gateway.reload()).status).toBe(200)
  await gateway.waitForLog(
    ({ msg }) =>
      msg === `file:${young}: is 80 days old and should have been replaced at 30 days (apiKey.rotate)`,
  )
})

it('one that was replaced is young', async () => {
  writeFileSync(old, 'sk-the-key-that-is-new', { mode: 0o600 })
  await eventually(
    async () => (await metricOf(gateway, 'sluice_secret_age_seconds', old)) < 60,
    'it is young',
  )
})
