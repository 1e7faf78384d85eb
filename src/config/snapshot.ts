// What a configuration means once it is compiled: maps instead of lists, numbers instead of text, built once.
// A Snapshot is immutable; a reload makes a new one and swaps the reference.

import type {
  Agent,
  Bearer,
  Deployment,
  Failover,
  Limits,
  Operation,
  Provider,
  Route,
  SecretReference,
  Tier,
} from '../types.ts'

export interface Snapshot {
  /** Path of the configuration file, or `environment`. */
  readonly source: string
  /** Folder of the agents' files, absolute; undefined when agents were made up for this run. */
  readonly policiesPath: string | undefined
  readonly listen: Listen
  readonly admin: Admin
  readonly redis: RedisSettings | undefined
  readonly secrets: { readonly groupReadable: boolean }
  readonly operations: ReadonlySet<Operation>
  /** Limits of the whole gateway. */
  readonly limits: Limits
  readonly failover: Failover
  readonly log: { readonly level: LogLevel }
  readonly providers: ReadonlyMap<string, Provider>
  /** Every deployment of every tier, by `provider/model`. */
  readonly deployments: ReadonlyMap<string, Deployment>
  readonly tiers: ReadonlyMap<string, Tier>
  /** By name as written; order is that of the file. */
  readonly routes: ReadonlyMap<string, Route>
  readonly agents: ReadonlyMap<string, Agent>
  /** By lower-case hex SHA-256. */
  readonly bearers: ReadonlyMap<string, Bearer>
  /** What is legal but worth a word to the operator. */
  readonly warnings: readonly string[]
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

export interface Listen {
  readonly host: string
  readonly port: number
  /** Processes that answer agents; `auto` is one for each core. */
  readonly workers: number | 'auto'
  /** CIDR ranges whose `x-forwarded-for` is believed. */
  readonly trustedProxies: readonly string[]
  readonly maxBodyBytes: number
  /** This and the next of all processes together. */
  readonly bodyBudgetBytes: number
  readonly maxConnections: number
  readonly drainMs: number
  readonly drainNoticeMs: number
}

export interface Admin {
  readonly host: string
  readonly port: number
  readonly token: SecretReference | undefined
}

/** Where Redis is, as written: each text is a literal or a secret reference. */
export type RedisPlace =
  | { readonly kind: 'url'; readonly url: string }
  | { readonly kind: 'sentinel'; readonly sentinels: readonly string[]; readonly master: string }
  | { readonly kind: 'cluster'; readonly cluster: readonly string[] }

/** Absolute paths of PEM files, and the name that a certificate must have. */
export interface RedisTls {
  readonly ca: string | undefined
  readonly cert: string | undefined
  readonly key: string | undefined
  readonly servername: string | undefined
}

export type RedisSettings = RedisPlace & {
  readonly tls: RedisTls | undefined
  readonly onOutage: 'local' | 'deny'
  /** How many replicas to assume, at least, while the fleet cannot be seen. */
  readonly replicas: number
}
