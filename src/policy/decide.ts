// Authorize: may this Caller make this request? Nothing is allowed unless a scope says so, and `deny` wins. Judged
// on the model name as sent, before anybody knows whether there is such a route.

import { matchesGlob } from '../config/glob.ts'
import { limitsMoney } from '../config/limits.ts'
import { GatewayError } from '../errors.ts'
import type { Agent, Caller, Decision, ModelRequest, Obligations, Operation, Scope } from '../types.ts'

export interface Policy {
  decide(caller: Caller, request: ModelRequest): Decision
  /** Whether the agent may use `model` for `operation`; what `/v1/models` shows. */
  allows(agent: Agent, operation: Operation, model: string): boolean
}

/** `operations` is what this gateway serves at all, whatever a scope says. */
export function createPolicy({ operations }: { operations: ReadonlySet<Operation> }): Policy {
  // What a scope allows a caller depends on nothing else of a request.
  const allowed = new WeakMap<Caller, Map<Scope, Decision>>()

  function allow(caller: Caller, scope: Scope): Decision {
    let decisions = allowed.get(caller)
    if (decisions === undefined) allowed.set(caller, (decisions = new Map()))
    let decision = decisions.get(scope)
    if (decision === undefined) {
      const obligations = toObligations(caller)
      decision = Object.freeze({ allow: true, code: 'allowed', matched: toText(scope), obligations })
      decisions.set(scope, decision)
    }
    return decision
  }

  return {
    decide(caller, request) {
      const { agent } = caller
      const { operation } = request.endpoint
      const denied = find(agent.deny, operation, request.model)
      const isServed = operations.has(operation)
      const scope =
        denied === undefined && isServed ? find(agent.scopes, operation, request.model) : undefined
      if (scope !== undefined) return allow(caller, scope)
      const missing = toText({ operation, models: request.model })
      return Object.freeze({
        allow: false,
        code: 'scope_denied',
        matched: denied === undefined ? missing : `deny ${toText(denied)}`,
        obligations: toObligations(caller),
      })
    },
    allows(agent, operation, model) {
      return (
        operations.has(operation) &&
        find(agent.deny, operation, model) === undefined &&
        find(agent.scopes, operation, model) !== undefined
      )
    },
  }
}

/** The refusal that a decision stands for. It names the missing scope and not whether such a model exists. */
export function toRefusal(request: ModelRequest): GatewayError {
  return new GatewayError(
    'scope_denied',
    `This key does not carry the scope ${request.endpoint.operation}:${request.model}.`,
    { param: 'model' },
  )
}

function find(scopes: readonly Scope[], operation: Operation, model: string): Scope | undefined {
  for (const scope of scopes) {
    if (scope.operation === operation && matchesGlob(scope.models, model)) return scope
  }
  return undefined
}

function toText(scope: Scope): string {
  return `${scope.operation}:${scope.models}`
}

function toObligations({ agent, bearer }: Caller): Obligations {
  return Object.freeze({
    deadlineMs: agent.deadlineMs,
    maxOutputTokens: agent.maxOutputTokens,
    pricedOnly: limitsMoney(agent.limits, bearer.limits),
    class: agent.class,
  })
}
