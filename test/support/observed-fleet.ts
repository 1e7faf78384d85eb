// Two gateways (one of them of two workers), a Redis, providers that do what they are told, and agents who call all the
// time, each in his own way; a real Prometheus looks at it each second.

import { utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'
import { makeAgents } from './agents.ts'
import { startGateway, type TestGateway } from './gateway.ts'
import { hoursFromNow } from './hours.ts'
import { freePort } from './ports.ts'
import { type Prometheus, startPrometheus } from './prometheus.ts'
import { startRedis, type TestRedis } from './redis.ts'
import { temporaryFolder } from './run-folder.ts'
import { answer, createScriptedProvider, type ScriptedProvider, status } from './scripted-provider.ts'

/** What the rules call five minutes. */
export const WINDOW_S = 15
const WINDOW = `${WINDOW_S}s`

/** `wait`: how long an agent queues for his turn. */
const LIMITS = {
  planner: { requests: '2000/s', concurrency: 200 },
  analyst: { requests: { capacity: 2, refill: '2/s' } },
  writer: { requests: { capacity: 2, refill: '8/s' }, wait: '4s' },
  monitor: { budget: '0.05 USD/month' },
  clerk: { requests: '200/s' },
} as const
export type AgentName = keyof typeof LIMITS
const agents = makeAgents<AgentName>(LIMITS)

const PRICE = { input: 3, cached: 0.3, output: 15 }
const usage = (input: number, cached: number, output: number) => ({
  prompt_tokens: input,
  completion_tokens: output,
  total_tokens: input + output,
  prompt_tokens_details: { cached_tokens: cached },
  completion_tokens_details: { reasoning_tokens: Math.floor(output / 3) },
})
/** Dollars that one answer of the frontier costs. */
export const ANSWER_USD = (300 * 3 + 100 * 0.3 + 60 * 15) / 1e6

/** Asked for by a prompt with this word. */
export const FAIL = 'FAIL'

/** Who is asked for what, and how often a second. */
const HABITS = [
  { agent: 'planner', model: 'auto', stream: true, perSecond: 8 },
  { agent: 'planner', model: 'auto', stream: false, perSecond: 3 },
  { agent: 'analyst', model: 'gpt-oss-120b', stream: false, perSecond: 4 },
  { agent: 'clerk', model: 'archive', stream: true, perSecond: 2 },
] as const

export interface ObservedFleet {
  readonly prometheus: Prometheus
  readonly frontier: ScriptedProvider
  readonly spare: ScriptedProvider
  /** What the frontier does when it is well. */
  readonly well: ReturnType<typeof answer>
  redis: TestRedis
  /** By statuses, what callers got so far. */
  readonly seen: Readonly<Record<string, number>>
  /** The address of the second gateway's operators' port, as Prometheus names it. */
  readonly second: string
  /** The same of the first one. */
  readonly first: string
  ask(agent: AgentName, model: string, more?: { content?: string; stream?: boolean }): Promise<number>
  /** So many requests a second of one agent beside the others, for a time. */
  burst(agent: AgentName, model: string, over: { perSecond: number; forMs: number }): Promise<void>
  restartRedis(): Promise<void>
  killSecond(): Promise<void>
  startSecond(): Promise<void>
  /** What `SluiceSecretOld` is about. */
  readonly spareKey: string
  /** Another key of the spare, as old as that. */
  writeSpareKey(value: string, daysAgo: number): void
  /** Takes the bearer of an agent away. */
  revoke(agent: AgentName): void
  stop(): Promise<void>
}

/** The rules with short times: a window of seconds, and hardly any waiting. */
export function hasten(rules: string): string {
  return rules
    .replaceAll('[5m]', `[${WINDOW}]`)
    .replaceAll('offset 5m', `offset ${WINDOW}`)
    .replace(/for: \w+/g, 'for: 2s')
}

export async function startObservedFleet(): Promise<ObservedFleet> {
  const well = answer({ firstMs: 60, everyMs: 15, usage: usage(400, 100, 60), usageIn: 'asked' })
  const [frontier, local, spare, cold] = await Promise.all([
    createScriptedProvider({ record: 'count', script: well }),
    createScriptedProvider({
      record: 'count',
      script: answer({ firstMs: 25, everyMs: 4, usage: usage(350, 0, 40), usageIn: 'asked' }),
    }),
    createScriptedProvider({ record: 'count', script: answer({ firstMs: 10 }) }),
    createScriptedProvider({
      record: 'count',
      script: ({ body }) => (body.includes(FAIL) ? status(503) : answer({ firstMs: 150, everyMs: 40 })),
    }),
  ])
  let redis = await startRedis()
  const spareKey = join(temporaryFolder('keys'), 'spare')
  const writeSpareKey = (value: string, daysAgo: number): void => {
    writeFileSync(spareKey, value, { mode: 0o600 })
    utimesSync(spareKey, 0, Date.now() / 1000 - daysAgo * 86_400)
  }
  writeSpareKey('the-first-key-of-the-spare', 80)
  // Of each gateway that of agents and that of operators: one that is started again has the same ones.
  const ports = [await freePort(), await freePort(), await freePort(), await freePort()] as const
  const configOf = (port: number, adminPort: number, workers: number) => ({
    listen: { port, workers, drain: '2s', drainNotice: '0s' },
    admin: { port: adminPort },
    redis: { url: redis.url },
    providers: {
      frontier: {
        format: 'openai',
        baseUrl: frontier.baseUrl,
        apiKey: { from: 'env:FRONTIER_KEY', hours: hoursFromNow(-1, 3) },
      },
      local: { format: 'openai', baseUrl: local.baseUrl },
      spare: {
        format: 'openai',
        baseUrl: spare.baseUrl,
        apiKey: { from: `file:${spareKey}`, rotate: '90d' },
      },
      night: {
        format: 'openai',
        baseUrl: spare.baseUrl,
        apiKey: { from: 'env:NIGHT_KEY', hours: hoursFromNow(2, -2) },
      },
      cold: { format: 'openai', baseUrl: cold.baseUrl },
    },
    tiers: {
      sovereign: { deployments: [{ use: 'frontier/claude-opus', price: PRICE }], firstToken: '1s' },
      execution: { deployments: [{ use: 'local/gpt-oss-120b', price: { input: 0.1, output: 0.4 } }] },
      // Nobody says what it costs.
      fast: { deployments: ['spare/flash'], firstToken: '1s' },
      archive: { deployments: ['cold/archivist'], retries: 0 },
      night: { deployments: ['night/owl'] },
    },
    routes: {
      auto: ['sovereign', 'execution', 'fast'],
      'gpt-oss-120b': ['execution', 'fast'],
      flash: ['fast'],
      archive: ['archive'],
      night: ['night'],
    },
    failover: { grace: '500ms' },
  })
  const start = (port: number, adminPort: number, workers: number): Promise<TestGateway> =>
    startGateway({
      config: configOf(port, adminPort, workers),
      policies: agents.policies,
      env: { FRONTIER_KEY: 'a-key-of-the-frontier', NIGHT_KEY: 'a-key-of-the-night' },
    })
  const gateways: [TestGateway, TestGateway] = [
    await start(ports[0], ports[1], 2),
    await start(ports[2], ports[3], 1),
  ]
  const prometheus = await startPrometheus({ targets: [ports[1], ports[3]], rules: hasten })
  const pools = [ports[0], ports[2]].map((port) => new Pool(`http://127.0.0.1:${port}`, { connections: 50 }))
  const seen: Record<string, number> = {}
  /** Where requests go by turns; one that is down is left out, as a balancer would. */
  let live: readonly Pool[] = pools
  let turn = 0

  async function ask(
    agent: AgentName,
    model: string,
    { content = 'Hello.', stream = false }: { content?: string; stream?: boolean } = {},
  ): Promise<number> {
    turn += 1
    const pool = live[turn % live.length] as Pool
    let code = 0
    try {
      const { statusCode, body } = await pool.request({
        method: 'POST',
        path: '/v1/chat/completions',
        headers: { authorization: `Bearer ${agents.bearerOf(agent)}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model, stream, max_tokens: 60, messages: [{ role: 'user', content }] }),
      })
      await body.dump()
      code = statusCode
    } catch {
      // 0: no answer at all.
    }
    seen[code] = (seen[code] ?? 0) + 1
    return code
  }

  async function paced(perSecond: number, goesOn: () => boolean, one: () => Promise<unknown>): Promise<void> {
    const open = new Set<Promise<unknown>>()
    for (let dueMs = performance.now(); goesOn(); ) {
      dueMs += (1_000 / perSecond) * (0.5 + Math.random())
      await sleep(Math.max(dueMs - performance.now(), 1))
      const asked = one()
      open.add(asked)
      void asked.finally(() => open.delete(asked))
    }
    await Promise.all(open)
  }

  let stopped = false
  const habits = HABITS.map(({ agent, model, stream, perSecond }) =>
    paced(
      perSecond,
      () => !stopped,
      () => ask(agent, model, { stream }),
    ),
  )
  return {
    prometheus,
    frontier,
    spare,
    well,
    seen,
    get redis() {
      return redis
    },
    first: `127.0.0.1:${ports[1]}`,
    second: `127.0.0.1:${ports[3]}`,
    ask,
    async burst(agent, model, { perSecond, forMs }) {
      const endMs = performance.now() + forMs
      await paced(
        perSecond,
        () => performance.now() < endMs,
        () => ask(agent, model),
      )
    },
    async restartRedis() {
      redis = await startRedis({ port: redis.port })
    },
    async killSecond() {
      live = pools.slice(0, 1)
      // What is under way ends first: this is about a gateway that is gone, not about its callers.
      await sleep(1_500)
      await gateways[1].kill9()
    },
    async startSecond() {
      gateways[1] = await start(ports[2], ports[3], 1)
      live = pools
    },
    spareKey,
    writeSpareKey,
    revoke(agent) {
      for (const gateway of gateways) gateway.removePolicy(agent)
    },
    async stop() {
      stopped = true
      await Promise.all(habits)
      await Promise.all(pools.map((pool) => pool.destroy()))
      await prometheus.stop()
      await Promise.all(gateways.map((gateway) => gateway.stop()))
      await Promise.all([frontier, local, spare, cold].map((provider) => provider.close()))
      await redis.stop()
    },
  }
}
