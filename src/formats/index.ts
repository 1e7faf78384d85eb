// Every wire format by name. To add one: its file, and a line here.

import type { Format } from './format.ts'
import { openai } from './openai.ts'

export const formats: ReadonlyMap<string, Format> = new Map([[openai.name, openai]])
