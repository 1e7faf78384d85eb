// Pictures in answers: how chat carries them, which has no word of its own for it, and what stands for one where the format
// of the caller has no place. Pure. Source: OpenRouter's and Vercel's pages on image generation over chat completions, and
// what LiteLLM writes (`index`).

import { isObject } from '../bytes/json-value.ts'
import type { Part, Source } from './canonical.ts'
import { toSource, toUrl } from './sources.ts'

/** Of `images` in a message or a delta of chat. */
export interface ChatPicture {
  readonly type: 'image_url'
  readonly image_url: { readonly url: string | undefined }
  /** Among those of the choice: SDKs that put deltas together tell the entries of a list apart by it. */
  readonly index: number
}

export function toChatPicture(source: Source, index: number): ChatPicture {
  return { type: 'image_url', image_url: { url: toUrl(source) }, index }
}

/** What `images` of a message, or of a delta, shows. */
export function readChatPictures(images: unknown): Source[] {
  const list: readonly unknown[] = Array.isArray(images) ? images : []
  return list.flatMap((one) => {
    const inner = isObject(one) ? one.image_url : undefined
    const url = isObject(inner) ? inner.url : inner
    return typeof url === 'string' && url !== '' ? [toSource(url, PNG)] : []
  })
}

export function toPicture(source: Source): Part {
  return { type: 'image', source, detail: undefined }
}

/** Stands for a picture where there is no place for one: whoever reads the answer knows that it is there. */
export function pictureNote(source: Source): string {
  if (source.kind === 'url') return `[A picture is part of this answer: ${source.url}]`
  const type = source.kind === 'base64' ? ` (${source.mediaType})` : ''
  return `[A picture${type} is part of this answer, and cannot be shown here.]`
}

const PNG = 'image/png'

/** First characters of the formats that pictures come in. */
const BEGINNINGS: readonly (readonly [base64: string, mediaType: string])[] = [
  ['/9j/', 'image/jpeg'],
  ['UklGR', 'image/webp'],
  ['R0lGOD', 'image/gif'],
]

/** Where nobody says what the bytes are. */
export function typeOfBase64(base64: string): string {
  return BEGINNINGS.find(([beginning]) => base64.startsWith(beginning))?.[1] ?? PNG
}
