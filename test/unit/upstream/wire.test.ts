// How a deployment is spoken to: whose bytes pass, what is translated, and what cannot be.

import { describe, expect, it } from 'vitest'
import { scanObject } from '../../../src/bytes/json-scan.ts'
import { GatewayError } from '../../../src/errors.ts'
import { formats } from '../../../src/formats/index.ts'
import { ENDPOINTS } from '../../../src/http/operations.ts'
import { readRequest } from '../../../src/http/request.ts'
import type { Deployment, ModelRequest, Provider } from '../../../src/types.ts'
import { createExchange, createFixedHeaders } from '../../../src/upstream/exchange.ts'
import { createWires, Untranslatable, type Wires } from '../../../src/upstream/wire.ts'
import { makeDeployment, makeTier } from './stage.ts'

const USER = { role: 'user', content: 'Hello.' }

function requestAt(
  path: string,
  body: Record<string, unknown>,
  forwarded: readonly string[] = [],
): ModelRequest {
  const endpoint = ENDPOINTS.find((one) => one.path === path)
  if (endpoint === undefined) throw new Error('no endpoint')
  return readRequest(endpoint, Buffer.from(JSON.stringify({ model: 'm', ...body })), new Set(), { forwarded })
}

const wiresOf = (request: ModelRequest): Wires =>
  createWires({ formats, request, nowSeconds: () => 5, nextId: (prefix) => `${prefix}1` })

const deploymentOf = (provider: Partial<Provider>): Deployment => makeDeployment('p/m1', {}, provider)

const CHAT = requestAt('/chat/completions', { messages: [USER] })
const MESSAGES = requestAt('/messages', { max_tokens: 9, messages: [USER] })

describe('bytes pass', () => {
  it.each([
    ['in the format of the provider', CHAT, { format: 'openai' }, '/chat/completions', false],
    ['in that of another vendor', MESSAGES, { format: 'anthropic' }, '/messages', false],
    [
      'in one that the provider takes besides',
      MESSAGES,
      { alsoSpeaks: new Set(['anthropic']) },
      '/messages',
      true,
    ],
    ['at another address', CHAT, { format: 'azure' }, '/openai/v1/chat/completions', false],
  ])('%s', (_, request, provider, path, isSecond) => {
    const deployment = deploymentOf(provider)
    const wire = wiresOf(request).of(deployment, undefined)
    expect(wire).toMatchObject({ body: undefined, translation: undefined, isSecond })
    const tier = makeTier('t', [deployment])
    const exchange = createExchange({
      candidate: { tier, deployment, callee: deployment.name, barred: undefined, doubt: undefined },
      request,
      wire,
      key: { reference: 'env:K', value: 'k' },
      maxOutputTokens: undefined,
      userAgent: 'sluice/test',
      fixed: createFixedHeaders(),
      nowMs: 0,
    })
    expect(exchange.path).toBe(path)
  })

  it('with the credential of the provider, whatever the format', () => {
    const wire = wiresOf(MESSAGES).of(deploymentOf({ alsoSpeaks: new Set(['anthropic']) }), undefined)
    expect(wire.own.credential('k')).toEqual(['authorization', 'Bearer k'])
  })

  it('with the headers of the caller before those of the format', () => {
    const request = requestAt('/messages', { max_tokens: 9, messages: [] }, [
      'anthropic-version',
      '2026-10-21',
    ])
    const wire = wiresOf(request).of(deploymentOf({ format: 'anthropic' }), undefined)
    expect(wire.headers.at(-1)).toEqual(['anthropic-version', '2026-10-21'])
  })
})

describe('a translation', () => {
  it('is read once and written once for each deployment', () => {
    const wires = wiresOf(MESSAGES)
    const one = deploymentOf({})
    const wire = wires.of(one, 7)
    expect(wires.of(one, 7)).toBe(wire)
    const other = wires.of(makeDeployment('q/m2'), 7)
    expect(other).not.toBe(wire)
    expect(JSON.parse(wire.body?.toString() ?? '')).toMatchObject({ model: 'm1', max_tokens: 7 })
    expect(JSON.parse(other.body?.toString() ?? '')).toMatchObject({ model: 'm2', max_tokens: 7 })
  })

  it('has a reader and a writer of its own for each attempt', () => {
    const translation = wiresOf(MESSAGES).of(deploymentOf({}), undefined).translation
    const chunk = (delta: unknown, finish: string | null = null) => {
      const data = JSON.stringify({
        id: 'c',
        model: 'm',
        choices: [{ index: 0, delta, finish_reason: finish }],
      })
      return { bytes: Buffer.from(data), data, event: undefined }
    }
    const play = (): string => {
      const translator = translation?.begin()
      const frames = [chunk({ content: 'x' }), chunk({}, 'stop')].map(
        (frame) => translator?.change(frame) ?? '',
      )
      return `${frames.join('')}${translator?.end() ?? ''}`
    }
    expect(play()).toContain('event: message_stop')
    expect(play()).toBe(play())
  })

  it('fails on an answer that trips it up, whatever that is', () => {
    const translator = wiresOf(MESSAGES)
      .of(deploymentOf({ format: 'gemini' }), undefined)
      .translation?.begin()
    const odd = Object.defineProperty({ bytes: Buffer.alloc(0), event: undefined }, 'data', {
      get: () => {
        throw new TypeError('odd')
      },
    }) as never
    expect(() => translator?.change(odd)).toThrow(Untranslatable)
  })

  const FILE = { type: 'document', source: { type: 'url', url: 'https://example.com/a.pdf' } }
  const SOUND = { type: 'input_audio', input_audio: { data: 'AA==' } }
  it.each([
    ['/messages', { max_tokens: 9, messages: [USER], stop_sequences: ['x'] }, 'responses', 'stop_sequences'],
    ['/messages', { max_tokens: 9, messages: [{ role: 'user', content: [FILE] }] }, 'openai', 'messages'],
    ['/responses', { input: [{ role: 'user', content: [SOUND] }] }, 'anthropic', 'input'],
    ['/completions', { prompt: 'x', stop: ['x'] }, 'responses', 'stop'],
    ['/chat/completions', { messages: [USER], n: 2 }, 'bedrock', 'n'],
  ])(
    'of %s with %j is refused for %s by the name that its caller has for it',
    (path, body, format, param) => {
      const wires = wiresOf(requestAt(path, body))
      try {
        wires.of(deploymentOf({ format }), undefined)
        expect.unreachable()
      } catch (error) {
        expect(error).toMatchObject({ code: 'invalid_request', param })
        // Nor is it in the words.
        const chatName = param === 'stop' ? /"messages\[/ : /"(?:stop"|messages\[)/
        expect(error).not.toHaveProperty('message', expect.stringMatching(chatName))
      }
    },
  )

  const SESSION = '{"device_id":"d","session_id":"s"}'
  it.each([
    [
      '/messages',
      { max_tokens: 2000, messages: [USER], metadata: { user_id: 'u' }, stop_sequences: ['x', ' '] },
      'bedrock',
      ['metadata.user_id', 'stop_sequences'],
    ],
    [
      '/messages',
      { max_tokens: 9, messages: [USER], metadata: { user_id: SESSION } },
      'gemini',
      ['metadata.user_id'],
    ],
    [
      '/messages',
      { max_tokens: 9, messages: [USER], thinking: { type: 'enabled', budget_tokens: 2000 } },
      'bedrock',
      ['thinking'],
    ],
    [
      '/messages',
      { max_tokens: 9, messages: [USER], output_config: { effort: 'high' } },
      'bedrock',
      ['output_config.effort'],
    ],
    [
      '/responses',
      { input: 'x', text: { verbosity: 'low' }, reasoning: { effort: 'low' }, safety_identifier: 'u' },
      'bedrock',
      ['reasoning.effort', 'safety_identifier', 'text.verbosity'],
    ],
    [
      '/chat/completions',
      { messages: [{ ...USER, name: 'bob' }], thinking: { type: 'enabled' }, safety_identifier: 'u' },
      'bedrock',
      ['messages.name', 'safety_identifier', 'thinking'],
    ],
    ['/chat/completions', { messages: [{ ...USER, name: 'bob' }] }, 'gemini', ['messages.name']],
    ['/chat/completions', { messages: [{ ...USER, name: 'bob' }] }, 'responses', ['messages.name']],
    ['/completions', { prompt: 'x', user: 'u' }, 'gemini', ['user']],
  ])(
    'of %s with %j tells %s what it leaves out by the names that its caller has for it',
    (path, body, format, names) => {
      const { translation } = wiresOf(requestAt(path, body)).of(deploymentOf({ format }), undefined)
      expect(translation?.dropped.toSorted()).toEqual(names)
    },
  )

  const ID = '12345678901234567890'
  const INPUT = `{"id":${ID},"tag":"é","list":[{"id":-${ID}}]}`
  it.each([
    [
      '/chat/completions',
      `{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":${JSON.stringify(INPUT)}}}]}]}`,
    ],
    [
      '/responses',
      `{"model":"m","input":[{"type":"function_call","call_id":"a","name":"f","arguments":${JSON.stringify(INPUT)}}]}`,
    ],
    [
      '/messages',
      `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}, {"role":"assistant","content":[{"type":"text","text":"[,"}, {"type":"tool_use","id":"a","name":"f", "input": ${INPUT} }]}]}`,
    ],
  ])(
    'of %s carries numbers of more digits than JavaScript has, as the agent will ask for them',
    (path, text) => {
      const request = requestAt(path, {})
      const body = Buffer.from(text)
      const scan = scanObject(body)
      if (!scan.ok) throw new Error(scan.message)
      const wires = wiresOf({ ...request, body, spans: scan.members })
      for (const format of ['openai', 'responses', 'anthropic', 'gemini', 'bedrock']) {
        const sent = wires.of(deploymentOf({ format }), undefined).body?.toString()
        if (sent !== undefined)
          expect([sent, sent.replaceAll('\\"', '"')]).toContainEqual(expect.stringContaining(INPUT))
      }
    },
  )

  it('cannot be made of what its format has no place for, and says so each time', () => {
    const request = requestAt('/chat/completions', { messages: [USER], modalities: ['audio'] })
    const wires = wiresOf(request)
    const claude = deploymentOf({ format: 'anthropic' })
    for (let i = 0; i < 2; i += 1) expect(() => wires.of(claude, undefined)).toThrow(GatewayError)
    expect(wires.of(deploymentOf({}), undefined).translation).toBeUndefined()
  })

  it('is refused of arguments that nest deeper than anything can write', () => {
    const args = `{"x":${'['.repeat(200_000)}${']'.repeat(200_000)}}`
    const call = { id: 'a', type: 'function', function: { name: 'f', arguments: args } }
    const history = [
      USER,
      { role: 'assistant', tool_calls: [call] },
      { role: 'tool', tool_call_id: 'a', content: 'x' },
    ]
    const request = requestAt('/chat/completions', { messages: history })
    const wires = wiresOf(request)
    const refused = ['anthropic', 'gemini', 'bedrock'].flatMap((format) => {
      try {
        wires.of(deploymentOf({ format }), undefined)
        return []
      } catch (error) {
        return error
      }
    })
    expect(refused.length).toBeGreaterThan(0)
    for (const error of refused) expect(error).toMatchObject({ code: 'invalid_request', param: 'messages' })
  })

  it('is none of vectors', () => {
    const request = requestAt('/embeddings', { input: 'x' })
    expect(() => wiresOf(request).of(deploymentOf({ format: 'anthropic' }), undefined)).toThrow(
      expect.objectContaining({ code: 'invalid_request', param: 'model' }),
    )
  })

  it('takes the place of a format that a provider does not have after all', () => {
    const wires = wiresOf(MESSAGES)
    const deployment = deploymentOf({ alsoSpeaks: new Set(['anthropic']) })
    expect(wires.of(deployment, undefined).isSecond).toBe(true)
    expect(wires.translate(deployment)).toBe(true)
    expect(wires.of(deployment, undefined)).toMatchObject({ isSecond: false, translation: { dropped: [] } })
  })
})
