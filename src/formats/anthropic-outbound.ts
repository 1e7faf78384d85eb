// A canonical answer as Messages writes it, whole and streamed: exactly one block open at a time, numbered without
// gaps, whatever order the provider says things in. Pure.

import { GatewayError } from '../errors.ts'
import type { Usage } from '../types.ts'
import { ANTHROPIC, toPlainId, toStopReason, writeUsage } from './anthropic-words.ts'
import { createCallIds } from './call-ids.ts'
import type { ChatEvent, ChatReply, Finish, Part, Seal, Source } from './canonical.ts'
import type { AnswerTo, EventWriter } from './format.ts'
import { createJsonEnd, type JsonEnd } from './json-end.ts'
import { pictureNote } from './pictures.ts'
import { packSeal } from './seals.ts'
import { toInput, wrapCustom } from './tool-names.ts'

// --- whole replies ---------------------------------------------------------------------------------------------

export function writeReply(reply: ChatReply, to: AnswerTo): unknown {
  const [choice] = reply.choices
  const content = choice?.content ?? []
  const stopSequence = choice?.stopSequence
  const refusal = content.find((part) => part.type === 'refusal')
  const stop = {
    finish: choice?.finish ?? 'stop',
    stopSequence,
    hasCalls: content.some((part) => part.type === 'call'),
    hasRefusal: refusal !== undefined,
  }
  const stopReason = toStopReason(stop)
  const nextToolId = createToolIds(to)
  return {
    id: toMessageId(reply.id, to),
    type: 'message',
    role: 'assistant',
    model: reply.model,
    content: content.flatMap((part) => toBlocks(part, nextToolId)),
    stop_reason: stopReason,
    stop_sequence: stopReason === 'stop_sequence' ? (stopSequence ?? null) : null,
    stop_details: stopReason === 'refusal' ? refusalDetails(refusal?.text) : null,
    usage: writeUsage(reply.usage),
  }
}

/** Who left it out would give another answer. */
const NO_PLACE = 'a file or sound, which Messages has no place for in an answer'

function toMessageId(id: string, { nextId }: AnswerTo): string {
  return id.startsWith('msg_') ? id : nextId('msg_')
}

function refusalDetails(explanation: string | undefined): unknown {
  return { type: 'refusal', category: null, explanation: explanation ?? null }
}

function toBlocks(part: Part, toToolId: (id: string) => string): unknown[] {
  switch (part.type) {
    case 'text':
    case 'refusal':
      return part.text === '' ? [] : [{ type: 'text', text: part.text, citations: null }]
    case 'thinking':
      return [toThought(part)]
    case 'call': {
      const use = { type: 'tool_use', id: toToolId(part.id), name: part.name, input: toInput(part) }
      return part.sealed === undefined ? [use] : [sealBlock(part.sealed), use]
    }
    case 'image':
      // Messages answers with no pictures.
      return [{ type: 'text', text: pictureNote(part.source), citations: null }]
    default:
      throw new Error(NO_PLACE)
  }
}

function toThought({ text, sealed, isRedacted }: Extract<Part, { readonly type: 'thinking' }>): unknown {
  const signature = packSeal({ of: 'thought', sealed }, ANTHROPIC)
  return isRedacted
    ? { type: 'redacted_thinking', data: signature }
    : { type: 'thinking', thinking: text, signature }
}

/** Where a call is sealed and not the thought before it, the seal comes back in a thought of its own. */
function sealBlock(sealed: Seal): unknown {
  return { type: 'thinking', thinking: '', signature: packSeal({ of: 'call', sealed }, ANTHROPIC) }
}

/** Ids that callers may give to Anthropic again: no two of an answer become one. */
function createToolIds(to: AnswerTo): (id: string) => string {
  const toId = createCallIds(to, 'toolu_')
  return (id) => toId(toPlainId(id))
}

// --- streams ---------------------------------------------------------------------------------------------------

/** What is held back while a call is being written that is not known to be whole, in characters. */
const MOST_HELD = 8 * 1024 * 1024

type Call = Extract<ChatEvent, { readonly type: 'call' }>

type Open =
  | { readonly type: 'text' }
  | { readonly type: 'thinking' }
  | {
      readonly type: 'call'
      readonly call: number
      readonly end: JsonEnd
      readonly isCustom: boolean
      custom: string
      said: boolean
    }

/** What waits for its turn, in the order in which it began. */
type Waiting =
  | { readonly type: 'text'; text: string }
  | {
      readonly type: 'thought'
      text: string
      seal: { readonly sealed: Seal; readonly isRedacted: boolean } | undefined
    }
  | { readonly type: 'call'; readonly event: Call; text: string }

/** What one takes that says nothing. */
const LEAST_CHARS = 64

function charsOf(one: Waiting): number {
  if (one.type === 'call') return LEAST_CHARS + one.text.length + one.event.name.length + one.event.id.length
  return LEAST_CHARS + one.text.length + (one.type === 'thought' ? (one.seal?.sealed.value.length ?? 0) : 0)
}

/**
 * Writes the stream. Parallel calls that come interleaved are written one behind the other, each as soon as the one
 * before it is whole; so is text that comes while a call is being written. Thoughts that come in the middle of text do
 * not cut it, unless they are sealed: then they are a thought by themselves.
 */
export function createWriter(to: AnswerTo): EventWriter {
  const toToolId = createToolIds(to)
  let started = false
  let out = ''
  let index = -1
  let open: Open | undefined
  let waiting: Waiting[] = []
  let heldChars = 0
  /** A thought that came while text was open. */
  let lateThought = ''
  let usage: Usage | undefined
  let finish: Finish = 'stop'
  let stopSequence: string | undefined
  let refusal: string | undefined
  let hasCalls = false

  function emit(type: string, members: string): void {
    out += `event: ${type}\ndata: {"type":"${type}"${members}}\n\n`
  }

  function start(id: string, model: string): void {
    if (started) return
    started = true
    const message = {
      id: toMessageId(id, to),
      type: 'message',
      role: 'assistant',
      model,
      content: [],
      stop_reason: null,
      stop_sequence: null,
      stop_details: null,
      usage: writeUsage(usage),
    }
    emit('message_start', `,"message":${JSON.stringify(message)}`)
  }

  function begin(block: unknown): void {
    index += 1
    emit('content_block_start', `,"index":${index},"content_block":${JSON.stringify(block)}`)
  }

  function delta(type: string, name: string, value: string): void {
    emit(
      'content_block_delta',
      `,"index":${index},"delta":{"type":"${type}","${name}":${JSON.stringify(value)}}`,
    )
  }

  function stop(): void {
    emit('content_block_stop', `,"index":${index}`)
  }

  /** Ends the block that is open, with what is still due to it. */
  function close(): void {
    const block = open
    open = undefined
    if (block === undefined) return
    if (block.type === 'thinking') {
      delta('signature_delta', 'signature', packSeal({ of: 'thought', sealed: undefined }, ANTHROPIC))
    } else if (block.type === 'call') {
      if (block.isCustom) delta('input_json_delta', 'partial_json', JSON.stringify(wrapCustom(block.custom)))
      // Clients read the input from the deltas alone.
      else if (!block.said) delta('input_json_delta', 'partial_json', '{}')
    }
    stop()
    const text = takeLateThought()
    if (text === '') return
    think(text)
    close()
  }

  function takeLateThought(): string {
    const text = lateThought
    heldChars -= text.length
    lateThought = ''
    return text
  }

  function say(text: string): void {
    if (open?.type !== 'text') {
      close()
      begin({ type: 'text', text: '', citations: null })
      open = { type: 'text' }
    }
    delta('text_delta', 'text', text)
  }

  function think(text: string): void {
    if (open?.type !== 'thinking') {
      close()
      begin({ type: 'thinking', thinking: '', signature: '' })
      open = { type: 'thinking' }
    }
    if (text !== '') delta('thinking_delta', 'thinking', text)
  }

  function seal({ sealed, isRedacted }: { readonly sealed: Seal; readonly isRedacted: boolean }): void {
    const signature = packSeal({ of: 'thought', sealed }, ANTHROPIC)
    if (isRedacted) {
      close()
      begin({ type: 'redacted_thinking', data: signature })
      stop()
      return
    }
    const text = takeLateThought()
    if (open?.type !== 'thinking') think(text)
    delta('signature_delta', 'signature', signature)
    open = undefined
    stop()
  }

  function openCall({ call, id, name, kind, sealed }: Call): void {
    close()
    if (sealed !== undefined) {
      begin({ type: 'thinking', thinking: '', signature: '' })
      delta('signature_delta', 'signature', packSeal({ of: 'call', sealed }, ANTHROPIC))
      stop()
    }
    hasCalls = true
    begin({ type: 'tool_use', id: toToolId(id), name, input: {} })
    open = { type: 'call', call, end: createJsonEnd(), isCustom: kind === 'custom', custom: '', said: false }
  }

  function addArguments(block: Extract<Open, { readonly type: 'call' }>, text: string): void {
    if (text === '') return
    if (block.isCustom) {
      hold(text.length)
      block.custom += text
      return
    }
    block.said = true
    block.end.push(text)
    delta('input_json_delta', 'partial_json', text)
  }

  function hold(chars: number): void {
    heldChars += chars
    if (heldChars > MOST_HELD)
      throw new GatewayError(
        'upstream_incomplete',
        'The answer writes more tool calls at once than can be held back.',
      )
  }

  /** Whether something else would have to wait. */
  function isBusy(): boolean {
    return waiting.length > 0 || (open?.type === 'call' && !open.end.isWhole())
  }

  function addText(text: string): void {
    if (text === '') return
    if (!isBusy()) return say(text)
    hold(text.length)
    const last = waiting.at(-1)
    if (last?.type === 'text') last.text += text
    else waiting.push({ type: 'text', text })
  }

  /** In a block of its own, as far as nothing else waits. */
  function addPicture(source: Source): void {
    if (!isBusy()) close()
    addText(pictureNote(source))
    if (open?.type === 'text') close()
  }

  function addThought(text: string): void {
    if (text === '') return
    if (!isBusy()) {
      if (open?.type !== 'text') return think(text)
      hold(text.length)
      lateThought += text
      return
    }
    hold(text.length)
    const last = waiting.at(-1)
    if (last?.type === 'thought' && last.seal === undefined) last.text += text
    else waiting.push({ type: 'thought', text, seal: undefined })
  }

  function addSeal(event: Extract<ChatEvent, { readonly type: 'seal' }>): void {
    const { sealed, isRedacted } = event
    if (!isBusy()) return seal(event)
    hold(sealed.value.length)
    const last = waiting.at(-1)
    if (!isRedacted && last?.type === 'thought' && last.seal === undefined) last.seal = { sealed, isRedacted }
    else waiting.push({ type: 'thought', text: '', seal: { sealed, isRedacted } })
  }

  function addCall(event: Call): void {
    if (!isBusy()) return openCall(event)
    const one: Waiting = { type: 'call', event, text: '' }
    hold(charsOf(one))
    waiting.push(one)
  }

  function addCallArguments(call: number, text: string): void {
    if (open?.type === 'call' && open.call === call) {
      addArguments(open, text)
      if (open.end.isWhole()) drain(false)
      return
    }
    const held = waiting.find((one) => one.type === 'call' && one.event.call === call)
    if (held === undefined) {
      // Behind its end a call has nothing but white space to say; the caller may have run it by now.
      if (text.trim() !== '') throw new Error('arguments behind the end of a call')
      return
    }
    hold(text.length)
    held.text += text
  }

  /** Writes what waits, up to a call that is not known to be whole; all of it where nothing more can come. */
  function drain(isOver: boolean): void {
    const queue = waiting
    waiting = []
    let at = 0
    for (; at < queue.length; at += 1) {
      if (!isOver && isBusy()) break
      const next = queue[at]
      if (next === undefined) break
      heldChars -= charsOf(next)
      if (next.type === 'call') {
        openCall(next.event)
        if (open?.type === 'call') addArguments(open, next.text)
      } else if (next.type === 'text') say(next.text)
      else {
        if (next.text !== '') think(next.text)
        if (next.seal !== undefined) seal(next.seal)
      }
    }
    waiting = queue.slice(at)
  }

  function take(event: ChatEvent): void {
    if ('choice' in event && event.choice !== 0) return
    if (event.type === 'start') {
      usage = event.usage ?? usage
      return start(event.id, event.model)
    }
    start('', '')
    switch (event.type) {
      case 'text':
        return addText(event.text)
      case 'refusal':
        refusal = (refusal ?? '') + event.text
        return addText(event.text)
      case 'thinking':
        return addThought(event.text)
      case 'image':
        return addPicture(event.source)
      case 'seal':
        return addSeal(event)
      case 'call':
        return addCall(event)
      case 'arguments':
        return addCallArguments(event.call, event.text)
      case 'finish':
        finish = event.finish
        stopSequence = event.stopSequence
        return
      case 'usage':
        usage = event.usage
        return
      case 'logprobs':
        return
    }
  }

  function taken(): string {
    const text = out
    out = ''
    return text
  }

  return {
    write(event) {
      take(event)
      return taken()
    },
    end() {
      start('', '')
      drain(true)
      close()
      const reason = toStopReason({ finish, stopSequence, hasCalls, hasRefusal: refusal !== undefined })
      const told = {
        stop_reason: reason,
        stop_sequence: reason === 'stop_sequence' ? (stopSequence ?? null) : null,
        stop_details: reason === 'refusal' ? refusalDetails(refusal) : null,
      }
      emit('message_delta', `,"delta":${JSON.stringify(told)},"usage":${JSON.stringify(writeUsage(usage))}`)
      emit('message_stop', '')
      return taken()
    },
  }
}
