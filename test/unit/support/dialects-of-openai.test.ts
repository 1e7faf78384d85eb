// A scripted provider of Responses, or of legacy completions, says what OpenAI describes: else a test that it plays in
// proves nothing.

import { describe, expect, it } from 'vitest'
import type { AnswerOptions } from '../../support/dialects/dialect.ts'
import { dialectOf } from '../../support/dialects/index.ts'
import { chatOf, SCRIPTS } from '../../support/dialects/scripts.ts'
import { schemaFaults } from '../../support/openai-schema.ts'
import { assembleResponse } from '../../support/responses-stream.ts'
import { parseSse } from '../../support/sse.ts'

const CHAT = chatOf('m')

const ANSWERS: Readonly<Record<string, AnswerOptions>> = {
  ...SCRIPTS,
  'without usage': { text: 'Hi', usageIn: 'none' },
}

describe('a scripted provider of Responses', () => {
  const dialect = dialectOf('/v1/responses')

  it.each(Object.entries(ANSWERS))('%s is a stream as described, and its reply the same', (_, options) => {
    const frames = dialect.frames(CHAT, options)
    const { response, output } = assembleResponse(frames.join(''))
    const reply = dialect.reply(CHAT, options)
    expect(schemaFaults('Response', reply)).toEqual([])
    expect(response).toEqual(reply)
    expect(output.length).toBeGreaterThan(0)
    expect(frames.filter(dialect.isFinish)).toEqual(frames.slice(-1))
    expect(frames.some(dialect.isEnd)).toBe(false)
  })

  it('tells an error as an event of its own', () => {
    const [event] = parseSse(dialect.errorFrame({ message: 'Boom.', type: 'server_error' }))
    expect(event?.event).toBe('error')
    expect(schemaFaults('ResponseStreamEvent', JSON.parse(event?.data ?? ''))).toEqual([])
  })
})

describe('a scripted provider of completions', () => {
  it('is found by its path, which chat ends with as well', () => {
    const names = ['/v1/completions', '/v1/chat/completions', '/v1/responses?x=1', '/v1/embeddings'].map(
      (path) => dialectOf(path).name,
    )
    expect(names).toEqual(['completions', 'openai', 'responses', 'embeddings'])
  })

  it('says text where chat has a message', () => {
    const dialect = dialectOf('/v1/completions')
    const reply = dialect.reply(CHAT, { text: 'Hi there' })
    expect(schemaFaults('CreateCompletionResponse', reply)).toEqual([])
    const chunks = parseSse(dialect.frames(CHAT, { text: 'Hi there' }).join('')).map(({ data }) => data)
    expect(chunks.pop()).toBe('[DONE]')
    const texts = chunks.flatMap((data) => JSON.parse(data).choices).map(({ text }) => text)
    expect(texts.join('')).toBe('Hi there')
  })
})
