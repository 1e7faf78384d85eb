import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { createScrubber } from '../../../src/secrets/scrubber.ts'
import { createScrubbedWritable } from '../../../src/secrets/sink.ts'
import { leakShapes } from '../../support/leak-shapes.ts'

const CANARIES = {
  'a vendor key': 'sk-ant-api03-Q7w_8Rk2Tz-vB4nM6xL1pY9cD3fG5hJ0sA2eU8iO4qW7-rT6yK1mN3bV5zX9cL2',
  'hex digits': '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
  'base64 with its special characters': 'Zm9+/WJhci9/+3F1dXg+Pz8/L2FiYw==',
  'everything that is escaped': `p@ss/w+rd?&=#%20"q"'a'\\b<t>~!*()|{x}`,
  'letters beyond ASCII': 'pässwörd-ключ-鍵-🔑-ende',
  'eight characters': 'k3yXq9Zw',
  'a short word': 'hunter2hunter2',
}

const ENCODINGS: Record<string, (secret: string) => string> = {
  raw: (secret) => secret,
  base64: (secret) => Buffer.from(secret).toString('base64'),
  base64url: (secret) => Buffer.from(secret).toString('base64url'),
  'URL-encoded': (secret) => encodeURIComponent(secret),
  hex: (secret) => Buffer.from(secret).toString('hex'),
}

/** What must not be seen, spelled out here and not taken from the code under test. */
function spellings(secret: string): string[] {
  const bytes = Buffer.from(secret)
  const found = [
    secret,
    encodeURIComponent(secret),
    bytes.toString('hex'),
    bytes.toString('hex').toUpperCase(),
  ]
  for (const before of ['', '\0', '\0\0']) {
    const blob = Buffer.from(before + secret).toString('base64')
    const inner = blob.slice(
      before.length === 0 ? 0 : 4,
      Math.floor(((before.length + bytes.length) * 8) / 6),
    )
    if (inner.length >= 8) found.push(inner, inner.replaceAll('+', '-').replaceAll('/', '_'))
  }
  const once = JSON.stringify(secret).slice(1, -1)
  found.push(once, JSON.stringify(once).slice(1, -1), bytes.join(','))
  found.push(
    [...bytes]
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join(' ')
      .slice(0, 149),
  )
  return found
}

function hits(output: string, secret: string): string[] {
  return spellings(secret).filter((spelling) => output.includes(spelling))
}

describe('leak shapes through pino', () => {
  it('has at least the 26 shapes of the reliability page, each named once', () => {
    expect(new Set(leakShapes.map((shape) => shape.name)).size).toBe(leakShapes.length)
    expect(leakShapes.length).toBeGreaterThanOrEqual(26)
  })

  it('are all real: each shows the secret in some spelling when nothing scrubs', () => {
    const secret = CANARIES['a vendor key']
    const silent = leakShapes.filter((shape) => {
      let output = ''
      const logger = pino({ base: null }, { write: (line: string) => void (output += line) })
      shape.log(logger, secret)
      return hits(output, secret).length === 0
    })
    expect(silent.map((shape) => shape.name)).toEqual([])
  })

  describe.each(Object.entries(CANARIES))('with %s', (_, canary) => {
    it.each(Object.entries(ENCODINGS))('shows nothing of a secret that is %s', (_, encode) => {
      const leaked: string[] = []
      const untouched: string[] = []
      for (const shape of leakShapes) {
        const scrubber = createScrubber()
        scrubber.setSecrets(Object.values(CANARIES))
        let output = ''
        const sink = createScrubbedWritable((text) => void (output += text), scrubber)
        shape.log(pino({ base: null }, sink), encode(canary), (text) => sink.write(text))
        sink.flushSync()
        if (hits(output, canary).length > 0) leaked.push(`${shape.name}: ${output}`)
        if (!output.includes('[redacted]')) untouched.push(shape.name)
      }
      expect(leaked).toEqual([])
      // A secret that an encoder meets already encoded is twice encoded, which nobody can find by value.
      const twice = /^(?:base64|hex|Buffer|URL-encoded|form|URL object)/
      expect(untouched.filter((name) => encode(canary) === canary || !twice.test(name))).toEqual([])
    })

    it('shows nothing when every line comes in pieces', () => {
      const leaked: string[] = []
      for (const shape of leakShapes) {
        for (const size of [1, 2, 3, 7, 16]) {
          const scrubber = createScrubber()
          scrubber.setSecrets([canary])
          const stream = scrubber.stream()
          const pieces: Buffer[] = []
          const push = (line: string) => {
            const bytes = Buffer.from(line)
            for (let i = 0; i < bytes.length; i += size) pieces.push(stream.push(bytes.subarray(i, i + size)))
          }
          shape.log(pino({ base: null }, { write: push }), canary, push)
          pieces.push(stream.flush())
          const output = Buffer.concat(pieces).toString()
          if (hits(output, canary).length > 0) leaked.push(`${shape.name} by ${size}: ${output}`)
        }
      }
      expect(leaked).toEqual([])
    })
  })
})
