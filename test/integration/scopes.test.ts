// Who may do what, at the door of a real gateway: deny by default, `deny` wins, one answer for every bearer that is
// none, and a refusal that costs nothing and tells nothing but the missing scope.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createCaller } from '../support/caller.ts'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'

const ROOT = join(import.meta.dirname, '../..')
const bearers = {
  analyst: makeBearer(),
  everything: makeBearer(),
  nothing: makeBearer(),
  embedder: makeBearer(),
  expired: makeBearer(),
  lasting: makeBearer(),
  revoked: makeBearer(),
}
type Name = keyof typeof bearers

let provider: ScriptedProvider
let gateway: TestGateway
let minted: { bearer: string; line: string }

beforeAll(async () => {
  provider = await createScriptedProvider()
  minted = mint()
  gateway = await startGateway({
    config: simpleConfig({
      provider: provider.url,
      over: {
        routes: Object.fromEntries(
          [
            'gpt-oss-120b',
            'gemini-3-flash',
            'gemini-3-preview',
            'org/team/model',
            'GPT-OSS-120B',
            'lab-*',
          ].map((name) => [name, ['t1']]),
        ),
      },
    }),
    policies: {
      analyst: agentPolicy('analyst', bearers.analyst, {
        scopes: ['chat:gpt-oss-120b', 'chat:gemini-*', 'chat:org/*'],
        deny: ['chat:*-preview'],
        limits: { requests: { capacity: 5, refill: '1/h' } },
      }),
      everything: agentPolicy('everything', bearers.everything),
      nothing: agentPolicy('nothing', bearers.nothing, { scopes: [] }),
      embedder: agentPolicy('embedder', bearers.embedder, { scopes: ['embeddings:*'] }),
      dated: {
        agent: 'dated',
        bearers: [
          { id: 'old', sha256: bearers.expired.sha256, expires: '2024-02-29' },
          { id: 'new', sha256: bearers.lasting.sha256, expires: '2999-12-31' },
        ],
        scopes: ['chat:*'],
      },
      revoked: agentPolicy('revoked', bearers.revoked),
      minted: `agent: minted\nbearers:\n  ${minted.line}\nscopes: ["chat:*"]\n`,
    },
  })
  gateway.removePolicy('revoked')
  expect((await gateway.reload()).status).toBe(200)
})
afterAll(() => Promise.all([gateway.stop(), provider.close()]))
beforeEach(() => provider.reset())

/** What the command line gives an operator: the bearer, and its line for the agent's file. */
function mint(): { bearer: string; line: string } {
  const node = join(ROOT, 'node_modules/.bin/node')
  const told = spawnSync(node, [join(ROOT, 'src/main.ts'), 'bearer', 'new', 'minted'], {
    encoding: 'utf8',
    timeout: 20_000,
  })
  expect(told.status).toBe(0)
  const [bearer = '', line = ''] = told.stdout.split('\n')
  return { bearer, line }
}

const ask = (name: Name, model: string, path?: string) =>
  createCaller(gateway.baseUrl, bearers[name].bearer, model).chat(
    path === undefined ? {} : { path, body: { input: 'x' } },
  )

describe('a scope', () => {
  it.each([
    ['analyst', 'gpt-oss-120b', 200],
    ['analyst', 'gemini-3-flash', 200],
    ['analyst', 'org/team/model', 200],
    ['everything', 'gemini-3-preview', 200],
    ['everything', 'lab-7', 200],
  ] as const)('lets %s chat with %s', async (name, model, status) => {
    expect((await ask(name, model)).status).toBe(status)
    expect(provider.calls).toBe(1)
  })

  it.each([
    ['analyst', 'gemini-3-preview', 'a deny entry wins over a scope'],
    ['analyst', 'GPT-OSS-120B', 'case counts'],
    ['analyst', 'gpt-oss-120b-2', 'a name without * is that name only'],
    ['analyst', 'lab-7', 'there is such a route'],
    ['analyst', 'no-such-model', 'there is no such route'],
    ['nothing', 'gpt-oss-120b', 'no scope at all'],
    ['embedder', 'gpt-oss-120b', 'a scope for another operation'],
  ] as const)('that is missing is a 403 that names it: %s, %s (%s)', async (name, model, _why) => {
    const refused = await ask(name, model)
    expect(refused.status).toBe(403)
    expect(refused.error).toEqual({
      message: expect.stringContaining(`chat:${model}`),
      type: 'invalid_request_error',
      param: 'model',
      code: 'scope_denied',
    })
    expect(refused.header('x-should-retry')).toBe('false')
    expect(refused.header('retry-after')).toBe('')
    expect(refused.header('x-request-id')).toMatch(/^req_/)
    expect(provider.calls).toBe(0)
  })

  it('tells nothing of whether there is such a route', async () => {
    const [there, nowhere] = [await ask('analyst', 'lab-7'), await ask('analyst', 'lib-7')]
    expect(there.text.replaceAll('lab-7', 'lib-7')).toBe(nowhere.text)
  })

  it('is for one operation', async () => {
    expect((await ask('embedder', 'gpt-oss-120b', '/embeddings')).status).toBe(200)
    const refused = await ask('analyst', 'gpt-oss-120b', '/embeddings')
    expect(refused.status).toBe(403)
    expect(refused.error?.message).toContain('embeddings:gpt-oss-120b')
  })

  it('that is missing takes nothing from a bucket', async () => {
    const before = Number((await ask('analyst', 'gpt-oss-120b')).header('x-ratelimit-remaining-requests'))
    for (let i = 0; i < 10; i += 1) expect((await ask('analyst', 'lab-7')).status).toBe(403)
    const after = Number((await ask('analyst', 'gpt-oss-120b')).header('x-ratelimit-remaining-requests'))
    expect(after).toBe(before - 1)
  })

  it('that is there leads to 404 where no route does', async () => {
    const none = await ask('everything', 'no-such-model')
    expect([none.status, none.error?.code]).toEqual([404, 'model_not_found'])
  })
})

describe('a bearer', () => {
  it('as the command line makes it is accepted, and mistyped it is not', async () => {
    expect(minted.bearer).toMatch(/^sk-sluice-/)
    const call = (bearer: string) => createCaller(gateway.baseUrl, bearer, 'lab-1').chat()
    expect((await call(minted.bearer)).status).toBe(200)
    const last = minted.bearer.at(-1) === 'a' ? 'b' : 'a'
    expect((await call(minted.bearer.slice(0, -1) + last)).status).toBe(401)
    expect((await call(`${minted.bearer}x`)).status).toBe(401)
  })

  it('is accepted until the day it expires', async () => {
    expect((await ask('lasting', 'lab-1')).status).toBe(200)
    expect((await ask('expired', 'lab-1')).status).toBe(401)
  })

  const send = (headers: Readonly<Record<string, string>>) =>
    fetch(`${gateway.baseUrl}/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model: 'lab-1', messages: [] }),
    })

  it('that is missing, unknown, expired or revoked gets one and the same answer', async () => {
    const presented: readonly Readonly<Record<string, string>>[] = [
      {},
      { authorization: 'Bearer ' },
      { authorization: 'Bearer sk-unknown' },
      { authorization: 'Basic dXNlcjpwYXNz' },
      { authorization: `Bearer ${bearers.expired.bearer}` },
      { authorization: `Bearer ${bearers.revoked.bearer}` },
      { authorization: `Bearer ${bearers.revoked.sha256}` },
      { 'x-api-key': 'sk-sluice-mistyped' },
    ]
    const answers = await Promise.all(
      presented.map(async (headers) => {
        const told = await send(headers)
        const kept = [...told.headers].filter(([name]) => name !== 'x-request-id' && name !== 'date')
        return JSON.stringify([told.status, kept, await told.text()])
      }),
    )
    expect(new Set(answers).size).toBe(1)
    expect(answers[0]).toContain('invalid_api_key')
    expect(JSON.parse(answers[0] ?? '[]')[0]).toBe(401)
    expect(provider.calls).toBe(0)
  })

  it('may stand in any of four headers, and two that differ are refused', async () => {
    const { bearer } = bearers.everything
    const presented: readonly Readonly<Record<string, string>>[] = [
      { authorization: `Bearer ${bearer}` },
      { authorization: `bearer ${bearer}` },
      { 'x-api-key': bearer },
      { 'api-key': bearer },
      { 'x-goog-api-key': bearer },
      { 'x-api-key': bearer, authorization: `Bearer ${bearer}` },
    ]
    for (const headers of presented) {
      expect((await send(headers)).status).toBe(200)
    }
    const two = await send({ 'x-api-key': bearer, authorization: 'Bearer another' })
    expect([two.status, await two.text()]).toEqual([400, expect.stringContaining('invalid_request')])
  })

  it('is judged before the body, and the body before the scope', async () => {
    const stranger = createCaller(gateway.baseUrl, 'sk-unknown', 'lab-1')
    expect((await stranger.chat({ headers: { 'content-type': 'text/plain' } })).status).toBe(401)
    const nobody = createCaller(gateway.baseUrl, bearers.nothing.bearer, 'lab-1')
    expect((await nobody.chat({ headers: { 'content-type': 'text/plain' } })).status).toBe(415)
    expect((await nobody.chat({ body: { stream: 'yes' } })).status).toBe(400)
    expect((await nobody.chat()).status).toBe(403)
  })
})
