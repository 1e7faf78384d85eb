// What a limit costs and what it gives: `npm run bench:limits`, about a minute. Limiter processes of our own on a real
// Redis, exact and on leases, one and four of them, all on one hot key that more is wanted of than there is. How much
// of the limit was used, how far it was passed in any window, how often Redis was asked. The table goes to
// bench/results/limits.md too; for comparing on one machine, never as an absolute claim.

import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { ensureBinary, REDIS } from '../test/support/debian-binary.ts'
import { type Outcome, runCase } from '../test/support/limits-proof.ts'
import { toTable } from '../test/support/table.ts'

const SECONDS = Number(process.argv[2] ?? 10)
const PER_SECOND = 5_000

const runs = ([1, 4] as const).flatMap((replicas) =>
  (['exact', 'leases'] as const).map((mode) => ({ replicas, mode })),
)

function toRow({ mode, replicas, ...one }: Outcome): (string | number | undefined)[] {
  return [
    mode,
    replicas,
    one.admitted,
    one.utilisation * 100,
    Math.round(one.excess * 10) / 10,
    one.trips,
    one.commands,
    one.p99Ms,
    one.longestMs,
  ]
}
const HEADS = [
  'mode',
  'processes',
  'admitted',
  'used %',
  'excess',
  'sent per admission',
  'commands per admission',
  'p99 ms',
  'longest ms',
]

ensureBinary(REDIS, (line) => process.stderr.write(`${line}\n`))
const outcomes: Outcome[] = []
for (const [at, run] of runs.entries()) {
  const say = `run ${at + 1} of ${runs.length}: ${run.replicas} × ${run.mode}, ${SECONDS} s`
  process.stderr.write(process.stderr.isTTY ? `\r\u001b[K${say}` : `${say}\n`)
  outcomes.push(
    await runCase({
      ...run,
      name: 'bench',
      perSecond: PER_SECOND,
      capacity: PER_SECOND,
      forMs: SECONDS * 1_000,
      redis: 'alone',
      callers: 64 / run.replicas,
      formula: '0',
      allowed: () => 0,
    }),
  )
}
if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')

const rows = outcomes.map(toRow)
const isBad = (at: number): boolean => (outcomes[at]?.excess ?? 0) > 0
process.stdout.write(`${toTable(HEADS, rows, { colour: process.stdout.isTTY, isBad })}\n`)

const folder = join(import.meta.dirname, 'results')
mkdirSync(folder, { recursive: true })
const [cpu] = cpus()
writeFileSync(
  join(folder, 'limits.md'),
  [
    `# ${PER_SECOND.toLocaleString('en')} requests a second on one hot key, ${SECONDS} s each`,
    '',
    `${new Date().toISOString().slice(0, 10)}, Node ${process.version}, ${cpus().length} × ${cpu?.model ?? 'unknown'}. \`npm run bench:limits\`.`,
    '',
    'Excess is the worst window against B + r·T; below 0 it held. Sent: what went over the wire to Redis, a script being',
    'one; commands: those that scripts call included. Both without heartbeats.',
    '',
    '```',
    toTable(HEADS, rows),
    '```',
    '',
  ].join('\n'),
)
if (outcomes.some((_, at) => isBad(at))) process.exitCode = 1
