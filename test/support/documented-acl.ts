// The users that deploy/redis.md tells operators to make, taken from the page itself.

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { TestRedis } from './redis.ts'
import { field } from './redis-forms.ts'

export interface DocumentedUser {
  readonly name: string
  readonly password: string
  /** Commands that it may use, lower case, with a blank between command and subcommand. */
  readonly commands: readonly string[]
  /** `name:password` as a URL has it. */
  readonly userinfo: string
  /** Makes the user on a server. */
  create(server: Pick<TestRedis, 'command'>): Promise<void>
}

/** Commands that a server has run for anybody, from `commandstats`. */
export async function usedCommands(server: Pick<TestRedis, 'command'>): Promise<Set<string>> {
  const stats = String(await server.command('INFO', 'commandstats'))
  return new Set(
    [...stats.matchAll(/^cmdstat_(\S+?):calls=/gm)].map(([, name = '']) => name.replace('|', ' ')),
  )
}

/** What a server has refused to a user: commands, keys and channels, but not wrong passwords. */
export async function refusedTo(user: DocumentedUser, server: Pick<TestRedis, 'command'>): Promise<string[]> {
  const log = await server.command('ACL', 'LOG')
  return (Array.isArray(log) ? log : [])
    .filter((entry) => field(entry, 'username') === user.name && field(entry, 'reason') !== 'auth')
    .map((entry) => `${field(entry, 'reason')} ${field(entry, 'object')}`)
}

/** One Redis, a node of a cluster, or a sentinel. */
export function documentedUser(where: 'redis' | 'cluster' | 'sentinel'): DocumentedUser {
  const page = readFileSync(resolve(import.meta.dirname, '../../deploy/redis.md'), 'utf8')
  const block = (name: string): string => {
    const found = new RegExp(`^\`\`\`${name}\\n([^\`]*)\`\`\`$`, 'm').exec(page)?.[1]
    if (found === undefined) throw new Error(`deploy/redis.md has no block ${name}`)
    return found
  }
  const text =
    where === 'sentinel'
      ? block('acl-sentinel')
      : block('acl') + (where === 'cluster' ? block('acl-cluster') : '')
  const [user, name = '', ...rules] = text.trim().split(/\s+/)
  if (user !== 'user') throw new Error('the line does not begin with "user"')
  const password = 'acl-canary-7Qx2'
  const words = rules.map((rule) => rule.replace('REPLACE-ME', password))
  return {
    name,
    password,
    userinfo: `${name}:${password}`,
    commands: words.filter((rule) => rule.startsWith('+')).map((rule) => rule.slice(1).replace('|', ' ')),
    async create(server) {
      await server.command('ACL', 'SETUSER', name, 'reset', ...words)
    },
  }
}
