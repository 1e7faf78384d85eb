// A canonical request as Anthropic's Messages: what each generation of models takes (anthropic-models.ts) is written,
// what it refuses is left out and told. Pure.

import { isObject } from '../bytes/json-value.ts'
import { type ClaudeTraits, type Effort, nearestEffort, traitsOf } from './anthropic-models.ts'
import { toConstrained, toInputSchema } from './anthropic-schema.ts'
import { type Block, type Conversation, toConversation } from './anthropic-turns.ts'
import type { CacheMark, ChatRequest, Reasoning, ResponseFormat, Tool } from './canonical.ts'
import { budgetToEffort } from './effort.ts'
import type { Asked, ToolName, WrittenRequest } from './format.ts'
import { CUSTOM_PARAMETERS, createWireNames, describeCustom, type WireNames } from './tool-names.ts'
import { refuseChoices, refusePictures, refuseSound, withoutOwnPictures } from './uncarried.ts'

/** The API takes 128 by now; 64 is what every server of this format takes. */
const LONGEST_NAME = 64
/**
 * A tool that nobody runs: where a model has no constrained output the answer is what it is called with. In
 * `WrittenRequest.names` it has no name of a caller's.
 */
const ANSWER_TOOL = 'answer_in_json'
const MOST_STRICT_TOOLS = 20
const MOST_CACHE_MARKS = 4
const LEAST_BUDGET = 1024
/** What must be left for the answer beside a budget of thinking. */
const LEAST_ANSWER = 1024
const LONGEST_USER_ID = 256

/** The answer's tool by its name on the wire, where a request has one. */
export function answerToolOf({ names }: WrittenRequest): string | undefined {
  return names.get(ANSWER_TOOL)?.name === '' ? ANSWER_TOOL : undefined
}

/** @throws GatewayError `invalid_request` for several answers, sound, and files that another provider keeps. */
export function writeRequest(given: ChatRequest, asked: Asked): WrittenRequest {
  const { request, lost } = withoutOwnPictures(given)
  refuseChoices(request)
  refuseSound(request)
  refusePictures(request)
  const traits = traitsOf(asked.model)
  const names = createWireNames(LONGEST_NAME)
  const tools = writeTools(request.tools, names, traits)
  const format = writeFormat(request.responseFormat, traits, tools.length > 0)
  const wantsThought = request.reasoning !== undefined && request.reasoning.effort !== 'none'
  const conversation = toConversation(request, { traits, names, mayPrefill: traits.prefill && !wantsThought })
  const dropped = new Set(lost)

  const choice = writeToolChoice(request, { tools, names, format, traits, conversation })
  if (choice.isSoftened) dropped.add('tool_choice')
  const most = Math.min(traits.maxOutputTokens, asked.maxOutputTokens ?? traits.maxOutputTokens)
  const maxTokens = Math.max(1, Math.min(request.maxOutputTokens ?? traits.defaultOutputTokens, most))
  const thought = writeThinking(request.reasoning, {
    traits,
    maxTokens,
    isForced: choice.isForced,
    hasLostThought: conversation.hasLostThought,
  })
  if (thought.isDropped) dropped.add('reasoning_effort')

  const system = [...conversation.system]
  if (format.instruction !== undefined) system.push({ type: 'text', text: format.instruction })
  const allTools =
    format.tool === undefined ? [...tools, ...missingTools(tools, conversation)] : [...tools, format.tool]
  const messages = conversation.turns.map(({ role, content }) => ({ role, content }))
  limitCacheMarks(allTools, system, messages)

  const outputConfig = {
    ...(thought.effort !== undefined && { effort: thought.effort }),
    ...(format.config !== undefined && { format: format.config }),
  }
  const stop = request.stop.filter((text) => text.trim() !== '')
  const userId =
    request.user !== undefined && request.user.length <= LONGEST_USER_ID ? request.user : undefined
  const serviceTier = SERVICE_TIERS.get(request.serviceTier)
  const body: Record<string, unknown> = {
    model: asked.model,
    max_tokens: maxTokens,
    ...(system.length > 0 && { system }),
    messages,
    ...(allTools.length > 0 && { tools: allTools }),
    ...(choice.value !== undefined && { tool_choice: choice.value }),
    ...(thought.thinking !== undefined && { thinking: thought.thinking }),
    ...(Object.keys(outputConfig).length > 0 && { output_config: outputConfig }),
    ...writeSampling(request, { traits, isThinking: thought.isThinking, dropped }),
    ...(stop.length > 0 && { stop_sequences: stop }),
    ...(userId !== undefined && { metadata: { user_id: userId } }),
    ...(serviceTier !== undefined && { service_tier: serviceTier }),
    ...(request.stream && { stream: true }),
  }
  noteDropped(request, { userId, serviceTier, stop, dropped })
  const allNames: ReadonlyMap<string, ToolName> =
    format.tool === undefined
      ? names.names
      : new Map([...names.names, [ANSWER_TOOL, { name: '', namespace: undefined, kind: 'function' }]])
  return { body, headers: [], dropped: [...dropped], names: allNames }
}

/** `flex` and what is not known are left to the account's own setting. */
const SERVICE_TIERS: ReadonlyMap<string | undefined, string> = new Map([
  ['auto', 'auto'],
  ['priority', 'auto'],
  ['default', 'standard_only'],
  ['standard_only', 'standard_only'],
])

/** Members that change nothing of what the caller may rely on, by the names that chat has for them. */
function noteDropped(
  request: ChatRequest,
  written: {
    readonly userId: string | undefined
    readonly serviceTier: string | undefined
    readonly stop: readonly string[]
    readonly dropped: Set<string>
  },
): void {
  const { dropped } = written
  if (request.seed !== undefined) dropped.add('seed')
  if (request.presencePenalty !== undefined) dropped.add('presence_penalty')
  if (request.frequencyPenalty !== undefined) dropped.add('frequency_penalty')
  if (request.verbosity !== undefined) dropped.add('verbosity')
  if (request.cacheKey !== undefined) dropped.add('prompt_cache_key')
  if (request.metadata !== undefined) dropped.add('metadata')
  if (request.user !== undefined && written.userId === undefined) dropped.add('user')
  if (request.serviceTier !== undefined && written.serviceTier === undefined) dropped.add('service_tier')
  if (request.messages.some((message) => message.role === 'user' && message.name !== undefined))
    dropped.add('messages.name')
  if (written.stop.length < request.stop.length) dropped.add('stop')
  for (const name of Object.keys(request.extra)) dropped.add(name)
}

// --- tools -----------------------------------------------------------------------------------------------------

function writeTools(tools: readonly Tool[], names: WireNames, traits: ClaudeTraits): Block[] {
  let strictTools = 0
  return tools.map((tool) => {
    const isCustom = tool.kind === 'custom'
    const asked = isCustom ? CUSTOM_PARAMETERS : toInputSchema(tool.parameters)
    const constrained =
      tool.strict === true && traits.structured && strictTools < MOST_STRICT_TOOLS
        ? toConstrained(asked)
        : undefined
    if (constrained !== undefined) strictTools += 1
    const description = isCustom ? describeCustom(tool) : tool.description
    const block: Block = {
      name: names.toWire(tool),
      ...(description !== undefined && description !== '' && { description }),
      input_schema: constrained ?? asked,
      ...(constrained !== undefined && { strict: true }),
    }
    const mark = toMark(tool.cache)
    if (mark !== undefined) block.cache_control = mark
    return block
  })
}

function toMark(cache: CacheMark | undefined): Block | undefined {
  if (cache === undefined) return undefined
  return { type: 'ephemeral', ...((cache.ttl === '5m' || cache.ttl === '1h') && { ttl: cache.ttl }) }
}

/** A history with calls needs tools; where the caller offers none any more, those it had are named. */
function missingTools(tools: readonly Block[], { calledNames }: Conversation): Block[] {
  if (tools.length > 0) return []
  return [...calledNames].map((name) => ({ name, input_schema: { type: 'object', properties: {} } }))
}

interface WrittenChoice {
  readonly value: Block | undefined
  /** A call is forced. */
  readonly isForced: boolean
  /** It should have been, and the model refuses that. */
  readonly isSoftened: boolean
}

function writeToolChoice(
  { toolChoice, parallelToolCalls }: ChatRequest,
  parts: {
    readonly tools: readonly Block[]
    readonly names: WireNames
    readonly format: WrittenFormat
    readonly traits: ClaudeTraits
    readonly conversation: Conversation
  },
): WrittenChoice {
  const { tools, names, format, traits, conversation } = parts
  const free = { isForced: false, isSoftened: false }
  if (format.tool !== undefined) {
    if (!traits.forcedTools) return { value: { type: 'auto' }, ...free }
    return { value: { type: 'tool', name: ANSWER_TOOL }, isForced: true, isSoftened: false }
  }
  // Only named for the sake of the history. A choice without tools is refused.
  if (tools.length === 0)
    return { value: conversation.calledNames.size > 0 ? { type: 'none' } : undefined, ...free }
  if (toolChoice?.type === 'none') return { value: { type: 'none' }, ...free }
  const single = parallelToolCalls === false ? { disable_parallel_tool_use: true } : {}
  const isForced = toolChoice?.type === 'required' || toolChoice?.type === 'tool'
  if (isForced && !traits.forcedTools)
    return { value: { type: 'auto', ...single }, isForced: false, isSoftened: true }
  if (toolChoice?.type === 'tool') {
    const { name, namespace } = toolChoice
    const wire = names.toWire({ name, namespace, kind: 'function' })
    return { value: { type: 'tool', name: wire, ...single }, isForced, isSoftened: false }
  }
  if (toolChoice?.type === 'required')
    return { value: { type: 'any', ...single }, isForced, isSoftened: false }
  return { value: parallelToolCalls === false ? { type: 'auto', ...single } : undefined, ...free }
}

// --- structured output -----------------------------------------------------------------------------------------

interface WrittenFormat {
  /** `output_config.format`. */
  readonly config: Block | undefined
  /** The answer's tool. */
  readonly tool: Block | undefined
  /** Said to the model where nothing enforces it. */
  readonly instruction: string | undefined
}

const FREE: WrittenFormat = { config: undefined, tool: undefined, instruction: undefined }
const ONLY_JSON = 'Answer with one JSON object and nothing else: no words around it, no code fence.'

function writeFormat(format: ResponseFormat, traits: ClaudeTraits, hasTools: boolean): WrittenFormat {
  if (format.type === 'text') return FREE
  if (format.type === 'json_object') return { ...FREE, instruction: ONLY_JSON }
  const constrained = traits.structured ? toConstrained(format.schema) : undefined
  if (constrained !== undefined) return { ...FREE, config: { type: 'json_schema', schema: constrained } }
  const isObjectRoot =
    isObject(format.schema) && (format.schema.type === 'object' || isObject(format.schema.properties))
  // Beside the caller's own tools one more would be called instead of them.
  if (!hasTools && isObjectRoot && traits.forcedTools) {
    const description = format.description ?? 'Gives the answer.'
    return { ...FREE, tool: { name: ANSWER_TOOL, description, input_schema: toInputSchema(format.schema) } }
  }
  const instruction = `${ONLY_JSON} It must be valid for this JSON Schema:\n${JSON.stringify(format.schema)}`
  return { ...FREE, instruction }
}

// --- thinking ----------------------------------------------------------------------------------------------------

interface WrittenThinking {
  readonly thinking: Block | undefined
  readonly effort: Effort | undefined
  /** The model will think in blocks of its own, so that sampling and forced calls are refused. */
  readonly isThinking: boolean
  /** It was asked for and cannot be had. */
  readonly isDropped: boolean
}

interface ThinkingSetting {
  readonly traits: ClaudeTraits
  readonly maxTokens: number
  readonly isForced: boolean
  readonly hasLostThought: boolean
}

function writeThinking(reasoning: Reasoning | undefined, setting: ThinkingSetting): WrittenThinking {
  const { traits, isForced } = setting
  if (reasoning === undefined) {
    // Models that think unasked refuse a forced call while they do, but for those that never stop.
    return {
      thinking: isForced ? silence(traits) : undefined,
      effort: undefined,
      isThinking: false,
      isDropped: false,
    }
  }
  const effort = toEffort(reasoning, traits)
  if (reasoning.effort === 'none') {
    const least = traits.withoutThinking === 'never' ? traits.efforts[0] : undefined
    return { thinking: silence(traits), effort: least, isThinking: false, isDropped: false }
  }
  if (traits.thinking === 'none') return { thinking: undefined, effort, isThinking: false, isDropped: true }
  // What a caller does with the answer depends on the call being there, and only its quality on the thought before it.
  if (isForced && traits.withoutThinking !== 'never') {
    const least = traits.withoutThinking === 'omit' ? effort : atMostHigh(effort)
    return { thinking: silence(traits), effort: least, isThinking: false, isDropped: true }
  }
  // Newer models keep what they thought to themselves unless they are asked; a stream would be silent for so long.
  if (traits.thinking === 'adaptive')
    return {
      thinking: { type: 'adaptive', display: 'summarized' },
      effort,
      isThinking: true,
      isDropped: false,
    }
  const wanted = Math.max(
    LEAST_BUDGET,
    reasoning.budgetTokens ?? BUDGETS.get(reasoning.effort) ?? DEFAULT_BUDGET,
  )
  // The cap is the caller's or the policy's and holds: thinking has what is left of it.
  const budget = Math.min(wanted, setting.maxTokens - LEAST_ANSWER)
  if (budget < LEAST_BUDGET || setting.hasLostThought)
    return { thinking: undefined, effort, isThinking: false, isDropped: true }
  return { thinking: { type: 'enabled', budget_tokens: budget }, effort, isThinking: true, isDropped: false }
}

function silence({ withoutThinking }: ClaudeTraits): Block | undefined {
  return withoutThinking === 'omit' || withoutThinking === 'never' ? undefined : { type: withoutThinking }
}

/** With thinking off more is refused. */
function atMostHigh(effort: Effort | undefined): Effort | undefined {
  return effort === 'xhigh' || effort === 'max' ? 'high' : effort
}

const DEFAULT_BUDGET = 8_192
const BUDGETS: ReadonlyMap<string | undefined, number> = new Map([
  ['minimal', LEAST_BUDGET],
  ['low', 2_048],
  ['medium', 8_192],
  ['high', 16_384],
  ['xhigh', 32_000],
  ['max', 32_000],
])

function toEffort({ effort, budgetTokens }: Reasoning, traits: ClaudeTraits): Effort | undefined {
  const wanted = effort ?? (budgetTokens === undefined ? undefined : budgetToEffort(budgetTokens))
  return wanted === undefined ? undefined : nearestEffort(wanted, traits)
}

// --- sampling --------------------------------------------------------------------------------------------------

function writeSampling(
  { temperature, topP, topK }: ChatRequest,
  parts: { readonly traits: ClaudeTraits; readonly isThinking: boolean; readonly dropped: Set<string> },
): Block {
  const { traits, isThinking, dropped } = parts
  const sampling: Block = {}
  const isOpen = traits.sampling !== 'none' && !isThinking
  if (temperature !== undefined) {
    // Chat goes to 2, Messages to 1.
    if (isOpen) sampling.temperature = Math.min(1, Math.max(0, temperature))
    else dropped.add('temperature')
  }
  if (topP !== undefined) {
    if (isOpen && (traits.sampling === 'any' || temperature === undefined)) sampling.top_p = topP
    else dropped.add('top_p')
  }
  if (topK !== undefined) {
    if (isOpen) sampling.top_k = topK
    else dropped.add('top_k')
  }
  return sampling
}

// --- cache -------------------------------------------------------------------------------------------------------

/**
 * Four marks are accepted. The last of what is the same in every request stays, then the latest ones of the
 * conversation, as each caches everything before it.
 */
function limitCacheMarks(
  tools: readonly Block[],
  system: readonly Block[],
  messages: readonly { readonly content: readonly Block[] }[],
): void {
  const fixed = [...tools, ...system].filter(isMarked)
  const moving = messages.flatMap(({ content }) => content.flatMap(withInner)).filter(isMarked)
  if (fixed.length + moving.length <= MOST_CACHE_MARKS) return
  const lastFixed = fixed.slice(-1)
  const byWorth = [...lastFixed, ...moving.toReversed(), ...fixed.slice(0, -1).toReversed()]
  for (const block of byWorth.slice(MOST_CACHE_MARKS)) delete block.cache_control
}

function withInner(block: Block): Block[] {
  const inner: unknown[] = Array.isArray(block.content) ? block.content : []
  return [...inner.filter(isBlock), block]
}

function isBlock(value: unknown): value is Block {
  return isObject(value)
}

function isMarked(block: Block): boolean {
  return block.cache_control !== undefined
}
