// The one description of the configuration file and of an agent's file: it validates, it is the JSON Schema, and the
// reference page is generated from it. Each key stands alone here; what keys mean to each other is relations.ts.

import { isIP } from 'node:net'
import { z } from 'zod'
import { formats } from '../formats/index.ts'
import { QUIRKS } from '../formats/quirks.ts'
import type { Operation, Scope } from '../types.ts'
import { REDIS_URL, readMaster, readRedisUrl } from './redis-servers.ts'
import { duration, hours, leaf, money, type Parsed, rate, size } from './values.ts'
import type { Vendors } from './vendors.ts'

/** What this gateway can serve at all: the words before the colon of a scope. */
export const OPERATIONS = [
  'chat',
  'embeddings',
  'images',
  'audio',
  'moderations',
] as const satisfies readonly Operation[]
/** Served where nothing is said; the others cost money in ways that token limits do not see. */
const USUAL_OPERATIONS: readonly Operation[] = ['chat', 'embeddings']

/** Request fields that no provider is sent unless its `allowFields` says so (design §5). */
export const RESTRICTED_FIELDS = [
  'models',
  'provider',
  'route',
  'transforms',
  'plugins',
  'preset',
  'fallbacks',
  'api_base',
  'base_url',
] as const

/** Names of providers, tiers, agents and bearers. */
export const NAME = /^[A-Za-z0-9._-]{1,64}$/
/** What the description of a key or value begins with while its feature is to come. */
export const NOT_YET = '(not yet)'

/** Headers that sluice sets itself, or that belong to one connection (RFC 9110 §7.6.1) and not to a request. */
const FORBIDDEN_HEADERS: ReadonlySet<string> = new Set([
  'authorization',
  'x-api-key',
  'api-key',
  'x-goog-api-key',
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'upgrade',
  'expect',
])

const SECRET_ENV = /^env:[A-Za-z_][A-Za-z0-9_]{0,255}$/
const SECRET_FILE = /^file:\/[^\u0000-\u001f\u007f]{1,4095}$/
const SECRET_LATER = /^(vault|aws-sm):/
const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/
const HEADER_VALUE = /^[\x20-\x7e]{0,4096}$/
/** Visible ASCII; a comma would split the list in `x-sluice-attempts`. */
const MODEL = /^[\x21-\x2b\x2d-\x7e]{1,200}$/
const PUBLIC_MODEL = /^[\x21-\x7e]{1,200}$/
/** Visible ASCII without what would begin a query or a fragment. */
const CHECK_PATH = /^\/[\x21\x22\x24-\x3e\x40-\x5b\x5d-\x7e]{0,1023}$/
const HOST = /^[A-Za-z0-9.:_-]{1,255}$/

// --- helpers ---------------------------------------------------------------------------------------------

/**
 * A key whose feature comes with a later version: known, shown in the reference, refused when written. To turn it
 * on, replace the one line.
 */
export function notYet(description: string) {
  return z.never().optional().describe(`${NOT_YET} ${description}`)
}

/** One of some words; `later` are words whose feature is to come. */
function choice<const Words extends readonly [string, ...string[]]>(
  words: Words,
  later: readonly string[] = [],
) {
  return z.enum(words, {
    error: ({ input }) =>
      typeof input === 'string' && later.includes(input) ? notYetSentence(input) : undefined,
  })
}

/** The one sentence for what is to come. */
export function notYetSentence(what: string): string {
  return `${what} is not yet supported by this version`
}

/** Text of a certain form. The message never holds the text: it could be a secret in the wrong place. */
function text(form: RegExp, message: string) {
  return z
    .string({ error: (issue) => (issue.input === undefined ? undefined : message) })
    .regex(form, { error: message })
}

const NAME_MESSAGE = 'must be 1 to 64 letters, digits, dots, underscores or hyphens'
const name = () => text(NAME, NAME_MESSAGE)

function port(fallback: number) {
  return z.int().min(0).max(65_535).default(fallback)
}

function host(fallback: string) {
  return text(HOST, 'must be an address or a host name, for example "127.0.0.1"').default(fallback)
}

// --- secrets ---------------------------------------------------------------------------------------------

/** Judges a reference to a secret without ever repeating it. */
export function parseReference(input: unknown): Parsed<string> {
  if (typeof input === 'string') {
    if (SECRET_ENV.test(input) || SECRET_FILE.test(input)) return { ok: true, value: input }
    const later = SECRET_LATER.exec(input)?.[1]
    if (later) return { ok: false, message: notYetSentence(`${later}:`) }
    if (input.startsWith('env:'))
      return { ok: false, message: 'does not name a variable; write for example "env:MY_KEY"' }
    if (input.startsWith('file:')) {
      return {
        ok: false,
        message: 'does not name a file; write an absolute path, for example "file:/etc/sluice/secrets/key"',
      }
    }
  }
  return {
    ok: false,
    message:
      'must be a reference, never the secret itself; write "env:NAME" for a variable or "file:/path" for a file',
  }
}

function reference() {
  return leaf(parseReference, { title: 'reference', type: 'string', examples: ['env:MY_KEY', 'file:/path'] })
}

function parseRedisUrl(input: unknown): Parsed<string> {
  if (typeof input === 'string') {
    if (/^(env|file|vault|aws-sm):/.test(input)) return parseReference(input)
    if (REDIS_URL.test(input) && URL.canParse(input)) {
      const url = readRedisUrl(input)
      return url.ok ? { ok: true, value: input } : url
    }
  }
  return {
    ok: false,
    message: 'must be a URL such as "redis://127.0.0.1:6379", or a reference such as "env:REDIS_URL"',
  }
}

function parseMaster(input: unknown): Parsed<string> {
  if (typeof input !== 'string') return { ok: false, message: 'must be the name that the sentinels watch' }
  if (/^(env|file|vault|aws-sm):/.test(input)) return parseReference(input)
  const master = readMaster(input)
  return master.ok ? { ok: true, value: input } : master
}

// --- limits ----------------------------------------------------------------------------------------------

const limitKeys = {
  requests: rate()
    .optional()
    .describe('Requests, as a token bucket: `30/min`, or `{ capacity: 100, refill: 50/s }`.'),
  tokens: rate().optional().describe('Input and output tokens together, as a token bucket: `200000/min`.'),
  concurrency: z.int().min(1).max(1_000_000).optional().describe('Requests under way at once.'),
  budget: money().optional().describe('Money per UTC calendar day or month: `20 USD/day`, `500 USD/month`.'),
  wait: duration({ min: '0s', max: '10m' })
    .prefault('0s')
    .describe(
      'How long a request may queue for its turn, instead of a 429 at once; for a provider or a deployment before it is routed around.',
    ),
  strict: z
    .boolean()
    .default(false)
    .describe('Reserve the upper bound of the tokens, not the calibrated estimate.'),
}

export const limitsSchema = z.strictObject(limitKeys)

const agentLimits = z.strictObject({
  ...limitKeys,
  deadline: duration({ min: '1ms', max: '1d' }).optional().describe('Longest time for one request.'),
  maxOutput: z
    .int()
    .min(1)
    .max(10_000_000)
    .optional()
    .describe(
      'Cap on the output tokens of one request; a reservation assumes it when the request names none.',
    ),
})

// --- the gateway itself ----------------------------------------------------------------------------------

function parseNetwork(input: unknown): Parsed<string> {
  const hint = {
    ok: false,
    message: 'must be an address range, for example "10.0.0.0/8" or "fd00::/8"',
  } as const
  if (typeof input !== 'string') return hint
  const [address = '', bits, ...rest] = input.split('/')
  const most = isIP(address) === 4 ? 32 : 128
  if (isIP(address) === 0 || rest.length > 0) return hint
  if (bits === undefined) return { ok: true, value: `${address}/${most}` }
  return /^\d{1,3}$/.test(bits) && Number(bits) <= most ? { ok: true, value: input } : hint
}

/** Far more than are of use, and few enough for one primary. */
const MOST_WORKERS = 64

const listen = z.strictObject({
  host: host('0.0.0.0').describe('Address that agents reach.'),
  port: port(7456).describe('Port for agents; 0 takes a free one.'),
  workers: z
    .union([z.literal('auto', { error: 'must be auto or a whole number' }), z.int().min(1).max(MOST_WORKERS)])
    .default('auto')
    .describe(
      `Processes that share the port and every limit, under one that has the port for operators; a process that ends is replaced. \`auto\` is one for each core that this process may use (affinity and quota of the container are seen), 16 at most, and 1 in a start without a file. \`bodyBudget\` and \`maxConnections\` are of all together. Changes with a restart.`,
    ),
  trustedProxies: z
    .array(leaf(parseNetwork, { title: 'address range', type: 'string', examples: ['10.0.0.0/8'] }))
    .max(1_000)
    .prefault([])
    .describe('Proxies whose `x-forwarded-for` is believed, as CIDR ranges.'),
  maxBody: size({ min: '1B', max: '1GiB' }).prefault('32MiB').describe('Largest request body.'),
  bodyBudget: size({ min: '1B', max: '1024GiB' })
    .prefault('512MiB')
    .describe('All request bodies held at once; more is answered 503.'),
  maxConnections: z.int().min(1).max(1_000_000).default(20_000).describe('Connections of agents at once.'),
  drain: duration({ min: '0s', max: '1d' })
    .prefault('600s')
    .describe('How long a stop waits for requests under way.'),
  drainNotice: duration({ min: '0s', max: '10m' })
    .prefault('5s')
    .describe('How long `/ready` says no before the listener stops.'),
})

const admin = z.strictObject({
  host: host('127.0.0.1').describe('Address that operators reach.'),
  port: port(7457).describe('Port for operators; 0 takes a free one.'),
  token: reference()
    .optional()
    .describe(
      'Reference of the bearer for operators; without it what changes state or shows agents answers 403.',
    ),
})

const redisUrl = () =>
  leaf(parseRedisUrl, {
    title: 'redis URL or reference',
    type: 'string',
    examples: ['redis://127.0.0.1:6379'],
  })

const pemFile = () =>
  text(
    /^\/[^\u0000-\u001f\u007f]{1,4095}$/,
    'must be the absolute path of a PEM file, for example "/etc/sluice/ca.pem"',
  )

const redis = z.strictObject({
  url: redisUrl()
    .optional()
    .describe(
      'Where Redis is, `rediss://` for TLS; a URL with a password is better kept behind a reference. Either this, or `sentinels` with `master`, or `cluster`.',
    ),
  sentinels: z
    .array(redisUrl())
    .min(1, { error: 'must name at least one sentinel' })
    .max(64)
    .optional()
    .describe('Sentinels to ask where `master` is; all with the same user and password.'),
  master: leaf(parseMaster, {
    title: 'name, redis URL or reference',
    type: 'string',
    examples: ['main', 'redis://user@main/0'],
  })
    .optional()
    .describe(
      'Name that the sentinels watch; `redis://user:password@name/0` (or a reference of it) for a login, a database, or TLS of its own.',
    ),
  cluster: z
    .array(redisUrl())
    .min(1, { error: 'must name at least one node' })
    .max(64)
    .optional()
    .describe('Some nodes of a Redis Cluster, which tell the others; all with the same user and password.'),
  tls: z
    .strictObject({
      ca: pemFile().optional().describe("Authorities that are trusted instead of Node's, as a PEM file."),
      cert: pemFile().optional().describe('Certificate of this gateway, for a Redis that asks for one.'),
      key: pemFile().optional().describe('Private key of `cert`; a file that only its owner may read.'),
      servername: text(HOST, 'must be a host name')
        .optional()
        .describe('Name that the certificate of Redis must have. Default: the host that is connected to.'),
    })
    .optional()
    .describe('How `rediss://` is verified; it always is. Files are read at start.'),
  onOutage: choice(['local', 'deny'])
    .default('local')
    .describe('Without Redis: `local` gives each replica its share of the limits, `deny` answers 503.'),
  replicas: z
    .int()
    .min(1)
    .max(10_000)
    .optional()
    .describe(
      'How many replicas to assume, at least, while the fleet cannot be seen. Default: the last number seen; who starts without Redis has seen only itself.',
    ),
})

const failover = z.strictObject({
  attempts: z
    .int()
    .min(1)
    .max(20)
    .default(3)
    .describe('Calls to providers for one request, at most; the number of tiers if that is more.'),
  deadline: duration({ min: '1ms', max: '1d' })
    .prefault('600s')
    .describe('Longest time for one request over all attempts.'),
  grace: duration({ min: '0s', max: '1h' })
    .prefault('30s')
    .describe(
      'Clean probes for this long before a deployment that failed gets its traffic back, step by step.',
    ),
  retryBudget: z
    .number()
    .min(0)
    .max(1)
    .default(0.1)
    .describe(
      'Second calls to one provider, as a share of its recent traffic; one a second is always allowed.',
    ),
  midStream: choice(['error', 'resume'])
    .default('error')
    .describe(
      'What becomes of a stream that breaks after its first byte: it ends with an error event, or the next deployment goes on with it, once and only with plain text.',
    ),
})

// --- providers -------------------------------------------------------------------------------------------

/** A URL without credentials, query and fragment. `hint` is what it must be, `instead` where credentials belong. */
function parseHttpUrl(input: unknown, hint: string, instead = ''): Parsed<URL> {
  const wrong = { ok: false, message: `must be ${hint}` } as const
  if (typeof input !== 'string' || input.length > 2_048 || !URL.canParse(input)) return wrong
  const url = new URL(input)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return wrong
  const authority = /^[a-z]+:[/\\]*([^/\\?#]*)/i.exec(input)?.[1] ?? ''
  if (authority.includes('@')) return { ok: false, message: `must hold no credentials${instead}` }
  if (/[?#]/.test(input)) return { ok: false, message: `must have no query and no fragment; ${hint}` }
  return { ok: true, value: url }
}

function parseBaseUrl(input: unknown): Parsed<string> {
  const hint = 'an http or https URL, for example "http://127.0.0.1:8080/v1"'
  const parsed = parseHttpUrl(input, hint, '; a key belongs in apiKey, as a reference')
  return parsed.ok ? { ok: true, value: parsed.value.href.replace(/\/+$/, '') } : parsed
}

/** A proxy is an origin: it takes CONNECT and no path. */
function parseProxy(input: unknown): Parsed<string> {
  const hint = 'the http or https URL of a proxy, for example "http://proxy.internal:3128"'
  const parsed = parseHttpUrl(input, hint)
  if (!parsed.ok) return parsed
  const { origin, pathname } = parsed.value
  return pathname === '/' ? { ok: true, value: origin } : { ok: false, message: `must be ${hint}` }
}

const headerNames = text(HEADER_NAME, 'is not the name of a header').refine(
  (header) => !FORBIDDEN_HEADERS.has(header.toLowerCase()),
  { error: 'is set by sluice itself; keys belong in apiKey' },
)

const oneKey = reference()
const keyList = z.array(reference()).min(1).max(20)
const keyObject = z.strictObject({
  from: z.union([reference(), keyList]).describe('The reference, or a list of them.'),
  rotate: duration({ min: '1m', max: '3650d' })
    .optional()
    .describe(
      'Age at which a key should have been replaced: `90d`. An older one is told of (`check`, log, `status`, metric), and used all the same. The age of a `file:` is that of the file; of an `env:` nothing is known from before the start.',
    ),
  hours: hours()
    .optional()
    .describe(
      'UTC hours in which a key is expected to be used: `08-20`, or `22-06` over midnight. A use at another time is counted and logged, never refused; health checks of the gateway are no use.',
    ),
})

const fault = z.strictObject({
  kind: choice(['status', 'silent', 'cut', 'refused']).describe(
    'What goes wrong: an HTTP status, no answer at all, a stream cut after some content, a refused connection.',
  ),
  status: z.int().min(400).max(599).default(503).describe('The HTTP status, for `kind: status`.'),
  share: z.number().gt(0).max(1).default(1).describe('Share of the calls that fail, spread evenly.'),
  retryAfter: duration({ min: '1ms', max: '1d' }).optional().describe('`retry-after` of the failing status.'),
})

const health = z.strictObject({
  path: text(
    CHECK_PATH,
    'must begin with "/" and have no query, for example "/models"; it stands behind the path of baseUrl',
  ).describe(
    'What is asked for by GET, with key and headers as in every request: `/models` behind a `baseUrl` that ends with `/v1` is `/v1/models`. A 2xx is good.',
  ),
  every: duration({ min: '1s', max: '1h' })
    .prefault('10s')
    .describe('How often, ± 20 %. Every 10 s at least while checks fail.'),
})

/** What callers speak. */
const [firstSpoken, ...othersSpoken] = [...formats.values()]
  .filter(({ client }) => client !== undefined)
  .map((format) => format.name)
const spoken = [firstSpoken ?? '', ...othersSpoken] as const

const SETTING = /^[A-Za-z0-9.-]{1,64}$/
const PROJECT = /^[A-Za-z0-9.:-]{1,128}$/
const SETTING_MESSAGE = 'must be a name of letters, digits, dots and hyphens'

function provider(vendors: Vendors) {
  const [first, ...others] = formatsOf(vendors, false)
  const later = formatsOf(vendors, true)
  const toCome = later.length === 0 ? '' : ` ${NOT_YET}: ${later.map((word) => `\`${word}\``).join(', ')}.`
  return z.strictObject({
    format: choice([first ?? '', ...others], later).describe(`Wire format of the provider.${toCome}`),
    baseUrl: leaf(parseBaseUrl, { title: 'URL', type: 'string', examples: ['http://127.0.0.1:8080/v1'] })
      .optional()
      .describe("Origin and base path. Default: the vendor's, where the format has one."),
    proxy: leaf(parseProxy, { title: 'URL', type: 'string', examples: ['http://proxy.internal:3128'] })
      .optional()
      .describe(
        'A proxy on the way to the provider, asked by CONNECT; TLS to the provider goes through it. Default: none, whatever the environment says.',
      ),
    apiKey: z
      .union([oneKey, keyList, keyObject])
      .optional()
      .describe(
        'Where the key is: `env:NAME`, `file:/path`, or a list to be used in turn. Never the key itself.',
      ),
    limits: limitsSchema.prefault({}).describe('What this account allows; routed around when it is used up.'),
    headers: z
      .record(headerNames, text(HEADER_VALUE, 'must be a line of visible ASCII text'))
      .default({})
      .describe('More headers for every request to this provider.'),
    allowFields: z
      .array(choice(RESTRICTED_FIELDS))
      .max(RESTRICTED_FIELDS.length)
      .default([])
      .describe('Request fields that could steer a provider and are refused unless listed here.'),
    latency: duration({ min: '0s', max: '1h' })
      .optional()
      .describe('Simulated only: time to the first token. Default 0s.'),
    pace: duration({ min: '0s', max: '1h' })
      .optional()
      .describe('Simulated only: time between two tokens. Default 0s.'),
    fault: fault.optional().describe('Simulated only: what goes wrong, to rehearse a failover.'),
    alsoSpeaks: z
      .array(choice(spoken))
      .max(spoken.length)
      .default([])
      .describe(
        'Formats that it takes besides its own, so that what callers send in them passes untouched instead of translated.',
      ),
    quirks: z
      .array(choice(QUIRKS))
      .max(QUIRKS.length)
      .default([])
      .describe(
        'What its server is known to need. Where a request is translated to chat completions: `all-fields` (it has all that OpenAI has), `max-completion-tokens` (instead of `max_tokens`), `no-reasoning-content` (it refuses messages that carry reasoning). For embeddings: `float-embeddings` (it has vectors as lists only, and base64 is made of them here). Where a request is translated to a format whose vendor reads buckets: `bucket-files` (any caller may have its account read files there).',
      ),
    residency: notYet('Where the provider keeps what it is sent.'),
    health: health
      .optional()
      .describe(
        'A request of our own, again and again, to know how the provider is before a caller does: `{ path: /models, every: 10s }`. One of all replicas and workers asks.',
      ),
    apiVersion: text(SETTING, SETTING_MESSAGE)
      .optional()
      .describe("Version of the vendor's API, where its address has one."),
    region: text(SETTING, SETTING_MESSAGE).optional().describe('Region of the account.'),
    project: text(PROJECT, SETTING_MESSAGE).optional().describe('Project of the account.'),
  })
}

function formatsOf(vendors: Vendors, toCome: boolean): string[] {
  return Object.keys(vendors).filter((format) => (vendors[format]?.notYet ?? false) === toCome)
}

// --- tiers and routes ------------------------------------------------------------------------------------

/** The two halves of `provider/model`; the model keeps its own slashes, and `*` is the caller's model (undefined). */
export function splitDeployment(use: string): { provider: string; model: string | undefined } | undefined {
  const slash = use.indexOf('/')
  if (slash === -1) return undefined
  const provider = use.slice(0, slash)
  const model = use.slice(slash + 1)
  if (!NAME.test(provider) || !MODEL.test(model)) return undefined
  return { provider, model: model === '*' ? undefined : model }
}

function parseUse(input: unknown): Parsed<string> {
  if (typeof input === 'string' && splitDeployment(input)) return { ok: true, value: input }
  return {
    ok: false,
    message:
      'must be "provider/model", or "provider/*" for the model the caller named; the model is up to 200 characters of visible ASCII without commas',
  }
}

const use = () =>
  leaf(parseUse, { title: 'provider/model', type: 'string', examples: ['local/gpt-oss-120b'] })

/** US dollars per million tokens; o1-pro's output takes 600. */
const dollars = () => z.number().min(0).max(100_000)

/** `input` and `output` say what a part of them costs by default. */
const tokenPriceKeys = (input: string, output: string) => ({
  input: dollars().describe('Input tokens.'),
  cached: dollars().optional().describe(`Input tokens read from a cache. Default: ${input}.`),
  cacheWrite: dollars().optional().describe(`Input tokens written to a cache. Default: ${input}.`),
  output: dollars().describe('Output tokens.'),
  reasoning: dollars().optional().describe(`Reasoning tokens. Default: ${output}.`),
  audioInput: dollars().optional().describe(`Audio tokens of the input. Default: ${input}.`),
  audioOutput: dollars().optional().describe(`Audio tokens of the output. Default: ${output}.`),
})

const price = z.strictObject({
  ...tokenPriceKeys('`input`', '`output`'),
  long: z
    .strictObject({
      over: z.int().min(1).max(1_000_000_000).describe('Input tokens of the request.'),
      ...tokenPriceKeys(
        'as many times the short one as `input` is',
        'as many times the short one as `output` is',
      ),
    })
    .optional()
    .describe('What every token of a request costs instead when its input is longer.'),
})

const deployment = z.strictObject({
  use: use().describe('`provider/model`; `provider/*` sends the name the caller sent.'),
  weight: z.number().gt(0).max(1_000_000).default(1).describe('Share of the tier under `balance: weighted`.'),
  contextWindow: z
    .int()
    .min(1)
    .max(1_000_000_000)
    .optional()
    .describe('Input and output tokens that it holds; a request too long for one may go to a larger one.'),
  price: price
    .optional()
    .describe(
      "US dollars per million tokens: `{ input: 1.25, cached: 0.125, output: 10 }`. Default: the vendor's list price where it is known; else the deployment is unpriced, and whoever has a budget never reaches it.",
    ),
  prefill: z
    .union([z.boolean(), z.enum(['prefix', 'continue_final_message'])], {
      error: 'must be true, false, "prefix" or "continue_final_message"',
    })
    .default(false)
    .describe(
      'Whether it goes on with an answer that has begun, as its last message (`midStream: resume`): as that stands (`true`), or told so by a member `prefix` of the message or `continue_final_message` of the request. Without it the answer is asked for anew, and spliced where the text agrees.',
    ),
  limits: limitsSchema
    .optional()
    .describe('What this deployment allows; the same in every tier that names it.'),
})

const adaptive = z.strictObject({
  from: duration({ min: '1ms', max: '1h' }).describe('The shortest it may become.'),
  to: duration({ min: '1ms', max: '1h' }).describe('The longest, and the one while little is known.'),
})

const tier = z.strictObject({
  deployments: z
    .array(z.union([use(), deployment]))
    .min(1, { error: 'must name at least one deployment' })
    .max(64)
    .optional()
    .describe('Interchangeable deployments. Either these or `reply`.'),
  reply: z
    .string()
    .min(1)
    .max(65_536)
    .optional()
    .describe('The last resort: this text is the answer, and no provider is called.'),
  balance: choice(['weighted', 'latency'])
    .default('weighted')
    .describe(
      'How calls are spread over the deployments: by weight, or of two drawn by weight to the one that answers sooner. A request with `prompt_cache_key` goes where that key went before.',
    ),
  firstToken: z
    .union([duration({ min: '1ms', max: '1h' }), adaptive])
    .prefault('15s')
    .describe(
      'Streams: longest wait for the first content before the next deployment is tried; with `{ from, to }` twice the 95th percentile of its own recent streams, between these bounds.',
    ),
  firstByte: duration({ min: '1ms', max: '1h' })
    .optional()
    .describe('Whole replies: longest wait for the first byte. Default: `attempt`.'),
  idle: duration({ min: '1ms', max: '1h' })
    .prefault('30s')
    .describe('Longest silence between two pieces of an answer.'),
  attempt: duration({ min: '1ms', max: '1h' }).prefault('300s').describe('Longest time for one call.'),
  connect: duration({ min: '1ms', max: '1m' }).prefault('5s').describe('Longest time to connect.'),
  retries: z
    .int()
    .min(0)
    .max(10)
    .default(1)
    .describe('Second calls to the same deployment after a passing error.'),
  patience: duration({ min: '0s', max: '5m' })
    .prefault('0s')
    .describe('Longest `retry-after` that is waited out when nobody else in the tier can answer.'),
  hedge: z
    .strictObject({
      after: z
        .union([z.literal('p95'), duration({ min: '1ms', max: '1h' })])
        .describe(
          'How long the first call may be silent: `p95` of its recent streams, as soon as twenty are known, or a duration.',
        ),
      atMost: z
        .number()
        .gt(0)
        .max(1)
        .default(0.05)
        .describe('Second calls as a share of the requests that this tier answers first.'),
    })
    .optional()
    .describe(
      'Asks another deployment of the tier as well when the first is slow to begin; the first to answer is heard, the other called off. Both are paid.',
    ),
  needsReview: z
    .boolean()
    .default(false)
    .describe('Marks answers of this tier with `x-sluice-needs-review`.'),
})

const tierList = z.array(name()).min(1, { error: 'must name at least one tier' }).max(16)

const route = z.strictObject({
  tiers: tierList.describe('Names of tiers in the order they are tried.'),
  midStream: choice(['error', 'resume']).optional().describe('As `failover.midStream`, for this route.'),
  limits: limitsSchema.prefault({}).describe('Limits of all requests to this route together.'),
  deadline: duration({ min: '1ms', max: '1d' })
    .optional()
    .describe('Longest time for one request. Default: `failover.deadline`.'),
})

// --- the whole file --------------------------------------------------------------------------------------

/** Schema of the configuration file, for the formats that there are. */
export function configSchema(vendors: Vendors) {
  return z.strictObject({
    listen: listen.prefault({}).describe('The side of the agents.'),
    admin: admin.prefault({}).describe('The side of the operators.'),
    secrets: z
      .strictObject({
        groupReadable: z
          .boolean()
          .default(false)
          .describe('Whether a key file may be readable by its group (mode 0440).'),
      })
      .prefault({})
      .describe('How secrets are read.'),
    redis: redis.optional().describe('Where limits are counted for all replicas. Absent: in this gateway.'),
    policies: z
      .string()
      .min(1)
      .max(4_096)
      .optional()
      .describe(
        "Folder of the agents' files, one agent each, relative to this file. Default: `./policies` if it is there.",
      ),
    operations: z
      .array(choice(OPERATIONS))
      .min(1, { error: 'must name at least one operation' })
      .default([...USUAL_OPERATIONS])
      .describe(
        'What this gateway serves at all. `images`, `audio` and `moderations` are passed as they are to providers that have them.',
      ),
    limits: limitsSchema.prefault({}).describe('Limits of the whole gateway.'),
    providers: z
      .record(name(), provider(vendors))
      .prefault({})
      .describe('Accounts at vendors and local servers, by a name of your choice.'),
    tiers: z
      .record(name(), tier)
      .prefault({})
      .describe('Groups of interchangeable deployments, by a name of your choice.'),
    routes: z
      .record(
        text(
          PUBLIC_MODEL,
          'must be up to 200 characters of visible ASCII; `*` stands for any run of characters',
        ),
        z.union([tierList, route]),
      )
      .prefault({})
      .describe(
        'Public model name, or a glob of names, to the tiers that answer it; the most specific name wins.',
      ),
    failover: failover.prefault({}).describe('What happens when a deployment does not answer.'),
    log: z
      .strictObject({
        level: choice(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
          .default('info')
          .describe('Least important line that is written; `listening` always is, but for `silent`.'),
      })
      .prefault({})
      .describe('The log.'),
  })
}

// --- an agent's file -------------------------------------------------------------------------------------

/** `operation:glob` as a Scope. */
export function parseScope(input: unknown): Parsed<Scope> {
  const known = OPERATIONS.join(', ')
  const hint = `must be "operation:model", for example "chat:*"; operations are ${known}`
  if (typeof input !== 'string') return { ok: false, message: hint }
  const colon = input.indexOf(':')
  const operation = OPERATIONS.find((word) => word === input.slice(0, colon))
  const models = input.slice(colon + 1)
  if (colon === -1) return { ok: false, message: hint }
  if (!operation) return { ok: false, message: `names an unknown operation; operations are ${known}` }
  if (!PUBLIC_MODEL.test(models)) return { ok: false, message: hint }
  return { ok: true, value: { operation, models } }
}

/** `YYYY-MM-DD` as Unix ms of its 00:00 UTC. */
export function parseDate(input: unknown): Parsed<number> {
  const hint = { ok: false, message: 'must be a date such as "2027-02-19"' } as const
  if (typeof input !== 'string' || !/^[2-9]\d{3}-\d{2}-\d{2}$/.test(input)) return hint
  const ms = Date.parse(`${input}T00:00:00Z`)
  // Date.parse rolls 31 February over into March.
  if (Number.isNaN(ms) || new Date(ms).toISOString().slice(0, 10) !== input) return hint
  return { ok: true, value: ms }
}

const scopeLook = { title: 'scope', type: 'string', examples: ['chat:*'] } as const

const bearer = z.strictObject({
  id: name().describe('What the log and the metrics call it; never the bearer itself.'),
  sha256: text(
    /^[0-9A-Fa-f]{64}$/,
    'must be 64 hex digits in quotes: the SHA-256 of the bearer, never the bearer itself',
  )
    .toLowerCase()
    .describe('SHA-256 of the whole bearer, as `sluice bearer new` prints it.'),
  expires: leaf(parseDate, { title: 'date', type: 'string', examples: ['2027-02-19'] })
    .optional()
    .describe('Refused from 00:00 UTC of that day.'),
  limits: limitsSchema.prefault({}).describe('Limits of this bearer, within those of its agent.'),
})

/** Schema of one file in `policies`. */
export const agentSchema = z.strictObject({
  agent: name().describe('Name of the agent; the file may be called anything.'),
  role: z.string().min(1).max(200).optional().describe('What it is for, in a word.'),
  class: choice(['critical', 'normal', 'batch'])
    .default('normal')
    .describe(
      'Who gives way first. Where the gateway itself has too much to do: `batch`, then `normal`, `critical` last. At a deployment whose quota is low: `critical` stays, `normal` in part, `batch` goes elsewhere.',
    ),
  bearers: z.array(bearer).max(1_000).prefault([]).describe('Its credentials; with none it cannot call.'),
  scopes: z
    .array(leaf(parseScope, scopeLook))
    .max(1_000)
    .prefault([])
    .describe('What it may do, `operation:model`; nothing is allowed unless a scope says so.'),
  deny: z
    .array(leaf(parseScope, scopeLook))
    .max(1_000)
    .prefault([])
    .describe('What it may not do, whatever `scopes` says.'),
  limits: agentLimits.prefault({}).describe('Limits of all its bearers together.'),
  logPrompts: notYet('Write prompts and replies of this agent to the log.'),
})

export type Config = z.output<ReturnType<typeof configSchema>>
export type RedisFile = NonNullable<Config['redis']>
export type AgentFile = z.output<typeof agentSchema>
export type LimitsFile = z.output<typeof limitsSchema>
export type ProviderFile = Config['providers'][string]
export type TierFile = Config['tiers'][string]
export type DeploymentFile = z.output<typeof deployment>
export type PriceFile = z.output<typeof price>
