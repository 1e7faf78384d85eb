// A chat request as Bedrock's Converse takes it. Pure. One API in front of many makers' models, each of which refuses what
// it does not know: what is sent is what bedrock-models.ts says that this one takes.

import { createHash } from 'node:crypto'
import { isObject } from '../bytes/json-value.ts'
import { type ClaudeTraits, nearestEffort, traitsOf } from './anthropic-models.ts'
import { toConstrained, toInputSchema } from './anthropic-schema.ts'
import { type BedrockTraits, bedrockTraitsOf, HOUR_CACHE, NO_SCHEMA } from './bedrock-models.ts'
import { ANSWER_TOOL, REDACTED, SIGNED } from './bedrock-read.ts'
import type { CacheMark, CallPart, ChatRequest, Part, Reasoning, Source, Tool } from './canonical.ts'
import { budgetToEffort } from './effort.ts'
import type { Asked, ToolName, WrittenRequest } from './format.ts'
import { refuse } from './members.ts'
import { isBase64 } from './seals.ts'
import { CUSTOM_PARAMETERS, createWireNames, describeCustom, toInput, type WireNames } from './tool-names.ts'
import { append, type CallResult, joinTexts, type Turn, toConversation } from './turns.ts'
import {
  listDropped,
  refuseBuckets,
  refuseChoices,
  refusePictures,
  refuseSound,
  withoutOwnPictures,
} from './uncarried.ts'
import { createUnique } from './unique.ts'

const LONGEST_NAME = 64
const MOST_CACHE_POINTS = 4
/** Stands where a turn must be and none is. */
const GO_ON = 'Continue.'
const UNDERSTOOD = 'Understood.'
/** Blank text is refused everywhere, and a result must have some. */
const NOTHING_SAID = '(empty)'

type Json = Record<string, unknown>

interface WireTurn {
  readonly role: 'user' | 'assistant'
  readonly content: Json[]
}

/** @throws GatewayError `invalid_request` for several answers, sound, and images or files that are not in the request. */
export function writeBedrock(given: ChatRequest, asked: Asked): WrittenRequest {
  const { request, lost } = withoutOwnPictures(given)
  refuseSound(request)
  refusePictures(request)
  refuseChoices(request)
  refuseBuckets(request, asked)
  const traits = bedrockTraitsOf(asked.model)
  const claude = traits.family === 'claude' ? traitsOf(asked.model) : undefined
  const names = createWireNames(LONGEST_NAME)
  const dropped = new Set([...lost, ...listDropped(request, traits.family === 'claude' ? ['topK'] : [])])
  const { system, turns } = toConversation(request.messages)

  const hasCalls = turns.some(({ content }) => content.some(({ type }) => type === 'call'))
  const offers = request.tools.length > 0 && request.toolChoice?.type !== 'none'
  const format = toFormat(request, { claude, model: asked.model, traits, offers: request.tools.length > 0 })
  // Blocks of tools need tools; who cannot be told to call none of them reads of the calls as text.
  const isTold = hasCalls && !offers && claude === undefined
  const choice = toChoice(request, { traits, claude, names, format, offers, hasCalls })
  if (choice.isSoftened) dropped.add('tool_choice')
  const thought = toThought(request, {
    traits,
    claude,
    cap: asked.maxOutputTokens,
    isForced: choice.isForced,
    hasLostThought: hasLostThought(turns),
  })
  if (thought.isDropped) dropped.add('reasoning_effort')

  const cache = createCachePoints(asked.model, traits)
  // Where none may be called, who cannot be told so is offered none.
  const tools = toTools(request.tools, { names, cache, isSent: offers || claude !== undefined })
  if (format.tool !== undefined) tools.push(format.tool)
  if (tools.length === 0 && hasCalls && !isTold) append(tools, toolsOfHistory(turns, names))
  const instructions = toSystem(system, cache)
  if (format.instruction !== undefined) instructions.push({ text: format.instruction })
  const messages = toMessages(turns, {
    traits,
    names,
    cache,
    isTold,
    ids: createIds(traits),
    mayPrefill: claude?.prefill === true && !thought.isThinking,
  })

  const own: Json = { ...choice.own, ...thought.own }
  const sampling = toSampling(request, { traits, claude, isThinking: thought.isThinking, dropped })
  if (sampling.topK !== undefined) own.top_k = sampling.topK
  const inference = {
    ...(thought.maxTokens !== undefined && { maxTokens: thought.maxTokens }),
    ...sampling.inference,
  }
  const metadata = toMetadata(request.metadata)
  if (metadata !== undefined) dropped.delete('metadata')
  const body: Json = {
    messages,
    ...(instructions.length > 0 && { system: instructions }),
    ...(Object.keys(inference).length > 0 && { inferenceConfig: inference }),
    ...(tools.length > 0 && {
      toolConfig: { tools, ...(choice.value !== undefined && { toolChoice: choice.value }) },
    }),
    ...(format.config !== undefined && { outputConfig: format.config }),
    ...(Object.keys(own).length > 0 && { additionalModelRequestFields: own }),
    ...(claude !== undefined &&
      sampling.inference.stopSequences !== undefined && {
        additionalModelResponseFieldPaths: [request.stream ? '/delta/stop_sequence' : '/stop_sequence'],
      }),
    ...(metadata !== undefined && { requestMetadata: metadata }),
  }
  const withAnswer: ReadonlyMap<string, ToolName> =
    format.tool === undefined
      ? names.names
      : new Map([...names.names, [ANSWER_TOOL, { name: '', namespace: undefined, kind: 'function' }]])
  const oneCall = request.parallelToolCalls === false && claude === undefined
  return { body, headers: [], dropped: [...dropped], names: withAnswer, ...(oneCall && { oneCall }) }
}

// --- messages --------------------------------------------------------------------------------------------------

interface Setting {
  readonly traits: BedrockTraits
  readonly names: WireNames
  readonly cache: CachePoints
  /** Calls and results are told as text. */
  readonly isTold: boolean
  readonly ids: (call: CallPart) => string
  readonly mayPrefill: boolean
}

function toSystem(system: readonly Part[], cache: CachePoints): Json[] {
  return system.flatMap((part) =>
    part.type === 'text' && part.text.trim() !== '' ? [{ text: part.text }, ...cache.after(part.cache)] : [],
  )
}

function toMessages(turns: readonly Turn[], setting: Setting): WireTurn[] {
  const messages: WireTurn[] = []
  const documents = createDocumentNames()

  function push(role: WireTurn['role'], content: readonly Json[]): void {
    if (content.length === 0) return
    const last = messages.at(-1)
    if (last?.role === role) append(last.content, content)
    else messages.push({ role, content: [...content] })
  }

  for (const turn of turns) {
    if (turn.role === 'assistant') {
      const content = toAssistant(turn.content, setting)
      const [said, called] = split(content, 'toolUse', setting)
      push('assistant', said)
      if (said.length > 0 && called.length > 0) push('user', [{ text: GO_ON }])
      push('assistant', called)
      continue
    }
    const results = setting.isTold
      ? turn.results.map(toToldResult)
      : turn.results.flatMap((result) => toResult(result, { setting, documents }))
    const files = setting.traits.filesInResults
      ? []
      : turn.results.flatMap(({ content }) => content.flatMap((part) => toFile(part, documents)))
    const content = [...files, ...turn.content.flatMap((part) => toUserBlocks(part, { setting, documents }))]
    const [said, answered] = split([...results, ...withWords(content)], 'toolResult', setting)
    push('user', answered)
    if (said.length > 0 && answered.length > 0) push('assistant', [{ text: UNDERSTOOD }])
    push('user', said)
  }
  if (messages[0]?.role !== 'user') messages.unshift({ role: 'user', content: [{ text: GO_ON }] })
  const last = messages.at(-1)
  if (last?.role !== 'assistant') return messages
  const text = last.content.at(-1)
  if (setting.mayPrefill && typeof text?.text === 'string') text.text = text.text.trimEnd()
  else messages.push({ role: 'user', content: [{ text: GO_ON }] })
  return messages
}

/** What is said, and what is called or answered, where a turn may not hold both. */
function split(content: readonly Json[], member: string, { traits }: Setting): [said: Json[], tools: Json[]] {
  if (traits.mixedTurns)
    return content.some((block) => block[member] !== undefined) ? [[], [...content]] : [[...content], []]
  return [
    content.filter((block) => block[member] === undefined),
    content.filter((block) => block[member] !== undefined),
  ]
}

function toAssistant(content: readonly Part[], setting: Setting): Json[] {
  const blocks = toAssistantBlocks(content, setting)
  // A turn may not end with a thought; one that says nothing else is none.
  while (blocks.at(-1)?.reasoningContent !== undefined) blocks.pop()
  return blocks
}

function toAssistantBlocks(content: readonly Part[], { traits, names, cache, isTold, ids }: Setting): Json[] {
  return content.flatMap((part): Json[] => {
    switch (part.type) {
      case 'text':
      case 'refusal':
        return part.text.trim() === ''
          ? []
          : [{ text: part.text }, ...(part.type === 'text' ? cache.after(part.cache) : [])]
      case 'thinking':
        return toThoughtBlock(part, traits)
      case 'call':
        if (isTold) return [{ text: `Called the tool ${part.name} with: ${part.arguments}` }]
        return [
          { toolUse: { toolUseId: ids(part), name: names.toWire(part), input: toInput(part) } },
          ...cache.after(part.cache),
        ]
      default:
        // A model's turn has no room for files.
        return []
    }
  })
}

function toThoughtBlock(
  { text, sealed, isRedacted }: Extract<Part, { type: 'thinking' }>,
  { family }: BedrockTraits,
): Json[] {
  if (sealed === undefined) return []
  const { origin, value } = sealed
  if (origin === SIGNED && !isRedacted && family === 'claude')
    return [{ reasoningContent: { reasoningText: { text, signature: value } } }]
  // What one maker's models have redacted means nothing to another's.
  const isOwn =
    family === 'openai' ? OPENAI_REDACTED.test(value) : family === 'claude' && !OPENAI_REDACTED.test(value)
  if (origin === REDACTED && isRedacted && isOwn && isBase64(value))
    return [{ reasoningContent: { redactedContent: value } }]
  return []
}

/** Base64 of `rsn_`, which ids of OpenAI's reasoning begin with. */
const OPENAI_REDACTED = /^cnNu/

interface FileSetting {
  readonly setting: Setting
  readonly documents: DocumentNames
}

function toResult(
  { call, content, isError, cache }: CallResult,
  { setting, documents }: FileSetting,
): Json[] {
  const { traits, ids, cache: points } = setting
  const files = traits.filesInResults ? content.flatMap((part) => toFile(part, documents)) : []
  const text = joinTexts(content)
  const words = isError && !traits.resultStatus ? `Error: ${text}` : text
  const said = words.trim() === '' ? (files.length > 0 ? [] : [{ text: NOTHING_SAID }]) : [{ text: words }]
  return [
    {
      toolResult: {
        toolUseId: ids(call),
        content: [...said, ...files],
        ...(isError && traits.resultStatus && { status: 'error' }),
      },
    },
    ...points.after(cache),
  ]
}

function toToldResult({ call, content, isError }: CallResult): Json {
  const text = joinTexts(content)
  return {
    text: `${isError ? 'Error' : 'Result'} of the tool ${call.name}: ${text.trim() === '' ? NOTHING_SAID : text}`,
  }
}

function toUserBlocks(part: Part, { setting, documents }: FileSetting): Json[] {
  const { cache } = setting
  if (part.type === 'text')
    return part.text.trim() === '' ? [] : [{ text: part.text }, ...cache.after(part.cache)]
  if (part.type === 'audio')
    throw refuse('messages', 'Sound cannot be sent to this deployment: its format has no place for it.')
  const mark = part.type === 'image' || part.type === 'file' ? part.cache : undefined
  return [...toFile(part, documents), ...cache.after(mark)]
}

/** A document must not be all that a turn says. */
function withWords(content: Json[]): Json[] {
  const document = content.find((block) => block.document !== undefined)?.document
  if (!isObject(document) || content.some((block) => block.text !== undefined)) return content
  return [{ text: String(document.name) }, ...content]
}

/** From the last thing that the user said on: a turn that calls must begin with what was thought before it. */
function hasLostThought(turns: readonly Turn[]): boolean {
  for (const turn of turns.toReversed()) {
    if (turn.role === 'user') {
      if (turn.results.length === 0) return false
      continue
    }
    const [first] = turn.content
    const isSigned =
      first?.type === 'thinking' && (first.sealed?.origin === SIGNED || first.sealed?.origin === REDACTED)
    if (turn.content.some(({ type }) => type === 'call') && !isSigned) return true
  }
  return false
}

// --- ids -------------------------------------------------------------------------------------------------------

const PLAIN_ID = /^[a-zA-Z0-9_-]{1,64}$/
const SHORT_ID = /^[a-zA-Z0-9]{9}$/

/** Ids as they are taken here: the same for a call and its result, another for every call of a conversation. */
function createIds({ shortIds }: BedrockTraits): (call: CallPart) => string {
  const given = new Map<CallPart, string>()
  const plain = shortIds ? SHORT_ID : PLAIN_ID
  const unique = createUnique((id, n) => hashed(`${id}\n${n}`, shortIds))
  return (call) => {
    let id = given.get(call)
    if (id === undefined) {
      id = unique(plain.test(call.id) ? call.id : hashed(call.id, shortIds))
      given.set(call, id)
    }
    return id
  }
}

function hashed(id: string, isShort: boolean): string {
  const hash = createHash('sha256').update(id).digest('hex')
  return isShort ? hash.slice(0, 9) : `call_${hash.slice(0, 24)}`
}

// --- files -----------------------------------------------------------------------------------------------------

interface DocumentNames {
  /** A name as it is taken, and as no other document has it. */
  next(name: string): string
}

/** Letters, digits, single spaces, hyphens, parentheses and square brackets, 200 at most. */
function createDocumentNames(): DocumentNames {
  const unique = createUnique((name, n) => `${name} ${n}`)
  return {
    next(name) {
      const plain = name
        .replace(/\.[a-z0-9]{1,5}$/i, '')
        .replace(/[^a-zA-Z0-9()[\]-]+/g, ' ')
        .trim()
        .slice(0, 190)
      return unique(plain || 'document')
    },
  }
}

const IMAGES: ReadonlyMap<string, string> = new Map([
  ['image/png', 'png'],
  ['image/jpeg', 'jpeg'],
  ['image/gif', 'gif'],
  ['image/webp', 'webp'],
])
const DOCUMENTS: ReadonlyMap<string, string> = new Map([
  ['application/pdf', 'pdf'],
  ['text/csv', 'csv'],
  ['application/msword', 'doc'],
  ['application/vnd.openxmlformats-officedocument.wordprocessingml.document', 'docx'],
  ['application/vnd.ms-excel', 'xls'],
  ['application/vnd.openxmlformats-officedocument.spreadsheetml.sheet', 'xlsx'],
  ['text/html', 'html'],
  ['text/plain', 'txt'],
  ['text/markdown', 'md'],
  ['application/json', 'txt'],
])

/** Nothing for what is no file. */
function toFile(part: Part, documents: DocumentNames): Json[] {
  if (part.type !== 'image' && part.type !== 'file') return []
  const { source } = part
  const type = mediaTypeOf(source)
  const image = IMAGES.get(type)
  if (image !== undefined) return [{ image: { format: image, source: toSource(source) } }]
  if (part.type === 'image')
    throw refuse('messages', 'This deployment takes images as PNG, JPEG, GIF or WebP.')
  const format = DOCUMENTS.get(type) ?? (type.startsWith('text/') ? 'txt' : undefined)
  if (format === undefined)
    throw refuse('messages', `This deployment takes no files of the type "${type.slice(0, 100)}".`)
  return [{ document: { format, name: documents.next(part.name ?? ''), source: toSource(source) } }]
}

function mediaTypeOf(source: Source): string {
  if (source.kind === 'base64') return source.mediaType.toLowerCase()
  if (source.kind === 'url') return (source.mediaType ?? typeOfName(source.url)).toLowerCase()
  return typeOfName(source.id)
}

function typeOfName(name: string): string {
  const ending = /\.([a-z0-9]{2,5})(?:[?#]|$)/i.exec(name)?.[1]?.toLowerCase()
  const all = [...DOCUMENTS, ...IMAGES]
  return all.find(([, format]) => format === (ending === 'jpg' ? 'jpeg' : ending))?.[0] ?? ''
}

/** Bytes, or an object in S3: nothing is fetched there, nor here. */
function toSource(source: Source): Json {
  if (source.kind === 'base64') return { bytes: source.base64 }
  const uri = source.kind === 'url' ? source.url : source.id
  if (uri.startsWith('s3://')) return { s3Location: { uri } }
  throw refuse(
    'messages',
    'This deployment fetches no images or files: send them inside the request, as a data URL.',
  )
}

// --- cache -----------------------------------------------------------------------------------------------------

interface CachePoints {
  /** What stands behind a block that carries a mark. */
  after(mark: CacheMark | undefined): Json[]
}

function createCachePoints(model: string, { cachePoints }: BedrockTraits): CachePoints {
  let left = cachePoints ? MOST_CACHE_POINTS : 0
  const hasHour = HOUR_CACHE.test(model)
  return {
    after(mark) {
      if (mark === undefined || left === 0) return []
      left -= 1
      return [{ cachePoint: { type: 'default', ...(mark.ttl === '1h' && hasHour && { ttl: '1h' }) } }]
    },
  }
}

// --- tools -----------------------------------------------------------------------------------------------------

function toTools(
  tools: readonly Tool[],
  {
    names,
    cache,
    isSent,
  }: { readonly names: WireNames; readonly cache: CachePoints; readonly isSent: boolean },
): Json[] {
  if (!isSent) return []
  return tools.flatMap((tool) => {
    const isCustom = tool.kind === 'custom'
    const name = names.toWire(tool)
    const description = isCustom ? describeCustom(tool) : tool.description
    const json = isCustom ? CUSTOM_PARAMETERS : toInputSchema(tool.parameters)
    return [
      // A description must not be empty.
      { toolSpec: { name, description: description?.trim() ? description : name, inputSchema: { json } } },
      ...cache.after(tool.cache),
    ]
  })
}

/** A history with calls needs tools; where the caller offers none any more, those it had are named. */
function toolsOfHistory(turns: readonly Turn[], names: WireNames): Json[] {
  const called = new Set(
    turns.flatMap(({ content }) =>
      content.flatMap((part) => (part.type === 'call' ? [names.toWire(part)] : [])),
    ),
  )
  return [...called].map((name) => ({
    toolSpec: { name, description: name, inputSchema: { json: { type: 'object', properties: {} } } },
  }))
}

interface WrittenChoice {
  readonly value: Json | undefined
  /** The same among the fields of the model itself, which say more. */
  readonly own: Json
  readonly isForced: boolean
  /** It should have been, and the model takes no such word. */
  readonly isSoftened: boolean
}

interface ChoiceSetting {
  readonly traits: BedrockTraits
  readonly claude: ClaudeTraits | undefined
  readonly names: WireNames
  readonly format: WrittenFormat
  readonly offers: boolean
  readonly hasCalls: boolean
}

const FREE: WrittenChoice = { value: undefined, own: {}, isForced: false, isSoftened: false }

function toChoice(
  { toolChoice, tools, parallelToolCalls }: ChatRequest,
  setting: ChoiceSetting,
): WrittenChoice {
  const { traits, claude, names, format, offers, hasCalls } = setting
  if (format.tool !== undefined) return { ...FREE, value: { tool: { name: ANSWER_TOOL } }, isForced: true }
  if (!offers) {
    // Converse has no word for none; Claude has.
    const isNone = claude !== undefined && (hasCalls || tools.length > 0)
    return isNone ? { ...FREE, own: { tool_choice: { type: 'none' } } } : FREE
  }
  const single = parallelToolCalls === false && claude !== undefined
  const wantsOne = toolChoice?.type === 'tool'
  const wantsForce = wantsOne || toolChoice?.type === 'required'
  const mayForce =
    claude?.forcedTools ?? (traits.forcedTools === 'one' || (traits.forcedTools === 'any' && !wantsOne))
  const isForced = wantsForce && mayForce
  const softened = { isForced, isSoftened: wantsForce && !mayForce }
  const kind = wantsOne
    ? (tools.find(({ name }) => name === toolChoice.name)?.kind ?? 'function')
    : 'function'
  const name = wantsOne
    ? names.toWire({ name: toolChoice.name, namespace: toolChoice.namespace, kind })
    : undefined
  // In one of both places only: they conflict.
  if (single) {
    const type = !isForced ? 'auto' : name === undefined ? 'any' : 'tool'
    const own = {
      tool_choice: { type, ...(isForced && name !== undefined && { name }), disable_parallel_tool_use: true },
    }
    return { value: undefined, own, ...softened }
  }
  if (!isForced) return { ...FREE, ...softened }
  return { value: name === undefined ? { any: {} } : { tool: { name } }, own: {}, ...softened }
}

// --- structured output -----------------------------------------------------------------------------------------

interface WrittenFormat {
  readonly config: Json | undefined
  readonly tool: Json | undefined
  readonly instruction: string | undefined
}

const ONLY_JSON = 'Answer with one JSON object and nothing else: no words around it, no code fence.'

function toFormat(
  { responseFormat: format }: ChatRequest,
  setting: {
    readonly claude: ClaudeTraits | undefined
    readonly model: string
    readonly traits: BedrockTraits
    readonly offers: boolean
  },
): WrittenFormat {
  const free = { config: undefined, tool: undefined, instruction: undefined }
  if (format.type === 'text') return free
  if (format.type === 'json_object') return { ...free, instruction: ONLY_JSON }
  const { claude, model, traits, offers } = setting
  const { name, description, schema } = format
  const constrained =
    claude?.structured === true && !NO_SCHEMA.test(model) ? toConstrained(schema) : undefined
  if (constrained !== undefined) {
    const jsonSchema = {
      schema: JSON.stringify(constrained),
      name: name.replace(/[^a-zA-Z0-9_-]/g, '_').slice(0, LONGEST_NAME) || 'answer',
      ...(description !== undefined && description.trim() !== '' && { description }),
    }
    return { ...free, config: { textFormat: { type: 'json_schema', structure: { jsonSchema } } } }
  }
  const isObjectRoot = isObject(schema) && (schema.type === 'object' || isObject(schema.properties))
  const mayForce = claude?.forcedTools ?? traits.forcedTools === 'one'
  // Beside the caller's own tools one more would be called instead of them.
  if (!offers && isObjectRoot && mayForce) {
    const inputSchema = { json: toInputSchema(schema) }
    return {
      ...free,
      tool: {
        toolSpec: {
          name: ANSWER_TOOL,
          description: description?.trim() ? description : 'Gives the answer.',
          inputSchema,
        },
      },
    }
  }
  return {
    ...free,
    instruction: `${ONLY_JSON} It must be valid for this JSON Schema:\n${JSON.stringify(schema)}`,
  }
}

// --- thinking, sampling ----------------------------------------------------------------------------------------

interface WrittenThought {
  readonly own: Json
  readonly maxTokens: number | undefined
  readonly isThinking: boolean
  /** It was asked for and cannot be had. */
  readonly isDropped: boolean
}

interface ThoughtSetting {
  readonly traits: BedrockTraits
  readonly claude: ClaudeTraits | undefined
  /** The policy's. */
  readonly cap: number | undefined
  readonly isForced: boolean
  readonly hasLostThought: boolean
}

const LEAST_BUDGET = 1024
const BUDGETS: ReadonlyMap<string, number> = new Map([
  ['minimal', LEAST_BUDGET],
  ['low', 2048],
  ['medium', 8192],
  ['high', 16_384],
])
const MOST_BUDGET = 32_000

function toThought(request: ChatRequest, setting: ThoughtSetting): WrittenThought {
  const { traits, claude, cap } = setting
  const caps = [request.maxOutputTokens, cap].filter((tokens) => tokens !== undefined)
  const maxTokens =
    caps.length > 0
      ? Math.max(1, Math.min(...caps, claude?.maxOutputTokens ?? traits.maxOutputTokens))
      : undefined
  const quiet: WrittenThought = { own: {}, maxTokens, isThinking: false, isDropped: false }
  const { reasoning } = request
  if (claude !== undefined) return toClaudeThought(reasoning, { ...setting, claude, quiet })
  if (reasoning === undefined) return quiet
  const effort = effortOf(reasoning)
  if (traits.reasoning === 'none' || effort === undefined)
    return { ...quiet, isDropped: effort !== 'none' && effort !== undefined }
  if (traits.reasoning === 'reasoningConfig') {
    if (effort === 'none') return quiet
    // With `high` it refuses every cap, the policy's too.
    const own = {
      reasoningConfig: { type: 'enabled', maxReasoningEffort: effort === 'low' ? 'low' : 'medium' },
    }
    return { ...quiet, own }
  }
  const told = effort === 'none' ? 'low' : effort
  return {
    ...quiet,
    own:
      traits.reasoning === 'reasoning_effort' ? { reasoning_effort: told } : { reasoning: { effort: told } },
  }
}

function toClaudeThought(
  reasoning: Reasoning | undefined,
  {
    claude,
    quiet,
    isForced,
    hasLostThought: isLost,
  }: ThoughtSetting & { readonly claude: ClaudeTraits; readonly quiet: WrittenThought },
): WrittenThought {
  const { withoutThinking } = claude
  const silence =
    withoutThinking === 'omit' || withoutThinking === 'never' ? {} : { thinking: { type: withoutThinking } }
  if (reasoning === undefined) return isForced ? { ...quiet, own: silence } : quiet
  const wanted = reasoning.effort ?? effortOf(reasoning)
  const effort = wanted === undefined ? undefined : nearestEffort(wanted, claude)
  if (wanted === 'none') {
    const least = withoutThinking === 'never' ? claude.efforts[0] : undefined
    return { ...quiet, own: { ...silence, ...toEffort(least) } }
  }
  if (claude.thinking === 'none') return { ...quiet, own: toEffort(effort), isDropped: true }
  if (isForced && withoutThinking !== 'never') {
    const least = withoutThinking === 'omit' || (effort !== 'xhigh' && effort !== 'max') ? effort : 'high'
    return { ...quiet, own: { ...silence, ...toEffort(least) }, isDropped: true }
  }
  if (claude.thinking === 'adaptive')
    return {
      ...quiet,
      own: { thinking: { type: 'adaptive', display: 'summarized' }, ...toEffort(effort) },
      isThinking: true,
    }
  // The cap is the caller's or the policy's and holds: thinking has what is left of it.
  const maxTokens = quiet.maxTokens ?? claude.defaultOutputTokens
  const budget = Math.min(
    Math.max(LEAST_BUDGET, reasoning.budgetTokens ?? BUDGETS.get(wanted ?? 'medium') ?? MOST_BUDGET),
    maxTokens - LEAST_BUDGET,
  )
  if (budget < LEAST_BUDGET || isLost) return { ...quiet, own: toEffort(effort), isDropped: true }
  return {
    ...quiet,
    maxTokens,
    own: { thinking: { type: 'enabled', budget_tokens: budget }, ...toEffort(effort) },
    isThinking: true,
  }
}

function toEffort(effort: string | undefined): Json {
  return effort === undefined ? {} : { output_config: { effort } }
}

/** In the three words that everybody knows. */
function effortOf({ effort, budgetTokens }: Reasoning): 'none' | 'low' | 'medium' | 'high' | undefined {
  if (effort === undefined) {
    if (budgetTokens === undefined) return undefined
    return budgetTokens <= 0 ? 'none' : budgetToEffort(budgetTokens)
  }
  if (effort === 'none') return 'none'
  if (effort === 'minimal' || effort === 'low') return 'low'
  return effort === 'medium' ? 'medium' : 'high'
}

interface WrittenSampling {
  readonly inference: Json
  /** Claude's, who has it among its own fields. */
  readonly topK: number | undefined
}

function toSampling(
  { temperature, topP, topK, stop }: ChatRequest,
  parts: {
    readonly traits: BedrockTraits
    readonly claude: ClaudeTraits | undefined
    readonly isThinking: boolean
    readonly dropped: Set<string>
  },
): WrittenSampling {
  const { traits, claude, isThinking, dropped } = parts
  const inference: Json = {}
  const isOpen = traits.sampling && claude?.sampling !== 'none' && !(claude !== undefined && isThinking)
  if (temperature !== undefined) {
    // Chat goes to 2.
    if (isOpen) inference.temperature = Math.min(1, Math.max(0, temperature))
    else dropped.add('temperature')
  }
  if (topP !== undefined) {
    if (isOpen && (claude?.sampling !== 'one' || temperature === undefined)) inference.topP = topP
    else dropped.add('top_p')
  }
  const stops = stop.filter((text) => text.trim() !== '')
  if (stops.length < stop.length) dropped.add('stop')
  if (stops.length > 0) {
    if (!traits.sampling) throw refuse('stop', 'This deployment takes no stop sequences.')
    inference.stopSequences = stops
  }
  const isTopK = topK !== undefined && isOpen && claude !== undefined
  if (topK !== undefined && !isTopK) dropped.add('top_k')
  return { inference, topK: isTopK ? topK : undefined }
}

const METADATA = /^[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}$/
const MOST_METADATA = 16

/** For the log of the account; undefined where it would be refused. */
function toMetadata(metadata: Readonly<Record<string, string>> | undefined): Json | undefined {
  const entries = Object.entries(metadata ?? {})
  const isFine = entries.every(([name, value]) => METADATA.test(name) && METADATA.test(value))
  return entries.length > 0 && entries.length <= MOST_METADATA && isFine
    ? Object.fromEntries(entries)
    : undefined
}
