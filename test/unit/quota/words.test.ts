import { describe, expect, it } from 'vitest'
import { toAccount, toShare } from '../../../src/quota/account.ts'
import { budgetRefusalText, durationText } from '../../../src/quota/words.ts'
import { agentSubject, limits, perSecond } from './fixtures.ts'

describe('a duration in a header', () => {
  it.each([
    [0, '0s'],
    [1, '1ms'],
    [12_000, '12ms'],
    [999_001, '1s'],
    [1_000_000, '1s'],
    [1_500_000, '1.5s'],
    [90_500_000, '1m30.5s'],
    [360_000_000, '6m0s'],
    [3_600_000_000, '1h0m0s'],
    [90_061_001_000, '25h1m1.001s'],
  ])('of %d µs reads %s', (us, text) => {
    expect(durationText(us)).toBe(text)
  })
})

describe('the refusal of a budget', () => {
  const ENDS = Date.UTC(2026, 10, 26)
  const budget = (usd: number, period: 'day' | 'month' = 'day') => ({ micros: usd * 1e6, period })

  it('says whose it is, how much, and when the next period begins', () => {
    const agent = agentSubject('planner', { budget: budget(20) })
    expect(budgetRefusalText(agent, 'planner', ENDS)).toBe(
      'Agent planner has too little left of its budget of 20 USD/day for this request; the next day begins at 2026-11-26 00:00 UTC.',
    )
    const bearer = { ...agentSubject('laptop', { budget: budget(0.5, 'month') }), kind: 'bearer' as const }
    expect(budgetRefusalText(bearer, 'planner', ENDS)).toBe(
      'Bearer laptop of agent planner has too little left of its budget of 0.5 USD/month for this request; the next month begins at 2026-11-26 00:00 UTC.',
    )
    const gateway = { ...agentSubject('gateway', { budget: budget(9) }), kind: 'gateway' as const }
    expect(budgetRefusalText(gateway, 'planner', ENDS)).toMatch(/^This gateway has too little left/)
  })

  it.each([20, 429, 500, 502, 503, 504, 1500, 0.524])(
    'of %d USD has nothing that a client retries on',
    (usd) => {
      const text = budgetRefusalText(agentSubject('planner', { budget: budget(usd) }), 'planner', ENDS)
      expect(text).not.toMatch(
        /rate.?limit|overloaded|server error|try again|timeout|resource exhausted|retry|429|500|502|503|504|524/i,
      )
      expect(text).toContain('budget')
    },
  )
})

describe('the key of an account', () => {
  it('cannot be broken by any name', () => {
    const account = toAccount({
      kind: 'route',
      id: 'a}{b:*/ é',
      tag: 'r}:{',
      limits: limits({ requests: perSecond(1) }),
    })
    expect(account.key).toBe('slc:1:{r%7D%3A%7B}:b:route:a%7D%7Bb%3A%2A%2F%20%C3%A9')
  })

  it('is plain for plain names', () => {
    expect(toAccount(agentSubject('data-analyzer', { concurrency: 3 })).key).toBe(
      'slc:1:{data-analyzer}:b:agent:data-analyzer',
    )
  })
})

describe('the share of one of several replicas', () => {
  it('is as deep in time, and at least one unit and one slot', () => {
    const whole = toAccount(agentSubject('a', { requests: perSecond(50, 100), concurrency: 2 }))
    expect(toShare(whole, 4)).toMatchObject({
      requests: { capacity: 25, intervalUs: 80_000 },
      concurrency: 1,
    })
    expect(toShare(toAccount(agentSubject('a', { requests: perSecond(1) })), 3).requests?.capacity).toBe(1)
  })
})
