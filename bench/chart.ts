// Bars with their spread, as SVG that reads on a light page and on a dark one. By hand: a library that draws without a
// browser is larger than all of the bench.

import { type Spread, short } from './figures.ts'

export interface Bar {
  readonly label: string
  readonly value: Spread
  /** Ours. */
  readonly isOwn: boolean
}

export interface Chart {
  readonly title: string
  readonly unit: string
  readonly bars: readonly Bar[]
  readonly note: string
  /** Steps of ten, where one is a hundred times the other. */
  readonly isLogarithmic?: boolean
}

const WIDTH = 760
const LEFT = 170
const RIGHT = 170
const ROW = 30
const TOP = 58

export function toSvg({ title, unit, bars, note, isLogarithmic = false }: Chart): string {
  const most = Math.max(...bars.map(({ value }) => value.max))
  const least = Math.min(...bars.map(({ value }) => value.min))
  const floor = isLogarithmic ? 10 ** Math.floor(Math.log10(least)) : 0
  const room = WIDTH - LEFT - RIGHT
  const x = (value: number): number =>
    LEFT +
    room *
      (isLogarithmic ? Math.log10(Math.max(value, floor) / floor) / Math.log10(most / floor) : value / most)
  const height = TOP + bars.length * ROW + 34
  const rows = bars.map(({ label, value, isOwn }, i) => {
    const top = TOP + i * ROW
    const middle = top + ROW / 2
    const [from, to] = [x(value.min), x(value.max)].map(round)
    return [
      `<text class="label${isOwn ? ' own' : ''}" x="${LEFT - 10}" y="${middle + 4}" text-anchor="end">${escaped(label)}</text>`,
      `<rect class="${isOwn ? 'bar own' : 'bar'}" x="${LEFT}" y="${top + 5}" width="${round(Math.max(x(value.median) - LEFT, 1))}" height="${ROW - 10}" rx="2"/>`,
      `<path class="spread" d="M${from} ${middle}H${to}M${from} ${middle - 4}v8M${to} ${middle - 4}v8"/>`,
      `<text class="value" x="${round(x(value.max) + 8)}" y="${middle + 4}">${short(value.median)}</text>`,
    ].join('')
  })
  const scale = isLogarithmic ? `${unit}, logarithmic` : unit
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" role="img" aria-label="${escaped(title)}">
<style>
.title { font-size: 16px; font-weight: 600; fill: #1f2328 } .label, .value, .note { font-size: 13px; fill: #59636e }
.label.own { font-weight: 600; fill: #1f2328 } .bar { fill: #afb8c1 } .bar.own { fill: #0969da } .spread { stroke: #1f2328; fill: none }
@media (prefers-color-scheme: dark) { .title, .label.own { fill: #f0f6fc } .label, .value, .note { fill: #9198a1 } .bar { fill: #57606a } .bar.own { fill: #4493f8 } .spread { stroke: #f0f6fc } }
</style>
<text class="title" x="10" y="24">${escaped(title)}</text>
<text class="note" x="10" y="44">${escaped(scale)}</text>
${rows.join('\n')}
<text class="note" x="10" y="${height - 10}">${escaped(note)}</text>
</svg>
`
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}
