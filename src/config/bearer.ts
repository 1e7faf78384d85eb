// Bearers that sluice makes: a prefix that scanners know, random characters, and a checksum, so that a mistyped one
// is refused without a look-up. Pure: randomness is handed in, nothing is stored.

import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'

export const BEARER_PREFIX = 'sk-sluice-'

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
/** 30 × log2(62) = 178.6 random bits. */
const RANDOM_CHARACTERS = 30
/** 62^6 > 2^32, so any CRC-32 fits. */
const CHECKSUM_CHARACTERS = 6
/** Largest multiple of 62 that a byte can count to; what lies above would favour the first characters. */
const UNBIASED_BELOW = 248
const BODY = new RegExp(`^[${BASE62}]{${RANDOM_CHARACTERS + CHECKSUM_CHARACTERS}}$`)

/**
 * A new bearer: `sk-sluice-`, 30 random base62 characters, 6 base62 characters of CRC-32 over everything before.
 * @param randomBytes gives that many bytes from a cryptographic source
 */
export function mintBearer(randomBytes: (count: number) => Uint8Array): string {
  let random = ''
  while (random.length < RANDOM_CHARACTERS) {
    for (const byte of randomBytes(RANDOM_CHARACTERS)) {
      if (byte >= UNBIASED_BELOW || random.length === RANDOM_CHARACTERS) continue
      random += BASE62.charAt(byte % 62)
    }
  }
  const start = BEARER_PREFIX + random
  return start + checksum(start)
}

/** Whether sluice's checksum is to be looked at; a bearer of any other make has none. */
export function hasSluicePrefix(text: string): boolean {
  return text.startsWith(BEARER_PREFIX)
}

/** Whether `text` is whole and unaltered as `mintBearer` made it; says nothing of whether anybody knows it. */
export function checksumIsRight(text: string): boolean {
  if (!hasSluicePrefix(text) || !BODY.test(text.slice(BEARER_PREFIX.length))) return false
  return text.slice(-CHECKSUM_CHARACTERS) === checksum(text.slice(0, -CHECKSUM_CHARACTERS))
}

/** Lower-case hex SHA-256 of a whole bearer: what a policy file holds. */
export function bearerSha256(bearer: string): string {
  return createHash('sha256').update(bearer).digest('hex')
}

function checksum(start: string): string {
  let rest = crc32(start)
  let text = ''
  for (let place = 0; place < CHECKSUM_CHARACTERS; place++) {
    text = BASE62.charAt(rest % 62) + text
    rest = Math.floor(rest / 62)
  }
  return text
}

/** A text without the bearer that a caller presented: what they wrote elsewhere too is not told either. */
export function withoutBearer(text: string, bearer: string | undefined): string {
  if (bearer === undefined || bearer.length < 8 || text.length < bearer.length || !text.includes(bearer))
    return text
  return text.replaceAll(bearer, '[redacted]')
}
