// `sluice status`: how the running gateway stands, for a person or for a program: tiers with their deployments, agents
// near a limit, secrets. Reads `/status`, takes nothing.

import { z } from 'zod'
import { askAdmin } from './admin.ts'
import { DONE, type Hands, type Io, notSo } from './io.ts'
import { counted, isNearly, limitsHeadline, limitsPart, limitsTable, REFRESH_MS, screen } from './limits.ts'
import { type Colour, coloured, durationText, printable, table } from './terminal.ts'

export interface StatusOptions {
  readonly all?: boolean
  readonly agents?: boolean
  readonly secrets?: boolean
  readonly json?: boolean
  readonly watch?: boolean
}

const price = z.union([z.string(), z.object({ input: z.number(), cached: z.number(), output: z.number() })])
const statusSchema = limitsPart.extend({
  version: z.string(),
  phase: z.string(),
  source: z.string(),
  startedAt: z.iso.datetime(),
  workers: z.object({ live: z.number(), of: z.number() }).optional(),
  inflight: z.number(),
  streams: z.number(),
  overload: z.object({ cap: z.number().nullable(), loopDelayMs: z.number(), shedding: z.array(z.string()) }),
  routes: z.array(z.object({ route: z.string(), tiers: z.array(z.string()) })),
  tiers: z.array(
    z.object({
      tier: z.string(),
      balance: z.string(),
      deployments: z.array(z.object({ deployment: z.string(), isReply: z.boolean(), weight: z.number() })),
    }),
  ),
  deployments: z.array(
    z.object({
      deployment: z.string(),
      state: z.string(),
      reason: z.string(),
      phase: z.string(),
      holdMs: z.number(),
      share: z.number(),
      since: z.iso.datetime().nullable(),
      price: price.optional(),
      models: z
        .array(z.object({ model: z.string(), state: z.string(), reason: z.string(), holdMs: z.number() }))
        .optional(),
    }),
  ),
  secrets: z.array(
    z.object({
      secret: z.string(),
      ageSeconds: z.number().optional(),
      rotateSeconds: z.number().optional(),
      problem: z.string().optional(),
    }),
  ),
})
type Status = z.output<typeof statusSchema>
type Deployment = Status['deployments'][number]

/** Exit code 1 when the gateway cannot be asked. */
export async function showStatus(options: StatusOptions, io: Io, hands: Hands): Promise<number> {
  const { json, watch } = options
  for (;;) {
    const answer = await askAdmin({ method: 'GET', path: '/status' }, io, hands)
    if (!answer.ok) return notSo(io, answer.message)
    if (!answer.done) return notSo(io, answer.message ?? `the gateway answered ${answer.status}`)
    const { data: status } = statusSchema.safeParse(answer.body)
    if (status === undefined) return notSo(io, 'the gateway says it in a way that this version cannot read')
    if (json) io.stdout(`${JSON.stringify(status, undefined, watch ? undefined : 2)}\n`)
    else {
      const text = page(io, status, options, hands.now())
      io.stdout(watch ? screen(io, text) : text)
    }
    if (!watch) return DONE
    await hands.wait(REFRESH_MS)
  }
}

function page(io: Io, status: Status, { all, agents, secrets }: StatusOptions, nowMs: number): string {
  const isPart = agents === true || secrets === true
  const parts = [
    ...(isPart ? [] : [head(io, status, nowMs), tierTable(io, status, nowMs), routeTable(status)]),
    ...(isPart && !agents ? [] : [agentPart(io, status, { all: all === true || agents === true }, nowMs)]),
    ...(isPart && !secrets ? [] : [secretPart(io, status)]),
  ]
  return parts.filter((part) => part !== '').join('\n')
}

/** What it is, how it stands, how much it does. */
function head(io: Io, status: Status, nowMs: number): string {
  const { version, phase, source, startedAt, workers, inflight, streams, overload } = status
  const upMs = Math.max(nowMs - Date.parse(startedAt), 0)
  const load = [
    `${counted(inflight, 'request')} under way, ${counted(streams, 'stream')}`,
    ...(workers === undefined ? [] : [`${workers.live} of ${workers.of} workers`]),
  ]
  const busy =
    overload.cap === null
      ? ''
      : `\n${coloured(io, 'red', `overloaded: no more than ${overload.cap} under way, the loop is ${overload.loopDelayMs} ms late; sheds ${overload.shedding.join(', ') || 'nobody now'}`)}`
  const isReady = phase === 'ready'
  return `sluice ${printable(version)} ${coloured(io, isReady ? 'green' : 'yellow', printable(phase))}, up ${durationText(upMs)}, on ${printable(source)}
${load.join(', ')}; limits ${limitsHeadline(io, status)}${busy}\n`
}

const COLOURS: Readonly<Record<string, Colour>> = {
  available: 'green',
  slow: 'yellow',
  low_quota: 'yellow',
  unavailable: 'red',
}

/** Every deployment in its place. */
function tierTable(io: Io, { tiers, deployments }: Status, nowMs: number): string {
  const known = new Map(deployments.map((one) => [one.deployment, one]))
  const rows = tiers.flatMap(({ tier, balance, deployments: places }) =>
    places.flatMap(({ deployment, isReply, weight }, i) => {
      const total = places.reduce((sum, one) => sum + one.weight, 0)
      const share = places.length === 1 ? '' : balance === 'latency' ? 'latency' : percent(weight / total)
      const name = i === 0 ? printable(tier) : ''
      const one = known.get(deployment)
      if (isReply || one === undefined)
        return [[name, isReply ? 'fixed reply' : printable(deployment), share]]
      return [
        [
          name,
          printable(deployment),
          share,
          ...toCells(io, one),
          sinceText(one, nowMs),
          priceText(one.price),
        ],
        ...(one.models ?? []).map((model) => [
          '',
          `  ${printable(model.model)}`,
          '',
          ...toCells(io, { ...model, phase: '', share: 1 }),
        ]),
      ]
    }),
  )
  return table(['tier', 'deployment', 'share', 'state', 'why', 'since', 'USD per million'], rows)
}

function toCells(
  io: Io,
  {
    state,
    reason,
    phase,
    holdMs,
    share,
  }: Pick<Deployment, 'state' | 'reason' | 'phase' | 'holdMs' | 'share'>,
): string[] {
  const colour = COLOURS[state]
  const way =
    phase === 'probing'
      ? 'one request at a time probes'
      : phase === 'recovering'
        ? `on its way back, ${percent(share)} of the traffic`
        : holdMs > 0
          ? `left alone for ${durationText(holdMs)}`
          : share < 1
            ? `${percent(share)} of the traffic`
            : ''
  const why = [printable(reason), way].filter((text) => text !== '').join(': ')
  return [colour === undefined ? printable(state) : coloured(io, colour, state), why]
}

function sinceText({ since }: Deployment, nowMs: number): string {
  return since === null ? 'not called yet' : durationText(Math.max(nowMs - Date.parse(since), 0))
}

function priceText(of: Deployment['price']): string {
  if (of === undefined) return ''
  return typeof of === 'string' ? printable(of) : `${of.input} in, ${of.output} out`
}

function routeTable({ routes }: Status): string {
  return table(
    ['route', 'tiers'],
    routes.map(({ route, tiers }) => [printable(route), printable(tiers.join(' → '))]),
  )
}

/** All, or those of whom little is left. */
function agentPart(io: Io, status: Status, { all }: { all: boolean }, nowMs: number): string {
  const agents = all
    ? status.agents
    : status.agents.flatMap((one) => {
        const limits = one.limits !== null && isNearly(one.limits) ? one.limits : null
        const bearers = one.bearers.filter(isNearly)
        return limits === null && bearers.length === 0 ? [] : [{ ...one, limits, bearers }]
      })
  const shared = status.shared.filter((one) => all || isNearly(one))
  if (agents.length === 0 && shared.length === 0) {
    return status.agents.length === 0
      ? ''
      : `of ${counted(status.agents.length, 'agent')} none is near a limit\n`
  }
  const more = status.agentsLeftOut === 0 ? '' : `\n${status.agentsLeftOut} more agents are not looked at\n`
  return `${limitsTable(io, { agents, shared }, nowMs)}${more}`
}

function secretPart(io: Io, { secrets }: Status): string {
  if (secrets.length === 0) return ''
  const rows = secrets.map(({ secret, ageSeconds, rotateSeconds, problem }) => [
    printable(secret),
    ageSeconds === undefined ? 'never read' : durationText(ageSeconds * 1_000),
    rotationText(io, ageSeconds, rotateSeconds),
    problem === undefined ? coloured(io, 'green', 'good') : coloured(io, 'red', printable(problem)),
  ])
  return table(['secret', 'age', 'rotation', 'last read'], rows)
}

/** When it is to be replaced, or for how long that has not been done. */
function rotationText(io: Io, ageSeconds: number | undefined, rotateSeconds: number | undefined): string {
  if (rotateSeconds === undefined) return ''
  const leftMs = (rotateSeconds - (ageSeconds ?? 0)) * 1_000
  return leftMs < 0
    ? coloured(io, 'red', `overdue for ${durationText(-leftMs)}`)
    : `due in ${durationText(leftMs)}`
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}
