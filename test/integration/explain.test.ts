// What an operator is told of a request that nobody sent: at the operators' port, and by `sluice explain`. Neither calls
// a provider nor takes from a limit: that is counted at the provider, and in Redis.

import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createCaller } from '../support/caller.ts'
import { agentPolicy, makeBearer, simpleConfig, type TestGateway } from '../support/gateway.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { answer, rateLimited, silent, status } from '../support/scripted-provider.ts'
import { createStage } from '../support/stage.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const [NODE, MAIN] = [join(ROOT, 'node_modules/.bin/node'), join(ROOT, 'src/main.ts')]
const stage = await createStage()
const [planner, batch] = [makeBearer(), makeBearer()]
let redis: TestRedis

beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.stop())

function open(over: Readonly<Record<string, unknown>> = {}): Promise<TestGateway> {
  const config = simpleConfig({
    provider: [stage.one.url, stage.two.url],
    tier: { retries: 0, firstToken: '200ms' },
    over: {
      redis: { url: redis.url },
      tiers: { last: { reply: 'Nobody is there.' } },
      routes: { m: ['t1', 't2', 'last'] },
      ...over,
    },
  })
  const limits = { requests: { capacity: 2, refill: '1/h' } }
  const policies = {
    planner: agentPolicy('planner', planner, { scopes: ['chat:m', 'chat:gone'], limits }),
    batch: agentPolicy('batch', batch, { class: 'batch' }),
    nobody: agentPolicy('nobody', []),
  }
  return stage.start({ config, policies })
}

async function explain(at: TestGateway, question: unknown, token = at.adminToken) {
  const response = await fetch(`${at.adminUrl}/explain`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: typeof question === 'string' ? question : JSON.stringify(question),
  })
  // biome-ignore lint/suspicious/noExplicitAny: what it says is what is tested
  return { status: response.status, told: (await response.json()) as any }
}

const body = (more: object = {}) => ({ model: 'm', messages: [{ role: 'user', content: 'Hello.' }], ...more })
function aForm(): FormData {
  const form = new FormData()
  form.append('model', 'm')
  return form
}

const ask = { agent: 'planner', operation: 'chat', body: body() }

describe('POST /explain', () => {
  it('tells the scope, the limits and the places in their order, and takes nothing', async () => {
    const gateway = await open()
    for (let i = 0; i < 5; i += 1) {
      const { status: code, told } = await explain(gateway, ask)
      expect(code).toBe(200)
      expect(told).toMatchObject({
        allow: true,
        status: 200,
        code: 'ok',
        matched: 'chat:m',
        route: 'm',
        limits: [{ kind: 'agent', id: 'planner', requests: { limit: 2, left: 2 } }],
        plan: [
          { tier: 't1', deployment: 'p1/m1', state: 'available', reason: 'available' },
          { tier: 't2', deployment: 'p2/m2', state: 'available', reason: 'available' },
          { tier: 'last', state: 'available', reason: 'a fixed reply, when nobody else has answered' },
        ],
      })
    }
    expect(stage.one.calls + stage.two.calls).toBe(0)
    expect(await redis.command('EXISTS', 'slc:1:{planner}:b:agent:planner')).toBe(0)
  })

  it('says who has no such endpoint, of a path too and of a form, and refuses as the request would be', async () => {
    const operations = ['chat', 'images', 'audio', 'moderations']
    const gateway = await open({ operations, providers: { p2: { alsoSpeaks: ['speech', 'image-edits'] } } })
    const policy = agentPolicy('nobody', planner, {
      scopes: ['chat:*', 'images:*', 'audio:*', 'moderations:*'],
    })
    gateway.removePolicy('planner')
    gateway.writePolicy('nobody', policy)
    expect((await gateway.reload()).status).toBe(200)
    const of = async (operation: string, more: object = {}) =>
      (await explain(gateway, { agent: 'nobody', operation, body: { model: 'm', ...more } })).told
    const why = 'no provider of it has that.'
    for (const operation of ['audio', '/v1/audio/speech', '/images/edits']) {
      const told = await of(operation, { prompt: 'Hello.', n: 2 })
      expect(told, operation).toMatchObject({ allow: true, status: 200 })
      expect(told.plan, operation).toMatchObject([
        {
          deployment: 'p1/m1',
          reason: expect.stringMatching(/^skipped:format: .*no provider of it has that/),
        },
        { deployment: 'p2/m2', reason: 'available' },
        { tier: 'last' },
      ])
    }
    for (const [operation, path] of [
      ['moderations', '/moderations'],
      ['/v1/audio/translations', '/audio/translations'],
    ] as const) {
      const told = await of(operation)
      const response = await fetch(`${gateway.baseUrl}${path}`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${planner.bearer}`,
          ...(path === '/moderations' && { 'content-type': 'application/json' }),
        },
        body: path === '/moderations' ? JSON.stringify({ model: 'm' }) : aForm(),
      })
      const { error } = (await response.json()) as { error: { code: string; message: string } }
      expect(error.message, operation).toContain(why)
      expect(told, operation).toMatchObject({
        status: response.status,
        code: error.code,
        message: error.message,
      })
    }
    expect(await of('/v1/responses', { input: 'Hi', previous_response_id: 'resp_1' })).toMatchObject({
      status: 400,
      message: expect.stringContaining('previous_response_id'),
    })
    expect(await of('/v1/messages', { max_tokens: 9, messages: [] })).toMatchObject({ allow: true })
    expect(stage.one.calls + stage.two.calls).toBe(0)
  })

  it('says which limit is full, as the next request would hear it', async () => {
    const gateway = await open()
    const caller = createCaller(gateway.baseUrl, planner.bearer)
    await caller.chat()
    await caller.chat()
    expect((await caller.chat()).status).toBe(429)
    const { told } = await explain(gateway, ask)
    expect(told).toMatchObject({ allow: true, status: 429, code: 'rate_limit_exceeded' })
    expect(told.limits[0].requests.left).toBe(0)
    await redis.command('FLUSHALL')
  })

  it('says why each place stands where it stands', async () => {
    const gateway = await open()
    const caller = createCaller(gateway.baseUrl, batch.bearer)
    stage.one.script(rateLimited(20))
    stage.two.script(silent())
    await caller.chat({ body: { stream: true } })
    const { told } = await explain(gateway, { ...ask, agent: 'batch' })
    expect(told.plan).toMatchObject([
      {
        deployment: 'p1/m1',
        state: 'unavailable',
        reason: expect.stringMatching(/^429: left alone for (?:20|19\.\d) s$/),
      },
      {
        deployment: 'p2/m2',
        state: 'slow',
        reason: expect.stringMatching(/^first_token: left alone for \d(?:\.\d)? s$/),
      },
      { tier: 'last' },
    ])
  })

  it('says who is kept for others, by class', async () => {
    const gateway = await open({ limits: {} })
    const caller = createCaller(gateway.baseUrl, batch.bearer)
    stage.one.script(
      status(
        200,
        { choices: [{ index: 0, message: { role: 'assistant', content: 'Hi.' }, finish_reason: 'stop' }] },
        {
          'x-ratelimit-limit-requests': '100',
          'x-ratelimit-remaining-requests': '3',
          'x-ratelimit-reset-requests': '60s',
        },
      ),
    )
    await caller.chat()
    const forBatch = await explain(gateway, { ...ask, agent: 'batch' })
    expect(forBatch.told.plan[0]).toEqual({
      tier: 't1',
      deployment: 'p1/m1',
      state: 'low_quota',
      reason: '3 % of its quota left: kept for others',
    })
    const forPlanner = await explain(gateway, ask)
    expect(forPlanner.told.plan[0].reason).toMatch(/^3 % of its quota left: 3\d % of the traffic$/)
    // And so it is.
    expect((await caller.chat()).header('x-sluice-attempts')).toBe(
      't1:p1/m1=skipped:unavailable, t2:p2/m2=200',
    )
  })

  it('says which deployment is full by a limit of its own or of its provider, for how long, and takes nothing', async () => {
    const gateway = await open({
      providers: {
        p1: { limits: { requests: { capacity: 1, refill: '1/min' } } },
        p2: { limits: { tokens: { capacity: 9000, refill: '1/s' } } },
      },
    })
    const caller = createCaller(gateway.baseUrl, batch.bearer)
    const open1 = { deployment: 'p1/m1', reason: 'available' }
    for (let i = 0; i < 3; i += 1)
      expect((await explain(gateway, { ...ask, agent: 'batch' })).told.plan).toMatchObject([open1, {}, {}])
    expect((await caller.chat()).header('x-sluice-attempts')).toBe('t1:p1/m1=200')
    const long = body({ max_tokens: 8000, messages: [{ role: 'user', content: 'word '.repeat(2000) }] })
    expect((await explain(gateway, { ...ask, agent: 'batch', body: long })).told.plan).toMatchObject([
      {
        deployment: 'p1/m1',
        state: 'available',
        reason: expect.stringMatching(/^limit: full for [\d.]+ s \(provider:requests\)$/),
      },
      { deployment: 'p2/m2', reason: 'available' },
      { tier: 'last' },
    ])
    stage.two.script(answer({ usage: { prompt_tokens: 1000, completion_tokens: 1000, total_tokens: 2000 } }))
    expect((await caller.chat()).header('x-sluice-attempts')).toBe('t1:p1/m1=skipped:limit, t2:p2/m2=200')
    // There is room for a short one and none for this one.
    const { told } = await explain(gateway, { ...ask, agent: 'batch', body: long })
    expect(told.plan[1]).toMatchObject({
      deployment: 'p2/m2',
      reason: expect.stringMatching(/^limit: full for \d[\d.]+ s \(provider:tokens\)$/),
    })
    const short = { ...ask, agent: 'batch', body: body({ max_tokens: 10 }) }
    expect((await explain(gateway, short)).told.plan[1].reason).toBe('available')
    expect(stage.one.calls + stage.two.calls).toBe(2)
    await redis.command('FLUSHALL')
  })

  it('says that a prompt is probably too long for a window, and asks it last', async () => {
    const gateway = await open({
      tiers: {
        t1: { deployments: [{ use: 'p1/m1', contextWindow: 1000 }] },
        last: { reply: 'Nobody is there.' },
      },
    })
    const long = body({ messages: [{ role: 'user', content: 'word '.repeat(2000) }] })
    const { told } = await explain(gateway, { ...ask, body: long })
    expect(told.plan[0].reason).toBe('context: the prompt is probably longer than its window')
    const caller = createCaller(gateway.baseUrl, batch.bearer)
    const told2 = await caller.chat({ body: long })
    expect(told2.header('x-sluice-attempts')).toBe('t1:p1/m1=context, t2:p2/m2=200')
    stage.two.script(status(503))
    expect((await caller.chat({ body: long })).header('x-sluice-attempts')).toBe('t2:p2/m2=503, t1:p1/m1=200')
  })

  it.each([
    ['a model without a scope', { ...ask, body: body({ model: 'x' }) }, 403, 'scope_denied', false],
    ['a model without a route', { ...ask, body: body({ model: 'gone' }) }, 404, 'model_not_found', true],
    [
      'a body that could be read in two ways',
      { ...ask, body: body({ Model: 'm' }) },
      400,
      'ambiguous_field',
      true,
    ],
    ['a field that steers', { ...ask, body: body({ provider: {} }) }, 400, 'invalid_request', true],
    ['an operation that there is not', { ...ask, operation: 'sing' }, 400, 'invalid_request', true],
  ])('tells how %s would be refused', async (_, question, code, word, allow) => {
    const { status: answered, told } = await explain(await open(), question)
    expect(answered).toBe(200)
    expect(told).toMatchObject({ allow, status: code, code: word, plan: [], message: expect.any(String) })
  })

  it('refuses what is no question, an agent that there is not, and whoever has no token', async () => {
    const gateway = await open()
    for (const bad of ['', '[]', '{', '{"agent":"planner"}', JSON.stringify({ ...ask, body: 'x' })])
      expect((await explain(gateway, bad)).status, bad).toBe(400)
    expect((await explain(gateway, { ...ask, agent: 'stranger' })).status).toBe(404)
    expect((await explain(gateway, { ...ask, agent: 'nobody' })).status).toBe(404)
    expect((await explain(gateway, { ...ask, bearer: 'b9' })).status).toBe(404)
    expect((await explain(gateway, ask, 'wrong')).status).toBe(401)
    expect((await explain(gateway, { ...ask, body: body({ x: 'y'.repeat(5 * 1024 * 1024) }) })).status).toBe(
      413,
    )
  })

  it('is the word of a worker, where there are some', async () => {
    const gateway = await open({ listen: { workers: 2 } })
    stage.one.script(rateLimited(20))
    await createCaller(gateway.baseUrl, batch.bearer).chat()
    await new Promise((resolve) => setTimeout(resolve, 200))
    const { told } = await explain(gateway, ask)
    expect(told.plan[0]).toMatchObject({ deployment: 'p1/m1', state: 'unavailable' })
  })
})

const runCommand = (at: TestGateway, ...words: string[]) =>
  spawnSync(NODE, [MAIN, ...words], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, SLUICE_ADMIN_URL: at.adminUrl, SLUICE_ADMIN_TOKEN: at.adminToken },
  })

describe('sluice status', () => {
  it('prints where each tier is and why, and the same for a program', async () => {
    const gateway = await open()
    stage.one.script(rateLimited(20))
    await createCaller(gateway.baseUrl, batch.bearer).chat()
    const shown = runCommand(gateway, 'status')
    expect([shown.status, shown.stderr]).toEqual([0, ''])
    expect(shown.stdout).toMatch(/^sluice \d+\.\d+\.\d+ ready, up [\d.]+ s, on .*sluice\.yaml\n/)
    expect(shown.stdout).toMatch(/t1 {4}p1\/m1 .*unavailable {2}429: left alone for [\d.]+ s {2}[\d.]+ s/)
    expect(shown.stdout).toMatch(/m .*t1 → t2/)
    expect(shown.stdout).not.toContain(gateway.adminToken)
    const told: unknown = JSON.parse(runCommand(gateway, 'status', '--json').stdout)
    expect(told).toMatchObject({ phase: 'ready', tiers: [{ tier: 't1' }, {}, {}], overload: { cap: null } })
  })
})

describe('sluice explain', () => {
  const run = (at: TestGateway, ...words: string[]) => runCommand(at, 'explain', ...words)

  it('prints a table for a person and JSON for a program', async () => {
    const gateway = await open()
    stage.one.script(rateLimited(20))
    await createCaller(gateway.baseUrl, batch.bearer).chat()
    const shown = run(gateway, 'planner', 'm')
    expect(shown.stdout).toContain('would be answered, allowed by chat:m, route m\n')
    expect(shown.stdout).toMatch(/1 {2}t1 {4}p1\/m1 {7}unavailable {2}429: left alone for [\d.]+ s\n/)
    expect(shown.stdout).toMatch(/2 {2}t2 {4}p2\/m2 {7}available {4}available\n/)
    expect([shown.status, shown.stderr]).toEqual([0, ''])
    const told: unknown = JSON.parse(run(gateway, 'planner', 'm', '--json').stdout)
    expect(told).toMatchObject({ allow: true, plan: [{ deployment: 'p1/m1' }, {}, {}] })
  })

  it('ends with 1 when the request would be refused, with 2 when the question is wrong', async () => {
    const gateway = await open()
    const refused = run(gateway, 'planner', 'x')
    expect([refused.status, refused.stdout]).toEqual([
      1,
      '403 scope_denied, refused for want of chat:x\nThis key does not carry the scope chat:x.\n',
    ])
    expect(run(gateway, 'planner', 'm', '--body', '/nowhere.json').status).toBe(2)
    expect(run(gateway, 'stranger', 'm').stderr).toContain('There is no agent of that name')
  })
})
