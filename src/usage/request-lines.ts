// The line of a request, written by hand: the same text that pino makes of the same fields, at a fifth of its price. Names
// repeat from line to line, so each is encoded and scrubbed once and kept for the next; knows nothing of what is secret.

import type { RequestLog } from './record.ts'

interface Deps {
  /** For what is no ordinary line, and for the level. */
  readonly log: RequestLog & { isLevelEnabled(level: string): boolean }
  /** Takes a line with its line feed. */
  readonly write: (line: string) => void
  /** Takes secrets out of a text. */
  readonly scrub: (text: string) => string
  readonly wall: () => number
  /** Which worker writes, if one does. */
  readonly worker: number | undefined
}

export interface RequestLines extends RequestLog {
  /** What is secret has changed: nothing is known of any text. */
  forget(): void
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

  /** As ISO 8601; of all milliseconds of a second the beginning is the same. */
  function time(): string {
    const nowMs = wall()
    const seconds = Math.floor(nowMs / 1000)
    if (seconds !== second) {
      second = seconds
      stamp = new Date(seconds * 1000).toISOString().slice(0, -4)
    }
    return `${stamp}${String(nowMs - seconds * 1000).padStart(3, '0')}Z`
  }

  function encoded(text: string): string {
    const before = known.get(text)
    if (before !== undefined) return before
    const clean = scrub(JSON.stringify(text))
    if (text.length <= LONGEST_KNOWN) {
      if (known.size >= MAX_KNOWN) known.clear()
      known.set(text, clean)
    }
    return clean
  }

  /** Undefined for what is left out. */
  function toJson(name: string, value: unknown): string | undefined {
    switch (typeof value) {
      case 'undefined':
        return undefined
      case 'string':
        if (name === 'id' && REQUEST_ID.test(value)) return `"${value}"`
        return UNIQUE.has(name) ? scrub(JSON.stringify(value)) : encoded(value)
      case 'number':
        return Number.isFinite(value) ? `${value}` : 'null'
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
    info(fields, message) {
      if (!log.isLevelEnabled('info')) return
      let line = `{"level":30,"time":"${time()}"${base}`
      for (const name in fields) {
        const value = toJson(name, fields[name])
        if (value !== undefined) line += `,"${name}":${value}`
      }
      write(`${line},"msg":"${message}"}\n`)
    },
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
    forget: () => {
      known = new Map()
    },
  }
}
