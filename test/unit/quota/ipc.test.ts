import { describe, expect, it } from 'vitest'
import { answerVisits, createRemoteAuthority } from '../../../src/quota/ipc.ts'
import { createLeaseStore } from '../../../src/quota/leases.ts'
import { createMemoryAuthority } from '../../../src/quota/memory.ts'
import type { Claim, Grant, Timers } from '../../../src/quota/store.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { agentSubject, claimOn, perMinute } from './fixtures.ts'

/** A primary and workers, with the messages between them as JSON, as the channel carries them. */
function createGateway(workers: number) {
  const time = createManualClock({ nowMs: 1_000 })
  const timers: Timers = {
    after(ms, run) {
      const handle = time.timers.set(ms, run)
      return () => time.timers.clear(handle)
    },
    soon: (run) => void time.timers.set(0, run),
  }
  const ledgers = createMemoryAuthority({ clock: time.clock })
  /** While the primary does nothing, what it would hear. */
  const unread: (() => void)[] = []
  const channel = { stuck: false, messages: 0, mostAtOnce: 0 }
  const stores = Array.from({ length: workers }, (_, i) => {
    let underWay = 0
    const ask = (question: unknown): Promise<unknown> => {
      channel.messages += 1
      underWay += 1
      channel.mostAtOnce = Math.max(channel.mostAtOnce, underWay)
      return new Promise((resolve) => {
        const text = JSON.stringify(question)
        const hear = (): void => {
          underWay -= 1
          const visitor = { replica: `w${i}`, fleet: workers }
          resolve(JSON.parse(JSON.stringify(answerVisits(ledgers, JSON.parse(text), visitor))))
        }
        if (channel.stuck) unread.push(hear)
        else hear()
      })
    }
    const authority = createRemoteAuthority({ ask, timers })
    return createLeaseStore({ authority, clock: time.clock, timers, leases: true })
  })
  const take = async (worker: number, claim: Claim): Promise<Grant> => {
    const grant = Promise.resolve(stores[worker]?.take(claim))
    await time.advanceAsync(0)
    return (await grant) as Grant
  }
  const goOn = (): void => {
    channel.stuck = false
    for (const hear of unread.splice(0)) hear()
  }
  return { time, ledgers, stores, take, channel, goOn }
}

describe('workers that share the ledgers of their primary', () => {
  it('have one limit between them', async () => {
    const { take } = createGateway(3)
    const agent = agentSubject('a', { requests: perMinute(1, 10) })
    const grants = []
    for (let i = 0; i < 30; i++) grants.push(await take(i % 3, claimOn([agent])))
    expect(grants.filter(({ ok }) => ok)).toHaveLength(10)
    expect(grants[29]).toMatchObject({ ok: false, kind: 'requests' })
  })

  it('have one number of slots between them, and each gives back its own', async () => {
    const { take, stores, time } = createGateway(2)
    const agent = agentSubject('a', { concurrency: 2 })
    const [one, two] = [claimOn([agent]), claimOn([agent])]
    const grant = await take(0, one)
    expect([grant.ok, (await take(1, two)).ok, (await take(0, claimOn([agent]))).ok]).toEqual([
      ...[true, true, false],
    ])
    if (!grant.ok) return
    stores[0]?.settle([{ claim: one, grant, usedTokens: undefined, usedMicros: undefined }])
    await time.advanceAsync(150)
    expect((await take(1, claimOn([agent]))).ok).toBe(true)
  })

  it('get the slots of one that is known to have died at once, and none of its units', async () => {
    const { take, ledgers } = createGateway(2)
    const agent = agentSubject('a', { concurrency: 2, requests: perMinute(1, 3) })
    await take(0, claimOn([agent]))
    await take(0, claimOn([agent]))
    expect((await take(1, claimOn([agent]))).ok).toBe(false)
    ledgers.forget('w0')
    expect(ledgers.size().slots).toBe(0)
  })

  it('take what comes together in few messages, of which few are on their way at once', async () => {
    const { stores, time, channel, goOn } = createGateway(1)
    channel.stuck = true
    const grants = Array.from({ length: 2_000 }, (_, i) =>
      stores[0]?.take(claimOn([agentSubject(`a${i}`, { requests: perMinute(10) })])),
    )
    await time.advanceAsync(0)
    expect(channel.messages).toBeLessThanOrEqual(4)
    goOn()
    await time.advanceAsync(10)
    expect((await Promise.all(grants)).filter((grant) => grant?.ok)).toHaveLength(2_000)
    expect(channel.mostAtOnce).toBeLessThanOrEqual(4)
    expect(channel.messages).toBeLessThan(20)
  })
})

describe('a primary that does not answer', () => {
  it('keeps nobody waiting for more than a second, and is believed again when it answers', async () => {
    const { stores, time, channel, goOn, take } = createGateway(1)
    const agent = agentSubject('a', { requests: perMinute(1, 5), concurrency: 5 })
    expect((await take(0, claimOn([agent]))).ok).toBe(true)
    channel.stuck = true
    const lost = stores[0]?.take(claimOn([agent]))
    await time.advanceAsync(1_000)
    expect(await lost).toEqual({ ok: false, kind: 'unavailable' })
    // Once is enough: whoever comes now does not wait at all.
    await time.advanceAsync(300)
    expect(await take(0, claimOn([agent]))).toEqual({ ok: false, kind: 'unavailable' })
    goOn()
    await time.advanceAsync(500)
    // The one nobody waited for has taken nothing, neither a unit nor a slot.
    const grants = []
    for (let i = 0; i < 5; i++) grants.push((await take(0, claimOn([agent]))).ok)
    expect(grants).toEqual([true, true, true, true, false])
    expect(stores[0]?.totals().slots).toBe(5)
  })

  it('takes nothing from those who did not wait for it, whether it heard of them or not', async () => {
    const { stores, time, channel, goOn, ledgers } = createGateway(1)
    channel.stuck = true
    // Four messages are on their way, one after the other; the fifth agent's is not.
    const lost = []
    for (let i = 0; i < 5; i++) {
      lost.push(stores[0]?.take(claimOn([agentSubject(`a${i}`, { requests: perMinute(1, 5) })])))
      await time.advanceAsync(1)
    }
    expect(channel.messages).toBe(4)
    await time.advanceAsync(1_100)
    for (const grant of await Promise.all(lost)) expect(grant).toEqual({ ok: false, kind: 'unavailable' })
    goOn()
    expect(ledgers.size().ledgers).toBe(4)
    await time.advanceAsync(500)
    expect(ledgers.size().ledgers).toBe(0)
  })
})
