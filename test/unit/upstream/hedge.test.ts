// A second call beside one that is slow: when it is made, who is heard, and what becomes of the other.

import { describe, expect, it } from 'vitest'
import { FREE } from '../../../src/config/money.ts'
import type { Deployment, Hedge, Plan, Subject } from '../../../src/types.ts'
import { toAttemptsHeader } from '../../../src/upstream/call.ts'
import { createHedges } from '../../../src/upstream/hedges.ts'
import {
  answerStatus,
  answerWell,
  type CallOptions,
  type CallStage,
  createCallStage,
  createWorld,
  FIRST_TOKEN_MS,
  HELLO,
  makeDeployment,
  makePlan,
  makeTier,
  ROLE,
  type ScriptedCall,
  STREAM,
  type World,
} from './stage.ts'

const AFTER_MS = 200
const ALWAYS: Hedge = { afterMs: AFTER_MS, atMost: 1 }
const price = { ...FREE, input: 1, output: 1 }
const one = makeDeployment('a/one', { price })
const two = makeDeployment('b/two', { price })
const three = makeDeployment('c/three', { price })

function stageOf(
  { hedge = ALWAYS, ...plan }: Partial<Plan> & { hedge?: Hedge } = {},
  options: Partial<CallOptions> = {},
): CallStage {
  const tiers = [makeTier('t', [one, two], { hedge }), makeTier('behind', [three])]
  return createCallStage({ plan: makePlan(tiers, plan), ...options })
}

/** One tier that always hedges and asks once more, with streams that are gone on with. */
function stageIn(deployments: readonly Deployment[], attempts = 3): CallStage {
  const tier = makeTier('t', deployments, { hedge: ALWAYS, retries: 1 })
  return createCallStage({ plan: makePlan([tier], { attempts, resumes: true }) })
}

const who = (stage: CallStage): string[] => stage.calls.map(({ deployment }) => deployment)

function beginAnswer(call: ScriptedCall): void {
  call.started()
  call.head(200, STREAM)
  call.data(ROLE, HELLO)
}

describe('a hedged call', () => {
  it.each([
    ['the second', 1],
    ['the first', 0],
  ])('is answered by %s where that begins first, and the other is called off and paid', async (_, winner) => {
    const stage = stageOf()
    ;(await stage.nth(0)).started()
    await stage.time.advanceAsync(AFTER_MS)
    ;(await stage.nth(1)).started()
    answerWell(await stage.nth(winner))
    const loser = await stage.nth(1 - winner)
    expect(loser.aborted).toBe(true)
    const outcome = await stage.over()
    const name = winner === 0 ? 'a/one' : 'b/two'
    expect(outcome).toMatchObject({
      answeredBy: { deployment: { name } },
      usage: { inputTokens: 7 },
      error: undefined,
    })
    // The prompt of the one that was at work, and the answer of the other.
    expect(outcome?.costMicros).toBe(Math.ceil(stage.request.textBytes / 4) + 9)
    expect(stage.reply.headers['x-sluice-deployment']).toBe(name)
    expect(stage.reply.headers['x-sluice-attempts']).toBe(
      winner === 0 ? 't:a/one=200, t:b/two=499' : 't:a/one=499, t:b/two=200',
    )
    expect(toAttemptsHeader(stage.attempts)).toBe(stage.reply.headers['x-sluice-attempts'])
    expect(stage.gate.map((event) => ('enter' in event ? 'in' : 'out'))).toEqual(['in', 'in', 'out', 'out'])
    expect(who(stage)).toEqual(['a/one', 'b/two'])
    expect(stage.time.pending).toBe(0)
  })

  it('is one call where the first begins in time, or fails in time', async () => {
    const stage = stageOf()
    beginAnswer(await stage.nth(0))
    await stage.time.advanceAsync(AFTER_MS)
    expect(who(stage)).toEqual(['a/one'])
    const failing = stageOf()
    answerStatus(await failing.nth(0), 503)
    answerWell(await failing.nth(1))
    expect((await failing.over())?.answeredBy?.deployment).toBe(two)
    expect(failing.time.pending).toBe(0)
  })

  it('goes on with the one that is left when the other fails, and down the plan when both do', async () => {
    for (const [failing, left] of [
      [0, 1],
      [1, 0],
    ] as const) {
      const stage = stageOf()
      await stage.nth(0)
      await stage.time.advanceAsync(AFTER_MS)
      answerStatus(await stage.nth(failing), 503)
      expect(await stage.over()).toBeUndefined()
      answerWell(await stage.nth(left))
      expect((await stage.over())?.answeredBy?.deployment).toBe([one, two][left])
    }
    const stage = stageOf()
    await stage.nth(0)
    await stage.time.advanceAsync(AFTER_MS)
    answerStatus(await stage.nth(0), 503)
    answerStatus(await stage.nth(1), 529)
    answerWell(await stage.nth(2))
    expect(await stage.over()).toMatchObject({ answeredBy: { deployment: { name: 'c/three' } } })
    expect(who(stage)).toEqual(['a/one', 'b/two', 'c/three'])
  })

  it('leaves a silent first its time where the second has failed and nobody else is left', async () => {
    const stage = stageIn([one, two])
    ;(await stage.nth(0)).started()
    await stage.time.advanceAsync(AFTER_MS)
    answerStatus(await stage.nth(1), 503)
    await stage.time.advanceAsync(FIRST_TOKEN_MS)
    const first = await stage.nth(0)
    expect(first.aborted).toBe(false)
    answerWell(first)
    expect(await stage.over()).toMatchObject({ answeredBy: { deployment: one }, error: undefined })
  })

  it('asks whoever is left of the tier before one that has failed beside another', async () => {
    const stage = stageIn([one, two, three])
    await stage.nth(0)
    await stage.time.advanceAsync(AFTER_MS)
    answerStatus(await stage.nth(0), 503)
    answerStatus(await stage.nth(1), 503)
    answerWell(await stage.nth(2))
    expect(await stage.over()).toMatchObject({ answeredBy: { deployment: three } })
    expect(who(stage)).toEqual(['a/one', 'b/two', 'c/three'])
  })

  it('asks the second again where its failure is worth that, as often as any other', async () => {
    const stage = stageIn([one, two], 5)
    await stage.nth(0)
    await stage.time.advanceAsync(AFTER_MS)
    answerStatus(await stage.nth(1), 500)
    answerStatus(await stage.nth(0), 424)
    await stage.time.advanceAsync(100)
    answerStatus(await stage.nth(2), 500)
    await stage.time.advanceAsync(1_000)
    expect((await stage.over())?.error).toMatchObject({ code: 'upstream_failed' })
    expect(who(stage)).toEqual(['a/one', 'b/two', 'b/two'])
    expect(stage.time.pending).toBe(0)
  })

  it('never goes on with a stream of the second at the first, which was silent', async () => {
    const stage = stageIn([one, two, three])
    await stage.nth(0)
    await stage.time.advanceAsync(AFTER_MS)
    const call = await stage.nth(1)
    beginAnswer(call)
    call.failed()
    await stage.time.advanceAsync(100)
    await stage.nth(2)
    expect(who(stage).slice(2)).not.toContain('a/one')
  })

  it('is not made beside one whose prompt has been too long for others no larger', async () => {
    const small = makeDeployment('a/small', { contextWindow: 100 })
    const large = makeDeployment('b/large', { contextWindow: 1_000 })
    const stage = stageIn([small, large, makeDeployment('c/small', { contextWindow: 100 })], 5)
    answerStatus(await stage.nth(0), 400, { error: { code: 'context_length_exceeded', message: 'long' } })
    await stage.nth(1)
    await stage.time.advanceAsync(AFTER_MS)
    expect(who(stage)).toEqual(['a/small', 'b/large'])
  })

  it('is what the caller has, where the other is refused in the same moment', async () => {
    for (const refused of [0, 1]) {
      const stage = stageOf()
      await stage.nth(0)
      await stage.time.advanceAsync(AFTER_MS)
      await stage.nth(1)
      const [no, yes] = refused === 0 ? stage.calls : [...stage.calls].reverse()
      if (no === undefined || yes === undefined) throw new Error('there are two')
      answerStatus(no, 400, { error: { message: 'no' } })
      answerWell(yes)
      const outcome = await stage.over()
      expect(stage.reply).toMatchObject({ ended: true, status: 200 })
      expect(outcome).toMatchObject({ error: undefined, usage: { inputTokens: 7, outputTokens: 2 } })
      expect(outcome?.answeredBy?.deployment.name).toBe(yes.deployment)
    }
  })

  it('passes on what is wrong with the request, and asks nobody on', async () => {
    const stage = stageOf()
    await stage.nth(0)
    await stage.time.advanceAsync(AFTER_MS)
    answerStatus(await stage.nth(1), 400, { error: { message: 'no' } })
    expect((await stage.nth(0)).aborted).toBe(true)
    expect(await stage.over()).toMatchObject({ error: { code: 'invalid_request' } })
    expect(who(stage)).toEqual(['a/one', 'b/two'])
  })

  it('ends both when the caller leaves, and lets go of everything', async () => {
    const stage = stageOf()
    ;(await stage.nth(0)).started()
    await stage.time.advanceAsync(AFTER_MS)
    ;(await stage.nth(1)).started()
    stage.leave()
    const outcome = await stage.over()
    expect(outcome?.error).toBeDefined()
    expect(outcome?.costMicros).toBe(2 * Math.ceil(stage.request.textBytes / 4))
    expect(stage.calls.every(({ aborted }) => aborted)).toBe(true)
    expect(stage.gate.map((event) => ('enter' in event ? 'in' : 'out'))).toEqual(['in', 'in', 'out', 'out'])
    expect(stage.time.pending).toBe(0)
  })

  it('of a whole reply is the whole reply of one', async () => {
    const stage = stageOf({}, { body: {} })
    await stage.nth(0)
    await stage.time.advanceAsync(AFTER_MS)
    answerWell(await stage.nth(1))
    expect((await stage.nth(0)).aborted).toBe(true)
    expect((await stage.over())?.error).toBeUndefined()
    expect(stage.reply.headers['x-sluice-deployment']).toBe('b/two')
  })

  it('gives back what it took for a second that is not needed any more', async () => {
    const asked = Promise.withResolvers<{ id: string }>()
    const stage = stageOf(
      {},
      {
        admit: async ({ name }) => (name === 'b/two' ? asked.promise : { id: name }),
      },
    )
    const call = await stage.nth(0)
    await stage.time.advanceAsync(AFTER_MS)
    answerWell(call)
    asked.resolve({ id: 'b/two' })
    expect((await stage.over())?.answeredBy?.deployment).toBe(one)
    expect(who(stage)).toEqual(['a/one'])
    expect(stage.gate).toContainEqual({ leave: 'b/two', usage: undefined })
  })

  it('does not wait for one whose limits are full: the first may have answered meanwhile', async () => {
    const subject: Subject = { kind: 'deployment', id: two.name, tag: 'b', limits: two.limits }
    const stage = stageOf(
      {},
      {
        async admit({ name }, patience) {
          if (name === one.name) return { id: name }
          if (patience !== undefined) await new Promise(() => {})
          return { kind: 'requests', subject, waitMs: 5_000 }
        },
      },
    )
    const call = await stage.nth(0)
    await stage.time.advanceAsync(AFTER_MS)
    answerWell(call)
    expect((await stage.over())?.answeredBy?.deployment).toBe(one)
    expect(who(stage)).toEqual(['a/one'])
  })

  it.each([
    [
      'there is nobody else in the tier',
      (world: World) =>
        createCallStage({
          plan: makePlan([makeTier('t', [one], { hedge: ALWAYS }), makeTier('behind', [three])]),
          world,
        }),
    ],
    [
      'the other is held back',
      (world: World) => {
        for (let i = 0; i < 5; i += 1)
          world.health.failed('b/two', world.health.enter('b/two') as 'go', {
            reason: '503',
            retryAfterMs: undefined,
          })
        return stageOf({}, { world })
      },
    ],
    ['no attempt is left', (world: World) => stageOf({ attempts: 2 }, { world })],
    [
      'the share is used up',
      (world: World) => stageOf({ hedge: { afterMs: AFTER_MS, atMost: 0.5 } }, { world }),
    ],
    [
      'little is known of how long it takes',
      (world: World) => stageOf({ hedge: { afterMs: undefined, atMost: 1 } }, { world }),
    ],
  ])('is one call where %s', async (_, begin) => {
    const stage = begin(createWorld())
    await stage.nth(0)
    await stage.time.advanceAsync(AFTER_MS)
    expect(who(stage)).toEqual(['a/one'])
  })

  it('waits for as long as all but one of twenty streams took', async () => {
    const world = createWorld()
    for (let i = 1; i <= 20; i += 1) world.pace.answered('a/one', i * 10)
    const stage = stageOf({ hedge: { afterMs: undefined, atMost: 1 } }, { world })
    await stage.nth(0)
    await stage.time.advanceAsync(189)
    expect(who(stage)).toEqual(['a/one'])
    await stage.time.advanceAsync(1)
    expect(who(stage)).toEqual(['a/one', 'b/two'])
  })

  it('is one call for a whole reply where only streams tell how long to wait', async () => {
    const world = createWorld()
    for (let i = 1; i <= 20; i += 1) world.pace.answered('a/one', i * 10)
    const stage = stageOf({ hedge: { afterMs: undefined, atMost: 1 } }, { world, body: {} })
    await stage.nth(0)
    await stage.time.advanceAsync(1_000)
    expect(who(stage)).toEqual(['a/one'])
  })
})

describe('the second calls of a tier', () => {
  it('are a share of its requests, and no more than a few are saved up', () => {
    const hedges = createHedges()
    let taken = 0
    for (let i = 0; i < 1_000; i += 1) {
      hedges.earn('t', 0.05)
      if (hedges.take('t')) taken += 1
    }
    expect(taken).toBe(50)
    for (let i = 0; i < 1_000; i += 1) hedges.earn('t', 0.05)
    expect(Array.from({ length: 10 }, () => hedges.take('t')).filter(Boolean)).toHaveLength(5)
    expect(hedges.take('another')).toBe(false)
  })
})
