// Agents of a test that differ by their limits: a bearer for each, their policies, and callers in their name.

import { type Caller, createCaller } from './caller.ts'
import { agentPolicy, makeBearer, type TestBearer, type TestGateway } from './gateway.ts'

export interface Agents<Name extends string> {
  /** By name, as `startGateway` takes them. */
  readonly policies: Readonly<Record<string, Record<string, unknown>>>
  bearerOf(name: Name): string
  /** A caller of that gateway. */
  as(at: TestGateway, name: Name): Caller
}

/** One agent for each name; its value is `limits` of the policy file. */
export function makeAgents<Name extends string>(limits: Readonly<Record<Name, object>>): Agents<Name> {
  const bearers = new Map<string, TestBearer>()
  const policies: Record<string, Record<string, unknown>> = {}
  for (const [name, its] of Object.entries(limits)) {
    const bearer = makeBearer()
    bearers.set(name, bearer)
    policies[name] = agentPolicy(name, bearer, { limits: its })
  }
  const bearerOf = (name: Name): string => {
    const found = bearers.get(name)
    if (found === undefined) throw new Error(`no agent ${name}`)
    return found.bearer
  }
  return { policies, bearerOf, as: (at, name) => createCaller(at.baseUrl, bearerOf(name)) }
}
