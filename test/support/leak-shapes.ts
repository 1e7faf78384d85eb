// The ways in which a secret gets into a log line, each as a call on a logger: the table behind the leak tests.
// Knows no scrubber; every shape hands the logger the secret as plainly as a careless programmer would.

import { format, inspect } from 'node:util'

/** What the shapes need of pino. */
export interface LeakLogger {
  info(first: unknown, ...rest: unknown[]): void
  error(first: unknown, ...rest: unknown[]): void
  child(bindings: Record<string, unknown>): LeakLogger
}

export interface LeakShape {
  readonly name: string
  /** `write` goes straight to the logger's destination; without it the shape logs the parts joined. */
  log(logger: LeakLogger, secret: string, write?: (text: string) => void): void
}

function upstreamError(secret: string): Error {
  const config = { url: 'https://api.example.test/v1', headers: { Authorization: `Bearer ${secret}` } }
  return Object.assign(new Error('Request failed with status code 401'), { config })
}

/** At least the 26 shapes of reliability §3.6, most of which pass pino's redaction by path. */
export const leakShapes: LeakShape[] = [
  { name: 'header', log: (l, s) => l.info({ headers: { authorization: `Bearer ${s}` } }, 'request') },
  {
    name: 'header in another case',
    log: (l, s) => l.info({ headers: { AUTHORIZATION: `Bearer ${s}` } }, 'request'),
  },
  {
    name: 'header of an unknown name',
    log: (l, s) => l.info({ headers: { 'x-vendor-credential': s } }, 'request'),
  },
  {
    name: 'deeper than the wildcards',
    log: (l, s) => l.info({ a: { b: { c: { d: { e: { f: { apiKey: s } } } } } } }),
  },
  { name: 'array', log: (l, s) => l.info({ keys: ['first', s, 'last'] }) },
  { name: 'array of objects', log: (l, s) => l.info({ providers: [{ name: 'a', key: s }] }) },
  { name: 'message', log: (l, s) => l.info(`calling with ${s} now`) },
  { name: '%s', log: (l, s) => l.info('calling with %s now', s) },
  { name: '%o', log: (l, s) => l.info('calling with %o now', { key: s }) },
  { name: '%j', log: (l, s) => l.info('calling with %j now', { key: s }) },
  { name: 'Error.message', log: (l, s) => l.error(new Error(`Incorrect API key provided: ${s}.`)) },
  { name: 'Error.stack', log: (l, s) => l.error({ stack: new Error(`no such key ${s}`).stack }, 'failed') },
  { name: 'err.config.headers', log: (l, s) => l.error({ err: upstreamError(s) }, 'failed') },
  { name: 'cause', log: (l, s) => l.error(new Error('failed', { cause: new Error(`key ${s} refused`) })) },
  {
    name: 'cause of a cause',
    log: (l, s) =>
      l.error({ err: new Error('failed', { cause: new Error('inner', { cause: new Error(s) }) }) }),
  },
  {
    name: 'AggregateError',
    log: (l, s) =>
      l.error(new AggregateError([new Error('one'), new Error(`two: ${s}`)], 'all attempts failed')),
  },
  {
    name: 'URL query',
    log: (l, s) => l.info({ url: `https://api.example.test/v1/models?alt=sse&key=${s}` }),
  },
  {
    name: 'URL object',
    log: (l, s) => l.info({ url: new URL(`https://user:${encodeURIComponent(s)}@example.test/`) }),
  },
  {
    name: 'JSON string in a string',
    log: (l, s) => l.info({ body: JSON.stringify({ config: JSON.stringify({ k: s }) }) }),
  },
  { name: 'rawHeaders', log: (l, s) => l.info({ rawHeaders: ['Host', 'example.test', 'X-Api-Key', s] }) },
  {
    name: 'header entries',
    log: (l, s) => l.info({ headers: [...new Headers({ 'x-note': 'x' })].concat([['x-api-key', s]]) }),
  },
  { name: 'toJSON', log: (l, s) => l.info({ provider: { toJSON: () => ({ name: 'a', credential: s }) } }) },
  {
    name: 'toJSON that gives a string',
    log: (l, s) => l.info({ provider: { toJSON: () => `provider with ${s}` } }),
  },
  { name: 'child bindings', log: (l, s) => l.child({ agent: 'a', bearer: s }).info('hello') },
  {
    name: 'deep child bindings',
    log: (l, s) =>
      l
        .child({ a: { b: { c: s } } })
        .child({ d: { e: [s] } })
        .info({ f: 1 }, 'hello'),
  },
  { name: 'object key', log: (l, s) => l.info({ bearers: { [s]: { agent: 'a' } } }) },
  { name: 'base64, first alignment', log: (l, s) => l.info({ blob: Buffer.from(s).toString('base64') }) },
  {
    name: 'base64, second alignment',
    log: (l, s) => l.info({ auth: Buffer.from(`x:yz${s}!`).toString('base64') }),
  },
  {
    name: 'base64, third alignment',
    log: (l, s) => l.info({ auth: Buffer.from(`user:${s}`).toString('base64url') }),
  },
  { name: 'URL-encoded', log: (l, s) => l.info(`GET /callback?state=${encodeURIComponent(s)}&x=1`) },
  {
    name: 'form',
    log: (l, s) => l.info({ body: new URLSearchParams({ grant: 'x', client: s }).toString() }),
  },
  { name: 'hex', log: (l, s) => l.info({ dump: Buffer.from(`..${s}..`).toString('hex') }) },
  { name: 'Buffer', log: (l, s) => l.info({ body: Buffer.from(`POST / HTTP/1.1\r\n${s}`) }) },
  { name: 'Buffer, printed', log: (l, s) => l.info(`sent ${inspect(Buffer.from(s))}`) },
  { name: 'Map, printed', log: (l, s) => l.info(inspect(new Map([['x-api-key', s]]))) },
  { name: 'Set, printed', log: (l, s) => l.info(format('%O', new Set([s]))) },
  { name: 'symbol', log: (l, s) => l.info(`missing ${String(Symbol(s))}`) },
  { name: 'symbol key, printed', log: (l, s) => l.info(inspect({ [Symbol('key')]: s })) },
  {
    name: 'getter',
    log(l, s) {
      l.info({
        get credential() {
          return s
        },
      })
    },
  },
  { name: 'inside a larger word', log: (l, s) => l.info(`cache-key:provider_${s}_v2/models`) },
  { name: 'template of an environment', log: (l, s) => l.info(`ANTHROPIC_API_KEY=${s} node main.js`) },
  { name: 'multi-line text', log: (l, s) => l.info(`first line\n${s}\nlast line`) },
  { name: 'command line', log: (l, s) => l.info({ argv: ['node', 'main.js', `--key=${s}`] }) },
  {
    name: 'split over writes',
    log(l, s, write) {
      const middle = Math.floor(s.length / 2)
      if (write === undefined) l.info(s.slice(0, middle) + s.slice(middle))
      else for (const part of ['plain text ', s.slice(0, middle), s.slice(middle), '\n']) write(part)
    },
  },
]
