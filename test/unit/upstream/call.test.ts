// The walk along a plan: who is called, how often, what follows from each end, and what is left behind.

import { describe, expect, it } from 'vitest'
import { FREE } from '../../../src/config/money.ts'
import { GatewayError } from '../../../src/errors.ts'
import type { Plan, Refusal, Subject } from '../../../src/types.ts'
import { toAttemptsHeader } from '../../../src/upstream/call.ts'
import {
  answerStatus,
  answerWell,
  type CallStage,
  createCallStage,
  createWorld,
  FIRST_TOKEN_MS,
  HELLO,
  IDLE_MS,
  makeDeployment,
  makePlan,
  makeReplyDeployment,
  makeTier,
  NO_LIMITS,
  ROLE,
  type ScriptedCall,
  START_MS,
  STREAM,
  type World,
  withCode,
} from './stage.ts'

const one = makeDeployment('a/one')
const two = makeDeployment('b/two')
const three = makeDeployment('c/three')
const first = makeTier('first', [one])
const second = makeTier('second', [two])
const third = makeTier('third', [three])

const who = (stage: CallStage): string[] => stage.calls.map(({ deployment }) => deployment)
const reasons = (stage: CallStage): string[] =>
  stage.attempts.map(({ deployment, reason }) => `${deployment}=${reason}`)

/** Answers every call by its deployment until there is an outcome; who is not named answers well. */
async function play(stage: CallStage, how: Readonly<Record<string, (call: ScriptedCall) => void>>) {
  let answered = 0
  for (let turn = 0; turn < 100; turn += 1) {
    const over = await stage.over()
    if (over !== undefined) return over
    const call = stage.calls[answered]
    if (call === undefined) {
      // A pause before a second call.
      await stage.time.advanceAsync(100)
      continue
    }
    answered += 1
    ;(how[call.deployment] ?? answerWell)(call)
  }
  throw new Error('there is no end of it')
}

const says =
  (status: number, body: unknown = '', headers: Readonly<Record<string, string>> = {}) =>
  (call: ScriptedCall): void =>
    answerStatus(call, status, body, headers)

function beginAnswer(call: ScriptedCall): void {
  call.started()
  call.head(200, STREAM)
  call.data(HELLO)
}

const tooLong = says(400, {
  error: { message: "This model's maximum context length is 8 tokens", code: 'context_length_exceeded' },
})

describe('the walk along a plan', () => {
  it('ends with the first who answers', async () => {
    const stage = createCallStage({ plan: makePlan([first, second]) })
    expect(await play(stage, {})).toMatchObject({
      answeredBy: { tier: first, deployment: one },
      error: undefined,
    })
    expect(who(stage)).toEqual(['a/one'])
    expect(stage.reply.headers).toEqual({
      'x-sluice-tier': 'first',
      'x-sluice-deployment': 'a/one',
      'x-sluice-attempts': 'first:a/one=200',
    })
  })

  it('goes on tier by tier, and says that the answer is degraded', async () => {
    const stage = createCallStage({ plan: makePlan([first, second, third]) })
    const outcome = await play(stage, { 'a/one': says(503), 'b/two': (call) => call.failed() })
    expect(outcome).toMatchObject({ answeredBy: { deployment: three } })
    expect(stage.reply.headers).toEqual({
      'x-sluice-tier': 'third',
      'x-sluice-deployment': 'c/three',
      'x-sluice-attempts': 'first:a/one=503, second:b/two=reset, third:c/three=200',
      'x-sluice-degraded': 'true',
    })
  })

  it('says when a person must look at the answer', async () => {
    const tier = makeTier('last', [makeReplyDeployment('last', 'Nobody.')], { needsReview: true })
    const stage = createCallStage({ plan: makePlan([first, tier]) })
    await play(stage, { 'a/one': says(500) })
    expect(stage.reply.headers).toMatchObject({
      'x-sluice-needs-review': 'true',
      'x-sluice-degraded': 'true',
    })
  })

  it('tries the other deployments of a tier before the next tier, while attempts allow', async () => {
    const wide = makeTier('wide', [one, two])
    const stage = createCallStage({ plan: makePlan([wide, third]) })
    await play(stage, { 'a/one': says(503), 'b/two': says(503) })
    expect(who(stage)).toEqual(['a/one', 'b/two', 'c/three'])
  })

  it('gives a tier its second call only while attempts left exceed tiers left', async () => {
    const wide = makeTier('wide', [one, makeDeployment('a/other')])
    const stage = createCallStage({ plan: makePlan([wide, second, third]) })
    await play(stage, { 'a/one': says(503), 'b/two': says(503) })
    expect(who(stage)).toEqual(['a/one', 'b/two', 'c/three'])
  })

  it.each([1, 2, 3, 5])(
    'makes %d calls at most, and no deployment twice, when all fail for good',
    async (attempts) => {
      const many = [0, 1, 2, 3, 4, 5].map((n) => makeDeployment(`p${n}/m`))
      const stage = createCallStage({ plan: makePlan([makeTier('t', many)], { attempts }) })
      const fail = Object.fromEntries(many.map(({ name }) => [name, says(503)]))
      expect((await play(stage, fail)).error).toMatchObject({ code: 'upstream_failed' })
      expect(who(stage)).toHaveLength(attempts)
      expect(new Set(who(stage)).size).toBe(attempts)
    },
  )

  it('keeps no call for tiers that are away', async () => {
    const again = makeTier('again', [one], { retries: 1 })
    for (const [retryAfterMs, calls] of [
      [99_000, ['a/one', 'a/one']],
      // One that is only slow is asked when nobody else has answered.
      [undefined, ['a/one', 'b/two']],
    ] as const) {
      const world = createWorld()
      for (const name of ['b/two', 'c/three'])
        world.health.failed(name, 'go', { reason: 'first_token', retryAfterMs })
      const stage = createCallStage({ plan: makePlan([again, second, third]), world })
      await play(stage, {
        'a/one': (call) => (stage.calls.length === 1 ? says(500)(call) : answerWell(call)),
      })
      expect(who(stage)).toEqual(calls)
    }
  })

  it('makes no more calls than it may when everything is worth a second one', async () => {
    const tiers = [first, second].map((tier) => ({ ...tier, retries: 10 }))
    const stage = createCallStage({ plan: makePlan(tiers, { attempts: 4 }) })
    await play(stage, { 'a/one': says(502), 'b/two': says(502) })
    expect(who(stage)).toEqual(['a/one', 'a/one', 'a/one', 'b/two'])
  })

  it('a fixed reply answers when the attempts are spent', async () => {
    const tier = makeTier('last', [makeReplyDeployment('last', 'Nobody.')])
    const stage = createCallStage({ plan: makePlan([first, second, tier], { attempts: 2 }) })
    const outcome = await play(stage, { 'a/one': says(503), 'b/two': says(503) })
    expect(outcome).toMatchObject({ answeredBy: { tier } })
    expect(stage.gate.filter((event) => 'enter' in event)).toHaveLength(2)
  })

  it("is over with a caller's own mistake, in the provider's words", async () => {
    const stage = createCallStage({ plan: makePlan([first, second]) })
    const body = {
      error: {
        message: 'Unknown parameter: x.',
        type: 'invalid_request_error',
        param: 'x',
        code: 'unknown_parameter',
      },
    }
    expect(await play(stage, { 'a/one': says(400, body) })).toMatchObject({
      answeredBy: undefined,
      usage: undefined,
      error: {
        message: 'Unknown parameter: x.',
        passed: { status: 400, type: 'invalid_request_error', param: 'x', code: 'unknown_parameter' },
      },
    })
    expect(who(stage)).toEqual(['a/one'])
  })

  it('is over when an answer broke off: what came before is not begun again', async () => {
    const stage = createCallStage({ plan: makePlan([first, second]) })
    const call = await stage.nth(0)
    call.started()
    call.head(200, STREAM)
    call.data(ROLE + HELLO)
    call.failed()
    expect(await stage.over()).toMatchObject({
      answeredBy: { deployment: one },
      usage: { outputTokens: 1, source: 'counted' },
      error: { code: 'upstream_incomplete' },
    })
    expect(who(stage)).toEqual(['a/one'])
    expect(reasons(stage)).toEqual(['a/one=reset'])
  })

  it('names each attempt when nobody answered', async () => {
    const stage = createCallStage({ plan: makePlan([first, second]) })
    const { error } = await play(stage, {
      'a/one': says(429, '', { 'retry-after': '7' }),
      'b/two': says(503, '', { 'retry-after': '4' }),
    })
    expect(error).toMatchObject({
      code: 'upstream_failed',
      message: 'No provider could answer (first a/one: 429; second b/two: 503).',
      retryAfterMs: 4000,
    })
    expect(stage.reply.headers).toMatchObject({ 'x-sluice-attempts': 'first:a/one=429, second:b/two=503' })
  })

  it('writes the bytes of the dead attempt nowhere', async () => {
    const stage = createCallStage({ plan: makePlan([first, second]) })
    const dead = await stage.nth(0)
    dead.started()
    dead.head(200, STREAM)
    dead.data(ROLE, HELLO.slice(0, 20))
    dead.failed()
    const alive = await stage.nth(1)
    answerWell(alive)
    expect(await stage.over()).toMatchObject({ answeredBy: { deployment: two }, error: undefined })
    expect(stage.reply.text.match(/"role"/g)).toHaveLength(1)
  })

  it('sends every deployment the body anew', async () => {
    const stage = createCallStage({ plan: makePlan([first, second]) })
    await play(stage, { 'a/one': says(503) })
    const models = stage.calls.map(({ exchange }) => JSON.parse(String(exchange.body)).model)
    expect(models).toEqual(['one', 'two'])
  })
})

describe('a second call to the same deployment', () => {
  const patient = makeTier('first', [one], { retries: 1, patienceMs: 3000 })

  it('follows a passing fault after a pause of full jitter', async () => {
    const stage = createCallStage({ plan: makePlan([patient, second]) })
    answerStatus(await stage.nth(0), 502)
    await stage.time.advanceAsync(49)
    expect(who(stage)).toHaveLength(1)
    await stage.time.advanceAsync(1)
    answerWell(await stage.nth(1))
    expect(await stage.over()).toMatchObject({ answeredBy: { deployment: one } })
    expect(reasons(stage)).toEqual(['a/one=502', 'a/one=200'])
  })

  it('waits for a Retry-After within the patience of its tier', async () => {
    const stage = createCallStage({ plan: makePlan([patient, second]) })
    answerStatus(await stage.nth(0), 429, '', { 'retry-after-ms': '1500' })
    await stage.time.advanceAsync(1499)
    expect(who(stage)).toHaveLength(1)
    await stage.time.advanceAsync(2)
    answerWell(await stage.nth(1))
    expect(who(stage)).toEqual(['a/one', 'a/one'])
    expect(await stage.over()).toMatchObject({ answeredBy: { deployment: one } })
  })

  it('waits for it although others of the tier are well that have failed at this very request', async () => {
    const wide = makeTier('wide', [one, two], { retries: 1, patienceMs: 3000 })
    const stage = createCallStage({ plan: makePlan([wide, third], { attempts: 4 }) })
    answerStatus(await stage.nth(0), 503)
    answerStatus(await stage.nth(1), 429, '', { 'retry-after-ms': '1500' })
    await stage.time.advanceAsync(1502)
    answerWell(await stage.nth(2))
    await stage.over()
    expect(who(stage)).toEqual(['a/one', 'b/two', 'b/two'])

    const other = createCallStage({ plan: makePlan([wide, third], { attempts: 4 }) })
    answerStatus(await other.nth(0), 429, '', { 'retry-after-ms': '1500' })
    answerWell(await other.nth(1))
    await other.over()
    expect(who(other)).toEqual(['a/one', 'b/two'])
  })

  it('goes on at once when the wait is too long, or the deadline too near', async () => {
    const long = createCallStage({ plan: makePlan([patient, second]) })
    answerStatus(await long.nth(0), 429, '', { 'retry-after': '4' })
    expect((await long.nth(1)).deployment).toBe('b/two')

    const late = createCallStage({ plan: makePlan([patient, second], { deadlineAt: START_MS + 1000 }) })
    answerStatus(await late.nth(0), 429, '', { 'retry-after': '2' })
    expect((await late.nth(1)).deployment).toBe('b/two')
  })

  it('leaves half of the time to whoever stands behind', async () => {
    const deadlineAt = START_MS + 3_000
    for (const [ms, next] of [
      ['1400', undefined],
      ['1501', 'b/two'],
    ] as const) {
      const world = createWorld()
      const stage = createCallStage({ plan: makePlan([patient, second], { deadlineAt }), world })
      answerStatus(await stage.nth(0), 429, '', { 'retry-after-ms': ms })
      await stage.over()
      expect(stage.calls[1]?.deployment).toBe(next)
      // The same for the next one, who finds it held back.
      const after = createCallStage({ plan: makePlan([patient, second], { deadlineAt }), world })
      await after.over()
      expect(after.calls[0]?.deployment).toBe(next)
    }
    const alone = createCallStage({ plan: makePlan([patient], { deadlineAt }) })
    answerStatus(await alone.nth(0), 429, '', { 'retry-after-ms': '2500' })
    await alone.time.advanceAsync(2_502)
    expect(who(alone)).toHaveLength(2)
  })

  it('is not made for a caller who leaves in the pause', async () => {
    const stage = createCallStage({ plan: makePlan([patient, second]) })
    answerStatus(await stage.nth(0), 429, '', { 'retry-after': '2' })
    await stage.over()
    stage.leave()
    expect(await stage.over()).toMatchObject({ error: { code: 'client_closed' } })
    expect(who(stage)).toHaveLength(1)
    expect(stage.time.pending).toBe(0)
  })
})

describe('the last candidate', () => {
  /** Lets the time for a first token pass on the call of that number. */
  /** Whether a call is cut for its silence. `meanwhile`: a second before it would be. */
  async function silence(stage: CallStage, index: number, meanwhile = () => {}): Promise<boolean> {
    const call = await stage.nth(index)
    call.started()
    call.head(200, STREAM)
    await stage.time.advanceAsync(FIRST_TOKEN_MS - 1000)
    meanwhile()
    await stage.time.advanceAsync(1000)
    return call.aborted
  }

  it('is not cut for its first token; those before it are', async () => {
    const stage = createCallStage({ plan: makePlan([first, second]) })
    expect(await silence(stage, 0)).toBe(true)
    expect(await silence(stage, 1)).toBe(false)
    expect(reasons(stage)[0]).toBe('a/one=first_token')
    stage.leave()
    await stage.over()
  })

  it('is whoever nobody can follow when his time is over, though somebody could when he began', async () => {
    const world = createWorld()
    const stage = createCallStage({ plan: makePlan([first, second]), world })
    await stage.nth(0)
    world.health.failed('b/two', 'go', { reason: '429', retryAfterMs: 99_000 })
    expect(await silence(stage, 0)).toBe(false)
    stage.leave()
    await stage.over()
  })

  it('is the one behind whom stands only his own provider, which may not be called a second time', async () => {
    const world = createWorld()
    const small = makeTier('small', [makeDeployment('a/small')])
    const stage = createCallStage({ plan: makePlan([first, small]), world })
    const spend = () => {
      for (let i = 0; i < 10; i += 1) world.retries.again('a')
    }
    expect(await silence(stage, 0, spend)).toBe(false)
    stage.leave()
    await stage.over()
  })

  it('is the one behind whom nobody could begin before the deadline', async () => {
    const world = createWorld()
    for (let i = 0; i < 20; i += 1) world.pace.answered('b/two', 5_000)
    const deadlineAt = START_MS + FIRST_TOKEN_MS + 3_000
    const stage = createCallStage({ plan: makePlan([first, second], { deadlineAt }), world })
    expect(await silence(stage, 0)).toBe(false)
    stage.leave()
    await stage.over()
  })

  it('is the one who goes on with an answer where only a fixed reply stands behind: that is no end of it', async () => {
    const resort = makeTier('last', [makeReplyDeployment('last', 'Nobody.')])
    const stage = createCallStage({ plan: makePlan([first, second, resort], { resumes: true }) })
    const call = await stage.nth(0)
    beginAnswer(call)
    call.failed()
    await stage.over()
    expect(await silence(stage, 1)).toBe(false)
    stage.leave()
    await stage.over()
  })

  it.each([
    [
      'all behind it are held back',
      (w: World) => w.health.failed('b/two', 'go', { reason: '429', retryAfterMs: 99_000 }),
      false,
    ],
    ['somebody behind it may answer', (_: World) => {}, true],
  ])('is the one of whom it holds that %s', async (_, arrange, cut) => {
    const world = createWorld()
    arrange(world)
    const stage = createCallStage({ plan: makePlan([first, second]), world })
    expect(await silence(stage, 0)).toBe(cut)
    stage.leave()
    await stage.over()
  })

  it('is the one whose neighbour may not be called any more', async () => {
    // One attempt is kept for each tier behind, so the neighbour has none, and the tier behind is slow.
    const world = createWorld()
    const wide = makeTier('wide', [one, two])
    const stage = createCallStage({ plan: makePlan([wide, third], { attempts: 2 }), world })
    const fail = () =>
      world.health.failed('c/three', 'go', { reason: 'first_token', retryAfterMs: undefined })
    expect(await silence(stage, 0, fail)).toBe(false)
    stage.leave()
    await stage.over()
  })

  it('is the one behind whom all keys are parked', async () => {
    const keyed = makeDeployment('b/two', {}, { keys: ['env:B'] })
    const world = createWorld({ 'env:B': 'value-b' })
    const { provider } = keyed
    if (provider === undefined) throw new Error('no provider')
    world.keys.park(provider, { reference: 'env:B', value: 'value-b' }, 99_000)
    const stage = createCallStage({ plan: makePlan([first, makeTier('second', [keyed])]), world })
    expect(await silence(stage, 0)).toBe(false)
    stage.leave()
    await stage.over()
  })

  it('is cut when a fixed reply stands behind it', async () => {
    const tier = makeTier('last', [makeReplyDeployment('last', 'Nobody.')])
    const stage = createCallStage({ plan: makePlan([first, tier], { attempts: 1 }) })
    expect(await silence(stage, 0)).toBe(true)
    answerWell(await stage.nth(1))
    expect(await stage.over()).toMatchObject({ answeredBy: { tier } })
  })
})

describe('a prompt too long', () => {
  const small = makeDeployment('s/small', { contextWindow: 8_000 })
  const large = makeDeployment('l/large', { contextWindow: 200_000 })
  const middle = makeDeployment('m/middle', { contextWindow: 32_000 })
  const unknown = makeDeployment('u/unknown')

  it('goes to a larger window only', async () => {
    const plan = makePlan([
      makeTier('x', [middle]),
      makeTier('y', [small]),
      makeTier('z', [unknown]),
      makeTier('w', [large]),
    ])
    const stage = createCallStage({ plan })
    expect(await play(stage, { 'm/middle': tooLong })).toMatchObject({ answeredBy: { deployment: large } })
    expect(who(stage)).toEqual(['m/middle', 'l/large'])
  })

  it('is told in the words that clients look for, with both numbers', async () => {
    const stage = createCallStage({ plan: makePlan([makeTier('x', [small]), makeTier('y', [large])]) })
    const { error } = await play(stage, {
      's/small': tooLong,
      'l/large': says(400, { error: { message: 'prompt is too long' } }),
    })
    expect(error).toMatchObject({ code: 'context_length_exceeded', param: 'messages' })
    expect(error?.message).toMatch(
      /^This model's maximum context length is 200000 tokens\. However, your messages resulted in \d+ tokens\.$/,
    )
  })

  it("keeps the provider's words where they are the ones", async () => {
    const stage = createCallStage({ plan: makePlan([makeTier('x', [unknown])]) })
    const message =
      "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
    const { error } = await play(stage, { 'u/unknown': says(400, { error: { message } }) })
    expect(error).toMatchObject({ code: 'context_length_exceeded', message })
  })

  it('is not said to be too long while a larger window only failed to answer', async () => {
    for (const order of [
      [small, large],
      [large, small],
    ]) {
      const stage = createCallStage({ plan: makePlan(order.map((one, n) => makeTier(`t${n}`, [one]))) })
      const { error } = await play(stage, { 's/small': tooLong, 'l/large': says(503) })
      expect(error).toMatchObject({ code: 'upstream_failed' })
    }
  })

  it("is nobody's failure", async () => {
    const world = createWorld()
    for (let i = 0; i < 10; i += 1) {
      await play(createCallStage({ plan: makePlan([makeTier('x', [small])]), world }), { 's/small': tooLong })
    }
    expect(world.health.isAvailable('s/small')).toBe(true)
  })
})

describe('health', () => {
  it('passes over who is held back, and says so', async () => {
    const world = createWorld()
    world.health.failed('a/one', 'go', { reason: '429', retryAfterMs: 30_000 })
    const stage = createCallStage({ plan: makePlan([first, second]), world })
    await play(stage, {})
    expect(reasons(stage)).toEqual(['a/one=skipped:unavailable', 'b/two=200'])
    expect(stage.reply.headers['x-sluice-attempts']).toBe('first:a/one=skipped:unavailable, second:b/two=200')
  })

  it('has one probe in flight; the others go on', async () => {
    const world = createWorld()
    world.health.failed('a/one', 'go', { reason: '429', retryAfterMs: 1000 })
    world.time.advance(1000)
    const stages = [1, 2, 3].map(() => createCallStage({ plan: makePlan([first, second]), world }))
    const called = []
    for (const stage of stages) called.push((await stage.nth(0)).deployment)
    expect(called).toEqual(['a/one', 'b/two', 'b/two'])
    for (const stage of stages) answerWell(await stage.nth(0))
    const after = createCallStage({ plan: makePlan([first, second]), world })
    expect((await after.nth(0)).deployment).toBe('a/one')
    after.leave()
    await after.over()
  })

  it('asks who is least bad when everybody is held back by ourselves alone', async () => {
    const world = createWorld()
    for (const [name, rounds] of [
      ['a/one', 10],
      ['b/two', 5],
    ] as const) {
      for (let i = 0; i < rounds; i += 1)
        world.health.failed(name, world.health.enter(name), { reason: '503', retryAfterMs: undefined })
    }
    const stage = createCallStage({ plan: makePlan([first, second]), world })
    expect(await play(stage, {})).toMatchObject({ error: undefined })
    expect(who(stage)).toHaveLength(1)
    // Who was called after all is not told of twice.
    expect(stage.attempts.map(({ reason }) => reason)).toEqual(['skipped:unavailable', '200'])
  })

  const makeSlow = (world: World, name: string): void =>
    world.health.failed(name, world.health.enter(name), { reason: 'first_token', retryAfterMs: undefined })

  it('asks who is slow once nobody else has answered, and does not cut him', async () => {
    const world = createWorld()
    makeSlow(world, 'a/one')
    const stage = createCallStage({ plan: makePlan([first, second]), world })
    says(503)(await stage.nth(0))
    const call = await stage.nth(1)
    call.started()
    await stage.time.advanceAsync(FIRST_TOKEN_MS + 1)
    answerWell(call)
    expect(await stage.over()).toMatchObject({ error: undefined })
    expect(reasons(stage)).toEqual(['b/two=503', 'a/one=200'])
    expect(stage.reply.headers['x-sluice-degraded']).toBeUndefined()
  })

  it('asks who is slow at once where he is all there is, however patient the tier', async () => {
    const world = createWorld()
    makeSlow(world, 'a/one')
    const patient = makeTier('first', [one], { patienceMs: 10_000 })
    const sole = createCallStage({ plan: makePlan([patient]), world })
    await sole.nth(0)
    // Where somebody stands behind, the better one is still worth the wait.
    const both = createCallStage({ plan: makePlan([patient, second]), world })
    await both.over()
    expect(both.calls).toHaveLength(0)
    await world.time.advanceAsync(6_100)
    expect((await both.nth(0)).deployment).toBe('a/one')
    for (const stage of [sole, both]) stage.leave()
    await Promise.all([sole.over(), both.over()])
  })

  it('asks who is slow before a fixed reply is given', async () => {
    const world = createWorld()
    makeSlow(world, 'a/one')
    const resort = makeTier('last', [makeReplyDeployment('last', 'Nobody.')])
    const stage = createCallStage({ plan: makePlan([first, resort]), world })
    await play(stage, { 'a/one': answerWell })
    expect(reasons(stage)).toEqual(['a/one=200'])
  })

  it('leaves the probe to the replica that has it, unless there is nobody else', async () => {
    const hints = { mayProbe: async () => false }
    const fail = (world: World): void => {
      for (let i = 0; i < 5; i += 1)
        world.health.failed('a/one', world.health.enter('a/one'), { reason: '503', retryAfterMs: undefined })
      world.time.advance(5_000)
    }
    const both = createWorld()
    fail(both)
    const stage = createCallStage({ plan: makePlan([first, second]), world: both, hints })
    await play(stage, {})
    expect(reasons(stage)).toEqual(['a/one=skipped:unavailable', 'b/two=200'])
    const alone = createWorld()
    fail(alone)
    const sole = createCallStage({ plan: makePlan([first]), world: alone, hints })
    await play(sole, {})
    expect(reasons(sole)).toEqual(['a/one=200'])
  })

  it('gives who comes back its share and no more, however patient its callers are', async () => {
    const world = createWorld()
    world.health.failed('a/one', 'go', { reason: '503', retryAfterMs: 1_000 })
    world.time.advance(1_000)
    for (let i = 0; i < 3; i += 1) world.health.succeeded('a/one', world.health.enter('a/one'))
    expect(world.health.look('a/one')).toMatchObject({ phase: 'recovering', share: 0.1 })
    const patient = makeTier('first', [one], { patienceMs: 3_000 })
    const stages = Array.from({ length: 20 }, () =>
      createCallStage({ plan: makePlan([patient, second]), world }),
    )
    await world.time.advanceAsync(1_000)
    // The first one behind the probes, and then a tenth.
    expect(stages.flatMap(who).filter((name) => name === 'a/one')).toHaveLength(2)
    expect(stages.flatMap(who)).toHaveLength(20)
    for (const stage of stages) stage.leave()
    await Promise.all(stages.map((stage) => stage.over()))
  })

  it('waits out of patience for the probe of another replica as for one of its own', async () => {
    const world = createWorld()
    world.health.failed('a/one', 'go', { reason: '429', retryAfterMs: 1_000 })
    const patient = makeTier('first', [one], { patienceMs: 3_000 })
    const hints = { mayProbe: async () => false }
    const plan = makePlan([patient, second])
    const waiting = createCallStage({ plan, world, hints })
    await world.time.advanceAsync(1_000)
    const late = createCallStage({ plan, world, hints })
    await world.time.advanceAsync(500)
    expect([...who(waiting), ...who(late)]).toEqual([])
    world.health.learn({ kind: 'back', deployment: 'a/one' })
    await world.time.advanceAsync(25)
    // The first one behind the probe of the other is of the ramp's share.
    expect([who(waiting), who(late)].sort()).toEqual([['a/one'], ['b/two']])
    for (const stage of [waiting, late]) stage.leave()
    await Promise.all([waiting.over(), late.over()])
  })

  it('calls a provider a second time only while its budget lasts', async () => {
    const world = createWorld()
    const patient = makeTier('patient', [one], { retries: 1 })
    const calls: number[] = []
    for (let i = 0; i < 12; i += 1) {
      const stage = createCallStage({ plan: makePlan([patient, second]), world })
      await play(stage, { 'a/one': says(500) })
      calls.push(who(stage).filter((name) => name === 'a/one').length)
      // A good one in between, so that the breaker stays out of it.
      for (let j = 0; j < 4; j += 1) world.health.succeeded('a/one', 'go')
    }
    expect(calls).toEqual([...Array<number>(10).fill(2), 1, 1])
  })

  it('asks nobody who asked to be left alone, but may ask the one who did not', async () => {
    const world = createWorld()
    world.health.failed('a/one', 'go', { reason: '429', retryAfterMs: 1000 })
    const alone = createCallStage({ plan: makePlan([first]), world })
    expect((await play(alone, {})).error).toMatchObject({ code: 'upstream_failed', retryAfterMs: 1000 })
    expect(who(alone)).toEqual([])
    for (let i = 0; i < 5; i += 1)
      world.health.failed('b/two', 'go', { reason: '503', retryAfterMs: undefined })
    const both = createCallStage({ plan: makePlan([first, second]), world })
    expect(await play(both, {})).toMatchObject({ answeredBy: { deployment: two } })
  })

  it.each([
    ['connecting', (_: ScriptedCall) => {}],
    ['waiting for a token', (call: ScriptedCall) => call.started()],
    ['in the middle of an answer', (call: ScriptedCall) => beginAnswer(call)],
  ])('a caller with a short deadline opens no breaker while %s', async (_, act) => {
    const world = createWorld()
    for (let i = 0; i < 20; i += 1) {
      const plan = makePlan([first], { deadlineAt: world.time.clock.now() + 50 })
      const stage = createCallStage({ plan, world })
      act(await stage.nth(0))
      await stage.time.advanceAsync(50)
      expect(await stage.over()).toMatchObject({ error: expect.any(GatewayError) })
    }
    expect(world.health.isAvailable('a/one')).toBe(true)
    expect(world.health.view()).toMatchObject([{ state: 'available' }])
    expect(world.time.pending).toBe(0)
  })

  it('a caller who leaves opens no breaker, and gives a probe back', async () => {
    const world = createWorld()
    world.health.failed('a/one', 'go', { reason: '429', retryAfterMs: 1000 })
    world.time.advance(1000)
    for (let i = 0; i < 10; i += 1) {
      const stage = createCallStage({ plan: makePlan([first]), world })
      expect((await stage.nth(0)).deployment).toBe('a/one')
      stage.leave()
      expect(await stage.over()).toMatchObject({ error: { code: 'client_closed' } })
    }
    expect(world.health.isAvailable('a/one')).toBe(true)
  })

  it('a break in the middle of an answer counts against the provider', async () => {
    const world = createWorld()
    for (let i = 0; i < 5; i += 1) {
      const stage = createCallStage({ plan: makePlan([first]), world })
      const call = await stage.nth(0)
      call.started()
      call.head(200, STREAM)
      call.data(HELLO)
      await stage.time.advanceAsync(IDLE_MS)
      expect(await stage.over()).toMatchObject({ error: { code: 'upstream_incomplete' } })
    }
    expect(world.health.isAvailable('a/one')).toBe(false)
  })

  it('is not hurt by what callers ask for: a refusal, a prompt over the rate, a name made up', async () => {
    const world = createWorld()
    const open = makeTier('open', [makeDeployment('w/*')])
    const asked = async (body: string, how: (call: ScriptedCall) => void) => {
      for (let i = 0; i < 10; i += 1) {
        await play(createCallStage({ plan: makePlan([open]), world, body: { model: body, stream: true } }), {
          'w/*': how,
        })
      }
      expect(world.health.isAvailable('w/*')).toBe(true)
    }
    await asked('m', says(400, { error: { message: 'no' } }))
    await asked('m', says(413, { error: { message: 'tokens per minute (TPM)' } }))
    await asked('gpt-made-up', says(404, { error: { message: 'x', code: 'model_not_found' } }))
    await asked('gpt-secret', says(403, { error: { message: 'Your organization must be verified.' } }))
    for (let i = 0; i < 5; i += 1) {
      await play(createCallStage({ plan: makePlan([first]), world }), { 'a/one': says(404) })
    }
    expect(world.health.isAvailable('a/one')).toBe(false)
  })
})

describe('keys', () => {
  const keyed = makeDeployment('k/m', {}, { keys: ['env:K1', 'env:K2'] })
  const tier = makeTier('keyed', [keyed])
  const secrets = { 'env:K1': 'value-1', 'env:K2': 'value-2' }
  const used = (stage: CallStage) => stage.calls.map((call) => call.header('authorization'))

  it.each([401, 402, 403])('tries the next key after %d, and leaves the bad one alone', async (status) => {
    const world = createWorld(secrets)
    const stage = createCallStage({ plan: makePlan([tier]), world })
    answerStatus(await stage.nth(0), status)
    answerWell(await stage.nth(1))
    expect(await stage.over()).toMatchObject({ answeredBy: { deployment: keyed } })
    expect(used(stage)).toEqual(['Bearer value-1', 'Bearer value-2'])

    const after = createCallStage({ plan: makePlan([tier]), world })
    await play(after, {})
    expect(used(after)).toEqual(['Bearer value-2'])
    world.time.advance(60_000)
    const later = createCallStage({ plan: makePlan([tier]), world })
    await play(later, {})
    expect(used(later)).toEqual(['Bearer value-1'])
    expect(world.health.isAvailable('k/m')).toBe(true)
  })

  it('is another for the second call, whoever comes in between and wherever the prompt is cached', async () => {
    const world = createWorld(secrets)
    for (const body of [{}, ...[1, 2, 3, 4].map((n) => ({ prompt_cache_key: `conversation ${n}` }))]) {
      const stage = createCallStage({ plan: makePlan([tier]), world, body: { stream: true, ...body } })
      const call = await stage.nth(0)
      await play(createCallStage({ plan: makePlan([tier]), world }), {})
      // About what was asked, so that the key is not parked.
      answerStatus(call, 403, { error: { message: 'Flagged by moderation.' } })
      answerWell(await stage.nth(1))
      await stage.over()
      expect(new Set(used(stage)).size).toBe(2)
    }
  })

  it('never shows a key fault to the caller as his own', async () => {
    const stage = createCallStage({ plan: makePlan([tier]), secrets })
    const { error } = await play(stage, { 'k/m': says(401, { error: { message: 'Incorrect API key' } }) })
    expect(error).toMatchObject({ code: 'upstream_failed', passed: undefined, retryAfterMs: 60_000 })
    expect(used(stage)).toEqual(['Bearer value-1', 'Bearer value-2'])
  })

  it('does not call a provider whose keys are all parked, and says when to come again', async () => {
    const world = createWorld(secrets)
    await play(createCallStage({ plan: makePlan([tier]), world }), { 'k/m': says(401) })
    world.time.advance(20_000)
    const stage = createCallStage({ plan: makePlan([tier]), world })
    expect((await play(stage, {})).error).toMatchObject({ code: 'upstream_failed', retryAfterMs: 40_000 })
    expect(reasons(stage)).toEqual(['k/m=skipped:unavailable'])
  })

  it('is used at once when it has been replaced', async () => {
    const world = createWorld({ 'env:K1': 'old' })
    const single = makeTier('single', [makeDeployment('k/m', {}, { keys: ['env:K1'] })])
    await play(createCallStage({ plan: makePlan([single]), world }), { 'k/m': says(401) })
    world.secrets['env:K1'] = 'new'
    const stage = createCallStage({ plan: makePlan([single]), world })
    expect(await play(stage, {})).toMatchObject({ error: undefined })
    expect(used(stage)).toEqual(['Bearer new'])
  })

  it('over its rate is left alone for as long as was asked; the other goes on', async () => {
    const world = createWorld(secrets)
    const stage = createCallStage({ plan: makePlan([tier]), world })
    answerStatus(await stage.nth(0), 429, '', { 'retry-after': '7' })
    answerWell(await stage.nth(1))
    await stage.over()
    expect(used(stage)).toEqual(['Bearer value-1', 'Bearer value-2'])
    world.time.advance(6999)
    expect(world.keys.next(keyed.provider ?? never())).toMatchObject({ value: 'value-2' })
    world.time.advance(1)
    expect(world.keys.next(keyed.provider ?? never())).toMatchObject({ value: 'value-1' })
  })

  it.each([
    ['no wait is named', {}],
    ['the wait is named as none', { 'retry-after': '0' }],
  ])('over its rate like all others is the failure of the provider, where %s', async (_, headers) => {
    const world = createWorld(secrets)
    let calls = 0
    for (let i = 0; i < 100; i += 1) {
      const stage = createCallStage({ plan: makePlan([tier, second]), world })
      await play(stage, { 'k/m': says(429, '', headers) })
      calls += who(stage).filter((name) => name === 'k/m').length
      await world.time.advanceAsync(100)
    }
    // Two keys until the fifth failure, then one probe.
    expect(calls).toBeLessThanOrEqual(12)
    expect(world.health.view()[0]).toMatchObject({ deployment: 'k/m', state: 'unavailable', reason: '429' })
  })

  it('over its rate like all others leaves the provider alone until the first of them can be used', async () => {
    const world = createWorld(secrets)
    const stage = createCallStage({ plan: makePlan([tier, second]), world })
    answerStatus(await stage.nth(0), 429, '', { 'retry-after': '7' })
    answerStatus(await stage.nth(1), 429, '', { 'retry-after': '90' })
    answerWell(await stage.nth(2))
    await stage.over()
    expect(world.health.look('k/m')).toMatchObject({ phase: 'held', holdMs: 7_000, reason: '429' })
    // Then one call goes to see, and no crowd.
    await world.time.advanceAsync(7_000)
    const crowd = [0, 1, 2].map(() => createCallStage({ plan: makePlan([tier, second]), world }))
    for (const one of crowd) await one.over()
    expect(crowd.flatMap(who)).toEqual(['k/m', 'b/two', 'b/two'])
    for (const one of crowd) one.leave()
    await Promise.all(crowd.map((one) => one.over()))
  })

  it('is not parked because a caller made up a model that it may not use', async () => {
    const world = createWorld(secrets)
    const open = makeTier('open', [makeDeployment('k/*', {}, { keys: ['env:K1'] })])
    await play(createCallStage({ plan: makePlan([open]), world }), {
      'k/*': says(403, { error: { message: 'no' } }),
    })
    const stage = createCallStage({ plan: makePlan([open]), world })
    expect(await play(stage, {})).toMatchObject({ error: undefined })
  })
})

function never(): never {
  throw new Error('no provider')
}

describe('the gate of a deployment', () => {
  const subject: Subject = { kind: 'deployment', id: 'a/one', tag: 't', limits: NO_LIMITS }
  const full: Refusal = { kind: 'requests', subject, waitMs: 5000 }
  const uncounted: Refusal = { kind: 'unavailable', subject, waitMs: 1000 }

  it('is passed before each call and left after it, with what was used', async () => {
    const stage = createCallStage({ plan: makePlan([first, second]) })
    await play(stage, { 'a/one': says(503) })
    expect(stage.gate).toEqual([
      { enter: 'a/one' },
      { leave: 'a/one', usage: undefined },
      { enter: 'b/two' },
      { leave: 'b/two', usage: expect.objectContaining({ inputTokens: 7, outputTokens: 2 }) },
    ])
  })

  it('that is shut is gone around; no call and no fault comes of it', async () => {
    const stage = createCallStage({
      plan: makePlan([first, second]),
      admit: async ({ name }) => (name === 'a/one' ? full : undefined),
    })
    await play(stage, {})
    expect(reasons(stage)).toEqual(['a/one=skipped:limit', 'b/two=200'])
    expect(stage.gate).toEqual([{ enter: 'a/one' }, { enter: 'b/two' }])
  })

  it("that is shut everywhere is a 503, not the caller's 429", async () => {
    const stage = createCallStage({ plan: makePlan([first]), admit: async () => full })
    expect((await play(stage, {})).error).toMatchObject({ code: 'upstream_failed' })
  })

  it('names its wait to the caller also where it was asked for want of anybody else', async () => {
    const world = createWorld()
    world.health.failed('a/one', 'go', { reason: 'first_token', retryAfterMs: undefined })
    const stage = createCallStage({
      plan: makePlan([first]),
      world,
      admit: async () => ({ ...full, waitMs: 2_000 }),
    })
    expect((await play(stage, {})).error).toMatchObject({ code: 'upstream_failed', retryAfterMs: 2_000 })
  })

  it('is waited for no longer than leaves half of the time to whoever stands behind', async () => {
    const waits: (number | undefined)[] = []
    const stage = createCallStage({
      plan: makePlan([first, second], { deadlineAt: START_MS + 1_000 }),
      async admit({ name }, patience) {
        waits.push(patience?.deadlineAt)
        return name === 'a/one' ? full : { id: name }
      },
    })
    answerWell(await stage.nth(0))
    await stage.over()
    expect(waits).toEqual([START_MS + 500, START_MS + 1_000])
  })

  it.each<[string, string, Record<string, Refusal>]>([
    ['limits_unavailable', 'of all', { 'a/one': uncounted, 'b/two': uncounted }],
    ['upstream_failed', 'of one, the other being full', { 'a/one': uncounted, 'b/two': full }],
    ['upstream_failed', 'of one, the other failing', { 'a/one': uncounted }],
  ])('that cannot be counted is %s, %s', async (code, _, refusals) => {
    const stage = createCallStage({
      plan: makePlan([first, second]),
      admit: async ({ name }) => refusals[name],
    })
    const { error } = await play(stage, { 'b/two': says(503) })
    expect(error).toMatchObject({ code, retryAfterMs: expect.any(Number) })
    expect(reasons(stage)[0]).toBe('a/one=skipped:limit')
  })

  it('that is shut gives a probe back', async () => {
    const world = createWorld()
    world.health.failed('a/one', 'go', { reason: '429', retryAfterMs: 1000 })
    world.time.advance(1000)
    await play(createCallStage({ plan: makePlan([first]), world, admit: async () => full }), {})
    expect(world.health.isAvailable('a/one')).toBe(true)
  })

  it('that fails ends the request as a defect, and gives a probe back', async () => {
    const world = createWorld()
    world.health.failed('a/one', 'go', { reason: '429', retryAfterMs: 1000 })
    world.time.advance(1000)
    const stage = createCallStage({
      plan: makePlan([first, second]),
      world,
      admit: () => Promise.reject(new Error('a defect')),
    })
    expect(await stage.over()).toMatchObject({ error: { code: 'internal' } })
    expect(world.health.isAvailable('a/one')).toBe(true)
  })

  it('is left when the caller goes, with what was used until then', async () => {
    const stage = createCallStage({ plan: makePlan([first]) })
    const call = await stage.nth(0)
    call.started()
    call.head(200, STREAM)
    call.data(HELLO)
    stage.leave()
    expect(call.aborted).toBe(true)
    expect(await stage.over()).toMatchObject({ answeredBy: { deployment: one }, usage: { outputTokens: 1 } })
    expect(stage.gate).toEqual([
      { enter: 'a/one' },
      { leave: 'a/one', usage: expect.objectContaining({ outputTokens: 1 }) },
    ])
    expect(reasons(stage)).toEqual(['a/one=499'])
  })

  it('lets nobody through who left while it was asked', async () => {
    let open: (value: undefined) => void = () => {}
    const stage = createCallStage({
      plan: makePlan([first]),
      admit: () => new Promise((resolve) => (open = resolve)),
    })
    await stage.over()
    stage.leave()
    open(undefined)
    expect(await stage.over()).toMatchObject({ error: { code: 'client_closed' } })
    expect(stage.calls).toHaveLength(0)
  })

  /** A gate that `name` waits at, from its `nth` time on, until it is opened. */
  function createDoor(name: string, nth = 0) {
    let opened: () => void = () => {}
    let times = 0
    return {
      open: () => opened(),
      admit: async (deployment: { readonly name: string }) => {
        if (deployment.name === name && times++ >= nth)
          await new Promise<void>((resolve) => (opened = resolve))
        return { id: deployment.name }
      },
    }
  }

  it('lets nobody through to one who has asked to be left alone while it was waited for', async () => {
    const world = createWorld()
    const { admit, open } = createDoor('a/one')
    const stage = createCallStage({ plan: makePlan([first, second]), world, admit })
    await stage.over()
    world.health.failed('a/one', 'go', { reason: '429', retryAfterMs: 30_000 })
    open()
    answerWell(await stage.nth(0))
    await stage.over()
    expect(reasons(stage)).toEqual(['a/one=skipped:unavailable', 'b/two=200'])
    expect(stage.gate.slice(0, 2)).toEqual([{ enter: 'a/one' }, { leave: 'a/one', usage: undefined }])
  })

  it('lets nobody through for whom the rest of the time is too short', async () => {
    const { admit, open } = createDoor('a/one')
    const stage = createCallStage({ plan: makePlan([first], { deadlineAt: START_MS + 1_000 }), admit })
    await stage.over()
    await stage.time.advanceAsync(998)
    open()
    expect(await stage.over()).toMatchObject({ error: { code: 'deadline_exceeded' } })
    expect(stage.calls).toHaveLength(0)
    expect(stage.gate).toEqual([{ enter: 'a/one' }, { leave: 'a/one', usage: undefined }])
  })

  it('lets no more second calls through than the budget has, though all were asked for at once', async () => {
    const world = createWorld()
    const again = makeTier('again', [one], { retries: 1 })
    const doors = Array.from({ length: 40 }, () => createDoor('a/one', 1))
    const stages: CallStage[] = []
    for (const { admit } of doors) {
      const stage = createCallStage({ plan: makePlan([again]), world, admit })
      answerStatus(await stage.nth(0), 500)
      stages.push(stage)
      // The breaker stays out of it.
      for (let j = 0; j < 4; j += 1) world.health.succeeded('a/one', 'go')
    }
    await world.time.advanceAsync(100)
    for (const door of doors) door.open()
    await stages[0]?.over()
    expect(stages.flatMap(who)).toHaveLength(40 + 10)
    for (const stage of stages) stage.leave()
    await Promise.all(stages.map((stage) => stage.over()))
    expect(stages.flatMap(({ gate }) => gate).length).toBe(2 * 80)
  })
})

describe('a request that is ended from our side', () => {
  const cause = new GatewayError('invalid_api_key', 'revoked')

  it("in a stream ends with its cause at once, with what was used until then, and is nobody's failure", async () => {
    const stage = createCallStage({ plan: makePlan([first, second]) })
    const call = await stage.nth(0)
    call.started()
    call.head(200, STREAM)
    call.data(HELLO)
    stage.leave(cause)
    expect(call.aborted).toBe(true)
    expect(await stage.over()).toMatchObject({ error: cause, usage: { outputTokens: 1 } })
    expect(reasons(stage)).toEqual(['a/one=499'])
    expect(stage.health.isAvailable('a/one')).toBe(true)
  })

  it('before the answer calls nobody else', async () => {
    const stage = createCallStage({ plan: makePlan([first, second]) })
    const call = await stage.nth(0)
    call.started()
    stage.leave(cause)
    expect(call.aborted).toBe(true)
    expect(await stage.over()).toMatchObject({ error: cause })
    expect(who(stage)).toEqual(['a/one'])
  })

  it('after the last attempt has failed still ends with its cause', async () => {
    const patient = makeTier('patient', [one], { retries: 1, patienceMs: 3000 })
    const stage = createCallStage({ plan: makePlan([patient]) })
    const call = await stage.nth(0)
    call.started()
    call.head(429, { 'retry-after': '2' })
    call.end()
    await stage.over()
    stage.leave(cause)
    expect(await stage.over()).toMatchObject({ error: cause })
    expect(stage.calls).toHaveLength(1)
  })
})

describe('the deadline', () => {
  it('lets nothing begin behind it', async () => {
    const stage = createCallStage({ plan: makePlan([first, second], { deadlineAt: START_MS + 3 }) })
    expect(await stage.over()).toMatchObject({ error: { code: 'deadline_exceeded' } })
    expect(stage.calls).toEqual([])
  })

  it.each([
    [
      'the deadline',
      { deadlineAt: START_MS + 2000 },
      2000,
      'The answer broke off, as the deadline of this request passed: its stream was closed',
    ],
    ['the time of one attempt', {}, 300_000, 'The answer broke off (attempt): its stream was closed'],
  ])('is told from other limits when it cuts a stream: %s', async (_, over, ms, message) => {
    const tier = makeTier('t', [makeDeployment('a/one')], { idleMs: 600_000, attemptMs: 300_000 })
    const stage = createCallStage({ plan: makePlan([tier], over) })
    const call = await stage.nth(0)
    call.started()
    call.head(200, STREAM)
    call.data(ROLE + HELLO)
    await stage.time.advanceAsync(ms)
    expect(await stage.over()).toMatchObject({
      error: { code: 'upstream_incomplete', message: expect.stringContaining(message) },
    })
    expect(call.aborted).toBe(true)
  })

  it('ends an attempt under way, and the tiers behind are not asked', async () => {
    const stage = createCallStage({ plan: makePlan([first, second], { deadlineAt: START_MS + 2000 }) })
    const call = await stage.nth(0)
    call.started()
    await stage.time.advanceAsync(2000)
    expect(await stage.over()).toMatchObject({ error: { code: 'deadline_exceeded' } })
    expect(call.aborted).toBe(true)
    expect(who(stage)).toEqual(['a/one'])
    expect(stage.time.pending).toBe(0)
  })
})

describe('too little time', () => {
  it('is not spent on who has never begun to answer so soon, and others are asked', async () => {
    const world = createWorld()
    for (let i = 0; i < 20; i += 1) world.pace.answered('a/one', 500 + i)
    const plan = makePlan([first, second], { deadlineAt: START_MS + 400 })
    const stage = createCallStage({ plan, world })
    await play(stage, {})
    expect(who(stage)).toEqual(['b/two'])
    const alone = createCallStage({ plan: makePlan([first], { deadlineAt: START_MS + 400 }), world })
    expect(await alone.over()).toMatchObject({ error: { code: 'deadline_exceeded' } })
    expect(alone.calls).toHaveLength(0)
    // A whole reply has another beginning, and who has time is sent there.
    const whole = createCallStage({
      plan: makePlan([first], { deadlineAt: START_MS + 400 }),
      world,
      body: { stream: false },
    })
    expect((await play(whole, {})).error).toBeUndefined()
    const enough = createCallStage({ plan: makePlan([first], { deadlineAt: START_MS + 600 }), world })
    expect((await play(enough, {})).error).toBeUndefined()
    // After a minute in which nobody was sent somebody is.
    await world.time.advanceAsync(60_000)
    const later = createCallStage({ plan: makePlan([first], { deadlineAt: START_MS + 60_400 }), world })
    expect((await play(later, {})).error).toBeUndefined()
  })
})

describe('a model named by the caller', () => {
  it('is shown as it was called, and labelled as it is configured', async () => {
    const open = makeTier('open', [makeDeployment('p/*')])
    const stage = createCallStage({ plan: makePlan([open]), body: { model: 'qwen/qwen3:8b', stream: true } })
    await play(stage, {})
    expect(stage.reply.headers['x-sluice-deployment']).toBe('p/qwen/qwen3:8b')
    expect(stage.attempts).toMatchObject([{ deployment: 'p/*', called: 'p/qwen/qwen3:8b' }])
    expect(toAttemptsHeader(stage.attempts)).toBe('open:p/qwen/qwen3:8b=200')
  })
})

describe('a call without a format', () => {
  it('is a defect, and nobody is called', async () => {
    const odd = makeTier('odd', [makeDeployment('o/m', {}, { format: 'esperanto' })])
    const stage = createCallStage({ plan: makePlan([odd]) })
    expect(await stage.over()).toMatchObject({ error: { code: 'internal' } })
    expect(stage.gate).toEqual([])
    expect(stage.attempts).toEqual([])
  })
})

describe('a call that cannot be made', () => {
  it('is a defect that keeps nothing: no slot, no probe, no timer', async () => {
    const world = createWorld()
    const headers = Object.defineProperty({}, 'x', {
      enumerable: true,
      get: () => {
        throw new Error('a defect')
      },
    })
    const odd = makeTier('odd', [makeDeployment('o/m', {}, { headers })])
    const stage = createCallStage({ plan: makePlan([odd]), world })
    expect(await stage.over()).toMatchObject({ error: { code: 'internal' } })
    expect(stage.gate).toEqual([{ enter: 'o/m' }, { leave: 'o/m', usage: undefined }])
    expect(world.health.isAvailable('o/m')).toBe(true)
    expect(world.time.pending).toBe(0)
    expect(stage.attempts[0]?.endedMs).toBeGreaterThan(0)
  })

  it('keeps nothing either where what it needs besides cannot be made', async () => {
    const world = createWorld()
    const redact = (): never => {
      throw new Error('a defect')
    }
    const odd = makeTier('odd', [makeDeployment('o/m')])
    const stage = createCallStage({
      plan: makePlan([odd]),
      world: { ...world, keys: { ...world.keys, redact } },
    })
    expect(await stage.over()).toMatchObject({ error: { code: 'internal' } })
    expect(stage.gate).toEqual([{ enter: 'o/m' }, { leave: 'o/m', usage: undefined }])
    expect(world.health.isAvailable('o/m')).toBe(true)
    expect(stage.calls).toEqual([])
    expect(stage.attempts[0]?.endedMs).toBeGreaterThan(0)
  })
})

describe('money', () => {
  const priced = makeDeployment('b/two', { price: { ...FREE, input: 2, output: 8 } })
  const spend = { tier: makeTier('spend', [priced]), usage: { inputTokens: 7, outputTokens: 2 } }
  const costs = (stage: CallStage) => stage.attempts.map(({ costMicros }) => costMicros)

  it('is what was used at the price of who answered, summed over the attempts', async () => {
    const stage = createCallStage({ plan: makePlan([first, spend.tier]) })
    expect(await play(stage, { 'a/one': says(503) })).toMatchObject({ usage: spend.usage, costMicros: 30 })
    expect(costs(stage)).toEqual([0, 30])
    expect(stage.costs).toEqual([0, 30])
  })

  it('is unknown, and not nothing, where tokens were used that have no price', async () => {
    const stage = createCallStage({ plan: makePlan([first]) })
    expect(await play(stage, {})).toMatchObject({ usage: spend.usage, costMicros: undefined })
    expect(costs(stage)).toEqual([undefined])
    expect(stage.costs).toEqual([undefined])
  })

  it('is nothing where nobody was called or nobody began', async () => {
    expect(await play(createCallStage({ plan: makePlan([first]) }), { 'a/one': says(503) })).toMatchObject({
      usage: undefined,
      costMicros: 0,
    })
    const late = createCallStage({ plan: makePlan([first], { deadlineAt: START_MS }) })
    expect(await late.over()).toMatchObject({ costMicros: 0 })
  })

  it.each([
    ['a stream that broke', (_: CallStage, call: ScriptedCall) => call.failed()],
    ['a caller who left', (stage: CallStage) => stage.leave()],
  ])('of %s is that of what was counted until then', async (_, end) => {
    const stage = createCallStage({ plan: makePlan([spend.tier]) })
    const call = await stage.nth(0)
    beginAnswer(call)
    end(stage, call)
    const outcome = await stage.over()
    const { inputTokens, outputTokens, source } = outcome?.usage ?? {}
    expect({ source, outputTokens }).toEqual({ source: 'counted', outputTokens: 1 })
    expect(outcome?.costMicros).toBe((inputTokens ?? 0) * 2 + 8)
    expect(stage.costs).toEqual([outcome?.costMicros])
  })

  it('of a call that we cut is that of its prompt: the provider was at work', async () => {
    const stage = createCallStage({ plan: makePlan([spend.tier, first]) })
    const call = await stage.nth(0)
    call.started()
    await stage.time.advanceAsync(spend.tier.firstTokenMs)
    expect(call.aborted).toBe(true)
    const prompt = Math.ceil(stage.request.textBytes / 4) * 2
    expect(prompt).toBeGreaterThan(0)
    expect(stage.costs).toEqual([prompt])
    expect(stage.gate).toContainEqual({
      leave: 'b/two',
      usage: expect.objectContaining({ outputTokens: 0, source: 'counted' }),
    })
    answerWell(await stage.nth(1))
    await stage.over()
    expect(costs(stage)).toEqual([prompt, undefined])
  })

  it('of a request that ends with its deadline is not nothing, nor are its tokens', async () => {
    const stage = createCallStage({ plan: makePlan([spend.tier], { deadlineAt: START_MS + 2000 }) })
    ;(await stage.nth(0)).started()
    await stage.time.advanceAsync(2000)
    const tokens = Math.ceil(stage.request.textBytes / 4)
    expect(await stage.over()).toMatchObject({
      error: { code: 'deadline_exceeded' },
      usage: { inputTokens: tokens, outputTokens: 0 },
      costMicros: tokens * 2,
    })
  })

  it.each([
    ['leaves before the next is reached', async (stage: CallStage) => stage.leave()],
    [
      'is refused by the next',
      async (stage: CallStage) => answerStatus(await stage.nth(1), 400, { error: { message: 'no' } }),
    ],
  ])('of a call that we cut is told with its tokens when the caller %s', async (_, end) => {
    const stage = createCallStage({ plan: makePlan([spend.tier, first]) })
    ;(await stage.nth(0)).started()
    await stage.time.advanceAsync(spend.tier.firstTokenMs)
    await stage.nth(1)
    await end(stage)
    const tokens = Math.ceil(stage.request.textBytes / 4)
    expect(await stage.over()).toMatchObject({
      answeredBy: undefined,
      usage: { inputTokens: tokens, outputTokens: 0 },
      costMicros: tokens * 2,
    })
  })

  it.each([
    ['refused', (call: ScriptedCall) => call.failed(withCode('ECONNREFUSED'))],
    ['a 503', says(503)],
  ])('of a call that was %s is nothing', async (_, end) => {
    const stage = createCallStage({ plan: makePlan([spend.tier]) })
    const call = await stage.nth(0)
    end(call)
    expect(await stage.over()).toMatchObject({ usage: undefined, costMicros: 0 })
  })

  it('of a model that the caller named is at the price of that name', async () => {
    const any = makeDeployment('any/*', { listPrices: [['m', { ...FREE, output: 5 }]] })
    expect(await play(createCallStage({ plan: makePlan([makeTier('any', [any])]) }), {})).toMatchObject({
      costMicros: 10,
    })
    const other = createCallStage({
      plan: makePlan([makeTier('any', [any])]),
      body: { model: 'other', stream: true },
    })
    expect(await play(other, {})).toMatchObject({ costMicros: undefined })
  })
})

describe('who is barred', () => {
  function barring(plan: Plan, name: string): Plan {
    const tiers = plan.tiers.map(({ tier, candidates }) => ({
      tier,
      candidates: candidates.map((one) =>
        one.deployment.name === name ? { ...one, barred: 'skipped:unpriced' as const } : one,
      ),
    }))
    return { ...plan, tiers }
  }

  it('is passed over in his place, and said so', async () => {
    const stage = createCallStage({ plan: barring(makePlan([first, second]), 'a/one') })
    await play(stage, {})
    expect(who(stage)).toEqual(['b/two'])
    expect(reasons(stage)).toEqual(['a/one=skipped:unpriced', 'b/two=200'])
    expect(stage.gate.map((event) => ('enter' in event ? event.enter : ''))).toEqual(['b/two', ''])
  })

  it('is not called even when nobody else is left: that is for good, and says what to do', async () => {
    const world = createWorld()
    const only = () => createCallStage({ plan: barring(makePlan([first]), 'a/one'), world })
    const stage = only()
    const final = {
      error: {
        code: 'model_not_found',
        message: expect.stringMatching(/there is no price of first a\/one\..*"price" beside "use" in tiers/),
        retryAfterMs: undefined,
      },
    }
    expect(await stage.over()).toMatchObject(final)
    expect(stage.reply.headers['x-sluice-attempts']).toBe('first:a/one=skipped:unpriced')
    for (let i = 0; i < 20; i += 1) {
      const entry = world.health.enter('a/one')
      if (entry !== 'held') world.health.failed('a/one', entry, { reason: '503', retryAfterMs: undefined })
    }
    const again = only()
    expect(await again.over()).toMatchObject(final)
    expect([...stage.calls, ...again.calls]).toEqual([])
  })

  it('beside somebody who only fails is no reason to give up for good', async () => {
    const stage = createCallStage({ plan: barring(makePlan([first, second]), 'a/one') })
    expect((await play(stage, { 'b/two': says(503) })).error).toMatchObject({
      code: 'upstream_failed',
      message: 'No provider could answer (first a/one: skipped:unpriced; second b/two: 503).',
    })
  })

  it('is nobody to fall back on: who stands before him is not cut for his first token', async () => {
    const stage = createCallStage({ plan: barring(makePlan([first, second]), 'b/two') })
    const call = await stage.nth(0)
    call.started()
    await stage.time.advanceAsync(FIRST_TOKEN_MS + 1)
    expect(await stage.over()).toBeUndefined()
    answerWell(call)
    expect(await stage.over()).toMatchObject({ answeredBy: { deployment: one } })
  })

  it('does not make a prompt fit that is too long for the others', async () => {
    const large = makeDeployment('b/two', { contextWindow: 1_000_000 })
    const plan = barring(makePlan([first, makeTier('large', [large])]), 'b/two')
    expect(await play(createCallStage({ plan }), { 'a/one': tooLong })).toMatchObject({
      error: { code: 'context_length_exceeded' },
    })
  })
})
