// Makes the call that goes to a deployment: its headers from an empty set, and the client's own bytes with the few
// members that its format changes, or what they were translated to.

import type { Readable } from 'node:stream'
import { type Edit, splice, spliceWhole } from '../bytes/splice.ts'
import type { ProviderSide, SignedCall } from '../formats/format.ts'
import type { Candidate, ModelRequest, Provider } from '../types.ts'
import type { Key } from './keys.ts'
import type { Exchange } from './kind.ts'
import type { Wire } from './wire.ts'

export interface ExchangeParts {
  readonly candidate: Candidate
  readonly request: ModelRequest
  readonly wire: Wire
  readonly key: Key | undefined
  readonly maxOutputTokens: number | undefined
  readonly userAgent: string
  /** What earlier calls were told. */
  readonly fixed: FixedHeaders
  /** Unix milliseconds. */
  readonly nowMs: number
  /** Trace context, where there is one: name, value, name, value. */
  readonly traceHeaders?: readonly string[] | undefined
  /** More places where the body changes. */
  readonly edits?: readonly Edit[] | undefined
}

/** @throws Error when the body has been dropped already (the answer has begun). */
export function createExchange(parts: ExchangeParts): Exchange {
  const { candidate, request, wire, maxOutputTokens } = parts
  const { deployment } = candidate
  const model = deployment.model ?? request.model
  const { stream } = request
  const asked = { model, maxOutputTokens, options: deployment.provider?.options ?? NO_OPTIONS, stream }
  const { body, bytes } = toBody(parts, asked)
  const front = wire.isSecond ? (wire.own.prefix ?? '') : ''
  const path = `${front}${wire.side.path(request.endpoint.operation, asked)}`
  return {
    candidate,
    request,
    model,
    path,
    headers: toHeaders(parts, { path, body, bytes }),
    body,
    bodyBytes: bytes,
  }
}

const NO_OPTIONS = {}

function toBody(
  { request, wire, edits: more }: ExchangeParts,
  asked: Parameters<ProviderSide['edits']>[1],
): { readonly body: Buffer | Readable; readonly bytes: number } {
  if (wire.body !== undefined) return { body: wire.body, bytes: wire.body.length }
  if (request.body === undefined) throw new Error('the request body is gone')
  const own = wire.side.edits(request, asked)
  const edits = more === undefined ? own : [...own, ...more]
  if (edits.length > 1) edits.sort((a, b) => a.start - b.start)
  return wire.own.sign === undefined ? splice(request.body, edits) : spliceWhole(request.body, edits)
}

interface Sent {
  readonly path: string
  readonly body: Buffer | Readable
  readonly bytes: number
}

function toHeaders(parts: ExchangeParts, { path, body, bytes }: Sent): string[] {
  const { candidate, request, wire, key, traceHeaders, nowMs } = parts
  const { provider } = candidate.deployment
  const headers = toFixed(parts).slice()
  headers[1] = (wire.body === undefined ? request.contentType : undefined) ?? 'application/json'
  headers[3] = String(bytes)
  headers[5] = request.stream ? (wire.side.streamType ?? 'text/event-stream') : 'application/json'
  if (traceHeaders !== undefined && provider?.headers.traceparent === undefined) headers.push(...traceHeaders)
  if (wire.own.sign !== undefined && provider !== undefined && Buffer.isBuffer(body)) {
    const call = { method: 'POST', url: `${provider.baseUrl}${path}`, body, nowMs }
    addSignature(headers, call, { provider, format: wire.own, key })
  }
  return headers
}

/** What a provider is told in every call with one key, as far as the call itself has no say in it. */
interface Fixed {
  readonly own: ProviderSide
  readonly lists: Wire['headers']
  readonly provider: Provider
  readonly headers: readonly string[]
}

/** By the key, which is of one provider; by the provider where none is needed. Of one user agent. */
export type FixedHeaders = WeakMap<Key | Provider, Fixed>

export function createFixedHeaders(): FixedHeaders {
  return new WeakMap()
}

/** Those that are the same from call to call, with room for the three in front that are not. */
function toFixed({ candidate, wire, key, userAgent, fixed }: ExchangeParts): readonly string[] {
  const { own, headers: lists } = wire
  const { provider } = candidate.deployment
  const holder = key ?? provider
  const known = holder && fixed.get(holder)
  if (known?.own === own && known.lists === lists && known.provider === provider) return known.headers
  const headers = ['content-type', '', 'content-length', '', 'accept', '']
  addFormatHeaders(headers, wire, provider)
  addOwnHeaders(headers, { provider, format: own, key, userAgent })
  if (holder !== undefined && provider !== undefined) fixed.set(holder, { own, lists, provider, headers })
  return headers
}

/** What stands for the credential where it depends on the call: to be added last. */
export function addSignature(
  headers: string[],
  call: Pick<SignedCall, 'method' | 'url' | 'body' | 'nowMs'>,
  { provider, format, key }: Signer,
): void {
  if (format.sign === undefined || key === undefined) return
  headers.push(...format.sign({ ...call, headers, key: key.value, options: provider.options }))
}

interface Signer {
  readonly provider: Provider
  /** Whose credential it is. */
  readonly format: ProviderSide
  readonly key: Key | undefined
}

/** Those of the format, of the body and of the caller: of two with one name the later, of all of them the operator's. */
function addFormatHeaders(headers: string[], { headers: lists }: Wire, provider: Provider | undefined): void {
  if (lists.length === 0) return
  const chosen = new Map<string, string>()
  for (const list of lists)
    for (let i = 0; i < list.length; i += 2) chosen.set(list[i] as string, list[i + 1] as string)
  for (const [name, value] of chosen) if (provider?.headers[name] === undefined) headers.push(name, value)
}

/** Adds what every request to a provider says, whatever it asks for. */
export function addOwnHeaders(
  headers: string[],
  {
    provider,
    format,
    key,
    userAgent,
  }: Pick<ExchangeParts, 'key' | 'userAgent'> & {
    readonly provider: Provider | undefined
    /** Whose credential it is. */
    readonly format: ProviderSide
  },
): void {
  // Asked for as it is: a compressed stream would have to be buffered to be read.
  headers.push('accept-encoding', 'identity', 'user-agent', userAgent)
  // What signs stands in the place of the key.
  if (key !== undefined && format.sign === undefined) headers.push(...format.credential(key.value))
  const configured = provider?.headers
  if (configured === undefined) return
  for (const name of Object.keys(configured)) headers.push(name, configured[name] as string)
}
