import { expect, test } from 'vitest'
import { AGENT, at, GOOD, good, SHA } from './configurations.ts'

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
        lab: { format: 'simulated', apiKey: 'env:A' },
      },
      tiers: { ...Object(GOOD.tiers), spare: { deployments: ['claude/x', 'other/*', 'lab/y'] } },
      admin: { host: '0.0.0.0' },
      redis: { url: 'redis://:hunter22@127.0.0.1' },
    },
    [],
  )
  expect(warnings).toEqual([
    expect.stringContaining('provider claude: format anthropic is called at its'),
    'provider other has no apiKey, and its vendor will ask for one',
    'provider lab is simulated, so its baseUrl and apiKey have no effect',
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
    format: 'openai',
    baseUrl: 'https://generativelanguage.googleapis.com/v1beta/openai',
  })
})
