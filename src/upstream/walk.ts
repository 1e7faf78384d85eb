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
  called(candidate: Candidate): void
  hasTried(candidate: Candidate): boolean
  /** How a call failed that was made beside that of another, for when its own turn comes. */
  failedBeside(candidate: Candidate, failure: Failure): void
  besideOf(candidate: Candidate): Failure | undefined
  /** By the name of a deployment: the key that it was last called with. */
  readonly lastKeys: Map<string, string>
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
  const candidates = plan.tiers.flatMap((place) => place.candidates).filter(isAllowed)
  // A few calls at most, and mostly one: a list is looked through sooner than a table is made.
  const tried: Candidate[] = []
  const uncounted: Candidate[] = []
  let uncarried: Map<Candidate, GatewayError> | undefined
  let beside: Map<Candidate, Failure> | undefined
  const walk: Walk = {
    candidates,
    calls: 0,
    called(candidate) {
      walk.calls += 1
      tried.push(candidate)
    },
    hasTried: (candidate) => tried.includes(candidate),
    failedBeside(candidate, failure) {
      beside ??= new Map()
      beside.set(candidate, failure)
    },
    besideOf: (candidate) => beside?.get(candidate),
    lastKeys: new Map(),
    hasCalled: (provider) => tried.some(({ deployment }) => deployment.provider?.name === provider),
    calledIn: (name) => tried.some(({ tier }) => tier.name === name),
    uncounted: (candidate) => void uncounted.push(candidate),
    isUncounted: (candidate) => uncounted.includes(candidate) && !tried.includes(candidate),
    uncarried(candidate, why) {
      uncarried ??= new Map()
      if (!uncarried.has(candidate)) uncarried.set(candidate, why)
    },
    whyUncarried() {
      const known = uncarried
      if (known === undefined) return undefined
      const [first] = known.values()
      return candidates.every((candidate) => known.has(candidate)) ? first : undefined
    },
    tiersBehind({ tier }, mayAnswer) {
      const at = plan.tiers.findIndex((place) => place.tier === tier)
      return plan.tiers
        .slice(at + 1)
        .filter(({ candidates: all }) =>
          all.some((one) => one.deployment.kind !== 'reply' && isAllowed(one) && mayAnswer(one)),
        ).length
    },
    behind: (candidate) => candidates.slice(candidates.indexOf(candidate) + 1),
    tooLongFor: undefined,
    tooLongMessage: '',
    isTooLate: false,
    limitWaitMs: Number.POSITIVE_INFINITY,
    usedInVain: undefined,
    broken: undefined,
  }
  return walk
}

export function isAllowed({ barred }: Candidate): boolean {
  return barred === undefined
}
