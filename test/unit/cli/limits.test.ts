import { expect, test } from 'vitest'
import type { Hands } from '../../../src/cli/commands.ts'
import { runCli, type Setting } from './run.ts'

const ENV = { SLUICE_ADMIN_TOKEN: 'operator-token' }

const bucket = (limit: number, perSecond: number, left: number | null, more: object = {}) => ({
  limit,
  perSecond,
  left,
  fullInMs: left === null ? null : ((limit - left) / perSecond) * 1000,
  leasedHere: 0,
  ...more,
})
const TOLD = { toldBy: 'ledgers', sharedBy: 1 }
const STATUS = {
  version: '1.2.3',
  limits: 'redis',
  redis: { up: true, since: '2026-12-31T23:10:00.000Z', fleet: 2, divisor: 2, onOutage: 'local', trips: 9 },
  agents: [
    {
      agent: 'planner',
      limits: {
        ...TOLD,
        kind: 'agent',
        id: 'planner',
        requests: bucket(100, 50, 82, { leasedHere: 12 }),
        tokens: bucket(200_000, 200_000 / 60, 12_000),
        concurrency: { limit: 3, left: 0, inUse: 3, usedHere: 1, leasedHere: 0 },
        budget: {
          limitUsd: 20,
          period: 'day',
          leftUsd: 18.2,
          spentUsd: 1.8,
          leasedHereUsd: 0.4,
          endsAt: '2027-01-02T00:00:00.000Z',
        },
      },
      bearers: [{ ...TOLD, kind: 'bearer', id: 'laptop', requests: bucket(10, 1 / 3600, 0) }],
    },
    { agent: 'free', limits: null, bearers: [] },
  ],
  agentsLeftOut: 0,
  shared: [
    {
      ...TOLD,
      kind: 'gateway',
      id: 'gateway',
      concurrency: { limit: 1000, left: 1000, inUse: 0, usedHere: 0, leasedHere: 0 },
    },
    { ...TOLD, kind: 'route', id: 'auto', requests: bucket(1000, 1000 / 7, 1000) },
  ],
  leases: { accounts: 4, permits: 12, slots: 1, owed: { requests: 0, tokens: 0 } },
  openHolds: 1,
  waiting: 0,
}

/** A gateway that gives these answers in turn, and then none. */
function answering(...answers: readonly (object | string)[]) {
  const asked: string[] = []
  const hands: Partial<Hands> = {
    fetch: async (input, init) => {
      const request = new Request(input, init)
      asked.push(`${request.method} ${request.url} ${request.headers.get('authorization')}`)
      const next = answers[asked.length - 1]
      if (next === undefined) throw new TypeError('fetch failed')
      if (next instanceof Response) return next
      return new Response(typeof next === 'string' ? next : JSON.stringify(next))
    },
    wait: async () => {},
  }
  return { asked, hands }
}

const run = (args: readonly string[], setting: Setting) =>
  runCli(['limits', ...args], { env: ENV, ...setting })

test('limits prints a table, plain when piped', async () => {
  const { asked, hands } = answering(STATUS)
  const { code, out, err } = await run([], { hands })
  expect([code, err]).toEqual([0, ''])
  expect(out).toBe(
    [
      'counted in Redis for 2 replicas',
      '',
      'who                    limit                        left       in use     leased here  full in',
      'agent planner          100 requests, 50/s           82                    12           0.4 s',
      '                       200,000 tokens, 200,000/min  12,000                             57 s',
      '                       3 at once                    0          3, 1 here',
      '                       20 USD/day                   18.20 USD  1.80 USD   0.40 USD     24 h',
      'bearer planner/laptop  10 requests, 1/h             0                                  10 h',
      'agent free             no limits',
      'gateway                1,000 at once                1,000',
      'route auto             1,000 requests, 142.9/s      1,000',
      '',
    ].join('\n'),
  )
  expect(asked).toEqual(['GET http://127.0.0.1:7457/status Bearer operator-token'])
})

test('limits at a terminal shows how much is left, and in which state', async () => {
  const { hands } = answering(STATUS, STATUS)
  const { out } = await run([], { hands, isTty: true })
  expect(out).toContain('████████░░ 82 ')
  expect(out).toContain('\u001b[33m█░░░░░░░░░ 12,000\u001b[0m')
  expect(out).toContain('\u001b[31m░░░░░░░░░░ 0\u001b[0m')
  // The columns stand under one another whatever the colours.
  const shown = out.replaceAll(/\u001b\[\d+m/g, '').split('\n')
  const at = shown.find((line) => line.startsWith('who'))?.indexOf('leased here')
  expect(shown.find((line) => line.startsWith('agent planner'))?.indexOf(' 12 ')).toBe((at ?? 0) - 1)
  const plain = await run([], { hands, isTty: true, env: { ...ENV, NO_COLOR: '1' } })
  expect(plain.out).not.toContain('\u001b')
})

test('limits of one agent, and for a program', async () => {
  const { asked, hands } = answering(STATUS)
  const { code, out } = await run(['plan ner', '--json'], { hands })
  expect(code).toBe(0)
  const { version: _, ...told } = STATUS
  expect(JSON.parse(out)).toEqual(told)
  expect(asked).toEqual(['GET http://127.0.0.1:7457/status?agent=plan+ner Bearer operator-token'])
})

test('limits tell of an outage, and of what nobody knows', async () => {
  const away = {
    ...STATUS,
    limits: 'outage',
    redis: { ...STATUS.redis, up: false },
    waiting: 3,
    agentsLeftOut: 7,
    agents: [
      {
        agent: 'planner',
        bearers: [],
        limits: {
          kind: 'agent',
          id: 'planner',
          toldBy: 'share',
          sharedBy: 2,
          budget: {
            limitUsd: 20,
            period: 'month',
            leftUsd: null,
            spentUsd: null,
            leasedHereUsd: 0,
            endsAt: '2027-02-01T00:00:00Z',
          },
        },
      },
    ],
    shared: [],
  }
  const { out } = await run([], { hands: answering(away).hands })
  expect(out).toBe(
    [
      'Redis is away since 23:10:00 UTC: this replica admits its share, 1/2 of each limit, and no money, 3 requests waiting here',
      '',
      'who            limit         left  in use  leased here  full in',
      'agent planner  20 USD/month  ?     ?                    31 days',
      '',
      'and 7 more agents: name one to see it',
      '',
    ].join('\n'),
  )
  const deny = { ...away, redis: { ...away.redis, onOutage: 'deny' } }
  expect((await run([], { hands: answering(deny).hands })).out).toContain('whoever has limits is refused')
  const here = { ...STATUS, limits: 'here', redis: null }
  expect((await run([], { hands: answering(here).hands })).out).toMatch(/^counted in this process\n/)
})

test('limits --watch looks again, until the gateway is gone', async () => {
  const waits: number[] = []
  const { hands } = answering(STATUS, STATUS, STATUS)
  const wait = async (ms: number) => void waits.push(ms)
  const piped = await run(['--watch'], { hands: { ...hands, wait } })
  expect(waits).toEqual([1000, 1000, 1000])
  expect(piped.code).toBe(1)
  expect(piped.out.match(/counted in Redis/g)).toHaveLength(3)
  expect(piped.out).not.toContain('\u001b')
  expect(piped.err).toContain('nobody answers')

  const json = await run(['--watch', '--json'], { hands: answering(STATUS, STATUS).hands })
  expect(
    json.out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).openHolds),
  ).toEqual([1, 1])

  const seen = await run(['--watch'], { hands: answering(STATUS).hands, isTty: true, rows: 8 })
  expect(seen.out.startsWith('\u001b[H')).toBe(true)
  expect(seen.out.split('\n').length).toBeLessThanOrEqual(8)
  expect(seen.out).toContain('more lines')
})

test('limits says why it cannot tell', async () => {
  expect(await run([], { hands: answering().hands })).toMatchObject({
    code: 1,
    out: '',
    err: expect.stringContaining('nobody answers at http://127.0.0.1:7457'),
  })
  expect(await run([], { env: {} })).toMatchObject({
    code: 1,
    err: expect.stringContaining('SLUICE_ADMIN_TOKEN is not set'),
  })
  const unknown = new Response(
    JSON.stringify({ error: { message: 'There is no\u001b[2J agent of that name.' } }),
    {
      status: 404,
    },
  )
  expect(await run(['nobody'], { hands: answering(unknown).hands })).toMatchObject({
    code: 1,
    err: 'error: There is no?[2J agent of that name.\n',
  })
  for (const strange of ['<html>', {}, { ...STATUS, agents: 'many' }])
    expect(await run([], { hands: answering(strange).hands })).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringContaining('cannot read'),
    })
})

test('limits with words it does not know is wrong usage', async () => {
  for (const args of [
    ['--every', '2'],
    ['planner', 'analyst'],
  ])
    expect((await run(args, {})).code).toBe(2)
})

test('names do not steer the terminal', async () => {
  const agents = [{ agent: 'a\u001b[2J', limits: null, bearers: [] }]
  const { out } = await run([], { hands: answering({ ...STATUS, agents }).hands, isTty: true })
  expect(out).toContain('a?[2J')
})
