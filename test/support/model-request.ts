// A request as formats see it while bytes pass, from a body alone: for tests of a format that need no HTTP.

import { scanObject } from '../../src/bytes/json-scan.ts'
import { splice } from '../../src/bytes/splice.ts'
import type { Asked, ProviderSide } from '../../src/formats/format.ts'
import type { ModelRequest } from '../../src/types.ts'

/** @throws Error where the body is no JSON object */
export function toModelRequest(text: string, format: string): ModelRequest {
  const body = Buffer.from(text)
  const scan = scanObject(body)
  if (!scan.ok) throw new Error(scan.message)
  const sent: unknown = JSON.parse(text)
  const member = (name: string): unknown =>
    typeof sent === 'object' && sent !== null && name in sent ? Reflect.get(sent, name) : undefined
  return {
    endpoint: { method: 'POST', path: `/${format}`, operation: 'chat', format, streams: true },
    model: String(member('model')),
    stream: member('stream') === true,
    includeUsage: false,
    maxOutputTokens: undefined,
    choices: 1,
    plainText: false,
    textBytes: body.length,
    images: 0,
    cacheKey: undefined,
    body,
    letGo: () => {},
    spans: scan.members,
    restrictedFields: [],
    forwarded: [],
  }
}

/** The bytes that a provider of the same format gets. */
export function toSentBytes(
  { edits }: Pick<ProviderSide, 'edits'>,
  request: ModelRequest,
  asked: Asked,
): string {
  if (request.body === undefined) throw new Error('the body is gone')
  const list = edits(request, asked).sort((a, b) => a.start - b.start)
  const { body } = splice(request.body, list)
  if (!Buffer.isBuffer(body)) throw new Error('the body is too large for this')
  return body.toString()
}
