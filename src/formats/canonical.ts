// What a chat request, a reply and a stream say, whatever wire they came over: the one thing that every format is
// translated to and from, so that N formats of callers and M of providers are N + M files. It is OpenAI's chat, widened
// where another format says more. Nothing here is made while both sides speak the same format: then bytes pass.

import type { Usage } from '../types.ts'

// --- requests --------------------------------------------------------------------------------------------------

export interface ChatRequest {
  readonly messages: readonly Message[]
  readonly tools: readonly Tool[]
  readonly toolChoice: ToolChoice | undefined
  /** False: at most one call in an answer. */
  readonly parallelToolCalls: boolean | undefined
  /** The caller's own cap, thinking included. */
  readonly maxOutputTokens: number | undefined
  readonly temperature: number | undefined
  readonly topP: number | undefined
  readonly topK: number | undefined
  readonly stop: readonly string[]
  /** How many answers. */
  readonly choices: number
  readonly seed: number | undefined
  readonly presencePenalty: number | undefined
  readonly frequencyPenalty: number | undefined
  readonly responseFormat: ResponseFormat
  readonly reasoning: Reasoning | undefined
  readonly verbosity: string | undefined
  /** End user, as the caller names them. */
  readonly user: string | undefined
  /** Sent where the prompt is cached. */
  readonly cacheKey: string | undefined
  readonly serviceTier: string | undefined
  readonly metadata: Readonly<Record<string, string>> | undefined
  readonly stream: boolean
  /** Whether the caller wants usage in a stream; those whose format always has it say true. */
  readonly includeUsage: boolean
  /**
   * Members that only OpenAI's chat has a place for, by the name it has there (`logprobs`, `logit_bias`, `prediction`,
   * `audio`, unknown ones): written by that format alone, dropped with a warning or refused by the others.
   */
  readonly extra: Readonly<Record<string, unknown>>
}

/** Effort as chat names it, or a budget as others do; where both are known the writer takes the one it has. */
export interface Reasoning {
  /** `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`. */
  readonly effort: string | undefined
  readonly budgetTokens: number | undefined
  /** Whether a summary of it shall be shown; `auto`, `concise`, `detailed`. */
  readonly summary: string | undefined
}

export type ResponseFormat =
  | { readonly type: 'text' }
  | { readonly type: 'json_object' }
  | {
      readonly type: 'json_schema'
      readonly name: string
      readonly description: string | undefined
      readonly schema: unknown
      readonly strict: boolean | undefined
    }

export interface Tool {
  /** `custom`: takes free text (`format` may hold its grammar), written as a function of one string where there is none. */
  readonly kind: 'function' | 'custom'
  readonly name: string
  /** Group that the caller keeps it in (Responses `namespace`): the name on other wires is made of both. */
  readonly namespace: string | undefined
  readonly description: string | undefined
  /** JSON Schema; undefined where none was given. */
  readonly parameters: unknown
  readonly strict: boolean | undefined
  /** Of a custom tool. */
  readonly grammar: unknown
  readonly cache: CacheMark | undefined
}

export type ToolChoice =
  | { readonly type: 'auto' | 'none' | 'required' }
  | { readonly type: 'tool'; readonly name: string; readonly namespace?: string | undefined }

export type Message =
  | { readonly role: 'system' | 'developer'; readonly content: readonly Part[] }
  | { readonly role: 'user'; readonly content: readonly Part[]; readonly name: string | undefined }
  /** Text, thinking and calls in the order in which they were said. */
  | { readonly role: 'assistant'; readonly content: readonly Part[] }
  /** The result of one call. */
  | {
      readonly role: 'tool'
      readonly callId: string
      readonly content: readonly Part[]
      readonly isError: boolean
      readonly cache: CacheMark | undefined
    }

/** That a provider shall cache everything up to here (`cache_control`); `ttl` as written, `5m` or `1h`. */
export interface CacheMark {
  readonly ttl: string | undefined
}

/** Where the bytes of an image or a file are. */
export type Source =
  | { readonly kind: 'base64'; readonly mediaType: string; readonly base64: string }
  | { readonly kind: 'url'; readonly url: string; readonly mediaType: string | undefined }
  /** Kept in the provider's account. */
  | { readonly kind: 'file'; readonly id: string }

export type Part =
  | { readonly type: 'text'; readonly text: string; readonly cache?: CacheMark | undefined }
  | {
      readonly type: 'image'
      readonly source: Source
      readonly detail: string | undefined
      readonly cache?: CacheMark | undefined
    }
  | {
      readonly type: 'file'
      readonly source: Source
      readonly name: string | undefined
      readonly cache?: CacheMark | undefined
    }
  /** `format` as in chat: `wav`, `mp3`. */
  | { readonly type: 'audio'; readonly base64: string; readonly format: string }
  | { readonly type: 'refusal'; readonly text: string }
  | ThinkingPart
  | CallPart

/**
 * What a model thought. `sealed` is opaque and means something only to the format `origin`, which must get it back as it
 * was (Anthropic's signature, Gemini's thought signature, OpenAI's encrypted content); `text` is empty where only that
 * is given. A writer of another format leaves the seal out.
 */
export interface ThinkingPart {
  readonly type: 'thinking'
  readonly text: string
  readonly sealed: Seal | undefined
  /** Nothing but the seal may be shown (Anthropic `redacted_thinking`). */
  readonly isRedacted: boolean
}

export interface Seal {
  /** Name of the format that understands it. */
  readonly origin: string
  readonly value: string
}

export interface CallPart {
  readonly type: 'call'
  readonly kind: 'function' | 'custom'
  readonly id: string
  readonly name: string
  readonly namespace: string | undefined
  /** JSON as text, as the model wrote it; '' is `{}`. Of a custom tool its free text. */
  readonly arguments: string
  /** Gemini signs a call instead of the thought before it. */
  readonly sealed: Seal | undefined
  readonly cache?: CacheMark | undefined
}

// --- replies ---------------------------------------------------------------------------------------------------

export interface ChatReply {
  /** As the provider names it; '' where it does not. */
  readonly id: string
  /** Unix seconds; undefined where the provider does not say. */
  readonly createdSeconds: number | undefined
  /** What the deployment that answered calls itself; '' where it does not say. */
  readonly model: string
  readonly choices: readonly Choice[]
  readonly usage: Usage | undefined
  readonly serviceTier: string | undefined
}

export interface Choice {
  /** Text, refusal, thinking, calls and pictures in the order in which they were said. */
  readonly content: readonly Part[]
  readonly finish: Finish
  /** Which of the stop sequences ended it, where that is told. */
  readonly stopSequence: string | undefined
  /** As chat writes them; only that format tells them. */
  readonly logprobs: unknown
}

/** Why an answer ended, in chat's words. */
export type Finish = 'stop' | 'length' | 'tool_calls' | 'content_filter'

// --- streams ---------------------------------------------------------------------------------------------------

/**
 * What one event of a stream says. `choice` counts answers from 0, `call` the calls of one choice from 0 in the order in
 * which they began: a reader never uses a number twice and never leaves one out, whatever its wire does.
 */
export type ChatEvent =
  /** Before everything else, once. `usage` where the provider counts the prompt first. */
  | {
      readonly type: 'start'
      readonly id: string
      readonly model: string
      readonly createdSeconds: number | undefined
      readonly usage: Usage | undefined
    }
  | { readonly type: 'text'; readonly choice: number; readonly text: string }
  | { readonly type: 'refusal'; readonly choice: number; readonly text: string }
  | { readonly type: 'thinking'; readonly choice: number; readonly text: string }
  /** A picture of the answer, whole. */
  | { readonly type: 'image'; readonly choice: number; readonly source: Source }
  /** Ends the thought before it, or stands alone (redacted). */
  | {
      readonly type: 'seal'
      readonly choice: number
      readonly sealed: Seal
      readonly isRedacted: boolean
    }
  /** `arguments` follow. A call without any is `{}`. */
  | {
      readonly type: 'call'
      readonly choice: number
      readonly call: number
      readonly kind: 'function' | 'custom'
      readonly id: string
      readonly name: string
      readonly namespace: string | undefined
      readonly sealed: Seal | undefined
    }
  | { readonly type: 'arguments'; readonly choice: number; readonly call: number; readonly text: string }
  | {
      readonly type: 'finish'
      readonly choice: number
      readonly finish: Finish
      readonly stopSequence: string | undefined
    }
  /** Totals; the last one counts. May come before or behind the finish. */
  | { readonly type: 'usage'; readonly usage: Usage }
  /** As chat writes them, beside the text they belong to. */
  | { readonly type: 'logprobs'; readonly choice: number; readonly logprobs: unknown }
