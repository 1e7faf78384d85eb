// Bugs that other gateways were reported to have with errors, waits and headers (test/support/published-bugs.ts), over real
// sockets: none of them happens here.

import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import {
  type Answered,
  APIS,
  type Api,
  ASKED,
  chat,
  type Kind,
  messages,
  OTHER_KEY,
  PROVIDER_KEY,
  usePeers,
} from '../support/peers.ts'
import {
  answer,
  type Behaviour,
  type RecordedRequest,
  rateLimited,
  rawBytes,
  silent,
  stallAfter,
  status,
} from '../support/scripted-provider.ts'

const peers = usePeers({
  chat: 51,
  claude: 36,
  every: 27,
  gemini: 25,
  bedrock: 25,
  responses: 34,
  azure: 4,
})

// --- waits -------------------------------------------------------------------------------------------------------

const ask = (api: Api, model: string, stream = false): Promise<Answered> =>
  peers.post(api.path, api.ask(model, { stream }))
const waitOf = ({ headers }: Answered): number => Number(headers.get('retry-after') ?? Number.NaN)

describe('a wait that a provider asks for', () => {
  it.each(ASKED)(
    'is told in the header that callers of $name read, stream: $stream (bug 62)',
    async ({ api, stream }) => {
      peers.provider.script(rateLimited(7))
      const answered = await ask(api, peers.take('chat', 'alone'), stream)
      expect(answered.status).toBeGreaterThanOrEqual(429)
      expect(waitOf(answered)).toBe(7)
      expect(Number(answered.headers.get('retry-after-ms'))).toBeGreaterThan(6000)
    },
  )

  it.each(APIS)(
    'is told as well where nobody is called any more, to a caller of $name (bug 63)',
    async (api) => {
      peers.provider.script(rateLimited(30))
      const model = peers.take('chat', 'alone')
      await ask(api, model)
      const again = await ask(api, model)
      expect(peers.provider.calls).toBe(1)
      expect(again.status).toBe(503)
      expect(waitOf(again)).toBeGreaterThan(10)
      expect(waitOf(again)).toBeLessThanOrEqual(30)
      expect(again.headers.get('x-should-retry')).toBe('true')
    },
  )

  it('is that of the last error and not of one before it (bug 64)', async () => {
    peers.provider.script([rateLimited('2500ms'), rateLimited('100ms'), answer({ text: 'Now.' })])
    const answered = await ask(chat, peers.take('chat', 'again'))
    expect(chat.hear(answered).text).toBe('Now.')
    const [first, second, third] = peers.provider.requests.map(({ startedMs }) => startedMs)
    const waits = [(second ?? 0) - (first ?? 0), (third ?? 0) - (second ?? 0)]
    expect(waits[0]).toBeGreaterThanOrEqual(2499)
    expect(waits[1]).toBeGreaterThanOrEqual(99)
    expect(waits[1]).toBeLessThan(2400)
  })

  it('with a 429 of Anthropic is told to Claude Code, by any of its headers (bug 65)', async () => {
    const reset = new Date(Date.now() + 20_000).toISOString()
    const empty = {
      'anthropic-ratelimit-requests-limit': '50',
      'anthropic-ratelimit-requests-remaining': '0',
      'anthropic-ratelimit-requests-reset': reset,
    }
    for (const behaviour of [rateLimited(20, empty), rateLimited(undefined, empty)]) {
      for (const kind of ['claude', 'every'] as const) {
        peers.provider.script(behaviour)
        const answered = await ask(messages, peers.take(kind, 'alone'), true)
        expect(JSON.parse(answered.text)).toMatchObject({
          type: 'error',
          error: { type: expect.any(String) },
        })
        expect([kind, answered.status]).toEqual([kind, 503])
        expect(waitOf(answered)).toBeGreaterThanOrEqual(10)
        expect(waitOf(answered)).toBeLessThanOrEqual(20)
        expect(answered.headers.get('x-should-retry')).toBe('true')
      }
    }
  })

  it.each([502, 503, 504])('with %d is told to every caller (bug 66)', async (code) => {
    for (const api of APIS) {
      for (const kind of ['chat', 'claude', 'gemini', 'bedrock', 'responses'] as const) {
        peers.provider.script(status(code, undefined, { 'retry-after': '9' }))
        const answered = await ask(api, peers.take(kind, 'alone'))
        expect([kind, answered.status, waitOf(answered)]).toEqual([kind, 503, 9])
        peers.provider.reset()
      }
    }
  })
})

// --- bodies and their headers ------------------------------------------------------------------------------------

/** A whole reply of chat that is compressed, though nobody asked for that. */
function compressed(): Behaviour {
  const reply = { id: 'c', object: 'chat.completion', created: 1, model: 'm' }
  const message = { role: 'assistant', content: 'Compressed. '.repeat(100) }
  const body = gzipSync(JSON.stringify({ ...reply, choices: [{ index: 0, message, finish_reason: 'stop' }] }))
  return rawBytes([
    `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n`,
    body,
  ])
}

describe('the headers of an answer', () => {
  it.each(ASKED)(
    'tell its own length and no encoding, for a caller of $name, stream: $stream (bug 67, bug 68)',
    async ({ api, stream }) => {
      const all: readonly (readonly [Kind, Behaviour])[] = [
        // Changed on its way: a key is taken out of it, or it is translated; and one that is compressed is not passed on.
        ['chat', answer({ text: `Your key is ${PROVIDER_KEY}.` })],
        ['every', answer({ text: `Your key is ${PROVIDER_KEY}.` })],
        ['claude', answer({ text: 'Grüße.' })],
        ['gemini', answer({ text: 'Grüße.' })],
        ['bedrock', answer({ text: 'Grüße.' })],
        ['chat', compressed()],
      ]
      for (const [kind, behaviour] of all) {
        peers.provider.script(behaviour)
        const answered = await ask(api, peers.take(kind), stream)
        expect(answered.status).toBe(200)
        expect(api.hear(answered).text).toMatch(/\[redacted\]|Grüße|From the other/)
        expect(answered.headers.get('content-encoding')).toBeNull()
        const length = answered.headers.get('content-length')
        if (length !== null) expect(Number(length)).toBe(Buffer.byteLength(answered.text))
        expect(peers.provider.requests.at(-1)?.header('accept-encoding')).toBe('identity')
        peers.provider.reset()
      }
    },
  )

  it('of an error that came compressed tell neither its length nor its encoding (bug 67, bug 68)', async () => {
    const body = gzipSync(JSON.stringify({ error: { message: 'Bad.', type: 'invalid_request_error' } }))
    peers.provider.script(
      status(400, body, { 'content-encoding': 'gzip', 'content-type': 'application/json' }),
    )
    const answered = await ask(chat, peers.take('chat', 'alone'))
    expect(JSON.parse(answered.text)).toMatchObject({ error: { message: expect.any(String) } })
    expect(answered.headers.get('content-encoding')).toBeNull()
    const length = answered.headers.get('content-length')
    if (length !== null) expect(Number(length)).toBe(Buffer.byteLength(answered.text))
  })
})

// --- credentials -------------------------------------------------------------------------------------------------

const CREDENTIALS = {
  'openai-organization': 'org-of-the-caller',
  'openai-project': 'proj-of-the-caller',
  'x-goog-user-project': 'project-of-the-caller',
  'x-stainless-lang': 'js',
  cookie: 'session=of-the-caller',
  'x-codex-turn-metadata': 'path-of-the-caller',
  'proxy-authorization': 'Basic b2YtdGhlLWNhbGxlcg==',
} as const
const KEYS = ['authorization', 'x-api-key', 'api-key', 'x-goog-api-key'] as const

describe('what a caller shows who he is with', () => {
  const everything = ({ headers, body, path }: RecordedRequest): string =>
    `${path} ${JSON.stringify(headers)} ${body.toString()}`

  it.each(KEYS)('is sent to no provider, in whichever header it came: %s (bug 69)', async (name) => {
    const { bearer } = peers.gateway
    for (const kind of ['chat', 'every', 'azure', 'responses', 'claude', 'gemini', 'bedrock'] as const) {
      const model = peers.take(kind)
      for (const api of APIS) {
        peers.provider.script(answer({ text: 'Good.' }))
        const response = await fetch(`${peers.gateway.baseUrl}${api.path}`, {
          method: 'POST',
          headers: {
            'content-type': 'application/json',
            [name]: name === 'authorization' ? `Bearer ${bearer}` : bearer,
          },
          body: JSON.stringify(api.ask(model)),
        })
        expect([kind, response.status]).toEqual([kind, 200])
        await response.text()
        const [request] = peers.provider.requests.splice(0)
        if (request === undefined) throw new Error('nobody was asked')
        expect(everything(request)).not.toContain(bearer)
        // One credential, which is the provider's.
        const shown = request.headers.filter(([header]) => KEYS.some((key) => key === header.toLowerCase()))
        expect(shown).toHaveLength(1)
        if (kind !== 'bedrock') expect(shown[0]?.[1]).toContain(PROVIDER_KEY)
      }
    }
  })

  it.each(APIS)(
    'is sent to nobody who stands in, by a caller of $name; nor is the key of the first (bug 70)',
    async (api) => {
      const { bearer } = peers.gateway
      for (const kind of ['chat', 'claude', 'responses', 'every'] as const) {
        // Behind it stands who speaks chat, or who takes what the caller speaks.
        for (const more of [undefined, 'like'] as const) {
          peers.provider.script(status(503))
          const model = peers.take(kind, more)
          const headers = { 'x-api-key': bearer, 'anthropic-beta': 'oauth-2025-04-20' }
          const answered = await peers.post(api.path, api.ask(model), headers)
          expect(api.hear(answered).text).toBe('From the other.')
          const request = peers.other.requests.at(-1)
          if (request === undefined) throw new Error('nobody stood in')
          expect(everything(request)).not.toContain(bearer)
          expect(everything(request)).not.toContain(PROVIDER_KEY)
          const shown = request.headers.filter(([name]) => KEYS.some((key) => key === name.toLowerCase()))
          expect(shown.map(([, value]) => value)).toEqual([`Bearer ${OTHER_KEY}`])
          if (more === undefined) expect(request.header('anthropic-beta')).toBeUndefined()
          peers.provider.reset()
        }
      }
    },
  )

  it.each(APIS)(
    'beside his bearer, or whose account it is, is sent to nobody, by a caller of $name (bug 71)',
    async (api) => {
      for (const kind of ['chat', 'every', 'claude', 'responses'] as const) {
        const model = peers.take(kind)
        for (const isDown of [false, true]) {
          peers.provider.script(isDown ? status(503) : answer({ text: 'Good.' }))
          await peers.post(api.path, api.ask(model), CREDENTIALS)
          const all = [...peers.provider.requests.splice(0), ...peers.other.requests.splice(0)]
          expect(all.length).toBe(isDown ? 2 : 1)
          for (const request of all) {
            expect(everything(request)).not.toMatch(/of-the-caller|b2YtdGhlLWNhbGxlcg/)
            for (const name of Object.keys(CREDENTIALS)) expect(request.header(name)).toBeUndefined()
          }
        }
      }
    },
  )
})

describe('a caller who leaves', () => {
  it.each(ASKED)(
    'ends the call to the provider, before the first word and behind it, at $name, stream: $stream (bug 72)',
    async ({ api, stream }) => {
      for (const kind of ['chat', 'claude', 'gemini', 'bedrock', 'responses'] as const) {
        const model = peers.take(kind, 'alone')
        for (const behaviour of [silent(), stallAfter(stream ? 4 : 1)]) {
          peers.provider.script(behaviour)
          const gone = new AbortController()
          const { baseUrl, bearer } = peers.gateway
          const asked = fetch(`${baseUrl}${api.path}`, {
            method: 'POST',
            headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
            body: JSON.stringify(api.ask(model, { stream })),
            signal: gone.signal,
          }).then((response) => response.text())
          await peers.provider.waitForRequests(1)
          gone.abort()
          await expect(asked).rejects.toThrow('abort')
          await peers.provider.waitForAbort(0, 10_000)
          peers.provider.reset()
        }
      }
    },
  )
})
