import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import { createLeaseStore } from '../../../src/quota/leases.ts'
import { createMemoryAuthority } from '../../../src/quota/memory.ts'
import { createMeter, type Meter } from '../../../src/quota/meter.ts'
import { createOutageAuthority } from '../../../src/quota/outage.ts'
import { createRedisLedgers } from '../../../src/quota/redis.ts'
import { type Store, systemTimers } from '../../../src/quota/store.ts'
import type { Deployment, Hold, Limits, ModelRequest, Refusal, Subject } from '../../../src/types.ts'
import { serversAt } from '../../support/redis.ts'
import {
  allowed,
  caller,
  limits,
  manualClock,
  memoryStore,
  modelRequest,
  perMinute,
  perSecond,
  usage,
} from './fixtures.ts'

const NO_LOG = { info: () => {}, warn: () => {} }

function setUp() {
  const clock = manualClock()
  const store = memoryStore({ clock })
  let last = 0
  const meter = createMeter({ store, clock, timers: systemTimers, ids: () => `hold-${++last}` })
  return { clock, store, meter }
}

async function refusal(reserving: Hold | Promise<Hold>): Promise<GatewayError> {
  const error = await Promise.resolve(reserving).then(
    () => undefined,
    (caught: unknown) => caught,
  )
  if (!(error instanceof GatewayError)) throw new Error('expected a GatewayError')
  return error
}

function headersOf(meter: Meter, of: Hold | GatewayError): Record<string, string> {
  return Object.fromEntries(meter.headers(of).map(({ name, value }) => [name, value]))
}

function deployment(own: Partial<Limits>, provider: Partial<Limits>): Deployment {
  return {
    name: 'google/gemini-3-flash',
    kind: 'http',
    provider: {
      name: 'google',
      format: 'openai',
      kind: 'http',
      tracedAs: 'openai',
      baseUrl: 'http://127.0.0.1:1',
      proxy: undefined,
      keys: [],
      keyHours: undefined,
      rotateMs: undefined,
      headers: {},
      alsoSpeaks: new Set(),
      options: {},
      allowFields: new Set(),
      limits: limits(provider),
      health: undefined,
      simulate: undefined,
    },
    model: 'gemini-3-flash',
    weight: 1,
    contextWindow: undefined,
    price: undefined,
    listPrices: [],
    limits: limits(own),
    prefill: false,
    text: undefined,
  }
}

describe('reserve', () => {
  it('refuses the 101st request of a burst of 100 with the exact wait, in plain words', async () => {
    const { meter, clock } = setUp()
    const who = caller({ requests: perSecond(50, 100) })
    for (let i = 0; i < 100; i++) await meter.reserve(who, modelRequest(), allowed())
    const error = await refusal(meter.reserve(who, modelRequest(), allowed()))
    expect(error.code).toBe('rate_limit_exceeded')
    expect(error.retryAfterMs).toBe(20)
    expect(error.message).toBe(
      'Agent data-analyzer is limited to 50 requests/s (burst 100); this request fits in 20 ms.',
    )
    clock.advance(19)
    await refusal(meter.reserve(who, modelRequest(), allowed()))
    clock.advance(1)
    await meter.reserve(who, modelRequest(), allowed())
  })

  it('gives at once what nobody has to be asked for, and refuses by a rejection all the same', async () => {
    const { meter } = setUp()
    const who = caller({ requests: perSecond(1, 1) })
    const hold = meter.reserve(who, modelRequest(), allowed())
    expect(hold).toMatchObject({ id: expect.any(String) })
    const refused = meter.reserve(who, modelRequest(), allowed())
    expect(refused).toBeInstanceOf(Promise)
    expect((await refusal(refused)).code).toBe('rate_limit_exceeded')
    expect(meter.openHolds()).toBe(1)
  })

  it('names the bearer, the tokens and the slots when they are what is full', async () => {
    const { meter, clock } = setUp()
    const request = modelRequest({ maxOutputTokens: 1_000, textBytes: 300 })
    const who = caller({ concurrency: 1 }, { tokens: perMinute(60_000, 2_000) })
    await meter.reserve(who, request, allowed())
    const slots = await refusal(meter.reserve(who, request, allowed()))
    expect(slots).toMatchObject({
      code: 'concurrency_exceeded',
      retryAfterMs: 1000,
      limit: 'agent:concurrency',
    })
    expect(slots.message).toBe('Agent data-analyzer is limited to 1 request at once; try again in 1 s.')
    // The slots are all that is known to be full for 100 ms; 100 tokens come back meanwhile.
    clock.advance(100)
    const tokens = await refusal(
      meter.reserve(who, modelRequest({ maxOutputTokens: 2_200, textBytes: 300 }), allowed()),
    )
    expect(tokens).toMatchObject({
      code: 'rate_limit_exceeded',
      retryAfterMs: 1000,
      limit: 'bearer:tokens',
    })
    expect(tokens.message).toBe(
      'Bearer laptop of agent data-analyzer is limited to 1000 input and output tokens/s (burst 2000); ' +
        'this request fits in 1 s.',
    )
  })

  it('never says more than 60 s in retryAfterMs', async () => {
    const { meter } = setUp()
    const who = caller({ requests: { capacity: 1, intervalUs: 3600e6 } })
    await meter.reserve(who, modelRequest(), allowed())
    const error = await refusal(meter.reserve(who, modelRequest(), allowed()))
    expect(error.retryAfterMs).toBe(60_000)
    expect(error.message).toContain('1 requests/h; this request fits in 60 min.')
  })

  it('reserves input estimate plus the smallest output cap, times the choices', async () => {
    const left = async (
      some: Parameters<typeof modelRequest>[0],
      cap?: number,
      strict = false,
    ): Promise<number> => {
      const { meter } = setUp()
      const who = caller({ tokens: perSecond(100_000), strict })
      const hold = await meter.reserve(who, modelRequest(some), allowed(cap))
      return 100_000 - Number(headersOf(meter, hold)['x-ratelimit-remaining-tokens'])
    }
    expect(await left({ textBytes: 301, maxOutputTokens: 50 })).toBe(101 + 50)
    expect(await left({ textBytes: 301, maxOutputTokens: 50 }, undefined, true)).toBe(301 + 50)
    expect(await left({ textBytes: 300, maxOutputTokens: 50 }, 20)).toBe(100 + 20)
    expect(await left({ textBytes: 300, maxOutputTokens: undefined }, 70)).toBe(100 + 70)
    expect(await left({ textBytes: 300, maxOutputTokens: undefined })).toBe(100 + 8192)
    expect(await left({ textBytes: 300, maxOutputTokens: 50, choices: 3 })).toBe(100 + 150)
    const embeddings = { ...modelRequest().endpoint, operation: 'embeddings' as const }
    expect(await left({ textBytes: 300, endpoint: embeddings })).toBe(100)
  })

  it('does not shut an agent out for days over max_tokens 2147483647', async () => {
    const { meter, clock } = setUp()
    const who = caller({ tokens: perMinute(200_000) })
    const hold = await meter.reserve(who, modelRequest({ maxOutputTokens: 2_147_483_647 }), allowed())
    clock.advance(1_000)
    meter.settle(hold, usage(100, 900))
    await meter.reserve(who, modelRequest(), allowed())
  })

  it('counts nothing and keeps nothing for a caller without limits', async () => {
    const clock = manualClock()
    const store: Store = {
      take: () => {
        throw new Error('asked')
      },
      settle: () => {
        throw new Error('asked')
      },
      look: async () => [],
      close: async () => {},
    }
    const meter = createMeter({ store, clock, timers: systemTimers, ids: () => 'x' })
    const hold = await meter.reserve(caller({}), modelRequest(), allowed())
    expect(meter.headers(hold)).toEqual([])
    meter.settle(hold, usage(1, 1))
    expect(meter.openHolds()).toBe(0)
  })

  it('takes nothing from the caller when the route is full, and answers 429 for route and gateway', async () => {
    const { meter } = setUp()
    const route: Subject = {
      kind: 'route',
      id: 'au*to',
      tag: 'route:au*to',
      limits: limits({ concurrency: 1 }),
    }
    const who = caller({ requests: perSecond(3) })
    await meter.reserve(who, modelRequest(), allowed(), [route])
    for (let i = 0; i < 10; i++) {
      const error = await refusal(meter.reserve(who, modelRequest(), allowed(), [route]))
      expect(error).toMatchObject({ code: 'rate_limit_exceeded', retryAfterMs: 1000 })
      expect(error.message).toBe('Route au*to is limited to 1 request at once; try again in 1 s.')
    }
    await meter.reserve(who, modelRequest(), allowed())
    await meter.reserve(who, modelRequest(), allowed())
  })

  it('says limits_unavailable when the store cannot count and was told to deny', async () => {
    const clock = manualClock()
    const store: Store = {
      take: () => ({ ok: false, kind: 'unavailable' }),
      settle: () => {},
      look: async () => [],
      close: async () => {},
    }
    const meter = createMeter({ store, clock, timers: systemTimers, ids: () => 'x' })
    const who = caller({ requests: perSecond(3) })
    expect(await refusal(meter.reserve(who, modelRequest(), allowed()))).toMatchObject({
      code: 'limits_unavailable',
      retryAfterMs: 1000,
    })
    const gated = await meter.gate.enter(deployment({ concurrency: 1 }, {}), modelRequest())
    expect(gated).toMatchObject({ kind: 'unavailable', waitMs: 1000 })
  })

  it('holds slots until they are settled, however long that takes', async () => {
    const { meter, clock, store } = setUp()
    const who = caller({ concurrency: 1 })
    const hold = await meter.reserve(who, modelRequest(), allowed())
    clock.advance(3_600_000)
    expect(await refusal(meter.reserve(who, modelRequest(), allowed()))).toMatchObject({
      code: 'concurrency_exceeded',
    })
    expect(store.authority.size().slots).toBe(1)
    meter.settle(hold, undefined)
    await meter.reserve(who, modelRequest(), allowed())
  })
})

describe('settle', () => {
  it('returns slots and the difference of tokens, once', async () => {
    const { meter, clock, store } = setUp()
    const who = caller({ tokens: perMinute(60, 1_000), concurrency: 1 })
    const request = modelRequest({ textBytes: 300, maxOutputTokens: 900 })
    const hold = await meter.reserve(who, request, allowed())
    expect(meter.openHolds()).toBe(1)
    meter.settle(hold, usage(80, 120))
    meter.settle(hold, usage(0, 0))
    meter.settle(hold, undefined)
    expect(meter.openHolds()).toBe(0)
    // It leaves at the end of the turn.
    await nextTurn()
    expect(store.authority.size().slots).toBe(0)
    const next = await meter.reserve(who, modelRequest({ textBytes: 3, maxOutputTokens: 799 }), allowed())
    expect(headersOf(meter, next)['x-ratelimit-remaining-tokens']).toBe('0')
    meter.settle(next, usage(1, 1_000))
    expect((await refusal(meter.reserve(who, request, allowed()))).retryAfterMs).toBe(60_000)
    clock.advance(1_201_000)
    await meter.reserve(who, request, allowed())
  })

  it('refunds all tokens and no request when no answer began', async () => {
    const { meter } = setUp()
    const who = caller({ tokens: perMinute(1_000), requests: perMinute(2) })
    const request = modelRequest({ textBytes: 300, maxOutputTokens: 900 })
    meter.settle(await meter.reserve(who, request, allowed()), undefined)
    const hold = await meter.reserve(who, request, allowed())
    expect(headersOf(meter, hold)).toMatchObject({
      'x-ratelimit-remaining-tokens': '0',
      'x-ratelimit-remaining-requests': '0',
    })
  })

  it('takes figures that are no counts for 0', async () => {
    const { meter } = setUp()
    const who = caller({ tokens: perMinute(1_000) })
    const hold = await meter.reserve(who, modelRequest(), allowed())
    meter.settle(hold, usage(Number.NaN, -5))
    const next = await meter.reserve(who, modelRequest({ textBytes: 0, maxOutputTokens: 0 }), allowed())
    expect(headersOf(meter, next)['x-ratelimit-remaining-tokens']).toBe('1000')
  })
})

describe('headers', () => {
  it('are of the bucket of the caller with the least share left', async () => {
    const { meter } = setUp()
    const gateway: Subject = {
      kind: 'gateway',
      id: 'gateway',
      tag: 'gateway',
      limits: limits({ requests: perSecond(1) }),
    }
    const who = caller({ requests: perMinute(100), tokens: perSecond(1_000) }, { requests: perMinute(10) })
    const hold = await meter.reserve(who, modelRequest({ textBytes: 300 }), allowed(), [gateway])
    expect(headersOf(meter, hold)).toEqual({
      'x-ratelimit-limit-requests': '10',
      'x-ratelimit-remaining-requests': '9',
      'x-ratelimit-reset-requests': '6s',
      'x-ratelimit-limit-tokens': '1000',
      'x-ratelimit-remaining-tokens': '800',
      'x-ratelimit-reset-tokens': '200ms',
    })
  })

  it('come with a refusal too', async () => {
    const { meter } = setUp()
    const who = caller({ requests: perMinute(1) })
    await meter.reserve(who, modelRequest(), allowed())
    const error = await refusal(meter.reserve(who, modelRequest(), allowed()))
    expect(headersOf(meter, error)).toEqual({
      'x-ratelimit-limit-requests': '1',
      'x-ratelimit-remaining-requests': '0',
      'x-ratelimit-reset-requests': '1m0s',
    })
  })
})

describe('headers while Redis is away', () => {
  it('say what this replica will really admit, of the limit that there is', async () => {
    const clock = manualClock()
    const { timers, log, random } = { timers: systemTimers, log: NO_LOG, random: () => 0.5 }
    // Nobody has connected, and nobody will.
    const redis = createRedisLedgers({
      servers: serversAt('redis://127.0.0.1:1'),
      replica: 'r',
      timers,
      log,
      random,
    })
    const shadow = createMemoryAuthority({ clock })
    const authority = createOutageAuthority({
      redis,
      shadow,
      onOutage: 'local',
      replicas: 4,
      timers,
      log,
      random,
    })
    const store = createLeaseStore({ authority, clock, timers, leases: true })
    const meter = createMeter({ store, clock, timers, ids: () => `hold-${clock.now()}-${Math.random()}` })
    const who = caller({ requests: perMinute(100), tokens: perMinute(4_000) })
    for (let left = 24; left >= 0; left--) {
      const hold = await meter.reserve(who, modelRequest({ textBytes: 1, maxOutputTokens: 39 }), allowed())
      expect(headersOf(meter, hold)).toMatchObject({
        'x-ratelimit-limit-requests': '100',
        'x-ratelimit-remaining-requests': String(left),
        'x-ratelimit-limit-tokens': '4000',
        'x-ratelimit-remaining-tokens': String(40 * left),
      })
    }
    const refused = await refusal(meter.reserve(who, modelRequest({ textBytes: 1 }), allowed()))
    expect(headersOf(meter, refused)).toMatchObject({ 'x-ratelimit-remaining-requests': '0' })
    // Told at once, each sees what is left behind it.
    clock.advance(60_000)
    const holds = await Promise.all(
      [1, 2, 3].map(() => meter.reserve(who, modelRequest({ textBytes: 1, maxOutputTokens: 1 }), allowed())),
    )
    expect(holds.map((hold) => headersOf(meter, hold)['x-ratelimit-remaining-requests'])).toEqual([
      '24',
      '23',
      '22',
    ])
    await store.close()
  })
})

describe('the gate', () => {
  it('takes from provider and deployment together, or says who is full and takes nothing', async () => {
    const { meter } = setUp()
    const at = deployment({ requests: perMinute(3) }, { concurrency: 1 })
    const first = await meter.gate.enter(at, modelRequest())
    expect(first).toHaveProperty('id')
    for (let i = 0; i < 5; i++) {
      const full = await meter.gate.enter(at, modelRequest())
      expect(full).toMatchObject({
        kind: 'concurrency',
        waitMs: 1000,
        subject: { kind: 'provider', id: 'google' },
      } satisfies Partial<Record<keyof Refusal, unknown>>)
    }
    if (first !== undefined && 'id' in first) meter.gate.leave(first, usage(1, 1))
    for (let i = 0; i < 2; i++) {
      const next = await meter.gate.enter(at, modelRequest())
      if (next === undefined || !('id' in next)) throw new Error('expected a hold')
      meter.gate.leave(next, undefined)
    }
    expect(await meter.gate.enter(at, modelRequest())).toMatchObject({
      kind: 'requests',
      waitMs: 20_000,
      subject: { kind: 'deployment', id: 'google/gemini-3-flash' },
    })
    expect(meter.openHolds()).toBe(0)
  })

  it('waits for a slot where the provider says so, agent by agent, and only for those who may wait', async () => {
    const { meter } = setUp()
    const at = deployment({}, { concurrency: 1, waitMs: 5_000 })
    const requestOf = async (): Promise<ModelRequest> => {
      const request = modelRequest()
      await meter.reserve(caller({}), request, allowed())
      return request
    }
    const first = (await meter.gate.enter(at, await requestOf(), {})) as Hold
    expect(await meter.gate.enter(at, await requestOf())).toMatchObject({ kind: 'concurrency' })
    const left = new AbortController()
    const waits = meter.gate.enter(at, await requestOf(), {})
    const leaves = meter.gate.enter(at, await requestOf(), { signal: left.signal })
    await nextTurn()
    expect(meter.waiting()).toBe(2)
    left.abort()
    expect(await leaves).toHaveProperty('waitMs')
    meter.gate.leave(first, undefined)
    const second = (await waits) as Hold
    expect(second).toHaveProperty('id')
    meter.gate.leave(second, undefined)
    expect([meter.waiting(), meter.openHolds()]).toEqual([0, 0])
  })

  it('is open where nobody has a limit', async () => {
    const { meter } = setUp()
    expect(await meter.gate.enter(deployment({}, {}), modelRequest())).toBeUndefined()
  })

  it('reserves with the output cap of the reservation', async () => {
    const { meter } = setUp()
    const request = modelRequest({ textBytes: 300, maxOutputTokens: undefined })
    await meter.reserve(caller({}), request, allowed(400))
    const at = deployment({ tokens: perMinute(1_000) }, {})
    expect(await meter.gate.enter(at, request)).toHaveProperty('id')
    expect(await meter.gate.enter(at, request)).toHaveProperty('id')
    expect(await meter.gate.enter(at, request)).toMatchObject({ kind: 'tokens', waitMs: 30_000 })
  })
})
