// Nothing outlives the tests, whatever becomes of the process that started it.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { freePort } from '../../support/ports.ts'
import { exited, removeRunFolder, spawnTracked } from '../../support/run-folder.ts'

const SUPPORT = join(import.meta.dirname, '../../support')

/** A process with a run folder of its own which starts a sleeper, says its pid, and ends as told. */
async function parent(ending: string): Promise<{ readonly sleeper: number; readonly folder: string }> {
  const script = `
    import { runFolder, spawnTracked } from ${JSON.stringify(join(SUPPORT, 'run-folder.ts'))}
    const child = spawnTracked('sleep', ['60'], { stdio: 'ignore' })
    process.stdout.write(child.pid + ' ' + runFolder() + '\\n')
    ${ending}`
  const { SLUICE_TEST_RUN: _, ...env } = process.env
  const child = spawnTracked(process.execPath, ['--input-type=module', '-e', script], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout?.on('data', (chunk) => {
    said += chunk
  })
  await exited(child)
  const [pid = '', folder = ''] = said.trim().split(' ')
  return { sleeper: Number(pid), folder }
}

/** Gone, or a zombie that nobody has collected yet. */
async function isGone(pid: number): Promise<boolean> {
  for (let tries = 0; tries < 50; tries++) {
    try {
      if (/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) return true
      await new Promise((resolve) => setTimeout(resolve, 10))
    } catch {
      return true
    }
  }
  return false
}

for (const [how, ending] of [
  ['ends by itself', 'process.exit(0)'],
  [
    'fails',
    'setTimeout(() => { throw new Error("on purpose") }, 1); process.on("uncaughtException", () => process.exit(1))',
  ],
  ['is ended by SIGTERM', 'process.kill(process.pid, "SIGTERM"); setInterval(() => {}, 1000)'],
] as const) {
  test(`ends its children when the process ${how}`, async () => {
    const { sleeper, folder } = await parent(ending)
    expect(sleeper).toBeGreaterThan(0)
    expect(await isGone(sleeper)).toBe(true)
    expect(existsSync(folder)).toBe(false)
  })
}

test('finds what a killed process left and ends it', async () => {
  const { sleeper, folder } = await parent(
    'process.kill(process.pid, "SIGKILL"); setInterval(() => {}, 1000)',
  )
  expect(await isGone(sleeper)).toBe(false)
  expect(removeRunFolder(folder)).toEqual([`${sleeper} sleep 60`])
  expect(await isGone(sleeper)).toBe(true)
  expect(existsSync(folder)).toBe(false)
})

test('hands out a port once', async () => {
  const ports = await Promise.all(Array.from({ length: 50 }, () => freePort()))
  expect(new Set(ports).size).toBe(50)
})
