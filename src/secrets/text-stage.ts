// What the two stages that look at words instead of values have in common. Pure.

/** What takes the place of everything that is scrubbed. */
export const REDACTED = '[redacted]'

/** One thing that scrubs text, whole or as it comes. Indifferent to anything above ASCII, so Latin-1 views of UTF-8 may be given. */
export interface TextStage {
  text(whole: string): string
  stream(): TextStream
}

export interface TextStream {
  /** What may leave now. */
  push(piece: string): string
  /** What was held back, judged as if nothing followed. More may be pushed afterwards. */
  flush(): string
  /** Whether something is held back or the middle of a redaction is under way. */
  pending(): boolean
}

/** How much text a stage holds back while it waits for the end of a word. */
export const MAX_HELD = 4096

/** How far back a stage looks at text that has left already. */
export const LOOK_BEHIND = 32

/** `text[from..to)` with the spans replaced; spans are in order and apart. */
export function replaceSpans(text: string, spans: readonly number[], from: number, to: number): string {
  let out = ''
  let at = from
  for (let i = 0; i < spans.length; i += 2) {
    out += text.slice(at, spans[i]) + REDACTED
    at = spans[i + 1] ?? to
  }
  return out + text.slice(at, to)
}
