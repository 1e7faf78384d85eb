// What a wire format is: one record of pure functions (style: a format is one file). Bytes pass untouched when
// client and provider speak the same format; then only `edits`, `watch`, `whole` and `fault` are called, which look and
// change no more than the few members that may change. Else what one side wrote is read into canonical.ts and written
// for the other.

import type { ImageForm } from '../bytes/image-parts.ts'
import type { Edit } from '../bytes/splice.ts'
import type { Deployment, EventFacts, Frame, ModelRequest, Operation, Reason, Usage } from '../types.ts'
import type { ChatEvent, ChatReply, ChatRequest } from './canonical.ts'

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

// --- translation -----------------------------------------------------------------------------------------------

/** What is said of a request that was read into canonical form. */
export interface ReadRequest {
  readonly request: ChatRequest
  /** Members left out because they have no meaning elsewhere and no harm is done: told in a header. */
  readonly dropped: readonly string[]
}

/** A call as a writer gives it on. */
export interface WrittenRequest {
  /** To be written as JSON. */
  readonly body: Readonly<Record<string, unknown>>
  /** Flat list of headers that this body needs: name, value, name, value; lower case. */
  readonly headers: readonly string[]
  /** Members of the canonical request that this format has no place for and that do no harm: told in a header. */
  readonly dropped: readonly string[]
  /** What the reader of the answer must know: names that were too long here, by the ones they were given. */
  readonly names: ReadonlyMap<string, ToolName>
  /** Only the first call of an answer is read: that was asked for, and the wire cannot say so. */
  readonly oneCall?: boolean | undefined
}

/** A tool as its caller calls it. */
export interface ToolName {
  readonly name: string
  readonly namespace: string | undefined
  readonly kind: 'function' | 'custom'
}

/** Who is asked, as far as a writer must know. */
export interface Asked {
  /** Model name that is sent. */
  readonly model: string
  /** Output cap that the policy sets; undefined leaves the caller's. */
  readonly maxOutputTokens: number | undefined
  /** What the provider's configuration says that its format reads (`apiVersion`, `region`, …). */
  readonly options: Readonly<Record<string, string>>
}

/** What the writer of an answer must know of the request. */
export interface AnswerTo {
  readonly request: ChatRequest
  /** The body as it was sent, parsed: some formats repeat parts of it in the answer. */
  readonly sent: Readonly<Record<string, unknown>>
  /** Unix seconds at which the answer began. */
  readonly nowSeconds: number
  /** A new id with this prefix, for example `msg_`. */
  nextId(prefix: string): string
}

/** Writes a stream: every call gives whole frames, '' for none. */
export interface EventWriter {
  write(event: ChatEvent): string
  /** The end of a whole answer. Never called for one that broke. */
  end(): string
}

/** Reads a stream, frame by frame. What cannot be read gives none: `watch` has judged it. */
export interface EventReader {
  read(frame: Frame): readonly ChatEvent[]
}

/** Finds frames in the bytes of a stream, cut anywhere. */
export interface Splitter {
  /** @throws FrameTooLarge */
  push(chunk: Buffer): Frame[]
  /** What came behind the last whole frame; undefined for nothing. */
  rest(): Frame | undefined
}

/** An error of ours, before it has a shape. */
export interface ToldError {
  readonly status: number
  /** Wire code of ours, or the provider's where its refusal is passed on; null where it gave none. */
  readonly code: string | null
  /** OpenAI's type. */
  readonly type: string
  readonly message: string
  readonly param: string | null
  readonly requestId: string
}

/** Names of the members of a body that the gateway must find without parsing it. */
export interface Fields {
  /** Output caps, all of which hold where several stand; the first is added where one is needed. */
  readonly outputCaps: readonly string[]
  /** The list that the conversation stands in; absent where there is none. */
  readonly conversation?: string | undefined
  /** The body is a form (`multipart/form-data`) and no JSON. */
  readonly isForm?: boolean | undefined
  /** The model that is meant where none is named; absent where one must be. */
  readonly defaultModel?: string | undefined
  /** How its images stand in it, where that is not `image_url`. */
  readonly images?: ImageForm | undefined
  /** An object that is the same in every request of a session, where there is no `prompt_cache_key`. */
  readonly session?: string | undefined
  /** How many answers; absent where there is one. */
  readonly choices?: string | undefined
  /** Members whose presence says that the answer is more than text, with the values that do not. */
  readonly beyondText: readonly (readonly [name: string, nothing: RegExp])[]
  /** Members that name state in the provider's account, besides those that no format may have. */
  readonly stateful?: readonly string[] | undefined
  /** Members whose answer could not be given here, unless the value is one of these, and why. */
  readonly refused?: readonly (readonly [name: string, harmless: RegExp, why: string])[] | undefined
}

// --- the format ------------------------------------------------------------------------------------------------

export interface Format {
  readonly name: string
  /** Format whose bytes a provider of this one speaks, under another address or with another credential. */
  readonly bytesOf?: string | undefined
  /** Absent where no caller speaks it. */
  readonly client?: ClientSide | undefined
  /** Absent where no provider does. */
  readonly provider?: ProviderSide | undefined
}

export interface ClientSide {
  readonly fields: Fields
  /** Absent where only providers that have the very endpoint can answer. */
  readonly chat?: ClientChat | undefined
  /** Request headers that go on to a provider of the same format, lower case; no other ever does (wire §8). */
  readonly forwards?: readonly string[] | undefined
  /** Header that its callers read the id of a request from, beside `x-request-id`. */
  readonly requestIdHeader?: string | undefined
  /**
   * The answer where no provider speaks this format, from what is known of the request: for what no answer of another
   * format could be made into.
   */
  estimate?(request: ModelRequest): unknown
  /** Status that callers of this format expect, where it is another than OpenAI's. */
  status?(error: ToldError): number
  /** The body of an error. */
  error(error: ToldError): unknown
  /** What `errorEvent` must know of the frames sent so far, where there is any: the last that was said of these counts. */
  remember?(frames: Buffer): string | undefined
  /** The frame that ends a stream which broke. `last` is what was remembered of the events before it. */
  errorEvent(error: ToldError, last?: string): string
}

/** One whose requests can be read and answered in another format. */
export interface ChatClientSide extends ClientSide {
  readonly chat: ClientChat
}

export interface ClientChat {
  /** @throws GatewayError `invalid_request` that names the field which cannot be read, or cannot be carried anywhere else. */
  read(sent: Readonly<Record<string, unknown>>): ReadRequest
  write(reply: ChatReply, to: AnswerTo): unknown
  events(to: AnswerTo): EventWriter
}

export interface ProviderSide {
  /** Path below the provider's base URL, query included. */
  path(operation: Operation, asked: Asked & { readonly stream: boolean }): string
  /** What stands in front of the paths of other formats that its server takes (`alsoSpeaks`). */
  readonly prefix?: string | undefined
  /** Header that carries the key, as a flat pair. */
  credential(key: string): readonly [string, string]
  /** Where the credential depends on what is sent: the flat headers of a finished call that stand for `credential`. */
  sign?(call: SignedCall): readonly string[]
  /** Secrets inside of a key that holds more than one, each to be kept out of every text like the key itself. */
  secretParts?(key: string): readonly string[]
  /** Headers that every call has, flat. */
  readonly headers?: readonly string[] | undefined
  /**
   * Where the bytes of a request in this very format change, in any order (design §5: the model, the usage of a stream,
   * the output cap).
   */
  edits(request: ModelRequest, asked: Asked): Edit[]
  /** Absent where only its own bytes are passed. */
  readonly chat?: ProviderChat | undefined
  /** Absent where only its own bytes are passed, or where it makes no vectors. */
  readonly embeddings?: ProviderEmbeddings | undefined
  /** Where a stream is not server-sent events. */
  splitter?(): Splitter
  /** Content type of a stream; undefined is `text/event-stream`. */
  readonly streamType?: string | undefined
  /**
   * What a whole answer is, the provider says: it is passed with its content type, also where a stream was asked for that
   * the model does not have.
   */
  readonly isAsTold?: boolean | undefined
  watch(): StreamWatch
  /** What one event says, for a stream that another deployment may have to go on with; undefined where none may. */
  readonly resume?: Resuming | undefined
  /** Reads a complete reply body. */
  whole(operation: Operation, body: Buffer): WholeFacts
  /** What the headers of any answer say of the quota that is left; undefined where they say nothing. */
  quota(header: HeaderLookup, nowMs: number): QuotaLeft | undefined
  /** Reads a status of 300 and more. `nowMs` is Unix time, for dates in `retry-after`. */
  fault(status: number, header: HeaderLookup, body: string, nowMs: number): Fault
  /** Reads an error that was told inside a 200: the status it stands for, and what that means. */
  inBand(text: string): { readonly status: number; readonly fault: Fault }
}

/** A call as it is about to be sent. */
export interface SignedCall {
  readonly method: string
  /** Origin, path and query, as sent. */
  readonly url: string
  /** Flat list of the headers that are known by then; lower case. */
  readonly headers: readonly string[]
  readonly body: Uint8Array
  readonly key: string
  /** Unix milliseconds. */
  readonly nowMs: number
  /** As in `Asked`. */
  readonly options: Readonly<Record<string, string>>
}

export interface ProviderChat {
  /** @throws GatewayError `invalid_request` that names the field which cannot be carried. */
  write(request: ChatRequest, asked: Asked): WrittenRequest
  /** Of a body that `whole` has found good. */
  read(body: Buffer, written: WrittenRequest): ChatReply
  events(written: WrittenRequest): EventReader
}

/** Vectors, which callers ask for in one format alone: OpenAI's. */
export interface ProviderEmbeddings {
  /** `sent` is the caller's body. @throws GatewayError `invalid_request` that names the field which cannot be carried. */
  write(sent: Readonly<Record<string, unknown>>, asked: Asked): WrittenRequest
  /** Of a body that `whole` has found good: a reply as OpenAI gives it, with vectors as lists. */
  read(body: Buffer, asked: Asked, written: WrittenRequest): unknown
}

export interface Resuming {
  speech(data: string): Speech
  /** The event with `text` in the place of its own. */
  resay(data: string, text: string): string
  /**
   * An event of the second stream that cannot stand behind the first, whatever it says: its place is in a part of the
   * answer that the caller has not been told of. Absent where every event stands by itself.
   */
  strays?(data: string): boolean
  /** Where the body changes for a deployment that is to go on behind `said`; undefined where it cannot be told so. */
  prefill(request: ModelRequest, said: string, how: Deployment['prefill']): Edit[] | undefined
}
