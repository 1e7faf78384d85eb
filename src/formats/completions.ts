// OpenAI's legacy completions: a prompt, and the text that follows it. A server that has them takes the caller's bytes;
// elsewhere the prompt is what a user says. Pure.
// Source: OpenAI API reference, POST /completions.

import type { Edit } from '../bytes/splice.ts'
import type { ModelRequest, Usage } from '../types.ts'
import type { ChatReply, Choice, Finish } from './canonical.ts'
import { createEdits } from './edits.ts'
import type {
  AnswerTo,
  Asked,
  ChatClientSide,
  EventWriter,
  Format,
  ProviderSide,
  ReadRequest,
} from './format.ts'
import { countAt, flagAt, mustBe, numberAt, objectAt, refuse, textAt, textsAt, wrongType } from './members.ts'
import { openai, toError } from './openai.ts'
import { writeUsage } from './openai-usage.ts'
import { pictureNote } from './pictures.ts'

type Members = Readonly<Record<string, unknown>>

export const completions: Format & { readonly client: ChatClientSide; readonly provider: ProviderSide } = {
  name: 'completions',
  client: {
    fields: {
      outputCaps: ['max_tokens'],
      conversation: 'prompt',
      choices: 'n',
      beyondText: [
        ['logprobs', /^null$/],
        ['echo', /^(?:null|false)$/],
        // Several prompts have several answers.
        ['prompt', /^"/],
      ],
    },
    forwards: ['openai-beta'],
    chat: { read: readRequest, memberOf, write: writeReply, events: createEvents },
    error: toError,
    errorEvent: (error) => `data: ${JSON.stringify(toError(error))}\n\n`,
  },
  provider: {
    path: () => '/completions',
    credential: openai.provider.credential,
    edits: toEdits,
    // A choice says `text` where chat says `delta`: both are read by the same watch.
    watch: openai.provider.watch,
    whole: openai.provider.whole,
    quota: openai.provider.quota,
    fault: openai.provider.fault,
    inBand: openai.provider.inBand,
  },
}

/** As in chat, but that there is one name only for a cap. */
function toEdits(request: ModelRequest, asked: Asked): Edit[] {
  const edits = openai.provider.edits(request, { ...asked, maxOutputTokens: undefined })
  if (asked.maxOutputTokens === undefined) return edits
  const capped = createEdits(request)
  capped.capOutput(['max_tokens'], asked.maxOutputTokens)
  return [...edits, ...capped.list]
}

// --- requests ------------------------------------------------------------------------------------------------------

/** What is read, or means nothing elsewhere. */
const KNOWN: ReadonlySet<string> = new Set([
  'model',
  'prompt',
  'suffix',
  'echo',
  'max_tokens',
  'temperature',
  'top_p',
  'n',
  'stream',
  'stream_options',
  'stop',
  'seed',
  'presence_penalty',
  'frequency_penalty',
  'logit_bias',
  'user',
  'metadata',
  'service_tier',
  'prompt_cache_key',
])

/**
 * `echo` is done here. `best_of` and `logprobs` are left out and told of: the answer is one of the same kind. A `suffix`
 * has no meaning in a conversation, and several prompts would be several.
 *
 * @throws GatewayError `invalid_request` that names the field.
 */
function readRequest(sent: Members): ReadRequest {
  const suffix = textAt(sent.suffix, 'suffix')
  if (suffix !== undefined && suffix !== '') {
    throw refuse(
      'suffix',
      'The field "suffix" asks for text in between, which the model behind this route cannot be asked for.',
    )
  }
  flagAt(sent.echo, 'echo')
  const streamOptions = objectAt(sent.stream_options, 'stream_options') ?? {}
  const bias = objectAt(sent.logit_bias, 'logit_bias')
  const isDefault = (name: string, value: unknown) => value === null || (name === 'best_of' && value === 1)
  return {
    request: {
      messages: [
        { role: 'user', content: [{ type: 'text', text: readPrompt(sent.prompt) }], name: undefined },
      ],
      tools: [],
      toolChoice: undefined,
      parallelToolCalls: undefined,
      maxOutputTokens: countAt(sent.max_tokens, 'max_tokens'),
      temperature: numberAt(sent.temperature, 'temperature'),
      topP: numberAt(sent.top_p, 'top_p'),
      topK: undefined,
      stop: readStop(sent.stop),
      choices: countAt(sent.n, 'n') ?? 1,
      seed: countAt(sent.seed, 'seed'),
      presencePenalty: numberAt(sent.presence_penalty, 'presence_penalty'),
      frequencyPenalty: numberAt(sent.frequency_penalty, 'frequency_penalty'),
      responseFormat: { type: 'text' },
      reasoning: undefined,
      verbosity: undefined,
      user: textAt(sent.user, 'user'),
      cacheKey: textAt(sent.prompt_cache_key, 'prompt_cache_key'),
      serviceTier: textAt(sent.service_tier, 'service_tier'),
      metadata: textsAt(sent.metadata, 'metadata'),
      stream: flagAt(sent.stream, 'stream') ?? false,
      includeUsage: flagAt(streamOptions.include_usage, 'stream_options.include_usage') ?? false,
      extra: bias === undefined ? {} : { logit_bias: bias },
    },
    dropped: Object.entries(sent).flatMap(([name, value]) =>
      KNOWN.has(name) || isDefault(name, value) ? [] : [name],
    ),
  }
}

/** The names are chat's, but for what is said. */
function memberOf(name: string): string {
  return /^messages\b/.test(name) ? 'prompt' : name
}

const ONE_TEXT = 'text or a list of one text'
const TEXTS = 'text or a list of texts'

function readPrompt(prompt: unknown): string {
  if (typeof prompt === 'string') return prompt
  const list = mustBe(prompt ?? undefined, 'prompt')
  if (!Array.isArray(list)) throw wrongType('prompt', ONE_TEXT)
  const [only]: readonly unknown[] = list
  if (typeof only === 'string' && list.length === 1) return only
  if (typeof only === 'number' || Array.isArray(only))
    throw refuse('prompt', 'The field "prompt" holds tokens, which only the model they are of can read.')
  if (typeof only !== 'string') throw wrongType('prompt', ONE_TEXT)
  throw refuse('prompt', 'The field "prompt" holds several prompts; the model behind this route takes one.')
}

function readStop(value: unknown): readonly string[] {
  if (typeof value === 'string') return [value]
  if (value !== undefined && value !== null && !Array.isArray(value)) throw wrongType('stop', TEXTS)
  const list: readonly unknown[] = value ?? []
  return list.map((stop) => {
    if (typeof stop !== 'string') throw wrongType('stop', TEXTS)
    return stop
  })
}

// --- answers -------------------------------------------------------------------------------------------------------

function writeReply(reply: ChatReply, to: AnswerTo): unknown {
  const echo = echoOf(to)
  return {
    ...toHead(reply, to),
    choices: reply.choices.map((choice, i) => toChoice(i, `${echo}${textOf(choice)}`, choice.finish)),
    ...(reply.usage !== undefined && { usage: writeUsage(reply.usage) }),
  }
}

function toHead(
  { id, createdSeconds, model }: Pick<ChatReply, 'id' | 'createdSeconds' | 'model'>,
  to: AnswerTo,
): Members {
  return {
    id: toId(id, to),
    object: 'text_completion',
    created: createdSeconds ?? to.nowSeconds,
    model: model === '' && typeof to.sent.model === 'string' ? to.sent.model : model,
  }
}

/** By its beginning an answer of this kind is known. */
function toId(id: string, { nextId }: AnswerTo): string {
  if (id.startsWith(PREFIX)) return id
  return id.startsWith(CHAT_PREFIX) ? `${PREFIX}${id.slice(CHAT_PREFIX.length)}` : nextId(PREFIX)
}

const PREFIX = 'cmpl-'
const CHAT_PREFIX = 'chatcmpl-'

/** What a model refuses it says as well. Thoughts have no place here, nor have pictures. */
function textOf({ content }: Choice): string {
  return content
    .map((part) => {
      if (part.type === 'image') return `\n${pictureNote(part.source)}\n`
      return part.type === 'text' || part.type === 'refusal' ? part.text : ''
    })
    .join('')
}

function toChoice(index: number, text: string, finish: Finish | undefined): Members {
  // There are no tools here to be called.
  return { text, index, logprobs: null, finish_reason: finish === 'tool_calls' ? 'stop' : (finish ?? null) }
}

/** The prompt, where it shall stand in front of its answer. */
function echoOf({ sent, request }: AnswerTo): string {
  const [message] = request.messages
  const [part] = sent.echo === true ? (message?.content ?? []) : []
  return part?.type === 'text' ? part.text : ''
}

function createEvents(to: AnswerTo): EventWriter {
  const { includeUsage } = to.request
  const echo = echoOf(to)
  const echoed = new Set<number>()
  const finishes = new Map<number, Finish>()
  let head: Members | undefined
  let usage: Usage | undefined

  function chunk(choices: readonly Members[], total: Usage | undefined): string {
    head ??= toHead({ id: '', createdSeconds: undefined, model: '' }, to)
    const told = includeUsage && { usage: total === undefined ? null : writeUsage(total) }
    return toFrame({ ...head, choices, ...told })
  }

  function say(choice: number, text: string, finish: Finish | undefined): string {
    const prefix = echo === '' || echoed.has(choice) ? '' : echo
    echoed.add(choice)
    return chunk([toChoice(choice, `${prefix}${text}`, finish)], undefined)
  }

  return {
    write(event) {
      switch (event.type) {
        case 'start':
          head ??= toHead(event, to)
          usage = event.usage ?? usage
          return ''
        case 'text':
        case 'refusal':
          return event.text === '' ? '' : say(event.choice, event.text, undefined)
        case 'image':
          return say(event.choice, `\n${pictureNote(event.source)}\n`, undefined)
        case 'finish':
          // Told at the end: some providers give their reason with every piece.
          finishes.set(event.choice, event.finish)
          return ''
        case 'usage':
          usage = event.usage
          return ''
        default:
          return ''
      }
    },
    end() {
      let frames = ''
      for (const [choice, finish] of finishes) frames += say(choice, '', finish)
      const total = includeUsage && usage !== undefined ? chunk([], usage) : ''
      return `${frames}${total}data: [DONE]\n\n`
    },
  }
}

function toFrame(value: Members): string {
  return `data: ${JSON.stringify(value)}\n\n`
}
