import { chmodSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { format, inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  createKeyring,
  type KeyringOptions,
  literalSecretsOf,
  referencesOf,
  verifySecrets,
} from '../../../src/secrets/keyring.ts'
import { Secret } from '../../../src/secrets/secret.ts'
import type { Provider } from '../../../src/types.ts'

const DAY_MS = 86_400_000
const ALL = { ADMIN: 'value-of-admin', REDIS: 'redis://127.0.0.1' }
const uid = process.getuid?.() ?? 0
let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-keyring-'))
  path = join(folder, 'key')
  put('first-value')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function put(value: string, mode = 0o600): void {
  writeFileSync(path, value)
  chmodSync(path, mode)
}

function keyringOf(references: Record<string, string>, over: Partial<KeyringOptions> = {}) {
  const placed = Object.entries(references).map(([at, reference]) => ({ path: at, reference }))
  let now = 0
  return createKeyring({
    references: placed,
    env: {},
    uid,
    groupReadable: false,
    clock: { wall: () => ++now },
    ...over,
  })
}

describe('a keyring', () => {
  it('knows nothing before it is loaded', () => {
    const keyring = keyringOf({ 'a.apiKey': 'env:A' }, { env: { A: 'value-of-a' } })
    expect(keyring.value('env:A')).toBeUndefined()
    expect(keyring.values()).toEqual([])
  })

  it('gives what is loaded and says at which place something is wrong, every problem at once', async () => {
    const keyring = keyringOf(
      { 'a.apiKey[0]': 'env:A', 'a.apiKey[1]': 'env:B', 'b.apiKey': 'env:B', 'admin.token': `file:${path}` },
      { env: { A: 'value-of-a' } },
    )
    expect(await keyring.reload()).toEqual({
      changed: ['env:A', `file:${path}`],
      problems: [
        { path: 'a.apiKey[1]', reference: 'env:B', message: 'env:B: the environment variable is not set' },
        { path: 'b.apiKey', reference: 'env:B', message: 'env:B: the environment variable is not set' },
      ],
    })
    expect(keyring.value('env:A')).toBe('value-of-a')
    expect(keyring.value(`file:${path}`)).toBe('first-value')
    expect(keyring.files()).toEqual([path])
  })

  it('keeps the last good value when the new one is bad, and the one before it for the scrubber', async () => {
    const reference = `file:${path}`
    const outcomes: string[] = []
    const keyring = keyringOf({ k: reference }, { onLoad: (_, outcome) => outcomes.push(outcome) })
    await keyring.reload()
    put('second-value')
    expect(await keyring.reload()).toEqual({ changed: [reference], problems: [] })
    expect([keyring.value(reference), keyring.previous(reference)]).toEqual(['second-value', 'first-value'])
    put('third-value', 0o644)
    expect((await keyring.reload()).problems).toEqual([
      { path: 'k', reference, message: `${reference}: mode 0644, needs 0400 or 0600` },
    ])
    put('')
    await keyring.reload()
    rmSync(path)
    await keyring.reload()
    expect(keyring.value(reference)).toBe('second-value')
    expect(keyring.states()).toEqual([
      {
        reference,
        source: 'file',
        fingerprint: new Secret('second-value').toString(),
        sinceMs: 2,
        problem: `${reference}: there is no such file`,
      },
    ])
    put('second-value')
    expect(await keyring.reload()).toEqual({ changed: [], problems: [] })
    expect(keyring.values().sort()).toEqual(['first-value', 'second-value'])
    expect(outcomes).toEqual(['loaded', 'loaded', 'failed', 'failed', 'failed', 'unchanged'])
  })

  it('knows how old a value is: a file since it was written, a variable since it was seen', async () => {
    const reference = `file:${path}`
    const env: Record<string, string> = { A: 'value-of-a' }
    let now = 1_000_000
    const keyring = keyringOf({ a: 'env:A', k: reference }, { env, clock: { wall: () => now } })
    const since = () => keyring.states().map(({ sinceMs }) => sinceMs)
    utimesSync(path, 0, 400)
    await keyring.reload()
    expect(since()).toEqual([1_000_000, 400_000])
    // Written again with the same value, as a new mount is: no younger. Written earlier than was thought: older.
    now = 2_000_000
    utimesSync(path, 0, 1_500)
    await keyring.reload()
    expect(since()).toEqual([1_000_000, 400_000])
    utimesSync(path, 0, 300)
    await keyring.reload()
    expect(since()).toEqual([1_000_000, 300_000])
    put('second-value')
    utimesSync(path, 0, 1_900)
    env.A = 'another-value'
    await keyring.reload()
    expect(since()).toEqual([2_000_000, 1_900_000])
    // A file of the future is from now.
    put('third-value')
    utimesSync(path, 0, 9_000)
    await keyring.reload()
    expect(since()).toEqual([2_000_000, 2_000_000])
  })

  it('takes other references on a reload and keeps the values of those that went, which requests may still use', async () => {
    const env = { A: 'value-of-a', B: 'value-of-b' }
    const keyring = keyringOf({ a: 'env:A' }, { env })
    await keyring.reload()
    const next = await keyring.reload({
      references: [{ path: 'b', reference: 'env:B' }],
      groupReadable: false,
    })
    expect(next).toEqual({ changed: ['env:B'], problems: [] })
    expect(keyring.value('env:A')).toBe('value-of-a')
    expect(keyring.states().map(({ reference }) => reference)).toEqual(['env:B'])
    expect(keyring.values().sort()).toEqual(['value-of-a', 'value-of-b'])
  })

  it('does one reload after the other', async () => {
    const keyring = keyringOf({ k: `file:${path}` })
    const first = keyring.reload()
    const second = keyring.reload()
    expect((await first).changed).toHaveLength(1)
    expect((await second).changed).toHaveLength(0)
  })

  it('warns once per new value', async () => {
    const warnings: string[] = []
    const keyring = keyringOf(
      { k: 'env:K' },
      { env: { K: 'short' }, onWarning: (text) => warnings.push(text) },
    )
    await keyring.reload()
    await keyring.reload()
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toContain('env:K: is shorter than 8 characters')
  })

  it('bounds the former values it keeps', async () => {
    const env: Record<string, string> = { K: '' }
    const keyring = keyringOf({ k: 'env:K' }, { env })
    for (let i = 0; i < 300; i++) {
      env.K = `value-number-${i}`
      await keyring.reload()
    }
    expect(keyring.values()).toHaveLength(257)
    expect(keyring.values()).toContain('value-number-298')
  })

  it('tells the scrubber the password of a URL by itself', async () => {
    const keyring = keyringOf({ k: 'env:K' }, { env: { K: 'rediss://user:p%40ssword-1@redis.test:6379/0' } })
    await keyring.reload()
    expect(keyring.values()).toEqual([
      'rediss://user:p%40ssword-1@redis.test:6379/0',
      'p%40ssword-1',
      'p@ssword-1',
    ])
    const rest = { tls: undefined, onOutage: 'local', replicas: 1 } as const
    const redis = { kind: 'url', url: 'redis://:literal-pass@h', ...rest } as const
    expect(literalSecretsOf({ redis })).toEqual(['literal-pass', 'literal-pass'])
    expect(literalSecretsOf({ redis: { ...redis, url: 'env:REDIS' } })).toEqual([])
    expect(literalSecretsOf({ redis: undefined })).toEqual([])
    const sentinels = ['redis://:sentinel-pass@h', 'env:SENTINEL']
    const master = 'redis://user:master-pass@main/1'
    expect(new Set(literalSecretsOf({ redis: { kind: 'sentinel', sentinels, master, ...rest } }))).toEqual(
      new Set(['sentinel-pass', 'master-pass']),
    )
    const cluster = ['rediss://u:cluster-pass@h', 'rediss://u:cluster-pass@i']
    expect(literalSecretsOf({ redis: { kind: 'cluster', cluster, ...rest } })).toContain('cluster-pass')
  })
})

function provider(name: string, keys: string[], over: Partial<Provider> = {}): [string, Provider] {
  const limits = { strict: false }
  const rest = {
    tracedAs: 'openai',
    baseUrl: '',
    proxy: undefined,
    keyHours: undefined,
    rotateMs: undefined,
    headers: {},
    alsoSpeaks: new Set<string>(),
    options: {},
    allowFields: new Set<string>(),
    limits,
    health: undefined,
    simulate: undefined,
  }
  return [name, { name, format: 'openai', kind: 'http', keys, ...rest, ...over }]
}

describe('the references of a configuration', () => {
  const snapshot = {
    providers: new Map([
      provider('one', ['env:ONE']),
      provider('two', ['env:TWO', `file:/none/two`]),
      provider('open', []),
    ]),
    admin: { host: '127.0.0.1', port: 7457, token: 'env:ADMIN' },
    redis: { kind: 'url', url: 'env:REDIS', tls: undefined, onOutage: 'local', replicas: 1 },
    secrets: { groupReadable: false },
  } as const

  it('are all found, with their places', () => {
    expect(referencesOf(snapshot)).toEqual([
      { path: 'providers.one.apiKey', reference: 'env:ONE' },
      { path: 'providers.two.apiKey[0]', reference: 'env:TWO' },
      { path: 'providers.two.apiKey[1]', reference: 'file:/none/two' },
      { path: 'admin.token', reference: 'env:ADMIN' },
      { path: 'redis.url', reference: 'env:REDIS', use: 'url' },
    ])
    const literal = { ...snapshot, redis: { ...snapshot.redis, url: 'redis://h' } }
    expect(referencesOf(literal).map(({ path: at }) => at)).not.toContain('redis.url')
    const rest = { tls: undefined, onOutage: 'local', replicas: 1 } as const
    const watched = {
      ...snapshot,
      redis: { kind: 'sentinel', sentinels: ['redis://h', 'env:S'], master: 'env:M', ...rest } as const,
    }
    expect(referencesOf(watched).slice(-2)).toEqual([
      { path: 'redis.sentinels[1]', reference: 'env:S', use: 'url' },
      { path: 'redis.master', reference: 'env:M', use: 'url' },
    ])
  })

  it('are verified for `sluice check`', async () => {
    const env = { ONE: 'value-one', TWO: 'value-two', ADMIN: '' }
    expect(await verifySecrets(snapshot, { env, uid }, 0)).toEqual({
      problems: [
        { path: 'providers.two.apiKey[1]', message: 'file:/none/two: there is no such file' },
        { path: 'admin.token', message: 'env:ADMIN: is empty' },
        { path: 'redis.url', message: 'env:REDIS: the environment variable is not set' },
      ],
      warnings: [],
    })
  })

  it('are told of by `sluice check` when their file is older than their rotation, and when they are too short to be scrubbed', async () => {
    const reference = `file:${path}`
    const young = join(folder, 'young')
    writeFileSync(young, 'a-value', { mode: 0o600 })
    const nowMs = Date.UTC(2027, 3, 10)
    utimesSync(path, 0, (nowMs - 100 * DAY_MS) / 1000)
    utimesSync(young, 0, (nowMs - 90 * DAY_MS) / 1000)
    const rotateMs = 90 * DAY_MS
    const providers = new Map([
      provider('one', [reference, 'env:ONE', `file:${young}`], { rotateMs }),
      // One that somebody else takes without a rotation is looked at once.
      provider('two', [reference]),
    ])
    expect(
      await verifySecrets({ ...snapshot, providers }, { env: { ...ALL, ONE: 'value-one' }, uid }, nowMs),
    ).toEqual({
      problems: [],
      warnings: [
        `file:${young}: is shorter than 8 characters and cannot be scrubbed from text by its value`,
        `${reference}: is 100 days old and should have been replaced at 90 days (apiKey.rotate)`,
      ],
    })
  })
})

describe('a secret', () => {
  const secret = new Secret('live_9dK2mX7qT4vB8nR1')

  it('shows a fingerprint however it is printed', () => {
    const printed = [
      String(secret),
      `${secret}`,
      JSON.stringify({ secret }),
      inspect({ a: [secret] }, { showHidden: true, depth: 9, getters: true }),
      format('%s %o %j %O', secret, secret, secret, secret),
      JSON.stringify(structuredClone({ secret })),
      Object.entries(secret).join(),
      JSON.stringify(Object.getOwnPropertyDescriptors(secret)),
    ]
    for (const text of printed) expect(text).not.toContain('9dK2')
    expect(printed[0]).toMatch(/^\[secret:[0-9a-f]{4}\]$/)
    expect(printed[2]).toBe(`{"secret":"${printed[0]}"}`)
    expect(inspect(secret)).toBe(printed[0])
    expect(secret.valueOf()).toBe(printed[0])
  })

  it('gives its value to those who ask', () => expect(secret.reveal()).toBe('live_9dK2mX7qT4vB8nR1'))
})
