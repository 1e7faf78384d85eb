// Requests of one kind: those that differ in ids, times, tokens and money alone. What is found out for the first of them
// (the series that it counts in, the part of its line that does not change) serves all the others. Told by names, never
// by objects of a configuration, so that none of an older one is kept.

import type { Arrival, Attempt, Trail } from '../types.ts'

export interface Kinds<Series> {
  /** That of a request that ended with this code. */
  of(arrival: Arrival, trail: Trail, code: string): Kind<Series>
  /** What is secret has changed: no text is known any more. */
  forget(): void
}

/** What the lines of a kind have in common, as their text: who asked for what and what became of it, and who was called. */
export interface Names {
  readonly asked: string
  readonly called: string
}

/** The course of an attempt, without its times. */
class Step {
  readonly tier: string
  readonly deployment: string
  readonly called: string
  readonly outcome: string
  readonly reason: string

  constructor({ tier, deployment, called, outcome, reason }: Attempt) {
    this.tier = tier
    this.deployment = deployment
    this.called = called
    this.outcome = outcome
    this.reason = reason
  }

  fits(attempt: Attempt): boolean {
    return (
      this.tier === attempt.tier &&
      this.deployment === attempt.deployment &&
      this.called === attempt.called &&
      this.outcome === attempt.outcome &&
      this.reason === attempt.reason
    )
  }
}

export class Kind<Series> {
  /** Both are found with the first of them. */
  series: Series | undefined = undefined
  names: Names | undefined = undefined
  readonly degraded: boolean
  readonly #code: string
  readonly #status: number | undefined
  readonly #stream: boolean | undefined
  readonly #operation: string
  readonly #model: string | undefined
  readonly #matched: string | undefined
  readonly #route: string | undefined
  readonly #tier: string | undefined
  readonly #deployment: string | undefined
  readonly #agent: string | undefined
  readonly #bearer: string | undefined
  readonly #steps: readonly Step[]

  constructor(arrival: Arrival, trail: Trail, code: string) {
    const { caller, request, answeredBy } = trail
    this.degraded = isDegraded(trail)
    this.#code = code
    this.#status = trail.status
    this.#stream = request?.stream
    this.#operation = arrival.endpoint.operation
    this.#model = request?.model
    this.#matched = trail.decision?.matched
    this.#route = trail.route?.name
    this.#tier = answeredBy?.tier.name
    this.#deployment = answeredBy?.deployment.name
    this.#agent = caller?.agent.name
    this.#bearer = caller?.bearer.id
    this.#steps = trail.attempts.map((attempt) => new Step(attempt))
  }

  fits(arrival: Arrival, trail: Trail, code: string): boolean {
    const { caller, request, answeredBy, attempts } = trail
    const steps = this.#steps
    if (
      this.#code !== code ||
      this.#status !== trail.status ||
      this.#stream !== request?.stream ||
      this.#operation !== arrival.endpoint.operation ||
      this.#model !== request?.model ||
      this.#matched !== trail.decision?.matched ||
      this.#route !== trail.route?.name ||
      this.#tier !== answeredBy?.tier.name ||
      this.#deployment !== answeredBy?.deployment.name ||
      this.#agent !== caller?.agent.name ||
      this.#bearer !== caller?.bearer.id ||
      this.degraded !== isDegraded(trail) ||
      steps.length !== attempts.length
    )
      return false
    for (let i = 0; i < steps.length; i += 1)
      if (!(steps[i] as Step).fits(attempts[i] as Attempt)) return false
    return true
  }

  /** Characters that it holds, near enough. */
  get size(): number {
    const names = (this.#model?.length ?? 0) + (this.#matched?.length ?? 0)
    return this.#steps.reduce((sum, { called }) => sum + called.length, names)
  }
}

function isDegraded({ answeredBy, route }: Trail): boolean {
  return answeredBy !== undefined && answeredBy.tier.name !== route?.tiers[0]?.name
}

/** Kinds that are kept, all in all and of one bearer and model, and models of one bearer; of more they are found anew. */
const MOST_KINDS = 8192
const MOST_BESIDE = 16
const MOST_MODELS = 256
/** A model that a caller made up may be long, and so may be the list of those who were asked. */
const LONGEST_KIND = 1024

export function createKinds<Series>(): Kinds<Series> {
  /** By the digest of a bearer, then by model. */
  let callers = new Map<string, Map<string, Kind<Series>[]>>()
  let count = 0
  /** Whose place is taken by one more. */
  let next = 0

  function keep(kind: Kind<Series>, digest: string, model: string): void {
    if (count >= MOST_KINDS) forget()
    let models = callers.get(digest)
    if (models === undefined) callers.set(digest, (models = new Map()))
    const beside = models.get(model)
    if (beside === undefined) {
      // Who makes up one model after another empties nobody else's.
      if (models.size >= MOST_MODELS) {
        for (const some of models.values()) count -= some.length
        models.clear()
      }
      models.set(model, [kind])
    } else if (beside.length < MOST_BESIDE) beside.push(kind)
    else {
      beside[next % MOST_BESIDE] = kind
      next += 1
      return
    }
    count += 1
  }

  function forget(): void {
    callers = new Map()
    count = 0
  }

  return {
    of(arrival, trail, code) {
      const digest = trail.caller?.bearer.sha256 ?? STRANGER
      const model = trail.request?.model ?? ''
      const beside = callers.get(digest)?.get(model)
      if (beside !== undefined) {
        for (let i = 0; i < beside.length; i += 1) {
          const kind = beside[i] as Kind<Series>
          if (kind.fits(arrival, trail, code)) return kind
        }
      }
      const kind = new Kind<Series>(arrival, trail, code)
      // What is said for a bearer is without it. Of strangers that is known only where they said nothing.
      const isKnown = digest !== STRANGER || (trail.request === undefined && trail.decision === undefined)
      if (isKnown && kind.size <= LONGEST_KIND) keep(kind, digest, model)
      return kind
    },
    forget,
  }
}

/** Who is known by no bearer. */
const STRANGER = ''
