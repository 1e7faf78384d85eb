// Conversations, answers and streams in canonical form, as callers and providers make them and as they never should:
// for the laws of formats. Knows no wire.

import fc from 'fast-check'
import type {
  CacheMark,
  CallPart,
  ChatEvent,
  ChatRequest,
  Message,
  Part,
  Seal,
  ThinkingPart,
  Tool,
} from '../../src/formats/canonical.ts'

/** A request that says nothing but its messages. */
export function chatRequest(over: Partial<ChatRequest> = {}): ChatRequest {
  return {
    messages: [{ role: 'user', content: [{ type: 'text', text: 'Hello' }], name: undefined }],
    tools: [],
    toolChoice: undefined,
    parallelToolCalls: undefined,
    maxOutputTokens: undefined,
    temperature: undefined,
    topP: undefined,
    topK: undefined,
    stop: [],
    choices: 1,
    seed: undefined,
    presencePenalty: undefined,
    frequencyPenalty: undefined,
    responseFormat: { type: 'text' },
    reasoning: undefined,
    verbosity: undefined,
    user: undefined,
    cacheKey: undefined,
    serviceTier: undefined,
    metadata: undefined,
    stream: false,
    includeUsage: false,
    extra: {},
    ...over,
  }
}

export function call(id: string, name: string, json = '{}', over: Partial<CallPart> = {}): CallPart {
  return {
    type: 'call',
    kind: 'function',
    id,
    name,
    namespace: undefined,
    arguments: json,
    sealed: undefined,
    ...over,
  }
}

export function thought(text: string, sealed?: Seal, isRedacted = false): ThinkingPart {
  return { type: 'thinking', text, sealed, isRedacted }
}

export function user(...content: readonly (string | Part)[]): Message {
  return { role: 'user', content: content.map(toPart), name: undefined }
}

export function assistant(...content: readonly (string | Part)[]): Message {
  return { role: 'assistant', content: content.map(toPart) }
}

export function system(...content: readonly (string | Part)[]): Message {
  return { role: 'system', content: content.map(toPart) }
}

export function result(
  callId: string,
  ...content: readonly (string | Part)[]
): Extract<Message, { readonly role: 'tool' }> {
  return { role: 'tool', callId, content: content.map(toPart), isError: false, cache: undefined }
}

export function tool(name: string, over: Partial<Tool> = {}): Tool {
  return {
    kind: 'function',
    name,
    namespace: undefined,
    description: undefined,
    parameters: { type: 'object', properties: {} },
    strict: undefined,
    grammar: undefined,
    cache: undefined,
    ...over,
  }
}

function toPart(part: string | Part): Part {
  return typeof part === 'string' ? { type: 'text', text: part } : part
}

// --- arbitraries -----------------------------------------------------------------------------------------------

const cache: fc.Arbitrary<CacheMark | undefined> = fc.option(
  fc.constantFrom({ ttl: undefined }, { ttl: '1h' }),
  {
    nil: undefined,
    freq: 4,
  },
)

/** Blank ones too, and what JSON and SSE must escape. */
export const words: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  fc.constantFrom('', ' ', '\n\n', 'data: x\n\n', 'a "quoted" \\ word', '{"a":1}', 'ends in space '),
)

const textPart: fc.Arbitrary<Part> = fc.record({ type: fc.constant('text' as const), text: words, cache })
const imagePart: fc.Arbitrary<Part> = fc.record({
  type: fc.constant('image' as const),
  source: fc.constantFrom(
    { kind: 'base64' as const, mediaType: 'image/png', base64: 'iVBORw0KGgo=' },
    { kind: 'url' as const, url: 'https://example.com/cat.png', mediaType: undefined },
  ),
  detail: fc.constant(undefined),
  cache,
})
const filePart: fc.Arbitrary<Part> = fc.record({
  type: fc.constant('file' as const),
  source: fc.constantFrom(
    { kind: 'base64' as const, mediaType: 'application/pdf', base64: 'JVBERi0xLjc=' },
    { kind: 'url' as const, url: 'https://example.com/a.pdf', mediaType: 'application/pdf' },
  ),
  name: fc.constantFrom(undefined, 'a.pdf'),
  cache,
})

export function seal(origins: readonly string[]): fc.Arbitrary<Seal> {
  return fc.record({
    origin: fc.constantFrom(...origins),
    value: fc.base64String({ minLength: 16, maxLength: 24 }),
  })
}

export function thinkingPart(origins: readonly string[]): fc.Arbitrary<ThinkingPart> {
  return fc.oneof(
    fc.record({
      type: fc.constant('thinking' as const),
      text: words,
      sealed: fc.option(seal(origins), { nil: undefined }),
      isRedacted: fc.constant(false),
    }),
    fc.record({
      type: fc.constant('thinking' as const),
      text: fc.constant(''),
      sealed: seal(origins),
      isRedacted: fc.constant(true),
    }),
  )
}

/** Few ids, so that they clash and are answered twice or never. */
export const callIds = fc.constantFrom('call_1', 'call_2', 'call:3', 'toolu_4', '')
/** Names that a wire may refuse, and one that is too long. */
export const toolNames = fc.constantFrom('read_file', 'search', 'weird name!', 'grün', 'x'.repeat(80))

const jsonObject: fc.Arbitrary<string> = fc
  .dictionary(fc.string({ maxLength: 5 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 })
  .map((value) => JSON.stringify(value))

export const callPart: fc.Arbitrary<CallPart> = fc.record({
  type: fc.constant('call' as const),
  kind: fc.constant('function' as const),
  id: callIds,
  name: toolNames,
  namespace: fc.constant(undefined),
  arguments: fc.oneof(jsonObject, fc.constantFrom('', 'no json', '[1]')),
  sealed: fc.constant(undefined),
  cache,
})

/** Any order of anything: what trimmed, merged and broken histories look like. */
export function messages(origins: readonly string[]): fc.Arbitrary<Message[]> {
  const content = (...parts: readonly fc.Arbitrary<Part>[]): fc.Arbitrary<Part[]> =>
    fc.array(fc.oneof(...parts), { maxLength: 4 })
  const instruction: fc.Arbitrary<Message> = fc.record({
    role: fc.constantFrom('system' as const, 'developer' as const),
    content: content(textPart),
  })
  const asked: fc.Arbitrary<Message> = fc.record({
    role: fc.constant('user' as const),
    content: content(textPart, imagePart, filePart),
    name: fc.constantFrom(undefined, 'ann'),
  })
  const said: fc.Arbitrary<Message> = fc.record({
    role: fc.constant('assistant' as const),
    content: content(textPart, callPart, thinkingPart(origins)),
  })
  const answered: fc.Arbitrary<Message> = fc.record({
    role: fc.constant('tool' as const),
    callId: callIds,
    content: content(textPart, imagePart),
    isError: fc.boolean(),
    cache,
  })
  return fc.array(fc.oneof(instruction, asked, said, answered, answered), { maxLength: 12 })
}

const schema: fc.Arbitrary<unknown> = fc.constantFrom(
  undefined,
  { type: 'object', properties: { path: { type: 'string', minLength: 1 } }, required: ['path'] },
  { type: 'object', additionalProperties: true },
  { anyOf: [{ type: 'object', properties: { a: { type: 'number' } } }, { properties: { b: {} } }] },
  { properties: { when: { type: 'string', format: 'date-time', pattern: '^2' } } },
)

const tools: fc.Arbitrary<Tool[]> = fc.uniqueArray(
  fc.record({
    kind: fc.constantFrom('function' as const, 'custom' as const),
    name: toolNames,
    namespace: fc.constantFrom(undefined, undefined, 'mcp'),
    description: fc.constantFrom(undefined, '', 'Reads a file.'),
    parameters: schema,
    strict: fc.constantFrom(undefined, true, false),
    grammar: fc.constantFrom(undefined, { type: 'grammar', syntax: 'lark', definition: 'start: "a"' }),
    cache,
  }),
  { selector: ({ name, namespace }) => `${namespace} ${name}`, maxLength: 4 },
)

export function requests(origins: readonly string[]): fc.Arbitrary<ChatRequest> {
  return fc
    .record({
      messages: messages(origins),
      tools,
      toolChoice: fc.constantFrom(
        undefined,
        { type: 'auto' as const },
        { type: 'none' as const },
        { type: 'required' as const },
        'named' as const,
      ),
      parallelToolCalls: fc.constantFrom(undefined, true, false),
      maxOutputTokens: fc.constantFrom(undefined, 1, 600, 4_000, 1_000_000),
      temperature: fc.constantFrom(undefined, 0, 0.7, 1.6),
      topP: fc.constantFrom(undefined, 0.9),
      topK: fc.constantFrom(undefined, 40),
      stop: fc.array(fc.constantFrom('END', ' ', '\n'), { maxLength: 3 }),
      responseFormat: fc.constantFrom(
        { type: 'text' as const },
        { type: 'json_object' as const },
        ...[undefined, { type: 'object', additionalProperties: true }, { type: 'array', items: {} }].map(
          (over) => ({
            type: 'json_schema' as const,
            name: 'answer',
            description: undefined,
            schema: over ?? {
              type: 'object',
              properties: { a: { type: 'integer', minimum: 1 } },
              required: ['a'],
              additionalProperties: false,
            },
            strict: true,
          }),
        ),
      ),
      reasoning: fc.option(
        fc.record({
          effort: fc.constantFrom(
            undefined,
            'none',
            'minimal',
            'low',
            'medium',
            'high',
            'xhigh',
            'max',
            'unheard',
          ),
          budgetTokens: fc.constantFrom(undefined, 1, 2_000, 50_000),
          summary: fc.constant(undefined),
        }),
        { nil: undefined },
      ),
      user: fc.constantFrom(undefined, 'ann', 'x'.repeat(300)),
      serviceTier: fc.constantFrom(undefined, 'auto', 'default', 'flex'),
      stream: fc.boolean(),
    })
    .map(({ toolChoice, ...over }) => {
      const [first] = over.tools
      const named =
        first === undefined
          ? undefined
          : { type: 'tool' as const, name: first.name, namespace: first.namespace }
      return chatRequest({ ...over, toolChoice: toolChoice === 'named' ? named : toolChoice })
    })
}

// --- streams ---------------------------------------------------------------------------------------------------

/** What an answer says, in order: what the events of its stream add up to. */
export type Said =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'thinking'; readonly text: string; readonly sealed: Seal | undefined }
  | { readonly type: 'redacted'; readonly sealed: Seal }
  | { readonly type: 'call'; readonly id: string; readonly name: string; readonly json: string }

export function said(origins: readonly string[]): fc.Arbitrary<Said[]> {
  const some = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
  return fc.array(
    fc.oneof(
      fc.record({ type: fc.constant('text' as const), text: some }),
      fc.record({
        type: fc.constant('thinking' as const),
        text: some,
        sealed: fc.option(seal(origins), { nil: undefined }),
      }),
      fc.record({ type: fc.constant('redacted' as const), sealed: seal(origins) }),
      fc.record({
        type: fc.constant('call' as const),
        id: fc.uuid().map((id) => `call_${id}`),
        name: fc.constantFrom('read_file', 'search'),
        json: fc.oneof(jsonObject, fc.constant('')),
      }),
    ),
    { maxLength: 6 },
  )
}

/** The events of what is said, every text in pieces; one thing behind the other. */
export function toEvents(things: readonly Said[], pieceLength: number): ChatEvent[] {
  let calls = -1
  return things.flatMap((thing): ChatEvent[] => {
    switch (thing.type) {
      case 'text':
        return pieces(thing.text, pieceLength).map((text) => ({ type: 'text', choice: 0, text }))
      case 'thinking':
        return [
          ...pieces(thing.text, pieceLength).map(
            (text): ChatEvent => ({ type: 'thinking', choice: 0, text }),
          ),
          ...(thing.sealed === undefined
            ? []
            : [{ type: 'seal' as const, choice: 0, sealed: thing.sealed, isRedacted: false }]),
        ]
      case 'redacted':
        return [{ type: 'seal', choice: 0, sealed: thing.sealed, isRedacted: true }]
      default: {
        calls += 1
        const at = calls
        const { id, name, json } = thing
        return [
          {
            type: 'call',
            choice: 0,
            call: at,
            kind: 'function',
            id,
            name,
            namespace: undefined,
            sealed: undefined,
          },
          ...pieces(json, pieceLength).map(
            (text): ChatEvent => ({ type: 'arguments', choice: 0, call: at, text }),
          ),
        ]
      }
    }
  })
}

function pieces(text: string, length: number): string[] {
  const out: string[] = []
  for (let at = 0; at < text.length; at += length) out.push(text.slice(at, at + length))
  return out
}
