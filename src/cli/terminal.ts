// Text for a person at a terminal: tables and a little colour, and none of it where a program reads.

import { relative } from 'node:path'
import { formatProblem, type Problem } from '../config/problems.ts'
import type { Io } from './io.ts'

export type Colour = 'red' | 'green' | 'yellow' | 'dim'

const CODES: Readonly<Record<Colour, number>> = { red: 31, green: 32, yellow: 33, dim: 2 }

/** `text` in a colour when standard output is a terminal and NO_COLOR is not set (no-color.org). */
export function coloured(io: Io, colour: Colour, text: string): string {
  return io.isTty && !io.env.NO_COLOR ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text
}

/** Rows with a heading, columns padded; every line ends with a newline. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = heading.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => widthOf(row[column] ?? ''))),
  )
  const line = (row: readonly string[]) =>
    `${row
      .map((cell, column) => cell + ' '.repeat(Math.max((widths[column] ?? 0) - widthOf(cell), 0)))
      .join('  ')
      .trimEnd()}\n`
  return [heading, ...rows].map(line).join('')
}

/** Places it takes on the screen: colours take none. */
function widthOf(text: string): number {
  return text.replaceAll(/\u001b\[\d+m/g, '').length
}

/** `0.4 s`, `12 s`, `3 min`, `5 h`, `9 days`: never shorter than it is. */
export function durationText(ms: number): string {
  if (ms < 10_000) return `${Math.ceil(ms / 100) / 10} s`
  if (ms < 120_000) return `${Math.ceil(ms / 1_000)} s`
  if (ms < 2 * 3_600_000) return `${Math.ceil(ms / 60_000)} min`
  if (ms < 2 * 86_400_000) return `${Math.ceil(ms / 3_600_000)} h`
  return `${Math.ceil(ms / 86_400_000)} days`
}

/** Problems one to a line, files as seen from the working folder, and how many there are. */
export function problemLines(io: Io, problems: readonly Problem[]): string {
  const lines = problems.map((problem) => {
    const text = printable(formatProblem({ ...problem, file: shortPath(io, problem.file) }))
    return `${coloured(io, 'red', 'error')} ${text}\n`
  })
  return `${lines.join('')}${problems.length === 1 ? '1 problem' : `${problems.length} problems`}\n`
}

/** A path as seen from the working folder, unless it lies outside. */
export function shortPath(io: Io, path: string): string {
  if (!path.startsWith('/')) return path
  const short = relative(io.cwd, path)
  return short === '' || short.startsWith('..') ? path : short
}

/** Names out of a file must not steer the terminal. */
export function printable(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, '?')
}
