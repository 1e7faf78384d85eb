// OpenAI's Responses API, for callers and for providers that speak it. The conversation is in the request: nothing is
// kept for a later one. Untouched streams are only watched; what is translated has files of its own (responses-*.ts).
// Source: OpenAI API reference; openai-node src/resources/responses.

import { createMarkFinder, cutElements, elements } from '../bytes/json-list.ts'
import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Edit } from '../bytes/splice.ts'
import type { EventFacts, ModelRequest, Operation, Span, Usage } from '../types.ts'
import { createEdits } from './edits.ts'
import { CONTENT, DONE, MALFORMED, NOTHING, noAnswer, textTokens, toWatch } from './facts.ts'
import type { Asked, ChatClientSide, Fault, Format, ProviderSide, StreamWatch, WholeFacts } from './format.ts'
import { openai, toError } from './openai.ts'
import { faults } from './openai-faults.ts'
import { createResponsesEvents, toErrorFrame } from './responses-events.ts'
import {
  argumentsOf,
  readResponse,
  readUsage,
  thoughtText,
  writeResponsesRequest,
} from './responses-provider.ts'
import { createResponsesReader } from './responses-reader.ts'
import { writeResponse } from './responses-reply.ts'
import { memberOf, REFUSED, readResponsesRequest } from './responses-request.ts'
import { MARK } from './responses-seals.ts'

/** A `text` that asks for no JSON. */
const PLAIN_TEXT = /^(?:null|\{[^{}]*\}|\{[^{}]*"format"\s*:\s*\{\s*"type"\s*:\s*"text"\s*\}[^{}]*\})$/

export const responses: Format & { readonly client: ChatClientSide; readonly provider: ProviderSide } = {
  name: 'responses',
  client: {
    fields: {
      outputCaps: ['max_output_tokens'],
      conversation: 'input',
      beyondText: [
        ['text', PLAIN_TEXT],
        ['include', /^(?:null|\[(?:(?!logprobs)[^\]])*\])$/],
      ],
      refused: REFUSED,
    },
    forwards: ['openai-beta'],
    chat: { read: readResponsesRequest, memberOf, write: writeResponse, events: createResponsesEvents },
    error: toError,
    remember: readNumber,
    errorEvent: toErrorFrame,
  },
  provider: {
    path: (operation) => (operation === 'embeddings' ? '/embeddings' : '/responses'),
    credential: openai.provider.credential,
    edits: toEdits,
    chat: { write: writeResponsesRequest, read: readResponse, events: createResponsesReader },
    watch: createWatch,
    whole: readWhole,
    quota: faults.quota,
    fault: faults.fault,
    inBand: readInBand,
  },
}

const NUMBER = '"sequence_number":'

/** The number of the last of these events, as an event that has nothing else. Inside a text the name would be escaped. */
function readNumber(frames: Buffer): string | undefined {
  const at = frames.lastIndexOf(NUMBER)
  if (at < 0) return undefined
  const number = Number.parseInt(frames.toString('latin1', at + NUMBER.length, at + NUMBER.length + 17), 10)
  return Number.isNaN(number) ? undefined : JSON.stringify({ sequence_number: number })
}

// --- requests ------------------------------------------------------------------------------------------------------

function toEdits(request: ModelRequest, { model, maxOutputTokens }: Asked): Edit[] {
  const edits = createEdits(request)
  if (model !== request.model) edits.set('model', JSON.stringify(model))
  if (maxOutputTokens !== undefined) edits.capOutput(['max_output_tokens'], maxOutputTokens)
  return [...edits.list, ...cutForeignThoughts(request)]
}

const OWN_MARK = Buffer.from(`"${MARK}`)
const OPEN_LIST = 0x5b

/**
 * Takes the thoughts that other providers sealed out of the input, as those here refuse what they cannot open. All other
 * bytes stay the caller's.
 */
function cutForeignThoughts({ body, spans }: ModelRequest): Edit[] {
  const input = spans.get('input')
  if (body === undefined || input === undefined || body[input.start] !== OPEN_LIST) return []
  const isMarked = createMarkFinder(body, OWN_MARK)
  if (!isMarked(input)) return []
  const items = elements(body, input)
  return cutElements(
    items,
    items.flatMap((item, i) => (isMarked(item) && isForeignThought(body, item) ? [i] : [])),
  )
}

function isForeignThought(body: Buffer, { start, end }: Span): boolean {
  const item = parseObject(body.toString('utf8', start, end))
  return (
    item?.type === 'reasoning' &&
    typeof item.encrypted_content === 'string' &&
    item.encrypted_content.startsWith(MARK)
  )
}

// --- streams -------------------------------------------------------------------------------------------------------

/** The last event is the end marker as well, and says so also where an answer is empty. */
const END: EventFacts = { ...DONE, content: true }

/** Of these it is known only that they begin: errors of quota still come behind them. */
const BEGINNINGS: ReadonlySet<unknown> = new Set(['message', 'reasoning'])

function createWatch(): StreamWatch {
  let finished = false
  let usage: Usage | undefined
  let countedTokens = 0

  function look(event: Readonly<Record<string, unknown>>): EventFacts {
    const { type, response, item } = event
    const error = toldError(event)
    if (error !== undefined) return { ...NOTHING, error }
    if (isObject(response)) usage = readUsage(response.usage) ?? usage
    switch (type) {
      case 'response.completed':
      case 'response.incomplete':
        finished = true
        return END
      case 'response.output_item.added':
        return isObject(item) && !BEGINNINGS.has(item.type) ? CONTENT : NOTHING
      case 'response.output_item.done':
        return CONTENT
    }
    if (typeof type !== 'string' || !type.endsWith('.delta')) return NOTHING
    const tokens = textTokens(event.delta)
    countedTokens += tokens
    return tokens > 0 ? CONTENT : NOTHING
  }

  return toWatch({
    look(data) {
      if (data === '[DONE]') return DONE
      const event = parseObject(data)
      return event === undefined ? MALFORMED : look(event)
    },
    finished: () => finished,
    finishedChoices: () => (finished ? 1 : 0),
    usage: () => usage,
    countedTokens: () => countedTokens,
  })
}

/** The error that an event tells: of the stream, of the response, or in the shape that chat has for it. */
function toldError(event: Readonly<Record<string, unknown>>): string | undefined {
  const { type, response } = event
  // Whatever the event is called, a response that failed is no answer.
  const status = isObject(response) ? response.status : undefined
  const hasFailed = status === 'failed' || status === 'cancelled'
  const isFailure = type === 'response.failed' || type === 'response.cancelled' || hasFailed
  if (type !== 'error' && !isFailure && (event.error ?? null) === null) return undefined
  const inner = isFailure && isObject(response) ? response.error : (event.error ?? event)
  const { message, code } = isObject(inner) ? inner : { message: inner, code: undefined }
  for (const words of [message, code]) if (typeof words === 'string' && words !== '') return words
  return 'an error without a message'
}

// --- whole replies -------------------------------------------------------------------------------------------------

function readWhole(operation: Operation, body: Buffer): WholeFacts {
  if (operation !== 'chat') return openai.provider.whole(operation, body)
  if (body.length === 0) return noAnswer('empty')
  const response = parseObject(body.toString('utf8'))
  if (response === undefined) return noAnswer('malformed')
  const { status, output } = response
  const isFailure = status === 'failed' || status === 'cancelled'
  if (isFailure || (response.error ?? null) !== null)
    return noAnswer('in_band', toldError({ type: 'response.failed', response }))
  // One that waits for its turn in the background is no answer either.
  const isOver = status === undefined || status === 'completed' || status === 'incomplete'
  if (!isOver || !Array.isArray(output)) return noAnswer('malformed')
  if (output.length === 0 && status !== 'incomplete') return noAnswer('empty')
  const countedTokens = output.reduce((tokens: number, item) => tokens + itemTokens(item), 0)
  return { usage: readUsage(response.usage), countedTokens, failure: undefined, error: undefined }
}

function itemTokens(item: unknown): number {
  if (!isObject(item)) return 0
  const parts = item.type === 'message' && Array.isArray(item.content) ? item.content : []
  const said = parts.reduce(
    (tokens: number, part) =>
      tokens + (isObject(part) ? textTokens(part.text) + textTokens(part.refusal) : 0),
    0,
  )
  const thought = item.type === 'reasoning' ? textTokens(thoughtText(item)) : 0
  return said + thought + textTokens(argumentsOf(item))
}

// --- faults --------------------------------------------------------------------------------------------------------

/** What the codes of a response that failed would be as a status; all others are the provider's failure. */
const CODE_STATUSES: ReadonlyMap<unknown, number> = new Map([
  ['rate_limit_exceeded', 429],
  ['slow_down', 429],
  ['insufficient_quota', 429],
  ['usage_limit_reached', 429],
  ['server_is_overloaded', 503],
  ['context_length_exceeded', 400],
  ['invalid_prompt', 400],
  ['bio_policy', 400],
  ['cyber_policy', 400],
  ['image_content_policy_violation', 400],
])

/** An event or a whole response that tells an error, as a body that would tell the same with its status. */
function readInBand(text: string): { status: number; fault: Fault } {
  const told = parseObject(text)
  if (told === undefined) return faults.inBand(text)
  const response = isObject(told.response) ? told.response : told
  const inner = response.error ?? told.error ?? told
  const code = isObject(inner) ? inner.code : undefined
  const body = JSON.stringify({ error: isObject(inner) ? toShort(inner) : inner })
  const status = CODE_STATUSES.get(code) ?? imageStatus(code)
  if (status === undefined) return faults.inBand(body)
  return { status, fault: faults.fault(status, () => undefined, body, 0) }
}

/** What is read of an error, and nothing else: a stranger's may hold more than can be written. */
function toShort({ type, code, message, param }: Readonly<Record<string, unknown>>): unknown {
  const text = (value: unknown) =>
    typeof value === 'string' || typeof value === 'number' ? value : undefined
  // `error` is the type of the event, and says nothing of the error.
  return {
    type: type === 'error' ? undefined : text(type),
    code: text(code),
    message: text(message),
    param: text(param),
  }
}

/** An image that cannot be read is its caller's (`invalid_image_format`, `image_too_large`, …). */
function imageStatus(code: unknown): number | undefined {
  return typeof code === 'string' && code.includes('image') ? 400 : undefined
}
