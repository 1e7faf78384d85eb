// Turns the public model name into an ordered plan of deployments, from what is known of their health. Pure: health
// and randomness are handed in, nothing is called.

import { unitHash } from '../bytes/unit-hash.ts'
import { compareSpecificity, matchesGlob } from '../config/glob.ts'
import { hasLimits, IMAGE_TOKENS, limitsMoney } from '../config/limits.ts'
import { FREE, priceOf, toBound } from '../config/money.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { GatewayError } from '../errors.ts'
import { formatFor, formats, speakerOf } from '../formats/index.ts'
import { withholdUsage } from '../formats/stage.ts'
import type {
  Agent,
  Arrival,
  Callee,
  Candidate,
  Decision,
  Deployment,
  ModelRequest,
  Plan,
  PriceBound,
  Reason,
  Route,
  Subject,
  Tier,
} from '../types.ts'

/** The usage that is asked for on our own account is kept from a caller who did not ask. */
const WITHHOLD_USAGE = [withholdUsage]
const NO_STAGES = [] as const

function toStages(request: ModelRequest): Plan['stages'] {
  const withheld = request.includeUsage ? NO_STAGES : WITHHOLD_USAGE
  const mending = formats.get(request.endpoint.format)?.client?.mending
  return mending?.concerns(request) === true ? [mending.stage, ...withheld] : withheld
}

/** What the router knows of a deployment's health. */
export interface HealthView {
  /** False while the deployment is held back. */
  isAvailable(callee: Callee, klass?: Agent['class']): boolean
}

/** What the router knows of how busy a deployment is. */
export interface PaceView {
  /** Comparable between deployments; the less, the sooner it answers. */
  load(deployment: string): number
}

export interface Router {
  /** The route of a request. @throws GatewayError model_not_found (404), invalid_request (400) */
  find(request: ModelRequest): Route
  /** Whether any route takes this model name. */
  has(model: string): boolean
  /** Limited subjects of the route and the gateway: shared by all who use them. */
  subjects(route: Route): readonly Subject[]
  /** Those of all routes, the same objects, each once. */
  readonly shared: readonly Subject[]
  /** The most a token of the request can cost wherever it may go; undefined where nobody's money is limited. */
  priceBound(route: Route, request: ModelRequest, decision: Decision): PriceBound | undefined
  /** Monotonic ms at which the request must be over: the nearest of all deadlines that apply to it. */
  deadlineAt(route: Route, decision: Decision, arrival: Arrival): number
  /** Where the request may go, best first. */
  plan(route: Route, request: ModelRequest, decision: Decision, deadlineAt: number): Plan
  /** Names a caller could ask for: routes that are no globs. */
  readonly names: readonly string[]
}

interface Deps {
  readonly snapshot: Snapshot
  readonly health: HealthView
  readonly pace: PaceView
  /** A number in [0, 1). */
  readonly random: () => number
}

export function createRouter({ snapshot, health, pace, random }: Deps): Router {
  const globs = [...snapshot.routes.values()]
    .filter((route) => route.name.includes('*'))
    .sort((a, b) => compareSpecificity(a.name, b.name))
  // One subject of the gateway for all routes: what is known of a limit is kept by the object.
  const whole: Subject = { kind: 'gateway', id: 'gateway', tag: 'g:gateway', limits: snapshot.limits }
  const subjects = new Map<string, readonly Subject[]>()
  for (const route of snapshot.routes.values()) subjects.set(route.name, toSubjects(route))
  const usual = new Map<Tier, Map<Deployment, Usual>>()

  function match(model: string): Route | undefined {
    return snapshot.routes.get(model) ?? globs.find((candidate) => matchesGlob(candidate.name, model))
  }

  return {
    has: (model) => match(model) !== undefined,
    names: [...snapshot.routes.keys()].filter((name) => !name.includes('*')),

    find(request) {
      const { model } = request
      const route = match(model)
      if (route === undefined) {
        throw new GatewayError('model_not_found', `The model "${model}" does not exist here.`, {
          param: 'model',
        })
      }
      const reachable =
        isEstimated(request) ||
        route.tiers.some((tier) => tier.deployments.some((deployment) => accepts(deployment, request)))
      if (!reachable) {
        const [field = 'model'] = request.restrictedFields
        throw new GatewayError('invalid_request', `No provider of this model accepts the field "${field}".`, {
          param: field,
        })
      }
      return route
    },

    subjects: (route) => subjects.get(route.name) ?? [],
    shared: [...new Set([...subjects.values()].flat())],

    priceBound(route, request, decision) {
      if (!isPricedOnly(route, decision)) return undefined
      const deployments = route.tiers.flatMap((tier) => tier.deployments)
      return toBound(deployments.flatMap((deployment) => priceOf(deployment, request.model) ?? []))
    },

    deadlineAt(route, decision, arrival) {
      const longestMs = Math.min(
        snapshot.failover.deadlineMs,
        route.deadlineMs ?? Number.POSITIVE_INFINITY,
        decision.obligations.deadlineMs ?? Number.POSITIVE_INFINITY,
        arrival.timeoutMs ?? Number.POSITIVE_INFINITY,
      )
      return arrival.startedMs + longestMs
    },

    plan(route, request, decision, deadlineAt) {
      const pricedOnly = isPricedOnly(route, decision)
      const tiers: Place[] = []
      let callable = 0
      for (const tier of route.tiers) {
        const deployments = acceptedOf(tier, request)
        if (deployments.length === 0) continue
        const place = toPlace(tier, order(tier, deployments, request, decision), request, pricedOnly)
        if (place.candidates.some(isCallable)) callable += 1
        tiers.push(place)
      }
      // What nobody else could be asked for is answered from here, when those who can count have not.
      if (isEstimated(request)) tiers.push({ tier: ESTIMATE, candidates: [toOwn(ESTIMATE)] })
      return {
        route,
        tiers,
        attempts: Math.max(snapshot.failover.attempts, callable),
        class: decision.obligations.class,
        deadlineAt,
        resumes: route.midStream === 'resume' && request.stream && request.plainText,
        maxOutputTokens: toOutputCap(request, decision),
        stages: request.stream ? toStages(request) : NO_STAGES,
      }
    },
  }

  /** One tier of a plan, from its deployments in order. */
  function toPlace(
    tier: Tier,
    deployments: readonly Deployment[],
    request: ModelRequest,
    pricedOnly: boolean,
  ): Place {
    const [only] = deployments
    if (only !== undefined && deployments.length === 1) {
      const usual = usualOf(tier, only)
      const candidate = toCandidate(usual, request, pricedOnly)
      return candidate === usual.candidate ? usual.place : { tier, candidates: [candidate] }
    }
    const candidates = deployments.map((one) => toCandidate(usualOf(tier, one), request, pricedOnly))
    return { tier, candidates }
  }

  function usualOf(tier: Tier, deployment: Deployment): Usual {
    let known = usual.get(tier)
    if (known === undefined) {
      known = new Map()
      usual.set(tier, known)
    }
    let found = known.get(deployment)
    if (found === undefined) {
      found = toUsual(tier, deployment)
      known.set(deployment, found)
    }
    return found
  }

  function isPricedOnly(route: Route, decision: Decision): boolean {
    return decision.obligations.pricedOnly || limitsMoney(route.limits, snapshot.limits)
  }

  function toSubjects(route: Route): readonly Subject[] {
    const shared: Subject[] = [
      whole,
      { kind: 'route', id: route.name, tag: `g:route:${route.name}`, limits: route.limits },
    ]
    return shared.filter(({ limits }) => hasLimits(limits))
  }

  /**
   * By weighted chance; for a caller who names a cache key always the same chance, so that a conversation stays where
   * its prompt is cached. With `balance: latency` the quicker of the first two goes before the other. What is held back
   * comes last.
   */
  function order(
    { balance }: Tier,
    deployments: readonly Deployment[],
    request: ModelRequest,
    { obligations }: Decision,
  ): readonly Deployment[] {
    if (deployments.length === 1) return deployments
    const { cacheKey } = request
    const ordered = deployments
      .map((deployment) => ({
        deployment,
        available: health.isAvailable(toCallee(deployment, request), obligations.class),
        // Efraimidis–Spirakis: sorting by u^(1/weight) draws without replacement in proportion to the weights. With a
        // hash for u it is weighted rendezvous hashing: who loses one deployment does not move the others.
        key:
          (cacheKey === undefined ? random() : unitHash(cacheKey, deployment.name)) **
          (1 / deployment.weight),
      }))
      .sort((a, b) => Number(b.available) - Number(a.available) || b.key - a.key)
    if (balance === 'latency' && cacheKey === undefined) {
      const [one, two] = ordered
      const isSlower = (a: Deployment, b: Deployment): boolean => pace.load(a.name) > pace.load(b.name)
      if (one !== undefined && two?.available === true && isSlower(one.deployment, two.deployment)) {
        ordered[0] = two
        ordered[1] = one
      }
    }
    return ordered.map(({ deployment }) => deployment)
  }
}

type Place = Plan['tiers'][number]

/** A place as most requests find it, made once: nothing speaks against it, and its health is that of its name. */
interface Usual {
  readonly candidate: Candidate
  /** Where it is the only one of its tier. */
  readonly place: Place
}

function toUsual(tier: Tier, deployment: Deployment): Usual {
  const candidate = { tier, deployment, callee: deployment.name, barred: undefined, doubt: undefined }
  return { candidate, place: { tier, candidates: [candidate] } }
}

function toCandidate({ candidate }: Usual, request: ModelRequest, pricedOnly: boolean): Candidate {
  const { tier, deployment } = candidate
  const callee = toCallee(deployment, request)
  const barred = bar(deployment, request, pricedOnly)
  const doubt = isProbablyTooLong(deployment, request) ? 'context' : undefined
  if (callee === candidate.callee && barred === undefined && doubt === undefined) return candidate
  return { tier, deployment, callee, barred, doubt }
}

/** Those of a tier that may be asked. */
function acceptedOf({ deployments }: Tier, request: ModelRequest): readonly Deployment[] {
  if (request.restrictedFields.length === 0 && !isEstimated(request)) return deployments
  // A fixed reply goes to no provider, so nothing is kept from it; but it is no estimate.
  return deployments.filter(
    (deployment) => (deployment.kind === 'reply' && !isEstimated(request)) || accepts(deployment, request),
  )
}

function toCallee({ name, provider, model }: Deployment, request: ModelRequest): Callee {
  return model === undefined && provider !== undefined ? { deployment: name, model: request.model } : name
}

/** Whether only those providers are asked that speak the very format, and all others are stood in for. */
function isEstimated({ endpoint }: ModelRequest): boolean {
  return formats.get(endpoint.format)?.client?.estimate !== undefined
}

const ESTIMATOR: Deployment = {
  name: 'estimate',
  kind: 'reply',
  provider: undefined,
  model: undefined,
  weight: 1,
  contextWindow: undefined,
  price: FREE,
  listPrices: [],
  limits: { strict: false },
  prefill: false,
  text: undefined,
}

/** Of this process: it neither waits nor fails. */
const ESTIMATE: Tier = {
  name: 'estimate',
  deployments: [ESTIMATOR],
  balance: 'weighted',
  firstTokenMs: 1000,
  firstTokenLeastMs: undefined,
  firstByteMs: 1000,
  idleMs: 1000,
  attemptMs: 1000,
  connectMs: 1000,
  hedge: undefined,
  retries: 0,
  patienceMs: 0,
  needsReview: false,
}

function toOwn(tier: Tier): Candidate {
  return { tier, deployment: ESTIMATOR, callee: ESTIMATOR.name, barred: undefined, doubt: undefined }
}

/** A restricted field keeps a request from every provider that does not list it. */
function accepts(deployment: Deployment, request: ModelRequest): boolean {
  if (isEstimated(request) && !speaks(deployment, request)) return false
  if (request.restrictedFields.length === 0) return true
  const allowed = deployment.provider?.allowFields
  return allowed !== undefined && request.restrictedFields.every((field) => allowed.has(field))
}

/** Takes the bytes of the request in a format besides its first. */
function speaks({ provider, model }: Deployment, { endpoint, model: named }: ModelRequest): boolean {
  if (provider === undefined) return false
  if (provider.alsoSpeaks.has(endpoint.format)) return true
  const format = formatFor(formats, provider.format, model ?? named)
  return format !== undefined && speakerOf(format, endpoint.format) !== undefined
}

/**
 * A prompt that is longer than a window by the usual four bytes to a token probably does not fit. That is no more than
 * a guess, so who has nobody else is asked all the same, and the provider decides.
 */
function isProbablyTooLong({ contextWindow }: Deployment, { textBytes, images }: ModelRequest): boolean {
  return (
    contextWindow !== undefined && textBytes / USUAL_BYTES_PER_TOKEN + images * IMAGE_TOKENS > contextWindow
  )
}

const USUAL_BYTES_PER_TOKEN = 4

/** Money cannot be counted without a price, whether the budget is the caller's or the account's own. */
function bar(deployment: Deployment, request: ModelRequest, pricedOnly: boolean): Reason | undefined {
  const counts = pricedOnly || limitsMoney(deployment.limits, deployment.provider?.limits)
  return counts && priceOf(deployment, request.model) === undefined ? 'skipped:unpriced' : undefined
}

function isCallable({ deployment, barred }: Candidate): boolean {
  return deployment.kind !== 'reply' && barred === undefined
}

/** The cap to write into the request: the agent's, unless the caller asked for less already. */
function toOutputCap(request: ModelRequest, decision: Decision): number | undefined {
  const cap = decision.obligations.maxOutputTokens
  if (cap === undefined || request.endpoint.operation !== 'chat' || request.endpoint.countsOnly)
    return undefined
  return request.maxOutputTokens !== undefined && request.maxOutputTokens <= cap ? undefined : cap
}
