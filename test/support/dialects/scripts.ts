// What a dialect is asked for when it is judged by itself, whatever its wire.

import type { AnswerOptions, ChatBody } from './dialect.ts'

/** A request of which only the answer matters. */
export function chatOf(model: string): ChatBody {
  return { fields: {}, model, stream: true, includeUsage: true, choices: 1, messages: [], tools: [] }
}

/** One answer of each kind. */
export const SCRIPTS: Readonly<Record<string, AnswerOptions>> = {
  plain: { text: 'Hello there 👋' },
  refusal: { refusal: 'No.' },
  reasoning: { reasoning: ['Hm', '.'], text: 'Hi.' },
  calls: {
    toolCalls: [
      { name: 'a', args: { b: 'some longer text' } },
      { name: 'c', args: {} },
    ],
  },
  length: { text: 'Once upon', finishReason: 'length' },
  filter: { text: 'Well', finishReason: 'content_filter' },
}
