import { expect, test } from 'vitest'
import { FREE, priceOf } from '../../../src/config/money.ts'
import { AGENT, at, GOOD, good, read, SHA, said, type Value } from './configurations.ts'

/** Everything reachable in a value, each once, with the way to it. */
function* reachable(
  value: unknown,
  path = 'snapshot',
  seen = new Set<unknown>(),
): Generator<[string, object]> {
  if (typeof value !== 'object' || value === null || seen.has(value)) return
  seen.add(value)
  yield [path, value]
  const inner = value instanceof Map || value instanceof Set ? [...value.entries()] : Object.entries(value)
  for (const [key, item] of inner) yield* reachable(item, `${path}.${String(key)}`, seen)
}

const FULL = {
  ...at(GOOD, ['providers', 'lab'], { format: 'simulated', fault: { kind: 'cut' } }),
  redis: { url: 'env:REDIS_URL' },
  limits: { requests: '5/s' },
}
const FULL_AGENT = { ...AGENT, bearers: [{ id: 'a', sha256: SHA }] }

test('a snapshot is frozen all the way down', () => {
  const snapshot = good(FULL, [FULL_AGENT])
  const parts = [...reachable(snapshot)]
  expect(parts.length).toBeGreaterThan(30)
  for (const [path, part] of parts) expect(Object.isFrozen(part), path).toBe(true)
})

test('the maps and sets of a snapshot refuse a change', () => {
  const snapshot = good(FULL, [FULL_AGENT])
  for (const [path, part] of reachable(snapshot)) {
    if (part instanceof Map) {
      expect(() => part.set('x', 1), path).toThrow(TypeError)
      expect(() => part.delete('local'), path).toThrow(TypeError)
      expect(() => part.clear(), path).toThrow(TypeError)
    } else if (part instanceof Set) {
      expect(() => part.add('x'), path).toThrow(TypeError)
      expect(() => part.clear(), path).toThrow(TypeError)
    }
  }
  expect(snapshot.providers.size).toBe(2)
})

test('names become the things they name', () => {
  const snapshot = good(FULL, [FULL_AGENT])
  const tier = snapshot.tiers.get('execution')
  expect(snapshot.routes.get('gpt-oss-120b')?.tiers[0]).toBe(tier)
  expect(snapshot.deployments.get('local/gpt-oss-120b')).toBe(tier?.deployments[0])
  expect(tier?.deployments[0]?.provider).toBe(snapshot.providers.get('local'))
})

test('routes keep the order of the file', () => {
  const snapshot = good({
    ...GOOD,
    routes: { zeta: ['execution'], '*': ['execution'], alpha: ['execution'] },
  })
  expect([...snapshot.routes.keys()]).toEqual(['zeta', '*', 'alpha'])
})

test('a list that is empty because its last line was deleted is an empty list', () => {
  const { agents, bearers } = good(GOOD, [{ agent: 'a', bearers: null, scopes: ['chat:*'], deny: null }])
  expect(agents.get('a')).toMatchObject({ deny: [], scopes: [{ operation: 'chat', models: '*' }] })
  expect(bearers.size).toBe(0)
})

test('says when nobody can call, and which routes nobody may use', () => {
  expect(good(GOOD, [{ agent: 'a' }]).warnings).toEqual([
    expect.stringContaining('no agent has a bearer yet'),
  ])
  const other = { agent: 'a', scopes: ['chat:other'], bearers: [{ id: 'b', sha256: 'ab'.repeat(32) }] }
  expect(good(GOOD, [other]).warnings).toEqual(['no agent has a scope for the route "gpt-oss-120b"'])
})

test('says what is legal but probably not meant', () => {
  expect(good(GOOD).warnings).toEqual([])
  const { warnings } = good(
    {
      ...GOOD,
      providers: {
        ...Object(GOOD.providers),
        claude: { format: 'anthropic', apiKey: 'env:A' },
        other: { format: 'openai' },
        lab: { format: 'simulated', apiKey: 'env:A', limits: { concurrency: 3, wait: '2s' } },
      },
      tiers: {
        ...Object(GOOD.tiers),
        spare: { deployments: ['claude/x', 'other/*', { use: 'lab/y', limits: { wait: '1s' } }] },
      },
      admin: { host: '0.0.0.0' },
      redis: { url: 'redis://:hunter22@127.0.0.1' },
    },
    [],
  )
  expect(warnings).toEqual([
    'provider other has no apiKey, and its vendor will ask for one',
    'provider lab is simulated, so its baseUrl, proxy and apiKey have no effect',
    'tier spare is in no route',
    'admin listens beyond this machine without a token: metrics are open to whoever reaches the port',
    'redis.url holds a password; a reference such as "env:REDIS_URL" keeps it out of the file',
    'no agent is known, so every call is answered 401',
  ])
  expect(warnings.join()).not.toContain('hunter22')
})

test('a provider is called by the wire format of its vendor', () => {
  const snapshot = good(at(GOOD, ['providers', 'g'], { format: 'gemini', apiKey: 'env:G' }))
  expect(snapshot.providers.get('g')).toMatchObject({
    format: 'gemini',
    baseUrl: 'https://generativelanguage.googleapis.com/v1beta',
  })
})

test('what a vendor takes besides, and what its server needs, holds at its own address alone', () => {
  const snapshot = good({
    ...GOOD,
    providers: {
      ...Object(GOOD.providers),
      home: { format: 'openai', apiKey: 'env:A' },
      proxy: { format: 'openai', baseUrl: 'http://127.0.0.1:1/v1', alsoSpeaks: ['responses'] },
      quick: { format: 'openai', baseUrl: 'https://api.groq.com/openai/v1', apiKey: 'env:A' },
      claude: { format: 'anthropic', baseUrl: 'http://127.0.0.1:2/v1' },
    },
  })
  const seen = (name: string) => {
    const { alsoSpeaks = new Set(), options } = snapshot.providers.get(name) ?? {}
    return [[...alsoSpeaks], options]
  }
  expect(seen('home')).toEqual([
    [
      'responses',
      'completions',
      'images',
      'image-edits',
      'image-variations',
      'speech',
      'transcriptions',
      'translations',
      'moderations',
    ],
    { quirks: 'all-fields max-completion-tokens no-reasoning-content' },
  ])
  expect(seen('proxy')).toEqual([['responses'], {}])
  expect(seen('quick')).toEqual([[], { quirks: 'no-reasoning-content' }])
  expect(seen('claude')).toEqual([['anthropic-count'], {}])
})

const OPENAI = { format: 'openai', apiKey: 'env:A' }

function pricesOf(providers: Value, deployments: readonly unknown[]) {
  const tiers = { t: { deployments }, last: { reply: 'Nobody.' } }
  return good({ providers, tiers, routes: { m: ['t', 'last'] } }).deployments
}

test('a deployment takes its written price, with what is absent as its input or output', () => {
  const price = { input: 1, cached: 0.1, output: 4, long: { over: 1000, input: 2, output: 6, reasoning: 9 } }
  const own = pricesOf({ openai: OPENAI }, [
    { use: 'openai/gpt-5.1', price },
    { use: 'openai/*', price },
  ])
  const each = {
    input: 1,
    cached: 0.1,
    cacheWrite: 1,
    output: 4,
    reasoning: 4,
    audioInput: 1,
    audioOutput: 4,
  }
  const long = {
    input: 2,
    cached: 0.2,
    cacheWrite: 2,
    output: 6,
    reasoning: 9,
    audioInput: 2,
    audioOutput: 6,
  }
  for (const name of ['openai/gpt-5.1', 'openai/*']) {
    expect(own.get(name)).toMatchObject({
      price: { ...each, long: { ...long, overTokens: 1000 } },
      listPrices: [],
    })
  }
})

test('what is not said of a long request rises as its input and output do', () => {
  const short = { input: 2, cached: 0.5, cacheWrite: 2.5, output: 8, reasoning: 10, audioInput: 32 }
  const priced = (price: object) => pricesOf({ openai: OPENAI }, [{ use: 'openai/m', price }])
  expect(
    priced({ ...short, audioOutput: 64, long: { over: 1, input: 4, output: 12 } }).get('openai/m')?.price
      ?.long,
  ).toEqual({
    ...{ overTokens: 1, input: 4, cached: 1, cacheWrite: 5, audioInput: 64 },
    ...{ output: 12, reasoning: 15, audioOutput: 96 },
  })
  // Nothing is so many times nothing: then the dearer of the two.
  expect(
    priced({ input: 0, output: 0, audioInput: 5, long: { over: 1, input: 3, output: 1 } }).get('openai/m')
      ?.price?.long,
  ).toMatchObject({ cached: 3, audioInput: 5, reasoning: 1, audioOutput: 1 })
})

test('without one it takes the list price of the vendor whose address is called', () => {
  const deployments = pricesOf(
    {
      openai: OPENAI,
      direct: { ...OPENAI, baseUrl: 'https://api.openai.com/v1/' },
      compatible: { ...OPENAI, baseUrl: 'https://generativelanguage.googleapis.com/v1beta/openai' },
      proxy: { ...OPENAI, baseUrl: 'https://proxy.example/v1' },
      local: { format: 'openai', baseUrl: 'http://127.0.0.1:8080/v1' },
    },
    ['openai/gpt-5.1', 'direct/gpt-5.1', 'compatible/gemini-2.5-pro', 'proxy/gpt-5.1', 'local/gpt-5.1'],
  )
  const gpt = { price: { input: 1.25, cached: 0.125, output: 10 }, listPrices: [] }
  expect(deployments.get('openai/gpt-5.1')).toMatchObject(gpt)
  expect(deployments.get('direct/gpt-5.1')).toMatchObject(gpt)
  expect(deployments.get('compatible/gemini-2.5-pro')).toMatchObject({ price: { input: 1.25, output: 10 } })
  for (const name of ['proxy/gpt-5.1', 'local/gpt-5.1']) {
    expect(deployments.get(name), name).toMatchObject({ price: undefined, listPrices: [] })
  }
})

test('a model that is in no list is unpriced; one that the caller names is looked up by its name', () => {
  const deployments = pricesOf({ openai: OPENAI }, ['openai/unheard-of', 'openai/*'])
  expect(deployments.get('openai/unheard-of')).toMatchObject({ price: undefined, listPrices: [] })
  const any = deployments.get('openai/*')
  expect(any?.price).toBeUndefined()
  expect(any && priceOf(any, 'gpt-4o-2024-05-13')).toMatchObject({ input: 5 })
  expect(any && priceOf(any, 'gpt-4o-2024-11-20')).toMatchObject({ input: 2.5 })
  expect(any && priceOf(any, 'unheard-of')).toBeUndefined()
})

test('what answers from this process costs nothing, unless a price is written to rehearse one', () => {
  const lab = { format: 'simulated' }
  const deployments = pricesOf({ lab }, ['lab/a', { use: 'lab/b', price: { input: 1, output: 2 } }, 'lab/*'])
  for (const name of ['lab/a', 'lab/*', 'reply/last'])
    expect(deployments.get(name)?.price, name).toEqual(FREE)
  expect(deployments.get('lab/b')?.price).toMatchObject({ input: 1, output: 2 })
})

test('a price holds in every tier that names the deployment, and cannot be said in two ways', () => {
  const tiers = (first: unknown, second: unknown) => ({
    ...GOOD,
    tiers: { execution: { deployments: [first] }, again: { deployments: [second] } },
  })
  const priced = (input: number) => ({ use: 'local/m', price: { input, output: 5 } })
  const shared = good(tiers(priced(1), 'local/m'))
  expect(shared.tiers.get('again')?.deployments[0]?.price).toMatchObject({ input: 1, output: 5 })
  expect(said(read(tiers(priced(1), priced(2))))).toEqual([
    'tiers.again.deployments[0].price: differs from what tier "execution" says of the same deployment; price belongs to the deployment, so say it once',
  ])
})

test('a price says what is wrong with it', () => {
  const tier = (price: unknown) =>
    said(read(at(GOOD, ['tiers', 'execution'], { deployments: [{ use: 'local/m', price }] })))
  const path = 'tiers.execution.deployments[0].price'
  expect(tier({ input: 1 })).toEqual([`${path}.output: is missing`])
  expect(tier({ input: -1, output: 1 })).toEqual([`${path}.input: must be at least 0`])
  expect(tier({ input: 1, output: 2, cache: 1 })).toEqual([
    `${path}.cache: unknown key "cache"; did you mean "cached"?`,
  ])
  expect(tier({ input: '1 USD', output: 2 })).toEqual([`${path}.input: must be a number`])
})

test('says which deployments are unpriced where somebody has a budget, and which routes are shut by that', () => {
  const budget = { limits: { budget: '1 USD/day' } }
  const unpriced =
    'deployment local/gpt-oss-120b is unpriced, so whoever has a budget never reaches it; give it a price (0 if it costs nothing)'
  const shut = (who: string) =>
    `route "gpt-oss-120b" has no deployment with a price, so ${who} reaches a provider by it`
  const [nobody, tester] = [shut('nobody'), shut('whoever has a budget (tester) never')]
  expect(good({ ...GOOD, ...budget }).warnings).toEqual([unpriced, nobody])
  expect(good(GOOD, [{ ...AGENT, ...budget }]).warnings).toEqual([unpriced, tester])
  expect(good(GOOD, [{ ...AGENT, bearers: [{ id: 'b', sha256: SHA, ...budget }] }]).warnings).toEqual([
    unpriced,
    tester,
  ])
  const free = { use: 'local/gpt-oss-120b', price: { input: 0, output: 0 } }
  expect(good({ ...at(GOOD, ['tiers', 'execution'], { deployments: [free] }), ...budget }).warnings).toEqual(
    [],
  )
  expect(good(GOOD).warnings).toEqual([])
})

test('a route that somebody priced answers, or that nobody with a budget may ask for, is not shut', () => {
  const budget = { limits: { budget: '1 USD/day' } }
  const shut = (config: Value, agents: readonly Value[]) =>
    good(config, agents).warnings.filter((text) => text.startsWith('route '))
  const beside = {
    ...at(GOOD, ['tiers', 'lab'], { deployments: ['lab/m'] }),
    providers: { ...Object(GOOD.providers), lab: { format: 'simulated' } },
    routes: { 'gpt-oss-120b': ['execution', 'lab'] },
  }
  expect(shut(beside, [{ ...AGENT, ...budget }])).toEqual([])
  const denied = { ...AGENT, deny: ['chat:gpt-*'], ...budget }
  expect(shut(GOOD, [denied])).toEqual([])
  const many = ['a', 'b', 'c', 'd', 'e'].map((agent) => ({ agent, scopes: ['chat:gpt-*'], ...budget }))
  expect(shut(GOOD, [AGENT, ...many])).toEqual([expect.stringContaining('(a, b, c, and 2 more) never')])
  // A reply is no provider.
  const last = { ...at(GOOD, ['tiers', 'last'], { reply: 'Nobody.' }), routes: { r: ['execution', 'last'] } }
  expect(shut(last, [{ ...AGENT, ...budget }])).toHaveLength(1)
})

test('what is said of keys holds for all of their provider', () => {
  const keyed = (apiKey: unknown) => {
    const { providers, warnings } = good(at(GOOD, ['providers', 'local', 'apiKey'], apiKey))
    const { keys, keyHours, rotateMs } = providers.get('local') ?? {}
    return { keys, keyHours, rotateMs, warnings: warnings.filter((text) => text.includes('rotate')) }
  }
  expect(keyed({ from: ['file:/a', 'file:/b'], rotate: '90d', hours: '22-06' })).toEqual({
    keys: ['file:/a', 'file:/b'],
    keyHours: { from: 22, to: 6 },
    rotateMs: 90 * 86_400_000,
    warnings: [],
  })
  const plain = { keyHours: undefined, rotateMs: undefined, warnings: [] }
  expect(keyed('env:A')).toEqual({ keys: ['env:A'], ...plain })
  expect(keyed({ from: 'env:A' })).toEqual({ keys: ['env:A'], ...plain })
  // An age that nobody knows is never too high.
  expect(keyed({ from: ['file:/a', 'env:B'], rotate: '1m' }).warnings).toEqual([
    'provider local has apiKey.rotate, and of env:B no age is known from before the start; that of a file: is',
  ])
})

test.each([
  [{ rotate: '0s' }, 'apiKey.rotate', 'at least 1m'],
  [{ rotate: '90' }, 'apiKey.rotate', 'is not a duration'],
  [{ hours: '8-20' }, 'apiKey.hours', 'is not a part of the day'],
  [{ hours: '08-08' }, 'apiKey.hours', 'same hour'],
  [{ rotates: '90d' }, 'apiKey', 'known are from, rotate, hours'],
])('of a key %j is refused, with the place', (wrong, path, words) => {
  const config = at(GOOD, ['providers', 'local', 'apiKey'], { from: 'env:A', ...wrong })
  expect(said(read(config))).toEqual([expect.stringMatching(`providers.local.${path}: .*${words}`)])
})
