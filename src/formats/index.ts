// Every wire format by name. To add one: its file, and a line here.

import { anthropic } from './anthropic.ts'
import { anthropicCount } from './anthropic-count.ts'
import { azure } from './azure.ts'
import { bedrock } from './bedrock.ts'
import { completions } from './completions.ts'
import type { Format } from './format.ts'
import { gemini, vertex } from './gemini.ts'
import { media } from './media.ts'
import { openai } from './openai.ts'
import { responses } from './responses.ts'

const ALL: readonly Format[] = [
  openai,
  responses,
  completions,
  anthropic,
  anthropicCount,
  azure,
  gemini,
  vertex,
  bedrock,
  ...Object.values(media),
]

export const formats: ReadonlyMap<string, Format> = new Map(ALL.map((format) => [format.name, format]))

/** In which formats a model of a provider may be asked so that their bytes pass; the first before the others. */
export function formatsFor(
  known: ReadonlyMap<string, Format>,
  provider: string,
  model: string,
): readonly Format[] {
  const format = known.get(provider)
  if (format === undefined) return []
  const first = format.forModel?.(model) ?? format
  return [first, ...(first.also ?? [])]
}

export function takesBytesOf({ name, bytesOf }: Format, format: string): boolean {
  return format === name || format === bytesOf
}

/** What callers speak, for those who may name no vendor. */
export const MESSAGES = anthropic.name
export const MESSAGES_COUNT = anthropicCount.name

/** Secrets inside of one, where a key may hold several: each must be kept out of every text like the whole. */
export function secretPartsOf(value: string): readonly string[] {
  return ALL.flatMap(({ provider }) => provider?.secretParts?.(value) ?? [])
}
