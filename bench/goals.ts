// What is asked of Sluice, as ratios within one table: a `must` that a release has to keep, and an `aim`.

import { short } from './figures.ts'
import type { Row } from './measures.ts'
import type { Results } from './results.ts'

export interface Verdict {
  readonly measure: string
  readonly value: string
  readonly must: string
  readonly aim: string
  readonly isMet: 'aim' | 'must' | 'missed'
}

interface Goal {
  readonly measure: string
  /** Undefined while it has not been measured. */
  readonly read: (results: Results) => number | undefined
  readonly must: number
  readonly aim: number
  readonly unit: string
  /** More is better; else less is. */
  readonly isFloor?: boolean
}

const OWN = 'Sluice'

function figure(results: Results, table: string, target: string, name: string): number | undefined {
  return results[table]?.rows.find((row: Row) => row.target === target)?.figures[name]?.median
}

function ratio(table: string, name: string, other: string) {
  return (results: Results): number | undefined => {
    const [own, theirs] = [figure(results, table, OWN, name), figure(results, table, other, name)]
    return own === undefined || theirs === undefined ? undefined : own / theirs
  }
}

/** Of what a gateway adds: the latency without one is taken away on both sides. */
function addedRatio(name: string, other: string) {
  return (results: Results): number | undefined => {
    const [own, theirs, none] = [OWN, other, 'no gateway'].map((target) =>
      figure(results, 'alone', target, name),
    )
    return own === undefined || theirs === undefined || none === undefined
      ? undefined
      : (own - none) / (theirs - none)
  }
}

const own = (table: string, name: string) => (results: Results) => figure(results, table, OWN, name)

const GOALS: readonly Goal[] = [
  {
    measure: 'CPU per request, 1.5 KB, vs Portkey',
    read: ratio('chat', 'cpuUs', 'Portkey'),
    must: 1 / 6,
    aim: 1 / 12,
    unit: '×',
  },
  {
    measure: 'CPU per request, 1.5 KB, vs nginx',
    read: ratio('chat', 'cpuUs', 'nginx'),
    must: 5.5,
    aim: 3,
    unit: '×',
  },
  {
    measure: 'CPU per request, 1.5 KB, vs http.request proxy',
    read: ratio('chat', 'cpuUs', 'http.request proxy'),
    must: 1.15,
    aim: 0.6,
    unit: '×',
  },
  {
    measure: 'CPU per request, 19 KB, vs Portkey',
    read: ratio('agent', 'cpuUs', 'Portkey'),
    must: 1 / 6,
    aim: 1 / 10,
    unit: '×',
  },
  {
    measure: 'CPU per request, 19 KB, vs nginx',
    read: ratio('agent', 'cpuUs', 'nginx'),
    must: 5,
    aim: 3,
    unit: '×',
  },
  {
    measure: 'CPU per chunk, 500 streams, vs nginx',
    read: ratio('streams', 'cpuUs', 'nginx'),
    must: 2.2,
    aim: 1.6,
    unit: '×',
  },
  {
    measure: 'CPU per chunk, chat from Messages, vs untranslated',
    read: (results) => {
      const changed = figure(results, 'translated', 'Sluice, translating', 'cpuUs')
      const passed = figure(results, 'translated', OWN, 'cpuUs')
      return changed === undefined || passed === undefined ? undefined : changed / passed
    },
    must: 2,
    aim: 1.5,
    unit: '×',
  },
  {
    measure: 'streams on one core, p99 < 50 ms',
    read: own('capacity', 'streams'),
    must: 600,
    aim: 900,
    unit: '',
    isFloor: true,
  },
  {
    measure: 'added latency p50, one connection, vs nginx',
    read: addedRatio('p50Ms', 'nginx'),
    must: 1.6,
    aim: 1.3,
    unit: '×',
  },
  {
    measure: 'added latency p99, one connection, vs Portkey',
    read: addedRatio('p99Ms', 'Portkey'),
    must: 1 / 4,
    aim: 1 / 8,
    unit: '×',
  },
  { measure: 'RSS per stream', read: own('streams', 'kbPerStream'), must: 200, aim: 100, unit: ' KB' },
  {
    measure: 'RSS peak, 1.5 KB, vs Portkey',
    read: ratio('chat', 'peakMb', 'Portkey'),
    must: 0.65,
    aim: 0.5,
    unit: '×',
  },
  {
    measure: 'start to first 200, vs Portkey',
    read: ratio('start', 'startMs', 'Portkey'),
    must: 0.8,
    aim: 0.5,
    unit: '×',
  },
  {
    measure: 'two workers vs one, requests/s',
    read: (results) => {
      const one = figure(results, 'workers', 'one process', 'requestsPerSecond')
      const two = figure(results, 'workers', 'two workers', 'requestsPerSecond')
      return one === undefined || two === undefined ? undefined : two / one
    },
    must: 1.6,
    aim: 1.8,
    unit: '×',
    isFloor: true,
  },
  {
    measure: 'Redis calls per request, hot agent',
    read: own('chat', 'redisCalls'),
    must: 0.1,
    aim: 0.02,
    unit: '',
  },
]

export function judge(results: Results): Verdict[] {
  return GOALS.flatMap(({ measure, read, must, aim, unit, isFloor = false }) => {
    const value = read(results)
    if (value === undefined) return []
    const reaches = (goal: number): boolean => (isFloor ? value >= goal : value <= goal)
    const show = (number: number): string => `${toShare(number, unit)}${unit}`
    const sign = isFloor ? '≥' : '≤'
    return [
      {
        measure,
        value: show(value),
        must: `${sign} ${show(must)}`,
        aim: `${sign} ${show(aim)}`,
        isMet: reaches(aim) ? 'aim' : reaches(must) ? 'must' : 'missed',
      } as const,
    ]
  })
}

/** Small ratios are easier to read as a part. */
function toShare(value: number, unit: string): string {
  return unit === '×' && value < 0.4 ? `1/${short(1 / value)} ` : short(value)
}
