import { describe, expect, it } from 'vitest'
import type { Arrival, Attempt, Trail } from '../../../src/types.ts'
import { createKinds } from '../../../src/usage/kinds.ts'
import { makeDeployment, makeRequest, makeRoute, makeTier, NO_LIMITS } from '../upstream/stage.ts'
import { makeArrival } from './fixtures.ts'

const [first, second] = [
  makeTier('first', [makeDeployment('a/m')]),
  makeTier('second', [makeDeployment('b/m')]),
]
const answeredBy = {
  tier: first,
  deployment: makeDeployment('a/m'),
  callee: 'a/m',
  barred: undefined,
  doubt: undefined,
}

function toArrival(operation: 'chat' | 'embeddings' = 'chat'): Arrival {
  const endpoint = { ...makeRequest().endpoint, operation }
  return makeArrival({ id: `req_${Math.random()}`, startedMs: Math.random(), endpoint })
}

function makeCaller(name: string, id: string) {
  const agent = {
    name,
    role: undefined,
    class: 'normal' as const,
    scopes: [],
    deny: [],
    limits: NO_LIMITS,
    deadlineMs: undefined,
    maxOutputTokens: undefined,
  }
  const bearer = {
    id,
    agent: name,
    sha256: `${name}/${id}`,
    expiresMs: undefined,
    limits: NO_LIMITS,
  }
  return { agent, bearer, subjects: [] }
}

function makeAttempt(over: Partial<Attempt> = {}): Attempt {
  return {
    tier: 'first',
    deployment: 'a/m',
    called: 'a/m',
    outcome: 'answered',
    reason: '200',
    startedMs: Math.random(),
    endedMs: Math.random(),
    firstTokenMs: Math.random(),
    costMicros: Math.random(),
    ...over,
  }
}

const OBLIGATIONS = {
  deadlineMs: undefined,
  maxOutputTokens: undefined,
  pricedOnly: false,
  class: 'normal' as const,
}

/** With each call other objects, ids, times and money, and the same names. */
function makeTrail(over: Partial<Trail> = {}): Trail {
  return {
    caller: makeCaller('tester', 'laptop'),
    request: makeRequest({ model: 'm', stream: true }),
    decision: { allow: true, code: 'allowed', matched: 'chat:*', obligations: OBLIGATIONS },
    route: makeRoute([first, second], { name: 'm' }),
    attempts: [makeAttempt()],
    answeredBy,
    costMicros: Math.random(),
    status: 200,
    ...over,
  }
}

describe('requests', () => {
  it('that differ in ids, times and money alone are of one kind', () => {
    const kinds = createKinds()
    const one = kinds.of(toArrival(), makeTrail(), 'ok')
    expect(kinds.of(toArrival(), makeTrail(), 'ok')).toBe(one)
  })

  it.each<[string, Partial<Trail>]>([
    ['agent', { caller: makeCaller('other', 'laptop') }],
    ['bearer', { caller: makeCaller('tester', 'desktop') }],
    [
      'agent, with the bearer of another before',
      { caller: { ...makeCaller('tester', 'laptop'), agent: makeCaller('new', '').agent } },
    ],
    ['model', { request: makeRequest({ model: 'n', stream: true }) }],
    ['way to be answered', { request: makeRequest({ model: 'm', stream: false }) }],
    ['scope', { decision: { allow: true, code: 'allowed', matched: 'chat:m', obligations: OBLIGATIONS } }],
    ['route', { route: makeRoute([first, second], { name: '*' }) }],
    ['first tier', { route: makeRoute([second, first], { name: 'm' }) }],
    ['tier', { answeredBy: { ...answeredBy, tier: second } }],
    ['deployment', { answeredBy: { ...answeredBy, deployment: makeDeployment('b/m') } }],
    ['answer at all', { answeredBy: undefined }],
    ['status', { status: 206 }],
    ['number of attempts', { attempts: [makeAttempt(), makeAttempt()] }],
    ['tier of an attempt', { attempts: [makeAttempt({ tier: 'second' })] }],
    ['deployment of an attempt', { attempts: [makeAttempt({ deployment: 'b/m' })] }],
    ['name of who was called', { attempts: [makeAttempt({ called: 'a/n' })] }],
    ['outcome of an attempt', { attempts: [makeAttempt({ outcome: 'left' })] }],
    ['reason of an attempt', { attempts: [makeAttempt({ reason: '201' })] }],
  ])('with another %s are of another kind', (_, over) => {
    const kinds = createKinds()
    const one = kinds.of(toArrival(), makeTrail(), 'ok')
    const other = kinds.of(toArrival(), makeTrail(over), 'ok')
    expect(other).not.toBe(one)
    expect(kinds.of(toArrival(), makeTrail(over), 'ok')).toBe(other)
    expect(kinds.of(toArrival(), makeTrail(), 'ok')).toBe(one)
  })

  it('with another operation or code are of another kind', () => {
    const kinds = createKinds()
    const one = kinds.of(toArrival(), makeTrail(), 'ok')
    expect(kinds.of(toArrival('embeddings'), makeTrail(), 'ok')).not.toBe(one)
    expect(kinds.of(toArrival(), makeTrail(), 'overloaded')).not.toBe(one)
  })

  it('of strangers are of one kind as long as they say nothing: of what they say their bearer is left out', () => {
    const kinds = createKinds()
    const silent = (): Trail => ({ attempts: [], status: 401 })
    const speaking = (): Trail => ({ ...silent(), request: makeRequest({ model: 'm' }) })
    const one = kinds.of(toArrival(), silent(), 'invalid_api_key')
    expect(kinds.of(toArrival(), silent(), 'invalid_api_key')).toBe(one)
    const other = kinds.of(toArrival(), speaking(), 'invalid_api_key')
    expect(kinds.of(toArrival(), speaking(), 'invalid_api_key')).not.toBe(other)
  })

  it('of one caller who makes up models empty nobody else of theirs', () => {
    const kinds = createKinds()
    const other = () => makeTrail({ caller: makeCaller('other', 'desktop') })
    const one = kinds.of(toArrival(), other(), 'ok')
    const own = kinds.of(toArrival(), makeTrail(), 'ok')
    for (let i = 0; i < 20_000; i += 1)
      kinds.of(toArrival(), makeTrail({ request: makeRequest({ model: `m${i}` }) }), 'ok')
    expect(kinds.of(toArrival(), other(), 'ok')).toBe(one)
    expect(kinds.of(toArrival(), makeTrail(), 'ok')).not.toBe(own)
  })

  it('are not remembered by long names, nor beside many others, nor when what is secret has changed', () => {
    const kinds = createKinds()
    const long = () => makeTrail({ attempts: [makeAttempt({ called: 'm'.repeat(2000) })] })
    expect(kinds.of(toArrival(), long(), 'ok')).not.toBe(kinds.of(toArrival(), long(), 'ok'))
    const one = kinds.of(toArrival(), makeTrail(), 'ok')
    for (let i = 0; i < 100; i += 1) kinds.of(toArrival(), makeTrail({ status: 400 + i }), 'ok')
    const two = kinds.of(toArrival(), makeTrail(), 'ok')
    expect(two).not.toBe(one)
    for (let i = 0; i < 10_000; i += 1)
      kinds.of(toArrival(), makeTrail({ request: makeRequest({ model: `m${i}` }) }), 'ok')
    const three = kinds.of(toArrival(), makeTrail(), 'ok')
    expect(three).not.toBe(two)
    kinds.forget()
    expect(kinds.of(toArrival(), makeTrail(), 'ok')).not.toBe(three)
  })
})
