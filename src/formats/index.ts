// Every wire format by name. To add one: its file, and a line here.

import { anthropic } from './anthropic.ts'
import { azure } from './azure.ts'
import { bedrock } from './bedrock.ts'
import type { Format } from './format.ts'
import { gemini, vertex } from './gemini.ts'
import { openai } from './openai.ts'

export const formats: ReadonlyMap<string, Format> = new Map<string, Format>([
  [openai.name, openai],
  [anthropic.name, anthropic],
  [azure.name, azure],
  [gemini.name, gemini],
  [vertex.name, vertex],
  [bedrock.name, bedrock],
])
