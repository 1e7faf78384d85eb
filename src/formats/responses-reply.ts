// An answer as the Responses API gives it whole, and the pieces of it that its events repeat.
// Source: OpenAI API reference, the response object; openai-node src/resources/responses.

import { isObject } from '../bytes/json-value.ts'
import type { Usage } from '../types.ts'
import { createCallIds } from './call-ids.ts'
import type { CallPart, ChatReply, Finish, Part } from './canonical.ts'
import type { AnswerTo } from './format.ts'
import { pictureNote } from './pictures.ts'
import { markSeal } from './responses-seals.ts'

export type Item = Readonly<Record<string, unknown>>

/** Who answers, as every copy of the response in a stream says it. */
export interface Head {
  readonly id: string
  readonly createdSeconds: number
  readonly model: string
  readonly serviceTier: string | undefined
}

export function writeResponse(reply: ChatReply, to: AnswerTo): unknown {
  const [choice] = reply.choices
  const finish = choice?.finish ?? 'stop'
  const output = toOutput(choice?.content ?? [], { to, finish, logprobs: toLogprobs(choice?.logprobs) })
  return toResponse(toHead(reply, to), to, { finish, output, usage: reply.usage })
}

/** An id of the provider is kept where it is one of this format. */
export function toHead(
  {
    id,
    model,
    createdSeconds,
    serviceTier,
  }: Pick<ChatReply, 'id' | 'model' | 'createdSeconds'> & { readonly serviceTier?: string | undefined },
  to: AnswerTo,
): Head {
  return {
    id: id.startsWith('resp_') ? id : to.nextId('resp_'),
    createdSeconds: createdSeconds ?? to.nowSeconds,
    model: model === '' && typeof to.sent.model === 'string' ? to.sent.model : model,
    serviceTier,
  }
}

/** The response; `finish` undefined for one that is still on its way. */
export function toResponse(
  head: Head,
  { sent, request }: AnswerTo,
  {
    finish,
    output,
    usage,
  }: {
    readonly finish: Finish | undefined
    readonly output: readonly Item[]
    readonly usage?: Usage | undefined
  },
): Item {
  const reason = finish === undefined ? undefined : INCOMPLETE[finish]
  const status = finish === undefined ? 'in_progress' : reason === undefined ? 'completed' : 'incomplete'
  const text = isObject(sent.text) ? sent.text : {}
  const reasoning = isObject(sent.reasoning) ? sent.reasoning : {}
  return {
    id: head.id,
    object: 'response',
    created_at: head.createdSeconds,
    status,
    background: false,
    error: null,
    incomplete_details: reason === undefined ? null : { reason },
    instructions: sent.instructions ?? null,
    max_output_tokens: sent.max_output_tokens ?? null,
    max_tool_calls: sent.max_tool_calls ?? null,
    model: head.model,
    output,
    parallel_tool_calls: request.parallelToolCalls ?? sent.parallel_tool_calls ?? true,
    previous_response_id: null,
    ...given(sent, 'prompt_cache_key'),
    reasoning: { effort: reasoning.effort ?? null, summary: reasoning.summary ?? null },
    ...given(sent, 'safety_identifier'),
    service_tier: TIERS.has(head.serviceTier) ? head.serviceTier : 'default',
    // Nothing of it is kept.
    store: false,
    temperature: sent.temperature ?? null,
    text: { ...text, format: text.format ?? { type: 'text' } },
    tool_choice: sent.tool_choice ?? 'auto',
    tools: Array.isArray(sent.tools) ? sent.tools.map(toEcho) : [],
    top_logprobs: sent.top_logprobs ?? 0,
    top_p: sent.top_p ?? null,
    truncation: 'disabled',
    ...(usage !== undefined && { usage: toUsage(usage) }),
    ...given(sent, 'user'),
    metadata: sent.metadata ?? {},
  }
}

/** Tiers of service by the words of this API; other vendors have others. */
const TIERS: ReadonlySet<unknown> = new Set(['default', 'flex', 'scale', 'priority', 'fast', 'ultrafast'])

/** Why an answer is not whole, where it is not. */
const INCOMPLETE: Readonly<Record<Finish, string | undefined>> = {
  stop: undefined,
  tool_calls: undefined,
  length: 'max_output_tokens',
  content_filter: 'content_filter',
}

/** Whether what was said last is cut off. */
export function isCut(finish: Finish): boolean {
  return INCOMPLETE[finish] !== undefined
}

function given(sent: Item, name: string): Item {
  return (sent[name] ?? null) === null ? {} : { [name]: sent[name] }
}

/** A tool has all its members in an answer, also those that its caller left out. */
function toEcho(tool: unknown): unknown {
  if (!isObject(tool)) return tool
  if (tool.type === 'namespace' && Array.isArray(tool.tools))
    return { description: '', ...tool, tools: tool.tools.map(toEcho) }
  return tool.type === 'function' ? { strict: null, parameters: null, ...tool } : tool
}

function toUsage(usage: Usage): Item {
  return {
    input_tokens: usage.inputTokens,
    input_tokens_details: {
      cached_tokens: usage.cachedTokens,
      cache_write_tokens: usage.cacheWriteTokens,
    },
    output_tokens: usage.outputTokens,
    output_tokens_details: { reasoning_tokens: usage.reasoningTokens },
    total_tokens: usage.inputTokens + usage.outputTokens,
  }
}

// --- output items --------------------------------------------------------------------------------------------------

/** What was said, item by item: text and refusals that follow on each other are one message. */
function toOutput(
  content: readonly Part[],
  {
    to,
    finish,
    logprobs,
  }: { readonly to: AnswerTo; readonly finish: Finish; readonly logprobs: readonly Item[] },
): Item[] {
  const toCallId = createCallIds(to)
  const output: Item[] = []
  let said: Item[] | undefined
  content.forEach((part, i) => {
    const isLast = i === content.length - 1
    const status = isLast && isCut(finish) ? 'incomplete' : 'completed'
    if (part.type !== 'text' && part.type !== 'refusal') said = undefined
    switch (part.type) {
      case 'text':
      case 'refusal': {
        if (said === undefined) output.push(toMessage(to.nextId('msg_'), (said = []), status))
        else if (isLast) output.push(toMessage(String(output.pop()?.id), said, status))
        const last = said.at(-1)
        if (part.type === 'refusal') said.push(toRefusal(part.text))
        else if (last?.type !== 'output_text') said.push(toText(part.text, logprobs))
        else said.splice(-1, 1, toText(`${last.text}${part.text}`, logprobs))
        break
      }
      case 'thinking': {
        const of = part.isRedacted ? 'redacted' : 'thought'
        const encrypted = part.sealed && markSeal(part.sealed, of)
        output.push(toReasoning(to.nextId('rs_'), part.text, encrypted))
        break
      }
      case 'call':
        if (part.sealed !== undefined)
          output.push(toReasoning(to.nextId('rs_'), '', markSeal(part.sealed, 'call')))
        output.push(toCall(to.nextId(callPrefix(part.kind)), { ...part, id: toCallId(part.id) }, status))
        break
      case 'image':
        if (part.source.kind === 'base64')
          output.push(toDrawing(to.nextId('ig_'), part.source.base64, 'completed'))
        else output.push(toMessage(to.nextId('msg_'), [toText(pictureNote(part.source), [])], 'completed'))
        break
    }
  })
  // Nothing was said, and that is an answer.
  if (output.length === 0 && finish === 'stop')
    output.push(toMessage(to.nextId('msg_'), [toText('', [])], 'completed'))
  return output
}

/** `result` is null while it is drawn. */
export function toDrawing(id: string, result: string | null, status: string): Item {
  return { id, type: 'image_generation_call', status, result }
}

export function toMessage(id: string, content: readonly Item[], status: string): Item {
  return { id, type: 'message', status, role: 'assistant', content }
}

export function toText(text: string, logprobs: readonly Item[]): Item {
  return { type: 'output_text', text, annotations: [], logprobs }
}

export function toRefusal(refusal: string): Item {
  return { type: 'refusal', refusal }
}

export function toReasoning(id: string, text: string, encrypted: string | undefined): Item {
  const summary = text === '' ? [] : [{ type: 'summary_text', text }]
  return { id, type: 'reasoning', summary, ...(encrypted !== undefined && { encrypted_content: encrypted }) }
}

export type Call = Pick<CallPart, 'kind' | 'id' | 'name' | 'namespace' | 'arguments'>

export function toCall(id: string, call: Call, status: string): Item {
  const namespace = call.namespace !== undefined && { namespace: call.namespace }
  if (call.kind === 'custom') {
    const { name } = call
    return {
      id,
      type: 'custom_tool_call',
      status,
      call_id: call.id,
      name,
      ...namespace,
      input: call.arguments,
    }
  }
  // Without any arguments it takes none; of one that was cut off nothing is made up.
  const args = call.arguments === '' && status === 'completed' ? '{}' : call.arguments
  return {
    id,
    type: 'function_call',
    status,
    call_id: call.id,
    name: call.name,
    ...namespace,
    arguments: args,
  }
}

export function callPrefix(kind: CallPart['kind']): string {
  return kind === 'custom' ? 'ctc_' : 'fc_'
}

/** Chat's probabilities; both have the same for a token. */
export function toLogprobs(logprobs: unknown): readonly Item[] {
  const content = isObject(logprobs) ? logprobs.content : undefined
  return Array.isArray(content) ? content.filter(isObject).map(toLogprob) : []
}

function toLogprob(token: Item): Item {
  const top = Array.isArray(token.top_logprobs) ? token.top_logprobs.filter(isObject) : []
  const one = ({ token, logprob, bytes }: Item) => ({ token, logprob, bytes: bytes ?? [] })
  return { ...one(token), top_logprobs: top.map(one) }
}
