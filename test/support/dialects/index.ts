// The dialects of a scripted provider: which one is spoken is told by the path that is asked for. To add one: its file, and
// a line here in front of `openai`, which takes every path.

import { anthropic, countTokens, vertexMessages } from './anthropic.ts'
import { azure } from './azure.ts'
import { bedrock, bedrockEmbeddings } from './bedrock.ts'
import { completions } from './completions.ts'
import type { Dialect } from './dialect.ts'
import { gemini, geminiEmbeddings, vertexEmbeddings } from './gemini.ts'
import { embeddings, openai } from './openai.ts'
import { responses } from './responses.ts'

const DIALECTS: readonly Dialect[] = [
  gemini,
  geminiEmbeddings,
  vertexEmbeddings,
  bedrock,
  bedrockEmbeddings,
  azure,
  vertexMessages,
  countTokens,
  anthropic,
  responses,
  completions,
  embeddings,
  openai,
]

export function dialectOf(path: string): Dialect {
  return DIALECTS.find((dialect) => dialect.speaks(path)) ?? openai
}
