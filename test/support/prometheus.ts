// A real Prometheus with the rules of deploy/prometheus, and its promtool. Nothing on disk outlives it.

import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { stringify } from 'yaml'
import { ensureBinary, PROMETHEUS } from './debian-binary.ts'
import { freePort } from './ports.ts'
import { exited, spawnTracked, temporaryFolder } from './run-folder.ts'

export const DEPLOYED = resolve(import.meta.dirname, '../../deploy/prometheus')

/** One series of an answer, with what it was at the times asked for. */
export interface Series {
  readonly labels: Readonly<Record<string, string>>
  /** Seconds since 1970, and the value; NaN is one. */
  readonly points: readonly (readonly [seconds: number, value: number])[]
}

export interface Alert {
  readonly name: string
  readonly state: 'pending' | 'firing'
  readonly labels: Readonly<Record<string, string>>
}

export interface Prometheus {
  readonly url: string
  /** Seconds since 1970; default the present. */
  query(query: string, atSeconds?: number): Promise<readonly Series[]>
  range(query: string, over: { from: number; to: number; step: number }): Promise<readonly Series[]>
  alerts(): Promise<readonly Alert[]>
  /** Labels of the exemplars that it keeps of a query's series. */
  exemplars(
    query: string,
    over: { from: number; to: number },
  ): Promise<readonly Readonly<Record<string, string>>[]>
  /** Values of a label over all series that match. */
  labelValues(label: string, match: string): Promise<readonly string[]>
  /** The addresses that were last scraped without an error. */
  healthyTargets(): Promise<readonly string[]>
  stop(): Promise<void>
}

export interface PrometheusOptions {
  /** Ports of operators on 127.0.0.1. */
  readonly targets: readonly number[]
  /** Changes the text of each file of rules, for shorter times than an operator's. */
  readonly rules?: (text: string) => string
}

/** What promtool says, and whether it is content. */
export function promtool(args: readonly string[], cwd = DEPLOYED): { good: boolean; said: string } {
  const { path, env } = binary()
  const { status, stdout, stderr } = spawnSync(join(dirname(path), 'promtool'), args, {
    cwd,
    encoding: 'utf8',
    timeout: 30_000,
    env: { ...process.env, ...env },
  })
  return { good: status === 0, said: `${stdout}${stderr}` }
}

/** Starts it, looking at gateways each second, and waits until it answers. */
export async function startPrometheus({
  targets,
  rules = (text) => text,
}: PrometheusOptions): Promise<Prometheus> {
  const { path, env } = binary()
  const folder = temporaryFolder('prometheus')
  mkdirSync(join(folder, 'rules'))
  for (const name of readdirSync(join(DEPLOYED, 'rules')))
    writeFileSync(join(folder, 'rules', name), rules(readFileSync(join(DEPLOYED, 'rules', name), 'utf8')))
  writeFileSync(
    join(folder, 'prometheus.yml'),
    stringify({
      global: { scrape_interval: '1s', evaluation_interval: '1s' },
      rule_files: ['rules/*.yml'],
      scrape_configs: [
        { job_name: 'sluice', static_configs: [{ targets: targets.map((port) => `127.0.0.1:${port}`) }] },
      ],
    }),
  )
  const port = await freePort()
  const child = spawnTracked(
    path,
    [
      `--config.file=${join(folder, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(folder, 'series')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--enable-feature=exemplar-storage',
    ],
    { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } },
  )
  let said = ''
  child.stderr?.on('data', (text: Buffer) => {
    said = (said + text.toString()).slice(-16_384)
  })
  const url = `http://127.0.0.1:${port}`
  for (const giveUpAt = performance.now() + 20_000; ; ) {
    if (child.exitCode !== null) throw new Error(`prometheus did not start: ${said}`)
    if ((await fetch(`${url}/-/ready`).catch(() => undefined))?.ok) break
    if (performance.now() > giveUpAt) throw new Error(`prometheus says nothing: ${said}`)
    await new Promise((done) => setTimeout(done, 50))
  }

  // biome-ignore lint/suspicious/noExplicitAny: what it says is what is tested
  async function ask(endpoint: string, words: Readonly<Record<string, string>>): Promise<any> {
    const response = await fetch(`${url}/api/v1/${endpoint}?${new URLSearchParams(words)}`)
    const answer = JSON.parse(await response.text())
    if (response.status !== 200)
      throw new Error(`${response.status} for ${words.query ?? endpoint}: ${answer.error}`)
    return answer.data
  }
  type Told = { metric: Record<string, string>; value?: [number, string]; values?: [number, string][] }
  const toSeries = ({ result }: { result: readonly Told[] }): Series[] =>
    result.map(({ metric, value, values = value === undefined ? [] : [value] }) => ({
      labels: metric,
      points: values.map(([at, text]) => [at, toNumber(text)] as const),
    }))

  return {
    url,
    query: async (query, atSeconds) =>
      toSeries(
        await ask('query', {
          query,
          ...(atSeconds !== undefined && { time: String(Math.floor(atSeconds)) }),
        }),
      ),
    range: async (query, { from, to, step }) =>
      toSeries(await ask('query_range', { query, start: String(from), end: String(to), step: String(step) })),
    alerts: async () =>
      (await ask('alerts', {})).alerts.map(
        ({ state, labels }: { state: Alert['state']; labels: Record<string, string> }) => ({
          name: labels.alertname ?? '',
          state,
          labels,
        }),
      ),
    exemplars: async (query, { from, to }) =>
      (await ask('query_exemplars', { query, start: String(from), end: String(to) })).flatMap(
        ({ exemplars }: { exemplars: readonly { labels: Readonly<Record<string, string>> }[] }) =>
          exemplars.map(({ labels }) => labels),
      ),
    labelValues: (label, match) => ask(`label/${label}/values`, { 'match[]': match }),
    healthyTargets: async () =>
      (await ask('targets', { state: 'active' })).activeTargets
        .filter(({ health }: { health: string }) => health === 'up')
        .map(({ labels }: { labels: Record<string, string> }) => labels.instance),
    async stop() {
      child.kill('SIGKILL')
      await exited(child)
    },
  }
}

function binary() {
  return ensureBinary(PROMETHEUS, (line) => process.stderr.write(`${line}\n`))
}

function toNumber(text: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY
  return text === '-Inf' ? Number.NEGATIVE_INFINITY : Number(text)
}
