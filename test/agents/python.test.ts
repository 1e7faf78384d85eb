// The official Python SDKs, unmodified, each over tiers of every format: chat, Responses, Messages, tools, structured
// output, embeddings, and the classes of their errors.

import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startGateway } from '../support/gateway.ts'
import { exited, spawnTracked } from '../support/run-folder.ts'
import {
  answer,
  type Behaviour,
  createScriptedProvider,
  cutAfter,
  type ScriptedProvider,
  toolLoop,
} from '../support/scripted-provider.ts'

const PACKAGES = ['openai==3.3.1', 'anthropic==2.14.0']
const FOLDER = resolve(import.meta.dirname, '../../node_modules/.cache/python', PACKAGES.join('+'))
const SCRIPT = join(import.meta.dirname, 'sdks.py')
const TEXT = 'It is cold.'

/** What a model does is told by its name. */
const script: Behaviour = {
  run(call) {
    switch (call.chat.model) {
      case 'tool-model':
        return toolLoop({ name: 'get_temperature', args: { city: 'Oslo' } }).run(call)
      case 'json-model':
        return answer({ text: '{"city":"Oslo","degrees":-4}' }).run(call)
      case 'cut-model':
        return cutAfter({ frames: 4, text: 'It is cold, and it will be so.' }).run(call)
      default:
        return answer({ text: TEXT }).run(call)
    }
  },
}

let provider: ScriptedProvider
beforeAll(async () => {
  if (!existsSync(join(FOLDER, 'anthropic'))) {
    process.stderr.write(`installing ${PACKAGES.join(', ')} with pip\n`)
    const { code, said } = await run('python3', [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--target',
      FOLDER,
      ...PACKAGES,
    ])
    if (code !== 0)
      throw new Error(`pip could not install the SDKs (Debian: apt install python3-pip): ${said}`)
  }
  provider = await createScriptedProvider({ script })
}, 300_000)
afterAll(() => provider?.close())

async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; said: string; told: string }> {
  const child = spawnTracked(program, args, {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [told, said] = ['', '']
  child.stdout?.on('data', (bytes: Buffer) => {
    told += bytes.toString()
  })
  child.stderr?.on('data', (bytes: Buffer) => {
    said = (said + bytes.toString()).slice(-10_000)
  })
  return { code: await exited(child), said, told }
}

const FORMATS: Readonly<Record<string, string>> = { openai: '/v1', anthropic: '/v1', gemini: '/v1beta' }

/** What the SDK got, by what was tried. */
async function tell(sdk: string, format: string): Promise<Record<string, unknown>> {
  const deployments = [{ use: 'p/*' }]
  const gateway = await startGateway({
    env: { PROVIDER_KEY: 'provider-key-that-no-agent-ever-sees' },
    config: {
      providers: {
        p: { format, baseUrl: `${provider.url}${FORMATS[format]}`, apiKey: 'env:PROVIDER_KEY' },
      },
      tiers: { t: { deployments, retries: 0 } },
      routes: Object.fromEntries(['m', 'tool-model', 'json-model', 'cut-model'].map((name) => [name, ['t']])),
    },
  })
  try {
    const { code, said, told } = await run('python3', [SCRIPT, sdk], {
      PYTHONPATH: FOLDER,
      MODEL: 'm',
      OPENAI_BASE_URL: gateway.baseUrl,
      OPENAI_API_KEY: gateway.bearer,
      ANTHROPIC_BASE_URL: gateway.url,
      ANTHROPIC_API_KEY: gateway.bearer,
    })
    expect(code, said).toBe(0)
    const lines = told.trim().split('\n')
    return Object.fromEntries(
      lines.map((line) => {
        const { name, value }: { name: string; value: unknown } = JSON.parse(line)
        return [name, value]
      }),
    )
  } finally {
    await gateway.stop()
  }
}

describe.each(Object.keys(FORMATS))('over a tier that speaks %s', (format) => {
  it('the openai package gets what it expects', async () => {
    const told = await tell('openai', format)
    expect(told).toMatchObject({
      chat: [TEXT, true],
      'chat stream': [TEXT, true],
      'chat tool': ['get_temperature', expect.stringMatching(/^\{ ?"city": ?"Oslo" ?\}$/)],
      'chat tool result': expect.stringContaining('minus four'),
      'chat parsed': { city: 'Oslo', degrees: -4 },
      models: true,
      'no such model': ['NotFoundError', 404, 'model_not_found'],
      'bad key': ['AuthenticationError', 401, 'invalid_api_key'],
      'broken stream': ['APIError', null, 'upstream_incomplete'],
      responses: [TEXT, 'completed', true],
      'responses stream': [TEXT, TEXT],
      completions: TEXT,
    })
  })

  it('the anthropic package gets what it expects', async () => {
    const told = await tell('anthropic', format)
    expect(told).toMatchObject({
      messages: [TEXT, 'end_turn', true],
      'messages stream': [TEXT, 'end_turn'],
      'messages tool': ['tool_use', 'get_temperature', { city: 'Oslo' }],
      'messages tool result': expect.stringContaining('minus four'),
      'count tokens': true,
      'messages no such model': ['NotFoundError', 404, null],
      // The status is that of the head, which had left.
      'messages broken stream': [expect.stringMatching(/Error$/), 200, null],
    })
  })
})
