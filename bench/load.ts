// Runs the load generator against a target and reads the kernel's counters at both ends of what is measured.

import { createInterface } from 'node:readline'
import { spawnTracked } from '../test/support/run-folder.ts'
import { coreTicks, LOAD_CORE, pinned, TARGET_CORE } from './machine.ts'
import { cpuNs, residentBytes, treeOf } from './process-tree.ts'

export interface Load {
  readonly program: string
  readonly port: number
  /** Process of the target; its tree is what is counted. */
  readonly pid: number
  readonly headFile: string
  readonly bodyFile: string
  readonly mode: 'closed' | 'open' | 'stream'
  readonly connections: number
  readonly warmMs: number
  readonly measureMs: number
  /** Requests a second under `open`, events of a stream under `stream`. */
  readonly rate?: number
  /** A count of something else, of which the difference over the round is wanted. */
  readonly count?: (() => Promise<number>) | undefined
}

export interface Percentiles {
  readonly count: number
  readonly p50Us: number
  readonly p90Us: number
  readonly p99Us: number
  readonly p999Us: number
  readonly mostUs: number
}

/** What the load generator saw. */
interface Seen {
  readonly answered: number
  readonly errors: number
  /** Streams that ended with fewer events than there are. */
  readonly broken: number
  readonly seconds: number
  readonly latency: Percentiles
  readonly delay: Percentiles
  readonly firstEvent: Percentiles
}

export interface Round extends Seen {
  /** Processor time of the target over the seconds, in µs. */
  readonly cpuUs: number
  /** Share of a core that the target had. */
  readonly share: number
  /** Share of the time in which the target's core had something to do. */
  readonly busy: number
  readonly peakBytes: number
  readonly counted: number | undefined
}

const SAMPLE_MS = 100

export async function runLoad(load: Load): Promise<Round> {
  const { command, args } = pinned([LOAD_CORE], load.program, [
    ...[String(load.port), load.headFile, load.bodyFile, load.mode],
    ...[load.connections, load.warmMs, load.measureMs, load.rate ?? 0].map(String),
  ])
  const child = spawnTracked(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  if (child.stdout === null) throw new Error('no output of the load generator')
  let before: { cpu: number; core: ReturnType<typeof coreTicks>; count: number | undefined } | undefined
  let round: Round | undefined
  let peakBytes = 0
  const pids = treeOf(load.pid)
  const sampler = setInterval(() => {
    peakBytes = Math.max(peakBytes, residentBytes(pids))
  }, SAMPLE_MS)
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'begin') {
      before = { cpu: cpuNs(pids), core: coreTicks(TARGET_CORE), count: await load.count?.() }
      continue
    }
    if (before === undefined) continue
    const cpuUs = (cpuNs(pids) - before.cpu) / 1000
    const core = coreTicks(TARGET_CORE)
    const ticks = core.all - before.core.all
    const seen: Seen = JSON.parse(line)
    round = {
      ...seen,
      cpuUs,
      share: cpuUs / 1e6 / seen.seconds,
      busy: ticks === 0 ? 0 : 1 - (core.idle - before.core.idle) / ticks,
      peakBytes: Math.max(peakBytes, residentBytes(pids)),
      counted: before.count === undefined ? undefined : ((await load.count?.()) ?? 0) - before.count,
    }
  }
  clearInterval(sampler)
  if (round === undefined) throw new Error('the load generator said nothing')
  return round
}
