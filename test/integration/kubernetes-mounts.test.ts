// Configuration, policies and secrets as Kubernetes mounts them, and as it changes them under a running gateway.

import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { createCaller, eventually } from '../support/caller.ts'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { mountFiles } from '../support/kubernetes-mount.ts'
import { temporaryFolder } from '../support/run-folder.ts'
import { createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'

const [first, second] = [makeBearer(), makeBearer()]
const volumes = temporaryFolder('volumes')
const [policies, secrets] = [join(volumes, 'policies'), join(volumes, 'secrets')]

let provider: ScriptedProvider
let gateway: TestGateway

beforeAll(async () => {
  provider = await createScriptedProvider()
  mountFiles(policies, { 'agent.yaml': stringify(agentPolicy('agent', first)) })
  mountFiles(secrets, { key: 'sk-the-first-key-of-the-provider' }, 0o440)
  const config = simpleConfig({
    provider: provider.url,
    settings: { apiKey: `file:${join(secrets, 'key')}` },
    over: { policies, secrets: { groupReadable: true } },
  })
  gateway = await startGateway({ config, policies: {} })
})
afterAll(async () => {
  await gateway?.stop()
  await provider?.close()
})

const callerOf = ({ bearer }: { bearer: string }) => createCaller(gateway.baseUrl, bearer, 'm')

it('reads them: the agent is known, and the key is the one in the file', async () => {
  expect((await callerOf(first).chat()).status).toBe(200)
  expect(provider.requests.at(-1)?.header('authorization')).toBe('Bearer sk-the-first-key-of-the-provider')
})

it('takes a new Secret over, without a restart', async () => {
  mountFiles(secrets, { key: 'sk-the-second-key-of-the-provider' }, 0o440)
  await eventually(async () => {
    await callerOf(first).chat()
    return provider.requests.at(-1)?.header('authorization') === 'Bearer sk-the-second-key-of-the-provider'
  }, 'the second key is in use')
})

it('takes a new ConfigMap of policies over: who is in it may call, who was in the last one may not', async () => {
  mountFiles(policies, { 'agent.yaml': stringify(agentPolicy('agent', second)) })
  await eventually(async () => (await callerOf(second).chat()).status === 200, 'the second bearer is known')
  expect((await callerOf(first).chat()).status).toBe(401)
})
