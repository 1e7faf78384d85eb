// The bytes of a Messages request that go on to Anthropic as they came, but for the few that may change; and a stream
// that another deployment goes on with.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { anthropic } from '../../../src/formats/anthropic.ts'
import { createListener, createSplice } from '../../../src/formats/resume.ts'
import { packSeal, unpackSeal } from '../../../src/formats/seals.ts'
import type { Frame } from '../../../src/types.ts'
import { requestFaults } from '../../support/messages-checker.ts'
import { toModelRequest, toSentBytes } from '../../support/model-request.ts'

const { provider } = anthropic

function sent(text: string, model = 'claude-opus-4-5', maxOutputTokens?: number): string {
  const request = toModelRequest(text, 'anthropic')
  return toSentBytes(provider, request, { model, maxOutputTokens, options: {} })
}

const SIGNATURE = 'EqQBCgIYAhIM1gbcDa9GJwZA2b3h'

describe('a request between equals', () => {
  const body = `{ "model":"claude-opus-4-5", "max_tokens" : 1e3,"unknown":1.50,
    "messages":[{"role":"user","content":"Hi \\u00e9","cache_control":{"type":"ephemeral"}},
    {"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"${SIGNATURE}"}]}],"thinking":{"type":"enabled","budget_tokens":2048} }`

  it('goes as it came, unknown members, number spellings and signatures included', () => {
    expect(sent(body)).toBe(body)
  })

  it('names the model that is asked, and keeps within the cap of the policy', () => {
    expect(sent(body, 'claude-opus-4-6')).toBe(body.replace('claude-opus-4-5', 'claude-opus-4-6'))
    expect(sent(body, 'claude-opus-4-5', 5_000)).toBe(body)
    expect(sent(body.replace('1e3', '9000'), 'claude-opus-4-5', 5_000)).toBe(body.replace('1e3', '5000'))
  })

  it('thinks below a cap that was lowered for it, or not at all', () => {
    const large = body.replace('1e3', '9000')
    expect(sent(large, 'claude-opus-4-5', 2_000)).toBe(
      body
        .replace('1e3', '2000')
        .replace('{"type":"enabled","budget_tokens":2048}', '{"type":"enabled","budget_tokens":1999}'),
    )
    expect(sent(large, 'claude-opus-4-5', 900)).toBe(
      body.replace('1e3', '900').replace('{"type":"enabled","budget_tokens":2048}', '{"type":"disabled"}'),
    )
  })
})

describe('thoughts of other formats', () => {
  const foreign = packSeal({ of: 'thought', sealed: { origin: 'gemini', value: 'Zm9v' } }, 'anthropic')
  const unsealed = packSeal({ of: 'thought', sealed: undefined }, 'anthropic')

  it('are cut out of a conversation that goes to Anthropic, and nothing else is', () => {
    const ours = `{"type":"thinking","thinking":"Hm, \\"x\\" ]","signature":"${foreign}"}`
    const text = (content: string) =>
      `{"model":"claude-opus-4-5","max_tokens":9,"messages":[{"role":"user","content":"sluice:"}, {"role":"assistant","content":${content}}, {"role":"user","content":"ok"}]}`
    const own = `{"type":"thinking","thinking":"","signature":"${SIGNATURE}"}`
    const call = `{"type":"tool_use","id":"t","name":"n","input":{"signature":"${foreign}"}}`
    expect(sent(text(`[${ours} , ${call}]`))).toBe(text(`[${call}]`))
    expect(sent(text(`[${own}, ${ours},${call}]`))).toBe(text(`[${own}, ${call}]`))
    expect(sent(text(`[${own} ,{"type":"text","text":"a"}, ${ours}]`))).toBe(
      text(`[${own} ,{"type":"text","text":"a"}]`),
    )
    expect(sent(text(`[${ours},{"type":"redacted_thinking","data":"${unsealed}"},${call}]`))).toBe(
      text(`[${call}]`),
    )
    // A turn that says nothing else is cut with its comma.
    expect(sent(text(`[${ours}]`))).toBe(
      '{"model":"claude-opus-4-5","max_tokens":9,"messages":[{"role":"user","content":"sluice:"}, {"role":"user","content":"ok"}]}',
    )
    expect(sent(text(`[${call}]`))).toBe(text(`[${call}]`))
  })

  it('leave a document that can be read, wherever they stand', () => {
    const block = fc.constantFrom(
      { type: 'text', text: 'a "quoted" ]}, word' },
      { type: 'thinking', thinking: 'x', signature: SIGNATURE },
      { type: 'thinking', thinking: 'x', signature: foreign },
      { type: 'redacted_thinking', data: foreign },
      { type: 'thinking', thinking: '', signature: unsealed },
      { type: 'text', text: foreign },
    )
    const message = fc.record({
      role: fc.constant('assistant'),
      content: fc.array(block, { minLength: 1, maxLength: 5 }),
    })
    fc.assert(
      fc.property(fc.array(message, { maxLength: 4 }), fc.constantFrom(0, 2), (said, indent) => {
        const user = { role: 'user', content: 'x' }
        const document = { model: 'claude-opus-4-5', max_tokens: 9, messages: [user, ...said, user] }
        const isOurs = (one: { type: string; signature?: string; data?: string }) =>
          [one.signature, one.data].some((seal) => seal?.startsWith('sluice:') === true)
        const left = said
          .map(({ role, content }) => ({ role, content: content.filter((one) => !isOurs(one)) }))
          .filter(({ content }) => content.length > 0)
        expect(JSON.parse(sent(JSON.stringify(document, null, indent)))).toEqual({
          ...document,
          messages: [user, ...left, user],
        })
      }),
    )
  })

  it('come back whatever is in them, and what somebody made up is none', () => {
    fc.assert(
      fc.property(fc.string(), fc.constantFrom('thought' as const, 'call' as const), (value, of) => {
        const sealed = { origin: 'gemini', value }
        expect(unpackSeal(packSeal({ of, sealed }, 'anthropic'), 'anthropic')).toEqual({ of, sealed })
        const made = unpackSeal(`sluice:${value}`, 'anthropic')
        expect(made.sealed?.origin).not.toBe('anthropic')
      }),
    )
    expect(unpackSeal('', 'anthropic').sealed).toBeUndefined()
    expect(unpackSeal('sluice::anthropic:forged', 'anthropic').sealed).toBeUndefined()
  })
})

// --- going on with an answer -------------------------------------------------------------------------------------

function frame(value: Readonly<Record<string, unknown>>): Frame {
  const data = JSON.stringify(value)
  const event = String(value.type)
  return { data, event, bytes: Buffer.from(`event: ${event}\ndata: ${data}\n\n`) }
}

const textFrame = (text: string, index = 0) =>
  frame({ type: 'content_block_delta', index, delta: { type: 'text_delta', text } })
const open = (block: Readonly<Record<string, unknown>>, index = 0) =>
  frame({ type: 'content_block_start', index, content_block: block })
const close = (index = 0) => frame({ type: 'content_block_stop', index })
const START = frame({
  type: 'message_start',
  message: { id: 'msg_1', content: [], usage: { input_tokens: 1, output_tokens: 1 } },
})
const END = [
  frame({ type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 3 } }),
  frame({ type: 'message_stop' }),
]
const answer = (...pieces: readonly string[]) => [
  START,
  open({ type: 'text', text: '' }),
  ...pieces.map((piece) => textFrame(piece)),
  close(),
  ...END,
]
const thinking = [
  open({ type: 'thinking', thinking: '', signature: '' }),
  frame({ type: 'content_block_delta', index: 0, delta: { type: 'thinking_delta', thinking: 'hm' } }),
  close(),
]

function heard(frames: readonly Frame[]): string | undefined {
  const listener = createListener(provider.resume)
  for (const { data } of frames) listener.passed(data ?? '', false)
  return listener.said()
}

function spliced(said: string, frames: readonly Frame[]): readonly Frame[] | 'apart' {
  const joined = createSplice(provider.resume, said)
  const watch = provider.watch()
  const out: Frame[] = []
  for (const one of frames) {
    const next = out.length > 0 ? one : joined.take(one, watch.look(one.data ?? ''))
    if (next === 'apart') return next
    if (next !== 'held') out.push(next)
  }
  return out
}

describe('an answer that another goes on with', () => {
  it('is one message for its reader: the block that is open goes on, under its name', () => {
    const rest = spliced('Once upon', answer('Once ', 'upon a', ' time'))
    if (rest === 'apart') throw new Error('it says the same')
    expect(rest.map(({ bytes }) => bytes.toString())).toEqual(
      [textFrame(' a'), textFrame(' time'), close(), ...END].map(({ bytes }) => bytes.toString()),
    )
  })

  it('goes on by itself where the deployment was given the beginning', () => {
    const rest = spliced('', answer(' a time'))
    expect(rest === 'apart' ? rest : rest.map(({ data }) => data)).toEqual(
      [textFrame(' a time'), close(), ...END].map(({ data }) => data),
    )
  })

  it('cannot be gone on with when it is more than the text of one block', () => {
    expect(heard([START, open({ type: 'text', text: '' }), textFrame('Once')])).toBe('Once')
    expect(
      heard([START, ...thinking, open({ type: 'text', text: '' }, 1), textFrame('Once', 1)]),
    ).toBeUndefined()
    expect(heard([START, open({ type: 'tool_use', id: 't', name: 'n', input: {} })])).toBeUndefined()
    expect(heard(answer('Once'))).toBeUndefined()
  })

  it('is not followed by what has no place behind it', () => {
    expect(
      spliced('Once', [START, ...thinking, open({ type: 'text', text: '' }, 1), textFrame('Once upon', 1)]),
    ).toBe('apart')
    expect(spliced('', [START, open({ type: 'tool_use', id: 't', name: 'n', input: {} })])).toBe('apart')
    expect(spliced('Once', answer('Twice'))).toBe('apart')
    expect(spliced('Once', answer('Once'))).toBe('apart')
  })
})

describe('the beginning of an answer as the last message', () => {
  const ask = (over: object = {}, messages: readonly object[] = [{ role: 'user', content: 'Tell' }]) =>
    JSON.stringify({ model: 'claude-opus-4-5', max_tokens: 9, messages, ...over })
  const begun = (text: string, said: string, how = true) => {
    const request = toModelRequest(text, 'anthropic')
    const edits = provider.resume.prefill(request, said, how)
    if (edits === undefined) return undefined
    return JSON.parse(
      toSentBytes({ edits: () => edits }, request, { model: '', maxOutputTokens: undefined, options: {} }),
    )
  }

  it('is the assistant’s, behind the conversation', () => {
    const told = begun(ask(), 'Once upon')
    expect(told.messages).toEqual([
      { role: 'user', content: 'Tell' },
      { role: 'assistant', content: 'Once upon' },
    ])
    expect(requestFaults(told)).toEqual([])
  })

  it('is not told where it would be refused or misread', () => {
    expect(begun(ask(), 'Once', false)).toBeUndefined()
    expect(begun(ask(), '')).toBeUndefined()
    expect(begun(ask(), 'Once ')).toBeUndefined()
    expect(begun(ask({ thinking: { type: 'enabled', budget_tokens: 1_024 } }), 'Once')).toBeUndefined()
    expect(begun(ask({ thinking: { type: 'disabled' } }), 'Once')).toBeDefined()
    expect(
      begun(
        ask({}, [
          { role: 'user', content: 'Tell' },
          { role: 'assistant', content: 'On' },
        ]),
        'Once',
      ),
    ).toBeUndefined()
    expect(begun(ask({}, []), 'Once')).toBeUndefined()
  })
})
