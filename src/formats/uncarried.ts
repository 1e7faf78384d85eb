// Members of a chat request that a provider's format has no place for: which of them do no harm, and which would make the
// answer another one than was asked for. Shared by the writers of formats that know less than chat.

import { isObject } from '../bytes/json-value.ts'
import type { ChatRequest, Part } from './canonical.ts'
import type { Asked } from './format.ts'
import { refuse } from './members.ts'
import { hasQuirk } from './quirks.ts'

/** What nobody relies on, by the name that chat has for it. */
const HARMLESS = {
  seed: 'seed',
  presencePenalty: 'presence_penalty',
  frequencyPenalty: 'frequency_penalty',
  topK: 'top_k',
  verbosity: 'verbosity',
  user: 'user',
  cacheKey: 'prompt_cache_key',
  serviceTier: 'service_tier',
  metadata: 'metadata',
} as const satisfies Partial<Record<keyof ChatRequest, string>>

export type Harmless = keyof typeof HARMLESS

/** What is told as left out: all that is there and not `carried`, and what only chat itself has a place for. */
export function listDropped(request: ChatRequest, carried: readonly Harmless[]): string[] {
  const members = Object.keys(HARMLESS).filter(isHarmless)
  return [
    ...members
      .filter((member) => request[member] !== undefined && !carried.includes(member))
      .map((member) => HARMLESS[member]),
    ...(request.messages.some((message) => message.role === 'user' && message.name !== undefined)
      ? ['messages.name']
      : []),
    ...Object.keys(request.extra),
  ]
}

function isHarmless(name: string): name is Harmless {
  return Object.hasOwn(HARMLESS, name)
}

/** @throws GatewayError `invalid_request` where more than one answer is asked for. */
export function refuseChoices({ choices }: ChatRequest): void {
  if (choices > 1) throw refuse('n', 'This deployment gives one answer to a request: "n" must be 1.')
}

/** @throws GatewayError `invalid_request` where pictures are asked for. */
export function refusePictures({ extra: { modalities } }: ChatRequest): void {
  if (Array.isArray(modalities) && modalities.includes('image'))
    throw refuse('modalities', 'This deployment answers in text: it has no pictures.')
}

/** For formats whose assistant shows nothing: pictures that it has shown are left out, and told. */
export function withoutOwnPictures(request: ChatRequest): {
  readonly request: ChatRequest
  readonly lost: readonly string[]
} {
  if (!request.messages.some(({ role, content }) => role === 'assistant' && content.some(isPicture)))
    return { request, lost: [] }
  const messages = request.messages.map((message) =>
    message.role === 'assistant'
      ? { ...message, content: message.content.filter((part) => !isPicture(part)) }
      : message,
  )
  return { request: { ...request, messages }, lost: ['messages.images'] }
}

function isPicture({ type }: Part): boolean {
  return type === 'image'
}

/** @throws GatewayError `invalid_request` where sound is asked for. */
export function refuseSound({ extra: { audio, modalities } }: ChatRequest): void {
  const asked = Array.isArray(modalities) && modalities.includes('audio')
  if (asked || isObject(audio))
    throw refuse(asked ? 'modalities' : 'audio', 'This deployment answers in text: it has no sound.')
}

/**
 * The vendor reads them with the rights of the account, which many agents share: a caller would see what is not its own.
 *
 * @throws GatewayError `invalid_request` where a file of a bucket is named and the provider is not configured to read it.
 */
export function refuseBuckets({ messages }: ChatRequest, { options }: Asked): void {
  if (hasQuirk(options, 'bucket-files')) return
  for (const { content } of messages)
    if (content.some(isInBucket))
      throw refuse(
        'messages',
        'A file in a bucket would be read with an account that many agents share: send the file itself.',
      )
}

function isInBucket(part: Part): boolean {
  if ((part.type !== 'image' && part.type !== 'file') || part.source.kind === 'base64') return false
  return BUCKET.test(part.source.kind === 'url' ? part.source.url : part.source.id)
}

const BUCKET = /^\s*(?:s3|gs):/i
