// A bearer that is revoked or expires: nothing new is let in on it, and what is under way on it ends at once, with an
// error that its caller can read. Over replicas too, whatever becomes of the push and of Redis. What is cancelled is
// seen at the provider, what is refused at the caller.

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { freePort } from '../support/ports.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import {
  answer,
  createScriptedProvider,
  type ScriptedProvider,
  silent,
} from '../support/scripted-provider.ts'
import { parseSse, summarizeChat } from '../support/sse.ts'

const bearers = { ann: makeBearer(), bob: makeBearer() }
type Name = keyof typeof bearers
const policies = { ann: agentPolicy('ann', bearers.ann), bob: agentPolicy('bob', bearers.bob) }

let provider: ScriptedProvider
const gateways: TestGateway[] = []

beforeAll(async () => {
  provider = await createScriptedProvider()
})
afterAll(() => provider.close())
beforeEach(() => provider.reset())
afterEach(async () => {
  provider.killConnections() // or the drain would wait for the streams that are left
  await Promise.all(gateways.splice(0).map((gateway) => gateway.stop()))
})

async function start(options: Partial<Parameters<typeof startGateway>[0]> = {}): Promise<TestGateway> {
  const gateway = await startGateway({
    config: simpleConfig({ provider: provider.url }),
    policies,
    ...options,
  })
  gateways.push(gateway)
  return gateway
}

const as = (at: TestGateway, name: Name) => createCaller(at.baseUrl, bearers[name].bearer)
const refuses = async (at: TestGateway, name: Name): Promise<boolean> =>
  (await as(at, name).chat()).status === 401

/** A stream that goes on until somebody ends it; resolves when its first content is here. */
async function openStream(at: TestGateway, name: Name) {
  const index = provider.calls
  const response = await as(at, name).open({ body: { stream: true, user: name } })
  const reader = (response.body ?? new ReadableStream<Uint8Array>()).getReader()
  let text = ''
  const read = async (): Promise<boolean> => {
    const { done, value } = await reader.read()
    if (value !== undefined) text += Buffer.from(value).toString()
    return !done
  }
  while (!text.includes('"content":"word') && (await read()));
  let over = false
  const end = (async () => {
    while (await read());
    over = true
    return { ...summarizeChat(parseSse(text)), text, endedMs: performance.now() }
  })()
  return { index, end, isOver: () => over }
}
const ENDLESS = answer({ pieces: Array(3_000).fill('word '), everyMs: 20 })

async function expectEnded(stream: Awaited<ReturnType<typeof openStream>>): Promise<void> {
  const { error, done, text } = await stream.end
  expect(error).toMatchObject({ code: 'invalid_api_key', type: 'invalid_request_error', param: null })
  expect(done).toBe(false)
  expect(text.endsWith('}\n\n')).toBe(true)
  await provider.waitForAbort(stream.index)
}

describe('in one process without Redis, a bearer that leaves its file', () => {
  it('ends its streams with an error event and its whole answers with 401; nobody else notices', async () => {
    const at = await start()
    provider.script((request) => (request.body.includes('"stream":true') ? ENDLESS : silent()))
    const hers = await openStream(at, 'ann')
    const his = await openStream(at, 'bob')
    const whole = as(at, 'ann').chat()
    await provider.waitForRequests(3)

    at.removePolicy('ann')
    expect((await at.reload()).status).toBe(200)
    await expectEnded(hers)
    const refused = await whole
    expect([refused.status, refused.error?.code]).toEqual([401, 'invalid_api_key'])
    expect(refused.header('x-should-retry')).toBe('false')
    await provider.waitForAbort(2)
    expect(await refuses(at, 'ann')).toBe(true)
    expect(his.isOver()).toBe(false)

    const line = at.logLines().find(({ msg }) => msg === 'bearer revoked')
    expect(line).toMatchObject({ level: 30, agent: 'ann', bearer: 'b1', source: 'file', ended: 2 })
    expect(at.stdout()).not.toContain(bearers.ann.sha256)
    const metrics = await (await fetch(`${at.adminUrl}/metrics`)).text()
    expect(metrics).toContain('sluice_revocations_total{source="file"} 1')
    expect(metrics).toMatch(/sluice_requests_total\{agent="ann",.*status="200",code="invalid_api_key"\} 1/)
    expect(metrics).toContain('sluice_inflight 1')

    at.writePolicy('ann', policies.ann)
    expect((await at.reload()).status).toBe(200)
    provider.script(answer())
    expect((await as(at, 'ann').chat()).status).toBe(200)
    expect(his.isOver()).toBe(false)
  })

  it('is noticed by itself, and a change that keeps the bearer ends nothing', async () => {
    const at = await start()
    provider.script(ENDLESS)
    const hers = await openStream(at, 'ann')
    at.writePolicy('ann', agentPolicy('ann', [bearers.ann, makeBearer()], { role: 'other' }))
    expect((await at.reload()).status).toBe(200)
    at.writePolicy('broken', 'agent: [')
    expect((await at.reload()).status).toBe(422)
    await sleep(50)
    expect(hers.isOver()).toBe(false)

    const writtenMs = performance.now()
    at.writePolicy('ann', agentPolicy('ann', makeBearer()))
    await expectEnded(hers)
    expect((await hers.end).endedMs - writtenMs).toBeLessThan(2_000)
  })
})

describe('over three replicas, a bearer that leaves the file of one', () => {
  let redis: TestRedis
  let fleet: readonly TestGateway[]

  beforeAll(async () => {
    redis = await startRedis()
  })
  afterAll(() => redis.stop())
  beforeEach(async () => {
    await redis.command('FLUSHALL')
    fleet = await Promise.all([replica(), replica(), replica()])
  })

  const replica = () =>
    start({ config: simpleConfig({ provider: provider.url, over: { redis: { url: redis.url } } }) })
  const everywhere = (name: Name, refused: boolean) =>
    Promise.all(
      fleet.map((at, n) => eventually(async () => (await refuses(at, name)) === refused, `on ${n}`, 3_000)),
    )

  it('is refused on all of them in under a second, and its streams end there', async () => {
    provider.script((request) => (request.body.includes('"stream":true') ? ENDLESS : answer()))
    const hers = []
    for (const at of fleet) hers.push(await openStream(at, 'ann'))
    const his = []
    for (const at of fleet) his.push(await openStream(at, 'bob'))

    const [first, second, third] = fleet as [TestGateway, TestGateway, TestGateway]
    first.removePolicy('ann')
    const fromMs = performance.now()
    expect((await first.reload()).status).toBe(200)
    await everywhere('ann', true)
    expect(performance.now() - fromMs).toBeLessThan(1_000)
    for (const stream of hers) {
      await expectEnded(stream)
      expect((await stream.end).endedMs - fromMs).toBeLessThan(1_000)
    }
    expect(his.map((stream) => stream.isOver())).toEqual([false, false, false])
    expect(await Promise.all(fleet.map((at) => refuses(at, 'bob')))).toEqual([false, false, false])

    // The others still list her: neither a reload of the old file nor a start with it lets her in again.
    second.writePolicy('ann', { ...policies.ann, role: 'as old as before' })
    expect((await second.reload()).status).toBe(200)
    const late = await replica()
    expect(await Promise.all([second, third, late].map((at) => refuses(at, 'ann')))).toEqual([
      true,
      true,
      true,
    ])
    await late.waitForLog(
      ({ msg, agent, source }) => msg === 'bearer revoked' && agent === 'ann' && source === 'fleet',
    )

    first.writePolicy('ann', policies.ann)
    expect((await first.reload()).status).toBe(200)
    fleet = [...fleet, late]
    await everywhere('ann', false)
    expect(his.map((stream) => stream.isOver())).toEqual([false, false, false])
    for (const at of fleet) {
      for (const secret of Object.values(bearers.ann)) expect(at.stdout()).not.toContain(secret)
    }
  })

  it('is refused in under a second although nothing can be pushed', async () => {
    // Nobody may subscribe or publish; those who have are thrown out.
    await redis.command('ACL', 'SETUSER', 'default', 'resetchannels')
    try {
      await Promise.all(
        fleet.map((at) => at.waitForLog(({ msg }) => msg === 'revocations are not pushed, only polled')),
      )
      provider.script((request) => (request.body.includes('"stream":true') ? ENDLESS : answer()))
      const hers = await openStream(fleet[2] as TestGateway, 'ann')
      fleet[0]?.removePolicy('ann')
      await fleet[0]?.reload()
      const fromMs = performance.now()
      await everywhere('ann', true)
      await expectEnded(hers)
      expect(performance.now() - fromMs).toBeLessThan(1_000)
    } finally {
      await redis.command('ACL', 'SETUSER', 'default', 'allchannels')
    }
  })
})

it('without Redis a bearer is revoked where it leaves the file, and everywhere once Redis is back', async () => {
  const port = await freePort()
  let redis = await startRedis({ port })
  try {
    const config = simpleConfig({ provider: provider.url, over: { redis: { url: redis.url } } })
    const [one, two] = await Promise.all([start({ config }), start({ config })])
    provider.script((request) => (request.body.includes('"stream":true') ? ENDLESS : answer()))
    const [here, there] = [await openStream(one, 'ann'), await openStream(two, 'ann')]
    await redis.kill9()
    await one.waitForLog(({ msg }) => String(msg).startsWith('revocations are not shared'))
    one.removePolicy('ann')
    expect((await one.reload()).status).toBe(200)
    await expectEnded(here)
    expect([await refuses(one, 'ann'), await refuses(two, 'ann')]).toEqual([true, false])
    expect(there.isOver()).toBe(false)

    redis = await startRedis({ port })
    await expectEnded(there)
    expect(await refuses(two, 'ann')).toBe(true)
    await one.waitForLog(({ msg }) => msg === 'revocations are shared again')
  } finally {
    await redis.stop()
  }
})

it('a bearer that expires takes its open streams with it, within a second', async () => {
  const tomorrow = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10)
  const at = await start({
    policies: {
      ...policies,
      ann: { ...policies.ann, bearers: [{ id: 'day', sha256: bearers.ann.sha256, expires: tomorrow }] },
    },
    env: {
      NODE_OPTIONS: `--import ${join(import.meta.dirname, '../support/jump-clock.mjs')}`,
      JUMP_MS: '86400000',
    },
  })
  provider.script(ENDLESS)
  const [hers, his] = [await openStream(at, 'ann'), await openStream(at, 'bob')]
  const jumpedMs = performance.now()
  at.signal('SIGUSR2')
  await expectEnded(hers)
  expect((await hers.end).endedMs - jumpedMs).toBeLessThan(1_000)
  expect(his.isOver()).toBe(false)
  expect(await refuses(at, 'ann')).toBe(true)
  await at.waitForLog(({ msg, bearer, ended }) => msg === 'bearer expired' && bearer === 'day' && ended === 1)
})
