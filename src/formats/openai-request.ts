// A request in OpenAI's chat, read into canonical form (a caller's) and written from it (to a provider). Pure. What is
// written is what most compatible servers take; what only some do is told by the provider's quirks.
// Source: OpenAI API reference, and what compatible servers are known to refuse.

import { isObject } from '../bytes/json-value.ts'
import { GatewayError } from '../errors.ts'
import type {
  CacheMark,
  CallPart,
  ChatRequest,
  Message,
  Part,
  Reasoning,
  ResponseFormat,
  Source,
  ThinkingPart,
  Tool,
  ToolChoice,
} from './canonical.ts'
import type { Asked, ReadRequest, WrittenRequest } from './format.ts'
import { countAt, flagAt, listAt, numberAt, objectAt, refuse, textAt, textsAt, wrongType } from './members.ts'
import { ownDetails, readCallSeal, readThoughts, writeCallSeal } from './openai-reasoning.ts'
import { readChatPictures, toPicture } from './pictures.ts'
import type { Quirk } from './quirks.ts'
import { toSource, toUrl } from './sources.ts'
import {
  CUSTOM_PARAMETERS,
  createWireNames,
  describeCustom,
  type WireNames,
  wrapCustom,
} from './tool-names.ts'
import { append, withAnsweredCalls } from './turns.ts'
import { withoutOwnPictures } from './uncarried.ts'

type Members = Readonly<Record<string, unknown>>

// --- reading ---------------------------------------------------------------------------------------------------

/** Members that canonical form has a place for; the others are `extra`. */
const KNOWN: ReadonlySet<string> = new Set([
  'model',
  'messages',
  'tools',
  'functions',
  'tool_choice',
  'function_call',
  'parallel_tool_calls',
  'max_completion_tokens',
  'max_tokens',
  'temperature',
  'top_p',
  'top_k',
  'stop',
  'n',
  'seed',
  'presence_penalty',
  'frequency_penalty',
  'response_format',
  'reasoning_effort',
  'reasoning',
  'thinking',
  'verbosity',
  'user',
  'safety_identifier',
  'prompt_cache_key',
  'service_tier',
  'metadata',
  'stream',
  'stream_options',
])

/** @throws GatewayError invalid_request */
export function readChatRequest(sent: Members): ReadRequest {
  const { messages } = sent
  if (!Array.isArray(messages) || messages.length === 0) throw wrongType('messages', 'a list of messages')
  refuseSound(sent)
  const offered = readTools(sent)
  // OpenAI takes a name twice; others refuse the whole request for it. What was said last counts.
  const byName = new Map(offered.map((tool) => [tool.name, tool]))
  const tools = [...byName.values()]
  const choice = readToolChoice(sent, byName)
  const extra: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(sent))
    if (!KNOWN.has(name) && value !== null) extra[name] = value
  const options = sent.stream_options
  return {
    request: {
      messages: readMessages(messages),
      tools: choice.allowed === undefined ? tools : tools.filter(({ name }) => choice.allowed?.has(name)),
      toolChoice: choice.choice,
      parallelToolCalls: flagAt(sent.parallel_tool_calls, 'parallel_tool_calls'),
      maxOutputTokens: least(
        numberAt(sent.max_completion_tokens, 'max_completion_tokens'),
        numberAt(sent.max_tokens, 'max_tokens'),
      ),
      temperature: numberAt(sent.temperature, 'temperature'),
      topP: numberAt(sent.top_p, 'top_p'),
      topK: numberAt(sent.top_k, 'top_k'),
      stop: readStop(sent.stop),
      choices: numberAt(sent.n, 'n') ?? 1,
      seed: numberAt(sent.seed, 'seed'),
      presencePenalty: numberAt(sent.presence_penalty, 'presence_penalty'),
      frequencyPenalty: numberAt(sent.frequency_penalty, 'frequency_penalty'),
      responseFormat: readResponseFormat(sent.response_format),
      reasoning: readReasoning(sent),
      verbosity: textAt(sent.verbosity, 'verbosity'),
      user: textAt(sent.user, 'user') ?? textAt(sent.safety_identifier, 'safety_identifier'),
      cacheKey: textAt(sent.prompt_cache_key, 'prompt_cache_key'),
      serviceTier: textAt(sent.service_tier, 'service_tier'),
      metadata: textsAt(sent.metadata, 'metadata'),
      stream: sent.stream === true,
      includeUsage: isObject(options) && options.include_usage === true,
      extra,
    },
    dropped: tools.length < offered.length ? ['tools'] : [],
  }
}

/** What one of the extensions says is told by the name of that. */
export function memberOf(name: string, sent: Members): string | undefined {
  const names = NAMES.get(name) ?? []
  return names.find((one) => (sent[one] ?? null) !== null) ?? name
}

const NAMES: ReadonlyMap<string, readonly string[]> = new Map([
  ['user', ['user', 'safety_identifier']],
  ['reasoning_effort', ['reasoning_effort', 'reasoning', 'thinking']],
])

/** An answer in sound cannot be had of text; in pictures, as gateways ask for them, it can of some. */
function refuseSound({ modalities, audio }: Members): void {
  if (Array.isArray(modalities) && modalities.some((one) => one !== 'text' && one !== 'image'))
    throw cannot('modalities', 'an answer in anything but text and pictures')
  if (isObject(audio)) throw cannot('audio', 'an answer in sound')
}

function readMessages(list: readonly unknown[]): Message[] {
  /** Ids given to calls of the legacy kind, which have none, by the name of the function. */
  const legacy = new Map<string, string>()
  return list.map((message, index) => {
    const at = `messages[${index}]`
    if (!isObject(message)) throw wrongType(at, 'an object')
    switch (message.role) {
      case 'system':
      case 'developer':
        return { role: message.role, content: readContent(message.content, at) }
      case 'user':
        return {
          role: 'user',
          content: readContent(message.content, at),
          name: textAt(message.name, `${at}.name`),
        }
      case 'assistant':
        return { role: 'assistant', content: readAssistant(message, at, legacy) }
      case 'tool':
        return {
          role: 'tool',
          callId: required(message.tool_call_id, `${at}.tool_call_id`),
          content: readContent(message.content, at),
          isError: false,
          cache: readCache(message),
        }
      case 'function':
        return {
          role: 'tool',
          callId: legacy.get(required(message.name, `${at}.name`)) ?? `call_${message.name}`,
          content: readContent(message.content, at),
          isError: false,
          cache: undefined,
        }
      default:
        throw wrongType(`${at}.role`, 'one of system, developer, user, assistant, tool')
    }
  })
}

function readAssistant(message: Members, at: string, legacy: Map<string, string>): Part[] {
  if (isObject(message.audio)) throw cannot(`${at}.audio`, 'sound that was said before')
  const parts: Part[] = [...readThoughts(message), ...readContent(message.content, at)]
  const refusal = textAt(message.refusal, `${at}.refusal`)
  if (refusal !== undefined && refusal !== '') parts.push({ type: 'refusal', text: refusal })
  parts.push(...readChatPictures(message.images).map(toPicture))
  const calls = message.tool_calls ?? []
  if (!Array.isArray(calls)) throw wrongType(`${at}.tool_calls`, 'a list')
  for (const [index, call] of calls.entries()) parts.push(readCall(call, `${at}.tool_calls[${index}]`))
  const { function_call: old } = message
  if (isObject(old)) {
    const name = required(old.name, `${at}.function_call.name`)
    const id = `call_${legacy.size}_${name}`
    legacy.set(name, id)
    parts.push(toCall('function', id, name, argumentsText(old.arguments)))
  }
  return parts
}

function readCall(call: unknown, at: string): CallPart {
  if (!isObject(call)) throw wrongType(at, 'an object')
  const id = required(call.id, `${at}.id`)
  const sealed = readCallSeal(call)
  if (isObject(call.custom)) {
    const { name, input } = call.custom
    return { ...toCall('custom', id, required(name, `${at}.custom.name`), argumentsText(input)), sealed }
  }
  if (!isObject(call.function)) throw wrongType(`${at}.function`, 'an object')
  const { name, arguments: args } = call.function
  return { ...toCall('function', id, required(name, `${at}.function.name`), argumentsText(args)), sealed }
}

function toCall(kind: CallPart['kind'], id: string, name: string, args: string): CallPart {
  return { type: 'call', kind, id, name, namespace: undefined, arguments: args, sealed: undefined }
}

/** JSON as text. Some (Ollama) have the object itself. */
export function argumentsText(args: unknown): string {
  if (typeof args === 'string') return args
  return args === undefined || args === null ? '' : JSON.stringify(args)
}

/** Text or parts; null and nothing at all are no parts. */
function readContent(content: unknown, message: string): Part[] {
  const at = `${message}.content`
  if (content === null || content === undefined || content === '') return []
  if (typeof content === 'string') return [{ type: 'text', text: content }]
  if (!Array.isArray(content)) throw wrongType(at, 'text or a list of parts')
  return content.flatMap((part, index) => readPart(part, `${at}[${index}]`))
}

function readPart(part: unknown, at: string): Part[] {
  if (typeof part === 'string') return [{ type: 'text', text: part }]
  if (!isObject(part)) throw wrongType(at, 'an object')
  const cache = readCache(part)
  switch (part.type) {
    case 'text':
      return [{ type: 'text', text: required(part.text, `${at}.text`, true), ...(cache && { cache }) }]
    case 'refusal':
      return [{ type: 'refusal', text: required(part.refusal, `${at}.refusal`, true) }]
    case 'image_url': {
      const inner = isObject(part.image_url) ? part.image_url : { url: part.image_url }
      const source = toSource(required(inner.url, `${at}.image_url.url`))
      const detail = textAt(inner.detail, `${at}.image_url.detail`)
      return [{ type: 'image', source, detail, ...(cache && { cache }) }]
    }
    case 'input_audio': {
      const inner = isObject(part.input_audio) ? part.input_audio : {}
      const base64 = required(inner.data, `${at}.input_audio.data`)
      return [{ type: 'audio', base64, format: textAt(inner.format, `${at}.input_audio.format`) ?? 'wav' }]
    }
    case 'file': {
      const inner = isObject(part.file) ? part.file : {}
      const name = textAt(inner.filename, `${at}.file.filename`)
      const source: Source =
        typeof inner.file_id === 'string'
          ? { kind: 'file', id: inner.file_id }
          : toFile(required(inner.file_data, `${at}.file.file_data`))
      return [{ type: 'file', source, name, ...(cache && { cache }) }]
    }
    // Mistral's, which its callers hand back.
    case 'thinking': {
      const inner = Array.isArray(part.thinking) ? part.thinking : [{ text: part.thinking }]
      const said = inner
        .map((one) => (isObject(one) && typeof one.text === 'string' ? one.text : ''))
        .join('')
      return said === '' ? [] : [{ type: 'thinking', text: said, sealed: undefined, isRedacted: false }]
    }
    default:
      throw wrongType(`${at}.type`, 'one of text, image_url, input_audio, file, refusal')
  }
}

/** A file as a data URL, or its bytes in base64 as they are. */
function toFile(data: string): Source {
  if (/^[a-z]+:/i.test(data)) return toSource(data, PDF)
  return { kind: 'base64', mediaType: PDF, base64: data }
}

const PDF = 'application/pdf'

/** `cache_control`, as callers of several vendors write it into parts and tools. */
function readCache({ cache_control: mark }: Members): CacheMark | undefined {
  if (!isObject(mark)) return undefined
  return { ttl: typeof mark.ttl === 'string' ? mark.ttl : undefined }
}

// --- tools ---

function readTools({ tools, functions }: Members): Tool[] {
  const read: Tool[] = []
  if (tools !== undefined && tools !== null) {
    if (!Array.isArray(tools)) throw wrongType('tools', 'a list')
    for (const [index, tool] of tools.entries()) read.push(readTool(tool, `tools[${index}]`))
  }
  for (const [index, one] of (listAt(functions, 'functions') ?? []).entries())
    read.push(readFunction(one, `functions[${index}]`, undefined))
  return read
}

function readTool(tool: unknown, at: string): Tool {
  if (!isObject(tool)) throw wrongType(at, 'an object')
  if (tool.type === 'function' || (tool.type === undefined && isObject(tool.function)))
    return readFunction(tool.function, `${at}.function`, readCache(tool))
  if (tool.type !== 'custom' || !isObject(tool.custom)) throw cannot(`${at}.type`, 'a tool of this type')
  const { name, description, format } = tool.custom
  return {
    kind: 'custom',
    name: required(name, `${at}.custom.name`),
    namespace: undefined,
    description: textAt(description, `${at}.custom.description`),
    parameters: undefined,
    strict: undefined,
    grammar: format,
    cache: readCache(tool),
  }
}

function readFunction(one: unknown, at: string, cache: CacheMark | undefined): Tool {
  if (!isObject(one)) throw wrongType(at, 'an object')
  return {
    kind: 'function',
    name: required(one.name, `${at}.name`),
    namespace: undefined,
    description: textAt(one.description, `${at}.description`),
    parameters: objectAt(one.parameters, `${at}.parameters`),
    strict: flagAt(one.strict, `${at}.strict`),
    grammar: undefined,
    cache,
  }
}

interface ReadChoice {
  readonly choice: ToolChoice | undefined
  /** The only tools that may be called. */
  readonly allowed?: ReadonlySet<string> | undefined
}

function readToolChoice(
  { tool_choice: current, function_call: old }: Members,
  tools: ReadonlyMap<string, Tool>,
): ReadChoice {
  const choice = current ?? old
  if (choice === undefined || choice === null) return { choice: undefined }
  if (choice === 'auto' || choice === 'none' || choice === 'required') return { choice: { type: choice } }
  if (choice === 'any') return { choice: { type: 'required' } }
  const at = current === undefined ? 'function_call' : 'tool_choice'
  if (!isObject(choice)) throw wrongType(at, 'auto, none, required or an object')
  if (isObject(choice.allowed_tools)) {
    const { mode, tools: list } = choice.allowed_tools
    const names = (listAt(list, 'tool_choice.allowed_tools.tools') ?? [])
      .map(nameOf)
      .filter((name) => name !== undefined)
    for (const name of names) mustBeOffered(name, tools, at)
    return { choice: { type: mode === 'required' ? 'required' : 'auto' }, allowed: new Set(names) }
  }
  const name = nameOf(choice)
  if (name === undefined) throw wrongType(at, 'auto, none, required or an object that names a tool')
  // Of none at all nothing is said to a provider.
  if (tools.size > 0) mustBeOffered(name, tools, at)
  return { choice: { type: 'tool', name } }
}

function mustBeOffered(name: string, tools: ReadonlyMap<string, Tool>, param: string): void {
  if (!tools.has(name))
    throw refuse(param, `The field "${param}" names the tool "${name}", which is not among the tools.`)
}

function nameOf(one: unknown): string | undefined {
  if (!isObject(one)) return undefined
  const inner = isObject(one.function) ? one.function : isObject(one.custom) ? one.custom : one
  return typeof inner.name === 'string' ? inner.name : undefined
}

// --- the rest ---

function readStop(stop: unknown): string[] {
  if (stop === undefined || stop === null) return []
  const list = Array.isArray(stop) ? stop : [stop]
  return list.map((one) => required(one, 'stop'))
}

function readResponseFormat(format: unknown): ResponseFormat {
  if (format === undefined || format === null) return { type: 'text' }
  if (!isObject(format)) throw wrongType('response_format', 'an object')
  switch (format.type) {
    case 'text':
      return { type: 'text' }
    case 'json_object':
      return { type: 'json_object' }
    case 'json_schema': {
      const inner = format.json_schema
      if (!isObject(inner)) throw wrongType('response_format.json_schema', 'an object')
      return {
        type: 'json_schema',
        name: textAt(inner.name, 'response_format.json_schema.name') ?? 'answer',
        description: textAt(inner.description, 'response_format.json_schema.description'),
        schema: inner.schema ?? {},
        strict: flagAt(inner.strict, 'response_format.json_schema.strict'),
      }
    }
    default:
      throw wrongType('response_format.type', 'one of text, json_object, json_schema')
  }
}

/** OpenAI's effort, OpenRouter's object, and the switch that Anthropic's and others' models have beside chat. */
function readReasoning({ reasoning_effort, reasoning, thinking }: Members): Reasoning | undefined {
  const effort = textAt(reasoning_effort, 'reasoning_effort')
  const inner = objectAt(reasoning, 'reasoning') ?? {}
  const outer = objectAt(thinking, 'thinking')
  const budgetTokens =
    countAt(outer?.budget_tokens, 'thinking.budget_tokens') ??
    countAt(inner.max_tokens, 'reasoning.max_tokens')
  const found: Reasoning = {
    effort: effort ?? textAt(inner.effort, 'reasoning.effort'),
    budgetTokens: budgetTokens === 0 ? undefined : budgetTokens,
    summary: textAt(inner.summary, 'reasoning.summary'),
  }
  // No tokens to think with is how several vendors turn it off.
  if (outer?.type === 'disabled' || budgetTokens === 0)
    return { ...found, budgetTokens: undefined, effort: found.effort ?? 'none' }
  if (outer !== undefined && budgetTokens === undefined) return { ...found, effort: found.effort ?? 'medium' }
  if (found.effort === undefined && found.budgetTokens === undefined && found.summary === undefined) {
    if (inner.enabled === true) return { ...found, effort: 'medium' }
    return inner.enabled === false ? { ...found, effort: 'none' } : undefined
  }
  return found
}

function required(value: unknown, at: string, mayBeEmpty = false): string {
  if (typeof value !== 'string' || (value === '' && !mayBeEmpty)) throw wrongType(at, 'text')
  return value
}

function least(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b)
}

function cannot(param: string, what: string): GatewayError {
  return new GatewayError(
    'invalid_request',
    `The field "${param}" asks for ${what}, which no provider of this model can be asked for.`,
    { param },
  )
}

// --- writing ---------------------------------------------------------------------------------------------------

/** OpenAI's bound for the name of a tool. */
const LONGEST_NAME = 64
/** OpenAI's too; others take more. */
const MOST_STOPS = 4

/** @throws GatewayError invalid_request */
export function writeChatRequest(given: ChatRequest, asked: Asked): WrittenRequest {
  const { request, lost } = withoutOwnPictures(given)
  const quirks: ReadonlySet<Quirk | string> = new Set(asked.options.quirks?.split(' '))
  const wireNames = createWireNames(LONGEST_NAME)
  const dropped = [...lost]
  const isFull = quirks.has('all-fields')
  const cap = least(request.maxOutputTokens, asked.maxOutputTokens)
  const tools = request.tools.map((tool) => writeTool(tool, wireNames))
  const body: Record<string, unknown> = {
    ...request.extra,
    model: asked.model,
    messages: writeMessages(
      withAnsweredCalls(request.messages),
      wireNames,
      !quirks.has('no-reasoning-content'),
    ),
  }
  const set = (name: string, value: unknown): void => {
    if (value !== undefined) body[name] = value
  }
  const setWhereKnown = (name: string, value: unknown, isKnown: boolean): void => {
    if (value === undefined) return
    if (isKnown) body[name] = value
    else dropped.push(name)
  }
  if (tools.length > 0) {
    set('tools', tools)
    set('tool_choice', request.toolChoice && writeToolChoice(request.toolChoice, wireNames))
    set('parallel_tool_calls', request.parallelToolCalls)
  }
  set(quirks.has('max-completion-tokens') ? 'max_completion_tokens' : 'max_tokens', cap)
  set('temperature', request.temperature)
  set('top_p', request.topP)
  if (isFull && request.stop.length > MOST_STOPS)
    throw refuse('stop', `This deployment takes ${MOST_STOPS} stop sequences at most.`)
  if (request.stop.length > 0) set('stop', request.stop)
  if (request.choices > 1) set('n', request.choices)
  set('seed', request.seed)
  set('presence_penalty', request.presencePenalty)
  set('frequency_penalty', request.frequencyPenalty)
  if (request.responseFormat.type !== 'text')
    set('response_format', writeResponseFormat(request.responseFormat))
  set('reasoning_effort', writeEffort(request.reasoning, isFull))
  setWhereKnown('user', request.user, isShownUser(request.user))
  setWhereKnown('top_k', request.topK, false)
  setWhereKnown('verbosity', request.verbosity, isFull)
  setWhereKnown('service_tier', request.serviceTier, isFull)
  // Without `store` OpenAI refuses it, and nothing is stored for a caller here.
  setWhereKnown('metadata', request.metadata, false)
  // Only a hint: nobody misses it.
  if (isFull) set('prompt_cache_key', request.cacheKey)
  if (request.stream) {
    set('stream', true)
    set('stream_options', { include_usage: true })
  }
  return { body, headers: [], dropped, names: wireNames.names }
}

/** More than 64 characters OpenAI has refused; Claude Code and others name users, devices and sessions with more. */
export function isShownUser(user: string | undefined): boolean {
  return user !== undefined && user.length <= LONGEST_USER
}

const LONGEST_USER = 64

/** Which effort a budget comes to (wire §5), in the words that a server knows. */
function writeEffort(reasoning: Reasoning | undefined, isFull: boolean): string | undefined {
  if (reasoning === undefined) return undefined
  const { budgetTokens } = reasoning
  const effort =
    reasoning.effort ??
    (budgetTokens === undefined
      ? undefined
      : budgetTokens <= 2048
        ? 'low'
        : budgetTokens <= 8192
          ? 'medium'
          : 'high')
  if (effort === undefined || isFull) return effort
  if (effort === 'none') return undefined
  return LESSER_EFFORTS.get(effort) ?? 'high'
}

const LESSER_EFFORTS: ReadonlyMap<string, string> = new Map([
  ['minimal', 'low'],
  ['low', 'low'],
  ['medium', 'medium'],
])

function writeResponseFormat(format: Exclude<ResponseFormat, { type: 'text' }>): unknown {
  if (format.type === 'json_object') return { type: 'json_object' }
  const { name, description, schema, strict } = format
  return {
    type: 'json_schema',
    json_schema: {
      name,
      ...(description !== undefined && { description }),
      schema,
      ...(strict !== undefined && { strict }),
    },
  }
}

function writeTool(tool: Tool, names: WireNames): unknown {
  const isCustom = tool.kind === 'custom'
  const description = isCustom ? describeCustom(tool) : tool.description
  const parameters = isCustom ? CUSTOM_PARAMETERS : tool.parameters
  return {
    type: 'function',
    function: {
      name: names.toWire(tool),
      ...(description !== undefined && { description }),
      ...(parameters !== undefined && { parameters }),
      ...(tool.strict !== undefined && !isCustom && { strict: tool.strict }),
    },
  }
}

function writeToolChoice(choice: ToolChoice, names: WireNames): unknown {
  if (choice.type !== 'tool') return choice.type
  const name = names.toWire({ name: choice.name, namespace: choice.namespace, kind: 'function' })
  return { type: 'function', function: { name } }
}

function writeMessages(messages: readonly Message[], names: WireNames, hasReasoning: boolean): unknown[] {
  const written: unknown[] = []
  /** Pictures that tools gave: a result is text, and nothing may stand between the results of one turn. */
  let pictures: unknown[] = []
  let leading: string[] | undefined = []
  function flush(): void {
    // Many templates take one system message, and that in front.
    if (leading !== undefined && leading.length > 0)
      written.push({ role: 'system', content: leading.join('\n\n') })
    leading = undefined
    if (pictures.length > 0) written.push({ role: 'user', content: pictures })
    pictures = []
  }
  for (const [index, message] of messages.entries()) {
    const at = `messages[${index}]`
    if ((message.role === 'system' || message.role === 'developer') && leading !== undefined) {
      leading.push(joinText(message.content))
      continue
    }
    if (message.role === 'tool') {
      if (leading !== undefined) flush()
      const shown = message.content.filter((part) => part.type === 'image' || part.type === 'file')
      const content = joinText(message.content)
      const note = shown.length === 0 ? '' : `${content === '' ? '' : '\n'}${PICTURE_NOTE}`
      written.push({
        role: 'tool',
        tool_call_id: message.callId,
        content: `${message.isError ? ERROR_NOTE : ''}${content}${note}`,
      })
      append(
        pictures,
        shown.map((part) => writePart(part, at)),
      )
      continue
    }
    flush()
    if (message.role === 'assistant') written.push(writeAssistant(message.content, names, hasReasoning))
    else if (message.role === 'user') {
      const { name } = message
      written.push({
        role: 'user',
        content: writeContent(message.content, at),
        ...(name !== undefined && { name }),
      })
    } else written.push({ role: 'system', content: joinText(message.content) })
  }
  flush()
  return written
}

const PICTURE_NOTE = '[what this tool has shown follows in the next message]'
const ERROR_NOTE = 'Error: '

/** Text alone is a string: some servers read no other. */
function writeContent(parts: readonly Part[], at: string): unknown {
  const [only] = parts
  if (parts.length === 0) return ''
  if (parts.length === 1 && only?.type === 'text') return only.text
  return parts.map((part) => writePart(part, at))
}

function writePart(part: Part, at: string): unknown {
  switch (part.type) {
    case 'text':
    case 'refusal':
    case 'thinking':
      return { type: 'text', text: part.text }
    case 'image': {
      const { source, detail } = part
      if (source.kind === 'file') throw cannot(at, 'an image that is kept in an account')
      return { type: 'image_url', image_url: { url: toUrl(source), ...(detail !== undefined && { detail }) } }
    }
    case 'file': {
      const { source, name } = part
      if (source.kind === 'url') throw cannot(at, 'a file by its address')
      if (source.kind === 'file') return { type: 'file', file: { file_id: source.id } }
      return { type: 'file', file: { filename: name ?? 'file.pdf', file_data: toUrl(source) } }
    }
    case 'audio':
      return { type: 'input_audio', input_audio: { data: part.base64, format: part.format } }
    case 'call':
      throw cannot(at, 'a call of a tool by a user')
  }
}

function writeAssistant(content: readonly Part[], names: WireNames, hasReasoning: boolean): unknown {
  const thoughts = content.filter((part): part is ThinkingPart => part.type === 'thinking')
  const said = joinText(content)
  const refusal = content.flatMap((part) => (part.type === 'refusal' ? part.text : [])).join('')
  const calls = content.flatMap((part) => (part.type === 'call' ? writeCall(part, names) : []))
  const thought = thoughts.map((part) => part.text).join('')
  const details = ownDetails(thoughts)
  return {
    role: 'assistant',
    content: said === '' && (calls.length > 0 || refusal !== '') ? null : said,
    ...(refusal !== '' && { refusal }),
    ...(hasReasoning && thought !== '' && { reasoning_content: thought }),
    ...(details.length > 0 && { reasoning_details: details }),
    ...(calls.length > 0 && { tool_calls: calls }),
  }
}

function writeCall(call: CallPart, names: WireNames): unknown {
  const name = names.toWire(call)
  const args = call.kind === 'custom' ? JSON.stringify(wrapCustom(call.arguments)) : call.arguments || '{}'
  const own = call.sealed?.origin === 'openai' ? writeCallSeal(call.sealed) : {}
  return { id: call.id, type: 'function', function: { name, arguments: args }, ...own }
}

function joinText(parts: readonly Part[]): string {
  return parts.flatMap((part) => (part.type === 'text' ? part.text : [])).join('\n\n')
}
