// `/v1/models` of a real gateway: what the caller may use and nothing else, in the shapes that SDKs read.

import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { schemaFaults } from '../support/openai-schema.ts'
import { createScriptedProvider, isRecord, type ScriptedProvider } from '../support/scripted-provider.ts'

const bearers = {
  analyst: makeBearer(),
  everything: makeBearer(),
  nothing: makeBearer(),
  embedder: makeBearer(),
}
const ROUTES = ['gpt-oss-120b', 'gemini-3-flash', 'gemini-3-preview', 'org/team/model', 'gemini-*', '*']

let provider: ScriptedProvider
let gateway: TestGateway

beforeAll(async () => {
  provider = await createScriptedProvider()
  gateway = await startGateway({
    config: {
      ...simpleConfig({ provider: provider.url }),
      routes: Object.fromEntries(ROUTES.map((name) => [name, ['t1']])),
    },
    policies: {
      analyst: agentPolicy('analyst', bearers.analyst, {
        ...{ scopes: ['chat:gpt-oss-120b', 'chat:gemini-*'], deny: ['chat:*-preview'] },
        limits: { requests: { capacity: 1, refill: '1/h' } },
      }),
      everything: agentPolicy('everything', bearers.everything),
      nothing: agentPolicy('nothing', bearers.nothing, { scopes: [] }),
      embedder: agentPolicy('embedder', bearers.embedder, { scopes: ['embeddings:org/*'] }),
    },
  })
})
afterAll(() => Promise.all([gateway.stop(), provider.close()]))

function get(path: string, bearer: string | undefined, init: RequestInit = {}): Promise<Response> {
  return fetch(`${gateway.url}${path}`, {
    ...init,
    headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
  })
}

async function namesFor(bearer: string, path = '/v1/models'): Promise<unknown[]> {
  const response = await get(path, bearer)
  expect(response.status).toBe(200)
  expect(response.headers.get('x-request-id')).toMatch(/^req_/)
  const body: unknown = await response.json()
  const list = isRecord(body) && Array.isArray(body.data) ? body.data : []
  return list.map((model: unknown) => (isRecord(model) ? model.id : undefined)).toSorted()
}

describe('the list of models', () => {
  it('shows what the caller may use and nothing else', async () => {
    expect(await namesFor(bearers.analyst.bearer)).toEqual(['gemini-3-flash', 'gpt-oss-120b'])
    expect(await namesFor(bearers.embedder.bearer)).toEqual(['org/team/model'])
    expect(await namesFor(bearers.nothing.bearer)).toEqual([])
  })

  it('leaves out routes that are globs, which are no names', async () => {
    expect(await namesFor(bearers.everything.bearer)).toEqual([
      ...['gemini-3-flash', 'gemini-3-preview', 'gpt-oss-120b', 'org/team/model'],
    ])
  })

  it('is the same without /v1, with two of them, and with a query', async () => {
    for (const path of ['/models', '/v1/v1/models', '/v1/models/', '/v1/models?limit=2&after=x']) {
      expect(await namesFor(bearers.analyst.bearer, path)).toEqual(['gemini-3-flash', 'gpt-oss-120b'])
    }
  })

  it('has the shape of OpenAI and of Anthropic in one', async () => {
    const body = await (await get('/v1/models', bearers.embedder.bearer)).json()
    expect(body).toMatchObject({
      object: 'list',
      data: [
        {
          id: 'org/team/model',
          object: 'model',
          created: expect.any(Number),
          owned_by: expect.any(String),
          type: 'model',
        },
      ],
      has_more: false,
      first_id: 'org/team/model',
      last_id: 'org/team/model',
    })
  })

  it('is as OpenAI describes it, and is read by the SDKs of both', async () => {
    const body: unknown = await (await get('/v1/models', bearers.everything.bearer)).json()
    expect(schemaFaults('ListModelsResponse', body)).toEqual([])
    const one: unknown = await (await get('/v1/models/org/team/model', bearers.everything.bearer)).json()
    expect(schemaFaults('Model', one)).toEqual([])
    const names = ['gemini-3-flash', 'gemini-3-preview', 'gpt-oss-120b', 'org/team/model']
    const apiKey = bearers.everything.bearer
    const openai = new OpenAI({ apiKey, baseURL: `${gateway.url}/v1`, maxRetries: 0 })
    const ids: string[] = []
    for await (const { id } of openai.models.list()) ids.push(id)
    expect(ids.toSorted()).toEqual(names)
    expect(await openai.models.retrieve('gpt-oss-120b')).toMatchObject({
      object: 'model',
      owned_by: 'sluice',
    })
    const anthropic = new Anthropic({ apiKey, baseURL: gateway.url, maxRetries: 0 })
    const shown: string[] = []
    for await (const { id, display_name } of anthropic.models.list()) shown.push(`${id} ${display_name}`)
    expect(shown.toSorted()).toEqual(names.map((name) => `${name} ${name}`))
  })

  it('is nothing for a stranger', async () => {
    for (const bearer of [undefined, 'sk-unknown']) {
      const refused = await get('/v1/models', bearer)
      expect(refused.status).toBe(401)
      expect(await refused.json()).toMatchObject({ error: { code: 'invalid_api_key' } })
    }
  })

  it('costs nothing', async () => {
    for (let i = 0; i < 5; i += 1) await namesFor(bearers.analyst.bearer)
    expect(provider.calls + provider.probes.length).toBe(0)
  })

  it('takes GET only', async () => {
    const refused = await get('/v1/models', bearers.everything.bearer, { method: 'DELETE' })
    expect(refused.status).toBe(405)
    expect(await refused.json()).toMatchObject({ error: { code: 'method_not_allowed' } })
  })
})

describe('a single model', () => {
  it('is shown to who may use it, slashes in its name and all', async () => {
    for (const path of ['/v1/models/org/team/model', '/v1/models/org%2Fteam%2Fmodel']) {
      const found = await get(path, bearers.embedder.bearer)
      expect(found.status).toBe(200)
      expect(await found.json()).toMatchObject({ id: 'org/team/model', object: 'model' })
    }
  })

  it('is not there for others, whether or not there is a route', async () => {
    const answers = await Promise.all(
      ['gemini-3-preview', 'no-such-model', 'gemini-*'].map(async (name) => {
        const none = await get(`/v1/models/${name}`, bearers.analyst.bearer)
        return [none.status, (await none.text()).replaceAll(name, 'NAME')]
      }),
    )
    expect(new Set(answers.map((told) => JSON.stringify(told))).size).toBe(1)
    expect(answers[0]).toEqual([404, expect.stringContaining('model_not_found')])
  })

  it('is nothing for a stranger', async () => {
    expect((await get('/v1/models/gpt-oss-120b', undefined)).status).toBe(401)
  })
})
