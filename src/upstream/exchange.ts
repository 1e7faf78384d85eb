// Makes the call that goes to a deployment: its headers from an empty set, and the client's own bytes with the few
// members that may change (design §5: the model, `stream_options.include_usage`, the output cap).

import { type Edit, splice } from '../bytes/splice.ts'
import type { Format } from '../formats/format.ts'
import type { Candidate, ModelRequest, Provider, Span } from '../types.ts'
import type { Key } from './keys.ts'
import type { Exchange } from './kind.ts'

export interface ExchangeParts {
  readonly candidate: Candidate
  readonly request: ModelRequest
  readonly format: Format
  readonly key: Key | undefined
  readonly maxOutputTokens: number | undefined
  readonly userAgent: string
  /** Trace context, where there is one: name, value, name, value. */
  readonly traceHeaders?: readonly string[] | undefined
  /** More places where the body changes, in the order in which they stand. */
  readonly edits?: readonly Edit[] | undefined
}

/** @throws Error when the body has been dropped already (the answer has begun). */
export function createExchange(parts: ExchangeParts): Exchange {
  const { candidate, request, format, key } = parts
  const { deployment } = candidate
  const model = deployment.model ?? request.model
  if (request.body === undefined) throw new Error('the request body is gone')
  const { body, bytes } = splice(
    request.body,
    inOrder([...toEdits(request, model, parts.maxOutputTokens), ...(parts.edits ?? [])]),
  )
  return {
    candidate,
    request,
    model,
    path: format.provider.path(request.endpoint.operation),
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
  if (key !== undefined) headers.push(...format.provider.credential(key.value))
  const configured = provider?.headers
  if (configured === undefined) return
  for (const name of Object.keys(configured)) headers.push(name, configured[name] as string)
}

/** Where the client's bytes change for this deployment, in the order in which they stand. */
export function toEdits(request: ModelRequest, model: string, maxOutputTokens: number | undefined): Edit[] {
  const { spans, body } = request
  const edits: Edit[] = []
  const added: string[] = []

  /** Rewrites a member where it stands, or adds it in front of the others. */
  function set(name: string, text: string): void {
    const span = spans.get(name)
    if (span === undefined) added.push(`${JSON.stringify(name)}:${text}`)
    else edits.push({ start: span.start, end: span.end, text })
  }

  if (model !== request.model) set('model', JSON.stringify(model))
  if (maxOutputTokens !== undefined) {
    // A server may read either spelling: each is capped where it stands, and one is added where none does.
    const written = OUTPUT_CAPS.filter((name) => spans.has(name))
    for (const name of written)
      if (isOver(body, spans.get(name), maxOutputTokens)) set(name, String(maxOutputTokens))
    if (written.length === 0) set('max_completion_tokens', String(maxOutputTokens))
  }
  if (request.stream && !request.includeUsage) {
    const inner = spans.get('stream_options.include_usage')
    const outer = spans.get('stream_options')
    if (inner !== undefined) edits.push({ start: inner.start, end: inner.end, text: 'true' })
    else if (outer === undefined || body?.[outer.start] !== OPEN_BRACE)
      set('stream_options', '{"include_usage":true}')
    else {
      const empty = body.toString('latin1', outer.start + 1, outer.end - 1).trim() === ''
      edits.push({
        start: outer.start + 1,
        end: outer.start + 1,
        text: `"include_usage":true${empty ? '' : ','}`,
      })
    }
  }
  if (added.length > 0 && body !== undefined) {
    // There is always a member (`model`) behind the new ones.
    const at = body.indexOf(OPEN_BRACE) + 1
    edits.push({ start: at, end: at, text: `${added.join(',')},` })
  }
  return inOrder(edits)
}

function inOrder(edits: Edit[]): Edit[] {
  return edits.sort((a, b) => a.start - b.start)
}

const OUTPUT_CAPS = ['max_tokens', 'max_completion_tokens'] as const

/** Whether a cap is missing (`null`) or above ours. */
function isOver(body: Buffer | undefined, span: Span | undefined, cap: number): boolean {
  const value = span === undefined ? Number.NaN : Number(body?.toString('latin1', span.start, span.end))
  return !(value <= cap)
}

const OPEN_BRACE = 0x7b
