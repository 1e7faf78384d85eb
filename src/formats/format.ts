// What a wire format is: one record of pure functions (style: a format is one file). Bytes pass untouched when
// client and provider speak the same format; then only `watch`, `whole` and `fault` are called, which look and
// never change. Translation (canonical request and reply) comes with the second format.

import type { Edit } from '../bytes/splice.ts'
import type { Deployment, EventFacts, ModelRequest, Operation, Reason, Usage } from '../types.ts'

/** Watches one stream; keeps what must be known at its end. */
export interface StreamWatch {
  /** Looks at the data of one event (without the `data:` prefix). */
  look(data: string): EventFacts
  /** True once every choice that began has given its finish reason. */
  readonly finished: boolean
  /** How many choices have given theirs; choices may come one behind the other. */
  readonly finishedChoices: number
  /** The provider's own count, or undefined when none came. */
  readonly usage: Usage | undefined
  /** Output tokens counted from what was seen: a floor to settle on when no usage came. */
  readonly countedTokens: number
}

/** What a whole reply tells. */
export interface WholeFacts {
  readonly usage: Usage | undefined
  /** Output tokens counted from the text: what to settle on when no usage came. */
  readonly countedTokens: number
  /** Undefined when the reply is an answer; else why it is none. */
  readonly failure: Reason | undefined
  readonly error: string | undefined
}

/**
 * What a failed status means. `retry`: the provider's trouble, somebody else may answer; `refuse`: the caller's
 * own fault, passed on; `context`: too long here, a larger window may hold it.
 */
export interface Fault {
  readonly verdict: 'retry' | 'refuse' | 'context'
  /** The key, or the account behind it, is at fault, not the provider. */
  readonly key: boolean
  /** The key will not do for anybody: it is left alone for a while. */
  readonly park: boolean
  /** How long the provider asked to be left alone, in ms. */
  readonly retryAfterMs: number | undefined
  readonly message: string
  readonly type: string | null
  readonly param: string | null
  readonly code: string | null
}

/** What one event of a stream says to its reader. */
export interface Speech {
  /** Text of the answer, without reasoning; '' where it has none. */
  readonly text: string
  /** It says something that nobody else can go on with: a tool call, a refusal, sound. */
  readonly more: boolean
  /** It gives a finish reason. */
  readonly ends: boolean
}

/** The least share of a quota that is left, 0..1, and when it is whole again, in ms. */
export interface QuotaLeft {
  readonly share: number
  readonly resetMs: number
}

/** Response headers by lower-case name; several values are the first one's. */
export type HeaderLookup = (name: string) => string | undefined

export interface Format {
  readonly name: string
  readonly provider: {
    /** Path below the provider's base URL for an operation. */
    path(operation: Operation): string
    /** Header that carries the key, as a flat pair. */
    credential(key: string): readonly [string, string]
    watch(): StreamWatch
    /** What one event says, for a stream that another deployment may have to go on with. */
    speech(data: string): Speech
    /** The event with `text` in the place of its own. */
    resay(data: string, text: string): string
    /** Where the body changes for a deployment that is to go on behind `said`; undefined where it cannot be told so. */
    prefill(request: ModelRequest, said: string, how: Deployment['prefill']): Edit[] | undefined
    /** Reads a complete reply body. */
    whole(operation: Operation, body: Buffer): WholeFacts
    /** What the headers of any answer say of the quota that is left; undefined where they say nothing. */
    quota(header: HeaderLookup, nowMs: number): QuotaLeft | undefined
    /** Reads a status of 300 and more. `nowMs` is Unix time, for dates in `retry-after`. */
    fault(status: number, header: HeaderLookup, body: string, nowMs: number): Fault
    /** Reads an error that was told inside a 200: the status it stands for, and what that means. */
    inBand(text: string): { readonly status: number; readonly fault: Fault }
  }
}
