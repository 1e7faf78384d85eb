// Images and files as OpenAI's formats give them: by an address that may hold the bytes themselves (RFC 2397).

import type { Source } from './canonical.ts'

const DATA_URL = /^data:([^;,]*)((?:;[^;,]*)*?)(;base64)?,/i

/** An address that is, or holds, an image or a file. `fallbackType` where the bytes come without a media type. */
export function toSource(url: string, fallbackType = 'application/octet-stream'): Source {
  const head = DATA_URL.exec(url)
  if (head === null) return { kind: 'url', url, mediaType: undefined }
  const mediaType = head[1] === undefined || head[1] === '' ? fallbackType : toMediaType(head[1])
  const rest = url.slice(head[0].length)
  if (head[3] !== undefined) return { kind: 'base64', mediaType, base64: rest }
  return { kind: 'base64', mediaType, base64: Buffer.from(unescapeText(rest)).toString('base64') }
}

/** As vendors compare it; many callers write the ending of a file, which several refuse. */
export function toMediaType(told: string): string {
  const type = told.toLowerCase()
  return type === 'image/jpg' ? 'image/jpeg' : type
}

/** The other way; a file in a provider's account has no address. */
export function toUrl(source: Source): string | undefined {
  if (source.kind === 'url') return source.url
  if (source.kind === 'base64') return `data:${source.mediaType};base64,${source.base64}`
  return undefined
}

function unescapeText(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
