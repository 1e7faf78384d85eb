// `npm test`: types, lint, tests. Prints what happens as it happens and ends with one plain line,
// `N passed, N failed`. A check that fails counts as one failed test; a run without a single test has failed.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..')
const MINUTE = 60_000
// Hundreds of starts: what one has compiled the next need not.
process.env.NODE_COMPILE_CACHE ??= join(ROOT, 'node_modules/.cache/compile')
const PROOF = 'test/integration/limits-proof.test.ts'
let running: ChildProcess | undefined

/** What a vitest report adds up to. */
interface Tally {
  passed: number
  failed: number
  skipped: number
}

async function main(): Promise<number> {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      endGroup(running, 'SIGTERM')
      setTimeout(() => endGroup(running, 'SIGKILL'), 5_000).unref()
    })
  }
  const folder = mkdtempSync(join(tmpdir(), 'sluice-report-'))
  const report = join(folder, 'vitest.json')
  let broken = 0
  try {
    if ((await step('types', 'typescript/bin/tsc', ['--noEmit'], 2 * MINUTE)) !== 0) broken++
    if ((await step('lint', '@biomejs/biome/bin/biome', ['check', '.'], 2 * MINUTE)) !== 0) broken++
    const named = process.argv.slice(2)
    const tally: Tally = { passed: 0, failed: 0, skipped: 0 }
    // What measures has the machine for itself, behind all others.
    const runs: [name: string, args: readonly string[]][] =
      named.length > 0
        ? [['tests', named]]
        : [
            ['tests', ['--exclude', PROOF]],
            ['proof of limits', [PROOF]],
          ]
    for (const [name, args] of runs) {
      rmSync(report, { force: true })
      const options = [
        ...['run', '--allowOnly=false', '--reporter=default', '--reporter=json'],
        `--outputFile.json=${report}`,
      ]
      const code = await step(name, 'vitest/vitest.mjs', [...options, ...args], 10 * MINUTE)
      const { passed, failed, skipped } = tallyOf(report)
      tally.passed += passed
      tally.skipped += skipped
      // An error outside any test, a crash, a timeout: vitest says no although no test did.
      tally.failed += code !== 0 && failed === 0 ? 1 : failed
      if (code === 0 && passed === 0) {
        process.stdout.write('\nNo test ran.\n')
        tally.failed += 1
      }
    }
    const failed = tally.failed + broken
    const skipped = tally.skipped > 0 ? `, ${tally.skipped} skipped` : ''
    process.stdout.write(`\n${tally.passed} passed, ${failed} failed${skipped}\n`)
    return failed === 0 ? 0 : 1
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Runs a tool of the project under this Node and passes its output on. Returns its exit code. */
function step(name: string, script: string, args: readonly string[], limitMs: number): Promise<number> {
  const startedMs = performance.now()
  process.stdout.write(`\n== ${name}\n`)
  return new Promise((done) => {
    // A group of its own, so that a tool that hangs goes with everything it started.
    const child = spawn(process.execPath, [join(ROOT, 'node_modules', script), ...args], {
      cwd: ROOT,
      stdio: ['ignore', 'inherit', 'inherit'],
      detached: true,
    })
    running = child
    const limit = setTimeout(() => {
      process.stdout.write(`\n${name}: not done after ${limitMs / MINUTE} minutes, ended\n`)
      endGroup(child, 'SIGTERM')
      setTimeout(() => endGroup(child, 'SIGKILL'), 10_000).unref()
    }, limitMs)
    const end = (code: number, why: string): void => {
      clearTimeout(limit)
      running = undefined
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
      process.stdout.write(`== ${name}: ${code === 0 ? 'good' : `failed (${why})`}, ${seconds} s\n`)
      done(code)
    }
    child.once('error', (error) => end(1, error.message))
    child.once('exit', (code, signal) => end(code ?? 1, signal ?? `exit code ${code}`))
  })
}

function endGroup(child: ChildProcess | undefined, signal: NodeJS.Signals): void {
  if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // It ended this moment.
  }
}

/** Reads vitest's JSON report. A file that could not be run at all has no tests in it and counts as one failed. */
function tallyOf(path: string): Tally {
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 }
  let report: unknown
  try {
    report = JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    process.stdout.write('\nvitest left no report.\n')
    tally.failed++
    return tally
  }
  for (const file of listOf(report, 'testResults')) {
    const tests = listOf(file, 'assertionResults')
    for (const test of tests) {
      const status = memberOf(test, 'status')
      if (status === 'passed') tally.passed++
      else if (status === 'failed') tally.failed++
      else tally.skipped++
    }
    const isBroken = memberOf(file, 'status') === 'failed'
    if (isBroken && !tests.some((test) => memberOf(test, 'status') === 'failed')) tally.failed++
  }
  return tally
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null
    ? Object.entries(value).find(([key]) => key === name)?.[1]
    : undefined
}

function listOf(value: unknown, name: string): unknown[] {
  const member = memberOf(value, name)
  return Array.isArray(member) ? member : []
}

process.exitCode = await main()
