// A conversation as providers take it that know two roles and nothing else: instructions in front, user and assistant in
// turn, the results of all calls of a turn in the one behind it, in the order of the calls. Shared by the writers of such
// formats; knows the canonical request and no wire.

import type { CacheMark, CallPart, Message, Part } from './canonical.ts'

export interface Conversation {
  /** What system and developer say before anybody else does. */
  readonly system: readonly Part[]
  /** May begin and end with either role; never two of one role in a row, nor one with nothing in it. */
  readonly turns: readonly Turn[]
}

export type Turn = UserTurn | AssistantTurn

export interface UserTurn {
  readonly role: 'user'
  /** One for each call of the turn before. */
  readonly results: readonly CallResult[]
  readonly content: readonly Part[]
}

export interface AssistantTurn {
  readonly role: 'assistant'
  readonly content: readonly Part[]
}

export interface CallResult {
  /** The call itself, as it stands in the turn before. */
  readonly call: CallPart
  readonly content: readonly Part[]
  readonly isError: boolean
  readonly cache: CacheMark | undefined
}

/** What stands for the result of a call that nobody answered. */
const NO_RESULT = 'There is no result of this call.'

/**
 * Later instructions stay where they are, as text of the user in a `<system>` element. A call without a result gets one
 * that says so; a result without a call becomes text; of several results of one call the last counts.
 */
export function toConversation(messages: readonly Message[]): Conversation {
  const system: Part[] = []
  const turns: Draft[] = []
  for (const message of messages) {
    const { role, content } = message
    if (role === 'system' || role === 'developer') {
      if (turns.length === 0) append(system, content)
      else addUser(turns, content.filter(isSaid).map(asInstruction))
    } else if (role === 'user') addUser(turns, content)
    else if (role === 'tool') addResult(turns, message)
    else if (content.length > 0) addAssistant(turns, content)
  }
  answerCalls(turns)
  return { system, turns: turns.map(toTurn) }
}

interface Draft {
  readonly role: 'user' | 'assistant'
  readonly content: Part[]
  readonly results: Map<CallPart, CallResult>
  /** Its calls by their ids: several where a server gave one id twice. */
  readonly calls: Map<string, Asked>
}

interface Asked {
  readonly calls: CallPart[]
  /** How many of them have a result. */
  answered: number
}

function toTurn({ role, content, results }: Draft): Turn {
  return role === 'user' ? { role, content, results: [...results.values()] } : { role, content }
}

function createDraft(role: Draft['role']): Draft {
  return { role, content: [], results: new Map(), calls: new Map() }
}

function turnOf(turns: Draft[], role: Draft['role']): Draft {
  const last = turns.at(-1)
  if (last?.role === role) return last
  const turn = createDraft(role)
  turns.push(turn)
  return turn
}

function addUser(turns: Draft[], content: readonly Part[]): void {
  if (content.length > 0) append(turnOf(turns, 'user').content, content)
}

function addAssistant(turns: Draft[], content: readonly Part[]): void {
  const { content: said, calls } = turnOf(turns, 'assistant')
  for (const part of content) {
    said.push(part)
    if (part.type !== 'call') continue
    const known = calls.get(part.id)
    if (known === undefined) calls.set(part.id, { calls: [part], answered: 0 })
    else known.calls.push(part)
  }
}

function addResult(turns: Draft[], message: Extract<Message, { readonly role: 'tool' }>): void {
  const { callId, content, isError, cache } = message
  const asked = turns.findLast(({ role }) => role === 'assistant')?.calls.get(callId)
  // Some servers give one id twice: then the results come in the order of the calls.
  const call = asked?.calls[asked.answered] ?? asked?.calls.at(-1)
  if (asked !== undefined && call !== undefined) {
    asked.answered += 1
    turnOf(turns, 'user').results.set(call, { call, content, isError, cache })
    return
  }
  addUser(turns, [orphanHead(callId), ...content])
}

/** Every call is answered in the turn behind it, in the order of the calls: some wires tell them apart by that alone. */
function answerCalls(turns: Draft[]): void {
  for (let at = 0; at < turns.length; at += 1) {
    const calls = callsOf(turns[at])
    if (calls.length === 0) continue
    if (at === turns.length - 1) turns.push(createDraft('user'))
    const results = turns[at + 1]?.results ?? new Map<CallPart, CallResult>()
    const ordered = calls.map((call) => results.get(call) ?? noResult(call))
    results.clear()
    for (const result of ordered) results.set(result.call, result)
  }
}

function noResult(call: CallPart): CallResult {
  return { call, content: [{ type: 'text', text: NO_RESULT }], isError: true, cache: undefined }
}

function callsOf(turn: Draft | undefined): CallPart[] {
  return turn?.role === 'assistant' ? turn.content.filter((part) => part.type === 'call') : []
}

function isSaid(part: Part): boolean {
  return part.type !== 'text' || part.text.trim() !== ''
}

function asInstruction(part: Part): Part {
  return part.type === 'text' ? { ...part, text: `<system>\n${part.text}\n</system>` } : part
}

// --- messages --------------------------------------------------------------------------------------------------------

type Result = Extract<Message, { readonly role: 'tool' }>

/**
 * The same conversation for wires whose messages stay messages, but want each call answered right behind the one that
 * makes it, once: a result is moved there from wherever it stands, whatever was said in between; what is missing, too much
 * or answers nothing is mended as above.
 */
export function withAnsweredCalls(messages: readonly Message[]): readonly Message[] {
  if (!messages.some(({ role, content }) => role === 'tool' || content.some(({ type }) => type === 'call')))
    return messages
  const results = new Map<CallPart, Result>()
  const orphans = new Set<Message>()
  /** The calls of an id, of the last message that has one: an id may come again in a later one. */
  const asked = new Map<string, Asked & { readonly by: Message }>()
  for (const message of messages) {
    if (message.role === 'tool') {
      const known = asked.get(message.callId)
      const call = known?.calls[known.answered] ?? known?.calls.at(-1)
      if (known === undefined || call === undefined) orphans.add(message)
      else {
        known.answered += 1
        results.set(call, message)
      }
    } else if (message.role === 'assistant')
      for (const part of message.content) {
        if (part.type !== 'call') continue
        const known = asked.get(part.id)
        if (known?.by === message) known.calls.push(part)
        else asked.set(part.id, { by: message, calls: [part], answered: 0 })
      }
  }
  return messages.flatMap((message): Message[] => {
    if (message.role === 'tool') return orphans.has(message) ? [toSaid(message)] : []
    if (message.role !== 'assistant') return [message]
    const calls = message.content.filter((part) => part.type === 'call')
    return [message, ...calls.map((call) => results.get(call) ?? toResult(noResult(call)))]
  })
}

function toSaid({ callId, content }: Result): Message {
  return { role: 'user', content: [orphanHead(callId), ...content], name: undefined }
}

function toResult({ call, content, isError, cache }: CallResult): Result {
  return { role: 'tool', callId: call.id, content, isError, cache }
}

function orphanHead(callId: string): Part {
  return { type: 'text', text: `Result of a call that is not in this conversation (${callId}):` }
}

/** Adds all of `more`; a spread would put each of them on the stack. */
export function append<T>(list: T[], more: Iterable<T>): void {
  for (const one of more) list.push(one)
}

/** Texts of parts one below the other; what is no text is left out. */
export function joinTexts(content: readonly Part[]): string {
  return content
    .flatMap((part) => (part.type === 'text' || part.type === 'refusal' ? [part.text] : []))
    .join('\n')
}
