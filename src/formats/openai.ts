// OpenAI's wire format on the provider's side: chat completions and embeddings, whole and streamed. Pure: it reads
// what a provider said and never changes it. Parses only the fields it uses, so a new field cannot break it.
// Source: OpenAI API reference, and the shapes that compatible servers are known to send instead.

import type { Operation, Usage } from '../types.ts'
import type { EventFacts, Fault, Format, HeaderLookup, StreamWatch, WholeFacts } from './format.ts'
import { readRetryAfterMs } from './retry-after.ts'

const PATHS: Readonly<Record<Operation, string>> = { chat: '/chat/completions', embeddings: '/embeddings' }

export const openai: Format = {
  name: 'openai',
  provider: {
    path: (operation) => PATHS[operation],
    credential: (key) => ['authorization', `Bearer ${key}`],
    watch: createWatch,
    whole: readWhole,
    fault: readFault,
  },
}

// --- streams ---------------------------------------------------------------------------------------------

const NOTHING: EventFacts = {
  content: false,
  done: false,
  usageOnly: false,
  error: undefined,
  malformed: false,
}
const CONTENT: EventFacts = { ...NOTHING, content: true }
const DONE: EventFacts = { ...NOTHING, done: true }
const USAGE_ONLY: EventFacts = { ...NOTHING, usageOnly: true }
const MALFORMED: EventFacts = { ...NOTHING, malformed: true }

function createWatch(): StreamWatch {
  const open = new Set<number>()
  let finishes = 0
  let usage: Usage | undefined
  let countedTokens = 0
  return {
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
        const tokens = deltaTokens(choice.delta) + textTokens(choice.text)
        if (tokens > 0) {
          content = true
          countedTokens += tokens
        }
        if (typeof choice.finish_reason === 'string') {
          // OpenRouter tells a provider's failure as a finish reason.
          if (choice.finish_reason === 'error') return { ...NOTHING, error: 'finish_reason "error"' }
          finishes += 1
          open.delete(index)
          content = true // an answer may be empty, but then it says so
        } else open.add(index)
      }
      return content ? CONTENT : NOTHING
    },
    get finished() {
      return finishes > 0 && open.size === 0
    },
    get usage() {
      return usage
    },
    get countedTokens() {
      return countedTokens
    },
  }
}

/** Fields of a delta that carry output, as OpenAI and compatible servers name them. */
const TEXT_FIELDS = ['content', 'reasoning_content', 'reasoning', 'refusal'] as const
const LIST_FIELDS = ['tool_calls', 'reasoning_details'] as const

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

/** About four bytes to a token, and never less than one for what is there at all. */
function textTokens(text: unknown): number {
  if (typeof text === 'string') return text.length === 0 ? 0 : Math.max(1, Math.round(text.length / 4))
  // Mistral streams its thinking as content parts.
  if (Array.isArray(text)) return text.length
  return 0
}

function itemTokens(item: unknown): number {
  if (!isObject(item)) return 0
  const call = isObject(item.function) ? item.function : item
  return Math.max(1, textTokens(call.arguments))
}

// --- whole replies ---------------------------------------------------------------------------------------

function readWhole(operation: Operation, body: Buffer): WholeFacts {
  if (body.length === 0) return { usage: undefined, failure: 'empty', error: undefined }
  const reply = parseObject(body.toString('utf8'))
  if (reply === undefined) return { usage: undefined, failure: 'malformed', error: undefined }
  const error = errorText(reply)
  if (error !== undefined) return { usage: undefined, failure: 'in_band', error }
  const answers = operation === 'chat' ? reply.choices : reply.data
  if (!Array.isArray(answers)) return { usage: undefined, failure: 'malformed', error: undefined }
  if (answers.length === 0) return { usage: undefined, failure: 'empty', error: undefined }
  return { usage: readUsage(reply), failure: undefined, error: undefined }
}

// --- usage -----------------------------------------------------------------------------------------------

/** Groq puts a stream's usage in `x_groq`, DeepSeek names cached tokens `prompt_cache_hit_tokens`. */
function readUsage(message: Record<string, unknown>): Usage | undefined {
  const extra = message.x_groq
  const usage = isObject(message.usage) ? message.usage : isObject(extra) ? extra.usage : undefined
  if (!isObject(usage)) return undefined
  const inputTokens = count(usage.prompt_tokens)
  const outputTokens = count(usage.completion_tokens)
  if (inputTokens === undefined && outputTokens === undefined) return undefined
  const inputDetails = usage.prompt_tokens_details
  const outputDetails = usage.completion_tokens_details
  const cached = isObject(inputDetails) ? count(inputDetails.cached_tokens) : undefined
  return {
    inputTokens: inputTokens ?? 0,
    cachedTokens: cached ?? count(usage.prompt_cache_hit_tokens) ?? 0,
    outputTokens: outputTokens ?? 0,
    reasoningTokens: (isObject(outputDetails) ? count(outputDetails.reasoning_tokens) : undefined) ?? 0,
    source: 'provider',
  }
}

function count(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined
}

// --- faults ----------------------------------------------------------------------------------------------

/** Statuses that are the provider's trouble although they are 4xx (design §5), by what is wrong with what. */
const KEY_STATUSES: ReadonlySet<number> = new Set([401, 403])
const CALLER_STATUSES: ReadonlySet<number> = new Set([400, 413, 422])

/** How providers say that a prompt does not fit. Gathered from their documentation and from clients' own lists. */
const CONTEXT_PHRASES =
  /context_length_exceeded|model_context_window_exceeded|prompt is too long|maximum context length|exceeds the context window|input token count.{0,40}exceeds the maximum|input is too long for requested model|reduce the length of the messages|maximum prompt length is|exceeds the available context size|greater than the context length|context length is only|exceeded model token limit|too many tokens|input length and `?max_tokens`? exceed context limit/i

/** A 413 that is a rate limit in disguise: Groq answers it when a request is over the tokens per minute. */
const RATE_PHRASES = /rate_limit|rate limit|per minute|\bTPM\b|\bRPM\b/i

/** A key that is wrong, told with a 400. */
const KEY_PHRASES = /API_KEY_INVALID|API key not valid/i

const LONGEST_MESSAGE = 2000

function readFault(status: number, header: HeaderLookup, body: string, nowMs: number): Fault {
  const told = readError(body)
  const text = `${told.code ?? ''} ${told.type ?? ''} ${told.message}`
  const retryAfterMs = readRetryAfterMs(header, nowMs)
  const key = KEY_STATUSES.has(status) || (status === 400 && KEY_PHRASES.test(text))
  let verdict: Fault['verdict'] = 'retry'
  if (CALLER_STATUSES.has(status) && !key) {
    if (status === 413 && (retryAfterMs !== undefined || RATE_PHRASES.test(text))) verdict = 'retry'
    else verdict = CONTEXT_PHRASES.test(text) ? 'context' : 'refuse'
  }
  return { ...told, verdict, key, retryAfterMs }
}

/** The words of an error body, whatever its shape: OpenAI's, a list of it, vLLM's flat one, `detail`, or no JSON. */
function readError(body: string): Pick<Fault, 'message' | 'type' | 'param' | 'code'> {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    return { message: '', type: null, param: null, code: null }
  }
  // Google's compatible endpoint wraps the error in a list of one.
  const outer = Array.isArray(parsed) ? parsed[0] : parsed
  if (!isObject(outer)) return { message: '', type: null, param: null, code: null }
  const inner = outer.error
  const error = isObject(inner) ? inner : outer
  const message = typeof inner === 'string' ? inner : (error.message ?? error.detail)
  return {
    message: (typeof message === 'string'
      ? message
      : message === undefined
        ? ''
        : JSON.stringify(message)
    ).slice(0, LONGEST_MESSAGE),
    type: short(error.type),
    param: short(error.param),
    code: short(error.code),
  }
}

function short(value: unknown): string | null {
  return typeof value === 'string' ? value.slice(0, 100) : typeof value === 'number' ? String(value) : null
}

/** The error told inside a 200, or undefined. */
function errorText(message: Record<string, unknown>): string | undefined {
  const error = message.error
  if (error === undefined || error === null) return undefined
  if (typeof error === 'string') return error
  if (isObject(error) && typeof error.message === 'string') return error.message
  return 'an error without a message'
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
