import { expect, test } from 'vitest'
import type { Hands } from '../../../src/cli/commands.ts'
import { runCli, type Setting } from './run.ts'

const NOW = Date.UTC(2027, 0, 1)
const ago = (seconds: number): string => new Date(NOW - seconds * 1_000).toISOString()

const bucket = (limit: number, left: number) => ({ limit, perSecond: 50, left, fullInMs: 0, leasedHere: 0 })
const agent = (name: string, left: number) => ({
  agent: name,
  limits: { kind: 'agent', id: name, toldBy: 'ledgers', sharedBy: 1, requests: bucket(100, left) },
  bearers: [],
})
const deployment = (name: string, over: object = {}) => ({
  deployment: name,
  state: 'available',
  reason: '',
  phase: 'open',
  holdMs: 0,
  share: 1,
  since: ago(300),
  price: { input: 5, cached: 0.5, output: 25 },
  ...over,
})
const STATUS = {
  version: '1.2.3',
  phase: 'ready',
  source: '/etc/sluice/sluice.yaml',
  startedAt: ago(3 * 3_600),
  workers: { live: 2, of: 2 },
  inflight: 12,
  streams: 1,
  overload: { cap: null, loopDelayMs: 1, shedding: [] },
  limits: 'here',
  redis: null,
  routes: [{ route: 'm', tiers: ['sovereign', 'last'] }],
  tiers: [
    {
      tier: 'sovereign',
      balance: 'weighted',
      deployments: [
        { deployment: 'a/one', isReply: false, weight: 3 },
        { deployment: 'b/*', isReply: false, weight: 1 },
      ],
    },
    {
      tier: 'last',
      balance: 'weighted',
      deployments: [{ deployment: 'reply/last', isReply: true, weight: 1 }],
    },
  ],
  deployments: [
    deployment('a/one', {
      state: 'unavailable',
      reason: '503',
      phase: 'held',
      holdMs: 4_200,
      since: ago(12),
    }),
    deployment('b/*', {
      since: null,
      price: 'by model',
      models: [
        { model: 'x\u001b[2J', state: 'low_quota', reason: '429', phase: 'held', holdMs: 900, share: 1 },
      ],
    }),
  ],
  secrets: [
    { secret: 'env:ANTHROPIC_API_KEY', ageSeconds: 86_400, rotateSeconds: 90 * 86_400 },
    { secret: 'file:/run/secrets/a', ageSeconds: 91 * 86_400, rotateSeconds: 90 * 86_400 },
    { secret: 'file:/run/secrets/b', problem: 'is readable by others (0644)' },
  ],
  agents: [agent('planner', 3), agent('idle', 100)],
  agentsLeftOut: 0,
  shared: [],
  leases: { accounts: 0, permits: 0, slots: 0, owed: { requests: 0, tokens: 0 } },
  openHolds: 0,
  waiting: 0,
}

const run = (args: readonly string[], setting: Setting & { told?: object } = {}) => {
  const fetch: Hands['fetch'] = async () => new Response(JSON.stringify(setting.told ?? STATUS))
  return runCli(['status', ...args], {
    env: { SLUICE_ADMIN_TOKEN: 'operator-token' },
    ...setting,
    hands: { fetch, ...setting.hands },
  })
}

test('status shows what there is to know, plain when piped', async () => {
  const { code, out, err } = await run([])
  expect([code, err]).toEqual([0, ''])
  expect(out).toBe(
    [
      'sluice 1.2.3 ready, up 3 h, on /etc/sluice/sluice.yaml',
      '12 requests under way, 1 stream, 2 of 2 workers; limits counted in this process',
      '',
      'tier       deployment   share  state        why                        since           USD per million',
      'sovereign  a/one        75 %   unavailable  503: left alone for 4.2 s  12 s            5 in, 25 out',
      '           b/*          25 %   available                               not called yet  by model',
      '             x?[2J             low_quota    429: left alone for 0.9 s',
      'last       fixed reply',
      '',
      'route  tiers',
      'm      sovereign → last',
      '',
      'who            limit               left  in use  leased here  full in',
      'agent planner  100 requests, 50/s  3',
      '',
      'secret                 age         rotation          last read',
      'env:ANTHROPIC_API_KEY  24 h        due in 89 days    good',
      'file:/run/secrets/a    91 days     overdue for 24 h  good',
      'file:/run/secrets/b    never read                    is readable by others (0644)',
      '',
    ].join('\n'),
  )
})

test('status in parts, of all agents, and for a program', async () => {
  const agents = await run(['--agents'])
  expect(agents.out).toContain('agent idle')
  expect(agents.out).not.toContain('sovereign')
  expect(agents.out).not.toContain('env:')
  const secrets = await run(['--secrets'])
  expect(secrets.out.split('\n')[0]).toMatch(/^secret +age +rotation +last read$/)
  expect(secrets.out).not.toContain('agent')
  const all = await run(['--all'])
  expect(all.out).toContain('agent idle')
  expect(all.out).toContain('sovereign')
  const calm = await run([], { told: { ...STATUS, agents: [agent('idle', 100)] } })
  expect(calm.out).toContain('\nof 1 agent none is near a limit\n')
  const json = await run(['--json'])
  expect(JSON.parse(json.out)).toMatchObject({
    version: '1.2.3',
    tiers: STATUS.tiers,
    secrets: STATUS.secrets,
  })
})

test('status at a terminal has colours, and says when it is overloaded', async () => {
  const told = { ...STATUS, overload: { cap: 40, loopDelayMs: 180, shedding: ['batch', 'normal'] } }
  const { out } = await run([], { isTty: true, told })
  expect(out).toContain('\u001b[31munavailable\u001b[0m')
  expect(out).toContain('\u001b[32mready\u001b[0m')
  expect(out).toContain('\u001b[31moverdue for 24 h\u001b[0m')
  expect(out).toContain('overloaded: no more than 40 under way, the loop is 180 ms late; sheds batch, normal')
})

test('status fails clearly: nobody there, or a gateway of another time', async () => {
  const none = await run([], { hands: { fetch: () => Promise.reject(new TypeError('x')) } })
  expect([none.code, none.err]).toEqual([
    1,
    expect.stringContaining('nobody answers at http://127.0.0.1:7457'),
  ])
  for (const SLUICE_ADMIN_URL of ['nonsense', '127.0.0.1:7457', 'ftp://127.0.0.1']) {
    const wrong = await run([], { env: { SLUICE_ADMIN_TOKEN: 'operator-token', SLUICE_ADMIN_URL } })
    expect([wrong.code, wrong.err]).toEqual([
      1,
      'error: SLUICE_ADMIN_URL is no http address, such as http://127.0.0.1:7457\n',
    ])
  }
  const old = await run([], { told: { version: '0.0.1' } })
  expect([old.code, old.err]).toEqual([1, expect.stringContaining('in a way that this version cannot read')])
})
