// `sluice limits`: how the limits of the running gateway stand, as a table or for a program. Reads `/status`, takes
// nothing.

import { z } from 'zod'
import { askAdmin } from './admin.ts'
import { DONE, type Hands, type Io, notSo } from './io.ts'
import { type Colour, coloured, durationText, printable, table } from './terminal.ts'

export interface LimitsOptions {
  readonly json?: boolean
  readonly watch?: boolean
}

/** Between the end of one look and the next: what is shown is up to a second old anyway. */
export const REFRESH_MS = 1_000

const amount = z.number().nullable()
const bucketSchema = z.object({
  limit: z.number(),
  perSecond: z.number(),
  left: amount,
  fullInMs: amount,
  leasedHere: z.number(),
})
const subjectSchema = z.object({
  kind: z.string(),
  id: z.string(),
  toldBy: z.enum(['ledgers', 'share', 'nobody']),
  sharedBy: z.number(),
  requests: bucketSchema.optional(),
  tokens: bucketSchema.optional(),
  concurrency: z
    .object({
      limit: z.number(),
      left: amount,
      inUse: amount,
      usedHere: z.number(),
      leasedHere: z.number(),
    })
    .optional(),
  budget: z
    .object({
      limitUsd: z.number(),
      period: z.string(),
      leftUsd: amount,
      spentUsd: amount,
      leasedHereUsd: z.number(),
      endsAt: z.iso.datetime(),
    })
    .optional(),
})
/** The part of `/status` that is about limits; the rest is left out. */
export const limitsPart = z.object({
  limits: z.enum(['here', 'redis', 'outage']),
  redis: z
    .object({
      up: z.boolean(),
      since: z.iso.datetime(),
      fleet: z.number(),
      divisor: z.number(),
      onOutage: z.enum(['local', 'deny']),
      trips: z.number(),
    })
    .nullable(),
  agents: z.array(
    z.object({ agent: z.string(), limits: subjectSchema.nullable(), bearers: z.array(subjectSchema) }),
  ),
  agentsLeftOut: z.number(),
  shared: z.array(subjectSchema),
  leases: z.object({
    accounts: z.number(),
    permits: z.number(),
    slots: z.number(),
    owed: z.object({ requests: z.number(), tokens: z.number() }),
  }),
  openHolds: z.number(),
  waiting: z.number(),
})
type Status = z.output<typeof limitsPart>
type Shown = z.output<typeof subjectSchema>

/** Of all, or of one agent. Exit code 1 when the gateway cannot be asked, or has no such agent. */
export async function showLimits(
  agent: string | undefined,
  { json, watch }: LimitsOptions,
  io: Io,
  hands: Hands,
): Promise<number> {
  for (;;) {
    const answer = await askAdmin({ method: 'GET', path: '/status', query: { agent } }, io, hands)
    if (!answer.ok) return notSo(io, answer.message)
    if (!answer.done) return notSo(io, answer.message ?? `the gateway answered ${answer.status}`)
    const { data: status } = limitsPart.safeParse(answer.body)
    if (status === undefined) return notSo(io, 'the gateway says it in a way that this version cannot read')
    if (json) io.stdout(`${JSON.stringify(status, undefined, watch ? undefined : 2)}\n`)
    else io.stdout(watch ? screen(io, page(io, status, hands.now())) : page(io, status, hands.now()))
    if (!watch) return DONE
    await hands.wait(REFRESH_MS)
  }
}

/** The table of agents, bearers and what they share. */
function page(io: Io, status: Status, nowMs: number): string {
  const more = status.agentsLeftOut
  return [
    `${limitsHeadline(io, status)}\n\n`,
    limitsTable(io, status, nowMs),
    more === 0 ? '' : `\nand ${more} more agents: name one to see it\n`,
  ].join('')
}

/** A row for each limit of those who are told of. */
export function limitsTable(io: Io, status: Pick<Status, 'agents' | 'shared'>, nowMs: number): string {
  const rows = [
    ...status.agents.flatMap(({ agent, limits, bearers }) => [
      ...(limits === null && bearers.length === 0 ? [[`agent ${printable(agent)}`, 'no limits']] : []),
      ...(limits === null ? [] : toRows(io, limits, `agent ${limits.id}`, nowMs)),
      ...bearers.flatMap((bearer) => toRows(io, bearer, `bearer ${agent}/${bearer.id}`, nowMs)),
    ]),
    ...status.shared.flatMap((one) =>
      toRows(io, one, one.kind === 'gateway' ? 'gateway' : `${one.kind} ${one.id}`, nowMs),
    ),
  ]
  return table(['who', 'limit', 'left', 'in use', 'leased here', 'full in'], rows)
}

/** Where limits are counted, and what that means while it is not where it should be. */
export function limitsHeadline(io: Io, { limits, redis, waiting }: Status): string {
  const line = waiting === 0 ? '' : `, ${counted(waiting, 'request')} waiting here`
  if (limits === 'here' || redis === null) return `counted in this process${line}`
  if (limits === 'redis') return `counted in Redis for ${counted(redis.fleet, 'replica')}${line}`
  const what =
    redis.onOutage === 'deny'
      ? 'whoever has limits is refused'
      : `this replica admits its share, 1/${redis.divisor} of each limit, and no money`
  return coloured(io, 'yellow', `Redis is away since ${redis.since.slice(11, 19)} UTC: ${what}${line}`)
}

/** A row for each kind; the name stands at the first. */
function toRows(
  io: Io,
  { requests, tokens, concurrency, budget }: Shown,
  who: string,
  nowMs: number,
): string[][] {
  const rows: string[][] = []
  for (const [bucket, what] of [
    [requests, 'requests'],
    [tokens, 'tokens'],
  ] as const) {
    if (bucket === undefined) continue
    const { limit, perSecond, left, fullInMs, leasedHere } = bucket
    rows.push([
      `${grouped(limit)} ${what}, ${rateText(perSecond)}`,
      gauge(io, left, limit, left === null ? '?' : grouped(left)),
      '',
      leasedHere === 0 ? '' : grouped(leasedHere),
      fullInMs === null ? '?' : fullInMs === 0 ? '' : durationText(fullInMs),
    ])
  }
  if (concurrency !== undefined) {
    const { limit, left, inUse, usedHere, leasedHere } = concurrency
    rows.push([
      `${grouped(limit)} at once`,
      gauge(io, left, limit, left === null ? '?' : grouped(left)),
      inUse === null ? '?' : inUse === 0 ? '' : `${grouped(inUse)}, ${usedHere} here`,
      leasedHere === 0 ? '' : grouped(leasedHere),
      '',
    ])
  }
  if (budget !== undefined) {
    const { limitUsd, period, leftUsd, spentUsd, leasedHereUsd, endsAt } = budget
    rows.push([
      `${limitUsd} USD/${printable(period)}`,
      gauge(io, leftUsd, limitUsd, leftUsd === null ? '?' : usd(leftUsd)),
      spentUsd === null ? '?' : spentUsd === 0 ? '' : usd(spentUsd),
      leasedHereUsd === 0 ? '' : usd(leasedHereUsd),
      spentUsd === 0 ? '' : durationText(Math.max(Date.parse(endsAt) - nowMs, 0)),
    ])
  }
  return rows.map((row, i) => [i === 0 ? printable(who) : '', ...row])
}

const CELLS = 10
const NEARLY = 0.2

/** What is left, with a bar at a terminal: yellow when it is nearly nothing, red when it is nothing. */
function gauge(io: Io, left: number | null, limit: number, text: string): string {
  if (left === null) return text
  const share = limit > 0 ? Math.min(left / limit, 1) : 0
  const cells = left > 0 ? Math.max(Math.round(share * CELLS), 1) : 0
  const shown = io.isTty ? `${'█'.repeat(cells)}${'░'.repeat(CELLS - cells)} ${text}` : text
  const colour: Colour | undefined = left <= 0 ? 'red' : share < NEARLY ? 'yellow' : undefined
  return colour === undefined ? shown : coloured(io, colour, shown)
}

/** In the largest unit in which it is at least one, as one would write it: `50/s`, `30/min`, `1/h`. */
function rateText(perSecond: number): string {
  for (const [unit, seconds] of [
    ['s', 1],
    ['min', 60],
    ['h', 3600],
  ] as const) {
    const value = perSecond * seconds
    if (value >= 0.999 && Math.abs(value - Math.round(value)) < 1e-8 * value)
      return `${grouped(Math.round(value))}/${unit}`
  }
  const [unit, seconds] = perSecond >= 1 ? (['s', 1] as const) : (['d', 86_400] as const)
  return `${Number((perSecond * seconds).toPrecision(4))}/${unit}`
}

function usd(amountUsd: number): string {
  return `${amountUsd < 0.01 && amountUsd > 0 ? '<0.01' : amountUsd.toFixed(2)} USD`
}

function grouped(count: number): string {
  return count.toLocaleString('en-US', { maximumFractionDigits: 1 })
}

export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

/** Whether little is left of one of the limits. */
export function isNearly({ requests, tokens, concurrency, budget }: Shown): boolean {
  const shares = [
    ...[requests, tokens, concurrency].map((one) => one && (one.left ?? one.limit) / one.limit),
    budget && (budget.leftUsd ?? budget.limitUsd) / budget.limitUsd,
  ]
  return shares.some((share) => share !== undefined && share < NEARLY)
}

/** At a terminal each page replaces the one before, cut to what fits; elsewhere a blank line parts them. */
export function screen(io: Io, text: string): string {
  if (!io.isTty) return `${text}\n`
  const lines = text.trimEnd().split('\n')
  const most = Math.max((io.rows ?? 24) - 1, 3)
  const shown =
    lines.length <= most
      ? lines
      : [...lines.slice(0, most - 1), `… ${lines.length - most + 1} more lines; name an agent`]
  return `\u001b[H${shown.map((line) => `${line}\u001b[K\n`).join('')}\u001b[J`
}
