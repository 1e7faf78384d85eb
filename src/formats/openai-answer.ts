// An answer in OpenAI's chat: a provider's, whole or streamed, read into canonical form; and one for a caller, written
// from it. Pure. Mends what compatible servers are known to get wrong about the calls of tools (wire §1.3).

import { createHash } from 'node:crypto'
import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Usage } from '../types.ts'
import { createCallIds } from './call-ids.ts'
import type { CallPart, ChatEvent, ChatReply, Choice, Finish, Part, Seal, ThinkingPart } from './canonical.ts'
import { type CustomInput, createCustomInput } from './custom-input.ts'
import { MOST_CALLS, secondsOf } from './facts.ts'
import type { AnswerTo, EventReader, EventWriter, WrittenRequest } from './format.ts'
import { createJsonEnd, type JsonEnd } from './json-end.ts'
import {
  detailText,
  isSealed,
  ownSeal,
  plainText,
  readCallSeal,
  toDetail,
  writeCallSeal,
} from './openai-reasoning.ts'
import { argumentsText } from './openai-request.ts'
import { readUsage, writeUsage } from './openai-usage.ts'
import { readChatPictures, toChatPicture, toPicture } from './pictures.ts'
import { toToolName, unwrapCustom } from './tool-names.ts'

type Members = Readonly<Record<string, unknown>>

// --- a provider's, whole ---------------------------------------------------------------------------------------

/** Of a body that has been found good. */
export function readChatReply(body: Buffer, { names }: WrittenRequest): ChatReply {
  const reply = parseObject(body.toString('utf8')) ?? {}
  const choices = Array.isArray(reply.choices) ? reply.choices : []
  return {
    id: textOf(reply.id),
    createdSeconds: secondsOf(reply.created),
    model: textOf(reply.model),
    choices: choices.map((choice, index) => {
      const id = textOf(reply.id)
      return readChoice(choice, id === '' ? '' : `${id} ${index}`, names)
    }),
    usage: readUsage(reply),
    serviceTier: typeof reply.service_tier === 'string' ? reply.service_tier : undefined,
  }
}

function readChoice(choice: unknown, salt: string, names: WrittenRequest['names']): Choice {
  const written = isObject(choice) ? choice : {}
  const message = isObject(written.message) ? written.message : {}
  const content: Part[] = [...readReasoning(message), ...readSaid(message.content)]
  if (textOf(message.refusal) !== '') content.push({ type: 'refusal', text: textOf(message.refusal) })
  content.push(...readChatPictures(message.images).map(toPicture))
  for (const [index, call] of callsOf(message).entries()) {
    const read = readCall(call, salt === '' ? '' : `${salt} ${index}`, names)
    if (read !== undefined) content.push(read)
  }
  const calls = content.some((part) => part.type === 'call')
  return {
    content,
    finish: toFinish(written.finish_reason, calls),
    stopSequence: typeof written.stop_reason === 'string' ? written.stop_reason : undefined,
    logprobs: written.logprobs ?? undefined,
  }
}

/** Text of its reasoning, and what of it must come back to the provider as it was. */
function readReasoning(message: Members): ThinkingPart[] {
  const details = Array.isArray(message.reasoning_details) ? message.reasoning_details : []
  const text = plainText(message) || details.map(detailText).join('')
  const sealed = details.filter(isSealed)
  const thoughts: ThinkingPart[] = sealed.map((detail, index) => ({
    type: 'thinking',
    text: index === 0 ? text : '',
    sealed: ownSeal(detail),
    isRedacted: false,
  }))
  if (thoughts.length > 0 || text === '') return thoughts
  return [{ type: 'thinking', text, sealed: undefined, isRedacted: false }]
}

/** Text, or a list: Mistral's of text and thinking, others' of text and pictures. */
function readSaid(content: unknown): Part[] {
  if (typeof content === 'string') return content === '' ? [] : [{ type: 'text', text: content }]
  if (!Array.isArray(content)) return []
  return content.flatMap((part): Part[] => {
    if (typeof part === 'string') return [{ type: 'text', text: part }]
    if (!isObject(part)) return []
    if (part.type === 'thinking') {
      const text = thinkingText(part.thinking)
      return text === '' ? [] : [{ type: 'thinking', text, sealed: undefined, isRedacted: false }]
    }
    if (part.type === 'image_url') return readChatPictures([part]).map(toPicture)
    return textOf(part.text) === '' ? [] : [{ type: 'text', text: textOf(part.text) }]
  })
}

function thinkingText(thinking: unknown): string {
  if (typeof thinking === 'string') return thinking
  if (!Array.isArray(thinking)) return ''
  return thinking.map((part) => (isObject(part) ? textOf(part.text) : '')).join('')
}

/** The calls of a message, the one of the legacy kind among them. */
function callsOf(message: Members): readonly unknown[] {
  const calls = Array.isArray(message.tool_calls) ? message.tool_calls : []
  return isObject(message.function_call) ? [...calls, { function: message.function_call }] : calls
}

function readCall(call: unknown, salt: string, names: WrittenRequest['names']): CallPart | undefined {
  if (!isObject(call)) return undefined
  const custom = isObject(call.custom) ? call.custom : undefined
  const inner = custom ?? (isObject(call.function) ? call.function : call)
  const wire = textOf(inner.name)
  const args = argumentsText(custom === undefined ? inner.arguments : custom.input)
  if (wire === '') return noCall(args)
  const { name, namespace, kind } = toToolName(names, wire)
  const isWrapped = custom === undefined && kind === 'custom'
  return {
    type: 'call',
    kind: custom === undefined ? kind : 'custom',
    id: textOf(call.id) || newCallId(salt, `${wire} ${args}`),
    name,
    namespace,
    arguments: isWrapped ? unwrapCustom(args) : args,
    sealed: sealOf(call),
  }
}

const NO_NAME = 'a call without a name'

/** Without a name nobody can be called. Some servers give empty ones; one that says something must not be lost unseen. */
function noCall(args: string): undefined {
  if (args.trim() !== '') throw new Error(NO_NAME)
}

/** Some servers give calls no id: one that is the same for the same call. */
function newCallId(answer: string, call: string): string {
  // Where the answer has none either, the next one would have the same: whoever writes it finds one.
  return answer === ''
    ? ''
    : `call_${createHash('sha256').update(`${answer} ${call}`).digest('hex').slice(0, 24)}`
}

function sealOf(call: Members): Seal | undefined {
  return readCallSeal(call) === undefined ? undefined : ownSeal({ extra_content: call.extra_content })
}

/**
 * Some say `stop` beside the calls of tools (Ollama, Gemini's compatible endpoint), and some that there are calls where
 * there are none.
 */
function toFinish(reason: unknown, calls: boolean): Finish {
  if (reason === 'length' || reason === 'max_tokens' || reason === 'model_length') return 'length'
  // Gemini's compatible endpoint says what was found behind a colon.
  if (typeof reason === 'string' && /^content_filter\b/.test(reason)) return 'content_filter'
  return calls ? 'tool_calls' : 'stop'
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

// --- a provider's, streamed ------------------------------------------------------------------------------------

/** More than `n` may be. */
const MOST_CHOICES = 128
const CALL_REASONS: ReadonlySet<string> = new Set(['tool_calls', 'function_call'])

interface OpenCall extends KnownCall {
  /** Its number among the calls of the choice; undefined until its name is known. */
  number: number | undefined
  sealed: Seal | undefined
  /** What came before its name did. */
  held: string
  /** Takes its free text out of the arguments. */
  custom: CustomInput | undefined
}

interface OpenChoice {
  /** From 0 in the order in which they began, whatever the wire has. */
  readonly number: number
  readonly calls: OpenCall[]
  last: OpenCall | undefined
  /** Calls that have a name. */
  named: number
  hasSpoken: boolean
  isOver: boolean
}

export function createChatReader({ names }: WrittenRequest): EventReader {
  const choices = new Map<number, OpenChoice>()
  let id = ''
  let hasBegun = false

  return {
    read({ data }) {
      const chunk = data === undefined || data === '[DONE]' ? undefined : parseObject(data)
      if (chunk === undefined) return []
      const events: ChatEvent[] = []
      const list = Array.isArray(chunk.choices) ? chunk.choices : []
      const usage = readUsage(chunk)
      if (!hasBegun) {
        // Azure's first chunk has neither choices nor a name.
        if (list.length === 0 && usage === undefined) return []
        hasBegun = true
        id = textOf(chunk.id)
        const createdSeconds = secondsOf(chunk.created)
        events.push({ type: 'start', id, model: textOf(chunk.model), createdSeconds, usage: undefined })
      }
      for (const choice of list) if (isObject(choice)) readDelta(choice, events)
      if (usage !== undefined) events.push({ type: 'usage', usage })
      return events
    },
  }

  function readDelta(choice: Members, events: ChatEvent[]): void {
    const index = typeof choice.index === 'number' ? choice.index : 0
    let open = choices.get(index)
    if (open === undefined) {
      if (choices.size >= MOST_CHOICES) throw new Error('more choices than anybody can ask for')
      const number = choices.size
      open = { number, calls: [], last: undefined, named: 0, hasSpoken: false, isOver: false }
      choices.set(index, open)
    }
    const before = events.length
    const { delta, message } = choice
    if (isObject(delta)) readSpoken(delta, open, events)
    else if (textOf(choice.text) !== '')
      events.push({ type: 'text', choice: open.number, text: textOf(choice.text) })
    // A server that does not stream may say all of it in one event, as it would without one.
    else if (isObject(message) && !open.hasSpoken) readSpoken(message, open, events)
    open.hasSpoken ||= events.length > before
    if (choice.logprobs !== undefined && choice.logprobs !== null)
      events.push({ type: 'logprobs', choice: open.number, logprobs: choice.logprobs })
    // Behind its end stand Azure's filter and OpenRouter's usage; some servers give their reason in every chunk.
    if (!open.isOver) finishChoice(choice, open, events)
  }

  function finishChoice(choice: Members, open: OpenChoice, events: ChatEvent[]): void {
    const { finish_reason: reason, stop_reason: stop } = choice
    if (typeof reason !== 'string' || reason === '') return
    open.isOver = true
    for (const call of open.calls) close(call, open.number, events)
    if (open.named === 0 && open.calls.length > 0 && CALL_REASONS.has(reason)) throw new Error(NO_NAME)
    events.push({
      type: 'finish',
      choice: open.number,
      finish: toFinish(reason, open.named > 0),
      stopSequence: typeof stop === 'string' ? stop : undefined,
    })
  }

  function readSpoken(delta: Members, open: OpenChoice, events: ChatEvent[]): void {
    const choice = open.number
    const details = Array.isArray(delta.reasoning_details) ? delta.reasoning_details : []
    const thought = plainText(delta) || details.map(detailText).join('')
    if (thought !== '') events.push({ type: 'thinking', choice, text: thought })
    for (const detail of details)
      if (isSealed(detail)) events.push({ type: 'seal', choice, sealed: ownSeal(detail), isRedacted: false })
    for (const part of readSaid(delta.content)) {
      if (part.type === 'text') events.push({ type: 'text', choice, text: part.text })
      else if (part.type === 'thinking') events.push({ type: 'thinking', choice, text: part.text })
      else if (part.type === 'image') events.push({ type: 'image', choice, source: part.source })
    }
    if (textOf(delta.refusal) !== '') events.push({ type: 'refusal', choice, text: textOf(delta.refusal) })
    for (const source of readChatPictures(delta.images)) events.push({ type: 'image', choice, source })
    for (const fragment of callsOf(delta)) if (isObject(fragment)) readFragment(fragment, open, events)
  }

  function readFragment(fragment: Members, open: OpenChoice, events: ChatEvent[]): void {
    const choice = open.number
    const custom = isObject(fragment.custom) ? fragment.custom : undefined
    const inner = custom ?? (isObject(fragment.function) ? fragment.function : {})
    const name = textOf(inner.name)
    const text = argumentsText(custom === undefined ? inner.arguments : custom.input)
    const call = findCall(fragment, name, open)
    if (call.number === undefined) {
      call.id ||= textOf(fragment.id)
      call.sealed ??= sealOf(fragment)
      call.name ||= name
      if (call.name === '') {
        call.held += text
        return
      }
      call.number = open.named
      open.named += 1
      const tool = toToolName(names, call.name)
      const kind = custom === undefined ? tool.kind : 'custom'
      if (custom === undefined && kind === 'custom') call.custom = createCustomInput()
      const callId = call.id || newCallId(id, `${choice} ${call.number} ${call.name}`)
      const { number, sealed } = call
      const { name: called, namespace } = tool
      events.push({ type: 'call', choice, call: number, kind, id: callId, name: called, namespace, sealed })
    }
    say(call, call.held + text, choice, events)
    call.held = ''
  }

  function findCall(fragment: Members, name: string, open: OpenChoice): OpenCall {
    const known = knownCall(fragment, name, open)
    if (known !== undefined) {
      open.last = known
      return known
    }
    if (open.calls.length >= MOST_CALLS) throw new Error('more calls than anybody makes')
    const call: OpenCall = {
      index: typeof fragment.index === 'number' ? fragment.index : undefined,
      number: undefined,
      id: '',
      name: '',
      sealed: undefined,
      held: '',
      end: createJsonEnd(),
      custom: undefined,
    }
    open.calls.push(call)
    open.last = call
    return call
  }
}

/** As far as a call must be known to find the fragments that belong to it. */
export interface KnownCall {
  /** As the wire has it; two may have the same. */
  readonly index: number | undefined
  id: string
  name: string
  /** Whether its arguments are whole: then what has a name again is another. */
  readonly end: JsonEnd
}

/**
 * Which call a fragment belongs to; undefined for one that begins with it. An index may be missing, or the same for all
 * (Ollama); an id may be missing, or another with each fragment. A name stands in the first fragment of a call and, with
 * most, in no other.
 */
export function knownCall<T extends KnownCall>(
  fragment: Members,
  name: string,
  { calls, last }: { readonly calls: readonly T[]; readonly last: T | undefined },
): T | undefined {
  const index = typeof fragment.index === 'number' ? fragment.index : undefined
  const id = textOf(fragment.id)
  const known =
    index === undefined
      ? (calls.find((call) => id !== '' && call.id === id) ?? last)
      : calls.findLast((call) => call.index === index)
  const begins = name !== '' && known !== undefined && known.name !== ''
  const isOther = begins && (id !== '' && known.id !== '' ? id !== known.id : known.end.isWhole())
  return isOther ? undefined : known
}

function say(call: OpenCall, text: string, choice: number, events: ChatEvent[]): void {
  if (text === '' || call.number === undefined) return
  call.end.push(text)
  const said = call.custom === undefined ? text : call.custom.push(text)
  if (said !== '') events.push({ type: 'arguments', choice, call: call.number, text: said })
}

/** What of a free text could not be told before its end. */
function close({ custom, number, held }: OpenCall, choice: number, events: ChatEvent[]): void {
  if (number === undefined) noCall(held)
  const text = custom?.end() ?? ''
  if (text !== '' && number !== undefined) events.push({ type: 'arguments', choice, call: number, text })
}

// --- for a caller, whole ---------------------------------------------------------------------------------------

/** A caller that offers `functions` reads no `tool_calls`. */
function isLegacy({ sent }: AnswerTo): boolean {
  return Array.isArray(sent.functions) && !Array.isArray(sent.tools)
}

export function writeChatReply(reply: ChatReply, to: AnswerTo): unknown {
  return {
    id: reply.id || to.nextId('chatcmpl-'),
    object: 'chat.completion',
    created: reply.createdSeconds ?? to.nowSeconds,
    model: reply.model || textOf(to.sent.model),
    choices: reply.choices.map(({ content, finish, logprobs }, index) => ({
      index,
      message: writeMessage(content, to),
      logprobs: logprobs ?? null,
      finish_reason: finish === 'tool_calls' && isLegacy(to) ? 'function_call' : finish,
    })),
    ...(reply.usage !== undefined && { usage: writeUsage(reply.usage) }),
    ...(reply.serviceTier !== undefined && { service_tier: reply.serviceTier }),
  }
}

function writeMessage(content: readonly Part[], to: AnswerTo): unknown {
  const thoughts = content.filter((part) => part.type === 'thinking')
  const thought = thoughts.map(({ text }) => text).join('')
  const said = content.flatMap((part) => (part.type === 'text' ? part.text : []))
  const refusal = content.flatMap((part) => (part.type === 'refusal' ? part.text : []))
  const pictures = content.filter((part) => part.type === 'image')
  const toId = createCallIds(to)
  const calls = content.flatMap((part) => (part.type === 'call' ? { ...part, id: toId(part.id) } : []))
  const [first] = calls
  const tools =
    first === undefined
      ? {}
      : isLegacy(to)
        ? { function_call: { name: first.name, arguments: first.arguments || '{}' } }
        : { tool_calls: calls.map(writeCall) }
  return {
    role: 'assistant',
    content: said.length === 0 && (calls.length > 0 || refusal.length > 0) ? null : said.join(''),
    refusal: refusal.length === 0 ? null : refusal.join(''),
    ...(thought !== '' && { reasoning_content: thought }),
    ...(thoughts.some(({ sealed }) => sealed !== undefined) && { reasoning_details: thoughts.map(toDetail) }),
    ...(pictures.length > 0 && { images: pictures.map(({ source }, i) => toChatPicture(source, i)) }),
    ...tools,
  }
}

function writeCall(call: CallPart): unknown {
  const { id, name, arguments: args, sealed } = call
  const seal = writeCallSeal(sealed)
  return call.kind === 'custom'
    ? { id, type: 'custom', custom: { name, input: args }, ...seal }
    : { id, type: 'function', function: { name, arguments: args || '{}' }, ...seal }
}

// --- for a caller, streamed ------------------------------------------------------------------------------------

/** What is known of a choice on its way. */
interface WrittenChoice {
  /** Text of the thought under way: whoever hands its seal back needs both. */
  thought: string
  thoughts: number
  pictures: number
  /** Told at the end: some providers give their reason with every piece. */
  finish: Finish | undefined
  readonly toId: (id: string) => string
  /** By their number; whether any arguments came. */
  readonly calls: Map<number, { readonly kind: CallPart['kind']; hasArguments: boolean }>
}

export function createChatWriter(to: AnswerTo): EventWriter {
  const choices = new Map<number, WrittenChoice>()
  const tellsUsage = to.request.includeUsage
  const legacy = isLegacy(to)
  let usage: Usage | undefined
  let front = ''
  const back = tellsUsage ? ',"usage":null}\n\n' : '}\n\n'

  function begin(id: string, model: string, createdSeconds: number | undefined): void {
    const stamp = {
      id: id || to.nextId('chatcmpl-'),
      object: 'chat.completion.chunk',
      created: createdSeconds ?? to.nowSeconds,
      model: model || textOf(to.sent.model),
    }
    front = `data: ${JSON.stringify(stamp).slice(0, -1)},"choices":[`
  }

  /** `delta` is JSON. */
  function chunk(choice: number, delta: string, finish = 'null', logprobs = 'null'): string {
    return `${front}{"index":${choice},"delta":${delta},"logprobs":${logprobs},"finish_reason":${finish}}]${back}`
  }

  function toolChunk(choice: number, member: unknown): string {
    return chunk(choice, JSON.stringify({ tool_calls: [member] }))
  }

  /** The first thing that a choice says names its role. */
  function enter(choice: number): { readonly open: WrittenChoice; readonly role: string } {
    if (front === '') begin('', '', undefined)
    let open = choices.get(choice)
    if (open !== undefined) return { open, role: '' }
    open = {
      thought: '',
      thoughts: 0,
      pictures: 0,
      finish: undefined,
      toId: createCallIds(to),
      calls: new Map(),
    }
    choices.set(choice, open)
    return { open, role: chunk(choice, '{"role":"assistant","content":"","refusal":null}') }
  }

  function writeSeal(open: WrittenChoice, sealed: Seal, isRedacted: boolean): string {
    const part: ThinkingPart = { type: 'thinking', text: isRedacted ? '' : open.thought, sealed, isRedacted }
    const detail = toDetail(part, open.thoughts)
    open.thoughts += 1
    if (!isRedacted) open.thought = ''
    return JSON.stringify({ reasoning_details: [detail] })
  }

  /** Arguments that never came are none. */
  function finishCalls(choice: number, { calls }: WrittenChoice): string {
    let frames = ''
    for (const [index, { kind, hasArguments }] of calls) {
      if (hasArguments || kind === 'custom') continue
      frames += legacy
        ? chunk(choice, '{"function_call":{"arguments":"{}"}}')
        : toolChunk(choice, { index, function: { arguments: '{}' } })
    }
    return frames
  }

  function finishChoice(choice: number, open: WrittenChoice): string {
    if (open.finish === undefined) return ''
    const finish = open.finish === 'stop' && open.calls.size > 0 ? 'tool_calls' : open.finish
    const reason = legacy && finish === 'tool_calls' ? 'function_call' : finish
    return finishCalls(choice, open) + chunk(choice, '{}', JSON.stringify(reason))
  }

  return {
    write(event) {
      switch (event.type) {
        case 'start':
          begin(event.id, event.model, event.createdSeconds)
          usage = event.usage
          return ''
        case 'text':
          return enter(event.choice).role + chunk(event.choice, `{"content":${JSON.stringify(event.text)}}`)
        case 'refusal':
          return enter(event.choice).role + chunk(event.choice, `{"refusal":${JSON.stringify(event.text)}}`)
        case 'thinking': {
          const { open, role } = enter(event.choice)
          open.thought += event.text
          return role + chunk(event.choice, `{"reasoning_content":${JSON.stringify(event.text)}}`)
        }
        case 'image': {
          const { open, role } = enter(event.choice)
          const images = [toChatPicture(event.source, open.pictures)]
          open.pictures += 1
          return role + chunk(event.choice, JSON.stringify({ images }))
        }
        case 'seal': {
          const { open, role } = enter(event.choice)
          return role + chunk(event.choice, writeSeal(open, event.sealed, event.isRedacted))
        }
        case 'call': {
          const { choice, call: index, kind, name } = event
          // Where a message has one call there is no place for a second.
          if (legacy && index > 0) return ''
          const { open, role } = enter(choice)
          const id = open.toId(event.id)
          open.calls.set(index, { kind, hasArguments: false })
          if (legacy) return role + chunk(choice, JSON.stringify({ function_call: { name, arguments: '' } }))
          const inner =
            kind === 'custom' ? { custom: { name, input: '' } } : { function: { name, arguments: '' } }
          return role + toolChunk(choice, { index, id, type: kind, ...inner, ...writeCallSeal(event.sealed) })
        }
        case 'arguments': {
          const { choice, call: index, text } = event
          if (text === '' || (legacy && index > 0)) return ''
          const call = enter(choice).open.calls.get(index)
          if (call !== undefined) call.hasArguments = true
          if (legacy) return chunk(choice, JSON.stringify({ function_call: { arguments: text } }))
          return toolChunk(
            choice,
            call?.kind === 'custom'
              ? { index, custom: { input: text } }
              : { index, function: { arguments: text } },
          )
        }
        case 'finish': {
          const { open, role } = enter(event.choice)
          open.finish = event.finish
          return role
        }
        case 'usage':
          usage = event.usage
          return ''
        case 'logprobs':
          return enter(event.choice).role + chunk(event.choice, '{}', 'null', JSON.stringify(event.logprobs))
      }
    },
    end() {
      let frames = ''
      for (const [choice, open] of choices) frames += finishChoice(choice, open)
      const told =
        tellsUsage && usage !== undefined ? `${front}],"usage":${JSON.stringify(writeUsage(usage))}}\n\n` : ''
      return `${frames}${told}data: [DONE]\n\n`
    },
  }
}
