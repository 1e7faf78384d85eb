// Where the client's own bytes change for a deployment: a member rewritten where it stands, or added. Shared by the
// formats whose request is one JSON object with the model's name in it.

import { isSpace } from '../bytes/json-scan.ts'
import type { Edit } from '../bytes/splice.ts'
import type { ModelRequest, Span } from '../types.ts'

export interface Edits {
  /** Rewrites a member where it stands, or adds it in front of the others. */
  set(name: string, text: string): void
  /** Puts another member in the place of one that is there. */
  rename(name: string, to: string, text: string): void
  /** Takes a member out, with the comma that it leaves behind; there must be another. */
  remove(name: string): void
  /**
   * Caps the output. A server may read any spelling: each is capped where it stands, and the first is added where none
   * does.
   */
  capOutput(names: readonly [string, ...string[]], maxOutputTokens: number): void
  /** All of them, in no order. */
  readonly list: Edit[]
}

/** Read `list` once all are made. */
export function createEdits(request: ModelRequest): Edits {
  return new BodyEdits(request)
}

/** A class: there is one for each call, and most of them rewrite one member where it stands. */
class BodyEdits implements Edits {
  readonly list: Edit[] = []
  readonly #spans: ModelRequest['spans']
  readonly #body: Buffer | undefined

  constructor({ spans, body }: ModelRequest) {
    this.#spans = spans
    this.#body = body
  }

  set(name: string, text: string): void {
    const span = this.#spans.get(name)
    if (span !== undefined) this.list.push({ start: span.start, end: span.end, text })
    else if (this.#body !== undefined) {
      // There is always a member (`model`) behind the new ones.
      const front = this.#body.indexOf(OPEN_BRACE) + 1
      this.list.push({ start: front, end: front, text: `${JSON.stringify(name)}:${text},` })
    }
  }

  rename(name: string, to: string, text: string): void {
    const member = this.#memberAt(name)
    if (member === undefined) return
    this.list.push({ start: member.start, end: member.end, text: `${JSON.stringify(to)}:${text}` })
  }

  remove(name: string): void {
    const body = this.#body
    const member = this.#memberAt(name)
    if (member === undefined || body === undefined) return
    let { start, end } = member
    while (isSpace(body[end])) end += 1
    if (body[end] === COMMA) this.list.push({ start, end: end + 1, text: '' })
    else {
      while (isSpace(body[start - 1])) start -= 1
      this.list.push({ start: body[start - 1] === COMMA ? start - 1 : start, end: member.end, text: '' })
    }
  }

  capOutput(names: readonly [string, ...string[]], maxOutputTokens: number): void {
    const written = names.filter((name) => this.#spans.has(name))
    for (const name of written)
      if (isOver(this.#body, this.#spans.get(name), maxOutputTokens)) this.set(name, String(maxOutputTokens))
    if (written.length === 0) this.set(names[0], String(maxOutputTokens))
  }

  /** From its name to the end of its value. */
  #memberAt(name: string): Span | undefined {
    const span = this.#spans.get(name)
    const body = this.#body
    if (span === undefined || body === undefined) return undefined
    // Nothing but space stands between a name, its colon and its value; and in the name no quote, however it is spelled.
    const quote = body.lastIndexOf(QUOTE, body.lastIndexOf(COLON, span.start - 1))
    return { start: body.lastIndexOf(QUOTE, quote - 1), end: span.end }
  }
}

/** Whether a cap is missing (`null`) or above ours. */
function isOver(body: Buffer | undefined, span: Span | undefined, cap: number): boolean {
  const value = span === undefined ? Number.NaN : Number(body?.toString('latin1', span.start, span.end))
  return !(value <= cap)
}

export const OPEN_BRACE = 0x7b
const QUOTE = 0x22
const COLON = 0x3a
const COMMA = 0x2c
