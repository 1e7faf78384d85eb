// A stage for bugs that were reported of other gateways: providers of every format that play a raw stream, each by a name
// of its own so that no failure is another test's concern, somebody who stands in for them, and callers of every API.

import { afterAll, beforeAll, beforeEach } from 'vitest'
import { toEvent } from './dialects/dialect.ts'
import { toStreamEvent } from './eventstream.ts'
import { startGateway, type TestGateway } from './gateway.ts'
import { readStream } from './messages-checker.ts'
import { assembleResponse } from './responses-stream.ts'
import {
  answer,
  type Behaviour,
  createScriptedProvider,
  isRecord,
  type ScriptedProvider,
  stream,
  toFrame,
} from './scripted-provider.ts'
import { parseSse } from './sse.ts'

export const PROVIDER_KEY = 'sk-provider-key-0123456789abcdef'
export const OTHER_KEY = 'sk-other-key-0123456789abcdef'
const SIGNING_KEY = 'AKIDEXAMPLE000000000:wJalrXUtnFEMIexampleSecretPart'

/** What stands behind the origin of a provider, its model, and more of its configuration. */
const KINDS = {
  chat: { format: 'openai', base: '/v1', model: 'm' },
  /** Speaks what its callers do, whatever that is. */
  every: {
    format: 'openai',
    base: '/v1',
    model: 'm',
    more: { alsoSpeaks: ['responses', 'completions', 'anthropic', 'anthropic-count'] },
  },
  azure: { format: 'azure', base: '', model: 'm' },
  responses: { format: 'responses', base: '/v1', model: 'm' },
  claude: { format: 'anthropic', base: '/v1', model: 'claude-sonnet-4-5' },
  gemini: { format: 'gemini', base: '/v1beta', model: 'gemini-3-pro-preview' },
  'gemini-2': { format: 'gemini', base: '/v1beta', model: 'gemini-2.0-flash' },
  bedrock: { format: 'bedrock', base: '', model: 'anthropic.claude-sonnet-4-5-20250929-v1:0' },
  nova: { format: 'bedrock', base: '', model: 'amazon.nova-pro-v1:0' },
} as const
export type Kind = keyof typeof KINDS
export const isKind = (name: string): name is Kind => name in KINDS
const NAMES = Object.keys(KINDS).filter(isKind)

export interface Answered {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

export interface Peers {
  readonly provider: ScriptedProvider
  readonly other: ScriptedProvider
  readonly gateway: TestGateway
  /**
   * The name of a route over a deployment that nobody had before. Behind it stands one that speaks chat, or nobody
   * (`alone`), itself once more (`again`), or one that takes whatever its caller speaks (`like`).
   */
  take(kind: Kind, more?: 'alone' | 'again' | 'like'): string
  post(
    path: string,
    body: Readonly<Record<string, unknown>>,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Answered>
  /** What the provider was sent last. */
  // biome-ignore lint/suspicious/noExplicitAny: what it says is what is tested
  sent(): any
  close(): Promise<void>
}

/** `createPeers` for the tests of a file; with each test both providers begin anew. */
export function usePeers(most: Parameters<typeof createPeers>[0]): Omit<Peers, 'close'> {
  let started: Peers | undefined
  const peers = (): Peers => {
    if (started === undefined) throw new Error('the peers have not been started')
    return started
  }
  beforeAll(async () => {
    started = await createPeers(most)
  })
  afterAll(() => started?.close())
  beforeEach(() => {
    peers().provider.reset()
    peers().other.reset()
  })
  return {
    get provider() {
      return peers().provider
    },
    get other() {
      return peers().other
    },
    get gateway() {
      return peers().gateway
    },
    take: (...what) => peers().take(...what),
    post: (...what) => peers().post(...what),
    sent: () => peers().sent(),
  }
}

/**
 * Starts two providers and a gateway before them, with so many deployments of each kind to take. Who stands in says
 * `From the other.`
 */
async function createPeers(most: Readonly<Partial<Record<Kind, number>>>): Promise<Peers> {
  const [provider, other] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  const slots = NAMES.flatMap((kind) =>
    Array.from({ length: most[kind] ?? 0 }, (_, i) => ({ name: `${kind}-${i}`, ...KINDS[kind], kind })),
  )
  const each = <T>(of: (slot: (typeof slots)[number]) => readonly [string, T][]): Record<string, T> =>
    Object.fromEntries(slots.flatMap(of))
  const gateway = await startGateway({
    config: {
      providers: {
        ...each((slot) => {
          const isBedrock = slot.format === 'bedrock'
          const more = 'more' in slot ? slot.more : {}
          const region = isBedrock ? { region: 'eu-west-1' } : {}
          const apiKey = isBedrock ? 'env:SIGNING_KEY' : 'env:PROVIDER_KEY'
          return [
            [
              slot.name,
              { format: slot.format, baseUrl: `${provider.url}${slot.base}`, apiKey, ...region, ...more },
            ],
          ]
        }),
        other: { format: 'openai', baseUrl: `${other.url}/v1`, apiKey: 'env:OTHER_KEY' },
        like: {
          format: 'openai',
          baseUrl: `${other.url}/v1`,
          apiKey: 'env:OTHER_KEY',
          ...KINDS.every.more,
        },
      },
      tiers: {
        ...each(({ name, model }) => {
          const all = { deployments: [`${name}/${model}`], idle: '20s', retries: 0 }
          return [
            [name, all],
            [`${name}-again`, { ...all, retries: 2, patience: '3s' }],
          ]
        }),
        other: { deployments: ['other/other-model'], retries: 0 },
        like: { deployments: ['like/other-model'], retries: 0 },
      },
      routes: each(({ name }) => [
        [name, [name, 'other']],
        [`${name}-like`, [name, 'like']],
        [`${name}-alone`, [name]],
        [`${name}-again`, [`${name}-again`]],
      ]),
      failover: { attempts: 4, retryBudget: 1, grace: '10ms' },
    },
    env: { PROVIDER_KEY, OTHER_KEY, SIGNING_KEY },
  })
  const taken = new Map<Kind, number>()

  return {
    provider,
    other,
    gateway,
    take(kind, more) {
      const next = taken.get(kind) ?? 0
      if (next >= (most[kind] ?? 0)) throw new Error(`more than ${next} are taken of ${kind}`)
      taken.set(kind, next + 1)
      other.script(answer({ text: 'From the other.' }))
      return more === undefined ? `${kind}-${next}` : `${kind}-${next}-${more}`
    },
    async post(path, body, headers = {}) {
      const response = await fetch(`${gateway.baseUrl}${path}`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${gateway.bearer}`,
          'content-type': 'application/json',
          ...headers,
        },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(20_000),
      })
      return { status: response.status, headers: response.headers, text: await response.text() }
    },
    sent: () => JSON.parse(provider.requests.at(-1)?.body.toString() ?? 'null'),
    close: async () => {
      provider.killConnections()
      await gateway.stop()
      await Promise.all([provider.close(), other.close()])
    },
  }
}

// --- what providers send -----------------------------------------------------------------------------------------

type Members = Readonly<Record<string, unknown>>

/** Chunks of chat as they stand, and the end marker. */
export function chunks(...list: readonly Members[]): Behaviour {
  return stream([...list.map((one) => toFrame(one)), 'data: [DONE]\n\n'])
}

/** A chunk of one choice. */
export function chunk(delta: Members, finish: string | null = null, more: Members = {}): Members {
  return {
    id: 'chatcmpl-1',
    object: 'chat.completion.chunk',
    created: 1_760_000_000,
    model: 'm',
    choices: [{ index: 0, delta, finish_reason: finish }],
    ...more,
  }
}

/** Events whose name is their type, as Messages and Responses have them. */
export function events(...list: readonly (Members & { readonly type: string })[]): Behaviour {
  return stream(list.map((one) => toEvent(one.type, one)))
}

/** Those of Messages: a beginning, these, and an end with this reason. */
export function message(
  reason: string,
  ...list: readonly (Members & { readonly type: string })[]
): Behaviour {
  const cached = { cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
  const usage = { input_tokens: 11, ...cached, output_tokens: 1 }
  return events(
    {
      type: 'message_start',
      message: {
        id: 'msg_1',
        type: 'message',
        role: 'assistant',
        model: 'm',
        content: [],
        stop_reason: null,
        usage,
      },
    },
    ...list,
    {
      type: 'message_delta',
      delta: { stop_reason: reason, stop_sequence: null },
      usage: { output_tokens: 5 },
    },
    { type: 'message_stop' },
  )
}

/** A stream of Gemini, each a list of parts; the last one ends it. */
export function candidates(...list: readonly (readonly Members[])[]): Behaviour {
  return stream(
    list.map((parts, i) => ({
      frame: {
        candidates: [
          {
            index: 0,
            content: { role: 'model', parts },
            ...(i === list.length - 1 && { finishReason: 'STOP' }),
          },
        ],
        usageMetadata: { promptTokenCount: 11, candidatesTokenCount: 5, totalTokenCount: 16 },
        modelVersion: 'm',
        responseId: 'r1',
      },
    })),
  )
}

/** A stream of Converse: its events between the beginning and the end, and why it ends. */
export function converse(reason: string, ...list: readonly (readonly [type: string, members: Members])[]) {
  return stream([
    toStreamEvent('messageStart', { role: 'assistant' }),
    ...list.map(([type, members]) => toStreamEvent(type, members)),
    toStreamEvent('messageStop', { stopReason: reason }),
    toStreamEvent('metadata', { usage: { inputTokens: 11, outputTokens: 5, totalTokens: 16 } }),
  ])
}

// --- what callers hear -------------------------------------------------------------------------------------------

export interface HeardCall {
  readonly id: string
  readonly name: string
  readonly args: string
}

export interface Said {
  readonly text: string
  readonly thought: string
  readonly calls: readonly HeardCall[]
  /** In the words of the API. */
  readonly finish: unknown
  readonly usage: Readonly<Record<string, unknown>>
}

/** An API, as a strict client of it asks and listens. */
export interface Api {
  readonly name: 'chat' | 'messages' | 'responses'
  readonly path: string
  /** Asks a question, with tools of these names. */
  ask(model: string, asked?: { readonly stream?: boolean; readonly tools?: readonly string[] }): Members
  /** Throws where a rule of the API is broken. */
  hear(answered: Answered): Said
}

const PARAMETERS = { type: 'object', properties: { city: { type: 'string' } } }
const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
const list = (value: unknown): Record<string, unknown>[] =>
  Array.isArray(value) ? value.filter(isRecord) : []
const members = (value: unknown): Record<string, unknown> => (isRecord(value) ? value : {})
const isStream = ({ headers }: Answered): boolean =>
  headers.get('content-type')?.startsWith('text/event-stream') === true

const chat: Api = {
  name: 'chat',
  path: '/chat/completions',
  ask: (model, { stream: streamed = false, tools = [] } = {}) => ({
    model,
    messages: [{ role: 'user', content: 'Hello.' }],
    ...(streamed && { stream: true, stream_options: { include_usage: true } }),
    ...(tools.length > 0 && {
      tools: tools.map((name) => ({ type: 'function', function: { name, parameters: PARAMETERS } })),
    }),
  }),
  hear(answered) {
    if (!isStream(answered)) {
      const reply = members(JSON.parse(answered.text))
      const [choice = {}, ...rest] = list(reply.choices)
      if (rest.length > 0) throw new Error(`${rest.length} choices too many`)
      const said = members(choice.message)
      if ('tool_calls' in said && list(said.tool_calls).length === 0) throw new Error('no call in tool_calls')
      const calls = list(said.tool_calls).map(({ id, function: inner }) => ({
        id: textOf(id),
        name: textOf(members(inner).name),
        args: textOf(members(inner).arguments),
      }))
      const thought = textOf(said.reasoning_content) || textOf(said.reasoning)
      const usage = members(reply.usage)
      return { text: textOf(said.content), thought, calls, finish: choice.finish_reason, usage }
    }
    const frames = parseSse(answered.text).map(({ data }) => data)
    if (frames.pop() !== '[DONE]') throw new Error('no end marker')
    let text = ''
    let thought = ''
    let finish: unknown
    let usage: Record<string, unknown> = {}
    const calls: { id: string; name: string; args: string }[] = []
    for (const frame of frames) {
      const one = members(JSON.parse(frame))
      if (isRecord(one.error)) throw new Error(`an error: ${textOf(one.error.message)}`)
      if (isRecord(one.usage)) usage = one.usage
      for (const choice of list(one.choices)) {
        if (choice.index !== 0) throw new Error(`choice ${choice.index}, which nobody asked for`)
        const delta = members(choice.delta)
        text += textOf(delta.content)
        thought += textOf(delta.reasoning_content) || textOf(delta.reasoning)
        if ('tool_calls' in delta && list(delta.tool_calls).length === 0)
          throw new Error('no call in tool_calls')
        for (const { index, id, type, function: inner } of list(delta.tool_calls)) {
          const called = members(inner)
          const call = calls[Number(index)]
          if (call !== undefined) {
            // A client adds arguments up by the number, and keeps the first id and name.
            if (id !== undefined && id !== call.id) throw new Error(`call ${index} is ${call.id} and ${id}`)
            call.args += textOf(called.arguments)
            continue
          }
          if (index !== calls.length) throw new Error(`call ${index} behind ${calls.length} calls`)
          if (textOf(id) === '' || textOf(called.name) === '' || type !== 'function')
            throw new Error(`call ${index} begins without an id, a name or a type`)
          calls.push({ id: textOf(id), name: textOf(called.name), args: textOf(called.arguments) })
        }
        if (typeof choice.finish_reason === 'string') {
          if (finish !== undefined) throw new Error('two reasons for the end')
          finish = choice.finish_reason
        }
      }
    }
    return { text, thought, calls, finish, usage }
  },
}

function readBlocks(said: Record<string, unknown>): Said {
  const blocks = list(said.content)
  return {
    text: blocks.map((block) => textOf(block.text)).join(''),
    thought: blocks.map((block) => textOf(block.thinking)).join(''),
    calls: blocks
      .filter(({ type }) => type === 'tool_use')
      .map(({ id, name, input }) => ({ id: textOf(id), name: textOf(name), args: JSON.stringify(input) })),
    finish: said.stop_reason,
    usage: members(said.usage),
  }
}

const messages: Api = {
  name: 'messages',
  path: '/messages',
  ask: (model, { stream: streamed = false, tools = [] } = {}) => ({
    model,
    max_tokens: 1000,
    messages: [{ role: 'user', content: 'Hello.' }],
    ...(streamed && { stream: true }),
    ...(tools.length > 0 && { tools: tools.map((name) => ({ name, input_schema: PARAMETERS })) }),
  }),
  hear(answered) {
    if (!isStream(answered)) return readBlocks(members(JSON.parse(answered.text)))
    const { faults, message: said } = readStream(answered.text)
    if (faults.length > 0) throw new Error(faults.join('; '))
    return readBlocks(said)
  },
}

const responses: Api = {
  name: 'responses',
  path: '/responses',
  ask: (model, { stream: streamed = false, tools = [] } = {}) => ({
    model,
    input: 'Hello.',
    ...(streamed && { stream: true }),
    ...(tools.length > 0 && {
      tools: tools.map((name) => ({ type: 'function', name, parameters: PARAMETERS, strict: false })),
    }),
  }),
  hear(answered) {
    const response = isStream(answered)
      ? assembleResponse(answered.text).response
      : members(JSON.parse(answered.text))
    const output = list(response.output)
    const parts = (type: string, member: string): string =>
      output
        .filter((item) => item.type === type)
        .flatMap((item) => list(item[member]).map((part) => textOf(part.text)))
        .join('')
    return {
      text: parts('message', 'content'),
      thought: parts('reasoning', 'summary'),
      calls: output
        .filter(({ type }) => type === 'function_call')
        .map(({ call_id: id, name, arguments: args }) => ({
          id: textOf(id),
          name: textOf(name),
          args: textOf(args),
        })),
      finish: response.status,
      usage: members(response.usage),
    }
  },
}

export const APIS: readonly Api[] = [chat, messages, responses]
export { chat, messages, responses }

/** Each API, asked for a stream and for the whole. */
export const ASKED = APIS.flatMap((api) => [true, false].map((stream) => ({ api, name: api.name, stream })))
