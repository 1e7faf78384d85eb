// OpenAI's wire format on the provider's side: chat completions and embeddings, whole and streamed. Pure: it reads
// what a provider said and never changes it. Parses only the fields it uses, so a new field cannot break it.
// Source: OpenAI API reference, and the shapes that compatible servers are known to send instead.

import { isObject } from '../bytes/json-value.ts'
import type { Edit } from '../bytes/splice.ts'
import type { Deployment, EventFacts, ModelRequest, Operation, Reason, Span, Usage } from '../types.ts'
import type {
  Asked,
  Fault,
  Format,
  HeaderLookup,
  ProviderSide,
  Resuming,
  Speech,
  StreamWatch,
  WholeFacts,
} from './format.ts'
import { type QuotaNames, readQuotaLeft, readResetMs, readRetryAfterMs } from './retry-after.ts'

const PATHS: Readonly<Record<Operation, string>> = { chat: '/chat/completions', embeddings: '/embeddings' }

export const openai: Format & { readonly provider: ProviderSide & { readonly resume: Resuming } } = {
  name: 'openai',
  provider: {
    path: (operation) => PATHS[operation],
    credential: (key) => ['authorization', `Bearer ${key}`],
    edits: toEdits,
    watch: createWatch,
    resume: { speech: readSpeech, resay, prefill },
    whole: readWhole,
    quota: (header, nowMs) => readQuotaLeft(header, QUOTAS, nowMs),
    fault: readFault,
    inBand: readInBand,
  },
}

/** OpenAI's, Groq's and Azure's names; OpenRouter's have no kind. */
const QUOTAS: readonly QuotaNames[] = ['-requests', '-tokens', ''].map((kind) => ({
  limit: `x-ratelimit-limit${kind}`,
  remaining: `x-ratelimit-remaining${kind}`,
  reset: `x-ratelimit-reset${kind}`,
}))

// --- requests ------------------------------------------------------------------------------------------

/** Where the client's bytes change for a deployment. */
function toEdits(request: ModelRequest, { model, maxOutputTokens }: Asked): Edit[] {
  const { spans, body } = request
  const edits: Edit[] = []
  const added: string[] = []

  /** Rewrites a member where it stands, or adds it in front of the others. */
  function set(name: string, text: string): void {
    const span = spans.get(name)
    if (span === undefined) added.push(`${JSON.stringify(name)}:${text}`)
    else edits.push({ start: span.start, end: span.end, text })
  }

  if (model !== request.model) set('model', JSON.stringify(model))
  if (maxOutputTokens !== undefined) {
    // A server may read either spelling: each is capped where it stands, and one is added where none does.
    const written = OUTPUT_CAPS.filter((name) => spans.has(name))
    for (const name of written)
      if (isOver(body, spans.get(name), maxOutputTokens)) set(name, String(maxOutputTokens))
    if (written.length === 0) set('max_completion_tokens', String(maxOutputTokens))
  }
  if (request.stream && !request.includeUsage) {
    const inner = spans.get('stream_options.include_usage')
    const outer = spans.get('stream_options')
    if (inner !== undefined) edits.push({ start: inner.start, end: inner.end, text: 'true' })
    else if (outer === undefined || body?.[outer.start] !== OPEN_BRACE)
      set('stream_options', '{"include_usage":true}')
    else {
      const empty = body.toString('latin1', outer.start + 1, outer.end - 1).trim() === ''
      edits.push({
        start: outer.start + 1,
        end: outer.start + 1,
        text: `"include_usage":true${empty ? '' : ','}`,
      })
    }
  }
  if (added.length > 0 && body !== undefined) {
    // There is always a member (`model`) behind the new ones.
    const at = body.indexOf(OPEN_BRACE) + 1
    edits.push({ start: at, end: at, text: `${added.join(',')},` })
  }
  return edits
}

const OUTPUT_CAPS = ['max_tokens', 'max_completion_tokens'] as const

/** Whether a cap is missing (`null`) or above ours. */
function isOver(body: Buffer | undefined, span: Span | undefined, cap: number): boolean {
  const value = span === undefined ? Number.NaN : Number(body?.toString('latin1', span.start, span.end))
  return !(value <= cap)
}

const OPEN_BRACE = 0x7b

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
  const finished = new Set<number>()
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
        const failure = choiceError(choice)
        if (failure !== undefined) return { ...NOTHING, error: failure }
        const tokens = deltaTokens(choice.delta) + textTokens(choice.text)
        if (tokens > 0) {
          content = true
          countedTokens += tokens
        }
        if (hasEnded(choice)) {
          finished.add(index)
          open.delete(index)
          content = true // an answer may be empty, but then it says so
        } else if (!finished.has(index)) {
          // OpenRouter puts usage, and Azure its late filter results, into a choice that has had its finish reason.
          open.add(index)
        }
      }
      return content ? CONTENT : NOTHING
    },
    get finished() {
      return finished.size > 0 && open.size === 0
    },
    get finishedChoices() {
      return finished.size
    },
    get usage() {
      return usage
    },
    get countedTokens() {
      return countedTokens
    },
  }
}

/** Some servers have an empty reason in every chunk but the last, where others have null. */
function hasEnded({ finish_reason: reason }: { readonly finish_reason?: unknown }): boolean {
  return typeof reason === 'string' && reason !== ''
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
  const more = said || calls || isObject(delta.function_call) || isObject(delta.audio)
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
      countedTokens += deltaTokens(choice.message) + textTokens(choice.text)
    }
  }
  return { usage: readUsage(reply), countedTokens, failure: undefined, error: undefined }
}

function noAnswer(failure: Reason, error?: string): WholeFacts {
  return { usage: undefined, countedTokens: 0, failure, error }
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
  const input = isObject(usage.prompt_tokens_details) ? usage.prompt_tokens_details : {}
  const output = isObject(usage.completion_tokens_details) ? usage.completion_tokens_details : {}
  return {
    inputTokens: inputTokens ?? 0,
    cachedTokens: count(input.cached_tokens) ?? count(usage.prompt_cache_hit_tokens) ?? 0,
    cacheWriteTokens: count(input.cache_write_tokens) ?? 0,
    audioInputTokens: count(input.audio_tokens) ?? 0,
    outputTokens: outputTokens ?? 0,
    reasoningTokens: count(output.reasoning_tokens) ?? 0,
    audioOutputTokens: count(output.audio_tokens) ?? 0,
    source: 'provider',
  }
}

/** More tokens than any window holds: whoever says so cannot count, and must not be able to lock an agent out. */
const MOST_TOKENS = 50_000_000

function count(value: unknown): number | undefined {
  return typeof value === 'number' && value >= 0 && value <= MOST_TOKENS ? value : undefined
}

// --- faults ----------------------------------------------------------------------------------------------

/** Statuses that tell of the key or of the account behind it, not of the server. */
const KEY_STATUSES: ReadonlySet<number> = new Set([401, 402, 403])
const CALLER_STATUSES: ReadonlySet<number> = new Set([400, 413, 422])

/** How providers say that a prompt does not fit. Gathered from their documentation and from clients' own lists. */
const CONTEXT_PHRASES =
  /context_length_exceeded|model_context_window_exceeded|prompt is too long|maximum context length|exceeds the context window|input token count.{0,40}exceeds the maximum|input is too long for requested model|reduce the length of the messages|maximum prompt length is|exceeds the available context size|greater than the context length|context length is only|exceeded model token limit|too many tokens|input length and `?max_tokens`? exceed context limit/i

/** A 413 that is a rate limit in disguise: Groq answers it when a request is over the tokens per minute. */
const RATE_PHRASES = /rate_limit|rate limit|per minute|\bTPM\b|\bRPM\b/i

/** A wrong key (Google) or an account without money (Anthropic), told with a 400. At the start: a caller's text may be quoted behind it. */
const KEY_PHRASES = /^(?:API key not valid|API key expired|Your credit balance is too low)/i
/** The account behind the key has no money left, whatever the status says (wire §3, quota and billing). */
const BILLING_CODES =
  /^(?:insufficient_quota|billing_error|billing_hard_limit_reached|credit_balance_exhausted|(?:organization|project)_(?:spend|usage)_limit_exceeded)$/
/** A 403 that is about one model: the key is good for others. */
const MODEL_PHRASES = /model_not_found|access to (?:the )?model/i
/** A 403 that is about the key or its account, and none that is about what was asked: that would be one caller's doing. */
const ACCOUNT_PHRASES =
  /\b(?:api.?key|key|permission|credentials?|unauthori[sz]ed|authenticat\w+|billing|credit|quota|suspended|disabled|organi[sz]ation|account|project|region|country|territory|forbidden)\b/i
const CONTENT_PHRASES = /moderat|flagged|content|safety|policy|blocked/i

function readFault(status: number, header: HeaderLookup, body: string, nowMs: number): Fault {
  const told = readError(body)
  const text = `${told.code ?? ''} ${told.type ?? ''} ${told.message}`
  const retryAfterMs =
    readRetryAfterMs(header, nowMs) ?? (status === 429 ? (told.waitMs ?? resetMs(header, nowMs)) : undefined)
  const key = KEY_STATUSES.has(status)
    ? !(status === 403 && MODEL_PHRASES.test(text))
    : (status === 400 && KEY_PHRASES.test(told.message)) ||
      (status === 429 && (BILLING_CODES.test(told.code ?? '') || BILLING_CODES.test(told.type ?? '')))
  const isAccount = body === '' || (ACCOUNT_PHRASES.test(text) && !CONTENT_PHRASES.test(text))
  const park = key && (status !== 403 || isAccount)
  let verdict: Fault['verdict'] = 'retry'
  if (CALLER_STATUSES.has(status) && !key) {
    if (status === 413 && (retryAfterMs !== undefined || RATE_PHRASES.test(text))) verdict = 'retry'
    else verdict = CONTEXT_PHRASES.test(text) ? 'context' : 'refuse'
  }
  const { message, type, param, code } = told
  return { message, type, param, code, verdict, key, park, retryAfterMs }
}

/** A rate limit that does not name the wait says when the quota that is empty is there again. */
function resetMs(header: HeaderLookup, nowMs: number): number | undefined {
  const left = readQuotaLeft(header, QUOTAS, nowMs)
  return left?.share === 0 ? left.resetMs : undefined
}

/** Without a status of its own the error counts as the provider's, unless its words are those of a prompt too long. */
function readInBand(text: string): { status: number; fault: Fault } {
  const told = readError(text)
  const code = Number(told.code)
  const isContext = CONTEXT_PHRASES.test(`${told.code ?? ''} ${told.type ?? ''} ${told.message}`)
  const status = Number.isInteger(code) && code >= 400 && code < 600 ? code : isContext ? 400 : 500
  return { status, fault: readFault(status, () => undefined, text, 0) }
}

type Told = Pick<Fault, 'message' | 'type' | 'param' | 'code'> & {
  /** Google's RetryInfo, in ms. */
  readonly waitMs: number | undefined
}

const NOTHING_TOLD: Told = { message: '', type: null, param: null, code: null, waitMs: undefined }

/** The words of an error body, whatever its shape: OpenAI's, a list of it, vLLM's flat one, `detail`, or no JSON. */
function readError(body: string): Told {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    return NOTHING_TOLD
  }
  // Google's compatible endpoint wraps the error in a list of one.
  const outer = Array.isArray(parsed) ? parsed[0] : parsed
  if (!isObject(outer)) return NOTHING_TOLD
  const inner = outer.error ?? firstChoiceError(outer)
  const error = isObject(inner) ? inner : outer
  const message = typeof inner === 'string' ? inner : (error.message ?? error.detail)
  return {
    message: typeof message === 'string' ? message : detailText(message),
    type: short(error.type),
    param: short(error.param),
    code: short(error.code),
    waitMs: retryDelayMs(error.details),
  }
}

/** `google.rpc.RetryInfo`: `{ retryDelay: "17.5s" }` among the details. */
function retryDelayMs(details: unknown): number | undefined {
  if (!Array.isArray(details)) return undefined
  const info = details.find((one) => isObject(one) && typeof one.retryDelay === 'string')
  return isObject(info) ? readResetMs(String(info.retryDelay), 0) : undefined
}

/** OpenRouter tells some errors in a choice. */
function firstChoiceError(outer: Record<string, unknown>): unknown {
  const [choice] = Array.isArray(outer.choices) ? outer.choices : []
  return isObject(choice) ? choice.error : undefined
}

/** FastAPI's `detail`, a list of `{ msg }`. Any other structure is a stranger's and is not written out. */
function detailText(detail: unknown): string {
  if (!Array.isArray(detail)) return ''
  const messages = detail.slice(0, 20).map((item) => (isObject(item) ? item.msg : undefined))
  return messages.filter((message) => typeof message === 'string').join('; ')
}

function short(value: unknown): string | null {
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : null
}

/** OpenRouter tells the failure of the provider behind it in a choice, or as its finish reason. */
function choiceError(choice: Record<string, unknown>): string | undefined {
  return errorText(choice) ?? (choice.finish_reason === 'error' ? 'finish_reason "error"' : undefined)
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
