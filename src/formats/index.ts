// Every wire format by name. To add one: its file, and a line here.

import { anthropic } from './anthropic.ts'
import { anthropicCount } from './anthropic-count.ts'
import { completions } from './completions.ts'
import type { Format } from './format.ts'
import { openai } from './openai.ts'
import { responses } from './responses.ts'

const ALL: readonly Format[] = [openai, responses, completions, anthropic, anthropicCount]

export const formats: ReadonlyMap<string, Format> = new Map(ALL.map((format) => [format.name, format]))

/** What callers speak, for those who may name no vendor. */
export const MESSAGES = anthropic.name
export const MESSAGES_COUNT = anthropicCount.name
