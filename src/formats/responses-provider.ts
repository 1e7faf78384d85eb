// The Responses API on the side of a provider, for callers of another format: canonical requests written, answers and
// events read. The conversation is sent whole and nothing of it is to be kept there.
// Source: OpenAI API reference, POST /responses; openai-node src/resources/responses.

import { isObject, parseObject, withoutUndefined } from '../bytes/json-value.ts'
import type { Usage } from '../types.ts'
import type {
  CallPart,
  ChatReply,
  ChatRequest,
  Finish,
  Message,
  Part,
  Reasoning,
  Source,
  Tool,
} from './canonical.ts'
import { budgetToEffort } from './effort.ts'
import { secondsOf } from './facts.ts'
import type { Asked, WrittenRequest } from './format.ts'
import { refuse } from './members.ts'
import { isShownUser } from './openai-request.ts'
import { toUsage } from './openai-usage.ts'
import { toPicture, typeOfBase64 } from './pictures.ts'
import { joinSeal, RESPONSES, splitSeal } from './responses-seals.ts'
import { toUrl } from './sources.ts'
import { createWireNames, toToolName, type WireNames } from './tool-names.ts'
import { withAnsweredCalls } from './turns.ts'
import { withoutOwnPictures } from './uncarried.ts'

type Members = Readonly<Record<string, unknown>>

const LONGEST_TOOL_NAME = 64
/** It refuses a smaller cap. */
const LEAST_OUTPUT_TOKENS = 16

/** @throws GatewayError `invalid_request` that names the field which cannot be carried. */
export function writeResponsesRequest(given: ChatRequest, asked: Asked): WrittenRequest {
  const { request, lost } = withoutOwnPictures(given)
  const dropped = [...lost]
  refuseUncarried(request)
  for (const name of ['topK', 'seed', 'presencePenalty', 'frequencyPenalty'] as const)
    if (request[name] !== undefined) dropped.push(CHAT_NAMES[name])
  if (request.messages.some((message) => message.role === 'user' && message.name !== undefined))
    dropped.push('messages.name')
  for (const name of Object.keys(request.extra)) if (!CARRIED_EXTRAS.has(name)) dropped.push(name)

  if (request.user !== undefined && !isShownUser(request.user)) dropped.push('user')

  const names = createWireNames(LONGEST_TOOL_NAME)
  const tools = request.tools.map((tool) => toTool(tool, names))
  const input = toInput(withAnsweredCalls(request.messages), names)
  const reasoning = toReasoning(request.reasoning)
  const thinks = reasoning !== undefined || input.some(({ type }) => type === 'reasoning')
  const wantsLogprobs = request.extra.logprobs === true
  const include = [
    // A model that does not think refuses to be asked for this.
    ...(thinks ? ['reasoning.encrypted_content'] : []),
    ...(wantsLogprobs ? ['message.output_text.logprobs'] : []),
  ]
  const body = {
    model: asked.model,
    input,
    ...(request.stream && { stream: true }),
    store: false,
    include: include.length > 0 ? include : undefined,
    max_output_tokens: toCap(request.maxOutputTokens, asked.maxOutputTokens),
    temperature: request.temperature,
    top_p: request.topP,
    top_logprobs: wantsLogprobs ? request.extra.top_logprobs : undefined,
    ...(tools.length > 0 && {
      tools,
      tool_choice: toToolChoice(request, names),
      parallel_tool_calls: request.parallelToolCalls,
    }),
    reasoning,
    text: toText(request),
    user: isShownUser(request.user) ? request.user : undefined,
    prompt_cache_key: request.cacheKey,
    service_tier: request.serviceTier,
    metadata: request.metadata,
  }
  return { body: withoutUndefined(body), headers: [], dropped, names: names.names }
}

const CHAT_NAMES = {
  topK: 'top_k',
  seed: 'seed',
  presencePenalty: 'presence_penalty',
  frequencyPenalty: 'frequency_penalty',
} as const
const CARRIED_EXTRAS: ReadonlySet<string> = new Set(['logprobs', 'top_logprobs'])

/** What changes the answer, so that it must not be left out in silence. */
function refuseUncarried({ stop, choices, extra }: ChatRequest): void {
  const where = 'which the Responses API behind this model has no place for.'
  if (stop.length > 0) throw refuse('stop', `The field "stop" gives stop sequences, ${where}`)
  if (choices > 1) throw refuse('n', `The field "n" asks for more than one answer, ${where}`)
  const { modalities } = extra
  if (Array.isArray(modalities) && modalities.includes('audio'))
    throw refuse('modalities', `The field "modalities" asks for sound, ${where}`)
  if (Array.isArray(modalities) && modalities.includes('image'))
    throw refuse('modalities', `The field "modalities" asks for pictures, ${where}`)
}

/** The smaller of the caller's and the policy's; a cap of the caller's own that is refused there is raised. */
function toCap(own: number | undefined, policy: number | undefined): number | undefined {
  const raised = own === undefined ? undefined : Math.max(own, LEAST_OUTPUT_TOKENS)
  if (raised === undefined || policy === undefined) return raised ?? policy
  return Math.min(raised, policy)
}

function toReasoning(reasoning: Reasoning | undefined): Members | undefined {
  if (reasoning === undefined) return undefined
  const { budgetTokens, summary } = reasoning
  const effort = reasoning.effort ?? (budgetTokens === undefined ? undefined : effortOf(budgetTokens))
  if (effort === undefined && summary === undefined) return undefined
  return withoutUndefined({ effort, summary })
}

function effortOf(budgetTokens: number): string {
  return budgetTokens === 0 ? 'none' : budgetToEffort(budgetTokens)
}

function toText({ responseFormat: format, verbosity }: ChatRequest): Members | undefined {
  const written =
    format.type !== 'json_schema'
      ? format
      : withoutUndefined({
          type: 'json_schema',
          name: format.name,
          description: format.description,
          schema: format.schema,
          strict: format.strict,
        })
  if (format.type === 'text' && verbosity === undefined) return undefined
  return withoutUndefined({ format: format.type === 'text' ? undefined : written, verbosity })
}

function toTool(tool: Tool, names: WireNames): Members {
  const { kind, description } = tool
  const name = names.toWire(tool)
  if (kind === 'custom') {
    return withoutUndefined({ type: 'custom', name, description, format: toGrammar(tool.grammar) })
  }
  return withoutUndefined({
    type: 'function',
    name,
    description,
    parameters: tool.parameters ?? { type: 'object', properties: {} },
    // Here it is true unless something is said; whoever said nothing meant false.
    strict: tool.strict ?? false,
  })
}

/** Chat has the grammar one level deeper. Without one the text is free. */
function toGrammar(grammar: unknown): Members | undefined {
  if (!isObject(grammar)) return undefined
  const { syntax, definition } = isObject(grammar.grammar) ? grammar.grammar : grammar
  return typeof definition === 'string' ? { type: 'grammar', syntax, definition } : undefined
}

function toToolChoice({ toolChoice, tools }: ChatRequest, names: WireNames): unknown {
  if (toolChoice === undefined || toolChoice.type !== 'tool') return toolChoice?.type
  const { name, namespace } = toolChoice
  const named = tools.filter((tool) => tool.name === name)
  const tool = named.find((one) => one.namespace === namespace) ?? named[0]
  if (tool === undefined)
    throw refuse('tool_choice', `The tool "${name}" that "tool_choice" names is not among the tools.`)
  return { type: tool.kind, name: names.toWire(tool) }
}

// --- the conversation ----------------------------------------------------------------------------------------------

function toInput(messages: readonly Message[], names: WireNames): Members[] {
  const custom = new Set<string>()
  const input: Members[] = []
  messages.forEach((message, i) => {
    const param = `messages[${i}].content`
    switch (message.role) {
      case 'system':
      case 'developer':
      case 'user':
        input.push({ type: 'message', role: message.role, content: toContent(message.content, param) })
        return
      case 'assistant':
        for (const part of message.content) {
          if (part.type === 'call' && part.kind === 'custom') custom.add(part.id)
          const item = toAssistantItem(part, { names, param, ordinal: input.length })
          if (item !== undefined) input.push(item)
        }
        return
      case 'tool': {
        const type = custom.has(message.callId) ? 'custom_tool_call_output' : 'function_call_output'
        const content = message.isError
          ? [{ type: 'text' as const, text: ERROR_MARK }, ...message.content]
          : message.content
        input.push({ type, call_id: message.callId, output: toContent(content, param) })
      }
    }
  })
  return input
}

/** That a tool failed, where only its text can say so. */
const ERROR_MARK = 'Error: '

/** Text alone as text: some servers take nothing else. */
function toContent(content: readonly Part[], param: string): string | Members[] {
  if (content.every((part) => part.type === 'text')) return content.map(({ text }) => text).join('')
  return content.map((part) => toInputPart(part, param))
}

function toInputPart(part: Part, param: string): Members {
  switch (part.type) {
    case 'text':
    case 'refusal':
      return { type: 'input_text', text: part.text }
    case 'image': {
      const { source, detail = 'auto' } = part
      const where = source.kind === 'file' ? { file_id: source.id } : { image_url: toUrl(source) }
      return { type: 'input_image', ...where, detail }
    }
    case 'file': {
      const { source, name } = part
      if (source.kind === 'file') return { type: 'input_file', file_id: source.id }
      if (source.kind === 'url') return { type: 'input_file', file_url: source.url }
      return { type: 'input_file', filename: name ?? 'file', file_data: toUrl(source) }
    }
    case 'audio':
    case 'thinking':
    case 'call':
      throw refuse(
        param,
        `The field "${param}" holds a part of type "${part.type}", which cannot be sent there.`,
      )
  }
}

interface Place {
  readonly names: WireNames
  readonly param: string
  readonly ordinal: number
}

/** Undefined for a thought that nobody there could open. */
function toAssistantItem(part: Part, { names, param, ordinal }: Place): Members | undefined {
  switch (part.type) {
    case 'text':
      return part.text === '' ? undefined : { type: 'message', role: 'assistant', content: part.text }
    case 'refusal': {
      const content = [{ type: 'refusal', refusal: part.text }]
      return { type: 'message', id: `msg_${ordinal}`, status: 'completed', role: 'assistant', content }
    }
    case 'thinking': {
      if (part.sealed?.origin !== RESPONSES) return undefined
      const { id, text } = splitSeal(part.sealed)
      const summary = part.text === '' ? [] : [{ type: 'summary_text', text: part.text }]
      return { type: 'reasoning', ...(id !== undefined && { id }), summary, encrypted_content: text }
    }
    case 'call': {
      const call = { call_id: part.id, name: names.toWire(part) }
      if (part.kind === 'custom') return { type: 'custom_tool_call', ...call, input: part.arguments }
      return { type: 'function_call', ...call, arguments: part.arguments === '' ? '{}' : part.arguments }
    }
    case 'image':
    case 'file':
    case 'audio':
      throw refuse(
        param,
        `The field "${param}" holds a part of type "${part.type}" of the assistant, which cannot be sent there.`,
      )
  }
}

// --- answers -------------------------------------------------------------------------------------------------------

export function readResponse(body: Buffer, { names }: WrittenRequest): ChatReply {
  const response = parseObject(body.toString('utf8')) ?? {}
  const output = Array.isArray(response.output) ? response.output.filter(isObject) : []
  const content = output.flatMap((item) => readItem(item, names))
  const logprobs = output.flatMap(readLogprobs)
  return {
    id: typeof response.id === 'string' ? response.id : '',
    createdSeconds: secondsOf(response.created_at),
    model: typeof response.model === 'string' ? response.model : '',
    choices: [
      {
        content,
        finish: readFinish(
          response,
          content.some(({ type }) => type === 'call'),
        ),
        stopSequence: undefined,
        logprobs: logprobs.length > 0 ? { content: logprobs, refusal: null } : undefined,
      },
    ],
    usage: readUsage(response.usage),
    serviceTier: typeof response.service_tier === 'string' ? response.service_tier : undefined,
  }
}

/** What an item says; nothing for what the provider's own tools did. */
export function readItem(item: Members, names: WrittenRequest['names']): Part[] {
  switch (item.type) {
    case 'message': {
      const content = Array.isArray(item.content) ? item.content.filter(isObject) : []
      return content.flatMap((part): Part[] => {
        if (part.type === 'refusal' && typeof part.refusal === 'string')
          return [{ type: 'refusal', text: part.refusal }]
        return typeof part.text === 'string' ? [{ type: 'text', text: part.text }] : []
      })
    }
    case 'reasoning': {
      const text = thoughtText(item)
      const sealed = sealOf(item)
      if (text === '' && sealed === undefined) return []
      // Of one that has no words only the seal may be shown.
      return [{ type: 'thinking', text, sealed, isRedacted: text === '' }]
    }
    case 'function_call':
    case 'custom_tool_call':
      return [{ ...readCall(item, names), arguments: argumentsOf(item) }]
    case 'image_generation_call': {
      const picture = pictureOf(item)
      return picture === undefined ? [] : [toPicture(picture)]
    }
    default:
      return []
  }
}

/** What a picture's item shows; undefined while it is drawn. */
export function pictureOf({ result, output_format: format }: Members): Source | undefined {
  if (typeof result !== 'string' || result === '') return undefined
  const mediaType = typeof format === 'string' ? `image/${format}` : typeOfBase64(result)
  return { kind: 'base64', mediaType, base64: result }
}

/** A call but for its arguments. */
export function readCall(item: Members, names: WrittenRequest['names']): Omit<CallPart, 'arguments'> {
  // Nobody can be called, and an answer without the call would be another one.
  if (typeof item.name !== 'string' || item.name === '') throw new Error('a call without a name')
  const { name, namespace } = toToolName(names, item.name)
  return {
    type: 'call',
    kind: item.type === 'custom_tool_call' ? 'custom' : 'function',
    id: typeof item.call_id === 'string' ? item.call_id : '',
    name,
    namespace: namespace ?? (typeof item.namespace === 'string' ? item.namespace : undefined),
    sealed: undefined,
  }
}

export function argumentsOf(item: Members): string {
  const written = item.type === 'custom_tool_call' ? item.input : item.arguments
  return typeof written === 'string' ? written : ''
}

/** The thought itself where it is told, else the summary of it. */
export function thoughtText({ content, summary }: Members): string {
  const texts = (list: unknown) =>
    (Array.isArray(list) ? list : []).flatMap((part) =>
      isObject(part) && typeof part.text === 'string' ? [part.text] : [],
    )
  return texts(content).join('') || texts(summary).join(SUMMARY_BREAK)
}

/** Between the parts of a summary. */
export const SUMMARY_BREAK = '\n\n'

export function sealOf({ encrypted_content: text, id }: Members) {
  if (typeof text !== 'string' || text === '') return undefined
  return joinSeal(text, typeof id === 'string' ? id : undefined)
}

function readLogprobs(item: Members): unknown[] {
  const content = item.type === 'message' && Array.isArray(item.content) ? item.content : []
  return content.flatMap((part) => (isObject(part) && Array.isArray(part.logprobs) ? part.logprobs : []))
}

export function readFinish(response: Members, called: boolean): Finish {
  const details = isObject(response.incomplete_details) ? response.incomplete_details : {}
  if (response.status === 'incomplete' || details.reason !== undefined)
    return details.reason === 'content_filter' ? 'content_filter' : 'length'
  return called ? 'tool_calls' : 'stop'
}

export function readUsage(value: unknown): Usage | undefined {
  if (!isObject(value)) return undefined
  return toUsage({
    input: value.input_tokens,
    output: value.output_tokens,
    inputDetails: value.input_tokens_details,
    outputDetails: value.output_tokens_details,
  })
}
