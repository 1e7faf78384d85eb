import { describe, expect, it } from 'vitest'
import { createPacing, type Turn } from '../../../src/quota/pacing.ts'
import type { Grant, Timers } from '../../../src/quota/store.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { agentSubject, claimOn, memoryStore, perSecond } from './fixtures.ts'

function setUp() {
  const time = createManualClock()
  const timers: Timers = {
    after(ms, run) {
      const handle = time.timers.set(ms, run)
      return () => time.timers.clear(handle)
    },
    soon: (run) => void setImmediate(run),
  }
  const store = memoryStore({ clock: time.clock })
  const pacing = createPacing({ clock: time.clock, timers })
  const turnOf = (
    agent: string,
    some: Partial<Turn> = {},
    limits: Parameters<typeof agentSubject>[1] = { requests: perSecond(10, 1) },
  ): Turn => {
    const subject = agentSubject(agent, limits)
    const claim = claimOn([subject])
    return {
      agent,
      claim,
      attempt: () => store.take(claim),
      mayWaitMs: () => 2_000,
      lineMs: 2_000,
      deadlineAt: Infinity,
      signal: undefined,
      ...some,
    }
  }
  return { time, store, pacing, turnOf }
}

/** What was decided so far. */
function watch(promise: Promise<Grant>) {
  const seen: { grant: Grant | undefined } = { grant: undefined }
  void promise.then((grant) => {
    seen.grant = grant
  })
  return seen
}

describe('waiting for a turn', () => {
  it('lets the first through at once and the others one by one as units come back, in their order', async () => {
    const { time, pacing, turnOf } = setUp()
    const order: number[] = []
    for (let i = 0; i < 5; i++) void pacing.pace(turnOf('a')).then(({ ok }) => ok && order.push(i))
    await time.advanceAsync(0)
    expect(order).toEqual([0])
    for (let i = 1; i < 5; i++) {
      await time.advanceAsync(102)
      expect(order).toEqual(Array.from({ length: i + 1 }, (_, n) => n))
    }
    expect(pacing.waiting).toBe(0)
    expect(time.pending).toBe(0)
  })

  it('refuses at once who could not be served in time', async () => {
    const { pacing, turnOf, time } = setUp()
    await pacing.pace(turnOf('a'))
    expect(await pacing.pace(turnOf('a', { mayWaitMs: () => 50 }))).toMatchObject({
      ok: false,
      waitUs: 100_000,
    })
    expect(await pacing.pace(turnOf('a', { deadlineAt: time.clock.now() + 50 }))).toMatchObject({ ok: false })
    expect(pacing.waiting).toBe(0)
  })

  it('refuses who has waited as long as the limit says', async () => {
    const { time, pacing, turnOf } = setUp()
    const waits = Array.from({ length: 40 }, () => watch(pacing.pace(turnOf('a'))))
    await time.advanceAsync(2_100)
    const granted = waits.filter(({ grant }) => grant?.ok === true).length
    const refused = waits.filter(({ grant }) => grant?.ok === false).length
    expect(granted).toBeGreaterThanOrEqual(19)
    expect(granted).toBeLessThanOrEqual(22)
    expect(granted + refused).toBe(40)
    expect(pacing.waiting).toBe(0)
  })

  it('forgets who leaves, and takes nothing for them', async () => {
    const { time, pacing, turnOf } = setUp()
    await pacing.pace(turnOf('a'))
    const leaving = new AbortController()
    const gone = watch(pacing.pace(turnOf('a', { signal: leaving.signal })))
    const next = watch(pacing.pace(turnOf('a')))
    await time.advanceAsync(50)
    leaving.abort()
    await time.advanceAsync(0)
    expect(gone.grant).toMatchObject({ ok: false })
    await time.advanceAsync(60)
    expect(next.grant).toMatchObject({ ok: true })
  })

  it('serves agents by turns when they share a limit, not by the number of their callers', async () => {
    const { time, pacing, store } = setUp()
    const shared = { ...agentSubject('g', { requests: perSecond(100, 1) }), kind: 'gateway' as const }
    const served: Record<string, number> = { many: 0, few: 0 }
    const call = (agent: string) => {
      const claim = claimOn([shared])
      void pacing
        .pace({
          agent,
          claim,
          attempt: () => store.take(claim),
          mayWaitMs: () => 10_000,
          lineMs: 10_000,
          deadlineAt: Infinity,
          signal: undefined,
        })
        .then(({ ok }) => {
          if (ok) served[agent] = (served[agent] ?? 0) + 1
        })
    }
    for (let i = 0; i < 200; i++) call('many')
    for (let i = 0; i < 20; i++) call('few')
    await time.advanceAsync(1_000)
    expect(served.few).toBe(20)
    expect(served.many).toBeGreaterThan(60)
  })

  it('looks again as soon as a slot of the agent comes back', async () => {
    const { time, pacing, store, turnOf } = setUp()
    const subject = agentSubject('a', { concurrency: 1 })
    const claim = claimOn([subject])
    const grant = await pacing.pace(turnOf('a', { claim, attempt: () => store.take(claim) }))
    if (!grant.ok) throw new Error('the first is granted')
    const next = watch(pacing.pace(turnOf('a', {}, { concurrency: 1 })))
    await time.advanceAsync(500)
    expect(next.grant).toBeUndefined()
    store.settle([{ claim, grant, usedTokens: undefined, usedMicros: undefined }])
    pacing.nudge('a')
    await time.advanceAsync(1)
    expect(next.grant).toMatchObject({ ok: true })
  })

  it('does not stand behind callers who wait for a limit that it does not need', async () => {
    const { time, pacing, store, turnOf } = setUp()
    await pacing.pace(turnOf('a'))
    const waits = watch(pacing.pace(turnOf('a')))
    const other = claimOn([
      { ...agentSubject('laptop', { requests: perSecond(10) }), kind: 'bearer' as const },
    ])
    const free = watch(pacing.pace(turnOf('a', { claim: other, attempt: () => store.take(other) })))
    await time.advanceAsync(0)
    expect(waits.grant).toBeUndefined()
    expect(free.grant).toMatchObject({ ok: true })
  })

  it('waits for a slot however short the wait may be', async () => {
    const { time, pacing, store, turnOf } = setUp()
    const claim = claimOn([agentSubject('a', { concurrency: 1 })])
    const grant = await pacing.pace(turnOf('a', { claim, attempt: () => store.take(claim) }))
    if (!grant.ok) throw new Error('the first is granted')
    const next = watch(pacing.pace(turnOf('a', { mayWaitMs: () => 500 }, { concurrency: 1 })))
    await time.advanceAsync(50)
    store.settle([{ claim, grant, usedTokens: undefined, usedMicros: undefined }])
    pacing.nudge('a')
    await time.advanceAsync(1)
    expect(next.grant).toMatchObject({ ok: true })
  })

  it('is bounded: more than a thousand callers of one agent are answered as without waiting', async () => {
    const { time, pacing, turnOf } = setUp()
    const waits = Array.from({ length: 1_500 }, () =>
      watch(pacing.pace(turnOf('a', { lineMs: 60_000, mayWaitMs: () => 60_000 }))),
    )
    await time.advanceAsync(0)
    expect(pacing.waiting).toBe(1_000)
    expect(waits.filter(({ grant }) => grant?.ok === false)).toHaveLength(499)
  })
})

describe('slots of a limit that agents share', () => {
  /** Callers of an agent who ask again as soon as they have had a slot for 10 ms; gives who had it, in order. */
  async function run(
    agents: Readonly<Record<string, number>>,
    forMs: number,
    late?: string,
  ): Promise<string[]> {
    const { time, store, pacing, turnOf } = setUp()
    const gateway = { ...agentSubject('g', { concurrency: 1 }), kind: 'gateway' as const }
    const served: string[] = []
    const call = async (agent: string): Promise<void> => {
      for (;;) {
        const claim = claimOn([gateway])
        const attempt = () => store.take(claim)
        const grant = await pacing.pace(
          turnOf(agent, { claim, attempt, mayWaitMs: () => 60_000, lineMs: 60_000 }),
        )
        if (!grant.ok) return
        served.push(agent)
        await new Promise<void>((resolve) => void time.timers.set(10, resolve))
        store.settle([{ claim, grant, usedTokens: 0, usedMicros: 0 }])
        pacing.nudge(
          agent,
          claim.asks.map(({ account }) => account.key),
        )
      }
    }
    for (const [agent, callers] of Object.entries(agents))
      for (let i = 0; i < callers; i += 1) void call(agent)
    await time.advanceAsync(forMs / 2)
    if (late !== undefined) void call(late)
    await time.advanceAsync(forMs / 2)
    return served
  }

  it('go to the agents by turns, whatever the number of their callers', async () => {
    const served = await run({ a: 20, b: 1, c: 3 }, 3_000)
    const count = (agent: string): number => served.filter((one) => one === agent).length / served.length
    expect(served.length).toBeGreaterThan(100)
    for (const agent of ['a', 'b', 'c']) expect(count(agent)).toBeGreaterThan(0.25)
  })

  it('are not kept by who had the last one', async () => {
    const served = await run({ a: 5 }, 2_000, 'b')
    const first = served.indexOf('b')
    expect(first).toBeGreaterThan(0)
    const until = served.length / 2
    // It came half-way, and had its turn after those of two others at most.
    expect(first - until).toBeLessThan(served.length * 0.1)
  })
})
