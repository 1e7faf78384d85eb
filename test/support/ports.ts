// Ports for servers that must be told theirs. They come from below the ephemeral range, so that no outgoing
// connection takes one between a crash and a restart, and are locked by a file so that no two workers get the same.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atEnd, startOf } from './run-folder.ts'

const FIRST = 12_000
const COUNT = 18_000
const folder = join(tmpdir(), 'sluice-test-ports')
const held = new Set<number>()
atEnd(() => {
  for (const port of held) rmSync(join(folder, String(port)), { force: true })
})

/** A free port; it stays this process's until it ends. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 500; tries++) {
    const port = FIRST + Math.floor(Math.random() * COUNT)
    if (!lock(port)) continue
    if (await isFree(port)) return port
    unlock(port)
  }
  throw new Error('no free port found in 500 tries')
}

/** A server that a test has just ended may still be there for a moment; one that stays longer is somebody else's. */
const FOREIGN_MS = 5_000

/**
 * Waits for its turn among the tests and takes a fixed port. For those that the contract fixes (7456, 7457): a start
 * without a file can be told no others, and that it listens there is what is tested.
 */
export async function takePort(port: number, timeoutMs = 60_000, foreignMs = FOREIGN_MS): Promise<void> {
  const giveUpAt = performance.now() + timeoutMs
  let busySince: number | undefined
  while (performance.now() < giveUpAt) {
    if (lock(port)) {
      if (await isFree(port)) return
      unlock(port)
      busySince ??= performance.now()
      if (performance.now() - busySince > foreignMs) {
        throw new Error(
          `another process listens on port ${port}: the tests of a start without configuration need 7456 and 7457 free, end it and run them again`,
        )
      }
    } else busySince = undefined
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`port ${port} was not given back by other tests within ${timeoutMs} ms`)
}

/** Gives a port back before the process ends. */
export function releasePort(port: number): void {
  if (held.has(port)) unlock(port)
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    // The wildcard address: free here means free for a server on 127.0.0.1 and for one on 0.0.0.0.
    server.listen({ port, host: '0.0.0.0', exclusive: true }, () => server.close(() => resolve(true)))
  })
}

function lock(port: number): boolean {
  if (held.has(port)) return false
  mkdirSync(folder, { recursive: true })
  const file = join(folder, String(port))
  for (let tries = 0; tries < 2; tries++) {
    try {
      writeFileSync(file, `${process.pid} ${startOf(process.pid)}`, { flag: 'wx' })
      held.add(port)
      return true
    } catch {
      if (ownerLives(file)) return false
      rmSync(file, { force: true })
    }
  }
  return false
}

function unlock(port: number): void {
  held.delete(port)
  rmSync(join(folder, String(port)), { force: true })
}

/** A worker that was killed leaves its locks; its pid may be somebody else's by now. */
function ownerLives(file: string): boolean {
  try {
    const [pid, started] = readFileSync(file, 'utf8').split(' ')
    // An empty file is being written this moment.
    if (!pid) return true
    process.kill(Number(pid), 0)
    return started === startOf(Number(pid))
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
