// Turns a bearer into a Caller. One answer for no bearer, unknown, expired and revoked; nothing but the SHA-256 of
// what was presented is ever compared or kept.

import { hash } from 'node:crypto'
import { checksumIsRight, hasSluicePrefix } from '../config/bearer.ts'
import { hasLimits } from '../config/limits.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { GatewayError } from '../errors.ts'
import type { Agent, Arrival, Bearer, Caller, Limits, Subject } from '../types.ts'
import type { Revocations } from './revocations.ts'

export interface Identity {
  /** @throws GatewayError invalid_api_key (401) */
  identify(bearer: string | undefined): Caller
  /** The same for a request that takes time: until `leave` it ends when its bearer does. */
  enter(arrival: Arrival): Caller
  /** The request is over; no effect on one that was not let in. */
  leave(arrival: Arrival): void
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
  for (const [digest, bearer] of snapshot.bearers) {
    const agent = snapshot.agents.get(bearer.agent)
    if (agent !== undefined) callers.set(digest, toCaller(agent, bearer))
  }
  return {
    identify,
    enter(arrival) {
      const caller = identify(arrival.bearer)
      revocations.enter(arrival, caller.bearer)
      return caller
    },
    leave: revocations.leave,
  }

  function identify(bearer: string | undefined): Caller {
    const caller = bearer === undefined ? undefined : find(bearer)
    if (caller === undefined || revocations.refuses(caller.bearer)) throw unknown()
    return caller
  }

  function find(bearer: string): Caller | undefined {
    // A mistyped or made-up bearer of our own form is refused on its checksum, without a look-up.
    if (bearer === '' || (hasSluicePrefix(bearer) && !checksumIsRight(bearer))) return undefined
    return callers.get(hash('sha256', bearer, 'hex'))
  }
}

function toCaller(agent: Agent, bearer: Bearer): Caller {
  const subjects: Subject[] = [toSubject('agent', agent.name, agent.limits)]
  if (hasLimits(bearer.limits)) subjects.push(toSubject('bearer', bearer.id, bearer.limits))
  return Object.freeze({ agent, bearer, subjects: Object.freeze(subjects) })

  /** An agent's and its bearers' buckets share one tag: they are decided together. */
  function toSubject(kind: 'agent' | 'bearer', id: string, limits: Limits): Subject {
    return Object.freeze({ kind, id, tag: agent.name, limits })
  }
}

function unknown(): GatewayError {
  return new GatewayError('invalid_api_key', 'The API key is missing or not valid.')
}
