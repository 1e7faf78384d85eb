// Certificates for servers of the tests, made here and now: a P-256 key and the few DER structures of RFC 5280 that
// a server on loopback needs. No openssl and no package: the tests must not depend on what a machine happens to have.

import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { isIP } from 'node:net'

export interface Authority {
  /** Its own certificate, PEM. */
  readonly ca: string
  /** A certificate for these host names and addresses, PEM with its key. Valid since yesterday, for ten days. */
  issue(...names: string[]): { readonly cert: string; readonly key: string }
}

/** A new authority that nobody trusts unless told. */
export function createAuthority(name = 'sluice tests'): Authority {
  const own = newKey()
  const ca = certificate({
    issuer: name,
    issuerKey: own,
    subject: name,
    subjectKey: own,
    names: [],
    isCa: true,
  })
  return {
    ca,
    issue(...names) {
      const key = newKey()
      const subject = names[0] ?? 'server'
      return {
        cert: certificate({ issuer: name, issuerKey: own, subject, subjectKey: key, names, isCa: false }),
        key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
      }
    },
  }
}

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
}

interface Wanted {
  readonly issuer: string
  readonly issuerKey: KeyObject
  readonly subject: string
  readonly subjectKey: KeyObject
  readonly names: readonly string[]
  readonly isCa: boolean
}

function certificate({ issuer, issuerKey, subject, subjectKey, names, isCa }: Wanted): string {
  const now = Date.now()
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'))
  const extensions = [
    extension('2.5.29.19', true, sequence(...(isCa ? [der(0x01, Buffer.of(0xff))] : []))),
    // keyUsage: keyCertSign for an authority, digitalSignature for a server.
    extension('2.5.29.15', true, der(0x03, isCa ? Buffer.of(2, 0x04) : Buffer.of(7, 0x80))),
    ...(names.length === 0 ? [] : [extension('2.5.29.17', false, sequence(...names.map(alternative)))]),
  ]
  const body = sequence(
    der(0xa0, integer(Buffer.of(2))),
    integer(Buffer.concat([Buffer.of(1), randomBytes(15)])),
    algorithm,
    distinguished(issuer),
    sequence(time(now - 86_400_000), time(now + 10 * 86_400_000)),
    distinguished(subject),
    createPublicKey(subjectKey).export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  )
  const signature = der(0x03, Buffer.concat([Buffer.of(0), sign('sha256', body, issuerKey)]))
  const lines = sequence(body, algorithm, signature)
    .toString('base64')
    .match(/.{1,64}/g)
  return `-----BEGIN CERTIFICATE-----\n${lines?.join('\n')}\n-----END CERTIFICATE-----\n`
}

function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  const { length } = content
  const size =
    length < 0x80
      ? Buffer.of(length)
      : length < 0x100
        ? Buffer.of(0x81, length)
        : Buffer.of(0x82, length >> 8, length & 0xff)
  return Buffer.concat([Buffer.of(tag), size, content])
}

function sequence(...parts: Buffer[]): Buffer {
  return der(0x30, ...parts)
}

function integer(bytes: Buffer): Buffer {
  return der(0x02, bytes)
}

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const part of rest) {
    const digits = [part & 0x7f]
    for (let left = part >> 7; left > 0; left >>= 7) digits.unshift((left & 0x7f) | 0x80)
    bytes.push(...digits)
  }
  return der(0x06, Buffer.from(bytes))
}

function distinguished(commonName: string): Buffer {
  return sequence(der(0x31, sequence(oid('2.5.4.3'), der(0x0c, Buffer.from(commonName)))))
}

function time(ms: number): Buffer {
  const text = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '')
  return der(0x17, Buffer.from(text.slice(2)))
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  return sequence(oid(id), ...(critical ? [der(0x01, Buffer.of(0xff))] : []), der(0x04, value))
}

/** subjectAltName: an address as its four bytes, anything else as a DNS name. */
function alternative(name: string): Buffer {
  return isIP(name) === 4 ? der(0x87, Buffer.from(name.split('.').map(Number))) : der(0x82, Buffer.from(name))
}
