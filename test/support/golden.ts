// What was recorded of a wire (test/golden/<name>), and the few values that are said of every recording.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Usage } from '../../src/types.ts'

export interface Golden {
  bytes(file: string): Buffer
  text(file: string): string
  /** Files that end so, without the ending, in order. */
  names(ending: string): string[]
}

export function openGolden(name: string): Golden {
  const folder = join(import.meta.dirname, '../golden', name)
  const bytes = (file: string) => readFileSync(join(folder, file))
  return {
    bytes,
    text: (file) => bytes(file).toString('utf8'),
    names: (ending) =>
      readdirSync(folder)
        .filter((file) => file.endsWith(ending))
        .map((file) => file.slice(0, -ending.length))
        .sort(),
  }
}

/** A request of chat for a model, and what its provider is sent. */
export interface RecordedRequest {
  readonly model: string
  readonly chat: Readonly<Record<string, unknown>>
  readonly sent: unknown
  readonly dropped?: readonly string[]
}

/** Tokens as a provider counts them; what is not given is none. */
export function usageOf(inputTokens: number, outputTokens: number, over: Partial<Usage> = {}): Usage {
  return {
    inputTokens,
    cachedTokens: 0,
    cacheWriteTokens: 0,
    audioInputTokens: 0,
    outputTokens,
    reasoningTokens: 0,
    audioOutputTokens: 0,
    source: 'provider',
    ...over,
  }
}
