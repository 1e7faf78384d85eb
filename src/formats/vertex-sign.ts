// The credential of a call to Vertex AI: a token that the key of a service account signs for itself, an access token, or an
// API key. Pure: the time is passed in. Such a token stands in the place of one that would have to be asked for first.
// Source: AIP-4111 (self-signed JWT with a scope), RFC 7515 and 7519.

import { sign } from 'node:crypto'
import { isObject, parseObject } from '../bytes/json-value.ts'
import type { SignedCall } from './format.ts'

const SCOPE = 'https://www.googleapis.com/auth/cloud-platform'
/** An hour is the longest that is accepted. */
const LIFETIME_SECONDS = 3600
/** Tokens of one key begin at such steps, so that one of them does for many calls: a signature takes half a millisecond. */
const STEP_SECONDS = 600
/** Clocks differ. */
const SKEW_SECONDS = 60
/** Tokens that are remembered, at most. */
const MOST_TOKENS = 32

interface ServiceAccount {
  readonly email: string
  readonly privateKey: string
  readonly keyId: string | undefined
}

export interface VertexSigner {
  sign(call: Pick<SignedCall, 'key' | 'nowMs'>): readonly string[]
}

/** An API key of the express mode; all else that is no service account is an access token. */
const API_KEY = /^(?:AIza|AQ\.)/

/** Remembers nothing but what it would make again: the same key in the same minutes gives the same token. */
export function createVertexSigner(): VertexSigner {
  const tokens = new Map<string, string>()
  return {
    sign({ key, nowMs }) {
      if (API_KEY.test(key)) return ['x-goog-api-key', key]
      const account = toServiceAccount(key)
      if (account === undefined) return ['authorization', `Bearer ${key}`]
      const issued = Math.floor(nowMs / 1000 / STEP_SECONDS) * STEP_SECONDS - SKEW_SECONDS
      const place = `${issued}\n${account.email}\n${account.keyId ?? ''}\n${account.privateKey}`
      let token = tokens.get(place)
      if (token === undefined) {
        token = toToken(account, issued)
        tokens.set(place, token)
        for (const oldest of tokens.keys()) {
          if (tokens.size <= MOST_TOKENS) break
          tokens.delete(oldest)
        }
      }
      return ['authorization', `Bearer ${token}`]
    },
  }
}

/** What must not be seen of the file that holds a service account. */
export function secretPartsOfVertex(key: string): readonly string[] {
  const account = toServiceAccount(key)
  return account === undefined ? [] : [account.privateKey]
}

function toServiceAccount(key: string): ServiceAccount | undefined {
  const file = key.startsWith('{') ? parseObject(key) : undefined
  if (!isObject(file) || file.type !== 'service_account') return undefined
  const { client_email: email, private_key: privateKey, private_key_id: keyId } = file
  if (typeof email !== 'string' || typeof privateKey !== 'string') return undefined
  return { email, privateKey, keyId: typeof keyId === 'string' ? keyId : undefined }
}

/** A key that is none signs nothing: what is sent is refused as the wrong credential that it is. */
function toToken({ email, privateKey, keyId }: ServiceAccount, issued: number): string {
  const head = { alg: 'RS256', typ: 'JWT', ...(keyId !== undefined && { kid: keyId }) }
  const claims = { iss: email, sub: email, scope: SCOPE, iat: issued, exp: issued + LIFETIME_SECONDS }
  const text = `${encode(head)}.${encode(claims)}`
  try {
    return `${text}.${sign('sha256', Buffer.from(text), privateKey).toString('base64url')}`
  } catch {
    return `${text}.unsigned`
  }
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
