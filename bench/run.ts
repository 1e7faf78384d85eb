// What Sluice costs beside what else there is: `npm run bench`, about twenty minutes. `npm run bench -- chat streams` runs
// these tables alone, `--quick` all of them roughly. Nothing is compared that was not measured in turn in one run.

import { ensureBinary, REDIS } from '../test/support/debian-binary.ts'
import { countCommands } from '../test/support/limits-field.ts'
import { startRedis } from '../test/support/redis.ts'
import { judge } from './goals.ts'
import { describeMachine, putFirst } from './machine.ts'
import {
  alone,
  type Context,
  capacity,
  direct,
  type Row,
  saturated,
  startUp,
  steady,
  streams,
  withMock,
  workers,
} from './measures.ts'
import { build } from './native.ts'
import { readResults, showTable, showVerdicts, type Table, writeResults } from './results.ts'
import { buildSluice, haproxy, litellm, nginx, plainProxy, portkey, sluice, type Target } from './targets.ts'

interface Measure {
  readonly title: string
  readonly how: string
  /** Brought when the table is made: one that is not asked for need not be installed. */
  readonly targets: readonly (() => Promise<Target | undefined>)[]
  run(targets: readonly Target[]): Promise<Row[]>
}

const isQuick = process.argv.includes('--quick')
const chosen = process.argv.slice(2).filter((word) => !word.startsWith('--'))
const rounds = isQuick ? 2 : 5
const measureMs = isQuick ? 1500 : 3000

const { isTTY } = process.stderr
let now = ''
let lastProgress = ''
const say = (line: string): void => void process.stderr.write(isTTY ? `\r\u001b[K${line}\n` : `${line}\n`)
const progress = (text: string): void => {
  if (text === lastProgress) return
  lastProgress = text
  process.stderr.write(isTTY ? `\r\u001b[K${text}` : `${text}\n`)
}

if (process.platform !== 'linux')
  throw new Error('The bench reads /proc and uses epoll: it runs on Linux only.')
putFirst()
ensureBinary(REDIS, say)
buildSluice()
const programs = { mock: build('mock', say), load: build('load', say) }
const redis = await startRedis()
const context: Context = {
  programs,
  field: { redis, say },
  countCommands: async () => (await countCommands(redis)).sent,
  progress: (text) => progress(`${now}: ${text}`),
  say,
}

const [front, tcp] = [once(() => nginx(say)), once(() => haproxy(say))]
const [own, plain] = [once(() => sluice()), once(plainProxy)]
const [peer, python] = [once(() => tried(portkey(say))), once(() => tried(litellm(say)))]
const plan = (targets: readonly Target[]) => ({ targets, rounds, measureMs, warmMs: isQuick ? 4000 : 7000 })
const medians = `medians of ${rounds} interleaved rounds of ${measureMs / 1000} s, each with fresh processes`

const measures: Readonly<Record<string, Measure>> = {
  chat: {
    title: 'A chat of 1.5 KB, 64 connections, one core saturated',
    how: `CPU per request over the whole process tree; ${medians}.`,
    targets: [front, tcp, own, plain, peer, python],
    run: (targets) => saturated(plan(targets), '1.5 KB', context),
  },
  agent: {
    title: 'The turn of an agent with 12 tools, 19 KB, 64 connections, one core saturated',
    how: `CPU per request over the whole process tree; ${medians}.`,
    targets: [front, tcp, own, plain, peer],
    run: (targets) => saturated(plan(targets), '19 KB', context),
  },
  streams: {
    title: '500 streams of 50 chunks/s',
    how: `CPU per chunk; the delay of a chunk counts from the time inside of it; ${medians}.`,
    targets: [front, tcp, own, plain, peer],
    run: (targets) => streams(plan(targets), 500, context),
  },
  translated: {
    title:
      '200 streams of 50 chunks/s as chat, from providers that speak chat and from ones that speak Messages',
    how: `CPU per chunk; the second are translated event by event; ${medians}.`,
    targets: [own, once(() => sluice({ name: 'Sluice, translating', format: 'anthropic' }))],
    run: (targets) => streams({ ...plan(targets), mostDelayMs: 3 }, 200, context),
  },
  capacity: {
    title: 'Streams of 50 chunks/s that a core carries with 99 % of the chunks within 50 ms',
    how: 'Climbs by 50 until chunks come late; a step counts where it is carried once at the first try, or twice of three.',
    targets: [front, own, plain, peer],
    async run(targets) {
      const rows: Row[] = []
      for (const target of targets) {
        const [isPeer, isFront] = [target === (await peer()), target === (await front())]
        const from = isPeer ? 50 : isFront ? 1000 : 400
        const step = isFront || isQuick ? 200 : 50
        const found = await capacity(target, { from, step, most: 3000, measureMs: 4000 }, context)
        const figures = { streams: { median: found, min: found, max: found } }
        rows.push({ target: target.name, figures, rounds: 1, discarded: 0 })
      }
      return rows
    },
  },
  alone: {
    title: 'One connection that asks again when it was answered, 1.5 KB',
    how: `What a gateway adds is its latency less that without one; ${medians}.`,
    targets: [once(direct), front, tcp, own, plain, peer],
    run: (targets) => alone(plan(targets), context),
  },
  steady: {
    title: 'An open loop of 600 requests/s, 1.5 KB',
    how: `Latency counts from when a request was due; ${medians}.`,
    targets: [once(direct), front, own, plain, peer],
    run: (targets) => steady(plan(targets), 600, context),
  },
  start: {
    title: 'From start to the first 200',
    how: `Asked every 3 ms from the moment of the start; medians of ${isQuick ? 3 : 7} starts.`,
    targets: [front, tcp, own, plain, peer],
    run: (targets) => startUp({ ...plan(targets), rounds: isQuick ? 3 : 7 }, context),
  },
  workers: {
    title: 'Two workers and one process, 1.5 KB, 128 connections, all cores shared with mock and load',
    how: `The same load on both; ${medians}.`,
    targets: [
      once(() => sluice({ name: 'one process' })),
      once(() => sluice({ name: 'two workers', workers: 2 })),
    ],
    run: (targets) => workers(plan(targets), context),
  },
}

const unknown = chosen.filter((name) => !(name in measures))
if (unknown.length > 0) {
  say(`No table "${unknown[0]}"; there are: ${Object.keys(measures).join(', ')}.`)
  process.exit(2)
}
const machine = describeMachine()
if (!machine.pinned) say('One core only: target, mock and load share it, and no figure means much.')
let results = readResults()
const begunMs = performance.now()
for (const [name, measure] of Object.entries(measures)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue
  now = name
  const brought: (Target | undefined)[] = []
  for (const bring of measure.targets) brought.push(await bring())
  const targets = brought.filter((target) => target !== undefined)
  const rows = await measure.run(targets)
  const table: Table = {
    title: measure.title,
    at: new Date().toISOString(),
    machine,
    how: measure.how,
    targets: Object.fromEntries(targets.map(({ name: target, about }) => [target, about])),
    rows,
  }
  results = { ...results, [name]: table }
  if (isTTY) process.stderr.write('\r\u001b[K')
  process.stdout.write(`${showTable(table, process.stdout.isTTY)}\n\n`)
  if (!isQuick) writeResults(results)
}
process.stdout.write(`${showVerdicts(judge(results), process.stdout.isTTY)}\n`)
say(`${Math.round((performance.now() - begunMs) / 1000)} s`)
await redis.stop()

function once(
  bring: () => Target | undefined | Promise<Target | undefined>,
): () => Promise<Target | undefined> {
  let brought: Promise<Target | undefined> | undefined
  return () => {
    brought ??= Promise.resolve(bring())
    return brought
  }
}

/** One that does not start is left out of everything, instead of ending a run half-way. */
async function tried(target: Target | undefined): Promise<Target | undefined> {
  if (target === undefined) return undefined
  try {
    await withMock(context, async (field) => (await target.start(field)).stop())
    return target
  } catch (error) {
    say(`NOT MEASURED: ${target.name} does not start: ${error instanceof Error ? error.message : error}`)
    return undefined
  }
}
