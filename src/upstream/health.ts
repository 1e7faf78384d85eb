// What is known of each deployment's health, and what follows from it: a state machine for each, fed by how calls ended
// and by what providers say of their quota. Keyed by name and made in main.ts: no reload resets it.
//
//   open ──5 failures in a row, half of 20 in 10 s, a missed first token, Retry-After──▶ held ──its time──▶ probing
//     ▲                                                                                   ▲               │
//     └──── ramp 10, 25, 50 % ◀── recovering ◀── three clean probes and `grace` ──────────┴── a failure ──┘
//
// What an operator sees is one of four words (design §7): `available`; `slow` after a missed first token; `low_quota`
// when a provider says so; `unavailable`. All but the first last until traffic has been back for ten seconds, and at least
// half a minute.

import type { QuotaLeft } from '../formats/format.ts'
import type { Agent, Callee, Clock, Reason } from '../types.ts'
import type { DeploymentHint, Hints } from './hints.ts'
import { createOutcomes, type Outcomes } from './outcomes.ts'

export type State = 'available' | 'slow' | 'low_quota' | 'unavailable'

/**
 * `go`: call it; `probe`: call it, alone, to see; `trial`: a probe that has begun to answer; `held`: leave it alone. Of a
 * model of `provider/*` a probe may be one of the deployment alone or of the model alone; of the other it proves nothing,
 * should that be held back while it is under way.
 */
export type Entry = Word | `${'probe' | 'trial'}:${Side}`
type Word = 'go' | 'probe' | 'trial' | 'held'
type Side = 'deployment' | 'model'

/** Whether it is the one call that goes to see. */
export function isProbe(entry: Entry): boolean {
  return entry.startsWith('probe')
}

/** What an entry is for one of the two that it depends on. */
function sideOf(entry: Entry, side: Side): Word {
  switch (entry) {
    case 'probe:deployment':
    case 'probe:model':
      return entry === `probe:${side}` ? 'probe' : 'go'
    case 'trial:deployment':
    case 'trial:model':
      return entry === `trial:${side}` ? 'trial' : 'go'
    default:
      return entry
  }
}

/** Who asks to call. */
export interface Asking {
  readonly class: Agent['class']
  /** Nobody else is left: whatever holds it back that is not the provider's own word is put aside. */
  readonly force?: boolean | undefined
}

/** Why a call failed, as far as it concerns the deployment. */
export interface Failure {
  readonly reason: Reason
  /** How long the provider asked to be left alone, in ms. */
  readonly retryAfterMs: number | undefined
}

export interface Health {
  /** Whether a call would be let through now, as far as can be known without making it. */
  isAvailable(callee: Callee, klass?: Agent['class']): boolean
  /** Held back for a reason that gives way when nobody else is left: slow, low quota, a share of the traffic. */
  isReluctant(callee: Callee): boolean
  /** Asks to call. What is not `held` must be answered by `succeeded`, `failed` or `released`. */
  enter(callee: Callee, asking?: Asking): Entry
  /** The answer has begun: another may probe now, but only its end tells whether this one was clean. */
  answering(callee: Callee, entry: Entry): Entry
  succeeded(callee: Callee, entry: Entry): void
  failed(callee: Callee, entry: Entry, failure: Failure): void
  /** It answered, but so late that it would have been cut had there been anybody else. */
  late(callee: Callee, entry: Entry, reason: Reason): void
  /** The call ended without telling anything (the caller left). */
  released(callee: Callee, entry: Entry): void
  /** What the head of an answer said. */
  quota(callee: Callee, left: QuotaLeft): void
  /** What another replica found out. */
  learn(hint: DeploymentHint): void
  /** A health check of its provider was good. */
  foundWell(deployment: string): void
  /** A health check of its provider failed; `ms`: until the next one has surely ended. */
  foundIll(deployment: string, reason: Reason, ms: number): void
  /** How long it will still be held back, in ms; 0 when it is not. */
  holdMs(callee: Callee): number
  /** How a callee stands: of a model of `provider/*` what is known of it, where its deployment is well. */
  look(callee: Callee): Standing | undefined
  /** What an operator sees. */
  view(): readonly HealthShown[]
}

/** How something stands. */
export interface Standing {
  readonly state: State
  /** Why, in the words of an attempt's reason, or what the provider said; '' while all is well. */
  readonly reason: string
  /** Until it may be asked again, in ms. */
  readonly holdMs: number
  /** Where it stands on its way back. */
  readonly phase: Phase
  /** Share of the traffic that it gets, 0..1. */
  readonly share: number
}

export interface HealthShown extends Standing {
  readonly deployment: string
  /** Unix ms. */
  readonly sinceMs: number
  /** Of `provider/*`: the models that are not as well as it is, by the names that callers chose. */
  readonly models?: readonly ModelShown[]
}

export interface ModelShown extends Standing {
  readonly model: string
}

/** A change of what an operator sees. */
export interface StateChange {
  readonly deployment: string
  /** Of `provider/*`: the one model that it is about, by the name that a caller chose. */
  readonly model?: string
  readonly from: State
  readonly to: State
  readonly reason: string
  readonly holdMs: number
}

export type Phase = 'open' | 'held' | 'probing' | 'recovering'

/** Failures in a row after which a deployment is held back. */
const OPEN_AFTER = 5
/** Or this share of so many calls within the window of `outcomes.ts`. */
const BAD_SHARE = 0.5
const LEAST_CALLS = 20
/** On the way back less is enough: two in a row, or this share of so many. */
const RELAPSE_AFTER = 2
const RELAPSE_SHARE = 0.2
const LEAST_RELAPSE_CALLS = 10
/** Clean probes in a row after which the way back begins. */
const CLEAN_PROBES = 3
const FIRST_HOLD_MS = 5_000
/** A provider that is back is asked within 15 s, ± 20 % included; a silent one costs each probe its whole patience. */
const LONGEST_HOLD_MS = 12_000
const LONGEST_SILENT_HOLD_MS = 60_000
/** Longest time a provider may ask to be left alone. */
const LONGEST_RETRY_AFTER_MS = 600_000
/** A rate that is over for so short a time is low quota, and no outage. */
const SHORT_RETRY_AFTER_MS = 2_000
/** Who has nobody else to ask waits no longer for the probe of another: a whole answer may take minutes. */
const FORCED_PROBE_MS = 1_000
/** Shares of the traffic on the way back, and how long each lasts; quicker after a rate limit, whose end was told. */
const RAMP = [0.1, 0.25, 0.5]
const RAMP_STEP_MS = 5_000
const QUICK_RAMP_STEP_MS = 1_000
/** The quota is low below this share, and no more from a little above. */
const LOW_QUOTA = 0.1
const QUOTA_AGAIN = 0.13
const LEAST_EMPTY_MS = 1_000
/** The others are told of a low quota at most once in this time. */
const TELL_QUOTA_MS = 1_000
/** A word that operators see stays for at least this long. */
const SETTLED_MS = 30_000
/** And until all traffic has been back for so long: who is over its rate every few seconds is not well in between. */
const WELL_MS = 10_000
/** Health checks in a row that must fail for who was well; who is held back already needs one. */
const ILL_AFTER = 2
/** Whoever has answered a request so lately is well, whatever a check says. */
const PROVEN_MS = 10_000
/** After so long without trouble an outage is the first again. */
const FORGIVEN_MS = 60_000

/** Models of one `provider/*` that are kept apart; of more, those that were told of longest ago are forgotten. */
const MOST_MODELS = 64

interface Record {
  /** Of the deployment. */
  readonly name: string
  /** Of `provider/*`: whose record this is; undefined for that of the deployment as a whole. */
  readonly model: string | undefined
  phase: Phase
  /** Health checks that failed, since the last good one. */
  failedChecks: number
  /** When a request was last answered, or began to be. */
  provenMs: number
  /** What the present hold means, while the phase is not `open`. */
  trouble: Exclude<State, 'available'>
  failures: number
  readonly outcomes: Outcomes
  /** How many times it was held lately. */
  held: number
  heldUntilMs: number
  /** The provider named the wait: it is kept even when nobody else is left. */
  asked: boolean
  probing: boolean
  probeSinceMs: number
  cleanProbes: number
  cleanSinceMs: number
  rampSinceMs: number
  /** Ways back that need no grace: the provider had said when. */
  quick: boolean
  openSinceMs: number
  /** Adds up shares of calls, so that every so manieth goes. */
  credit: number
  /** What was last said, and when: a share comes back evenly, as far as is known, until all of it is there. */
  quota: (QuotaLeft & { readonly toldMs: number; readonly emptyUntilMs: number }) | undefined
  quotaLowUntilMs: number
  /** When the others were last told of it. */
  quotaTellMs: number
  reason: string
  shown: State
  shownReason: string
  shownAtMs: number
  shownSinceMs: number
}

export interface HealthOptions {
  readonly clock: Clock
  readonly random: () => number
  /** Clean probes last this long before traffic comes back, in ms; asked each time, as a reload may change it. */
  readonly graceMs: () => number
  readonly onChange: (change: StateChange) => void
  /** Where the others are told, and told when a probe of the fleet is over. */
  readonly hints: Pick<Hints, 'probed'> & { tell(hint: DeploymentHint): void }
}

export function createHealth({ clock, random, graceMs, onChange, hints }: HealthOptions): Health {
  const records = new Map<string, Record>()
  /** By deployment and model, those that were last told of last. */
  const models = new Map<string, Map<string, Record>>()

  function create(name: string, model?: string): Record {
    return {
      name,
      model,
      phase: 'open',
      failedChecks: 0,
      provenMs: Number.NEGATIVE_INFINITY,
      trouble: 'unavailable',
      failures: 0,
      outcomes: createOutcomes(clock),
      held: 0,
      heldUntilMs: 0,
      asked: false,
      probing: false,
      probeSinceMs: 0,
      cleanProbes: 0,
      cleanSinceMs: 0,
      rampSinceMs: 0,
      quick: false,
      openSinceMs: clock.now(),
      credit: 0,
      quota: undefined,
      quotaLowUntilMs: 0,
      quotaTellMs: Number.NEGATIVE_INFINITY,
      reason: '',
      shown: 'available',
      shownReason: '',
      shownAtMs: clock.now(),
      shownSinceMs: clock.wall(),
    }
  }

  function get(name: string): Record {
    let record = records.get(name)
    if (record === undefined) {
      record = create(name)
      records.set(name, record)
    }
    return record
  }

  /** What is known of the model alone. */
  function modelOf(callee: Callee): Record | undefined {
    return typeof callee === 'string' ? undefined : models.get(callee.deployment)?.get(callee.model)
  }

  /** All that a call depends on and that something is known of. */
  function known(callee: Callee): Record[] {
    const own = records.get(deploymentOf(callee))
    const model = modelOf(callee)
    if (model === undefined) return own === undefined ? [] : [own]
    return own === undefined ? [model] : [own, model]
  }

  /** The record of what is limited by model where there are models, made where there is none. */
  function limited(callee: Callee): Record {
    if (typeof callee === 'string') return get(callee)
    const { deployment, model } = callee
    let all = models.get(deployment)
    if (all === undefined) {
      all = new Map()
      models.set(deployment, all)
    }
    const record = all.get(model) ?? create(deployment, model)
    if (!all.delete(model) && all.size >= MOST_MODELS) forgetOne(all)
    all.set(model, record)
    return record
  }

  /** One of which there is nothing to say; else the one that was told of longest ago: that costs it a refusal more. */
  function forgetOne(all: Map<string, Record>): void {
    const [first] = all.keys()
    const idle = [...all.values()].find((record) => !hasNews(record))
    const model = idle?.model ?? first
    if (model !== undefined) all.delete(model)
  }

  function hasNews(record: Record): boolean {
    advance(record)
    return record.phase !== 'open' || record.shown !== 'available' || record.quota !== undefined
  }

  // --- the way out and the way back -----------------------------------------------------------------------------

  /** Leaves it alone, and says so to the others. `askedMs`: the provider named the wait. */
  function hold(record: Record, trouble: Record['trouble'], reason: Reason, askedMs?: number): void {
    const nowMs = clock.now()
    if (askedMs === undefined) {
      if (record.phase === 'open' && nowMs - record.openSinceMs > FORGIVEN_MS) record.held = 0
      const longest = trouble === 'slow' ? LONGEST_SILENT_HOLD_MS : LONGEST_HOLD_MS
      const ms = Math.min(longest, FIRST_HOLD_MS * 2 ** record.held)
      record.held += 1
      // ± 20 %, so that replicas do not all come back at once.
      record.heldUntilMs = nowMs + ms * (0.8 + 0.4 * random())
    } else record.heldUntilMs = nowMs + askedMs
    keepHeld(record, trouble, reason, askedMs !== undefined)
    if (isOfTheWay(reason)) hints.tell({ kind: 'suspect', ...about(record) })
    else {
      const ms = Math.round(record.heldUntilMs - nowMs)
      hints.tell({ kind: 'held', ...about(record), trouble, reason, ms, asked: record.asked })
    }
  }

  function keepHeld(record: Record, trouble: Record['trouble'], reason: string, asked: boolean): void {
    record.phase = 'held'
    record.trouble = trouble
    record.asked = asked
    record.quick = record.asked && reason === '429'
    record.failures = 0
    record.cleanProbes = 0
    record.reason = reason
    show(record)
  }

  /** Brings a record to now: what only time decides. */
  function advance(record: Record): void {
    // Of one that is well time decides nothing.
    if (record.phase === 'open' && record.shown === 'available') return
    const nowMs = clock.now()
    if (record.phase === 'held' && nowMs >= record.heldUntilMs) {
      record.phase = 'probing'
      record.cleanProbes = 0
    }
    if (record.phase === 'recovering' && rampShare(record, nowMs) >= 1) {
      record.phase = 'open'
      record.openSinceMs = record.rampSinceMs + RAMP.length * rampStepMs(record)
      record.failures = 0
      record.outcomes.clear()
    }
    if (record.shown !== 'available') show(record)
  }

  function rampShare(record: Record, nowMs: number): number {
    const step = Math.floor((nowMs - record.rampSinceMs) / rampStepMs(record))
    return RAMP[step] ?? 1
  }

  function rampStepMs({ quick }: Record): number {
    return quick ? QUICK_RAMP_STEP_MS : RAMP_STEP_MS
  }

  /** A clean probe: enough of them for long enough, and traffic comes back. */
  function clean(record: Record): void {
    const nowMs = clock.now()
    if (record.phase === 'held') {
      // Forced within the hold, and it answered. What the provider asked for is kept all the same.
      if (record.asked) return
      record.phase = 'probing'
      record.cleanProbes = 0
    }
    if (record.phase !== 'probing') return
    if (record.cleanProbes === 0) record.cleanSinceMs = nowMs
    record.cleanProbes += 1
    const enough = record.quick
      ? record.cleanProbes >= 1
      : record.cleanProbes >= CLEAN_PROBES && nowMs - record.cleanSinceMs >= graceMs()
    if (!enough) return
    startRamp(record)
    hints.tell({ kind: 'back', ...about(record) })
  }

  function startRamp(record: Record): void {
    record.phase = 'recovering'
    record.rampSinceMs = clock.now()
    // The first call behind the probes goes: where there are few, most go.
    record.credit = 1
    record.failures = 0
    record.outcomes.clear()
  }

  /** A probe that brought something, whatever that is, makes room for the next one. */
  function endProbe(record: Record, entry: Entry): void {
    if (partOf(record, entry) !== 'probe') return
    record.probing = false
    hints.probed(record.name)
  }

  function partOf({ model }: Record, entry: Entry): Word {
    return sideOf(entry, model === undefined ? 'deployment' : 'model')
  }

  function isBad({ phase, failures, outcomes }: Record): boolean {
    const { good, bad } = outcomes.seen()
    const all = good + bad
    if (phase === 'recovering')
      return failures >= RELAPSE_AFTER || (all >= LEAST_RELAPSE_CALLS && bad >= all * RELAPSE_SHARE)
    return failures >= OPEN_AFTER || (all >= LEAST_CALLS && bad >= all * BAD_SHARE)
  }

  /** Every so manieth call, so that the share is kept exactly. */
  function drawn(record: Record, share: number): boolean {
    record.credit += share
    if (record.credit < 1) return false
    record.credit = Math.min(record.credit - 1, 1)
    return true
  }

  /** The part of its traffic that low quota leaves to a class: critical callers keep theirs, batch ones go first. */
  function quotaShare({ quota }: Record, klass: Agent['class']): number {
    if (quota === undefined) return 1
    const nowMs = clock.now()
    if (nowMs < quota.emptyUntilMs) return 0
    const left = quota.share + (nowMs - quota.toldMs) / quota.resetMs
    if (klass === 'critical' || left >= LOW_QUOTA) return 1
    return klass === 'batch' ? 0 : left / LOW_QUOTA
  }

  /** The last probe was clean: whoever has nobody else is not kept from it. */
  function isAnswering({ phase, cleanProbes }: Record): boolean {
    return phase === 'probing' && cleanProbes > 0
  }

  function noteQuota(record: Record, { share, resetMs }: QuotaLeft): void {
    if (share >= QUOTA_AGAIN) {
      record.quota = undefined
      return
    }
    if (share >= LOW_QUOTA && record.quota === undefined) return
    const nowMs = clock.now()
    const wholeMs = Math.min(Math.max(resetMs, 1), LONGEST_RETRY_AFTER_MS)
    // Of an empty one a tenth is to be there again before anybody asks for it.
    const emptyMs = share > 0 ? 0 : Math.max(wholeMs * LOW_QUOTA, Math.min(wholeMs, LEAST_EMPTY_MS))
    record.quota = { share, resetMs: wholeMs, toldMs: nowMs, emptyUntilMs: nowMs + emptyMs }
    record.quotaLowUntilMs = Math.max(nowMs + wholeMs * LOW_QUOTA, nowMs + SETTLED_MS)
    if (record.phase !== 'open') return
    record.reason = `${Math.round(share * 100)} % of its quota left`
    show(record)
  }

  // --- what operators see ----------------------------------------------------------------------------------------

  function stateOf(record: Record): State {
    if (record.phase !== 'open') return record.trouble
    return clock.now() < record.quotaLowUntilMs ? 'low_quota' : 'available'
  }

  /** A word stays for a while, so that nobody is told of every step: only what was well and is no more is said at once. */
  function show(record: Record): void {
    const state = stateOf(record)
    if (state === record.shown) {
      if (state !== 'available' && record.phase !== 'open') record.shownReason = record.reason
      return
    }
    const nowMs = clock.now()
    if (record.shown !== 'available' && nowMs - record.shownAtMs < SETTLED_MS) return
    if (state === 'available' && nowMs - record.openSinceMs < WELL_MS) return
    const change = {
      ...about(record),
      from: record.shown,
      to: state,
      reason: state === 'available' ? record.shownReason : record.reason,
      holdMs: Math.round(holdMsOf(record)),
    }
    record.shown = state
    record.shownReason = state === 'available' ? '' : record.reason
    record.shownAtMs = nowMs
    record.shownSinceMs = clock.wall()
    onChange(change)
  }

  function holdMsOf(record: Record): number {
    const nowMs = clock.now()
    if (record.phase === 'held') return Math.max(0, record.heldUntilMs - nowMs)
    return Math.max(0, (record.quota?.emptyUntilMs ?? 0) - nowMs)
  }

  /** The part of its traffic that a class gets. */
  function shareOf(record: Record, klass: Agent['class']): number {
    if (record.phase === 'held' || record.phase === 'probing') return 0
    const ramp = record.phase === 'recovering' ? rampShare(record, clock.now()) : 1
    return ramp * quotaShare(record, klass)
  }

  function isOpen(record: Record, klass: Agent['class']): boolean {
    advance(record)
    if (record.phase === 'held') return false
    if (record.phase === 'probing') return !record.probing
    return quotaShare(record, klass) > 0
  }

  function isReluctant(record: Record): boolean {
    advance(record)
    if (record.phase === 'open' || record.phase === 'recovering') return true
    return isAnswering(record) || (record.trouble === 'slow' && !record.asked)
  }

  function standingOf(record: Record): Standing {
    advance(record)
    return {
      state: record.shown,
      reason: record.shownReason,
      holdMs: Math.round(holdMsOf(record)),
      phase: record.phase,
      share: shareOf(record, 'normal'),
    }
  }

  // --- how a call begins and ends, for one record -----------------------------------------------------------------

  function enter(record: Record, { class: klass, force }: Asking): Word {
    advance(record)
    switch (record.phase) {
      case 'open':
      case 'recovering': {
        if (force === true) return 'go'
        const share = shareOf(record, klass)
        return share >= 1 || drawn(record, share) ? 'go' : 'held'
      }
      case 'held':
        // A slow one that is all there is gets everything: it answers, in its time.
        if (force !== true || record.asked) return 'held'
        if (record.trouble === 'slow') return 'go'
        break
      case 'probing':
        if (force === true && (isAnswering(record) || (record.probing && record.trouble === 'slow')))
          return 'go'
    }
    const nowMs = clock.now()
    if (record.probing && !(force === true && nowMs - record.probeSinceMs >= FORCED_PROBE_MS)) return 'held'
    record.probing = true
    record.probeSinceMs = nowMs
    return 'probe'
  }

  function succeed(record: Record, entry: Entry): void {
    endProbe(record, entry)
    advance(record)
    record.failures = 0
    record.provenMs = clock.now()
    record.outcomes.add(true)
    // A call that began before the hold proves nothing about the provider as it is now.
    if (partOf(record, entry) !== 'go') clean(record)
  }

  function fail(record: Record, entry: Entry, { reason, retryAfterMs }: Failure): void {
    endProbe(record, entry)
    advance(record)
    record.outcomes.add(false)
    if (retryAfterMs !== undefined && retryAfterMs > 0) {
      const ms = Math.min(retryAfterMs, LONGEST_RETRY_AFTER_MS)
      const isLonger = record.phase !== 'held' || clock.now() + ms > record.heldUntilMs
      const trouble = reason === '429' && ms <= SHORT_RETRY_AFTER_MS ? 'low_quota' : 'unavailable'
      if (isLonger) hold(record, trouble, reason, ms)
      return
    }
    // A call begun before the hold, or forced inside it, tells nothing new: it must not lengthen it.
    if (record.phase === 'held') return
    if (record.phase === 'probing') {
      if (partOf(record, entry) !== 'go') hold(record, isSilence(reason) ? 'slow' : record.trouble, reason)
      return
    }
    record.failures += 1
    if (isSilence(reason)) hold(record, 'slow', reason)
    else if (isBad(record)) hold(record, 'unavailable', reason)
  }

  return {
    isAvailable(callee, klass = 'normal') {
      const own = records.get(deploymentOf(callee))
      if (own !== undefined && !isOpen(own, klass)) return false
      const model = modelOf(callee)
      return model === undefined || isOpen(model, klass)
    },

    isReluctant(callee) {
      const all = known(callee)
      return all.length > 0 && all.every(isReluctant)
    },

    enter(callee, asking = { class: 'normal' }) {
      const own = get(deploymentOf(callee))
      const entry = enter(own, asking)
      const model = modelOf(callee)
      if (entry === 'held' || model === undefined) return entry
      const ofModel = enter(model, asking)
      if (ofModel === 'held') endProbe(own, entry)
      if (ofModel === 'held' || ofModel === entry) return ofModel
      return entry === 'probe' ? 'probe:deployment' : 'probe:model'
    },

    answering(callee, entry) {
      get(deploymentOf(callee)).provenMs = clock.now()
      if (!isProbe(entry)) return entry
      for (const record of known(callee)) endProbe(record, entry)
      if (entry === 'probe:model') return 'trial:model'
      return entry === 'probe:deployment' ? 'trial:deployment' : 'trial'
    },

    succeeded(callee, entry) {
      succeed(get(deploymentOf(callee)), entry)
      const model = modelOf(callee)
      if (model !== undefined) succeed(model, entry)
    },

    failed(callee, entry, failure) {
      const isOfModel = typeof callee !== 'string' && isLimit(failure.reason)
      const record = isOfModel ? limited(callee) : get(deploymentOf(callee))
      fail(record, entry, failure)
      // Of the rest it says nothing, neither good nor bad.
      for (const other of known(callee)) if (other !== record) endProbe(other, entry)
    },

    late(callee, entry, reason) {
      const record = get(deploymentOf(callee))
      endProbe(record, entry)
      advance(record)
      record.failures = 0
      record.outcomes.add(true)
      if (record.phase !== 'held' && (record.phase !== 'probing' || partOf(record, entry) !== 'go'))
        hold(record, 'slow', reason)
      const model = modelOf(callee)
      if (model !== undefined) succeed(model, entry)
    },

    released(callee, entry) {
      for (const record of known(callee)) endProbe(record, entry)
    },

    learn(hint) {
      const { deployment, model } = hint
      const callee = model === undefined ? deployment : { deployment, model }
      // Whoever is back is so for those who know that he was away.
      const record = hint.kind === 'back' ? known(callee).at(-1) : limited(callee)
      if (record === undefined || record.model !== model) return
      advance(record)
      switch (hint.kind) {
        case 'held': {
          const untilMs = clock.now() + hint.ms
          if (record.phase === 'held' && record.heldUntilMs >= untilMs) return
          record.heldUntilMs = untilMs
          return keepHeld(record, hint.trouble, hint.reason, hint.asked)
        }
        case 'suspect':
          // One failure of our own is enough.
          if (record.phase === 'open') record.failures = Math.max(record.failures, OPEN_AFTER - 1)
          return
        case 'back':
          if ((record.phase === 'held' && !record.asked) || record.phase === 'probing') startRamp(record)
          return
        case 'quota':
          return noteQuota(record, hint)
      }
    },

    foundWell(name) {
      const record = records.get(name)
      if (record === undefined) return
      const turned = record.failedChecks > 0
      record.failedChecks = 0
      advance(record)
      // The wait that a provider named is kept, and who is over his rate or slow to answer is not well for being there.
      if (record.phase !== 'held' || !isJudgedByChecks(record)) return
      // A good check is news only where it speaks against what held it back. Else, with a server that is there and fails
      // at every request, each check would undo the longer holds.
      if (!turned && !UNREACHED.has(record.reason)) return
      record.heldUntilMs = clock.now()
      advance(record)
    },

    foundIll(name, reason, ms) {
      const record = get(name)
      advance(record)
      record.failedChecks += 1
      const nowMs = clock.now()
      if (nowMs - record.provenMs < PROVEN_MS) return
      if (record.phase === 'held') {
        if (record.asked || record.reason === '429') return
      } else if (record.phase !== 'probing' && record.failedChecks < ILL_AFTER) return
      record.heldUntilMs = Math.max(record.phase === 'held' ? record.heldUntilMs : 0, nowMs + ms)
      keepHeld(record, 'unavailable', `${reason} (health check)`, false)
    },

    quota(callee, left) {
      const before = typeof callee === 'string' ? records.get(callee) : modelOf(callee)
      if (before?.quota === undefined && left.share >= LOW_QUOTA) return
      const record = limited(callee)
      noteQuota(record, left)
      const nowMs = clock.now()
      if (left.share >= LOW_QUOTA || nowMs - record.quotaTellMs < TELL_QUOTA_MS) return
      record.quotaTellMs = nowMs
      hints.tell({ kind: 'quota', ...about(record), share: left.share, resetMs: left.resetMs })
    },

    holdMs: (callee) => Math.max(0, ...known(callee).map(holdMsOf)),

    look(callee) {
      const own = records.get(deploymentOf(callee))
      const standing = own && standingOf(own)
      const model = modelOf(callee)
      return model === undefined || (standing !== undefined && standing.phase !== 'open')
        ? standing
        : standingOf(model)
    },

    view: () =>
      [...records.values()].map((record) => {
        const troubled = [...(models.get(record.name)?.values() ?? [])].filter(hasNews)
        return {
          deployment: record.name,
          ...standingOf(record),
          sinceMs: record.shownSinceMs,
          ...(troubled.length > 0 && {
            models: troubled.map((one) => ({ model: one.model ?? '', ...standingOf(one) })),
          }),
        }
      }),
  }
}

function deploymentOf(callee: Callee): string {
  return typeof callee === 'string' ? callee : callee.deployment
}

/** Whom a word is about, for others. */
function about({ name, model }: Record): { readonly deployment: string; readonly model?: string } {
  return model === undefined ? { deployment: name } : { deployment: name, model }
}

/** Vendors limit each model by itself; all else that goes wrong is the provider's. */
function isLimit(reason: Reason): boolean {
  return reason === '429'
}

/** Held back by our own judgement of whether it is there at all. */
function isJudgedByChecks({ asked, trouble, reason }: Record): boolean {
  return !asked && trouble === 'unavailable' && reason !== '429'
}

/** No connection came about; a reset may be of a server that is there. */
const UNREACHED: ReadonlySet<string> = new Set(['refused', 'dns', 'tls', 'connect'] satisfies Reason[])

/** It could not be reached from here: that may be the doing of the way there, which the others do not share. */
export function isOfTheWay(reason: Reason | undefined): boolean {
  return reason !== undefined && OF_THE_WAY.has(reason)
}

const OF_THE_WAY: ReadonlySet<Reason> = new Set(['refused', 'dns', 'tls', 'reset', 'connect'])

/** It may be well, but nobody waits for it. */
function isSilence(reason: Reason): boolean {
  return reason === 'first_token' || reason === 'first_byte'
}
