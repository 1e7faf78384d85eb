// Writes a finished answer in the wire format of chat completions and embeddings, for the kinds of deployment that
// answer from this process: whole bodies, stream frames, error bodies. Pure; decides nothing of what is answered.

import type { HeaderLookup } from '../../formats/format.ts'

/** One choice of a completion. `pieces` join to its text, or to the arguments of its call. */
export interface Choice {
  readonly pieces: readonly string[]
  readonly call: { readonly id: string; readonly name: string } | undefined
  readonly finish: 'stop' | 'length' | 'tool_calls'
}

export interface Completion {
  readonly id: string
  readonly choices: readonly Choice[]
  readonly inputTokens: number
  readonly outputTokens: number
}

/** What every body and every chunk of one answer has in common. */
export interface Stamp {
  readonly model: string
  /** Unix seconds. */
  readonly createdS: number
}

/** One SSE frame. Content of the same round belongs to the same moment: a round has one piece of every choice. */
export interface Frame {
  readonly kind: 'role' | 'content' | 'end'
  readonly round: number
  readonly bytes: Buffer
}

export interface Vectors {
  readonly vectors: readonly Float32Array[]
  readonly base64: boolean
  readonly inputTokens: number
}

/** An error as its body tells it. */
export interface ErrorBody {
  readonly message: string
  readonly type: string
  readonly param: string | null
  readonly code: string | null
}

// The real one names a build of the serving system; ours says what it is.
const FINGERPRINT = 'fp_simulated'

/** A `chat.completion` body. */
export function wholeReply(completion: Completion, { model, createdS }: Stamp): Buffer {
  return toBytes({
    id: completion.id,
    object: 'chat.completion',
    created: createdS,
    model,
    choices: completion.choices.map((choice, index) => ({
      index,
      message: toMessage(choice),
      logprobs: null,
      finish_reason: choice.finish,
    })),
    usage: toUsage(completion),
    service_tier: 'default',
    system_fingerprint: FINGERPRINT,
  })
}

/** The frames of a `chat.completion.chunk` stream, `[DONE]` included, made as they are taken. */
export function* streamReply(
  completion: Completion,
  { model, createdS }: Stamp,
  includeUsage: boolean,
): Generator<Frame> {
  const head = {
    id: completion.id,
    object: 'chat.completion.chunk',
    created: createdS,
    model,
    service_tier: 'default',
    system_fingerprint: FINGERPRINT,
  }
  // Who asked for usage has `usage: null` in every chunk but the last; who did not never sees the member.
  const tail = includeUsage ? { usage: null } : {}
  const chunk = (index: number, delta: unknown, finish: string | null) =>
    toFrame({ ...head, choices: [{ index, delta, logprobs: null, finish_reason: finish }], ...tail })

  for (const [index, choice] of completion.choices.entries()) {
    const content = choice.call === undefined ? '' : null
    yield { kind: 'role', round: 0, bytes: chunk(index, { role: 'assistant', content, refusal: null }, null) }
  }
  const deltas = completion.choices.map(toDeltas)
  const rounds = Math.max(0, ...deltas.map((list) => list.length))
  for (let round = 1; round <= rounds; round += 1) {
    for (const [index, list] of deltas.entries()) {
      const delta = list[round - 1]
      if (delta !== undefined) yield { kind: 'content', round, bytes: chunk(index, delta, null) }
    }
  }
  for (const [index, choice] of completion.choices.entries()) {
    yield { kind: 'end', round: rounds, bytes: chunk(index, {}, choice.finish) }
  }
  if (includeUsage) {
    const bytes = toFrame({ ...head, choices: [], usage: toUsage(completion) })
    yield { kind: 'end', round: rounds, bytes }
  }
  yield { kind: 'end', round: rounds, bytes: Buffer.from('data: [DONE]\n\n') }
}

/** A list of embeddings. */
export function wholeEmbeddings({ vectors, base64, inputTokens }: Vectors, model: string): Buffer {
  return toBytes({
    object: 'list',
    data: vectors.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: base64 ? toLittleEndian(vector).toString('base64') : Array.from(vector),
    })),
    model,
    usage: { prompt_tokens: inputTokens, total_tokens: inputTokens },
  })
}

/** The body of an error answer. */
export function writeError({ message, type, param, code }: ErrorBody): Buffer {
  return toBytes({ error: { message, type, param, code } })
}

/** Looks up response headers that are written down as a record of lower-case names. */
export function headerLookup(headers: Readonly<Record<string, string>>): HeaderLookup {
  const byName = new Map(Object.entries(headers))
  return (name) => byName.get(name)
}

function toMessage({ call, pieces }: Choice): unknown {
  const text = pieces.join('')
  if (call === undefined) return { role: 'assistant', content: text, refusal: null, annotations: [] }
  const { id, name } = call
  const toolCall = { id, type: 'function', function: { name, arguments: text } }
  return { role: 'assistant', content: null, tool_calls: [toolCall], refusal: null, annotations: [] }
}

function toDeltas({ call, pieces }: Choice): unknown[] {
  if (call === undefined) return pieces.map((content) => ({ content }))
  const { id, name } = call
  const first = { index: 0, id, type: 'function', function: { name, arguments: '' } }
  const rest = pieces.map((piece) => ({ tool_calls: [{ index: 0, function: { arguments: piece } }] }))
  return [{ tool_calls: [first] }, ...rest]
}

function toUsage({ inputTokens, outputTokens }: Completion): unknown {
  return {
    prompt_tokens: inputTokens,
    completion_tokens: outputTokens,
    total_tokens: inputTokens + outputTokens,
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  }
}

function toLittleEndian(vector: Float32Array): Buffer {
  const bytes = Buffer.allocUnsafe(vector.length * 4)
  for (const [index, value] of vector.entries()) bytes.writeFloatLE(value, index * 4)
  return bytes
}

function toFrame(event: unknown): Buffer {
  return Buffer.from(`data: ${JSON.stringify(event)}\n\n`)
}

function toBytes(body: unknown): Buffer {
  return Buffer.from(JSON.stringify(body))
}
