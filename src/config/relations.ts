// What keys of the configuration must mean to each other: names that are used must exist, and nothing may be said
// twice in two ways. Works on the file as written, so that these problems show beside those of the schema.

import { isObject } from '../bytes/json-value.ts'
import type { Finding, Path, RawDocument } from './problems.ts'
import { nearestWord, suggestion } from './problems.ts'
import { readMaster, readRedisUrl, toServers } from './redis-servers.ts'
import { limitsSchema, splitDeployment } from './schema.ts'
import type { RedisPlace } from './snapshot.ts'
import { parseDuration, parseSize } from './values.ts'
import { VENDOR_SETTINGS, type Vendors } from './vendors.ts'

type Raw = Readonly<Record<string, unknown>>

/** Deployments of `reply` tiers are named `reply/<tier>`. */
export const REPLY_PROVIDER = 'reply'

/** Everything in the configuration file that does not fit together. Never throws, whatever was written. */
export function configRelations(config: unknown, vendors: Vendors): Finding[] {
  const root = record(config)
  const providers = record(root.providers)
  const tiers = record(root.tiers)
  return [
    ...reservedKeys(config, []),
    ...listenerRelations(record(root.listen), record(root.admin)),
    ...(isObject(root.redis) ? redisRelations(root.redis) : []),
    ...entries(providers).flatMap(([name, value]) => providerRelations(name, record(value), vendors)),
    ...entries(tiers).flatMap(([name, value]) => tierRelations(name, record(value), providers)),
    ...sharedDeployments(tiers),
    ...entries(record(root.routes)).flatMap(([name, value]) => routeRelations(name, value, tiers)),
  ]
}

/** What does not fit together in and between agents' files, with the file it belongs to. */
export function agentRelations(files: readonly RawDocument[]): { document: RawDocument; finding: Finding }[] {
  const agents = new Map<string, string>()
  const hashes = new Map<string, string>()
  return files.flatMap((document) => {
    const root = record(document.value)
    const findings = reservedKeys(document.value, [])
    if (typeof root.agent === 'string') {
      const other = agents.get(root.agent)
      if (other !== undefined)
        findings.push({ path: ['agent'], message: `is the name of an agent in ${other} too` })
      agents.set(root.agent, other ?? document.file)
    }
    const ids = new Set<unknown>()
    list(root.bearers).forEach((value, index) => {
      const bearer = record(value)
      if (typeof bearer.id === 'string' && ids.has(bearer.id)) {
        findings.push({
          path: ['bearers', index, 'id'],
          message: 'is the id of another bearer of this agent',
        })
      }
      ids.add(bearer.id)
      if (typeof bearer.sha256 !== 'string') return
      const hash = bearer.sha256.toLowerCase()
      const other = hashes.get(hash)
      if (other !== undefined) {
        findings.push({
          path: ['bearers', index, 'sha256'],
          message: `is the same bearer as one in ${other}`,
        })
      }
      hashes.set(hash, other ?? document.file)
    })
    return findings.map((finding) => ({ document, finding }))
  })
}

function listenerRelations(listen: Raw, admin: Raw): Finding[] {
  const findings: Finding[] = []
  const port = listen.port ?? 7456
  if (port !== 0 && port === (admin.port ?? 7457)) {
    findings.push({ path: ['admin', 'port'], message: 'is the port of listen too; operators need their own' })
  }
  const maxBody = parseSize(listen.maxBody ?? '32MiB')
  const budget = parseSize(listen.bodyBudget ?? '512MiB')
  if (maxBody.ok && budget.ok && budget.value < maxBody.value) {
    const key = listen.bodyBudget === undefined ? 'maxBody' : 'bodyBudget'
    findings.push({
      path: ['listen', key],
      message: 'makes bodyBudget smaller than maxBody, so the largest body could never be held',
    })
  }
  return findings
}

/** Redis is in one place, said in one way; literals that cannot work together are found here, references at start. */
function redisRelations(redis: Raw): Finding[] {
  const path: Path = ['redis']
  const ways = ['url', 'sentinels', 'cluster'].filter((key) => redis[key] !== undefined)
  const [first, ...others] = ways
  const findings: Finding[] = others.map((key) => ({
    path: [...path, key],
    message: `cannot stand beside ${first}; say in one way where Redis is`,
  }))
  if (first === undefined) {
    const message =
      redis.master === undefined
        ? 'needs url, or sentinels with master, or cluster'
        : 'needs sentinels, which know where master is'
    findings.push({ path, message })
  } else if (redis.sentinels !== undefined && redis.master === undefined) {
    findings.push({ path: [...path, 'sentinels'], message: 'needs master, the name that they watch' })
  } else if (redis.sentinels === undefined && redis.master !== undefined) {
    findings.push({ path: [...path, 'master'], message: `cannot stand beside ${first}; it needs sentinels` })
  }
  for (const key of ['sentinels', 'cluster']) {
    const texts = list(redis[key])
    texts.forEach((text, index) => {
      if (texts.indexOf(text) < index)
        findings.push({ path: [...path, key, index], message: 'stands twice in this list' })
    })
  }
  const tls = record(redis.tls)
  for (const [key, other] of [
    ['cert', 'key'],
    ['key', 'cert'],
  ] as const) {
    if (tls[key] !== undefined && tls[other] === undefined)
      findings.push({ path: [...path, 'tls', key], message: `needs ${other} beside it` })
  }
  const place = findings.length > 0 ? undefined : literalPlace(redis)
  const outcome = place && toServers(place, redis.tls === undefined ? undefined : {}, (text) => text)
  if (outcome?.ok === false)
    findings.push(...outcome.problems.map((one) => ({ path: [...path, ...one.path], message: one.message })))
  return findings
}

/** Where Redis is, when everything that says so is a literal that the schema takes. */
function literalPlace({ url, sentinels, master, cluster }: Raw): RedisPlace | undefined {
  const literal = (text: unknown): text is string => typeof text === 'string' && readRedisUrl(text).ok
  if (literal(url)) return { kind: 'url', url }
  if (Array.isArray(cluster) && cluster.length > 0 && cluster.every(literal))
    return { kind: 'cluster', cluster }
  if (!Array.isArray(sentinels) || sentinels.length === 0 || !sentinels.every(literal)) return undefined
  return typeof master === 'string' && readMaster(master).ok
    ? { kind: 'sentinel', sentinels, master }
    : undefined
}

function providerRelations(name: string, provider: Raw, vendors: Vendors): Finding[] {
  const path: Path = ['providers', name]
  const findings: Finding[] = []
  if (name === REPLY_PROVIDER)
    findings.push({ path, message: 'is a name that tiers with a reply use; choose another' })

  const keys = list(record(provider.apiKey).from ?? provider.apiKey)
  if (new Set(keys).size < keys.length)
    findings.push({ path: [...path, 'apiKey'], message: 'names the same reference twice' })

  const headers = Object.keys(record(provider.headers)).map((header) => header.toLowerCase())
  if (new Set(headers).size < headers.length) {
    findings.push({ path: [...path, 'headers'], message: 'names the same header twice; case does not count' })
  }

  const format = provider.format
  const vendor = typeof format === 'string' && Object.hasOwn(vendors, format) ? vendors[format] : undefined
  if (!vendor || vendor.notYet) return findings
  if (vendor.kind === 'simulated') {
    if (provider.health !== undefined) {
      findings.push({
        path: [...path, 'health'],
        message: 'is only for a provider that is called; a simulated one answers from this process',
      })
    }
    // It has no address, and answers callers of every format already: in these it would be handed what it cannot read.
    for (const key of ['alsoSpeaks', 'quirks', ...VENDOR_SETTINGS]) {
      if (provider[key] !== undefined)
        findings.push({ path: [...path, key], message: `has no meaning for format ${format}` })
    }
  }
  if (vendor.kind === 'http') {
    if (vendor.baseUrl === undefined && provider.baseUrl === undefined) {
      findings.push({
        path: [...path, 'baseUrl'],
        message: `is missing; format ${format} has no address of its own`,
      })
    }
    for (const setting of VENDOR_SETTINGS) {
      const use = vendor.settings?.[setting]
      if (provider[setting] !== undefined && use === undefined)
        findings.push({ path: [...path, setting], message: `has no meaning for format ${format}` })
      if (provider[setting] === undefined && use === 'required' && provider.baseUrl === undefined)
        findings.push({
          path: [...path, setting],
          message: `is missing; the address of format ${format} has it`,
        })
    }
    for (const key of ['latency', 'pace', 'fault']) {
      if (provider[key] !== undefined) {
        findings.push({ path: [...path, key], message: 'is only for a simulated provider' })
      }
    }
  }
  return findings
}

function tierRelations(name: string, tier: Raw, providers: Raw): Finding[] {
  const path: Path = ['tiers', name]
  const findings: Finding[] = []
  const hasDeployments = tier.deployments !== undefined
  const hasReply = tier.reply !== undefined
  if (hasDeployments && hasReply)
    findings.push({ path: [...path, 'reply'], message: 'cannot stand beside deployments' })
  if (!hasDeployments && !hasReply) findings.push({ path, message: 'needs deployments, or a reply' })
  findings.push(...adaptiveRelations([...path, 'firstToken'], record(tier.firstToken)))

  const seen = new Set<string>()
  for (const { use, path: place } of deploymentsOf(name, tier)) {
    if (seen.has(use))
      findings.push({ path: place, message: 'stands twice in this tier; give it a weight instead' })
    seen.add(use)
    const provider = splitDeployment(use)?.provider
    if (provider === undefined || Object.hasOwn(providers, provider)) continue
    const nearest = nearestWord(provider, Object.keys(providers))
    findings.push({
      path: place,
      message: `unknown provider ${JSON.stringify(provider)}${suggestion(nearest)}`,
      nearest,
    })
  }
  return findings
}

/** Bounds the wrong way round would be silently the lower one. A duration that is one holds no secret, so it is shown. */
function adaptiveRelations(path: Path, { from, to }: Raw): Finding[] {
  const [least, most] = [parseDuration(from), parseDuration(to)]
  if (!least.ok || !most.ok || least.value <= most.value) return []
  return [{ path, message: `has a from (${String(from)}) that is longer than its to (${String(to)})` }]
}

/** Limits, price and context window belong to the deployment: said once they hold everywhere, said twice they must agree. */
function sharedDeployments(tiers: Raw): Finding[] {
  const first = new Map<string, { tier: string; value: string }>()
  const findings: Finding[] = []
  for (const [name, tier] of entries(tiers)) {
    for (const { use, path, options } of deploymentsOf(name, record(tier))) {
      for (const key of ['limits', 'price', 'contextWindow', 'prefill']) {
        if (options[key] === undefined) continue
        const value = canonical(options[key])
        const other = first.get(`${key} ${use}`)
        if (!other) first.set(`${key} ${use}`, { tier: name, value })
        else if (other.value !== value) {
          findings.push({
            path: [...path, key],
            message: `differs from what tier ${JSON.stringify(other.tier)} says of the same deployment; ${key} belongs to the deployment, so say it once`,
          })
        }
      }
    }
  }
  return findings
}

/** Limits by what they mean, so that `60/min` equals its long form; anything else as it stands. */
function canonical(value: unknown): string {
  const limits = limitsSchema.safeParse(value)
  return JSON.stringify(limits.success ? limits.data : value)
}

function routeRelations(name: string, route: unknown, tiers: Raw): Finding[] {
  const isList = Array.isArray(route)
  const names = isList ? list(route) : list(record(route).tiers)
  const base: Path = isList ? ['routes', name] : ['routes', name, 'tiers']
  const findings: Finding[] = []
  names.forEach((tier, index) => {
    if (typeof tier !== 'string') return
    const path = [...base, index]
    if (names.indexOf(tier) < index) findings.push({ path, message: 'stands twice in this route' })
    if (!Object.hasOwn(tiers, tier)) {
      const nearest = nearestWord(tier, Object.keys(tiers))
      findings.push({ path, message: `unknown tier ${JSON.stringify(tier)}${suggestion(nearest)}`, nearest })
    } else if (record(tiers[tier]).reply !== undefined && index < names.length - 1) {
      findings.push({ path, message: 'must be the last tier, because its reply always answers' })
    }
  })
  return findings
}

/** JavaScript gives this key a meaning of its own; no name of ours needs it. */
function reservedKeys(value: unknown, path: Path): Finding[] {
  if (Array.isArray(value)) return value.flatMap((item, index) => reservedKeys(item, [...path, index]))
  return entries(record(value)).flatMap(([key, inner]) =>
    key === '__proto__'
      ? [{ path: [...path, key], message: 'is a reserved word' }]
      : reservedKeys(inner, [...path, key]),
  )
}

function deploymentsOf(name: string, tier: Raw): { use: string; path: Path; options: Raw }[] {
  return list(tier.deployments).flatMap((item, index) => {
    const path: Path = ['tiers', name, 'deployments', index]
    if (typeof item === 'string') return [{ use: item, path, options: {} }]
    const options = record(item)
    return typeof options.use === 'string' ? [{ use: options.use, path, options }] : []
  })
}

function entries(value: Raw): [string, unknown][] {
  return Object.entries(value)
}

function record(value: unknown): Raw {
  return isObject(value) ? value : {}
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
