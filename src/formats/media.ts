// OpenAI's endpoints beside conversation: pictures, sound, moderation. Bytes go as they came to providers that have them,
// with the model's name rewritten; nothing is translated. One row for each endpoint. Pure.
// Source: OpenAI API reference, /images, /audio, /moderations.

import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Edit } from '../bytes/splice.ts'
import type { ModelRequest, Usage } from '../types.ts'
import { createEdits } from './edits.ts'
import { CONTENT, DONE, MALFORMED, NOTHING, noAnswer, toWatch } from './facts.ts'
import type { Asked, Fields, Format, StreamWatch, WholeFacts } from './format.ts'
import { openai, toError } from './openai.ts'
import { errorText, faults } from './openai-faults.ts'
import { toUsage } from './openai-usage.ts'

interface Row {
  readonly name: string
  readonly path: string
  readonly fields?: Partial<Fields>
  /** The member of a whole answer that makes it one, where that is JSON; undefined where it may be anything. */
  readonly answer: string | undefined
}

/** Speech that comes event by event is a wire of its own, which is not passed yet. */
const NO_EVENTS = ['stream_format', /^(?:null|"audio")$/, 'Sound is answered as sound.'] as const

const ROWS = {
  images: { name: 'images', path: '/images/generations', fields: { choices: 'n' }, answer: 'data' },
  imageEdits: {
    name: 'image-edits',
    path: '/images/edits',
    fields: { choices: 'n', isForm: true },
    answer: 'data',
  },
  imageVariations: {
    name: 'image-variations',
    path: '/images/variations',
    fields: { choices: 'n', isForm: true, defaultModel: 'dall-e-2' },
    answer: 'data',
  },
  speech: { name: 'speech', path: '/audio/speech', fields: { refused: [NO_EVENTS] }, answer: undefined },
  transcriptions: {
    name: 'transcriptions',
    path: '/audio/transcriptions',
    fields: { isForm: true },
    answer: undefined,
  },
  translations: {
    name: 'translations',
    path: '/audio/translations',
    fields: { isForm: true },
    answer: undefined,
  },
  moderations: {
    name: 'moderations',
    path: '/moderations',
    fields: { defaultModel: 'omni-moderation-latest' },
    answer: 'results',
  },
} as const satisfies Record<string, Row>

/** By what they do. */
export const media = {
  images: toFormat(ROWS.images),
  imageEdits: toFormat(ROWS.imageEdits),
  imageVariations: toFormat(ROWS.imageVariations),
  speech: toFormat(ROWS.speech),
  transcriptions: toFormat(ROWS.transcriptions),
  translations: toFormat(ROWS.translations),
  moderations: toFormat(ROWS.moderations),
}

function toFormat({ name, path, fields, answer }: Row): Format {
  const isForm = fields?.isForm === true
  return {
    name,
    client: {
      fields: { outputCaps: [], beyondText: [], ...fields },
      forwards: ['openai-beta'],
      error: toError,
      errorEvent: (error) => `data: ${JSON.stringify(toError(error))}\n\n`,
    },
    provider: {
      path: () => path,
      credential: openai.provider.credential,
      edits: (request, asked) => (isForm ? formEdits(request, asked) : jsonEdits(request, asked)),
      isAsTold: true,
      watch: createWatch,
      whole: (_operation, body) => readWhole(body, answer),
      ...faults,
    },
  }
}

// --- requests ------------------------------------------------------------------------------------------------------

function jsonEdits(request: ModelRequest, { model }: Asked): Edit[] {
  const edits = createEdits(request)
  if (model !== request.model) edits.set('model', JSON.stringify(model))
  return edits.list
}

/** A field's content stands in a form as it is. One that is not there is one that nobody named: the server knows it. */
function formEdits({ spans, model: named }: ModelRequest, { model }: Asked): Edit[] {
  const span = spans.get('model')
  return span === undefined || model === named ? [] : [{ ...span, text: model }]
}

// --- answers -------------------------------------------------------------------------------------------------------

/** Of an answer that is no JSON nothing is known but that it is there. */
function readWhole(body: Buffer, answer: string | undefined): WholeFacts {
  if (body.length === 0) return noAnswer('empty')
  const reply = looksLikeObject(body) ? parseObject(body.toString('utf8')) : undefined
  if (reply === undefined && answer !== undefined) return noAnswer('malformed')
  const error = reply && errorText(reply)
  if (error !== undefined) return noAnswer('in_band', error)
  if (answer !== undefined) {
    const list = reply?.[answer]
    if (!Array.isArray(list)) return noAnswer('malformed')
    if (list.length === 0) return noAnswer('empty')
  }
  return { usage: readUsage(reply?.usage), countedTokens: 0, failure: undefined, error: undefined }
}

function looksLikeObject(body: Buffer): boolean {
  return body[body.findIndex((byte) => byte > 0x20)] === OPEN_BRACE
}

/** A stream is over when it has told the last piece of everything that was asked for. */
function createWatch(): StreamWatch {
  let finishedChoices = 0
  let usage: Usage | undefined
  return toWatch({
    look(data) {
      if (data === '[DONE]') return DONE
      const event = parseObject(data)
      if (event === undefined) return MALFORMED
      const type = typeof event.type === 'string' ? event.type : ''
      const error = errorText(event) ?? (type === 'error' ? String(event.message ?? type) : undefined)
      if (error !== undefined) return { ...NOTHING, error }
      usage = readUsage(event.usage) ?? usage
      if (ENDS.test(type)) finishedChoices += 1
      return CONTENT
    },
    finished: () => finishedChoices > 0,
    finishedChoices: () => finishedChoices,
    usage: () => usage,
    countedTokens: () => 0,
  })
}

/** `image_generation.completed`, `image_edit.completed`, `transcript.text.done`. */
const ENDS = /(?:\.completed|\.done)$/

/** Pictures and the newer models of sound count tokens; the older count seconds, which are no tokens. */
function readUsage(usage: unknown): Usage | undefined {
  if (!isObject(usage)) return undefined
  return toUsage({
    input: usage.input_tokens,
    output: usage.output_tokens,
    inputDetails: usage.input_token_details ?? usage.input_tokens_details,
    outputDetails: undefined,
  })
}

const OPEN_BRACE = 0x7b
