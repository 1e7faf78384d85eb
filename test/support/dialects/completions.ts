// OpenAI's legacy completions, as a provider speaks them: chat's frames with `text` where chat has a message.

import type { RecordedRequest } from '../scripted-provider.ts'
import { type AnswerOptions, type ChatBody, type Dialect, isRecord } from './dialect.ts'
import { openai } from './openai.ts'

export const completions: Dialect = {
  ...openai,
  name: 'completions',
  speaks: (path) => /(?<!\/chat)\/completions(?:\?|$)/.test(path),
  read: (request: RecordedRequest): ChatBody => {
    const chat = openai.read(request)
    return { ...chat, messages: [{ role: 'user', content: chat.fields.prompt }] }
  },
  frames: (chat, options) => openai.frames(chat, options).map(toTextFrame),
  reply: (chat: ChatBody, options: AnswerOptions) => toText(openai.reply(chat, options)),
}

function toTextFrame(frame: Buffer): Buffer {
  return Buffer.from(
    frame
      .toString()
      .replace(/^data: (\{.*\})/, (_, json: string) => `data: ${JSON.stringify(toText(JSON.parse(json)))}`),
  )
}

function toText(reply: unknown): unknown {
  if (!isRecord(reply) || !Array.isArray(reply.choices)) return reply
  const choices = reply.choices.filter(isRecord).map(({ index, delta, message, finish_reason }) => {
    const said = isRecord(delta) ? delta : isRecord(message) ? message : {}
    return { index, text: said.content ?? said.refusal ?? '', logprobs: null, finish_reason }
  })
  return { ...reply, object: 'text_completion', choices }
}
