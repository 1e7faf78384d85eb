// HTTP/1.1 by hand: exactly these bytes go out, and what comes back is read without mercy or help. For requests that
// no proper client would send.

import { connect } from 'node:net'

export type RawPart =
  /** Sent as UTF-8; bytes that are none go in a Buffer. */
  | string
  | Uint8Array
  | { readonly delayMs: number }
  /** Ends our half of the connection. */
  | { readonly fin: true }
  | { readonly reset: true }

export interface RawOptions {
  /** Longest time for everything; default 5 s. */
  readonly timeoutMs?: number
  readonly host?: string
  /** How many answers to wait for; default 1. */
  readonly responses?: number
  /** How long to watch for a close or for surplus bytes after the last answer. */
  readonly lingerMs?: number
}

export interface RawResponse {
  readonly status: number
  readonly reason: string
  readonly headers: readonly (readonly [name: string, value: string])[]
  /** The first header of that name, in any case. */
  header(name: string): string | undefined
  /** Without chunk framing. */
  readonly body: Buffer
  /** The body came to its own end (length or last chunk); one that ends with the connection is never complete. */
  readonly complete: boolean
}

export interface RawResult {
  /** The first answer's, 0 when none came or it was no HTTP. */
  readonly status: number
  readonly headers: readonly (readonly [name: string, value: string])[]
  header(name: string): string | undefined
  readonly body: Buffer
  readonly responses: readonly RawResponse[]
  /** Statuses 1xx that came before. */
  readonly interim: readonly number[]
  /** Bytes that are part of no answer. */
  readonly surplus: Buffer
  readonly raw: Buffer
  /** The server ended the connection. */
  readonly closed: boolean
  readonly how: 'fin' | 'reset' | 'open'
  readonly timedOut: boolean
  readonly elapsedMs: number
}

/** Sends the bytes, waits for the answer and looks whether the connection stays. Rejects only when it cannot connect. */
export function rawRequest(
  port: number,
  bytes: string | Uint8Array | readonly RawPart[],
  options: RawOptions = {},
): Promise<RawResult> {
  const { timeoutMs = 5_000, host = '127.0.0.1', responses: wanted = 1, lingerMs = 50 } = options
  const parts = typeof bytes === 'string' || bytes instanceof Uint8Array ? [bytes] : bytes
  const methods = methodsOf(parts)
  return new Promise((resolve, reject) => {
    const startedMs = performance.now()
    const chunks: Buffer[] = []
    let how: RawResult['how'] = 'open'
    let connected = false
    let settled = false
    let sending = true
    let linger: NodeJS.Timeout | undefined

    const socket = connect({ port, host, noDelay: true, allowHalfOpen: true })
    const finish = (timedOut: boolean): void => {
      if (settled) return
      settled = true
      clearTimeout(limit)
      clearTimeout(linger)
      socket.destroy()
      const raw = Buffer.concat(chunks)
      const { responses, interim, rest } = parseResponses(raw, methods)
      const [first] = responses
      resolve({
        status: first?.status ?? 0,
        headers: first?.headers ?? [],
        header: (name) => first?.header(name),
        body: first?.body ?? Buffer.alloc(0),
        responses,
        interim,
        surplus: rest,
        raw,
        closed: how !== 'open',
        how,
        timedOut,
        elapsedMs: performance.now() - startedMs,
      })
    }
    const limit = setTimeout(() => finish(true), timeoutMs)
    socket.on('connect', async () => {
      connected = true
      for (const part of parts) {
        if (settled || socket.destroyed) break
        if (typeof part === 'string') socket.write(part)
        else if (part instanceof Uint8Array) socket.write(part)
        else if ('delayMs' in part) await new Promise((next) => setTimeout(next, part.delayMs))
        else if ('fin' in part) socket.end()
        else socket.resetAndDestroy()
      }
      sending = false
    })
    socket.on('data', (chunk) => {
      chunks.push(chunk)
      const seen = parseResponses(Buffer.concat(chunks), methods).responses
      if (seen.length >= wanted && seen.every((one) => one.complete)) {
        clearTimeout(linger)
        linger = setTimeout(() => finish(false), lingerMs)
      }
    })
    socket.on('end', () => {
      how = 'fin'
      // A server that has said its last word will not read ours.
      if (!sending || chunks.length > 0) finish(false)
    })
    socket.on('error', (error) => {
      if (!connected) {
        settled = true
        clearTimeout(limit)
        reject(error)
        return
      }
      how = how === 'fin' ? 'fin' : 'reset'
      finish(false)
    })
    socket.on('close', () => finish(false))
  })
}

/** Splits what a connection said into answers. `methods`: of the requests, because a HEAD's answer has no body. */
export function parseResponses(raw: Buffer, methods: readonly string[] = []) {
  const responses: RawResponse[] = []
  const interim: number[] = []
  let at = 0
  while (at < raw.length) {
    const headEnd = raw.indexOf('\r\n\r\n', at)
    const head = headEnd < 0 ? '' : raw.toString('latin1', at, headEnd)
    const [statusLine = '', ...lines] = head.split('\r\n')
    const parsed = /^HTTP\/1\.[01] (\d{3})(?: (.*))?$/.exec(statusLine)
    if (!parsed) break
    const status = Number(parsed[1])
    at = headEnd + 4
    if (status < 200) {
      interim.push(status)
      continue
    }
    const headers = lines.map((text): readonly [string, string] => {
      const colon = text.indexOf(':')
      return [text.slice(0, colon), text.slice(colon + 1).trim()]
    })
    const header = (name: string): string | undefined =>
      headers.find((one) => one[0].toLowerCase() === name.toLowerCase())?.[1]
    const isBodiless = status === 204 || status === 304 || methods[responses.length] === 'HEAD'
    const body = isBodiless ? { bytes: Buffer.alloc(0), end: at, complete: true } : readBody(raw, at, header)
    responses.push({
      status,
      reason: parsed[2] ?? '',
      headers,
      header,
      body: body.bytes,
      complete: body.complete,
    })
    at = body.end
  }
  return { responses, interim, rest: raw.subarray(at) }
}

interface BodyRead {
  readonly bytes: Buffer
  readonly end: number
  readonly complete: boolean
}

function readBody(raw: Buffer, at: number, header: (name: string) => string | undefined): BodyRead {
  if (/chunked/i.test(header('transfer-encoding') ?? '')) return readChunks(raw, at)
  const length = header('content-length')
  if (length === undefined) return { bytes: raw.subarray(at), end: raw.length, complete: false }
  const end = Math.min(raw.length, at + Number(length))
  return { bytes: raw.subarray(at, end), end, complete: end === at + Number(length) }
}

function readChunks(raw: Buffer, start: number): BodyRead {
  const pieces: Buffer[] = []
  let at = start
  for (;;) {
    const lineEnd = raw.indexOf('\r\n', at)
    const size = lineEnd < 0 ? Number.NaN : Number.parseInt(raw.toString('latin1', at, lineEnd), 16)
    if (Number.isNaN(size)) return { bytes: Buffer.concat(pieces), end: raw.length, complete: false }
    at = lineEnd + 2
    if (size === 0) {
      // No trailers are expected; the blank line ends it.
      const complete = raw.toString('latin1', at, at + 2) === '\r\n'
      return { bytes: Buffer.concat(pieces), end: complete ? at + 2 : raw.length, complete }
    }
    pieces.push(raw.subarray(at, at + size))
    if (raw.length < at + size + 2) return { bytes: Buffer.concat(pieces), end: raw.length, complete: false }
    at += size + 2
  }
}

/** The methods at the start of each piece that looks like a request. */
function methodsOf(parts: readonly RawPart[]): string[] {
  return parts.flatMap((part) => {
    const text =
      typeof part === 'string' ? part : part instanceof Uint8Array ? Buffer.from(part).toString('latin1') : ''
    return [...text.matchAll(/(?:^|\r\n\r\n)([A-Z]+) \S+ HTTP\/1\.[01]/g)].map((match) => match[1] ?? '')
  })
}
