// What deploy/ hands out, judged by the code that will read it: Helm, the Go types of Kubernetes, Docker's own packages and
// systemd. Needs Go, and builds for a minute or three the first time.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { ensureBinary, SYSTEMD_ANALYZE } from '../support/debian-binary.ts'
import { mountFiles } from '../support/kubernetes-mount.ts'
import { temporaryFolder } from '../support/run-folder.ts'
import { isRecord } from '../support/scripted-provider.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const DEPLOY = join(ROOT, 'deploy')
const CHART = join(DEPLOY, 'helm')
const VALUES = readdirSync(join(CHART, 'ci')).map((file) => file.replace('-values.yaml', ''))
const FOLDER = temporaryFolder('deploy')
const JUDGE = join(FOLDER, 'deploy-check')

// biome-ignore lint/suspicious/noExplicitAny: the objects are read as they are, by paths that their types have
type Objects = any[]

beforeAll(() => {
  const go = ['go', '/usr/local/go/bin/go'].find((path) => spawnSync(path, ['version']).status === 0)
  if (go === undefined)
    throw new Error(
      'The chart is judged by the Go code of Helm and Kubernetes: put Go 1.26 or newer on the PATH (https://go.dev/dl)',
    )
  const built = spawnSync(go, ['build', '-trimpath', '-o', JUDGE, '.'], {
    cwd: join(ROOT, 'test/support/deploy-check'),
    encoding: 'utf8',
  })
  expect(`${built.stderr}${built.error ?? ''}`.replaceAll(/^go: downloading .*\n/gm, '')).toBe('')
}, 900_000)

function judge(...args: readonly string[]): unknown {
  const told = spawnSync(JUDGE, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
  expect([told.status, told.stderr]).toEqual([0, ''])
  return JSON.parse(told.stdout)
}

const rendered = (values: string): Objects =>
  judge('chart', CHART, join(CHART, 'ci', `${values}-values.yaml`)) as Objects

const one = (objects: Objects, kind: string, name = '') =>
  objects.find((object) => object.kind === kind && object.metadata.name.endsWith(name))

describe.each(VALUES)('the chart with %s-values.yaml', (values) => {
  it('is rendered and decoded strictly, and keeps what it promises', () => {
    const objects = rendered(values)
    const { spec } = one(objects, 'Deployment')
    const pod = spec.template.spec
    const [container] = pod.containers
    expect(spec.strategy.rollingUpdate).toEqual({ maxUnavailable: 0, maxSurge: 1 })
    expect(container.livenessProbe.httpGet).toMatchObject({ path: '/health', port: 'agents' })
    expect(container.readinessProbe.httpGet).toMatchObject({ path: '/ready', port: 'agents' })
    expect(pod.securityContext).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    })
    expect(container.securityContext).toMatchObject({
      ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
    })
    const { listen = {}, admin } = parse(one(objects, 'ConfigMap', 'config').data['sluice.yaml'])
    const ports = Object.fromEntries(
      container.ports.map(({ name, containerPort }: { name: string; containerPort: number }) => [
        name,
        containerPort,
      ]),
    )
    expect(ports).toEqual({ agents: listen.port ?? 7456, operators: admin.port ?? 7457 })
    const neededSeconds =
      container.lifecycle.preStop.sleep.seconds + seconds(listen.drainNotice) + seconds(listen.drain)
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(neededSeconds)
    // Either of the two says how many there are.
    expect(spec.replicas === undefined).toBe(one(objects, 'HorizontalPodAutoscaler') !== undefined)
  })

  it('gives a configuration that sluice finds good, on volumes as Kubernetes mounts them', () => {
    const objects = rendered(values)
    const at = join(FOLDER, values)
    const place = (text: string): string => text.replaceAll('/etc/sluice/', `${at}/`)
    const files = (value: unknown): Record<string, string> =>
      isRecord(value)
        ? Object.fromEntries(Object.entries(value).map(([name, text]) => [name, place(String(text))]))
        : {}
    mkdirSync(at)
    mountFiles(join(at, 'config'), files(one(objects, 'ConfigMap', 'config').data))
    mountFiles(join(at, 'policies'), files(one(objects, 'ConfigMap', 'policies').data))
    mountFiles(join(at, 'secrets'), files(one(objects, 'Secret')?.stringData), 0o440)
    const env = { PATH: process.env.PATH, LAB_KEY: 'key-of-the-lab' }
    const told = spawnSync(
      join(ROOT, 'node_modules/.bin/node'),
      [join(ROOT, 'src/main.ts'), 'check', '--json', '-c', join(at, 'config/sluice.yaml')],
      { encoding: 'utf8', env },
    )
    expect(JSON.parse(told.stdout)).toMatchObject({ ok: true, problems: [] })
  })
})

it('the chart has everything when everything is switched on, and selects what it labels', () => {
  const objects = rendered('full')
  expect([...new Set(objects.map(({ kind }) => kind))].sort()).toEqual([
    ...[
      'ConfigMap',
      'Deployment',
      'HorizontalPodAutoscaler',
      'Ingress',
      'NetworkPolicy',
      'PodDisruptionBudget',
    ],
    ...['Secret', 'Service', 'ServiceAccount', 'ServiceMonitor'],
  ])
  const labels = one(objects, 'Deployment').spec.template.metadata.labels
  const services = objects.filter(({ kind }) => kind === 'Service')
  const selectors = [
    one(objects, 'Deployment').spec.selector.matchLabels,
    one(objects, 'PodDisruptionBudget').spec.selector.matchLabels,
    one(objects, 'NetworkPolicy').spec.podSelector.matchLabels,
    ...services.map(({ spec }) => spec.selector),
  ]
  for (const selector of selectors) expect(labels).toMatchObject(selector)
  const { endpoints, selector } = one(objects, 'ServiceMonitor').spec
  const watched = services.filter(({ metadata }) =>
    Object.entries(selector.matchLabels).every(([name, value]) => metadata.labels[name] === value),
  )
  expect(watched.map(({ spec }) => spec.ports[0].name)).toEqual([endpoints[0].port])
  // Else it is the name of the Service, and no rule that asks for the job would find anything.
  const { jobLabel } = one(objects, 'ServiceMonitor').spec
  const jobs = watched.map(({ metadata }) => metadata.labels[jobLabel])
  const rules = ['alerts', 'recording'].map((name) =>
    readFileSync(join(DEPLOY, `prometheus/rules/${name}.yml`), 'utf8'),
  )
  expect([...new Set([...rules.join().matchAll(/job="([^"]*)"/g)].map(([, job]) => job))]).toEqual(jobs)
  const { metrics } = one(objects, 'HorizontalPodAutoscaler').spec
  expect(metrics.map(({ type }: { type: string }) => type)).toEqual(['Resource', 'Pods'])
})

it.each([
  ['a value that the chart does not know', 'replica: 3', 'replica'],
  ['no route', 'config: { providers: {}, tiers: {} }', 'routes'],
])('the chart refuses %s', (_, values, word) => {
  const path = join(FOLDER, 'wrong-values.yaml')
  writeFileSync(path, values)
  const told = spawnSync(JUDGE, ['chart', CHART, path], { encoding: 'utf8' })
  expect([told.status, told.stderr]).toEqual([1, expect.stringContaining(word)])
})

it('compose.yaml is one that Docker Compose reads', () => {
  const project = judge('compose', join(DEPLOY, 'compose.yaml'))
  const services = isRecord(project) && isRecord(project.services) ? Object.keys(project.services) : []
  expect(services.sort()).toEqual(['demo', 'grafana', 'nginx', 'prometheus', 'redis', 'sluice1', 'sluice2'])
})

it('the Dockerfile is one that BuildKit reads without a warning, and copies only what is let in', () => {
  const stages = judge('dockerfile', join(DEPLOY, 'Dockerfile')) as { Base: string; Commands: string[] }[]
  expect(stages.map(({ Base }) => Base)).toEqual([
    expect.stringMatching(/^docker\.io\/library\/node:/),
    'gcr.io/distroless/cc-debian12:nonroot',
  ])
  const copied = stages[0]?.Commands.filter((command) => command.startsWith('COPY ')).flatMap((command) =>
    command.split(' ').slice(1, -1),
  )
  for (const path of copied ?? []) expect(existsSync(join(ROOT, path)), path).toBe(true)
})

it('the unit is one that systemd takes without a word, and gives the process little to do harm with', () => {
  const { path, env } = ensureBinary(SYSTEMD_ANALYZE, (line) => process.stderr.write(`${line}\n`))
  const unit = join(FOLDER, 'sluice.service')
  const text = readFileSync(join(DEPLOY, 'systemd/sluice.service'), 'utf8')
  writeFileSync(unit, text.replace('/opt/sluice/node_modules/.bin/node', process.execPath))
  const ask = (...args: readonly string[]) =>
    spawnSync(path, args, { encoding: 'utf8', env: { ...process.env, ...env, LC_ALL: 'C.UTF-8' } })
  const verified = ask('verify', unit)
  expect([verified.status, verified.stdout + verified.stderr]).toEqual([0, ''])
  const judged = ask('security', '--offline=true', '--no-pager', unit)
  const exposure = /exposure level for sluice\.service: ([\d.]+)/.exec(judged.stdout)?.[1]
  expect(Number(exposure)).toBeLessThan(2)
})

function seconds(text: string): number {
  const [, count, unit] = /^(\d+)(s|m|h)$/.exec(text) ?? []
  return Number(count) * ({ s: 1, m: 60, h: 3600 }[unit ?? ''] ?? Number.NaN)
}
