// The stream of an answer as the Responses API gives it: every item is announced, told piece by piece, told whole, and
// stands once more in the response at the end. Events are numbered from 0 without a gap.
// Source: OpenAI API reference, streaming events; openai-node src/resources/responses.

import { parseObject } from '../bytes/json-value.ts'
import type { Usage } from '../types.ts'
import { createCallIds } from './call-ids.ts'
import type { CallPart, ChatEvent, Finish, Seal, Source } from './canonical.ts'
import type { AnswerTo, EventWriter, ToldError } from './format.ts'
import { createJsonEnd, type JsonEnd } from './json-end.ts'
import { pictureNote } from './pictures.ts'
import {
  callPrefix,
  type Head,
  type Item,
  isCut,
  toCall,
  toDrawing,
  toHead,
  toLogprobs,
  toMessage,
  toReasoning,
  toRefusal,
  toResponse,
  toText,
} from './responses-reply.ts'
import { markSeal, type SealOf } from './responses-seals.ts'

interface OpenPart {
  readonly type: 'text' | 'refusal'
  text: string
  logprobs: Item[]
}

interface OpenMessage {
  readonly id: string
  readonly index: number
  /** Those that are whole. */
  readonly parts: Item[]
  part: OpenPart | undefined
  /** A thought that came behind it is sealed: what is said next stands behind that. */
  isPassed: boolean
}

interface OpenThought {
  readonly id: string
  readonly index: number
  text: string
}

interface OpenCall {
  readonly itemId: string
  readonly index: number
  readonly call: Pick<CallPart, 'kind' | 'id' | 'name' | 'namespace'>
  readonly end: JsonEnd
  text: string
}

/**
 * Thoughts that come while text does are kept beside it, so that neither falls into pieces. A call is over when another
 * item begins and its arguments are whole, else at the end, as a provider may tell several at once.
 */
export function createResponsesEvents(to: AnswerTo): EventWriter {
  const toCallId = createCallIds(to)
  let out = ''
  let sequence = 0
  let head: Head | undefined
  let items = 0
  const output: Item[] = []
  let message: OpenMessage | undefined
  let thought: OpenThought | undefined
  const calls = new Map<number, OpenCall>()
  let finish: Finish | undefined
  let usage: Usage | undefined

  function emit(type: string, members: Item): void {
    out += toFrame(type, { ...members, sequence_number: sequence })
    sequence += 1
  }

  function begin(start: Extract<ChatEvent, { type: 'start' }> | undefined): Head {
    if (head !== undefined) return head
    head = toHead(start ?? { id: '', model: '', createdSeconds: undefined }, to)
    const response = toResponse(head, to, { finish: undefined, output: [] })
    emit('response.created', { response })
    emit('response.in_progress', { response })
    return head
  }

  function add(item: Item): number {
    begin(undefined)
    const index = items
    items += 1
    emit('response.output_item.added', { output_index: index, item })
    return index
  }

  function done(index: number, item: Item): void {
    output[index] = item
    emit('response.output_item.done', { output_index: index, item })
  }

  // --- messages ----------------------------------------------------------------------------------------------------

  function say(type: OpenPart['type'], text: string): void {
    if (message?.isPassed === true) closeMessage('completed')
    if (message === undefined) {
      closeThought(undefined)
      closeWholeCalls()
      const id = to.nextId('msg_')
      const index = add(toMessage(id, [], 'in_progress'))
      message = { id, index, parts: [], part: undefined, isPassed: false }
    }
    if (message.part !== undefined && message.part.type !== type) closePart(message)
    if (message.part === undefined) {
      message.part = { type, text: '', logprobs: [] }
      emit('response.content_part.added', { ...placeOf(message), part: toPart(message.part) })
    }
    if (text === '') return
    message.part.text += text
    const delta = { ...placeOf(message), delta: text }
    if (type === 'text') emit('response.output_text.delta', { ...delta, logprobs: [] })
    else emit('response.refusal.delta', delta)
  }

  function placeOf({ id, index, parts }: OpenMessage): Item {
    return { item_id: id, output_index: index, content_index: parts.length }
  }

  function closePart(open: OpenMessage): void {
    if (open.part === undefined) return
    const part = toPart(open.part)
    const { type, text, logprobs } = open.part
    if (type === 'text') emit('response.output_text.done', { ...placeOf(open), text, logprobs })
    else emit('response.refusal.done', { ...placeOf(open), refusal: text })
    emit('response.content_part.done', { ...placeOf(open), part })
    open.parts.push(part)
    open.part = undefined
  }

  function closeMessage(status: string): void {
    if (message === undefined) return
    closePart(message)
    done(message.index, toMessage(message.id, message.parts, status))
    message = undefined
  }

  // --- thoughts ----------------------------------------------------------------------------------------------------

  function think(text: string): void {
    if (text === '') return
    const open = openThought()
    const place = { item_id: open.id, output_index: open.index, summary_index: 0 }
    if (open.text === '')
      emit('response.reasoning_summary_part.added', { ...place, part: { type: 'summary_text', text: '' } })
    open.text += text
    emit('response.reasoning_summary_text.delta', { ...place, delta: text })
  }

  function openThought(): OpenThought {
    if (thought !== undefined) return thought
    const id = to.nextId('rs_')
    thought = { id, index: add(toReasoning(id, '', undefined)), text: '' }
    return thought
  }

  function seal(sealed: Seal, of: SealOf): void {
    // One that may not be shown stands alone.
    if (of === 'redacted') closeThought(undefined)
    const open = openThought()
    if (message !== undefined && message.index < open.index) message.isPassed = true
    closeThought(markSeal(sealed, of))
  }

  function closeThought(encrypted: string | undefined): void {
    if (thought === undefined) return
    const { id, index, text } = thought
    thought = undefined
    if (text !== '') {
      const place = { item_id: id, output_index: index, summary_index: 0 }
      emit('response.reasoning_summary_text.done', { ...place, text })
      emit('response.reasoning_summary_part.done', { ...place, part: { type: 'summary_text', text } })
    }
    done(index, toReasoning(id, text, encrypted))
  }

  // --- calls -------------------------------------------------------------------------------------------------------

  function openCall(event: Extract<ChatEvent, { type: 'call' }>): void {
    closeMessage('completed')
    closeThought(undefined)
    closeWholeCalls()
    if (event.sealed !== undefined) seal(event.sealed, 'call')
    const call = { ...event, id: toCallId(event.id) }
    const itemId = to.nextId(callPrefix(call.kind))
    const index = add(toCall(itemId, { ...call, arguments: '' }, 'in_progress'))
    calls.set(event.call, { itemId, index, call, end: createJsonEnd(), text: '' })
  }

  /** A caller may run them while the next is still told. */
  function closeWholeCalls(): void {
    for (const [number, open] of calls) {
      if (open.call.kind === 'custom' || !open.end.isWhole()) continue
      calls.delete(number)
      closeCall(open, 'completed')
    }
  }

  function argue(call: number, text: string): void {
    const open = calls.get(call)
    if (open === undefined) {
      // The caller may have run it by now.
      if (text.trim() !== '') throw new Error('arguments behind the end of a call')
      return
    }
    if (text === '') return
    open.text += text
    open.end.push(text)
    tellArguments(open, text)
  }

  function tellArguments({ call, itemId, index }: OpenCall, delta: string): void {
    emit(`response.${argumentsOf(call.kind)}.delta`, { item_id: itemId, output_index: index, delta })
  }

  function closeCall(open: OpenCall, status: string): void {
    const { call, itemId, index } = open
    const item = toCall(itemId, { ...call, arguments: open.text }, status)
    const place = { item_id: itemId, output_index: index }
    if (call.kind === 'custom') {
      emit('response.custom_tool_call_input.done', { ...place, input: item.input })
    } else {
      // Whoever puts the pieces together gets the same as whoever reads the whole.
      if (open.text === '' && item.arguments !== '') tellArguments(open, String(item.arguments))
      emit('response.function_call_arguments.done', { ...place, name: call.name, arguments: item.arguments })
    }
    done(index, item)
  }

  // --- pictures ----------------------------------------------------------------------------------------------------

  function show(source: Source): void {
    closeMessage('completed')
    closeThought(undefined)
    closeWholeCalls()
    if (source.kind !== 'base64') {
      say('text', pictureNote(source))
      closeMessage('completed')
      return
    }
    const id = to.nextId('ig_')
    const index = add(toDrawing(id, null, 'in_progress'))
    const place = { item_id: id, output_index: index }
    for (const state of ['in_progress', 'generating', 'completed'])
      emit(`response.image_generation_call.${state}`, place)
    done(index, toDrawing(id, source.base64, 'completed'))
  }

  // --- the end -----------------------------------------------------------------------------------------------------

  function closeAll(how: Finish): void {
    const cutIndex = isCut(how) ? items - 1 : -1
    const statusOf = ({ index }: { readonly index: number }) =>
      index === cutIndex ? 'incomplete' : 'completed'
    const open: { readonly index: number; readonly close: () => void }[] = []
    if (thought !== undefined) open.push({ index: thought.index, close: () => closeThought(undefined) })
    if (message !== undefined) {
      const status = statusOf(message)
      open.push({ index: message.index, close: () => closeMessage(status) })
    }
    for (const call of calls.values())
      open.push({ index: call.index, close: () => closeCall(call, statusOf(call)) })
    calls.clear()
    for (const { close } of open.sort((a, b) => a.index - b.index)) close()
  }

  function take(event: ChatEvent): void {
    if ('choice' in event && event.choice !== 0) return
    switch (event.type) {
      case 'start':
        usage = event.usage ?? usage
        begin(event)
        return
      case 'text':
      case 'refusal':
        if (event.text !== '') say(event.type, event.text)
        return
      case 'thinking':
        return think(event.text)
      case 'image':
        return show(event.source)
      case 'seal':
        return seal(event.sealed, event.isRedacted ? 'redacted' : 'thought')
      case 'call':
        return openCall(event)
      case 'arguments':
        return argue(event.call, event.text)
      case 'logprobs':
        message?.part?.logprobs.push(...toLogprobs(event.logprobs))
        return
      case 'finish':
        finish = event.finish
        return closeAll(finish)
      case 'usage':
        usage = event.usage
    }
  }

  function flush(): string {
    const frames = out
    out = ''
    return frames
  }

  return {
    write(event) {
      take(event)
      return flush()
    },
    end() {
      const answered = begin(undefined)
      const how = finish ?? 'stop'
      closeAll(how)
      if (items === 0 && how === 'stop') {
        // Nothing was said, and that is an answer.
        say('text', '')
        closeMessage('completed')
      }
      const response = toResponse(answered, to, { finish: how, output, usage })
      emit(isCut(how) ? 'response.incomplete' : 'response.completed', { response })
      return flush()
    },
  }
}

function argumentsOf(kind: CallPart['kind']): string {
  return kind === 'custom' ? 'custom_tool_call_input' : 'function_call_arguments'
}

function toPart({ type, text, logprobs }: OpenPart): Item {
  return type === 'text' ? toText(text, logprobs) : toRefusal(text)
}

function toFrame(type: string, members: Item): string {
  return `event: ${type}\ndata: ${JSON.stringify({ type, ...members })}\n\n`
}

/** The event that ends a stream which broke; its number follows on that of the last. */
export function toErrorFrame({ code, message, param }: ToldError, last: string | undefined): string {
  return toFrame('error', { code, message, param, sequence_number: numberOf(last) + 1 })
}

/** Of the last of the events that a text holds; -1 where none is numbered. */
function numberOf(last: string | undefined): number {
  const lines = last?.split(/\r\n|\r|\n/) ?? []
  for (const line of lines.reverse()) {
    const event = parseObject(line.startsWith('data:') ? line.slice(5) : line)
    if (Number.isSafeInteger(event?.sequence_number)) return Number(event?.sequence_number)
  }
  return -1
}
