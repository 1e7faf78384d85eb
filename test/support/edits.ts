// Where OpenAI's format changes a body, as the exchange applies it: in the order in which the places stand.

import type { Edit } from '../../src/bytes/splice.ts'
import { openai } from '../../src/formats/openai.ts'
import type { ModelRequest } from '../../src/types.ts'

export function toEdits(request: ModelRequest, model: string, maxOutputTokens: number | undefined): Edit[] {
  const edits = openai.provider.edits(request, { model, maxOutputTokens, options: {} })
  return edits.sort((a, b) => a.start - b.start)
}
