// A chat request as Gemini's generateContent takes it. Pure. Source: the API's reference and the pages on function
// calling, thinking, thought signatures and structured output.

import { isObject, withoutUndefined } from '../bytes/json-value.ts'
import type { CallPart, ChatRequest, Part, Reasoning, Source, Tool } from './canonical.ts'
import { budgetToEffort } from './effort.ts'
import type { Asked, WrittenRequest } from './format.ts'
import { type GeminiTraits, type Level, traitsOf } from './gemini-models.ts'
import { createSchemaWork, type SchemaWork, toOpenApiSchema } from './gemini-schema.ts'
import { refuse } from './members.ts'
import { isBase64 } from './seals.ts'
import { CUSTOM_PARAMETERS, createWireNames, describeCustom, toInput, type WireNames } from './tool-names.ts'
import { append, type CallResult, joinTexts, toConversation, type UserTurn } from './turns.ts'
import { listDropped, refuseBuckets, refuseSound } from './uncarried.ts'

/** Where a part must carry a signature and there is none: the vendor's own way to say that it is not known. */
export const NO_SIGNATURE = 'skip_thought_signature_validator'

const LONGEST_NAME = 64
const MOST_STOPS = 5

type Json = Record<string, unknown>

interface Content {
  readonly role: 'user' | 'model'
  readonly parts: Json[]
}

/** What the two services of this wire do differently. */
export interface Service {
  /** Origin of its seals: one service's signatures are not known to be good at the other. */
  readonly origin: string
  /** Calls and their results carry ids; else they are told apart by their order. */
  readonly callIds: boolean
}

export function writeGemini(request: ChatRequest, asked: Asked, service: Service): WrittenRequest {
  refuseSound(request)
  refuseBuckets(request, asked)
  const traits = traitsOf(asked.model)
  const names = createWireNames(LONGEST_NAME, { startsWithLetter: true })
  const work = createSchemaWork()
  const tools = request.tools.map((tool) => toDeclaration(tool, { traits, names, work }))
  const { system, turns } = toConversation(request.messages)
  const contents = createContents()
  for (const turn of turns) {
    if (turn.role === 'assistant')
      contents.add('model', toModelParts(turn.content, { traits, names, service }))
    else contents.add('user', toUserParts(turn, { traits, names, service }))
  }
  const instructions = toTextParts(system)
  const choice = toChoice(request, names)
  const format = toFormat(request, { traits, isForced: choice?.mode === 'ANY' })
  if (format.instruction !== undefined) instructions.push({ text: format.instruction })
  if (!traits.systemInstruction || contents.list.length === 0) contents.addFirst(instructions.splice(0))
  // A conversation begins with its user.
  if (contents.list[0]?.role !== 'user') contents.addFirst([{ text: ' ' }])
  const body: Json = {
    contents: contents.list,
    ...(instructions.length > 0 && { systemInstruction: { parts: instructions } }),
    ...(tools.length > 0 && { tools: [{ functionDeclarations: tools }] }),
    ...(tools.length > 0 && choice !== undefined && { toolConfig: { functionCallingConfig: choice } }),
    generationConfig: { ...toSampling(request, traits, asked), ...format.config, ...toPictures(request) },
  }
  const dropped = listDropped(request, [
    'topK',
    ...(isSeed(request.seed) ? (['seed'] as const) : []),
    ...(traits.penalties ? (['presencePenalty', 'frequencyPenalty'] as const) : []),
  ])
  for (const name of PICTURE_MEMBERS) {
    const at = dropped.indexOf(name)
    if (at >= 0) dropped.splice(at, 1)
  }
  if (request.stop.includes('')) dropped.push('stop')
  if (traits.thinking.kind === 'none' && thinks(request.reasoning)) dropped.push('reasoning_effort')
  return {
    body,
    headers: [],
    dropped,
    names: names.names,
    ...(request.parallelToolCalls === false && { oneCall: true }),
  }
}

/** 32 bits; chat has 64. */
function isSeed(seed: number | undefined): boolean {
  return seed !== undefined && (seed | 0) === seed
}

/** Turns of one role are one. */
function createContents(): {
  readonly list: Content[]
  add(role: Content['role'], parts: readonly Json[]): void
  addFirst(parts: readonly Json[]): void
} {
  const list: Content[] = []
  return {
    list,
    add(role, parts) {
      if (parts.length === 0) return
      const last = list.at(-1)
      if (last?.role === role) append(last.parts, parts)
      else list.push({ role, parts: [...parts] })
    },
    addFirst(parts) {
      if (parts.length === 0) return
      const [first] = list
      if (first?.role === 'user') list[0] = { role: 'user', parts: [...parts, ...first.parts] }
      else list.unshift({ role: 'user', parts: [...parts] })
    },
  }
}

// --- messages --------------------------------------------------------------------------------------------------

interface Setting {
  readonly traits: GeminiTraits
  readonly names: WireNames
  readonly service: Service
}

function toUserParts({ results, content }: UserTurn, setting: Setting): Json[] {
  const parts: Json[] = results.map((result) => toResponse(result, setting))
  // Where a response cannot hold them, files stand behind all responses.
  if (!setting.traits.filesInResults)
    append(
      parts,
      results.flatMap((result) => result.content.flatMap(toFileParts)),
    )
  return [...parts, ...content.flatMap(toContentParts)]
}

function toResponse({ call, content, isError }: CallResult, { traits, names, service }: Setting): Json {
  const files = traits.filesInResults ? content.flatMap(toFileParts) : []
  return {
    functionResponse: {
      ...(service.callIds && { id: call.id }),
      name: names.toWire(call),
      response: { [isError ? 'error' : 'result']: joinTexts(content) },
      ...(files.length > 0 && { parts: files }),
    },
  }
}

function toModelParts(content: readonly Part[], setting: Setting): Json[] {
  const { traits, service } = setting
  const parts: Json[] = []
  /** Of thoughts that are not there: each belongs to what stands behind it. */
  const pending: string[] = []
  /** How many of them are given back, or are too many. */
  let given = 0
  let isSigned = false
  let pictures = content.filter(({ type }) => type === 'image').length
  for (const part of content) {
    if (part.type === 'image') pictures -= 1
    if (part.type === 'call') {
      const own = ownSeal(part, service) ?? lastOf(pending, given)
      given = pending.length
      // One signature holds for all calls of a turn, and stands on the first.
      const signature = own ?? (traits.signedCalls && !isSigned ? NO_SIGNATURE : undefined)
      isSigned = true
      parts.push({
        functionCall: toCall(part, setting),
        ...(signature !== undefined && { thoughtSignature: signature }),
      })
    } else if (part.type === 'thinking') {
      const value = ownSeal(part, service)
      if (value === undefined) continue
      const last = parts.at(-1)
      if (part.text !== '') parts.push({ text: part.text, thought: true, thoughtSignature: value })
      else if (last !== undefined && isSaid(last) && last.thoughtSignature === undefined)
        last.thoughtSignature = value
      else pending.push(value)
    } else {
      const written = toContentParts(part)
      const [first] = written
      append(parts, written)
      if (first === undefined) continue
      // Chat has all seals in front: what is said and each picture behind it has one of its own.
      given = Math.max(given, pending.length - pictures - 1)
      const signature = pending[given]
      if (signature === undefined) continue
      first.thoughtSignature = signature
      given += 1
    }
  }
  const last = lastOf(pending, given)
  if (last !== undefined) parts.push({ text: '', thoughtSignature: last })
  return parts
}

function lastOf(pending: readonly string[], given: number): string | undefined {
  return given < pending.length ? pending.at(-1) : undefined
}

function isSaid({ text, inlineData, fileData }: Json): boolean {
  return typeof text === 'string' || inlineData !== undefined || fileData !== undefined
}

/** Where it is bytes at all: what somebody cut or made up would have the whole request refused. */
function ownSeal(
  { sealed }: Pick<CallPart, 'sealed'>,
  { origin }: Pick<Service, 'origin'>,
): string | undefined {
  return sealed?.origin === origin && isBase64(sealed.value) ? sealed.value : undefined
}

function toCall(part: CallPart, { names, service }: Setting): Json {
  return { ...(service.callIds && { id: part.id }), name: names.toWire(part), args: toInput(part) }
}

function toTextParts(content: readonly Part[]): Json[] {
  return content.flatMap((part) => (part.type === 'text' ? toContentParts(part) : []))
}

function toContentParts(part: Part): Json[] {
  switch (part.type) {
    case 'text':
    case 'refusal':
      // An empty part is refused.
      return part.text === '' ? [] : [{ text: part.text }]
    case 'thinking':
    case 'call':
      return []
    default:
      return toFileParts(part)
  }
}

function toFileParts(part: Part): Json[] {
  if (part.type === 'image') return [toFile(part.source, 'image/jpeg')]
  if (part.type === 'file') return [toFile(part.source, 'application/pdf')]
  if (part.type === 'audio') return [{ inlineData: { mimeType: `audio/${part.format}`, data: part.base64 } }]
  return []
}

function toFile(source: Source, otherwise: string): Json {
  if (source.kind === 'base64') return { inlineData: { mimeType: source.mediaType, data: source.base64 } }
  if (source.kind === 'url')
    return {
      fileData: { mimeType: source.mediaType ?? typeOfUrl(source.url) ?? otherwise, fileUri: source.url },
    }
  if (!/^(?:https?:|gs:)\/\//.test(source.id))
    throw refuse(
      'messages',
      'A file id means something only to the provider that keeps the file; send the file itself.',
    )
  return { fileData: { fileUri: source.id } }
}

const TYPES: ReadonlyMap<string, string> = new Map([
  ['png', 'image/png'],
  ['jpg', 'image/jpeg'],
  ['jpeg', 'image/jpeg'],
  ['webp', 'image/webp'],
  ['gif', 'image/gif'],
  ['heic', 'image/heic'],
  ['pdf', 'application/pdf'],
  ['txt', 'text/plain'],
  ['mp3', 'audio/mp3'],
  ['wav', 'audio/wav'],
  ['mp4', 'video/mp4'],
])

function typeOfUrl(url: string): string | undefined {
  const ending = /\.([a-z0-9]{2,5})(?:[?#]|$)/i.exec(url)?.[1]
  return ending === undefined ? undefined : TYPES.get(ending.toLowerCase())
}

// --- tools -----------------------------------------------------------------------------------------------------

function toDeclaration(
  tool: Tool,
  {
    traits,
    names,
    work,
  }: { readonly traits: GeminiTraits; readonly names: WireNames; readonly work: SchemaWork },
): Json {
  const isCustom = tool.kind === 'custom'
  const description = isCustom ? describeCustom(tool) : tool.description
  return {
    name: names.toWire(tool),
    ...(description !== undefined && description !== '' && { description }),
    ...toParameters(isCustom ? CUSTOM_PARAMETERS : tool.parameters, traits, work),
  }
}

/** Without properties nothing is sent: an empty object is refused. */
function toParameters(schema: unknown, traits: GeminiTraits, work: SchemaWork): Json {
  if (!isObject(schema)) return {}
  if (!traits.jsonSchema) {
    const parameters = toOpenApiSchema(schema, work)
    return parameters === undefined ? {} : { parameters }
  }
  const { properties } = schema
  const isEmpty =
    schema.$ref === undefined &&
    schema.anyOf === undefined &&
    schema.oneOf === undefined &&
    schema.allOf === undefined &&
    (!isObject(properties) || Object.keys(properties).length === 0)
  return isEmpty ? {} : { parametersJsonSchema: schema }
}

interface Choice {
  readonly mode: 'AUTO' | 'ANY' | 'NONE' | 'VALIDATED'
  readonly allowedFunctionNames?: readonly string[]
}

function toChoice({ toolChoice, tools }: ChatRequest, names: WireNames): Choice | undefined {
  switch (toolChoice?.type) {
    case 'none':
      return { mode: 'NONE' }
    case 'required':
      return { mode: 'ANY' }
    case 'tool': {
      const { name, namespace } = toolChoice
      const kind =
        tools.find((tool) => tool.name === name && tool.namespace === namespace)?.kind ?? 'function'
      return { mode: 'ANY', allowedFunctionNames: [names.toWire({ name, namespace, kind })] }
    }
    default:
      return undefined
  }
}

// --- generationConfig ------------------------------------------------------------------------------------------

function toSampling(request: ChatRequest, traits: GeminiTraits, { maxOutputTokens: cap }: Asked): Json {
  const stops = request.stop.filter((stop) => stop !== '')
  if (stops.length > MOST_STOPS)
    throw refuse('stop', `This deployment takes ${MOST_STOPS} stop sequences at most.`)
  const caps = [request.maxOutputTokens, cap].filter((tokens) => tokens !== undefined)
  const penalties = traits.penalties
    ? { presencePenalty: request.presencePenalty, frequencyPenalty: request.frequencyPenalty }
    : {}
  return withoutUndefined({
    maxOutputTokens: caps.length > 0 ? Math.min(...caps, traits.maxOutputTokens) : undefined,
    temperature: request.temperature,
    topP: request.topP,
    topK: request.topK,
    stopSequences: stops.length > 0 ? stops : undefined,
    candidateCount: request.choices > 1 ? request.choices : undefined,
    seed: isSeed(request.seed) ? request.seed : undefined,
    ...penalties,
    thinkingConfig: toThinking(request.reasoning, traits),
  })
}

/** Members of chat by which gateways ask for pictures; here they are carried. */
const PICTURE_MEMBERS = ['modalities', 'image_config'] as const

/** Models that draw do so without being told; only who wants one of the two alone must say so. */
function toPictures({ extra: { modalities, image_config: image } }: ChatRequest): Json {
  const wanted = Array.isArray(modalities) ? modalities.filter((one) => typeof one === 'string') : []
  const config = isObject(image)
    ? withoutUndefined({ aspectRatio: image.aspect_ratio, imageSize: image.image_size })
    : {}
  return {
    ...(wanted.includes('image') && { responseModalities: wanted.map((one) => one.toUpperCase()) }),
    ...(Object.keys(config).length > 0 && { imageConfig: config }),
  }
}

/** As a JSON answer where that may be asked for; else in words. */
function toFormat(
  { responseFormat: format, tools, toolChoice }: ChatRequest,
  { traits, isForced }: { readonly traits: GeminiTraits; readonly isForced: boolean },
): { readonly config: Json; readonly instruction: string | undefined } {
  if (format.type === 'text') return { config: {}, instruction: undefined }
  const offersTools = tools.length > 0 && toolChoice?.type !== 'none'
  // A forced call leaves no room for an answer.
  if (offersTools && isForced) return { config: {}, instruction: undefined }
  if (offersTools && !traits.jsonWithTools) {
    const shape =
      format.type === 'json_schema' ? ` that matches this JSON Schema: ${JSON.stringify(format.schema)}` : ''
    return {
      config: {},
      instruction: `When you do not call a function, answer with nothing but one JSON value${shape}`,
    }
  }
  const mime = { responseMimeType: 'application/json' }
  if (format.type === 'json_object') return { config: mime, instruction: undefined }
  const schema = traits.jsonSchema
    ? { responseJsonSchema: format.schema }
    : withoutUndefined({ responseSchema: toOpenApiSchema(format.schema) })
  return { config: { ...mime, ...schema }, instruction: undefined }
}

// --- thinking --------------------------------------------------------------------------------------------------

const EFFORTS = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'] as const
const LEVELS: readonly Level[] = ['MINIMAL', 'LOW', 'MEDIUM', 'HIGH']
/** Tokens of an effort; more than `high` is all there is. */
const BUDGETS: ReadonlyMap<string, number> = new Map([
  ['minimal', 1024],
  ['low', 1024],
  ['medium', 8192],
  ['high', 24_576],
])

function thinks(reasoning: Reasoning | undefined): boolean {
  if (reasoning === undefined) return false
  const { effort, budgetTokens } = reasoning
  return effort === undefined ? (budgetTokens ?? 0) > 0 : effort !== 'none'
}

function toThinking(reasoning: Reasoning | undefined, { thinking }: GeminiTraits): Json | undefined {
  if (reasoning === undefined || thinking.kind === 'none') return undefined
  const { effort, budgetTokens } = reasoning
  const shown = thinks(reasoning) ? { includeThoughts: true } : {}
  if (effort === undefined && budgetTokens === undefined) return undefined
  if (thinking.kind === 'levels') {
    const wanted = EFFORTS.findIndex((one) => one === (effort ?? effortOf(budgetTokens ?? 0)))
    // An effort that nobody has heard of is left to the model.
    if (wanted < 0) return shown
    const least = thinking.levels[0]
    const level = thinking.levels.findLast((one) => LEVELS.indexOf(one) + 1 <= wanted) ?? least
    return { thinkingLevel: level, ...shown }
  }
  const { least, most, canStop } = thinking
  const tokens = budgetTokens ?? (effort === 'none' ? 0 : (BUDGETS.get(effort ?? '') ?? most))
  if (tokens <= 0) return { thinkingBudget: canStop ? 0 : least }
  return { thinkingBudget: Math.min(most, Math.max(least, tokens)), ...shown }
}

function effortOf(budgetTokens: number): string {
  return budgetTokens <= 0 ? 'none' : budgetToEffort(budgetTokens)
}
