// The measures of the bench. Each is a table: the same load on each target in turn, round after round, every round with
// fresh processes, so that the two states V8's garbage collector can settle in show up as spread and not as a result.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../test/support/ports.ts'
import { exited, spawnTracked, temporaryFolder } from '../test/support/run-folder.ts'
import { bodyOf, type Shape } from './bodies.ts'
import { type Spread, spreadOf } from './figures.ts'
import { type Load, type Round, runLoad } from './load.ts'
import { LOAD_CORE, pinned } from './machine.ts'
import { residentBytes, treeOf } from './process-tree.ts'
import { type Field, MODEL, type Started, type Target } from './targets.ts'

export interface Programs {
  readonly mock: string
  readonly load: string
}

export interface Context {
  readonly programs: Programs
  readonly field: Omit<Field, 'mockPort'>
  /** What the load asks of Redis is counted for the targets that use it. */
  readonly countCommands: (() => Promise<number>) | undefined
  readonly progress: (text: string) => void
  readonly say: (line: string) => void
}

/** A row of a table: medians over the rounds that count. */
export interface Row {
  readonly target: string
  readonly figures: Readonly<Record<string, Spread>>
  /** Rounds that count, and those that did not because the target was not what bounded them. */
  readonly rounds: number
  readonly discarded: number
}

/** A round counts where the target's core had something to do for this share of it. */
const BUSY = 0.95
/** And the target, not a neighbour, was what it had to do. */
const OWN = 0.8

// --- one round ---------------------------------------------------------------------------------------------------

interface Ask {
  readonly shape: Shape
  readonly mode: Load['mode']
  readonly connections: number
  readonly warmMs: number
  readonly measureMs: number
  /** Requests a second, for an open loop. */
  readonly rate?: number
}

/** Events of a stream, ms between two, and ms before the first. */
export const STREAM = { events: 100, gapMs: 20, firstMs: 50 }

/** Asks a target that is running. */
export function ask(started: Started, wanted: Ask, context: Context): Promise<Round> {
  const folder = temporaryFolder('load')
  const files = { headFile: join(folder, 'head'), bodyFile: join(folder, 'body') }
  const stream = wanted.mode === 'stream'
  writeFileSync(
    files.headFile,
    [
      'POST /v1/chat/completions HTTP/1.1',
      `host: 127.0.0.1:${started.port}`,
      'content-type: application/json',
      'accept: application/json',
      'accept-encoding: identity',
      'user-agent: OpenAI/JS 7.57.0',
      'x-stainless-lang: js',
      'x-stainless-package-version: 7.57.0',
      'x-stainless-os: Linux',
      'x-stainless-runtime: node',
      'x-stainless-retry-count: 0',
      ...started.headers,
      '',
    ].join('\r\n'),
  )
  writeFileSync(files.bodyFile, bodyOf(wanted.shape, { model: MODEL, stream }))
  return runLoad({
    ...files,
    ...wanted,
    program: context.programs.load,
    port: started.port,
    pid: started.pid,
    rate: stream ? STREAM.events : (wanted.rate ?? 0),
    count: context.countCommands,
  })
}

/** Runs the mock for as long as `use` takes. */
export async function withMock<T>(context: Context, use: (field: Field) => Promise<T>): Promise<T> {
  const mockPort = await freePort()
  const { events, gapMs, firstMs } = STREAM
  const { command, args } = pinned([LOAD_CORE], context.programs.mock, [
    ...[mockPort, events, gapMs, firstMs].map(String),
  ])
  const child = spawnTracked(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => resolve())
    child.once('exit', () => reject(new Error('the mock ended')))
  })
  try {
    return await use({ ...context.field, mockPort })
  } finally {
    child.kill('SIGKILL')
    await exited(child)
  }
}

/** The mock itself, asked without anybody between: what is left when it is taken away is a target's own. */
export function direct(): Target {
  return {
    name: 'no gateway',
    warmsUp: false,
    about: 'the load generator straight at the mock',
    start: async ({ mockPort }) => ({
      port: mockPort,
      pid: 0,
      headers: [],
      startMs: 0,
      stop: async () => {},
    }),
  }
}

// --- tables -------------------------------------------------------------------------------------------------------

export interface Plan {
  readonly targets: readonly Target[]
  readonly rounds: number
  readonly measureMs: number
  /** How long a program that compiles itself as it goes is warmed up; others need a second. */
  readonly warmMs: number
}

const WARM_MS = 1000

/** What is read off a round, by name. */
type Read = (round: Round, idleBytes: number) => Readonly<Record<string, number>>

/** The same load on all targets in turn, `rounds` times. */
async function interleave(
  {
    targets,
    rounds,
    warmMs,
    measureMs,
    wanted,
    isSaturated,
    mostDelayMs,
    read,
  }: Plan & {
    wanted: Omit<Ask, 'warmMs' | 'measureMs'>
    isSaturated: boolean
    /** A round counts where half of the events of streams came earlier than this. */
    mostDelayMs?: number
    read: Read
  },
  context: Context,
): Promise<Row[]> {
  const kept = new Map<string, Readonly<Record<string, number>>[]>(targets.map(({ name }) => [name, []]))
  const discarded = new Map<string, number>()
  /** A round that does not count is repeated, a few times. */
  const spare = Math.ceil(rounds / 2)
  await withMock(context, async (field) => {
    for (let round = 0; round < rounds + spare; round += 1) {
      for (const target of targets) {
        const figures = kept.get(target.name) ?? []
        if (figures.length >= Math.min(rounds, round + 1)) continue
        context.progress(`round ${round + 1} of ${rounds}: ${target.name}`)
        const started = await target.start(field)
        try {
          const idleBytes = started.pid === 0 ? 0 : residentBytes(treeOf(started.pid))
          const warm = target.warmsUp ? warmMs : WARM_MS
          const seen = await ask(started, { ...wanted, measureMs, warmMs: warm }, context)
          const fault =
            faultOf(seen, isSaturated && started.pid !== 0) ??
            latenessOf(seen, mostDelayMs ?? Number.POSITIVE_INFINITY)
          if (fault === undefined) figures.push({ ...read(seen, idleBytes), startMs: started.startMs })
          else {
            discarded.set(target.name, (discarded.get(target.name) ?? 0) + 1)
            context.say(`a round of ${target.name} does not count: ${fault}`)
          }
        } finally {
          await started.stop()
        }
      }
    }
  })
  return targets.map(({ name }) => toRow(name, kept.get(name) ?? [], discarded.get(name) ?? 0))
}

function faultOf({ busy, share, errors, answered }: Round, isSaturated: boolean): string | undefined {
  if (errors > answered / 1000) return `${errors} errors beside ${answered} answers`
  if (!isSaturated) return undefined
  if (busy < BUSY) return `its core was busy for ${percent(busy)} only`
  if (share < OWN) return `others had ${percent(1 - share)} of its core`
  return undefined
}

/** Who has to wait for its core finds several events in one read, which is cheaper than each by itself. */
function latenessOf({ delay }: Round, mostDelayMs: number): string | undefined {
  const delayMs = delay.p50Us / 1000
  return delayMs > mostDelayMs ? `half of its events were ${delayMs.toFixed(1)} ms late or more` : undefined
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

function toRow(target: string, all: readonly Readonly<Record<string, number>>[], discarded: number): Row {
  const names = Object.keys(all[0] ?? {})
  return {
    target,
    figures: Object.fromEntries(
      names.map((name) => [name, spreadOf(all.map((one) => one[name] ?? Number.NaN))]),
    ),
    rounds: all.length,
    discarded,
  }
}

const MB = 2 ** 20

const readRequests: Read = (round, idleBytes) => ({
  requestsPerSecond: round.answered / round.seconds,
  cpuUs: round.cpuUs / round.answered,
  p50Ms: round.latency.p50Us / 1000,
  p99Ms: round.latency.p99Us / 1000,
  busy: round.busy,
  idleMb: idleBytes / MB,
  peakMb: round.peakBytes / MB,
  redisCalls: (round.counted ?? 0) / round.answered,
})

/** As many requests as a core can take: 64 connections that ask again at once. */
export function saturated(plan: Plan, shape: Shape, context: Context): Promise<Row[]> {
  const wanted = { shape, mode: 'closed', connections: 64 } as const
  return interleave({ ...plan, wanted, isSaturated: true, read: readRequests }, context)
}

/** One connection that asks again when it was answered: what a gateway adds to the latency of a call. */
export function alone(plan: Plan, context: Context): Promise<Row[]> {
  const wanted = {
    shape: '1.5 KB',
    mode: 'closed',
    connections: 1,
  } as const
  return interleave({ ...plan, wanted, isSaturated: false, read: readRequests }, context)
}

/** A steady load far below what a core can take; latency counts from when a request was due. */
export function steady(plan: Plan, rate: number, context: Context): Promise<Row[]> {
  const wanted = {
    shape: '1.5 KB',
    mode: 'open',
    connections: 256,
    rate,
  } as const
  return interleave({ ...plan, wanted, isSaturated: false, read: readRequests }, context)
}

/** Streams that are read as they come. */
export function streams(
  plan: Plan & { readonly mostDelayMs?: number },
  count: number,
  context: Context,
): Promise<Row[]> {
  const wanted = {
    shape: '1.5 KB',
    mode: 'stream',
    connections: count,
  } as const
  const read: Read = (round, idleBytes) => ({
    chunksPerSecond: round.delay.count / round.seconds,
    cpuUs: round.cpuUs / round.delay.count,
    coreShare: round.share,
    delayP50Ms: round.delay.p50Us / 1000,
    delayP99Ms: round.delay.p99Us / 1000,
    firstP50Ms: round.firstEvent.p50Us / 1000,
    firstP99Ms: round.firstEvent.p99Us / 1000,
    brokenStreams: round.broken,
    peakMb: round.peakBytes / MB,
    kbPerStream: (round.peakBytes - idleBytes) / 1024 / count,
  })
  return interleave({ ...plan, wanted, isSaturated: false, read }, context)
}

/** A stream counts as carried while 99 of 100 of its events are late by less than this. */
export const LATE_MS = 50

/**
 * How many streams a core carries: climbs until the events come late, and takes the step before. The step counts as
 * carried where two of three tries are.
 */
export async function capacity(
  target: Target,
  { from, step, most, measureMs }: { from: number; step: number; most: number; measureMs: number },
  context: Context,
): Promise<number> {
  return withMock(context, async (field) => {
    const isCarried = async (count: number): Promise<boolean> => {
      context.progress(`${target.name}: ${count} streams`)
      const started = await target.start(field)
      try {
        const wanted: Ask = { shape: '1.5 KB', mode: 'stream', connections: count, warmMs: 4000, measureMs }
        const { delay, errors, broken } = await ask(started, wanted, context)
        const offered = (count * measureMs) / (STREAM.gapMs + STREAM.firstMs / STREAM.events)
        return delay.p99Us < LATE_MS * 1000 && errors === 0 && broken === 0 && delay.count > offered * 0.95
      } finally {
        await started.stop()
      }
    }
    let carried = 0
    for (let count = from; count <= most; count += step) {
      const first = await isCarried(count)
      if (!first && !((await isCarried(count)) && (await isCarried(count)))) break
      carried = count
    }
    return carried
  })
}

/** From the start of a program to its first 200. */
export async function startUp({ targets, rounds }: Plan, context: Context): Promise<Row[]> {
  const all = new Map<string, Readonly<Record<string, number>>[]>(targets.map(({ name }) => [name, []]))
  await withMock(context, async (field) => {
    for (let round = 0; round < rounds; round += 1) {
      for (const target of targets) {
        context.progress(`start ${round + 1} of ${rounds}: ${target.name}`)
        const started = await target.start(field)
        await new Promise((done) => setTimeout(done, 300))
        all.get(target.name)?.push({
          startMs: started.startMs,
          idleMb: residentBytes(treeOf(started.pid)) / MB,
        })
        await started.stop()
      }
    }
  })
  return targets.map(({ name }) => toRow(name, all.get(name) ?? [], 0))
}

/** The same load on one process and on two, on all cores, which they share with mock and load. */
export function workers(plan: Plan, context: Context): Promise<Row[]> {
  const wanted = {
    shape: '1.5 KB',
    mode: 'closed',
    connections: 128,
  } as const
  return interleave({ ...plan, wanted, isSaturated: false, read: readRequests }, context)
}
