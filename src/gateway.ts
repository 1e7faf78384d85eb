// The product: builds the rooms for one Snapshot and holds the path of a request. A reload builds another gateway
// and swaps the reference; what must outlive it (buckets, slots, breakers, keys, pools) comes in as stores.

import type { Snapshot } from './config/snapshot.ts'
import { GatewayError } from './errors.ts'
import { formats } from './formats/index.ts'
import { ERROR_SHAPES } from './http/error-body.ts'
import type { Overload } from './http/overload.ts'
import { createHttp, type Http } from './http/room.ts'
import { createIdentity, type Identity } from './identity/identify.ts'
import type { Revocations, Stay } from './identity/revocations.ts'
import { createPolicy, type Policy, toRefusal } from './policy/decide.ts'
import type { HeaderLine, Meter } from './quota/meter.ts'
import { isFull, type SubjectLimits } from './quota/shown.ts'
import { createRouter, type Router } from './route/plan.ts'
import type { Agent, Arrival, Clock, Hold, Question, Reply, Trail } from './types.ts'
import { createUpstream, type PlaceSeen, type Upstream, type UpstreamDeps } from './upstream/call.ts'
import type { Recorder } from './usage/record.ts'

export interface Gateway {
  readonly snapshot: Snapshot
  /** Takes one model request from its arrival to its record. Never rejects. */
  handle(arrival: Arrival, reply: Reply): Promise<void>
  /** Model names that a bearer may use, globs left out. @throws GatewayError invalid_api_key */
  models(bearer: string | undefined): readonly string[]
  /** Whether a bearer may call a model by this name, a glob's included. @throws GatewayError invalid_api_key */
  hasModel(bearer: string | undefined, name: string): boolean
  /** How all limits stand, or those of one agent; undefined when there is no such agent. Takes nothing. */
  limits(agent: string | undefined): Promise<LimitsShown | undefined>
  /** What would become of a request now, without a call and taking nothing; undefined when there is no such agent. */
  explain(question: Question): Promise<Explained | undefined>
}

export interface Explained {
  readonly allow: boolean
  /** What the caller would get if every provider answers well; of limits what they say at this moment. */
  readonly status: number
  readonly code: string
  /** The scope, or the entry of `deny`, that decides. */
  readonly matched: string
  /** Why it would be refused. */
  readonly message?: string
  readonly route?: string
  /** Limits that it would take from. */
  readonly limits: readonly SubjectLimits[]
  /** Where it would go, in this order; a draw by weight comes out anew each time. */
  readonly plan: readonly PlaceSeen[]
}

export interface LimitsShown {
  readonly agents: readonly {
    readonly agent: string
    /** Null when it has none of its own. */
    readonly limits: SubjectLimits | null
    /** Of its bearers those that have limits. */
    readonly bearers: readonly SubjectLimits[]
  }[]
  /** More agents than are shown: ask for them by name. */
  readonly agentsLeftOut: number
  /** Gateway, routes, deployments and providers that have limits. */
  readonly shared: readonly SubjectLimits[]
}

/** What outlives a Snapshot; made in main.ts. */
export interface Stores extends Omit<UpstreamDeps, 'formats'> {
  readonly clock: Clock
  readonly overload: Overload
  readonly quota: Meter
  readonly revocations: Revocations
  readonly usage: Recorder
  /** Requests and streams under way. */
  readonly counts: { inflight: number; streams: number }
}

export function buildGateway(snapshot: Snapshot, stores: Stores): Gateway {
  return createGateway(snapshot, {
    http: createHttp({ snapshot }),
    identity: createIdentity({ snapshot, revocations: stores.revocations }),
    overload: stores.overload,
    policy: createPolicy({ operations: snapshot.operations }),
    quota: stores.quota,
    route: createRouter({ snapshot, health: stores.health, pace: stores.pace, random: stores.random }),
    upstream: createUpstream({ ...stores, formats }),
    usage: stores.usage,
    counts: stores.counts,
  })
}

interface Rooms {
  readonly http: Http
  readonly identity: Identity
  readonly overload: Overload
  readonly policy: Policy
  readonly quota: Meter
  readonly route: Router
  readonly upstream: Upstream
  readonly usage: Recorder
  readonly counts: Stores['counts']
}

function createGateway(snapshot: Snapshot, rooms: Rooms): Gateway {
  const { http, identity, overload, policy, quota, route, upstream, usage, counts } = rooms

  /** The path of a request: one line, one room. */
  async function handle(arrival: Arrival, reply: Reply): Promise<void> {
    const trail: Trail = { attempts: [], trace: usage.begin(arrival) }
    let stay: Stay | undefined
    let hold: Hold | undefined
    counts.inflight += 1
    try {
      const entered = identity.enter(arrival)
      stay = entered.stay
      const caller = (trail.caller = entered.caller)
      overload.enter(caller)
      const request = (trail.request = http.readRequest(arrival, await http.readBody(arrival)))
      const decision = (trail.decision = policy.decide(caller, request))
      if (!decision.allow) throw toRefusal(request)
      const target = (trail.route = route.find(request))
      const deadlineAt = route.deadlineAt(target, decision, arrival)
      const priceBound = route.priceBound(target, request, decision)
      const { signal } = arrival
      const terms = { priceBound, deadlineAt, signal }
      const reserving = quota.reserve(caller, request, decision, route.subjects(target), terms)
      hold = reserving instanceof Promise ? await reserving : reserving // mostly there already
      announce(reply, quota.headers(hold))
      const plan = route.plan(target, request, decision, deadlineAt)
      const outcome = await upstream.call(plan, request, reply, {
        gate: quota.gate,
        attempts: trail.attempts,
        signal,
        trace: trail.trace,
      })
      trail.answeredBy = outcome.answeredBy
      trail.usage = outcome.usage // a stream that broke still used tokens
      trail.costMicros = outcome.costMicros
      if (outcome.error !== undefined) throw outcome.error
    } catch (error) {
      trail.error = error
      if (error instanceof GatewayError) announce(reply, quota.headers(error))
      reply.fail(error) // an error body before the first byte, an error event after it
    } finally {
      if (hold !== undefined) quota.settle(hold, trail.usage, trail.costMicros) // batched, never throws
      arrival.body.release()
      if (stay !== undefined) identity.leave(stay)
      if (trail.caller !== undefined) overload.leave(trail.caller)
      counts.inflight -= 1
      trail.status = reply.status || CALLER_LEFT
      usage.record(arrival, trail) // never throws
    }
  }

  function models(bearer: string | undefined): readonly string[] {
    const { agent } = identity.identify(bearer)
    return route.names.filter((name) => isAllowed(agent, name))
  }

  function hasModel(bearer: string | undefined, name: string): boolean {
    const { agent } = identity.identify(bearer)
    return !name.includes('*') && isAllowed(agent, name) && route.has(name)
  }

  function isAllowed(agent: Agent, name: string): boolean {
    return [...snapshot.operations].some((operation) => policy.allows(agent, operation, name))
  }

  async function limits(name: string | undefined): Promise<LimitsShown | undefined> {
    const agent = name === undefined ? undefined : snapshot.agents.get(name)
    if (name !== undefined && agent === undefined) return undefined
    const asked = agent === undefined ? [...snapshot.agents.values()] : [agent]
    const some = asked.slice(0, MOST_AGENTS_SHOWN)
    const shared =
      agent === undefined
        ? [...new Set([...route.shared, ...[...snapshot.deployments.values()].flatMap(quota.subjects)])]
        : []
    const own = some.map((one) => identity.subjects(one))
    // One look at all of them: it is the look that is bounded.
    const shown = await quota.look([...shared, ...own.flat()])
    let at = shared.length
    return {
      agents: some.map((one, i) => {
        const mine = shown.slice(at, at + (own[i]?.length ?? 0))
        at += mine.length
        return {
          agent: one.name,
          limits: mine.find(({ kind }) => kind === 'agent') ?? null,
          bearers: mine.filter(({ kind }) => kind === 'bearer'),
        }
      }),
      agentsLeftOut: asked.length - some.length,
      shared: shown.slice(0, shared.length),
    }
  }

  async function explain(question: Question): Promise<Explained | undefined> {
    const agent = snapshot.agents.get(question.agent)
    const caller = agent && identity.callerOf(agent, question.bearer)
    if (caller === undefined) return undefined
    let matched = ''
    try {
      const request = http.imagine(question.operation, question.body)
      const decision = policy.decide(caller, request)
      matched = decision.matched
      if (!decision.allow) throw toRefusal(request)
      const target = route.find(request)
      const limits = await quota.look([...caller.subjects, ...route.subjects(target)])
      const plan = route.plan(target, request, decision, Number.POSITIVE_INFINITY)
      const places = plan.tiers.flatMap(({ candidates }) => candidates.map(({ deployment }) => deployment))
      const full = await quota.foresee(places, request, { caller, decision })
      const own = isFull(limits)
      const refusal = own === undefined ? upstream.refusal(plan, request) : undefined
      const code = own ?? refusal?.code
      return {
        allow: true,
        status: code === undefined ? 200 : ERROR_SHAPES[code].status,
        code: code ?? 'ok',
        matched,
        ...(refusal && { message: refusal.message }),
        route: target.name,
        limits,
        plan: upstream.foresee(plan, request, full),
      }
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error
      const { code, message } = error
      const { status } = ERROR_SHAPES[code]
      return { allow: code !== 'scope_denied', status, code, matched, message, limits: [], plan: [] }
    }
  }

  return { snapshot, handle, models, hasModel, limits, explain }
}

/** What is shown of all; the rest by name. */
const MOST_AGENTS_SHOWN = 2_000

/** For the log, where nobody was there to be answered (nginx's number). */
const CALLER_LEFT = 499

function announce(reply: Reply, lines: readonly HeaderLine[]): void {
  for (const { name, value } of lines) reply.header(name, value)
}
