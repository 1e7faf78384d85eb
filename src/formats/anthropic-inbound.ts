// A Messages request, as Claude Code and Anthropic's SDKs send it, in canonical form: for a deployment that speaks
// another format. What only Anthropic can run (server tools, containers, context management) is left out and told;
// what would change the meaning of the conversation is refused by its name. Pure.

import { createHash } from 'node:crypto'
import { elements } from '../bytes/json-list.ts'
import { scanNested, scanObject } from '../bytes/json-scan.ts'
import { isObject } from '../bytes/json-value.ts'
import { GatewayError } from '../errors.ts'
import type { Span } from '../types.ts'
import { ANTHROPIC } from './anthropic-words.ts'
import type {
  CacheMark,
  CallPart,
  Message,
  Part,
  Reasoning,
  ResponseFormat,
  Seal,
  Source,
  Tool,
  ToolChoice,
} from './canonical.ts'
import { budgetToEffort } from './effort.ts'
import type { ReadRequest } from './format.ts'
import { unpackSeal } from './seals.ts'
import { toMediaType } from './sources.ts'
import { append } from './turns.ts'

type Sent = Readonly<Record<string, unknown>>

/** Members that are read; all others mean something to Anthropic only. */
const READ: ReadonlySet<string> = new Set([
  'model',
  'messages',
  'max_tokens',
  'system',
  'tools',
  'tool_choice',
  'stop_sequences',
  'temperature',
  'top_p',
  'top_k',
  'thinking',
  'output_config',
  'output_format',
  'metadata',
  'service_tier',
  'stream',
])

/** @throws GatewayError `invalid_request` that names the field. */
export function readRequest(sent: Sent, body?: Buffer): ReadRequest {
  const dropped = new Set<string>(Object.keys(sent).filter((name) => !READ.has(name)))
  const tools = readTools(sent.tools, dropped)
  const { toolChoice, parallelToolCalls } = readToolChoice(sent.tool_choice, tools, dropped)
  const system = readSystem(sent.system)
  const metadata = optional(sent.metadata, isObject, 'metadata', 'an object')
  const userId = optional(metadata?.user_id, isText, 'metadata.user_id', 'a text')
  const stream = optional(sent.stream, isFlag, 'stream', 'true or false') ?? false
  const serviceTier = optional(sent.service_tier, isText, 'service_tier', 'a text')
  return {
    request: {
      messages: [
        ...(system.length > 0 ? [{ role: 'system' as const, content: system }] : []),
        ...readMessages(sent.messages, { dropped, inputs: inputsOf(body) }),
      ],
      tools,
      toolChoice,
      parallelToolCalls,
      maxOutputTokens: readMaxTokens(sent.max_tokens),
      temperature: optional(sent.temperature, isNumber, 'temperature', 'a number'),
      topP: optional(sent.top_p, isNumber, 'top_p', 'a number'),
      topK: optional(sent.top_k, isNumber, 'top_k', 'a number'),
      stop: readList(sent.stop_sequences, 'stop_sequences').map((one, at) => {
        if (typeof one !== 'string') throw wrong(`stop_sequences.${at}`, 'a text')
        return one
      }),
      choices: 1,
      seed: undefined,
      presencePenalty: undefined,
      frequencyPenalty: undefined,
      responseFormat: readFormat(sent),
      reasoning: readReasoning(sent),
      verbosity: undefined,
      user: isSession(userId) ? undefined : userId,
      cacheKey:
        userId === undefined ? undefined : createHash('sha256').update(userId).digest('hex').slice(0, 32),
      serviceTier: serviceTier === 'standard_only' ? 'default' : serviceTier,
      metadata: undefined,
      stream,
      includeUsage: true,
      extra: {},
    },
    dropped: [...dropped],
  }
}

/** A member of the request by the name that it has here. What is derived of another has none. */
export function memberOf(name: string, { thinking, metadata }: Sent): string | undefined {
  // Where in the conversation chat would have it is not where it stands here.
  if (MESSAGES.test(name)) return 'messages'
  if (name === 'reasoning_effort')
    return isObject(thinking) && thinking.type !== 'disabled' ? 'thinking' : 'output_config.effort'
  if (name === 'prompt_cache_key')
    return isObject(metadata) && isSession(metadata.user_id) ? USER_ID : undefined
  return NAMES.get(name) ?? name
}

const MESSAGES = /^messages\b/
const USER_ID = 'metadata.user_id'
const NAMES: ReadonlyMap<string, string> = new Map([
  ['stop', 'stop_sequences'],
  ['user', USER_ID],
])

/** Claude Code writes device, account and session into it: nothing for another vendor to see. */
function isSession(userId: unknown): boolean {
  return typeof userId === 'string' && userId.startsWith('{')
}

// --- messages ----------------------------------------------------------------------------------------------------

/** Claude Code's first system block: it counts versions and requests, and would make every prompt a new one. */
const BILLING_LINE = /^x-anthropic-billing-header:[^\n]*(?:\n|$)/

function readSystem(system: unknown): Part[] {
  if (system === undefined || system === null) return []
  return readTexts(system, 'system').flatMap((part) => {
    const text = part.text.replace(BILLING_LINE, '')
    return text === '' ? [] : [{ ...part, text }]
  })
}

type TextPart = Extract<Part, { readonly type: 'text' }>

/** A text, or blocks of text. */
function readTexts(content: unknown, path: string): TextPart[] {
  if (typeof content === 'string') return [{ type: 'text', text: content }]
  return readBlocks(content, path).map((block, at) => {
    if (!isObject(block) || block.type !== 'text' || typeof block.text !== 'string')
      throw wrong(`${path}.${at}`, 'a block of text')
    return withCache({ type: 'text' as const, text: block.text }, block)
  })
}

/** What a call is called with, as it was written, by the places of its message and its block; undefined where it may be read anew. */
type Inputs = (message: number, block: number) => string | undefined

const LONG_NUMBER = /\d{16}/

/** A number of more digits than JavaScript has would not come through a parser as it was. */
function inputsOf(body: Buffer | undefined): Inputs {
  if (body === undefined || !LONG_NUMBER.test(body.toString('latin1'))) return () => undefined
  const scan = scanObject(body)
  const span = scan.ok ? scan.members.get('messages') : undefined
  const messages = span === undefined ? [] : elements(body, span)
  const known = new Map<number, readonly Span[]>()
  return (message, block) => {
    let blocks = known.get(message)
    if (blocks === undefined) {
      const content = memberAt(body, messages[message], 'content')
      blocks = content === undefined ? [] : elements(body, content)
      known.set(message, blocks)
    }
    const input = memberAt(body, blocks[block], 'input')
    return input && body.toString('utf8', input.start, input.end)
  }
}

function memberAt(body: Buffer, span: Span | undefined, name: string): Span | undefined {
  const scan = span === undefined ? undefined : scanNested(body, span)
  return scan?.ok === true ? scan.members.get(name) : undefined
}

interface Reading {
  readonly dropped: Set<string>
  readonly inputs: Inputs
}

function readMessages(messages: unknown, { dropped, inputs }: Reading): Message[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw wrong('messages', 'a list with at least one message')
  return messages.flatMap((message: unknown, at): Message[] => {
    const path = `messages.${at}`
    if (!isObject(message)) throw wrong(path, 'an object')
    const { role, content } = message
    if (role === 'system') return [{ role, content: readTexts(content, `${path}.content`) }]
    if (role === 'user') return readUser(content, { path: `${path}.content`, dropped })
    if (role !== 'assistant') throw wrong(`${path}.role`, '"user", "assistant" or "system"')
    const inputOf = (block: number) => inputs(at, block)
    const parts = readAssistant(content, { path: `${path}.content`, dropped, inputOf })
    return parts.length > 0 ? [{ role, content: parts }] : []
  })
}

interface Place {
  readonly path: string
  readonly dropped: Set<string>
}

/** Results first, each a message of its own, whatever stood between them. */
function readUser(content: unknown, { path, dropped }: Place): Message[] {
  if (typeof content === 'string')
    return [{ role: 'user', content: [{ type: 'text', text: content }], name: undefined }]
  const results: Message[] = []
  const parts: Part[] = []
  for (const [at, block] of readBlocks(content, path).entries()) {
    const place = { path: `${path}.${at}`, dropped }
    if (!isObject(block)) throw wrong(place.path, 'an object')
    if (block.type === 'tool_result') results.push(readResult(block, place))
    else append(parts, readBlock(block, place))
  }
  return parts.length > 0 ? [...results, { role: 'user', content: parts, name: undefined }] : results
}

function readResult(block: Sent, { path, dropped }: Place): Message {
  if (typeof block.tool_use_id !== 'string') throw wrong(`${path}.tool_use_id`, 'a text')
  const { content } = block
  const parts: Part[] =
    typeof content === 'string'
      ? [{ type: 'text', text: content }]
      : readBlocks(content, `${path}.content`).flatMap((inner, at) => {
          const place = { path: `${path}.content.${at}`, dropped }
          if (!isObject(inner)) throw wrong(place.path, 'an object')
          return readBlock(inner, place)
        })
  return {
    role: 'tool',
    callId: block.tool_use_id,
    content: parts,
    isError: block.is_error === true,
    cache: readCache(block),
  }
}

/** What only Anthropic's own tools understand: it goes with them. */
const SERVER_BLOCKS = /^(?:\w+_tool_result|container_upload|tool_reference|browser_state)$/
/** What an assistant's turn holds that others can read too. */
const COMMON_BLOCKS: ReadonlySet<unknown> = new Set(['text', 'image', 'document', 'search_result'])

function readBlock(block: Sent, { path, dropped }: Place): Part[] {
  switch (block.type) {
    case 'text':
      if (typeof block.text !== 'string') throw wrong(`${path}.text`, 'a text')
      return [withCache({ type: 'text', text: block.text }, block)]
    case 'image':
      return [withCache({ type: 'image', source: readSource(block.source, path), detail: undefined }, block)]
    case 'document':
      return readDocument(block, path)
    case 'search_result':
      return [withCache({ type: 'text', text: searchText(block, path) }, block)]
    default:
      if (typeof block.type !== 'string') throw wrong(`${path}.type`, 'a text')
      if (!SERVER_BLOCKS.test(block.type)) throw wrong(`${path}.type`, 'a type of block that is known here')
      dropped.add(block.type)
      return []
  }
}

function readSource(source: unknown, path: string): Source {
  if (!isObject(source)) throw wrong(`${path}.source`, 'an object')
  const { type, media_type: mediaType, data, url, file_id: id } = source
  if (type === 'base64' && typeof data === 'string' && typeof mediaType === 'string')
    return { kind: 'base64', mediaType: toMediaType(mediaType), base64: data }
  if (type === 'url' && typeof url === 'string') return { kind: 'url', url, mediaType: undefined }
  if (type === 'file' && typeof id === 'string') return { kind: 'file', id }
  throw wrong(`${path}.source`, 'a source of type "base64", "url" or "file"')
}

function readDocument(block: Sent, path: string): Part[] {
  const { source, title, context } = block
  const name = typeof title === 'string' ? title : undefined
  if (!isObject(source) || (source.type !== 'text' && source.type !== 'content')) {
    const read = readSource(source, path)
    return [withCache({ type: 'file', source: pdf(read), name }, block)]
  }
  const parts: Part[] =
    source.type === 'text' && typeof source.data === 'string'
      ? [{ type: 'text', text: source.data }]
      : typeof source.content === 'string'
        ? [{ type: 'text', text: source.content }]
        : readBlocks(source.content, `${path}.source.content`).flatMap((inner, at) => {
            const place = { path: `${path}.source.content.${at}`, dropped: new Set<string>() }
            if (!isObject(inner)) throw wrong(place.path, 'an object')
            return readBlock(inner, place)
          })
  const head = [name, typeof context === 'string' ? context : undefined].filter((line) => line !== undefined)
  const all: Part[] = head.length > 0 ? [{ type: 'text', text: head.join('\n') }, ...parts] : parts
  const last = all.at(-1)
  return last === undefined || last.type !== 'text' ? all : [...all.slice(0, -1), withCache(last, block)]
}

/** A document at an address is one of these too. */
function pdf(source: Source): Source {
  return source.kind === 'url' ? { ...source, mediaType: 'application/pdf' } : source
}

function searchText(block: Sent, path: string): string {
  const head = [block.title, block.source].filter((line) => typeof line === 'string')
  const texts = readTexts(block.content ?? [], `${path}.content`).map(({ text }) => text)
  return [...head, ...texts].join('\n')
}

interface Said extends Place {
  readonly inputOf: (block: number) => string | undefined
}

function readAssistant(content: unknown, { path, dropped, inputOf }: Said): Part[] {
  if (typeof content === 'string') return [{ type: 'text', text: content }]
  const parts: Part[] = []
  /** A call's own seal stands in a thought of ours before it (outbound). */
  let callSeal: Seal | undefined
  for (const [at, block] of readBlocks(content, path).entries()) {
    const place = { path: `${path}.${at}`, dropped }
    if (!isObject(block)) throw wrong(place.path, 'an object')
    if (block.type === 'thinking' || block.type === 'redacted_thinking') {
      const isRedacted = block.type === 'redacted_thinking'
      const seal = isRedacted ? block.data : block.signature
      const { of, sealed } = unpackSeal(typeof seal === 'string' ? seal : '', ANTHROPIC)
      const text = typeof block.thinking === 'string' ? block.thinking : ''
      if (of === 'call') callSeal = sealed
      else if (text !== '' || sealed !== undefined) parts.push({ type: 'thinking', text, sealed, isRedacted })
    } else if (block.type === 'tool_use') {
      parts.push(readCall(block, { ...place, sealed: callSeal, written: inputOf(at) }))
      callSeal = undefined
    } else if (COMMON_BLOCKS.has(block.type)) append(parts, readBlock(block, place))
    // What the model's own tools did, and what comes to be: nobody else made it, nobody else can read it.
    else {
      if (typeof block.type !== 'string') throw wrong(`${place.path}.type`, 'a text')
      dropped.add(block.type)
    }
  }
  return parts
}

interface Call extends Place {
  readonly sealed: Seal | undefined
  /** Its input, as it was written. */
  readonly written: string | undefined
}

function readCall(block: Sent, { path, sealed, written }: Call): CallPart {
  const { id, name, input } = block
  if (typeof id !== 'string') throw wrong(`${path}.id`, 'a text')
  if (typeof name !== 'string') throw wrong(`${path}.name`, 'a text')
  return withCache(
    {
      type: 'call',
      kind: 'function',
      id,
      name,
      namespace: undefined,
      arguments: isObject(input) && written !== undefined ? written : JSON.stringify(input ?? {}),
      sealed,
    },
    block,
  )
}

function readCache({ cache_control: mark }: Sent): CacheMark | undefined {
  if (!isObject(mark)) return undefined
  return { ttl: typeof mark.ttl === 'string' ? mark.ttl : undefined }
}

function withCache<P extends Part>(part: P, block: Sent): P {
  const cache = readCache(block)
  return cache === undefined ? part : { ...part, cache }
}

// --- tools -----------------------------------------------------------------------------------------------------

/** Without an input schema a tool is run, or at least described, by Anthropic. */
function readTools(tools: unknown, dropped: Set<string>): Tool[] {
  return readList(tools, 'tools').flatMap((tool, at): Tool[] => {
    if (!isObject(tool)) throw wrong(`tools.${at}`, 'an object')
    const { name, type, description, input_schema: parameters, strict } = tool
    if (parameters === undefined && typeof type === 'string' && type !== 'custom') {
      dropped.add(`tools.${type}`)
      return []
    }
    if (typeof name !== 'string' || name === '') throw wrong(`tools.${at}.name`, 'a text')
    if (parameters !== undefined && !isObject(parameters))
      throw wrong(`tools.${at}.input_schema`, 'an object')
    return [
      {
        kind: 'function',
        name,
        namespace: undefined,
        description: optional(description, isText, `tools.${at}.description`, 'a text'),
        parameters,
        strict: optional(strict, isFlag, `tools.${at}.strict`, 'true or false'),
        grammar: undefined,
        cache: readCache(tool),
      },
    ]
  })
}

function readToolChoice(
  choice: unknown,
  tools: readonly Tool[],
  dropped: Set<string>,
): { readonly toolChoice: ToolChoice | undefined; readonly parallelToolCalls: boolean | undefined } {
  if (choice === undefined || choice === null) return { toolChoice: undefined, parallelToolCalls: undefined }
  if (!isObject(choice)) throw wrong('tool_choice', 'an object')
  // A choice among no tools is refused by most.
  if (tools.length === 0) return { toolChoice: undefined, parallelToolCalls: undefined }
  const parallelToolCalls = choice.disable_parallel_tool_use === true ? false : undefined
  return { toolChoice: toToolChoice(choice, tools, dropped), parallelToolCalls }
}

function toToolChoice({ type, name }: Sent, tools: readonly Tool[], dropped: Set<string>): ToolChoice {
  if (type === 'auto' || type === 'none') return { type }
  if (type === 'any') return { type: 'required' }
  if (type !== 'tool') throw wrong('tool_choice.type', '"auto", "any", "tool" or "none"')
  if (typeof name !== 'string') throw wrong('tool_choice.name', 'a text')
  if (tools.some((tool) => tool.name === name)) return { type: 'tool', name }
  // One of Anthropic's own, which nobody else has.
  dropped.add('tool_choice')
  return { type: 'auto' }
}

// --- the rest ----------------------------------------------------------------------------------------------------

/** Zero only fills a cache; the least that others know is one. */
function readMaxTokens(value: unknown): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0)
    throw wrong('max_tokens', 'a whole number from 0')
  return Math.max(1, value)
}

function readFormat(sent: Sent): ResponseFormat {
  const { output_config: config, output_format: early } = sent
  const format = isObject(config) && config.format != null ? config.format : early
  if (format === undefined || format === null) return { type: 'text' }
  if (!isObject(format) || format.type !== 'json_schema' || !isObject(format.schema))
    throw wrong('output_config.format', 'an object of type "json_schema" with a schema')
  const { schema } = format
  return { type: 'json_schema', name: 'answer', description: undefined, schema, strict: isClosed(schema, 0) }
}

const MOST_DEPTH = 128

/** OpenAI holds strictly only to schemas in which every member is required and no other is allowed. */
function isClosed(schema: unknown, depth: number): boolean {
  if (depth > MOST_DEPTH) return false
  if (Array.isArray(schema)) return schema.every((one) => isClosed(one, depth + 1))
  if (!isObject(schema)) return true
  const { properties, required } = schema
  if (isObject(properties)) {
    if (schema.additionalProperties !== false) return false
    const needed = new Set<unknown>(Array.isArray(required) ? required : [])
    if (!Object.keys(properties).every((name) => needed.has(name))) return false
  }
  return Object.values(schema).every((one) => isClosed(one, depth + 1))
}

function readReasoning({ thinking, output_config: config }: Sent): Reasoning | undefined {
  const told = optional(
    optional(config, isObject, 'output_config', 'an object')?.effort,
    isText,
    'output_config.effort',
    'a text',
  )
  if (thinking === undefined || thinking === null)
    return told === undefined ? undefined : { effort: told, budgetTokens: undefined, summary: undefined }
  if (!isObject(thinking)) throw wrong('thinking', 'an object')
  const { type, budget_tokens: budget, display } = thinking
  const summary = display === 'omitted' ? undefined : 'auto'
  switch (type) {
    case 'adaptive':
      return { effort: told, budgetTokens: undefined, summary }
    case 'enabled': {
      if (!isNumber(budget) || !Number.isInteger(budget) || budget < 1)
        throw wrong('thinking.budget_tokens', 'a whole number from 1')
      return { effort: told ?? budgetToEffort(budget), budgetTokens: budget, summary }
    }
    case 'disabled':
    case 'between_tools':
      return { effort: 'none', budgetTokens: undefined, summary: undefined }
    default:
      throw wrong('thinking.type', '"adaptive", "enabled" or "disabled"')
  }
}

/** What might have been a text as well. */
function readBlocks(value: unknown, path: string): readonly unknown[] {
  if (value === undefined || value === null || Array.isArray(value)) return readList(value, path)
  throw wrong(path, 'text or a list of blocks')
}

function readList(value: unknown, path: string): readonly unknown[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw wrong(path, 'a list')
  return value
}

function optional<T>(
  value: unknown,
  is: (value: unknown) => value is T,
  path: string,
  wanted: string,
): T | undefined {
  if (value === undefined || value === null) return undefined
  if (!is(value)) throw wrong(path, wanted)
  return value
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function isFlag(value: unknown): value is boolean {
  return typeof value === 'boolean'
}

function wrong(path: string, wanted: string): GatewayError {
  return new GatewayError('invalid_request', `${path}: must be ${wanted}.`, { param: path })
}
