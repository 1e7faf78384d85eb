// Several limiter processes at once on one Redis, and what came of it: the history of all, merged and checked.

import type { ChildProcess } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Rate } from '../../src/types.ts'
import type { LimiterFigures, LimiterJob, LimiterNews } from './limiter-process.ts'
import { exited, spawnTracked, temporaryFolder } from './run-folder.ts'

export interface Limiter {
  readonly pid: number
  kill(signal: NodeJS.Signals): void
  /** Ends it in good order before its time. */
  leave(): void
  /** Whether Redis decides there, and since when: µs of CLOCK_MONOTONIC. Only changes since the start. */
  readonly changes: readonly { readonly up: boolean; readonly atUs: number }[]
  /** What it did; undefined when it was killed. */
  readonly done: Promise<LimiterFigures | undefined>
  /** Claims that were granted: when made, when granted, µs of CLOCK_MONOTONIC. All, or those that the ledgers decided. */
  admissions(by?: 'ledgers'): Float64Array
}

const ENTRY = new URL('./limiter-process.ts', import.meta.url).pathname

/** Starts a process for each job; all begin at the same moment. */
export async function startLimiters(jobs: readonly Omit<LimiterJob, 'file'>[]): Promise<Limiter[]> {
  const begin = await prepareLimiters(jobs)
  return begin()
}

/** Starts a process for each job, and gives what makes them begin. */
export async function prepareLimiters(jobs: readonly Omit<LimiterJob, 'file'>[]): Promise<() => Limiter[]> {
  const folder = temporaryFolder('limiters')
  const started = await Promise.all(
    jobs.map(async (job, i) => {
      const file = join(folder, `${i}.f64`)
      const child = spawnTracked(process.execPath, [ENTRY], {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      })
      child.send({ ...job, file })
      await new Promise<void>((resolve, reject) => {
        const listen = (news: LimiterNews): void => {
          if (news.kind !== 'ready') return
          child.off('message', listen)
          resolve()
        }
        child.on('message', listen)
        child.once('exit', () => reject(new Error('a limiter did not start')))
      })
      return toLimiter(child, file)
    }),
  )
  return () =>
    started.map(({ child, limiter }) => {
      child.send('go')
      return limiter
    })
}

function toLimiter(child: ChildProcess, file: string): { child: ChildProcess; limiter: Limiter } {
  let figures: LimiterFigures | undefined
  const changes: { up: boolean; atUs: number }[] = []
  child.on('message', (news: LimiterNews) => {
    if (news.kind === 'done') figures = news.figures
    if (news.kind === 'up') changes.push(news)
  })
  const done = new Promise<LimiterFigures | undefined>((resolve) => {
    // Its last word may still be on the way when it has ended.
    void exited(child).then(() => setTimeout(() => resolve(figures), 50))
  })
  const limiter: Limiter = {
    pid: child.pid ?? 0,
    kill: (signal) => void child.kill(signal),
    leave: () => void child.send('leave'),
    changes,
    done,
    admissions(by) {
      const pairs = readPairs(file)
      const kept: number[] = []
      for (let i = 0; i < pairs.length; i += 2) {
        const askedUs = pairs[i] as number
        if (by === undefined || askedUs > 0) kept.push(Math.abs(askedUs), pairs[i + 1] as number)
      }
      return Float64Array.from(kept)
    },
  }
  return { child, limiter }
}

/** A history as it was written: pairs of doubles. What a process had not written to its end is left out. */
export function readPairs(file: string): Float64Array {
  if (!existsSync(file)) return new Float64Array(0)
  const bytes = readFileSync(file)
  const whole = bytes.length - (bytes.length % 16)
  return new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + whole))
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
