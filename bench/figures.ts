// Arithmetic over rounds: medians and how far they spread.

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const [high = Number.NaN, low = Number.NaN] = [sorted[middle], sorted[middle - 1]]
  const median = sorted.length % 2 === 1 ? high : (low + high) / 2
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN }
}

/** Three digits that mean something. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en')
  return value.toPrecision(Math.abs(value) < 1 ? 2 : 3)
}

export function showSpread({ median, min, max }: Spread): string {
  return `${short(median)} (${short(min)}–${short(max)})`
}
