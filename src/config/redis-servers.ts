// What the redis part of a configuration says once its references are resolved: addresses, logins, TLS. Pure; no
// message repeats what it judges, because a URL may hold a password.

import type { RedisPlace } from './snapshot.ts'
import type { Parsed } from './values.ts'

/** PEM texts and the name that the certificate must have; what is undefined is Node's default. */
export interface TlsMaterial {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | undefined
  readonly servername?: string | undefined
}

export interface RedisAddress {
  readonly host: string
  readonly port: number
}

/** Who we are to a server, and how its connections are made: TLS exactly when `tls` is there. */
export interface RedisLogin {
  readonly username: string | undefined
  readonly password: string | undefined
  readonly tls: TlsMaterial | undefined
}

/** Everything that is needed to connect; it holds passwords and keys, so it is never printed. */
export type RedisServers =
  | {
      readonly kind: 'url'
      readonly address: RedisAddress
      readonly login: RedisLogin
      readonly database: number
    }
  | {
      readonly kind: 'sentinel'
      readonly sentinels: readonly RedisAddress[]
      readonly sentinelLogin: RedisLogin
      /** Name that the sentinels watch. */
      readonly master: string
      /** For the master and its replicas. */
      readonly login: RedisLogin
      readonly database: number
    }
  | { readonly kind: 'cluster'; readonly nodes: readonly RedisAddress[]; readonly login: RedisLogin }

/** A mistake, with the key below `redis` where it stands. */
export interface ServerProblem {
  readonly path: readonly (string | number)[]
  readonly message: string
}

export type ServersOutcome =
  | { readonly ok: true; readonly servers: RedisServers }
  | { readonly ok: false; readonly problems: readonly ServerProblem[] }

interface RedisUrl {
  readonly secure: boolean
  readonly host: string
  readonly port: number | undefined
  readonly username: string | undefined
  readonly password: string | undefined
  readonly database: number | undefined
}

export const REDIS_URL = /^rediss?:\/\//
const MASTER_NAME = /^[A-Za-z0-9._-]{1,255}$/
const SENTINEL_PORT = 26_379
const REDIS_PORT = 6_379
/** Redis itself would take a setting of millions, of which nobody makes use: more digits are a slip, or a port. */
const MOST_DATABASE = 9_999
/** What Redis has unless its `databases` says otherwise. */
const LAST_USUAL_DATABASE = 15
const USUAL_DATABASES = `Redis has 0 to ${LAST_USUAL_DATABASE} unless its "databases" setting says otherwise`

/** `redis://user:password@host:6379/0`, or `rediss://` for TLS. */
export function readRedisUrl(text: string): Parsed<RedisUrl> {
  const wrong = (message: string) => ({ ok: false, message }) as const
  const form = wrong('must be a URL such as "redis://127.0.0.1:6379"')
  if (!REDIS_URL.test(text) || text.length > 4_096 || !URL.canParse(text)) return form
  const url = new URL(text)
  if (url.hostname === '' || url.port === '0') return form
  if (/[?#]/.test(text)) {
    return wrong(
      'must have no query and no fragment; a "?" or "#" of a password is written as "%3F" or "%23"',
    )
  }
  const database = /^\/?(\d*)$/.exec(url.pathname)?.[1]
  if (database === undefined)
    return wrong('may name a database by its number and nothing else behind the host')
  if (Number(database) > MOST_DATABASE)
    return wrong(
      `names a database that there cannot be; ${USUAL_DATABASES}, and ${MOST_DATABASE} is the highest number taken here`,
    )
  try {
    return {
      ok: true,
      value: {
        secure: url.protocol === 'rediss:',
        host: url.hostname.replace(/^\[|\]$/g, ''),
        port: url.port === '' ? undefined : Number(url.port),
        username: decodeURIComponent(url.username) || undefined,
        password: decodeURIComponent(url.password) || undefined,
        database: database === '' ? undefined : Number(database),
      },
    }
  } catch {
    return wrong('has a user or password with a "%" that is not written as "%25"')
  }
}

/** The name that sentinels watch, alone or as the host of a URL with what its servers ask for. */
export function readMaster(text: string): Parsed<Omit<RedisUrl, 'secure'> & { secure: boolean | undefined }> {
  if (MASTER_NAME.test(text)) {
    const bare = { port: undefined, username: undefined, password: undefined, database: undefined }
    return { ok: true, value: { ...bare, host: text, secure: undefined } }
  }
  const hint = {
    ok: false,
    message:
      'must be the name that the sentinels watch, alone or as the host of a URL such as "redis://user@main/0"',
  } as const
  if (!REDIS_URL.test(text)) return hint
  const url = readRedisUrl(text)
  if (!url.ok) return url
  return url.value.port === undefined && MASTER_NAME.test(url.value.host) ? url : hint
}

/** What an operator is told whose URL names a database that not every Redis has; undefined where it is a usual one. */
export function databaseWarning(text: string): string | undefined {
  const url = readRedisUrl(text)
  return url.ok && (url.value.database ?? 0) > LAST_USUAL_DATABASE
    ? `names a database over ${LAST_USUAL_DATABASE}; ${USUAL_DATABASES}, and without it limits are not shared`
    : undefined
}

/**
 * Puts together what `place` names. `reveal` gives the text behind a reference (and literals as they stand), or
 * undefined when there is none: that was complained about elsewhere, so the outcome then has no problems.
 */
export function toServers(
  place: RedisPlace,
  tls: TlsMaterial | undefined,
  reveal: (text: string) => string | undefined,
): ServersOutcome {
  const problems: ServerProblem[] = []
  let missing = false
  function read<T>(path: ServerProblem['path'], text: string, parse: (text: string) => Parsed<T>) {
    const revealed = reveal(text)
    if (revealed === undefined) missing = true
    else {
      const parsed = parse(revealed)
      if (parsed.ok) return parsed.value
      problems.push({ path, message: parsed.message })
    }
    return undefined
  }
  function list(key: string, texts: readonly string[]): RedisUrl[] {
    const urls = texts.map((text, index) => read([key, index], text, readRedisUrl))
    const first = urls[0]
    urls.forEach((url, index) => {
      if (url?.database !== undefined && (key === 'sentinels' || url.database !== 0))
        problems.push({ path: [key, index], message: 'cannot name a database; there is none here but 0' })
      if (!url || !first) return
      if (url.secure !== first.secure)
        problems.push({ path: [key, index], message: 'must be redis:// or rediss:// as the first one is' })
      if (url.username !== first.username || url.password !== first.password)
        problems.push({ path: [key, index], message: 'must have the user and password of the first one' })
    })
    return urls.filter((url) => url !== undefined)
  }
  const login = ({ username, password }: Omit<RedisUrl, 'secure'>, secure: boolean): RedisLogin => ({
    username,
    password,
    tls: secure ? (tls ?? {}) : undefined,
  })
  const done = (servers: RedisServers | undefined, secure: boolean): ServersOutcome => {
    if (servers !== undefined && tls !== undefined && !secure)
      problems.push({ path: ['tls'], message: 'has no effect, because no URL begins with rediss://' })
    return servers === undefined || problems.length > 0 || missing
      ? { ok: false, problems }
      : { ok: true, servers }
  }

  switch (place.kind) {
    case 'url': {
      const url = read(['url'], place.url, readRedisUrl)
      if (url === undefined) return done(undefined, false)
      const address = { host: url.host, port: url.port ?? REDIS_PORT }
      const servers = {
        kind: 'url',
        address,
        login: login(url, url.secure),
        database: url.database ?? 0,
      } as const
      return done(servers, url.secure)
    }
    case 'sentinel': {
      const urls = list('sentinels', place.sentinels)
      const master = read(['master'], place.master, readMaster)
      const [first] = urls
      if (first === undefined || master === undefined) return done(undefined, false)
      const secure = master.secure ?? first.secure
      return done(
        {
          kind: 'sentinel',
          sentinels: urls.map(({ host, port }) => ({ host, port: port ?? SENTINEL_PORT })),
          sentinelLogin: login(first, first.secure),
          master: master.host,
          login: login(master, secure),
          database: master.database ?? 0,
        },
        secure || first.secure,
      )
    }
    case 'cluster': {
      const urls = list('cluster', place.cluster)
      const [first] = urls
      if (first === undefined) return done(undefined, false)
      const nodes = urls.map(({ host, port }) => ({ host, port: port ?? REDIS_PORT }))
      return done({ kind: 'cluster', nodes, login: login(first, first.secure) }, first.secure)
    }
  }
}

/** The texts of a place, literal or reference, each with its key below `redis`. */
export function textsOf(place: RedisPlace): { readonly path: (string | number)[]; readonly text: string }[] {
  switch (place.kind) {
    case 'url':
      return [{ path: ['url'], text: place.url }]
    case 'sentinel':
      return [
        ...place.sentinels.map((text, index) => ({ path: ['sentinels', index], text })),
        { path: ['master'], text: place.master },
      ]
    case 'cluster':
      return place.cluster.map((text, index) => ({ path: ['cluster', index], text }))
  }
}
