// What a bench leaves behind: one JSON file, a page of tables and some pictures. Tables are kept by name, so that a run of
// one of them leaves the others as they were, each with the day and the machine it is from.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { toTable } from '../test/support/table.ts'
import { toSvg } from './chart.ts'
import { type Spread, short, showSpread } from './figures.ts'
import { judge, type Verdict } from './goals.ts'
import type { Machine } from './machine.ts'
import type { Row } from './measures.ts'

export interface Table {
  readonly title: string
  readonly at: string
  readonly machine: Machine
  /** How it was measured, in a sentence. */
  readonly how: string
  /** By target, what it is and what is on. */
  readonly targets: Readonly<Record<string, string>>
  readonly rows: readonly Row[]
}

export type Results = Readonly<Record<string, Table>>

const FOLDER = join(import.meta.dirname, 'results')
const FILE = join(FOLDER, 'bench.json')
const OWN = 'Sluice'

/** Columns by figure, in the order of the page. */
const COLUMNS: readonly (readonly [figure: string, head: string])[] = [
  ['requestsPerSecond', 'req/s'],
  ['chunksPerSecond', 'chunks/s'],
  ['streams', `streams`],
  ['cpuUs', 'CPU µs'],
  ['coreShare', 'core'],
  ['p50Ms', 'p50 ms'],
  ['p99Ms', 'p99 ms'],
  ['delayP50Ms', 'delay p50 ms'],
  ['delayP99Ms', 'delay p99 ms'],
  ['firstP50Ms', 'first p50 ms'],
  ['firstP99Ms', 'first p99 ms'],
  ['brokenStreams', 'broken'],
  ['startMs', 'start ms'],
  ['idleMb', 'idle MB'],
  ['peakMb', 'peak MB'],
  ['kbPerStream', 'KB/stream'],
  ['redisCalls', 'Redis/req'],
  ['busy', 'busy'],
]

export function readResults(): Results {
  return existsSync(FILE) ? JSON.parse(readFileSync(FILE, 'utf8')) : {}
}

export function writeResults(results: Results): void {
  mkdirSync(FOLDER, { recursive: true })
  writeFileSync(FILE, `${JSON.stringify(results, rounded, 2)}\n`)
  writeFileSync(join(FOLDER, 'bench.md'), toPage(results))
  for (const [name, svg] of pictures(results)) writeFileSync(join(FOLDER, name), svg)
}

/** Six digits are more than any of them means. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Number(value.toPrecision(6)) : value
}

export function showTable({ title, how, rows }: Table, colour: boolean): string {
  const heads = COLUMNS.filter(([figure]) => rows.some((row) => row.figures[figure] !== undefined))
  const cells = rows.map((row) => [
    row.target,
    ...heads.map(([figure]) => {
      const spread = row.figures[figure]
      if (spread === undefined) return '–'
      return figure === 'cpuUs' ? showSpread(spread) : short(spread.median)
    }),
    `${row.rounds}${row.discarded > 0 ? ` (${row.discarded} not)` : ''}`,
  ])
  return `${title}\n${how}\n${toTable(['target', ...heads.map(([, head]) => head), 'rounds'], cells, { colour })}`
}

export function showVerdicts(verdicts: readonly Verdict[], colour: boolean): string {
  const rows = verdicts.map(({ measure, value, must, aim, isMet }) => [
    measure,
    value,
    must,
    aim,
    isMet === 'aim' ? 'aim' : isMet === 'must' ? 'must' : 'MISSED',
  ])
  return toTable(['measure', 'here', 'must', 'aim', 'met'], rows, {
    colour,
    isBad: (row) => verdicts[row]?.isMet === 'missed',
  })
}

function toPage(results: Results): string {
  const tables = Object.values(results)
  const about = new Map(tables.flatMap(({ targets }) => Object.entries(targets)))
  const machines = new Map(tables.map((table) => [JSON.stringify(table.machine), table.machine]))
  return [
    '# What Sluice costs, beside what else there is',
    '',
    'Made by `npm run bench`, which says how in [bench/README.md](../README.md); do not write here. Medians, in brackets the',
    'least and the most of all rounds. Only figures of one table may be compared, and ratios travel better than figures.',
    '',
    ...[...machines.values()].map(
      (one) =>
        `Machine: ${one.cores} × ${one.cpu}, ${one.memoryGb} GB, ${one.system}, Node ${one.node}; ${one.pinned ? 'target on one core, mock and load on another' : 'nothing pinned'}.`,
    ),
    '',
    '## Goals',
    '',
    '```',
    showVerdicts(judge(results), false),
    '```',
    '',
    ...tables.flatMap((table) => [
      '',
      `## ${table.title}`,
      '',
      `${table.at.slice(0, 16).replace('T', ' ')} UTC. ${table.how}`,
      '',
      '```',
      showTable(table, false).split('\n').slice(2).join('\n'),
      '```',
    ]),
    '',
    '## Who is who',
    '',
    ...[...about].map(([name, what]) => `- ${name}: ${what}`),
    '',
  ].join('\n')
}

interface Picture {
  readonly table: string
  readonly figure: string
  readonly file: string
  readonly title: string
  readonly unit: string
  readonly isLogarithmic?: boolean
}

const PICTURES: readonly Picture[] = [
  {
    table: 'chat',
    figure: 'cpuUs',
    file: 'cpu-per-request.svg',
    title: 'Processor time for a request',
    unit: 'µs, less is better',
    isLogarithmic: true,
  },
  {
    table: 'chat',
    figure: 'requestsPerSecond',
    file: 'requests.svg',
    title: 'Requests a second on one core',
    unit: 'requests/s, more is better',
    isLogarithmic: true,
  },
  {
    table: 'chat',
    figure: 'peakMb',
    file: 'memory.svg',
    title: 'Memory under full load',
    unit: 'MB, less is better',
    isLogarithmic: true,
  },
  {
    table: 'streams',
    figure: 'cpuUs',
    file: 'cpu-per-chunk.svg',
    title: 'Processor time for a streamed chunk',
    unit: 'µs, less is better',
  },
  {
    table: 'capacity',
    figure: 'streams',
    file: 'streams.svg',
    title: 'Streams of 50 chunks/s on one core, 99 % of chunks within 50 ms',
    unit: 'streams, more is better',
  },
  {
    table: 'start',
    figure: 'startMs',
    file: 'start.svg',
    title: 'From start to the first 200',
    unit: 'ms, less is better',
    isLogarithmic: true,
  },
]

function pictures(results: Results): [name: string, svg: string][] {
  return PICTURES.flatMap(({ table, figure, file, ...chart }) => {
    const found = results[table]
    if (found === undefined) return []
    const bars = found.rows.flatMap(({ target, figures }) => {
      const value: Spread | undefined = figures[figure]
      return value === undefined ? [] : [{ label: target, value, isOwn: target === OWN }]
    })
    const { machine, at } = found
    const note = `${machine.cpu}, one core for each, Node ${machine.node}, ${at.slice(0, 10)}; npm run bench`
    return [[file, toSvg({ ...chart, bars, note })]]
  })
}
