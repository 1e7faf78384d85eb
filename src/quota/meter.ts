// The room's face: reserves from the buckets before the call and settles the truth after it, for the caller and for
// each attempt. It decides how much a request may cost; whether that fits is the store's.

import { IMAGE_TOKENS } from '../config/limits.ts'
import { boundMicros, priceOf, toBound } from '../config/money.ts'
import { GatewayError, toEndError } from '../errors.ts'
import type {
  Caller,
  Clock,
  Decision,
  Deployment,
  EndSignal,
  Gate,
  Hold,
  ModelRequest,
  Patience,
  PriceBound,
  Provider,
  Rate,
  Reckoned,
  Refusal,
  Subject,
  Usage,
} from '../types.ts'
import { createAccounts, isOwn, toShare } from './account.ts'
import { remaining } from './bucket.ts'
import { createCalibration, INITIAL_BYTES_PER_TOKEN } from './calibration.ts'
import { createPacing, type Turn } from './pacing.ts'
import { type SubjectLimits, toForeseen, toShown } from './shown.ts'
import type { Account, Ask, Claim, Grant, Granted, Levels, Refused, Store, Timers } from './store.ts'
import { budgetRefusalText, durationText, refusalText, reservedText } from './words.ts'

export interface HeaderLine {
  /** Lower case. */
  readonly name: string
  readonly value: string
}

export interface Meter {
  /**
   * Takes what the request may cost from the caller's limits and from `shared` (route, gateway), all or nothing.
   * The subjects should be the same objects from request to request: what is known of them is kept by object.
   * Where a limit says `wait`, a refusal is waited out in the agent's line, if that can be done in time.
   * Where nobody has to be asked, nothing is waited for; a refusal is a rejection all the same.
   * @throws GatewayError rate_limit_exceeded, concurrency_exceeded (429), limits_unavailable (503); all with
   *   retryAfterMs of 1 to 60000
   */
  reserve(
    caller: Caller,
    request: ModelRequest,
    decision: Decision,
    shared?: readonly Subject[],
    terms?: Terms,
  ): Hold | Promise<Hold>
  /**
   * Gives the slots back and settles the tokens on `usage`. Undefined usage says that no answer began: all tokens
   * come back (the request stays counted). An answer that broke needs its counted usage. `costMicros` is what it came
   * to; undefined beside a usage says that it has no price. Idempotent; never throws.
   */
  settle(hold: Hold, usage: Usage | undefined, costMicros?: number): void
  /** A provider's and a deployment's own limits, attempt by attempt. */
  readonly gate: Gate
  /** `x-ratelimit-*` of the caller's bucket with the least share left, per limited kind; of a hold or of a refusal. */
  headers(of: Hold | GatewayError): readonly HeaderLine[]
  /** How the limits of some subjects stand, without taking anything; those without limits are left out. */
  look(subjects: readonly Subject[]): Promise<readonly SubjectLimits[]>
  /** What the gate would say of those deployments now that it would not let pass; takes nothing. */
  foresee(
    deployments: readonly Deployment[],
    request: ModelRequest,
    by: { readonly caller: Caller; readonly decision: Decision },
  ): Promise<ReadonlyMap<Deployment, Refusal>>
  /** What of a deployment has limits: itself and its provider; the same objects as the gate's. */
  subjects(deployment: Deployment): readonly Subject[]
  /** Reservations not settled yet, those of the gate included. */
  openHolds(): number
  /** Requests that wait for their turn. */
  waiting(): number
}

/** What a reservation must know besides what it costs. */
export interface Terms extends Patience {
  /** The most a token of the request can cost; undefined where nobody's money is limited. */
  readonly priceBound?: PriceBound | undefined
}

export interface MeterOptions {
  readonly store: Store
  readonly clock: Clock
  readonly timers: Timers
  /** Names of holds, unique over the fleet. */
  readonly ids: () => string
}

/** What a reservation is for. */
interface Owner {
  readonly request: ModelRequest
  readonly agent: string | undefined
  readonly teaches: boolean
}

/** An object and no entry of a map: what ends with it is found without a look-up, and let go with it. */
class Reservation implements Hold {
  readonly claim: Claim
  /** Whose line looks again when it ends; undefined for a request that nobody reserved for. */
  readonly agent: string | undefined
  /** Of a request the agent's own reservation is learned from, and not those of its attempts as well. */
  readonly teaches: boolean
  readonly textBytes: number
  readonly images: number
  readonly grant: Granted
  isOpen = true

  constructor(claim: Claim, grant: Granted, { request, agent, teaches }: Owner) {
    this.claim = claim
    this.grant = grant
    this.agent = agent
    this.teaches = teaches
    this.textBytes = request.textBytes
    this.images = request.images
  }

  get id(): string {
    return this.claim.id
  }
}

/** Assumed output when neither the request nor the agent names a cap (design §4). */
const DEFAULT_OUTPUT_TOKENS = 8192
/**
 * No model answers at this length. Clients do send 2147483647; reserved as it stands it would shut the agent out
 * for as long as its own request runs, and for days if the gateway died meanwhile.
 */
const MOST_OUTPUT_TOKENS = 1_000_000
const MOST_CHOICES = 128
const LONGEST_WAIT_MS = 60_000
const DAY_MS = 86_400_000
const UNAVAILABLE_WAIT_MS = 1_000
/** Nobody knows when a request under way ends. */
const RESERVED_WAIT_MS = 1_000

const NOBODY: readonly Subject[] = []
const NO_TERMS: Terms = {}

/** The hold of all who have no limits: nothing to settle. */
const NO_HOLD: Hold = Object.freeze({ id: 'unlimited' })

/** Makes the meter over a store; keeps nothing but the open reservations. */
export function createMeter({ store, clock, timers, ids }: MeterOptions): Meter {
  const accounts = createAccounts()
  let open = 0
  const reserved = new Map<string, number>()
  const refusals = new WeakMap<GatewayError, { readonly claim: Claim; readonly levels: readonly Levels[] }>()
  const calibration = createCalibration()
  const pacing = createPacing({ clock, timers })
  const gated = new WeakMap<Deployment, readonly Account[]>()
  const lists = new WeakMap<readonly Subject[], readonly Account[]>()
  const providers = new WeakMap<Provider, Subject>()

  function toAsks(subjects: readonly Account[], request: ModelRequest, most: Most): Ask[] {
    const { outputTokens, bytesPerToken, bound } = most
    const asks: Ask[] = []
    for (const account of subjects) {
      const input = inputTokens(request, account.strict ? 1 : bytesPerToken)
      const hasMoney = account.budget !== undefined && bound !== undefined
      asks.push({
        account,
        requests: 1,
        tokens: input + outputTokens,
        micros: hasMoney ? boundMicros(bound, { inputTokens: input, outputTokens }) : 0,
      })
    }
    return asks
  }

  function keep(claim: Claim, grant: Granted, whose: Owner): Hold {
    reserveMoney(claim, 1)
    open += 1
    return new Reservation(claim, grant, whose)
  }

  /** Money that requests under way here have reserved, by the key of its account; no key where there is none. */
  function reserveMoney({ asks }: Claim, sign: 1 | -1): void {
    for (const { account, micros } of asks) {
      if (account.budget === undefined || micros === 0) continue
      const sum = (reserved.get(account.key) ?? 0) + sign * micros
      if (sum > 0) reserved.set(account.key, sum)
      else reserved.delete(account.key)
    }
  }

  function settle(hold: Hold, usage: Usage | undefined, costMicros?: number): void {
    if (!(hold instanceof Reservation) || !hold.isOpen) return
    hold.isOpen = false
    open -= 1
    const usedTokens = usage === undefined ? 0 : toUnits(usage.inputTokens) + toUnits(usage.outputTokens)
    const { claim, grant, agent, teaches, textBytes, images } = hold
    reserveMoney(claim, -1)
    // What has no price cannot be settled: the reservation stays.
    const usedMicros = usage === undefined ? (costMicros ?? 0) : costMicros
    store.settle([{ claim, grant, usedTokens, usedMicros }])
    if (agent === undefined) return
    if (pacing.waiting > 0) pacing.nudge(agent, slotsOf(claim))
    if (teaches && usage?.source === 'provider' && images === 0)
      calibration.learn(agent, { textBytes, inputTokens: toUnits(usage.inputTokens) })
  }

  /** Takes a claim in the line of its agent, where a refusal is worth a wait. */
  function takeInLine(
    claim: Claim,
    { agent, lineMs, signal, deadlineAt = Infinity }: Patience & Pick<Turn, 'agent' | 'lineMs'>,
  ): Promise<Grant> {
    return pacing.pace({
      agent,
      claim,
      attempt: () => store.take(claim),
      mayWaitMs: (refused) =>
        refused.kind === 'unavailable' ? 0 : (refused.ask.account.subject.limits.waitMs ?? 0),
      lineMs,
      deadlineAt,
      signal,
    })
  }

  /** The limited ones of a deployment and its provider, under one tag, so that one script may decide both. */
  function accountsOf(deployment: Deployment): readonly Account[] {
    let known = gated.get(deployment)
    if (known === undefined) {
      const { provider } = deployment
      const tag = `provider:${provider?.name ?? deployment.name}`
      const subjects: Subject[] = [
        { kind: 'deployment', id: deployment.name, tag, limits: deployment.limits },
      ]
      if (provider !== undefined) subjects.push(subjectOf(provider, tag))
      known = limited(subjects)
      gated.set(deployment, known)
    }
    return known
  }

  /** One for all deployments of a provider. */
  function subjectOf(provider: Provider, tag: string): Subject {
    let known = providers.get(provider)
    if (known === undefined) {
      known = { kind: 'provider', id: provider.name, tag, limits: provider.limits }
      providers.set(provider, known)
    }
    return known
  }

  /** Periods end at midnight UTC, whatever this machine's clock thinks of the hour. */
  function endOfPeriodMs(waitUs: number): number {
    return Math.round((clock.wall() + waitUs / 1000) / DAY_MS) * DAY_MS
  }

  /** The accounts of a list of subjects, found once for as long as somebody holds that list. */
  function limited(subjects: readonly Subject[]): readonly Account[] {
    const known = lists.get(subjects)
    if (known !== undefined) return known
    const found: Account[] = []
    for (const subject of subjects) {
      const account = accounts.of(subject)
      if (account !== undefined) found.push(account)
    }
    lists.set(subjects, found)
    return found
  }

  /** The caller's, and those that are shared. */
  function limitedBoth(own: readonly Subject[], shared: readonly Subject[]): readonly Account[] {
    const mine = limited(own)
    const others = limited(shared)
    if (others.length === 0) return mine
    return mine.length === 0 ? others : [...mine, ...others]
  }

  /** What a deployment's own limits would be asked for. */
  function gateAsks(deployment: Deployment, request: ModelRequest, known: Reckoned | undefined): Ask[] {
    const price = priceOf(deployment, request.model)
    return toAsks(accountsOf(deployment), request, {
      outputTokens: known?.outputTokens ?? outputTokens(request, undefined),
      bytesPerToken: known?.bytesPerToken ?? INITIAL_BYTES_PER_TOKEN,
      bound: price && toBound([price]),
    })
  }

  function reckon(request: ModelRequest, agent: string, { obligations }: Decision): Reckoned {
    return {
      agent,
      outputTokens: outputTokens(request, obligations.maxOutputTokens),
      bytesPerToken: calibration.bytesPerToken(agent),
    }
  }

  /** A request for which somebody was asked, or that was refused. */
  async function admit(
    claim: Claim,
    decided: Grant | Promise<Grant>,
    whose: Owner & { readonly agent: string },
    signal: EndSignal | undefined,
  ): Promise<Hold> {
    const { agent } = whose
    const grant = await decided
    if (grant.ok) return keep(claim, grant, whose)
    if (signal?.aborted === true) throw toEndError(signal)
    if (grant.kind === 'unavailable')
      throw new GatewayError('limits_unavailable', 'The gateway cannot count requests at the moment.', {
        retryAfterMs: UNAVAILABLE_WAIT_MS,
      })
    const { subject, key } = grant.ask.account
    // What requests under way have reserved is not spent: most of it comes back when they end.
    const isReserved = grant.kind === 'budget' && reserved.has(key)
    const text =
      grant.kind !== 'budget'
        ? refusalText(grant, agent)
        : isReserved
          ? reservedText(subject, agent)
          : budgetRefusalText(subject, agent, endOfPeriodMs(grant.waitUs))
    const waitMs = isReserved ? RESERVED_WAIT_MS : Math.ceil(grant.waitUs / 1000)
    const error = new GatewayError(isReserved ? 'rate_limit_exceeded' : toCode(grant), text, {
      limit: `${subject.kind}:${grant.kind}`,
      // Spent money does not come back by waiting a little: there is nothing to retry.
      ...((grant.kind !== 'budget' || isReserved) && {
        retryAfterMs: Math.min(Math.max(waitMs, 1), LONGEST_WAIT_MS),
      }),
    })
    refusals.set(error, { claim, levels: grant.levels })
    throw error
  }

  const gate: Gate = {
    limits: (deployment) => accountsOf(deployment).length > 0,
    enter(deployment, request, patience) {
      const subjects = accountsOf(deployment)
      if (subjects.length === 0) return undefined
      const known = request.reckoned
      const asks = gateAsks(deployment, request, known)
      const claim: Claim = { id: ids(), asks }
      const agent = known?.agent
      const lineMs = patience === undefined || agent === undefined ? 0 : longestWaitMs(subjects)
      const decided =
        agent === undefined || lineMs === 0
          ? store.take(claim)
          : takeInLine(claim, { agent, lineMs, ...patience })

      function told(grant: Grant): Hold | Refusal | undefined {
        if (grant.ok) return keep(claim, grant, { request, agent, teaches: false })
        if (grant.kind !== 'unavailable')
          return { kind: grant.kind, subject: grant.ask.account.subject, waitMs: grant.waitUs / 1000 }
        // Nobody can count for this deployment: go around it, to one that has no limit if there is one.
        const subject = subjects[0]?.subject
        return subject && { kind: 'unavailable', subject, waitMs: UNAVAILABLE_WAIT_MS }
      }

      return decided instanceof Promise ? decided.then(told) : told(decided)
    },
    leave: settle,
  }

  return {
    reserve(caller, request, decision, shared = NOBODY, terms = NO_TERMS) {
      const agent = caller.agent.name
      const known = reckon(request, agent, decision)
      request.reckoned = known
      const subjects = limitedBoth(caller.subjects, shared)
      if (subjects.length === 0) return NO_HOLD
      const { outputTokens, bytesPerToken } = known
      const most = { outputTokens, bytesPerToken, bound: terms.priceBound }
      const claim: Claim = { id: ids(), asks: toAsks(subjects, request, most) }
      const lineMs = longestWaitMs(subjects)
      const grant = lineMs === 0 ? store.take(claim) : takeInLine(claim, { agent, lineMs, ...terms })
      const whose = { request, agent, teaches: true }
      if (!(grant instanceof Promise) && grant.ok) return keep(claim, grant, whose)
      return admit(claim, grant, whose, terms.signal)
    },

    settle,
    gate,

    headers(of) {
      if (of instanceof GatewayError) {
        const refused = refusals.get(of)
        return refused === undefined ? [] : toHeaders(refused.claim.asks, refused.levels)
      }
      return of instanceof Reservation ? toHeaders(of.claim.asks, of.grant.levels) : []
    },

    async look(subjects) {
      return (await store.look(limited(subjects))).map((inHand) => toShown(inHand, clock.wall()))
    },

    async foresee(deployments, request, { caller, decision }) {
      const known = reckon(request, caller.agent.name, decision)
      const accounts = [...new Set(deployments.flatMap(accountsOf))]
      const stand = new Map((await store.look(accounts)).map((inHand) => [inHand.account, inHand]))
      const full = new Map<Deployment, Refusal>()
      for (const deployment of deployments) {
        for (const ask of gateAsks(deployment, request, known)) {
          const inHand = stand.get(ask.account)
          const refusal = inHand && toForeseen(inHand, ask)
          const before = full.get(deployment)
          if (refusal !== undefined && (before === undefined || refusal.waitMs > before.waitMs))
            full.set(deployment, refusal)
        }
      }
      return full
    },

    subjects: (deployment) => accountsOf(deployment).map(({ subject }) => subject),
    openHolds: () => open,
    waiting: () => pacing.waiting,
  }
}

const NO_KEYS: readonly string[] = []

/** Accounts of which a claim had a slot. */
function slotsOf({ asks }: Claim): readonly string[] {
  if (asks.every(({ account }) => account.concurrency === undefined)) return NO_KEYS
  return asks.flatMap(({ account }) => (account.concurrency === undefined ? [] : [account.key]))
}

/** What a request can cost at most, as far as it is known before it is sent. */
interface Most {
  readonly outputTokens: number
  /** Of text, where the limit is soft. */
  readonly bytesPerToken: number
  readonly bound: PriceBound | undefined
}

/** How long a request may queue at most, whichever limit it is for. */
function longestWaitMs(subjects: readonly Account[]): number {
  let longest = 0
  for (const { subject } of subjects) longest = Math.max(longest, subject.limits.waitMs ?? 0)
  return longest
}

/** The caller's own limits have their codes; a full route or gateway is a rate to the caller, for now. */
function toCode({
  kind,
  ask,
}: Refused): 'rate_limit_exceeded' | 'concurrency_exceeded' | 'insufficient_quota' {
  if (kind === 'budget') return 'insufficient_quota'
  return kind === 'concurrency' && isOwn(ask.account.subject) ? 'concurrency_exceeded' : 'rate_limit_exceeded'
}

/** Most output tokens the request can cost, over all its choices. */
function outputTokens({ endpoint, maxOutputTokens, choices }: ModelRequest, cap: number | undefined): number {
  if (endpoint.operation !== 'chat' || endpoint.countsOnly) return 0
  const asked = Math.min(maxOutputTokens ?? Infinity, cap ?? Infinity)
  const each = asked === Infinity ? DEFAULT_OUTPUT_TOKENS : Math.min(toUnits(asked), MOST_OUTPUT_TOKENS)
  return each * Math.min(Math.max(toUnits(choices), 1), MOST_CHOICES)
}

/** Bytes bound the tokens of text from above, whatever the tokenizer: one to a token is the upper bound. */
function inputTokens({ textBytes, images }: ModelRequest, bytesPerToken: number): number {
  return Math.ceil(textBytes / bytesPerToken) + images * IMAGE_TOKENS
}

/** A count from outside as whole units; what is none counts as 0. */
function toUnits(count: number): number {
  return Number.isFinite(count) && count > 0 ? Math.ceil(count) : 0
}

function toHeaders(asks: readonly Ask[], levels: readonly Levels[]): HeaderLine[] {
  const lines: HeaderLine[] = []
  addHeaders(lines, 'requests', asks, levels)
  addHeaders(lines, 'tokens', asks, levels)
  return lines
}

/** Of the caller's own buckets of one kind, the one with the least share left; in an outage, of this replica's part. */
function addHeaders(
  lines: HeaderLine[],
  kind: 'requests' | 'tokens',
  asks: readonly Ask[],
  levels: readonly Levels[],
): void {
  let least: Rate | undefined
  let leastLeft = 0
  let leastUs = 0
  for (let i = 0; i < asks.length; i += 1) {
    const { account } = asks[i] as Ask
    const rate = account[kind]
    const level = levels[i]
    const levelUs = level?.[kind]
    if (level === undefined || rate === undefined || levelUs === undefined || !isOwn(account.subject))
      continue
    const { sharedBy } = level
    const left = remaining(levelUs, sharedBy > 1 ? (toShare(account, sharedBy)[kind] ?? rate) : rate)
    if (least !== undefined && left / rate.capacity >= leastLeft / least.capacity) continue
    least = rate
    leastLeft = left
    leastUs = levelUs
  }
  if (least === undefined) return
  const { limit, remaining: rest, reset } = HEADERS[kind]
  lines.push(
    { name: limit, value: String(least.capacity) },
    { name: rest, value: String(leastLeft) },
    { name: reset, value: durationText(leastUs) },
  )
}

const HEADERS = {
  requests: {
    limit: 'x-ratelimit-limit-requests',
    remaining: 'x-ratelimit-remaining-requests',
    reset: 'x-ratelimit-reset-requests',
  },
  tokens: {
    limit: 'x-ratelimit-limit-tokens',
    remaining: 'x-ratelimit-remaining-tokens',
    reset: 'x-ratelimit-reset-tokens',
  },
} as const
