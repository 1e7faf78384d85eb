// A request to the Responses API, read into canonical form. Items that only OpenAI's own tools make are carried as calls
// where their caller ran them, and left out where the provider did.
// Source: OpenAI API reference, POST /responses; openai-node src/resources/responses.

import { isObject } from '../bytes/json-value.ts'
import type { GatewayError } from '../errors.ts'
import type { Message, Part, Reasoning, ResponseFormat, Seal, Tool, ToolChoice } from './canonical.ts'
import type { ReadRequest } from './format.ts'
import {
  countAt,
  flagAt,
  listAt,
  mustBe,
  numberAt,
  objectAt,
  refuse,
  textAt,
  textsAt,
  wrongType,
} from './members.ts'
import { toPicture } from './pictures.ts'
import { pictureOf } from './responses-provider.ts'
import { readSeal } from './responses-seals.ts'
import { toSource } from './sources.ts'
import { append } from './turns.ts'

type Members = Readonly<Record<string, unknown>>

/** Members that are read, or that mean nothing behind this gateway: none of them is told of. */
const KNOWN: ReadonlySet<string> = new Set([
  'model',
  'stream',
  'stream_options',
  'store',
  'include',
  'client_metadata',
  'instructions',
  'input',
  'tools',
  'tool_choice',
  'parallel_tool_calls',
  'max_output_tokens',
  'temperature',
  'top_p',
  'top_logprobs',
  'text',
  'reasoning',
  'user',
  'safety_identifier',
  'prompt_cache_key',
  'service_tier',
  'metadata',
])

/** Why a member cannot be served, unless its value is one of these, whoever answers. */
export const REFUSED = [
  ['background', /^(?:null|false)$/, 'An answer in the background would have to be kept for its caller.'],
] as const

/** The same, where the request has to be told in other words. */
const REFUSED_ELSEWHERE = [
  ...REFUSED,
  ['prompt', /^null$/, 'A prompt that is kept in the account of a provider is not at hand elsewhere.'],
] as const

const STATEFUL = ['previous_response_id', 'conversation'] as const

/** @throws GatewayError `invalid_request` that names the field. */
export function readResponsesRequest(sent: Members): ReadRequest {
  const dropped = new Set<string>()
  refuseStateful(sent)
  for (const [name, value] of Object.entries(sent)) {
    const isDefault = value === null || (name === 'truncation' && value === 'disabled')
    if (!KNOWN.has(name) && !isRefusable(name) && !isDefault) dropped.add(name)
  }

  const tools = new Map<string, Tool>()
  addTools(tools, listAt(sent.tools, 'tools') ?? [], { param: 'tools', dropped })
  const messages: Message[] = []
  const instructions = textAt(sent.instructions, 'instructions')
  if (instructions !== undefined && instructions !== '')
    messages.push({ role: 'system', content: [{ type: 'text', text: instructions }] })
  readInput(mustBe(sent.input ?? undefined, 'input'), { messages, tools, dropped })

  const text = objectAt(sent.text, 'text') ?? {}
  const chosen = readToolChoice(sent.tool_choice, [...tools.values()])
  const effort = readReasoning(sent.reasoning)
  const hasTools = chosen.tools.length > 0
  return {
    request: {
      messages,
      tools: chosen.tools,
      toolChoice: hasTools ? chosen.choice : undefined,
      parallelToolCalls: hasTools ? flagAt(sent.parallel_tool_calls, 'parallel_tool_calls') : undefined,
      maxOutputTokens: countAt(sent.max_output_tokens, 'max_output_tokens'),
      temperature: numberAt(sent.temperature, 'temperature'),
      topP: numberAt(sent.top_p, 'top_p'),
      topK: undefined,
      stop: [],
      choices: 1,
      seed: undefined,
      presencePenalty: undefined,
      frequencyPenalty: undefined,
      responseFormat: readFormat(text.format),
      reasoning: effort,
      verbosity: textAt(text.verbosity, 'text.verbosity'),
      user: textAt(sent.safety_identifier, 'safety_identifier') ?? textAt(sent.user, 'user'),
      cacheKey: textAt(sent.prompt_cache_key, 'prompt_cache_key'),
      serviceTier: textAt(sent.service_tier, 'service_tier'),
      metadata: textsAt(sent.metadata, 'metadata'),
      stream: flagAt(sent.stream, 'stream') ?? false,
      includeUsage: true,
      extra: readLogprobs(sent),
    },
    dropped: [...dropped],
  }
}

/** A member of the request by the name that it has here. */
export function memberOf(name: string, sent: Members): string | undefined {
  // Where in the conversation chat would have it is not where it stands here.
  if (/^messages\b/.test(name)) return 'input'
  if (name === 'user') return (sent.safety_identifier ?? null) === null ? 'user' : 'safety_identifier'
  return NAMES.get(name) ?? name
}

const NAMES: ReadonlyMap<string, string> = new Map([
  ['verbosity', 'text.verbosity'],
  ['reasoning_effort', 'reasoning.effort'],
  ['logprobs', 'include'],
])

function refuseStateful(sent: Members): void {
  for (const name of STATEFUL) {
    if ((sent[name] ?? null) === null) continue
    throw refuse(
      name,
      `The field "${name}" refers to state in an account that many agents share; send the whole conversation instead.`,
    )
  }
  for (const [name, harmless, why] of REFUSED_ELSEWHERE) {
    const value = sent[name]
    if (value !== undefined && !harmless.test(JSON.stringify(value)))
      throw refuse(name, `The field "${name}" is not served here. ${why}`)
  }
}

function isRefusable(name: string): boolean {
  return STATEFUL.some((one) => one === name) || REFUSED_ELSEWHERE.some(([one]) => one === name)
}

/** The probabilities of tokens by the names that chat has for them. */
function readLogprobs(sent: Members): Members {
  const most = countAt(sent.top_logprobs, 'top_logprobs')
  const include = listAt(sent.include, 'include') ?? []
  if (!include.includes(LOGPROBS)) return {}
  return { logprobs: true, ...(most !== undefined && { top_logprobs: most }) }
}

const LOGPROBS = 'message.output_text.logprobs'

function readReasoning(value: unknown): Reasoning | undefined {
  const reasoning = objectAt(value, 'reasoning') ?? {}
  const effort = textAt(reasoning.effort, 'reasoning.effort')
  const summary =
    textAt(reasoning.summary, 'reasoning.summary') ??
    textAt(reasoning.generate_summary, 'reasoning.generate_summary')
  if (effort === undefined && summary === undefined) return undefined
  return { effort, budgetTokens: undefined, summary }
}

function readFormat(value: unknown): ResponseFormat {
  const format = objectAt(value, 'text.format')
  if (format === undefined || format.type === 'text') return { type: 'text' }
  if (format.type === 'json_object') return { type: 'json_object' }
  if (format.type !== 'json_schema')
    throw wrongType('text.format.type', '"text", "json_object" or "json_schema"')
  return {
    type: 'json_schema',
    name: textAt(format.name, 'text.format.name') ?? 'response',
    description: textAt(format.description, 'text.format.description'),
    schema: mustBe(objectAt(format.schema, 'text.format.schema'), 'text.format.schema'),
    strict: flagAt(format.strict, 'text.format.strict'),
  }
}

// --- tools ---------------------------------------------------------------------------------------------------------

interface ToolsAt {
  readonly param: string
  readonly dropped: Set<string>
  readonly namespace?: { readonly name: string; readonly description: string | undefined } | undefined
}

function addTools(tools: Map<string, Tool>, list: readonly unknown[], at: ToolsAt): void {
  for (const [i, value] of list.entries()) {
    const param = `${at.param}[${i}]`
    const tool = mustBe(objectAt(value, param), param)
    const type = mustBe(textAt(tool.type, `${param}.type`), `${param}.type`)
    if (type === 'namespace') {
      const name = mustBe(textAt(tool.name, `${param}.name`), `${param}.name`)
      const namespace = { name, description: textAt(tool.description, `${param}.description`) }
      const inner = listAt(tool.tools, `${param}.tools`) ?? []
      addTools(tools, inner, { ...at, param: `${param}.tools`, namespace })
    } else if (type === 'function' || type === 'custom') {
      const name = mustBe(textAt(tool.name, `${param}.name`), `${param}.name`)
      tools.set(identity(name, at.namespace?.name), {
        kind: type,
        name,
        namespace: at.namespace?.name,
        description: textAt(tool.description, `${param}.description`) ?? at.namespace?.description,
        parameters: type === 'function' ? objectAt(tool.parameters, `${param}.parameters`) : undefined,
        strict: type === 'function' ? flagAt(tool.strict, `${param}.strict`) : undefined,
        grammar: type === 'custom' ? readGrammar(tool.format, `${param}.format`) : undefined,
        cache: undefined,
      })
    } else {
      // What the provider runs itself, or a program that its caller knows without being told: nobody else has it.
      at.dropped.add(`tools.${type}`)
    }
  }
}

function readGrammar(value: unknown, param: string): unknown {
  const format = objectAt(value, param)
  return format?.type === 'grammar' ? format : undefined
}

function identity(name: string, namespace: string | undefined): string {
  return JSON.stringify([namespace ?? null, name])
}

interface Chosen {
  readonly tools: readonly Tool[]
  readonly choice: ToolChoice | undefined
}

function readToolChoice(value: unknown, tools: readonly Tool[]): Chosen {
  if (value === undefined || value === null) return { tools, choice: undefined }
  if (value === 'auto' || value === 'none' || value === 'required') return { tools, choice: { type: value } }
  if (!isObject(value)) throw wrongType('tool_choice', '"auto", "none", "required" or an object')
  if (value.type === 'function' || value.type === 'custom') {
    const { name, namespace } = findTool(value, namedTools(tools), 'tool_choice')
    return { tools, choice: { type: 'tool', name, namespace } }
  }
  if (value.type !== 'allowed_tools') {
    throw refuse(
      'tool_choice',
      `The field "tool_choice" names a tool of one provider (${shown(value.type)}), which cannot be called elsewhere.`,
    )
  }
  const list = mustBe(listAt(value.tools, 'tool_choice.tools'), 'tool_choice.tools')
  const byName = namedTools(tools)
  const allowed = new Set<Tool>()
  for (const [i, one] of list.entries()) {
    const param = `tool_choice.tools[${i}]`
    const tool = mustBe(objectAt(one, param), param)
    // Others are not there to be called, whatever is allowed.
    if (tool.type === 'function' || tool.type === 'custom') allowed.add(findTool(tool, byName, param))
  }
  const kept = tools.filter((tool) => allowed.has(tool))
  return { tools: kept, choice: { type: value.mode === 'required' ? 'required' : 'auto' } }
}

/** Tools by their names, each by the name of its group; without a group the first of that name. */
type NamedTools = ReadonlyMap<string, ReadonlyMap<string | undefined, Tool>>

function namedTools(tools: readonly Tool[]): NamedTools {
  const named = new Map<string, Map<string | undefined, Tool>>()
  for (const tool of tools) {
    const groups = named.get(tool.name) ?? new Map<string | undefined, Tool>()
    named.set(tool.name, groups.set(tool.namespace, tool))
  }
  for (const groups of named.values()) {
    const [first] = groups.values()
    if (!groups.has(undefined) && first !== undefined) groups.set(undefined, first)
  }
  return named
}

/** A tool by its name; one outside all groups goes first, as a choice of tool seldom says the group. */
function findTool(choice: Members, tools: NamedTools, param: string): Tool {
  const name = mustBe(textAt(choice.name, `${param}.name`), `${param}.name`)
  const found = tools.get(name)?.get(textAt(choice.namespace, `${param}.namespace`))
  if (found === undefined)
    throw refuse(`${param}.name`, `The field "${param}.name" names "${name}", which is not among the tools.`)
  return found
}

// --- input ---------------------------------------------------------------------------------------------------------

interface Reading {
  readonly messages: Message[]
  readonly tools: Map<string, Tool>
  readonly dropped: Set<string>
}

/** Calls of tools that the caller runs, by the type of their items: the name of the tool, and where the call stands. */
const CLIENT_CALLS: ReadonlyMap<string, readonly [tool: string, member: string]> = new Map([
  ['local_shell_call', ['local_shell', 'action']],
  ['shell_call', ['shell', 'action']],
  ['apply_patch_call', ['apply_patch', 'operation']],
  ['computer_call', ['computer', 'action']],
  ['tool_search_call', ['tool_search', 'arguments']],
])

/** Items of tools that the provider ran, and what they brought: it has spoken of that in its own words since. */
const SERVER_ITEMS: ReadonlySet<string> = new Set([
  'web_search_call',
  'file_search_call',
  'code_interpreter_call',
  'mcp_list_tools',
  'mcp_call',
  'mcp_approval_request',
  'mcp_approval_response',
  'program',
  'program_output',
])

function readInput(input: unknown, { messages, tools, dropped }: Reading): void {
  if (typeof input === 'string') {
    messages.push({ role: 'user', content: [{ type: 'text', text: input }], name: undefined })
    return
  }
  if (!Array.isArray(input)) throw wrongType('input', 'text or a list of items')
  if (input.length === 0 && messages.length === 0) throw refuse('input', 'The field "input" is empty.')
  /** What the assistant says, as long as nobody else does: one message, however many items it is. */
  let turn: Part[] | undefined
  let callSeal: Seal | undefined
  /** Where a reference to what was said stands, until it is known what follows on it. */
  let reference: string | undefined

  function say(parts: readonly Part[]): void {
    if (parts.length === 0) return
    if (turn === undefined) {
      turn = []
      messages.push({ role: 'assistant', content: turn })
    }
    append(turn, parts)
  }

  function put(message: Message): void {
    turn = undefined
    messages.push(message)
  }

  function call(kind: 'function' | 'custom', item: Members, param: string): void {
    const written = kind === 'custom' ? 'input' : 'arguments'
    say([
      {
        type: 'call',
        kind,
        id: callId(item, param),
        name: mustBe(textAt(item.name, `${param}.name`), `${param}.name`),
        namespace: textAt(item.namespace, `${param}.namespace`),
        arguments: textAt(item[written], `${param}.${written}`) ?? '',
        sealed: callSeal,
      },
    ])
    callSeal = undefined
  }

  function result(item: Members, content: readonly Part[], param: string): void {
    put({ role: 'tool', callId: callId(item, param), content, isError: false, cache: undefined })
  }

  function readItem(item: Members, type: string, param: string): void {
    const known = CLIENT_CALLS.get(type)
    if (known !== undefined) {
      // A search that the provider made by itself waits for nobody's answer.
      if ((item.call_id ?? null) === null) return
      const [name, member] = known
      const args = shown(item[member] ?? item.actions ?? {})
      call('function', { ...item, name, namespace: undefined, arguments: args }, param)
      return
    }
    switch (type) {
      case 'message': {
        const message = readMessage(item, param)
        if (message.role === 'assistant') say(message.content)
        else put(message)
        return
      }
      case 'function_call':
        call('function', item, param)
        return
      case 'custom_tool_call':
        call('custom', item, param)
        return
      case 'function_call_output':
      case 'custom_tool_call_output':
      case 'computer_call_output':
        result(item, readOutput(item.output, `${param}.output`), param)
        return
      case 'local_shell_call_output':
      case 'shell_call_output':
      case 'apply_patch_call_output':
        result(item, [{ type: 'text', text: shown(item.output ?? item.status) }], param)
        return
      case 'additional_tools':
      case 'tool_search_output':
        addTools(tools, listAt(item.tools, `${param}.tools`) ?? [], { param: `${param}.tools`, dropped })
        if ((item.call_id ?? null) !== null)
          result(item, [{ type: 'text', text: shown(toolNames(item.tools)) }], param)
        return
      case 'reasoning': {
        const thought = readThought(item, param)
        callSeal = thought.callSeal ?? callSeal
        if (thought.part !== undefined) say([thought.part])
        return
      }
      case 'image_generation_call': {
        const picture = pictureOf(item)
        if (picture === undefined) dropped.add(`input.${type}`)
        else say([toPicture(picture)])
        return
      }
      case 'item_reference':
        // Thoughts that cannot be read are left out in any case.
        if (!/^rs_/.test(textAt(item.id, `${param}.id`) ?? '')) reference ??= param
        dropped.add('input.item_reference')
        return
      default:
        if (!SERVER_ITEMS.has(type)) throw uncarried(`${param}.type`, type)
        dropped.add(`input.${type}`)
    }
  }

  for (const [i, value] of input.entries()) {
    const param = `input[${i}]`
    const item = mustBe(objectAt(value, param), param)
    const type = textAt(item.type, `${param}.type`) ?? 'message'
    // What was said before a call in the same breath (the Vercel AI SDK refers to it) can be missed: the call is there.
    if (type === 'function_call' || type === 'custom_tool_call') reference = undefined
    else if (type !== 'reasoning' && type !== 'item_reference' && reference !== undefined)
      throw unkept(reference)
    readItem(item, type, param)
  }
  if (reference !== undefined) throw unkept(reference)
}

function unkept(param: string): GatewayError {
  return refuse(
    `${param}.type`,
    `The field "${param}.type" refers to an item that is kept nowhere: send the item itself, as clients do that are told "store": false.`,
  )
}

function uncarried(param: string, type: string): GatewayError {
  return refuse(param, `The field "${param}" is "${type}", which cannot be carried elsewhere.`)
}

/** `local_shell_call_output` has had its call's id in either of two places. */
function callId(item: Members, param: string): string {
  const id = textAt(item.call_id, `${param}.call_id`)
  const isShell = item.type === 'local_shell_call_output'
  return mustBe(id ?? (isShell ? textAt(item.id, `${param}.id`) : undefined), `${param}.call_id`)
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value ?? '')
}

function toolNames(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value.map((tool) => (isObject(tool) ? tool.name : undefined)) : []
}

function readMessage(item: Members, param: string): Message {
  const role = mustBe(textAt(item.role, `${param}.role`), `${param}.role`)
  const content = readContent(item.content, `${param}.content`)
  switch (role) {
    case 'system':
    case 'developer':
      return { role, content }
    case 'user':
      return { role, content, name: undefined }
    case 'assistant':
      return { role, content }
    default:
      throw wrongType(`${param}.role`, '"system", "developer", "user" or "assistant"')
  }
}

function readContent(value: unknown, param: string): readonly Part[] {
  if (typeof value === 'string') return [{ type: 'text', text: value }]
  if (!Array.isArray(value)) throw wrongType(param, 'text or a list of parts')
  return value.map((part, i) => readPart(part, `${param}[${i}]`))
}

/** Of a tool: nothing at all is an answer too. */
function readOutput(value: unknown, param: string): readonly Part[] {
  if (value === undefined || value === null) return []
  // A screenshot stands alone.
  return isObject(value) ? [readPart(value, param)] : readContent(value, param)
}

function readPart(value: unknown, param: string): Part {
  const part = mustBe(objectAt(value, param), param)
  const type = mustBe(textAt(part.type, `${param}.type`), `${param}.type`)
  switch (type) {
    case 'input_text':
    case 'output_text':
    case 'text':
      return { type: 'text', text: mustBe(textAt(part.text, `${param}.text`), `${param}.text`) }
    case 'refusal':
      return { type: 'refusal', text: mustBe(textAt(part.refusal, `${param}.refusal`), `${param}.refusal`) }
    case 'input_image':
    case 'computer_screenshot': {
      const id = textAt(part.file_id, `${param}.file_id`)
      const detail = textAt(part.detail, `${param}.detail`)
      if (id !== undefined) return { type: 'image', source: { kind: 'file', id }, detail }
      const url = mustBe(textAt(part.image_url, `${param}.image_url`), `${param}.image_url`)
      return { type: 'image', source: toSource(url, 'image/png'), detail }
    }
    case 'input_file':
      return readFile(part, param)
    case 'input_audio': {
      const audio = mustBe(objectAt(part.input_audio, `${param}.input_audio`), `${param}.input_audio`)
      const base64 = mustBe(textAt(audio.data, `${param}.input_audio.data`), `${param}.input_audio.data`)
      return { type: 'audio', base64, format: textAt(audio.format, `${param}.input_audio.format`) ?? 'wav' }
    }
    default:
      throw uncarried(`${param}.type`, type)
  }
}

function readFile(part: Members, param: string): Part {
  const name = textAt(part.filename, `${param}.filename`)
  const id = textAt(part.file_id, `${param}.file_id`)
  if (id !== undefined) return { type: 'file', source: { kind: 'file', id }, name }
  const url = textAt(part.file_url, `${param}.file_url`)
  if (url !== undefined) return { type: 'file', source: toSource(url), name }
  const bytes = mustBe(textAt(part.file_data, `${param}.file_data`), `${param}.file_data`)
  const mediaType = name !== undefined && /\.txt$/i.test(name) ? 'text/plain' : 'application/pdf'
  // With or without the head of a data URL: both are taken by those who document it.
  const source = bytes.startsWith('data:')
    ? toSource(bytes, mediaType)
    : { kind: 'base64' as const, mediaType, base64: bytes }
  return { type: 'file', source, name }
}

function readThought(item: Members, param: string): { part?: Part | undefined; callSeal?: Seal | undefined } {
  const encrypted = textAt(item.encrypted_content, `${param}.encrypted_content`)
  const sealed =
    encrypted === undefined || encrypted === ''
      ? undefined
      : readSeal(encrypted, textAt(item.id, `${param}.id`))
  if (sealed?.of === 'call') return { callSeal: sealed.seal }
  const text =
    joined(item.content, `${param}.content`, '') || joined(item.summary, `${param}.summary`, '\n\n')
  if (text === '' && sealed === undefined) return {}
  const isOwn = sealed !== undefined && sealed.of === undefined
  const isRedacted = sealed?.of === 'redacted' || (isOwn && text === '')
  return { part: { type: 'thinking', text, sealed: sealed?.seal, isRedacted } }
}

function joined(value: unknown, param: string, between: string): string {
  const texts = (listAt(value, param) ?? []).map((part) => (isObject(part) ? part.text : undefined))
  return texts.filter((text) => typeof text === 'string').join(between)
}
