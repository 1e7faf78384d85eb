// What may stand between a provider's stream and the caller: an ordered list of stages, chosen when the plan is made.
// Bytes pass as they came when no stage changes them. Knows frames and what they tell, nothing of sockets.

import type { Stage } from '../types.ts'

/** Drops the frame that only carries usage: it was asked for by us and not by the caller. */
export function withholdUsage(): Stage {
  return { kind: 'transform', change: (frame, facts) => (facts.usageOnly ? undefined : frame.bytes) }
}

/** Takes a provider's own keys out of what it says. */
export function redactKeys(keys: readonly string[]): Stage {
  return { kind: 'transform', change: (frame) => withoutKeys(frame.bytes, keys) }
}

const REDACTED = Buffer.from('[redacted]')
/** Shorter ones are words of every answer (`none`, `stop`), and no secrets. */
const SHORTEST_KEY = 8

/** The bytes without the keys; the same Buffer when they hold none. */
export function withoutKeys(bytes: Buffer, keys: readonly string[]): Buffer {
  let clean = bytes
  for (const key of keys) {
    if (key.length < SHORTEST_KEY) continue
    for (let at = clean.indexOf(key); at >= 0; at = clean.indexOf(key, at + REDACTED.length)) {
      clean = Buffer.concat([clean.subarray(0, at), REDACTED, clean.subarray(at + Buffer.byteLength(key))])
    }
  }
  return clean
}
