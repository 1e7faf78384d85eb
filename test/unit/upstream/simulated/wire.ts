// Reads what the kinds write, with schemas of its own: a check that does not share the writer's opinion.

import { z } from 'zod'

const Usage = z.strictObject({
  prompt_tokens: z.int().nonnegative(),
  completion_tokens: z.int().nonnegative(),
  total_tokens: z.int().nonnegative(),
  prompt_tokens_details: z.record(z.string(), z.number()),
  completion_tokens_details: z.record(z.string(), z.number()),
})

const Finish = z.enum(['stop', 'length', 'tool_calls'])

const ToolCall = z.strictObject({
  id: z.string().min(1),
  type: z.literal('function'),
  function: z.strictObject({ name: z.string().min(1), arguments: z.string() }),
})

const Whole = z.strictObject({
  id: z.string().startsWith('chatcmpl-'),
  object: z.literal('chat.completion'),
  created: z.int(),
  model: z.string(),
  choices: z.array(
    z.strictObject({
      index: z.int(),
      message: z.strictObject({
        role: z.literal('assistant'),
        content: z.string().nullable(),
        tool_calls: z.array(ToolCall).optional(),
        refusal: z.null(),
        annotations: z.array(z.never()),
      }),
      logprobs: z.null(),
      finish_reason: Finish,
    }),
  ),
  usage: Usage,
  service_tier: z.literal('default'),
  system_fingerprint: z.string(),
})

const Chunk = z.strictObject({
  id: z.string().startsWith('chatcmpl-'),
  object: z.literal('chat.completion.chunk'),
  created: z.int(),
  model: z.string(),
  service_tier: z.literal('default'),
  system_fingerprint: z.string(),
  choices: z.array(
    z.strictObject({
      index: z.int(),
      delta: z.strictObject({
        role: z.literal('assistant').optional(),
        content: z.string().nullable().optional(),
        refusal: z.null().optional(),
        tool_calls: z
          .array(
            z.strictObject({
              index: z.int(),
              id: z.string().optional(),
              type: z.literal('function').optional(),
              function: z.strictObject({ name: z.string().optional(), arguments: z.string() }),
            }),
          )
          .optional(),
      }),
      logprobs: z.null(),
      finish_reason: Finish.nullable(),
    }),
  ),
  usage: Usage.nullable().optional(),
})

const ErrorShape = z.strictObject({
  error: z.strictObject({
    message: z.string().min(1),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
})

const Embeddings = z.strictObject({
  object: z.literal('list'),
  data: z.array(
    z.strictObject({
      object: z.literal('embedding'),
      index: z.int(),
      embedding: z.union([z.array(z.number()), z.string()]),
    }),
  ),
  model: z.string(),
  usage: z.strictObject({ prompt_tokens: z.int(), total_tokens: z.int() }),
})

export type WholeReply = z.infer<typeof Whole>
export type ChunkEvent = z.infer<typeof Chunk>

export const readWhole = (text: string) => Whole.parse(JSON.parse(text))
export const readError = (text: string) => ErrorShape.parse(JSON.parse(text)).error
export const readEmbeddings = (text: string) => Embeddings.parse(JSON.parse(text))

/** The chunks of a complete stream; throws when its frames or its end are not as they must be. */
export function readStream(text: string): ChunkEvent[] {
  const frames = text.split('\n\n')
  if (frames.pop() !== '' || frames.pop() !== 'data: [DONE]') throw new Error('the stream has no proper end')
  return frames.map(readFrame)
}

export function readFrame(frame: string): ChunkEvent {
  if (!frame.startsWith('data: ') || frame.includes('\n')) throw new Error(`not a frame: ${frame}`)
  return Chunk.parse(JSON.parse(frame.slice('data: '.length)))
}

/** Puts the chunks together as a client does, into what the whole reply would have been. */
export function gather(chunks: readonly ChunkEvent[]): unknown {
  const choices = new Map<number, { text: string; id?: string; name?: string; finish?: string | null }>()
  for (const { choices: deltas } of chunks) {
    for (const { index, delta, finish_reason: finish } of deltas) {
      const choice = choices.get(index) ?? { text: '' }
      choices.set(index, choice)
      choice.text += delta.content ?? ''
      for (const part of delta.tool_calls ?? []) {
        choice.text += part.function.arguments
        if (part.id !== undefined) choice.id = part.id
        if (part.function.name !== undefined) choice.name = part.function.name
      }
      if (finish !== null) choice.finish = finish
    }
  }
  return [...choices.entries()].sort(([one], [other]) => one - other).map(([, choice]) => choice)
}

/** The same view of a whole reply. */
export function gatherWhole(reply: WholeReply): unknown {
  return reply.choices.map(({ message, finish_reason: finish }) => {
    const [called] = message.tool_calls ?? []
    if (called === undefined) return { text: message.content ?? '', finish }
    return { text: called.function.arguments, id: called.id, name: called.function.name, finish }
  })
}
