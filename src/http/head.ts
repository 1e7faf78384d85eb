// Reads the head of a request from its raw headers and refuses what two HTTP parsers could read in two ways, before
// anything is routed. Pure. Node's own parser already refuses the classic smuggling shapes; what it lets through
// (two Hosts, absolute form with another host, duplicate credentials, a cut header list, …) is refused here.

import { GatewayError } from '../errors.ts'

/** What the gateway uses of a head. Nothing else of it is ever passed on. */
export interface Head {
  /** Request target in origin form, query included. */
  readonly target: string
  readonly bearer: string | undefined
  /** Undefined for a chunked body; 0 for none. */
  readonly contentLength: number | undefined
  readonly contentType: string | undefined
  readonly contentEncoding: string | undefined
  /** NaN when it is none: that is the caller's mistake, and told after it is known who calls. */
  readonly timeoutMs: number | undefined
  /** Of several lines the list: of `traceparent` there may be one, so that two cannot be read as either. */
  readonly traceparent: string | undefined
  readonly tracestate: string | undefined
  readonly forwardedFor: string | undefined
  readonly upgrade: string | undefined
  readonly expect: string | undefined
  /** A header that a format passes on, by its lower-case name; several lines as one list. */
  forwardable(name: string): string | undefined
}

/** The parts of a request line and head that `readHead` judges. */
export interface RawHead {
  readonly method: string
  readonly target: string
  /** `1.0` or `1.1`. */
  readonly httpVersion: string
  /** Flat list of names and values in the order sent. */
  readonly rawHeaders: readonly string[]
}

/** More header lines than this are refused; Node is told to keep one more, so that none is lost unseen. */
export const MAX_HEADERS = 100

/** Longest bearer that is looked at. */
const MAX_BEARER = 4096

const BODILESS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE'])

const NONE: ReadonlySet<string> = new Set()

/** A host with an optional port, as RFC 3986 §3.2.2 has them; nothing that could end the authority. */
const HOST = /^[A-Za-z0-9._~!$&'()*+,;=:%[\]-]+$/

/** What RFC 9112 §3.2 lets stand in a target, widened to printable ASCII: some readers take `\` for `/` and cut at `#`. */
const TARGET = /^[\x21\x22\x24-\x5b\x5d-\x7e]+$/

const ABSOLUTE = /^https?:\/\/([^/?#]*)(.*)$/i

/**
 * Judges a head. `forwardable` names the headers that may be asked for behind it.
 *
 * @throws GatewayError `headers_too_large` (431), `invalid_request` (400), `expectation_failed` (417)
 */
export function readHead(raw: RawHead, forwardable: ReadonlySet<string> = NONE): Head {
  const { rawHeaders } = raw
  // Node lets HTTP/0.9 and HTTP/2.0 pass in a request line, and reads them as if they were HTTP/1.1.
  if (raw.httpVersion !== '1.1' && raw.httpVersion !== '1.0') {
    throw invalid('The only versions spoken here are HTTP/1.1 and HTTP/1.0.')
  }
  if (rawHeaders.length / 2 > MAX_HEADERS) {
    throw new GatewayError('headers_too_large', `The request has more than ${MAX_HEADERS} header lines.`)
  }
  let host: string | undefined
  let bearer: string | undefined
  let contentLength: string | undefined
  let contentType: string | undefined
  let contentEncoding: string | undefined
  let transferEncoding: string | undefined
  let expect: string | undefined
  let timeoutMs: string | undefined
  let traceparent: string | undefined
  let tracestate: string | undefined
  let forwardedFor: string | undefined
  let upgrade: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] as string).toLowerCase()
    const value = rawHeaders[i + 1] as string
    switch (name) {
      case 'host':
        host = once(name, host, value)
        break
      case 'authorization':
      case 'x-api-key':
      case 'api-key':
      case 'x-goog-api-key': {
        if (bearer !== undefined && linesOf(name, rawHeaders, i) !== undefined) throw twice(name)
        const credential = name === 'authorization' ? readAuthorization(value) : value
        if (bearer !== undefined && bearer !== credential)
          throw invalid('The request carries two credentials that differ.')
        if (credential.length > MAX_BEARER) throw invalid(`The header ${name} is too long.`)
        bearer = credential
        break
      }
      case 'content-length':
        contentLength = once(name, contentLength, value)
        break
      case 'content-type':
        contentType = once(name, contentType, value)
        break
      case 'content-encoding':
        contentEncoding = once(name, contentEncoding, value)
        break
      case 'transfer-encoding':
        transferEncoding = once(name, transferEncoding, value)
        break
      case 'expect':
        expect = once(name, expect, value)
        break
      case 'x-sluice-timeout-ms':
        timeoutMs = once(name, timeoutMs, value)
        break
      case 'traceparent':
        traceparent = joined(traceparent, value)
        break
      case 'tracestate':
        tracestate = joined(tracestate, value)
        break
      case 'x-forwarded-for':
        forwardedFor = joined(forwardedFor, value)
        break
      case 'upgrade':
        upgrade = joined(upgrade, value)
        break
      case '__proto__':
        throw invalid('The header name __proto__ is not allowed.')
    }
  }
  return {
    target: readTarget(raw, host),
    bearer,
    contentLength: readLength(raw, contentLength, transferEncoding),
    contentType,
    contentEncoding,
    timeoutMs: readTimeout(timeoutMs),
    traceparent,
    tracestate,
    forwardedFor,
    upgrade,
    expect: readExpect(expect),
    forwardable: (name) => (forwardable.has(name) ? linesOf(name, rawHeaders, rawHeaders.length) : undefined),
  }
}

function once(name: string, before: string | undefined, value: string): string {
  if (before !== undefined) throw twice(name)
  return value
}

function twice(name: string): GatewayError {
  return invalid(`The header ${name} stands twice.`)
}

/** A proxy may add its hop in a line of its own, and its line is the last: lines are one list (RFC 9110 §5.3). */
function joined(before: string | undefined, value: string): string {
  return before === undefined ? value : `${before}, ${value}`
}

/** The lines of a header in front of `end`, as one list; undefined when there are none. */
function linesOf(name: string, rawHeaders: readonly string[], end: number): string | undefined {
  let lines: string | undefined
  for (let i = 0; i < end; i += 2) {
    const other = rawHeaders[i] as string
    if (other.length === name.length && other.toLowerCase() === name)
      lines = joined(lines, rawHeaders[i + 1] as string)
  }
  return lines
}

const BEARER = 'bearer'

/** The credential of `Authorization: Bearer …`; another scheme is a credential nobody has. */
function readAuthorization(value: string): string {
  const end = value.charAt(BEARER.length)
  const isBearer = (end === ' ' || end === '\t') && value.slice(0, BEARER.length).toLowerCase() === BEARER
  return isBearer ? value.slice(BEARER.length).trim() : ''
}

function readTarget(raw: RawHead, host: string | undefined): string {
  if (host === undefined) {
    if (raw.httpVersion !== '1.0') throw invalid('The request has no Host header.')
  } else if (!HOST.test(host)) throw invalid('The Host header is not a host.')
  const { target } = raw
  if (!TARGET.test(target)) throw invalid('The request target holds characters that no target may hold.')
  if (target.startsWith('/')) return target
  // RFC 9112 §3.2.2: the absolute form rules over Host; two that disagree are an attack on whoever reads the other.
  const absolute = ABSOLUTE.exec(target)
  if (absolute !== null && host !== undefined && absolute[1]?.toLowerCase() === host.toLowerCase()) {
    const rest = absolute[2] as string
    return rest.startsWith('/') ? rest : `/${rest}`
  }
  if (target === '*' && raw.method === 'OPTIONS') return '/'
  throw invalid('The request target must be a path, or name the same host as the Host header.')
}

function readLength(
  raw: RawHead,
  length: string | undefined,
  coding: string | undefined,
): number | undefined {
  if (coding !== undefined) {
    if (length !== undefined) throw invalid('The request has both Content-Length and Transfer-Encoding.')
    if (raw.httpVersion === '1.0') throw invalid('Transfer-Encoding is not part of HTTP/1.0.')
    if (coding.trim().toLowerCase() !== 'chunked')
      throw invalid('The only Transfer-Encoding understood is chunked.')
    if (BODILESS.has(raw.method)) throw invalid(`A ${raw.method} request has no body.`)
    return undefined
  }
  if (length === undefined) return 0
  if (!/^\d{1,15}$/.test(length)) throw invalid('The Content-Length is not a number.')
  const bytes = Number(length)
  if (bytes > 0 && BODILESS.has(raw.method)) throw invalid(`A ${raw.method} request has no body.`)
  return bytes
}

function readTimeout(value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  return /^\d{1,8}$/.test(value) && Number(value) > 0 ? Number(value) : Number.NaN
}

function readExpect(value: string | undefined): string | undefined {
  if (value !== undefined && value.toLowerCase() !== '100-continue') {
    throw new GatewayError('expectation_failed', 'The only expectation understood is 100-continue.')
  }
  return value
}

function invalid(message: string): GatewayError {
  return new GatewayError('invalid_request', message)
}
