// What a model sealed, in the one place that a Responses conversation has for it: `encrypted_content` of a reasoning
// item, which clients bring back as it is. Seals that go through another format are marked, so that they are known again
// and are never shown to a provider that did not make them.

import type { Seal } from './canonical.ts'

/** Name of the format whose own seals they are. */
export const RESPONSES = 'responses'

/** Starts every seal that was written here. No base64 has a dot. */
export const MARK = 'sluice.'

/** `redacted`: nothing but the seal may be shown. `call`: it belongs to the call behind it. */
export type SealOf = 'thought' | 'redacted' | 'call'

/** For a caller: to be brought back as it is. */
export function markSeal({ origin, value }: Seal, of: SealOf): string {
  return `${MARK}${of}.${origin}.${value}`
}

/** From a caller; `of` undefined for what has no mark and is a provider's own. It only opens under the id of its item. */
export function readSeal(
  text: string,
  id: string | undefined,
): { readonly seal: Seal; readonly of: SealOf | undefined } {
  const [whole = '', of, origin = ''] = MARKED.exec(text) ?? []
  if (whole === '') return { seal: joinSeal(text, id), of: undefined }
  const seal = { origin, value: text.slice(whole.length) }
  return { seal, of: of === 'call' || of === 'redacted' ? of : 'thought' }
}

/** From a provider. */
export function joinSeal(text: string, id: string | undefined): Seal {
  return { origin: RESPONSES, value: `${id ?? ''}${ID_END}${text}` }
}

/** For the provider that made it: what it encrypted, and the id of the item that held it. */
export function splitSeal({ value }: Seal): { readonly id: string | undefined; readonly text: string } {
  const at = value.indexOf(ID_END)
  return { id: at > 0 ? value.slice(0, at) : undefined, text: value.slice(at + 1) }
}

const ID_END = '|'
const MARKED = /^sluice\.(thought|redacted|call)\.([a-z0-9_-]+)\./
