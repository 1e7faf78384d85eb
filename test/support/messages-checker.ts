// Judges what stands on the wire of Anthropic's Messages: requests, replies and streams, by the rules of its reference
// and of its error messages. Written apart from src/formats, so that a mistake there is not repeated here. Every function
// gives the faults it found, none for what is right.

import { isRecord } from './dialects/dialect.ts'
import { parseSse } from './sse.ts'

type Members = Readonly<Record<string, unknown>>

const ID = /^[a-zA-Z0-9_-]+$/
const TOOL_NAME = /^[a-zA-Z0-9_-]{1,64}$/
const STOP_REASONS = [
  'end_turn',
  'max_tokens',
  'stop_sequence',
  'tool_use',
  'pause_turn',
  'refusal',
  'model_context_window_exceeded',
]

// --- requests ----------------------------------------------------------------------------------------------

/** What the API would answer 400 for. */
export function requestFaults(body: unknown): string[] {
  if (!isRecord(body)) return ['no object']
  const faults: string[] = []
  const say = (is: boolean, fault: string): void => {
    if (!is) faults.push(fault)
  }
  say(typeof body.model === 'string' && body.model !== '', 'model')
  say(isCount(body.max_tokens) && Number(body.max_tokens) >= 1, 'max_tokens')
  const known = [
    ...[
      'model',
      'max_tokens',
      'messages',
      'system',
      'tools',
      'tool_choice',
      'thinking',
      'output_config',
      'metadata',
    ],
    ...['stop_sequences', 'temperature', 'top_p', 'top_k', 'service_tier', 'stream'],
  ]
  for (const name of Object.keys(body)) say(known.includes(name), `${name}: Extra inputs are not permitted`)

  const marks: unknown[] = []
  const tools = listOf(body.tools)
  say(body.tools === undefined || tools.length > 0, 'tools: empty')
  const names = new Set<unknown>()
  for (const tool of tools) {
    if (!isRecord(tool)) return [...faults, 'tools: no object']
    say(typeof tool.name === 'string' && TOOL_NAME.test(tool.name), `tools: name ${String(tool.name)}`)
    say(!names.has(tool.name), `tools: name ${String(tool.name)} twice`)
    names.add(tool.name)
    say(
      tool.description === undefined || (typeof tool.description === 'string' && tool.description !== ''),
      'tools: description',
    )
    const schema = tool.input_schema
    say(isRecord(schema) && schema.type === 'object', 'tools: input_schema.type')
    say(
      isRecord(schema) && !('anyOf' in schema || 'oneOf' in schema || 'allOf' in schema),
      'tools: alternatives at the root',
    )
    marks.push(tool.cache_control)
  }
  const choice = body.tool_choice
  if (choice !== undefined) {
    say(tools.length > 0, 'tool_choice without tools')
    if (!isRecord(choice)) return [...faults, 'tool_choice: no object']
    say(['auto', 'any', 'tool', 'none'].includes(String(choice.type)), 'tool_choice.type')
    say(choice.type !== 'tool' || names.has(choice.name), 'tool_choice.name is no tool')
    say(
      choice.type !== 'none' || choice.disable_parallel_tool_use === undefined,
      'tool_choice none with parallel',
    )
  }
  const thinking = isRecord(body.thinking) ? body.thinking : undefined
  const thinks = thinking?.type === 'enabled' || thinking?.type === 'adaptive'
  if (thinking?.type === 'enabled') {
    say(Number(thinking.budget_tokens) >= 1024, 'thinking.budget_tokens: at least 1024')
    say(
      Number(thinking.budget_tokens) < Number(body.max_tokens),
      'max_tokens must be greater than budget_tokens',
    )
  }
  if (thinks) {
    say(body.temperature === undefined && body.top_k === undefined, 'sampling while thinking')
    say(!isRecord(choice) || choice.type === 'auto' || choice.type === 'none', 'forced call while thinking')
  }
  if (body.temperature !== undefined)
    say(Number(body.temperature) >= 0 && Number(body.temperature) <= 1, 'temperature')
  for (const stop of listOf(body.stop_sequences))
    say(typeof stop === 'string' && stop.trim() !== '', 'stop_sequences')
  for (const block of listOf(body.system)) {
    say(isRecord(block) && block.type === 'text' && isWord(block.text), 'system')
    if (isRecord(block)) marks.push(block.cache_control)
  }
  faults.push(
    ...conversationFaults(listOf(body.messages), { names, marks, budgets: thinking?.type === 'enabled' }),
  )
  say(marks.filter((mark) => mark !== undefined).length <= 4, 'more than 4 cache_control')
  return faults
}

function conversationFaults(
  messages: readonly unknown[],
  seen: { readonly names: ReadonlySet<unknown>; readonly marks: unknown[]; readonly budgets: boolean },
): string[] {
  const faults: string[] = []
  const say = (is: boolean, fault: string): void => {
    if (!is) faults.push(fault)
  }
  const ids = new Set<unknown>()
  let open: unknown[] = []
  let before: string | undefined
  say(messages.length > 0, 'messages: empty')
  for (const [at, message] of messages.entries()) {
    if (!isRecord(message)) return [...faults, `messages.${at}: no object`]
    const role = String(message.role)
    const isLast = at === messages.length - 1
    const next = messages[at + 1]
    say(['user', 'assistant', 'system'].includes(role), `messages.${at}.role`)
    say(at > 0 || role === 'user', 'messages.0: must be the user')
    say(role !== before, `messages.${at}: ${role} twice`)
    if (role === 'system') {
      say(before === 'user', `messages.${at}: system behind ${before}`)
      say(isLast || (isRecord(next) && next.role === 'assistant'), `messages.${at}: system before the user`)
    }
    const content =
      typeof message.content === 'string'
        ? [{ type: 'text', text: message.content }]
        : listOf(message.content)
    say(content.length > 0, `messages.${at}: content is empty`)
    const results = content.filter((block) => isRecord(block) && block.type === 'tool_result')
    if (role === 'user') {
      const answered = results.map((block) => (isRecord(block) ? block.tool_use_id : undefined))
      say(new Set(answered).size === answered.length, `messages.${at}: two results for one call`)
      for (const id of open)
        say(answered.includes(id), `messages.${at}: tool_use ${String(id)} without tool_result`)
      for (const id of answered)
        say(open.includes(id), `messages.${at}: unexpected tool_use_id ${String(id)}`)
      say(
        content.slice(0, results.length).every((block) => results.includes(block)),
        `messages.${at}: results not first`,
      )
      open = []
    } else say(results.length === 0, `messages.${at}: results of ${role}`)
    for (const [i, block] of content.entries()) {
      if (!isRecord(block)) return [...faults, `messages.${at}.content.${i}: no object`]
      seen.marks.push(block.cache_control)
      faults.push(...blockFaults(block).map((fault) => `messages.${at}.content.${i}: ${fault}`))
      for (const inner of listOf(block.content)) if (isRecord(inner)) seen.marks.push(inner.cache_control)
      if (block.type !== 'tool_use') continue
      say(role === 'assistant', `messages.${at}: tool_use of ${role}`)
      say(!ids.has(block.id), `messages.${at}: tool_use ids must be unique`)
      say(seen.names.size > 0, `messages.${at}: tool blocks without tools`)
      say(TOOL_NAME.test(String(block.name)), `messages.${at}: tool name ${String(block.name)}`)
      ids.add(block.id)
      open.push(block.id)
    }
    const last = content.at(-1)
    if (role === 'assistant' && isRecord(last)) {
      say(
        last.type !== 'thinking' && last.type !== 'redacted_thinking',
        `messages.${at}: the final block cannot be thinking`,
      )
      say(!isLast || last.type === 'text', `messages.${at}: ends with ${String(last.type)}`)
      say(
        !isLast || String(last.text).trimEnd() === last.text,
        'final assistant content ends with white space',
      )
      say(!isLast || !seen.budgets, 'prefill while thinking')
    }
    before = role
  }
  say(open.length === 0, 'calls without results at the end')
  if (seen.budgets) {
    const tail = messages.slice(
      messages.findLastIndex((message) => isRecord(message) && isPlainUser(message)) + 1,
    )
    const turn = tail.filter(isRecord).findLast(({ role }) => role === 'assistant')
    const [first] = listOf(turn?.content)
    const calls = listOf(turn?.content).some((block) => isRecord(block) && block.type === 'tool_use')
    say(
      !calls || (isRecord(first) && (first.type === 'thinking' || first.type === 'redacted_thinking')),
      'Expected `thinking` or `redacted_thinking`, but found `tool_use`',
    )
  }
  return faults
}

function isPlainUser({ role, content }: Members): boolean {
  return role === 'user' && !listOf(content).some((block) => isRecord(block) && block.type === 'tool_result')
}

function blockFaults(block: Members): string[] {
  switch (block.type) {
    case 'text':
      return isWord(block.text) ? [] : ['text content blocks must contain non-whitespace text']
    case 'image':
      return sourceFaults(block.source, ['base64', 'url', 'file'])
    case 'document':
      return sourceFaults(block.source, ['base64', 'url', 'file', 'text'])
    case 'tool_use':
      return [
        ...(typeof block.id === 'string' && ID.test(block.id) ? [] : [`id ${String(block.id)}`]),
        ...(isRecord(block.input) ? [] : ['input: should be an object']),
      ]
    case 'tool_result': {
      if (typeof block.tool_use_id !== 'string' || !ID.test(block.tool_use_id)) return ['tool_use_id']
      if (block.content === undefined) return []
      if (typeof block.content === 'string') return isWord(block.content) ? [] : ['blank result']
      return listOf(block.content).flatMap((inner) => (isRecord(inner) ? blockFaults(inner) : ['no object']))
    }
    case 'thinking':
      return typeof block.thinking === 'string' && isSignature(block.signature) ? [] : ['thinking']
    case 'redacted_thinking':
      return isSignature(block.data) ? [] : ['redacted_thinking']
    default:
      return [`type ${String(block.type)}`]
  }
}

/** Anthropic's are base64; everything else is another's, and refused. */
function isSignature(value: unknown): boolean {
  return typeof value === 'string' && /^[A-Za-z0-9+/=_-]+$/.test(value)
}

function sourceFaults(source: unknown, types: readonly string[]): string[] {
  if (!isRecord(source) || !types.includes(String(source.type))) return ['source.type']
  if (source.type === 'base64')
    return typeof source.data === 'string' && typeof source.media_type === 'string' ? [] : ['source.data']
  if (source.type === 'text') return typeof source.data === 'string' ? [] : ['source.data']
  return typeof (source.type === 'url' ? source.url : source.file_id) === 'string' ? [] : ['source']
}

// --- replies -----------------------------------------------------------------------------------------------

/** What a client's types do not allow. */
export function messageFaults(message: unknown): string[] {
  if (!isRecord(message)) return ['no object']
  const faults: string[] = []
  const say = (is: boolean, fault: string): void => {
    if (!is) faults.push(fault)
  }
  say(typeof message.id === 'string' && message.id.startsWith('msg_'), 'id')
  say(message.type === 'message' && message.role === 'assistant', 'type or role')
  say(typeof message.model === 'string', 'model')
  say(Array.isArray(message.content), 'content')
  say(STOP_REASONS.includes(String(message.stop_reason)), 'stop_reason')
  say(
    message.stop_reason === 'stop_sequence'
      ? typeof message.stop_sequence === 'string'
      : message.stop_sequence === null,
    'stop_sequence',
  )
  faults.push(...usageFaults(message.usage))
  const blocks = listOf(message.content)
  const calls = blocks.filter((block) => isRecord(block) && block.type === 'tool_use')
  say(
    calls.length === 0 || ['tool_use', 'max_tokens', 'refusal'].includes(String(message.stop_reason)),
    'calls without tool_use',
  )
  for (const block of blocks) {
    if (!isRecord(block)) return [...faults, 'content: no object']
    const isKnown =
      (block.type === 'text' && typeof block.text === 'string' && block.text !== '') ||
      (block.type === 'thinking' &&
        typeof block.thinking === 'string' &&
        typeof block.signature === 'string') ||
      (block.type === 'redacted_thinking' && typeof block.data === 'string') ||
      (block.type === 'tool_use' &&
        isRecord(block.input) &&
        typeof block.name === 'string' &&
        ID.test(String(block.id)))
    say(isKnown, `content: ${JSON.stringify(block)}`)
  }
  return faults
}

function usageFaults(usage: unknown): string[] {
  if (!isRecord(usage)) return ['usage']
  return ['input_tokens', 'output_tokens', 'cache_creation_input_tokens', 'cache_read_input_tokens']
    .filter((name) => !isCount(usage[name]))
    .map((name) => `usage.${name}`)
}

// --- streams -----------------------------------------------------------------------------------------------

export interface ReadStream {
  readonly faults: readonly string[]
  /** The message that the events add up to. */
  readonly message: Record<string, unknown>
}

/** Adds a whole stream up, strictly: one block open at a time, numbers without gaps, an orderly end. */
export function readStream(sse: string): ReadStream {
  const faults: string[] = []
  const say = (is: boolean, fault: string): void => {
    if (!is) faults.push(fault)
  }
  let message: Record<string, unknown> = {}
  const content: Record<string, unknown>[] = []
  let open: { block: Record<string, unknown>; json: string; deltas: number; signatures: number } | undefined
  let stage: 'before' | 'in' | 'closing' | 'after' = 'before'
  for (const { event, data } of parseSse(sse)) {
    const parsed: unknown = JSON.parse(data)
    if (!isRecord(parsed)) return { faults: [...faults, 'no object in an event'], message }
    say(parsed.type === event, `event ${event} holds ${String(parsed.type)}`)
    say(stage !== 'after', 'an event behind message_stop')
    switch (event) {
      case 'message_start': {
        say(stage === 'before', 'message_start twice')
        stage = 'in'
        message = isRecord(parsed.message) ? { ...parsed.message } : {}
        say(Array.isArray(message.content) && message.content.length === 0, 'message_start with content')
        faults.push(...usageFaults(message.usage))
        break
      }
      case 'content_block_start': {
        say(stage === 'in' && open === undefined, 'a block begins while another is open')
        say(parsed.index === content.length, `index ${String(parsed.index)} for block ${content.length}`)
        const block = isRecord(parsed.content_block) ? { ...parsed.content_block } : {}
        say(block.type !== 'tool_use' || JSON.stringify(block.input) === '{}', 'tool_use begins with input')
        open = { block, json: '', deltas: 0, signatures: 0 }
        break
      }
      case 'content_block_delta': {
        const delta = isRecord(parsed.delta) ? parsed.delta : {}
        say(open !== undefined && parsed.index === content.length, 'a delta of no open block')
        if (open === undefined) break
        const { block } = open
        open.deltas += 1
        if (delta.type === 'text_delta' && block.type === 'text')
          block.text = `${String(block.text)}${String(delta.text)}`
        else if (delta.type === 'thinking_delta' && block.type === 'thinking')
          block.thinking = `${String(block.thinking)}${String(delta.thinking)}`
        else if (delta.type === 'signature_delta' && block.type === 'thinking') {
          open.signatures += 1
          block.signature = delta.signature
        } else if (delta.type === 'input_json_delta' && block.type === 'tool_use')
          open.json += String(delta.partial_json)
        else say(false, `${String(delta.type)} in ${String(block.type)}`)
        break
      }
      case 'content_block_stop': {
        say(open !== undefined && parsed.index === content.length, 'the end of no open block')
        if (open === undefined) break
        const { block, json, deltas, signatures } = open
        if (block.type === 'tool_use') {
          say(deltas > 0, 'a tool_use without a delta')
          block.input = parse(json)
        }
        if (block.type === 'thinking') say(signatures === 1, `${signatures} signatures`)
        content.push(block)
        open = undefined
        break
      }
      case 'message_delta': {
        say(stage === 'in' && open === undefined, 'message_delta while a block is open')
        stage = 'closing'
        if (isRecord(parsed.delta)) Object.assign(message, parsed.delta)
        if (isRecord(parsed.usage))
          message.usage = { ...(isRecord(message.usage) ? message.usage : {}), ...parsed.usage }
        break
      }
      case 'message_stop':
        say(stage === 'closing', 'message_stop too early')
        stage = 'after'
        break
      case 'ping':
        break
      default:
        say(false, `event ${event}`)
    }
  }
  say(stage === 'after', 'no message_stop')
  message.content = content
  return { faults: [...faults, ...messageFaults(message)], message }
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return json
  }
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function isWord(value: unknown): boolean {
  return typeof value === 'string' && value.trim() !== ''
}

function isCount(value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0
}
