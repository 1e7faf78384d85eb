// Parts of the day as a configuration has them, from where the day is now.

/** From so many hours on from the present one to so many; negative ones are past. */
export function hoursFromNow(from: number, to: number): string {
  const hour = (more: number) => (new Date().getUTCHours() + more + 24) % 24
  const two = (n: number) => String(n).padStart(2, '0')
  return `${two(hour(from))}-${two(hour(to) || 24)}`
}
