// Providers that are broken, or mean harm, and are spoken to in another format than the caller's: what cannot be read is
// never left out in silence, never a defect of ours, and takes no more time or memory than an honest answer.

import { describe, expect, it } from 'vitest'
import { formats } from '../../../src/formats/index.ts'
import { type Given, playStream, playWhole, surfaceOf, toSse } from '../../support/translated.ts'
import { makeDeployment } from './stage.ts'

type Members = Readonly<Record<string, unknown>>

const asked = (surface: string, format: string, members?: Members) => ({
  surface: surfaceOf(surface),
  deployment: makeDeployment('p/m1', {}, { format }),
  ...(members !== undefined && { members }),
})

const stream = (surface: string, format: string, chunks: readonly Buffer[], members?: Members): Given =>
  playStream(asked(surface, format, members), chunks)

const MALFORMED = { kind: 'failed', reason: 'malformed' }

describe('values that nest deeper than any stack', () => {
  const DEEP = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
  const deepen = (answer: unknown): string => JSON.stringify(answer).replace('"deep"', DEEP)
  const input = { a: 'deep' }

  it.each([
    [
      'gemini',
      {
        candidates: [
          { content: { parts: [{ functionCall: { name: 'f', args: input } }] }, finishReason: 'STOP' },
        ],
      },
    ],
    ['anthropic', { content: [{ type: 'tool_use', id: 't', name: 'f', input }], stop_reason: 'tool_use' }],
    [
      'bedrock',
      {
        output: { message: { content: [{ toolUse: { toolUseId: 't', name: 'f', input } }] } },
        stopReason: 'tool_use',
      },
    ],
  ])('in a call of %s are no answer, and no defect of ours', (format, reply) => {
    expect(playWhole(asked('chat', format), deepen(reply))).toEqual({ failure: 'untranslatable' })
  })

  it('in a stream are no answer either', () => {
    const call = { functionCall: { name: 'f', args: input } }
    const chunk = deepen({ candidates: [{ content: { parts: [call] }, finishReason: 'STOP' }] })
    expect(stream('chat', 'gemini', toSse(chunk))).toMatchObject({ end: MALFORMED, isCommitted: false })
  })

  it('in an error are not read', () => {
    const told = deepen({
      type: 'error',
      error: { code: 'rate_limit_exceeded', message: 'slow', more: input },
    })
    expect(formats.get('responses')?.provider?.inBand(told)).toMatchObject({
      status: 429,
      fault: { verdict: 'retry', message: 'slow' },
    })
  })
})

describe('a stream that is translated', () => {
  const text = (length: number) => ({
    candidates: [{ content: { parts: [{ text: 'x'.repeat(length) }] } }],
  })
  const end = { candidates: [{ content: { parts: [{ text: '.' }] }, finishReason: 'STOP' }] }
  const MIB = 1024 * 1024

  it('ends at a length that no answer has, whatever of it would be kept', () => {
    const within = toSse(text(7 * MIB), text(7 * MIB), end)
    expect(stream('responses', 'gemini', within).end).toEqual({ kind: 'complete' })
    const beyond = toSse(text(7 * MIB), text(7 * MIB), text(3 * MIB), end)
    for (const surface of ['chat', 'messages', 'responses', 'completions'])
      expect(stream(surface, 'gemini', beyond).end).toEqual(MALFORMED)
  })

  it('ends at a number of calls that no answer has', () => {
    const call = { functionCall: { name: 'f', args: {} } }
    const calls = (count: number) =>
      toSse({ candidates: [{ content: { parts: Array(count).fill(call) }, finishReason: 'STOP' }] })
    expect(stream('chat', 'gemini', calls(1024)).end).toEqual({ kind: 'complete' })
    expect(stream('chat', 'gemini', calls(1025)).end).toEqual(MALFORMED)
  })

  it("is nobody's answer yet where what was said comes to nothing in the format of the caller", () => {
    const events = toSse(
      {
        type: 'message_start',
        message: { id: 'm', model: 'c', usage: { input_tokens: 1, output_tokens: 1 } },
      },
      { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
      { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } },
    )
    for (const surface of ['chat', 'responses', 'completions'])
      expect(stream(surface, 'anthropic', events)).toMatchObject({
        end: { kind: 'failed', reason: 'in_band' },
        isCommitted: false,
      })
  })
})
