// Reloads of a gateway that is working: nothing that is counted or remembered is reset, no request is lost, and a bad
// configuration, policy or secret never replaces a good one.

import { chmodSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { type Answer, type Caller, createCaller, eventually } from '../support/caller.ts'
import { agentPolicy, makeBearer, simpleConfig, type TestGateway } from '../support/gateway.ts'
import { temporaryFolder } from '../support/run-folder.ts'
import { answer, gate, rateLimited } from '../support/scripted-provider.ts'
import { readSse, summarizeChat } from '../support/sse.ts'
import { createStage } from '../support/stage.ts'

const bearers = { free: makeBearer(), counted: makeBearer(), slotted: makeBearer(), new: makeBearer() }
const COUNTED = {
  limits: { requests: { capacity: 20, refill: '1/h' }, tokens: { capacity: 1_000_000, refill: '1/h' } },
}

const stage = await createStage()
const { one, two } = stage

const configuration = (over: Readonly<Record<string, unknown>> = {}) =>
  simpleConfig({
    provider: [one.url, two.url],
    tier: { retries: 0 },
    over: { routes: { n: ['t2'] }, ...over },
  })

const start = (over: Readonly<Record<string, unknown>> = {}): Promise<TestGateway> =>
  stage.start({
    config: configuration(over),
    policies: {
      free: agentPolicy('free', bearers.free),
      counted: agentPolicy('counted', bearers.counted, COUNTED),
      slotted: agentPolicy('slotted', bearers.slotted, { limits: { concurrency: 1 } }),
    },
  })

const as = (at: TestGateway, name: keyof typeof bearers, model = 'm'): Caller =>
  createCaller(at.baseUrl, bearers[name].bearer, model)

/** Whole replies and streams without a break until `stop`, which tells what went wrong. */
function load(caller: Caller, workers = 4) {
  const answers: Answer[] = []
  let running = true
  const work = Array.from({ length: workers }, async (_, i) => {
    while (running) {
      answers.push(await caller.chat({ body: { stream: i % 2 === 0 } }))
      await sleep(2)
    }
  })
  return {
    answers,
    /** Resolves when so many more have been answered. */
    more: async (count: number): Promise<void> => {
      const goal = answers.length + count
      await eventually(() => answers.length >= goal, `${count} more answers`)
    },
    async stop(): Promise<{ status: number; code: unknown }[]> {
      running = false
      await Promise.all(work)
      return answers
        .filter(
          ({ status, error, stream }) => status !== 200 || error !== undefined || stream?.done === false,
        )
        .map(({ status, error }) => ({ status, code: error?.code }))
    },
  }
}

/** Resolves when `times` more reloads than `before` have been logged. */
async function reloaded(at: TestGateway, before: number): Promise<void> {
  await eventually(() => reloadsOf(at) > before, 'a reload in the log')
}
const reloadsOf = (at: TestGateway): number =>
  at.logLines().filter(({ msg }) => msg === 'configuration reloaded').length

const WAYS: readonly (readonly [string, (at: TestGateway, round: number) => Promise<void> | void])[] = [
  ['SIGHUP', (at) => at.signal('SIGHUP')],
  [
    'POST /reload',
    async (at) => {
      const told = await at.reload()
      expect([told.status, await told.json()]).toEqual([200, { ok: true, applied: true, problems: [] }])
    },
  ],
  [
    'a policy file that changes',
    (at, round) =>
      at.writePolicy(
        'counted',
        agentPolicy('counted', bearers.counted, { ...COUNTED, role: `round ${round}` }),
      ),
  ],
]

describe('a reload under load', () => {
  it.each(WAYS)('by %s resets no bucket, slot or breaker and drops no request', async (_, reload) => {
    const at = await start()
    // The first tier asks to be left alone for a minute; the slot is held by a stream that waits for us.
    one.script(rateLimited(60))
    expect((await as(at, 'free').chat()).header('x-sluice-attempts')).toBe('t1:p1/m1=429, t2:p2/m2=200')
    const held = gate(answer({ pieces: ['still ', 'the ', 'same'] }))
    two.script((request) => (request.body.includes('"hold"') ? held : answer()))
    const under = as(at, 'slotted').chat({ body: { stream: true, user: 'hold' } })
    await two.waitForRequests(2)
    for (let left = 19; left >= 5; left -= 1) {
      expect((await as(at, 'counted').chat()).header('x-ratelimit-remaining-requests')).toBe(String(left))
    }

    const traffic = load(as(at, 'free'))
    await traffic.more(20)
    for (let round = 1; round <= 3; round += 1) {
      const before = reloadsOf(at)
      await reload(at, round)
      await reloaded(at, before)
      await traffic.more(20)
      const counted = await as(at, 'counted').chat()
      expect(counted.header('x-ratelimit-remaining-requests')).toBe(String(5 - round))
      expect(counted.header('x-sluice-attempts')).toBe('t1:p1/m1=skipped:unavailable, t2:p2/m2=200')
      expect((await as(at, 'slotted').chat()).error).toMatchObject({ code: 'concurrency_exceeded' })
    }
    expect(await traffic.stop()).toEqual([])
    expect(one.calls).toBe(1)

    held.open()
    const done = await under
    expect(done.stream).toMatchObject({ text: 'still the same', done: true, finishReasons: ['stop'] })
    await eventually(async () => (await as(at, 'slotted').chat()).status === 200, 'the slot comes back')
  })

  it('lets a stream end on the route it began with, and the next request take the new one', async () => {
    const at = await start()
    const held = gate(answer({ pieces: ['from ', 'the ', 'first'], everyMs: 5 }))
    one.script(held)
    const response = await Promise.all([
      as(at, 'free').open({ body: { stream: true } }),
      one.waitForRequests(1).then(async () => {
        at.writeConfig(configuration({ routes: { m: ['t2'] } }))
        expect((await at.reload()).status).toBe(200)
        expect((await as(at, 'free').chat()).header('x-sluice-deployment')).toBe('p2/m2')
        expect((await as(at, 'free', 'n').chat()).status).toBe(404)
        held.open()
      }),
    ])
    const events = []
    for await (const event of readSse(response[0].body)) events.push(event)
    expect(summarizeChat(events)).toMatchObject({ text: 'from the first', done: true })
    expect(response[0].headers.get('x-sluice-deployment')).toBe('p1/m1')
  })
})

describe('a bad new configuration', () => {
  it('never replaces the good one, and every problem is told', async () => {
    const at = await start()
    const traffic = load(as(at, 'free'))
    at.writeConfig({ ...configuration(), failover: { attemps: 4 }, routes: { m: ['t1', 'nowhere'] } })
    const refused = await at.reload()
    expect(refused.status).toBe(422)
    const told = await refused.text()
    expect(told).toContain('attemps')
    expect(told).toContain('attempts')
    expect(told).toContain('nowhere')
    await at.waitForLog(({ msg }) => String(msg).startsWith('the new configuration is not used'))

    at.writeConfig('this: [is not, yaml')
    at.signal('SIGHUP')
    await eventually(
      () =>
        at.logLines().filter(({ msg }) => String(msg).startsWith('the new configuration is not used'))
          .length >= 2,
      'the second refusal in the log',
    )
    await traffic.more(20)
    expect(await traffic.stop()).toEqual([])
    expect((await as(at, 'free').chat()).header('x-sluice-deployment')).toBe('p1/m1')

    at.writeConfig(configuration({ routes: { m: ['t2'] } }))
    expect((await at.reload()).status).toBe(200)
    expect((await as(at, 'free').chat()).header('x-sluice-deployment')).toBe('p2/m2')
  })

  it('in one policy file leaves all agents as they were until it is mended', async () => {
    const at = await start()
    at.writePolicy('free', agentPolicy('free', bearers.new, { scopes: ['chta:*'] }))
    await at.waitForLog(({ msg }) => String(msg).startsWith('the new configuration is not used'))
    expect((await as(at, 'free').chat()).status).toBe(200)
    expect((await as(at, 'new').chat()).status).toBe(401)

    const before = reloadsOf(at)
    at.writePolicy('free', agentPolicy('free', bearers.new))
    await reloaded(at, before)
    expect((await as(at, 'free').chat()).status).toBe(401)
    expect((await as(at, 'new').chat()).status).toBe(200)
  })

  it('is not looked at for a stranger', async () => {
    const at = await start()
    const bare = await fetch(`${at.adminUrl}/reload`, { method: 'POST' })
    const wrong = await fetch(`${at.adminUrl}/reload`, {
      method: 'POST',
      headers: { authorization: 'Bearer wrong' },
    })
    expect([bare.status, wrong.status]).toEqual([401, 401])
    expect(reloadsOf(at)).toBe(0)
  })
})

describe('a bearer', () => {
  it('is refused once it has left its file, and its agent once the file is gone', async () => {
    const at = await start()
    const traffic = load(as(at, 'slotted'), 1)
    at.writePolicy('free', agentPolicy('free', [bearers.free, bearers.new]))
    await eventually(async () => (await as(at, 'new').chat()).status === 200, 'the new bearer is known')
    at.writePolicy('free', agentPolicy('free', bearers.new))
    await eventually(async () => (await as(at, 'free').chat()).status === 401, 'the old bearer is refused')
    expect((await as(at, 'new').chat()).status).toBe(200)

    at.removePolicy('free')
    expect((await at.reload()).status).toBe(200)
    expect((await as(at, 'new').chat()).error).toMatchObject({ code: 'invalid_api_key' })
    expect((await traffic.stop()).filter(({ status }) => status !== 429)).toEqual([])
  })
})

describe('a secret in a file', () => {
  let path: string
  const keysSeen = (): Set<string> =>
    new Set(one.requests.map((request) => request.header('authorization') ?? 'none'))

  beforeEach(() => {
    path = join(temporaryFolder('secrets'), 'key')
    replace('the-first-provider-key')
  })

  function replace(value: string, mode = 0o600): void {
    writeFileSync(`${path}.new`, `${value}\n`, { mode })
    chmodSync(`${path}.new`, mode)
    renameSync(`${path}.new`, path)
  }

  it.each([
    ['by itself', undefined],
    ['when only the secrets are reloaded', '?secrets-only'],
  ] as const)('is replaced under load %s, without a failed request', async (_, query) => {
    const at = await start({ providers: { p1: { apiKey: `file:${path}` } } })
    const traffic = load(as(at, 'free'))
    await traffic.more(20)
    expect([...keysSeen()]).toEqual(['Bearer the-first-provider-key'])

    replace('the-second-provider-key')
    if (query !== undefined) {
      const told = await fetch(`${at.adminUrl}/reload${query}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${at.adminToken}` },
      })
      expect(told.status).toBe(200)
    }
    await eventually(() => keysSeen().has('Bearer the-second-provider-key'), 'the provider sees the new key')
    const from = one.requests.findIndex((request) => request.header('authorization')?.includes('second'))
    await traffic.more(20)
    expect(await traffic.stop()).toEqual([])
    // Those under way at the change may still carry the old one, nobody after them.
    const later = one.requests.slice(from + 8).map((request) => request.header('authorization'))
    expect(new Set(later)).toEqual(new Set(['Bearer the-second-provider-key']))
    expect(keysSeen().size).toBe(2)
    expect(at.stdout() + at.stderr()).not.toMatch(/the-(first|second)-provider-key/)
  })

  it('that others could read is not taken, and the last good value stays', async () => {
    const at = await start({ providers: { p1: { apiKey: `file:${path}` } } })
    replace('the-public-provider-key', 0o644)
    const told = await at.reload()
    expect(told.status).toBe(422)
    expect(await told.text()).toMatch(/0644.*0600|0600.*0644/)
    expect((await as(at, 'free').chat()).header('x-sluice-attempts')).toBe('t1:p1/m1=200')
    expect([...keysSeen()]).toEqual(['Bearer the-first-provider-key'])
  })
})
