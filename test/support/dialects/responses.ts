// OpenAI's Responses API, as a provider speaks it: written from its description, and not with the code under test.

import type { RecordedRequest } from '../scripted-provider.ts'
import {
  type AnswerOptions,
  type ChatBody,
  CREATED,
  type Dialect,
  fieldsOf,
  finishReason,
  isRecord,
  textPieces,
  toEvent,
  tokensOf,
  toolCalls,
} from './dialect.ts'
import { openai } from './openai.ts'

export const responses: Dialect = {
  name: 'responses',
  speaks: (path) => /\/responses(?:\?|$)/.test(path),
  read: readChat,
  frames,
  reply: (chat, options) =>
    response(
      chat,
      options,
      items(options).map(({ item }) => item),
    ),
  streamType: 'text/event-stream; charset=utf-8',
  // The event that says why an answer ended is its last.
  isEnd: () => false,
  isFinish: (frame) => /^event: response\.(?:completed|incomplete)/.test(frame.toString()),
  end: undefined,
  errorBody: openai.errorBody,
  errorFrame,
  malformed: Buffer.from('event: response.output_text.delta\ndata: {"type":"response.output_text.del\n\n'),
}

function readChat(request: RecordedRequest): ChatBody {
  const fields = fieldsOf(request)
  const { input, tools } = fields
  return {
    fields,
    model: typeof fields.model === 'string' ? fields.model : 'scripted-model',
    stream: fields.stream === true,
    includeUsage: true,
    choices: 1,
    messages: Array.isArray(input)
      ? input.filter(isRecord).map(toMessage)
      : [{ role: 'user', content: input }],
    tools: namesOf(tools),
  }
}

function toMessage(item: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  if (item.type === 'function_call_output' || item.type === 'custom_tool_call_output')
    return { role: 'tool', content: item.output, tool_call_id: item.call_id }
  if (item.type === undefined || item.type === 'message') return { role: item.role, content: item.content }
  return { role: 'assistant', ...item }
}

function namesOf(tools: unknown): string[] {
  return (Array.isArray(tools) ? tools.filter(isRecord) : []).flatMap((tool) =>
    tool.type === 'namespace' ? namesOf(tool.tools) : typeof tool.name === 'string' ? [tool.name] : [],
  )
}

type Event = readonly [type: string, members: Readonly<Record<string, unknown>>]

/** An item, and what is told of it between its beginning and its end. */
interface ScriptedItem {
  readonly begun: Readonly<Record<string, unknown>>
  readonly told: readonly Event[]
  readonly item: Readonly<Record<string, unknown>>
}

function items(options: AnswerOptions): ScriptedItem[] {
  const made: ScriptedItem[] = []
  if (options.reasoning !== undefined) {
    const text = options.reasoning.join('')
    const begun = { id: 'rs_scripted', type: 'reasoning', summary: [] }
    const part = { summary_index: 0, part: { type: 'summary_text', text: '' } }
    made.push({
      begun,
      told: [
        ['reasoning_summary_part.added', part],
        ...options.reasoning.map(
          (delta): Event => ['reasoning_summary_text.delta', { summary_index: 0, delta }],
        ),
        ['reasoning_summary_text.done', { summary_index: 0, text }],
        ['reasoning_summary_part.done', { summary_index: 0, part: { type: 'summary_text', text } }],
      ],
      item: { ...begun, summary: [{ type: 'summary_text', text }] },
    })
  }
  for (const [index, { id, name, args }] of toolCalls(options).entries()) {
    const begun = {
      id: `fc_scripted_${index}`,
      type: 'function_call',
      status: 'in_progress',
      call_id: id,
      name,
      arguments: '',
    }
    made.push({
      begun,
      told: [
        ...(args.match(/.{1,8}/gs) ?? []).map((delta): Event => ['function_call_arguments.delta', { delta }]),
        ['function_call_arguments.done', { name, arguments: args }],
      ],
      item: { ...begun, status: 'completed', arguments: args },
    })
  }
  const pieces = textPieces(options)
  if (options.refusal !== undefined) made.push(message([options.refusal], 'refusal', options))
  if (pieces.length > 0) made.push(message(pieces, 'output_text', options))
  return made
}

function message(
  pieces: readonly string[],
  type: 'refusal' | 'output_text',
  options: AnswerOptions,
): ScriptedItem {
  const member = type === 'refusal' ? 'refusal' : 'text'
  const toPart = (text: string) =>
    type === 'refusal' ? { type, refusal: text } : { type, text, annotations: [], logprobs: [] }
  const more = type === 'refusal' ? {} : { logprobs: [] }
  const name = type === 'refusal' ? 'refusal' : 'output_text'
  const text = pieces.join('')
  const begun = {
    id: `msg_scripted_${type}`,
    type: 'message',
    status: 'in_progress',
    role: 'assistant',
    content: [],
  }
  return {
    begun,
    told: [
      ['content_part.added', { content_index: 0, part: toPart('') }],
      ...pieces.map((delta): Event => [`${name}.delta`, { content_index: 0, delta, ...more }]),
      [`${name}.done`, { content_index: 0, [member]: text, ...more }],
      ['content_part.done', { content_index: 0, part: toPart(text) }],
    ],
    item: { ...begun, status: statusOf(options), content: [toPart(text)] },
  }
}

const REASONS = new Map([
  ['length', 'max_output_tokens'],
  ['content_filter', 'content_filter'],
])

function statusOf(options: AnswerOptions): 'completed' | 'incomplete' {
  return REASONS.has(finishReason(options)) ? 'incomplete' : 'completed'
}

/** `output` undefined for a response that is not over. */
function response(
  chat: ChatBody,
  options: AnswerOptions,
  output: readonly unknown[] | undefined,
): Record<string, unknown> {
  const reason = REASONS.get(finishReason(options))
  const { input, output: spent } = tokensOf(options)
  const usage = options.usage ?? {
    input_tokens: input,
    input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
    output_tokens: spent,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: input + spent,
  }
  return {
    id: options.id ?? 'resp_scripted',
    object: 'response',
    created_at: CREATED,
    status: output === undefined ? 'in_progress' : statusOf(options),
    error: null,
    incomplete_details: output === undefined || reason === undefined ? null : { reason },
    instructions: null,
    metadata: {},
    model: options.model ?? chat.model,
    output: output ?? [],
    parallel_tool_calls: true,
    temperature: 1,
    tool_choice: 'auto',
    tools: [],
    top_p: 1,
    ...(output === undefined || options.usageIn === 'none' ? {} : { usage }),
    ...options.extra,
  }
}

function frames(chat: ChatBody, options: AnswerOptions = {}): Buffer[] {
  const made = items(options)
  const begun = response(chat, options, undefined)
  const events: Event[] = [
    ['created', { response: begun }],
    ['in_progress', { response: begun }],
    ...made.flatMap(({ begun: item, told, item: done }, output_index): Event[] => [
      ['output_item.added', { output_index, item }],
      ...told.map(([type, members]): Event => [type, { item_id: done.id, output_index, ...members }]),
      ['output_item.done', { output_index, item: done }],
    ]),
    [
      statusOf(options),
      {
        response: response(
          chat,
          options,
          made.map(({ item }) => item),
        ),
      },
    ],
  ]
  return events.map(([name, members], sequence_number) => {
    const type = `response.${name}`
    const frame = toEvent(type, { type, ...members, sequence_number })
    const { newline = '\n' } = options
    return newline === '\n' ? frame : Buffer.from(frame.toString().replaceAll('\n', newline))
  })
}

/** As the API tells it: an event of its own, without an object around the error. */
function errorFrame(error: unknown): Buffer {
  const told = isRecord(error) ? error : { message: error }
  const { message, code = null, param = null } = told
  return toEvent('error', { type: 'error', code, message, param, sequence_number: 2 })
}
