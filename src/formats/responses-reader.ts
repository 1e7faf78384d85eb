// The stream of a provider of Responses, read into canonical events. What a server leaves out (the announcement of an
// item, its pieces, its end) is made good from whatever tells it later, and nothing is told twice.

import { isObject, parseObject } from '../bytes/json-value.ts'
import type { ChatEvent } from './canonical.ts'
import { secondsOf } from './facts.ts'
import type { EventReader, WrittenRequest } from './format.ts'
import {
  argumentsOf,
  pictureOf,
  readCall,
  readFinish,
  readUsage,
  SUMMARY_BREAK,
  sealOf,
  thoughtText,
} from './responses-provider.ts'

type Members = Readonly<Record<string, unknown>>

/** Most items of one answer, what the provider's own tools did among them. */
const MOST_ITEMS = 4096

/** An item of the output, as far as it was told. */
interface Told {
  readonly id: string | undefined
  /** Its number among the calls once it was announced. */
  call: number | undefined
  /** Characters of each content part, of the thought at 0, or of the arguments at 0. */
  readonly lengths: Map<number, number>
  /** A server may tell a thought and its summary: the first is taken. */
  /** Pieces of a call that nobody has announced yet came, and are only told with the whole. */
  isOwed: boolean
  thoughtBy: 'summary' | 'text' | undefined
  summaryIndex: number
  isDone: boolean
}

export function createResponsesReader({ names }: WrittenRequest): EventReader {
  let events: ChatEvent[] = []
  let isStarted = false
  let isFinished = false
  let calls = 0
  /** By output index, or by id where a server numbers nothing. */
  const items = new Map<unknown, Told>()
  const byId = new Map<string, Told>()

  function start(response: Members): void {
    if (isStarted) return
    isStarted = true
    events.push({
      type: 'start',
      id: typeof response.id === 'string' ? response.id : '',
      model: typeof response.model === 'string' ? response.model : '',
      createdSeconds: secondsOf(response.created_at),
      usage: undefined,
    })
  }

  /** Some number all items alike, others give an item another id with each event: the id counts where it is known. */
  function keyOf({ output_index: index, item_id: id, item }: Members): unknown {
    const own = isObject(item) ? item.id : id
    if (typeof own === 'string' && byId.has(own)) return own
    return typeof index === 'number' ? index : (own ?? 'only')
  }

  function begin(key: unknown, item: Members): Told {
    const told: Told = {
      id: typeof item.id === 'string' ? item.id : undefined,
      call: undefined,
      lengths: new Map(),
      isOwed: false,
      thoughtBy: undefined,
      summaryIndex: 0,
      isDone: false,
    }
    if (items.size >= MOST_ITEMS) throw new Error('more items than anybody reads')
    items.set(key, told)
    if (told.id !== undefined) byId.set(told.id, told)
    if (isCall(item) && typeof item.name === 'string' && item.name !== '') announce(told, item)
    return told
  }

  function known(key: unknown): Told | undefined {
    return (typeof key === 'string' ? byId.get(key) : undefined) ?? items.get(key)
  }

  function find(key: unknown): Told {
    return known(key) ?? begin(key, {})
  }

  function announce(told: Told, item: Members): number {
    if (told.call !== undefined) return told.call
    const { kind, id, name, namespace } = readCall(item, names)
    told.call = calls
    told.isOwed = false
    calls += 1
    events.push({ type: 'call', choice: 0, call: told.call, kind, id, name, namespace, sealed: undefined })
    return told.call
  }

  /** A piece; of a call that nobody has announced it waits for the whole. */
  function tell(told: Told, at: number, piece: (text: string) => ChatEvent | undefined, text: unknown): void {
    if (typeof text !== 'string' || text === '') return
    const event = piece(text)
    if (event === undefined) {
      told.isOwed = true
      return
    }
    events.push(event)
    told.lengths.set(at, (told.lengths.get(at) ?? 0) + text.length)
  }

  /** What the pieces left out of a whole. */
  function tellRest(told: Told, at: number, piece: (text: string) => ChatEvent | undefined, whole: unknown) {
    if (typeof whole === 'string') tell(told, at, piece, whole.slice(told.lengths.get(at) ?? 0))
  }

  function toArguments(told: Told): (text: string) => ChatEvent | undefined {
    const { call } = told
    return (text) => (call === undefined ? undefined : { type: 'arguments', choice: 0, call, text })
  }

  function tellThought(told: Told, by: 'summary' | 'text', { delta, summary_index: index }: Members): void {
    told.thoughtBy ??= by
    if (told.thoughtBy !== by || typeof delta !== 'string' || delta === '') return
    const isNext = by === 'summary' && typeof index === 'number' && index > told.summaryIndex
    if (isNext) told.summaryIndex = index
    const between = isNext && (told.lengths.get(0) ?? 0) > 0 ? SUMMARY_BREAK : ''
    tell(told, 0, toThinking, `${between}${delta}`)
  }

  function finishItem(told: Told, item: Members): void {
    if (told.isDone) return
    told.isDone = true
    if (isCall(item)) {
      announce(told, item)
      tellRest(told, 0, toArguments(told), argumentsOf(item))
    } else if (item.type === 'reasoning') {
      // Where pieces came they were all of it: the whole may be put together in another way.
      if ((told.lengths.get(0) ?? 0) === 0) tell(told, 0, toThinking, thoughtText(item))
      const sealed = sealOf(item)
      const isRedacted = (told.lengths.get(0) ?? 0) === 0
      if (sealed !== undefined) events.push({ type: 'seal', choice: 0, sealed, isRedacted })
    } else if (item.type === 'image_generation_call') {
      const source = pictureOf(item)
      if (source !== undefined) events.push({ type: 'image', choice: 0, source })
    } else if (item.type === 'message') {
      const parts = Array.isArray(item.content) ? item.content : []
      for (const [i, part] of parts.entries()) {
        if (!isObject(part)) continue
        if (part.type === 'refusal') tellRest(told, i, toRefusal, part.refusal)
        else tellRest(told, i, toText, part.text)
      }
    }
  }

  /** The whole output once more, or for the first time. */
  function finishAll(output: unknown): void {
    for (const [i, item] of (Array.isArray(output) ? output : []).entries()) {
      if (!isObject(item)) continue
      const same = typeof item.id === 'string' ? byId.get(item.id) : undefined
      finishItem(same ?? items.get(i) ?? begin(i, item), item)
    }
    for (const { isOwed } of items.values()) if (isOwed) throw new Error('arguments of no call that was told')
  }

  function end(response: Members): void {
    start(response)
    if (isFinished) return
    isFinished = true
    finishAll(response.output)
    const usage = readUsage(response.usage)
    if (usage !== undefined) events.push({ type: 'usage', usage })
    events.push({
      type: 'finish',
      choice: 0,
      finish: readFinish(response, calls > 0),
      stopSequence: undefined,
    })
  }

  function take(event: Members): void {
    const response = isObject(event.response) ? event.response : {}
    const item = isObject(event.item) ? event.item : {}
    const key = keyOf(event)
    const at = typeof event.content_index === 'number' ? event.content_index : 0
    switch (event.type) {
      case 'response.created':
      case 'response.in_progress':
        return start(response)
      case 'response.completed':
      case 'response.incomplete':
        return end(response)
    }
    start({})
    switch (event.type) {
      case 'response.output_item.added':
        // Announced twice it is one all the same.
        if (typeof item.id !== 'string' || !byId.has(item.id)) begin(key, item)
        return
      case 'response.output_item.done':
        return finishItem(known(key) ?? begin(key, item), item)
      case 'response.output_text.delta':
        tell(find(key), at, toText, event.delta)
        if (Array.isArray(event.logprobs) && event.logprobs.length > 0)
          events.push({
            type: 'logprobs',
            choice: 0,
            logprobs: { content: event.logprobs, refusal: null },
          })
        return
      case 'response.output_text.done':
        return tellRest(find(key), at, toText, event.text)
      case 'response.refusal.delta':
        return tell(find(key), at, toRefusal, event.delta)
      case 'response.refusal.done':
        return tellRest(find(key), at, toRefusal, event.refusal)
      case 'response.reasoning_summary_text.delta':
        return tellThought(find(key), 'summary', event)
      case 'response.reasoning_text.delta':
        return tellThought(find(key), 'text', event)
      case 'response.function_call_arguments.delta':
      case 'response.custom_tool_call_input.delta':
        return tell(find(key), 0, toArguments(find(key)), event.delta)
      case 'response.function_call_arguments.done':
        return tellRest(find(key), 0, toArguments(find(key)), event.arguments)
      case 'response.custom_tool_call_input.done':
        return tellRest(find(key), 0, toArguments(find(key)), event.input)
    }
  }

  return {
    read({ data }) {
      const event = data === undefined || data === '[DONE]' ? undefined : parseObject(data)
      if (event === undefined) return []
      take(event)
      const read = events
      events = []
      return read
    },
  }
}

function isCall({ type }: Members): boolean {
  return type === 'function_call' || type === 'custom_tool_call'
}

function toText(text: string): ChatEvent {
  return { type: 'text', choice: 0, text }
}

function toRefusal(text: string): ChatEvent {
  return { type: 'refusal', choice: 0, text }
}

function toThinking(text: string): ChatEvent {
  return { type: 'thinking', choice: 0, text }
}
