// What a caller is told of a failover, and what providers see of it: the headers of the answer that came from another
// tier, the 503 when nobody answered, waits that providers asked for, and deadlines. Waits are short by the tiers'
// settings.

import { describe, expect, it } from 'vitest'
import { type Caller, createCaller } from '../support/caller.ts'
import { simpleConfig, type TestGateway } from '../support/gateway.ts'
import { startProviderProcess } from '../support/provider-process.ts'
import {
  answer,
  type Behaviour,
  contentFilter,
  contextLengthExceeded,
  cutAfter,
  empty200,
  errorIn200,
  headersOnly,
  inBandErrorFirst,
  keepAlivesOnly,
  malformedEventFirst,
  rateLimited,
  resetBeforeHeaders,
  silent,
  slowFirstToken,
  stallAfter,
  status,
  wrongContentType,
} from '../support/scripted-provider.ts'
import { createStage } from '../support/stage.ts'

const stage = await createStage()
const { one, two } = stage

const TIER = { firstToken: '300ms', firstByte: '300ms', idle: '400ms', attempt: '5s', retries: 0 }

/** A gateway of its own for each test: a breaker must not remember another's faults. */
async function open(
  over: Readonly<Record<string, unknown>> = {},
  env: Readonly<Record<string, string>> = {},
): Promise<{ gateway: TestGateway; caller: Caller }> {
  const config = simpleConfig({ provider: [one.url, two.url], tier: TIER, over })
  const gateway = await stage.start({ config, env })
  return { gateway, caller: createCaller(gateway.baseUrl, gateway.bearer) }
}

const LAST_RESORT = {
  tiers: { lastResort: { reply: 'A person must confirm this step.', needsReview: true } },
  routes: { m: ['t1', 't2', 'lastResort'] },
}

describe('a first tier that dies', () => {
  it('is followed by the second, which the headers name, from the moment its process is killed', async () => {
    const mortal = await startProviderProcess()
    const { caller } = await open({ providers: { p1: { baseUrl: mortal.baseUrl } } })

    const before = await caller.chat()
    expect(before.status).toBe(200)
    expect(before.header('x-sluice-tier')).toBe('t1')
    expect(before.header('x-sluice-deployment')).toBe('p1/m1')
    expect(before.header('x-sluice-attempts')).toBe('t1:p1/m1=200')
    expect(before.header('x-sluice-degraded')).toBe('')
    expect(before.json).toMatchObject({ model: 'm1' })

    await mortal.kill9()
    for (const stream of [false, true]) {
      const after = await caller.chat({ body: { stream } })
      expect(after.status).toBe(200)
      expect(after.header('x-sluice-tier')).toBe('t2')
      expect(after.header('x-sluice-deployment')).toBe('p2/m2')
      expect(after.header('x-sluice-attempts')).toMatch(/^t1:p1\/m1=(refused|reset), t2:p2\/m2=200$/)
      expect(after.header('x-sluice-degraded')).toBe('true')
      expect(after.header('x-sluice-needs-review')).toBe('')
      expect(after.content).toBe('Hello from the scripted provider.')
    }
  })

  it('fails a whole reply over when it is killed in the middle of it, and a stream that has begun never ends clean', async () => {
    const mortal = await startProviderProcess({ pieces: 400, everyMs: 20 })
    const { caller } = await open({ providers: { p1: { baseUrl: mortal.baseUrl } } })
    const response = await caller.open({ body: { stream: true } })
    expect(response.headers.get('x-sluice-deployment')).toBe('p1/m1')
    const bytes: Uint8Array[] = []
    let killed: Promise<void> | undefined
    for await (const chunk of response.body ?? []) {
      bytes.push(chunk)
      killed ??= mortal.kill9()
    }
    await killed
    const text = Buffer.concat(bytes).toString()
    expect(text).toContain('piece-0')
    expect(text).toContain('"code":"upstream_incomplete"')
    expect(text).not.toContain('[DONE]')
    expect(two.calls).toBe(0)

    one.script(cutAfter({ frames: 1 }))
    const { caller: other } = await open()
    const whole = await other.chat()
    expect(whole.header('x-sluice-attempts')).toBe('t1:p1/m1=reset, t2:p2/m2=200')
    expect(whole.content).toBe('Hello from the scripted provider.')
  })
})

describe('a fault before the first content', () => {
  const both: readonly (readonly [string, Behaviour, string, string])[] = [
    ['a 500', status(500), '500', '500'],
    ['a 529', status(529), '529', '529'],
    ['a 408', status(408), '408', '408'],
    ['a 402', status(402), '402', '402'],
    ['a 404', status(404), '404', '404'],
    ['a reset without an answer', resetBeforeHeaders(), 'reset', 'reset'],
    ['an answer cut in its middle or before its content', cutAfter({ frames: 1 }), 'reset', 'reset'],
    ['an empty 200', empty200(), 'empty', 'empty'],
    ['an error inside a 200', errorIn200(), 'in_band', 'in_band'],
    ['a page of HTML', wrongContentType(), 'malformed', 'malformed'],
    ['broken JSON', malformedEventFirst(), 'malformed', 'malformed'],
    ['no byte at all', silent(), 'first_byte', 'first_token'],
    ['a head and nothing behind it', headersOnly(), 'first_byte', 'first_token'],
    ['a first token that is late', slowFirstToken(10_000), 'first_byte', 'first_token'],
  ]
  const streamed: readonly (readonly [string, Behaviour, string])[] = [
    ['a stream whose first event is an error', inBandErrorFirst(), 'in_band'],
    ['a stream of its end marker only', empty200('only-done'), 'empty'],
    ['a stream of a role only', empty200('only-role'), 'empty'],
    ['a stream of comments only', keepAlivesOnly(20), 'first_token'],
  ]
  const cases = [
    ...both.flatMap(([what, behaviour, whole, stream]) => [
      { what, behaviour, stream: false, reason: whole },
      { what, behaviour, stream: true, reason: stream },
    ]),
    ...streamed.map(([what, behaviour, reason]) => ({ what, behaviour, stream: true, reason })),
  ]

  async function check(caller: Caller, { what, behaviour, stream, reason }: (typeof cases)[number]) {
    one.script(behaviour)
    const told = await caller.chat({ body: { stream } })
    expect([what, stream, told.status, told.header('x-sluice-attempts')]).toEqual([
      ...[what, stream, 200, `t1:p1/m1=${reason}, t2:p2/m2=200`],
    ])
    expect(told.content).toBe('Hello from the scripted provider.')
    expect(told.text).not.toMatch(/engine|fire/)
  }
  const isSilence = ({ reason }: { reason: string }): boolean => reason.startsWith('first_')

  it('is answered by the second tier, with the reason in the header', { timeout: 60_000 }, async () => {
    const { gateway, caller } = await open()
    for (const it of cases.filter((it) => !isSilence(it))) {
      await check(caller, it)
      // Good answers, and more of them than bad ones, so that the breaker stays out of this test.
      one.script(answer())
      for (let i = 0; i < 2; i += 1)
        expect((await caller.chat()).header('x-sluice-attempts')).toBe('t1:p1/m1=200')
    }
    expect(gateway.logLines().filter(({ level }) => Number(level) >= 50)).toEqual([])
  })

  it.each(cases.filter(isSilence))(
    'of $what (stream: $stream) is waited for once: whoever comes next is not sent there',
    async (it) => {
      const { gateway, caller } = await open()
      await check(caller, it)
      one.reset()
      const next = await caller.chat({ body: { stream: it.stream } })
      expect(next.header('x-sluice-attempts')).toBe('t1:p1/m1=skipped:unavailable, t2:p2/m2=200')
      expect(one.calls).toBe(0)
      expect(gateway.logLines()).toContainEqual(
        expect.objectContaining({ deployment: 'p1/m1', from: 'available', to: 'slow', reason: it.reason }),
      )
    },
  )

  it('never cuts the last one that could answer for slowness', async () => {
    one.script(status(503))
    two.script(slowFirstToken(700))
    const { caller } = await open({ tiers: { t2: { idle: '5s' } } })
    for (const stream of [false, true]) {
      const slow = await caller.chat({ body: { stream } })
      expect([slow.status, slow.header('x-sluice-attempts')]).toEqual([200, 't1:p1/m1=503, t2:p2/m2=200'])
    }
  })
})

describe('when nobody can answer', () => {
  it('a last resort does, marked for review', async () => {
    one.script(status(503))
    two.script(resetBeforeHeaders())
    const { caller } = await open(LAST_RESORT)
    for (const stream of [false, true]) {
      const last = await caller.chat({ body: { stream } })
      expect(last.status).toBe(200)
      expect(last.content).toBe('A person must confirm this step.')
      expect(last.header('x-sluice-tier')).toBe('lastResort')
      expect(last.header('x-sluice-attempts')).toMatch(
        /^t1:p1\/m1=503, t2:p2\/m2=reset, lastResort:[^=]+=200$/,
      )
      expect(last.header('x-sluice-needs-review')).toBe('true')
      expect(last.header('x-sluice-degraded')).toBe('true')
      if (stream) expect(last.stream).toMatchObject({ done: true, finishReasons: ['stop'] })
    }
  })

  it('the 503 lists each attempt with its reason, and when to come back', async () => {
    one.script(rateLimited(7))
    two.script(status(500, 'Internal failure with a provider-key-123456'))
    const { caller } = await open({ providers: { p2: { apiKey: 'env:K' } } }, { K: 'provider-key-123456' })
    const failed = await caller.chat()
    expect(failed.status).toBe(503)
    expect(failed.error).toMatchObject({ code: 'upstream_failed', type: 'server_error', param: null })
    expect(failed.error?.message).toMatch(/t1.*p1\/m1.*429.*t2.*p2\/m2.*500/)
    expect(failed.text).not.toContain('provider-key-123456')
    expect(failed.header('x-should-retry')).toBe('true')
    // The shortest hold: the first one asked for seven seconds.
    expect(failed.header('retry-after')).toBe('7')
    expect(Number(failed.header('retry-after-ms'))).toBeGreaterThan(6_500)

    const again = await caller.chat()
    expect(again.error?.message).toMatch(/skipped:unavailable/)
    expect(one.calls).toBe(1)
  })
})

describe('a provider that asks to be left alone', () => {
  it('is not called before its retry-after is over, and is called after it', async () => {
    one.script([rateLimited('700ms'), answer()])
    const { caller } = await open()
    const first = await caller.chat()
    const heldFromMs = one.requests[0]?.startedMs ?? 0
    expect(first.header('x-sluice-attempts')).toBe('t1:p1/m1=429, t2:p2/m2=200')
    for (;;) {
      const next = await caller.chat()
      if (next.header('x-sluice-attempts') === 't1:p1/m1=200') break
      expect(next.header('x-sluice-attempts')).toBe('t1:p1/m1=skipped:unavailable, t2:p2/m2=200')
      expect(performance.now() - heldFromMs).toBeLessThan(3_000)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    expect((one.requests[1]?.startedMs ?? 0) - heldFromMs).toBeGreaterThanOrEqual(700)
    expect(one.calls).toBe(2)
  })

  it('is waited for within the patience of its tier', async () => {
    one.script([rateLimited('200ms'), answer()])
    const { caller } = await open({ tiers: { t1: { patience: '1s', retries: 1 } } })
    const patient = await caller.chat()
    expect(patient.header('x-sluice-attempts')).toBe('t1:p1/m1=429, t1:p1/m1=200')
    const [first, second] = one.requests
    expect((second?.startedMs ?? 0) - (first?.startedMs ?? 0)).toBeGreaterThanOrEqual(199)
    expect(two.calls).toBe(0)
  })
})

describe('deadlines', () => {
  it('of the caller end in a 504 in time, and the provider is let go', async () => {
    one.script(silent())
    two.script(silent())
    const { caller } = await open({ tiers: { t1: { firstByte: '5s', firstToken: '5s' } } })
    for (const stream of [false, true]) {
      one.reset()
      one.script(silent())
      const late = await caller.chat({ body: { stream }, headers: { 'x-sluice-timeout-ms': '250' } })
      expect(late.status).toBe(504)
      expect(late.error).toMatchObject({ code: 'deadline_exceeded', type: 'server_error' })
      expect(late.header('retry-after')).toBe('1')
      expect(late.header('x-should-retry')).toBe('true')
      expect(late.receivedMs - late.sentMs).toBeGreaterThanOrEqual(245)
      expect(late.receivedMs - late.sentMs).toBeLessThan(2_000)
      await one.waitForAbort(0, 1_000)
    }
  })

  it('in the middle of a stream end it with an error that names them, and never clean', async () => {
    one.script(answer({ pieces: Array(200).fill('word '), everyMs: 30 }))
    const { caller } = await open()
    const late = await caller.chat({ body: { stream: true }, headers: { 'x-sluice-timeout-ms': '300' } })
    expect(late.content).toMatch(/^word/)
    expect(late.stream).toMatchObject({ done: false, finishReasons: [] })
    expect(late.error).toMatchObject({
      ...{ code: 'upstream_incomplete', type: 'server_error', param: null },
      message: expect.stringContaining('deadline'),
    })
    await one.waitForAbort(0, 1_000)
  })

  it('that one caller sets too short do not take the provider from the others', async () => {
    one.script(slowFirstToken(120))
    const { caller } = await open()
    for (let i = 0; i < 12; i += 1) {
      const hasty = await caller.chat({
        body: { stream: i % 2 === 0 },
        headers: { 'x-sluice-timeout-ms': '20' },
      })
      expect(hasty.status).toBe(504)
    }
    const other = await caller.chat()
    expect(other.header('x-sluice-attempts')).toBe('t1:p1/m1=200')
  })

  it('of a stream that stalls after its first content is the idle time of its tier', async () => {
    one.script(stallAfter(3))
    const { caller } = await open()
    const stalled = await caller.chat({ body: { stream: true } })
    expect(stalled.error).toMatchObject({ code: 'upstream_incomplete' })
    expect(stalled.stream?.done).toBe(false)
    expect(stalled.receivedMs - stalled.sentMs).toBeLessThan(2_000)
    expect(two.calls).toBe(0)
  })
})

describe("the caller's own mistakes", () => {
  it.each([
    ['a 400', status(400), 400, 'invalid_value'],
    ['a 422', status(422), 422, null],
    ['a content filter', contentFilter({ as: 'status' }), 400, 'content_filter'],
  ] as const)('%s is passed on with its words and tried nowhere else', async (_, behaviour, code, name) => {
    one.script(behaviour)
    const { caller } = await open()
    for (const stream of [false, true]) {
      const refused = await caller.chat({ body: { stream } })
      expect(refused.status).toBe(code)
      expect(refused.error).toMatchObject({ type: 'invalid_request_error', code: name })
      expect(refused.error?.message).toMatch(/Scripted status|was filtered/)
      expect(refused.header('x-should-retry')).toBe('false')
    }
    expect([one.calls, two.calls]).toEqual([2, 0])
  })

  it('a filtered finish is an answer like any other', async () => {
    one.script(contentFilter())
    const { caller } = await open()
    const filtered = await caller.chat({ body: { stream: true } })
    expect(filtered.stream).toMatchObject({ done: true, finishReasons: ['content_filter'], error: undefined })
  })

  it('a prompt that is too long goes to a larger window, and is told as such when there is none', async () => {
    one.script(contextLengthExceeded(8192, 9000))
    const windows = {
      tiers: {
        t1: { deployments: [{ use: 'p1/m1', contextWindow: 8192 }] },
        t2: { deployments: [{ use: 'p2/m2', contextWindow: 200_000 }] },
      },
    }
    const { caller } = await open(windows)
    const larger = await caller.chat()
    expect(larger.header('x-sluice-attempts')).toBe('t1:p1/m1=context, t2:p2/m2=200')

    two.script(contextLengthExceeded(200_000, 300_000))
    const none = await caller.chat()
    expect(none.status).toBe(400)
    expect(none.error).toMatchObject({ code: 'context_length_exceeded', type: 'invalid_request_error' })
    expect(none.error?.message).toMatch(/maximum context length is \d+ tokens/)
    expect(none.header('x-should-retry')).toBe('false')
  })
})

describe("a provider's key that is refused", () => {
  const KEYS = { providers: { p1: { apiKey: ['env:K1', 'env:K2'] } } }
  const env = { K1: 'key-one-of-the-provider', K2: 'key-two-of-the-provider' }
  const keyOf = (index: number) => one.requests[index]?.header('authorization')

  it('is followed by the other key of the same provider, and left out from then on', async () => {
    one.script((request) => (request.header('authorization')?.endsWith(env.K1) ? status(401) : answer()))
    const { caller } = await open(KEYS, env)
    const first = await caller.chat()
    expect(first.header('x-sluice-attempts')).toBe('t1:p1/m1=401, t1:p1/m1=200')
    expect([keyOf(0), keyOf(1)]).toEqual([`Bearer ${env.K1}`, `Bearer ${env.K2}`])
    for (let i = 0; i < 6; i += 1) {
      expect((await caller.chat()).header('x-sluice-attempts')).toBe('t1:p1/m1=200')
    }
    expect(
      one.requests.slice(1).every((request) => request.header('authorization') === `Bearer ${env.K2}`),
    ).toBe(true)
    expect(two.calls).toBe(0)
  })

  it('is never the 401 of the caller, when both are refused', async () => {
    one.script(status(401, { error: { message: `Incorrect API key: ${env.K1}`, code: 'invalid_api_key' } }))
    const { caller } = await open(KEYS, env)
    const first = await caller.chat()
    expect(first.status).toBe(200)
    expect(first.header('x-sluice-attempts')).toMatch(/^t1:p1\/m1=401, (t1:p1\/m1=401, )?t2:p2\/m2=200$/)
    two.script(status(403))
    const second = await caller.chat()
    expect(second.status).toBe(503)
    expect(second.error).toMatchObject({ code: 'upstream_failed' })
    expect(second.text).not.toContain('key-one')
  })
})
