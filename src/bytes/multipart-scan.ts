// Finds the parts of a `multipart/form-data` body (RFC 7578, RFC 2046 §5.1) where they stand, so that one of them can be
// rewritten and the rest goes on as it came. Knows bytes, nothing of models or HTTP. What two parsers could read in two ways
// is refused: a part without a name, two ways of saying it, a name that is written with escapes, a boundary where only some
// look for one.

import type { Span } from '../types.ts'

export interface FormPart {
  readonly name: string
  /** It has a file name, which is what makes it a file. */
  readonly isFile: boolean
  /** Of its content. */
  readonly span: Span
}

export type FormScan =
  | { readonly ok: true; readonly parts: readonly FormPart[] }
  | { readonly ok: false; readonly fault: 'invalid' | 'ambiguous'; readonly message: string }

/** More parts than any form of an API has. */
export const MOST_PARTS = 256
/** Longest head of one part, in bytes. */
export const LONGEST_PART_HEAD = 4096

const LINE_END = Buffer.from('\r\n')
const HEAD_END = Buffer.from('\r\n\r\n')
const DASHES = Buffer.from('--')
const LINE_FEED = 0x0a
const RETURN = 0x0d
/** RFC 2046: 1 to 70 of these, the last one no space. */
const BOUNDARY = /^[\w'()+,\-./:=? ]{0,69}[\w'()+,\-./:=?]$/

/** The boundary that a content type names, or undefined where it is no form or names none. */
export function boundaryOf(contentType: string): string | undefined {
  const match = /^multipart\/form-data\s*((?:;\s*[^;]*)*)$/i.exec(contentType.trim())
  const named = [...(match?.[1] ?? '').matchAll(/;\s*boundary=(?:"([^"\\]*)"|([^\s";]+))\s*(?=;|$)/gi)]
  const [one] = named
  const boundary = one?.[1] ?? one?.[2] ?? ''
  // Python's reader takes `boundary =` for it too, and that of Go `boundary*=` (RFC 2231).
  const meant = [...contentType.matchAll(/;\s*boundary[\s*\d]*=/gi)]
  return named.length === 1 && meant.length === 1 && BOUNDARY.test(boundary) ? boundary : undefined
}

/** Scans a whole body. */
export function scanForm(body: Buffer, boundary: string): FormScan {
  const delimiter = Buffer.from(`--${boundary}`)
  const between = Buffer.concat([LINE_END, delimiter])
  if (hasBareBoundary(body, delimiter))
    return { ok: false, fault: 'ambiguous', message: 'a boundary stands behind a bare line feed' }
  let at = 0
  // What stands before the first delimiter is for readers that know no forms.
  if (!body.subarray(0, delimiter.length).equals(delimiter)) {
    at = body.indexOf(between)
    if (at < 0) return invalid('the body has no part between the boundaries that its content type names')
    at += LINE_END.length
  }
  const parts: FormPart[] = []
  for (;;) {
    at += delimiter.length
    if (body.subarray(at, at + 2).equals(DASHES)) return isOver(body, at + 2, between) ?? { ok: true, parts }
    // Spaces may stand behind a boundary.
    while (body[at] === 0x20 || body[at] === 0x09) at += 1
    if (!body.subarray(at, at + 2).equals(LINE_END))
      return invalid('a boundary is not at the end of its line')
    if (parts.length === MOST_PARTS) return invalid(`there are more than ${MOST_PARTS} parts`)
    const headEnd = body.subarray(at, at + LONGEST_PART_HEAD).indexOf(HEAD_END)
    if (headEnd < 0) return invalid('the head of a part does not end, or is too long')
    const head = body.toString('utf8', at + 2, Math.max(at + 2, at + headEnd))
    const start = at + headEnd + HEAD_END.length
    // The line end in front of the boundary may be the one that ended the head: then the content is empty.
    const end = body.indexOf(between, start - LINE_END.length)
    if (end < 0) return invalid('the last part does not end')
    const read = readHead(head)
    if (typeof read === 'string') return { ok: false, fault: 'ambiguous', message: read }
    parts.push({ ...read, span: { start: Math.min(start, Math.max(end, start)), end: Math.max(end, start) } })
    at = end + LINE_END.length
  }
}

/** Readers that go by lines without regard to how they end (Go's, aiohttp's) would begin a part there, and others none. */
function hasBareBoundary(body: Buffer, delimiter: Buffer): boolean {
  const line = Buffer.concat([Buffer.of(LINE_FEED), delimiter])
  for (let at = body.indexOf(line); at >= 0; at = body.indexOf(line, at + line.length))
    if (body[at - 1] !== RETURN) return true
  return false
}

/** What is wrong behind the last boundary: something on its line makes it none for some, and others read on behind it. */
function isOver(body: Buffer, from: number, between: Buffer): FormScan | undefined {
  let at = from
  while (body[at] === 0x20 || body[at] === 0x09) at += 1
  if (at < body.length && !body.subarray(at, at + 2).equals(LINE_END))
    return invalid('the last boundary is not at the end of its line')
  return body.indexOf(between, from) < 0
    ? undefined
    : { ok: false, fault: 'ambiguous', message: 'a boundary stands behind the last one' }
}

/** Name and kind of a part, or why its head cannot be read in one way only. */
function readHead(head: string): { readonly name: string; readonly isFile: boolean } | string {
  let disposition: string | undefined
  for (const line of head === '' ? [] : head.split('\r\n')) {
    const colon = line.indexOf(':')
    if (colon <= 0 || /[\s\0]/.test(line.slice(0, colon))) return 'a line in the head of a part is no header'
    const name = line.slice(0, colon).toLowerCase()
    const value = line.slice(colon + 1).trim()
    // RFC 7578 §4.7: nobody sends it, and whoever reads it reads another content.
    if (name === 'content-transfer-encoding' && !/^(?:7bit|8bit|binary)$/i.test(value))
      return 'a part is encoded (content-transfer-encoding)'
    if (name !== 'content-disposition') continue
    if (disposition !== undefined) return 'a part has two content-disposition headers'
    disposition = value
  }
  if (disposition === undefined) return 'a part has no content-disposition header'
  const [kind = '', ...rest] = disposition.split(';')
  if (kind.trim().toLowerCase() !== 'form-data') return 'a part is no form-data'
  let name: string | undefined
  let isFile = false
  let read = 0
  const parameters = rest.map((one) => `;${one}`).join('')
  for (const match of parameters.matchAll(/;\s*([^\s=;"]*)\s*(?:=\s*("(?:[^"\\]|\\.)*"\s*|[^;"]*))?/g)) {
    if (match.index !== read) break
    read += match[0].length
    const key = (match[1] ?? '').toLowerCase()
    const value = (match[2] ?? '').trim()
    if (key === 'name') {
      if (name !== undefined) return 'a part has two names'
      // .NET writes a name without quotes where it is a token.
      name = /^(?:"([\w.[\]-]{1,128})"|([\w.-]{1,128}))$/.exec(value)?.slice(1).find(isThere)
      if (name === undefined) return NOT_PLAIN
    } else if (key === 'name*') return NOT_PLAIN
    else if (key === 'filename' || key === 'filename*') isFile = true
  }
  if (read < parameters.length) return 'a content-disposition header cannot be read to its end'
  return name === undefined ? 'a part has no name' : { name, isFile }
}

const NOT_PLAIN = 'the name of a part must be plain'

function isThere(group: string | undefined): group is string {
  return group !== undefined
}

function invalid(message: string): FormScan {
  return { ok: false, fault: 'invalid', message }
}
