// What compatible servers get wrong about the calls of tools, mended where their bytes pass: calls that all have the number
// 0 or none (Ollama), which every client joins into one, and a turn that calls and ends with `stop`. An answer that has
// neither stays the bytes that came. Where an answer is translated, openai-answer.ts does the same.

import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Stage } from '../types.ts'
import { MOST_CALLS } from './facts.ts'
import type { Mending } from './format.ts'
import { createJsonEnd } from './json-end.ts'
import { type KnownCall, knownCall } from './openai-answer.ts'

type Members = Readonly<Record<string, unknown>>

export const mending: Mending = {
  concerns: ({ endpoint, spans }) => endpoint.operation === 'chat' && spans.has('tools'),
  stage: createStage,
  whole: mendWhole,
}

const CALLS = 'tool_calls'

interface Call extends KnownCall {
  /** As its caller is told. */
  readonly number: number
}

interface OpenChoice {
  readonly calls: Call[]
  last: Call | undefined
}

/** Of one stream. What a server has more of than `MOST_CALLS`, choices or calls, passes as it came. */
interface Open {
  readonly choices: Map<number, OpenChoice>
  calls: number
}

function createStage(): Stage {
  const open: Open = { choices: new Map(), calls: 0 }
  return {
    kind: 'transform',
    change({ bytes, data }, { content }) {
      if (!content || data === undefined) return bytes
      if (!data.includes(`"${CALLS}"`) && !(open.choices.size > 0 && data.includes('"stop"'))) return bytes
      const chunk = parseObject(data)
      const list = Array.isArray(chunk?.choices) ? chunk.choices : []
      const mended = list.map((choice) => (isObject(choice) ? mendChoice(choice, open) : choice))
      if (mended.every((choice, i) => choice === list[i])) return bytes
      return Buffer.from(`data: ${JSON.stringify({ ...chunk, choices: mended })}\n\n`)
    },
  }
}

/** The same object where nothing is wrong with it. */
function mendChoice(choice: Members, stream: Open): Members {
  const { choices } = stream
  const index = typeof choice.index === 'number' ? choice.index : 0
  const delta = isObject(choice.delta) ? choice.delta : {}
  const fragments = Array.isArray(delta.tool_calls) ? delta.tool_calls : []
  const known = choices.get(index)
  if (known === undefined && (fragments.length === 0 || choices.size >= MOST_CALLS)) return choice
  const open = known ?? { calls: [], last: undefined }
  choices.set(index, open)
  let mended = choice
  const numbered = fragments.map((one) => (isObject(one) ? number(one, open, stream) : one))
  if (numbered.some((one, i) => one !== fragments[i]))
    mended = { ...mended, delta: { ...delta, tool_calls: numbered } }
  if (choice.finish_reason === 'stop') mended = { ...mended, finish_reason: CALLS }
  return mended
}

/** A fragment under the number of its call: that of its server, where no other call has it. */
function number(fragment: Members, open: OpenChoice, stream: Open): Members {
  const inner = isObject(fragment.function) ? fragment.function : {}
  const name = typeof inner.name === 'string' ? inner.name : ''
  const id = typeof fragment.id === 'string' ? fragment.id : ''
  let call = knownCall(fragment, name, open)
  if (call === undefined) {
    if (stream.calls >= MOST_CALLS) return fragment
    stream.calls += 1
    const index = typeof fragment.index === 'number' ? fragment.index : undefined
    const taken = open.calls.map((other) => other.number)
    const isFree = index !== undefined && !taken.includes(index)
    call = {
      index,
      number: isFree ? index : Math.max(-1, ...taken) + 1,
      id: '',
      name: '',
      end: createJsonEnd(),
    }
    open.calls.push(call)
  }
  open.last = call
  call.id ||= id
  call.name ||= name
  if (typeof inner.arguments === 'string') call.end.push(inner.arguments)
  return fragment.index === call.number ? fragment : { ...fragment, index: call.number }
}

function mendWhole(body: Buffer): Buffer {
  if (!body.includes(`"${CALLS}"`)) return body
  const reply = parseObject(body.toString('utf8'))
  const list = Array.isArray(reply?.choices) ? reply.choices : []
  const mended = list.map((choice) =>
    isObject(choice) && isCalled(choice) ? { ...choice, finish_reason: CALLS } : choice,
  )
  if (mended.every((choice, i) => choice === list[i])) return body
  return Buffer.from(JSON.stringify({ ...reply, choices: mended }))
}

/** It calls, and says that it does not. */
function isCalled({ message, finish_reason: reason }: Members): boolean {
  return (
    reason === 'stop' &&
    isObject(message) &&
    Array.isArray(message.tool_calls) &&
    message.tool_calls.length > 0
  )
}
