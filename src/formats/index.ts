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

/** What a model of a provider is spoken to in, by the format of the provider. */
export function formatFor(
  known: ReadonlyMap<string, Format>,
  provider: string,
  model: string,
): Format | undefined {
  const format = known.get(provider)
  return format?.forModel?.(model) ?? format
}

/** Of a format, and those that such a provider has besides, the one that takes the bytes of another. */
export function speakerOf(format: Format, of: string): Format | undefined {
  return takes(format, of) ? format : format.also?.find((other) => takes(other, of))
}

function takes({ name, bytesOf }: Format, of: string): boolean {
  return of === name || of === bytesOf
}

/** What callers speak, for those who may name no vendor. */
export const MESSAGES = anthropic.name
export const MESSAGES_COUNT = anthropicCount.name

/** Secrets inside of one, where a key may hold several: each must be kept out of every text like the whole. */
export function secretPartsOf(value: string): readonly string[] {
  return ALL.flatMap(({ provider }) => provider?.secretParts?.(value) ?? [])
}
