// What may stand between a provider's stream and the caller: an ordered list of stages, chosen when the plan is made.
// Bytes pass as they came when no stage changes them. Knows frames and what they tell, nothing of sockets.

import { buildAutomaton } from '../bytes/automaton.ts'
import { readEscapes } from '../bytes/escapes.ts'
import { formsOf } from '../bytes/forms.ts'
import type { Stage } from '../types.ts'

/** Drops the frame that only carries usage: it was asked for by us and not by the caller. */
export function withholdUsage(): Stage {
  return { kind: 'transform', change: (frame, facts) => (facts.usageOnly ? undefined : frame.bytes) }
}

/** The bytes without a provider's own keys; the same Buffer when they hold none. */
export type Redact = (bytes: Buffer) => Buffer

/** Takes a provider's own keys out of what it says. */
export function redactKeys(redact: Redact): Stage {
  return { kind: 'transform', change: (frame) => redact(frame.bytes) }
}

const REDACTED = Buffer.from('[redacted]')
/** Shorter ones are words of every answer (`none`, `stop`), and no secrets. */
const SHORTEST_KEY = 8

/** A key inside JSON that is a string of JSON (the arguments of a tool call), and once more. */
const MAX_LAYERS = 3
/** A reading takes five times its bytes, so that a long answer is read in pieces. */
const PIECE_BYTES = 64 * 1024
/** How long an escape can be that stands for one byte: `\\\\u0043`, the innermost of three layers. */
const LONGEST_ESCAPE = 9

/**
 * Finds keys as they are, in base64, hex and percent-encoding, and with any of their characters escaped as JSON may.
 * This is for the provider that echoes what it was sent, in a debug field or through a tool. One that means to give its
 * key away cannot be stopped: it may take any other code, or spread the key over two events of a stream, each of which
 * is looked at by itself (to hold back the end of every piece of text would delay all that is honest).
 *
 * To be made once for a set of keys: it takes a millisecond. Undefined when there is nothing to find.
 */
export function createRedact(keys: readonly string[]): Redact | undefined {
  const long = keys.filter((key) => key.length >= SHORTEST_KEY)
  const automaton = buildAutomaton(long.flatMap(formsOf))
  if (automaton === undefined) return undefined
  const { find, longest } = automaton
  const overlap = longest * LONGEST_ESCAPE
  const step = Math.max(PIECE_BYTES, overlap)

  /** `[start, end, …]` of what is a key once escapes are undone. */
  function findEscaped(bytes: Buffer): number[] {
    const spans: number[] = []
    for (let at = 0; at < bytes.length; at += step) {
      let reading = readEscapes(bytes.length <= step ? bytes : bytes.subarray(at, at + step + overlap))
      for (let layer = 1; reading !== undefined; layer++) {
        const { places } = reading
        for (const place of find(reading.bytes, reading.bytes.length) ?? [])
          spans.push(at + (places[place] ?? 0))
        reading = layer < MAX_LAYERS ? readEscapes(reading.bytes, places) : undefined
      }
    }
    return spans
  }

  return (bytes) => {
    const plain = find(bytes, bytes.length)
    const escaped = findEscaped(bytes)
    if (plain === undefined && escaped.length === 0) return bytes
    return cut(bytes, [...(plain ?? []), ...escaped])
  }
}

function cut(bytes: Buffer, spans: readonly number[]): Buffer {
  const starts = spans.flatMap((place, i) =>
    i % 2 === 0 ? [{ start: place, end: spans[i + 1] ?? place }] : [],
  )
  const pieces: Buffer[] = []
  let at = 0
  let redactedUpTo = -1
  for (const { start, end } of starts.sort((a, b) => a.start - b.start)) {
    if (start >= redactedUpTo) pieces.push(bytes.subarray(at, start), REDACTED)
    redactedUpTo = Math.max(redactedUpTo, end)
    at = redactedUpTo
  }
  pieces.push(bytes.subarray(at))
  return Buffer.concat(pieces)
}
