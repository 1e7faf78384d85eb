// What Bedrock's Converse says, whole or streamed. Pure. The frames of a stream are messages of AWS's event stream
// encoding; each becomes one JSON text, `{"contentBlockDelta":{…}}`, and an exception `{"error":{"type","message"}}`.

import { createMessageSplitter, type StreamMessage } from '../bytes/eventstream.ts'
import { isObject, parseExactObject, parseObject } from '../bytes/json-value.ts'
import type { EventFacts, Frame, Operation, Usage } from '../types.ts'
import { wholeVectors } from './bedrock-embeddings.ts'
import type { ChatEvent, ChatReply, Finish, Part } from './canonical.ts'
import { type CustomInput, createCustomInput } from './custom-input.ts'
import {
  CONTENT,
  count,
  DONE,
  jsonTokens,
  MALFORMED,
  MOST_CALLS,
  NOTHING,
  noAnswer,
  textTokens,
  toWatch,
  USAGE_ONLY,
} from './facts.ts'
import type { EventReader, Splitter, StreamWatch, WholeFacts, WrittenRequest } from './format.ts'
import { toToolName, unwrapCustom } from './tool-names.ts'

type Json = Readonly<Record<string, unknown>>

/**
 * Whose seals these are. A signature beside the text of a thought is Claude's, and its maker says that signatures are
 * good on every platform: so that a conversation may move between Bedrock and Anthropic with what was thought in it. What
 * is redacted has been through an encoding of Bedrock's own, for other makers' models too, and is only good here.
 */
export const SIGNED = 'anthropic'
export const REDACTED = 'bedrock'

/**
 * A tool that nobody runs: the answer is what it is called with. In `WrittenRequest.names` it has no name of a caller's.
 */
export const ANSWER_TOOL = 'answer_in_json'

export function hasAnswerTool({ names }: WrittenRequest): boolean {
  return names.get(ANSWER_TOOL)?.name === ''
}

const FINISHES: ReadonlyMap<string, Finish> = new Map([
  ['end_turn', 'stop'],
  ['stop_sequence', 'stop'],
  ['max_tokens', 'length'],
  ['model_context_window_exceeded', 'length'],
  ['tool_use', 'tool_calls'],
  ['content_filtered', 'content_filter'],
  ['guardrail_intervened', 'content_filter'],
  ['refusal', 'content_filter'],
])

/** `malformed_model_output`, `malformed_tool_use`: nothing that the model meant to say. */
const FAILURE = /^malformed_/

// --- frames ----------------------------------------------------------------------------------------------------

export function splitBedrock(): Splitter {
  const splitter = createMessageSplitter()
  return {
    push: (chunk) => splitter.push(chunk).map(toFrame),
    rest() {
      const bytes = splitter.rest()
      return bytes === undefined ? undefined : { bytes, data: undefined, event: undefined }
    },
  }
}

function toFrame({ bytes, headers, body }: StreamMessage): Frame {
  if (headers === undefined) return { bytes, data: UNREADABLE, event: undefined }
  const kind = headers.get(':message-type') ?? 'event'
  if (kind === 'event') {
    const event = headers.get(':event-type') ?? ''
    return {
      bytes,
      data: `{${JSON.stringify(event)}:${body.length === 0 ? '{}' : body.toString('utf8')}}`,
      event,
    }
  }
  const type = headers.get(':exception-type') ?? headers.get(':error-code') ?? kind
  const told = parseObject(body.toString('utf8'))
  const message = textOf(told?.message) ?? textOf(told?.Message) ?? headers.get(':error-message') ?? ''
  const why = textOf(told?.originalMessage)
  const words = why === undefined || why === message ? message : `${message} (${why})`
  return { bytes, data: JSON.stringify({ error: { type, message: words } }), event: kind }
}

/** Stands for a message whose checksum is wrong: no JSON. */
const UNREADABLE = 'a message that cannot be read'

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

// --- what it means for an attempt ------------------------------------------------------------------------------

export function watchBedrock(): StreamWatch {
  let finished = false
  let usage: Usage | undefined
  let countedTokens = 0

  function lookAtDelta({ delta }: Json): EventFacts {
    const tokens = deltaTokens(isObject(delta) ? delta : {})
    countedTokens += tokens
    return tokens > 0 ? CONTENT : NOTHING
  }

  return toWatch({
    look(data) {
      const event = parseObject(data)
      if (event === undefined) return MALFORMED
      if (isObject(event.error)) return { ...NOTHING, error: errorText(event.error) }
      if (isObject(event.contentBlockDelta)) return lookAtDelta(event.contentBlockDelta)
      if (isObject(event.contentBlockStart)) {
        if (!isObject(toolUseOf(event.contentBlockStart))) return NOTHING
        countedTokens += 1
        return CONTENT
      }
      if (isObject(event.messageStop)) {
        const failure = failureOf(event.messageStop.stopReason)
        if (failure !== undefined) return { ...NOTHING, error: failure }
        finished = true
        return CONTENT // an answer may be empty, but then it says so
      }
      if (isObject(event.metadata)) {
        usage = readUsage(event.metadata.usage) ?? usage
        // The last event, as a rule; some have put it in front of the end.
        return finished ? DONE : USAGE_ONLY
      }
      return NOTHING
    },
    finished: () => finished,
    finishedChoices: () => (finished ? 1 : 0),
    usage: () => usage,
    countedTokens: () => countedTokens,
  })
}

export function wholeBedrock(operation: Operation, body: Buffer): WholeFacts {
  if (body.length === 0) return noAnswer('empty')
  const reply = parseObject(body.toString('utf8'))
  if (reply === undefined) return noAnswer('malformed')
  if (operation === 'embeddings') return wholeVectors(reply)
  const message = isObject(reply.output) ? reply.output.message : undefined
  // A refusal inside a 200 has only a message, as one with a status has.
  if (message === undefined && typeof reply.message === 'string') return noAnswer('in_band', reply.message)
  if (!isObject(message) || !Array.isArray(message.content)) return noAnswer('malformed')
  const failure = failureOf(reply.stopReason)
  if (failure !== undefined) return noAnswer('in_band', failure)
  if (typeof reply.stopReason !== 'string') return noAnswer('incomplete')
  let countedTokens = 0
  for (const block of message.content) if (isObject(block)) countedTokens += blockTokens(block)
  return { usage: readUsage(reply.usage), countedTokens, failure: undefined, error: undefined }
}

function errorText({ type, message }: Json): string {
  return [type, message].filter((text) => typeof text === 'string' && text !== '').join(': ')
}

function failureOf(stopReason: unknown): string | undefined {
  return typeof stopReason === 'string' && FAILURE.test(stopReason) ? `stop reason ${stopReason}` : undefined
}

function deltaTokens({ text, toolUse, reasoningContent }: Json): number {
  const input = isObject(toolUse) ? textTokens(toolUse.input) : 0
  const thought = isObject(reasoningContent)
    ? textTokens(reasoningContent.text) + (reasoningContent.redactedContent === undefined ? 0 : 1)
    : 0
  return textTokens(text) + input + thought
}

function blockTokens({ text, toolUse, reasoningContent }: Json): number {
  const thought =
    isObject(reasoningContent) && isObject(reasoningContent.reasoningText)
      ? reasoningContent.reasoningText.text
      : undefined
  const call = isObject(toolUse) ? jsonTokens(toolUse.input ?? {}) : 0
  return textTokens(text) + textTokens(thought) + call
}

/** What a cache held, or was given, is not part of `inputTokens` there. */
function readUsage(told: unknown): Usage | undefined {
  if (!isObject(told)) return undefined
  const input = count(told.inputTokens)
  const output = count(told.outputTokens)
  if (input === undefined && output === undefined) return undefined
  const cachedTokens = count(told.cacheReadInputTokens) ?? 0
  const cacheWriteTokens = count(told.cacheWriteInputTokens) ?? 0
  return {
    inputTokens: (input ?? 0) + cachedTokens + cacheWriteTokens,
    cachedTokens,
    cacheWriteTokens,
    audioInputTokens: 0,
    outputTokens: output ?? 0,
    reasoningTokens: 0,
    audioOutputTokens: 0,
    source: 'provider',
  }
}

// --- a whole reply ---------------------------------------------------------------------------------------------

export function readBedrock(body: Buffer, written: WrittenRequest): ChatReply {
  const reply = parseExactObject(body.toString('utf8')) ?? {}
  const message = isObject(reply.output) && isObject(reply.output.message) ? reply.output.message : {}
  const blocks = Array.isArray(message.content) ? message.content.filter(isObject) : []
  const content: Part[] = []
  let calls = 0
  for (const block of blocks) {
    const part = toPart(block, written)
    if (part?.type === 'call' && (calls += 1) > 1 && written.oneCall === true) continue
    if (part !== undefined) content.push(part)
  }
  const finish = toFinish(reply.stopReason, calls)
  return {
    id: '',
    createdSeconds: undefined,
    model: '',
    choices: [{ content, finish, stopSequence: stopSequenceOf(reply), logprobs: undefined }],
    usage: readUsage(reply.usage),
    serviceTier: undefined,
  }
}

function toPart({ text, toolUse, reasoningContent }: Json, written: WrittenRequest): Part | undefined {
  if (typeof text === 'string') return text === '' ? undefined : { type: 'text', text }
  if (isObject(toolUse)) {
    const json = JSON.stringify(toolUse.input ?? {})
    const wire = nameOf(toolUse)
    if (wire === ANSWER_TOOL && hasAnswerTool(written)) return { type: 'text', text: json }
    const { name, namespace, kind } = toToolName(written.names, wire)
    const id = textOf(toolUse.toolUseId) ?? ''
    return {
      type: 'call',
      kind,
      id,
      name,
      namespace,
      arguments: kind === 'custom' ? unwrapCustom(json) : json,
      sealed: undefined,
    }
  }
  if (!isObject(reasoningContent)) return undefined
  const { reasoningText, redactedContent } = reasoningContent
  if (typeof redactedContent === 'string')
    return {
      type: 'thinking',
      text: '',
      sealed: { origin: REDACTED, value: redactedContent },
      isRedacted: true,
    }
  if (!isObject(reasoningText)) return undefined
  const signature = textOf(reasoningText.signature)
  const sealed =
    signature === undefined || signature === '' ? undefined : { origin: SIGNED, value: signature }
  return { type: 'thinking', text: textOf(reasoningText.text) ?? '', sealed, isRedacted: false }
}

/** Without one nobody can be called, and an answer without the call would be another one. */
function nameOf(toolUse: Json): string {
  const name = textOf(toolUse.name) ?? ''
  if (name === '') throw new Error('a call without a name')
  return name
}

/** Some models say `end_turn` where they call, and a tool that stands for the answer is no call. */
function toFinish(stopReason: unknown, calls: number): Finish {
  const finish = FINISHES.get(textOf(stopReason) ?? '') ?? 'stop'
  if (finish === 'stop' && calls > 0) return 'tool_calls'
  return finish === 'tool_calls' && calls === 0 ? 'stop' : finish
}

function stopSequenceOf({ additionalModelResponseFields: fields }: Json): string | undefined {
  if (!isObject(fields)) return undefined
  return (
    textOf(fields.stop_sequence) ?? (isObject(fields.delta) ? textOf(fields.delta.stop_sequence) : undefined)
  )
}

// --- a stream --------------------------------------------------------------------------------------------------

/** A block that has begun. */
interface Block {
  /** Place among the calls; undefined for a block that is none. */
  readonly call: number | undefined
  /** Its arguments are the text of the answer. */
  readonly isAnswer: boolean
  /** A call more than was asked for. */
  readonly isIgnored: boolean
  readonly custom: CustomInput | undefined
  signature: string
}

export function eventsOfBedrock(written: WrittenRequest): EventReader {
  const blocks = new Map<number, Block>()
  let started = false
  let finished = false
  let calls = 0

  function blockAt(index: number): Block {
    if (blocks.size >= MOST_CALLS) throw new Error('more blocks than anybody begins')
    const block = blocks.get(index) ?? {
      call: undefined,
      isAnswer: false,
      isIgnored: false,
      custom: undefined,
      signature: '',
    }
    blocks.set(index, block)
    return block
  }

  function begin(event: Json): ChatEvent[] {
    const toolUse = toolUseOf(event)
    if (!isObject(toolUse)) return []
    const wire = nameOf(toolUse)
    const isAnswer = wire === ANSWER_TOOL && hasAnswerTool(written)
    const isIgnored = !isAnswer && written.oneCall === true && calls > 0
    const { name, namespace, kind } = toToolName(written.names, wire)
    const call = isAnswer || isIgnored ? undefined : calls
    const custom = kind === 'custom' ? createCustomInput() : undefined
    // Where the end of the one before it was left out.
    const before = end(indexOf(event))
    blocks.set(indexOf(event), { call, isAnswer, isIgnored, custom, signature: '' })
    if (call === undefined) return before
    calls += 1
    const id = textOf(toolUse.toolUseId) ?? ''
    return [...before, { type: 'call', choice: 0, call, kind, id, name, namespace, sealed: undefined }]
  }

  function readDelta(event: Json): ChatEvent[] {
    const delta = isObject(event.delta) ? event.delta : {}
    const block = blockAt(indexOf(event))
    const events: ChatEvent[] = []
    const text = textOf(delta.text)
    if (text !== undefined && text !== '') events.push({ type: 'text', choice: 0, text })
    const input = isObject(delta.toolUse) ? (delta.toolUse.input ?? '') : ''
    // A piece of another kind would be missing in what is called.
    if (typeof input !== 'string') throw new Error('a piece of an input that is no text')
    if (input !== '' && !block.isIgnored) events.push(...readInput(block, input))
    if (isObject(delta.reasoningContent)) events.push(...readThought(block, delta.reasoningContent))
    return events
  }

  function readInput({ call, isAnswer, custom }: Block, input: string): ChatEvent[] {
    if (isAnswer) return [{ type: 'text', choice: 0, text: input }]
    // The call that it belongs to would be made without it.
    if (call === undefined) throw new Error('input of no call that is open')
    const text = custom === undefined ? input : custom.push(input)
    return text === '' ? [] : [{ type: 'arguments', choice: 0, call, text }]
  }

  function readThought(block: Block, { text, signature, redactedContent }: Json): ChatEvent[] {
    // It ends the thought, whole or in pieces.
    if (typeof signature === 'string') block.signature += signature
    if (typeof redactedContent === 'string')
      return [
        { type: 'seal', choice: 0, sealed: { origin: REDACTED, value: redactedContent }, isRedacted: true },
      ]
    return typeof text === 'string' && text !== '' ? [{ type: 'thinking', choice: 0, text }] : []
  }

  function end(index: number): ChatEvent[] {
    const block = blocks.get(index)
    if (block === undefined) return []
    blocks.delete(index)
    const { call, custom, signature } = block
    const rest = custom?.end() ?? ''
    if (call !== undefined && rest !== '') return [{ type: 'arguments', choice: 0, call, text: rest }]
    if (signature === '') return []
    return [{ type: 'seal', choice: 0, sealed: { origin: SIGNED, value: signature }, isRedacted: false }]
  }

  function read(event: Json): ChatEvent[] {
    if (isObject(event.contentBlockStart)) return begin(event.contentBlockStart)
    if (isObject(event.contentBlockDelta)) return readDelta(event.contentBlockDelta)
    if (isObject(event.contentBlockStop)) return end(indexOf(event.contentBlockStop))
    if (isObject(event.messageStop)) {
      const open = [...blocks.keys()].flatMap(end)
      if (finished) return open
      finished = true
      const finish = toFinish(event.messageStop.stopReason, calls)
      return [...open, { type: 'finish', choice: 0, finish, stopSequence: stopSequenceOf(event.messageStop) }]
    }
    const usage = isObject(event.metadata) ? readUsage(event.metadata.usage) : undefined
    return usage === undefined ? [] : [{ type: 'usage', usage }]
  }

  return {
    read({ data }) {
      if (data === undefined) return []
      const event = parseObject(data)
      // Nothing may be left out of an answer unseen.
      if (event === undefined) throw new Error('an event of a stream that cannot be read')
      const events = read(event)
      if (started) return events
      started = true
      return [{ type: 'start', id: '', model: '', createdSeconds: undefined, usage: undefined }, ...events]
    },
  }
}

function toolUseOf({ start }: Json): unknown {
  return isObject(start) ? start.toolUse : undefined
}

function indexOf({ contentBlockIndex: index }: Json): number {
  return typeof index === 'number' ? index : 0
}
