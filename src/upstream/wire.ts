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
  ProviderChat,
  ProviderEmbeddings,
  ProviderSide,
  ReadRequest,
} from '../formats/format.ts'
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
  /** Mends a whole reply of a server that is known to need it (`quirks`). */
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
  readonly hasSpoken: boolean
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
  const headers = headersOf(side, forwarded)
  return { side, own, body: undefined, headers, translation: undefined, isSecond: false }
}

/** Those of a format and, over them, others; lists with nothing in them are left out. */
function headersOf({ headers = [] }: ProviderSide, over: readonly string[]): Wire['headers'] {
  return [headers, over].filter((list) => list.length > 0)
}

/** What in-process deployments speak. */
const OWN_FORMAT = 'openai'

export function createWires({ formats, request, nowSeconds, nextId }: WiresDeps): Wires {
  const known = new Map<Deployment, Wire | GatewayError>()
  const translated = new Set<Deployment>()
  /** The same for every deployment that it is translated for. */
  let reading: (ReadRequest & { readonly sent: AnswerTo['sent'] }) | undefined
  const { endpoint } = request

  return {
    translate(deployment) {
      const first = formats.get(deployment.provider?.format ?? OWN_FORMAT)
      if (first?.provider?.chat === undefined || endpoint.operation !== 'chat' || endpoint.countsOnly)
        return false
      translated.add(deployment)
      known.delete(deployment)
      return true
    },
    of(deployment, maxOutputTokens) {
      let wire = known.get(deployment)
      if (wire === undefined) {
        try {
          wire = find(deployment, maxOutputTokens)
        } catch (error) {
          wire = toRefusal(error)
        }
        known.set(deployment, wire)
      }
      if (wire instanceof GatewayError) throw wire
      return wire
    },
  }

  function find(deployment: Deployment, maxOutputTokens: number | undefined): Wire {
    const { provider } = deployment
    const first = formats.get(provider?.format ?? OWN_FORMAT)
    const own = first?.provider
    if (first === undefined || own === undefined) throw new Error(`no format for ${deployment.name}`)
    const client = formats.get(endpoint.format)?.client
    if (client?.estimate !== undefined && deployment.kind === 'reply')
      return toEstimate(client.estimate(request), own)
    const isFirst = endpoint.format === first.name || endpoint.format === first.bytesOf
    if (isFirst) return { ...nativeWire(own, own, request.forwarded), mend: toMend(deployment) }
    if (provider?.alsoSpeaks.has(endpoint.format) && !translated.has(deployment)) {
      const side = formats.get(endpoint.format)?.provider
      if (side !== undefined) return { ...nativeWire(side, own, request.forwarded), isSecond: true }
    }
    if (endpoint.operation === 'embeddings' && own.embeddings !== undefined)
      return toVectors({ deployment, own, embeddings: own.embeddings, maxOutputTokens })
    const chat = client?.chat
    if (chat === undefined || own.chat === undefined || endpoint.operation !== 'chat') throw cannotSpeak()
    return toTranslated({ deployment, own, chat: own.chat, client: chat, maxOutputTokens })
  }

  function toMend({ provider }: Deployment): Wire['mend'] {
    if (endpoint.operation !== 'embeddings' || provider === undefined) return undefined
    if (!hasQuirk(provider.options, 'float-embeddings')) return undefined
    const wanted = encodingOf(request)
    return (body) => toEncoding(body, wanted)
  }

  function toEstimate(answer: unknown, own: ProviderSide): Wire {
    const side = formats.get(endpoint.format)?.provider ?? own
    return { ...nativeWire(side, own), body: toBytes(answer) }
  }

  function cannotSpeak(): GatewayError {
    return new GatewayError(
      'invalid_request',
      `The model "${request.model}" cannot be asked at ${endpoint.path}: no provider of it has that.`,
      { param: 'model' },
    )
  }

  function read(client: ClientChat): NonNullable<typeof reading> {
    if (reading !== undefined) return reading
    if (request.body === undefined) throw new Error('the request body is gone')
    const sent: AnswerTo['sent'] = JSON.parse(request.body.toString('utf8'))
    reading = { ...client.read(sent), sent }
    return reading
  }

  function toVectors({ deployment, own, embeddings, maxOutputTokens }: VectorSpeakers): Wire {
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
          hasSpoken: false,
          change: () => undefined,
          end: () => undefined,
          whole: (body) =>
            guarded(() => toEncoding(toBytes(embeddings.read(body, asked, written)), encoding)),
        }),
      },
      isSecond: false,
    }
  }

  function toTranslated({ deployment, own, chat, client, maxOutputTokens }: Speakers): Wire {
    const { request: canonical, dropped, sent } = read(client)
    const model = deployment.model ?? request.model
    const written = chat.write(canonical, {
      model,
      maxOutputTokens,
      options: deployment.provider?.options ?? {},
    })
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
        dropped: [...new Set([...dropped, ...written.dropped])],
        begin() {
          const to: AnswerTo = { request: canonical, sent, nowSeconds: nowSeconds(), nextId }
          const reader = chat.events(written)
          const writer = client.events(to)
          const bound = createBound()
          let hasSpoken = false
          return {
            get hasSpoken() {
              return hasSpoken
            },
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

/** Why there is no wire. Anything else than a refusal is a defect, but for what no stack can hold. */
function toRefusal(error: unknown): GatewayError {
  if (error instanceof GatewayError) return error
  // The arguments of a call are JSON inside a string: how deep they are nobody has looked.
  if (!(error instanceof RangeError)) throw error
  return new GatewayError('invalid_request', 'The arguments of a tool call nest too deep to be translated.', {
    cause: error,
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
