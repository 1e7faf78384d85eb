// Laws of a walk: whatever providers, limits and callers do, each request ends once, in time, within its attempts, and
// nothing that was taken for it stays taken.

import { describe, expect, it } from 'vitest'
import type { Deployment, Hold, Refusal, Subject } from '../../../src/types.ts'
import { createRandom, fuzzSeed, type Random } from '../bytes/random.ts'
import {
  answerStatus,
  answerWell,
  type CallStage,
  createCallStage,
  createWorld,
  HELLO,
  makeDeployment,
  makePlan,
  makeReplyDeployment,
  makeTier,
  NO_LIMITS,
  ROLE,
  type ScriptedCall,
  STREAM,
  settle,
  WORLD,
  type World,
} from './stage.ts'

const HISTORIES = 60
const REQUESTS = 25
/** No hold lasts longer than what a provider may ask for. */
const LONGEST_HOLD_MS = 600_000

const secrets = { 'env:A': 'value-aaaaaaaa', 'env:B': 'value-bbbbbbbb' }
const callees = ['a/one', 'a/two', 'b/x', { deployment: 'c/*', model: 'm' }]
const STATUSES = [400, 401, 403, 404, 413, 429, 429, 500, 502, 503, 529]
const BODIES = ['', 'maximum context length is 5 tokens', 'flagged'].map((message) => ({
  error: { message },
}))
const HEADERS: readonly Readonly<Record<string, string>>[] = [
  {},
  { 'retry-after': '0' },
  { 'retry-after-ms': '500' },
  { 'retry-after': '2' },
  { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '2s' },
]

interface Asked {
  readonly stage: CallStage
  readonly deadlineAt: number
  readonly attempts: number
}

/** What is to happen later, and who waits at a gate. */
interface Script {
  readonly world: World
  readonly random: Random
  readonly due: { readonly atMs: number; readonly run: () => void }[]
  readonly waiting: (() => void)[]
}

function later({ world, due }: Script, ms: number, run: () => void): void {
  due.push({ atMs: world.time.clock.now() + ms, run })
}

function begin(call: ScriptedCall, ...data: string[]): void {
  call.started()
  call.head(200, STREAM)
  call.data(...data)
}

/** One of the things that a provider does. */
function act(call: ScriptedCall, script: Script): void {
  const { random } = script
  if (call.deployment === 'reply/last') return answerWell(call)
  switch (random.below(10)) {
    case 0:
    case 1:
      return answerWell(call)
    case 2:
    case 3:
    case 4:
      return answerStatus(call, random.pick(STATUSES), random.pick(BODIES), random.pick(HEADERS))
    case 5:
      return call.failed()
    case 6:
      return begin(call)
    case 7:
      begin(call, HELLO)
      return later(script, 10, () => call.failed())
    case 8:
      begin(call, ROLE)
      return later(script, random.pick([10, 30_000]), () => {
        call.data(HELLO, WORLD)
        if (random.oneIn(2)) call.end()
      })
    default:
      return later(script, random.pick([5, 500, 5_000]), () => answerWell(call))
  }
}

/** Full, passed at once, or passed after a wait. */
async function admit({ name }: Deployment, { random, waiting }: Script): Promise<Hold | Refusal> {
  const subject: Subject = { kind: 'deployment', id: name, tag: 't', limits: NO_LIMITS }
  if (random.oneIn(10)) return { kind: 'requests', subject, waitMs: 100 }
  if (random.oneIn(5)) await new Promise<void>((resolve) => waiting.push(resolve))
  return { id: name }
}

async function play(seed: number): Promise<{ world: World; asked: readonly Asked[]; taken: number }> {
  const world = createWorld(secrets)
  const random = createRandom(seed)
  const script: Script = { world, random, due: [], waiting: [] }
  const keys = random.pick([[], ['env:A'], ['env:A', 'env:B']])
  const how = () => ({
    retries: random.below(3),
    patienceMs: random.pick([0, 300, 3_000]),
    hedge: random.oneIn(2) ? { afterMs: random.pick([20, 200]), atMost: 1 } : undefined,
  })
  const tiers = [
    makeTier('t1', [makeDeployment('a/one', {}, { keys }), makeDeployment('b/x')], how()),
    makeTier('t2', [makeDeployment('a/two', { contextWindow: 100_000 }), makeDeployment('c/*')], how()),
  ]
  if (random.oneIn(3)) tiers.push(makeTier('last', [makeReplyDeployment('last', 'Nobody.')]))
  const asked: Asked[] = []
  const seen = new Set<ScriptedCall>()
  let taken = 0

  async function drive(): Promise<void> {
    for (const call of asked.flatMap(({ stage }) => stage.calls)) {
      if (seen.has(call)) continue
      seen.add(call)
      act(call, script)
    }
    for (const one of script.due.splice(0)) {
      if (one.atMs > world.time.clock.now()) script.due.push(one)
      else one.run()
    }
    if (random.oneIn(2)) for (const open of script.waiting.splice(0)) open()
    await settle()
  }

  for (let i = 0; i < REQUESTS; i += 1) {
    const deadlineAt = world.time.clock.now() + random.pick([50, 1_000, 20_000, 600_000])
    const attempts = 2 + random.below(3)
    const stage = createCallStage({
      plan: makePlan(tiers, { deadlineAt, attempts, resumes: random.oneIn(2) }),
      world,
      body: { stream: !random.oneIn(5), prompt_cache_key: random.pick([null, 'conversation']) },
      async admit(deployment) {
        const answer = await admit(deployment, script)
        if ('id' in answer) taken += 1
        return answer
      },
    })
    asked.push({ stage, deadlineAt, attempts })
    await drive()
    await world.time.advanceAsync(random.pick([0, 10, 200, 2_000, 12_000]))
    await drive()
    if (random.oneIn(7)) random.pick(asked).stage.leave()
  }
  for (let i = 0; i < 250; i += 1) {
    await drive()
    await world.time.advanceAsync(i < 100 ? 50 : 5_000)
  }
  return { world, asked, taken }
}

const seed = fuzzSeed()

describe(`laws of a walk (SLUICE_FUZZ_SEED=${seed})`, () => {
  it(`hold for ${HISTORIES} histories of ${REQUESTS} requests each`, { timeout: 60_000 }, async () => {
    for (let i = 0; i < HISTORIES; i += 1) {
      const { world, asked, taken } = await play(seed + i)
      for (const { stage, deadlineAt, attempts } of asked) {
        const outcome = await stage.over()
        if (outcome === undefined) throw new Error(`history ${i}: a request without an end`)
        const made = stage.attempts.filter(
          (one) => one.outcome !== 'skipped' && one.deployment !== 'reply/last',
        )
        expect(made.length).toBeLessThanOrEqual(attempts)
        for (const { startedMs, endedMs } of made) {
          expect(startedMs).toBeLessThan(deadlineAt)
          expect(endedMs).toBeGreaterThanOrEqual(startedMs)
        }
        expect(outcome.error).not.toMatchObject({ code: 'internal' })
        // An end is written to the caller exactly where the answer is whole.
        expect(stage.reply.ended).toBe(outcome.error === undefined)
        expect(stage.reply.text.includes('[DONE]') && outcome.error !== undefined).toBe(false)
      }
      const given = asked.flatMap(({ stage }) => stage.gate.filter((event) => 'leave' in event))
      expect(given).toHaveLength(taken)
      expect(world.time.pending).toBe(0)
      // No turn of a probe was kept.
      world.time.advance(LONGEST_HOLD_MS)
      for (const callee of callees) expect(world.health.isAvailable(callee)).toBe(true)
    }
  })
})
