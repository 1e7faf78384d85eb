// How a deployment is spoken to for one request: in the caller's own bytes where its provider takes that format, else
// translated by way of the canonical form. Read once for a request, written once for a deployment. Pure.

import { GatewayError } from '../errors.ts'
import type { ChatEvent } from '../formats/canonical.ts'
import { encodingOf, toEncoding } from '../formats/embeddings.ts'
import { jsonTokens, MOST_CALLS } from '../formats/facts.ts'
import type {
  AnswerTo,
  ClientChat,
  Format,
  Mending,
  ProviderChat,
  ProviderEmbeddings,
  ProviderSide,
  ReadRequest,
} from '../formats/format.ts'
import { formatFor, speakerOf } from '../formats/index.ts'
import { hasQuirk } from '../formats/quirks.ts'
import type { Deployment, Frame, ModelRequest } from '../types.ts'

export interface Wire {
  /** Reads what is answered, and knows the path and the edits. */
  readonly side: ProviderSide
  /** That of the provider's first format, whose credential is sent. */
  readonly own: ProviderSide
  /** What is sent; undefined for the caller's own bytes. */
  readonly body: Buffer | undefined
  /** Headers for this format, by rising precedence; each a flat list. */
  readonly headers: readonly (readonly string[])[]
  /** Mends a whole reply of a server that needs it. */
  readonly mend?: ((body: Buffer) => Buffer) | undefined
  /** Undefined while bytes pass. */
  readonly translation: Translation | undefined
  /** Not the first format of the provider, which may have no such endpoint. */
  readonly isSecond: boolean
}

/** The way back of a translated request. */
export interface Translation {
  /** Members of the request that were left out and do no harm. */
  readonly dropped: readonly string[]
  /** A reader and a writer of their own for each attempt. */
  begin(): Translator
}

export interface Translator {
  /** Something of the answer was said, beside who gives it: until then another may give it. */
  hasSpoken(): boolean
  /** The frames of the caller's format that this one comes to; undefined for none. @throws Untranslatable */
  change(frame: Frame): Buffer | undefined
  /** What ends a whole answer; undefined for nothing. To be called once, and only for such. */
  end(): Buffer | undefined
  /** A whole reply. @throws Untranslatable */
  whole(body: Buffer): Buffer
}

/** What a provider said has no meaning in its own format. */
export class Untranslatable extends Error {
  override readonly name = 'Untranslatable'
}

export interface Wires {
  /** That a provider does not take the caller's format after all; false where it can be asked in no other. */
  translate(deployment: Deployment): boolean
  /** @throws GatewayError invalid_request, where the request cannot be put into the provider's format */
  of(deployment: Deployment, maxOutputTokens: number | undefined): Wire
}

interface WiresDeps {
  readonly formats: ReadonlyMap<string, Format>
  readonly request: ModelRequest
  /** Unix seconds. */
  readonly nowSeconds: () => number
  readonly nextId: (prefix: string) => string
}

/** A side whose bytes pass. */
export function nativeWire(side: ProviderSide, own: ProviderSide, forwarded: readonly string[] = []): Wire {
  const known = forwarded.length === 0 && side === own ? NATIVE.get(side) : undefined
  if (known !== undefined) return known
  const headers = headersOf(side, forwarded)
  const wire = { side, own, body: undefined, headers, translation: undefined, isSecond: false }
  if (forwarded.length === 0 && side === own) NATIVE.set(side, wire)
  return wire
}

/** One for each format that passes without a header of the caller's: the same for every request. */
const NATIVE = new WeakMap<ProviderSide, Wire>()

/** Those of a format and, over them, others; lists with nothing in them are left out. */
function headersOf({ headers = [] }: ProviderSide, over: readonly string[]): Wire['headers'] {
  return [headers, over].filter((list) => list.length > 0)
}

/** What in-process deployments speak. */
const OWN_FORMAT = 'openai'

export function createWires(deps: WiresDeps): Wires {
  return new RequestWires(deps)
}

/** A few places at most: a list is looked through sooner than a table is made. */
interface Known {
  readonly deployment: Deployment
  readonly wire: Wire | GatewayError
}

/** A request as its caller's format says it. */
type Reading = ReadRequest & { readonly sent: AnswerTo['sent'] }

class RequestWires implements Wires {
  readonly #deps: WiresDeps
  #known: Known[] | undefined = undefined
  #translated: Deployment[] | undefined = undefined
  /** The same for every deployment that it is translated for. */
  #reading: Reading | undefined = undefined

  constructor(deps: WiresDeps) {
    this.#deps = deps
  }

  translate(deployment: Deployment): boolean {
    const { endpoint } = this.#deps.request
    const first = this.#formatOf(deployment)
    if (first?.provider?.chat === undefined || endpoint.operation !== 'chat' || endpoint.countsOnly)
      return false
    this.#translated ??= []
    this.#translated.push(deployment)
    this.#known = this.#known?.filter((one) => one.deployment !== deployment)
    return true
  }

  of(deployment: Deployment, maxOutputTokens: number | undefined): Wire {
    const wire = this.#known?.find((one) => one.deployment === deployment)?.wire
    if (wire instanceof GatewayError) throw wire
    return wire ?? this.#make(deployment, maxOutputTokens)
  }

  #make(deployment: Deployment, maxOutputTokens: number | undefined): Wire {
    try {
      const wire = this.#find(deployment, maxOutputTokens)
      // What passes as it came is found as soon as remembered.
      if (wire.body !== undefined) this.#keep(deployment, wire)
      return wire
    } catch (error) {
      const { formats, request } = this.#deps
      const refusal = toRefusal(error, formats.get(request.endpoint.format)?.client?.fields.conversation)
      this.#keep(deployment, refusal)
      throw refusal
    }
  }

  #keep(deployment: Deployment, wire: Known['wire']): void {
    this.#known ??= []
    this.#known.push({ deployment, wire })
  }

  #find(deployment: Deployment, maxOutputTokens: number | undefined): Wire {
    const { formats, request } = this.#deps
    const { endpoint } = request
    const { provider } = deployment
    const first = this.#formatOf(deployment)
    const own = first?.provider
    if (first === undefined || own === undefined) throw new Error(`no format for ${deployment.name}`)
    const client = formats.get(endpoint.format)?.client
    if (client?.estimate !== undefined && deployment.kind === 'reply')
      return this.#toEstimate(client.estimate(request), own)
    const native = speakerOf(first, endpoint.format)?.provider
    if (native !== undefined && native !== own)
      return { ...nativeWire(native, own, request.forwarded), isSecond: true }
    if (native !== undefined) {
      const wire = nativeWire(own, own, request.forwarded)
      const mend = this.#toMend(deployment, client?.mending)
      return mend === undefined ? wire : { ...wire, mend }
    }
    if (provider?.alsoSpeaks.has(endpoint.format) && this.#translated?.includes(deployment) !== true) {
      const side = formats.get(endpoint.format)?.provider
      if (side !== undefined) return { ...nativeWire(side, own, request.forwarded), isSecond: true }
    }
    if (endpoint.operation === 'embeddings' && own.embeddings !== undefined)
      return this.#toVectors({ deployment, own, embeddings: own.embeddings, maxOutputTokens })
    const chat = client?.chat
    if (chat === undefined || own.chat === undefined || endpoint.operation !== 'chat')
      throw this.#cannotSpeak()
    return this.#toTranslated({ deployment, own, chat: own.chat, client: chat, maxOutputTokens })
  }

  #formatOf({ provider, model }: Deployment): Format | undefined {
    const { formats, request } = this.#deps
    return formatFor(formats, provider?.format ?? OWN_FORMAT, model ?? request.model)
  }

  #toMend({ provider }: Deployment, mending: Mending | undefined): Wire['mend'] {
    const { request } = this.#deps
    if (!request.stream && mending?.concerns(request) === true) return mending.whole
    if (request.endpoint.operation !== 'embeddings' || provider === undefined) return undefined
    if (!hasQuirk(provider.options, 'float-embeddings')) return undefined
    const wanted = encodingOf(request)
    return (body) => toEncoding(body, wanted)
  }

  #toEstimate(answer: unknown, own: ProviderSide): Wire {
    const { formats, request } = this.#deps
    const side = formats.get(request.endpoint.format)?.provider ?? own
    return { ...nativeWire(side, own), body: toBytes(answer) }
  }

  #cannotSpeak(): GatewayError {
    const { endpoint, model } = this.#deps.request
    return new GatewayError(
      'invalid_request',
      `The model "${model}" cannot be asked at ${endpoint.path}: no provider of it has that.`,
      { param: 'model' },
    )
  }

  #read(client: ClientChat): Reading {
    if (this.#reading !== undefined) return this.#reading
    const { body } = this.#deps.request
    if (body === undefined) throw new Error('the request body is gone')
    const sent: AnswerTo['sent'] = JSON.parse(body.toString('utf8'))
    this.#reading = { ...client.read(sent, body), sent }
    return this.#reading
  }

  #toVectors({ deployment, own, embeddings, maxOutputTokens }: VectorSpeakers): Wire {
    const { request } = this.#deps
    if (request.body === undefined) throw new Error('the request body is gone')
    const encoding = encodingOf(request)
    const options = deployment.provider?.options ?? {}
    const asked = { model: deployment.model ?? request.model, maxOutputTokens, options }
    const written = embeddings.write(JSON.parse(request.body.toString('utf8')), asked)
    return {
      side: own,
      own,
      body: toBytes(written.body),
      headers: headersOf(own, written.headers),
      translation: {
        dropped: written.dropped,
        begin: () => ({
          hasSpoken: () => false,
          change: () => undefined,
          end: () => undefined,
          whole: (body) =>
            guarded(() => toEncoding(toBytes(embeddings.read(body, asked, written)), encoding)),
        }),
      },
      isSecond: false,
    }
  }

  #toTranslated({ deployment, own, chat, client, maxOutputTokens }: Speakers): Wire {
    const { request, nowSeconds, nextId } = this.#deps
    const { request: canonical, dropped, sent } = this.#read(client)
    const model = deployment.model ?? request.model
    const nameOf = (name: string): string | undefined =>
      client.memberOf === undefined ? name : client.memberOf(name, sent)
    const written = inNamesOf(nameOf, () =>
      chat.write(canonical, { model, maxOutputTokens, options: deployment.provider?.options ?? {} }),
    )
    /**
     * Some do not say who they are: a caller sees who was asked, not what it called the route. Both stand in every event
     * of some formats, so that neither may be longer than a name is.
     */
    const named = <T extends { readonly id: string; readonly model: string }>(told: T): T => ({
      ...told,
      id: told.id.length > LONGEST_NAME ? '' : told.id,
      model: told.model === '' || told.model.length > LONGEST_NAME ? model : told.model,
    })
    return {
      side: own,
      own,
      body: toBytes(written.body),
      headers: headersOf(own, written.headers),
      translation: {
        dropped: [...new Set([...dropped, ...written.dropped.flatMap((name) => nameOf(name) ?? [])])],
        begin() {
          const to: AnswerTo = { request: canonical, sent, nowSeconds: nowSeconds(), nextId }
          const reader = chat.events(written)
          const writer = client.events(to)
          const bound = createBound()
          let hasSpoken = false
          return {
            hasSpoken: () => hasSpoken,
            change: (frame) =>
              guarded(() => {
                let text = ''
                for (const event of reader.read(frame)) {
                  bound(event)
                  hasSpoken ||= event.type !== 'start' && event.type !== 'usage'
                  text += writer.write(event.type === 'start' ? named(event) : event)
                }
                return text === '' ? undefined : Buffer.from(text)
              }),
            end() {
              const text = writer.end()
              return text === '' ? undefined : Buffer.from(text)
            },
            whole: (body) => guarded(() => toBytes(client.write(named(chat.read(body, written)), to))),
          }
        },
      },
      isSecond: false,
    }
  }
}

/** Longest id, or name of a model, that a provider is believed, in characters. */
const LONGEST_NAME = 256

/** Most that a streamed answer may say, in characters: four million tokens. */
const MOST_CHARS = 16 * 1024 * 1024
/** What a thing that is kept takes beside its text. */
const KEPT_CHARS = 128

/**
 * Writers keep of an answer what its end repeats, and look through its calls: this bounds all of that, whatever the
 * format. @returns what throws on the event that is too much
 */
function createBound(): (event: ChatEvent) => void {
  let chars = 0
  let calls = 0
  return (event) => {
    chars += charsOf(event)
    if (event.type === 'call') calls += 1
    if (chars > MOST_CHARS || calls > MOST_CALLS) throw new Error('an answer without an end')
  }
}

function charsOf(event: ChatEvent): number {
  switch (event.type) {
    case 'text':
    case 'refusal':
    case 'thinking':
    case 'arguments':
      return event.text.length
    case 'image':
      return KEPT_CHARS + (event.source.kind === 'base64' ? event.source.base64.length : 0)
    case 'seal':
      return KEPT_CHARS + event.sealed.value.length
    case 'call':
      return KEPT_CHARS + event.id.length + event.name.length + (event.sealed?.value.length ?? 0)
    case 'logprobs':
      return KEPT_CHARS * jsonTokens(event.logprobs)
    default:
      return 0
  }
}

interface Speakers {
  readonly deployment: Deployment
  readonly own: ProviderSide
  readonly chat: ProviderChat
  readonly client: ClientChat
  readonly maxOutputTokens: number | undefined
}

interface VectorSpeakers extends Pick<Speakers, 'deployment' | 'own' | 'maxOutputTokens'> {
  readonly embeddings: ProviderEmbeddings
}

/** What a writer refuses, by the name that its caller has for it. */
function inNamesOf<T>(nameOf: (name: string) => string | undefined, write: () => T): T {
  try {
    return write()
  } catch (error) {
    if (!(error instanceof GatewayError) || error.param === undefined) throw error
    const { code, param, cause } = error
    const own = nameOf(param) ?? param
    const message = error.message.replaceAll(`"${param}"`, `"${own}"`)
    // Some callers read the message alone.
    const told = message.includes(own) ? message : `${own}: ${message}`
    throw new GatewayError(code, told, { param: own, cause })
  }
}

/** Why there is no wire. Anything else than a refusal is a defect, but for what no stack can hold. */
function toRefusal(error: unknown, conversation: string | undefined): GatewayError {
  if (error instanceof GatewayError) return error
  // The arguments of a call are JSON inside a string: how deep they are nobody has looked.
  if (!(error instanceof RangeError)) throw error
  return new GatewayError('invalid_request', 'The arguments of a tool call nest too deep to be translated.', {
    cause: error,
    ...(conversation !== undefined && { param: conversation }),
  })
}

/** A stranger's answer must not become a defect of ours: whatever it trips up is an answer that cannot be read. */
function guarded<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw new Untranslatable('an answer that could not be translated', { cause: error })
  }
}

function toBytes(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
