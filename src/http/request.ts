// Reads what the gateway must know out of a request body, by scanning its bytes: the body itself stays as it came.
// Whatever is accepted here reads the same to `JSON.parse`; what could be read in two ways is refused.

import { measureImages } from '../bytes/image-parts.ts'
import { type Scan, scanNested, scanObject } from '../bytes/json-scan.ts'
import { boundaryOf, scanForm } from '../bytes/multipart-scan.ts'
import { RESTRICTED_FIELDS } from '../config/schema.ts'
import { GatewayError } from '../errors.ts'
import type { Fields } from '../formats/format.ts'
import { formats } from '../formats/index.ts'
import type { BodySource, Endpoint, ModelRequest, Span } from '../types.ts'

/** Fields that name state kept in the provider's account, which many agents share, in whatever format (design §5). */
const STATEFUL_FIELDS = ['previous_response_id', 'conversation'] as const

/** What a body of an endpoint's format is judged by. */
interface Judged {
  readonly fields: Fields
  readonly stateful: ReadonlySet<string>
  readonly refused: ReadonlyMap<string, { readonly harmless: RegExp; readonly why: string }>
  /** Fields that steer the gateway or name what it would rewrite. */
  readonly steering: ReadonlySet<string>
}

const JUDGED: ReadonlyMap<string, Judged> = new Map(
  [...formats.values()].flatMap(({ name, client }) =>
    client === undefined ? [] : [[name, toJudged(client.fields)]],
  ),
)

function toJudged(fields: Fields): Judged {
  const stateful = [...STATEFUL_FIELDS, ...(fields.stateful ?? [])]
  const refused = (fields.refused ?? []).map(([name, harmless, why]) => [name, { harmless, why }] as const)
  return {
    fields,
    stateful: new Set(stateful),
    refused: new Map(refused),
    steering: new Set([
      'model',
      'stream',
      'stream_options',
      ...(fields.choices === undefined ? [] : [fields.choices]),
      ...fields.outputCaps,
      ...RESTRICTED_FIELDS,
      ...stateful,
      ...refused.map(([name]) => name),
    ]),
  }
}

const RESTRICTED: ReadonlySet<string> = new Set(RESTRICTED_FIELDS)

const LONGEST_MODEL = 256
const MOST_CHOICES = 128
const LONGEST_CACHE_KEY = 512
const QUOTE = 0x22
const OPEN_BRACE = 0x7b

/** Control characters, line separators and lone surrogates: none of them belongs into a name that is shown. */
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]|\p{Surrogate}/u

/**
 * Reads a body for `endpoint`. `allowFields` holds the restricted fields that at least one provider accepts.
 *
 * @throws GatewayError `invalid_json`, `ambiguous_field`, `invalid_request` (400)
 */
export function readRequest(
  endpoint: Endpoint,
  body: Buffer,
  allowFields: ReadonlySet<string>,
  { body: source, forwarded = [], contentType }: Around = {},
): ModelRequest {
  const judged = JUDGED.get(endpoint.format)
  if (judged === undefined) throw new Error(`nobody calls in the format ${endpoint.format}`)
  const { fields, steering } = judged
  const form = fields.isForm === true ? readForm(body, contentType, steering) : undefined
  const spans = form?.spans ?? members(scanObject(body))
  const restrictedFields: string[] = []
  for (const name of spans.keys()) {
    if (steering.has(name)) {
      if (judged.stateful.has(name)) refuseStateful(name, body, spans.get(name) as Span)
      else if (judged.refused.has(name)) refuseUnserved(name, judged, text(body, spans.get(name) as Span))
      else if (RESTRICTED.has(name)) {
        if (!allowFields.has(name)) throw notAllowed(name)
        restrictedFields.push(name)
      }
    } else refuseLookalike(name, steering)
  }
  const streamOptions =
    form === undefined ? readStreamOptions(body, spans) : { includeUsage: false, spans: form.spans }
  const payloads =
    form ??
    measureImages(
      body,
      fields.conversation === undefined ? undefined : spans.get(fields.conversation),
      fields.images,
    )
  const many = fields.choices
  const choices =
    (many !== undefined && readCount(body, spans.get(many), { name: many, least: 1, most: MOST_CHOICES })) ||
    1
  const request: ModelRequest = {
    endpoint,
    model: readModel(body, spans.get('model'), fields),
    stream: readFlag(body, spans.get('stream'), 'stream') && endpoint.streams,
    includeUsage: streamOptions.includeUsage,
    maxOutputTokens: readOutputCap(body, spans, fields),
    choices,
    plainText: choices === 1 && isPlainText(body, spans, fields),
    textBytes: body.length - payloads.bytes,
    images: payloads.count,
    contentType: fields.isForm === true ? contentType : undefined,
    cacheKey: readCacheKey(body, spans, fields),
    body,
    letGo() {
      request.body = undefined
      source?.release()
    },
    spans: streamOptions.spans,
    restrictedFields,
    forwarded,
  }
  return request
}

/**
 * The same of a body that nobody sent and that is JSON, also where the endpoint takes a form: its members are the fields.
 *
 * @throws GatewayError as `readRequest`
 */
export function readImagined(
  endpoint: Endpoint,
  body: Buffer,
  allowFields: ReadonlySet<string>,
): ModelRequest {
  if (JUDGED.get(endpoint.format)?.fields.isForm !== true) return readRequest(endpoint, body, allowFields)
  const parts = [...members(scanObject(body))].map(([name, span]) => {
    const value: unknown = JSON.parse(text(body, span))
    const content = typeof value === 'string' ? value : text(body, span)
    return `--${IMAGINED}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${content}\r\n`
  })
  return readRequest(endpoint, Buffer.from(`${parts.join('')}--${IMAGINED}--\r\n`), allowFields, {
    contentType: `multipart/form-data; boundary=${IMAGINED}`,
  })
}

const IMAGINED = 'imagined'

interface Around {
  /** Where the body came from: told when it is let go. */
  readonly body?: Pick<BodySource, 'release'>
  /** Headers for a provider of the same format. */
  readonly forwarded?: readonly string[]
  /** Of a form. */
  readonly contentType?: string | undefined
}

/** A restricted field that the provider which would get it does not accept. */
export function notAllowed(name: string): GatewayError {
  return new GatewayError(
    'invalid_request',
    `The field "${name}" is not accepted here: routing and fallbacks are the gateway's.`,
    { param: name },
  )
}

/**
 * The fields of a form, where they stand. A name that steers the gateway may stand in it once, and in no file: what two
 * readers could take for two models is refused. Files count as no text.
 */
function readForm(
  body: Buffer,
  contentType: string | undefined,
  steering: ReadonlySet<string>,
): { readonly spans: ReadonlyMap<string, Span>; readonly bytes: number; readonly count: number } {
  const boundary = contentType === undefined ? undefined : boundaryOf(contentType)
  const scan = scanForm(body, boundary ?? '')
  if (!scan.ok) {
    const code = scan.fault === 'ambiguous' ? 'ambiguous_field' : 'invalid_request'
    throw new GatewayError(code, `The form cannot be read: ${scan.message}.`)
  }
  const spans = new Map<string, Span>()
  let textBytes = 0
  let count = 0
  for (const { name, isFile, span } of scan.parts) {
    if (steering.has(name) && (isFile || spans.has(name)))
      throw new GatewayError('ambiguous_field', `The field "${name}" must stand in the form once, as text.`, {
        param: name,
      })
    if (isFile) count += 1
    else {
      textBytes += span.end - span.start
      spans.set(name, span)
    }
  }
  return { spans, bytes: body.length - textBytes, count }
}

function members(scan: Scan): ReadonlyMap<string, Span> {
  if (scan.ok) return scan.members
  const code =
    scan.fault === 'ambiguous'
      ? 'ambiguous_field'
      : scan.fault === 'invalid'
        ? 'invalid_json'
        : 'invalid_request'
  throw new GatewayError(code, scan.message, scan.param === undefined ? {} : { param: scan.param })
}

/**
 * Some parsers match names without regard to case (Go's encoding/json, which folds ſ to s and K to k as well), so
 * `Model` beside or instead of `model` would mean one thing to us and another to the server behind us.
 */
function refuseLookalike(name: string, steering: ReadonlySet<string>): void {
  if (!FOLDED.test(name)) return
  const folded = fold(name)
  if (folded !== name && steering.has(folded)) {
    throw new GatewayError(
      'ambiguous_field',
      `Some servers would read this field as "${folded}"; write it so.`,
      {
        param: name,
      },
    )
  }
}

/** What folding makes a letter of ASCII of: a name without any of these stays another name. */
const FOLDED = /[A-Zſ\u212a]/

/** A name as such a parser compares it. Names too long to steer anything stay as they are. */
function fold(name: string): string {
  return name.length > 32 ? name : name.toLowerCase().replaceAll('ſ', 's').replaceAll('\u212a', 'k')
}

function refuseStateful(name: string, body: Buffer, span: Span): void {
  if (text(body, span) === 'null') return
  throw new GatewayError(
    'invalid_request',
    `The field "${name}" refers to state in an account that many agents share; send the whole conversation instead.`,
    { param: name },
  )
}

/** What could not be answered here whoever is asked. */
function refuseUnserved(name: string, { refused }: Judged, value: string): void {
  const why = refused.get(name)
  if (why === undefined || why.harmless.test(value)) return
  throw new GatewayError('invalid_request', `The field "${name}" is not served here. ${why.why}`, {
    param: name,
  })
}

function readModel(body: Buffer, span: Span | undefined, { defaultModel, isForm }: Fields): string {
  if (span === undefined) {
    if (defaultModel !== undefined) return defaultModel
    throw new GatewayError('invalid_request', 'The field "model" is missing.', { param: 'model' })
  }
  const model: unknown = isForm === true ? text(body, span) : JSON.parse(text(body, span))
  if (typeof model !== 'string' || model === '') throw wrongType('model', 'a non-empty string')
  if (model.length > LONGEST_MODEL) throw wrongType('model', `a name of at most ${LONGEST_MODEL} characters`)
  if (UNPRINTABLE.test(model)) throw wrongType('model', 'a name without control characters')
  return model
}

function readFlag(body: Buffer, span: Span | undefined, name: string): boolean {
  const word = span === undefined ? 'false' : text(body, span)
  if (word === 'true') return true
  if (word === 'false' || word === 'null') return false
  throw wrongType(name, 'true or false')
}

/** Whether no member says that the answer is more than text. */
function isPlainText(body: Buffer, spans: ReadonlyMap<string, Span>, { beyondText }: Fields): boolean {
  for (const [name, nothing] of beyondText) {
    const span = spans.get(name)
    if (span !== undefined && !nothing.test(text(body, span))) return false
  }
  return true
}

/** Only a hint: what is no short text is passed on all the same, and says nothing. */
function readCacheKey(
  body: Buffer,
  spans: ReadonlyMap<string, Span>,
  { session }: Fields,
): string | undefined {
  const span = spans.get(session ?? 'prompt_cache_key')
  const opening = session === undefined ? QUOTE : OPEN_BRACE
  if (span === undefined || span.end - span.start > LONGEST_CACHE_KEY || body[span.start] !== opening)
    return undefined
  return text(body, span)
}

/** The largest of all spellings: a reservation must not be smaller than what any reader would allow. */
function readOutputCap(
  body: Buffer,
  spans: ReadonlyMap<string, Span>,
  { outputCaps, mayBeSilent }: Fields,
): number | undefined {
  const least = mayBeSilent === true ? 0 : 1
  let largest: number | undefined
  for (const name of outputCaps) {
    // Clients do send 2147483647 for "no cap"; what it reserves is bounded by the meter.
    const cap = readCount(body, spans.get(name), { name, least, most: Number.MAX_SAFE_INTEGER })
    if (cap !== undefined && (largest === undefined || cap > largest)) largest = cap
  }
  return largest
}

function readCount(
  body: Buffer,
  span: Span | undefined,
  { name, least, most }: { readonly name: string; readonly least: number; readonly most: number },
): number | undefined {
  if (span === undefined) return undefined
  const word = text(body, span)
  if (word === 'null') return undefined
  const value = /^[-\d]/.test(word) ? Number(word) : Number.NaN
  if (!Number.isInteger(value) || value < least || value > most)
    throw wrongType(name, `a whole number from ${least} to ${most}`)
  return value
}

/** `stream_options`: whether usage was asked for, and where `include_usage` stands, for the case that it must be set. */
function readStreamOptions(body: Buffer, spans: ReadonlyMap<string, Span>) {
  const span = spans.get('stream_options')
  if (span === undefined || text(body, span) === 'null') return { includeUsage: false, spans }
  if (body[span.start] !== OPEN_BRACE) throw wrongType('stream_options', 'an object')
  const nested = members(scanNested(body, span))
  for (const name of nested.keys()) {
    if (name !== 'include_usage' && fold(name) === 'include_usage') {
      throw new GatewayError('ambiguous_field', 'Some servers would read this field as "include_usage".', {
        param: 'stream_options',
      })
    }
  }
  const inner = nested.get('include_usage')
  const includeUsage = readFlag(body, inner, 'stream_options.include_usage')
  if (inner === undefined) return { includeUsage, spans }
  return { includeUsage, spans: new Map(spans).set('stream_options.include_usage', inner) }
}

function text(body: Buffer, span: Span): string {
  return body.toString('utf8', span.start, span.end)
}

function wrongType(name: string, wanted: string): GatewayError {
  return new GatewayError('invalid_request', `The field "${name}" must be ${wanted}.`, { param: name })
}
