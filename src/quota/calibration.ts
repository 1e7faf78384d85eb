// How many bytes of an agent's requests make a token, learned from what providers counted. Where a limit is soft the
// reservation follows it; a strict one counts bytes, which bound the tokens of text from above. Pure but for its map.

export interface Calibration {
  /** Bytes of text to a token to reckon with for an agent; a little fewer than was seen, so that it errs to more tokens. */
  bytesPerToken(agent: string): number
  /** What a provider counted for `textBytes` of an agent. */
  learn(agent: string, counted: { readonly textBytes: number; readonly inputTokens: number }): void
}

/** Before anything is known: errs to more tokens for prose and code in the usual tokenizers (calibration.test.ts). */
export const INITIAL_BYTES_PER_TOKEN = 3
/** No text is as dense or as thin as that for long; what a provider says beyond it is not believed. */
const LEAST = 1
const MOST = 10
/** Weight of one request in the running mean. */
const WEIGHT = 0.1
/** Reckoned with: this part of the mean. */
const SAFETY = 0.9
/** Shorter requests are mostly the frame around their text. */
const LEAST_BYTES = 256
/** Agents known at once; the one known longest goes first. */
const MOST_AGENTS = 10_000

export function createCalibration(): Calibration {
  const means = new Map<string, number>()
  return {
    bytesPerToken(agent) {
      const mean = means.get(agent)
      return mean === undefined ? INITIAL_BYTES_PER_TOKEN : mean * SAFETY
    },
    learn(agent, { textBytes, inputTokens }) {
      if (textBytes < LEAST_BYTES || !(inputTokens > 0)) return
      const seen = Math.min(Math.max(textBytes / inputTokens, LEAST), MOST)
      const mean = means.get(agent)
      if (mean === undefined && means.size >= MOST_AGENTS) {
        const [oldest] = means.keys()
        if (oldest !== undefined) means.delete(oldest)
      }
      const before = mean ?? INITIAL_BYTES_PER_TOKEN / SAFETY
      means.set(agent, before + WEIGHT * (seen - before))
    },
  }
}
