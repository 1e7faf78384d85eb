import { expect, test } from 'vitest'
import { hasLimits } from '../../../src/config/limits.ts'
import { validate } from '../../../src/config/validate.ts'
import {
  AGENT,
  at,
  GOOD,
  good,
  problemsOf,
  read,
  SHA,
  said,
  snapshotOf,
  type Value,
} from './configurations.ts'

test('fills in every default of the contract', () => {
  const snapshot = good(GOOD)
  expect(snapshot.listen).toEqual({
    host: '0.0.0.0',
    port: 7456,
    workers: 'auto',
    trustedProxies: [],
    maxBodyBytes: 32 * 1024 * 1024,
    bodyBudgetBytes: 512 * 1024 * 1024,
    maxConnections: 20_000,
    drainMs: 600_000,
    drainNoticeMs: 5_000,
  })
  expect(snapshot.admin).toEqual({ host: '127.0.0.1', port: 7457, token: undefined })
  expect(snapshot.redis).toBeUndefined()
  expect(snapshot.secrets).toEqual({ groupReadable: false })
  expect([...snapshot.operations]).toEqual(['chat', 'embeddings'])
  expect(snapshot.limits).toEqual({ strict: false })
  expect(snapshot.failover).toEqual({ attempts: 3, deadlineMs: 600_000, graceMs: 30_000, retryBudget: 0.1 })
  expect(snapshot.log).toEqual({ level: 'info' })
  expect(snapshot.providers.get('local')).toEqual({
    name: 'local',
    alsoSpeaks: new Set(),
    options: {},
    format: 'openai',
    kind: 'http',
    tracedAs: 'openai',
    baseUrl: 'http://127.0.0.1:8080/v1',
    keys: [],
    keyHours: undefined,
    rotateMs: undefined,
    headers: {},
    allowFields: new Set(),
    limits: { strict: false },
    health: undefined,
    simulate: undefined,
  })
  expect(snapshot.tiers.get('execution')).toMatchObject({
    balance: 'weighted',
    firstTokenMs: 15_000,
    firstByteMs: 300_000,
    idleMs: 30_000,
    attemptMs: 300_000,
    connectMs: 5_000,
    retries: 1,
    patienceMs: 0,
    needsReview: false,
  })
  expect(snapshot.deployments.get('local/gpt-oss-120b')).toMatchObject({
    kind: 'http',
    model: 'gpt-oss-120b',
    weight: 1,
    contextWindow: undefined,
    limits: { strict: false },
    text: undefined,
  })
  expect(snapshot.routes.get('gpt-oss-120b')).toMatchObject({
    limits: { strict: false },
    deadlineMs: undefined,
  })
  expect(snapshot.agents.get('tester')).toEqual({
    name: 'tester',
    role: undefined,
    class: 'normal',
    scopes: [{ operation: 'chat', models: '*' }],
    deny: [],
    limits: { strict: false },
    deadlineMs: undefined,
    maxOutputTokens: undefined,
  })
})

test('defaults of redis and of a simulated provider', () => {
  const snapshot = good({
    ...GOOD,
    redis: { url: 'redis://127.0.0.1:6379' },
    providers: { ...Object(GOOD.providers), lab: { format: 'simulated', fault: { kind: 'status' } } },
  })
  expect(snapshot.redis).toEqual({
    kind: 'url',
    url: 'redis://127.0.0.1:6379',
    tls: undefined,
    onOutage: 'local',
    replicas: 1,
  })
  expect(snapshot.providers.get('lab')).toMatchObject({
    kind: 'simulated',
    baseUrl: '',
    simulate: {
      latencyMs: 0,
      paceMs: 0,
      fault: { kind: 'status', status: 503, share: 1, retryAfterMs: undefined },
    },
  })
})

test('firstByte is the time for one attempt unless it is written', () => {
  const tier = (inner: Value) =>
    good(at(GOOD, ['tiers', 'execution'], { deployments: ['local/m'], ...inner })).tiers.get('execution')
  expect(tier({ attempt: '60s' })).toMatchObject({ attemptMs: 60_000, firstByteMs: 60_000 })
  expect(tier({ attempt: '60s', firstByte: '5s' })).toMatchObject({ attemptMs: 60_000, firstByteMs: 5_000 })
})

test('an adaptive firstToken cannot become shorter than its shortest', () => {
  const tier = (from: string, to: string) =>
    read(at(GOOD, ['tiers', 'execution', 'firstToken'], { from, to }))
  expect(said(tier('20s', '5s'))).toEqual([
    'tiers.execution.firstToken: has a from (20s) that is longer than its to (5s)',
  ])
  expect(tier('5s', '5000ms').ok).toBe(true)
  // What is no duration is said by itself.
  expect(said(tier('20', '5s'))).toEqual([expect.stringContaining('firstToken')])
})

test('a health check has a path below baseUrl and a time between a second and an hour', () => {
  const provider = (health: unknown) => read(at(GOOD, ['providers', 'local', 'health'], health))
  const compiled = (health: unknown) => snapshotOf(provider(health)).providers.get('local')?.health
  expect(compiled({ path: '/models' })).toEqual({ path: '/models', everyMs: 10_000 })
  expect(compiled({ path: '/../health', every: '1s' })).toEqual({ path: '/../health', everyMs: 1_000 })
  const where = 'providers.local.health'
  for (const path of ['models', '', 'http://other/health', '/health?full', '/a#b', '/a b', 5])
    expect(said(provider({ path })), String(path)).toEqual([
      expect.stringContaining(`${where}.path: must begin`),
    ])
  for (const every of ['999ms', '61m', 10])
    expect(said(provider({ path: '/models', every })), String(every)).toEqual([
      expect.stringContaining(where),
    ])
  expect(said(provider({}))).toEqual([expect.stringContaining(`${where}.path`)])
  const simulated = { lab: { format: 'simulated', health: { path: '/models' } } }
  expect(said(read({ ...GOOD, providers: { ...Object(GOOD.providers), ...simulated } }))).toEqual([
    'providers.lab.health: is only for a provider that is called; a simulated one answers from this process',
  ])
})

const NOT_YET: readonly (readonly [path: string, value: unknown, sentence: string])[] = [
  ['providers.local.residency', 'eu', 'residency'],
  ['providers.local.apiKey', 'vault:kv/a', 'vault:'],
  ['providers.local.apiKey', ['env:A', 'aws-sm:b'], 'aws-sm:'],
  ['admin.token', 'vault:kv/a', 'vault:'],
]

test.each(NOT_YET)('says of %s = %j that it is not yet there', (path, value, sentence) => {
  const messages = problemsOf(read(at(GOOD, path.split('.'), value))).map((problem) => problem.message)
  expect(messages).toEqual([`${sentence} is not yet supported by this version`])
})

test.each([[{ logPrompts: true }, 'logPrompts']])(
  "says of %j in an agent's file that it is not yet there",
  (part, sentence) => {
    const messages = problemsOf(read(GOOD, [{ ...AGENT, ...part }])).map((problem) => problem.message)
    expect(messages).toEqual([`${sentence} is not yet supported by this version`])
  },
)

test('a route goes on with a broken stream where it says so, or all do', () => {
  const midStream = (failover: string, route: unknown) =>
    good({
      ...at(GOOD, ['routes', 'r'], route),
      failover: { midStream: failover },
    }).routes.get('r')?.midStream
  const tiers = ['execution']
  expect(midStream('error', tiers)).toBe('error')
  expect(midStream('resume', tiers)).toBe('resume')
  expect(midStream('error', { tiers, midStream: 'resume' })).toBe('resume')
  expect(midStream('resume', { tiers, midStream: 'error' })).toBe('error')
  const prefill = (written: Value) =>
    good(at(GOOD, ['tiers', 'execution'], { deployments: [{ use: 'local/m', ...written }] })).deployments.get(
      'local/m',
    )?.prefill
  expect([prefill({}), prefill({ prefill: true }), prefill({ prefill: 'prefix' })]).toEqual([
    false,
    true,
    'prefix',
  ])
})

test('takes what stands for the present behaviour of a key that is to come', () => {
  good({
    ...at(GOOD, ['tiers', 'execution'], {
      deployments: [{ use: 'local/m', prefill: false }],
      balance: 'weighted',
    }),
    limits: { wait: 0 },
    failover: { midStream: 'error' },
    providers: { local: { format: 'openai', baseUrl: 'http://x', quirks: [] } },
  })
  good({ ...GOOD, limits: { wait: '0s' } })
})

test.each([
  [undefined, 'auto'],
  ['auto', 'auto'],
  [1, 1],
  [8, 8],
] as const)('takes %j as the number of workers for %j', (workers, count) => {
  expect(good(at(GOOD, ['listen'], { workers })).listen.workers).toBe(count)
})

test.each([
  [0, 'must be at least 1'],
  [65, 'must be at most 64'],
  [1.5, 'must be auto or a whole number'],
  ['2', 'must be auto or a whole number'],
])('refuses %j as the number of workers: %s', (workers, message) => {
  const told = problemsOf(read(at(GOOD, ['listen', 'workers'], workers)))
  expect(told).toEqual([expect.objectContaining({ message: expect.stringContaining(message) })])
})

test('tells every problem at once, each with its path', () => {
  const loaded = read(
    {
      listen: { prt: 1, maxBody: 5 },
      providers: { a: { format: 'openai', apikey: 'env:A' }, local: { format: 'simulatd' } },
      tiers: {
        t: {
          deployments: ['loca/m', 'nonsense', 'local/m', 'local/m'],
          firsttoken: '3s',
          idle: 30,
          patience: '-1s',
        },
        u: { reply: 'x', deployments: ['local/m'] },
        v: {},
      },
      routes: { r: ['tt', 'u', 't'], s: 'foo', q: { tiers: [], deadline: '0s' } },
      operations: ['chat', 'completions'],
    },
    [
      { agent: 'a b', scopes: ['chat', 'image:*', 'chat:'], bearers: [{ id: 'x', sha256: 'short' }] },
      { scopes: 'chat:*', bearers: [{ id: 'x', sha256: SHA, expires: '2027-02-30' }] },
    ],
  )
  expect(said(loaded).toSorted()).toEqual(
    [
      'listen.prt: unknown key "prt"; did you mean "port"?',
      'listen.maxBody: is not a size; write a number and its unit, for example "32MiB", "64KiB" or "1GiB"',
      'providers.a.apikey: unknown key "apikey"; did you mean "apiKey"?',
      'providers.local.format: must be one of openai, responses, anthropic, gemini, azure, vertex, bedrock, simulated; did you mean "simulated"?',
      'tiers.t.deployments[0]: unknown provider "loca"; did you mean "local"?',
      'tiers.t.deployments[1]: must be "provider/model", or "provider/*" for the model the caller named; the model is up to 200 characters of visible ASCII without commas',
      'tiers.t.deployments[3]: stands twice in this tier; give it a weight instead',
      'tiers.t.firsttoken: unknown key "firsttoken"; did you mean "firstToken"?',
      'tiers.t.idle: is not a duration; write a number and its unit, for example "250ms", "10s", "5m", "1h" or "30d"',
      'tiers.t.patience: is not a duration; write a number and its unit, for example "250ms", "10s", "5m", "1h" or "30d"',
      'tiers.u.reply: cannot stand beside deployments',
      'tiers.v: needs deployments, or a reply',
      'routes.r[0]: unknown tier "tt"; did you mean "t"?',
      'routes.r[1]: must be the last tier, because its reply always answers',
      'routes.s: must be a list, or must be a mapping of keys to values',
      'routes.q.tiers: must name at least one tier',
      'routes.q.deadline: must be at least 1ms',
      'operations[1]: must be one of chat, embeddings, images, audio, moderations',
      'agent: must be 1 to 64 letters, digits, dots, underscores or hyphens',
      'scopes[0]: must be "operation:model", for example "chat:*"; operations are chat, embeddings, images, audio, moderations',
      'scopes[1]: names an unknown operation; operations are chat, embeddings, images, audio, moderations',
      'scopes[2]: must be "operation:model", for example "chat:*"; operations are chat, embeddings, images, audio, moderations',
      'bearers[0].sha256: must be 64 hex digits in quotes: the SHA-256 of the bearer, never the bearer itself',
      'agent: is missing',
      'scopes: must be a list',
      'bearers[0].expires: must be a date such as "2027-02-19"',
    ].toSorted(),
  )
  expect(problemsOf(loaded).find((problem) => problem.path === 'tiers.t.firsttoken')?.nearest).toBe(
    'firstToken',
  )
  expect(problemsOf(loaded).find((problem) => problem.path === 'routes.r[0]')?.nearest).toBe('t')
  expect(problemsOf(loaded).filter((problem) => problem.file === 'agent-1.yaml')).toHaveLength(3)
})

const SECRET = 'sk-verysecretvalue1234567890'

test.each<readonly [string, Value]>([
  ['apiKey', at(GOOD, ['providers', 'local', 'apiKey'], SECRET)],
  ['apiKey in a list', at(GOOD, ['providers', 'local', 'apiKey'], ['env:A', SECRET])],
  ['apiKey after env:', at(GOOD, ['providers', 'local', 'apiKey'], `env:${SECRET}`)],
  ['apiKey after file:', at(GOOD, ['providers', 'local', 'apiKey'], `file:${SECRET}`)],
  ['apiKey after vault:', at(GOOD, ['providers', 'local', 'apiKey'], `vault:${SECRET}`)],
  ['apiKey.from', at(GOOD, ['providers', 'local', 'apiKey'], { from: SECRET })],
  ['apiKey as a key', at(GOOD, ['providers', 'local', 'apiKey'], { [SECRET]: 1, from: 'env:A' })],
  ['apiKey in a mapping in a list', at(GOOD, ['providers', 'local', 'apiKey'], [{ [SECRET]: SECRET }])],
  ['apiKey twice', at(GOOD, ['providers', 'local', 'apiKey'], [SECRET, SECRET])],
  ['admin.token', at(GOOD, ['admin', 'token'], SECRET)],
  ['admin.token as a list', at(GOOD, ['admin', 'token'], [SECRET])],
  ['redis.url', at(GOOD, ['redis', 'url'], `http://:${SECRET}@redis`)],
  ['redis.url without a scheme', at(GOOD, ['redis', 'url'], SECRET)],
  ['redis.url that is none', at(GOOD, ['redis', 'url'], `redis://:${SECRET}@[x`)],
  ['baseUrl', at(GOOD, ['providers', 'local', 'baseUrl'], `http://user:${SECRET}@host/v1`)],
  ['baseUrl with a query', at(GOOD, ['providers', 'local', 'baseUrl'], `http://host/v1?key=${SECRET}`)],
  ['a header', at(GOOD, ['providers', 'local', 'headers'], { 'x-a': `${SECRET}\n` })],
  ['a header of credentials', at(GOOD, ['providers', 'local', 'headers'], { Authorization: SECRET })],
])('never repeats a secret in %s', (_, config) => {
  expect(JSON.stringify(problemsOf(read(config)))).not.toContain(SECRET.slice(3))
})

test('never repeats a bearer written where its hash belongs', () => {
  const loaded = read(GOOD, [{ ...AGENT, bearers: [{ id: 'a', sha256: SECRET }] }])
  expect(JSON.stringify(problemsOf(loaded))).not.toContain(SECRET)
})

test('says how to write a key that was written out', () => {
  expect(said(read(at(GOOD, ['providers', 'local', 'apiKey'], 'sk-abc')))).toEqual([
    'providers.local.apiKey: must be a reference, never the secret itself; write "env:NAME" for a variable or "file:/path" for a file',
  ])
})

test('takes one key, a list of keys, and both in the long form', () => {
  const keys = (apiKey: unknown) =>
    good(at(GOOD, ['providers', 'local', 'apiKey'], apiKey)).providers.get('local')?.keys
  expect(keys('env:A')).toEqual(['env:A'])
  expect(keys(['env:A', 'file:/run/b'])).toEqual(['env:A', 'file:/run/b'])
  expect(keys({ from: 'env:A' })).toEqual(['env:A'])
  expect(keys({ from: ['env:A', 'env:B'] })).toEqual(['env:A', 'env:B'])
})

test.each([
  ['http://127.0.0.1:8080/v1/', 'http://127.0.0.1:8080/v1'],
  ['https://Example.COM', 'https://example.com'],
  ['https://example.com//', 'https://example.com'],
])('takes the base URL %s as %s', (written, meant) => {
  expect(good(at(GOOD, ['providers', 'local', 'baseUrl'], written)).providers.get('local')?.baseUrl).toBe(
    meant,
  )
})

test.each([
  'ftp://x',
  'x',
  '',
  'http://',
  'http://a@b',
  'http://@b',
  'http://b/?',
  'http://b/#',
  'http://b#x',
  'file:///etc',
  5,
])('refuses the base URL %s', (written) => {
  const problems = problemsOf(read(at(GOOD, ['providers', 'local', 'baseUrl'], written)))
  expect(problems.map((problem) => problem.path)).toEqual(['providers.local.baseUrl'])
})

test('asks for a base URL only where the format has none of its own', () => {
  const vendors = {
    ours: { baseUrl: undefined, wireFormat: 'openai', kind: 'http' as const, tracedAs: 'x' },
    theirs: {
      baseUrl: 'https://api.example/v1/',
      wireFormat: 'openai',
      kind: 'http' as const,
      tracedAs: 'x',
    },
  }
  const validated = (format: string) =>
    validate({
      config: { file: 'sluice.yaml', value: { providers: { p: { format } } } },
      agents: [],
      vendors,
      policiesPath: undefined,
      warnings: [],
    })
  expect(said(validated('ours'))).toEqual([
    'providers.p.baseUrl: is missing; format ours has no address of its own',
  ])
  expect(snapshotOf(validated('theirs')).providers.get('p')?.baseUrl).toBe('https://api.example/v1')
})

test.each([
  'Authorization',
  'x-api-key',
  'API-Key',
  'x-goog-api-key',
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'te',
  'upgrade',
  'bad name',
])('refuses the header %s', (header) => {
  const problems = problemsOf(read(at(GOOD, ['providers', 'local', 'headers'], { [header]: 'x' })))
  expect(problems).toHaveLength(1)
})

test('keeps other headers under lower-case names', () => {
  const snapshot = good(at(GOOD, ['providers', 'local', 'headers'], { 'X-Title': 'fleet' }))
  expect(snapshot.providers.get('local')?.headers).toEqual({ 'x-title': 'fleet' })
  expect(said(read(at(GOOD, ['providers', 'local', 'headers'], { 'X-A': '1', 'x-a': '2' })))).toHaveLength(1)
})

test('reads deployments with their models, slashes and stars', () => {
  const { tiers } = good(at(GOOD, ['tiers', 'execution', 'deployments'], ['local/org/model:free', 'local/*']))
  expect(tiers.get('execution')?.deployments.map(({ name, model }) => [name, model])).toEqual([
    ['local/org/model:free', 'org/model:free'],
    ['local/*', undefined],
  ])
})

test.each([
  'local',
  'local/',
  '/m',
  'local/a b',
  'local/a,b',
  'local/é',
  `local/${'m'.repeat(201)}`,
  'lo cal/m',
  5,
  '',
])('refuses the deployment %s', (use) => {
  expect(problemsOf(read(at(GOOD, ['tiers', 'execution', 'deployments'], [use])))).toHaveLength(1)
  expect(problemsOf(read(at(GOOD, ['tiers', 'execution', 'deployments'], [{ use }])))).toHaveLength(1)
})

test('limits of a deployment hold in every tier that names it, and cannot be said in two ways', () => {
  const tiers = (first: Value, second: Value | string) => ({
    ...GOOD,
    tiers: { execution: { deployments: [{ use: 'local/m', ...first }] }, again: { deployments: [second] } },
  })
  const shared = good(tiers({ limits: { requests: '60/min' }, contextWindow: 9 }, 'local/m'))
  expect(shared.tiers.get('again')?.deployments[0]).toMatchObject({
    limits: { requests: { capacity: 60, intervalUs: 1_000_000 } },
    contextWindow: 9,
  })
  good(
    tiers(
      { limits: { requests: '60/min' } },
      { use: 'local/m', limits: { requests: { capacity: 60, refill: '1/s' } } },
    ),
  )
  expect(
    said(read(tiers({ limits: { concurrency: 1 } }, { use: 'local/m', limits: { concurrency: 2 } }))),
  ).toEqual([
    'tiers.again.deployments[0].limits: differs from what tier "execution" says of the same deployment; limits belongs to the deployment, so say it once',
  ])
})

test('a tier with a reply answers by itself', () => {
  const snapshot = good({
    ...at(GOOD, ['tiers', 'last'], { reply: 'Nobody is there.', needsReview: true }),
    routes: { r: ['execution', 'last'] },
  })
  expect(snapshot.tiers.get('last')).toMatchObject({ needsReview: true })
  expect(snapshot.deployments.get('reply/last')).toMatchObject({
    kind: 'reply',
    provider: undefined,
    text: 'Nobody is there.',
  })
  expect(said(read(at(GOOD, ['providers', 'reply'], { format: 'simulated' })))).toEqual([
    'providers.reply: is a name that tiers with a reply use; choose another',
  ])
})

test('a simulated provider takes nothing that says how an address is spoken to', () => {
  const written = {
    alsoSpeaks: ['responses'],
    quirks: ['all-fields'],
    region: 'eu',
    project: 'p',
    apiVersion: 'v1',
  }
  const loaded = read(at(GOOD, ['providers', 'lab'], { format: 'simulated', ...written }))
  expect(said(loaded).toSorted()).toEqual(
    Object.keys(written)
      .map((key) => `providers.lab.${key}: has no meaning for format simulated`)
      .toSorted(),
  )
})

test('only a simulated provider takes pace and faults', () => {
  expect(said(read(at(GOOD, ['providers', 'local', 'latency'], '1s')))).toEqual([
    'providers.local.latency: is only for a simulated provider',
  ])
  const fault = { kind: 'status', status: 429, share: 0.25, retryAfter: '2s' }
  const lab = good(
    at(GOOD, ['providers', 'lab'], { format: 'simulated', latency: '20ms', pace: '5ms', fault }),
  ).providers.get('lab')
  expect(lab?.simulate).toEqual({
    latencyMs: 20,
    paceMs: 5,
    fault: { kind: 'status', status: 429, share: 0.25, retryAfterMs: 2_000 },
  })
})

test('reads what an agent may and its bearers', () => {
  const snapshot = good(GOOD, [
    {
      agent: 'data-analyzer',
      role: 'analyst',
      class: 'normal',
      bearers: [
        { id: 'laptop', sha256: 'AB'.repeat(32), expires: '2027-02-19', limits: { requests: '10/s' } },
      ],
      scopes: ['chat:gpt-oss-120b', 'embeddings:*'],
      deny: ['chat:*-preview'],
      limits: {
        requests: { capacity: 100, refill: '50/s' },
        tokens: '200000/min',
        concurrency: 3,
        deadline: '120s',
        maxOutput: 99,
      },
    },
  ])
  expect(snapshot.agents.get('data-analyzer')).toEqual({
    name: 'data-analyzer',
    role: 'analyst',
    class: 'normal',
    scopes: [
      { operation: 'chat', models: 'gpt-oss-120b' },
      { operation: 'embeddings', models: '*' },
    ],
    deny: [{ operation: 'chat', models: '*-preview' }],
    limits: {
      requests: { capacity: 100, intervalUs: 20_000 },
      tokens: { capacity: 200_000, intervalUs: 300 },
      concurrency: 3,
      strict: false,
    },
    deadlineMs: 120_000,
    maxOutputTokens: 99,
  })
  expect(snapshot.bearers.get(SHA)).toEqual({
    id: 'laptop',
    agent: 'data-analyzer',
    sha256: SHA,
    expiresMs: Date.UTC(2027, 1, 19),
    limits: { requests: { capacity: 10, intervalUs: 100_000 }, strict: false },
  })
})

test('no agent, bearer id or bearer is there twice', () => {
  const loaded = read(GOOD, [
    {
      agent: 'a',
      bearers: [
        { id: 'x', sha256: SHA },
        { id: 'x', sha256: 'cd'.repeat(32) },
      ],
    },
    { agent: 'a', bearers: [{ id: 'x', sha256: SHA.toUpperCase() }] },
  ])
  expect(problemsOf(loaded).map(({ file, path, message }) => `${file} ${path}: ${message}`)).toEqual([
    'agent-0.yaml bearers[1].id: is the id of another bearer of this agent',
    'agent-1.yaml agent: is the name of an agent in agent-0.yaml too',
    'agent-1.yaml bearers[0].sha256: is the same bearer as one in agent-0.yaml',
  ])
})

test('takes a budget wherever limits stand', () => {
  const limits = { budget: '20 USD/day' }
  const snapshot = good(
    {
      limits,
      providers: { local: { ...Object(Object(GOOD.providers).local), limits } },
      tiers: { execution: { deployments: [{ use: 'local/m', limits }] } },
      routes: { m: { tiers: ['execution'], limits: { budget: '500.5 USD/month' } } },
    },
    [{ ...AGENT, limits, bearers: [{ id: 'b', sha256: SHA, limits }] }],
  )
  const daily = { strict: false, budget: { micros: 20_000_000, period: 'day' } }
  for (const subject of [
    snapshot,
    snapshot.providers.get('local'),
    snapshot.deployments.get('local/m'),
    snapshot.agents.get('tester'),
    snapshot.bearers.get(SHA),
  ]) {
    expect(subject?.limits).toEqual(daily)
    expect(subject !== undefined && hasLimits(subject.limits)).toBe(true)
  }
  expect(snapshot.routes.get('m')?.limits.budget).toEqual({ micros: 500_500_000, period: 'month' })
})

test('says how to write a budget that cannot be read, and which key was meant', () => {
  const agent = (limits: Value) => said(read(GOOD, [{ ...AGENT, limits }]))
  const hint = 'is not an amount of money; write for example "20 USD/day" or "500 USD/month"'
  for (const wrong of [20, '20', '20 EUR/day', '20 USD/week', '$20/day', { micros: 5 }]) {
    expect(agent({ budget: wrong })).toEqual([`limits.budget: ${hint}`])
  }
  expect(agent({ budget: '0 USD/day' })).toEqual([
    'limits.budget: must be more than zero, for example "20 USD/day"',
  ])
  expect(agent({ budgt: '20 USD/day' })).toEqual([
    'limits.budgt: unknown key "budgt"; did you mean "budget"?',
  ])
})

test('a budget of bodies smaller than one body, and one port for two sides, are problems', () => {
  expect(said(read({ ...GOOD, listen: { bodyBudget: '1MiB', port: 7457 } }))).toEqual([
    'admin.port: is the port of listen too; operators need their own',
    'listen.bodyBudget: makes bodyBudget smaller than maxBody, so the largest body could never be held',
  ])
  good({ ...GOOD, listen: { port: 0 }, admin: { port: 0 } })
})

test('an address without a mask is a range of one', () => {
  const { listen } = good({ ...GOOD, listen: { trustedProxies: ['10.0.0.0/8', '10.1.2.3', 'fd00::1'] } })
  expect(listen.trustedProxies).toEqual(['10.0.0.0/8', '10.1.2.3/32', 'fd00::1/128'])
  for (const wrong of ['10.0.0.0/33', 'x', '10.0.0.0/', '10.0.0.0/8/8', 5]) {
    expect(problemsOf(read({ ...GOOD, listen: { trustedProxies: [wrong] } }))).toHaveLength(1)
  }
})

test('a configuration that is no mapping, or holds the wrong things everywhere, is a list of problems and not a crash', () => {
  for (const wrong of [null, 5, 'x', [], true]) {
    expect(problemsOf(read(wrong)).length).toBeGreaterThan(0)
    expect(problemsOf(read(GOOD, [wrong])).length).toBeGreaterThan(0)
    for (const key of [
      'listen',
      'admin',
      'redis',
      'providers',
      'tiers',
      'routes',
      'failover',
      'log',
      'limits',
      'operations',
    ]) {
      expect(
        problemsOf(read({ ...GOOD, [key]: wrong })).length,
        `${key} ${JSON.stringify(wrong)}`,
      ).toBeGreaterThan(0)
    }
  }
})

test('words that JavaScript gives a meaning are refused or harmless', () => {
  const config = JSON.parse(
    '{"providers":{"__proto__":{"format":"openai"}},"tiers":{"constructor":{"reply":"x"}},"routes":{"toString":["valueOf"]}}',
  )
  expect(said(read(config)).toSorted()).toEqual(
    ['providers.__proto__: is a reserved word', 'routes.toString[0]: unknown tier "valueOf"'].toSorted(),
  )
})

test.each<[string, Record<string, unknown>, string[]]>([
  [
    'is missing where the address has it',
    { format: 'bedrock' },
    ['is missing; the address of format bedrock has it'],
  ],
  ['is not missing where the address is written', { format: 'bedrock', baseUrl: 'http://x' }, []],
  ['has no meaning elsewhere', { format: 'openai', region: 'eu' }, ['has no meaning for format openai']],
  [
    'may be no part of an address',
    { format: 'bedrock', region: 'eu/../x' },
    ['must be a name of letters, digits, dots and hyphens'],
  ],
])('the region of an account %s', (_, provider, wanted) => {
  const loaded = read(at(GOOD, ['providers', 'x'], { apiKey: 'env:A', ...provider }))
  expect(loaded.ok ? [] : problemsOf(loaded).map(({ message }) => message)).toEqual(wanted)
})
