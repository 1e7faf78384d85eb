// Requests as bytes, right but for what a test changes in them, and what an answer of the gateway must look like.

import { expect } from 'vitest'
import type { RawResponse } from '../../support/raw-http.ts'

export const CHAT_BODY = '{"model":"m","messages":[{"role":"user","content":"hi"}]}'

export interface Shape {
  readonly method?: string
  readonly target?: string
  readonly version?: string
  /** Stand in for the Host line; none with `[]`. */
  readonly hosts?: readonly string[]
  readonly bearer?: string
  /** Lines behind the usual ones, without their ends. */
  readonly lines?: readonly string[]
  /** Default: a good chat request; with its length unless `framing` is given. */
  readonly body?: string | Buffer
  /** Stands in for the Content-Length line. */
  readonly framing?: readonly string[]
  readonly contentType?: string | undefined
}

/** The bytes of one request. */
export function requestBytes(shape: Shape = {}): Buffer {
  const {
    method = 'POST',
    target = '/v1/chat/completions',
    version = 'HTTP/1.1',
    hosts = ['gateway'],
  } = shape
  const body = Buffer.from(shape.body ?? CHAT_BODY)
  const contentType = 'contentType' in shape ? shape.contentType : 'application/json'
  const lines = [
    `${method} ${target} ${version}`,
    ...hosts.map((host) => `Host: ${host}`),
    ...(shape.bearer === undefined ? [] : [`Authorization: Bearer ${shape.bearer}`]),
    ...(contentType === undefined ? [] : [`Content-Type: ${contentType}`]),
    ...(shape.framing ?? [`Content-Length: ${body.length}`]),
    ...(shape.lines ?? []),
    '',
    '',
  ]
  return Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), body])
}

/** A request without a body. */
export function plainBytes(method: string, target: string, lines: readonly string[] = []): Buffer {
  return requestBytes({ method, target, body: '', framing: [], contentType: undefined, lines })
}

/** One chunk of a chunked body; the last one for no text. */
export function chunk(text = '', extension = ''): string {
  return `${Buffer.byteLength(text).toString(16)}${extension}\r\n${text}\r\n`
}

/** A refusal in the words of design §5: status, code, OpenAI's shape, a request id, no retry. */
export function expectRefusal(response: RawResponse | undefined, status: number, code: string): void {
  expect(response).toBeDefined()
  if (response === undefined) return
  const text = response.body.toString('utf8')
  expect([response.status, text === '' ? '' : codeOf(text)], text).toEqual([status, code])
  expect(response.complete).toBe(true)
  expect(response.header('content-type')).toMatch(/^application\/json/)
  expect(response.header('x-request-id')).toMatch(/^req_\w{8,}$/)
  expect(response.header('x-should-retry')).toBe('false')
  expect(JSON.parse(text)).toEqual({
    error: {
      message: expect.stringMatching(/\S/),
      type: 'invalid_request_error',
      param:
        code === 'invalid_api_key'
          ? null
          : expect.toSatisfy((param: unknown) => param === null || typeof param === 'string'),
      code,
    },
  })
}

function codeOf(text: string): unknown {
  try {
    const parsed: { error?: { code?: unknown } } = JSON.parse(text)
    return parsed.error?.code
  } catch {
    return text
  }
}
