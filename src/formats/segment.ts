// A name as one segment of a path: a caller may choose it (`provider/*`), and it must not lead anywhere else.

/** Percent-encoded; also where dots alone would mean another folder. */
export function toSegment(name: string): string {
  return /^\.+$/.test(name) ? name.replaceAll('.', '%2E') : encodeURIComponent(name)
}
