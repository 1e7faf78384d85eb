// A client of src/quota over a server of the tests, with what it logs, and a script whose every run can be counted.

import { createHash, randomUUID } from 'node:crypto'
import type { RedisServers } from '../../src/config/redis-servers.ts'
import { createRedisClient, type RedisClient } from '../../src/quota/client.ts'
import type { Call, Script } from '../../src/quota/script.ts'
import { systemTimers } from '../../src/quota/store.ts'

export interface OpenClient {
  readonly client: RedisClient
  /** One text per line. */
  readonly logged: readonly string[]
  /** What `connect` said. */
  readonly connected: boolean
}

const open: RedisClient[] = []

/** Makes a client and starts connecting; closed by `closeClients`. */
export async function openClient(
  servers: RedisServers,
  scripts: readonly Script[] = [MARK],
): Promise<OpenClient> {
  const logged: string[] = []
  const keep = (fields: unknown, message: string): void => void logged.push(JSON.stringify(fields) + message)
  const client = createRedisClient(servers, {
    timers: systemTimers,
    log: { info: keep, warn: keep },
    random: Math.random,
    scripts,
  })
  open.push(client)
  return { client, logged, connected: await client.connect() }
}

export function closeClients(): void {
  for (const client of open.splice(0)) client.close()
}

/**
 * Counts runs by their mark in a hash: a mark with a count of two ran twice. With commands that the scripts of
 * src/quota use too, so that the user of deploy/redis.md may run it.
 */
export const MARK: Script = toScript(`
  local runs, flat = 1, redis.call('HGETALL', KEYS[1])
  for i = 1, #flat, 2 do
    if flat[i] == ARGV[1] then runs = tonumber(flat[i + 1]) + 1 end
  end
  redis.call('HSET', KEYS[1], ARGV[1], runs)
  return runs`)

export function toScript(lua: string): Script {
  return { lua, sha: createHash('sha1').update(lua).digest('hex') }
}

/** A run of MARK with a mark of its own. */
export function markCall(key: string): Call {
  return { keys: [key], args: [randomUUID()] }
}

/** Resolves with the next message of `listen`, or rejects after 20 s. */
export function next<T>(what: string, listen: (done: (value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what} did not come within 20 s`)), 20_000)
    listen((value) => {
      clearTimeout(timer)
      resolve(value)
    })
  })
}
