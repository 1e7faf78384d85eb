// Turns what was typed into what it means: maps instead of lists, defaults filled in, names resolved to the things
// they name. Takes only what the schema and the relations have passed, so nothing here can be a user's mistake.

import type {
  Agent,
  Bearer,
  Deployment,
  Limits,
  Price,
  PriceList,
  Provider,
  Route,
  SecretReference,
  Tier,
  TokenPrice,
} from '../types.ts'
import { compareSpecificity, matchesGlob } from './glob.ts'
import { FREE, priceOf } from './money.ts'
import { formatPath } from './problems.ts'
import { databaseWarning, textsOf } from './redis-servers.ts'
import { REPLY_PROVIDER } from './relations.ts'
import type {
  AgentFile,
  Config,
  DeploymentFile,
  LimitsFile,
  PriceFile,
  ProviderFile,
  RedisFile,
  TierFile,
} from './schema.ts'
import { splitDeployment } from './schema.ts'
import type { RedisPlace, RedisSettings, Snapshot } from './snapshot.ts'
import { baseUrlOf, type Vendors } from './vendors.ts'

export interface CompileInput {
  /** Path of the file, or `environment`. */
  readonly source: string
  /** Folder of the agents' files, or undefined when there is none. */
  readonly policiesPath: string | undefined
  readonly config: Config
  readonly agents: readonly AgentFile[]
  readonly vendors: Vendors
  /** Warnings of those who came before. */
  readonly warnings: readonly string[]
}

const LOOPBACK = /^(127\.|::1$|localhost$)/

/** A deep-frozen Snapshot. Throws a TypeError only when the input was not validated. */
export function compile({ source, policiesPath, config, agents, vendors, warnings }: CompileInput): Snapshot {
  const providers = mapValues(config.providers, (name, written) => toProvider(name, written, vendors))
  const settings = sharedSettings(config.tiers)
  const listed = mapValues(config.providers, (_, written) => listPrices(written, vendors))
  const tiers = mapValues(config.tiers, (name, written) =>
    toTier(name, written, { providers, settings, listed }),
  )
  const routes = mapValues(config.routes, (name, written): Route => {
    const route = Array.isArray(written)
      ? { tiers: written, limits: NO_LIMITS, deadline: undefined, midStream: undefined }
      : written
    return {
      name,
      tiers: route.tiers.map((tier) => known(tiers, tier)),
      limits: toLimits(route.limits),
      deadlineMs: route.deadline,
      midStream: route.midStream ?? config.failover.midStream,
    }
  })
  const deployments = new Map(
    [...tiers.values()].toReversed().flatMap((tier) => tier.deployments.map((one) => [one.name, one])),
  )

  return deepFreeze({
    source,
    policiesPath,
    listen: {
      host: config.listen.host,
      port: config.listen.port,
      workers: config.listen.workers,
      trustedProxies: config.listen.trustedProxies,
      maxBodyBytes: config.listen.maxBody,
      bodyBudgetBytes: config.listen.bodyBudget,
      maxConnections: config.listen.maxConnections,
      drainMs: config.listen.drain,
      drainNoticeMs: config.listen.drainNotice,
    },
    admin: { host: config.admin.host, port: config.admin.port, token: config.admin.token },
    redis: config.redis && toRedis(config.redis),
    secrets: config.secrets,
    operations: new Set(config.operations),
    limits: toLimits(config.limits),
    failover: {
      attempts: config.failover.attempts,
      deadlineMs: config.failover.deadline,
      graceMs: config.failover.grace,
      retryBudget: config.failover.retryBudget,
    },
    log: config.log,
    providers,
    deployments,
    tiers,
    routes,
    agents: new Map(agents.map((written) => [written.agent, toAgent(written)])),
    bearers: new Map(agents.flatMap(toBearers).map((bearer) => [bearer.sha256, bearer])),
    warnings: [
      ...warnings,
      ...warningsOf(config, vendors),
      ...warningsOfAgents(agents, routes),
      ...(hasBudgets(config, agents) ? warningsOfPrices(routes) : []),
      ...warningsOfUnpricedRoutes(config, agents, routes),
    ],
  })
}

const NO_LIMITS: LimitsFile = { wait: 0, strict: false }

/** What keeps agents from being answered although nothing is wrong. */
function warningsOfAgents(agents: readonly AgentFile[], routes: ReadonlyMap<string, Route>): string[] {
  if (agents.length === 0) return ['no agent is known, so every call is answered 401']
  if (agents.every((agent) => agent.bearers.length === 0)) {
    return ['no agent has a bearer yet, so every call is answered 401; `sluice bearer new` makes one']
  }
  const scopes = agents.flatMap((agent) => agent.scopes.map((scope) => scope.models))
  return [...routes.keys()]
    .filter((route) => !scopes.some((models) => matchesGlob(models, route) || matchesGlob(route, models)))
    .map((route) => `no agent has a scope for the route "${route}"`)
}

function hasBudgets(config: Config, agents: readonly AgentFile[]): boolean {
  const routes = Object.values(config.routes).map((route) =>
    Array.isArray(route) ? undefined : route.limits,
  )
  const deployments = Object.values(config.tiers)
    .flatMap((tier) => tier.deployments ?? [])
    .map((one) => (typeof one === 'string' ? undefined : one.limits))
  const providers = Object.values(config.providers).map((provider) => provider.limits)
  const callers = agents.flatMap((agent) => [agent.limits, ...agent.bearers.map((bearer) => bearer.limits)])
  return [config.limits, ...routes, ...deployments, ...providers, ...callers].some(
    (limits) => limits?.budget !== undefined,
  )
}

/** What nobody with a budget can reach. */
function warningsOfPrices(routes: ReadonlyMap<string, Route>): string[] {
  const called = [...routes.values()].flatMap((route) => route.tiers.flatMap((tier) => tier.deployments))
  return [
    ...new Set(
      called
        .filter((deployment) => !mayBePriced(deployment))
        .map(
          ({ name }) =>
            `deployment ${name} is unpriced, so whoever has a budget never reaches it; give it a price (0 if it costs nothing)`,
        ),
    ),
  ]
}

function mayBePriced({ price, listPrices }: Deployment): boolean {
  return price !== undefined || listPrices.length > 0
}

const MOST_NAMED = 3

/** Routes where a budget leaves nobody to be asked, and whom that is about. */
function warningsOfUnpricedRoutes(
  config: Config,
  agents: readonly AgentFile[],
  routes: ReadonlyMap<string, Route>,
): string[] {
  const limited = agents.filter(({ limits, bearers }) =>
    [limits, ...bearers.map((bearer) => bearer.limits)].some(({ budget }) => budget !== undefined),
  )
  return [...routes.values()].flatMap(({ name, tiers, limits }) => {
    const called = tiers.flatMap((tier) => tier.deployments).filter(({ kind }) => kind !== 'reply')
    if (called.length === 0 || called.some(mayBePriced)) return []
    const asks = ({ scopes, deny }: AgentFile): boolean =>
      scopes.some(({ models }) => matchesGlob(models, name) || matchesGlob(name, models)) &&
      !deny.some(({ models }) => matchesGlob(models, name))
    const everybody = config.limits.budget !== undefined || limits.budget !== undefined
    const names = everybody ? [] : limited.filter(asks).map(({ agent }) => agent)
    if (!everybody && names.length === 0) return []
    const more = names.length > MOST_NAMED ? `, and ${names.length - MOST_NAMED} more` : ''
    const who = everybody
      ? 'nobody'
      : `whoever has a budget (${names.slice(0, MOST_NAMED).join(', ')}${more}) never`
    return [
      `route ${JSON.stringify(name)} has no deployment with a price, so ${who} reaches a provider by it`,
    ]
  })
}

function toLimits({ requests, tokens, concurrency, budget, strict, wait }: LimitsFile): Limits {
  return { requests, tokens, concurrency, budget, strict, waitMs: wait > 0 ? wait : undefined }
}

function toRedis(written: RedisFile): RedisSettings {
  const { tls, onOutage, replicas } = written
  return {
    ...toPlace(written),
    tls: tls && { ca: tls.ca, cert: tls.cert, key: tls.key, servername: tls.servername },
    onOutage,
    // The number last seen counts where it is more.
    replicas: replicas ?? 1,
  }
}

function toPlace({ url, sentinels, master, cluster }: RedisFile): RedisPlace {
  if (url !== undefined) return { kind: 'url', url }
  if (cluster !== undefined) return { kind: 'cluster', cluster }
  if (sentinels !== undefined && master !== undefined) return { kind: 'sentinel', sentinels, master }
  throw new TypeError('the place of redis was not validated')
}

function toProvider(name: string, written: ProviderFile, vendors: Vendors): Provider {
  const vendor = vendors[written.format]
  if (!vendor) throw new TypeError(`unknown format of provider ${name}`)
  const simulated = vendor.kind === 'simulated'
  const { apiVersion, region, project } = written
  const home = baseUrlOf(vendor, written)
  const baseUrl = written.baseUrl ?? home ?? ''
  const atHome = home !== undefined && originOf(baseUrl) === originOf(home) ? vendor.atHome : undefined
  const ofServer = vendor.servers?.[originOf(baseUrl) ?? ''] ?? []
  const quirks = new Set([...written.quirks, ...(atHome?.quirks ?? []), ...ofServer])
  return {
    name,
    format: vendor.wireFormat,
    alsoSpeaks: new Set([...(vendor.alsoSpeaks ?? []), ...(atHome?.alsoSpeaks ?? []), ...written.alsoSpeaks]),
    options: {
      ...(apiVersion !== undefined && { apiVersion }),
      ...(region !== undefined && { region }),
      ...(project !== undefined && { project }),
      ...(quirks.size > 0 && { quirks: [...quirks].join(' ') }),
    },
    kind: vendor.kind,
    tracedAs: vendor.tracedAs,
    baseUrl: simulated ? '' : baseUrl.replace(/\/+$/, ''),
    proxy: written.proxy,
    keys: simulated ? [] : toKeys(written.apiKey),
    ...toKeyRules(written.apiKey),
    headers: Object.fromEntries(
      Object.entries(written.headers).map(([header, value]) => [header.toLowerCase(), value]),
    ),
    allowFields: new Set(written.allowFields),
    limits: toLimits(written.limits),
    health: written.health && { path: written.health.path, everyMs: written.health.every },
    simulate: simulated
      ? { latencyMs: written.latency ?? 0, paceMs: written.pace ?? 0, fault: toFault(written.fault) }
      : undefined,
  }
}

function toKeys(written: ProviderFile['apiKey']): SecretReference[] {
  if (written === undefined) return []
  if (typeof written === 'string') return [written]
  return Array.isArray(written) ? written : toKeys(written.from)
}

/** What is said of all keys of a provider together. */
function toKeyRules(written: ProviderFile['apiKey']): Pick<Provider, 'keyHours' | 'rotateMs'> {
  const { hours, rotate } =
    typeof written === 'object' && !Array.isArray(written) ? written : { hours: undefined, rotate: undefined }
  return { keyHours: hours, rotateMs: rotate }
}

function toFault(written: ProviderFile['fault']) {
  return (
    written && {
      kind: written.kind,
      status: written.status,
      share: written.share,
      retryAfterMs: written.retryAfter,
    }
  )
}

type SharedSettings = Pick<DeploymentFile, 'limits' | 'price' | 'contextWindow' | 'prefill'>

/** What is said of a deployment in any tier holds in all of them. */
function sharedSettings(tiers: Config['tiers']): ReadonlyMap<string, SharedSettings> {
  const settings = new Map<string, SharedSettings>()
  for (const written of Object.values(tiers).flatMap((tier) => tier.deployments ?? [])) {
    if (typeof written === 'string') continue
    const before = settings.get(written.use)
    settings.set(written.use, {
      limits: before?.limits ?? written.limits,
      price: before?.price ?? written.price,
      contextWindow: before?.contextWindow ?? written.contextWindow,
      prefill: before?.prefill || written.prefill,
    })
  }
  return settings
}

/** List prices hold for who is really called: a proxy that speaks a vendor's format has prices of its own. */
function listPrices(written: ProviderFile, vendors: Vendors): PriceList {
  const called = originOf(written.baseUrl ?? baseUrlOf(vendors[written.format], written))
  if (called === undefined) return []
  const list = Object.values(vendors).find((vendor) => originOf(vendor.baseUrl) === called)?.prices ?? []
  return list.toSorted(([a], [b]) => compareSpecificity(a, b))
}

function originOf(baseUrl: string | undefined): string | undefined {
  return baseUrl !== undefined && URL.canParse(baseUrl) ? new URL(baseUrl).origin : undefined
}

/** What was written goes before what is known; what answers from this process costs nothing. */
function toPrices(
  written: PriceFile | undefined,
  kind: Provider['kind'],
  { list, model }: { readonly list: PriceList; readonly model: string | undefined },
): Pick<Deployment, 'price' | 'listPrices'> {
  if (written !== undefined) return { price: toPrice(written), listPrices: [] }
  if (kind === 'simulated') return { price: FREE, listPrices: [] }
  if (model === undefined) return { price: undefined, listPrices: list }
  return { price: priceOf({ price: undefined, listPrices: list }, model), listPrices: [] }
}

function toPrice(written: PriceFile): Price {
  const { input, output, long } = written
  const each = toTokenPrice(written, {
    cached: input,
    cacheWrite: input,
    reasoning: output,
    audioInput: input,
    audioOutput: output,
  })
  return { ...each, long: long && { ...toTokenPrice(long, toLong(each, long)), overTokens: long.over } }
}

type Part = Exclude<keyof TokenPrice, 'input' | 'output'>

function toTokenPrice(written: Omit<PriceFile, 'long'>, defaults: Pick<TokenPrice, Part>): TokenPrice {
  return {
    input: written.input,
    cached: written.cached ?? defaults.cached,
    cacheWrite: written.cacheWrite ?? defaults.cacheWrite,
    output: written.output,
    reasoning: written.reasoning ?? defaults.reasoning,
    audioInput: written.audioInput ?? defaults.audioInput,
    audioOutput: written.audioOutput ?? defaults.audioOutput,
  }
}

/**
 * What is not said of a long request rises as its input and its output do, which is how vendors price it: what is read
 * from a cache stays as much cheaper, and audio or a cache write never costs less than in a short one.
 */
function toLong(each: TokenPrice, { input, output }: Pick<TokenPrice, 'input' | 'output'>): TokenPrice {
  const risen = (part: number, from: number, to: number): number =>
    from === 0 ? Math.max(part, to) : (part * to) / from
  const ofInput = (part: number): number => risen(part, each.input, input)
  const ofOutput = (part: number): number => risen(part, each.output, output)
  return {
    input,
    cached: ofInput(each.cached),
    cacheWrite: ofInput(each.cacheWrite),
    output,
    reasoning: ofOutput(each.reasoning),
    audioInput: ofInput(each.audioInput),
    audioOutput: ofOutput(each.audioOutput),
  }
}

interface TierParts {
  readonly providers: ReadonlyMap<string, Provider>
  readonly settings: ReadonlyMap<string, SharedSettings>
  /** List prices by provider. */
  readonly listed: ReadonlyMap<string, PriceList>
}

function toTier(name: string, written: TierFile, { providers, settings, listed }: TierParts): Tier {
  const deployments = (written.deployments ?? []).map((item): Deployment => {
    const { use, weight } = typeof item === 'string' ? { use: item, weight: 1 } : item
    const halves = splitDeployment(use)
    if (!halves) throw new TypeError(`deployment of tier ${name} was not validated`)
    const provider = known(providers, halves.provider)
    const said = settings.get(use)
    return {
      name: use,
      kind: provider.kind,
      provider,
      model: halves.model,
      weight,
      contextWindow: said?.contextWindow,
      ...toPrices(said?.price, provider.kind, { list: known(listed, provider.name), model: halves.model }),
      limits: toLimits(said?.limits ?? NO_LIMITS),
      prefill: said?.prefill ?? false,
      text: undefined,
    }
  })
  return {
    name,
    deployments: written.reply === undefined ? deployments : [toReply(name, written.reply)],
    balance: written.balance,
    firstTokenMs: typeof written.firstToken === 'number' ? written.firstToken : written.firstToken.to,
    firstTokenLeastMs: typeof written.firstToken === 'number' ? undefined : written.firstToken.from,
    firstByteMs: written.firstByte ?? written.attempt,
    idleMs: written.idle,
    attemptMs: written.attempt,
    connectMs: written.connect,
    hedge: written.hedge && {
      afterMs: written.hedge.after === 'p95' ? undefined : written.hedge.after,
      atMost: written.hedge.atMost,
    },
    retries: written.retries,
    patienceMs: written.patience,
    needsReview: written.needsReview,
  }
}

function toReply(tier: string, text: string): Deployment {
  return {
    name: `${REPLY_PROVIDER}/${tier}`,
    kind: 'reply',
    provider: undefined,
    model: undefined,
    weight: 1,
    contextWindow: undefined,
    price: FREE,
    listPrices: [],
    limits: toLimits(NO_LIMITS),
    prefill: false,
    text,
  }
}

function toAgent(written: AgentFile): Agent {
  return {
    name: written.agent,
    role: written.role,
    class: written.class,
    scopes: written.scopes,
    deny: written.deny,
    limits: toLimits(written.limits),
    deadlineMs: written.limits.deadline,
    maxOutputTokens: written.limits.maxOutput,
  }
}

function toBearers(written: AgentFile): Bearer[] {
  return written.bearers.map(({ id, sha256, expires, limits }) => ({
    id,
    agent: written.agent,
    sha256,
    expiresMs: expires,
    limits: toLimits(limits),
  }))
}

/** What is legal but probably not meant. */
function warningsOf(config: Config, vendors: Vendors): string[] {
  const warnings: string[] = []
  const usedTiers = new Set(
    Object.values(config.routes).flatMap((route) => (Array.isArray(route) ? route : route.tiers)),
  )
  const usedProviders = new Set(
    Object.values(config.tiers)
      .flatMap((tier) => tier.deployments ?? [])
      .map((item) => splitDeployment(typeof item === 'string' ? item : item.use)?.provider),
  )
  if (usedTiers.size === 0) warnings.push('there are no routes, so no model can be called')
  for (const [name, provider] of Object.entries(config.providers)) {
    const vendor = vendors[provider.format]
    const at = `provider ${name}`
    if (vendor?.warning !== undefined) warnings.push(`${at}: ${vendor.warning}`)
    if (!usedProviders.has(name)) warnings.push(`${at} is in no tier`)
    if (vendor?.kind === 'http' && provider.baseUrl === undefined && provider.apiKey === undefined) {
      warnings.push(`${at} has no apiKey, and its vendor will ask for one`)
    }
    const { rotateMs } = toKeyRules(provider.apiKey)
    const ageless = toKeys(provider.apiKey).filter((reference) => reference.startsWith('env:'))
    if (rotateMs !== undefined && ageless.length > 0)
      warnings.push(
        `${at} has apiKey.rotate, and of ${ageless.join(', ')} no age is known from before the start; that of a file: is`,
      )
    const idle = vendor?.kind === 'simulated' && (provider.apiKey ?? provider.baseUrl ?? provider.proxy)
    if (idle) warnings.push(`${at} is simulated, so its baseUrl, proxy and apiKey have no effect`)
  }
  for (const name of Object.keys(config.tiers)) {
    if (!usedTiers.has(name)) warnings.push(`tier ${name} is in no route`)
  }
  if (!LOOPBACK.test(config.admin.host) && config.admin.token === undefined) {
    warnings.push(
      'admin listens beyond this machine without a token: metrics are open to whoever reaches the port',
    )
  }
  for (const { path, text } of config.redis ? textsOf(toPlace(config.redis)) : []) {
    const at = formatPath(['redis', ...path])
    const database = databaseWarning(text)
    if (database !== undefined) warnings.push(`${at} ${database}`)
    if (!URL.canParse(text) || new URL(text).password === '') continue
    warnings.push(`${at} holds a password; a reference such as "env:REDIS_URL" keeps it out of the file`)
  }
  return warnings
}

function known<T>(things: ReadonlyMap<string, T>, name: string): T {
  const thing = things.get(name)
  if (thing === undefined) throw new TypeError('a name was not validated')
  return thing
}

function mapValues<T, U>(
  written: Readonly<Record<string, T>>,
  to: (name: string, value: T) => U,
): Map<string, U> {
  return new Map(Object.entries(written).map(([name, value]) => [name, to(name, value)]))
}

/** Freezes a value with all it holds; maps and sets lose the methods that change them. */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  if (value instanceof Map || value instanceof Set) {
    for (const [key, item] of value.entries()) {
      deepFreeze(key)
      deepFreeze(item)
    }
    for (const method of ['set', 'add', 'delete', 'clear']) {
      if (method in value) Object.defineProperty(value, method, { value: refuseChange })
    }
  } else {
    for (const item of Object.values(value)) deepFreeze(item)
  }
  return Object.freeze(value)
}

function refuseChange(): never {
  throw new TypeError('a Snapshot cannot be changed; a reload makes a new one')
}
