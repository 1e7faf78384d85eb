// The product: builds the rooms for one Snapshot and holds the path of a request. A reload builds another gateway
// and swaps the reference; what must outlive it (buckets, slots, breakers, keys, pools) comes in as stores.

import type { Snapshot } from './config/snapshot.ts'
import { GatewayError } from './errors.ts'
import { formats } from './formats/index.ts'
import type { Phase } from './http/listen.ts'
import { createHttp, type Http } from './http/room.ts'
import { createIdentity, type Identity } from './identity/identify.ts'
import type { Revocations } from './identity/revocations.ts'
import { createPolicy, type Policy, toRefusal } from './policy/decide.ts'
import type { HeaderLine, Meter } from './quota/meter.ts'
import { createRouter, type Router } from './route/plan.ts'
import type { Agent, Arrival, Clock, Hold, Reply, Trail } from './types.ts'
import { createUpstream, type Upstream, type UpstreamDeps } from './upstream/call.ts'
import type { Recorder } from './usage/record.ts'

export interface Gateway {
  readonly snapshot: Snapshot
  /** Takes one model request from its arrival to its record. Never rejects. */
  handle(arrival: Arrival, reply: Reply): Promise<void>
  /** Model names that a bearer may use, globs left out. @throws GatewayError invalid_api_key */
  models(bearer: string | undefined): readonly string[]
  /** Whether a bearer may call a model by this name, a glob's included. @throws GatewayError invalid_api_key */
  hasModel(bearer: string | undefined, name: string): boolean
}

/** What outlives a Snapshot; made in main.ts. */
export interface Stores extends Omit<UpstreamDeps, 'formats'> {
  readonly clock: Clock
  readonly phase: Phase
  readonly quota: Meter
  readonly revocations: Revocations
  readonly usage: Recorder
  /** Requests and streams under way. */
  readonly counts: { inflight: number; streams: number }
}

export function buildGateway(snapshot: Snapshot, stores: Stores): Gateway {
  return createGateway(snapshot, {
    http: createHttp({ snapshot, phase: stores.phase }),
    identity: createIdentity({ snapshot, revocations: stores.revocations }),
    policy: createPolicy({ operations: snapshot.operations }),
    quota: stores.quota,
    route: createRouter({ snapshot, health: stores.health, random: stores.random }),
    upstream: createUpstream({ ...stores, formats }),
    usage: stores.usage,
    counts: stores.counts,
  })
}

interface Rooms {
  readonly http: Http
  readonly identity: Identity
  readonly policy: Policy
  readonly quota: Meter
  readonly route: Router
  readonly upstream: Upstream
  readonly usage: Recorder
  readonly counts: Stores['counts']
}

function createGateway(snapshot: Snapshot, rooms: Rooms): Gateway {
  const { http, identity, policy, quota, route, upstream, usage, counts } = rooms

  /** The path of a request: one line, one room. */
  async function handle(arrival: Arrival, reply: Reply): Promise<void> {
    const trail: Trail = { attempts: [] }
    let hold: Hold | undefined
    counts.inflight += 1
    try {
      const caller = (trail.caller = identity.enter(arrival))
      const request = (trail.request = http.readRequest(arrival, await http.readBody(arrival)))
      const decision = (trail.decision = policy.decide(caller, request))
      if (!decision.allow) throw toRefusal(request)
      const target = (trail.route = route.find(request))
      const deadlineAt = route.deadlineAt(target, decision, arrival)
      const priceBound = route.priceBound(target, request, decision)
      const { signal } = arrival
      hold = await quota.reserve(caller, request, decision, route.subjects(target), {
        priceBound,
        deadlineAt,
        signal,
      })
      announce(reply, quota.headers(hold))
      const plan = route.plan(target, request, decision, deadlineAt)
      const outcome = await upstream.call(plan, request, reply, {
        gate: quota.gate,
        attempts: trail.attempts,
        signal,
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
      identity.leave(arrival)
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

  return { snapshot, handle, models, hasModel }
}

/** For the log, where nobody was there to be answered (nginx's number). */
const CALLER_LEFT = 499

function announce(reply: Reply, lines: readonly HeaderLine[]): void {
  for (const { name, value } of lines) reply.header(name, value)
}
