// Puts a stream of the Responses API together again, as a client that trusts nothing: each rule of the sequence is
// checked, and what the pieces give must be what the whole says. Written from OpenAI's description of the events.

import { schemaFaults } from './openai-schema.ts'
import { parseSse } from './sse.ts'

type Members = Record<string, unknown>

export interface AssembledResponse {
  /** The response of the last event. */
  readonly response: Members
  /** The items, put together from their pieces alone. */
  readonly output: readonly Members[]
  readonly types: readonly string[]
}

interface OpenItem {
  readonly item: Members
  readonly parts: Members[]
  openPart: boolean
  isDone: boolean
}

/** @throws Error that names the rule which is broken */
export function assembleResponse(sse: string): AssembledResponse {
  const items: OpenItem[] = []
  const types: string[] = []
  let response: Members | undefined

  function demand(holds: boolean, rule: string, event: unknown): asserts holds {
    if (!holds) throw new Error(`${rule}: ${JSON.stringify(event)}`)
  }

  for (const { event: name, data } of parseSse(sse)) {
    const event: unknown = JSON.parse(data)
    demand(isRecord(event), 'every event is an object', data)
    const type = String(event.type)
    demand(name === type, 'the name of an event is its type', event)
    const faults = schemaFaults('ResponseStreamEvent', event)
    demand(faults.length === 0, `every event is as described (${faults.slice(0, 3).join('; ')})`, event)
    demand(event.sequence_number === types.length, 'events are numbered from 0 without a gap', event)
    demand(response === undefined, 'nothing follows on the end', event)
    if (types.length === 0) demand(type === 'response.created', 'the first event creates the response', event)
    if (types.length === 1) demand(type === 'response.in_progress', 'the second says it is begun', event)
    types.push(type)
    if (type === 'response.created' || type === 'response.in_progress') continue
    if (type === 'response.completed' || type === 'response.incomplete') {
      demand(isRecord(event.response), 'the end has the response', event)
      demand(event.response.status === type.slice('response.'.length), 'its status is its event', event)
      demand(
        items.every(({ isDone }) => isDone),
        'every item is done before the end',
        event,
      )
      response = event.response
      continue
    }
    const index = Number(event.output_index)
    if (type === 'response.output_item.added') {
      demand(index === items.length, 'items are numbered in order', event)
      demand(isRecord(event.item), 'an item is added', event)
      items.push({ item: structuredClone(event.item), parts: [], openPart: false, isDone: false })
      continue
    }
    const open = items[index]
    demand(open !== undefined && !open.isDone, 'an item is told of between its beginning and its end', event)
    const { item, parts } = open
    if ('item_id' in event) demand(event.item_id === item.id, 'an item keeps its id', event)
    const text = typeof event.delta === 'string' ? event.delta : ''
    const part = parts.at(-1)
    const place = Number(event.content_index ?? event.summary_index ?? 0)
    switch (type) {
      case 'response.content_part.added':
      case 'response.reasoning_summary_part.added':
        demand(place === parts.length && !open.openPart, 'parts follow on each other', event)
        demand(isRecord(event.part), 'a part is added', event)
        parts.push(structuredClone(event.part))
        open.openPart = true
        break
      case 'response.output_text.delta':
      case 'response.refusal.delta':
      case 'response.reasoning_summary_text.delta': {
        demand(
          part !== undefined && open.openPart && place === parts.length - 1,
          'a piece is of a part',
          event,
        )
        const member = type === 'response.refusal.delta' ? 'refusal' : 'text'
        demand(typeof part[member] === 'string', 'a piece is of its kind of part', event)
        part[member] = String(part[member]) + text
        break
      }
      case 'response.output_text.done':
        if (part !== undefined) part.logprobs = event.logprobs
        demand(part?.text === event.text, 'the whole text is its pieces', event)
        break
      case 'response.reasoning_summary_text.done':
        demand(part?.text === event.text, 'the whole summary is its pieces', event)
        break
      case 'response.refusal.done':
        demand(part?.refusal === event.refusal, 'the whole refusal is its pieces', event)
        break
      case 'response.content_part.done':
      case 'response.reasoning_summary_part.done':
        demand(
          JSON.stringify(sorted(event.part)) === JSON.stringify(sorted(part)),
          'a part is its pieces',
          event,
        )
        open.openPart = false
        break
      case 'response.function_call_arguments.delta':
        item.arguments = String(item.arguments) + text
        break
      case 'response.custom_tool_call_input.delta':
        item.input = String(item.input) + text
        break
      case 'response.function_call_arguments.done':
        demand(
          item.arguments === event.arguments && item.name === event.name,
          'arguments are their pieces',
          event,
        )
        break
      case 'response.custom_tool_call_input.done':
        demand(item.input === event.input, 'an input is its pieces', event)
        break
      case 'response.image_generation_call.in_progress':
      case 'response.image_generation_call.generating':
      case 'response.image_generation_call.completed':
        demand(item.type === 'image_generation_call', 'a picture is an item of its own', event)
        break
      case 'response.output_item.done': {
        demand(isRecord(event.item) && !open.openPart, 'an item is done when its parts are', event)
        if (item.type === 'message') item.content = parts
        if (item.type === 'reasoning') {
          item.summary = parts
          if ('encrypted_content' in event.item) item.encrypted_content = event.item.encrypted_content
        }
        // A picture comes with its end alone.
        if (item.type === 'image_generation_call') item.result = event.item.result
        if ('status' in event.item) item.status = event.item.status
        demand(
          JSON.stringify(sorted(event.item)) === JSON.stringify(sorted(item)),
          'an item is its pieces',
          event,
        )
        open.isDone = true
        break
      }
      default:
        demand(false, 'no other event is known', event)
    }
  }
  if (response === undefined) throw new Error('the stream has no end')
  const output = items.map(({ item }) => item)
  demand(
    JSON.stringify(sorted(response.output)) === JSON.stringify(sorted(output)),
    'the response holds all items',
    response,
  )
  return { response, output, types }
}

/** With members in one order. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (!isRecord(value)) return value
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((name) => [name, sorted(value[name])]),
  )
}

function isRecord(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
