// Every wire format by name. To add one: its file, and a line here.

import { anthropic } from './anthropic.ts'
import type { Format } from './format.ts'
import { openai } from './openai.ts'

export const formats: ReadonlyMap<string, Format> = new Map<string, Format>([
  [openai.name, openai],
  [anthropic.name, anthropic],
])
