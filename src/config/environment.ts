// The configuration of a start without a file: what the environment tells of providers, written as the same object
// that a file would hold, so that there is one path from there on. Names no vendor: they are handed in.

import { OPERATIONS } from './schema.ts'
import { type Loaded, validate } from './validate.ts'
import {
  START_TIERS,
  type Start,
  type StartTier,
  type Vendor,
  type VendorEnvironment,
  type Vendors,
} from './vendors.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export interface EnvironmentOptions {
  readonly vendors: Vendors
  /** Routes and models of a start without a file. */
  readonly start: Start
  /** SHA-256 of the bearer of this run, 64 hex digits. */
  readonly bearerSha256: string
  /** First model that the local server lists, if it was asked and answered. */
  readonly localModel?: string | undefined
}

/** What was found: a deployment for each tier that can be served, and the providers they stand at. */
interface Found {
  readonly providers: Record<string, Record<string, unknown>>
  readonly tiers: Map<StartTier, string>
  /** Provider that takes every other model name. */
  readonly catchAll: string | undefined
  readonly warnings: readonly string[]
}

/**
 * The Snapshot of design §3 from the vendors' key variables and `LOCAL_LLM_URL` (model: `SLUICE_LOCAL_MODEL`, else
 * `localModel`); with none of them set a simulated model answers. Keys stay references. Fails with problems only
 * when a variable holds what cannot be used, for example a URL that is none.
 */
export function fromEnvironment(environment: Environment, options: EnvironmentOptions): Loaded {
  const found = findProviders(environment, options)
  const { providers, tiers, catchAll, warnings } =
    Object.keys(found.providers).length > 0 ? found : simulate(options)

  const served = START_TIERS.filter((tier) => tiers.has(tier))
  const routes = new Map<string, readonly string[]>(
    options.start.routes.map(([name, wanted]) => {
      const there = wanted.filter((tier) => tiers.has(tier))
      return [name, there.length > 0 ? there : served]
    }),
  )
  const deployments = new Map<string, string>(tiers)
  if (catchAll !== undefined) {
    routes.set('*', [catchAll])
    deployments.set(catchAll, `${catchAll}/*`)
  }

  const config = {
    // A bearer made up for this run is not offered to the network, and nobody waits for a load balancer here.
    // One process: it is the quickest to start, and its workers would make up bearers of their own.
    listen: { host: '127.0.0.1', drainNotice: '0s', workers: 1 },
    operations: OPERATIONS,
    ...(isSet(environment.SLUICE_ADMIN_TOKEN) && { admin: { token: 'env:SLUICE_ADMIN_TOKEN' } }),
    providers,
    tiers: Object.fromEntries([...deployments].map(([name, use]) => [name, { deployments: [use] }])),
    routes: Object.fromEntries(routes),
  }
  const agent = {
    agent: 'local',
    bearers: [{ id: 'run', sha256: options.bearerSha256 }],
    scopes: OPERATIONS.map((operation) => `${operation}:*`),
  }
  return inTermsOfVariables(
    validate({
      config: { file: 'environment', value: config },
      agents: [{ file: 'environment', value: agent }],
      vendors: options.vendors,
      policiesPath: undefined,
      warnings,
    }),
  )
}

function findProviders(environment: Environment, { vendors, start, localModel }: EnvironmentOptions): Found {
  const providers: Found['providers'] = {}
  const tiers: Found['tiers'] = new Map()
  const seen: string[] = []
  let catchAll: string | undefined

  for (const { format, from } of discoverable(vendors)) {
    if (!isSet(environment[from.variable])) continue
    providers[from.provider] = { format, apiKey: `env:${from.variable}` }
    for (const tier of ['sovereign', 'fast'] as const) {
      const model = from.models[tier]
      if (model !== undefined && !tiers.has(tier)) tiers.set(tier, `${from.provider}/${model}`)
    }
    if (from.catchAll) catchAll ??= from.provider
    seen.push(`${from.provider} (${from.variable})`)
  }

  const url = environment.LOCAL_LLM_URL?.trim()
  const format = compatibleFormat(vendors)
  if (isSet(url) && format !== undefined) {
    const model = isSet(environment.SLUICE_LOCAL_MODEL)
      ? environment.SLUICE_LOCAL_MODEL.trim()
      : (localModel ?? start.models.execution)
    providers.local = { format, baseUrl: withVersion(url) }
    tiers.set('execution', `local/${model}`)
    seen.push('local (LOCAL_LLM_URL)')
  }
  return { providers, tiers, catchAll, warnings: [`providers found in the environment: ${seen.join(', ')}`] }
}

/** One made-up provider for every tier, so that an agent can be tried with no key at all. */
function simulate({ vendors, start }: EnvironmentOptions): Found {
  const format = Object.keys(vendors).find((name) => vendors[name]?.kind === 'simulated')
  if (format === undefined) throw new TypeError('the table of formats has no simulated one')
  const variables = [...discoverable(vendors).map(({ from }) => from.variable), 'LOCAL_LLM_URL']
  return {
    providers: { simulated: { format, latency: '60ms', pace: '12ms' } },
    tiers: new Map(START_TIERS.map((tier) => [tier, `simulated/${start.models[tier]}`])),
    catchAll: undefined,
    warnings: [`none of ${variables.join(', ')} is set, so answers are simulated`],
  }
}

/** Vendors with a variable; those that serve everything come last, so that a tier's own vendor is preferred. */
function discoverable(vendors: Vendors): { format: string; vendor: Vendor; from: VendorEnvironment }[] {
  return Object.entries(vendors)
    .flatMap(([format, vendor]) => (vendor.environment ? [{ format, vendor, from: vendor.environment }] : []))
    .toSorted((a, b) => Number(a.from.catchAll ?? false) - Number(b.from.catchAll ?? false))
}

/** The format of servers that only call themselves compatible: the one that is a wire format by its own name. */
function compatibleFormat(vendors: Vendors): string | undefined {
  return Object.keys(vendors).find((format) => {
    const vendor = vendors[format]
    return vendor?.kind === 'http' && vendor.wireFormat === format && !vendor.notYet
  })
}

function withVersion(url: string): string {
  const bare = url.replace(/\/+$/, '')
  return bare.endsWith('/v1') ? bare : `${bare}/v1`
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value.trim() !== ''
}

/** Problems name the variable to be mended, for there is no file. */
function inTermsOfVariables(loaded: Loaded): Loaded {
  if (loaded.ok) return loaded
  return {
    ok: false,
    problems: loaded.problems.map((problem) => {
      if (problem.path.startsWith('providers.local.baseUrl')) return { ...problem, path: 'LOCAL_LLM_URL' }
      return problem.path.startsWith('tiers.execution') ? { ...problem, path: 'SLUICE_LOCAL_MODEL' } : problem
    }),
  }
}
