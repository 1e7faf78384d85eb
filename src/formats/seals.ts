// How a thought of one format travels through another that has one opaque text for it (Messages' `signature`): packed
// behind a mark of ours, so that it comes back to the format that sealed it and is never taken for a signature by
// anybody else. Pure; knows no wire.

import type { Seal } from './canonical.ts'

/** No signature of a vendor begins so: theirs are base64, which has no colon. */
export const SEAL_MARK = 'sluice:'

/** Bytes as text, in either alphabet, padded or not (RFC 4648). */
export function isBase64(text: string): boolean {
  return BASE64.test(text) && text.replace(PADDING, '').length % 4 !== 1
}

const BASE64 = /^[\w+/-]+={0,2}$/
const PADDING = /=+$/

/** What was sealed: the thought itself, or the call of a tool behind it (Gemini signs those). */
export interface Packed {
  readonly of: 'thought' | 'call'
  /** Undefined where the thought came without one. */
  readonly sealed: Seal | undefined
}

const CALL = 'call'

/** `native` is the format whose own seals stand as they are. */
export function packSeal({ of, sealed }: Packed, native: string): string {
  if (sealed?.origin === native && of === 'thought') return sealed.value
  const { origin, value } = sealed ?? { origin: '', value: '' }
  return `${SEAL_MARK}${of === 'call' ? CALL : ''}:${origin}:${value}`
}

/** What such a text says; without our mark it is the seal of `native`, and '' is none. */
export function unpackSeal(text: string, native: string): Packed {
  if (!text.startsWith(SEAL_MARK))
    return { of: 'thought', sealed: text === '' ? undefined : { origin: native, value: text } }
  const kindEnd = text.indexOf(':', SEAL_MARK.length)
  const originEnd = text.indexOf(':', kindEnd + 1)
  // Cut or made up by somebody: nothing that a provider could check.
  if (kindEnd < 0 || originEnd < 0) return { of: 'thought', sealed: undefined }
  const origin = text.slice(kindEnd + 1, originEnd)
  const of = text.slice(SEAL_MARK.length, kindEnd) === CALL ? 'call' : 'thought'
  // A format's own stand without our mark: what says otherwise was made up.
  const isNone = origin === '' || (of === 'thought' && origin === native)
  const sealed = isNone ? undefined : { origin, value: text.slice(originEnd + 1) }
  return { of, sealed }
}
