// Draws the dashboards of deploy/grafana from a Prometheus, without Grafana: reads the same files, asks the same
// queries, and lays the panels out as they say. A page of HTML for each, and a picture where a browser is found.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { filledIn } from './grafana.ts'
import type { Prometheus, Series } from './prometheus.ts'

const FILES = resolve(import.meta.dirname, '../../deploy/grafana/dashboards')
const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

export interface Drawing {
  /** Seconds since 1970. */
  readonly from: number
  readonly to: number
  readonly step: number
  readonly folder: string
}

interface Target {
  readonly expr: string
  readonly legendFormat: string
  readonly instant: boolean
}

/** The part of a panel's file that is drawn. */
interface Panel {
  readonly type: string
  readonly title: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly Target[]
  readonly fieldConfig?: {
    readonly defaults: {
      readonly unit: string
      readonly max?: number
      readonly custom?: { readonly stacking?: { readonly mode: string } }
      readonly mappings?: readonly {
        readonly options: Readonly<Record<string, { text: string; color: string }>>
      }[]
      readonly thresholds?: { readonly steps: readonly { color: string; value: number | null }[] }
    }
  }
}

/** A series under the name that its panel gives it. */
interface Named {
  readonly name: string
  readonly colour: string
  readonly points: Series['points']
}

interface Box {
  readonly width: number
  readonly height: number
}

type Span = Pick<Drawing, 'from' | 'to'>

const CELL = { width: 58, height: 34 }
const GAP = 8
const COLOURS = [
  ...['#73bf69', '#f2cc0c', '#5794f2', '#ff9830', '#f2495c', '#b877d9', '#8ab8ff', '#96d98d'],
  ...['#ffcb7d', '#ff7383', '#ca95e5', '#e0b400', '#37872d', '#1f60c4', '#fa6400'],
]
const NAMED_COLOURS: Readonly<Record<string, string>> = {
  green: '#56a64b',
  yellow: '#e0b400',
  orange: '#ff780a',
  red: '#e02f44',
}

/** Writes `<dashboard>.html` and `<dashboard>.png` into the folder. */
export async function drawDashboards(prometheus: Prometheus, drawing: Drawing): Promise<void> {
  mkdirSync(drawing.folder, { recursive: true })
  const browser = BROWSERS.find((path) => existsSync(path))
  for (const file of readdirSync(FILES)) {
    const { title, panels }: { title: string; panels: Panel[] } = JSON.parse(
      readFileSync(join(FILES, file), 'utf8'),
    )
    const drawn: string[] = []
    for (const panel of panels) drawn.push(await drawPanel(prometheus, panel, drawing))
    const rows = Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h))
    const size = { width: 24 * CELL.width + GAP, height: rows * CELL.height + 56 }
    const page = join(drawing.folder, file.replace('.json', '.html'))
    writeFileSync(page, toPage(title, drawn.join('\n'), size))
    if (browser === undefined) continue
    spawnSync(
      browser,
      [
        ...['--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars'],
        `--window-size=${size.width},${size.height}`,
        `--screenshot=${page.replace('.html', '.png')}`,
        `file://${page}`,
      ],
      { stdio: 'ignore', timeout: 60_000 },
    )
  }
}

async function drawPanel(prometheus: Prometheus, panel: Panel, drawing: Drawing): Promise<string> {
  const { type, title, gridPos, targets = [] } = panel
  const place = `left:${gridPos.x * CELL.width + GAP}px;top:${gridPos.y * CELL.height + 48}px;width:${gridPos.w * CELL.width - GAP}px;height:${gridPos.h * CELL.height - GAP}px`
  if (type === 'row') return `<h2 style="${place}">${escaped(title)}</h2>`
  const found: Named[] = []
  for (const { expr, legendFormat, instant } of targets) {
    const query = filledIn(expr, { interval: '5s', range: `${drawing.to - drawing.from}s` })
    const answer = instant
      ? await prometheus.query(query, drawing.to)
      : await prometheus.range(query, drawing)
    for (const { labels, points } of answer) {
      const name = legendFormat
        .replace(/\{\{(\w+)\}\}/g, (_, label: string) => labels[label] ?? '')
        .replace(/\s+/g, ' ')
      found.push({ name, points, colour: COLOURS[found.length % COLOURS.length] ?? '' })
    }
  }
  const box = { width: gridPos.w * CELL.width - GAP - 20, height: gridPos.h * CELL.height - GAP - 34 }
  const body = (BODIES[type] ?? BODIES.timeseries)?.(found, panel, { box, span: drawing }) ?? ''
  return `<section style="${place}"><h3>${escaped(title)}</h3>${body}</section>`
}

type Body = (found: readonly Named[], panel: Panel, on: { box: Box; span: Span }) => string

const BODIES: Readonly<Record<string, Body>> = {
  timeseries: drawLines,
  stat: drawNumber,
  heatmap: drawHeatmap,
  'state-timeline': drawStates,
  bargauge: drawBars,
}

const LEFT = 60
const LEGEND_LINE = 15

function drawLines(found: readonly Named[], panel: Panel, { box, span }: { box: Box; span: Span }): string {
  const { unit = 'short', max, custom } = panel.fieldConfig?.defaults ?? {}
  const isStacked = custom?.stacking?.mode === 'normal'
  const { legend, lines } = drawLegend(found, box)
  const height = box.height - lines * LEGEND_LINE - 22
  const width = box.width - LEFT
  const below = new Map<number, number>()
  const shapes = found.map(({ points, colour }) => {
    const places = points
      .filter(([, value]) => Number.isFinite(value))
      .map(([at, value]) => {
        const from = isStacked ? (below.get(at) ?? 0) : 0
        below.set(at, from + value)
        return { at, from, to: from + value }
      })
    return { places, colour }
  })
  const highest = Math.max(0, ...shapes.flatMap(({ places }) => places.map(({ to }) => to)))
  const ticks = niceTicks(max ?? highest)
  const top = ticks.at(-1) ?? 1
  const x = (at: number) => LEFT + ((at - span.from) / (span.to - span.from)) * width
  const y = (value: number) => 4 + height - (value / top) * height
  const drawn = shapes.map(({ places, colour }) => {
    // A gap in the points is one in the line.
    const runs: (typeof places)[] = []
    places.forEach((place, i) => {
      const before = places[i - 1]
      if (before === undefined || place.at - before.at > 2) runs.push([])
      runs.at(-1)?.push(place)
    })
    return runs
      .map((run) => {
        const upper = run.map(({ at, to }) => `${x(at).toFixed(1)},${y(to).toFixed(1)}`)
        const lower = run.map(({ at, from }) => `${x(at).toFixed(1)},${y(from).toFixed(1)}`).reverse()
        return `<polygon points="${[...upper, ...lower].join(' ')}" fill="${colour}" opacity="${isStacked ? 0.35 : 0.06}"/><polyline points="${upper.join(' ')}" fill="none" stroke="${colour}" stroke-width="1.6"/>`
      })
      .join('')
  })
  const grid = ticks.map(
    (tick) =>
      `<line x1="${LEFT}" x2="${box.width}" y1="${y(tick)}" y2="${y(tick)}"/><text x="${LEFT - 6}" y="${y(tick) + 4}" text-anchor="end">${format(tick, unit)}</text>`,
  )
  return svg(box, `${grid.join('')}${timeAxis(span, { x, y: 4 + height })}${drawn.join('')}${legend}`)
}

function drawNumber(found: readonly Named[], panel: Panel): string {
  const value = found[0]?.points.at(-1)?.[1]
  const unit = panel.fieldConfig?.defaults.unit ?? 'short'
  return `<p class="number">${value === undefined ? 'no data' : format(value, unit)}</p>`
}

function drawHeatmap(
  found: readonly Named[],
  _panel: Panel,
  { box, span }: { box: Box; span: Span },
): string {
  const bounds = found
    .map(({ name, points }) => ({ le: name === '+Inf' ? Number.POSITIVE_INFINITY : Number(name), points }))
    .sort((a, b) => a.le - b.le)
  const height = box.height - 22
  const width = box.width - LEFT
  const row = height / Math.max(bounds.length, 1)
  const x = (at: number) => LEFT + ((at - span.from) / (span.to - span.from)) * width
  const counts = bounds.map(({ points }, i) => {
    const lower = new Map(bounds[i - 1]?.points ?? [])
    return points.map(([at, value]) => [at, Math.max(value - (lower.get(at) ?? 0), 0)] as const)
  })
  const most = Math.max(1, ...counts.flat().map(([, count]) => count))
  const cell = (width / (span.to - span.from)) * 3
  const cells = counts.flatMap((points, i) =>
    points
      .filter(([at, count]) => count > 0 && at % 3 === 0)
      .map(
        ([at, count]) =>
          `<rect x="${x(at).toFixed(1)}" y="${(4 + height - (i + 1) * row).toFixed(1)}" width="${(cell - 0.4).toFixed(1)}" height="${(row - 0.6).toFixed(1)}" fill="#ff9830" opacity="${(0.12 + 0.88 * Math.sqrt(count / most)).toFixed(2)}"/>`,
      ),
  )
  const names = bounds.flatMap(({ le }, i) =>
    i % 2 === 0
      ? [
          `<text x="${LEFT - 6}" y="${4 + height - i * row}" text-anchor="end">${Number.isFinite(le) ? format(le, 's') : '+Inf'}</text>`,
        ]
      : [],
  )
  return svg(box, `${cells.join('')}${names.join('')}${timeAxis(span, { x, y: 4 + height })}`)
}

function drawStates(found: readonly Named[], panel: Panel, { box, span }: { box: Box; span: Span }): string {
  const names = panel.fieldConfig?.defaults.mappings?.[0]?.options ?? {}
  const left = 250
  const height = box.height - 22
  const row = Math.min(height / Math.max(found.length, 1), 44)
  const x = (at: number) => left + ((at - span.from) / (span.to - span.from)) * (box.width - left)
  const rows = found.map(({ name, points }, i) => {
    const runs: { value: number; from: number; to: number }[] = []
    for (const [at, value] of points) {
      const last = runs.at(-1)
      if (last !== undefined && last.value === value && at - last.to <= 1) last.to = at
      else runs.push({ value, from: at, to: at })
    }
    const bars = runs.map(({ value, from, to }) => {
      const { text = String(value), color = '' } = names[value] ?? {}
      const wide = x(to + 1) - x(from)
      return `<rect x="${x(from).toFixed(1)}" y="${4 + i * row + 2}" width="${wide.toFixed(1)}" height="${row - 4}" fill="${NAMED_COLOURS[color] ?? '#888'}" opacity="0.85"/>${
        wide > text.length * 8
          ? `<text class="on" x="${x(from) + 6}" y="${4 + i * row + row / 2 + 4}">${escaped(text)}</text>`
          : ''
      }`
    })
    return `<text x="${left - 8}" y="${4 + i * row + row / 2 + 4}" text-anchor="end">${escaped(name)}</text>${bars.join('')}`
  })
  return svg(box, `${rows.join('')}${timeAxis(span, { x, y: 4 + found.length * row })}`)
}

function drawBars(found: readonly Named[], panel: Panel, { box }: { box: Box; span: Span }): string {
  const { unit = 'short', max, thresholds } = panel.fieldConfig?.defaults ?? {}
  const values = found.map(({ name, colour, points }) => ({ name, colour, value: points[0]?.[1] ?? 0 }))
  const most = max ?? Math.max(...values.map(({ value }) => value))
  const row = Math.min(box.height / Math.max(values.length, 1), 40)
  const left = 96
  const width = box.width - left - 70
  const bars = values.map(({ name, colour, value }, i) => {
    const step = thresholds?.steps.findLast((one) => value >= (one.value ?? Number.NEGATIVE_INFINITY))
    const fill = step === undefined ? colour : NAMED_COLOURS[step.color]
    const y = 4 + i * row
    return [
      `<text x="${left - 8}" y="${y + row / 2 + 4}" text-anchor="end">${escaped(name)}</text>`,
      `<rect x="${left}" y="${y + 5}" width="${width}" height="${row - 10}" fill="#2a2d33"/>`,
      `<rect x="${left}" y="${y + 5}" width="${Math.max((Math.min(value / most, 1) || 0) * width, 1)}" height="${row - 10}" fill="${fill}"/>`,
      `<text x="${left + width + 8}" y="${y + row / 2 + 4}">${format(value, unit)}</text>`,
    ].join('')
  })
  return svg(box, bars.join(''))
}

/** As many lines as the names take, at most three. */
function drawLegend(found: readonly Named[], box: Box): { legend: string; lines: number } {
  let [x, line] = [LEFT - 30, 0]
  const marks: { name: string; colour: string; x: number; line: number }[] = []
  for (const { name, colour } of found) {
    const wide = name.length * 6.4 + 24
    if (x + wide > box.width && marks.length > 0) {
      x = LEFT - 30
      line += 1
    }
    if (line > 2) break
    marks.push({ name, colour, x, line })
    x += wide
  }
  const lines = (marks.at(-1)?.line ?? 0) + 1
  const drawn = marks.map((mark) => {
    const y = box.height - (lines - 1 - mark.line) * LEGEND_LINE - 4
    return `<rect x="${mark.x}" y="${y - 5}" width="12" height="3" fill="${mark.colour}"/><text x="${mark.x + 16}" y="${y}">${escaped(mark.name)}</text>`
  })
  return { legend: drawn.join(''), lines }
}

function timeAxis(span: Span, { x, y }: { x: (at: number) => number; y: number }): string {
  const every = span.to - span.from > 240 ? 60 : 30
  const marks: string[] = []
  for (let at = Math.ceil(span.from / every) * every; at < span.to; at += every) {
    const time = new Date(at * 1000).toISOString().slice(11, 19)
    const place = x(at)
    if (x(span.to) - place > 20 && (at / every) % 2 === 0)
      marks.push(`<text x="${place}" y="${y + 15}" text-anchor="middle">${time}</text>`)
  }
  return marks.join('')
}

/** Round numbers from 0 to at least the highest. */
function niceTicks(highest: number): number[] {
  if (!(highest > 0)) return [0, 1]
  const rough = highest / 4
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = ([1, 2, 2.5, 5, 10].find((one) => one * power >= rough) ?? 10) * power
  return Array.from({ length: Math.ceil(highest / step - 1e-9) + 1 }, (_, i) => i * step)
}

function format(value: number, unit: string): string {
  const short = (number: number) =>
    Math.abs(number) >= 1000
      ? `${Number((number / 1000).toPrecision(3))} k`
      : `${Number(number.toPrecision(3))}`
  if (unit === 'percentunit') return `${short(value * 100)} %`
  if (unit === 'currencyUSD') return `$${short(value)}`
  if (unit === 's') {
    if (value === 0) return '0'
    return value < 1
      ? `${short(value * 1000)} ms`
      : value < 120
        ? `${short(value)} s`
        : value < 7200
          ? `${short(value / 60)} min`
          : value < 172_800
            ? `${short(value / 3600)} h`
            : `${short(value / 86_400)} days`
  }
  return unit === 'reqps' ? `${short(value)}/s` : short(value)
}

function svg({ width, height }: Box, inner: string): string {
  return `<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${inner}</svg>`
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

function toPage(title: string, body: string, { width, height }: Box): string {
  return `<!doctype html><meta charset="utf-8"><title>${escaped(title)}</title><style>
body{margin:0;background:#111217;color:#ccccdc;font:12px "DejaVu Sans",Inter,Arial,sans-serif;position:relative;width:${width}px;height:${height}px}
h1{font-size:19px;font-weight:600;margin:0;padding:13px ${GAP}px}
h2{position:absolute;margin:0;font-size:14px;font-weight:600;line-height:26px}
section{position:absolute;background:#181b1f;border:1px solid #2a2d33;border-radius:3px;box-sizing:border-box;padding:6px 9px}
h3{font-size:12.5px;font-weight:600;margin:0 0 6px}
.number{font-size:30px;margin:18px 0 0;text-align:center;color:#fff}
svg line{stroke:#2a2d33;stroke-width:1}
svg text{fill:#9d9fb1;font-size:11px}
svg text.on{fill:#fff;font-weight:600}
</style><h1>${escaped(title)}</h1>${body}`
}
