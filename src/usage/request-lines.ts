// Lines of the log, written by hand: the same text that pino makes of the same fields, at a fifth of its price. Names
// repeat from line to line, so each is encoded and scrubbed once and kept for the next; knows nothing of what is secret.

export type Level = keyof typeof LEVELS

/** As pino counts them. */
const LEVELS = { info: 30, warn: 40, error: 50 }

export type Fields = Readonly<Record<string, unknown>>

export interface RequestLines {
  /** Of those with a value `,"name":value` each, without secrets. */
  fields(of: Fields): string
  /** A text that other lines have too, as JSON without secrets. */
  text(text: string): string
  /** The id of a request as JSON. */
  id(id: string): string
  /** Writes a line of such fields; none where the level is above it. */
  write(level: Level, fields: string, message: string): void
  /** What is secret has changed: nothing is known of any text. */
  forget(): void
}

interface Deps {
  readonly log: { isLevelEnabled(level: string): boolean }
  /** Takes a line with its line feed. */
  readonly write: (line: string) => void
  /** Takes secrets out of a text. */
  readonly scrub: (text: string) => string
  readonly wall: () => number
  /** Which worker writes, if one does. */
  readonly worker: number | undefined
}

/** Texts that are kept. */
const MAX_KNOWN = 2048
/** A longer one is a message that hardly comes again. */
const LONGEST_KNOWN = 128

/** Of the ids of requests each is there once, and none is anybody's secret. */
const REQUEST_ID = /^req_[A-Za-z0-9]+$/
/** Made up for each trace, by whomever. */
const UNIQUE: ReadonlySet<string> = new Set(['trace'])

export function createRequestLines({ log, write, scrub, wall, worker }: Deps): RequestLines {
  let known = new Map<string, string>()
  const base = worker === undefined ? '' : `,"worker":${worker}`
  let second = Number.NaN
  let stamp = ''
  let millisecond = Number.NaN
  let time = ''

  /** When and by whom, as ISO 8601; of all milliseconds of a second the beginning is the same. */
  function now(): string {
    const nowMs = wall()
    if (nowMs === millisecond) return time
    millisecond = nowMs
    const seconds = Math.floor(nowMs / 1000)
    if (seconds !== second) {
      second = seconds
      stamp = new Date(seconds * 1000).toISOString().slice(0, -4)
    }
    time = `,"time":"${stamp}${String(nowMs - seconds * 1000).padStart(3, '0')}Z"${base}`
    return time
  }

  function text(one: string): string {
    const before = known.get(one)
    if (before !== undefined) return before
    const clean = scrubbed(one)
    if (one.length <= LONGEST_KNOWN) {
      if (known.size >= MAX_KNOWN) known.clear()
      known.set(one, clean)
    }
    return clean
  }

  function id(one: string): string {
    return REQUEST_ID.test(one) ? `"${one}"` : text(one)
  }

  /** Undefined for what is left out. */
  function toJson(name: string, value: unknown): string | undefined {
    switch (typeof value) {
      case 'undefined':
        return undefined
      case 'string':
        if (name === 'id') return id(value)
        return UNIQUE.has(name) ? scrubbed(value) : text(value)
      case 'number':
        return toNumber(value)
      case 'boolean':
        return value ? 'true' : 'false'
      default:
        return Array.isArray(value) ? `[${value.map((one) => toJson('', one) ?? 'null')}]` : scrubbed(value)
    }
  }

  function scrubbed(value: unknown): string {
    return scrub(JSON.stringify(value))
  }

  return {
    fields(of) {
      let line = ''
      for (const name in of) {
        const value = toJson(name, of[name])
        if (value !== undefined) line += `,"${name}":${value}`
      }
      return line
    },
    text,
    id,
    write(level, fields, message) {
      if (log.isLevelEnabled(level)) write(`{"level":${LEVELS[level]}${now()}${fields},"msg":"${message}"}\n`)
    },
    forget: () => {
      known = new Map()
    },
  }
}

/** As JSON, which has no word for what is no number. */
export function toNumber(value: number): string {
  return Number.isFinite(value) ? `${value}` : 'null'
}
