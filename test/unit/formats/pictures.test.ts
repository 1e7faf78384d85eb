// Pictures in answers: from whoever draws them to whoever asked, in the words of each, and back with the next request. Chat
// has them as OpenRouter, Vercel's gateway and LiteLLM write them (`images`), Responses as an item of its own.

import OpenAI from 'openai'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { anthropic } from '../../../src/formats/anthropic.ts'
import { bedrock } from '../../../src/formats/bedrock.ts'
import type { ChatRequest, Part, Source } from '../../../src/formats/canonical.ts'
import { completions } from '../../../src/formats/completions.ts'
import type { ClientChat, ProviderSide, WrittenRequest } from '../../../src/formats/format.ts'
import { gemini } from '../../../src/formats/gemini.ts'
import { openai } from '../../../src/formats/openai.ts'
import { responses } from '../../../src/formats/responses.ts'
import { createAnswerTo, toEvents, toReply } from '../../support/answers.ts'
import { assistant, call, chatRequest, thought, user } from '../../support/chat-arbitraries.ts'
import { foldEvents } from '../../support/chat-events.ts'
import { messageFaults, readStream } from '../../support/messages-checker.ts'
import { schemaFaults } from '../../support/openai-schema.ts'
import { assembleResponse } from '../../support/responses-stream.ts'

type Members = Readonly<Record<string, unknown>>

const PNG = 'iVBORw0KGgo='
const JPEG = '/9j/4AAQ'
const URL = 'https://example.com/cat.png'
const NOTE = '[A picture (image/png) is part of this answer, and cannot be shown here.]'

const picture = (source: Source): Part => ({ type: 'image', source, detail: undefined })
const png = picture({ kind: 'base64', mediaType: 'image/png', base64: PNG })
const jpeg = picture({ kind: 'base64', mediaType: 'image/jpeg', base64: JPEG })
const far = picture({ kind: 'url', url: URL, mediaType: undefined })
const text = (said: string): Part => ({ type: 'text', text: said })
const SENT = { model: 'm', stream: true }

const plain = (value: unknown): Members => JSON.parse(JSON.stringify(value))

/** An answer with this content, whole and as its stream. */
function answered(chat: ClientChat, content: readonly Part[]): { whole: Members; stream: string } {
  const reply = toReply(content, 'stop')
  const request = chatRequest({ includeUsage: true })
  const writer = chat.events(createAnswerTo(SENT, request))
  return {
    whole: plain(chat.write(reply, createAnswerTo(SENT, request))),
    stream: toEvents(reply)
      .map((event) => writer.write(event))
      .concat(writer.end())
      .join(''),
  }
}

function chatOf({ chat }: ProviderSide): NonNullable<ProviderSide['chat']> {
  if (chat === undefined) throw new Error('no chat')
  return chat
}

function written(side: ProviderSide, request: Partial<ChatRequest>, model = 'm'): WrittenRequest {
  const asked = { model, maxOutputTokens: undefined, options: {} }
  return chatOf(side).write(chatRequest(request), asked)
}

const NOTHING: WrittenRequest = { body: {}, headers: [], dropped: [], names: new Map() }

describe('a picture in an answer to chat', () => {
  const images = [
    { type: 'image_url', image_url: { url: `data:image/png;base64,${PNG}` }, index: 0 },
    { type: 'image_url', image_url: { url: `data:image/jpeg;base64,${JPEG}` }, index: 1 },
    { type: 'image_url', image_url: { url: URL }, index: 2 },
  ]
  const { whole, stream } = answered(openai.client.chat, [text('Here.'), png, jpeg, far])

  it('stands beside its text', () => {
    expect(whole).toMatchObject({
      choices: [{ message: { role: 'assistant', content: 'Here.', images }, finish_reason: 'stop' }],
    })
    expect(schemaFaults('CreateChatCompletionResponse', whole)).toEqual([])
    expect(answered(openai.client.chat, [png]).whole).toMatchObject({
      choices: [{ message: { content: '', images: images.slice(0, 1) } }],
    })
    expect(JSON.stringify(answered(openai.client.chat, [text('Hi.')]))).not.toContain('images')
  })

  it("comes whole in a delta, and OpenAI's own SDK puts it together", async () => {
    const fetch = async () => new Response(stream, { headers: { 'content-type': 'text/event-stream' } })
    const sdk = new OpenAI({ apiKey: 'x', baseURL: 'http://sluice/v1', maxRetries: 0, fetch })
    const shown: unknown[] = []
    const run = sdk.chat.completions.stream({ model: 'm', messages: [{ role: 'user', content: 'Draw.' }] })
    for await (const { choices } of run) {
      const [choice] = choices
      if (choice !== undefined && 'images' in choice.delta) shown.push(choice.delta.images)
    }
    expect(shown).toEqual(images.map((image) => [image]))
    expect((await run.finalChatCompletion()).choices[0]?.message).toMatchObject({ content: 'Here.' })
  })
})

describe('a picture in an answer of Responses', () => {
  it('is an item of its own, whole and streamed', () => {
    const { whole, stream } = answered(responses.client.chat, [text('Here.'), png, text('And:'), jpeg])
    expect(schemaFaults('Response', whole)).toEqual([])
    const items = [
      { type: 'message', content: [{ text: 'Here.' }] },
      { type: 'image_generation_call', status: 'completed', result: PNG },
      { type: 'message', content: [{ text: 'And:' }] },
      { type: 'image_generation_call', status: 'completed', result: JPEG },
    ]
    expect(whole.output).toMatchObject(items)
    expect(assembleResponse(stream).output).toMatchObject(items)
  })

  it('that is far away is told by its address', () => {
    const { whole, stream } = answered(responses.client.chat, [far])
    const items = [{ type: 'message', content: [{ text: expect.stringContaining(URL) }] }]
    expect(whole.output).toMatchObject(items)
    expect(assembleResponse(stream).output).toMatchObject(items)
  })
})

describe('a picture in an answer that has no place for it', () => {
  it('is named in a block of its own in Messages, whatever stands around it', () => {
    const content = [text('Here.'), png, text('And:'), far, call('call_1', 'f', '{"a":1}')]
    const { whole, stream } = answered(anthropic.client.chat, content)
    const blocks = [
      { type: 'text', text: 'Here.' },
      { type: 'text', text: NOTE },
      { type: 'text', text: 'And:' },
      { type: 'text', text: `[A picture is part of this answer: ${URL}]` },
      { type: 'tool_use', name: 'f', input: { a: 1 } },
    ]
    expect(whole.content).toMatchObject(blocks)
    expect(messageFaults(whole)).toEqual([])
    const { message, faults } = readStream(stream)
    expect(faults).toEqual([])
    expect(message.content).toMatchObject(blocks)
  })

  it('that comes while a call is written waits for its end', () => {
    const writer = anthropic.client.chat.events(createAnswerTo(SENT, chatRequest()))
    const begun = {
      kind: 'function',
      id: 'call_1',
      name: 'f',
      namespace: undefined,
      sealed: undefined,
    } as const
    const stream = [
      writer.write({ type: 'call', choice: 0, call: 0, ...begun }),
      writer.write({ type: 'arguments', choice: 0, call: 0, text: '{"a":' }),
      writer.write({
        type: 'image',
        choice: 0,
        source: { kind: 'base64', mediaType: 'image/png', base64: PNG },
      }),
      writer.write({ type: 'arguments', choice: 0, call: 0, text: '1}' }),
      writer.end(),
    ].join('')
    const { message, faults } = readStream(stream)
    expect(faults).toEqual([])
    expect(message.content).toMatchObject([
      { type: 'tool_use', input: { a: 1 } },
      { type: 'text', text: NOTE },
    ])
  })

  it('is named in the text of legacy completions', () => {
    const { chat } = completions.client ?? {}
    if (chat === undefined) throw new Error('nobody speaks completions')
    const { whole, stream } = answered(chat, [text('Here.'), png])
    expect(whole).toMatchObject({ choices: [{ text: `Here.\n${NOTE}\n` }] })
    expect(stream).toContain(JSON.stringify(`\n${NOTE}\n`))
  })
})

describe('a picture of another provider than Gemini', () => {
  it('is read of chat, whole and streamed, as gateways write it', () => {
    const images = [
      { type: 'image_url', image_url: { url: `data:image/png;base64,${PNG}` } },
      { type: 'image_url', image_url: { url: URL } },
    ]
    const message = { role: 'assistant', content: 'Here.', images }
    const body = { id: 'c', model: 'm', choices: [{ index: 0, message, finish_reason: 'stop' }] }
    const { choices } = chatOf(openai.provider).read(Buffer.from(JSON.stringify(body)), NOTHING)
    expect(choices[0]?.content).toEqual([text('Here.'), png, far])

    const delta = (index: number, over: Members, finish: string | null = null): string =>
      `data: ${JSON.stringify({ id: 'c', model: 'm', choices: [{ index, delta: over, finish_reason: finish }] })}\n\n`
    const stream = [
      delta(0, { role: 'assistant', content: '' }),
      delta(0, { images: images.slice(0, 1) }),
      delta(0, { content: [{ type: 'image_url', image_url: { url: URL } }] }),
      delta(0, {}, 'stop'),
    ]
    const reader = chatOf(openai.provider).events(NOTHING)
    const watch = openai.provider.watch()
    const facts: boolean[] = []
    const events = createFrameSplitter()
      .push(Buffer.from(stream.join('')))
      .flatMap((frame) => {
        facts.push(watch.look(frame.data ?? '').content)
        return reader.read(frame)
      })
    expect(foldEvents(events).choices).toEqual([{ content: [png, far], finish: 'stop' }])
    expect(facts).toEqual([false, true, true, true])
  })

  it('is nothing that another can go on with', () => {
    const images = [{ type: 'image_url', image_url: { url: URL } }]
    const chunk = JSON.stringify({ choices: [{ index: 0, delta: { content: 'a', images } }] })
    expect(openai.provider.resume.speech(chunk)).toEqual({ text: 'a', more: true, ends: false })
  })

  it('is read of Responses, whole and streamed', () => {
    const { whole, stream } = answered(responses.client.chat, [text('Here.'), jpeg])
    const { choices } = chatOf(responses.provider).read(Buffer.from(JSON.stringify(whole)), NOTHING)
    expect(choices[0]?.content).toEqual([text('Here.'), jpeg])
    const reader = chatOf(responses.provider).events(NOTHING)
    const events = createFrameSplitter()
      .push(Buffer.from(stream))
      .flatMap((frame) => reader.read(frame))
    expect(foldEvents(events).choices[0]?.content).toEqual([text('Here.'), jpeg])
    const named = { type: 'image_generation_call', id: 'ig_1', status: 'completed', result: 'AAAA' }
    const body = {
      output: [
        { ...named, output_format: 'webp' },
        { ...named, result: null },
      ],
    }
    expect(
      chatOf(responses.provider).read(Buffer.from(JSON.stringify(body)), NOTHING).choices[0],
    ).toMatchObject({
      content: [{ type: 'image', source: { mediaType: 'image/webp', base64: 'AAAA' } }],
    })
  })
})

describe('a conversation with a picture in it', () => {
  const seal = (value: string) => ({ origin: 'gemini', value })
  /** As Gemini 3 signs it: what is said first, and each picture. */
  const content = [
    text('Here.'),
    thought('', seal('sig-text')),
    png,
    thought('', seal('sig-one')),
    jpeg,
    thought('', seal('sig-two')),
  ]
  const parts = [
    { text: 'Here.', thoughtSignature: 'sig-text' },
    { inlineData: { mimeType: 'image/png', data: PNG }, thoughtSignature: 'sig-one' },
    { inlineData: { mimeType: 'image/jpeg', data: JPEG }, thoughtSignature: 'sig-two' },
  ]
  const contents = [
    { role: 'user', parts: [{ text: 'Draw.' }] },
    { role: 'model', parts },
    { role: 'user', parts: [{ text: 'Again.' }] },
  ]

  function sentToGemini({ messages }: ChatRequest): unknown {
    const { body } = written(gemini.provider, { messages }, 'gemini-3-pro-image-preview')
    return body.contents
  }

  it('goes back to Gemini from chat, each signature to its part', () => {
    const { whole } = answered(openai.client.chat, content)
    const [choice] = Array.isArray(whole.choices) ? whole.choices : []
    const messages = [{ role: 'user', content: 'Draw.' }, choice.message, { role: 'user', content: 'Again.' }]
    expect(sentToGemini(openai.client.chat.read({ model: 'm', messages }).request)).toEqual(contents)
  })

  it('goes back to Gemini from Responses, each signature to its part', () => {
    const { whole } = answered(responses.client.chat, content)
    const output: readonly unknown[] = Array.isArray(whole.output) ? whole.output : []
    const input = [{ role: 'user', content: 'Draw.' }, ...output, { role: 'user', content: 'Again.' }]
    const { request, dropped } = responses.client.chat.read({ model: 'm', input })
    expect(dropped).toEqual([])
    expect(sentToGemini(request)).toEqual(contents)
  })

  it.each([
    ['openai', openai.provider, 'm'],
    ['anthropic', anthropic.provider, 'claude-opus-4-5'],
    ['responses', responses.provider, 'gpt-5.1'],
    ['bedrock', bedrock.provider, 'us.amazon.nova-pro-v1:0'],
  ] as const)('goes on without it over %s, and that is told', (_name, side, model) => {
    const messages = [user('Draw.'), assistant('Here.', png), user('Again.', png)]
    const { body, dropped } = written(side, { messages }, model)
    expect(dropped).toContain('messages.images')
    // The user's own picture is there.
    expect(JSON.stringify(body).split(PNG).length - 1).toBe(1)
    expect(JSON.stringify(body)).toContain('Here.')
    expect(written(side, { messages: [user('Hi.', png)] }, model).dropped).not.toContain('messages.images')
  })

  it('whose item was never drawn is told of', () => {
    const item = { type: 'image_generation_call', id: 'ig_1', status: 'failed', result: null }
    const { dropped } = responses.client.chat.read({
      model: 'm',
      input: [item, { role: 'user', content: 'x' }],
    })
    expect(dropped).toEqual(['input.image_generation_call'])
  })
})

describe('a request for pictures', () => {
  const modalities = ['text', 'image']

  it('is read of chat, and one for anything else is refused', () => {
    const messages = [{ role: 'user', content: 'Draw.' }]
    expect(openai.client.chat.read({ model: 'm', messages, modalities }).request.extra).toEqual({
      modalities,
    })
    for (const other of ['audio', 'video'])
      expect(() => openai.client.chat.read({ model: 'm', messages, modalities: ['text', other] })).toThrow(
        expect.objectContaining({ param: 'modalities' }),
      )
  })

  it('is carried to Gemini alone', () => {
    const { body, dropped } = written(gemini.provider, { extra: { modalities } }, 'gemini-2.5-flash-image')
    expect(body.generationConfig).toEqual({ responseModalities: ['TEXT', 'IMAGE'] })
    expect(dropped).toEqual([])
    for (const side of [anthropic.provider, responses.provider, bedrock.provider])
      expect(() => written(side, { extra: { modalities } }, 'claude-opus-4-5')).toThrow(
        expect.objectContaining({ code: 'invalid_request', param: 'modalities' }),
      )
  })
})
