// The cases of the proof of limits: what is done to whom while limiters run, and what that may cost by reliability §1.5.
// E_loss = F·(B + N·L): Redis forgot F times. E_part = k·(r/N)·D + k·B/N ≤ B where all k = N are cut off, for then
// Redis admits nothing. N·L is what can be out on lease, half of a bucket here, and nothing in exact mode. E_lease = 0.

import { setTimeout as sleep } from 'node:timers/promises'
import type { GatewayCase } from './gateways-proof.ts'
import type { Case, Terms } from './limits-proof.ts'
import {
  cutOff,
  failOver,
  killMember,
  killRedis,
  loseReplies,
  moveHotSlot,
  order,
  stopMember,
  stopRedis,
  stopTwoAgainAndAgain,
} from './nemeses.ts'

export type Form = 'short' | 'long'

const NONE = { formula: '0', allowed: () => 0 } as const
const LOSS = {
  losses: 1,
  formula: 'B + N·L',
  allowed: ({ b, nl }: Pick<Terms, 'b' | 'nl'>) => b + nl,
} as const
const ALL_CUT = { formula: 'B (all cut off)', allowed: ({ b }: Pick<Terms, 'b'>) => b } as const

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
    nemesis: loseReplies({ beforeMs: 400, forMs: form === 'short' ? 400 : 5_000 }, 'dropReplies'),
  }
}

/** Something is done to somebody. Each `in` a form says how long it is away, and how long the whole lasts. */
export function nemesisCases(form: Form): Case[] {
  const long = form === 'long'
  const base = { perSecond: 1_000, capacity: 1_000, replicas: 4, redis: 'alone' } as const
  const ofBoth = (one: Omit<Case, 'mode'>): Case[] =>
    (long ? (['exact', 'leases'] as const) : (['leases'] as const)).map((mode) => ({ ...one, mode }))
  const awayMs = long ? 5_000 : 500

  const times = { beforeMs: 1_000, forMs: awayMs }
  const short: Case[] = [
    ...ofBoth({
      ...base,
      ...LOSS,
      name: 'kill -9 of Redis, empty when back',
      forMs: awayMs + 1_800,
      nemesis: killRedis({ beforeMs: 700, forMs: awayMs }),
    }),
    ...ofBoth({
      ...base,
      ...ALL_CUT,
      name: 'SIGSTOP of Redis',
      forMs: awayMs + 1_800,
      nemesis: stopRedis({ beforeMs: 700, forMs: awayMs }),
    }),
    ...ofBoth({
      ...base,
      ...LOSS,
      name: 'FLUSHALL',
      forMs: long ? 5_000 : 1_600,
      nemesis: order(1, { beforeMs: 800, forMs: 0 }, 'FLUSHALL'),
    }),
    ...ofBoth({
      ...base,
      ...ALL_CUT,
      name: 'replies dropped',
      redis: 'proxied',
      forMs: awayMs + 1_800,
      nemesis: loseReplies({ beforeMs: 700, forMs: awayMs }, 'dropReplies'),
    }),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'kill -9 of a replica',
      forMs: long ? 6_000 : 1_600,
      nemesis: killMember({ beforeMs: 800 }),
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
        nemesis: stopMember({ beforeMs: 1_000, forMs: stoppedMs }),
      }),
    ),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'SIGSTOP of two replicas, 20 times 0.4 to 1.3 s',
      forMs: 20_000,
      nemesis: stopTwoAgainAndAgain(),
    }),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'SCRIPT FLUSH, 10 times',
      forMs: 6_000,
      nemesis: order(10, { beforeMs: 400, forMs: 400 }, 'SCRIPT', 'FLUSH'),
    }),
    ...ofBoth({
      ...base,
      ...ALL_CUT,
      name: 'CLIENT KILL TYPE normal, 10 times',
      forMs: 8_000,
      nemesis: order(10, { beforeMs: 500, forMs: 500 }, ...CLIENT_KILL),
    }),
    ...ofBoth({
      ...base,
      ...ALL_CUT,
      name: 'black hole',
      redis: 'proxied',
      forMs: awayMs + 3_000,
      nemesis: loseReplies(times, 'blackHole'),
    }),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'wall clocks an hour before and behind',
      forMs: 6_000,
      replica: (place) => ({ wallOffMs: WALL_OFF_MS[place] ?? 0 }),
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
      nemesis: cutOff(times),
    }),
    ...ofBoth({
      ...base,
      ...LOSS,
      name: 'failover of Sentinel (kill -9 of the master)',
      redis: 'sentinel',
      forMs: 12_000,
      nemesis: failOver({ beforeMs: 1_500 }),
    }),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'the hot slot of a cluster moves, three times',
      redis: 'cluster',
      forMs: 8_000,
      nemesis: moveHotSlot(3, { beforeMs: 1_200 }),
    }),
    ...ofBoth({
      ...base,
      ...NONE,
      name: 'replicas come and go',
      replicas: 2,
      forMs: 12_000,
      nemesis: async ({ members, join }) => {
        await sleep(1_000)
        const first = await join(6_000)
        await sleep(1_500)
        await join(4_000)
        await sleep(1_500)
        members[0]?.leave()
        await first.done
      },
    }),
  ]
}

/** The same through whole gateways, for two limits at once, one strict and one on leases. */
export function gatewayCases(form: Form): GatewayCase[] {
  const long = form === 'long'
  const times = { beforeMs: 4_000, forMs: 5_000 }
  const base = { ...GATEWAYS[form], forMs: 15_000 }
  if (!long)
    return [
      {
        ...base,
        ...LOSS,
        name: 'kill -9 of Redis, empty when back',
        forMs: 4_000,
        nemesis: killRedis({ beforeMs: 1_000, forMs: 1_000 }),
      },
    ]
  return [
    { ...base, ...LOSS, name: 'kill -9 of Redis, empty when back', nemesis: killRedis(times) },
    { ...base, ...ALL_CUT, name: 'SIGSTOP of Redis', nemesis: stopRedis(times) },
    { ...base, ...LOSS, name: 'FLUSHALL', nemesis: order(1, times, 'FLUSHALL') },
    {
      ...base,
      ...NONE,
      name: 'SCRIPT FLUSH, 10 times',
      nemesis: order(10, { beforeMs: 2_000, forMs: 1_000 }, 'SCRIPT', 'FLUSH'),
    },
    {
      ...base,
      ...ALL_CUT,
      name: 'CLIENT KILL TYPE normal, 10 times',
      nemesis: order(10, { beforeMs: 2_000, forMs: 1_000 }, ...CLIENT_KILL),
    },
    {
      ...base,
      ...ALL_CUT,
      name: 'replies dropped',
      redis: 'proxied',
      nemesis: loseReplies(times, 'dropReplies'),
    },
    { ...base, ...ALL_CUT, name: 'black hole', redis: 'proxied', nemesis: loseReplies(times, 'blackHole') },
    { ...base, ...NONE, name: 'kill -9 of a gateway', nemesis: killMember(times) },
    { ...base, ...NONE, name: 'SIGSTOP of a gateway for 5 s', nemesis: stopMember(times) },
    {
      ...base,
      ...NONE,
      name: 'wall clocks an hour before and behind',
      wallOffMs: (place) => WALL_OFF_MS[place] ?? 0,
    },
    {
      ...base,
      ...LOSS,
      name: 'failover of Sentinel (kill -9 of the master)',
      redis: 'sentinel',
      nemesis: failOver(times),
    },
    {
      ...base,
      ...NONE,
      name: 'the hot slot of a cluster moves, three times',
      redis: 'cluster',
      nemesis: moveHotSlot(3, { beforeMs: 3_000 }),
    },
    {
      ...base,
      ...NONE,
      name: 'gateways come and go',
      nemesis: async ({ join, members: [one], excuse }) => {
        await sleep(3_000)
        const leave = await join()
        await sleep(2_000)
        if (one !== undefined) excuse(one)
        one?.kill('SIGTERM')
        await sleep(4_000)
        await leave()
      },
    },
  ]
}

/** Four gateways without a fault. */
export function steadyGateways(form: Form): GatewayCase {
  return { ...GATEWAYS[form], ...NONE, name: 'no fault', forMs: form === 'short' ? 4_000 : 60_000 }
}

const GATEWAYS = {
  short: { gateways: 4, callers: 50, perSecond: 120, capacity: 120, redis: 'alone' },
  long: { gateways: 4, callers: 50, perSecond: 250, capacity: 250, redis: 'alone' },
} as const

const WALL_OFF_MS = [-3_600_000, 3_600_000, 0, 0]
const CLIENT_KILL = ['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes']
