// What dashboards and rules ask for is there to be asked: metrics and labels of the catalogue, rules that are recorded.
// Whether anything comes of it on a fleet is in test/system.

import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { METRICS, type Metric } from '../../../src/usage/metrics.ts'
import { DASHBOARDS } from '../../support/dashboards.ts'

const DEPLOY = resolve(import.meta.dirname, '../../../deploy')
const CATALOGUE = new Map<string, Metric>(Object.values(METRICS).map((metric) => [metric.name, metric]))
const OF_HISTOGRAMS = /_(bucket|count|sum)$/

interface Rule {
  readonly record?: string
  readonly expr: string
}

const rules = readdirSync(join(DEPLOY, 'prometheus/rules')).flatMap((file): Rule[] =>
  parse(readFileSync(join(DEPLOY, 'prometheus/rules', file), 'utf8')).groups.flatMap(
    (group: { rules: Rule[] }) => group.rules,
  ),
)
const recorded = new Set(rules.flatMap(({ record }) => (record === undefined ? [] : [record])))

/** Every word of a query that is no metric that there is, and every label that its metric does not have. */
function strangers(expr: string): string[] {
  const found: string[] = []
  for (const [, name = '', matchers = ''] of expr.matchAll(/\b((?:\w+:)?sluice_[\w:]+)(?:\{([^}]*)\})?/g)) {
    if (name.includes(':')) {
      if (!recorded.has(name)) found.push(name)
      continue
    }
    const metric = CATALOGUE.get(name) ?? CATALOGUE.get(name.replace(OF_HISTOGRAMS, ''))
    if (metric === undefined || (metric.kind === 'histogram') !== OF_HISTOGRAMS.test(name)) found.push(name)
    for (const [, label = ''] of matchers.matchAll(/(\w+)\s*[=!]/g)) {
      const its: readonly string[] = metric?.labels ?? []
      if (!its.includes(label)) found.push(`${name}{${label}}`)
    }
  }
  return found
}

describe('what is asked of Prometheus', () => {
  it('is there: by dashboards, by their variables, and by rules', () => {
    const asked = DASHBOARDS.flatMap(({ rows, variables }) => [
      ...rows.flatMap(({ panels }) => panels.flatMap(({ queries }) => queries.map(({ expr }) => expr))),
      ...variables.map(({ metric, label }) => `${metric}{${label}=""}`),
    ])
    expect(asked.length).toBeGreaterThan(50)
    for (const expr of [...asked, ...rules.map((rule) => rule.expr)])
      expect(strangers(expr), expr).toEqual([])
  })

  it('would be told of if it were not', () => {
    expect(strangers('rate(sluice_wishes_total[5m]) > 0')).toEqual(['sluice_wishes_total'])
    expect(strangers('sluice_inflight{agent="a"}')).toEqual(['sluice_inflight{agent}'])
    expect(strangers('a:sluice_b:c')).toEqual(['a:sluice_b:c'])
    expect(strangers('sluice_overhead_seconds')).toEqual(['sluice_overhead_seconds'])
  })

  it('has no query that is recorded and read by nobody', () => {
    const all = JSON.stringify([DASHBOARDS, rules.map(({ expr }) => expr)])
    expect([...recorded].filter((name) => !all.includes(name))).toEqual([])
  })
})

describe('the dashboards', () => {
  const files = readdirSync(join(DEPLOY, 'grafana/dashboards'))
  const read = (file: string) => JSON.parse(readFileSync(join(DEPLOY, 'grafana/dashboards', file), 'utf8'))

  it('are files of JSON, each with a name of its own, one for each that is described', () => {
    expect(files.map((file) => read(file).uid).sort()).toEqual(DASHBOARDS.map(({ uid }) => uid).sort())
  })

  it('lie beside and below each other: no two panels in one place, none beyond the edge', () => {
    for (const file of files) {
      const taken = new Set<string>()
      for (const { gridPos, title } of read(file).panels) {
        expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24)
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1)
          for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
            expect(taken.has(`${x} ${y}`), `${file} ${title}`).toBe(false)
            taken.add(`${x} ${y}`)
          }
      }
    }
  })

  it('ask of no Prometheus by name, and use no variable that they do not have', () => {
    for (const file of files) {
      const whole = read(file)
      const variables = whole.templating.list.map(({ name }: { name: string }) => name)
      const used = [...JSON.stringify(whole.panels).matchAll(/\$(?!__)\{?(\w+)/g)].map(([, name]) => name)
      expect(
        used.filter((name) => !variables.includes(name)),
        file,
      ).toEqual([])
      for (const { type, targets = [], datasource } of whole.panels)
        if (type !== 'row')
          for (const asked of [{ datasource }, ...targets]) expect(asked.datasource.uid).toBe('$datasource')
    }
  })
})
