// One folder per test run for temporary files, and the list of the processes it started. Whatever a worker leaves
// behind (it crashed, it was killed) is found here and ended by the global teardown, by pid and start time.

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const VARIABLE = 'SLUICE_TEST_RUN'

/** The folder of this run; made on first use when no global setup made one. */
export function runFolder(): string {
  const known = process.env[VARIABLE]
  if (known) return known
  const made = mkdtempSync(join(tmpdir(), 'sluice-test-'))
  mkdirSync(join(made, 'children'))
  process.env[VARIABLE] = made
  // Whoever makes the folder takes it away: the global setup's process, or a bench that has none.
  atEnd(() => removeRunFolder(made))
  return made
}

/** A new empty folder (mode 0700) which goes away with the run. */
export function temporaryFolder(prefix: string): string {
  return mkdtempSync(join(runFolder(), `${prefix}-`))
}

/** Ends what is still running and removes the folder. Returns what had to be ended. */
export function removeRunFolder(folder: string): string[] {
  const ended: string[] = []
  let files: string[] = []
  try {
    files = readdirSync(join(folder, 'children'))
  } catch {
    return ended
  }
  for (const file of files) {
    const pid = Number(file)
    const [started = '', ...command] = readText(join(folder, 'children', file)).split('\n')
    if (started === startOf(pid) && kill(pid)) ended.push(`${pid} ${command.join(' ')}`)
  }
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  return ended
}

const atEnds: (() => void)[] = []

/** Runs when this process ends, by itself or by SIGTERM, which is how vitest ends a worker after each file. */
export function atEnd(run: () => void): void {
  atEnds.push(run)
  if (atEnds.length > 1) return
  const runAll = (): void => {
    for (const one of atEnds.splice(0)) one()
  }
  process.once('exit', runAll)
  process.once('SIGTERM', () => {
    runAll()
    process.kill(process.pid, 'SIGTERM')
  })
}

const alive = new Set<ChildProcess>()
atEnd(() => {
  for (const child of alive) {
    child.kill('SIGKILL')
    rmSync(join(runFolder(), 'children', String(child.pid)), { force: true })
  }
})

/** `spawn` whose child cannot outlive the tests. It gets a process of its own, no shell. */
export function spawnTracked(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const record = join(runFolder(), 'children')
  const child = spawn(command, args, options)
  const { pid } = child
  if (pid === undefined) return child
  alive.add(child)
  writeFileSync(join(record, String(pid)), [startOf(pid), command, ...args].join('\n'))
  child.once('exit', () => {
    alive.delete(child)
    rmSync(join(record, String(pid)), { force: true })
  })
  return child
}

/** Resolves with the exit code, or null when a signal ended it. */
export function exited(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode)
  return new Promise((resolve) => {
    child.once('exit', (code) => resolve(code))
  })
}

function kill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL')
    return true
  } catch {
    return false
  }
}

/** Start time of a process in clock ticks (Linux), so that a reused pid is not mistaken; '' where it cannot be told. */
export function startOf(pid: number): string {
  const stat = readText(`/proc/${pid}/stat`)
  // The second field is the name in brackets and may hold spaces; the 22nd of all is the start time.
  return (
    stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .at(19) ?? ''
  )
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
