import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Snapshot } from '../../../src/config/snapshot.ts'
import { createRouter, type Router } from '../../../src/route/plan.ts'
import type { Arrival, Decision, ModelRequest, Obligations, Plan } from '../../../src/types.ts'
import { createRandom } from '../bytes/random.ts'
import { good, type Value } from '../config/configurations.ts'
import { makeRequest } from '../upstream/stage.ts'

const PROVIDERS = {
  a: { format: 'openai', baseUrl: 'http://127.0.0.1:1/v1' },
  b: { format: 'openai', baseUrl: 'http://127.0.0.1:2/v1' },
  open: { format: 'openai', baseUrl: 'http://127.0.0.1:3/v1', allowFields: ['provider', 'models'] },
}
const TIERS = {
  one: { deployments: ['a/one'] },
  two: { deployments: ['b/two', 'a/two', 'open/two'] },
  last: { reply: 'Nobody.' },
}

function snapshot(routes: Value, over: Value = {}): Snapshot {
  return good({ providers: PROVIDERS, tiers: TIERS, routes, ...over })
}

/** Chances from a seed. */
function chances(seed: number): () => number {
  const random = createRandom(seed)
  return () => random.below(1_000_000) / 1_000_000
}

function router(
  from: Snapshot,
  {
    held = [],
    random = chances(1),
    loads = {},
  }: { held?: readonly string[]; random?: () => number; loads?: Readonly<Record<string, number>> } = {},
): Router {
  return createRouter({
    snapshot: from,
    health: {
      isAvailable: (callee) => !held.includes(typeof callee === 'string' ? callee : callee.deployment),
    },
    pace: { load: (name) => loads[name] ?? 0 },
    random,
  })
}

function decision(obligations: Partial<Obligations> = {}): Decision {
  return {
    allow: true,
    code: 'allowed',
    matched: 'chat:*',
    obligations: {
      deadlineMs: undefined,
      maxOutputTokens: undefined,
      pricedOnly: false,
      class: 'normal',
      ...obligations,
    },
  }
}

function planFor(from: Router, request: ModelRequest = makeRequest(), said = decision()): Plan {
  return from.plan(from.find(request), request, said, 99_000)
}

const names = (plan: Plan): string[][] =>
  plan.tiers.map(({ candidates }) => candidates.map((c) => c.deployment.name))

describe('the route of a model', () => {
  const routes = {
    'gpt-*': ['one'],
    'gpt-5*': ['two'],
    'gpt-5': ['one', 'two'],
    'gpt-*-mini': ['last'],
    'org/*': ['one'],
    'a*c': ['one'],
  }
  const from = router(snapshot(routes))

  it.each([
    ['gpt-5', 'gpt-5'],
    ['gpt-5.1', 'gpt-5*'],
    ['gpt-4', 'gpt-*'],
    ['gpt-4-mini', 'gpt-*-mini'],
    ['gpt-5-mini', 'gpt-*-mini'],
    ['org/team/model:8b', 'org/*'],
    ['org/', 'org/*'],
    ['ac', 'a*c'],
  ])('%s is %s: exact first, then the most specific', (model, route) => {
    expect(from.find(makeRequest({ model })).name).toBe(route)
  })

  it('does not depend on the order of the file', () => {
    const turned = router(snapshot(Object.fromEntries(Object.entries(routes).toReversed())))
    for (const model of ['gpt-5', 'gpt-5.1', 'gpt-4', 'gpt-5-mini', 'org/x']) {
      expect(turned.find(makeRequest({ model })).name).toBe(from.find(makeRequest({ model })).name)
    }
  })

  it.each(['GPT-5', 'gpt', ' gpt-5', 'xgpt-5', 'ab', 'toString', 'constructor'])('%j has none', (model) => {
    expect(() => from.find(makeRequest({ model }))).toThrowError(
      expect.objectContaining({ code: 'model_not_found', param: 'model' }),
    )
  })

  it('is named only where it is no glob', () => {
    expect(from.names).toEqual(['gpt-5'])
  })
})

describe('a plan', () => {
  it('has the tiers of the route in order', () => {
    expect(names(planFor(router(snapshot({ m: ['one', 'last'] }))))).toEqual([['a/one'], ['reply/last']])
  })

  it.each([
    { attempts: undefined, tiers: ['one', 'two', 'last'], expected: 3 },
    { attempts: 1, tiers: ['one', 'two', 'last'], expected: 2 },
    { attempts: 1, tiers: ['last'], expected: 1 },
    { attempts: 7, tiers: ['one'], expected: 7 },
  ])(
    'allows the attempts, or one for each tier with providers: $attempts, $tiers',
    ({ attempts, tiers, expected }) => {
      const from = snapshot({ m: tiers }, attempts === undefined ? {} : { failover: { attempts } })
      expect(planFor(router(from)).attempts).toBe(expected)
    },
  )

  it('puts who is held back behind the others of its tier, and leaves nobody out', () => {
    for (let seed = 0; seed < 50; seed += 1) {
      const [tier = []] = names(
        planFor(router(snapshot({ m: ['two'] }), { held: ['a/two'], random: chances(seed) })),
      )
      expect(tier.at(-1)).toBe('a/two')
      expect(tier.toSorted()).toEqual(['a/two', 'b/two', 'open/two'])
    }
  })

  it('never repeats a deployment in a tier, whatever the health, weights and chances', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.001, max: 1000, noNaN: true }), { minLength: 1, maxLength: 8 }),
        fc.array(fc.nat(7)),
        fc.integer(),
        (weights, held, seed) => {
          const deployments = weights.map((weight, n) => ({ use: `a/m${n}`, weight }))
          const from = snapshot({ m: ['many'] }, { tiers: { many: { deployments } } })
          const [tier = []] = names(
            planFor(router(from, { held: held.map((n) => `a/m${n}`), random: chances(seed) })),
          )
          expect(tier.toSorted()).toEqual(deployments.map(({ use }) => use).toSorted())
        },
      ),
      { numRuns: 50 },
    )
  })

  it('draws by weight, the second place too', () => {
    const deployments = [
      { use: 'a/heavy', weight: 6 },
      { use: 'a/middle', weight: 3 },
      { use: 'a/light', weight: 1 },
    ]
    const from = router(snapshot({ m: ['many'] }, { tiers: { many: { deployments } } }), {
      random: chances(42),
    })
    const firsts: Record<string, number> = {}
    const seconds: Record<string, number> = {}
    const rounds = 20_000
    for (let i = 0; i < rounds; i += 1) {
      const [[one = '', two = ''] = []] = names(planFor(from))
      firsts[one] = (firsts[one] ?? 0) + 1 / rounds
      seconds[two] = (seconds[two] ?? 0) + 1 / rounds
    }
    expect(firsts['a/heavy']).toBeCloseTo(0.6, 1)
    expect(firsts['a/middle']).toBeCloseTo(0.3, 1)
    expect(firsts['a/light']).toBeCloseTo(0.1, 1)
    // Without replacement: P(heavy second) = 0.3 · 6/7 + 0.1 · 6/9.
    expect(seconds['a/heavy']).toBeCloseTo(0.3 * (6 / 7) + 0.1 * (6 / 9), 1)
    expect(seconds['a/middle']).toBeCloseTo(0.6 * (3 / 4) + 0.1 * (3 / 9), 1)
  })

  describe('for a caller who names a cache key', () => {
    const deployments = ['a/one', 'a/two', 'a/three'].map((use, n) => ({ use, weight: n + 1 }))
    const from = snapshot({ m: ['many'] }, { tiers: { many: { deployments } } })
    const firstFor = (key: string, held: readonly string[] = [], seed = 1): string =>
      names(
        planFor(router(from, { held, random: chances(seed) }), makeRequest({ prompt_cache_key: key })),
      )[0]?.[0] ?? ''

    it('is the same each time, and by weight over the keys', () => {
      const firsts: Record<string, number> = {}
      for (let i = 0; i < 3_000; i += 1) {
        const first = firstFor(`session-${i}`)
        expect(firstFor(`session-${i}`, [], i)).toBe(first)
        firsts[first] = (firsts[first] ?? 0) + 1 / 3_000
      }
      expect(firsts['a/one']).toBeCloseTo(1 / 6, 1)
      expect(firsts['a/two']).toBeCloseTo(2 / 6, 1)
      expect(firsts['a/three']).toBeCloseTo(3 / 6, 1)
    })

    it('moves those alone whose deployment is held back', () => {
      for (let i = 0; i < 300; i += 1) {
        const before = firstFor(`session-${i}`)
        const after = firstFor(`session-${i}`, ['a/two'])
        if (before === 'a/two') expect(after).not.toBe('a/two')
        else expect(after).toBe(before)
      }
    })

    it.each([{ n: 1 }, 5, null, ['x'], 'x'.repeat(600)])('takes %j for no key', (key) => {
      const request = makeRequest({ prompt_cache_key: key })
      expect(request.cacheKey).toBeUndefined()
    })
  })

  describe('by latency', () => {
    const tiers = { many: { deployments: ['a/one', 'a/two', 'a/three'], balance: 'latency' } }
    const from = snapshot({ m: ['many'] }, { tiers })
    const firsts = (held: readonly string[] = []): Record<string, number> => {
      const counted: Record<string, number> = {}
      const one = router(from, {
        held,
        random: chances(7),
        loads: { 'a/one': 10, 'a/two': 20, 'a/three': 400 },
      })
      for (let i = 0; i < 3_000; i += 1) {
        const first = names(planFor(one))[0]?.[0] ?? ''
        counted[first] = (counted[first] ?? 0) + 1 / 3_000
      }
      return counted
    }

    it('goes to the quicker of two: the slowest of all is never first, the quickest two times of three', () => {
      const counted = firsts()
      expect(counted['a/three']).toBeUndefined()
      expect(counted['a/one']).toBeCloseTo(2 / 3, 1)
      expect(counted['a/two']).toBeCloseTo(1 / 3, 1)
    })

    it('does not prefer one that is held back', () => {
      expect(firsts(['a/one', 'a/two'])).toEqual({ 'a/three': expect.closeTo(1, 5) })
    })
  })

  it('has the deadline that it was given', () => {
    expect(planFor(router(snapshot({ m: ['one'] }))).deadlineAt).toBe(99_000)
  })
})

describe('the deadline', () => {
  const at = (route: number | undefined, agent: number | undefined, caller: number | undefined): number => {
    const written = { tiers: ['one'], ...(route === undefined ? {} : { deadline: `${route}ms` }) }
    const from = router(snapshot({ m: written }, { failover: { deadline: '600s' } }))
    const arrival = { startedMs: 1000, timeoutMs: caller } satisfies Partial<Arrival>
    return from.deadlineAt(from.find(makeRequest()), decision({ deadlineMs: agent }), toArrival(arrival))
  }

  it.each([
    [undefined, undefined, undefined, 601_000],
    [5000, undefined, undefined, 6000],
    [5000, 4000, undefined, 5000],
    [5000, 4000, 3000, 4000],
    [5000, 4000, 9_000_000, 5000],
    [undefined, 9_000_000, 9_000_000, 601_000],
  ])('is the nearest: route %s, agent %s, caller %s', (route, agent, caller, expected) => {
    expect(at(route, agent, caller)).toBe(expected)
  })
})

function toArrival(over: Partial<Arrival>): Arrival {
  return {
    id: 'req_1',
    endpoint: makeRequest().endpoint,
    bearer: undefined,
    startedMs: 0,
    timeoutMs: undefined,
    signal: new AbortController().signal,
    end: () => {},
    address: '127.0.0.1',
    traceparent: undefined,
    tracestate: undefined,
    forwarded: [],
    body: { read: () => Promise.reject(new Error('not here')), release: () => {}, stop: () => {} },
    ...over,
  }
}

describe('the cap on output', () => {
  const from = router(snapshot({ m: ['one'] }))
  it.each([
    [undefined, {}, undefined],
    [undefined, { max_tokens: 5000 }, undefined],
    [1000, {}, 1000],
    [1000, { max_completion_tokens: 5000 }, 1000],
    [1000, { max_completion_tokens: 1000 }, undefined],
    [1000, { max_tokens: 10 }, undefined],
    [1000, { max_tokens: 10, max_completion_tokens: 5000 }, 1000],
  ])('of an agent (%s) is written where the request %o wants more', (maxOutputTokens, body, expected) => {
    expect(planFor(from, makeRequest(body), decision({ maxOutputTokens })).maxOutputTokens).toBe(expected)
  })

  it('is none of embeddings', () => {
    const request = makeRequest({ input: 'x' }, 'embeddings')
    expect(planFor(from, request, decision({ maxOutputTokens: 10 })).maxOutputTokens).toBeUndefined()
  })
})

describe('a restricted field', () => {
  const restricted = makeRequest({ provider: { order: ['x'] } })

  it('goes to the providers that list it, and to no other', () => {
    expect(names(planFor(router(snapshot({ m: ['one', 'two'] })), restricted))).toEqual([['open/two']])
    expect(names(planFor(router(snapshot({ m: ['one', 'two'] }))))).toHaveLength(2)
  })

  it('is refused where nobody lists it, a fixed reply or not', () => {
    for (const tiers of [['one'], ['one', 'last']]) {
      expect(() => router(snapshot({ m: tiers })).find(restricted)).toThrowError(
        expect.objectContaining({ code: 'invalid_request', param: 'provider' }),
      )
    }
  })

  it('is kept from nobody by a fixed reply: it goes nowhere', () => {
    expect(names(planFor(router(snapshot({ m: ['two', 'last'] })), restricted))).toEqual([
      ['open/two'],
      ['reply/last'],
    ])
  })

  it('must be listed each of them', () => {
    const partly = { ...PROVIDERS, open: { ...PROVIDERS.open, allowFields: ['provider'] } }
    const from = router(snapshot({ m: ['two'] }, { providers: partly }))
    expect(() => from.find(makeRequest({ provider: {}, models: [] }))).toThrowError(
      expect.objectContaining({ code: 'invalid_request' }),
    )
  })
})

describe('what is limited', () => {
  it('is the gateway and the route, where they have limits', () => {
    const from = router(
      snapshot(
        { m: { tiers: ['one'], limits: { requests: '5/s' } }, free: ['one'] },
        { limits: { concurrency: 9 } },
      ),
    )
    const subjects = (model: string) =>
      from.subjects(from.find(makeRequest({ model }))).map(({ kind, id }) => `${kind} ${id}`)
    expect(subjects('m')).toEqual(['gateway gateway', 'route m'])
    expect(subjects('free')).toEqual(['gateway gateway'])
  })

  it('is the same object for all who share it', () => {
    const from = router(
      snapshot(
        { m: { tiers: ['one'], limits: { requests: '5/s' } }, free: ['one'] },
        { limits: { concurrency: 9 } },
      ),
    )
    const [m, free] = ['m', 'free'].map((model) => from.subjects(from.find(makeRequest({ model }))))
    expect(m?.[0]).toBe(free?.[0])
    expect(from.shared).toEqual(m)
    expect(from.shared.every((subject, i) => subject === m?.[i])).toBe(true)
  })
})

describe('where money is limited', () => {
  const priced = { input: 2, cached: 0.5, output: 8 }
  const budget = { limits: { budget: '1 USD/day' } }
  const OPENAI = { format: 'openai', apiKey: 'env:A' }
  const written = (over: Value = {}) => ({
    providers: { ...PROVIDERS, openai: OPENAI },
    tiers: {
      one: { deployments: ['a/one'] },
      two: { deployments: [{ use: 'b/two', price: priced }] },
      any: { deployments: ['openai/*'] },
      last: { reply: 'Nobody.' },
    },
    routes: { m: ['one', 'two', 'last'], '*': ['any', 'two'], bare: ['one'] },
    ...over,
  })
  const barredIn = (from: Router, said = decision(), model = 'm') =>
    planFor(from, makeRequest({ model }), said).tiers.flatMap(({ candidates }) =>
      candidates.flatMap(({ deployment, barred }) =>
        barred === undefined ? [] : [`${deployment.name} ${barred}`],
      ),
    )
  const open = router(good(written()))

  it('nobody is barred and nothing bounded while nobody has a budget', () => {
    expect(barredIn(open)).toEqual([])
    expect(open.priceBound(open.find(makeRequest()), makeRequest(), decision())).toBeUndefined()
  })

  it.each<[string, Router, Partial<Obligations>]>([
    ["the caller's", open, { pricedOnly: true }],
    ["the gateway's", router(good(written(budget))), {}],
    [
      "the route's",
      router(good(written({ routes: { m: { tiers: ['one', 'two', 'last'], ...budget } } }))),
      {},
    ],
  ])(
    'a budget of %s bars who is unpriced, who keeps his place; free is not unpriced',
    (_, from, obligations) => {
      expect(barredIn(from, decision(obligations))).toEqual(['a/one skipped:unpriced'])
      expect(names(planFor(from, makeRequest(), decision(obligations)))).toEqual([
        ['a/one'],
        ['b/two'],
        ['reply/last'],
      ])
    },
  )

  it('a budget of a provider or of a deployment bars its own, whoever calls', () => {
    const provider = { ...PROVIDERS, openai: OPENAI, a: { ...PROVIDERS.a, ...budget } }
    expect(barredIn(router(good(written({ providers: provider }))))).toEqual(['a/one skipped:unpriced'])
    const tiers = { ...written().tiers, one: { deployments: [{ use: 'a/one', ...budget }] } }
    expect(barredIn(router(good(written({ tiers }))))).toEqual(['a/one skipped:unpriced'])
  })

  it('a model that the caller names is barred by its own price', () => {
    const poor = decision({ pricedOnly: true })
    expect(barredIn(open, poor, 'gpt-4o')).toEqual([])
    expect(barredIn(open, poor, 'unheard-of')).toEqual(['openai/* skipped:unpriced'])
    expect(barredIn(open, decision(), 'unheard-of')).toEqual([])
  })

  it('a tier of which all are barred gives the request no call more', () => {
    const tiers = Object.fromEntries([1, 2, 3, 4, 5].map((n) => [`t${n}`, { deployments: [`a/m${n}`] }]))
    const from = router(good(written({ tiers, routes: { m: Object.keys(tiers) } })))
    expect(planFor(from).attempts).toBe(5)
    expect(planFor(from, makeRequest(), decision({ pricedOnly: true })).attempts).toBe(3)
  })

  it('is bounded by the dearest token of all who may be called', () => {
    const bound = (model: string, from = open) => {
      const request = makeRequest({ model })
      return from.priceBound(from.find(request), request, decision({ pricedOnly: true }))
    }
    expect(bound('m')).toEqual({ input: 2, output: 8 })
    expect(bound('gpt-4o')).toEqual({ input: 2.5, output: 10 })
    expect(bound('unheard-of')).toEqual({ input: 2, output: 8 })
    expect(bound('bare')).toEqual({ input: 0, output: 0 })
  })
})
