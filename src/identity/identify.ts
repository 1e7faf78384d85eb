// Turns a bearer into a Caller. One answer for no bearer, unknown, expired and revoked; nothing but the SHA-256 of
// what was presented is ever compared or kept.

import { hash } from 'node:crypto'
import { checksumIsRight, hasSluicePrefix } from '../config/bearer.ts'
import { hasLimits } from '../config/limits.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { GatewayError } from '../errors.ts'
import type { Agent, Bearer, Caller, Clock, Limits, Subject } from '../types.ts'

export interface Identity {
  /** @throws GatewayError invalid_api_key (401) */
  identify(bearer: string | undefined): Caller
}

/** Callers are made once per Snapshot, so that a request allocates none. */
export function createIdentity({ snapshot, clock }: { snapshot: Snapshot; clock: Clock }): Identity {
  const callers = new Map<string, Caller>()
  for (const [digest, bearer] of snapshot.bearers) {
    const agent = snapshot.agents.get(bearer.agent)
    if (agent !== undefined) callers.set(digest, toCaller(agent, bearer))
  }
  return {
    identify(bearer) {
      const caller = bearer === undefined ? undefined : find(bearer)
      if (caller === undefined) throw unknown()
      const { expiresMs } = caller.bearer
      if (expiresMs !== undefined && clock.wall() >= expiresMs) throw unknown()
      return caller
    },
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
