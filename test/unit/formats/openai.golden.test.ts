// Replies and streams in the shapes that providers are known to send (test/golden/openai), and what is read out of them.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { openai } from '../../../src/formats/openai.ts'
import type { Usage } from '../../../src/types.ts'
import { usageOf } from '../../support/golden.ts'

const FOLDER = join(import.meta.dirname, '../../golden/openai')
const { provider } = openai

const usage = (over: Partial<Usage> = {}): Usage => usageOf(19, 10, over)
const FULL = usage({ cachedTokens: 8, reasoningTokens: 4 })

interface StreamFacts {
  /** A letter per frame: content, done, usage only, error, malformed, a comment, nothing (`-`). */
  readonly frames: string
  readonly finished: boolean
  readonly usage: Usage | undefined
  readonly error?: string
}

const STREAMS: Readonly<Record<string, StreamFacts>> = {
  plain: { frames: '-cccud', finished: true, usage: FULL },
  'tool-call': { frames: 'ccccud', finished: true, usage: FULL },
  'parallel-tool-calls': { frames: '-cccccud', finished: true, usage: FULL },
  'reasoning-content.deepseek': { frames: '-ccccd', finished: true, usage: FULL },
  'reasoning.vllm': { frames: '-cccud', finished: true, usage: usage() },
  'reasoning-details.openrouter': { frames: '::ccc-d', finished: true, usage: FULL },
  'thinking-parts.mistral': { frames: '-cccd', finished: true, usage: usage() },
  refusal: { frames: '-cccud', finished: true, usage: FULL },
  'preamble.azure': { frames: '--cc-ud', finished: true, usage: FULL },
  'x-groq-usage': { frames: '-ccd', finished: true, usage: usage() },
  'error-chunk.openrouter': {
    frames: ':ce',
    finished: false,
    usage: undefined,
    error: 'Provider disconnected',
  },
  'error-after-preamble': {
    frames: '-e',
    finished: false,
    usage: undefined,
    error: 'The server had an error while processing your request.',
  },
  'usage-in-last-chunk': { frames: 'ccd', finished: true, usage: usage() },
  'usage-before-the-end.xai': { frames: 'cc-d', finished: true, usage: usage({ reasoningTokens: 4 }) },
  'content-filter': { frames: 'ccud', finished: true, usage: FULL },
  'two-choices': { frames: '-c-cccud', finished: true, usage: FULL },
  'crlf-without-done': { frames: 'cc', finished: true, usage: usage() },
  'legacy-text': { frames: 'ccd', finished: true, usage: undefined },
}

describe('a recorded stream', () => {
  it.each(Object.entries(STREAMS))('%s is read as it is meant', (name, expected) => {
    const watch = provider.watch()
    const splitter = createFrameSplitter()
    let frames = ''
    let error: string | undefined
    for (const { data } of splitter.push(readFileSync(join(FOLDER, `${name}.stream.sse`)))) {
      if (data === undefined) {
        frames += ':'
        continue
      }
      const facts = watch.look(data)
      error = facts.error ?? error
      frames +=
        facts.error !== undefined
          ? 'e'
          : facts.malformed
            ? 'm'
            : facts.done
              ? 'd'
              : facts.usageOnly
                ? 'u'
                : facts.content
                  ? 'c'
                  : '-'
    }
    expect(splitter.rest()).toBeUndefined()
    expect({ frames, finished: watch.finished, usage: watch.usage, error }).toEqual({
      error: undefined,
      ...expected,
    })
    expect(watch.finishedChoices).toBe(!expected.finished ? 0 : name === 'two-choices' ? 2 : 1)
    expect(watch.countedTokens).toBeGreaterThan(expected.frames.includes('c') ? 0 : -1)
  })

  it('is in the table, each of them', () => {
    const recorded = readdirSync(FOLDER).flatMap((file) => /^(.*)\.stream\.sse$/.exec(file)?.[1] ?? [])
    expect(recorded.sort()).toEqual(Object.keys(STREAMS).sort())
  })
})

describe('a recorded reply', () => {
  const ANSWER = { failure: undefined, error: undefined }
  const REPLIES = {
    plain: { ...ANSWER, usage: FULL },
    'tool-call': { ...ANSWER, usage: FULL },
    'parallel-tool-calls': { ...ANSWER, usage: FULL },
    'reasoning-content.deepseek': { ...ANSWER, usage: FULL },
    refusal: { ...ANSWER, usage: FULL },
    'content-filter': { ...ANSWER, usage: FULL },
    'x-groq-usage': { ...ANSWER, usage: FULL },
    audio: {
      ...ANSWER,
      usage: usage({ cachedTokens: 8, cacheWriteTokens: 4, audioInputTokens: 5, audioOutputTokens: 7 }),
    },
    embeddings: { ...ANSWER, usage: usage({ outputTokens: 0 }) },
    'error-in-choice.openrouter': { usage: undefined, failure: 'in_band', error: 'Provider disconnected' },
    'error-in-200': { usage: undefined, failure: 'in_band', error: 'The engine is on fire.' },
  } as const

  it.each(Object.entries(REPLIES))('%s is read as it is meant', (name, expected) => {
    const body = readFileSync(join(FOLDER, `${name}.reply.json`))
    const facts = provider.whole(name === 'embeddings' ? 'embeddings' : 'chat', body)
    expect(facts).toMatchObject(expected)
    expect(facts.countedTokens).toBeGreaterThanOrEqual(0)
    if (/plain|tool|reasoning|refusal/.test(name)) expect(facts.countedTokens).toBeGreaterThan(0)
  })

  it('is in the table, each of them', () => {
    const recorded = readdirSync(FOLDER).flatMap((file) => /^(.*)\.reply\.json$/.exec(file)?.[1] ?? [])
    expect(recorded.sort()).toEqual(Object.keys(REPLIES).sort())
  })
})

interface RecordedError {
  readonly name: string
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
  readonly verdict: string
  readonly key: boolean
  readonly retryAfterMs: number | null
}

describe('a recorded error', () => {
  const errors: readonly RecordedError[] = JSON.parse(readFileSync(join(FOLDER, 'errors.json'), 'utf8'))

  it.each(errors.map((error) => [error.name, error] as const))('%s', (_, error) => {
    const text = typeof error.body === 'string' ? error.body : JSON.stringify(error.body)
    const fault = provider.fault(error.status, (name) => error.headers[name], text, 0)
    const { verdict, key, retryAfterMs = null } = fault
    expect({ verdict, key, retryAfterMs }).toEqual({
      verdict: error.verdict,
      key: error.key,
      retryAfterMs: error.retryAfterMs,
    })
  })
})
