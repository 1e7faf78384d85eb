// A caller as the tests play it: chat requests by fetch, and of the answers everything that they look at.

import { type ChatStreamSummary, parseSse, summarizeChat } from './sse.ts'

export interface CallOptions {
  /** Merged over the body. */
  readonly body?: Readonly<Record<string, unknown>>
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
  /** Below the base URL; default `/chat/completions`. */
  readonly path?: string
}

export interface Answer {
  readonly status: number
  /** '' when it is not there. */
  header(name: string): string
  readonly text: string
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown
  /** The error object of the body. */
  readonly error: Readonly<Record<'message' | 'type' | 'param' | 'code', unknown>> | undefined
  /** What the model said, whole or streamed. */
  readonly content: string
  /** Of a streamed answer. */
  readonly stream: ChatStreamSummary | undefined
  /** Monotonic ms at which the request left, and at which the whole answer was here. */
  readonly sentMs: number
  readonly receivedMs: number
}

export interface Caller {
  /** One request and its whole answer; a stream when the body says so. */
  chat(options?: CallOptions): Promise<Answer>
  /** The answer as soon as its head is here. */
  open(options?: CallOptions): Promise<Response>
}

const LIMIT_MS = 20_000

/** A caller of a gateway. */
export function createCaller(baseUrl: string, bearer: string, model = 'm'): Caller {
  const open = ({
    body,
    headers,
    signal,
    path = '/chat/completions',
  }: CallOptions = {}): Promise<Response> => {
    const limit = AbortSignal.timeout(LIMIT_MS)
    return fetch(`${baseUrl}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello.' }], ...body }),
      signal: signal === undefined ? limit : AbortSignal.any([limit, signal]),
    })
  }
  return {
    open,
    async chat(options = {}) {
      const sentMs = performance.now()
      const response = await open(options)
      const text = await response.text()
      return toAnswer(response, text, { sentMs, receivedMs: performance.now() })
    },
  }
}

function toAnswer(
  response: Response,
  text: string,
  times: { readonly sentMs: number; readonly receivedMs: number },
): Answer {
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') === true
  const json = isStream ? undefined : parse(text)
  const stream = isStream ? summarizeChat(parseSse(text)) : undefined
  const error = memberOf(json, 'error') ?? stream?.error
  return {
    status: response.status,
    header: (name) => response.headers.get(name) ?? '',
    text,
    json,
    error: isRecord(error)
      ? { message: error.message, type: error.type, param: error.param, code: error.code }
      : undefined,
    content: stream?.text ?? contentOf(json),
    stream,
    ...times,
  }
}

function contentOf(json: unknown): string {
  const choices = memberOf(json, 'choices')
  const message = memberOf(Array.isArray(choices) ? choices[0] : undefined, 'message')
  const content = memberOf(message, 'content')
  return typeof content === 'string' ? content : ''
}

/** Repeats `probe` until it holds; for what is done off the path of a request. */
export async function eventually(
  probe: () => Promise<boolean> | boolean,
  what: string,
  timeoutMs = 5_000,
): Promise<void> {
  for (const giveUpAt = performance.now() + timeoutMs; !(await probe()); ) {
    if (performance.now() > giveUpAt) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function memberOf(value: unknown, name: string): unknown {
  return isRecord(value) ? value[name] : undefined
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
