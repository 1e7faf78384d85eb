// Calls of tools that compatible servers get wrong, where the bytes of chat pass: what is mended, and that all else stays
// the bytes that came.

import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { openai } from '../../../src/formats/openai.ts'
import { toModelRequest } from '../../support/model-request.ts'

const { mending } = openai.client
if (mending === undefined) throw new Error('nothing is mended')
const { whole } = mending

/** What comes of a stream of these deltas, each with its reason for the end. */
function mend(...list: readonly (readonly [delta: object, finish?: string])[]): {
  text: string
  chunks: unknown[]
} {
  const stage = mending?.stage()
  const watch = openai.provider.watch()
  const text = toText(list)
  const frames = createFrameSplitter().push(Buffer.from(text))
  const mended = frames.map((frame) => {
    if (stage?.kind !== 'transform' || frame.data === undefined) throw new Error('no frame')
    return stage.change(frame, watch.look(frame.data))?.toString() ?? ''
  })
  return {
    text: mended.join(''),
    chunks: mended.map((one) => JSON.parse(one.slice('data: '.length)).choices[0]),
  }
}

const toText = (list: readonly (readonly [delta: object, finish?: string])[]): string =>
  list
    .map(
      ([delta, finish = null]) =>
        `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`,
    )
    .join('')
const call = (index: number | undefined, id: string | undefined, name: string | undefined, args: string) => ({
  tool_calls: [{ index, id, function: { name, arguments: args } }],
})
const numbers = ({ chunks }: { chunks: unknown[] }): unknown =>
  JSON.parse(JSON.stringify(chunks)).flatMap(({ delta }: { delta: { tool_calls?: { index: number }[] } }) =>
    (delta.tool_calls ?? []).map(({ index }) => index),
  )

describe('a stream', () => {
  it('gives calls that all have the number 0 numbers of their own (bug 24)', () => {
    const mended = mend(
      [call(0, 'a', 'f', '{"x":')],
      [call(0, undefined, undefined, '1}')],
      [call(0, 'b', 'g', '{}')],
      [call(0, undefined, undefined, '')],
      [call(0, 'c', 'g', '{}')],
      [{}, 'tool_calls'],
    )
    expect(numbers(mended)).toEqual([0, 0, 1, 1, 2])
  })

  it('numbers as many calls as anybody makes; of more, each passes as it came', () => {
    const calls = Array.from({ length: 1_100 }, (_, n) => [call(0, `id-${n}`, 'f', '{}')] as const)
    const given = numbers(mend(...calls))
    expect(given).toEqual(calls.map((_, n) => (n < 1_024 ? n : 0)))
  })

  it('gives calls without numbers and ids numbers of their own', () => {
    const mended = mend(
      [call(undefined, undefined, 'f', '{"x"')],
      [call(undefined, undefined, undefined, ':1}')],
      [call(undefined, undefined, 'f', '{"x":2}')],
    )
    expect(numbers(mended)).toEqual([0, 0, 1])
  })

  it('ends a turn that calls with the calls (bug 25)', () => {
    expect(mend([call(0, 'a', 'f', '{}')], [{}, 'stop']).chunks.at(-1)).toMatchObject({
      finish_reason: 'tool_calls',
    })
    expect(mend([call(0, 'a', 'f', '{}'), 'stop']).chunks).toMatchObject([{ finish_reason: 'tool_calls' }])
  })

  it.each([
    ['in order', [[call(0, 'a', 'f', '{}')], [call(1, 'b', 'f', '{}')], [{}, 'tool_calls']]],
    [
      'with gaps in their numbers',
      [[call(3, 'a', 'f', '{')], [call(7, 'b', 'f', '{')], [call(3, undefined, undefined, '}')]],
    ],
    ['whose ids change', [[call(0, 'a', 'f', '{')], [call(0, 'b', undefined, '}')], [{}, 'length']]],
    [
      'that are none',
      [[{ content: 'the word "tool_calls" and "stop"' }], [{ tool_calls: [] }], [{}, 'stop']],
    ],
  ] as const)('of calls %s stays the bytes that came', (_, list) => {
    expect(mend(...list).text).toBe(toText(list))
  })
})

describe('a whole reply', () => {
  const reply = (finish: string, calls?: unknown): Buffer =>
    Buffer.from(
      JSON.stringify({
        id: 1.0,
        choices: [{ message: { content: 'x', tool_calls: calls }, finish_reason: finish }],
      }),
    )

  it('that calls ends with the calls (bug 25)', () => {
    const mended: unknown = JSON.parse(whole(reply('stop', [{ id: 'a' }])).toString())
    expect(mended).toMatchObject({
      id: 1,
      choices: [{ finish_reason: 'tool_calls', message: { content: 'x' } }],
    })
  })

  it('stays the bytes that came where nothing is wrong', () => {
    for (const body of [
      reply('stop'),
      reply('stop', []),
      reply('tool_calls', [{}]),
      reply('length', [{}]),
      Buffer.from('"tool_calls"'),
    ])
      expect(whole(body)).toBe(body)
  })
})

it('concerns who offers tools in chat alone', () => {
  const chat = toModelRequest('{"model":"m","tools":[]}', 'openai')
  const vectors = { ...chat, endpoint: { ...chat.endpoint, operation: 'embeddings' as const } }
  const without = toModelRequest('{"model":"m"}', 'openai')
  expect([chat, vectors, without].map(mending.concerns)).toEqual([true, false, false])
})
