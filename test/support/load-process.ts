// Callers of gateways, in a process of their own: each asks, reads the answer, pauses, and asks again. The moment of
// sending travels in the prompt (`@µs@label`), so that whoever receives it knows both ends of the interval.

import { Pool } from 'undici'

export interface LoadTarget {
  /** Origin of a gateway. */
  readonly url: string
  readonly bearer: string
  readonly model: string
  readonly label: string
  readonly callers: number
}

export interface LoadJob {
  readonly targets: readonly LoadTarget[]
  /** Attempts of all callers together. */
  readonly perSecond: number
  readonly forMs: number
}

export interface LoadFigures {
  /** What callers saw at each gateway, by its origin. */
  readonly at: Readonly<Record<string, GatewaySeen>>
}

export interface GatewaySeen {
  /** Answers by status; 0 where there was none. */
  readonly statuses: Readonly<Record<string, number>>
  readonly longestMs: number
  readonly p99Ms: number
}

if (process.send !== undefined) process.once('message', (job) => void run(job as LoadJob))

async function run({ targets, perSecond, forMs }: LoadJob): Promise<void> {
  const all = targets.reduce((sum, { callers }) => sum + callers, 0)
  const pauseMs = (all / perSecond) * 1000
  const startMs = performance.now()
  const stopAt = startMs + forMs
  const seen = new Map<string, { statuses: Record<string, number>; tookMs: number[] }>()

  async function call(pool: Pool, { url, bearer, model, label }: LoadTarget): Promise<void> {
    const { statuses, tookMs } = seen.get(url) ?? { statuses: {}, tookMs: [] }
    seen.set(url, { statuses, tookMs })
    // Not all at once, or the first second would be all there is to see.
    await pause(Math.random() * Math.min(pauseMs, 500))
    for (let dueMs = performance.now(); performance.now() < stopAt; ) {
      const content = `@${process.hrtime.bigint() / 1000n}@${label}`
      const sentMs = performance.now()
      let status = 0
      try {
        const { statusCode, body } = await pool.request({
          method: 'POST',
          path: '/v1/chat/completions',
          headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
          body: JSON.stringify({ model, messages: [{ role: 'user', content }], max_tokens: 5 }),
        })
        await body.dump()
        status = statusCode
      } catch {
        // Counted as 0.
      }
      tookMs.push(performance.now() - sentMs)
      statuses[status] = (statuses[status] ?? 0) + 1
      // Paced by the clock and not by the answers: what was slow is caught up with.
      dueMs = Math.max(dueMs + pauseMs * (0.5 + Math.random()), performance.now() - pauseMs)
      await pause(Math.min(dueMs, stopAt) - performance.now())
    }
  }

  const pools: Pool[] = []
  await Promise.all(
    targets.flatMap((target) => {
      const pool = new Pool(target.url, { connections: target.callers, pipelining: 1 })
      pools.push(pool)
      return Array.from({ length: target.callers }, () => call(pool, target))
    }),
  )
  const at: Record<string, GatewaySeen> = {}
  for (const [url, { statuses, tookMs }] of seen) {
    tookMs.sort((a, b) => a - b)
    at[url] = {
      statuses,
      longestMs: tookMs.at(-1) ?? 0,
      p99Ms: tookMs[Math.floor(tookMs.length * 0.99)] ?? 0,
    }
  }
  await Promise.all(pools.map((pool) => pool.destroy()))
  process.send?.({ at } satisfies LoadFigures, () => process.exit(0))
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    if (ms <= 0) setImmediate(resolve)
    else setTimeout(resolve, Math.ceil(ms))
  })
}
