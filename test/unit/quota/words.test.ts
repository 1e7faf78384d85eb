import { describe, expect, it } from 'vitest'
import { toAccount, toShare } from '../../../src/quota/account.ts'
import { durationText } from '../../../src/quota/words.ts'
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
