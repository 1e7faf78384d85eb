// Providers that are broken, or mean harm, and are spoken to in another format than the caller's: what cannot be read is
// never left out in silence, never a defect of ours, and takes no more time or memory than an honest answer.

import { describe, expect, it } from 'vitest'
import { formats } from '../../../src/formats/index.ts'
import { anthropic } from '../../support/dialects/anthropic.ts'
import { bedrock } from '../../support/dialects/bedrock.ts'
import type { Dialect } from '../../support/dialects/dialect.ts'
import { gemini } from '../../support/dialects/gemini.ts'
import { openai } from '../../support/dialects/openai.ts'
import { responses } from '../../support/dialects/responses.ts'
import { toStreamEvent } from '../../support/eventstream.ts'
import { assembleResponse } from '../../support/responses-stream.ts'
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

/** What a thing costs of the processor, in ms: other work on the machine does not count. */
function cpuMsOf(run: () => void): number {
  const before = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

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

// --- OpenAI's chat ---------------------------------------------------------------------------------------------

const chunk = (delta: unknown, finish: string | null = null, more: Members = {}) => ({
  id: 'c1',
  object: 'chat.completion.chunk',
  created: 1,
  model: 'gm',
  choices: [{ index: 0, delta, finish_reason: finish, ...more }],
})
const fragment = (call: unknown) => chunk({ tool_calls: [call] })
const SURFACES_OF_CHAT = ['messages', 'responses'] as const

describe.each(SURFACES_OF_CHAT)('a stream of chat for %s', (surface) => {
  const play = (...events: readonly unknown[]): Given => stream(surface, 'openai', toSse(...events, '[DONE]'))

  it('is heard whatever number its only choice has', () => {
    const { end, heard } = play(chunk({ content: 'Hi' }, null, { index: 7 }), chunk({}, 'stop', { index: 7 }))
    expect(end).toEqual({ kind: 'complete' })
    expect(heard.text).toBe('Hi')
  })

  it.each(['abort', 'insufficient_system_resource', 'function_call_filter: MALFORMED_FUNCTION_CALL'])(
    'that ends with "%s" was broken off',
    (reason) => {
      const { end, isCommitted } = play(chunk({}, reason))
      expect(end).toMatchObject({ kind: 'failed', reason: 'in_band' })
      expect(isCommitted).toBe(false)
      expect(play(chunk({ content: 'Hel' }), chunk({}, reason)).heard.ended).toBe(false)
    },
  )

  it('that is told whole in one event is heard', () => {
    const message = { role: 'assistant', content: 'Hi there' }
    const { end, heard } = play({ id: 'c', choices: [{ index: 0, message, finish_reason: 'stop' }] })
    expect(end).toEqual({ kind: 'complete' })
    expect(heard.text).toBe('Hi there')
    // Some say it once more at their end.
    expect(
      play(chunk({ content: 'Hi there' }), {
        id: 'c',
        choices: [{ index: 0, message, finish_reason: 'stop' }],
      }).heard.text,
    ).toBe('Hi there')
  })

  it.each([
    ['says something', [fragment({ index: 0, id: 'x', function: { arguments: '{"a":1}' } })], 'stop'],
    ['is all there is', [fragment({ index: 0, id: 'x', function: {} })], 'tool_calls'],
  ])('loses no call without a name that %s', (_, events, finish) => {
    const { end, isCommitted } = play(...events, chunk({}, finish))
    expect(end).toEqual(MALFORMED)
    expect(isCommitted).toBe(false)
  })

  it('says that it is over where it says that there are calls, and there are none', () => {
    expect(play(chunk({ content: 'Hi' }), chunk({}, 'tool_calls')).heard.finish).toBe('stop')
  })

  it('says filtered where its reason says what was found', () => {
    expect(play(chunk({ content: 'Hi' }), chunk({}, 'content_filter: RECITATION')).heard.finish).toBe(
      'content_filter',
    )
  })

  it('has no more choices and no more calls than anybody asks for', () => {
    const choices = Array.from({ length: 200 }, (_, index) => chunk({ content: 'x' }, 'stop', { index }))
    expect(play(...choices).end).toEqual(MALFORMED)
    const calls = Array.from({ length: 2000 }, (_, index) =>
      fragment({ index, function: { arguments: '{' } }),
    )
    expect(play(...calls).end).toEqual(MALFORMED)
  })

  it('is read in time that grows with its size alone, also where each piece of a call has its name', () => {
    const pieces = Array.from({ length: 20_000 }, (_, i) =>
      fragment({ index: 0, function: { name: 'f', arguments: i === 0 ? '{"a":"' : 'x'.repeat(40) } }),
    )
    const events = [...pieces, fragment({ index: 0, function: { arguments: '"}' } }), chunk({}, 'stop')]
    // It took 20 s while all that had come was parsed again with each piece.
    expect(cpuMsOf(() => play(...events))).toBeLessThan(5000)
    const { heard } = play(...events)
    expect(heard.calls).toHaveLength(1)
    expect(heard.calls[0]?.args).toHaveLength(20_000 * 40 - 40 + 8)
  })
})

describe('a whole answer of chat', () => {
  it.each([
    ['no message', { choices: [{ index: 0, finish_reason: 'stop' }] }, 'malformed'],
    ['an aborted one', { choices: [{ message: { content: 'He' }, finish_reason: 'abort' }] }, 'in_band'],
    [
      'a call without a name',
      { choices: [{ message: { tool_calls: [{ id: 'x', function: { arguments: '{"a":1}' } }] } }] },
      'untranslatable',
    ],
  ])('with %s is none', (_, reply, failure) => {
    expect(playWhole(asked('messages', 'openai'), JSON.stringify(reply))).toEqual({ failure })
  })

  it('began when the gateway says, where its own moment is none', () => {
    const choices = [{ message: { content: 'x' }, finish_reason: 'stop' }]
    for (const created of [-1, 0, 1.7e12, '5', 1e300])
      expect(playWhole(asked('responses', 'openai'), JSON.stringify({ created, choices }))).toMatchObject({
        json: { created_at: 5 },
      })
  })
})

// --- Messages --------------------------------------------------------------------------------------------------

const BEGIN = { type: 'message_start', message: { id: 'msg_1', model: 'c', usage: { input_tokens: 3 } } }
const OVER = [
  { type: 'message_delta', delta: { stop_reason: 'tool_use' }, usage: { output_tokens: 5 } },
  { type: 'message_stop' },
]
const use = (index: number, block: unknown) => ({
  type: 'content_block_start',
  index,
  content_block: { type: 'tool_use', id: 't1', name: 'f', input: {}, ...(block as Members) },
})
const inputOf = (index: number, json: string) => ({
  type: 'content_block_delta',
  index,
  delta: { type: 'input_json_delta', partial_json: json },
})

describe.each(['chat', 'responses'])('a stream of Messages for %s', (surface) => {
  const play = (...events: readonly unknown[]): Given => stream(surface, 'anthropic', toSse(BEGIN, ...events))

  it('makes no call without its input, where that has the number of another block', () => {
    expect(play(use(0, {}), inputOf(5, '{"a":1}'), ...OVER).end).toEqual(MALFORMED)
  })

  it('makes no call without a piece of its input, where that is no text', () => {
    const piece = { ...inputOf(0, ''), delta: { type: 'input_json_delta', partial_json: { a: 1 } } }
    expect(play(use(0, {}), piece, ...OVER).end).toEqual(MALFORMED)
  })

  it('loses no call without a name', () => {
    expect(play(use(0, { name: undefined }), ...OVER)).toMatchObject({ end: MALFORMED, isCommitted: false })
  })

  it('ends once, however often it says so, and a call without arguments has none', () => {
    const { heard, text } = play(use(0, {}), OVER[0], ...OVER)
    expect(heard.calls.map(({ args }) => args)).toEqual(['{}'])
    expect(text.match(/"finish_reason":"/g)?.length ?? 1).toBe(1)
  })

  it('is whole behind its stop reason, also with an end marker that Messages does not have', () => {
    expect(play(use(0, {}), OVER[0], '[DONE]').end).toEqual({ kind: 'complete' })
    expect(play(use(0, {}), '[DONE]').end).toMatchObject({ kind: 'failed', reason: 'incomplete' })
  })

  it('begins no more blocks than anybody reads', () => {
    const blocks = Array.from({ length: 1100 }, (_, index) => ({
      type: 'content_block_start',
      index,
      content_block: { type: 'text', text: 'x' },
    }))
    expect(play(...blocks).end).toEqual(MALFORMED)
  })
})

describe.each(['chat', 'responses', 'messages'])('the calls of an answer for %s', (surface) => {
  const idsOf = (heard: { readonly calls: readonly { readonly id: string }[] }): unknown[] =>
    heard.calls.map(({ id }) => id)

  it('have ids by which their results are told apart, whatever the provider says', () => {
    const calls = [
      { toolUseId: 'same', name: 'f' },
      { toolUseId: 'same', name: 'f' },
      { name: 'f' },
      { toolUseId: 'own', name: 'f' },
    ]
    const events = calls.flatMap((toolUse, contentBlockIndex) => [
      toStreamEvent('contentBlockStart', { contentBlockIndex, start: { toolUse } }),
      toStreamEvent('contentBlockStop', { contentBlockIndex }),
    ])
    const streamed = stream(surface, 'bedrock', [
      ...events,
      toStreamEvent('messageStop', { stopReason: 'tool_use' }),
    ])
    const content = calls.map((toolUse) => ({ toolUse }))
    const reply = { output: { message: { content } }, stopReason: 'tool_use' }
    const whole = playWhole(asked(surface, 'bedrock'), JSON.stringify(reply))
    if (!('json' in whole)) throw new Error(whole.failure)
    for (const heard of [streamed.heard, surfaceOf(surface).whole(whole.json)]) {
      const ids = idsOf(heard)
      expect(ids).toEqual(['same', expect.stringMatching(/./), expect.stringMatching(/./), 'own'])
      expect(new Set(ids).size).toBe(4)
    }
  })
})

it('two answers without ids of chat do not have the same ids of calls', () => {
  const ids = [1, 2].map((created) => {
    const call = { index: 0, function: { name: 'f', arguments: '{}' } }
    const events = toSse(
      { created, choices: [{ index: 0, delta: { tool_calls: [call] } }] },
      { choices: [{ index: 0, delta: {}, finish_reason: 'tool_calls' }] },
    )
    return stream('responses', 'openai', events).heard.calls[0]?.id
  })
  // They are the gateway's, which never gives one twice.
  expect(ids).toEqual(['call_2', 'call_2'])
})

it('a caller of functions gets the first call, whole', () => {
  const functions = [{ name: 'f', parameters: { type: 'object' } }]
  const { text } = stream(
    'chat',
    'anthropic',
    toSse(BEGIN, use(0, {}), inputOf(0, '{"a":1}'), use(1, { id: 't2' }), inputOf(1, '{"a":2}'), ...OVER),
    { tools: undefined, functions },
  )
  const pieces = [...text.matchAll(/"function_call":(\{[^}]*\}?[^}]*\})/g)].map(([, piece]) => piece)
  expect(pieces.filter((piece) => piece?.includes('"name"'))).toHaveLength(1)
  expect(text).toContain(JSON.stringify('{"a":1}'))
  expect(text).not.toContain(JSON.stringify('{"a":2}'))
})

describe.each(SURFACES_OF_CHAT)('arguments that come behind the end of a call, for %s', (surface) => {
  const play = (late: string): Given =>
    stream(
      surface,
      'openai',
      toSse(
        fragment({ index: 0, id: 'x', function: { name: 'f', arguments: '{}' } }),
        chunk({ content: 'and' }),
        fragment({ index: 0, function: { arguments: late } }),
        chunk({}, 'tool_calls'),
        '[DONE]',
      ),
    )

  it('are not left out of it: its caller may have run it', () => {
    expect(play('{"a":1}').end).toEqual(MALFORMED)
    expect(play(' \n').end).toEqual({ kind: 'complete' })
  })
})

it('calls that are all open at once are written in time that grows with their number alone', () => {
  const calls = Array.from({ length: 1000 }, (_, index) =>
    fragment({ index, id: `c${index}`, function: { name: 'f', arguments: '{"a":' } }),
  )
  const ends = Array.from({ length: 1000 }, (_, index) => fragment({ index, function: { arguments: '1}' } }))
  for (const surface of SURFACES_OF_CHAT) {
    const events = toSse(...calls, ...ends, chunk({}, 'tool_calls'), '[DONE]')
    // It took 5 s while every call that was open was parsed again with each that began.
    expect(cpuMsOf(() => stream(surface, 'openai', events))).toBeLessThan(2000)
    const { heard } = stream(surface, 'openai', events)
    expect(heard.calls).toHaveLength(1000)
  }
})

// --- Gemini, Bedrock, Responses --------------------------------------------------------------------------------

describe.each(['chat', 'messages', 'responses'])('a stream of Gemini for %s', (surface) => {
  const play = (...events: readonly unknown[]): Given => stream(surface, 'gemini', toSse(...events))
  const say = (parts: readonly unknown[], more: Members = {}) => ({
    responseId: 'r',
    candidates: [{ content: { parts }, ...more }],
  })

  it('is heard whatever number its only candidate has', () => {
    const { heard } = play(say([{ text: 'Hi' }], { index: 9, finishReason: 'STOP' }))
    expect(heard).toMatchObject({ text: 'Hi', ended: true })
  })

  it('is whole behind its finish reason, also with an end marker that Gemini does not have', () => {
    expect(play(say([{ text: 'Hi' }], { finishReason: 'STOP' }), '[DONE]').end).toEqual({ kind: 'complete' })
    expect(play(say([{ text: 'Hi' }]), '[DONE]').end).toMatchObject({ kind: 'failed' })
  })

  it.each([
    ['pieces', [{ functionCall: { name: 'f', willContinue: true } }]],
    ['pieces alone', [{ functionCall: { name: 'f', partialArgs: [{ jsonPath: '$.a', stringValue: 'x' }] } }]],
    ['no name', [{ functionCall: { args: { a: 1 } } }]],
  ])('makes no call of %s', (_, parts) => {
    expect(play(say(parts, { finishReason: 'STOP' })).end).toEqual(MALFORMED)
  })

  it.each(['NO_IMAGE', 'IMAGE_OTHER'])('that ends with %s has no answer', (finishReason) => {
    expect(play(say([], { finishReason })).end).toMatchObject({ kind: 'failed', reason: 'in_band' })
  })

  it('that is blocked behind its end has ended once', () => {
    const { heard, text } = play(say([{ text: 'Hi' }], { finishReason: 'STOP' }), {
      promptFeedback: { blockReason: 'SAFETY' },
    })
    expect(heard.finish).toBe('stop')
    expect(text.match(/"finish_reason":"/g)?.length ?? 1).toBe(1)
  })
})

describe.each(['chat', 'messages', 'responses'])('a stream of Bedrock for %s', (surface) => {
  const play = (...events: readonly Buffer[]): Given => stream(surface, 'bedrock', events)
  const begin = (contentBlockIndex: number, toolUse: unknown) =>
    toStreamEvent('contentBlockStart', { contentBlockIndex, start: { toolUse } })
  const input = (contentBlockIndex: number, json: string) =>
    toStreamEvent('contentBlockDelta', { contentBlockIndex, delta: { toolUse: { input: json } } })
  const stop = toStreamEvent('messageStop', { stopReason: 'tool_use' })

  it('makes no call without a name, and none without its input', () => {
    expect(play(begin(0, { toolUseId: 't' }), stop).end).toEqual(MALFORMED)
    expect(play(begin(0, { toolUseId: 't', name: 'f' }), input(3, '{"a":1}'), stop).end).toEqual(MALFORMED)
  })

  it('makes no call without a piece of its input, where that is no text', () => {
    const delta = { toolUse: { input: { a: 1 } } }
    const piece = toStreamEvent('contentBlockDelta', { contentBlockIndex: 0, delta })
    expect(play(begin(0, { toolUseId: 't', name: 'f' }), piece, stop).end).toEqual(MALFORMED)
  })

  it('ends once, however often it says so', () => {
    const { heard, text } = play(begin(0, { toolUseId: 't', name: 'f' }), stop, stop)
    expect(heard.calls.map(({ args }) => args)).toEqual(['{}'])
    expect(text.match(/"finish_reason":"/g)?.length ?? 1).toBe(1)
  })

  it('begins no more blocks than anybody reads', () => {
    const texts = Array.from({ length: 1100 }, (_, contentBlockIndex) =>
      toStreamEvent('contentBlockDelta', { contentBlockIndex, delta: { text: 'x' } }),
    )
    expect(play(...texts).end).toEqual(MALFORMED)
  })
})

describe.each(['chat', 'messages'])('a stream of Responses for %s', (surface) => {
  const play = (...events: readonly unknown[]): Given => stream(surface, 'responses', toSse(...events))
  const completed = (response: Members = {}) => ({
    type: 'response.completed',
    response: { output: [], ...response },
  })

  it('makes no call without a name, and loses no arguments of one that nobody told', () => {
    const nameless = { type: 'function_call', call_id: 'x', arguments: '{}' }
    expect(
      play({ type: 'response.output_item.done', output_index: 0, item: nameless }, completed()).end,
    ).toEqual(MALFORMED)
    const piece = { type: 'response.function_call_arguments.delta', output_index: 0, delta: '{"a":1}' }
    expect(play(piece, completed()).end).toEqual(MALFORMED)
    const late = { type: 'function_call', call_id: 'x', name: 'f', arguments: '{"a":1}' }
    expect(play(piece, completed({ output: [late] })).heard.calls).toMatchObject([{ args: '{"a":1}' }])
  })

  const call = (id: string, more: Members = {}) => ({
    id,
    type: 'function_call',
    call_id: `call_${id}`,
    name: 'f',
    ...more,
  })

  it('makes a call once, however often it is announced', () => {
    const added = { type: 'response.output_item.added', output_index: 0, item: call('a') }
    const done = {
      type: 'response.output_item.done',
      output_index: 0,
      item: call('a', { arguments: '{"a":1}' }),
    }
    expect(play(added, added, done, done, completed()).heard.calls).toEqual([
      { id: 'call_a', name: 'f', args: '{"a":1}' },
    ])
  })

  it('is heard item by item, where all have one number and where their ids change', () => {
    const piece = (output_index: number, item_id: string, delta: string) => ({
      type: 'response.function_call_arguments.delta',
      output_index,
      item_id,
      delta,
    })
    const added = (output_index: number, id: string) => ({
      type: 'response.output_item.added',
      output_index,
      item: call(id),
    })
    const alike = play(
      added(0, 'a'),
      added(0, 'b'),
      piece(0, 'a', '{"a":1}'),
      piece(0, 'b', '{"b":2}'),
      completed(),
    )
    const changing = play(
      added(0, 'a'),
      added(1, 'b'),
      piece(0, 'x', '{"a":1}'),
      piece(1, 'y', '{"b":2}'),
      completed(),
    )
    for (const { heard } of [alike, changing])
      expect(heard.calls.map(({ args }) => args)).toEqual(['{"a":1}', '{"b":2}'])
  })

  it('has failed where its last response says so, whatever the event is called', () => {
    const said = { type: 'response.output_text.delta', output_index: 0, delta: 'Hel' }
    const error = { code: 'server_error', message: 'gave up' }
    const { end, heard } = play(said, completed({ status: 'failed', error }))
    expect(end).toMatchObject({ kind: 'failed', reason: 'in_band' })
    expect(heard.ended).toBe(false)
  })

  it('is read in time that grows with its items alone, and has no more than anybody reads', () => {
    const items = (count: number) =>
      Array.from({ length: count }, (_, i) => ({
        id: `msg_${i}`,
        type: 'message',
        content: [{ type: 'output_text', text: 'x' }],
      }))
    expect(play(completed({ output: items(4000) })).heard.text).toHaveLength(4000)
    expect(play(completed({ output: items(5000) })).end).toEqual(MALFORMED)
  })
})

it('long instructions, which Responses says twice before it begins, leave room for an answer', () => {
  const events = toSse(chunk({ role: 'assistant', content: '' }), chunk({ content: 'Hi' }), chunk({}, 'stop'))
  const { heard } = stream('responses', 'openai', events, { instructions: 'x'.repeat(3 * 1024 * 1024) })
  expect(heard).toMatchObject({ text: 'Hi', ended: true })
})

// --- pictures --------------------------------------------------------------------------------------------------

describe('a picture in an answer', () => {
  const inlineData = { mimeType: 'image/png', data: 'iVBORw0=' }
  const URL = 'data:image/png;base64,iVBORw0='
  const parts = [{ text: 'Here: ' }, { inlineData }, { text: 'done' }]
  const gemini = { responseId: 'r', candidates: [{ content: { parts }, finishReason: 'STOP' }] }
  const image = { type: 'image_url', image_url: { url: URL }, index: 0 }

  it('of Gemini is where callers of chat look for it, whole and streamed', () => {
    expect(playWhole(asked('chat', 'gemini'), JSON.stringify(gemini))).toMatchObject({
      json: { choices: [{ message: { content: 'Here: done', images: [image] } }] },
    })
    const { end, text } = stream('chat', 'gemini', toSse(gemini))
    expect(end).toEqual({ kind: 'complete' })
    expect(text).toContain(`"delta":${JSON.stringify({ images: [image] })}`)
  })

  it.each([
    ['gemini', gemini],
    ['openai', chunk({ content: 'Here: done', images: [image] }, 'stop')],
  ])('of %s is an item of Responses', (format, event) => {
    const { response, output } = assembleResponse(stream('responses', format, toSse(event)).text)
    const picture = { type: 'image_generation_call', status: 'completed', result: 'iVBORw0=' }
    expect(response.output).toEqual(expect.arrayContaining([expect.objectContaining(picture)]))
    expect(output).toEqual(response.output)
  })

  it('of chat is an item of Responses, whole', () => {
    const message = { role: 'assistant', content: '', images: [image] }
    const reply = { id: 'c', choices: [{ message, finish_reason: 'stop' }] }
    expect(playWhole(asked('responses', 'openai'), JSON.stringify(reply))).toMatchObject({
      json: { output: [{ type: 'image_generation_call', result: 'iVBORw0=' }] },
    })
  })

  it.each(['messages', 'completions'])('is named where %s has no place for it', (surface) => {
    const note = '[A picture (image/png) is part of this answer, and cannot be shown here.]'
    const { end, text } = stream(surface, 'gemini', toSse(gemini))
    expect(end).toEqual({ kind: 'complete' })
    expect(text).toContain(note)
    expect(JSON.stringify(playWhole(asked(surface, 'gemini'), JSON.stringify(gemini)))).toContain(note)
  })

  it('that was only thought of is none of it, and sound is not taken for one', () => {
    const drafted = {
      candidates: [
        { content: { parts: [{ thought: true, inlineData }, { text: 'Hi' }] }, finishReason: 'STOP' },
      ],
    }
    expect(stream('messages', 'gemini', toSse(drafted)).heard).toMatchObject({ text: 'Hi', ended: true })
    const sound = { inlineData: { mimeType: 'audio/wav', data: 'UklGRg==' } }
    const spoken = { candidates: [{ content: { parts: [sound] }, finishReason: 'STOP' }] }
    expect(stream('chat', 'gemini', toSse(spoken)).end).toEqual(MALFORMED)
  })
})

it('a name that is as long as a text is not said with every piece', () => {
  const long = 'x'.repeat(100_000)
  const said = Array.from({ length: 20 }, () => ({ candidates: [{ content: { parts: [{ text: 'Hi ' }] } }] }))
  const head = { responseId: long, modelVersion: long, ...said[0] }
  const end = { candidates: [{ content: { parts: [] }, finishReason: 'STOP' }] }
  for (const surface of ['chat', 'messages', 'responses', 'completions']) {
    const { heard, text } = stream(surface, 'gemini', toSse(head, ...said, end))
    expect(heard).toMatchObject({ text: 'Hi '.repeat(21), ended: true })
    expect(text).toContain('"model":"m1"')
    expect(text.length).toBeLessThan(20_000)
  }
})

// --- cuts ------------------------------------------------------------------------------------------------------

const DIALECTS: Readonly<Record<string, Dialect>> = { openai, anthropic, gemini, bedrock, responses }
const OWN: Readonly<Record<string, string>> = {
  chat: 'openai',
  messages: 'anthropic',
  responses: 'responses',
}
const BRIDGES = ['chat', 'messages', 'responses', 'completions'].flatMap((surface) =>
  Object.keys(DIALECTS)
    .filter((format) => OWN[surface] !== format)
    .map((format) => ({ surface, format })),
)

describe.each(BRIDGES)('a stream of $format for $surface', ({ surface, format }) => {
  const bytes = Buffer.concat(
    DIALECTS[format]?.frames(
      { fields: {}, model: 'm1', stream: true, includeUsage: true, choices: 1, messages: [], tools: [] },
      {
        reasoning: ['Let ', 'me think'],
        pieces: ['Hel', 'lo \u{1f44b}'],
        toolCalls: [
          { name: 'f', args: { city: 'Z\u00fcrich "x"' } },
          { name: 'f', args: {} },
        ],
      },
    ) ?? [],
  )
  const play = (...chunks: readonly Buffer[]): Given => stream(surface, format, chunks)
  const full = play(bytes)

  it('looks whole only where nothing of it is missing, wherever it is cut', () => {
    expect(full.end).toEqual({ kind: 'complete' })
    let cuts = 0
    for (let at = 0; at < bytes.length; at += 5) {
      const { end, heard } = play(bytes.subarray(0, at))
      if (end?.kind !== 'complete') {
        expect(heard.ended).toBe(false)
        cuts += 1
      } else
        expect(heard).toMatchObject({
          text: full.heard.text,
          calls: full.heard.calls,
          finish: full.heard.finish,
        })
    }
    expect(cuts).toBeGreaterThan((bytes.length / 5) * 0.8)
  })

  if (format === 'bedrock') return
  it.each([
    ['CRLF', (text: string) => text.replaceAll('\n', '\r\n')],
    ['CR', (text: string) => text.replaceAll('\n', '\r')],
    ['a byte order mark', (text: string) => `\ufeff${text}`],
    [
      'comments and fields of others',
      (text: string) => text.replaceAll('\n\n', '\n\n: on\n\nevent: ping\n\nid: 1\n\n'),
    ],
    ['no space', (text: string) => text.replaceAll('data: ', 'data:')],
    ['several lines of data', (text: string) => text.replaceAll('data: {', 'data: {\ndata: ')],
  ])('is the same with %s, in pieces of any size', (_, change) => {
    const changed = Buffer.from(change(bytes.toString()))
    for (const size of [1, 7, changed.length]) {
      const pieces: Buffer[] = []
      for (let at = 0; at < changed.length; at += size) pieces.push(changed.subarray(at, at + size))
      expect(play(...pieces).text.replaceAll(MINTED, 'ID')).toBe(full.text.replaceAll(MINTED, 'ID'))
    }
  })
})

/** Where a call has no id of its own it is made of the text of its event. */
const MINTED = /call_[0-9a-f]{24}/g

describe('an argument that is a number of more digits than JavaScript has', () => {
  const args = '{"id":12345678901234567890,"ratio":0.1,"many":[1e400,-9007199254740993]}'
  const textOf = (surface: string, format: string, reply: unknown): string => {
    const given = playWhole(asked(surface, format), JSON.stringify(reply).replace('"as written"', args))
    return 'text' in given ? given.text : given.failure
  }

  it('comes to Messages from chat as it was', () => {
    const call = { id: 'a', type: 'function', function: { name: 'f', arguments: args } }
    const reply = { choices: [{ message: { tool_calls: [call] }, finish_reason: 'tool_calls' }] }
    expect(textOf('messages', 'openai', reply)).toContain(args)
  })

  it.each(['messages', 'chat'])('comes to %s from Gemini and Bedrock as it was', (surface) => {
    const written = surface === 'messages' ? args : JSON.stringify(args).slice(1, -1)
    const part = { functionCall: { name: 'f', args: 'as written' } }
    const gemini = { candidates: [{ content: { parts: [part] }, finishReason: 'STOP' }] }
    expect(textOf(surface, 'gemini', gemini)).toContain(written)
    const toolUse = { toolUseId: 't', name: 'f', input: 'as written' }
    const bedrock = { output: { message: { content: [{ toolUse }] } }, stopReason: 'tool_use' }
    expect(textOf(surface, 'bedrock', bedrock)).toContain(written)
  })
})

describe.each(['chat', 'messages', 'responses', 'completions'])(
  'a finish reason with every piece, for %s',
  (surface) => {
    it('ends the answer once, behind all of it', () => {
      const piece = (text: string) => ({
        candidates: [{ content: { parts: [{ text }] }, finishReason: 'STOP' }],
      })
      const { heard, text } = stream(surface, 'gemini', toSse(piece('Hel'), piece('lo '), piece('you')))
      expect(heard).toMatchObject({ text: 'Hello you', finish: 'stop', ended: true })
      const end = text.search(/"finish_reason":"|"stop_reason":"|response\.completed/)
      expect(end).toBeGreaterThan(text.indexOf('you'))
    })

    if (surface === 'completions') return
    it('is that of the calls which come behind the first', () => {
      const call = { functionCall: { name: 'f', args: {} } }
      const say = (part: unknown) => ({ candidates: [{ content: { parts: [part] }, finishReason: 'STOP' }] })
      expect(stream(surface, 'gemini', toSse(say({ text: 'So' }), say(call))).heard).toMatchObject({
        finish: 'tool_calls',
        calls: [{ name: 'f', args: '{}' }],
      })
    })
  },
)

// --- errors ----------------------------------------------------------------------------------------------------

describe.each(['openai', 'azure', 'responses'])('an error of %s without a status', (format) => {
  const told = (error: Members) => formats.get(format)?.provider?.inBand(JSON.stringify({ error }))

  it.each([
    ['rate_limit_exceeded', 429, { verdict: 'retry', key: false }],
    ['insufficient_quota', 429, { verdict: 'retry', key: true, park: true }],
    ['credit_balance_exhausted', 429, { verdict: 'retry', key: true, park: true }],
    ['invalid_api_key', 401, { verdict: 'retry', key: true, park: true }],
    ['content_filter', 400, { verdict: 'refuse' }],
    ['constructor', 500, { verdict: 'retry', key: false }],
  ])('is what its code "%s" says', (code, status, fault) => {
    expect(told({ message: 'No.', code })).toMatchObject({ status, fault })
  })

  it('names its wait in its words', () => {
    const wait = (words: string) =>
      told({ code: 'rate_limit_exceeded', message: `Please try again in ${words}. Visit us.` })?.fault
        .retryAfterMs
    expect(['20ms', '1.2s', '6m0s', '1h2m3.5s'].map(wait)).toEqual([20, 1200, 360_000, 3_723_500])
    for (const words of ['a while', '1.2.3s', '-5s', `${'9'.repeat(400)}s`])
      expect(wait(words)).toBeUndefined()
  })
})
