// What an Anthropic provider answers, whole and streamed, in canonical form. Pure; what it is given has been judged good.

import { elements } from '../bytes/json-list.ts'
import { scanNested, scanObject } from '../bytes/json-scan.ts'
import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Usage } from '../types.ts'
import { traitsOf } from './anthropic-models.ts'
import { readUsage, toFinish } from './anthropic-words.ts'
import { answerToolOf } from './anthropic-write.ts'
import type { ChatEvent, ChatReply, Finish, Part } from './canonical.ts'
import { type CustomInput, createCustomInput } from './custom-input.ts'
import { MOST_CALLS } from './facts.ts'
import type { EventReader, WrittenRequest } from './format.ts'
import { toToolName, unwrapCustom } from './tool-names.ts'

// --- whole replies ---------------------------------------------------------------------------------------------

/** Reads a reply that `whole` has found good. */
export function readReply(body: Buffer, written: WrittenRequest): ChatReply {
  const message = parseObject(body.toString('utf8')) ?? {}
  const answerTool = answerToolOf(written)
  const origin = originOf(written)
  const blocks: unknown[] = Array.isArray(message.content) ? message.content : []
  const inputs = readInputs(body, blocks)
  const content = blocks.flatMap((block, at) =>
    isObject(block) ? toParts(block, { written, origin, answerTool, input: inputs[at] }) : [],
  )
  const explanation = explanationOf(message.stop_details)
  if (explanation !== undefined) content.push({ type: 'refusal', text: explanation })
  const hasCalls = content.some((part) => part.type === 'call')
  const usage = isObject(message.usage) ? message.usage : {}
  return {
    id: textOf(message.id),
    createdSeconds: undefined,
    model: textOf(message.model),
    choices: [
      {
        content,
        finish: toFinishOf(message.stop_reason, hasCalls),
        stopSequence: typeof message.stop_sequence === 'string' ? message.stop_sequence : undefined,
        logprobs: undefined,
      },
    ],
    usage: readUsage(message.usage, undefined),
    serviceTier: typeof usage.service_tier === 'string' ? usage.service_tier : undefined,
  }
}

function originOf({ body }: WrittenRequest): string {
  return traitsOf(typeof body.model === 'string' ? body.model : '').seals
}

/** The answer's own tool is no call of the caller's. */
function toFinishOf(stopReason: unknown, hasCalls: boolean): Finish {
  const finish = toFinish(stopReason)
  return finish === 'tool_calls' && !hasCalls ? 'stop' : finish
}

/**
 * What each call is called with, as it stands in the body: a number of more digits than JavaScript has would not come
 * through a parser as it was.
 */
function readInputs(body: Buffer, blocks: readonly unknown[]): (string | undefined)[] {
  if (!blocks.some((block) => isObject(block) && block.type === 'tool_use')) return []
  const scan = scanObject(body)
  const list = scan.ok ? scan.members.get('content') : undefined
  if (list === undefined) return []
  return elements(body, list).map((element) => {
    const inner = scanNested(body, element)
    const span = inner.ok ? inner.members.get('input') : undefined
    return span === undefined ? undefined : body.toString('utf8', span.start, span.end)
  })
}

interface PartSetting {
  readonly written: WrittenRequest
  /** Origin of its seals. */
  readonly origin: string
  readonly answerTool: string | undefined
  /** The input of a call, as it was written. */
  readonly input: string | undefined
}

/** Blocks of tools that the provider runs itself are not asked for when a request was translated, and not known here. */
function toParts(
  block: Readonly<Record<string, unknown>>,
  { written: { names }, origin, answerTool, input }: PartSetting,
): Part[] {
  switch (block.type) {
    case 'text':
      return typeof block.text === 'string' && block.text !== '' ? [{ type: 'text', text: block.text }] : []
    case 'thinking': {
      const signature = textOf(block.signature)
      const sealed = signature === '' ? undefined : { origin, value: signature }
      return [{ type: 'thinking', text: textOf(block.thinking), sealed, isRedacted: false }]
    }
    case 'redacted_thinking':
      return [
        {
          type: 'thinking',
          text: '',
          sealed: { origin, value: textOf(block.data) },
          isRedacted: true,
        },
      ]
    case 'tool_use': {
      const wire = textOf(block.name)
      const json = isObject(block.input) && input !== undefined ? input : JSON.stringify(block.input ?? {})
      if (wire === answerTool) return [{ type: 'text', text: json }]
      if (wire === '') throw new Error(NO_NAME)
      const tool = toToolName(names, wire)
      return [
        {
          type: 'call',
          ...tool,
          id: textOf(block.id),
          arguments: tool.kind === 'custom' ? unwrapCustom(json) : json,
          sealed: undefined,
        },
      ]
    }
    default:
      return []
  }
}

/** A piece of an input; '' for none. One of another kind would be missing in it. */
function pieceOf(value: unknown): string {
  if (typeof value === 'string') return value
  if (value === undefined || value === null) return ''
  throw new Error('a piece of an input that is no text')
}

/** Nobody can be called, and an answer without the call would be another one. */
const NO_NAME = 'a call without a name'

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** Why the model refused, where that is told. */
function explanationOf(details: unknown): string | undefined {
  if (!isObject(details) || typeof details.explanation !== 'string') return undefined
  return details.explanation === '' ? undefined : details.explanation
}

// --- streams ---------------------------------------------------------------------------------------------------

/** What is known of a block that is open. */
type Open =
  | { readonly type: 'text' }
  | { readonly type: 'thinking'; signature: string }
  /** The answer's own tool: what it is called with is the text. */
  | { readonly type: 'answer'; input: unknown; said: boolean }
  | {
      readonly type: 'call'
      readonly call: number
      readonly custom: CustomInput | undefined
      input: unknown
      said: boolean
    }
  | { readonly type: 'other' }

export function createReader(written: WrittenRequest): EventReader {
  const answerTool = answerToolOf(written)
  const origin = originOf(written)
  /** By the index of the block; servers that number them wrongly open a new one under an old number. */
  const open = new Map<number, Open>()
  let started = false
  let finished = false
  let calls = 0
  let usage: Usage | undefined

  function start(message: Readonly<Record<string, unknown>>, events: ChatEvent[]): void {
    if (started) return
    started = true
    usage = readUsage(message.usage, undefined)
    events.push({
      type: 'start',
      id: textOf(message.id),
      model: textOf(message.model),
      createdSeconds: undefined,
      usage,
    })
  }

  function openBlock(index: number, block: Readonly<Record<string, unknown>>, events: ChatEvent[]): void {
    closeBlock(index, events)
    // Some servers leave the end out; a thought is over when something else begins.
    for (const [at, { type }] of open) if (type === 'thinking') closeBlock(at, events)
    if (open.size >= MOST_CALLS) throw new Error('more blocks than anybody begins')
    switch (block.type) {
      case 'text':
        open.set(index, { type: 'text' })
        say(textOf(block.text), events)
        break
      case 'thinking':
        open.set(index, { type: 'thinking', signature: textOf(block.signature) })
        think(textOf(block.thinking), events)
        break
      case 'redacted_thinking':
        events.push({
          type: 'seal',
          choice: 0,
          sealed: { origin, value: textOf(block.data) },
          isRedacted: true,
        })
        break
      case 'tool_use': {
        const wire = textOf(block.name)
        if (wire === answerTool) {
          open.set(index, { type: 'answer', input: block.input, said: false })
          break
        }
        if (wire === '') throw new Error(NO_NAME)
        const tool = toToolName(written.names, wire)
        const custom = tool.kind === 'custom' ? createCustomInput() : undefined
        open.set(index, { type: 'call', call: calls, custom, input: block.input, said: false })
        events.push({
          type: 'call',
          choice: 0,
          call: calls,
          ...tool,
          id: textOf(block.id),
          sealed: undefined,
        })
        calls += 1
        break
      }
      default:
        open.set(index, { type: 'other' })
    }
  }

  function say(text: string, events: ChatEvent[]): void {
    if (text !== '') events.push({ type: 'text', choice: 0, text })
  }

  function think(text: string, events: ChatEvent[]): void {
    if (text !== '') events.push({ type: 'thinking', choice: 0, text })
  }

  function addInput(block: Open | undefined, json: string, events: ChatEvent[]): void {
    if (json === '' || block?.type === 'other') return
    if (block?.type === 'answer') {
      block.said = true
      say(json, events)
    } else if (block?.type === 'call') {
      block.said = true
      const text = block.custom === undefined ? json : block.custom.push(json)
      if (text !== '') events.push({ type: 'arguments', choice: 0, call: block.call, text })
    }
    // The call that it belongs to would be made without it.
    else throw new Error('input of no call that is open')
  }

  function addDelta(index: number, delta: Readonly<Record<string, unknown>>, events: ChatEvent[]): void {
    const block = open.get(index)
    switch (delta.type) {
      case 'text_delta':
        return say(textOf(delta.text), events)
      case 'thinking_delta':
        return think(textOf(delta.thinking), events)
      case 'signature_delta':
        // Each one is the whole signature, as the vendor's own SDK reads it.
        if (block?.type === 'thinking') block.signature = textOf(delta.signature)
        return
      case 'input_json_delta':
        addInput(block, pieceOf(delta.partial_json), events)
    }
  }

  function closeBlock(index: number, events: ChatEvent[]): void {
    const block = open.get(index)
    if (block === undefined) return
    open.delete(index)
    if (block.type === 'thinking' && block.signature !== '') {
      const sealed = { origin, value: block.signature }
      events.push({ type: 'seal', choice: 0, sealed, isRedacted: false })
    }
    if (block.type !== 'call' && block.type !== 'answer') return
    // Some servers give the whole input where the block begins, and no delta behind it.
    const isGiven = isObject(block.input) && Object.keys(block.input).length > 0
    if (!block.said && (isGiven || block.type === 'answer'))
      addInput(block, JSON.stringify(block.input ?? {}), events)
    const rest = block.type === 'call' ? block.custom?.end() : undefined
    if (block.type === 'call' && rest !== undefined && rest !== '')
      events.push({ type: 'arguments', choice: 0, call: block.call, text: rest })
  }

  return {
    read({ data }) {
      const event = data === undefined ? undefined : parseObject(data)
      if (event === undefined) return []
      const events: ChatEvent[] = []
      const index = typeof event.index === 'number' ? event.index : 0
      switch (event.type) {
        case 'message_start':
          start(isObject(event.message) ? event.message : {}, events)
          break
        case 'content_block_start':
          start({}, events)
          if (isObject(event.content_block)) openBlock(index, event.content_block, events)
          break
        case 'content_block_delta':
          start({}, events)
          if (isObject(event.delta)) addDelta(index, event.delta, events)
          break
        case 'content_block_stop':
          closeBlock(index, events)
          break
        case 'message_delta': {
          start({}, events)
          for (const at of [...open.keys()]) closeBlock(at, events)
          const delta = isObject(event.delta) ? event.delta : {}
          usage = readUsage(event.usage, usage)
          if (usage !== undefined) events.push({ type: 'usage', usage })
          if (typeof delta.stop_reason !== 'string' || finished) break
          finished = true
          const explanation = explanationOf(delta.stop_details)
          if (explanation !== undefined) events.push({ type: 'refusal', choice: 0, text: explanation })
          const stopSequence = typeof delta.stop_sequence === 'string' ? delta.stop_sequence : undefined
          events.push({
            type: 'finish',
            choice: 0,
            finish: toFinishOf(delta.stop_reason, calls > 0),
            stopSequence,
          })
        }
      }
      return events
    },
  }
}
