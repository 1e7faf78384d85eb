// OpenAI's wire format: chat completions and embeddings, whole and streamed. Pure. Here is what is looked at while bytes
// pass, which parses only the fields it uses, so that a new field cannot break it; openai-request.ts and openai-answer.ts
// translate.
// Source: OpenAI API reference, and the shapes that compatible servers are known to send instead.

import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Edit } from '../bytes/splice.ts'
import type { Deployment, ModelRequest, Operation, Usage } from '../types.ts'
import { createEdits, OPEN_BRACE } from './edits.ts'
import { toFloatEdits } from './embeddings.ts'
import {
  CONTENT,
  createChoices,
  DONE,
  MALFORMED,
  NOTHING,
  noAnswer,
  textTokens,
  toWatch,
  USAGE_ONLY,
} from './facts.ts'
import type {
  Asked,
  ChatClientSide,
  Format,
  ProviderChat,
  ProviderSide,
  Resuming,
  Speech,
  StreamWatch,
  ToldError,
  WholeFacts,
} from './format.ts'
import { createChatReader, createChatWriter, readChatReply, writeChatReply } from './openai-answer.ts'
import { choiceError, errorText, faults } from './openai-faults.ts'
import { mending } from './openai-mend.ts'
import { memberOf, readChatRequest, writeChatRequest } from './openai-request.ts'
import { readUsage } from './openai-usage.ts'
import { hasQuirk } from './quirks.ts'

/** What is neither has formats of its own (media.ts). */
const toPath = (operation: Operation): string =>
  operation === 'embeddings' ? '/embeddings' : '/chat/completions'

const OUTPUT_CAPS = ['max_completion_tokens', 'max_tokens'] as const

export const openai: Format & {
  readonly client: ChatClientSide
  readonly provider: ProviderSide & { readonly resume: Resuming; readonly chat: ProviderChat }
} = {
  name: 'openai',
  client: {
    fields: {
      outputCaps: OUTPUT_CAPS,
      conversation: 'messages',
      choices: 'n',
      beyondText: [
        ['response_format', /^(?:null|\{\s*"type"\s*:\s*"text"\s*\})$/],
        ['logprobs', /^(?:null|false)$/],
        ['audio', /^null$/],
      ],
    },
    forwards: ['openai-beta'],
    chat: { read: readChatRequest, memberOf, write: writeChatReply, events: createChatWriter },
    error: toError,
    errorEvent: (error) => `data: ${JSON.stringify(toError(error))}\n\n`,
    mending,
  },
  provider: {
    path: toPath,
    credential: (key) => ['authorization', `Bearer ${key}`],
    edits: toEdits,
    chat: { write: writeChatRequest, read: readChatReply, events: createChatReader },
    watch: createWatch,
    resume: { speech: readSpeech, resay, prefill },
    whole: readWhole,
    ...faults,
  },
}

/** OpenAI's shape (wire §1.4). */
export function toError({ message, type, param, code }: ToldError): unknown {
  return { error: { message, type, param, code } }
}

// --- requests ------------------------------------------------------------------------------------------

/** Where the client's bytes change for a deployment. */
function toEdits(request: ModelRequest, { model, maxOutputTokens, options }: Asked): Edit[] {
  const { spans, body } = request
  const edits = createEdits(request)
  if (model !== request.model) edits.set('model', JSON.stringify(model))
  if (maxOutputTokens !== undefined) edits.capOutput(OUTPUT_CAPS, maxOutputTokens)
  if (request.stream && !request.includeUsage) {
    const inner = spans.get('stream_options.include_usage')
    const outer = spans.get('stream_options')
    if (inner !== undefined) edits.list.push({ start: inner.start, end: inner.end, text: 'true' })
    else if (outer === undefined || body?.[outer.start] !== OPEN_BRACE)
      edits.set('stream_options', '{"include_usage":true}')
    else {
      const empty = body.toString('latin1', outer.start + 1, outer.end - 1).trim() === ''
      edits.list.push({
        start: outer.start + 1,
        end: outer.start + 1,
        text: `"include_usage":true${empty ? '' : ','}`,
      })
    }
  }
  if (request.endpoint.operation === 'embeddings' && hasQuirk(options, 'float-embeddings'))
    edits.list.push(...toFloatEdits(request))
  return edits.list
}

// --- streams ---------------------------------------------------------------------------------------------

function createWatch(): StreamWatch {
  const seen = createChoices()
  let usage: Usage | undefined
  let countedTokens = 0
  return toWatch({
    look(data) {
      if (data === '[DONE]') return DONE
      const chunk = parseObject(data)
      if (chunk === undefined) return MALFORMED
      const error = errorText(chunk)
      if (error !== undefined) return { ...NOTHING, error }
      const counted = readUsage(chunk)
      if (counted !== undefined) usage = counted
      const choices = Array.isArray(chunk.choices) ? chunk.choices : []
      // Azure and others put their preamble, and everybody the usage frame, into chunks without choices.
      if (choices.length === 0) return counted === undefined ? NOTHING : USAGE_ONLY
      let content = false
      for (const choice of choices) {
        if (!isObject(choice)) continue
        const index = typeof choice.index === 'number' ? choice.index : 0
        const failure = choiceError(choice)
        if (failure !== undefined) return { ...NOTHING, error: failure }
        const tokens = deltaTokens(choice.delta ?? choice.message) + textTokens(choice.text)
        if (tokens > 0) {
          content = true
          countedTokens += tokens
        }
        // OpenRouter puts usage, and Azure its late filter results, into a choice that has had its finish reason.
        const isOver = hasEnded(choice)
        seen.see(index, isOver)
        content ||= isOver // an answer may be empty, but then it says so
      }
      return content ? CONTENT : NOTHING
    },
    finished: seen.finished,
    finishedChoices: seen.finishedChoices,
    usage: () => usage,
    countedTokens: () => countedTokens,
  })
}

/** Some servers have an empty reason in every chunk but the last, where others have null. */
function hasEnded({ finish_reason: reason }: { readonly finish_reason?: unknown }): boolean {
  return typeof reason === 'string' && reason !== ''
}

/** Fields of a delta that carry output, as OpenAI and compatible servers name them. */
const TEXT_FIELDS = ['content', 'reasoning_content', 'reasoning', 'refusal'] as const
const LIST_FIELDS = ['tool_calls', 'reasoning_details', 'images'] as const

function deltaTokens(delta: unknown): number {
  if (!isObject(delta)) return 0
  let tokens = 0
  for (const field of TEXT_FIELDS) tokens += textTokens(delta[field])
  for (const field of LIST_FIELDS) {
    const list = delta[field]
    if (Array.isArray(list)) for (const item of list) tokens += itemTokens(item)
  }
  if (isObject(delta.function_call)) tokens += itemTokens(delta.function_call)
  if (isObject(delta.audio)) tokens += 1
  return tokens
}

const SILENCE: Speech = { text: '', more: false, ends: false }

/** Of the first choice: a stream of several is not gone on with. */
function readSpeech(data: string): Speech {
  const chunk = data === '[DONE]' ? undefined : parseObject(data)
  const [choice] = Array.isArray(chunk?.choices) ? chunk.choices : []
  if (!isObject(choice)) return SILENCE
  const delta = isObject(choice.delta) ? choice.delta : {}
  const text = typeof delta.content === 'string' ? delta.content : ''
  const parts = Array.isArray(delta.content) && delta.content.length > 0
  const said = parts || textTokens(choice.text) > 0 || textTokens(delta.refusal) > 0
  const calls = Array.isArray(delta.tool_calls) && delta.tool_calls.length > 0
  const pictures = Array.isArray(delta.images) && delta.images.length > 0
  const more = said || calls || pictures || isObject(delta.function_call) || isObject(delta.audio)
  return { text, more, ends: hasEnded(choice) }
}

function resay(data: string, text: string): string {
  const chunk = parseObject(data)
  const [choice] = Array.isArray(chunk?.choices) ? chunk.choices : []
  if (!isObject(choice)) return data
  const said = { ...choice, delta: { ...(isObject(choice.delta) ? choice.delta : {}), content: text } }
  return JSON.stringify({ ...chunk, choices: [said] })
}

/**
 * The answer as far as it came, as the last message. Some servers go on with it as it stands; others are told by a
 * member of that message, or by two of the request.
 */
function prefill(
  { body, spans }: ModelRequest,
  said: string,
  how: Deployment['prefill'],
): Edit[] | undefined {
  const messages = spans.get('messages')
  if (how === false || body === undefined || messages === undefined) return undefined
  const at = messages.end - 1
  if (body.toString('latin1', messages.start + 1, at).trim() === '') return undefined
  const message = { role: 'assistant', content: said, ...(how === 'prefix' && { prefix: true }) }
  const edits = [{ start: at, end: at, text: `,${JSON.stringify(message)}` }]
  if (how !== 'continue_final_message') return edits
  for (const [name, text] of FINAL_MESSAGE) {
    const span = spans.get(name)
    const front = body.indexOf('{') + 1
    edits.push(
      span === undefined ? { start: front, end: front, text: `"${name}":${text},` } : { ...span, text },
    )
  }
  return edits
}

/** vLLM and SGLang. */
const FINAL_MESSAGE = [
  ['continue_final_message', 'true'],
  ['add_generation_prompt', 'false'],
] as const

function itemTokens(item: unknown): number {
  if (!isObject(item)) return 0
  const call = isObject(item.function) ? item.function : item
  return Math.max(1, textTokens(call.arguments))
}

// --- whole replies ---------------------------------------------------------------------------------------

function readWhole(operation: Operation, body: Buffer): WholeFacts {
  if (body.length === 0) return noAnswer('empty')
  const reply = parseObject(body.toString('utf8'))
  if (reply === undefined) return noAnswer('malformed')
  const error = errorText(reply)
  if (error !== undefined) return noAnswer('in_band', error)
  const answers = operation === 'chat' ? reply.choices : reply.data
  if (!Array.isArray(answers)) return noAnswer('malformed')
  if (answers.length === 0) return noAnswer('empty')
  let countedTokens = 0
  if (operation === 'chat') {
    for (const choice of answers) {
      if (!isObject(choice)) return noAnswer('malformed')
      const failure = choiceError(choice)
      if (failure !== undefined) return noAnswer('in_band', failure)
      if (!isObject(choice.message) && typeof choice.text !== 'string') return noAnswer('malformed')
      countedTokens += deltaTokens(choice.message) + textTokens(choice.text)
    }
  }
  return { usage: readUsage(reply), countedTokens, failure: undefined, error: undefined }
}
