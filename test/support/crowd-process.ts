// Callers who do not wait for one another, in a process of their own: so many requests a second come, answered or not,
// as from a fleet that is larger than the gateway can serve. What became of each is told at the end.

import { Agent } from 'undici'
import { exited, spawnTracked } from './run-folder.ts'

export interface Crowd {
  readonly label: string
  readonly bearer: string
  readonly perSecond: number
  /** Of the prompt. */
  readonly promptBytes: number
  /** Asked for, streamed. */
  readonly outputTokens: number
}

export interface CrowdJob {
  /** Origin of a gateway. */
  readonly url: string
  readonly crowds: readonly Crowd[]
  readonly forMs: number
}

export interface CrowdSeen {
  readonly sent: number
  /** Answers by status, and `lost` where there was none or it broke off. */
  readonly statuses: Readonly<Record<string, number>>
  /** `retry-after-ms` of those with 503. */
  readonly waitsMs: readonly number[]
}

export type CrowdFigures = Readonly<Record<string, CrowdSeen>>

/** Runs a crowd; gives what became of each request, by label, when the last has been answered. */
export async function runCrowd(job: CrowdJob): Promise<CrowdFigures> {
  const child = spawnTracked(process.execPath, [import.meta.filename], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  try {
    child.send(job)
    return await new Promise<CrowdFigures>((resolve, reject) => {
      child.once('message', (figures) => resolve(figures as CrowdFigures))
      void exited(child).then(() => setTimeout(() => reject(new Error('the crowd died')), 50))
    })
  } finally {
    child.kill('SIGKILL')
    await exited(child)
  }
}

/** Of each crowd; kept open, as agents keep theirs. Who finds none free waits for one. */
const CONNECTIONS = 100
const EVERY_MS = 5

async function crowd({ url, crowds, forMs }: CrowdJob): Promise<CrowdFigures> {
  const startMs = performance.now()
  const open: Promise<void>[] = []
  const all = crowds.map((one) => {
    const { label, bearer, promptBytes, outputTokens } = one
    const body = JSON.stringify({
      model: 'm',
      stream: true,
      max_tokens: outputTokens,
      messages: [{ role: 'user', content: 'word '.repeat(promptBytes / 5) }],
    })
    const agent = new Agent({ connections: CONNECTIONS, pipelining: 1, headersTimeout: 30_000 })
    const statuses: Record<string, number> = {}
    const waitsMs: number[] = []
    let sent = 0

    async function call(): Promise<void> {
      let status = 'lost'
      try {
        const answer = await agent.request({
          origin: url,
          method: 'POST',
          path: '/v1/chat/completions',
          headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
          body,
        })
        const text = await answer.body.text()
        const isWhole = answer.statusCode !== 200 || text.endsWith('data: [DONE]\n\n')
        if (isWhole) status = String(answer.statusCode)
        if (status === '503') waitsMs.push(Number(answer.headers['retry-after-ms']))
      } catch {
        // Counted as lost.
      }
      statuses[status] = (statuses[status] ?? 0) + 1
    }

    return {
      label,
      /** Sends what is due by now. */
      catchUp(nowMs: number) {
        for (const due = ((nowMs - startMs) / 1000) * one.perSecond; sent < due; sent += 1) open.push(call())
      },
      leave: () => agent.destroy(),
      seen: (): CrowdSeen => ({ sent, statuses, waitsMs }),
    }
  })
  for (let nowMs = startMs; nowMs < startMs + forMs; nowMs = performance.now()) {
    for (const one of all) one.catchUp(nowMs)
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
  }
  await Promise.all(open)
  await Promise.all(all.map((one) => one.leave()))
  return Object.fromEntries(all.map((one) => [one.label, one.seen()]))
}

if (import.meta.main) {
  process.once('message', (job) => {
    void crowd(job as CrowdJob).then((figures) => process.send?.(figures, () => process.exit(0)))
  })
}
