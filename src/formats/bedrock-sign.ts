// The credential of a call to Bedrock: a signature (AWS Signature Version 4), or an API key as it is. Pure: the time is
// passed in. One secret holds it all: `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, with `:SESSION_TOKEN` behind it where it is
// temporary, or a Bedrock API key (what AWS_BEARER_TOKEN_BEDROCK holds).

import { createRequire } from 'node:module'
import type { SignedCall } from './format.ts'

interface Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

const load = createRequire(import.meta.url)

/** An API key has no colon in it, and no access key id in front. */
const SIGNING = /^([A-Z0-9]{16,128}):([^:]+)(?::([^:]+))?$/

export function toCredentials(key: string): Credentials | undefined {
  const [, accessKeyId, secretAccessKey, sessionToken] = SIGNING.exec(key.trim()) ?? []
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined
  return { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) }
}

/** Only the host, the content type and the date are signed: what else is added on the way breaks nothing. */
export function signBedrock({
  method,
  url,
  headers,
  body,
  key,
  nowMs,
  options,
}: SignedCall): readonly string[] {
  const credentials = toCredentials(key)
  if (credentials === undefined) return ['authorization', `Bearer ${key.trim()}`]
  const { host, pathname, search } = new URL(url)
  const type = headers[headers.indexOf('content-type') + 1]
  const request = {
    method,
    host,
    path: `${pathname}${search}`,
    service: 'bedrock',
    region: options.region ?? regionOf(host),
    headers: {
      host,
      ...(headers.includes('content-type') && type !== undefined && { 'content-type': type }),
      'x-amz-date': toAmzDate(nowMs),
      ...(credentials.sessionToken !== undefined && { 'x-amz-security-token': credentials.sessionToken }),
    },
    body: Buffer.from(body.buffer, body.byteOffset, body.byteLength),
    // It is added by the signer, and told elsewhere.
    extraHeadersToIgnore: { 'content-length': true },
  }
  // Not at the start, which would wait for it whoever the providers are.
  const aws4: typeof import('aws4') = load('aws4')
  const signed = aws4.sign(request, credentials)
  const told: string[] = []
  for (const [name, value] of Object.entries(signed.headers ?? {})) {
    const lower = name.toLowerCase()
    if (!TOLD_ELSEWHERE.has(lower)) told.push(lower, String(value))
  }
  return told
}

const TOLD_ELSEWHERE: ReadonlySet<string> = new Set(['host', 'content-type', 'content-length'])

/** What must not be seen of a key that holds several secrets. */
export function secretPartsOf(key: string): readonly string[] {
  const credentials = toCredentials(key)
  if (credentials === undefined) return []
  const { secretAccessKey, sessionToken } = credentials
  return sessionToken === undefined ? [secretAccessKey] : [secretAccessKey, sessionToken]
}

/** `20261126T040000Z` */
function toAmzDate(nowMs: number): string {
  return new Date(nowMs).toISOString().replace(/[:-]|\.\d{3}/g, '')
}

/** `bedrock-runtime.eu-central-1.amazonaws.com`; endpoints of another name must be told the region. */
function regionOf(host: string): string {
  return /^bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\./.exec(host)?.[1] ?? 'us-east-1'
}
