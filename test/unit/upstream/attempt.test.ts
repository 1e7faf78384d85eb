import { describe, expect, it } from 'vitest'
import type { Reason } from '../../../src/types.ts'
import {
  isLarger,
  mayCallAgain,
  nextStep,
  type Result,
  type Standing,
  toReason,
} from '../../../src/upstream/attempt.ts'
import { makeDeployment, withCode } from './stage.ts'

type Retry = Extract<Result, { outcome: 'retry' }>

function retry(reason: Reason, over: Partial<Retry> = {}): Retry {
  return {
    outcome: 'retry',
    reason,
    retryAfterMs: undefined,
    key: false,
    park: false,
    message: '',
    blameless: false,
    usage: undefined,
    ...over,
  }
}

const STANDING: Standing = {
  retriesLeft: 1,
  otherKey: false,
  attemptsLeft: 2,
  tiersLeft: 1,
  otherInTier: false,
  isAlone: false,
  patienceMs: 0,
  timeLeftMs: 60_000,
}

describe('what follows a failed attempt', () => {
  it.each(['500', '502', '504', 'reset', 'incomplete', 'malformed', 'empty'] as const)(
    'calls the same deployment once more after %s, with a pause of full jitter',
    (reason) => {
      expect(nextStep(retry(reason), STANDING)).toEqual({ step: 'same', waitMs: 100, jitter: true })
    },
  )

  it.each([
    '503',
    '529',
    '429',
    '404',
    '408',
    '424',
    '498',
    'refused',
    'dns',
    'tls',
    'connect',
    'first_token',
    'first_byte',
    'idle',
    'attempt',
    'in_band',
  ] as const)('goes on at once after %s', (reason) => {
    expect(nextStep(retry(reason), STANDING)).toEqual({ step: 'next', waitMs: 0, jitter: false })
  })

  it.each(['503', '529', '429', '408'] as const)(
    'asks once more after %s where there is nobody else',
    (reason) => {
      const alone = { ...STANDING, isAlone: true }
      expect(nextStep(retry(reason), alone)).toEqual({ step: 'same', waitMs: 500, jitter: true })
      expect(nextStep(retry(reason), { ...alone, retriesLeft: 0 }).step).toBe('next')
      expect(nextStep(retry(reason, { retryAfterMs: 5_000 }), alone).step).toBe('next')
    },
  )

  it('goes on when the second calls of the tier are used up', () => {
    expect(nextStep(retry('502'), { ...STANDING, retriesLeft: 0 }).step).toBe('next')
  })

  it.each([
    { attemptsLeft: 3, tiersLeft: 2, again: true },
    { attemptsLeft: 2, tiersLeft: 2, again: false },
    { attemptsLeft: 1, tiersLeft: 2, again: false },
    { attemptsLeft: 1, tiersLeft: 0, again: true },
    { attemptsLeft: 0, tiersLeft: 0, again: false },
  ])(
    'allows a second call in a tier with $attemptsLeft attempts and $tiersLeft tiers left: $again',
    (row) => {
      expect(mayCallAgain(row)).toBe(row.again)
      const { attemptsLeft, tiersLeft } = row
      const step = row.again ? 'same' : 'next'
      const fault = retry('502')
      expect(nextStep(fault, { ...STANDING, attemptsLeft, tiersLeft }).step).toBe(step)
      const refused = retry('401', { key: true })
      expect(nextStep(refused, { ...STANDING, attemptsLeft, tiersLeft, otherKey: true }).step).toBe(step)
    },
  )

  it('tries another key of the provider at once, without spending a second call', () => {
    const refused = retry('401', { key: true })
    const standing = { ...STANDING, otherKey: true, retriesLeft: 0 }
    expect(nextStep(refused, standing)).toEqual({ step: 'same', waitMs: 0, jitter: false })
    expect(nextStep(refused, STANDING).step).toBe('next')
  })

  it('waits out a short Retry-After, exactly, when nobody else of the tier can answer', () => {
    const limited = retry('429', { retryAfterMs: 1234 })
    const patient = { ...STANDING, patienceMs: 3000 }
    expect(nextStep(limited, patient)).toEqual({ step: 'same', waitMs: 1234, jitter: false })
  })

  it.each([
    { why: 'the wait is longer than its patience', standing: { patienceMs: 1000 } },
    { why: 'another deployment of the tier can answer', standing: { patienceMs: 3000, otherInTier: true } },
    { why: 'the deadline comes first', standing: { patienceMs: 3000, timeLeftMs: 1200 } },
    {
      why: 'the attempts are for the tiers behind',
      standing: { patienceMs: 3000, attemptsLeft: 1, tiersLeft: 1 },
    },
  ])('does not wait when $why', ({ standing }) => {
    const limited = retry('429', { retryAfterMs: 1234 })
    expect(nextStep(limited, { ...STANDING, ...standing }).step).toBe('next')
  })

  it('does not call again before a named wait, however passing the fault', () => {
    expect(nextStep(retry('502', { retryAfterMs: 5000 }), STANDING).step).toBe('next')
  })
})

describe('a larger window', () => {
  it.each([
    { one: 200_000, than: 8_000, larger: true },
    { one: 8_000, than: 8_000, larger: false },
    { one: 8_000, than: 200_000, larger: false },
    { one: 8_000, than: undefined, larger: true },
    { one: undefined, than: 8_000, larger: false },
    { one: undefined, than: undefined, larger: false },
  ])('$one is larger than $than: $larger', ({ one, than, larger }) => {
    const deployment = makeDeployment('a/one', { contextWindow: one })
    expect(isLarger(deployment, makeDeployment('b/two', { contextWindow: than }))).toBe(larger)
  })
})

describe('the reason of a connection error', () => {
  it.each([
    ['ECONNREFUSED', false, 'refused'],
    ['ENOTFOUND', false, 'dns'],
    ['EAI_AGAIN', false, 'dns'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', false, 'tls'],
    ['CERT_HAS_EXPIRED', false, 'tls'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', false, 'tls'],
    ['SELF_SIGNED_CERT_IN_CHAIN', false, 'tls'],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', false, 'tls'],
    ['EPROTO', false, 'tls'],
    ['ERR_SSL_WRONG_VERSION_NUMBER', false, 'tls'],
    ['UND_ERR_CONNECT_TIMEOUT', false, 'connect'],
    ['ETIMEDOUT', false, 'connect'],
    ['EHOSTUNREACH', false, 'connect'],
    ['ENETUNREACH', false, 'connect'],
    ['EMFILE', false, 'connect'],
    ['ECONNRESET', false, 'reset'],
    ['UND_ERR_SOCKET', false, 'reset'],
    ['EPIPE', false, 'reset'],
    ['ETIMEDOUT', true, 'reset'],
    ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', true, 'reset'],
    ['MALFORMED_ANSWER', false, 'malformed'],
    ['MALFORMED_ANSWER', true, 'malformed'],
    ['HPE_INVALID_CONSTANT', false, 'malformed'],
    ['HPE_INVALID_CHUNK_SIZE', true, 'malformed'],
    ['HPE_INVALID_EOF_STATE', true, 'reset'],
    ['SOMETHING_NEW', false, 'reset'],
  ] as const)('%s (head seen: %s) is told as %s', (code, sawHead, reason) => {
    expect(toReason(withCode(code), sawHead)).toBe(reason)
  })

  it('looks into an attempt over several addresses, and into a cause', () => {
    const members = [withCode('EHOSTUNREACH'), withCode('ECONNRESET')]
    expect(toReason(new AggregateError(members, 'all failed'), false)).toBe('connect')
    expect(toReason(new Error('outer', { cause: withCode('ENOTFOUND') }), false)).toBe('dns')
  })

  it('is a reset when nothing is known', () => {
    expect(toReason(new Error('what?'), false)).toBe('reset')
    const itself = new Error('a circle')
    itself.cause = itself
    expect(toReason(itself, false)).toBe('reset')
  })
})
