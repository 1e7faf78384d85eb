// Call: walks a plan until somebody answers. One attempt at a time, each judged by attempt.ts; nothing is tried
// after the first byte, after the deadline, or for a caller who has gone.

import { costMicros, priceOf } from '../config/money.ts'
import { GatewayError, toGatewayError } from '../errors.ts'
import type { Format, HeaderLookup, QuotaLeft } from '../formats/format.ts'
import type { Redact } from '../formats/stage.ts'
import type {
  Attempt,
  Callee,
  Candidate,
  Clock,
  Deployment,
  EndSignal,
  Gate,
  Hedge,
  Hold,
  ModelRequest,
  Outcome,
  Plan,
  Reason,
  Refusal,
  Reply,
  Trace,
  Usage,
} from '../types.ts'
import {
  type Failure,
  firstTokenLimit,
  isAboutRequest,
  isKeyFault,
  isLarger,
  lacksOperation,
  lateness,
  mayCallAgain,
  nextStep,
  parkMs,
  parks,
  type Result,
  toFailed,
} from './attempt.ts'
import {
  afterBreak,
  failed,
  left,
  mightHaveFit,
  toBrokenError,
  toContextError,
  tooLate,
  toPassedError,
  toUncounted,
} from './endings.ts'
import { createExchange, createFixedHeaders, type FixedHeaders } from './exchange.ts'
import { type Entry, type Health, isProbe, type State } from './health.ts'
import { createRace, type Hedges, type Leg } from './hedges.ts'
import type { Hints } from './hints.ts'
import type { Key, Keys } from './keys.ts'
import type { Exchange, Kind } from './kind.ts'
import type { Pace } from './pace.ts'
import type { RetryBudget } from './retry-budget.ts'
import { beginAttempt, type Resume, type Run } from './run.ts'
import type { Timers } from './timers.ts'
import { createWalk, type Ended, isAllowed, type Walk } from './walk.ts'
import { createWires, type Wire, type Wires } from './wire.ts'

export interface Upstream {
  /**
   * How each place of a plan would be judged now, in its order; nothing is called and nothing taken. `full` is what the
   * gate would say of each.
   */
  foresee(plan: Plan, request: ModelRequest, full: ReadonlyMap<Deployment, Refusal>): readonly PlaceSeen[]
  /** Why a request may go nowhere along its plan, however well everybody is; undefined where it may. */
  refusal(plan: Plan, request: ModelRequest): GatewayError | undefined
  /** What went wrong is in the outcome; rejects only for a defect of ours. */
  call(plan: Plan, request: ModelRequest, reply: Reply, hands: Hands): Promise<Outcome>
}

/** One place of a plan, as it stands now. */
export interface PlaceSeen {
  readonly tier: string
  readonly deployment: string
  readonly state: State
  /** Why it stands where it stands: `available`, or what keeps it from being asked in its turn. */
  readonly reason: string
}

export interface Hands {
  readonly gate: Gate
  /** Filled in as attempts are made. */
  readonly attempts: Attempt[]
  readonly signal: EndSignal
  readonly trace?: Trace | undefined
}

export interface UpstreamDeps {
  readonly kinds: Readonly<Record<Deployment['kind'], Kind>>
  readonly formats: ReadonlyMap<string, Format>
  readonly health: Health
  readonly hints: Pick<Hints, 'mayProbe'>
  readonly keys: Keys
  readonly pace: Pace
  readonly retries: RetryBudget
  readonly hedges: Hedges
  readonly clock: Clock
  readonly timers: Timers
  readonly random: () => number
  /** Takes secrets out of a text. */
  readonly scrub: (text: string) => string
  readonly userAgent: string
}

/** How often a patient caller looks whether the probe of another has come through. */
const PROBE_LOOK_MS = 25
/** Longest list of what was left out that is told. */
const LONGEST_DROPPED = 1024
/** Of ids that a translated answer needs, and that nobody looks up. */
const ID_LETTERS = 24
const LETTERS = '0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz'
/** An attempt that has less time than this left is not begun. */
const LEAST_TIME_MS = 5

export function createUpstream(deps: UpstreamDeps): Upstream {
  const { health, hints, keys, pace, retries, hedges, clock, timers } = deps
  const room: Room = { deps, fixed: createFixedHeaders(), hasFallback, heard, begins, leave }
  return {
    foresee(plan, request, full) {
      const wires = wiresOf(request)
      return plan.tiers.flatMap(({ candidates }) =>
        candidates.map((one) =>
          seePlace(one, plan, { full: full.get(one.deployment), uncarried: whyNot(one, plan, wires) }),
        ),
      )
    },
    refusal(plan, request) {
      const wires = wiresOf(request)
      const { candidates } = createWalk(plan)
      const reasons = candidates.map((one) => whyNot(one, plan, wires))
      return toUnpriced(plan, request) ?? (reasons.includes(undefined) ? undefined : reasons[0])
    },

    async call(plan, request, reply, hands) {
      const wires = wiresOf(request)
      const job: Job = { plan, request, reply, hands, wires, force: false, atOnce: false, leg: undefined }
      let ended: Ended | undefined
      try {
        const walk = createWalk(plan)
        for (const turn of turnsOf(walk, job)) {
          let then: Then = 'again'
          while (then === 'again') {
            const waitMs = waitBefore(turn, walk)
            if (waitMs > 0) await pause(waitMs, hands.signal)
            then = waitMs < 0 ? 'next' : beforeCall(turn, walk)
            if (then !== 'again') break
            const entering = enter(turn.candidate, walk, turn.job)
            const entered = entering instanceof Promise ? await entering : entering
            if (entered === undefined || !isStillDue(turn.candidate, entered, walk, turn.job)) then = 'next'
            else then = behindCall(turn, await callInTurn(turn, entered, walk), entered, walk)
          }
          if (then === 'next') continue
          ended = then
          break
        }
        ended ??= toNobody(walk, job)
        if (walk.broken !== undefined) ended = afterBreak(ended, walk.broken, hands.signal)
      } catch (error) {
        ended = failed(toGatewayError(error))
      }
      const { answeredBy, usage, error } = ended
      // No effect on an answer that has begun: that one said it then.
      if (error !== undefined && hands.attempts.length > 0) {
        reply.header('x-sluice-attempts', toAttemptsHeader(hands.attempts))
      }
      return { answeredBy, usage, error, costMicros: sum(hands.attempts) }
    },
  }

  function wiresOf(request: ModelRequest): Wires {
    return createWires({ formats: deps.formats, request, nowSeconds, nextId })
  }

  /** Why a candidate cannot be asked in any format that its provider takes. */
  function whyNot({ deployment }: Candidate, plan: Plan, wires: Wires): GatewayError | undefined {
    try {
      wires.of(deployment, plan.maxOutputTokens)
      return undefined
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error
      return error
    }
  }

  function nowSeconds(): number {
    return Math.floor(clock.wall() / 1000)
  }

  function nextId(prefix: string): string {
    let id = prefix
    while (id.length < prefix.length + ID_LETTERS) id += LETTERS[Math.floor(deps.random() * LETTERS.length)]
    return id
  }

  function seePlace(
    { tier, deployment, callee, barred, doubt }: Candidate,
    plan: Plan,
    { full, uncarried }: { readonly full: Refusal | undefined; readonly uncarried: GatewayError | undefined },
  ): PlaceSeen {
    const { name, provider, kind } = deployment
    const known = health.look(callee)
    const parkedMs = provider === undefined ? 0 : keys.parkedMs(provider, modelOf(callee))
    const seen = { tier: tier.name, deployment: name, state: known?.state ?? 'available' }
    const why = (): string => {
      if (barred !== undefined) return barred
      if (uncarried !== undefined) return `skipped:format: ${uncarried.message}`
      if (kind === 'reply') return 'a fixed reply, when nobody else has answered'
      if (doubt !== undefined) return 'context: the prompt is probably longer than its window'
      if (parkedMs > 0) return `every key is left alone for ${seconds(parkedMs)}`
      if (known?.phase === 'held') return `${known.reason}: left alone for ${seconds(known.holdMs)}`
      if (full !== undefined) return fullText(full)
      if (known === undefined) return 'available'
      const { phase, reason, share } = known
      if (phase === 'probing') return `${reason}: one request at a time probes`
      if (phase === 'recovering') return `on its way back: ${Math.round(share * 100)} % of the traffic`
      if (!health.isAvailable(callee, plan.class)) return `${reason}: kept for others`
      return share < 1 ? `${reason}: ${Math.round(share * 100)} % of the traffic` : 'available'
    }
    return { ...seen, reason: why() }
  }

  /** Whose turn it is, one after another; who comes next is asked when it has come to him. */
  function* turnsOf(walk: Walk, job: Job): Generator<Turn, void, void> {
    for (const { tier, candidates } of job.plan.tiers) {
      // A fixed reply is for when nobody answers: first those are asked again who would rather not.
      if (tier.deployments[0]?.kind === 'reply') yield* forcedTurns(reluctant(walk), walk, job)
      for (const candidate of candidates) {
        const turn = toTurn(candidate, walk, job)
        if (turn !== undefined) yield turn
      }
    }
    yield* forcedTurns(reluctant(walk), walk, job)
    for (const candidate of leastBadFirst(walk)) {
      if (walk.calls > 0) return
      yield* forcedTurns([candidate], walk, job)
    }
  }

  /** Of those who are asked for want of anybody else. */
  function* forcedTurns(candidates: readonly Candidate[], walk: Walk, job: Job): Generator<Turn, void, void> {
    for (const candidate of candidates) {
      const turn = toTurn(candidate, walk, { ...job, force: true })
      if (turn !== undefined) yield turn
    }
  }

  /** Undefined for one that is passed over, with the reason noted. */
  function toTurn(candidate: Candidate, walk: Walk, job: Job): Turn | undefined {
    const { deployment, tier, barred, doubt } = candidate
    if (barred !== undefined) return skip(candidate, job, barred)
    if (doubt !== undefined && !job.force) return skip(candidate, job, doubt)
    // A text of ours is no end of somebody's sentence.
    if (deployment.kind === 'reply' && walk.broken !== undefined) return undefined
    return {
      candidate,
      job,
      retriesLeft: tier.retries,
      keysLeft: (deployment.provider?.keys.length ?? 0) - 1,
      // Whoever was asked beside another has had his call.
      failure: walk.besideOf(candidate),
      by: candidate,
    }
  }

  /** How long to wait before the next call of a turn, in ms; negative where there is none to come. */
  function waitBefore(turn: Turn, walk: Walk): number {
    const { candidate, job, failure } = turn
    if (failure === undefined) return 0
    // What was not its failure is none that a second call would mend.
    if (failure.blameless) return -1
    const { deployment, tier } = candidate
    const { plan } = job
    const keyFault = isKeyFault(failure, deployment)
    const { step, waitMs, jitter } = nextStep(
      { ...failure, key: keyFault },
      {
        retriesLeft: turn.retriesLeft,
        otherKey:
          turn.keysLeft > 0 &&
          deployment.provider !== undefined &&
          keys.hasAnother(deployment.provider, modelOf(candidate.callee)),
        attemptsLeft: plan.attempts - walk.calls,
        tiersLeft: tiersLeft(candidate, walk, plan),
        otherInTier: hasOtherInTier(candidate, walk, job),
        isAlone: !hasOther(candidate, walk, job),
        patienceMs: tier.patienceMs,
        timeLeftMs: waitEndMs(candidate, walk, job) - clock.now(),
      },
    )
    if (step === 'next') return -1
    if (keyFault) turn.keysLeft -= 1
    else turn.retriesLeft -= 1
    if (waitMs <= 0) return 0
    // A timer counts whole milliseconds and may be a little early: an exact wait is rounded to the safe side.
    return jitter ? waitMs * deps.random() : Math.ceil(waitMs) + 1
  }

  /** `again` where a call may begin, as far as is known before anything is taken for it. */
  function beforeCall({ candidate, job }: Turn, walk: Walk): Then {
    const { plan, hands } = job
    const { deployment, tier } = candidate
    if (hands.signal.aborted) return left(hands.signal, walk.usedInVain)
    if (plan.deadlineAt - clock.now() < LEAST_TIME_MS) return failed(tooLate(), walk.usedInVain)
    if (walk.tooLongFor !== undefined && !isLarger(deployment, walk.tooLongFor)) return 'next'
    if (comesTooLate(candidate, job)) {
      walk.isTooLate = true
      return 'next'
    }
    if (deployment.kind !== 'reply') {
      const attemptsLeft = plan.attempts - walk.calls
      if (attemptsLeft <= 0) return 'next'
      if (
        walk.calledIn(tier.name) &&
        !mayCallAgain({ attemptsLeft, tiersLeft: tiersLeft(candidate, walk, plan) })
      )
        return 'next'
    }
    return mayCall(candidate, walk) ? 'again' : 'next'
  }

  /** A call, and beside it perhaps another: who of them was heard is the turn's `by`. */
  function callInTurn(turn: Turn, entered: Entered, walk: Walk): Promise<Result> {
    const { candidate, job } = turn
    turn.by = candidate
    if (candidate.tier.hedge === undefined || job.force || walk.broken !== undefined)
      return callOnce(candidate, entered, walk, job)
    return callHedged(turn, candidate.tier.hedge, entered, walk)
  }

  /** What follows from how a call ended. */
  function behindCall(turn: Turn, result: Result, { wire }: Entered, walk: Walk): Then {
    const { candidate, job, by } = turn
    const { plan, hands, wires } = job
    const { deployment } = candidate
    switch (result.outcome) {
      case 'answered':
        return { answeredBy: by, usage: result.usage, error: undefined }
      case 'left':
        if (result.usage === undefined) return left(hands.signal, walk.usedInVain)
        return left(hands.signal, result.usage, by)
      case 'refuse':
        // Whoever does not take it as it was put for him hides nothing of what went wrong before.
        if (walk.broken !== undefined) return 'next'
        return failed(toPassedError(result), walk.usedInVain)
      case 'broken': {
        const error = toBrokenError(result.reason, plan, clock.now())
        const broken = { answeredBy: by, usage: result.usage, error }
        if (result.said === undefined) return broken
        walk.broken = { ...broken, said: result.said }
        walk.usedInVain = undefined
        break
      }
      case 'retry':
        walk.usedInVain = result.usage ?? walk.usedInVain
        break
    }
    const failure = toFailed(result)
    turn.failure = failure
    if (by === candidate && lacksFormat(failure, wire) && wires.translate(deployment)) {
      turn.failure = undefined
      return 'again'
    }
    // The second one has failed at what it had begun; this one was called off.
    if (by !== candidate) {
      walk.failedBeside(by, failure)
      return 'next'
    }
    if (failure.reason === 'context') {
      // Of two at once the larger window tells more.
      if (walk.tooLongFor === undefined || isLarger(deployment, walk.tooLongFor)) walk.tooLongFor = deployment
      walk.tooLongMessage = failure.message
      return 'next'
    }
    return 'again'
  }

  /** Who has never begun so soon will not now: he would work for nobody. */
  function comesTooLate({ deployment }: Candidate, { plan, request }: Job): boolean {
    return request.stream && plan.deadlineAt - clock.now() < pace.soonest(deployment.name)
  }

  /** Whether the budget for second calls to a provider allows one. */
  function mayCall({ deployment: { provider } }: Candidate, walk: Walk): boolean {
    return provider === undefined || !walk.hasCalled(provider.name) || retries.mayAgain(provider.name)
  }

  /**
   * One call, or two of a tier that hedges: where the first has not begun to answer in time, another deployment of the
   * tier is asked as well. The first to answer is heard, the other called off.
   */
  async function callHedged(turn: Turn, hedge: Hedge, entered: Entered, walk: Walk): Promise<Result> {
    const { candidate, job } = turn
    const { tier, deployment } = candidate
    hedges.earn(tier.name, hedge.atMost)
    const race = createRace(job.hands.signal)
    const first = callOnce(candidate, entered, walk, { ...job, leg: race.leg })
    // How soon streams begin says nothing of whole replies, of which none is there so soon.
    const afterMs = hedge.afterMs ?? (job.request.stream ? pace.p95(deployment.name) : undefined)
    const second =
      afterMs !== undefined && (await isStillSilent(afterMs, first, race.won))
        ? await beginSecond(candidate, walk, { ...job, leg: race.leg, atOnce: true }, race.isWon)
        : undefined
    if (second === undefined) return first
    const [one, two] = await Promise.all([first, second.result])
    // One that was refused and one that answered may come in the same moment: the answer has gone to the caller.
    const isSecond = hasSpoken(two) || (isFinal(two) && !isFinal(one))
    const [heard, other] = isSecond ? [two, one] : [one, two]
    if (other.outcome === 'retry') {
      walk.usedInVain = other.usage ?? walk.usedInVain
      if (other.reason === 'context') walk.tooLongFor = heard === one ? second.by.deployment : deployment
    }
    if (heard === two) turn.by = second.by
    return heard
  }

  /** Calls another deployment of the tier as well; undefined where there is none to be had in time. */
  async function beginSecond(
    { tier, deployment }: Candidate,
    walk: Walk,
    job: Job,
    isWon: () => boolean,
  ): Promise<{ by: Candidate; result: Promise<Result> } | undefined> {
    const attemptsLeft = job.plan.attempts - walk.calls
    const by = walk.candidates.find(
      (one) =>
        one.tier === tier &&
        one.deployment !== deployment &&
        one.doubt === undefined &&
        !walk.hasTried(one) &&
        (walk.tooLongFor === undefined || isLarger(one.deployment, walk.tooLongFor)) &&
        !comesTooLate(one, job) &&
        health.isAvailable(one.callee, job.plan.class),
    )
    if (
      by === undefined ||
      attemptsLeft <= 0 ||
      !mayCallAgain({ attemptsLeft, tiersLeft: tiersLeft(by, walk, job.plan) })
    )
      return undefined
    if (!mayCall(by, walk) || !hedges.take(tier.name)) return undefined
    const entered = await enter(by, walk, job)
    if (entered === undefined) return undefined
    // It has come meanwhile: nothing was asked.
    if (isWon()) giveBack(by, entered, job)
    else if (isStillDue(by, entered, walk, job)) {
      const result = callOnce(by, entered, walk, job).then((ended) => {
        if (ended.outcome === 'retry') walk.failedBeside(by, ended)
        return ended
      })
      return { by, result }
    }
    return undefined
  }

  /** Whether a call has neither ended nor begun to answer after so long. */
  async function isStillSilent(ms: number, call: Promise<Result>, begun: Promise<void>): Promise<boolean> {
    let timer: unknown
    const late = new Promise<true>((resolve) => {
      timer = timers.set(Math.ceil(ms), () => resolve(true))
    })
    const ended = Promise.race([call, begun]).then(
      () => false as const,
      () => false as const,
    )
    const isLate = await Promise.race([late, ended])
    timers.clear(timer)
    return isLate
  }

  /** One call from its beginning to what is left behind it. */
  function callOnce(candidate: Candidate, entered: Entered, walk: Walk, job: Job): Promise<Result> {
    const { request, hands } = job
    const { deployment, tier } = candidate
    const { provider } = deployment
    if (provider !== undefined) {
      if (walk.hasCalled(provider.name)) retries.again(provider.name)
      else retries.first(provider.name)
    }
    if (deployment.kind !== 'reply') walk.called(candidate, entered.key?.reference)
    const attempt: Attempt = {
      tier: tier.name,
      deployment: deployment.name,
      called: nameOf(deployment, request),
      outcome: 'retry',
      reason: 'attempt',
      startedMs: clock.now(),
      endedMs: 0,
      firstTokenMs: undefined,
      costMicros: 0,
      spanId: hands.trace?.nextSpanId(),
      outsideHours: provider && keys.used(provider, entered.key),
    }
    if (job.force) forgetSkip(candidate, hands.attempts)
    hands.attempts.push(attempt)
    pace.begin(deployment.name)
    return new Promise((resolve, reject) => {
      const ends = { resolve, reject }
      new Call(room, { candidate, entered, job, attempt, walk, ends }).begin()
    })
  }

  /** Asks health, keys and limits; undefined when the candidate is skipped, with the reason noted. */
  function enter(
    candidate: Candidate,
    walk: Walk,
    job: Job,
  ): Entered | undefined | Promise<Entered | undefined> {
    const { deployment } = candidate
    const wire = toWire(candidate, walk, job)
    if (wire === undefined) return undefined
    if (deployment.kind === 'reply') return { wire, entry: 'go', key: undefined, hold: undefined }
    const taken = takePlace(candidate, walk, job)
    // With nobody to ask and nothing to wait for, nothing is waited for.
    if (taken !== undefined && !isProbe(taken.entry)) return enterGate(candidate, { taken, wire }, walk, job)
    return enterInTurn(candidate, { taken, wire }, walk, job)
  }

  /** The same where somebody else has a say: the fleet in a probe, or whoever is waited for. */
  async function enterInTurn(
    candidate: Candidate,
    { taken: first, wire }: { readonly taken: Place | undefined; readonly wire: Wire },
    walk: Walk,
    job: Job,
  ): Promise<Entered | undefined> {
    let taken = first
    if (taken !== undefined && isProbe(taken.entry) && !(await isOurs(candidate, taken.entry, job)))
      taken = undefined
    if (taken === undefined && candidate.tier.patienceMs > 0 && !job.atOnce)
      taken = await takePatiently(candidate, walk, job)
    if (taken === undefined) return skip(candidate, job, 'skipped:unavailable')
    return enterGate(candidate, { taken, wire }, walk, job)
  }

  /** Asks limits, where there are some; what they have in hand is there at once. */
  function enterGate(
    candidate: Candidate,
    { taken, wire }: { readonly taken: Place; readonly wire: Wire },
    walk: Walk,
    job: Job,
  ): Entered | undefined | Promise<Entered | undefined> {
    const { deployment, callee } = candidate
    const { gate, signal } = job.hands
    const { key, entry } = taken
    if (!gate.limits(deployment)) return { wire, entry, key, hold: undefined }

    function passed(hold: Hold | Refusal | undefined): Entered | undefined {
      if (hold === undefined || !isRefusal(hold)) return { wire, entry, key, hold }
      health.released(callee, entry)
      if (hold.kind === 'unavailable') walk.uncounted(candidate)
      walk.limitWaitMs = Math.min(walk.limitWaitMs, hold.waitMs)
      return skip(candidate, job, 'skipped:limit')
    }

    function broke(error: unknown): never {
      health.released(callee, entry)
      throw error
    }

    let entering: ReturnType<Gate['enter']>
    try {
      // Whoever is asked for want of anybody else has waited once, and a probe holds up all others.
      const waits = !job.force && !job.atOnce && !isProbe(entry)
      const patience = waits ? { deadlineAt: waitEndMs(candidate, walk, job), signal } : undefined
      entering = gate.enter(deployment, job.request, patience)
    } catch (error) {
      return broke(error)
    }
    return entering instanceof Promise ? entering.then(passed, broke) : passed(entering)
  }

  /** How the candidate is spoken to; undefined where it cannot be, with the reason noted. */
  function toWire(candidate: Candidate, walk: Walk, job: Job): Wire | undefined {
    try {
      const wire = job.wires.of(candidate.deployment, job.plan.maxOutputTokens)
      // Nobody goes on in another format with what the caller has read.
      return walk.broken !== undefined && wire.translation !== undefined ? undefined : wire
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error
      walk.uncarried(candidate, error)
      return skip(candidate, job, 'skipped:format')
    }
  }

  /**
   * Whether a call may still begin for which everything was taken: that may have been a wait, and much may have happened
   * in it. Else it goes back. To be asked in the same turn in which the call begins.
   */
  function isStillDue(candidate: Candidate, entered: Entered, walk: Walk, job: Job): boolean {
    const { plan, hands, force } = job
    const { callee } = candidate
    const isHeld = entered.entry === 'go' && !force && !health.isAvailable(callee, plan.class)
    const isLate = plan.deadlineAt - clock.now() < LEAST_TIME_MS || comesTooLate(candidate, job)
    if (!isHeld && !isLate && !hands.signal.aborted && mayCall(candidate, walk)) return true
    giveBack(candidate, entered, job)
    if (isLate) walk.isTooLate = true
    else if (isHeld) skip(candidate, job, 'skipped:unavailable')
    return false
  }

  /** Of a call that is not made. */
  function giveBack({ callee }: Candidate, { entry, hold }: Entered, { hands }: Job): void {
    health.released(callee, entry)
    if (hold !== undefined) hands.gate.leave(hold, undefined, 0)
  }

  /** A key and the word of health; undefined while one of them is not to be had. */
  function takePlace(candidate: Candidate, walk: Walk, { plan, request, force }: Job): Place | undefined {
    const { deployment, callee } = candidate
    const { provider } = deployment
    const model = modelOf(callee)
    if (provider !== undefined && keys.parkedMs(provider, model) > 0) return undefined
    const entry = health.enter(callee, { class: plan.class, force })
    if (entry === 'held') return undefined
    const last = walk.lastKey(candidate)
    let key = provider && keys.next(provider, last === undefined ? request.cacheKey : undefined, model)
    // A second call goes to another key than the first, if there is one: others may have brought its turn round again.
    if (provider !== undefined && typeof key === 'object' && key.reference === last)
      key = keys.next(provider, undefined, model)
    if (key !== 'parked') return { key, entry }
    health.released(callee, entry)
    return undefined
  }

  /** Whether a call is no probe but that of the fleet; else its turn goes back. */
  async function isOurs({ callee, deployment }: Candidate, entry: Entry, { force }: Job): Promise<boolean> {
    // Who has nobody else to ask does not wait for what another replica finds out.
    if (!isProbe(entry) || force || (await hints.mayProbe(deployment.name))) return true
    health.released(callee, entry)
    return false
  }

  /** Who is held back is worth a wait within the tier's patience when nobody else of the tier can answer. */
  async function takePatiently(candidate: Candidate, walk: Walk, job: Job) {
    const { tier } = candidate
    const latestMs = waitEndMs(candidate, walk, job) - LEAST_TIME_MS
    const untilMs = Math.min(clock.now() + tier.patienceMs, latestMs)
    for (;;) {
      const heldMs = holdMs(candidate)
      // Who gets a share of the traffic is not waited for: with enough looks everybody would get through.
      const phase = health.look(candidate.callee)?.phase
      if (heldMs === 0 && phase !== 'probing') return undefined
      // Whoever is slow takes all calls of those who have nobody else: they are not to wait for a probe first.
      const isTaken = phase === 'held' || phase === 'probing'
      if (isTaken && health.isReluctant(candidate.callee) && !hasOther(candidate, walk, job)) return undefined
      // Where the hold is over, somebody else is probing: a short look, again and again.
      const waitMs = Math.ceil(heldMs) + PROBE_LOOK_MS
      if (clock.now() + waitMs > untilMs || job.hands.signal.aborted) return undefined
      if (hasOtherInTier(candidate, walk, job)) return undefined
      await pause(waitMs, job.hands.signal)
      const taken = takePlace(candidate, walk, job)
      if (taken !== undefined && (await isOurs(candidate, taken.entry, job))) return taken
    }
  }

  /** How long until a deployment can be asked, as far as health and keys know. */
  function holdMs({ callee, deployment: { provider } }: Candidate): number {
    return Math.max(
      health.holdMs(callee),
      provider === undefined ? 0 : keys.parkedMs(provider, modelOf(callee)),
    )
  }

  function skip({ tier, deployment }: Candidate, { hands, request, force }: Job, reason: Reason): undefined {
    // The forced call is a second look at somebody who has been noted already.
    if (force) return undefined
    const now = clock.now()
    hands.attempts.push({
      tier: tier.name,
      deployment: deployment.name,
      called: nameOf(deployment, request),
      outcome: 'skipped',
      reason,
      startedMs: now,
      endedMs: now,
      firstTokenMs: undefined,
      costMicros: 0,
    })
    return undefined
  }

  /** The head of an answer has come, whatever the answer is. */
  function heard({ candidate, entered: { key, wire } }: Call, header: HeaderLookup): void {
    noteQuota(candidate, key, wire.side.quota(header, clock.wall()))
  }

  /** The answer begins: whoever waits for this probe need not wait for its end. */
  function begins({ candidate, entered, job, attempt, wire }: Call, firstTokenMs: number): void {
    const { deployment, tier, callee } = candidate
    const { plan, request, reply, hands } = job
    attempt.firstTokenMs = firstTokenMs
    if (request.stream) pace.answered(deployment.name, firstTokenMs - attempt.startedMs)
    entered.entry = health.answering(callee, entered.entry)
    attempt.outcome = 'answered'
    attempt.reason = '200'
    reply.header('x-sluice-tier', tier.name)
    reply.header('x-sluice-deployment', attempt.called)
    reply.header('x-sluice-attempts', toAttemptsHeader(hands.attempts))
    if (tier.name !== plan.route.tiers[0]?.name) reply.header('x-sluice-degraded', 'true')
    if (tier.needsReview) reply.header('x-sluice-needs-review', 'true')
    const dropped = wire.translation?.dropped
    if (dropped !== undefined && dropped.length > 0)
      reply.header('x-sluice-dropped', toDroppedHeader(dropped))
  }

  /** Tells health, keys and limits how it went. */
  function leave({ candidate, entered, job, attempt }: Call, result: Result): void {
    const { hands, request } = job
    const { deployment, callee } = candidate
    if (deployment.kind === 'reply') return
    const { provider } = deployment
    const { entry, key, hold, wire } = entered
    pace.end(deployment.name)
    if (hold !== undefined) hands.gate.leave(hold, usageOf(result), attempt.costMicros)
    switch (result.outcome) {
      case 'answered': {
        const late = lateness(candidate, request, attempt)
        if (late !== undefined) return health.late(callee, entry, late)
        return health.succeeded(callee, entry)
      }
      // What the caller did says nothing of the provider, neither good nor bad.
      case 'refuse':
      case 'left':
        return health.released(callee, entry)
      case 'broken':
        if (result.blameless) return health.released(callee, entry)
        return health.failed(callee, entry, { reason: result.reason, retryAfterMs: undefined })
      case 'retry':
        if (result.blameless || isAboutRequest(result, deployment, { request, isSecond: wire.isSecond })) {
          return health.released(callee, entry)
        }
        if (key !== undefined && provider !== undefined && isKeyFault(result, deployment)) {
          const ms = parkMs(result)
          if (result.park) keys.park(provider, key, ms)
          else if (parks(result)) keys.limit(provider, key, { model: modelOf(callee), ms })
          // One key over its rate says nothing of the provider. Where none is left, it is the provider that is over it,
          // until the first of them can be used again.
          const parkedMs = keys.parkedMs(provider, modelOf(callee))
          if (result.park || result.reason !== '429' || parkedMs === 0) return health.released(callee, entry)
          const retryAfterMs = result.retryAfterMs && parkedMs
          return health.failed(callee, entry, { reason: result.reason, retryAfterMs })
        }
        return health.failed(callee, entry, result)
    }
  }

  /** Until when the candidate may be waited for: whoever stands behind is left half of the time. */
  function waitEndMs(candidate: Candidate, walk: Walk, job: Job): number {
    const { deadlineAt } = job.plan
    return hasFallback(candidate, walk, job) ? (clock.now() + deadlineAt) / 2 : deadlineAt
  }

  /** Whether somebody is left who could answer in this one's place, as far as can be known before asking. */
  function hasFallback(candidate: Candidate, walk: Walk, job: Job): boolean {
    const hasReply = walk.behind(candidate).some(({ deployment }) => deployment.kind === 'reply')
    const takesReply = walk.tooLongFor === undefined && walk.broken === undefined
    return (hasReply && takesReply) || hasOther(candidate, walk, job)
  }

  /** The same of providers alone. */
  function hasOther(candidate: Candidate, walk: Walk, job: Job): boolean {
    return walk.behind(candidate).some((one) => mayFollow(one, candidate, { walk, job }))
  }

  /** The same of those in its tier. Whoever stands before it there has had his turn. */
  function hasOtherInTier(candidate: Candidate, walk: Walk, job: Job): boolean {
    return walk
      .behind(candidate)
      .some((one) => one.tier === candidate.tier && mayFollow(one, candidate, { walk, job }))
  }

  /** Whether `one`, who stands behind, could be called when `candidate` has failed, as far as is known now. */
  function mayFollow(
    one: Candidate,
    candidate: Candidate,
    { walk, job }: { readonly walk: Walk; readonly job: Job },
  ): boolean {
    const { tier, deployment, callee, doubt } = one
    const { plan } = job
    // Who has failed beside another may be called once more, but that is nothing to rely on.
    if (doubt !== undefined || walk.besideOf(one) !== undefined) return false
    if (walk.tooLongFor !== undefined && !isLarger(deployment, walk.tooLongFor)) return false
    if (deployment.kind === 'reply') return false
    const attemptsLeft = plan.attempts - walk.calls
    const mayStay = mayCallAgain({ attemptsLeft, tiersLeft: tiersLeft(candidate, walk, plan) })
    if (attemptsLeft <= 0 || (tier === candidate.tier && !mayStay)) return false
    if (!mayCall(one, walk) || comesTooLate(one, job)) return false
    const { provider } = deployment
    const hasKey =
      provider === undefined || provider.keys.length === 0 || keys.hasAnother(provider, modelOf(callee))
    return hasKey && health.isAvailable(callee, plan.class)
  }

  /** Tiers behind to which a call is due: none is kept for those that are away. */
  function tiersLeft(candidate: Candidate, walk: Walk, plan: Plan): number {
    return walk.tiersBehind(
      candidate,
      ({ callee }) => health.isAvailable(callee, plan.class) || health.isReluctant(callee),
    )
  }

  /** Those that were passed over although they would answer: slow ones, and those that are spared for others. */
  function reluctant(walk: Walk): readonly Candidate[] {
    return walk.candidates.filter(
      (candidate) =>
        candidate.deployment.kind !== 'reply' &&
        !walk.hasTried(candidate) &&
        (candidate.doubt !== undefined || health.isReluctant(candidate.callee)),
    )
  }

  /** A provider with several keys has a quota for each, as far as is known: an empty one is left alone, and no more. */
  function noteQuota(
    { callee, deployment: { provider } }: Candidate,
    key: Key | undefined,
    left: QuotaLeft | undefined,
  ): void {
    if (left === undefined || provider === undefined) return
    if (provider.keys.length < 2) health.quota(callee, left)
    else if (key !== undefined && left.share === 0)
      keys.limit(provider, key, { model: modelOf(callee), ms: left.resetMs })
  }

  /**
   * When everybody is held back by our own breakers, or probed by another replica: those whose hold ends first are asked
   * first.
   */
  function leastBadFirst(walk: Walk): readonly Candidate[] {
    return walk.candidates
      .filter((candidate) => candidate.deployment.kind !== 'reply' && !walk.hasTried(candidate))
      .sort((a, b) => health.holdMs(a.callee) - health.holdMs(b.callee))
  }

  /** `provider/*` goes by the name of the model that was asked for, which is the caller's text. */
  function nameOf(deployment: Deployment, request: ModelRequest): string {
    if (deployment.model !== undefined || deployment.provider === undefined) return deployment.name
    return deps.scrub(`${deployment.provider.name}/${request.model}`)
  }

  function pause(ms: number, signal: EndSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve()
      const timer = timers.set(ms, done)
      signal.addEventListener('abort', done)
      function done(): void {
        timers.clear(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
    })
  }

  /** Names of members are the caller's own text. */
  function toDroppedHeader(dropped: readonly string[]): string {
    return deps.scrub(dropped.join(', ')).slice(0, LONGEST_DROPPED)
  }

  function toNobody(walk: Walk, job: Job): Ended {
    const { usedInVain } = walk
    const { signal } = job.hands
    return signal.aborted ? left(signal, usedInVain) : failed(toFailure(walk, job), usedInVain)
  }

  /** Nobody answered. */
  function toFailure(walk: Walk, { plan, request, hands }: Job): GatewayError {
    const { attempts } = hands
    if (walk.isTooLate || plan.deadlineAt - clock.now() < LEAST_TIME_MS) return tooLate()
    if (walk.tooLongFor !== undefined && !mightHaveFit(walk.tooLongFor, walk, attempts)) {
      return toContextError(walk, request)
    }
    const unpriced = toUnpriced(plan, request)
    if (unpriced !== undefined) return unpriced
    const uncarried = walk.whyUncarried()
    if (uncarried !== undefined) return uncarried
    if (walk.candidates.every((one) => walk.isUncounted(one))) return toUncounted()
    const list = attempts.map(({ tier, called, reason }) => `${tier} ${called}: ${reason}`).join('; ')
    const waitMs = Math.min(shortestHoldMs(walk), walk.limitWaitMs)
    const retryAfterMs = Number.isFinite(waitMs) ? waitMs : 1000
    return new GatewayError('upstream_failed', `No provider could answer (${list}).`, { retryAfterMs })
  }

  /** Money is limited and nobody has a price. No retry helps, and a 404 is where clients stop: wire §0.3. */
  function toUnpriced({ tiers }: Plan, request: ModelRequest): GatewayError | undefined {
    const candidates = tiers.flatMap((place) => place.candidates)
    if (candidates.some(isAllowed)) return undefined
    const names = candidates.map(({ tier, deployment }) => `${tier.name} ${nameOf(deployment, request)}`)
    return new GatewayError(
      'model_not_found',
      `The model "${request.model}" cannot be used where money is limited: there is no price of ${names.join(', ')}. An operator writes it as "price" beside "use" in tiers.<tier>.deployments, 0 for what costs nothing.`,
      { param: 'model' },
    )
  }

  /** The shortest hold among those that are held back; Infinity where nobody is. */
  function shortestHoldMs({ candidates }: Walk): number {
    const holds = candidates.map(holdMs)
    return Math.min(...holds.filter((ms) => ms > 0))
  }
}

interface Job {
  readonly plan: Plan
  readonly request: ModelRequest
  readonly reply: Reply
  readonly hands: Hands
  readonly wires: Wires
  readonly force: boolean
  /** Whoever cannot be asked now is not waited for. */
  readonly atOnce: boolean
  /** Makes a call one of several for the same answer. */
  readonly leg: ((attempt: Attempt) => Leg) | undefined
}

/** A candidate's turn: its calls, one after another, until one is the answer or the next candidate comes. */
interface Turn {
  readonly candidate: Candidate
  readonly job: Job
  /** Second calls that its tier still allows, for a passing error and with another key. */
  retriesLeft: number
  keysLeft: number
  /** How its last call failed; undefined while there was none. */
  failure: Failure | undefined
  /** Who was heard in the last call: itself, or one that was asked beside it. */
  by: Candidate
}

/** What a turn goes on with: another call, the next one's turn, or the end of the walk. */
type Then = 'again' | 'next' | Ended

/** What a call under way asks of the room. */
interface Room {
  readonly deps: UpstreamDeps
  readonly fixed: FixedHeaders
  hasFallback(candidate: Candidate, walk: Walk, job: Job): boolean
  heard(call: Call, header: HeaderLookup): void
  begins(call: Call, firstTokenMs: number): void
  leave(call: Call, result: Result): void
}

/** A call that begins. */
interface CallParts {
  readonly candidate: Candidate
  readonly entered: Entered
  readonly job: Job
  readonly attempt: Attempt
  readonly walk: Walk
  /** Of the promise that waits for it. */
  readonly ends: { resolve(result: Result): void; reject(error: unknown): void }
}

/**
 * A call under way: what its attempt goes by, and who is told how it goes. An object, and no closures: there is one for
 * each call, and most of what it can be asked it is never asked.
 */
class Call implements Run {
  readonly candidate: Candidate
  readonly entered: Entered
  readonly job: Job
  readonly attempt: Attempt
  readonly walk: Walk
  leg: Leg | undefined = undefined
  readonly wire: Wire
  readonly kind: Kind
  readonly plan: Plan
  readonly reply: Reply
  signal: EndSignal
  readonly clock: Clock
  readonly timers: Timers
  firstTokenMs = Number.POSITIVE_INFINITY
  resume: Resume | undefined = undefined
  redact: Redact | undefined = undefined
  readonly #room: Room
  readonly #ends: CallParts['ends']
  #isLeft = false

  constructor(room: Room, { candidate, entered, job, attempt, walk, ends }: CallParts) {
    const { deps } = room
    this.#room = room
    this.#ends = ends
    this.candidate = candidate
    this.entered = entered
    this.job = job
    this.attempt = attempt
    this.walk = walk
    this.wire = entered.wire
    this.kind = deps.kinds[candidate.deployment.kind]
    this.plan = job.plan
    this.reply = job.reply
    this.signal = job.hands.signal
    this.clock = deps.clock
    this.timers = deps.timers
  }

  /** Never throws: what goes wrong here gives back what was taken for it, like anything later. */
  begin(): void {
    try {
      beginAttempt(this, this.#prepare())
    } catch (error) {
      this.onBroke(error)
    }
  }

  #prepare(): Exchange {
    const { candidate, entered, job, attempt, wire, plan, clock } = this
    const { deployment, tier } = candidate
    const { request, hands } = job
    const { keys, pace, userAgent } = this.#room.deps
    if (job.leg !== undefined) {
      this.leg = job.leg(attempt)
      this.signal = this.leg.signal
    }
    const isFollowed = tier.firstTokenLeastMs !== undefined
    this.firstTokenMs = firstTokenLimit(tier, isFollowed ? pace.p95(deployment.name) : undefined)
    this.redact = deployment.provider && keys.redact(deployment.provider)
    const said = this.walk.broken?.said
    const edits = said ? wire.side.resume?.prefill(request, said, deployment.prefill) : undefined
    if (said !== undefined) this.resume = { said, isPrefilled: edits !== undefined, mark: toMark(attempt) }
    return createExchange({
      candidate,
      request,
      wire,
      key: entered.key,
      maxOutputTokens: edits === undefined ? plan.maxOutputTokens : capBehind(said, plan, request),
      userAgent,
      fixed: this.#room.fixed,
      nowMs: clock.wall(),
      traceHeaders: hands.trace?.headers(attempt.spanId),
      edits,
    })
  }

  isLast(): boolean {
    const { candidate, walk, job } = this
    return candidate.deployment.kind === 'reply' || job.force || !this.#room.hasFallback(candidate, walk, job)
  }

  onHead(header: HeaderLookup): void {
    this.#room.heard(this, header)
  }

  onCommit(firstTokenMs: number): void {
    this.leg?.wins()
    this.#room.begins(this, firstTokenMs)
  }

  onOver(result: Result): void {
    const { attempt, candidate, job } = this
    attempt.endedMs = this.clock.now()
    attempt.outcome = result.outcome
    if (result.outcome === 'retry' || result.outcome === 'broken') attempt.reason = result.reason
    else if (result.outcome === 'refuse') attempt.reason = `${result.status}`
    // 499: the caller left or was sent away, which is nobody's failure.
    else attempt.reason = result.outcome === 'answered' ? '200' : '499'
    attempt.costMicros = costOf(candidate.deployment, job.request, usageOf(result))
    this.#leave(result)
    const { leg } = this
    // Not in this turn: an answer that comes in the same moment is not called off for a refusal.
    if (leg !== undefined && isFinal(result)) queueMicrotask(() => leg.wins())
    this.#ends.resolve(result)
  }

  /** A defect of ours: what was taken comes back all the same. */
  onBroke(error: unknown): void {
    this.attempt.endedMs = this.clock.now()
    try {
      this.#leave({ outcome: 'left', usage: undefined })
      this.leg?.wins()
    } finally {
      this.#ends.reject(error)
    }
  }

  /** What was taken comes back once, even where telling of the end was what went wrong. */
  #leave(result: Result): void {
    if (this.#isLeft) return
    this.#isLeft = true
    this.#room.leave(this, result)
  }
}
/** A key, and the word of health. */
type Place = Pick<Entered, 'key' | 'entry'>

interface Entered {
  readonly wire: Wire
  /** A probe becomes a trial when it brings an answer. */
  entry: Entry
  readonly key: Key | undefined
  readonly hold: Hold | undefined
}

/** Whether somebody has spoken the last word. */
function isFinal(result: Result): boolean {
  return hasSpoken(result) || result.outcome === 'refuse'
}

/** Whether something of it is with the caller. */
function hasSpoken({ outcome }: Result): boolean {
  return outcome === 'answered' || outcome === 'broken'
}

/** The server has no such endpoint in a format that is not its first; or the model has none. */
function lacksFormat(failure: Failure, { isSecond }: Wire): boolean {
  return isSecond && lacksOperation(failure)
}

/** A comment: clients skip it, a person who looks at the stream sees it. No line break of a name may end it. */
function toMark({ tier, called }: Attempt): string {
  return `sluice: resumed by ${tier}:${called}`.replaceAll(/[\r\n]/g, ' ')
}

/** The cap for the rest of an answer, where it has one; about four characters to a token. */
function capBehind(said: string | undefined, plan: Plan, request: ModelRequest): number | undefined {
  const cap = plan.maxOutputTokens ?? request.maxOutputTokens
  return cap === undefined ? undefined : Math.max(cap - Math.ceil((said?.length ?? 0) / 4), 1)
}

/** Of `provider/*`: the model that is asked for, which has limits of its own. */
function modelOf(callee: Callee): string | undefined {
  return typeof callee === 'string' ? undefined : callee.model
}

// --- what it used ----------------------------------------------------------------------------------------------

function usageOf(result: Result): Usage | undefined {
  return 'usage' in result ? result.usage : undefined
}

function costOf(deployment: Deployment, request: ModelRequest, usage: Usage | undefined): number | undefined {
  if (usage === undefined) return 0
  const price = priceOf(deployment, request.model)
  return price && costMicros(price, usage)
}

/** The cost of them all; unknown as soon as that of one is. */
function sum(attempts: readonly Attempt[]): number | undefined {
  let micros = 0
  for (const attempt of attempts) {
    if (attempt.costMicros === undefined) return undefined
    micros += attempt.costMicros
  }
  return micros
}

/** When a slot comes back nobody knows. */
function fullText({ kind, subject, waitMs }: Refusal): string {
  return `limit: full${kind === 'concurrency' ? '' : ` for ${seconds(waitMs)}`} (${subject.kind}:${kind})`
}

function seconds(ms: number): string {
  return `${Math.ceil(ms / 100) / 10} s`
}

/** Who was passed over and is called after all stands in the list once. */
function forgetSkip({ tier, deployment }: Candidate, attempts: Attempt[]): void {
  const at = attempts.findIndex(
    (one) => one.outcome === 'skipped' && one.tier === tier.name && one.deployment === deployment.name,
  )
  if (at >= 0) attempts.splice(at, 1)
}

function isRefusal(value: Hold | Refusal): value is Refusal {
  return 'waitMs' in value
}

/** For example `sovereign:anthropic/claude-opus-4-5=429, execution:local/gpt-oss-120b=200`. */
export function toAttemptsHeader(attempts: readonly Attempt[]): string {
  return attempts.map(({ tier, called, reason }) => `${tier}:${called}=${reason}`).join(', ')
}
