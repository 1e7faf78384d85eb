// No key, bearer or password leaves the process in any text: canaries in every place that holds a secret, every way
// for a provider to throw them back, every sink that a caller or an operator can read.

import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { agentPolicy, startGateway, type TestGateway } from '../support/gateway.ts'
import {
  answer,
  type Behaviour,
  echoKey,
  errorIn200,
  inBandErrorAfterContent,
  inBandErrorFirst,
  KEY_FORMS,
  rawBytes,
  status,
} from '../support/provider-script.ts'
import { rawRequest } from '../support/raw-http.ts'
import { startRedis, type TestRedis } from '../support/redis.ts'
import { createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'

const random = (bytes: number) => randomBytes(bytes).toString('base64url')

/** Different alphabets and lengths: what encoders treat differently. */
const canaries = {
  envKey: `canary-env+${random(18)}/=&?`,
  secondKey: `canary.second~${random(21)}`,
  fileKey: `AKIA${random(30)}`,
  adminToken: `admin_${random(24)}`,
  redisPassword: `redis:${random(16)}@%`,
  bearer: `bearer-of-no-known-form-${random(20)}`,
}

/** Every form of every canary that a provider could know. (It is never sent a bearer, of which only a digest is kept.) */
const { bearer: _, ...known } = canaries
const everything = Object.values(known)
  .flatMap((secret) => Object.values(KEY_FORMS).map((form) => form(secret)))
  .join(' ')

/** What providers do to give the keys away. Each has a provider and a route of its own, so that no breaker hides it. */
const betrayals: Behaviour[] = [
  ...(['body', 'header', 'reason-phrase', 'in-band'] as const).flatMap((where) =>
    [400, 401, 403, 404, 413, 422, 429, 500, 503].map((code) => echoKey({ code, where })),
  ),
  inBandErrorAfterContent({ error: { message: everything, type: everything, code: everything } }),
  inBandErrorFirst({ message: everything, type: everything, code: everything }),
  errorIn200({ message: everything, type: everything, param: everything, code: everything }),
  status(400, { error: { message: everything, type: everything, param: everything, code: everything } }),
  rawBytes([`HTTP/1.1 400 Bad Request\r\ncontent-length: ${everything.length}\r\n\r\n${everything}`]),
  rawBytes([`HTTP/1.1 200 OK\r\n${everything.slice(0, 40)}\r\n\r\n`]),
  rawBytes([`${everything}\r\n\r\n`]),
  answer({ text: 'ok', headers: { 'x-leak': everything.slice(0, 8000) } }),
  answer({ text: `every form of it: ${formsOfKey(canaries.fileKey)}` }),
  // Its own bytes on the wire: escapes that nobody needs.
  rawBytes([toWholeAnswer(`escaped: ${KEY_FORMS.json(canaries.fileKey)}`)]),
  answer({ text: `your key is ${canaries.fileKey}!` }),
]

function formsOfKey(key: string): string {
  return Object.values(KEY_FORMS)
    .map((form) => form(key))
    .join(' ')
}

function toWholeAnswer(content: string): string {
  const message = `{"role":"assistant","content":"${content}"}`
  const body = `{"object":"chat.completion","choices":[{"index":0,"message":${message},"finish_reason":"stop"}]}`
  return `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
}

/** Everything that anybody could read, collected over the whole file. */
const seen: string[] = []
let sweeps = 0

function look(text: string): void {
  seen.push(text)
}

/** Every canary in every form, and every piece of it of 12 characters, against a text. */
function hits(text: string): string[] {
  const found: string[] = []
  const lower = text.toLowerCase()
  for (const [name, secret] of Object.entries(canaries)) {
    for (const [form, encode] of Object.entries(KEY_FORMS)) {
      sweeps += 1
      const needle = form === 'bearer' ? secret : encode(secret)
      if (lower.includes(needle.toLowerCase())) found.push(`${name} as ${form}`)
    }
    for (let at = 0; at + 12 <= secret.length; at += 4) {
      const piece = secret.slice(at, at + 12)
      if (!/^(canary|bearer-of|redis:|admin_)/.test(piece) && text.includes(piece))
        found.push(`${name}: ${piece}`)
    }
  }
  return found
}

describe('with canaries in every secret', () => {
  let provider: ScriptedProvider
  let redis: TestRedis
  let gateway: TestGateway
  let folder: string

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'sluice-leaks-'))
    chmodSync(folder, 0o700)
    const path = join(folder, 'key')
    writeFileSync(path, `${canaries.fileKey}\n`, { mode: 0o400 })
    provider = await createScriptedProvider()
    redis = await startRedis({ args: ['--requirepass', canaries.redisPassword] })
    const sha256 = createHash('sha256').update(canaries.bearer).digest('hex')
    gateway = await startGateway({
      config: {
        admin: { token: 'env:LEAK_ADMIN' },
        redis: { url: 'env:LEAK_REDIS' },
        log: { level: 'trace' },
        providers: Object.fromEntries(
          betrayals.map((_, i) => [
            `p${i}`,
            { format: 'openai', baseUrl: `${provider.url}/${i}`, apiKey: [`env:LEAK_${i}`, `file:${path}`] },
          ]),
        ),
        tiers: Object.fromEntries(
          betrayals.map((_, i) => [
            `t${i}`,
            { deployments: [`p${i}/*`], retries: 2, idle: '2s', attempt: '5s' },
          ]),
        ),
        routes: Object.fromEntries(betrayals.map((_, i) => [`m${i}-*`, [`t${i}`]])),
      },
      policies: {
        'a.yaml': agentPolicy('a', { bearer: canaries.bearer, sha256 }, { limits: { requests: '100000/s' } }),
      },
      env: {
        ...Object.fromEntries(
          betrayals.map((_, i) => [`LEAK_${i}`, i % 2 === 0 ? canaries.envKey : canaries.secondKey]),
        ),
        LEAK_ADMIN: canaries.adminToken,
        LEAK_REDIS: `redis://:${encodeURIComponent(canaries.redisPassword)}@127.0.0.1:${redis.port}`,
        LEAK_NAMES: 'LEAK_0,LEAK_1,LEAK_ADMIN',
        NODE_OPTIONS: `--import ${new URL('../support/leak-on-signal.mjs', import.meta.url).href}`,
      },
    })
  })

  afterAll(async () => {
    await gateway?.kill9()
    await provider?.close()
    await redis?.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  async function call(body: Record<string, unknown>): Promise<void> {
    const answered = await fetch(`${gateway.baseUrl}/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${canaries.bearer}`, 'content-type': 'application/json' },
      body: JSON.stringify({ messages: [{ role: 'user', content: 'hi' }], ...body }),
    })
    look([...answered.headers].map((pair) => pair.join(': ')).join('\n'))
    look(await answered.text().catch((error: unknown) => String(error)))
  }

  test('a provider that throws its key back in any form, place and status tells the caller nothing', async () => {
    provider.script((request) => betrayals[Number(request.path.split('/')[1])] as Behaviour)
    for (const stream of [false, true]) {
      for (const i of betrayals.keys()) await call({ model: `m${i}-x`, stream })
    }
    const asked = new Set(provider.requests.map((request) => request.path.split('/')[1]))
    expect(asked.size, 'every one of them was really called').toBe(betrayals.length)
    const sent = provider.requests.flatMap((request) => request.headers.flat()).join('\n')
    for (const key of [canaries.envKey, canaries.secondKey, canaries.fileKey]) expect(sent).toContain(key)
    expect(sent, 'the bearer of the caller went to nobody').not.toContain(canaries.bearer)
    expect(seen.join('\n'), 'an answer that echoes a key is an answer all the same').toContain('your key is')
    expect(seen.join('\n')).toContain('every form of it')
    expect(seen.join('\n')).toContain('escaped: [redacted]')
  })

  test("a caller's own credential in the wrong place does not come back", async () => {
    // What the caller wrote into the model name went out as such, and a server may repeat it: that is his own content.
    provider.script([answer({ text: 'ok', model: 'fixed' })])
    const last = betrayals.length - 1
    for (const secret of [canaries.bearer, canaries.envKey]) {
      await call({ model: secret })
      await call({ model: `m${last}-${secret}` })
      await call({ model: `m${last}-x`, n: secret })
      await call({ model: `m${last}-x`, [secret]: 1, more: secret })
      const target = `/v1/chat/completions?key=${encodeURIComponent(secret)}`
      for (const head of [
        `POST ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secret}\r\nAuthorization: Bearer ${secret}\r\n`,
        `GET /${secret} HTTP/1.1\r\nHost: ${secret}\r\n`,
        `${secret} / HTTP/1.1\r\nHost: x\r\nAuthorization: ${secret}\r\n`,
        `GET /v1/models/${encodeURIComponent(secret)} HTTP/1.1\r\nHost: x\r\nx-api-key: ${canaries.bearer}\r\n`,
        `POST ${target} HTTP/1.1\r\nHost: x\r\nAuthorization Bearer ${secret}\r\n`,
      ]) {
        const { raw } = await rawRequest(gateway.port, [`${head}Connection: close\r\n\r\n`], {
          timeoutMs: 3000,
        })
        look(raw.toString('latin1'))
      }
    }
  })

  test('Redis failing with its password in play says nothing', async () => {
    await redis.kill9()
    provider.script([answer({ text: 'ok' })])
    for (let i = 0; i < 4; i += 1) await call({ model: `m${betrayals.length - 1}-x` })
  })

  test('what a careless dependency writes on the standard streams is scrubbed', async () => {
    gateway.signal('SIGUSR2')
    await expect.poll(() => gateway.stderr().includes('LEAKED'), { timeout: 5000 }).toBe(true)
    await expect.poll(() => gateway.stdout().includes('unhandled rejection'), { timeout: 5000 }).toBe(true)
    const errors = gateway.stderr()
    expect(errors).toContain('console.error')
    expect(errors).toContain('[redacted]')
  })

  test('the operators see none of it', async () => {
    const token = { authorization: `Bearer ${canaries.adminToken}` }
    for (const path of ['/metrics', '/ready', '/status', '/health', `/${canaries.adminToken}`]) {
      const answered = await fetch(`${gateway.adminUrl}${path}`, { headers: token })
      look(`${[...answered.headers].join('\n')}\n${await answered.text()}`)
    }
    look(await (await gateway.reload()).text())
    look(readFileSync(`/proc/${gateway.pid}/cmdline`, 'latin1'))
  })

  test('0 hits in all that was seen: answers, headers, log, standard error, metrics, status, process list', () => {
    look(gateway.stdout())
    look(gateway.stderr())
    expect(gateway.logLines().length, 'the log was really written').toBeGreaterThan(50)
    const text = seen.join('\n')
    expect(text.length).toBeGreaterThan(50_000)
    expect(hits(text)).toEqual([])
    expect(sweeps).toBeGreaterThanOrEqual(Object.keys(canaries).length * Object.keys(KEY_FORMS).length)
    // The sweep itself can fail.
    expect(hits(`x${canaries.envKey}`)).not.toEqual([])
  })
})

test('an uncaught exception ends the process with 1 and without its secrets', async () => {
  const secret = canaries.envKey
  const gateway = await startGateway({
    config: {
      providers: { p: { format: 'openai', baseUrl: 'http://127.0.0.1:9/v1', apiKey: 'env:LEAK_KEY' } },
      tiers: { t: { deployments: ['p/m'] } },
      routes: { m: ['t'] },
    },
    env: {
      LEAK_KEY: secret,
      LEAK_NAMES: 'LEAK_KEY',
      LEAK_CRASH: '1',
      NODE_OPTIONS: `--import ${new URL('../support/leak-on-signal.mjs', import.meta.url).href}`,
    },
  })
  gateway.signal('SIGUSR2')
  expect(await gateway.ended()).toBe(1)
  const text = gateway.stdout() + gateway.stderr()
  expect(text).toContain('uncaught exception')
  expect(hits(text)).toEqual([])
})
