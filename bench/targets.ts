// What is measured: how each target is brought, configured and started. All call the same mock, all run on the same
// core. What cannot be installed is left out, and that is said loudly.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { bearerSha256 } from '../src/config/bearer.ts'
import { type Binary, ensureBinary, HAPROXY, NGINX } from '../test/support/debian-binary.ts'
import { freePort } from '../test/support/ports.ts'
import type { TestRedis } from '../test/support/redis.ts'
import { exited, spawnTracked, temporaryFolder } from '../test/support/run-folder.ts'
import { IS_PINNED, LOAD_CORE, pinned, TARGET_CORE } from './machine.ts'
import { CACHE } from './native.ts'

export interface Field {
  readonly mockPort: number
  readonly redis: TestRedis
  readonly say: (line: string) => void
}

export interface Target {
  readonly name: string
  /** Version and what is on, for the page of results. */
  readonly about: string
  /** It compiles itself as it goes, and a round takes longer to settle. */
  readonly warmsUp: boolean
  readonly start: (field: Field) => Promise<Started>
}

export interface Started {
  readonly port: number
  readonly pid: number
  /** Header lines that a request to it needs. */
  readonly headers: readonly string[]
  /** From its start to its first 200, in ms. */
  readonly startMs: number
  stop(): Promise<void>
}

export const MODEL = 'bench-model'
const BEARER = 'a-bearer-for-the-bench-and-nothing-else'
/** No target asks who it is talking to but the gateways; all send one. */
const AUTHORIZATION = `authorization: Bearer ${BEARER}`

const targetCores = IS_PINNED ? [TARGET_CORE] : []

interface Program {
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly cores?: readonly number[]
  readonly port: number
  readonly headers?: readonly string[]
  /** Where its standard output goes; thrown away otherwise. */
  readonly output?: string
  readonly startLimitMs?: number
}

/** Starts a program and waits until it answers a chat with 200. */
async function run(program: Program): Promise<Started> {
  const { port, headers = [AUTHORIZATION], cores = targetCores } = program
  const errors = join(temporaryFolder('target'), 'stderr')
  const { command, args } = pinned(cores, program.command, program.args)
  const startedMs = performance.now()
  const child = spawnTracked(command, args, {
    stdio: [
      'ignore',
      program.output === undefined ? 'ignore' : openSync(program.output, 'w'),
      openSync(errors, 'w'),
    ],
    env: { ...process.env, NODE_OPTIONS: '', ...program.env },
    cwd: program.cwd,
  })
  const { pid } = child
  let failure: Error | undefined
  child.once('error', (error) => {
    failure = error
  })
  const lines = Object.fromEntries(
    headers.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
  )
  const giveUpAt = performance.now() + (program.startLimitMs ?? 20_000)
  for (;;) {
    const told = (): string => readFileSync(errors, 'utf8').slice(-2000)
    if (failure !== undefined || child.exitCode !== null || pid === undefined)
      throw new Error(`${program.command} ended: ${failure?.message ?? told()}`)
    const answer = await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close', ...lines },
      body: JSON.stringify({ model: MODEL, messages: [{ role: 'user', content: 'hello' }] }),
    }).catch(() => undefined)
    await answer?.arrayBuffer()
    if (answer?.status === 200) break
    if (performance.now() > giveUpAt)
      throw new Error(
        `${program.command} does not answer with 200 (${answer?.status ?? 'nothing'}): ${told()}`,
      )
    await new Promise((done) => setTimeout(done, 3))
  }
  return {
    port,
    pid,
    headers,
    startMs: performance.now() - startedMs,
    async stop() {
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), 3000)
      await exited(child)
      clearTimeout(timer)
    },
  }
}

// --- what is there to compare with -----------------------------------------------------------------------------

export function nginx(say: (line: string) => void): Target {
  const binary = ensureBinary(NGINX, say)
  return {
    name: 'nginx',
    warmsUp: false,
    about: `${versionOf(binary, NGINX.ask)}, one worker, keep-alive to the upstream, buffering and log off`,
    async start({ mockPort }) {
      const port = await freePort()
      const folder = temporaryFolder('bench-nginx')
      const path = join(folder, 'nginx.conf')
      const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
        .map((name) => `${name}_temp_path ${folder}/${name};`)
        .join(' ')
      writeFileSync(
        path,
        `${process.getuid?.() === 0 ? 'user root;' : ''}
daemon off; worker_processes 1; pid ${folder}/pid; error_log stderr warn;
events { worker_connections 8000; }
http {
  access_log off; ${paths}
  keepalive_requests 1000000000; client_body_buffer_size 64k; client_max_body_size 32m;
  upstream mock { server 127.0.0.1:${mockPort}; keepalive 1024; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }
  }
}
`,
      )
      return run({
        command: binary.path,
        args: ['-c', path, '-e', 'stderr', '-p', folder],
        env: binary.env,
        port,
      })
    },
  }
}

export function haproxy(say: (line: string) => void): Target {
  const binary = ensureBinary(HAPROXY, say)
  return {
    name: 'HAProxy',
    warmsUp: false,
    about: `${versionOf(binary, HAPROXY.ask)}, one thread, http-no-delay, log off`,
    async start({ mockPort }) {
      const port = await freePort()
      const path = join(temporaryFolder('bench-haproxy'), 'haproxy.cfg')
      writeFileSync(
        path,
        `global
  nbthread 1
  maxconn 8000
defaults
  mode http
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
listen bench
  bind 127.0.0.1:${port} backlog 4096
  server mock 127.0.0.1:${mockPort} pool-max-conn 4096
`,
      )
      return run({ command: binary.path, args: ['-db', '-f', path], env: binary.env, port })
    },
  }
}

export function plainProxy(): Target {
  return {
    name: 'http.request proxy',
    warmsUp: true,
    about: `Node ${process.version}, bench/plain-proxy.ts, no features`,
    async start({ mockPort }) {
      const port = await freePort()
      const script = join(import.meta.dirname, 'plain-proxy.ts')
      return run({ command: process.execPath, args: [script, String(port), String(mockPort)], port })
    },
  }
}

/** Makes `dist/`, which is what the package and the image run. */
export function buildSluice(): void {
  const root = resolve(import.meta.dirname, '..')
  const done = spawnSync('npm', ['run', '-s', 'build'], { cwd: root, encoding: 'utf8' })
  if (done.status !== 0) throw new Error(`npm run build failed: ${done.stdout}${done.stderr}`)
}

/** Sluice as it is deployed: built, with the flags of `npm start`, and everything on. */
export function sluice({
  workers = 1,
  name = 'Sluice',
  format = 'openai',
}: {
  workers?: number
  name?: string
  format?: 'openai' | 'anthropic'
} = {}): Target {
  return {
    name,
    warmsUp: true,
    about: `Node ${process.version}, ${workers === 1 ? 'one process' : `${workers} workers`}${format === 'openai' ? '' : `, providers of the format ${format}`}: bearer, scopes, leased limits of requests, tokens and slots on Redis, prices, failover over two tiers, metrics, one log line a request to a file`,
    async start({ mockPort, redis }) {
      const [port, adminPort] = [await freePort(), await freePort()]
      const folder = temporaryFolder('bench-sluice')
      mkdirSync(join(folder, 'policies'))
      writeFileSync(
        join(folder, 'policies', 'bench.yaml'),
        `agent: bench
bearers:
  - { id: first, sha256: ${bearerSha256(BEARER)} }
scopes: ["chat:bench-*", "embeddings:*"]
limits: { requests: 1000000/s, tokens: 100000000000/min, concurrency: 100000 }
`,
      )
      const provider = `{ format: ${format}, baseUrl: "http://127.0.0.1:${mockPort}/v1", apiKey: "env:BENCH_KEY" }`
      const price = 'price: { input: 1.25, output: 10 }'
      const path = join(folder, 'sluice.yaml')
      writeFileSync(
        path,
        `listen: { host: 127.0.0.1, port: ${port}, workers: ${workers}, maxConnections: 8000, drain: 1s, drainNotice: 0s }
admin: { host: 127.0.0.1, port: ${adminPort} }
redis: { url: "${redis.url}" }
policies: ./policies
providers:
  main: ${provider}
  spare: ${provider}
tiers:
  first: { deployments: [{ use: main/mock-model, ${price} }] }
  second: { deployments: [{ use: spare/mock-model, ${price} }] }
routes: { bench-model: [first, second] }
`,
      )
      return run({
        command: process.execPath,
        args: [...startFlags(), resolve(import.meta.dirname, '../dist/main.js'), 'serve', '--config', path],
        env: { BENCH_KEY: 'a-key-of-the-mock', NODE_COMPILE_CACHE: join(CACHE, 'compile') },
        cores: workers === 1 || !IS_PINNED ? targetCores : [LOAD_CORE, TARGET_CORE],
        output: join(folder, 'log'),
        port,
      })
    },
  }
}

/** The flags that `npm start` gives to Node. */
function startFlags(): string[] {
  const file: unknown = JSON.parse(readFileSync(resolve(import.meta.dirname, '../package.json'), 'utf8'))
  const start = JSON.stringify(file).match(/"start":"(.*?)"/)?.[1] ?? ''
  return start.split(' ').filter((word) => word.startsWith('--'))
}

const PORTKEY = { version: '1.15.2', server: '1.11.0' }

/** From npm; with a newer @hono/node-server it answers every stream with 500. */
export function portkey(say: (line: string) => void): Target | undefined {
  const folder = join(CACHE, `portkey-${PORTKEY.version}`)
  const script = join(folder, 'node_modules/@portkey-ai/gateway/build/start-server.js')
  if (!existsSync(script)) {
    mkdirSync(folder, { recursive: true })
    const wanted = {
      private: true,
      dependencies: { '@portkey-ai/gateway': PORTKEY.version },
      overrides: { '@hono/node-server': PORTKEY.server },
    }
    writeFileSync(join(folder, 'package.json'), JSON.stringify(wanted))
    say('Portkey: npm install …')
    const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--omit=dev']
    if (!didRun('npm', ['install', ...flags], { say, name: 'Portkey', cwd: folder })) return undefined
  }
  return {
    name: 'Portkey',
    warmsUp: true,
    about: `@portkey-ai/gateway ${PORTKEY.version} with @hono/node-server ${PORTKEY.server}, Node ${process.version}, no configuration`,
    async start({ mockPort }) {
      const port = await freePort()
      return run({
        command: process.execPath,
        args: [script, '--headless', `--port=${port}`],
        env: { NODE_ENV: 'production', TRUSTED_CUSTOM_HOSTS: '127.0.0.1,localhost' },
        port,
        headers: [
          AUTHORIZATION,
          'x-portkey-provider: openai',
          `x-portkey-custom-host: http://127.0.0.1:${mockPort}/v1`,
        ],
      })
    },
  }
}

const LITELLM = '1.108.7'

/** From PyPI, in an environment of its own. */
export function litellm(say: (line: string) => void): Target | undefined {
  const folder = join(CACHE, `litellm-${LITELLM}`)
  const program = join(folder, 'bin/litellm')
  if (!existsSync(program)) {
    mkdirSync(CACHE, { recursive: true })
    say('LiteLLM: pip install …')
    const name = 'LiteLLM'
    if (!didRun('python3', ['-m', 'venv', folder], { say, name })) return undefined
    const pip = join(folder, 'bin/pip')
    if (!didRun(pip, ['install', '-q', `litellm[proxy]==${LITELLM}`], { say, name })) return undefined
  }
  return {
    name: 'LiteLLM',
    warmsUp: false,
    about: `litellm[proxy] ${LITELLM}, one worker, a master key, no database`,
    async start({ mockPort }) {
      const port = await freePort()
      const path = join(temporaryFolder('bench-litellm'), 'config.yaml')
      writeFileSync(
        path,
        `model_list:
  - model_name: ${MODEL}
    litellm_params: { model: openai/mock-model, api_base: "http://127.0.0.1:${mockPort}/v1", api_key: a-key }
general_settings: { master_key: sk-${BEARER} }
litellm_settings: { telemetry: false }
`,
      )
      return run({
        command: program,
        args: [
          ...['--config', path, '--host', '127.0.0.1'],
          ...['--port', String(port), '--num_workers', '1'],
        ],
        env: { LITELLM_LOCAL_MODEL_COST_MAP: 'True', LITELLM_LOG: 'ERROR' },
        port,
        headers: [`authorization: Bearer sk-${BEARER}`],
        startLimitMs: 90_000,
      })
    },
  }
}

/** Installs; false, with the reason said, where that does not work. */
function didRun(
  command: string,
  args: readonly string[],
  { say, name, cwd }: { say: (line: string) => void; name: string; cwd?: string },
): boolean {
  const done = spawnSync(command, args, { cwd, encoding: 'utf8', timeout: 300_000 })
  if (done.status === 0) return true
  const why = done.error?.message ?? done.stderr.trim().split('\n').slice(-3).join(' ')
  say(`NOT MEASURED: ${name} could not be installed: ${why}`)
  return false
}

function versionOf({ path, env }: Binary, ask: string): string {
  const { stdout, stderr } = spawnSync(path, [ask], { encoding: 'utf8', env: { ...process.env, ...env } })
  return /(?:nginx\/|HAProxy version )([\d.]+)/.exec(stdout + stderr)?.[1] ?? ''
}
