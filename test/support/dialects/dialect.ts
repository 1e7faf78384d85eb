// What a wire format is to a scripted provider: how it is asked, and what an answer is made of. A dialect is a file beside
// this one and a line in index.ts; the behaviours of provider-script.ts then work in it as they are.

import type { OutgoingHttpHeaders } from 'node:http'
import type { RecordedRequest } from '../scripted-provider.ts'

export interface Dialect {
  readonly name: string
  /** Whether a request for this path (query included) is in it. */
  speaks(path: string): boolean
  /** What is asked for; never throws. */
  read(request: RecordedRequest): ChatBody
  /** A stream from its first frame to its end marker, where it has one; a frame leaves in one write. */
  frames(chat: ChatBody, options: AnswerOptions): Buffer[]
  /** A whole reply, to be written as JSON. */
  reply(chat: ChatBody, options: AnswerOptions): unknown
  /** Content type of a stream. */
  readonly streamType: string
  /** The frame is nothing but the end marker (`[DONE]`, `message_stop`). */
  isEnd(frame: Buffer): boolean
  /** The frame says why the answer ended. */
  isFinish(frame: Buffer): boolean
  /** Ends a stream that says nothing; undefined where there is no end marker. */
  readonly end: Buffer | undefined
  /** The body of an error status. */
  errorBody(status: number): unknown
  /** An error told inside a stream. `error` is an object as OpenAI has it, or whatever a test wants in its place. */
  errorFrame(error: unknown): Buffer
  /** An event that cannot be read. */
  readonly malformed: Buffer
}

export interface ChatBody {
  readonly fields: Readonly<Record<string, unknown>>
  readonly model: string
  readonly stream: boolean
  readonly includeUsage: boolean
  readonly choices: number
  /** In OpenAI's shape as far as scripts look: `role`, and for a tool's result `tool` with its text in `content`. */
  readonly messages: readonly Readonly<Record<string, unknown>>[]
  /** Names of the tools offered. */
  readonly tools: readonly string[]
}

export interface ScriptedToolCall {
  readonly id?: string
  readonly name: string
  readonly args: unknown
}

export interface AnswerOptions {
  /** The reply's text; in a stream one word to a frame. */
  readonly text?: string
  /** The text cut as given, one frame each; stands in for `text`. */
  readonly pieces?: readonly string[]
  /** Reasoning before the text, one frame each. */
  readonly reasoning?: readonly string[]
  readonly refusal?: string
  readonly toolCalls?: readonly ScriptedToolCall[]
  /** PNGs in base64 behind the text, one frame each; of Gemini. */
  readonly pictures?: readonly string[]
  /** The model the reply names; default the one asked for. */
  readonly model?: string
  readonly id?: string
  /** In OpenAI's words, which a dialect says in its own; any other as it stands. */
  readonly finishReason?: string
  /** In the shape of the dialect. Default: 11 in, one out per piece. */
  readonly usage?: Readonly<Record<string, unknown>>
  /**
   * Where a stream tells its usage: `asked` (default) in a chunk of its own if the request has `include_usage`,
   * `separate` in any case, `last` in the chunk of the finish reason, `none` nowhere (nor in a whole reply).
   */
  readonly usageIn?: 'asked' | 'separate' | 'last' | 'none'
  /** Added to every chunk or to the reply. */
  readonly extra?: Readonly<Record<string, unknown>>
  /** Wait before the first byte. */
  readonly firstMs?: number
  /** Wait between two frames. */
  readonly everyMs?: number
  readonly status?: number
  readonly headers?: OutgoingHttpHeaders
  /** Line ends of a stream. */
  readonly newline?: '\n' | '\r\n' | '\r'
}

export const DEFAULT_TEXT = 'Hello from the scripted provider.'
export const CREATED = 1_760_000_000

// --- for the files of dialects ---------------------------------------------------------------------------

export function textPieces(options: AnswerOptions): readonly string[] {
  if (options.pieces) return options.pieces
  if (options.text === undefined && (options.toolCalls || options.refusal !== undefined)) return []
  return (options.text ?? DEFAULT_TEXT).match(/\s*\S+\s*$|\s*\S+\s?/g) ?? []
}

export function toolCalls(options: AnswerOptions): { id: string; name: string; args: string }[] {
  return (options.toolCalls ?? []).map(({ id, name, args }, index) => ({
    id: id ?? `call_scripted_${index}`,
    name,
    args: typeof args === 'string' ? args : JSON.stringify(args),
  }))
}

export function finishReason(options: AnswerOptions): string {
  return options.finishReason ?? (options.toolCalls?.length ? 'tool_calls' : 'stop')
}

/** One SSE frame of a JSON value (or of text as it stands). */
export function toFrame(value: unknown, newline = '\n'): Buffer {
  return Buffer.from(`data: ${typeof value === 'string' ? value : JSON.stringify(value)}${newline}${newline}`)
}

/** A named event, as Anthropic's and the Responses API's streams have them. */
export function toEvent(event: string, value: unknown): Buffer {
  return Buffer.from(`event: ${event}\ndata: ${JSON.stringify(value)}\n\n`)
}

/** What an answer takes where the script does not say: 11 in, one out to a piece. */
export function tokensOf(options: AnswerOptions): { readonly input: number; readonly output: number } {
  return { input: 11, output: Math.max(1, textPieces(options).length) }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The body of a request as an object; empty where it is none. */
export function fieldsOf({ body }: RecordedRequest): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'))
    return isRecord(parsed) ? parsed : {}
  } catch {
    return {}
  }
}
