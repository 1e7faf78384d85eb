// The PEM files of a connection to Redis: read once, judged in words, and never part of a message.

import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { RedisSettings, RedisTls } from '../../../src/config/snapshot.ts'
import { resolveRedis } from '../../../src/secrets/redis-access.ts'
import { createAuthority } from '../../support/certificates.ts'
import { temporaryFolder } from '../../support/run-folder.ts'

const folder = temporaryFolder('pem')
const authority = createAuthority()
const own = authority.issue('sluice')
const around = { env: {}, uid: process.getuid?.(), groupReadable: false }

function file(name: string, text: string, mode = 0o600): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  chmodSync(path, mode)
  return path
}

const ca = file('ca.pem', authority.ca, 0o644)
const cert = file('cert.pem', own.cert, 0o644)
const key = file('key.pem', own.key)

async function access(tls: Partial<RedisTls>, url = 'rediss://redis.test') {
  const settings: RedisSettings = {
    kind: 'url',
    url,
    tls: { ca: undefined, cert: undefined, key: undefined, servername: undefined, ...tls },
    onOutage: 'local',
    replicas: 1,
  }
  return resolveRedis(settings, () => undefined, around)
}

test('reads the files that are named', async () => {
  expect((await access({ ca, cert, key, servername: 'redis.test' })).servers).toMatchObject({
    login: { tls: { ca: authority.ca, ...own, servername: 'redis.test' } },
  })
})

test.each<[string, Partial<RedisTls>, string, string]>([
  ['is not there', { ca: join(folder, 'none.pem') }, 'redis.tls.ca', 'none.pem: there is no such file'],
  ['is no certificate', { ca: key }, 'redis.tls.ca', 'holds no certificate in PEM'],
  ['is no key', { cert, key: cert }, 'redis.tls.key', 'needs 0400 or 0600'],
  ['others may read', { cert, key: file('open.pem', own.key, 0o644) }, 'redis.tls.key', 'needs 0400 or 0600'],
  ['is not PEM', { cert, key: file('x.pem', 'canary') }, 'redis.tls.key', 'holds no private key in PEM'],
  [
    'is of another certificate',
    { cert, key: file('other.pem', authority.issue('x').key) },
    'redis.tls.key',
    'is not the key of redis.tls.cert',
  ],
])('says of a file that it %s', async (_, tls, path, message) => {
  const { problems } = await access(tls)
  expect(problems).toEqual([{ path, message: expect.stringContaining(message) }])
  expect(JSON.stringify(problems)).not.toMatch(/canary|PRIVATE/)
})

test('says that the files are for nothing when there is no TLS', async () => {
  expect((await access({ ca }, 'redis://redis.test')).problems).toEqual([
    { path: 'redis.tls', message: 'has no effect, because no URL begins with rediss://' },
  ])
})
