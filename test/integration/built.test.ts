// What is installed and what the image runs is `dist/`, one file made of all: it answers as the sources do.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createCaller } from '../support/caller.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'

const ROOT = join(import.meta.dirname, '../..')

let provider: ScriptedProvider
let gateway: TestGateway

beforeAll(async () => {
  const built = spawnSync('npm', ['run', '-s', 'build'], { cwd: ROOT, encoding: 'utf8' })
  if (built.status !== 0) throw new Error(built.stderr)
  provider = await createScriptedProvider()
  gateway = await startGateway({
    main: join(ROOT, 'dist/main.js'),
    config: {
      listen: { host: '127.0.0.1', workers: 2 },
      providers: {
        plain: { format: 'openai', baseUrl: `${provider.url}/v1` },
        // Its codec and its signature are loaded when they are needed, and are no part of the file.
        bedrock: { format: 'bedrock', baseUrl: provider.url, region: 'eu-west-1', apiKey: 'env:AWS_KEY' },
      },
      tiers: {
        plain: { deployments: ['plain/m'] },
        bedrock: { deployments: ['bedrock/amazon.nova-pro-v1:0'] },
      },
      routes: { m: ['plain'], nova: ['bedrock'] },
    },
    env: { AWS_KEY: 'AKIDEXAMPLE:wJalrXUtnFEMIEXAMPLEKEY' },
  })
}, 60_000)
afterAll(async () => {
  await gateway?.stop()
  await provider?.close()
})

it.each(['m', 'nova'])('the built program answers for %s, whole and streamed', async (model) => {
  const caller = createCaller(gateway.baseUrl, gateway.bearer, model)
  for (const stream of [false, true]) {
    const { status, content } = await caller.chat({ body: { stream } })
    expect([status, content]).toEqual([200, 'Hello from the scripted provider.'])
  }
})

it('the built program has its operators’ side, its scripts and its commands', async () => {
  const metrics = await fetch(`${gateway.adminUrl}/metrics`)
  expect(await metrics.text()).toContain('sluice_requests_total')
  const status = await fetch(`${gateway.adminUrl}/status`, {
    headers: { authorization: `Bearer ${gateway.adminToken}` },
  })
  expect(status.status).toBe(200)
  const version = spawnSync(process.execPath, [join(ROOT, 'dist/main.js'), '--version'], { encoding: 'utf8' })
  expect(version.stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/)
})
