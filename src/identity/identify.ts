// Turns a bearer into a Caller. One answer for no bearer, unknown, expired and revoked; nothing but the SHA-256 of what
// was presented is compared with what is configured, and kept are those alone that were right.

import { hash } from 'node:crypto'
import { checksumIsRight, hasSluicePrefix } from '../config/bearer.ts'
import { hasLimits } from '../config/limits.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { GatewayError } from '../errors.ts'
import type { Agent, Arrival, Bearer, Caller, Subject } from '../types.ts'
import type { Revocations, Stay } from './revocations.ts'

export interface Identity {
  /** @throws GatewayError invalid_api_key (401) */
  identify(bearer: string | undefined): Caller
  /** The same for a request that takes time: until `leave` it ends when its bearer does. */
  enter(arrival: Arrival): { readonly caller: Caller; readonly stay: Stay }
  /** The request is over. */
  leave(stay: Stay): void
  /** What of an agent has limits: itself, then its bearers; the same objects as its callers have. */
  subjects(agent: Agent): readonly Subject[]
  /** An agent as a caller, by the bearer of that id or the first it has; undefined when there is none. */
  callerOf(agent: Agent, bearerId: string | undefined): Caller | undefined
}

/** Callers are made once per Snapshot, so that a request allocates none. */
export function createIdentity({
  snapshot,
  revocations,
}: {
  snapshot: Snapshot
  revocations: Revocations
}): Identity {
  const callers = new Map<string, Caller>()
  /** Those that were right, so that the first of many requests alone needs a digest: never more than are configured. */
  const recent = new Map<string, Caller>()
  // One subject of an agent for all its bearers: what is known of a limit is kept by the object.
  const subjects = new Map<Agent, Subject[]>()
  for (const agent of snapshot.agents.values()) subjects.set(agent, [toSubject(agent, 'agent', agent)])
  for (const [digest, bearer] of snapshot.bearers) {
    const agent = snapshot.agents.get(bearer.agent)
    const known = agent && subjects.get(agent)
    const own = known?.[0]
    if (agent === undefined || known === undefined || own === undefined) continue
    const caller = toCaller(agent, bearer, own)
    callers.set(digest, caller)
    known.push(...caller.subjects.slice(1))
  }
  return {
    identify,
    enter(arrival) {
      const caller = identify(arrival.bearer)
      return { caller, stay: revocations.enter(arrival, caller.bearer) }
    },
    leave: revocations.leave,
    callerOf(agent, bearerId) {
      for (const caller of callers.values()) {
        if (caller.agent === agent && (bearerId === undefined || caller.bearer.id === bearerId)) return caller
      }
      return undefined
    },
    subjects: (agent) => (subjects.get(agent) ?? []).filter(({ limits }) => hasLimits(limits)),
  }

  function identify(bearer: string | undefined): Caller {
    const caller = bearer === undefined ? undefined : (recent.get(bearer) ?? find(bearer))
    if (bearer === undefined || caller === undefined) throw unknown()
    if (revocations.refuses(caller.bearer)) {
      recent.delete(bearer)
      throw unknown()
    }
    return caller
  }

  function find(bearer: string): Caller | undefined {
    // A mistyped or made-up bearer of our own form is refused on its checksum, without a look-up.
    if (bearer === '' || (hasSluicePrefix(bearer) && !checksumIsRight(bearer))) return undefined
    const caller = callers.get(hash('sha256', bearer, 'hex'))
    if (caller !== undefined) recent.set(bearer, caller)
    return caller
  }
}

function toCaller(agent: Agent, bearer: Bearer, own: Subject): Caller {
  const subjects = [own]
  if (hasLimits(bearer.limits)) subjects.push(toSubject(agent, 'bearer', bearer))
  return Object.freeze({ agent, bearer, subjects: Object.freeze(subjects) })
}

/** An agent's and its bearers' limits share one tag: they are decided together. */
function toSubject(agent: Agent, kind: 'agent' | 'bearer', { limits, ...of }: Agent | Bearer): Subject {
  return Object.freeze({ kind, id: 'name' in of ? of.name : of.id, tag: agent.name, limits })
}

function unknown(): GatewayError {
  return new GatewayError('invalid_api_key', 'The API key is missing or not valid.')
}
