// Puts canonical events together again, and holds them to what canonical.ts promises of them: one start before all,
// calls numbered in the order in which they begin, nothing behind the finish of a choice but usage.

import type {
  CallPart,
  ChatEvent,
  Choice,
  Finish,
  Part,
  Seal,
  ThinkingPart,
} from '../../src/formats/canonical.ts'
import type { Usage } from '../../src/types.ts'

export interface Folded {
  readonly id: string
  readonly model: string
  readonly choices: readonly Pick<Choice, 'content' | 'finish'>[]
  readonly usage: Usage | undefined
}

interface OpenChoice {
  readonly parts: Part[]
  readonly calls: CallPart[]
  finish: Finish | undefined
}

/** @throws Error where a rule is broken */
export function foldEvents(events: readonly ChatEvent[]): Folded {
  const choices: OpenChoice[] = []
  let start: Extract<ChatEvent, { type: 'start' }> | undefined
  let usage: Usage | undefined

  function at(index: number, type: string): OpenChoice {
    if (index > choices.length) throw new Error(`choice ${index} before choice ${choices.length}`)
    const choice = (choices[index] ??= { parts: [], calls: [], finish: undefined })
    if (choice.finish !== undefined) throw new Error(`${type} behind the finish of choice ${index}`)
    return choice
  }

  for (const event of events) {
    if (start === undefined && event.type !== 'start') throw new Error(`${event.type} before the start`)
    switch (event.type) {
      case 'start':
        if (start !== undefined) throw new Error('a second start')
        start = event
        usage = event.usage
        break
      case 'text':
      case 'refusal': {
        const { parts } = at(event.choice, event.type)
        const last = parts.at(-1)
        if (last?.type === event.type) parts.splice(-1, 1, { ...last, text: last.text + event.text })
        else parts.push({ type: event.type, text: event.text })
        break
      }
      case 'thinking': {
        const { parts } = at(event.choice, event.type)
        const last = parts.at(-1)
        if (last?.type === 'thinking' && last.sealed === undefined)
          parts.splice(-1, 1, { ...last, text: last.text + event.text })
        else parts.push(toThought(event.text, undefined, false))
        break
      }
      case 'seal': {
        const { parts } = at(event.choice, event.type)
        const last = parts.at(-1)
        if (last?.type === 'thinking' && last.sealed === undefined && !event.isRedacted)
          parts.splice(-1, 1, { ...last, sealed: event.sealed })
        else parts.push(toThought('', event.sealed, event.isRedacted))
        break
      }
      case 'image':
        at(event.choice, event.type).parts.push({ type: 'image', source: event.source, detail: undefined })
        break
      case 'call': {
        const choice = at(event.choice, event.type)
        if (event.call !== choice.calls.length) throw new Error(`call ${event.call} is not the next`)
        const { kind, id, name, namespace, sealed } = event
        const call: CallPart = { type: 'call', kind, id, name, namespace, arguments: '', sealed }
        choice.calls.push(call)
        choice.parts.push(call)
        break
      }
      case 'arguments': {
        const choice = at(event.choice, event.type)
        const call = choice.calls[event.call]
        if (call === undefined) throw new Error(`arguments of call ${event.call}, which has not begun`)
        const longer = { ...call, arguments: call.arguments + event.text }
        choice.calls[event.call] = longer
        choice.parts[choice.parts.indexOf(call)] = longer
        break
      }
      case 'finish':
        at(event.choice, event.type).finish = event.finish
        break
      case 'usage':
        usage = event.usage
    }
  }
  return {
    id: start?.id ?? '',
    model: start?.model ?? '',
    choices: choices.map(({ parts, finish }, i) => {
      if (finish === undefined) throw new Error(`choice ${i} has no finish`)
      return { content: parts, finish }
    }),
    usage,
  }
}

function toThought(text: string, sealed: Seal | undefined, isRedacted: boolean): ThinkingPart {
  return { type: 'thinking', text, sealed, isRedacted }
}
