// Bugs of other gateways that have to do with Messages, as they were reported (test/support/published-bugs.ts): none of
// them happens here.

import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { anthropic } from '../../../src/formats/anthropic.ts'
import type { ChatEvent, ChatRequest, Seal } from '../../../src/formats/canonical.ts'
import { openai } from '../../../src/formats/openai.ts'
import {
  assistant,
  call,
  chatRequest,
  result,
  system,
  thought,
  tool,
  user,
} from '../../support/chat-arbitraries.ts'
import { readStream, requestFaults } from '../../support/messages-checker.ts'

const { client, provider } = anthropic
const { chat } = provider
if (chat === undefined) throw new Error('no translation')
const translation = chat

const to = () => ({
  request: chatRequest(),
  sent: {},
  nowSeconds: 0,
  nextId: (prefix: string) => `${prefix}1`,
})
const START: ChatEvent = { type: 'start', id: 'x', model: 'm', createdSeconds: 1, usage: undefined }
const text = (words: string): ChatEvent => ({ type: 'text', choice: 0, text: words })
const think = (words: string): ChatEvent => ({ type: 'thinking', choice: 0, text: words })
const args = (at: number, json: string): ChatEvent => ({ type: 'arguments', choice: 0, call: at, text: json })
const finish = (why: 'stop' | 'tool_calls' | 'length' | 'content_filter'): ChatEvent => ({
  type: 'finish',
  choice: 0,
  finish: why,
  stopSequence: undefined,
})
const begin = (at: number, id = `call_${at}`, sealed?: Seal): ChatEvent => ({
  type: 'call',
  choice: 0,
  call: at,
  kind: 'function',
  id,
  name: 'search',
  namespace: undefined,
  sealed,
})

/** What a caller of Messages gets of a stream, added up strictly. */
function seen(...events: readonly ChatEvent[]): Record<string, unknown> {
  const writer = client.chat.events(to())
  const { faults, message } = readStream(
    [START, ...events].map((one) => writer.write(one)).join('') + writer.end(),
  )
  expect(faults).toEqual([])
  return message
}

function written(over: Partial<ChatRequest>, model = 'claude-opus-4-5'): Record<string, unknown> {
  const { body } = translation.write(chatRequest(over), { model, maxOutputTokens: undefined, options: {} })
  const sent = JSON.parse(JSON.stringify(body))
  expect(requestFaults(sent)).toEqual([])
  return sent
}

function eventsOf(sse: string): ChatEvent[] {
  const reader = translation.events({ body: {}, headers: [], dropped: [], names: new Map() })
  return createFrameSplitter()
    .push(Buffer.from(sse))
    .flatMap((frame) => reader.read(frame))
}

const toSse = (...events: readonly { readonly type: string; readonly [name: string]: unknown }[]) =>
  events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join('')

describe('streams', () => {
  it('an error inside a stream is an error, whatever came before it (bug 13)', () => {
    const watch = provider.watch()
    watch.look(
      JSON.stringify({ type: 'message_start', message: { usage: { input_tokens: 1, output_tokens: 1 } } }),
    )
    const facts = watch.look(
      JSON.stringify({ type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } }),
    )
    expect(facts).toMatchObject({ error: 'Overloaded', content: false })
    expect(watch.finished).toBe(false)
  })

  it('the words of a nested error are not lost on their way to the caller (bug 10)', () => {
    const data = JSON.stringify({
      type: 'error',
      error: { type: 'rate_limit_error', message: 'Slow down.', details: null },
    })
    const { status, fault } = provider.inBand(data)
    expect({ status, message: fault.message }).toEqual({ status: 429, message: 'Slow down.' })
    const event = client.errorEvent({
      status,
      code: null,
      type: 'rate_limit_error',
      message: fault.message,
      param: null,
      requestId: 'r',
    })
    expect(event).toContain('"error":{"type":"rate_limit_error","message":"Slow down."}')
  })
})

describe('calls of tools', () => {
  it('parallel calls have numbers of their own, which are not those of their blocks (bug 16)', () => {
    const block = (index: number, content_block: object) => ({
      type: 'content_block_start',
      index,
      content_block,
    })
    const events = eventsOf(
      toSse(
        { type: 'message_start', message: {} },
        block(0, { type: 'text', text: '' }),
        { type: 'content_block_stop', index: 0 },
        block(1, { type: 'tool_use', id: 'a', name: 'x', input: {} }),
        block(2, { type: 'tool_use', id: 'b', name: 'y', input: {} }),
        { type: 'content_block_delta', index: 2, delta: { type: 'input_json_delta', partial_json: '{}' } },
        { type: 'content_block_delta', index: 1, delta: { type: 'input_json_delta', partial_json: '[]' } },
      ),
    )
    expect(events.flatMap((one) => ('call' in one ? [[one.type, one.call]] : []))).toEqual([
      ['call', 0],
      ['call', 1],
      ['arguments', 1],
      ['arguments', 0],
    ])
  })

  it('a call keeps its id and its name (bug 19)', () => {
    expect(
      seen(begin(0, 'call_a'), begin(1, 'call_b'), args(0, '{}'), args(1, '{}'), finish('tool_calls'))
        .content,
    ).toMatchObject([
      { type: 'tool_use', id: 'call_a', name: 'search' },
      { type: 'tool_use', id: 'call_b', name: 'search' },
    ])
  })

  it('text and a call that come together are both there', () => {
    expect(
      seen(text('One moment.'), begin(0), args(0, '{"a":1}'), finish('tool_calls')).content,
    ).toMatchObject([
      { type: 'text', text: 'One moment.' },
      { type: 'tool_use', input: { a: 1 } },
    ])
  })

  it('arguments that come whole, or not at all, come as a delta (bug 23)', () => {
    expect(seen(begin(0), args(0, '{"whole":true}'), begin(1), finish('tool_calls')).content).toMatchObject([
      { input: { whole: true } },
      { input: {} },
    ])
  })

  it('a turn that calls ends with the calls, whatever reason was given (bug 25)', () => {
    expect(seen(begin(0), args(0, '{}'), finish('stop')).stop_reason).toBe('tool_use')
  })

  it('a call is answered once, with what came last (bug 26)', () => {
    const messages = [
      user('Hi'),
      assistant(call('a', 'x')),
      result('a', 'first'),
      result('a', 'second'),
      user('Go on'),
    ]
    expect(written({ messages, tools: [tool('x')] }).messages).toMatchObject([
      {},
      {},
      {
        content: [
          { type: 'tool_result', tool_use_id: 'a', content: 'second' },
          { type: 'text', text: 'Go on' },
        ],
      },
    ])
  })

  it('calls and results between other blocks are neither orphans nor stripped (bug 27)', () => {
    const messages = [
      user('Hi'),
      assistant('A', call('a', 'x'), 'B', call('b', 'x')),
      user('Before.'),
      result('b', 'two'),
      result('a', 'one'),
    ]
    const sent = written({ messages, tools: [tool('x')] })
    expect(sent.messages).toMatchObject([
      {},
      { content: [{ text: 'A' }, { id: 'a' }, { text: 'B' }, { id: 'b' }] },
      { content: [{ tool_use_id: 'b' }, { tool_use_id: 'a' }, { text: 'Before.' }] },
    ])
    const back = client.chat.read(sent).request.messages
    expect(back.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool', 'tool', 'user'])
  })

  it('all results of a turn are in one message (bug 28)', () => {
    const messages = [
      user('Hi'),
      assistant(call('a', 'x'), call('b', 'x')),
      result('a', '1'),
      result('b', '2'),
    ]
    expect(written({ messages, tools: [tool('x')] }).messages).toHaveLength(3)
  })

  it('there is no choice without tools (bug 29)', () => {
    expect(written({ toolChoice: { type: 'required' } })).not.toHaveProperty('tool_choice')
    const messages = [{ role: 'user', content: 'Hi' }]
    expect(
      client.chat.read({ model: 'm', max_tokens: 1, messages, tool_choice: { type: 'any' } }).request
        .toolChoice,
    ).toBeUndefined()
  })

  it('a history with calls has tools, and none of them is called when none were offered', () => {
    const messages = [user('Hi'), assistant(call('a', 'x')), result('a', '1'), user('Sum up')]
    expect(written({ messages })).toMatchObject({ tools: [{ name: 'x' }], tool_choice: { type: 'none' } })
  })

  it('a call nobody answered, and an answer to nobody, are mended and not lost', () => {
    const messages = [user('Hi'), assistant(call('a', 'x')), user('Never mind'), result('gone', 'late news')]
    expect(written({ messages, tools: [tool('x')] }).messages).toMatchObject([
      {},
      {},
      { content: [{ tool_use_id: 'a', is_error: true }, { text: 'Never mind' }, {}, { text: 'late news' }] },
    ])
  })
})

describe('reasoning', () => {
  it('a model that must have thought before a call, and whose thought is lost, is not asked to think (bug 33)', () => {
    const loop = [user('Hi'), assistant(call('a', 'x')), result('a', '1')]
    const reasoning = { effort: 'high', budgetTokens: undefined, summary: undefined }
    const lost = { messages: loop, tools: [tool('x')], reasoning }
    expect(written(lost)).not.toHaveProperty('thinking')
    expect(written(lost, 'claude-opus-4-6')).toMatchObject({ thinking: { type: 'adaptive' } })
    // The loop is over once the user speaks.
    expect(written({ ...lost, messages: [...loop, assistant('Done.'), user('More')] })).toHaveProperty(
      'thinking',
    )
  })

  it('several thoughts stay apart and in order, redacted and empty ones among them (bug 34, bug 35)', () => {
    const sealed = (value: string) => ({ origin: 'anthropic', value })
    const thoughts = [
      thought('a', sealed('c2lnMQ==')),
      thought('', sealed('cmVk'), true),
      thought('', sealed('c2lnMg==')),
    ]
    const messages = [user('Hi'), assistant(...thoughts, call('a', 'x')), result('a', '1')]
    expect(written({ messages, tools: [tool('x')] }).messages).toMatchObject([
      {},
      {
        content: [
          { type: 'thinking', thinking: 'a', signature: 'c2lnMQ==' },
          { type: 'redacted_thinking', data: 'cmVk' },
          { type: 'thinking', thinking: '', signature: 'c2lnMg==' },
          { type: 'tool_use' },
        ],
      },
      {},
    ])
  })

  it('a signature of another server of this format is not Claude’s', () => {
    const reply = {
      type: 'message',
      content: [
        { type: 'thinking', thinking: 'Hm.', signature: 'abc' },
        { type: 'text', text: 'x' },
      ],
    }
    const asked = { model: 'kimi-k2', maxOutputTokens: undefined, options: {} }
    const written = translation.write(chatRequest(), asked)
    const [choice] = translation.read(Buffer.from(JSON.stringify(reply)), written).choices
    const messages = [user('Hi'), { role: 'assistant' as const, content: choice?.content ?? [] }, user('ok')]
    const thoughts = (model: string) =>
      JSON.stringify(translation.write(chatRequest({ messages }), { ...asked, model }).body).includes(
        '"signature":"abc"',
      )
    expect([thoughts('kimi-k2'), thoughts('claude-opus-4-5')]).toEqual([true, false])
  })

  it('a caller of chat that hands its message back hands the signatures back (bug 33, bug 34, bug 35)', () => {
    const sealed = (value: string) => ({ origin: 'anthropic', value })
    const content = [
      thought('Hm.', sealed('c2lnMQ==')),
      thought('', sealed('cmVk'), true),
      thought('', sealed('c2lnMg==')),
      call('toolu_1', 'x', '{"a":1}'),
    ]
    const reply = {
      id: 'msg_1',
      createdSeconds: undefined,
      model: 'claude-opus-4-5',
      choices: [{ content, finish: 'tool_calls' as const, stopSequence: undefined, logprobs: undefined }],
      usage: undefined,
      serviceTier: undefined,
    }
    const told = JSON.parse(JSON.stringify(openai.client.chat.write(reply, to())))
    const { request } = openai.client.chat.read({
      model: 'm',
      messages: [
        { role: 'user', content: 'Hi' },
        told.choices[0].message,
        { role: 'tool', tool_call_id: 'toolu_1', content: '1' },
      ],
      tools: [{ type: 'function', function: { name: 'x' } }],
      reasoning_effort: 'high',
    })
    const sent = written(request)
    expect(sent.thinking).toMatchObject({ type: 'enabled' })
    expect(sent.messages).toMatchObject([
      {},
      {
        content: [
          { type: 'thinking', thinking: 'Hm.', signature: 'c2lnMQ==' },
          { type: 'redacted_thinking', data: 'cmVk' },
          { type: 'thinking', thinking: '', signature: 'c2lnMg==' },
          { type: 'tool_use', id: 'toolu_1', input: { a: 1 } },
        ],
      },
      {},
    ])
  })

  it('a signed thought goes back word for word, white space included (bug 36)', () => {
    const content = [
      { type: 'thinking', thinking: '  two \n\n', signature: 'c2lnMQ==' },
      { type: 'text', text: 'x' },
    ]
    const sent = {
      model: 'm',
      max_tokens: 9,
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content },
        { role: 'user', content: 'ok' },
      ],
    }
    const { request } = client.chat.read(sent)
    expect(written({ messages: request.messages }).messages).toMatchObject([{}, { content }, {}])
  })

  it('a thought reaches whoever can use it', () => {
    const content = [
      { type: 'thinking', thinking: 'Hm.', signature: 'c2lnMQ==' },
      { type: 'text', text: 'x' },
    ]
    const { request } = client.chat.read({
      model: 'm',
      max_tokens: 9,
      messages: [{ role: 'assistant', content }],
    })
    expect(request.messages[0]?.content[0]).toMatchObject({ type: 'thinking', text: 'Hm.' })
    expect(seen(think('Hm.'), text('x'), finish('stop')).content).toMatchObject([
      { thinking: 'Hm.' },
      { text: 'x' },
    ])
  })

  it('a seal that stands on a call comes back on that call, and goes to Anthropic never (bug 32)', () => {
    const sealed = { origin: 'gemini', value: 'c2lnbmF0dXJl' }
    const message = seen(begin(0, 'call_a', sealed), args(0, '{}'), finish('tool_calls'))
    const { request } = client.chat.read({
      model: 'm',
      max_tokens: 9,
      messages: [{ role: 'assistant', content: message.content }],
    })
    expect(request.messages).toEqual([assistant(call('call_a', 'search', '{}', { sealed }))])
    expect(JSON.stringify(written({ messages: request.messages }))).not.toContain('c2lnbmF0dXJl')
  })
})

describe('the shape of a stream', () => {
  it('blocks are numbered by us, without gaps, whatever the provider numbers (bug 40, bug 41, bug 43)', () => {
    // The checker compares every number with the count of blocks.
    expect(
      seen(text('a'), think('b'), begin(5), args(5, '{}'), text('c'), begin(9), finish('tool_calls')).content,
    ).toHaveLength(5)
  })

  it('text behind a call has a block of its own (bug 42)', () => {
    expect(
      seen(begin(0), args(0, '{"a":'), text('Now '), args(0, '1}'), text('done.'), finish('tool_calls'))
        .content,
    ).toMatchObject([
      { type: 'tool_use', input: { a: 1 } },
      { type: 'text', text: 'Now done.' },
    ])
  })

  it('thoughts in the middle of text do not cut it (bug 44)', () => {
    expect(
      seen(text('One '), think('x'), text('text, '), think('y'), text('whole.'), finish('stop')).content,
    ).toMatchObject([
      { type: 'text', text: 'One text, whole.' },
      { type: 'thinking', thinking: 'xy' },
    ])
  })

  it('what an operator says in the middle stays in the middle (bug 45)', () => {
    const messages = [
      system('S'),
      user('1'),
      assistant('2'),
      user('3'),
      system('mid'),
      assistant('4'),
      user('5'),
    ]
    for (const model of ['claude-opus-4-8', 'claude-opus-4-5']) {
      const sent = written({ messages }, model)
      expect(sent.system).toEqual([{ type: 'text', text: 'S' }])
      const order = JSON.stringify(sent.messages)
      expect(order.indexOf('mid')).toBeGreaterThan(order.indexOf('"3"'))
      expect(order.indexOf('mid')).toBeLessThan(order.indexOf('"4"'))
    }
  })

  it('the line that counts requests is not part of a prompt (bug 46)', () => {
    const prompt = (count: number) =>
      client.chat.read({
        model: 'm',
        max_tokens: 9,
        system: [
          { type: 'text', text: `x-anthropic-billing-header: cc_version=2.1.329; cch=${count};` },
          { type: 'text', text: 'S' },
        ],
        messages: [{ role: 'user', content: 'Hi' }],
      }).request.messages
    expect(prompt(1)).toEqual(prompt(2))
  })

  it('marks of the cache survive both ways (bug 47)', () => {
    const mark = { type: 'ephemeral', ttl: '1h' }
    const sent = {
      model: 'claude-opus-4-5',
      max_tokens: 9,
      system: [{ type: 'text', text: 'S', cache_control: mark }],
      tools: [{ name: 'x', input_schema: { type: 'object' }, cache_control: mark }],
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'Hi', cache_control: mark }] },
        { role: 'assistant', content: [{ type: 'tool_use', id: 'a', name: 'x', input: {} }] },
        {
          role: 'user',
          content: [{ type: 'tool_result', tool_use_id: 'a', content: '1', cache_control: mark }],
        },
      ],
    }
    const { request } = client.chat.read(sent)
    expect(
      JSON.parse(
        JSON.stringify(
          translation.write(request, { model: sent.model, maxOutputTokens: undefined, options: {} }).body,
        ),
      ),
    ).toEqual(sent)
  })

  it('blank text is not sent, in results neither (bug 55)', () => {
    const messages = [
      user(' ', 'Hi'),
      assistant('', call('a', 'x')),
      result('a', '\n'),
      assistant(' '),
      user('ok'),
    ]
    const sent = written({ messages, tools: [tool('x')] })
    expect(sent.messages).toEqual([
      { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
      { role: 'assistant', content: [{ type: 'tool_use', id: 'a', name: 'x', input: {} }] },
      {
        role: 'user',
        content: [
          { type: 'tool_result', tool_use_id: 'a' },
          { type: 'text', text: 'ok' },
        ],
      },
    ])
  })

  it('content in a list is not dropped (bug 61)', () => {
    const { request } = client.chat.read({
      model: 'm',
      max_tokens: 1,
      system: [
        { type: 'text', text: 'a' },
        { type: 'text', text: 'b' },
      ],
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'c' },
            { type: 'text', text: 'd' },
          ],
        },
      ],
    })
    expect(JSON.stringify(request.messages)).toMatch(/"a".*"b".*"c".*"d"/)
  })

  it('is bounded: calls that are never whole are not held for ever', () => {
    const writer = client.chat.events(to())
    const megabyte = 'x'.repeat(1024 * 1024)
    for (const event of [START, begin(0), begin(1)]) writer.write(event)
    expect(() => {
      for (let i = 0; i < 10; i += 1) writer.write(args(1, megabyte))
    }).toThrow(expect.objectContaining({ code: 'upstream_incomplete' }))
  })
})
