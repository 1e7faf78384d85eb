// Azure OpenAI: whose bytes it speaks, where it is asked and with what, and what it says that OpenAI does not
// (test/golden/azure: shapes of its reference, and of what was reported of its filters).

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { azure } from '../../../src/formats/azure.ts'
import { openai } from '../../../src/formats/openai.ts'

const FOLDER = join(import.meta.dirname, '../../golden/azure')
const { provider } = azure
const CHAT = { model: 'my gpt', maxOutputTokens: undefined, stream: true }

describe('a path', () => {
  it('has no date, unless one is configured', () => {
    expect(provider.path('chat', { ...CHAT, options: {} })).toBe('/openai/v1/chat/completions')
    expect(provider.path('embeddings', { ...CHAT, options: {} })).toBe('/openai/v1/embeddings')
  })

  it('names the deployment where it has a date', () => {
    const options = { apiVersion: '2025-01-01-preview' }
    expect(provider.path('chat', { ...CHAT, options })).toBe(
      '/openai/deployments/my%20gpt/chat/completions?api-version=2025-01-01-preview',
    )
    expect(provider.path('embeddings', { ...CHAT, model: '../../x?y', options })).toBe(
      '/openai/deployments/..%2F..%2Fx%3Fy/embeddings?api-version=2025-01-01-preview',
    )
    expect(provider.path('chat', { ...CHAT, model: '..', options })).toContain('/deployments/%2E%2E/chat')
  })
})

it('a key is sent as Azure wants it, and a token of Entra ID as a bearer', () => {
  expect(provider.credential('0123456789abcdef0123456789abcdef')).toEqual([
    'api-key',
    '0123456789abcdef0123456789abcdef',
  ])
  const token = 'eyJ0eXAiOiJKV1Qi.eyJhdWQiOiJodHRwczo.c2ln-_bmF0dXJl'
  expect(provider.credential(token)).toEqual(['authorization', `Bearer ${token}`])
})

it('bytes are those of OpenAI', () => {
  expect(azure.bytesOf).toBe('openai')
  expect(provider.edits).toBe(openai.provider.edits)
})

interface RecordedError {
  readonly name: string
  readonly status: number
  readonly body: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly verdict: string
  readonly key: boolean
  readonly park: boolean
  readonly retryAfterMs?: number
}

describe('an error', () => {
  const recorded: readonly RecordedError[] = JSON.parse(readFileSync(join(FOLDER, 'errors.json'), 'utf8'))

  it.each(recorded)('$name', ({ status, body, headers, verdict, key, park, retryAfterMs }) => {
    const fault = provider.fault(status, (name) => headers?.[name], JSON.stringify(body), 0)
    expect(fault).toMatchObject({ verdict, key, park, retryAfterMs })
    expect(fault.message).not.toBe('')
  })
})

describe('a stream', () => {
  const STREAMS: Readonly<Record<string, { frames: string; finished: boolean }>> = {
    plain: { frames: '--cccud', finished: true },
    // What the filter finds comes late, in choices without a delta: they say nothing, and open nothing again.
    'asynchronous-filter': { frames: '--c-c-ud', finished: true },
    'filtered-in-the-middle': { frames: '-ccud', finished: true },
    'quota-behind-the-preamble': { frames: '-e', finished: false },
  }

  it.each(Object.entries(STREAMS))('%s is read as it is meant', (name, told) => {
    const watch = provider.watch()
    const frames = createFrameSplitter().push(readFileSync(join(FOLDER, `${name}.stream.sse`)))
    const letters = frames.map(({ data }) => {
      const facts = watch.look(data ?? '')
      if (facts.error !== undefined) return 'e'
      return facts.done ? 'd' : facts.content ? 'c' : facts.usageOnly ? 'u' : facts.malformed ? 'm' : '-'
    })
    expect({ frames: letters.join(''), finished: watch.finished }).toEqual(told)
    if (told.finished)
      expect(watch.usage).toMatchObject({ inputTokens: 19, cachedTokens: 8, outputTokens: 10 })
  })

  it('is in the table, each of them', () => {
    const names = readdirSync(FOLDER).flatMap((file) => /^(.*)\.stream\.sse$/.exec(file)?.[1] ?? [])
    expect(names.sort()).toEqual(Object.keys(STREAMS).sort())
  })
})

it('a whole reply is read', () => {
  const read = (name: string): Buffer => readFileSync(join(FOLDER, `${name}.reply.json`))
  expect(provider.whole('chat', read('plain'))).toMatchObject({
    failure: undefined,
    usage: { inputTokens: 19, reasoningTokens: 4 },
  })
  expect(provider.whole('embeddings', read('embeddings'))).toMatchObject({
    failure: undefined,
    usage: { inputTokens: 5, outputTokens: 0 },
  })
})
