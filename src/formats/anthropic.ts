// Anthropic's Messages on both sides: as the API of a provider, and as what Claude Code and Anthropic's SDKs speak. Here
// is what looks at bytes that pass untouched, and the words of errors; translation is in the files beside it. Pure.
// Source: Anthropic's API reference (2023-06-01), its SDK's types, and the servers that speak the same format.

import { elements } from '../bytes/json-list.ts'
import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Edit } from '../bytes/splice.ts'
import type { Deployment, EventFacts, ModelRequest, Operation, Usage } from '../types.ts'
import { memberOf, readRequest } from './anthropic-inbound.ts'
import { createWriter, writeReply } from './anthropic-outbound.ts'
import { cutOwnThoughts } from './anthropic-own-thoughts.ts'
import { createReader, readReply } from './anthropic-read.ts'
import { ANTHROPIC, readUsage } from './anthropic-words.ts'
import { writeRequest } from './anthropic-write.ts'
import { createEdits, type Edits } from './edits.ts'
import { CONTENT, DONE, jsonTokens, MALFORMED, NOTHING, noAnswer, textTokens, toWatch } from './facts.ts'
import type {
  Asked,
  ChatClientSide,
  Fault,
  Format,
  HeaderLookup,
  ProviderSide,
  QuotaLeft,
  Resuming,
  Speech,
  StreamWatch,
  ToldError,
  WholeFacts,
} from './format.ts'
import { errorText, faults } from './openai-faults.ts'
import { type QuotaNames, readQuotaLeft } from './retry-after.ts'

export const anthropic: Format & {
  readonly client: ChatClientSide
  readonly provider: ProviderSide & { readonly resume: Resuming }
} = {
  name: ANTHROPIC,
  client: {
    fields: {
      outputCaps: ['max_tokens'],
      mayBeSilent: true,
      conversation: 'messages',
      images: 'source',
      // `user_id` in it names the session (Claude Code) or the user.
      session: 'metadata',
      beyondText: [['output_config', /^(?![\s\S]*"format"\s*:\s*\{)/]],
      stateful: ['thread'],
      refused: [
        [
          'container',
          /^(?:null|\{(?![\s\S]*"id"\s*:\s*")[\s\S]*\})$/,
          'A container by its id is state in an account that many agents share.',
        ],
      ],
    },
    chat: { read: readRequest, memberOf, write: writeReply, events: createWriter },
    forwards: ['anthropic-version', 'anthropic-beta'],
    requestIdHeader: 'request-id',
    status: toStatus,
    error: toError,
    errorEvent: (error) => `event: error\ndata: ${JSON.stringify(toError(error))}\n\n`,
  },
  provider: {
    path: () => '/messages',
    credential: (key) => ['x-api-key', key],
    // Newer versions refuse `temperature` whatever the model; what a caller of this format sends goes before it.
    headers: ['anthropic-version', '2023-06-01'],
    edits: toEdits,
    chat: { write: writeRequest, read: readReply, events: createReader },
    watch: createWatch,
    resume: { speech: readSpeech, resay, strays, prefill },
    whole: readWhole,
    quota: readQuota,
    fault: readFault,
    inBand: readInBand,
  },
}

// --- requests --------------------------------------------------------------------------------------------------

function toEdits(request: ModelRequest, { model, maxOutputTokens }: Asked): Edit[] {
  const { body, spans } = request
  const edits = createEdits(request)
  if (model !== request.model) edits.set('model', JSON.stringify(model))
  if (maxOutputTokens !== undefined) {
    edits.capOutput(['max_tokens'], maxOutputTokens)
    capThinking(request, maxOutputTokens, edits)
  }
  const messages = spans.get('messages')
  if (body === undefined || messages === undefined) return edits.list
  return [...edits.list, ...cutOwnThoughts(body, messages)]
}

const LEAST_BUDGET = 1024

/** A budget of thinking must be below the cap, or the request that we cut is refused. */
function capThinking({ body, spans }: ModelRequest, maxOutputTokens: number, edits: Edits): void {
  const span = spans.get('thinking')
  const thinking = span && body ? parseObject(body.toString('utf8', span.start, span.end)) : undefined
  if (thinking === undefined || typeof thinking.budget_tokens !== 'number') return
  if (thinking.budget_tokens < maxOutputTokens) return
  const budget = maxOutputTokens - 1
  edits.set(
    'thinking',
    JSON.stringify(budget < LEAST_BUDGET ? { type: 'disabled' } : { ...thinking, budget_tokens: budget }),
  )
}

// --- streams ---------------------------------------------------------------------------------------------------

function createWatch(): StreamWatch {
  let finished = false
  let usage: Usage | undefined
  let countedTokens = 0
  let isFinal = false

  function look(data: string): EventFacts {
    // Some servers end every stream as chat does.
    if (data === '[DONE]') return DONE
    const event = parseObject(data)
    if (event === undefined) return MALFORMED
    switch (event.type) {
      case 'content_block_delta':
        countedTokens += deltaTokens(event.delta)
        return CONTENT
      case 'content_block_start':
        // Its first words may stand in it; a call or a redacted thought is something without any.
        countedTokens += blockTokens(event.content_block)
        return CONTENT
      case 'message_start':
        usage = readUsage(isObject(event.message) ? event.message.usage : undefined, usage)
        return NOTHING
      case 'message_delta': {
        usage = readUsage(event.usage, usage)
        const { delta } = event
        if (!isObject(delta) || typeof delta.stop_reason !== 'string') return NOTHING
        finished = true
        isFinal = isObject(event.usage)
        return CONTENT // an answer may be empty, but then it says so
      }
      case 'message_stop':
        return DONE
      case 'error':
        return { ...NOTHING, error: errorText(event) ?? 'an error without a message' }
      default: {
        // `ping`, and what is not known yet. Some servers tell an error in a shape of their own.
        const error = errorText(event)
        return error === undefined ? NOTHING : { ...NOTHING, error }
      }
    }
  }

  return toWatch({
    look,
    finished: () => finished,
    finishedChoices: () => (finished ? 1 : 0),
    usage() {
      // What the stream begins with counts the prompt, and next to nothing of the answer.
      if (usage === undefined || isFinal) return usage
      return { ...usage, outputTokens: Math.max(usage.outputTokens, countedTokens) }
    },
    countedTokens: () => countedTokens,
  })
}

/** Members of a delta that carry output; a signature says nothing. */
function deltaTokens(delta: unknown): number {
  if (!isObject(delta)) return 0
  return textTokens(delta.text) + textTokens(delta.thinking) + textTokens(delta.partial_json)
}

function blockTokens(block: unknown): number {
  if (!isObject(block)) return 0
  if (block.type === 'text' || block.type === 'thinking')
    return textTokens(block.text) + textTokens(block.thinking)
  return 1
}

const SILENCE: Speech = { text: '', more: false, ends: false }
const MORE: Speech = { ...SILENCE, more: true }

/**
 * Text in the first block: whoever goes on with it writes into that block. A thought before the text has a block of its
 * own, so that nobody can.
 */
function readSpeech(data: string): Speech {
  const event = parseObject(data)
  if (event === undefined) return SILENCE
  if (event.type === 'message_delta') {
    const ends = isObject(event.delta) && typeof event.delta.stop_reason === 'string'
    return { ...SILENCE, ends }
  }
  const part = event.type === 'content_block_start' ? event.content_block : event.delta
  if (!isContent(event.type) || !isObject(part)) return SILENCE
  if (event.index !== 0 || (part.type !== 'text' && part.type !== 'text_delta')) return MORE
  return { ...SILENCE, text: typeof part.text === 'string' ? part.text : '' }
}

function isContent(type: unknown): boolean {
  return type === 'content_block_start' || type === 'content_block_delta'
}

function resay(data: string, text: string): string {
  const event = parseObject(data)
  if (event === undefined || !isObject(event.delta)) return data
  return JSON.stringify({ ...event, delta: { ...event.delta, text } })
}

/** What ends or begins a block is held back while two streams are joined, so that only text can come first. */
function strays(data: string): boolean {
  const { more, ends } = readSpeech(data)
  return more || ends
}

/** The answer as far as it came, as the last message. White space at its end is refused, so that it cannot be told. */
function prefill(
  { body, spans }: ModelRequest,
  said: string,
  how: Deployment['prefill'],
): Edit[] | undefined {
  const messages = spans.get('messages')
  if (how === false || body === undefined || messages === undefined) return undefined
  if (said === '' || said.trimEnd() !== said) return undefined
  const thinking = spans.get('thinking')
  if (thinking !== undefined && !isOff(body.toString('utf8', thinking.start, thinking.end))) return undefined
  const last = elements(body, messages).at(-1)
  const before = last === undefined ? undefined : parseObject(body.toString('utf8', last.start, last.end))
  // Behind the caller's own beginning of an answer the two would be joined in a way that nobody has promised.
  if (before === undefined || before.role === 'assistant') return undefined
  const at = messages.end - 1
  return [{ start: at, end: at, text: `,${JSON.stringify({ role: 'assistant', content: said })}` }]
}

function isOff(thinking: string): boolean {
  return thinking === 'null' || parseObject(thinking)?.type === 'disabled'
}

// --- whole replies ---------------------------------------------------------------------------------------------

function readWhole(_operation: Operation, body: Buffer): WholeFacts {
  if (body.length === 0) return noAnswer('empty')
  const message = parseObject(body.toString('utf8'))
  if (message === undefined) return noAnswer('malformed')
  const error = errorText(message) ?? (message.type === 'error' ? 'an error without a message' : undefined)
  if (error !== undefined) return noAnswer('in_band', error)
  if (!Array.isArray(message.content)) return noAnswer('malformed')
  let countedTokens = 0
  for (const block of message.content) {
    if (!isObject(block)) return noAnswer('malformed')
    countedTokens += blockTokens(block)
    if (block.input !== undefined) countedTokens += jsonTokens(block.input)
  }
  return { usage: readUsage(message.usage, undefined), countedTokens, failure: undefined, error: undefined }
}

// --- quota and faults ------------------------------------------------------------------------------------------

const QUOTAS: readonly QuotaNames[] = ['requests', 'tokens', 'input-tokens', 'output-tokens'].map((kind) => ({
  limit: `anthropic-ratelimit-${kind}-limit`,
  remaining: `anthropic-ratelimit-${kind}-remaining`,
  reset: `anthropic-ratelimit-${kind}-reset`,
}))

function readQuota(header: HeaderLookup, nowMs: number): QuotaLeft | undefined {
  return readQuotaLeft(header, QUOTAS, nowMs)
}

/** Each type of error by the status it has where it is one; inside a 200 it stands for that. */
const STATUSES: ReadonlyMap<unknown, number> = new Map([
  ['invalid_request_error', 400],
  ['authentication_error', 401],
  ['billing_error', 402],
  ['permission_error', 403],
  ['not_found_error', 404],
  ['conflict_error', 409],
  ['request_too_large', 413],
  ['rate_limit_error', 429],
  ['api_error', 500],
  ['timeout_error', 504],
  ['overloaded_error', 529],
])

/** An account that may spend no more, or is closed, whatever the status says. */
const SPENT_CODES = /_(?:spend|usage)_limit_reached$/
const SPENT_PHRASES =
  /^(?:You have reached your specified (?:API|workspace) usage limits|This organization has been disabled)/i

function readFault(status: number, header: HeaderLookup, body: string, nowMs: number): Fault {
  const fault = faults.fault(status, header, body, nowMs)
  const error = parseObject(body)?.error
  const code = isObject(error) && isObject(error.details) ? error.details.error_code : undefined
  if (
    (typeof code === 'string' && SPENT_CODES.test(code)) ||
    (status === 400 && SPENT_PHRASES.test(fault.message))
  )
    return { ...fault, verdict: 'retry', key: true, park: true }
  if (status === 413 && fault.verdict === 'refuse') return { ...fault, verdict: 'context' }
  if (fault.verdict === 'context') return { ...fault, message: toWindowWords(fault.message) }
  if (status !== 429 || fault.retryAfterMs !== undefined) return fault
  const left = readQuota(header, nowMs)
  return left?.share === 0 ? { ...fault, retryAfterMs: left.resetMs } : fault
}

const TOO_LONG = /prompt is too long: (\d+) tokens > (\d+) maximum/i
const TOO_LONG_WITH_CAP = /input length and `?max_tokens`? exceed context limit: (\d+) \+ (\d+) > (\d+)/i
const WINDOW = /maximum context length is (\d+) tokens.*?(\d+) tokens/is

/** In the words that callers of chat look for (wire §4.3), with the provider's own behind them. */
function toWindowWords(message: string): string {
  const tooLong = TOO_LONG.exec(message)
  if (tooLong !== null) {
    const [, sent, most] = tooLong
    return `This model's maximum context length is ${most} tokens. However, your messages resulted in ${sent} tokens (${message}).`
  }
  const withCap = TOO_LONG_WITH_CAP.exec(message)
  if (withCap === null) return message
  const [, sent, cap, most] = withCap
  return `This model's maximum context length is ${most} tokens. However, you requested ${Number(sent) + Number(cap)} tokens (${message}).`
}

/** In the words that callers of Messages look for; Claude Code counts with the numbers in them. */
function toPromptWords(message: string): string {
  const own = TOO_LONG_WITH_CAP.exec(message)?.[0] ?? TOO_LONG.exec(message)?.[0]
  if (own !== undefined) return own
  const window = WINDOW.exec(message)
  return window === null ? message : `prompt is too long: ${window[2]} tokens > ${window[1]} maximum`
}

function readInBand(text: string): { readonly status: number; readonly fault: Fault } {
  const error = parseObject(text)?.error
  const status = isObject(error) ? STATUSES.get(error.type) : undefined
  if (status === undefined) return faults.inBand(text)
  return { status, fault: readFault(status, () => undefined, text, 0) }
}

// --- errors for callers ----------------------------------------------------------------------------------------

/** Types by status, where the error brings none that callers of this format know. */
const TYPES: ReadonlyMap<number, string> = new Map([
  ...[...STATUSES].map(([type, status]) => [status, String(type)] as const),
  [408, 'invalid_request_error'],
])

/** Money that is spent is 402 here: Claude Code ends its turn, where a 429 would make it wait. */
function toStatus({ status, code }: ToldError): number {
  return code === 'insufficient_quota' && status === 429 ? 402 : status
}

function toError(told: ToldError): unknown {
  const message = told.code === 'context_length_exceeded' ? toPromptWords(told.message) : told.message
  return { type: 'error', error: { type: toType(told), message }, request_id: told.requestId }
}

function toType(told: ToldError): string {
  // Of what breaks off in a stream clients come again for this type alone; `api_error` ends the task of OpenCode.
  if (told.code === 'overloaded' || told.code === 'upstream_incomplete') return 'overloaded_error'
  const byStatus = TYPES.get(toStatus(told))
  if (byStatus !== undefined) return byStatus
  if (STATUSES.has(told.type)) return told.type
  return told.status < 500 ? 'invalid_request_error' : 'api_error'
}
