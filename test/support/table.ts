// Figures as a table of plain text: numbers to the right, a heading that stands out on a terminal and nowhere else.

export type Cell = string | number | undefined

/** Lines of equal columns. `bad` marks rows that are not as they should be; colour is used only where it is shown. */
export function toTable(
  heads: readonly string[],
  rows: readonly (readonly Cell[])[],
  { colour = false, isBad = () => false }: { colour?: boolean; isBad?: (row: number) => boolean } = {},
): string {
  const texts = rows.map((row) => row.map(toText))
  const widths = heads.map((head, i) => Math.max(head.length, ...texts.map((row) => row[i]?.length ?? 0)))
  const toLine = (cells: readonly string[], isNumber: (i: number) => boolean): string =>
    cells
      .map((cell, i) => (isNumber(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd()
  const paint = (line: string, code: number): string => (colour ? `\u001b[${code}m${line}\u001b[0m` : line)
  const isNumber = (i: number): boolean => rows.some((row) => typeof row[i] === 'number')
  return [
    paint(toLine(heads, isNumber), 1),
    ...texts.map((row, at) => {
      const line = toLine(row, isNumber)
      return isBad(at) ? paint(line, 31) : line
    }),
  ].join('\n')
}

function toText(cell: Cell): string {
  if (cell === undefined) return '–'
  if (typeof cell === 'string') return cell
  if (!Number.isFinite(cell)) return 'never'
  return Number.isInteger(cell) ? String(cell) : cell.toFixed(Math.abs(cell) < 10 ? 3 : 1)
}
