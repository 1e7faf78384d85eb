// Fails where Sluice has become slower: `npm run bench:gate`, under two minutes. Compares its processor time with that of
// nginx and of a plain proxy in the same run, and these ratios with the stored ones; never one machine's figures with
// another's. `--update` stores what it finds. To be run before a change of the path of a request is taken.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureBinary, REDIS } from '../test/support/debian-binary.ts'
import { startRedis } from '../test/support/redis.ts'
import { toTable } from '../test/support/table.ts'
import { short } from './figures.ts'
import { losses, type Ratios, toRatios } from './loss.ts'
import { putFirst } from './machine.ts'
import { type Context, saturated, streams } from './measures.ts'
import { build } from './native.ts'
import { buildSluice, nginx, plainProxy, sluice } from './targets.ts'

const FILE = join(import.meta.dirname, 'results/gate.json')
const ROUNDS = 3
const STREAMS = 300

const { isTTY } = process.stderr
const say = (line: string): void => void process.stderr.write(isTTY ? `\r\u001b[K${line}\n` : `${line}\n`)

putFirst()
ensureBinary(REDIS, say)
buildSluice()
const redis = await startRedis()
const context: Context = {
  programs: { mock: build('mock', say), load: build('load', say) },
  field: { redis, say },
  countCommands: undefined,
  progress: (text) => process.stderr.write(isTTY ? `\r\u001b[K${text}` : `${text}\n`),
  say,
}
const [own, front, plain] = [sluice(), nginx(say), plainProxy()]

async function measure(): Promise<Ratios> {
  const plan = { targets: [front, own, plain], rounds: ROUNDS, measureMs: 2000, warmMs: 4000 }
  const requests = await saturated(plan, '1.5 KB', context)
  const chunks = await streams(
    { ...plan, targets: [front, own], rounds: 2, measureMs: 3000 },
    STREAMS,
    context,
  )
  return { ...toRatios('request', requests, own.name), ...toRatios('chunk', chunks, own.name) }
}

const stored: Ratios = existsSync(FILE) ? JSON.parse(readFileSync(FILE, 'utf8')) : {}
let found = await measure()
if (!process.argv.includes('--update') && losses(stored, found).length > 0) {
  say('slower than stored: measuring once more')
  const again = await measure()
  // A neighbour can only make things slower, so that the better of two is nearer to the truth.
  found = Object.fromEntries(
    Object.entries(found).map(([name, ratio]) => [name, Math.min(ratio, again[name] ?? ratio)]),
  )
}
if (isTTY) process.stderr.write('\r\u001b[K')
const lost = new Set(losses(stored, found))
const rows = Object.entries(found).map(([name, ratio]) => [
  name,
  short(ratio),
  stored[name] === undefined ? '–' : short(stored[name]),
  lost.has(name) ? 'LOST' : 'ok',
])
const isBad = (row: number): boolean => lost.has(String(rows[row]?.[0]))
process.stdout.write(
  `${toTable(['CPU of Sluice', 'here', 'stored', ''], rows, { colour: process.stdout.isTTY, isBad })}\n`,
)
if (process.argv.includes('--update')) {
  const kept = Object.entries(found).map(([name, ratio]) => [name, Number(ratio.toFixed(3))])
  writeFileSync(FILE, `${JSON.stringify(Object.fromEntries(kept), undefined, 2)}\n`)
} else if (lost.size > 0) process.exitCode = 1
await redis.stop()
