// Brings the agents onto this machine: from npm, at exact versions, into the cache of this checkout. They are hundreds of
// megabytes, which nobody wants who only runs the tests.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { exited, spawnTracked } from '../support/run-folder.ts'
import { PROGRAMS } from './programs.ts'

const FOLDER = resolve(import.meta.dirname, '../../node_modules/.cache/agents')

/** Installs what is not there yet, saying so. Returns the folder with their commands. @throws Error when npm fails */
export async function installAgents(say: (line: string) => void): Promise<string> {
  const wanted = [...new Set(PROGRAMS.map((program) => program.package))].sort()
  const mark = join(FOLDER, 'installed.json')
  const bin = join(FOLDER, 'node_modules/.bin')
  if (existsSync(mark) && readFileSync(mark, 'utf8') === JSON.stringify(wanted)) return bin
  say(`installing ${wanted.join(', ')} (about 2 GB, some minutes)`)
  mkdirSync(FOLDER, { recursive: true })
  writeFileSync(join(FOLDER, 'package.json'), '{"private":true}')
  // Two of them put their program in its place by a script of the package.
  const args = ['install', '--no-audit', '--no-fund', ...wanted]
  const npm = spawnTracked('npm', args, { cwd: FOLDER, stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  npm.stderr?.on('data', (bytes: Buffer) => {
    said = (said + bytes.toString()).slice(-4_000)
  })
  const code = await exited(npm)
  if (code !== 0) throw new Error(`npm could not install the agents (exit code ${code}): ${said}`)
  writeFileSync(mark, JSON.stringify(wanted))
  return bin
}
