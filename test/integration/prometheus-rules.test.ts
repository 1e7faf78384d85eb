// The files of deploy/prometheus, judged by Prometheus' own promtool. What rules do on a fleet is in test/system.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { DEPLOYED, promtool } from '../support/prometheus.ts'

interface RuleFile {
  readonly groups: readonly { readonly rules: readonly { alert?: string; record?: string; expr: string }[] }[]
}

const read = (path: string) => readFileSync(join(DEPLOYED, path), 'utf8')
const rulesOf = (path: string) => (parse(read(path)) as RuleFile).groups.flatMap(({ rules }) => rules)

it('the configuration and its rules are what Prometheus can read', { timeout: 400_000 }, () => {
  const { good, said } = promtool(['check', 'config', 'prometheus.yml'])
  expect(good, said).toBe(true)
  expect(said).toContain('2 rule files found')
})

it('each alert fires on its cause and not otherwise, by the tests beside it', () => {
  const { good, said } = promtool(['test', 'rules', 'rules.test.yaml'])
  expect(good, said).toBe(true)
  const alerts = rulesOf('rules/alerts.yml').map(({ alert }) => alert)
  const tested = [...read('rules.test.yaml').matchAll(/alertname: (\w+)$[^-]*exp_alerts:/gm)].map(
    ([, name]) => name,
  )
  expect([...new Set(tested)].sort()).toEqual(alerts.sort())
})

it('each alert is explained', () => {
  const page = readFileSync(join(DEPLOYED, '../observability.md'), 'utf8')
  for (const { alert } of rulesOf('rules/alerts.yml')) expect(page).toContain(`\`${alert}\``)
})
