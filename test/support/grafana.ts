// A dashboard in Grafana's JSON, and the queries of one with its variables filled in. The schema is that of Grafana 11,
// which 12 reads too.

import type { Dashboard, Panel, PanelKind, Query, Variable } from './dashboards.ts'

const SCHEMA = 39
const DATASOURCE = { type: 'prometheus', uid: '$datasource' }

const TYPES: Readonly<Record<PanelKind, string>> = {
  timeseries: 'timeseries',
  stat: 'stat',
  heatmap: 'heatmap',
  states: 'state-timeline',
  bars: 'bargauge',
}

/** The file of one dashboard, as Grafana loads it from a folder. */
export function toGrafanaJson(dashboard: Dashboard): string {
  const { uid, title, description, variables, rows } = dashboard
  const panels: object[] = []
  let y = 0
  for (const row of rows) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title: row.title,
      collapsed: false,
      gridPos: { x: 0, y, w: 24, h: 1 },
      panels: [],
    })
    y += 1
    let x = 0
    let height = 0
    for (const panel of row.panels) {
      if (x + panel.width > 24) {
        y += height
        x = 0
        height = 0
      }
      const gridPos = { x, y, w: panel.width, h: panel.height }
      panels.push({ id: panels.length + 1, ...toPanel(panel), gridPos })
      x += panel.width
      height = Math.max(height, panel.height)
    }
    y += height
  }
  const whole = {
    uid,
    title,
    description,
    tags: ['sluice'],
    schemaVersion: SCHEMA,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    timezone: 'browser',
    links: [
      {
        title: 'Sluice',
        type: 'dashboards',
        tags: ['sluice'],
        asDropdown: true,
        keepTime: true,
        includeVars: true,
      },
    ],
    templating: { list: [DATASOURCE_VARIABLE, ...variables.map(toVariable)] },
    annotations: { list: [] },
    panels,
  }
  return `${JSON.stringify(whole, undefined, 2)}\n`
}

const DATASOURCE_VARIABLE = {
  name: 'datasource',
  label: 'Prometheus',
  type: 'datasource',
  query: 'prometheus',
  current: {},
  hide: 0,
  refresh: 1,
}

function toVariable({ label, metric }: Variable): object {
  const query = `label_values(${metric}, ${label})`
  return {
    name: label,
    label,
    type: 'query',
    datasource: DATASOURCE,
    definition: query,
    query: { query, refId: label },
    includeAll: true,
    // Requests without a route or an agent are requests too.
    allValue: '.*',
    multi: true,
    current: { selected: true, text: ['All'], value: ['$__all'] },
    // With the time that is shown: what there was then.
    refresh: 2,
    sort: 1,
    hide: 0,
  }
}

function toPanel(panel: Panel): object {
  const { title, description, kind, unit, queries, stacked = false, states, thresholds } = panel
  const names = Object.fromEntries(
    (states ?? []).map(([value, text, color], index) => [value, { text, color, index }]),
  )
  return {
    type: TYPES[kind],
    title,
    ...(description !== undefined && { description }),
    datasource: DATASOURCE,
    targets: queries.map((query, index) => toTarget(query, kind, String.fromCharCode(65 + index))),
    fieldConfig: {
      defaults: {
        unit,
        ...(unit === 'percentunit' && { min: 0, max: 1 }),
        ...(kind === 'timeseries' && unit !== 'percentunit' && { min: 0 }),
        ...(kind === 'timeseries' && {
          custom: {
            drawStyle: 'line',
            lineWidth: 1,
            fillOpacity: stacked ? 30 : 5,
            showPoints: 'never',
            stacking: { mode: stacked ? 'normal' : 'none', group: 'A' },
          },
        }),
        ...(states !== undefined && {
          mappings: [{ type: 'value', options: names }],
          custom: { fillOpacity: 80, lineWidth: 0 },
        }),
        ...(thresholds !== undefined && {
          color: { mode: 'thresholds' },
          thresholds: {
            mode: 'absolute',
            steps: thresholds.map(([value, color]) => ({ color, value })),
          },
        }),
      },
      overrides: [],
    },
    options: OPTIONS[kind],
  }
}

function toTarget({ expr, legend, instant = false }: Query, kind: PanelKind, refId: string): object {
  return {
    refId,
    datasource: DATASOURCE,
    editorMode: 'code',
    expr,
    legendFormat: legend,
    format: kind === 'heatmap' ? 'heatmap' : 'time_series',
    instant,
    range: !instant,
    // Recording rules have none; these are of the metrics themselves.
    ...(kind === 'heatmap' && { exemplar: true }),
  }
}

const LAST = { calcs: ['lastNotNull'], fields: '', values: false }

const OPTIONS: Readonly<Record<PanelKind, object>> = {
  timeseries: {
    legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
    tooltip: { mode: 'multi', sort: 'desc' },
  },
  stat: { reduceOptions: LAST, colorMode: 'none', graphMode: 'area', textMode: 'value' },
  heatmap: {
    // They come as buckets.
    calculate: false,
    cellGap: 1,
    color: { mode: 'scheme', scheme: 'Oranges', steps: 64, scale: 'exponential', exponent: 0.5 },
    yAxis: { unit: 's' },
    tooltip: { mode: 'single', yHistogram: true },
    legend: { show: true },
  },
  states: {
    mergeValues: true,
    showValue: 'auto',
    rowHeight: 0.8,
    alignValue: 'left',
    legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
    tooltip: { mode: 'single' },
  },
  bars: {
    reduceOptions: LAST,
    orientation: 'horizontal',
    displayMode: 'basic',
    valueMode: 'color',
    showUnfilled: true,
  },
}

/** What Grafana puts in place of variables when everything is chosen, over a time shown. */
export function filledIn(expr: string, { interval, range }: { interval: string; range: string }): string {
  return expr
    .replaceAll('$__rate_interval', interval)
    .replaceAll('$__range', range)
    .replace(/\$(agent|route|tier|deployment)\b/g, '.*')
}
