// W3C Trace Context (https://www.w3.org/TR/trace-context/): reads what a caller sends, strictly, and writes what goes to
// whoever is called. Pure. What cannot be read is as if it were not there: it is never the caller's mistake.

/** Where a request stands in somebody's trace. */
export interface Parent {
  /** 32 lower-case hex digits, not all of them 0. */
  readonly traceId: string
  /** 16 lower-case hex digits, not all of them 0. */
  readonly spanId: string
  /** The bits that are known: sampled, and that the trace id is random (level 2). */
  readonly flags: number
}

export const SAMPLED = 0x01
const RANDOM = 0x02

/** Version 00 is of this form and length; a later one may go on behind another dash. */
const TRACEPARENT =
  /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[\x20-\x7e]*)?$/
/** Of a later version nothing behind the flags is read. */
const LONGEST_TRACEPARENT = 256

/** Two lines of it come joined by a comma, and are none. */
export function readTraceparent(text: string | undefined): Parent | undefined {
  if (text === undefined || text.length > LONGEST_TRACEPARENT) return undefined
  const [, version, traceId, spanId, flags, more] = TRACEPARENT.exec(text.trim()) ?? []
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined
  if (version === '00' && more !== undefined) return undefined
  return { traceId, spanId, flags: Number.parseInt(flags, 16) & (SAMPLED | RANDOM) }
}

export function toTraceparent({ traceId, spanId, flags }: Parent): string {
  return `00-${traceId}-${spanId}-${flags.toString(16).padStart(2, '0')}`
}

/** §3.3.1.5: what all must be able to pass on. */
const LONGEST_STATE = 512
const MOST_MEMBERS = 32
const KEY = /^(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})$/
const VALUE = /^[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/

/** The list as it is passed on; undefined for one with anything in it that is no member, too many, or too much. */
export function readTracestate(text: string | undefined): string | undefined {
  if (text === undefined || text.length > LONGEST_STATE) return undefined
  const members = text.split(',').flatMap((member) => member.replace(/^[ \t]+|[ \t]+$/g, '') || [])
  if (members.length === 0 || members.length > MOST_MEMBERS) return undefined
  const keys = new Set<string>()
  for (const member of members) {
    const at = member.indexOf('=')
    const key = member.slice(0, Math.max(at, 0))
    if (!KEY.test(key) || !VALUE.test(member.slice(at + 1)) || keys.has(key)) return undefined
    keys.add(key)
  }
  return members.join(',')
}
