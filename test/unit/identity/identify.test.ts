import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { bearerSha256, mintBearer } from '../../../src/config/bearer.ts'
import { GatewayError } from '../../../src/errors.ts'
import { createIdentity, type Identity } from '../../../src/identity/identify.ts'
import { createRevocations } from '../../../src/identity/revocations.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { GOOD, good } from '../config/configurations.ts'

const OURS = mintBearer(randomBytes)
const THEIRS = 'any-bearer-of-any-make'
const EXPIRING = 'expires-soon'
const LIMITED = 'limited-one'

function create(wallMs = Date.UTC(2026, 10, 21, 12)) {
  const time = createManualClock({ wallMs })
  const snapshot = good(GOOD, [
    {
      agent: 'data-analyzer',
      scopes: ['chat:*'],
      limits: { concurrency: 3 },
      bearers: [
        { id: 'laptop', sha256: bearerSha256(OURS) },
        { id: 'other', sha256: bearerSha256(THEIRS) },
        { id: 'short', sha256: bearerSha256(EXPIRING), expires: '2026-11-23' },
        { id: 'narrow', sha256: bearerSha256(LIMITED), limits: { requests: '10/s' } },
      ],
    },
  ])
  const revocations = createRevocations({ clock: time.clock, log: { info: () => {} }, count: () => {} })
  revocations.use(snapshot)
  return { time, snapshot, revocations, identity: createIdentity({ snapshot, revocations }) }
}

function refusal(identity: Identity, bearer: string | undefined): GatewayError {
  try {
    identity.identify(bearer)
  } catch (error) {
    if (error instanceof GatewayError) return error
  }
  throw new Error('it was let in')
}

/** Another last character that is still of the alphabet. */
const mistype = (bearer: string): string => bearer.slice(0, -1) + (bearer.endsWith('a') ? 'b' : 'a')

afterEach(() => {
  vi.restoreAllMocks()
})

describe('a bearer', () => {
  it.each([OURS, THEIRS, EXPIRING, LIMITED])('that is known is its agent', (bearer) => {
    const { identity } = create()
    expect(identity.identify(bearer).agent.name).toBe('data-analyzer')
  })

  it('that was known is refused once it is revoked, and let in when it is given back', () => {
    const { identity, revocations } = create()
    expect(identity.identify(OURS).bearer.id).toBe('laptop')
    const sha256 = bearerSha256(OURS)
    revocations.learn([{ sha256, revoked: true, atMs: 1 }])
    for (let i = 0; i < 2; i += 1) expect(refusal(identity, OURS).code).toBe('invalid_api_key')
    revocations.learn([{ sha256, revoked: false, atMs: 2 }])
    expect(identity.identify(OURS).bearer.id).toBe('laptop')
  })

  it('that was known and has expired is refused', () => {
    const { identity, time } = create()
    expect(identity.identify(EXPIRING).bearer.id).toBe('short')
    time.advance(3 * 86_400_000)
    expect(refusal(identity, EXPIRING).code).toBe('invalid_api_key')
  })

  it('is the same Caller each time: nothing is made for a request', () => {
    const { identity } = create()
    const caller = identity.identify(OURS)
    expect(identity.identify(OURS)).toBe(caller)
    expect(Object.isFrozen(caller)).toBe(true)
    expect(Object.isFrozen(caller.subjects)).toBe(true)
  })

  it("has its agent's limits, and its own where it has any, decided together", () => {
    const { identity } = create()
    const subjects = (bearer: string) =>
      identity.identify(bearer).subjects.map(({ kind, id, tag }) => [kind, id, tag])
    expect(subjects(OURS)).toEqual([['agent', 'data-analyzer', 'data-analyzer']])
    expect(subjects(LIMITED)).toEqual([
      ['agent', 'data-analyzer', 'data-analyzer'],
      ['bearer', 'narrow', 'data-analyzer'],
    ])
  })

  it('is limited by the very subjects that its agent is said to have', () => {
    const { identity, snapshot } = create()
    const agent = snapshot.agents.get('data-analyzer')
    if (agent === undefined) throw new Error('it is configured')
    const [own, narrow, ...more] = identity.subjects(agent)
    expect(more).toEqual([])
    expect(identity.identify(LIMITED).subjects).toEqual([own, narrow])
    expect(identity.identify(LIMITED).subjects[0]).toBe(own)
    expect(identity.identify(LIMITED).subjects[1]).toBe(narrow)
    expect(identity.identify(OURS).subjects[0]).toBe(own)
  })

  it('is valid until the day it expires, 00:00 UTC', () => {
    const midnight = Date.UTC(2026, 10, 23)
    const { identity, time } = create(midnight - 1)
    expect(identity.identify(EXPIRING).bearer.id).toBe('short')
    time.stepWall(1)
    expect(refusal(identity, EXPIRING).code).toBe('invalid_api_key')
    expect(identity.identify(OURS).bearer.id).toBe('laptop')
  })

  it('gets one and the same answer when it is missing, unknown, mistyped or expired', () => {
    const { identity } = create(Date.UTC(2027, 0, 1))
    const presented = [
      undefined,
      '',
      ' ',
      'unknown',
      'sk-sluice-',
      'sk-sluice-short',
      mistype(OURS),
      mintBearer(randomBytes),
      EXPIRING,
      OURS.toUpperCase(),
      ` ${OURS}`,
      `${OURS} `,
      bearerSha256(OURS),
      '__proto__',
      'x'.repeat(100_000),
    ]
    const answers = presented.map((bearer) => {
      const { code, message, param, retryAfterMs, cause, passed } = refusal(identity, bearer)
      return JSON.stringify([code, message, param, retryAfterMs, cause, passed])
    })
    expect(new Set(answers).size).toBe(1)
    expect(answers[0]).toContain('invalid_api_key')
  })

  it('of our own make is refused on its checksum: it is looked for among those that were right, and gets no digest', () => {
    const { identity } = create()
    const lookup = vi.spyOn(Map.prototype, 'get')
    const lookups = (bearer: string): number => {
      lookup.mockClear()
      refusal(identity, bearer)
      return lookup.mock.calls.length
    }
    expect(lookups(mistype(OURS))).toBe(1)
    expect(lookups(OURS.slice(0, -1))).toBe(1)
    expect(lookups(`${OURS}x`)).toBe(1)
    expect(lookups('sk-sluice-')).toBe(1)
    // Right in itself, and nobody's; and one of another make, which has no checksum to look at.
    expect(lookups(mintBearer(randomBytes))).toBe(2)
    expect(lookups('sk-sluic-1')).toBe(2)
  })

  it('is in no error, not in part', () => {
    const { identity } = create()
    const presented = 'a-very-secret-bearer'
    const error = refusal(identity, presented)
    expect(JSON.stringify([error.message, error.stack, error.cause])).not.toMatch(/very-secret/)
  })
})
