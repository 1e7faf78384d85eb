// Every API that agents speak over every format that providers do, whole and streamed: what the model said arrives, tools
// are called and answered, and what goes wrong is told in the words of the one who asked.

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import {
  answer,
  createScriptedProvider,
  type ScriptedProvider,
  status,
  toolCall,
} from '../support/scripted-provider.ts'
import { ask, SURFACES, type Surface } from '../support/surfaces.ts'

const KEY = 'sk-provider-key-0123456789abcdef'

/** Formats of providers: what stands behind the origin in their base URL, and how their paths begin then. */
const PROVIDERS = {
  openai: { base: '/v1', path: /^\/v1\/chat\/completions$/, more: {} },
  anthropic: { base: '/v1', path: /^\/v1\/messages$/, more: {} },
  gemini: { base: '/v1beta', path: /^\/v1beta\/models\/m-gemini:(?:streamG|g)enerateContent/, more: {} },
  vertex: {
    base: '/v1',
    path: /^\/v1\/projects\/p\/locations\/eu\/publishers\/google\/models\/m-vertex:/,
    more: { project: 'p', region: 'eu' },
  },
  'vertex-claude': {
    base: '/v1',
    path: /^\/v1\/projects\/p\/locations\/eu\/publishers\/anthropic\/models\/claude-opus-4-5@20251101:/,
    more: { format: 'vertex', project: 'p', region: 'eu' },
  },
  bedrock: { base: '', path: /^\/model\/m-bedrock\/converse/, more: { region: 'eu-west-1' } },
  azure: { base: '', path: /^\/openai\/v1\/chat\/completions$/, more: {} },
  'azure-dated': {
    base: '',
    path: /^\/openai\/deployments\/m-azure-dated\/chat\/completions\?api-version=2024-10-21$/,
    more: { format: 'azure', apiVersion: '2024-10-21' },
  },
} as const
type Name = keyof typeof PROVIDERS
const NAMES = Object.keys(PROVIDERS).filter((name): name is Name => name in PROVIDERS)

const modelOf = (name: Name): string => (name === 'vertex-claude' ? 'claude-opus-4-5@20251101' : `m-${name}`)

let provider: ScriptedProvider
let gateway: TestGateway

beforeAll(async () => {
  provider = await createScriptedProvider()
  const each = <T>(of: (name: Name) => T): Record<string, T> =>
    Object.fromEntries(NAMES.map((name) => [name, of(name)]))
  gateway = await startGateway({
    config: {
      providers: {
        ...each((name) => ({
          format: name,
          baseUrl: `${provider.url}${PROVIDERS[name].base}`,
          apiKey: 'env:PROVIDER_KEY',
          ...PROVIDERS[name].more,
        })),
        also: {
          format: 'openai',
          baseUrl: `${provider.url}/v1`,
          alsoSpeaks: ['responses', 'completions', 'anthropic', 'anthropic-count'],
        },
        lab: { format: 'simulated' },
      },
      tiers: {
        ...each((name) => ({ deployments: [`${name}/${modelOf(name)}`] })),
        also: { deployments: ['also/m-also'] },
        lab: { deployments: ['lab/m-lab'] },
        last: { reply: 'Nobody is here.' },
      },
      routes: { ...each((name) => [name]), also: ['also'], lab: ['lab'], last: ['last'] },
    },
    env: { PROVIDER_KEY: KEY },
  })
})
afterAll(async () => {
  await gateway?.stop()
  await provider?.close()
})
beforeEach(() => provider.reset())

const TOOLS = SURFACES.filter(({ name }) => name !== 'completions')
const MODES = [
  ['whole', false],
  ['streamed', true],
] as const

function askFor(surface: Surface, model: string, more: { stream?: boolean; tool?: string } = {}) {
  return ask(gateway.baseUrl, surface, { model, bearer: gateway.bearer, ...more })
}

describe.each(NAMES)('over a provider that speaks %s', (name) => {
  describe.each(SURFACES)('an answer to $name', (surface) => {
    it.each(MODES)('arrives %s', async (mode, stream) => {
      provider.script(answer({ pieces: ['Grüße ', '— 日本 ', '👩‍🚀 ', 'done.'] }))
      const { status, headers, heard } = await askFor(surface, name, { stream })
      expect({ status, ...heard, tokens: undefined }).toEqual({
        status: 200,
        text: 'Grüße — 日本 👩‍🚀 done.',
        calls: [],
        finish: 'stop',
        tokens: undefined,
        error: undefined,
        message: '',
        ended: mode === 'streamed',
      })
      expect(heard.tokens?.output).toBe(4)
      expect(heard.tokens?.input).toBe(11)
      expect(headers.get('x-sluice-deployment')).toBe(`${name}/${modelOf(name)}`)
      expect(headers.get('content-type')).toMatch(stream ? /^text\/event-stream/ : /^application\/json/)
      const [request] = provider.requests
      const isSecond = name.startsWith('azure') && /responses|^completions/.test(surface.name)
      if (isSecond) expect(request?.path).toBe(`/openai/v1${surface.path}`)
      else expect(request?.path).toMatch(PROVIDERS[name].path)
      expect(provider.faults).toEqual([])
    })

    it.each(MODES)('says that it was cut at its longest, %s', async (_, stream) => {
      provider.script(answer({ text: 'half', finishReason: 'length' }))
      const { heard } = await askFor(surface, name, { stream })
      expect(heard).toMatchObject({ text: 'half', finish: 'length' })
    })
  })

  describe.each(TOOLS)('a tool that $name offers', (surface) => {
    it.each(MODES)('is called, and its result goes back, %s', async (_, stream) => {
      provider.script([toolCall('get_weather', { city: 'Paris' }), answer({ text: 'Sunny.' })])
      const { heard } = await askFor(surface, name, { stream, tool: 'get_weather' })
      expect(heard.finish).toBe('tool_calls')
      expect(heard.calls).toMatchObject([{ name: 'get_weather' }])
      expect(JSON.parse(heard.calls[0]?.args ?? '')).toEqual({ city: 'Paris' })
      const results = { heard, text: 'It is sunny in Paris.' }
      const second = await ask(gateway.baseUrl, surface, {
        model: name,
        bearer: gateway.bearer,
        stream,
        tool: 'get_weather',
        results,
      })
      expect(second.heard).toMatchObject({ text: 'Sunny.', finish: 'stop' })
      const sent = provider.requests[1]?.body.toString() ?? ''
      expect(sent).toContain('It is sunny in Paris.')
      expect(sent).toContain('get_weather')
    })

    it.each(MODES)('may be called twice at once, %s (bug 15, bug 16, bug 18)', async (_, stream) => {
      provider.script(toolCall('f', { n: 1 }, { toolCalls: [{ name: 'f', args: { n: 2 } }] }))
      const { heard } = await askFor(surface, name, { stream, tool: 'f' })
      expect(heard.calls.map(({ args }) => JSON.parse(args))).toEqual([{ n: 1 }, { n: 2 }])
      expect(new Set(heard.calls.map(({ id }) => id)).size).toBe(2)
    })
  })
})

describe.each(SURFACES.filter(({ name }) => name !== 'chat'))(
  'a provider without $name after all',
  (surface) => {
    it.each(MODES)('is asked in its own format, %s', async (_, stream) => {
      provider.script((request) =>
        request.path.endsWith('/chat/completions') ? answer({ text: 'By chat.' }) : status(404),
      )
      const { heard, headers } = await askFor(surface, 'also', { stream })
      expect(heard).toMatchObject({ text: 'By chat.', finish: 'stop' })
      expect(headers.get('x-sluice-attempts')).toBe('also:also/m-also=404, also:also/m-also=200')
    })
  },
)

describe.each(SURFACES)('$name', (surface) => {
  it.each(MODES)('is answered by a simulated model, %s', async (_, stream) => {
    const { status, heard } = await askFor(surface, 'lab', { stream })
    expect(status).toBe(200)
    expect(heard.text).not.toBe('')
    expect(heard.finish).toBe('stop')
  })

  it.each(MODES)('is answered by a fixed reply, %s', async (_, stream) => {
    const { status, heard } = await askFor(surface, 'last', { stream })
    expect(status).toBe(200)
    expect(heard).toMatchObject({ text: 'Nobody is here.', finish: 'stop' })
  })

  it.each(MODES)('reaches a provider that speaks it as it is, %s', async (_, stream) => {
    provider.script(answer({ text: 'As it is.' }))
    const { body, heard } = await askFor(surface, 'also', { stream })
    expect(heard).toMatchObject({ text: 'As it is.', finish: 'stop' })
    const [request] = provider.requests
    expect(request?.path).toBe(`/v1${surface.path}`)
    expect(request?.json()).toEqual({ ...surface.body({ model: 'also', stream }), model: 'm-also' })
    expect(body).toContain('As')
  })
})
