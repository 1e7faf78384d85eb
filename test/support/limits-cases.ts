// The cases of the proof of limits: what is done to whom while limiters run, and what that may cost by reliability §1.5.
// E_loss = F·(B + N·L): Redis forgot F times. E_part = k·(r/N)·D + k·B/N ≤ B where all k = N are cut off, for then
// Redis admits nothing. N·L is what can be out on lease, half of a bucket here, and nothing in exact mode. E_lease = 0.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Case, Scene, Terms } from './limits-proof.ts'
import { until } from './redis-forms.ts'

export type Form = 'short' | 'long'

const NONE = { formula: '0', allowed: () => 0 } as const
const LOSS = { losses: 1, formula: 'B + N·L', allowed: ({ b, nl }: Terms) => b + nl } as const
const ALL_CUT = { formula: 'B (all cut off)', allowed: ({ b }: Terms) => b } as const

/** Four limiters on one hot key, nothing done to anybody. */
export function steadyCases(form: Form): Case[] {
  const steady = {
    perSecond: 5_000,
    capacity: 5_000,
    replicas: 4,
    forMs: form === 'short' ? 4_000 : 60_000,
    redis: 'alone',
    ...NONE,
  } as const
  return [
    { name: '5,000/s exact', mode: 'exact', ...steady },
    { name: '5,000/s on leases', mode: 'leases', ...steady },
  ]
}

/** Callers that are refused and come again at once, on a bucket that gives next to nothing. */
export function refusalCase(form: Form): Case {
  return {
    name: 'refused and refused again',
    mode: 'exact',
    perSecond: 0.01,
    capacity: 1,
    replicas: 2,
    callers: 4,
    isImpatient: true,
    forMs: form === 'short' ? 1_200 : 10_000,
    redis: 'alone',
    ...NONE,
  }
}

/** Replies are dropped over a bucket that refills next to nothing: each admission is charged once, whoever decided it. */
export function chargeCase(form: Form): Case {
  return {
    name: 'replies dropped, charges counted',
    mode: 'exact',
    perSecond: 0.01,
    capacity: 200_000,
    replicas: 4,
    redis: 'proxied',
    forMs: form === 'short' ? 2_000 : 9_000,
    replica: () => ({ thinkMs: 20 }),
    ...ALL_CUT,
    nemesis: async ({ proxy, returned }) => {
      await sleep(400)
      proxy.dropReplies()
      await sleep(form === 'short' ? 400 : 5_000)
      await heal(proxy)
      returned()
    },
  }
}

/** Something is done to somebody. Each `in` a form says how long it is away, and how long the whole lasts. */
export function nemesisCases(form: Form): Case[] {
  const long = form === 'long'
  const base = { perSecond: 1_000, capacity: 1_000, replicas: 4, redis: 'alone' } as const
  const ofBoth = (one: Omit<Case, 'mode'>): Case[] =>
    (long ? (['exact', 'leases'] as const) : (['leases'] as const)).map((mode) => ({ ...one, mode }))
  const awayMs = long ? 5_000 : 500

  const short: Case[] = [
    ...ofBoth({
      ...base,
      ...LOSS,
      name: 'kill -9 of Redis, empty when back',
      forMs: awayMs + 1_800,
      nemesis: async (scene) => {
        await sleep(700)
        await scene.restartEmpty(awayMs)
      },
    }),
    ...ofBoth({
      ...base,
      ...ALL_CUT,
      name: 'SIGSTOP of Redis',
      forMs: awayMs + 1_800,
      nemesis: async ({ redis, returned }) => {
        await sleep(700)
        redis.pause()
        await sleep(awayMs)
        redis.resume()
        returned()
      },
    }),
    ...ofBoth({
      ...base,
      ...LOSS,
      name: 'FLUSHALL',
      forMs: long ? 5_000 : 1_600,
      nemesis: async ({ redis }) => {
        await sleep(800)
        await redis.command('FLUSHALL')
      },
    }),
    ...ofBoth({
      ...base,
      ...ALL_CUT,
      name: 'replies dropped',
      redis: 'proxied',
      forMs: awayMs + 1_800,
      nemesis: async ({ proxy, returned }) => {
        await sleep(700)
        proxy.dropReplies()
        await sleep(awayMs)
        await heal(proxy)
        returned()
      },
    }),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'kill -9 of a replica',
      forMs: long ? 6_000 : 1_600,
      nemesis: async ({ limiters }) => {
        await sleep(800)
        limiters[0]?.kill('SIGKILL')
      },
    }),
  ]
  if (!long) return short
  return [
    ...short,
    ...[1_500, 3_000, 8_000].flatMap((stoppedMs) =>
      ofBoth({
        ...base,
        ...NONE,
        name: `SIGSTOP of a replica for ${stoppedMs / 1000} s`,
        forMs: stoppedMs + 4_000,
        nemesis: async ({ limiters, excuse }) => {
          await sleep(1_000)
          const [one] = limiters
          if (one === undefined) return
          excuse(one)
          one.kill('SIGSTOP')
          await sleep(stoppedMs)
          one.kill('SIGCONT')
        },
      }),
    ),
    // Short ones again and again: each time the lease in hand is dead or not quite.
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'SIGSTOP of two replicas, 20 times 0.4 to 1.3 s',
      forMs: 20_000,
      nemesis: async ({ limiters, excuse }) => {
        await Promise.all(
          limiters.slice(0, 2).map(async (one, place) => {
            excuse(one)
            for (let i = 0; i < 10; i += 1) {
              await sleep(300 + place * 200)
              one.kill('SIGSTOP')
              await sleep(400 + 100 * i)
              one.kill('SIGCONT')
            }
          }),
        )
      },
    }),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'SCRIPT FLUSH, 10 times',
      forMs: 6_000,
      nemesis: async ({ redis }) => {
        for (let i = 0; i < 10; i += 1) {
          await sleep(400)
          await redis.command('SCRIPT', 'FLUSH')
        }
      },
    }),
    ...ofBoth({
      ...base,
      ...ALL_CUT,
      name: 'CLIENT KILL TYPE normal, 10 times',
      forMs: 8_000,
      nemesis: async ({ redis, returned }) => {
        for (let i = 0; i < 10; i += 1) {
          await sleep(500)
          await redis.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        }
        returned()
      },
    }),
    ...ofBoth({
      ...base,
      ...ALL_CUT,
      name: 'black hole',
      redis: 'proxied',
      forMs: awayMs + 3_000,
      nemesis: async ({ proxy, returned }) => {
        await sleep(1_000)
        proxy.blackHole()
        await sleep(awayMs)
        await heal(proxy)
        returned()
      },
    }),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'wall clocks an hour before and behind',
      forMs: 6_000,
      replica: (place) => ({ wallOffMs: [-3_600_000, 3_600_000, 0, 0][place] ?? 0 }),
    }),
    ...ofBoth({
      ...base,
      name: '2 of 4 cut off',
      redis: 'proxied',
      // k·(r/N)·D + k·B/N with k = 2, D = how long they are away and at most a second until all are back.
      formula: '2·(r/N)·D + 2·B/N',
      allowed: ({ b, r, n }) => (2 * r * (awayMs / 1000 + 1)) / n + (2 * b) / n,
      forMs: awayMs + 3_000,
      direct: (place) => place >= 2,
      nemesis: async ({ proxy, returned }) => {
        await sleep(1_000)
        await proxy.refuse()
        await sleep(awayMs)
        await proxy.forward()
        returned()
      },
    }),
    ...ofBoth({
      ...base,
      ...LOSS,
      name: 'failover of Sentinel (kill -9 of the master)',
      redis: 'sentinel',
      forMs: 12_000,
      nemesis: async ({ sentinel, returned }) => {
        await sleep(1_500)
        await sentinel.master.kill9()
        // Back is when most sentinels say where the new master is, and it takes writes.
        await until('the replica is the master', async () => {
          if (!JSON.stringify(await sentinel.replica.command('ROLE')).includes('master')) return false
          const told = await Promise.all(
            sentinel.sentinels.map((one) =>
              one.command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', sentinel.name),
            ),
          )
          const port = String(sentinel.replica.port)
          return told.filter((address) => Array.isArray(address) && address[1] === port).length >= 2
        })
        returned()
      },
    }),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'the hot slot of a cluster moves, three times',
      redis: 'cluster',
      forMs: 8_000,
      nemesis: async ({ cluster, key }) => {
        const { masters } = cluster
        let at = masters.indexOf(await cluster.masterOf(key))
        for (let i = 0; i < 3; i += 1) {
          await sleep(1_200)
          const [from, to] = [masters[at], masters[(at + 1) % 3]]
          if (from !== undefined && to !== undefined) await cluster.moveSlot(key, from, to, () => sleep(100))
          at = (at + 1) % 3
        }
      },
    }),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'replicas come and go',
      replicas: 2,
      forMs: 12_000,
      nemesis: async ({ limiters, join }) => {
        await sleep(1_000)
        const first = await join(6_000)
        await sleep(1_500)
        await join(4_000)
        await sleep(1_500)
        limiters[0]?.leave()
        await first.done
      },
    }),
  ]
}

/** What was under way on old connections stays lost: they are ended, as a network that is back would have them. */
async function heal(proxy: Scene['proxy']): Promise<void> {
  await proxy.forward()
  proxy.killConnections()
}
