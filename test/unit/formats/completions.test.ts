// Legacy completions: recorded shapes as they pass, and the prompt as a conversation for a model that only has those.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import OpenAI from 'openai'
import { describe, expect, it } from 'vitest'
import { createFrameSplitter } from '../../../src/bytes/sse.ts'
import { GatewayError } from '../../../src/errors.ts'
import type { ChatReply, Part } from '../../../src/formats/canonical.ts'
import { completions } from '../../../src/formats/completions.ts'
import { contents, createAnswerTo, toEvents, toReply, USED } from '../../support/answers.ts'
import { toModelRequest, toSentBytes } from '../../support/model-request.ts'
import { mutate, mutations } from '../../support/mutations.ts'
import { schemaFaults } from '../../support/openai-schema.ts'
import { parseSse } from '../../support/sse.ts'

const FOLDER = join(import.meta.dirname, '../../golden/completions')
const { client, provider } = completions

type Members = Record<string, unknown>

const file = (name: string): Buffer => readFileSync(join(FOLDER, name))
const golden = (name: string): Members => JSON.parse(file(name).toString())
const named = (ending: string): string[] =>
  readdirSync(FOLDER).flatMap((one) => (one.endsWith(ending) ? [one.slice(0, -ending.length)] : []))

describe('a recorded stream of completions', () => {
  /** A letter per frame: content, usage, done, error. */
  const STREAMS: Readonly<Record<string, readonly [frames: string, finishedChoices: number]>> = {
    plain: ['cccud', 1],
    'two-choices': ['ccccud', 2],
    'finish-with-text.llamacpp': ['ccd', 1],
    'error-in-the-middle': ['ce', 0],
    cut: ['c', 0],
  }

  it.each(Object.entries(STREAMS))(
    '%s is watched as it is meant, wherever it is cut',
    (name, [frames, finished]) => {
      const bytes = file(`${name}.stream.sse`)
      for (const size of [1, 7, bytes.length]) {
        const watch = provider.watch()
        const splitter = createFrameSplitter()
        let letters = ''
        for (let at = 0; at < bytes.length; at += size) {
          for (const { data } of splitter.push(bytes.subarray(at, at + size))) {
            const facts = watch.look(data ?? '')
            letters +=
              facts.error !== undefined
                ? 'e'
                : facts.done
                  ? 'd'
                  : facts.usageOnly
                    ? 'u'
                    : facts.content
                      ? 'c'
                      : '-'
          }
        }
        expect(letters).toBe(frames)
        expect(watch.finishedChoices).toBe(finished)
        expect(watch.finished).toBe(finished > 0)
        expect(watch.usage?.outputTokens).toBe(finished > 0 ? 10 : undefined)
      }
    },
  )

  it('is in the table, each of them', () => {
    expect(named('.stream.sse').sort()).toEqual(Object.keys(STREAMS).sort())
  })
})

describe('a recorded completion', () => {
  const ANSWERS = ['plain', 'two-prompts', 'content-filter', 'logprobs.vllm']

  it.each(ANSWERS)('%s is an answer', (name) => {
    const facts = provider.whole('chat', file(`${name}.reply.json`))
    expect(facts).toMatchObject({
      failure: undefined,
      usage: { inputTokens: 19, cachedTokens: 8, outputTokens: 10 },
    })
    expect(facts.countedTokens > 0).toBe(name !== 'content-filter')
    expect(schemaFaults('CreateCompletionResponse', golden(`${name}.reply.json`))).toEqual([])
  })

  it('is none where it tells an error', () => {
    expect(provider.whole('chat', file('error-in-200.reply.json'))).toMatchObject({
      failure: 'in_band',
      error: 'The engine is on fire.',
    })
    expect(named('.reply.json').sort()).toEqual([...ANSWERS, 'error-in-200'].sort())
  })
})

describe('bytes that pass untouched', () => {
  it('change where the model, the cap and the usage of a stream stand, and in no other place', () => {
    const edited = (sent: string, maxOutputTokens: number | undefined): string =>
      toSentBytes(provider, toModelRequest(sent, 'completions'), {
        model: 'real',
        maxOutputTokens,
        options: {},
      })
    expect(edited('{ "model":"m", "prompt":"x", "max_tokens":7 }', 50)).toBe(
      '{ "model":"real", "prompt":"x", "max_tokens":7 }',
    )
    expect(edited('{ "model":"m", "prompt":"x", "max_tokens":70 }', 50)).toBe(
      '{ "model":"real", "prompt":"x", "max_tokens":50 }',
    )
    // The name that chat has for it now means nothing here.
    expect(JSON.parse(edited('{"model":"m","prompt":"x","stream":true}', 50))).toEqual({
      model: 'real',
      prompt: 'x',
      stream: true,
      max_tokens: 50,
      stream_options: { include_usage: true },
    })
    expect(provider.path('chat', { model: 'm', maxOutputTokens: undefined, options: {}, stream: true })).toBe(
      '/completions',
    )
  })
})

describe('a prompt', () => {
  const read = (over: Members) => client.chat.read({ model: 'm', prompt: 'Say it', ...over })

  it('is what a user says', () => {
    expect(schemaFaults('CreateCompletionRequest', golden('plain.request.json'))).toEqual([])
    const { request, dropped } = client.chat.read(golden('plain.request.json'))
    expect(request).toMatchObject({
      messages: [{ role: 'user', content: [{ type: 'text', text: 'Say this is a test' }] }],
      maxOutputTokens: 7,
      temperature: 0,
      choices: 1,
      stream: false,
      includeUsage: false,
    })
    expect(dropped).toEqual([])
  })

  it('comes with all that a conversation has a place for, and says what it has none for', () => {
    expect(schemaFaults('CreateCompletionRequest', golden('everything.request.json'))).toEqual([])
    const { request, dropped } = client.chat.read(golden('everything.request.json'))
    expect(request).toMatchObject({
      messages: [{ role: 'user', content: [{ type: 'text', text: 'Say it' }] }],
      maxOutputTokens: 7,
      topP: 0.9,
      choices: 2,
      stop: ['\n', 'END'],
      seed: 5,
      presencePenalty: 0.1,
      frequencyPenalty: 0.2,
      user: 'u1',
      stream: true,
      includeUsage: true,
      extra: { logit_bias: { 50256: -100 } },
    })
    expect(dropped).toEqual(['best_of', 'logprobs'])
    expect(read({ best_of: 1, logprobs: null, suffix: '' }).dropped).toEqual([])
  })

  it.each([
    ['prompt', { prompt: undefined }],
    ['prompt', { prompt: ['one', 'two'] }],
    ['prompt', { prompt: [1212, 318] }],
    ['prompt', { prompt: [[1212, 318]] }],
    ['prompt', { prompt: [] }],
    ['prompt', { prompt: {} }],
    ['suffix', { suffix: ' end' }],
    ['echo', { echo: 'yes' }],
    ['stop', { stop: [1] }],
    ['max_tokens', { max_tokens: '7' }],
    ['stream_options.include_usage', { stream_options: { include_usage: 1 } }],
  ])('is refused by the name of the field: %s', (param, over) => {
    let error: unknown
    try {
      read(over)
    } catch (thrown) {
      error = thrown
    }
    if (!(error instanceof GatewayError)) throw new Error('it was not refused')
    expect(error).toMatchObject({ code: 'invalid_request', param })
    expect(error.message).toContain(param)
  })

  it('is told that a text would do', () => {
    expect(() => read({ prompt: {} })).toThrow('text or a list of one text')
    expect(() => read({ stop: {} })).toThrow('text or a list of texts')
  })
})

describe('whatever a stranger sends', () => {
  it('is read, or refused by the name of a field', () => {
    const sent = golden('everything.request.json')
    fc.assert(
      fc.property(fc.array(mutations, { minLength: 1, maxLength: 3 }), (changes) => {
        const changed = changes.reduce(
          (value: unknown, { place, other }) => mutate(value, place, other),
          sent,
        )
        if (typeof changed !== 'object' || changed === null || Array.isArray(changed)) return
        try {
          const { request } = client.chat.read({ ...changed })
          expect(request.messages).toHaveLength(1)
        } catch (error) {
          if (!(error instanceof GatewayError)) throw error
          expect(error).toMatchObject({ code: 'invalid_request', param: expect.any(String) })
        }
      }),
      { numRuns: 1000 },
    )
  })
})

describe('an answer to a prompt', () => {
  function answerTo(over: Members = {}) {
    const sent = { model: 'asked', prompt: 'Say it', ...over }
    return createAnswerTo(sent, client.chat.read(sent).request)
  }

  const whole = (reply: ChatReply, over: Members = {}): Members =>
    JSON.parse(JSON.stringify(client.chat.write(reply, answerTo(over))))

  /** Checks every chunk, and joins the texts of each choice. */
  function streamed(reply: ChatReply, over: Members = {}, cuts?: readonly number[]) {
    const writer = client.chat.events(answerTo(over))
    const frames =
      toEvents(reply, cuts)
        .map((event) => writer.write(event))
        .join('') + writer.end()
    const events = parseSse(frames)
    expect(events.pop()?.data).toBe('[DONE]')
    const texts: string[] = []
    const finishes: unknown[] = []
    const usages: unknown[] = []
    for (const { data } of events) {
      const chunk = JSON.parse(data)
      usages.push(chunk.usage)
      // A reason that is not there yet is null in a stream; the description is of whole answers.
      for (const choice of chunk.choices) {
        expect(finishes[choice.index] ?? null).toBeNull()
        texts[choice.index] = `${texts[choice.index] ?? ''}${choice.text}`
        finishes[choice.index] = choice.finish_reason
        choice.finish_reason ??= 'stop'
      }
      expect(schemaFaults('CreateCompletionResponse', { ...chunk, usage: chunk.usage ?? undefined })).toEqual(
        [],
      )
      expect(chunk).toMatchObject({ id: 'cmpl-7', created: 1_760_000_000, model: 'some-model' })
    }
    return { texts, finishes, usages, frames }
  }

  it('is its text, whole and in pieces', () => {
    fc.assert(
      fc.property(contents, fc.array(fc.nat(), { minLength: 1 }), (content, cuts) => {
        const reply = toReply(content, 'stop')
        const said = content
          .map((part) => {
            if (part.type === 'image' && part.source.kind === 'base64')
              return `\n[A picture (${part.source.mediaType}) is part of this answer, and cannot be shown here.]\n`
            return part.type === 'text' || part.type === 'refusal' ? part.text : ''
          })
          .join('')
        const response = whole(reply)
        expect(schemaFaults('CreateCompletionResponse', response)).toEqual([])
        expect(response).toMatchObject({
          choices: [{ text: said, index: 0, finish_reason: 'stop', logprobs: null }],
        })
        expect(streamed(reply, {}, cuts)).toMatchObject({ texts: [said], finishes: ['stop'] })
      }),
    )
  })

  const hello: Part = { type: 'text', text: 'Hello there' }

  it('ends for the reasons that there are here', () => {
    const reasons = (['stop', 'length', 'content_filter', 'tool_calls'] as const).map((finish) => {
      const reply = toReply([hello], finish)
      expect(streamed(reply).finishes).toEqual([(whole(reply).choices as Members[])[0]?.finish_reason])
      return streamed(reply).finishes[0]
    })
    expect(reasons).toEqual(['stop', 'length', 'content_filter', 'stop'])
  })

  it('stands behind its prompt where that is to be echoed', () => {
    const reply = toReply([hello], 'stop')
    expect(whole(reply, { echo: true }).choices).toMatchObject([{ text: 'Say itHello there' }])
    expect(streamed(reply, { echo: true }).texts).toEqual(['Say itHello there'])
    expect(streamed(toReply([], 'stop'), { echo: true }).texts).toEqual(['Say it'])
  })

  it('is one for each choice', () => {
    const [one] = toReply([{ type: 'text', text: 'One' }], 'stop').choices
    const [two] = toReply([{ type: 'text', text: 'Two' }], 'length').choices
    const reply = { ...toReply([], 'stop'), choices: [one, two].filter((choice) => choice !== undefined) }
    expect(whole(reply, { n: 2 }).choices).toMatchObject([
      { index: 0, text: 'One', finish_reason: 'stop' },
      { index: 1, text: 'Two', finish_reason: 'length' },
    ])
    expect(streamed(reply, { n: 2 })).toMatchObject({ texts: ['One', 'Two'], finishes: ['stop', 'length'] })
  })

  it('tells its usage in a stream to whoever asked, in a chunk of its own (bug 57, bug 58)', () => {
    const reply = toReply([hello], 'stop')
    expect(new Set(streamed(reply).usages)).toEqual(new Set([undefined]))
    const asked = { stream: true, stream_options: { include_usage: true } }
    const { usages, frames } = streamed(reply, asked)
    expect(usages.slice(0, -1).every((usage) => usage === null)).toBe(true)
    expect(usages.at(-1)).toMatchObject({
      prompt_tokens: USED.inputTokens,
      completion_tokens: USED.outputTokens,
      total_tokens: 39,
      prompt_tokens_details: { cached_tokens: 12 },
    })
    expect(parseSse(frames).at(-2)?.data).toContain('"choices":[]')
    expect(whole(reply).usage).toEqual(usages.at(-1))
  })

  it("is read by OpenAI's own SDK", async () => {
    const { frames } = streamed(toReply([hello], 'stop'))
    const fetch = async () => new Response(frames, { headers: { 'content-type': 'text/event-stream' } })
    const sdk = new OpenAI({ apiKey: 'x', baseURL: 'http://sluice/v1', maxRetries: 0, fetch })
    let text = ''
    for await (const chunk of await sdk.completions.create({ model: 'm', prompt: 'x', stream: true }))
      text += chunk.choices[0]?.text ?? ''
    expect(text).toBe('Hello there')
  })

  it('that broke ends as an error, with no marker behind it', () => {
    const told = {
      status: 502,
      code: 'upstream_incomplete',
      type: 'server_error',
      message: 'Broke off.',
      param: null,
      requestId: '',
    }
    expect(schemaFaults('ErrorResponse', client.error(told))).toEqual([])
    const frames = client.errorEvent(told)
    expect(parseSse(frames).map(({ data }) => JSON.parse(data))).toEqual([client.error(told)])
  })
})
