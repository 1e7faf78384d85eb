// What is needed to reach Redis, from references and PEM files: for a start, and for `sluice check`. Reads files once;
// a certificate that was renewed is taken with a restart.

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { formatPath } from '../config/problems.ts'
import { type RedisServers, type TlsMaterial, toServers } from '../config/redis-servers.ts'
import type { RedisSettings, RedisTls, Snapshot } from '../config/snapshot.ts'
import { type Problem, referencesOf } from './keyring.ts'
import { isReference, readKeyFile, reasonOf, resolveReference, type Surroundings } from './reference.ts'

export type RedisAccess =
  | { readonly servers: RedisServers; readonly problems: readonly [] }
  | { readonly servers: undefined; readonly problems: readonly Problem[] }

/** A bundle of every public authority is about 220 kB. */
const MOST_BYTES = 4 * 1024 * 1024

/**
 * Resolves and checks the whole redis part. `reveal` gives the value of a reference; one without a value is left
 * out of the problems, because the keyring names it. Never throws.
 */
export async function resolveRedis(
  settings: RedisSettings,
  reveal: (reference: string) => string | undefined,
  around: Surroundings,
): Promise<RedisAccess> {
  const { material, problems } = await readTls(settings.tls, around)
  const outcome = toServers(settings, material, (text) => (isReference(text) ? reveal(text) : text))
  if (!outcome.ok) {
    for (const { path, message } of outcome.problems)
      problems.push({ path: formatPath(['redis', ...path]), message })
  }
  return outcome.ok && problems.length === 0
    ? { servers: outcome.servers, problems: [] }
    : { servers: undefined, problems }
}

/** What would keep a start from reaching Redis, beyond references without a value: `verifySecrets` names those. */
export async function verifyRedis(
  snapshot: Pick<Snapshot, 'providers' | 'admin' | 'redis'>,
  around: Surroundings,
): Promise<readonly Problem[]> {
  if (snapshot.redis === undefined) return []
  const values = new Map<string, string | undefined>()
  for (const { reference, use } of referencesOf(snapshot))
    values.set(reference, (await resolveReference(reference, around, use)).value)
  return (await resolveRedis(snapshot.redis, (reference) => values.get(reference), around)).problems
}

async function readTls(
  tls: RedisTls | undefined,
  around: Surroundings,
): Promise<{ material: TlsMaterial | undefined; problems: Problem[] }> {
  const problems: Problem[] = []
  if (tls === undefined) return { material: undefined, problems }
  async function read(key: 'ca' | 'cert' | 'key', parse: (pem: string) => unknown) {
    const path = tls?.[key]
    if (path === undefined) return undefined
    const content = key === 'key' ? await readKeyFile(path, around) : await readPublic(path)
    let problem = 'problem' in content ? content.problem : undefined
    if ('text' in content) {
      try {
        parse(content.text)
        return content.text
      } catch {
        problem = key === 'key' ? 'holds no private key in PEM' : 'holds no certificate in PEM'
      }
    }
    problems.push({ path: `redis.tls.${key}`, message: `${path}: ${problem}` })
    return undefined
  }
  const ca = await read('ca', (pem) => new X509Certificate(pem))
  const cert = await read('cert', (pem) => new X509Certificate(pem))
  const key = await read('key', (pem) => createPrivateKey(pem))
  if (cert !== undefined && key !== undefined) {
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)))
      problems.push({ path: 'redis.tls.key', message: 'is not the key of redis.tls.cert' })
  }
  return { material: { ca, cert, key, servername: tls.servername }, problems }
}

async function readPublic(path: string): Promise<{ text: string } | { problem: string }> {
  try {
    const bytes = await readFile(path)
    return bytes.length > MOST_BYTES ? { problem: 'is larger than 4 MiB' } : { text: bytes.toString('utf8') }
  } catch (error) {
    return { problem: reasonOf(error) }
  }
}
