// Reads server-sent events for the tests, written from the WHATWG rules and not from src/bytes, so that a mistake
// there is not repeated here.

/** One event as a client's parser dispatches it. */
export interface SseEvent {
  /** `message` when none was named. */
  readonly event: string
  readonly data: string
  readonly id: string | undefined
  /** Monotonic ms at which its last byte was read. */
  readonly atMs: number
}

export interface SseParser {
  push(bytes: Uint8Array): SseEvent[]
  /** Text of an event that no blank line has closed; '' at an orderly end. */
  rest(): string
  /** Comments so far, without the colon. */
  readonly comments: string[]
}

/** A parser for one stream, fed in any pieces. */
export function createSseParser(): SseParser {
  const decoder = new TextDecoder('utf-8')
  const comments: string[] = []
  let text = ''
  let name = ''
  let id: string | undefined
  let lines: string[] = []
  let open = ''
  let afterReturn = false

  const line = (content: string, into: SseEvent[]): void => {
    if (content === '') {
      if (lines.length > 0)
        into.push({ event: name || 'message', data: lines.join('\n'), id, atMs: performance.now() })
      name = ''
      lines = []
      open = ''
      return
    }
    open += `${content}\n`
    if (content.startsWith(':')) {
      comments.push(content.slice(1).trim())
      return
    }
    const colon = content.indexOf(':')
    const field = colon < 0 ? content : content.slice(0, colon)
    const value = colon < 0 ? '' : content.slice(colon + 1).replace(/^ /, '')
    if (field === 'data') lines.push(value)
    else if (field === 'event') name = value
    else if (field === 'id') id = value
  }
  return {
    push(bytes) {
      const events: SseEvent[] = []
      text += decoder.decode(bytes, { stream: true })
      for (;;) {
        // A carriage return ends the line at once; the other half of the pair may come with the next bytes.
        if (afterReturn && text !== '') {
          if (text.startsWith('\n')) text = text.slice(1)
          afterReturn = false
        }
        const end = /[\r\n]/.exec(text)
        if (!end) return events
        line(text.slice(0, end.index), events)
        text = text.slice(end.index + 1)
        afterReturn = end[0] === '\r'
      }
    },
    rest: () => open + text,
    comments,
  }
}

/** All events of a complete body. */
export function parseSse(body: Uint8Array | string): SseEvent[] {
  return createSseParser().push(typeof body === 'string' ? Buffer.from(body) : body)
}

/** Events as they come, for example of `response.body`. Throws what the stream throws. */
export async function* readSse(stream: AsyncIterable<Uint8Array> | null): AsyncGenerator<SseEvent> {
  const parser = createSseParser()
  for await (const bytes of stream ?? []) yield* parser.push(bytes)
}

/** What a chat stream said: joined text, finish reasons, usage, error, and whether `[DONE]` came. */
export interface ChatStreamSummary {
  readonly text: string
  readonly finishReasons: readonly string[]
  readonly usage: unknown
  readonly error: { readonly code?: unknown; readonly message?: unknown; readonly type?: unknown } | undefined
  readonly done: boolean
  /** The parsed chunks, without `[DONE]`. */
  readonly chunks: readonly Record<string, unknown>[]
}

/** Reads the events of an OpenAI chat stream. Throws on data that is no JSON object. */
export function summarizeChat(events: readonly SseEvent[]): ChatStreamSummary {
  const chunks: Record<string, unknown>[] = []
  const finishReasons: string[] = []
  let text = ''
  let usage: unknown
  let error: ChatStreamSummary['error']
  let done = false
  for (const { data } of events) {
    if (data === '[DONE]') {
      done = true
      continue
    }
    const chunk: unknown = JSON.parse(data)
    if (!isRecord(chunk)) throw new Error(`no JSON object in a frame: ${data}`)
    chunks.push(chunk)
    if (isRecord(chunk.usage)) usage = chunk.usage
    if (isRecord(chunk.error)) error = chunk.error
    for (const choice of Array.isArray(chunk.choices) ? chunk.choices : []) {
      if (!isRecord(choice)) continue
      if (isRecord(choice.delta) && typeof choice.delta.content === 'string') text += choice.delta.content
      if (typeof choice.finish_reason === 'string') finishReasons.push(choice.finish_reason)
    }
  }
  return { text, finishReasons, usage, error, done, chunks }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
