// A scripted provider of Messages says what Anthropic describes, by the judge of that wire: else a test that it plays in
// proves nothing.

import { describe, expect, it } from 'vitest'
import { dialectOf } from '../../support/dialects/index.ts'
import { chatOf, SCRIPTS } from '../../support/dialects/scripts.ts'
import { messageFaults, readStream } from '../../support/messages-checker.ts'
import type { RecordedRequest } from '../../support/scripted-provider.ts'
import { parseSse } from '../../support/sse.ts'

const CHAT = chatOf('claude-opus-4-5')

const ANSWERS = { ...SCRIPTS, 'its own words': { text: 'Well', finishReason: 'pause_turn' } }

/** A request of which only the body matters. */
function requestOf(body: Buffer): RecordedRequest {
  return {
    index: 0,
    method: 'POST',
    path: '/v1/messages',
    headers: [],
    header: () => undefined,
    body,
    json: () => JSON.parse(body.toString()),
    startedMs: 0,
    endedMs: undefined,
    bytesSent: 0,
    aborted: false,
    complete: false,
    connection: 0,
  }
}

describe('a scripted provider of Messages', () => {
  const dialect = dialectOf('/v1/messages?beta=true')

  it.each(Object.entries(ANSWERS))('%s is a stream as described, and its reply the same', (_, options) => {
    const frames = dialect.frames(CHAT, options)
    const { faults, message } = readStream(frames.join(''))
    const reply = dialect.reply(CHAT, options)
    expect([...faults, ...messageFaults(reply)]).toEqual([])
    expect(message).toEqual(reply)
    expect(frames.filter((frame) => dialect.isFinish(frame))).toHaveLength(1)
    expect(frames.filter((frame) => dialect.isEnd(frame))).toEqual([dialect.end])
  })

  it('tells an error as an event, or as a body, in the types of the vendor', () => {
    const [event] = parseSse(dialect.errorFrame({ message: 'Boom.', type: 'server_error' }))
    expect(event?.event).toBe('error')
    expect(JSON.parse(event?.data ?? '')).toEqual({
      type: 'error',
      error: { type: 'api_error', message: 'Boom.' },
    })
    expect(dialect.errorBody(529)).toMatchObject({ type: 'error', error: { type: 'overloaded_error' } })
  })

  it('is found by its path, and a count by its own', () => {
    expect(
      ['/v1/messages', '/messages', '/v1/messages/count_tokens?beta=true'].map(
        (path) => dialectOf(path).name,
      ),
    ).toEqual(['anthropic', 'anthropic', 'anthropic-count'])
  })

  it('reads a conversation as scripts look at it', () => {
    const body = Buffer.from(
      JSON.stringify({
        model: 'm',
        tools: [{ name: 'a' }],
        messages: [
          { role: 'user', content: 'Hi' },
          { role: 'assistant', content: [{ type: 'tool_use', id: 't', name: 'a', input: {} }] },
          {
            role: 'user',
            content: [{ type: 'tool_result', tool_use_id: 't', content: [{ type: 'text', text: 'ok' }] }],
          },
        ],
      }),
    )
    const read = dialect.read(requestOf(body))
    expect(read.tools).toEqual(['a'])
    expect(read.messages.map(({ role, content }) => [role, content])).toEqual([
      ['user', 'Hi'],
      ['assistant', ''],
      ['tool', 'ok'],
    ])
  })
})
