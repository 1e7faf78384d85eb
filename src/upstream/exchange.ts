// Makes the call that goes to a deployment: its headers from an empty set, and the client's own bytes with the few
// members that its format changes.

import { type Edit, splice } from '../bytes/splice.ts'
import type { ProviderSide } from '../formats/format.ts'
import type { Candidate, ModelRequest, Provider } from '../types.ts'
import type { Key } from './keys.ts'
import type { Exchange } from './kind.ts'

export interface ExchangeParts {
  readonly candidate: Candidate
  readonly request: ModelRequest
  readonly format: ProviderSide
  readonly key: Key | undefined
  readonly maxOutputTokens: number | undefined
  readonly userAgent: string
  /** Trace context, where there is one: name, value, name, value. */
  readonly traceHeaders?: readonly string[] | undefined
  /** More places where the body changes. */
  readonly edits?: readonly Edit[] | undefined
}

/** @throws Error when the body has been dropped already (the answer has begun). */
export function createExchange(parts: ExchangeParts): Exchange {
  const { candidate, request, format, key } = parts
  const { deployment } = candidate
  const model = deployment.model ?? request.model
  if (request.body === undefined) throw new Error('the request body is gone')
  const asked = { model, maxOutputTokens: parts.maxOutputTokens, options: {} }
  const edits = [...format.edits(request, asked), ...(parts.edits ?? [])]
  const { body, bytes } = splice(
    request.body,
    edits.sort((a, b) => a.start - b.start),
  )
  return {
    candidate,
    request,
    model,
    path: format.path(request.endpoint.operation, { ...asked, stream: request.stream }),
    headers: toHeaders(parts, bytes, key),
    body,
    bodyBytes: bytes,
  }
}

function toHeaders(
  { candidate, request, format, userAgent, traceHeaders }: ExchangeParts,
  bytes: number,
  key: Key | undefined,
): string[] {
  const headers = [
    'content-type',
    'application/json',
    'content-length',
    String(bytes),
    'accept',
    request.stream ? 'text/event-stream' : 'application/json',
  ]
  addOwnHeaders(headers, { provider: candidate.deployment.provider, format, key, userAgent })
  if (traceHeaders !== undefined && candidate.deployment.provider?.headers.traceparent === undefined)
    headers.push(...traceHeaders)
  return headers
}

/** Adds what every request to a provider says, whatever it asks for. */
export function addOwnHeaders(
  headers: string[],
  {
    provider,
    format,
    key,
    userAgent,
  }: Pick<ExchangeParts, 'format' | 'key' | 'userAgent'> & { readonly provider: Provider | undefined },
): void {
  // Asked for as it is: a compressed stream would have to be buffered to be read.
  headers.push('accept-encoding', 'identity', 'user-agent', userAgent)
  if (key !== undefined) headers.push(...format.credential(key.value))
  const configured = provider?.headers
  if (configured === undefined) return
  for (const name of Object.keys(configured)) headers.push(name, configured[name] as string)
}
