// How sluice starts and stops as an operator sees it: with nothing at all through `npm start`, from variables, from a
// file, and when it cannot. Without a file the ports are the contract's, so this file takes turns with whoever else
// needs them.

import { type ChildProcess, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { delimiter, join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { type GatewayOptions, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { freePort, releasePort, takePort } from '../support/ports.ts'
import { startRedis } from '../support/redis.ts'
import { exited, spawnTracked, temporaryFolder } from '../support/run-folder.ts'
import {
  answer,
  createScriptedProvider,
  gate,
  hugeFrame,
  isRecord,
  type ScriptedProvider,
} from '../support/scripted-provider.ts'
import { readSse, summarizeChat } from '../support/sse.ts'

const ROOT = join(import.meta.dirname, '../..')
const NODE = join(ROOT, 'node_modules/.bin/node')
const MAIN = join(ROOT, 'src/main.ts')
const PORTS = [7456, 7457] as const
/** What the operator's shell has, without what npx added for the tests. */
const PATH = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((folder) => !folder.includes('node_modules'))
  .join(delimiter)

let provider: ScriptedProvider
let gateway: TestGateway | undefined

beforeAll(async () => {
  provider = await createScriptedProvider()
})
afterAll(() => provider.close())
beforeEach(() => provider.reset())
afterEach(async () => {
  await gateway?.stop()
  gateway = undefined
})

async function start(options: GatewayOptions): Promise<TestGateway> {
  gateway = await startGateway({ ...options, startMs: 20_000 })
  return gateway
}

const callerOf = (at: TestGateway, model: string) => createCaller(at.baseUrl, at.bearer, model)

describe('npm start with no configuration', { timeout: 120_000 }, () => {
  let checkout: string
  let npm: ChildProcess | undefined

  // What a clone after `npm ci` is: the sources and node_modules, nothing else.
  beforeAll(() => {
    checkout = temporaryFolder('checkout')
    for (const name of ['package.json', 'package-lock.json', '.npmrc', 'src', 'policies'])
      cpSync(join(ROOT, name), join(checkout, name), { recursive: true })
    symlinkSync(join(ROOT, 'node_modules'), join(checkout, 'node_modules'))
  })

  beforeEach(() => Promise.all(PORTS.map((port) => takePort(port, 90_000))), 100_000)
  afterEach(async () => {
    const { pid } = npm ?? {}
    // A failed test must not leave the server of a killed npm on the ports.
    if (npm !== undefined && pid !== undefined && npm.exitCode === null && npm.signalCode === null) {
      process.kill(-pid, 'SIGKILL')
      await exited(npm)
    }
    for (const port of PORTS) releasePort(port)
  })

  /** `npm start` in a clean environment, until it has said what to paste. */
  async function npmStart(env: Readonly<Record<string, string>> = {}) {
    const startedMs = performance.now()
    const child = spawnTracked('npm', ['start'], {
      ...{ cwd: checkout, stdio: ['ignore', 'pipe', 'pipe'], detached: true },
      env: { PATH, HOME: temporaryFolder('home'), ...env },
    })
    npm = child
    let said = ''
    const banner = Promise.withResolvers<string[]>()
    const hear = (text: Buffer): void => {
      said += text.toString()
      const lines = said.split('\n')
      if (lines.slice(0, -1).some((line) => line.startsWith('curl '))) banner.resolve(lines)
    }
    child.stdout?.on('data', hear)
    child.stderr?.on('data', hear)
    child.once('exit', (code) => banner.reject(new Error(`npm start ended with ${code}: ${said}`)))
    const lines = await banner.promise
    const exports = lines.filter((line) => line.startsWith('export '))
    const key = exports.map((line) => /^export OPENAI_API_KEY=(\S+)$/.exec(line)?.[1]).find((found) => found)
    return {
      child,
      startedMs,
      exports,
      curl: lines.find((line) => line.startsWith('curl ')) ?? '',
      caller: createCaller('http://127.0.0.1:7456/v1', key ?? '', 'auto'),
      said: () => said,
    }
  }

  const bash = (script: string) =>
    spawnSync('bash', ['--norc', '--noprofile', '-c', script], {
      encoding: 'utf8',
      timeout: 20_000,
      env: { PATH },
    })
  const hasCurl = bash('command -v curl').status === 0

  it('prints two lines to paste and a curl, and they work in bash as printed', async () => {
    const { exports, curl, said } = await npmStart()
    expect(exports).toEqual([
      'export OPENAI_BASE_URL=http://127.0.0.1:7456/v1',
      expect.stringMatching(/^export OPENAI_API_KEY=sk-sluice-[0-9A-Za-z]{36}$/),
    ])
    // Where there is no curl, one that only says what it would send stands in, and fetch sends it.
    if (hasCurl) {
      const told = bash(curl)
      expect([told.status, told.stderr]).toEqual([0, ''])
      expect(JSON.parse(told.stdout)).toMatchObject({
        object: 'chat.completion',
        choices: [
          { message: { role: 'assistant', content: expect.stringMatching(/\w/) }, finish_reason: 'stop' },
        ],
      })
    } else {
      const words = bash(`curl() { printf '%s\\0' "$@"; }; ${curl}`).stdout.split('\0')
      const [, url = '', , authorization = '', , type = '', , body = ''] = words
      const headers = Object.fromEntries([authorization, type].map((line) => line.split(': ')))
      expect((await fetch(url, { method: 'POST', headers, body })).status).toBe(200)
    }
    const [base, key] = bash(
      `${exports.join('\n')}\nprintf '%s\\n' "$OPENAI_BASE_URL" "$OPENAI_API_KEY"`,
    ).stdout.split('\n')
    expect((await fetch(`${base}/models`, { headers: { authorization: `Bearer ${key}` } })).status).toBe(200)
    expect((await fetch(`${base}/models`)).status).toBe(401)
    // Shown in the two places where it is pasted from, and nowhere else.
    expect(said().split(key ?? '-')).toHaveLength(3)
    expect(said()).not.toMatch(/\bat .*\.ts:\d+/)
  })

  it('answers its first 200 within 2 s of the start', async () => {
    const tries: number[] = []
    while (tries.length < 3 && !tries.some((ms) => ms <= 2_000)) {
      const { child, startedMs, caller } = await npmStart()
      expect((await caller.chat()).status).toBe(200)
      tries.push(Math.round(performance.now() - startedMs))
      child.kill('SIGTERM')
      expect(await exited(child)).toBe(0)
    }
    process.stderr.write(`npm start to the first 200: ${tries.join(', ')} ms\n`)
    expect(Math.min(...tries)).toBeLessThanOrEqual(2_000)
  })

  // systemd and a terminal's Ctrl-C signal the whole group, and npm passes its own signal on: the server hears it twice.
  it.each([
    ['SIGTERM to npm', 'SIGTERM', 1],
    ['SIGTERM to the whole group', 'SIGTERM', -1],
    ['Ctrl-C', 'SIGINT', -1],
  ] as const)('lets an open stream finish on %s, ends and leaves no process', async (_, signal, whom) => {
    provider.script(answer({ pieces: Array.from({ length: 20 }, (_, i) => `${i} `), everyMs: 40 }))
    const { child, caller } = await npmStart({ LOCAL_LLM_URL: provider.url })
    const family = familyOf(child.pid ?? 0)
    expect(family.length).toBeGreaterThanOrEqual(2)

    const response = await caller.open({ body: { stream: true } })
    const ended = exited(child)
    const events = []
    for await (const event of readSse(response.body)) {
      events.push(event)
      if (events.length === 2) process.kill(whom * (child.pid ?? 0), signal)
    }
    expect(summarizeChat(events)).toMatchObject({
      text: Array.from({ length: 20 }, (_, i) => `${i} `).join(''),
      finishReasons: ['stop'],
      done: true,
    })
    expect(await ended).toBe(0)
    expect(family.filter(isAlive)).toEqual([])
    expect(await connects(7456)).toBe(false)
  })
})

describe('a start from variables', { timeout: 120_000 }, () => {
  it('without any answers on every promised name with the simulated model', async () => {
    const at = await start({ config: undefined })
    for (const model of [
      'auto',
      'claude-opus-4-5-thinking',
      'gpt-oss-120b',
      'gemini-3-flash',
      'gemini-4-any',
    ]) {
      const told = await callerOf(at, model).chat()
      expect([model, told.status, told.header('x-sluice-attempts')]).toEqual([
        ...[model, 200, expect.stringMatching(/^\w+:simulated\/[\w.-]+=200$/)],
      ])
    }
    const streamed = await callerOf(at, 'auto').chat({ body: { stream: true } })
    expect(streamed.stream).toMatchObject({ done: true, finishReasons: ['stop'], usage: undefined })
    // Nobody has an admin token, so nobody may reload.
    expect((await fetch(`${at.adminUrl}/reload`, { method: 'POST' })).status).toBe(403)
  })

  it('uses SLUICE_BEARER and shows it once more in the lines to paste', async () => {
    const at = await start({ config: undefined, env: { SLUICE_BEARER: 'my-own-bearer-of-this-run' } })
    expect(at.exports.OPENAI_API_KEY).toBe('my-own-bearer-of-this-run')
    expect((await callerOf(at, 'auto').chat()).status).toBe(200)
    expect((await createCaller(at.baseUrl, 'another', 'auto').chat()).status).toBe(401)
  })

  it('keeps its bearer over a reload', async () => {
    const at = await start({ config: undefined })
    at.signal('SIGHUP')
    await at.waitForLog(({ msg }) => msg === 'configuration reloaded')
    expect((await callerOf(at, 'auto').chat()).status).toBe(200)
  })

  it('takes an empty SLUICE_BEARER for none', async () => {
    const at = await start({ config: undefined, env: { SLUICE_BEARER: '' } })
    expect(at.exports.OPENAI_API_KEY).toMatch(/^sk-sluice-/)
    expect((await callerOf(at, 'auto').chat()).status).toBe(200)
  })

  it.each([
    ['without /v1', (url: string) => url],
    ['with /v1', (url: string) => `${url}/v1`],
    ['with a slash behind it', (url: string) => `${url}/v1/`],
  ])('calls the local server of LOCAL_LLM_URL %s, by the first model it lists', async (_, urlOf) => {
    const at = await start({ config: undefined, env: { LOCAL_LLM_URL: urlOf(provider.url) } })
    expect(provider.probes.map(({ path }) => path)).toEqual(['/v1/models'])
    for (const model of ['auto', 'gpt-oss-120b', 'claude-opus-4-5-thinking']) {
      const told = await callerOf(at, model).chat()
      expect(told.header('x-sluice-attempts')).toBe('execution:local/scripted-model=200')
    }
    expect(new Set(provider.requests.map(({ path }) => path))).toEqual(new Set(['/v1/chat/completions']))
    expect(provider.requests.some((request) => request.header('authorization'))).toBe(false)
  })

  it('calls the local server by the name in SLUICE_LOCAL_MODEL without asking it', async () => {
    const env = { LOCAL_LLM_URL: provider.url, SLUICE_LOCAL_MODEL: 'my/own:model' }
    const at = await start({ config: undefined, env })
    expect((await callerOf(at, 'auto').chat()).header('x-sluice-deployment')).toBe('local/my/own:model')
    expect(provider.probes).toEqual([])
    const body = provider.requests[0]?.json()
    expect(isRecord(body) && body.model).toBe('my/own:model')
  })

  it('never reads OPENAI_BASE_URL as an upstream', async () => {
    const env = {
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'sk-of-the-provider',
      SLUICE_ADMIN_TOKEN: 'admin-token-of-the-test',
    }
    const at = await start({ config: undefined, env })
    const status = await fetch(`${at.adminUrl}/status`, {
      headers: { authorization: `Bearer ${env.SLUICE_ADMIN_TOKEN}` },
    })
    const told = await status.text()
    expect(told).toContain('openai/')
    expect(told).not.toContain(String(provider.port))
    expect(at.stdout()).not.toContain(String(provider.port))
    expect(at.stdout() + at.stderr()).not.toContain(env.OPENAI_API_KEY)
    await at.stop()
    gateway = undefined

    const bare = await start({ config: undefined, env: { OPENAI_BASE_URL: provider.baseUrl } })
    expect((await callerOf(bare, 'auto').chat()).header('x-sluice-deployment')).toMatch(/^simulated\//)
    expect([provider.calls, provider.probes.length]).toEqual([0, 0])
  })
})

describe('a start from a file', () => {
  it('prints nothing but JSON log lines, and `listening` with its ports in one of them', async () => {
    const at = await start({ config: simpleConfig({ provider: provider.url }) })
    expect((await callerOf(at, 'm').chat()).status).toBe(200)
    expect((await callerOf(at, 'none').chat()).status).toBe(404)
    expect(await at.stop()).toBe(0)
    gateway = undefined
    const lines = at.stdout().split('\n')
    expect(lines.pop()).toBe('')
    for (const line of lines) expect(isRecord(JSON.parse(line))).toBe(true)
    const listening = at.logLines().filter(({ msg }) => msg === 'listening')
    expect(listening).toEqual([expect.objectContaining({ port: at.port, adminPort: at.adminPort })])
    expect(at.stdout()).not.toContain('export ')
    expect(at.stderr()).toBe('')
  })

  it.each(['warn', 'error', 'fatal'])(
    'says where it listens at log level %s too, and nothing else',
    async (level) => {
      const config = simpleConfig({ provider: provider.url, over: { log: { level } } })
      const at = await start({ config })
      expect((await callerOf(at, 'm').chat()).status).toBe(200)
      expect(await at.stop()).toBe(0)
      gateway = undefined
      expect(at.logLines()).toEqual([
        expect.objectContaining({ level: 30, msg: 'listening', port: at.port, adminPort: at.adminPort }),
      ])
    },
  )

  it('says not ready before it closes its door, answers until then, and ends with 0', async () => {
    const at = await start({
      config: simpleConfig({ provider: provider.url, over: { listen: { drainNotice: '600ms' } } }),
    })
    const get = async (path: string, method = 'GET') => (await fetch(`${at.url}${path}`, { method })).status
    expect([await get('/ready'), await get('/health'), await get('/api/hello', 'HEAD')]).toEqual([
      200, 200, 200,
    ])
    at.signal('SIGTERM')
    await at.waitForLog(({ msg }) => msg === 'draining')
    expect([await get('/ready'), await get('/health')]).toEqual([503, 200])
    expect((await callerOf(at, 'm').chat()).status).toBe(200)
    expect(await at.ended()).toBe(0)
    expect(await connects(at.port)).toBe(false)
  })

  it('finishes answers that callers are still reading when it is told to stop', async () => {
    provider.script(hugeFrame(40 * 1024 * 1024))
    const at = await start({
      config: simpleConfig({ provider: provider.url, over: { listen: { drain: '15s' } } }),
    })
    const response = await callerOf(at, 'm').open()
    at.signal('SIGTERM')
    await at.waitForLog(({ msg }) => msg === 'draining')
    const body: unknown = await response.json()
    expect(JSON.stringify(body).length).toBeGreaterThan(40 * 1024 * 1024)
    expect(await at.ended()).toBe(0)
  })

  it('cuts what is still under way when the drain time is over, and never clean', async () => {
    provider.script(answer({ pieces: Array(1_000).fill('word '), everyMs: 20 }))
    const at = await start({
      config: simpleConfig({ provider: provider.url, over: { listen: { drain: '300ms' } } }),
    })
    const response = await callerOf(at, 'm').open({ body: { stream: true } })
    at.signal('SIGTERM')
    let text = ''
    const read = async () => {
      for await (const chunk of response.body ?? []) text += Buffer.from(chunk).toString()
    }
    await read().catch(() => undefined)
    expect(text).toContain('word')
    expect(text).not.toContain('[DONE]')
    expect(await at.ended()).toBe(0)
    await provider.waitForAbort(0)
  })

  it('sends away who comes in on an open connection while it closes', async () => {
    const held = gate()
    provider.script(held)
    const at = await start({ config: simpleConfig({ provider: provider.url }) })
    const under = callerOf(at, 'm').chat()
    await provider.waitForRequests(1)
    at.signal('SIGTERM')
    await eventually(async () => !(await connects(at.port)), 'the listener is gone')
    held.open()
    const done = await under
    expect([done.status, done.header('connection')]).toEqual([200, 'close'])
    expect(await at.ended()).toBe(0)
  })
})

describe('a start that cannot be', () => {
  const serve = (args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    const cwd = temporaryFolder('nowhere')
    return spawnSync(NODE, [MAIN, 'serve', ...args], {
      cwd,
      encoding: 'utf8',
      timeout: 20_000,
      env: { PATH, HOME: cwd, ...env },
    })
  }

  it('tells every problem of a bad file at once and ends with 1', () => {
    const folder = temporaryFolder('bad')
    const path = join(folder, 'sluice.yaml')
    mkdirSync(join(folder, 'policies'))
    writeFileSync(
      path,
      'lisen: { port: 1 }\nproviders: { p: { format: openai, baseUrl: "ftp://x", apiKey: sk-written-out } }\ntiers: { t: { deployments: ["q/m"] } }\nroutes: { m: [nowhere] }\n',
    )
    writeFileSync(join(folder, 'policies', 'a.yaml'), 'agent: a\nscopes: ["chta:*"]\n')
    const told = serve(['--config', path])
    expect(told.status).toBe(1)
    expect(told.stdout).toBe('')
    for (const part of [
      'lisen',
      'listen',
      'providers.p.baseUrl',
      'providers.p.apiKey',
      '"q"',
      'nowhere',
      'a.yaml',
      'scopes[0]',
    ])
      expect(told.stderr).toContain(part)
    expect(told.stderr).not.toContain('sk-written-out')
    expect(told.stderr).not.toMatch(/\bat .*\.ts:\d+/)
  })

  it('says so for a file that is not there, and for a variable that is no URL', () => {
    const missing = serve([], { SLUICE_CONFIG: '/nowhere/sluice.yaml' })
    expect([missing.status, missing.stderr]).toEqual([1, expect.stringContaining('/nowhere/sluice.yaml')])
    const wrong = serve([], { LOCAL_LLM_URL: 'not a url' })
    expect([wrong.status, wrong.stderr]).toEqual([1, expect.stringContaining('LOCAL_LLM_URL')])
  })

  it('refuses a key that no header can carry, as check does, and does not show it', () => {
    const folder = temporaryFolder('key')
    const path = join(folder, 'sluice.yaml')
    const key = 'живой-ключ-0123456789'
    writeFileSync(join(folder, 'key'), `${key}\n`, { mode: 0o600 })
    writeFileSync(
      path,
      `providers: { p: { format: openai, baseUrl: "http://127.0.0.1:1", apiKey: ["env:KEY", "file:${folder}/key"] } }\ntiers: { t: { deployments: ["p/m"] } }\nroutes: { m: [t] }\npolicies: ./policies\n`,
    )
    mkdirSync(join(folder, 'policies'))
    writeFileSync(join(folder, 'policies', 'a.yaml'), 'agent: a\nscopes: ["chat:*"]\n')
    const check = spawnSync(NODE, [MAIN, 'check', '--config', path], {
      encoding: 'utf8',
      timeout: 20_000,
      env: { PATH, KEY: key },
    })
    for (const { status, stdout, stderr } of [check, serve(['--config', path], { KEY: key })]) {
      const said = stdout + stderr
      expect(status, said).toBe(1)
      for (const at of ['apiKey[0]: env:KEY', `apiKey[1]: file:${folder}/key`])
        expect(said).toContain(`providers.p.${at}: holds a character that is not visible ASCII`)
      expect(said).not.toContain('ключ')
    }
    const bare = serve([], { OPENAI_API_KEY: key })
    expect([bare.status, bare.stderr]).toEqual([1, expect.stringContaining('not visible ASCII')])
  })

  it('refuses a SLUICE_BEARER that it would not accept afterwards', () => {
    const told = serve([], { SLUICE_BEARER: 'sk-sluice-mistyped' })
    expect([told.status, told.stderr]).toEqual([1, expect.stringContaining('SLUICE_BEARER')])
    expect(told.stderr + told.stdout).not.toContain('sk-sluice-mistyped')
  })

  it.each(['listen', 'admin'] as const)(
    'names the port of %s that somebody else has, and ends with 1',
    async (which) => {
      const [port, redis] = [await freePort(), await startRedis()]
      const occupant = createServer().listen(port, '127.0.0.1')
      try {
        const config = simpleConfig({
          provider: provider.url,
          over: { [which]: { port }, redis: { url: redis.url } },
        })
        await expect(startGateway({ config })).rejects.toThrow(
          new RegExp(`the gateway ended[\\s\\S]*port ${port} .*in use`),
        )
        const path = join(temporaryFolder('busy'), 'sluice.json')
        const other = which === 'listen' ? 'admin' : 'listen'
        writeFileSync(
          path,
          JSON.stringify({
            ...config,
            [which]: { host: '127.0.0.1', port },
            [other]: { host: '127.0.0.1', port: 0 },
          }),
        )
        const told = serve(['--config', path])
        expect(told.status).toBe(1)
        expect(told.stderr).toContain(`port ${port}`)
        expect(told.stderr).not.toMatch(/\bat .*\.ts:\d+/)
      } finally {
        occupant.close()
        await redis.stop()
      }
    },
  )
})

/** The process and all that came of it (Linux). */
function familyOf(pid: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {
      // It ended meanwhile.
    }
  }
  const family = [pid]
  for (const one of family) for (const [child, parent] of parents) if (parent === one) family.push(child)
  return family
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    // A zombie waits for its parent and runs no more.
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.on('close', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
