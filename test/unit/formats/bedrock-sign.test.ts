// Signatures of calls to Bedrock, against AWS's own signer.

import { createHash, createHmac } from 'node:crypto'
import { SignatureV4 } from '@smithy/signature-v4'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bedrock } from '../../../src/formats/bedrock.ts'
import { secretPartsOf, signBedrock } from '../../../src/formats/bedrock-sign.ts'
import type { SignedCall } from '../../../src/formats/format.ts'

const ID = 'AKIDEXAMPLE123456789'
const SECRET = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY'
const TOKEN = 'IQoJb3JpZ2luX2VjEXAMPLE//TOKEN=='
const HOST = 'bedrock-runtime.eu-central-1.amazonaws.com'

const CALL: SignedCall = {
  method: 'POST',
  url: `https://${HOST}/model/us.anthropic.claude-opus-4-5-20251101-v1%3A0/converse-stream`,
  headers: ['accept', '*/*', 'content-type', 'application/json', 'content-length', '9'],
  body: Buffer.from('{"a":"é"}'),
  key: `${ID}:${SECRET}`,
  nowMs: Date.parse('2026-11-18T11:06:40.123Z'),
  options: {},
}

class Sha256 {
  readonly #hash
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash =
      secret === undefined
        ? createHash('sha256')
        : createHmac('sha256', typeof secret === 'string' ? secret : toBytes(secret))
  }
  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(typeof data === 'string' ? data : toBytes(data))
  }
  async digest(): Promise<Uint8Array> {
    return new Uint8Array(this.#hash.digest())
  }
  reset(): void {
    throw new Error('not used')
  }
}

function toBytes(data: ArrayBuffer | ArrayBufferView): Uint8Array {
  return ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data)
}

/** What AWS's signer says. */
async function expected(
  { url, body, nowMs, method }: SignedCall,
  region: string,
  token?: string,
): Promise<string> {
  const { hostname, host, pathname } = new URL(url)
  const signer = new SignatureV4({
    credentials: {
      accessKeyId: ID,
      secretAccessKey: SECRET,
      ...(token !== undefined && { sessionToken: token }),
    },
    region,
    service: 'bedrock',
    sha256: Sha256,
    applyChecksum: false,
  })
  const signed = await signer.sign(
    {
      method,
      protocol: 'https:',
      hostname,
      path: pathname,
      headers: { host, 'content-type': 'application/json' },
      body,
    },
    { signingDate: new Date(nowMs) },
  )
  return signed.headers.authorization ?? ''
}

function headerOf(headers: readonly string[], name: string): string | undefined {
  const at = headers.indexOf(name)
  return at < 0 ? undefined : headers[at + 1]
}

describe('a call', () => {
  it('is signed as AWS signs it', async () => {
    const headers = signBedrock(CALL)
    expect(headerOf(headers, 'authorization')).toBe(await expected(CALL, 'eu-central-1'))
    expect(headers).toEqual(['x-amz-date', '20261118T110640Z', 'authorization', expect.any(String)])
  })

  it('is signed with a token where the credential is temporary', async () => {
    const headers = signBedrock({ ...CALL, key: `${ID}:${SECRET}:${TOKEN}` })
    expect(headerOf(headers, 'authorization')).toBe(await expected(CALL, 'eu-central-1', TOKEN))
    expect(headerOf(headers, 'x-amz-security-token')).toBe(TOKEN)
  })

  it('is signed for the region that is configured, whatever the host', async () => {
    const call = {
      ...CALL,
      url: 'https://vpce-1.example.com:8443/model/a/converse',
      options: { region: 'us-west-2' },
    }
    expect(headerOf(signBedrock(call), 'authorization')).toBe(await expected({ ...call }, 'us-west-2'))
  })

  it('is signed as AWS signs it, whatever the model is called and the body says', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
        fc.string({ unit: 'grapheme' }),
        async (model, text) => {
          const path = bedrock.provider.path('chat', {
            model,
            stream: false,
            maxOutputTokens: undefined,
            options: {},
          })
          const call = { ...CALL, url: `https://${HOST}${path}`, body: Buffer.from(text) }
          expect(headerOf(signBedrock(call), 'authorization')).toBe(await expected(call, 'eu-central-1'))
        },
      ),
      { numRuns: 60 },
    )
  })

  it('signs nothing that is added on its way', () => {
    const more = {
      ...CALL,
      headers: [...CALL.headers, 'traceparent', '00-1-1-01', 'user-agent', 'sluice', 'x-mine', '1'],
    }
    expect(signBedrock(more)).toEqual(signBedrock(CALL))
  })

  it('carries an API key as it is', () => {
    for (const key of ['ABSKQmVkcm9ja0FQSUtleS1leGFtcGxl', 'bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t']) {
      expect(signBedrock({ ...CALL, key: `${key}\n` })).toEqual(['authorization', `Bearer ${key}`])
      expect(secretPartsOf(key)).toEqual([])
    }
  })
})

it('the secrets inside of a key are known one by one', () => {
  expect(secretPartsOf(`${ID}:${SECRET}`)).toEqual([SECRET])
  expect(secretPartsOf(`${ID}:${SECRET}:${TOKEN}`)).toEqual([SECRET, TOKEN])
})
