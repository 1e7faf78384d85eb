// Health checks: when they are made, by whom, and what they come to for health. The provider is played by hand.

import { describe, expect, it } from 'vitest'
import { formats } from '../../../src/formats/index.ts'
import type { HealthCheck, Reason } from '../../../src/types.ts'
import { type ChecksDeps, createChecks } from '../../../src/upstream/checks.ts'
import { createHealth, type StateChange } from '../../../src/upstream/health.ts'
import { createPlaces } from '../../../src/upstream/hint-carriers.ts'
import type { CheckHint } from '../../../src/upstream/hints.ts'
import { createKeys } from '../../../src/upstream/keys.ts'
import type { Receiver } from '../../../src/upstream/kind.ts'
import { createManualClock, type ManualClock } from '../../support/manual-clock.ts'
import { makeDeployment, START_MS, withCode } from './stage.ts'

const NAME = 'p/m'
const EVERY_MS = 10_000

/** How a provider answers a check: a status, an error of the connection, or not at all. */
type Answer = number | Error | 'silence' | 'no connection'

interface Replica {
  readonly health: ReturnType<typeof createHealth>
  readonly checks: ReturnType<typeof createChecks>
  readonly changes: StateChange[]
  readonly told: CheckHint[]
  readonly warnings: Readonly<Record<string, unknown>>[]
  /** URLs and headers of the checks that were made. */
  readonly asked: { readonly url: string; readonly headers: Readonly<Record<string, string>> }[]
  readonly aborts: number
  answer: Answer
}

interface Options {
  readonly time?: ManualClock
  readonly check?: Partial<HealthCheck>
  readonly keys?: readonly string[]
  readonly mayCheck?: ChecksDeps['hints']['mayCheck']
}

const snapshot = ({ check, keys = [] }: Options = {}, names: readonly string[] = [NAME]) => {
  const made = names.map((name) =>
    makeDeployment(
      name,
      {},
      {
        baseUrl: 'http://provider/v1',
        keys,
        headers: { 'x-team': 'agents' },
        health: { path: '/models', everyMs: EVERY_MS, ...check },
      },
    ),
  )
  return {
    deployments: new Map(made.map((one) => [one.name, one])),
    providers: new Map(
      made.flatMap(({ provider }) => (provider ? [[provider.name, provider] as const] : [])),
    ),
  }
}

function create(options: Options = {}): Replica & { readonly time: ManualClock } {
  const time = options.time ?? createManualClock({ nowMs: START_MS })
  const { clock, timers } = time
  const changes: StateChange[] = []
  const told: CheckHint[] = []
  const warnings: Replica['warnings'] = []
  const asked: Replica['asked'] = []
  let aborts = 0
  const health = createHealth({
    clock,
    random: () => 0.5,
    graceMs: () => 0,
    onChange: (change) => changes.push(change),
    hints: { tell() {}, probed() {} },
  })
  const checks = createChecks({
    get(_provider, { url, headers }, receiver) {
      const pairs = headers.flatMap((name, i) => (i % 2 === 0 ? [[name, headers[i + 1] ?? ''] as const] : []))
      asked.push({ url: url.href, headers: Object.fromEntries(pairs) })
      play(replica.answer, receiver)
      return {
        abort() {
          aborts += 1
        },
        pause() {},
        resume() {},
      }
    },
    formats,
    keys: createKeys({ clock, reveal: (reference) => `value of ${reference}` }),
    health,
    hints: {
      tell: (hint) => {
        if (hint.kind === 'checked') told.push(hint)
      },
      mayCheck: options.mayCheck ?? (async () => true),
    },
    clock,
    timers,
    random: () => 0.5,
    log: { warn: (fields) => warnings.push(fields) },
    userAgent: 'sluice/test',
  })
  const replica: Replica & { readonly time: ManualClock } = {
    time,
    health,
    checks,
    changes,
    told,
    warnings,
    asked,
    get aborts() {
      return aborts
    },
    answer: 200,
  }
  checks.use(snapshot(options))
  return replica
}

function play(answer: Answer, receiver: Receiver): void {
  // Not before whoever asks has the hand on it.
  queueMicrotask(() => {
    if (answer === 'no connection') return
    if (answer instanceof Error) return receiver.failed(answer)
    receiver.started()
    if (answer === 'silence') return
    receiver.head(answer, () => undefined)
    receiver.data(Buffer.from('{}'))
    receiver.end()
  })
}

const REFUSED = withCode('ECONNREFUSED')
const fail = (replica: Replica, reason: Reason, times = 5, retryAfterMs?: number): void => {
  for (let i = 0; i < times; i += 1) replica.health.failed(NAME, 'go', { reason, retryAfterMs })
}
const stateOf = (replica: Replica) => replica.health.view()[0]

describe('a check', () => {
  it('asks as often as it is told, as every request does', async () => {
    const replica = create({ keys: ['env:KEY'] })
    await replica.time.advanceAsync(60_000)
    expect(replica.asked).toHaveLength(6)
    expect(replica.asked[0]).toEqual({
      url: 'http://provider/v1/models',
      headers: {
        accept: 'application/json',
        'accept-encoding': 'identity',
        'user-agent': 'sluice/test',
        authorization: 'Bearer value of env:KEY',
        'x-team': 'agents',
      },
    })
    expect(replica.health.view()).toEqual([])
  })

  it('can be beside the path of the API', async () => {
    const replica = create({ check: { path: '/../health' } })
    await replica.time.advanceAsync(1_000)
    expect(replica.asked[0]?.url).toBe('http://provider/health')
  })

  it.each<[Answer, string]>([
    [503, '503'],
    [500, '500'],
    [REFUSED, 'refused'],
    [withCode('ENOTFOUND'), 'dns'],
    [withCode('CERT_HAS_EXPIRED'), 'tls'],
    [withCode('ECONNRESET'), 'reset'],
    ['silence', 'first_byte'],
    ['no connection', 'connect'],
  ])(
    'that ends with %s twice holds the provider back before anybody has called it',
    async (answer, reason) => {
      const replica = create()
      replica.answer = answer
      await replica.time.advanceAsync(13_000)
      expect(replica.health.enter(NAME)).toBe('held')
      expect(replica.changes).toMatchObject([{ to: 'unavailable', reason: `${reason} (health check)` }])
      // And goes on to, so that nobody pays for finding out.
      await replica.time.advanceAsync(120_000)
      expect(replica.health.enter(NAME)).toBe('held')
      expect(replica.changes).toHaveLength(1)
    },
  )

  it('that fails once is made again within a second or so, and means nothing alone', async () => {
    const replica = create()
    replica.answer = 503
    await replica.time.advanceAsync(600)
    expect(replica.asked).toHaveLength(1)
    replica.answer = 200
    await replica.time.advanceAsync(1_000)
    expect(replica.asked).toHaveLength(2)
    expect(replica.health.enter(NAME)).toBe('go')
    await replica.time.advanceAsync(9_000)
    expect(replica.asked).toHaveLength(2)
  })

  it.each([301, 400, 401, 403, 404, 405, 429, 501])(
    'that ends with %d changes nothing, and is told of once',
    async (status) => {
      const replica = create()
      replica.answer = status
      await replica.time.advanceAsync(60_000)
      expect(replica.health.view()).toEqual([])
      expect(replica.warnings).toEqual([{ provider: 'p', path: '/models', status }])
    },
  )

  it('gives up what is silent, and what never ends', async () => {
    const replica = create()
    replica.answer = 'silence'
    await replica.time.advanceAsync(5_600)
    expect(replica.aborts).toBe(1)
  })

  it('of a provider that is seldom asked comes more often while it is away', async () => {
    const replica = create({ check: { everyMs: 3_600_000 } })
    replica.answer = REFUSED
    await replica.time.advanceAsync(62_000)
    expect(replica.asked.length).toBeGreaterThanOrEqual(7)
    expect(replica.health.holdMs(NAME)).toBeLessThan(20_000)
    replica.answer = 200
    await replica.time.advanceAsync(10_000)
    expect(replica.health.enter(NAME)).toBe('probe')
    const before = replica.asked.length
    await replica.time.advanceAsync(3_000_000)
    expect(replica.asked).toHaveLength(before)
  })

  it('does not outweigh a request that was answered', async () => {
    const replica = create()
    replica.answer = 503
    await replica.time.advanceAsync(1_000)
    const answered = setEvery(replica.time, 5_000, () => replica.health.succeeded(NAME, 'go'))
    await replica.time.advanceAsync(60_000)
    expect(replica.health.enter(NAME)).toBe('go')
    answered.stop()
    await replica.time.advanceAsync(25_000)
    expect(replica.health.enter(NAME)).toBe('held')
  })
})

describe('a good check', () => {
  it('lets the probe begin at once where nobody could get through', async () => {
    const replica = create()
    await replica.time.advanceAsync(9_000)
    fail(replica, 'refused')
    expect(replica.health.holdMs(NAME)).toBe(5_000)
    await replica.time.advanceAsync(1_600)
    expect(stateOf(replica)?.phase).toBe('probing')
    // It is the request that decides.
    expect([replica.health.enter(NAME), replica.health.enter(NAME)]).toEqual(['probe', 'held'])
  })

  it('lets it begin where checks had failed', async () => {
    const replica = create({ check: { everyMs: 1_000 } })
    replica.answer = 503
    await replica.time.advanceAsync(5_000)
    expect(stateOf(replica)?.phase).toBe('held')
    replica.answer = 200
    await replica.time.advanceAsync(1_000)
    expect(stateOf(replica)?.phase).toBe('probing')
  })

  it('is no news of a server that is there and fails at every request', async () => {
    const replica = create({ check: { everyMs: 1_000 } })
    await replica.time.advanceAsync(500)
    fail(replica, '500')
    await replica.time.advanceAsync(4_900)
    expect(replica.health.enter(NAME)).toBe('held')
  })

  it.each([
    ['a retry-after', () => (replica: Replica) => fail(replica, '503', 1, 60_000)],
    ['a rate limit that says when it ends', () => (replica: Replica) => fail(replica, '429', 1, 60_000)],
    ['a rate limit that does not', () => (replica: Replica) => fail(replica, '429')],
    ['silence', () => (replica: Replica) => fail(replica, 'first_token', 1)],
  ])('does not shorten %s, not even one behind a failed one', async (_, make) => {
    const replica = create({ check: { everyMs: 1_000 } })
    replica.answer = 503
    await replica.time.advanceAsync(600)
    replica.answer = 200
    make()(replica)
    const holdMs = replica.health.holdMs(NAME)
    await replica.time.advanceAsync(holdMs - 1)
    expect(replica.health.holdMs(NAME)).toBeCloseTo(1, 5)
    expect(replica.health.enter(NAME)).toBe('held')
  })

  it('keeps the word of a provider over failed checks', async () => {
    const replica = create({ check: { everyMs: 1_000 } })
    await replica.time.advanceAsync(600)
    fail(replica, '429', 1, 30_000)
    replica.answer = 503
    await replica.time.advanceAsync(10_000)
    replica.answer = 200
    await replica.time.advanceAsync(19_999)
    expect(replica.health.enter(NAME, { class: 'normal', force: true })).toBe('held')
    await replica.time.advanceAsync(1)
    expect(replica.health.enter(NAME)).toBe('probe')
  })
})

describe('a new configuration', () => {
  it('begins and ends checks, and leaves the others in their turn', async () => {
    const replica = create()
    await replica.time.advanceAsync(5_000)
    replica.checks.use(snapshot({}, [NAME, 'q/m']))
    await replica.time.advanceAsync(5_000)
    expect(replica.asked).toHaveLength(2)
    await replica.time.advanceAsync(1_000)
    expect(replica.asked).toHaveLength(3)
    replica.checks.use(snapshot({}, ['q/m']))
    await replica.time.advanceAsync(30_000)
    expect(replica.asked).toHaveLength(6)
    replica.checks.use(snapshot({ check: { path: '/other' } }, ['q/m']))
    await replica.time.advanceAsync(1_000)
    expect(replica.asked.at(-1)?.url).toBe('http://provider/v1/other')
  })

  it('keeps what is known: a reload resets no breaker', async () => {
    const replica = create()
    replica.answer = REFUSED
    await replica.time.advanceAsync(13_000)
    replica.checks.use(snapshot())
    expect(replica.health.enter(NAME)).toBe('held')
  })

  it.each([200, 'silence'] as const)(
    'is the last one: nothing is left behind while a check meets %s',
    async (answer) => {
      const replica = create()
      replica.answer = answer
      await replica.time.advanceAsync(600)
      replica.checks.close()
      await replica.time.advanceAsync(0)
      expect(replica.time.pending).toBe(0)
      await replica.time.advanceAsync(60_000)
      expect(replica.asked).toHaveLength(1)
    },
  )
})

describe('replicas', () => {
  /** Some that hear each other and have one place for the one who checks. */
  function fleet(count: number): { readonly time: ManualClock; readonly replicas: readonly Replica[] } {
    const time = createManualClock({ nowMs: START_MS })
    const places = createPlaces(time.clock)
    const replicas = Array.from({ length: count }, (_, id) =>
      create({ time, mayCheck: async (provider, ms) => places.take(provider, id, ms) }),
    )
    for (const replica of replicas) {
      const push = replica.told.push.bind(replica.told)
      replica.told.push = (...hints) => {
        for (const other of replicas)
          if (other !== replica) for (const hint of hints) other.checks.learn(hint)
        return push(...hints)
      }
    }
    return { time, replicas }
  }
  const asked = (replicas: readonly Replica[]): number =>
    replicas.reduce((sum, one) => sum + one.asked.length, 0)

  it('check once for all of them', async () => {
    const { time, replicas } = fleet(4)
    await time.advanceAsync(100_000)
    expect(asked(replicas)).toBeGreaterThanOrEqual(9)
    expect(asked(replicas)).toBeLessThanOrEqual(13)
  })

  it('hold back together what a provider says to one of them', async () => {
    const { time, replicas } = fleet(3)
    for (const replica of replicas) replica.answer = 503
    await time.advanceAsync(15_000)
    expect(replicas.map(({ health }) => health.enter(NAME))).toEqual(['held', 'held', 'held'])
    expect(asked(replicas)).toBeLessThanOrEqual(5)
    for (const replica of replicas) replica.answer = 200
    await time.advanceAsync(12_000)
    expect(replicas.map((one) => stateOf(one)?.phase)).toEqual(['probing', 'probing', 'probing'])
  })

  it('look for themselves where one cannot get there', async () => {
    const { time, replicas } = fleet(3)
    const [first, second, third] = replicas
    if (first === undefined) throw new Error('no replica')
    first.answer = REFUSED
    await time.advanceAsync(60_000)
    expect(first.health.enter(NAME)).toBe('held')
    expect([second, third].map((one) => one?.health.enter(NAME))).toEqual(['go', 'go'])
    expect(second?.asked.length).toBeGreaterThan(0)
    // What the others find is not taken for its own way.
    expect(first.health.enter(NAME)).toBe('held')
    first.answer = 200
    await time.advanceAsync(13_000)
    expect(stateOf(first)?.phase).toBe('probing')
  })

  it('find all of them that nobody can get there', async () => {
    const { time, replicas } = fleet(3)
    for (const replica of replicas) replica.answer = REFUSED
    await time.advanceAsync(20_000)
    expect(replicas.map(({ health }) => health.enter(NAME))).toEqual(['held', 'held', 'held'])
    // Each looks for himself every 10 s, no more for hearing of it, and one of them tells.
    const [made, told] = [asked(replicas), replicas.flatMap((one) => one.told).length]
    await time.advanceAsync(60_000)
    expect(asked(replicas) - made).toBeLessThanOrEqual(3 * 7)
    expect(replicas.flatMap((one) => one.told).length - told).toBeLessThanOrEqual(7)
  })
})

/** Runs something again and again on the clock of a test. */
function setEvery({ timers }: ManualClock, ms: number, run: () => void): { stop(): void } {
  let isOver = false
  const again = (): void => {
    if (isOver) return
    run()
    timers.set(ms, again)
  }
  again()
  return {
    stop() {
      isOver = true
    },
  }
}
