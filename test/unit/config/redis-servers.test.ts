// Where Redis is: the three ways to say it, what may not stand together, and what URLs and references turn into.

import { describe, expect, test } from 'vitest'
import { readRedisUrl, type ServersOutcome, toServers } from '../../../src/config/redis-servers.ts'
import type { RedisPlace } from '../../../src/config/snapshot.ts'
import { at, GOOD, good, read, said } from './configurations.ts'

const SECRET = 'canary-3fK9'
const withRedis = (redis: unknown) => at(GOOD, ['redis'], redis)
const REST = { tls: undefined, onOutage: 'local', replicas: 1 }

describe('the redis part of a configuration', () => {
  test('is a URL, or sentinels with a master, or a cluster', () => {
    expect(good(withRedis({ url: 'env:REDIS_URL' })).redis).toEqual({
      kind: 'url',
      url: 'env:REDIS_URL',
      ...REST,
    })
    const sentinels = ['redis://a:26379', 'env:SENTINEL']
    expect(good(withRedis({ sentinels, master: 'main' })).redis).toEqual({
      kind: 'sentinel',
      sentinels,
      master: 'main',
      ...REST,
    })
    const cluster = ['rediss://a', 'file:/run/secrets/redis']
    const tls = { ca: '/etc/sluice/ca.pem', servername: 'redis.internal' }
    expect(good(withRedis({ cluster, tls, onOutage: 'deny', replicas: 4 })).redis).toEqual({
      kind: 'cluster',
      cluster,
      tls: { ...tls, cert: undefined, key: undefined },
      onOutage: 'deny',
      replicas: 4,
    })
  })

  const s = 'redis://a'
  test.each<[string, unknown, string[]]>([
    ['nothing', {}, ['redis: needs url, or sentinels with master, or cluster']],
    [
      'two ways',
      { url: s, cluster: [s] },
      ['redis.cluster: cannot stand beside url; say in one way where Redis is'],
    ],
    ['sentinels alone', { sentinels: [s] }, ['redis.sentinels: needs master, the name that they watch']],
    ['a master alone', { master: 'main' }, ['redis: needs sentinels, which know where master is']],
    [
      'a master of a URL',
      { url: s, master: 'main' },
      ['redis.master: cannot stand beside url; it needs sentinels'],
    ],
    ['no sentinel', { sentinels: [], master: 'm' }, ['redis.sentinels: must name at least one sentinel']],
    ['one node twice', { cluster: [s, s] }, ['redis.cluster[1]: stands twice in this list']],
    [
      'TLS and none',
      { cluster: [s, 'rediss://b'] },
      ['redis.cluster[1]: must be redis:// or rediss:// as the first one is'],
    ],
    [
      'two logins',
      { sentinels: ['redis://:one@a', 'redis://:two@b'], master: 'main' },
      ['redis.sentinels[1]: must have the user and password of the first one'],
    ],
    [
      'a database of a cluster',
      { cluster: ['redis://a/3'] },
      ['redis.cluster[0]: cannot name a database; there is none here but 0'],
    ],
    [
      'tls without TLS',
      { url: s, tls: { ca: '/ca.pem' } },
      ['redis.tls: has no effect, because no URL begins with rediss://'],
    ],
    [
      'half a certificate',
      { url: 'rediss://a', tls: { cert: '/c.pem' } },
      ['redis.tls.cert: needs key beside it'],
    ],
    [
      'a relative path',
      { url: 'rediss://a', tls: { ca: 'ca.pem' } },
      ['redis.tls.ca: must be the absolute path of a PEM file, for example "/etc/sluice/ca.pem"'],
    ],
  ])('refuses %s', (_, redis, problems) => {
    expect(said(read(withRedis(redis)))).toEqual(problems)
  })

  test.each([
    ['a query', { url: `redis://:${SECRET}?x@a` }],
    ['a path', { url: `redis://a/${SECRET}` }],
    ['a bad escape', { url: `redis://:${SECRET}%zz@a` }],
    ['a sentinel', { sentinels: [`http://:${SECRET}@a`], master: 'm' }],
    ['a master', { sentinels: ['redis://a'], master: `${SECRET} x` }],
    ['a master with a port', { sentinels: ['redis://a'], master: `redis://:${SECRET}@m:1` }],
    ['a node', { cluster: [`${SECRET}@a:1`] }],
  ])('refuses %s without repeating it', (_, redis) => {
    const problems = said(read(withRedis(redis)))
    expect(problems).toHaveLength(1)
    expect(problems.join()).not.toContain('canary')
  })

  test.each([
    ['a database that no Redis has', { url: 'redis://a/99999' }, 'redis.url'],
    ['one of more digits', { url: 'redis://a/6379000000000000000000' }, 'redis.url'],
    ['one of a master', { sentinels: ['redis://a'], master: 'redis://main/10000' }, 'redis.master'],
  ])('refuses %s, and says how many there usually are', (_, redis, path) => {
    expect(said(read(withRedis(redis)))).toEqual([
      `${path}: names a database that there cannot be; Redis has 0 to 15 unless its "databases" setting says otherwise, and 9999 is the highest number taken here`,
    ])
  })

  test.each(['redis://a/-1', 'redis://a/main', 'redis://a/1.5', 'redis://a/0x1', 'redis://a/1e3'])(
    'refuses %s: a database is a whole number',
    (url) => {
      expect(said(read(withRedis({ url })))).toEqual([
        'redis.url: may name a database by its number and nothing else behind the host',
      ])
    },
  )

  test('is warned about when its database is one that not every Redis has', () => {
    const warnings = (redis: unknown) => good(withRedis(redis)).warnings
    expect(warnings({ url: 'redis://a/15' })).toEqual([])
    expect(warnings({ url: 'redis://a/16' })).toEqual([
      'redis.url names a database over 15; Redis has 0 to 15 unless its "databases" setting says otherwise, and without it limits are not shared',
    ])
    expect(warnings({ sentinels: ['redis://a'], master: 'redis://main/40' })).toEqual([
      expect.stringContaining('redis.master names a database over 15'),
    ])
  })

  test('is warned about when it holds passwords', () => {
    const redis = { sentinels: ['redis://a', 'env:S'], master: `redis://:${SECRET}@main` }
    const { warnings } = good(withRedis(redis))
    expect(warnings.join()).toContain('redis.master holds a password')
    expect(warnings.join()).not.toMatch(/sentinels|canary/)
  })
})

const resolve = (place: RedisPlace, values: Record<string, string> = {}): ServersOutcome =>
  toServers(place, { ca: 'PEM' }, (text) => (text.startsWith('env:') ? values[text] : text))

describe('what is needed to connect', () => {
  const none = { username: undefined, password: undefined, tls: undefined }

  test('a URL is read with everything in it', () => {
    expect(resolve({ kind: 'url', url: 'env:U' }, { 'env:U': 'rediss://u%40:p%2F@[::1]:7000/3' })).toEqual({
      ok: true,
      servers: {
        kind: 'url',
        address: { host: '::1', port: 7000 },
        login: { username: 'u@', password: 'p/', tls: { ca: 'PEM' } },
        database: 3,
      },
    })
  })

  test('the servers of a master have a login and TLS of their own, or the TLS of the sentinels', () => {
    const sentinels = ['rediss://:s@a', 'rediss://:s@b:1']
    const addresses = [
      { host: 'a', port: 26_379 },
      { host: 'b', port: 1 },
    ]
    const sentinelLogin = { username: undefined, password: 's', tls: { ca: 'PEM' } }
    const both = { kind: 'sentinel', sentinels: addresses, sentinelLogin } as const
    expect(resolve({ kind: 'sentinel', sentinels, master: 'My_main.1' })).toEqual({
      ok: true,
      servers: { ...both, master: 'My_main.1', login: { ...none, tls: { ca: 'PEM' } }, database: 0 },
    })
    expect(
      resolve({ kind: 'sentinel', sentinels, master: 'env:M' }, { 'env:M': 'redis://u:p@My_main.1/2' }),
    ).toEqual({
      ok: true,
      servers: {
        ...both,
        master: 'My_main.1',
        login: { username: 'u', password: 'p', tls: undefined },
        database: 2,
      },
    })
  })

  test('what a reference turns out to hold is judged by its place, without being repeated', () => {
    const outcome = resolve(
      { kind: 'cluster', cluster: ['env:A', 'env:B', 'rediss://c'] },
      { 'env:A': 'rediss://a', 'env:B': `rediss://:${SECRET}@b/1` },
    )
    expect(outcome).toEqual({
      ok: false,
      problems: [
        { path: ['cluster', 1], message: expect.stringContaining('database') },
        { path: ['cluster', 1], message: expect.stringContaining('password of the first') },
      ],
    })
    expect(JSON.stringify(outcome)).not.toContain('canary')
    expect(resolve({ kind: 'url', url: 'env:U' }, { 'env:U': SECRET })).toMatchObject({ ok: false })
  })

  test('a reference without a value is no problem of its own: the keyring says it', () => {
    expect(resolve({ kind: 'url', url: 'env:U' })).toEqual({ ok: false, problems: [] })
  })

  test.each([
    'redis://a',
    'redis://a/',
    'redis://a/0',
    'redis://user@a',
    'redis://:p@a:1',
    'rediss://user:p@h.x/15',
  ])('takes %s', (url) => {
    expect(readRedisUrl(url).ok).toBe(true)
  })

  test.each([
    'redis://',
    'redis:///0',
    'redis://a:0',
    'redis://a/x',
    'redis://a/0/1',
    'redis://a#1',
    'a:6379',
  ])('does not take %s', (url) => {
    expect(readRedisUrl(url).ok).toBe(false)
  })
})
