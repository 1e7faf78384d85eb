// Where the walk along a plan stands: who was called, what was found out on the way, and what is still to be had.

import type { GatewayError } from '../errors.ts'
import type { Candidate, Deployment, Outcome, Plan, Usage } from '../types.ts'
import type { Failure } from './attempt.ts'

/** What came of a walk, before it is counted. */
export type Ended = Omit<Outcome, 'costMicros'>

export interface Walk {
  /** Who may be called, in order. */
  readonly candidates: readonly Candidate[]
  /** Calls to providers so far. */
  calls: number
  /** Notes a call to a provider, and the key that it is made with. */
  called(candidate: Candidate, key: string | undefined): void
  /** The key that the candidate's deployment was last called with. */
  lastKey(candidate: Candidate): string | undefined
  hasTried(candidate: Candidate): boolean
  /** How a call failed that was made beside that of another, for when its own turn comes. */
  failedBeside(candidate: Candidate, failure: Failure): void
  besideOf(candidate: Candidate): Failure | undefined
  /** Whether a deployment of the provider was called. */
  hasCalled(provider: string): boolean
  calledIn(tier: string): boolean
  /** Notes that nobody can count for the candidate's limits. */
  uncounted(candidate: Candidate): void
  isUncounted(candidate: Candidate): boolean
  /** Notes why the request cannot be put into the format of the candidate's provider. */
  uncarried(candidate: Candidate, why: GatewayError): void
  /** The first of these reasons, where there is one for everybody. */
  whyUncarried(): GatewayError | undefined
  /** Tiers behind the candidate's with a provider that `mayAnswer`. */
  tiersBehind(candidate: Candidate, mayAnswer: (one: Candidate) => boolean): number
  /** Candidates behind this one, in order. */
  behind(candidate: Candidate): readonly Candidate[]
  tooLongFor: Deployment | undefined
  tooLongMessage: string
  /** Somebody was not asked because there was too little time left for him. */
  isTooLate: boolean
  /** The shortest wait that a full limit of a provider named, in ms; Infinity where none did. */
  limitWaitMs: number
  /** What the last call used that was cut before it could answer. */
  usedInVain: Usage | undefined
  /** An answer that broke off, and that somebody else may go on with. */
  broken: Broken | undefined
}

export type Broken = Ended & {
  /** What the caller has read of it. */
  readonly said: string
}

export function createWalk(plan: Plan): Walk {
  return new PlanWalk(plan)
}

/** A few calls at most, and mostly one: lists are looked through sooner than tables are made. */
class PlanWalk implements Walk {
  calls = 0
  tooLongFor: Deployment | undefined = undefined
  tooLongMessage = ''
  isTooLate = false
  limitWaitMs = Number.POSITIVE_INFINITY
  usedInVain: Usage | undefined = undefined
  broken: Broken | undefined = undefined
  readonly #plan: Plan
  readonly #tried: Candidate[] = []
  /** Of each call in `#tried` the key. */
  readonly #keys: (string | undefined)[] = []
  #candidates: readonly Candidate[] | undefined = undefined
  #uncounted: Candidate[] | undefined = undefined
  #uncarried: Map<Candidate, GatewayError> | undefined = undefined
  #beside: Map<Candidate, Failure> | undefined = undefined

  constructor(plan: Plan) {
    this.#plan = plan
  }

  /** Nobody asks for the list while the first of it answers. */
  get candidates(): readonly Candidate[] {
    this.#candidates ??= this.#plan.tiers.flatMap(({ candidates }) => candidates.filter(isAllowed))
    return this.#candidates
  }

  called(candidate: Candidate, key: string | undefined): void {
    this.calls += 1
    this.#tried.push(candidate)
    this.#keys.push(key)
  }

  hasTried(candidate: Candidate): boolean {
    return this.#tried.includes(candidate)
  }

  lastKey({ deployment }: Candidate): string | undefined {
    for (let at = this.#tried.length - 1; at >= 0; at -= 1) {
      const key = this.#keys[at]
      if (key !== undefined && this.#tried[at]?.deployment.name === deployment.name) return key
    }
    return undefined
  }

  failedBeside(candidate: Candidate, failure: Failure): void {
    this.#beside ??= new Map()
    this.#beside.set(candidate, failure)
  }

  besideOf(candidate: Candidate): Failure | undefined {
    return this.#beside?.get(candidate)
  }

  hasCalled(provider: string): boolean {
    for (const { deployment } of this.#tried) if (deployment.provider?.name === provider) return true
    return false
  }

  calledIn(tier: string): boolean {
    for (const one of this.#tried) if (one.tier.name === tier) return true
    return false
  }

  uncounted(candidate: Candidate): void {
    this.#uncounted ??= []
    this.#uncounted.push(candidate)
  }

  isUncounted(candidate: Candidate): boolean {
    return this.#uncounted?.includes(candidate) === true && !this.#tried.includes(candidate)
  }

  uncarried(candidate: Candidate, why: GatewayError): void {
    this.#uncarried ??= new Map()
    if (!this.#uncarried.has(candidate)) this.#uncarried.set(candidate, why)
  }

  whyUncarried(): GatewayError | undefined {
    const known = this.#uncarried
    if (known === undefined) return undefined
    const [first] = known.values()
    return this.candidates.every((candidate) => known.has(candidate)) ? first : undefined
  }

  tiersBehind({ tier }: Candidate, mayAnswer: (one: Candidate) => boolean): number {
    const { tiers } = this.#plan
    const at = tiers.findIndex((place) => place.tier === tier)
    return tiers
      .slice(at + 1)
      .filter(({ candidates }) =>
        candidates.some((one) => one.deployment.kind !== 'reply' && isAllowed(one) && mayAnswer(one)),
      ).length
  }

  behind(candidate: Candidate): readonly Candidate[] {
    return this.candidates.slice(this.candidates.indexOf(candidate) + 1)
  }
}

export function isAllowed({ barred }: Candidate): boolean {
  return barred === undefined
}
