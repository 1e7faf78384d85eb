// A conversation as Messages takes it: system text on top, user and assistant in turn, the results of all calls first
// in the turn behind them, every call answered once, nothing blank. What a caller's history lacks for that is mended.

import { GatewayError } from '../errors.ts'
import type { ClaudeTraits } from './anthropic-models.ts'
import { toPlainId } from './anthropic-words.ts'
import type { CacheMark, CallPart, ChatRequest, Message, Part, Source } from './canonical.ts'
import { toInput, type WireNames } from './tool-names.ts'
import { append } from './turns.ts'
import { createUnique } from './unique.ts'

export type Block = Record<string, unknown>

export interface Turn {
  readonly role: 'user' | 'assistant' | 'system'
  readonly content: Block[]
}

export interface Conversation {
  readonly system: readonly Block[]
  readonly turns: readonly Turn[]
  /** Names on the wire of every call in it. */
  readonly calledNames: ReadonlySet<string>
  /**
   * The model is in the middle of calling tools, and what it thought before its calls is not there to be given back:
   * older models refuse to think then.
   */
  readonly hasLostThought: boolean
}

export interface Setting {
  readonly traits: ClaudeTraits
  readonly names: WireNames
  /** A last assistant message may be gone on with. */
  readonly mayPrefill: boolean
}

/** Stands where a turn of the user must be and none is. */
const GO_ON = 'Continue.'
const NO_RESULT = 'There is no result of this call.'

/** @throws GatewayError `invalid_request` for what has no place in Messages: sound, and files kept by somebody else. */
export function toConversation({ messages }: Pick<ChatRequest, 'messages'>, setting: Setting): Conversation {
  const { traits, names, mayPrefill } = setting
  const system: Block[] = []
  const draft = createDraft(names, traits.seals)
  for (const message of messages) {
    if (!isInstruction(message)) {
      draft.add(message)
      continue
    }
    const blocks = toBlocks(message.content).filter(isText)
    if (draft.isEmpty()) append(system, blocks)
    else draft.instruct(blocks, traits.midSystem)
  }
  const turns = toTurns(draft.turns)
  const { calledNames } = draft
  if (turns[0]?.role !== 'user') turns.unshift({ role: 'user', content: [text(GO_ON)] })
  const last = turns.at(-1)
  if (last?.role === 'assistant') {
    if (mayPrefill && last.content.every(isText)) trimEnd(last.content)
    else turns.push({ role: 'user', content: [text(GO_ON)] })
  }
  return { system, turns, calledNames, hasLostThought: hasLostThought(turns) }
}

type Instruction = Extract<Message, { readonly role: 'system' | 'developer' }>

function isInstruction(message: Message): message is Instruction {
  return message.role === 'system' || message.role === 'developer'
}

// --- turns -----------------------------------------------------------------------------------------------------

interface Draft {
  isEmpty(): boolean
  add(message: Exclude<Message, Instruction>): void
  /** What an operator says in the middle of a conversation. */
  instruct(blocks: Block[], mayStand: boolean): void
  readonly turns: readonly DraftTurn[]
  readonly calledNames: ReadonlySet<string>
}

/** Results stand in front of everything else that its turn says. */
interface DraftTurn extends Turn {
  readonly results: Block[]
}

interface Calls {
  /** Several where a server gave one id twice. */
  readonly wireIds: string[]
  /** Where the result of each stands. */
  readonly answers: { readonly results: Block[]; readonly at: number }[]
}

function createDraft(names: WireNames, seals: string): Draft {
  const turns: DraftTurn[] = []
  const calledNames = new Set<string>()
  const toUnique = createUnique((id, n) => `${id}_${n}`)
  /** Calls of the last assistant turn by the caller's id. */
  let calls = new Map<string, Calls>()

  /** The turn that what `role` says belongs to: consecutive ones are one. */
  function turnOf(role: Turn['role']): DraftTurn {
    const last = turns.at(-1)
    if (last?.role === role) return last
    const turn: DraftTurn = { role, results: [], content: [] }
    turns.push(turn)
    return turn
  }

  function push(role: Turn['role'], blocks: readonly Block[]): void {
    if (blocks.length > 0) append(turnOf(role).content, blocks)
  }

  function toToolUse(part: CallPart): Block {
    const name = names.toWire(part)
    const id = toUnique(toPlainId(part.id) || 'call')
    calledNames.add(name)
    const known = calls.get(part.id)
    if (known === undefined) calls.set(part.id, { wireIds: [id], answers: [] })
    else known.wireIds.push(id)
    return marked({ type: 'tool_use', id, name, input: toInput(part) }, part.cache)
  }

  function addAssistant(content: readonly Part[]): void {
    if (turns.at(-1)?.role !== 'assistant') calls = new Map()
    const blocks: Block[] = []
    for (const part of content) {
      if (part.type === 'call') blocks.push(toToolUse(part))
      else if (part.type === 'thinking') {
        if (part.sealed?.origin !== seals) continue
        const { value } = part.sealed
        blocks.push(
          part.isRedacted
            ? { type: 'redacted_thinking', data: value }
            : { type: 'thinking', thinking: part.text, signature: value },
        )
      } else append(blocks, toBlocks([part]))
    }
    push('assistant', blocks)
  }

  function addResult({ callId, content, isError, cache }: Extract<Message, { readonly role: 'tool' }>): void {
    const call = calls.get(callId)
    if (call === undefined) {
      push('user', [
        text(`Result of a call that is not in this conversation (${callId}):`),
        ...toBlocks(content),
      ])
      return
    }
    const { wireIds, answers } = call
    const again = answers.length < wireIds.length ? undefined : answers.at(-1)
    const wireId = wireIds[again === undefined ? answers.length : answers.length - 1]
    const answer = marked(
      { type: 'tool_result', tool_use_id: wireId, ...toResult(content), ...(isError && { is_error: true }) },
      cache,
    )
    if (again !== undefined) {
      // Each call is answered once: what came last counts.
      again.results[again.at] = answer
      return
    }
    const { results } = turnOf('user')
    answers.push({ results, at: results.length })
    results.push(answer)
  }

  return {
    isEmpty: () => turns.length === 0,
    add(message) {
      if (message.role === 'assistant') addAssistant(message.content)
      else if (message.role === 'tool') addResult(message)
      else push('user', toBlocks(message.content))
    },
    instruct(blocks, mayStand) {
      const role = turns.at(-1)?.role
      if (mayStand && role !== 'assistant') push('system', blocks)
      else push('user', blocks.map(asInstruction))
    },
    turns,
    calledNames,
  }
}

/** Where it cannot stand by itself the operator's word is part of the user's turn, and told as what it is. */
function asInstruction(block: Block): Block {
  return { ...block, text: `<system>\n${String(block.text)}\n</system>` }
}

/** What a turn of ours comes to on the wire. */
function toTurns(drafted: readonly DraftTurn[]): Turn[] {
  const turns = answerCalls(foldStraySystem(withoutLastThoughts(drafted)))
  return turns.map(({ role, results, content }) => ({
    role,
    content: results.length > 0 ? [...results, ...content] : content,
  }))
}

/** A turn may not end with a thought; one that says nothing else is none. */
function withoutLastThoughts(drafted: readonly DraftTurn[]): DraftTurn[] {
  const turns: DraftTurn[] = []
  for (const turn of drafted) {
    if (turn.role === 'assistant') while (isThought(turn.content.at(-1))) turn.content.pop()
    if (turn.role === 'assistant' && turn.content.length === 0) continue
    const before = turns.at(-1)
    if (before?.role === turn.role) join(before, turn)
    else turns.push(turn)
  }
  return turns
}

/** Role `system` stands behind a user's turn and before the assistant's, or at the end. */
function foldStraySystem(drafted: readonly DraftTurn[]): DraftTurn[] {
  const turns: DraftTurn[] = []
  for (const turn of drafted) {
    const [before, last] = [turns.at(-2), turns.at(-1)]
    if (turn.role === 'user' && last?.role === 'system' && before?.role === 'user') {
      turns.pop()
      append(before.content, last.content.map(asInstruction))
      join(before, turn)
    } else turns.push(turn)
  }
  return turns
}

function join(turn: DraftTurn, { results, content }: DraftTurn): void {
  append(turn.results, results)
  append(turn.content, content)
}

/** Every call gets a result in the turn behind it. */
function answerCalls(drafted: readonly DraftTurn[]): DraftTurn[] {
  const turns: DraftTurn[] = []
  for (const [at, turn] of drafted.entries()) {
    turns.push(turn)
    if (turn.role !== 'assistant') continue
    const open = turn.content.filter((block) => block.type === 'tool_use')
    if (open.length === 0) continue
    let next = drafted[at + 1]
    if (next?.role !== 'user') {
      next = { role: 'user', results: [], content: [] }
      turns.push(next)
    }
    const answered = new Set(next.results.map((block) => block.tool_use_id))
    for (const { id } of open)
      if (!answered.has(id))
        next.results.push({ type: 'tool_result', tool_use_id: id, content: NO_RESULT, is_error: true })
  }
  return turns
}

/** From the last thing that the user said on: a turn that calls must begin with what was thought before it. */
function hasLostThought(turns: readonly Turn[]): boolean {
  for (let at = turns.length - 1; at >= 0; at -= 1) {
    const turn = turns[at]
    if (turn?.role === 'user' && !turn.content.some(isResult)) return false
    if (turn?.role !== 'assistant') continue
    return turn.content.some((block) => block.type === 'tool_use') && !isThought(turn.content[0])
  }
  return false
}

function isText(block: Block): boolean {
  return block.type === 'text'
}

function isResult(block: Block): boolean {
  return block.type === 'tool_result'
}

function isThought(block: Block | undefined): boolean {
  return block?.type === 'thinking' || block?.type === 'redacted_thinking'
}

/** The last assistant text may not end in white space; none is blank. */
function trimEnd(content: Block[]): void {
  const last = content.at(-1)
  if (last !== undefined) last.text = String(last.text).trimEnd()
}

// --- blocks ------------------------------------------------------------------------------------------------------

function text(words: string): Block {
  return { type: 'text', text: words }
}

function marked(block: Block, cache: CacheMark | undefined): Block {
  if (cache !== undefined)
    block.cache_control = { type: 'ephemeral', ...(isTtl(cache.ttl) && { ttl: cache.ttl }) }
  return block
}

function isTtl(ttl: string | undefined): boolean {
  return ttl === '5m' || ttl === '1h'
}

/** What a message holds, but for thoughts and calls. Blank text is refused everywhere, so it is not sent. */
function toBlocks(content: readonly Part[]): Block[] {
  return content.flatMap((part) => {
    const block = toBlock(part)
    return block === undefined ? [] : [block]
  })
}

function toBlock(part: Part): Block | undefined {
  switch (part.type) {
    case 'text':
      return part.text.trim() === '' ? undefined : marked(text(part.text), part.cache)
    case 'refusal':
      return part.text.trim() === '' ? undefined : text(part.text)
    case 'image':
      return marked({ type: 'image', source: toSource(part.source) }, part.cache)
    case 'file':
      return marked(toDocument(part), part.cache)
    case 'audio':
      throw new GatewayError(
        'invalid_request',
        'Sound cannot be sent to this deployment: its format has no place for it.',
        {
          param: 'messages',
        },
      )
    case 'thinking':
    case 'call':
      return undefined
  }
}

function toDocument({ source, name }: Extract<Part, { type: 'file' }>): Block {
  const title = name === undefined || name === '' ? {} : { title: name }
  if (source.kind === 'base64' && source.mediaType.startsWith('image/'))
    return { type: 'image', source: toSource(source) }
  if (source.kind === 'base64' && TEXT_TYPES.test(source.mediaType)) {
    const data = Buffer.from(source.base64, 'base64').toString('utf8')
    return { type: 'document', source: { type: 'text', media_type: 'text/plain', data }, ...title }
  }
  return { type: 'document', source: toSource(source), ...title }
}

const TEXT_TYPES = /^(?:text\/|application\/(?:json|xml|yaml|x-yaml|javascript)\b)/

function toSource(source: Source): Block {
  if (source.kind === 'base64') return { type: 'base64', media_type: source.mediaType, data: source.base64 }
  if (source.kind === 'url') return { type: 'url', url: source.url }
  throw new GatewayError(
    'invalid_request',
    'A file id means something only to the provider that keeps the file; send the file itself.',
    { param: 'messages' },
  )
}

function toResult(content: readonly Part[]): { readonly content?: string | Block[] } {
  const blocks = toBlocks(content)
  const [first] = blocks
  if (first === undefined) return {}
  const isPlain = blocks.length === 1 && isText(first) && first.cache_control === undefined
  return { content: isPlain ? String(first.text) : blocks }
}
