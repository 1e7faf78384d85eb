// The simulated model: a request body in, an answer out, the same one every time. Pure: no time, no chance, no I/O.
// It reads what clients send (wire §1.1) as leniently as providers do and says what is wrong as they do.

import { createHash } from 'node:crypto'
import { isObject } from '../../bytes/json-value.ts'
import type { Choice, Completion, Vectors } from './completion-wire.ts'
import { sampleSchema } from './sample-schema.ts'

export interface ChatAnswer {
  readonly kind: 'chat'
  readonly stream: boolean
  readonly includeUsage: boolean
  readonly completion: Completion
}

export interface EmbeddingsAnswer extends Vectors {
  readonly kind: 'embeddings'
}

/** The caller's own mistake: a 400. */
export interface Mistake {
  readonly kind: 'mistake'
  readonly message: string
  readonly param: string | null
  readonly code: string | null
}

interface Asked {
  readonly model: string
  /** Hex SHA-256 of the body: what the ids are made of. */
  readonly digest: string
}

type Fields = Readonly<Record<string, unknown>>

/** Longest text the model writes by itself, in UTF-16 units. */
const MAX_TEXT = 2000
const MAX_CHOICES = 8
const TOKEN_BYTES = 4
/** What a picture, a sound or a file in a message counts, whatever its size. */
const MEDIA_TOKENS = 765
const MAX_DIMENSIONS = 4096
const DEFAULT_DIMENSIONS = 64
const MAX_INPUTS = 2048
/** Numbers in one answer of embeddings, at most. */
const MAX_FLOATS = 1_048_576

/** Answers the body of a chat completion. */
export function answerChat(body: unknown, asked: Asked): ChatAnswer | Mistake {
  if (!isObject(body)) return mistake('The request body must be a JSON object.', null)
  const messages = readMessages(body.messages)
  if ('kind' in messages) return messages
  const limits = readLimits(body)
  if ('kind' in limits) return limits
  const speech = compose(body, messages, asked.model)
  if (speech.kind === 'mistake') return speech

  const choices = Array.from({ length: limits.choices }, (_, index) =>
    toChoice(speech, limits, asked.digest, index),
  )
  const options = body.stream_options
  return {
    kind: 'chat',
    stream: body.stream === true,
    includeUsage: isObject(options) && options.include_usage === true,
    completion: {
      id: `chatcmpl-${asked.digest.slice(0, 29)}`,
      choices,
      inputTokens: countTokens(messages) + countTokens(body.tools) + 3,
      outputTokens: choices.reduce((sum, choice) => sum + choice.pieces.length, 0),
    },
  }
}

/** Answers the body of an embeddings request: unit vectors that depend on the model and the input alone. */
export function answerEmbeddings(body: unknown, asked: Asked): EmbeddingsAnswer | Mistake {
  if (!isObject(body)) return mistake('The request body must be a JSON object.', null)
  const inputs = readInputs(body.input)
  if (inputs === undefined || inputs.length === 0) return mistake("'$.input' is invalid.", 'input')
  const format = body.encoding_format ?? 'float'
  if (format !== 'float' && format !== 'base64') {
    return mistake("'encoding_format' must be 'float' or 'base64'.", 'encoding_format')
  }
  const dimensions = readWhole(body.dimensions, MAX_DIMENSIONS) ?? DEFAULT_DIMENSIONS
  if (Number.isNaN(dimensions)) return mistake(`'dimensions' must be 1 to ${MAX_DIMENSIONS}.`, 'dimensions')
  if (inputs.length > MAX_INPUTS || inputs.length * dimensions > MAX_FLOATS) {
    return mistake('Too many inputs for one request.', 'input')
  }
  return {
    kind: 'embeddings',
    vectors: inputs.map((input) => toVector(`${asked.model}\n${input.seed}`, dimensions)),
    base64: format === 'base64',
    inputTokens: inputs.reduce((sum, input) => sum + input.tokens, 0),
  }
}

/** Cuts a text into tokens of about four bytes, never inside a character; they join to the text. */
export function toPieces(text: string): string[] {
  const pieces: string[] = []
  let piece = ''
  let bytes = 0
  for (const character of text) {
    piece += character
    bytes += utf8Bytes(character)
    if (bytes < TOKEN_BYTES) continue
    pieces.push(piece)
    piece = ''
    bytes = 0
  }
  if (piece !== '') pieces.push(piece)
  return pieces
}

// --- what is said ----------------------------------------------------------------------------------------

interface Tool {
  readonly name: string
  readonly parameters: unknown
}

type Speech =
  | { readonly kind: 'call'; readonly tool: Tool }
  | { readonly kind: 'json'; readonly text: string }
  | { readonly kind: 'prose'; readonly text: string }

/** Decides between a tool call, JSON and prose. */
function compose(body: Fields, messages: readonly Fields[], model: string): Speech | Mistake {
  const results = trailingResults(messages)
  const tool = chooseTool(body)
  if (tool !== undefined && 'kind' in tool) return tool
  if (tool !== undefined && results.length === 0) return { kind: 'call', tool }

  const intro = `This is the simulated model "${cut(model, 100)}", no real one was asked.`
  const prose = cut(`${intro} ${results.length > 0 ? quote(results, messages) : echo(messages)}`, MAX_TEXT)
  const format = body.response_format
  if (!isObject(format)) return { kind: 'prose', text: prose }
  if (format.type === 'json_object') {
    return { kind: 'json', text: JSON.stringify({ simulated: true, message: prose }) }
  }
  if (format.type !== 'json_schema') return { kind: 'prose', text: prose }
  if (!isObject(format.json_schema)) {
    return mistake(
      "Missing required parameter: 'response_format.json_schema'.",
      'response_format.json_schema',
      {
        code: 'missing_required_parameter',
      },
    )
  }
  return { kind: 'json', text: JSON.stringify(sampleSchema(format.json_schema.schema)) }
}

/** The tool to call if a call is in place: the one that was named, else the first that may be called. */
function chooseTool(body: Fields): Tool | Mistake | undefined {
  const tools = readTools(body.tools)
  const choice = body.tool_choice
  if (choice === 'none') return undefined
  if (!isObject(choice)) {
    if (choice !== 'required' || (Array.isArray(body.tools) && body.tools.length > 0)) return tools[0]
    return mistake("'tool_choice' is only allowed when 'tools' are specified.", 'tool_choice')
  }
  if (choice.type === 'allowed_tools') {
    const allowed = new Set(
      readTools(isObject(choice.allowed_tools) ? choice.allowed_tools.tools : []).map(({ name }) => name),
    )
    return tools.find(({ name }) => allowed.has(name))
  }
  // Custom tools take free text, which prose stands for well enough.
  if (choice.type === 'custom') return undefined
  const wanted = isObject(choice.function) ? choice.function.name : undefined
  const named = tools.find(({ name }) => name === wanted)
  return named ?? mistake("The function named in 'tool_choice' is not among the 'tools'.", 'tool_choice')
}

function readTools(tools: unknown): Tool[] {
  if (!Array.isArray(tools)) return []
  return tools.flatMap((tool: unknown) => {
    if (!isObject(tool) || tool.type !== 'function' || !isObject(tool.function)) return []
    const { name, parameters } = tool.function
    return typeof name === 'string' && name !== '' ? [{ name, parameters }] : []
  })
}

/** The tool results at the end of the conversation: those nobody has answered yet. */
function trailingResults(messages: readonly Fields[]): readonly Fields[] {
  const last = messages.findLastIndex(({ role }) => role !== 'tool' && role !== 'function')
  return messages.slice(last + 1)
}

function quote(results: readonly Fields[], messages: readonly Fields[]): string {
  const share = Math.max(40, Math.floor((MAX_TEXT - 200) / results.length) - 40)
  const names = callNames(messages)
  const sentences = results.slice(0, 40).map(({ name, tool_call_id: id, content }) => {
    const called = typeof name === 'string' ? name : names.get(id)
    return `The tool ${called === undefined ? '' : `${cut(called, 64)} `}answered: ${cut(toText(content), share)}`
  })
  return sentences.join('\n')
}

/** Names of the tools that were called in the conversation, by call id. */
function callNames(messages: readonly Fields[]): ReadonlyMap<unknown, string> {
  const names = new Map<unknown, string>()
  for (const { tool_calls: calls } of messages) {
    if (!Array.isArray(calls)) continue
    for (const call of calls) {
      if (isObject(call) && isObject(call.function) && typeof call.function.name === 'string') {
        names.set(call.id, call.function.name)
      }
    }
  }
  return names
}

function echo(messages: readonly Fields[]): string {
  const asked = messages.findLast(({ role }) => role === 'user')
  const text = asked === undefined ? '' : toText(asked.content)
  return text === '' ? 'You said nothing in words.' : `You said: ${text}`
}

/** The words of a message's content: a string or a list of parts. Bounded, as nobody needs more of it. */
function toText(content: unknown): string {
  if (typeof content === 'string') return cut(content, MAX_TEXT)
  if (!Array.isArray(content)) return ''
  let text = ''
  for (const part of content) {
    if (isObject(part) && typeof part.text === 'string') text += cut(part.text, MAX_TEXT)
    if (text.length >= MAX_TEXT) break
  }
  return cut(text, MAX_TEXT)
}

// --- how much is said ------------------------------------------------------------------------------------

interface OutputLimits {
  readonly choices: number
  readonly outputTokens: number | undefined
  readonly stops: readonly string[]
}

function readLimits(body: Fields): OutputLimits | Mistake {
  const choices = readWhole(body.n, MAX_CHOICES) ?? 1
  if (Number.isNaN(choices)) return mistake(`'n' must be a whole number from 1 to ${MAX_CHOICES}.`, 'n')
  const param = body.max_completion_tokens == null ? 'max_tokens' : 'max_completion_tokens'
  const outputTokens = readWhole(body[param], Number.MAX_SAFE_INTEGER)
  if (Number.isNaN(outputTokens)) return mistake(`'${param}' must be a whole number of at least 1.`, param)
  const stops = (Array.isArray(body.stop) ? body.stop : [body.stop]).filter(
    (stop: unknown): stop is string => typeof stop === 'string' && stop !== '',
  )
  return { choices, outputTokens, stops: stops.slice(0, 4) }
}

function toChoice(
  speech: Speech,
  { outputTokens, stops }: OutputLimits,
  digest: string,
  index: number,
): Choice {
  const isCall = speech.kind === 'call'
  const pieces = toPieces(isCall ? toArguments(speech.tool) : stopAt(withNumber(speech, index), stops))
  const kept = outputTokens === undefined ? pieces : pieces.slice(0, outputTokens)
  const complete = isCall ? 'tool_calls' : 'stop'
  return {
    pieces: kept,
    call: isCall
      ? { id: `call_${hash(`${digest} ${index}`).slice(0, 24)}`, name: speech.tool.name }
      : undefined,
    finish: kept.length < pieces.length ? 'length' : complete,
  }
}

/** Choices of one answer differ, so that a reader who mixes them up is found out. */
function withNumber({ kind, text }: Exclude<Speech, { kind: 'call' }>, index: number): string {
  return kind === 'prose' && index > 0 ? `(Choice ${index + 1}.) ${text}` : text
}

/** Arguments are an object for every client, even where the schema would permit something else. */
function toArguments({ parameters }: Tool): string {
  const sample = sampleSchema(parameters)
  return JSON.stringify(isObject(sample) ? sample : {})
}

function stopAt(text: string, stops: readonly string[]): string {
  const ends = stops.map((stop) => text.indexOf(stop)).filter((end) => end >= 0)
  return text.slice(0, Math.min(text.length, ...ends))
}

// --- reading and counting --------------------------------------------------------------------------------

function readMessages(messages: unknown): readonly Fields[] | Mistake {
  if (messages == null) {
    return mistake("Missing required parameter: 'messages'.", 'messages', {
      code: 'missing_required_parameter',
    })
  }
  if (!Array.isArray(messages)) return mistake("Invalid type for 'messages': expected an array.", 'messages')
  if (messages.length === 0) {
    return mistake("Invalid 'messages': empty array. Expected at least one message.", 'messages', {
      code: 'empty_array',
    })
  }
  const bad = messages.findIndex((message: unknown) => !isObject(message) || typeof message.role !== 'string')
  if (bad < 0) return messages.filter(isObject)
  return mistake(`Invalid 'messages[${bad}]': expected an object with a role.`, `messages[${bad}]`)
}

interface EmbeddingInput {
  readonly seed: string
  readonly tokens: number
}

/** `input` is a string, a list of them, token ids, or a list of lists of token ids. Undefined: none of these. */
function readInputs(input: unknown): EmbeddingInput[] | undefined {
  const isIds = Array.isArray(input) && typeof input[0] === 'number'
  const list: readonly unknown[] = Array.isArray(input) && !isIds ? input : [input]
  const inputs: EmbeddingInput[] = []
  for (const item of list) {
    if (typeof item === 'string' && item !== '') {
      inputs.push({ seed: item, tokens: Math.ceil(Buffer.byteLength(item) / TOKEN_BYTES) })
    } else if (Array.isArray(item) && item.length > 0 && item.every(Number.isSafeInteger)) {
      inputs.push({ seed: `ids ${item.join(' ')}`, tokens: item.length })
    } else {
      return undefined
    }
  }
  return inputs
}

/** A whole number from 1 to `most`; undefined when absent, NaN when it is something else. */
function readWhole(value: unknown, most: number): number | undefined {
  if (value == null) return undefined
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1 && value <= most
    ? value
    : Number.NaN
}

/** Counts what a value would cost as a prompt. Walks with a list, not with the stack: clients nest as they like. */
function countTokens(value: unknown): number {
  const open: unknown[] = [value]
  let bytes = 0
  let media = 0
  while (open.length > 0) {
    const item = open.pop()
    if (typeof item === 'string') bytes += Buffer.byteLength(item) + 2
    else if (typeof item === 'number' || typeof item === 'boolean') bytes += 4
    else if (Array.isArray(item)) for (const inner of item) open.push(inner)
    else if (isObject(item)) {
      if (item.type === 'image_url' || item.type === 'input_audio' || item.type === 'file') {
        media += 1
        continue
      }
      for (const [name, inner] of Object.entries(item)) {
        bytes += name.length + 2
        open.push(inner)
      }
    }
  }
  return Math.ceil(bytes / TOKEN_BYTES) + media * MEDIA_TOKENS
}

function toVector(seed: string, dimensions: number): Float32Array {
  const vector = new Float32Array(dimensions)
  const perBlock = 8
  for (let block = 0; block * perBlock < dimensions; block += 1) {
    const digest = createHash('sha256').update(`${block} ${seed}`).digest()
    for (let at = 0; at < perBlock && block * perBlock + at < dimensions; at += 1) {
      vector[block * perBlock + at] = digest.readInt32LE(at * 4) / 2 ** 31
    }
  }
  const length = Math.hypot(...vector)
  return vector.map((value) => value / length)
}

/** The beginning of a text, marked where it was cut, never cut inside a character. */
function cut(text: string, units: number): string {
  if (text.length <= units) return text
  const head = text.slice(0, units - 1)
  return `${head.isWellFormed() ? head : head.slice(0, -1)}…`
}

function utf8Bytes(character: string): number {
  const point = character.codePointAt(0) ?? 0
  if (point < 0x80) return 1
  if (point < 0x800) return 2
  return point < 0x10000 ? 3 : 4
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function mistake(
  message: string,
  param: string | null,
  { code = 'invalid_value' }: { code?: string } = {},
): Mistake {
  return { kind: 'mistake', message, param, code: param === null ? null : code }
}
