import { expect, test } from 'vitest'
import { type Environment, fromEnvironment } from '../../../src/config/environment.ts'
import type { Snapshot } from '../../../src/config/snapshot.ts'
import { problemsOf, SHA, START, snapshotOf, VENDORS } from './configurations.ts'

const start = (environment: Environment, localModel?: string): Snapshot =>
  snapshotOf(fromEnvironment(environment, { vendors: VENDORS, start: START, bearerSha256: SHA, localModel }))

const ANTHROPIC = { ANTHROPIC_API_KEY: 'sk-ant-1' }
const OPENAI = { OPENAI_API_KEY: 'sk-1' }
const GEMINI = { GEMINI_API_KEY: 'AIza1' }
const LOCAL = { LOCAL_LLM_URL: 'http://127.0.0.1:8080' }

const tiersOf = (snapshot: Snapshot) =>
  Object.fromEntries(
    [...snapshot.tiers.values()].map((tier) => [tier.name, tier.deployments.map(({ name }) => name).join()]),
  )
const routesOf = (snapshot: Snapshot) =>
  Object.fromEntries(
    [...snapshot.routes.values()].map((route) => [route.name, route.tiers.map(({ name }) => name).join()]),
  )

const SOVEREIGN = 'anthropic/claude-opus-4-5'
const matrix: readonly (readonly [Environment, Readonly<Record<string, string>>])[] = [
  [ANTHROPIC, { sovereign: SOVEREIGN }],
  [OPENAI, { sovereign: 'openai/gpt-5.1', fast: 'openai/gpt-5-mini', openai: 'openai/*' }],
  [GEMINI, { fast: 'google/gemini-3-flash' }],
  [LOCAL, { execution: 'local/gpt-oss-120b' }],
  [
    { ...ANTHROPIC, ...OPENAI },
    { sovereign: SOVEREIGN, fast: 'openai/gpt-5-mini', openai: 'openai/*' },
  ],
  [
    { ...OPENAI, ...GEMINI },
    { sovereign: 'openai/gpt-5.1', fast: 'google/gemini-3-flash', openai: 'openai/*' },
  ],
  [
    { ...ANTHROPIC, ...GEMINI },
    { sovereign: SOVEREIGN, fast: 'google/gemini-3-flash' },
  ],
  [
    { ...ANTHROPIC, ...LOCAL },
    { sovereign: SOVEREIGN, execution: 'local/gpt-oss-120b' },
  ],
  [
    { ...ANTHROPIC, ...OPENAI, ...GEMINI, ...LOCAL },
    {
      sovereign: SOVEREIGN,
      execution: 'local/gpt-oss-120b',
      fast: 'google/gemini-3-flash',
      openai: 'openai/*',
    },
  ],
  [
    {},
    {
      sovereign: 'simulated/claude-opus-4-5',
      execution: 'simulated/gpt-oss-120b',
      fast: 'simulated/gemini-3-flash',
    },
  ],
  [
    { ANTHROPIC_API_KEY: '', OPENAI_API_KEY: ' ' },
    {
      sovereign: 'simulated/claude-opus-4-5',
      execution: 'simulated/gpt-oss-120b',
      fast: 'simulated/gemini-3-flash',
    },
  ],
]

test.each(matrix)('%j makes the tiers %j', (environment, tiers) => {
  expect(tiersOf(start(environment))).toEqual(tiers)
})

test('with everything found, the routes are those of the contract', () => {
  expect(routesOf(start({ ...ANTHROPIC, ...OPENAI, ...GEMINI, ...LOCAL }))).toEqual({
    'claude-opus-4-5-thinking': 'sovereign,execution,fast',
    'gpt-oss-120b': 'execution,fast',
    'gemini-3-flash': 'fast,execution',
    'gemini-*': 'fast,execution',
    auto: 'sovereign,execution,fast',
    '*': 'openai',
  })
})

test('tiers that are not there are left out, and a route left empty gets all there are', () => {
  expect(routesOf(start(ANTHROPIC))).toEqual({
    'claude-opus-4-5-thinking': 'sovereign',
    'gpt-oss-120b': 'sovereign',
    'gemini-3-flash': 'sovereign',
    'gemini-*': 'sovereign',
    auto: 'sovereign',
  })
  expect(routesOf(start({ ...ANTHROPIC, ...LOCAL }))).toMatchObject({
    'claude-opus-4-5-thinking': 'sovereign,execution',
    'gemini-*': 'execution',
    auto: 'sovereign,execution',
  })
})

test('keys stay references, and no value of the environment is in the snapshot', () => {
  const snapshot = start({ ...ANTHROPIC, ...OPENAI, ...GEMINI })
  expect([...snapshot.providers.values()].flatMap((provider) => provider.keys).toSorted()).toEqual([
    'env:ANTHROPIC_API_KEY',
    'env:GEMINI_API_KEY',
    'env:OPENAI_API_KEY',
  ])
  const text = JSON.stringify(snapshot, (_, value) => (value instanceof Map ? [...value] : value))
  expect(text).not.toMatch(/sk-ant-1|"sk-1"|AIza1/)
})

test.each([
  ['http://127.0.0.1:8080', 'http://127.0.0.1:8080/v1'],
  ['http://127.0.0.1:8080/', 'http://127.0.0.1:8080/v1'],
  ['http://127.0.0.1:8080/v1', 'http://127.0.0.1:8080/v1'],
  [' http://127.0.0.1:8080/v1/ ', 'http://127.0.0.1:8080/v1'],
  ['https://llm.example/openai', 'https://llm.example/openai/v1'],
])('takes LOCAL_LLM_URL %s as %s', (url, baseUrl) => {
  expect(start({ LOCAL_LLM_URL: url }).providers.get('local')).toMatchObject({
    baseUrl,
    keys: [],
    format: 'openai',
  })
})

test('the local model is the one named, else the one listed, else the default', () => {
  const execution = (environment: Environment, listed?: string) =>
    tiersOf(start({ ...LOCAL, ...environment }, listed)).execution
  expect(execution({ SLUICE_LOCAL_MODEL: 'qwen' }, 'listed')).toBe('local/qwen')
  expect(execution({}, 'org/listed')).toBe('local/org/listed')
  expect(execution({})).toBe('local/gpt-oss-120b')
  expect(execution({ SLUICE_LOCAL_MODEL: '' })).toBe('local/gpt-oss-120b')
})

test('a variable that cannot be used is a problem of its name', () => {
  const problems = (environment: Environment) =>
    problemsOf(fromEnvironment(environment, { vendors: VENDORS, start: START, bearerSha256: SHA })).map(
      ({ path }) => path,
    )
  expect(problems({ LOCAL_LLM_URL: 'localhost:8080' })).toEqual(['LOCAL_LLM_URL'])
  expect(problems({ LOCAL_LLM_URL: 'http://user:hunter2@host' })).toEqual(['LOCAL_LLM_URL'])
  expect(problems({ ...LOCAL, SLUICE_LOCAL_MODEL: 'a b' })).toEqual(['SLUICE_LOCAL_MODEL'])
})

test('OPENAI_BASE_URL is never read', () => {
  const read: string[] = []
  const environment = new Proxy<Environment>(
    { ...OPENAI, OPENAI_BASE_URL: 'http://127.0.0.1:7456/v1' },
    {
      get(target, name) {
        read.push(String(name))
        return target[String(name)]
      },
    },
  )
  expect(start(environment).providers.get('openai')?.baseUrl).toBe('https://api.openai.com/v1')
  expect(read).not.toContain('OPENAI_BASE_URL')
})

test('serves this machine only, one agent with every right, and drains at once', () => {
  const snapshot = start({})
  expect(snapshot).toMatchObject({ source: 'environment', policiesPath: undefined, redis: undefined })
  expect(snapshot.listen).toMatchObject({ host: '127.0.0.1', port: 7456, drainNoticeMs: 0 })
  expect(snapshot.admin.token).toBeUndefined()
  expect([...snapshot.agents.values()]).toEqual([
    expect.objectContaining({
      name: 'local',
      limits: { strict: false },
      deny: [],
      scopes: [
        { operation: 'chat', models: '*' },
        { operation: 'embeddings', models: '*' },
        { operation: 'images', models: '*' },
        { operation: 'audio', models: '*' },
        { operation: 'moderations', models: '*' },
      ],
    }),
  ])
  expect([...snapshot.bearers.values()]).toEqual([
    expect.objectContaining({ agent: 'local', sha256: SHA, expiresMs: undefined }),
  ])
  expect(snapshot.providers.get('simulated')?.simulate).toEqual({
    latencyMs: 60,
    paceMs: 12,
    fault: undefined,
  })
})

test('the token for operators is used when it is set', () => {
  expect(start({ SLUICE_ADMIN_TOKEN: 'secret-token' }).admin.token).toBe('env:SLUICE_ADMIN_TOKEN')
})

test('says what was found, or where it looked', () => {
  expect(start(GEMINI).warnings).toEqual(['providers found in the environment: google (GEMINI_API_KEY)'])
  expect(start({}).warnings).toEqual([
    'none of ANTHROPIC_API_KEY, GEMINI_API_KEY, OPENAI_API_KEY, LOCAL_LLM_URL is set, so answers are simulated',
  ])
})
