// What Gemini says, whole or streamed: every chunk of a stream is a reply of its own, whose parts are increments. Pure; it
// reads the members it knows and no others.

import { createHash } from 'node:crypto'
import { isObject, parseExactObject, parseObject } from '../bytes/json-value.ts'
import type { EventFacts, Operation, Usage } from '../types.ts'
import type { ChatEvent, ChatReply, Choice, Finish, Part, Seal, Source } from './canonical.ts'
import {
  CONTENT,
  count,
  createChoices,
  DONE,
  jsonTokens,
  MALFORMED,
  NOTHING,
  noAnswer,
  textTokens,
  toWatch,
  USAGE_ONLY,
} from './facts.ts'
import type { EventReader, StreamWatch, WholeFacts, WrittenRequest } from './format.ts'
import { toPicture } from './pictures.ts'
import { toToolName, unwrapCustom } from './tool-names.ts'

type Json = Readonly<Record<string, unknown>>

const FINISHES: ReadonlyMap<string, Finish> = new Map([
  ['STOP', 'stop'],
  ['MAX_TOKENS', 'length'],
  ['CONTINUATION', 'length'],
  ['SAFETY', 'content_filter'],
  ['RECITATION', 'content_filter'],
  ['LANGUAGE', 'content_filter'],
  ['BLOCKLIST', 'content_filter'],
  ['PROHIBITED_CONTENT', 'content_filter'],
  ['SPII', 'content_filter'],
  ['IMAGE_SAFETY', 'content_filter'],
  ['IMAGE_PROHIBITED_CONTENT', 'content_filter'],
  ['IMAGE_RECITATION', 'content_filter'],
  ['MODEL_ARMOR', 'content_filter'],
])

/** Nothing the model meant to say ends like this: another attempt, or another provider, may do better. */
const FAILURES: ReadonlySet<string> = new Set([
  'MALFORMED_FUNCTION_CALL',
  'UNEXPECTED_TOOL_CALL',
  'TOO_MANY_TOOL_CALLS',
  'MISSING_THOUGHT_SIGNATURE',
  'MALFORMED_RESPONSE',
  'NO_IMAGE',
  'IMAGE_OTHER',
  'OTHER',
])

// --- what it means for an attempt ------------------------------------------------------------------------------

export function watchGemini(): StreamWatch {
  const seen = createChoices()
  let usage: Usage | undefined
  let countedTokens = 0
  return toWatch({
    look(data): EventFacts {
      // Gemini has none; servers in front of it do.
      if (data === '[DONE]') return DONE
      const chunk = parseObject(data)
      if (chunk === undefined) return MALFORMED
      const error = errorText(chunk)
      if (error !== undefined) return { ...NOTHING, error }
      const counted = readUsage(chunk)
      if (counted !== undefined) usage = counted
      if (isBlocked(chunk)) {
        seen.see(0, true)
        return CONTENT
      }
      const candidates = listOf(chunk.candidates)
      if (candidates.length === 0) return counted === undefined ? NOTHING : USAGE_ONLY
      let content = false
      for (const candidate of candidates) {
        const failure = failureOf(candidate)
        if (failure !== undefined) return { ...NOTHING, error: failure }
        const index = indexOf(candidate)
        const tokens = candidateTokens(candidate)
        countedTokens += tokens
        content ||= tokens > 0
        const hasEnded = finishOf(candidate) !== undefined
        seen.see(index, hasEnded)
        content ||= hasEnded // an answer may be empty, but then it says so
      }
      return content ? CONTENT : NOTHING
    },
    finished: seen.finished,
    finishedChoices: seen.finishedChoices,
    usage: () => usage,
    countedTokens: () => countedTokens,
  })
}

/** `vectors` reads a reply of those. */
export function wholeGemini(
  operation: Operation,
  body: Buffer,
  vectors: (reply: Json) => WholeFacts,
): WholeFacts {
  if (body.length === 0) return noAnswer('empty')
  const reply = parseObject(body.toString('utf8'))
  if (reply === undefined) return noAnswer('malformed')
  const error = errorText(reply)
  if (error !== undefined) return noAnswer('in_band', error)
  if (operation === 'embeddings') return vectors(reply)
  if (isBlocked(reply))
    return { usage: readUsage(reply), countedTokens: 0, failure: undefined, error: undefined }
  if (reply.candidates !== undefined && !Array.isArray(reply.candidates)) return noAnswer('malformed')
  const candidates = listOf(reply.candidates)
  if (candidates.length === 0) return noAnswer('empty')
  let countedTokens = 0
  for (const candidate of candidates) {
    const failure = failureOf(candidate)
    if (failure !== undefined) return noAnswer('in_band', failure)
    if (finishOf(candidate) === undefined) return noAnswer('incomplete')
    countedTokens += candidateTokens(candidate)
  }
  return { usage: readUsage(reply), countedTokens, failure: undefined, error: undefined }
}

/** The error told inside a 200. */
function errorText({ error }: Json): string | undefined {
  if (error === undefined || error === null) return undefined
  return isObject(error) && typeof error.message === 'string' ? error.message : 'an error without a message'
}

/** Why a candidate is no answer. */
function failureOf({ finishReason, finishMessage }: Json): string | undefined {
  if (typeof finishReason !== 'string' || !FAILURES.has(finishReason)) return undefined
  const why = typeof finishMessage === 'string' && finishMessage !== '' ? `: ${finishMessage}` : ''
  return `finish reason ${finishReason}${why}`
}

/** The prompt itself was refused: there are no candidates then. */
function isBlocked({ promptFeedback, candidates }: Json): boolean {
  const reason = isObject(promptFeedback) ? promptFeedback.blockReason : undefined
  return (
    typeof reason === 'string' && reason !== 'BLOCK_REASON_UNSPECIFIED' && listOf(candidates).length === 0
  )
}

/** In chat's words; a reason that is not known ended the answer all the same. */
function finishOf({ finishReason }: Json): Finish | undefined {
  if (typeof finishReason !== 'string' || finishReason === '' || finishReason === 'FINISH_REASON_UNSPECIFIED')
    return undefined
  return FINISHES.get(finishReason) ?? 'stop'
}

function candidateTokens(candidate: Json): number {
  let tokens = 0
  for (const part of partsOf(candidate)) {
    if (isObject(part.functionCall)) tokens += jsonTokens(part.functionCall.args ?? '')
    else if (typeof part.text === 'string') tokens += textTokens(part.text)
    else if (isObject(part.inlineData) || isObject(part.fileData)) tokens += 1
  }
  return tokens
}

function partsOf({ content }: Json): readonly Json[] {
  return isObject(content) ? listOf(content.parts) : []
}

function indexOf({ index }: Json): number {
  return typeof index === 'number' ? index : 0
}

function listOf(list: unknown): readonly Json[] {
  return Array.isArray(list) ? list.filter(isObject) : []
}

// --- usage -----------------------------------------------------------------------------------------------------

/** What is cached is part of the prompt already; what was thought is not part of what was answered. */
export function readUsage({ usageMetadata: told }: Json): Usage | undefined {
  if (!isObject(told)) return undefined
  const prompt = count(told.promptTokenCount)
  const answer = count(told.candidatesTokenCount)
  const thought = count(told.thoughtsTokenCount)
  const total = count(told.totalTokenCount)
  if (prompt === undefined && answer === undefined) return undefined
  const input = (prompt ?? 0) + (count(told.toolUsePromptTokenCount) ?? 0)
  // Gemma's service tells only the prompt and the total.
  const output = answer ?? Math.max(0, (total ?? 0) - input - (thought ?? 0))
  return {
    inputTokens: input,
    cachedTokens: count(told.cachedContentTokenCount) ?? 0,
    cacheWriteTokens: 0,
    audioInputTokens: soundOf(told.promptTokensDetails),
    outputTokens: output + (thought ?? 0),
    reasoningTokens: thought ?? 0,
    audioOutputTokens: soundOf(told.candidatesTokensDetails),
    source: 'provider',
  }
}

function soundOf(details: unknown): number {
  return count(listOf(details).find(({ modality }) => modality === 'AUDIO')?.tokenCount) ?? 0
}

// --- what it says ----------------------------------------------------------------------------------------------

export function readGemini(body: Buffer, written: WrittenRequest, origin: string): ChatReply {
  const text = body.toString('utf8')
  const reply = parseExactObject(text) ?? {}
  const reader = createReader(written, origin)
  const choices = new Map<number, { content: Part[]; finish: Finish }>()
  let usage: Usage | undefined
  for (const event of reader.read(reply, text)) {
    if (event.type === 'start') continue
    if (event.type === 'usage') {
      usage = event.usage
      continue
    }
    const choice = choices.get(event.choice) ?? { content: [], finish: 'stop' }
    choices.set(event.choice, choice)
    if (event.type === 'finish') choice.finish = event.finish
    else addTo(choice.content, event)
  }
  return {
    id: idOf(reply),
    createdSeconds: createdSeconds(reply),
    model: modelOf(reply),
    choices: [...choices.entries()]
      .sort(([a], [b]) => a - b)
      .map(
        ([, { content, finish }]): Choice => ({
          content,
          finish,
          stopSequence: undefined,
          logprobs: undefined,
        }),
      ),
    usage,
    serviceTier: undefined,
  }
}

/** Of a whole reply, where a call and its arguments come in one. */
function addTo(content: Part[], event: ChatEvent): void {
  const last = content.at(-1)
  if (event.type === 'text') content.push({ type: 'text', text: event.text })
  else if (event.type === 'image') content.push(toPicture(event.source))
  else if (event.type === 'thinking')
    content.push({ type: 'thinking', text: event.text, sealed: undefined, isRedacted: false })
  else if (event.type === 'seal') {
    const { sealed, isRedacted } = event
    if (last?.type === 'thinking' && last.sealed === undefined)
      content[content.length - 1] = { ...last, sealed }
    else content.push({ type: 'thinking', text: '', sealed, isRedacted })
  } else if (event.type === 'call') {
    const { kind, id, name, namespace, sealed } = event
    content.push({ type: 'call', kind, id, name, namespace, arguments: '', sealed })
  } else if (event.type === 'arguments' && last?.type === 'call')
    content[content.length - 1] = { ...last, arguments: event.text }
}

export function eventsOfGemini(written: WrittenRequest, origin: string): EventReader {
  const reader = createReader(written, origin)
  return {
    read({ data }) {
      if (data === undefined || data === '[DONE]') return []
      const chunk = parseExactObject(data)
      // Nothing may be left out of an answer unseen.
      if (chunk === undefined) throw new Error('an event of a stream that cannot be read')
      return reader.read(chunk, data)
    },
  }
}

interface Progress {
  /** From 0 in the order in which they began, whatever the wire has. */
  readonly number: number
  calls: number
  finished: boolean
}

/** The picture that a part holds. Sound, and whatever else comes to be, has no place in an answer of text. */
function pictureOf({ inlineData, fileData }: Json): Source | undefined {
  const told = isObject(inlineData) ? inlineData : isObject(fileData) ? fileData : undefined
  if (told === undefined) return undefined
  const { mimeType, data, fileUri } = told
  if (typeof mimeType === 'string' && /^image\//i.test(mimeType)) {
    if (typeof data === 'string') return { kind: 'base64', mediaType: mimeType, base64: data }
    if (typeof fileUri === 'string') return { kind: 'url', url: fileUri, mediaType: mimeType }
  }
  throw new Error('a part that is neither text nor a picture')
}

/** Where a part stands. */
interface Place {
  readonly progress: Progress
  /** What makes the ids of its calls others than those of other answers. */
  readonly salt: string
}

/** More than `candidateCount` may be. */
const MOST_CHOICES = 128

function createReader(
  written: WrittenRequest,
  origin: string,
): { read(chunk: Json, text: string): ChatEvent[] } {
  const choices = new Map<number, Progress>()
  let started = false
  let usage: Usage | undefined
  let isUsageTold = true

  function progressOf(index: number): Progress {
    const known = choices.get(index)
    if (known !== undefined) return known
    if (choices.size >= MOST_CHOICES) throw new Error('more candidates than anybody can ask for')
    const progress = { number: choices.size, calls: 0, finished: false }
    choices.set(index, progress)
    return progress
  }

  function finish(progress: Progress, told: Finish): ChatEvent[] {
    if (progress.finished) return []
    progress.finished = true
    // It says STOP where it calls, too.
    const reason = told === 'stop' && progress.calls > 0 ? 'tool_calls' : told
    return [{ type: 'finish', choice: progress.number, finish: reason, stopSequence: undefined }]
  }

  function toSeal({ thoughtSignature }: Json): Seal | undefined {
    return typeof thoughtSignature === 'string' && thoughtSignature !== ''
      ? { origin, value: thoughtSignature }
      : undefined
  }

  function readCall(part: Json, call: Json, { progress, salt }: Place): ChatEvent[] {
    const choice = progress.number
    // In pieces only where that was asked for: without them the call would be made with other arguments.
    if (call.willContinue === true || call.partialArgs !== undefined) throw new Error('a piece of a call')
    if (typeof call.name !== 'string' || call.name === '') {
      if (call.args !== undefined) throw new Error('a call without a name')
      return []
    }
    if (written.oneCall === true && progress.calls > 0) return []
    const index = progress.calls
    progress.calls += 1
    const { name, namespace, kind } = toToolName(written.names, call.name)
    const json = JSON.stringify(call.args ?? {})
    const id = typeof call.id === 'string' && call.id !== '' ? call.id : mintId(salt, choice, index)
    return [
      { type: 'call', choice, call: index, kind, id, name, namespace, sealed: toSeal(part) },
      { type: 'arguments', choice, call: index, text: kind === 'custom' ? unwrapCustom(json) : json },
    ]
  }

  function readPart(part: Json, at: Place): ChatEvent[] {
    if (isObject(part.functionCall)) return readCall(part, part.functionCall, at)
    const choice = at.progress.number
    const events: ChatEvent[] = []
    if (typeof part.text === 'string' && part.text !== '')
      events.push({ type: part.thought === true ? 'thinking' : 'text', choice, text: part.text })
    // What is only drawn on the way to an answer is no part of it.
    const source = part.thought === true ? undefined : pictureOf(part)
    if (source !== undefined) events.push({ type: 'image', choice, source })
    const sealed = toSeal(part)
    if (sealed !== undefined) events.push({ type: 'seal', choice, sealed, isRedacted: false })
    return events
  }

  return {
    read(chunk, text) {
      const events: ChatEvent[] = []
      const counted = readUsage(chunk)
      if (counted !== undefined) {
        usage = counted
        isUsageTold = false
      }
      if (!started) {
        started = true
        events.push({
          type: 'start',
          id: idOf(chunk),
          model: modelOf(chunk),
          createdSeconds: createdSeconds(chunk),
          usage,
        })
      }
      const candidates = listOf(chunk.candidates)
      for (const candidate of candidates) {
        const progress = progressOf(indexOf(candidate))
        for (const part of partsOf(candidate))
          events.push(...readPart(part, { progress, salt: idOf(chunk) || text }))
        const told = finishOf(candidate)
        if (told !== undefined) events.push(...finish(progress, told))
      }
      if (isBlocked(chunk)) events.push(...finish(progressOf(0), 'content_filter'))
      const hasEnded = candidates.length === 0 || [...choices.values()].every(({ finished }) => finished)
      // It counts up with every chunk: the totals are told once.
      if (hasEnded && !isUsageTold && usage !== undefined) {
        isUsageTold = true
        events.push({ type: 'usage', usage })
      }
      return events
    },
  }
}

/** Where a call has no id: the same one each time that this answer is read, and another one in every other answer. */
function mintId(salt: string, choice: number, call: number): string {
  const hash = createHash('sha256').update(`${salt}\n${choice}\n${call}`).digest('hex')
  return `call_${hash.slice(0, 24)}`
}

function idOf({ responseId }: Json): string {
  return typeof responseId === 'string' ? responseId : ''
}

function modelOf({ modelVersion }: Json): string {
  return typeof modelVersion === 'string' ? modelVersion : ''
}

/** Only Vertex says when. */
function createdSeconds({ createTime }: Json): number | undefined {
  const ms = typeof createTime === 'string' ? Date.parse(createTime) : Number.NaN
  return Number.isNaN(ms) ? undefined : Math.floor(ms / 1000)
}
