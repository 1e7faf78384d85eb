import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createPolicy, toRefusal } from '../../../src/policy/decide.ts'
import type { Caller, Operation } from '../../../src/types.ts'
import { GOOD, good, SHA } from '../config/configurations.ts'
import { makeRequest } from '../upstream/stage.ts'

const policy = createPolicy({ operations: new Set(['chat', 'embeddings']) })

function caller(scopes: readonly string[], deny: readonly string[] = [], limits: object = {}): Caller {
  const snapshot = good(GOOD, [
    { agent: 'tester', scopes, deny, limits, bearers: [{ id: 'b', sha256: SHA }] },
  ])
  const agent = snapshot.agents.get('tester')
  const bearer = snapshot.bearers.get(SHA)
  if (agent === undefined || bearer === undefined) throw new Error('no agent')
  return { agent, bearer, subjects: [] }
}

const decide = (who: Caller, model: string, operation: Operation = 'chat') =>
  policy.decide(who, makeRequest(operation === 'chat' ? { model } : { model, input: 'x' }, operation))

describe('a request', () => {
  it('is allowed by the scope that names it', () => {
    expect(decide(caller(['embeddings:*', 'chat:gpt-*']), 'gpt-5')).toMatchObject({
      allow: true,
      code: 'allowed',
      matched: 'chat:gpt-*',
    })
  })

  it('is refused when no scope says so: nothing is allowed by silence', () => {
    expect(decide(caller([]), 'gpt-5')).toMatchObject({
      allow: false,
      code: 'scope_denied',
      matched: 'chat:gpt-5',
    })
  })

  it.each([
    ['another operation', ['embeddings:*'], 'gpt-5'],
    ['another case', ['chat:GPT-5'], 'gpt-5'],
    ['a longer name', ['chat:gpt-5'], 'gpt-5-mini'],
    ['a shorter name', ['chat:gpt-5-mini'], 'gpt-5'],
    ['a name with the pattern inside', ['chat:gpt-*'], 'my-gpt-5'],
    ['a name with special signs', ['chat:gpt-?'], 'gpt-5'],
    ['a name with a dot', ['chat:gpt.5'], 'gpt-5'],
  ])('is refused for %s', (_, scopes, model) => {
    expect(decide(caller(scopes), model).allow).toBe(false)
  })

  it.each([
    ['chat:*', ''],
    ['chat:*', 'a/b:c'],
    ['chat:org/*', 'org/team/model'],
    ['chat:*-preview', 'gpt-5-preview'],
    ['chat:g*t-*', 'gpt-'],
  ])('%s allows %j', (scope, model) => {
    if (model === '') expect(policy.allows(caller([scope]).agent, 'chat', model)).toBe(true)
    else expect(decide(caller([scope]), model).allow).toBe(true)
  })

  it('is refused when a deny entry names it, whatever the scopes say', () => {
    const who = caller(['chat:*', 'chat:gpt-5-preview'], ['chat:*-preview'])
    expect(decide(who, 'gpt-5-preview')).toMatchObject({ allow: false, matched: 'deny chat:*-preview' })
    expect(decide(who, 'gpt-5')).toMatchObject({ allow: true })
  })

  it('is not concerned by what is denied for another operation', () => {
    const who = caller(['chat:*', 'embeddings:*'], ['embeddings:*'])
    expect(decide(who, 'm').allow).toBe(true)
    expect(decide(who, 'm', 'embeddings').allow).toBe(false)
  })

  it('is judged by what was sent, route or not, and the refusal does not tell which', () => {
    const who = caller(['chat:other'])
    for (const model of ['gpt-oss-120b', 'gpt-9-that-nobody-has']) {
      expect(decide(who, model).allow).toBe(false)
      const refusal = toRefusal(makeRequest({ model }))
      expect(refusal).toMatchObject({ code: 'scope_denied', param: 'model' })
      expect(refusal.message).toBe(`This key does not carry the scope chat:${model}.`)
    }
  })

  it('carries what the agent is bound to', () => {
    const limits = { deadline: '120s', maxOutput: 4096 }
    const { obligations } = decide(caller(['chat:*'], [], limits), 'm')
    expect(obligations).toEqual({
      deadlineMs: 120_000,
      maxOutputTokens: 4096,
      pricedOnly: false,
      class: 'normal',
    })
  })

  it('may only go where there is a price when the agent or the bearer has a budget', () => {
    const poor = caller(['chat:*'], [], { budget: '1 USD/day' })
    expect(decide(poor, 'm').obligations.pricedOnly).toBe(true)
    const { agent, bearer } = caller(['chat:*'])
    const limits = { strict: false, budget: { micros: 1, period: 'month' } } as const
    expect(decide({ agent, bearer: { ...bearer, limits }, subjects: [] }, 'm').obligations.pricedOnly).toBe(
      true,
    )
  })

  it('has a decision that nobody can change afterwards', () => {
    const decision = decide(caller(['chat:*']), 'm')
    expect(Object.isFrozen(decision)).toBe(true)
    expect(Object.isFrozen(decision.obligations)).toBe(true)
  })

  it('is shown in the list of models exactly when it would be allowed', () => {
    const name = fc.stringMatching(/^[ab/-]{1,4}$/)
    const glob = fc.stringMatching(/^[ab*-]{1,4}$/).map((text) => `chat:${text}`)
    fc.assert(
      fc.property(
        fc.array(glob, { maxLength: 3 }),
        fc.array(glob, { maxLength: 2 }),
        name,
        (scopes, deny, model) => {
          const who = caller(scopes, deny)
          expect(policy.allows(who.agent, 'chat', model)).toBe(decide(who, model).allow)
          if (scopes.length === 0) expect(decide(who, model).allow).toBe(false)
          if (deny.includes(`chat:${model}`)) expect(decide(who, model).allow).toBe(false)
        },
      ),
      { numRuns: 100 },
    )
  })
})
