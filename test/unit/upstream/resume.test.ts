// A stream that broke off and that somebody else goes on with: who is called with what, what the caller reads, what is
// paid, and what is told when nobody can.

import { describe, expect, it } from 'vitest'
import { FREE } from '../../../src/config/money.ts'
import type { Deployment, Plan } from '../../../src/types.ts'
import {
  answerStatus,
  answerWell,
  type CallStage,
  chunk,
  createCallStage,
  createWorld,
  FIRST_TOKEN_MS,
  frame,
  HELLO,
  IDLE_MS,
  makeDeployment,
  makePlan,
  makeProvider,
  makeTier,
  ROLE,
  STOP,
  STREAM,
  WORLD,
} from './stage.ts'

const MESSAGES = [{ role: 'user', content: 'Hello.' }]
const one = makeDeployment('a/one', { price: { ...FREE, input: 1, output: 1 } })

function stageOf(
  next: Partial<Deployment> = {},
  body: object = {},
  plan: Partial<Plan> = {},
  world = createWorld(),
): CallStage {
  const two = makeDeployment('b/two', { price: { ...FREE, input: 1, output: 1 }, ...next })
  return createCallStage({
    plan: makePlan([makeTier('first', [one]), makeTier('second', [two])], { resumes: true, ...plan }),
    body: { stream: true, messages: MESSAGES, ...body },
    world,
  })
}

/** The first one says `Hello` and no more. */
async function breakOff(stage: CallStage, more: readonly string[] = []): Promise<void> {
  const call = await stage.nth(0)
  call.started()
  call.head(200, STREAM)
  call.data(ROLE, HELLO, ...more)
  await stage.time.advanceAsync(IDLE_MS)
}

const asked = async (stage: CallStage) => {
  const { body } = (await stage.nth(1)).exchange
  if (!Buffer.isBuffer(body)) throw new Error('a small body is one buffer')
  return JSON.parse(body.toString())
}

describe('a stream that broke off', () => {
  it('is gone on with by the next tier, which says so in a comment; both are paid', async () => {
    const stage = stageOf()
    await breakOff(stage)
    answerWell(await stage.nth(1))
    const outcome = await stage.over()
    expect(stage.reply.text).toBe(
      [
        ROLE,
        HELLO,
        ': sluice: resumed by second:b/two\n\n',
        WORLD,
        chunk({}, 'stop'),
        'data: [DONE]\n\n',
      ].join(''),
    )
    expect(stage.reply).toMatchObject({ ended: true, status: 200 })
    const prompt = Math.ceil(stage.request.textBytes / 4)
    expect(outcome).toMatchObject({
      answeredBy: { deployment: { name: 'b/two' } },
      usage: { inputTokens: prompt + 7, outputTokens: 1 + 2, source: 'counted' },
      costMicros: prompt + 1 + 9,
    })
    expect(outcome?.error).toBeUndefined()
    expect(stage.attempts.map(({ outcome: how, reason }) => [how, reason])).toEqual([
      ['broken', 'idle'],
      ['answered', '200'],
    ])
    expect((await asked(stage)).messages).toEqual(MESSAGES)
    expect(stage.gate).toHaveLength(4)
    expect(stage.time.pending).toBe(0)
  })

  it('is not gone on with by a provider that speaks another format', async () => {
    const provider = makeProvider('b', { format: 'anthropic' })
    const stage = stageOf({ provider, prefill: true })
    await breakOff(stage)
    const outcome = await stage.over()
    expect(outcome?.error).toMatchObject({ code: 'upstream_incomplete' })
    expect(stage.attempts.map(({ reason }) => reason)).toEqual(['idle'])
    expect(stage.reply.text).toBe([ROLE, HELLO].join(''))
  })

  it.each([
    [true, { content: 'Hello' }, {}],
    ['prefix', { content: 'Hello', prefix: true }, {}],
    [
      'continue_final_message',
      { content: 'Hello' },
      { continue_final_message: true, add_generation_prompt: false },
    ],
  ] as const)('is the last message for a deployment with prefill %s', async (prefill, message, members) => {
    const stage = stageOf({ prefill }, { max_tokens: 50 })
    await breakOff(stage)
    const { messages, model, stream_options: _, ...rest } = await asked(stage)
    expect(messages).toEqual([...MESSAGES, { role: 'assistant', ...message }])
    expect(model).toBe('two')
    // What was said is off the cap.
    expect(rest).toEqual({ stream: true, max_tokens: 48, ...members })
    const call = await stage.nth(1)
    call.started()
    call.head(200, STREAM)
    call.data(ROLE, WORLD, chunk({}, 'stop'), 'data: [DONE]\n\n')
    call.end()
    expect((await stage.over())?.error).toBeUndefined()
    expect(stage.reply.text).toContain(`${HELLO}: sluice: resumed by second:b/two\n\n${WORLD}`)
  })

  it('says that it is not whole when the next one says something else, refuses, fails or is silent', async () => {
    for (const end of [
      (stage: CallStage) =>
        stage.nth(1).then((call) => {
          call.started()
          call.head(200, STREAM)
          call.data(ROLE, WORLD)
        }),
      (stage: CallStage) => stage.nth(1).then((call) => answerStatus(call, 400)),
      (stage: CallStage) => stage.nth(1).then((call) => answerStatus(call, 503)),
      (stage: CallStage) => stage.nth(1).then((call) => call.failed()),
      (stage: CallStage) => stage.time.advanceAsync(400_000),
    ]) {
      const stage = stageOf()
      await breakOff(stage)
      await end(stage)
      await stage.time.advanceAsync(100)
      const outcome = await stage.over()
      expect(outcome?.error).toMatchObject({
        code: 'upstream_incomplete',
        message: expect.stringContaining('(idle)'),
      })
      expect(outcome?.answeredBy?.deployment.name).toBe('a/one')
      expect(stage.reply.text).toBe([ROLE, HELLO].join(''))
      expect(stage.time.pending).toBe(0)
    }
  })

  it('says so too when the next one breaks off behind it: nobody is third', async () => {
    const third = makeTier('third', [makeDeployment('c/three')])
    const [first, second] = [makeTier('first', [one]), makeTier('second', [makeDeployment('b/two')])]
    const stage = createCallStage({
      plan: makePlan([first, second, third], { resumes: true }),
      body: { stream: true, messages: MESSAGES },
    })
    await breakOff(stage)
    const call = await stage.nth(1)
    call.started()
    call.head(200, STREAM)
    call.data(ROLE, HELLO, WORLD)
    call.failed()
    expect(await stage.over()).toMatchObject({
      error: { code: 'upstream_incomplete' },
      answeredBy: { deployment: { name: 'b/two' } },
    })
    expect(stage.calls).toHaveLength(2)
  })

  it('has used what those two did who spoke, not what another did who was silent before', async () => {
    const tiers = ['x/silent', 'a/one', 'b/two'].map((use) => makeTier(use, [makeDeployment(use)]))
    const stage = createCallStage({
      plan: makePlan(tiers, { resumes: true }),
      body: { stream: true, messages: MESSAGES },
    })
    ;(await stage.nth(0)).started()
    await stage.time.advanceAsync(FIRST_TOKEN_MS)
    const call = await stage.nth(1)
    call.started()
    call.head(200, STREAM)
    call.data(ROLE, HELLO)
    await stage.time.advanceAsync(IDLE_MS)
    answerStatus(await stage.nth(2), 503)
    await stage.time.advanceAsync(1_000)
    const outcome = await stage.over()
    expect(outcome?.answeredBy?.deployment.name).toBe('a/one')
    expect(outcome?.usage?.inputTokens).toBe(Math.ceil(stage.request.textBytes / 4))
  })

  it('is no slower for what the next one says again or thinks: it is heard from its first word', async () => {
    for (const again of [HELLO.replace('Hello', 'H'), chunk({ reasoning_content: 'Well' })]) {
      const world = createWorld()
      const stage = stageOf({}, {}, {}, world)
      await breakOff(stage)
      const call = await stage.nth(1)
      call.started()
      call.head(200, STREAM)
      await stage.time.advanceAsync(1_000)
      call.data(ROLE, again)
      await stage.time.advanceAsync(FIRST_TOKEN_MS)
      call.data(chunk({ reasoning_content: 'so' }))
      await stage.time.advanceAsync(FIRST_TOKEN_MS)
      const rest = again.includes('"H"') ? 'ello' : 'Hello'
      call.data(chunk({ content: rest }), WORLD, chunk({}, 'stop'), 'data: [DONE]\n\n')
      expect((await stage.over())?.error).toBeUndefined()
      expect(stage.attempts[1]).toMatchObject({ outcome: 'answered' })
      const [attempt] = stage.attempts.slice(1)
      expect((attempt?.firstTokenMs ?? 0) - (attempt?.startedMs ?? 0)).toBe(1_000)
      expect(world.health.look('b/two')?.state).toBe('available')
    }
  })

  it('waits no longer than `idle` for one that stops while it says the same again, though nobody is behind', async () => {
    const stage = stageOf()
    await breakOff(stage)
    const call = await stage.nth(1)
    call.started()
    call.head(200, STREAM)
    call.data(ROLE, HELLO.replace('Hello', 'H'))
    await stage.time.advanceAsync(IDLE_MS)
    expect(await stage.over()).toMatchObject({ error: { code: 'upstream_incomplete' } })
    expect(stage.attempts[1]).toMatchObject({ reason: 'idle' })
    expect(stage.time.pending).toBe(0)
  })

  it.each([
    ['a tool call has begun', {}, [chunk({ tool_calls: [{ index: 0, function: { name: 'f' } }] })], {}],
    ['it has had its finish reason', {}, [STOP, frame({ error: { message: 'no' } })], {}],
    ['the route does not say so', {}, [], { resumes: false }],
    ['no attempt is left', {}, [], { attempts: 1 }],
  ] as const)('is not gone on with when %s', async (_, body, more, plan) => {
    const stage = stageOf({}, body, plan)
    await breakOff(stage, more)
    expect(await stage.over()).toMatchObject({ error: { code: 'upstream_incomplete' } })
    expect(stage.calls).toHaveLength(1)
  })

  it('is not gone on with by a fixed reply, nor for a caller who has left', async () => {
    const reply = makeDeployment('reply/last', { kind: 'reply', text: 'Nobody is there.' })
    const stage = createCallStage({
      plan: makePlan([makeTier('first', [one]), makeTier('last', [reply])], { resumes: true }),
      body: { stream: true, messages: MESSAGES },
    })
    await breakOff(stage)
    expect(await stage.over()).toMatchObject({ error: { code: 'upstream_incomplete' } })
    expect(stage.calls).toHaveLength(1)
    const gone = stageOf()
    await breakOff(gone)
    await gone.nth(1)
    gone.leave()
    const outcome = await gone.over()
    expect(outcome?.error).not.toMatchObject({ code: 'upstream_incomplete' })
    expect(outcome?.usage?.outputTokens).toBe(1)
    expect(gone.time.pending).toBe(0)
  })
})
