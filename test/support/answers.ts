// Made-up answers in canonical form, whole and as the events that a provider might have told them with: in pieces of any
// size, with the arguments of calls that follow on each other told at the same time.

import fc from 'fast-check'
import type { CallPart, ChatEvent, ChatReply, Finish, Part, Source } from '../../src/formats/canonical.ts'
import type { AnswerTo } from '../../src/formats/format.ts'
import type { Usage } from '../../src/types.ts'

export const USED: Usage = {
  inputTokens: 30,
  cachedTokens: 12,
  cacheWriteTokens: 3,
  audioInputTokens: 0,
  outputTokens: 9,
  reasoningTokens: 4,
  audioOutputTokens: 0,
  source: 'provider',
}

/** A reply of one choice. */
export function toReply(content: readonly Part[], finish: Finish): ChatReply {
  return {
    id: 'chatcmpl-7',
    createdSeconds: 1_760_000_000,
    model: 'some-model',
    choices: [{ content, finish, stopSequence: undefined, logprobs: undefined }],
    usage: USED,
    serviceTier: undefined,
  }
}

/** The events of a reply. `cuts` says where its texts are cut and whose turn it is. */
export function toEvents(reply: ChatReply, cuts: readonly number[] = [3]): ChatEvent[] {
  const { id, model, createdSeconds, usage } = reply
  const events: ChatEvent[] = [{ type: 'start', id, model, createdSeconds, usage: undefined }]
  let turn = 0
  const next = (): number => cuts[turn++ % cuts.length] ?? 1
  const pieces = (text: string): string[] => {
    const cut: string[] = []
    for (let at = 0; at < text.length; ) {
      const size = 1 + (next() % 9)
      cut.push(text.slice(at, at + size))
      at += size
    }
    return cut
  }
  for (const [choice, { content, finish, stopSequence }] of reply.choices.entries()) {
    let call = 0
    /** Pieces of arguments of calls that stand beside each other, each call's in order. */
    let open: { readonly call: number; readonly pieces: string[] }[] = []
    const argue = (): void => {
      while (open.length > 0) {
        const one = open[next() % open.length]
        const text = one?.pieces.shift()
        if (one !== undefined && text !== undefined)
          events.push({ type: 'arguments', choice, call: one.call, text })
        open = open.filter(({ pieces: left }) => left.length > 0)
      }
    }
    for (const part of content) {
      if (part.type !== 'call') argue()
      if (part.type === 'text' || part.type === 'refusal') {
        for (const text of pieces(part.text)) events.push({ type: part.type, choice, text })
      } else if (part.type === 'thinking') {
        for (const text of pieces(part.text)) events.push({ type: 'thinking', choice, text })
        const { sealed, isRedacted } = part
        if (sealed !== undefined) events.push({ type: 'seal', choice, sealed, isRedacted })
      } else if (part.type === 'image') {
        events.push({ type: 'image', choice, source: part.source })
      } else if (part.type === 'call') {
        const { kind, id: callId, name, namespace, sealed } = part
        events.push({ type: 'call', choice, call, kind, id: callId, name, namespace, sealed })
        if (part.arguments !== '') open.push({ call, pieces: pieces(part.arguments) })
        call += 1
      }
    }
    argue()
    events.push({ type: 'finish', choice, finish, stopSequence })
  }
  if (usage !== undefined) events.push({ type: 'usage', usage })
  return events
}

const said = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
const seal = fc.record({
  origin: fc.constantFrom('anthropic', 'gemini', 'responses'),
  value: fc.stringMatching(/^[A-Za-z0-9+/=|.]{1,40}$/),
})

const callPart = fc
  .record({
    kind: fc.constantFrom('function', 'custom'),
    id: fc.uuid().map((id) => `call_${id}`),
    name: fc.constantFrom('get_weather', 'apply_patch', 'search'),
    namespace: fc.constantFrom(undefined, undefined, 'mcp__docs'),
    arguments: fc.oneof(fc.constant(''), fc.json({ maxDepth: 1 }), said),
    sealed: fc.option(seal, { nil: undefined, freq: 4 }),
  })
  .map((call): CallPart => ({ ...call, type: 'call' }))

const toSource = (base64: string): Source => ({
  kind: 'base64',
  mediaType: base64.startsWith('iVBOR') ? 'image/png' : 'image/jpeg',
  base64,
})

const part: fc.Arbitrary<Part> = fc.oneof(
  said.map((text): Part => ({ type: 'text', text })),
  said.map((text): Part => ({ type: 'refusal', text })),
  fc
    .record({ text: said, sealed: fc.option(seal, { nil: undefined }) })
    .map((thought): Part => ({ ...thought, type: 'thinking', isRedacted: false })),
  seal.map((sealed): Part => ({ type: 'thinking', text: '', sealed, isRedacted: true })),
  fc
    .constantFrom('iVBORw0KGgo=', '/9j/4AAQ')
    .map((base64): Part => ({ type: 'image', source: toSource(base64), detail: undefined })),
  callPart,
)

/** What may be said in one answer; parts that a stream cannot keep apart do not stand side by side. */
export const contents: fc.Arbitrary<readonly Part[]> = fc.array(part, { maxLength: 8 }).map((parts) => {
  const kept: Part[] = []
  for (const one of parts) {
    const before = kept.at(-1)
    if (one.type !== 'call' && before?.type === one.type) continue
    // A thought without a seal beside text is not kept in its place: see createResponsesEvents.
    if (one.type === 'thinking' && one.sealed === undefined && before !== undefined) continue
    kept.push(one)
  }
  return kept
})

/** What a writer of an answer is told of its request; ids count up. */
export function createAnswerTo(
  sent: Readonly<Record<string, unknown>>,
  request: AnswerTo['request'],
): AnswerTo {
  let ids = 0
  return {
    request,
    sent,
    nowSeconds: 1_760_000_001,
    nextId(prefix) {
      ids += 1
      return `${prefix}${ids}`
    },
  }
}
