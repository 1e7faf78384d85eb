// A real sluice in a process of its own, as an operator starts it: a file, policies, signals. Nothing of src/ is
// imported here, so what the tests see is what a caller sees.

import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { stringify } from 'yaml'
import { freePort, releasePort, takePort } from './ports.ts'
import { exited, spawnTracked, temporaryFolder } from './run-folder.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const NODE = join(ROOT, 'node_modules/.bin/node')
const MAIN = join(ROOT, 'src/main.ts')
const COMPILE_CACHE = join(ROOT, 'node_modules/.cache/compile')

/** Configuration or policy: a value to be written as YAML, or the text itself. */
export type Document = Readonly<Record<string, unknown>> | string

export interface GatewayOptions {
  /** Undefined: no file at all, in an empty folder (design §3). Ports, a short drain and an admin token are added where the value has none. */
  readonly config: Document | undefined
  /** By file name. Default: one agent `tester` with every scope and the bearer of the result. */
  readonly policies?: Readonly<Record<string, Document>>
  readonly env?: Readonly<Record<string, string>>
  /** Added to `serve`. */
  readonly args?: readonly string[]
  readonly cwd?: string
  /** How long it may take to listen. */
  readonly startMs?: number
  /** Another program than src/main.ts, such as dist/main.js. */
  readonly main?: string
}

export interface TestGateway {
  /** `http://127.0.0.1:port` */
  readonly url: string
  /** `…/v1`, what agents are given. */
  readonly baseUrl: string
  readonly adminUrl: string
  readonly port: number
  readonly adminPort: number
  readonly adminToken: string
  /** Of the default agent, or the one printed when there is no configuration. */
  readonly bearer: string
  /** What the printed `export` lines set, when there is no configuration. */
  readonly exports: Readonly<Record<string, string>>
  readonly pid: number
  readonly configPath: string
  readonly policiesPath: string
  stdout(): string
  stderr(): string
  /** The lines of standard output that are JSON. */
  logLines(): Record<string, unknown>[]
  /** Resolves with the first log line for which `match` holds, past or to come. */
  waitForLog(
    match: (line: Record<string, unknown>) => boolean,
    timeoutMs?: number,
  ): Promise<Record<string, unknown>>
  /** Whoever reads its standard output goes away. */
  closeOutput(): void
  /** POST /reload with the admin token. */
  reload(): Promise<Response>
  signal(name: NodeJS.Signals): void
  /** SIGTERM; resolves with the exit code. Rejects when it had to be killed. */
  stop(timeoutMs?: number): Promise<number | null>
  /** Resolves with the exit code when it ends by itself. */
  ended(): Promise<number | null>
  kill9(): Promise<void>
  /** Replaces a file at one stroke, as a careful operator does. */
  writePolicy(name: string, policy: Document): void
  removePolicy(name: string): void
  /** Replaces the configuration, with the same ports and admin token. Not read before a reload. */
  writeConfig(config: Document): void
}

export interface TestBearer {
  readonly bearer: string
  readonly sha256: string
}

/** A bearer that is nobody's yet. */
export function makeBearer(): TestBearer {
  const bearer = `test-${randomBytes(24).toString('base64url')}`
  return { bearer, sha256: createHash('sha256').update(bearer).digest('hex') }
}

/** A policy file for one agent; `more` is merged over it. */
export function agentPolicy(
  agent: string,
  bearers: TestBearer | readonly TestBearer[],
  more: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  const many = 'sha256' in bearers ? [bearers] : bearers
  return {
    agent,
    bearers: many.map(({ sha256 }, index) => ({ id: `b${index + 1}`, sha256 })),
    scopes: ['chat:*', 'embeddings:*'],
    ...more,
  }
}

export interface SimpleConfigOptions {
  /** Origins of OpenAI-speaking servers, one tier each in that order: providers `p1`, `p2`, …, tiers `t1`, `t2`, … */
  readonly provider: string | readonly string[]
  /** The public name, a route over all tiers. */
  readonly model?: string
  /** Environment variable with the key of every provider; none by default. */
  readonly keyVariable?: string
  /** Merged into every tier, for example `{ idle: '200ms' }`. */
  readonly tier?: Readonly<Record<string, unknown>>
  /** Merged into every provider. */
  readonly settings?: Readonly<Record<string, unknown>>
  /** Merged deeply over the whole. */
  readonly over?: Readonly<Record<string, unknown>>
}

/** The least configuration that works: model `m` by default, deployments `p1/m1`, `p2/m2`, … */
export function simpleConfig(options: SimpleConfigOptions): Record<string, unknown> {
  const urls = typeof options.provider === 'string' ? [options.provider] : options.provider
  const each = <T>(of: (url: string, n: number) => readonly [string, T]): Record<string, T> =>
    Object.fromEntries(urls.map((url, index) => of(url, index + 1)))
  const base = {
    providers: each((url, n) => [
      `p${n}`,
      {
        format: 'openai',
        baseUrl: new URL(url).pathname === '/' ? `${url}/v1` : url,
        ...(options.keyVariable ? { apiKey: `env:${options.keyVariable}` } : {}),
        ...options.settings,
      },
    ]),
    tiers: each((_, n) => [`t${n}`, { deployments: [`p${n}/m${n}`], ...options.tier }]),
    routes: { [options.model ?? 'm']: urls.map((_, index) => `t${index + 1}`) },
  }
  return merge(base, options.over ?? {})
}

/** Starts sluice and waits until it listens; throws with what it printed when it does not. */
export async function startGateway(options: GatewayOptions): Promise<TestGateway> {
  const folder = temporaryFolder('gateway')
  const configPath = join(folder, 'sluice.yaml')
  const policiesPath = join(folder, 'policies')
  const bare = options.config === undefined
  // Without a configuration the ports are the contract's; everybody who needs them waits for his turn.
  const [port, adminPort] = bare ? [7456, 7457] : [await freePort(), await freePort()]
  if (bare) await Promise.all([takePort(port), takePort(adminPort)])
  const adminToken = `admin-${randomBytes(18).toString('base64url')}`
  const own = makeBearer()

  const replace = (path: string, document: Document): void => {
    // Written beside the folder that is watched, then moved in: nobody can read half a file.
    const beside = join(folder, `.new-${randomBytes(4).toString('hex')}`)
    writeFileSync(beside, typeof document === 'string' ? document : stringify(document))
    renameSync(beside, path)
  }
  const writeConfig = (config: Document): void =>
    replace(configPath, typeof config === 'string' ? config : withDefaults(config, port, adminPort))
  const policyFile = (name: string): string =>
    join(policiesPath, /\.(ya?ml|json)$/.test(name) ? name : `${name}.yaml`)
  const writePolicy = (name: string, policy: Document): void => replace(policyFile(name), policy)

  if (options.config !== undefined) {
    mkdirSync(policiesPath)
    writeConfig(options.config)
    const policies = options.policies ?? { tester: agentPolicy('tester', own) }
    for (const [name, policy] of Object.entries(policies)) writePolicy(name, policy)
  }
  const child = spawnTracked(
    NODE,
    [options.main ?? MAIN, 'serve', ...(bare ? [] : ['--config', configPath]), ...(options.args ?? [])],
    {
      cwd: options.cwd ?? folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        TZ: process.env.TZ,
        // As `npm start` has it: a start takes a third of the time, and the tests make hundreds.
        NODE_COMPILE_CACHE: COMPILE_CACHE,
        ...(bare ? {} : { SLUICE_ADMIN_TOKEN: adminToken }),
        ...options.env,
      },
    },
  )

  let stdout = ''
  let stderr = ''
  const lines: Record<string, unknown>[] = []
  let unfinished = ''
  const news = new Set<() => void>()
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    const parts = (unfinished + text).split('\n')
    unfinished = parts.pop() ?? ''
    for (const part of parts) {
      const line = parseLine(part)
      if (line) lines.push(line)
    }
    for (const tell of news) tell()
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  let over = false
  const end = exited(child).then((code) => {
    over = true
    if (bare) for (const one of [port, adminPort]) releasePort(one)
    for (const tell of news) tell()
    return code
  })
  child.once('error', (error) => {
    stderr += `${error.message}\n`
    over = true
    for (const tell of news) tell()
  })
  const clean = (): void => rmSync(folder, { recursive: true, force: true })
  const until = <T>(timeoutMs: number, what: string, look: () => T | undefined): Promise<T> =>
    new Promise((found, fail) => {
      const settle = (act: () => void): void => {
        clearTimeout(timer)
        news.delete(tell)
        act()
      }
      const told = (): string =>
        `${what}\n--- standard error ---\n${stderr}\n--- standard output ---\n${stdout}`
      const tell = (): void => {
        const seen = look()
        if (seen !== undefined) settle(() => found(seen))
        // Its last words may still be in the pipe.
        else if (over) settle(() => setTimeout(() => fail(new Error(`the gateway ended: ${told()}`)), 50))
      }
      const timer = setTimeout(
        () => settle(() => fail(new Error(`${timeoutMs} ms went by: ${told()}`))),
        timeoutMs,
      )
      news.add(tell)
      tell()
    })
  const findExports = (): Record<string, string> | undefined => {
    const found = Object.fromEntries(
      [...stdout.matchAll(/^\s*export ([A-Z_]+)=(?:"([^"\n]*)"|'([^'\n]*)'|(\S*))\s*?\n/gm)].map((match) => [
        match[1] ?? '',
        match[2] ?? match[3] ?? match[4] ?? '',
      ]),
    )
    return 'OPENAI_BASE_URL' in found && 'OPENAI_API_KEY' in found ? found : undefined
  }

  const startMs = options.startMs ?? 20_000
  let exports: Record<string, string> = {}
  try {
    if (bare) {
      exports = await until(startMs, 'no export lines', findExports)
      await answers(`http://127.0.0.1:${port}/health`, startMs)
    } else {
      await until(startMs, 'no log line says `listening`', () =>
        lines.find((line) => typeof line.msg === 'string' && line.msg.includes('listening')),
      )
    }
  } catch (error) {
    child.kill('SIGKILL')
    await end
    clean()
    throw error
  }

  return {
    url: `http://127.0.0.1:${port}`,
    baseUrl: `http://127.0.0.1:${port}/v1`,
    adminUrl: `http://127.0.0.1:${adminPort}`,
    port,
    adminPort,
    adminToken,
    bearer: exports.OPENAI_API_KEY ?? own.bearer,
    exports,
    pid: child.pid ?? 0,
    configPath,
    policiesPath,
    stdout: () => stdout,
    stderr: () => stderr,
    logLines: () => [...lines],
    waitForLog: (match, timeoutMs = 5_000) => until(timeoutMs, 'no such log line', () => lines.find(match)),
    closeOutput: () => void child.stdout?.destroy(),
    reload: () =>
      fetch(`http://127.0.0.1:${adminPort}/reload`, {
        method: 'POST',
        headers: { authorization: `Bearer ${adminToken}` },
        signal: AbortSignal.timeout(10_000),
      }),
    signal: (name) => void child.kill(name),
    stop: async (timeoutMs = 10_000) => {
      let killed = false
      if (!over) child.kill('SIGTERM')
      const timer = setTimeout(() => {
        killed = true
        child.kill('SIGKILL')
      }, timeoutMs)
      const code = await end
      clearTimeout(timer)
      clean()
      if (killed)
        throw new Error(`the gateway did not end within ${timeoutMs} ms of SIGTERM\n${stderr}\n${stdout}`)
      return code
    },
    ended: () => end,
    kill9: async () => {
      child.kill('SIGKILL')
      await end
    },
    writePolicy,
    removePolicy: (name) => rmSync(policyFile(name), { force: true }),
    writeConfig,
  }
}

/** What a test needs and seldom wants to say. What the configuration says itself wins. */
function withDefaults(
  config: Exclude<Document, string>,
  port: number,
  adminPort: number,
): Record<string, unknown> {
  const defaults = {
    // One process, whatever the machine has: those that test several ask for them.
    listen: { host: '127.0.0.1', port, workers: 1, drain: '5s', drainNotice: '0s' },
    admin: { host: '127.0.0.1', port: adminPort, token: 'env:SLUICE_ADMIN_TOKEN' },
    policies: './policies',
  }
  return merge(defaults, config)
}

/** Deep over records; everything else of `over` replaces. An undefined value takes the key away. */
function merge(
  base: Readonly<Record<string, unknown>>,
  over: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const merged: Record<string, unknown> = { ...base }
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key]
    if (value === undefined) delete merged[key]
    else merged[key] = isRecord(before) && isRecord(value) ? merge(before, value) : value
  }
  return merged
}

function parseLine(text: string): Record<string, unknown> | undefined {
  if (!text.startsWith('{')) return undefined
  try {
    const parsed: unknown = JSON.parse(text)
    return isRecord(parsed) ? parsed : undefined
  } catch {
    return undefined
  }
}

async function answers(url: string, timeoutMs: number): Promise<void> {
  const giveUpAt = performance.now() + timeoutMs
  for (;;) {
    const response = await fetch(url, { signal: AbortSignal.timeout(1_000) }).catch(() => undefined)
    await response?.body?.cancel()
    if (response?.ok) return
    if (performance.now() > giveUpAt) throw new Error(`${url} did not answer within ${timeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
