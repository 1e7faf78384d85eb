// The scripted provider does on the wire what its script says: read here by node:http, fetch and by hand, never by
// sluice. Everything that later tests take as evidence (cuts, aborts, counts) is proved first.

import { request } from 'node:http'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { rawRequest } from '../../support/raw-http.ts'
import {
  answer,
  contentFilter,
  contextLengthExceeded,
  createScriptedProvider,
  cutAfter,
  delayed,
  echoKey,
  empty200,
  errorIn200,
  gate,
  headersOnly,
  hugeFrame,
  inBandErrorAfterContent,
  inBandErrorFirst,
  keepAlivesOnly,
  malformedEventFirst,
  malformedEventMiddle,
  noDone,
  noFinishReason,
  rateLimited,
  rawBytes,
  resetBeforeHeaders,
  silent,
  slowFirstToken,
  stallAfter,
  status,
  stream,
  toolCall,
  toolLoop,
  trickle,
  usageInLastChunk,
  withoutReading,
  wrongContentType,
} from '../../support/scripted-provider.ts'
import { parseSse, readSse, summarizeChat } from '../../support/sse.ts'

const provider = await createScriptedProvider()
beforeEach(() => provider.reset())
afterAll(() => provider.close())

interface Got {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Buffer
  readonly pieces: number
  /** `end`, or the error code that ended it. */
  readonly ended: string
}

/** One POST over a connection of its own. */
function post(
  fields: Record<string, unknown>,
  { path = '/v1/chat/completions', headers = {} } = {},
): Promise<Got> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        port: provider.port,
        path,
        method: 'POST',
        agent: false,
        headers: { 'content-type': 'application/json', ...headers },
      },
      (response) => {
        sent.off('error', reject).on('error', () => undefined)
        const chunks: Buffer[] = []
        const finish = (ended: string): void =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks),
            pieces: chunks.length,
            ended,
          })
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => finish('end'))
        response.on('error', (error) => finish('code' in error ? String(error.code) : error.message))
      },
    )
    // Node tells a reset to the request as well; once there is a response, that one says how it ended.
    sent.on('error', reject)
    sent.end(JSON.stringify({ model: 'gpt-x', messages: [{ role: 'user', content: 'hi' }], ...fields }))
  })
}

const postStream = (fields: Record<string, unknown> = {}): Promise<Got> => post({ stream: true, ...fields })
const chatOf = (got: Got) => summarizeChat(parseSse(got.body))

describe('answers', () => {
  test('answers whole or streamed as the request asks, and names the model asked for', async () => {
    provider.script(answer({ text: 'two words' }))
    const whole: unknown = JSON.parse((await post({})).body.toString())
    expect(whole).toMatchObject({
      object: 'chat.completion',
      model: 'gpt-x',
      choices: [{ message: { content: 'two words' }, finish_reason: 'stop' }],
      usage: { prompt_tokens: 11, completion_tokens: 2, total_tokens: 13 },
    })
    const streamed = await postStream()
    expect(streamed.headers['content-type']).toBe('text/event-stream; charset=utf-8')
    expect(chatOf(streamed)).toMatchObject({
      text: 'two words',
      finishReasons: ['stop'],
      usage: undefined,
      done: true,
    })
    expect(chatOf(streamed).chunks).toHaveLength(4)
  })

  test('tells usage in a chunk of its own when asked, in the last one when scripted', async () => {
    const asked = chatOf(await postStream({ stream_options: { include_usage: true } }))
    expect(asked.chunks.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: 11 } })
    expect(asked.chunks[0]).toMatchObject({ usage: null })
    provider.script(usageInLastChunk({ pieces: ['a', 'b'] }))
    const last = chatOf(await postStream())
    expect(last.chunks.at(-1)).toMatchObject({
      choices: [{ delta: { content: 'b' }, finish_reason: 'stop' }],
      usage: { completion_tokens: 2 },
    })
    expect(last.text).toBe('ab')
  })

  test('gives every choice asked for a finish reason of its own', async () => {
    const streamed = chatOf(await postStream({ n: 3 }))
    expect(streamed.finishReasons).toEqual(['stop', 'stop', 'stop'])
  })

  test('calls a tool in pieces, and in the loop answers from its result', async () => {
    provider.script(toolCall('look_up', { city: 'Zürich' }))
    const { chunks, finishReasons } = chatOf(await postStream())
    expect(finishReasons).toEqual(['tool_calls'])
    const args = chunks
      .map((chunk) => /"arguments":"((?:[^"\\]|\\.)*)"/.exec(JSON.stringify(chunk))?.[1] ?? '')
      .join('')
    expect(args.replaceAll('\\"', '"')).toBe('{"city":"Zürich"}')

    provider.script(toolLoop())
    const tools = [{ type: 'function', function: { name: 'clock' } }]
    const first = await post({ tools })
    expect(first.body.toString()).toContain('"name":"clock"')
    const second = await post({
      tools,
      messages: [{ role: 'tool', tool_call_id: 'call_scripted_0', content: 'noon' }],
    })
    expect(second.body.toString()).toContain('The tool said: noon')
  })

  test('answers embeddings, one to an input, as base64 when asked', async () => {
    const many = await post({ input: ['a', 'b'] }, { path: '/v1/embeddings' })
    expect(JSON.parse(many.body.toString())).toMatchObject({
      data: [{ index: 0 }, { index: 1, embedding: [0.25, -0.5, 0.75, 1] }],
    })
    const one = await post({ input: 'a', encoding_format: 'base64' }, { path: '/v1/embeddings' })
    expect(JSON.parse(one.body.toString()).data[0].embedding).toBe('AACAPgAAAL8AAEA/AACAPw==')
  })

  test('uses the behaviours in order and repeats the last', async () => {
    provider.script([status(503), answer(), status(500)])
    expect([await post({}), await post({}), await post({}), await post({})].map((got) => got.status)).toEqual(
      [503, 200, 500, 500],
    )
    provider.script((seen) => (seen.header('x-case') === 'a' ? status(418) : answer()))
    expect((await post({}, { headers: { 'X-Case': 'a' } })).status).toBe(418)
    expect((await post({})).status).toBe(200)
    expect(provider.calls).toBe(6)
  })

  test('tears frames and characters apart byte by byte', async () => {
    provider.script(trickle())
    const got = await postStream()
    expect(got.pieces).toBeGreaterThan(got.body.length * 0.9)
    expect(chatOf(got)).toMatchObject({ text: 'Grüße — 日本 👩‍🚀 done.', done: true })
  })

  test('sends a frame of any size', async () => {
    provider.script(hugeFrame(3_000_000))
    expect(chatOf(await postStream()).text.length).toBe(3_000_004)
  })
})

describe('records', () => {
  test('keeps method, path, headers in order as spelled, and the exact body', async () => {
    const body = '{"model" : "m",  "messages":[]}'
    const head = `POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: ${body.length}\r\n\r\n`
    const got = await rawRequest(provider.port, head + body)
    expect(got.status).toBe(200)
    const [seen] = provider.requests
    expect(seen).toMatchObject({
      method: 'POST',
      path: '/v1/chat/completions?x=1',
      aborted: false,
      complete: true,
    })
    expect(seen?.headers.slice(0, 3)).toEqual([
      ['Host', 'h'],
      ['X-Two', '1'],
      ['x-two', '2'],
    ])
    expect(seen?.body.toString()).toBe(body)
  })

  test('answers model lists beside the script and does not count them', async () => {
    provider.script(status(500))
    const response = await fetch(`${provider.baseUrl}/models`)
    expect(await response.json()).toMatchObject({ data: [{ id: 'scripted-model' }] })
    expect([provider.calls, provider.probes.length]).toEqual([0, 1])
  })

  test('counts exactly under load', async () => {
    const load = await createScriptedProvider({ record: 'count' })
    const send = async (): Promise<void> => {
      for (let i = 0; i < 50; i++) {
        const response = await fetch(`${load.baseUrl}/chat/completions`, {
          method: 'POST',
          body: '{"model":"m"}',
        })
        await response.arrayBuffer()
      }
    }
    await Promise.all(Array.from({ length: 10 }, send))
    expect([load.calls, load.requests.length, load.active]).toEqual([500, 0, 0])
    await load.close()
  })

  test('tells broken HTTP apart from requests', async () => {
    await rawRequest(provider.port, 'NONSENSE\r\n\r\n')
    expect(provider.calls).toBe(0)
    expect(provider.faults).toHaveLength(1)
  })

  test('shows a failing script as a fault and cuts', async () => {
    provider.script({
      run: () => {
        throw new Error('a typo')
      },
    })
    await expect(post({})).rejects.toThrow('socket hang up')
    expect(provider.faults[0]).toContain('a typo')
  })
})

describe('notices that the client has gone', () => {
  const phases = {
    'before any byte': silent(),
    'after the head': headersOnly(),
    'between keep-alives': keepAlivesOnly(5),
    'before the first token': slowFirstToken(60_000),
    'in the middle of a stream': stallAfter(3),
    'while frames come': answer({ text: 'word '.repeat(5_000), everyMs: 1 }),
    'while it waits for its turn': gate(),
    'while it is late': delayed(60_000, answer()),
  }
  for (const [phase, behaviour] of Object.entries(phases)) {
    test(phase, async () => {
      provider.script(behaviour)
      const leave = new AbortController()
      const asked = fetch(`${provider.baseUrl}/chat/completions`, {
        method: 'POST',
        body: '{"model":"m","stream":true}',
        signal: leave.signal,
      }).then((response) => response.text())
      await provider.waitForRequests(1)
      await new Promise((resolve) => setTimeout(resolve, 30))
      expect(provider.requests[0]).toMatchObject({ aborted: false, complete: false })
      expect(provider.active).toBe(1)
      leave.abort()
      await expect(asked).rejects.toThrow('abort')
      const seen = await provider.waitForAbort(0, 2_000)
      expect(seen).toMatchObject({ aborted: true, complete: false })
      expect(provider.active).toBe(0)
    })
  }

  test('while the request body is still coming', async () => {
    await rawRequest(provider.port, [
      'POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"model"',
      { delayMs: 30 },
      { reset: true },
    ])
    expect((await provider.waitForAbort(0)).body.length).toBe(0)
  })

  test('while it reads nothing and the sender is held back', async () => {
    provider.script(hugeFrame(50_000_000))
    const body = '{"model":"m","stream":true}'
    const asked = request(
      { port: provider.port, path: '/v1/chat/completions', method: 'POST', agent: false },
      (response) => {
        response.on('error', () => undefined)
        response.pause()
      },
    )
    asked.on('error', () => undefined)
    asked.end(body)
    await provider.waitForRequests(1)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(provider.requests[0]?.complete).toBe(false)
    asked.destroy()
    await provider.waitForAbort(0)
  })

  test('but rejects the wait when the answer was complete or its own cut', async () => {
    await post({})
    await expect(provider.waitForAbort(0)).rejects.toThrow('answered completely')
    provider.script(cutAfter({ frames: 1 }))
    await postStream()
    await expect(provider.waitForAbort(1)).rejects.toThrow('answered completely')
    await expect(provider.waitForAbort(7, 20)).rejects.toThrow('never came')
  })
})

describe('breaks answers', () => {
  test('cuts a stream after so many frames, by reset, by end of connection, or in good order', async () => {
    for (const [how, ended] of [
      ['reset', 'ECONNRESET'],
      ['fin', 'ECONNRESET'],
      ['orderly', 'end'],
    ] as const) {
      provider.script(cutAfter({ frames: 3, how }))
      const got = await postStream()
      expect([how, got.ended]).toEqual([how, ended])
      expect(parseSse(got.body)).toHaveLength(3)
      expect(chatOf(got)).toMatchObject({ finishReasons: [], done: false })
    }
    const raw = (how: 'reset' | 'fin'): Promise<string> => {
      provider.script(cutAfter({ frames: 2, how }))
      const body = '{"model":"m","stream":true}'
      return rawRequest(
        provider.port,
        `POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      ).then((result) => result.how)
    }
    expect([await raw('reset'), await raw('fin')]).toEqual(['reset', 'fin'])
  })

  test('cuts after exactly so many bytes', async () => {
    for (const bytes of [0, 1, 100, 300]) {
      provider.script(cutAfter({ bytes }))
      expect((await postStream()).body.length).toBe(bytes)
      expect((await post({})).body.length).toBe(bytes)
    }
  })

  test('cuts a whole reply in the middle', async () => {
    provider.script(cutAfter({ frames: 1, how: 'fin' }))
    const got = await post({})
    expect(got.ended).toBe('ECONNRESET')
    expect(got.body.length).toBe(Number(got.headers['content-length']) >> 1)
  })

  test('resets before any header', async () => {
    for (const how of ['reset', 'fin'] as const) {
      provider.script(resetBeforeHeaders(how))
      await expect(post({})).rejects.toThrow(/ECONNRESET|socket hang up/)
    }
  })

  test('leaves out [DONE] or the finish reason', async () => {
    provider.script([noDone(), noFinishReason(), noFinishReason({ done: false })])
    expect(chatOf(await postStream())).toMatchObject({ finishReasons: ['stop'], done: false })
    expect(chatOf(await postStream())).toMatchObject({ finishReasons: [], done: true })
    expect(chatOf(await postStream())).toMatchObject({ finishReasons: [], done: false })
  })

  test('answers 200 with nothing, with an error, or with a page', async () => {
    provider.script([
      empty200(),
      empty200(),
      empty200('only-done'),
      empty200('only-role'),
      errorIn200(),
      wrongContentType(),
    ])
    expect((await post({})).body.length).toBe(0)
    expect((await postStream()).body.length).toBe(0)
    expect(chatOf(await postStream())).toMatchObject({ chunks: [], done: true })
    expect(chatOf(await postStream())).toMatchObject({ text: '', done: true })
    expect((await postStream()).body.toString()).toContain('"error"')
    expect((await postStream()).headers['content-type']).toContain('text/html')
  })

  test('tells errors inside the stream, before and after content', async () => {
    provider.script([inBandErrorFirst(), inBandErrorAfterContent()])
    expect(chatOf(await postStream())).toMatchObject({ text: '', error: { code: 'engine_failure' } })
    expect(chatOf(await postStream())).toMatchObject({
      text: 'Hello from ',
      error: { code: 'engine_failure' },
      done: false,
    })
  })

  test('puts an event that is no JSON first or in the middle', async () => {
    provider.script([malformedEventFirst(), malformedEventMiddle()])
    for (const place of [0, 3]) {
      const events = parseSse((await postStream()).body)
      const broken = events.findIndex(({ data }) => data !== '[DONE]' && !data.endsWith('}'))
      expect(broken).toBe(place)
    }
  })

  test('plays any bytes with any pauses', async () => {
    provider.script(
      stream([': hi\n\n', { delayMs: 30 }, { frame: { a: 1 } }, Buffer.from('data: x\r\n\r\n')]),
    )
    const response = await fetch(`${provider.baseUrl}/chat/completions`, { method: 'POST', body: '{}' })
    const events = []
    for await (const event of readSse(response.body)) events.push(event.data)
    expect(events).toEqual(['{"a":1}', 'x'])
    provider.script(rawBytes(['HTTP/1.1 200 OK\r\nContent-', { delayMs: 5 }, 'Length: 5\r\n\r\nab']))
    expect((await post({})).body.toString()).toBe('ab')
  })

  test('answers without reading the request body', async () => {
    provider.script(withoutReading(status(413)))
    const got = await rawRequest(
      provider.port,
      'POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{',
    )
    expect(got.status).toBe(413)
  })

  test('gives statuses with their words and the wait in each form', async () => {
    provider.script([
      rateLimited(2),
      rateLimited('120ms'),
      rateLimited(new Date('2026-11-21T12:00:00Z')),
      contextLengthExceeded(),
      contentFilter({ as: 'status' }),
      contentFilter(),
    ])
    expect((await post({})).headers['retry-after']).toBe('2')
    expect((await post({})).headers['retry-after-ms']).toBe('120')
    expect((await post({})).headers['retry-after']).toBe('Sat, 21 Nov 2026 12:00:00 GMT')
    expect((await post({})).body.toString()).toContain('context_length_exceeded')
    expect((await post({})).status).toBe(400)
    expect((await post({})).body.toString()).toContain('"finish_reason":"content_filter"')
  })

  test('echoes the key it was sent in every form', async () => {
    const key = 'sk-live/Äb+c 1'
    const headers = { 'x-api-key': Buffer.from(key).toString('latin1') }
    provider.script([
      echoKey(),
      echoKey({ where: 'in-band', forms: ['raw'] }),
      echoKey({ where: 'header', forms: ['hex'] }),
    ])
    const sent = (): string => provider.requests.at(-1)?.header('x-api-key') ?? ''
    const body = (await post({}, { headers })).body.toString()
    for (const form of [
      sent(),
      Buffer.from(sent()).toString('base64'),
      encodeURIComponent(sent()),
      '%73%6b',
      '\\u0073\\u006b',
    ]) {
      expect(body).toContain(form)
    }
    expect(JSON.parse(body).error.message).toContain(`json=${sent()}`)
    expect((await postStream()).body.toString()).toContain('Incorrect API key')
    expect((await post({}, { headers })).headers['x-debug-key']).toBe(
      `hex=${Buffer.from(sent()).toString('hex')}`,
    )
  })
})

test('kills its connections, goes on listening, and refuses once it is closed', async () => {
  const own = await createScriptedProvider({ script: silent() })
  const asked = fetch(`${own.baseUrl}/chat/completions`, { method: 'POST', body: '{}' })
  await own.waitForRequests(1)
  own.killConnections()
  await expect(asked).rejects.toThrow('fetch failed')
  own.script(answer())
  const again = await fetch(`${own.baseUrl}/chat/completions`, { method: 'POST', body: '{}' })
  expect(again.status).toBe(200)
  await again.arrayBuffer()
  await own.close()
  await expect(fetch(`${own.baseUrl}/models`)).rejects.toThrow('fetch failed')
  const back = await createScriptedProvider({ port: own.port })
  expect((await fetch(`${back.baseUrl}/models`)).status).toBe(200)
  await back.close()
})
