// Several limiter processes at once on one Redis, and what came of it: the history of all, merged and checked.

import { type ChildProcess, fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Rate } from '../../src/types.ts'
import type { LimiterFigures, LimiterJob } from './limiter-process.ts'
import { temporaryFolder } from './run-folder.ts'

export interface Limiter {
  readonly pid: number
  kill(signal: NodeJS.Signals): void
  /** What it did; undefined when it was killed. */
  readonly done: Promise<LimiterFigures | undefined>
  /** Claims that were granted: when made, when granted, µs of CLOCK_MONOTONIC. */
  admissions(): Float64Array
}

const ENTRY = new URL('./limiter-process.ts', import.meta.url).pathname

/** Starts a process for each job; all begin at the same moment. */
export async function startLimiters(jobs: readonly Omit<LimiterJob, 'file'>[]): Promise<Limiter[]> {
  const folder = temporaryFolder('limiters')
  const started = await Promise.all(
    jobs.map(async (job, i) => {
      const file = join(folder, `${i}.f64`)
      const child = fork(ENTRY, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'json' })
      child.send({ ...job, file })
      await new Promise((resolve, reject) => {
        child.once('message', resolve)
        child.once('exit', () => reject(new Error('a limiter did not start')))
      })
      return { child, file }
    }),
  )
  for (const { child } of started) child.send('go')
  return started.map(({ child, file }) => toLimiter(child, file))
}

function toLimiter(child: ChildProcess, file: string): Limiter {
  let figures: LimiterFigures | undefined
  const done = new Promise<LimiterFigures | undefined>((resolve) => {
    child.once('message', (told) => {
      figures = told as LimiterFigures
    })
    child.once('exit', () => resolve(figures))
  })
  return {
    pid: child.pid ?? 0,
    kill: (signal) => void child.kill(signal),
    done,
    admissions() {
      const bytes = readFileSync(file)
      return new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
    },
  }
}

/** Puts histories together. */
export function merge(histories: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(histories.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const history of histories) {
    all.set(history, at)
    at += history.length
  }
  return all
}

/**
 * `max over windows of admitted − (B + r·T)`, in requests; at most 0 when the limit held. Each admission is a pair:
 * when it was asked for and when the answer was there. It was decided somewhere between, so a window is charged with
 * those alone that lie in it altogether: what this finds too many was too many, wherever in between they were.
 */
export function excessOf(history: Float64Array, rate: Rate): number {
  const count = history.length / 2
  if (count === 0) return -rate.capacity
  const askedUs = (i: number): number => history[i * 2] as number
  const grantedUs = (i: number): number => history[i * 2 + 1] as number
  const sorted = (key: (i: number) => number): Uint32Array =>
    Uint32Array.from({ length: count }, (_, i) => i).sort((a, b) => key(a) - key(b))
  const byAsking = sorted(askedUs)
  const rank = new Uint32Array(count)
  for (const [place, i] of byAsking.entries()) rank[i] = place
  // A window that is worth a look begins where one of its admissions was asked for. Over all such beginnings s: the
  // admissions asked for behind it, plus r·s. For each end in turn the maximum is the best beginning.
  const beginnings = createMaxTree(count)
  let worst = -Infinity
  for (const i of sorted(grantedUs)) {
    const place = rank[i] as number
    beginnings.open(place, askedUs(i) / rate.intervalUs)
    beginnings.addUpTo(place + 1, 1)
    worst = Math.max(worst, beginnings.max() - grantedUs(i) / rate.intervalUs)
  }
  return worst - rate.capacity
}

/** Places that are opened with a value, a sum that is added to all up to a place, and the maximum of those opened. */
function createMaxTree(places: number) {
  let size = 1
  while (size < places) size *= 2
  const best = new Float64Array(size * 2).fill(-Infinity)
  const added = new Float64Array(size * 2)
  const renew = (node: number): void => {
    best[node] = Math.max(best[node * 2] as number, best[node * 2 + 1] as number) + (added[node] as number)
  }
  const add = (node: number, from: number, to: number, end: number, by: number): void => {
    if (end <= from) return
    if (to <= end) {
      best[node] = (best[node] as number) + by
      added[node] = (added[node] as number) + by
      return
    }
    const middle = (from + to) / 2
    add(node * 2, from, middle, end, by)
    add(node * 2 + 1, middle, to, end, by)
    renew(node)
  }
  return {
    open(place: number, value: number): void {
      let node = size + place
      best[node] = value + (added[node] as number)
      for (node = node >> 1; node >= 1; node >>= 1) renew(node)
    },
    addUpTo: (end: number, by: number) => add(1, 0, size, end, by),
    max: () => best[1] as number,
  }
}

/** From the first to the last admission, in s. */
export function spanSeconds(history: Float64Array): number {
  let first = Infinity
  let last = -Infinity
  for (let i = 1; i < history.length; i += 2) {
    first = Math.min(first, history[i] as number)
    last = Math.max(last, history[i] as number)
  }
  return (last - first) / 1e6
}
