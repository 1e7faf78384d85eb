// Whatever callers send, they make no series: models, bearers, paths and mistakes that are all different. Counted on
// `/metrics`, as Prometheus reads it.

import { Pool } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { agentPolicy, makeBearer, startGateway, type TestBearer, type TestGateway } from './gateway.ts'
import type { Form } from './limits-cases.ts'
import { answer, createScriptedProvider, type ScriptedProvider, status } from './scripted-provider.ts'

const REQUESTS: Readonly<Record<Form, number>> = { short: 20_000, long: 100_000 }
/** Of which each has a name of his own in the policies. */
const AGENTS = 2_200
/** Agents with a label of their own. */
const MOST_AGENTS = 2_000
/** In everything that is made up. */
const MARK = 'zq'
const SENDERS = 40

/** Registers the tests. */
export function proveCardinality(form: Form): void {
  const bearers: readonly TestBearer[] = Array.from({ length: AGENTS }, makeBearer)
  let provider: ScriptedProvider
  let gateway: TestGateway
  let pool: Pool

  beforeAll(async () => {
    const good = answer({ pieces: ['Yes.'] })
    provider = await createScriptedProvider({
      record: 'count',
      script: ({ body, index }) => {
        if (!body.includes('FAIL')) return good
        const code = [400, 404, 429, 503][index % 4] ?? 500
        return status(code, {
          error: { message: `${MARK}${index}`, type: `${MARK}${index}`, code: `${MARK}${index}` },
        })
      },
    })
    gateway = await startGateway({
      config: {
        listen: { workers: 2 },
        providers: { p: { format: 'openai', baseUrl: provider.baseUrl } },
        tiers: { all: { deployments: ['p/*'], retries: 0 } },
        routes: { '*': ['all'] },
        log: { level: 'warn' },
      },
      policies: Object.fromEntries(
        bearers.map((bearer, i) => [
          `agent-${i}`,
          agentPolicy(`agent-${i}`, bearer, { deny: ['chat:*-denied'] }),
        ]),
      ),
      startMs: 60_000,
    })
    pool = new Pool(gateway.url, { connections: SENDERS })
  }, 90_000)
  afterAll(async () => {
    await pool?.destroy()
    await gateway?.stop()
    await provider?.close()
  })

  /** One request that is like no other. */
  async function ask(n: number, bearer: string): Promise<number> {
    const name = `${MARK}${n}`
    const body = (more: object) =>
      JSON.stringify({ model: name, messages: [{ role: 'user', content: name }], ...more })
    const kinds = [
      { body: body({}) },
      { body: body({ stream: true }) },
      { body: body({}), bearer: `sk-${name}` },
      { body: body({ model: `${name}-denied` }) },
      { body: body({ messages: [{ role: 'user', content: 'FAIL' }] }) },
      { body: `{"model":"${name}",` },
      { body: body({ [name]: n, stream: name }) },
      { body: body({}), path: `/v1/${name}` },
      { body: body({ input: name }), path: '/v1/embeddings' },
      { body: body({}), method: 'PUT' as const },
      { body: body({}), type: `text/${name}` },
    ]
    const kind = kinds[n % kinds.length] as (typeof kinds)[number] & {
      bearer?: string
      path?: string
      method?: 'PUT'
      type?: string
    }
    const { statusCode, body: answered } = await pool.request({
      method: kind.method ?? 'POST',
      path: kind.path ?? '/v1/chat/completions',
      headers: {
        authorization: `Bearer ${kind.bearer ?? bearer}`,
        'content-type': kind.type ?? 'application/json',
        'x-request-id': name,
        'user-agent': name,
      },
      body: kind.body,
    })
    await answered.dump()
    return statusCode
  }

  /** The requests from `from` on, by a few senders at a time; answers by their status. */
  async function send(
    from: number,
    to: number,
    bearerOf: (n: number) => string,
  ): Promise<Record<number, number>> {
    const seen: Record<number, number> = {}
    let next = from
    const sender = async () => {
      for (let n = next++; n < to; n = next++) {
        const code = await ask(n, bearerOf(n))
        seen[code] = (seen[code] ?? 0) + 1
      }
    }
    await Promise.all(Array.from({ length: SENDERS }, sender))
    return seen
  }

  async function series(): Promise<string[]> {
    const text = await (await fetch(`${gateway.adminUrl}/metrics`)).text()
    return text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.slice(0, line.lastIndexOf(' ')))
  }

  describe(`${REQUESTS[form]} requests, none like another`, () => {
    it('make no series behind the first ones of each kind', { timeout: 400_000 }, async () => {
      const first = bearers[0]?.bearer ?? ''
      await send(0, 2_000, () => first)
      const before = await series()
      const seen = await send(2_000, REQUESTS[form], () => first)
      const after = await series()
      process.stdout.write(
        `\n${REQUESTS[form]} requests: ${before.length} series, then ${after.length}; answers ${JSON.stringify(seen)}\n`,
      )
      // Every kind of them was there.
      for (const code of [200, 400, 401, 403, 404, 405, 415, 503]) expect(seen[code]).toBeGreaterThan(100)
      expect(after.filter((one) => !before.includes(one))).toEqual([])
      expect(after.filter((one) => one.includes(MARK))).toEqual([])
    })

    it(`tell ${MOST_AGENTS} agents apart, and the rest together`, { timeout: 120_000 }, async () => {
      const bearerOf = (n: number) => bearers[Math.floor(n / 11)]?.bearer ?? ''
      // At first each worker sees other agents than the other one does, and of all the same number.
      await send(0, AGENTS, (n) => bearers[n]?.bearer ?? '')
      await send(0, AGENTS * 11, bearerOf)
      const all = await series()
      const agents = new Set(all.map((one) => /agent="([^"]*)"/.exec(one)?.[1]))
      expect(agents).toContain('other')
      // Those, `other`, nobody's, and what has no such label.
      expect(agents.size).toBe(MOST_AGENTS + 3)
      expect(all.filter((one) => one.includes(MARK))).toEqual([])
    })
  })
}
